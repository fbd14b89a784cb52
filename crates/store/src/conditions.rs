//! Whether a store keeps the conditions on which the protocol rests, found out by racing, and whether we may do there what
//! the protocol does.
//!
//! A store that takes `If-Match` and `If-None-Match` for decoration would double records; it is refused at start. So is one
//! that answers a look at what is not there by a denial, because then nobody can tell what is there.

use crate::{Backend, Completed, Created, Error, Kind, PutOptions, Result, Store, Swapped, Version};
use bytes::Bytes;
use futures::future::join_all;
use std::future::Future;

/// Racers of a race for one object.
const RACERS: usize = 16;
/// A lost answer hides a winner: such a race is run again this often.
const RACES: usize = 3;
/// More than any of our own little objects.
const LIMIT: u64 = 1024;

const HINT: &str = "exactly-once needs a store that keeps `If-Match`, `If-None-Match: *` and conditional completion of uploads: \
    AWS S3, MinIO since 2024-11, or another one that passes this check";

/// Races creates, swaps and completions below `folder`, and cleans up.
pub(crate) async fn check(store: &Store, folder: &str) -> Result<()> {
    let folder = format!("{}/conditions-{:016x}", folder.trim_matches('/'), rand::random::<u64>());
    let result = match looks(store, &folder).await {
        Ok(()) => races(store, &folder).await,
        Err(error) => Err(error),
    };
    let cleaned = clean_up(store, &folder).await;
    result.and(cleaned)
}

/// Looks at what cannot be there: S3 denies that to those who may read, but not list.
async fn looks(store: &Store, folder: &str) -> Result<()> {
    store.get(&format!("{folder}/absent"), LIMIT).await?;
    store.list(&format!("{folder}/"), None, 1).await?;
    Ok(())
}

async fn races(store: &Store, folder: &str) -> Result<()> {
    repeat("creates of one object", |race| creates(store, format!("{folder}/create-{race}"))).await?;
    repeat("swaps of one version", |race| swaps(store, format!("{folder}/swap-{race}/head.json"))).await?;
    repeat("completions of uploads to one path", |race| completions(store, folder, format!("{folder}/complete-{race}"))).await
}

/// Runs a race until somebody won.
async fn repeat<F: Future<Output = Result<usize>>>(what: &str, race: impl Fn(usize) -> F) -> Result<()> {
    for number in 0..RACES {
        match race(number).await? {
            0 => {}
            1 => return Ok(()),
            winners => return Err(Error::new(Kind::Fatal, format!("the store let {winners} racing {what} win instead of one")).hint(HINT)),
        }
    }
    Err(Error::new(Kind::Transient, format!("of racing {what} none won")).hint("the store may be overloaded: try again"))
}

async fn creates(store: &Store, path: String) -> Result<usize> {
    let options = PutOptions::ledger("text/plain");
    let results = join_all((0..RACERS).map(|racer| store.create(&path, body(racer), &options))).await;
    let mut winners = Vec::new();
    for (racer, result) in results.into_iter().enumerate() {
        if matches!(result?, Created::Done(_)) {
            winners.push(racer);
        }
    }
    compare(store.get(&path, LIMIT).await?.map(|object| object.bytes), &winners, &path)?;
    Ok(winners.len())
}

async fn swaps(store: &Store, path: String) -> Result<usize> {
    let version = match store.create_cell(&path, body(RACERS)).await {
        Ok(Created::Done(version)) => version,
        Ok(Created::Exists) => return Ok(0),
        // sent once: its answer may be lost, and the race is run again
        Err(error) if error.kind() == Kind::Transient => return Ok(0),
        Err(error) => return Err(error),
    };
    let results = join_all((0..RACERS).map(|racer| store.swap_cell(&path, &version, body(racer)))).await;
    let mut winners = Vec::new();
    for (racer, result) in results.into_iter().enumerate() {
        match result {
            Ok(Swapped::Done(_)) => winners.push(racer),
            Ok(Swapped::Moved) => {}
            // An answer like any other that is not success: it did not win.
            Err(error) if error.kind() == Kind::Transient => {}
            Err(error) => return Err(error),
        }
    }
    compare(store.read_cell(&path, LIMIT).await?.map(|object| object.bytes), &winners, &path)?;
    if let [winner] = winners[..] {
        stale_swap(store, &path, &version, winner).await?;
    }
    Ok(winners.len())
}

async fn stale_swap(store: &Store, path: &str, version: &Version, winner: usize) -> Result<()> {
    let swapped = match store.swap_cell(path, version, body(RACERS + 1)).await {
        Ok(Swapped::Moved) => false,
        Ok(Swapped::Done(_)) => true,
        // no answer: what is there now tells
        Err(error) if error.kind() == Kind::Transient => store.read_cell(path, LIMIT).await?.is_none_or(|object| object.bytes != body(winner)),
        Err(error) => return Err(error),
    };
    if swapped { Err(Error::new(Kind::Fatal, "the store swapped an object whose version had changed").hint(HINT)) } else { Ok(()) }
}

async fn completions(store: &Store, staging: &str, path: String) -> Result<usize> {
    let options = PutOptions::ledger("text/plain");
    let mut uploads = Vec::new();
    for racer in 0..2 {
        let upload = store.begin_upload(&path, staging, &options).await?;
        let part = store.put_part(&path, &upload, 1, body(racer)).await?;
        uploads.push((upload, [part]));
    }
    let results = join_all(uploads.iter().map(|(upload, parts)| store.complete_upload(&path, upload, parts, &options))).await;
    let mut winners = Vec::new();
    let mut failed = None;
    for (racer, result) in results.into_iter().enumerate() {
        match result {
            Ok(Completed::Done) => winners.push(racer),
            Ok(Completed::Exists) => {}
            Ok(other) => failed = Some(Error::new(Kind::Fatal, format!("the store did not complete an upload: {other:?}")).hint(HINT)),
            Err(error) => failed = Some(error),
        }
    }
    let found = store.get(&path, LIMIT).await;
    for (upload, _) in &uploads {
        store.abort_upload(&path, upload).await?;
    }
    if let Some(error) = failed {
        return Err(error);
    }
    compare(found?.map(|object| object.bytes), &winners, &path)?;
    Ok(winners.len())
}

/// The bytes under the path must be the winner's: a store may say 412 and write all the same.
fn compare(found: Option<Bytes>, winners: &[usize], path: &str) -> Result<()> {
    let [winner] = winners else { return Ok(()) };
    if found.as_ref() == Some(&body(*winner)) {
        return Ok(());
    }
    Err(Error::new(Kind::Fatal, format!("the store said that one write of `{path}` won, but kept the bytes of another")).hint(HINT))
}

fn body(racer: usize) -> Bytes {
    Bytes::from(format!("racer {racer:04}"))
}

async fn clean_up(store: &Store, folder: &str) -> Result<()> {
    for upload in store.list_uploads(&format!("{folder}/"), folder).await?.unwrap_or_default() {
        store.abort_upload(&upload.path, &upload.id).await?;
    }
    for race in 0..RACES {
        store.delete(&format!("{folder}/create-{race}")).await?;
        store.delete_cell(&format!("{folder}/swap-{race}/head.json")).await?;
        store.delete(&format!("{folder}/complete-{race}")).await?;
    }
    match &store.0.backend {
        Backend::Local(local) => {
            for race in 0..RACES {
                local.remove_empty(&format!("{folder}/swap-{race}")).await?;
            }
            local.remove_empty(folder).await
        }
        Backend::S3(_) => Ok(()),
    }
}
