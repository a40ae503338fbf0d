//! The MPD of any show is read by dash-mpd-core, and its periods follow each other.
#![no_main]
use libfuzzer_sys::fuzz_target;
use rillcast::packager::playlist::dash::render;
use rillcast_fuzz::Choices;
use rillcast_fuzz::show::{Show, config};

fuzz_target!(|data: &[u8]| {
    let mut choices = Choices::new(data);
    let config = config(&mut choices);
    let mut show = Show::new(config);
    show.play(&mut choices);
    let Some(catalog) = show.catalog else { return };
    let windows: Vec<_> = show.windows.into_values().collect();
    let text = render(&catalog, &windows);
    if text.is_empty() {
        return;
    }
    let mpd = dash_mpd_core::parse(&text).expect("an MPD");
    assert!(!mpd.periods.is_empty());
    assert!(mpd.periods.windows(2).all(|pair| pair[0].start <= pair[1].start), "{text}");
});
