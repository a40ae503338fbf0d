//! What viewers have of a publisher that goes away: gaps, the same numbers when it is back, and an honest end when it is not.

use std::time::{Duration, Instant};

use super::common::http;
use super::common::media::Source;
use super::common::publisher::Publisher;
use super::common::server::{Server, media_playlists};
use super::common::wait_for;

const PATIENCE: Duration = Duration::from_secs(20);

fn rendition(server: &Server, id: &str) -> String {
    let multivariant = server.get("/live/show/index.m3u8").text();
    let uri = media_playlists(&multivariant).into_iter().find(|uri| uri.contains(id)).expect("such a rendition");
    format!("/live/show/{uri}")
}

fn number(playlist: &str, tag: &str) -> u64 {
    let line =
        playlist.lines().find_map(|line| line.strip_prefix(tag)).unwrap_or_else(|| panic!("no {tag}:\n{playlist}"));
    line.parse().unwrap_or_else(|_| panic!("{tag} is no number:\n{playlist}"))
}

/// Number of the segment after the last complete one.
fn next(playlist: &str) -> u64 {
    number(playlist, "#EXT-X-MEDIA-SEQUENCE:") + playlist.matches("#EXTINF:").count() as u64
}

#[test]
fn a_publisher_that_comes_back_goes_on_with_the_same_playlist() {
    let server = Server::resuming("30s");
    let first = Publisher::ffmpeg_looping(&server.publish_url("show"), &Source::default());
    server.wait_live("show", 2);
    let (video, audio) = (rendition(&server, "/v0/"), rendition(&server, "/a0/"));
    let before = next(&server.get(&video).text());
    first.cut();
    wait_for("a gap", PATIENCE, || server.get(&video).text().contains("#EXT-X-GAP").then_some(()));
    let playlist = server.get(&video).text();
    assert!(!playlist.contains("#EXT-X-ENDLIST") && playlist.contains("PRELOAD-HINT"), "{playlist}");
    let state = server.stream("show").map(|stream| stream["state"].clone());
    assert_eq!(state, Some("waiting".into()));
    let gap =
        playlist.lines().skip_while(|line| *line != "#EXT-X-GAP").find(|line| !line.starts_with('#')).expect("a URI");
    let (folder, _) = video.rsplit_once('/').expect("a path");
    assert_eq!(server.get(&format!("{folder}/{gap}")).status, 404, "a gap holds nothing");
    // A blocked request is answered by the gaps, and does not wait for the publisher.
    let asked = Instant::now();
    let blocked = server.get(&format!("{video}?_HLS_msn={}&_HLS_part=0", next(&playlist)));
    assert!(
        blocked.status == 200 && asked.elapsed() < Duration::from_secs(4),
        "{} {:?}",
        blocked.status,
        asked.elapsed()
    );

    let _second = Publisher::ffmpeg_looping(&server.publish_url("show"), &Source::default());
    wait_for("media behind the gaps", PATIENCE, || {
        let text = server.get(&video).text();
        let (_, behind) = text.rsplit_once("#EXT-X-GAP")?;
        (behind.matches("#EXTINF:").count() > 1).then_some(())
    });
    assert_eq!(rendition(&server, "/v0/"), video, "the epoch goes on");
    for uri in [&video, &audio] {
        let playlist = server.get(uri).text();
        assert!(next(&playlist) > before, "{playlist}");
        assert!(!playlist.contains("#EXT-X-DISCONTINUITY\n"), "the encoder is the same:\n{playlist}");
        assert!(playlist.contains("PRELOAD-HINT"), "{playlist}");
    }
    assert_eq!(server.stream("show").map(|stream| stream["state"].clone()), Some("live".into()));
}

