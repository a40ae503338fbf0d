//! Which bytes are worth waking up for: sound can wait for the picture behind it (docs/adr/0009).
//!
//! Three of five messages of a publisher are sound, a few hundred bytes each, and being woken for one costs as much as being woken for a picture. While
//! pictures come that are large enough by themselves, the kernel is asked to keep what arrives until there is as much as that (`SO_RCVLOWAT`). A
//! picture never waits, and nor does the end of the connection.

use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use nix::libc;
use nix::sys::socket::{setsockopt, sockopt};

/// More than the sound between two pictures has most of the time: 33 ms of it at 200 kbit/s. Less than a picture of any stream that costs much.
const MARK_BYTES: usize = 1024;
/// So many pictures in a row must have been large: where nothing moves they have less than a hundred bytes, and must not wait.
const LARGE_PICTURES: u32 = 16;
/// After so long without a byte, every byte counts again. Long enough that it is not reached between two pictures, since a timer would wake us too.
const PATIENCE: Duration = Duration::from_millis(200);

nix::setsockopt_impl!(Mark, libc::SOL_SOCKET, libc::SO_RCVLOWAT, usize, sockopt::SetUsize);

/// The socket option of that name.
#[derive(Debug, Clone, Copy)]
struct Mark;

/// When one connection's socket wakes us.
#[derive(Debug, Default)]
pub(super) struct LowWater {
    large: u32,
    raised: bool,
}

impl LowWater {
    /// A picture has come.
    pub(super) fn picture(&mut self, bytes: usize) {
        self.large = if bytes < MARK_BYTES { 0 } else { self.large.saturating_add(1) };
    }

    /// Nothing has come for a while, or no pictures are expected any more.
    pub(super) fn silence(&mut self) {
        self.large = 0;
    }

    /// When to call [`silence`](Self::silence) if nothing is read after `read`. `None` while every byte wakes us.
    pub(super) fn patience(&self, read: Instant) -> Option<Instant> {
        self.raised.then(|| read + PATIENCE)
    }

    /// Tells the kernel. What has arrived and is enough by the new mark wakes us.
    pub(super) fn apply(&mut self, socket: &impl AsFd) {
        let raise = self.large >= LARGE_PICTURES;
        if raise != self.raised {
            self.raised = raise;
            // Refused, we are woken more often than we need be.
            let _ = setsockopt(socket, Mark, if raise { &MARK_BYTES } else { &1 });
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read as _, Write as _};
    use std::net::{TcpListener, TcpStream};

    use rustix::event::{PollFd, PollFlags, Timespec, poll};

    use super::*;

    fn pictures(mark: &mut LowWater, count: u32, bytes: usize) {
        (0..count).for_each(|_| mark.picture(bytes));
    }

    /// Whether the kernel would wake us, now or within `limit`.
    fn wakes(socket: &TcpStream, limit: Duration) -> bool {
        let limit = Timespec::try_from(limit).unwrap();
        poll(&mut [PollFd::new(socket, PollFlags::IN)], Some(&limit)).unwrap() > 0
    }

    #[test]
    fn sound_wakes_us_with_the_picture_behind_it_and_with_the_end() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut peer = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let socket = listener.accept().unwrap().0;
        let (mut mark, soon, later) = (LowWater::default(), Duration::from_millis(50), Duration::from_secs(10));

        pictures(&mut mark, LARGE_PICTURES, MARK_BYTES);
        mark.apply(&socket);
        peer.write_all(&[0; 400]).unwrap();
        assert!(!wakes(&socket, soon), "sound");
        peer.write_all(&[0; MARK_BYTES]).unwrap();
        assert!(wakes(&socket, later), "a picture");
        assert!((&socket).read(&mut [0; 4096]).unwrap() > 0);

        peer.write_all(&[0; 400]).unwrap();
        assert!(!wakes(&socket, soon), "sound again");
        mark.silence();
        mark.apply(&socket);
        assert!(wakes(&socket, later), "what has waited is enough now");
        assert!((&socket).read(&mut [0; 4096]).unwrap() > 0);

        pictures(&mut mark, LARGE_PICTURES, MARK_BYTES);
        mark.apply(&socket);
        peer.write_all(&[0; 10]).unwrap();
        drop(peer);
        assert!(wakes(&socket, later), "the end");
    }

    #[test]
    fn nothing_waits_where_pictures_are_small_or_absent() {
        let socket = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut mark = LowWater::default();
        let mut raised = |change: &dyn Fn(&mut LowWater)| {
            change(&mut mark);
            mark.apply(&socket);
            mark.patience(Instant::now()).is_some()
        };
        assert!(!raised(&|_| ()));
        assert!(!raised(&|mark| pictures(mark, LARGE_PICTURES - 1, 9_000)));
        assert!(raised(&|mark| pictures(mark, 1, 9_000)));
        assert!(!raised(&|mark| pictures(mark, 1, 90)), "one small picture is enough");
        assert!(!raised(&|mark| pictures(mark, LARGE_PICTURES - 1, 9_000)));
        assert!(raised(&|mark| pictures(mark, 1, 9_000)));
        assert!(!raised(&LowWater::silence));
    }
}
