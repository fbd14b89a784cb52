//! What stops partitions, looked for from outside: for decisions about many at once.

use super::{Ledger, head_writer::HeadWriter, stored::Head};
use crate::{
    error::{Error, Kind, Result},
    span::TopicPartition,
    stops,
};
use std::{collections::HashMap, sync::Arc};

impl Ledger {
    /// Partitions that have a head, whether it can be read or not, in the order of their paths.
    ///
    /// # Errors
    /// When heads cannot be listed.
    pub async fn partitions(&self) -> Result<Vec<TopicPartition>> {
        self.begun_partitions().await
    }

    /// What would stop a partition if it were opened now; `None`: nothing that ledger and log tell. What is committed is published
    /// on the way, as by whoever opens it; nothing is decided, and a partition that has not begun does not begin.
    ///
    /// # Errors
    /// When stores or Kafka cannot be asked.
    pub async fn stop_of(self: &Arc<Self>, of: &TopicPartition) -> Result<Option<Error>> {
        match self.look_into(of).await {
            Ok(()) => Ok(None),
            Err(error) if matches!(error.kind(), Kind::Stopped | Kind::Newer) => Ok(Some(error)),
            Err(error) => Err(error),
        }
    }

    async fn look_into(self: &Arc<Self>, of: &TopicPartition) -> Result<()> {
        let Some(mut writer) = HeadWriter::read(self, of).await? else { return self.look_into_new(of).await };
        writer.publish(HashMap::new()).await?;
        self.check_start_record(of, &writer.head).await?;
        self.check_segment(of, &writer.head).await?;
        self.check_log(of, &writer.head).await?;
        match self.cut_of(of, &writer.head).await? {
            Some(cut) => Err(stops::cut_back(of, writer.head.next, cut, cut)),
            None => Ok(()),
        }
    }

    async fn look_into_new(&self, of: &TopicPartition) -> Result<()> {
        self.check_not_lost(of).await?;
        let Some(newest) = self.newest_incarnation(of).await? else { return Ok(()) };
        match self.start_record(of, newest).await? {
            Some(record) => self.check_belongs(of, &record.cluster_id, record.topic_id.as_deref()).await.map(drop),
            None => Ok(()),
        }
    }

    /// Where Kafka's log was cut back below what a head has read, as far as leader epochs tell.
    pub(super) async fn cut_of(&self, of: &TopicPartition, head: &Head) -> Result<Option<i64>> {
        let (log, asked, position) = (Arc::clone(&self.log), of.clone(), head.position());
        let cut = tokio::task::spawn_blocking(move || log.cut_back(&asked, position)).await;
        let cut = cut.map_err(|source| Error::new(Kind::Fatal, "ask whether a log was cut back").source(source))??;
        Ok(cut.filter(|cut| *cut < head.next))
    }
}
