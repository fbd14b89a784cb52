//! `json_lines`: values as they are, one a line; or an envelope per record.
//!
//! A line is always a record for readers that split at `\n`. A value without a newline is written untouched and unseen:
//! nobody pays for parsing it, and what was not JSON in Kafka is not JSON in the file. A value with a newline is rewritten
//! as `format.newlines` says. A lone `\r` is not a newline here and stays.
//!
//! ```text
//! {"id":1,"name":"first"}
//! {"id":2,"name":"second"}
//! ```

use super::{
    Format, FormatRow,
    blocks::BlockPlan,
    envelope::Envelopes,
    lines::{Dialect, Values},
    rows::RowFormat,
};
use crate::{
    config::{BadRecords, FormatSettings, Newlines},
    error::{Error, Kind, Result},
};
use std::sync::Arc;

/// The row of the registry.
pub(super) const ROW: FormatRow = FormatRow {
    name: "json_lines",
    doc: "JSON Lines: values as they are, one a line; or with `envelope` an object per record that holds all of it.",
    build,
};

fn build(settings: &FormatSettings, bad: BadRecords) -> Result<Arc<dyn Format>> {
    let plan = BlockPlan::check(settings, "jsonl", "application/x-ndjson")?;
    if !settings.envelope {
        return Ok(Arc::new(RowFormat::new(plan, bad, Values::new(Dialect::Json, settings))));
    }
    if settings.newlines != Newlines::default() {
        return Err(Error::new(Kind::Config, "`format.envelope` and `format.newlines` contradict each other")
            .hint("an envelope writes newlines as `\\n` inside JSON strings, so there is nothing to decide: leave one of them out"));
    }
    Ok(Arc::new(RowFormat::new(plan, bad, Envelopes::new(settings))))
}
