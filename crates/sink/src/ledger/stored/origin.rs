//! Who reported to the consumer group: the metadata beside an offset. It is written anew with every report, and read as a tripwire.

use super::{VERSION, version::newer};
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// Who reported: the metadata beside an offset in the consumer group.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Origin {
    /// Version of the form, that of the head which was reported.
    pub kas3: u32,
    /// Name of the pipeline.
    pub pipeline: String,
    /// URL of its ledger.
    pub ledger: String,
    /// Incarnation of the partition.
    pub incarnation: u32,
}

impl Origin {
    /// Reads metadata; `None` when it was not written by kas3.
    ///
    /// # Errors
    /// Why, when a newer kas3 wrote it, whatever else it says.
    pub fn parse(metadata: &str) -> Result<Option<Origin>, String> {
        let Ok(found) = serde_json::from_str::<Value>(metadata) else { return Ok(None) };
        match found.get("kas3").and_then(Value::as_u64) {
            Some(version) if version > u64::from(VERSION) => Err(newer(version)),
            _ => Ok(serde_json::from_value(found).ok()),
        }
    }

    /// The metadata.
    pub fn text(&self) -> String {
        serde_json::to_string(self).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_is_ours_somebody_elses_or_a_newer_kas3s() {
        let ours = Origin { kas3: 1, pipeline: "lake".to_owned(), ledger: "s3://lake".to_owned(), incarnation: 2 };
        assert_eq!(Origin::parse(&ours.text()), Ok(Some(ours.clone())));
        assert_eq!(Origin::parse(&ours.text().replace('{', "{\"of tomorrow\":[1],")), Ok(Some(ours)));
        for other in ["", "x", "{}", "{\"kas3\":1}", "{\"kas3\":\"2\"}", "[2]"] {
            assert_eq!(Origin::parse(other), Ok(None), "{other}");
        }
        assert!(Origin::parse("{\"kas3\":2,\"pipeline\":[\"lake\"]}").is_err_and(|why| why.contains("version 2")));
    }
}
