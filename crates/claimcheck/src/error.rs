//! The library's one error: what the caller does about it, and for payloads that cannot be trusted a fixed reason.

use std::fmt;

/// What the caller does about an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// A setting is wrong; nothing was started.
    Config,
    /// A record that was to be sent does not fit: too large, or it carries what is ours. Nothing was sent.
    Record,
    /// A record that was read, or the payload that it names, cannot be trusted; [`Error::reason`] says why.
    Integrity,
    /// The payload is not there any more.
    Missing,
    /// No permission for the payload or the topic.
    Denied,
    /// It may go well when tried again.
    Transient,
    /// The client cannot go on.
    Fatal,
}

/// Why a record or its payload is refused. The code of each ([`Reason::code`]) is fixed: metrics, dead letters and other
/// languages use it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Reason {
    /// The reference names a bucket that is not among those accepted.
    UnexpectedBucket,
    /// The reference names a key outside the prefix, or one that could leave it.
    PrefixViolation,
    /// The reference has no checksum, and one is required.
    MissingChecksum,
    /// The reference names a compression that is not known.
    UnsupportedCompression,
    /// The object is larger than allowed, or than its reference says.
    ObjectTooLarge,
    /// The reference has an ETag and the store gives none.
    MissingEtag,
    /// The object's ETag is another one than the reference's.
    EtagMismatch,
    /// The object cannot be decompressed.
    DecompressionFailed,
    /// It inflates to more than allowed, or than its reference says.
    DecompressedTooLarge,
    /// The payload's SHA-256 is another one than the reference's.
    Sha256Mismatch,
    /// The payload is shorter or longer than its reference says.
    SizeMismatch,
    /// The reference cannot be read: fields missing or of another type.
    MalformedReference,
    /// The reference is of a version that this build does not know.
    UnknownVersion,
    /// The record has no reference, and payloads in records are not allowed.
    InlineNotAllowed,
    /// The object is gone (404).
    ObjectMissing,
    /// The object may not be read (403).
    ObjectForbidden,
}

impl Reason {
    /// The fixed code, as `sha256_mismatch`.
    pub fn code(self) -> &'static str {
        match self {
            Reason::UnexpectedBucket => "unexpected_bucket",
            Reason::PrefixViolation => "prefix_violation",
            Reason::MissingChecksum => "missing_checksum",
            Reason::UnsupportedCompression => "unsupported_compression",
            Reason::ObjectTooLarge => "object_too_large",
            Reason::MissingEtag => "missing_etag",
            Reason::EtagMismatch => "etag_mismatch",
            Reason::DecompressionFailed => "decompression_failed",
            Reason::DecompressedTooLarge => "decompressed_too_large",
            Reason::Sha256Mismatch => "sha256_mismatch",
            Reason::SizeMismatch => "size_mismatch",
            Reason::MalformedReference => "malformed_message",
            Reason::UnknownVersion => "unknown_version",
            Reason::InlineNotAllowed => "inline_not_allowed",
            Reason::ObjectMissing => "object_missing",
            Reason::ObjectForbidden => "object_forbidden",
        }
    }

    fn kind(self) -> Kind {
        match self {
            Reason::ObjectMissing => Kind::Missing,
            Reason::ObjectForbidden => Kind::Denied,
            _ => Kind::Integrity,
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.code())
    }
}

/// An error of the claim check.
pub struct Error(Box<Inner>);

struct Inner {
    kind: Kind,
    reason: Option<Reason>,
    doing: String,
    hint: Option<String>,
    source: Option<Box<dyn std::error::Error + Send + Sync>>,
}

/// The library's result.
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    /// An error of `kind`: what happened, in lower case, values in backticks, no full stop.
    pub fn new(kind: Kind, doing: impl Into<String>) -> Self {
        Error(Box::new(Inner { kind, reason: None, doing: doing.into(), hint: None, source: None }))
    }

    /// A record or payload is refused for `reason`.
    pub fn refused(reason: Reason, doing: impl Into<String>) -> Self {
        Error(Box::new(Inner { kind: reason.kind(), reason: Some(reason), doing: doing.into(), hint: None, source: None }))
    }

    /// The same error with the way out.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.0.hint = Some(hint.into());
        self
    }

    /// The same error with what caused it.
    #[must_use]
    pub fn source(mut self, source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        self.0.source = Some(source.into());
        self
    }

    /// The same error, saying first what was being done.
    #[must_use]
    pub fn doing(mut self, what: impl fmt::Display) -> Self {
        self.0.doing = format!("{what}: {}", self.0.doing);
        self
    }

    /// What the caller does about it.
    pub fn kind(&self) -> Kind {
        self.0.kind
    }

    /// Why the record or its payload is refused.
    pub fn reason(&self) -> Option<Reason> {
        self.0.reason
    }

    /// The way out, if there is one to name.
    pub fn way_out(&self) -> Option<&str> {
        self.0.hint.as_deref()
    }

    /// With all causes on one line, as logs and dead letters have it.
    pub fn chain(&self) -> String {
        let mut text = self.0.doing.clone();
        let mut cause = std::error::Error::source(self);
        while let Some(error) = cause {
            let said = error.to_string();
            if !text.ends_with(&said) {
                text = format!("{text}: {said}");
            }
            cause = error.source();
        }
        text
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.doing)
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.0.kind)?;
        if let Some(reason) = self.0.reason {
            write!(f, " ({reason})")?;
        }
        write!(f, ": {}", self.chain())
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.0.source.as_deref().map(|source| source as _)
    }
}

impl From<kas3_store::Error> for Error {
    fn from(error: kas3_store::Error) -> Self {
        let kind = match error.kind() {
            kas3_store::Kind::Config => Kind::Config,
            kas3_store::Kind::Missing => Kind::Missing,
            kas3_store::Kind::Denied => Kind::Denied,
            kas3_store::Kind::Transient => Kind::Transient,
            kas3_store::Kind::Fatal => Kind::Fatal,
        };
        let hint = error.way_out().map(str::to_owned);
        let doing = error.to_string();
        Error(Box::new(Inner { kind, reason: None, doing, hint, source: std::error::Error::source(&error).map(|cause| cause.to_string().into()) }))
    }
}
