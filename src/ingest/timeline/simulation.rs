//! A day of what encoders really stamp, and how far sound and picture come apart: never by more than 40 ms.
//!
//! Each family is a publisher whose pictures and sound were captured together. What the timeline makes of their stamps is compared with when
//! they were captured: the error of the sound less the error of the picture is what viewers see as skew.

use super::*;

/// Hours that a family runs. Without optimisation a day takes minutes.
const HOURS: i64 = if cfg!(debug_assertions) { 1 } else { 24 };
const MOST_MICROS: i64 = 40_000;
const SECOND: i64 = 1_000_000;

/// xorshift64*.
struct Random(u64);

impl Random {
    fn below(&mut self, limit: i64) -> i64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 33) as i64 % limit.max(1)
    }
}

/// How sound is stamped.
#[derive(Clone, Copy, PartialEq)]
enum Stamps {
    /// When the frame was captured, cut to milliseconds.
    Cut,
    /// Sums of the frame's duration, cut to milliseconds.
    Sums,
    /// When a capture callback brought it: late by up to this many milliseconds.
    Late(i64),
}

struct Family {
    name: &'static str,
    /// Pictures a second as a fraction; 0 for anything from 1 to 120.
    fps: (i64, i64),
    rate: i64,
    frame_samples: i64,
    stamps: Stamps,
    /// The sound card runs this many millionths faster than the publisher's clock.
    card_ppm: i64,
    /// The publisher's clock runs this many millionths faster than time.
    clock_ppm: i64,
    /// One of so many audio frames is the first of some that are lost; 0 for none.
    loss: i64,
    /// Seconds between jumps of the clock by hours; 0 for none.
    jumps: i64,
    /// One of so many access units is stamped with a time that is hours off; 0 for none.
    outliers: i64,
    /// The first stamp.
    start: i64,
    /// Sound is stamped by a clock that is so far from the picture's.
    apart: i64,
    /// Sound begins so many seconds after the picture.
    late_audio: i64,
    /// The picture begins so many seconds after the sound.
    late_video: i64,
    /// Access units arrive a second at a time, all pictures before all sound.
    bursts: bool,
}

const PLAIN: Family = Family {
    name: "",
    fps: (30, 1),
    rate: 48_000,
    frame_samples: 1_024,
    stamps: Stamps::Cut,
    card_ppm: 0,
    clock_ppm: 0,
    loss: 0,
    jumps: 0,
    outliers: 0,
    start: 5_000_000,
    apart: 0,
    late_audio: 0,
    late_video: 0,
    bursts: false,
};

#[derive(Debug, Clone, Copy)]
enum Due {
    /// Capture time in microseconds, stamp.
    Picture(i64, u32),
    Sound(i64, u32),
}

/// Everything a family sends, in the order it sends it.
struct Sender<'a> {
    family: &'a Family,
    random: Random,
    picture_at: i64,
    pictures: i64,
    frames: i64,
    frames_sent: i64,
    /// Milliseconds that the clock has jumped by.
    jumped: i64,
    next_jump: i64,
    lost: i64,
}

impl<'a> Sender<'a> {
    fn new(family: &'a Family) -> Self {
        let next_jump = if family.jumps > 0 { family.jumps * SECOND } else { i64::MAX };
        Self {
            family,
            random: Random(0x9E37_79B9_7F4A_7C15),
            picture_at: family.late_video * SECOND,
            pictures: 0,
            frames: 0,
            frames_sent: 0,
            jumped: 0,
            next_jump,
            lost: 0,
        }
    }

    fn stamp(&self, micros: i64) -> i64 {
        let by_clock = micros + micros / 1_000 * self.family.clock_ppm / 1_000;
        self.family.start + self.jumped + by_clock / 1_000
    }

    /// When frame `n` was captured, by the time that the sound card keeps.
    fn captured(&self, n: i64) -> i64 {
        let exact = n * self.family.frame_samples * SECOND / self.family.rate;
        self.family.late_audio * SECOND + exact - exact / 1_000 * self.family.card_ppm / 1_000
    }

