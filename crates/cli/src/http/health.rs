//! `/health`, `/health/live` and `/health/ready`: 200 when all is well, 503 with the reasons otherwise.
//!
//! | path | 503 when | for |
//! | --- | --- | --- |
//! | `/health` | a condition is failing | alerts |
//! | `/health/live` | the poll loop is silent | liveness probes: a restart would help |
//! | `/health/ready` | the process still starts, or leaves | readiness probes |
//!
//! A stopped partition waits for a person; a store that is down and brokers that do not answer come back by themselves. A restart
//! would help none of them, so they are no reason for `/health/live`.

use super::api::redact_conditions;
use axum::{
    Json,
    extract::State,
    http::StatusCode,
    response::{IntoResponse, Response},
};
use kas3_sink::{
    conditions::{Condition, ConditionKind},
    status::{Phase, Snapshot, Status},
};
use serde::Serialize;
use std::sync::Arc;

#[derive(Serialize)]
struct Health {
    status: &'static str,
    phase: Phase,
    /// What is failing, in words.
    reasons: Vec<String>,
    /// All of what is wrong or waited for, the worst first; those with the severity `warning` are no reason for a 503.
    conditions: Vec<Condition>,
}

pub(super) async fn health(State(status): State<Arc<Status>>) -> Response {
    let mut snapshot = status.snapshot();
    redact_conditions(&mut snapshot.conditions);
    let reasons = reasons(&snapshot);
    answer(snapshot, reasons)
}

pub(super) async fn live(State(status): State<Arc<Status>>) -> Response {
    let mut snapshot = status.snapshot();
    snapshot.conditions.retain(|condition| condition.kind == ConditionKind::PollSilent);
    let reasons = reasons(&snapshot);
    answer(snapshot, reasons)
}

pub(super) async fn ready(State(status): State<Arc<Status>>) -> Response {
    let mut snapshot = status.snapshot();
    snapshot.conditions.clear();
    let reasons = match snapshot.phase {
        Phase::Running => Vec::new(),
        Phase::Starting => vec!["the process is starting".to_owned()],
        Phase::Stopping => vec!["the process is stopping".to_owned()],
    };
    answer(snapshot, reasons)
}

fn reasons(snapshot: &Snapshot) -> Vec<String> {
    let words = |condition: &Condition| match &condition.hint {
        Some(hint) => format!("{} (hint: {hint})", condition.text),
        None => condition.text.clone(),
    };
    snapshot.failing().map(words).collect()
}

fn answer(snapshot: Snapshot, reasons: Vec<String>) -> Response {
    let (code, status) = if reasons.is_empty() { (StatusCode::OK, "ok") } else { (StatusCode::SERVICE_UNAVAILABLE, "failing") };
    (code, Json(Health { status, phase: snapshot.phase, reasons, conditions: snapshot.conditions })).into_response()
}
