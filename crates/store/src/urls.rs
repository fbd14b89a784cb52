//! Addresses of stores and of the objects in them: the one place that takes `s3://` and `file://` apart and puts them together.
//!
//! ```
//! use kas3_store::StoreUrl;
//! let lake = StoreUrl::parse("s3://lake/raw").unwrap();
//! assert_eq!((lake.bucket(), lake.prefix().as_str()), ("lake", "raw/"));
//! assert_eq!(lake.join("orders/0_0.jsonl"), "s3://lake/raw/orders/0_0.jsonl");
//! assert_eq!(StoreUrl::parse("file:///data/lake/a").unwrap().container(), "file:///data/lake");
//! ```

use crate::{Error, Kind, Result, paths};
use std::fmt;

/// What an object store's URL begins with.
const S3: &str = "s3://";
/// What a folder's URL begins with.
pub(crate) const FILE: &str = "file://";

/// The kind of a store.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Scheme {
    /// `s3://bucket/prefix`
    S3,
    /// `file:///folder`
    File,
}

impl Scheme {
    /// The names of all schemes, as they stand before `://`.
    pub const NAMES: [&str; 2] = ["s3", "file"];
}

/// A URL that was taken apart. Only split: whether a store takes such a bucket or path is decided when it is opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct StoreUrl<'a> {
    scheme: Scheme,
    bucket: &'a str,
    path: &'a str,
}

/// Why a text is not the URL of a store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UrlFault<'a> {
    /// There is no `://` in it.
    NoScheme,
    /// A scheme that is none of [`Scheme::NAMES`].
    UnknownScheme {
        /// What stands before `://`.
        scheme: &'a str,
        /// What stands behind it.
        rest: &'a str,
    },
    /// A folder whose path is not absolute.
    Relative,
}

impl<'a> StoreUrl<'a> {
    /// Takes a URL apart.
    ///
    /// # Errors
    /// What keeps the text from being the URL of a store.
    pub fn parse(url: &'a str) -> Result<Self, UrlFault<'a>> {
        let (scheme, rest) = url.split_once("://").ok_or(UrlFault::NoScheme)?;
        match scheme {
            "s3" => {
                let (bucket, path) = rest.split_once('/').unwrap_or((rest, ""));
                Ok(StoreUrl::s3(bucket, path))
            }
            "file" => {
                let path = rest.strip_prefix('/').ok_or(UrlFault::Relative)?;
                Ok(StoreUrl { scheme: Scheme::File, bucket: "", path })
            }
            _ => Err(UrlFault::UnknownScheme { scheme, rest }),
        }
    }

    /// A bucket, at a prefix or key; empty for all of it.
    pub fn s3(bucket: &'a str, path: &'a str) -> Self {
        StoreUrl { scheme: Scheme::S3, bucket, path }
    }

    /// The kind of store.
    pub fn scheme(self) -> Scheme {
        self.scheme
    }

    /// The bucket's name; empty for a folder.
    pub fn bucket(self) -> &'a str {
        self.bucket
    }

    /// What follows the bucket, or the root of the file system, without the slash between them; as it was written.
    pub fn path(self) -> &'a str {
        self.path
    }

    /// What the keys of everything below begin with: empty, or ends in `/`.
    pub fn prefix(self) -> String {
        match self.path.trim_end_matches('/') {
            "" => String::new(),
            path => format!("{path}/"),
        }
    }

    /// What names an object to others who look into the store: the key in its bucket, or the absolute path.
    pub fn key(self) -> String {
        match self.scheme {
            Scheme::S3 => self.path.to_owned(),
            Scheme::File => format!("/{}", self.path),
        }
    }

    /// The URL of what lies at `path` below.
    pub fn join(self, path: &str) -> String {
        format!("{self}/{path}")
    }

    /// The URL of what holds an object: its bucket, or the folder in which it lies.
    pub fn container(self) -> String {
        match self.scheme {
            Scheme::S3 => StoreUrl::s3(self.bucket, "").to_string(),
            Scheme::File => {
                let folder = self.path.rsplit_once('/').map_or("", |(folder, _)| folder);
                StoreUrl { path: folder, ..self }.to_string()
            }
        }
    }
}

