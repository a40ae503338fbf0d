//! What errors tell, and what is not written.

use serde::Deserialize;

use super::*;

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Words {
    words: Vec<String>,
}

impl Contents for Words {
    fn check(&self) -> Result<(), String> {
        Ok(())
    }
}

fn file() -> (tempfile::TempDir, JsonFile<Words>) {
    let folder = tempfile::tempdir().expect("a folder");
    let file = JsonFile::new(folder.path().join("words.json"));
    (folder, file)
}

#[test]
fn no_error_repeats_what_a_file_holds() {
    let (_folder, file) = file();
    for text in [
        r#"{"words": ["hidden"]"#,
        r#"{"words": "hidden"}"#,
        r#"{"words": [{"hidden": 1}]}"#,
        r#"{"hidden": 1}"#,
        r#"{"words": ["hidden}"#,
        "hidden",
        r#"{"words": [4711]}"#,
    ] {
        fs::write(&file.path, text).expect("written");
        let error = file.read().expect_err("broken");
        let told = format!("{error} {error:?}");
        assert!(!told.contains("hidden") && !told.contains("4711"), "{told}");
        assert!(told.contains("words.json") && told.contains("line 1, column "), "{told}");
    }
}

#[test]
fn a_file_that_would_be_too_large_to_be_read_is_not_written() {
    let (_folder, file) = file();
    file.change(|words| words.words.push("small".into())).expect("written");
    let huge = "x".repeat(MAX_FILE_BYTES as usize);
    assert!(matches!(file.change(|words| words.words.push(huge)), Err(Error::Full(_))));
    assert_eq!(file.read().expect("as before").words, ["small"]);
    file.change(|words| words.words.clear()).expect("what is smaller can be written");
}

#[test]
fn a_broken_file_is_read_again_when_it_has_changed() {
    let (_folder, file) = file();
    fs::write(&file.path, "{").expect("written");
    assert!(file.read().is_err());
    let known = file.failed.lock().clone().map(|(at, ..)| at);
    assert!(file.read().is_err() && known.is_some());
    assert_eq!(file.failed.lock().clone().map(|(at, ..)| at), known, "it was not read a second time");
    fs::write(&file.path, r#"{"words": []}"#).expect("written");
    assert!(file.read().is_ok() && file.failed.lock().is_none());
}

/// Root runs the command line in a folder of the server's user, who could lay a link to anything.
#[test]
fn a_lock_that_is_a_link_is_not_followed() {
    let (folder, file) = file();
    let elsewhere = folder.path().join("elsewhere");
    fs::write(&elsewhere, "").expect("written");
    std::os::unix::fs::symlink(&elsewhere, folder.path().join("words.lock")).expect("linked");
    assert!(
        file.change(|words| words.words.push("x".into())).is_err_and(|error| error.to_string().contains("words.lock"))
    );
}

/// As root: what `sudo rillcast key add` makes is the server's. As anybody else there is no folder of another user to try it in.
#[test]
fn new_files_belong_to_the_owner_of_their_folder() {
    let (folder, file) = file();
    let mine = fs::metadata(folder.path()).expect("there").uid();
    let owner = if mine == 0 { 54_321 } else { mine };
    std::os::unix::fs::chown(folder.path(), Some(owner), Some(owner)).expect("ours to give");
    for word in ["first", "second"] {
        file.change(|words| words.words.push(word.into())).expect("written");
        for name in ["words.json", "words.lock"] {
            assert_eq!(fs::metadata(folder.path().join(name)).expect("there").uid(), owner, "{name}");
        }
    }
}

/// An empty key store lets everybody in who may publish without a key.
#[test]
fn what_a_file_held_that_vanishes_holds_on() {
    let (folder, file) = file();
    assert!(file.read().expect("none yet").words.is_empty());
    file.change(|words| words.words.push("one".into())).expect("written");
    assert_eq!(file.read().expect("there").words, ["one"]);
    fs::remove_file(&file.path).expect("removed");
    assert_eq!(file.read().expect("known").words, ["one"]);
    file.change(|words| words.words.push("two".into())).expect("written");
    assert_eq!(file.read().expect("there").words, ["one", "two"]);
    fs::remove_file(&file.path).expect("removed");
    let anew = JsonFile::<Words>::new(folder.path().join("words.json"));
    assert!(anew.read().expect("none").words.is_empty(), "who starts anew knows nothing of it");
    anew.change(|words| words.words.push("three".into())).expect("written");
    assert_eq!(file.read().expect("there again").words, ["three"]);
}
