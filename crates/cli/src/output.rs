//! What commands print: results on standard output, everything else on standard error. A reader that goes away is no error.

use jiff::Timestamp;
use std::{
    io::{self, BufWriter, Stdout, Write},
    sync::atomic::{AtomicBool, Ordering},
};

/// Standard output for results, buffered. The command ends quietly when nobody reads it any more.
pub(crate) struct Results(BufWriter<Stdout>);

impl Results {
    /// Standard output.
    pub(crate) fn new() -> Self {
        Results(BufWriter::with_capacity(64 << 10, io::stdout()))
    }

    /// Prints a line.
    pub(crate) fn line(&mut self, text: &str) -> io::Result<()> {
        self.0.write_all(text.as_bytes())?;
        self.0.write_all(b"\n")
    }

    /// Prints bytes as they are.
    pub(crate) fn bytes(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.0.write_all(bytes)
    }

    /// Writes out what is buffered.
    pub(crate) fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

/// Whether standard error holds JSON, an object a line.
static JSON: AtomicBool = AtomicBool::new(false);

/// From now on what is said on standard error is JSON, like the logs beside it.
pub(crate) fn as_json() {
    JSON.store(true, Ordering::Relaxed);
}

/// Says something to the person on standard error; a closed one is no error.
pub(crate) fn tell(text: &str) {
    say("INFO", text, None);
}

/// The same as loud as `level`, with the way out where there is one.
pub(crate) fn say(level: &str, text: &str, hint: Option<&str>) {
    let _ = writeln!(io::stderr().lock(), "{}", said(JSON.load(Ordering::Relaxed), level, text, hint));
}

fn said(json: bool, level: &str, text: &str, hint: Option<&str>) -> String {
    match (json, hint) {
        (true, _) => {
            let mut object = serde_json::Map::new();
            let mut put = |key: &str, value: &str| _ = object.insert(key.to_owned(), value.into());
            put("timestamp", &format!("{:.6}", Timestamp::now()));
            put("level", level);
            put("message", text);
            hint.into_iter().for_each(|hint| put("hint", hint));
            put("target", "kas3");
            serde_json::Value::Object(object).to_string()
        }
        (false, None) => text.to_owned(),
        (false, Some(hint)) => format!("{text}\nhint: {hint}"),
    }
}

/// Whether an error only says that nobody reads the output any more.
pub(crate) fn is_broken_pipe(error: &anyhow::Error) -> bool {
    error.chain().any(|cause| cause.downcast_ref::<io::Error>().is_some_and(nobody_listens))
}

/// Whether an error of reading or writing only says that nobody listens any more.
fn nobody_listens(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::BrokenPipe
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_said_is_text_or_one_object_like_the_logs_beside_it() {
        assert_eq!(said(false, "ERROR", "error: no broker", Some("look")), "error: no broker\nhint: look");
        let line = said(true, "ERROR", "two\nlines", Some("look"));
        let object: serde_json::Value = serde_json::from_str(&line).expect("JSON");
        assert!(!line.contains('\n') && object["timestamp"].as_str().is_some_and(|at| at.ends_with('Z') && at.len() == 27), "{line}");
        assert_eq!((&object["level"], &object["message"], &object["hint"]), (&"ERROR".into(), &"two\nlines".into(), &"look".into()));
    }
}
