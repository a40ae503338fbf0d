//! Gathers what is written in pieces until the connection has nothing more to do, so that TLS makes full records of it and the kernel is
//! called once for many.
//!
//! HTTP/2 writes and flushes frame by frame: as they come, each slice of a segment would be a record and a call of its own, and each full
//! frame of 16 KiB two records, since its head makes it longer than one. What is encrypted is copied anyway; a copy before it, while it is
//! still in the processor's cache, is much cheaper than a call.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::{Buf, BytesMut};
use parking_lot::Mutex;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// Most bytes gathered: four records. Held by connections that are being written to, by no other.
const MOST: usize = 64 * 1024;

/// A stream whose writes are gathered. A flush does nothing: whoever polls the connection calls [`poll_drain`](Self::poll_drain) behind it,
/// through a clone. Both live in one task, so that the lock is never waited for.
#[derive(Debug)]
pub(crate) struct Gathered<S>(Arc<Mutex<State<S>>>);

#[derive(Debug)]
struct State<S> {
    stream: S,
    /// Empty, and without memory, between a drain and the next write.
    buffer: BytesMut,
    /// The stream was written to and may hold some of it back: TLS does where the kernel takes no more.
    unflushed: bool,
    /// Whoever writes waits for room, and is to be asked again when there is some.
    wants_room: bool,
}

impl<S> Clone for Gathered<S> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<S> Gathered<S> {
    pub(crate) fn new(stream: S) -> Self {
        Self(Arc::new(Mutex::new(State { stream, buffer: BytesMut::new(), unflushed: false, wants_room: false })))
    }
}

impl<S: AsyncWrite + Unpin> Gathered<S> {
    /// Writes what was gathered. Pending while the stream takes no more; the task is woken when it does.
    pub(crate) fn poll_drain(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.0.lock().poll_drain(cx)
    }
}

impl<S: AsyncWrite + Unpin> State<S> {
    fn poll_drain(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.buffer.is_empty() && !self.unflushed {
            return Poll::Ready(Ok(()));
        }
        while !self.buffer.is_empty() {
            let count = ready!(Pin::new(&mut self.stream).poll_write(cx, &self.buffer))?;
            if count == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.unflushed = true;
            self.buffer.advance(count);
        }
        self.buffer = BytesMut::new();
        if std::mem::take(&mut self.wants_room) {
            cx.waker().wake_by_ref();
        }
        ready!(Pin::new(&mut self.stream).poll_flush(cx))?;
        self.unflushed = false;
        Poll::Ready(Ok(()))
    }

    /// Makes room where there is none.
    fn poll_room(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.buffer.len() >= MOST && self.poll_drain(cx)?.is_pending() && self.buffer.len() >= MOST {
            self.wants_room = true;
            return Poll::Pending;
        }
        Poll::Ready(Ok(()))
    }

    /// Takes as much of `piece` as there is room for, and says how much that is.
    fn take(&mut self, piece: &[u8]) -> usize {
        let count = piece.len().min(MOST - self.buffer.len());
        self.buffer.extend_from_slice(piece.get(..count).unwrap_or(piece));
        count
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Gathered<S> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, piece: &[u8]) -> Poll<io::Result<usize>> {
        let mut state = self.0.lock();
        ready!(state.poll_room(cx))?;
        Poll::Ready(Ok(state.take(piece)))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let mut state = self.0.lock();
        ready!(state.poll_room(cx))?;
        let whole: usize = slices.iter().map(|slice| slice.len()).sum();
        let room = MOST - state.buffer.len();
        state.buffer.reserve(whole.min(room));
        Poll::Ready(Ok(slices.iter().map(|slice| state.take(slice)).sum()))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut state = self.0.lock();
        ready!(state.poll_drain(cx))?;
        Pin::new(&mut state.stream).poll_shutdown(cx)
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Gathered<S> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0.lock().stream).poll_read(cx, buffer)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncWriteExt as _;

    use super::*;

