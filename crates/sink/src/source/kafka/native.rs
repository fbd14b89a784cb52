//! The one place for `unsafe`: batches straight from librdkafka's queues, positions with leader epochs, topic ids.
//!
//! `BaseConsumer::poll` hands out one record at a time; `rd_kafka_consume_batch_queue` costs half the CPU. All partitions are
//! forwarded into one queue beside the consumer's own, because librdkafka applies its limits to the queue that is read: so they
//! bound all partitions together, however many there are, and a busy partition may use what the others leave.
//! A partition's queue is forwarded *before* it is assigned; librdkafka respects that from then on.
#![allow(unsafe_code)]

mod ends;
mod group;
mod offsets;

pub(super) use group::{Described, Member};

use crate::{
    error::{Error, Kind, Result},
    record::{Headers, Record},
    span::{Position, TopicPartition},
};
use rdkafka::{TopicPartitionList, bindings as sys, error::IsError, types::RDKafkaErrorCode};
use std::{
    any::Any,
    collections::HashMap,
    ffi::{CStr, CString},
    ptr,
    sync::Arc,
    time::Duration,
};

/// A librdkafka client: the pointer, and what keeps it alive.
#[derive(Clone)]
pub(super) struct Client {
    pointer: *mut sys::rd_kafka_t,
    _alive: Arc<dyn Any + Send + Sync>,
}

// SAFETY: librdkafka's client functions used here may be called from any thread; `_alive` keeps the client from being freed.
unsafe impl Send for Client {}
// SAFETY: as above.
unsafe impl Sync for Client {}

impl Client {
    /// Wraps the client of `alive`, which must be its owner.
    pub(super) fn new(pointer: *mut sys::rd_kafka_t, alive: Arc<dyn Any + Send + Sync>) -> Self {
        Client { pointer, _alive: alive }
    }

    /// Names the bootstrap servers once more. When a broker that is being shut down answers with a list of no brokers at all,
    /// librdkafka (up to 2.13, its issue 5301) forgets those that it knows, and from then on has nobody to ask.
    pub(super) fn bootstrap_again(&self, servers: &str) {
        if let Ok(servers) = c_string(servers) {
            // SAFETY: the client and the string live through the call.
            unsafe { sys::rd_kafka_brokers_add(self.pointer, servers.as_ptr()) };
        }
    }

    /// Cuts the partition's queue off from the consumer's, so that its records come only from here.
    pub(super) fn split(&self, of: &TopicPartition) -> Result<Queue> {
        let topic = c_string(&of.topic)?;
        // SAFETY: the client and the string live through the calls; a null answer is checked.
        let queue = unsafe { sys::rd_kafka_queue_get_partition(self.pointer, topic.as_ptr(), of.partition) };
        if queue.is_null() {
            return Err(Error::new(Kind::Fatal, format!("librdkafka gives no queue for `{of}`")));
        }
        // SAFETY: as above; a null destination means "no forwarding".
        unsafe { sys::rd_kafka_queue_forward(queue, ptr::null_mut()) };
        Ok(Queue { queue, client: self.clone() })
    }

    /// A queue for the records of many partitions.
    pub(super) fn queue(&self) -> Queue {
        // SAFETY: the client lives; the answer is never null.
        Queue { queue: unsafe { sys::rd_kafka_queue_new(self.pointer) }, client: self.clone() }
    }

    /// Sends the partition's records into `queue` and no longer into the consumer's; for as long as the answer is kept.
    pub(super) fn forward(&self, of: &TopicPartition, queue: &Queue) -> Result<Queue> {
        let partition = self.split(of)?;
        // SAFETY: both queues are live.
        unsafe { sys::rd_kafka_queue_forward(partition.queue, queue.queue) };
        Ok(partition)
    }

    /// Stops fetching a partition and throws away what was fetched and not taken.
    pub(super) fn pause(&self, of: &TopicPartition) -> Result<()> {
        let mut list = TopicPartitionList::new();
        list.add_partition(&of.topic, of.partition);
        // SAFETY: the list lives through the call.
        check_code(unsafe { sys::rd_kafka_pause_partitions(self.pointer, list.ptr()) }, "pause a partition")?;
        check_list(&list, "pause")
    }

