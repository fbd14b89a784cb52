//! AWS credentials for whoever signs requests of his own: Kafka's `AWS_MSK_IAM`.

use crate::{
    Error, Kind, Result, StorageSettings,
    credentials::{Keys, MISSING_HINT},
    s3::client,
};
use aws_config::Region;
use aws_credential_types::{Credentials, provider::ProvideCredentials};

/// Credentials that the settings lead to, in `region` or else in the region that settings, environment or profile name; and
/// that region.
///
/// # Errors
/// `Config` when no region is known; `Denied` when there are no credentials.
pub async fn aws_credentials(settings: &StorageSettings, region: Option<String>) -> Result<(Credentials, String)> {
    let http = client::http_client(settings)?;
    let region = match region {
        Some(region) => region,
        None => {
            let config = client::config(settings, None, http.clone()).await;
            let region = config.region().map(ToString::to_string);
            region.ok_or_else(|| Error::new(Kind::Config, "no AWS region is known").hint("set `AWS_REGION`, or a region in the profile"))?
        }
    };
    let keys = Keys::new(settings, Region::new(region.clone()), http);
    let credentials = keys.provide_credentials().await;
    let credentials = credentials.map_err(|source| Error::new(Kind::Denied, "no AWS credentials can be had").source(source).hint(MISSING_HINT))?;
    Ok((credentials, region))
}
