//! What lies in folders of the store.

use crate::{error::Result, span::TopicPartition};
use futures::{StreamExt, stream};
use kas3_store::{Info, Store};
use std::collections::BTreeSet;

/// Objects of one page of a listing.
pub(super) const PAGE: usize = 1000;
/// Folders that are looked into at once.
const LOOKS_AT_ONCE: usize = 16;
/// Heads that a full page must show; one that shows fewer is mostly history, and the rest of its topic is not listed object by object.
const HEADS_OF_A_PAGE_MIN: usize = 100;

/// What lies in each of `folders`, all below `top`. Folders of partitions that are opened together lie beside one another, and one
/// page mostly shows them all.
pub(super) async fn in_folders(store: &Store, top: &str, folders: Vec<String>) -> Result<Vec<Result<Vec<Info>>>> {
    if let (Some(first), Some(last)) = (folders.iter().min(), folders.iter().max())
        && first < last
    {
        let page = store.list(top, Some(first.trim_end_matches('/')), PAGE).await?;
        let beyond = |info: &Info| info.path > *last && !info.path.starts_with(last.as_str());
        if page.len() < PAGE || page.last().is_some_and(beyond) {
            let within = |folder: &String| page.iter().filter(|info| info.path.starts_with(folder.as_str())).cloned().collect();
            return Ok(folders.iter().map(|folder| Ok(within(folder))).collect());
        }
    }
    // a loop, not a closure: of a closure's future the compiler cannot show that it may move between threads
    let mut looks = Vec::with_capacity(folders.len());
    for folder in &folders {
        looks.push(whole_folder(store, folder));
    }
    Ok(stream::iter(looks).buffered(LOOKS_AT_ONCE).collect().await)
}

/// What lies in a folder, or below any other prefix, in the order of paths.
pub(super) async fn whole_folder(store: &Store, folder: &str) -> Result<Vec<Info>> {
    let mut found: Vec<Info> = Vec::new();
    loop {
        let page = store.list(folder, found.last().map(|info| info.path.as_str()), PAGE).await?;
        let full = page.len() >= PAGE;
        found.extend(page);
        if !full {
            return Ok(found);
        }
    }
}

/// Partitions that have a folder in `top`, the ledger's, in the order of their paths; nearly all of them have a head. A page shows the
/// heads of many partitions while their history is short. Where it is long, the store is asked for the names of folders alone: so the
/// number of requests does not grow with the history.
pub(super) async fn partitions(store: &Store, top: &str) -> Result<Vec<TopicPartition>> {
    let mut heads: BTreeSet<String> = BTreeSet::new();
    let mut after: Option<String> = None;
    loop {
        let page = store.list(top, after.as_deref(), PAGE).await?;
        let known = heads.len();
        heads.extend(page.iter().filter_map(|info| Some(info.path.strip_prefix(top)?.strip_suffix("/head.json")?.to_owned())));
        let Some(last) = page.last().filter(|_| page.len() >= PAGE) else { break };
        let topic = last.path.strip_prefix(top).and_then(|rest| rest.split_once('/')).map(|(topic, _)| topic);
        after = Some(match topic.filter(|_| heads.len() - known < HEADS_OF_A_PAGE_MIN) {
            Some(topic) => {
                let folder = format!("{top}{topic}/");
                heads.extend(store.folders(&folder).await?.into_iter().map(|partition| format!("{topic}/{partition}")));
                // names of partitions are digits
                format!("{folder}~")
            }
            None => last.path.clone(),
        });
    }
    let of = |path: &String| path.split_once('/').and_then(|(topic, partition)| Some(TopicPartition::new(topic, partition.parse().ok()?)));
    Ok(heads.iter().filter_map(of).collect())
}

#[cfg(test)]
mod tests {
    use super::{PAGE, in_folders, partitions};
    use bytes::Bytes;
    use kas3_store::{Observer, Outcome, PutOptions, Request, StorageSettings, Store};
    use std::{
        sync::{
            Arc,
            atomic::{AtomicUsize, Ordering},
        },
        time::Duration,
    };

