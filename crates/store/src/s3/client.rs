//! The SDK's client and connector: endpoint, TLS, proxy, timeouts; no retries and no checksums of the SDK's own.

use crate::{Error, Kind, Result, StorageSettings, credentials};
use aws_config::{
    Region, SdkConfig, environment::region::EnvironmentVariableRegionProvider, imds::region::ImdsRegionProvider, meta::region::RegionProviderChain,
    profile::region::ProfileFileRegionProvider, provider_config::ProviderConfig,
};
use aws_sdk_s3::{
    Client, Config,
    config::{IdentityCache, RequestChecksumCalculation, ResponseChecksumValidation, retry::RetryConfig, timeout::TimeoutConfig},
};
use aws_smithy_http_client::{
    Builder, Connector,
    proxy::ProxyConfig,
    tls::{self, TlsContext, TrustStore, rustls_provider::CryptoMode},
};
use aws_smithy_runtime_api::client::http::{HttpConnectorSettings, SharedHttpClient};
use rustls::pki_types::{CertificateDer, pem::PemObject};

const TLS: tls::Provider = tls::Provider::Rustls(CryptoMode::Ring);

/// Where instances and containers get their credentials: never through a proxy.
const METADATA_HOSTS: &str = "169.254.169.254,169.254.170.2,169.254.170.23,[fd00:ec2::254],[fd00:ec2::23]";

/// The endpoint that the settings or the environment name; `None`: AWS's own.
pub(super) fn endpoint(settings: &StorageSettings) -> Result<Option<String>> {
    let from_environment =
        || ["AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL"].iter().find_map(|name| std::env::var(name).ok().filter(|url| !url.is_empty()));
    let Some(endpoint) = settings.endpoint.clone().or_else(from_environment) else { return Ok(None) };
    let wrong = |why: &str, hint: &str| Err(Error::new(Kind::Config, format!("`endpoint` `{endpoint}` {why}")).hint(hint));
    let (scheme, host) = match endpoint.split_once("://") {
        Some((scheme, rest)) => (scheme, rest.split('/').next().unwrap_or_default()),
        None => return wrong("has no scheme", "write `https://host:port`"),
    };
    if host.is_empty() || host.contains(char::is_whitespace) {
        return wrong("names no host", "write `https://host:port`");
    }
    if host.contains('@') {
        return Err(Error::new(Kind::Config, "`endpoint` holds a user name or password").hint("use `access_key_id` and `secret_access_key`"));
    }
    match scheme {
        "https" => {}
        "http" if settings.allow_http => {}
        "http" => return wrong("is not encrypted, and `allow_http` is not set", "set `allow_http: true`, or write `https://` in `endpoint`"),
        _ => return wrong("is neither http nor https", "write `https://host:port`"),
    }
    let trimmed = endpoint.trim_end_matches('/');
    // the SDK's rules put the bucket right behind a path
    let path = trimmed.split_once("://").is_some_and(|(_, rest)| rest.contains('/'));
    Ok(Some(format!("{trimmed}{}", if path { "/" } else { "" })))
}

/// One HTTP client for the store's rare requests and for whoever gives credentials.
pub(crate) fn http_client(settings: &StorageSettings) -> Result<SharedHttpClient> {
    let (tls, proxy) = (tls(settings)?, proxy(settings)?);
    Ok(Builder::new().build_with_connector_fn(move |settings, components| {
        let mut connector = Connector::builder();
        connector.set_connector_settings(settings.cloned());
        if let Some(components) = components {
            connector.set_sleep_impl(components.sleep_impl());
        }
        connector.proxy_config(proxy.clone()).tls_provider(TLS).tls_context(tls.clone()).build()
    }))
}

/// The same way to the store without a client around it.
pub(super) fn connector(settings: &StorageSettings) -> Result<Connector> {
    let timeouts = HttpConnectorSettings::builder().connect_timeout(settings.connect_timeout()).read_timeout(settings.read_timeout());
    let connector = Connector::builder().connector_settings(timeouts.build());
    Ok(connector.proxy_config(proxy(settings)?).tls_provider(TLS).tls_context(tls(settings)?).build())
}

fn tls(settings: &StorageSettings) -> Result<TlsContext> {
    let tls = TlsContext::builder().with_trust_store(trust_store(settings)?).build();
    tls.map_err(|error| Error::new(Kind::Config, "cannot set up TLS").source(error))
}

