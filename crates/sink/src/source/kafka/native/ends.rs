//! Ends of partitions whatever transactions are open: the client's own isolation level makes it answer with the last stable offset.

use super::{Client, check};
use crate::{
    error::{Error, Kind, Result},
    span::TopicPartition,
};
use rdkafka::{Offset, TopicPartitionList, bindings as sys, error::IsError, types::RDKafkaRespErr};
use std::{collections::HashMap, ffi::CStr, ptr, time::Duration};

impl Client {
    /// The high watermarks of partitions, in their order, each with its own outcome.
    ///
    /// # Errors
    /// `Transient` when the broker does not answer.
    pub(in crate::source::kafka) fn high_watermarks(&self, partitions: &[TopicPartition], timeout: Duration) -> Result<Vec<Result<i64>>> {
        let mut list = TopicPartitionList::with_capacity(partitions.len());
        for of in partitions {
            let added = list.add_partition_offset(&of.topic, of.partition, Offset::End);
            added.map_err(|source| Error::new(Kind::Fatal, format!("ask for the end of `{of}`")).source(source))?;
        }
        let kind = sys::rd_kafka_admin_op_t::RD_KAFKA_ADMIN_OP_LISTOFFSETS;
        let mut wrong = Ok(());
        let send = |options, queue| {
            // SAFETY: options and queue live through the call, and librdkafka copies the list.
            unsafe {
                let set = sys::rd_kafka_AdminOptions_set_isolation_level(
                    options,
                    sys::rd_kafka_IsolationLevel_t::RD_KAFKA_ISOLATION_LEVEL_READ_UNCOMMITTED,
                );
                wrong = check(set, "ask for ends");
                sys::rd_kafka_ListOffsets(self.pointer, list.ptr(), options, queue);
            }
        };
        // SAFETY: the question is of this kind, and the event is only read.
        let ends = unsafe { self.ask(kind, timeout, send, |event| read_ends(event)) }?;
        wrong?;
        let end = |of: &TopicPartition| match ends.get(&(of.topic.to_string(), of.partition)) {
            Some(Ok(end)) => Ok(*end),
            Some(Err(code)) => {
                Err(Error::new(Kind::Transient, format!("ask for the end of `{of}`")).source(rdkafka::error::KafkaError::OffsetFetch((*code).into())))
            }
            None => Err(Error::new(Kind::Transient, format!("the broker does not say where `{of}` ends"))),
        };
        Ok(partitions.iter().map(end).collect())
    }
}

/// Ends by topic and partition, or the code of what failed.
type Ends = HashMap<(String, i32), Result<i64, RDKafkaRespErr>>;

/// SAFETY: `event` is null or the live event of a ListOffsets request.
unsafe fn read_ends(event: *mut sys::rd_kafka_event_t) -> Result<Ends> {
    let mut ends = Ends::new();
    // SAFETY: the event is live until the caller destroys it, and so is all that is reached through it; names end in NUL.
    unsafe {
        if event.is_null() || sys::rd_kafka_event_error(event).is_error() {
            return Err(Error::new(Kind::Transient, "the broker does not say where its partitions end"));
        }
        let result = sys::rd_kafka_event_ListOffsets_result(event);
        let mut count = 0;
        let infos = if result.is_null() { ptr::null_mut() } else { sys::rd_kafka_ListOffsets_result_infos(result, &mut count) };
        for index in 0..count {
            let of = &*sys::rd_kafka_ListOffsetsResultInfo_topic_partition(*infos.add(index));
            let end = if of.err.is_error() { Err(of.err) } else { Ok(of.offset) };
            ends.insert((CStr::from_ptr(of.topic).to_string_lossy().into_owned(), of.partition), end);
        }
    }
    Ok(ends)
}
