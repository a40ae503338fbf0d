//! `sequences/APP/NAME.json`, whatever it holds: numbers never go back, and a file that is not understood starts nothing and is left as it is.
#![no_main]
use libfuzzer_sys::fuzz_target;
use rillcast::packager::sequence::Sequences;
use rillcast_fuzz::with_file;

fuzz_target!(|data: &[u8]| {
    with_file("sequences/live/me.json", data, |folder, path| {
        let sequences = Sequences::new(folder);
        let stream = "live/me".parse().expect("a name");
        match sequences.reserve(&stream) {
            Err(_) => assert_eq!(std::fs::read(path).expect("it is there"), data, "it is left as it is"),
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
