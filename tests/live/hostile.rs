//! What peers should not do, over real sockets: it costs them their own connection, and the stream beside it nothing.

mod api;
mod canary;
mod clock;
mod h2;
mod http1;
mod http2;
mod media;
pub(super) mod peer;
mod playlists;
mod resources;
mod rows;
mod rtmp;
mod tls;

use std::io::{Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use self::canary::Canary;
use self::peer::{AUDIO, COMMAND, Chunks, Peer, VIDEO};
use super::common::http;
use super::common::media::{Source, What, assert_run_of, frames, text};
use super::common::process::run;
use super::common::publisher::Publisher;
use super::common::server::{Server, media_playlists};
use super::common::wait_for;

/// Enough for a test's own connections from one address.
const MANY_PER_IP: (&str, &str) = ("RILLCAST__INGEST__RTMP__MAX_PER_IP", "1000");
/// Longest message that is no media.
const MAX_OTHER_BYTES: usize = 64 * 1024;

/// xorshift64*: the same bytes for the same seed on every machine.
struct Random(u64);

impl Random {
    /// Seeded by RILLCAST_TEST_SEED, or by the clock; says so, since a failure can be repeated with it.
    fn seeded() -> Self {
        let given = std::env::var("RILLCAST_TEST_SEED").ok().and_then(|seed| seed.parse().ok());
        let clock = || SystemTime::now().duration_since(UNIX_EPOCH).map_or(1, |since| u64::from(since.subsec_nanos()));
        let seed = given.unwrap_or_else(clock);
        println!("RILLCAST_TEST_SEED={seed}");
        Self(seed | 1)
    }

    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_F491_4F6C_DD1D)
    }

    fn below(&mut self, limit: usize) -> usize {
        usize::try_from(self.next() >> 33).expect("31 bits") % limit
    }

    fn bytes(&mut self, length: usize) -> Vec<u8> {
        (0..length).map(|_| self.next().to_be_bytes()[0]).collect()
    }
}

/// Tells a thread to end, also when the test fails.
struct SetOnDrop<'a>(&'a AtomicBool);

impl Drop for SetOnDrop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// The tags of a prepared FLV file: kind, milliseconds, body.
fn tags(file: &[u8]) -> Vec<(u8, u32, Vec<u8>)> {
    let mut rest = &file[13..];
    let mut tags = Vec::new();
    while rest.len() > 11 {
        let length = u32::from_be_bytes([0, rest[1], rest[2], rest[3]]) as usize;
        tags.push((rest[0], u32::from_be_bytes([rest[7], rest[4], rest[5], rest[6]]), rest[11..11 + length].to_vec()));
        rest = &rest[11 + length + 4..];
    }
    tags
}

/// The value of a metric on the operators' listener.
#[track_caller]
fn metric(server: &Server, name: &str) -> u64 {
    let text = http::get(server.admin(), "/metrics").text();
    let value = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    value.and_then(|value| value.parse().ok()).unwrap_or_else(|| panic!("no metric {name}"))
}

/// The media playlist of the stream's video, as a path.
#[track_caller]
fn video_playlist(server: &Server, name: &str) -> String {
    let multivariant = server.get(&format!("/live/{name}/index.m3u8")).text();
    let uri = media_playlists(&multivariant).into_iter().find(|uri| uri.contains("/v0/")).expect("a video rendition");
    format!("/live/{name}/{uri}")
}

/// The numbers of the segments that a playlist lists.
fn listed(playlist: &str) -> Vec<u64> {
    let number = |line: &str| line.strip_prefix('s')?.strip_suffix(".m4s")?.parse().ok();
    playlist.lines().filter_map(number).collect()
}

