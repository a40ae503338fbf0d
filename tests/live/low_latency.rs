//! What a low-latency player does, over HTTP/2 and TLS, with a client that is not ours: every part is asked for before it exists.

use std::collections::HashSet;
use std::time::{Duration, Instant, SystemTime};

use reqwest::{Client, StatusCode, Version};
use tokio::task::JoinSet;

use super::common::media::Source;
use super::common::publisher::Publisher;
use super::common::server::{Server, media_playlists};

/// Parts followed per rendition: four segments and more.
const PARTS: usize = 45;
/// Playlists per rendition whose reports of the other are held against it: more than a segment.
const REPORTS: usize = 15;
/// Segments of which it is judged whether an MPD announces them in time.
const ANNOUNCED: usize = 10;
/// What was to be there comes within so much, usually; half a part.
const PROMPT: Duration = Duration::from_millis(100);

fn client() -> Client {
    // The provider is process-wide, and another test may have been quicker.
    let _ = rustls::crypto::ring::default_provider().install_default();
    Client::builder()
        .danger_accept_invalid_certs(true)
        .no_proxy()
        .timeout(Duration::from_secs(20))
        .build()
        .expect("a client can be made")
}

async fn fetch(client: &Client, url: &str) -> (StatusCode, Vec<u8>) {
    let response = client.get(url).send().await.unwrap_or_else(|error| panic!("GET {url}: {error}"));
    assert_eq!(response.version(), Version::HTTP_2, "{url}");
    (response.status(), response.bytes().await.unwrap_or_else(|error| panic!("GET {url}: {error}")).to_vec())
}

async fn text(client: &Client, url: &str) -> String {
    let (status, body) = fetch(client, url).await;
    assert_eq!(status, 200, "{url}: {}", String::from_utf8_lossy(&body));
    String::from_utf8(body).expect("a playlist is UTF-8")
}

/// Media sequence number and part index of what follows the last listed part.
fn next(playlist: &str) -> (u64, usize) {
    let first: u64 = tag(playlist, "#EXT-X-MEDIA-SEQUENCE:").parse().expect("a number");
    let segments = playlist.lines().filter(|line| !line.is_empty() && !line.starts_with('#')).count() as u64;
    let tail = playlist.rsplit_once("\ns").map_or(playlist, |(_, tail)| tail);
    (first + segments, tail.matches("#EXT-X-PART:").count())
}

fn tag<'a>(playlist: &'a str, name: &str) -> &'a str {
    playlist.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_else(|| panic!("no {name} in {playlist}"))
}

/// Media sequence number and part index of the last listed part.
fn last(playlist: &str) -> (u64, u64) {
    let mut msn = tag(playlist, "#EXT-X-MEDIA-SEQUENCE:").parse().expect("a number");
    let (mut parts, mut last) = (0, None);
    for line in playlist.lines() {
        if line.starts_with("#EXT-X-PART:") {
            last = Some((msn, parts));
            parts += 1;
        } else if !line.is_empty() && !line.starts_with('#') {
            (msn, parts) = (msn + 1, 0);
        }
    }
    last.unwrap_or_else(|| panic!("no part in {playlist}"))
}

fn number(line: &str, name: &str) -> u64 {
    let (_, rest) = line.split_once(&format!("{name}=")).unwrap_or_else(|| panic!("no {name} in {line}"));
    rest.split(',').next().and_then(|number| number.parse().ok()).expect("a number")
}

/// What is waited for, and when it is there.
async fn timed<T>(awaited: impl Future<Output = T>) -> (T, Instant) {
    (awaited.await, Instant::now())
}

/// The median.
fn usual(mut times: Vec<Duration>) -> Duration {
    times.sort_unstable();
    times[times.len() / 2]
}

fn attribute<'a>(line: &'a str, name: &str) -> &'a str {
    let (_, rest) = line.split_once(&format!("{name}=\"")).unwrap_or_else(|| panic!("no {name} in {line}"));
    rest.split('"').next().expect("a closing quote")
}

/// No part is longer than what is said of all of them.
#[track_caller]
fn assert_parts_are_short(playlist: &str) {
    let target: f64 = tag(playlist, "#EXT-X-PART-INF:PART-TARGET=").parse().expect("a number");
    for part in playlist.lines().filter_map(|line| line.strip_prefix("#EXT-X-PART:DURATION=")) {
        let duration: f64 = part.split(',').next().and_then(|number| number.parse().ok()).expect("a duration");
        assert!(duration <= target + 1e-6, "a part of {duration} s:\n{playlist}");
    }
}

