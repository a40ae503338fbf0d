//! The timeline with any stamps: times rise, nothing is presented before it is decoded, and what is repaired is counted.
#![no_main]
use libfuzzer_sys::fuzz_target;
use rillcast::ingest::timeline::Timeline;
use rillcast_fuzz::Choices;

fuzz_target!(|data: &[u8]| {
    let mut choices = Choices::new(data);
    let mut timeline = Timeline::default();
    let (mut rate, mut samples) = (48_000, 1_024);
    timeline.set_audio(rate, samples);
    if choices.below(2) == 0 {
        timeline.declare_rate(choices.word() % 300, choices.below(4) as u32);
    }
    let mut clocks = [i64::from(choices.word()), i64::from(choices.word())];
    let (mut video, mut audio) = (-1, -1);
    while !choices.is_empty() {
        let action = choices.below(32);
        let which = action % 2;
        clocks[which] += choices.step_ms();
        let stamp = clocks[which] as u32;
        match action {
            30 => {
                (rate, samples) =
                    ([44_100, 48_000, 8_000, 96_000][choices.below(4)], [1_024, 960, 2_048, 576][choices.below(4)]);
                timeline.set_audio(rate, samples);
                audio = -1;
            }
            31 => timeline.declare_rate(choices.word(), choices.word() % 2_000),
            _ if which == 0 => {
                let (dts, pts) = timeline.picture(stamp, choices.step_ms().clamp(-16_000, 16_000) as i32);
                assert!(dts > video && pts >= dts, "{dts} after {video}, presented at {pts}");
                video = dts;
            }
            _ => {
                if let Some(dts) = timeline.audio(stamp) {
                    assert!(dts > audio, "{dts} after {audio}");
                    audio = dts;
                } else {
                    assert!(!timeline.take_repairs().is_empty(), "what is dropped is counted");
                }
            }
        }
    }
});
