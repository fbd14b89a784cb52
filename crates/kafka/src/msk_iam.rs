//! Signing in to Amazon MSK with AWS credentials: `sasl.mechanism: AWS_MSK_IAM`.
//!
//! The token is a presigned request for the action `kafka-cluster:Connect`, in base64 for URLs without padding, valid for 15
//! minutes, as AWS publishes it with the aws-msk-iam-sasl-signer libraries.

use aws_sigv4::{
    http_request::{SignableBody, SignableRequest, SignatureLocation, SigningSettings, sign},
    sign::v4,
};
use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use kas3_store::StorageSettings;
use rdkafka::client::OAuthToken;
use std::{
    error::Error,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

/// How long a token is valid.
const LIFETIME: Duration = Duration::from_secs(900);

/// Makes tokens with the credentials of the process.
pub(crate) struct Signer {
    region: Option<String>,
    storage: StorageSettings,
    runtime: Option<tokio::runtime::Handle>,
}

impl Signer {
    /// For the brokers of `servers`, whose names hold their region.
    pub(crate) fn new(servers: &str, storage: StorageSettings) -> Self {
        Signer { region: region_of(servers), storage, runtime: tokio::runtime::Handle::try_current().ok() }
    }

    /// A token, made on a thread that may wait.
    pub(crate) fn token(&self) -> Result<OAuthToken, Box<dyn Error>> {
        let Some(runtime) = &self.runtime else { return Err("no runtime to ask for AWS credentials".into()) };
        let (credentials, region) = runtime.block_on(kas3_store::aws_credentials(&self.storage, self.region.clone()))?;
        let now = SystemTime::now();
        let until = now + LIFETIME;
        let lifetime_ms = i64::try_from(until.duration_since(UNIX_EPOCH)?.as_millis())?;
        Ok(OAuthToken { token: presign(&region, &credentials, now)?, principal_name: credentials.access_key_id().to_owned(), lifetime_ms })
    }
}

/// The token for one moment.
fn presign(region: &str, credentials: &aws_credential_types::Credentials, at: SystemTime) -> Result<String, Box<dyn Error>> {
    let url = format!("https://kafka.{region}.amazonaws.com/?Action=kafka-cluster%3AConnect");
    let identity = credentials.clone().into();
    let mut settings = SigningSettings::default();
    settings.signature_location = SignatureLocation::QueryParams;
    settings.expires_in = Some(LIFETIME);
    let params = v4::SigningParams::builder().identity(&identity).region(region).name("kafka-cluster").time(at).settings(settings).build()?;
    let host = format!("kafka.{region}.amazonaws.com");
    let request = SignableRequest::new("GET", &url, std::iter::once(("host", host.as_str())), SignableBody::Bytes(&[]))?;
    let (instructions, _) = sign(request, &params.into())?.into_parts();
    let mut signed = url;
    for (name, value) in instructions.params() {
        signed.push('&');
        signed.push_str(name);
        signed.push('=');
        percent_encode(value, &mut signed);
    }
    signed.push_str("&User-Agent=kas3");
    Ok(BASE64_URL_SAFE_NO_PAD.encode(signed))
}

fn percent_encode(value: &str, into: &mut String) {
    for byte in value.bytes() {
        if byte.is_ascii_alphanumeric() || b"-_.~".contains(&byte) {
            into.push(char::from(byte));
        } else {
            into.push_str(&format!("%{byte:02X}"));
        }
    }
}

/// The region in a broker's name, as in `b-1.orders.abc123.c2.kafka.eu-west-1.amazonaws.com:9098`.
fn region_of(servers: &str) -> Option<String> {
    let host = servers.split(',').next()?.trim().split(':').next()?;
    let labels: Vec<&str> = host.split('.').collect();
    let service = labels.iter().position(|label| matches!(*label, "kafka" | "kafka-serverless"))?;
    (labels.get(service + 2) == Some(&"amazonaws")).then(|| labels[service + 1].to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_a_presigned_connect_request() {
        let credentials = aws_credential_types::Credentials::new("AKIDEXAMPLE", "secret", Some("session/token".to_owned()), None, "test");
        let token = presign("eu-west-1", &credentials, UNIX_EPOCH + Duration::from_secs(1_790_000_000)).unwrap();
        let url = String::from_utf8(BASE64_URL_SAFE_NO_PAD.decode(token).unwrap()).unwrap();
        assert!(url.starts_with("https://kafka.eu-west-1.amazonaws.com/?Action=kafka-cluster%3AConnect&"), "{url}");
        for wanted in [
            "X-Amz-Algorithm=AWS4-HMAC-SHA256",
            "X-Amz-Credential=AKIDEXAMPLE%2F20260921%2Feu-west-1%2Fkafka-cluster%2Faws4_request",
            "X-Amz-Date=20260921T",
            "X-Amz-Expires=900",
            "X-Amz-SignedHeaders=host",
            "X-Amz-Security-Token=session%2Ftoken",
            "X-Amz-Signature=",
        ] {
            assert!(url.contains(wanted), "{wanted} is missing in {url}");
        }
        assert!(url.ends_with("&User-Agent=kas3"), "{url}");
        assert!(!url.contains("secret"), "{url}");
    }

    #[test]
    fn the_region_is_read_from_the_brokers_name() {
        assert_eq!(region_of("b-1.orders.abc123.c2.kafka.eu-west-1.amazonaws.com:9098,b-2:9098").as_deref(), Some("eu-west-1"));
        assert_eq!(region_of("boot-x.c1.kafka-serverless.us-east-2.amazonaws.com:9098").as_deref(), Some("us-east-2"));
        assert_eq!(region_of("localhost:9092"), None);
    }
}
