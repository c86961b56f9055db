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
        failed="$failed $target"
    fi
    grep -E 'stat::(number_of_executed_units|peak_rss_mb)' "$build/$target.log" || true
done
for target in $failed; do # at the end, where the log of a long run is read
    echo "fuzz: $target failed (inputs: $build/crash-${target%_fuzz}-*):" >&2
    tail -n 40 "$build/$target.log" | cut -c 1-4000 >&2
done
[ -z "$failed" ]
