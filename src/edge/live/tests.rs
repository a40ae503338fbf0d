//! Requests against hand-built windows, without sockets.

use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderMap, Method, Request, Response, StatusCode};
use http_body_util::{BodyExt, Empty};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use tokio::sync::watch;

use crate::edge::body::{Body, Boxed};
use crate::edge::{Config, Edge, Metrics};
use crate::media::Kind;
use crate::packager::live::{Registry, Stream};
use crate::packager::testing::show::Show;
use crate::packager::testing::{self, Fixture};

mod signed;
mod waiting;

const BASE: &str = "/live/me/10/v0";

fn edge(fixture: &Fixture, config: Config) -> Arc<Edge> {
    let metrics = Metrics::new(&prometheus::Registry::new()).expect("fresh names");
    Edge::new(config, Arc::clone(&fixture.registry), metrics, 1935)
}

async fn ask(edge: &Arc<Edge>, method: Method, path: &str, headers: &[(&str, &str)]) -> Response<Body> {
    let mut request = Request::builder().method(method).uri(path).header("host", "rillcast.test");
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let request = request.body(Empty::<Bytes>::new()).expect("a request");
    edge.handle(([127, 0, 0, 1], 40_000).into(), request).await
}

async fn get(edge: &Arc<Edge>, path: &str) -> Response<Body> {
    ask(edge, Method::GET, path, &[]).await
}

async fn body(response: Response<Body>) -> Bytes {
    response.into_body().collect().await.expect("a whole body").to_bytes()
}

fn header<'a>(headers: &'a HeaderMap, name: &str) -> &'a str {
    headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or("")
}

/// RFC 9112 §3.2, and RFC 9110 §14.2: ranges are of GET alone.
#[tokio::test]
async fn a_request_has_one_host_and_a_head_has_no_range() {
    let fixture = testing::fixture();
    let edge = edge(&fixture, Config::default());
    let asked = async |hosts: &[&str], version| {
        let mut request = Request::builder().uri("/healthz").version(version);
        for host in hosts {
            request = request.header("host", *host);
        }
        let request = request.body(Empty::<Bytes>::new()).expect("a request");
        edge.handle("127.0.0.1:1".parse().expect("an address"), request).await.status()
    };
    for (hosts, status) in [
        (&["a"][..], 200),
        (&["[::1]:80"], 200),
        (&[""], 200),
        (&[], 400),
        (&["a", "a"], 400),
        (&["a b"], 400),
        (&["a/b"], 400),
        (&["u@a"], 400),
    ] {
        assert_eq!(asked(hosts, http::Version::HTTP_11).await, status, "{hosts:?}");
    }
    assert_eq!(asked(&[], http::Version::HTTP_10).await, 200);
    assert_eq!(asked(&[], http::Version::HTTP_2).await, 200, "it is in :authority there");
    let head = ask(&edge, Method::HEAD, "/live/me/10/v0/s5.m4s", &[("range", "bytes=0-1")]).await;
    assert_eq!(head.status(), 200);
    assert!(head.headers().get("content-range").is_none());
}

