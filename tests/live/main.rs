//! End to end without a browser: encoders publish, ffmpeg watches, and what it decodes is compared with the source.

#![forbid(unsafe_code)]

#[path = "../common/mod.rs"]
mod common;

mod access;
mod api;
mod codecs;
mod doctor;
mod fidelity;
mod hostile;
mod low_latency;
mod publishers;
mod resume;
