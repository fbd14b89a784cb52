//! Plain objects on a disk, and the steps that all writes share: a hidden file, made durable, then linked.

use super::sys;
use crate::{Created, Error, Info, Kind, Object, Result, Swapped, Version, paths, urls};
use bytes::Bytes;
use std::{
    borrow::Cow,
    collections::{BTreeMap, HashSet},
    fs::{self, File, Metadata, OpenOptions, TryLockError},
    io::{self, ErrorKind, Read, Write},
    ops::Range,
    os::unix::fs::{FileExt, MetadataExt},
    path::{Component, Path, PathBuf},
    sync::{Mutex, PoisonError},
    time::{Duration, Instant, SystemTime},
};

/// Files being written lie here until they are linked.
const TEMPORARY: &str = ".kas3-tmp";
/// What a killed process left in [`TEMPORARY`] is swept after this.
const TEMPORARY_AGE_MAX: Duration = Duration::from_secs(3600);
/// Folders of which we remember that their names are durable.
const FOLDERS_REMEMBERED_MAX: usize = 10_000;
/// How long a replacement waits for another one of the same object.
const LOCK_WAIT_MAX: Duration = Duration::from_secs(10);

/// A folder on a local disk. All calls block.
pub(super) struct Disk {
    root: PathBuf,
    url: String,
    ignores_case: bool,
    /// `None`: not known, because the folder may only be read.
    keeps_metadata: Option<bool>,
    durable: Mutex<HashSet<PathBuf>>,
}

/// The absolute folder that a `file://` URL names.
pub(super) fn folder_of_url(url: &str) -> Result<PathBuf> {
    let wrong = |why: &str| Error::new(Kind::Config, format!("`{url}` is not the URL of a folder: {why}"));
    let rest = url.strip_prefix(urls::FILE).unwrap_or(url);
    let path = rest.strip_prefix("localhost").filter(|path| path.starts_with('/')).unwrap_or(rest);
    if !path.starts_with('/') {
        let absolute = std::env::current_dir().map_or_else(|_| format!("/{path}"), |here| here.join(path).display().to_string());
        return Err(wrong("its path is relative").hint(format!("write `file://` and the absolute path: `file://{absolute}`")));
    }
    let path = paths::percent_decode(path).ok_or_else(|| wrong("it is not UTF-8"))?;
    if path.contains('\0') {
        return Err(wrong("it holds a zero byte"));
    }
    let path: PathBuf = Path::new(&path).components().collect();
    if path.components().any(|part| part == Component::ParentDir) {
        return Err(wrong("it holds `..`").hint("write the path without `..`"));
    }
    Ok(path)
}

impl Disk {
    pub(super) fn open(root: PathBuf) -> Result<Disk> {
        let mut new = Vec::new();
        let mut at = root.as_path();
        while let Err(error) = fs::metadata(at) {
            let (ErrorKind::NotFound, Some(parent)) = (error.kind(), at.parent()) else { return Err(failed("open", at, error)) };
            new.push(at.to_owned());
            at = parent;
        }
        if !at.is_dir() {
            let error = Error::new(Kind::Config, format!("`{}` is a file, not a folder", at.display()));
            return Err(error.hint("name a folder, or a path where one can be made"));
        }
        for folder in new.iter().rev() {
            make_one_folder(folder).map_err(|error| failed("make folder", folder, error))?;
        }
        if let Some(kind) = sys::network_file_system(&root).map_err(|error| failed("open", &root, error))? {
            let error = Error::new(Kind::Config, format!("`{}` lies on a network file system ({kind})", root.display()));
            return Err(error.hint("links and syncs there do not promise what the ledger needs: use a local disk, or an object store with `s3://`"));
        }
        let text = root.to_str().ok_or_else(|| Error::new(Kind::Config, format!("`{}` is not UTF-8", root.display())))?;
        let url = format!("{}{}", urls::FILE, paths::percent_encode(text.trim_end_matches('/')));
        let mut disk = Disk { root, url, ignores_case: false, keeps_metadata: None, durable: Mutex::default() };
        disk.probe()?;
        disk.sweep();
        Ok(disk)
    }

