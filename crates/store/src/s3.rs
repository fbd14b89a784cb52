//! The store on S3: `s3://bucket/prefix`, of AWS or a compatible store.
//!
//! Conditions are the store's own: `If-None-Match: *` creates and completes, `If-Match: <ETag>` swaps. Requests for objects are
//! sent by ourselves, in [`wire`], rare ones by the SDK; each once: retries are ours, in [`crate::retry`], so that they are bounded
//! and counted in one place.

pub(crate) mod client;
mod failures;
mod objects;
mod rules;
mod uploads;
mod wire;

use crate::{
    Class, Encryption, Error, Kind, Observer, PutOptions, Request, Result, StorageSettings, StoreUrl, Version,
    attempt::FailedAttempt,
    credentials::{self, Keys},
    options::{TAGS_MAX, too_many_tags},
    paths,
    retry::Retries,
    urls,
};
use aws_sdk_s3::Client;
use failures::Reply;
pub(crate) use objects::Remainder;
use std::{collections::BTreeMap, sync::Arc};
use tokio::sync::Semaphore;
use wire::Wire;

/// A bucket at a prefix, opened.
pub(crate) struct S3 {
    wire: Wire,
    client: Client,
    keys: Keys,
    bucket: String,
    /// Empty, or ends in `/`.
    root: String,
    url: String,
    /// What answers, for messages.
    endpoint: String,
    fixed_keys: bool,
    retries: Retries,
    permits: Semaphore,
    writes: Writes,
}

/// How objects are written, from the settings.
struct Writes {
    owner: Option<String>,
    checksum: crate::Checksum,
    sse: Option<&'static str>,
    sse_key: Option<String>,
    bucket_key: Option<bool>,
    storage_class: Option<String>,
    acl: Option<String>,
    tags: BTreeMap<String, String>,
}

impl Writes {
    fn new(settings: &StorageSettings, endpoint: bool) -> Writes {
        Writes {
            owner: settings.expected_bucket_owner.clone(),
            checksum: settings.checksum(endpoint),
            sse: settings.sse.map(Encryption::name),
            sse_key: settings.sse_kms_key_id.clone(),
            bucket_key: settings.bucket_key,
            storage_class: settings.storage_class.clone(),
            acl: settings.acl.clone(),
            tags: settings.tags.clone(),
        }
    }

    /// Tags of an object, as a query: those of the settings are for data, its own take their place.
    fn tagging(&self, options: &PutOptions) -> Result<Option<String>> {
        let settings = self.tags.iter().filter(|_| options.class == Class::Data);
        let own = options.tags.iter().map(|(key, value)| (key, value));
        let tags: BTreeMap<&String, &String> = settings.chain(own).collect();
        if tags.len() > TAGS_MAX {
            return Err(too_many_tags(tags.len()));
        }
        let tags: Vec<String> = tags.into_iter().map(|(key, value)| format!("{}={}", paths::query_encode(key), paths::query_encode(value))).collect();
        Ok((!tags.is_empty()).then(|| tags.join("&")))
    }
}

impl S3 {
    /// Opens an `s3://` URL. Asks the environment for region and keys, but the store for nothing.
    pub(crate) async fn open(url: &str, settings: &StorageSettings, observer: Arc<dyn Observer>) -> Result<S3> {
        settings.check()?;
        let (bucket, root) = urls::bucket_and_root(url)?;
        let endpoint = client::endpoint(settings)?;
        let http = client::http_client(settings)?;
        let config = client::config(settings, endpoint.as_deref(), http.clone()).await;
        let Some(region) = config.region().cloned() else {
            let error = Error::new(Kind::Config, format!("no region is known for `{url}`"));
            return Err(error.hint("set `region`, `AWS_REGION`, or a region in the profile"));
        };
        let keys = Keys::new(settings, region.clone(), http);
        let client = client::client(&config, settings, endpoint.as_deref(), keys.clone());
        let address = (bucket.as_str(), client::address(&config, endpoint.as_deref()), client::path_style(settings, endpoint.as_deref()));
        let timeouts = (settings.read_timeout(), settings.attempt_timeout());
        let wire = Wire::new(client::connector(settings)?, &config, address, keys.clone(), timeouts).await?;
        let endpoint_name = endpoint.clone().unwrap_or_else(|| format!("s3.{region}.amazonaws.com"));
        let breaker = observer.breakers().map(|breakers| breakers.of(format!("{endpoint_name}/{bucket}")));
        Ok(S3 {
            wire,
            client,
            keys,
            url: StoreUrl::s3(&bucket, &root).to_string(),
            bucket,
            root,
            endpoint: endpoint_name,
            fixed_keys: credentials::are_fixed(settings),
            retries: Retries { attempts_max: settings.attempts_max(), time_max: settings.retry_time(), observer, breaker },
            permits: Semaphore::new(settings.part_permits()),
            writes: Writes::new(settings, endpoint.is_some()),
        })
    }

    pub(crate) fn url(&self) -> &str {
        &self.url
    }

    /// The key of a path.
    fn key(&self, path: &str) -> Result<String> {
        let key = format!("{}{path}", self.root);
        if key.len() > paths::PATH_BYTES_MAX {
            return Err(Error::new(Kind::Config, format!("key `{key}` is longer than {} bytes", paths::PATH_BYTES_MAX)));
        }
        Ok(key)
    }

    /// The path of a key that the store listed; `None` for what no path of ours can be, as a console's folder marker `a/`.
    fn path<'a>(&self, key: &'a str) -> Option<&'a str> {
        key.strip_prefix(&self.root).filter(|path| paths::check(path).is_ok())
    }

    /// What a failed request means, after telling the credentials when they were at fault.
    async fn failure(&self, request: Request, key: &str, reply: Reply) -> FailedAttempt {
        if reply.blames_keys() {
            self.keys.forget().await;
        }
        reply.failure(self, request, key)
    }
}

/// ETags travel in quotes; versions hold them without.
fn version(etag: Option<&str>) -> Version {
    Version(etag.unwrap_or_default().trim_matches('"').to_owned())
}
