//! Real players in a real browser. What they show is judged here; how fast they show it, in `tests/timing`.

#![forbid(unsafe_code)]

#[path = "../common/mod.rs"]
mod common;
mod events;

use std::process::Command;
use std::time::{Duration, Instant};

use common::browser::{Browser, Player, Report};
use common::http;
use common::keep;
use common::media::{Source, browser_folder};
use common::process::run;
use common::publisher::Publisher;
use common::server::{Server, media_playlists};
use common::wait_for;

/// For the first picture on a machine that also encodes and builds.
const PICTURE: Duration = Duration::from_secs(30);
const WATCHED: Duration = Duration::from_secs(12);

#[track_caller]
fn assert_plays(player: Player, path: &str, secure: bool, name: &str) {
    let server = Server::start();
    let _publisher = Publisher::clock(&server.publish_url("clock"));
    server.wait_live("clock", 2);
    let url = if secure { server.secure_url(path) } else { server.url(path) };
    let mut browser = Browser::open(player, &url, true);
    browser.wait_picture(PICTURE);
    browser.watch(WATCHED);
    browser.shot(&keep("screenshots").join(format!("{name}.png")));
    let report = browser.report();
    println!("{name}: {report}");
    report.assert_played();
    assert!(report.number("/drawn_ms/count") > 60.0, "the drawn clock is readable: {report}");
    assert!(report.number("/drawn_ms/p50") > 0.0, "pictures are not from the future: {report}");
    if secure {
        assert!(report.0["protocols"]["h2"].as_u64().is_some_and(|count| count > 10), "TLS brings HTTP/2: {report}");
    }
}

#[test]
fn our_page_plays() {
    assert_plays(Player::Page, "/live/clock", false, "page");
}

#[test]
fn our_page_and_dash_js_play_by_a_signed_url() {
    let server = Server::start_with(&[("RILLCAST__ACCESS__WATCH", "token")]);
    let _publisher = Publisher::clock(&server.publish_url("clock"));
    let wanted = r#"{"action": "watch", "stream": "live/clock", "expires_in": 600}"#;
    let signed = http::send(server.http(), "POST", "/api/v1/tokens", &[], wanted).text();
    let signed: serde_json::Value = serde_json::from_str(&signed).expect("the API speaks JSON");
    let page = signed["url"].as_str().expect("where to watch");
    // dash.js sets its clock by the address that the MPD gives, which lies below the token too.
    for (player, path) in [(Player::Page, page.to_owned()), (Player::DashJs, format!("{page}/manifest.mpd"))] {
        wait_for("the stream", PICTURE, || (server.get(&format!("{page}/manifest.mpd")).status == 200).then_some(()));
        let mut browser = Browser::open(player, &server.url(&path), true);
        browser.wait_picture(PICTURE);
        browser.watch(WATCHED);
        let report = browser.report();
        println!("{player:?} by a signed URL: {report}");
        report.assert_played();
    }
}

#[test]
fn our_page_plays_over_tls_and_h2() {
    assert_plays(Player::Page, "/live/clock", true, "page-h2");
}

#[test]
fn our_page_learns_how_far_behind_to_play() {
    let mut command = Command::new("node");
    command.current_dir(browser_folder()).args(["--test", "pace.test.mjs"]);
    println!("{}", run("pace.test.mjs", &mut command, PICTURE));
}

#[test]
fn hls_js_plays() {
    assert_plays(Player::HlsJs, "/live/clock/index.m3u8", true, "hls.js");
}

#[test]
fn dash_js_plays() {
    assert_plays(Player::DashJs, "/live/clock/manifest.mpd", false, "dash.js");
}

#[test]
fn shaka_plays_hls() {
    assert_plays(Player::Shaka, "/live/clock/index.m3u8", false, "shaka-hls");
}

#[test]
fn shaka_plays_dash() {
    assert_plays(Player::Shaka, "/live/clock/manifest.mpd", false, "shaka-dash");
}

#[test]
fn our_page_has_sound_where_the_browser_allows_it() {
    let server = Server::start();
    let _publisher = Publisher::clock(&server.publish_url("clock"));
    server.wait_live("clock", 1);
    let mut browser = Browser::open(Player::Page, &server.url("/live/clock"), true);
    browser.wait_state(&["live"], PICTURE);
    browser.watch(Duration::from_secs(3));
    let report = browser.report();
    assert!(!report.is("muted") && !report.is("unmute_offered"), "{report}");
}

#[test]
fn our_page_starts_muted_where_autoplay_is_refused_and_one_tap_unmutes() {
    let server = Server::start();
    let _publisher = Publisher::clock(&server.publish_url("clock"));
    server.wait_live("clock", 1);
    let mut browser = Browser::open(Player::Page, &server.url("/live/clock"), false);
    browser.wait_state(&["live"], PICTURE);
    browser.watch(Duration::from_secs(3));
    browser.shot(&keep("screenshots").join("page-muted.png"));
    let report = browser.report();
    assert!(report.is("muted") && report.is("unmute_offered"), "{report}");
    browser.click("#unmute");
    browser.watch(Duration::from_secs(1));
    let report = browser.report();
    assert!(!report.is("muted") && !report.is("unmute_offered") && !report.is("paused"), "{report}");
    report.assert_played();
}

