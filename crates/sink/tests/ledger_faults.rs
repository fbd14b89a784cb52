//! The real ledger on a real folder, with every request of the store made to fail, to crash its sender, or to land late, one
//! after the other; then pairs of them, with files staged before the swap and within it. Afterwards the visible files hold the log exactly, and nothing visible ever changed.
#![cfg(feature = "kill-points")]
#![allow(clippy::unwrap_used)]

mod ledger_support;

use futures::{StreamExt, stream};
use kas3_store::{
    Request,
    faults::{self, Fault, Verdict, When},
};
use ledger_support::*;
use std::{
    collections::BTreeMap,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};
use tokio::sync::Notify;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Trouble {
    FailBefore,
    FailAfter,
    CrashBefore,
    CrashAfter,
    Late,
}

const TROUBLES: [Trouble; 5] = [Trouble::FailBefore, Trouble::FailAfter, Trouble::CrashBefore, Trouble::CrashAfter, Trouble::Late];

/// Lets the n-th request of a session get into trouble.
struct Nth {
    seen: AtomicUsize,
    n: usize,
    trouble: Trouble,
    hung: Notify,
}

impl Nth {
    fn new(n: usize, trouble: Trouble) -> Arc<Nth> {
        Arc::new(Nth { seen: AtomicUsize::new(0), n, trouble, hung: Notify::new() })
    }
}

impl Fault for Nth {
    fn at(&self, _: Request, when: When) -> Verdict {
        let wanted = match self.trouble {
            Trouble::FailBefore | Trouble::CrashBefore | Trouble::Late => When::Before,
            Trouble::FailAfter | Trouble::CrashAfter => When::After,
        };
        if when != wanted || self.seen.fetch_add(1, Ordering::SeqCst) != self.n {
            return Verdict::Pass;
        }
        match self.trouble {
            Trouble::FailBefore | Trouble::FailAfter => Verdict::Fail,
            Trouble::Late => Verdict::Late(Duration::from_millis(8)),
            Trouble::CrashBefore | Trouble::CrashAfter => {
                self.hung.notify_one();
                Verdict::Hang
            }
        }
    }
}

/// Looks again and again: what was visible once stays as it was.
#[derive(Default)]
struct Watcher(BTreeMap<String, String>);

impl Watcher {
    fn look(&mut self, folder: &Path, what: &str) {
        let now = visible(folder);
        for (path, content) in &self.0 {
            assert_eq!(now.get(path), Some(content), "{what}: `{path}` changed after it was first seen");
        }
        self.0 = now;
    }
}

/// One session under a fault: it ends, or it crashes where the fault says. Returns how many requests it made.
async fn session(way: Way, folder: &Path, log: &Arc<MemoryLog>, fault: Arc<Nth>) -> usize {
    let (of, ledger, sink) = (of(), ledger(folder, log).await, store(&url(folder)).await);
    faults::install(&url(folder), Some(fault.clone()));
    tokio::select! {
        worked = work_by(way, &ledger, log, &sink, &of) => worked.unwrap(),
        () = fault.hung.notified() => {}
    }
    faults::install(&url(folder), None);
    fault.seen.load(Ordering::SeqCst)
}

fn no_fault() -> Arc<Nth> {
    Nth::new(usize::MAX, Trouble::FailBefore)
}

async fn survives(way: Way, troubles: &[(usize, Trouble)]) {
    let what = format!("{way:?}, {troubles:?}");
    let folder = tempfile::tempdir().unwrap();
    let log = MemoryLog::new(Topic::with("a", 8));
    let mut watcher = Watcher::default();
    for (n, trouble) in troubles {
        session(way, folder.path(), &log, Nth::new(*n, *trouble)).await;
        watcher.look(folder.path(), &what);
    }
    session(way, folder.path(), &log, no_fault()).await;
    // What is still to land late has landed then.
    tokio::time::sleep(Duration::from_millis(12)).await;
    watcher.look(folder.path(), &what);
    assert_eq!(records(folder.path()), expected(&log), "{what}");
    let ledger = ledger(folder.path(), &log).await;
    let head = ledger.heads().await.unwrap().remove(0);
    assert_eq!((head.next, head.pending.len()), (8, 0), "{what}");
    let files: u64 = ledger.history(&head).await.unwrap().iter().flat_map(|entry| &entry.files).map(|file| file.records).sum();
    assert_eq!(files, 8, "{what}: the history names every record once");
}

async fn all_survive(way: Way, lists: impl Iterator<Item = Vec<(usize, Trouble)>>) {
    stream::iter(lists).for_each_concurrent(16, |troubles| async move { survives(way, &troubles).await }).await;
}

async fn requests_of_a_session(way: Way) -> usize {
    let folder = tempfile::tempdir().unwrap();
    session(way, folder.path(), &MemoryLog::new(Topic::with("a", 8)), no_fault()).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn any_request_may_fail_crash_its_sender_or_land_late() {
    for way in WAYS {
        let requests = requests_of_a_session(way).await;
        assert!(requests > 16, "the fault sees the requests: {requests}");
        all_survive(way, (0..requests).flat_map(|n| TROUBLES.map(|trouble| vec![(n, trouble)]))).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_troubles_in_a_row_are_survived() {
    let mut seed = 0x2545_f491_4f6c_dd1d_u64;
    let mut draw = |below: usize| {
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        usize::try_from(seed % below as u64).unwrap()
    };
    for way in WAYS {
        let requests = requests_of_a_session(way).await;
        let pairs: Vec<_> = (0..80).map(|_| vec![(draw(requests), TROUBLES[draw(5)]), (draw(requests), TROUBLES[draw(5)])]).collect();
        all_survive(way, pairs.into_iter()).await;
    }
}
