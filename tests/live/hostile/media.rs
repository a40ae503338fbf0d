//! RELIABILITY rows 12, 24 to 32 and 34 to 36: media that is none.

use std::net::SocketAddr;
use std::time::Duration;

use super::peer::{AUDIO, Peer, VIDEO, until_closed};
use super::rows::Rows;
use super::{tags, video_playlist};
use crate::common::http;
use crate::common::media::Source;
use crate::common::server::Server;
use crate::common::wait_for;

const METADATA: u8 = 18;

/// A real encoder's stream: video configuration, audio configuration, then the rest.
pub struct Sample {
    avc: Vec<u8>,
    aac: Vec<u8>,
    rest: Vec<(u8, u32, Vec<u8>)>,
}

impl Sample {
    pub fn read() -> Self {
        let file = Source { seconds: 60, ..Source::default() }.file();
        let tags = tags(&std::fs::read(file).expect("the source is there"));
        let is_config = |kind: u8, body: &[u8]| match kind {
            VIDEO => body[0] == 0x17 && body[1] == 0,
            AUDIO => body[1] == 0,
            _ => false,
        };
        let config =
            |of| tags.iter().find(|(kind, _, body)| *kind == of && is_config(of, body)).expect("one").2.clone();
        let (avc, aac) = (config(VIDEO), config(AUDIO));
        let media = |kind: u8, body: &[u8]| matches!(kind, AUDIO | VIDEO) && !is_config(kind, body) && body[1] == 1;
        let rest = tags.into_iter().filter(|(kind, _, body)| media(*kind, body)).collect();
        Self { avc, aac, rest }
    }

    /// Sends what lies in the first `until` milliseconds as fast as it goes, `change`d.
    pub fn send(&self, peer: &mut Peer, until: u32, mut change: impl FnMut(u8, u32, &mut Vec<u8>) -> u32) {
        for (kind, ms, body) in self.rest.iter().take_while(|(_, ms, _)| *ms < until) {
            let mut body = body.clone();
            let ms = change(*kind, *ms, &mut body);
            if !peer.send(&message(*kind, ms, &body)) {
                return;
            }
        }
    }

    /// Sends a picture that stands for others, at `ms`; false when the connection is gone.
    pub fn send_picture(&self, peer: &mut Peer, ms: u32) -> bool {
        let (kind, _, body) = self.rest.iter().find(|(_, _, body)| body[0] == 0x27).expect("not all are key frames");
        peer.send(&message(*kind, ms, body))
    }

    pub fn configure(&self, peer: &mut Peer) {
        peer.message(VIDEO, 0, &self.avc);
        peer.message(AUDIO, 0, &self.aac);
    }
}

/// As [`Peer::message`], with a timestamp of 32 bits.
fn message(kind: u8, ms: u32, body: &[u8]) -> Vec<u8> {
    let chunk_stream = if kind == VIDEO { 6 } else { 4 };
    let extended = if ms >= 0xFF_FFFF { ms.to_be_bytes().to_vec() } else { Vec::new() };
    let mut bytes = vec![chunk_stream];
    bytes.extend_from_slice(&ms.min(0xFF_FFFF).to_be_bytes()[1..]);
    bytes.extend_from_slice(&u32::try_from(body.len()).expect("short").to_be_bytes()[1..]);
    bytes.extend_from_slice(&[kind, 1, 0, 0, 0]);
    bytes.extend_from_slice(&extended);
    for (number, piece) in body.chunks(128).enumerate() {
        if number > 0 {
            bytes.push(0xC0 | chunk_stream);
            bytes.extend_from_slice(&extended);
        }
        bytes.extend_from_slice(piece);
    }
    bytes
}

/// The stream's video, once it lists `wanted` segments: how many, and how long they are together.
#[track_caller]
fn listed(server: &Server, name: &str, wanted: usize) -> (usize, f64) {
    wait_for(&format!("{wanted} segments of {name}"), Duration::from_secs(20), || {
        let multivariant = server.get(&format!("/live/{name}/index.m3u8"));
        (multivariant.status == 200).then_some(())?;
        let playlist = server.get(&video_playlist(server, name)).text();
        let durations =
            playlist.lines().filter_map(|line| line.strip_prefix("#EXTINF:")?.split(',').next()?.parse().ok());
        let durations: Vec<f64> = durations.collect();
        (durations.len() >= wanted).then(|| (durations.len(), durations.iter().sum()))
    })
}

