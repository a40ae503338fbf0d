//! The rules that every window must obey, whatever was published: the oracle of the unit tests and of `fuzz/`. Compiled for those alone.

use std::sync::Arc;

use bytes::{Buf, Bytes};
use mp4_atom::{Atom, DecodeMaybe, Header, Moof, ReadFrom};

use super::{Catalog, Part, Period, Segment, Window};

/// Most that the dates of neighbouring segments may overlap, microseconds. Spec: RFC 8216bis §6.2.1.
const MOST_OVERLAP_MICROS: i64 = 1_000_000;
/// Playlists from which segments have been removed list so many still, and so many target durations. Spec: Apple authoring rule 8.11, RFC 8216bis
/// §6.2.2.
const LEAST_SEGMENTS: usize = 6;
const LEAST_TARGETS: u32 = 3;

/// A part's samples as (duration, size, sync), and its `tfdt`, read with a parser that is not ours.
pub fn read_part(part: &Part) -> (u64, Vec<(u32, u32, bool)>) {
    let header = part.header.clone();
    let mut rest = &header[..];
    loop {
        let mut peek = rest;
        let box_header = Header::read_from(&mut peek).expect("a box");
        if box_header.kind == Moof::KIND {
            break;
        }
        rest.advance(box_header.size.expect("a size") + 8);
    }
    let moof = Moof::decode_maybe(&mut rest).expect("a moof").expect("whole");
    let traf = &moof.traf[0];
    let samples = traf.trun[0].samples.iter().map(|entry| {
        let flags = entry.flags.or(traf.tfhd.default_sample_flags).expect("flags");
        let duration = entry.duration.or(traf.tfhd.default_sample_duration).expect("a duration");
        (duration, entry.size.expect("a size"), flags & 0x1_0000 == 0)
    });
    (traf.tfdt.as_ref().expect("tfdt").base_media_decode_time, samples.collect())
}

/// What was offered once stays as it was until it leaves the window.
pub fn assert_history_is_kept(before: &Window, after: &Window) {
    assert!(after.media_sequence() >= before.media_sequence() && after.open_msn >= before.open_msn);
    assert!(after.next_part >= before.next_part && after.version > before.version);
    assert!(after.rendition.id == before.rendition.id && after.rendition.epoch == before.rendition.epoch);
    assert_eq!(after.rendition.config, before.rendition.config, "PART-TARGET and the like never change");
    assert!(
        after.discontinuity_sequence() >= before.discontinuity_sequence(),
        "EXT-X-DISCONTINUITY-SEQUENCE goes back"
    );
    assert!(!before.ended, "nothing follows the end");
    if let Some(same) = after.init(before.rendition.init.number) {
        assert_eq!(same.bytes, before.rendition.init.bytes, "init-{}.mp4 changed", same.number);
    }
    for old in before.segments.iter() {
        if let Some(new) = after.segment(old.msn) {
            assert!(Arc::ptr_eq(old, new), "segment {} changed", old.msn);
        } else {
            assert!(old.msn < after.segments[0].msn);
        }
    }
    if let Some(old) = &before.survivor {
        assert!(after.segment(old.msn).is_none_or(|new| Arc::ptr_eq(old, new)), "segment {} changed", old.msn);
    }
    if let Some(open) = &before.open {
        let new = after.segment(open.msn);
        let (id, now) = (after.rendition.id, (after.media_sequence(), after.open_msn));
        let new = new.unwrap_or_else(|| panic!("{id}: the open segment {} vanishes, there are {now:?}", open.msn));
        assert_eq!((new.date, new.start, new.discontinuity), (open.date, open.start, open.discontinuity));
        // Where a track begins a segment before the others, DASH clients are told of it later.
        let told = |segment: &Segment| (segment.announced, segment.presentation_start);
        assert!(open.announced.is_none() || told(new) == told(open), "what was announced changed");
        assert!(new.parts.len() >= open.parts.len() && Arc::ptr_eq(&new.init, &open.init));
        assert!(open.parts.iter().zip(&new.parts).all(|(a, b)| Arc::ptr_eq(a, b)));
    }
}

/// A playlist that has lost segments is long enough all the same, where memory did not force it to forget them.
pub fn assert_long_enough(window: &Window, ever_first: u64) {
    let listed = window.listed_segments();
    if window.media_sequence() > ever_first {
        assert!(listed.len() >= LEAST_SEGMENTS, "{} segments are listed", listed.len());
        let config = &window.rendition.config;
        let ticks = window.rendition.init.track.timescale.ticks(config.target_duration * LEAST_TARGETS);
        let held: i64 = listed.iter().map(|segment| segment.duration).sum();
        // Segments that are much shorter than they should be leave because there are too many of them.
        let regular = config.listed().as_millis() / config.segment_target.as_millis();
        assert!(held >= ticks || listed.len() as u128 >= 4 * regular, "{held} ticks are listed");
    }
}

