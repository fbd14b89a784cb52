//! What comes over a connection to the port of a worker.

use crate::http::{router, serve};
use axum::Router;
use kas3_sink::{config, status::Status};
use std::time::Duration;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, duplex},
    runtime::{Builder, Runtime},
};

/// What either side may have under way; more than all answers to one input.
const BUFFER_BYTES: usize = 4 << 20;
/// Turns after which everything that arrived is answered: there is no waiting in memory.
const TURNS: usize = 200;
/// Ends a connection that would not end by itself.
const TIME_MAX: Duration = Duration::from_secs(5);

thread_local! {
    static RUNTIME: Runtime = Builder::new_current_thread().enable_time().build().expect("a runtime");
    static ROUTER: Router = {
        let text = "name: orders\nsource: {topics: [orders], kafka: {bootstrap.servers: 'localhost:9092'}}\nsink: {url: 'file:///tmp/lake'}\n";
        let pipeline = config::load(text, &|_| None).and_then(|loaded| loaded.pipeline()).expect("a configuration");
        router(Status::new(&pipeline.name, pipeline.memory_bytes))
    };
}

/// Whatever is sent, each answer is a status that the port has, and a page only to a GET or a HEAD.
pub(crate) fn requests(data: &[u8]) {
    let answer = RUNTIME.with(|runtime| runtime.block_on(talk(data, ROUTER.with(Router::clone))));
    let first = answer.split(|byte| *byte == b'\n').next().unwrap_or_default();
    let first = String::from_utf8_lossy(first);
    if answer.is_empty() {
        return;
    }
    let status = first.strip_prefix("HTTP/1.").and_then(|rest| rest.get(2..5)).unwrap_or_else(|| panic!("no answer: {first}"));
    assert!(["200", "400", "404", "405", "408", "414", "431", "503"].contains(&status), "{first}");
    let ours = ["200", "404", "405", "503"].contains(&status);
    let head = String::from_utf8_lossy(&answer).to_lowercase();
    assert!(!ours || head.contains("x-content-type-options: nosniff"), "{head}");
    let reads = data.trim_ascii_start().starts_with(b"GET ") || data.trim_ascii_start().starts_with(b"HEAD ");
    assert!(reads || status != "200", "{first}");
}

async fn talk(data: &[u8], router: Router) -> Vec<u8> {
    let (mut client, server) = duplex(BUFFER_BYTES);
    let served = tokio::time::timeout(TIME_MAX, serve(server, router));
    let ask = async {
        let mut answer = Vec::new();
        let _ = client.write_all(data).await;
        for _ in 0..TURNS {
            tokio::task::yield_now().await;
        }
        let _ = client.shutdown().await;
        let _ = client.read_to_end(&mut answer).await;
        answer
    };
    let (served, answer) = tokio::join!(served, ask);
    assert!(served.is_ok(), "a connection that its client has closed does not end");
    answer
}
