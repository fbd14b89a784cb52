//! The codec against a store on a local disk: what goes in comes out, and what was tampered with does not.

#![allow(clippy::unwrap_used)]

use bytes::Bytes;
use kas3_claimcheck::{About, Claim, ClaimCheck, ClaimCheckSettings, Compression, Kind, Reason, Reference, Sent};
use std::path::PathBuf;

struct Ground {
    folder: tempfile::TempDir,
}

impl Ground {
    fn new() -> Ground {
        Ground { folder: tempfile::tempdir().unwrap() }
    }

    fn settings(&self) -> ClaimCheckSettings {
        ClaimCheckSettings { url: format!("file://{}", self.folder.path().display()), max_inline_bytes: 100, ..ClaimCheckSettings::default() }
    }

    async fn open(&self) -> ClaimCheck {
        ClaimCheck::open(self.settings()).await.unwrap()
    }

    fn file(&self, reference: &Reference) -> PathBuf {
        self.folder.path().join(&reference.key)
    }

    fn objects(&self) -> usize {
        let mut folders = vec![self.folder.path().to_owned()];
        let mut files = 0;
        while let Some(folder) = folders.pop() {
            for entry in
                std::fs::read_dir(folder).unwrap().map(Result::unwrap).filter(|entry| !entry.file_name().to_string_lossy().starts_with(['.', '_']))
            {
                if entry.path().is_dir() { folders.push(entry.path()) } else { files += 1 }
            }
        }
        files
    }
}

fn payload(bytes: usize) -> Bytes {
    (0..bytes).map(|n| u8::try_from(n % 251).unwrap() ^ u8::try_from(n / 251 % 7).unwrap()).collect()
}

async fn collect(claims: &ClaimCheck, reference: &Reference) -> Result<Bytes, (kas3_claimcheck::Error, usize)> {
    let mut stream = claims.stream(reference).await.map_err(|error| (error, 0))?;
    let mut whole = Vec::new();
    loop {
        match stream.next().await {
            Ok(Some(piece)) => whole.extend_from_slice(&piece),
            Ok(None) => return Ok(whole.into()),
            Err(error) => return Err((error, whole.len())),
        }
    }
}

fn reference(sent: &Sent) -> &Reference {
    sent.reference.as_ref().unwrap()
}

#[tokio::test]
async fn payloads_of_every_size_and_compression_come_back_whole_and_as_streams() {
    let ground = Ground::new();
    for compression in [Compression::None, Compression::Gzip, Compression::Zstd] {
        let settings = ClaimCheckSettings { compression, multipart_bytes: Some(9 << 20), ..ground.settings() };
        let claims = ClaimCheck::open(settings).await.unwrap();
        for bytes in [101, 65_536, 1 << 20, (1 << 20) + 1, (3 << 20) + 17, 20 << 20] {
            let payload = payload(bytes);
            let sent = claims.offload(payload.clone(), &About::topic("orders")).await.unwrap();
            let got = claims.resolve(Some(sent.value.clone()), &sent.headers).await.unwrap().unwrap();
            assert!(got == payload, "{compression:?} {bytes} whole");
            assert!(collect(&claims, reference(&sent)).await.unwrap() == payload, "{compression:?} {bytes} as a stream");
            let streamed = claims.offload_reader(&payload[..], &About::topic("orders")).await.unwrap();
            assert_eq!(reference(&streamed).sha256, reference(&sent).sha256, "{compression:?} {bytes}");
            assert_eq!(reference(&streamed).prefix_sums, reference(&sent).prefix_sums, "{compression:?} {bytes}");
            assert!(
                claims.resolve(Some(streamed.value), &streamed.headers).await.unwrap().unwrap() == payload,
                "{compression:?} {bytes} read from a reader"
            );
        }
    }
}

#[tokio::test]
async fn small_payloads_stay_in_their_records_and_room_decides_too() {
    let ground = Ground::new();
    let claims = ground.open().await;
    let sent = claims.offload(payload(100), &About::topic("t")).await.unwrap();
    assert!(sent.reference.is_none() && sent.value == payload(100) && sent.headers.is_empty());
    assert_eq!(claims.claim(Some(&sent.value), &sent.headers).unwrap(), Claim::Inline(payload(100)));
    let cramped = claims.offload(payload(100), &About { room: Some(50), ..About::topic("t") }).await.unwrap();
    assert!(cramped.reference.is_some(), "a record without room sends its payload to the store");
    assert_eq!(claims.claim(None, &Vec::new()).unwrap(), Claim::Tombstone);
    assert_eq!(ground.objects(), 1);
}

