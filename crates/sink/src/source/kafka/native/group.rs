//! What a consumer group's coordinator says of the group.

use super::{Client, c_string};
use crate::{
    error::{Error, Kind, Result},
    span::TopicPartition,
};
use rdkafka::{bindings as sys, error::IsError};
use std::{
    ffi::{CStr, c_char},
    time::Duration,
};

/// A group, as its coordinator tells.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(in crate::source::kafka) struct Described {
    /// It does not rebalance, and has members.
    pub(in crate::source::kafka) at_rest: bool,
    /// Who is in it.
    pub(in crate::source::kafka) members: Vec<Member>,
}

/// A member of a group.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(in crate::source::kafka) struct Member {
    /// Its `client.id`.
    pub(in crate::source::kafka) client_id: String,
    /// Where it is, as `/10.0.0.7`.
    pub(in crate::source::kafka) host: String,
    /// Its `group.instance.id`, of a static member.
    pub(in crate::source::kafka) instance: Option<String>,
    /// What the group gave to it; while it rebalances, perhaps nothing yet.
    pub(in crate::source::kafka) partitions: Vec<TopicPartition>,
}

impl Client {
    /// The members of a group.
    ///
    /// # Errors
    /// `Transient` when the coordinator does not say.
    pub(in crate::source::kafka) fn describe(&self, group: &str, timeout: Duration) -> Result<Described> {
        let name = c_string(group)?;
        let mut names = [name.as_ptr()];
        // SAFETY: the name lives through the question; the event is read before it is destroyed.
        unsafe {
            self.ask(
                sys::rd_kafka_admin_op_t::RD_KAFKA_ADMIN_OP_DESCRIBECONSUMERGROUPS,
                timeout,
                |options, queue| sys::rd_kafka_DescribeConsumerGroups(self.pointer, names.as_mut_ptr(), 1, options, queue),
                |event| read_members(event, group),
            )
        }
    }
}

/// SAFETY: `event` is null or the live event of a DescribeConsumerGroups request.
unsafe fn read_members(event: *mut sys::rd_kafka_event_t, group: &str) -> Result<Described> {
    let failed = || Error::new(Kind::Transient, format!("the broker does not say who is in the group `{group}`"));
    // SAFETY: the event is live until the caller destroys it, and so is all that is reached through it.
    unsafe {
        if event.is_null() {
            return Err(failed());
        }
        let code = sys::rd_kafka_event_error(event);
        if code.is_error() {
            return Err(failed().source(rdkafka::error::KafkaError::AdminOp(code.into())));
        }
        let result = sys::rd_kafka_event_DescribeConsumerGroups_result(event);
        let mut count = 0;
        let groups = if result.is_null() { std::ptr::null_mut() } else { sys::rd_kafka_DescribeConsumerGroups_result_groups(result, &mut count) };
        if count == 0 {
            return Err(failed());
        }
        let described = *groups;
        let error = sys::rd_kafka_ConsumerGroupDescription_error(described);
        if !error.is_null() && sys::rd_kafka_error_code(error).is_error() {
            return Err(failed().source(rdkafka::error::KafkaError::AdminOp(sys::rd_kafka_error_code(error).into())));
        }
        let state = sys::rd_kafka_ConsumerGroupDescription_state(described);
        let at_rest = state == sys::rd_kafka_consumer_group_state_t::RD_KAFKA_CONSUMER_GROUP_STATE_STABLE;
        let members = sys::rd_kafka_ConsumerGroupDescription_member_count(described);
        let members = (0..members).map(|index| read_member(sys::rd_kafka_ConsumerGroupDescription_member(described, index))).collect();
        Ok(Described { at_rest, members })
    }
}

/// SAFETY: `member` is null or a member of a live description.
unsafe fn read_member(member: *const sys::rd_kafka_MemberDescription_t) -> Member {
    if member.is_null() {
        return Member::default();
    }
    // SAFETY: everything reached here belongs to the description; names are null or end in NUL; a list has `cnt` elements.
    unsafe {
        let instance = text(sys::rd_kafka_MemberDescription_group_instance_id(member)).filter(|instance| !instance.is_empty());
        let assignment = sys::rd_kafka_MemberDescription_assignment(member);
        let list = if assignment.is_null() { std::ptr::null() } else { sys::rd_kafka_MemberAssignment_partitions(assignment) };
        let count = if list.is_null() { 0 } else { usize::try_from((*list).cnt).unwrap_or(0) };
        let element = |index| {
            let element = (*list).elems.add(index);
            Some(TopicPartition::new(text((*element).topic)?, (*element).partition))
        };
        let client_id = text(sys::rd_kafka_MemberDescription_client_id(member)).unwrap_or_default();
        let host = text(sys::rd_kafka_MemberDescription_host(member)).unwrap_or_default();
        Member { client_id, host, instance, partitions: (0..count).filter_map(element).collect() }
    }
}

/// SAFETY: `text` is null or ends in NUL.
unsafe fn text(text: *const c_char) -> Option<String> {
    // SAFETY: as the caller says.
    (!text.is_null()).then(|| unsafe { CStr::from_ptr(text) }.to_string_lossy().into_owned())
}
