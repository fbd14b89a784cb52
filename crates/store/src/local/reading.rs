//! An object on a disk, read piece by piece. It stays the one that was opened, whatever its name comes to stand for.

use super::{Local, blocking, disk::Disk};
use crate::{Error, Info, Kind, Request, Result, Version, answer::Answer};
use bytes::Bytes;
use std::{fs::File, os::unix::fs::FileExt, sync::Arc};

/// What one step reads.
const PIECE_BYTES: u64 = 256 << 10;

/// The bytes of an opened object from a place on.
pub(crate) struct Remainder {
    file: Arc<File>,
    path: String,
    at: u64,
    end: u64,
}

impl Local {
    pub(crate) async fn read(&self, path: &str, from: u64, version: Option<&Version>) -> Result<Option<(Info, Remainder)>> {
        let (path, version) = (path.to_owned(), version.cloned());
        self.run(Request::Get, 0, move |disk| open(disk, &path, from, version.as_ref())).await
    }
}

fn open(disk: &Disk, path: &str, from: u64, version: Option<&Version>) -> Result<Option<(Info, Remainder)>> {
    let Some((file, info)) = disk.open_known(path)? else { return Ok(None) };
    if version.is_some_and(|version| *version != info.version) {
        return Ok(None);
    }
    let rest = Remainder { file: Arc::new(file), path: path.to_owned(), at: from.min(info.bytes), end: info.bytes };
    Ok(Some((info, rest)))
}

/// Counted when it is opened, with the bytes that were announced then.
impl Answer for (Info, Remainder) {
    fn bytes(&self) -> u64 {
        self.1.bytes()
    }
}

impl Remainder {
    fn bytes(&self) -> u64 {
        self.end - self.at
    }

    pub(crate) async fn next(&mut self) -> Result<Option<Bytes>> {
        let length = usize::try_from(self.bytes().min(PIECE_BYTES)).unwrap_or_default();
        if length == 0 {
            return Ok(None);
        }
        let (file, at) = (self.file.clone(), self.at);
        let path = self.path.clone();
        let bytes = blocking(move || {
            let mut bytes = vec![0; length];
            let read = file.read_exact_at(&mut bytes, at);
            read.map_err(|error| Error::new(Kind::Transient, format!("the reading of `{path}` broke off at byte {at}")).source(error))?;
            Ok(Bytes::from(bytes))
        })
        .await?;
        self.at += length as u64;
        Ok(Some(bytes))
    }
}
