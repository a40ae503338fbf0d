//! The CMAF header: `ftyp` and `moov` of one track.
//!
//! Specification: ISO/IEC 23000-19 §7.3.1 (CMAF header), RFC 8216bis §3.1.2 (Media Initialization Section).

use bytes::{Bytes, BytesMut};
use mp4_atom as atom;
use mp4_atom::{Atom, Encode, FourCC};

use crate::media::codec::h264;
use crate::media::{Format, Kind, Sound, Track};

/// The only track of every file.
pub const TRACK_ID: u32 = 1;

/// objectTypeIndication of what an AudioSpecificConfig describes. Spec: ISO/IEC 14496-1 table 5.
const MPEG4_AUDIO: u8 = 0x40;
/// Profiles whose `avcC` ends before the chroma format. Spec: ISO/IEC 14496-15 §5.3.3.1.2.
const WITHOUT_CHROMA_FORMAT: [u8; 3] = [66, 77, 88];

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
        Format::Aac(config) => mp4a(track, MPEG4_AUDIO, Some(config.record.to_vec())),
        Format::Mp3(config) => mp4a(track, config.object_type_indication(), None),
    };
    let kind = track.format.kind();
    let (width, height) = track.format.resolution().unwrap_or_default();
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
    let mut avcc = atom::Avcc::decode_body(&mut &config.record[..])?;
    // Some encoders leave the profile zero and the rest away. Players choose a decoder by these bytes: they say what the SPS says.
    (avcc.avc_profile_indication, avcc.profile_compatibility, avcc.avc_level_indication) =
        (config.profile, config.compatibility, config.level);
    avcc.ext = match config.sampling().ok().filter(|_| !WITHOUT_CHROMA_FORMAT.contains(&config.profile)) {
        Some(sampling) => Some(atom::AvccExt {
            chroma_format: sampling.chroma_format,
            bit_depth_luma: sampling.luma_bits,
            bit_depth_chroma: sampling.chroma_bits,
            sequence_parameter_sets_ext: avcc.ext.map(|ext| ext.sequence_parameter_sets_ext).unwrap_or_default(),
        }),
        None => None,
    };
    Ok(atom::Codec::Avc1(atom::Avc1 {
        visual: atom::Visual { width: config.width, height: config.height, ..Default::default() },
        avcc,
        ..Default::default()
    }))
}

