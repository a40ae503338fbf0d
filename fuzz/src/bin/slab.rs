//! The slab: what comes out is what went in, in order, whatever was announced.
#![no_main]
use libfuzzer_sys::fuzz_target;
use rillcast::media::Slab;
use rillcast_fuzz::Choices;

fuzz_target!(|data: &[u8]| {
    let mut choices = Choices::new(data);
    let (mut slab, mut kept) = (Slab::default(), Vec::new());
    while !choices.is_empty() && kept.len() < 64 {
        slab.begin(choices.word() as usize % 20_000_000);
        let mut expected = Vec::new();
        for _ in 0..choices.below(4) {
            let piece = [choices.bytes(200), &vec![choices.byte(); choices.below(256) * 16]].concat();
            slab.extend(&piece);
            expected.extend_from_slice(&piece);
        }
        assert_eq!(slab.pending(), expected.len());
        if choices.below(5) == 0 {
            slab.abandon();
        } else {
            kept.push((slab.take(), expected));
        }
    }
    assert!(kept.iter().all(|(data, expected)| data == expected));
});
