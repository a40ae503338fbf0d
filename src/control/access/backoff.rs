//! Slows guessing down: an address that keeps showing wrong credentials is not listened to for a growing while. RELIABILITY row 107.
//!
//! A right credential forgives nothing: who has one of their own would guess on with it.

use std::collections::HashMap;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use crate::media::peer::block;

/// Mistakes that are forgiven: an encoder with a mistyped key tries again a few times before its streamer looks.
const FORGIVEN: u32 = 10;
/// The longest that an address is not listened to: a streamer who has found the mistake does not wait longer.
const LONGEST: Duration = Duration::from_secs(60);
/// Without a mistake for so long, all are forgotten.
const FORGOTTEN: Duration = Duration::from_secs(600);
/// Most addresses that are remembered; beyond, the one that was silent longest is forgotten.
const MAX_ADDRESSES: usize = 4_096;

#[derive(Debug, Clone, Copy)]
struct Record {
    mistakes: u32,
    last: Instant,
}

impl Record {
    fn deaf_until(self) -> Instant {
        let beyond = self.mistakes.saturating_sub(FORGIVEN);
        let pause = if beyond == 0 {
            Duration::ZERO
        } else {
            Duration::from_secs(1_u64.checked_shl(beyond - 1).unwrap_or(u64::MAX)).min(LONGEST)
        };
        self.last + pause
    }
}

/// Who made how many mistakes lately.
#[derive(Debug, Default)]
pub(crate) struct Backoff {
    records: Mutex<HashMap<IpAddr, Record>>,
}

impl Backoff {
    /// Whether `ip` is listened to at `now`; if not, how long not.
    pub(crate) fn check(&self, ip: IpAddr, now: Instant) -> Result<(), Duration> {
        let records = self.records.lock();
        let until = records.get(&block(ip)).map_or(now, |record| record.deaf_until());
        if until <= now { Ok(()) } else { Err(until.saturating_duration_since(now)) }
    }

    /// `ip` showed a wrong credential.
    pub(crate) fn mistake(&self, ip: IpAddr, now: Instant) {
        let ip = block(ip);
        let mut records = self.records.lock();
        if records.len() >= MAX_ADDRESSES && !records.contains_key(&ip) {
            records.retain(|_, record| now.saturating_duration_since(record.last) < FORGOTTEN);
            if records.len() >= MAX_ADDRESSES {
                let oldest = records.iter().min_by_key(|(_, record)| record.last).map(|(ip, _)| *ip);
                oldest.and_then(|ip| records.remove(&ip));
            }
        }
        let record = records.entry(ip).or_insert(Record { mistakes: 0, last: now });
        if now.saturating_duration_since(record.last) >= FORGOTTEN {
            record.mistakes = 0;
        }
        *record = Record { mistakes: record.mistakes.saturating_add(1), last: now };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().expect("an address")
    }

    #[test]
    fn guessing_gets_slower_for_the_one_who_guesses() {
        let (backoff, start) = (Backoff::default(), Instant::now());
        let (mut now, mut tries) = (start, 0);
        while now < start + Duration::from_secs(3_600) {
            match backoff.check(ip("192.0.2.1"), now) {
                Ok(()) => {
                    backoff.mistake(ip("192.0.2.1"), now);
                    tries += 1;
                }
                Err(pause) => now += pause,
            }
        }
        assert!((60..=90).contains(&tries), "{tries} guesses in an hour");
        assert_eq!(backoff.check(ip("192.0.2.2"), now), Ok(()), "others are heard");
    }

    #[test]
    fn a_streamer_who_mistyped_is_not_slowed_down() {
        let (backoff, now) = (Backoff::default(), Instant::now());
        for _ in 0..FORGIVEN {
            assert_eq!(backoff.check(ip("::ffff:192.0.2.1"), now), Ok(()));
            backoff.mistake(ip("192.0.2.1"), now);
        }
        assert_eq!(backoff.check(ip("192.0.2.1"), now), Ok(()));
        backoff.mistake(ip("192.0.2.1"), now);
        assert_eq!(backoff.check(ip("192.0.2.1"), now), Err(Duration::from_secs(1)));
        backoff.mistake(ip("192.0.2.1"), now + FORGOTTEN);
        assert_eq!(backoff.check(ip("192.0.2.1"), now + FORGOTTEN), Ok(()), "it was long ago");
    }

    #[test]
    fn memory_is_bounded_and_a_prefix_is_one_peer() {
        let (backoff, now) = (Backoff::default(), Instant::now());
        for n in 0..MAX_ADDRESSES as u32 + 100 {
            backoff.mistake(IpAddr::from(n.to_be_bytes()), now + Duration::from_micros(u64::from(n)));
        }
        assert_eq!(backoff.records.lock().len(), MAX_ADDRESSES);
        for n in 0..=FORGIVEN {
            backoff.mistake(ip(&format!("2001:db8::{n}")), now);
        }
        assert!(backoff.check(ip("2001:db8::ffff"), now).is_err());
        assert!(backoff.check(ip("2001:db8:0:1::"), now).is_ok());
    }
}