#[test]
fn our_page_says_offline_and_starts_by_itself() {
    let server = Server::start();
    let mut browser = Browser::open(Player::Page, &server.url("/live/clock"), true);
    browser.wait_state(&["offline"], PICTURE);
    browser.shot(&keep("screenshots").join("page-offline.png"));
    let first = Publisher::clock(&server.publish_url("clock"));
    browser.wait_state(&["live"], PICTURE);
    first.stop();
    browser.wait_state(&["ended", "offline"], PICTURE);
    browser.shot(&keep("screenshots").join("page-ended.png"));
    // A new life of the stream is a new epoch with new addresses.
    let _second = Publisher::clock(&server.publish_url("clock"));
    browser.wait_state(&["live"], PICTURE);
    browser.watch(Duration::from_secs(4));
    let report = browser.report();
    assert_eq!(report.0["state"], "live", "{report}");
    assert!(report.number("/drawn_ms/count") > 0.0, "{report}");
}

#[test]
fn our_page_survives_a_broken_publisher() {
    let server = Server::start();
    let publisher = Publisher::clock(&server.publish_url("clock"));
    server.wait_live("clock", 1);
    let mut browser = Browser::open(Player::Page, &server.url("/live/clock"), true);
    browser.wait_state(&["live"], PICTURE);
    publisher.cut();
    browser.wait_state(&["waiting", "ended", "offline"], PICTURE);
    browser.shot(&keep("screenshots").join("page-broken.png"));
    let _back = Publisher::clock(&server.publish_url("clock"));
    browser.wait_state(&["live"], PICTURE);
}

/// Until the first part that a viewer can have again: that ends an outage, and what takes longer is the player's.
#[track_caller]
fn wait_media_again(server: &Server) {
    wait_for("media", PICTURE, || {
        let multivariant = server.get("/live/clock/index.m3u8");
        let playlists = media_playlists(&multivariant.text());
        let video = playlists.iter().find(|uri| multivariant.status == 200 && uri.contains("/v0/"))?;
        let text = server.get(&format!("/live/clock/{video}")).text();
        let behind = text.rsplit_once("#EXT-X-GAP\n").map_or(text.as_str(), |(_, behind)| behind);
        behind.contains("#EXT-X-PART:").then_some(())
    });
}

/// The picture stood still for the `outage` in seconds, and for a second more at most.
#[track_caller]
fn assert_played_through(report: &Report, outage: f64) {
    assert_eq!(report.0["errors"].as_array().map(Vec::len), Some(0), "{report}");
    let stalls = report.0["stall_list"].as_array().expect("a list");
    assert!(stalls.iter().all(|stall| stall["ms"].is_number()), "it plays again: {report}");
    // The longest one: a busy machine makes players stumble at other times, too.
    let still = stalls.iter().filter_map(|stall| stall["ms"].as_f64()).fold(0.0, f64::max) / 1_000.0;
    assert!(still < outage + 1.0, "the picture stood still for {still} s of an outage of {outage:.1} s: {report}");
    assert!(report.number("/drawn_ms/p50") < 4_000.0, "what is shown is live: {report}");
    // Quantiles do not see that the last half of the pictures never came.
    assert!(!report.is("paused") && !report.is("ended"), "it still plays: {report}");
}

/// Plays, loses its publisher for `OUTAGE`, and must go on by itself with another encoder, in the same page.
#[track_caller]
fn assert_plays_through(player: Player, path: &str, name: &str) {
    const OUTAGE: Duration = Duration::from_secs(10);
    let server = Server::resuming("30s");
    let publisher = Publisher::clock(&server.publish_url("clock"));
    server.wait_live("clock", 2);
    let mut browser = Browser::open(player, &server.url(path), true);
    browser.wait_picture(PICTURE);
    browser.watch(Duration::from_secs(6));
    let gone = Instant::now();
    publisher.cut();
    browser.watch(OUTAGE);
    let _back = Publisher::clock_of(&server.publish_url("clock"), (1280, 720), 24);
    wait_media_again(&server);
    let outage = gone.elapsed().as_secs_f64();
    browser.watch(Duration::from_secs(10));
    let report = browser.report();
    println!("{name}: nothing for {outage:.1} s: {report}");
    assert_played_through(&report, outage);
    assert_eq!(
        (report.number("/width"), report.number("/height")),
        (1280.0, 720.0),
        "the new encoder is seen: {report}"
    );
}

#[test]
fn hls_js_plays_through_an_outage_and_another_encoder() {
    assert_plays_through(Player::HlsJs, "/live/clock/index.m3u8", "hls.js through an outage");
}

#[test]
fn dash_js_plays_through_an_outage_and_another_encoder() {
    assert_plays_through(Player::DashJs, "/live/clock/manifest.mpd", "dash.js through an outage");
}

#[test]
fn our_page_plays_through_an_outage_and_another_encoder() {
    assert_plays_through(Player::Page, "/live/clock", "our page through an outage");
}

