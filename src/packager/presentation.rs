//! A presentation.
/// All renditions of one stream.
#[derive(Debug)]
pub struct Presentation {}
