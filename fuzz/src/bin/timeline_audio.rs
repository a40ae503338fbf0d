//! Sound of a steady encoder, its stamps rounded and jittered: nothing is dropped, and counted time stays near the encoder's.
#![no_main]
use libfuzzer_sys::fuzz_target;
use rillcast::ingest::timeline::Timeline;
use rillcast_fuzz::Choices;

fuzz_target!(|data: &[u8]| {
    let mut choices = Choices::new(data);
    let rate = [44_100, 48_000, 32_000, 22_050][choices.below(4)];
    let samples = [1_024, 1_152, 960, 2_048][choices.below(4)];
    let mut timeline = Timeline::default();
    timeline.set_audio(rate, samples);
    let (start, most) = (choices.word(), 1 + choices.below(20) as i64);
    let mut frame = 0_i64;
    while !choices.is_empty() && frame < 4_000 {
        let exact = frame * i64::from(samples) * 1_000_000 / i64::from(rate);
        let jitter = i64::from(choices.byte()) % most;
        let stamp = start.wrapping_add((exact / 1_000 + jitter) as u32);
        let at = timeline.audio(stamp).expect("a frame of a steady encoder is not dropped");
        let off = at * 1_000_000 / i64::from(rate) - exact;
        assert!(off.abs() <= 40_000, "frame {frame} stands {off} µs off");
        frame += 1;
    }
});