    /// Fetches a paused partition again.
    pub(super) fn resume(&self, of: &TopicPartition) -> Result<()> {
        let mut list = TopicPartitionList::new();
        list.add_partition(&of.topic, of.partition);
        // SAFETY: the list lives through the call.
        check_code(unsafe { sys::rd_kafka_resume_partitions(self.pointer, list.ptr()) }, "resume a partition")?;
        check_list(&list, "resume")
    }

    /// Whether rebalances are incremental (cooperative and KIP-848).
    pub(super) fn incremental(&self) -> bool {
        // SAFETY: the answer is a static string or null.
        unsafe {
            let protocol = sys::rd_kafka_rebalance_protocol(self.pointer);
            !protocol.is_null() && CStr::from_ptr(protocol).to_bytes() == b"COOPERATIVE"
        }
    }

    /// Assigns partitions at positions: adds them under an incremental protocol, else makes them the whole assignment.
    pub(super) fn assign(&self, partitions: &[(TopicPartition, Position)]) -> Result<()> {
        let list = positions(partitions)?;
        // SAFETY: the list lives through the call; the error, if any, is taken over.
        unsafe {
            if self.incremental() {
                check(sys::rd_kafka_incremental_assign(self.pointer, list.ptr()), "assign partitions")
            } else {
                check_code(sys::rd_kafka_assign(self.pointer, list.ptr()), "assign partitions")
            }
        }
    }

    /// Gives partitions back: those named under an incremental protocol, else all.
    pub(super) fn unassign(&self, partitions: &[TopicPartition]) -> Result<()> {
        let mut list = TopicPartitionList::new();
        for of in partitions {
            list.add_partition(&of.topic, of.partition);
        }
        // SAFETY: as in `assign`.
        unsafe {
            if self.incremental() {
                check(sys::rd_kafka_incremental_unassign(self.pointer, list.ptr()), "give partitions back")
            } else {
                check_code(sys::rd_kafka_assign(self.pointer, ptr::null()), "give partitions back")
            }
        }
    }

    /// Moves assigned partitions to positions; what librdkafka had fetched of them is thrown away.
    pub(super) fn seek(&self, partitions: &[(TopicPartition, Position)], timeout: Duration) -> Result<()> {
        let list = positions(partitions)?;
        // SAFETY: as in `assign`.
        unsafe { check(sys::rd_kafka_seek_partitions(self.pointer, list.ptr(), millis(timeout)), "seek")? };
        check_list(&list, "seek in")
    }

    /// The end of the partition as of the last fetch: the high watermark; `None` before the first fetch.
    pub(super) fn known_end(&self, of: &TopicPartition) -> Option<i64> {
        let topic = CString::new(&*of.topic).ok()?;
        let (mut low, mut high) = (-1, -1);
        // SAFETY: the string and both integers live through the call.
        let answer = unsafe { sys::rd_kafka_get_watermark_offsets(self.pointer, topic.as_ptr(), of.partition, &mut low, &mut high) };
        (!answer.is_error() && high >= 0).then_some(high)
    }

    /// The id of a topic, asked from the broker: `None` where the broker knows no ids.
    ///
    /// # Errors
    /// `Missing` when there is no such topic; `Fatal` without permission; else `Transient`.
    pub(super) fn topic_id(&self, topic: &str, timeout: Duration) -> Result<Option<String>> {
        let name = c_string(topic)?;
        let mut names = [name.as_ptr()];
        // SAFETY: the collection lives through the question; the event is read before it is destroyed.
        unsafe {
            let topics = sys::rd_kafka_TopicCollection_of_topic_names(names.as_mut_ptr(), 1);
            let answer = self.ask(
                sys::rd_kafka_admin_op_t::RD_KAFKA_ADMIN_OP_DESCRIBETOPICS,
                timeout,
                |options, queue| sys::rd_kafka_DescribeTopics(self.pointer, topics, options, queue),
                |event| read_topic_id(event, topic),
            );
            sys::rd_kafka_TopicCollection_destroy(topics);
            answer
        }
    }

    /// One setting of a topic; `None` when the broker does not say.
    ///
    /// # Errors
    /// `Transient` when the broker does not answer.
    pub(super) fn topic_setting(&self, topic: &str, setting: &str, timeout: Duration) -> Result<Option<String>> {
        self.setting(sys::rd_kafka_ResourceType_t::RD_KAFKA_RESOURCE_TOPIC, topic, setting, timeout)
    }

