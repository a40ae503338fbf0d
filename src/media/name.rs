//! What streams, their lives and their renditions are called.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use super::time::WallTime;
use super::track::Kind;

/// Longest APP or NAME, in bytes.
pub const MAX_LEN: usize = 128;

/// Apps that would shadow a URL of ours.
pub const RESERVED_APPS: [&str; 10] =
    ["api", "vod", "t", "upload", "videos", "assets", "time", "healthz", "readyz", "metrics"];

/// What keys begin with: no name does, since names are public.
pub const KEY_PREFIXES: [&str; 2] = ["rk_", "ra_"];

/// Why a name is refused; the text is shown to the publisher.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// Nothing there.
    #[error("the {0} is empty")]
    Empty(&'static str),
    /// Longer than [`MAX_LEN`].
    #[error("the {0} has {1} bytes, the most is {MAX_LEN}")]
    TooLong(&'static str, usize),
    /// Outside `[A-Za-z0-9._~-]`, or `.` or `..`.
    #[error("the {0} may hold only letters, digits, '.', '_', '~' and '-', and is neither '.' nor '..'")]
    BadCharacter(&'static str),
    /// One of [`RESERVED_APPS`].
    #[error("the application name '{0}' is reserved")]
    Reserved(String),
    /// Begins with one of [`KEY_PREFIXES`]. It is not repeated.
    #[error("the {0} looks like a key: write NAME?key=rk_…")]
    Key(&'static str),
    /// No slash between APP and NAME.
    #[error("a stream is written APP/NAME")]
    NoSlash,
}

/// `APP/NAME`, both checked. Cheap to clone. NAME is public; it is no secret.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct StreamName {
    /// As it is written, in one piece: names are made and compared with every request.
    text: Arc<str>,
    /// Where its slash is.
    slash: u8,
}

impl StreamName {
    /// Checks both halves.
    ///
    /// # Errors
    /// Says which half breaks which rule of the naming contract.
    pub fn new(app: &str, name: &str) -> Result<Self, NameError> {
        let slash = Self::check(app, name)?;
        Ok(Self { text: [app, "/", name].concat().into(), slash })
    }

    /// Where the slash between the two is.
    fn check(app: &str, name: &str) -> Result<u8, NameError> {
        check("application name", app)?;
        check("stream name", name)?;
        if RESERVED_APPS.contains(&app) {
            return Err(NameError::Reserved(app.to_owned()));
        }
        u8::try_from(app.len()).map_err(|_| NameError::TooLong("application name", app.len()))
    }

    /// The application, the first path element of every URL.
    pub fn app(&self) -> &str {
        self.text.get(..usize::from(self.slash)).unwrap_or_default()
    }

    /// The name, the second.
    pub fn name(&self) -> &str {
        self.text.get(usize::from(self.slash) + 1..).unwrap_or_default()
    }
}

fn check(what: &'static str, text: &str) -> Result<(), NameError> {
    if text.is_empty() {
        return Err(NameError::Empty(what));
    }
    if text.len() > MAX_LEN {
        return Err(NameError::TooLong(what, text.len()));
    }
    if KEY_PREFIXES.iter().any(|prefix| text.starts_with(prefix)) {
        return Err(NameError::Key(what));
    }
    if text == "." || text == ".." || !text.bytes().all(is_unreserved) {
        return Err(NameError::BadCharacter(what));
    }
    Ok(())
}

/// Whether this character means the same in every URL, however it is written. Spec: RFC 3986 §2.3.
pub(crate) fn is_unreserved(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'~' | b'-')
}

impl FromStr for StreamName {
    type Err = NameError;
    fn from_str(text: &str) -> Result<Self, NameError> {
        let (app, name) = text.split_once('/').ok_or(NameError::NoSlash)?;
        let slash = Self::check(app, name)?;
        Ok(Self { text: text.into(), slash })
    }
}

impl fmt::Display for StreamName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl fmt::Debug for StreamName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// One life of a stream, named by the Unix milliseconds of its start. In URLs it is written in base 36.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Epoch(u64);

impl Epoch {
    /// The epoch that starts now.
    pub fn starting(now: WallTime) -> Self {
        Self(u64::try_from(now.millis()).unwrap_or(0))
    }

    /// The epoch right after this one.
    pub fn next(self) -> Self {
        Self(self.0.saturating_add(1))
    }

    /// Unix milliseconds of its start.
    pub fn millis(self) -> u64 {
        self.0
    }
}

impl fmt::Display for Epoch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut digits = [0_u8; 13];
        let (mut rest, mut used) = (self.0, 0);
        for slot in digits.iter_mut().rev() {
            let digit = (rest % 36) as u8;
            *slot = if digit < 10 { b'0' + digit } else { b'a' + digit - 10 };
            rest /= 36;
            used += 1;
            if rest == 0 {
                break;
            }
        }
        let text = digits.get(13 - used..).and_then(|digits| std::str::from_utf8(digits).ok()).unwrap_or("0");
        f.write_str(text)
    }
}

