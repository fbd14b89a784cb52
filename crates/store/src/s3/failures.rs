//! What an answer that is no success means: which kind of error, and the way out.

use super::S3;
use crate::{
    Error, Kind, Outcome, Request, StoreUrl,
    attempt::FailedAttempt,
    credentials::{MISSING_HINT, chain},
};
use aws_credential_types::provider::error::CredentialsError;
use aws_sdk_s3::error::{ProvideErrorMetadata, SdkError};
use aws_smithy_runtime_api::{
    box_error::BoxError,
    client::{orchestrator::HttpResponse, result::ConnectorError},
    http::Headers,
};
use aws_smithy_xml::decode::{Document, XmlDecodeError, try_data};

/// What came back instead of success.
pub(super) struct Reply {
    /// HTTP status; 0 when there was no answer.
    pub(super) status: u16,
    /// The store's code, as `NoSuchKey`; empty when there was none.
    pub(super) code: String,
    message: String,
    /// Region that the bucket is in, when the store says so.
    region: Option<String>,
    /// Seconds that the store asks to wait.
    retry_after: Option<u64>,
    nature: Nature,
    source: Option<BoxError>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Nature {
    Answer,
    /// An answer that could not be read.
    Garbled,
    TimedOut,
    Unreachable,
    /// The request could not be made.
    Unsent,
}

impl Reply {
    pub(super) fn of<E>(error: SdkError<E, HttpResponse>) -> Reply
    where
        E: ProvideErrorMetadata + std::error::Error + Send + Sync + 'static,
    {
        let text = |text: Option<&str>| text.unwrap_or_default().to_owned();
        let nature = match &error {
            SdkError::ServiceError(_) => Nature::Answer,
            SdkError::ResponseError(_) => Nature::Garbled,
            SdkError::TimeoutError(_) => Nature::TimedOut,
            SdkError::DispatchFailure(failure) if failure.is_timeout() => Nature::TimedOut,
            SdkError::DispatchFailure(_) => Nature::Unreachable,
            _ => Nature::Unsent,
        };
        let mut reply = Reply { code: text(error.code()), message: text(error.message()), ..Reply::without_answer(nature, None) };
        if let Some(raw) = error.raw_response() {
            reply.say(raw.status().as_u16(), raw.headers());
        }
        if nature != Nature::Answer {
            reply.source = Some(error.into_source().unwrap_or_else(Into::into));
        }
        reply
    }

    /// An answer that is no success, with its body.
    pub(super) fn answer(status: u16, headers: &Headers, body: &[u8]) -> Reply {
        // what is not an error of S3's has neither code nor message: its status must do
        let (code, message) = code_and_message(body).unwrap_or_default();
        let mut reply = Reply { code, message, ..Reply::without_answer(Nature::Answer, None) };
        reply.say(status, headers);
        reply
    }

    /// An answer that is no success, with a body that could not be read.
    pub(super) fn garbled(status: u16, error: BoxError) -> Reply {
        Reply { status, ..Reply::without_answer(Nature::Garbled, Some(error)) }
    }

    /// No answer came in time.
    pub(super) fn late(error: impl Into<BoxError>) -> Reply {
        Reply::without_answer(Nature::TimedOut, Some(error.into()))
    }

    /// The request was not made, for want of credentials, or because it cannot be.
    pub(super) fn unsent(error: BoxError) -> Reply {
        Reply::without_answer(Nature::Unsent, Some(error))
    }

    /// The request or its answer was lost.
    pub(super) fn undelivered(error: ConnectorError) -> Reply {
        let nature = if error.is_timeout() { Nature::TimedOut } else { Nature::Unreachable };
        Reply::without_answer(nature, Some(error.into()))
    }

    fn without_answer(nature: Nature, source: Option<BoxError>) -> Reply {
        Reply { status: 0, code: String::new(), message: String::new(), region: None, retry_after: None, nature, source }
    }

    fn say(&mut self, status: u16, headers: &Headers) {
        self.status = status;
        self.region = headers.get("x-amz-bucket-region").map(str::to_owned);
        self.retry_after = headers.get("retry-after").and_then(|seconds| seconds.trim().parse().ok());
    }

    /// A condition did not hold.
    pub(super) fn is_precondition(&self) -> bool {
        self.status == 412 || self.code == "PreconditionFailed"
    }

