//! Which log lines belong together: a number of our own for each request, and the trace that its sender says it belongs to.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use http::{Request, StatusCode};
use tokio::time::Instant;
use tracing::{Level, Span};

use super::metrics::Kind;
use super::traceparent::parent;

/// The span of a connection, at debug. Disabled, it costs a look at a flag.
pub(crate) fn connection(peer: SocketAddr) -> Span {
    static CONNECTIONS: AtomicU64 = AtomicU64::new(1);
    if !tracing::enabled!(Level::DEBUG) {
        return Span::none();
    }
    tracing::debug_span!("http", connection = CONNECTIONS.fetch_add(1, Relaxed), %peer)
}

/// The span of one request, inside its connection's. It names what was asked for by kind alone ([`answered`]): paths may hold tokens.
pub(crate) fn request<B>(request: &Request<B>) -> Span {
    static REQUESTS: AtomicU64 = AtomicU64::new(1);
    if !tracing::enabled!(Level::DEBUG) {
        return Span::none();
    }
    let parent = parent(request.headers());
    tracing::debug_span!(
        "request",
        id = REQUESTS.fetch_add(1, Relaxed),
        method = %request.method(),
        version = ?request.version(),
        trace_id = parent.map(|parent| parent.trace),
        parent_id = parent.map(|parent| parent.span),
    )
}

/// The line that ends a request.
pub(crate) fn answered(kind: Kind, status: StatusCode, since: Instant) {
    tracing::debug!(kind = kind.label(), status = status.as_u16(), ms = since.elapsed().as_millis() as u64, "answered");
}
