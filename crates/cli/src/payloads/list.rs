//! `kas3 payloads ls`: what lies below the prefix.

use super::{AT_ONCE, Owner, PAGE, age};
use crate::{
    exit::Exit,
    output::{Results, tell},
    readable, runtime,
};
use clap::Args;
use futures::{StreamExt, TryStreamExt, stream};
use kas3_claimcheck::ClaimCheck;
use kas3_sink::units::Period;
use kas3_store::Info;
use serde_json::json;
use std::path::PathBuf;

/// List the objects below the prefix: age, size, and whether kas3's claim check wrote them
///
/// Asks the store alone, not Kafka: whether a record names an object is what `verify` and `gc` find out.
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  kas3 payloads ls claims.yaml
  kas3 payloads ls claims.yaml --older-than 30d --json")]
pub(crate) struct ListArguments {
    /// Settings; from the environment when there is none
    #[arg(value_name = "FILE")]
    settings: Option<PathBuf>,
    /// Only objects at least so old, as `24h`
    #[arg(long, value_name = "AGE")]
    older_than: Option<Period>,
    /// At most so many objects
    #[arg(long, value_name = "COUNT")]
    limit: Option<usize>,
    /// A JSON line for each object
    #[arg(long)]
    json: bool,
}

/// Runs the command.
pub(crate) fn list(arguments: ListArguments) -> anyhow::Result<Exit> {
    runtime::block_on(async move {
        let (_, codec) = super::open(arguments.settings.as_ref()).await?;
        let mut results = Results::new();
        let (mut objects, mut bytes, mut after) = (0, 0, None::<String>);
        if !arguments.json {
            results.line(&row("SIZE", "AGE", "WRITTEN BY", "KEY"))?;
        }
        'pages: loop {
            let page = codec.store().list("", after.as_deref(), PAGE).await?;
            after = page.last().map(|info| info.path.clone());
            let last = page.len() < PAGE;
            let wanted = page.into_iter().filter(|info| arguments.older_than.is_none_or(|least| age(info) >= least.0));
            let mut looks = stream::iter(wanted).map(|listed| look(&codec, listed)).buffered(AT_ONCE);
            while let Some(info) = looks.try_next().await? {
                if arguments.limit.is_some_and(|limit| objects >= limit) {
                    break 'pages;
                }
                objects += 1;
                bytes += info.bytes;
                results.line(&line(&codec, &info, arguments.json))?;
            }
            if last {
                break;
            }
        }
        results.flush()?;
        tell(&format!("{} below {} ({})", readable::count(objects as u64, "object"), codec.url(), readable::bytes(bytes)));
        Ok(Exit::Done)
    })
}

/// A listing holds no metadata.
async fn look(codec: &ClaimCheck, listed: Info) -> kas3_store::Result<Info> {
    if listed.metadata.is_some() {
        return Ok(listed);
    }
    Ok(codec.store().info(&listed.path).await?.unwrap_or(listed))
}

fn line(codec: &ClaimCheck, info: &Info, as_json: bool) -> String {
    let owner = Owner::of(info);
    let (_, key) = codec.named(&info.path);
    if as_json {
        let modified = jiff::Timestamp::try_from(info.modified).map_or(String::new(), |time| time.to_string());
        return json!({"key": key, "bytes": info.bytes, "age_seconds": age(info).as_secs(), "modified": modified, "written_by": owner.word()})
            .to_string();
    }
    row(&readable::bytes(info.bytes), &readable::duration(age(info)), owner.word(), &key)
}

fn row(size: &str, age: &str, owner: &str, key: &str) -> String {
    format!("{size:>10}  {age:>12}  {owner:<10}  {key}")
}
