//! What goes over the wire to S3, and what comes of each answer, against a stand-in that records and misbehaves on demand.

use crate::stand_in::{Asked, Reply, StandIn, answer, error, well};
use bytes::Bytes;
use kas3_store::{
    Checksum, Completed, Created, Encryption, Kind, Observer, Outcome, PART_BYTES, PartId, PutOptions, Request, Result, Secret, StorageSettings,
    Store, Swapped, UploadId, Version,
};
use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

#[derive(Default)]
struct Seen {
    outcomes: Mutex<Vec<(Request, Outcome, u64)>>,
    retries: AtomicUsize,
}

impl Observer for Seen {
    fn request(&self, request: Request, outcome: Outcome, _: Duration, bytes: u64) {
        self.outcomes.lock().unwrap().push((request, outcome, bytes));
    }
    fn retry(&self, _: Request, _: Duration) {
        self.retries.fetch_add(1, Ordering::SeqCst);
    }
}

impl Seen {
    fn outcomes(&self) -> Vec<Outcome> {
        self.outcomes.lock().unwrap().iter().map(|(_, outcome, _)| *outcome).collect()
    }
}

fn settings(server: &StandIn) -> StorageSettings {
    StorageSettings {
        endpoint: Some(server.url()),
        region: Some("eu-north-1".to_owned()),
        allow_http: true,
        access_key_id: Some(Secret::new("AKIDTEST")),
        secret_access_key: Some(Secret::new("secret")),
        ..StorageSettings::default()
    }
}

async fn open(settings: &StorageSettings) -> (Store, Arc<Seen>) {
    let seen = Arc::new(Seen::default());
    (Store::open("s3://lake/p", settings, seen.clone()).await.unwrap(), seen)
}

fn data() -> PutOptions {
    PutOptions::data("application/x-ndjson")
}

fn x() -> Bytes {
    Bytes::from_static(b"x")
}

/// An upload with two parts, completed.
async fn upload(store: &Store, options: &PutOptions) -> Completed {
    let upload = store.begin_upload("up", "staged", options).await.unwrap();
    let first = store.put_part("up", &upload, 1, Bytes::from(vec![1; PART_BYTES])).await.unwrap();
    let last = store.put_part("up", &upload, 2, x()).await.unwrap();
    store.complete_upload("up", &upload, &[first, last], options).await.unwrap()
}

