//! What the integration tests share: a server, publishers, viewers, and the patience to wait for conditions.
//!
//! Everything here starts real programs (the server just built, ffmpeg, GStreamer, Chromium, OBS Studio). A program that is not
//! installed fails the test: `scripts/setup.sh test` installs all of them. Every wait has a deadline, none is a bare sleep.

// Each test binary uses its own part of this module; what one leaves unused another needs.
#![allow(dead_code, unreachable_pub)]
// Tests are plain threads that wait for other programs; nothing of theirs runs on an async runtime.
#![allow(clippy::disallowed_methods)]

pub mod browser;
pub mod busy;
pub mod clock;
pub mod crafted;
pub mod http;
pub mod link;
pub mod media;
pub mod process;
pub mod publisher;
pub mod server;

use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

/// How often a condition is looked at. Short, because most hold within a few milliseconds.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// Looks until `condition` gives a value, and panics with `what` when it has not by `limit`.
#[track_caller]
pub fn wait_for<T>(what: &str, limit: Duration, mut condition: impl FnMut() -> Option<T>) -> T {
    let start = Instant::now();
    loop {
        if let Some(value) = condition() {
            return value;
        }
        assert!(start.elapsed() < limit, "waited {limit:?} in vain for {what}");
        thread::sleep(LOOK_EVERY);
    }
}

/// The repository's root.
pub fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// A folder below `target/` that outlives the test, for screenshots and logs that someone looks at.
pub fn keep(folder: &str) -> PathBuf {
    let path = root().join("target").join(folder);
    std::fs::create_dir_all(&path).expect("target/ is writable");
    path
}