    /// One setting of a group, the broker's where it has none of its own; `None` when the broker does not say.
    ///
    /// # Errors
    /// As [`Client::topic_setting`].
    pub(super) fn group_setting(&self, group: &str, setting: &str, timeout: Duration) -> Result<Option<String>> {
        self.setting(sys::rd_kafka_ResourceType_t::RD_KAFKA_RESOURCE_GROUP, group, setting, timeout)
    }

    fn setting(&self, kind: sys::rd_kafka_ResourceType_t, of: &str, setting: &str, timeout: Duration) -> Result<Option<String>> {
        let name = c_string(of)?;
        // SAFETY: the resource lives through the question; the event is read before it is destroyed.
        unsafe {
            let mut resource = sys::rd_kafka_ConfigResource_new(kind, name.as_ptr());
            let answer = self.ask(
                sys::rd_kafka_admin_op_t::RD_KAFKA_ADMIN_OP_DESCRIBECONFIGS,
                timeout,
                |options, queue| sys::rd_kafka_DescribeConfigs(self.pointer, &mut resource, 1, options, queue),
                |event| read_setting(event, of, setting),
            );
            sys::rd_kafka_ConfigResource_destroy(resource);
            answer
        }
    }

    /// Asks one admin question and waits for its answer.
    ///
    /// SAFETY: `send` sends a question of kind `kind` with what it is given; `read` only reads the event.
    unsafe fn ask<T>(
        &self,
        kind: sys::rd_kafka_admin_op_t,
        timeout: Duration,
        mut send: impl FnMut(*mut sys::rd_kafka_AdminOptions_t, *mut sys::rd_kafka_queue_t),
        read: impl FnOnce(*mut sys::rd_kafka_event_t) -> T,
    ) -> T {
        // SAFETY: everything made here is destroyed here, in reverse order; what is read from the event is copied before.
        unsafe {
            let queue = sys::rd_kafka_queue_new(self.pointer);
            let options = sys::rd_kafka_AdminOptions_new(self.pointer, kind);
            let mut text = [0; 256];
            sys::rd_kafka_AdminOptions_set_request_timeout(options, millis(timeout), text.as_mut_ptr(), text.len());
            send(options, queue);
            let event = sys::rd_kafka_queue_poll(queue, millis(timeout) + 1000);
            let answer = read(event);
            if !event.is_null() {
                sys::rd_kafka_event_destroy(event);
            }
            sys::rd_kafka_AdminOptions_destroy(options);
            sys::rd_kafka_queue_destroy(queue);
            answer
        }
    }
}

/// SAFETY: `event` is null or the live event of a DescribeConfigs request.
unsafe fn read_setting(event: *mut sys::rd_kafka_event_t, of: &str, setting: &str) -> Result<Option<String>> {
    // SAFETY: the event is live until the caller destroys it, and so is all that is reached through it; names end in NUL.
    unsafe {
        if event.is_null() || sys::rd_kafka_event_error(event).is_error() {
            return Err(Error::new(Kind::Transient, format!("the broker does not say how `{of}` is configured")));
        }
        let result = sys::rd_kafka_event_DescribeConfigs_result(event);
        let mut count = 0;
        let resources = if result.is_null() { ptr::null_mut() } else { sys::rd_kafka_DescribeConfigs_result_resources(result, &mut count) };
        if count == 0 {
            return Ok(None);
        }
        let entries = sys::rd_kafka_ConfigResource_configs(*resources, &mut count);
        for index in 0..count {
            let entry = *entries.add(index);
            let value = sys::rd_kafka_ConfigEntry_value(entry);
            if CStr::from_ptr(sys::rd_kafka_ConfigEntry_name(entry)).to_bytes() == setting.as_bytes() && !value.is_null() {
                return Ok(Some(CStr::from_ptr(value).to_string_lossy().into_owned()));
            }
        }
        Ok(None)
    }
}

