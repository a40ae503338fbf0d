//! MPDs, rendered at most once per change of what they show.

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;

use parking_lot::Mutex;

use crate::media::{Epoch, StreamName};
use crate::packager::window::Text;
use crate::packager::{Catalog, Window};

/// Most streams whose MPD is kept; where there are more, the cache starts over.
const MAX_STREAMS: usize = 1024;

/// What an MPD depends on: two equal keys, one MPD. It changes when the catalog does, and when a segment opens, completes or leaves.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Key {
    epoch: Epoch,
    published: i64,
    number: u64,
    ended: bool,
    windows: Vec<(u64, bool, usize, usize, bool)>,
}

/// The newest MPD of each stream.
#[derive(Debug, Default)]
pub(crate) struct Mpds {
    newest: Mutex<HashMap<StreamName, (Key, Arc<Text>)>>,
}

/// An MPD to be, in either coding, and its tag.
#[derive(Debug)]
pub(crate) struct Mpd {
    pub(crate) text: Arc<Text>,
    pub(crate) etag: String,
}

impl Mpds {
    /// The place of the MPD of `catalog` and `windows`; whoever asks first fills it.
    pub(crate) fn get(&self, stream: &StreamName, catalog: &Catalog, windows: &[Arc<Window>]) -> Mpd {
        let window = |w: &Arc<Window>| (w.open_msn, w.open.is_some(), w.segments.len(), w.listed, w.ended);
        let key = Key {
            epoch: catalog.epoch,
            published: catalog.published.micros(),
            number: catalog.number,
            ended: catalog.ended,
            windows: windows.iter().map(window).collect(),
        };
        let mut hasher = DefaultHasher::new();
        key.hash(&mut hasher);
        let etag = format!("{}-mpd-{:x}", catalog.epoch, hasher.finish());
        let mut newest = self.newest.lock();
        if let Some((known, text)) = newest.get(stream)
            && *known == key
        {
            return Mpd { text: Arc::clone(text), etag };
        }
        if newest.len() >= MAX_STREAMS && !newest.contains_key(stream) {
            newest.clear();
        }
        let text = Arc::new(Text::default());
        newest.insert(stream.clone(), (key, Arc::clone(&text)));
        Mpd { text, etag }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::packager::testing;

    #[test]
    fn the_text_is_shared_until_a_segment_opens() {
        let mpds = Mpds::default();
        let name = StreamName::new("live", "me").expect("a good name");
        let catalog = testing::catalog(Vec::new());
        let get = |window| mpds.get(&name, &catalog, &[Arc::new(window)]);
        let first = get(testing::window(4, 3, 3, 1));
        let same = get(testing::window(4, 3, 3, 2));
        assert!(Arc::ptr_eq(&first.text, &same.text), "a part does not change the MPD");
        assert_eq!(first.etag, same.etag);
        let other = get(testing::window(4, 4, 3, 1));
        assert!(!Arc::ptr_eq(&first.text, &other.text));
        assert_ne!(first.etag, other.etag);
        let mut later = testing::catalog(Vec::new());
        later.number += 1;
        let later = mpds.get(&name, &later, &[Arc::new(testing::window(4, 3, 3, 1))]);
        assert_ne!(first.etag, later.etag, "another catalog of the same moment");
    }
}
