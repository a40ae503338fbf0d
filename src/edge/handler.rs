//! One request in, one response out: what every protocol version shares.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Instant;

use bytes::Bytes;
use http::header::{self, HeaderValue};
use http::{HeaderMap, Method, Request, Response, StatusCode, Version};
use http_body_util::BodyExt;
use tokio_util::sync::CancellationToken;
use tower::ServiceExt;
use tower::util::BoxCloneSyncService;

use super::access::MayWatch;
use super::body::{Body, BoxError, Boxed};
use super::config::Config;
use super::metrics::{Kind, Metrics};
use super::mpd::Mpds;
use super::negotiate;
use super::pages::Pages;
use super::reply::{Answer, Question, Reply};
use super::respond::{self, Caching};
use super::route::{self, Object, Route, RouteError};
use super::viewers::{self, Viewers};
use crate::media::peer::Places;
use crate::media::{StreamName, wall_clock};
use crate::packager::live::Registry;

/// What answers `/api/…`. The peer's address is an extension of the request, as [`SocketAddr`].
pub type Api = BoxCloneSyncService<Request<Boxed>, Response<Boxed>, Infallible>;

/// How long a 400 is kept where no stream says what a target duration is.
const BAD_REQUEST_SECONDS: u64 = 16;

/// The HTTP side of a node: routes requests to windows, pages and the API. One per process, shared by all listeners.
pub struct Edge {
    pub(crate) config: Config,
    /// The live streams.
    pub(crate) registry: Arc<Registry>,
    pub(crate) metrics: Metrics,
    /// Requests that wait for media.
    pub(crate) waiting: Arc<Places>,
    /// The newest MPD of each stream, shared by all who ask.
    pub(crate) mpds: Mpds,
    /// Who watches what, as far as can be told.
    pub(crate) viewers: Viewers,
    /// Cancelled when the server stops: who waits is answered 503.
    pub(crate) stop: CancellationToken,
    pages: Pages,
    /// Put in by the app, once.
    api: OnceLock<Api>,
    /// Likewise. Without it, everybody may watch.
    access: OnceLock<Arc<dyn MayWatch>>,
    /// What `/readyz` says.
    ready: AtomicBool,
}

impl std::fmt::Debug for Edge {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Edge").field("config", &self.config).finish_non_exhaustive()
    }
}

/// What a request was, as far as answering it needs.
#[derive(Debug)]
pub(crate) struct Asked {
    /// Where the connection comes from.
    pub(crate) peer: SocketAddr,
    /// What stands for the viewer who asks ([`viewers::identity`]).
    pub(crate) viewer: SocketAddr,
    pub(crate) headers: http::HeaderMap,
    /// When it came: what a wait is measured from.
    pub(crate) at: tokio::time::Instant,
}

impl Edge {
    /// An edge that serves `registry`, whose pages tell people to publish at `rtmp_port`. Nothing listens yet, and `/readyz` says 503 until [`Self::set_ready`].
    pub fn new(config: Config, registry: Arc<Registry>, metrics: Metrics, rtmp_port: u16) -> Arc<Self> {
        let waiting = Places::new(config.max_waiting, config.max_waiting_per_ip);
        let viewers = Viewers::new(metrics.limits.viewers.clone());
        Arc::new(Self {
            config,
            registry,
            waiting,
            viewers,
            metrics,
            mpds: Mpds::default(),
            stop: CancellationToken::new(),
            pages: Pages::load(rtmp_port),
            api: OnceLock::new(),
            access: OnceLock::new(),
            ready: AtomicBool::new(false),
        })
    }

    /// Puts `api` below `/api/`; once, before the first request. Without one, `/api/…` is 404.
    pub fn set_api(&self, api: Api) {
        // A second one would be a mistake in the wiring that changes nothing.
        let _ = self.api.set(api);
    }

    /// Asks `access` who may watch; once, before the first request. Without, everybody may, and nothing lies below `/t/`.
    pub fn set_access(&self, access: Arc<dyn MayWatch>) {
        let _ = self.access.set(access);
    }

    /// What `/readyz` says from now on.
    pub fn set_ready(&self, ready: bool) {
        self.ready.store(ready, Ordering::Relaxed);
    }

