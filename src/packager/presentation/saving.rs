//! A presentation put down while nobody publishes, and taken up again by the next start of the server: the same epoch, the same numbers, the
//! same bytes. What is not kept is what only a publisher in the act needs.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use bytes::Bytes;

use super::silence::Pace;
use super::{Entry, MAX_TRACKS, Presentation, Sequence};
use crate::media::{Epoch, RenditionId, Timescale, WallTime};
use crate::packager::catalog::{Period, PeriodRendition, Rendition};
use crate::packager::clock::Clock;
use crate::packager::config::Config;
use crate::packager::part::Init;
use crate::packager::periods::{MAX_PERIODS, Periods};
use crate::packager::saved::{
    InitState, Payload, PeriodShareState, PeriodState, Refused, State, TrackState, is_near, number, tick,
};
use crate::packager::segmenter::{Progress, Segmenter};

type Inits = BTreeMap<u32, Arc<Init>>;

impl Presentation {
    /// What the next start needs to go on, and the bytes of it, cloned by reference. `None` unless it is interrupted, and not ended.
    pub fn save(&self) -> Option<(State, Vec<Bytes>)> {
        let idle_micros = self.idle.filter(|_| !self.ended)?;
        let periods = self.periods.as_ref().map(Periods::snapshot).unwrap_or_default();
        let mut payload = Vec::new();
        let tracks = self.tracks.iter().map(|entry| entry.save(&periods, &mut payload)).collect();
        let state = State {
            epoch: self.epoch.to_string(),
            start_micros: self.start.micros(),
            published_micros: self.published.micros(),
            clock_offset_micros: self.clock.offset(),
            idle_micros,
            media_sequence: self.next.media,
            discontinuity_sequence: self.next.discontinuity,
            discontinuity_due: self.discontinuity_due,
            periods: periods.iter().map(save_period).collect(),
            tracks,
        };
        Some((state, payload))
    }

    /// Goes on with what [`save`](Self::save) gave: interrupted, until a publisher comes.
    ///
    /// # Errors
    /// [`Refused`] where `state` and `payload` could not come from there. Neither is trusted, but for their length: that is the caller's to bound.
    pub fn restore(state: &State, payload: &[u8], config: Arc<Config>) -> Result<Self, Refused> {
        let epoch: Epoch = state.epoch.parse().map_err(|()| Refused::Wrong("its epoch is none"))?;
        number(epoch.millis())?;
        let next =
            Sequence { media: number(state.media_sequence)?, discontinuity: number(state.discontinuity_sequence)? };
        let (start, published) = (tick(state.start_micros)?, tick(state.published_micros)?);
        let (offset, idle) = (tick(state.clock_offset_micros)?, tick(state.idle_micros)?);
        if state.tracks.len() > 2 * usize::from(MAX_TRACKS) || state.periods.len() > MAX_PERIODS {
            return Err(Refused::Wrong("it has too many tracks or periods"));
        }
        let mut payload = Payload::new(payload);
        let (mut tracks, mut inits) = (Vec::new(), BTreeMap::new());
        for track in &state.tracks {
            let id: RenditionId = track.id.parse().map_err(|()| Refused::Wrong("a rendition's name is none"))?;
            let (entry, its_inits) = Entry::restore(id, track, epoch, next, (offset, idle), &config, &mut payload)?;
            if inits.insert(id, its_inits).is_some() {
                return Err(Refused::Wrong("a rendition is there twice"));
            }
            tracks.push(entry);
        }
        if !payload.is_empty() {
            return Err(Refused::Wrong("its payload is too long"));
        }
        let periods =
            state.periods.iter().map(|period| restore_period(period, &inits)).collect::<Result<Vec<_>, _>>()?;
        let in_order = |(a, b): (&Period, &Period)| a.id < b.id && a.start_micros <= b.start_micros;
        if !periods.iter().zip(periods.iter().skip(1)).all(in_order) {
            return Err(Refused::Wrong("periods are not in order"));
        }
        let start = WallTime::from_micros(start);
        let regular = regular_length(&periods, &tracks);
        let presentation = Self {
            most: config.max_bytes,
            config,
            epoch,
            tracks,
            leader: None,
            waiting: VecDeque::new(),
            waiting_since: None,
            clock: Clock::at(offset),
            cuts: VecDeque::new(),
            periods: Some(Periods::taken_up(start, periods, regular)),
            first: None,
            next,
            start,
            published: WallTime::from_micros(published),
            base: None,
            idle: Some(idle),
            paused: None,
            discontinuity_due: state.discontinuity_due,
            catalog_due: true,
            catalogs: 0,
            evicted: 0,
            ended: false,
        };
        if presentation.can_resume() { Ok(presentation) } else { Err(Refused::Wrong("it has no media")) }
    }

    /// The life that this is.
    pub fn epoch(&self) -> Epoch {
        self.epoch
    }

    /// Where the media, or the last gap, ends by the wall clock: close to when the publisher went.
    pub fn idle_since(&self) -> Option<WallTime> {
        Some(WallTime::from_micros(self.idle?).plus_micros(self.clock.offset()))
    }
}

