//! Media and discontinuity sequence numbers that never go back, not after a crash either: they are reserved on disk in blocks before they
//! are used (RFC 8216bis §6.2.2, ARCHITECTURE §6).

use std::io::Write;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::presentation::Sequence;
use crate::media::StreamName;

/// Numbers reserved at a time: a new block is due every half hour of two-second segments.
const BLOCK: u64 = 1_000;

/// What the file holds: the first numbers that are not reserved.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Reserved {
    media_sequence: u64,
    discontinuity_sequence: u64,
}

/// The reservations of one data directory: one small file a stream.
#[derive(Debug, Clone)]
pub struct Sequences {
    folder: PathBuf,
}

/// One stream's reservation.
#[derive(Debug)]
pub(super) struct Reservation {
    path: PathBuf,
    reserved: Reserved,
}

impl Sequences {
    /// Reservations live below `data_dir`.
    pub fn new(data_dir: &Path) -> Self {
        Self { folder: data_dir.join("sequences") }
    }

    /// Reserves a block and returns the first numbers of it. Blocks on the disk.
    ///
    /// # Errors
    /// The file cannot be read, holds something else, or cannot be written: then the stream must not start, since its numbers might
    /// go back.
    pub(super) fn reserve(&self, name: &StreamName) -> std::io::Result<(Sequence, Reservation)> {
        let path = self.folder.join(name.app()).join(format!("{}.json", name.name()));
        let before: Reserved = match std::fs::read(&path) {
            Ok(text) => serde_json::from_slice(&text)?,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Reserved::default(),
            Err(error) => return Err(error),
        };
        let mut reservation = Reservation { path, reserved: before };
        let first = Sequence { media: before.media_sequence, discontinuity: before.discontinuity_sequence };
        reservation.extend()?;
        Ok((first, reservation))
    }
}

impl Reservation {
    /// Whether `next` comes so near the end of the block that another is due.
    pub(super) fn is_low(&self, next: Sequence) -> bool {
        next.media + BLOCK / 4 > self.reserved.media_sequence
            || next.discontinuity + BLOCK / 4 > self.reserved.discontinuity_sequence
    }

    /// Reserves another block, synced before it returns. Blocks on the disk.
    pub(super) fn extend(&mut self) -> std::io::Result<()> {
        let next = Reserved {
            media_sequence: self.reserved.media_sequence + BLOCK,
            discontinuity_sequence: self.reserved.discontinuity_sequence + BLOCK,
        };
        self.write(next)
    }

    /// Gives back what was not used, at a regular end: the next life goes on right after it.
    pub(super) fn release(mut self, next: Sequence) -> std::io::Result<()> {
        self.write(Reserved { media_sequence: next.media, discontinuity_sequence: next.discontinuity + 1 })
    }

    fn write(&mut self, next: Reserved) -> std::io::Result<()> {
        let folder = self.path.parent().unwrap_or(Path::new("."));
        std::fs::create_dir_all(folder)?;
        let mut file = tempfile::NamedTempFile::new_in(folder)?;
        file.write_all(&serde_json::to_vec(&next)?)?;
        file.as_file().sync_all()?;
        file.persist(&self.path).map_err(|error| error.error)?;
        // The rename itself must survive a power cut too.
        std::fs::File::open(folder)?.sync_all()?;
        self.reserved = next;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_never_go_back_whatever_ends_a_life() {
        let folder = tempfile::tempdir().unwrap();
        let sequences = Sequences::new(folder.path());
        let name: StreamName = "live/me".parse().unwrap();
        let (first, crashed) = sequences.reserve(&name).unwrap();
        assert_eq!(first, Sequence { media: 0, discontinuity: 0 });
        assert!(!crashed.is_low(Sequence { media: 700, discontinuity: 0 }));
        assert!(crashed.is_low(Sequence { media: 800, discontinuity: 0 }));
        drop(crashed);
        let (second, ended) = sequences.reserve(&name).unwrap();
        assert_eq!(second, Sequence { media: BLOCK, discontinuity: BLOCK });
        ended.release(Sequence { media: 1_012, discontinuity: 1_000 }).unwrap();
        let (third, _) = sequences.reserve(&name).unwrap();
        assert_eq!(third, Sequence { media: 1_012, discontinuity: 1_001 });
    }

    #[test]
    fn a_file_that_holds_something_else_stops_the_stream_and_is_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        let sequences = Sequences::new(folder.path());
        let path = folder.path().join("sequences/live/me.json");
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, "not json").unwrap();
        assert!(sequences.reserve(&"live/me".parse().unwrap()).is_err());
        assert_eq!(std::fs::read(&path).unwrap(), b"not json");
    }
}
