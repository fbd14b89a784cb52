//! The HTTP port of `kas3 produce` and `kas3 consume`: `/metrics` and `/health`.

use super::counters::Counters;
use crate::http::guarded;
use axum::{
    Json, Router,
    extract::State,
    http::{StatusCode, header},
    response::{IntoResponse, Response},
    routing::get,
};
use std::sync::Arc;

/// Prometheus text, as the sink's.
const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// The commands' counters, and whether they work.
pub(super) fn router(counters: Arc<Counters>) -> Router {
    let router = Router::new()
        .route("/health", get(health))
        .route("/health/live", get(health))
        .route("/health/ready", get(health))
        .route("/metrics", get(metrics))
        .fallback(|| async { (StatusCode::NOT_FOUND, "there is /health, /health/live, /health/ready and /metrics\n") })
        .with_state(counters);
    guarded(router)
}

async fn metrics(State(counters): State<Arc<Counters>>) -> impl IntoResponse {
    ([(header::CONTENT_TYPE, CONTENT_TYPE)], counters.text())
}

async fn health(State(counters): State<Arc<Counters>>) -> Response {
    match counters.silence() {
        None => Json(serde_json::json!({"status": "ok", "reasons": []})).into_response(),
        Some(silence) => {
            let reason = format!("the poll loop has been silent for {} s", silence.as_secs());
            (StatusCode::SERVICE_UNAVAILABLE, Json(serde_json::json!({"status": "failing", "reasons": [reason]}))).into_response()
        }
    }
}
