//! What `kas3 produce` sends: lines of standard input, files, folders.

use bytes::Bytes;
use kas3_claimcheck::kafka::Payload;
use kas3_sink::{Error, Kind};
use std::{
    fmt,
    io::{self, BufRead, Read},
    os::fd::AsFd,
    path::{Path, PathBuf},
    sync::mpsc::{self, Receiver, RecvTimeoutError},
    time::Duration,
};
use tokio_util::sync::CancellationToken;

/// How often a wait for standard input looks whether it is asked to stop.
const LOOK: Duration = Duration::from_millis(100);
/// Lines read before they are sent.
const LINES_AHEAD: usize = 64;

/// One record's payload.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Item {
    /// A line, without its end.
    Line {
        /// From 1.
        number: u64,
        /// What it holds.
        bytes: Bytes,
    },
    /// A file, and the key that its name makes.
    File {
        /// Where it is.
        path: PathBuf,
        /// Its name as a key, `/` between folders.
        key: String,
    },
    /// Standard input as a whole.
    Stdin,
}

impl Item {
    /// The payload as the producer takes it; may be asked for again.
    ///
    /// # Errors
    /// When standard input is closed.
    pub(crate) fn payload(&self) -> io::Result<Payload> {
        Ok(match self {
            Item::Line { bytes, .. } => Payload::Bytes(bytes.clone()),
            Item::File { path, .. } => Payload::File(path.clone()),
            Item::Stdin => {
                let input = std::fs::File::from(io::stdin().as_fd().try_clone_to_owned()?);
                Payload::Reader(Box::new(tokio::fs::File::from_std(input)))
            }
        })
    }

    /// Bytes, as far as they are known before they are sent.
    pub(crate) fn bytes(&self) -> u64 {
        match self {
            Item::Line { bytes, .. } => bytes.len() as u64,
            Item::File { path, .. } => std::fs::metadata(path).map_or(0, |file| file.len()),
            Item::Stdin => 0,
        }
    }
}

impl fmt::Display for Item {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Item::Line { number, .. } => write!(f, "line {number}"),
            Item::File { path, .. } => write!(f, "`{}`", path.display()),
            Item::Stdin => f.write_str("standard input"),
        }
    }
}

/// Where items come from.
pub(crate) enum Input {
    /// Lines of standard input, as a thread reads them.
    Lines(Receiver<io::Result<Line>>),
    /// Known from the start.
    Items(std::vec::IntoIter<Item>),
}

/// A line as it was read.
pub(crate) enum Line {
    /// With something in it.
    Text(Item),
    /// With nothing in it: never a record, because an empty value is not what a blank line in a pipe means.
    Blank,
}

/// What came next.
pub(crate) enum Next {
    /// A record's payload.
    Item(Item),
    /// A blank line.
    Blank,
    /// Nothing within the time of one look.
    Nothing,
    /// Nothing any more.
    End,
}

impl Input {
    /// Lines of standard input, none of more than `bytes_max`.
    pub(crate) fn lines(bytes_max: u64) -> io::Result<Input> {
        let (sender, receiver) = mpsc::sync_channel(LINES_AHEAD);
        // it may wait for ever for a line, and the process ends without it
        std::thread::Builder::new().name("kas3-stdin".to_owned()).spawn(move || {
            let mut lines = Lines { reader: io::stdin().lock(), number: 0, bytes_max };
            while let Some(line) = lines.next().transpose() {
                let ended = line.is_err();
                if sender.send(line).is_err() || ended {
                    return;
                }
            }
        })?;
        Ok(Input::Lines(receiver))
    }

    /// Files, in the order given; `-` is standard input as one payload.
    pub(crate) fn files(paths: &[PathBuf]) -> anyhow::Result<Input> {
        let mut items = Vec::with_capacity(paths.len());
        for path in paths {
            if path.as_os_str() == "-" {
                items.push(Item::Stdin);
                continue;
            }
            let file = std::fs::metadata(path).map_err(|error| unreadable(path, error))?;
            if file.is_dir() {
                return Err(Error::new(Kind::Config, format!("`{}` is a folder", path.display())).hint("send its files with `--directory`").into());
            }
            items.push(Item::File { path: path.clone(), key: key_of(path) });
        }
        Ok(Input::Items(items.into_iter()))
    }

    /// All files below a folder, sorted by name; links to folders are not followed.
    pub(crate) fn folder(folder: &Path) -> anyhow::Result<Input> {
        let mut items = Vec::new();
        let mut open = vec![folder.to_owned()];
        while let Some(folder_within) = open.pop() {
            for entry in std::fs::read_dir(&folder_within).map_err(|error| unreadable(&folder_within, error))? {
                let entry = entry.map_err(|error| unreadable(&folder_within, error))?;
                let (path, kind) = (entry.path(), entry.file_type().map_err(|error| unreadable(&entry.path(), error))?);
                if kind.is_dir() {
                    open.push(path);
                } else if path.is_file() {
                    let key = key_of(path.strip_prefix(folder).unwrap_or(&path));
                    items.push(Item::File { path, key });
                }
            }
        }
        items.sort_by_cached_key(Item::to_string);
        Ok(Input::Items(items.into_iter()))
    }

