//! `json_lines`: values as they are, one a line; or an envelope per record.
//!
//! A line is always a row, for readers that end lines at `\n`, `\r` or both. A value without a newline is written untouched, and
//! unseen unless `format.check_json` asks for a look: nobody pays for parsing it, and what was not JSON in Kafka is not JSON in the
//! file. A value with a newline is rewritten as `format.newlines` says.
//!
//! ```text
//! {"id":1,"name":"first"}
//! {"id":2,"name":"second"}
//! ```

use super::{
    LinesSettings, Newlines,
    blocks::BlockPlan,
    envelope::Envelopes,
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
    name: "json_lines",
    doc: "JSON Lines: values as they are, one a line; or with `envelope` an object per record that holds all of it.",
    schema: LinesSettings::json_schema,
    read: |json| Ok(Arc::new(JsonLines(serde_json::from_value(json)?))),
};

/// The settings of `json_lines`.
#[derive(Debug)]
struct JsonLines(LinesSettings);

impl Configured for JsonLines {
    fn build(&self, key: &str) -> Result<Arc<dyn Format>> {
        let settings = &self.0;
        let plan = BlockPlan::check(key, settings, "jsonl", "application/x-ndjson")?;
        if !settings.envelope {
            return Ok(Arc::new(RowFormat::new(plan, Values::new(Dialect::Json, settings))));
        }
        if settings.newlines != Newlines::default() {
            return Err(Error::new(Kind::Config, format!("`{key}.envelope` and `{key}.newlines` contradict each other"))
                .hint("an envelope writes newlines as `\\n` inside JSON strings, so there is nothing to decide: leave one of them out"));
        }
        if settings.check_json {
            return Err(Error::new(Kind::Config, format!("`{key}.envelope` and `{key}.check_json` contradict each other"))
                .hint("an envelope is JSON whatever its value is, so there is nothing to look at: leave one of them out"));
        }
        Ok(Arc::new(RowFormat::new(plan, Envelopes::new(settings))))
    }

    fn json(&self) -> Json {
        serde_json::to_value(&self.0).unwrap_or_default()
    }
}
