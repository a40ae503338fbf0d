//! When a connection has done too little for too long, or too much.
//!
//! Every connection is looked at a few times within its shortest time limit. A viewer whose request waits for media owes us nothing; one that has
//! been sent something must take it.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use super::activity::Activity;
use super::config::Config;

/// Looks within the shortest time limit.
const LOOKS: u32 = 8;
/// A viewer must take at least this many bytes a second of what it asked for; less is no watching, but holding.
const MIN_BYTES_PER_SECOND: u64 = 1024;
/// What a client may send in all, beside the requests that it makes and a share of what it takes: settings, pings, window updates, a body.
const CHATTER_BYTES: u64 = 128 * 1024;
/// How much of it is forgotten in a second.
const CHATTER_BYTES_PER_SECOND: u64 = 16 * 1024;
/// What a request allows: as long a head as is taken.
const CHATTER_BYTES_PER_REQUEST: u64 = 32 * 1024;
/// A byte for so many of payload taken: window updates come at every few thousand, as small as clients make their windows.
const PAYLOAD_PER_CHATTER: u64 = 8;
/// Idle for so long, a connection is closed where its place is needed by others.
const IDLE_UNDER_PRESSURE: Duration = Duration::from_secs(2);

/// What a look at a connection says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// All is well.
    Fine,
    /// Nothing was asked for a while: no new requests, please.
    Idle,
    /// A request's head is not coming along.
    SlowHead,
    /// What was asked for is not being taken.
    SlowReader,
    /// Far more is sent than asked for.
    Chatter,
}

/// The time limits of one connection.
#[derive(Debug)]
pub(crate) struct Watchdog {
    activity: Arc<Activity>,
    /// `edge.header_timeout`.
    header_timeout: Duration,
    /// `edge.write_timeout`.
    write_timeout: Duration,
    /// `edge.idle_timeout`.
    idle_timeout: Duration,
    /// No more requests are taken.
    draining: bool,
    /// While it owes us reading: what was written by when, over `write_timeout`.
    owing: VecDeque<(Instant, Written)>,
    chatter: Chatter,
    /// Since when nothing is in flight.
    idle: Option<Idle>,
}

/// A leaky bucket of what was sent beside requests.
#[derive(Debug)]
struct Chatter {
    /// When it was looked at last. The counters below are those of that time.
    at: Instant,
    /// Bytes in the bucket.
    level: u64,
    read: u64,
    requests: u64,
    payload: u64,
}

/// What was written to a connection by some time.
#[derive(Debug, Clone, Copy)]
struct Written {
    payload: u64,
    bytes: u64,
}

/// A stretch of time with nothing in flight.
#[derive(Debug)]
struct Idle {
    since: Instant,
    /// Requests at that time.
    requests: u64,
    /// Since when more bytes have come, but no request.
    head_since: Option<Instant>,
}

impl Watchdog {
    /// Watches `activity` by the limits of `config`.
    pub(crate) fn new(activity: Arc<Activity>, config: &Config) -> Self {
        Self {
            activity,
            header_timeout: config.header_timeout,
            write_timeout: config.write_timeout,
            idle_timeout: config.idle_timeout,
            draining: false,
            owing: VecDeque::new(),
            chatter: Chatter { at: Instant::now(), level: 0, read: 0, requests: 0, payload: 0 },
            idle: None,
        }
    }

    /// How often to look: a limit is overstepped by the time between two looks at most.
    pub(crate) fn interval(&self) -> Duration {
        self.header_timeout.min(self.write_timeout).min(self.idle_timeout) / LOOKS
    }

    /// No more requests are taken; what is still being sent must keep moving.
    pub(crate) fn set_draining(&mut self) {
        self.draining = true;
    }

    /// Looks at the connection. Under pressure, others need the places of connections that are idle.
    pub(crate) fn look(&mut self, now: Instant, under_pressure: bool) -> Verdict {
        // In time for the next look: each counts what was taken until the one before.
        self.activity.fill_up();
        if self.is_slow_reader(now) {
            return Verdict::SlowReader;
        }
        if self.chatter.is_too_much(&self.activity, now) {
            return Verdict::Chatter;
        }
        // Over HTTP/1 the last answer may have been handed over whole while the kernel has yet to get rid of it.
        let blocked = self.activity.blocked.load(Relaxed);
        if self.draining || blocked || self.activity.in_flight.load(Relaxed) > 0 {
            self.idle = None;
            return Verdict::Fine;
        }
        self.look_at_idle(now, under_pressure)
    }

