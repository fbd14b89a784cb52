//! Objects under the sink's URL that look like files of this pipeline, and that no span names: copies, leftovers of other
//! tools, or files whose ledger was lost. Readers of the data would read their records too.

use super::{
    Comparison,
    report::{Finding, FindingKind},
};
use crate::{error::Result, span::TopicPartition};
use std::collections::{HashMap, HashSet};
use xxhash_rust::xxh3::xxh3_128;

/// The URLs that spans name, as digests: 16 bytes each.
#[derive(Default)]
pub(super) struct Names(HashSet<u128>);

impl Names {
    pub(super) fn insert(&mut self, url: &str) {
        self.0.insert(xxh3_128(url.as_bytes()));
    }

    fn holds(&self, url: &str) -> bool {
        self.0.contains(&xxh3_128(url.as_bytes()))
    }
}

/// Where ledgers, staged bytes and payloads lie.
const LEDGERS: &str = "_kas3/";
/// Objects of one page of a listing.
const PAGE: usize = 1000;
/// Objects that are looked at again, at most.
const CANDIDATES_MAX: usize = 10_000;

impl Comparison {
    /// Looks through the sink's URL.
    pub(super) async fn foreign(&self, names: &Names) -> Result<Vec<Finding>> {
        let extensions = self.extensions();
        let (mut candidates, mut beyond, mut others) = (Vec::new(), 0_u64, 0_u64);
        let mut after: Option<String> = None;
        loop {
            let page = self.stores.sink().list("", after.as_deref(), PAGE).await?;
            for info in &page {
                let url = self.stores.sink().url_of(&info.path);
                // Readers of data lakes skip names that begin with `_` or `.`, and so does this.
                let hidden = info.path.split('/').any(|segment| segment.starts_with(['_', '.']));
                if hidden || names.holds(&url) {
                    continue;
                }
                if !extensions.iter().any(|extension| info.path.ends_with(extension)) {
                    others += 1;
                } else if candidates.len() < CANDIDATES_MAX {
                    candidates.push((info.path.clone(), url));
                } else {
                    beyond += 1;
                }
            }
            match page.last() {
                // nothing below it is data, and a ledger's history may be long; no name in there sorts behind a `~`
                Some(last) if page.len() >= PAGE && last.path.starts_with(LEDGERS) => after = Some(format!("{LEDGERS}~")),
                Some(last) if page.len() >= PAGE => after = Some(last.path.clone()),
                _ => break,
            }
        }
        if others > 0 {
            self.note(format!("{others} objects under `{}` are not files of this pipeline", self.stores.sink().url()));
        }
        if beyond > 0 {
            self.note(format!(
                "{beyond} more objects look like files of this pipeline, and were not looked at: {CANDIDATES_MAX} others are before them"
            ));
        }
        if candidates.is_empty() {
            return Ok(Vec::new());
        }
        // A pipeline that runs has published more since its heads were read.
        let named = self.names_now().await?;
        let foreign = candidates.into_iter().filter(|(_, url)| !named.holds(url));
        Ok(foreign.map(|(path, url)| self.finding(&path, &url)).collect())
    }

    /// Extensions of the pipeline's files, with their leading dot.
    fn extensions(&self) -> HashSet<String> {
        let plans = std::iter::once(&self.pipeline.default).chain(self.pipeline.overrides.iter().map(|(_, plan)| plan));
        plans.map(|plan| format!(".{}", plan.format.extension())).collect()
    }

    async fn names_now(&self) -> Result<Names> {
        let mut names = Names::default();
        for head in self.ledger.heads().await? {
            let of = head.of();
            let mut history = self.ledger.walk(&head).await?.with_pending();
            while let Some(entries) = history.page().await? {
                for entry in &entries {
                    self.ledger.files(entry, &of).await?.iter().for_each(|file| names.insert(&file.url));
                }
            }
        }
        Ok(names)
    }

    fn finding(&self, path: &str, url: &str) -> Finding {
        let detail = "no span names this object, but it looks like a file of this pipeline: readers would read its records too";
        let mut finding =
            Finding { kind: FindingKind::Foreign, topic: None, partition: None, span: None, offsets: None, file: None, detail: detail.to_owned() };
        if let Some(of) = self.owner(path) {
            finding = Finding::new(FindingKind::Foreign, &of, detail);
        }
        finding.file(url)
    }

    /// Whose file it would be by its name.
    fn owner(&self, path: &str) -> Option<TopicPartition> {
        let literal: HashMap<&str, ()> = self
            .pipeline
            .topics
            .iter()
            .filter_map(|pattern| match pattern {
                crate::topics::TopicPattern::Name(name) => Some((name.as_str(), ())),
                crate::topics::TopicPattern::Expression(_) => None,
            })
            .collect();
        let plans = std::iter::once(&self.pipeline.default).chain(self.pipeline.overrides.iter().map(|(_, plan)| plan));
        plans.into_iter().find_map(|plan| {
            let parts = plan.path.read_back(path, &format!(".{}", plan.format.extension()))?;
            let only = if literal.len() == 1 { literal.keys().next().map(|name| (*name).to_owned()) } else { None };
            Some(TopicPartition::new(parts.topic.or(only)?, parts.partition))
        })
    }
}
