//! The one shape of all errors here: a kind by what the caller does about it, what happened, the way out, and what caused it.
//!
//! The store's [`Error`] is that shape as it is. A library with a kind of its own, or more to say of an error, has a type of its
//! own over the same shape, made by [`error_type!`](crate::error_type).

use std::{error::Error as StdError, fmt};

/// What the caller does about an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// The URL or a setting is wrong.
    Config,
    /// The object, bucket or folder is not there.
    Missing,
    /// No permission.
    Denied,
    /// It may go well later; retries inside are used up. The request may have been done all the same.
    Transient,
    /// The store refuses for good, or breaks the protocol.
    Fatal,
}

/// An error of a store.
pub type Error = Failure<Kind>;

/// The store's result.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What a library's errors say besides their kind and their text.
pub trait Detail: Default {
    /// What stands in brackets behind the kind when the error is shown to developers.
    fn code(&self) -> Option<&'static str> {
        None
    }
}

impl Detail for () {}

/// An error: one pointer, whatever it holds.
pub struct Failure<K, D = ()>(Box<Inner<K, D>>);

struct Inner<K, D> {
    kind: K,
    detail: D,
    doing: String,
    hint: Option<String>,
    source: Option<Box<dyn StdError + Send + Sync>>,
}

impl<K: Copy, D: Detail> Failure<K, D> {
    /// An error of `kind`: what happened, in lower case, values in backticks, no full stop.
    pub fn new(kind: K, doing: impl Into<String>) -> Self {
        Failure(Box::new(Inner { kind, detail: D::default(), doing: doing.into(), hint: None, source: None }))
    }

    /// The same error with the way out, printed once after the chain as a line `hint: …`.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.0.hint = Some(hint.into());
        self
    }

    /// The same error with what caused it.
    #[must_use]
    pub fn source(mut self, source: impl Into<Box<dyn StdError + Send + Sync>>) -> Self {
        self.0.source = Some(source.into());
        self
    }

    /// The same error with its detail as `change` makes it.
    #[must_use]
    pub fn with(mut self, change: impl FnOnce(&mut D)) -> Self {
        change(&mut self.0.detail);
        self
    }

    /// The same error, saying first what was being done.
    #[must_use]
    pub fn doing(mut self, what: impl fmt::Display) -> Self {
        self.0.doing = format!("{what}: {}", self.0.doing);
        self
    }

    /// What the caller does about it.
    pub fn kind(&self) -> K {
        self.0.kind
    }

    /// What it says besides.
    pub fn detail(&self) -> &D {
        &self.0.detail
    }

    /// What caused it.
    pub fn cause(&self) -> Option<&(dyn StdError + 'static)> {
        self.0.source.as_deref().map(|source| source as _)
    }

    /// The message and those of all causes, joined by `: `. What a message repeats of its cause is said once.
    pub fn chain(&self) -> String {
        let mut text = self.0.doing.clone();
        let mut last = text.clone();
        let mut cause = self.cause();
        while let Some(error) = cause {
            let message = error.to_string();
            if !last.contains(&message) {
                text.push_str(": ");
                text.push_str(&message);
                last = message;
            }
            cause = error.source();
        }
        text
    }

    /// The way out: of this error, or of the nearest cause that has one. `own` knows the library's errors among the causes.
    #[doc(hidden)]
    pub fn way_out_by<'a>(&'a self, own: impl Fn(&'a (dyn StdError + 'static)) -> Option<&'a Self>) -> Option<&'a str> {
        let mut hint = self.0.hint.as_deref();
        let mut cause = self.cause();
        while let (None, Some(error)) = (hint, cause) {
            hint = own(error).and_then(|own| own.0.hint.as_deref()).or_else(|| error.downcast_ref::<Error>()?.0.hint.as_deref());
            cause = error.source();
        }
        hint
    }
}

impl Failure<Kind> {
    /// The way out: of this error, or of the nearest cause that has one.
    pub fn way_out(&self) -> Option<&str> {
        self.way_out_by(|cause| cause.downcast_ref())
    }

    /// The same error, said of the last of many attempts.
    pub(crate) fn after(mut self, attempts: u32) -> Self {
        if attempts > 1 {
            self.0.doing = format!("{} ({attempts} attempts)", self.0.doing);
        }
        self
    }
}