#[test]
fn messages_that_end_other_servers_end_their_own_connection() {
    let mut server = Server::start_with(&[MANY_PER_IP]);
    let canary = Canary::start(&mut server);
    let nested = |bytes: usize| [0x0A, 0, 0, 0, 1].into_iter().cycle().take(bytes).collect::<Vec<u8>>();
    let bodies = [
        ("an empty command", Vec::new()),
        ("arrays nested 10,000 deep", nested(50_000)),
        ("arrays nested as deep as a message can hold", nested(MAX_OTHER_BYTES)),
        ("a command longer than any", nested(MAX_OTHER_BYTES + 1)),
        ("an array of 2^32-1 values", [&b"\x02\0\x07connect\x0A"[..], &[0xFF; 4]].concat()),
    ];
    for (what, body) in &bodies {
        for connected in [false, true] {
            let mut peer = Peer::dial(server.rtmp());
            if connected {
                peer.connect("live");
            }
            peer.send(&Chunks::of(3, 0, COMMAND, 0, body).in_a_row());
            peer.assert_closed(what);
        }
        // From a publisher that was let in: its stream ends, no other.
        let mut peer = Peer::dial(server.rtmp());
        assert_eq!(peer.publish("live", "wrong").0, "NetStream.Publish.Start", "before {what}");
        peer.send(&Chunks::of(3, 0, COMMAND, 1, body).in_a_row());
        peer.assert_closed(what);
    }
    canary.assert_unharmed(&mut server);
}

#[test]
fn interleaved_chunk_streams_are_a_stream_like_any_other() {
    let server = Server::start();
    let source = Source { seconds: 60, ..Source::default() };
    let file = source.file();
    let tags = tags(&std::fs::read(&file).expect("the source is there"));
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            let mut peer = Peer::dial(server.rtmp());
            assert_eq!(peer.publish("live", "mixed").0, "NetStream.Publish.Start");
            let start = Instant::now();
            // Each picture is torn by the sound that follows it in the file, chunk by chunk.
            let mut group: Vec<Chunks> = Vec::new();
            for (kind, ms, body) in tags.iter().filter(|(kind, ..)| matches!(*kind, AUDIO | VIDEO)) {
                // One message of a track at a time: of two, the shorter would overtake.
                if *kind == VIDEO || group.len() > 1 {
                    #[expect(clippy::disallowed_methods, reason = "a live publisher keeps to its clock")]
                    thread::sleep(Duration::from_millis(u64::from(*ms)).saturating_sub(start.elapsed()));
                    if !peer.send(&Chunks::interleaved(std::mem::take(&mut group))) || done.load(Ordering::Relaxed) {
                        return;
                    }
                }
                let chunk_stream = if *kind == VIDEO { 6 } else { 4 };
                group.push(Chunks::of(chunk_stream, *ms, *kind, 1, body));
            }
        });
        let _end = SetOnDrop(&done);
        server.wait_live("mixed", 2);
        let address = server.url("/live/mixed/index.m3u8");
        for (what, at_least) in [(What::Pictures, 90), (What::AudioPackets, 140)] {
            let seen = frames(&address, what, Some(4));
            assert_run_of(&seen, &frames(text(&file), what, None), at_least, Duration::from_millis(2));
        }
    });
}

#[test]
fn ten_thousand_wrong_connections_cost_the_stream_nothing() {
    const CONNECTIONS: usize = 10_000;
    const BATCH: usize = 100;
    let mut server = Server::start_with(&[MANY_PER_IP]);
    let canary = Canary::start(&mut server);
    let mut random = Random::seeded();
    let address = server.rtmp();
    for _ in 0..CONNECTIONS / BATCH {
        // All of a batch are open at the same time; what they say is mixed.
        let batch: Vec<_> = (0..BATCH).filter_map(|_| wrong_connection(address, &mut random)).collect();
        assert_eq!(batch.len(), BATCH, "the server accepts connections");
        for stream in batch {
            let _ = stream.shutdown(Shutdown::Write);
        }
    }
    let mut peer = Peer::dial(address);
    assert_eq!(peer.publish("live", "after").0, "NetStream.Publish.Start");
    drop(peer);
    canary.assert_unharmed(&mut server);
}

/// Connects and says something wrong. Writing may fail: the server closes at the first byte that is no RTMP.
fn wrong_connection(address: SocketAddr, random: &mut Random) -> Option<TcpStream> {
    let mut stream = TcpStream::connect_timeout(&address, Duration::from_secs(10)).ok()?;
    stream.set_read_timeout(Some(Duration::from_secs(10))).ok()?;
    let greeting = [&[3][..], &[0; 1_536]].concat();
    let length = random.below(4_000);
    let words = match random.below(6) {
        0 => random.bytes(length),
        1 => greeting[..random.below(greeting.len())].to_vec(),
        2 => b"GET / HTTP/1.1\r\nhost: x\r\n\r\n".to_vec(),
        3 => [&[0x16, 3, 1, 2, 0, 1, 0, 1, 0xFC, 3, 3][..], &random.bytes(500)].concat(),
        // The right handshake, then random chunks: once blindly, once after the answer.
        4 => [&greeting[..], &random.bytes(1_536 + length)].concat(),
        _ => {
            let _ = stream.write_all(&greeting);
            let _ = stream.read_exact(&mut [0; 3_073]);
            random.bytes(1_536 + length)
        }
    };
    let _ = stream.write_all(&words);
    Some(stream)
}

