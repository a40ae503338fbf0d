//! Small JSON files in `data_dir` that the running server and the command line share, until a repository holds what is in them.
//!
//! A file is replaced whole by an atomic rename, under a lock file, so that the command line may change it while the server runs; the server
//! notices by its stamp and reads it again. A file that cannot be understood is never overwritten.
//!
//! Some of them hold secrets, so that no error repeats what is in one.

mod owner;

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::marker::PhantomData;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use rustix::fs::FlockOperation;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::error::Category;

use self::owner::Owner;

/// Largest file that is read or written: more than any limit on what is in it allows.
const MAX_FILE_BYTES: u64 = 32 << 20;
/// How long a file that could not be read is not tried again while it stays as it is, so that a flood of questions is no flood of reads.
const RETRY: Duration = Duration::from_secs(1);

/// Why a file cannot be used. Always the operator's to repair.
#[derive(Debug, Clone, thiserror::Error)]
pub enum Error {
    /// The system refuses to read or write.
    #[error("{path}: {error}")]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system says.
        error: Arc<io::Error>,
    },
    /// What we make would belong to us, and the server, which is another user, could not read it.
    #[error("{path} belongs to user {uid}, to whom this user may not give files: do this as that user, or as root")]
    Owner {
        /// The file, or the folder that it would be made in.
        path: PathBuf,
        /// Its owner.
        uid: u32,
    },
    /// There is no room for more.
    #[error("{0}")]
    Full(String),
    /// The file is not what we wrote. It is left as it is.
    #[error("{path} cannot be understood and was left as it is: {why}")]
    Corrupt {
        /// The file.
        path: PathBuf,
        /// Where, and which rule is broken; nothing of what is there.
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
    /// When and why the last look failed, and at which version of the file.
    failed: Mutex<Option<(Instant, Option<Stamp>, Error)>>,
    /// It was said that the file is gone.
    warned: AtomicBool,
    contents: PhantomData<fn() -> T>,
}

impl<T: Contents> JsonFile<T> {
    /// The file at `path`. Nothing is read or made yet.
    pub(crate) fn new(path: PathBuf) -> Self {
        Self {
            path,
            cached: Mutex::new(None),
            failed: Mutex::new(None),
            warned: AtomicBool::new(false),
            contents: PhantomData,
        }
    }

    /// What the file holds now. One that cannot be read is tried again when it has changed, or after a second.
    ///
    /// # Errors
    /// [`Error`].
    pub(crate) fn read(&self) -> Result<Arc<T>, Error> {
        let stamp = self.stamp()?;
        if stamp.is_none()
            && let Some(known) = self.gone()
        {
            return Ok(known);
        }
        let mut cached = self.cached.lock();
        if let Some((known, contents)) = cached.as_ref()
            && *known == stamp
        {
            return Ok(Arc::clone(contents));
        }
        self.warned.store(false, Ordering::Relaxed);
        let mut failed = self.failed.lock();
        if let Some((at, known, error)) = failed.as_ref()
            && *known == stamp
            && at.elapsed() < RETRY
        {
            return Err(error.clone());
        }
        let contents = self.load().map(Arc::new).inspect_err(|error| {
            *failed = Some((Instant::now(), stamp, error.clone()));
        })?;
        *failed = None;
        // Where the file changed between the two, the next look finds another stamp and reads again.
        *cached = Some((stamp, Arc::clone(&contents)));
        Ok(contents)
    }

    /// What the file held that was there and is not any more. To go on with that is safe: what was asked for last is not known to be wrong, and an empty
    /// file might let everybody in.
    fn gone(&self) -> Option<Arc<T>> {
        let cached = self.cached.lock();
        let (Some(_), contents) = cached.as_ref()? else { return None };
        if !self.warned.swap(true, Ordering::Relaxed) {
            let path = self.path.display();
            tracing::warn!(%path, "the file is gone: what it held holds on, until it is there again or the server is started anew");
        }
        Some(Arc::clone(contents))
    }

