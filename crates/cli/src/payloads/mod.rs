//! `kas3 payloads`: the objects of the claim check, and the references that name them.

mod gc;
mod list;
mod live;
mod show;
mod verify;

use crate::{
    claims::{
        load::load,
        log::{Isolation, TopicLog},
        settings::Claims,
    },
    exit::Exit,
};
use clap::Subcommand;
use kas3_claimcheck::ClaimCheck;
use kas3_store::Info;
use std::{
    collections::BTreeMap,
    path::PathBuf,
    time::{Duration, SystemTime},
};

/// Look at payloads, check them, and delete what no record names any more
#[derive(Debug, Subcommand)]
pub(crate) enum PayloadsCommand {
    Ls(list::ListArguments),
    Show(show::ShowArguments),
    Verify(verify::VerifyArguments),
    Gc(gc::GcArguments),
}

/// Runs the command.
pub(crate) fn payloads(command: PayloadsCommand) -> anyhow::Result<Exit> {
    match command {
        PayloadsCommand::Ls(arguments) => list::list(arguments),
        PayloadsCommand::Show(arguments) => show::show(arguments),
        PayloadsCommand::Verify(arguments) => verify::verify(arguments),
        PayloadsCommand::Gc(arguments) => gc::gc(arguments),
    }
}

/// The settings, and the codec that they open.
async fn open(file: Option<&PathBuf>) -> anyhow::Result<(Claims, ClaimCheck)> {
    let claims = load(file.map(PathBuf::as_path))?;
    let codec = ClaimCheck::open(claims.settings.claim_check.clone()).await?;
    Ok((claims, codec))
}

/// The topics of the settings, to be read.
async fn connect(claims: &Claims, isolation: Isolation) -> anyhow::Result<TopicLog> {
    let kafka: BTreeMap<String, String> = claims.settings.kafka.0.clone();
    let servers = claims.named("kafka.bootstrap.servers", "KAFKA_BOOTSTRAP_SERVERS");
    tokio::task::spawn_blocking(move || TopicLog::connect(&kafka, isolation, servers)).await?
}

/// Objects asked for at once, in a page of a listing.
const PAGE: usize = 1000;
/// Looks and deletions beside one another.
const AT_ONCE: usize = 32;

/// Who wrote an object, as far as its metadata says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Owner {
    /// The claim check of kas3.
    ClaimCheck,
    /// A sink of kas3: never the business of these commands.
    Sink,
    /// Somebody else, or a format of somebody else.
    Unmarked,
}

impl Owner {
    /// From what a look at the object says; a listing does not.
    fn of(info: &Info) -> Owner {
        let has = |name: &str| info.metadata.as_ref().is_some_and(|metadata| metadata.contains_key(name));
        match () {
            () if is_of_a_sink(&info.path) || has("kas3-span") || has("kas3-next") => Owner::Sink,
            () if has("kas3-claim-check") => Owner::ClaimCheck,
            () => Owner::Unmarked,
        }
    }

    fn word(self) -> &'static str {
        match self {
            Owner::ClaimCheck => "kas3",
            Owner::Sink => "sink",
            Owner::Unmarked => "unmarked",
        }
    }
}

/// The ledgers and staged bytes of sinks lie in this folder.
fn is_of_a_sink(path: &str) -> bool {
    path.starts_with("_kas3/") || path.contains("/_kas3/")
}

/// How old an object is by this machine's clock; one from the future is new.
fn age(info: &Info) -> Duration {
    SystemTime::now().duration_since(info.modified).unwrap_or_default()
}
