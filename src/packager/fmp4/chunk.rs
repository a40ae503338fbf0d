//! The header of one chunk: optional `styp`, `prft`, `moof`, and the eight bytes that open `mdat`.
//!
//! Written by hand because it runs for every part: one pass over the samples into one buffer, nothing allocated per sample.
//!
//! Specification: ISO/IEC 14496-12 §8.8 (movie fragments), §8.16.5 (`prft`), ISO/IEC 23000-19 §7.3.2.3 (CMAF chunk).

use bytes::{BufMut, Bytes, BytesMut};

use super::init::TRACK_ID;
use crate::media::WallTime;

/// One sample as `trun` lists it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sample {
    /// Ticks until the next sample is decoded.
    pub duration: u32,
    /// Bytes of payload.
    pub size: u32,
    /// Presentation time less decode time, ticks.
    pub composition_offset: i32,
    /// Decoding can start here.
    pub sync: bool,
}

/// What a chunk's header says.
#[derive(Debug)]
pub struct Header<'a> {
    /// `mfhd` sequence number.
    pub sequence: u32,
    /// It opens a segment: `styp` is written.
    pub opens_segment: bool,
    /// Decode time of the first sample, ticks (`tfdt`).
    pub decode_time: u64,
    /// A media time (ticks) and the wall-clock time that it belongs to (`prft`).
    pub reference: (u64, WallTime),
    /// The samples, in decode order. Never empty.
    pub samples: &'a [Sample],
}

const SYNC_FLAGS: u32 = 0x0200_0000;
const NON_SYNC_FLAGS: u32 = 0x0101_0000;
/// Seconds from 1900 (NTP) to 1970 (Unix).
const NTP_EPOCH_OFFSET: u64 = 2_208_988_800;

impl Header<'_> {
    /// The bytes before the payload.
    pub fn write(&self) -> Bytes {
        let mut out = BytesMut::with_capacity(200 + self.samples.len() * 16);
        if self.opens_segment {
            styp(&mut out);
        }
        self.prft(&mut out);
        let moof = out.len();
        let data_offset = self.moof(&mut out);
        let moof_bytes = (out.len() - moof) as u32;
        // The payload begins after the header of mdat.
        patch(&mut out, data_offset, moof_bytes + 8);
        let payload: u64 = self.samples.iter().map(|sample| u64::from(sample.size)).sum();
        out.put_u32(u32::try_from(payload + 8).unwrap_or(0));
        out.put_slice(b"mdat");
        out.freeze()
    }

    fn prft(&self, out: &mut BytesMut) {
        let (media_time, wall) = self.reference;
        let micros = u64::try_from(wall.micros()).unwrap_or(0);
        let fraction = ((micros % 1_000_000) << 32) / 1_000_000;
        let ntp = ((micros / 1_000_000 + NTP_EPOCH_OFFSET) & 0xFFFF_FFFF) << 32 | fraction;
        let start = open(out, b"prft");
        // Version 1: 64-bit media time. Flags 24: consistent with real time, captured arbitrarily before.
        out.put_u32(1 << 24 | 24);
        out.put_u32(TRACK_ID);
        out.put_u64(ntp);
        out.put_u64(media_time);
        close(out, start);
    }

    /// Returns where `trun`'s data offset stands.
    fn moof(&self, out: &mut BytesMut) -> usize {
        let moof = open(out, b"moof");
        let mfhd = open(out, b"mfhd");
        out.put_u32(0);
        out.put_u32(self.sequence);
        close(out, mfhd);
        let traf = open(out, b"traf");

        let first =
            self.samples.first().copied().unwrap_or(Sample { duration: 0, size: 0, composition_offset: 0, sync: true });
        let rest = self.samples.get(1..).unwrap_or_default();
        let one_duration = rest.iter().all(|sample| sample.duration == first.duration);
        let default_sync = rest.first().map_or(first.sync, |sample| sample.sync);
        let rest_uniform = rest.iter().all(|sample| sample.sync == default_sync);
        let offsets = self.samples.iter().any(|sample| sample.composition_offset != 0);

        let tfhd = open(out, b"tfhd");
        // default-base-is-moof, default flags, and a default duration where one serves all.
        out.put_u32(0x02_0000 | 0x20 | if one_duration { 0x08 } else { 0 });
        out.put_u32(TRACK_ID);
        if one_duration {
            out.put_u32(first.duration);
        }
        out.put_u32(flags(default_sync));
        close(out, tfhd);

        let tfdt = open(out, b"tfdt");
        out.put_u32(1 << 24);
        out.put_u64(self.decode_time);
        close(out, tfdt);

        let trun = open(out, b"trun");
        let first_differs = rest_uniform && first.sync != default_sync;
        let fields = 0x001
            | 0x200
            | if first_differs { 0x004 } else { 0 }
            | if one_duration { 0 } else { 0x100 }
            | if rest_uniform { 0 } else { 0x400 }
            | if offsets { 0x800 } else { 0 };
        // Version 1: composition offsets are signed.
        out.put_u32(1 << 24 | fields);
        out.put_u32(self.samples.len() as u32);
        let data_offset = out.len();
        out.put_u32(0);
        if first_differs {
            out.put_u32(flags(first.sync));
        }
        for sample in self.samples {
            if !one_duration {
                out.put_u32(sample.duration);
            }
            out.put_u32(sample.size);
            if !rest_uniform {
                out.put_u32(flags(sample.sync));
            }
            if offsets {
                out.put_i32(sample.composition_offset);
            }
        }
        close(out, trun);
        close(out, traf);
        close(out, moof);
        data_offset
    }
}