/// The parts of an upload that was begun elsewhere.
fn elsewhere() -> (UploadId, [PartId; 1]) {
    (UploadId("u".to_owned()), [PartId(r#"{"n":1,"b":1,"e":"etag"}"#.to_owned())])
}

async fn complete(store: &Store) -> Result<Completed> {
    let (upload, parts) = elsewhere();
    store.complete_upload("up", &upload, &parts, &data()).await
}

fn no_trailers(asked: &Asked) {
    for name in ["x-amz-trailer", "x-amz-decoded-content-length", "content-encoding"] {
        assert_eq!(asked.header(name), None, "{asked:?}");
    }
    if asked.method == "PUT" {
        let hash = asked.header("x-amz-content-sha256").unwrap();
        assert_eq!(hash.len(), 64, "the body is signed: {hash}");
    }
}

#[tokio::test]
async fn encryption_class_acl_tags_and_checksums_stand_on_the_requests_that_they_are_for() {
    let server = StandIn::start(|asked, _| well(asked)).await;
    let settings = StorageSettings {
        sse: Some(Encryption::AwsKms),
        sse_kms_key_id: Some("arn:aws:kms:eu-north-1:1:key/k".to_owned()),
        bucket_key: Some(true),
        storage_class: Some("STANDARD_IA".to_owned()),
        acl: Some("bucket-owner-full-control".to_owned()),
        tags: BTreeMap::from([("team".to_owned(), "a&b c".to_owned()), ("tier".to_owned(), "1".to_owned())]),
        checksum: Some(Checksum::Crc32c),
        expected_bucket_owner: Some("123456789012".to_owned()),
        ..settings(&server)
    };
    let (store, _) = open(&settings).await;
    let options = PutOptions { metadata: vec![("kas3-span".into(), "7f".to_owned())], ..data() };
    store.create("data", x(), &options).await.unwrap();
    assert_eq!(upload(&store, &options).await, Completed::Done);
    store.create_cell("head.json", x()).await.unwrap();
    store.swap_cell("head.json", &Version("etag".to_owned()), x()).await.unwrap();
    store.get("data", 10).await.unwrap();
    let asked = server.asked();
    assert_eq!(asked.len(), 8);
    for asked in &asked {
        no_trailers(asked);
        assert_eq!(asked.header("x-amz-expected-bucket-owner"), Some("123456789012"));
    }
    let [created, begun, first, last, completed, cell, swap, _] = &asked[..] else { unreachable!() };
    for asked in [created, begun] {
        assert_eq!(asked.header("x-amz-server-side-encryption"), Some("aws:kms"));
        assert_eq!(asked.header("x-amz-server-side-encryption-aws-kms-key-id"), Some("arn:aws:kms:eu-north-1:1:key/k"));
        assert_eq!(asked.header("x-amz-server-side-encryption-bucket-key-enabled"), Some("true"));
        assert_eq!(asked.header("x-amz-storage-class"), Some("STANDARD_IA"));
        assert_eq!(asked.header("x-amz-acl"), Some("bucket-owner-full-control"));
        assert_eq!(asked.header("x-amz-tagging"), Some("team=a%26b%20c&tier=1"));
        assert_eq!(asked.header("x-amz-meta-kas3-span"), Some("7f"));
        assert_eq!(asked.header("content-type"), Some("application/x-ndjson"));
    }
    for asked in [cell, swap] {
        assert_eq!(asked.header("x-amz-server-side-encryption"), Some("aws:kms"));
        assert!(["x-amz-storage-class", "x-amz-acl", "x-amz-tagging"].iter().all(|name| asked.header(name).is_none()), "{asked:?}");
    }
    assert_eq!(begun.header("x-amz-checksum-algorithm"), Some("CRC32C"));
    for asked in [created, first, last, cell, swap] {
        let expected = if asked.body.len() == 1 { "qTxfkw==" } else { asked.header("x-amz-checksum-crc32c").unwrap() };
        assert_eq!(asked.header("x-amz-checksum-crc32c"), Some(expected));
    }
    let list = completed.text();
    for part in [first, last] {
        assert!(list.contains(&format!("<ChecksumCRC32C>{}</ChecksumCRC32C>", part.header("x-amz-checksum-crc32c").unwrap())), "{list}");
    }
    assert!(list.contains("<PartNumber>1</PartNumber>") && list.contains("<PartNumber>2</PartNumber>"), "{list}");
    assert_eq!([created, completed, cell].map(|asked| asked.header("if-none-match")), [Some("*"); 3]);
    assert_eq!((swap.header("if-match"), swap.header("if-none-match")), (Some("\"etag\""), None));
}

#[tokio::test]
async fn nothing_is_sent_that_was_not_asked_for() {
    let server = StandIn::start(|asked, _| well(asked)).await;
    let (store, _) = open(&settings(&server)).await;
    store.create("data", x(), &data()).await.unwrap();
    upload(&store, &data()).await;
    for asked in server.asked() {
        no_trailers(&asked);
        let known = ["x-amz-content-sha256", "x-amz-date", "x-amz-user-agent"];
        let unasked: Vec<&str> = asked.header_names().filter(|name| name.starts_with("x-amz-") && !known.contains(name)).collect();
        assert!(unasked.is_empty(), "{unasked:?} in {asked:?}");
    }
    let gzip = PutOptions { content_encoding: Some("gzip"), ..data() };
    store.create("data", x(), &gzip).await.unwrap();
    store.begin_upload("up", "staged", &gzip).await.unwrap();
    assert!(server.asked().iter().rev().take(2).all(|asked| asked.header("content-encoding") == Some("gzip")));
}

#[tokio::test]
async fn each_checksum_has_its_header() {
    let server = StandIn::start(|asked, _| well(asked)).await;
    for (checksum, name) in [
        (Checksum::Crc32, "x-amz-checksum-crc32"),
        (Checksum::Crc32c, "x-amz-checksum-crc32c"),
        (Checksum::Crc64nvme, "x-amz-checksum-crc64nvme"),
        (Checksum::Sha256, "x-amz-checksum-sha256"),
    ] {
        let (store, _) = open(&StorageSettings { checksum: Some(checksum), ..settings(&server) }).await;
        store.create("a", x(), &data()).await.unwrap();
        store.put_part("a", &UploadId("u".to_owned()), 1, x()).await.unwrap();
        for asked in server.asked().iter().rev().take(2) {
            no_trailers(asked);
            let sums: Vec<&str> = asked.header_names().filter(|name| name.starts_with("x-amz-checksum-")).collect();
            assert_eq!(sums, [name]);
        }
    }
}

#[tokio::test]
async fn a_burst_of_slow_down_is_ridden_out_and_counted() {
    let server = StandIn::start(|asked, number| if number < 3 { error(503, "SlowDown", "Reduce your request rate.") } else { well(asked) }).await;
    let (store, seen) = open(&settings(&server)).await;
    assert!(matches!(store.create("a", x(), &data()).await.unwrap(), Created::Done(_)));
    assert_eq!(seen.outcomes(), [Outcome::Throttled, Outcome::Throttled, Outcome::Throttled, Outcome::Done]);
    assert_eq!(seen.retries.load(Ordering::SeqCst), 3);
}

#[tokio::test]
async fn a_store_that_asks_to_wait_is_not_asked_before() {
    let busy = |number| number < 1;
    let server =
        StandIn::start(move |asked, number| if busy(number) { error(503, "SlowDown", "Wait.").with("Retry-After", "2") } else { well(asked) });
    let server = server.await;
    let (store, _) = open(&settings(&server)).await;
    let started = Instant::now();
    assert!(matches!(store.create("a", x(), &data()).await.unwrap(), Created::Done(_)));
    assert!(started.elapsed() >= Duration::from_secs(2), "{:?}", started.elapsed());
}

#[tokio::test]
async fn retries_end_and_what_could_echo_is_sent_once() {
    let server = StandIn::start(|_, _| error(503, "SlowDown", "Reduce your request rate.")).await;
    let (store, seen) = open(&StorageSettings { max_attempts: Some(3), ..settings(&server) }).await;
    let failed = store.create("a", x(), &data()).await.unwrap_err();
    assert_eq!((failed.kind(), server.asked().len()), (Kind::Transient, 3), "{failed:?}");
    assert!(failed.to_string().contains("3 attempts") && failed.to_string().contains("SlowDown"), "{failed}");
    assert_eq!(seen.retries.load(Ordering::SeqCst), 2);
    assert_eq!(store.swap_cell("h", &Version("e".to_owned()), x()).await.unwrap_err().kind(), Kind::Transient);
    assert_eq!(store.create_cell("h", x()).await.unwrap_err().kind(), Kind::Transient);
    assert_eq!(store.replace("h", None, x(), &data()).await.unwrap_err().kind(), Kind::Transient);
    assert_eq!(server.asked().len(), 6);
}

#[tokio::test]
async fn an_answer_of_200_with_an_error_inside_is_an_error() {
    let inside = || error(200, "InternalError", "We encountered an internal error. Please try again.");
    let server = StandIn::start(move |asked, number| if number == 0 { inside() } else { well(asked) }).await;
    let (store, seen) = open(&settings(&server)).await;
    assert_eq!(complete(&store).await.unwrap(), Completed::Done);
    assert_eq!(seen.outcomes(), [Outcome::Failed, Outcome::Done]);
    let server = StandIn::start(move |_, _| inside()).await;
    let (store, _) = open(&StorageSettings { max_attempts: Some(2), ..settings(&server) }).await;
    assert_eq!(complete(&store).await.unwrap_err().kind(), Kind::Transient);
    let server = StandIn::start(|_, _| error(200, "PreconditionFailed", "At least one of the preconditions did not hold")).await;
    let (store, _) = open(&settings(&server)).await;
    assert_eq!(complete(&store).await.unwrap(), Completed::Exists);
}

#[tokio::test]
async fn connections_that_are_cut_are_tried_again() {
    let server = StandIn::start(|asked, number| match number {
        0 => Reply::CutShort(b"half".to_vec()),
        2 | 4 => Reply::Cut,
        _ => well(asked),
    })
    .await;
    let (store, seen) = open(&settings(&server)).await;
    assert_eq!(store.get("a", 1000).await.unwrap().unwrap().bytes, "body");
    assert!(matches!(store.create("a", x(), &data()).await.unwrap(), Created::Done(_)));
    assert_eq!(store.put_part("a", &UploadId("u".to_owned()), 1, x()).await.unwrap().0, r#"{"n":1,"b":1,"e":"etag"}"#);
    assert_eq!(seen.outcomes(), [Outcome::Failed, Outcome::Done, Outcome::Failed, Outcome::Done, Outcome::Failed, Outcome::Done]);
}

#[tokio::test]
async fn a_swap_without_an_answer_is_a_lost_answer() {
    let server = StandIn::start(|_, _| Reply::Cut).await;
    let (store, _) = open(&settings(&server)).await;
    assert_eq!(store.swap_cell("h", &Version("e".to_owned()), x()).await.unwrap_err().kind(), Kind::Transient);
    assert_eq!(server.asked().len(), 1);
}

#[tokio::test]
async fn conflicts_are_tried_again_until_an_upload_counts_as_refused() {
    let conflict = || error(409, "ConditionalRequestConflict", "The conditional request cannot succeed due to a conflicting operation");
    let server = StandIn::start(move |asked, number| if number < 2 { conflict() } else { well(asked) }).await;
    let (store, _) = open(&settings(&server)).await;
    assert!(matches!(store.create("a", x(), &data()).await.unwrap(), Created::Done(_)));
    assert_eq!(server.asked().len(), 3);
    let server = StandIn::start(move |_, _| conflict()).await;
    let (store, _) = open(&settings(&server)).await;
    let completed = complete(&store).await.unwrap();
    assert!(matches!(&completed, Completed::Refused(reason) if reason.contains("409")), "{completed:?}");
    assert_eq!(store.swap_cell("h", &Version("e".to_owned()), x()).await.unwrap_err().kind(), Kind::Transient);
}

#[tokio::test]
async fn every_end_of_an_upload_is_told_apart() {
    type Expected = fn(&Completed) -> bool;
    let ends: [(Reply, u16, Expected); 6] = [
        (error(412, "PreconditionFailed", "x"), 200, |end| *end == Completed::Exists),
        (error(404, "NoSuchUpload", "x"), 200, |end| *end == Completed::Exists),
        (error(404, "NoSuchUpload", "x"), 404, |end| *end == Completed::Gone),
        (
            error(400, "InvalidPart", "One or more parts could not be found"),
            200,
            |end| matches!(end, Completed::Refused(why) if why.contains("InvalidPart")),
        ),
        (error(400, "EntityTooSmall", "x"), 200, |end| matches!(end, Completed::Refused(_))),
        (error(400, "InvalidPartOrder", "x"), 200, |end| matches!(end, Completed::Refused(_))),
    ];
    for (told, head, expected) in ends {
        let server = StandIn::start(move |asked, _| if asked.method == "HEAD" { answer(head, "") } else { told.clone() }).await;
        let (store, _) = open(&settings(&server)).await;
        let end = complete(&store).await.unwrap();
        assert!(expected(&end), "{end:?}");
    }
    let server = StandIn::start(|_, _| error(404, "NoSuchUpload", "x")).await;
    let (store, _) = open(&settings(&server)).await;
    let (upload, _) = elsewhere();
    assert_eq!(store.put_part("up", &upload, 1, x()).await.unwrap_err().kind(), Kind::Missing);
    store.abort_upload("up", &upload).await.unwrap();
}

#[tokio::test]
async fn every_refusal_has_its_kind_and_names_the_way_out() {
    let wrong_region = "The authorization header is malformed; the region 'eu-north-1' is wrong; expecting 'eu-west-1'";
    let locked = "Content-MD5 OR x-amz-checksum- HTTP header is required for Put Object requests with Object Lock parameters";
    let cases: [(Reply, Kind, &str); 15] = [
        (error(404, "NoSuchBucket", "x"), Kind::Missing, "`lake`"),
        (error(403, "AccessDenied", "x"), Kind::Denied, "`s3:PutObject`"),
        (error(403, "InvalidAccessKeyId", "x"), Kind::Denied, "access key"),
        (error(403, "SignatureDoesNotMatch", "x"), Kind::Denied, "secret"),
        (error(400, "ExpiredToken", "x"), Kind::Transient, "`session_token`"),
        (error(403, "RequestTimeTooSkewed", "x"), Kind::Transient, "clock"),
        (error(301, "PermanentRedirect", "x").with("x-amz-bucket-region", "eu-west-1"), Kind::Config, "`region: eu-west-1`"),
        (error(400, "AuthorizationHeaderMalformed", wrong_region), Kind::Config, "`region: eu-west-1`"),
        (error(400, "AccessControlListNotSupported", "x"), Kind::Config, "`acl`"),
        (error(400, "InvalidRequest", locked), Kind::Config, "`checksum: crc32c`"),
        (error(501, "NotImplemented", "x"), Kind::Fatal, "lacks"),
        (error(400, "InvalidStorageClass", "x"), Kind::Config, ""),
        (error(400, "EntityTooLarge", "x"), Kind::Fatal, ""),
        (error(500, "InternalError", "x"), Kind::Transient, ""),
        (answer(502, "<html>gateway</html>"), Kind::Transient, ""),
    ];
    for (told, kind, hint) in cases {
        let shown = format!("{told:?}");
        let server = StandIn::start(move |_, _| told.clone()).await;
        let (store, _) = open(&StorageSettings { max_attempts: Some(2), ..settings(&server) }).await;
        let failed = store.create("a", x(), &data()).await.unwrap_err();
        assert_eq!(failed.kind(), kind, "{shown}: {failed:?}");
        assert!(failed.way_out().unwrap_or_default().contains(hint), "{shown}: {:?}", failed.way_out());
        assert!(failed.to_string().contains("`s3://lake/p/a`"), "{failed}");
    }
    let server = StandIn::start(|_, _| answer(403, "")).await;
    let (store, _) = open(&settings(&server)).await;
    let failed = store.info("a").await.unwrap_err();
    assert_eq!(failed.kind(), Kind::Denied);
    assert!(["`s3:GetObject`", "`s3:ListBucket`"].iter().all(|action| failed.way_out().unwrap().contains(action)));
}

#[tokio::test]
async fn a_look_with_expired_credentials_is_tried_again_though_its_answer_says_nothing() {
    let server = StandIn::start(|asked, number| if number == 0 { answer(400, "") } else { well(asked) }).await;
    let (store, _) = open(&settings(&server)).await;
    assert_eq!(store.info("a").await.unwrap().unwrap().version, Version("etag".to_owned()));
}

#[tokio::test]
async fn an_endpoint_that_is_down_or_plain_is_named() {
    let closed = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let down = StorageSettings {
        endpoint: Some(format!("http://{closed}")),
        region: Some("x".to_owned()),
        allow_http: true,
        access_key_id: Some(Secret::new("k")),
        secret_access_key: Some(Secret::new("s")),
        max_attempts: Some(2),
        ..StorageSettings::default()
    };
    let failed = open(&down).await.0.get("a", 1).await.unwrap_err();
    assert!(failed.kind() == Kind::Transient && failed.to_string().contains(&closed.to_string()), "{failed:?}");
    let observer = || Arc::new(Seen::default());
    let plain = Store::open("s3://lake", &StorageSettings { allow_http: false, ..down.clone() }, observer()).await.err().unwrap();
    assert_eq!(plain.kind(), Kind::Config);
    assert!(["`endpoint`", "`allow_http`"].iter().all(|key| plain.to_string().contains(key)), "{plain}");
    for endpoint in ["localhost:9000", "ftp://x", "http://", "https://user:hunter2@host"] {
        let wrong =
            Store::open("s3://lake", &StorageSettings { endpoint: Some(endpoint.to_owned()), ..down.clone() }, observer()).await.err().unwrap();
        assert!(wrong.kind() == Kind::Config && wrong.way_out().is_some() && !wrong.to_string().contains("hunter2"), "{endpoint}: {wrong}");
    }
}

#[tokio::test]
async fn a_silent_store_is_given_up_at_the_deadline_and_at_the_time_out() {
    let server = StandIn::start(|_, _| Reply::Silence).await;
    let (store, _) = open(&settings(&server)).await;
    let started = Instant::now();
    let deadline = Some(tokio::time::Instant::now() + Duration::from_millis(300));
    let late = store.create("a", x(), &PutOptions { deadline, ..data() }).await.unwrap_err();
    assert_eq!(late.kind(), Kind::Transient);
    let (upload, parts) = elsewhere();
    let late = store.complete_upload("a", &upload, &parts, &PutOptions { deadline, ..data() }).await.unwrap_err();
    assert_eq!(late.kind(), Kind::Transient);
    assert!(started.elapsed() < Duration::from_secs(5), "{:?}", started.elapsed());
    let (store, seen) = open(&StorageSettings { read_timeout_ms: Some(200), max_attempts: Some(2), ..settings(&server) }).await;
    let slow = store.get("a", 1).await.unwrap_err();
    assert_eq!((slow.kind(), seen.outcomes().len()), (Kind::Transient, 2), "{slow:?}");
    assert!(started.elapsed() < Duration::from_secs(10), "{:?}", started.elapsed());
}

#[tokio::test(flavor = "multi_thread")]
async fn no_more_parts_are_in_flight_than_there_are_permits() {
    const WAIT: Duration = Duration::from_millis(60);
    let server = StandIn::start(|asked, _| Reply::Later(WAIT, Box::new(well(asked)))).await;
    let (store, _) = open(&StorageSettings { part_permits: Some(2), ..settings(&server) }).await;
    let clone = store.clone();
    let upload = UploadId("u".to_owned());
    let started = Instant::now();
    let parts = (1..=10).map(|number| if number % 2 == 0 { &store } else { &clone }.put_part("a", &upload, number, x()));
    assert!(futures::future::join_all(parts).await.iter().all(Result::is_ok));
    assert!(started.elapsed() >= 5 * WAIT, "ten parts by two take five rounds: {:?}", started.elapsed());
}

#[tokio::test]
async fn limits_hold_before_the_body_is_read_and_a_range_past_the_end_is_empty() {
    let server = StandIn::start(|asked, _| match asked.header("range") {
        Some(_) if asked.target.contains("whole") => answer(200, "0123456789"),
        Some(_) => error(416, "InvalidRange", "The requested range is not satisfiable"),
        None => Reply::CutShort(vec![b'x'; 1 << 20]),
    })
    .await;
    let (store, seen) = open(&settings(&server)).await;
    let large = store.get("a", 1 << 20).await.unwrap_err();
    assert_eq!((large.kind(), seen.outcomes().len()), (Kind::Fatal, 1), "{large:?}");
    assert_eq!(store.range("a", 10..20).await.unwrap(), "");
    assert_eq!(store.range("whole", 2..4).await.unwrap_err().kind(), Kind::Fatal);
}

#[tokio::test]
async fn a_store_that_ignores_conditions_is_found_out() {
    for ignored in ["if-none-match", "if-match"] {
        let objects: Mutex<BTreeMap<String, (String, Vec<u8>)>> = Mutex::default();
        let server = StandIn::start(move |asked, number| careless(&objects, asked, number, ignored)).await;
        let (store, _) = open(&settings(&server)).await;
        let found = store.check_conditions("_kas3/check").await.unwrap_err();
        assert!(found.kind() == Kind::Fatal && found.way_out().unwrap().contains("If-None-Match"), "{found:?}");
        let expected = if ignored == "if-match" { "swaps" } else { "creates" };
        assert!(found.to_string().contains(expected), "{found}");
    }
}

#[tokio::test]
async fn a_store_that_says_forbidden_of_what_is_not_there_is_refused_at_the_start() {
    for denied in ["/absent", "list-type"] {
        let server = StandIn::start(move |asked, _| if asked.target.contains(denied) { error(403, "AccessDenied", "x") } else { well(asked) }).await;
        let (store, _) = open(&settings(&server)).await;
        let found = store.check_conditions("_kas3/check").await.unwrap_err();
        assert!(found.kind() == Kind::Denied && found.way_out().unwrap().contains("`s3:ListBucket`"), "{found:?}");
        assert!(server.asked().iter().all(|asked| asked.method != "PUT"), "nothing was written");
    }
}

/// A store of plain objects that does not look at one of the conditions.
fn careless(objects: &Mutex<BTreeMap<String, (String, Vec<u8>)>>, asked: &Asked, number: usize, ignored: &str) -> Reply {
    let mut objects = objects.lock().unwrap();
    let key = asked.target.split('?').next().unwrap().to_owned();
    let there = objects.get(&key).cloned();
    let condition = |name: &str| asked.header(name).filter(|_| name != ignored).map(str::to_owned);
    match asked.method.as_str() {
        "PUT" => {
            let exists = condition("if-none-match").is_some() && there.is_some();
            let moved = condition("if-match").is_some_and(|etag| there.as_ref().map(|(etag, _)| etag) != Some(&etag));
            if exists || moved {
                return error(412, "PreconditionFailed", "x");
            }
            let etag = format!("\"{number}\"");
            objects.insert(key, (etag.clone(), asked.body.clone()));
            answer(200, "").with("ETag", &etag)
        }
        "GET" if asked.target.contains("list-type") => answer(200, "<ListBucketResult></ListBucketResult>"),
        "GET" if asked.target.contains("uploads") => answer(200, "<ListMultipartUploadsResult></ListMultipartUploadsResult>"),
        "GET" => match there {
            Some((etag, body)) => Reply::Answer { status: 200, headers: vec![("ETag".to_owned(), etag)], body },
            None => error(404, "NoSuchKey", "x"),
        },
        "DELETE" => {
            objects.remove(&key);
            answer(204, "")
        }
        _ => well(asked),
    }
}

#[tokio::test]
async fn a_store_behind_an_authority_of_its_own_is_trusted_by_file_only() {
    let (server, pem) = StandIn::start_tls(|asked, _| well(asked)).await;
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("ca.pem");
    std::fs::write(&file, pem).unwrap();
    let port = server.address.rsplit_once(':').unwrap().1;
    let settings = StorageSettings { endpoint: Some(format!("https://localhost:{port}")), allow_http: false, ..settings(&server) };
    let trusting = StorageSettings { ca_file: Some(file.display().to_string()), ..settings.clone() };
    let (store, _) = open(&trusting).await;
    assert!(matches!(store.create("a", x(), &data()).await.unwrap(), Created::Done(_)));
    let (store, seen) = open(&settings).await;
    let distrusted = store.create("a", x(), &data()).await.unwrap_err();
    assert_eq!((distrusted.kind(), seen.outcomes().len()), (Kind::Config, 1), "{distrusted:?}");
    assert!(distrusted.way_out().unwrap().contains("`ca_file`"));
    for (name, text) in [("empty.pem", ""), ("broken.pem", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n")] {
        let file = folder.path().join(name);
        std::fs::write(&file, text).unwrap();
        let wrong = StorageSettings { ca_file: Some(file.display().to_string()), ..settings.clone() };
        let wrong = Store::open("s3://lake", &wrong, Arc::new(Seen::default())).await.err().unwrap();
        assert!(wrong.kind() == Kind::Config && wrong.to_string().contains(name), "{wrong}");
    }
}

#[tokio::test]
async fn requests_go_through_the_proxy_and_the_bucket_into_the_host_name_when_asked() {
    let proxy = StandIn::start(|asked, _| well(asked)).await;
    let settings = StorageSettings {
        endpoint: Some("http://store.invalid:9000".to_owned()),
        proxy: Some(Secret::new(format!("http://user:hunter2@{}", proxy.address))),
        path_style: Some(false),
        ..settings(&proxy)
    };
    let (store, _) = open(&settings).await;
    store.create("a", x(), &data()).await.unwrap();
    let (store, _) = open(&StorageSettings { path_style: None, ..settings.clone() }).await;
    store.create("a", x(), &data()).await.unwrap();
    let targets: Vec<String> = proxy.asked().into_iter().map(|asked| asked.target).collect();
    assert!(targets[0].starts_with("http://lake.store.invalid:9000/p/a"), "{targets:?}");
    assert!(targets[1].starts_with("http://store.invalid:9000/lake/p/a"), "{targets:?}");
    for endpoint in ["http://store.invalid/s3", "http://store.invalid/s3/"] {
        let (store, _) = open(&StorageSettings { endpoint: Some(endpoint.to_owned()), path_style: None, ..settings.clone() }).await;
        store.create("a", x(), &data()).await.unwrap();
        store.begin_upload("a", "staged", &data()).await.unwrap();
        let targets: Vec<String> = proxy.asked().into_iter().rev().take(2).map(|asked| asked.target).collect();
        assert!(targets.iter().all(|target| target.starts_with("http://store.invalid/s3/lake/p/a")), "{targets:?}");
    }
    let wrong = StorageSettings { proxy: Some(Secret::new("hunter2 not a url")), ..settings };
    let wrong = Store::open("s3://lake", &wrong, Arc::new(Seen::default())).await.err().unwrap();
    assert!(wrong.kind() == Kind::Config && !format!("{wrong:?}").contains("hunter2"), "{wrong:?}");
}

#[tokio::test]
async fn listings_go_on_after_keys_that_are_no_paths_of_ours() {
    let page = |keys: &[&str], truncated: bool| {
        let contents: String = keys.iter().map(|key| format!("<Contents><Key>{key}</Key><Size>1</Size><ETag>\"e\"</ETag></Contents>")).collect();
        answer(200, &format!("<ListBucketResult><IsTruncated>{truncated}</IsTruncated><EncodingType>url</EncodingType>{contents}</ListBucketResult>"))
    };
    let server =
        StandIn::start(
            move |asked, _| {
                if asked.target.contains("start-after") { page(&["p/c%2Bd+e"], false) } else { page(&["p/a", "p/folder/", "p//x"], true) }
            },
        )
        .await;
    let (store, _) = open(&settings(&server)).await;
    let paths: Vec<String> = store.list("", None, 10).await.unwrap().into_iter().map(|info| info.path).collect();
    assert_eq!(paths, ["a", "c+d e"]);
    assert!(server.asked()[1].target.contains("start-after=p%2F%2Fx"), "{:?}", server.asked()[1].target);
}

#[tokio::test]
async fn stores_that_cannot_list_uploads_or_rules_say_none() {
    let server = StandIn::start(|_, _| error(501, "NotImplemented", "x")).await;
    let (store, _) = open(&settings(&server)).await;
    assert!(store.list_uploads("", "").await.unwrap().is_none());
    assert!(store.bucket_rules().await.unwrap().is_none());
    let server = StandIn::start(|_, _| error(403, "AccessDenied", "x")).await;
    let (store, _) = open(&settings(&server)).await;
    assert!(store.bucket_rules().await.unwrap().is_none());
    assert!(store.list_uploads("", "").await.unwrap_err().way_out().unwrap().contains("`s3:ListBucketMultipartUploads`"));
}

#[tokio::test]
async fn a_wrong_clock_is_noticed_and_allowed_for() {
    use aws_smithy_types::date_time::{DateTime, Format};
    let ahead = || DateTime::from(std::time::SystemTime::now() + Duration::from_secs(1200));
    let server = StandIn::start(move |asked, _| {
        let signed = asked.header("x-amz-date").unwrap();
        let hour = ahead().fmt(Format::DateTime).unwrap().replace(['-', ':'], "");
        // As S3 does, to the minute at least: twenty minutes off are refused.
        let fits = signed[..12] >= hour[..12] || ahead().secs() % 60 < 2;
        let told = if fits {
            well(asked)
        } else {
            error(403, "RequestTimeTooSkewed", "The difference between the request time and the current time is too large.")
        };
        told.with("Date", &ahead().fmt(Format::HttpDate).unwrap())
    })
    .await;
    let (store, seen) = open(&settings(&server)).await;
    assert!(matches!(store.create("a", x(), &data()).await.unwrap(), Created::Done(_)));
    assert!(seen.outcomes().len() <= 2, "{:?}", seen.outcomes());
    // Even what is sent once gets through from then on.
    assert!(matches!(store.swap_cell("h", &Version("e".to_owned()), x()).await.unwrap(), Swapped::Done(_)));
}

#[tokio::test]
async fn a_swap_of_a_cell_that_vanished_has_moved() {
    let server = StandIn::start(|_, _| error(404, "NoSuchKey", "x")).await;
    let (store, _) = open(&settings(&server)).await;
    assert_eq!(store.swap_cell("h", &Version("e".to_owned()), x()).await.unwrap(), Swapped::Moved);
    assert!(store.read_cell("h", 1).await.unwrap().is_none());
}

async fn collect(reading: &mut kas3_store::Reading) -> (String, Option<kas3_store::Error>) {
    let mut read = Vec::new();
    loop {
        match reading.next().await {
            Ok(Some(piece)) => read.extend_from_slice(&piece),
            Ok(None) => return (String::from_utf8(read).unwrap(), None),
            Err(error) => return (String::from_utf8(read).unwrap(), Some(error)),
        }
    }
}

#[tokio::test]
async fn a_reading_that_breaks_off_says_so_and_goes_on_where_it_ended() {
    let server = StandIn::start(|asked, _| match asked.header("range") {
        None => Reply::CutShort(b"half".to_vec()),
        Some(_) => answer(206, " and half").with("ETag", "\"etag\"").with("Content-Range", "bytes 4-12/13"),
    })
    .await;
    let (store, seen) = open(&settings(&server)).await;
    let mut reading = store.read("a", 0).await.unwrap().unwrap();
    let (read, error) = collect(&mut reading).await;
    assert_eq!((read.as_str(), error.unwrap().kind()), ("half", Kind::Transient));
    let mut reading = store.read_version("a", 4, &reading.info.version).await.unwrap().unwrap();
    assert_eq!((reading.info.bytes, collect(&mut reading).await.0.as_str()), (13, " and half"));
    let asked = &server.asked()[1];
    assert_eq!((asked.header("range"), asked.header("if-match")), (Some("bytes=4-"), Some("\"etag\"")));
    assert_eq!(seen.outcomes(), [Outcome::Done; 2], "nothing is tried again inside");
}

#[tokio::test]
async fn a_reading_is_opened_again_when_the_store_is_busy_and_refuses_answers_that_do_not_fit() {
    let server = StandIn::start(|asked, number| match asked.target.as_str() {
        _ if number == 0 => error(503, "SlowDown", "x"),
        target if target.contains("whole") => answer(200, "0123456789"),
        target if target.contains("elsewhere") => answer(206, "9").with("Content-Range", "bytes 9-9/10"),
        _ => well(asked),
    })
    .await;
    let (store, seen) = open(&settings(&server)).await;
    assert_eq!(collect(&mut store.read("a", 0).await.unwrap().unwrap()).await.0, "body");
    assert_eq!(seen.outcomes(), [Outcome::Throttled, Outcome::Done]);
    for path in ["whole", "elsewhere"] {
        assert_eq!(store.read(path, 4).await.err().unwrap().kind(), Kind::Fatal, "{path}");
    }
}

#[tokio::test]
async fn a_body_may_take_its_time_in_a_reading_but_not_stand_still() {
    const HALT: Duration = Duration::from_millis(600);
    let server = StandIn::start(|_, _| Reply::Halting(HALT, b"in two halves".to_vec())).await;
    let short = |attempt, read| StorageSettings {
        attempt_timeout_ms: Some(attempt),
        read_timeout_ms: Some(read),
        max_attempts: Some(1),
        ..settings(&server)
    };
    let (store, _) = open(&short(200, 10_000)).await;
    assert_eq!(collect(&mut store.read("a", 0).await.unwrap().unwrap()).await.0, "in two halves", "an attempt's time is for its beginning");
    assert_eq!(store.get("a", 100).await.unwrap_err().kind(), Kind::Transient, "and for the whole answer where one is asked for");
    let (store, _) = open(&short(10_000, 200)).await;
    let (read, stalled) = collect(&mut store.read("a", 0).await.unwrap().unwrap()).await;
    assert_eq!((read.as_str(), stalled.unwrap().kind()), ("in two", Kind::Transient));
    assert_eq!(store.get("a", 100).await.unwrap_err().kind(), Kind::Transient);
}

#[tokio::test]
async fn a_put_asks_for_no_version_carries_its_own_tags_and_hash_and_is_tried_again() {
    let server = StandIn::start(|asked, number| if number == 0 { Reply::Cut } else { well(asked) }).await;
    let tags = BTreeMap::from([("team".to_owned(), "a".to_owned()), ("tier".to_owned(), "1".to_owned())]);
    let (store, _) = open(&StorageSettings { tags, ..settings(&server) }).await;
    let own = |tags: &[(&str, &str)]| tags.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
    let options = PutOptions { tags: own(&[("tier", "2"), ("of", "orders")]), sha256: Some([0xab; 32]), ..data() };
    assert_eq!(store.put("a", x(), &options).await.unwrap(), Version("etag".to_owned()));
    assert_eq!(server.asked().len(), 2);
    store.put("a", x(), &PutOptions { class: kas3_store::Class::Ledger, ..options.clone() }).await.unwrap();
    store.begin_upload("a", "staged", &options).await.unwrap();
    let asked = server.asked();
    assert_eq!(asked[1].header("x-amz-content-sha256"), Some("ab".repeat(32).as_str()));
    assert!(asked[1].header("if-match").is_none() && asked[1].header("if-none-match").is_none());
    let tagging: Vec<Option<&str>> = asked[1..].iter().map(|asked| asked.header("x-amz-tagging")).collect();
    assert_eq!(tagging, [Some("of=orders&team=a&tier=2"), Some("of=orders&tier=2"), Some("of=orders&team=a&tier=2")]);
    let many = (0..9).map(|n| (n.to_string(), String::new())).collect();
    let refused = store.put("a", x(), &PutOptions { tags: many, ..data() }).await.unwrap_err();
    assert!(refused.kind() == Kind::Fatal && refused.way_out().unwrap().contains("`tags`"), "{refused:?}");
    assert_eq!(server.asked().len(), 4, "nine and two are eleven");
}

#[tokio::test]
async fn one_connection_serves_request_after_request_even_after_refusals() {
    let server = StandIn::start(|asked, number| match number % 4 {
        0 => error(404, "NoSuchKey", "x"),
        1 => error(412, "PreconditionFailed", "x"),
        2 => answer(403, &"<".repeat(10_000)),
        _ => well(asked),
    })
    .await;
    let (store, _) = open(&settings(&server)).await;
    for _ in 0..5 {
        assert!(store.get("a", 10).await.unwrap().is_none());
        assert_eq!(store.create("a", x(), &data()).await.unwrap(), Created::Exists);
        assert_eq!(store.get("a", 10).await.unwrap_err().kind(), Kind::Denied, "what is no XML is told by its status");
        store.put("a", x(), &data()).await.unwrap();
    }
    assert_eq!(server.connections(), 1);
}
