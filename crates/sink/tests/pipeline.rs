//! Whole pipelines on librdkafka's in-process broker and a local folder: how they start, roll and end. What crosses a real wire
//! is tested in `tests/e2e`.

#![allow(clippy::unwrap_used)]
use kas3_sink::{
    config,
    pipeline::{self, Ended, Options},
    plan::Pipeline,
    status::Status,
};
use rdkafka::{
    ClientConfig,
    mocking::MockCluster,
    producer::{BaseRecord, DefaultProducerContext, Producer, ThreadedProducer},
    types::{RDKafkaApiKey, RDKafkaRespErr},
};
use std::{collections::BTreeMap, path::Path, sync::Arc, time::Duration};

/// A pipeline of topic `orders` into a folder; `more` is YAML below `sink`.
fn pipeline(servers: &str, folder: &Path, more: &str) -> Arc<Pipeline> {
    let text = format!(
        r#"
name: test
source: {{topics: [orders], kafka: {{bootstrap.servers: "{servers}"}}}}
http: "off"
sink:
  url: "file://{}"
  path: "{{topic}}/{{partition}}_{{offset}}"
  format: {{type: json_lines, compression: none}}
  {more}
"#,
        folder.display()
    );
    Arc::new(config::load(&text, &|_| None).unwrap().pipeline().unwrap())
}

fn produce(servers: &str, records: usize, partitions: usize) {
    let producer: ThreadedProducer<DefaultProducerContext> = ClientConfig::new().set("bootstrap.servers", servers).create().unwrap();
    for record in 0..records {
        let value = format!("{{\"id\":{record}}}");
        let partition = i32::try_from(record % partitions).unwrap();
        producer.send(BaseRecord::<str, str>::to("orders").partition(partition).payload(&value)).map_err(|(error, _)| error).unwrap();
    }
    producer.flush(Duration::from_secs(10)).unwrap();
}

/// Lines of all visible files, by file.
fn lines(folder: &Path) -> BTreeMap<String, Vec<String>> {
    let mut found = BTreeMap::new();
    for entry in std::fs::read_dir(folder.join("orders")).into_iter().flatten() {
        let entry = entry.unwrap();
        let name = entry.file_name().into_string().unwrap();
        if !name.starts_with('.') {
            found.insert(name, std::fs::read_to_string(entry.path()).unwrap().lines().map(str::to_owned).collect());
        }
    }
    found
}

#[tokio::test(flavor = "multi_thread")]
async fn everything_up_to_the_end_is_published_once_and_a_second_run_adds_nothing() {
    let _ = tracing_subscriber::fmt().with_env_filter(tracing_subscriber::EnvFilter::from_default_env()).with_test_writer().try_init();
    let cluster = MockCluster::new(1).unwrap();
    cluster.create_topic("orders", 3, 1).unwrap();
    let servers = cluster.bootstrap_servers();
    produce(&servers, 10_000, 3);
    let folder = tempfile::tempdir().unwrap();
    let pipeline = pipeline(&servers, folder.path(), "roll: {records: 1000}");
    for _ in 0..2 {
        let status = Status::new(&pipeline.name, pipeline.memory_bytes);
        let ended =
            pipeline::run(Arc::clone(&pipeline), Options { until_end: true, ..Options::default() }, status, Default::default()).await.unwrap();
        assert!(matches!(ended, Ended::Done), "{ended:?}");
        let files = lines(folder.path());
        let id = |line: &String| serde_json::from_str::<serde_json::Value>(line).unwrap()["id"].as_u64().unwrap();
        let mut ids: Vec<u64> = files.values().flatten().map(id).collect();
        ids.sort_unstable();
        assert_eq!(ids, (0..10_000).collect::<Vec<_>>());
        assert!(files.values().all(|lines| lines.len() <= 1000), "a file holds at most `roll.records`");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_to_the_end_asks_again_where_the_end_is_while_a_partition_changes_its_leader() {
    let cluster = MockCluster::new(1).unwrap();
    cluster.create_topic("orders", 1, 1).unwrap();
    let servers = cluster.bootstrap_servers();
    produce(&servers, 100, 1);
    cluster.request_errors(RDKafkaApiKey::ListOffsets, &[RDKafkaRespErr::RD_KAFKA_RESP_ERR_UNKNOWN_LEADER_EPOCH; 3]);
    let folder = tempfile::tempdir().unwrap();
    let pipeline = pipeline(&servers, folder.path(), "");
    let ended = pipeline::run(
        Arc::clone(&pipeline),
        Options { until_end: true, ..Options::default() },
        Status::new(&pipeline.name, pipeline.memory_bytes),
        Default::default(),
    )
    .await
    .unwrap();
    assert!(matches!(ended, Ended::Done), "{ended:?}");
    assert_eq!(lines(folder.path()).values().map(Vec::len).sum::<usize>(), 100);
}
