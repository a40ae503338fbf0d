//! Who may watch: what the edge asks of whoever decides. It knows keys and tokens only as text in a URL.

use std::net::IpAddr;

use crate::media::StreamName;

/// Decides who may watch. Asked about every request, so it answers at once, from memory.
pub trait MayWatch: Send + Sync {
    /// Whether `peer` may watch `stream`, with the token of a URL below `/t/`, or without one.
    ///
    /// # Errors
    /// Why not, in words for the viewer.
    fn may_watch(&self, stream: &StreamName, token: Option<&str>, peer: IpAddr) -> Result<(), String>;

    /// Whether `token` is good for anything at all: it is asked for what belongs to no stream.
    ///
    /// # Errors
    /// Why not, in words for the viewer.
    fn is_good(&self, token: &str) -> Result<(), String>;
}
