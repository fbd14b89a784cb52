//! Keeps secrets of the configuration out of everything that is printed or logged.

use kas3_sink::config::Redactor;
use std::{borrow::Cow, sync::OnceLock};

static REDACTOR: OnceLock<Redactor> = OnceLock::new();

/// From now on nothing is printed or logged with these secrets in it. The first configuration of a process counts.
pub(crate) fn install(redactor: Redactor) {
    let _ = REDACTOR.set(redactor);
}

/// The text without secrets.
pub(crate) fn text(text: &str) -> Cow<'_, str> {
    match REDACTOR.get() {
        Some(redactor) => redactor.redact(text),
        None => Cow::Borrowed(text),
    }
}
