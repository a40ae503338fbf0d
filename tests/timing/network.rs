//! The same behind a bad line, and whether that line is as bad as it says.

use std::net::UdpSocket;
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::common::browser::{Browser, Player};
use crate::common::busy::judge;
use crate::common::link::{Link, Weather};
use crate::common::media::text;
use crate::common::process::Process;
use crate::common::publisher::Publisher;
use crate::common::root;
use crate::common::server::Server;
use crate::{BEHIND_MS, MINUTE, at_most, say};

/// A round trip of 100 ms, and one packet of a hundred lost each way.
const FAR: Weather = Weather { delay: Duration::from_millis(50), loss: 0.01, ..Weather::FINE };
/// What `web/public/assets/pace.js` remembers, and then some to come nearer.
const FORGIVEN_AFTER: Duration = Duration::from_secs(60);

fn count(counts: &Value, pointer: &str) -> f64 {
    counts.pointer(pointer).and_then(Value::as_f64).unwrap_or_else(|| panic!("no {pointer} in {counts}"))
}

#[test]
fn our_page_does_not_stall_behind_a_bad_line() {
    judge("our page behind a bad line", || {
        let mut link = Link::open(FAR, 1);
        let server = Server::start_with(&[("RILLCAST__EDGE__HTTPS", &format!("{}:0", link.near()))]);
        let _publisher = Publisher::clock(&server.publish_url("clock"));
        server.wait_live("clock", 2);
        let mut browser = Browser::open_behind(&link, Player::Page, &server.secure_url("/live/clock"));
        browser.wait_picture(Duration::from_secs(30));
        browser.watch(MINUTE);
        let report = browser.report();
        say("page, 100 ms and 1 % loss", &report);
        let counts = link.counts();
        println!("the line: {counts}");
        report.assert_played();
        assert!(report.0["protocols"]["h2"].as_u64().is_some_and(|count| count > 100), "this is HTTP/2: {report}");
        assert!(
            count(&counts, "/out/lost") > 10.0 && count(&counts, "/back/lost") > 10.0,
            "packets were lost: {counts}"
        );
        at_most("the number of stalls", report.number("/stalls"), 0.0)?;

        link.change(Weather::FINE);
        browser.watch(FORGIVEN_AFTER);
        let report = browser.report();
        at_most("the number of stalls", report.number("/stalls"), 0.0)?;
        at_most("the latency at last", report.number("/last_drawn_ms"), BEHIND_MS)
    });
}

/// Sends numbered datagrams to the far side, which sends them back: when each came back, in order of arrival.
// A plain thread that sends at a steady pace; nothing of it runs on an async runtime.
#[allow(clippy::disallowed_methods)]
fn ping(link: &Link, datagrams: usize, apart: Duration) -> Vec<(usize, Duration)> {
    let mut command: Command = link.command("python3");
    command.arg(text(&root().join("tests/common/link.py"))).args(["--echo", &link.far().to_string()]);
    let mut echo = Process::start("echo", &mut command);
    echo.wait_for_log("port", Duration::from_secs(10));
    let told: Value = serde_json::from_str(&echo.log()).expect("the echo speaks JSON");
    let port = told["port"].as_u64().and_then(|port| u16::try_from(port).ok()).expect("a port");
    let socket = UdpSocket::bind((link.near(), 0)).expect("the near end is ours");
    socket.connect((link.far(), port)).expect("the far end is reachable");
    socket.set_read_timeout(Some(Duration::from_secs(1))).expect("a socket has timeouts");
    let receiver = socket.try_clone().expect("a socket can be cloned");
    let start = Instant::now();
    let receiving = thread::spawn(move || {
        let mut datagram = [0; 16];
        let mut came = Vec::new();
        while let Ok(length) = receiver.recv(&mut datagram) {
            assert_eq!(length, 16, "datagrams come whole");
            let [number, sent] = [0, 8].map(|at| u64::from_be_bytes(datagram[at..at + 8].try_into().expect("8 bytes")));
            came.push((
                usize::try_from(number).expect("a number"),
                start.elapsed().saturating_sub(Duration::from_nanos(sent)),
            ));
        }
        came
    });
    for number in 0..datagrams {
        thread::sleep((apart * u32::try_from(number).expect("few")).saturating_sub(start.elapsed()));
        let sent = u64::try_from(start.elapsed().as_nanos()).expect("a short test");
        let mut datagram = (number as u64).to_be_bytes().to_vec();
        datagram.extend(sent.to_be_bytes());
        socket.send(&datagram).expect("the line takes datagrams");
    }
    receiving.join().expect("the receiver does not panic")
}

#[test]
fn the_line_delays_loses_and_reorders_as_told() {
    const SENT: usize = 2000;
    judge("the line", || {
        let weather = Weather { delay: Duration::from_millis(40), loss: 0.05, reorder: 0.02, ..Weather::FINE };
        let mut link = Link::open(weather, 7);
        let came = ping(&link, SENT, Duration::from_millis(2));
        let counts = link.counts();
        let mut trips: Vec<Duration> = came.iter().map(|(_, trip)| *trip).collect();
        trips.sort_unstable();
        let overtaken = came.windows(2).filter(|pair| pair[1].0 < pair[0].0).count();
        println!(
            "{} of {SENT} came back, {overtaken} overtaken, p50 {:?}, max {:?}: {counts}",
            came.len(),
            trips[trips.len() / 2],
            trips.last()
        );
        assert!(trips[0] >= Duration::from_millis(80), "nothing is faster than the line: {:?}", trips[0]);
        // Four standard deviations around 1 - 0.95².
        let lost = 1.0 - came.len() as f64 / SENT as f64;
        assert!((lost - 0.0975).abs() < 0.027, "{lost} were lost");
        let counted = count(&counts, "/out/lost") + count(&counts, "/back/lost");
        assert_eq!(counted, (SENT - came.len()) as f64, "every packet is accounted for: {counts}");
        assert!((25..120).contains(&overtaken), "{overtaken} were overtaken");
        at_most("the median round trip in ms", trips[trips.len() / 2].as_secs_f64() * 1000.0, 90.0)
    });
}

#[test]
fn the_line_is_as_narrow_as_told() {
    // 100 datagrams of 16 + 28 bytes a second are 35 kbit/s: four in five fit through 28.
    let weather = Weather { rate: Some(28_160), queue: Duration::from_millis(200), ..Weather::FINE };
    let mut link = Link::open(weather, 7);
    let came = ping(&link, 500, Duration::from_millis(10));
    let counts = link.counts();
    let dropped = count(&counts, "/out/dropped");
    assert!((60.0..140.0).contains(&dropped), "{dropped} of 500 were dropped: {counts}");
    assert_eq!(came.len() as f64, 500.0 - dropped, "the way back is free: {counts}");
    let longest = came.iter().map(|(_, trip)| *trip).max().expect("some came");
    assert!(longest >= Duration::from_millis(200), "the queue was full: {longest:?}");
}
