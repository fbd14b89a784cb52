//! Whether the HTTP port can be opened.

use super::answers::{Answer, Asking};
use kas3_sink::{Error, Kind, plan::Pipeline};
use serde_json::Value;
use std::{io, net::SocketAddr, time::Duration};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};

/// How long whoever listens there may take to say who it is.
const WHO_MAX: Duration = Duration::from_secs(2);
/// Bytes of an answer at most.
const ANSWER_BYTES_MAX: u64 = 4 << 20;

/// Tries to listen where `run` would.
pub(super) async fn free(asking: &Asking, pipeline: &Pipeline) -> Vec<Answer> {
    let Some(address) = pipeline.http else { return Vec::new() };
    vec![asking.ask("http", "the port", tried(address, &pipeline.name)).await.unwrap_or_else(|answer| answer)]
}

async fn tried(address: SocketAddr, pipeline: &str) -> Answer {
    let error = match TcpListener::bind(address).await {
        Ok(_) => return Answer::ok("http", format!("http `{address}` is free")),
        Err(error) => error,
    };
    let failed = Error::new(Kind::Config, format!("cannot listen on `http: {address}`"));
    if error.kind() != io::ErrorKind::AddrInUse {
        return Answer::error("http", &failed.source(error).hint("set `http` to an address of this machine, as `127.0.0.1:9080`, or to `off`"));
    }
    match tokio::time::timeout(WHO_MAX, who(address)).await.ok().flatten() {
        Some(other) if other == pipeline => {
            Answer::warning("http", format!("http `{address}`: a worker of this pipeline listens there already, so it runs on this machine"))
                .fix("a second one here needs an `http` of its own, or `off`")
        }
        Some(other) => {
            Answer::error("http", &failed.source(error).hint(format!("pipeline `{other}` listens there: set `http` to a free port, or to `off`")))
        }
        None => Answer::error("http", &failed.source(error).hint("another program listens there: set `http` to a free port, or to `off`")),
    }
}

/// The pipeline whose worker listens there, if one does.
async fn who(address: SocketAddr) -> Option<String> {
    let mut stream = TcpStream::connect(address).await.ok()?;
    let request = format!("GET /api/status HTTP/1.1\r\nHost: localhost:{}\r\nConnection: close\r\n\r\n", address.port());
    stream.write_all(request.as_bytes()).await.ok()?;
    let mut answer = Vec::new();
    stream.take(ANSWER_BYTES_MAX).read_to_end(&mut answer).await.ok()?;
    let body = answer.windows(4).position(|bytes| bytes == b"\r\n\r\n").map(|at| &answer[at + 4..])?;
    Some(serde_json::from_slice::<Value>(body).ok()?.get("pipeline")?.as_str()?.to_owned())
}
