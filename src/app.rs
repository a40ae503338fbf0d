//! The server as a value: wires ingest, packager, edge and control, and stops them in the right order.
//!
//! Order matters in three places. Ports are bound before anything is announced, so that what the ports file says is true. Publishers stop
//! before viewers do, so that viewers get the end of the stream. Nothing is read from a peer before every part it could reach exists.

mod reload;
mod wiring;

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::Write as _;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context;
use parking_lot::Mutex;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tracing::info;

use self::reload::Reloader;
pub use self::reload::SetLogFilter;
use crate::config::Config;
use crate::control::access::{Access, callback};
use crate::control::api;
use crate::control::keys::KeyStore;
use crate::edge::tls::Certificate;
use crate::edge::{self, Edge};
use crate::ingest;
use crate::ingest::report::{Board, Rules};
use crate::packager;
use crate::packager::live::{Limits, Registry};
use crate::packager::sequence::Sequences;

/// Streams at a time. Each may keep `packager.max_bytes`; the limit on RTMP connections is lower by default.
const MAX_STREAMS: usize = 10_000;
/// The ingest report of a publisher that went is kept while its stream waits, and this much longer: the wait begins after its last access unit.
const REPORT_GRACE: Duration = Duration::from_secs(60);

/// Descriptors beside those of publishers and viewers: listeners, logs, files that are being read or written, scrapers.
const OTHER_FILES: usize = 192;

/// How many viewers' connections may be open where the process may open so many files: publishers come first, but do not take all.
fn viewers_within(open_files: Option<u64>, publishers: usize) -> usize {
    let Some(open_files) = open_files else { return usize::MAX };
    let open_files = usize::try_from(open_files).unwrap_or(usize::MAX);
    open_files.saturating_sub(publishers).saturating_sub(OTHER_FILES).max(open_files / 2)
}

/// A running server. Dropping it does not stop it; [`run_until_signal`](Self::run_until_signal) does, or [`stop`](Self::stop).
pub struct App {
    ports: BTreeMap<&'static str, SocketAddr>,
    http: edge::http::Server,
    edge: Arc<Edge>,
    publishers: JoinHandle<()>,
    stop_publishers: CancellationToken,
    stop_admin: CancellationToken,
    reloader: Arc<Reloader>,
    hangups: Signal,
    keys_exist: bool,
}

impl App {
    /// Binds every port, wires everything and begins to serve. `config` came from `file`, which is read again on a reload; `set_log_filter` is told when
    /// the filter of the log changes.
    ///
    /// # Errors
    /// What cannot be read, written or bound, in words that name it.
    pub async fn start(config: Config, file: Option<PathBuf>, set_log_filter: SetLogFilter) -> anyhow::Result<Self> {
        // From here on, SIGHUP no longer ends the process.
        let hangups = signal(SignalKind::hangup())?;
        std::fs::create_dir_all(&config.data_dir)
            .with_context(|| format!("data_dir {} cannot be made", config.data_dir.display()))?;
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
            Limits { max_streams: MAX_STREAMS, resume_window: config.ingest.resume_window },
            packager::live::Metrics::register(&metrics)?,
        );
        let keys = Arc::new(KeyStore::new(&config.data_dir));
        let keys_exist = !keys.list()?.is_empty();
        let callback_metrics = callback::Metrics::register(&metrics)?;
        let access =
            Access::new(&config.access, keys, &config.data_dir, callback_metrics).map_err(anyhow::Error::msg)?;
        let current = Mutex::new(config.clone());
        let reloader = Arc::new(Reloader { file, current, access: Arc::clone(&access), certificate, set_log_filter });

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
        let reading = Arc::clone(&reports);
        let counting = Arc::downgrade(&edge);
        let reloading = Arc::clone(&reloader);
        edge.set_api(api::service(api::Context::new(
            Arc::clone(&registry),
            Arc::new(move |stream| counting.upgrade().map_or(0, |edge| edge.viewers(stream))),
            Arc::new(move |stream| reading.report(stream, Instant::now())),
            Arc::clone(&access),
            Arc::new(move || reloading.reload()),
        )));
        edge.set_access(Arc::new(wiring::Viewers(Arc::clone(&access))));
        let server = edge::http::Server::new(Arc::clone(&edge));
        server.listen(http, None);
        server.listen(https, Some(tls));
        let ingest_metrics = ingest::Metrics::register(&metrics)?;
        let refreshing = Arc::clone(&edge);
        let (measuring, judged) = (ingest_metrics.clone(), Arc::clone(&reports));
        let refresh: edge::admin::Refresh = Arc::new(move || {
            refreshing.refresh_metrics();
            measuring.set_health(judged.health(Instant::now()));
        });
        let stop_admin = CancellationToken::new();
        tokio::spawn(edge::admin::serve(admin, metrics, refresh, stop_admin.clone()));