/// Sends `bytes` over a connection of its own and reads what comes until the server closes it.
#[track_caller]
fn exchange(address: SocketAddr, bytes: &[u8]) -> Vec<u8> {
    let mut stream = TcpStream::connect_timeout(&address, Duration::from_secs(10)).expect("the server listens");
    stream.set_read_timeout(Some(Duration::from_secs(15))).expect("a time limit");
    let _ = stream.write_all(bytes);
    let mut heard = Vec::new();
    match stream.read_to_end(&mut heard) {
        Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => panic!("the server neither answers nor closes"),
        _ => heard,
    }
}

/// The status codes of all answers in `bytes`.
fn statuses(bytes: &[u8]) -> Vec<u16> {
    let text = String::from_utf8_lossy(bytes);
    text.match_indices("HTTP/1.1 ")
        .filter_map(|(at, head)| text.get(at + head.len()..)?.get(..3)?.parse().ok())
        .collect()
}

#[test]
fn wrong_http_is_refused_in_words_or_closed() {
    let overrides = [MANY_PER_IP, ("RILLCAST__EDGE__HEADER_TIMEOUT", "1s")];
    let mut server = Server::start_with(&overrides);
    let canary = Canary::start(&mut server);
    let http = server.http();
    let segment = {
        let playlist = video_playlist(&server, "canary");
        let last = *listed(&server.get(&playlist).text()).last().expect("a segment");
        playlist.replace("index.m3u8", &format!("s{last}.m4s"))
    };
    let get = |path: &str, header: &str| {
        format!("GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n{header}\r\n").into_bytes()
    };
    let long = "a".repeat(70_000);
    let many = "x: a\r\n".repeat(1_000);
    let ranges = format!("range: bytes={}\r\n", ["0-"; 300].join(","));
    for (request, expected) in [
        (get(&format!("/{long}"), ""), [414, 431]),
        (get("/", &format!("x: {long}\r\n")), [431, 400]),
        (get("/", &many), [431, 400]),
        (get("/../etc/passwd", ""), [400, 404]),
        (get("/assets/../../etc/passwd", ""), [400, 404]),
        (get("/assets/%2e%2e/%2e%2e/etc/passwd", ""), [400, 404]),
        (get("/assets/..%2f..%2fetc%2fpasswd", ""), [400, 404]),
        (get("/assets//etc/passwd", ""), [400, 404]),
        (get("/assets\\..\\passwd", ""), [400, 404]),
        (get("/%c0%ae%c0%ae/passwd", ""), [400, 404]),
        (get("/api/v1/streams/live/%2e%2e", ""), [400, 404]),
        (get(&segment, "range: bytes=99999999999-\r\n"), [416, 416]),
        (get(&segment, "range: bytes=99999999999999999999-\r\n"), [416, 200]),
        (get(&segment, "range: bytes=9-1\r\n"), [200, 416]),
        (get(&segment, "range: bytes=a-b\r\n"), [200, 416]),
        (get(&segment, &ranges), [200, 416]),
        (b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 4\r\ncontent-length: 5\r\n\r\nabcde".to_vec(), [400, 400]),
        (b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: +5\r\n\r\nabcde".to_vec(), [400, 400]),
        (b"GET / HTTP/1.1\r\nhost: x\r\n folded\r\n\r\n".to_vec(), [400, 400]),
        (b"\x03\0\0\0\0 no HTTP at all\r\n\r\n".to_vec(), [400, 400]),
    ] {
        let said = statuses(&exchange(http, &request));
        let shown = String::from_utf8_lossy(&request[..request.len().min(80)]).into_owned();
        assert!(said.len() == 1 && expected.contains(&said[0]), "{shown:?}: {said:?}");
    }
    // Two lengths for one body: at most one request may be seen in it.
    let smuggled =
        b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 4\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\nGET /time HTTP/1.1\r\nhost: x\r\n\r\n";
    assert!(!statuses(&exchange(http, smuggled)).contains(&200), "a request was smuggled in a body");
    // A good request, then nonsense on the same connection.
    let said = statuses(&exchange(http, b"GET /time HTTP/1.1\r\nhost: x\r\n\r\n\0\x01\xFF nonsense\r\n\r\n"));
    assert_eq!(said, [200, 400]);
    // Heads that never end, in many connections at the same time: all are closed soon after edge.header_timeout.
    let slow: Vec<_> = (0..50)
        .map(|_| {
            let mut stream = TcpStream::connect(http).expect("the server listens");
            stream.set_read_timeout(Some(Duration::from_secs(15))).expect("a time limit");
            let _ = stream.write_all(b"GET / HTTP/1.1\r\nx: ");
            stream
        })
        .collect();
    for mut stream in slow {
        let mut heard = Vec::new();
        let ended = stream.read_to_end(&mut heard);
        assert!(ended.as_ref().err().is_none_or(|e| e.kind() != std::io::ErrorKind::WouldBlock), "a slow head is held");
    }
    let mut random = Random::seeded();
    for _ in 0..300 {
        let length = 1 + random.below(2_000);
        let nonsense = random.bytes(length);
        let said = statuses(&exchange(http, &nonsense));
        assert!(said.iter().all(|status| (400..500).contains(status)), "{said:?} to {nonsense:?}");
    }
    canary.assert_unharmed(&mut server);
}

#[test]
fn viewers_that_do_not_read_are_disconnected() {
    const READERS: u64 = 20;
    let mut server = Server::start_with(&[("RILLCAST__EDGE__WRITE_TIMEOUT", "1s")]);
    let canary = Canary::start(&mut server);
    let playlist = video_playlist(&server, "canary");
    let last = *listed(&server.get(&playlist).text()).last().expect("a segment");
    let segment = playlist.replace("index.m3u8", &format!("s{last}.m4s"));
    // Far more than the buffers of two kernels hold.
    let wanted = format!("GET {segment} HTTP/1.1\r\nhost: x\r\n\r\n").repeat(300);
    let readers: Vec<_> = (0..READERS)
        .map(|_| {
            let mut stream = TcpStream::connect(server.http()).expect("the server listens");
            stream.set_write_timeout(Some(Duration::from_secs(10))).expect("a time limit");
            stream.write_all(wanted.as_bytes()).expect("the server reads a few requests ahead");
            stream
        })
        .collect();
    wait_for("the slow readers to be disconnected", Duration::from_secs(20), || {
        (metric(&server, "rillcast_http_limit_hits_total{limit=\"write_timeout\"}") == READERS).then_some(())
    });
    drop(readers);
    canary.assert_unharmed(&mut server);
}

#[test]
fn death_of_a_publisher_releases_whoever_waits() {
    const VIEWERS: u64 = 50;
    // Part of this is the kernel, which tells the server that the publisher's socket is gone; the rest is slow machines.
    const AT_ONCE: Duration = Duration::from_secs(2);
    let server = Server::start();
    let publisher = Publisher::ffmpeg(&server.publish_url("show"), &Source::default());
    server.wait_live("show", 2);
    let playlist = video_playlist(&server, "show");
    let last = *listed(&server.get(&playlist).text()).last().expect("a segment");
    let (address, query) = (server.http(), format!("{playlist}?_HLS_msn={}", last + 2));
    let viewers: Vec<_> = (0..VIEWERS)
        .map(|_| {
            let query = query.clone();
            thread::spawn(move || (http::get(address, &query), Instant::now()))
        })
        .collect();
    wait_for("all viewers to wait", Duration::from_secs(10), || {
        (metric(&server, "rillcast_http_waiting") == VIEWERS).then_some(())
    });
    let killed = Instant::now();
    publisher.cut();
    for viewer in viewers {
        let (response, at) = viewer.join().expect("the viewer does not panic");
        assert_eq!(response.status, 200);
        assert!(response.text().contains("#EXT-X-ENDLIST"), "released without an end:\n{}", response.text());
        let after = at.saturating_duration_since(killed);
        assert!(after < AT_ONCE, "released only after {after:?}");
    }
    let _again = Publisher::ffmpeg(&server.publish_url("show"), &Source::default());
    wait_for("the name to be free at once", Duration::from_secs(10), || {
        server.stream("show").filter(|stream| stream["state"] == "live")
    });
}

#[test]
fn refusals_carry_a_code_and_words() {
    let mut server = Server::start();
    let canary = Canary::start(&mut server);
    let made = run(
        "rillcast key add",
        Command::new(env!("CARGO_BIN_EXE_rillcast"))
            .args(["key", "add", "live/locked"])
            .current_dir(server.data())
            .env("RILLCAST__DATA_DIR", server.data().join("data")),
        Duration::from_secs(20),
    );
    let paste = made.split_whitespace().find(|word| word.starts_with("locked?key=rk_")).expect("a key").to_owned();
    let long = "a".repeat(129);
    for (app, key, code, words) in [
        ("live", "canary", "BadName", "being published already"),
        ("live", "", "BadName", "the stream name is empty"),
        ("live", "../x", "BadName", "may hold only letters"),
        ("live", "..", "BadName", "may hold only letters"),
        ("live", "a b", "BadName", "may hold only letters"),
        ("live", "a\nb", "BadName", "may hold only letters"),
        ("live", "a%00b", "BadName", "may hold only letters"),
        ("live", "$(id)", "BadName", "may hold only letters"),
        ("live", "\u{202E}evil", "BadName", "may hold only letters"),
        ("live", &long, "BadName", "has 129 bytes"),
        ("api", "x", "BadName", "reserved"),
        ("", "x", "BadName", "the application name is empty"),
        ("live", "locked", "Unauthorized", "needs a key"),
        ("live", "locked?key=", "Unauthorized", "needs a key"),
        ("live", "locked?key=rk_wrong", "Unauthorized", "not one of live/locked"),
        ("live", "locked?token=a.b.c", "Unauthorized", "not one that this server takes"),
        ("live", &paste, "Start", "publishing"),
    ] {
        let (said, description) = Peer::dial(server.rtmp()).publish(app, key);
        assert_eq!(said, format!("NetStream.Publish.{code}"), "{app}/{key}: {description}");
        assert!(description.contains(words), "{app}/{key}: {description}");
        assert!(!description.contains("rk_wrong"), "the answer repeats a key");
    }
    assert!(!server.process().log().contains("rk_wrong"), "the log holds a key");
    // Media first, then manners: no message before `publish` makes a stream.
    let mut peer = Peer::dial(server.rtmp());
    peer.connect("live");
    peer.send(&Chunks::of(6, 0, VIDEO, 1, &[0x17, 0, 0, 0, 0, 1]).in_a_row());
    peer.send(&Chunks::of(4, 0, AUDIO, 1, &[]).in_a_row());
    assert_eq!(peer.publish("live", "manners").0, "NetStream.Publish.Start");
    canary.assert_unharmed(&mut server);
}

#[test]
fn numbers_never_go_back_after_a_crash() {
    let mut server = Server::start();
    let mut highest = None;
    let mut epochs = Vec::new();
    for life in 0..3 {
        let _publisher = Publisher::ffmpeg(&server.publish_url("show"), &Source::default());
        server.wait_live("show", 1);
        let playlist = video_playlist(&server, "show");
        let numbers = listed(&server.get(&playlist).text());
        assert!(numbers.first().copied() > highest, "life {life} goes back from {highest:?} to {numbers:?}");
        highest = numbers.last().copied();
        epochs.push(playlist);
        server = server.crash_and_restart();
    }
    epochs.dedup();
    assert_eq!(epochs.len(), 3, "each life has URLs of its own");
}

#[test]
fn a_connection_that_publishes_again_and_again_leaves_short_lines_in_the_log() {
    const LIVES: usize = 30;
    let mut server = Server::start();
    let mut peer = Peer::dial(server.rtmp());
    assert_eq!(peer.publish("live", "n0").0, "NetStream.Publish.Start");
    for life in 1..LIVES {
        peer.again(&format!("n{life}"));
    }
    server.process().wait_for_log(&format!("live/n{}", LIVES - 1), Duration::from_secs(10));
    let log = server.process().log();
    let longest = log.lines().map(str::len).max().unwrap_or(0);
    assert!(longest < 400, "a line of {longest} bytes:\n{log}");
}
