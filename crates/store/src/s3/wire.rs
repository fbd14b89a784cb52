//! Requests for objects and parts, made, signed and sent by ourselves.
//!
//! The SDK's client spends several times the CPU that a request needs, which small objects notice. So what is sent for every
//! object goes straight to the SDK's own HTTP connector; what is rare (listings, uploads' begin and end, rules) stays with the SDK.
//! Addresses and signatures are still the SDK's: its endpoint rules, asked once, and its signer.

use super::failures::Reply;
use crate::{Error, Kind, Pieces, Result, credentials::Keys, pieces::Sending};
use aws_config::SdkConfig;
use aws_credential_types::Credentials;
use aws_sdk_s3::{
    config::endpoint::{DefaultResolver, Params, ResolveEndpoint},
    primitives::{ByteStream, DateTime, DateTimeFormat},
};
use aws_sigv4::{
    http_request::{
        PayloadChecksumKind, PercentEncodingMode, SignableBody, SignableRequest, SigningParams, SigningSettings, UriPathNormalizationMode, sign,
    },
    sign::v4,
};
use aws_smithy_http_client::Connector;
use aws_smithy_runtime_api::{
    box_error::BoxError,
    client::{
        connection::CaptureSmithyConnection,
        http::HttpConnector,
        identity::Identity,
        orchestrator::{HttpRequest, HttpResponse},
    },
    http::Headers,
};
use aws_smithy_types::body::SdkBody;
use bytes::{Bytes, BytesMut};
use std::{
    borrow::Cow,
    fmt::Write,
    sync::atomic::{AtomicI64, Ordering},
    time::{Duration, SystemTime, UNIX_EPOCH},
};
use tokio::time::{Instant, timeout_at};

/// What of an error's body is read.
const ERROR_BYTES_MAX: usize = 64 << 10;
/// A body of which nothing has come for so long is given up, even when the settings would wait longer for an answer to begin.
const STALL_MAX: Duration = Duration::from_secs(20);
/// An attempt is never given longer.
const ATTEMPT_MAX: Duration = Duration::from_secs(86_400);
/// What a clock may be wrong by before it is the reason for a refusal.
const CLOCK_ERROR_MIN: Duration = Duration::from_secs(240);

const USER_AGENT: &str = concat!("kas3/", env!("CARGO_PKG_VERSION"));

/// Where a bucket is, and how requests to it are signed and sent.
pub(super) struct Wire {
    connector: Connector,
    place: Place,
    keys: Keys,
    attempt_timeout: Duration,
    stall_timeout: Duration,
    /// Milliseconds by which the store's clock is ahead of ours, as far as it has complained.
    ahead_ms: AtomicI64,
}

/// The address of a bucket, as the SDK's endpoint rules have it.
#[derive(Debug)]
struct Place {
    /// Scheme and host, with the bucket in either it or the path; no `/` at the end.
    base: String,
    region: String,
    service: String,
}

/// A request; the same for all its attempts.
pub(super) struct Ask<'a> {
    pub(super) method: &'static str,
    pub(super) key: &'a str,
    /// What stands behind the `?`, encoded; may be empty.
    pub(super) query: String,
    pub(super) headers: Vec<(Cow<'static, str>, Cow<'a, str>)>,
    pub(super) body: Pieces,
    /// SHA-256 of the body, in hexadecimal digits.
    pub(super) hash: Cow<'static, str>,
}

/// SHA-256 of no bytes.
const NOTHING: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

impl<'a> Ask<'a> {
    /// A request without a body.
    pub(super) fn new(method: &'static str, key: &'a str) -> Ask<'a> {
        Ask { method, key, query: String::new(), headers: Vec::new(), body: Pieces::default(), hash: Cow::Borrowed(NOTHING) }
    }

    /// A request with a body of this SHA-256.
    pub(super) fn with_body(method: &'static str, key: &'a str, body: &Pieces, sha256: &[u8; 32]) -> Ask<'a> {
        let mut hash = String::with_capacity(64);
        for byte in sha256 {
            _ = write!(hash, "{byte:02x}");
        }
        // The length is said even of an empty body: some stores want it of every PUT.
        let headers = vec![(Cow::Borrowed("content-length"), Cow::Owned(body.len().to_string()))];
        Ask { headers, body: body.clone(), hash: Cow::Owned(hash), ..Ask::new(method, key) }
    }

    pub(super) fn header(&mut self, name: impl Into<Cow<'static, str>>, value: impl Into<Cow<'a, str>>) {
        self.headers.push((name.into(), value.into()));
    }

    /// The same for a header that there may not be.
    pub(super) fn header_of(&mut self, name: &'static str, value: Option<&'a str>) {
        self.headers.extend(value.map(|value| (Cow::Borrowed(name), Cow::Borrowed(value))));
    }
}

