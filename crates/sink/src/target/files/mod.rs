//! `files`: files below a URL, exactly once by the ledger's heads ([`crate::ledger`]).

mod plan;
mod run;
mod settings;
mod settle;

pub use run::open;
pub use settings::FilesSettings;
pub use settle::Settle;

use super::Configured;
use crate::registry::Entry;
use schemars::JsonSchema;
use std::sync::Arc;

/// The name in `sink.type`.
pub const NAME: &str = "files";

/// The row of the registry.
pub(super) const ENTRY: Entry<Arc<dyn Configured>> = Entry {
    name: NAME,
    doc: "Where records go: files below a URL, each record in exactly one of them.",
    schema: FilesSettings::json_schema,
    read: |json| Ok(Arc::new(serde_json::from_value::<FilesSettings>(json)?)),
};
