//! The unwrapped clock against sums of small steps.
#![no_main]
use libfuzzer_sys::fuzz_target;
use rillcast::media::time::Unwrap32;
use rillcast_fuzz::Choices;

fuzz_target!(|data: &[u8]| {
    let mut choices = Choices::new(data);
    let mut clock = Unwrap32::default();
    let mut value = i64::from(choices.word());
    assert_eq!(clock.unwrap(value as u32), value);
    while !choices.is_empty() {
        let step = i64::from(choices.word().cast_signed());
        value += step;
        assert_eq!(clock.unwrap(value as u32), value);
    }
});