/// A success, its body still to be read.
pub(super) struct Response {
    headers: Headers,
    body: ByteStream,
    stall: Duration,
    /// When the attempt ends, however much is missing.
    until: Option<Instant>,
}

impl Wire {
    /// Finds out where `bucket` is. Asks nobody.
    pub(super) async fn new(
        connector: Connector,
        config: &SdkConfig,
        (bucket, endpoint, path_style): (&str, Option<&str>, bool),
        keys: Keys,
        timeouts: (Duration, Duration),
    ) -> Result<Wire> {
        let place = Place::of(config, bucket, endpoint, path_style).await?;
        let (read_timeout, attempt_timeout) = timeouts;
        let (attempt_timeout, stall_timeout) = (attempt_timeout.min(ATTEMPT_MAX), read_timeout.min(STALL_MAX));
        Ok(Wire { connector, place, keys, attempt_timeout, stall_timeout, ahead_ms: AtomicI64::new(0) })
    }

    /// Sends a request once. An answer that is no success is a [`Reply`], its body read as far as it matters.
    pub(super) async fn send(&self, ask: &Ask<'_>) -> Result<Response, Reply> {
        let until = Instant::now() + self.attempt_timeout;
        timeout_at(until, self.send_until(ask, until)).await.unwrap_or_else(|_| Err(Reply::late("no answer in time")))
    }

    async fn send_until(&self, ask: &Ask<'_>, until: Instant) -> Result<Response, Reply> {
        let credentials = self.keys.get().await.map_err(|error| Reply::unsent(error.into()))?;
        let sent_at = SystemTime::now();
        let mut request = self.request(ask, credentials, self.clock(sent_at)).map_err(Reply::unsent)?;
        let connection = CaptureSmithyConnection::new();
        request.add_extension(connection.clone());
        let answer = self.connector.call(request).await.map_err(Reply::undelivered)?;
        let status = answer.status().as_u16();
        let mut response = self.response(answer, until);
        if (200..300).contains(&status) {
            return Ok(response);
        }
        if status >= 500
            && let Some(connection) = connection.get()
        {
            // the next attempt may reach a server that is well
            connection.poison();
        }
        let body = match response.error_body(ask.method).await {
            Ok(body) => body,
            Err(error) => return Err(Reply::garbled(status, error)),
        };
        let reply = Reply::answer(status, &response.headers, &body);
        if reply.blames_clock() {
            self.set_clock(sent_at, response.header("date"));
        }
        Err(reply)
    }

    fn response(&self, mut answer: HttpResponse, until: Instant) -> Response {
        let body = ByteStream::new(answer.take_body());
        let headers = std::mem::take(answer.headers_mut());
        Response { headers, body, stall: self.stall_timeout, until: Some(until) }
    }

