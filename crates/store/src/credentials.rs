//! Where credentials come from: the settings, a profile or the default AWS chain, and a role assumed on top.
//!
//! They are kept until a minute before they expire, and dropped with all that was read from files as soon as the store
//! says that they have expired: rotated keys are picked up without a restart.

use crate::StorageSettings;
use aws_config::{
    BehaviorVersion, ConfigLoader, Region, default_provider::credentials::DefaultCredentialsChain, profile::ProfileFileCredentialsProvider,
    provider_config::ProviderConfig, sts::AssumeRoleProvider,
};
use aws_credential_types::{
    Credentials,
    provider::{ProvideCredentials, SharedCredentialsProvider, error::CredentialsError, future},
};
use aws_smithy_runtime_api::client::http::SharedHttpClient;
use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};
use tokio::{
    sync::Mutex,
    time::{Instant, timeout},
};

/// Credentials are renewed this long before they expire.
const RENEW_BEFORE: Duration = Duration::from_secs(60);
/// While those at hand still hold, a failed renewal is not repeated sooner.
const RENEWAL_PAUSE: Duration = Duration::from_secs(10);
/// Longest wait for a provider (an SSO or STS request, a process).
const PROVIDER_WAIT_MAX: Duration = Duration::from_secs(30);
/// Credentials younger than this are not dropped: many requests fail at once when they expire.
const AGE_MIN: Duration = Duration::from_millis(500);

/// What is said when nothing that the default chain asks has credentials: each of them has its own words for it, none of which helps.
const NOTHING_FOUND: &str = "there are none in the settings, the environment, the AWS profile, or the container or instance that this runs on";
/// What a metadata service says to those whom it gives nothing: outside of instances such a name may be answered by anybody.
const METADATA_DISABLED: &str = "IMDS is disabled";

/// Credentials that renew themselves. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Keys(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    source: Source,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    provider: Option<SharedCredentialsProvider>,
    current: Option<(Credentials, Instant)>,
    failed: Option<Instant>,
}

#[derive(Debug)]
struct Source {
    settings: StorageSettings,
    region: Region,
    http: SharedHttpClient,
}

impl Keys {
    pub(crate) fn new(settings: &StorageSettings, region: Region, http: SharedHttpClient) -> Keys {
        let source = Source { settings: settings.clone(), region, http };
        Keys(Arc::new(Shared { source, state: Mutex::default() }))
    }

    /// Forgets the credentials at hand: the store says that they have expired.
    pub(crate) async fn forget(&self) {
        let mut state = self.0.state.lock().await;
        if state.current.as_ref().is_some_and(|(_, since)| since.elapsed() >= AGE_MIN) {
            *state = State::default();
        }
    }

    /// Those at hand, or new ones.
    pub(crate) async fn get(&self) -> Result<Credentials, CredentialsError> {
        let mut state = self.0.state.lock().await;
        let usable = match &state.current {
            Some((current, _)) => match current.expiry().map(|expiry| expiry.duration_since(SystemTime::now())) {
                None => return Ok(current.clone()),
                Some(Ok(left)) if left > RENEW_BEFORE => return Ok(current.clone()),
                Some(Ok(_)) => Some(current.clone()),
                Some(Err(_)) => None,
            },
            None => None,
        };
        if let (Some(usable), Some(failed)) = (&usable, state.failed)
            && failed.elapsed() < RENEWAL_PAUSE
        {
            return Ok(usable.clone());
        }
        let provider = match &state.provider {
            Some(provider) => provider.clone(),
            None => state.provider.insert(self.0.source.provider().await).clone(),
        };
        let loaded = timeout(PROVIDER_WAIT_MAX, provider.provide_credentials()).await;
        match (loaded.unwrap_or_else(|_| Err(CredentialsError::provider_timed_out(PROVIDER_WAIT_MAX))), usable) {
            (Ok(credentials), _) => {
                state.current = Some((credentials.clone(), Instant::now()));
                state.failed = None;
                Ok(credentials)
            }
            (Err(error), Some(usable)) => {
                tracing::warn!(%error, "cannot renew credentials; those at hand hold for a little longer");
                state.failed = Some(Instant::now());
                Ok(usable)
            }
            (Err(error), None) => {
                state.provider = None;
                Err(if self.0.source.found_nothing(&error) { CredentialsError::not_loaded(NOTHING_FOUND) } else { error })
            }
        }
    }
}

