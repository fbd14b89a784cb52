//! A transform: a row for each part of a value.

use bytes::Bytes;
use kas3_sink::{
    Result,
    refused::Refused,
    registry::Entry,
    row::{Row, Rows, Value},
    transform::{Configured, Step, Transform},
};
use kas3_store::StorageSettings;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::sync::Arc;

pub(super) const ENTRY: Entry<Arc<dyn Configured>> = Entry {
    name: "parts",
    doc: "A row for each part of a value; none for a value without parts.",
    schema: Parts::json_schema,
    read: |json| Ok(Arc::new(serde_json::from_value::<Parts>(json)?)),
};

/// The settings are the factory.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Parts {
    /// What stands between the parts.
    at: char,
}

impl Configured for Parts {
    fn build(&self, _: &str, _: (&str, &StorageSettings)) -> Result<Step> {
        Ok(Step::Transform(Arc::new(self.clone())))
    }
    fn json(&self) -> serde_json::Value {
        serde_json::to_value(self).unwrap_or_default()
    }
    fn storage(&self) -> Option<&StorageSettings> {
        None
    }
}

impl Transform for Parts {
    fn about(&self) -> String {
        format!("a row for each part between `{}`", self.at)
    }
    fn apply<'a>(&self, row: Row<'a>, out: &mut Rows<'a>) -> Result<(), Refused> {
        let value = String::from_utf8_lossy(row.bytes().unwrap_or_default()).into_owned();
        for part in value.split(self.at).filter(|part| !part.is_empty()) {
            out.push(row.made(0, Value::Owned(Some(Bytes::copy_from_slice(part.as_bytes())))));
        }
        Ok(())
    }
}