/// SAFETY: `event` is null or the live event of a DescribeTopics request.
unsafe fn read_topic_id(event: *mut sys::rd_kafka_event_t, topic: &str) -> Result<Option<String>> {
    let failed = |code: sys::rd_kafka_resp_err_t| Err(topic_error(topic, code.into()));
    if event.is_null() {
        return Err(Error::new(Kind::Transient, format!("the broker did not say in time what topic `{topic}` is")));
    }
    // SAFETY: the event is live until the caller destroys it, and so is all that is reached through it.
    unsafe {
        let code = sys::rd_kafka_event_error(event);
        if code.is_error() {
            return failed(code);
        }
        let result = sys::rd_kafka_event_DescribeTopics_result(event);
        if result.is_null() {
            return Err(Error::new(Kind::Transient, format!("the broker's answer about topic `{topic}` cannot be read")));
        }
        let mut count = 0;
        let topics = sys::rd_kafka_DescribeTopics_result_topics(result, &mut count);
        if count == 0 {
            return Ok(None);
        }
        let error = sys::rd_kafka_TopicDescription_error(*topics);
        if !error.is_null() {
            let code = sys::rd_kafka_error_code(error);
            if code.is_error() {
                return failed(code);
            }
        }
        let id = sys::rd_kafka_TopicDescription_topic_id(*topics);
        if id.is_null() || (sys::rd_kafka_Uuid_most_significant_bits(id) == 0 && sys::rd_kafka_Uuid_least_significant_bits(id) == 0) {
            return Ok(None);
        }
        Ok(Some(CStr::from_ptr(sys::rd_kafka_Uuid_base64str(id)).to_string_lossy().into_owned()))
    }
}

/// What an error code of a broker means for a topic.
pub(super) fn topic_error(topic: &str, code: RDKafkaErrorCode) -> Error {
    use RDKafkaErrorCode as Code;
    match code {
        Code::UnknownTopicOrPartition | Code::UnknownTopic | Code::UnknownPartition => {
            Error::new(Kind::Missing, format!("there is no topic `{topic}`")).hint("create it, or correct `source.topics`")
        }
        Code::TopicAuthorizationFailed => Error::new(Kind::Fatal, format!("no permission to read topic `{topic}`"))
            .hint("the principal needs READ on the topic, and READ on the group: see docs/permissions.md"),
        Code::InvalidTopic => Error::new(Kind::Config, format!("`{topic}` cannot be the name of a topic")).hint("an expression begins with `^`"),
        other => {
            Error::new(Kind::Transient, format!("ask the broker about topic `{topic}`")).source(rdkafka::error::KafkaError::MetadataFetch(other))
        }
    }
}

fn positions(partitions: &[(TopicPartition, Position)]) -> Result<TopicPartitionList> {
    let mut list = TopicPartitionList::with_capacity(partitions.len());
    for (of, position) in partitions {
        // never a logical offset: an answer about it that comes after a seek would take the partition to where it points
        let offset = rdkafka::Offset::Offset(position.next.max(0));
        list.add_partition_offset(&of.topic, of.partition, offset)
            .map_err(|source| Error::new(Kind::Fatal, format!("position of `{of}`")).source(source))?;
    }
    for (index, (_, position)) in partitions.iter().enumerate() {
        if position.leader_epoch >= 0 {
            // SAFETY: the list was just made with one element per partition, in this order.
            unsafe { sys::rd_kafka_topic_partition_set_leader_epoch((*list.ptr()).elems.add(index), position.leader_epoch) };
        }
    }
    Ok(list)
}

fn check_list(list: &TopicPartitionList, doing: &str) -> Result<()> {
    for element in list.elements() {
        element
            .error()
            .map_err(|source| Error::new(Kind::Transient, format!("{doing} `{}-{}`", element.topic(), element.partition())).source(source))?;
    }
    Ok(())
}

fn c_string(text: &str) -> Result<CString> {
    CString::new(text).map_err(|_| Error::new(Kind::Config, format!("`{text}` holds a NUL byte")))
}

fn millis(duration: Duration) -> i32 {
    i32::try_from(duration.as_millis()).unwrap_or(i32::MAX)
}

