//! Peers by their addresses: which addresses are one peer, how many places a peer may take, how often a log speaks of it.

use std::collections::HashMap;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};

/// The address that stands for a peer: of IPv6 the /64, since a peer has all of that (RFC 6177). An IPv4 address that came over an IPv6 socket is
/// the IPv4 address.
pub fn block(ip: IpAddr) -> IpAddr {
    match ip.to_canonical() {
        IpAddr::V4(v4) => IpAddr::V4(v4),
        IpAddr::V6(v6) => IpAddr::V6(Ipv6Addr::from_bits(v6.to_bits() & !u128::from(u64::MAX))),
    }
}

/// A number of places, and how many of them one peer may take.
#[derive(Debug)]
pub struct Places {
    most: usize,
    most_per_peer: usize,
    taken: Mutex<Taken>,
}

/// At most as many entries as places taken.
#[derive(Debug, Default)]
struct Taken {
    all: usize,
    by_peer: HashMap<IpAddr, usize>,
}

/// Which limit a peer has come up against.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Full {
    /// All places are taken.
    All,
    /// All that this peer may take.
    Peer,
}

/// One place; dropping it gives it back.
#[derive(Debug)]
pub struct Place {
    places: Arc<Places>,
    /// Who is counted; nobody where many peers share the address.
    peer: Option<IpAddr>,
}

impl Places {
    /// `most` places, of which one peer takes at most `most_per_peer`.
    pub fn new(most: usize, most_per_peer: usize) -> Arc<Self> {
        Arc::new(Self { most, most_per_peer, taken: Mutex::default() })
    }

    /// A place for the peer at `ip`.
    ///
    /// # Errors
    /// [`Full`].
    pub fn take(self: &Arc<Self>, ip: IpAddr) -> Result<Place, Full> {
        self.take_for(Some(block(ip)))
    }

    /// A place for one of many peers behind one address, as behind a proxy: only the sum of all counts.
    ///
    /// # Errors
    /// [`Full::All`].
    pub fn take_shared(self: &Arc<Self>) -> Result<Place, Full> {
        self.take_for(None)
    }

    fn take_for(self: &Arc<Self>, peer: Option<IpAddr>) -> Result<Place, Full> {
        let mut taken = self.taken.lock();
        if taken.all >= self.most {
            return Err(Full::All);
        }
        if let Some(peer) = peer {
            let count = taken.by_peer.get(&peer).copied().unwrap_or(0);
            if count >= self.most_per_peer {
                return Err(Full::Peer);
            }
            taken.by_peer.insert(peer, count + 1);
        }
        taken.all += 1;
        Ok(Place { places: Arc::clone(self), peer })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut taken = self.places.taken.lock();
        taken.all = taken.all.saturating_sub(1);
        let Some(peer) = self.peer else { return };
        if let Some(count) = taken.by_peer.get_mut(&peer) {
            *count = count.saturating_sub(1);
            if *count == 0 {
                taken.by_peer.remove(&peer);
            }
        }
    }
}

/// Lets one log line through a second, so that a flood of mistakes is no flood of lines.
#[derive(Debug, Default)]
pub struct Throttle(Mutex<(Option<Instant>, u64)>);

impl Throttle {
    /// How many were silent since the last line, if one may be written at `now`.
    pub fn speak(&self, now: Instant) -> Option<u64> {
        let mut state = self.0.lock();
        if state.0.is_some_and(|last| now.saturating_duration_since(last) < Duration::from_secs(1)) {
            state.1 += 1;
            return None;
        }
        let silent = state.1;
        *state = (Some(now), 0);
        Some(silent)
    }
}

/// IP addresses: `192.0.2.0/24`, `2001:db8::/32`, or a single one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct IpRange(IpNet);

impl IpRange {
    /// This machine: `127.0.0.0/8` and `::1`.
    pub const LOOPBACK: [Self; 2] = [
        Self(IpNet::V4(Ipv4Net::new_assert(Ipv4Addr::new(127, 0, 0, 0), 8))),
        Self(IpNet::V6(Ipv6Net::new_assert(Ipv6Addr::LOCALHOST, 128))),
    ];

    /// Whether `ip` is one of them. An IPv4 address that came over an IPv6 socket is the IPv4 address.
    pub fn contains(&self, ip: IpAddr) -> bool {
        self.0.contains(&ip.to_canonical())
    }
}

/// No address range.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("'{0}' is no IP address and no range such as 192.0.2.0/24")]
pub struct NotARange(String);

