//! Media and multivariant playlists of any show are well-formed to readers that are not ours, and say what the window holds.
#![no_main]
use libfuzzer_sys::fuzz_target;
use quick_m3u8::HlsLine;
use rillcast::packager::playlist::hls_media::{Report, render};
use rillcast::packager::playlist::hls_multivariant;
use rillcast_fuzz::Choices;
use rillcast_fuzz::show::{Show, config};

fn read(text: &str) {
    let mut reader = quick_m3u8::Reader::from_str(text, quick_m3u8::config::ParsingOptions::default());
    while let Some(line) = reader.read_line().expect("well-formed") {
        assert!(matches!(line, HlsLine::KnownTag(_) | HlsLine::Uri(_)), "{line:?}");
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
