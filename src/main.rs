//! The `rillcast` command.
#![deny(unsafe_code)]

use std::cell::Cell;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use clap::Parser;

/// Why it is not the system's: docs/adr/0011.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// How long a thread keeps what it has freed.
const KEEP: Duration = Duration::from_secs(1);

fn main() -> ExitCode {
    // The allocator asks for huge pages, which are made resident 2 MiB at a time: that is a tenth more memory, and no less time. A kernel that
    // cannot be told so only takes that tenth.
    let _ = rustix::thread::disable_transparent_huge_pages(true);
    match rillcast::cli::Command::parse().run(give_back) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("rillcast: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Gives what this thread has freed back to the system, at most once in [`KEEP`]. By itself the allocator does so when a thread has allocated
/// often enough, which one that has gone to rest does not: docs/adr/0012.
fn give_back() {
    thread_local! {
        static LAST: Cell<Option<Instant>> = const { Cell::new(None) };
    }
    let now = Instant::now();
    if LAST.get().is_some_and(|last| now.duration_since(last) < KEEP) {
        return;
    }
    LAST.set(Some(now));
    #[expect(unsafe_code, reason = "no crate that is kept offers it otherwise, and it asks nothing of who calls it")]
    // SAFETY: foreign, but without arguments that could be wrong; it may be called by any thread at any time.
    unsafe {
        libmimalloc_sys::mi_collect(false);
    }
}
