//! Who wants to publish what, and who decides. Every ingest protocol asks the same question; `control` answers it, `app` wires the two.

use std::fmt;
#[cfg(feature = "server")]
use std::future::Future;
use std::net::SocketAddr;
#[cfg(feature = "server")]
use std::pin::Pin;

#[cfg(feature = "server")]
use crate::media::Limits;
use crate::media::StreamName;
#[cfg(feature = "server")]
use crate::media::Takeover;

/// What a publisher shows to be let in. `Debug` hides it, so that it reaches no log.
#[derive(Clone, PartialEq, Eq, Default)]
pub enum Credential {
    /// Nothing: only a name.
    #[default]
    None,
    /// A stream key, `rk_…`.
    Key(String),
    /// A signed token that expires.
    Token(String),
}

impl fmt::Debug for Credential {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::None => "None",
            Self::Key(_) => "Key(hidden)",
            Self::Token(_) => "Token(hidden)",
        })
    }
}

/// All that a publisher wrote behind the question mark of its stream key, as it is. It may hold a credential: `Debug` hides it.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct Query(pub String);

impl fmt::Debug for Query {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.is_empty() { "None" } else { "Query(hidden)" })
    }
}

/// A peer asks to publish.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PublishRequest {
    /// What it wants to be called.
    pub name: StreamName,
    /// What it shows.
    pub credential: Credential,
    /// What else it says, for whoever decides by that.
    pub query: Query,
    /// Where it connects from.
    pub peer: SocketAddr,
    /// `rtmp`, `srt`, …
    pub protocol: &'static str,
}

/// What kind of no.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RefusalKind {
    /// The name is not allowed, or taken.
    BadName,
    /// No credential, or a wrong one.
    Unauthorized,
    /// The credential is good, but not for this.
    Denied,
    /// The server cannot now; the same request may succeed later.
    Unavailable,
}

impl RefusalKind {
    /// The code of an RTMP `onStatus`.
    pub fn rtmp_code(self) -> &'static str {
        match self {
            Self::BadName => "NetStream.Publish.BadName",
            Self::Unauthorized => "NetStream.Publish.Unauthorized",
            Self::Denied => "NetStream.Publish.Denied",
            Self::Unavailable => "NetStream.Publish.Failed",
        }
    }

    /// The label of metrics.
    pub fn label(self) -> &'static str {
        match self {
            Self::BadName => "bad_name",
            Self::Unauthorized => "unauthorized",
            Self::Denied => "denied",
            Self::Unavailable => "unavailable",
        }
    }
}

/// A no, with words that the person at the encoder reads.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{words}")]
pub struct Refusal {
    /// What kind.
    pub kind: RefusalKind,
    /// One sentence: what is wrong and what to do. Holds no secret.
    pub words: String,
    /// What the log adds, and the publisher is not told.
    pub detail: Option<String>,
}

impl Refusal {
    /// A refusal of that kind in those words.
    pub fn new(kind: RefusalKind, words: impl Into<String>) -> Self {
        Self { kind, words: words.into(), detail: None }
    }
}

/// What is given back when publishing ends, by being dropped: whoever granted knows what it is.
#[cfg(feature = "server")]
pub struct Lease(#[expect(dead_code, reason = "it is there to be dropped")] Box<dyn Send + Sync>);

#[cfg(feature = "server")]
impl Lease {
    /// Keeps `what` until publishing ends.
    pub fn new(what: impl Send + Sync + 'static) -> Self {
        Self(Box::new(what))
    }
}

#[cfg(feature = "server")]
impl fmt::Debug for Lease {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Lease")
    }
}

/// A yes: who the publisher is, and what it may bring.
#[cfg(feature = "server")]
#[derive(Debug)]
pub struct Grant {
    /// By what the publisher is known again: two requests with the same holder are the same person. Names a credential, never holds one.
    pub holder: String,
    /// What happens to a running publisher with the same holder.
    pub takeover: Takeover,
    /// What the publisher is held to.
    pub limits: Limits,
    /// What to keep as long as it publishes.
    pub lease: Option<Lease>,
}

#[cfg(feature = "server")]
impl Grant {
    /// An unlimited yes.
    pub fn new(holder: impl Into<String>) -> Self {
        Self { holder: holder.into(), takeover: Takeover::default(), limits: Limits::default(), lease: None }
    }
}

/// What [`Authorise::authorise`] returns: an answer that may need the repository.
#[cfg(feature = "server")]
pub type Answer<'a> = Pin<Box<dyn Future<Output = Result<Grant, Refusal>> + Send + 'a>>;

/// Decides who may publish.
#[cfg(feature = "server")]
pub trait Authorise: Send + Sync {
    /// Lets the publisher in, or refuses in words. Called once per request, before the stream exists; the caller gives up after some
    /// seconds and drops the future, which must leave nothing behind.
    fn authorise<'a>(&'a self, request: &'a PublishRequest) -> Answer<'a>;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debug_hides_secrets() {
        let text = format!("{:?} {:?}", Credential::Key("rk_secret".into()), Credential::Token("secret".into()))
            + &format!("{:?}", Query("key=secret".into()));
        assert!(!text.contains("secret"), "{text}");
    }
}
