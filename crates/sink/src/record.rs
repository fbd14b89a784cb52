//! One Kafka record as the pipeline sees it: borrowed from the batch that librdkafka handed out, copied only once, into an
//! encoder's block.

use bytes::Bytes;

/// Headers of one record, in the order in which they were produced. Read lazily: most pipelines never look at them.
pub trait Headers: Sync {
    /// How many headers the record has.
    fn len(&self) -> usize;
    /// The header at `index`: its name and its value (`None` is Kafka's null).
    fn get(&self, index: usize) -> Option<(&[u8], Option<&[u8]>)>;
    /// Whether the record has no headers.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// One Kafka message.
#[derive(Clone, Copy)]
pub struct Record<'a> {
    /// Topic.
    pub topic: &'a str,
    /// Partition number.
    pub partition: i32,
    /// Offset in the partition.
    pub offset: i64,
    /// Milliseconds since the epoch, negative before 1970; `None` when the message has no timestamp (formats older than Kafka 0.10,
    /// and the number -1, by which Kafka means none).
    pub timestamp_ms: Option<i64>,
    /// Key; `None` is Kafka's null.
    pub key: Option<&'a [u8]>,
    /// Value; `None` is a tombstone, which is not the same as an empty value.
    pub value: Option<&'a [u8]>,
    /// Headers; `None` when there are none.
    pub headers: Option<&'a dyn Headers>,
}

impl Record<'_> {
    /// Bytes of key and value, for limits and metrics.
    pub fn payload_bytes(&self) -> usize {
        self.key.map_or(0, <[u8]>::len) + self.value.map_or(0, <[u8]>::len)
    }
}

/// A record that owns its bytes: what the memory source and tests hold.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OwnedRecord {
    /// Topic.
    pub topic: String,
    /// Partition number.
    pub partition: i32,
    /// Offset in the partition.
    pub offset: i64,
    /// Milliseconds since the epoch.
    pub timestamp_ms: Option<i64>,
    /// Key; `None` is Kafka's null.
    pub key: Option<Vec<u8>>,
    /// Value; `None` is a tombstone.
    pub value: Option<Vec<u8>>,
    /// Headers, in order.
    pub headers: OwnedHeaders,
}

/// Headers that own their bytes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OwnedHeaders(pub Vec<(Vec<u8>, Option<Vec<u8>>)>);

impl Headers for OwnedHeaders {
    fn len(&self) -> usize {
        self.0.len()
    }
    fn get(&self, index: usize) -> Option<(&[u8], Option<&[u8]>)> {
        self.0.get(index).map(|(name, value)| (name.as_slice(), value.as_deref()))
    }
}

impl OwnedRecord {
    /// The record, borrowed.
    pub fn borrow(&self) -> Record<'_> {
        Record {
            topic: &self.topic,
            partition: self.partition,
            offset: self.offset,
            timestamp_ms: self.timestamp_ms,
            key: self.key.as_deref(),
            value: self.value.as_deref(),
            headers: (!self.headers.0.is_empty()).then_some(&self.headers as &dyn Headers),
        }
    }
}

impl From<&Record<'_>> for OwnedRecord {
    fn from(record: &Record<'_>) -> Self {
        let headers = record.headers.map_or_else(Vec::new, |headers| {
            (0..headers.len()).filter_map(|index| headers.get(index)).map(|(name, value)| (name.to_vec(), value.map(<[u8]>::to_vec))).collect()
        });
        OwnedRecord {
            topic: record.topic.to_owned(),
            partition: record.partition,
            offset: record.offset,
            timestamp_ms: record.timestamp_ms,
            key: record.key.map(<[u8]>::to_vec),
            value: record.value.map(<[u8]>::to_vec),
            headers: OwnedHeaders(headers),
        }
    }
}

/// What is fetched for a record and takes the place of what it holds: the rest stays as it is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Change {
    /// The new value; `None` is a tombstone.
    pub value: Option<Bytes>,
    /// The new key; `None`: the key stays as it is.
    pub key: Option<Bytes>,
    /// All headers.
    pub headers: OwnedHeaders,
}

impl Change {
    /// The record as it is now.
    pub fn on<'a>(&'a self, record: &Record<'a>) -> Record<'a> {
        let headers = (!self.headers.0.is_empty()).then_some(&self.headers as &dyn Headers);
        Record { value: self.value.as_deref(), key: self.key.as_deref().or(record.key), headers, ..*record }
    }
}
