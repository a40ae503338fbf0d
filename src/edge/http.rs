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
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{Instrument, debug, info, warn};

use super::config::Config;
use super::connection::{Activity, Counted, Verdict, WaitedFor, Watchdog, Watched};
use super::gather::Gathered;
use super::handler::Edge;
use super::trace;

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
/// How long accepting rests when the process is out of descriptors. It would fail again at once, and spin.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

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
struct Shared {
    edge: Arc<Edge>,
    protocol: auto::Builder<TokioExecutor>,
    slots: Arc<Semaphore>,
    connections: TaskTracker,
    /// Cancelled when the grace is over.
    kill: CancellationToken,
}

impl Server {
    /// A server without listeners.
    pub fn new(edge: Arc<Edge>) -> Self {
        let shared = Shared {
            protocol: protocol(&edge.config),
            slots: Arc::new(Semaphore::new(edge.config.max_connections.min(Semaphore::MAX_PERMITS))),
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

async fn accept(shared: Arc<Shared>, listener: TcpListener, tls: Option<TlsAcceptor>) {
    let mut complained: Option<Instant> = None;
    loop {
        let accepted = tokio::select! {
            () = shared.edge.stop.cancelled() => return,
            accepted = listener.accept() => accepted,
        };
        let (socket, peer) = match accepted {
            Ok(accepted) => accepted,
            Err(error) if is_exhaustion(&error) => {
                shared.edge.metrics.limits.descriptors.inc();
                if complained.is_none_or(|at| at.elapsed() >= Duration::from_secs(1)) {
                    complained = Some(Instant::now());
                    warn!(%error, "cannot accept connections; is the limit of open files too low?");
                }
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
            // The peer gave up between SYN and here.
            Err(error) => {
                debug!(%error, "a connection was lost before it was accepted");
                continue;
            }
        };
        let Ok(slot) = Arc::clone(&shared.slots).try_acquire_owned() else {
            shared.edge.metrics.limits.connections.inc();
            turn_away(&socket, tls.is_some());
            continue;
        };
        let serving = connection(Arc::clone(&shared), socket, peer, tls.clone(), slot);
        shared.connections.spawn(serving.instrument(trace::connection(peer)));
    }
}

/// Out of descriptors or memory, rather than something about one connection.
fn is_exhaustion(error: &io::Error) -> bool {
    use rustix::io::Errno;
    let code = error.raw_os_error();
    [Errno::MFILE, Errno::NFILE, Errno::NOBUFS, Errno::NOMEM].iter().any(|errno| code == Some(errno.raw_os_error()))
}

/// One connection more than allowed: told so where that costs nothing.
fn turn_away(socket: &TcpStream, tls: bool) {
    if !tls {
        let answer = b"HTTP/1.1 503 Service Unavailable\r\nRetry-After: 5\r\nAccess-Control-Allow-Origin: *\r\n\
            Content-Length: 0\r\nConnection: close\r\n\r\n";
        // It fits into any send buffer; where not, closing says enough.
        let _ = socket.try_write(answer);
    }
}

async fn connection(
    shared: Arc<Shared>,
    socket: TcpStream,
    peer: SocketAddr,
    tls: Option<TlsAcceptor>,
    _slot: OwnedSemaphorePermit,
) {
    let gauge = shared.edge.metrics.connections.clone();
    gauge.inc();
    // Parts are written in one go; waiting for more to fill a packet would only delay them.
    if let Err(error) = socket.set_nodelay(true) {
        debug!(%peer, %error, "TCP_NODELAY was refused");
    }
    let peer = SocketAddr::new(peer.ip().to_canonical(), peer.port());
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
                Some(Ok(Err(error))) => debug!(%peer, %error, "the TLS handshake failed"),
                Some(Err(_)) => {
                    shared.edge.metrics.limits.handshake.inc();
                    debug!(%peer, "the TLS handshake took longer than edge.handshake_timeout");
                }
                None => {}
            }
        }
    }
    gauge.dec();
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
                if let Err(error) = ended {
                    debug!(%peer, error = %error, "a connection ended early");
                }
                return;
            }
            () = shared.kill.cancelled() => return,
            () = edge.stop.cancelled(), if !draining => {
                draining = true;
                watchdog.set_draining();
                connection.as_mut().graceful_shutdown();
            }
            _ = looks.tick() => match watchdog.look(Instant::now()) {
                Verdict::Fine => {}
                Verdict::Idle => {
                    draining = true;
                    watchdog.set_draining();
                    connection.as_mut().graceful_shutdown();
                }
                Verdict::SlowHead => {
                    edge.metrics.limits.header.inc();
                    debug!(%peer, "no request within edge.header_timeout");
                    return;
                }
                Verdict::SlowReader => {
                    edge.metrics.limits.write.inc();
                    debug!(%peer, "less than 1 KiB/s was taken during edge.write_timeout");
                    return;
                }
            },
        }
    }
}

#[cfg(test)]
mod tests;
