//! The ground floor: nouns that every other module shares, and nothing that does I/O.
//!
//! ```text
//!   reader   bounds-checked cursors, used by every parser
//!   time     timescales, media time, wall-clock time as a value, unwrapping of 32-bit clocks
//!   wall_clock   what time it is: for shells, no core may name it
//!   name     APP/NAME, epochs, rendition ids
//!   limits   what a publisher may bring at most, and when it may take a stream over
//!   peer     peers by their addresses: how many places each may take
//!   gauged   one of what a gauge counts
//!   track    one elementary stream: codec and timescale
//!   access_unit, slab   one coded picture or audio frame, and the memory it arrives in
//!   report   what is known of the way from a publisher to here
//!   codec/   configuration records and RFC 6381 codec strings
//! ```
//!
//! Not here: how access units arrive (`ingest`), how they are packaged (`packager`).

pub mod access_unit;
pub mod codec;
#[cfg(feature = "server")]
mod gauged;
pub mod limits;
pub mod name;
pub mod peer;
pub mod reader;
pub mod report;
pub mod slab;
pub mod time;
pub mod track;
pub mod wall_clock;

pub use access_unit::AccessUnit;
#[cfg(feature = "server")]
pub(crate) use gauged::Gauged;
pub use limits::{Limits, Takeover};
pub(crate) use name::is_unreserved;
pub use name::{Epoch, RenditionId, StreamName};
pub use slab::Slab;
pub use time::{MediaTime, Timescale, WallTime};
pub use track::{Format, Kind, Sound, Track};
