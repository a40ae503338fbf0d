//! What happened in each of the last seconds, by arrival.

/// Seconds kept: what lag is measured against.
pub(super) const KEPT: usize = 16;
/// Seconds that rates and jitter are taken over, the one being filled included.
pub(super) const RECENT: u64 = 10;

/// A ring of one-second buckets. Times are microseconds since the publisher connected.
#[derive(Debug)]
pub(super) struct Seconds<T> {
    /// Each with the number of its second, counted from 1; 0 for never. A second stands at its number modulo [`KEPT`].
    buckets: [(u64, T); KEPT],
}

impl<T: Copy + Default> Default for Seconds<T> {
    fn default() -> Self {
        Self { buckets: [(0, T::default()); KEPT] }
    }
}

impl<T: Default> Seconds<T> {
    /// The bucket of the second that `at_us` falls into, fresh where nothing has happened in it. There always is one.
    pub(super) fn at(&mut self, at_us: i64) -> Option<&mut T> {
        let now = number(at_us);
        let (number, bucket) = self.buckets.get_mut(now as usize % KEPT)?;
        if *number != now {
            (*number, *bucket) = (now, T::default());
        }
        Some(bucket)
    }

    /// Those of the last `count` seconds, that of `at_us` included, in which something happened; in no order.
    pub(super) fn last(&self, at_us: i64, count: u64) -> impl Iterator<Item = &T> {
        let now = number(at_us);
        let last = self.buckets.iter().filter(move |(number, _)| *number > 0 && number.saturating_add(count) > now);
        last.map(|(_, bucket)| bucket)
    }
}

fn number(at_us: i64) -> u64 {
    at_us.max(0).unsigned_abs() / 1_000_000 + 1
}
