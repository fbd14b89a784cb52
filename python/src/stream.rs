//! Payloads that are read piece by piece: what is in memory of one is a few pieces, however large it is.

use crate::{errors, fork::Owned, lock::lock, wait};
use bytes::{Buf, Bytes};
use kas3_claimcheck::{Error, Kind, PayloadStream, kafka::Consumer};
use pyo3::{prelude::*, types::PyBytes};
use std::sync::{Arc, Mutex, TryLockError};

/// Bytes that one call gives at most.
const READ_BYTES_MAX: usize = 1 << 20;

/// A payload of a record, verified as far as it was read.
#[pyclass(module = "kas3._kas3", frozen)]
pub(crate) struct PayloadFile(Owned<Mutex<Reading>>);

struct Reading {
    stream: PayloadStream,
    piece: Bytes,
    bytes: u64,
    ended: bool,
    /// Its runtime brings the pieces: it lives as long as somebody reads.
    consumer: Option<Arc<Consumer>>,
}

impl PayloadFile {
    pub(crate) fn new(stream: PayloadStream, consumer: Arc<Consumer>) -> PayloadFile {
        let reading = Reading { stream, piece: Bytes::new(), bytes: 0, ended: false, consumer: Some(consumer) };
        PayloadFile(Owned::new(Mutex::new(reading)))
    }
}

#[pymethods]
impl PayloadFile {
    /// The next bytes, at most `most`; none at the end.
    fn read<'py>(&self, py: Python<'py>, most: usize) -> PyResult<Bound<'py, PyBytes>> {
        let reading = self.0.get(py, "payload")?;
        // a second thread would wait for the first one with the interpreter in its hand
        let mut reading = match reading.try_lock() {
            Ok(reading) => reading,
            Err(TryLockError::Poisoned(reading)) => reading.into_inner(),
            Err(TryLockError::WouldBlock) => {
                let error = Error::new(Kind::Config, "another thread is reading this payload").hint("read a payload from one thread");
                return Err(errors::raised(py, &error));
            }
        };
        while reading.piece.is_empty() && !reading.ended {
            match wait::future(py, reading.stream.next())? {
                Some(piece) => reading.piece = piece,
                None => reading.end(py)?,
            }
        }
        let bytes = reading.piece.len().min(most).min(READ_BYTES_MAX);
        let read = PyBytes::new(py, &reading.piece[..bytes]);
        reading.piece.advance(bytes);
        reading.bytes += bytes as u64;
        Ok(read)
    }

    /// Bytes of the payload, when its reference says so.
    fn size(&self, py: Python<'_>) -> PyResult<Option<u64>> {
        Ok(lock(self.0.get(py, "payload")?).stream.size())
    }

    /// Lets go of what was not read.
    fn close(&self, py: Python<'_>) {
        if let Some(reading) = self.0.if_here() {
            let consumer = lock(reading).consumer.take();
            py.detach(|| drop(consumer));
        }
    }
}

impl Reading {
    /// A stream whose sender went ends like one that was sent whole: only the number of bytes tells.
    fn end(&mut self, py: Python<'_>) -> PyResult<()> {
        self.ended = true;
        match self.stream.size() {
            Some(size) if size != self.bytes => {
                let what = format!("the payload was cut short: {} of {size} bytes came", self.bytes);
                Err(errors::raised(py, &Error::new(Kind::Transient, what).hint("read the record again")))
            }
            _ => Ok(()),
        }
    }
}

impl Drop for Reading {
    fn drop(&mut self) {
        let mut consumer = Some(self.consumer.take());
        // it may be the last one to know the client, whose end waits
        _ = Python::try_attach(|py| py.detach(|| drop(consumer.take())));
    }
}
