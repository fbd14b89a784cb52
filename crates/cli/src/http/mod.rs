//! The HTTP port: page, health, metrics and status of one process.
//!
//! It only reads, answers GET and HEAD alone, and holds its limits whoever talks to it: connections, size and time of a
//! request's head, time of a connection. Nothing on the page comes from another place.
//!
//! ```text
//! $ curl -s http://127.0.0.1:9080/health
//! {"status":"ok","phase":"running","reasons":[],"conditions":[]}
//! ```

mod api;
mod health;
mod host;
mod metrics;
mod page;

use axum::{
    Router,
    extract::Request,
    http::{HeaderName, HeaderValue, Method, StatusCode, header},
    middleware::{self, Next},
    response::{IntoResponse, Response},
    routing::get,
};
use hyper::server::conn::http1;
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    service::TowerToHyperService,
};
use kas3_sink::{Error, Kind, status::Status};
use std::{net::SocketAddr, sync::Arc, time::Duration};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpListener,
    sync::Semaphore,
    task::JoinHandle,
};

/// Connections at once; more wait in the system's queue.
const CONNECTIONS_MAX: usize = 64;
/// Time for the head of a request, the wait for it on a kept connection included.
const HEAD_TIME_MAX: Duration = Duration::from_secs(10);
/// Time of a whole connection.
const CONNECTION_TIME_MAX: Duration = Duration::from_secs(300);
/// Bytes of a request's head.
const HEAD_BYTES_MAX: usize = 16 << 10;
/// Headers of a request.
const HEADERS_MAX: usize = 64;

/// The port, open until this is dropped.
pub(crate) struct Port {
    address: SocketAddr,
    task: JoinHandle<()>,
}

impl Port {
    /// Opens the port and answers for `status`.
    ///
    /// # Errors
    /// `Config` when the address cannot be used.
    pub(crate) async fn open(address: SocketAddr, status: Arc<Status>) -> anyhow::Result<Port> {
        Port::open_for(address, router(status), "http").await
    }

    /// Opens the port and answers by `router`; `setting` is what names the address.
    ///
    /// # Errors
    /// `Config` when the address cannot be used.
    pub(crate) async fn open_for(address: SocketAddr, router: Router, setting: &str) -> anyhow::Result<Port> {
        let listener = TcpListener::bind(address).await.map_err(|error| {
            let hint = match error.kind() {
                std::io::ErrorKind::AddrInUse if setting == "http" => {
                    "another program, perhaps another kas3, has this port: set `http` to a free one, or to `off`".to_owned()
                }
                std::io::ErrorKind::AddrInUse => format!("another program, perhaps another kas3, has this port: set `{setting}` to a free one"),
                _ => format!("set `{setting}` to an address of this machine, as `127.0.0.1`"),
            };
            Error::new(Kind::Config, format!("cannot listen on `{setting}: {address}`")).source(error).hint(hint)
        })?;
        let address = listener.local_addr()?;
        let router = if address.ip().is_loopback() { router.layer(middleware::from_fn(host::local)) } else { router };
        Ok(Port { address, task: tokio::spawn(accept(listener, router)) })
    }

    /// Where it listens.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for Port {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn accept(listener: TcpListener, router: Router) {
    /// Wait after the system had no more descriptors or memory for a connection.
    const PAUSE: Duration = Duration::from_millis(100);
    let permits = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    loop {
        let Ok(permit) = Arc::clone(&permits).acquire_owned().await else { return };
        match listener.accept().await {
            Ok((stream, _)) => {
                let router = router.clone();
                tokio::spawn(async move {
                    let _ = tokio::time::timeout(CONNECTION_TIME_MAX, serve(stream, router)).await;
                    drop(permit);
                });
            }
            Err(error) => {
                tracing::debug!(%error, "an HTTP connection could not be accepted");
                tokio::time::sleep(PAUSE).await;
            }
        }
    }
}

/// Answers what comes over a connection, until it ends.
pub(crate) async fn serve(stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static, router: Router) {
    let served = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIME_MAX)
        .max_buf_size(HEAD_BYTES_MAX)
        .max_headers(HEADERS_MAX)
        .serve_connection(TokioIo::new(stream), TowerToHyperService::new(router))
        .await;
    if let Err(error) = served {
        tracing::trace!(%error, "an HTTP connection ended early");
    }
}

/// Everything that can be asked for.
pub(crate) fn router(status: Arc<Status>) -> Router {
    let router = Router::new()
        .route("/", get(page::page))
        .route("/page.css", get(page::style))
        .route("/page.js", get(page::script))
        .route("/health", get(health::health))
        .route("/health/live", get(health::live))
        .route("/health/ready", get(health::ready))
        .route("/metrics", get(metrics::metrics))
        .route("/api/status", get(api::status))
        .fallback(|| async { (StatusCode::NOT_FOUND, "there is /, /health, /health/live, /health/ready, /metrics and /api/status\n") })
        .with_state(status);
    guarded(router)
}

/// Answers GET and HEAD alone, with the headers that every answer has.
pub(crate) fn guarded(router: Router) -> Router {
    router.layer(middleware::from_fn(guard))
}

/// Headers of every answer: nothing is guessed, framed, kept, or loaded from elsewhere.
const SECURITY: [(HeaderName, &str); 6] = [
    (
        header::CONTENT_SECURITY_POLICY,
        "default-src 'none'; img-src data:; style-src 'self'; script-src 'self'; connect-src 'self'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'",
    ),
    (HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
    (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    (header::X_FRAME_OPTIONS, "DENY"),
    (header::REFERRER_POLICY, "no-referrer"),
    (header::CACHE_CONTROL, "no-store"),
];

async fn guard(request: Request, next: Next) -> Response {
    let mut response = if matches!(*request.method(), Method::GET | Method::HEAD) {
        next.run(request).await
    } else {
        (StatusCode::METHOD_NOT_ALLOWED, [(header::ALLOW, "GET, HEAD")], "this port only reads\n").into_response()
    };
    for (name, value) in SECURITY {
        response.headers_mut().insert(name, HeaderValue::from_static(value));
    }
    response
}

#[cfg(test)]
mod tests;
