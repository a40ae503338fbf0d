#!/usr/bin/env bash
# Builds the fuzz targets on the stable toolchain and runs each for a while. Fails when one crashes; its input then lies in fuzz/artifacts and
# becomes a named unit test. What was found worth keeping grows in fuzz/corpus.
#
#   scripts/fuzz.sh [TARGET…]          each for SECONDS_EACH (60) seconds
#   RUNS_EACH=2000 scripts/fuzz.sh     each for so many executions; with a SEED other than 0 the same ones each time, as long as corpus and program are
set -euo pipefail
cd "$(dirname "$0")/.."
export PATH="$HOME/.cargo/bin:$PATH"
host=$(rustc -vV | sed -n 's/^host: //p')

# libFuzzer's coverage: counters at each edge, their table, and comparisons. Only for the target's own code, not for build scripts.
coverage="-Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 -Cllvm-args=-sanitizer-coverage-inline-8bit-counters"
coverage+=" -Cllvm-args=-sanitizer-coverage-pc-table -Cllvm-args=-sanitizer-coverage-trace-compares"
RUSTFLAGS="--cfg fuzzing $coverage" cargo build --release --locked --manifest-path fuzz/Cargo.toml --target "$host"
binaries=${CARGO_TARGET_DIR:-fuzz/target}/$host/release

if [ -n "${RUNS_EACH:-}" ]; then limit=(-runs="$RUNS_EACH" -seed="${SEED:-0}"); else limit=(-max_total_time="${SECONDS_EACH:-60}"); fi
targets=("$@")
[ ${#targets[@]} -gt 0 ] || mapfile -t targets < <(basename -s .rs fuzz/src/bin/*.rs)

mkdir -p fuzz/artifacts
crashed=()
total=0
for target in "${targets[@]}"; do
    mkdir -p "fuzz/corpus/$target"
    folders=("fuzz/corpus/$target")
    [ -d "fuzz/seeds/$target" ] && folders+=("fuzz/seeds/$target")
    log=fuzz/artifacts/$target.log
    if "$binaries/$target" "${limit[@]}" -rss_limit_mb=2048 -timeout=10 -print_final_stats=1 \
        -artifact_prefix="fuzz/artifacts/$target-" "${folders[@]}" >"$log" 2>&1; then
        runs=$(sed -n 's/^stat::number_of_executed_units: *//p' "$log")
        total=$((total + runs))
        printf '%-20s %12d executions\n' "$target" "$runs"
        rm "$log"
    else
        printf '%-20s CRASHED\n' "$target"
        tail -n 30 "$log"
        crashed+=("$target")
    fi
done
printf '%-20s %12d executions\n' "all" "$total"
if [ ${#crashed[@]} -gt 0 ]; then
    echo "crashed: ${crashed[*]}; the inputs lie in fuzz/artifacts" >&2
    exit 1
fi
