//! Listings of a disk, in the order in which S3 lists: by the bytes of whole paths.

use super::{
    cells::{Cell, marked, number_of},
    disk::{Disk, failed, info_of, is_absent},
};
use crate::{Info, Result, Version, paths};
use std::{collections::BTreeMap, fs, io};

enum Entry {
    Folder,
    Object,
    Cell,
}

struct Listing<'a> {
    disk: &'a Disk,
    prefix: &'a str,
    after: Option<&'a str>,
    max: usize,
    found: Vec<Info>,
}

impl Disk {
    pub(super) fn list(&self, prefix: &str, after: Option<&str>, max: usize) -> Result<Vec<Info>> {
        let folder = prefix.rsplit_once('/').map_or("", |(folder, _)| folder);
        let mut listing = Listing { disk: self, prefix, after, max, found: Vec::new() };
        let start = if folder.is_empty() { String::new() } else { format!("{folder}/") };
        listing.walk(&start).map_err(|error| failed("list", &self.at(folder), error))?;
        Ok(listing.found)
    }

    /// Names of the folders right below `folder`, which is empty or ends in `/`, in the order of whole paths.
    pub(super) fn folders(&self, folder: &str) -> Result<Vec<String>> {
        let listing = Listing { disk: self, prefix: folder, after: None, max: 0, found: Vec::new() };
        let entries = listing.entries(folder).map_err(|error| failed("list", &self.at(folder), error))?;
        Ok(entries.into_iter().filter_map(|(name, entry)| matches!(entry, Entry::Folder).then(|| name.trim_end_matches('/').to_owned())).collect())
    }
}

impl Listing<'_> {
    /// Collects what lies in `folder`, which is empty or ends in `/`.
    fn walk(&mut self, folder: &str) -> io::Result<()> {
        for (name, entry) in self.entries(folder)? {
            let path = format!("{folder}{name}");
            if self.found.len() >= self.max {
                return Ok(());
            }
            match entry {
                Entry::Folder if self.may_hold(&path) => self.walk(&path)?,
                Entry::Object if self.wants(&path) => match fs::metadata(self.disk.at(&path)) {
                    Ok(metadata) if metadata.is_file() => self.found.push(info_of(&path, &metadata, None)),
                    Err(error) if !is_absent(&error) => return Err(error),
                    _ => {}
                },
                Entry::Cell if self.wants(&path) => self.push_cell(folder, &name, &path)?,
                _ => {}
            }
        }
        Ok(())
    }

    /// What lies in a folder, by name, folders with a `/`: so the names are in the order of whole paths.
    fn entries(&self, folder: &str) -> io::Result<BTreeMap<String, Entry>> {
        let listed = match fs::read_dir(self.disk.at(folder)) {
            Ok(listed) => listed,
            Err(error) if is_absent(&error) => return Ok(BTreeMap::new()),
            Err(error) => return Err(error),
        };
        let mut entries = BTreeMap::new();
        let mut cells = Vec::new();
        for entry in listed {
            let entry = entry?;
            // Names that are not UTF-8 are not ours.
            let Ok(name) = entry.file_name().into_string() else { continue };
            if let Some(cell) = marked(&name) {
                cells.push(cell.to_owned());
            }
            if name.starts_with(paths::RESERVED) {
                continue;
            }
            // Links are not followed: they could lead out of the prefix, or round in circles.
            let kind = entry.file_type()?;
            if kind.is_dir() {
                entries.insert(format!("{name}/"), Entry::Folder);
            } else if kind.is_file() {
                entries.insert(name, Entry::Object);
            }
        }
        for cell in cells {
            entries.retain(|name, _| number_of(&cell, name).is_none());
            entries.insert(cell, Entry::Cell);
        }
        Ok(entries)
    }

    fn push_cell(&mut self, folder: &str, name: &str, path: &str) -> io::Result<()> {
        let cell = Cell::new(self.disk.at(folder), name);
        while let Some(number) = cell.highest()? {
            match fs::metadata(cell.file(number)) {
                Ok(metadata) => {
                    self.found.push(Info { version: Version(number.to_string()), ..info_of(path, &metadata, None) });
                    return Ok(());
                }
                // Deleted meanwhile: there are newer ones.
                Err(error) if is_absent(&error) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    fn wants(&self, path: &str) -> bool {
        path.starts_with(self.prefix) && self.after.is_none_or(|after| path > after)
    }

    /// Whether a folder, ending in `/`, can hold wanted paths.
    fn may_hold(&self, folder: &str) -> bool {
        let in_prefix = folder.starts_with(self.prefix) || self.prefix.starts_with(folder);
        in_prefix && self.after.is_none_or(|after| folder > after || after.starts_with(folder))
    }
}
