//! Golden files: what each format wrote on its first day is read for ever, and written byte for byte.

use super::*;
use crate::reference::{PrefixSums, header, sha_of_hex};

/// A record in a golden file: value and headers as text; `null` for a record without a value.
#[derive(serde::Deserialize)]
struct Golden {
    value: Option<String>,
    #[serde(default)]
    key: Option<String>,
    #[serde(default)]
    headers: Vec<(String, String)>,
}

fn golden(name: &str) -> (Option<Bytes>, Headers) {
    let (value, _, headers) = golden_with_key(name);
    (value, headers)
}

fn golden_with_key(name: &str) -> (Option<Bytes>, Option<Bytes>, Headers) {
    let path = format!("{}/tests/golden/{name}.json", env!("CARGO_MANIFEST_DIR"));
    let text = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{path}: {error}"));
    let golden: Golden = serde_json::from_str(&text).unwrap();
    let headers = golden.headers.into_iter().map(|(name, value)| (name, Some(Bytes::from(value)))).collect();
    (golden.value.map(Bytes::from), golden.key.map(Bytes::from), headers)
}

fn sha() -> crate::Sha {
    sha_of_hex("9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08").unwrap()
}

fn base() -> Reference {
    Reference { bucket: "payloads".into(), key: "orders/0189c2".into(), ..Reference::default() }
}

fn kas3_whole() -> Reference {
    Reference {
        size: Some(2_500_000),
        content_type: Some("image/png".into()),
        sha256: Some(sha()),
        prefix_sums: Some(PrefixSums { chunk: 1 << 20, sums: vec![[1; 16], [2; 16]] }),
        etag: Some("d41d8cd98f00b204e9800998ecf8427e".into()),
        compression: Compression::Zstd,
        encryption: Some("aws:kms".into()),
        shared: true,
        ..base()
    }
}

fn kaf() -> Reference {
    Reference { sha256: Some(sha()), etag: Some("d41d8cd98f00b204e9800998ecf8427e".into()), ..base() }
}

/// Name of the golden file, format, and what it must read as.
fn cases() -> Vec<(&'static str, &'static str, Reference)> {
    vec![
        ("kas3-v1", "kas3", Reference { size: Some(2048), sha256: Some(sha()), ..base() }),
        ("kas3-v1-all-fields", "kas3", kas3_whole()),
        ("kaf-s3-connector-2.0", "kaf-s3-connector", kaf()),
        (
            "kaf-s3-connector-2.0-shared",
            "kaf-s3-connector",
            Reference { etag: None, compression: Compression::Gzip, shared: true, key: "ä\u{1f600}/\"k".into(), ..kaf() },
        ),
        ("bakdata-4", "bakdata", base()),
        ("bakdata-3-gzip", "bakdata", Reference { compression: Compression::Gzip, ..base() }),
        ("bakdata-4-value", "bakdata-value", base()),
        ("aws-payload-offloading", "aws-payload-offloading", base()),
    ]
}

#[test]
fn golden_records_are_read_as_what_they_say_and_written_byte_for_byte() {
    for (file, format, reference) in cases() {
        let (value, headers) = golden(file);
        let format = format_named(format).unwrap();
        assert_eq!(format.read(value.as_ref(), &headers).unwrap(), Some(Found::Reference(reference.clone())), "{file}");
        let mut written = Headers::new();
        assert_eq!(Some(format.write(&reference, &mut written).unwrap()), value, "{file}");
        assert_eq!(written, headers, "{file}");
    }
}

