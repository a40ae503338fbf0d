//! Whose the files are that we make. The command line may run as root (`sudo rillcast key add`), the server as a user of its own, who must be able to
//! read and replace them.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::{MetadataExt, fchown};
use std::path::{Path, PathBuf};

use super::Error;

const ROOT: u32 = 0;

/// Who a new file is to belong to: the owner of the file whose place it takes, or of the folder.
#[derive(Debug)]
pub(super) struct Owner {
    uid: u32,
    gid: u32,
    /// What says so.
    path: PathBuf,
}

impl Owner {
    /// The owner of `file`, or of `folder` where there is no such file.
    ///
    /// # Errors
    /// The system refuses to say.
    pub(super) fn of(file: &Path, folder: &Path) -> io::Result<Self> {
        let (path, found) = match fs::symlink_metadata(file) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => (folder, fs::metadata(folder)?),
            found => (file, found?),
        };
        Ok(Self { uid: found.uid(), gid: found.gid(), path: path.to_owned() })
    }

    /// Makes `made`, which we have just made at `at`, theirs. Where that cannot be, it is removed.
    ///
    /// # Errors
    /// [`Error::Owner`], [`Error::Io`].
    pub(super) fn give(&self, made: &File, at: &Path) -> Result<(), Error> {
        let given = self.try_give(made);
        if given.is_err() {
            // It says nothing yet. That it may stay behind is the smaller trouble.
            let _ = fs::remove_file(at);
        }
        given
    }

    fn try_give(&self, made: &File) -> Result<(), Error> {
        let io = |error| Error::Io { path: self.path.clone(), error: std::sync::Arc::new(error) };
        let ours = made.metadata().map_err(io)?.uid();
        if !self.is_to_be_given(ours) {
            return Ok(());
        }
        fchown(made, Some(self.uid), Some(self.gid)).map_err(|error| match error.kind() {
            io::ErrorKind::PermissionDenied => Error::Owner { path: self.path.clone(), uid: self.uid },
            _ => io(error),
        })
    }

    /// Whether what belongs to `ours` must change hands. A server that writes to a folder of root's by way of its group keeps its files: root reads
    /// them in any case.
    fn is_to_be_given(&self, ours: u32) -> bool {
        self.uid != ours && self.uid != ROOT
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_change_hands_where_their_place_is_somebodys() {
        let of = |uid| Owner { uid, gid: uid, path: PathBuf::new() };
        for (owner, ours, given) in
            [(997, 0, true), (997, 1_000, true), (997, 997, false), (0, 0, false), (0, 997, false)]
        {
            assert_eq!(of(owner).is_to_be_given(ours), given, "{ours} in a place of {owner}");
        }
    }

    #[test]
    fn the_file_comes_before_the_folder() {
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("keys.json");
        assert_eq!(Owner::of(&file, folder.path()).expect("there").path, folder.path());
        fs::write(&file, "").expect("written");
        assert_eq!(Owner::of(&file, folder.path()).expect("there").path, file);
    }

    /// As root the file becomes theirs; as anybody else the sentence says whose it should be, and nothing stays behind.
    #[test]
    fn what_is_made_is_given_away_or_not_made() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("keys.tmp");
        let made = File::create_new(&path).expect("made");
        let owner = Owner { uid: 54_321, gid: 54_321, path: folder.path().to_owned() };
        match owner.give(&made, &path) {
            Ok(()) => assert_eq!(fs::metadata(&path).expect("there").uid(), 54_321),
            Err(error) => {
                assert!(error.to_string().contains("belongs to user 54321"), "{error}");
                assert!(!path.exists());
            }
        }
    }
}
