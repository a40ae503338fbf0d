//! What the targets share: a publisher that speaks RTMP, a presentation with its rules as oracle, and input read as decisions.

pub mod publisher;
pub mod show;

use std::cell::RefCell;
use std::path::Path;

thread_local! {
    static FOLDER: RefCell<tempfile::TempDir> = RefCell::new(tempfile::tempdir().expect("the temporary folder is writable"));
}

/// Gives `read` a folder in which the file `name` holds `data`, and the file's path.
pub fn with_file(name: &str, data: &[u8], read: impl FnOnce(&Path, &Path)) {
    FOLDER.with_borrow(|folder| {
        let path = folder.path().join(name);
        std::fs::create_dir_all(path.parent().expect("it has one")).expect("the folder is writable");
        // Another inode each time, by which stores tell that a file has changed.
        let _ = std::fs::remove_file(&path);
        std::fs::write(&path, data).expect("the folder is writable");
        read(folder.path(), &path);
    });
}

/// Fuzzer input read as a row of decisions. When it is used up every further one is zero.
pub struct Choices<'a> {
    rest: &'a [u8],
}

impl<'a> Choices<'a> {
    /// Reads `data` from its first byte.
    pub fn new(data: &'a [u8]) -> Self {
        Self { rest: data }
    }

    /// Nothing is left to decide.
    pub fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    /// One byte.
    pub fn byte(&mut self) -> u8 {
        let Some((first, rest)) = self.rest.split_first() else { return 0 };
        self.rest = rest;
        *first
    }

    /// A number below `limit`, which is at most 256.
    pub fn below(&mut self, limit: usize) -> usize {
        usize::from(self.byte()) % limit.max(1)
    }

    /// Four bytes.
    pub fn word(&mut self) -> u32 {
        u32::from_be_bytes([self.byte(), self.byte(), self.byte(), self.byte()])
    }

    /// Eight bytes.
    pub fn long(&mut self) -> u64 {
        u64::from(self.word()) << 32 | u64::from(self.word())
    }

    /// A time step in milliseconds: mostly what encoders make, at times anything.
    pub fn step_ms(&mut self) -> i64 {
        match self.below(16) {
            0..=7 => [33, 40, 16, 17, 21, 23, 24, 1][self.below(8)],
            8..=10 => 0,
            11 | 12 => i64::from(self.byte()) * 8,
            13 => -(i64::from(self.byte()) * 8),
            14 => i64::from(self.word() % 20_000),
            _ => i64::from(self.word().cast_signed()),
        }
    }

    /// Up to `most` bytes as they are.
    pub fn bytes(&mut self, most: usize) -> &'a [u8] {
        let count = usize::from(self.byte()).min(most).min(self.rest.len());
        let (head, rest) = self.rest.split_at(count);
        self.rest = rest;
        head
    }

    /// All that is left.
    pub fn rest(&mut self) -> &'a [u8] {
        std::mem::take(&mut self.rest)
    }
}