#[tokio::test]
async fn every_answer_can_be_read_by_other_sites_and_says_how_long_it_keeps() {
    let fixture = testing::fixture();
    let edge = edge(&fixture, Config::default());
    for (path, status, caching) in [
        ("/live/me/index.m3u8", 200, "max-age=4"),
        ("/live/me/manifest.mpd", 404, "no-store"),
        ("/live/me/10/v0/index.m3u8", 200, "max-age=1"),
        ("/live/me/10/v0/index.m3u8?_HLS_skip=YES", 200, "max-age=1"),
        ("/live/me/10/v0/index.m3u8?_HLS_msn=7&_HLS_part=1", 200, "max-age=24"),
        ("/live/me/10/v0/index.m3u8?_HLS_part=1", 400, "max-age=16"),
        ("/live/me/10/v0/index.m3u8?_HLS_msn=abc", 400, "max-age=16"),
        ("/live/me/10/v0/index.m3u8?_HLS_msn=9", 400, "no-store"),
        ("/live/me/10/v0/init-0.mp4", 200, "max-age=31536000, immutable"),
        ("/live/me/10/v0/init-1.mp4", 404, "max-age=1"),
        ("/live/me/10/v0/s5.m4s", 200, "max-age=31536000, immutable"),
        ("/live/me/10/v0/s3.m4s", 404, "max-age=1"),
        ("/live/me/10/v0/s9.m4s", 404, "no-store"),
        ("/live/me/10/v0/p20.m4s", 200, "max-age=31536000, immutable"),
        ("/live/me/10/v0/p24.m4s", 404, "no-store"),
        ("/live/me/10/v0/p0.m4s", 404, "max-age=1"),
        ("/live/me/10/a0/index.m3u8", 404, "max-age=1"),
        ("/live/me/11/v0/index.m3u8", 404, "max-age=1"),
        ("/live/you/index.m3u8", 404, "max-age=1"),
        ("/live//me", 400, "max-age=16"),
        ("/", 200, "no-cache"),
        ("/live/me", 200, "no-cache"),
        ("/time", 200, "no-store"),
        ("/healthz", 200, "no-store"),
        ("/readyz", 503, "no-store"),
        ("/api/v1/streams", 404, "max-age=1"),
    ] {
        let response = get(&edge, path).await;
        assert_eq!(response.status(), status, "{path}");
        assert_eq!(header(response.headers(), "cache-control"), caching, "{path}");
        assert_eq!(header(response.headers(), "access-control-allow-origin"), "*", "{path}");
        assert!(header(response.headers(), "access-control-expose-headers").contains("Content-Length"), "{path}");
        if status >= 400 && path != "/readyz" {
            assert_eq!(header(response.headers(), "content-type"), "application/problem+json", "{path}");
            assert!(body(response).await.starts_with(b"{"), "{path}");
        }
    }
}

#[tokio::test]
async fn media_goes_out_as_the_slices_that_the_window_holds() {
    let fixture = testing::fixture();
    let edge = edge(&fixture, Config::default());
    let window = Arc::clone(&fixture.window.borrow());
    let segment = window.segment(5).expect("kept");
    let response = get(&edge, &format!("{BASE}/s5.m4s")).await;
    assert_eq!(header(response.headers(), "content-type"), "video/mp4");
    assert_eq!(header(response.headers(), "priority"), "u=3");
    assert_eq!(header(response.headers(), "timing-allow-origin"), "*", "players measure by it how fast media comes");
    assert_eq!(header(get(&edge, &format!("{BASE}/init-0.mp4")).await.headers(), "priority"), "u=2");
    let Body::Slices(slices) = response.into_body() else { panic!("a complete segment has a known length") };
    assert_eq!(slices.len(), segment.parts.len() * 2);
    for (served, held) in slices.iter().zip(segment.slices()) {
        assert_eq!(served.as_ptr(), held.as_ptr(), "copied");
    }

    let whole = body(get(&edge, &format!("{BASE}/s5.m4s")).await).await;
    let response = ask(&edge, Method::GET, &format!("{BASE}/s5.m4s"), &[("range", "bytes=3-29")]).await;
    assert_eq!(response.status(), StatusCode::PARTIAL_CONTENT);
    assert_eq!(header(response.headers(), "content-range"), format!("bytes 3-29/{}", whole.len()));
    assert_eq!(body(response).await, whole[3..30]);
    let response = ask(&edge, Method::GET, &format!("{BASE}/s5.m4s"), &[("range", "bytes=9999-")]).await;
    assert_eq!(response.status(), StatusCode::RANGE_NOT_SATISFIABLE);
    assert_eq!(header(response.headers(), "content-range"), format!("bytes */{}", whole.len()));

    let response = ask(&edge, Method::HEAD, &format!("{BASE}/s5.m4s"), &[]).await;
    assert_eq!(header(response.headers(), "content-length"), whole.len().to_string());
    assert!(body(response).await.is_empty());
}