#[test]
fn media_that_is_none() {
    let mut rows = Rows::start(&[("RILLCAST__PACKAGER__MAX_BYTES", "16MiB")]);
    let address = rows.server.rtmp();
    let refused = |reason: &str| format!("rillcast_rtmp_refused_total{{reason=\"{reason}\"}}");
    let track = refused("track");
    let repaired = |server: &Server| {
        let text = http::get(server.admin(), "/metrics").text();
        let values = text.lines().filter(|line| line.starts_with("rillcast_ingest_repairs_total{"));
        values.filter_map(|line| line.rsplit(' ').next()?.parse::<u64>().ok()).sum::<u64>()
    };
    let sample = Sample::read();

    rows.row("12 timestamps that wrap and go back", &[], |server| {
        let mut peer = Peer::publishing(address, "wraps");
        sample.configure(&mut peer);
        // 2^32 ms are reached after four seconds; every hundredth stamp lies two seconds back.
        let mut number = 0;
        sample.send(&mut peer, 12_000, |_, ms, _| {
            number += 1;
            let back = if number % 100 == 0 { 2_000 } else { 0 };
            ms.wrapping_sub(4_000).wrapping_sub(back)
        });
        let (count, seconds) = listed(server, "wraps", 3);
        assert!((6.0..16.0).contains(&seconds), "{count} segments of {seconds} s of 12 s sent");
        peer.assert_stops("wrapping timestamps");
    });
    rows.row("24 media before its configuration", &[], |server| {
        let before = repaired(server);
        let mut peer = Peer::publishing(address, "early");
        sample.send(&mut peer, 1_000, |_, ms, _| ms);
        wait_for("them to be dropped", Duration::from_secs(5), || (repaired(server) > before + 40).then_some(()));
        assert_eq!(server.get("/live/early/index.m3u8").status, 404);
        sample.configure(&mut peer);
        sample.send(&mut peer, 8_000, |_, ms, _| ms + 1_000);
        listed(server, "early", 1);
        peer.assert_stops("media before its configuration");
    });
    rows.row("25 configurations of video that cannot be", &[&track], |_| {
        let record = &sample.avc[5..];
        let mut bad: Vec<(&str, Vec<u8>)> = vec![
            ("an empty one", Vec::new()),
            ("no SPS", [&record[..5], &[0xE0, 0]].concat()),
            ("an SPS longer than the record", [&record[..6], &[0xFF, 0xFF], &record[8..]].concat()),
            ("an SPS of ones", [&record[..6], &[0, 60], &[0xFF; 60], &[1, 0, 1, 0x68]].concat()),
            ("level 25.5", [&record[..11], &[255], &record[12..]].concat()),
            ("an SPS of zeros", [&record[..6], &[0, 60, 0x67], &[0; 59], &[1, 0, 1, 0x68]].concat()),
        ];
        for cut in 1..record.len() {
            bad.push(("a record cut short", record[..cut.min(record.len() - 5)].to_vec()));
        }
        let mut peer = Peer::publishing(address, "bad-avc");
        for (what, record) in bad {
            peer.message(VIDEO, 0, &[&[0x17, 0, 0, 0, 0], &record[..]].concat());
            peer.message(VIDEO, 0, &[0x17, 1, 0, 0, 0, 0, 0, 0, 1, 0x65]);
            // Before the next one is sent, so that the failure names its cause.
            assert!(until_closed(peer.stream(), Duration::from_millis(2)).is_none(), "{what} closed the connection");
        }
        peer.assert_stops("configurations that cannot be");
    });
    rows.row("26 another configuration with every picture", &[&refused("formats")], |_| {
        let mut peer = Peer::publishing(address, "changes");
        let mut other = sample.avc.clone();
        // The level.
        other[8] = other[8].wrapping_add(1);
        for number in 0..100 {
            peer.message(VIDEO, number * 33, if number % 2 == 0 { &sample.avc } else { &other });
        }
        peer.assert_closed("a hundred changes of configuration");
    });
    rows.row("27 configurations of sound that cannot be", &[&track], |_| {
        let mut peer = Peer::publishing(address, "bad-aac");
        // Nothing; a rate with the reserved index; explicit rates of 0 and of 16 MHz; an object type that is reserved.
        for asc in
            [&[][..], &[0x12], &[0x17, 0x90], &[0x17, 0x80, 0, 0, 8], &[0x17, 0xFF, 0xFF, 0xFF, 0x90], &[0xFF; 8]]
        {
            peer.message(AUDIO, 0, &[&[0xAF, 0], asc].concat());
            peer.message(AUDIO, 0, &[0xAF, 1, 0x21, 0, 0]);
        }
        peer.assert_stops("configurations of sound");
    });
    rows.row("28 lengths of NAL units that lie", &[], |server| {
        let before = repaired(server);
        let mut peer = Peer::publishing(address, "bad-nal");
        sample.configure(&mut peer);
        for (number, body) in
            [&[0, 0, 0, 0][..], &[0xFF; 8], &[0, 0, 1, 0, 0x65], &[0, 0, 0, 1], &[0], &[]].iter().enumerate()
        {
            let ms = u32::try_from(number).expect("few") * 33;
            peer.message(VIDEO, ms, &[&[0x17, 1, 0, 0, 0], *body].concat());
        }
        sample.send(&mut peer, 8_000, |_, ms, _| ms + 200);
        // What is good is published.
        listed(server, "bad-nal", 1);
        assert!(repaired(server) >= before + 5, "what is not is counted");
        peer.assert_stops("lengths that lie");
    });
    rows.row("29 composition times of hours", &[], |server| {
        let mut peer = Peer::publishing(address, "composition");
        sample.configure(&mut peer);
        let mut number = 0;
        sample.send(&mut peer, 12_000, |kind, ms, body| {
            number += 1;
            if kind == VIDEO && number % 20 == 0 {
                body[2..5].copy_from_slice(if number % 40 == 0 { &[0x7F, 0xFF, 0xFF] } else { &[0x80, 0, 0] });
            }
            ms
        });
        let (_, seconds) = listed(server, "composition", 3);
        assert!(seconds < 40.0, "{seconds} s are listed of 12 s sent");
        peer.assert_stops("composition times");
    });
    rows.row("30 bombs", &[&refused("chunk")], |_| {
        let mut peer = Peer::publishing(address, "metadata-bomb");
        peer.message(METADATA, 0, &vec![2; 8 << 20]);
        peer.assert_closed("8 MB of metadata");
        let mut peer = Peer::publishing(address, "sei-bomb");
        sample.configure(&mut peer);
        peer.message(VIDEO, 0, &[&[0x17, 1, 0, 0, 0, 0, 0x98, 0x96, 0x80, 6], &vec![0xFF; 10_000_000][..]].concat());
        peer.assert_closed("10 MB of SEI");
    });
    rows.row("34 codecs that are not taken", &[&track], |server| {
        let mut peer = Peer::publishing(address, "enhanced");
        for code in [&b"hvc1"[..], b"av01", b"vp09", b"\0\n\xFF\"", b"????"] {
            for body in [&[][..], &[1, 2, 3], &[0xFF; 200]] {
                peer.message(VIDEO, 0, &[&[0x90], code, body].concat());
                peer.message(VIDEO, 33, &[&[0x91], code, body].concat());
            }
        }
        // The sound beside it is taken.
        peer.message(AUDIO, 0, &sample.aac);
        for (_, ms, body) in sample.rest.iter().filter(|(kind, ms, _)| *kind == AUDIO && *ms < 10_000) {
            peer.message(AUDIO, *ms, body);
        }
        wait_for("the sound to be live", Duration::from_secs(10), || {
            (server.get("/live/enhanced/index.m3u8").status == 200).then_some(())
        });
        peer.assert_stops("codecs that are not taken");
    });
    rows.row("35 and 36 multitrack and ModEx", &[&track], |_| {
        let mut peer = Peer::publishing(address, "multitrack");
        for first in [0x96_u8, 0x97] {
            for body in [&[][..], &[0x20], &[0x0F; 300], &[0xFF; 300], &[0; 300]] {
                peer.message(VIDEO, 0, &[&[first], body].concat());
                peer.message(AUDIO, 0, &[&[first & 0x0F | 0x90], body].concat());
            }
        }
        // Tracks that repeat one id, and a chain of modifiers that never ends.
        let tracks: Vec<u8> = (0..255).flat_map(|_| [7, 0, 0, 0]).collect();
        peer.message(VIDEO, 0, &[&[0x96, 0x10], &b"avc1"[..], &tracks].concat());
        peer.message(VIDEO, 0, &[0x97, 0xFF, 0xFF, 0xFF].repeat(4_000));
        peer.assert_stops("multitrack");
    });
    // What `packager.max_bytes` allows is kept for a minute after the end of each of the two streams that come near it.
    rows.allow_kib(2 * 16 * 1024);
    rows.row("32 a publisher that is far too fast", &[], |server| fast_publisher(server, address, &sample));
    rows.finish();
}

