//! URLs of sink and ledger, and whether the storage settings fit them.

use crate::{
    error::{Error, Result},
    suggest::nearest,
};
use kas3_store::{Scheme, StorageSettings, StoreUrl, UrlFault};

/// A URL without its trailing slash; `key` is where it stands.
///
/// # Errors
/// `Config`, naming the key and what is wrong.
pub(crate) fn check_url(key: &str, url: &str) -> Result<String> {
    let example = "write `s3://bucket/prefix` or `file:///folder`";
    let wrong = |what: &str| Error::config(format!("`{key}` is `{url}`, {what}"));
    let parsed = StoreUrl::parse(url).map_err(|fault| match fault {
        UrlFault::NoScheme if url.starts_with('/') => wrong("which has no scheme").hint(format!("a folder is `file://{url}`")),
        UrlFault::NoScheme => wrong("which is no URL").hint(example),
        UrlFault::Relative => wrong("which is no absolute path").hint("write three slashes, as `file:///folder`"),
        UrlFault::UnknownScheme { scheme, rest } => {
            let error = wrong("whose scheme kas3 does not know");
            match nearest(scheme, &Scheme::NAMES) {
                Some(near) => error.hint(format!("did you mean `{near}://{rest}`?")),
                None => error.hint(example),
            }
        }
    })?;
    if parsed.scheme() == Scheme::S3 {
        if parsed.bucket().is_empty() {
            return Err(wrong("which names no bucket").hint(example));
        }
        let legal = |character: char| character.is_ascii_alphanumeric() || matches!(character, '-' | '.' | '_');
        if !parsed.bucket().chars().all(legal) {
            return Err(wrong("whose bucket has characters that no bucket has").hint(example));
        }
    }
    let path = parsed.path().trim_end_matches('/');
    if path.split('/').any(|segment| matches!(segment, "." | "..")) || path.contains("//") || path.chars().any(char::is_control) {
        return Err(wrong("whose path has an empty folder, `.`, `..` or a control character"));
    }
    if path.split('/').any(|segment| segment == "_kas3") {
        return Err(wrong("which lies inside `_kas3`, where the ledger lies").hint("name the folder that holds `_kas3`"));
    }
    Ok(parsed.to_string())
}

/// Storage settings that contradict each other; `key` is where they stand.
pub(crate) fn check_storage(key: &str, storage: &StorageSettings, urls: &[String]) -> Result<()> {
    if !urls.iter().any(|url| StoreUrl::parse(url).is_ok_and(|url| url.scheme() == Scheme::S3)) {
        return Ok(());
    }
    if let Some(endpoint) = &storage.endpoint {
        let http = endpoint.starts_with("http://");
        if !http && !endpoint.starts_with("https://") {
            return Err(
                Error::config(format!("`{key}.endpoint` is `{endpoint}`, which is no URL")).hint("write `https://host` or `http://host:port`")
            );
        }
        if http && !storage.allow_http {
            return Err(Error::config(format!("`{key}.endpoint` is `{endpoint}`, but `{key}.allow_http` is not set"))
                .hint("set `allow_http: true` to send data without TLS, or use `https://`"));
        }
    }
    for (one, other, name, other_name) in [
        (&storage.access_key_id, &storage.secret_access_key, "access_key_id", "secret_access_key"),
        (&storage.secret_access_key, &storage.access_key_id, "secret_access_key", "access_key_id"),
        (&storage.session_token, &storage.access_key_id, "session_token", "access_key_id"),
    ] {
        if one.is_some() && other.is_none() {
            return Err(Error::config(format!("`{key}.{name}` is set, but `{key}.{other_name}` is not"))
                .hint("set both, or neither to use the default AWS credentials"));
        }
    }
    if storage.access_key_id.is_some() && storage.profile.is_some() {
        return Err(Error::config(format!("`{key}.access_key_id` and `{key}.profile` contradict each other")).hint("set one of them"));
    }
    if storage.external_id.is_some() && storage.role_arn.is_none() {
        return Err(
            Error::config(format!("`{key}.external_id` is set, but `{key}.role_arn` is not")).hint("an external id belongs to a role to assume")
        );
    }
    Ok(())
}
