//! What the bucket does by itself: lifecycle rules that delete objects or abort uploads.

use super::{S3, failures::Reply};
use crate::{BucketRule, BucketRules, Kind, Request, Result, answer::Answer};
use aws_sdk_s3::types::{ExpirationStatus, LifecycleRule, LifecycleRuleFilter};

impl Answer for Vec<LifecycleRule> {}

impl S3 {
    pub(crate) async fn bucket_rules(&self) -> Result<Option<BucketRules>> {
        let attempt = || async move {
            let request = self.client.get_bucket_lifecycle_configuration().bucket(&self.bucket);
            match request.set_expected_bucket_owner(self.writes.owner.clone()).send().await.map_err(Reply::of) {
                Ok(answer) => Ok(Some(answer.rules.unwrap_or_default())),
                Err(reply) if reply.code == "NoSuchLifecycleConfiguration" => Ok(Some(Vec::new())),
                Err(reply) if reply.is_not_implemented() => Ok(None),
                Err(reply) => Err(self.failure(Request::List, "?lifecycle", reply).await),
            }
        };
        match self.retries.run(Request::List, 0, None, attempt).await {
            Ok(rules) => Ok(rules.map(|rules| BucketRules { rules: rules.iter().filter_map(|rule| self.rule(rule)).collect() })),
            Err(error) if error.kind() == Kind::Denied => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// A rule that is on and reaches something below the store's prefix.
    fn rule(&self, rule: &LifecycleRule) -> Option<BucketRule> {
        if rule.status != ExpirationStatus::Enabled {
            return None;
        }
        let prefix = rule.filter.as_ref().and_then(filter_prefix).or_else(|| old_prefix(rule)).unwrap_or_default();
        let below = match prefix.strip_prefix(&self.root) {
            Some(below) => below.to_owned(),
            None if self.root.starts_with(&prefix) => String::new(),
            None => return None,
        };
        let days = |days: Option<i32>| days.and_then(|days| u32::try_from(days).ok());
        let expiration = rule.expiration.as_ref();
        let aborts = rule.abort_incomplete_multipart_upload.as_ref();
        Some(BucketRule {
            id: rule.id.clone().unwrap_or_default(),
            prefix: below,
            narrowed: rule.filter.as_ref().is_some_and(is_narrowed),
            expires: expiration.is_some_and(|expiration| expiration.days.is_some() || expiration.date.is_some()),
            expires_after_days: days(expiration.and_then(|expiration| expiration.days)),
            aborts_uploads_after_days: days(aborts.and_then(|aborts| aborts.days_after_initiation)),
        })
    }
}

fn filter_prefix(filter: &LifecycleRuleFilter) -> Option<String> {
    filter.prefix.clone().or_else(|| filter.and.as_ref().and_then(|and| and.prefix.clone()))
}

/// Rules made long ago name their prefix outside the filter.
#[allow(deprecated)]
fn old_prefix(rule: &LifecycleRule) -> Option<String> {
    rule.prefix.clone()
}

fn is_narrowed(filter: &LifecycleRuleFilter) -> bool {
    let sized = filter.object_size_greater_than.is_some() || filter.object_size_less_than.is_some();
    filter.tag.is_some() || sized || filter.and.is_some()
}
