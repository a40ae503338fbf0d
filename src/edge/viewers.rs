//! An estimate of how many people watch: the distinct connections that asked for a stream's leading playlist lately.
//!
//! A player follows one video playlist at a time (an audio one where there is no video) or one MPD, over one HTTP/2 or HTTP/3 connection. Over
//! HTTP/1.1 it may spread its requests over a few connections and count as a few viewers. A viewer behind a cache is not seen at all.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use prometheus::IntCounter;

use crate::media::StreamName;

/// How long a viewer counts after a request: longer than a blocked request is held with usual settings.
const RECENT: Duration = Duration::from_secs(15);
/// Most viewers that are told apart; more are not counted.
const MAX_VIEWERS: usize = 200_000;
/// Viewers of different connections seldom meet in one shard.
const SHARDS: usize = 16;

type Shard = Mutex<HashMap<(SocketAddr, StreamName), Instant>>;

/// Who asked for what lately.
#[derive(Debug)]
pub(crate) struct Viewers {
    shards: [Shard; SHARDS],
    refused: IntCounter,
}

impl Viewers {
    pub(crate) fn new(refused: IntCounter) -> Self {
        Self { shards: Default::default(), refused }
    }

    /// `peer` asked for the leading playlist of `stream` at `now`.
    pub(crate) fn seen(&self, peer: SocketAddr, stream: &StreamName, now: Instant) {
        let Some(shard) = self.shards.get(usize::from(peer.port()) % SHARDS) else { return };
        let mut shard = shard.lock();
        let key = (peer, stream.clone());
        if let Some(last) = shard.get_mut(&key) {
            *last = now;
            return;
        }
        if shard.len() >= MAX_VIEWERS / SHARDS {
            shard.retain(|_, last| now.saturating_duration_since(*last) < RECENT);
        }
        if shard.len() < MAX_VIEWERS / SHARDS {
            shard.insert(key, now);
        } else {
            self.refused.inc();
        }
    }

    /// How many watch each stream at `now`.
    pub(crate) fn count(&self, now: Instant) -> HashMap<StreamName, u64> {
        let mut counts = HashMap::new();
        for shard in &self.shards {
            let mut shard = shard.lock();
            shard.retain(|_, last| now.saturating_duration_since(*last) < RECENT);
            for (_, stream) in shard.keys() {
                *counts.entry(stream.clone()).or_default() += 1;
            }
        }
        counts
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_viewer_counts_once_and_for_a_while() {
        let viewers = Viewers::new(IntCounter::new("x", "x").expect("a counter"));
        let stream = StreamName::new("live", "me").expect("a good name");
        let peer = |port| SocketAddr::from(([127, 0, 0, 1], port));
        let start = Instant::now();
        viewers.seen(peer(1), &stream, start);
        viewers.seen(peer(1), &stream, start);
        viewers.seen(peer(17), &stream, start + Duration::from_secs(10));
        assert_eq!(viewers.count(start + Duration::from_secs(10)).get(&stream), Some(&2));
        assert_eq!(viewers.count(start + RECENT).get(&stream), Some(&1));
        assert_eq!(viewers.count(start + RECENT * 2).get(&stream), None);
    }
}
