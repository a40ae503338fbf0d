//! What a low-latency player does, over HTTP/2 and TLS, with a client that is not ours: every part is asked for before it exists.

use std::time::{Duration, Instant};

use reqwest::{Client, StatusCode, Version};

use super::common::media::Source;
use super::common::publisher::Publisher;
use super::common::server::{Server, media_playlists};

/// Parts followed per rendition: four segments and more.
const PARTS: usize = 45;

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

fn attribute<'a>(line: &'a str, name: &str) -> &'a str {
    let (_, rest) = line.split_once(&format!("{name}=\"")).unwrap_or_else(|| panic!("no {name} in {line}"));
    rest.split('"').next().expect("a closing quote")
}

/// Follows one rendition: blocking reload for the next part, the hinted part at once, and at the end the segments, which must be their
/// parts in a row.
async fn follow(client: Client, folder: String) {
    let mut playlist = text(&client, &format!("{folder}/index.m3u8")).await;
    let mut parts: Vec<(String, Vec<u8>)> = Vec::new();
    while parts.len() < PARTS {
        let (msn, part) = next(&playlist);
        let hint = attribute(tag(&playlist, "#EXT-X-PRELOAD-HINT:"), "URI").to_owned();
        let (reload, hinted) =
            (format!("{folder}/index.m3u8?_HLS_msn={msn}&_HLS_part={part}"), format!("{folder}/{hint}"));
        let (answer, (status, body)) = tokio::join!(text(&client, &reload), fetch(&client, &hinted));
        assert_eq!(status, 200, "the hinted part {hint} is delivered");
        assert!(answer.contains(&format!("URI=\"{hint}\"")), "{hint} was hinted and is not listed:\n{answer}");
        assert!(next(&answer) > (msn, part), "asked for {msn}.{part}, got\n{answer}");
        parts.push((hint, body));
        playlist = answer;
    }
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

#[test]
fn hinted_parts_come_with_their_playlists_and_segments_are_their_parts() {
    let server = Server::start();
    let source = Source { b_frames: 2, seconds: 60, ..Source::default() };
    let _publisher = Publisher::ffmpeg(&server.publish_url("show"), &source);
    server.wait_live("show", 2);
    let renditions = media_playlists(&server.get("/live/show/index.m3u8").text());
    assert_eq!(renditions.len(), 2, "{renditions:?}");
    let runtime = tokio::runtime::Runtime::new().expect("a runtime can be made");
    runtime.block_on(async {
        let client = client();
        let follow_all = renditions.iter().map(|uri| {
            let folder = server.secure_url(&format!("/live/show/{}", uri.trim_end_matches("/index.m3u8")));
            tokio::spawn(follow(client.clone(), folder))
        });
        for followed in follow_all.collect::<Vec<_>>() {
            followed.await.expect("every rendition can be followed");
        }
    });
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
