//! Questions, and what came of each.

use super::QUESTION_MAX;
use crate::progress::Progress;
use kas3_sink::Error;
use serde::Serialize;
use std::{
    future::Future,
    sync::{Arc, Mutex, PoisonError},
};

/// What an answer means for `run`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Outcome {
    /// As it should be.
    Ok,
    /// Good to know.
    Warning,
    /// It stands in the way.
    Error,
}

/// One answer; a question may have several.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Answer {
    question: &'static str,
    pub(super) outcome: Outcome,
    detail: String,
    fix: Option<String>,
}

impl Answer {
    pub(super) fn ok(question: &'static str, detail: impl Into<String>) -> Self {
        Answer { question, outcome: Outcome::Ok, detail: detail.into(), fix: None }
    }

    pub(super) fn warning(question: &'static str, detail: impl Into<String>) -> Self {
        Answer { question, outcome: Outcome::Warning, detail: detail.into(), fix: None }
    }

    pub(super) fn error(question: &'static str, error: &Error) -> Self {
        Answer { question, outcome: Outcome::Error, detail: error.chain(), fix: error.way_out().map(str::to_owned) }
    }

    /// The same, with the way out.
    pub(super) fn fix(self, fix: impl Into<String>) -> Self {
        Answer { fix: Some(fix.into()), ..self }
    }

    /// The same, saying first what it is about.
    pub(super) fn about(self, what: &str) -> Self {
        Answer { detail: format!("{what}: {}", self.detail), ..self }
    }
}

/// The questions that are being asked, as a line on a terminal.
pub(super) struct Asking {
    open: Arc<Mutex<Vec<&'static str>>>,
    progress: Option<Progress>,
}

impl Asking {
    /// Shows what is asked from now on.
    pub(super) fn begin() -> Self {
        let open: Arc<Mutex<Vec<&'static str>>> = Arc::default();
        let shown = Arc::clone(&open);
        let progress = Progress::of(move || format!("checking: {}", shown.lock().unwrap_or_else(PoisonError::into_inner).join(", ")));
        Asking { open, progress }
    }

    /// Shows no more.
    pub(super) fn end(self) {
        drop(self.progress);
    }

    /// Asks, and gives up after a while.
    ///
    /// # Errors
    /// The answer that says so.
    pub(super) async fn ask<T>(&self, question: &'static str, of: &str, asked: impl Future<Output = T>) -> Result<T, Answer> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner).push(question);
        let answer = tokio::time::timeout(QUESTION_MAX, asked).await;
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(at) = open.iter().position(|other| *other == question) {
            open.remove(at);
        }
        answer.map_err(|_| Answer {
            question,
            outcome: Outcome::Error,
            detail: format!("{of} did not answer within {} s, so what it would say is not known", QUESTION_MAX.as_secs()),
            fix: Some("look at the network between here and there, and try again".to_owned()),
        })
    }
}

/// What `kas3 check` found, as `--json` gives it.
#[derive(Debug, Serialize)]
pub(super) struct Report {
    version: u32,
    pipeline: String,
    ok: bool,
    answers: Vec<Answer>,
}

impl Report {
    pub(super) fn new(pipeline: &str, answers: Vec<Answer>) -> Self {
        let ok = answers.iter().all(|answer| answer.outcome != Outcome::Error);
        Report { version: 1, pipeline: pipeline.to_owned(), ok, answers }
    }

    /// How many things stand in the way.
    pub(super) fn errors(&self) -> u64 {
        self.answers.iter().filter(|answer| answer.outcome == Outcome::Error).count() as u64
    }

    pub(super) fn json(&self) -> anyhow::Result<String> {
        Ok(serde_json::to_string_pretty(self)?)
    }

    /// The answers as lines for a person.
    pub(super) fn lines(&self) -> Vec<String> {
        let mut lines = Vec::new();
        for answer in &self.answers {
            let mark = match answer.outcome {
                Outcome::Ok => '✓',
                Outcome::Warning => '!',
                Outcome::Error => '✗',
            };
            lines.push(format!("{mark} {}", answer.detail));
            lines.extend(answer.fix.iter().flat_map(|fix| fix.lines()).map(|line| format!("    {line}")));
        }
        lines
    }
}
