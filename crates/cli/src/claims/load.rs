//! Where the settings come from: a file, or the environment.

use super::{
    environment,
    settings::{Claims, ClaimsSettings, Origin, PUBLIC, hide_properties},
};
use crate::{configuration, redact};
use kas3_sink::config;
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
    let text = configuration::text_of(file, "`docs/claim-check.md` has one to begin with")?;
    let named = |error: anyhow::Error| error.context(format!("configuration `{}`", file.display()));
    let loaded = config::load_as::<ClaimsSettings>(&text, &|name| std::env::var(name).ok(), "it needs at least `claim_check` and `kafka`", &PUBLIC);
    let (settings, mut redactor) = loaded.map_err(|error| named(error.into()))?;
    hide_properties(&settings.kafka, &mut redactor);
    redact::install(redactor);
    let http_is_wanted = settings.http != "off";
    Ok(Claims { settings, origin: Origin::File, http_is_wanted, poll_timeout: Duration::from_millis(500) })
}
