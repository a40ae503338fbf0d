//! One coded picture or audio frame.

use bytes::BytesMut;

/// One coded picture or audio frame, in decode order (a *sample* in ISO BMFF).
#[derive(Debug)]
pub struct AccessUnit {
    /// When to decode, in ticks of its track.
    pub dts: i64,
    /// When to present, in ticks of its track; never before `dts` once the timeline has repaired it.
    pub pts: i64,
    /// Decoding can start here: an IDR picture, or any audio frame.
    pub sync: bool,
    /// It carries closed captions (CEA-608 or CEA-708) beside the picture.
    pub captions: bool,
    /// The payload as `mdat` holds it. It is the only handle to its region of the track's slab, which is what lets the
    /// packager join neighbours into one slice without copying.
    pub data: BytesMut,
}
