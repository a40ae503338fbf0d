//! The server under test: the program just built, on ephemeral ports, with a data folder of its own.

use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use serde_json::Value;
use tempfile::TempDir;

use super::http::{self, Response};
use super::process::Process;
use super::wait_for;

/// A fresh server listens well before this even on a busy machine.
const START_LIMIT: Duration = Duration::from_secs(20);

/// `edge.shutdown_grace`, and what a busy machine adds.
const STOP_LIMIT: Duration = Duration::from_secs(15);
/// Among the overrides, no key of the server but how many files it may open.
pub const OPEN_FILES: &str = "TEST_OPEN_FILES";

/// A running `rillcast serve`, ended when dropped.
pub struct Server {
    process: Process,
    data: TempDir,
    ports: Value,
    overrides: Vec<(String, String)>,
}

impl Server {
    /// Starts a server with the default configuration.
    #[track_caller]
    pub fn start() -> Self {
        Self::start_with(&[])
    }

    /// Starts a server with further environment overrides, such as `("RILLCAST__PACKAGER__WINDOW", "30s")`.
    #[track_caller]
    pub fn start_with(overrides: &[(&str, &str)]) -> Self {
        let data = TempDir::with_prefix("rillcast-test-").expect("the temporary folder is writable");
        let overrides = overrides.iter().map(|(key, value)| (key.to_string(), value.to_string())).collect();
        Self::start_in(data, overrides)
    }

    /// Starts a server whose streams wait for a publisher that has gone.
    #[track_caller]
    pub fn resuming(window: &str) -> Self {
        Self::start_with(&[("RILLCAST__INGEST__RESUME_WINDOW", window)])
    }

    #[track_caller]
    fn start_in(data: TempDir, overrides: Vec<(String, String)>) -> Self {
        let (process, ports) = Self::launch(&data, &overrides);
        Self { process, data, ports, overrides }
    }

    #[track_caller]
    fn launch(data: &TempDir, overrides: &[(String, String)]) -> (Process, Value) {
        let ports_file = data.path().join("ports.json");
        let _ = std::fs::remove_file(&ports_file);
        // The limit is the hard one, which the server cannot raise.
        let open_files =
            overrides.iter().find(|(key, _)| *key == OPEN_FILES).map(|(_, count)| format!("--nofile={count}"));
        let mut command = Command::new(if open_files.is_some() { "prlimit" } else { env!("CARGO_BIN_EXE_rillcast") });
        if let Some(open_files) = open_files {
            command.args([&open_files, env!("CARGO_BIN_EXE_rillcast")]);
        }
        command
            .arg("serve")
            .arg("--ports-file")
            .arg(&ports_file)
            // Where no config.toml lies, so that the defaults hold.
            .current_dir(data.path())
            .env("RILLCAST__DATA_DIR", data.path().join("data"))
            .env("RILLCAST__EDGE__HTTP", "127.0.0.1:0")
            .env("RILLCAST__EDGE__HTTPS", "127.0.0.1:0")
            .env("RILLCAST__INGEST__RTMP__LISTEN", "127.0.0.1:0")
            .env("RILLCAST__INGEST__RTMPS__LISTEN", "127.0.0.1:0")
            .env("RILLCAST__INGEST__SRT__LISTEN", "127.0.0.1:0")
            .env("RILLCAST__TELEMETRY__LISTEN", "127.0.0.1:0")
            // Most tests look at how a stream ends, and end it by stopping its publisher.
            .env("RILLCAST__INGEST__RESUME_WINDOW", "0s")
            .envs(overrides.iter().map(|(key, value)| (key, value)));
        let mut process = Process::start("rillcast", &mut command);
        let ports = wait_for("the server's ports file", START_LIMIT, || {
            if let Some(status) = process.ended() {
                panic!("rillcast ended with {status} before it served:\n{}", process.log());
            }
            // The file appears by rename, so whatever is there is whole.
            let text = std::fs::read_to_string(&ports_file).ok()?;
            Some(serde_json::from_str(&text).expect("the ports file is JSON"))
        });
        (process, ports)
    }

    /// Ends this server as an operator does, and waits until it has.
    #[track_caller]
    pub fn stop(&mut self) {
        self.process.signal("TERM");
        let status = self.process.wait(STOP_LIMIT);
        assert!(status.success(), "it ended with {status}:\n{}", self.log());
    }

    /// Ends it as a crash does.
    pub fn crash(&mut self) {
        self.process.kill();
    }

