//! What is asked of [`Access`](super::Access), and what it answers: the words of `ingest`, which this module does not know. `app` carries them over.

use std::net::SocketAddr;

use super::quota::Lease;
use crate::control::token::TokenError;
use crate::media::{Limits, StreamName, Takeover};

/// A peer wants to publish.
#[derive(Clone, Copy)]
pub struct PublishRequest<'a> {
    /// What.
    pub stream: &'a StreamName,
    /// What it shows.
    pub credential: Credential<'a>,
    /// All that it wrote behind the question mark, for the callback.
    pub query: &'a str,
    /// From where.
    pub peer: SocketAddr,
    /// `rtmp`, `srt`, …
    pub protocol: &'a str,
}

/// What a publisher shows.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Credential<'a> {
    /// Nothing.
    None,
    /// A stream key.
    Key(&'a str),
    /// A signed token.
    Token(&'a str),
}

/// A yes.
#[derive(Debug)]
pub struct Grant {
    /// By what the publisher is known again; no secret.
    pub holder: String,
    /// What happens when it is there already.
    pub takeover: Takeover,
    /// What it may bring.
    pub limits: Limits,
    /// Its place among the key's publishers, to be kept as long as it publishes.
    pub lease: Option<Lease>,
}

impl Grant {
    /// A yes without conditions of its own: the server's limits hold.
    pub(super) fn unlimited(holder: impl Into<String>) -> Self {
        Self { holder: holder.into(), takeover: Takeover::default(), limits: Limits::default(), lease: None }
    }
}

/// What kind of no.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RefusalKind {
    /// No credential, or a wrong one.
    Unauthorized,
    /// The credential is good, but not for this.
    Denied,
    /// Nobody can decide now.
    Unavailable,
}

/// A no, with words for the person at the encoder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// What kind.
    pub kind: RefusalKind,
    /// One sentence, without secrets.
    pub words: String,
    /// What was shown is not ours, so that the callback may know better.
    pub(super) foreign: bool,
    /// Something was shown and is wrong: somebody may be guessing.
    pub(super) guess: bool,
    /// The stream has keys.
    pub(super) keyed: bool,
}

impl Refusal {
    pub(super) fn new(kind: RefusalKind, words: impl Into<String>) -> Self {
        Self { kind, words: words.into(), foreign: false, guess: false, keyed: false }
    }

    /// A no to a credential that is not ours, or to none.
    pub(super) fn foreign(kind: RefusalKind, words: impl Into<String>) -> Self {
        Self { foreign: true, ..Self::new(kind, words) }
    }
}

/// Why a viewer is turned away; the text is shown to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum WatchRefusal {
    /// The application is watched by signed URLs alone.
    #[error("this stream is watched with a signed URL, /t/TOKEN/APP/NAME")]
    TokenNeeded,
    /// The token is not good for this.
    #[error(transparent)]
    Token(#[from] TokenError),
    /// The secrets cannot be read; the log says why.
    #[error("tokens cannot be verified now")]
    Unavailable,
}