/// SAFETY: `error` is null or an error object that is ours to destroy.
unsafe fn check(error: *mut sys::rd_kafka_error_t, doing: &str) -> Result<()> {
    if error.is_null() {
        return Ok(());
    }
    // SAFETY: not null, and destroyed after its text was copied.
    let text = unsafe {
        let text = CStr::from_ptr(sys::rd_kafka_error_string(error)).to_string_lossy().into_owned();
        sys::rd_kafka_error_destroy(error);
        text
    };
    Err(Error::new(Kind::Transient, format!("{doing}: {text}")))
}

fn check_code(code: sys::rd_kafka_resp_err_t, doing: &str) -> Result<()> {
    if code.is_error() { Err(Error::new(Kind::Transient, doing).source(rdkafka::error::KafkaError::Global(code.into()))) } else { Ok(()) }
}

/// A queue of librdkafka. Only its owner reads it.
pub(super) struct Queue {
    queue: *mut sys::rd_kafka_queue_t,
    client: Client,
}

// SAFETY: librdkafka's queues are locked inside; the queue is destroyed once, before the client (kept by `client`).
unsafe impl Send for Queue {}

impl Drop for Queue {
    fn drop(&mut self) {
        // SAFETY: made by `rd_kafka_queue_new` or `rd_kafka_queue_get_partition`, destroyed once.
        unsafe { sys::rd_kafka_queue_destroy(self.queue) };
    }
}

impl Queue {
    /// Takes up to `max` messages without waiting.
    pub(super) fn take(&self, max: usize) -> Messages {
        let mut pointers: Vec<Message> = Vec::with_capacity(max);
        // SAFETY: `Message` is a transparent pointer; librdkafka writes at most `max` of them, and says how many.
        unsafe {
            let taken = sys::rd_kafka_consume_batch_queue(self.queue, 0, pointers.as_mut_ptr().cast(), max);
            pointers.set_len(usize::try_from(taken).unwrap_or(0));
        }
        Messages { pointers, _client: self.client.clone() }
    }
}

/// A message that librdkafka lent us.
#[repr(transparent)]
pub(in crate::source) struct Message(*mut sys::rd_kafka_message_t);

/// Messages of one partition, given back to librdkafka when dropped.
pub(in crate::source) struct Messages {
    pointers: Vec<Message>,
    _client: Client,
}

// SAFETY: a message is only read, by whoever owns the batch; giving it back is allowed from any thread.
unsafe impl Send for Messages {}
// SAFETY: reading is shared; parsing of a message's headers inside librdkafka is done by one thread at a time: by the one that owns
// the batch, and where several share it, by the transforms before the message is handed on, by its lane afterwards.
unsafe impl Sync for Message {}

impl Drop for Messages {
    fn drop(&mut self) {
        for message in &self.pointers {
            // SAFETY: each message is ours and given back once.
            unsafe { sys::rd_kafka_message_destroy(message.0) };
        }
    }
}

impl Messages {
    /// All messages, errors and the end of the partition included.
    pub(in crate::source) fn iter(&self) -> impl DoubleEndedIterator<Item = &Message> {
        self.pointers.iter()
    }

    /// The same messages, each partition's together and in their order.
    pub(in crate::source) fn by_partition(mut self) -> Vec<Messages> {
        let mut places: HashMap<(usize, i32), usize> = HashMap::new();
        let mut parts: Vec<Messages> = Vec::new();
        let mut last = None;
        let pointers = std::mem::take(&mut self.pointers);
        let expected = pointers.len();
        for message in pointers {
            let key = message.key();
            let place = match last {
                Some((same, place)) if same == key => place,
                _ => *places.entry(key).or_insert_with(|| {
                    // most often the records of one fetch are of one partition
                    let pointers = Vec::with_capacity(if parts.is_empty() { expected } else { 0 });
                    parts.push(Messages { pointers, _client: self._client.clone() });
                    parts.len() - 1
                }),
            };
            last = Some((key, place));
            parts[place].pointers.push(message);
        }
        parts
    }

    /// Topic and partition of the first message; `None` without messages, or when it is an error of no partition.
    pub(in crate::source) fn of(&self) -> Option<(&str, i32)> {
        let message = self.pointers.first()?;
        // SAFETY: the message is live while the batch is, and with it the topic and its name.
        unsafe {
            let topic = (*message.0).rkt;
            if topic.is_null() {
                return None;
            }
            Some((CStr::from_ptr(sys::rd_kafka_topic_name(topic)).to_str().ok()?, (*message.0).partition))
        }
    }

