//! URLs of sink and ledger, and whether the storage settings fit them.

use crate::{
    error::{Error, Kind, Result},
    suggest,
};
use kas3_store::StorageSettings;

fn config(message: impl Into<String>) -> Error {
    Error::new(Kind::Config, message)
}

/// A URL without its trailing slash; `key` is where it stands.
///
/// # Errors
/// `Config`, naming the key and what is wrong.
pub(crate) fn check_url(key: &str, url: &str) -> Result<String> {
    let example = "write `s3://bucket/prefix` or `file:///folder`";
    let wrong = |what: &str| config(format!("`{key}` is `{url}`, {what}"));
    let Some((scheme, rest)) = url.split_once("://") else {
        return Err(match url.starts_with('/') {
            true => wrong("which has no scheme").hint(format!("a folder is `file://{url}`")),
            false => wrong("which is no URL").hint(example),
        });
    };
    let path = match scheme {
        "s3" => {
            let (bucket, prefix) = rest.split_once('/').unwrap_or((rest, ""));
            if bucket.is_empty() {
                return Err(wrong("which names no bucket").hint(example));
            }
            let legal = |character: char| character.is_ascii_alphanumeric() || matches!(character, '-' | '.' | '_');
            if !bucket.chars().all(legal) {
                return Err(wrong("whose bucket has characters that no bucket has").hint(example));
            }
            prefix
        }
        "file" => rest.strip_prefix('/').ok_or_else(|| wrong("which is no absolute path").hint("write three slashes, as `file:///folder`"))?,
        _ => {
            let schemes = ["s3", "file"];
            let error = wrong("whose scheme kas3 does not know");
            return Err(match suggest::nearest(scheme, &schemes) {
                Some(near) => error.hint(format!("did you mean `{near}://{rest}`?")),
                None => error.hint(example),
            });
        }
    };
    let path = path.trim_end_matches('/');
    if path.split('/').any(|segment| matches!(segment, "." | "..")) || path.contains("//") || path.chars().any(char::is_control) {
        return Err(wrong("whose path has an empty folder, `.`, `..` or a control character"));
    }
    if path.split('/').any(|segment| segment == "_kas3") {
        return Err(wrong("which lies inside `_kas3`, where the ledger lies").hint("name the folder that holds `_kas3`"));
    }
    let url = url.trim_end_matches('/');
    // The root of the file system keeps its slash.
    Ok(if url == "file:" { "file:///".to_owned() } else { url.to_owned() })
}

/// Storage settings that contradict each other; `key` is where they stand.
pub(crate) fn check_storage(key: &str, storage: &StorageSettings, urls: &[String]) -> Result<()> {
    if !urls.iter().any(|url| url.starts_with("s3://")) {
        return Ok(());
    }
    if let Some(endpoint) = &storage.endpoint {
        let http = endpoint.starts_with("http://");
        if !http && !endpoint.starts_with("https://") {
            return Err(config(format!("`{key}.endpoint` is `{endpoint}`, which is no URL")).hint("write `https://host` or `http://host:port`"));
        }
        if http && !storage.allow_http {
            return Err(config(format!("`{key}.endpoint` is `{endpoint}`, but `{key}.allow_http` is not set"))
                .hint("set `allow_http: true` to send data without TLS, or use `https://`"));
        }
    }
    for (one, other, name, other_name) in [
        (&storage.access_key_id, &storage.secret_access_key, "access_key_id", "secret_access_key"),
        (&storage.secret_access_key, &storage.access_key_id, "secret_access_key", "access_key_id"),
        (&storage.session_token, &storage.access_key_id, "session_token", "access_key_id"),
    ] {
        if one.is_some() && other.is_none() {
            return Err(config(format!("`{key}.{name}` is set, but `{key}.{other_name}` is not"))
                .hint("set both, or neither to use the default AWS credentials"));
        }
    }
    if storage.access_key_id.is_some() && storage.profile.is_some() {
        return Err(config(format!("`{key}.access_key_id` and `{key}.profile` contradict each other")).hint("set one of them"));
    }
    if storage.external_id.is_some() && storage.role_arn.is_none() {
        return Err(config(format!("`{key}.external_id` is set, but `{key}.role_arn` is not")).hint("an external id belongs to a role to assume"));
    }
    Ok(())
}
