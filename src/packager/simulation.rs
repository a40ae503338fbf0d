//! Simulated publishers for the tests of this module: known media in, windows out, and the rules that every window must obey.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::{Buf, Bytes, BytesMut};
use mp4_atom::{Atom, DecodeMaybe, Header, Moof, ReadFrom};

use super::presentation::{Changes, Presentation, Sequence};
use super::{Catalog, Config, Part, Segment, Window};
use crate::media::codec::{aac, h264};
use crate::media::{AccessUnit, Epoch, Format, Kind, RenditionId, Slab, Timescale, Track, WallTime};

/// Where every simulation's wall clock starts, Unix microseconds.
pub(crate) const START: i64 = 1_763_800_000_000_000;

/// A 1280 × 720 track. The record is that of a real encoder (x264, high profile, level 3.1).
pub(crate) fn video_track() -> Track {
    let record: &[u8] = &[
        0x01, 0x64, 0x00, 0x1f, 0xff, 0xe1, 0x00, 0x1a, 0x67, 0x64, 0x00, 0x1f, 0xac, 0xd9, 0x40, 0x50, 0x05, 0xbb,
        0x01, 0x10, 0x00, 0x00, 0x03, 0x00, 0x10, 0x00, 0x00, 0x03, 0x03, 0xc0, 0xf1, 0x83, 0x19, 0x60, 0x01, 0x00,
        0x06, 0x68, 0xeb, 0xe3, 0xcb, 0x22, 0xc0, 0xfd, 0xf8, 0xf8, 0x00,
    ];
    let config = h264::Config {
        record: Bytes::from_static(record),
        profile: 0x64,
        compatibility: 0,
        level: 0x1f,
        nal_length_bytes: 4,
        width: 1280,
        height: 720,
        frame_rate: None,
    };
    Track { format: Format::H264(config), timescale: Timescale::NINETY_KHZ, language: "und".into() }
}

/// Stereo AAC-LC at 48 kHz.
pub(crate) fn audio_track() -> Track {
    let config = aac::Config {
        record: Bytes::from_static(&[0x11, 0x90]),
        object_type: 2,
        sample_rate: 48_000,
        channels: 2,
        frame_samples: 1024,
    };
    let timescale = Timescale::new(48_000).expect("not zero");
    Track { format: Format::Aac(config), timescale, language: "und".into() }
}

/// A presentation, what its viewers have seen last, and every rule that was ever broken.
pub(crate) struct Simulation {
    pub(crate) presentation: Presentation,
    pub(crate) windows: BTreeMap<RenditionId, Arc<Window>>,
    pub(crate) catalog: Option<Arc<Catalog>>,
    slabs: BTreeMap<RenditionId, Slab>,
    counter: u8,
    /// Pictures carry closed captions from this second on.
    pub(crate) captions_from: Option<f64>,
    /// Where in memory each access unit was when it was published: address and length.
    pub(crate) published: Vec<(usize, usize)>,
}

impl Simulation {
    pub(crate) fn new(config: Config) -> Self {
        let epoch = Epoch::starting(WallTime::from_micros(START));
        let first = Sequence { media: 40, discontinuity: 3 };
        Self {
            presentation: Presentation::new(Arc::new(config), epoch, first),
            windows: BTreeMap::new(),
            catalog: None,
            slabs: BTreeMap::new(),
            counter: 0,
            captions_from: None,
            published: Vec::new(),
        }
    }

    pub(crate) fn add(&mut self, track: Track) -> RenditionId {
        self.presentation.add_track(track).expect("a good track")
    }

    /// One access unit of `bytes` bytes through the track's slab, arriving when it is due.
    pub(crate) fn push(&mut self, id: RenditionId, dts: i64, pts: i64, sync: bool, bytes: usize, scale: Timescale) {
        let slab = self.slabs.entry(id).or_default();
        slab.begin(bytes);
        self.counter = self.counter.wrapping_add(1);
        slab.extend(&vec![self.counter; bytes]);
        let data = slab.take();
        self.published.push((data.as_ptr() as usize, data.len()));
        let captions = id.kind == Kind::Video && self.captions_from.is_some_and(|from| scale.seconds(dts) >= from);
        let unit = AccessUnit { dts, pts, sync, captions, data };
        let now = WallTime::from_micros(START + scale.micros(dts));
        self.presentation.push(id, unit, now).expect("good media");
        self.look();
    }

