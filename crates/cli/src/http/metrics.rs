//! `/metrics`: the status as Prometheus text.

use axum::{extract::State, http::header, response::IntoResponse};
use kas3_sink::{metrics, status::Status};
use std::sync::Arc;

pub(super) async fn metrics(State(status): State<Arc<Status>>) -> impl IntoResponse {
    ([(header::CONTENT_TYPE, metrics::CONTENT_TYPE)], metrics::text(&status.snapshot()))
}