    /// The next one.
    ///
    /// # Errors
    /// When standard input cannot be read, or a line is too long.
    pub(crate) fn next(&mut self, stop: &CancellationToken) -> anyhow::Result<Next> {
        if stop.is_cancelled() {
            return Ok(Next::End);
        }
        match self {
            Input::Items(items) => Ok(items.next().map_or(Next::End, Next::Item)),
            Input::Lines(lines) => match lines.recv_timeout(LOOK) {
                Ok(Ok(Line::Text(item))) => Ok(Next::Item(item)),
                Ok(Ok(Line::Blank)) => Ok(Next::Blank),
                Ok(Err(error)) => Err(Error::new(Kind::Fatal, "standard input cannot be read").source(error).into()),
                Err(RecvTimeoutError::Timeout) => Ok(Next::Nothing),
                Err(RecvTimeoutError::Disconnected) => Ok(Next::End),
            },
        }
    }
}

fn unreadable(path: &Path, error: io::Error) -> Error {
    Error::new(Kind::Config, format!("`{}` cannot be read", path.display())).source(error).hint("name files and folders that you may read")
}

/// A path as a key: `/` between its parts, what is not UTF-8 replaced.
fn key_of(path: &Path) -> String {
    let parts: Vec<String> = path.components().map(|part| part.as_os_str().to_string_lossy().into_owned()).collect();
    parts.join("/").replacen("//", "/", 1)
}

struct Lines<R> {
    reader: R,
    number: u64,
    bytes_max: u64,
}

impl<R: BufRead> Lines<R> {
    fn next(&mut self) -> io::Result<Option<Line>> {
        let mut line = Vec::new();
        // two more for the end of the line
        if self.reader.by_ref().take(self.bytes_max.saturating_add(2)).read_until(b'\n', &mut line)? == 0 {
            return Ok(None);
        }
        self.number += 1;
        let end = line.iter().rposition(|byte| !matches!(byte, b'\r' | b'\n')).map_or(0, |last| last + 1);
        line.truncate(end);
        if line.len() as u64 > self.bytes_max {
            let text = format!("line {} has more than `max_payload_bytes` ({}): send it with `--file`, or raise that", self.number, self.bytes_max);
            return Err(io::Error::new(io::ErrorKind::InvalidData, text));
        }
        Ok(Some(if line.is_empty() { Line::Blank } else { Line::Text(Item::Line { number: self.number, bytes: line.into() }) }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str, bytes_max: u64) -> Vec<String> {
        let mut lines = Lines { reader: text.as_bytes(), number: 0, bytes_max };
        let mut found = Vec::new();
        loop {
            match lines.next() {
                Ok(None) => return found,
                Ok(Some(Line::Blank)) => found.push("blank".to_owned()),
                Ok(Some(Line::Text(Item::Line { number, bytes }))) => found.push(format!("{number}:{}", String::from_utf8_lossy(&bytes))),
                Ok(Some(Line::Text(item))) => found.push(item.to_string()),
                Err(error) => {
                    found.push(error.to_string());
                    return found;
                }
            }
        }
    }

    #[test]
    fn lines_lose_their_ends_and_blank_ones_are_told_apart() {
        assert_eq!(read("a\nb\r\n\n\r\n c \nlast", 10), ["1:a", "2:b", "blank", "blank", "5: c ", "6:last"]);
    }

    #[test]
    fn a_line_beyond_the_limit_is_refused_before_more_of_it_is_read() {
        assert_eq!(read("12345\n", 5), ["1:12345"]);
        assert!(read("ok\n1234567890\n", 5)[1].contains("line 2 has more than `max_payload_bytes` (5)"));
    }

    #[test]
    fn files_below_a_folder_come_sorted_with_their_relative_names_as_keys() {
        let folder = tempfile::tempdir().expect("a folder");
        std::fs::create_dir_all(folder.path().join("b/c")).expect("folders");
        for name in ["z", "a", "b/c/d"] {
            std::fs::write(folder.path().join(name), name).expect("a file");
        }
        let Ok(Input::Items(items)) = Input::folder(folder.path()) else { panic!("no items") };
        let keys: Vec<String> = items.map(|item| if let Item::File { key, .. } = item { key } else { String::new() }).collect();
        assert_eq!(keys, ["a", "b/c/d", "z"]);
    }
}
