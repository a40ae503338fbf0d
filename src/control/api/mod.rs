//! REST below `/api/v1/`. The OpenAPI document is made from the handlers. Reading what everybody may watch is open; what changes something, or tells of
//! keys, of publishers' addresses or of streams that are watched by token, needs authority.
//!
//! Specifications: OpenAPI 3.1, RFC 9457 (problem details).

mod authority;
mod input;
mod keys;
mod operate;
mod streams;
mod tokens;

use std::convert::Infallible;
use std::fmt;
use std::sync::Arc;

use axum::Router;
use axum::body::Bytes;
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE};
use axum::http::{Request, Response, StatusCode};
use axum::response::IntoResponse;
use axum::routing::get;
use http_body_util::BodyExt;
use http_body_util::combinators::UnsyncBoxBody;
use serde::Serialize;
use tower::ServiceExt;
use tower::util::BoxCloneSyncService;
use utoipa::openapi::security::{Http, HttpAuthScheme, SecurityScheme};
use utoipa::{Modify, OpenApi, ToSchema};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::access::Access;
use super::access::backoff::Backoff;
use super::file;
use crate::media::StreamName;
use crate::media::peer::Throttle;
use crate::media::report::IngestReport;
use crate::packager::live::Registry;

pub use self::operate::{Reload, Reloaded};

/// A body as HTTP servers hand it on and take it back.
pub type Body = UnsyncBoxBody<Bytes, Box<dyn std::error::Error + Send + Sync>>;

/// The API as a service that any HTTP server can call.
pub type Service = BoxCloneSyncService<Request<Body>, Response<Body>, Infallible>;

/// Tells what is known of a stream's ingest.
pub type TellIngest = dyn Fn(&StreamName) -> Option<IngestReport> + Send + Sync;

/// What the API looks at.
#[derive(Clone)]
pub struct Context {
    /// All streams.
    pub registry: Arc<Registry>,
    /// Estimates how many watch a stream.
    pub viewers: Arc<dyn Fn(&StreamName) -> u64 + Send + Sync>,
    /// Tells what is known of the way from a stream's publisher to here, where something is.
    pub ingest: Arc<TellIngest>,
    /// Keys and tokens.
    pub access: Arc<Access>,
    /// Reads the configuration again.
    pub reload: Reload,
    /// Who showed wrong API keys.
    backoff: Arc<Backoff>,
    /// How often the log says that keys cannot be read.
    unreadable: Arc<Throttle>,
}

impl Context {
    /// What the API needs of the rest of the server.
    pub fn new(
        registry: Arc<Registry>,
        viewers: Arc<dyn Fn(&StreamName) -> u64 + Send + Sync>,
        ingest: Arc<TellIngest>,
        access: Arc<Access>,
        reload: Reload,
    ) -> Self {
        Self { registry, viewers, ingest, access, reload, backoff: Arc::default(), unreadable: Arc::default() }
    }

    /// A context of the fixture's streams, seven viewers each, and keys in `folder`.
    #[cfg(test)]
    pub(crate) fn for_test(folder: &std::path::Path) -> Self {
        use super::access::{self, callback};
        let metrics = callback::Metrics::register(&prometheus::Registry::new()).expect("fresh names");
        let keys = Arc::new(super::keys::KeyStore::new(folder));
        let access = Access::new(&access::Config::default(), keys, folder, metrics).expect("defaults are good");
        let reload: Reload = Arc::new(|| Err("line 3: nonsense".into()));
        let registry = crate::packager::testing::fixture().registry;
        Self::new(registry, Arc::new(|_| 7), Arc::new(|_| None), access, reload)
    }
}

impl fmt::Debug for Context {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Context").finish_non_exhaustive()
    }
}

/// An error as every route answers it. Spec: RFC 9457.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Problem {
    /// Always `about:blank`: the status says what kind it is.
    #[serde(rename = "type")]
    kind: &'static str,
    /// The status in words.
    title: &'static str,
    /// The status code.
    status: u16,
    /// Which field breaks which rule.
    detail: String,
}

