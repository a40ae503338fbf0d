//! RELIABILITY rows 69, 118 and 122: descriptors and disks that are used up.

use std::io::Write as _;
use std::net::{SocketAddr, TcpStream};
use std::process::Command;
use std::time::{Duration, Instant};

use super::peer::{Peer, connect_from, until_closed};
use super::rows::Rows;
use super::statuses;
use crate::common::process::run;
use crate::common::server::{OPEN_FILES, Server};
use crate::common::wait_for;

fn limit(name: &str) -> String {
    format!("rillcast_http_limit_hits_total{{limit=\"{name}\"}}")
}

/// Allows the server so many open files from now on.
#[track_caller]
fn allow_files(server: &Server, count: usize) {
    let mut prlimit = Command::new("prlimit");
    prlimit.args(["--pid", &server.id().to_string(), &format!("--nofile={count}:20000")]);
    run("prlimit", &mut prlimit, Duration::from_secs(10));
}

/// Processor time that the server has used.
fn used(server: &Server) -> Duration {
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", server.id())).expect("the server runs");
    let fields: Vec<u64> =
        stat.rsplit_once(')').expect("a name").1.split_whitespace().skip(1).map(|f| f.parse().unwrap_or(0)).collect();
    // utime and stime, in ticks of 10 ms.
    Duration::from_millis((fields[10] + fields[11]) * 10)
}

fn ask(address: SocketAddr) -> TcpStream {
    let mut stream = connect_from([127, 0, 0, 1], address);
    let _ = stream.write_all(b"GET /time HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n");
    stream
}

#[test]
fn descriptors_that_are_used_up() {
    let mut rows = Rows::start(&[]);
    let (http, rtmp) = (rows.server.http(), rows.server.rtmp());
    let refused = "rillcast_rtmp_refused_total{reason=\"descriptors\"}";
    let quiet = {
        let before = used(&rows.server);
        wait_a(Duration::from_secs(2));
        used(&rows.server) - before
    };
    // The operators' listener has no descriptor either then: metrics are read afterwards.
    rows.row("69 no descriptor left", &[&limit("descriptors")], |server| {
        // The least of some: one that comes and goes with a request would be counted for good.
        let now = || {
            wait_a(Duration::from_millis(50));
            Rows::footprint(server).descriptors
        };
        let open = (0..10).map(|_| now()).min().unwrap_or(0);
        let held: Vec<_> = (0..50).map(|_| connect_from([127, 0, 0, 1], http)).collect();
        wait_for("them to be accepted", Duration::from_secs(5), || {
            (Rows::footprint(server).descriptors >= open + 50).then_some(())
        });
        allow_files(server, open + 50);
        let before = used(server);
        let mut told = 0;
        for _ in 0..20 {
            let heard = until_closed(&mut ask(http), Duration::from_secs(5)).expect("it is answered");
            told += usize::from(statuses(&heard) == [503]);
        }
        assert!(told >= 15, "{told} of 20 are told 503");
        let waiting: Vec<_> = (0..20).map(|_| connect_from([127, 0, 0, 1], rtmp)).collect();
        wait_a(Duration::from_secs(2));
        let spent = used(server) - before;
        println!("    {spent:?} of processor time without descriptors, {quiet:?} in two quiet seconds");
        assert!(spent < quiet + Duration::from_millis(1_000), "it spins: {spent:?}");
        drop((held, waiting));
        allow_files(server, 20_000);
        wait_for("others to be served", Duration::from_secs(5), || {
            (statuses(&until_closed(&mut ask(http), Duration::from_secs(5))?) == [200]).then_some(())
        });
    });
    rows.row("69 the same for publishers", &[refused], |server| {
        let open = Rows::footprint(server).descriptors;
        allow_files(server, open.saturating_sub(4));
        let waiting: Vec<_> = (0..5).map(|_| connect_from([127, 0, 0, 1], rtmp)).collect();
        wait_a(Duration::from_secs(1));
        allow_files(server, 20_000);
        drop(waiting);
        drop(Peer::publishing(rtmp, "after"));
    });
    rows.finish();
}

#[test]
fn viewers_leave_publishers_their_descriptors() {
    let mut rows = Rows::start(&[(OPEN_FILES, "4096")]);
    let (http, rtmp) = (rows.server.http(), rows.server.rtmp());
    rows.row("122 4,096 descriptors", &[&limit("connections")], |server| {
        assert!(server.log().contains("the limit of open files leaves room for fewer viewers"), "{}", server.log());
        let held: Vec<_> = (0..4_500).map(|_| connect_from([127, 0, 0, 1], http)).collect();
        wait_for("viewers to be turned away", Duration::from_secs(5), || {
            (statuses(&until_closed(&mut ask(http), Duration::from_secs(5))?) == [503]).then_some(())
        });
        let peers: Vec<_> = (0..50).map(|number| Peer::publishing(rtmp, &format!("n{number}"))).collect();
        assert!(Rows::footprint(server).descriptors < 4_000, "some are left");
        drop((peers, held));
    });
    rows.finish();
}

#[test]
fn a_disk_that_takes_nothing() {
    let mut rows = Rows::start(&[]);
    let rtmp = rows.server.rtmp();
    rows.row(
        "118 sequence numbers cannot be stored",
        &["rillcast_rtmp_refused_total{reason=\"unavailable\"}"],
        |server| {
            // Whoever runs tests as root may write anywhere, and a full disk needs one of its own: a file where a folder should be fails alike.
            let folder = server.data().join("data/sequences/other");
            std::fs::write(&folder, "in the way").expect("the folder is there");
            let publish = |name: &str| Peer::dial(rtmp).publish("other", name);
            let (code, words) = publish("show");
            assert_eq!(code, "NetStream.Publish.Failed", "{words}");
            assert!(words.contains("cannot read or store sequence numbers") && !words.contains('/'), "{words}");
            assert!(server.log().contains("a stream could not be started"), "the log says why");
            std::fs::remove_file(&folder).expect("it is there");
            assert_eq!(publish("show").0, "NetStream.Publish.Start", "it recovers without a restart");
        },
    );
    rows.row("118 keys cannot be stored or read", &[], |server| {
        let file = server.data().join("data/keys.lock");
        std::fs::create_dir_all(&file).expect("the folder is there");
        let body = r#"{"stream": "other/show"}"#;
        let add = || crate::common::http::send(server.http(), "POST", "/api/v1/keys", &[], body);
        let answer = add();
        assert!(answer.status >= 500, "{}: {}", answer.status, answer.text());
        assert!(!answer.text().contains("/data"), "an answer names no path: {}", answer.text());
        std::fs::remove_dir(&file).expect("it is there");
        assert_eq!(add().status, 201, "it recovers without a restart");
        let keys = server.data().join("data/keys.json");
        let good = std::fs::read(&keys).expect("it is there");
        std::fs::write(&keys, "{").expect("it can be written");
        assert_eq!(Peer::dial(rtmp).publish("other", "show").0, "NetStream.Publish.Failed", "nobody is let in");
        std::fs::write(&keys, good).expect("it can be written");
    });
    rows.finish();
}

/// Lets time pass for the server to do what it should not.
fn wait_a(time: Duration) {
    let since = Instant::now();
    wait_for("time to pass", time * 2, || (since.elapsed() >= time).then_some(()));
}
