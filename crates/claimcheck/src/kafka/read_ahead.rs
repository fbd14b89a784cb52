//! A record that was read ahead, and its payload on its way.

use super::{
    client,
    records::{Failed, Incoming, Position},
};
use crate::{Claim, ClaimCheck, Error, Kind, Reference, Result, read::Admission, reference::Headers};
use bytes::Bytes;
use kas3_store::gate::{Gate, Ticket};
use rdkafka::{Message, Timestamp, message::BorrowedMessage};
use std::{sync::Arc, time::Duration};
use tokio::{
    runtime::Runtime,
    sync::{OwnedSemaphorePermit, Semaphore, oneshot},
};

/// What failed is not tried again at once.
const AGAIN_AFTER: Duration = Duration::from_millis(200);

/// How much is read ahead: bytes in memory, and downloads at once, so that those in front are done sooner.
pub(super) struct Limits {
    gate: Gate,
    downloads: Arc<Semaphore>,
}

impl Limits {
    pub(super) fn new(memory_bytes: u64, downloads: usize) -> Limits {
        Limits { gate: Gate::new(memory_bytes), downloads: Arc::new(Semaphore::new(downloads)) }
    }

    /// Bytes that are held.
    pub(super) fn held(&self) -> u64 {
        self.gate.held()
    }

    fn reservation(&self) -> Reservation {
        Reservation { ticket: self.gate.ticket(), downloads: Arc::clone(&self.downloads) }
    }
}

/// A payload's place in line for memory.
struct Reservation {
    ticket: Ticket,
    downloads: Arc<Semaphore>,
}

impl Admission for Reservation {
    fn at_once(&mut self, bytes: u64) -> bool {
        self.ticket.try_take(bytes)
    }

    async fn wait(&mut self, bytes: u64) {
        self.ticket.take(bytes).await;
    }

    async fn turn(&mut self) -> Option<OwnedSemaphorePermit> {
        // never closed
        Arc::clone(&self.downloads).acquire_owned().await.ok()
    }
}

/// A record read ahead.
pub(super) struct ReadAhead {
    pub(super) position: Position,
    pub(super) timestamp: Option<i64>,
    pub(super) appended: bool,
    /// As Kafka has it.
    key: Option<Bytes>,
    key_content: KeyContent,
    pub(super) value: Option<Bytes>,
    pub(super) headers: Headers,
    pub(super) reference: Option<Reference>,
    content: Content,
    /// Its payload is handed out as a stream.
    streams: bool,
    /// Room of its payload.
    ticket: Option<Ticket>,
}

/// Where a record's key is. One that went through the store is fetched when its record is the first in line: one at a time is in
/// memory, however large it is.
enum KeyContent {
    /// In the record.
    InRecord,
    /// To be asked for, after a moment when it failed before.
    Elsewhere(Reference, Duration),
    Coming(Reference, oneshot::Receiver<Result<Bytes>>),
    Fetched(Bytes),
}

enum Content {
    InRecord(Option<Bytes>),
    Coming(oneshot::Receiver<(Result<Incoming>, Option<Ticket>)>),
    /// Opened when it is the first in line: nobody reads it before.
    Stream,
    Broken(Error),
}

impl ReadAhead {
    /// A record that came; if it has a reference, its payload is asked for.
    pub(super) fn read(
        message: &BorrowedMessage<'_>,
        runtime: &Runtime,
        claims: &ClaimCheck,
        limits: &Limits,
        stream_above: Option<u64>,
    ) -> ReadAhead {
        let mut ahead = ReadAhead {
            position: Position { topic: message.topic().to_owned(), partition: message.partition(), offset: message.offset() },
            timestamp: message.timestamp().to_millis(),
            appended: matches!(message.timestamp(), Timestamp::LogAppendTime(_)),
            key: message.key().map(Bytes::copy_from_slice),
            key_content: KeyContent::InRecord,
            value: message.payload().map(Bytes::copy_from_slice),
            headers: client::headers_of_message(message),
            reference: None,
            content: Content::InRecord(None),
            streams: false,
            ticket: None,
        };
        match claims.claim(ahead.value.as_ref(), &ahead.headers) {
            Ok(Claim::Tombstone) => {}
            Ok(Claim::Inline(payload)) => {
                // what is in the record is in memory already: it counts where it can, and waits for nobody
                ahead.ticket = limits.gate.at_once(payload.len() as u64);
                ahead.content = Content::InRecord(Some(payload));
            }
            Ok(Claim::Reference(reference)) if stream_above.is_some_and(|most| reference.size.is_none_or(|size| size > most)) => {
                (ahead.reference, ahead.content, ahead.streams) = (Some(reference), Content::Stream, true);
            }
            Ok(Claim::Reference(reference)) => {
                let (claims, asked, mut reservation) = (claims.clone(), reference.clone(), limits.reservation());
                ahead.content = coming(runtime, async move {
                    let fetched = claims.fetch_within(&asked, &mut reservation).await;
                    (fetched.map(Incoming::Bytes), Some(reservation.ticket))
                });
                ahead.reference = Some(reference);
            }
            Err(error) => ahead.content = Content::Broken(error),
        }
        match claims.key_reference(ahead.key.as_ref(), &ahead.headers) {
            Ok(None) => {}
            Ok(Some(reference)) => ahead.key_content = KeyContent::Elsewhere(reference, Duration::ZERO),
            Err(error) => ahead.content = Content::Broken(error),
        }
        ahead
    }