/// The system's authorities and those of `ca_file`, which is looked at here: the SDK would panic on a bad one.
fn trust_store(settings: &StorageSettings) -> Result<TrustStore> {
    let store = TrustStore::default();
    let Some(file) = &settings.ca_file else { return Ok(store) };
    let wrong = |why: &str| Error::new(Kind::Config, format!("`ca_file` `{file}` {why}")).hint("name a PEM file of certificate authorities");
    let pem = std::fs::read(file).map_err(|error| wrong("cannot be read").source(error))?;
    let mut roots = rustls::RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(&pem) {
        let certificate = certificate.map_err(|error| wrong("is not PEM").source(error))?;
        roots.add(certificate).map_err(|error| wrong("holds a certificate that cannot be read").source(error))?;
    }
    if roots.is_empty() {
        return Err(wrong("holds no certificate"));
    }
    Ok(store.with_pem_certificate(pem))
}

fn proxy(settings: &StorageSettings) -> Result<ProxyConfig> {
    let Some(url) = &settings.proxy else { return Ok(ProxyConfig::from_env()) };
    // The URL may hold a password: it is not repeated.
    let proxy = ProxyConfig::all(url.expose()).map_err(|_| Error::new(Kind::Config, "`proxy` is not a URL").hint("write `http://host:port`"))?;
    let excluded = ["NO_PROXY", "no_proxy"].iter().find_map(|name| std::env::var(name).ok());
    Ok(proxy.no_proxy(excluded.map_or_else(|| METADATA_HOSTS.to_owned(), |hosts| format!("{hosts},{METADATA_HOSTS}"))))
}

/// What environment and profile say besides.
pub(crate) async fn config(settings: &StorageSettings, endpoint: Option<&str>, http: SharedHttpClient) -> SdkConfig {
    let named = RegionProviderChain::first_try(settings.region.clone().map(Region::new));
    let profile = settings.profile.as_deref();
    let files = ProfileFileRegionProvider::builder();
    let files = profile.map_or_else(ProfileFileRegionProvider::new, |profile| files.profile_name(profile).build());
    let named = named.or_else(EnvironmentVariableRegionProvider::new()).or_else(files);
    let region = match endpoint {
        // An endpoint of one's own is not asked for on an instance's metadata service, which would cost seconds elsewhere.
        Some(_) => named.or_else(Region::from_static("us-east-1")),
        // The SDK's default chain ends the same way, but makes its client at once and without an HTTP of ours: it panics.
        None => {
            let through = ProviderConfig::without_region().with_http_client(http.clone());
            named.or_else(ImdsRegionProvider::builder().configure(&through).build())
        }
    };
    credentials::loader(settings, http).region(region).load().await
}

/// The endpoint that is not AWS's own, if there is one.
pub(super) fn address<'a>(config: &'a SdkConfig, endpoint: Option<&'a str>) -> Option<&'a str> {
    endpoint.or_else(|| config.endpoint_url())
}

pub(super) fn path_style(settings: &StorageSettings, endpoint: Option<&str>) -> bool {
    settings.path_style.unwrap_or(endpoint.is_some())
}

pub(super) fn client(config: &SdkConfig, settings: &StorageSettings, endpoint: Option<&str>, keys: credentials::Keys) -> Client {
    let timeouts = TimeoutConfig::builder()
        .connect_timeout(settings.connect_timeout())
        .read_timeout(settings.read_timeout())
        .operation_attempt_timeout(settings.attempt_timeout())
        .build();
    let mut builder = aws_sdk_s3::config::Builder::from(config)
        .retry_config(RetryConfig::disabled())
        .timeout_config(timeouts)
        .credentials_provider(keys)
        // The keys keep themselves, and can be told to forget.
        .identity_cache(IdentityCache::no_cache())
        // Ours are set by hand: those of the SDK may come as trailers with `Content-Encoding: aws-chunked`.
        .request_checksum_calculation(RequestChecksumCalculation::WhenRequired)
        .response_checksum_validation(ResponseChecksumValidation::WhenRequired)
        .force_path_style(path_style(settings, endpoint));
    builder.set_endpoint_url(address(config, endpoint).map(str::to_owned));
    let config: Config = builder.build();
    Client::from_conf(config)
}

#[cfg(test)]
mod tests {
    use crate::{StorageSettings, Store, Unobserved};
    use std::sync::Arc;

    #[tokio::test]
    async fn a_bucket_of_aws_itself_opens_with_no_endpoint_named() {
        let keys = ["access_key_id", "secret_access_key"].map(|name| (name.to_owned(), "made-up".into()));
        let settings: serde_json::Map<_, serde_json::Value> = keys.into_iter().chain([("region".to_owned(), "eu-central-1".into())]).collect();
        let settings: StorageSettings = serde_json::from_value(settings.into()).unwrap();
        let store = Store::open("s3://bucket/prefix", &settings, Arc::new(Unobserved)).await.unwrap();
        assert_eq!(store.url(), "s3://bucket/prefix");
    }
}
