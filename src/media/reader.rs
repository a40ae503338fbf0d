//! Bounds-checked cursors over bytes and bits. Reading past the end is an error value, never a panic.

/// There were fewer bytes (or bits) than the format needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the data ends {missing} bytes early")]
pub struct Truncated {
    /// How many more bytes were needed at least.
    pub missing: usize,
}

/// A cursor over big-endian bytes.
#[derive(Debug, Clone, Copy)]
pub struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    /// Starts at the first byte.
    pub fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    /// What has not been read yet.
    pub fn rest(&self) -> &'a [u8] {
        self.rest
    }

    /// How many bytes are left.
    pub fn len(&self) -> usize {
        self.rest.len()
    }

    /// Nothing is left.
    pub fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    /// The next `count` bytes.
    ///
    /// # Errors
    /// [`Truncated`] when fewer are left; nothing is consumed then.
    pub fn take(&mut self, count: usize) -> Result<&'a [u8], Truncated> {
        match self.rest.split_at_checked(count) {
            Some((head, rest)) => {
                self.rest = rest;
                Ok(head)
            }
            None => Err(Truncated { missing: count - self.rest.len() }),
        }
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], Truncated> {
        let (head, rest) =
            self.rest.split_first_chunk::<N>().ok_or_else(|| Truncated { missing: N - self.rest.len() })?;
        self.rest = rest;
        Ok(*head)
    }

    /// One byte.
    ///
    /// # Errors
    /// [`Truncated`] at the end, as for all readers below.
    pub fn u8(&mut self) -> Result<u8, Truncated> {
        self.array::<1>().map(|[byte]| byte)
    }

    /// Two bytes.
    ///
    /// # Errors
    /// [`Truncated`].
    pub fn u16(&mut self) -> Result<u16, Truncated> {
        self.array().map(u16::from_be_bytes)
    }

    /// Three bytes.
    ///
    /// # Errors
    /// [`Truncated`].
    pub fn u24(&mut self) -> Result<u32, Truncated> {
        self.array::<3>().map(|[a, b, c]| u32::from_be_bytes([0, a, b, c]))
    }

    /// Four bytes.
    ///
    /// # Errors
    /// [`Truncated`].
    pub fn u32(&mut self) -> Result<u32, Truncated> {
        self.array().map(u32::from_be_bytes)
    }

    /// Eight bytes as IEEE 754.
    ///
    /// # Errors
    /// [`Truncated`].
    pub fn f64(&mut self) -> Result<f64, Truncated> {
        self.array().map(f64::from_be_bytes)
    }
}

/// A cursor over bits, most significant first.
#[derive(Debug, Clone)]
pub struct BitReader<'a> {
    bytes: &'a [u8],
    position: usize,
}

impl<'a> BitReader<'a> {
    /// Starts at the most significant bit of the first byte.
    pub fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, position: 0 }
    }

    /// Bits not read yet.
    pub fn remaining(&self) -> usize {
        (self.bytes.len() * 8).saturating_sub(self.position)
    }

    /// One bit.
    ///
    /// # Errors
    /// [`Truncated`] at the end, as for all readers below.
    pub fn bit(&mut self) -> Result<bool, Truncated> {
        let byte = self.bytes.get(self.position / 8).ok_or(Truncated { missing: 1 })?;
        let bit = byte >> (7 - self.position % 8) & 1;
        self.position += 1;
        Ok(bit == 1)
    }

    /// `count` bits, at most 32.
    ///
    /// # Errors
    /// [`Truncated`].
    pub fn bits(&mut self, count: u32) -> Result<u32, Truncated> {
        debug_assert!(count <= 32);
        let mut value = 0;
        for _ in 0..count {
            value = value << 1 | u32::from(self.bit()?);
        }
        Ok(value)
    }

    /// Moves on by `count` bits.
    ///
    /// # Errors
    /// [`Truncated`].
    pub fn skip(&mut self, count: usize) -> Result<(), Truncated> {
        if count > self.remaining() {
            return Err(Truncated { missing: (count - self.remaining()).div_ceil(8) });
        }
        self.position += count;
        Ok(())
    }

    /// Unsigned Exp-Golomb; codes of more than 32 leading zeros count as truncated data. Spec: ITU-T H.264 §9.1.
    ///
    /// # Errors
    /// [`Truncated`].
    pub fn ue(&mut self) -> Result<u32, Truncated> {
        let mut zeros = 0;
        while !self.bit()? {
            zeros += 1;
            if zeros > 31 {
                return Err(Truncated { missing: 1 });
            }
        }
        let suffix = self.bits(zeros)?;
        Ok(((1_u64 << zeros) - 1 + u64::from(suffix)) as u32)
    }

    /// Signed Exp-Golomb. Spec: ITU-T H.264 §9.1.1.
    ///
    /// # Errors
    /// [`Truncated`].
    pub fn se(&mut self) -> Result<i32, Truncated> {
        let code = i64::from(self.ue()?);
        let magnitude = (code + 1) / 2;
        Ok((if code % 2 == 1 { magnitude } else { -magnitude }) as i32)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reading_past_the_end_is_an_error_and_consumes_nothing() {
        let mut reader = Reader::new(&[1, 2, 3]);
        assert_eq!(reader.u32(), Err(Truncated { missing: 1 }));
        assert_eq!(reader.u24(), Ok(0x01_02_03));
        assert_eq!(reader.u8(), Err(Truncated { missing: 1 }));
    }

    #[test]
    fn exp_golomb_codes() {
        // 1 | 010 | 011 | 00100 | 0001000
        let mut bits = BitReader::new(&[0b1010_0110, 0b0100_0001, 0b0000_0000]);
        assert_eq!((bits.ue(), bits.ue(), bits.ue(), bits.ue(), bits.ue()), (Ok(0), Ok(1), Ok(2), Ok(3), Ok(7)));
        let mut bits = BitReader::new(&[0b1010_0110, 0b0100_0000]);
        assert_eq!((bits.se(), bits.se(), bits.se(), bits.se()), (Ok(0), Ok(1), Ok(-1), Ok(2)));
        assert!(BitReader::new(&[0; 8]).ue().is_err());
    }
}
