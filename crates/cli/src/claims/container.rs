//! `kas3 claim-check`: the container's entry, which `MODE` turns into `produce` or `consume`.

use super::{ConsumeArguments, ProduceArguments, consume, produce};
use crate::exit::{Exit, usage};
use clap::Args;

/// Produce or consume as the environment says: the entry of a container
///
/// `MODE=producer` sends the lines of standard input, `MODE=consumer` (the default) writes payloads to standard output; all other
/// variables are those of `kas3 produce` and `kas3 consume` without a file, which are kaf-s3-connector's.
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  MODE=producer TOPIC=orders S3_BUCKET=payloads KAFKA_BOOTSTRAP_SERVERS=broker:9092 kas3 claim-check < lines
  MODE=consumer TOPIC=orders S3_BUCKET=payloads KAFKA_GROUP_ID=readers kas3 claim-check")]
pub(crate) struct ClaimCheckArguments {}

/// Runs the command.
pub(crate) fn claim_check(_: ClaimCheckArguments) -> anyhow::Result<Exit> {
    let mode = std::env::var("MODE").unwrap_or_default();
    match mode.trim() {
        "producer" => produce(ProduceArguments::default()),
        "" | "consumer" => consume(ConsumeArguments::default()),
        other => Err(usage(format!("the environment variable `MODE` is `{other}`"), "set it to `producer` or `consumer`")),
    }
}
