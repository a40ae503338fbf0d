//! Peers that break rules, dawdle or flood.

use super::*;

#[test]
fn a_12_byte_empty_command_before_connect_is_a_plain_error() {
    // The input on which rml_rtmp 0.8.0 panics.
    let mut raw = Raw::new();
    let result = raw.send(&[3, 0, 0, 0, 0, 0, 0, 20, 0, 0, 0, 0]);
    assert_eq!(result, Err(Error::Message(message::Error::NoName)));
}

#[test]
fn a_deeply_nested_command_is_a_plain_error() {
    // The input on which rml_rtmp 0.8.0 aborts the process.
    let mut raw = Raw::new();
    let result = raw.send(&message(3, 0, 20, &[10, 0, 0, 0, 1].repeat(10_000)));
    assert_eq!(result, Err(Error::Message(message::Error::Amf0(crate::ingest::rtmp::amf0::Error::TooDeep))));
}

#[test]
fn deadlines_hold_against_slow_peers() {
    let now = Instant::now();
    let mut session = Session::new(now, peer());
    session.receive(now, &mut BytesMut::from(&[3][..])).unwrap();
    assert_eq!(session.poll_timeout(), Some(now + HANDSHAKE_DEADLINE));
    assert_eq!(session.handle_timeout(now + HANDSHAKE_DEADLINE), Err(Error::Timeout("handshake")));
    // Neither connect nor a byte now and then prolongs the time for publish.
    let mut raw = Raw::new();
    let before = raw.session.poll_timeout();
    raw.now += Duration::from_secs(3);
    let object = Amf0Value::Object([("app".to_owned(), text("live"))].into());
    raw.send(&command(vec![text("connect"), Amf0Value::Number(1.0), object])).unwrap();
    assert_eq!(raw.session.poll_timeout(), before);
    assert_eq!(raw.session.handle_timeout(raw.now), Ok(()));
    let mut raw = Raw::configured();
    raw.now += Duration::from_secs(20);
    raw.send(&message(4, 0, 8, &aac_frame(10))).unwrap();
    assert_eq!(raw.session.poll_timeout(), Some(raw.now + IDLE_DEADLINE));
}

#[test]
fn unknown_commands_are_limited_in_rate() {
    let mut raw = Raw::connected();
    let unknown = command(vec![text("x"), Amf0Value::Number(0.0)]);
    let result = (0..300).try_for_each(|_| raw.send(&unknown));
    assert_eq!(result, Err(Error::TooManyCommands(rate::MAX_COMMANDS)));
    let mut slow = Raw::connected();
    for _ in 0..300 {
        slow.now += Duration::from_millis(100);
        slow.send(&unknown).unwrap();
    }
}

#[test]
fn what_is_asked_but_not_read_ends_the_connection() {
    let mut raw = Raw::connected();
    let result = (0..2_000).try_for_each(|_| {
        raw.now += Duration::from_millis(100);
        raw.send(&command(vec![text("FCPublish"), Amf0Value::Number(1.0), Amf0Value::Null, text(&"x".repeat(200))]))
    });
    assert_eq!(result, Err(Error::Reply(reply::Error::NotRead)));
}
