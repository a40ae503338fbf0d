//! The memory that a track's payload arrives in, in arrival order, so that a part's access units lie side by side.

use bytes::{BufMut, BytesMut};

/// Smallest allocation, and all that is reserved on the word of a peer alone.
pub const MIN_BYTES: usize = 64 * 1024;
/// Largest allocation made ahead of need.
pub const MAX_BYTES: usize = 4 * 1024 * 1024;

/// An arena for one track. Payload is appended once and leaves as [`BytesMut`] handles that share the allocation.
///
/// An announced length is not trusted: space is reserved for what arrived before, and grows with what arrives.
#[derive(Debug, Default)]
pub struct Slab {
    buffer: BytesMut,
    /// Largest access unit that really arrived.
    largest: usize,
    /// Payload bytes moved because an access unit outgrew its allocation.
    moved: u64,
}

impl Slab {
    /// Call before the first byte of an access unit of `announced` bytes: a fresh allocation is taken when the current one is too
    /// full, so that the access unit is not split over two.
    pub fn begin(&mut self, announced: usize) {
        debug_assert!(self.buffer.is_empty(), "the last access unit was taken or dropped");
        self.buffer.clear();
        let trusted = announced.min(self.largest.saturating_mul(2).max(MIN_BYTES));
        if self.buffer.capacity() < trusted {
            // Room for several access units like the largest: a part then fits in one allocation.
            let capacity = self.largest.saturating_mul(4).clamp(MIN_BYTES, MAX_BYTES).max(trusted);
            self.buffer = BytesMut::with_capacity(capacity);
        }
    }

    /// Appends payload: the one copy of media payload in this program.
    pub fn extend(&mut self, payload: &[u8]) {
        if self.buffer.capacity() - self.buffer.len() < payload.len() {
            self.moved += self.buffer.len() as u64;
            let mut larger = BytesMut::with_capacity((self.buffer.len() + payload.len()).saturating_mul(2));
            larger.put_slice(&self.buffer);
            self.buffer = larger;
        }
        self.buffer.put_slice(payload);
    }

    /// The access unit gathered since [`begin`](Self::begin).
    pub fn take(&mut self) -> BytesMut {
        self.largest = self.largest.max(self.buffer.len());
        self.buffer.split()
    }

    /// Forgets a half-gathered access unit.
    pub fn abandon(&mut self) {
        self.buffer.clear();
    }

    /// Bytes gathered since [`begin`](Self::begin).
    pub fn pending(&self) -> usize {
        self.buffer.len()
    }

    /// Payload bytes copied a second time, because access units grew faster than twice the largest before.
    pub fn moved_bytes(&self) -> u64 {
        self.moved
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn neighbours_join_without_a_copy() {
        let mut slab = Slab::default();
        slab.begin(3);
        slab.extend(b"one");
        let mut first = slab.take();
        slab.begin(3);
        slab.extend(b"two");
        let second = slab.take();
        let start = first.as_ptr();
        assert_eq!(second.as_ptr() as usize, start as usize + 3);
        first.unsplit(second);
        assert_eq!((&first[..], first.as_ptr()), (&b"onetwo"[..], start));
        assert_eq!(slab.moved_bytes(), 0);
    }

    #[test]
    fn a_lie_about_the_length_reserves_little() {
        let mut slab = Slab::default();
        slab.begin(16_777_215);
        assert!(slab.buffer.capacity() <= MIN_BYTES);
    }

    #[test]
    fn an_access_unit_may_outgrow_its_allocation() {
        let mut slab = Slab::default();
        slab.begin(200_000);
        for _ in 0..200 {
            slab.extend(&[7; 1_000]);
        }
        assert_eq!(slab.take().len(), 200_000);
        assert!(slab.moved_bytes() > 0);
        slab.begin(200_000);
        let before = slab.moved_bytes();
        slab.extend(&[7; 200_000]);
        assert_eq!((slab.take().len(), slab.moved_bytes()), (200_000, before));
    }
}