    fn request(&self, ask: &Ask<'_>, credentials: Credentials, time: SystemTime) -> Result<HttpRequest, BoxError> {
        let url = self.place.url(ask.key, &ask.query);
        let identity = Identity::from(credentials);
        let mut settings = SigningSettings::default();
        settings.percent_encoding_mode = PercentEncodingMode::Single;
        settings.uri_path_normalization_mode = UriPathNormalizationMode::Disabled;
        settings.payload_checksum_kind = PayloadChecksumKind::XAmzSha256;
        settings.excluded_headers = None;
        let params = v4::SigningParams::builder().identity(&identity).region(&self.place.region).name(&self.place.service);
        let params: SigningParams<'_> = params.time(time).settings(settings).build()?.into();
        let headers = ask.headers.iter().map(|(name, value)| (name.as_ref(), value.as_ref()));
        let signable = SignableRequest::new(ask.method, url.as_str(), headers, SignableBody::Precomputed(ask.hash.clone().into_owned()))?;
        let (signed, _) = sign(signable, &params)?.into_parts();
        let mut request = HttpRequest::new(SdkBody::from_body_1_x(Sending::from(ask.body.clone())));
        request.set_method(ask.method)?;
        request.set_uri(url)?;
        let headers = request.headers_mut();
        headers.try_insert("user-agent", USER_AGENT)?;
        for (name, value) in &ask.headers {
            headers.try_insert(name.clone(), value.clone().into_owned())?;
        }
        for header in signed.into_parts().0 {
            headers.try_insert(header.name(), header.value().to_owned())?;
        }
        Ok(request)
    }

    /// The time by the store's clock.
    fn clock(&self, now: SystemTime) -> SystemTime {
        let ahead_ms = self.ahead_ms.load(Ordering::Relaxed);
        let ahead = Duration::from_millis(ahead_ms.unsigned_abs());
        if ahead_ms < 0 { now.checked_sub(ahead).unwrap_or(now) } else { now + ahead }
    }

    /// Sets our clock by the store's, which has refused a request for its time.
    fn set_clock(&self, sent_at: SystemTime, date: Option<&str>) {
        let date = date.and_then(|date| DateTime::from_str(date, DateTimeFormat::HttpDate).ok()?.to_millis().ok());
        let sent_ms = sent_at.duration_since(UNIX_EPOCH).ok().and_then(|sent| i64::try_from(sent.as_millis()).ok());
        if let (Some(date_ms), Some(sent_ms)) = (date, sent_ms) {
            let ahead_ms = date_ms - sent_ms;
            let wrong = u128::from(ahead_ms.unsigned_abs()) > CLOCK_ERROR_MIN.as_millis();
            self.ahead_ms.store(if wrong { ahead_ms } else { 0 }, Ordering::Relaxed);
        }
    }
}

impl Response {
    pub(super) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)
    }

    pub(super) fn headers(&self) -> impl Iterator<Item = (&str, &str)> {
        self.headers.iter()
    }

    /// From now on only a standstill ends it, however long it takes in all.
    pub(super) fn patient(mut self) -> Response {
        self.until = None;
        self
    }

    /// The next bytes of the body, never none.
    pub(super) async fn next(&mut self) -> Result<Option<Bytes>, BoxError> {
        loop {
            let stalled = Instant::now() + self.stall;
            let until = self.until.map_or(stalled, |until| until.min(stalled));
            match timeout_at(until, self.body.next()).await {
                Ok(Some(Ok(bytes))) if bytes.is_empty() => {}
                Ok(Some(Ok(bytes))) => return Ok(Some(bytes)),
                Ok(Some(Err(error))) => return Err(error.into()),
                Ok(None) => return Ok(None),
                Err(_) => return Err("no more of it came in time".into()),
            }
        }
    }

    /// Reads a body that says nothing, so that its connection can be used again.
    pub(super) async fn finish(mut self) {
        let mut read = 0;
        while let Ok(Some(bytes)) = self.next().await {
            read += bytes.len();
            if read > ERROR_BYTES_MAX {
                return;
            }
        }
    }

    /// The body of an error; what is too long for one is nothing that could be understood.
    async fn error_body(&mut self, method: &str) -> Result<Bytes, BoxError> {
        let mut body = BytesMut::new();
        while method != "HEAD"
            && let Some(bytes) = self.next().await?
        {
            body.extend_from_slice(&bytes);
            if body.len() > ERROR_BYTES_MAX {
                return Ok(Bytes::new());
            }
        }
        Ok(body.freeze())
    }
}

