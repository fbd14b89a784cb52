//! Smallest and largest of something.

use crate::span;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// Smallest and largest of something.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bounds {
    /// Smallest value.
    pub min: i64,
    /// Largest value.
    pub max: i64,
    /// What newer versions keep here.
    #[serde(flatten)]
    pub extra: Map<String, Value>,
}

impl From<span::Bounds> for Bounds {
    fn from(span::Bounds { min, max }: span::Bounds) -> Self {
        Bounds { min, max, extra: Map::new() }
    }
}

impl From<&Bounds> for span::Bounds {
    fn from(stored: &Bounds) -> Self {
        span::Bounds { min: stored.min, max: stored.max }
    }
}
