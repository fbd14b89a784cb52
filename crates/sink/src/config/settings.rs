//! What the user writes.

use super::ordered::Ordered;
use crate::{
    plan::Beginning,
    properties::Properties,
    target::{SinkSettings, TopicSettings},
    transform::TransformSettings,
    units::{Bytes, Period},
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A pipeline: topics in, files out.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// Name of the pipeline: the folder of its ledger and the label of its metrics. Letters, digits, `-`, `_` and `.`.
    #[schemars(extend("examples" = ["orders"]))]
    pub name: String,
    /// Where records come from.
    pub source: SourceSettings,
    /// What happens to records on their way, in order: each `{type: …}`, with the settings of that type.
    #[serde(default)]
    pub transforms: Vec<TransformSettings>,
    /// Where records go.
    pub sink: SinkSettings,
    /// What differs per topic, by name or by `^expression`; the first that matches applies.
    #[serde(default)]
    pub topics: Ordered<TopicSettings>,
    /// Where the ledger lies, and in which form.
    #[serde(default)]
    pub ledger: LedgerSettings,
    /// The largest resident size of the process: Kafka's queues, open blocks, parts in flight. At least `80MiB`.
    #[serde(default = "default_memory")]
    #[schemars(extend("examples" = ["512MiB"]))]
    pub memory: Bytes,
    /// Address of page, `/health`, `/metrics` and `/api`, or `off`. Loopback unless you open it.
    #[serde(default = "default_http")]
    #[schemars(extend("format" = "address", "examples" = ["0.0.0.0:9080", "off"]))]
    pub http: String,
    /// How long SIGTERM may take to flush and publish before the process stops all the same; what was not committed is read again.
    #[serde(default = "default_shutdown")]
    #[schemars(extend("examples" = ["25s"]))]
    pub shutdown_deadline: Period,
}

fn default_memory() -> Bytes {
    Bytes(256 << 20)
}
fn default_http() -> String {
    "127.0.0.1:9080".to_owned()
}
fn default_shutdown() -> Period {
    Period(std::time::Duration::from_secs(25))
}

/// Where records come from.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SourceSettings {
    /// Topics: names, or regular expressions beginning with `^`, matched against the whole name.
    #[schemars(extend("examples" = [["orders", "^events\\..*"]]))]
    pub topics: Vec<String>,
    /// Consumer group; by default the pipeline's name.
    #[serde(default)]
    #[schemars(extend("examples" = ["orders-to-lake"]))]
    pub group: Option<String>,
    /// Where topics begin that the ledger does not know: `earliest`, `latest`, `{timestamp: 2026-01-01T00:00:00Z}` or
    /// `{group: connect-orders}` (that group's offsets). A topic that somebody else wrote to the sink before, another pipeline for
    /// one, does not begin, because its records would be there twice; with `beside: true` it does: `{from: latest, beside: true}`.
    #[serde(default)]
    #[schemars(extend("examples" = ["latest", {"timestamp": "2026-01-01T00:00:00Z"}, {"beside": true}]))]
    pub start: Beginning,
    /// librdkafka properties, as `bootstrap.servers`. `sasl.mechanism: AWS_MSK_IAM` signs in to Amazon MSK with the AWS
    /// credentials of the process.
    #[schemars(extend("examples" = [{"bootstrap.servers": "localhost:9092"}]))]
    pub kafka: Properties,
    /// How long a revocation may take to flush before the partition is given away; what was not committed by then is read
    /// again by its next owner.
    #[serde(default = "default_revoke")]
    #[schemars(extend("examples" = ["5s"]))]
    pub revoke_deadline: Period,
}

fn default_revoke() -> Period {
    Period(std::time::Duration::from_secs(5))
}

/// Where the ledger lies.
#[derive(Clone, Debug, Default, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct LedgerSettings {
    /// URL below which `_kas3/<pipeline>/ledger` lies; by default the sink's.
    #[serde(default)]
    #[schemars(extend("examples" = ["s3://bucket/ledger"]))]
    pub url: Option<String>,
    /// Version of the ledger's stored forms. Without it the oldest is written that holds what is needed, and a head is raised when
    /// something first needs a newer one, so that going back to an older kas3 stays possible until then. With it heads are raised to
    /// it and no further, and a setting that needs a newer version is refused at the start. There is only version 1 yet.
    #[serde(default)]
    #[schemars(extend("examples" = [1]))]
    pub version: Option<u32>,
}
