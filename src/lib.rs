//! Rillcast: a live-streaming media server. What is where, and where to change what: `docs/ARCHITECTURE.md`.
//!
//! Without the feature `server` only the sans-IO cores are compiled: parsers, the RTMP session, the packager, routing.
#![forbid(unsafe_code)]
#![warn(missing_docs, unreachable_pub)]

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
