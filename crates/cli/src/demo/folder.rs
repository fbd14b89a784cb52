//! The folder `demo`: made by the demo, emptied by the next one, and never touched when somebody else made it.

use crate::{exit::usage, readable};
use std::{
    fs,
    path::{Path, PathBuf},
};

/// Says that the folder is ours.
const MARK: &str = ".kas3-demo";
/// Files that are listed.
const LISTED_MAX: usize = 40;

pub(super) struct Folder {
    shown: PathBuf,
    whole: PathBuf,
}

impl Folder {
    /// Makes the folder, or empties the one of an earlier demo.
    pub(super) fn prepare(path: &Path) -> anyhow::Result<Self> {
        if path.exists() {
            let ours = path.join(MARK).is_file();
            if !ours && fs::read_dir(path)?.next().is_some() {
                let text = format!("the folder `{}` is there already, and no demo made it", path.display());
                return Err(usage(text, "run the demo in another directory, or move that folder away"));
            }
            fs::remove_dir_all(path)?;
        }
        fs::create_dir_all(path.join("lake"))?;
        fs::write(path.join(MARK), "made by `kas3 demo`, which deletes this folder when it runs again\n")?;
        Ok(Folder { shown: path.to_owned(), whole: path.canonicalize()? })
    }

    pub(super) fn configuration(&self) -> PathBuf {
        self.shown.join("orders.yaml")
    }

    pub(super) fn configuration_shown(&self) -> String {
        self.configuration().display().to_string()
    }

    pub(super) fn lake_shown(&self) -> String {
        self.shown.join("lake").display().to_string()
    }

    pub(super) fn log(&self) -> PathBuf {
        self.shown.join("run.log")
    }

    pub(super) fn write_configuration(&self, servers: &str) -> anyhow::Result<()> {
        let lake = serde_json::to_string(&format!("file://{}", self.whole.join("lake").display()))?;
        let text = format!(
            r#"# Written by `kas3 demo`. The broker lives as long as the demo; `kas3 cat` and `kas3 ledger show` need none.
name: demo
source:
  topics: [orders]
  kafka:
    bootstrap.servers: "{servers}"
    session.timeout.ms: 3000        # the killed process is noticed after three seconds
    heartbeat.interval.ms: 500
sink:
  url: {lake}
  path: "{{topic}}/date={{timestamp:%Y-%m-%d}}/hour={{timestamp:%H}}/{{partition}}_{{offset}}"
  format: {{type: json_lines, compression: gzip, block: 64KiB}}
  roll: {{records: 2000, age: 2s}}
memory: 128MiB
http: "off"
"#
        );
        Ok(fs::write(self.configuration(), text)?)
    }

    /// The files below the lake, with their sizes.
    pub(super) fn tree(&self) -> anyhow::Result<Vec<String>> {
        let lake = self.shown.join("lake");
        let mut files = Vec::new();
        list(&lake, &lake, &mut files)?;
        files.sort();
        let bytes: u64 = files.iter().map(|(_, bytes)| bytes).sum();
        let mut lines = vec![format!("{}/", lake.display())];
        let (mut folder, shown) = (PathBuf::new(), files.len().min(LISTED_MAX));
        for (path, bytes) in &files[..shown] {
            let parent = path.parent().unwrap_or(Path::new(""));
            if parent != folder {
                lines.push(format!("  {}/", parent.display()));
                folder = parent.to_owned();
            }
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            lines.push(format!("    {name:<24} {:>10}", readable::bytes(*bytes)));
        }
        if files.len() > shown {
            lines.push(format!("    and {} more", readable::count((files.len() - shown) as u64, "file")));
        }
        lines.push(format!("{}, {}; beside them the ledger, in _kas3/", readable::count(files.len() as u64, "file"), readable::bytes(bytes)));
        Ok(lines)
    }
}

/// Visible files below `folder`, relative to `root`.
fn list(root: &Path, folder: &Path, files: &mut Vec<(PathBuf, u64)>) -> anyhow::Result<()> {
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let name = entry.file_name();
        if name.to_string_lossy().starts_with(['_', '.']) {
            continue;
        }
        if entry.file_type()?.is_dir() {
            list(root, &entry.path(), files)?;
        } else {
            files.push((entry.path().strip_prefix(root)?.to_owned(), entry.metadata()?.len()));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_that_no_demo_made_is_never_emptied() {
        let outside = tempfile::tempdir().expect("a folder");
        let path = outside.path().join("demo");
        fs::create_dir(&path).expect("a folder");
        fs::write(path.join("thesis.txt"), "precious").expect("a file");
        let refused = Folder::prepare(&path).err().expect("an error");
        assert!(refused.to_string().contains("no demo made it"), "{refused}");
        assert!(path.join("thesis.txt").exists());
        fs::remove_file(path.join("thesis.txt")).expect("removed");
        Folder::prepare(&path).expect("an empty folder may be taken");
        fs::write(path.join("lake/old"), "").expect("a file");
        Folder::prepare(&path).expect("our own folder is emptied");
        assert!(!path.join("lake/old").exists());
    }
}