    /// Looks at a connection with nothing in flight: it may be sending us the head of a request, or nothing at all.
    fn look_at_idle(&mut self, now: Instant, under_pressure: bool) -> Verdict {
        let requests = self.activity.requests.load(Relaxed);
        let more = self.activity.read.load(Relaxed) != self.activity.read_before.load(Relaxed);
        let fresh = || Idle { since: now, requests, head_since: None };
        let idle = self.idle.get_or_insert_with(fresh);
        if idle.requests != requests {
            // Requests have come and gone between two looks.
            *idle = fresh();
        }
        if requests == 0 {
            let late = now.saturating_duration_since(idle.since) >= self.header_timeout;
            return if late { Verdict::SlowHead } else { Verdict::Fine };
        }
        if self.activity.http1.load(Relaxed) && more {
            let since = *idle.head_since.get_or_insert(now);
            if now.saturating_duration_since(since) >= self.header_timeout {
                return Verdict::SlowHead;
            }
        }
        let patience = if under_pressure { self.idle_timeout.min(IDLE_UNDER_PRESSURE) } else { self.idle_timeout };
        if now.saturating_duration_since(idle.since) >= patience { Verdict::Idle } else { Verdict::Fine }
    }

    /// Whether there was nothing to read, to answer or to write between the look at `now` and the one before.
    pub(crate) fn is_quiet(&self, now: Instant) -> bool {
        let more = self.activity.read.load(Relaxed) != self.activity.read_before.load(Relaxed);
        !more && self.idle.as_ref().is_some_and(|idle| idle.since < now)
    }

    fn is_slow_reader(&mut self, now: Instant) -> bool {
        // Once no requests are taken and none is in flight, all that can be left is what was sent last.
        let last = self.draining && self.activity.in_flight.load(Relaxed) == 0;
        let sending = self.activity.sending.load(Relaxed) > 0;
        let owes = last || self.activity.blocked.load(Relaxed) || sending;
        if !owes {
            self.owing.clear();
            return false;
        }
        let (payload, bytes) = (self.activity.payload.load(Relaxed), self.activity.written.load(Relaxed));
        let age = |at: Instant| now.saturating_duration_since(at);
        if self.owing.back().is_none_or(|(at, _)| age(*at) >= self.write_timeout / LOOKS) {
            self.owing.push_back((now, Written { payload, bytes }));
        }
        while self.owing.get(1).is_some_and(|(at, _)| age(*at) >= self.write_timeout) {
            self.owing.pop_front();
        }
        let Some((since, before)) = self.owing.front() else { return false };
        let elapsed = age(*since);
        if elapsed < self.write_timeout {
            return false;
        }
        let least = u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX).saturating_mul(MIN_BYTES_PER_SECOND) / 1000;
        // Where all payload was handed over, the rest of it is counted already, and may wait to be encrypted.
        let taken = if sending { payload.saturating_sub(before.payload) } else { bytes.saturating_sub(before.bytes) };
        taken < least
    }
}

impl Chatter {
    fn is_too_much(&mut self, activity: &Activity, now: Instant) -> bool {
        let (read, requests) = (activity.read.load(Relaxed), activity.requests.load(Relaxed));
        let payload = activity.payload.load(Relaxed);
        let millis = u64::try_from(now.saturating_duration_since(self.at).as_millis()).unwrap_or(u64::MAX);
        let allowed = (requests - self.requests)
            .saturating_mul(CHATTER_BYTES_PER_REQUEST)
            .saturating_add((payload - self.payload) / PAYLOAD_PER_CHATTER)
            .saturating_add(millis.saturating_mul(CHATTER_BYTES_PER_SECOND) / 1000);
        let level = self.level.saturating_add(read - self.read).saturating_sub(allowed);
        *self = Self { at: now, level, read, requests, payload };
        level > CHATTER_BYTES
    }
}

#[cfg(test)]
mod tests {
    use http::Version;

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn watchdog() -> (Arc<Activity>, Watchdog, Instant) {
        let activity = Arc::new(Activity::default());
        let watchdog = Watchdog::new(Arc::clone(&activity), &Config::default());
        (activity, watchdog, Instant::now())
    }

    /// Looks once a second until something is wrong.
    fn until(watchdog: &mut Watchdog, from: Instant, limit: u32, mut each: impl FnMut()) -> (Verdict, u32) {
        for second in 0..limit {
            each();
            let verdict = watchdog.look(from + SECOND * second, false);
            if verdict != Verdict::Fine {
                return (verdict, second);
            }
        }
        (Verdict::Fine, limit)
    }

    #[test]
    fn a_connection_without_a_request_is_slow() {
        let (activity, mut watchdog, start) = watchdog();
        let trickle = || _ = activity.read.fetch_add(1, Relaxed);
        assert_eq!(until(&mut watchdog, start, 100, trickle), (Verdict::SlowHead, 10));
    }

    #[test]
    fn a_waiting_request_is_never_slow() {
        let (activity, mut watchdog, start) = watchdog();
        let _held = activity.begin(Version::HTTP_11);
        assert_eq!(until(&mut watchdog, start, 1000, || ()).0, Verdict::Fine);
    }