    #[derive(Default)]
    struct Listings(AtomicUsize);

    impl Observer for Listings {
        fn request(&self, request: Request, _: Outcome, _: Duration, _: u64) {
            self.0.fetch_add(usize::from(request == Request::List), Ordering::Relaxed);
        }
        fn retry(&self, _: Request, _: Duration) {}
    }

    #[tokio::test]
    async fn folders_that_lie_beside_one_another_are_looked_into_at_once_and_every_one_has_what_is_its_own() {
        let (disk, seen) = (tempfile::tempdir().unwrap(), Arc::new(Listings::default()));
        let url = format!("file://{}", disk.path().display());
        let store = Store::open(&url, &StorageSettings::default(), Arc::clone(&seen) as Arc<dyn Observer>).await.unwrap();
        let put = async |path: String| _ = store.put(&path, Bytes::from_static(b"x"), &PutOptions::data("text/plain")).await.unwrap();
        for path in ["a/0/x", "a/1/y", "a/1/z", "a/10/not-of-1", "a/3/beyond", "b/0/elsewhere"] {
            put(path.to_owned()).await;
        }
        let look = async |folders: [&str; 3]| {
            let found = in_folders(&store, "a/", folders.map(str::to_owned).to_vec()).await.unwrap();
            let paths = |infos: Vec<kas3_store::Info>| infos.into_iter().map(|info| info.path).collect::<Vec<_>>().join(" ");
            found.into_iter().map(|found| paths(found.unwrap())).collect::<Vec<_>>()
        };
        assert_eq!(look(["a/1/", "a/0/", "a/2/"]).await, ["a/1/y a/1/z", "a/0/x", ""]);
        assert_eq!(seen.0.swap(0, Ordering::Relaxed), 1);
        for number in 0..PAGE {
            put(format!("a/00/{number}")).await;
        }
        assert_eq!(look(["a/1/", "a/0/", "a/2/"]).await, ["a/1/y a/1/z", "a/0/x", ""], "one page does not show them all");
        assert_eq!(seen.0.swap(0, Ordering::Relaxed), 4);
        assert_eq!(in_folders(&store, "a/", vec!["a/00/".to_owned()]).await.unwrap().remove(0).unwrap().len(), PAGE);
    }

    #[tokio::test]
    async fn a_history_of_any_length_costs_no_listings() {
        let (disk, seen) = (tempfile::tempdir().unwrap(), Arc::new(Listings::default()));
        let url = format!("file://{}", disk.path().display());
        let store = Store::open(&url, &StorageSettings::default(), Arc::clone(&seen) as Arc<dyn Observer>).await.unwrap();
        let mut expected = Vec::new();
        // names that sort before and behind the `/` of one another
        for (topic, count) in [("a", 3), ("a-b", 2), ("a.b", 1), ("b", 2)] {
            for partition in 0..count {
                store.create_cell(&format!("top/{topic}/{partition:05}/head.json"), Bytes::from_static(b"{}")).await.unwrap();
                expected.push(format!("{topic}/{partition:05}"));
            }
        }
        expected.sort();
        let look = async || {
            seen.0.store(0, Ordering::Relaxed);
            let found = partitions(&store, "top/").await.unwrap();
            let found: Vec<String> = found.iter().map(|of| format!("{}/{:05}", of.topic, of.partition)).collect();
            (found, seen.0.load(Ordering::Relaxed))
        };
        assert_eq!(look().await, (expected.clone(), 1), "all on one page");
        let mut listings = Vec::new();
        for segments in [PAGE, 3 * PAGE] {
            for folder in ["a/00001", "b/00000"] {
                let folder = disk.path().join("top").join(folder);
                (0..segments).for_each(|n| std::fs::write(folder.join(format!("{n:020}-x.jsonl")), "").unwrap());
            }
            let (found, asked) = look().await;
            assert_eq!(found, expected, "{segments} segments");
            listings.push(asked);
        }
        assert!(listings[0] == listings[1] && listings[0] <= 5, "{listings:?}");
    }
}
