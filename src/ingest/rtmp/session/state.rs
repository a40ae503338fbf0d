//! Where a connection stands, and how long it may stand there.

use std::time::{Duration, Instant};

use crate::ingest::rtmp::connect::Connect;
use crate::ingest::rtmp::handshake::Handshake;

/// C0, C1 and C2: 3 KB. Whoever needs longer sends a byte a second to hold a connection.
pub const HANDSHAKE_DEADLINE: Duration = Duration::from_secs(5);
/// From the handshake to `publish`, all in all: five round trips. Encoders need less than two seconds over a satellite.
pub const PUBLISH_DEADLINE: Duration = Duration::from_secs(10);
/// How long the decision may take that [`PublishRequested`](super::Event::PublishRequested) asks for.
pub const DECISION_DEADLINE: Duration = Duration::from_secs(10);
/// Without a complete message from a publisher. Encoders that lost their network are gone for good by then, as far as viewers care.
pub const IDLE_DEADLINE: Duration = Duration::from_secs(30);

/// Where one connection stands.
///
/// ```text
///              C0, C1, C2           connect            publish              accept
///  Handshaking ──────────► Connecting ────► Connected ────────► Deciding ──────────► Publishing
///       │                      │              │   ▲                │                    │  │
///       │                      │              │   └─────────────── │ ── deleteStream, ──┘  │
///       │                      │              │                    │    closeStream        │
///       └──────────────────────┴──────────────┴───────┬────────────┴───────────────────────┘
///                                                     ▼
///                                                  Closed      by reject, or by a peer that wants to play
/// ```
///
/// A broken rule and a passed deadline change no state: the shell drops the session.
#[derive(Debug)]
pub(super) enum State {
    /// C0, C1 and C2 are not all here.
    Handshaking(Box<Handshake>),
    /// The handshake is over.
    Connecting,
    /// The peer has said which application it wants.
    Connected(Connect),
    /// Somebody else decides whether the peer may publish. Nothing is read meanwhile, so that what a stranger sends is not kept.
    Deciding {
        connect: Connect,
        /// The message stream that asked, and that is answered.
        stream_id: u32,
    },
    /// Media comes.
    Publishing {
        connect: Connect,
        /// The message stream that was let in.
        stream_id: u32,
    },
    /// Nothing is read any more. What is left to transmit says why.
    Closed,
}

impl State {
    /// When a peer that comes here at `now` must have left again, or, where it publishes, have sent something. It came from `before`,
    /// which it had to leave by `deadline`.
    pub(super) fn deadline(&self, now: Instant, before: &Self, deadline: Instant) -> Instant {
        match (before, self) {
            (_, Self::Handshaking(_)) => now + HANDSHAKE_DEADLINE,
            // One for both commands: it runs from the end of the handshake.
            (Self::Connecting, Self::Connected(_)) => deadline,
            (_, Self::Connecting | Self::Connected(_)) => now + PUBLISH_DEADLINE,
            (_, Self::Deciding { .. }) => now + DECISION_DEADLINE,
            (_, Self::Publishing { .. } | Self::Closed) => now + IDLE_DEADLINE,
        }
    }

    /// What did not come when the deadline passes.
    pub(super) fn awaits(&self) -> &'static str {
        match self {
            Self::Handshaking(_) => "handshake",
            Self::Connecting => "connect command",
            Self::Connected(_) => "publish command",
            Self::Deciding { .. } => "decision about publishing",
            Self::Publishing { .. } | Self::Closed => "media",
        }
    }

    /// Whether input is looked at.
    pub(super) fn reads(&self) -> bool {
        !matches!(self, Self::Deciding { .. } | Self::Closed)
    }

    pub(super) fn is_publishing(&self) -> bool {
        matches!(self, Self::Publishing { .. })
    }

    pub(super) fn is_closed(&self) -> bool {
        matches!(self, Self::Closed)
    }
}
