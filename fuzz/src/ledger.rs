//! The stored forms of the ledger: anyone who may write to the bucket may have written them.

use super::memory::bounded;
use kas3_sink::{
    ledger::{Entry, File, Head, PipelineRecord, SegmentKind, StartRecord, Unusable, decode_segment, encode_segment},
    span::TopicPartition,
};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::Value;
use std::fmt::Debug;

/// What parsed JSON may take: a value of a list of zeros takes some thirty times its text.
fn bytes_max(data: &[u8]) -> usize {
    (1 << 20) + 128 * data.len()
}

/// Whether the JSON texts hold a number other than an integer of 64 bits: stored forms have none, and readers of JSON do not keep
/// such to the last digit.
fn has_fractions(data: &[u8]) -> bool {
    fn found(value: &Value) -> bool {
        match value {
            Value::Number(number) => number.is_f64(),
            Value::Array(items) => items.iter().any(found),
            Value::Object(members) => members.values().any(found),
            Value::Null | Value::Bool(_) | Value::String(_) => false,
        }
    }
    serde_json::Deserializer::from_slice(data).into_iter().any(|value| value.is_ok_and(|value| found(&value)))
}

/// A head that is accepted is written and read again without a change, and its spans lead up to `next`.
pub fn head(data: &[u8]) {
    bounded(bytes_max(data), || {
        // of what is cut off anywhere, as much is believed as a whole head says
        let begun = Head::decode_beginning(data);
        assert!(!matches!(begun, Some(Err(Unusable::Broken(_)))), "{begun:?} may be whole");
        let Ok(head) = Head::decode(data) else { return };
        assert!(has_fractions(data) || Head::decode(&head.encode()).as_ref() == Ok(&head), "{head:?} reads back as another one");
        let mut entries = head.closed.iter().chain(&head.pending).peekable();
        while let Some(entry) = entries.next() {
            let span = entry.span();
            assert!(0 <= span.first && span.first <= span.next, "{span:?}");
            match entries.peek() {
                Some(after) if after.incarnation == entry.incarnation => assert_eq!(after.span().first, span.next),
                None if entry.incarnation == head.incarnation => assert_eq!(entry.end().next, head.next),
                _ => {}
            }
        }
    });
}

/// Segments of older spans, and of files.
pub fn segment(data: &[u8]) {
    bounded(bytes_max(data), || {
        segment_of::<Entry>(data, SegmentKind::History);
        segment_of::<File>(data, SegmentKind::Files);
    });
}

fn segment_of<T: Serialize + DeserializeOwned + PartialEq + Debug>(data: &[u8], kind: SegmentKind) {
    let of = TopicPartition::new("orders", 7);
    if let Ok((header, lines)) = decode_segment::<T>(data, kind, &of) {
        let again = decode_segment(&encode_segment(&header, &lines), kind, &of);
        assert!(has_fractions(data) || again == Ok((header, lines)), "a segment reads back as another one");
    }
}

/// Start records, and `pipeline.json`.
pub fn start_record(data: &[u8]) {
    bounded(bytes_max(data), || {
        if let Ok(start) = StartRecord::decode(data, "orders", 1) {
            assert!(has_fractions(data) || StartRecord::decode(&written(&start), "orders", 1).as_ref() == Ok(&start), "{start:?}");
            assert!(start.partitions.iter().all(|of| start.start(of.partition) >= 0));
        }
        if let Ok(pipeline) = PipelineRecord::decode(data, "lake") {
            assert!(has_fractions(data) || PipelineRecord::decode(&written(&pipeline), "lake") == Ok(pipeline), "it reads back as another one");
        }
    });
}

fn written(record: &impl Serialize) -> Vec<u8> {
    serde_json::to_vec_pretty(record).expect("a record has only string keys")
}