    /// Finds out what the file system can do; a folder that may only be read is opened all the same.
    fn probe(&mut self) -> Result<()> {
        let hidden = match self.hidden() {
            Ok(hidden) => hidden,
            Err(error) if matches!(error.kind(), ErrorKind::PermissionDenied | ErrorKind::ReadOnlyFilesystem) => return Ok(()),
            Err(error) => return Err(failed("write to", &self.root, error)),
        };
        let fail = |error| failed("probe", &hidden.path, error);
        let name = hidden.path.file_name().map(|name| name.to_string_lossy().to_uppercase()).unwrap_or_default();
        self.ignores_case = hidden.path.with_file_name(name).exists();
        self.keeps_metadata = Some(sys::write_metadata(&hidden.file, &[(Cow::Borrowed("probe"), "1".to_owned())]).map_err(fail)?);
        let link = hidden.path.with_extension("link");
        let linked = fs::hard_link(&hidden.path, &link);
        _ = fs::remove_file(&link);
        linked.map_err(|error| {
            Error::new(Kind::Config, format!("the file system of `{}` has no hard links", self.root.display()))
                .hint("nothing is published without them: use another disk, or an object store with `s3://`")
                .source(error)
        })
    }

    fn sweep(&self) {
        let Ok(entries) = fs::read_dir(self.root.join(TEMPORARY)) else { return };
        for entry in entries.flatten() {
            let age = entry.metadata().and_then(|metadata| metadata.modified()).ok().and_then(|modified| modified.elapsed().ok());
            if age.is_some_and(|age| age > TEMPORARY_AGE_MAX) {
                _ = fs::remove_file(entry.path());
            }
        }
    }

    pub(super) fn url(&self) -> &str {
        &self.url
    }

    pub(super) fn ignores_case(&self) -> bool {
        self.ignores_case
    }

    pub(super) fn root(&self) -> &Path {
        &self.root
    }

    /// Where a path lies. Only for paths that [`paths::check`] let pass.
    pub(super) fn at(&self, path: &str) -> PathBuf {
        self.root.join(path)
    }

    pub(super) fn get(&self, path: &str, limit: u64) -> Result<Option<Object>> {
        let place = self.at(path);
        let Some((file, metadata)) = open_object(&place).map_err(|error| failed("read", &place, error))? else { return Ok(None) };
        let bytes = read_whole(&file, &metadata, path, limit)?;
        Ok(Some(Object { bytes, version: version_of(&metadata) }))
    }

    pub(super) fn range(&self, path: &str, range: Range<u64>) -> Result<Bytes> {
        let place = self.at(path);
        let fail = |error| failed("read", &place, error);
        let Some((file, metadata)) = open_object(&place).map_err(fail)? else {
            return Err(Error::new(Kind::Missing, format!("there is no object `{path}`")));
        };
        let end = range.end.min(metadata.len());
        let length = usize::try_from(end.saturating_sub(range.start)).map_err(|_| Error::new(Kind::Fatal, "a range larger than the memory"))?;
        let mut bytes = vec![0; length];
        file.read_exact_at(&mut bytes, range.start).map_err(fail)?;
        Ok(bytes.into())
    }

    pub(super) fn info(&self, path: &str) -> Result<Option<Info>> {
        Ok(self.open_known(path)?.map(|(_, info)| info))
    }

    /// Opens an object, with all that is known of it.
    pub(super) fn open_known(&self, path: &str) -> Result<Option<(File, Info)>> {
        let place = self.at(path);
        let fail = |error| failed("look at", &place, error);
        let Some((file, metadata)) = open_object(&place).map_err(fail)? else { return Ok(None) };
        let kept = match self.keeps_metadata {
            Some(false) => None,
            known => Some(sys::read_metadata(&file).map_err(fail)?).filter(|kept| known.is_some() || !kept.is_empty()),
        };
        let info = info_of(path, &metadata, kept);
        Ok(Some((file, info)))
    }

