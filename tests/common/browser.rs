//! A viewer: Debian's Chromium with a player in it, driven by `tests/browser/play.mjs`.

use std::io::{BufRead as _, BufReader, Write as _};
use std::path::Path;
use std::process::{ChildStdin, Command};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;

use super::link::Link;
use super::media::{browser_folder, text};
use super::process::Process;

/// Chromium takes a few seconds to start on a busy machine.
const ANSWER_LIMIT: Duration = Duration::from_secs(30);

/// Which player plays.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Player {
    /// The server's own page.
    Page,
    /// hls.js in low-latency mode on a page of the tests.
    HlsJs,
    /// dash.js.
    DashJs,
    /// Shaka, given a playlist or an MPD.
    Shaka,
}

impl Player {
    fn name(self) -> &'static str {
        match self {
            Self::Page => "page",
            Self::HlsJs => "hls",
            Self::DashJs => "dash",
            Self::Shaka => "shaka",
        }
    }
}

/// A browser that plays, closed when dropped.
pub struct Browser {
    process: Process,
    commands: ChildStdin,
    events: Receiver<Value>,
    state: Option<String>,
}

impl Browser {
    /// Opens `url` in `player`. Browsers on desks refuse sound before the first click; `autoplay` says whether this one does not.
    #[track_caller]
    pub fn open(player: Player, url: &str, autoplay: bool) -> Self {
        Self::open_as(player, url, autoplay, &[])
    }

    /// As [`Browser::open`], with further options of `play.mjs`: window size, theme.
    #[track_caller]
    pub fn open_as(player: Player, url: &str, autoplay: bool, options: &[&str]) -> Self {
        Self::open_by(Command::new("node"), player, url, autoplay, options)
    }

    /// As [`Browser::open`], on the far side of a bad line.
    #[track_caller]
    pub fn open_behind(link: &Link, player: Player, url: &str) -> Self {
        Self::open_by(link.command("node"), player, url, true, &[])
    }

