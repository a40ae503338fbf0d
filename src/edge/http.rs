//! The listeners: HTTP/1.1 and HTTP/2 over TCP, in the clear (with prior knowledge) and over TLS. Limits and the graceful stop live here.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use rustix::net::sockopt;
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{debug, info};

use super::accept::{Pressure, accept};
use super::handler::Edge;
use super::protocol::Protocol;
use crate::media::peer::Places;

/// Connections that the kernel keeps for us while we are busy.
const BACKLOG: i32 = 4096;
/// A peer that is silent for so long is asked by TCP whether it is still there, this often and so many times. A ping of HTTP/2 would ask the same, and need
/// a timer and a look at the clock for every request.
const SILENCE: Duration = Duration::from_secs(20);
const PROBE_INTERVAL: Duration = Duration::from_secs(5);
const PROBES: u32 = 3;
/// Bytes that the kernel takes for a viewer beyond those on their way to it. Left alone it takes megabytes, in thousands of packets where the viewer's own
/// buffer is small: some hundred viewers that read nothing would then have the machine's memory for TCP, and its time.
const UNSENT: u32 = 512 * 1024;

/// Binds `addr`, so that a restart finds the port free and a burst of viewers a long queue.
///
/// # Errors
/// As the kernel says, with the address.
pub fn bind(addr: SocketAddr) -> io::Result<TcpListener> {
    let open = || {
        let socket = socket2::Socket::new(socket2::Domain::for_address(addr), socket2::Type::STREAM, None)?;
        socket.set_reuse_address(true)?;
        socket.set_nonblocking(true)?;
        // What is accepted inherits it.
        socket.set_tcp_notsent_lowat(UNSENT)?;
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
    /// A task each.
    listeners: TaskTracker,
}

/// What listeners and connections share.
#[derive(Debug)]
pub(super) struct Shared {
    /// Who answers requests.
    pub(super) edge: Arc<Edge>,
    /// The limits of HTTP/1.1 and HTTP/2.
    pub(super) protocol: Protocol,
    /// How many connections there may be, in all and of each address.
    pub(super) places: Arc<Places>,
    pub(super) pressure: Pressure,
    /// A task each.
    pub(super) connections: TaskTracker,
    /// Cancelled when the grace is over.
    pub(super) kill: CancellationToken,
}

impl Server {
    /// A server without listeners.
    pub fn new(edge: Arc<Edge>) -> Self {
        let shared = Shared {
            protocol: Protocol::new(&edge.config),
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
        if let Err(error) = find_dead_peers(&listener) {
            debug!(%error, "TCP keep-alive was refused");
        }
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

/// Has the kernel end connections whose peers have vanished without a word. What is accepted inherits it from its listener.
fn find_dead_peers(listener: &TcpListener) -> io::Result<()> {
    sockopt::set_tcp_keepidle(listener, SILENCE)?;
    sockopt::set_tcp_keepintvl(listener, PROBE_INTERVAL)?;
    sockopt::set_tcp_keepcnt(listener, PROBES)?;
    Ok(sockopt::set_socket_keepalive(listener, true)?)
}

#[cfg(test)]
mod tests;