impl Entry {
    fn save(&self, periods: &[Period], payload: &mut Vec<Bytes>) -> TrackState {
        let rendition = self.segmenter.rendition();
        let mut inits = self.segmenter.inits();
        for share in periods.iter().flat_map(|period| &period.renditions).filter(|share| share.id == rendition.id) {
            inits.insert(share.init.number, Arc::clone(&share.init));
        }
        TrackState {
            id: rendition.id.to_string(),
            timescale: self.segmenter.timescale().hz(),
            inits_made: self.inits,
            init: rendition.init.number,
            inits: inits.values().map(|init| InitState::of(init, payload)).collect(),
            peak_bps: self.peak_bps,
            captions: self.captions,
            line: self.segmenter.save(payload),
        }
    }

    fn restore(
        id: RenditionId,
        state: &TrackState,
        epoch: Epoch,
        next: Sequence,
        (offset, idle): (i64, i64),
        config: &Arc<Config>,
        payload: &mut Payload<'_>,
    ) -> Result<(Self, Inits), Refused> {
        let timescale = Timescale::new(state.timescale).ok_or(Refused::Wrong("a clock stands still"))?;
        let mut inits = Inits::new();
        let made = |init: &u32| *init < state.inits_made && state.inits_made < 1 << 31;
        for init in &state.inits {
            let restored = init.init(timescale, payload)?;
            let fits = restored.track.format.kind() == id.kind && made(&init.number);
            if !fits || inits.insert(init.number, restored).is_some() {
                return Err(Refused::Wrong("an init is of something else, or there twice"));
            }
        }
        let init = inits.get(&state.init).ok_or(Refused::Wrong("an init is missing"))?;
        let (init, config) = (Arc::clone(init), Arc::clone(config));
        let rendition = Arc::new(Rendition { id, epoch, init, config });
        let segmenter = match &state.line {
            None => Segmenter::new(rendition, next.media),
            Some(line) => {
                let segmenter = Segmenter::restore(rendition, next.media + 1, offset, line, &inits, payload)?;
                if !is_near(WallTime::from_micros(segmenter.end().micros()), idle) {
                    return Err(Refused::Wrong("renditions end far from one another"));
                }
                segmenter
            }
        };
        let entry = Self {
            segmenter,
            shown: Progress::default(),
            source: timescale,
            next_init: None,
            inits: state.inits_made,
            peak_bps: number(state.peak_bps)?,
            pace: Pace::default(),
            undecodable: 0,
            captions: state.captions,
        };
        Ok((entry, inits))
    }
}

/// What the leader's newest whole segment lasted, in its ticks, where such were announced.
fn regular_length(periods: &[Period], tracks: &[Entry]) -> Option<i64> {
    let leader = periods.last().filter(|period| period.low_latency)?.renditions.first()?;
    let track = tracks.iter().find(|entry| entry.segmenter.id() == leader.id)?;
    // The last one is what the interruption left of one.
    let whole = leader.first_msn..leader.end_msn?.saturating_sub(1);
    let newest = track.segmenter.complete().iter().rev().find(|segment| whole.contains(&segment.msn))?;
    Some(newest.dash_duration())
}

fn save_period(period: &Period) -> PeriodState {
    let share = |share: &PeriodRendition| PeriodShareState {
        id: share.id.to_string(),
        init: share.init.number,
        first_msn: share.first_msn,
        end_msn: share.end_msn.unwrap_or(share.first_msn),
        offset: share.offset,
    };
    PeriodState {
        id: period.id,
        start_micros: period.start_micros,
        // Nothing is announced while nobody publishes: every period has been closed.
        duration_micros: period.duration_micros.unwrap_or(1),
        connected: period.connected,
        low_latency: period.low_latency,
        shares: period.renditions.iter().map(share).collect(),
    }
}

fn restore_period(period: &PeriodState, inits: &BTreeMap<RenditionId, Inits>) -> Result<Period, Refused> {
    let mut seen = BTreeSet::new();
    let mut share = |share: &PeriodShareState| {
        let id: RenditionId = share.id.parse().map_err(|()| Refused::Wrong("a rendition's name is none"))?;
        let init = inits.get(&id).and_then(|inits| inits.get(&share.init));
        let init =
            init.filter(|_| seen.insert(id)).ok_or(Refused::Wrong("a period's rendition is missing, or twice"))?;
        Ok(PeriodRendition {
            id,
            init: Arc::clone(init),
            first_msn: number(share.first_msn)?,
            end_msn: Some(number(share.end_msn)?),
            offset: tick(share.offset)?,
            announced: None,
        })
    };
    Ok(Period {
        id: number(period.id)?,
        start_micros: tick(period.start_micros)?,
        duration_micros: Some(length_micros(period.duration_micros)?),
        connected: period.connected,
        low_latency: period.low_latency,
        renditions: period.shares.iter().map(&mut share).collect::<Result<_, Refused>>()?,
    })
}

/// Periods last as long as publishers do.
fn length_micros(duration: i64) -> Result<i64, Refused> {
    if tick(duration)? > 0 { Ok(duration) } else { Err(Refused::Wrong("a duration is impossible")) }
}
