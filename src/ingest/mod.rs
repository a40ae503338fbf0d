//! Protocols that bring access units.
//!
//! ```text
//!   OBS, ffmpeg ── TCP ──► rtmp ──┐              ┌──► publish::Authorise (may this peer publish?)
//!                                 ├──► timeline ─┼──► packager::live (access units, no queue between)
//!   (srt, ts: later) ─────────────┘              └──► report (what the streamer should know)
//! ```
//!
//! Each protocol is a sans-IO core with a tokio shell called `server` beside it. Not here: how access units are packaged (`packager`),
//! who may publish (`control`, through [`publish::Authorise`]).

pub mod config;
pub mod limits;
#[cfg(feature = "server")]
pub mod metrics;
pub mod publish;
pub mod report;
pub mod rtmp;
pub mod timeline;

pub use config::Config;
#[cfg(feature = "server")]
pub use metrics::Metrics;
#[cfg(feature = "server")]
pub use publish::Authorise;
pub use publish::{Credential, PublishRequest, Refusal, RefusalKind};
