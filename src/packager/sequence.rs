//! Media and discontinuity sequence numbers that never go back, not after a crash either: they are reserved on disk in blocks before they
//! are used (RFC 8216bis §6.2.2, ARCHITECTURE §6).

use std::hash::{DefaultHasher, Hash, Hasher};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::{Mutex, MutexGuard};
use serde::{Deserialize, Serialize};

use super::presentation::Sequence;
use crate::media::StreamName;

/// Numbers reserved at a time: a new block is due every half hour of two-second segments.
const BLOCK: u64 = 1_000;
/// Larger numbers in a file were not written by us: a segment a millisecond since the Unix epoch needs less.
const MAX_NUMBER: u64 = 1 << 53;
/// Locks that streams share. More than streams that change their numbers at one moment, so that these seldom wait for one another's disk.
const LOCKS: usize = 64;

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
    changing: Locks,
}

/// Held while a file is read and replaced: the end of one life and the start of the next touch it from two threads. A file has one lock, so that
/// other streams need not wait: a disk syncs the files of many at once hardly slower than one.
#[derive(Debug, Clone)]
struct Locks(Arc<[Mutex<()>; LOCKS]>);

impl Locks {
    fn lock(&self, path: &Path) -> MutexGuard<'_, ()> {
        let mut hasher = DefaultHasher::new();
        path.hash(&mut hasher);
        let [first, ..] = &*self.0;
        let place = hasher.finish() as usize % LOCKS;
        self.0.get(place).unwrap_or(first).lock()
    }
}

/// One stream's reservation.
#[derive(Debug)]
pub struct Reservation {
    path: PathBuf,
    changing: Locks,
    reserved: Reserved,
}

impl Sequences {
    /// Reservations live below `data_dir`.
    pub fn new(data_dir: &Path) -> Self {
        let changing = Locks(Arc::new(std::array::from_fn(|_| Mutex::default())));
        Self { folder: data_dir.join("sequences"), changing }
    }

    fn path(&self, name: &StreamName) -> PathBuf {
        self.folder.join(name.app()).join(format!("{}.json", name.name()))
    }

    /// Reserves a block and returns the first numbers of it. Blocks on the disk.
    ///
    /// # Errors
    /// The file cannot be read, holds something else, or cannot be written: then the stream must not start, since its numbers might
    /// go back.
    pub fn reserve(&self, name: &StreamName) -> std::io::Result<(Sequence, Reservation)> {
        let path = self.path(name);
        let _alone = self.changing.lock(&path);
        let before = read(&path)?;
        let mut reservation = Reservation { path: path.clone(), changing: self.changing.clone(), reserved: before };
        let first = Sequence { media: before.media_sequence, discontinuity: before.discontinuity_sequence };
        reservation.write(before.extended(first))?;
        Ok((first, reservation))
    }
}

impl Reservation {
    /// Whether `next` comes so near the end of the block that another is due.
    pub fn is_low(&self, next: Sequence) -> bool {
        next.media + BLOCK / 4 > self.reserved.media_sequence
            || next.discontinuity + BLOCK / 4 > self.reserved.discontinuity_sequence
    }

    /// The first numbers that are not reserved.
    pub fn end(&self) -> Sequence {
        Sequence { media: self.reserved.media_sequence, discontinuity: self.reserved.discontinuity_sequence }
    }

    /// Reserves another block beyond `next`, synced before it returns. Blocks on the disk.
    ///
    /// # Errors
    /// The file cannot be read or written: numbers beyond [`end`](Self::end) must not be used.
    pub fn extend(&mut self, next: Sequence) -> std::io::Result<()> {
        let changing = self.changing.clone();
        let _alone = changing.lock(&self.path);
        if self.is_over()? {
            return Ok(());
        }
        self.write(self.reserved.extended(next))
    }

    /// Gives back what was not used, at a regular end: the next life goes on right after it. Where the next life was quicker, it has begun
    /// behind the whole block, and nothing may be given back. Blocks on the disk.
    ///
    /// # Errors
    /// The file cannot be read or written; nothing is given back then.
    pub fn release(mut self, next: Sequence) -> std::io::Result<()> {
        let changing = self.changing.clone();
        let _alone = changing.lock(&self.path);
        if self.is_over()? {
            return Ok(());
        }
        self.write(Reserved { media_sequence: next.media, discontinuity_sequence: next.discontinuity + 1 })
    }

    /// Another life has reserved since.
    fn is_over(&self) -> std::io::Result<bool> {
        Ok(read(&self.path)? != self.reserved)
    }

