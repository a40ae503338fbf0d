//! A stream's name, claimed before the disk is asked for sequence numbers: two publishers of one name cannot both get it.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::life::Life;
use super::{Listed, PublishError, Registry, Stream, Streams, already_live};
use crate::media::StreamName;

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
        registry.make_room(&mut streams, &stream.name)?;
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

impl Registry {
    /// Forgets streams that are over, as far as one called `name` needs their place or their memory: that of its own name first, then those that are over
    /// for the longest time.
    ///
    /// # Errors
    /// There would be no room without all of them either; none is forgotten then.
    fn make_room(&self, streams: &mut Streams, name: &StreamName) -> Result<(), PublishError> {
        let most_streams = self.limits.max_streams;
        let over = streams.iter().filter(|(_, listed)| listed.stream.has_ended());
        let mut over: Vec<_> = over
            .map(|(other, Listed { stream, .. })| {
                (other != name, stream.last_media.load(Ordering::Relaxed), other.clone(), stream.kept.bytes())
            })
            .collect();
        if streams.len() - over.len() >= most_streams {
            self.metrics.hits.streams.inc();
            return Err(PublishError::TooManyStreams(most_streams));
        }
        let mut kept = self.metrics.media_bytes.get();
        if self.is_too_much(kept - over.iter().map(|(.., bytes)| bytes).sum::<i64>()) {
            self.metrics.hits.total_bytes.inc();
            return Err(PublishError::NoMemory(self.config.max_total_bytes));
        }
        over.sort();
        // Counted here, since whoever still looks at a stream that is forgotten gives its memory back a moment later.
        for (_, _, other, bytes) in over {
            if streams.len() < most_streams && !self.is_too_much(kept) {
                break;
            }
            streams.remove(&other);
            kept -= bytes;
        }
        Ok(())
    }
}

impl Drop for Claim<'_> {
    fn drop(&mut self) {
        if !self.kept {
            self.registry.remove(self.stream);
        }
    }
}
