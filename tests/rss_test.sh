#!/bin/sh
# bench/rss.sh with a tiny shape: its rows, and that nothing stays behind.
#
#   rss_test.sh BUILD SOURCE_DIR
# shellcheck disable=SC2016 # Markdown
set -eu
build=$1 source=$2
grep -q '^RssAnon:' /proc/self/status 2>/dev/null || {
    echo "no RssAnon here: nothing to measure"
    exit 77
}
scratch=$(mktemp -d "${TMPDIR:-/tmp}/sirocco-rss-test.XXXXXX")
trap 'rm -rf "$scratch"' EXIT
mkdir "$scratch/tmp"
export TMPDIR="$scratch/tmp" THREADS=1 LC_ALL=C

fail() {
    echo "FAIL: $1"
    sed 's/^/    /' "$scratch/out"
    exit 1
}
solved= # where there is no OpenBLAS, bench/rss.sh says so
SHAPES=1,256,4,2,256,300 CONVERSIONS=gguf/q4_k:gptq "$source/bench/rss.sh" "$build" >"$scratch/out" 2>&1 &&
    solved=gguf/q4_k:gptq || grep -q OpenBLAS "$scratch/out" || fail "gptq: it ended with $?"
SHAPES=2,256,4,2,1024,1000 CONVERSIONS="gguf/q4_k mlx/4:hqq $solved" "$source/bench/rss.sh" "$build" >"$scratch/out" 2>&1 || fail "it ended with $?"
for row in '`gguf:q4_k` | rtn' '`mlx:4` | hqq'; do # a layer: 2 bytes * 256 * (2 * 256 + 2 * 128 + 3 * 1024)
    grep -q "^| 2,256,4,2,1024,1000 | $row | [0-9]* MiB | [0-9]* MiB | 1 MiB | [0-9.]* | [0-9.]* |\$" "$scratch/out" || fail "no row '$row'"
done
# What a plan says is what is allocated: here, within 5 % and what a page or two of the libraries make.
awk -F '|' '/MiB/ { p = $5 + 0; q = $6 + 0; if (p > 1.05 * q + 1 || q > 1.05 * p + 1) exit 1 }' "$scratch/out" ||
    fail "planned memory is not what was measured"
[ -z "$(ls -A "$scratch/tmp")" ] || fail "it left files behind"
# However many threads, a layer (2 bytes * 256 * (2 * 256 + 2 * 128 + 3 * 16384)) and 256 MiB are enough.
if [ "$solved" ]; then
    "$build/synthetic" bf16 "$scratch/wide.gguf" 1 256 4 2 16384 300
    "$build/sirocco" quantize "$scratch/wide.gguf" --to gguf:q4_k --method gptq --calibration-file \
        "$source/tests/data/heldout-100k.txt" --threads 128 --plan --json -o "$scratch/made.gguf" >"$scratch/out" 2>&1 ||
        fail "with 128 threads it ended with $?"
    planned=$(tr -d '\n ' <"$scratch/out" | sed -n 's/.*"memory":\([0-9]*\).*/\1/p')
    [ "$planned" -le $((512 * (768 + 3 * 16384) + (256 << 20))) ] || fail "with 128 threads it plans $planned bytes"
fi
code=0
SHAPES=2,256 "$source/bench/rss.sh" "$build" >"$scratch/out" 2>&1 || code=$?
[ "$code" = 2 ] || fail "two numbers are no shape: exit code $code, expected 2"
