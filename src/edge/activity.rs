//! What a connection is doing: the socket, the requests and the bodies report it as plain counters, and [`Watchdog`] judges by them.
//!
//! [`Watchdog`]: super::watchdog::Watchdog

use std::io::{self, IoSlice};
use std::os::fd::AsFd;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use http::Version;
use http_body::{Frame, SizeHint};
use prometheus::Histogram;
use rustix::io::Errno;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::body::{Batch, Body, BoxError};

/// Most bytes of a body that are handed to HTTP/2 ahead of the peer's window: what it holds there is not seen to be stuck. HTTP/1 has only the
/// kernel in front of it, and gets all there is.
const AHEAD_BYTES: usize = 64 * 1024;

/// What one connection has done so far.
#[derive(Debug, Default)]
pub(crate) struct Activity {
    /// Bytes read from the socket.
    pub(super) read: AtomicU64,
    /// Payload of what was written: all of it in HTTP/1, bodies in HTTP/2.
    pub(super) payload: AtomicU64,
    /// Bytes written to the socket, whatever they are.
    pub(super) written: AtomicU64,
    /// The kernel's send buffer is full.
    pub(super) blocked: AtomicBool,
    /// The next write that finds it full is to try all the same ([`Watched`]).
    insist: AtomicBool,
    /// Requests whose heads have come.
    pub(super) requests: AtomicU64,
    /// Those of them whose answers have not been handed over whole.
    pub(super) in_flight: AtomicUsize,
    /// Bytes read when the last request ended: what comes after them is the next one. (What came with the last request, pipelined, is not
    /// told apart, and has until the connection is idle for too long.)
    pub(super) read_before: AtomicU64,
    /// Bodies that have something to send.
    pub(super) sending: AtomicUsize,
    /// Seen a request of HTTP/1: then bytes without a request are the head of one.
    pub(super) http1: AtomicBool,
    /// In HTTP/1: the request in flight has come whole, and its answer is no longer waited for. It is owed to its peer, even to one that has said all that
    /// it has to say; who leaves while media is waited for has said the same, and is let go.
    owed: AtomicBool,
    /// The peer has said all that it has to say, and hyper was not told.
    ended: AtomicBool,
    /// `None` in tests, which measure nothing.
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
    /// Its body has something to send.
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

    /// Has what the peer took of a full send buffer since the last time filled up again, and so counted, when the connection is polled next.
    pub(crate) fn fill_up(&self) {
        if self.blocked.load(Relaxed) {
            self.insist.store(true, Relaxed);
        }
    }

    /// Whether the end of what the peer says is no reason to end the connection yet. Spec: RFC 9112 §9.6.
    fn outlasts_the_end(&self) -> bool {
        self.owed.load(Relaxed) || self.http1.load(Relaxed) && self.blocked.load(Relaxed)
    }

    /// The peer has said all that it has to say. True where hyper is not to be told yet.
    pub(crate) fn hides_the_end(&self) -> bool {
        let hides = self.outlasts_the_end();
        self.ended.store(hides, Relaxed);
        hides
    }

    /// Whether hyper is to be told now what was hidden from it.
    pub(crate) fn has_hidden_the_end(&self) -> bool {
        self.ended.load(Relaxed) && !self.outlasts_the_end()
    }

    /// Whether something has come between two requests of HTTP/1, which may be the beginning of the next.
    pub(crate) fn may_begin(&self) -> bool {
        let between = self.in_flight.load(Relaxed) == 0 && !self.blocked.load(Relaxed);
        self.http1.load(Relaxed) && between && self.read.load(Relaxed) != self.read_before.load(Relaxed)
    }

    /// What has come is no part of a request: empty lines, or what TLS has to say.
    pub(crate) fn came_to_nothing(&self) {
        self.read_before.store(self.read.load(Relaxed), Relaxed);
    }

    /// Something was written: the first byte of what was waited for, where that is about to be sent.
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
    /// Its answer is owed from now on ([`Activity::outlasts_the_end`]).
    pub(super) fn owe(&self) {
        self.activity.owed.store(self.activity.http1.load(Relaxed), Relaxed);
    }

    pub(super) fn set_sending(&mut self, sending: bool) {
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
        self.activity.owed.store(false, Relaxed);
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
///
/// Linux calls a socket writable when a third of its send buffer is free, which over a fast line grows to megabytes: somebody who takes 100 KB/s of them is
/// not heard of for a quarter of a minute. A write succeeds as soon as there is any room, so that trying one tells what was taken.
#[derive(Debug)]
pub(crate) struct Watched<S> {
    socket: S,
    activity: Arc<Activity>,
}

impl<S: AsFd> Watched<S> {
    pub(crate) fn new(socket: S, activity: Arc<Activity>) -> Self {
        Self { socket, activity }
    }

    /// What comes of a write of `slices`, if tokio says `polled` of it.
    fn wrote(&self, polled: Poll<io::Result<usize>>, slices: &[IoSlice<'_>]) -> Poll<io::Result<usize>> {
        let activity = &self.activity;
        let polled = if polled.is_pending() && activity.insist.load(Relaxed) {
            activity.insist.store(false, Relaxed);
            // Tokio, which was asked before, wakes us all the same when the kernel calls the socket writable.
            match rustix::io::writev(&self.socket, slices) {
                Ok(count) => Poll::Ready(Ok(count)),
                Err(Errno::AGAIN | Errno::INTR) => Poll::Pending,
                Err(error) => Poll::Ready(Err(error.into())),
            }
        } else {
            polled
        };
        activity.blocked.store(polled.is_pending(), Relaxed);
        if let Poll::Ready(Ok(count)) = polled {
            activity.written.fetch_add(count as u64, Relaxed);
            activity.sent();
        }
        polled
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

impl<S: AsyncWrite + AsFd + Unpin> AsyncWrite for Watched<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.socket).poll_write(cx, buf);
        self.wrote(polled, &[IoSlice::new(buf)])
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.socket).poll_write_vectored(cx, slices);
        self.wrote(polled, slices)
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

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    #[test]
    fn counts_return_to_zero() {
        let activity = Arc::new(Activity::default());
        drop(Counted::new(Body::from(Bytes::from_static(b"x")), activity.begin(Version::HTTP_2), None));
        assert_eq!((activity.in_flight.load(Relaxed), activity.sending.load(Relaxed)), (0, 0));
    }
}
