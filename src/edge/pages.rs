//! The pages and what they load, embedded into the program.

use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::OnceLock;

use bytes::Bytes;
use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::{Response, StatusCode};
use rust_embed::RustEmbed;

use super::body::Body;
use super::handler::not_found;
use super::respond::{self, Caching, Template};
use crate::packager::window::gzip;

/// `index.html`, `player.html` and `assets/…`.
#[derive(RustEmbed)]
#[folder = "web/public"]
struct Public;

/// hls.js as its authors built it. Absent where `scripts/setup.sh` has not run; the player page says so then.
#[derive(RustEmbed)]
#[folder = "web/node_modules/hls.js/dist"]
#[include = "hls.min.js"]
#[allow_missing = true]
struct HlsJs;

/// Scripts come from us alone; media may come from blobs that a script filled, and playlists from any server that a page is pointed to.
const CONTENT_SECURITY_POLICY: &str = "default-src 'self'; media-src 'self' blob: https: http:; worker-src 'self' blob:; \
     img-src 'self' data: blob:; style-src 'self' 'unsafe-inline'; connect-src 'self' https: http: ws: wss:; \
     object-src 'none'; base-uri 'none'; form-action 'self'";

/// The port that the streams page names as it lies in the tree.
const RTMP_PORT: u16 = 1935;

fn port_tag(port: u16) -> String {
    format!("<meta name=\"rillcast-rtmp-port\" content=\"{port}\">")
}

/// All embedded files by path.
#[derive(Debug)]
pub(crate) struct Pages {
    files: HashMap<String, File>,
}

#[derive(Debug)]
struct File {
    template: Template,
    etag: String,
    plain: Bytes,
    /// Compressed when first asked for, then shared.
    gzip: OnceLock<Bytes>,
}

impl Pages {
    /// Takes the embedded files; copies nothing but the streams page, which tells publishers the port of RTMP.
    pub(crate) fn load(rtmp_port: u16) -> Self {
        let public = Public::iter().filter_map(|path| Some((path.to_string(), Public::get(&path)?)));
        let hls = HlsJs::get("hls.min.js").map(|file| ("assets/hls.min.js".to_owned(), file));
        let files = public.chain(hls).map(|(path, file)| {
            let content_type = content_type(&path);
            (path, File::new(content_type, file))
        });
        let mut files: HashMap<String, File> = files.collect();
        if let Some(index) = files.get_mut("index.html").filter(|_| rtmp_port != RTMP_PORT) {
            let text = String::from_utf8_lossy(&index.plain);
            let told = text.replace(&port_tag(RTMP_PORT), &port_tag(rtmp_port));
            index.plain = Bytes::from(told);
            index.etag = format!("{}-{rtmp_port}", index.etag);
        }
        Self { files }
    }

    /// A page, with the headers that keep a browser from being misled about it.
    pub(crate) fn page(&self, path: &str, headers: &HeaderMap) -> Response<Body> {
        let mut response = match self.files.get(path) {
            Some(file) => file.response(headers),
            None => respond::plain(StatusCode::NOT_FOUND, "this build has no such page\n".into()),
        };
        for (name, value) in [
            (header::CONTENT_SECURITY_POLICY, CONTENT_SECURITY_POLICY),
            (header::REFERRER_POLICY, "strict-origin-when-cross-origin"),
            (HeaderName::from_static("cross-origin-opener-policy"), "same-origin"),
            (HeaderName::from_static("permissions-policy"), "camera=(), microphone=(), geolocation=()"),
        ] {
            response.headers_mut().insert(name, HeaderValue::from_static(value));
        }
        response
    }

    /// What lies below `/assets/`.
    pub(crate) fn asset(&self, path: &str, headers: &HeaderMap) -> Response<Body> {
        match self.files.get(&format!("assets/{path}")) {
            Some(file) => file.response(headers),
            None => not_found("no such asset"),
        }
    }
}

impl File {
    fn new(content_type: &'static str, file: rust_embed::EmbeddedFile) -> Self {
        let hash = file.metadata.sha256_hash();
        let etag = hash.iter().take(8).map(|byte| format!("{byte:02x}")).collect();
        let plain = match file.data {
            Cow::Borrowed(data) => Bytes::from_static(data),
            Cow::Owned(data) => Bytes::from(data),
        };
        Self { template: Template::text(content_type, None), etag, plain, gzip: OnceLock::new() }
    }

    fn response(&self, headers: &HeaderMap) -> Response<Body> {
        let etag = |gzip| respond::etag(format_args!("{}", self.etag), gzip);
        respond::text(headers, &self.template, Caching::NoCache, etag, |compressed| {
            if compressed {
                self.gzip.get_or_init(|| gzip(&self.plain, flate2::Compression::best())).clone()
            } else {
                self.plain.clone()
            }
        })
    }
}

fn content_type(path: &str) -> &'static str {
    match path.rsplit_once('.').map(|(_, extension)| extension) {
        Some("html") => "text/html; charset=utf-8",
        Some("js") => "text/javascript; charset=utf-8",
        Some("css") => "text/css; charset=utf-8",
        Some("json" | "webmanifest") => "application/json",
        Some("svg") => "image/svg+xml",
        Some("png") => "image/png",
        Some("ico") => "image/x-icon",
        Some("woff2") => "font/woff2",
        Some("txt") => "text/plain; charset=utf-8",
        _ => "application/octet-stream",
    }
}