    pub(crate) fn finish(&mut self) {
        self.presentation.finish(WallTime::from_micros(START));
        self.look();
    }

    fn look(&mut self) {
        let Changes { windows, catalog, bytes } = self.presentation.take_changes();
        for window in windows {
            if let Some(before) = self.windows.get(&window.rendition.id) {
                assert_history_is_kept(before, &window);
            }
            assert_rules(&window);
            self.windows.insert(window.rendition.id, window);
        }
        if catalog.as_ref().is_some_and(|catalog| catalog.ended) {
            let kept = |window: &Arc<Window>| window.segments.iter().map(|segment| segment.len()).sum::<usize>();
            assert_eq!(bytes, self.windows.values().map(kept).sum::<usize>(), "bytes are counted as they come and go");
        }
        if let Some(catalog) = catalog {
            self.catalog = Some(catalog);
        }
    }

    /// `seconds` of constant-rate video with a key frame every `gop` pictures and two B pictures between references where `reordering`,
    /// beside AAC, interleaved as encoders do.
    pub(crate) fn stream(&mut self, seconds: f64, rate: (i64, i64), gop: i64, reordering: bool, kinds: &[Kind]) {
        let video = kinds.contains(&Kind::Video).then(|| self.add(video_track()));
        let audio = kinds.contains(&Kind::Audio).then(|| self.add(audio_track()));
        let audio_scale = Timescale::new(48_000).expect("not zero");
        let pictures = (seconds * rate.0 as f64 / rate.1 as f64) as i64;
        let picture = |n: i64| n * 90_000 * rate.1 / rate.0;
        let mut frame = 0;
        for n in 0..pictures {
            let dts = picture(n);
            if let Some(id) = video {
                let delay = if reordering { [2, 5, 2, 0][(n % gop % 4) as usize] } else { 0 };
                let delay = if n % gop == 0 && reordering { 2 } else { delay };
                let size = if n % gop == 0 { 9_000 } else { 1_000 + (n % 7) as usize * 100 };
                self.push(id, dts, picture(n + delay), n % gop == 0, size, Timescale::NINETY_KHZ);
            }
            while let Some(id) = audio.filter(|_| frame * 1024 * 90_000 < (dts + picture(1)) * 48_000) {
                self.push(id, frame * 1024, frame * 1024, true, 300, audio_scale);
                frame += 1;
            }
        }
    }
}

/// A part's samples as (duration, size, sync), and its `tfdt`, read with a parser that is not ours.
pub(crate) fn read_part(part: &Part) -> (u64, Vec<(u32, u32, bool)>) {
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

fn assert_history_is_kept(before: &Window, after: &Window) {
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
pub(crate) fn assert_rules(window: &Window) {
    let config = &window.rendition.config;
    let scale = window.rendition.init.track.timescale;
    let target = scale.ticks(config.part_target);
    let all: Vec<&Arc<Segment>> = window.segments.iter().chain(&window.open).collect();
    for (index, segment) in all.iter().enumerate() {
        let rounded = (scale.seconds(segment.duration) + 0.5).floor() as u64;
        assert!(rounded <= config.target_duration.as_secs(), "EXTINF {}", scale.seconds(segment.duration));
        assert_eq!(segment.duration, segment.parts.iter().map(|part| part.duration).sum::<i64>());
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
            assert!(next.discontinuity || next.start == decode_time, "segments run on");
            let (a, b) = (segment.parts.last().expect("parts"), next.parts.first().expect("parts"));
            assert_eq!(b.number, a.number + 1, "parts are numbered across segments");
        }
    }
}

/// Whether every part obeys the 85 % rule, which only constant rates can. Spec: RFC 8216bis §4.4.4.9.
pub(crate) fn assert_parts_are_long_enough(window: &Window) {
    let target = window.rendition.init.track.timescale.ticks(window.rendition.config.part_target);
    for segment in window.segments.iter().chain(&window.open) {
        for part in segment.parts.iter().rev().skip(1) {
            assert!(part.duration * 100 >= target * 85, "part {} of {} ticks", part.number, part.duration);
        }
    }
}

/// Payload in the order it was published, to compare what came in with what goes out.
pub(crate) fn payload(window: &Window) -> BytesMut {
    let mut all = BytesMut::new();
    for part in window.segments.iter().chain(&window.open).flat_map(|segment| &segment.parts) {
        part.payload.iter().for_each(|slice| all.extend_from_slice(slice));
    }
    all
}
