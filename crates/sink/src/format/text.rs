//! `text`: values as they are, one a line, whatever they are.
//!
//! The same as `json_lines` without any notion of JSON: absent values are empty lines, and a value with a newline is a bad
//! record unless `format.newlines` says how to write it. A lone `\r` stays.
//!
//! ```text
//! 10.0.0.1 GET /index.html
//! 10.0.0.2 GET /favicon.ico
//! ```

use super::{
    Format, FormatRow,
    blocks::BlockPlan,
    lines::{Dialect, Values},
    rows::RowFormat,
};
use crate::{
    config::{BadRecords, FormatSettings},
    error::{Error, Kind, Result},
};
use std::sync::Arc;

/// The row of the registry.
pub(super) const ROW: FormatRow = FormatRow { name: "text", doc: "Lines of text: values as they are, one a line, without any look at them.", build };

fn build(settings: &FormatSettings, bad: BadRecords) -> Result<Arc<dyn Format>> {
    if settings.envelope {
        return Err(Error::new(Kind::Config, "`format.envelope` and `format.type: text` contradict each other")
            .hint("an envelope is a JSON object per record: set `format.type: json_lines`"));
    }
    let plan = BlockPlan::check(settings, "txt", "text/plain")?;
    Ok(Arc::new(RowFormat::new(plan, bad, Values::new(Dialect::Text, settings))))
}
