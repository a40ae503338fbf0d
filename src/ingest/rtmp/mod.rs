//! RTMP in: the protocol as a sans-IO core, and its tokio shell.
//!
//! ```text
//!   bytes ─► handshake ─► chunk ─┬─ audio, video ─► intake ─ flv heads ─► slab ─► timeline ─► access units
//!                                │                                                               │
//!                                └─ the rest ─► message ─ amf0 ─► commands ─► reply ─► bytes     ▼
//!            ◄────────────────────────────── session: five verbs, states, deadlines ──────────► events
//!            server: sockets, caps, Authorise, packager::live
//! ```
//!
//! Parsing is ours, because everything here is read before the peer has shown a key; writing (chunks, AMF0, the handshake) is `rml_rtmp`'s.
//! Not here: playing over RTMP, which is refused in words, and codecs other than AVC, AAC and MP3, whose tags are refused by name.
//!
//! Specifications: Adobe RTMP 1.0, AMF0, FLV 10.1 annex E.

pub mod amf0;
pub mod chunk;
pub mod connect;
pub mod flv;
pub mod handshake;
mod intake;
pub mod message;
mod metadata;
mod reply;
#[cfg(feature = "server")]
pub mod server;
pub mod session;
mod type_id;

pub use intake::TooManyFormats;
pub use reply::Error as ReplyError;
pub use session::{Error, Event, Session};
