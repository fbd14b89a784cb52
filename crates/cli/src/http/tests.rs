//! The port as a client sees it, over a socket.

use super::*;
use kas3_sink::{config, span::TopicPartition, status::Phase};
use std::sync::atomic::Ordering;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

async fn opened() -> (Port, Arc<Status>) {
    let text = "name: orders\nsource: {topics: [orders], kafka: {bootstrap.servers: 'localhost:9092'}}\nsink: {url: 'file:///tmp/lake'}\n";
    let pipeline = config::load(text, &|_| None).and_then(|loaded| loaded.pipeline()).expect("a configuration");
    let status = Status::new(&pipeline.name, pipeline.memory_bytes);
    let port = Port::open(SocketAddr::from(([127, 0, 0, 1], 0)), Arc::clone(&status)).await.expect("a free port");
    (port, status)
}

async fn ask(port: &Port, request: &str) -> String {
    let mut stream = TcpStream::connect(port.address()).await.expect("the port is open");
    stream.write_all(request.as_bytes()).await.expect("written");
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await.expect("read");
    String::from_utf8(answer).expect("text")
}

async fn get(port: &Port, path: &str) -> (u16, String, String) {
    let answer = ask(port, &format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")).await;
    let (head, body) = answer.split_once("\r\n\r\n").expect("a head");
    let code = head.split(' ').nth(1).and_then(|code| code.parse().ok()).expect("a code");
    (code, head.to_lowercase(), body.to_owned())
}

#[tokio::test]
async fn health_says_why_and_only_silence_asks_for_a_restart() {
    let (port, status) = opened().await;
    assert_eq!(get(&port, "/health/ready").await.0, 503, "it starts");
    status.set_phase(Phase::Running);
    for path in ["/health", "/health/live", "/health/ready"] {
        assert_eq!(get(&port, path).await.0, 200, "{path}");
    }
    status.partition(&TopicPartition::new("orders", 3)).stop("retention overtook it", Some("decide"));
    let (code, _, body) = get(&port, "/health").await;
    assert_eq!(code, 503);
    assert!(body.contains("orders-3") && body.contains("retention overtook it"), "{body}");
    let json: serde_json::Value = serde_json::from_str(&body).expect("JSON");
    assert_eq!((&json["conditions"][0]["kind"], &json["conditions"][0]["hint"]), (&"partition_stopped".into(), &"decide".into()));
    assert_eq!(get(&port, "/health/live").await.0, 200, "a restart would not help");
    status.silence_ms(120_000);
    let (code, _, body) = get(&port, "/health/live").await;
    assert_eq!(code, 503);
    assert!(body.contains("silent for 120 s"), "{body}");
}

#[tokio::test]
async fn the_page_loads_nothing_from_elsewhere_and_no_answer_is_kept_or_guessed() {
    let (port, _) = opened().await;
    for (path, kind) in [
        ("/", "text/html"),
        ("/page.css", "text/css"),
        ("/page.js", "text/javascript"),
        ("/api/status", "application/json"),
        ("/metrics", "text/plain"),
    ] {
        let (code, head, body) = get(&port, path).await;
        assert_eq!(code, 200, "{path}");
        assert!(head.contains(&format!("content-type: {kind}")), "{path}: {head}");
        for header in ["content-security-policy: default-src 'none'", "x-content-type-options: nosniff", "cache-control: no-store"] {
            assert!(head.contains(header), "{path}: {header} is not in {head}");
        }
        assert!(!body.contains("http://") && !body.contains("https://"), "{path} names another place");
    }
    assert_eq!(get(&port, "/etc/passwd").await.0, 404);
    assert_eq!(get(&port, "/../page.css").await.0, 404);
}

#[tokio::test]
async fn the_status_is_what_the_pipeline_counted() {
    let (port, status) = opened().await;
    let partition = status.partition(&TopicPartition::new("orders", 0));
    partition.published.store(90, Ordering::Relaxed);
    partition.end.store(100, Ordering::Relaxed);
    partition.files.store(7, Ordering::Relaxed);
    let (_, _, body) = get(&port, "/api/status").await;
    let json: serde_json::Value = serde_json::from_str(&body).expect("JSON");
    assert_eq!((&json["pipeline"], &json["partitions"][0]["lag_records"]), (&"orders".into(), &10.into()));
    let (_, _, metrics) = get(&port, "/metrics").await;
    assert!(metrics.contains("kas3_files_published_total{pipeline=\"orders\",topic=\"orders\",partition=\"0\"} 7"), "{metrics}");
}

#[tokio::test]
async fn whoever_writes_or_sends_too_much_is_refused() {
    let (port, _) = opened().await;
    for method in ["POST", "PUT", "DELETE", "OPTIONS"] {
        let answer = ask(&port, &format!("{method} / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")).await;
        assert!(answer.starts_with("HTTP/1.1 405"), "{method}: {answer}");
    }
    let long = format!("GET /{} HTTP/1.1\r\nHost: localhost\r\n\r\n", "a".repeat(100_000));
    let mut stream = TcpStream::connect(port.address()).await.expect("the port is open");
    let _ = stream.write_all(long.as_bytes()).await;
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer).await;
    let answer = String::from_utf8_lossy(&answer);
    assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 414") || answer.starts_with("HTTP/1.1 431"), "{answer}");
    assert_eq!(get(&port, "/health/live").await.0, 200, "it goes on");
}

#[tokio::test]
async fn a_port_that_is_taken_names_the_setting() {
    let (port, status) = opened().await;
    let error = Port::open(port.address(), status).await.err().expect("an error");
    let error = error.downcast_ref::<Error>().expect("our error");
    assert_eq!(error.kind(), Kind::Config);
    assert!(error.to_string().contains("`http: 127.0.0.1:") && error.way_out().is_some_and(|hint| hint.contains("`off`")), "{error:?}");
}

#[path = "../../../../fuzz/src/port.rs"]
mod port;

#[test]
fn requests_that_fuzzing_found_are_answered_or_refused() {
    let corpus = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/corpus/http");
    let mut files = 0;
    for entry in std::fs::read_dir(&corpus).expect("a corpus") {
        port::requests(&std::fs::read(entry.expect("a file").path()).expect("readable"));
        files += 1;
    }
    assert!(files > 10, "{files} files in {}", corpus.display());
}
