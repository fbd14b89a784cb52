//! Names of objects: a template below the prefix.

use crate::{
    Error, Kind, Result,
    reference::{Sha, hex},
};

/// A template that was read: literal text and fields.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct KeyTemplate(Vec<Piece>);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Piece {
    Text(String),
    Uuid,
    Sha256,
    Topic,
    Now(String),
}

impl KeyTemplate {
    pub(crate) fn parse(text: &str) -> Result<KeyTemplate> {
        let wrong = |why: &str, hint: &str| Err(Error::new(Kind::Config, format!("template of keys `{}` {why}", text.escape_debug())).hint(hint));
        let mut pieces = Vec::new();
        let mut rest = text;
        while let Some(at) = rest.find(['{', '}']) {
            if at > 0 {
                pieces.push(Piece::Text(rest[..at].to_owned()));
            }
            let field = rest[at..].strip_prefix('{').and_then(|rest| rest.split_once('}'));
            let Some((field, after)) = field else { return wrong("has a brace without its other half", "write fields as `{uuid}`") };
            pieces.push(match field.split_once(':') {
                None if field == "uuid" => Piece::Uuid,
                None if field == "sha256" => Piece::Sha256,
                None if field == "topic" => Piece::Topic,
                Some(("now", format)) if is_date(format) => Piece::Now(format.to_owned()),
                _ => {
                    let why = format!("has the unknown field `{{{}}}`", field.escape_debug());
                    return wrong(&why, "fields are `{uuid}`, `{sha256}`, `{topic}` and `{now:%Y/%m/%d}`");
                }
            });
            rest = after;
        }
        if !rest.is_empty() {
            pieces.push(Piece::Text(rest.to_owned()));
        }
        let template = KeyTemplate(pieces);
        if !template.0.iter().any(|piece| matches!(piece, Piece::Uuid | Piece::Sha256)) {
            return wrong("gives different payloads one name", "add `{uuid}` or `{sha256}`");
        }
        let sample = template.key("topic", &uuid::Uuid::nil(), Some(&[0; 32]));
        if sample.split('/').any(|segment| matches!(segment, "" | "." | "..")) {
            return wrong("has an empty segment, or one that could leave the prefix", "write it without a leading slash, `//` and `..`");
        }
        Ok(template)
    }

    /// Equal payloads get one name.
    pub(crate) fn names_content(&self) -> bool {
        !self.0.contains(&Piece::Uuid)
    }

    /// The hash must be known before the name is.
    pub(crate) fn needs_hash(&self) -> bool {
        self.0.contains(&Piece::Sha256)
    }

    pub(crate) fn key(&self, topic: &str, uuid: &uuid::Uuid, sha256: Option<&Sha>) -> String {
        let mut key = String::new();
        for piece in &self.0 {
            match piece {
                Piece::Text(text) => key.push_str(text),
                Piece::Uuid => key.push_str(&uuid.hyphenated().to_string()),
                Piece::Sha256 => key.push_str(&hex(sha256.map_or(&[], |sha| &sha[..]))),
                Piece::Topic => key.push_str(topic),
                Piece::Now(format) => key.push_str(&jiff::Zoned::now().with_time_zone(jiff::tz::TimeZone::UTC).strftime(format).to_string()),
            }
        }
        key
    }
}

fn is_date(format: &str) -> bool {
    let now = jiff::Timestamp::UNIX_EPOCH.to_zoned(jiff::tz::TimeZone::UTC);
    !format.is_empty() && jiff::fmt::strtime::format(format, &now).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn templates_make_the_names_that_they_say() {
        let key = |template: &str| KeyTemplate::parse(template).unwrap().key("orders", &uuid::Uuid::nil(), Some(&[0xab; 32]));
        assert_eq!(key("{uuid}"), "00000000-0000-0000-0000-000000000000");
        assert_eq!(key("a/{topic}/{sha256}"), format!("a/orders/{}", "ab".repeat(32)));
        let year = jiff::Timestamp::now().strftime("%Y").to_string();
        assert_eq!(key("{now:%Y}/x-{uuid}.bin"), format!("{year}/x-00000000-0000-0000-0000-000000000000.bin"));
        assert!(KeyTemplate::parse("{topic}/{sha256}").unwrap().names_content() && !KeyTemplate::parse("{sha256}-{uuid}").unwrap().names_content());
    }

    #[test]
    fn templates_that_collide_or_leave_the_prefix_are_refused_with_the_way_out() {
        for template in
            ["", "fixed", "{topic}", "{now:%Y}", "/{uuid}", "a//{uuid}", "../{uuid}", "{uuid}/", "{uuid", "uuid}", "{uid}", "{now:%!}{uuid}"]
        {
            let error = KeyTemplate::parse(template).unwrap_err();
            assert!(error.kind() == Kind::Config && error.way_out().is_some(), "{template}");
        }
    }
}
