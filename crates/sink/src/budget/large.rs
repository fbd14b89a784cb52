//! Records that are large for the memory there is.
//!
//! A record cannot be divided: it is there as it arrives and as it waits to be fetched, in its batch, in the encoder's block, and
//! compressed, all of it each time. What these copies take is kept free beside what the budget counts; one for which that cannot
//! be done stops its partition and names the `memory` that it needs.

use super::{BASE_BYTES, Budget};
use crate::{
    error::{Error, Kind},
    row::Row,
    span::TopicPartition,
    units::Bytes,
};
use kas3_store::PART_BYTES;
use std::sync::{
    Condvar, Mutex, MutexGuard, PoisonError,
    atomic::{AtomicU64, Ordering},
};

/// Records below this many bytes are not looked at one by one.
const LARGE_BYTES: usize = 256 << 10;
/// Copies of a record in librdkafka: one that arrives, and one that waits.
const COPIES_FETCHED: u64 = 2;
/// Copies of a row while it is taken in: in its batch, in the block, compressed, and in a part on its way up.
const COPIES_TAKEN_IN: u64 = 4;
/// Copies that were dropped, and whose pages the allocator has not given back yet.
const COPIES_FREED: u64 = 1;
/// What a record of Kafka needs, in copies of itself: others wait while it is being sent.
const COPIES_OF_RECORD: u64 = COPIES_FETCHED + COPIES_TAKEN_IN + COPIES_FREED + 2;
/// The same of what was prefetched: only one at a time is in memory, and its parts are small beside it.
const COPIES_OF_PAYLOAD: u64 = 3;
/// A named `memory` is a multiple of this.
const STEP_BYTES: u64 = 8 << 20;

/// The largest record of Kafka for which so much `memory` has room, in bytes.
pub fn record_bytes_max(memory: u64) -> u64 {
    memory.saturating_sub(BASE_BYTES + PART_BYTES as u64) / COPIES_OF_RECORD
}

/// What is known of large records.
#[derive(Default)]
pub(super) struct Large {
    /// The largest that came from Kafka, in bytes.
    largest: AtomicU64,
    /// Bytes of copies that are being made.
    copying: Mutex<u64>,
    fewer: Condvar,
}

impl Large {
    /// Bytes to keep free for the copies of the largest record that came.
    pub(super) fn kept_free(&self) -> u64 {
        (COPIES_FETCHED + COPIES_TAKEN_IN + COPIES_FREED) * self.largest.load(Ordering::Relaxed)
    }
}

/// Room for the copies of large rows while they are taken in, until this is dropped.
pub(crate) struct Copying<'a> {
    large: &'a Large,
    bytes: u64,
}

impl Drop for Copying<'_> {
    fn drop(&mut self) {
        *copying(self.large) -= self.bytes;
        self.large.fewer.notify_all();
    }
}

fn copying(large: &Large) -> MutexGuard<'_, u64> {
    large.copying.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What of some rows can be taken in.
pub(crate) struct Admitted<'a> {
    /// The first so many of them.
    pub(crate) rows: usize,
    /// Why the next one cannot.
    pub(crate) refused: Option<Error>,
    /// Held while they are taken in.
    pub(crate) _copying: Option<Copying<'a>>,
}

