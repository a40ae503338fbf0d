//! Whether a media playlist request is answered now, later or never. Pure: a window and directives in, a decision out.
//!
//! Specification: RFC 8216bis §6.2.5.2.

use std::time::Duration;

use super::route::Directives;
use crate::packager::Window;

/// What to do with a media playlist request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Decision {
    /// Answer from this window.
    Now,
    /// Hold the request; ask again when the window changes. Once a request waits, only [`Decision::Now`] releases it.
    Wait,
    /// 400 whenever it is asked, with the rule that the request breaks.
    BadRequest(&'static str),
    /// 400 now, with the rule: it may be a good request in a moment.
    TooEarly(&'static str),
}

/// Decides on `directives`, given what `window` lists.
pub fn decide(window: &Window, directives: &Directives) -> Decision {
    if window.ended {
        return Decision::Now;
    }
    let Some(msn) = directives.msn else {
        return match directives.part {
            Some(_) => Decision::BadRequest("_HLS_part needs _HLS_msn (RFC 8216bis 6.2.5.2)"),
            None => Decision::Now,
        };
    };
    // The last segment of the playlist is the one before the open one, so "last plus two" is the one after the open one.
    if msn > window.open_msn.saturating_add(1) {
        return Decision::TooEarly("_HLS_msn lies more than two segments beyond the last one (RFC 8216bis 6.2.5.2)");
    }
    let Some(part) = directives.part else {
        // What comes before the open segment is complete, or was never part of the stream.
        return if msn < window.open_msn { Decision::Now } else { Decision::Wait };
    };
    at_part(window, msn, part)
}

fn at_part(window: &Window, msn: u64, part: u64) -> Decision {
    const TOO_FAR: Decision = Decision::TooEarly("_HLS_part lies beyond the Advance Part Limit (RFC 8216bis 6.2.5.2)");
    let limit = advance_part_limit(window.rendition.config.part_target);
    let open_parts = window.open.as_ref().map_or(0, |open| open.parts.len() as u64);
    if msn > window.open_msn {
        // How many parts the open segment still lacks is not known; at least none.
        return if part >= limit { TOO_FAR } else { Decision::Wait };
    }
    if msn == window.open_msn {
        return match part {
            _ if part < open_parts => Decision::Now,
            _ if part - open_parts >= limit => TOO_FAR,
            _ => Decision::Wait,
        };
    }
    let last_complete = msn.saturating_add(1) == window.open_msn;
    let parts = window.segment(msn).map_or(0, |segment| segment.parts.len().max(window.gap_parts(segment)) as u64);
    if !last_complete || part < parts {
        return Decision::Now;
    }
    // Past the last part of its segment: part 0 of the next one.
    match open_parts {
        _ if part - parts >= limit => TOO_FAR,
        0 => Decision::Wait,
        _ => Decision::Now,
    }
}

/// How many parts ahead of the last one a request may ask for: 3, or 3 seconds' worth of shorter parts. Spec: RFC 8216bis §6.2.5.2.
fn advance_part_limit(part_target: Duration) -> u64 {
    if part_target >= Duration::from_secs(1) {
        return 3;
    }
    u64::try_from(Duration::from_secs(3).as_micros() / part_target.as_micros().max(1)).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::packager::testing;

    const BAD: Decision = Decision::BadRequest("");
    const EARLY: Decision = Decision::TooEarly("");

    fn ask(window: &Window, msn: Option<u64>, part: Option<u64>) -> Decision {
        match decide(window, &Directives { msn, part, skip: false }) {
            Decision::BadRequest(_) => BAD,
            Decision::TooEarly(_) => EARLY,
            other => other,
        }
    }

    #[test]
    fn requests_are_answered_held_or_refused() {
        // Segments 4, 5, 6 of three parts each are complete; 7 is open with two parts. The limit is 13 parts.
        let window = testing::window(4, 3, 3, 2);
        for (msn, part, wanted) in [
            (None, None, Decision::Now),
            (None, Some(0), BAD),
            (Some(0), None, Decision::Now),
            (Some(0), Some(999), Decision::Now),
            (Some(5), Some(999), Decision::Now),
            (Some(6), None, Decision::Now),
            (Some(6), Some(2), Decision::Now),
            (Some(6), Some(3), Decision::Now),
            (Some(6), Some(15), Decision::Now),
            (Some(6), Some(16), EARLY),
            (Some(7), None, Decision::Wait),
            (Some(7), Some(0), Decision::Now),
            (Some(7), Some(1), Decision::Now),
            (Some(7), Some(2), Decision::Wait),
            (Some(7), Some(14), Decision::Wait),
            (Some(7), Some(15), EARLY),
            (Some(7), Some(u64::MAX), EARLY),
            (Some(8), None, Decision::Wait),
            (Some(8), Some(0), Decision::Wait),
            (Some(8), Some(12), Decision::Wait),
            (Some(8), Some(13), EARLY),
            (Some(9), None, EARLY),
            (Some(9), Some(0), EARLY),
            (Some(1 << 63), None, EARLY),
            (Some(u64::MAX), Some(u64::MAX), EARLY),
        ] {
            assert_eq!(ask(&window, msn, part), wanted, "msn {msn:?} part {part:?}");
        }
    }

    #[test]
    fn a_part_past_the_end_of_the_last_segment_is_part_0_of_the_next() {
        let window = testing::window(4, 3, 3, 0);
        assert_eq!(ask(&window, Some(6), Some(2)), Decision::Now);
        assert_eq!(ask(&window, Some(6), Some(3)), Decision::Wait);
        assert_eq!(ask(&window, Some(7), Some(0)), Decision::Wait);
        assert_eq!(ask(&window, Some(8), None), Decision::Wait);
        assert_eq!(ask(&window, Some(9), None), EARLY);
        let begun = testing::window(4, 3, 3, 1);
        assert_eq!(ask(&begun, Some(6), Some(3)), Decision::Now);
    }

    #[test]
    fn who_follows_parts_waits_behind_a_gap_for_what_comes() {
        let mut window = testing::window(4, 3, 3, 0);
        let mut gap = testing::window(7, 1, 3, 0).segments.remove(0);
        let made = Arc::make_mut(&mut gap);
        made.parts.clear();
        made.duration = made.init.track.timescale.ticks(Duration::from_secs(2));
        window.segments.push(gap);
        window.open_msn = 8;
        let parts = window.gap_parts(&window.segments[3]) as u64;
        assert_eq!(parts, 10);
        assert_eq!(ask(&window, Some(7), Some(parts - 1)), Decision::Now);
        assert_eq!(ask(&window, Some(7), Some(parts)), Decision::Wait);
        assert_eq!(ask(&window, Some(8), Some(0)), Decision::Wait);
    }

    #[test]
    fn before_the_first_segment_everything_near_waits() {
        let window = testing::window(0, 0, 3, 0);
        assert_eq!(ask(&window, Some(0), None), Decision::Wait);
        assert_eq!(ask(&window, Some(1), Some(0)), Decision::Wait);
        assert_eq!(ask(&window, Some(2), None), EARLY);
        // Numbers of a life before this one.
        let later = testing::window(40, 0, 3, 1);
        assert_eq!(ask(&later, Some(38), None), Decision::Now);
        assert_eq!(ask(&later, Some(39), Some(2)), Decision::Now);
        assert_eq!(ask(&later, Some(40), None), Decision::Wait);
    }

    #[test]
    fn after_the_end_directives_are_ignored() {
        let mut window = testing::window(4, 3, 3, 0);
        window.ended = true;
        for (msn, part) in [(Some(99), None), (Some(7), Some(0)), (None, Some(1))] {
            assert_eq!(ask(&window, msn, part), Decision::Now);
        }
    }

    #[test]
    fn long_parts_may_be_asked_for_three_ahead() {
        assert_eq!(advance_part_limit(Duration::from_millis(215)), 13);
        assert_eq!(advance_part_limit(Duration::from_millis(999)), 3);
        assert_eq!(advance_part_limit(Duration::from_secs(1)), 3);
        assert_eq!(advance_part_limit(Duration::from_secs(2)), 3);
    }
}
