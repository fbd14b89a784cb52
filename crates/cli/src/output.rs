//! What commands print: results on standard output, everything else on standard error. A reader that goes away is no error.

use std::io::{self, BufWriter, Stdout, Write};

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

/// Says something to the person on standard error; a closed one is no error.
pub(crate) fn tell(text: &str) {
    let _ = writeln!(io::stderr().lock(), "{text}");
}

/// Whether an error only says that nobody reads the output any more.
pub(crate) fn is_broken_pipe(error: &anyhow::Error) -> bool {
    error.chain().any(|cause| cause.downcast_ref::<io::Error>().is_some_and(nobody_listens))
}

/// Whether an error of reading or writing only says that nobody listens any more.
fn nobody_listens(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::BrokenPipe
}
