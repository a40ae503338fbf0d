//! Files of every kind of stream, and files that are not what they should be.

use std::sync::Arc;

use bytes::BytesMut;
use proptest::prelude::*;

use super::*;
use crate::media::codec::h264;
use crate::media::{AccessUnit, Format, Kind, Timescale, Track, WallTime};
use crate::packager::playlist::{dash, hls_media, hls_multivariant};
use crate::packager::testing::simulation::{START, Simulation};
use crate::packager::testing::{audio_track, mp3_track, video_track};
use crate::packager::{Config, Presentation};

const BOTH: [Kind; 2] = [Kind::Video, Kind::Audio];

fn simulation(config: Config) -> Simulation {
    let mut simulation = Simulation::new(config);
    let Format::H264(config) = &simulation.video.format else { unreachable!() };
    simulation.video.format = Format::H264(h264::Config::parse(&config.record).expect("a good record"));
    simulation
}

/// Two short segments of a stream that was interrupted a while ago.
fn small() -> Simulation {
    let mut simulation = simulation(Config::default());
    let (video, audio) = (simulation.add(simulation.video.clone()), simulation.add(audio_track()));
    let scale = Timescale::new(48_000).expect("not zero");
    for n in 0..3_i64 {
        simulation.push(video, n * 180_000, n * 180_000, true, 20, Timescale::NINETY_KHZ);
        simulation.push(audio, n * 96_000, n * 96_000, true, 8, scale);
    }
    simulation.outage(6_000_000, 3_000_000);
    simulation
}

/// What would happen to a presentation that was taken up: time passes, a publisher comes, viewers look, it ends.
fn use_it(mut presentation: Presentation) {
    let mut windows = Vec::new();
    let mut catalog = None;
    let mut look = |presentation: &mut Presentation| {
        let changes = presentation.take_changes();
        windows.extend(changes.windows);
        catalog = changes.catalog.or(catalog.take());
        for window in windows.drain(..windows.len().saturating_sub(4)) {
            hls_media::render(&window, &[], true);
        }
        if let Some(catalog) = &catalog {
            hls_multivariant::render(catalog);
            dash::render(catalog, &windows);
        }
    };
    look(&mut presentation);
    for seconds in [1, 5, 30] {
        presentation.pass(WallTime::from_micros(START + seconds * 1_000_000));
        look(&mut presentation);
    }
    for (track, step) in [(video_track(), 3_600), (audio_track(), 1_024)] {
        let Ok(id) = presentation.rejoin_track(0, track) else { continue };
        for n in 0..120 {
            let unit = AccessUnit {
                dts: n * step,
                pts: n * step,
                sync: n % 50 == 0,
                captions: false,
                data: BytesMut::from(&[0; 9][..]),
            };
            if presentation.push(id, unit, WallTime::from_micros(START + 31_000_000 + n * 40_000)).is_err() {
                break;
            }
        }
        look(&mut presentation);
    }
    presentation.finish(WallTime::from_micros(START + 60_000_000));
    look(&mut presentation);
}

fn restore(file: &[u8]) -> Result<Presentation, Refused> {
    let (header, payload) = read(file)?;
    Presentation::restore(&header.presentation, payload, Arc::new(header.config))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]
    #[test]
    fn what_is_written_is_what_is_read(
        seconds in 0.1_f64..25.0,
        rate in prop::sample::select(vec![(30_i64, 1_i64), (25, 1), (24_000, 1_001), (60, 1), (1, 1)]),
        gop in 1_i64..90,
        reordering: bool,
        kinds in prop::sample::select(vec![&BOTH[..], &BOTH[..1], &BOTH[1..]]),
        mp3: bool,
        outage in 1_i64..40_000_000,
    ) {
        let mut simulation = simulation(Config::default());
        if mp3 {
            simulation.audio = mp3_track(44_100);
        }
        simulation.stream(seconds, rate, gop, reordering, kinds);
        simulation.presentation.interrupt(WallTime::from_micros(START));
        if simulation.presentation.can_resume() {
            // It compares all that there is before and after.
            let end = (seconds * 1e6) as i64;
            simulation.outage(end, outage);
            simulation.restart();
            simulation.stream(6.0, rate, gop, reordering, kinds);
            simulation.outage(end + outage + 6_000_000, 1);
            simulation.restart();
            simulation.finish();
        }
    }
}

