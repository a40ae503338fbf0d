//! What is known of one track while its media arrives.

use std::time::{Duration, Instant};

use crate::ingest::rtmp::flv::Content;
use crate::media::{Format, Slab, Track};

/// New configurations before the publisher is stopped, and how long one takes to be forgotten: each costs every viewer a new init and a
/// discontinuity, and one a picture would bury them.
const MAX_FORMAT_CHANGES: u32 = 16;
const FORMAT_CHANGE_EVERY: Duration = Duration::from_secs(2);

/// The publisher's formats change too often.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("more than {MAX_FORMAT_CHANGES} changes of codec configuration in a row")]
pub struct TooManyFormats;

/// One track on its way in.
#[derive(Debug, Default)]
pub(super) struct Lane {
    /// Where payload is gathered.
    pub(super) slab: Slab,
    /// An access unit is gathering in the slab; another one must gather elsewhere.
    pub(super) busy: bool,
    /// What the last good configuration described; `None` before the first, and behind one that was refused.
    pub(super) track: Option<Track>,
    /// Why the last configuration, or the codec, was refused: to say it once.
    pub(super) refused: Option<String>,
    /// Format changes that are not forgotten yet.
    changes: u32,
    last_change: Option<Instant>,
}

impl Lane {
    /// Whether an access unit of that content can be described. MP3 brings its own description.
    pub(super) fn takes(&self, content: Content) -> bool {
        match (content, &self.track) {
            (Content::Mp3, _) => true,
            (_, None) => false,
            (_, Some(track)) => !matches!(track.format, Format::Mp3(_)),
        }
    }

    /// The format changes: a leaky bucket.
    ///
    /// # Errors
    /// [`TooManyFormats`] when it is full.
    pub(super) fn charge(&mut self, now: Instant) -> Result<(), TooManyFormats> {
        let since = self.last_change.map_or(Duration::ZERO, |last| now.saturating_duration_since(last));
        let forgotten = u32::try_from(since.as_millis() / FORMAT_CHANGE_EVERY.as_millis()).unwrap_or(u32::MAX);
        self.changes = self.changes.saturating_sub(forgotten) + 1;
        self.last_change = Some(now);
        if self.changes > MAX_FORMAT_CHANGES { Err(TooManyFormats) } else { Ok(()) }
    }
}
