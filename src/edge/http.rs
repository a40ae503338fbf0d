//! The listeners: HTTP/1.1 and HTTP/2 over TCP, in the clear (with prior knowledge) and over TLS. Limits and the graceful stop live here.

use std::convert::Infallible;
use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use http::Request;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{Instrument, debug, info};

use super::accept::{Pressure, accept};
use super::config::Config;
use super::connection::{Activity, Counted, Verdict, WaitedFor, Watchdog, Watched};
use super::gather::Gathered;
use super::handler::Edge;
use super::metrics::Gauged;
use super::payload::Metered;
use super::trace;
use crate::media::peer::{Place, Places};

/// Connections that the kernel keeps for us while we are busy.
const BACKLOG: i32 = 4096;
/// Largest request head, and largest header list of HTTP/2 after decompression: HPACK bombs and CONTINUATION floods end here.
const MAX_HEAD_BYTES: usize = 32 * 1024;
/// Header lines of one request.
const MAX_HEADERS: usize = 64;
/// What is buffered for a viewer that does not take it, per HTTP/2 stream.
const MAX_SEND_BUFFER_BYTES: usize = 64 * 1024;
/// What a client may send us unasked, per stream and connection: requests here have small bodies, or none.
const RECEIVE_WINDOW_BYTES: u32 = 64 * 1024;
/// Streams that a client may reset before we got to them (rapid reset, CVE-2023-44487).
const MAX_PENDING_RESETS: usize = 20;
/// Streams that a client may make us reset (RUSTSEC-2024-0003 and its kin).
const MAX_ERROR_RESETS: usize = 128;
/// A dead HTTP/2 peer is found by a ping after this long.
const PING_INTERVAL: Duration = Duration::from_secs(20);

/// Binds `addr`, so that a restart finds the port free and a burst of viewers a long queue.
///
/// # Errors
/// As the kernel says, with the address.
pub fn bind(addr: SocketAddr) -> io::Result<TcpListener> {
    let open = || {
        let socket = socket2::Socket::new(socket2::Domain::for_address(addr), socket2::Type::STREAM, None)?;
        socket.set_reuse_address(true)?;
        socket.set_nonblocking(true)?;
        socket.bind(&addr.into())?;
        socket.listen(BACKLOG)?;
        TcpListener::from_std(socket.into())
    };
    open().map_err(|error| io::Error::new(error.kind(), format!("{addr}: {error}")))
}

/// The listeners of one edge. All of them share its limit on connections.
#[derive(Debug)]
pub struct Server {
    shared: Arc<Shared>,
    listeners: TaskTracker,
}

#[derive(Debug)]
pub(super) struct Shared {
    pub(super) edge: Arc<Edge>,
    protocol: auto::Builder<TokioExecutor>,
    pub(super) places: Arc<Places>,
    pub(super) pressure: Pressure,
    pub(super) connections: TaskTracker,
    /// Cancelled when the grace is over.
    kill: CancellationToken,
}

impl Server {
    /// A server without listeners.
    pub fn new(edge: Arc<Edge>) -> Self {
        let shared = Shared {
            protocol: protocol(&edge.config),
            places: Places::new(edge.config.max_connections, edge.config.max_connections_per_ip),
            pressure: Pressure::default(),
            connections: TaskTracker::new(),
            kill: CancellationToken::new(),
            edge,
        };
        Self { shared: Arc::new(shared), listeners: TaskTracker::new() }
    }

    /// Serves `listener` in a task of its own from now on; over TLS where there is an acceptor.
    pub fn listen(&self, listener: TcpListener, tls: Option<TlsAcceptor>) {
        self.listeners.spawn(accept(Arc::clone(&self.shared), listener, tls));
    }

    /// Stops: no new connections, requests that wait are answered 503, what is being sent may finish within `shutdown_grace`, and then
    /// everything is closed. Returns when it is.
    pub async fn stop(self) {
        let shared = self.shared;
        shared.edge.stop.cancel();
        self.listeners.close();
        self.listeners.wait().await;
        shared.connections.close();
        if tokio::time::timeout(shared.edge.config.shutdown_grace, shared.connections.wait()).await.is_err() {
            info!(
                connections = shared.connections.len(),
                "closing connections that did not finish in edge.shutdown_grace"
            );
            shared.kill.cancel();
            shared.connections.wait().await;
        }
    }
}

fn protocol(config: &Config) -> auto::Builder<TokioExecutor> {
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder
        .http1()
        .timer(TokioTimer::new())
        // The watchdog sees to that, without a timer for every request.
        .header_read_timeout(None)
        .max_headers(MAX_HEADERS)
        .max_buf_size(MAX_HEAD_BYTES)
        .half_close(false);
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(config.max_streams_per_connection)
        .max_header_list_size(MAX_HEAD_BYTES as u32)
        .max_pending_accept_reset_streams(MAX_PENDING_RESETS)
        .max_local_error_reset_streams(MAX_ERROR_RESETS)
        .max_send_buf_size(MAX_SEND_BUFFER_BYTES)
        .initial_stream_window_size(RECEIVE_WINDOW_BYTES)
        .initial_connection_window_size(RECEIVE_WINDOW_BYTES)
        .keep_alive_interval(PING_INTERVAL)
        .keep_alive_timeout(config.write_timeout);
    builder
}

