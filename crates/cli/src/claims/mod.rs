//! The claim check on the command line: `kas3 produce`, `kas3 consume`, and the container's entry `kas3 claim-check`.
//!
//! Producer and Consumer come from `kas3-claimcheck`; here are their settings, what they read from and write to, their
//! counters, and how they are asked to stop.

mod consume;
mod deliver;
mod ends;
mod entry;
mod environment;
mod input;
pub(crate) mod log;
mod manual;
mod produce;
pub(crate) mod settings;
pub(crate) mod tally;
mod traces;

pub(crate) use consume::{ConsumeArguments, consume};
pub(crate) use entry::{ClaimCheckArguments, claim_check};
pub(crate) use manual::reference_page;
pub(crate) use produce::{ProduceArguments, produce};

use crate::{
    http::{self, Port},
    signals,
};
use settings::Claims;
use std::sync::Arc;
use tally::Tally;
use tokio_util::sync::CancellationToken;

/// What runs beside a command's loop, until it is dropped.
struct Session {
    tally: Arc<Tally>,
    stop: CancellationToken,
    _port: Option<Port>,
    _traces: traces::Traces,
}

impl Session {
    /// Listens for signals and, where the settings say so, for questions about the counters.
    async fn open(claims: &Claims) -> anyhow::Result<Session> {
        let (tally, stop) = (Arc::new(Tally::new()), CancellationToken::new());
        signals::watch(stop.clone())?;
        let setting = claims.named("http", "METRICS_PORT");
        let port = match claims.http()? {
            None => None,
            Some(address) => match Port::open_for(address, http::claims_router(Arc::clone(&tally)), setting).await {
                Ok(port) => Some(port),
                Err(error) if claims.http_is_wanted => return Err(error),
                Err(error) => {
                    tracing::warn!(error = format!("{error:#}"), "no metrics: set `METRICS_PORT` to a free port, or to 0");
                    None
                }
            },
        };
        Ok(Session { tally, stop, _port: port, _traces: traces::Traces::install()? })
    }
}