impl FromStr for Epoch {
    type Err = ();
    fn from_str(text: &str) -> Result<Self, ()> {
        // One spelling only, so that a cache holds one copy.
        if text.is_empty() || has_leading_zero(text) {
            return Err(());
        }
        text.bytes()
            .try_fold(0_u64, |value, byte| {
                let digit = match byte {
                    b'0'..=b'9' => byte - b'0',
                    b'a'..=b'z' => byte - b'a' + 10,
                    _ => return Err(()),
                };
                value.checked_mul(36).and_then(|value| value.checked_add(digit.into())).ok_or(())
            })
            .map(Self)
    }
}

/// `v0`, `v1`, …, `a0`, …: a rendition's name in URLs and playlists.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RenditionId {
    /// Video sorts before audio.
    pub kind: Kind,
    /// Counts from 0 within its kind.
    pub index: u8,
}

impl fmt::Display for RenditionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let letter = match self.kind {
            Kind::Video => 'v',
            Kind::Audio => 'a',
        };
        write!(f, "{letter}{}", self.index)
    }
}

impl FromStr for RenditionId {
    type Err = ();
    fn from_str(text: &str) -> Result<Self, ()> {
        let (kind, digits) = match (text.strip_prefix('v'), text.strip_prefix('a')) {
            (Some(digits), _) => (Kind::Video, digits),
            (_, Some(digits)) => (Kind::Audio, digits),
            _ => return Err(()),
        };
        if !digits.bytes().all(|b| b.is_ascii_digit()) || has_leading_zero(digits) {
            return Err(());
        }
        Ok(Self { kind, index: digits.parse().map_err(|_| ())? })
    }
}

fn has_leading_zero(digits: &str) -> bool {
    digits.len() > 1 && digits.starts_with('0')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_follow_the_contract() {
        let long = "x".repeat(129);
        for (app, name, good) in [
            ("live", "me", true),
            ("a.b_c~d-e", "0", true),
            ("live", "", false),
            ("", "me", false),
            ("live", "..", false),
            ("live", ".", false),
            ("live", "a/b", false),
            ("live", "a b", false),
            ("live", "é", false),
            ("live", "a%00", false),
            ("api", "me", false),
            ("live", "rk_secret", false),
            ("live", "ra_secret", false),
            ("rk_secret", "me", false),
            ("live", "mark_1", true),
            ("metrics", "me", false),
            ("live", &long, false),
            ("live", &long[1..], true),
            (&long, "me", false),
            (&long[1..], "me", true),
        ] {
            assert_eq!(StreamName::new(app, name).is_ok(), good, "{app}/{name}");
        }
    }

    #[test]
    fn a_key_that_was_pasted_as_a_name_is_not_repeated() {
        let error = StreamName::new("live", "rk_secret").expect_err("no name");
        assert!(!error.to_string().contains("secret"), "{error}");
    }

    #[test]
    fn epochs_and_renditions_have_one_spelling() {
        let epoch = Epoch(1_763_800_000_000);
        assert_eq!(epoch.to_string().parse(), Ok(epoch));
        assert_eq!(Epoch(0).to_string(), "0");
        assert_eq!(Epoch(u64::MAX).to_string().parse(), Ok(Epoch(u64::MAX)));
        for bad in ["", "-1", "+1", "01", "00", "A", "é", "zzzzzzzzzzzzzz"] {
            assert!(bad.parse::<Epoch>().is_err(), "{bad}");
        }
        assert_eq!("v0".parse(), Ok(RenditionId { kind: Kind::Video, index: 0 }));
        assert_eq!("a12".parse(), Ok(RenditionId { kind: Kind::Audio, index: 12 }));
        for bad in ["", "v", "v00", "v-1", "x0", "a256", "v+1"] {
            assert!(bad.parse::<RenditionId>().is_err(), "{bad}");
        }
    }
}