    /// Estimate of how many watch `stream` now: distinct connections that asked for its leading playlist in the last 15 seconds.
    pub fn viewers(&self, stream: &StreamName) -> u64 {
        self.viewers.count(Instant::now()).get(stream).copied().unwrap_or(0)
    }

    /// Brings gauges that are computed, not counted, up to date; before a scrape.
    pub fn refresh_metrics(&self) {
        let viewers: u64 = self.viewers.count(Instant::now()).values().sum();
        self.metrics.viewers.set(i64::try_from(viewers).unwrap_or(i64::MAX));
    }

    /// Answers `request` of `peer`. Cancel-safe: dropped, the answer leaves nothing behind.
    pub fn handle<B>(self: &Arc<Self>, peer: SocketAddr, request: Request<B>) -> Answer
    where
        B: http_body::Body<Data = Bytes> + Send + 'static,
        B::Error: Into<BoxError>,
    {
        let (method, version) = (request.method().clone(), request.version());
        let at = tokio::time::Instant::now();
        let (token, route) = route::parse_signed(request.uri().path(), request.uri().query());
        let question = Question { kind: kind(&route), method: method.clone(), version, at };
        let reply = match route {
            _ if version == Version::HTTP_11 && !names_one_host(request.headers()) => {
                let rule = "a request of HTTP/1.1 has one Host field, with a host in it (RFC 9112 3.2)";
                respond::problem(StatusCode::BAD_REQUEST, Caching::NoStore, rule).into()
            }
            Ok(Route::Api) if method == Method::OPTIONS => respond::options(&respond::API).into(),
            _ if method == Method::OPTIONS => respond::options(&respond::READ).into(),
            Ok(Route::Api) => self.api(peer, request),
            _ if method != Method::GET && method != Method::HEAD => {
                let rule = "this can only be read: GET, HEAD or OPTIONS";
                let mut refused = respond::problem(StatusCode::METHOD_NOT_ALLOWED, Caching::NoStore, rule);
                refused.headers_mut().insert(header::ALLOW, respond::READ.methods());
                refused.into()
            }
            Ok(route) => match self.may_watch(&route, token, peer) {
                Ok(()) => {
                    let mut headers = request.into_parts().0.headers;
                    if method == Method::HEAD {
                        // Ranges are of GET alone (RFC 9110 §14.2).
                        headers.remove(header::RANGE);
                    }
                    let agent = headers.get(header::USER_AGENT).map(HeaderValue::as_bytes);
                    let viewer = viewers::identity(peer, version, agent);
                    self.answer(route, Asked { peer, viewer, headers, at })
                }
                Err(why) => respond::problem(StatusCode::FORBIDDEN, Caching::NoStore, &why).into(),
            },
            Err(RouteError::NotFound) => not_found("nothing is served under this path").into(),
            Err(RouteError::Malformed(rule)) => {
                respond::problem(StatusCode::BAD_REQUEST, Caching::Seconds(BAD_REQUEST_SECONDS), rule).into()
            }
        };
        Answer::new(self, question, reply)
    }

    fn may_watch(&self, route: &Route, token: Option<&str>, peer: SocketAddr) -> Result<(), String> {
        let Some(access) = self.access.get() else {
            return if token.is_none() { Ok(()) } else { Err("no tokens are taken here".into()) };
        };
        match (route.stream(), token) {
            (Some(stream), token) => access.may_watch(stream, token, peer.ip()),
            (None, Some(token)) => access.is_good(token),
            (None, None) => Ok(()),
        }
    }