impl Place {
    async fn of(config: &SdkConfig, bucket: &str, endpoint: Option<&str>, path_style: bool) -> Result<Place> {
        let wrong = || Error::new(Kind::Config, format!("bucket `{bucket}` has no address")).hint("look at bucket, region and endpoint");
        let params = Params::builder().bucket(bucket).set_region(config.region().map(ToString::to_string)).force_path_style(path_style);
        let params = params.set_endpoint(endpoint.map(str::to_owned)).set_use_fips(config.use_fips()).set_use_dual_stack(config.use_dual_stack());
        let params = params.build().map_err(|error| wrong().source(error))?;
        let found = ResolveEndpoint::resolve_endpoint(&DefaultResolver::new(), &params).await.map_err(|error| wrong().source(error))?;
        let Some(scheme) = found.auth_schemes().iter().find(|scheme| scheme.name() == "sigv4") else {
            return Err(
                Error::new(Kind::Config, format!("bucket `{bucket}` is of a kind that kas3 does not know")).hint("name a general purpose bucket")
            );
        };
        let property = |name: &str| scheme.get(name).and_then(|value| value.as_string()).map(str::to_owned);
        let region = property("signingRegion").or_else(|| config.region().map(ToString::to_string));
        Ok(Place {
            base: found.url().trim_end_matches('/').to_owned(),
            region: region.unwrap_or_default(),
            service: property("signingName").unwrap_or_else(|| "s3".to_owned()),
        })
    }

    fn url(&self, key: &str, query: &str) -> String {
        let mut url = String::with_capacity(self.base.len() + 2 + 2 * key.len() + query.len());
        url.push_str(&self.base);
        url.push('/');
        crate::paths::encode_into(&mut url, key, b"/");
        if !query.is_empty() {
            url.push('?');
            url.push_str(query);
        }
        url
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use aws_config::Region;

    async fn place(bucket: &str, endpoint: Option<&str>, path_style: bool, change: impl FnOnce(&mut aws_config::SdkConfig)) -> Place {
        let mut config = SdkConfig::builder().region(Region::from_static("eu-north-1")).build();
        change(&mut config);
        Place::of(&config, bucket, endpoint, path_style).await.unwrap()
    }

    #[tokio::test]
    async fn buckets_are_where_the_rules_of_the_sdk_have_them() {
        let url = |place: &Place| place.url("a b/c=d+e%ü", "partNumber=1");
        let path = "a%20b/c%3Dd%2Be%25%C3%BC?partNumber=1";
        let aws = place("lake", None, false, |_| {}).await;
        assert_eq!(url(&aws), format!("https://lake.s3.eu-north-1.amazonaws.com/{path}"));
        assert_eq!((aws.region.as_str(), aws.service.as_str()), ("eu-north-1", "s3"));
        assert_eq!(url(&place("my.lake", None, false, |_| {}).await), format!("https://s3.eu-north-1.amazonaws.com/my.lake/{path}"));
        assert_eq!(url(&place("lake", Some("http://minio:9000"), true, |_| {}).await), format!("http://minio:9000/lake/{path}"));
        assert_eq!(url(&place("lake", Some("https://ceph/s3/"), true, |_| {}).await), format!("https://ceph/s3/lake/{path}"));
        assert_eq!(url(&place("lake", Some("http://minio:9000"), false, |_| {}).await), format!("http://lake.minio:9000/{path}"));
        let fips = |config: &mut SdkConfig| *config = config.to_builder().use_fips(true).region(Region::from_static("us-west-2")).build();
        assert_eq!(url(&place("lake", None, false, fips).await), format!("https://lake.s3-fips.us-west-2.amazonaws.com/{path}"));
        let dual = |config: &mut SdkConfig| *config = config.to_builder().use_dual_stack(true).build();
        assert_eq!(url(&place("lake", None, false, dual).await), format!("https://lake.s3.dualstack.eu-north-1.amazonaws.com/{path}"));
        let china = |config: &mut SdkConfig| *config = config.to_builder().region(Region::from_static("cn-north-1")).build();
        assert_eq!(url(&place("lake", None, false, china).await), format!("https://lake.s3.cn-north-1.amazonaws.com.cn/{path}"));
    }

    #[tokio::test]
    async fn a_bucket_that_needs_another_kind_of_signature_is_refused() {
        let config = SdkConfig::builder().region(Region::from_static("us-east-1")).build();
        let error = Place::of(&config, "lake--use1-az4--x-s3", None, false).await.unwrap_err();
        assert!(error.kind() == Kind::Config && error.way_out().is_some(), "{error:?}");
    }
}
