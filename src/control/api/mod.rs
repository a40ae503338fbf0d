//! REST below `/api/v1/`. The OpenAPI document is made from the handlers.
//!
//! Specifications: OpenAPI 3.1, RFC 9457 (problem details).

mod streams;

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
use utoipa::{OpenApi, ToSchema};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::media::StreamName;
use crate::media::report::IngestReport;
use crate::packager::live::Registry;

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

#[derive(OpenApi)]
#[openapi(info(title = "Rillcast", description = "Live streams of this node."), components(schemas(Problem)))]
struct Document;

/// All routes, under their full paths.
pub fn router(context: Context) -> Router {
    let (router, document) = OpenApiRouter::with_openapi(Document::openapi())
        .routes(routes!(streams::list))
        .routes(routes!(streams::one))
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
