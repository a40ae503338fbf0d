//! RELIABILITY rows 50 to 58: HTTP/2 that costs the server more than the client.

use std::time::{Duration, Instant};

use super::h2::{
    CONTINUATION, Client, DATA, END_HEADERS, END_STREAM, ENHANCE_YOUR_CALM, FLOW_CONTROL_ERROR, HEADERS, PING,
    PRIORITY, PROTOCOL_ERROR, RST_STREAM, SETTINGS, STREAM_CLOSED, WINDOW_UPDATE, field, frame, get, request, text,
};
use super::rows::Rows;
use super::{listed, video_playlist};
use crate::common::server::Server;

const INITIAL_WINDOW_SIZE: u16 = 4;
/// `edge.write_timeout` here, which is 10 s by default, and what looks at intervals and a busy machine add.
const WRITE_TIMEOUT: Duration = Duration::from_secs(2);
const SOON: Duration = Duration::from_secs(6);

fn limit(name: &str) -> String {
    format!("rillcast_http_limit_hits_total{{limit=\"{name}\"}}")
}

/// The path of a segment that is complete.
#[track_caller]
pub fn segment(server: &Server) -> String {
    let playlist = video_playlist(server, "canary");
    let last = *listed(&server.get(&playlist).text()).last().expect("a segment");
    playlist.replace("index.m3u8", &format!("s{last}.m4s"))
}

