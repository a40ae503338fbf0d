//! One connection: its handshake, its requests, and its end, whether it has done what it came for, breaks a rule, or the server stops.
//!
//! ```text
//!   TCP ── Watched ── TLS, Gathered ── Metered ── Exchange: hyper ──► Edge::handle, one request after another or side by side
//!             └──────── Activity ◄────────┘            │ bodies: Counted
//!                          │                           │
//!                       Watchdog ── looks, and ends ───┘
//! ```

use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use http::Request;
use http_body::Body as _;
use hyper::body::Incoming;
use hyper::service::service_fn;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;
use tracing::{Instrument, debug};

use super::activity::{Activity, Watched};
use super::body::BoxError;
use super::gather::Gathered;
use super::http::Shared;
use super::metrics::Limits;
use super::payload::Metered;
use super::reply::Counting;
use super::seldom::Seldom;
use super::trace;
use super::watchdog::{Verdict, Watchdog};
use crate::media::Gauged;
use crate::media::peer::Place;

/// Serves one connection, which keeps its place as long: the TLS handshake, where there is one, then HTTP.
pub(super) async fn serve(
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
        None => drive(&shared, socket, peer, activity, |_| Poll::Ready(Ok(()))).await,
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
                    drive(&shared, gathered, peer, activity, |cx| drained.poll_drain(cx)).await;
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

/// Answers what comes over `socket` until the connection ends, one way or the other. `drain` is called whenever the connection has done what it could, and writes what is left to be written.
async fn drive<S>(
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
        let span = trace::request(&request);
        let whole = request.body().is_end_stream();
        let reply = span.in_scope(|| edge.handle(peer, request));
        Counting::new(reply, in_flight, whole).instrument(span)
    });
    let socket = Metered::new(socket, Arc::clone(&activity));
    let mut exchange = shared.protocol.serve(socket, service);
    let mut draining = false;
    let mut event = Seldom::new(next_event(shared, Duration::ZERO, draining));
    loop {
        tokio::select! {
            // The rest is looked at only where the connection has nothing to do, and needs no coin to be tossed.
            biased;
            ended = poll_fn(|cx| {
                let mut polled = exchange.poll(cx);
                if polled.is_pending() && activity.has_hidden_the_end() {
                    polled = exchange.poll(cx);
                }
                match drain(cx) {
                    Poll::Ready(Err(error)) => Poll::Ready(Err(BoxError::from(error))),
                    _ => polled,
                }
            }) => {
                if let Err(error) = ended {
                    tell_error(limits, peer, error.as_ref());
                }
                return;
            }
            happened = &mut event => match happened {
                Event::Kill => return,
                Event::Stop => {
                    draining = true;
                    watchdog.set_draining();
                    exchange.graceful_shutdown();
                }
                Event::Look => {
                    let now = Instant::now();
                    let under_pressure = shared.pressure.is_on(now);
                    if !draining && activity.may_begin() && exchange.rest() {
                        activity.came_to_nothing();
                    }
                    let verdict = watchdog.look(now, under_pressure);
                    tell_verdict(limits, peer, verdict, under_pressure);
                    match verdict {
                        Verdict::Fine if watchdog.is_quiet(now) => {
                            exchange.rest();
                        }
                        Verdict::Fine => {}
                        Verdict::Idle => {
                            draining = true;
                            watchdog.set_draining();
                            exchange.graceful_shutdown();
                        }
                        Verdict::SlowHead | Verdict::SlowReader => return,
                        Verdict::Chatter => {
                            // HTTP/2 is told by GOAWAY where that can be written now.
                            exchange.graceful_shutdown();
                            poll_fn(|cx| {
                                let _ = exchange.poll(cx);
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
        event = Seldom::new(next_event(shared, watchdog.interval(), draining));
    }
}

/// What happens to a connection beside what its peer does.
enum Event {
    /// The server stops: no more requests, please.
    Stop,
    /// The grace is over.
    Kill,
    /// It is time to look at it.
    Look,
}

async fn next_event(shared: &Shared, pause: Duration, draining: bool) -> Event {
    tokio::select! {
        biased;
        // Stopping comes before killing, so that one of the two is enough to wait for.
        () = shared.kill.cancelled(), if draining => Event::Kill,
        () = shared.edge.stop.cancelled(), if !draining => Event::Stop,
        () = tokio::time::sleep(pause) => Event::Look,
    }
}

/// Counts and logs the limit that a look has found overstepped. What is idle oversteps none, unless others need its place.
fn tell_verdict(limits: &Limits, peer: SocketAddr, verdict: Verdict, under_pressure: bool) {
    match verdict {
        Verdict::Fine => {}
        Verdict::Idle if under_pressure => limits.idle.hit(peer.ip(), "it was idle, and others need its place"),
        Verdict::Idle => {}
        Verdict::SlowHead => limits.header.hit(peer.ip(), "no request within edge.header_timeout"),
        Verdict::SlowReader => {
            limits.write.hit(peer.ip(), "less than 1 KiB/s was taken during edge.write_timeout");
        }
        Verdict::Chatter => limits.chatter.hit(peer.ip(), "it sends far more than it asks for"),
    }
}

/// Counts and logs an end that was not asked for.
fn tell_error(limits: &Limits, peer: SocketAddr, error: &(dyn std::error::Error + 'static)) {
    if breaks_rules(error) {
        limits.protocol.hit(peer.ip(), &words(error));
    } else {
        debug!(%peer, error = %error, "a connection ended early");
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
