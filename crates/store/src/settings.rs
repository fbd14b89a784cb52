//! How a store is reached.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::fmt;

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

/// How the store is reached. Credentials: the default AWS chain, or the keys named here.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct StorageSettings {
    /// Endpoint of an S3-compatible store, as `http://localhost:9000`; AWS's own unless set.
    pub endpoint: Option<String>,
    /// Region; from the environment or the profile unless set.
    pub region: Option<String>,
    /// Allow an endpoint without TLS.
    pub allow_http: bool,
    /// Access key instead of the default chain.
    pub access_key_id: Option<Secret>,
    /// Secret of the access key.
    pub secret_access_key: Option<Secret>,
    /// Session token of temporary keys.
    pub session_token: Option<Secret>,
    /// Profile of the AWS configuration files.
    pub profile: Option<String>,
    /// Role to assume with the credentials found.
    pub role_arn: Option<String>,
    /// External id that the role's trust policy asks for.
    pub external_id: Option<Secret>,
}