/// OvenMediaEngine #161 took 60 GB in 20 s: a fast publisher and viewers that do not read.
fn fast_publisher(server: &Server, address: SocketAddr, sample: &Sample) {
    use std::io::Write as _;
    let before = Rows::footprint(server).resident_kib;
    let mut peer = Peer::publishing(address, "fast");
    sample.configure(&mut peer);
    sample.send(&mut peer, 8_000, |_, ms, _| ms);
    listed(server, "fast", 1);
    let playlist = video_playlist(server, "fast");
    let stalled: Vec<_> = (0..20)
        .map(|_| {
            let mut viewer = std::net::TcpStream::connect(server.http()).expect("the server listens");
            let number = super::listed(&server.get(&playlist).text()).last().copied().unwrap_or(0);
            let segment = playlist.replace("index.m3u8", &format!("s{number}.m4s"));
            let wanted = format!("GET {segment} HTTP/1.1\r\nhost: x\r\n\r\n");
            let _ = viewer.write_all(wanted.repeat(100).as_bytes());
            viewer
        })
        .collect();
    let mut grown = 0;
    for round in 1..8 {
        // A minute each time, every picture with 40 kB more: some 100 MB in all.
        sample.send(&mut peer, 60_000, |kind, ms, body| {
            if kind == VIDEO && ms % 7 == 0 {
                body.extend_from_slice(&40_000_u32.to_be_bytes());
                body.push(0x0C);
                body.resize(body.len() + 39_999, 0xFF);
            }
            ms + round * 60_000
        });
        grown = grown.max(Rows::footprint(server).resident_kib.saturating_sub(before));
    }
    println!("a publisher that is far too fast costs {grown} KiB");
    // packager.max_bytes, what is gathering, and what the viewers hold.
    assert!(grown < 80 * 1024, "{grown} KiB for a stream that may keep 16 MiB");
    drop(stalled);
}
