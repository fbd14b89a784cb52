//! Many records at once, in order: what records of a batch need is asked for beside one another, and handed on in the order of
//! the records, in pieces, as soon as the next one in line is there.
//!
//! ```text
//! records -look-> sizes (at once) -in order-> room -> answers (at once) -in order-> pieces
//! ```
//! Guarantee: at most so many at once, and only what has its room is read. Room is taken in order, and whatever has it is handed
//! on without waiting for those behind: so it comes free again, and nobody waits for ever.

use super::{Change, LaneRoom, Need, Ticket, Waiting};
use crate::{
    config::BadRecords,
    error::{Error, Kind, Result},
    ledger::Backoff,
    record::Record,
    source::Batch,
};
use futures::{
    FutureExt, StreamExt,
    future::{BoxFuture, OptionFuture, ready},
    stream::FuturesOrdered,
};
use std::{collections::VecDeque, sync::Arc};

/// Records on their way to a lane, with the room that they take.
pub(crate) struct Piece {
    /// The records.
    pub(crate) batch: Batch,
    /// The last of them cannot be taken.
    pub(crate) refused: Option<Error>,
    /// Given back when the piece is dropped.
    pub(crate) tickets: Vec<Ticket>,
}

/// Sees what becomes of records.
pub(crate) trait Watch: Send + Sync {
    /// A record was changed, and holds so many bytes now.
    fn changed(&self, _bytes: u64) {}
    /// A record cannot be taken, for the reason of this code.
    fn refused(&self, _reason: &'static str) {}
    /// The store does not answer; it is asked again. False: it is not, and the error is handed out.
    fn again(&self, _error: &Error) -> bool {
        false
    }
}

/// For those who look once, and then say what they saw.
pub(crate) struct Once;

impl Watch for Once {}

/// What the records of one partition go through.
pub(crate) struct Ahead {
    pub(crate) chain: Arc<[Arc<dyn Waiting>]>,
    pub(crate) room: LaneRoom,
    /// With `Stop` nothing behind a refused record is handed on.
    pub(crate) bad: BadRecords,
}

/// The place of a record in its batch, with what was found for it.
type Item<T> = (usize, Result<T>);
type Asked = (Box<dyn Need>, usize);

impl Ahead {
    /// Takes a batch through the transforms, and hands on its records. False when a record was refused and nothing behind it may
    /// follow.
    ///
    /// # Errors
    /// `Transient` and `Fatal`, when `watch` does not want to try again; what was handed on stays handed on.
    pub(crate) async fn take(&self, batch: Batch, topic: &str, watch: &dyn Watch, mut hand_on: impl FnMut(Piece) + Send) -> Result<bool> {
        let batch = Arc::new(batch);
        let mut records = Vec::new();
        batch.records(topic, &mut records);
        let mut work = Work { ahead: self, watch, records: &records, looked: 0, line: VecDeque::new() };
        let mut piece = Making { batch: &batch, from: 0, changes: Vec::new(), tickets: Vec::new() };
        let mut sizes: FuturesOrdered<BoxFuture<'_, Item<(Asked, u64)>>> = FuturesOrdered::new();
        let mut admission: Option<BoxFuture<'_, (usize, Result<Asked>, Ticket)>> = None;
        let mut answers: FuturesOrdered<BoxFuture<'_, (usize, Result<Change>, Ticket)>> = FuturesOrdered::new();
        loop {
            while let Some(item) = work.next() {
                sizes.push_back(size(item));
            }
            let front = work.line.front().copied().unwrap_or(records.len());
            tokio::select! {
                biased;
                Some((at, change, ticket)) = answers.next() => {
                    work.line.pop_front();
                    match change {
                        Ok(change) => {
                            watch.changed(change.value.as_ref().map_or(0, |value| value.len() as u64));
                            piece.changes.push((at, change));
                            piece.tickets.push(ticket);
                        }
                        Err(error) if error.kind() == Kind::BadRecord => {
                            watch.refused(error.reason().unwrap_or("other"));
                            hand_on(piece.cut(at + 1, Some(error.at(records[at].offset))));
                            if self.bad == BadRecords::Stop {
                                return Ok(false);
                            }
                        }
                        Err(error) => {
                            hand_on(piece.cut(at, None));
                            return Err(error);
                        }
                    }
                }
                // whoever has room is on its way, not kept for those behind
                () = ready(()), if front > piece.from => hand_on(piece.cut(front, None)),
                Some((at, asked, ticket)) = OptionFuture::from(admission.as_mut()), if admission.is_some() => {
                    admission = None;
                    answers.push_back(work.answer(at, asked, ticket));
                }
                Some((at, sized)) = sizes.next(), if admission.is_none() => admission = Some(self.admit(at, sized)),
                else => return Ok(true),
            }
        }
    }