#[test]
fn golden_records_of_bakdata_4_with_keys_and_with_marked_payloads() {
    let bakdata = format_named("bakdata").unwrap();
    let (value, headers) = golden("bakdata-4-gzip");
    let gzip = Reference { compression: Compression::Gzip, ..base() };
    assert_eq!(bakdata.read(value.as_ref(), &headers).unwrap(), Some(Found::Reference(gzip)), "the header of version 4");

    let (value, key, headers) = golden_with_key("bakdata-3-key");
    assert_eq!(bakdata.read(value.as_ref(), &headers).unwrap(), Some(Found::Inline("payload".into())));
    let of_key = Reference { key: "orders/keys/0189c2".into(), compression: Compression::Snappy, ..base() };
    assert_eq!(bakdata.read_key(&key.unwrap(), &headers).unwrap(), Some(of_key));
    let mut marked = Headers::new();
    bakdata.mark_key(&mut marked);
    assert_eq!(bakdata.read_key(&Bytes::from_static(b"s3://payloads/k"), &marked).unwrap(), None, "a key in its record, whatever it looks like");

    let kas3 = format_named("kas3").unwrap();
    let (value, headers) = golden("kas3-v1-inline");
    assert_eq!(kas3.read(value.as_ref(), &headers).unwrap(), Some(Found::Inline(value.clone().unwrap())));
    assert_eq!(kas3.read(None, &headers).unwrap(), None, "a tombstone stays one");
    let newer = vec![("kas3-inline".to_owned(), Some(Bytes::from_static(b"2")))];
    assert_eq!(kas3.read(value.as_ref(), &newer).unwrap_err().reason(), Some(Reason::UnknownVersion));
}

#[test]
fn what_carries_no_flag_is_no_record_of_a_format_of_flags() {
    let format = format_named("bakdata-value").unwrap();
    for (value, named) in [(&b"{\"a\":1}"[..], "byte 123"), (b"", "is empty")] {
        let error = format.read(Some(&Bytes::from_static(value)), &Headers::new()).unwrap_err();
        assert!(error.reason() == Some(Reason::MalformedReference) && error.to_string().contains(named) && error.way_out().is_some(), "{error}");
    }
    assert_eq!(format.read(None, &Headers::new()).unwrap(), None, "a tombstone");
}

#[test]
fn golden_records_that_are_only_read_or_hold_a_time() {
    let (value, headers) = golden("kafscale-1");
    let format = format_named("kafscale").unwrap();
    let expected = Reference { size: Some(2048), sha256: Some(sha()), content_type: Some("image/png".into()), ..base() };
    assert_eq!(format.read(value.as_ref(), &headers).unwrap(), Some(Found::Reference(expected.clone())));
    let written = format.write(&expected, &mut Headers::new()).unwrap();
    assert_eq!(format.read(Some(&written), &Headers::new()).unwrap(), Some(Found::Reference(expected)), "what is written is read");
    assert!(written[..50].windows(9).any(|window| window == b"\"kfs_lfs\""), "its mark stands in the first 50 bytes");

    let (value, headers) = golden("irori");
    let format = format_named("irori").unwrap();
    assert_eq!(format.read(value.as_ref(), &headers).unwrap(), Some(Found::Reference(base())));
    assert_eq!(
        format.write(&base(), &mut Headers::new()).unwrap_err().kind(),
        Kind::Config,
        "a reference that looks like a tombstone is never written"
    );
}

#[test]
fn payloads_of_users_are_not_taken_for_marked_references() {
    let forged: Vec<Bytes> = cases().iter().filter_map(|(file, _, _)| golden(file).0).chain([Bytes::from_static(b"{}"), Bytes::new()]).collect();
    for format in FORMATS.iter().filter(|format| format.marked()) {
        for value in &forged {
            assert_eq!(format.read(Some(value), &Headers::new()).unwrap(), None, "{} took {value:?}", format.name());
        }
        assert_eq!(format.read(None, &Headers::new()).unwrap(), None, "{} took a tombstone", format.name());
    }
}