    /// There is no object (in a bucket that is there).
    pub(super) fn is_no_object(&self) -> bool {
        self.code == "NoSuchKey" || (self.status == 404 && self.code != "NoSuchBucket")
    }

    pub(super) fn is_no_upload(&self) -> bool {
        self.code == "NoSuchUpload"
    }

    /// The store does not know this kind of request.
    pub(super) fn is_not_implemented(&self) -> bool {
        matches!(self.status, 405 | 501) || self.code == "NotImplemented"
    }

    /// The parts of an upload are refused, whoever sends them and whenever.
    pub(super) fn refuses_parts(&self) -> bool {
        let codes = ["InvalidPart", "InvalidPartOrder", "EntityTooSmall", "EntityTooLarge", "BadDigest", "InvalidRequest", "MalformedXML"];
        codes.contains(&self.code.as_str())
    }

    /// The credentials are at fault, and newer ones may do.
    pub(super) fn blames_keys(&self) -> bool {
        ["ExpiredToken", "ExpiredTokenException", "TokenRefreshRequired", "InvalidToken", "InvalidAccessKeyId"].contains(&self.code.as_str())
            || (self.status == 400 && matches!(self.code.as_str(), "" | "BadRequest"))
    }

    /// The time of the request is at fault, by the store's clock.
    pub(super) fn blames_clock(&self) -> bool {
        matches!(self.code.as_str(), "RequestTimeTooSkewed" | "RequestExpired")
    }

    /// As one line: status, code and what the store says.
    pub(super) fn text(&self) -> String {
        let code = if self.code.is_empty() { String::new() } else { format!(" `{}`", self.code) };
        let message = if self.message.is_empty() { String::new() } else { format!(": {}", self.message.trim_end_matches('.')) };
        format!("{}{code}{message}", self.status)
    }

    pub(super) fn failure(self, store: &S3, request: Request, key: &str) -> FailedAttempt {
        let doing = format!("cannot {} `{}`", verb(request), StoreUrl::s3(&store.bucket, "").join(key));
        match self.nature {
            Nature::Answer => self.answered(store, request, &doing),
            _ => self.unanswered(store, &doing),
        }
    }

    fn unanswered(self, store: &S3, doing: &str) -> FailedAttempt {
        let endpoint = &store.endpoint;
        let chain = self.source.as_ref().map(|source| chain(source.as_ref())).unwrap_or_default();
        if let Some(error) = self.source.as_ref().and_then(|source| credentials_error(source.as_ref())) {
            return credentials_failure(error, doing, &chain);
        }
        let (kind, what, hint) = match self.nature {
            Nature::TimedOut => {
                (Kind::Transient, format!("no answer from `{endpoint}` in time"), "the store or the way to it is slow or down; it goes on by itself")
            }
            _ if chain.contains("invalid peer certificate") || chain.contains("UnknownIssuer") => {
                (Kind::Config, format!("the certificate of `{endpoint}` is not trusted"), certificate_hint(&chain))
            }
            Nature::Unreachable => (
                Kind::Transient,
                format!("`{endpoint}` cannot be reached"),
                "look at `endpoint`, `proxy` and the network; it goes on by itself once the store answers",
            ),
            Nature::Unsent => (Kind::Config, "the request cannot be made".to_owned(), "look at bucket, region and endpoint"),
            _ => (
                Kind::Transient,
                format!("the answer of `{endpoint}` was cut short or cannot be read"),
                "it goes on by itself once the store answers",
            ),
        };
        let error = Error::new(kind, format!("{doing}: {what}")).hint(hint);
        let error = match self.source {
            Some(source) => error.source(source),
            None => error,
        };
        FailedAttempt::new(error, Outcome::Failed)
    }

    fn answered(self, store: &S3, request: Request, doing: &str) -> FailedAttempt {
        let (kind, outcome, hint) = self.meaning(store, request);
        let error = Error::new(kind, format!("{doing}: the store answered {}", self.text()));
        let failure = FailedAttempt::new(if hint.is_empty() { error } else { error.hint(hint) }, outcome);
        // a conflict, a body that did not arrive whole, an error within a success: a store that is well says so too
        let alone = failure.alone || (outcome == Outcome::Failed && matches!(self.status, 200 | 400 | 408 | 409 | 425));
        let refuses = failure.refuses || self.code == "NoSuchBucket";
        FailedAttempt { alone, refuses, retry_after: self.retry_after.map(std::time::Duration::from_secs), ..failure }
    }