/// Follows one rendition: blocking reload for the next part, the hinted part at once, which is no later, and at the end the segments, which must
/// be their parts in a row.
async fn follow(client: Client, folder: String) {
    let mut playlist = text(&client, &format!("{folder}/index.m3u8")).await;
    let mut parts: Vec<(String, Vec<u8>)> = Vec::new();
    let mut behind = Vec::new();
    while parts.len() < PARTS {
        let (msn, part) = next(&playlist);
        let hint = attribute(tag(&playlist, "#EXT-X-PRELOAD-HINT:"), "URI").to_owned();
        let (reload, hinted) =
            (format!("{folder}/index.m3u8?_HLS_msn={msn}&_HLS_part={part}"), format!("{folder}/{hint}"));
        let ((answer, listed), ((status, body), came)) =
            tokio::join!(timed(text(&client, &reload)), timed(fetch(&client, &hinted)));
        assert_eq!(status, 200, "the hinted part {hint} is delivered");
        behind.push(came.saturating_duration_since(listed));
        assert!(answer.contains(&format!("URI=\"{hint}\"")), "{hint} was hinted and is not listed:\n{answer}");
        assert!(next(&answer) > (msn, part), "asked for {msn}.{part}, got\n{answer}");
        assert_parts_are_short(&answer);
        parts.push((hint, body));
        playlist = answer;
    }
    let behind = usual(behind);
    assert!(behind < PROMPT, "hinted parts come {behind:?} later than the playlists that list them");
    let mut compared = 0;
    let mut names: Vec<String> = Vec::new();
    for line in playlist.lines() {
        if line.starts_with("#EXT-X-PART:") {
            names.push(attribute(line, "URI").to_owned());
        } else if !line.is_empty() && !line.starts_with('#') {
            let bodies: Option<Vec<&Vec<u8>>> = names
                .drain(..)
                .map(|name| parts.iter().find(|(known, _)| *known == name).map(|(_, body)| body))
                .collect();
            if let Some(bodies) = bodies.filter(|bodies| !bodies.is_empty()) {
                let (status, segment) = fetch(&client, &format!("{folder}/{line}")).await;
                assert_eq!(status, 200, "{line}");
                assert_eq!(
                    segment,
                    bodies.into_iter().flatten().copied().collect::<Vec<u8>>(),
                    "{line} is its parts in a row"
                );
                compared += 1;
            }
        }
    }
    assert!(compared >= 2, "{compared} segments compared in\n{playlist}");
}

/// Reloads the playlist of `own`: each says of `other` alone where it is, no less far than it was seen to be before and no farther than afterwards. Nobody
/// else may ask meanwhile: a playlist says what held when it was asked for first.
async fn assert_reports(client: &Client, own: &str, other: &str) {
    let mut playlist = text(client, &format!("{own}/index.m3u8")).await;
    for _ in 0..REPORTS {
        let (msn, part) = next(&playlist);
        let before = last(&text(client, &format!("{other}/index.m3u8")).await);
        playlist = text(client, &format!("{own}/index.m3u8?_HLS_msn={msn}&_HLS_part={part}")).await;
        let after = last(&text(client, &format!("{other}/index.m3u8")).await);
        let reports: Vec<&str> =
            playlist.lines().filter_map(|line| line.strip_prefix("#EXT-X-RENDITION-REPORT:")).collect();
        let [report] = reports[..] else { panic!("{} reports in\n{playlist}", reports.len()) };
        let uri = attribute(report, "URI").strip_prefix("..").expect("it lies beside this one");
        assert!(format!("{other}/index.m3u8").ends_with(uri), "{own} reports {uri}");
        let said = (number(report, "LAST-MSN"), number(report, "LAST-PART"));
        let there = before <= said && said <= after;
        assert!(there, "{said:?} is reported of {other}, which went from {before:?} to {after:?}");
    }
}

/// Publishes `source` and follows each of its renditions, of which there are so `many`.
#[track_caller]
fn assert_followed(source: Source, many: usize) {
    let server = Server::start();
    let _publisher = Publisher::ffmpeg(&server.publish_url("show"), &source);
    server.wait_live("show", 2);
    let folder = |uri: &String| server.secure_url(&format!("/live/show/{}", uri.trim_end_matches("/index.m3u8")));
    let folders: Vec<_> = media_playlists(&server.get("/live/show/index.m3u8").text()).iter().map(folder).collect();
    assert_eq!(folders.len(), many, "{folders:?}");
    let runtime = tokio::runtime::Runtime::new().expect("a runtime can be made");
    runtime.block_on(async {
        let client = client();
        let follow_all = folders.iter().map(|folder| tokio::spawn(follow(client.clone(), folder.clone())));
        for followed in follow_all.collect::<Vec<_>>() {
            followed.await.expect("every rendition can be followed");
        }
        if let [one, other] = &folders[..] {
            assert_reports(&client, one, other).await;
            assert_reports(&client, other, one).await;
        }
    });
}