    fn answer(self: &Arc<Self>, route: Route, asked: Asked) -> Reply {
        let response = match route {
            Route::Index => self.pages.page("index.html", &asked.headers),
            Route::Page(_) => self.pages.page("player.html", &asked.headers),
            // Relative, so that it stays below `/t/TOKEN/` and wherever a proxy mounts us.
            Route::Slash(stream, query) => {
                let query = query.map_or(String::new(), |query| format!("?{query}"));
                respond::redirect(&format!("../{}{query}", stream.name()))
            }
            Route::Asset(path) => self.pages.asset(&path, &asked.headers),
            Route::Time => respond::plain(StatusCode::OK, wall_clock::now().rfc3339()),
            Route::Health => respond::plain(StatusCode::OK, "alive\n".into()),
            Route::Ready if self.ready.load(Ordering::Relaxed) && !self.stop.is_cancelled() => {
                respond::plain(StatusCode::OK, "ready\n".into())
            }
            Route::Ready => respond::plain(StatusCode::SERVICE_UNAVAILABLE, "not ready\n".into()),
            Route::Multivariant(name) => match self.registry.stream(&name) {
                Some(stream) => self.multivariant(&stream, &asked),
                None => no_stream(),
            },
            Route::Mpd(name) => match self.registry.stream(&name) {
                Some(stream) => self.mpd(&stream, &asked),
                None => no_stream(),
            },
            Route::Rendition(path, object) => {
                let Some(stream) = self.registry.stream(&path.stream) else { return no_stream().into() };
                if stream.epoch() != path.epoch {
                    return not_found("this life of the stream is over; its playlist names the current one").into();
                }
                let Some(cell) = stream.window(path.rendition) else {
                    return not_found("the stream has no such rendition").into();
                };
                return match object {
                    Object::Playlist(directives) => self.playlist(stream, cell, directives, asked),
                    Object::Init(number) => self.init(&cell, number, &asked).into(),
                    Object::Part(number) => self.part(cell, number, asked),
                    Object::Segment(msn) => self.segment(cell, msn, asked),
                };
            }
            // Handled before, since the API reads bodies.
            Route::Api => not_found("the API is not served here"),
        };
        response.into()
    }

    fn api<B>(self: &Arc<Self>, peer: SocketAddr, request: Request<B>) -> Reply
    where
        B: http_body::Body<Data = Bytes> + Send + 'static,
        B::Error: Into<BoxError>,
    {
        let Some(api) = self.api.get().cloned() else {
            return not_found("the API is not served here").into();
        };
        let mut request = request.map(|body| body.map_err(Into::into).boxed_unsync());
        request.extensions_mut().insert(peer);
        // Boxed by itself, since the compiler could not prove a future `Send` that names the type of the service.
        let answer: Pin<Box<dyn Future<Output = Result<Response<Boxed>, Infallible>> + Send>> =
            Box::pin(api.oneshot(request));
        let edge = Arc::clone(self);
        Reply::Later(Box::pin(async move {
            let Ok(response) = answer.await;
            if response.status() == StatusCode::REQUEST_TIMEOUT {
                edge.metrics.limits.body.hit(peer.ip(), "the body of a request did not come in time");
            }
            let mut response = response.map(Body::Open);
            respond::adopt(response.headers_mut());
            response.headers_mut().entry(header::CACHE_CONTROL).or_insert(Caching::NoStore.value());
            response
        }))
    }
}

/// Spec: RFC 9112 §3.2, RFC 3986 §3.2 (an empty host is one, of a target that has none).
fn names_one_host(headers: &HeaderMap) -> bool {
    let mut hosts = negotiate::values(headers, header::HOST);
    let (Some(host), None) = (hosts.next(), hosts.next()) else { return false };
    host.as_bytes().iter().all(|byte| byte.is_ascii_alphanumeric() || b"-._~%:[]!$&'()*+,;=".contains(byte))
}

/// 404 for a second: what is not there now may be soon.
pub(crate) fn not_found(rule: &str) -> Response<Body> {
    respond::problem(StatusCode::NOT_FOUND, Caching::Seconds(1), rule)
}

fn no_stream() -> Response<Body> {
    not_found("no such stream is live")
}

fn kind(route: &Result<Route, RouteError>) -> Kind {
    match route {
        Ok(Route::Multivariant(_) | Route::Rendition(_, Object::Playlist(_))) => Kind::Playlist,
        Ok(Route::Mpd(_)) => Kind::Manifest,
        Ok(Route::Rendition(_, Object::Init(_))) => Kind::Init,
        Ok(Route::Rendition(_, Object::Segment(_))) => Kind::Segment,
        Ok(Route::Rendition(_, Object::Part(_))) => Kind::Part,
        Ok(Route::Api) => Kind::Api,
        Ok(Route::Index | Route::Page(_) | Route::Slash(..) | Route::Asset(_)) => Kind::Page,
        Ok(Route::Time | Route::Health | Route::Ready) | Err(_) => Kind::Other,
    }
}
