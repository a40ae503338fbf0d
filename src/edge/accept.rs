//! Taking viewers' connections in, or turning them away: places in all and per address, and what to do when descriptors run out.

use std::fs::File;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;
use tracing::{Instrument, debug};

use super::http::{Shared, connection};
use super::trace;
use crate::media::peer::{Full, Place};

/// How long accepting rests when the process is out of descriptors. It would fail again at once, and spin.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// How many are told so before each rest; the others stay in the kernel's queue, until it is full.
const TOLD_A_PAUSE: usize = 32;
/// How long after the last refusal idle connections make room for others.
const PRESSURE: Duration = Duration::from_secs(5);
/// A request that a connection brings which is turned away: read, so that closing does not reset the answer.
const HEAD_READ: usize = 4 * 1024;

/// Whether connections were refused lately for want of places.
#[derive(Debug, Default)]
pub(super) struct Pressure(Mutex<Option<Instant>>);

impl Pressure {
    pub(super) fn is_on(&self, now: Instant) -> bool {
        self.0.lock().is_some_and(|last| now.saturating_duration_since(last) < PRESSURE)
    }

    fn turn_on(&self) {
        *self.0.lock() = Some(Instant::now());
    }
}

/// A descriptor kept for the moment when there is no other: given back to the system, it lets one connection in, to be told why it cannot stay.
#[derive(Debug)]
struct Spare(Option<File>);

impl Spare {
    fn keep() -> Self {
        Self(File::open("/dev/null").ok())
    }

    fn refill(&mut self) {
        if self.0.is_none() {
            *self = Self::keep();
        }
    }
}

/// Accepts connections on `listener` until the edge stops.
pub(super) async fn accept(shared: Arc<Shared>, listener: TcpListener, tls: Option<TlsAcceptor>) {
    let mut spare = Spare::keep();
    loop {
        spare.refill();
        let accepted = tokio::select! {
            () = shared.edge.stop.cancelled() => return,
            accepted = listener.accept() => accepted,
        };
        let (socket, peer) = match accepted {
            Ok(accepted) => accepted,
            Err(error) if is_exhaustion(&error) => {
                shared.pressure.turn_on();
                refuse_some(&shared, &listener, &mut spare, tls.is_some()).await;
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
            // The peer gave up between SYN and here.
            Err(error) => {
                debug!(%error, "a connection was lost before it was accepted");
                continue;
            }
        };
        let peer = SocketAddr::new(peer.ip().to_canonical(), peer.port());
        match place(&shared, peer.ip()) {
            Ok(place) => {
                let serving = connection(Arc::clone(&shared), socket, peer, tls.clone(), place);
                shared.connections.spawn(serving.instrument(trace::connection(peer)));
            }
            Err(status) => turn_away(&socket, status, tls.is_some()),
        }
    }
}

/// A place for a connection of `ip`, or the status line that refuses it.
fn place(shared: &Shared, ip: IpAddr) -> Result<Place, &'static str> {
    let limits = &shared.edge.metrics.limits;
    let place = if shared.edge.config.is_shared(ip) { shared.places.take_shared() } else { shared.places.take(ip) };
    place.map_err(|full| match full {
        Full::All => {
            shared.pressure.turn_on();
            limits.connections.hit(ip, "edge.max_connections are open already");
            "503 Service Unavailable"
        }
        Full::Peer => {
            limits.connections_per_ip.hit(ip, "it has edge.max_connections_per_ip open already");
            "429 Too Many Requests"
        }
    })
}

/// Tells some of those who wait that there is no descriptor for them, with the spare one.
async fn refuse_some(shared: &Shared, listener: &TcpListener, spare: &mut Spare, tls: bool) {
    spare.0 = None;
    for _ in 0..TOLD_A_PAUSE {
        // Another listener may have been quicker, or the queue is empty.
        let Ok(Ok((socket, peer))) = tokio::time::timeout(Duration::from_millis(1), listener.accept()).await else {
            break;
        };
        let rule = "the process is out of descriptors; is the limit of open files too low?";
        shared.edge.metrics.limits.descriptors.hit(peer.ip(), rule);
        turn_away(&socket, "503 Service Unavailable", tls);
    }
}

/// Out of descriptors or memory, rather than something about one connection.
fn is_exhaustion(error: &io::Error) -> bool {
    use rustix::io::Errno;
    let code = error.raw_os_error();
    [Errno::MFILE, Errno::NFILE, Errno::NOBUFS, Errno::NOMEM].iter().any(|errno| code == Some(errno.raw_os_error()))
}

/// One connection more than allowed: told so where that costs nothing.
fn turn_away(socket: &TcpStream, status: &str, tls: bool) {
    if tls {
        return;
    }
    let _ = socket.try_read(&mut [0; HEAD_READ]);
    let answer = format!(
        "HTTP/1.1 {status}\r\nRetry-After: 5\r\nAccess-Control-Allow-Origin: *\r\nContent-Length: 0\r\n\
         Connection: close\r\n\r\n"
    );
    // It fits into any send buffer; where not, closing says enough.
    let _ = socket.try_write(answer.as_bytes());
}
