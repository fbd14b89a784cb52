//! Where `kas3 consume` puts payloads: lines, JSON lines, or one file a record.
//!
//! A file appears under its name only when it is whole, verified and on the disk; a record that comes again replaces the same
//! file by the same bytes.

use crate::output::Results;
use anyhow::Context;
use kas3_claimcheck::{
    Headers, PayloadStream,
    kafka::{Incoming, Position, Received},
};
use kas3_sink::{Error, Kind};
use serde_json::{Map, Value, json};
use std::{
    fs::File,
    io::Write,
    path::{Path, PathBuf},
};
use tokio::runtime::Handle;

/// How payloads leave.
pub(super) struct Delivery {
    results: Results,
    folder: Option<PathBuf>,
    json: bool,
    runtime: Handle,
}

/// What became of a record's payload.
pub(super) enum Wrote {
    /// It was written, so many bytes.
    Bytes(u64),
    /// The record has none.
    Tombstone,
}

/// Why a record was not written.
pub(super) enum Unwritten {
    /// Its payload broke off, or was not what was sent.
    Payload(kas3_claimcheck::Error),
    /// There is no room, or nobody reads.
    Output(anyhow::Error),
}

impl From<anyhow::Error> for Unwritten {
    fn from(error: anyhow::Error) -> Self {
        Unwritten::Output(error)
    }
}

impl From<std::io::Error> for Unwritten {
    fn from(error: std::io::Error) -> Self {
        Unwritten::Output(error.into())
    }
}

impl Delivery {
    /// Makes the folder, if one is asked for. Must be called inside the runtime.
    pub(super) fn open(folder: Option<&Path>, json: bool) -> anyhow::Result<Delivery> {
        if let Some(folder) = folder {
            std::fs::create_dir_all(folder).map_err(|error| {
                Error::new(Kind::Config, format!("cannot make the folder `{}`", folder.display())).source(error).hint("name one that may be written")
            })?;
        }
        Ok(Delivery { results: Results::new(), folder: folder.map(Path::to_owned), json, runtime: Handle::current() })
    }

    /// Payloads are written without being in memory as a whole.
    pub(super) fn takes_streams(&self) -> bool {
        self.folder.is_some() || !self.json
    }

    /// Writes one record.
    pub(super) fn write(&mut self, record: Received) -> Result<Wrote, Unwritten> {
        let Received { position, timestamp, key, headers, payload, reference, appended: _ } = record;
        let mut about = Map::new();
        if self.json {
            about = described(&position, timestamp, key.as_deref(), &headers);
            about.insert("offloaded".to_owned(), reference.as_ref().map_or(Value::Null, |reference| reference.url().into()));
        }
        let wrote = match payload {
            Incoming::Tombstone => {
                about.insert("tombstone".to_owned(), true.into());
                Wrote::Tombstone
            }
            Incoming::Bytes(bytes) => {
                self.place(&position, &mut about, |out| Ok(out.write_all(&bytes)?), || text_or_base64(&bytes))?;
                Wrote::Bytes(bytes.len() as u64)
            }
            Incoming::Stream(stream) => Wrote::Bytes(self.stream(&position, &mut about, stream)?),
        };
        if self.json {
            if let Wrote::Bytes(bytes) = wrote {
                about.insert("bytes".to_owned(), bytes.into());
            }
            self.results.line(&Value::Object(about).to_string())?;
        }
        Ok(wrote)
    }

    fn stream(&mut self, position: &Position, about: &mut Map<String, Value>, mut stream: PayloadStream) -> Result<u64, Unwritten> {
        let runtime = self.runtime.clone();
        let mut bytes = 0;
        let copy = |out: &mut dyn Write| {
            while let Some(piece) = runtime.block_on(stream.next()).map_err(Unwritten::Payload)? {
                bytes += piece.len() as u64;
                out.write_all(&piece)?;
            }
            Ok(())
        };
        // streams are only asked for where payloads need no place in a JSON line
        self.place(position, about, copy, || Value::Null)?;
        Ok(bytes)
    }

    fn place(
        &mut self,
        position: &Position,
        about: &mut Map<String, Value>,
        write: impl FnOnce(&mut dyn Write) -> Result<(), Unwritten>,
        value: impl FnOnce() -> Value,
    ) -> Result<(), Unwritten> {
        if let Some(folder) = &self.folder {
            let path = file_of(folder, position, write)?;
            about.insert("file".to_owned(), path.to_string_lossy().into());
        } else if self.json {
            match value() {
                text @ Value::String(_) => about.insert("payload".to_owned(), text),
                bytes => about.insert("payload_base64".to_owned(), bytes["base64"].clone()),
            };
        } else {
            write(&mut Raw(&mut self.results))?;
            self.results.bytes(b"\n")?;
        }
        Ok(())
    }

