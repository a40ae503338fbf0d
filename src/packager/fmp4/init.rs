//! The CMAF header: `ftyp` and `moov` of one track.
//!
//! Specification: ISO/IEC 23000-19 §7.3.1 (CMAF header), RFC 8216bis §3.1.2 (Media Initialization Section).

use bytes::{Bytes, BytesMut};
use mp4_atom as atom;
use mp4_atom::{Atom, Encode, FourCC};

use crate::media::codec::{aac, h264};
use crate::media::{Format, Kind, Track};

/// The only track of every file.
pub const TRACK_ID: u32 = 1;

/// Why a CMAF header cannot be written for a track.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The codec's configuration record cannot be represented.
    #[error("the codec configuration cannot be written to an init segment: {0}")]
    Configuration(#[from] atom::Error),
}

/// The whole init segment of `track`.
///
/// # Errors
/// [`Error`] where the configuration record, though it parsed, cannot be written: the publisher's fault.
pub fn write(track: &Track) -> Result<Bytes, Error> {
    let codec = match &track.format {
        Format::H264(config) => avc1(config)?,
        Format::Aac(config) => mp4a(config),
    };
    let kind = track.format.kind();
    let (width, height) = match &track.format {
        Format::H264(config) => (config.width, config.height),
        Format::Aac(_) => (0, 0),
    };
    let moov = atom::Moov {
        mvhd: atom::Mvhd {
            timescale: track.timescale.hz(),
            rate: 1.into(),
            volume: 1.into(),
            next_track_id: TRACK_ID + 1,
            ..Default::default()
        },
        mvex: Some(atom::Mvex {
            mehd: None,
            trex: vec![atom::Trex { track_id: TRACK_ID, default_sample_description_index: 1, ..Default::default() }],
        }),
        trak: vec![atom::Trak {
            tkhd: atom::Tkhd {
                track_id: TRACK_ID,
                enabled: true,
                in_movie: true,
                volume: u8::from(kind == Kind::Audio).into(),
                width: width.into(),
                height: height.into(),
                ..Default::default()
            },
            mdia: atom::Mdia {
                mdhd: atom::Mdhd {
                    timescale: track.timescale.hz(),
                    language: iso_639_2(&track.language),
                    ..Default::default()
                },
                hdlr: atom::Hdlr {
                    handler: FourCC::new(if kind == Kind::Video { b"vide" } else { b"soun" }),
                    name: String::from("Rillcast"),
                },
                minf: atom::Minf {
                    vmhd: (kind == Kind::Video).then(atom::Vmhd::default),
                    smhd: (kind == Kind::Audio).then(atom::Smhd::default),
                    dinf: atom::Dinf { dref: atom::Dref { entries: vec![atom::DrefEntry::Url(atom::Url::default())] } },
                    stbl: atom::Stbl {
                        stsd: atom::Stsd { codecs: vec![codec] },
                        stco: Some(atom::Stco::default()),
                        ..Default::default()
                    },
                    ..Default::default()
                },
            },
            ..Default::default()
        }],
        ..Default::default()
    };
    let ftyp = atom::Ftyp {
        major_brand: FourCC::new(b"iso6"),
        minor_version: 0,
        compatible_brands: vec![FourCC::new(b"iso6"), FourCC::new(b"cmfc"), FourCC::new(b"mp41")],
    };
    let mut file = BytesMut::with_capacity(1_024);
    ftyp.encode(&mut file)?;
    moov.encode(&mut file)?;
    Ok(file.freeze())
}

fn avc1(config: &h264::Config) -> Result<atom::Codec, Error> {
    let avcc = atom::Avcc::decode_body(&mut &config.record[..])?;
    Ok(atom::Codec::Avc1(atom::Avc1 {
        visual: atom::Visual { width: config.width, height: config.height, ..Default::default() },
        avcc,
        ..Default::default()
    }))
}

fn mp4a(config: &aac::Config) -> atom::Codec {
    atom::Codec::Mp4a(atom::Mp4a {
        audio: atom::Audio {
            data_reference_index: 1,
            channel_count: config.channels.into(),
            sample_size: 16,
            // A 16.16 field: rates from 65536 Hz on do not fit and are written as 0, the decoder reads the record.
            sample_rate: u16::try_from(config.sample_rate).unwrap_or(0).into(),
        },
        esds: atom::Esds {
            es_desc: atom::esds::EsDescriptor {
                es_id: TRACK_ID as u16,
                dec_config: atom::esds::DecoderConfig {
                    object_type_indication: 0x40,
                    stream_type: 5,
                    dec_specific: Some(atom::esds::DecoderSpecific {
                        raw: config.record.to_vec(),
                        ..Default::default()
                    }),
                    ..Default::default()
                },
                ..Default::default()
            },
        },
        btrt: None,
        taic: None,
    })
}

/// `mdhd` holds three letters; anything else is undetermined there and said in full in playlists.
fn iso_639_2(language: &str) -> String {
    let known = language.len() == 3 && language.bytes().all(|b| b.is_ascii_lowercase());
    String::from(if known { language } else { "und" })
}
