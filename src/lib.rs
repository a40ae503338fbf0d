//! Rillcast: a live-streaming media server.
#![forbid(unsafe_code)]
#![warn(missing_docs, unreachable_pub)]

pub mod control;
pub mod edge;
pub mod ingest;
pub mod media;
pub mod packager;
