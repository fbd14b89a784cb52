//! Questions of many callers that are asked together: a thousand partitions are opened with a few questions to the broker.
//!
//! Guarantee: an answer is as fresh as if the caller had asked alone. A question that was sent before it called is not shared
//! with it; what gathers while one is on its way goes out with the next.
//!
//! ```text
//! callers:  a ──┐        b ─┐ c ─┐
//! broker:       └ [a] ──────┴────┴ [b c] ─────
//! ```

use crate::error::{Error, Kind, Result};
use std::sync::{Mutex, PoisonError};
use tokio::sync::oneshot::{self, error::TryRecvError};

/// Questions of one kind.
pub(crate) struct Coalesced<Q, A> {
    waiting: Mutex<Vec<(Q, oneshot::Sender<Result<A>>)>>,
    asking: tokio::sync::Mutex<()>,
}

impl<Q, A> Default for Coalesced<Q, A> {
    fn default() -> Self {
        Coalesced { waiting: Mutex::default(), asking: tokio::sync::Mutex::default() }
    }
}

impl<Q: Clone, A> Coalesced<Q, A> {
    /// The answer to `question`. `ask` gets all questions that have gathered, and gives an answer for each, in their order.
    ///
    /// # Errors
    /// What `ask` says of this question; what it fails with as a whole is told to all that took part.
    pub(crate) async fn ask<F>(&self, question: Q, ask: impl Fn(Vec<Q>) -> F) -> Result<A>
    where
        F: Future<Output = Result<Vec<Result<A>>>>,
    {
        loop {
            let (sender, mut answer) = oneshot::channel();
            self.waiting.lock().unwrap_or_else(PoisonError::into_inner).push((question.clone(), sender));
            let turn = self.asking.lock().await;
            match answer.try_recv() {
                // somebody asked for us while we waited for our turn
                Ok(answer) => return answer,
                // somebody did and was dropped before the answer came
                Err(TryRecvError::Closed) => continue,
                Err(TryRecvError::Empty) => {}
            }
            let (questions, senders): (Vec<Q>, Vec<_>) =
                std::mem::take(&mut *self.waiting.lock().unwrap_or_else(PoisonError::into_inner)).into_iter().unzip();
            match ask(questions).await {
                Ok(answers) => senders.into_iter().zip(answers).for_each(|(sender, answer)| _ = sender.send(answer)),
                Err(error) => senders.into_iter().for_each(|sender| _ = sender.send(Err(copy(&error)))),
            }
            drop(turn);
            return answer.try_recv().unwrap_or_else(|_| Err(Error::new(Kind::Fatal, "a question was answered for everybody but the one who asked")));
        }
    }
}

/// The same error for one more of those whom it concerns.
pub(crate) fn copy(error: &Error) -> Error {
    let copy = Error::new(error.kind(), error.chain());
    match error.way_out() {
        Some(hint) => copy.hint(hint),
        None => copy,
    }
}

/// One answer for every question, or an error: a broker that leaves one out is asked again.
pub(crate) fn each<A>(questions: usize, answers: Vec<Result<A>>) -> Result<Vec<Result<A>>> {
    if answers.len() == questions {
        return Ok(answers);
    }
    Err(Error::new(Kind::Transient, format!("the broker answered {} of {questions} questions", answers.len())))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    };
    use tokio::sync::Notify;

    #[tokio::test]
    async fn what_gathers_while_a_question_is_on_its_way_goes_out_together_and_not_before() {
        let (gathered, sent, go) = (Arc::new(Coalesced::default()), Arc::new(AtomicU32::new(0)), Arc::new(Notify::new()));
        let ask = |question: u32| {
            let (gathered, sent, go) = (Arc::clone(&gathered), Arc::clone(&sent), Arc::clone(&go));
            tokio::spawn(async move {
                let asked = |questions: Vec<u32>| {
                    let (number, go) = (sent.fetch_add(1, Ordering::SeqCst), Arc::clone(&go));
                    async move {
                        go.notified().await;
                        Ok(questions.into_iter().map(|question| Ok((number, question))).collect())
                    }
                };
                gathered.ask(question, asked).await.unwrap()
            })
        };
        let first = ask(0);
        while sent.load(Ordering::SeqCst) == 0 {
            tokio::task::yield_now().await;
        }
        let others: Vec<_> = (1..=50).map(&ask).collect();
        while gathered.waiting.lock().unwrap().len() < 50 {
            tokio::task::yield_now().await;
        }
        assert_eq!(sent.load(Ordering::SeqCst), 1, "a second question goes out while the first is on its way");
        go.notify_one();
        assert_eq!(first.await.unwrap(), (0, 0));
        go.notify_one();
        for (question, other) in (1..).zip(others) {
            assert_eq!(other.await.unwrap(), (1, question));
        }
    }

    #[tokio::test]
    async fn one_that_fails_is_told_so_and_the_others_have_their_answers() {
        let gathered: Coalesced<u32, u32> = Coalesced::default();
        let ask = |questions: Vec<u32>| async move {
            let odd = |question| if question % 2 == 1 { Err(Error::new(Kind::Missing, format!("no {question}"))) } else { Ok(question) };
            Ok(questions.into_iter().map(odd).collect())
        };
        let (even, odd) = tokio::join!(gathered.ask(2, ask), gathered.ask(3, ask));
        assert_eq!(even.unwrap(), 2);
        assert_eq!(odd.unwrap_err().kind(), Kind::Missing);
        let failed = gathered.ask(1, |_| async { Err(Error::new(Kind::Transient, "nobody answers").hint("wait")) }).await.unwrap_err();
        assert_eq!((failed.kind(), failed.way_out()), (Kind::Transient, Some("wait")));
    }

    #[tokio::test]
    async fn questions_taken_along_by_somebody_who_was_dropped_are_asked_again() {
        let gathered: Arc<Coalesced<u32, u32>> = Arc::default();
        let forever = |_: Vec<u32>| std::future::pending();
        let dropped = {
            let gathered = Arc::clone(&gathered);
            tokio::spawn(async move { gathered.ask(1, forever).await })
        };
        let waits = {
            let gathered = Arc::clone(&gathered);
            tokio::spawn(async move { gathered.ask(2, |questions| async { Ok(questions.into_iter().map(Ok).collect()) }).await })
        };
        tokio::task::yield_now().await;
        dropped.abort();
        assert_eq!(waits.await.unwrap().unwrap(), 2);
    }
}
