//! FLV tag headers: the first bytes of every audio and video message, which say what follows. Payload is never looked at here.
//!
//! Specification: Adobe Flash Video File Format 10.1, §E.4.2 and §E.4.3.

use crate::media::Kind;

/// Longest header read here.
pub const MAX_HEAD_BYTES: usize = 8;
/// Composition times beyond this are nonsense: sixteen B pictures at a picture a second. The field reaches ±2.3 hours.
pub const MAX_COMPOSITION_MS: i32 = 16_000;

/// CodecIDs of video. Those that are not taken are known by name, to say so. Spec: §E.4.3.1; 12 is not in it, but sent by many encoders.
const SORENSON: u8 = 2;
const VP6: u8 = 4;
const VP6_ALPHA: u8 = 5;
const AVC: u8 = 7;
const HEVC: u8 = 12;
/// SoundFormats of audio. Spec: §E.4.2.1.
const MP3: u8 = 2;
const G711_A_LAW: u8 = 7;
const G711_MU_LAW: u8 = 8;
const AAC: u8 = 10;
const SPEEX: u8 = 11;
/// MP3 at 8 kHz, a rate that the header's own field cannot say. The frames say it themselves.
const MP3_8_KHZ: u8 = 14;
/// AVCPacketType, and AACPacketType but for the last.
const SEQUENCE_HEADER: u8 = 0;
const CODED: u8 = 1;
const END_OF_SEQUENCE: u8 = 2;
/// Set in the first byte of an Enhanced RTMP video header; a FourCC follows. Spec: Enhanced RTMP v1, "Extended VideoTagHeader".
const ENHANCED: u8 = 0x80;
/// Frame type of client commands (seek). Nothing in it is media.
const COMMAND: u8 = 5;
/// The audio format of an Enhanced RTMP header.
const ENHANCED_AUDIO: u8 = 9;

/// What a message carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Content {
    /// The codec's configuration record: AVCDecoderConfigurationRecord or AudioSpecificConfig.
    Config,
    /// An access unit, presented this many milliseconds after it is decoded.
    Unit {
        /// Within ±[`MAX_COMPOSITION_MS`].
        composition_ms: i32,
    },
    /// MP3 frames, which need no configuration.
    Mp3,
    /// The end of the sequence.
    End,
    /// Nothing of use.
    Nothing,
}

/// A tag header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Head {
    /// What follows.
    pub content: Content,
    /// How many bytes the header has.
    pub length: usize,
}

/// A codec that is not taken; the text is shown to the publisher.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{codec} {kind} is not taken; send {wanted}")]
pub struct Unsupported {
    /// The codec's name or FourCC.
    pub codec: String,
    /// `video` or `audio`.
    pub kind: &'static str,
    /// What is taken instead.
    pub wanted: &'static str,
}

/// Reads the header of a tag that begins with `bytes`. `None` when more of them are needed, never more than [`MAX_HEAD_BYTES`].
///
/// # Errors
/// [`Unsupported`].
pub fn read_head(kind: Kind, bytes: &[u8]) -> Result<Option<Head>, Unsupported> {
    match kind {
        Kind::Video => read_video(bytes),
        Kind::Audio => read_audio(bytes),
    }
}

fn read_video(bytes: &[u8]) -> Result<Option<Head>, Unsupported> {
    let Some(&first) = bytes.first() else { return Ok(None) };
    let unsupported = |codec: String| Unsupported { codec, kind: "video", wanted: "H.264" };
    if first & ENHANCED != 0 {
        let Some(code) = bytes.get(1..5) else { return Ok(None) };
        return Err(unsupported(code.escape_ascii().to_string()));
    }
    if first >> 4 == COMMAND {
        return Ok(Some(Head { content: Content::Nothing, length: 1 }));
    }
    match first & 0x0F {
        AVC => {}
        SORENSON => return Err(unsupported("Sorenson H.263".into())),
        VP6 | VP6_ALPHA => return Err(unsupported("VP6".into())),
        HEVC => return Err(unsupported("HEVC (codec 12)".into())),
        other => return Err(unsupported(format!("codec {other}"))),
    }
    let Some(&[packet_type, a, b, c]) = bytes.get(1..5) else { return Ok(None) };
    let content = match packet_type {
        SEQUENCE_HEADER => Content::Config,
        CODED => {
            // 24 bits, signed.
            let composition = i32::from_be_bytes([a, b, c, 0]) >> 8;
            Content::Unit { composition_ms: composition.clamp(-MAX_COMPOSITION_MS, MAX_COMPOSITION_MS) }
        }
        END_OF_SEQUENCE => Content::End,
        _ => Content::Nothing,
    };
    Ok(Some(Head { content, length: 5 }))
}

fn read_audio(bytes: &[u8]) -> Result<Option<Head>, Unsupported> {
    let Some(&first) = bytes.first() else { return Ok(None) };
    let unsupported = |codec: String| Unsupported { codec, kind: "audio", wanted: "AAC or MP3" };
    match first >> 4 {
        AAC => {}
        ENHANCED_AUDIO => {
            let Some(code) = bytes.get(1..5) else { return Ok(None) };
            return Err(unsupported(code.escape_ascii().to_string()));
        }
        MP3 | MP3_8_KHZ => return Ok(Some(Head { content: Content::Mp3, length: 1 })),
        SPEEX => return Err(unsupported("Speex".into())),
        G711_A_LAW | G711_MU_LAW => return Err(unsupported("G.711".into())),
        other => return Err(unsupported(format!("format {other}"))),
    }
    let Some(&packet_type) = bytes.get(1) else { return Ok(None) };
    let content = match packet_type {
        SEQUENCE_HEADER => Content::Config,
        CODED => Content::Unit { composition_ms: 0 },
        _ => Content::Nothing,
    };
    Ok(Some(Head { content, length: 2 }))
}

