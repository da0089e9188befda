#!/usr/bin/env bash
# Searches decoders with libFuzzer: fuzz-long.sh TARGET [FLAG…], such as -max_total_time=60. TARGET all: one after the
# other. Stable Rust is enough, and a C++ compiler for libFuzzer: of what cargo-fuzz asks nightly Rust for, the address
# sanitizer, decoders without unsafe code gain little. What is found is kept in build/fuzz, and searched from next time.
set -euo pipefail
cd "$(dirname "$0")/../fuzz"
target=${1:?fuzz-long.sh TARGET [FLAG…]}
shift
host=$(rustc -vV | sed -n 's/^host: //p')
found=$PWD/../build/fuzz
built=${CARGO_TARGET_DIR:-$PWD/../target}/fuzz
[ -e Cargo.lock ] || cp ../Cargo.lock .

coverage=(level=4 inline-8bit-counters pc-table trace-compares)
flags="--cfg fuzzing -Cpasses=sancov-module -Cdebug-assertions -Coverflow-checks"
for one in "${coverage[@]}"; do flags+=" -Cllvm-args=-sanitizer-coverage-$one"; done

targets=("$target")
[ "$target" != all ] || mapfile -t targets < <(ls fuzz_targets | sed 's/\.rs$//')
bins=()
for one in "${targets[@]}"; do bins+=(--bin "$one"); done
# With --target, build scripts are built without these flags.
RUSTFLAGS=$flags cargo build --release --target "$host" --target-dir "$built" "${bins[@]}"

for one in "${targets[@]}"; do
    echo "== $one"
    mkdir -p "$found/$one"
    "$built/$host/release/$one" -artifact_prefix="$found/$one.crash-" "$@" "$found/$one"
done