/// Of the newest period's segments that are announced last: their names, and when an MPD says that the first bytes of them can be had (ISO/IEC
/// 23009-1 §5.3.9.5.3, DASH-IF low latency). Nothing where it says nothing of segments in the making.
fn announced(mpd: &str) -> Vec<(String, SystemTime)> {
    let mpd = dash_mpd_core::parse(mpd).unwrap_or_else(|error| panic!("{error} in\n{mpd}"));
    let period = mpd.periods.last().expect("a period");
    let start = SystemTime::from(mpd.availabilityStartTime.expect("a date")) + period.start.expect("a start");
    let of = |representation: &dash_mpd_core::Representation| {
        let template = representation.SegmentTemplate.as_ref().expect("a template");
        let early = template.availabilityTimeOffset?;
        let (mut number, mut end) = (template.startNumber.expect("a number"), 0);
        for s in &template.SegmentTimeline.as_ref().expect("a timeline").segments {
            let count = 1 + s.r.unwrap_or(0).unsigned_abs();
            (number, end) = (number + count, s.t.unwrap_or(end) + count * s.d);
        }
        let ticks = end - template.presentationTimeOffset.unwrap_or(0);
        let end = ticks as f64 / template.timescale.expect("a timescale") as f64;
        let name = template.media.as_ref().expect("a name").replace("$Number$", &(number - 1).to_string());
        let name = name.replace("$RepresentationID$", representation.id.as_ref().expect("an id"));
        Some((name, start + Duration::from_secs_f64(end - early)))
    };
    period.adaptations.iter().flat_map(|set| &set.representations).filter_map(of).collect()
}

/// Players ask for a segment in the making at the instant that they reckon: a 404 then is an error, and a wait is one for nothing.
#[test]
fn a_segment_can_be_had_when_the_mpd_says() {
    let server = Server::start();
    let _publisher = Publisher::ffmpeg(&server.publish_url("show"), &Source { seconds: 60, ..Source::default() });
    server.wait_live("show", 3);
    let runtime = tokio::runtime::Runtime::new().expect("a runtime can be made");
    runtime.block_on(async {
        let (client, began) = (client(), Instant::now());
        let (mut known, mut asked) = (HashSet::new(), JoinSet::new());
        while asked.len() < ANNOUNCED {
            assert!(began.elapsed() < Duration::from_secs(40), "only {known:?} were announced before they were there");
            for (name, available) in announced(&text(&client, &server.secure_url("/live/show/manifest.mpd")).await) {
                // Of one that may be there already nothing can be said.
                let Ok(early) = available.duration_since(SystemTime::now()) else { continue };
                if known.insert(name.clone()) {
                    let (client, url) = (client.clone(), server.secure_url(&format!("/live/show/{name}")));
                    asked.spawn(async move {
                        tokio::time::sleep(early).await;
                        let at = Instant::now();
                        let mut response = client.get(&url).send().await.expect("an answer");
                        assert_eq!(response.status(), 200, "{url}");
                        assert!(response.chunk().await.expect("a body").is_some(), "{url} is empty");
                        at.elapsed()
                    });
                }
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        let wait = usual(asked.join_all().await);
        assert!(wait < PROMPT, "the first bytes come {wait:?} after the instant that the MPD names");
    });
}

#[test]
fn hinted_parts_come_with_their_playlists_and_segments_are_their_parts() {
    assert_followed(Source { b_frames: 2, seconds: 60, ..Source::default() }, 2);
}

#[test]
fn parts_of_sound_alone_are_followed_as_those_of_any_stream() {
    assert_followed(Source { video: false, seconds: 60, ..Source::default() }, 1);
}

#[test]
fn parts_of_pictures_alone_are_followed_as_those_of_any_stream() {
    assert_followed(Source { audio: false, seconds: 60, ..Source::default() }, 1);
}

#[test]
fn requests_that_cannot_be_granted_are_answered_at_once_or_in_time() {
    let server = Server::start();
    let publisher = Publisher::ffmpeg(&server.publish_url("show"), &Source { seconds: 60, ..Source::default() });
    server.wait_live("show", 2);
    let uri = media_playlists(&server.get("/live/show/index.m3u8").text()).remove(0);
    let playlist = format!("/live/show/{uri}");
    let (msn, part) = next(&server.get(&playlist).text());
    for (query, status) in [
        ("_HLS_part=0".to_owned(), 400),
        ("_HLS_msn=abc".to_owned(), 400),
        (format!("_HLS_msn={}", msn + 50), 400),
        (format!("_HLS_msn={msn}&_HLS_part=900"), 400),
        ("_HLS_msn=0&_HLS_part=0".to_owned(), 200),
        ("unknown=1".to_owned(), 200),
    ] {
        let asked = Instant::now();
        assert_eq!(server.get(&format!("{playlist}?{query}")).status, status, "{query}");
        assert!(asked.elapsed() < Duration::from_secs(2), "{query} took {:?}", asked.elapsed());
    }
    // The publisher stops: who waits for a part that will not come gets the end of the playlist.
    let address = server.http();
    let waiting = std::thread::spawn(move || {
        super::common::http::get(address, &format!("{playlist}?_HLS_msn={}&_HLS_part={part}", msn + 1))
    });
    publisher.stop();
    let answer = waiting.join().expect("the waiting request is answered");
    assert_eq!(answer.status, 200);
    assert!(answer.text().contains("#EXT-X-ENDLIST"), "{}", answer.text());
}
