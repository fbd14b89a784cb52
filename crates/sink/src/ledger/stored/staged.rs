//! Where the bytes of a file are until it is published.

use kas3_store::{PartId, UploadId};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// Where the bytes of a file are until it is published: one key, which is an open word, and what belongs to it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Staged {
    /// In an upload: whoever completes it publishes the file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub upload: Option<StagedUpload>,
    /// In a bundle: whoever copies the range publishes the file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bundle: Option<StagedBundle>,
    /// In the head itself: whoever reads it to its end publishes the file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub head: Option<StagedInHead>,
    /// What newer versions keep here.
    #[serde(flatten)]
    pub extra: Map<String, Value>,
}

/// An upload that holds a file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StagedUpload {
    /// Its name in the store.
    pub id: UploadId,
    /// Its parts in order.
    pub parts: Vec<PartId>,
    /// What newer versions keep here.
    #[serde(flatten)]
    pub extra: Map<String, Value>,
}

/// A range of a bundle that holds a file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StagedBundle {
    /// Path of the bundle below the sink's URL.
    pub path: String,
    /// The first byte.
    pub from: u64,
    /// The first byte after it.
    pub to: u64,
    /// What newer versions keep here.
    #[serde(flatten)]
    pub extra: Map<String, Value>,
}

/// An item of the head's `bytes` that holds a file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StagedInHead {
    /// Which item, from 0.
    pub item: u32,
    /// What newer versions keep here.
    #[serde(flatten)]
    pub extra: Map<String, Value>,
}

/// What a [`Staged`] means.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place<'a> {
    /// In an upload.
    Upload(&'a StagedUpload),
    /// In a bundle.
    Bundle(&'a StagedBundle),
    /// In the head itself.
    Head(&'a StagedInHead),
    /// Where only a newer version finds it, by its words.
    Unknown(String),
}

impl Staged {
    /// In an upload.
    pub fn upload(id: UploadId, parts: Vec<PartId>) -> Self {
        Staged { upload: Some(StagedUpload { id, parts, extra: Map::new() }), ..Staged::default() }
    }

    /// In a bundle, from one byte to another.
    pub fn bundle(path: String, from: u64, to: u64) -> Self {
        Staged { bundle: Some(StagedBundle { path, from, to, extra: Map::new() }), ..Staged::default() }
    }

    /// In the head itself, as this item of its `bytes`.
    pub fn head(item: u32) -> Self {
        Staged { head: Some(StagedInHead { item, extra: Map::new() }), ..Staged::default() }
    }

    /// What it means.
    pub fn place(&self) -> Place<'_> {
        let Staged { upload, bundle, head, extra } = self;
        let known = [upload.as_ref().map(Place::Upload), bundle.as_ref().map(Place::Bundle), head.as_ref().map(Place::Head)];
        let mut known = known.into_iter().flatten();
        match (known.next(), known.next()) {
            (Some(place), None) => place,
            (None, _) => Place::Unknown(extra.keys().map(String::as_str).collect::<Vec<_>>().join(", ")),
            (Some(_), Some(_)) => {
                let words = [upload.as_ref().map(|_| "upload"), bundle.as_ref().map(|_| "bundle"), head.as_ref().map(|_| "head")];
                Place::Unknown(words.into_iter().flatten().collect::<Vec<_>>().join(", "))
            }
        }
    }
}