    fn next(&mut self) -> Due {
        let sound_at = self.captured(self.frames);
        let at = sound_at.min(self.picture_at);
        if at >= self.next_jump {
            let hours = [1, -1, 7, -30][self.random.below(4) as usize];
            self.jumped += hours * 3_600_000 + self.random.below(5_000);
            self.next_jump += self.family.jumps * SECOND;
        }
        if self.picture_at <= sound_at {
            let at = self.picture_at;
            self.pictures += 1;
            self.picture_at = match self.family.fps {
                (0, _) => at + SECOND * 1_000 / (1_000 + self.random.below(119_000)),
                (pictures, seconds) => self.family.late_video * SECOND + self.pictures * SECOND * seconds / pictures,
            };
            let stamp = self.stamp(at) + self.outlier();
            return Due::Picture(at, stamp as u32);
        }
        self.frames += 1;
        self.frames_sent += 1;
        if self.family.loss > 0 && self.random.below(self.family.loss) == 0 {
            self.lost = 1 + self.random.below(40);
            self.frames += self.lost;
        }
        let stamp = match self.family.stamps {
            Stamps::Cut => self.stamp(sound_at),
            Stamps::Late(most) => self.stamp(sound_at) + self.random.below(most),
            Stamps::Sums => {
                let frame_ms = self.family.frame_samples * 1_000 / self.family.rate;
                self.family.start + self.jumped + (self.frames - 1) * frame_ms
            }
        };
        let stamp = stamp + self.outlier();
        Due::Sound(sound_at, (stamp + self.family.apart) as u32)
    }

    fn outlier(&mut self) -> i64 {
        if self.family.outliers == 0 || self.random.below(self.family.outliers) > 0 {
            return 0;
        }
        [37_600_000, -9_800_000, -50_000, 15_000][self.random.below(4) as usize]
    }
}

/// Runs a family and gives back what was repaired.
#[track_caller]
fn run(family: &Family) -> Repairs {
    run_within(family, MOST_MICROS)
}

#[track_caller]
fn run_within(family: &Family, most: i64) -> Repairs {
    let mut sender = Sender::new(family);
    let mut timeline = Timeline::default();
    timeline.set_audio(family.rate as u32, family.frame_samples as u32);
    let mut repairs = Repairs::default();
    let (mut picture_error, mut worst, mut worst_at) = (None, 0, 0);
    let (mut dropped, mut sounds, mut heard) = (0_i64, 0_i64, None);
    // What is heard of a card that runs at its own pace: a two-hundredth of a frame is a tenth of a millisecond.
    let most_step = (family.card_ppm != 0).then_some((family.frame_samples / 200).max(1));
    let mut held: Vec<Due> = Vec::new();
    loop {
        let mut batch = vec![sender.next()];
        if family.bursts {
            let second = at(batch[0]) / SECOND;
            batch.append(&mut held);
            loop {
                let due = sender.next();
                if at(due) / SECOND > second {
                    held.push(due);
                    break;
                }
                batch.push(due);
            }
            // All pictures before all sound.
            batch.sort_by_key(|due| (matches!(due, Due::Sound(..)), at(*due)));
        }
        for due in batch {
            match due {
                Due::Picture(captured, stamp) => {
                    let (dts, _) = timeline.picture(stamp, 0);
                    picture_error = Some(dts * 100 / 9 - captured);
                }
                Due::Sound(captured, stamp) => {
                    sounds += 1;
                    let Some(samples) = timeline.audio(stamp) else {
                        dropped += 1;
                        continue;
                    };
                    if let Some((most, before)) = most_step.zip(heard.replace(samples)) {
                        let step = samples - before - family.frame_samples;
                        assert!(
                            step.abs() <= most,
                            "{}: a step of {step} samples is heard at {captured} µs",
                            family.name
                        );
                    }
                    let error = samples * SECOND / family.rate - captured;
                    let Some(picture_error) = picture_error else { continue };
                    let skew = error - picture_error;
                    if skew.abs() > worst {
                        (worst, worst_at) = (skew.abs(), captured);
                    }
                }
            }
            if at(due) > HOURS * 3_600 * SECOND {
                repairs.merge(&timeline.take_repairs());
                println!("{}: {worst} µs at {} s, {repairs:?}", family.name, worst_at / SECOND);
                assert!(worst <= most, "{}: sound and picture {worst} µs apart at {worst_at} µs", family.name);
                // Wild stamps of sound are lost sound; where they are not the family's point, almost nothing is.
                let least = if most == MOST_MICROS { 1_000 } else { 500 };
                assert!(dropped * least <= sounds, "{}: {dropped} of {sounds} frames dropped", family.name);
                return repairs;
            }
        }
    }
}

fn at(due: Due) -> i64 {
    match due {
        Due::Picture(captured, _) | Due::Sound(captured, _) => captured,
    }
}

#[test]
fn clean_streams_need_no_repair() {
    for (rate, frame_samples) in [(44_100, 1_024), (48_000, 1_024), (44_100, 1_152), (44_100, 2_048), (32_000, 1_152)] {
        let repairs = run(&Family { name: "clean", rate, frame_samples, ..PLAIN });
        assert!(repairs.is_empty(), "{rate} Hz, {frame_samples} samples: {repairs:?}");
    }
}

