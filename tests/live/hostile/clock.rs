//! RELIABILITY row 119: the wall clock is set while a stream runs.

use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

use super::rows::Rows;
use super::video_playlist;
use crate::common::http;
use crate::common::keep;
use crate::common::process::run;
use crate::common::server::Server;
use crate::common::wait_for;

/// Adds the seconds that the file named by `RILLCAST_TEST_CLOCK` begins with to the wall clock of the process that it is loaded into.
const SHIM: &str = r#"
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>
int clock_gettime(clockid_t clock, struct timespec *now) {
    static volatile long long *shift;
    int result = (int)syscall(SYS_clock_gettime, clock, now);
    if (clock == CLOCK_REALTIME) {
        if (!shift) {
            const char *path = getenv("RILLCAST_TEST_CLOCK");
            int file = path ? open(path, O_RDONLY) : -1;
            void *mapped = file < 0 ? MAP_FAILED : mmap(0, 8, PROT_READ, MAP_SHARED, file, 0);
            if (file >= 0) close(file);
            if (mapped == MAP_FAILED) return result;
            shift = mapped;
        }
        now->tv_sec += *shift;
    }
    return result;
}
"#;

/// The library, built where the tests keep what they make.
#[track_caller]
fn shim() -> PathBuf {
    let folder = keep("test-clock");
    let (source, library) = (folder.join("clock.c"), folder.join("clock.so"));
    std::fs::write(&source, SHIM).expect("target/ is writable");
    let mut cc = Command::new("cc");
    cc.args(["-shared", "-fPIC", "-O1", "-o"]).arg(&library).arg(&source);
    run("cc", &mut cc, Duration::from_secs(60));
    library
}

/// The dates of the segments that the canary's playlist lists, with their numbers.
fn dates(server: &Server, playlist: &str) -> Vec<String> {
    let text = server.get(playlist).text();
    text.lines().filter_map(|line| line.strip_prefix("#EXT-X-PROGRAM-DATE-TIME:")).map(str::to_owned).collect()
}

#[test]
fn a_clock_that_is_set() {
    let folder = tempfile::tempdir().expect("the temporary folder is writable");
    let file = folder.path().join("shift");
    let set = |seconds: i64| {
        use std::os::unix::fs::FileExt as _;
        let shift = std::fs::OpenOptions::new().write(true).create(true).truncate(false).open(&file).expect("writable");
        shift.write_all_at(&seconds.to_ne_bytes(), 0).expect("writable");
    };
    set(0);
    let library = shim();
    let overrides =
        [("LD_PRELOAD", library.to_str().expect("text")), ("RILLCAST_TEST_CLOCK", file.to_str().expect("text"))];
    let mut rows = Rows::start(&overrides);
    let playlist = video_playlist(&rows.server, "canary");
    let address = rows.server.http();
    let year = || http::get(address, "/time").text()[..4].parse::<i64>().expect("a year");
    let now = year();
    set(20 * 366 * 86_400);
    assert!(year() >= now + 19, "the shim moves the server's clock");
    set(0);
    for (what, seconds) in
        [("an hour on", 3_600), ("an hour back", -3_600), ("ten years on", 3_652 * 86_400), ("back to now", 0)]
    {
        rows.row(&format!("119 the clock is set {what}"), &[], |server| {
            let mut before = dates(server, &playlist);
            set(seconds);
            let start = Instant::now();
            // Three segments, so that the jump lies within what is listed.
            wait_for("the stream to go on", Duration::from_secs(20), || {
                (start.elapsed() > Duration::from_secs(6)).then_some(())
            });
            let after = dates(server, &playlist);
            before.extend(after.iter().filter(|date| !before.contains(date)).cloned().collect::<Vec<_>>());
            let sorted = before.windows(2).all(|pair| pair[0] < pair[1]);
            assert!(sorted, "dates go back: {before:?}");
            let stream = server.stream("canary").expect("it is there");
            assert_eq!(stream["state"], "live", "{stream}");
        });
    }
    rows.finish();
}
