//! `keys.json`, whatever it holds: it is understood or left as it is, and lets nobody in by mistake.
#![no_main]
use libfuzzer_sys::fuzz_target;
use rillcast::control::keys::{Conditions, KeyStore, Shown};
use rillcast::media::WallTime;
use rillcast_fuzz::with_file;

fuzz_target!(|data: &[u8]| {
    with_file("keys.json", data, |folder, path| {
        let keys = KeyStore::new(folder);
        let now = WallTime::from_micros(1_700_000_000_000_000);
        let stream = "live/me".parse().expect("a name");
        let (here, elsewhere) = ("127.0.0.1".parse().expect("local"), "192.0.2.1".parse().expect("an address"));
        // Nobody knows a key of which the file holds the digest: 256 random bits.
        let known = keys.list();
        for key in [None, Some(""), Some("rk_x")] {
            assert!(keys.authorise(&stream, key, elsewhere, now).is_err());
        }
        assert!(!matches!(keys.authorise_api(Some("ra_x"), now), Ok(Shown::Good)));
        match known {
            Err(_) => {
                assert!(
                    keys.authorise(&stream, None, here, now).is_err(),
                    "a file that is not understood lets nobody in"
                );
                assert!(keys.add(&"live/me".parse().expect("a pattern"), Conditions::default(), now).is_err());
                assert_eq!(std::fs::read(path).expect("it is there"), data, "it is left as it is");
            }
            Ok(known) => {
                let made = keys
                    .add(&"live/me".parse().expect("a pattern"), Conditions::default(), now)
                    .expect("there is room");
                let (_, key) = made.paste.split_once("?key=").expect("a key");
                assert!(keys.authorise(&stream, Some(key), elsewhere, now).is_ok());
                assert_eq!(keys.list().expect("it was just written").len(), known.len() + 1);
                let revoked = keys.revoke(&made.id).expect("it was just written");
                assert!(revoked.is_some());
            }
        }
    });
});