    pub(super) fn create(&self, path: &str, bytes: &[u8], metadata: &[(Cow<'static, str>, String)]) -> Result<Created> {
        let place = self.at(path);
        let fail = |error| failed("create", &place, error);
        if self.is_object(&place) {
            self.make_durable(&place).map_err(fail)?;
            return Ok(Created::Exists);
        }
        let hidden = self.write_hidden([bytes], metadata, None).map_err(fail)?;
        match self.link(&hidden.path, &place).map_err(fail)? {
            true => Ok(Created::Done(version_of(&hidden.file.metadata().map_err(fail)?))),
            false => Ok(Created::Exists),
        }
    }

    /// Writes an object, whatever is there. No lock is taken: who writes so asks for no version.
    pub(super) fn put(&self, path: &str, bytes: &[u8], metadata: &[(Cow<'static, str>, String)]) -> Result<Version> {
        let place = self.at(path);
        let fail = |error| failed("write", &place, error);
        let Some(folder) = place.parent() else { return Err(fail(ErrorKind::InvalidInput.into())) };
        let hidden = self.write_hidden([bytes], metadata, None).map_err(fail)?;
        let version = version_of(&hidden.file.metadata().map_err(fail)?);
        self.within(folder, || fs::rename(&hidden.path, &place)).and_then(|()| sync_folder(folder)).map_err(fail)?;
        Ok(version)
    }

    pub(super) fn delete(&self, path: &str) -> Result<()> {
        let place = self.at(path);
        match fs::remove_file(&place) {
            Ok(()) => sync_folder_of(&place).map_err(|error| failed("delete", &place, error)),
            Err(error) if is_absent(&error) => Ok(()),
            Err(error) => Err(failed("delete", &place, error)),
        }
    }

    /// Replaces an object under a lock: a rename alone would not look at the version.
    pub(super) fn replace(&self, path: &str, expected: Option<&Version>, bytes: &[u8], metadata: &[(Cow<'static, str>, String)]) -> Result<Swapped> {
        let place = self.at(path);
        let fail = |error| failed("replace", &place, error);
        let Some(folder) = place.parent() else { return Err(fail(ErrorKind::InvalidInput.into())) };
        let _lock = self.within(folder, || open_lock(&place)).map_err(fail).and_then(lock)?;
        let before = open_object(&place).map_err(fail)?.map(|(_, metadata)| metadata);
        if before.as_ref().map(version_of).as_ref() != expected {
            return Ok(Swapped::Moved);
        }
        // Times grow strictly, so that no two states of the object have one version, however fast they follow each other.
        let after = before.as_ref().and_then(|before| before.modified().ok()).map(|before| before + Duration::from_nanos(1));
        let hidden = self.write_hidden([bytes], metadata, after).map_err(fail)?;
        let version = version_of(&hidden.file.metadata().map_err(fail)?);
        if before.is_none() {
            return Ok(if self.link(&hidden.path, &place).map_err(fail)? { Swapped::Done(version) } else { Swapped::Moved });
        }
        fs::rename(&hidden.path, &place).and_then(|()| sync_folder(folder)).map_err(fail)?;
        Ok(Swapped::Done(version))
    }

    pub(super) fn remove_empty(&self, folder: &str) {
        let mut at = self.at(folder);
        while at != self.root && at.starts_with(&self.root) && fs::remove_dir(&at).is_ok() {
            self.forget_folders();
            at.pop();
        }
    }

    pub(super) fn is_object(&self, place: &Path) -> bool {
        fs::metadata(place).is_ok_and(|metadata| metadata.is_file())
    }

    /// A new hidden file with these bytes, made durable; not older than `not_before`.
    pub(super) fn write_hidden(
        &self,
        pieces: impl IntoIterator<Item = impl AsRef<[u8]>>,
        metadata: &[(Cow<'static, str>, String)],
        not_before: Option<SystemTime>,
    ) -> io::Result<Hidden> {
        let mut hidden = self.hidden()?;
        for piece in pieces {
            hidden.file.write_all(piece.as_ref())?;
        }
        sys::write_metadata(&hidden.file, metadata)?;
        if let Some(not_before) = not_before {
            hidden.file.set_modified(SystemTime::now().max(not_before))?;
        }
        hidden.file.sync_all()?;
        Ok(hidden)
    }

    fn hidden(&self) -> io::Result<Hidden> {
        let folder = self.root.join(TEMPORARY);
        let path = folder.join(format!("{:032x}.a", rand::random::<u128>()));
        let open = || OpenOptions::new().read(true).write(true).create_new(true).open(&path);
        let file = match open() {
            Err(error) if error.kind() == ErrorKind::NotFound => fs::create_dir_all(&folder).and_then(|()| open()),
            result => result,
        }?;
        Ok(Hidden { path, file })
    }

    /// Links a durable file under its name, making folders on the way. `false`: something lies under the name already. Either way the
    /// name is durable afterwards.
    pub(super) fn link(&self, from: &Path, to: &Path) -> io::Result<bool> {
        let Some(folder) = to.parent() else { return Err(ErrorKind::InvalidInput.into()) };
        let linked = self.within(folder, || match fs::hard_link(from, to) {
            Ok(()) => Ok(true),
            Err(error) if error.kind() == ErrorKind::AlreadyExists => Ok(false),
            Err(error) => Err(error),
        })?;
        sync_folder(folder)?;
        Ok(linked)
    }

    /// Does something in a folder that is there and durable, again if somebody removed the empty folder meanwhile.
    pub(super) fn within<T>(&self, folder: &Path, work: impl Fn() -> io::Result<T>) -> io::Result<T> {
        const TRIES: usize = 8;
        let mut tries = 1;
        loop {
            match self.make_folder(folder).and_then(|()| work()) {
                Err(error) if error.kind() == ErrorKind::NotFound && tries < TRIES => self.forget_folders(),
                result => return result,
            }
            tries += 1;
        }
    }

    /// Makes the name of a file that is there durable: the process that made it may have died before its sync.
    pub(super) fn make_durable(&self, place: &Path) -> io::Result<()> {
        place.parent().map_or(Ok(()), |folder| self.within(folder, || sync_folder(folder)))
    }

    /// Makes a folder and its parents and makes their names durable, whoever made them; once per folder.
    fn make_folder(&self, folder: &Path) -> io::Result<()> {
        let mut unknown = Vec::new();
        {
            let durable = self.durable.lock().unwrap_or_else(PoisonError::into_inner);
            let mut at = folder;
            while at != self.root && !durable.contains(at) {
                unknown.push(at.to_owned());
                let Some(parent) = at.parent() else { break };
                at = parent;
            }
        }
        for folder in unknown.iter().rev() {
            if let Err(error) = make_one_folder(folder) {
                self.forget_folders();
                return Err(error);
            }
        }
        let mut durable = self.durable.lock().unwrap_or_else(PoisonError::into_inner);
        if durable.len() + unknown.len() > FOLDERS_REMEMBERED_MAX {
            durable.clear();
        }
        durable.extend(unknown);
        Ok(())
    }

    fn forget_folders(&self) {
        self.durable.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }
}

/// A file that nobody sees; its hidden name goes when this is dropped, the bytes stay under the names linked meanwhile.
pub(super) struct Hidden {
    pub(super) path: PathBuf,
    pub(super) file: File,
}

impl Drop for Hidden {
    fn drop(&mut self) {
        _ = fs::remove_file(&self.path);
    }
}

fn make_one_folder(folder: &Path) -> io::Result<()> {
    match fs::create_dir(folder) {
        Ok(()) => {}
        Err(error) if error.kind() == ErrorKind::AlreadyExists && folder.is_dir() => {}
        Err(error) if error.kind() == ErrorKind::AlreadyExists => return Err(ErrorKind::NotADirectory.into()),
        Err(error) => return Err(error),
    }
    sync_folder_of(folder)
}

pub(super) fn sync_folder_of(place: &Path) -> io::Result<()> {
    place.parent().map_or(Ok(()), sync_folder)
}

pub(super) fn sync_folder(folder: &Path) -> io::Result<()> {
    File::open(folder)?.sync_all()
}

/// Opens an object to read it; a folder is none.
pub(super) fn open_object(place: &Path) -> io::Result<Option<(File, Metadata)>> {
    match File::open(place).and_then(|file| file.metadata().map(|metadata| (file, metadata))) {
        Ok((file, metadata)) => Ok(metadata.is_file().then_some((file, metadata))),
        Err(error) if is_absent(&error) => Ok(None),
        Err(error) => Err(error),
    }
}

pub(super) fn read_whole(file: &File, metadata: &Metadata, path: &str, limit: u64) -> Result<Bytes> {
    let mut bytes = Vec::new();
    if metadata.len() <= limit {
        let read = file.take(limit.saturating_add(1)).read_to_end(&mut bytes);
        read.map_err(|error| failed("read", Path::new(path), error))?;
    }
    if metadata.len() > limit || bytes.len() as u64 > limit {
        return Err(crate::answer::too_large(path, metadata.len(), limit));
    }
    Ok(bytes.into())
}

pub(super) fn info_of(path: &str, metadata: &Metadata, kept: Option<BTreeMap<String, String>>) -> Info {
    let modified = metadata.modified().unwrap_or(SystemTime::UNIX_EPOCH);
    Info { path: path.to_owned(), bytes: metadata.len(), version: version_of(metadata), modified, metadata: kept, content_type: None }
}

pub(super) fn version_of(metadata: &Metadata) -> Version {
    let modified_ns = i128::from(metadata.mtime()) * 1_000_000_000 + i128::from(metadata.mtime_nsec());
    Version(format!("{:x}-{modified_ns:x}-{:x}", metadata.ino(), metadata.len()))
}

/// A path of which a part is a file holds no object either.
pub(super) fn is_absent(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory)
}

fn open_lock(place: &Path) -> io::Result<File> {
    let name = place.file_name().map(|name| name.to_string_lossy()).unwrap_or_default();
    let lock = place.with_file_name(format!("{}lock.{name}", paths::RESERVED));
    OpenOptions::new().write(true).create(true).truncate(false).open(lock)
}

/// Waits for the lock, which lasts as long as the file is open.
fn lock(file: File) -> Result<File> {
    let started = Instant::now();
    loop {
        match file.try_lock() {
            Ok(()) => return Ok(file),
            Err(TryLockError::Error(error)) => return Err(Error::new(Kind::Transient, "cannot lock an object").source(error)),
            Err(TryLockError::WouldBlock) if started.elapsed() > LOCK_WAIT_MAX => {
                let error = Error::new(Kind::Transient, "another process has been replacing this object for too long");
                return Err(error.hint("it may be stopped in the middle of a write: look for a second kas3"));
            }
            Err(TryLockError::WouldBlock) => std::thread::sleep(Duration::from_millis(2)),
        }
    }
}

/// Whether the disk refuses, and another try does not change that: no permission, no room.
pub(super) fn refuses(error: &Error) -> bool {
    let cause = error.cause().and_then(|cause| cause.downcast_ref::<io::Error>()).map(io::Error::kind);
    error.kind() == Kind::Denied || matches!(cause, Some(ErrorKind::StorageFull | ErrorKind::QuotaExceeded))
}

/// An error of the disk with what we were doing.
pub(super) fn failed(doing: &str, place: &Path, error: io::Error) -> Error {
    let place = place.display();
    let (kind, hint) = match error.kind() {
        ErrorKind::PermissionDenied => (Kind::Denied, Some(format!("let this user read and write `{place}`"))),
        ErrorKind::ReadOnlyFilesystem => (Kind::Denied, Some("the file system is mounted read-only".to_owned())),
        ErrorKind::NotFound => (Kind::Missing, None),
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded => (Kind::Transient, Some("the disk is full: make room; it goes on by itself".to_owned())),
        ErrorKind::NotADirectory | ErrorKind::IsADirectory => {
            (Kind::Fatal, Some("a file lies where a folder is needed, or the other way round".to_owned()))
        }
        ErrorKind::InvalidFilename => (Kind::Fatal, Some("a disk takes names of at most 255 bytes between two `/`".to_owned())),
        ErrorKind::CrossesDevices => {
            (Kind::Config, Some("the folder of the URL must be one file system: mount none below it, or give the ledger a URL of its own".to_owned()))
        }
        _ => (Kind::Transient, None),
    };
    let failed = Error::new(kind, format!("cannot {doing} `{place}`"));
    let failed = match hint {
        Some(hint) => failed.hint(hint),
        None => failed,
    };
    failed.source(error)
}
