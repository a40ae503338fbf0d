//! `token-secrets.json`, whatever it holds: it is understood or left as it is, and what nobody signed is never good.
#![no_main]
use std::time::Instant;

use libfuzzer_sys::fuzz_target;
use rillcast::control::secrets::Secrets;
use rillcast_fuzz::with_file;
use ring::hmac;

fuzz_target!(|data: &[u8]| {
    with_file("token-secrets.json", data, |folder, path| {
        let secrets = Secrets::new(folder);
        let is_good = |secrets: &Secrets, signed: &hmac::Tag| {
            let keys = secrets.verifying(Instant::now()).expect("it is understood");
            keys.iter().any(|key| hmac::verify(key, b"x", signed.as_ref()).is_ok())
        };
        match secrets.verifying(Instant::now()) {
            Err(_) => {
                assert!(secrets.signing().is_err() && secrets.rotate().is_err());
                assert_eq!(std::fs::read(path).expect("it is there"), data, "it is left as it is");
            }
            Ok(before) => {
                assert!(before.len() <= 8);
                let signed = hmac::sign(&secrets.signing().expect("there is room"), b"x");
                let again = Secrets::new(folder);
                assert!(is_good(&again, &signed) && is_good(&secrets, &signed));
                again.rotate().expect("it was understood before");
                let newest = hmac::sign(&again.signing().expect("it was just written"), b"x");
                assert_ne!(newest.as_ref(), signed.as_ref(), "another secret signs");
            }
        }
    });
});
