//! A record that does not fit: which step refuses it, why, and what the configuration wants done about it.
//!
//! Every step (what is prefetched, transforms, the path, the encoder) only says that it refuses; what becomes of the record is
//! decided by its lane, and nowhere else ([`crate::lane`]). A record that is not written is either *filtered*, because the
//! configuration wants it away, or *refused*.
//!
//! ```
//! use kas3_sink::refused::{Refused, Step};
//! let refused = Refused::new(Step::Encode, "newline", "the value holds a newline");
//! assert_eq!(refused.to_string(), "the value holds a newline (refused by `encode`: `newline`)");
//! ```

use crate::error::Error;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::fmt;

/// What to do with a record that does not fit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum BadRecords {
    /// The partition stops, naming topic, partition, offset and reason.
    #[default]
    Stop,
    /// The record is left out and counted.
    Skip,
}

/// The step that refuses a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Step {
    /// What it needs of others cannot be fetched.
    Prefetch,
    /// A transform does not take it.
    Transform,
    /// It has no place by the path template.
    Path,
    /// The format cannot hold it.
    Encode,
}

impl Step {
    /// The step in metrics and messages.
    pub fn name(self) -> &'static str {
        match self {
            Step::Prefetch => "prefetch",
            Step::Transform => "transform",
            Step::Path => "path",
            Step::Encode => "encode",
        }
    }
}

/// Why a record is refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refused {
    /// The step that refuses it.
    pub step: Step,
    /// A fixed code of the reason, for metrics.
    pub code: &'static str,
    /// The reason in words, without the record's place.
    pub detail: String,
    /// The way out that is special to this reason.
    pub hint: Option<String>,
}

impl Refused {
    /// A refusal without a way out of its own.
    pub fn new(step: Step, code: &'static str, detail: impl Into<String>) -> Self {
        Refused { step, code, detail: detail.into(), hint: None }
    }

    /// The same with the way out.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// A refusal that a step tells as an error of kind `BadRecord`; the error's reason is the code.
    pub fn of(step: Step, error: &Error) -> Self {
        let hint = error.way_out().map(str::to_owned);
        Refused { step, code: error.reason().unwrap_or("other"), detail: error.chain(), hint }
    }
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} (refused by `{}`: `{}`)", self.detail, self.step.name(), self.code)
    }
}
