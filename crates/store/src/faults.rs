//! Test-only: what a test does to requests of a local store, by the store's URL. Absent from release builds.

use crate::{Error, Kind, Request, Result};
use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
    time::Duration,
};

/// On which side of a request something happens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum When {
    /// It has not been applied.
    Before,
    /// It has been applied, its answer was not given.
    After,
}

/// What happens to a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Nothing.
    Pass,
    /// An error of kind `Transient`.
    Fail,
    /// It never ends: what a crash of its sender looks like.
    Hang,
    /// Before only: an error now, and the request is applied after this time all the same.
    Late(Duration),
}

/// Decides about requests.
pub trait Fault: Send + Sync {
    /// Called before and after each request.
    fn at(&self, request: Request, when: When) -> Verdict;
}

static FAULTS: Mutex<BTreeMap<String, Arc<dyn Fault>>> = Mutex::new(BTreeMap::new());

/// Lets `fault` decide about all requests of stores with this URL, or nobody.
pub fn install(url: &str, fault: Option<Arc<dyn Fault>>) {
    if let Ok(mut faults) = FAULTS.lock() {
        match fault {
            Some(fault) => faults.insert(url.to_owned(), fault),
            None => faults.remove(url),
        };
    }
}

/// How long a request waits to be applied behind its sender's back, if it does.
pub(crate) async fn at(url: &str, request: Request, when: When) -> Result<Option<Duration>> {
    let fault = FAULTS.lock().ok().and_then(|faults| faults.get(url).cloned());
    match fault.map_or(Verdict::Pass, |fault| fault.at(request, when)) {
        Verdict::Pass => Ok(None),
        Verdict::Fail => Err(injected()),
        Verdict::Hang => std::future::pending().await,
        Verdict::Late(delay) => Ok(Some(delay)),
    }
}

pub(crate) fn injected() -> Error {
    Error::new(Kind::Transient, "a test made this request fail")
}