    #[track_caller]
    fn open_by(mut command: Command, player: Player, url: &str, autoplay: bool, options: &[&str]) -> Self {
        command.current_dir(browser_folder()).args(["play.mjs", "--player", player.name(), "--url", url]);
        command.args(["--autoplay", if autoplay { "allowed" } else { "refused" }]);
        command.args(options);
        if url.starts_with("https:") {
            // The server makes its own certificate; no browser knows it.
            command.arg("--insecure");
        }
        let (process, commands, stdout) = Process::talk("chromium", &mut command);
        let (sender, events) = mpsc::channel();
        thread::spawn(move || {
            for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                let event = serde_json::from_str(&line).unwrap_or(Value::String(line));
                if sender.send(event).is_err() {
                    return;
                }
            }
        });
        let mut browser = Self { process, commands, events, state: None };
        browser.wait("open", ANSWER_LIMIT, |event| event["event"] == "open");
        browser
    }

    #[track_caller]
    fn wait(&mut self, what: &str, limit: Duration, wanted: impl Fn(&Value) -> bool) -> Value {
        let end = Instant::now() + limit;
        loop {
            match self.events.recv_timeout(end.saturating_duration_since(Instant::now())) {
                Ok(event) => {
                    if event["event"] == "state" {
                        self.state = event["state"].as_str().map(str::to_owned);
                    }
                    if wanted(&event) {
                        return event;
                    }
                }
                Err(RecvTimeoutError::Timeout) => panic!(
                    "the browser showed no {what} within {limit:?}; its page is {:?}:\n{}",
                    self.state,
                    self.process.log()
                ),
                Err(RecvTimeoutError::Disconnected) => panic!("the browser is gone:\n{}", self.process.log()),
            }
        }
    }

    #[track_caller]
    fn tell(&mut self, command: &str) {
        writeln!(self.commands, "{command}")
            .unwrap_or_else(|error| panic!("the browser is gone ({error}):\n{}", self.process.log()));
    }

    /// Waits for the first picture.
    #[track_caller]
    pub fn wait_picture(&mut self, limit: Duration) {
        let end = Instant::now() + limit;
        while let Ok(event) = self.events.recv_timeout(end.saturating_duration_since(Instant::now())) {
            if event["event"] == "state" {
                self.state = event["state"].as_str().map(str::to_owned);
            }
            if event["event"] == "frame" {
                return;
            }
        }
        // What the player says about itself is worth more than the log of its driver.
        let report = self.report();
        panic!("no picture within {limit:?}: {report}");
    }

    /// Waits until our page is in one of `states` (`live`, `offline`, `waiting`, `ended`).
    #[track_caller]
    pub fn wait_state(&mut self, states: &[&str], limit: Duration) -> String {
        if let Some(state) = self.state.as_deref().filter(|state| states.contains(state)) {
            return state.to_owned();
        }
        let event = self.wait(&format!("state {states:?}"), limit, |event| {
            event["event"] == "state" && states.iter().any(|state| event["state"] == *state)
        });
        event["state"].as_str().expect("a state is text").to_owned()
    }

    /// Lets it play for `time`; what happens meanwhile is in the next [`Browser::report`].
    pub fn watch(&mut self, time: Duration) {
        // Watching is what a viewer does with time: there is no condition to wait for.
        thread::sleep(time);
    }

    /// What a viewer has seen so far; the fields are those of `report()` in `play.mjs`.
    #[track_caller]
    pub fn report(&mut self) -> Report {
        self.tell("report");
        Report(self.wait("report", ANSWER_LIMIT, |event| event["event"] == "report"))
    }

    /// Takes a screenshot for someone to look at.
    #[track_caller]
    pub fn shot(&mut self, file: &Path) {
        self.tell(&format!("shot {}", text(file)));
        self.wait("screenshot", ANSWER_LIMIT, |event| event["event"] == "answer");
    }

    /// Clicks what a CSS selector names.
    #[track_caller]
    pub fn click(&mut self, selector: &str) {
        self.tell(&format!("click {selector}"));
        self.wait("click", ANSWER_LIMIT, |event| event["event"] == "answer");
    }

    /// The text of what a CSS selector names, once it is visible.
    #[track_caller]
    pub fn text(&mut self, selector: &str) -> String {
        self.tell(&format!("text {selector}"));
        let answer = self.wait(selector, ANSWER_LIMIT, |event| event["to"] == "text");
        answer["text"].as_str().expect("text").to_owned()
    }

    /// Presses a key.
    #[track_caller]
    pub fn key(&mut self, key: &str) {
        self.tell(&format!("key {key}"));
        self.wait("key press", ANSWER_LIMIT, |event| event["event"] == "answer");
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        // The driver closes the browser when told to, or when its input ends; killing the driver first would leave Chromium behind.
        let _ = writeln!(self.commands, "quit");
        let end = Instant::now() + Duration::from_secs(10);
        while self.process.ended().is_none() && Instant::now() < end {
            thread::sleep(Duration::from_millis(20));
        }
    }
}

/// What a viewer saw.
pub struct Report(pub Value);

impl Report {
    /// A number of the report by its path, such as `/drawn_ms/p50`.
    #[track_caller]
    pub fn number(&self, pointer: &str) -> f64 {
        self.0
            .pointer(pointer)
            .and_then(Value::as_f64)
            .unwrap_or_else(|| panic!("the report has no number at {pointer}: {}", self.0))
    }

    /// A field that is true or false.
    #[track_caller]
    pub fn is(&self, field: &str) -> bool {
        self.0[field].as_bool().unwrap_or_else(|| panic!("the report does not say {field}: {}", self.0))
    }

    /// Asserts that it played: pictures came, time moved with the wall clock, nothing broke.
    #[track_caller]
    pub fn assert_played(&self) {
        assert!(self.0["startup_ms"].is_number(), "nothing was shown: {}", self.0);
        assert_eq!(self.0["errors"].as_array().map(Vec::len), Some(0), "the player reports errors: {}", self.0);
        let (played, wall) = (self.number("/played_s"), self.number("/wall_s"));
        assert!(played > 0.8 * wall, "only {played} s of {wall} s were played: {}", self.0);
    }
}

impl std::fmt::Display for Report {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(formatter)
    }
}
