//! Response bodies: refcounted slices that are handed to the connection as they are.

use std::collections::VecDeque;
use std::ops::Range;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
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
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        match self.get_mut() {
            Self::Slices(slices) => Poll::Ready(slices.pop_front().map(|slice| Ok(Frame::data(slice)))),
            Self::Open(open) => Pin::new(open).poll_frame(cx),
        }
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

    #[test]
    fn the_length_is_exact_and_counts_down() {
        let mut body = Body::from_iter([Bytes::from_static(b"abc"), Bytes::new(), Bytes::from_static(b"de")]);
        assert_eq!(http_body::Body::size_hint(&body).exact(), Some(5));
        let mut cx = Context::from_waker(std::task::Waker::noop());
        for (wanted, left) in [("abc", 2), ("de", 0)] {
            let Poll::Ready(Some(Ok(frame))) = http_body::Body::poll_frame(Pin::new(&mut body), &mut cx) else {
                panic!("a frame is there");
            };
            assert_eq!(frame.into_data().expect("data"), wanted);
            assert_eq!(body.len(), Some(left));
        }
        assert!(http_body::Body::is_end_stream(&body));
        assert!(body.is_empty());
    }
}