/// Serves one connection, which keeps its place as long.
pub(super) async fn connection(
    shared: Arc<Shared>,
    socket: TcpStream,
    peer: SocketAddr,
    tls: Option<TlsAcceptor>,
    _place: Place,
) {
    let _counted = Gauged::one(&shared.edge.metrics.connections);
    // Parts are written in one go; waiting for more to fill a packet would only delay them.
    if let Err(error) = socket.set_nodelay(true) {
        debug!(%peer, %error, "TCP_NODELAY was refused");
    }
    let limits = &shared.edge.metrics.limits;
    let activity = Arc::new(Activity::measuring(shared.edge.metrics.first_byte.clone()));
    let socket = Watched::new(socket, Arc::clone(&activity));
    match tls {
        None => serve(&shared, socket, peer, activity, |_| Poll::Ready(Ok(()))).await,
        Some(tls) => {
            let handshake = tokio::time::timeout(shared.edge.config.handshake_timeout, tls.accept(socket));
            let handshake = tokio::select! {
                () = shared.edge.stop.cancelled() => None,
                done = handshake => Some(done),
            };
            match handshake {
                Some(Ok(Ok(socket))) => {
                    let gathered = Gathered::new(socket);
                    let drained = gathered.clone();
                    serve(&shared, gathered, peer, activity, |cx| drained.poll_drain(cx)).await;
                }
                Some(Ok(Err(error))) => limits.tls.hit(peer.ip(), &format!("the TLS handshake failed: {error}")),
                Some(Err(_)) => {
                    limits.handshake.hit(peer.ip(), "the TLS handshake took longer than edge.handshake_timeout");
                }
                None => {}
            }
        }
    }
}

/// Serves one connection. `drain` is called whenever the connection has done what it could, and writes what is left to be written.
async fn serve<S>(
    shared: &Arc<Shared>,
    socket: S,
    peer: SocketAddr,
    activity: Arc<Activity>,
    drain: impl Fn(&mut Context<'_>) -> Poll<io::Result<()>>,
) where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let edge = &shared.edge;
    let limits = &edge.metrics.limits;
    let mut watchdog = Watchdog::new(Arc::clone(&activity), &edge.config);
    let service = service_fn(|request: Request<Incoming>| {
        let in_flight = activity.begin(request.version());
        let edge = Arc::clone(edge);
        let span = trace::request(&request);
        let answer = async move {
            let response = edge.handle(peer, request).await;
            let waited = response.extensions().get::<WaitedFor>().copied();
            Ok::<_, Infallible>(response.map(|body| Counted::new(body, in_flight, waited)))
        };
        answer.instrument(span)
    });
    let socket = Metered::new(socket, Arc::clone(&activity));
    let mut connection = std::pin::pin!(shared.protocol.serve_connection(TokioIo::new(socket), service));
    let mut looks = tokio::time::interval(watchdog.interval());
    looks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut draining = false;
    loop {
        tokio::select! {
            // The rest is looked at only where the connection has nothing to do, and needs no coin to be tossed.
            biased;
            ended = poll_fn(|cx| {
                let polled = connection.as_mut().poll(cx);
                match drain(cx) {
                    Poll::Ready(Err(error)) => Poll::Ready(Err(error.into())),
                    _ => polled,
                }
            }) => {
                match ended {
                    Err(error) if breaks_rules(error.as_ref()) => limits.protocol.hit(peer.ip(), &words(error.as_ref())),
                    Err(error) => debug!(%peer, error = %error, "a connection ended early"),
                    Ok(()) => {}
                }
                return;
            }
            () = shared.kill.cancelled() => return,
            () = edge.stop.cancelled(), if !draining => {
                draining = true;
                watchdog.set_draining();
                connection.as_mut().graceful_shutdown();
            }
            _ = looks.tick() => {
                let now = Instant::now();
                let under_pressure = shared.pressure.is_on(now);
                match watchdog.look(now, under_pressure) {
                    Verdict::Fine => {}
                    Verdict::Idle => {
                        if under_pressure {
                            limits.idle.hit(peer.ip(), "it was idle, and others need its place");
                        }
                        draining = true;
                        watchdog.set_draining();
                        connection.as_mut().graceful_shutdown();
                    }
                    Verdict::SlowHead => {
                        limits.header.hit(peer.ip(), "no request within edge.header_timeout");
                        return;
                    }
                    Verdict::SlowReader => {
                        limits.write.hit(peer.ip(), "less than 1 KiB/s was taken during edge.write_timeout");
                        return;
                    }
                    Verdict::Chatter => {
                        limits.chatter.hit(peer.ip(), "it sends far more than it asks for");
                        // HTTP/2 is told by GOAWAY where that can be written now.
                        connection.as_mut().graceful_shutdown();
                        poll_fn(|cx| {
                            let _ = connection.as_mut().poll(cx);
                            let _ = drain(cx);
                            Poll::Ready(())
                        })
                        .await;
                        return;
                    }
                }
            }
        }
    }
}

/// Whether a connection ended because the peer broke a rule of HTTP, rather than because it went away.
fn breaks_rules(error: &(dyn std::error::Error + 'static)) -> bool {
    let mut next = Some(error);
    while let Some(error) = next {
        if error.is::<io::Error>() {
            return false;
        }
        if let Some(error) = error.downcast_ref::<h2::Error>() {
            // What we found wrong; a peer that says good-bye with an error is its own business.
            return !error.is_io() && !error.is_remote();
        }
        if let Some(error) = error.downcast_ref::<hyper::Error>()
            && error.is_parse()
        {
            return true;
        }
        next = error.source();
    }
    false
}

/// An error with its causes.
fn words(error: &(dyn std::error::Error + 'static)) -> String {
    let mut words = error.to_string();
    let mut next = error.source();
    while let Some(error) = next {
        words.push_str(": ");
        words.push_str(&error.to_string());
        next = error.source();
    }
    words
}

#[cfg(test)]
mod tests;
