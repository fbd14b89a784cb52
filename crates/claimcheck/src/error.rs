//! The library's one error: what the caller does about it, and for payloads that cannot be trusted a fixed reason.

use kas3_store::error::{Detail, Failure};
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

/// Why a record or its payload is refused, where that is what happened.
#[derive(Default)]
struct Refusal(Option<Reason>);

impl Detail for Refusal {
    fn code(&self) -> Option<&'static str> {
        self.0.map(Reason::code)
    }
}

kas3_store::error_type!(
    /// An error of the claim check.
    Error(Kind, Refusal)
);

/// The library's result.
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    /// A record or payload is refused for `reason`.
    pub fn refused(reason: Reason, doing: impl Into<String>) -> Self {
        Error(Failure::new(reason.kind(), doing).with(|refusal: &mut Refusal| refusal.0 = Some(reason)))
    }

    /// Why the record or its payload is refused.
    pub fn reason(&self) -> Option<Reason> {
        self.0.detail().0
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
        let own = Error::new(kind, error.to_string());
        let own = match error.way_out() {
            Some(hint) => own.hint(hint),
            None => own,
        };
        match error.cause() {
            Some(cause) => own.source(cause.to_string()),
            None => own,
        }
    }
}
