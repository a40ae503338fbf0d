//! AMF0 in: every type of the specification, within limits. AMF0 out is written by `rml_amf0`.
//!
//! Specification: Adobe AMF0 (amf0-file-format-specification.pdf) §2.

use crate::media::reader::{Reader, Truncated};

/// Nesting of objects and arrays. Each level costs stack: 10,000 of them, 50 KB on the wire, end a thread whose stack is 2 MiB.
pub const MAX_DEPTH: u32 = 16;
/// Values in one message, properties and elements included: five bytes on the wire become some 60 in memory.
pub const MAX_VALUES: usize = 4_096;

/// The marker that follows the empty name behind an object's last property. Spec: §2.11.
const OBJECT_END: u8 = 0x09;

/// Why bytes are no AMF0 that we read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// A length or count points past the end.
    #[error("AMF0 data is cut short: {0}")]
    Truncated(#[from] Truncated),
    /// A marker that the specification does not know, or reserves.
    #[error("AMF0 marker 0x{0:02X} is unknown")]
    Marker(u8),
    /// The switch to AMF3. The server announces objectEncoding 0, so no peer needs it.
    #[error("AMF3 inside AMF0 is not read")]
    Amf3,
    /// Deeper than [`MAX_DEPTH`].
    #[error("AMF0 values are nested deeper than {MAX_DEPTH}")]
    TooDeep,
    /// More than [`MAX_VALUES`].
    #[error("more than {MAX_VALUES} AMF0 values")]
    TooMany,
    /// To an object that does not exist, or that contains the reference.
    #[error("AMF0 reference {0} points nowhere")]
    Reference(u16),
    /// An object's end marker is missing after the empty name, or stands elsewhere.
    #[error("an AMF0 object does not end where it should")]
    ObjectEnd,
}

/// One AMF0 value.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    /// IEEE 754.
    Number(f64),
    /// True or false.
    Boolean(bool),
    /// A string, short or long. Bytes that are no UTF-8 are replaced.
    String(String),
    /// An object or ECMA array; a typed object's class is dropped.
    Object(Vec<(String, Value)>),
    /// An array without names.
    Array(Vec<Value>),
    /// Milliseconds since the Unix epoch. The time zone is reserved and ignored.
    Date(f64),
    /// An XML document.
    Xml(String),
    /// To the n-th complex value of the message. It is checked, but not followed: nothing that we read is shared.
    Reference(u16),
    /// Null.
    Null,
    /// Undefined, or "unsupported".
    Undefined,
}

impl Value {
    /// The number, where it is one.
    pub fn number(&self) -> Option<f64> {
        if let Self::Number(number) = self { Some(*number) } else { None }
    }

    /// The text, where it is a string.
    pub fn text(&self) -> Option<&str> {
        if let Self::String(text) = self { Some(text) } else { None }
    }

    /// The property of that name, where it is an object that has one.
    pub fn property(&self, name: &str) -> Option<&Self> {
        let Self::Object(properties) = self else { return None };
        properties.iter().find(|(key, _)| key == name).map(|(_, value)| value)
    }
}

/// Reads all values of a message body.
///
/// # Errors
/// [`Error`] for the first value that breaks a rule; what came before it is not returned.
pub fn read_all(body: &[u8]) -> Result<Vec<Value>, Error> {
    let mut parser = Parser { reader: Reader::new(body), values: 0, complete: Vec::new() };
    let mut values = Vec::new();
    while !parser.reader.is_empty() {
        values.push(parser.value(0)?);
    }
    Ok(values)
}

/// Reads the first value alone, which in a data message is its name.
///
/// # Errors
/// [`Error`].
pub fn read_first(body: &[u8]) -> Result<Value, Error> {
    Parser { reader: Reader::new(body), values: 0, complete: Vec::new() }.value(0)
}

struct Parser<'a> {
    reader: Reader<'a>,
    values: usize,
    /// One entry per complex value begun, true once it has ended: what a reference may point to.
    complete: Vec<bool>,
}

