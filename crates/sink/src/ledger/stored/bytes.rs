//! The last field of a head, `bytes`: files of its pending span, in base64, one item a file.
//!
//! Most readers do not need it. It stands behind everything else, so that the beginning of a head tells all that there is to know;
//! whoever has to publish a file reads on. The items are texts of their own, so that each is a file to whoever decodes it:
//! `jq -r '.bytes[0]' head.json | base64 -d`.

use super::{Head, Unusable, head::BYTES_FIELD};
use base64::{Engine, engine::general_purpose::STANDARD};
use bytes::Bytes;
use kas3_store::Pieces;
use serde::{Deserialize, de::IgnoredAny};
use std::borrow::Cow;

/// Bytes of files that a head takes along at most, before they are made text. A head that holds them is sent once and read only by
/// those who publish for somebody else.
pub const BYTES_IN_HEAD_MAX: u64 = 4 << 20;

/// One item on its way into a head.
#[derive(Clone, Debug)]
pub(in crate::ledger) enum Item {
    /// A file's bytes.
    File(Bytes),
    /// The text of an item that a head holds already.
    Text(Bytes),
}

/// The items that a head holds; it must have been read to its end.
#[derive(Deserialize)]
pub(in crate::ledger) struct Items<'a> {
    #[serde(default, borrow)]
    bytes: Vec<Text<'a>>,
}

/// Text that stays where it is.
#[derive(Deserialize)]
struct Text<'a>(#[serde(borrow)] Cow<'a, str>);

impl<'a> Items<'a> {
    /// Those of a head, as it is stored.
    ///
    /// # Errors
    /// When it cannot be read.
    pub(in crate::ledger) fn of(head: &'a [u8]) -> Result<Self, Unusable> {
        Ok(serde_json::from_slice(head)?)
    }

    /// There is none.
    pub(in crate::ledger) fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// The bytes of one; `None` when there is no such item, or it is damaged. Whether they are the file's, its checksum tells.
    pub(in crate::ledger) fn file(&self, item: u32) -> Option<Bytes> {
        let text = self.bytes.get(usize::try_from(item).ok()?)?;
        STANDARD.decode(text.0.as_bytes()).ok().map(Bytes::from)
    }

    /// All of them, to go into another head as they are.
    pub(in crate::ledger) fn carried(&self) -> Vec<Item> {
        self.bytes.iter().map(|text| Item::Text(Bytes::copy_from_slice(text.0.as_bytes()))).collect()
    }
}

impl Head {
    /// The head as it is stored, with the bytes of files behind everything else. No copy of the bytes is made.
    pub(in crate::ledger) fn encode_with(&self, items: Vec<Item>) -> Pieces {
        let mut json = self.encode();
        if items.is_empty() {
            return Pieces::from(Bytes::from(json));
        }
        // behind the last field comes the end of the head
        while json.pop().is_some_and(|byte| byte != b'}') {}
        json.truncate(json.trim_ascii_end().len());
        json.extend_from_slice(format!(",\n  \"{BYTES_FIELD}\": [").as_bytes());
        let mut pieces = Pieces::from(Bytes::from(json));
        for (number, item) in items.into_iter().enumerate() {
            pieces.push(if number == 0 { "\n    \"" } else { "\",\n    \"" });
            match item {
                Item::File(bytes) => pieces.push_base64(bytes),
                Item::Text(text) => pieces.push(text),
            }
        }
        pieces.push("\"\n  ]\n}");
        pieces
    }

    /// Reads a head of which only the beginning is there. `None`: it does not tell enough, read it to its end.
    ///
    /// # Errors
    /// `Newer` alone: what seems broken may be whole.
    pub fn decode_beginning(beginning: &[u8]) -> Option<Result<Head, Unusable>> {
        let json = beginning[..field(beginning)?].trim_ascii_end().strip_suffix(b",")?;
        let json = [json, b"}"].concat();
        match Head::decode(&json) {
            Err(Unusable::Broken(_)) => None,
            // somebody may have written its fields in another order
            Ok(_) if serde_json::from_slice::<Always>(&json).is_err() => None,
            decoded => Some(decoded),
        }
    }
}

/// Fields that every writer writes, and that a reader may miss.
#[derive(Deserialize)]
#[allow(dead_code, reason = "what they hold is read elsewhere")]
struct Always {
    pending: IgnoredAny,
    closed: IgnoredAny,
    segment: IgnoredAny,
}

