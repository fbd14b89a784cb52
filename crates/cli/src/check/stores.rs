//! Whether the stores can be written and keep their conditions, and what the bucket does by itself.

use super::{
    QUESTION_MAX,
    answers::{Answer, Asking},
};
use kas3_sink::{Error, Kind, plan::Pipeline};
use kas3_store::{BucketRules, Scheme, StorageSettings, Store, StoreUrl, Unobserved};
use std::{sync::Arc, time::Duration};

/// The sink's store and the ledger's, when both can be used.
pub(super) async fn all(asking: &Asking, pipeline: &Pipeline) -> (Vec<Answer>, Option<(Store, Store)>) {
    let settings = impatient(&pipeline.storage);
    if pipeline.ledger_url == pipeline.url {
        let (answers, store) = one(asking, pipeline, "sink", &pipeline.url, &settings).await;
        return (answers, store.map(|store| (store.clone(), store)));
    }
    let (sink, ledger) =
        tokio::join!(one(asking, pipeline, "sink", &pipeline.url, &settings), one(asking, pipeline, "ledger", &pipeline.ledger_url, &settings));
    let (mut answers, sink) = sink;
    answers.extend(ledger.0);
    (answers, sink.zip(ledger.1))
}

/// The settings with an end to repeating that comes before the question's: the store's own message says more.
fn impatient(settings: &StorageSettings) -> StorageSettings {
    let at_most = |set: Option<u64>, most: Duration| {
        let most = u64::try_from(most.as_millis()).unwrap_or(u64::MAX);
        Some(set.map_or(most, |set| set.min(most)))
    };
    StorageSettings {
        retry_time_ms: at_most(settings.retry_time_ms, QUESTION_MAX * 3 / 10),
        connect_timeout_ms: at_most(settings.connect_timeout_ms, QUESTION_MAX * 4 / 10),
        read_timeout_ms: at_most(settings.read_timeout_ms, QUESTION_MAX / 2),
        attempt_timeout_ms: at_most(settings.attempt_timeout_ms, QUESTION_MAX / 2),
        ..settings.clone()
    }
}

async fn one(asking: &Asking, pipeline: &Pipeline, what: &'static str, url: &str, settings: &StorageSettings) -> (Vec<Answer>, Option<Store>) {
    let asked = asking.ask(what, what, async {
        let store = Store::open(url, settings, Arc::new(Unobserved)).await?;
        let folder = format!("_kas3/{}/check", pipeline.name);
        let (conditions, rules) = tokio::join!(store.check_conditions(&folder), store.bucket_rules());
        Ok::<_, kas3_store::Error>((store, conditions, rules))
    });
    let (store, conditions, rules) = match asked.await {
        Ok(Ok(asked)) => asked,
        Ok(Err(error)) => return (vec![Answer::error(what, &error.into())], None),
        Err(answer) => return (vec![answer], None),
    };
    let usable = conditions.is_ok();
    let mut answers = vec![match conditions {
        Ok(()) => Answer::ok(
            what,
            format!("{what} `{}`: can be written and keeps its conditions (16 creates, 16 swaps and 2 completions raced)", store.url()),
        ),
        Err(error) => Answer::error(what, &error.into()),
    }];
    match rules {
        Ok(Some(rules)) if store.scheme() == Scheme::S3 => answers.extend(lifecycle(pipeline, what, &store, &rules)),
        Ok(None) if store.scheme() == Scheme::S3 => answers.push(Answer::warning(
            what,
            format!(
                "{what}: the store does not show lifecycle rules; with `s3:GetLifecycleConfiguration` this looks for one that deletes the ledger"
            ),
        )),
        Ok(_) => {}
        Err(error) => answers.push(Answer::warning(what, format!("{what}: lifecycle rules cannot be seen: {}", Error::from(error).chain()))),
    }
    (answers, usable.then_some(store))
}

/// Rules that delete what they should not, and the one that should be there.
fn lifecycle(pipeline: &Pipeline, what: &'static str, store: &Store, rules: &BucketRules) -> Vec<Answer> {
    let mut answers = Vec::new();
    let ledger = format!("_kas3/{}/", pipeline.name);
    for rule in rules.expiring(&ledger) {
        let text = format!("{what}: the bucket's rule `{}` deletes objects below `{ledger}`, where the ledger is", rule.id);
        let hint = "give that rule a prefix that leaves `_kas3/` out: a ledger that expires stops its partitions";
        answers.push(Answer::error(what, &Error::new(Kind::Config, text).hint(hint)));
    }
    for rule in rules.expiring("").filter(|rule| rule.expires_after_days.is_some_and(|days| days < 2)) {
        answers.push(Answer::warning(what, format!("{what}: the bucket's rule `{}` deletes files within two days", rule.id)));
    }
    answers.push(match rules.aborting("") {
        Some(rule) => Answer::ok(what, format!("{what}: the bucket's rule `{}` aborts incomplete uploads", rule.id)),
        None => Answer::warning(what, format!("{what}: no rule aborts incomplete uploads, which cost money until somebody does; to add one:"))
            .fix(abort_rule(store)),
    });
    answers
}

/// The command that adds the rule for incomplete uploads.
fn abort_rule(store: &Store) -> String {
    let (bucket, prefix) = StoreUrl::parse(store.url()).map_or(("", String::new()), |url| (url.bucket(), url.prefix()));
    let rule = serde_json::json!({ "Rules": [{
        "ID": "kas3-incomplete-uploads", "Status": "Enabled", "Filter": { "Prefix": prefix }, "AbortIncompleteMultipartUpload": { "DaysAfterInitiation": 7 },
    }] });
    format!(
        "aws s3api put-bucket-lifecycle-configuration --bucket {bucket} --lifecycle-configuration '{rule}'\n(it replaces all rules of the bucket: keep the others in it)"
    )
}