impl Parser<'_> {
    fn value(&mut self, depth: u32) -> Result<Value, Error> {
        self.values += 1;
        if self.values > MAX_VALUES {
            return Err(Error::TooMany);
        }
        if depth > MAX_DEPTH {
            return Err(Error::TooDeep);
        }
        Ok(match self.reader.u8()? {
            0x00 => Value::Number(self.reader.f64()?),
            0x01 => Value::Boolean(self.reader.u8()? != 0),
            0x02 => Value::String(self.short_text()?),
            0x03 => self.complex(|parser| parser.properties(depth))?,
            0x05 => Value::Null,
            // Undefined, unsupported.
            0x06 | 0x0D => Value::Undefined,
            0x07 => {
                let index = self.reader.u16()?;
                if self.complete.get(usize::from(index)) != Some(&true) {
                    return Err(Error::Reference(index));
                }
                Value::Reference(index)
            }
            0x08 => self.complex(|parser| {
                // The count is a hint (encoders write 0, or one too few); the end marker decides.
                parser.reader.u32()?;
                parser.properties(depth)
            })?,
            0x0A => self.complex(|parser| {
                let count = parser.reader.u32()?;
                // No capacity from the wire: four bytes would reserve gigabytes.
                let mut elements = Vec::new();
                for _ in 0..count {
                    elements.push(parser.value(depth + 1)?);
                }
                Ok(Value::Array(elements))
            })?,
            0x0B => {
                let millis = self.reader.f64()?;
                self.reader.u16()?;
                Value::Date(millis)
            }
            0x0C => Value::String(self.long_text()?),
            0x0F => Value::Xml(self.long_text()?),
            0x10 => {
                self.short_text()?;
                self.complex(|parser| parser.properties(depth))?
            }
            0x11 => return Err(Error::Amf3),
            marker => return Err(Error::Marker(marker)),
        })
    }

    /// Numbers a complex value for references while it is read.
    fn complex(&mut self, read: impl FnOnce(&mut Self) -> Result<Value, Error>) -> Result<Value, Error> {
        let index = self.complete.len();
        self.complete.push(false);
        let value = read(self)?;
        if let Some(complete) = self.complete.get_mut(index) {
            *complete = true;
        }
        Ok(value)
    }

    fn properties(&mut self, depth: u32) -> Result<Value, Error> {
        let mut properties = Vec::new();
        loop {
            let name = self.short_text()?;
            if self.reader.rest().first() == Some(&OBJECT_END) {
                if !name.is_empty() {
                    return Err(Error::ObjectEnd);
                }
                self.reader.u8()?;
                return Ok(Value::Object(properties));
            }
            properties.push((name, self.value(depth + 1)?));
        }
    }

    fn short_text(&mut self) -> Result<String, Truncated> {
        let length = usize::from(self.reader.u16()?);
        Ok(String::from_utf8_lossy(self.reader.take(length)?).into_owned())
    }

    fn long_text(&mut self) -> Result<String, Truncated> {
        let length = self.reader.u32()? as usize;
        Ok(String::from_utf8_lossy(self.reader.take(length)?).into_owned())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use proptest::prelude::*;
    use rml_amf0::{Amf0Value, serialize};

    use super::*;

    #[test]
    fn every_type_is_read() {
        for (name, body, value) in [
            ("number", &[0, 0x3F, 0xF0, 0, 0, 0, 0, 0, 0][..], Value::Number(1.0)),
            ("boolean", &[1, 1], Value::Boolean(true)),
            ("string", &[2, 0, 2, b'h', b'i'], Value::String("hi".into())),
            ("object", &[3, 0, 1, b'a', 5, 0, 0, 9], Value::Object(vec![("a".into(), Value::Null)])),
            ("null", &[5], Value::Null),
            ("undefined", &[6], Value::Undefined),
            (
                "ECMA array with a wrong count",
                &[8, 0, 0, 0, 9, 0, 1, b'a', 5, 0, 0, 9],
                Value::Object(vec![("a".into(), Value::Null)]),
            ),
            ("strict array", &[10, 0, 0, 0, 2, 5, 6], Value::Array(vec![Value::Null, Value::Undefined])),
            ("date", &[11, 0, 0, 0, 0, 0, 0, 0, 0, 0, 60], Value::Date(0.0)),
            ("long string", &[12, 0, 0, 0, 1, b'x'], Value::String("x".into())),
            ("unsupported", &[13], Value::Undefined),
            ("XML", &[15, 0, 0, 0, 1, b'x'], Value::Xml("x".into())),
            ("typed object", &[16, 0, 1, b'C', 0, 0, 9], Value::Object(vec![])),
            ("bytes that are no text", &[2, 0, 1, 0xFF], Value::String("\u{FFFD}".into())),
        ] {
            assert_eq!(read_all(body), Ok(vec![value]), "{name}");
            for end in 1..body.len() {
                assert!(read_all(&body[..end]).is_err(), "{name} cut at {end}");
            }
        }
        let referring = [10, 0, 0, 0, 2, 3, 0, 0, 9, 7, 0, 1];
        assert_eq!(read_all(&referring), Ok(vec![Value::Array(vec![Value::Object(vec![]), Value::Reference(1)])]));
    }

    #[test]
    fn what_breaks_a_rule_is_refused() {
        for (name, body, error) in [
            ("AMF3 switch", &[0x11, 1][..], Error::Amf3),
            ("movie clip", &[4], Error::Marker(4)),
            ("object end alone", &[9], Error::Marker(9)),
            ("reference to nothing", &[7, 0, 0], Error::Reference(0)),
            ("reference to itself", &[3, 0, 1, b'a', 7, 0, 0, 0, 0, 9], Error::Reference(0)),
            ("end after a name", &[3, 0, 1, b'a', 9], Error::ObjectEnd),
            ("huge strict array", &[10, 0xFF, 0xFF, 0xFF, 0xFF], Error::Truncated(Truncated { missing: 1 })),
            ("huge string", &[12, 0xFF, 0xFF, 0xFF, 0xFF], Error::Truncated(Truncated { missing: 0xFFFF_FFFF })),
        ] {
            assert_eq!(read_all(body), Err(error), "{name}");
        }
        let mut many = vec![10, 0, 1, 0, 0];
        many.extend_from_slice(&[5; 65_536]);
        assert_eq!(read_all(&many), Err(Error::TooMany));
    }

    #[test]
    fn deeply_nested_amf0_is_refused_before_the_stack_ends() {
        // The input on which rml_rtmp 0.8.0 aborts the process.
        let arrays = [10, 0, 0, 0, 1].repeat(10_000);
        assert_eq!(read_all(&arrays), Err(Error::TooDeep));
        let objects = [3, 0, 1, b'a'].repeat(10_000);
        assert_eq!(read_all(&objects), Err(Error::TooDeep));
        let deepest = [&[10, 0, 0, 0, 1].repeat(16)[..], &[5]].concat();
        assert!(read_all(&deepest).is_ok());
    }

    fn values() -> impl Strategy<Value = Amf0Value> {
        let leaf = prop_oneof![
            any::<f64>().prop_filter("NaN differs from itself", |n| !n.is_nan()).prop_map(Amf0Value::Number),
            any::<bool>().prop_map(Amf0Value::Boolean),
            ".{0,20}".prop_map(Amf0Value::Utf8String),
            Just(Amf0Value::Null),
            Just(Amf0Value::Undefined),
        ];
        leaf.prop_recursive(4, 64, 8, |inner| {
            prop_oneof![
                proptest::collection::vec(inner.clone(), 0..8).prop_map(Amf0Value::StrictArray),
                proptest::collection::hash_map("[a-z]{1,8}", inner, 0..8).prop_map(Amf0Value::Object),
            ]
        })
    }

    fn same(ours: &Value, theirs: &Amf0Value) -> bool {
        match (ours, theirs) {
            (Value::Number(a), Amf0Value::Number(b)) => a == b,
            (Value::Boolean(a), Amf0Value::Boolean(b)) => a == b,
            (Value::String(a), Amf0Value::Utf8String(b)) => a == b,
            (Value::Null, Amf0Value::Null) | (Value::Undefined, Amf0Value::Undefined) => true,
            (Value::Array(a), Amf0Value::StrictArray(b)) => {
                a.len() == b.len() && a.iter().zip(b).all(|(a, b)| same(a, b))
            }
            (Value::Object(a), Amf0Value::Object(b)) => {
                let a: HashMap<_, _> = a.iter().map(|(name, value)| (name.clone(), value)).collect();
                a.len() == b.len() && b.iter().all(|(name, value)| a.get(name).is_some_and(|ours| same(ours, value)))
            }
            _ => false,
        }
    }

    proptest! {
        #[test]
        fn what_rml_amf0_writes_is_read_back(sent in proptest::collection::vec(values(), 1..4)) {
            let body = serialize(&sent).unwrap();
            let got = read_all(&body).unwrap();
            prop_assert!(got.len() == sent.len() && got.iter().zip(&sent).all(|(a, b)| same(a, b)), "{got:?} {sent:?}");
        }

        #[test]
        fn random_bytes_never_panic(body in proptest::collection::vec(prop_oneof![0_u8..18, any::<u8>()], 0..300)) {
            let _ = read_all(&body);
            let _ = read_first(&body);
        }
    }
}
