//! What a connection is doing, and when it has done too little for too long.
//!
//! Every connection is looked at a few times within its shortest time limit. A viewer whose request waits for media owes us nothing; one that has
//! been sent something must take it. The socket, the requests and the bodies report what they do as plain counters.

use std::collections::VecDeque;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use http::Version;
use http_body::{Frame, SizeHint};
use prometheus::Histogram;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::body::{Batch, Body, BoxError};
use super::config::Config;

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
/// Most bytes of a body that are handed to HTTP/2 ahead of the peer's window: what it holds there is not seen to be stuck. HTTP/1 has only the
/// kernel in front of it, and gets all there is.
const AHEAD_BYTES: usize = 64 * 1024;

/// What one connection has done so far.
#[derive(Debug, Default)]
pub(crate) struct Activity {
    read: AtomicU64,
    /// Payload of what was written: all of it in HTTP/1, bodies in HTTP/2.
    payload: AtomicU64,
    /// The kernel's send buffer is full.
    blocked: AtomicBool,
    requests: AtomicU64,
    in_flight: AtomicUsize,
    /// Bytes read when the last request ended: what comes after them is the next one. (What came with the last request, pipelined, is not
    /// told apart, and has until the connection is idle for too long.)
    read_before: AtomicU64,
    /// Bodies that have something to send.
    sending: AtomicUsize,
    /// Seen a request of HTTP/1: then bytes without a request are the head of one.
    http1: AtomicBool,
    first_byte: Option<FirstByte>,
}

/// How long what was waited for takes from being there to being sent.
#[derive(Debug)]
struct FirstByte {
    opened: Instant,
    /// When it was there, in microseconds after `opened` and one more; 0 while no such answer is about to be sent.
    there: AtomicU64,
    histogram: Histogram,
}

/// A request in flight, from its head to the end of its body.
#[derive(Debug)]
pub(crate) struct InFlight {
    activity: Arc<Activity>,
    sending: bool,
    /// Most bytes of the body to hand over at a time.
    most: usize,
}

impl Activity {
    /// Of a connection opened now, which tells `histogram` how long what was waited for takes to be sent.
    pub(crate) fn measuring(histogram: Histogram) -> Self {
        let first_byte = FirstByte { opened: Instant::now(), there: AtomicU64::new(0), histogram };
        Self { first_byte: Some(first_byte), ..Self::default() }
    }

    /// The answer that is handed over now could be given since `there`.
    fn await_byte(&self, there: Instant) {
        if let Some(first) = &self.first_byte {
            let micros = there.saturating_duration_since(first.opened).as_micros();
            first.there.store(u64::try_from(micros).unwrap_or(u64::MAX).saturating_add(1), Relaxed);
        }
    }

    /// So much payload was written.
    pub(crate) fn took(&self, bytes: usize) {
        self.payload.fetch_add(bytes as u64, Relaxed);
    }

    fn sent(&self) {
        let Some(first) = self.first_byte.as_ref().filter(|first| first.there.load(Relaxed) != 0) else { return };
        let there = Duration::from_micros(first.there.swap(0, Relaxed).saturating_sub(1));
        first.histogram.observe(first.opened.elapsed().saturating_sub(there).as_secs_f64());
    }

    /// A request has come.
    pub(crate) fn begin(self: &Arc<Self>, version: Version) -> InFlight {
        self.requests.fetch_add(1, Relaxed);
        self.in_flight.fetch_add(1, Relaxed);
        let http1 = version < Version::HTTP_2;
        if http1 {
            self.http1.store(true, Relaxed);
        }
        InFlight { activity: Arc::clone(self), sending: false, most: if http1 { usize::MAX } else { AHEAD_BYTES } }
    }
}

impl InFlight {
    fn set_sending(&mut self, sending: bool) {
        match (self.sending, sending) {
            (false, true) => _ = self.activity.sending.fetch_add(1, Relaxed),
            (true, false) => _ = self.activity.sending.fetch_sub(1, Relaxed),
            _ => {}
        }
        self.sending = sending;
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.set_sending(false);
        self.activity.read_before.store(self.activity.read.load(Relaxed), Relaxed);
        self.activity.in_flight.fetch_sub(1, Relaxed);
    }
}

/// A body that reports whether it has something to send.
#[derive(Debug)]
pub(crate) struct Counted {
    body: Body,
    request: InFlight,
    /// Since when the answer could be given, where it was waited for; nothing once it is being sent.
    there: Option<Instant>,
}

/// Goes with an answer that was waited for, as an extension: since when it could be given.
#[derive(Debug, Clone, Copy)]
pub(crate) struct WaitedFor(pub(crate) Instant);

impl Counted {
    pub(crate) fn new(body: Body, mut request: InFlight, waited: Option<WaitedFor>) -> Self {
        request.set_sending(!http_body::Body::is_end_stream(&body));
        Self { body, request, there: waited.map(|WaitedFor(there)| there) }
    }
}

