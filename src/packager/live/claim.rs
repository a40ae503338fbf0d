//! A stream's name, claimed before the disk is asked for sequence numbers: two publishers of one name cannot both get it.

use std::sync::Arc;

use super::life::Life;
use super::{Listed, PublishError, Registry, Stream, already_live};

/// A name that is taken while its life is being made: given back when dropped.
#[derive(Debug)]
pub(super) struct Claim<'a> {
    registry: &'a Registry,
    stream: &'a Arc<Stream>,
    /// Its life is there: the name is not given back any more.
    kept: bool,
}

impl<'a> Claim<'a> {
    /// Lists `stream` under its name.
    ///
    /// # Errors
    /// The name is taken, or a limit on streams or on media kept is reached.
    pub(super) fn take(registry: &'a Registry, stream: &'a Arc<Stream>) -> Result<Self, PublishError> {
        let mut streams = registry.streams.write();
        if let Some(other) = streams.get(&stream.name).filter(|other| !other.stream.has_ended()) {
            return Err(already_live(&stream.name, &other.stream.seat.lock().info, false));
        }
        if streams.len() >= registry.limits.max_streams && !streams.contains_key(&stream.name) {
            registry.metrics.hits.streams.inc();
            return Err(PublishError::TooManyStreams(registry.limits.max_streams));
        }
        if registry.is_full() {
            registry.metrics.hits.total_bytes.inc();
            return Err(PublishError::NoMemory(registry.config.max_total_bytes));
        }
        streams.insert(stream.name.clone(), Listed { stream: Arc::clone(stream), life: None });
        Ok(Self { registry, stream, kept: false })
    }

    /// Publishers write to `life` from now on.
    pub(super) fn keep(mut self, life: &Arc<Life>) {
        let mut streams = self.registry.streams.write();
        if let Some(listed) =
            streams.get_mut(&self.stream.name).filter(|listed| Arc::ptr_eq(&listed.stream, self.stream))
        {
            listed.life = Some(Arc::clone(life));
        }
        self.kept = true;
    }
}

impl Drop for Claim<'_> {
    fn drop(&mut self) {
        if !self.kept {
            self.registry.remove(self.stream);
        }
    }
}
