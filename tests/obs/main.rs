//! OBS Studio itself: Debian's package on a virtual display, started as a streamer starts it, watched in Chromium.

#![forbid(unsafe_code)]

#[path = "../common/mod.rs"]
mod common;

use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use common::browser::{Browser, Player};
use common::keep;
use common::media::{Source, text};
use common::process::{Process, run};
use common::publisher::Publisher;
use common::server::Server;
use common::{root, wait_for};
use tempfile::TempDir;

/// OBS loads its plug-ins and draws its window by software.
const OBS_START: Duration = Duration::from_secs(60);

/// A display nobody sees, large enough for OBS's window with its status bar.
struct Display {
    _xvfb: Process,
    name: String,
}

impl Display {
    #[track_caller]
    fn start() -> Self {
        // Xvfb looks for a free display number itself and tells it.
        let (xvfb, _stdin, mut stdout) = Process::talk(
            "Xvfb",
            Command::new("Xvfb").args(["-displayfd", "1", "-screen", "0", "1120x760x24", "-nolisten", "tcp"]),
        );
        let mut number = String::new();
        let mut byte = [0];
        while stdout.read(&mut byte).expect("Xvfb says its display") == 1 && byte != *b"\n" {
            number.push(char::from(byte[0]));
        }
        Self { _xvfb: xvfb, name: format!(":{number}") }
    }

    #[track_caller]
    fn shot(&self, file: &Path) {
        let mut command = Command::new("ffmpeg");
        command
            .args([
                "-y",
                "-loglevel",
                "error",
                "-f",
                "x11grab",
                "-video_size",
                "1120x760",
                "-i",
                &self.name,
                "-frames:v",
                "1",
            ])
            .arg(file);
        run("ffmpeg (screenshot)", &mut command, Duration::from_secs(20));
    }
}

/// Copies the prepared profile and scenes, with the blanks filled in.
fn prepare(folder: &Path, blanks: &[(&str, &str)]) {
    fn copy(from: &Path, to: &Path, blanks: &[(&str, &str)]) {
        std::fs::create_dir_all(to).expect("the temporary folder is writable");
        for entry in std::fs::read_dir(from).expect("the profile is there") {
            let entry = entry.expect("the profile is readable");
            let target = to.join(entry.file_name());
            if entry.path().is_dir() {
                copy(&entry.path(), &target, blanks);
            } else {
                let text = std::fs::read_to_string(entry.path()).expect("the profile is text");
                std::fs::write(target, blanks.iter().fold(text, |text, (blank, value)| text.replace(blank, value)))
                    .expect("the temporary folder is writable");
            }
        }
    }
    copy(&root().join("tests/obs/config"), &folder.join("config/obs-studio"), blanks);
}

#[track_caller]
fn start_obs(display: &Display, home: &Path) -> Process {
    let mut command = Command::new("obs");
    command
        .args([
            "--startstreaming",
            "--multi",
            "--disable-missing-files-check",
            "--profile",
            "Rillcast",
            "--collection",
            "Rillcast",
            "--verbose",
        ])
        .env("DISPLAY", &display.name)
        .env("LIBGL_ALWAYS_SOFTWARE", "1")
        .env("HOME", home)
        .env("XDG_CONFIG_HOME", home.join("config"))
        .env("XDG_RUNTIME_DIR", home);
    Process::start("obs", &mut command)
}

fn screenshot(name: &str) -> PathBuf {
    keep("screenshots").join(name)
}

#[test]
fn obs_studio_publishes_and_chromium_watches() {
    let server = Server::start();
    let home = TempDir::with_prefix("rillcast-obs-").expect("the temporary folder is writable");
    let media = Source { width: 640, height: 360, seconds: 10, ..Source::default() }.file();
    prepare(
        home.path(),
        &[("@SERVER@", &format!("rtmp://{}/live", server.rtmp())), ("@KEY@", "obs"), ("@MEDIA@", text(&media))],
    );
    let display = Display::start();
    let mut obs = start_obs(&display, home.path());
    obs.wait_for_log("Streaming Start", OBS_START);
    server.wait_live("obs", 2);

    let mut browser = Browser::open(Player::Page, &server.url("/live/obs"), true);
    browser.wait_picture(Duration::from_secs(30));
    browser.watch(Duration::from_secs(10));
    display.shot(&screenshot("obs-window.png"));
    browser.key("s");
    browser.watch(Duration::from_secs(2));
    browser.shot(&screenshot("obs-page.png"));
    let report = browser.report();
    println!("OBS in Chromium: {report}");
    report.assert_played();
    assert_eq!((report.number("/width"), report.number("/height")), (640.0, 360.0), "{report}");

    // Stop Streaming and Exit in one: OBS says farewell, and the page says so too.
    obs.signal("TERM");
    wait_for("OBS to exit", Duration::from_secs(30), || obs.ended());
    browser.wait_state(&["ended", "offline", "waiting"], Duration::from_secs(30));
}

#[test]
fn obs_studio_shows_why_a_second_publisher_is_refused() {
    let server = Server::start();
    let _first = Publisher::ffmpeg_looping(&server.publish_url("obs"), &Source::default());
    server.wait_live("obs", 1);
    let home = TempDir::with_prefix("rillcast-obs-").expect("the temporary folder is writable");
    let media = Source { width: 640, height: 360, seconds: 10, ..Source::default() }.file();
    prepare(
        home.path(),
        &[
            ("@SERVER@", &format!("rtmp://{}/live", server.rtmp())),
            ("@KEY@", "no such name!"),
            ("@MEDIA@", text(&media)),
        ],
    );
    let display = Display::start();
    let mut obs = start_obs(&display, home.path());
    // A refusal is an onStatus error; OBS logs its words and shows them in a box.
    obs.wait_for_log("BadName", OBS_START);
    wait_for("the box with the reason", Duration::from_secs(10), || {
        obs.log().contains("Connection to rtmp://").then_some(())
    });
    display.shot(&screenshot("obs-refused.png"));
}
