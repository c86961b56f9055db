#!/bin/sh
# Anonymous memory of conversions as a Markdown table: the most that RssAnon of /proc/PID/status (Linux) shows every
# 20 ms, beside what the plan says and what one layer of the source has; and seconds, beside the plan's.
#
#   bench/rss.sh BUILD
#
# The source is a synthetic model in bf16 of each shape, "layers,d_model,heads,kv_heads,d_ff,vocab"; it is mapped, and
# not counted. GGUF becomes GGUF, a directory everything else. A conversion is TARGET or TARGET:METHOD with '/' for
# ':' inside of the target, and methods that calibrate read the first TEXT_BYTES of TEXT. Variables: SHAPES,
# CONVERSIONS, THREADS, TEXT, TEXT_BYTES.
set -eu

# shellcheck source=bench/begin.sh
. "$(dirname "$0")/begin.sh"
here=$(cd "$(dirname "$0")/.." && pwd)
: "${SHAPES:=2,2048,32,8,8192,32000 1,4096,32,8,14336,32000 1,2048,8,1,16384,32000}" "${THREADS:=2}"
: "${CONVERSIONS:=gguf/q4_k_m gptq/4:rtn uqff/q4k uqff/hqq4 gguf/q4_k_m:gptq gguf/q4_k_m,static_groups:gptq gguf/q4_k_m:awq}"
: "${TEXT:=$here/tests/data/heldout-100k.txt}" "${TEXT_BYTES:=3000}"
grep -q '^RssAnon:' /proc/self/status 2>/dev/null || die 1 "/proc/self/status: found no RssAnon, expected one as on Linux"

scratch=$(mktemp -d "${TMPDIR:-/tmp}/sirocco-rss.XXXXXX")
trap 'rm -rf "$scratch"' EXIT
trap 'exit 130' INT
trap 'exit 143' TERM
head -c "$TEXT_BYTES" "$TEXT" >"$scratch/text"

peak_of() { # command...: its most anonymous memory in KiB, into $peak, and its seconds, into $seconds
    peak=0 began=$(date +%s.%N)
    "$@" >"$scratch/log" 2>&1 </dev/null &
    pid=$!
    while kill -0 $pid 2>/dev/null; do
        while read -r key value _; do
            [ "$key" != RssAnon: ] || [ "$value" -le "$peak" ] || peak=$value
        done 2>/dev/null <"/proc/$pid/status" || :
        sleep 0.02
    done
    wait $pid || die 1 "$* failed: $(tail -n 3 "$scratch/log")"
    seconds=$(echo "$began $(date +%s.%N)" | awk '{ printf "%.1f", $2 - $1 }')
}

number_of() { # key: of the log
    tr -d '\n ' <"$scratch/log" | sed -n 's/.*"'"$1"'":\([0-9.e+-]*\).*/\1/p'
}

echo "| shape | target | method | peak | planned | one layer | seconds | planned |"
echo "|---|---|---|---|---|---|---|---|"
for shape in $SHAPES; do
    # shellcheck disable=SC2046 # numbers
    set -- $(echo "$shape" | tr , ' ')
    [ $# = 6 ] || die 2 "SHAPES: found '$shape', expected six numbers with commas between them"
    layer=$((2 * $2 * (2 * $2 + 2 * $2 * $4 / $3 + 3 * $5)))
    rm -rf "$scratch/from.gguf" "$scratch/from"
    "$build/synthetic" bf16 "$scratch/from.gguf" "$@" || die 1 "$shape: build/synthetic failed"
    for conversion in $CONVERSIONS; do
        target=$(echo "${conversion%%:*}" | tr / :) method=rtn from=$scratch/from.gguf out=$scratch/made.gguf
        case $conversion in *:*) method=${conversion#*:} ;; esac
        case $target in
        gguf:*) ;;
        *)
            from=$scratch/from out=$scratch/made
            [ -d "$from" ] || "$build/sirocco" quantize "$scratch/from.gguf" --to bf16 -o "$from" >"$scratch/log" 2>&1 ||
                die 1 "$shape: $(tail -n 3 "$scratch/log")"
            ;;
        esac
        set -- "$build/sirocco" quantize "$from" --to "$target" --method "$method" --threads "$THREADS" -o "$out" --json
        case $method in gptq | awq) set -- "$@" --calibration-file "$scratch/text" ;; esac
        rm -rf "$out"
        echo "$shape: $target, $method" >&2
        peak_of "$@"
        planned=$(number_of memory) forecast=$(number_of seconds)
        echo "| $shape | \`$target\` | $method | $((peak / 1024)) MiB | $((planned >> 20)) MiB | $((layer >> 20)) MiB | $seconds | $(printf %.1f "$forecast") |"
    done
done
