//! The server as a value: wires ingest, packager, edge and control, and stops them in the right order.
//!
//! Order matters in three places. Ports are bound before anything is announced, so that what the ports file says is true. Publishers stop
//! before viewers do, so that what viewers get, and what the next start takes up, is complete. Nothing is read from a peer before every
//! part it could reach exists.

mod announce;
mod reload;
mod wiring;

use std::collections::BTreeMap;
use std::fs::{File, TryLockError};
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tracing::info;

use self::reload::Reloader;
pub use self::reload::SetLogFilter;
use crate::config::{Config, Source};
use crate::control::access::{Access, callback};
use crate::control::api;
use crate::control::keys::KeyStore;
use crate::edge::tls::Certificate;
use crate::edge::{self, Edge};
use crate::ingest;
use crate::ingest::report::{Board, Rules};
use crate::packager;
use crate::packager::live::{Limits, Registry, Shelf};
use crate::packager::sequence::Sequences;

/// The ingest report of a publisher that went is kept while its stream waits, and this much longer: the wait begins after its last access unit.
const REPORT_GRACE: Duration = Duration::from_secs(60);
/// What a stop may spend on putting windows on disk, while viewers finish.
const PUT_DOWN_LIMIT: Duration = Duration::from_secs(5);

/// Descriptors beside those of publishers and viewers: listeners, logs, files that are being read or written, scrapers.
const OTHER_FILES: usize = 192;

/// How many viewers' connections may be open where the process may open so many files: publishers come first, but do not take all.
fn viewers_within(open_files: Option<u64>, publishers: usize) -> usize {
    let Some(open_files) = open_files else { return usize::MAX };
    let open_files = usize::try_from(open_files).unwrap_or(usize::MAX);
    open_files.saturating_sub(publishers).saturating_sub(OTHER_FILES).max(open_files / 2)
}

/// Takes `data_dir` for this process alone, as long as the file is open: two servers would give out the same sequence numbers, and take up each other's
/// windows.
fn lock(data_dir: &Path) -> anyhow::Result<File> {
    std::fs::create_dir_all(data_dir).with_context(|| format!("data_dir {} cannot be made", data_dir.display()))?;
    let path = data_dir.join("lock");
    let file = File::options().create(true).truncate(false).write(true).open(&path);
    let file = file.with_context(|| format!("data_dir: {} cannot be written", path.display()))?;
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => anyhow::bail!(
            "data_dir {} is another running server's: stop that one, or give this one a data_dir of its own",
            data_dir.display()
        ),
        // Some network file systems have no locks.
        Err(TryLockError::Error(error)) => {
            tracing::warn!(%error, "data_dir cannot be locked: take care that no other server uses it")
        }
    }
    Ok(file)
}

/// What the system tells the process. Asked for before anything else is, since until then each ends the process: one that comes while windows of
/// the last run are being taken up would cost them.
struct Signals {
    hangup: Signal,
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    fn listen() -> std::io::Result<Self> {
        Ok(Self {
            hangup: signal(SignalKind::hangup())?,
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
        })
    }
}

/// A running server. Dropping it does not stop it; [`run_until_signal`](Self::run_until_signal) does, or [`stop`](Self::stop).
pub struct App {
    /// Bound listeners by name.
    ports: BTreeMap<&'static str, SocketAddr>,
    /// Viewers' connections, on both ports.
    http: edge::http::Server,
    /// What viewers' requests are answered from, and whether the server says that it is ready.
    edge: Arc<Edge>,
    registry: Arc<Registry>,
    shelf: Shelf,
    publishers: JoinHandle<()>,
    /// Sends publishers away; their task ends when the last has gone.
    stop_publishers: CancellationToken,
    stop_admin: CancellationToken,
    reloader: Arc<Reloader>,
    signals: Signals,
    /// Whether anybody but this machine may publish, for the greeting.
    keys_exist: bool,
    /// Keeps other servers from `data_dir`.
    _lock: File,
}

