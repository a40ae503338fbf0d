//! The tokio shell: sockets, clocks and tasks around [`Session`](super::Session). One task per connection; what breaks in it ends that connection alone.

mod connection;
mod low_water;
mod publishing;

use std::io;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::task::{JoinError, JoinSet};
use tokio_util::sync::CancellationToken;
use tracing::Instrument as _;

use self::connection::Connection;
use crate::ingest::config;
use crate::ingest::metrics::Metrics;
use crate::ingest::publish::Authorise;
use crate::ingest::report::Board;
use crate::media::Gauged;
use crate::media::peer::{Full, Places};
use crate::packager::live;

/// After an error of `accept` that is not about one connection: no file descriptors, no memory. Trying again at once would spin.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// How long connections may take to say good-bye at shutdown.
const DRAIN_DEADLINE: Duration = Duration::from_secs(5);

/// What connections need.
pub struct Context {
    /// `[ingest.rtmp]`; the address in it is not looked at.
    pub config: config::Rtmp,
    /// Where streams go.
    pub registry: Arc<live::Registry>,
    /// Who may publish.
    pub authorise: Arc<dyn Authorise>,
    /// What is counted.
    pub metrics: Metrics,
    /// Where publishers' reports hang.
    pub reports: Arc<Board>,
}

impl std::fmt::Debug for Context {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Context").field("config", &self.config).finish_non_exhaustive()
    }
}

/// Accepts RTMP connections on `listener` until `shutdown` is cancelled, then closes them within some seconds and returns. Whoever wires
/// the server binds the listener, so that ports are known before anything is accepted.
pub async fn serve(listener: TcpListener, context: Context, shutdown: CancellationToken) {
    let context = Arc::new(context);
    let places = Places::new(context.config.max_connections as usize, context.config.max_per_ip as usize);
    let mut tasks = JoinSet::new();
    // Ties the log lines of a connection together.
    let mut number = 0_u64;
    loop {
        let (stream, peer) = tokio::select! {
            biased;
            () = shutdown.cancelled() => break,
            Some(ended) = tasks.join_next() => {
                report(ended);
                continue;
            }
            accepted = listener.accept() => match accepted {
                Ok(accepted) => accepted,
                Err(error) => {
                    pause_after(&error, &context.metrics, &shutdown).await;
                    continue;
                }
            },
        };
        let place = match places.take(peer.ip()) {
            Ok(place) => place,
            Err(full) => {
                let reason = match full {
                    Full::All => "max_connections",
                    Full::Peer => "max_per_ip",
                };
                if let Some(silent) = context.metrics.refuse(reason) {
                    tracing::warn!(%peer, reason, silent, "RTMP connection refused: ingest.rtmp.{reason} is reached");
                }
                continue;
            }
        };
        // Answers are small and awaited one by one.
        let _ = stream.set_nodelay(true);
        number += 1;
        let span = tracing::info_span!("rtmp", connection = number, %peer);
        let (context, shutdown) = (context.clone(), shutdown.clone());
        let task = async move {
            let _counted = Gauged::one(&context.metrics.rtmp_connections);
            Connection::new(stream, peer, context, shutdown).run().await;
            drop(place);
        };
        tasks.spawn(task.instrument(span));
    }
    drop(listener);
    let drained = tokio::time::timeout(DRAIN_DEADLINE, async {
        while let Some(ended) = tasks.join_next().await {
            report(ended);
        }
    });
    if drained.await.is_err() {
        tracing::warn!(left = tasks.len(), "RTMP connections did not close in time");
        tasks.shutdown().await;
    }
}

fn report(ended: Result<(), JoinError>) {
    if let Err(error) = ended
        && error.is_panic()
    {
        tracing::error!(%error, "an RTMP connection ended by a mistake of ours");
    }
}

async fn pause_after(error: &io::Error, metrics: &Metrics, shutdown: &CancellationToken) {
    // These concern the connection that was being accepted, and say nothing about the next.
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset, Interrupted};
    if matches!(error.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset | Interrupted) {
        return;
    }
    let reason = "descriptors";
    if let Some(silent) = metrics.refuse(reason) {
        tracing::error!(%error, reason, silent, "RTMP connections cannot be accepted");
    }
    tokio::select! {
        () = shutdown.cancelled() => {}
        () = tokio::time::sleep(ACCEPT_PAUSE) => {}
    }
}

#[cfg(test)]
mod tests;