#[tokio::test]
async fn a_payload_that_looks_like_an_unmarked_reference_is_not_sent_as_one() {
    let ground = Ground::new();
    let settings = ClaimCheckSettings { format: "kaf-s3-connector".into(), max_inline_bytes: 10_000, ..ground.settings() };
    let claims = ClaimCheck::open(settings).await.unwrap();
    let forged = Bytes::from_static(br#"{"s3_bucket": "other", "s3_key": "secret"}"#);
    let sent = claims.offload(forged.clone(), &About::topic("t")).await.unwrap();
    assert_eq!(claims.resolve(Some(sent.value), &sent.headers).await.unwrap(), Some(forged));
}

#[tokio::test]
async fn what_was_tampered_with_is_refused_with_its_reason_and_a_stream_hands_out_nothing_of_a_bad_chunk() {
    let ground = Ground::new();
    let claims = ground.open().await;
    let bytes = (3 << 20) + 500;
    let send = async || claims.offload(payload(bytes), &About::topic("t")).await.unwrap();

    let changed = send().await;
    let mut content = payload(bytes).to_vec();
    content[(2 << 20) + 7] ^= 1;
    std::fs::write(ground.file(reference(&changed)), &content).unwrap();
    let error = claims.fetch(reference(&changed)).await.unwrap_err();
    assert_eq!((error.kind(), error.reason()), (Kind::Integrity, Some(Reason::Sha256Mismatch)));
    let (error, handed_out) = collect(&claims, reference(&changed)).await.unwrap_err();
    assert_eq!((error.reason(), handed_out), (Some(Reason::Sha256Mismatch), 2 << 20), "only what lies before the changed chunk");

    let cut = send().await;
    std::fs::write(ground.file(reference(&cut)), &payload(bytes)[..bytes - 1]).unwrap();
    assert_eq!(claims.fetch(reference(&cut)).await.unwrap_err().reason(), Some(Reason::SizeMismatch));

    let missing = send().await;
    std::fs::remove_file(ground.file(reference(&missing))).unwrap();
    let error = claims.fetch(reference(&missing)).await.unwrap_err();
    assert_eq!((error.kind(), error.reason()), (Kind::Missing, Some(Reason::ObjectMissing)));
    assert!(claims.look(reference(&missing)).await.unwrap().is_none());
}

#[tokio::test]
async fn references_to_other_places_are_refused_before_a_request_is_made() {
    let ground = Ground::new();
    let claims = ground.open().await;
    let sent = claims.offload(payload(5000), &About::topic("t")).await.unwrap();
    let own = reference(&sent).clone();
    for (changed, reason) in [
        (Reference { bucket: "other".into(), ..own.clone() }, Reason::UnexpectedBucket),
        (Reference { bucket: format!("{}-2", own.bucket), ..own.clone() }, Reason::UnexpectedBucket),
        (Reference { key: "../secret".into(), ..own.clone() }, Reason::PrefixViolation),
        (Reference { key: "a/../../secret".into(), ..own.clone() }, Reason::PrefixViolation),
        (Reference { key: "/etc/passwd".into(), ..own.clone() }, Reason::PrefixViolation),
        (Reference { key: String::new(), ..own.clone() }, Reason::PrefixViolation),
        (Reference { sha256: None, ..own.clone() }, Reason::MissingChecksum),
        (Reference { size: Some(6 << 30), ..own.clone() }, Reason::ObjectTooLarge),
        (Reference { size: Some(4999), ..own.clone() }, Reason::SizeMismatch),
    ] {
        assert_eq!(claims.fetch(&changed).await.unwrap_err().reason(), Some(reason), "{changed:?}");
        assert_eq!(collect(&claims, &changed).await.unwrap_err().0.reason(), Some(reason), "{changed:?} as a stream");
    }
    let two = ClaimCheck::open(ClaimCheckSettings {
        url: format!("file://{}/x", ground.folder.path().display()),
        read_from: vec![ground.settings().url],
        ..ground.settings()
    });
    assert_eq!(two.await.unwrap().fetch(&own).await.unwrap(), payload(5000), "a further place is named, and believed");
}

#[tokio::test]
async fn bombs_and_foreign_sizes_stay_within_the_limit() {
    let ground = Ground::new();
    let zeros = Bytes::from(vec![0; 64 << 20]);
    for compression in [Compression::Gzip, Compression::Zstd] {
        let claims = ClaimCheck::open(ClaimCheckSettings { compression, ..ground.settings() }).await.unwrap();
        let sent = claims.offload(zeros.clone(), &About::topic("t")).await.unwrap();
        let narrow = ClaimCheck::open(ClaimCheckSettings { max_payload_bytes: 1 << 20, ..ground.settings() }).await.unwrap();
        assert_eq!(narrow.fetch(reference(&sent)).await.unwrap_err().reason(), Some(Reason::ObjectTooLarge));
        let silent = Reference { size: None, prefix_sums: None, ..reference(&sent).clone() };
        assert_eq!(narrow.fetch(&silent).await.unwrap_err().reason(), Some(Reason::DecompressedTooLarge), "{compression:?}");
        let (error, handed_out) = collect(&narrow, &silent).await.unwrap_err();
        assert_eq!((error.reason(), handed_out), (Some(Reason::DecompressedTooLarge), 0), "{compression:?} as a stream");
        let lies = Reference { size: Some(1000), prefix_sums: None, ..silent };
        assert_eq!(claims.fetch(&lies).await.unwrap_err().reason(), Some(Reason::DecompressedTooLarge), "{compression:?}");
    }
}

#[tokio::test]
async fn equal_payloads_share_one_object_that_is_not_deleted_after_one_of_them() {
    let ground = Ground::new();
    let settings = ClaimCheckSettings { keys: Some("{topic}/{sha256}".into()), ..ground.settings() };
    let claims = ClaimCheck::open(settings).await.unwrap();
    let (first, second) =
        (claims.offload(payload(5000), &About::topic("t")).await.unwrap(), claims.offload(payload(5000), &About::topic("t")).await.unwrap());
    assert_eq!((reference(&first), ground.objects()), (reference(&second), 1));
    claims.delete(reference(&first)).await.unwrap();
    assert_eq!(claims.fetch(reference(&second)).await.unwrap(), payload(5000));
    let file = ground.folder.path().join("big");
    std::fs::write(&file, payload(9 << 20)).unwrap();
    let sent = claims.offload_file(&file, &About::topic("t")).await.unwrap();
    assert!(claims.fetch(reference(&sent)).await.unwrap() == payload(9 << 20), "a file is hashed before it is sent");
    let refused = claims.offload_reader(&payload(5000)[..], &About::topic("t")).await.unwrap_err();
    assert!(refused.kind() == Kind::Record && refused.way_out().is_some());
    let own = ground.open().await;
    let mine = own.offload(payload(7000), &About::topic("t")).await.unwrap();
    own.delete(reference(&mine)).await.unwrap();
    assert_eq!(own.fetch(reference(&mine)).await.unwrap_err().reason(), Some(Reason::ObjectMissing));
}

#[tokio::test]
async fn too_large_payloads_and_broken_readers_leave_nothing_behind() {
    struct Breaks(usize);
    impl tokio::io::AsyncRead for Breaks {
        fn poll_read(
            mut self: std::pin::Pin<&mut Self>,
            _: &mut std::task::Context<'_>,
            out: &mut tokio::io::ReadBuf<'_>,
        ) -> std::task::Poll<std::io::Result<()>> {
            if self.0 == 0 {
                return std::task::Poll::Ready(Err(std::io::Error::other("the disk is gone")));
            }
            let bytes = out.remaining().min(self.0);
            out.initialize_unfilled_to(bytes).fill(7);
            out.advance(bytes);
            self.0 -= bytes;
            std::task::Poll::Ready(Ok(()))
        }
    }
    let ground = Ground::new();
    let claims = ClaimCheck::open(ClaimCheckSettings { max_payload_bytes: 20 << 20, ..ground.settings() }).await.unwrap();
    let error = claims.offload(payload((20 << 20) + 1), &About::topic("t")).await.unwrap_err();
    assert!(error.kind() == Kind::Record && error.to_string().contains("max_payload_bytes"), "{error:?}");
    assert_eq!(claims.offload_reader(&payload(30 << 20)[..], &About::topic("t")).await.unwrap_err().kind(), Kind::Record);
    assert_eq!(claims.offload_reader(Breaks(18 << 20), &About::topic("t")).await.unwrap_err().kind(), Kind::Record);
    assert_eq!(ground.objects(), 0);
}

#[tokio::test]
async fn settings_that_contradict_each_other_name_the_keys_and_the_way_out() {
    let ground = Ground::new();
    let base = || ground.settings();
    for (settings, named) in [
        (ClaimCheckSettings { url: String::new(), ..base() }, "place for payloads"),
        (ClaimCheckSettings { format: "kafka".into(), ..base() }, "`kafka`"),
        (ClaimCheckSettings { format: "irori".into(), ..base() }, "only read"),
        (ClaimCheckSettings { accept: vec!["x".into()], ..base() }, "`x`"),
        (ClaimCheckSettings { accept: vec!["kas3".into(), "bakdata-value".into()], ..base() }, "`bakdata-value` and `kas3`"),
        (ClaimCheckSettings { accept: vec!["bakdata-value".into(), "irori".into()], inline_header: true, ..base() }, "`bakdata-value` and `irori`"),
        (ClaimCheckSettings { max_inline_bytes: 10, max_payload_bytes: 5, ..base() }, "`max_inline_bytes`"),
        (ClaimCheckSettings { keys: Some("{topic}".into()), ..base() }, "{topic}"),
        (ClaimCheckSettings { compression: Compression::Zstd, format: "kaf-s3-connector".into(), ..base() }, "`compression: zstd`"),
        (ClaimCheckSettings { compression: Compression::Lz4, ..base() }, "`compression: lz4`"),
        (ClaimCheckSettings { compression: Compression::Gzip, level: Some(13), ..base() }, "`level: 13`"),
        (ClaimCheckSettings { ttl_seconds: Some(0), ..base() }, "`ttl_seconds`"),
        (ClaimCheckSettings { uploads: 0, ..base() }, "`uploads`"),
        (ClaimCheckSettings { multipart_bytes: Some(6 << 30), ..base() }, "`multipart_bytes`"),
    ] {
        let error = ClaimCheck::open(settings).await.err().unwrap();
        assert!(error.kind() == Kind::Config && error.to_string().contains(named) && error.way_out().is_some(), "{error:?}");
    }
}

#[tokio::test]
async fn headers_that_mark_references_are_not_a_users_to_set_and_are_taken_out_on_the_way_back() {
    let ground = Ground::new();
    let claims = ground.open().await;
    let forged = vec![("kas3-claim-check".to_owned(), Some(Bytes::from_static(b"1")))];
    let error = claims.check_headers(&forged).unwrap_err();
    assert!(error.kind() == Kind::Record && error.to_string().contains("kas3-claim-check"));
    let own = vec![("trace".to_owned(), Some(Bytes::from_static(b"1")))];
    claims.check_headers(&own).unwrap();
    let sent = claims.offload(payload(5000), &About::topic("t")).await.unwrap();
    let travelled = [own.clone(), sent.headers].concat();
    assert_eq!(claims.headers_of_user(&travelled), own);
}

#[tokio::test]
async fn records_of_kas3_and_of_a_format_of_first_bytes_stand_in_one_topic_when_payloads_are_marked() {
    let ground = Ground::new();
    let open = |format: &str, accept: &[&str], inline_header: bool| {
        let (format, accept) = (format.to_owned(), accept.iter().map(|name| (*name).to_owned()).collect());
        ClaimCheck::open(ClaimCheckSettings { format, accept, inline_header, require_integrity: false, ..ground.settings() })
    };
    let (kas3, old) = (open("kas3", &[], true).await.unwrap(), open("bakdata-value", &[], false).await.unwrap());
    // as Confluent frames what it serializes; and whatever looks like the other format
    let payloads = [&b"\0\0\0\0\x07framed"[..], b"\x01s3://other/secret", b"", b"{\"a\":1}", b"\0"];
    for accept in [["kas3", "bakdata-value"], ["bakdata-value", "kas3"]] {
        let both = open("kas3", &accept, true).await.unwrap();
        for payload in payloads.map(Bytes::from_static) {
            for producer in [&kas3, &old] {
                let sent = producer.offload(payload.clone(), &About::topic("t")).await.unwrap();
                assert!(sent.reference.is_none());
                let got = both.resolve(Some(sent.value.clone()), &sent.headers).await.unwrap();
                assert_eq!(got.as_ref(), Some(&payload), "{accept:?} {payload:?} of {}", producer.settings().format);
                assert!(both.headers_of_user(&sent.headers).is_empty());
            }
        }
        let large = kas3.offload(payload(5000), &About::topic("t")).await.unwrap();
        assert_eq!(both.resolve(Some(large.value), &large.headers).await.unwrap(), Some(payload(5000)));
        assert_eq!(both.resolve(None, &Vec::new()).await.unwrap(), None);
        let unmarked = both.resolve(Some(Bytes::from_static(b"{}")), &Vec::new()).await.unwrap_err();
        assert_eq!(unmarked.reason(), Some(Reason::MalformedReference), "a producer that does not mark shows");
    }
    let names = |claims: &ClaimCheck| claims.accepts().iter().map(|format| format.name()).collect::<Vec<_>>();
    assert_eq!(names(&old), ["bakdata", "bakdata-value"], "what cannot be told apart is not accepted by default");
    assert_eq!(names(&open("bakdata-value", &[], true).await.unwrap()), ["kas3", "bakdata", "bakdata-value"]);
    let error = open("kas3", &["bakdata-value", "kas3"], false).await.err().unwrap();
    assert!(error.way_out().is_some_and(|hint| hint.contains("inline_header: true")), "{error:?}");
}
