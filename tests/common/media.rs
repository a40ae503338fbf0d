//! Prepared source files, and what ffmpeg makes of a stream.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Mutex;
use std::time::Duration;

use super::process::run;
use super::{keep, root};

const LIMIT: Duration = Duration::from_secs(120);

/// What a prepared source file holds. Every picture is unlike every other, so that one can be found again by its hash.
#[derive(Clone, Copy, Debug)]
pub struct Source {
    pub width: u32,
    pub height: u32,
    /// Pictures a second as a fraction.
    pub fps: (u32, u32),
    /// Pictures between two key frames.
    pub gop: u32,
    /// B-frames in a row.
    pub b_frames: u32,
    pub video: bool,
    pub audio: bool,
    pub seconds: u32,
}

impl Default for Source {
    fn default() -> Self {
        Self { width: 320, height: 180, fps: (30, 1), gop: 60, b_frames: 0, video: true, audio: true, seconds: 30 }
    }
}

impl Source {
    /// The file, made by ffmpeg when it is not there yet. FLV, because that is what RTMP carries: what is decoded from it
    /// locally is what a viewer must see.
    #[track_caller]
    pub fn file(&self) -> PathBuf {
        // Tests run side by side; one makes the file, the others wait.
        static MAKING: Mutex<()> = Mutex::new(());
        let _making = MAKING.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let Self { width, height, fps, gop, b_frames, video, audio, seconds } = *self;
        let name = format!(
            "{width}x{height}-{}_{}-g{gop}-b{b_frames}-{}{}-{seconds}.flv",
            fps.0,
            fps.1,
            if video { "v" } else { "" },
            if audio { "a" } else { "" }
        );
        let path = keep("test-media").join(name);
        if path.exists() {
            return path;
        }
        let partial = path.with_extension("partial");
        let mut command = Command::new("ffmpeg");
        command.args(["-y", "-loglevel", "error"]);
        if video {
            command.args(["-f", "lavfi", "-i", &format!("testsrc2=size={width}x{height}:rate={}/{}", fps.0, fps.1)]);
        }
        if audio {
            command.args(["-f", "lavfi", "-i", "sine=frequency=440:beep_factor=4:sample_rate=48000"]);
        }
        command.args(["-t", &seconds.to_string()]);
        if video {
            command.args(["-c:v", "libx264", "-preset", "veryfast", "-pix_fmt", "yuv420p", "-b:v", "600k"]);
            command.args([
                "-g",
                &gop.to_string(),
                "-keyint_min",
                &gop.to_string(),
                "-sc_threshold",
                "0",
                "-bf",
                &b_frames.to_string(),
            ]);
            command.args(["-x264-params", "open-gop=0"]);
        }
        if audio {
            command.args(["-c:a", "aac", "-b:a", "96k", "-ac", "2"]);
        }
        run("ffmpeg (source)", command.args(["-f", "flv"]).arg(&partial), LIMIT);
        std::fs::rename(&partial, &path).expect("target/ is writable");
        path
    }
}

/// One decoded picture or one packet, as `-f framemd5` tells it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    /// Presentation time in nanoseconds.
    pub pts: i64,
    pub md5: String,
}

/// What of an input is hashed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum What {
    /// Decoded pictures.
    Pictures,
    /// Decoded sound, from where its encoder began.
    Sound,
    /// Audio packets as they are coded: a decoder's first output after a cut depends on what came before, the packets do not.
    AudioPackets,
}

/// Hashes of `input` (a file or an address), for at most `seconds` of it.
#[track_caller]
pub fn frames(input: &str, what: What, seconds: Option<u32>) -> Vec<Frame> {
    let mut command = Command::new("ffmpeg");
    command.args(["-loglevel", "error"]);
    if input.ends_with(".mpd") && !input.contains("://") {
        // A file may name what lies elsewhere only where that is allowed.
        command.args(["-protocol_whitelist", "file,http,tcp"]);
    }
    command.args(["-i", input]);
    match what {
        What::Pictures => command.args(["-map", "0:v:0", "-fps_mode", "passthrough", "-enc_time_base", "-1"]),
        What::Sound => command.args(["-map", "0:a:0"]),
        What::AudioPackets => command.args(["-map", "0:a:0", "-c", "copy"]),
    };
    if let Some(seconds) = seconds {
        command.args(["-t", &seconds.to_string()]);
    }
    parse(&run("ffmpeg (framemd5)", command.args(["-f", "framemd5", "-"]), LIMIT))
}

fn parse(text: &str) -> Vec<Frame> {
    // `#tb 0: 1/90000` gives the clock, then one line a frame: stream, dts, pts, duration, size, hash.
    let mut tick = (1, 1);
    let mut frames = Vec::new();
    for line in text.lines() {
        if let Some(base) = line.strip_prefix("#tb 0:") {
            let (numerator, denominator) = base.trim().split_once('/').expect("a time base is a fraction");
            tick = (numerator.parse().expect("a number"), denominator.parse().expect("a number"));
        } else if !line.starts_with('#') {
            let fields: Vec<&str> = line.split(',').map(str::trim).collect();
            let [_, _, pts, _, _, md5, ..] = fields[..] else { continue };
            let pts: i64 = pts.parse().expect("a number");
            frames.push(Frame { pts: pts * 1_000_000_000 / tick.1 * tick.0, md5: md5.to_owned() });
        }
    }
    frames
}

/// Asserts that `seen` is an unbroken run of `source`, at the source's pace: the same pictures, none missing, none twice, and
/// timestamps whose distances are the source's to within `tolerance`.
#[track_caller]
pub fn assert_run_of(seen: &[Frame], source: &[Frame], at_least: usize, tolerance: Duration) {
    assert!(seen.len() >= at_least, "{} frames seen, at least {at_least} expected", seen.len());
    let first =
        source.iter().position(|frame| frame.md5 == seen[0].md5).expect("the first frame seen is one of the source's");
    for (number, frame) in seen.iter().enumerate() {
        let expected = source.get(first + number).unwrap_or_else(|| panic!("frame {number} is after the source's end"));
        assert_eq!(frame.md5, expected.md5, "frame {number} is not the source's frame {}", first + number);
        let drift = (frame.pts - seen[0].pts) - (expected.pts - source[first].pts);
        assert!(
            Duration::from_nanos(drift.unsigned_abs()) <= tolerance,
            "frame {number} stands {drift} ns from where the source has it"
        );
    }
}

/// The first stream's facts by ffprobe: `codec_name`, `width`, ….
#[track_caller]
pub fn probe(input: &str) -> serde_json::Value {
    let text = run(
        "ffprobe",
        Command::new("ffprobe").args(["-loglevel", "error", "-show_streams", "-of", "json", input]),
        LIMIT,
    );
    serde_json::from_str(&text).expect("ffprobe writes JSON")
}

/// A path as text.
#[track_caller]
pub fn text(path: &Path) -> &str {
    path.to_str().expect("paths below the repository are text")
}

/// Where the browser's driver lives.
pub fn browser_folder() -> PathBuf {
    root().join("tests/browser")
}
