//! The operators' listener: `/metrics` in Prometheus' text format, `/healthz`. Bound to loopback by default, and small on purpose.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{CACHE_CONTROL, CONTENT_TYPE, HeaderValue};
use http::{Method, Request, Response, StatusCode};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use prometheus::{Registry, TextEncoder};
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

/// Scrapers at a time; more are closed.
const MAX_CONNECTIONS: usize = 64;
/// The longest that one connection may last: a scraper comes, takes and goes.
const MAX_LIFE: Duration = Duration::from_secs(60);

/// Adds what the process uses (memory, descriptors, CPU time, start) to `registry`.
///
/// # Errors
/// Where it has been added before.
pub fn register_process_metrics(registry: &Registry) -> Result<(), prometheus::Error> {
    registry.register(Box::new(prometheus::process_collector::ProcessCollector::for_self()))
}

/// What brings computed gauges up to date; called before each scrape.
pub type Refresh = Arc<dyn Fn() + Send + Sync>;

/// Serves `registry` on `listener` until `stop` is cancelled. It knows nothing of the edge: nodes of every role have metrics.
pub async fn serve(listener: TcpListener, registry: Registry, refresh: Refresh, stop: CancellationToken) {
    let slots = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    loop {
        let accepted = tokio::select! {
            () = stop.cancelled() => return,
            accepted = listener.accept() => accepted,
        };
        let (socket, peer) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                warn!(%error, "cannot accept a connection on the telemetry listener");
                tokio::time::sleep(Duration::from_millis(500)).await;
                continue;
            }
        };
        let Ok(slot) = Arc::clone(&slots).try_acquire_owned() else { continue };
        let (refresh, registry) = (Arc::clone(&refresh), registry.clone());
        tokio::spawn(async move {
            let service = service_fn(|request: Request<Incoming>| {
                let response = answer(refresh.as_ref(), &registry, request.method(), request.uri().path());
                async move { Ok::<_, Infallible>(response) }
            });
            let connection = http1::Builder::new()
                .timer(TokioTimer::new())
                .header_read_timeout(Duration::from_secs(10))
                .serve_connection(TokioIo::new(socket), service);
            if let Ok(Err(error)) = tokio::time::timeout(MAX_LIFE, connection).await {
                debug!(%peer, %error, "a telemetry connection ended early");
            }
            drop(slot);
        });
    }
}

fn answer(refresh: &dyn Fn(), registry: &Registry, method: &Method, path: &str) -> Response<Full<Bytes>> {
    let (status, content_type, text) = match (method, path) {
        (&Method::GET | &Method::HEAD, "/healthz") => {
            (StatusCode::OK, "text/plain; charset=utf-8", "alive\n".to_owned())
        }
        (&Method::GET | &Method::HEAD, "/metrics") => {
            refresh();
            match TextEncoder::new().encode_to_string(&registry.gather()) {
                Ok(text) => (StatusCode::OK, prometheus::TEXT_FORMAT, text),
                Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, "text/plain; charset=utf-8", format!("{error}\n")),
            }
        }
        _ => (StatusCode::NOT_FOUND, "text/plain; charset=utf-8", "/metrics and /healthz are served here\n".to_owned()),
    };
    let mut response = Response::new(Full::from(text));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::edge::Metrics;

    #[test]
    fn metrics_and_health_are_answered_and_nothing_else() {
        let registry = Registry::new();
        let _metrics = Metrics::new(&registry).expect("fresh names");
        register_process_metrics(&registry).expect("fresh names");
        let code = |method, path| answer(&|| (), &registry, &method, path).status();
        assert_eq!(code(Method::GET, "/healthz"), StatusCode::OK);
        assert_eq!(code(Method::GET, "/metrics"), StatusCode::OK);
        assert_eq!(code(Method::POST, "/metrics"), StatusCode::NOT_FOUND);
        assert_eq!(code(Method::GET, "/"), StatusCode::NOT_FOUND);
        let text = TextEncoder::new().encode_to_string(&registry.gather()).expect("text");
        for name in [
            "rillcast_http_waiting",
            "rillcast_viewers",
            "rillcast_http_limit_hits_total",
            "process_start_time_seconds",
        ] {
            assert!(text.contains(name), "{name}");
        }
    }
}
