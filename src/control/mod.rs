//! The control plane: who may publish and watch, and what operators and programs ask the server over REST.
//!
//! Not here: serving media (`edge`), which calls [`api`] as a tower service and knows nothing else of this folder.

#[cfg(feature = "server")]
pub mod access;
#[cfg(feature = "server")]
pub mod api;
#[cfg(feature = "keys")]
mod file;
#[cfg(feature = "server")]
mod json;
#[cfg(feature = "keys")]
pub mod keys;
#[cfg(feature = "keys")]
pub mod pattern;
#[cfg(feature = "keys")]
pub mod secrets;
#[cfg(feature = "keys")]
pub mod token;
