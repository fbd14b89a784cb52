//! Many records at once, in order: what records of a batch need is asked for beside one another, and handed on in the order of
//! the records, in pieces, as soon as the next one in line is there.
//!
//! ```text
//! records -look-> sizes (at once) -in order-> room -> answers (at once) -in order-> pieces
//! ```
//! Guarantee: at most so many at once, and only what has its room is read. Room is taken in order, and whatever has it is handed
//! on without waiting for those behind: so it comes free again, and nobody waits for ever.

use super::{LaneRoom, Ticket};
use crate::{
    backoff::Backoff,
    batch::Batch,
    error::{Error, Kind, Result},
    record::{Change, Record},
    refused::{BadRecords, Refused, Step},
    transform::{Prefetch, Request},
};
use futures::{
    FutureExt, StreamExt,
    future::{BoxFuture, OptionFuture, ready},
    stream::FuturesOrdered,
};
use std::{collections::VecDeque, sync::Arc};

/// Records on their way to a lane, with the room that they take.
pub(crate) struct Prefetched {
    /// The records.
    pub(crate) batch: Batch,
    /// The last of them cannot be taken.
    pub(crate) refused: Option<Refused>,
    /// Given back when the piece is dropped.
    pub(crate) tickets: Vec<Ticket>,
}

/// Sees what becomes of records.
pub(crate) trait PrefetchObserver: Send + Sync {
    /// A record was changed, and holds so many bytes now.
    fn changed(&self, _bytes: u64) {}
    /// The store does not answer; it is asked again. False: it is not, and the error is handed out.
    fn again(&self, _error: &Error) -> bool {
        false
    }
}

/// For those whom an error ends.
pub(crate) struct Impatient;

impl PrefetchObserver for Impatient {}

/// Fetches for the records of one partition.
pub(crate) struct InOrder {
    pub(crate) prefetches: Arc<[Arc<dyn Prefetch>]>,
    pub(crate) room: LaneRoom,
    /// With `Stop` nothing behind a refused record is handed on.
    pub(crate) bad: BadRecords,
}

/// The place of a record in its batch, with what was found for it.
type Item<T> = (usize, Result<T>);
type Asked = (Box<dyn Request>, usize);

impl InOrder {
    /// Fetches what the records of a batch need, and hands them on. False when a record was refused and nothing behind it may
    /// follow.
    ///
    /// # Errors
    /// `Transient` and `Fatal`, when `watch` does not want to try again; what was handed on stays handed on.
    pub(crate) async fn take(
        &self,
        batch: Batch,
        topic: &str,
        watch: &dyn PrefetchObserver,
        mut hand_on: impl FnMut(Prefetched) + Send,
    ) -> Result<bool> {
        let batch = Arc::new(batch);
        let mut rows = Vec::new();
        batch.rows(topic, &mut rows);
        let records: Vec<Record<'_>> = rows.into_iter().map(|row| row.record).collect();
        let mut work = Work { of: self, watch, records: &records, looked: 0, line: VecDeque::new() };
        let mut piece = OpenPiece { batch: &batch, from: 0, changes: Vec::new(), tickets: Vec::new() };
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
                            let refused = Refused::of(Step::Prefetch, &error);
                            hand_on(piece.cut(at + 1, Some(refused)));
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

    /// What is to be fetched for a record, by the first that asks for something, from the one numbered `from` on.
    fn look(&self, record: &Record<'_>, from: usize) -> Result<Option<Asked>> {
        for (number, prefetch) in self.prefetches.iter().enumerate().skip(from) {
            if let Some(request) = prefetch.request(record)? {
                return Ok(Some((request, number)));
            }
        }
        Ok(None)
    }

    /// A record with all that is fetched for it.
    async fn change(&self, record: Record<'_>, (mut request, mut number): Asked, watch: &dyn PrefetchObserver) -> Result<Change> {
        let mut change = patiently(&*request, watch).await?;
        while let Some(next) = self.look(&change.on(&record), number + 1)? {
            (request, number) = next;
            change = patiently(&*request, watch).await?;
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
async fn patiently(request: &dyn Request, watch: &dyn PrefetchObserver) -> Result<Change> {
    let mut backoff = Backoff::default();
    loop {
        match request.fetch().await {
            Err(error) if error.kind() == Kind::Transient && watch.again(&error) => backoff.sleep().await,
            other => return other,
        }
    }
}

/// What is being worked on.
struct Work<'a> {
    of: &'a InOrder,
    watch: &'a dyn PrefetchObserver,
    records: &'a [Record<'a>],
    /// Records that were looked at.
    looked: usize,
    /// Places of the records that something is asked for, in order.
    line: VecDeque<usize>,
}

impl<'a> Work<'a> {
    /// The next record that needs something, unless there are enough on their way.
    fn next(&mut self) -> Option<Item<Asked>> {
        let at_once = self.of.prefetches.iter().map(|prefetch| prefetch.at_once()).min().unwrap_or(1);
        while self.line.len() < at_once && self.looked < self.records.len() {
            let at = self.looked;
            self.looked += 1;
            if let Some(found) = self.of.look(&self.records[at], 0).transpose() {
                self.line.push_back(at);
                return Some((at, found));
            }
        }
        None
    }

    fn answer(&self, at: usize, asked: Result<Asked>, mut ticket: Ticket) -> BoxFuture<'a, (usize, Result<Change>, Ticket)> {
        let (of, watch, record) = (self.of, self.watch, self.records[at]);
        async move {
            let change = match asked {
                Ok(asked) => of.change(record, asked, watch).await,
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
struct OpenPiece<'a> {
    batch: &'a Arc<Batch>,
    from: usize,
    changes: Vec<(usize, Change)>,
    tickets: Vec<Ticket>,
}

impl OpenPiece<'_> {
    /// What there is up to `to`, and the next piece begins there.
    fn cut(&mut self, to: usize, refused: Option<Refused>) -> Prefetched {
        let records = std::mem::replace(&mut self.from, to)..to;
        let batch = Batch::changed(Arc::clone(self.batch), records, std::mem::take(&mut self.changes));
        Prefetched { batch, refused, tickets: std::mem::take(&mut self.tickets) }
    }
}

#[cfg(test)]
mod tests;