impl FromStr for IpRange {
    type Err = NotARange;
    fn from_str(text: &str) -> Result<Self, NotARange> {
        let net = text.parse().or_else(|_| text.parse::<IpAddr>().map(IpNet::from));
        net.map(|net| Self(canonical(net).trunc())).map_err(|_| NotARange(text.to_owned()))
    }
}

/// A range of IPv4 addresses that is written in IPv6 is a range of IPv4 addresses, as which peers are known. Spec: RFC 4291 §2.5.5.2.
fn canonical(net: IpNet) -> IpNet {
    const MAPPED_BITS: u8 = 96;
    let mapped = |net: Ipv6Net| {
        let bits = net.prefix_len().checked_sub(MAPPED_BITS)?;
        Ipv4Net::new(net.addr().to_ipv4_mapped()?, bits).ok()
    };
    match net {
        IpNet::V6(v6) => mapped(v6).map_or(net, IpNet::V4),
        IpNet::V4(_) => net,
    }
}

impl TryFrom<String> for IpRange {
    type Error = NotARange;
    fn try_from(text: String) -> Result<Self, NotARange> {
        text.parse()
    }
}

impl From<IpRange> for String {
    fn from(range: IpRange) -> Self {
        range.to_string()
    }
}

impl fmt::Display for IpRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.prefix_len() == self.0.max_prefix_len() { self.0.addr().fmt(f) } else { self.0.fmt(f) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().expect("an address")
    }

    #[test]
    fn places_are_limited_and_come_back() {
        let places = Places::new(3, 2);
        let first = places.take(ip("192.0.2.1")).expect("a place");
        let second = places.take(ip("::ffff:192.0.2.1")).expect("a place");
        assert_eq!(places.take(ip("192.0.2.1")).err(), Some(Full::Peer));
        let third = places.take(ip("2001:db8::1")).expect("a place");
        assert_eq!(places.take(ip("192.0.2.9")).err(), Some(Full::All));
        assert_eq!(places.take_shared().err(), Some(Full::All));
        drop(first);
        let _fourth = places.take(ip("2001:db8::ffff:1")).expect("a place");
        assert_eq!(places.taken.lock().by_peer.len(), 2, "a /64 is one peer");
        drop((second, third));
        assert_eq!(places.taken.lock().all, 1);
    }

    #[test]
    fn peers_behind_one_address_are_limited_in_all_alone() {
        let places = Places::new(3, 1);
        let held: Vec<_> = (0..3).map(|_| places.take_shared().expect("a place")).collect();
        assert!(places.taken.lock().by_peer.is_empty());
        drop(held);
        assert!(places.take(ip("192.0.2.1")).is_ok());
    }

    #[test]
    fn an_ipv6_peer_is_its_64() {
        let places = Places::new(9, 1);
        let _held = places.take(ip("2001:db8::1"));
        assert_eq!(places.take(ip("2001:db8::ffff:2")).err(), Some(Full::Peer));
        assert!(places.take(ip("2001:db8:0:1::1")).is_ok());
    }

    #[test]
    fn a_throttle_speaks_once_a_second_and_counts() {
        let (throttle, now) = (Throttle::default(), Instant::now());
        assert_eq!(throttle.speak(now), Some(0));
        assert_eq!((throttle.speak(now), throttle.speak(now)), (None, None));
        assert_eq!(throttle.speak(now + Duration::from_secs(1)), Some(2));
    }

    #[test]
    fn ranges_hold_addresses_however_they_are_written() {
        let range: IpRange = "192.0.2.7/24".parse().expect("a range");
        assert_eq!(range.to_string(), "192.0.2.0/24");
        for (ip, inside) in [
            ("192.0.2.255", true),
            ("::ffff:192.0.2.1", true),
            ("192.0.3.0", false),
            ("::1", false),
            ("2001:db8::1", false),
        ] {
            assert_eq!(range.contains(ip.parse().expect("an address")), inside, "{ip}");
        }
        for (text, wanted) in [
            ("::ffff:192.0.2.7/120", "192.0.2.0/24"),
            ("::ffff:192.0.2.7", "192.0.2.7"),
            ("::ffff:0:0/96", "0.0.0.0/0"),
        ] {
            assert_eq!(text.parse::<IpRange>().expect("a range").to_string(), wanted);
        }
        let one: IpRange = "2001:db8::1".parse().expect("an address");
        assert_eq!(one.to_string(), "2001:db8::1");
        assert!(!one.contains("2001:db8::2".parse().expect("an address")));
        assert!("192.0.2.0/33".parse::<IpRange>().is_err() && "nonsense".parse::<IpRange>().is_err());
    }
}