#[test]
fn a_presentation_is_put_down_only_while_nobody_publishes_it() {
    let mut simulation = simulation(Config::default());
    assert!(simulation.presentation.save().is_none());
    simulation.stream(3.0, (30, 1), 60, true, &BOTH);
    assert!(simulation.presentation.save().is_none());
    simulation.outage(3_000_000, 1);
    assert!(simulation.presentation.save().is_some());
    simulation.finish();
    assert!(simulation.presentation.save().is_none());
}

#[test]
fn neither_an_outage_nor_a_restart_forgets_how_regular_a_stream_was() {
    for restarted in [false, true] {
        let mut simulation = simulation(Config::default());
        simulation.stream(9.0, (30, 1), 60, false, &BOTH);
        simulation.outage(9_000_000, 5_000_000);
        if restarted {
            simulation.restart();
        }
        // One whole segment, and the beginning of another.
        simulation.stream(2.1, (30, 1), 60, false, &BOTH);
        let last = simulation.catalog.as_ref().and_then(|catalog| catalog.periods.last()).expect("a period");
        assert!(!last.connected && last.duration_micros.is_none(), "{last:?}");
        assert!(last.low_latency && last.renditions.iter().all(|share| share.announced.is_some()), "{last:?}");
    }
}

#[test]
fn a_track_that_never_brought_anything_keeps_its_place() {
    let mut simulation = simulation(Config::default());
    let silent = simulation.add(audio_track());
    let second = simulation.add(Track { language: "de".into(), ..audio_track() });
    let scale = Timescale::new(48_000).expect("not zero");
    (0..200).for_each(|n| simulation.push(second, n * 1_024, n * 1_024, true, 90, scale));
    simulation.outage(4_000_000, 1_000);
    simulation.restart();
    let presentation = &mut simulation.presentation;
    assert_eq!(presentation.rejoin_track(0, audio_track()).expect("a good track"), silent);
    let language = Track { language: "de".into(), ..audio_track() };
    assert_eq!(presentation.rejoin_track(1, language).expect("a good track"), second);
}

#[test]
fn every_truncation_and_every_flipped_bit_is_refused() {
    let good = small().file();
    assert!(restore(&good).is_ok());
    for length in 0..good.len() {
        assert!(read(&good[..length]).is_err(), "cut to {length}");
    }
    for more in [1, 4, 1_000] {
        assert_eq!(read(&[&good[..], &vec![0; more]].concat()).err(), Some(Refused::Length));
    }
    let mut file = good.clone();
    for at in 0..good.len() {
        for bit in 0..8 {
            file[at] ^= 1 << bit;
            assert!(read(&file).is_err(), "bit {bit} of byte {at}");
            file[at] ^= 1 << bit;
        }
    }
    assert_eq!(read(b"").err(), Some(Refused::Foreign));
    assert_eq!(read(b"{\"media_sequence\": 7}").err(), Some(Refused::Foreign));
}

/// Somebody who knows the format says what cannot be: the checksum is right, the numbers are not.
#[test]
fn no_number_in_a_well_made_file_does_harm() {
    let good = small().file();
    let (header, payload) = read(&good).expect("a good file");
    let payload = bytes::Bytes::copy_from_slice(payload);
    let text = serde_json::to_string(&header.presentation).expect("text");
    let config = Arc::new(header.config.clone());
    let is_digit = |at: usize| text.as_bytes()[at].is_ascii_digit();
    let starts = (1..text.len()).filter(|at| is_digit(*at) && !is_digit(at - 1));
    let (mut taken, mut refused) = (0, 0);
    for start in starts {
        let end = (start..text.len()).find(|at| !is_digit(*at)).expect("it ends with a brace");
        let was: u64 = text[start..end].parse().unwrap_or(0);
        let near = [was.wrapping_add(1), was.wrapping_sub(1), was * 2];
        let far = [0, 1, 255, 1 << 31, u64::from(u32::MAX), (1 << 40) - 1, (1 << 53) - 1, 1 << 53];
        let far = far.into_iter().chain([i64::MAX as u64, u64::MAX]);
        for number in near.into_iter().chain(far) {
            for sign in ["", "-"] {
                let mutated = format!("{}{sign}{number}{}", &text[..start], &text[end..]);
                let Ok(state) = serde_json::from_str(&mutated) else { continue };
                match Presentation::restore(&state, &payload, Arc::clone(&config)) {
                    Ok(presentation) => {
                        taken += 1;
                        use_it(presentation);
                    }
                    Err(_) => refused += 1,
                }
            }
        }
    }
    assert!(taken > 100 && refused > 1_000, "{taken} {refused}");
}

