//! An object that is read piece by piece, or in its beginning alone.

use crate::{Info, Result, Version, local, s3};
use bytes::Bytes;
use std::time::SystemTime;

/// An object that is being read, from [`Store::read`](crate::Store::read). Dropped before its end, it leaves the rest where it is.
pub struct Reading {
    /// What is being read; its size is that of the whole object, wherever the reading began.
    pub info: Info,
    rest: Remainder,
}

/// Bytes that are still to come.
pub(crate) enum Remainder {
    /// None: the reading began at the end or beyond.
    Nothing,
    Local(local::Remainder),
    S3(Box<s3::Remainder>),
}

impl Reading {
    pub(crate) fn new(info: Info, rest: Remainder) -> Reading {
        Reading { info, rest }
    }

    /// The next bytes, as many as came at once and never none; `None` at the end. Nothing is buffered beyond them.
    ///
    /// # Errors
    /// `Transient` when they stay away or break off: nothing is tried again here. Whoever counts what came goes on with
    /// [`Store::read_version`](crate::Store::read_version).
    pub async fn next(&mut self) -> Result<Option<Bytes>> {
        match &mut self.rest {
            Remainder::Nothing => Ok(None),
            Remainder::Local(rest) => rest.next().await,
            Remainder::S3(rest) => rest.next().await,
        }
    }
}

/// The first bytes of an object.
#[derive(Clone, Debug)]
pub struct Beginning {
    /// Its first bytes: all of them where it is not longer than was asked for.
    pub bytes: Bytes,
    /// Bytes of the whole object.
    pub size: u64,
    /// Its version.
    pub version: Version,
    /// When it was last written, by the store's clock.
    pub modified: SystemTime,
}

impl Beginning {
    /// There is no more of the object.
    pub fn is_whole(&self) -> bool {
        self.bytes.len() as u64 >= self.size
    }
}
