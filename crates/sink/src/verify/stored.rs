//! A file in its store, read by ranges, with a checksum of all its stored bytes on the way.

use crate::{
    error::{Error, Kind, Result},
    format::read::RangeRead,
    span::Checksum,
};
use async_trait::async_trait;
use bytes::Bytes;
use kas3_store::{StorageSettings, Store, StoreUrl, Unobserved};
use std::{
    collections::{BTreeMap, HashMap},
    ops::Range,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};
use xxhash_rust::xxh3::Xxh3Default;

/// The stores that files lie in: the sink's, and those of earlier settings of `sink.url`.
pub(super) struct Stores {
    sink: Store,
    settings: StorageSettings,
    others: tokio::sync::Mutex<HashMap<String, Option<Store>>>,
}

impl Stores {
    pub(super) fn new(sink: Store, settings: StorageSettings) -> Self {
        Stores { sink, settings, others: tokio::sync::Mutex::default() }
    }

    pub(super) fn sink(&self) -> &Store {
        &self.sink
    }

    /// The store and path of a file by its absolute URL; `None` when its bucket or folder is not there.
    pub(super) async fn find(&self, url: &str) -> Result<Option<(Store, String)>> {
        if let Some(path) = self.sink.path_of(url) {
            return Ok(Some((self.sink.clone(), path)));
        }
        let root = StoreUrl::parse(url).map_or_else(|_| url.to_owned(), StoreUrl::container);
        let mut others = self.others.lock().await;
        let store = match others.get(&root) {
            Some(store) => store.clone(),
            None => {
                let opened = match Store::open(&root, &self.settings, Arc::new(Unobserved)).await {
                    Ok(store) => Some(store),
                    Err(error) if error.kind() == kas3_store::Kind::Missing => None,
                    Err(error) => return Err(error.into()),
                };
                others.insert(root, opened.clone());
                opened
            }
        };
        Ok(store.and_then(|store| store.path_of(url).map(|path| (store, path))))
    }
}

/// One file.
pub(super) struct StoredFile {
    store: Store,
    path: String,
    bytes: u64,
    seen: Mutex<Seen>,
}

/// What was hashed so far, and what was read ahead of that (a block index lies at the end).
struct Seen {
    hash: Xxh3Default,
    until: u64,
    ahead: BTreeMap<u64, Bytes>,
    ahead_bytes: usize,
}

/// Bytes read ahead that are kept for the checksum; what is beyond is read again at the end.
const AHEAD_BYTES_MAX: usize = 8 << 20;
/// Bytes of one request when the rest of a file is read for its checksum alone.
const REST_BYTES: u64 = 4 << 20;

impl StoredFile {
    pub(super) fn new(store: Store, path: String, bytes: u64) -> Self {
        let seen = Seen { hash: Xxh3Default::new(), until: 0, ahead: BTreeMap::new(), ahead_bytes: 0 };
        StoredFile { store, path, bytes, seen: Mutex::new(seen) }
    }

    pub(super) fn path(&self) -> &str {
        &self.path
    }

    fn seen(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The checksum of all stored bytes; reads what was not read yet.
    pub(super) async fn checksum(&self) -> Result<Checksum> {
        loop {
            let until = self.seen().until;
            if until >= self.bytes {
                return Ok(Checksum::from_xxh3(self.seen().hash.digest128()));
            }
            self.range(until..self.bytes.min(until + REST_BYTES)).await?;
        }
    }
}

#[async_trait]
impl RangeRead for StoredFile {
    async fn range(&self, range: Range<u64>) -> Result<Bytes> {
        let bytes = self.store.range(&self.path, range.clone()).await?;
        if bytes.len() as u64 != range.end - range.start {
            let text = format!("`{}` gave {} bytes for its bytes {} to {}", self.store.url_of(&self.path), bytes.len(), range.start, range.end);
            return Err(Error::new(Kind::Missing, text));
        }
        self.seen().take(range.start, &bytes);
        Ok(bytes)
    }

    async fn size(&self) -> Result<u64> {
        Ok(self.bytes)
    }
}

impl Seen {
    fn take(&mut self, start: u64, bytes: &Bytes) {
        if start > self.until {
            if self.ahead_bytes + bytes.len() <= AHEAD_BYTES_MAX && !self.ahead.contains_key(&start) {
                // A copy, because the bytes may be a small part of something large.
                self.ahead.insert(start, Bytes::copy_from_slice(bytes));
                self.ahead_bytes += bytes.len();
            }
            return;
        }
        self.hash_on(start, bytes);
        while let Some(entry) = self.ahead.first_entry().filter(|entry| *entry.key() <= self.until) {
            let (start, bytes) = entry.remove_entry();
            self.ahead_bytes -= bytes.len();
            self.hash_on(start, &bytes);
        }
    }

    fn hash_on(&mut self, start: u64, bytes: &[u8]) {
        let known = usize::try_from(self.until - start).unwrap_or(usize::MAX);
        if let Some(new) = bytes.get(known..) {
            self.hash.update(new);
            self.until += new.len() as u64;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use xxhash_rust::xxh3::xxh3_128;

    #[test]
    fn ranges_in_any_order_and_overlapping_give_the_checksum_of_the_whole() {
        let whole: Bytes = (0..10_000u32).flat_map(u32::to_le_bytes).collect();
        let mut seen = Seen { hash: Xxh3Default::new(), until: 0, ahead: BTreeMap::new(), ahead_bytes: 0 };
        for range in [39_000..40_000, 20_000..30_000, 0..10_000, 5_000..12_000, 12_000..20_500, 12_000..15_000, 30_000..39_500] {
            seen.take(range.start as u64, &whole.slice(range));
        }
        assert_eq!((seen.until, seen.ahead.len(), seen.ahead_bytes), (40_000, 0, 0));
        assert_eq!(seen.hash.digest128(), xxh3_128(&whole));
    }
}
