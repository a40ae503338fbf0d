//! What `rml_amf0` writes we read back as it was meant.
#![no_main]
use libfuzzer_sys::fuzz_target;
use rillcast::ingest::rtmp::amf0::{Value, read_all};
use rillcast_fuzz::Choices;
use rml_amf0::{Amf0Value, serialize};

fn text(choices: &mut Choices<'_>) -> String {
    String::from_utf8_lossy(choices.bytes(40)).into_owned()
}

fn pair(choices: &mut Choices<'_>, depth: u32) -> (Amf0Value, Value) {
    let kind = if depth == 0 { choices.below(4) } else { choices.below(6) };
    match kind {
        0 => {
            let number = f64::from_bits(choices.long());
            let number = if number.is_nan() { 1.5 } else { number };
            (Amf0Value::Number(number), Value::Number(number))
        }
        1 => {
            let yes = choices.below(2) == 1;
            (Amf0Value::Boolean(yes), Value::Boolean(yes))
        }
        2 => {
            let text = text(choices);
            (Amf0Value::Utf8String(text.clone()), Value::String(text))
        }
        3 => (Amf0Value::Null, Value::Null),
        4 => {
            let elements: Vec<_> = (0..choices.below(4)).map(|_| pair(choices, depth - 1)).collect();
            let (theirs, ours) = elements.into_iter().unzip();
            (Amf0Value::StrictArray(theirs), Value::Array(ours))
        }
        _ => {
            // One property: the order of several is not kept by the writer's map.
            let name = format!("n{}", text(choices));
            let (theirs, ours) = pair(choices, depth - 1);
            (Amf0Value::Object([(name.clone(), theirs)].into()), Value::Object(vec![(name, ours)]))
        }
    }
}

fuzz_target!(|data: &[u8]| {
    let mut choices = Choices::new(data);
    let (theirs, ours): (Vec<_>, Vec<_>) = (0..choices.below(5)).map(|_| pair(&mut choices, 4)).unzip();
    let written = serialize(&theirs).expect("AMF0 can be written");
    assert_eq!(read_all(&written), Ok(ours));
    for cut in 1..written.len() {
        // Cut short it is fewer values, or an error; never a panic.
        let _ = read_all(&written[..cut]);
    }
});