/// RFC 9218: of all that one connection carries, what is short and asked for most often goes first.
#[tokio::test]
async fn every_answer_says_how_urgent_it_is() {
    let mut show = Show::new(&[Kind::Video, Kind::Audio]);
    show.cuts((0..6).map(|segment| segment * 180_000));
    let catalog = show.catalog();
    let (name, epoch) = ("live/me".parse().expect("a good name"), catalog.epoch);
    let windows = show.windows().into_iter().map(|window| (window.rendition.id, watch::Sender::new(window)));
    let stream = Stream::for_test(name, epoch, watch::Sender::new(Arc::new(catalog)), windows.collect());
    let fixture = Fixture { registry: Arc::new(Registry::for_test(vec![stream])), ..testing::fixture() };
    let edge = edge(&fixture, Config::default());
    for (file, urgency) in [
        ("index.m3u8", "u=1"),
        ("manifest.mpd", "u=1"),
        ("EPOCH/v0/index.m3u8", "u=1"),
        ("EPOCH/v0/init-0.mp4", "u=2"),
        ("EPOCH/v0/s4.m4s", "u=3"),
        ("EPOCH/v0/s5.m4s", "u=3"),
        ("EPOCH/a0/init-0.mp4", "u=2"),
        ("EPOCH/a0/s4.m4s", "u=2"),
        ("EPOCH/a0/s5.m4s", "u=2"),
    ] {
        let response = get(&edge, &format!("/live/me/{file}").replace("EPOCH", &epoch.to_string())).await;
        assert_eq!((response.status(), header(response.headers(), "priority")), (StatusCode::OK, urgency), "{file}");
        assert_eq!(response.body().len().is_none(), file.contains("s5"), "{file} grows");
    }
}

#[tokio::test]
async fn playlists_are_validated_and_coded_as_asked() {
    let fixture = testing::fixture();
    let edge = edge(&fixture, Config::default());
    let path = format!("{BASE}/index.m3u8");
    let plain = get(&edge, &path).await;
    let gzip = ask(&edge, Method::GET, &path, &[("accept-encoding", "gzip")]).await;
    for response in [&plain, &gzip] {
        assert_eq!(header(response.headers(), "content-type"), "application/vnd.apple.mpegurl");
        assert_eq!(header(response.headers(), "vary"), "Accept-Encoding");
        assert_eq!(header(response.headers(), "priority"), "u=1");
    }
    assert_eq!(header(gzip.headers(), "content-encoding"), "gzip");
    let (plain, gzip) = (header(plain.headers(), "etag").to_owned(), header(gzip.headers(), "etag").to_owned());
    assert_ne!(plain, gzip);
    let again = ask(&edge, Method::GET, &path, &[("if-none-match", &plain)]).await;
    assert_eq!(again.status(), StatusCode::NOT_MODIFIED);
    assert_eq!(header(again.headers(), "etag"), plain);
    assert_eq!(header(again.headers(), "cache-control"), "max-age=1");
    assert_eq!(again.headers().get("content-type"), None, "it describes what is not sent");
    let other = ask(&edge, Method::GET, &path, &[("if-none-match", &gzip)]).await;
    assert_eq!(other.status(), StatusCode::OK);
}

/// RFC 8216bis Appendix B.1: one report for every other rendition, which says what part is its newest, also where that is of a segment in the making.
#[tokio::test]
async fn a_playlist_reports_where_the_other_renditions_are() {
    let sound = testing::rendition(Kind::Audio);
    for (open, newest) in [(1, "LAST-MSN=7,LAST-PART=0"), (0, "LAST-MSN=6,LAST-PART=2")] {
        let fixture = testing::fixture_beside(vec![testing::window_of(&sound, 4, 3, 3, open)]);
        let edge = edge(&fixture, Config::default());
        for (own, report) in [
            ("v0", format!("URI=\"../a0/index.m3u8\",{newest}")),
            ("a0", "URI=\"../v0/index.m3u8\",LAST-MSN=7,LAST-PART=1".to_owned()),
        ] {
            let playlist = body(get(&edge, &format!("/live/me/10/{own}/index.m3u8")).await).await;
            let playlist = String::from_utf8_lossy(&playlist);
            let reports: Vec<_> =
                playlist.lines().filter_map(|line| line.strip_prefix("#EXT-X-RENDITION-REPORT:")).collect();
            assert_eq!(reports, [report], "{own}");
        }
    }
}

