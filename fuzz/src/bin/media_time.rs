//! Timescales and dates against wide arithmetic.
#![no_main]
use libfuzzer_sys::fuzz_target;
use rillcast::media::{MediaTime, Timescale, WallTime};
use rillcast_fuzz::Choices;

fuzz_target!(|data: &[u8]| {
    let mut choices = Choices::new(data);
    let (Some(from), Some(to)) = (Timescale::new(choices.word()), Timescale::new(choices.word())) else { return };
    let ticks = choices.long().cast_signed();
    let exact = i128::from(ticks) * i128::from(to.hz());
    let rescaled = i128::from(from.rescale(ticks, to)) * i128::from(from.hz());
    let saturated = matches!(from.rescale(ticks, to), i64::MIN | i64::MAX);
    assert!(saturated || (rescaled - exact).abs() * 2 <= i128::from(from.hz()));
    let (a, b) = (MediaTime::new(ticks, from), MediaTime::new(choices.long().cast_signed(), to));
    let wide = (i128::from(a.ticks) * i128::from(to.hz())).cmp(&(i128::from(b.ticks) * i128::from(from.hz())));
    assert_eq!(a.cmp(&b), wide);
    let text = WallTime::from_micros(ticks).rfc3339();
    assert!(text.ends_with('Z'), "{text}");
});
