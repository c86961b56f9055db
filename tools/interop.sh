#!/usr/bin/env bash
# Loads what sirocco writes with the programs it is written for, and compares perplexities: a table in Markdown.
#
#   interop.sh BUILD [ENVIRONMENTS [TARGETS]]     TARGETS: only those that match this pattern, as 'gguf:*'
#
# Environments of pinned packages are made in ENVIRONMENTS (BUILD/interop) where they are missing; torch is large, so what
# bears each other is in one. A package that cannot be installed is named in the table.
set -euo pipefail
cd "$(dirname "$0")/.."
build=$1
environments=${2:-$build/interop}
only=${3:-*}
text=tests/data/heldout-100k.txt ctx=256 chunks=4
work=$(mktemp -d "${TMPDIR:-/tmp}/sirocco-interop.XXXXXX")
trap 'rm -rf "$work"' EXIT

packages() { # of an environment
    case $1 in
    hf) echo bitsandbytes==0.50.2 compressed-tensors==0.20.0 transformers==5.24.0 torch==2.15.0 accelerate ;;
    gptq) echo gptqmodel==7.7.0 transformers==5.24.0 torch==2.15.0 ;;
    mlxlm) echo mlx-lm==0.32.2 "mlx[cpu]==0.32.4" ;;
    llama) echo llama-cpp-python==0.3.36 ;;
    esac
}
environment_of() { # the one with this package
    local env
    for env in hf gptq mlxlm llama; do
        case " $(packages $env)" in *" $1=="*) echo $env ;; esac
    done
}
python_of() { # path of the environment's interpreter; fails where it cannot be made
    local dir=$environments/$1 tried=$work/tried-$1
    if [ ! -e "$dir/complete" ]; then # an interrupted one is made again, by another run
        [ ! -e "$tried" ] || return 1
        touch "$tried"
        rm -rf "$dir"
        # shellcheck disable=SC2046 # several words are meant
        { python3 -m venv "$dir" && "$dir/bin/pip" install -q numpy tokenizers safetensors $(packages "$1"); } >&2 || {
            rm -rf "$dir"
            return 1
        }
        touch "$dir/complete"
    fi
    echo "$dir/bin/python"
}

echo "| target | loader | its perplexity | sirocco's | ratio |"
echo "|---|---|---|---|---|"
row() { # target (and method), package, kind, the GGUF type that the source is made of first
    local target=$1 env python name result ours theirs words source=models/story-6m from=${4:+gguf:$4 to }
    # shellcheck disable=SC2053 # a pattern is meant
    [[ $target == $only ]] || return 0
    name=$work/${4:-}${target//[:,= ]/-}
    if [ "${4:-}" ]; then
        source=$work/$4.gguf
        "$build/sirocco" quantize models/story-6m --to "gguf:$4" --overwrite -o "$source" >/dev/null 2>&1
    fi
    read -r -a words <<<"$target"
    case $target in *--method*) words+=(--calibration-file "$text" --chunks 16) ;; esac
    case $target in gguf:*) name=$name.gguf ;; esac
    "$build/sirocco" quantize "$source" --to "${words[@]}" -o "$name" >/dev/null 2>&1 || {
        echo "| $from$target | | not written | | |"
        return
    }
    ours=$("$build/sirocco" eval "$name" --text "$text" --ctx "$ctx" --chunks "$chunks" --exact --json 2>/dev/null |
        sed 's/.*"perplexity": *\([0-9.]*\).*/\1/' | head -n 1)
    env=$(environment_of "$2")
    if ! python=$(python_of "$env"); then
        result="not installed"
        theirs=
    elif theirs=$("$python" tools/interop.py "$3" "$name" "$text" "$ctx" "$chunks" 2>"$work/log" | tail -n 1) &&
        [ -n "$theirs" ]; then
        result=$(echo "$theirs $ours" | awk '{printf "%.4f", $1 / $2}')
    else
        result="failed: $(tail -n 1 "$work/log" | cut -c1-80)"
    fi
    echo "| $from$target | $(packages "$env" | tr ' ' '\n' | sed -n "s/^$2==/$2 /p") | $theirs | $ours | $result |"
}

for t in f16 bnb:nf4 bnb:nf4,double bnb:fp4 bnb:int8; do row "$t" bitsandbytes transformers; done
for t in compressed-tensors:w4a16 compressed-tensors:w8a16 compressed-tensors:w8a8 mxfp4 nvfp4 \
    "compressed-tensors:w4a16 --target-bpw 7"; do
    row "$t" compressed-tensors transformers
done
for t in gptq:4 gptq:8 gptq:3 gptq:2 gptq:4,asym,group=32 awq:4 "gptq:4 --method gptq" "gptq:4,desc_act --method gptq" \
    "awq:4 --method awq" "gptq:4 --target-bpw 6.9" "gptq:4 --target-bpw 6.9 --method gptq"; do
    row "$t" gptqmodel gptqmodel
done
for pair in "bf16 bf16" "q8_0 f16" "q4_k_m f16"; do row "${pair#* }" bitsandbytes transformers "${pair% *}"; done
row compressed-tensors:w4a16,group=32 compressed-tensors transformers q4_0
row mlx:4,group=32 mlx-lm mlx q4_1
for t in mlx:2 mlx:3 mlx:4 mlx:6 mlx:8 mlx:mxfp4 mlx:mixed_3_6 "mlx:4 --target-bpw 4.3"; do row "$t" mlx-lm mlx; done
for t in f16 bf16 q4_0 q4_1 q5_0 q5_1 q8_0 q2_k q3_k_m q4_k_m q5_k_m q6_k iq1_s iq1_m iq2_xxs iq2_xs iq2_s iq2_m iq3_xxs \
    iq3_s iq4_nl iq4_xs tq1_0 tq2_0; do
    row "gguf:$t" llama-cpp-python llama
done
