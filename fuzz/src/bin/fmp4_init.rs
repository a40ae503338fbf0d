//! Configuration records that are accepted become init segments that mp4-atom reads, or an error in words.
#![no_main]
use libfuzzer_sys::fuzz_target;
use mp4_atom::{Decode, Ftyp, Moov};
use rillcast::media::codec::{aac, h264};
use rillcast::media::{Format, Timescale, Track};
use rillcast::packager::fmp4::init;
use rillcast_fuzz::Choices;

fuzz_target!(|data: &[u8]| {
    let mut choices = Choices::new(data);
    let audio = choices.below(2) == 0;
    let record = choices.rest();
    let format = if audio {
        aac::Config::parse(record).ok().map(Format::Aac)
    } else {
        h264::Config::parse(record).ok().map(Format::H264)
    };
    let Some(format) = format else { return };
    let track = Track { format, timescale: Timescale::NINETY_KHZ, language: "und".into() };
    let Ok(bytes) = init::write(&track) else { return };
    let mut rest = &bytes[..];
    Ftyp::decode(&mut rest).expect("ftyp");
    let moov = Moov::decode(&mut rest).expect("moov");
    assert!(rest.is_empty() && moov.trak.len() == 1);
});
