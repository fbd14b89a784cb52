//! The claim check on the command line: `kas3 produce`, `kas3 consume`, and the container's entry `kas3 claim-check`.
//!
//! Producer and Consumer come from `kas3-claimcheck`; here are their settings, what they read from and write to, their
//! counters, and how they are asked to stop.

mod consume;
mod container;
pub(crate) mod counters;
mod deliver;
mod environment;
mod input;
pub(crate) mod load;
pub(crate) mod log;
mod manual;
mod port;
mod produce;
pub(crate) mod settings;
mod traces;
mod until_end;

pub(crate) use consume::{ConsumeArguments, consume};
pub(crate) use container::{ClaimCheckArguments, claim_check};
pub(crate) use manual::reference_page;
pub(crate) use produce::{ProduceArguments, produce};

use crate::{http::Port, signals};
use counters::Counters;
use settings::Claims;
use std::sync::Arc;
use tokio_util::sync::CancellationToken;

/// What runs beside a command's loop, until it is dropped.
struct Session {
    counters: Arc<Counters>,
    stop: CancellationToken,
    _port: Option<Port>,
    _traces: traces::Traces,
}

impl Session {
    /// Listens for signals and, where the settings say so, for questions about the counters.
    async fn open(claims: &Claims) -> anyhow::Result<Session> {
        let (counters, stop) = (Arc::new(Counters::new()), CancellationToken::new());
        signals::watch(stop.clone())?;
        let setting = claims.named("http", "METRICS_PORT");
        let port = match claims.http()? {
            None => None,
            Some(address) => match Port::open_for(address, port::router(Arc::clone(&counters)), setting).await {
                Ok(port) => Some(port),
                Err(error) if claims.http_is_wanted => return Err(error),
                Err(error) => {
                    tracing::warn!(error = format!("{error:#}"), "no metrics: set `METRICS_PORT` to a free port, or to 0");
                    None
                }
            },
        };
        Ok(Session { counters, stop, _port: port, _traces: traces::Traces::install()? })
    }
}
