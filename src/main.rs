//! The `rillcast` command.
#![forbid(unsafe_code)]

use clap::Parser;

fn main() -> anyhow::Result<()> {
    rillcast::cli::Command::parse().run()
}
