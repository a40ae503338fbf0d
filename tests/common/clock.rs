//! A wall clock drawn into the picture as black and white blocks, so that a viewer's page can tell how old what it shows is.
//!
//! The picture is a grid of 8 by 8 blocks, most significant bit first: 48 bits of Unix milliseconds, then 16 bits of checksum.
//! `tests/browser/watch.js` reads it. Blocks survive scaling, chroma subsampling and low bit rates.

use std::io::Write;
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// Blocks a side.
const GRID: usize = 8;
/// Video levels of the blocks, away from the ends so that no encoder clips them.
const BLACK: u8 = 24;
const WHITE: u8 = 228;

/// The 64 bits that stand for a time.
pub fn bits(unix_ms: u64) -> u64 {
    let time = unix_ms & 0xffff_ffff_ffff;
    let sum = time.to_be_bytes()[2..].iter().fold(0x5aa5_u64, |sum, byte| (sum * 31 + u64::from(*byte)) & 0xffff);
    time << 16 | sum
}

/// One picture in planar YUV 4:2:0. Width and height are multiples of 16.
pub fn picture(unix_ms: u64, width: usize, height: usize) -> Vec<u8> {
    let bits = bits(unix_ms);
    let mut picture = vec![128; width * height * 3 / 2];
    for (y, row) in picture[..width * height].chunks_exact_mut(width).enumerate() {
        for (column, block) in row.chunks_exact_mut(width / GRID).enumerate() {
            let place = y / (height / GRID) * GRID + column;
            block.fill(if bits >> (63 - place) & 1 == 1 { WHITE } else { BLACK });
        }
    }
    picture
}

/// Writes pictures at their time until the reader goes away; each shows the clock at the moment it is drawn.
pub fn draw(mut into: impl Write, width: usize, height: usize, fps: (u32, u32)) {
    let start = Instant::now();
    for number in 0_u64.. {
        let due = Duration::from_nanos(number * 1_000_000_000 * u64::from(fps.1) / u64::from(fps.0));
        thread::sleep(due.saturating_sub(start.elapsed()));
        let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("the clock is past 1970");
        let now = u64::try_from(now.as_millis()).expect("milliseconds fit in 64 bits");
        if into.write_all(&picture(now, width, height)).is_err() {
            return;
        }
    }
}

#[test]
fn blocks_hold_the_time() {
    let picture = picture(0x0123_4567_89ab, 64, 64);
    let read = (0..64)
        .fold(0_u64, |bits, place| bits << 1 | u64::from(picture[(place / 8 * 8 + 4) * 64 + place % 8 * 8 + 4] > 127));
    assert_eq!(read >> 16, 0x0123_4567_89ab);
    assert_eq!(read, bits(0x0123_4567_89ab));
}