    fn meaning(&self, store: &S3, request: Request) -> (Kind, Outcome, String) {
        use Kind::{Config, Denied, Fatal, Missing, Transient};
        let text = |text: &str| text.to_owned();
        match (self.code.as_str(), self.status) {
            (
                "SlowDown" | "SlowDownRead" | "SlowDownWrite" | "Throttling" | "ThrottlingException" | "TooManyRequests" | "RequestLimitExceeded",
                _,
            )
            | (_, 429 | 503) => (Transient, Outcome::Throttled, text("the store asks to slow down; it goes on by itself")),
            ("RequestTimeTooSkewed", _) => {
                (Transient, Outcome::Failed, text("the clock of this machine is wrong: set it, for instance with NTP; it goes on by itself"))
            }
            ("ExpiredToken" | "ExpiredTokenException" | "TokenRefreshRequired" | "RequestExpired", _) => {
                (Transient, Outcome::Denied, text(expired_hint(store.fixed_keys)))
            }
            ("InvalidAccessKeyId" | "InvalidToken", _) => {
                (Denied, Outcome::Denied, text("the store does not know this access key: look at where credentials come from"))
            }
            ("SignatureDoesNotMatch", _) => (Denied, Outcome::Denied, text("the secret does not fit the access key, or a proxy changes requests")),
            ("NoSuchBucket", _) => (Missing, Outcome::Refused, format!("create bucket `{}`, or name another one in the URL", store.bucket)),
            ("PermanentRedirect" | "TemporaryRedirect" | "AuthorizationHeaderMalformed" | "IllegalLocationConstraintException", _)
            | (_, 301 | 307) => (Config, Outcome::Refused, self.region_hint()),
            ("AccessControlListNotSupported", _) => (Config, Outcome::Refused, text("the bucket has ACLs disabled: remove `acl`")),
            ("InvalidBucketName" | "KeyTooLongError" | "InvalidStorageClass" | "InvalidTag", _) => (Config, Outcome::Refused, String::new()),
            ("InvalidRequest", _) if self.message.contains("Object Lock") => (Config, Outcome::Refused, text("set `checksum: crc32c`")),
            ("AccessDenied" | "AllAccessDisabled" | "AccountProblem", _) | (_, 401 | 403) => {
                (Denied, Outcome::Denied, self.denied_hint(store, request))
            }
            (code, status) if status == 507 || code.contains("Quota") || code.contains("StorageFull") => {
                (Denied, Outcome::Denied, text("the store or its quota is full: make room or raise the quota; it goes on by itself"))
            }
            ("NoSuchKey" | "NoSuchUpload", _) | (_, 404) => (Missing, Outcome::Refused, String::new()),
            ("NotImplemented", _) | (_, 405 | 501) => (Fatal, Outcome::Refused, text("this store lacks what the sink needs")),
            ("RequestTimeout" | "InternalError" | "OperationAborted" | "ConditionalRequestConflict" | "IncompleteBody" | "BadDigest", _)
            | ("XAmzContentSHA256Mismatch" | "XAmzContentChecksumMismatch", _)
            | (_, 200 | 408 | 409 | 425 | 500..) => (Transient, Outcome::Failed, String::new()),
            // An answer to HEAD has no body that could say more; expired credentials look so.
            ("" | "BadRequest", 400) => (Transient, Outcome::Denied, text(expired_hint(store.fixed_keys))),
            _ => (Fatal, Outcome::Failed, String::new()),
        }
    }

    fn region_hint(&self) -> String {
        let expected = self.message.split("expecting '").nth(1).and_then(|rest| rest.split('\'').next()).map(str::to_owned);
        match self.region.clone().or(expected) {
            Some(region) => format!("the bucket is in region `{region}`: set `region: {region}`"),
            None => "the bucket is in another region: set `region`".to_owned(),
        }
    }