    /// What was written has left this process.
    pub(super) fn flush(&mut self) -> std::io::Result<()> {
        self.results.flush()
    }
}

struct Raw<'a>(&'a mut Results);

impl Write for Raw<'_> {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.bytes(bytes).map(|()| bytes.len())
    }
    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// Writes `topic-partition-offset` in the folder: beside it first, then under its name.
fn file_of(folder: &Path, position: &Position, write: impl FnOnce(&mut dyn Write) -> Result<(), Unwritten>) -> Result<PathBuf, Unwritten> {
    let name = file_name(position);
    let (path, unfinished) = (folder.join(&name), folder.join(format!(".{name}.part")));
    let written = (|| {
        let mut file = File::create(&unfinished).with_context(|| format!("cannot write `{}`", unfinished.display()))?;
        write(&mut file)?;
        file.sync_data().with_context(|| format!("cannot write `{}`", unfinished.display()))?;
        std::fs::rename(&unfinished, &path).with_context(|| format!("cannot write `{}`", path.display()))?;
        Ok(())
    })();
    if written.is_err() {
        // a beginning of a payload is nobody's
        let _ = std::fs::remove_file(&unfinished);
    }
    written.map(|()| path)
}

/// Kafka allows letters, digits, `.`, `_` and `-` in topics; whatever else a broker says stays in the folder too.
fn file_name(position: &Position) -> String {
    let legal = |character: char| character.is_ascii_alphanumeric() || matches!(character, '.' | '_' | '-');
    let topic: String = position.topic.chars().map(|character| if legal(character) { character } else { '_' }).collect();
    format!("{topic}-{}-{}", position.partition, position.offset)
}

fn described(position: &Position, timestamp: Option<i64>, key: Option<&[u8]>, headers: &Headers) -> Map<String, Value> {
    let headers: Vec<Value> = headers.iter().map(|(name, value)| json!([name, value.as_deref().map_or(Value::Null, text_or_base64)])).collect();
    let about = json!({
        "topic": position.topic,
        "partition": position.partition,
        "offset": position.offset,
        "timestamp": timestamp,
        "key": key.map_or(Value::Null, text_or_base64),
        "headers": headers,
    });
    if let Value::Object(about) = about { about } else { Map::new() }
}

/// Text as it is; other bytes as `{"base64": …}`.
fn text_or_base64(bytes: &[u8]) -> Value {
    match std::str::from_utf8(bytes) {
        Ok(text) => text.into(),
        Err(_) => json!({"base64": base64(bytes)}),
    }
}

/// RFC 4648, with padding.
fn base64(bytes: &[u8]) -> String {
    use ::base64::{Engine, prelude::BASE64_STANDARD};
    BASE64_STANDARD.encode(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn position(topic: &str) -> Position {
        Position { topic: topic.to_owned(), partition: 3, offset: 41 }
    }

    #[test]
    fn a_file_is_named_after_its_record_and_never_leaves_the_folder() {
        assert_eq!(file_name(&position("orders.eu")), "orders.eu-3-41");
        assert_eq!(file_name(&position("../../etc/passwd")), ".._.._etc_passwd-3-41");
    }

    #[test]
    fn a_payload_that_breaks_off_leaves_no_file() {
        let folder = tempfile::tempdir().expect("a folder");
        let broken = file_of(folder.path(), &position("t"), |out| {
            out.write_all(b"a beginning")?;
            Err(Unwritten::Output(anyhow::anyhow!("it broke off")))
        });
        assert!(broken.is_err() && folder.path().read_dir().expect("a folder").next().is_none());
        let whole = file_of(folder.path(), &position("t"), |out| Ok(out.write_all(b"all of it")?));
        assert_eq!(std::fs::read(whole.ok().expect("a path")).expect("a file"), b"all of it");
    }

    #[test]
    fn json_lines_hold_text_as_it_is_and_other_bytes_without_loss() {
        assert_eq!(text_or_base64("größe".as_bytes()), json!("größe"));
        assert_eq!(text_or_base64(&[0xff, 0]), json!({"base64": "/wA="}));
    }
}
