//! `/api/v1/streams`.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use serde::Serialize;
use utoipa::ToSchema;

use super::authority::{self, Asker};
use super::input::InPath;
use super::{Context, Problem};
use crate::media::report::IngestReport;
use crate::media::{Format, Kind, StreamName, WallTime};
use crate::packager::catalog::Measured;
use crate::packager::live::{State as Presence, Stream};

/// All streams.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Streams {
    streams: Vec<View>,
}

/// A stream.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Stream)]
pub(super) struct View {
    app: String,
    name: String,
    state: Life,
    /// This life of the stream, as URLs name it.
    epoch: String,
    /// When this life began, RFC 3339.
    started_at: String,
    publisher: Publisher,
    tracks: Vec<TrackView>,
    viewers: Viewers,
    ingest: Ingest,
    urls: Urls,
}

/// Where a stream is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "lowercase")]
enum Life {
    /// It can be watched.
    Live,
    /// It has begun, but cannot be watched yet; or nobody publishes it now, and somebody may yet.
    Waiting,
    /// It is over, and can still be watched for a short while.
    Ended,
}

/// Who brings a stream.
#[derive(Debug, Serialize, ToSchema)]
struct Publisher {
    /// `rtmp`, `srt`, …
    protocol: String,
    /// Address and port; null for whoever has neither an API key nor, where there is none, asks from the server's own machine.
    peer: Option<String>,
    /// RFC 3339.
    since: String,
}

/// One elementary stream.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Track)]
struct TrackView {
    /// The rendition, as URLs name it.
    id: String,
    /// `video` or `audio`.
    kind: &'static str,
    /// RFC 6381.
    codec: String,
    /// Pixels; pictures only.
    width: Option<u16>,
    /// Pixels; pictures only.
    height: Option<u16>,
    /// Pictures a second; pictures only.
    fps: Option<f64>,
    /// Average bits a second.
    bitrate: u64,
}

/// How many watch.
#[derive(Debug, Serialize, ToSchema)]
struct Viewers {
    /// Those that are counted one by one; null while counted viewing is not set up.
    exact: Option<u64>,
    /// Distinct connections that asked for a playlist in the last 15 seconds.
    estimated: u64,
}

/// What is known of the way from the publisher to here; an empty object where nothing is.
#[derive(Debug, Serialize, ToSchema)]
#[serde(untagged)]
enum Ingest {
    Known(Box<IngestReport>),
    Unknown {},
}

/// Where to watch, relative to this server.
#[derive(Debug, Serialize, ToSchema)]
struct Urls {
    hls: String,
    dash: String,
    page: String,
}

/// Lists the streams of this node, by name.
///
/// Streams that are watched by signed URLs alone, and publishers' addresses, are told with an API key; where there is none, on the server's own machine.
#[utoipa::path(
    get,
    path = "/api/v1/streams",
    security((), ("api_key" = [])),
    responses((status = 200, description = "All streams that may be shown, by name", body = Streams))
)]
pub(super) async fn list(State(context): State<Context>, asker: Asker) -> Json<Streams> {
    let all = authority::has(&context, &asker).await;
    let streams = context.registry.streams();
    let shown = streams.iter().filter(|stream| may_see(&context, stream.name(), all));
    Json(Streams { streams: shown.map(|stream| view(stream, &context, all)).collect() })
}

/// Whether a stream is shown: those that are watched by token to whoever may see `all`.
fn may_see(context: &Context, name: &StreamName, all: bool) -> bool {
    all || !context.access.is_watched_by_token(name.app())
}

/// Shows one stream.
///
/// One that is watched by signed URLs alone is not there for whoever has no API key.
#[utoipa::path(
    get,
    path = "/api/v1/streams/{app}/{name}",
    security((), ("api_key" = [])),
    params(("app" = String, Path, description = "Application"), ("name" = String, Path, description = "Stream name")),
    responses(
        (status = 200, description = "The stream", body = View),
        (status = 404, description = "No such stream", body = Problem, content_type = "application/problem+json"),
    )
)]
pub(super) async fn one(
    State(context): State<Context>,
    InPath((app, name)): InPath<(String, String)>,
    asker: Asker,
) -> Result<Json<View>, Problem> {
    let name = name_of(&app, &name)?;
    let all = authority::has(&context, &asker).await;
    match context.registry.stream(&name).filter(|_| may_see(&context, &name, all)) {
        Some(stream) => Ok(Json(view(&stream, &context, all))),
        None => Err(no_stream(&name)),
    }
}

/// The stream that a path names. What cannot be a name is the name of nothing.
pub(super) fn name_of(app: &str, name: &str) -> Result<StreamName, Problem> {
    StreamName::new(app, name).map_err(|rule| Problem::new(StatusCode::NOT_FOUND, rule.to_string()))
}

pub(super) fn no_stream(name: &StreamName) -> Problem {
    Problem::new(StatusCode::NOT_FOUND, format!("no stream {name} is live, or was a short while ago"))
}

