#!/usr/bin/env bash
# The command against a hub on this machine: models by name, in every container, downloaded once.
#
#   hub_cli_test.sh SIROCCO HUB_SERVER SOURCE_DIR
set -euo pipefail

sirocco=$1
server=$2
tiny=$3/tests/vectors/tiny
scratch=$(mktemp -d "${TMPDIR:-/tmp}/sirocco-hub-cli.XXXXXX")
trap 'exec 3>&- || true; rm -rf "$scratch"' EXIT

# Repositories: directories of the test vectors under the names of the models that they are tiny forms of.
root=$scratch/root
repository() { # name, directory or file
    mkdir -p "$root/$1"
    cp -r "$2" "$root/$1/"
    if [ -d "$2" ]; then
        mv "$root/$1/$(basename "$2")"/* "$root/$1/"
        rmdir "$root/$1/$(basename "$2")"
        rm -f "$root/$1"/expected*
    fi
}
repository microsoft/Phi-3-mini-4k-instruct "$tiny/phi3"
repository kaitchup/Phi-3-mini-4k-instruct-gptq-4bit "$tiny/gptq-4-phi3"
cp "$tiny/phi3/tokenizer.json" "$root/kaitchup/Phi-3-mini-4k-instruct-gptq-4bit/"
repository mlx-community/tiny-llama-4bit "$tiny/mlx-4"
repository org/phi3-GGUF "$tiny/phi3.gguf"
mv "$root/org/phi3-GGUF/phi3.gguf" "$root/org/phi3-GGUF/phi3-f32.gguf"
cp "$tiny/mixed.gguf" "$root/org/phi3-GGUF/phi3-Q4_0.gguf"

mkfifo "$scratch/stdin"
repository org/stalled "$tiny/phi3"
"$server" "$root" /data/org/stalled/ 100000 <"$scratch/stdin" >"$scratch/address" 2>"$scratch/requests" &
exec 3>"$scratch/stdin"
for _ in $(seq 100); do
    [ -s "$scratch/address" ] && break
    sleep 0.05
done
unset HF_HUB_CACHE HUGGINGFACE_HUB_CACHE HF_TOKEN HF_HUB_OFFLINE TRANSFORMERS_OFFLINE
HF_ENDPOINT=$(cat "$scratch/address")
export HF_ENDPOINT HF_HOME=$scratch/home

failures=0
check() { # what, command...
    local what=$1
    shift
    if ! "$@" >"$scratch/out" 2>"$scratch/err"; then
        echo "hub_cli: $what failed: $*"
        tail -5 "$scratch/err"
        failures=$((failures + 1))
    fi
}
requests() { wc -l <"$scratch/requests" | tr -d ' '; }

# The commands of the README, as they are spelled there.
check "isq 4" "$sirocco" run --isq 4 -m microsoft/Phi-3-mini-4k-instruct -i "the" --max-tokens 4 --greedy
check "gptq" "$sirocco" run -m kaitchup/Phi-3-mini-4k-instruct-gptq-4bit -i "the" --max-tokens 4 --greedy
check "mlx" "$sirocco" bench -m mlx-community/tiny-llama-4bit --prompt-len 4 --gen-len 2 --iterations 1
check "gguf by type" "$sirocco" inspect --summary org/phi3-GGUF --quant q4_0
check "gguf by file" "$sirocco" run -m org/phi3-GGUF -f phi3-f32.gguf -i "the" --max-tokens 4 --greedy
cp "$tiny/phi3.gguf" "$scratch/my.gguf"
before=$(requests)
check "a file of one's own" "$sirocco" run --format gguf -f "$scratch/my.gguf" -i "the" --max-tokens 4 --greedy
check "a directory of one's own" "$sirocco" run "$tiny/phi3" -i "the" --max-tokens 4 --greedy
[ "$(requests)" = "$before" ] || { echo "hub_cli: a local path asked the hub"; failures=$((failures + 1)); }

# Which file is a choice: the error lists them.
if "$sirocco" run org/phi3-GGUF -i x >/dev/null 2>"$scratch/err" || ! grep -q 'Q4_0' "$scratch/err"; then
    echo "hub_cli: two GGUF files and no choice: $(cat "$scratch/err")"
    failures=$((failures + 1))
fi

# Again without the hub: nothing but the cache is needed.
before=$(requests)
check "offline" "$sirocco" run --offline -m microsoft/Phi-3-mini-4k-instruct --isq 4 -i "the" --max-tokens 4 --greedy
[ "$(requests)" = "$before" ] || { echo "hub_cli: --offline asked the hub"; failures=$((failures + 1)); }

# Ctrl-C keeps what came, and the next call goes on from there.
code=0
"$sirocco" run -m org/stalled -i "the" --max-tokens 4 --greedy >"$scratch/out" 2>"$scratch/err" &
pid=$!
for _ in $(seq 100); do
    [ "$(cat "$HF_HOME"/hub/models--org--stalled/blobs/*.incomplete 2>/dev/null | wc -c)" -ge 100000 ] && break
    sleep 0.05
done
kill -INT $pid
wait $pid || code=$?
if [ "$code" != 130 ] || ! grep -q 'kept' "$scratch/err"; then
    echo "hub_cli: Ctrl-C in a download: exit code $code, $(cat "$scratch/err")"
    failures=$((failures + 1))
fi
check "after Ctrl-C" "$sirocco" run -m org/stalled -i "the" --max-tokens 4 --greedy
if ! grep -q '/data/org/stalled/.* 100000$' "$scratch/requests"; then
    echo "hub_cli: the next call did not go on from 100000 bytes:"
    grep stalled "$scratch/requests"
    failures=$((failures + 1))
fi

check "models" "$sirocco" models
for word in microsoft/Phi-3-mini-4k-instruct gptq mlx-community/tiny-llama-4bit org/phi3-GGUF; do
    grep -q "$word" "$scratch/out" || { echo "hub_cli: models does not list $word"; failures=$((failures + 1)); }
done
check "models rm" "$sirocco" models rm --yes microsoft/Phi-3-mini-4k-instruct
check "models --json" "$sirocco" models --json
if grep -q microsoft "$scratch/out"; then
    echo "hub_cli: a removed model is listed"
    failures=$((failures + 1))
fi
if "$sirocco" models rm --yes ../../etc >/dev/null 2>&1; then
    echo "hub_cli: a name that leads out was taken"
    failures=$((failures + 1))
fi
[ "$failures" = 0 ] || exit 1
echo "hub_cli: fine, $(requests) requests"
