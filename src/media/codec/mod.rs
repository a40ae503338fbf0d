//! Codec configuration records: parsed, bounds-checked, and named as RFC 6381 wants.

pub mod aac;
pub mod h264;
pub mod mp3;
