//! What all names of a topic begin with: where somebody would look for files that are there already.

use super::{PathTemplate, encode, parse::Part};

impl PathTemplate {
    /// The text before the first part that varies, for files of `topic`; or the folder in it that is the topic's own (`true`), so that
    /// whatever lies below has to do with that topic.
    pub fn begins_with(&self, topic: &str) -> (String, bool) {
        let (text, own) = self.literal(topic);
        match text.rfind('/').filter(|_| own) {
            Some(end) => (text[..=end].to_owned(), true),
            None => (text, false),
        }
    }

    fn literal(&self, topic: &str) -> (String, bool) {
        let (mut text, mut own) = (String::new(), false);
        for segment in &self.segments {
            let mut names_topic = false;
            for (place, part) in segment.iter().enumerate() {
                match part {
                    Part::Literal(literal) => text.push_str(literal),
                    Part::Topic => {
                        encode::push(&mut text, topic.as_bytes(), place == 0);
                        names_topic = true;
                    }
                    _ => return (text, own),
                }
            }
            own |= names_topic;
            text.push('/');
        }
        (text, own)
    }
}

#[cfg(test)]
mod tests {
    use crate::path::{Limits, PathTemplate, TemplateOptions};
    use jiff::tz::TimeZone;

    #[test]
    fn the_beginning_ends_where_a_record_matters_and_a_folder_of_the_topic_counts_only_whole() {
        let begins = |template: &str| {
            let options = TemplateOptions { timezone: TimeZone::UTC, single_topic: true, limits: Limits::OBJECT };
            PathTemplate::parse(template, &options).unwrap().begins_with("_orders")
        };
        assert_eq!(begins("{topic}/date={timestamp:%F}/{partition}_{offset}"), ("%5Forders/".to_owned(), true));
        assert_eq!(begins("raw/{topic}-{partition}/{offset}"), ("raw/_orders-".replace("/_", "/%5F"), false));
        assert_eq!(begins("a/b-{topic}/x{partition}_{offset}"), ("a/b-_orders/".to_owned(), true));
        assert_eq!(begins("{now:%F}/{topic}/{partition}_{offset}"), (String::new(), false));
        assert_eq!(begins("raw/{partition}_{offset}"), ("raw/".to_owned(), false));
    }
}