/// Where the field begins in the text of an object, which may be cut off anywhere.
fn field(text: &[u8]) -> Option<usize> {
    let (mut depth, mut at) = (0_usize, 0);
    while at < text.len() {
        match text[at] {
            b'{' | b'[' => depth += 1,
            b'}' | b']' => depth = depth.checked_sub(1)?,
            b'"' => {
                let end = end_of_string(text, at)?;
                let is_key = text[end..].trim_ascii_start().first() == Some(&b':');
                if depth == 1 && is_key && &text[at + 1..end - 1] == BYTES_FIELD.as_bytes() {
                    return Some(at);
                }
                at = end - 1;
            }
            _ => {}
        }
        at += 1;
    }
    None
}

/// Behind the closing quote of the string that begins at `at`.
fn end_of_string(text: &[u8], at: usize) -> Option<usize> {
    let mut end = at + 1;
    loop {
        match text.get(end)? {
            b'"' => return Some(end + 1),
            b'\\' => end += 2,
            _ => end += 1,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    /// With strings, keys and a field of a later version that look like the one that is looked for.
    fn head() -> Head {
        let head = json!({
            "version": 1, "session": "s\"bytes\":[", "counter": 1, "written_at": "2026-03-01T12:00:05Z", "pipeline": "bytes", "topic": "t",
            "partition": 0, "cluster_id": "\\", "topic_id": null, "incarnation": 0, "start": 0, "next": 0, "leader_epoch": -1, "settings": "",
            "of tomorrow": { "bytes": ["}", { "bytes": 1 }] },
        });
        Head::decode(head.to_string().as_bytes()).unwrap()
    }

    fn files() -> Vec<Bytes> {
        vec![Bytes::from_static(b"{\"id\": 1}\n"), Bytes::new(), (0..=255).cycle().take(100_000).collect()]
    }

    #[test]
    fn a_head_takes_files_along_and_reads_as_it_would_without() {
        let stored = head().encode_with(files().into_iter().map(Item::File).collect()).joined();
        assert_eq!(Head::decode(&stored).unwrap(), head(), "the bytes are no field of a later version");
        let json: Value = serde_json::from_slice(&stored).unwrap();
        assert_eq!(json["bytes"][0], "eyJpZCI6IDF9Cg==", "people decode an item by itself");
        let items = Items::of(&stored).unwrap();
        for (number, file) in (0..).zip(files()) {
            assert_eq!(items.file(number), Some(file));
        }
        assert_eq!(items.file(3), None);
        assert_eq!(head().encode_with(items.carried()).joined(), stored, "another head takes them over as they are");
        assert_eq!(head().encode_with(Vec::new()).joined(), head().encode());
        assert_eq!(Items::of(&head().encode()).unwrap().file(0), None);
    }

    #[test]
    fn the_beginning_of_a_head_tells_everything_once_it_reaches_the_bytes() {
        let stored = head().encode_with(files().into_iter().map(Item::File).collect()).joined();
        // behind the name and its colon: the string before them could be anything
        let reaches = stored.len() - stored.windows(11).rev().position(|window| window == b"\"bytes\": [\n").unwrap() - 3;
        for cut in (0..reaches.next_multiple_of(1000) + 2000).chain([stored.len() - 1, stored.len()]) {
            let known = Head::decode_beginning(&stored[..cut]);
            assert_eq!(known, (cut >= reaches).then(|| Ok(head())), "{cut} of {reaches}");
        }
        assert_eq!(Head::decode_beginning(&head().encode()), None, "one without bytes ends with its end");
    }

    #[test]
    fn a_head_that_says_too_little_before_its_bytes_is_read_whole() {
        let sorted = br#"{"bytes": ["AA=="], "version": 1}"#;
        assert_eq!(Head::decode_beginning(sorted), None);
        assert_eq!(Head::decode_beginning(br#"{"version": 1, "bytes": ["AA=="]"#), None);
        let pending_behind = String::from_utf8(head().encode()).unwrap().replace("\"closed\": [],", "\"bytes\": [], \"closed\": [],");
        assert!(pending_behind.contains("bytes\": [], ") && Head::decode(pending_behind.as_bytes()).is_ok());
        assert_eq!(Head::decode_beginning(pending_behind.as_bytes()), None);
        assert!(matches!(Head::decode_beginning(br#"{"version": 2, "bytes": ["AA"#), Some(Err(Unusable::Newer(_)))));
        assert_eq!(Head::decode_beginning(b"}\"bytes\": 1"), None);
        assert!(Items::of(br#"{"bytes": "AA"#).is_err() && Items::of(br#"{"bytes": ["A!=="]}"#).unwrap().file(0).is_none());
    }
}
