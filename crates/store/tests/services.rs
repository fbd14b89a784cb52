//! The store on a real S3-compatible service: the conformance list, and what is seen only there.
//!
//! `S3_ENDPOINT_URL`, `AWS_ACCESS_KEY_ID` and `AWS_SECRET_ACCESS_KEY` name the service.
#![allow(clippy::unwrap_used)]

mod conformance;

use aws_sdk_s3::{
    Client,
    config::{BehaviorVersion, Credentials, Region},
};
use bytes::Bytes;
use kas3_store::{Checksum, Class, Completed, Created, Kind, PART_BYTES, PutOptions, Secret, StorageSettings, Store, Unobserved};
use std::sync::Arc;

struct Service {
    endpoint: String,
    key: String,
    secret: String,
}

/// The service of the environment; `None` only when the tests without services were asked for.
fn service() -> Option<Service> {
    let get = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
    let Some(endpoint) = get("S3_ENDPOINT_URL") else {
        assert_eq!(
            get("KAS3_WITHOUT_SERVICES").as_deref(),
            Some("1"),
            "S3_ENDPOINT_URL is not set: run `make test`, or `dev/services up` and set what it prints, or KAS3_WITHOUT_SERVICES=1 to leave these tests out"
        );
        return None;
    };
    let need = |name: &str| get(name).unwrap_or_else(|| panic!("{name} is not set beside S3_ENDPOINT_URL"));
    Some(Service { endpoint, key: need("AWS_ACCESS_KEY_ID"), secret: need("AWS_SECRET_ACCESS_KEY") })
}

impl Service {
    fn settings(&self) -> StorageSettings {
        StorageSettings {
            endpoint: Some(self.endpoint.clone()),
            region: Some("us-east-1".to_owned()),
            allow_http: true,
            access_key_id: Some(Secret::new(&self.key)),
            secret_access_key: Some(Secret::new(&self.secret)),
            ..StorageSettings::default()
        }
    }

    fn client(&self) -> Client {
        let config = aws_sdk_s3::Config::builder()
            .behavior_version(BehaviorVersion::latest())
            .endpoint_url(&self.endpoint)
            .region(Region::new("us-east-1"))
            .credentials_provider(Credentials::new(&self.key, &self.secret, None, None, "test"))
            .http_client(aws_smithy_http_client::Builder::new().build_http())
            .force_path_style(true)
            .build();
        Client::from_conf(config)
    }

    async fn new_bucket(&self) -> String {
        let bucket = format!("kas3-store-{:016x}", rand::random::<u64>());
        self.client().create_bucket().bucket(&bucket).send().await.unwrap();
        bucket
    }

    async fn locked_bucket(&self) -> String {
        let bucket = format!("kas3-locked-{:016x}", rand::random::<u64>());
        self.client().create_bucket().bucket(&bucket).object_lock_enabled_for_bucket(true).send().await.unwrap();
        bucket
    }
}

