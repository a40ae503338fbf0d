//! The command object of `connect` and stream keys: whatever they hold, what is kept of them is bounded.
#![no_main]
use libfuzzer_sys::fuzz_target;
use rillcast::ingest::rtmp::amf0::{Value, read_first};
use rillcast::ingest::rtmp::connect::Connect;
use rillcast_fuzz::Choices;

fuzz_target!(|data: &[u8]| {
    let mut choices = Choices::new(data);
    let object = if choices.below(4) == 0 {
        read_first(choices.bytes(255)).unwrap_or(Value::Null)
    } else {
        let mut property = |name: &str| {
            let text = String::from_utf8_lossy(choices.bytes(80)).into_owned();
            (name.to_owned(), Value::String(text))
        };
        Value::Object(vec![property("app"), property("tcUrl"), property("flashVer")])
    };
    let connect = Connect::read(&object);
    assert!(connect.encoder.chars().count() <= 64 && !connect.encoder.chars().any(char::is_control));
    assert!(!connect.app.starts_with('/') && !connect.app.ends_with('/') && !connect.app.contains('?'));
    assert!(connect.four_cc.len() <= 32);
    let key = String::from_utf8_lossy(choices.rest());
    let (name, credential) = connect.stream_key(&key);
    assert!(key.starts_with(name) && !name.contains('?'));
    assert!(["None", "Key(hidden)", "Token(hidden)"].contains(&&*format!("{credential:?}")));
});
