//! `sequences/APP/NAME.json`, whatever it holds: numbers never go back, and a file that is not understood starts nothing and is left as it is.
#![no_main]
use std::cell::RefCell;

use libfuzzer_sys::fuzz_target;
use rillcast::packager::sequence::Sequences;

thread_local! {
    static FOLDER: RefCell<tempfile::TempDir> = RefCell::new(tempfile::tempdir().expect("the temporary folder is writable"));
}

fuzz_target!(|data: &[u8]| {
    FOLDER.with_borrow(|folder| {
        let path = folder.path().join("sequences/live/me.json");
        std::fs::create_dir_all(path.parent().expect("it has one")).expect("the folder is writable");
        std::fs::write(&path, data).expect("the folder is writable");
        let sequences = Sequences::new(folder.path());
        let stream = "live/me".parse().expect("a name");
        match sequences.reserve(&stream) {
            Err(_) => assert_eq!(std::fs::read(&path).expect("it is there"), data, "it is left as it is"),
            Ok((first, reservation)) => {
                let end = reservation.end();
                assert!(end.media > first.media && end.discontinuity > first.discontinuity);
                // A life that ends without a word has used up its block.
                drop(reservation);
                let (second, _) = sequences.reserve(&stream).expect("it was just written");
                assert_eq!((second.media, second.discontinuity), (end.media, end.discontinuity));
            }
        }
    });
});
