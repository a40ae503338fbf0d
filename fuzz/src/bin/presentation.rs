//! The presentation and its segmenters under any order of tracks, access units, formats and delays: the rules of every window hold.
#![no_main]
use libfuzzer_sys::fuzz_target;
use rillcast_fuzz::Choices;
use rillcast_fuzz::show::{Show, config};

fuzz_target!(|data: &[u8]| {
    let mut choices = Choices::new(data);
    let config = config(&mut choices);
    Show::new(config).play(&mut choices);
});
