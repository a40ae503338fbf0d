//! Walking NAL units: built ones are found as they were built, others never panic.
#![no_main]
use libfuzzer_sys::fuzz_target;
use rillcast::media::codec::h264::{UnitError, inspect};
use rillcast_fuzz::Choices;

fuzz_target!(|data: &[u8]| {
    let mut choices = Choices::new(data);
    let width = [1, 2, 4][choices.below(3)];
    if choices.below(2) == 0 {
        let _ = inspect(choices.rest(), width);
        return;
    }
    let (mut unit, mut picture, mut idr) = (Vec::new(), false, false);
    while !choices.is_empty() {
        let body = [&[choices.byte()], choices.bytes(100)].concat();
        let kind = body[0] & 0x1F;
        picture |= (1..=5).contains(&kind);
        idr |= kind == 5;
        unit.extend_from_slice(&(body.len() as u32).to_be_bytes()[4 - usize::from(width)..]);
        unit.extend_from_slice(&body);
    }
    match inspect(&unit, width) {
        Ok(contents) => assert!(picture && contents.idr == idr),
        Err(error) => assert!(!picture && error == UnitError::NoPicture),
    }
});
