//! Cells on a disk: `a/head.json` is the files `a/head.<n>.json`, of which the highest counts.
//!
//! Each is made exclusively by a hard link. That alone is not enough: a writer that was stopped for long may link a number
//! that was used and deleted meanwhile. So the folder is listed again after the link, and the swap holds only if its number
//! is the highest. No lock is taken: a stopped process must not hold up the one that takes over.

use super::disk::{Disk, failed, is_absent, open_object, read_whole, sync_folder};
use crate::{Beginning, Created, Error, Kind, Object, Pieces, Result, Swapped, Version, paths};
use std::{
    fs::{self, File, Metadata},
    io::{self, Read},
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

/// How often the folder is listed until two listings agree: each disagreement is somebody else's swap.
const LISTINGS_MAX: usize = 1000;
/// How often a cell that is marked is looked for before it counts as not there.
const LOOKS_MAX: usize = 5;

/// Marks a cell, so that listings know that its numbered files are one object.
pub(super) const MARK: &str = ".kas3-cell.";

/// Where the numbers of one cell lie.
pub(super) struct Cell {
    folder: PathBuf,
    name: String,
}

impl Cell {
    pub(super) fn new(folder: PathBuf, name: &str) -> Cell {
        Cell { folder, name: name.to_owned() }
    }

    pub(super) fn file(&self, number: u64) -> PathBuf {
        self.folder.join(match self.name.rsplit_once('.') {
            Some((stem, extension)) => format!("{stem}.{number}.{extension}"),
            None => format!("{}.{number}", self.name),
        })
    }

    fn mark(&self) -> PathBuf {
        self.folder.join(format!("{MARK}{}", self.name))
    }

    /// The numbers that one listing shows, ascending.
    fn numbers(&self) -> io::Result<Vec<u64>> {
        let entries = match fs::read_dir(&self.folder) {
            Ok(entries) => entries,
            Err(error) if is_absent(&error) => return Ok(Vec::new()),
            Err(error) => return Err(error),
        };
        let mut numbers = Vec::new();
        for entry in entries {
            numbers.extend(entry?.file_name().to_str().and_then(|file| number_of(&self.name, file)));
        }
        numbers.sort_unstable();
        Ok(numbers)
    }

    /// The highest number. A listing may miss what is made and show what is deleted while it runs; two that agree do not.
    pub(super) fn highest(&self) -> io::Result<Option<u64>> {
        let mut looks = 0;
        let mut before = self.numbers()?.last().copied();
        for _ in 0..LISTINGS_MAX {
            let again = self.numbers()?.last().copied();
            if again == before {
                if again.is_some() || looks == LOOKS_MAX || !self.mark().exists() {
                    return Ok(again);
                }
                looks += 1;
                std::thread::sleep(Duration::from_millis(1));
            }
            before = again;
        }
        Err(io::Error::other("the cell changes faster than it can be read"))
    }

    /// Deletes what is neither the highest number nor the one before.
    fn prune(&self, highest: u64) -> io::Result<()> {
        let older: Vec<u64> = self.numbers()?.into_iter().filter(|number| *number < highest).collect();
        for number in &older[..older.len().saturating_sub(1)] {
            remove(&self.file(*number))?;
        }
        Ok(())
    }
}

/// The number in the name of a cell's file; no leading zeros, so that a number has one name.
pub(super) fn number_of(cell: &str, file: &str) -> Option<u64> {
    let number = match cell.rsplit_once('.') {
        Some((stem, extension)) => file.strip_prefix(stem)?.strip_prefix('.')?.strip_suffix(extension)?.strip_suffix('.')?,
        None => file.strip_prefix(cell)?.strip_prefix('.')?,
    };
    (number.bytes().all(|byte| byte.is_ascii_digit()) && !number.starts_with('0')).then(|| number.parse().ok())?
}

fn remove(place: &Path) -> io::Result<()> {
    fs::remove_file(place).or_else(|error| if is_absent(&error) { Ok(()) } else { Err(error) })
}

impl Disk {
    fn cell(&self, path: &str) -> Cell {
        let (folder, name) = path.rsplit_once('/').unwrap_or(("", path));
        Cell::new(self.at(folder), name)
    }

    pub(super) fn read_cell(&self, path: &str, limit: u64) -> Result<Option<Object>> {
        self.open_cell(path, |file, metadata, number| {
            let bytes = read_whole(file, metadata, path, limit)?;
            Ok(Object { bytes, version: Version(number.to_string()) })
        })
    }

    pub(super) fn begin_cell(&self, path: &str, bytes_max: u64) -> Result<Option<Beginning>> {
        self.open_cell(path, |file, metadata, number| {
            let mut bytes = Vec::new();
            file.take(bytes_max).read_to_end(&mut bytes).map_err(|error| failed("read", &self.at(path), error))?;
            let modified = metadata.modified().unwrap_or(SystemTime::UNIX_EPOCH);
            Ok(Beginning { bytes: bytes.into(), size: metadata.len(), version: Version(number.to_string()), modified })
        })
    }

    /// What `read` makes of the highest number of a cell; `None` when there is none.
    fn open_cell<T>(&self, path: &str, read: impl Fn(&File, &Metadata, u64) -> Result<T>) -> Result<Option<T>> {
        let cell = self.cell(path);
        let fail = |error| failed("read", &self.at(path), error);
        for _ in 0..LISTINGS_MAX {
            let Some(number) = cell.highest().map_err(fail)? else { return Ok(None) };
            // Deleted meanwhile: there are newer ones.
            let Some((file, metadata)) = open_object(&cell.file(number)).map_err(fail)? else { continue };
            let found = read(&file, &metadata, number)?;
            // Who wrote it may have died before its sync; what the reader builds upon it must not outlive it.
            sync_folder(&cell.folder).map_err(fail)?;
            return Ok(Some(found));
        }
        Err(Error::new(Kind::Transient, format!("cell `{path}` changes faster than it can be read")))
    }

    pub(super) fn create_cell(&self, path: &str, bytes: &Pieces) -> Result<Created> {
        let cell = self.cell(path);
        let fail = |error| failed("create", &self.at(path), error);
        if cell.highest().map_err(fail)?.is_some() {
            return Ok(Created::Exists);
        }
        match self.put_number(&cell, 1, bytes).map_err(fail)? {
            true => Ok(Created::Done(Version("1".to_owned()))),
            false => Ok(Created::Exists),
        }
    }

    pub(super) fn swap_cell(&self, path: &str, expected: &Version, bytes: &Pieces) -> Result<Swapped> {
        let cell = self.cell(path);
        let fail = |error| failed("swap", &self.at(path), error);
        let highest = cell.highest().map_err(fail)?;
        let Some(number) = highest.filter(|number| number.to_string() == expected.0) else { return Ok(Swapped::Moved) };
        let next = number + 1;
        if !self.put_number(&cell, next, bytes).map_err(fail)? {
            return Ok(Swapped::Moved);
        }
        if let Err(error) = cell.prune(next) {
            tracing::warn!(cell = path, %error, "cannot delete old versions of a cell");
        }
        Ok(Swapped::Done(Version(next.to_string())))
    }

    pub(super) fn delete_cell(&self, path: &str) -> Result<()> {
        let cell = self.cell(path);
        let delete = || -> io::Result<()> {
            for number in cell.numbers()? {
                remove(&cell.file(number))?;
            }
            remove(&cell.mark())?;
            if cell.folder.is_dir() { sync_folder(&cell.folder) } else { Ok(()) }
        };
        delete().map_err(|error| failed("delete", &self.at(path), error))
    }

    /// Makes one number of a cell; `false` when it, or a higher one, was there before or came between.
    fn put_number(&self, cell: &Cell, number: u64, bytes: &Pieces) -> io::Result<bool> {
        self.within(&cell.folder, || match File::create_new(cell.mark()) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(error),
            _ => Ok(()),
        })?;
        let hidden = self.write_hidden(bytes.iter(), &[], None)?;
        let place = cell.file(number);
        if !self.link(&hidden.path, &place)? {
            return Ok(false);
        }
        let holds = cell.highest()? == Some(number);
        if !holds {
            remove(&place)?;
        }
        Ok(holds)
    }
}

/// The cell that a mark in a folder names.
pub(super) fn marked(file: &str) -> Option<&str> {
    debug_assert!(MARK.starts_with(paths::RESERVED));
    file.strip_prefix(MARK)
}
