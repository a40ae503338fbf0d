//! `token-secrets.json`, whatever it holds: it is understood or left as it is, and what nobody signed is never good.
#![no_main]
use std::cell::RefCell;
use std::time::Instant;

use libfuzzer_sys::fuzz_target;
use rillcast::control::secrets::Secrets;
use ring::hmac;

thread_local! {
    static FOLDER: RefCell<tempfile::TempDir> = RefCell::new(tempfile::tempdir().expect("the temporary folder is writable"));
}

fuzz_target!(|data: &[u8]| {
    FOLDER.with_borrow(|folder| {
        let path = folder.path().join("token-secrets.json");
        // Another inode each time, by which the store tells that the file has changed.
        let _ = std::fs::remove_file(&path);
        std::fs::write(&path, data).expect("the folder is writable");
        let secrets = Secrets::new(folder.path());
        let is_good = |signed: &hmac::Tag| {
            let keys = secrets.verifying(Instant::now()).expect("it is understood");
            keys.iter().any(|key| hmac::verify(key, b"x", signed.as_ref()).is_ok())
        };
        match secrets.verifying(Instant::now()) {
            Err(_) => {
                assert!(secrets.signing().is_err() && secrets.rotate().is_err());
                assert_eq!(std::fs::read(&path).expect("it is there"), data, "it is left as it is");
            }
            Ok(before) => {
                assert!(before.len() <= 8);
                let signed = hmac::sign(&secrets.signing().expect("there is room"), b"x");
                // A view of the file may be a second old.
                let again = Secrets::new(folder.path());
                let keys = again.verifying(Instant::now()).expect("it was understood before");
                assert!(keys.iter().any(|key| hmac::verify(key, b"x", signed.as_ref()).is_ok()));
                assert!(before.is_empty() || is_good(&signed));
                again.rotate().expect("it was understood before");
                let newest = hmac::sign(&again.signing().expect("it was just written"), b"x");
                assert_ne!(newest.as_ref(), signed.as_ref(), "another secret signs");
            }
        }
    });
});
