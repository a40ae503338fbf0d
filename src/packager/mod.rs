//! From access units to parts, segments, windows, playlists and MPDs: CMAF, one track per rendition. Sans-IO but for `live` and
//! `sequence`, which reserves numbers on disk.
//!
//! ```text
//!   TrackWriter ── access units ──► presentation ──► segmenter (one a track) ──► fmp4 ──► part
//!   (live.rs)                          │ cuts, dates (clock), DASH periods (periods)       │
//!                                      ▼                                                   ▼
//!                                   catalog  ◄───────────── watch cells ─────────────►  window
//!                                      │                                                   │
//!                                      └──► playlist::{hls_multivariant, dash, hls_media} ─┘  rendered once, shared
//! ```
//!
//! Over a restart of the server a presentation is a file: `saved` says what it looks like, `live::restart` where it lies.
//!
//! Not here: protocols that bring access units (`ingest`), HTTP (`edge`).
//!
//! Specifications: ISO/IEC 23000-19 (CMAF), ISO/IEC 14496-12, RFC 8216bis-22, ISO/IEC 23009-1.

pub mod catalog;
mod clock;
pub mod config;
pub mod fmp4;
#[cfg(feature = "server")]
pub mod live;
pub mod part;
pub mod periods;
pub mod playlist;
pub mod presentation;
#[cfg(test)]
mod presentation_tests;
#[cfg(any(test, fuzzing))]
pub mod rules;
pub mod saved;
mod segmenter;
#[cfg(feature = "keys")]
pub mod sequence;
#[cfg(test)]
pub(crate) mod testing;
pub mod window;

pub use catalog::{Announced, Catalog, Period, Rendition};
pub use config::Config;
pub use part::{Init, Part, Segment};
pub use periods::Periods;
pub use presentation::Presentation;
pub use window::Window;
