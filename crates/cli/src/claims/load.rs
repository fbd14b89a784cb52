//! Where the settings come from: a file, or the environment.

use super::{
    environment,
    settings::{Claims, ClaimsSettings, Origin, PUBLIC, hide_properties},
};
use crate::{
    file::{Of, is_rather, text_of},
    redact,
};
use kas3_sink::config::{self, Settings};
use std::{path::Path, time::Duration};

/// Reads the settings of `file`, or of the environment without one.
///
/// # Errors
/// `Config`, naming the key or the variable, and the way out.
pub(crate) fn load(file: Option<&Path>) -> anyhow::Result<Claims> {
    let Some(file) = file else {
        let (claims, redactor) = environment::read(&|name| std::env::var(name).ok())?;
        redact::install(redactor);
        return Ok(claims);
    };
    let text = text_of(file, "`docs/claim-check.md` has one to begin with")?;
    let named = |error: anyhow::Error| error.context(format!("configuration `{}`", file.display()));
    let loaded = config::load_as::<ClaimsSettings>(&text, &|name| std::env::var(name).ok(), "it needs at least `claim_check` and `kafka`", &PUBLIC);
    let told = |error: kas3_sink::Error| if is_rather::<Settings, ClaimsSettings>(&text) { Of::Pipeline.told(file) } else { named(error.into()) };
    let (settings, mut redactor) = loaded.map_err(told)?;
    hide_properties(&settings.kafka, &mut redactor);
    redact::install(redactor);
    let http_is_wanted = settings.http != "off";
    Ok(Claims { settings, origin: Origin::File, http_is_wanted, poll_timeout: Duration::from_millis(500) })
}