/// What DASH clients were told once stays as it was.
pub fn assert_periods_are_kept(before: &Catalog, after: &Catalog) {
    assert!(after.published >= before.published && after.epoch == before.epoch);
    assert!(before.periods.is_empty() || after.start == before.start, "availabilityStartTime changed");
    for pair in after.periods.windows(2) {
        let end = pair[0].start_micros + pair[0].duration_micros.expect("only the last period goes on");
        assert!(pair[1].id == pair[0].id + 1 && pair[1].start_micros >= end, "periods overlap: {pair:?}");
    }
    if let (Some(old), Some(new)) = (before.periods.last(), after.periods.last()) {
        assert!(new.id >= old.id, "the newest period has gone");
    }
    for old in &before.periods {
        let Some(new) = after.periods.iter().find(|new| new.id == old.id) else { continue };
        assert_period_is_kept(old, new);
    }
}

fn assert_period_is_kept(old: &Period, new: &Period) {
    assert_eq!((new.start_micros, new.connected, new.low_latency), (old.start_micros, old.connected, old.low_latency));
    assert!(old.duration_micros.is_none() || new.duration_micros == old.duration_micros, "{old:?} {new:?}");
    assert_eq!(old.renditions.len(), new.renditions.len());
    for (old, new) in old.renditions.iter().zip(&new.renditions) {
        assert_eq!((new.id, new.first_msn, new.offset), (old.id, old.first_msn, old.offset));
        assert_eq!(new.init.bytes, old.init.bytes);
        if let (Some(old), Some(new)) = (old.announced, new.announced) {
            assert!(new.msn > old.msn || new == old, "what was announced changed");
        }
    }
}

/// Every format that is listed is one that CODECS can name. Spec: RFC 8216bis §6.2.4.
pub fn assert_formats_are_named(catalog: &Catalog, window: &Window) {
    let id = window.rendition.id;
    let Some(measured) = catalog.renditions.iter().find(|measured| measured.rendition.id == id) else { return };
    for segment in window.listed_segments().iter().chain(&window.open) {
        let named = measured.inits.contains(&segment.init);
        assert!(named, "the multivariant playlist does not know the format of segment {} of {id}", segment.msn);
    }
}

/// The rules of CONFORMANCE that hold for every window, whatever was published.
pub fn assert_rules(window: &Window) {
    assert_rules_behind(None, window);
}

/// The same; parts of `before`, the window before, are not looked into again.
pub fn assert_rules_behind(before: Option<&Window>, window: &Window) {
    let config = &window.rendition.config;
    let scale = window.rendition.init.track.timescale;
    let target = config.part_target.as_nanos() * u128::from(scale.hz()) / 1_000_000_000;
    let all: Vec<&Arc<Segment>> = window.segments.iter().chain(&window.open).collect();
    for (index, segment) in all.iter().enumerate() {
        let rounded = (scale.seconds(segment.duration) + 0.5).floor() as u64;
        assert!(rounded <= config.target_duration.as_secs(), "EXTINF {}", scale.seconds(segment.duration));
        if segment.is_gap() {
            assert!(segment.duration > 0 && !segment.parts_listed);
        } else {
            assert_eq!(segment.duration, segment.parts.iter().map(|part| part.duration).sum::<i64>());
        }
        let mut decode_time = segment.start;
        let known = before.and_then(|before| before.segment(segment.msn)).map_or(0, |known| known.parts.len());
        for (place, part) in segment.parts.iter().enumerate() {
            assert!(u128::from(part.duration.unsigned_abs()) <= target || !segment.parts_listed, "PART-MAX");
            if place < known {
                decode_time += part.duration;
                continue;
            }
            let (tfdt, samples) = read_part(part);
            assert_eq!(tfdt as i64, decode_time, "decode times run on");
            assert_eq!(part.duration, samples.iter().map(|(duration, ..)| i64::from(*duration)).sum::<i64>());
            let payload: usize = part.payload.iter().map(Bytes::len).sum();
            assert_eq!(payload, samples.iter().map(|(_, size, _)| *size as usize).sum::<usize>());
            assert_eq!(part.independent, samples[0].2);
            decode_time += part.duration;
        }
        if let Some(next) = all.get(index + 1) {
            assert_eq!(next.msn, segment.msn + 1);
            let end = segment.start + segment.duration;
            assert!(next.discontinuity || next.start == end, "segments run on: {end} {}", next.start);
            assert!(next.start >= end, "decode times rise: {end} {}", next.start);
            let dated = segment.date.plus_micros(scale.micros(segment.duration));
            let step = next.date.micros_since(dated).abs();
            assert!(
                next.discontinuity || step < MOST_OVERLAP_MICROS,
                "dates of {} jump by {step} µs before segment {}",
                window.rendition.id,
                next.msn
            );
            let sequence = segment.discontinuity_sequence + u64::from(next.discontinuity);
            assert_eq!(next.discontinuity_sequence, sequence, "a tag counts one discontinuity");
            if let (Some(a), Some(b)) = (segment.parts.last(), next.parts.first()) {
                assert_eq!(b.number, a.number + 1, "parts are numbered across segments");
            }
        }
    }
}

/// Whether every part obeys the 85 % rule, which only constant rates can. Spec: RFC 8216bis §4.4.4.9.
pub fn assert_parts_are_long_enough(window: &Window) {
    let target = window.rendition.init.track.timescale.ticks(window.rendition.config.part_target);
    for segment in window.segments.iter().chain(&window.open) {
        for part in segment.parts.iter().rev().skip(1) {
            assert!(part.duration * 100 >= target * 85, "part {} of {} ticks", part.number, part.duration);
        }
    }
}
