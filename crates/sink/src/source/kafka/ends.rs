//! Where partitions end and what is behind the position of one, asked from the brokers now: what lag and health rest on. A client
//! that is silent, or a partition that is not read, says nothing about that.

use super::{KafkaLog, client, log::blocking, reader::StretchReader};
use crate::{
    error::{Error, Kind, Result},
    span::TopicPartition,
    topics::TopicPattern,
};
use kas3_kafka::refusal;
use rdkafka::consumer::Consumer as _;
use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

/// How long one question may take.
const ASK: Duration = Duration::from_secs(5);

/// Where a partition ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct End {
    /// Behind its last record, those of open transactions included.
    pub end: i64,
    /// Behind the last record that no open transaction holds back.
    pub stable: i64,
}

/// Asks for ends.
pub struct Ends {
    log: Arc<KafkaLog>,
    /// When somebody last answered.
    answered: Mutex<Instant>,
    /// Reads what open transactions hold back too.
    reader: Arc<Mutex<Option<StretchReader<client::Context>>>>,
}

impl Ends {
    /// By the client of `log`.
    pub(super) fn new(log: &Arc<KafkaLog>) -> Ends {
        Ends { log: Arc::clone(log), answered: Mutex::new(Instant::now()), reader: Arc::default() }
    }

    /// The addresses that the configuration names, for messages.
    pub fn servers(&self) -> &str {
        self.log.pipeline().kafka.get("bootstrap.servers").map_or("", String::as_str)
    }

    /// When a broker last answered.
    pub fn answered(&self) -> Instant {
        *self.answered.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The ends of partitions, each with its own outcome, in their order. Without partitions, whether a broker answers.
    ///
    /// # Errors
    /// `Transient` when no broker answers.
    pub async fn ask(&self, partitions: Vec<TopicPartition>) -> Result<Vec<Result<End>>> {
        let since = self.answered();
        let asked = self.ask_brokers(partitions).await;
        match &asked {
            Ok(_) => *self.answered.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now(),
            Err(error) => tracing::debug!(error = %error.chain(), "no broker says where partitions end"),
        }
        asked.map_err(|_| self.unreachable(since))
    }

    async fn ask_brokers(&self, partitions: Vec<TopicPartition>) -> Result<Vec<Result<End>>> {
        let (consumer, native) = (self.log.consumer(), self.log.native());
        if partitions.is_empty() {
            let named = |topic: &TopicPattern| if let TopicPattern::Name(name) = topic { Some(name.clone()) } else { None };
            let topic = self.log.pipeline().topics.iter().find_map(named);
            return blocking(move || match client::metadata(&consumer, topic.as_deref(), ASK) {
                Err(error) if error.kind() == Kind::Transient => Err(error),
                _ => Ok(Vec::new()),
            })
            .await;
        }
        blocking(move || {
            let ends: HashMap<_, _> = native.ends(&partitions, false, ASK)?.into_iter().collect();
            if !ends.is_empty() && ends.values().all(|end| end.is_err_and(|no_end| no_end.unanswered)) {
                return Err(Error::new(Kind::Transient, format!("no answer within {} s", ASK.as_secs())));
            }
            let stable: HashMap<_, _> = native.ends(&partitions, true, ASK)?.into_iter().collect();
            let of = |of: &TopicPartition| {
                let no_end = |why: String| Error::new(Kind::Transient, why);
                match (ends.get(of), stable.get(of)) {
                    (Some(Ok(end)), Some(Ok(stable))) => Ok(End { end: *end, stable: *stable }),
                    (Some(Err(no)), _) | (_, Some(Err(no))) => Err(no_end(rdkafka::error::KafkaError::OffsetFetch(no.code).to_string())),
                    _ => Err(no_end("it has no leader that the brokers know".to_owned())),
                }
            };
            Ok(partitions.iter().map(of).collect())
        })
        .await
    }

    /// That no broker answers, in the words of what the client saw since one did.
    fn unreachable(&self, since: Instant) -> Error {
        let seen = self.log.consumer().context().error_since(since);
        let known = seen.as_deref().map(refusal::way_out).filter(|way| *way != refusal::way_out(""));
        let hint = known.unwrap_or("the brokers hang or are down, or the way to them is; it goes on by itself once one answers");
        Error::new(Kind::Transient, seen.unwrap_or_else(|| format!("no answer within {} s", ASK.as_secs()))).hint(hint)
    }

    /// The timestamp of the first record of `[first, next)` in milliseconds, that of an open transaction included; `None` where there
    /// is no record, or it has no timestamp.
    ///
    /// # Errors
    /// When it cannot be read.
    pub async fn first_timestamp(&self, of: TopicPartition, first: i64, next: i64) -> Result<Option<i64>> {
        let (log, reader) = (Arc::clone(&self.log), Arc::clone(&self.reader));
        blocking(move || {
            let idle = reader.lock().unwrap_or_else(PoisonError::into_inner).take();
            let peeking = match idle {
                Some(peeking) => peeking,
                None => StretchReader::uncommitted(log.pipeline())?,
            };
            let found = peeking.first_timestamp(&of, first, next)?;
            // one that failed is not kept
            *reader.lock().unwrap_or_else(PoisonError::into_inner) = Some(peeking);
            Ok(found)
        })
        .await
    }
}
