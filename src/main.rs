//! The `rillcast` command.
#![forbid(unsafe_code)]

use std::process::ExitCode;

use clap::Parser;

fn main() -> ExitCode {
    match rillcast::cli::Command::parse().run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("rillcast: {error:#}");
            ExitCode::FAILURE
        }
    }
}
