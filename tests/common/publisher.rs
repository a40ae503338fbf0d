//! Encoders that publish as streamers' do.

use std::path::Path;
use std::process::Command;
use std::thread;
use std::time::Duration;

use super::clock;
use super::media::{Source, text};
use super::process::Process;

/// A publishing encoder, gone when dropped.
pub struct Publisher {
    process: Process,
}

impl Publisher {
    /// ffmpeg sends a prepared file as it is, at its own pace: what viewers get can be compared bit by bit.
    #[track_caller]
    pub fn ffmpeg(url: &str, source: &Source) -> Self {
        Self::ffmpeg_file(url, &source.file(), &[])
    }

    /// As [`Publisher::ffmpeg`], any file, with `options` for ffmpeg's FLV writer.
    #[track_caller]
    pub fn ffmpeg_file(url: &str, file: &Path, options: &[&str]) -> Self {
        let mut command = Command::new("ffmpeg");
        command.args(["-loglevel", "warning", "-re", "-i", text(file), "-c", "copy", "-f", "flv"]);
        command.args(options).arg(url);
        Self { process: Process::start("ffmpeg (publisher)", &mut command) }
    }

    /// As [`Publisher::ffmpeg`], round and round, for tests that outlast the file.
    #[track_caller]
    pub fn ffmpeg_looping(url: &str, source: &Source) -> Self {
        let file = source.file();
        let mut command = Command::new("ffmpeg");
        command.args([
            "-loglevel",
            "warning",
            "-re",
            "-stream_loop",
            "-1",
            "-i",
            text(&file),
            "-c",
            "copy",
            "-f",
            "flv",
            url,
        ]);
        Self { process: Process::start("ffmpeg (publisher)", &mut command) }
    }

    /// GStreamer's `rtmp2sink`, which speaks RTMP by other rules than ffmpeg and OBS.
    #[track_caller]
    pub fn gstreamer(url: &str, source: &Source) -> Self {
        let mut pipeline = vec!["-q".to_owned(), "-e".to_owned()];
        let mut add = |text: String| pipeline.extend(text.split_whitespace().map(str::to_owned));
        add(format!("flvmux name=mux streamable=true ! rtmp2sink location={url}"));
        if source.video {
            add(format!(
                "videotestsrc is-live=true pattern=ball ! video/x-raw,width={},height={},framerate={}/{} ! x264enc tune=zerolatency speed-preset=ultrafast bitrate=600 key-int-max={} bframes=0 ! video/x-h264,profile=main ! h264parse ! queue ! mux.",
                source.width, source.height, source.fps.0, source.fps.1, source.gop
            ));
        }
        if source.audio {
            add("audiotestsrc is-live=true wave=ticks ! audio/x-raw,rate=48000,channels=2 ! avenc_aac bitrate=96000 ! aacparse ! queue ! mux.".to_owned());
        }
        Self { process: Process::start("gst-launch-1.0", Command::new("gst-launch-1.0").args(pipeline)) }
    }

    /// ffmpeg encodes a picture that shows the wall clock at the moment it was drawn, with a beep beside it.
    #[track_caller]
    pub fn clock(url: &str) -> Self {
        Self::clock_of(url, (640, 352), 30)
    }

    /// As [`Publisher::clock`], in another size and at another picture rate.
    #[track_caller]
    pub fn clock_of(url: &str, size: (usize, usize), rate: u32) -> Self {
        let fps = (rate, 1);
        let gop = (2 * rate).to_string();
        let mut command = Command::new("ffmpeg");
        command.args(["-loglevel", "warning"]);
        // A pipe is read as it comes, so the drawing thread sets the pace. Nothing is probed: what it holds is known.
        command.args([
            "-probesize",
            "32",
            "-analyzeduration",
            "0",
            "-fflags",
            "nobuffer",
            "-f",
            "rawvideo",
            "-pix_fmt",
            "yuv420p",
        ]);
        command.args([
            "-video_size",
            &format!("{}x{}", size.0, size.1),
            "-framerate",
            &rate.to_string(),
            "-i",
            "pipe:0",
        ]);
        command.args(["-re", "-f", "lavfi", "-i", "sine=frequency=440:beep_factor=4:sample_rate=48000"]);
        command.args([
            "-map",
            "0:v",
            "-map",
            "1:a",
            "-c:v",
            "libx264",
            "-preset",
            "ultrafast",
            "-tune",
            "zerolatency",
            "-b:v",
            "1M",
            "-g",
            &gop,
            "-keyint_min",
            &gop,
            "-sc_threshold",
            "0",
        ]);
        // One thread encodes without delay: more would hold pictures back.
        command.args([
            "-threads",
            "1",
            "-c:a",
            "aac",
            "-b:a",
            "96k",
            "-ac",
            "2",
            "-flush_packets",
            "1",
            "-f",
            "flv",
            "-flvflags",
            "no_duration_filesize",
            url,
        ]);
        let (process, stdin, _stdout) = Process::talk("ffmpeg (clock)", &mut command);
        thread::spawn(move || clock::draw(stdin, size.0, size.1, fps));
        Self { process }
    }

    /// Waits until the encoder has sent all it had.
    #[track_caller]
    pub fn wait(&mut self, limit: Duration) {
        let status = self.process.wait(limit);
        assert!(status.success(), "the publisher ended with {status}:\n{}", self.process.log());
    }

    /// Pulls the plug: the connection is gone without a farewell.
    pub fn cut(mut self) {
        self.process.kill();
    }

    /// Waits until the server has refused it, and gives what the encoder wrote.
    #[track_caller]
    pub fn wait_refused(&mut self, limit: Duration) -> String {
        let status = self.process.wait(limit);
        assert!(!status.success(), "it was not refused:\n{}", self.process.log());
        self.process.log()
    }

    /// Stops it in its tracks: the connection stays open and nothing comes.
    pub fn freeze(&mut self) {
        self.process.signal("STOP");
    }

    /// It goes on.
    pub fn thaw(&mut self) {
        self.process.signal("CONT");
    }

    /// Ends as OBS does on Stop Streaming, and waits until it has.
    #[track_caller]
    pub fn stop(mut self) {
        self.process.signal("INT");
        self.process.wait(Duration::from_secs(10));
    }
}
