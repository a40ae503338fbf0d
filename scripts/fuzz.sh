#!/usr/bin/env bash
# Runs every fuzz target for a while. A crash leaves its input in fuzz/artifacts and becomes a named unit test.
#
#   SECONDS_EACH=60 scripts/fuzz.sh [TARGET…]
set -euo pipefail
cd "$(dirname "$0")/.."
export PATH="$HOME/.cargo/bin:$PATH"
seconds=${SECONDS_EACH:-60}

if [ ! -d fuzz ]; then
    echo "fuzz: there are no fuzz targets yet" >&2
    exit 1
fi
rustup toolchain list | grep -q '^nightly' || rustup toolchain install nightly --profile minimal
command -v cargo-fuzz >/dev/null || cargo install cargo-fuzz --locked

targets=("$@")
[ ${#targets[@]} -gt 0 ] || mapfile -t targets < <(cargo +nightly fuzz list)
for target in "${targets[@]}"; do
    echo "==> fuzz $target for $seconds s"
    cargo +nightly fuzz run "$target" -- -max_total_time="$seconds" -rss_limit_mb=2048
done