#[test]
fn http_2_that_costs_more_than_it_should() {
    let mut rows = Rows::start(&[("RILLCAST__EDGE__WRITE_TIMEOUT", "2s")]);
    let address = rows.server.http();
    let (protocol, chatter, write) = (limit("protocol"), limit("chatter"), limit("write_timeout"));

    rows.row("50 rapid reset (CVE-2023-44487)", &[&protocol], |_| {
        let mut client = Client::dial(address, &[]);
        let pairs: Vec<u8> = (0..100_000_u32)
            .flat_map(|n| {
                [request(2 * n + 1, "/live/canary/index.m3u8"), frame(RST_STREAM, 0, 2 * n + 1, &[0, 0, 0, 8])]
            })
            .flatten()
            .collect();
        client.send(&pairs);
        let heard = client.listen(SOON, |heard| heard.goaway.is_some_and(|code| code != 0));
        assert!(heard.closed || heard.goaway == Some(ENHANCE_YOUR_CALM), "{heard:?}");
    });
    rows.row("51 resets that the server is made to send", &[&protocol], |_| {
        let mut client = Client::dial(address, &[]);
        for n in 0..5_000_u32 {
            let stream = 2 * n + 1;
            // An increment of zero is an error of the stream.
            let pair = [request(stream, "/time"), frame(WINDOW_UPDATE, 0, stream, &[0; 4])].concat();
            if !client.send(&pair) {
                break;
            }
        }
        let heard = client.listen(SOON, |_| false);
        assert!(heard.closed, "{} resets and still open", heard.resets.len());
        assert!(heard.resets.len() <= 1_024, "{} resets were sent", heard.resets.len());
    });
    rows.row("52 CONTINUATION without end", &[&protocol], |_| {
        let mut client = Client::dial(address, &[]);
        client.send(&frame(HEADERS, END_STREAM, 1, &get("/")));
        let more = frame(CONTINUATION, 0, 1, &field("x", &"a".repeat(1_000)));
        let sent = client.flood(&more, SOON, 64 << 20);
        assert!(client.listen(SOON, |_| false).closed, "still open after {sent} bytes");
        assert!(sent < 4 << 20, "{sent} bytes were taken");
        let mut client = Client::dial(address, &[]);
        client.send(&frame(HEADERS, END_STREAM, 1, &get("/")));
        let sent = client.flood(&frame(CONTINUATION, 0, 1, &[]).repeat(1_000), SOON, 64 << 20);
        assert!(client.listen(SOON, |_| false).closed, "still open after {sent} bytes of empty frames");
    });
    rows.row("53 a header list that unpacks to 400 MB", &[&protocol], |server| {
        let before = Rows::footprint(server).resident_kib;
        let mut client = Client::dial(address, &[]);
        // 4 kB into the table (index 62 from then on), and a hundred thousand references to it.
        let bomb = [&get("/")[..], &[0x40], &text("x"), &text(&"a".repeat(4_000)), &[0xBE; 12_000]].concat();
        client.send(&frame(HEADERS, END_STREAM, 1, &bomb));
        for _ in 0..6 {
            client.send(&frame(CONTINUATION, 0, 1, &[0xBE; 16_000]));
        }
        client.send(&frame(CONTINUATION, END_HEADERS, 1, &[0xBE]));
        let heard = client.listen(SOON, |heard| !heard.heads.is_empty() || !heard.resets.is_empty());
        assert!(!heard.answered(1, 200), "{heard:?}");
        let refused = heard.closed || !heard.resets.is_empty() || !heard.heads.is_empty() || heard.goaway.is_some();
        assert!(refused, "neither refused nor answered");
        let grown = Rows::footprint(server).resident_kib.saturating_sub(before);
        assert!(grown < 16 * 1024, "it cost {grown} KiB");
    });
    for (what, flood) in [
        ("settings", frame(SETTINGS, 0, 0, &[0, 4, 0, 1, 0, 0])),
        ("pings", frame(PING, 0, 0, &[1; 8])),
        ("answers to pings that nobody sent", frame(PING, 1, 0, &[1; 8])),
        ("priorities", frame(PRIORITY, 0, 3, &[0, 0, 0, 0, 1])),
        ("empty bodies", frame(DATA, 0, 1, &[])),
        ("window updates", frame(WINDOW_UPDATE, 0, 1, &[0, 0, 0, 1])),
    ] {
        rows.row(&format!("54 a flood of {what}"), &[], |server| {
            let lines = server.log().lines().count();
            let mut client = Client::dial(address, &[]);
            // A POST whose body never ends.
            let post =
                [&[0x83, 0x86, 0x04][..], &text("/api/v1/tokens"), &field("content-type", "application/json")].concat();
            client.send(&frame(HEADERS, END_HEADERS, 1, &[&post[..], &[0x01], &text("a")].concat()));
            let start = Instant::now();
            let sent = client.flood(&flood.repeat(500), SOON, usize::MAX);
            assert!(client.listen(SOON, |_| false).closed, "still open after {sent} bytes");
            println!("    {sent} bytes of {what} in {:?}", start.elapsed());
            let lines = server.log().lines().count() - lines;
            assert!(lines < 50, "a peer wrote {lines} lines of the log");
        });
    }
    rows.row("54 a flood is told from use", &[&chatter], |_| {
        let mut client = Client::dial(address, &[]);
        client.flood(&frame(PING, 0, 0, &[1; 8]).repeat(500), SOON, usize::MAX);
        assert!(client.listen(SOON, |_| false).closed);
    });
    rows.row("55 windows of one byte", &[&write], |server| {
        for by_settings in [false, true] {
            let path = segment(server);
            let mut client = Client::dial(address, &[(INITIAL_WINDOW_SIZE, 0)]);
            for n in 0..100 {
                client.send(&request(2 * n + 1, &path));
            }
            let start = Instant::now();
            let mut round = 0_u32;
            while start.elapsed() < 4 * SOON && !client.heard.closed {
                round += 1;
                // A byte more for each of the streams: a hundred frames, or one.
                let more = if by_settings {
                    frame(SETTINGS, 0, 0, &[&[0, 4][..], &round.to_be_bytes()].concat())
                } else {
                    (0..100).flat_map(|n| frame(WINDOW_UPDATE, 0, 2 * n + 1, &[0, 0, 0, 1])).collect()
                };
                client.send(&more);
                client.listen(Duration::from_millis(200), |_| false);
            }
            let (held, taken) = (start.elapsed(), client.heard.body);
            assert!(client.heard.closed, "{taken} bytes in {held:?}, and it is open still");
            assert!(held < WRITE_TIMEOUT * 2 + Duration::from_secs(2), "{taken} bytes held it for {held:?}");
        }
    });
    rows.row("55 who reads slowly, but reads, is served", &[], |server| {
        let path = segment(server);
        let mut client = Client::dial(address, &[(INITIAL_WINDOW_SIZE, 0)]);
        client.send(&request(1, &path));
        let start = Instant::now();
        while start.elapsed() < WRITE_TIMEOUT * 3 {
            client.send(&frame(WINDOW_UPDATE, 0, 1, &[0, 0, 3, 0]));
            client.listen(Duration::from_millis(200), |_| false);
            assert!(!client.heard.closed, "4 KB/s are too slow after {:?}", start.elapsed());
        }
    });
    rows.row("56 windows beyond 2^31", &[&protocol], |_| {
        let most = 0x7FFF_FFFF_u32.to_be_bytes();
        let mut client = Client::dial(address, &[]);
        client.send(&[frame(WINDOW_UPDATE, 0, 0, &most), frame(WINDOW_UPDATE, 0, 0, &most)].concat());
        let heard = client.listen(SOON, |heard| heard.goaway.is_some());
        assert_eq!(heard.goaway, Some(FLOW_CONTROL_ERROR), "{heard:?}");
        let mut client = Client::dial(address, &[(INITIAL_WINDOW_SIZE, 0)]);
        client.send(&[request(1, "/"), frame(WINDOW_UPDATE, 0, 1, &most), frame(WINDOW_UPDATE, 0, 1, &most)].concat());
        let heard = client.listen(SOON, |heard| heard.goaway.is_some() || !heard.resets.is_empty());
        assert!(
            heard.resets.contains(&(1, FLOW_CONTROL_ERROR)) || heard.goaway == Some(FLOW_CONTROL_ERROR),
            "{heard:?}"
        );
        let mut client = Client::dial(address, &[(INITIAL_WINDOW_SIZE, 1 << 31)]);
        let heard = client.listen(SOON, |heard| heard.goaway.is_some());
        // RFC 9113 §6.5.2 names the second; h2 finds it before it knows what the value is for.
        assert!(matches!(heard.goaway, Some(PROTOCOL_ERROR | FLOW_CONTROL_ERROR)), "{heard:?}");
    });
    rows.row("57 stream numbers", &[&protocol], |_| {
        for (what, frames) in [
            ("an even one", request(2, "/time")),
            ("zero", request(0, "/time")),
            ("one that goes back", [request(5, "/time"), request(3, "/time")].concat()),
        ] {
            let mut client = Client::dial(address, &[]);
            client.send(&frames);
            let heard = client.listen(SOON, |heard| heard.goaway.is_some_and(|code| code != 0));
            assert!(matches!(heard.goaway, Some(PROTOCOL_ERROR | STREAM_CLOSED)), "{what}: {heard:?}");
        }
        let mut client = Client::dial(address, &[]);
        client.send(&request(1, "/time"));
        client.listen(SOON, |heard| heard.answered(1, 200) && heard.body > 0);
        client.send(&request(1, "/time"));
        let heard = client.listen(SOON, |heard| heard.goaway.is_some_and(|code| code != 0) || !heard.resets.is_empty());
        assert!(heard.goaway.is_some_and(|code| code != 0) || !heard.resets.is_empty(), "used again: {heard:?}");
        assert_eq!(heard.heads.len(), 1, "used again: {heard:?}");
    });
    rows.row("58 heads that mean two things", &[&protocol], |_| {
        for (what, block) in [
            ("two paths", [get("/time"), [&[0x04][..], &text("/")].concat()].concat()),
            ("no path", vec![0x82, 0x86]),
            ("a line break in a value", [get("/time"), field("x", "a\r\nb: c")].concat()),
            ("a line break in the path", get("/time HTTP/1.1\r\nx: y")),
            ("transfer-encoding", [get("/time"), field("transfer-encoding", "chunked")].concat()),
            ("connection", [get("/time"), field("connection", "close")].concat()),
            ("an upper-case name", [get("/time"), field("X-Name", "a")].concat()),
            ("a pseudo-header behind others", [field("x", "a"), get("/time")].concat()),
            ("an unknown pseudo-header", [get("/time"), field(":what", "a")].concat()),
        ] {
            let mut client = Client::dial(address, &[]);
            client.send(&frame(HEADERS, END_STREAM | END_HEADERS, 1, &block));
            let heard = client.listen(SOON, |heard| {
                !heard.heads.is_empty() || !heard.resets.is_empty() || heard.goaway.is_some_and(|code| code != 0)
            });
            assert!(!heard.answered(1, 200), "{what} is answered: {heard:?}");
            let refused = heard.answered(1, 400)
                || heard.resets.iter().any(|(_, code)| *code == PROTOCOL_ERROR)
                || heard.goaway == Some(PROTOCOL_ERROR);
            assert!(refused, "{what}: {heard:?}");
        }
        // Most cost their own stream, of which h2 tells nobody. Many are a connection's end, and are counted.
        let mut client = Client::dial(address, &[]);
        let block = [get("/time"), field("connection", "close")].concat();
        for n in 0..200 {
            client.send(&frame(HEADERS, END_STREAM | END_HEADERS, 2 * n + 1, &block));
        }
        let heard = client.listen(SOON, |heard| heard.goaway.is_some_and(|code| code != 0));
        assert!(heard.closed || heard.goaway == Some(ENHANCE_YOUR_CALM), "{heard:?}");
    });
    rows.finish();
}