/// The segments of the first track from the second one on begin later.
fn shift(state: &mut State, ticks: i64) {
    let line = state.tracks[0].line.as_mut().expect("media");
    line.segments.iter_mut().skip(1).for_each(|segment| segment.start += ticks);
    line.idle += ticks;
}

/// The number before the first segment of a playlist would be less than nothing.
#[test]
fn a_discontinuity_that_was_never_counted_is_refused() {
    let good = small().file();
    let (header, payload) = read(&good).expect("a good file");
    let mut state = header.presentation.clone();
    for track in &mut state.tracks {
        let line = track.line.as_mut().expect("media");
        (line.segments[0].discontinuity, line.discontinuity_sequence) = (true, 0);
        line.segments.iter_mut().for_each(|segment| segment.discontinuity_sequence = 0);
    }
    let refused = Presentation::restore(&state, payload, Arc::new(Config::default()));
    assert_eq!(refused.err(), Some(Refused::Wrong("discontinuities are counted wrongly")));
}

/// The first track's first segment has survived it, too, and is numbered `later`.
fn survive(state: &mut State, later: u64) {
    let line = state.tracks[0].line.as_mut().expect("media");
    line.survivor = Some((line.open_msn - line.segments.len() as u64 + later, line.segments[0].clone()));
}

#[test]
fn what_contradicts_itself_is_refused_in_words() {
    let good = small().file();
    let (header, payload) = read(&good).expect("a good file");
    let restored = |change: &dyn Fn(&mut State)| {
        let mut state = header.presentation.clone();
        change(&mut state);
        Presentation::restore(&state, payload, Arc::new(Config::default())).err().map(|error| error.to_string())
    };
    assert_eq!(restored(&|_| {}), None);
    for (change, words) in [
        (&(|state: &mut State| state.tracks.clear()) as &dyn Fn(&mut State), "payload is too long"),
        (&|state| state.tracks[1].id = "v0".into(), "of something else"),
        (&|state| state.tracks[1].id = "x9".into(), "rendition's name"),
        (&|state| state.tracks[0].timescale = 0, "clock stands still"),
        (&|state| state.tracks[0].inits_made = 0, "an init is of something else"),
        (&|state| state.tracks[0].inits.clear(), "an init is missing"),
        (&|state| state.tracks[0].inits[0].bytes += 1, "payload"),
        (&|state| state.media_sequence += 1, "segments are missing"),
        (&|state| state.idle_micros -= 7_200_000_000, "far from one another"),
        (&|state| state.epoch = "-".into(), "epoch"),
        (&|state| state.periods[0].shares[0].id = "v7".into(), "period's rendition"),
        (&|state| state.periods[0].duration_micros = 0, "duration is impossible"),
        (&|state| state.periods.push(state.periods[0].clone()), "periods are not in order"),
        (&|state| state.tracks[0].line.as_mut().expect("media").listed = 99, "segments are missing"),
        (&|state| state.tracks[0].line.as_mut().expect("media").segments[1].start = 0, "overlap"),
        (&|state| state.tracks[0].line.as_mut().expect("media").segments[1].discontinuity = true, "counted wrongly"),
        (&|state| shift(state, 1), "time is missing"),
        (&|state| survive(state, 1), "newest media is none"),
        (&|state| state.tracks[1].line.as_mut().expect("media").segments[0].parts[0].0 += 1, "as long as its parts"),
        (&|state| state.tracks[1].line.as_mut().expect("media").segments[0].duration = 1 << 30, "too long"),
        (&|state| state.tracks[0].line.as_mut().expect("media").next_part = 0, "what follows began before"),
        (&|state| state.tracks[0].inits[0].language = "\" onload=".into(), "a language is none"),
        (&|state| state.tracks[0].inits[0].format = FormatState::H264(vec![1, 2, 3]), "configuration is broken"),
    ] {
        let error = restored(change).unwrap_or_default();
        assert!(error.contains(words), "{words}: {error}");
    }
}
