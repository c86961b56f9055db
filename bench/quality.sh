#!/bin/sh
# What types and methods cost, as a Markdown table: KLD of the bundled model's matrices in each type against bfloat16.
#
#   bench/quality.sh BUILD [MODEL [TEXT]]
#
# The second half of the text (tests/data/heldout-100k.txt) is what importances and moments come of, the first half what
# is scored, with exact arithmetic. The lattices want importances: they have
# none of the methods without. Other variables: TYPES, METHODS, CHUNKS (windows of 512 that are scored).
set -eu

[ $# -ge 1 ] || {
    echo "quality.sh: error: found no arguments, expected bench/quality.sh BUILD [MODEL [TEXT]]" >&2
    exit 2
}
here=$(cd "$(dirname "$0")/.." && pwd)
sirocco=$1/sirocco model=${2:-$here/models/story-6m} text=${3:-$here/tests/data/heldout-100k.txt}
: "${CHUNKS:=8}" "${METHODS:=rtn imatrix hqq awq gptq}"
: "${TYPES:=gguf:q8_0 gguf:q6_k gguf:q5_k gguf:q5_0 gguf:q4_1 gguf:q4_k gguf:q4_0 gguf:iq4_nl gguf:iq4_xs gguf:q3_k gguf:iq3_s gguf:q2_k gguf:iq3_xxs gguf:iq2_s gguf:iq2_xxs gguf:iq1_m gptq:8 gptq:4 gptq:3 gptq:2 awq:4 hqq:4 hqq:3 hqq:2 mlx:8 mlx:6 mlx:4 mlx:3 mlx:2 bnb:int8 bnb:nf4 bnb:fp4 fp8 mxfp4 nvfp4 compressed-tensors:w4a16}"
scratch=$(mktemp -d "${TMPDIR:-/tmp}/sirocco-quality.XXXXXX")
trap 'rm -rf "$scratch"' EXIT
trap 'exit 130' INT
trap 'exit 143' TERM
half=$(($(wc -c <"$text") / 2))
head -c "$half" "$text" >"$scratch/scored"
tail -c "$half" "$text" >"$scratch/calibration"

field() { # name, in "kld"
    sed -n "s/.*\"kld\":{.*\"$1\":\([-+.0-9e]*\)[,}].*/\1/p"
}

printf '| type | bits a weight |'
# shellcheck disable=SC2059 # a word each
for method in $METHODS; do printf " $method |"; done
printf '\n|---|---|'
for method in $METHODS; do printf -- '---|'; done
printf '\n'
for type in $TYPES; do
    row="" bits=""
    for method in $METHODS; do
        case $type:$method in gguf:iq[123]*:rtn | gguf:iq[123]*:hqq)
            row="$row |"
            continue
            ;;
        esac
        set -- --method "$method"
        case $method in imatrix | awq | gptq) set -- "$@" --calibration-file "$scratch/calibration" ;; esac
        out=$scratch/made
        case $type in gguf:*) out=$out.gguf ;; esac
        rm -rf "$out"
        if json=$("$sirocco" quantize "$model" --to "$type" "$@" -o "$out" --json 2>"$scratch/log"); then
            bits=$(echo "$json" | tr -d '\n ' | sed -n 's/.*"bits_per_weight":\([.0-9]*\).*/\1/p')
            kld=$("$sirocco" eval "$out" --text "$scratch/scored" --ctx 512 --chunks "$CHUNKS" --exact --against "$model" --json \
                --quiet | tr -d '\n ')
            row="$row $(echo "$kld" | field mean | awk '{ printf "%.2e", $1 }') ± $(echo "$kld" | field stderr |
                awk '{ printf "%.0e", $1 }') |"
        elif grep -q "method hqq moves" "$scratch/log"; then
            row="$row |"
        else
            cat "$scratch/log" >&2
            exit 1
        fi
    done
    printf '| `%s` | %s |%s\n' "$type" "$(echo "$bits" | awk '{ printf "%.2f", $1 }')" "$row"
done
