//! The rules that every window must obey, whatever was published: the oracle of the unit tests and of `fuzz/`. Compiled for those alone.

use std::sync::Arc;

use bytes::{Buf, Bytes};
use mp4_atom::{Atom, DecodeMaybe, Header, Moof, ReadFrom};

use super::{Part, Segment, Window};

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
    for old in before.segments.iter() {
        if let Some(new) = after.segment(old.msn) {
            assert!(Arc::ptr_eq(old, new), "segment {} changed", old.msn);
        } else {
            assert!(old.msn < after.segments[0].msn);
        }
    }
    if let Some(open) = &before.open {
        let new = after.segment(open.msn).expect("an open segment does not vanish");
        assert_eq!((new.date, new.start, new.discontinuity), (open.date, open.start, open.discontinuity));
        assert!(open.parts.iter().zip(&new.parts).all(|(a, b)| Arc::ptr_eq(a, b)));
    }
}

/// The rules of CONFORMANCE that hold for every window, whatever was published.
pub fn assert_rules(window: &Window) {
    let config = &window.rendition.config;
    let scale = window.rendition.init.track.timescale;
    let target = scale.ticks(config.part_target);
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
        for part in &segment.parts {
            let (tfdt, samples) = read_part(part);
            assert_eq!(tfdt as i64, decode_time, "decode times run on");
            assert_eq!(part.duration, samples.iter().map(|(duration, ..)| i64::from(*duration)).sum::<i64>());
            let payload: usize = part.payload.iter().map(Bytes::len).sum();
            assert_eq!(payload, samples.iter().map(|(_, size, _)| *size as usize).sum::<usize>());
            assert_eq!(part.independent, samples[0].2);
            assert!(part.duration <= target || !segment.parts_listed, "PART-MAX");
            decode_time += part.duration;
        }
        if let Some(next) = all.get(index + 1) {
            assert_eq!(next.msn, segment.msn + 1);
            let end = segment.start + segment.duration;
            assert!(next.discontinuity || next.start == end, "segments run on: {end} {}", next.start);
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
