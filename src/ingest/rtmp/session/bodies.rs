//! Gathers the bodies of messages whose payload is not media alone: control, commands, metadata, aggregates.

use std::borrow::Cow;

use crate::ingest::rtmp::chunk::{MAX_CHUNK_STREAMS, Piece};

/// One unfinished body a chunk stream. Bounded by the limits of the chunk decoder, which knows the lengths.
#[derive(Debug)]
pub(super) struct Bodies {
    by_slot: Vec<Vec<u8>>,
}

impl Default for Bodies {
    fn default() -> Self {
        Self { by_slot: vec![Vec::new(); MAX_CHUNK_STREAMS] }
    }
}

impl Bodies {
    /// The whole body, where `piece` is the last of it.
    pub(super) fn gather<'a>(&mut self, piece: Piece<'a>) -> Option<Cow<'a, [u8]>> {
        let body = self.by_slot.get_mut(piece.slot)?;
        if piece.first {
            body.clear();
        }
        // Most commands and metadata come in one piece, and then need no buffer.
        if piece.first && piece.last {
            return Some(Cow::Borrowed(piece.data));
        }
        body.extend_from_slice(piece.data);
        // Taken, not cleared: memory for an aggregate is not kept.
        piece.last.then(|| Cow::Owned(std::mem::take(body)))
    }

    /// The peer aborts the message on that chunk stream.
    pub(super) fn abort(&mut self, slot: usize) {
        if let Some(body) = self.by_slot.get_mut(slot) {
            body.clear();
        }
    }
}
