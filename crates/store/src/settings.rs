//! How a store is reached, as users write it. The doc comment of a field is its manual text.

use crate::{Error, Kind, Result, options::TAGS_MAX};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::{collections::BTreeMap, fmt, time::Duration};

/// A value that is never shown: its Debug and its serialised form are `***`.
#[derive(Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(transparent)]
pub struct Secret(String);

impl Secret {
    /// Hides `value`.
    pub fn new(value: impl Into<String>) -> Self {
        Secret(value.into())
    }
    /// The value itself, for the one who signs with it.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

impl Serialize for Secret {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str("***")
    }
}

/// How the store is reached. Credentials: the default AWS chain (environment, profile with SSO or `credential_process`, web
/// identity, container, instance), or what is named here. Nothing of this applies to `file://`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct StorageSettings {
    /// Endpoint of an S3-compatible store, as `http://localhost:9000`. By default `AWS_ENDPOINT_URL_S3` or `AWS_ENDPOINT_URL`
    /// from the environment, else AWS's own.
    pub endpoint: Option<String>,
    /// Region, as `eu-central-1`; by default from the environment or the profile, and `us-east-1` with an `endpoint`.
    pub region: Option<String>,
    /// Allow an endpoint without TLS. Default: false.
    pub allow_http: bool,
    /// Access key instead of the default chain; needs `secret_access_key`.
    pub access_key_id: Option<Secret>,
    /// Secret of the access key.
    pub secret_access_key: Option<Secret>,
    /// Session token of temporary keys.
    pub session_token: Option<Secret>,
    /// Profile of the AWS configuration files; used even if the environment holds keys.
    pub profile: Option<String>,
    /// Role to assume with the credentials found, as `arn:aws:iam::123456789012:role/kas3`.
    pub role_arn: Option<String>,
    /// External id that the role's trust policy asks for.
    pub external_id: Option<Secret>,
    /// Name of the assumed role's session, seen in audit logs. Default: `kas3`.
    pub role_session_name: Option<String>,
    /// Put the bucket into the path of requests instead of the host name. Default: true with an `endpoint`, false otherwise.
    pub path_style: Option<bool>,
    /// PEM file of certificate authorities to trust besides the system's own.
    pub ca_file: Option<String>,
    /// Proxy for all requests, as `http://user:password@proxy:3128`. By default `HTTPS_PROXY`, `HTTP_PROXY`, `ALL_PROXY` and
    /// `NO_PROXY` of the environment apply; `NO_PROXY` applies here too.
    pub proxy: Option<Secret>,
    /// Server-side encryption of every object: `AES256`, `aws:kms` or `aws:kms:dsse`. By default what the bucket says.
    pub sse: Option<Encryption>,
    /// Key for `sse: aws:kms`, as id, ARN or alias. By default the account's own key for S3.
    pub sse_kms_key_id: Option<String>,
    /// Use an S3 Bucket Key with `sse: aws:kms`, which saves requests to KMS. By default what the bucket says.
    pub bucket_key: Option<bool>,
    /// Storage class of data files, as `STANDARD_IA` or `INTELLIGENT_TIERING`; ledger objects stay in the bucket's default.
    pub storage_class: Option<String>,
    /// Canned ACL of data files, as `bucket-owner-full-control`. Needs `s3:PutObjectAcl`.
    pub acl: Option<String>,
    /// Tags of data files, at most ten. Needs `s3:PutObjectTagging`.
    pub tags: BTreeMap<String, String>,
    /// Checksum on every part, object and completion: `none`, `crc32`, `crc32c`, `crc64nvme` or `sha256`. Buckets with Object
    /// Lock demand one; some S3-compatible stores refuse them. Default: `crc32c` on AWS, `none` with an `endpoint`.
    pub checksum: Option<Checksum>,
    /// Account that must own the bucket, as `123456789012`: every request to another's bucket fails.
    pub expected_bucket_owner: Option<String>,
    /// Attempts of one request. Default: 8. Swaps of ledger heads are never repeated blindly: the head is read first.
    pub max_attempts: Option<u32>,
    /// Milliseconds after which a request is not tried again. Default: 180000.
    pub retry_time_ms: Option<u64>,
    /// Milliseconds to connect. Default: 5000.
    pub connect_timeout_ms: Option<u64>,
    /// Milliseconds until the answer of one attempt begins, sending included. Default: 120000.
    pub read_timeout_ms: Option<u64>,
    /// Milliseconds of one attempt with its whole answer. Default: 180000.
    pub attempt_timeout_ms: Option<u64>,
    /// Parts in flight, of 8 MiB each; counts against `memory`. Default: 16.
    pub part_permits: Option<usize>,
}

/// Server-side encryption.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
pub enum Encryption {
    /// Keys of S3 itself.
    #[serde(rename = "AES256")]
    Aes256,
    /// A key of AWS KMS.
    #[serde(rename = "aws:kms")]
    AwsKms,
    /// A key of AWS KMS, two layers.
    #[serde(rename = "aws:kms:dsse")]
    AwsKmsDsse,
}

impl Encryption {
    /// As S3 has it, `aws:kms`.
    pub fn name(self) -> &'static str {
        match self {
            Encryption::Aes256 => "AES256",
            Encryption::AwsKms => "aws:kms",
            Encryption::AwsKmsDsse => "aws:kms:dsse",
        }
    }
}

/// Algorithm of checksums.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Checksum {
    /// No checksum besides the signature's hash of the body.
    None,
    /// CRC-32 (ISO-HDLC).
    Crc32,
    /// CRC-32C (Castagnoli).
    Crc32c,
    /// CRC-64/NVME.
    Crc64nvme,
    /// SHA-256.
    Sha256,
}

