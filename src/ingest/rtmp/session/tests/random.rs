//! Any order of anything.

use super::*;

#[derive(Debug, Clone)]
enum Operation {
    Bytes(Vec<u8>),
    Message(u8, u32, Vec<u8>),
    Command(String, String),
    Accept,
    Reject,
    Wait(u16),
}

fn operations() -> impl Strategy<Value = Operation> {
    let names = prop_oneof![
        Just("connect"),
        Just("createStream"),
        Just("publish"),
        Just("deleteStream"),
        Just("FCPublish"),
        Just("play"),
        Just("closeStream")
    ];
    prop_oneof![
        1 => proptest::collection::vec(any::<u8>(), 0..300).prop_map(Operation::Bytes),
        4 => (0_u8..24, any::<u32>(), proptest::collection::vec(any::<u8>(), 0..300)).prop_map(|(kind, time, body)| Operation::Message(kind, time & 0xFF_FFFF, body)),
        4 => (0_u8..9, any::<u32>()).prop_map(|(n, time)| {
            let tag = [avc_config(), picture(true, 9, 90, 1), picture(false, 0, 200, 1), vec![0xAF, 0, ASC[0], ASC[1]], aac_frame(9)];
            let tag = tag[usize::from(n) % 5].clone();
            Operation::Message(if tag[0] == 0xAF { 8 } else { 9 }, time % 100_000, tag)
        }),
        6 => (names, ".{0,12}").prop_map(|(name, argument)| Operation::Command(name.into(), argument)),
        3 => Just(Operation::Accept),
        1 => Just(Operation::Reject),
        1 => any::<u16>().prop_map(Operation::Wait),
    ]
}

proptest! {
    #[test]
    fn no_order_of_operations_panics_and_output_is_monotone(operations in proptest::collection::vec(operations(), 0..60)) {
        let mut raw = Raw::connected();
        let (mut video, mut audio) = (i64::MIN, i64::MIN);
        for operation in operations {
            let result = match operation {
                Operation::Bytes(bytes) => raw.send(&bytes),
                Operation::Message(kind, time, body) => raw.send(&message(5, time, kind, &body)),
                Operation::Command(name, argument) => raw.send(&command(vec![text(&name), Amf0Value::Number(1.0), Amf0Value::Null, text(&argument)])),
                Operation::Accept => { let now = raw.now; raw.session.accept(now).map(|()| (video, audio) = (i64::MIN, i64::MIN)) }
                Operation::Reject => { let now = raw.now; raw.session.reject(now, Refusal::new(RefusalKind::Denied, "no")) }
                Operation::Wait(ms) => { raw.now += Duration::from_millis(ms.into()); raw.session.handle_timeout(raw.now) }
            };
            for event in raw.events() {
                match event {
                    Event::Unpublished => (video, audio) = (i64::MIN, i64::MIN),
                    Event::Unit(Kind::Video, unit) => { prop_assert!(unit.dts > video && unit.pts >= unit.dts); video = unit.dts; }
                    Event::Unit(Kind::Audio, unit) => { prop_assert!(unit.dts > audio); audio = unit.dts; }
                    _ => {}
                }
            }
            raw.sent();
            if result.is_err() { break; }
        }
    }

    #[test]
    fn random_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..4_000), handshaken in any::<bool>()) {
        if handshaken {
            let _ = Raw::new().send(&bytes);
        } else {
            let now = Instant::now();
            let _ = Session::new(now, peer()).receive(now, &mut BytesMut::from(&[&[3], &bytes[..]].concat()[..]));
        }
    }
}