impl ProvideCredentials for Keys {
    fn provide_credentials<'a>(&'a self) -> future::ProvideCredentials<'a>
    where
        Self: 'a,
    {
        future::ProvideCredentials::new(self.get())
    }
}

impl Source {
    async fn provider(&self) -> SharedCredentialsProvider {
        let base = self.base().await;
        let Some(role) = &self.settings.role_arn else { return base };
        let config = loader(&self.settings, self.http.clone()).region(self.region.clone()).load().await;
        let name = self.settings.role_session_name.as_deref().unwrap_or("kas3");
        let mut role = AssumeRoleProvider::builder(role).configure(&config).session_name(name);
        if let Some(id) = &self.settings.external_id {
            role = role.external_id(id.expose());
        }
        SharedCredentialsProvider::new(role.build_from_provider(base).await)
    }

    /// Whether the default chain was asked, and nobody in it has credentials.
    fn found_nothing(&self, error: &CredentialsError) -> bool {
        let settings = &self.settings;
        let asked = settings.access_key_id.is_none() && settings.profile.is_none() && settings.role_arn.is_none();
        let disabled = || chain(error).contains(METADATA_DISABLED);
        asked && (matches!(error, CredentialsError::CredentialsNotLoaded(_)) || disabled())
    }

    async fn base(&self) -> SharedCredentialsProvider {
        let settings = &self.settings;
        if let (Some(id), Some(secret)) = (&settings.access_key_id, &settings.secret_access_key) {
            let token = settings.session_token.as_ref().map(|token| token.expose().to_owned());
            return SharedCredentialsProvider::new(Credentials::new(id.expose(), secret.expose(), token, None, "settings"));
        }
        let config = ProviderConfig::without_region().with_region(Some(self.region.clone())).with_http_client(self.http.clone());
        match &settings.profile {
            // The chain would let keys of the environment win over a profile that was asked for.
            Some(profile) => {
                SharedCredentialsProvider::new(ProfileFileCredentialsProvider::builder().profile_name(profile).configure(&config).build())
            }
            None => {
                let chain = DefaultCredentialsChain::builder().region(self.region.clone()).configure(config).build().await;
                SharedCredentialsProvider::new(chain)
            }
        }
    }
}

/// What the environment and the profile say, reached through our own HTTP client.
pub(crate) fn loader(settings: &StorageSettings, http: SharedHttpClient) -> ConfigLoader {
    let loader = aws_config::defaults(BehaviorVersion::latest()).http_client(http);
    match &settings.profile {
        Some(profile) => loader.profile_name(profile),
        None => loader,
    }
}

/// Whether the keys stand in the settings, where nothing can renew them.
pub(crate) fn are_fixed(settings: &StorageSettings) -> bool {
    settings.access_key_id.is_some() && settings.role_arn.is_none()
}

/// The messages of an error and its causes.
pub(crate) fn chain(error: &(dyn std::error::Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}

/// What missing credentials are told as, and the way out.
pub(crate) const MISSING_HINT: &str =
    "set `AWS_ACCESS_KEY_ID` and `AWS_SECRET_ACCESS_KEY` in the environment, or `storage: {profile: …}` or its keys, or run where a role gives them";

#[cfg(test)]
mod tests {
    use super::*;

    fn source(settings: StorageSettings) -> Source {
        let http = crate::s3::client::http_client(&settings).expect("a client");
        Source { settings, region: Region::from_static("us-east-1"), http }
    }

    #[test]
    fn a_chain_in_which_nobody_has_credentials_is_told_from_one_that_failed() {
        let nothing = CredentialsError::not_loaded("no providers in chain provided credentials");
        let disabled =
            CredentialsError::provider_error("failed to load IMDS session token: IMDS is disabled or the caller has insufficient permissions");
        let broken = CredentialsError::provider_error("the SSO session has expired");
        let chain = source(StorageSettings::default());
        assert!(chain.found_nothing(&nothing) && chain.found_nothing(&disabled) && !chain.found_nothing(&broken));
        let profile = source(StorageSettings { profile: Some("lake".to_owned()), ..StorageSettings::default() });
        assert!(!profile.found_nothing(&nothing), "the profile's own words say more");
    }
}
