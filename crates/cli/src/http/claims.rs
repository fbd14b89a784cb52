//! `/metrics` and `/health` of `kas3 produce` and `kas3 consume`.

use crate::claims::tally::Tally;
use axum::{
    Json,
    extract::State,
    http::{StatusCode, header},
    response::{IntoResponse, Response},
};
use std::sync::Arc;

/// Prometheus text, as the sink's.
const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

pub(super) async fn metrics(State(tally): State<Arc<Tally>>) -> impl IntoResponse {
    ([(header::CONTENT_TYPE, CONTENT_TYPE)], tally.text())
}

pub(super) async fn health(State(tally): State<Arc<Tally>>) -> Response {
    match tally.silence() {
        None => Json(serde_json::json!({"status": "ok", "reasons": []})).into_response(),
        Some(silence) => {
            let reason = format!("the poll loop has been silent for {} s", silence.as_secs());
            (StatusCode::SERVICE_UNAVAILABLE, Json(serde_json::json!({"status": "failing", "reasons": [reason]}))).into_response()
        }
    }
}
