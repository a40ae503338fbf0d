//! What is judged by the clock: how soon, how late, how smooth. Runs alone, one test after another, in the last stage of
//! `make test`. A judgement that fails while the machine is measurably too busy is made again, twice at most.
//!
//! `MINUTES=10 cargo test --release --test timing our_page -- --nocapture` watches our page for so long.

#![forbid(unsafe_code)]

#[path = "../common/mod.rs"]
mod common;
mod network;

use std::time::Duration;

use common::browser::{Browser, Player, Report};
use common::busy::judge;
use common::keep;
use common::publisher::Publisher;
use common::server::Server;

/// From opening the page to the first picture.
const FIRST_PICTURE_MS: f64 = 2000.0;
/// Drawn clock to screen on our page, 95 of 100 pictures.
const BEHIND_MS: f64 = 1200.0;
/// A minute, and what [`Report`] leaves out of it as start-up.
const MINUTE: Duration = Duration::from_secs(63);

/// How long our page is watched. What is meant to hold for ten minutes cannot be judged by one: to come near takes the first four seconds after a start
/// on a busy machine, and alone would be the five pictures of a hundred that may be late.
fn patience() -> Duration {
    let Ok(minutes) = std::env::var("MINUTES") else { return MINUTE * 2 };
    let minutes: f64 = minutes.parse().unwrap_or_else(|_| panic!("MINUTES is a number, not {minutes:?}"));
    Duration::from_secs_f64(minutes * 60.0) + Duration::from_secs(3)
}

/// Plays the clock and says what was seen.
fn play(player: Player, path: &str, name: &str, watched: Duration) -> Report {
    let server = Server::start();
    let _publisher = Publisher::clock(&server.publish_url("clock"));
    server.wait_live("clock", 2);
    let mut browser = Browser::open(player, &server.url(path), true);
    browser.wait_picture(Duration::from_secs(30));
    browser.watch(watched);
    browser.shot(&keep("screenshots").join(format!("timing-{name}.png")));
    let report = browser.report();
    say(name, &report);
    report.assert_played();
    report
}

/// The figures that are worth comparing from run to run, with the player's own beside the drawn ones.
fn say(name: &str, report: &Report) {
    let own = report.0.pointer("/own_s/p50").and_then(serde_json::Value::as_f64).unwrap_or(f64::NAN);
    println!(
        "{name}: first picture {} ms, behind by the drawn clock {} ms (p95 {}, max {}), by the player's own figure {:.0} ms, {} stalls, {} of {} frames dropped",
        report.0["startup_ms"],
        report.0["drawn_ms"]["p50"],
        report.0["drawn_ms"]["p95"],
        report.0["drawn_ms"]["max"],
        own * 1000.0,
        report.0["stalls"],
        report.0["dropped"],
        report.0["frames"],
    );
}

fn at_most(what: &str, value: f64, limit: f64) -> Result<(), String> {
    if value <= limit { Ok(()) } else { Err(format!("{what} is {value}, at most {limit} is allowed")) }
}

#[test]
fn our_page_starts_fast_stays_close_and_never_stalls() {
    judge("our page", || {
        let report = play(Player::Page, "/live/clock", "page", patience());
        at_most("the first picture", report.number("/startup_ms"), FIRST_PICTURE_MS)?;
        at_most("the latency (p95)", report.number("/drawn_ms/p95"), BEHIND_MS)?;
        at_most("the number of stalls", report.number("/stalls"), 0.0)
    });
}

#[test]
fn dash_js_does_not_stall() {
    judge("dash.js", || {
        let report = play(Player::DashJs, "/live/clock/manifest.mpd", "dash.js", MINUTE);
        at_most("the first picture", report.number("/startup_ms"), FIRST_PICTURE_MS)?;
        at_most("the number of stalls", report.number("/stalls"), 0.0)
    });
}

#[test]
fn shaka_does_not_stall() {
    judge("Shaka", || {
        let report = play(Player::Shaka, "/live/clock/index.m3u8", "shaka", MINUTE);
        at_most("the first picture", report.number("/startup_ms"), FIRST_PICTURE_MS)?;
        at_most("the number of stalls", report.number("/stalls"), 0.0)
    });
}