/// nginx-rtmp #179: sound and picture come apart while a stream runs, and nothing says so.
#[test]
fn a_sound_card_off_by_a_thousandth_is_followed() {
    for card_ppm in [1_000, -1_000, 60] {
        let repairs = run(&Family { name: "sound card", card_ppm, rate: 44_100, ..PLAIN });
        assert!(repairs.count(Repair::AudioDrift) > 0 || card_ppm == 60);
        assert_eq!(
            (repairs.count(Repair::AudioGap), repairs.count(Repair::AudioOverlap)),
            (0, 0),
            "nothing is heard of it"
        );
    }
}

#[test]
fn a_publishers_clock_off_by_a_thousandth_moves_both_tracks() {
    // Against time the timeline is off by what the clock is: the clock of the packager deals with that. Skew is measured at one instant,
    // where pictures are off by as much.
    for clock_ppm in [1_000, -1_000] {
        run(&Family { name: "publisher's clock", clock_ppm, card_ppm: -clock_ppm, ..PLAIN });
    }
}

#[test]
fn sums_of_rounded_durations_are_no_time() {
    for (rate, frame_samples) in [(44_100, 1_024), (48_000, 1_024), (44_100, 1_152)] {
        let repairs = run(&Family { name: "sums", rate, frame_samples, stamps: Stamps::Sums, ..PLAIN });
        assert_eq!(repairs.count(Repair::AudioRounded), 1);
        assert_eq!((repairs.count(Repair::AudioGap), repairs.count(Repair::AudioOverlap)), (0, 0));
    }
}

#[test]
fn stamps_of_capture_callbacks_are_averaged() {
    let repairs = run(&Family { name: "callbacks", stamps: Stamps::Late(43), rate: 44_100, ..PLAIN });
    assert_eq!(repairs.count(Repair::AudioGap), 0);
}

#[test]
fn lost_sound_is_a_gap_and_no_skew() {
    let repairs = run(&Family { name: "lost frames", loss: 2_000, ..PLAIN });
    assert!(repairs.count(Repair::AudioGap) > 0);
    run(&Family { name: "lost frames, HE-AAC", loss: 2_000, frame_samples: 2_048, rate: 44_100, ..PLAIN });
}

#[test]
fn the_clock_jumps_by_hours_all_day() {
    let repairs = run(&Family { name: "jumps", jumps: 613, rate: 44_100, ..PLAIN });
    assert_eq!(repairs.count(Repair::Jump), ((HOURS * 3_600) / 613) as u64);
    run(&Family { name: "jumps and lost frames", jumps: 613, loss: 2_000, ..PLAIN });
    run(&Family { name: "jumps at any rate", jumps: 613, fps: (0, 1), ..PLAIN });
    run(&Family { name: "jumps of two clocks", jumps: 613, apart: -3_600_000, ..PLAIN });
}

/// mediamtx PR #6255: recorders that stamp a frame every few seconds with a time that is hours away.
#[test]
fn single_stamps_that_are_hours_off_move_nothing() {
    let repairs = run(&Family { name: "outliers", outliers: 200, ..PLAIN });
    assert!(repairs.count(Repair::Jump) > 100);
    run(&Family { name: "outliers", outliers: 200, fps: (60, 1), rate: 44_100, ..PLAIN });
    // Where a picture lasts anything up to a second, nothing says when that of a wild stamp was captured, and the next one may have to wait
    // for it: what is measured here is mostly the place of that one picture.
    let family = Family { name: "outliers at any rate", outliers: 200, fps: (0, 1), rate: 44_100, ..PLAIN };
    run_within(&family, 200_000);
}

/// OvenMediaEngine #1686: a segment of 4,294,967 s when the 32-bit clock wraps.
#[test]
fn the_clock_wraps_in_the_middle_of_the_day() {
    let start = (1_i64 << 32) - 1_000 * 60 * 20;
    let repairs = run(&Family { name: "wrap", start, fps: (30_000, 1_001), ..PLAIN });
    assert!(repairs.is_empty());
    // With sound on a clock that wraps at another time.
    let repairs = run(&Family { name: "wrap apart", start, apart: 1 << 31, ..PLAIN });
    assert_eq!(repairs.count(Repair::Apart), 1);
    assert_eq!(repairs.count(Repair::Jump), 0);
}

#[test]
fn any_picture_rate_and_bursts_and_late_sound() {
    assert!(run(&Family { name: "1 to 120 pictures a second", fps: (0, 1), ..PLAIN }).is_empty());
    assert!(run(&Family { name: "a picture a second", fps: (1, 1), ..PLAIN }).is_empty());
    assert!(run(&Family { name: "120 pictures a second", fps: (120, 1), ..PLAIN }).is_empty());
    assert!(run(&Family { name: "bursts", bursts: true, rate: 44_100, ..PLAIN }).is_empty());
    assert!(run(&Family { name: "late sound", late_audio: 600, ..PLAIN }).is_empty());
    assert!(run(&Family { name: "late pictures", late_video: 600, ..PLAIN }).is_empty());
}
