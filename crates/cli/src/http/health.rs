//! `/health`, `/health/live` and `/health/ready`: 200 when all is well, 503 with the reasons otherwise.
//!
//! | path | 503 when | for |
//! | --- | --- | --- |
//! | `/health` | the poll loop is silent, a partition stopped, or a store is down | alerts |
//! | `/health/live` | the poll loop is silent | liveness probes: a restart would help |
//! | `/health/ready` | the process still starts, or leaves | readiness probes |
//!
//! A stopped partition waits for a person and a store that is down comes back by itself; a restart would help neither, so they
//! are no reason for `/health/live`.

use crate::redact;
use axum::{
    Json,
    extract::State,
    http::StatusCode,
    response::{IntoResponse, Response},
};
use kas3_sink::status::{Phase, Snapshot, Status};
use serde::Serialize;
use std::sync::Arc;

#[derive(Serialize)]
struct Health {
    status: &'static str,
    phase: Phase,
    reasons: Vec<String>,
}

pub(super) async fn health(State(status): State<Arc<Status>>) -> Response {
    let snapshot = status.snapshot();
    let mut reasons = silence(&snapshot);
    reasons.extend(snapshot.stopped().map(|partition| {
        let reason = partition.reason.as_deref().unwrap_or("no reason was kept");
        format!("partition `{}-{}` stopped: {}", partition.topic, partition.partition, redact::text(reason))
    }));
    reasons.extend(snapshot.stores_down().map(|(store, seconds)| {
        let reason = store.reason.as_deref().unwrap_or("no reason was kept");
        format!("store `{}` has been down for {seconds:.0} s: {}", store.store, redact::text(reason))
    }));
    reasons.extend(snapshot.strangers.iter().map(|stranger| format!("the consumer group has a stranger: {stranger}")));
    answer(&snapshot, reasons)
}

pub(super) async fn live(State(status): State<Arc<Status>>) -> Response {
    let snapshot = status.snapshot();
    let reasons = silence(&snapshot);
    answer(&snapshot, reasons)
}

pub(super) async fn ready(State(status): State<Arc<Status>>) -> Response {
    let snapshot = status.snapshot();
    let reasons = match snapshot.phase {
        Phase::Running => Vec::new(),
        Phase::Starting => vec!["the process is starting".to_owned()],
        Phase::Stopping => vec!["the process is stopping".to_owned()],
    };
    answer(&snapshot, reasons)
}

fn silence(snapshot: &Snapshot) -> Vec<String> {
    if snapshot.live() {
        return Vec::new();
    }
    vec![format!("the poll loop has been silent for {} s", snapshot.poll_age_ms / 1000)]
}

fn answer(snapshot: &Snapshot, reasons: Vec<String>) -> Response {
    let (code, status) = if reasons.is_empty() { (StatusCode::OK, "ok") } else { (StatusCode::SERVICE_UNAVAILABLE, "failing") };
    (code, Json(Health { status, phase: snapshot.phase, reasons })).into_response()
}