/// One tag of an aggregate message, which holds whole FLV tags. Spec: RTMP 1.0 §7.1.6.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tag<'a> {
    /// Message type id.
    pub type_id: u8,
    /// Milliseconds, on a clock whose offset to the message's is that of the first tag.
    pub timestamp: u32,
    /// What a message of its own would hold.
    pub body: &'a [u8],
}

/// The tags of an aggregate message, up to the first that does not fit.
pub fn tags(message: &[u8]) -> impl Iterator<Item = Tag<'_>> {
    let mut reader = crate::media::reader::Reader::new(message);
    std::iter::from_fn(move || {
        let type_id = reader.u8().ok()?;
        let length = reader.u24().ok()? as usize;
        let low = reader.u24().ok()?;
        let timestamp = u32::from(reader.u8().ok()?) << 24 | low;
        reader.take(3).ok()?;
        let body = reader.take(length).ok()?;
        // The back pointer; some writers leave out the last one.
        let _ = reader.u32();
        Some(Tag { type_id, timestamp, body })
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn heads_of_what_is_taken() {
        use Content::{Config, End, Nothing, Unit};
        for (name, kind, bytes, content) in [
            ("AVC configuration", Kind::Video, &[0x17, 0, 0, 0, 0][..], Config),
            ("AVC key picture", Kind::Video, &[0x17, 1, 0, 0, 80], Unit { composition_ms: 80 }),
            ("AVC negative composition", Kind::Video, &[0x27, 1, 0xFF, 0xFF, 0xFF], Unit { composition_ms: -1 }),
            (
                "AVC largest composition",
                Kind::Video,
                &[0x27, 1, 0x7F, 0xFF, 0xFF],
                Unit { composition_ms: MAX_COMPOSITION_MS },
            ),
            (
                "AVC smallest composition",
                Kind::Video,
                &[0x27, 1, 0x80, 0, 0],
                Unit { composition_ms: -MAX_COMPOSITION_MS },
            ),
            ("AVC end", Kind::Video, &[0x17, 2, 0, 0, 0], End),
            ("AVC unknown packet type", Kind::Video, &[0x17, 9, 0, 0, 0], Nothing),
            ("seek command", Kind::Video, &[0x52], Nothing),
            ("AAC configuration", Kind::Audio, &[0xAF, 0], Config),
            ("AAC frame", Kind::Audio, &[0xAF, 1], Unit { composition_ms: 0 }),
            ("MP3", Kind::Audio, &[0x2F], Content::Mp3),
            ("MP3 at 8 kHz", Kind::Audio, &[0xEE], Content::Mp3),
        ] {
            assert_eq!(read_head(kind, bytes), Ok(Some(Head { content, length: bytes.len() })), "{name}");
            for end in 0..bytes.len() {
                assert_eq!(read_head(kind, &bytes[..end]), Ok(None), "{name} cut at {end}");
            }
        }
    }

    #[test]
    fn other_codecs_are_refused_by_name() {
        for (kind, bytes, words) in [
            (Kind::Video, &[0x90, b'h', b'v', b'c', b'1'][..], "hvc1 video is not taken; send H.264"),
            (Kind::Video, &[0x12], "Sorenson H.263 video is not taken; send H.264"),
            (Kind::Audio, &[0xBF], "Speex audio is not taken; send AAC or MP3"),
            (Kind::Audio, &[0x91, b'O', b'p', b'u', b's'], "Opus audio is not taken; send AAC or MP3"),
            (Kind::Audio, &[0x91, 0, b'\n', 0xFF, b'"'], "\\x00\\n\\xff\\\" audio is not taken; send AAC or MP3"),
        ] {
            assert_eq!(read_head(kind, bytes).unwrap_err().to_string(), words);
        }
    }

    #[test]
    fn aggregates_end_at_the_first_tag_that_does_not_fit() {
        let tag = |kind: u8, time: u8, body: &[u8]| {
            let mut bytes = vec![kind, 0, 0, body.len() as u8, 0, 0, time, 1, 0, 0, 0];
            bytes.extend_from_slice(body);
            bytes.extend_from_slice(&(body.len() as u32 + 11).to_be_bytes());
            bytes
        };
        let message = [tag(8, 5, &[1, 2]), tag(9, 6, &[]), tag(9, 7, &[3, 4, 5])].concat();
        let got: Vec<_> = tags(&message[..message.len() - 6]).collect();
        assert_eq!(
            got,
            [
                Tag { type_id: 8, timestamp: 1 << 24 | 5, body: &[1, 2] },
                Tag { type_id: 9, timestamp: 1 << 24 | 6, body: &[] },
            ]
        );
        assert_eq!(tags(&message).count(), 3);
    }

    proptest! {
        #[test]
        fn a_head_is_known_within_its_limit(bytes in proptest::collection::vec(any::<u8>(), MAX_HEAD_BYTES)) {
            for kind in [Kind::Video, Kind::Audio] {
                prop_assert!(!matches!(read_head(kind, &bytes), Ok(None)));
            }
        }
    }
}
