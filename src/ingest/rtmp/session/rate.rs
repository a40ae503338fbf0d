//! How often a peer may make us parse and answer.

use std::time::{Duration, Instant};

use super::Error;
use crate::ingest::rtmp::type_id;

/// Commands, pings and other control in a [`WINDOW`]. Encoders send a dozen at the start; every one costs parsing and most an answer.
pub(super) const MAX_COMMANDS: u32 = 200;
/// Data messages and aggregates in a [`WINDOW`]: some encoders send several for every picture.
const MAX_DATA: u32 = 5_000;
pub(super) const WINDOW: Duration = Duration::from_secs(10);

/// Counts messages that are neither audio nor video, in one window after another.
#[derive(Debug)]
pub(super) struct Rate {
    /// When the running window began.
    since: Instant,
    commands: u32,
    data: u32,
}

impl Rate {
    pub(super) fn new(now: Instant) -> Self {
        Self { since: now, commands: 0, data: 0 }
    }

    /// A message of that type came.
    ///
    /// # Errors
    /// [`Error::TooManyCommands`].
    pub(super) fn count(&mut self, now: Instant, type_id: u8) -> Result<(), Error> {
        if now.saturating_duration_since(self.since) > WINDOW {
            *self = Self::new(now);
        }
        let (count, most) = match type_id {
            type_id::DATA_AMF0 | type_id::DATA_AMF3 | type_id::AGGREGATE => (&mut self.data, MAX_DATA),
            _ => (&mut self.commands, MAX_COMMANDS),
        };
        *count += 1;
        if *count > most { Err(Error::TooManyCommands(most)) } else { Ok(()) }
    }
}
