//! What is judged by the clock: how soon, how late, how smooth. Runs alone, one test after another, in the last stage of
//! `make test`. A judgement that fails while the machine is measurably too busy is made again, twice at most.

#![forbid(unsafe_code)]

#[path = "../common/mod.rs"]
mod common;

use std::time::Duration;

use common::browser::{Browser, Player, Report};
use common::busy::judge;
use common::keep;
use common::publisher::Publisher;
use common::server::Server;

/// From opening the page to the first picture.
const FIRST_PICTURE_MS: f64 = 2000.0;
/// Drawn clock to screen, with the page's settings of hls.js.
const BEHIND_MS: f64 = 1500.0;
const WATCHED: Duration = Duration::from_secs(63);

/// Plays the clock for a minute and says what was seen, with the player's own figure beside the drawn one.
fn minute(player: Player, path: &str, name: &str) -> Report {
    let server = Server::start();
    let _publisher = Publisher::clock(&server.publish_url("clock"));
    server.wait_live("clock", 2);
    let mut browser = Browser::open(player, &server.url(path), true);
    browser.wait_picture(Duration::from_secs(30));
    browser.watch(WATCHED);
    browser.shot(&keep("screenshots").join(format!("timing-{name}.png")));
    let report = browser.report();
    let own = report.0.pointer("/own_s/p50").and_then(serde_json::Value::as_f64).unwrap_or(f64::NAN);
    println!(
        "{name}: first picture {} ms, behind by the drawn clock {} ms (p95 {}), by the player's own figure {:.0} ms, {} stalls, {} of {} frames dropped",
        report.0["startup_ms"],
        report.0["drawn_ms"]["p50"],
        report.0["drawn_ms"]["p95"],
        own * 1000.0,
        report.0["stalls"],
        report.0["dropped"],
        report.0["frames"],
    );
    report.assert_played();
    report
}

fn at_most(what: &str, value: f64, limit: f64) -> Result<(), String> {
    if value <= limit { Ok(()) } else { Err(format!("{what} is {value}, at most {limit} is allowed")) }
}

#[test]
fn our_page_starts_fast_stays_close_and_never_stalls() {
    judge("our page", || {
        let report = minute(Player::Page, "/live/clock", "page");
        at_most("the first picture", report.number("/startup_ms"), FIRST_PICTURE_MS)?;
        at_most("the latency", report.number("/drawn_ms/p50"), BEHIND_MS)?;
        at_most("the number of stalls", report.number("/stalls"), 0.0)
    });
}

#[test]
fn dash_js_does_not_stall() {
    judge("dash.js", || {
        let report = minute(Player::DashJs, "/live/clock/manifest.mpd", "dash.js");
        at_most("the first picture", report.number("/startup_ms"), FIRST_PICTURE_MS)?;
        at_most("the number of stalls", report.number("/stalls"), 0.0)
    });
}

#[test]
fn shaka_does_not_stall() {
    judge("Shaka", || {
        let report = minute(Player::Shaka, "/live/clock/index.m3u8", "shaka");
        at_most("the first picture", report.number("/startup_ms"), FIRST_PICTURE_MS)?;
        at_most("the number of stalls", report.number("/stalls"), 0.0)
    });
}
