//! Where partitions end, asked from their leaders.

use super::{Client, millis};
use crate::{
    error::{Error, Kind, Result},
    span::TopicPartition,
};
use rdkafka::{Offset, TopicPartitionList, bindings as sys, error::IsError, types::RDKafkaErrorCode};
use std::{ffi::CStr, time::Duration};

/// What one leader says of one partition.
pub(in crate::source::kafka) type End = (TopicPartition, Result<i64, NoEnd>);

/// Why the end of a partition is not known.
#[derive(Clone, Copy, Debug)]
pub(in crate::source::kafka) struct NoEnd {
    pub(in crate::source::kafka) code: RDKafkaErrorCode,
    /// Nobody answered: the client itself says so, not a broker.
    pub(in crate::source::kafka) unanswered: bool,
}

impl Client {
    /// The ends of partitions: the high watermarks, or with `stable` the last stable offsets.
    ///
    /// # Errors
    /// `Transient` when nobody answers.
    pub(in crate::source::kafka) fn ends(&self, partitions: &[TopicPartition], stable: bool, timeout: Duration) -> Result<Vec<End>> {
        let mut list = TopicPartitionList::with_capacity(partitions.len());
        for of in partitions {
            let added = list.add_partition_offset(&of.topic, of.partition, Offset::End);
            added.map_err(|source| Error::new(Kind::Fatal, format!("ask for the end of `{of}`")).source(source))?;
        }
        let level = match stable {
            true => sys::rd_kafka_IsolationLevel_t::RD_KAFKA_ISOLATION_LEVEL_READ_COMMITTED,
            false => sys::rd_kafka_IsolationLevel_t::RD_KAFKA_ISOLATION_LEVEL_READ_UNCOMMITTED,
        };
        // SAFETY: the list lives through the question; the event is read before it is destroyed.
        unsafe {
            self.ask(
                sys::rd_kafka_admin_op_t::RD_KAFKA_ADMIN_OP_LISTOFFSETS,
                timeout,
                |options, queue| {
                    let refused = sys::rd_kafka_AdminOptions_set_isolation_level(options, level);
                    if !refused.is_null() {
                        sys::rd_kafka_error_destroy(refused);
                    }
                    sys::rd_kafka_ListOffsets(self.pointer, list.ptr(), options, queue);
                },
                |event| read_ends(event, timeout),
            )
        }
    }
}

/// SAFETY: `event` is null or the live event of a ListOffsets request.
unsafe fn read_ends(event: *mut sys::rd_kafka_event_t, timeout: Duration) -> Result<Vec<End>> {
    let failed = || Error::new(Kind::Transient, format!("no answer within {} ms", millis(timeout)));
    if event.is_null() {
        return Err(failed());
    }
    // SAFETY: the event is live until the caller destroys it, and so is all that is reached through it; names end in NUL.
    unsafe {
        let code = sys::rd_kafka_event_error(event);
        if code == sys::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR__NOENT {
            // of none of them the leader is known: brokers answer, and each partition is left out
            return Ok(Vec::new());
        }
        if code.is_error() {
            return Err(failed().source(rdkafka::error::KafkaError::AdminOp(code.into())));
        }
        let result = sys::rd_kafka_event_ListOffsets_result(event);
        if result.is_null() {
            return Err(failed());
        }
        let mut count = 0;
        let infos = sys::rd_kafka_ListOffsets_result_infos(result, &mut count);
        let end = |index| {
            let answer = &*sys::rd_kafka_ListOffsetsResultInfo_topic_partition(*infos.add(index));
            let of = TopicPartition::new(CStr::from_ptr(answer.topic).to_string_lossy().as_ref(), answer.partition);
            let end = match answer.err.is_error() {
                true => Err(NoEnd { code: answer.err.into(), unanswered: (answer.err as i32) < 0 }),
                // librdkafka forgets the error of a leader that failed, and leaves what was asked: the logical offset
                false if answer.offset < 0 => Err(NoEnd { code: RDKafkaErrorCode::OperationTimedOut, unanswered: true }),
                false => Ok(answer.offset),
            };
            (of, end)
        };
        Ok((0..count).map(end).collect())
    }
}
