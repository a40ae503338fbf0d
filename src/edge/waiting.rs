//! How many requests wait for media, in total and per address. Both are capped, so that blocked requests cannot be hoarded.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::Arc;

use parking_lot::Mutex;
use prometheus::{IntCounter, IntGauge};

/// Counts waiting requests.
#[derive(Debug)]
pub(crate) struct Waiting {
    max: usize,
    max_per_ip: usize,
    counts: Mutex<Counts>,
    gauge: IntGauge,
    refused_total: IntCounter,
    refused_per_ip: IntCounter,
}

/// At most `max` entries in the map, since every entry stands for a waiting request.
#[derive(Debug, Default)]
struct Counts {
    total: usize,
    per_ip: HashMap<IpAddr, usize>,
}

/// Which cap a request would break.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Full {
    /// Of the server: 503.
    Server,
    /// Of the address: 429.
    Address,
}

/// One waiting request; dropping it gives the place back.
#[derive(Debug)]
pub(crate) struct Ticket {
    waiting: Arc<Waiting>,
    ip: IpAddr,
}

impl Waiting {
    pub(crate) fn new(
        max: usize,
        max_per_ip: usize,
        gauge: IntGauge,
        total: IntCounter,
        per_ip: IntCounter,
    ) -> Arc<Self> {
        let counts = Mutex::default();
        Arc::new(Self { max, max_per_ip, counts, gauge, refused_total: total, refused_per_ip: per_ip })
    }

    /// A place for one request from `ip`.
    pub(crate) fn enter(self: &Arc<Self>, ip: IpAddr) -> Result<Ticket, Full> {
        let ip = block(ip);
        let mut counts = self.counts.lock();
        if counts.total >= self.max {
            self.refused_total.inc();
            return Err(Full::Server);
        }
        if counts.per_ip.get(&ip).is_some_and(|count| *count >= self.max_per_ip) {
            self.refused_per_ip.inc();
            return Err(Full::Address);
        }
        counts.total += 1;
        *counts.per_ip.entry(ip).or_default() += 1;
        self.gauge.inc();
        Ok(Ticket { waiting: Arc::clone(self), ip })
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        let mut counts = self.waiting.counts.lock();
        counts.total = counts.total.saturating_sub(1);
        if let Some(count) = counts.per_ip.get_mut(&self.ip) {
            *count = count.saturating_sub(1);
            if *count == 0 {
                counts.per_ip.remove(&self.ip);
            }
        }
        self.waiting.gauge.dec();
    }
}

/// The address that is counted: of IPv6 the /64, since a peer has all of that.
fn block(ip: IpAddr) -> IpAddr {
    match ip.to_canonical() {
        IpAddr::V4(v4) => IpAddr::V4(v4),
        IpAddr::V6(v6) => IpAddr::V6(Ipv6Addr::from_bits(v6.to_bits() & !u128::from(u64::MAX))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn waiting(max: usize, max_per_ip: usize) -> Arc<Waiting> {
        let counter = || IntCounter::new("x", "x").expect("a counter");
        Waiting::new(max, max_per_ip, IntGauge::new("x", "x").expect("a gauge"), counter(), counter())
    }

    fn ip(text: &str) -> IpAddr {
        text.parse().expect("an address")
    }

    #[test]
    fn places_are_capped_and_come_back() {
        let waiting = waiting(3, 2);
        let first = waiting.enter(ip("10.0.0.1"));
        let second = waiting.enter(ip("10.0.0.1"));
        assert!(first.is_ok() && second.is_ok());
        assert_eq!(waiting.enter(ip("10.0.0.1")).err(), Some(Full::Address));
        assert_eq!(waiting.enter(ip("::ffff:10.0.0.1")).err(), Some(Full::Address));
        let third = waiting.enter(ip("10.0.0.2"));
        assert_eq!(waiting.enter(ip("10.0.0.3")).err(), Some(Full::Server));
        assert_eq!(waiting.gauge.get(), 3);
        drop((first, second, third));
        assert_eq!(waiting.gauge.get(), 0);
        assert!(waiting.counts.lock().per_ip.is_empty());
        assert!(waiting.enter(ip("10.0.0.1")).is_ok());
    }

    #[test]
    fn an_ipv6_peer_is_its_64() {
        let waiting = waiting(9, 1);
        let _held = waiting.enter(ip("2001:db8::1"));
        assert_eq!(waiting.enter(ip("2001:db8::ffff:2")).err(), Some(Full::Address));
        assert!(waiting.enter(ip("2001:db8:0:1::1")).is_ok());
    }
}