async fn open(url: &str, settings: &StorageSettings) -> Store {
    Store::open(url, settings, Arc::new(Unobserved)).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn s3_conforms_below_a_prefix_and_in_a_whole_bucket() {
    let Some(service) = service() else { return };
    let bucket = service.new_bucket().await;
    let (one, other) = (
        open(&format!("s3://{bucket}/some/prefix"), &service.settings()).await,
        open(&format!("s3://{bucket}/some/prefix/"), &service.settings()).await,
    );
    conformance::run(&one, &other).await;
    let bucket = service.new_bucket().await;
    let (one, other) = (open(&format!("s3://{bucket}"), &service.settings()).await, open(&format!("s3://{bucket}/"), &service.settings()).await);
    conformance::run(&one, &other).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_checksum_is_taken_on_objects_and_uploads_even_in_a_bucket_with_object_lock() {
    let Some(service) = service() else { return };
    let bucket = service.locked_bucket().await;
    for checksum in [Checksum::Crc32, Checksum::Crc32c, Checksum::Crc64nvme, Checksum::Sha256] {
        let settings = StorageSettings { checksum: Some(checksum), ..service.settings() };
        let store = open(&format!("s3://{bucket}/{checksum:?}"), &settings).await;
        let options = PutOptions::data("text/plain");
        assert!(matches!(store.create("object", Bytes::from_static(b"x"), &options).await.unwrap(), Created::Done(_)));
        let upload = store.begin_upload("upload", "staged", &options).await.unwrap();
        let first = store.put_part("upload", &upload, 1, Bytes::from(vec![1; PART_BYTES])).await.unwrap();
        let second = store.put_part("upload", &upload, 2, Bytes::from_static(b"end")).await.unwrap();
        // Who completes it may have been told to make no checksums.
        let other = open(&format!("s3://{bucket}/{checksum:?}"), &StorageSettings { checksum: Some(Checksum::None), ..service.settings() }).await;
        assert_eq!(other.complete_upload("upload", &upload, &[first, second], &options).await.unwrap(), Completed::Done, "{checksum:?}");
        assert_eq!(other.info("upload").await.unwrap().unwrap().bytes, PART_BYTES as u64 + 3);
    }
}

#[tokio::test]
async fn listings_go_on_beyond_one_page_of_the_store() {
    let Some(service) = service() else { return };
    let store = open(&format!("s3://{}/p", service.new_bucket().await), &service.settings()).await;
    let options = PutOptions { class: Class::Ledger, ..PutOptions::data("text/plain") };
    let paths: Vec<String> = (0..1005).map(|n| format!("many/{n:05}")).collect();
    for chunk in paths.chunks(32) {
        futures::future::join_all(chunk.iter().map(|path| store.create(path, Bytes::new(), &options))).await.into_iter().for_each(|created| {
            assert!(matches!(created.unwrap(), Created::Done(_)));
        });
    }
    let listed: Vec<String> = store.list("many/", None, 5000).await.unwrap().into_iter().map(|info| info.path).collect();
    assert_eq!(listed, paths);
    assert_eq!(store.list("many/", Some("many/00999"), 3).await.unwrap().len(), 3);
}

#[tokio::test]
async fn what_is_missing_or_forbidden_is_named_with_a_way_out() {
    let Some(service) = service() else { return };
    let nowhere = open("s3://kas3-there-is-no-such-bucket/p", &service.settings()).await;
    let options = PutOptions::data("text/plain");
    for error in [
        nowhere.create("a", Bytes::new(), &options).await.unwrap_err(),
        nowhere.get("a", 1).await.unwrap_err(),
        nowhere.list("", None, 1).await.unwrap_err(),
        nowhere.create_cell("a/head.json", Bytes::new()).await.unwrap_err(),
        nowhere.begin_upload("a", "s", &options).await.unwrap_err(),
    ] {
        assert_eq!(error.kind(), Kind::Missing, "{error:?}");
        assert!(error.way_out().unwrap().contains("kas3-there-is-no-such-bucket"));
    }
    let bucket = service.new_bucket().await;
    let wrong_secret = StorageSettings { secret_access_key: Some(Secret::new("wrong-wrong")), ..service.settings() };
    let wrong_key = StorageSettings { access_key_id: Some(Secret::new("wrong-wrong")), ..service.settings() };
    for settings in [wrong_secret, wrong_key] {
        let error = open(&format!("s3://{bucket}"), &settings).await.create("a", Bytes::new(), &options).await.unwrap_err();
        assert!(error.kind() == Kind::Denied && error.way_out().is_some(), "{error:?}");
    }
}

#[tokio::test]
async fn rules_of_the_bucket_that_reach_the_prefix_are_told() {
    use aws_sdk_s3::types::{
        AbortIncompleteMultipartUpload, BucketLifecycleConfiguration, ExpirationStatus, LifecycleExpiration, LifecycleRule, LifecycleRuleFilter,
    };
    let Some(service) = service() else { return };
    let bucket = service.new_bucket().await;
    let store = open(&format!("s3://{bucket}/lake"), &service.settings()).await;
    assert!(store.bucket_rules().await.unwrap().unwrap().rules.is_empty());
    let rule = |id: &str, prefix: &str| {
        let filter = LifecycleRuleFilter::builder().prefix(prefix).build();
        LifecycleRule::builder().id(id).status(ExpirationStatus::Enabled).filter(filter)
    };
    let days = |days: i32| LifecycleExpiration::builder().days(days).build();
    let abort = AbortIncompleteMultipartUpload::builder().days_after_initiation(7).build();
    let rules = BucketLifecycleConfiguration::builder()
        .rules(rule("ledger", "lake/_kas3/").expiration(days(30)).build().unwrap())
        .rules(rule("elsewhere", "other/").expiration(days(1)).build().unwrap())
        .rules(rule("uploads", "").abort_incomplete_multipart_upload(abort).expiration(days(400)).build().unwrap())
        .build()
        .unwrap();
    service.client().put_bucket_lifecycle_configuration().bucket(&bucket).lifecycle_configuration(rules).send().await.unwrap();
    let rules = store.bucket_rules().await.unwrap().unwrap();
    let expiring = |prefix: &str| {
        let mut ids: Vec<String> = rules.expiring(prefix).map(|rule| rule.id.clone()).collect();
        ids.sort();
        ids
    };
    assert_eq!(expiring("_kas3/orders/ledger/"), ["ledger", "uploads"]);
    assert_eq!(expiring("orders/"), ["uploads"]);
    assert_eq!(rules.expiring("_kas3/").find(|rule| rule.id == "ledger").unwrap().expires_after_days, Some(30));
}
