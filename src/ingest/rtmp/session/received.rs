//! Tells the peer now and then how much of what it sent has arrived.
//!
//! Specification: RTMP 1.0 §5.4.3, §5.4.4.

use crate::ingest::rtmp::reply;

/// Smallest acknowledgement window obeyed: a peer could ask for an acknowledgement a byte.
const MIN_WINDOW_BYTES: u32 = 1_024;

/// Bytes received since the connection began, and how many of them the peer was told of.
#[derive(Debug)]
pub(super) struct Received {
    total: u64,
    acknowledged: u64,
    /// After how many bytes the peer wants to be told.
    window: u32,
}

impl Default for Received {
    fn default() -> Self {
        Self { total: 0, acknowledged: 0, window: reply::WINDOW_BYTES }
    }
}

impl Received {
    pub(super) fn add(&mut self, bytes: usize) {
        self.total += bytes as u64;
    }

    /// Obeys Window Acknowledgement Size.
    pub(super) fn set_window(&mut self, bytes: u32) {
        self.window = bytes.max(MIN_WINDOW_BYTES);
    }

    /// What to acknowledge now: the running total, which wraps after 4 GiB. `None` while the window is not full.
    pub(super) fn acknowledge(&mut self) -> Option<u32> {
        if self.total - self.acknowledged < u64::from(self.window) {
            return None;
        }
        self.acknowledged = self.total;
        Some(self.total as u32)
    }
}
