//! How many streams are published with one credential now.

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::Mutex;

use crate::media::StreamName;

/// Streams by holder, and how many publishers of each: two while one takes over from the other.
type InUse = HashMap<String, HashMap<StreamName, u32>>;

/// What is in use, of all credentials with a limit. Never more entries than publishers.
#[derive(Debug, Default)]
pub(super) struct Quota {
    in_use: Mutex<InUse>,
}

/// A place in a quota; dropping it gives it back.
#[derive(Debug)]
pub struct Lease {
    quota: Arc<Quota>,
    holder: String,
    stream: StreamName,
}

impl Quota {
    /// A place for `stream` among the `most` streams of `holder`, or how many it has. A stream that it publishes already needs no new place: whether
    /// that one is taken over is not decided here.
    pub(super) fn take(self: &Arc<Self>, holder: &str, stream: &StreamName, most: u32) -> Result<Lease, usize> {
        let mut in_use = self.in_use.lock();
        let streams = in_use.get(holder).map_or(0, HashMap::len);
        let known = in_use.get(holder).is_some_and(|streams| streams.contains_key(stream));
        if !known && streams >= most as usize {
            return Err(streams);
        }
        *in_use.entry(holder.to_owned()).or_default().entry(stream.clone()).or_default() += 1;
        Ok(Lease { quota: Arc::clone(self), holder: holder.to_owned(), stream: stream.clone() })
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        let mut in_use = self.quota.in_use.lock();
        let Some(streams) = in_use.get_mut(&self.holder) else { return };
        if let Some(count) = streams.get_mut(&self.stream) {
            *count = count.saturating_sub(1);
            if *count == 0 {
                streams.remove(&self.stream);
            }
        }
        if streams.is_empty() {
            in_use.remove(&self.holder);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn streams_are_counted_once_and_places_given_back() {
        let quota = Arc::new(Quota::default());
        let name = |text: &str| text.parse::<StreamName>().expect("a name");
        let first = quota.take("key 1", &name("live/a"), 1).expect("free");
        assert_eq!(quota.take("key 1", &name("live/b"), 1).err(), Some(1));
        let over = quota.take("key 1", &name("live/a"), 1).expect("the same stream, to take it over");
        drop(first);
        assert_eq!(quota.take("key 1", &name("live/b"), 1).err(), Some(1), "the new one holds the place");
        assert!(quota.take("key 2", &name("live/b"), 1).is_ok());
        drop(over);
        assert!(quota.take("key 1", &name("live/b"), 1).is_ok());
        assert!(quota.in_use.lock().is_empty());
    }
}
