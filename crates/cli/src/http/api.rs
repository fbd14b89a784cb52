//! `/api/status`: the whole snapshot as JSON, without secrets.

use crate::redact;
use axum::{Json, extract::State};
use kas3_sink::status::{Snapshot, Status};
use std::sync::Arc;

pub(super) async fn status(State(status): State<Arc<Status>>) -> Json<Snapshot> {
    let mut snapshot = status.snapshot();
    for (_, text) in &mut snapshot.warnings {
        *text = redact::text(text).into_owned();
    }
    for reason in snapshot.partitions.iter_mut().filter_map(|partition| partition.reason.as_mut()) {
        *reason = redact::text(reason).into_owned();
    }
    for reason in snapshot.stores.iter_mut().filter_map(|store| store.reason.as_mut()) {
        *reason = redact::text(reason).into_owned();
    }
    for text in snapshot.strangers.iter_mut().chain(snapshot.waiting.as_mut()) {
        *text = redact::text(text).into_owned();
    }
    Json(snapshot)
}
