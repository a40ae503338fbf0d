//! The ingest doctor: what a publisher's media looks like from here, and what its streamer should change.
//!
//! ```text
//!   publisher's task ── unit, track, repairs, words ──► Reporter ─► Meter (16 one-second buckets a track)
//!                                                                     │ snapshot, when somebody asks
//!   control ◄── app ◄── Board: APP/NAME → Meter ──────────────────────┴─► IngestReport ◄── advise (pure)
//! ```
//!
//! A unit costs a lock that nobody contends for and a dozen additions; nothing is allocated. Sentences are made when somebody reads them.
//! Sans-IO: time is passed in. Not here: repairing (`timeline`), the report's words (`media::report`), showing it (`control`, `web/`).

mod advice;
mod board;
mod lateness;
mod meter;
mod seconds;
mod track;
mod words;

pub use advice::{Rules, advise};
pub use board::{Board, Reporter};
pub use meter::{Announced, Meter};
