//! Tells programs and people where the server listens.

use std::fmt::Write as _;
use std::io::Write as _;
use std::net::{IpAddr, SocketAddr};
use std::path::Path;

use anyhow::Context;

use super::App;

/// What a client takes that is given no port.
const RTMP_PORT: u16 = 1935;

impl App {
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
        let rtmp = if port("rtmp") == RTMP_PORT { host.clone() } else { format!("{host}:{}", port("rtmp")) };
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
}
