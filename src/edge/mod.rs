//! HTTP: what viewers, players and operators talk to.
//!
//! ```text
//!   http, tls                         listeners, graceful stop
//!   accept                            a place for a connection, or none
//!   connection                        one of them, from its handshake to its end
//!     activity, payload, watchdog     what it does, and when that is too little or too much
//!     gather                          what it writes, in full TLS records
//!     protocol                        HTTP/1 or HTTP/2, and when hyper speaks it
//!     executor                        where requests of HTTP/2 are answered
//!        │ request
//!        ▼
//!   handler ── route (pure) ──► live ── blocking (pure) ── hold ──► window, catalog of the packager
//!        │                       └── mpd: rendered once ── tail: a segment while it is made
//!        ├──► access: who may watch       viewers: an estimate
//!        ├──► pages (embedded)
//!        └──► the API, a tower service that the app puts in
//!        │
//!        ▼ response
//!   reply: there, or to come
//!   respond: caching, CORS, errors ── negotiate (pure): coding, ranges, conditions ── body: slices by reference
//!
//!   admin   metrics and health on a listener of their own
//!   trace   what ties log lines together
//! ```
//!
//! Not here: how media is packaged and playlists are written (`packager`), what the API does (`control`).
//!
//! Specifications: RFC 9110, 9111, 9112, 9113, 9218, 9457; RFC 8216bis-22 §6.2; ISO/IEC 23009-1 (segments in the making).

pub mod access;
pub mod blocking;
pub mod body;
pub mod config;
pub mod negotiate;
pub mod route;
pub mod traceparent;

#[cfg(feature = "server")]
mod accept;
#[cfg(feature = "server")]
mod activity;
#[cfg(feature = "server")]
pub mod admin;
#[cfg(feature = "server")]
mod connection;
#[cfg(feature = "server")]
mod executor;
#[cfg(feature = "server")]
mod gather;
#[cfg(feature = "server")]
pub mod handler;
#[cfg(feature = "server")]
mod hold;
#[cfg(feature = "server")]
pub mod http;
#[cfg(feature = "server")]
mod live;
#[cfg(feature = "server")]
pub mod metrics;
#[cfg(feature = "server")]
mod mpd;
#[cfg(feature = "server")]
mod pages;
#[cfg(feature = "server")]
mod payload;
#[cfg(feature = "server")]
mod protocol;
#[cfg(feature = "server")]
mod reply;
#[cfg(feature = "server")]
mod respond;
#[cfg(feature = "server")]
mod seldom;
#[cfg(feature = "server")]
mod tail;
#[cfg(feature = "server")]
pub mod tls;
#[cfg(feature = "server")]
mod trace;
#[cfg(feature = "server")]
mod viewers;
#[cfg(feature = "server")]
mod watchdog;

pub use access::MayWatch;
pub use config::Config;
#[cfg(feature = "server")]
pub use handler::{Api, Edge};
#[cfg(feature = "server")]
pub use metrics::Metrics;
#[cfg(feature = "server")]
pub use reply::Answer;
