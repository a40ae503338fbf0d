//! A whole session behind its handshake, which is let in whenever it asks: no panic, and decoding times only rise.
#![no_main]
use std::time::{Duration, Instant};

use bytes::BytesMut;
use libfuzzer_sys::fuzz_target;
use rillcast::ingest::rtmp::{Event, Session};
use rillcast::media::Kind;

fuzz_target!(|data: &[u8]| {
    let mut now = Instant::now();
    let mut session = Session::new(now, ([192, 0, 2, 1], 1).into());
    let mut input = BytesMut::from(&[&[3][..], &[0; 3_072]].concat()[..]);
    session.receive(now, &mut input).expect("a plain handshake is good");
    let (mut video, mut audio) = (i64::MIN, i64::MIN);
    for portion in data.chunks(97) {
        input.extend_from_slice(portion);
        now += Duration::from_millis(5);
        let result = session.receive(now, &mut input);
        while let Some(event) = session.poll_event() {
            match event {
                Event::PublishRequested(_) => {
                    session.accept(now).expect("an answer fits");
                    (video, audio) = (i64::MIN, i64::MIN);
                }
                Event::Unit(kind, unit) => {
                    let last = if kind == Kind::Video { &mut video } else { &mut audio };
                    assert!(unit.dts > *last && unit.pts >= unit.dts);
                    *last = unit.dts;
                }
                _ => {}
            }
        }
        while session.poll_transmit().is_some() {}
        if result.is_err() {
            break;
        }
    }
});