#[test]
fn what_a_format_cannot_read_is_refused_and_never_passed_on_as_a_payload() {
    let marked = |version: &'static str| vec![("kas3-claim-check".to_owned(), Some(Bytes::from_static(version.as_bytes())))];
    let kas3 = format_named("kas3").unwrap();
    let refused = |value: &str, headers: Headers| kas3.read(Some(&Bytes::from(value.to_owned())), &headers).unwrap_err().reason();
    assert_eq!(refused("{}", marked("2")), Some(Reason::UnknownVersion));
    let hex = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08";
    let broken = [
        "".to_owned(),
        "payload".to_owned(),
        r#"{"bucket":"b"}"#.to_owned(),
        r#"{"bucket":"b","key":"k","size":1,"sha256":"abc"}"#.to_owned(),
        format!(r#"{{"bucket":"b","key":"k","size":-1,"sha256":"{hex}"}}"#),
        format!(r#"{{"bucket":"b","key":"k","size":5000000,"sha256":"{hex}","chunk":1048576,"sums":"AAAA"}}"#),
        format!(r#"{{"bucket":"b","key":"k","size":2000000,"sha256":"{hex}","chunk":1,"sums":"AAAAAAAAAAAAAAAAAAAAAA=="}}"#),
    ];
    for value in broken {
        assert_eq!(refused(&value, marked("1")), Some(Reason::MalformedReference), "{value}");
    }
    let unknown = format!(r#"{{"bucket":"b","key":"k","size":1,"sha256":"{hex}","compression":"rar"}}"#);
    assert_eq!(refused(&unknown, marked("1")), Some(Reason::UnsupportedCompression));
    let newer = format!(r#"{{"bucket":"b","key":"k","size":1,"sha256":"{hex}","colour":"blue"}}"#);
    assert!(kas3.read(Some(&Bytes::from(newer)), &marked("1")).is_ok(), "fields of newer writers are passed over");
    assert_eq!(kas3.read(None, &marked("1")).unwrap_err().reason(), Some(Reason::MalformedReference));
}

#[test]
fn a_class_name_that_only_resembles_the_pointers_is_a_payload() {
    let value = r#"["software.amazon. payloadoffloading.PayloadS3Pointer",{"s3BucketName":"b","s3Key":"k"}]"#;
    let aws = format_named("aws-payload-offloading").unwrap();
    assert_eq!(aws.read(Some(&Bytes::from(value)), &Headers::new()).unwrap(), None);
}

proptest::proptest! {
    /// Whatever comes from outside, a format answers; what it takes for a reference names a place.
    #[test]
    fn bytes_from_outside_are_read_or_refused(
        cut in 0usize..200,
        at in 0usize..200,
        with in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..6),
        flag in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..3),
    ) {
        for (file, _, _) in cases() {
            let (value, mut headers) = golden(file);
            let mut bytes = value.unwrap_or_default().to_vec();
            bytes.truncate(cut.max(1));
            let at = at.min(bytes.len());
            bytes.splice(at..at, with.iter().copied());
            for (_, value) in &mut headers {
                *value = Some(flag.clone().into());
            }
            for headers in [headers, golden(file).1] {
                for format in FORMATS {
                    if let Ok(Some(Found::Reference(reference))) = format.read(Some(&bytes.clone().into()), &headers) {
                        proptest::prop_assert!(reference.url().contains("://"));
                    }
                    _ = format.read(None, &headers);
                }
            }
        }
    }
}

#[test]
fn bakdata_reads_older_headers_and_inline_values() {
    let (value, _) = golden("bakdata-4");
    let flag = |flag: u8| ("__large.message.backed.value".to_owned(), Some(Bytes::copy_from_slice(&[flag])));
    let old = ("__large.message.backed..compression".to_owned(), Some(Bytes::from_static(&[2])));
    let bakdata = format_named("bakdata").unwrap();
    let found = bakdata.read(value.as_ref(), &vec![flag(1), old]).unwrap();
    assert_eq!(found, Some(Found::Reference(Reference { compression: Compression::Snappy, ..base() })));
    let payload = Bytes::from_static(b"\x01 begins like a reference");
    assert_eq!(bakdata.read(Some(&payload), &vec![flag(0)]).unwrap(), Some(Found::Inline(payload.clone())));
    for name in ["bakdata", "bakdata-value"] {
        let mut headers = Headers::new();
        let format = format_named(name).unwrap();
        let written = format.write_inline(payload.clone(), &mut headers);
        assert_eq!(format.read(Some(&written), &headers).unwrap(), Some(Found::Inline(payload.clone())), "{name}");
    }
}

#[test]
fn the_newest_of_several_headers_counts_and_unknown_names_say_what_exists() {
    let headers = vec![("a".to_owned(), Some(Bytes::from_static(b"1"))), ("a".to_owned(), Some(Bytes::from_static(b"2")))];
    assert_eq!(header(&headers, "a"), Some(&b"2"[..]));
    let error = format_named("kas4").unwrap_err();
    assert!(error.kind() == Kind::Config && error.way_out().is_some_and(|hint| hint.contains("`kaf-s3-connector`")));
}
