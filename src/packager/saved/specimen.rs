//! A file for tests and fuzz targets.

use super::{Header, PublisherState, write};
use crate::packager::{Config, Presentation};

/// What a server would leave on disk that stops now, of a publisher who left at `left_micros` (Unix). `None` unless nobody publishes.
///
/// # Panics
/// Where memory does not take the file.
#[allow(clippy::expect_used, reason = "for tests alone")]
pub fn specimen(presentation: &Presentation, config: &Config, left_micros: i64) -> Option<Vec<u8>> {
    let (state, payload) = presentation.save()?;
    let publisher = PublisherState {
        protocol: "rtmp".into(),
        peer: ([127, 0, 0, 1], 50_000).into(),
        since_micros: left_micros,
        holder: "me".into(),
    };
    let header =
        Header { stream: "live/me".into(), left_micros, publisher, config: config.clone(), presentation: state };
    let mut file = Vec::new();
    write(&header, &payload, &mut file).expect("memory takes everything");
    Some(file)
}
