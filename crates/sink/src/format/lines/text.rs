//! `text`: values as they are, one a line, whatever they are.
//!
//! The same as `json_lines` without any notion of JSON: absent values are empty lines, and a value with a newline (`\n`, `\r` or
//! both) is a bad record unless `format.newlines` says how to write it.
//!
//! ```text
//! 10.0.0.1 GET /index.html
//! 10.0.0.2 GET /favicon.ico
//! ```

use super::{
    LinesSettings,
    blocks::BlockPlan,
    rows::RowFormat,
    values::{Dialect, Values},
};
use crate::{
    error::{Error, Kind, Result},
    format::{Configured, Format},
    registry::Entry,
};
use schemars::JsonSchema;
use serde_json::Value as Json;
use std::sync::Arc;

/// The row of the registry.
pub(in crate::format) const ENTRY: Entry<Arc<dyn Configured>> = Entry {
    name: "text",
    doc: "Lines of text: values as they are, one a line, without any look at them.",
    schema: LinesSettings::json_schema,
    read: |json| Ok(Arc::new(Text(serde_json::from_value(json)?))),
};

/// The settings of `text`.
#[derive(Debug)]
struct Text(LinesSettings);

impl Configured for Text {
    fn build(&self, key: &str) -> Result<Arc<dyn Format>> {
        if self.0.envelope {
            return Err(Error::new(Kind::Config, format!("`{key}.envelope` and `{key}.type: text` contradict each other"))
                .hint(format!("an envelope is a JSON object per record: set `{key}.type: json_lines`")));
        }
        if self.0.check_json {
            return Err(Error::new(Kind::Config, format!("`{key}.check_json` and `{key}.type: text` contradict each other"))
                .hint(format!("lines of text are no JSON: set `{key}.type: json_lines`")));
        }
        let plan = BlockPlan::check(key, &self.0, "txt", "text/plain")?;
        Ok(Arc::new(RowFormat::new(plan, Values::new(Dialect::Text, &self.0))))
    }

    fn json(&self) -> Json {
        serde_json::to_value(&self.0).unwrap_or_default()
    }
}
