//! Small JSON files in `data_dir` that the running server and the command line share, until a repository holds what is in them.
//!
//! A file is replaced whole by an atomic rename, under a lock file, so that the command line may change it while the server runs; the server
//! notices by its stamp and reads it again. A file that cannot be understood is never overwritten.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::marker::PhantomData;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::Mutex;
use rustix::fs::FlockOperation;
use serde::Serialize;
use serde::de::DeserializeOwned;

/// Largest file that is read: some 100,000 keys.
const MAX_FILE_BYTES: u64 = 32 << 20;

/// Why a file cannot be used. Always the operator's to repair.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The system refuses to read or write.
    #[error("{path}: {error}")]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system says.
        error: io::Error,
    },
    /// The file is not what we wrote. It is left as it is.
    #[error("{path} cannot be understood and was left as it is: {why}")]
    Corrupt {
        /// The file.
        path: PathBuf,
        /// Where it breaks off.
        why: String,
    },
    /// The system has no randomness.
    #[error("no random bits: {0}")]
    Random(getrandom::Error),
}

/// What a file holds. `Default` is what no file means.
pub(crate) trait Contents: Default + Clone + PartialEq + Serialize + DeserializeOwned {
    /// Checks what the types cannot, after reading.
    ///
    /// # Errors
    /// What is wrong.
    fn check(&self) -> Result<(), String>;
}

/// What tells one version of the file from another. A rename brings a new inode, so even two changes in one tick of the clock differ.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Stamp {
    inode: u64,
    len: u64,
    modified: (i64, i64),
}

/// A file of `T`. Cheap to ask: it is read again only when it has changed. All methods touch the disk; none of them waits for more.
#[derive(Debug)]
pub(crate) struct JsonFile<T> {
    path: PathBuf,
    /// What was read last, and of which version of the file; of none where there was no file.
    cached: Mutex<Option<(Option<Stamp>, Arc<T>)>>,
    contents: PhantomData<fn() -> T>,
}

impl<T: Contents> JsonFile<T> {
    /// The file at `path`. Nothing is read or made yet.
    pub(crate) fn new(path: PathBuf) -> Self {
        Self { path, cached: Mutex::new(None), contents: PhantomData }
    }

    /// What the file holds now.
    ///
    /// # Errors
    /// [`Error`].
    pub(crate) fn read(&self) -> Result<Arc<T>, Error> {
        let stamp = self.stamp()?;
        let mut cached = self.cached.lock();
        if let Some((known, contents)) = cached.as_ref()
            && *known == stamp
        {
            return Ok(Arc::clone(contents));
        }
        let contents = Arc::new(self.load()?);
        // Where the file changed between the two, the next look finds another stamp and reads again.
        *cached = Some((stamp, Arc::clone(&contents)));
        Ok(contents)
    }

    /// Reads, changes and replaces the file, alone among processes.
    ///
    /// # Errors
    /// [`Error`]; the file is as before then.
    pub(crate) fn change<R>(&self, change: impl FnOnce(&mut T) -> R) -> Result<R, Error> {
        let folder = self.path.parent().unwrap_or(Path::new("."));
        fs::create_dir_all(folder).map_err(|error| self.io(error))?;
        let lock = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .mode(0o600)
            .open(self.path.with_extension("lock"))
            .map_err(|error| self.io(error))?;
        rustix::fs::flock(&lock, FlockOperation::LockExclusive).map_err(|errno| self.io(errno.into()))?;
        let before = self.load()?;
        let mut contents = before.clone();
        let result = change(&mut contents);
        if contents != before {
            self.replace(folder, &contents).map_err(|error| self.io(error))?;
        }
        Ok(result)
    }

    fn stamp(&self) -> Result<Option<Stamp>, Error> {
        match fs::metadata(&self.path) {
            Ok(found) => {
                Ok(Some(Stamp { inode: found.ino(), len: found.len(), modified: (found.mtime(), found.mtime_nsec()) }))
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(self.io(error)),
        }
    }

    fn load(&self) -> Result<T, Error> {
        let file = match File::open(&self.path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(T::default()),
            Err(error) => return Err(self.io(error)),
        };
        let mut text = Vec::new();
        file.take(MAX_FILE_BYTES).read_to_end(&mut text).map_err(|error| self.io(error))?;
        let corrupt = |why: String| Error::Corrupt { path: self.path.clone(), why };
        let contents: T = serde_json::from_slice(&text).map_err(|error| corrupt(error.to_string()))?;
        contents.check().map_err(corrupt)?;
        Ok(contents)
    }

    fn replace(&self, folder: &Path, contents: &T) -> io::Result<()> {
        let temporary = self.path.with_extension("tmp");
        // Left by a crash; nobody else writes it, since we hold the lock.
        match fs::remove_file(&temporary) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&temporary)?;
        file.write_all(&serde_json::to_vec_pretty(contents)?)?;
        file.write_all(b"\n")?;
        file.sync_all()?;
        fs::rename(&temporary, &self.path)?;
        // The rename itself is durable only once its folder is.
        File::open(folder)?.sync_all()
    }

    fn io(&self, error: io::Error) -> Error {
        Error::Io { path: self.path.clone(), error }
    }
}

/// `N` bytes that nobody can guess.
///
/// # Errors
/// [`Error::Random`].
pub(crate) fn random<const N: usize>() -> Result<[u8; N], Error> {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).map_err(Error::Random)?;
    Ok(bytes)
}

/// Lower-case hexadecimal.
pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
