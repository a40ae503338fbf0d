//! The wall clock. Only shells read it, once for what arrives, and pass the time on; the cores have no clock of their own.

use std::time::{SystemTime, UNIX_EPOCH};

use super::WallTime;

/// What time it is. Can go back, and jump: whoever measures a span takes [`Instant`](std::time::Instant).
pub fn now() -> WallTime {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    WallTime::from_micros(i64::try_from(since.as_micros()).unwrap_or(i64::MAX))
}
