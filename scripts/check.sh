#!/usr/bin/env bash
# Formatting, lints, documentation, licences, fuzz targets. Any warning fails.
set -euo pipefail
cd "$(dirname "$0")/.."
export PATH="$HOME/.cargo/bin:$PATH"

stage() { printf '\n==> %s\n' "$*"; }

stage "cargo fmt --check"
cargo fmt --all --check

stage "cargo clippy"
cargo clippy --release --all-targets --locked -- -D warnings

stage "rustdoc"
RUSTDOCFLAGS="-D warnings" cargo doc --release --no-deps --document-private-items --locked --quiet

# Advisories are not asked for: they change from one day to the next and need the network, so they are no part of what a commit is.
stage "cargo deny"
cargo deny --locked check bans licenses sources

stage "every fuzz target, briefly"
cargo fmt --manifest-path fuzz/Cargo.toml --check
# The same inputs each time: what is found by luck is found by `make fuzz`, not in somebody's way.
SEED=1 RUNS_EACH=2000 scripts/fuzz.sh

stage "deploy/: promtool"
command -v promtool >/dev/null || { echo "promtool is missing: scripts/setup.sh test installs it" >&2; exit 1; }
promtool check config deploy/prometheus.yml
promtool check rules deploy/alerts.yml
promtool test rules deploy/alerts.test.yml

stage "shell scripts parse"
for script in scripts/*.sh .ci/run; do bash -n "$script"; done
