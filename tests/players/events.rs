//! hls.js and dash.js in Chromium play through what happens to a stream (CONFORMANCE §1.7), side by side and each in one page that is never loaded again.

use std::thread;
use std::time::Duration;

use super::PICTURE;
use super::common::browser::{Browser, Player, Report};
use super::common::busy;
use super::common::crafted::{Crafted, Script};
use super::common::media::Source;
use super::common::server::Server;

const HOUR_MS: i64 = 3_600_000;
const OUTAGE: Duration = Duration::from_secs(10);
/// The picture may stand still for an event and this much.
const STILL_MS: f64 = 1_000.0;

const FIRST: Source =
    Source { width: 1280, height: 720, fps: (30, 1), gop: 60, b_frames: 0, video: true, audio: true, seconds: 26 };
const SECOND: Source = Source { width: 1920, height: 1080, fps: (24, 1), gop: 48, seconds: 20, ..FIRST };

/// Two players that watch the same stream.
struct Viewers([(Player, Browser); 2]);

impl Viewers {
    fn open(server: &Server) -> Self {
        Self([(Player::HlsJs, "index.m3u8"), (Player::DashJs, "manifest.mpd")].map(|(player, file)| {
            let mut browser = Browser::open(player, &server.secure_url(&format!("/live/show/{file}")), true);
            browser.wait_picture(PICTURE);
            (player, browser)
        }))
    }

    /// Since `from` (milliseconds of each page), the picture stood still for at most `outage` and a second, and goes on at `size`.
    /// Returns where each page is now.
    fn judge(&mut self, event: &str, from: [f64; 2], outage: Duration, size: (f64, f64)) -> Result<[f64; 2], String> {
        let mut now = [0.0; 2];
        for (((player, browser), from), now) in self.0.iter_mut().zip(from).zip(&mut now) {
            let report = browser.report();
            let still = still_ms(&report, from);
            println!("{event}, {player:?}: still for at most {still} ms");
            let fail = |what: String| Err(format!("{event}, {player:?}: {what}: {report}"));
            if report.0["errors"].as_array().is_none_or(|errors| !errors.is_empty()) {
                return fail("errors".into());
            }
            if still > outage.as_secs_f64() * 1_000.0 + STILL_MS {
                return fail(format!("the picture stood still for {still} ms"));
            }
            if (report.number("/width"), report.number("/height")) != size {
                return fail(format!("the picture is not of {size:?}"));
            }
            *now = report.number("/now_ms");
        }
        Ok(now)
    }
}

/// The longest that the picture stood still after `from` and went on, milliseconds of the page.
fn still_ms(report: &Report, from: f64) -> f64 {
    let stills = report.0["still_list"].as_array().expect("a list");
    let after = stills.iter().filter(|still| still["at"].as_f64().is_some_and(|at| at > from));
    after.filter_map(|still| still["ms"].as_f64()).fold(0.0, f64::max)
}

#[expect(
    clippy::disallowed_methods,
    reason = "watching is what a viewer does with time; there is no condition to wait for"
)]
fn watch(time: Duration) {
    thread::sleep(time);
}

fn play_through() -> Result<(), String> {
    let server = Server::resuming("30s");
    // An hour forward at 12 s and back at 18 s, another encoder at 24 s.
    let script = Script::of(&FIRST)
        .until(24_000.0)
        .each(|tag| {
            if (12_000..18_000).contains(&tag.stamp) {
                tag.stamp += HOUR_MS;
            }
        })
        .then(Script::of(&SECOND), 24_000);
    let until_the_jump = Duration::from_millis(12_000);
    let publisher = Crafted::publish(server.rtmp(), "show", script);
    let began = std::time::Instant::now();
    server.wait_live("show", 2);
    let mut viewers = Viewers::open(&server);
    let (small, large) = ((1280.0, 720.0), (1920.0, 1080.0));
    watch(until_the_jump.saturating_sub(began.elapsed()));
    let at = viewers.judge("nothing", [0.0; 2], Duration::ZERO, small)?;
    watch(Duration::from_millis(17_900).saturating_sub(began.elapsed()));
    let at = viewers.judge("an hour forward", at, Duration::ZERO, small)?;
    watch(Duration::from_millis(23_900).saturating_sub(began.elapsed()));
    let at = viewers.judge("an hour back", at, Duration::ZERO, small)?;
    watch(Duration::from_millis(34_000).saturating_sub(began.elapsed()));
    let at = viewers.judge("another encoder", at, Duration::ZERO, large)?;
    publisher.cut();
    watch(OUTAGE);
    let _back = Crafted::publish(server.rtmp(), "show", Script::of(&SECOND));
    watch(Duration::from_secs(10));
    let at = viewers.judge("an outage", at, OUTAGE, large)?;
    // It does not only stand where it was: pictures have come in the last seconds.
    for ((player, browser), at) in viewers.0.iter_mut().zip(at) {
        let before = browser.report().number("/frames");
        watch(Duration::from_secs(2));
        let report = browser.report();
        if report.number("/frames") < before + 24.0 || report.number("/now_ms") <= at {
            return Err(format!("{player:?} does not play on: {report}"));
        }
    }
    Ok(())
}

#[test]
fn hls_js_and_dash_js_play_through_jumps_another_encoder_and_an_outage() {
    // Prepared before time counts.
    FIRST.file();
    SECOND.file();
    busy::judge("play through", play_through);
}