    /// Notes how it was written to; takes at most `most` bytes at a time.
    #[derive(Default)]
    struct Sink {
        writes: Vec<usize>,
        bytes: Vec<u8>,
        most: usize,
        /// So many flushes find it busy.
        busy: usize,
        /// It takes nothing now.
        full: bool,
    }

    impl AsyncWrite for Sink {
        fn poll_write(mut self: Pin<&mut Self>, _: &mut Context<'_>, piece: &[u8]) -> Poll<io::Result<usize>> {
            if self.full {
                return Poll::Pending;
            }
            let count = piece.len().min(self.most);
            self.writes.push(count);
            self.bytes.extend_from_slice(&piece[..count]);
            Poll::Ready(Ok(count))
        }
        fn poll_flush(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            let Some(busy) = self.busy.checked_sub(1) else { return Poll::Ready(Ok(())) };
            self.busy = busy;
            Poll::Pending
        }
        fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }
    }

    #[tokio::test]
    async fn pieces_leave_together_and_in_order() {
        let mut gathered = Gathered::new(Sink { most: usize::MAX, ..Sink::default() });
        let wanted: Vec<u8> = (0..200_000_u32).map(|n| n as u8).collect();
        for piece in wanted.chunks(9_001) {
            gathered.write_all(piece).await.unwrap();
        }
        gathered.flush().await.unwrap();
        std::future::poll_fn(|cx| gathered.poll_drain(cx)).await.unwrap();
        let state = gathered.0.lock();
        assert_eq!(state.buffer.capacity(), 0, "an idle connection holds no memory");
        assert_eq!(state.stream.writes, [MOST, MOST, MOST, 200_000 - 3 * MOST]);
        assert!(state.stream.bytes == wanted);
    }

    #[tokio::test]
    async fn a_reluctant_stream_gets_everything_once() {
        let mut gathered = Gathered::new(Sink { most: 1_000, ..Sink::default() });
        let (small, large) = (vec![1_u8; 5_000], vec![2_u8; 2 * MOST]);
        let mut pieces = [IoSlice::new(&small), IoSlice::new(&large)];
        let mut rest = &mut pieces[..];
        while !rest.is_empty() {
            let count = gathered.write_vectored(rest).await.unwrap();
            IoSlice::advance_slices(&mut rest, count);
        }
        gathered.shutdown().await.unwrap();
        assert!(gathered.0.lock().stream.bytes == [small, large].concat());
    }

    /// TLS takes what the kernel does not, and only a flush gets it out.
    #[tokio::test]
    async fn what_a_stream_holds_back_is_flushed_again() {
        let mut gathered = Gathered::new(Sink { most: usize::MAX, busy: 2, ..Sink::default() });
        gathered.write_all(b"the end of a script").await.unwrap();
        let mut context = Context::from_waker(std::task::Waker::noop());
        for _ in 0..2 {
            assert!(gathered.poll_drain(&mut context).is_pending(), "it is not out yet");
        }
        assert!(matches!(gathered.poll_drain(&mut context), Poll::Ready(Ok(()))));
        assert_eq!(gathered.0.lock().stream.busy, 0);
    }

    /// Nobody else would wake whoever waits for room: the stream that was busy then is not any more.
    #[tokio::test]
    async fn who_waits_for_room_is_woken_when_all_is_written() {
        struct Woken(std::sync::atomic::AtomicBool);
        impl std::task::Wake for Woken {
            fn wake(self: Arc<Self>) {
                self.0.store(true, std::sync::atomic::Ordering::Relaxed);
            }
        }
        let mut gathered = Gathered::new(Sink { most: usize::MAX, full: true, ..Sink::default() });
        gathered.write_all(&[1; MOST]).await.unwrap();
        let woken = Arc::new(Woken(false.into()));
        let waker = Arc::clone(&woken).into();
        let mut context = Context::from_waker(&waker);
        assert!(Pin::new(&mut gathered).poll_write(&mut context, b"more").is_pending());
        gathered.0.lock().stream.full = false;
        assert!(gathered.poll_drain(&mut context).is_ready());
        assert!(woken.0.load(std::sync::atomic::Ordering::Relaxed));
    }
}