/// Players of DASH set their clocks by it (UTCTiming).
#[tokio::test]
async fn the_time_is_that_of_the_wall_clock() {
    let fixture = testing::fixture();
    let edge = edge(&fixture, Config::default());
    let said = body(get(&edge, "/time").await).await;
    let said = String::from_utf8_lossy(&said);
    let off = OffsetDateTime::now_utc() - OffsetDateTime::parse(&said, &Rfc3339).expect("a date");
    assert!(off.abs() < time::Duration::SECOND, "{said} is {off} off");
}

#[tokio::test]
async fn only_reading_is_allowed_and_preflights_are_answered() {
    let fixture = testing::fixture();
    let edge = edge(&fixture, Config::default());
    let response = ask(&edge, Method::POST, &format!("{BASE}/s5.m4s"), &[]).await;
    assert_eq!(response.status(), StatusCode::METHOD_NOT_ALLOWED);
    assert_eq!(header(response.headers(), "allow"), "GET, HEAD, OPTIONS");
    let response = ask(&edge, Method::OPTIONS, &format!("{BASE}/s5.m4s"), &[("origin", "https://a.example")]).await;
    assert_eq!(response.status(), StatusCode::NO_CONTENT);
    assert!(header(response.headers(), "access-control-allow-headers").contains("range"));
    assert_eq!(header(response.headers(), "access-control-allow-origin"), "*");
    let response = ask(&edge, Method::OPTIONS, "/api/v1/keys", &[("origin", "https://a.example")]).await;
    assert_eq!(response.status(), StatusCode::NO_CONTENT);
    assert!(header(response.headers(), "access-control-allow-methods").contains("DELETE"));
    assert!(header(response.headers(), "access-control-allow-headers").contains("authorization"));
}

/// RFC 8216bis §6.2.5.1: `_HLS_skip` is ignored in a playlist that has ended.
#[tokio::test]
async fn an_ended_playlist_is_whole_whatever_is_asked_for() {
    let fixture = testing::fixture();
    let edge = edge(&fixture, Config::default());
    for ended in [false, true] {
        // A minute, of which all but 24 s may be skipped.
        let mut window = testing::window_of(&fixture.rendition, 4, 30, 3, 0);
        window.ended = ended;
        fixture.window.send_replace(Arc::new(window));
        let mut answers = Vec::new();
        for query in ["", "?_HLS_skip=YES"] {
            let response = get(&edge, &format!("{BASE}/index.m3u8{query}")).await;
            let etag = header(response.headers(), "etag").to_owned();
            answers.push((etag, body(response).await));
        }
        let [(etag, full), (asked_etag, asked)] = &answers[..] else { unreachable!() };
        assert_eq!((asked == full, asked_etag == etag), (ended, ended), "{asked:?}");
    }
}

/// RFC 8216bis §6.2.2: who has a playlist may go on fetching what it lists, for a while after newer ones have ceased to.
#[tokio::test]
async fn what_has_left_the_playlist_is_served_as_long_as_it_is_kept() {
    let fixture = testing::fixture();
    // 24 seconds, of which 18 are listed, and parts for twelve.
    let mut window = testing::window_of(&fixture.rendition, 4, 12, 3, 0);
    window.listed = 3;
    fixture.window.send_replace(Arc::new(window));
    let edge = edge(&fixture, Config::default());
    let playlist = body(get(&edge, &format!("{BASE}/index.m3u8")).await).await;
    let playlist = String::from_utf8_lossy(&playlist);
    for (file, listed, begins) in [
        ("s4.m4s", false, "head-12."),
        ("s6.m4s", false, "head-18."),
        ("s7.m4s", true, "head-21."),
        ("p12.m4s", false, "head-12."),
        ("p26.m4s", false, "head-26."),
        ("p27.m4s", true, "head-27."),
    ] {
        assert_eq!(playlist.contains(file), listed, "{file} in\n{playlist}");
        let response = get(&edge, &format!("{BASE}/{file}")).await;
        assert_eq!(response.status(), StatusCode::OK, "{file}");
        assert!(body(response).await.starts_with(begins.as_bytes()), "{file}");
    }
}

