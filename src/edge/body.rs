//! Response bodies: refcounted slices that are handed to the connection as they are.

use std::collections::VecDeque;
use std::io::IoSlice;
use std::ops::Range;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::{Buf, Bytes};
use http_body::{Frame, SizeHint};
use http_body_util::combinators::UnsyncBoxBody;

/// Why a body broke off; the connection or stream is reset then, so that nobody takes the rest for the whole.
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// A body of unknown kind and length.
pub type Boxed = UnsyncBoxBody<Bytes, BoxError>;

/// A response body.
#[derive(Debug)]
pub enum Body {
    /// Slices in order, of known total length. An empty list is an empty body; a playlist is one slice, a segment two per part.
    Slices(VecDeque<Bytes>),
    /// Of unknown length: a segment in the making, an answer of the API.
    Open(Boxed),
}

/// Slices that are handed to the connection together: one call of the kernel, or full frames of HTTP/2, for many of them.
#[derive(Debug, Default)]
pub struct Batch(VecDeque<Bytes>);

impl From<Bytes> for Batch {
    fn from(bytes: Bytes) -> Self {
        Self([bytes].into())
    }
}

impl Buf for Batch {
    fn remaining(&self) -> usize {
        self.0.iter().map(Bytes::len).sum()
    }

    fn chunk(&self) -> &[u8] {
        self.0.front().map_or(&[], |slice| slice)
    }

    fn chunks_vectored<'a>(&'a self, places: &mut [IoSlice<'a>]) -> usize {
        let mut count = 0;
        for (place, slice) in places.iter_mut().zip(&self.0) {
            *place = IoSlice::new(slice);
            count += 1;
        }
        count
    }

    fn advance(&mut self, count: usize) {
        let mut left = count;
        while let Some(first) = self.0.front_mut() {
            if left < first.len() {
                first.advance(left);
                return;
            }
            left -= first.len();
            self.0.pop_front();
        }
        debug_assert_eq!(left, 0, "no more is used than there is");
    }
}

impl Body {
    /// No body.
    pub fn empty() -> Self {
        Self::Slices(VecDeque::new())
    }

    /// Length in bytes where it is known.
    pub fn len(&self) -> Option<u64> {
        match self {
            Self::Slices(slices) => Some(total(slices)),
            Self::Open(_) => None,
        }
    }

    /// The next slices, `most` bytes of them or a single larger one; or what of an open body is there.
    pub fn poll_batch(&mut self, cx: &mut Context<'_>, most: usize) -> Poll<Option<Result<Frame<Batch>, BoxError>>> {
        let slices = match self {
            Self::Slices(slices) => slices,
            Self::Open(open) => {
                return http_body::Body::poll_frame(Pin::new(open), cx).map_ok(|frame| frame.map_data(Batch::from));
            }
        };
        let mut bytes = 0;
        let fits = |slice: &&Bytes| {
            bytes += slice.len();
            bytes <= most
        };
        let count = slices.iter().take_while(fits).count().max(1).min(slices.len());
        let rest = slices.split_off(count);
        let batch = std::mem::replace(slices, rest);
        Poll::Ready((count > 0).then(|| Ok(Frame::data(Batch(batch)))))
    }

    /// Whether nothing will be sent.
    pub fn is_empty(&self) -> bool {
        self.len() == Some(0)
    }
}

impl From<Bytes> for Body {
    fn from(bytes: Bytes) -> Self {
        Self::from_iter([bytes])
    }
}

impl From<String> for Body {
    fn from(text: String) -> Self {
        Bytes::from(text).into()
    }
}

impl FromIterator<Bytes> for Body {
    fn from_iter<I: IntoIterator<Item = Bytes>>(slices: I) -> Self {
        // An empty slice would go out as an empty DATA frame, which peers count as abuse.
        Self::Slices(slices.into_iter().filter(|slice| !slice.is_empty()).collect())
    }
}

/// Sum of the slices' lengths in bytes.
fn total(slices: &VecDeque<Bytes>) -> u64 {
    slices.iter().map(|slice| slice.len() as u64).sum()
}