fn flags(sync: bool) -> u32 {
    if sync { SYNC_FLAGS } else { NON_SYNC_FLAGS }
}

fn styp(out: &mut BytesMut) {
    let start = open(out, b"styp");
    out.put_slice(b"msdh\0\0\0\0msdhmsixcmfscmfl");
    close(out, start);
}

fn open(out: &mut BytesMut, kind: &[u8; 4]) -> usize {
    let start = out.len();
    out.put_u32(0);
    out.put_slice(kind);
    start
}

fn close(out: &mut BytesMut, start: usize) {
    let size = (out.len() - start) as u32;
    patch(out, start, size);
}

fn patch(out: &mut BytesMut, at: usize, value: u32) {
    if let Some(field) = out.get_mut(at..at + 4) {
        field.copy_from_slice(&value.to_be_bytes());
    }
}

#[cfg(test)]
mod tests {
    use mp4_atom::{Decode, DecodeMaybe, Moof, Prft, Styp};

    use super::*;

    fn sample(duration: u32, size: u32, composition_offset: i32, sync: bool) -> Sample {
        Sample { duration, size, composition_offset, sync }
    }

    /// Reads back with a parser that is not ours: `tfdt` and (duration, size, sync, composition offset) of each sample.
    fn read(header: &Header<'_>) -> (u64, Vec<(u32, u32, bool, i64)>) {
        let bytes = header.write();
        let mut rest = &bytes[..];
        if header.opens_segment {
            Styp::decode(&mut rest).unwrap();
        }
        Prft::decode(&mut rest).unwrap();
        let before = rest.len();
        let moof = Moof::decode_maybe(&mut rest).unwrap().unwrap();
        assert_eq!(moof.mfhd.sequence_number, header.sequence);
        let traf = &moof.traf[0];
        assert!(traf.tfhd.default_base_is_moof);
        let trun = &traf.trun[0];
        assert_eq!(trun.data_offset, Some((before - rest.len()) as i32 + 8));
        assert_eq!(&rest[4..], b"mdat");
        let total: u32 = header.samples.iter().map(|s| s.size).sum();
        assert_eq!(u32::from_be_bytes(rest[..4].try_into().unwrap()), total + 8);
        let entries = trun
            .samples
            .iter()
            .map(|entry| {
                let flags = entry.flags.or(traf.tfhd.default_sample_flags).unwrap();
                (
                    entry.duration.or(traf.tfhd.default_sample_duration).unwrap(),
                    entry.size.unwrap(),
                    flags & 0x1_0000 == 0,
                    entry.cts.unwrap_or(0),
                )
            })
            .collect();
        (traf.tfdt.as_ref().unwrap().base_media_decode_time, entries)
    }

    #[test]
    fn what_is_written_reads_back() {
        let mixed = [sample(3000, 9, 6000, true), sample(3000, 8, -3000, false), sample(3001, 7, 0, false)];
        let uniform = [sample(1024, 300, 0, true), sample(1024, 301, 0, true)];
        let second_key = [sample(3000, 9, 0, false), sample(3000, 8, 0, true), sample(3000, 8, 0, false)];
        for (samples, opens_segment) in
            [(&mixed[..], true), (&uniform[..], false), (&second_key[..], false), (&mixed[..1], true)]
        {
            let header = Header {
                sequence: 7,
                opens_segment,
                decode_time: 1 << 33,
                reference: (1 << 33, WallTime::from_micros(1_700_000_000_500_000)),
                samples,
            };
            let (decode_time, entries) = read(&header);
            let expected: Vec<_> =
                samples.iter().map(|s| (s.duration, s.size, s.sync, i64::from(s.composition_offset))).collect();
            assert_eq!((decode_time, entries), (1 << 33, expected));
        }
    }

    #[test]
    fn the_reference_time_is_ntp() {
        let samples = [sample(1, 1, 0, true)];
        let wall = WallTime::from_micros(1_700_000_000_500_000);
        let header =
            Header { sequence: 1, opens_segment: false, decode_time: 5, reference: (5, wall), samples: &samples };
        let prft = Prft::decode(&mut &header.write()[..]).unwrap();
        let expected = (1_700_000_000 + NTP_EPOCH_OFFSET) << 32 | 1 << 31;
        assert!(format!("{prft:?}").contains(&expected.to_string()), "{prft:?} does not hold {expected}");
    }
}