#[tokio::test]
async fn a_stream_without_a_measured_segment_is_not_there_yet() {
    let fixture = testing::fixture();
    fixture.catalog.send_replace(Arc::new(testing::catalog(Vec::new())));
    let edge = edge(&fixture, Config::default());
    let response = get(&edge, "/live/me/index.m3u8").await;
    assert_eq!(response.status(), StatusCode::NOT_FOUND);
    assert_eq!(header(response.headers(), "retry-after"), "1");
    assert_eq!(header(response.headers(), "cache-control"), "no-store");
}

#[tokio::test]
async fn a_viewer_counts_once_per_connection() {
    let fixture = testing::fixture();
    let edge = edge(&fixture, Config::default());
    for _ in 0..3 {
        get(&edge, &format!("{BASE}/index.m3u8")).await;
    }
    assert_eq!(edge.viewers(&"live/me".parse().expect("a good name")), 1);
}

#[tokio::test]
async fn the_api_is_told_who_asks_and_its_answers_are_not_kept() {
    let fixture = testing::fixture();
    let edge = edge(&fixture, Config::default());
    edge.set_api(tower::util::BoxCloneSyncService::new(tower::service_fn(|request: Request<Boxed>| async move {
        let peer = request.extensions().get::<std::net::SocketAddr>().map(ToString::to_string).unwrap_or_default();
        let text = format!("{} {} {peer}", request.method(), request.uri());
        Ok(Response::new(http_body_util::Full::from(text).map_err(|never| match never {}).boxed_unsync()))
    })));
    let response = ask(&edge, Method::POST, "/api/v1/x?y=1", &[]).await;
    assert_eq!(header(response.headers(), "cache-control"), "no-store");
    assert_eq!(header(response.headers(), "access-control-allow-origin"), "*");
    assert_eq!(body(response).await, "POST /api/v1/x?y=1 127.0.0.1:40000");
}

#[tokio::test]
async fn pages_and_assets_come_with_their_headers() {
    let fixture = testing::fixture();
    let edge = edge(&fixture, Config::default());
    for (path, content_type) in [("/", "text/html; charset=utf-8"), ("/live/nobody", "text/html; charset=utf-8")] {
        let response = get(&edge, path).await;
        assert_eq!(header(response.headers(), "content-type"), content_type, "{path}");
        assert!(header(response.headers(), "content-security-policy").starts_with("default-src 'self'"), "{path}");
        assert_eq!(header(response.headers(), "x-content-type-options"), "nosniff", "{path}");
        let etag = header(response.headers(), "etag").to_owned();
        let again = ask(&edge, Method::GET, path, &[("if-none-match", &etag)]).await;
        assert_eq!(again.status(), StatusCode::NOT_MODIFIED, "{path}");
        let gzip = ask(&edge, Method::GET, path, &[("accept-encoding", "gzip")]).await;
        assert_eq!(header(gzip.headers(), "content-encoding"), "gzip", "{path}");
    }
    assert_eq!(get(&edge, "/assets/none.js").await.status(), StatusCode::NOT_FOUND);
    for (path, location) in [("/live/me/", "../me"), ("/live/me/?a=b&c", "../me?a=b&c")] {
        let response = get(&edge, path).await;
        assert_eq!(response.status(), StatusCode::PERMANENT_REDIRECT, "{path}");
        assert_eq!(header(response.headers(), "location"), location, "{path}");
    }
    for (path, status) in
        [("/live//", 400), ("/live/me//", 400), ("/live/me/10/", 400), ("/api/me/", 404), ("/assets/x/", 404)]
    {
        assert_eq!(get(&edge, path).await.status(), status, "{path}");
    }
}