    /// The key as its sender gave it, once [`ReadAhead::wait`] brought the payload.
    pub(super) fn key_of_sender(&mut self) -> Option<Bytes> {
        match std::mem::replace(&mut self.key_content, KeyContent::InRecord) {
            KeyContent::Fetched(key) => Some(key),
            _ => self.key.take(),
        }
    }

    /// The key as Kafka has it.
    pub(super) fn key_of_record(&self) -> Option<&Bytes> {
        self.key.as_ref()
    }

    /// The key is there, or cannot be had; `None` when neither is known within `wait`.
    fn wait_for_key(&mut self, runtime: &Runtime, claims: &ClaimCheck, wait: Duration) -> Option<Result<()>> {
        loop {
            match std::mem::replace(&mut self.key_content, KeyContent::InRecord) {
                KeyContent::InRecord => return Some(Ok(())),
                KeyContent::Fetched(key) => {
                    self.key_content = KeyContent::Fetched(key);
                    return Some(Ok(()));
                }
                KeyContent::Elsewhere(reference, pause) => {
                    let (claims, asked, (sender, receiver)) = (claims.clone(), reference.clone(), oneshot::channel());
                    runtime.spawn(async move {
                        tokio::time::sleep(pause).await;
                        _ = sender.send(claims.fetch(&asked).await);
                    });
                    self.key_content = KeyContent::Coming(reference, receiver);
                }
                KeyContent::Coming(reference, mut receiver) => match runtime.block_on(async { tokio::time::timeout(wait, &mut receiver).await }) {
                    Err(_) => {
                        self.key_content = KeyContent::Coming(reference, receiver);
                        return None;
                    }
                    Ok(Ok(Ok(key))) => self.key_content = KeyContent::Fetched(key),
                    Ok(failed) => {
                        // asked for anew when the record is tried again
                        self.key_content = KeyContent::Elsewhere(reference, AGAIN_AFTER);
                        let stopped = |error| Error::new(Kind::Fatal, "the download of a key stopped").source(error);
                        return Some(failed.map_err(stopped).and_then(|fetched| fetched.map(drop)));
                    }
                },
            }
        }
    }

    /// What the record brought, or why it cannot be had; `None` when neither is known within `wait`.
    pub(super) fn wait(&mut self, runtime: &Runtime, claims: &ClaimCheck, wait: Duration) -> Option<Result<Incoming>> {
        if let Err(error) = self.wait_for_key(runtime, claims, wait)? {
            return Some(Err(error));
        }
        if let (Content::Stream, Some(reference)) = (&self.content, &self.reference) {
            let (claims, reference) = (claims.clone(), reference.clone());
            self.content = coming(runtime, async move { (claims.stream(&reference).await.map(Incoming::Stream), None) });
        }
        match std::mem::replace(&mut self.content, Content::InRecord(None)) {
            Content::InRecord(None) | Content::Stream => Some(Ok(Incoming::Tombstone)),
            Content::InRecord(Some(payload)) => Some(Ok(Incoming::Bytes(payload))),
            Content::Broken(error) => Some(Err(error)),
            Content::Coming(mut receiver) => {
                let waited = match receiver.try_recv() {
                    Err(oneshot::error::TryRecvError::Empty) => {
                        runtime.block_on(async { tokio::time::timeout(wait, &mut receiver).await.map(|got| got.ok()).map_err(drop) })
                    }
                    got => Ok(got.ok()),
                };
                match waited {
                    Ok(Some((got, ticket))) => {
                        self.ticket = ticket;
                        Some(got)
                    }
                    Ok(None) => Some(Err(Error::new(Kind::Fatal, "the download of a payload stopped"))),
                    Err(()) => {
                        self.content = Content::Coming(receiver);
                        None
                    }
                }
            }
        }
    }

    /// What is told of a record whose payload cannot be had.
    pub(super) fn failed(&self, error: Error) -> Box<Failed> {
        let (position, key, value) = (Some(self.position.clone()), self.key.clone(), self.value.clone());
        Box::new(Failed { error, position, key, value, headers: self.headers.clone(), reference: self.reference.clone() })
    }

    /// After a failure: asks for the payload once more, a moment later. It does not stand in line for room: it is the first, and
    /// those behind hold theirs until it is gone.
    pub(super) fn try_again(&mut self, runtime: &Runtime, claims: &ClaimCheck, limits: &Limits) {
        self.ticket = None;
        let readable = claims.key_reference(self.key.as_ref(), &self.headers).and_then(|_| claims.claim(self.value.as_ref(), &self.headers));
        self.content = match (readable, &self.reference) {
            (Err(error), _) => Content::Broken(error),
            (Ok(_), Some(_)) if self.streams => Content::Stream,
            (Ok(_), Some(reference)) => {
                let (claims, reference, ticket) = (claims.clone(), reference.clone(), limits.gate.ticket());
                coming(runtime, async move {
                    tokio::time::sleep(AGAIN_AFTER).await;
                    (claims.fetch(&reference).await.map(Incoming::Bytes), Some(ticket))
                })
            }
            (Ok(Claim::Inline(payload)), None) => Content::InRecord(Some(payload)),
            (Ok(_), None) => Content::InRecord(None),
        };
    }
}

fn coming(runtime: &Runtime, work: impl Future<Output = (Result<Incoming>, Option<Ticket>)> + Send + 'static) -> Content {
    let (sender, receiver) = oneshot::channel();
    runtime.spawn(async move { _ = sender.send(work.await) });
    Content::Coming(receiver)
}
