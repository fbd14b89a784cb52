//! What the sender says of a payload.

/// What a payload goes with.
#[derive(Clone, Copy, Debug, Default)]
pub struct About<'a> {
    /// Topic of its record, for keys that name it.
    pub topic: &'a str,
    /// Media type of the object.
    pub content_type: Option<&'a str>,
    /// Bytes that its record may have for the value; `None`: only `max_inline_bytes` decides.
    pub room: Option<u64>,
    /// Offload it, however small it is.
    pub always: bool,
}

impl<'a> About<'a> {
    /// A payload for `topic`, of no particular type.
    pub fn topic(topic: &'a str) -> About<'a> {
        About { topic, ..About::default() }
    }
}
