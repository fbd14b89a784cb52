//! What a client of librdkafka says besides answers, until a thread of the caller's is in `poll`, `flush` or `close`; and
//! `oauth_cb`, the one callback that is called where librdkafka asks: a client that signs in waits for it.

use crate::{errors, lock::lock};
use kas3_claimcheck::{
    Error,
    kafka::{
        ClientEvents, error_of_kafka,
        rdkafka::{Offset, client::OAuthToken, error::KafkaError, topic_partition_list::TopicPartitionList, types::RDKafkaErrorCode},
    },
};
use pyo3::{
    prelude::*,
    types::{PyDict, PyTuple},
};
use std::{
    collections::VecDeque,
    sync::{
        Mutex,
        atomic::{AtomicUsize, Ordering},
    },
};

/// Events that wait at most: of a client that nobody serves, the oldest go.
const EVENTS_MAX: usize = 1000;

enum Event {
    Error(Error),
    Statistics(String),
    Committed(Option<Error>, Vec<(String, i32, i64)>),
}

/// Of a client.
pub(crate) struct Events {
    queue: Mutex<VecDeque<Event>>,
    waiting: AtomicUsize,
    wants_errors: bool,
    wants_statistics: bool,
    wants_commits: bool,
    oauth: Option<Py<PyAny>>,
}

impl Events {
    /// `wanted` names the callbacks that there are: `error_cb`, `stats_cb`, `on_commit`.
    pub(crate) fn new(wanted: &[String], oauth: Option<Py<PyAny>>) -> Events {
        let wants = |name: &str| wanted.iter().any(|wanted| wanted == name);
        Events {
            queue: Mutex::default(),
            waiting: AtomicUsize::new(0),
            wants_errors: wants("error_cb"),
            wants_statistics: wants("stats_cb"),
            wants_commits: wants("on_commit"),
            oauth,
        }
    }

    fn push(&self, event: Event) {
        let mut queue = lock(&self.queue);
        if queue.len() >= EVENTS_MAX {
            queue.pop_front();
        }
        queue.push_back(event);
        self.waiting.store(queue.len(), Ordering::Release);
    }

    /// Whether something waits.
    pub(crate) fn are_there(&self) -> bool {
        self.waiting.load(Ordering::Acquire) > 0
    }

    /// Whether somebody hears of commits in the background.
    pub(crate) fn tell_commits(&self) -> bool {
        self.wants_commits
    }

    /// What became of a commit that somebody asked for: of those, librdkafka tells only who waits.
    pub(crate) fn committed_by_hand(&self, error: Option<Error>, places: Vec<(String, i32, i64)>) {
        if self.wants_commits {
            self.push(Event::Committed(error, places));
        }
    }

    /// Whether librdkafka asks here for tokens.
    pub(crate) fn give_tokens(&self) -> bool {
        self.oauth.is_some()
    }

    /// What waits, in a list that the caller gives: however it is torn from its work, nothing is lost.
    pub(crate) fn hand_over(&self, py: Python<'_>, into: &Bound<'_, PyAny>) -> PyResult<()> {
        if !self.are_there() {
            return Ok(());
        }
        let taken = {
            let mut queue = lock(&self.queue);
            self.waiting.store(0, Ordering::Release);
            std::mem::take(&mut *queue)
        };
        for event in taken {
            let told = match event {
                Event::Error(error) => ("error_cb", errors::exception(py, &error)?).into_pyobject(py)?.into_any(),
                Event::Statistics(json) => ("stats_cb", json).into_pyobject(py)?.into_any(),
                Event::Committed(error, places) => {
                    let error = error.map(|error| errors::exception(py, &error)).transpose()?;
                    ("on_commit", error, places).into_pyobject(py)?.into_any()
                }
            };
            into.call_method1("append", (told,))?;
        }
        Ok(())
    }
}

impl ClientEvents for Events {
    fn error(&self, error: &KafkaError, reason: &str) {
        if self.wants_errors {
            self.push(Event::Error(error_of_kafka(reason, error.clone())));
        }
    }

    fn statistics(&self, json: &str) {
        if self.wants_statistics {
            self.push(Event::Statistics(json.to_owned()));
        }
    }

    fn committed(&self, result: &Result<(), KafkaError>, offsets: &TopicPartitionList) {
        // librdkafka commits in the background even when there is nothing to commit
        let nothing = result.as_ref().is_err_and(|error| error.rdkafka_error_code() == Some(RDKafkaErrorCode::NoOffset));
        if self.wants_commits && !nothing {
            let error = result.as_ref().err().map(|error| error_of_kafka("offsets were not committed", error.clone()));
            let next = |offset: Offset| if let Offset::Offset(next) = offset { next } else { -1001 };
            let places = offsets.elements().iter().map(|each| (each.topic().to_owned(), each.partition(), next(each.offset()))).collect();
            self.push(Event::Committed(error, places));
        }
    }

    fn token(&self, config: Option<&str>) -> Result<OAuthToken, Box<dyn std::error::Error>> {
        let Some(oauth) = &self.oauth else {
            return Err("OAUTHBEARER needs `oauth_cb`, or `sasl.oauthbearer.method: oidc` with its properties".into());
        };
        let asked = Python::try_attach(|py| token(py, oauth, config).map_err(|error| error.to_string()));
        Ok(asked.ok_or("the interpreter has ended")??)
    }
}

/// What `oauth_cb` gives: `(token, expires at, in seconds since 1970[, principal[, extensions]])`.
fn token(py: Python<'_>, oauth: &Py<PyAny>, config: Option<&str>) -> PyResult<OAuthToken> {
    let wrong = |what: &str| pyo3::exceptions::PyTypeError::new_err(format!("`oauth_cb` gave {what}"));
    let given = oauth.bind(py).call1((config.unwrap_or_default(),))?;
    let given = given.cast::<PyTuple>().map_err(|_| wrong("no tuple: give `(token, expiry time in seconds since 1970)`"))?;
    if !(2..=4).contains(&given.len()) {
        return Err(wrong("a tuple of another length: give `(token, expiry time in seconds since 1970[, principal[, extensions]])`"));
    }
    if given.len() == 4 && given.get_item(3)?.cast::<PyDict>().is_ok_and(|extensions| !extensions.is_empty()) {
        return Err(wrong("extensions, which kas3 does not send: leave them out"));
    }
    let expires: f64 = given.get_item(1)?.extract()?;
    let principal_name = if given.len() > 2 { given.get_item(2)?.extract::<Option<String>>()?.unwrap_or_default() } else { String::new() };
    #[allow(clippy::cast_possible_truncation, reason = "milliseconds since 1970 are far from what the type holds")]
    let lifetime_ms = (expires * 1000.0) as i64;
    Ok(OAuthToken { token: given.get_item(0)?.extract()?, principal_name, lifetime_ms })
}
