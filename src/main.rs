//! The `rillcast` command.
#![forbid(unsafe_code)]

use std::process::ExitCode;

use clap::Parser;

/// Why it is not the system's: docs/adr/0011.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    // The allocator asks for huge pages, which are made resident 2 MiB at a time: that is a tenth more memory, and no less time. A kernel that
    // cannot be told so only takes that tenth.
    let _ = rustix::thread::disable_transparent_huge_pages(true);
    match rillcast::cli::Command::parse().run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("rillcast: {error:#}");
            ExitCode::FAILURE
        }
    }
}
