//! Uploads on a disk: a hidden file in the staging folder that grows by parts and is linked under its name at the end.
//!
//! Beside it lies its target's path (`.path`), for listings. The staged file itself stays until the upload is aborted, so
//! that completing can be repeated.

use super::{
    disk::{Disk, failed, is_absent, sync_folder, sync_folder_of},
    sys,
};
use crate::{Completed, Error, Kind, OpenUpload, PART_BYTES, PartId, Result, UploadId, answer::Part, paths};
use std::{
    borrow::Cow,
    fs::{self, File, OpenOptions},
    io::{self, Write},
    os::unix::fs::{FileExt, MetadataExt},
    path::{Path, PathBuf},
    time::SystemTime,
};

const STAGED: &str = ".kas3-upload-";
const TARGET: &str = ".path";

impl Disk {
    pub(super) fn begin_upload(&self, path: &str, staging: &str, metadata: &[(Cow<'static, str>, String)]) -> Result<UploadId> {
        let staging = staging.trim_end_matches('/');
        let name = format!("{STAGED}{:016x}", rand::random::<u64>());
        let id = if staging.is_empty() { name } else { format!("{staging}/{name}") };
        let folder = self.at(staging);
        let begin = || -> io::Result<()> {
            // The target's path comes first and goes last: no staged bytes without it.
            let mut target = self.within(&folder, || File::create_new(target_of(&self.at(&id))))?;
            target.write_all(path.as_bytes())?;
            target.sync_all()?;
            let file = File::create_new(self.at(&id))?;
            sys::write_metadata(&file, metadata)?;
            file.sync_all()?;
            sync_folder(&folder)
        };
        begin().map_err(|error| failed("begin an upload in", &folder, error))?;
        Ok(UploadId(id))
    }

    pub(super) fn put_part(&self, upload: &UploadId, number: u32, bytes: &[u8]) -> Result<PartId> {
        let staged = self.staged(upload)?;
        let file = OpenOptions::new()
            .write(true)
            .open(&staged)
            .map_err(|error| if is_absent(&error) { unknown(upload) } else { failed("write", &staged, error) })?;
        let write = || -> io::Result<bool> {
            // Once linked, the bytes are somebody's object.
            let open = file.metadata()?.nlink() == 1;
            if open {
                file.write_all_at(bytes, u64::from(number - 1) * PART_BYTES as u64)?;
                file.sync_data()?;
            }
            Ok(open)
        };
        match write() {
            Ok(true) => Part { number, bytes: bytes.len() as u64, etag: None, checksum: None }.id(),
            Ok(false) => Err(unknown(upload)),
            Err(error) => Err(failed("write", &staged, error)),
        }
    }

    pub(super) fn complete_upload(&self, path: &str, upload: &UploadId, parts: &[Part]) -> Result<Completed> {
        let (staged, target) = (self.staged(upload)?, self.at(path));
        let complete = || -> io::Result<Completed> {
            let found = match fs::metadata(&staged) {
                Ok(found) => found,
                Err(error) if is_absent(&error) => return Ok(if self.is_object(&target) { Completed::Exists } else { Completed::Gone }),
                Err(error) => return Err(error),
            };
            let bytes: u64 = parts.iter().map(|part| part.bytes).sum();
            if found.len() != bytes {
                return Ok(Completed::Refused(format!("{} bytes are staged, but the parts add up to {bytes}", found.len())));
            }
            loop {
                if self.link(&staged, &target)? {
                    return Ok(Completed::Done);
                }
                match fs::metadata(&target) {
                    Ok(there) => return Ok(if there.ino() == found.ino() { Completed::Done } else { Completed::Exists }),
                    // A reader took it away this moment: link again.
                    Err(error) if is_absent(&error) => {}
                    Err(error) => return Err(error),
                }
            }
        };
        complete().map_err(|error| failed("complete the upload to", &target, error))
    }

    pub(super) fn abort_upload(&self, upload: &UploadId) -> Result<()> {
        let staged = self.staged(upload)?;
        for place in [staged.clone(), target_of(&staged)] {
            match fs::remove_file(&place) {
                Err(error) if !is_absent(&error) => return Err(failed("delete", &place, error)),
                _ => {}
            }
        }
        match sync_folder_of(&staged) {
            Err(error) if !is_absent(&error) => Err(failed("delete", &staged, error)),
            _ => Ok(()),
        }
    }

    pub(super) fn list_uploads(&self, prefix: &str, staging: &str) -> Result<Vec<OpenUpload>> {
        let mut uploads = Vec::new();
        let folder = self.at(staging.trim_end_matches('/'));
        self.collect_uploads(&folder, prefix, &mut uploads).map_err(|error| failed("list", &folder, error))?;
        uploads.sort_by(|a, b| (&a.path, a.begun).cmp(&(&b.path, b.begun)));
        Ok(uploads)
    }

    fn collect_uploads(&self, folder: &Path, prefix: &str, uploads: &mut Vec<OpenUpload>) -> io::Result<()> {
        let entries = match fs::read_dir(folder) {
            Ok(entries) => entries,
            Err(error) if is_absent(&error) => return Ok(()),
            Err(error) => return Err(error),
        };
        for entry in entries {
            let entry = entry?;
            let name = entry.file_name();
            let Some(name) = name.to_str() else { continue };
            if entry.file_type()?.is_dir() && !name.starts_with(paths::RESERVED) {
                self.collect_uploads(&entry.path(), prefix, uploads)?;
            }
            let Some(name) = name.strip_suffix(TARGET).filter(|name| name.starts_with(STAGED)) else { continue };
            // Aborted meanwhile, or begun a moment ago.
            let (Ok(path), Ok(metadata)) = (fs::read_to_string(entry.path()), entry.metadata()) else { continue };
            let Ok(id) = folder.join(name).strip_prefix(self.root()).map(Path::to_owned) else { continue };
            let Some(id) = id.to_str().filter(|_| path.starts_with(prefix)) else { continue };
            uploads.push(OpenUpload { path, id: UploadId(id.to_owned()), begun: metadata.modified().unwrap_or(SystemTime::UNIX_EPOCH) });
        }
        Ok(())
    }

    /// Where an upload's bytes lie. Ids come out of heads, which others may have written: they are confined like paths.
    fn staged(&self, upload: &UploadId) -> Result<PathBuf> {
        let (confined, name) = match upload.0.rsplit_once('/') {
            Some((folder, name)) => (!folder.ends_with('/') && paths::check(folder).is_ok(), name),
            None => (true, upload.0.as_str()),
        };
        let random = name.strip_prefix(STAGED);
        if !confined || !random.is_some_and(|random| random.bytes().all(|byte| byte.is_ascii_hexdigit())) {
            return Err(Error::new(Kind::Config, format!("`{}` is not an upload of a local disk", upload.0.escape_debug())));
        }
        Ok(self.at(&upload.0))
    }
}

fn target_of(staged: &Path) -> PathBuf {
    let mut name = staged.as_os_str().to_owned();
    name.push(TARGET);
    name.into()
}

fn unknown(upload: &UploadId) -> Error {
    Error::new(Kind::Missing, format!("upload `{}` is not open", upload.0)).hint("it was completed or aborted: begin another one")
}
