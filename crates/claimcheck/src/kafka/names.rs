//! Names that librdkafka would stumble over: an empty topic, or one that C cannot hold, ends the process there.

use crate::{Error, Kind, Result, reference::Headers};

/// A topic's name is no longer, by Kafka.
const TOPIC_BYTES_MAX: usize = 249;

/// Refuses a name that no topic can have. Which characters it may have, the brokers say.
///
/// # Errors
/// `Record`.
pub fn check_topic(topic: &str) -> Result<()> {
    let wrong = |what: String| Err(Error::new(Kind::Record, what).hint("name the topic: 1 to 249 letters, digits, dots, underscores and hyphens"));
    if topic.is_empty() {
        return wrong("the name of the topic is empty".to_owned());
    }
    if topic.contains('\0') {
        return wrong(format!("the name of the topic has a character 0: `{}`", topic.escape_debug()));
    }
    if topic.len() > TOPIC_BYTES_MAX {
        return wrong(format!("the name of the topic has {} bytes, more than {TOPIC_BYTES_MAX}", topic.len()));
    }
    Ok(())
}

/// Refuses headers whose names C cannot hold.
pub(super) fn check_headers(headers: &Headers) -> Result<()> {
    match headers.iter().find(|(name, _)| name.contains('\0')) {
        Some((name, _)) => Err(Error::new(Kind::Record, format!("the name of a header has a character 0: `{}`", name.escape_debug()))
            .hint("give headers names without it")),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_topic_without_a_name_or_with_one_that_c_cannot_hold_is_refused() {
        for (topic, says) in [("", "empty"), ("a\0b", "character 0"), (&"a".repeat(250), "250 bytes")] {
            let error = check_topic(topic).unwrap_err();
            assert_eq!(error.kind(), Kind::Record);
            assert!(error.to_string().contains(says), "{error}");
        }
        assert!(check_topic(&"a".repeat(249)).is_ok());
        assert!(check_headers(&vec![("a\0".to_owned(), None)]).is_err());
    }
}