impl http_body::Body for Counted {
    type Data = Batch;
    type Error = BoxError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Batch>, BoxError>>> {
        let most = self.request.most;
        let polled = self.body.poll_batch(cx, most);
        if matches!(polled, Poll::Ready(Some(_)))
            && let Some(there) = self.there.take()
        {
            self.request.activity.await_byte(there);
        }
        // A frame that was taken is still being sent: whoever took it comes back when it is gone.
        self.request.set_sending(matches!(polled, Poll::Ready(Some(_))));
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// A socket that reports what it does.
#[derive(Debug)]
pub(crate) struct Watched<S> {
    socket: S,
    activity: Arc<Activity>,
}

impl<S> Watched<S> {
    pub(crate) fn new(socket: S, activity: Arc<Activity>) -> Self {
        Self { socket, activity }
    }

    fn wrote(&self, polled: &Poll<io::Result<usize>>) {
        self.activity.blocked.store(polled.is_pending(), Relaxed);
        if matches!(polled, Poll::Ready(Ok(_))) {
            self.activity.sent();
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Watched<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let polled = Pin::new(&mut self.socket).poll_read(cx, buf);
        let count = buf.filled().len().saturating_sub(before);
        self.activity.read.fetch_add(count as u64, Relaxed);
        polled
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Watched<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.socket).poll_write(cx, buf);
        self.wrote(&polled);
        polled
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.socket).poll_write_vectored(cx, slices);
        self.wrote(&polled);
        polled
    }

    fn is_write_vectored(&self) -> bool {
        self.socket.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_shutdown(cx)
    }
}

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
    header_timeout: Duration,
    write_timeout: Duration,
    idle_timeout: Duration,
    draining: bool,
    /// While it owes us reading: what payload was written by when, over `write_timeout`.
    owing: VecDeque<(Instant, u64)>,
    chatter: Chatter,
    /// Since when nothing is in flight.
    idle: Option<Idle>,
}

/// A leaky bucket of what was sent beside requests.
#[derive(Debug)]
struct Chatter {
    at: Instant,
    level: u64,
    read: u64,
    requests: u64,
    payload: u64,
}

#[derive(Debug)]
struct Idle {
    since: Instant,
    /// Requests at that time.
    requests: u64,
    /// Since when more bytes have come, but no request.
    head_since: Option<Instant>,
}

impl Watchdog {
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

    /// How often to look: a limit is overstepped by an eighth at most.
    pub(crate) fn interval(&self) -> Duration {
        self.header_timeout.min(self.write_timeout).min(self.idle_timeout) / 8
    }

    /// No more requests are taken; what is still being sent must keep moving.
    pub(crate) fn set_draining(&mut self) {
        self.draining = true;
    }

    /// Looks at the connection. Under pressure, others need the places of connections that are idle.
    pub(crate) fn look(&mut self, now: Instant, under_pressure: bool) -> Verdict {
        if self.is_slow_reader(now) {
            return Verdict::SlowReader;
        }
        if self.chatter.is_too_much(&self.activity, now) {
            return Verdict::Chatter;
        }
        let requests = self.activity.requests.load(Relaxed);
        // Over HTTP/1 the last answer may have been handed over whole while the kernel has yet to get rid of it.
        let blocked = self.activity.blocked.load(Relaxed);
        if self.draining || blocked || self.activity.in_flight.load(Relaxed) > 0 {
            self.idle = None;
            return Verdict::Fine;
        }
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

    fn is_slow_reader(&mut self, now: Instant) -> bool {
        // Once no requests are taken and none is in flight, all that can be left is what was sent last.
        let last = self.draining && self.activity.in_flight.load(Relaxed) == 0;
        let owes = last || self.activity.blocked.load(Relaxed) || self.activity.sending.load(Relaxed) > 0;
        if !owes {
            self.owing.clear();
            return false;
        }
        let payload = self.activity.payload.load(Relaxed);
        let age = |at: Instant| now.saturating_duration_since(at);
        // Some eight of them.
        if self.owing.back().is_none_or(|(at, _)| age(*at) >= self.write_timeout / 8) {
            self.owing.push_back((now, payload));
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
        payload.saturating_sub(*before) < least
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
    use bytes::Bytes;

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
        assert_eq!(watchdog.look(start + SECOND * 103, false), Verdict::Fine);
        assert_eq!(watchdog.look(start + SECOND * 103, true), Verdict::Idle);
    }

    #[test]
    fn who_still_takes_the_last_answer_is_not_idle() {
        let (activity, mut watchdog, start) = watchdog();
        drop(activity.begin(Version::HTTP_11));
        activity.blocked.store(true, Relaxed);
        let takes_and_asks_for_more = || {
            activity.took(2_048);
            activity.read.fetch_add(1, Relaxed);
        };
        assert_eq!(until(&mut watchdog, start, 100, takes_and_asks_for_more).0, Verdict::Fine);
        assert_eq!(until(&mut watchdog, start + SECOND * 100, 100, || ()).0, Verdict::SlowReader);
    }

    #[test]
    fn counts_return_to_zero() {
        let activity = Arc::new(Activity::default());
        drop(Counted::new(Body::from(Bytes::from_static(b"x")), activity.begin(Version::HTTP_2), None));
        assert_eq!((activity.in_flight.load(Relaxed), activity.sending.load(Relaxed)), (0, 0));
    }
}
