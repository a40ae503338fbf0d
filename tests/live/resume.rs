//! What viewers have of a publisher or a server that goes away: gaps, the same numbers when it is back, and an honest end when it is not.

use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use super::common::http;
use super::common::media::Source;
use super::common::process::Process;
use super::common::publisher::Publisher;
use super::common::server::{Server, media_playlists};
use super::common::wait_for;

const PATIENCE: Duration = Duration::from_secs(20);

fn rendition(server: &Server, id: &str) -> String {
    let multivariant = server.get("/live/show/index.m3u8").text();
    let uri = media_playlists(&multivariant).into_iter().find(|uri| uri.contains(id)).expect("such a rendition");
    format!("/live/show/{uri}")
}

/// Where the one who publishes the stream connects from.
fn peer(server: &Server) -> Option<serde_json::Value> {
    server.stream("show").map(|stream| stream["publisher"]["peer"].clone())
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
    let running = peer(&server);
    let mut refused = Publisher::ffmpeg(&server.publish_url("show"), &Source::default());
    let log = refused.wait_refused(PATIENCE);
    assert!(log.contains("being published already") && !log.contains("by 127"), "{log}");
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

/// A network that is gone tells nobody. For viewers that is an outage like any other from when a segment is due.
#[test]
fn a_publisher_that_is_silent_has_gaps_and_goes_on() {
    let server = Server::resuming("30s");
    let mut publisher = Publisher::ffmpeg_looping(&server.publish_url("show"), &Source::default());
    server.wait_live("show", 2);
    let video = rendition(&server, "/v0/");
    let publishing = peer(&server);
    publisher.freeze();
    let frozen = Instant::now();
    wait_for("a gap", PATIENCE, || server.get(&video).text().contains("#EXT-X-GAP").then_some(()));
    assert!(frozen.elapsed() < Duration::from_secs(7), "the first gap came after {:?}", frozen.elapsed());
    // Requests are answered by the gaps that follow.
    let playlist = server.get(&video).text();
    let blocked = server.get(&format!("{video}?_HLS_msn={}", next(&playlist)));
    assert_eq!(blocked.status, 200);
    assert!(blocked.text().matches("#EXT-X-GAP\n").count() > playlist.matches("#EXT-X-GAP\n").count());
    assert_eq!(peer(&server), publishing, "it has not gone");
    publisher.thaw();
    let text = wait_for("its media", PATIENCE, || {
        let text = server.get(&video).text();
        text.rsplit_once("#EXT-X-GAP")?.1.contains("#EXT-X-PART:").then_some(text)
    });
    assert!(!text.contains("#EXT-X-DISCONTINUITY\n") && !text.contains("#EXT-X-ENDLIST"), "{text}");
    assert_eq!(peer(&server), publishing);
}

/// Everything that a playlist names: inits and whole segments.
fn files(server: &Server, playlist: &str) -> Vec<(String, Vec<u8>)> {
    let text = server.get(playlist).text();
    let (folder, _) = playlist.rsplit_once('/').expect("a path");
    let mut gap = false;
    let mut files = Vec::new();
    for line in text.lines() {
        gap |= line == "#EXT-X-GAP";
        let init = line.strip_prefix("#EXT-X-MAP:URI=\"").and_then(|rest| rest.split('"').next());
        let segment = (!line.starts_with('#') && !line.is_empty()).then_some(line);
        if segment.is_some() && std::mem::take(&mut gap) {
            continue;
        }
        for name in init.into_iter().chain(segment) {
            let file = server.get(&format!("{folder}/{name}"));
            assert_eq!(file.status, 200, "{name} of\n{text}");
            files.push((name.to_owned(), file.body));
        }
    }
    files
}

#[test]
fn a_restarted_server_serves_the_last_window_and_goes_on_with_it() {
    let mut server = Server::resuming("30s");
    let publisher = Publisher::ffmpeg_looping(&server.publish_url("show"), &Source::default());
    server.wait_live("show", 3);
    let (video, audio) = (rendition(&server, "/v0/"), rendition(&server, "/a0/"));
    let before: Vec<_> = [&video, &audio].map(|uri| files(&server, uri)).into_iter().flatten().collect();
    let numbers = next(&server.get(&video).text());
    let mpd = server.get("/live/show/manifest.mpd").text();
    server.stop();
    publisher.cut();
    assert!(server.data().join("data/resume/live/show.window").exists());
    server.start_again();

    assert_eq!(server.stream("show").map(|stream| stream["state"].clone()), Some("waiting".into()));
    assert_eq!((rendition(&server, "/v0/"), rendition(&server, "/a0/")), (video.clone(), audio.clone()));
    let after: Vec<_> = [&video, &audio].map(|uri| files(&server, uri)).into_iter().flatten().collect();
    assert!(before.len() > 6);
    for (name, body) in &before {
        assert!(after.iter().any(|(other, bytes)| other == name && bytes == body), "{name} is there, and the same");
    }
    let waiting = server.get(&video).text();
    assert!(next(&waiting) >= numbers && !waiting.contains("ENDLIST") && waiting.contains("PRELOAD-HINT"), "{waiting}");
    let attribute = |text: &str, name: &str| {
        let (_, rest) = text.split_once(&format!("{name}=\"")).unwrap_or_else(|| panic!("no {name}:\n{text}"));
        rest.split('"').next().map(str::to_owned)
    };
    let resumed = server.get("/live/show/manifest.mpd").text();
    assert_eq!(attribute(&resumed, "availabilityStartTime"), attribute(&mpd, "availabilityStartTime"));
    assert!(attribute(&resumed, "publishTime") >= attribute(&mpd, "publishTime"), "{resumed}\n{mpd}");
    assert!(resumed.contains("<Period id=\"p0\""), "{resumed}");

    let _back = Publisher::ffmpeg_looping(&server.publish_url("show"), &Source::default());
    for uri in [&video, &audio] {
        let playlist = wait_for("media behind the gaps", PATIENCE, || {
            let text = server.get(uri).text();
            let (_, behind) = text.rsplit_once("#EXT-X-GAP")?;
            (behind.matches("#EXTINF:").count() > 1).then(|| text.clone())
        });
        assert!(next(&playlist) > numbers, "{playlist}");
        assert!(!playlist.contains("#EXT-X-DISCONTINUITY\n"), "the encoder is the same:\n{playlist}");
        assert!(playlist.contains("init-0.mp4") && !playlist.contains("init-1.mp4"), "{playlist}");
    }
    assert_eq!(server.stream("show").map(|stream| stream["state"].clone()), Some("live".into()));
    assert!(!server.data().join("data/resume").exists(), "what was taken up is gone from the disk");
}

#[test]
fn after_a_restart_that_nobody_comes_back_from_the_playlist_ends() {
    let mut server = Server::resuming("6s");
    let publisher = Publisher::ffmpeg_looping(&server.publish_url("show"), &Source::default());
    server.wait_live("show", 2);
    let video = rendition(&server, "/v0/");
    server.stop();
    let stopped = Instant::now();
    publisher.cut();
    server.start_again();
    assert_eq!(server.stream("show").map(|stream| stream["state"].clone()), Some("waiting".into()));
    wait_for("the end", PATIENCE, || server.get(&video).text().contains("#EXT-X-ENDLIST").then_some(()));
    let waited = stopped.elapsed();
    assert!(
        waited > Duration::from_secs(4) && waited < Duration::from_secs(9),
        "the wait goes on where it was: {waited:?}"
    );
}

#[test]
fn after_a_crash_the_stream_begins_anew_and_its_numbers_go_on() {
    let mut server = Server::resuming("30s");
    let publisher = Publisher::ffmpeg_looping(&server.publish_url("show"), &Source::default());
    server.wait_live("show", 2);
    let video = rendition(&server, "/v0/");
    let before = next(&server.get(&video).text());
    server.crash();
    publisher.cut();
    server.start_again();
    assert_eq!(server.get("/live/show/index.m3u8").status, 404);
    assert_eq!(server.get(&video).status, 404, "what a crash takes with it is not pretended to be there");
    let _back = Publisher::ffmpeg_looping(&server.publish_url("show"), &Source::default());
    server.wait_live("show", 1);
    let again = rendition(&server, "/v0/");
    assert_ne!(again, video, "a new epoch");
    let first = number(&server.get(&again).text(), "#EXT-X-MEDIA-SEQUENCE:");
    assert!(first >= before, "{first} after {before}");
}

#[test]
fn a_blocked_request_is_answered_when_the_server_stops() {
    let mut server = Server::resuming("30s");
    let publisher = Publisher::ffmpeg_looping(&server.publish_url("show"), &Source::default());
    server.wait_live("show", 2);
    let video = rendition(&server, "/v0/");
    let address = server.http();
    let msn = next(&server.get(&video).text()) + 1;
    let path = format!("{video}?_HLS_msn={msn}&_HLS_part=0");
    let blocked = std::thread::spawn(move || http::try_get(address, &path));
    wait_for("a blocked request", PATIENCE, || {
        let metrics = http::get(server.admin(), "/metrics").text();
        metrics.lines().any(|line| line.starts_with("rillcast_http_waiting ") && !line.ends_with(" 0")).then_some(())
    });
    server.stop();
    let answer = blocked.join().expect("no panic").expect("an answer, not a lost connection");
    assert!(answer.status == 200 || answer.status == 503 && answer.header("retry-after").is_some(), "{answer:?}");
    drop(publisher);
}

/// A server on other ports, over the data of one that may be running.
fn another_server(data: &Path, arguments: &[&str]) -> Process {
    let mut command = Command::new(env!("CARGO_BIN_EXE_rillcast"));
    command.arg("serve").args(arguments).current_dir(data).env("RILLCAST__DATA_DIR", data);
    for listener in ["EDGE__HTTP", "EDGE__HTTPS", "INGEST__RTMP__LISTEN", "TELEMETRY__LISTEN"] {
        command.env(format!("RILLCAST__{listener}"), "127.0.0.1:0");
    }
    Process::start("another server", &mut command)
}

/// Two would give out the same sequence numbers, and take up each other's windows. A lock that outlived a crash would keep the next one from starting.
#[test]
fn data_belong_to_one_server_at_a_time() {
    let mut server = Server::start();
    let data = server.data().join("data");
    let mut other = another_server(&data, &[]);
    assert!(!other.wait(PATIENCE).success());
    assert!(other.log().contains("is another running server's"), "{}", other.log());
    assert_eq!(server.get("/readyz").status, 200, "{}", server.log());
    server.crash();
    server.start_again();
}

/// A window is good once, so whatever can go wrong at a start must do so before it is taken up, or put it down again.
#[test]
fn a_start_that_fails_costs_no_window() {
    let mut server = Server::resuming("30s");
    let publisher = Publisher::ffmpeg_looping(&server.publish_url("show"), &Source::default());
    server.wait_live("show", 2);
    let video = rendition(&server, "/v0/");
    server.stop();
    publisher.cut();
    let data = server.data().join("data");
    let fails = |arguments: &[&str]| {
        let mut process = another_server(&data, arguments);
        assert!(!process.wait(PATIENCE).success(), "{}", process.log());
    };
    let keys = data.join("keys.json");
    std::fs::write(&keys, "{ what an editor left").expect("the folder is writable");
    fails(&[]);
    std::fs::remove_file(&keys).expect("it is there");
    fails(&["--ports-file", "/no/such/folder/ports.json"]);
    server.start_again();
    assert_eq!(server.get(&video).status, 200, "{}", server.log());
    assert_eq!(server.stream("show").map(|stream| stream["state"].clone()), Some("waiting".into()));
}
