//! Commands in any order with any arguments: the session answers or ends, and never leaves bytes unread.
#![no_main]
use libfuzzer_sys::fuzz_target;
use rillcast_fuzz::Choices;
use rillcast_fuzz::publisher::{Publisher, command, message, text};
use rml_amf0::Amf0Value;

const NAMES: [&str; 13] = [
    "connect",
    "createStream",
    "publish",
    "deleteStream",
    "closeStream",
    "FCPublish",
    "FCUnpublish",
    "releaseStream",
    "_checkbw",
    "getStreamLength",
    "play",
    "_result",
    "",
];

fn value(choices: &mut Choices<'_>) -> Amf0Value {
    match choices.below(6) {
        0 => Amf0Value::Null,
        1 => Amf0Value::Number(f64::from(choices.byte())),
        2 => text(&String::from_utf8_lossy(choices.bytes(200))),
        3 => text(["me", "live", "me?key=rk_1", "a/b", "", "."][choices.below(6)]),
        4 => Amf0Value::Object([("app".to_owned(), text("live"))].into()),
        _ => Amf0Value::StrictArray(vec![Amf0Value::Boolean(true)]),
    }
}

fuzz_target!(|data: &[u8]| {
    let mut choices = Choices::new(data);
    let mut publisher = if choices.below(2) == 0 { Publisher::default() } else { Publisher::connected() };
    while !choices.is_empty() {
        let bytes = if choices.below(8) == 0 {
            message(2, choices.word(), choices.byte() % 24, choices.bytes(200))
        } else {
            let mut values = vec![text(NAMES[choices.below(NAMES.len())])];
            values.push(Amf0Value::Number(f64::from(choices.byte())));
            (0..choices.below(4)).for_each(|_| values.push(value(&mut choices)));
            command(values)
        };
        if !publisher.send(&bytes) {
            return;
        }
    }
});
