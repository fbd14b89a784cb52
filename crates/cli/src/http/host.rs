//! Who may ask on loopback: whoever names this machine as such.
//!
//! A page from elsewhere can have its own name resolve to 127.0.0.1, and would then be let by the browser to read what this
//! port answers. Its name stands in the `Host` header.

use axum::{
    extract::Request,
    http::{StatusCode, header},
    middleware::Next,
    response::{IntoResponse, Response},
};
use std::net::IpAddr;

/// Refuses a request that names a host other than `localhost` or an address.
pub(super) async fn local(request: Request, next: Next) -> Response {
    let named = request.headers().get(header::HOST).map(|host| host.to_str().unwrap_or("?"));
    if named.is_none_or(is_local) {
        return next.run(request).await;
    }
    (StatusCode::MISDIRECTED_REQUEST, "this port answers to localhost and to addresses only: let a proxy set `Host: localhost`\n").into_response()
}

/// Whether `host[:port]` is `localhost`, a name below it, or an address.
fn is_local(host: &str) -> bool {
    let name = match host.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((address, _)) => address,
        None => host.rsplit_once(':').map_or(host, |(name, _)| name),
    };
    let name = name.trim_end_matches('.').to_ascii_lowercase();
    name == "localhost" || name.ends_with(".localhost") || name.parse::<IpAddr>().is_ok()
}

#[cfg(test)]
mod tests {
    use super::is_local;

    #[test]
    fn only_addresses_and_localhost_are_local() {
        for host in ["localhost", "LocalHost:9080", "kas3.localhost", "127.0.0.1:9080", "[::1]:9080", "10.0.0.7"] {
            assert!(is_local(host), "{host}");
        }
        for host in ["", "evil.example", "evil.example:9080", "localhost.evil.example", "127.0.0.1.evil.example", "?"] {
            assert!(!is_local(host), "{host}");
        }
    }
}
