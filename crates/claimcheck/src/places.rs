//! Where payloads may lie: buckets and prefixes, opened. A reference to any other place is refused before a request is made.

use crate::{Error, Reason, Reference, Result, settings::ClaimCheckSettings};
use kas3_store::{Observer, Scheme, Store, StoreUrl};
use std::sync::Arc;

/// A bucket at a prefix.
#[derive(Clone)]
pub(crate) struct Place {
    /// As references name it: a bucket's name, or a folder's URL.
    pub(crate) bucket: String,
    /// Empty, or ends in `/`.
    prefix: String,
    pub(crate) store: Store,
}

/// The place that is written to, and those that are only read.
pub(crate) struct Places(Vec<Place>);

impl Places {
    pub(crate) async fn open(settings: &ClaimCheckSettings, observer: &Arc<dyn Observer>) -> Result<Places> {
        let mut places = Vec::with_capacity(1 + settings.read_from.len());
        for url in std::iter::once(&settings.url).chain(&settings.read_from) {
            let store = Store::open(url, &settings.storage, observer.clone()).await?;
            let (bucket, prefix) = bucket_and_prefix(store.url());
            places.push(Place { bucket, prefix, store });
        }
        Ok(Places(places))
    }

    /// Where payloads are written.
    pub(crate) fn own(&self) -> &Place {
        &self.0[0]
    }

    /// The place of a reference, and the object's path in it.
    pub(crate) fn of<'a>(&'a self, reference: &'a Reference) -> Result<(&'a Place, &'a str)> {
        let mut in_bucket = self.0.iter().filter(|place| place.bucket == reference.bucket).peekable();
        let shown = shown(&reference.url());
        if in_bucket.peek().is_none() {
            return Err(Error::refused(Reason::UnexpectedBucket, format!("the reference names {shown}, in a bucket that is not accepted"))
                .hint("name the place in `read_from` if its payloads are to be believed"));
        }
        let found = in_bucket.find_map(|place| reference.key.strip_prefix(&place.prefix).map(|path| (place, path)));
        let leaves = |path: &str| path.split('/').any(|segment| matches!(segment, "" | "." | "..")) || path.contains('\0');
        match found {
            Some((place, path)) if !leaves(path) => Ok((place, path)),
            _ => Err(Error::refused(Reason::PrefixViolation, format!("the reference names {shown}, outside the prefix that is accepted"))
                .hint("name the place in `read_from` if its payloads are to be believed")),
        }
    }
}

impl Place {
    /// The key of a path.
    pub(crate) fn key(&self, path: &str) -> String {
        format!("{}{path}", self.prefix)
    }

    /// Objects of S3 have ETags; files have none that another machine would know.
    pub(crate) fn has_etags(&self) -> bool {
        !self.bucket.contains("://")
    }
}

/// What the references to payloads at a URL name: a bucket's name, or a folder's URL, and what their keys begin with.
pub fn bucket_and_prefix(url: &str) -> (String, String) {
    match StoreUrl::parse(url) {
        Ok(parsed) if parsed.scheme() == Scheme::S3 => (parsed.bucket().to_owned(), parsed.prefix()),
        _ => (url.to_owned(), String::new()),
    }
}

/// For messages: outside text, cut and escaped.
pub(crate) fn shown(text: &str) -> String {
    let cut: String = text.chars().take(300).collect();
    format!("`{}`", cut.escape_debug())
}