impl Budget {
    /// Looks for large ones among rows that were read from offset `first` on, and waits for the room that their copies take.
    /// `prefetched`: what is in them did not come through Kafka.
    pub(crate) fn admit(&self, of: &TopicPartition, rows: &[Row<'_>], first: i64, prefetched: bool) -> Admitted<'_> {
        let copies = if prefetched { COPIES_OF_PAYLOAD } else { COPIES_OF_RECORD };
        let (mut taken, mut largest, mut refused) = (rows.len(), 0, None);
        for (at, row) in rows.iter().enumerate().filter(|(_, row)| row.record.offset >= first) {
            let bytes = row.record.payload_bytes();
            if bytes <= LARGE_BYTES {
                continue;
            }
            let bytes = bytes as u64;
            let needed = BASE_BYTES + PART_BYTES as u64 + copies.saturating_mul(bytes);
            if needed > self.memory {
                (taken, refused) = (at, Some(too_large(of, row.record.offset, bytes, (self.memory, needed))));
                break;
            }
            largest = largest.max(bytes);
        }
        if !prefetched {
            self.large.largest.fetch_max(largest, Ordering::Relaxed);
        }
        Admitted { rows: taken, refused, _copying: (largest > 0).then(|| self.copy(COPIES_TAKEN_IN * largest)) }
    }

    /// Waits until so many bytes of copies have room beside those that others make; more than all the room goes alone.
    fn copy(&self, bytes: u64) -> Copying<'_> {
        let room = self.usable / 8;
        let mut all = copying(&self.large);
        while *all > 0 && *all + bytes > room {
            all = self.large.fewer.wait(all).unwrap_or_else(PoisonError::into_inner);
        }
        *all += bytes;
        Copying { large: &self.large, bytes }
    }
}

fn too_large(of: &TopicPartition, offset: i64, bytes: u64, (memory, needed): (u64, u64)) -> Error {
    let (memory, enough) = (Bytes(memory), Bytes(needed.next_multiple_of(STEP_BYTES)));
    Error::new(Kind::Stopped, format!("partition `{of}` stops: its record at offset {offset} has {bytes} bytes, too many for `memory: {memory}`"))
        .hint(format!("set `memory: {enough}` or more, and start kas3 again"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{record::OwnedRecord, status::Status};
    use std::{sync::Arc, thread, time::Duration};

    const MIB: usize = 1 << 20;

    fn budget(mib: u64) -> Arc<Budget> {
        Budget::new(mib << 20, Status::new("n", mib << 20))
    }

    fn records(sizes: &[usize]) -> Vec<OwnedRecord> {
        let record = |(offset, bytes): (i64, &usize)| OwnedRecord { offset, value: Some(vec![b'x'; *bytes]), ..OwnedRecord::default() };
        (0..).zip(sizes).map(record).collect()
    }

    fn rows(records: &[OwnedRecord]) -> Vec<Row<'_>> {
        records.iter().map(|record| Row::of(record.borrow())).collect()
    }

    #[test]
    fn a_record_too_large_for_the_memory_stops_its_partition_and_the_memory_it_names_is_enough() {
        let of = TopicPartition::new("orders", 3);
        let records = records(&[10, 9 * MIB, 10]);
        let small = budget(64);
        let refused = small.admit(&of, &rows(&records), 0, false);
        let error = refused.refused.expect("a refusal");
        assert_eq!((refused.rows, error.kind()), (1, Kind::Stopped));
        assert_eq!(error.to_string(), "partition `orders-3` stops: its record at offset 1 has 9437184 bytes, too many for `memory: 64MiB`");
        let hint = error.way_out().expect("a way out").to_owned();
        let named: Bytes = hint.split('`').nth(1).and_then(|setting| setting.strip_prefix("memory: ")).expect("a setting").parse().expect("a size");
        let enough = budget(named.0 >> 20);
        assert!(record_bytes_max(named.0) >= 9 << 20 && record_bytes_max(64 << 20) < 9 << 20);
        assert!(enough.admit(&of, &rows(&records), 0, false).refused.is_none(), "{hint}");
        assert!(budget(64).admit(&of, &rows(&records), 2, false).refused.is_none(), "what was read before does not count");
        assert!(enough.pauses_above() < budget(named.0 >> 20).pauses_above(), "room is kept for the copies of such records");
    }

    #[test]
    fn what_was_prefetched_needs_less_than_what_came_through_kafka() {
        let (of, records) = (TopicPartition::new("orders", 0), records(&[60 * MIB]));
        assert!(budget(256).admit(&of, &rows(&records), 0, false).refused.is_some());
        assert!(budget(256).admit(&of, &rows(&records), 0, true).refused.is_none());
    }

    #[test]
    fn copies_of_large_records_are_made_one_after_the_other() {
        let budget = budget(256);
        let (of, records) = (TopicPartition::new("orders", 0), records(&[20 * MIB]));
        let first = budget.admit(&of, &rows(&records), 0, false);
        thread::scope(|scope| {
            let second = scope.spawn(|| drop(budget.admit(&of, &rows(&records), 0, false)));
            thread::sleep(Duration::from_millis(50));
            assert!(!second.is_finished(), "it waits");
            drop(first);
        });
    }
}
