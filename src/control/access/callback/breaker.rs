//! Stops asking a server that does not answer, so that publishers do not pile up behind it. Sans-IO.

use std::time::{Duration, Instant};

/// Failures in a row after which nobody is asked.
const FAILURES: u32 = 5;
/// How long nobody is asked then; after that, one question at a time until one is answered.
const PAUSE: Duration = Duration::from_secs(5);

/// Counts failures in a row.
#[derive(Debug, Default)]
pub(super) struct Breaker {
    failures: u32,
    /// When the next question may be asked, while it is open.
    retry: Option<Instant>,
}

impl Breaker {
    /// Whether a question may be asked at `now`.
    pub(super) fn allows(&mut self, now: Instant) -> bool {
        match self.retry {
            Some(retry) if now < retry => false,
            Some(_) => {
                // This one is the probe; the others wait for what becomes of it.
                self.retry = Some(now + PAUSE);
                true
            }
            None => true,
        }
    }

    /// A question was answered.
    pub(super) fn answered(&mut self) {
        *self = Self::default();
    }

    /// A question was not answered. True when this opens the breaker.
    pub(super) fn failed(&mut self, now: Instant) -> bool {
        self.failures = self.failures.saturating_add(1);
        if self.failures < FAILURES {
            return false;
        }
        self.retry.replace(now + PAUSE).is_none()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_opens_after_failures_in_a_row_and_closes_with_an_answer() {
        let (mut breaker, start) = (Breaker::default(), Instant::now());
        for _ in 0..3 {
            for _ in 1..FAILURES {
                assert!(breaker.allows(start) && !breaker.failed(start));
            }
            breaker.answered();
        }
        for n in 1..=FAILURES {
            assert!(breaker.allows(start));
            assert_eq!(breaker.failed(start), n == FAILURES);
        }
        assert!(!breaker.allows(start) && !breaker.allows(start + PAUSE - Duration::from_millis(1)));
        assert!(breaker.allows(start + PAUSE), "a probe");
        assert!(!breaker.allows(start + PAUSE), "one");
        assert!(!breaker.failed(start + PAUSE));
        assert!(!breaker.allows(start + PAUSE * 2 - Duration::from_millis(1)));
        assert!(breaker.allows(start + PAUSE * 2));
        breaker.answered();
        assert!(breaker.allows(start + PAUSE * 2) && breaker.allows(start + PAUSE * 2));
    }
}
