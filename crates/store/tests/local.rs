//! The store on a local disk: the conformance list, and what only a disk can get wrong.
#![allow(clippy::unwrap_used)]

mod conformance;

use bytes::Bytes;
use kas3_store::{Completed, Created, Kind, Observer, Outcome, PutOptions, Request, StorageSettings, Store, Swapped, Unobserved, UploadId};
use std::{
    fs,
    os::unix::fs::MetadataExt,
    path::Path,
    sync::{Arc, Mutex},
    time::{Duration, SystemTime},
};

async fn open(folder: &Path) -> Store {
    Store::open(&format!("file://{}", folder.display()), &StorageSettings::default(), Arc::new(Unobserved)).await.unwrap()
}

fn names(folder: &Path) -> Vec<String> {
    let mut names: Vec<String> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[tokio::test(flavor = "multi_thread")]
async fn a_local_disk_conforms() {
    let folder = tempfile::tempdir().unwrap();
    let (one, other) = (open(folder.path()).await, open(&folder.path().join(".").join("")).await);
    conformance::run(&one, &other).await;
    assert!(names(&folder.path().join(".kas3-tmp")).is_empty(), "hidden files are left behind");
    assert!(!folder.path().join("_kas3").exists(), "folders of the check are left behind");
}

#[tokio::test]
async fn urls_that_name_no_folder_are_refused_with_a_way_out() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("file");
    fs::write(&file, "x").unwrap();
    let open =
        |url: String| async move { Store::open(&url, &StorageSettings::default(), Arc::new(Unobserved)).await.map(|store| store.url().to_owned()) };
    let below_file = format!("file://{}/below", file.display());
    for url in
        ["file://relative/path", "file://./x", "file:///a/../b", "gs://bucket", "/tmp/x", "", &format!("file://{}", file.display()), &below_file]
    {
        let error = open(url.to_owned()).await.unwrap_err();
        assert_eq!(error.kind(), if url == below_file { Kind::Fatal } else { Kind::Config }, "{url}: {error}");
        assert!(error.way_out().is_some(), "{url}: {error}");
    }
    let relative = open("file://relative".to_owned()).await.unwrap_err();
    assert!(relative.way_out().unwrap().contains(&format!("file://{}/relative", std::env::current_dir().unwrap().display())));
    let spaced = open(format!("file://{}/new/a%20b/c d/", folder.path().display())).await.unwrap();
    assert_eq!(spaced, format!("file://{}/new/a%20b/c%20d", folder.path().display()));
    assert!(folder.path().join("new/a b/c d").is_dir());
    assert!(open(format!("file://localhost{}", folder.path().display())).await.is_ok());
}

#[tokio::test]
async fn a_cell_keeps_its_newest_two_numbers() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path()).await;
    let Created::Done(mut version) = store.create_cell("a/head.json", Bytes::from_static(b"1")).await.unwrap() else { panic!() };
    for n in 2..=5 {
        let Swapped::Done(next) = store.swap_cell("a/head.json", &version, Bytes::from(n.to_string())).await.unwrap() else { panic!() };
        version = next;
    }
    assert_eq!(names(&folder.path().join("a")), [".kas3-cell.head.json", "head.4.json", "head.5.json"]);
    assert_eq!(store.read_cell("a/head.json", 10).await.unwrap().unwrap().bytes, "5");
}

#[tokio::test]
async fn a_writer_that_slept_while_numbers_were_deleted_does_not_win() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path()).await;
    fs::create_dir(folder.path().join("a")).unwrap();
    // The sleeper saw 1; meanwhile the cell went to 7 and low numbers were deleted.
    fs::write(folder.path().join("a/head.6.json"), "6").unwrap();
    fs::write(folder.path().join("a/head.7.json"), "7").unwrap();
    let stale = kas3_store::Version("1".to_owned());
    assert_eq!(store.swap_cell("a/head.json", &stale, Bytes::from_static(b"stale")).await.unwrap(), Swapped::Moved);
    assert_eq!(store.create_cell("a/head.json", Bytes::from_static(b"stale")).await.unwrap(), Created::Exists);
    // Files that only look like numbers are none.
    for name in ["head.07.json", "head.x.json", "head..json", "head.json", "head.9.json.bak"] {
        fs::write(folder.path().join("a").join(name), "?").unwrap();
    }
    assert_eq!(store.read_cell("a/head.json", 10).await.unwrap().unwrap().bytes, "7");
}

