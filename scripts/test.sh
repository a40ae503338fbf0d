#!/usr/bin/env bash
# All tests in stages, cheap and telling ones first. `make test` runs scripts/setup.sh before this.
#
#   scripts/test.sh            everything
#   scripts/test.sh live obs   these integration binaries only
set -euo pipefail
cd "$(dirname "$0")/.."
export PATH="$HOME/.cargo/bin:$PATH"
export RUST_BACKTRACE=1
log=target/test-results.txt
mkdir -p target
: >"$log"
began=$SECONDS

stage() { printf '\n==> [%3d s] %s\n' $((SECONDS - began)) "$*"; }

# Runs cargo test and keeps its result lines for the summary.
tests() {
    stage "cargo test $*"
    echo "cargo test $*" >>"$log"
    cargo test --release --locked "$@" 2>&1 | tee >(grep '^test result:' >>"$log")
}

summary() {
    status=$?
    # The lines written by tee's reader are there once it is gone.
    wait
    printf '\n==> [%3d s] results\n' $((SECONDS - began))
    cat "$log"
    if [ $status -ne 0 ]; then echo "FAILED in the stage above"; else echo "all stages passed"; fi
    exit $status
}
trap summary EXIT

# Each binary below tests/ is one area. Real browsers and encoders need the two cores for themselves: few at a time. Events wait for media that is not encoded any more.
declare -A threads=([live]=2 [events]=13 [players]=1 [obs]=1 [timing]=1)

if [ $# -gt 0 ]; then
    for area in "$@"; do tests --test "$area" -- --test-threads="${threads[$area]:-2}"; done
    exit
fi

scripts/check.sh
stage "build"
cargo build --release --locked --bins
cargo test --release --locked --no-run
tests --lib --bins
for folder in tests/*.rs tests/*/main.rs; do
    area=${folder#tests/}
    area=${area%.rs}
    area=${area%/main}
    [ "$area" = timing ] && continue
    tests --test "$area" -- --test-threads="${threads[$area]:-2}"
done
# Alone and last: nothing else of ours runs while time is judged.
tests --test timing -- --test-threads=1 --nocapture