/// The bytes `range` of `slices` in a row, by reference. What lies outside of them is left out.
pub fn cut(slices: impl IntoIterator<Item = Bytes>, range: Range<u64>) -> VecDeque<Bytes> {
    let mut start = 0_u64;
    let mut kept = VecDeque::new();
    for slice in slices {
        let len = slice.len() as u64;
        let from = range.start.saturating_sub(start).min(len);
        let to = range.end.saturating_sub(start).min(len);
        if from < to {
            // Both are at most the length of a slice in memory.
            kept.push_back(slice.slice(from as usize..to as usize));
        }
        start = start.saturating_add(len);
    }
    kept
}

impl http_body::Body for Body {
    type Data = Batch;
    type Error = BoxError;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Batch>, BoxError>>> {
        self.get_mut().poll_batch(cx, usize::MAX)
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Slices(slices) => slices.is_empty(),
            Self::Open(open) => open.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Slices(slices) => SizeHint::with_exact(total(slices)),
            Self::Open(open) => open.size_hint(),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_range_over_slices_is_a_slice_of_the_whole(
            pieces in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..40), 0..12),
            start in 0_u64..500,
            len in 0_u64..500,
        ) {
            let whole: Vec<u8> = pieces.concat();
            let slices: Vec<Bytes> = pieces.into_iter().map(Bytes::from).collect();
            let got = cut(slices.iter().cloned(), start..start + len);
            let from = (start as usize).min(whole.len());
            let to = ((start + len) as usize).min(whole.len());
            prop_assert_eq!(got.iter().flat_map(|s| s.to_vec()).collect::<Vec<_>>(), &whole[from..to]);
            prop_assert!(got.len() <= slices.len());
            for piece in &got {
                let inside = |whole: &Bytes| whole.as_ptr_range().start <= piece.as_ptr() && piece.as_ptr_range().end <= whole.as_ptr_range().end;
                prop_assert!(slices.iter().any(inside), "a slice was copied");
                prop_assert!(!piece.is_empty());
            }
        }
    }

    fn batches(body: &mut Body, most: usize) -> Vec<Vec<u8>> {
        let mut cx = Context::from_waker(std::task::Waker::noop());
        let mut all = Vec::new();
        while let Poll::Ready(Some(frame)) = body.poll_batch(&mut cx, most) {
            let mut batch = frame.expect("it cannot fail").into_data().expect("data");
            all.push(batch.copy_to_bytes(batch.remaining()).to_vec());
        }
        all
    }

    #[test]
    fn a_batch_is_as_large_as_it_may_be_and_never_empty() {
        let body = || Body::from_iter(["abc", "", "de", "fghij", "k"].map(Bytes::from));
        for (most, wanted) in [
            (usize::MAX, vec!["abcdefghijk"]),
            (11, vec!["abcdefghijk"]),
            (10, vec!["abcdefghij", "k"]),
            (5, vec!["abcde", "fghij", "k"]),
            (1, vec!["abc", "de", "fghij", "k"]),
        ] {
            let mut body = body();
            assert_eq!(body.len(), Some(11));
            assert_eq!(
                batches(&mut body, most),
                wanted.iter().map(|text| text.as_bytes().to_vec()).collect::<Vec<_>>()
            );
            assert!(body.is_empty() && http_body::Body::is_end_stream(&body));
        }
        assert_eq!(batches(&mut Body::empty(), 1), Vec::<Vec<u8>>::new());
    }

    proptest! {
        #[test]
        fn a_batch_is_used_up_in_any_steps(
            pieces in prop::collection::vec(prop::collection::vec(any::<u8>(), 1..40), 0..12),
            steps in prop::collection::vec((1_usize..60, 1_usize..8), 0..40),
        ) {
            let whole: Vec<u8> = pieces.concat();
            let mut batch = Batch(pieces.into_iter().map(Bytes::from).collect());
            let mut used = 0;
            for (step, places) in steps {
                let mut slices = [IoSlice::new(&[]); 8];
                let count = batch.chunks_vectored(&mut slices[..places]);
                let shown: Vec<u8> = slices[..count].iter().flat_map(|slice| slice.to_vec()).collect();
                prop_assert!(whole[used..].starts_with(&shown));
                prop_assert_eq!(shown.is_empty(), batch.remaining() == 0);
                let step = step.min(batch.remaining());
                batch.advance(step);
                used += step;
                prop_assert_eq!(batch.remaining(), whole.len() - used);
                prop_assert!(whole[used..].starts_with(batch.chunk()));
            }
        }
    }
}
