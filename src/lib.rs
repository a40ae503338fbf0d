//! Rillcast: a live-streaming media server. What is where, and where to change what: `docs/ARCHITECTURE.md`.
//!
//! Without the feature `server` only the sans-IO cores are compiled: parsers, the RTMP session, the packager, routing; `keys` adds keys and
//! tokens, with the files that hold them.
#![forbid(unsafe_code)]
#![warn(missing_docs, unreachable_pub)]
// What a peer sends must never panic us: outside tests nothing may unwrap, index or panic without saying why it cannot.
#![cfg_attr(
    not(test),
    deny(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic, clippy::string_slice)
)]

#[cfg(feature = "server")]
pub mod app;
#[cfg(feature = "server")]
pub mod cli;
#[cfg(feature = "server")]
pub mod config;
pub mod control;
pub mod edge;
pub mod ingest;
pub mod media;
pub mod packager;