    #[test]
    fn a_second_head_has_its_deadline_too_but_only_in_http_1() {
        let (activity, mut watchdog, start) = watchdog();
        drop(activity.begin(Version::HTTP_11));
        let trickle = || _ = activity.read.fetch_add(1, Relaxed);
        assert_eq!(until(&mut watchdog, start, 100, trickle), (Verdict::SlowHead, 10));

        let (activity, mut watchdog, start) = self::watchdog();
        drop(activity.begin(Version::HTTP_2));
        let pings = || _ = activity.read.fetch_add(17, Relaxed);
        assert_eq!(until(&mut watchdog, start, 100, pings), (Verdict::Idle, 60));
    }

    #[test]
    fn who_takes_less_than_the_least_rate_is_slow() {
        for (rate, wanted) in [(0_usize, Verdict::SlowReader), (1000, Verdict::SlowReader), (1024, Verdict::Fine)] {
            let (activity, mut watchdog, start) = watchdog();
            let mut request = activity.begin(Version::HTTP_2);
            request.set_sending(true);
            let (verdict, _) = until(&mut watchdog, start, 100, || activity.took(rate));
            assert_eq!(verdict, wanted, "{rate} bytes a second");
        }
    }

    #[test]
    fn who_takes_nothing_is_found_within_the_time_however_much_it_took_before() {
        let (activity, mut watchdog, start) = watchdog();
        let mut request = activity.begin(Version::HTTP_2);
        request.set_sending(true);
        let mut seconds = 0;
        let found = until(&mut watchdog, start, 100, || {
            seconds += 1;
            activity.took(if seconds < 33 { 1 << 20 } else { 0 });
        });
        assert!(matches!(found, (Verdict::SlowReader, 41..=43)), "{found:?}");
    }

    #[test]
    fn who_sends_much_and_asks_for_little_is_found() {
        let (activity, mut watchdog, start) = watchdog();
        let _held = activity.begin(Version::HTTP_2);
        let mut pings = |rate| until(&mut watchdog, start, 100, || _ = activity.read.fetch_add(rate, Relaxed));
        assert_eq!(pings(8 * 1024), (Verdict::Fine, 100));
        assert!(matches!(pings(1 << 20), (Verdict::Chatter, 0..=1)));

        // A player that takes 4 MB/s and grants each KiB of it by itself.
        let (activity, mut watchdog, start) = self::watchdog();
        let _held = activity.begin(Version::HTTP_2);
        let found = until(&mut watchdog, start, 100, || {
            activity.took(4 << 20);
            activity.read.fetch_add(4096 * 2 * 13, Relaxed);
        });
        assert_eq!(found, (Verdict::Fine, 100));
    }

    #[test]
    fn under_pressure_idle_connections_go_and_waiting_ones_stay() {
        let (activity, mut watchdog, start) = watchdog();
        let held = activity.begin(Version::HTTP_11);
        assert_eq!(watchdog.look(start + SECOND * 100, true), Verdict::Fine);
        drop(held);
        assert_eq!(watchdog.look(start + SECOND * 101, true), Verdict::Fine);
        assert_eq!(watchdog.look(start + SECOND * 102, true), Verdict::Fine, "it may be between two requests");
        assert_eq!(watchdog.look(start + SECOND * 103, false), Verdict::Fine);
        assert_eq!(watchdog.look(start + SECOND * 103, true), Verdict::Idle);
    }

    #[test]
    fn a_connection_is_quiet_when_two_looks_see_nothing() {
        let (activity, mut watchdog, start) = watchdog();
        let mut quiet = |second| {
            watchdog.look(start + SECOND * second, false);
            watchdog.is_quiet(start + SECOND * second)
        };
        let held = activity.begin(Version::HTTP_11);
        assert!(!quiet(0), "a request is in flight");
        drop(held);
        assert!(!quiet(1), "it was until just now");
        assert!(quiet(2));
        drop(activity.begin(Version::HTTP_11));
        assert!(!quiet(3), "one has come and gone");
        assert!(quiet(4) && quiet(5));
        activity.blocked.store(true, Relaxed);
        assert!(!quiet(6), "the last answer is still being taken");
        activity.blocked.store(false, Relaxed);
        assert!(!quiet(7) && quiet(8));
        activity.read.fetch_add(1, Relaxed);
        assert!(!quiet(9), "a head is coming");
    }

    #[test]
    fn who_still_takes_the_last_answer_is_not_idle() {
        let (activity, mut watchdog, start) = watchdog();
        drop(activity.begin(Version::HTTP_11));
        activity.blocked.store(true, Relaxed);
        let takes_and_asks_for_more = || {
            activity.took(2_048);
            activity.written.fetch_add(2_048, Relaxed);
            activity.read.fetch_add(1, Relaxed);
        };
        assert_eq!(until(&mut watchdog, start, 100, takes_and_asks_for_more).0, Verdict::Fine);
        assert_eq!(until(&mut watchdog, start + SECOND * 100, 100, || ()).0, Verdict::SlowReader);
    }
}
