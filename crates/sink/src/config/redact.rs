//! Hides secrets in texts that people see: logs, errors, `/api`.

use super::Settings;
use crate::{error::Error, properties};
use base64::{Engine, prelude::BASE64_STANDARD};
use std::{borrow::Cow, fmt};

/// Knows the secrets of a configuration and hides them.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Redactor {
    /// Longest first, so that a secret that holds another one is hidden whole.
    secrets: Vec<String>,
}

/// Shorter values would turn up in words that have nothing to do with them.
const SECRET_BYTES_MIN: usize = 6;

impl fmt::Debug for Redactor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Redactor({} secrets)", self.secrets.len())
    }
}

impl Redactor {
    /// Hides the secret settings: keys of the store and librdkafka's properties that hold secrets.
    pub fn of(settings: &Settings) -> Self {
        let mut redactor = Redactor::default();
        let per_topic = settings.topics.0.iter().filter_map(|(_, section)| section.transforms.as_ref());
        let transforms = std::iter::once(&settings.transforms).chain(per_topic).flatten();
        let stores: Vec<_> =
            std::iter::once(settings.sink.settings.storage()).chain(transforms.filter_map(|transform| transform.settings.storage())).collect();
        for storage in &stores {
            let keys = [&storage.access_key_id, &storage.secret_access_key, &storage.session_token, &storage.external_id, &storage.proxy];
            keys.into_iter().flatten().for_each(|secret| redactor.hide(secret.expose()));
        }
        settings.source.kafka.iter().filter(|(name, _)| properties::is_secret(name)).for_each(|(_, value)| redactor.hide(value));
        let proxies = stores.iter().filter_map(|storage| storage.proxy.as_ref()).map(kas3_store::Secret::expose);
        let urls = settings.source.kafka.values().map(String::as_str).chain(proxies);
        urls.for_each(|url| redactor.hide_user_info(url));
        redactor
    }

    /// Hides the password in a text such as `https://user:password@host/`, and the header that a client makes of it.
    fn hide_user_info(&mut self, url: &str) {
        let Some((_, rest)) = url.split_once("://") else { return };
        let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
        let Some((user_info, _)) = authority.rsplit_once('@') else { return };
        self.hide(&BASE64_STANDARD.encode(user_info));
        let password = user_info.split_once(':').map_or(user_info, |(_, password)| password);
        self.hide(password);
    }

    /// Hides `secret` too, and the forms that it takes in JSON, in URLs and in Rust's debug texts. Values of less than six
    /// bytes are not looked for.
    pub fn hide(&mut self, secret: &str) {
        let json = serde_json::to_string(secret).unwrap_or_default();
        let escaped = json.trim_matches('"').to_owned();
        let debugged = format!("{secret:?}").trim_matches('"').to_owned();
        let in_url: String = secret.bytes().map(url_form).collect();
        let lines = secret.lines().map(|line| line.trim().to_owned()).filter(|line| line.len() >= 2 * SECRET_BYTES_MIN);
        for form in lines.chain([secret.to_owned(), escaped, debugged, in_url]) {
            if form.len() >= SECRET_BYTES_MIN && !self.secrets.contains(&form) {
                self.secrets.push(form);
            }
        }
        self.secrets.sort_by_key(|form| std::cmp::Reverse(form.len()));
    }

    /// Hides what `other` hides too.
    pub(super) fn merge(&mut self, other: &Redactor) {
        other.secrets.iter().for_each(|secret| self.hide(secret));
    }

    /// `text` with `***` for every secret.
    pub fn redact<'a>(&self, text: &'a str) -> Cow<'a, str> {
        let mut shown = Cow::Borrowed(text);
        for secret in &self.secrets {
            if shown.contains(secret.as_str()) {
                shown = Cow::Owned(shown.replace(secret.as_str(), "***"));
            }
        }
        shown
    }

    /// `error` with `***` for every secret in it; its causes become part of its message when they hold one.
    pub fn redact_error(&self, error: Error) -> Error {
        let chain = error.chain();
        let hint = error.way_out().unwrap_or_default().to_owned();
        let (shown, shown_hint) = (self.redact(&chain), self.redact(&hint));
        if shown == chain && shown_hint == hint {
            return error;
        }
        let redacted = Error::new(error.kind(), shown);
        if hint.is_empty() { redacted } else { redacted.hint(shown_hint) }
    }
}

fn url_form(byte: u8) -> String {
    match byte {
        b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => char::from(byte).to_string(),
        _ => format!("%{byte:02X}"),
    }
}
