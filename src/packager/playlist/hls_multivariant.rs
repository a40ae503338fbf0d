//! The HLS multivariant playlist.

use crate::packager::Catalog;

/// Renders `catalog`.
pub fn render(_catalog: &Catalog) -> String {
    String::new()
}
