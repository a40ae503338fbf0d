//! The file that a graceful stop leaves for the next start, read as if somebody hostile had written it: bytes as they are, and headers that are
//! sealed with the right lengths and checksum. What is taken up can be watched, published to and ended.
#![no_main]
use std::sync::Arc;

use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use rillcast::media::AccessUnit;
use rillcast::packager::playlist::{dash, hls_media, hls_multivariant};
use rillcast::packager::presentation::Presentation;
use rillcast::packager::saved::{read, seal};
use rillcast_fuzz::Choices;
use rillcast_fuzz::show::{Show, audio, config, video};

fn use_it(mut presentation: Presentation, choices: &mut Choices<'_>) {
    let mut now = presentation.idle_since().expect("it is interrupted");
    let ids = [presentation.rejoin_track(0, video()), presentation.rejoin_track(0, audio(0))];
    for step in 0..40_i64 {
        now = now.plus_micros(i64::from(choices.word() % 4_000_000));
        match choices.below(3) {
            0 => _ = presentation.pass(now),
            which => {
                let Some(Ok(id)) = ids.get(which - 1) else { continue };
                let data = [0; 5][..].into();
                let unit = AccessUnit { dts: step * 9_000, pts: step * 9_000, sync: true, captions: false, data };
                if presentation.push(*id, unit, now).is_err() {
                    break;
                }
            }
        }
        let changes = presentation.take_changes();
        changes.windows.iter().for_each(|window| _ = hls_media::render(window, &[], step % 2 == 0));
        if let Some(catalog) = changes.catalog {
            hls_multivariant::render(&catalog);
            dash::render(&catalog, &changes.windows);
        }
    }
    presentation.finish(now);
    presentation.take_changes();
}

fn take_up(file: &[u8], choices: &mut Choices<'_>) {
    let Ok((header, payload)) = read(file) else { return };
    if header.config.validate().is_err() {
        return;
    }
    if let Ok(presentation) = Presentation::restore(&header.presentation, payload, Arc::new(header.config)) {
        use_it(presentation, choices);
    }
}

fuzz_target!(|data: &[u8]| {
    let mut choices = Choices::new(data);
    match choices.below(4) {
        0 => {
            let mut last = Choices::new(&[]);
            take_up(choices.rest(), &mut last);
        }
        // A header in words of the fuzzer's own.
        1 => {
            let mut file = Vec::new();
            let payload = Bytes::copy_from_slice(choices.bytes(255));
            seal(choices.rest(), &[payload], &mut file).expect("memory takes everything");
            take_up(&file, &mut choices);
        }
        // A real one, in which a few bytes are other ones.
        _ => {
            let config = config(&mut choices);
            let edits: Vec<(u32, u8)> = (0..choices.below(6)).map(|_| (choices.word(), choices.byte())).collect();
            let mut show = Show::new(config);
            show.publish_a_little(choices.below(8));
            let Some(file) = show.file() else { return };
            let (header, payload) = read(&file).expect("our own file");
            let mut text = serde_json::to_vec(&header).expect("JSON");
            for (at, digit) in edits {
                let at = at as usize % text.len();
                if text[at].is_ascii_digit() {
                    text[at] = b'0' + digit % 10;
                } else if digit > 250 {
                    text[at] = digit;
                }
            }
            let mut sealed = Vec::new();
            let payload = Bytes::copy_from_slice(payload);
            seal(&text, &[payload], &mut sealed).expect("memory takes everything");
            take_up(&sealed, &mut choices);
        }
    }
});