#[test]
fn another_format_after_an_outage_is_one_discontinuity() {
    let server = Server::resuming("30s");
    let first = Publisher::ffmpeg_looping(&server.publish_url("show"), &Source::default());
    server.wait_live("show", 2);
    let (video, audio) = (rendition(&server, "/v0/"), rendition(&server, "/a0/"));
    first.cut();
    let other = Source { width: 320, height: 180, fps: (25, 1), gop: 50, ..Source::default() };
    let _second = Publisher::ffmpeg_looping(&server.publish_url("show"), &other);
    for uri in [&video, &audio] {
        let playlist = wait_for("the discontinuity", PATIENCE, || {
            let text = server.get(uri).text();
            let (_, behind) = text.split_once("#EXT-X-DISCONTINUITY\n")?;
            (behind.matches("#EXTINF:").count() > 1).then(|| text.clone())
        });
        assert_eq!(playlist.matches("#EXT-X-DISCONTINUITY\n").count(), 1, "{playlist}");
    }
    let playlist = server.get(&video).text();
    assert!(playlist.contains("init-1.mp4"), "{playlist}");
    let stream = server.stream("show").expect("it is live");
    assert_eq!((&stream["tracks"][0]["width"], &stream["tracks"][0]["height"]), (&320.into(), &180.into()));
}

#[test]
fn when_nobody_comes_back_the_playlist_ends() {
    let server = Server::resuming("3s");
    let first = Publisher::ffmpeg_looping(&server.publish_url("show"), &Source::default());
    server.wait_live("show", 2);
    let video = rendition(&server, "/v0/");
    first.cut();
    let cut = Instant::now();
    let playlist = wait_for("the end", PATIENCE, || {
        let text = server.get(&video).text();
        text.contains("#EXT-X-ENDLIST").then_some(text)
    });
    assert!(cut.elapsed() > Duration::from_millis(2_500), "ended after {:?}:\n{playlist}", cut.elapsed());
    // Whoever publishes now begins anew, with numbers that go on.
    let _second = Publisher::ffmpeg_looping(&server.publish_url("show"), &Source::default());
    let again = wait_for("a new life", PATIENCE, || {
        let multivariant = server.get("/live/show/index.m3u8");
        let uri = media_playlists(&multivariant.text())
            .into_iter()
            .find(|uri| multivariant.status == 200 && uri.contains("/v0/"))?;
        let path = format!("/live/show/{uri}");
        (path != video).then_some(path)
    });
    let first_of_new = number(&server.get(&again).text(), "#EXT-X-MEDIA-SEQUENCE:");
    assert!(first_of_new >= next(&playlist), "{first_of_new} after {playlist}");
}

#[test]
#[expect(
    clippy::disallowed_methods,
    reason = "two seconds of silence are what is tested; there is no condition to wait for"
)]
fn a_frozen_publisher_is_taken_over_from_and_a_live_one_is_not() {
    let server = Server::resuming("30s");
    let mut first = Publisher::ffmpeg_looping(&server.publish_url("show"), &Source::default());
    server.wait_live("show", 1);
    let video = rendition(&server, "/v0/");
    let peer = |server: &Server| server.stream("show").map(|stream| stream["publisher"]["peer"].clone());
    let running = peer(&server);
    let mut refused = Publisher::ffmpeg(&server.publish_url("show"), &Source::default());
    let log = refused.wait_refused(PATIENCE);
    assert!(log.contains("being published already"), "{log}");
    assert_eq!(peer(&server), running);

    // The network is gone, and the socket does not know it.
    first.freeze();
    std::thread::sleep(Duration::from_millis(2_300));
    let _second = Publisher::ffmpeg_looping(&server.publish_url("show"), &Source::default());
    wait_for("the second publisher", PATIENCE, || (peer(&server) != running).then_some(()));
    wait_for("its media", PATIENCE, || {
        let text = server.get(&video).text();
        let (_, behind) = text.rsplit_once("#EXT-X-GAP")?;
        behind.contains("#EXTINF:").then_some(())
    });
    // What the first one still had to say does not reach anybody.
    first.thaw();
    std::thread::sleep(Duration::from_secs(1));
    assert_ne!(peer(&server), running);
    let text = http::get(server.http(), &video).text();
    assert!(!text.contains("#EXT-X-ENDLIST") && !text.contains("#EXT-X-DISCONTINUITY\n"), "{text}");
}