impl StorageSettings {
    /// Refuses settings that contradict each other, naming both keys.
    pub(crate) fn check(&self) -> Result<()> {
        let both = |what: &str, hint: &str| Err(Error::new(Kind::Config, what.to_owned()).hint(hint.to_owned()));
        if self.access_key_id.is_some() != self.secret_access_key.is_some() {
            return both(
                "`access_key_id` and `secret_access_key` belong together, and one of them is missing",
                "set both, or neither to use the default chain",
            );
        }
        if self.session_token.is_some() && self.access_key_id.is_none() {
            return both("`session_token` is set without `access_key_id`", "set `access_key_id` and `secret_access_key` too");
        }
        if self.profile.is_some() && self.access_key_id.is_some() {
            return both("`profile` and `access_key_id` are both set", "keep one of them");
        }
        if self.role_arn.is_none() && (self.external_id.is_some() || self.role_session_name.is_some()) {
            let set = if self.external_id.is_some() { "external_id" } else { "role_session_name" };
            return both(&format!("`{set}` is set without `role_arn`"), "set `role_arn` to assume a role");
        }
        if matches!(self.sse, None | Some(Encryption::Aes256)) && (self.sse_kms_key_id.is_some() || self.bucket_key.is_some()) {
            let set = if self.sse_kms_key_id.is_some() { "sse_kms_key_id" } else { "bucket_key" };
            return both(&format!("`{set}` is set, but `sse` is not `aws:kms`"), "set `sse: \"aws:kms\"`");
        }
        if self.tags.len() > TAGS_MAX {
            return both(&format!("`tags` has {} tags, but S3 takes {TAGS_MAX}", self.tags.len()), "leave some out");
        }
        if self.max_attempts == Some(0) || self.part_permits == Some(0) {
            let zero = if self.max_attempts == Some(0) { "max_attempts" } else { "part_permits" };
            return both(&format!("`{zero}` is 0"), "set at least 1");
        }
        for (key, text) in [("storage_class", &self.storage_class), ("acl", &self.acl), ("sse_kms_key_id", &self.sse_kms_key_id)] {
            if text.as_ref().is_some_and(|text| text.is_empty() || !text.bytes().all(|byte| byte.is_ascii_graphic())) {
                return both(&format!("`{key}` does not fit a header"), "write it without spaces");
            }
        }
        Ok(())
    }

    pub(crate) fn checksum(&self, endpoint: bool) -> Checksum {
        self.checksum.unwrap_or(if endpoint { Checksum::None } else { Checksum::Crc32c })
    }

    pub(crate) fn attempts_max(&self) -> u32 {
        self.max_attempts.unwrap_or(8)
    }

    pub(crate) fn retry_time(&self) -> Duration {
        Duration::from_millis(self.retry_time_ms.unwrap_or(180_000))
    }

    pub(crate) fn connect_timeout(&self) -> Duration {
        Duration::from_millis(self.connect_timeout_ms.unwrap_or(5_000))
    }

    pub(crate) fn read_timeout(&self) -> Duration {
        Duration::from_millis(self.read_timeout_ms.unwrap_or(120_000))
    }

    pub(crate) fn attempt_timeout(&self) -> Duration {
        Duration::from_millis(self.attempt_timeout_ms.unwrap_or(180_000))
    }

    pub(crate) fn part_permits(&self) -> usize {
        self.part_permits.unwrap_or(16)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_shown_nowhere() {
        let secret = || Some(Secret::new("hunter2"));
        let settings = StorageSettings {
            access_key_id: secret(),
            secret_access_key: secret(),
            session_token: secret(),
            external_id: secret(),
            proxy: secret(),
            ..StorageSettings::default()
        };
        assert!(!format!("{settings:?} {settings:#?}").contains("hunter2"));
        let text = serde_json::to_string(&settings).unwrap();
        assert!(!text.contains("hunter2") && text.contains("***"), "{text}");
    }

    #[test]
    fn names_are_those_of_s3_and_unknown_keys_are_refused() {
        let text = r#"{"sse":"aws:kms","sse_kms_key_id":"k","checksum":"crc64nvme","tags":{"a":"b"}}"#;
        let settings: StorageSettings = serde_json::from_str(text).unwrap();
        assert_eq!((settings.sse, settings.checksum), (Some(Encryption::AwsKms), Some(Checksum::Crc64nvme)));
        assert!(serde_json::from_str::<StorageSettings>(r#"{"regoin":"x"}"#).is_err());
    }

    #[test]
    fn contradictions_name_both_keys() {
        let wrong = [
            (r#"{"access_key_id":"a"}"#, ["access_key_id", "secret_access_key"]),
            (r#"{"session_token":"a"}"#, ["session_token", "access_key_id"]),
            (r#"{"access_key_id":"a","secret_access_key":"b","profile":"p"}"#, ["profile", "access_key_id"]),
            (r#"{"external_id":"a"}"#, ["external_id", "role_arn"]),
            (r#"{"sse":"AES256","sse_kms_key_id":"a"}"#, ["sse_kms_key_id", "sse"]),
            (r#"{"part_permits":0}"#, ["part_permits", "0"]),
        ];
        for (text, keys) in wrong {
            let error = serde_json::from_str::<StorageSettings>(text).unwrap().check().unwrap_err();
            assert!(error.kind() == Kind::Config && error.way_out().is_some(), "{text}");
            assert!(keys.iter().all(|key| error.to_string().contains(key)), "{error}");
        }
        assert!(StorageSettings::default().check().is_ok());
    }
}