        let stop_publishers = CancellationToken::new();
        let context = ingest::rtmp::server::Context {
            config: config.ingest.rtmp.clone(),
            registry,
            authorise: Arc::new(wiring::Publishers(access)),
            metrics: ingest_metrics,
            reports,
        };
        let publishers = tokio::spawn(ingest::rtmp::server::serve(rtmp, context, stop_publishers.clone()));
        edge.set_ready(true);
        info!(?ports, "serving");
        Ok(Self { ports, http: server, edge, publishers, stop_publishers, stop_admin, reloader, hangups, keys_exist })
    }

    /// The bound addresses by name: `rtmp`, `http`, `https`, `admin`.
    pub fn ports(&self) -> &BTreeMap<&'static str, SocketAddr> {
        &self.ports
    }

    /// Writes [`ports`](Self::ports) to `path` as JSON, whole or not at all.
    ///
    /// # Errors
    /// As the system says, with the path.
    pub fn write_ports(&self, path: &Path) -> anyhow::Result<()> {
        let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let write = || -> std::io::Result<()> {
            let mut file = tempfile::NamedTempFile::new_in(folder)?;
            file.write_all(serde_json::to_string(&self.ports)?.as_bytes())?;
            file.persist(path).map(drop).map_err(|error| error.error)
        };
        write().with_context(|| format!("--ports-file {}", path.display()))
    }

    /// What a person who has just started the server wants to know: where to publish, where to watch.
    pub fn greeting(&self) -> String {
        let mut text = String::new();
        let port = |name| self.ports.get(name).map_or(0, SocketAddr::port);
        let host = self.host();
        let rtmp = if port("rtmp") == 1935 { host.clone() } else { format!("{host}:{}", port("rtmp")) };
        let _ = writeln!(text, "\nRillcast {} is running.\n", env!("CARGO_PKG_VERSION"));
        let _ = writeln!(text, "  Publish with OBS: Settings, Stream");
        let _ = writeln!(text, "    Service      Custom...");
        let _ = writeln!(text, "    Server       rtmp://{rtmp}/live");
        let _ = writeln!(text, "    Stream Key   me                 (any name; Output, Keyframe Interval: 2 s)");
        let _ = writeln!(text, "\n  Watch");
        let _ = writeln!(text, "    http://{host}:{}/live/me", port("http"));
        let _ =
            writeln!(text, "    https://{host}:{}/live/me   (HTTP/2; self-signed unless configured)", port("https"));
        if !self.keys_exist {
            let _ = writeln!(text, "\n  Only this machine may publish. For others: rillcast key add live/me");
        }
        text
    }

    /// The name to show in URLs: this machine's, where it listens to others.
    fn host(&self) -> String {
        match self.ports.get("http").map(SocketAddr::ip) {
            Some(ip) if !ip.is_unspecified() => match ip {
                IpAddr::V4(ip) => ip.to_string(),
                IpAddr::V6(ip) => format!("[{ip}]"),
            },
            _ => String::from("localhost"),
        }
    }

    /// Serves until SIGTERM or SIGINT, then stops. SIGHUP has the configuration read again.
    ///
    /// # Errors
    /// The system refuses to deliver signals.
    pub async fn run_until_signal(mut self) -> anyhow::Result<()> {
        let mut terminate = signal(SignalKind::terminate())?;
        let mut interrupt = signal(SignalKind::interrupt())?;
        loop {
            tokio::select! {
                _ = terminate.recv() => {
                    info!("SIGTERM: stopping");
                    break;
                }
                _ = interrupt.recv() => {
                    info!("SIGINT: stopping");
                    break;
                }
                _ = self.hangups.recv() => {
                    let reloader = Arc::clone(&self.reloader);
                    // It says in the log what became of it.
                    let _ = tokio::task::spawn_blocking(move || reloader.reload()).await;
                }
            }
        }
        self.stop().await;
        Ok(())
    }

    /// Ends every stream, lets what is being sent to viewers finish within `edge.shutdown_grace`, and returns.
    pub async fn stop(self) {
        self.edge.set_ready(false);
        self.stop_publishers.cancel();
        let _ = self.publishers.await;
        self.http.stop().await;
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