fn view(stream: &Stream, context: &Context, all: bool) -> View {
    let catalog = Arc::clone(&stream.catalog().borrow());
    let name = stream.name();
    let publisher = stream.publisher();
    let started = i64::try_from(stream.epoch().millis()).unwrap_or(i64::MAX).saturating_mul(1000);
    View {
        app: name.app().to_owned(),
        name: name.name().to_owned(),
        state: match (stream.state(), catalog.renditions.is_empty()) {
            (Presence::Ended, _) => Life::Ended,
            (Presence::Live, false) => Life::Live,
            _ => Life::Waiting,
        },
        epoch: stream.epoch().to_string(),
        started_at: WallTime::from_micros(started).rfc3339(),
        publisher: Publisher {
            protocol: publisher.protocol.to_owned(),
            peer: all.then(|| publisher.peer.to_string()),
            since: publisher.since.rfc3339(),
        },
        tracks: catalog.renditions.iter().map(track).collect(),
        viewers: Viewers { exact: None, estimated: (context.viewers)(name) },
        // What is over needs no advice.
        ingest: match (context.ingest)(name).filter(|_| !catalog.ended) {
            Some(report) => Ingest::Known(Box::new(report)),
            None => Ingest::Unknown {},
        },
        urls: Urls {
            hls: format!("/{name}/index.m3u8"),
            dash: format!("/{name}/manifest.mpd"),
            page: format!("/{name}"),
        },
    }
}

fn track(measured: &Measured) -> TrackView {
    let rendition = &measured.rendition;
    let format = &rendition.init.track.format;
    let (width, height) = match format {
        Format::H264(config) => (Some(config.width), Some(config.height)),
        Format::Aac(_) | Format::Mp3(_) => (None, None),
    };
    let (kind, fps) = match format.kind() {
        Kind::Video => ("video", Some(measured.frame_rate)),
        Kind::Audio => ("audio", None),
    };
    TrackView {
        id: rendition.id.to_string(),
        kind,
        codec: format.codec_string(),
        width,
        height,
        fps,
        bitrate: measured.average_bps,
    }
}

#[cfg(test)]
mod tests {
    use axum::body::Body;
    use axum::http::{Request, Response};
    use http_body_util::BodyExt;
    use tower::ServiceExt;

    use super::*;

    async fn get(path: &str) -> Response<super::super::Body> {
        let folder = tempfile::tempdir().expect("a folder");
        let context = Context::for_test(folder.path());
        let request = Request::get(path).body(Body::empty()).expect("a request");
        let request = request.map(|body| body.map_err(Into::into).boxed_unsync());
        let Ok(response) = super::super::service(context).oneshot(request).await;
        response
    }

    async fn json(response: Response<super::super::Body>) -> serde_json::Value {
        let body = response.into_body().collect().await.expect("a body").to_bytes();
        serde_json::from_slice(&body).expect("JSON")
    }

    #[tokio::test]
    async fn streams_have_the_shape_of_the_contract() {
        let one = json(get("/api/v1/streams/live/me").await).await;
        let wanted = serde_json::json!({
            "app": "live",
            "name": "me",
            "state": "live",
            "epoch": "10",
            "started_at": "1970-01-01T00:00:00.036Z",
            "publisher": {"protocol": "rtmp", "peer": null, "since": "1970-01-01T00:00:00.000Z"},
            "tracks": [{
                "id": "v0", "kind": "video", "codec": "avc1.64001F", "width": 1280, "height": 720, "fps": 30.0, "bitrate": 1_500_000,
            }],
            "viewers": {"exact": null, "estimated": 7},
            "ingest": {},
            "urls": {"hls": "/live/me/index.m3u8", "dash": "/live/me/manifest.mpd", "page": "/live/me"},
        });
        assert_eq!(one, wanted);
        assert_eq!(json(get("/api/v1/streams").await).await, serde_json::json!({"streams": [wanted]}));
    }

    #[tokio::test]
    async fn what_is_not_there_is_a_problem() {
        for path in ["/api/v1/streams/live/you", "/api/v1/streams/api/x", "/api/v1/streams/live/%2e%2e", "/api/v2"] {
            let response = get(path).await;
            assert_eq!(response.status(), StatusCode::NOT_FOUND, "{path}");
            assert_eq!(response.headers()["content-type"], "application/problem+json", "{path}");
            assert_eq!(response.headers()["cache-control"], "no-store", "{path}");
            assert_eq!(json(response).await["status"], 404, "{path}");
        }
    }

    #[tokio::test]
    async fn the_openapi_document_names_every_route() {
        let document = json(get("/api/v1/openapi.json").await).await;
        assert!(document["openapi"].as_str().is_some_and(|version| version.starts_with("3.1")));
        for path in ["/api/v1/streams", "/api/v1/streams/{app}/{name}"] {
            assert!(document["paths"][path]["get"].is_object(), "{path}");
        }
        for (schema, field) in [("IngestReport", "advice"), ("VideoReport", "key_frame_interval"), ("Advice", "remedy")]
        {
            let properties = &document["components"]["schemas"][schema]["properties"];
            assert!(properties[field].is_object(), "{schema}: {properties}");
        }
    }
}
