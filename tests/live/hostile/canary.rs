//! A well-behaved publisher and viewer beside whatever a test does: they must notice nothing.

use std::collections::BTreeSet;
use std::io::{self, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use crate::common::busy;
use crate::common::media::Source;
use crate::common::publisher::Publisher;
use crate::common::server::{Server, media_playlists};
use crate::common::wait_for;

const NAME: &str = "canary";
/// Parts that must still come after everything, and how long they may take.
const PARTS_AFTER: usize = 5;
/// Without a new part for this long, the stream has stopped, unless the machine was too busy to judge.
const STOPPED: Duration = Duration::from_secs(3);
/// What the stream's window and the allocator may have grown by once a flood is over: what it took is given back within seconds.
const KEPT_KIB: u64 = 8 * 1024;

/// What a process uses.
#[derive(Debug, Clone, Copy)]
pub struct Footprint {
    pub resident_kib: u64,
    pub descriptors: usize,
    pub threads: u64,
}

impl Footprint {
    pub fn of(process: u32) -> Self {
        let status = std::fs::read_to_string(format!("/proc/{process}/status")).expect("the server runs");
        let said = |name: &str| {
            let value = status.lines().find_map(|line| line.strip_prefix(name)).expect("Linux says so");
            value.split_whitespace().next().and_then(|number| number.parse().ok()).expect("a number")
        };
        let descriptors = std::fs::read_dir(format!("/proc/{process}/fd")).expect("the server runs").count();
        Self { resident_kib: said("VmRSS:"), descriptors, threads: said("Threads:") }
    }
}

/// What the viewer has seen.
#[derive(Debug, Default)]
struct Seen {
    parts: BTreeSet<u64>,
    /// Of these, those that are yet to be loaded.
    unloaded: Vec<u64>,
    media_sequence: u64,
    last_part: Option<Instant>,
    longest_pause: Duration,
    /// What a viewer would have been hurt by.
    wrong: Vec<String>,
}

pub struct Canary {
    _publisher: Publisher,
    viewer: JoinHandle<()>,
    stop: Arc<AtomicBool>,
    seen: Arc<Mutex<Seen>>,
    before: Footprint,
    kept_kib: u64,
    machine: busy::Watch,
}

impl Canary {
    /// Publishes, watches, and remembers what the server uses.
    #[track_caller]
    pub fn start(server: &mut Server) -> Self {
        Self::start_of(server, 60)
    }

    /// As [`Canary::start`], for tests that take longer than a minute.
    #[track_caller]
    pub fn start_long(server: &mut Server) -> Self {
        Self::start_of(server, 180)
    }

    /// Allows more to be kept, for what comes next.
    pub fn allow_kib(&mut self, kib: u64) {
        self.kept_kib += kib;
    }

    /// What hurt the viewer so far.
    pub fn hurt(&self) -> Vec<String> {
        self.seen.lock().expect("the viewer does not panic").wrong.clone()
    }

    /// The longest time without a part so far.
    pub fn pause(&self) -> Duration {
        self.seen.lock().expect("the viewer does not panic").longest_pause
    }

    #[track_caller]
    fn start_of(server: &mut Server, seconds: u32) -> Self {
        let publisher = Publisher::ffmpeg(&server.publish_url(NAME), &Source { seconds, ..Source::default() });
        server.wait_live(NAME, 1);
        let multivariant = server.get(&format!("/live/{NAME}/index.m3u8")).text();
        let video = media_playlists(&multivariant).into_iter().find(|uri| uri.contains("/v0/")).expect("video");
        let (stop, seen) = (Arc::new(AtomicBool::new(false)), Arc::new(Mutex::new(Seen::default())));
        let viewer = {
            let (stop, seen, address) = (Arc::clone(&stop), Arc::clone(&seen), server.http());
            thread::spawn(move || {
                // What ended it early has been noted.
                let _ = watch(address, &format!("/live/{NAME}/{video}"), &stop, &seen);
            })
        };
        let before = Footprint::of(server.process().id());
        Self { _publisher: publisher, viewer, stop, seen, before, kept_kib: KEPT_KIB, machine: busy::Watch::start() }
    }

    /// Asserts that neither the stream nor the server has taken harm.
    #[track_caller]
    pub fn assert_unharmed(self, server: &mut Server) {
        let parts = || self.seen.lock().expect("the viewer does not panic").parts.len();
        let so_far = parts();
        wait_for("the canary stream to go on", Duration::from_secs(20), || {
            (parts() >= so_far + PARTS_AFTER).then_some(())
        });
        self.stop.store(true, Ordering::Relaxed);
        self.viewer.join().expect("the viewer does not panic");
        let machine = self.machine.verdict();
        let seen = self.seen.lock().expect("the viewer does not panic");
        assert!(seen.wrong.is_empty(), "the viewer was hurt: {:#?}", seen.wrong);
        let (first, last) = (seen.parts.first().expect("parts"), seen.parts.last().expect("parts"));
        assert_eq!(seen.parts.len() as u64, last - first + 1, "parts are missing: {:?}", seen.parts);
        println!("the canary saw {} parts, none later than {:?}", seen.parts.len(), seen.longest_pause);
        assert!(
            seen.longest_pause < STOPPED || machine.too_busy,
            "no part came for {:?} ({machine:?})",
            seen.longest_pause
        );
        assert!(server.process().ended().is_none(), "the server is gone:\n{}", server.process().log());
        assert!(!server.process().log().contains("panicked"), "something panicked:\n{}", server.process().log());
        let id = server.process().id();
        // The viewer's last connection and the API's may still be closing; a thread that was lent for a file goes ten seconds later.
        let (before, at_once) = (self.before, Footprint::of(id));
        let most_kib = before.resident_kib + self.kept_kib;
        let after = wait_for("descriptors, threads and memory to be given back", Duration::from_secs(20), || {
            let now = Footprint::of(id);
            let few = now.descriptors <= before.descriptors + 2 && now.threads <= before.threads + 2;
            (few && now.resident_kib <= most_kib).then_some(now)
        });
        println!("before {before:?}, after {at_once:?}, a little later {after:?}");
    }
}

/// Follows a media playlist with blocking reloads and loads each part once, as a low-latency player does.
fn watch(address: SocketAddr, playlist: &str, stop: &AtomicBool, seen: &Mutex<Seen>) -> io::Result<()> {
    let folder = playlist.trim_end_matches("index.m3u8");
    let seen = || seen.lock().expect("the test does not panic here");
    let mut query = String::new();
    // One connection for all requests, as players have: that it can stay is part of not being hurt.
    let mut connection = TcpStream::connect(address).expect("the server listens");
    connection.set_read_timeout(Some(Duration::from_secs(20))).expect("a time limit");
    let mut load = |path: &str| {
        let answer = ask(&mut connection, path);
        match &answer {
            Ok((200, _)) => {}
            Ok((status, _)) => seen().wrong.push(format!("{path}: {status}")),
            Err(error) => seen().wrong.push(format!("{path}: {error}")),
        }
        answer.map(|(status, body)| (status == 200).then_some(body))
    };
    while !stop.load(Ordering::Relaxed) && seen().wrong.len() <= 20 {
        if let Some(body) = load(&format!("{playlist}{query}"))? {
            let mut seen = seen();
            match look(&String::from_utf8_lossy(&body), &mut seen) {
                Some((msn, part)) => query = format!("?_HLS_msn={msn}&_HLS_part={part}"),
                None => seen.wrong.push("a playlist without parts".into()),
            }
        }
        let unloaded = std::mem::take(&mut seen().unloaded);
        for number in unloaded {
            let path = format!("{folder}p{number}.m4s");
            if load(&path)?.is_some_and(|part| !is_whole(&part)) {
                seen().wrong.push(format!("{path} is cut short"));
            }
        }
    }
    Ok(())
}

/// Whether boxes in a row, `mdat` the last, are all that there is.
fn is_whole(part: &[u8]) -> bool {
    let (mut rest, mut last) = (part, &b""[..]);
    while let [a, b, c, d, kind @ ..] = rest {
        let size = u32::from_be_bytes([*a, *b, *c, *d]) as usize;
        if size < 8 || size > rest.len() {
            return false;
        }
        (rest, last) = (&rest[size..], &kind[..4]);
    }
    rest.is_empty() && last == b"mdat"
}

/// One request on a connection that stays: status and body.
fn ask(connection: &mut TcpStream, path: &str) -> io::Result<(u16, Vec<u8>)> {
    write!(connection, "GET {path} HTTP/1.1\r\nhost: canary\r\n\r\n")?;
    let (mut bytes, mut buffer) = (Vec::new(), [0; 16 * 1024]);
    loop {
        if let Some(end) = bytes.windows(4).position(|window| window == b"\r\n\r\n") {
            let head = String::from_utf8_lossy(&bytes[..end]).to_ascii_lowercase();
            let length = head.split_once("content-length: ").and_then(|(_, rest)| rest.lines().next()?.parse().ok());
            let length: usize = length.ok_or_else(|| io::Error::other(format!("no length: {head}")))?;
            if bytes.len() >= end + 4 + length {
                let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or(0);
                return Ok((status, bytes.split_off(end + 4)));
            }
        }
        match connection.read(&mut buffer)? {
            0 => return Err(io::ErrorKind::UnexpectedEof.into()),
            count => bytes.extend_from_slice(&buffer[..count]),
        }
    }
}

/// Reads a playlist; gives the part to ask for next.
fn look(playlist: &str, seen: &mut Seen) -> Option<(u64, u64)> {
    let number = |line: &str, head: &str, tail: &str| line.split_once(head)?.1.split_once(tail)?.0.parse::<u64>().ok();
    let before = seen.parts.len();
    let (mut media_sequence, mut segments, mut open_parts) = (0, 0, 0);
    for line in playlist.lines() {
        if let Some(value) = line.strip_prefix("#EXT-X-MEDIA-SEQUENCE:") {
            media_sequence = value.parse().ok()?;
        } else if line.starts_with("#EXT-X-PART:") {
            let part = number(line, "URI=\"p", ".m4s");
            let fresh = part.filter(|part| seen.parts.insert(*part));
            seen.unloaded.extend(fresh);
            open_parts += 1;
        } else if line.starts_with("#EXTINF:") {
            segments += 1;
            open_parts = 0;
        } else if line == "#EXT-X-DISCONTINUITY" || line == "#EXT-X-ENDLIST" {
            seen.wrong.push(line.to_owned());
        } else if line.ends_with(".m4s") && line != format!("s{}.m4s", media_sequence + segments - 1) {
            seen.wrong.push(format!("{line} is not where its number belongs"));
        }
    }
    if media_sequence < seen.media_sequence {
        seen.wrong.push(format!("the media sequence went back from {} to {media_sequence}", seen.media_sequence));
    }
    seen.media_sequence = media_sequence;
    if seen.parts.len() > before
        && let Some(last) = seen.last_part.replace(Instant::now())
    {
        seen.longest_pause = seen.longest_pause.max(last.elapsed());
    }
    (!seen.parts.is_empty()).then_some((media_sequence + segments, open_parts))
}