    /// How many there are.
    pub(in crate::source) fn len(&self) -> usize {
        self.pointers.len()
    }
}

impl Message {
    /// Tells apart the partitions of messages that are live at the same time.
    fn key(&self) -> (usize, i32) {
        // SAFETY: the message is live while the batch is.
        unsafe { ((*self.0).rkt as usize, (*self.0).partition) }
    }

    /// The error that came instead of a record; the end of the partition is one.
    pub(in crate::source) fn error(&self) -> Option<RDKafkaErrorCode> {
        // SAFETY: the message is live while the batch is.
        let code = unsafe { (*self.0).err };
        code.is_error().then(|| code.into())
    }

    /// Offset of the record, or the end that was reached.
    pub(in crate::source) fn offset(&self) -> i64 {
        // SAFETY: as above.
        unsafe { (*self.0).offset }
    }

    /// Leader epoch of the record; -1 when not known.
    pub(in crate::source) fn leader_epoch(&self) -> i32 {
        // SAFETY: as above.
        unsafe { sys::rd_kafka_message_leader_epoch(self.0) }
    }

    /// Text of an error message.
    pub(in crate::source) fn error_text(&self) -> String {
        // SAFETY: as above; the text belongs to the message.
        unsafe {
            let text = sys::rd_kafka_message_errstr(self.0);
            if text.is_null() { String::new() } else { CStr::from_ptr(text).to_string_lossy().into_owned() }
        }
    }

    /// Bytes of key and value.
    pub(in crate::source) fn payload_bytes(&self) -> usize {
        // SAFETY: as above.
        unsafe { (*self.0).len + (*self.0).key_len }
    }

    /// The record, borrowed. Headers stay unparsed until somebody asks, and `headers` says whether anybody may.
    pub(in crate::source) fn record<'a>(&'a self, topic: &'a str, headers: bool) -> Record<'a> {
        // SAFETY: the message and its bytes are live while the batch is, which `'a` does not outlive.
        unsafe {
            let message = &*self.0;
            let mut kind = sys::rd_kafka_timestamp_type_t::RD_KAFKA_TIMESTAMP_NOT_AVAILABLE;
            let timestamp = sys::rd_kafka_message_timestamp(self.0, &mut kind);
            Record {
                topic,
                partition: message.partition,
                offset: message.offset,
                // below zero it lies before 1970; only -1 means that there is none
                timestamp_ms: (timestamp != -1 && kind != sys::rd_kafka_timestamp_type_t::RD_KAFKA_TIMESTAMP_NOT_AVAILABLE).then_some(timestamp),
                key: (!message.key.is_null()).then(|| std::slice::from_raw_parts(message.key.cast::<u8>(), message.key_len)),
                value: (!message.payload.is_null()).then(|| std::slice::from_raw_parts(message.payload.cast::<u8>(), message.len)),
                headers: headers.then_some(self as &dyn Headers),
            }
        }
    }

    fn native_headers(&self) -> Option<*mut sys::rd_kafka_headers_t> {
        let mut headers = ptr::null_mut();
        // SAFETY: the message is live; the headers belong to it.
        let code = unsafe { sys::rd_kafka_message_headers(self.0, &mut headers) };
        (!code.is_error() && !headers.is_null()).then_some(headers)
    }
}

impl Headers for Message {
    fn len(&self) -> usize {
        // SAFETY: the headers belong to the live message.
        self.native_headers().map_or(0, |headers| unsafe { sys::rd_kafka_header_cnt(headers) })
    }

    fn get(&self, index: usize) -> Option<(&[u8], Option<&[u8]>)> {
        let headers = self.native_headers()?;
        let (mut name, mut value, mut size) = (ptr::null(), ptr::null(), 0);
        // SAFETY: name and value belong to the live message; a null value is Kafka's null.
        unsafe {
            if sys::rd_kafka_header_get_all(headers, index, &mut name, &mut value, &mut size).is_error() {
                return None;
            }
            let value = (!value.is_null()).then(|| std::slice::from_raw_parts(value.cast::<u8>(), size));
            Some((CStr::from_ptr(name).to_bytes(), value))
        }
    }
}
