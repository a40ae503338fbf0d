//! A presentation as a file: what a graceful stop leaves for the next start, so that viewers have the same window again.
//!
//! ```text
//!   "rillcast/window\n" │ version u32 │ bytes of header u32 │ bytes of payload u64 │ header, JSON │ payload │ CRC-32 u32
//!                         all numbers big-endian                                                   │ of everything before
//!   payload: for each track its inits, then for each segment, for each part: header, media
//! ```
//!
//! The file is ours and lies on our disk. It is read as if somebody else had written it all the same: what is cut short, altered, of another
//! version, or claims what cannot be, is refused with the reason, and nothing is served of it.
//!
//! Not here: where files lie and for how long they are good (`live::restart`).
//!
//! Specification of the checksum: ISO/IEC 3309 (CRC-32, as of gzip).

mod file;
#[cfg(any(test, fuzzing))]
mod specimen;
mod state;

pub use self::file::{MAX_HEADER_BYTES, VERSION, read, seal, write};
#[cfg(any(test, fuzzing))]
pub use self::specimen::specimen;
pub use self::state::is_near;
pub use self::state::{
    FormatState, Header, InitState, LineState, PeriodShareState, PeriodState, PublisherState, SegmentState, State,
    TrackState,
};
pub(super) use self::state::{Payload, length, number, tick};

/// Why a file is not taken up.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// It does not begin as these files do.
    #[error("it is no window of this server")]
    Foreign,
    /// Another version of the server wrote it.
    #[error("it is of version {0}; this server writes version {VERSION}")]
    Version(u32),
    /// It is shorter or longer than it says.
    #[error("it is not as long as it says")]
    Length,
    /// Its checksum is wrong.
    #[error("its checksum is wrong")]
    Checksum,
    /// Its header cannot be read.
    #[error("its header cannot be understood: {0}")]
    Header(String),
    /// It says what cannot be.
    #[error("it contradicts itself or the rules: {0}")]
    Wrong(&'static str),
    /// Playlists may not change what `[packager]` makes them say.
    #[error("[packager] has changed since")]
    Config,
}

#[cfg(test)]
mod tests;