    /// Reads, changes and replaces the file, alone among processes.
    ///
    /// # Errors
    /// [`Error`]; the file is as before then.
    pub(crate) fn change<R>(&self, change: impl FnOnce(&mut T) -> R) -> Result<R, Error> {
        let folder = self.path.parent().unwrap_or(Path::new("."));
        fs::create_dir_all(folder).map_err(|error| self.io(error))?;
        let owner = Owner::of(&self.path, folder).map_err(|error| self.io(error))?;
        let lock = self.lock(&owner)?;
        rustix::fs::flock(&lock, FlockOperation::LockExclusive).map_err(|errno| self.io(errno.into()))?;
        let known = if self.stamp()?.is_none() { self.gone() } else { None };
        let before = known.map_or_else(|| self.load(), |known| Ok(T::clone(&known)))?;
        let mut contents = before.clone();
        let result = change(&mut contents);
        if contents != before {
            self.replace(folder, &owner, &contents)?;
        }
        Ok(result)
    }

    /// Opens the lock file, and makes it where there is none. Who may write to the folder need not be who we are: no link is followed, and only what
    /// we made ourselves is given away.
    fn lock(&self, owner: &Owner) -> Result<File, Error> {
        let path = self.path.with_extension("lock");
        let io = |error| Error::Io { path: path.clone(), error: Arc::new(error) };
        let nofollow = rustix::fs::OFlags::NOFOLLOW.bits().cast_signed();
        match OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path) {
            Ok(made) => owner.give(&made, &path).map(|()| made),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                OpenOptions::new().write(true).custom_flags(nofollow).open(&path).map_err(io)
            }
            Err(error) => Err(io(error)),
        }
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
        file.take(MAX_FILE_BYTES + 1).read_to_end(&mut text).map_err(|error| self.io(error))?;
        let corrupt = |why: String| Error::Corrupt { path: self.path.clone(), why };
        if text.len() as u64 > MAX_FILE_BYTES {
            return Err(corrupt(format!("it has more than {MAX_FILE_BYTES} bytes")));
        }
        let contents: T = serde_json::from_slice(&text).map_err(|error| corrupt(place(&error)))?;
        contents.check().map_err(corrupt)?;
        Ok(contents)
    }

    fn replace(&self, folder: &Path, owner: &Owner, contents: &T) -> Result<(), Error> {
        let io = |error| self.io(error);
        let mut text = serde_json::to_vec_pretty(contents).map_err(|error| io(error.into()))?;
        text.push(b'\n');
        if text.len() as u64 > MAX_FILE_BYTES {
            let path = self.path.display();
            return Err(Error::Full(format!(
                "{path} would have more than {MAX_FILE_BYTES} bytes, the most that is read"
            )));
        }
        let temporary = self.path.with_extension("tmp");
        // Left by a crash; nobody else writes it, since we hold the lock.
        match fs::remove_file(&temporary) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(io(error)),
            _ => {}
        }
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&temporary).map_err(io)?;
        owner.give(&file, &temporary)?;
        file.write_all(&text).map_err(io)?;
        file.sync_all().map_err(io)?;
        fs::rename(&temporary, &self.path).map_err(io)?;
        // The rename itself is durable only once its folder is.
        File::open(folder).and_then(|folder| folder.sync_all()).map_err(io)
    }

    fn io(&self, error: io::Error) -> Error {
        Error::Io { path: self.path.clone(), error: Arc::new(error) }
    }
}

/// Where JSON is wrong, and how, without a word of it.
fn place(error: &serde_json::Error) -> String {
    let rule = match error.classify() {
        Category::Eof => "it breaks off",
        Category::Syntax | Category::Io => "it is no JSON",
        Category::Data => {
            "something is there that this program does not know, or that is of another kind than it should be"
        }
    };
    format!("line {}, column {}: {rule}", error.line(), error.column())
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

#[cfg(test)]
mod tests;