impl<K, D> fmt::Display for Failure<K, D> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.doing)
    }
}

impl<K: Copy + fmt::Debug, D: Detail> fmt::Debug for Failure<K, D> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.0.kind)?;
        if let Some(code) = self.0.detail.code() {
            write!(f, " ({code})")?;
        }
        write!(f, ": {}", self.chain())
    }
}

impl<K: Copy + fmt::Debug, D: Detail> StdError for Failure<K, D> {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.cause()
    }
}

/// Makes a library's error type over [`Failure`](crate::error::Failure): its kind, and its [`Detail`](crate::error::Detail).
#[macro_export]
macro_rules! error_type {
    ($(#[$doc:meta])* $name:ident($kind:ty, $detail:ty)) => {
        $(#[$doc])*
        pub struct $name($crate::error::Failure<$kind, $detail>);

        impl $name {
            /// An error of `kind`: what happened, in lower case, values in backticks, no full stop.
            pub fn new(kind: $kind, doing: impl Into<String>) -> Self {
                $name($crate::error::Failure::new(kind, doing))
            }

            /// The same error with the way out, printed once after the chain as a line `hint: …`.
            #[must_use]
            pub fn hint(self, hint: impl Into<String>) -> Self {
                $name(self.0.hint(hint))
            }

            /// The same error with what caused it.
            #[must_use]
            pub fn source(self, source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
                $name(self.0.source(source))
            }

            /// The same error, saying first what was being done.
            #[must_use]
            pub fn doing(self, what: impl std::fmt::Display) -> Self {
                $name(self.0.doing(what))
            }

            /// What the caller does about it.
            pub fn kind(&self) -> $kind {
                self.0.kind()
            }

            /// The way out: of this error, or of the nearest cause that has one.
            pub fn way_out(&self) -> Option<&str> {
                self.0.way_out_by(|cause| cause.downcast_ref::<$name>().map(|error| &error.0))
            }

            /// The message and those of all causes, joined by `: `. What a message repeats of its cause is said once.
            pub fn chain(&self) -> String {
                self.0.chain()
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                std::fmt::Display::fmt(&self.0, f)
            }
        }

        impl std::fmt::Debug for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                std::fmt::Debug::fmt(&self.0, f)
            }
        }

        impl std::error::Error for $name {
            fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
                self.0.cause()
            }
        }
    };
}

#[cfg(test)]
mod tests {
    #![allow(unreachable_pub, reason = "the macro makes types of libraries")]

    use super::*;

    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub enum Level {
        Upper,
    }

    #[derive(Default)]
    pub struct Code(Option<&'static str>);

    impl Detail for Code {
        fn code(&self) -> Option<&'static str> {
            self.0
        }
    }

    error_type!(
        /// An error above the store's.
        Upper(Level, Code)
    );

    #[test]
    fn the_chain_says_each_thing_once_and_the_nearest_hint_counts() {
        let store = Error::new(Kind::Transient, "the store does not answer").hint("look at the store");
        assert_eq!(format!("{store:?}"), "Transient: the store does not answer");
        let inner = Upper::new(Level::Upper, "cannot read `a`: the store does not answer").source(store);
        let outer = Upper::new(Level::Upper, "the partition waits").source(inner);
        assert_eq!(outer.chain(), "the partition waits: cannot read `a`: the store does not answer");
        assert_eq!(outer.way_out(), Some("look at the store"));
        assert_eq!((outer.kind(), outer.to_string().as_str()), (Level::Upper, "the partition waits"));
        let hinted = Upper::new(Level::Upper, "one above").source(outer.hint("wait"));
        assert_eq!(hinted.way_out(), Some("wait"));
    }

    #[test]
    fn developers_see_kind_code_and_causes() {
        let cause = std::io::Error::other("no such disk");
        let failed = Upper(Failure::new(Level::Upper, "it fails").with(|code: &mut Code| code.0 = Some("sha256_mismatch")).source(cause));
        assert_eq!(format!("{:?}", failed.doing("orders")), "Upper (sha256_mismatch): orders: it fails: no such disk");
    }
}
