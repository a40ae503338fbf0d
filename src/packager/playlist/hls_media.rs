//! The HLS media playlist.

use crate::media::RenditionId;
use crate::packager::Window;

/// One EXT-X-RENDITION-REPORT: where another rendition's live edge is. Spec: RFC 8216bis §4.4.5.4.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Report {
    /// Which rendition.
    pub id: RenditionId,
    /// LAST-MSN.
    pub last_msn: u64,
    /// LAST-PART.
    pub last_part: Option<usize>,
}

/// Renders `window`; as a delta update where `delta` is set and there is something to skip.
pub fn render(_window: &Window, _reports: &[Report], _delta: bool) -> String {
    String::new()
}