    /// Waits for the room that a record needs.
    fn admit(&self, at: usize, sized: Result<(Asked, u64)>) -> BoxFuture<'_, (usize, Result<Asked>, Ticket)> {
        async move {
            match sized {
                Ok((asked, bytes)) => (at, Ok(asked), self.room.take(bytes).await),
                Err(error) => (at, Err(error), Ticket::default()),
            }
        }
        .boxed()
    }

    /// The first transform that a record needs something of, from the one numbered `from` on.
    fn look(&self, record: &Record<'_>, from: usize) -> Result<Option<Asked>> {
        for (number, transform) in self.chain.iter().enumerate().skip(from) {
            if let Some(need) = transform.look(record)? {
                return Ok(Some((need, number)));
            }
        }
        Ok(None)
    }

    /// All that the transforms make of a record.
    async fn change(&self, record: Record<'_>, (mut need, mut number): Asked, watch: &dyn Watch) -> Result<Change> {
        let mut change = patiently(&*need, watch).await?;
        while let Some(next) = self.look(&change.on(&record), number + 1)? {
            (need, number) = next;
            change = patiently(&*need, watch).await?;
        }
        Ok(change)
    }
}

fn size<'a>((at, found): Item<Asked>) -> BoxFuture<'a, Item<(Asked, u64)>> {
    match found {
        Err(error) => ready((at, Err(error))).boxed(),
        Ok(asked) => async move {
            let bytes = asked.0.bytes().await;
            (at, Ok((asked, bytes)))
        }
        .boxed(),
    }
}

/// Asks for as long as it takes.
async fn patiently(need: &dyn Need, watch: &dyn Watch) -> Result<Change> {
    let mut backoff = Backoff::default();
    loop {
        match need.get().await {
            Err(error) if error.kind() == Kind::Transient && watch.again(&error) => backoff.sleep().await,
            other => return other,
        }
    }
}

/// What is being worked on.
struct Work<'a> {
    ahead: &'a Ahead,
    watch: &'a dyn Watch,
    records: &'a [Record<'a>],
    /// Records that were looked at.
    looked: usize,
    /// Places of the records that something is asked for, in order.
    line: VecDeque<usize>,
}

impl<'a> Work<'a> {
    /// The next record that needs something, unless there are enough on their way.
    fn next(&mut self) -> Option<Item<Asked>> {
        let at_once = self.ahead.chain.iter().map(|transform| transform.at_once()).min().unwrap_or(1);
        while self.line.len() < at_once && self.looked < self.records.len() {
            let at = self.looked;
            self.looked += 1;
            if let Some(found) = self.ahead.look(&self.records[at], 0).transpose() {
                self.line.push_back(at);
                return Some((at, found));
            }
        }
        None
    }

    fn answer(&self, at: usize, asked: Result<Asked>, mut ticket: Ticket) -> BoxFuture<'a, (usize, Result<Change>, Ticket)> {
        let (ahead, watch, record) = (self.ahead, self.watch, self.records[at]);
        async move {
            let change = match asked {
                Ok(asked) => ahead.change(record, asked, watch).await,
                Err(error) => Err(error),
            };
            if let Ok(change) = &change {
                ticket.came(change.value.as_ref().map_or(0, |value| value.len() as u64));
            }
            (at, change, ticket)
        }
        .boxed()
    }
}

/// The piece that is put together.
struct Making<'a> {
    batch: &'a Arc<Batch>,
    from: usize,
    changes: Vec<(usize, Change)>,
    tickets: Vec<Ticket>,
}

impl Making<'_> {
    /// What there is up to `to`, and the next piece begins there.
    fn cut(&mut self, to: usize, refused: Option<Error>) -> Piece {
        let records = std::mem::replace(&mut self.from, to)..to;
        let batch = Batch::changed(Arc::clone(self.batch), records, std::mem::take(&mut self.changes));
        Piece { batch, refused, tickets: std::mem::take(&mut self.tickets) }
    }
}

#[cfg(test)]
mod tests;
