//! What stands around header and payload: what file it is, of which version, how long, and a checksum.

use std::io::{self, Write};

use bytes::Bytes;

use super::{Header, Refused};
use crate::media::reader::{Reader, Truncated};

const MAGIC: &[u8; 16] = b"rillcast/window\n";
/// Of the format. It counts up with every change that an older or newer server would misunderstand.
pub const VERSION: u32 = 1;
/// Largest header: the longest window with the most tracks needs less.
pub const MAX_HEADER_BYTES: usize = 16 << 20;
const TRAILER_BYTES: usize = 4;

/// Counts and sums up what is written.
struct Summed<W> {
    out: W,
    sum: flate2::Crc,
}

impl<W: Write> Write for Summed<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = self.out.write(bytes)?;
        self.sum.update(bytes.get(..count).unwrap_or_default());
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

/// Writes a file. `payload` is written as it is, slice by slice, and not copied.
///
/// # Errors
/// As `out` says; the header is too large.
pub fn write(header: &Header, payload: &[Bytes], out: &mut impl Write) -> io::Result<()> {
    let header = serde_json::to_vec(header).map_err(io::Error::other)?;
    seal(&header, payload, out)
}

/// Writes a file around header and payload, whatever they are.
///
/// # Errors
/// As [`write()`].
pub fn seal(header: &[u8], payload: &[Bytes], out: &mut impl Write) -> io::Result<()> {
    if header.len() > MAX_HEADER_BYTES {
        return Err(io::Error::other("the window has too many segments and tracks"));
    }
    let header_bytes = u32::try_from(header.len()).map_err(io::Error::other)?;
    let payload_bytes: u64 = payload.iter().map(|slice| slice.len() as u64).sum();
    let mut summed = Summed { out, sum: flate2::Crc::new() };
    summed.write_all(MAGIC)?;
    summed.write_all(&VERSION.to_be_bytes())?;
    summed.write_all(&header_bytes.to_be_bytes())?;
    summed.write_all(&payload_bytes.to_be_bytes())?;
    summed.write_all(header)?;
    for slice in payload {
        summed.write_all(slice)?;
    }
    let Summed { out, sum } = summed;
    out.write_all(&sum.sum().to_be_bytes())
}

/// Reads a file: its header, and the payload that belongs to it. Nothing in the header is believed yet but that it is well-formed.
///
/// # Errors
/// [`Refused`].
pub fn read(file: &[u8]) -> Result<(Header, &[u8]), Refused> {
    let short = |_: Truncated| Refused::Length;
    let mut reader = Reader::new(file);
    if reader.take(MAGIC.len()).ok() != Some(MAGIC) {
        return Err(Refused::Foreign);
    }
    let version = reader.u32().map_err(short)?;
    if version != VERSION {
        return Err(Refused::Version(version));
    }
    let header_bytes = usize::try_from(reader.u32().map_err(short)?).map_err(|_| Refused::Length)?;
    let payload_bytes = u64::from(reader.u32().map_err(short)?) << 32 | u64::from(reader.u32().map_err(short)?);
    let payload_bytes = usize::try_from(payload_bytes).map_err(|_| Refused::Length)?;
    if header_bytes > MAX_HEADER_BYTES {
        return Err(Refused::Length);
    }
    let header = reader.take(header_bytes).map_err(short)?;
    let payload = reader.take(payload_bytes).map_err(short)?;
    let said = reader.u32().map_err(short)?;
    if !reader.is_empty() {
        return Err(Refused::Length);
    }
    let mut sum = flate2::Crc::new();
    sum.update(file.get(..file.len().saturating_sub(TRAILER_BYTES)).unwrap_or_default());
    if sum.sum() != said {
        return Err(Refused::Checksum);
    }
    let header = serde_json::from_slice(header).map_err(|error| Refused::Header(error.to_string()))?;
    Ok((header, payload))
}