impl App {
    /// Binds every port, wires everything and begins to serve. `config` came from `source`, which is read again on a reload; `set_log_filter` is told when
    /// the filter of the log changes.
    ///
    /// # Errors
    /// What cannot be read, written or bound, in words that name it.
    pub async fn start(config: Config, source: Source, set_log_filter: SetLogFilter) -> anyhow::Result<Self> {
        let signals = Signals::listen()?;
        let lock = lock(&config.data_dir)?;
        let rtmp = edge::http::bind(config.ingest.rtmp.listen).context("ingest.rtmp.listen")?;
        let http = edge::http::bind(config.edge.http).context("edge.http")?;
        let https = edge::http::bind(config.edge.https).context("edge.https")?;
        let admin = edge::http::bind(config.telemetry.listen).context("telemetry.listen")?;
        let mut ports = BTreeMap::new();
        for (name, listener) in [("rtmp", &rtmp), ("http", &http), ("https", &https), ("admin", &admin)] {
            ports.insert(name, listener.local_addr()?);
        }
        for (key, what) in [("ingest.rtmps.listen", "RTMPS"), ("ingest.srt.listen", "SRT")] {
            info!(key, "{what} is not built yet: nothing listens there");
        }

        let metrics = prometheus::Registry::new();
        edge::admin::register_process_metrics(&metrics)?;
        let certificate = Certificate::load(&config.edge, &config.data_dir)?;
        let tls = certificate.acceptor()?;
        let packaging = Arc::new(config.packager.clone());
        let registry = Registry::new(
            packaging,
            Sequences::new(&config.data_dir),
            Limits { max_streams: config.ingest.max_streams as usize, resume_window: config.ingest.resume_window },
            packager::live::Metrics::register(&metrics)?,
        );
        let keys = Arc::new(KeyStore::new(&config.data_dir));
        let keys_exist = !keys.list()?.is_empty();
        let callback_metrics = callback::Metrics::register(&metrics)?;
        let access =
            Access::new(&config.access, keys, &config.data_dir, callback_metrics).map_err(anyhow::Error::msg)?;
        let reloader = Arc::new(Reloader::new(config.clone(), source, &access, certificate, set_log_filter));

        let rtmp_port = rtmp.local_addr()?.port();
        let mut serving = config.edge.clone();
        let open_files = rustix::process::getrlimit(rustix::process::Resource::Nofile).current;
        let room = viewers_within(open_files, config.ingest.rtmp.max_connections as usize);
        if room < serving.max_connections {
            tracing::warn!(
                open_files,
                room,
                "the limit of open files leaves room for fewer viewers than edge.max_connections; raise it (LimitNOFILE in systemd)"
            );
            serving.max_connections = room;
        }
        let edge = Edge::new(serving, Arc::clone(&registry), edge::Metrics::new(&metrics)?, rtmp_port);
        let reports = Board::new(Rules::from(&config.packager), config.ingest.resume_window + REPORT_GRACE);
        edge.set_api(api::service(wiring::api(&registry, &edge, &reports, &access, &reloader)));
        edge.set_access(Arc::new(wiring::Viewers(Arc::clone(&access))));
        let server = edge::http::Server::new(Arc::clone(&edge));
        let ingest_metrics = ingest::Metrics::register(&metrics)?;
        // Files are good once, so everything that can keep the server from starting has gone well by now. Viewers and publishers who come
        // meanwhile wait in the listeners' queues.
        let shelf = Shelf::new(&config.data_dir, config.ingest.resume_max_bytes.as_u64());
        let (taking_up, from) = (Arc::clone(&registry), shelf.clone());
        tokio::task::spawn_blocking(move || taking_up.take_up(&from)).await?;

        server.listen(http, None);
        server.listen(https, Some(tls));
        let refresh = wiring::refresh(&edge, &ingest_metrics, &reports);
        let stop_admin = CancellationToken::new();
        tokio::spawn(edge::admin::serve(admin, metrics, refresh, stop_admin.clone()));

        let stop_publishers = CancellationToken::new();
        let context = ingest::rtmp::server::Context {
            config: config.ingest.rtmp.clone(),
            registry: Arc::clone(&registry),
            authorise: Arc::new(wiring::Publishers(access)),
            metrics: ingest_metrics,
            reports,
        };
        let publishers = tokio::spawn(ingest::rtmp::server::serve(rtmp, context, stop_publishers.clone()));
        edge.set_ready(true);
        info!(?ports, "serving");
        Ok(Self {
            ports,
            http: server,
            edge,
            registry,
            shelf,
            publishers,
            stop_publishers,
            stop_admin,
            reloader,
            signals,
            keys_exist,
            _lock: lock,
        })
    }

    /// The bound addresses by name: `rtmp`, `http`, `https`, `admin`.
    pub fn ports(&self) -> &BTreeMap<&'static str, SocketAddr> {
        &self.ports
    }

    /// Serves until SIGTERM or SIGINT, which may have come since [`start`](Self::start) began, then stops. SIGHUP has the configuration read again.
    pub async fn run_until_signal(mut self) {
        loop {
            tokio::select! {
                _ = self.signals.terminate.recv() => {
                    info!("SIGTERM: stopping");
                    break;
                }
                _ = self.signals.interrupt.recv() => {
                    info!("SIGINT: stopping");
                    break;
                }
                _ = self.signals.hangup.recv() => {
                    let reloader = Arc::clone(&self.reloader);
                    // It says in the log what became of it.
                    let _ = tokio::task::spawn_blocking(move || reloader.reload()).await;
                }
            }
        }
        self.stop().await;
    }

    /// Interrupts every stream and puts its window on disk for the next start, lets what is being sent to viewers finish within
    /// `edge.shutdown_grace`, and returns.
    pub async fn stop(self) {
        self.edge.set_ready(false);
        self.registry.begin_stop();
        self.stop_publishers.cancel();
        let _ = self.publishers.await;
        tokio::join!(self.http.stop(), self.registry.put_down(&self.shelf, PUT_DOWN_LIMIT));
        // Last: whoever looks at metrics sees the end of everything else.
        self.stop_admin.cancel();
        info!("stopped");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn descriptors_are_shared_out_and_publishers_come_first() {
        assert_eq!(viewers_within(None, 1_000), usize::MAX);
        assert_eq!(viewers_within(Some(20_000), 1_000), 18_808);
        assert_eq!(viewers_within(Some(4_096), 1_000), 2_904);
        assert_eq!(viewers_within(Some(1_024), 1_000), 512);
    }
}