    fn write(&mut self, next: Reserved) -> std::io::Result<()> {
        if next.is_too_large() {
            // It could not be read again, and the stream never start again.
            return Err(corrupt(&self.path, "its numbers are used up"));
        }
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

impl Reserved {
    fn is_too_large(self) -> bool {
        self.media_sequence.max(self.discontinuity_sequence) > MAX_NUMBER
    }

    /// Another block. A publisher whose clock runs wild may have used numbers beyond this one already.
    fn extended(self, next: Sequence) -> Self {
        Self {
            media_sequence: self.media_sequence.max(next.media) + BLOCK,
            discontinuity_sequence: self.discontinuity_sequence.max(next.discontinuity) + BLOCK,
        }
    }
}

fn read(path: &Path) -> std::io::Result<Reserved> {
    let text = match std::fs::read(path) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Reserved::default()),
        Err(error) => return Err(std::io::Error::new(error.kind(), format!("{}: {error}", path.display()))),
    };
    let reserved: Reserved = serde_json::from_slice(&text).map_err(|error| corrupt(path, &error.to_string()))?;
    if reserved.is_too_large() { Err(corrupt(path, "its numbers are too large")) } else { Ok(reserved) }
}

fn corrupt(path: &Path, why: &str) -> std::io::Error {
    let why = format!("{} cannot be understood and was left as it is: {why}", path.display());
    std::io::Error::new(std::io::ErrorKind::InvalidData, why)
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
        let huge = format!(r#"{{"media_sequence":{0},"discontinuity_sequence":{0}}}"#, u64::MAX);
        // Found by fuzzing: a number with which the next block would end beyond what is read.
        let last = format!(r#"{{"media_sequence":{},"discontinuity_sequence":0}}"#, MAX_NUMBER - 1);
        for text in ["not json", "", &huge, &last] {
            std::fs::write(&path, text).unwrap();
            let error = sequences.reserve(&"live/me".parse().unwrap()).unwrap_err();
            assert!(error.to_string().contains("me.json cannot be understood"), "{error}");
            assert_eq!(std::fs::read(&path).unwrap(), text.as_bytes());
        }
    }

    #[test]
    fn a_life_that_ends_late_gives_nothing_back_that_the_next_one_has() {
        let folder = tempfile::tempdir().unwrap();
        let sequences = Sequences::new(folder.path());
        let name: StreamName = "live/me".parse().unwrap();
        let (_, mut late) = sequences.reserve(&name).unwrap();
        let (second, crashed) = sequences.reserve(&name).unwrap();
        assert_eq!(second.media, BLOCK);
        late.extend(Sequence { media: 800, discontinuity: 0 }).unwrap();
        late.release(Sequence { media: 12, discontinuity: 0 }).unwrap();
        drop(crashed);
        let (third, _) = sequences.reserve(&name).unwrap();
        assert_eq!(third, Sequence { media: 2 * BLOCK, discontinuity: 2 * BLOCK });
    }

    #[test]
    fn a_disk_that_hangs_for_one_stream_holds_up_no_other() {
        let folder = tempfile::tempdir().unwrap();
        let sequences = Sequences::new(folder.path());
        let path = |name: &StreamName| sequences.path(name);
        let hanging: StreamName = "live/me".parse().unwrap();
        let _hangs = sequences.changing.lock(&path(&hanging));
        // Locks are shared, so that some must wait.
        let (done, finished) = std::sync::mpsc::sync_channel(20);
        for number in 0..20 {
            let (sequences, done) = (sequences.clone(), done.clone());
            let name: StreamName = format!("live/{number}").parse().unwrap();
            std::thread::spawn(move || {
                let reserved = sequences.reserve(&name).map(|(first, _)| first.media);
                let _ = done.send(reserved.ok());
            });
        }
        for _ in 0..15 {
            assert_eq!(finished.recv_timeout(std::time::Duration::from_secs(60)).unwrap(), Some(0));
        }
    }

    #[test]
    fn a_block_covers_numbers_that_ran_ahead() {
        let folder = tempfile::tempdir().unwrap();
        let sequences = Sequences::new(folder.path());
        let name: StreamName = "live/me".parse().unwrap();
        let (_, mut crashed) = sequences.reserve(&name).unwrap();
        let wild = Sequence { media: 17_000, discontinuity: 16_000 };
        crashed.extend(wild).unwrap();
        assert!(!crashed.is_low(wild));
        drop(crashed);
        let (second, _) = sequences.reserve(&name).unwrap();
        assert_eq!(second, Sequence { media: 18_000, discontinuity: 17_000 });
    }
}