#[tokio::test]
async fn a_completed_upload_shares_its_bytes_until_it_is_aborted() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path()).await;
    let options = PutOptions::data("text/plain");
    let upload = store.begin_upload("data/a", "_kas3/p/staged/t/00000/", &options).await.unwrap();
    let part = store.put_part("data/a", &upload, 1, Bytes::from_static(b"bytes")).await.unwrap();
    let parts = [part];
    assert_eq!(store.complete_upload("data/a", &upload, &parts, &options).await.unwrap(), Completed::Done);
    assert_eq!(store.complete_upload("data/a", &upload, &parts, &options).await.unwrap(), Completed::Done);
    let staged = folder.path().join(&upload.0);
    assert_eq!(fs::metadata(&staged).unwrap().ino(), fs::metadata(folder.path().join("data/a")).unwrap().ino());
    let listed = store.list_uploads("", "_kas3/p/staged/").await.unwrap().unwrap();
    assert_eq!(listed.iter().map(|upload| upload.path.as_str()).collect::<Vec<_>>(), ["data/a"]);
    store.abort_upload("data/a", &upload).await.unwrap();
    assert!(names(&folder.path().join("_kas3/p/staged/t/00000")).is_empty());
    assert_eq!(store.get("data/a", 10).await.unwrap().unwrap().bytes, "bytes");
}

#[tokio::test]
async fn ids_of_uploads_are_confined_to_the_folder() {
    let outer = tempfile::tempdir().unwrap();
    let folder = outer.path().join("inner");
    let store = open(&folder).await;
    fs::write(outer.path().join(".kas3-upload-0"), "outside").unwrap();
    for id in [
        "../.kas3-upload-0",
        "/etc/passwd",
        "a",
        "a/../../.kas3-upload-0",
        "",
        ".kas3-upload-../x",
        "a//.kas3-upload-0",
        "/.kas3-upload-0",
        "..",
        "../a/.kas3-upload-0",
    ] {
        let id = UploadId(id.to_owned());
        assert_eq!(store.put_part("a", &id, 1, Bytes::from_static(b"x")).await.unwrap_err().kind(), Kind::Config);
        assert_eq!(store.abort_upload("a", &id).await.unwrap_err().kind(), Kind::Config);
    }
    assert_eq!(fs::read_to_string(outer.path().join(".kas3-upload-0")).unwrap(), "outside");
}

#[tokio::test]
async fn what_a_killed_process_left_half_written_is_swept_after_an_hour() {
    let folder = tempfile::tempdir().unwrap();
    open(folder.path()).await;
    let (old, young) = (folder.path().join(".kas3-tmp/old"), folder.path().join(".kas3-tmp/young"));
    fs::write(&young, "x").unwrap();
    fs::File::create(&old).unwrap().set_modified(SystemTime::now() - Duration::from_secs(7200)).unwrap();
    let store = open(folder.path()).await;
    assert_eq!(names(&folder.path().join(".kas3-tmp")), ["young"]);
    assert!(store.list("", None, 10).await.unwrap().is_empty());
}

#[tokio::test]
async fn folders_that_vanish_while_we_write_are_made_again() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path()).await;
    let options = PutOptions::data("text/plain");
    for round in 0..3 {
        assert!(matches!(store.create("a/b/c", Bytes::from_static(b"x"), &options).await.unwrap(), Created::Done(_)), "{round}");
        fs::remove_dir_all(folder.path().join("a")).unwrap();
        assert!(store.create_cell("a/head.json", Bytes::from_static(b"x")).await.is_ok(), "{round}");
        fs::remove_dir_all(folder.path().join("a")).unwrap();
        assert!(store.begin_upload("x", "a/b", &options).await.is_ok(), "{round}");
        fs::remove_dir_all(folder.path().join("a")).unwrap();
    }
}

#[derive(Default)]
struct Seen(Mutex<Vec<(Request, Outcome, u64)>>);

impl Observer for Seen {
    fn request(&self, request: Request, outcome: Outcome, _: Duration, bytes: u64) {
        self.0.lock().unwrap().push((request, outcome, bytes));
    }
    fn retry(&self, _: Request, _: Duration) {}
}

#[tokio::test]
async fn the_observer_sees_every_request_and_how_it_ended() {
    let folder = tempfile::tempdir().unwrap();
    let seen = Arc::new(Seen::default());
    let store = Store::open(&format!("file://{}", folder.path().display()), &StorageSettings::default(), seen.clone()).await.unwrap();
    let options = PutOptions::data("text/plain");
    store.create("a", Bytes::from_static(b"12345"), &options).await.unwrap();
    store.create("a", Bytes::from_static(b"12345"), &options).await.unwrap();
    store.get("a", 10).await.unwrap();
    store.get("b", 10).await.unwrap();
    store.range("b", 0..1).await.unwrap_err();
    let expected = [
        (Request::Create, Outcome::Done, 5),
        (Request::Create, Outcome::Refused, 5),
        (Request::Get, Outcome::Done, 5),
        (Request::Get, Outcome::Refused, 0),
        (Request::Get, Outcome::Refused, 0),
    ];
    assert_eq!(*seen.0.lock().unwrap(), expected);
}