/// Without a slash at the end, but for the root of the file system.
impl fmt::Display for StoreUrl<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let path = self.path.trim_end_matches('/');
        match self.scheme {
            Scheme::S3 if path.is_empty() => write!(f, "{S3}{}", self.bucket),
            Scheme::S3 => write!(f, "{S3}{}/{path}", self.bucket),
            Scheme::File => write!(f, "{FILE}/{path}"),
        }
    }
}

/// Bucket and root of an `s3://` URL, of which the root is empty or ends in `/`.
///
/// # Errors
/// `Config` for a bucket or a root that no store takes.
pub(crate) fn bucket_and_root(url: &str) -> Result<(String, String)> {
    let wrong = |why: &str| {
        Error::new(Kind::Config, format!("`{}` is not the URL of a bucket: {why}", url.escape_debug()))
            .hint("write `s3://bucket` or `s3://bucket/prefix`")
    };
    let parsed = StoreUrl::parse(url).ok().filter(|parsed| parsed.scheme == Scheme::S3);
    let StoreUrl { bucket, path: root, .. } = parsed.ok_or_else(|| wrong("it does not begin with `s3://`"))?;
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_');
    if bucket.is_empty() || bucket.len() > 255 || !bucket.bytes().all(fits) || bucket.starts_with('.') {
        return Err(wrong("the name of the bucket is missing, or holds what no bucket's name may"));
    }
    if root.is_empty() {
        return Ok((bucket.to_owned(), String::new()));
    }
    let root = root.strip_suffix('/').unwrap_or(root);
    paths::check(root).map_err(|error| wrong("its prefix is refused").source(error))?;
    Ok((bucket.to_owned(), format!("{root}/")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_are_read_with_and_without_a_slash_at_the_end() {
        let both = |bucket: &str, root: &str| (bucket.to_owned(), root.to_owned());
        assert_eq!(bucket_and_root("s3://lake").unwrap(), both("lake", ""));
        assert_eq!(bucket_and_root("s3://lake/").unwrap(), both("lake", ""));
        assert_eq!(bucket_and_root("s3://lake/a/b").unwrap(), both("lake", "a/b/"));
        assert_eq!(bucket_and_root("s3://my.lake-1/a b=c%3D/").unwrap(), both("my.lake-1", "a b=c%3D/"));
        for url in ["s3://", "s3:///a", "s3://lake//", "s3://lake//a", "s3://lake/../a", "s3://lake/a//", "s3://la ke/a", "s3://la%20ke", "S3://lake"]
        {
            let error = bucket_and_root(url).unwrap_err();
            assert!(error.kind() == Kind::Config && error.way_out().is_some(), "{url}");
        }
    }

    #[test]
    fn a_url_is_taken_apart_and_put_together_again() {
        for (url, bucket, path, prefix, key) in [
            ("s3://lake", "lake", "", "", ""),
            ("s3://lake/a/b", "lake", "a/b", "a/b/", "a/b"),
            ("file:///", "", "", "", "/"),
            ("file:///data/a%20b", "", "data/a%20b", "data/a%20b/", "/data/a%20b"),
        ] {
            let parsed = StoreUrl::parse(url).unwrap();
            assert_eq!((parsed.bucket(), parsed.path(), parsed.prefix().as_str(), parsed.key().as_str()), (bucket, path, prefix, key), "{url}");
            assert_eq!(parsed.to_string(), url);
        }
        assert_eq!(StoreUrl::parse("s3://lake/a/").unwrap().to_string(), "s3://lake/a");
        assert_eq!(StoreUrl::parse("data/lake"), Err(UrlFault::NoScheme));
        assert_eq!(StoreUrl::parse("s3a://lake"), Err(UrlFault::UnknownScheme { scheme: "s3a", rest: "lake" }));
        assert_eq!(StoreUrl::parse("file://data/lake"), Err(UrlFault::Relative));
    }

    #[test]
    fn an_object_lies_in_its_bucket_or_folder() {
        for (url, container) in
            [("s3://lake/a/b", "s3://lake"), ("s3://lake", "s3://lake"), ("file:///a/b/c", "file:///a/b"), ("file:///a", "file:///")]
        {
            assert_eq!(StoreUrl::parse(url).unwrap().container(), container);
        }
    }
}