    fn denied_hint(&self, store: &S3, request: Request) -> String {
        let mut actions = match request {
            Request::Get | Request::Head => vec!["s3:GetObject", "s3:ListBucket"],
            Request::List => vec!["s3:ListBucket"],
            Request::Create | Request::Put | Request::BeginUpload | Request::Part | Request::CompleteUpload => vec!["s3:PutObject"],
            Request::Swap => vec!["s3:PutObject", "s3:GetObject"],
            Request::Delete => vec!["s3:DeleteObject"],
            Request::AbortUpload => vec!["s3:AbortMultipartUpload"],
            Request::ListUploads => vec!["s3:ListBucketMultipartUploads"],
        };
        let writes = &store.writes;
        if matches!(request, Request::Create | Request::Put | Request::BeginUpload) {
            actions.extend((!writes.tags.is_empty()).then_some("s3:PutObjectTagging"));
            actions.extend(writes.acl.as_ref().map(|_| "s3:PutObjectAcl"));
        }
        if writes.sse_key.is_some() {
            actions.extend(["kms:GenerateDataKey", "kms:Decrypt"]);
        }
        let actions: Vec<String> = actions.into_iter().map(|action| format!("`{action}`")).collect();
        format!("allow {} on bucket `{}`", actions.join(" and "), store.bucket)
    }
}

/// What an error of S3's says of itself.
fn code_and_message(body: &[u8]) -> Result<(String, String), XmlDecodeError> {
    let mut document = Document::try_from(body)?;
    let mut root = document.root_element()?;
    let (mut code, mut message) = (String::new(), String::new());
    while let Some(mut tag) = root.next_tag() {
        match tag.start_el().local() {
            "Code" => code = try_data(&mut tag)?.into_owned(),
            "Message" => message = try_data(&mut tag)?.into_owned(),
            _ => {}
        }
    }
    Ok((code, message))
}

fn certificate_hint(chain: &str) -> &'static str {
    if chain.contains("not valid for name") || chain.contains("NotValidForName") {
        "the store is another one, or its certificate lacks this name: look at `endpoint`"
    } else if chain.contains("expired") || chain.contains("Expired") {
        "renew the store's certificate, and look at the clock of this machine"
    } else {
        "name its certificate authority with `ca_file`"
    }
}

fn expired_hint(fixed_keys: bool) -> &'static str {
    if fixed_keys {
        "renew `access_key_id`, `secret_access_key` and `session_token`, or let the default chain renew them"
    } else {
        "the credentials have expired; new ones are asked for, and it goes on by itself"
    }
}

fn credentials_failure(error: &CredentialsError, doing: &str, chain: &str) -> FailedAttempt {
    let (kind, hint) = match error {
        CredentialsError::ProviderTimedOut(_) => (Kind::Transient, "whoever gives credentials does not answer; it goes on by itself"),
        CredentialsError::CredentialsNotLoaded(_) => (Kind::Denied, MISSING_HINT),
        _ if chain.contains("AccessDenied") => (Kind::Denied, "the role may not be assumed: look at its trust policy, `role_arn` and `external_id`"),
        CredentialsError::InvalidConfiguration(_) => (Kind::Config, "look at the AWS profile and environment"),
        _ => (Kind::Transient, "whoever gives credentials has failed: look at the profile, SSO session or role; it goes on by itself"),
    };
    let outcome = if kind == Kind::Transient { Outcome::Failed } else { Outcome::Denied };
    // what the SDK says before is only that
    let why = chain.rsplit_once("the credential provider was not enabled: ").map_or(chain, |(_, why)| why);
    FailedAttempt::new(Error::new(kind, format!("{doing}: no AWS credentials: {why}")).hint(hint), outcome)
}

fn credentials_error<'a>(error: &'a (dyn std::error::Error + 'static)) -> Option<&'a CredentialsError> {
    let mut cause = Some(error);
    while let Some(error) = cause {
        if let Some(found) = error.downcast_ref::<CredentialsError>() {
            return Some(found);
        }
        cause = error.source();
    }
    None
}

fn verb(request: Request) -> &'static str {
    match request {
        Request::Get => "read",
        Request::Head => "look at",
        Request::List => "list",
        Request::Create => "create",
        Request::Put => "write",
        Request::Swap => "swap",
        Request::Delete => "delete",
        Request::BeginUpload => "begin an upload to",
        Request::Part => "upload a part of",
        Request::CompleteUpload => "complete the upload to",
        Request::AbortUpload => "abort the upload to",
        Request::ListUploads => "list the uploads below",
    }
}
