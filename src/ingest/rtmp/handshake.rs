//! The handshake: `rml_rtmp`'s, simple and with digests, behind a look at the first byte.
//!
//! Specification: RTMP 1.0 §5.2. It ends after exactly 3,073 bytes of the peer: C0, C1 and C2.

use bytes::Bytes;
use rml_rtmp::handshake::{Handshake as Exchange, HandshakeProcessResult, PeerType};

/// C0, C1 and C2.
const PEER_BYTES: usize = 1 + 1_536 + 1_536;
/// The only version without encryption.
const VERSION: u8 = 3;

/// Why the handshake failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// Something else speaks: HTTP, TLS, RTMPE.
    #[error("the first byte is 0x{0:02X}, not RTMP version 3")]
    Version(u8),
    /// What `rml_rtmp` refuses.
    #[error("the handshake is broken")]
    Broken,
}

/// What came of some input.
#[derive(Debug, Default)]
pub struct Progress {
    /// To send to the peer; may be empty.
    pub reply: Bytes,
    /// How much of the input was used. The rest belongs to the chunk protocol.
    pub used: usize,
    /// The handshake is over.
    pub done: bool,
}

/// The server's side of one handshake. Keeps at most one of C1 and C2.
pub struct Handshake {
    exchange: Exchange,
    received: usize,
}

impl Default for Handshake {
    fn default() -> Self {
        Self { exchange: Exchange::new(PeerType::Server), received: 0 }
    }
}

impl std::fmt::Debug for Handshake {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Handshake").field("received", &self.received).finish_non_exhaustive()
    }
}

impl Handshake {
    /// Takes what has arrived, never more than the handshake has bytes. A wrong C2 is accepted, since players' and encoders' vary.
    ///
    /// # Errors
    /// [`Error`]; nothing should be sent then.
    pub fn receive(&mut self, input: &[u8]) -> Result<Progress, Error> {
        let (Some(input), Some(&first)) = (input.get(..input.len().min(PEER_BYTES - self.received)), input.first())
        else {
            return Ok(Progress::default());
        };
        if self.received == 0 && first != VERSION {
            return Err(Error::Version(first));
        }
        self.received += input.len();
        let used = input.len();
        match self.exchange.process_bytes(input).map_err(|_| Error::Broken)? {
            HandshakeProcessResult::InProgress { response_bytes } => {
                Ok(Progress { reply: response_bytes.into(), used, done: false })
            }
            HandshakeProcessResult::Completed { response_bytes, .. } => {
                Ok(Progress { reply: response_bytes.into(), used, done: true })
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn other_protocols_are_refused_at_the_first_byte() {
        for first in [0x16, b'G', 6, 0] {
            assert_eq!(Handshake::default().receive(&[first, 0]).unwrap_err(), Error::Version(first));
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(32))]
        #[test]
        fn simple_and_digest_handshakes_split_anywhere(digest in any::<bool>(), cut in 1_usize..3_072, extra in 0_usize..64) {
            let mut client = Exchange::new(PeerType::Client);
            let first = if digest { client.generate_outbound_p0_and_p1().unwrap() } else { [&[3][..], &[0; 1_536]].concat() };
            let input = [&first[..], &vec![0; 1_536 + extra]].concat();
            let (mut server, mut replied, mut rest, mut done) = (Handshake::default(), 0, &input[..], false);
            for mut portion in [&input[..cut], &input[cut..]] {
                while !portion.is_empty() && !done {
                    let progress = server.receive(portion).unwrap();
                    replied += progress.reply.len();
                    portion = &portion[progress.used..];
                    rest = &rest[progress.used..];
                    done = progress.done;
                }
            }
            prop_assert!(done);
            prop_assert_eq!((replied, rest.len()), (PEER_BYTES, extra));
        }
    }
}
