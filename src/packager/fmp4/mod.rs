//! ISO base media files: the CMAF header ([`init`]) and the header of a chunk ([`chunk`]). Payload is never touched here.

pub mod chunk;
pub mod init;
