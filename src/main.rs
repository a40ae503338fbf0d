//! The `rillcast` command.
#![forbid(unsafe_code)]

use std::process::ExitCode;

use clap::Parser;

/// It takes a third of the time of the system's for what a request or an access unit needs (docs/bench.md).
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    match rillcast::cli::Command::parse().run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("rillcast: {error:#}");
            ExitCode::FAILURE
        }
    }
}
