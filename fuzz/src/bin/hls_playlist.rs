//! Media and multivariant playlists of any show are well-formed to readers that are not ours, and say what the window holds.
#![no_main]
use libfuzzer_sys::fuzz_target;
use quick_m3u8::HlsLine;
use rillcast::packager::playlist::hls_media::{Report, render};
use rillcast::packager::playlist::hls_multivariant;
use rillcast::packager::{Segment, Window};
use rillcast_fuzz::Choices;
use rillcast_fuzz::show::{Show, config};

fn read(text: &str) {
    let mut reader = quick_m3u8::Reader::from_str(text, quick_m3u8::config::ParsingOptions::default());
    while let Some(line) = reader.read_line().expect("well-formed") {
        assert!(matches!(line, HlsLine::KnownTag(_) | HlsLine::Uri(_)), "{line:?}");
    }
}

/// What the tags say is what the window holds, to the microsecond.
fn check(window: &Window, text: &str, delta: bool) {
    let scale = window.rendition.init.track.timescale;
    let value = |line: &str, tag: &str| -> Option<f64> {
        let rest = line.strip_prefix(tag)?;
        rest.split(',').next().and_then(|number| number.parse().ok())
    };
    let count = |tag: &str| text.lines().filter(|line| line.starts_with(tag)).count();
    assert_eq!(count("#EXT-X-ENDLIST"), usize::from(window.ended));
    assert_eq!(count("#EXT-X-PRELOAD-HINT:TYPE=PART"), usize::from(!window.ended));
    if !window.ended {
        let newest = format!("{}.mp4\"", window.rendition.init.number);
        let named = text.rsplit("init-").next().is_some_and(|rest| rest.starts_with(&newest));
        assert!(named, "the init of the next part is the one named last");
    }
    assert_eq!(count("#EXT-X-DISCONTINUITY-SEQUENCE:"), 1);
    let durations: Vec<f64> = text.lines().filter_map(|line| value(line, "#EXTINF:")).collect();
    let listed = window.listed_segments();
    let shown = &listed[listed.len() - durations.len()..];
    assert!(delta || shown.len() == listed.len());
    let ticks = |segments: &[std::sync::Arc<Segment>]| -> i64 { segments.iter().map(|segment| segment.duration).sum() };
    let boundary = scale.ticks(window.rendition.config.target_duration * 6);
    assert!(shown.len() == listed.len() || ticks(shown) >= boundary, "more is skipped than may be");
    for (said, segment) in durations.iter().zip(shown) {
        assert!((said - scale.seconds(segment.duration)).abs() <= 1e-6, "EXTINF {said}");
    }
    // From a discontinuity to the next, decode times pass as EXTINF says.
    for run in shown.chunk_by(|_, next| !next.discontinuity) {
        let passed = run[run.len() - 1].start - run[0].start;
        assert_eq!(passed, ticks(&run[..run.len() - 1]));
    }
    let (mut parts, mut mapped, mut dated) = (0.0, false, false);
    for line in text.lines() {
        mapped |= line.starts_with("#EXT-X-MAP:");
        dated |= line.starts_with("#EXT-X-PROGRAM-DATE-TIME:");
        if let Some(part) = value(line, "#EXT-X-PART:DURATION=") {
            assert!(mapped && dated, "what a part needs stands before it");
            assert!(part <= window.rendition.config.part_target.as_secs_f64() + 1e-6);
            parts += part;
        } else if let Some(duration) = value(line, "#EXTINF:") {
            assert!(parts == 0.0 || (parts - duration).abs() < 1e-3, "parts of {parts} s in {duration} s");
            parts = 0.0;
        } else if !line.starts_with('#') {
            assert!(mapped && std::mem::take(&mut dated), "every segment has a map and a date");
        }
    }
}

fuzz_target!(|data: &[u8]| {
    let mut choices = Choices::new(data);
    let config = config(&mut choices);
    let mut show = Show::new(config);
    show.play(&mut choices);
    let reports: Vec<Report> = show
        .windows
        .values()
        .filter_map(|window| window.last_part().map(|(msn, part)| (window.rendition.id, msn, part)))
        .map(|(id, last_msn, last_part)| Report { id, last_msn, last_part })
        .collect();
    for window in show.windows.values() {
        for delta in [false, true] {
            let text = render(window, &reports, delta);
            read(&text);
            let (_, playlist) = m3u8_rs::parse_media_playlist(text.as_bytes()).expect("a playlist");
            assert_eq!(playlist.media_sequence, window.media_sequence());
            let target = window.rendition.config.target_duration.as_secs();
            assert!(playlist.segments.iter().all(|segment| f64::from(segment.duration).round() <= target as f64));
            check(window, &text, delta);
            let listed = text.lines().filter(|line| !line.starts_with('#')).count();
            assert!(listed == window.listed_segments().len() || delta && text.contains("EXT-X-SKIP"));
        }
    }
    if let Some(catalog) = show.catalog.filter(|catalog| !catalog.renditions.is_empty()) {
        let text = hls_multivariant::render(&catalog);
        read(&text);
        assert!(m3u8_rs::parse_master_playlist(text.as_bytes()).is_ok(), "{text}");
    }
});
