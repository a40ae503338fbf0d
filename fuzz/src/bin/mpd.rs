//! The MPDs of any show are read by dash-mpd-core, their periods follow each other, and what they said once stays as it was.
#![no_main]
use std::collections::BTreeMap;
use std::sync::Arc;

use libfuzzer_sys::fuzz_target;
use rillcast::packager::playlist::dash::render;
use rillcast_fuzz::Choices;
use rillcast_fuzz::show::{Show, config};

/// Most MPDs that are read of one show.
const MOST: usize = 8;

/// What all MPDs of a show have said: of periods their start, of segments when they begin and how long they last.
#[derive(Default)]
struct Said {
    start: Option<String>,
    periods: BTreeMap<String, std::time::Duration>,
    segments: BTreeMap<(String, String, u64), (u64, u64)>,
}

impl Said {
    fn check(&mut self, text: &str) {
        let mpd = dash_mpd_core::parse(text).expect("an MPD");
        assert!(!mpd.periods.is_empty());
        assert!(mpd.periods.windows(2).all(|pair| pair[0].start <= pair[1].start), "{text}");
        let start = format!("{:?}", mpd.availabilityStartTime.expect("availabilityStartTime"));
        assert_eq!(*self.start.get_or_insert_with(|| start.clone()), start);
        for period in mpd.periods {
            let (id, start) = (period.id.expect("an id"), period.start.expect("a start"));
            assert_eq!(*self.periods.entry(id.clone()).or_insert(start), start, "{id}: {text}");
            for representation in period.adaptations.into_iter().flat_map(|set| set.representations) {
                let template = representation.SegmentTemplate.expect("a template");
                let name = representation.id.expect("an id");
                let timeline = template.SegmentTimeline.expect("a timeline");
                let (mut number, mut at) = (template.startNumber.expect("a number"), 0);
                for s in timeline.segments {
                    at = s.t.unwrap_or(at);
                    for _ in 0..=s.r.unwrap_or(0) {
                        let key = (id.clone(), name.clone(), number);
                        let said = *self.segments.entry(key).or_insert((at, s.d));
                        assert_eq!(said, (at, s.d), "{name} {number} in {id} has changed: {text}");
                        (number, at) = (number + 1, at + s.d);
                    }
                }
            }
        }
    }
}

fuzz_target!(|data: &[u8]| {
    let mut choices = Choices::new(data);
    let config = config(&mut choices);
    let mut show = Show::new(config);
    show.play(&mut choices);
    let mut said = Said::default();
    let mut windows = BTreeMap::new();
    let step = show.history.len() / MOST + 1;
    for (index, (catalog, window)) in show.history.iter().enumerate() {
        windows.insert(window.rendition.id, Arc::clone(window));
        let Some(catalog) = catalog.as_ref().filter(|_| index % step == 0 || index + 3 > show.history.len()) else {
            continue;
        };
        // Windows follow their catalog one by one: some of these are older than it.
        let shown: Vec<_> = windows.values().cloned().collect();
        let text = render(catalog, &shown);
        if !text.is_empty() {
            said.check(&text);
        }
    }
});
