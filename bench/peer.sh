#!/bin/sh
# Speed by type, beside another program's where PEER names a llama-bench, as a Markdown table:
#
#   [PEER=path/to/llama-bench] bench/peer.sh BUILD
#
# Each type's synthetic file is made, measured and removed. In every round each program runs once, so that what slows
# the machine down slows all of them. A peer that can repack weights when it loads them (-rtr) runs with and without, and
# the better median counts. Other variables: TYPES, ROUNDS, THREADS, SHAPE (of build/synthetic), PROMPT_LEN, GEN_LEN,
# PEER_ARGS (more options of the peer).
#
# Exit codes: 1 when a program failed (of the peer all failures stand below the table), 2 for a call without sense.
set -eu

# shellcheck source=bench/begin.sh
. "$(dirname "$0")/begin.sh"
: "${PEER:=}" "${PEER_ARGS:=}" "${SHAPE:=}" "${ROUNDS:=5}" "${PROMPT_LEN:=512}" "${GEN_LEN:=64}"
: "${THREADS:=$(getconf _NPROCESSORS_ONLN 2>/dev/null || echo 2)}"
: "${TYPES:=q4_0 q4_k q5_k q6_k q8_0 q2_k q3_k iq4_xs iq2_xxs iq3_s}"
for number in "ROUNDS $ROUNDS" "THREADS $THREADS" "PROMPT_LEN $PROMPT_LEN" "GEN_LEN $GEN_LEN"; do
    case ${number#* } in
    '' | *[!0-9]* | 0*) die 2 "${number%% *}: found '${number#* }', expected a number above 0" ;;
    esac
done

modes=
if [ -n "$PEER" ]; then
    command -v "$PEER" >/dev/null || die 2 "PEER: found '$PEER', expected the path of a llama-bench that runs"
    modes=as-stored
    if "$PEER" --help 2>&1 | grep -q -e -rtr; then modes="as-stored repacked"; fi
fi

scratch=$(mktemp -d "${TMPDIR:-/tmp}/sirocco-peer.XXXXXX")
trap 'rm -rf "$scratch"' EXIT
trap 'exit 130' INT
trap 'exit 143' TERM
file=$scratch/model.gguf
rates=$scratch/rates       # lines "type who test tok/s share"
failures=$scratch/failures # lines of the peer's
: >"$rates"
: >"$failures"

ours() {
    "$build/sirocco" bench "$file" --csv -q --threads "$THREADS" --prompt-len "$PROMPT_LEN" --gen-len "$GEN_LEN" \
        --iterations 1 >"$scratch/csv" || die 1 "$type: sirocco bench failed, see above"
    awk -F, -v type="$type" 'NR > 1 { print type, "ours", $1, $5, $7; isa = $11 } END { print isa >"'"$scratch/isa"'" }' \
        "$scratch/csv" >>"$rates"
}

theirs() { # mode
    set -- "$1" -m "$file" -t "$THREADS" -p "$PROMPT_LEN" -n "$GEN_LEN" -r 1 -o json
    mode=$1
    shift
    if [ "$mode" = repacked ]; then set -- "$@" -rtr 1; fi
    code=0
    # shellcheck disable=SC2086 # words
    "$PEER" "$@" $PEER_ARGS >"$scratch/json" 2>"$scratch/err" </dev/null || code=$?
    # A member on each line; the three that count stand in this order.
    # shellcheck disable=SC2020 # sets
    tr ',{}' '\n\n\n' <"$scratch/json" | awk -F: -v type="$type" -v mode="$mode" '
        $1 ~ /"n_prompt" *$/ { prompt = $2 + 0 }
        $1 ~ /"n_gen" *$/ { gen = $2 + 0 }
        $1 ~ /"avg_ts" *$/ && $2 + 0 > 0 && (prompt > 0) != (gen > 0) { print type, mode, gen ? "decode" : "prefill", $2 + 0 }
    ' >"$scratch/speeds"
    if [ "$code" = 0 ] && [ "$(wc -l <"$scratch/speeds")" -eq 2 ]; then
        cat "$scratch/speeds" >>"$rates"
        return
    fi
    {
        echo "- $type, $mode, round $round: the peer ended with $code and $(($(wc -l <"$scratch/speeds"))) speeds, expected 0 and 2;" \
            "the end of what it said:"
        tail -n 5 "$scratch/err" "$scratch/json" | sed '/^==>/d; /^$/d; s/^/      /'
    } >>"$failures"
}

