//! RELIABILITY rows 105, 107, 108 and 110: credentials that are guessed or forged, and JSON that is none.

use std::io::Write as _;
use std::time::{Duration, Instant};

use super::peer::{Peer, connect_from, until_closed};
use super::rows::Rows;
use super::statuses;
use crate::common::http;

const JSON: (&str, &str) = ("content-type", "application/json");

#[test]
fn credentials_and_json() {
    let mut rows = Rows::start(&[]);
    let (http_address, rtmp) = (rows.server.http(), rows.server.rtmp());

    rows.row("105 tokens that nobody signed", &["rillcast_rtmp_refused_total{reason=\"unauthorized\"}"], |server| {
        // {"alg":"none"} and {"alg":"RS256"}, each with {"action":"watch","stream":"live/*","exp":9999999999}.
        let claims = "eyJhY3Rpb24iOiJ3YXRjaCIsInN0cmVhbSI6ImxpdmUvKiIsImV4cCI6OTk5OTk5OTk5OX0";
        let (none, rs256) = ("eyJhbGciOiJub25lIn0", "eyJhbGciOiJSUzI1NiJ9");
        let (signature, long) = ("A".repeat(43), "A".repeat(1_000));
        for token in [
            format!("{none}.{claims}."),
            format!("{none}.{claims}.{signature}"),
            format!("{rs256}.{claims}.{signature}"),
            format!("{}.{claims}.{signature}", "eyJhbGciOiJIUzI1NiIsImtpZCI6Ii4uLy4uL2V0Yy9wYXNzd2QifQ"),
            "..".to_owned(),
            long,
        ] {
            let answer = server.get(&format!("/t/{token}/live/canary/index.m3u8"));
            assert_eq!(answer.status, 403, "{token}");
            assert!(!answer.text().contains(&token), "the answer repeats it");
            let (code, _) = Peer::dial_from(3, rtmp).publish("live", &format!("x?token={token}"));
            assert!(code == "NetStream.Publish.Unauthorized" || code == "NetStream.Publish.Failed", "{code} {token}");
        }
        let long = format!("GET /t/{}/live/canary/index.m3u8 HTTP/1.1\r\nhost: x\r\n\r\n", "a".repeat(1 << 20));
        let said = statuses(&super::exchange(http_address, long.as_bytes()));
        assert!(said.iter().all(|status| (400..500).contains(status)), "a token of a megabyte: {said:?}");
    });
    rows.row("107 keys that are guessed", &["rillcast_rtmp_refused_total{reason=\"unavailable\"}"], |server| {
        let made = http::send(server.http(), "POST", "/api/v1/keys", &[JSON], r#"{"stream": "live/locked"}"#);
        assert_eq!(made.status, 201);
        let made: serde_json::Value = serde_json::from_str(&made.text()).expect("JSON");
        let paste = made["stream_key"].as_str().expect("a key");
        let mut slowed = false;
        for guess in 0..30 {
            let (_, words) = Peer::dial_from(4, rtmp).publish("live", &format!("locked?key=rk_{guess}"));
            assert!(!words.contains("rk_"), "the answer repeats a key: {words}");
            slowed |= words.contains("too many wrong keys came from this address");
        }
        assert!(slowed, "thirty guesses in a row are listened to");
        let (code, _) = Peer::dial_from(4, rtmp).publish("live", paste);
        assert_eq!(code, "NetStream.Publish.Start", "a right key is good whoever else guesses at its address");
        let (code, _) = Peer::dial_from(4, rtmp).publish("live", "locked?key=rk_again");
        assert_eq!(code, "NetStream.Publish.Failed", "and forgives nobody");
        let (code, _) = Peer::dial_from(5, rtmp).publish("live", "locked?key=rk_other");
        assert_eq!(code, "NetStream.Publish.Unauthorized", "others are heard");
        let (_, words) = Peer::dial_from(5, rtmp).publish("live", "rk_pasted");
        assert!(words.contains("looks like a key"), "{words}");
        // The refusal of a name that looks like a key says how keys are written.
        let log = server.log().replace("rk_…", "");
        assert!(!log.contains("rk_"), "the log holds a key");
    });
    rows.row("107 API keys that are guessed", &[], |server| {
        let made = http::send(server.http(), "POST", "/api/v1/reload", &[("authorization", "Bearer ra_guess")], "");
        assert_eq!(made.status, 200, "without API keys, this machine needs none");
        let made = std::process::Command::new(env!("CARGO_BIN_EXE_rillcast"))
            .args(["key", "add", "--api"])
            .current_dir(server.data())
            .env("RILLCAST__DATA_DIR", server.data().join("data"))
            .output()
            .expect("it runs");
        let made = String::from_utf8_lossy(&made.stdout).into_owned();
        let key = made.split_whitespace().find(|word| word.starts_with("ra_")).expect("a key");
        let ask = |host: u8, key: &str| {
            let mut stream = connect_from([127, 0, 0, host], http_address);
            let head = format!("POST /api/v1/reload HTTP/1.1\r\nhost: x\r\nconnection: close\r\nauthorization: Bearer {key}\r\ncontent-length: 0\r\n\r\n");
            let _ = stream.write_all(head.as_bytes());
            statuses(&until_closed(&mut stream, Duration::from_secs(10)).expect("it answers"))[0]
        };
        let said: Vec<u16> = (0..30).map(|guess| ask(6, &format!("ra_{guess}"))).collect();
        assert!(said.starts_with(&[401]) && said.contains(&429), "{said:?}");
        assert_eq!(ask(6, key), 200, "a right key is good whoever else guesses at its address");
        assert_eq!(ask(6, "ra_again"), 429, "and forgives nobody");
        assert_eq!(ask(7, key), 200);
    });
    rows.row("108 what is not for everybody", &[], |server| {
        for path in ["/metrics", "/debug/pprof/heap", "/admin", "/stat", "/control", "/api/v1/keys", "/api/v1/nonsense"]
        {
            let status = server.get(path).status;
            assert!(matches!(status, 401 | 403 | 404), "{path}: {status}");
        }
        for (method, path) in
            [("POST", "/on_publish_done"), ("DELETE", "/live/canary"), ("PUT", "/live/canary/index.m3u8")]
        {
            let status = http::send(server.http(), method, path, &[], "").status;
            assert!(matches!(status, 404 | 405), "{method} {path}: {status}");
        }
        for path in
            ["/api/v1/streams/live/canary/kick", "/api/v1/streams/live/canary/end", "/api/v1/reload", "/api/v1/tokens"]
        {
            let status = http::send(server.http(), "POST", path, &[JSON], "{}").status;
            assert_eq!(status, 401, "{path}");
        }
        assert_eq!(server.stream("canary").expect("it is there")["state"], "live");
    });
    rows.finish();

    let mut rows = Rows::start(&[]);
    let http_address = rows.server.http();
    rows.row("110 JSON that is none", &[], |server| {
        let before = Rows::footprint(server).resident_kib;
        let deep = "[".repeat(60_000);
        let deep_object = r#"{"a":"#.repeat(10_000);
        for (what, body) in [
            ("depth 60,000", deep.as_str()),
            ("objects 10,000 deep", &deep_object),
            ("a key twice", r#"{"stream": "live/a", "stream": "live/b"}"#),
            ("a number beyond numbers", r#"{"action": "watch", "stream": "live/a", "expires_in": 1e999}"#),
            ("a number below zero", r#"{"action": "watch", "stream": "live/a", "expires_in": -1}"#),
            ("no UTF-8", "{\"stream\": \"\u{FFFD}\"}"),
            ("an unknown field", r#"{"action": "watch", "stream": "live/a", "expires_in": 1, "admin": true}"#),
            ("a list", "[]"),
            ("half of it", r#"{"stream": "li"#),
        ] {
            for path in ["/api/v1/tokens", "/api/v1/keys"] {
                let status = http::send(server.http(), "POST", path, &[], body).status;
                assert!(matches!(status, 400 | 422), "{what} at {path}: {status}");
            }
        }
        let mut stream = connect_from([127, 0, 0, 1], http_address);
        let start = Instant::now();
        let head = "POST /api/v1/tokens HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\ncontent-length: 100000000\r\n\r\n";
        let _ = stream.write_all(head.as_bytes());
        let sent = std::iter::from_fn(|| stream.write_all(&[b' '; 64 * 1024]).ok()).take(1_600).count();
        let heard = until_closed(&mut stream, Duration::from_secs(5)).expect("it is closed");
        let said = statuses(&heard);
        assert!(said.is_empty() || said == [413], "{said:?}");
        assert!(sent < 400, "{sent} times 64 KiB of 100 MB were taken in {:?}", start.elapsed());
        let grown = Rows::footprint(server).resident_kib.saturating_sub(before);
        assert!(grown < 8 * 1024, "it cost {grown} KiB");
    });
    rows.finish();
}