/// How a server goes away.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Going {
    Stopped,
    Killed,
}

/// Plays, loses the server for some seconds, and must go on by itself, in the same page. The encoder connects again as soon as it can.
#[track_caller]
fn assert_plays_through_a_restart(player: Player, path: &str, going: Going, name: &str) {
    const AWAY: Duration = Duration::from_secs(4);
    let mut server = Server::resuming("30s");
    let publisher = Publisher::clock(&server.publish_url("clock"));
    server.wait_live("clock", 2);
    let mut browser = Browser::open(player, &server.url(path), true);
    browser.wait_picture(PICTURE);
    browser.watch(Duration::from_secs(6));
    let gone = Instant::now();
    match going {
        Going::Stopped => server.stop(),
        Going::Killed => server.crash(),
    }
    publisher.cut();
    browser.watch(AWAY);
    server.start_again();
    let _back = Publisher::clock(&server.publish_url("clock"));
    wait_media_again(&server);
    let outage = gone.elapsed().as_secs_f64();
    browser.watch(Duration::from_secs(12));
    let report = browser.report();
    println!("{name}: away for {outage:.1} s: {report}");
    assert_played_through(&report, outage);
    if going == Going::Stopped {
        // The timeline goes on as the wall clock does; after a crash it begins anew.
        let apart = report.number("/wall_s") - report.number("/played_s");
        assert!(apart.abs() < outage + 2.0, "{report}");
    }
}

#[test]
fn hls_js_plays_through_a_restart_of_the_server() {
    let name = "hls.js through a restart";
    assert_plays_through_a_restart(Player::HlsJs, "/live/clock/index.m3u8", Going::Stopped, name);
}

#[test]
fn hls_js_plays_through_a_crash_of_the_server() {
    assert_plays_through_a_restart(Player::HlsJs, "/live/clock/index.m3u8", Going::Killed, "hls.js through a crash");
}

#[test]
fn dash_js_plays_through_a_restart_of_the_server() {
    let name = "dash.js through a restart";
    assert_plays_through_a_restart(Player::DashJs, "/live/clock/manifest.mpd", Going::Stopped, name);
}

#[test]
fn our_page_plays_through_a_restart_of_the_server() {
    assert_plays_through_a_restart(Player::Page, "/live/clock", Going::Stopped, "our page through a restart");
}

#[test]
fn our_page_plays_through_a_crash_of_the_server() {
    assert_plays_through_a_restart(Player::Page, "/live/clock", Going::Killed, "our page through a crash");
}

#[test]
fn our_page_tells_the_streamer_how_the_stream_is() {
    let server = Server::start();
    // Key frames eight seconds apart and B-frames: an error and a hint.
    let source = Source { gop: 240, b_frames: 3, width: 640, height: 360, ..Source::default() };
    let _publisher = Publisher::ffmpeg_looping(&server.publish_url("clock"), &source);
    server.wait_live("clock", 2);
    let sizes = [("360", "740"), ("1280", "720")];
    for (theme, (width, height)) in [("dark", sizes[0]), ("light", sizes[0]), ("dark", sizes[1]), ("light", sizes[1])] {
        let options = ["--theme", theme, "--width", width, "--height", height];
        let shot = |what: &str| keep("screenshots").join(format!("{what}-{theme}-{width}.png"));
        let mut browser = Browser::open_as(Player::Page, &server.url("/live/clock?health"), true, &options);
        browser.wait_state(&["live"], PICTURE);
        let advice = browser.text("#health-advice [data-severity=error]");
        assert!(
            advice.contains("for the first picture") && advice.contains("Set the keyframe interval in OBS to 2 s"),
            "{advice}"
        );
        assert_eq!(browser.text("#health-state"), "Viewers notice problems");
        let facts = browser.text("#health-facts");
        assert!(
            facts.contains("640×360") && facts.contains("AAC-LC, 48 kHz, stereo") && facts.contains("in a row"),
            "{facts}"
        );
        browser.shot(&shot("health"));
        browser.click("#health-close");
        browser.key("h");
        browser.text("#health");
        drop(browser);
        let mut browser = Browser::open_as(Player::Page, &server.url("/"), true, &options);
        assert_eq!(browser.text(".card-health"), "key frames too rare");
        browser.shot(&shot("streams-health"));
    }
    // Who does not ask for it sees a button and no panel.
    let mut browser = Browser::open(Player::Page, &server.url("/live/clock"), true);
    browser.wait_state(&["live"], PICTURE);
    browser.text("#stage[data-state=live]:has(#health[hidden])");
    browser.key("ArrowLeft");
    browser.click("#health-button");
    browser.text("#health-advice [data-severity=error]");
}

#[test]
fn streams_page_lists_what_is_live() {
    let server = Server::start();
    let _publisher = Publisher::clock(&server.publish_url("clock"));
    server.wait_live("clock", 1);
    let mut browser = Browser::open(Player::Page, &server.url("/"), true);
    // The click waits for the card to appear, and opens the player.
    browser.click("a.card[href='/live/clock']");
    browser.wait_state(&["live"], PICTURE);
}
