//! `pipeline.json`: what was there at the pipeline's first start.

use super::{Unusable, check_version, instant};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// What was there at the pipeline's first start.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PipelineRecord {
    /// Version of the form.
    pub version: u32,
    /// Name of the pipeline.
    pub pipeline: String,
    /// When it was written; for people.
    #[serde(with = "instant")]
    pub written_at: Timestamp,
    /// Topics that the configuration named or matched then.
    pub topics: Vec<String>,
    /// What newer versions keep here.
    #[serde(flatten)]
    pub extra: Map<String, Value>,
}

impl PipelineRecord {
    /// Reads `pipeline.json` of `pipeline` and checks it.
    ///
    /// # Errors
    /// What is wrong with it; the caller names the object.
    pub fn decode(bytes: &[u8], pipeline: &str) -> Result<PipelineRecord, Unusable> {
        check_version(bytes)?;
        let record: PipelineRecord = serde_json::from_slice(bytes)?;
        if record.pipeline != pipeline {
            return Err(Unusable::Broken(format!("it belongs to pipeline `{}`", record.pipeline)));
        }
        Ok(record)
    }
}
