//! An estimate of how many people watch: the distinct connections that asked for a stream's leading playlist lately.
//!
//! A player follows one video playlist at a time (an audio one where there is no video) or one MPD, over one HTTP/2 connection, which stands
//! for it. Over HTTP/1.1 it spreads its requests over a few connections; there an address and a User-Agent stand for a viewer, so that two of
//! the same kind behind one address count as one. A viewer behind a cache is not seen at all.

use std::collections::HashMap;
use std::hash::BuildHasher;
use std::net::SocketAddr;
use std::sync::LazyLock;
use std::time::{Duration, Instant};

use foldhash::fast::RandomState;
use parking_lot::Mutex;
use prometheus::IntCounter;

use crate::media::StreamName;

/// How long a viewer counts after a request: longer than a blocked request is held with usual settings.
const RECENT: Duration = Duration::from_secs(15);
/// Most viewers that are told apart; more are not counted.
const MAX_VIEWERS: usize = 200_000;
/// Viewers of different connections seldom meet in one shard.
const SHARDS: usize = 16;

type Shard = Mutex<HashMap<(SocketAddr, StreamName), Instant, RandomState>>;

/// What stands for a viewer: the connection, or over HTTP/1.1 the address with a hash of the User-Agent in place of the port.
pub(crate) fn identity(peer: SocketAddr, version: http::Version, user_agent: Option<&[u8]>) -> SocketAddr {
    if version > http::Version::HTTP_11 {
        return peer;
    }
    static AGENTS: LazyLock<RandomState> = LazyLock::new(RandomState::default);
    SocketAddr::new(peer.ip(), (AGENTS.hash_one(user_agent) & 0xFFFF) as u16)
}

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

    /// `peer`, an [`identity`], asked for the leading playlist of `stream` at `now`.
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

    fn peer(port: u16) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], port))
    }

    #[test]
    fn a_browser_that_opens_several_connections_is_one_viewer() {
        let of = |port, version, agent: &'static str| identity(peer(port), version, Some(agent.as_bytes()));
        let (h1, h2) = (http::Version::HTTP_11, http::Version::HTTP_2);
        assert_eq!(of(1, h1, "one"), of(2, h1, "one"));
        assert_ne!(of(1, h1, "one"), of(1, h1, "other"));
        assert_ne!(of(1, h2, "one"), of(2, h2, "one"));
    }

    #[test]
    fn a_viewer_counts_once_and_for_a_while() {
        let viewers = Viewers::new(IntCounter::new("x", "x").expect("a counter"));
        let stream = StreamName::new("live", "me").expect("a good name");
        let start = Instant::now();
        viewers.seen(peer(1), &stream, start);
        viewers.seen(peer(1), &stream, start);
        viewers.seen(peer(17), &stream, start + Duration::from_secs(10));
        assert_eq!(viewers.count(start + Duration::from_secs(10)).get(&stream), Some(&2));
        assert_eq!(viewers.count(start + RECENT).get(&stream), Some(&1));
        assert_eq!(viewers.count(start + RECENT * 2).get(&stream), None);
    }
    #[test]
    fn more_viewers_than_are_told_apart_are_counted_as_refused() {
        let viewers = Viewers::new(IntCounter::new("x", "x").expect("a counter"));
        let stream = StreamName::new("live", "me").expect("a good name");
        let start = Instant::now();
        let in_one_shard = |number: u32| SocketAddr::from((number.to_be_bytes(), 0));
        let most = (MAX_VIEWERS / SHARDS) as u32;
        (0..most).for_each(|number| viewers.seen(in_one_shard(number), &stream, start));
        assert_eq!(viewers.refused.get(), 0);
        viewers.seen(in_one_shard(most), &stream, start);
        viewers.seen(in_one_shard(0), &stream, start);
        assert_eq!(viewers.refused.get(), 1, "who is known stays so");
        assert_eq!(viewers.count(start).get(&stream), Some(&u64::from(most)));
        viewers.seen(in_one_shard(most), &stream, start + RECENT);
        assert_eq!(viewers.refused.get(), 1, "those before it are gone");
    }
}
