//! Which topics are read. A topic that `source.topics` names and that does not exist is a mistake, unless the ledger knows it: then it
//! was deleted, and the others go on, whether the pipeline runs at that moment or starts later.

use super::Notice;
use crate::{
    error::Result,
    ledger::{Ledger, LedgerParts, NothingRemade, Unwatched},
    source::{Log, kafka::KafkaLog},
    span::TopicPartition,
};
use kas3_store::Store;
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

/// Topics that the configuration names, as of now.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Named {
    /// Those that exist.
    pub found: Vec<String>,
    /// Those that the ledger knows and that do not exist any more, each with its partitions there.
    pub gone: BTreeMap<String, Vec<TopicPartition>>,
}

/// Asks which topics the configuration names.
pub(super) struct AskTopics {
    log: Arc<KafkaLog>,
    ledger: Arc<Ledger>,
}

impl AskTopics {
    pub(super) fn new(pipeline: &Arc<crate::plan::Pipeline>, sink: &Store, ledger: &Store, log: &Arc<KafkaLog>) -> Self {
        let parts = LedgerParts {
            pipeline: Arc::clone(pipeline),
            sink: sink.clone(),
            ledger: ledger.clone(),
            log: Arc::clone(log) as Arc<dyn Log>,
            remaker: Arc::new(NothingRemade),
            observer: Arc::new(Unwatched),
        };
        AskTopics { log: Arc::clone(log), ledger: Ledger::look(parts) }
    }

    /// The topics as of now.
    ///
    /// # Errors
    /// `Missing` for a literal name that does not exist and has never begun.
    pub(super) async fn now(&self) -> Result<Named> {
        named(&self.log, &self.ledger).await
    }
}

/// The topics that the configuration names, as of now.
///
/// # Errors
/// `Missing` for a literal name that does not exist and has never begun.
pub async fn named(log: &KafkaLog, ledger: &Ledger) -> Result<Named> {
    let topics = log.topics().await?;
    let mut gone = BTreeMap::new();
    for (name, error) in topics.missing {
        let begun = ledger.begun(&name).await?;
        if begun.is_empty() {
            return Err(error);
        }
        gone.insert(name, begun);
    }
    Ok(Named { found: topics.found, gone })
}

/// Looks for topics now and then, and tells the poll loop. A topic counts as gone when two looks miss it, because a broker that
/// has just begun may not know it yet.
pub(super) async fn watch(every: Duration, ask: AskTopics, first: Named, notices: crossbeam_channel::Sender<Notice>) {
    let mut last = first;
    let mut missed: BTreeSet<String> = last.gone.keys().cloned().collect();
    loop {
        tokio::time::sleep(every).await;
        match ask.now().await {
            Ok(mut now) => {
                let missing: BTreeSet<String> = now.gone.keys().cloned().collect();
                let fresh: Vec<String> = missing.difference(&missed).cloned().collect();
                for name in fresh {
                    now.gone.remove(&name);
                    if last.found.contains(&name) {
                        now.found.push(name);
                    }
                }
                now.found.sort();
                missed = missing;
                last = now.clone();
                if notices.send(Notice::Topics(now)).is_err() {
                    return;
                }
            }
            Err(error) => tracing::debug!(error = %error.chain(), "cannot look for topics now"),
        }
    }
}