fn mp4a(track: &Track, object_type_indication: u8, record: Option<Vec<u8>>) -> atom::Codec {
    let sound = track.format.sound().unwrap_or(Sound { sample_rate: 0, channels: 0, frame_samples: 0 });
    atom::Codec::Mp4a(atom::Mp4a {
        audio: atom::Audio {
            data_reference_index: 1,
            channel_count: sound.channels.into(),
            sample_size: 16,
            // A 16.16 field: rates from 65536 Hz on do not fit and are written as 0, the decoder reads the record.
            sample_rate: u16::try_from(sound.sample_rate).unwrap_or(0).into(),
        },
        esds: atom::Esds {
            es_desc: atom::esds::EsDescriptor {
                es_id: TRACK_ID as u16,
                dec_config: atom::esds::DecoderConfig {
                    object_type_indication,
                    stream_type: 5,
                    dec_specific: record.map(|raw| atom::esds::DecoderSpecific { raw, ..Default::default() }),
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

#[cfg(test)]
mod tests {
    use mp4_atom::{Codec, Decode, Ftyp, Moov};

    use super::*;
    use crate::media::Timescale;
    use crate::media::codec::{aac, mp3};

    /// The only sample entry of a track, read back.
    fn entry(format: Format) -> Codec {
        let timescale = format.sound().and_then(|sound| Timescale::new(sound.sample_rate));
        let track = Track { format, timescale: timescale.unwrap_or(Timescale::NINETY_KHZ), language: "und".into() };
        let bytes = write(&track).unwrap();
        let mut rest = &bytes[..];
        Ftyp::decode(&mut rest).unwrap();
        let mut moov = Moov::decode(&mut rest).unwrap();
        assert_eq!(moov.trak[0].mdia.mdhd.timescale, track.timescale.hz());
        moov.trak.remove(0).mdia.minf.stbl.stsd.codecs.remove(0)
    }

    fn sound(format: Format) -> (u16, u32, u8, Option<Vec<u8>>) {
        let Codec::Mp4a(mp4a) = entry(format) else { panic!("mp4a") };
        let config = mp4a.esds.es_desc.dec_config;
        let rate = u32::from(mp4a.audio.sample_rate.integer());
        let record = config.dec_specific.map(|specific| specific.raw.to_vec());
        (mp4a.audio.channel_count, rate, config.object_type_indication, record)
    }

    #[test]
    fn sound_is_described_as_it_comes_out() {
        let aac = |record: &[u8]| Format::Aac(aac::Config::parse(record).unwrap());
        for (name, record, channels, rate) in [
            ("mono", &[0x11, 0x88][..], 1, 48_000),
            ("5.1", &[0x11, 0xB0], 6, 48_000),
            ("HE-AAC, hierarchical", &[0x2B, 0x11, 0x88, 0x00], 2, 48_000),
            ("HE-AAC, backward-compatible", &[0x13, 0x10, 0x56, 0xE5, 0x98], 2, 48_000),
            ("HE-AAC v2", &[0xEB, 0x09, 0x88, 0x00], 2, 48_000),
        ] {
            assert_eq!(sound(aac(record)), (channels, rate, 0x40, Some(record.to_vec())), "{name}");
        }
        for (rate, version, indication) in [
            (44_100, mp3::Version::One, 0x6B),
            (22_050, mp3::Version::Two, 0x69),
            (11_025, mp3::Version::TwoAndAHalf, 0x69),
        ] {
            let config = mp3::Config { version, sample_rate: rate, channels: 2, frame_samples: 576 };
            assert_eq!(sound(Format::Mp3(config)), (2, rate, indication, None));
        }
    }

    /// One SPS, one PPS, and `tail`. Profile, flags and level are left zero, as some encoders do.
    fn record(sps: &[u8], tail: &[u8]) -> Vec<u8> {
        let mut record = vec![1, 0, 0, 0, 0xFF, 0xE1, 0, sps.len() as u8];
        record.extend_from_slice(sps);
        record.extend_from_slice(&[1, 0, 2, 0x68, 0xEE]);
        record.extend_from_slice(tail);
        record
    }

    #[test]
    fn pictures_are_described_as_their_parameter_set_says() {
        // Behind the depths: no bypass, no scaling lists, frame numbers, order of pictures 2, one reference, 4 by 4 macroblocks.
        let tail = "0 0 1 011 010 0 00100 00100 1 1 0 0 1";
        for (name, profile, head, expected) in [
            ("High 10", 110, "1 010 011 011", (1, 10, 10)),
            ("High 4:2:2, 10 bits", 122, "1 011 011 011", (2, 10, 10)),
            ("High 4:4:4 Predictive", 244, "1 00100 0 1 1", (3, 8, 8)),
            ("High 4:4:4 Predictive, 14 bits", 244, "1 00100 0 00111 00111", (3, 14, 14)),
            ("High", 100, "1 010 1 1", (1, 8, 8)),
        ] {
            let bits: Vec<u8> = format!("{head} {tail}").bytes().filter(|b| *b != b' ').map(|b| b - b'0').collect();
            let mut sps = vec![0x67, profile, 0, 31];
            sps.extend(
                bits.chunks(8).map(|byte| byte.iter().enumerate().fold(0, |all, (i, bit)| all | bit << (7 - i))),
            );
            // Once as a careless encoder leaves it, once with fields that say something else.
            for end in [&[][..], &[0xFE, 0xF9, 0xF9, 0]] {
                let config = h264::Config::parse(&record(&sps, end)).unwrap_or_else(|error| panic!("{name}: {error}"));
                assert_eq!((config.width, config.height), (64, 64), "{name}");
                let Codec::Avc1(avc1) = entry(Format::H264(config)) else { panic!("avc1") };
                let ext = avc1.avcc.ext.expect("the fields of the high profiles");
                assert_eq!((ext.chroma_format, ext.bit_depth_luma, ext.bit_depth_chroma), expected, "{name}");
                assert_eq!((avc1.avcc.avc_profile_indication, avc1.avcc.avc_level_indication), (profile, 31), "{name}");
            }
        }
    }
}
