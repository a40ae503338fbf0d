//! Playlists and MPDs: pure functions from snapshots to text.

pub mod dash;
pub mod hls_media;
pub mod hls_multivariant;