impl Problem {
    pub(crate) fn new(status: StatusCode, detail: impl Into<String>) -> Self {
        let title = status.canonical_reason().unwrap_or("Error");
        Self { kind: "about:blank", title, status: status.as_u16(), detail: detail.into() }
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> axum::response::Response {
        let status = StatusCode::from_u16(self.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let mut response = (status, axum::Json(self)).into_response();
        let json = axum::http::HeaderValue::from_static("application/problem+json");
        response.headers_mut().insert(CONTENT_TYPE, json);
        response
    }
}

/// Runs `work`, which touches the disk, where it delays nobody.
async fn blocking<R: Send + 'static>(
    work: impl FnOnce() -> Result<R, file::Error> + Send + 'static,
) -> Result<R, Problem> {
    match tokio::task::spawn_blocking(work).await {
        Ok(Ok(result)) => Ok(result),
        Ok(Err(file::Error::Full(words))) => Err(Problem::new(StatusCode::CONFLICT, words)),
        Ok(Err(error)) => {
            tracing::error!(%error, "the API cannot use its files");
            Err(Problem::new(StatusCode::SERVICE_UNAVAILABLE, "the server's files cannot be used; its log says why"))
        }
        Err(_) => Err(Problem::new(StatusCode::SERVICE_UNAVAILABLE, "the server is stopping")),
    }
}

#[derive(OpenApi)]
#[openapi(
    info(title = "Rillcast", description = "Live streams of this node, and who may publish and watch them."),
    components(schemas(Problem)),
    modifiers(&Bearer)
)]
struct Document;

/// `Authorization: Bearer ra_…`.
struct Bearer;

impl Modify for Bearer {
    fn modify(&self, document: &mut utoipa::openapi::OpenApi) {
        let scheme = SecurityScheme::Http(Http::new(HttpAuthScheme::Bearer));
        document.components.get_or_insert_default().add_security_scheme("api_key", scheme);
    }
}

/// All routes, under their full paths.
pub fn router(context: Context) -> Router {
    let guarded = OpenApiRouter::new()
        .routes(routes!(operate::kick))
        .routes(routes!(operate::end))
        .routes(routes!(operate::reload))
        .routes(routes!(keys::list, keys::add))
        .routes(routes!(keys::revoke))
        .routes(routes!(tokens::sign))
        .route_layer(axum::middleware::from_fn_with_state(context.clone(), authority::required));
    let (router, document) = OpenApiRouter::with_openapi(Document::openapi())
        .routes(routes!(streams::list))
        .routes(routes!(streams::one))
        .merge(guarded)
        .split_for_parts();
    // Made of constants: that it can be written is shown by a test.
    let document = Bytes::from(document.to_json().unwrap_or_default());
    let openapi = || async move { ([(CONTENT_TYPE, "application/json")], document) };
    router
        .route("/api/v1/openapi.json", get(openapi))
        .fallback(|| async {
            Problem::new(StatusCode::NOT_FOUND, "the API has no such path; see /api/v1/openapi.json")
        })
        .method_not_allowed_fallback(|| async {
            Problem::new(StatusCode::METHOD_NOT_ALLOWED, "the path exists, but not with this method")
        })
        .with_state(context)
}

/// The same as a boxed service. Answers are never stored.
pub fn service(context: Context) -> Service {
    let router: Router = router(context);
    let router = ServiceExt::<Request<Body>>::map_response(router, |mut response: axum::response::Response| {
        response.headers_mut().insert(CACHE_CONTROL, axum::http::HeaderValue::from_static("no-store"));
        response.map(|body| body.map_err(Into::into).boxed_unsync())
    });
    BoxCloneSyncService::new(router)
}

#[cfg(test)]
mod tests;