for type in $TYPES; do
    # shellcheck disable=SC2086 # words
    "$build/synthetic" "$type" "$file" $SHAPE || die 1 "$type: build/synthetic failed; 'sirocco formats' lists the types"
    [ -f "$file" ] || die 1 "$type: expected a type that GGUF stores; 'sirocco formats' lists them"
    round=1
    while [ "$round" -le "$ROUNDS" ]; do
        echo "$type: round $round of $ROUNDS" >&2
        ours
        for mode in $modes; do theirs "$mode"; done
        round=$((round + 1))
    done
    rm -f "$file"
done

echo "Tokens a second, medians of $ROUNDS rounds by turns, $THREADS threads, $(cat "$scratch/isa"):"
# shellcheck disable=SC2016 # Markdown
printf '`%s`' "sirocco bench FILE --threads $THREADS --prompt-len $PROMPT_LEN --gen-len $GEN_LEN --iterations 1"
if [ -n "$PEER" ]; then
    # shellcheck disable=SC2016
    printf ' beside\n`%s`' "${PEER##*/} -m FILE -t $THREADS -p $PROMPT_LEN -n $GEN_LEN -r 1${PEER_ARGS:+ $PEER_ARGS}"
    # shellcheck disable=SC2016
    case $modes in *repacked) printf ', the better of it with and without `-rtr 1`' ;; esac
fi
# shellcheck disable=SC2016
printf ', FILE of\n`synthetic TYPE FILE%s`.\n\n' "${SHAPE:+ $SHAPE}"
awk -v types="$TYPES" -v modes="$modes" '
    { n = ++count[$1, $2, $3]; rate[$1, $2, $3, n] = $4; share[$1, $2, $3, n] = $5 }
    function median(of, key, n,    i, k, v, sorted) {
        for (i = 1; i <= n; i++) {
            v = of[key, i]
            for (k = i - 1; k > 0 && sorted[k] > v; k--) sorted[k + 1] = sorted[k]
            sorted[k + 1] = v
        }
        return (sorted[int((n + 1) / 2)] + sorted[int(n / 2) + 1]) / 2
    }
    function peer(type, test,    i, v, best) { # 0: it never gave a speed
        for (i = 1; i <= n_modes; i++) {
            v = (type, mode[i], test) in count ? median(rate, type SUBSEP mode[i] SUBSEP test, count[type, mode[i], test]) : 0
            if (v > best) best = v
        }
        return best + 0
    }
    function ours(of, type, test) { return median(of, type SUBSEP "ours" SUBSEP test, count[type, "ours", test]) }
    function speed(v) { return v >= 100 ? sprintf("%.0f", v) : v > 0 ? sprintf("%.1f", v) : "failed" }
    function ratio(a, b) { return b > 0 ? sprintf("%.2f", a / b) : "-" }
    END {
        n_types = split(types, type, " ")
        n_modes = split(modes, mode, " ")
        print "| type | prefill | decode |" (n_modes ? " peer, prefill | peer, decode | ratio, prefill | ratio, decode |" : "") \
            " prefill, of the int8 peak | decode, of the bandwidth |"
        print "|---|---|---|" (n_modes ? "---|---|---|---|" : "") "---|---|"
        for (t = 1; t <= n_types; t++) {
            a = ours(rate, type[t], "prefill")
            b = ours(rate, type[t], "decode")
            printf "| %s | %s | %s |", type[t], speed(a), speed(b)
            if (n_modes) {
                c = peer(type[t], "prefill")
                d = peer(type[t], "decode")
                printf " %s | %s | %s | %s |", speed(c), speed(d), ratio(a, c), ratio(b, d)
            }
            printf " %.0f %% | %.0f %% |\n", 100 * ours(share, type[t], "prefill"), 100 * ours(share, type[t], "decode")
        }
    }' "$rates"
[ -s "$failures" ] || exit 0
printf '\nFailures of the peer:\n\n'
cat "$failures"
exit 1
