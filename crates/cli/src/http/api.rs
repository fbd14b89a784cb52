//! `/api/status`: the whole snapshot as JSON, without secrets.

use crate::redact;
use axum::{Json, extract::State};
use kas3_sink::{
    conditions::Condition,
    status::{Snapshot, Status},
};
use std::sync::Arc;

pub(super) async fn status(State(status): State<Arc<Status>>) -> Json<Snapshot> {
    let mut snapshot = status.snapshot();
    for (_, text) in &mut snapshot.warnings {
        *text = redact::text(text).into_owned();
    }
    for reason in snapshot.partitions.iter_mut().filter_map(|partition| partition.reason.as_mut()) {
        *reason = redact::text(reason).into_owned();
    }
    redact_conditions(&mut snapshot.conditions);
    for refused in snapshot.partitions.iter_mut().flat_map(|partition| &mut partition.refused_last) {
        refused.detail = redact::text(&refused.detail).into_owned();
    }
    for reason in snapshot.stores.iter_mut().filter_map(|store| store.reason.as_mut()) {
        *reason = redact::text(reason).into_owned();
    }
    Json(snapshot)
}

/// Takes secrets out of what is shown of conditions.
pub(super) fn redact_conditions(conditions: &mut [Condition]) {
    for condition in conditions {
        let hint = condition.hint.iter_mut();
        for text in hint.chain([&mut condition.reason, &mut condition.text]) {
            *text = redact::text(text).into_owned();
        }
    }
}
