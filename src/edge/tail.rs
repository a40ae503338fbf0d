//! The body of a segment in the making: each part as soon as it exists, the end when the segment is complete.
//!
//! For low-latency DASH, which reads segments while they are made (chunked transfer, ISO/IEC 23009-1 availabilityTimeComplete="false"). What
//! was sent is, byte for byte, what a later request for the same name gets in one piece.

use std::collections::VecDeque;
use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::Frame;

use super::body::BoxError;
use super::hold::Cell;
use crate::packager::Window;

/// Follows segment `msn` of a window cell. Holds no part longer than until it is handed on.
pub(crate) struct Tail {
    msn: u64,
    /// Parts of the segment that were queued so far.
    taken: usize,
    queue: VecDeque<Bytes>,
    state: State,
}

enum State {
    Look(Cell),
    /// Gives the cell back when it has changed, nothing when nobody feeds it any more.
    Wait(Pin<Box<dyn Future<Output = Option<Cell>> + Send>>),
    Done,
}

impl Tail {
    pub(crate) fn new(msn: u64, cell: Cell) -> Self {
        Self { msn, taken: 0, queue: VecDeque::new(), state: State::Look(cell) }
    }

    /// Queues what is new. `Ok(true)` when nothing will follow.
    fn look(&mut self, window: &Window) -> Result<bool, BoxError> {
        let over = window.is_complete(self.msn) || window.ended;
        let Some(segment) = window.segment(self.msn) else {
            // Complete and gone: the reader is slower than the whole window. What it has is not the segment.
            return if over { Err("the segment left the window before it was read".into()) } else { Ok(false) };
        };
        for part in segment.parts.iter().skip(self.taken) {
            self.queue.extend(part.slices().filter(|slice| !slice.is_empty()));
        }
        self.taken = segment.parts.len();
        Ok(over)
    }
}

impl http_body::Body for Tail {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let this = self.get_mut();
        loop {
            if let Some(slice) = this.queue.pop_front() {
                return Poll::Ready(Some(Ok(Frame::data(slice))));
            }
            match std::mem::replace(&mut this.state, State::Done) {
                State::Done => return Poll::Ready(None),
                State::Look(mut cell) => {
                    let window = Arc::clone(&cell.borrow_and_update());
                    match this.look(&window) {
                        Ok(true) => {}
                        Ok(false) => {
                            this.state =
                                State::Wait(Box::pin(async move { cell.changed().await.is_ok().then_some(cell) }));
                        }
                        Err(gone) => return Poll::Ready(Some(Err(gone))),
                    }
                }
                State::Wait(mut change) => match change.as_mut().poll(cx) {
                    Poll::Pending => {
                        this.state = State::Wait(change);
                        return Poll::Pending;
                    }
                    Poll::Ready(Some(cell)) => this.state = State::Look(cell),
                    Poll::Ready(None) => {
                        return Poll::Ready(Some(Err("the stream went away in the middle of a segment".into())));
                    }
                },
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.queue.is_empty() && matches!(self.state, State::Done)
    }
}

impl fmt::Debug for Tail {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tail").field("msn", &self.msn).field("taken", &self.taken).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use http_body::Body as _;
    use tokio::sync::watch;

    use super::*;
    use crate::packager::testing;

    fn take(tail: &mut Tail) -> Option<Result<String, ()>> {
        let mut cx = Context::from_waker(std::task::Waker::noop());
        let mut text = String::new();
        loop {
            match Pin::new(&mut *tail).poll_frame(&mut cx) {
                Poll::Ready(Some(Ok(frame))) => {
                    text.push_str(std::str::from_utf8(&frame.into_data().expect("data")).expect("text"));
                }
                Poll::Ready(Some(Err(_))) => return Some(Err(())),
                Poll::Ready(None) if text.is_empty() => return None,
                _ => return Some(Ok(text)),
            }
        }
    }

    #[test]
    fn parts_come_as_they_appear_and_add_up_to_the_segment() {
        let (sender, cell) = watch::channel(Arc::new(testing::window(4, 3, 3, 1)));
        let mut tail = Tail::new(7, cell);
        let mut got = vec![take(&mut tail), take(&mut tail)];
        sender.send_replace(Arc::new(testing::window(4, 3, 3, 2)));
        got.push(take(&mut tail));
        let complete = testing::window(4, 4, 3, 0);
        let whole: Vec<u8> = complete.segment(7).expect("complete").slices().flat_map(|s| s.to_vec()).collect();
        sender.send_replace(Arc::new(complete));
        got.push(take(&mut tail));
        assert_eq!(take(&mut tail), None);
        assert!(tail.is_end_stream());
        let pieces: Vec<String> = got.into_iter().map(|piece| piece.expect("open").expect("alive")).collect();
        assert_eq!(pieces[0], "head-21.payload-21;");
        assert_eq!(pieces[1], "", "nothing new yet");
        assert_eq!(pieces.concat().as_bytes(), whole);
    }

    #[test]
    fn what_cannot_be_finished_breaks_off() {
        let (sender, cell) = watch::channel(Arc::new(testing::window(4, 3, 3, 1)));
        let mut tail = Tail::new(7, cell);
        assert!(matches!(take(&mut tail), Some(Ok(_))));
        drop(sender);
        assert_eq!(take(&mut tail), Some(Err(())));

        let (sender, cell) = watch::channel(Arc::new(testing::window(4, 3, 3, 1)));
        let mut tail = Tail::new(7, cell);
        sender.send_replace(Arc::new(testing::window(9, 3, 3, 1)));
        assert_eq!(take(&mut tail), Some(Err(())), "the window went past it");
    }
}
