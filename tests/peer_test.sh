#!/bin/sh
# bench/peer.sh with a tiny shape and a peer of known speeds: what its table says, and that failures are shown.
#
#   peer_test.sh BUILD SOURCE_DIR
# shellcheck disable=SC2016 # Markdown
set -eu
build=$1 source=$2
scratch=$(mktemp -d "${TMPDIR:-/tmp}/sirocco-peer-test.XXXXXX")
trap 'rm -rf "$scratch"' EXIT
mkdir "$scratch/tmp"
export TMPDIR="$scratch/tmp" SHAPE="2 256 4 2 512 1000" PROMPT_LEN=8 GEN_LEN=4 THREADS=1 ROUNDS=3 LC_ALL=C

# Its three rounds give 10, 30, 20 as stored, half of that repacked for prefill and twice as much for decode. It has no
# q5_k, and says so.
cat >"$scratch/peer" <<'END'
#!/bin/sh
[ "$1" = --help ] && echo "usage: [-m FILE] $KNOWS" && exit 0
arguments=" $* "
case $arguments in *" -m $TMPDIR/"*" -t 1 -p 8 -n 4 -r 1 -o json"*) ;; *) echo "arguments: $arguments" >&2; exit 3 ;; esac
[ "$(od -An -tu4 -j 0 -N 4 "$2")" -eq 1179993927 ] || exit 4 # "GGUF"
mode=plain prefill=1 decode=1
case $arguments in *" -rtr 1 "*) mode=repacked prefill=0.5 decode=2 ;; esac
[ "${LACKS:-}" = "$mode" ] && echo "error: cannot do $mode" >&2 && exit 7
n=$(cat "$COUNT.$mode" 2>/dev/null || echo 0)
echo $((n + 1)) >"$COUNT.$mode"
awk -v n=$((n % 3)) -v prefill="$prefill" -v decode="$decode" 'BEGIN {
    v = n == 0 ? 10 : n == 1 ? 30 : 20
    form = "  {\n    \"cpu_info\": \"a, {b}\",\n    \"n_prompt\": %d,\n    \"n_gen\": %d,\n    \"avg_ts\": %f,\n    \"samples_ts\": [ 1, 2 ]\n  }"
    printf "[\n" form ",\n" form "\n]\n", 8, 0, v * prefill, 0, 4, v * decode
}'
END
chmod +x "$scratch/peer"

failures=0
fail() {
    failures=$((failures + 1))
    echo "FAIL: $1"
    sed 's/^/    /' "$scratch/out" "$scratch/err"
}
run() { # CODE VARIABLE=VALUE...
    want=$1 code=0
    shift
    rm -f "$scratch"/count*
    env COUNT="$scratch/count" KNOWS=-rtr "$@" "$source/bench/peer.sh" "$build" >"$scratch/out" 2>"$scratch/err" || code=$?
    [ "$code" = "$want" ] || fail "$*: exit code $code, expected $want"
    [ -z "$(ls -A "$scratch/tmp")" ] || fail "$*: left files behind"
}
says() { grep -qe "$1" "$scratch/out" || fail "no line '$1'"; }

run 0 TYPES="q4_0 q8_0" PEER="$scratch/peer"
says 'medians of 3 rounds by turns, 1 threads'
says '^`peer -m FILE -t 1 -p 8 -n 4 -r 1`, the better of it with and without `-rtr 1`'
says '^| q4_0 | [0-9.]* | [0-9.]* | 20\.0 | 40\.0 | [0-9.]* | [0-9.]* | [0-9]* % | [0-9]* % |$'
awk -F'|' '/^\| q/ { n += ($3 / 20 - $7) ^ 2 < 1 && ($4 / 40 - $8) ^ 2 < 1 && $7 > 0 && $8 > 0 } END { exit n != 2 }' \
    "$scratch/out" || fail "expected two rows whose ratios are ours / theirs"
[ "$(cat "$scratch/count.plain") $(cat "$scratch/count.repacked")" = "6 6" ] || fail "expected six runs of each mode"
export ROUNDS=1
run 0 TYPES=q4_0 PEER="$scratch/peer" KNOWS=-other
says '^`peer .* -r 1`, FILE of$'
says '| 10\.0 | 10\.0 |'
run 1 TYPES=q4_0 PEER="$scratch/peer" LACKS=repacked
says '| 10\.0 | 10\.0 |'
says '^- q4_0, repacked, round 1: the peer ended with 7 and 0 speeds'
says 'error: cannot do repacked'
run 1 TYPES=q4_0 PEER=false
says '| failed | failed | - | - |'
run 0 TYPES=q4_0
says '^| type | prefill | decode | prefill, of'
says '^| q4_0 | [0-9.]* | [0-9.]* | [0-9]* % | [0-9]* % |$'
run 2 PEER="$scratch/absent"
run 2 ROUNDS=many
run 1 TYPES=q9_9
[ "$failures" = 0 ]
