//! Of what is written to a viewer, how much is payload: what HTTP/2 adds to it must not pass for it.
//!
//! A viewer that opens its windows byte by byte, or asks for a thousand pings, makes us write a lot and takes nothing (RELIABILITY row 55).
//!
//! Specification: RFC 9113 §4.1.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::activity::Activity;

/// Bytes of a frame's head.
const HEAD: usize = 9;
/// The type of frames that carry bodies.
const DATA: u8 = 0;

/// Counts the payload of one connection. In HTTP/1 all that is written counts; in HTTP/2 what DATA frames carry.
#[derive(Debug, Default)]
pub(crate) struct Payload {
    protocol: Protocol,
}

#[derive(Debug, Default)]
enum Protocol {
    /// Nothing was written yet.
    #[default]
    Unknown,
    Http1,
    Http2(Frames),
}

/// Where in a row of frames we are.
#[derive(Debug, Default)]
struct Frames {
    head: [u8; HEAD],
    /// Bytes of the head that are known.
    known: usize,
    /// Bytes of the frame that follow.
    left: usize,
    is_data: bool,
}

impl Payload {
    /// How much of `written`, which follows what was counted before, is payload.
    pub(crate) fn count(&mut self, written: &[u8]) -> usize {
        if let (Protocol::Unknown, Some(first)) = (&self.protocol, written.first()) {
            // An answer begins with "HTTP/1.1"; a frame with the high byte of its length, and none of ours has 4 MiB.
            self.protocol = if *first == b'H' { Protocol::Http1 } else { Protocol::Http2(Frames::default()) };
        }
        match &mut self.protocol {
            Protocol::Unknown => 0,
            Protocol::Http1 => written.len(),
            Protocol::Http2(frames) => frames.count(written),
        }
    }
}

impl Frames {
    fn count(&mut self, mut written: &[u8]) -> usize {
        let mut payload = 0;
        loop {
            let taken = self.left.min(written.len());
            if self.is_data {
                payload += taken;
            }
            self.left -= taken;
            written = written.get(taken..).unwrap_or_default();
            if written.is_empty() {
                return payload;
            }
            let missing = self.head.get_mut(self.known..).unwrap_or_default();
            let count = missing.len().min(written.len());
            let (head, rest) = written.split_at(count);
            for (place, byte) in missing.iter_mut().zip(head) {
                *place = *byte;
            }
            self.known += count;
            written = rest;
            if self.known == HEAD {
                let [high, middle, low, kind, ..] = self.head;
                self.left = u32::from_be_bytes([0, high, middle, low]) as usize;
                self.is_data = kind == DATA;
                self.known = 0;
            }
        }
    }
}

/// A stream that tells how much payload was written to it, and whose end is not told while an answer is owed.
#[derive(Debug)]
pub(crate) struct Metered<S> {
    stream: S,
    payload: Payload,
    activity: Arc<Activity>,
}

impl<S> Metered<S> {
    pub(crate) fn new(stream: S, activity: Arc<Activity>) -> Self {
        Self { stream, payload: Payload::default(), activity }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Metered<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let polled = Pin::new(&mut self.stream).poll_read(cx, buffer);
        let ended = matches!(polled, Poll::Ready(Ok(()))) && buffer.filled().len() == before && buffer.remaining() > 0;
        // Hyper would drop the answer. It is asked to read again when that is sent.
        if ended && self.activity.hides_the_end() { Poll::Pending } else { polled }
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Metered<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, piece: &[u8]) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.stream).poll_write(cx, piece);
        if let Poll::Ready(Ok(count)) = polled {
            let payload = self.payload.count(piece.get(..count).unwrap_or(piece));
            self.activity.took(payload);
        }
        polled
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.stream).poll_write_vectored(cx, slices);
        if let Poll::Ready(Ok(mut count)) = polled {
            let mut payload = 0;
            for slice in slices {
                let written = slice.get(..count.min(slice.len())).unwrap_or_default();
                payload += self.payload.count(written);
                count -= written.len();
            }
            self.activity.took(payload);
        }
        polled
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn frame(kind: u8, body: &[u8]) -> Vec<u8> {
        let length = u32::try_from(body.len()).expect("a short body").to_be_bytes();
        [&length[1..], &[kind, 0, 0, 0, 0, 1], body].concat()
    }

    #[test]
    fn all_of_http_1_counts() {
        let mut payload = Payload::default();
        assert_eq!((payload.count(b"HTTP/1.1 200 OK\r\n\r\n"), payload.count(&[0; 9])), (19, 9));
    }

    proptest! {
        #[test]
        fn data_counts_wherever_writes_are_cut(
            frames in proptest::collection::vec((0_u8..10, proptest::collection::vec(any::<u8>(), 0..40)), 1..20),
            cut in 1_usize..50,
        ) {
            let written: Vec<u8> = [frame(4, &[])]
                .into_iter()
                .chain(frames.iter().map(|(kind, body)| frame(*kind, body)))
                .flatten()
                .collect();
            let mut payload = Payload::default();
            let counted: usize = written.chunks(cut).map(|piece| payload.count(piece)).sum();
            let wanted: usize = frames.iter().filter(|(kind, _)| *kind == DATA).map(|(_, body)| body.len()).sum();
            prop_assert_eq!(counted, wanted);
        }
    }
}
