//! How many may come in, and how often we speak of those who may not.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;

/// Limits on connections, in all and per address.
#[derive(Debug)]
pub(super) struct Doors {
    most: u32,
    most_per_ip: u32,
    inside: Mutex<Inside>,
}

#[derive(Debug, Default)]
struct Inside {
    all: u32,
    /// Never more entries than connections.
    by_ip: HashMap<IpAddr, u32>,
}

/// Which limit was reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum Full {
    #[error("ingest.rtmp.max_connections is reached")]
    All,
    #[error("ingest.rtmp.max_per_ip is reached")]
    PerIp,
}

impl Full {
    pub(super) fn label(self) -> &'static str {
        match self {
            Self::All => "max_connections",
            Self::PerIp => "max_per_ip",
        }
    }
}

/// One connection's place; dropping it gives it back.
#[derive(Debug)]
pub(super) struct Pass {
    doors: Arc<Doors>,
    ip: IpAddr,
}

impl Doors {
    pub(super) fn new(most: u32, most_per_ip: u32) -> Arc<Self> {
        Arc::new(Self { most, most_per_ip, inside: Mutex::default() })
    }

    pub(super) fn enter(self: &Arc<Self>, ip: IpAddr) -> Result<Pass, Full> {
        let ip = household(ip);
        let mut inside = self.inside.lock();
        if inside.all >= self.most {
            return Err(Full::All);
        }
        let of_ip = inside.by_ip.get(&ip).copied().unwrap_or(0);
        if of_ip >= self.most_per_ip {
            return Err(Full::PerIp);
        }
        inside.by_ip.insert(ip, of_ip + 1);
        inside.all += 1;
        Ok(Pass { doors: self.clone(), ip })
    }
}

impl Drop for Pass {
    fn drop(&mut self) {
        let mut inside = self.doors.inside.lock();
        inside.all = inside.all.saturating_sub(1);
        if let Some(count) = inside.by_ip.get_mut(&self.ip) {
            *count -= 1;
            if *count == 0 {
                inside.by_ip.remove(&self.ip);
            }
        }
    }
}

/// An IPv6 peer has a /64 to itself, so its addresses count as one.
fn household(ip: IpAddr) -> IpAddr {
    match ip.to_canonical() {
        IpAddr::V6(ip) => IpAddr::V6(Ipv6Addr::from_bits(ip.to_bits() >> 64 << 64)),
        v4 => v4,
    }
}

/// Lets one log line through a second, so that a flood of mistakes is no flood of lines.
#[derive(Debug, Default)]
pub(super) struct Throttle(Mutex<(Option<Instant>, u64)>);

impl Throttle {
    /// How many were silent since the last line, if one may be written now.
    pub(super) fn speak(&self) -> Option<u64> {
        let mut state = self.0.lock();
        let now = Instant::now();
        if state.0.is_some_and(|last| now.duration_since(last) < Duration::from_secs(1)) {
            state.1 += 1;
            return None;
        }
        let silent = state.1;
        *state = (Some(now), 0);
        Some(silent)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_limited_and_given_back() {
        let doors = Doors::new(3, 2);
        let ip = |text: &str| text.parse::<IpAddr>().unwrap();
        let first = doors.enter(ip("192.0.2.1")).unwrap();
        let _second = doors.enter(ip("::ffff:192.0.2.1")).unwrap();
        assert_eq!(doors.enter(ip("192.0.2.1")).unwrap_err(), Full::PerIp);
        let _third = doors.enter(ip("2001:db8::1")).unwrap();
        assert_eq!(doors.enter(ip("192.0.2.9")).unwrap_err(), Full::All);
        drop(first);
        let _fourth = doors.enter(ip("2001:db8::ffff:1")).unwrap();
        assert_eq!(doors.inside.lock().by_ip.len(), 2, "a /64 is one");
    }

    #[test]
    fn a_throttle_speaks_once_and_then_counts() {
        let throttle = Throttle::default();
        assert_eq!(throttle.speak(), Some(0));
        assert_eq!((throttle.speak(), throttle.speak()), (None, None));
    }
}