    /// Starts it again after [`Server::stop`] or [`Server::crash`], with the same data and configuration, and on the same ports.
    #[track_caller]
    pub fn start_again(&mut self) {
        let keys = [
            ("rtmp", "RILLCAST__INGEST__RTMP__LISTEN"),
            ("http", "RILLCAST__EDGE__HTTP"),
            ("https", "RILLCAST__EDGE__HTTPS"),
            ("admin", "RILLCAST__TELEMETRY__LISTEN"),
        ];
        let mut overrides = self.overrides.clone();
        overrides.extend(keys.map(|(name, key)| (key.to_owned(), self.port(name).to_string())));
        (self.process, self.ports) = Self::launch(&self.data, &overrides);
    }

    /// Ends this server without mercy and starts another on the same data, as after a crash. The ports are new.
    #[track_caller]
    pub fn crash_and_restart(mut self) -> Self {
        self.process.kill();
        let Self { data, .. } = self;
        Self::start_in(data, Vec::new())
    }

    #[track_caller]
    fn port(&self, name: &str) -> SocketAddr {
        let text =
            self.ports[name].as_str().unwrap_or_else(|| panic!("the ports file names no {name}: {}", self.ports));
        text.parse().expect("the ports file holds socket addresses")
    }

    /// Where RTMP is spoken.
    #[track_caller]
    pub fn rtmp(&self) -> SocketAddr {
        self.port("rtmp")
    }

    /// Where plain HTTP is served.
    #[track_caller]
    pub fn http(&self) -> SocketAddr {
        self.port("http")
    }

    /// Where HTTPS is served.
    #[track_caller]
    pub fn https(&self) -> SocketAddr {
        self.port("https")
    }

    /// Where metrics are.
    #[track_caller]
    pub fn admin(&self) -> SocketAddr {
        self.port("admin")
    }

    /// Where an encoder publishes `name` in the app `live`.
    #[track_caller]
    pub fn publish_url(&self, name: &str) -> String {
        format!("rtmp://{}/live/{name}", self.rtmp())
    }

    /// An address below plain HTTP; `path` begins with a slash.
    #[track_caller]
    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.http())
    }

    /// An address below HTTPS; `path` begins with a slash.
    #[track_caller]
    pub fn secure_url(&self, path: &str) -> String {
        format!("https://{}{path}", self.https())
    }

    /// The answer to a plain GET.
    #[track_caller]
    pub fn get(&self, path: &str) -> Response {
        http::get(self.http(), path)
    }

    /// The stream as the API tells it, or `None` where there is none.
    #[track_caller]
    pub fn stream(&self, name: &str) -> Option<Value> {
        let response = self.get(&format!("/api/v1/streams/live/{name}"));
        (response.status == 200).then(|| serde_json::from_str(&response.text()).expect("the API speaks JSON"))
    }

    /// Waits until the stream offers at least `segments` whole segments in every rendition.
    #[track_caller]
    pub fn wait_live(&self, name: &str, segments: usize) {
        wait_for(&format!("{segments} segments of {name}"), Duration::from_secs(30), || {
            let multivariant = self.get(&format!("/live/{name}/index.m3u8"));
            if multivariant.status != 200 {
                return None;
            }
            let text = multivariant.text();
            let renditions = media_playlists(&text);
            let ready = !renditions.is_empty()
                && renditions.iter().all(|uri| {
                    let playlist = self.get(&format!("/live/{name}/{uri}"));
                    playlist.status == 200 && playlist.text().matches("#EXTINF:").count() >= segments
                });
            ready.then_some(())
        });
    }

    /// The server's process, for signals and `/proc`.
    pub fn process(&mut self) -> &mut Process {
        &mut self.process
    }

    /// Its process id, for reading `/proc`.
    pub fn id(&self) -> u32 {
        self.process.id()
    }

    /// What it has logged so far.
    pub fn log(&self) -> String {
        self.process.log()
    }

    /// Its data folder.
    pub fn data(&self) -> &Path {
        self.data.path()
    }
}

/// The URIs of all media playlists that a multivariant playlist names, as written there.
pub fn media_playlists(multivariant: &str) -> Vec<String> {
    let mut found: Vec<String> = Vec::new();
    for line in multivariant.lines().map(str::trim) {
        let uri = if line.starts_with("#EXT-X-MEDIA:") {
            line.split_once("URI=\"").and_then(|(_, rest)| rest.split_once('"')).map(|(uri, _)| uri)
        } else if line.is_empty() || line.starts_with('#') {
            None
        } else {
            Some(line)
        };
        if let Some(uri) = uri.filter(|uri| !found.iter().any(|known| known == uri)) {
            found.push(uri.to_owned());
        }
    }
    found
}
