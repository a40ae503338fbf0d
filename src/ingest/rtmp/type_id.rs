//! Message type ids: what a message is, as its header says.
//!
//! Specification: RTMP 1.0 §5.4, §6.2, §7.1.

use crate::media::Kind;

/// Protocol control: Set Chunk Size.
pub(super) const SET_CHUNK_SIZE: u8 = 1;
/// Protocol control: Abort Message.
pub(super) const ABORT: u8 = 2;
/// User control: pings, stream begin.
pub(super) const USER_CONTROL: u8 = 4;
/// Protocol control: Window Acknowledgement Size.
pub(super) const WINDOW_SIZE: u8 = 5;
pub(super) const AUDIO: u8 = 8;
pub(super) const VIDEO: u8 = 9;
/// Metadata and captions, AMF3 or AMF0.
pub(super) const DATA_AMF3: u8 = 15;
pub(super) const DATA_AMF0: u8 = 18;
/// Commands, AMF3 or AMF0.
pub(super) const COMMAND_AMF3: u8 = 17;
pub(super) const COMMAND_AMF0: u8 = 20;
/// Several audio and video messages as FLV tags in one.
pub(super) const AGGREGATE: u8 = 22;

/// Which track a message is of; `None` where it is of none, or of several.
pub(super) fn media_kind(type_id: u8) -> Option<Kind> {
    match type_id {
        AUDIO => Some(Kind::Audio),
        VIDEO => Some(Kind::Video),
        _ => None,
    }
}
