#!/usr/bin/env bash
# Runs each libFuzzer target of a build folder for a number of seconds, from its committed seeds.
#
#   tools/fuzz.sh BUILD_DIR SECONDS [TARGET...]
#
# New inputs go to BUILD_DIR/corpus/<name>, crashes to BUILD_DIR/crash-<name>-*; the seeds in fuzz/seeds stay as they are.
set -euo pipefail

root=$(cd "$(dirname "$0")/.." && pwd)
build=$(cd "$1" && pwd)
seconds=$2
shift 2

targets=$*
if [ -z "$targets" ]; then
    for source in "$root"/fuzz/*_fuzz.c; do
        if [ -e "$source" ]; then targets="$targets $(basename "$source" .c)"; fi
    done
fi
[ -n "$targets" ] || { echo "fuzz: no targets in fuzz/" >&2; exit 1; }

export LSAN_OPTIONS=suppressions=$root/cmake/lsan.supp:print_suppressions=0
failed=
for target in $targets; do
    name=${target%_fuzz}
    corpus=$build/corpus/$name
    seeds=$root/fuzz/seeds/$name
    mkdir -p "$corpus"
    dirs=("$corpus")
    if [ -d "$seeds" ]; then dirs+=("$seeds"); fi
    echo "== $target, $seconds seconds"
    if ! "$build/$target" -max_total_time="$seconds" -max_len=65536 -rss_limit_mb=1024 -timeout=10 -print_final_stats=1 \
        -verbosity=0 -artifact_prefix="$build/crash-$name-" "${dirs[@]}" >"$build/$target.log" 2>&1; then
        tail -n 60 "$build/$target.log"
        failed="$failed $target"
    fi
    grep -E 'stat::(number_of_executed_units|peak_rss_mb)' "$build/$target.log" || true
done
if [ -n "$failed" ]; then
    echo "fuzz: failed:$failed (inputs: $build/crash-*)" >&2
    exit 1
fi
