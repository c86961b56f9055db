#!/usr/bin/env bash
# Conversions that end in the middle: killed, interrupted, out of room. --resume makes of them what an undisturbed run
# makes, and what stood at the output stays until then.
#
#   quantize_test.sh SIROCCO SYNTHETIC SOURCE_DIR [KILLS]
set -euo pipefail

sirocco=$(realpath "$1")
synthetic=$(realpath "$2")
root=$(realpath "$3")
story=$root/models/story-6m
kills=${4:-2}
scratch=$(mktemp -d "${TMPDIR:-/tmp}/sirocco-quantize.XXXXXX")
trap 'rm -rf "$scratch"' EXIT
cd "$scratch"
failures=0
fail() {
    echo "quantize: $*"
    failures=$((failures + 1))
}
says() { # what, file, word...
    local what=$1 file=$2
    shift 2
    for word; do grep -qF -- "$word" "$file" || fail "$what: the message does not say '$word': $(tail -1 "$file")"; done
}

# 190 MB that become 100: several entries of the journal.
"$synthetic" f16 big.gguf 10 1024 16 4 2816 4000
began=$(date +%s%N)
"$sirocco" quantize big.gguf --to gguf:q8_0 -o want.gguf >log 2>&1
took=$((($(date +%s%N) - began) / 1000000))
# Calibrated: what was read before the end is read again.
calibrated=(--to gptq:4 --method gptq --calibration-file "$root/tests/data/heldout-100k.txt" --chunks 4 --ctx 128)
scaled=(--to awq:4 --method awq --calibration-file "$root/tests/data/heldout-100k.txt" --chunks 2 --ctx 64)
solves=true
"$sirocco" quantize "$story" "${calibrated[@]}" -o want.gptq/made >log 2>&1 || solves=false
$solves || grep -q OpenBLAS log || fail "gptq: $(tail -1 log)"
if $solves; then "$sirocco" quantize "$story" "${scaled[@]}" -o want.awq/made >log 2>&1 || fail "awq: $(tail -1 log)"; fi
"$sirocco" quantize "$story" --to hqq:4 -o want/made >log 2>&1

# One kill at a random time, another into its resumption, then the end. The directory is one that is replaced.
RANDOM=4711
resumed=0 finished=0
for i in $(seq "$kills"); do
    echo "stays" >out.gguf
    for turn in 1 2; do
        delay=$((RANDOM % (took + 1)))
        "$sirocco" quantize big.gguf --to gguf:q8_0 -o out.gguf --overwrite --resume >log 2>&1 &
        pid=$!
        sleep "$(printf '%d.%03d' $((delay / 1000)) $((delay % 1000)))"
        kill -9 $pid 2>/dev/null || true
        wait $pid 2>/dev/null && finished=$((finished + 1)) || true
        if [ "$(head -c 5 out.gguf)" != stays ] && ! cmp -s out.gguf want.gguf; then
            fail "kill $i after $delay ms: out.gguf is neither what it was nor the result"
        fi
    done
    if [ -s out.gguf.part/journal ] && [ "$(wc -l <out.gguf.part/journal)" -gt 1 ]; then resumed=$((resumed + 1)); fi
    "$sirocco" quantize big.gguf --to gguf:q8_0 -o out.gguf --overwrite --resume >log 2>&1 || fail "resume $i: $(tail -1 log)"
    cmp -s out.gguf want.gguf || fail "kill $i: the result differs"
    [ ! -e out.gguf.part ] || fail "kill $i: out.gguf.part is left"

    mkdir -p dir/made
    rm -rf dir/made/*
    echo "stays" >dir/made/mine
    delay=$((RANDOM % 400))
    "$sirocco" quantize "$story" --to hqq:4 -o dir/made --overwrite >log 2>&1 &
    pid=$!
    sleep "$(printf '0.%03d' $delay)"
    kill -9 $pid 2>/dev/null || true
    wait $pid 2>/dev/null || true
    [ -e dir/made/mine ] || cmp -s dir/made/README.md want/made/README.md ||
        fail "kill $i after $delay ms: dir/made is neither what it was nor the result"
    "$sirocco" quantize "$story" --to hqq:4 -o dir/made --overwrite --resume >log 2>&1 || fail "resume $i: $(tail -1 log)"
    diff -r dir want >/dev/null || fail "kill $i: the directory differs"

    $solves || continue
    for method in gptq awq; do
        options=("${calibrated[@]}")
        if [ $method = awq ]; then options=("${scaled[@]}"); fi
        rm -rf solved
        delay=$((RANDOM % 1000 + 200))
        "$sirocco" quantize "$story" "${options[@]}" -o solved/made >log 2>&1 &
        pid=$!
        sleep "$(printf '%d.%03d' $((delay / 1000)) $((delay % 1000)))"
        kill -9 $pid 2>/dev/null || true
        wait $pid 2>/dev/null || true
        [ -e solved/made ] || "$sirocco" quantize "$story" "${options[@]}" -o solved/made --resume >log 2>&1 ||
            fail "resume $i of $method: $(tail -1 log)"
        diff -r solved want.$method >/dev/null || fail "kill $i after $delay ms: the result of $method differs"
    done
done
echo "$kills kills: $resumed left a journal with tensors, $finished of $((2 * kills)) runs had ended before"

# Ctrl-C.
echo "stays" >out.gguf
"$sirocco" quantize big.gguf --to gguf:q8_0 -o out.gguf --overwrite >log 2>&1 &
pid=$!
sleep "$(printf '%d.%03d' $((took / 3000)) $((took / 3 % 1000)))"
kill -INT $pid 2>/dev/null || true # it may be done already
code=0
wait $pid || code=$?
if [ $code -ne 0 ]; then
    [ $code -eq 130 ] || fail "Ctrl-C: exit code $code"
    says "Ctrl-C" log "--resume"
    grep -q stays out.gguf || fail "Ctrl-C: out.gguf has changed"
fi
"$sirocco" quantize big.gguf --to gguf:q8_0 -o out.gguf --overwrite --resume >log 2>&1 || fail "after Ctrl-C: $(tail -1 log)"
cmp -s out.gguf want.gguf || fail "Ctrl-C: the result differs"

# A limit of file sizes, then none.
rm -rf dir
code=0
(ulimit -f 1000 && exec "$sirocco" quantize "$story" --to hqq:4 -o dir/made) >log 2>&1 || code=$?
[ $code -eq 1 ] || fail "ulimit -f: exit code $code"
says "ulimit -f" log "dir/made.part/model.safetensors" "free some space"
"$sirocco" quantize "$story" --to hqq:4 -o dir/made --resume >log 2>&1 || fail "after the limit: $(tail -1 log)"
diff -r dir want >/dev/null || fail "after the limit: the directory differs"

# A small disk: too small for all, and too small for what stands beside the weights. Only root can mount one.
mkdir disk
if mount -t tmpfs -o size=3M tmpfs disk 2>/dev/null; then
    trap 'umount "$scratch/disk" || true; rm -rf "$scratch"' EXIT
    "$sirocco" quantize "$story" --to hqq:4 -o disk/made >log 2>&1 && fail "3 MiB were enough"
    says "small disk" log "MiB are free there" "free some space"
    bytes=$(stat -c %s want/made/model.safetensors)
    mount -o "remount,size=$(((bytes / 4096 + 12) * 4096))" disk
    "$sirocco" quantize "$story" --to hqq:4 -o disk/made >log 2>&1 && fail "there was room for tokenizer.json"
    says "full disk" log "No space left" "free some space"
    mount -o remount,size=16M disk
    "$sirocco" quantize "$story" --to hqq:4 -o disk/made --resume >log 2>&1 || fail "after freeing: $(tail -1 log)"
    diff -r disk want >/dev/null || fail "after freeing: the directory differs"
    if $solves; then # 4 MiB of states, twice
        rm -rf disk/*
        mount -o remount,size=8M disk
        "$sirocco" quantize "$story" --to gptq:4 --method gptq --calibration-file "$root/tests/data/heldout-100k.txt" \
            --chunks 8 --ctx 512 -o disk/made >log 2>&1 && fail "there was room for the states of 4096 tokens"
        says "small disk, calibrated" log "MiB are free there" "free some space"
        "$sirocco" quantize "$story" --to gptq:4 -o disk/made >log 2>&1 || fail "without states: $(tail -1 log)"
    fi
else
    echo "no small disk can be mounted here: not tested"
fi

# What was rounded is rounded again.
"$sirocco" quantize want/made --to mlx:4 -o again >log 2>&1 || fail "quantizing again: $(tail -1 log)"
says "quantizing again" log warning "quantized already (hqq4)" "and are again"
"$sirocco" quantize want/made --to bf16 -o plain >log 2>&1 || fail "to bf16: $(tail -1 log)"
! grep -q warning log || fail "to bf16: $(grep warning log)"

# Unless the other format holds the same numbers: no loss, no warning.
"$sirocco" quantize "$story" --to gptq:4,group=64 -o four >log 2>&1 || fail "to gptq: $(tail -1 log)"
"$sirocco" quantize four --to compressed-tensors:w4a16,group=64 -o five >log 2>&1 || fail "repacking: $(tail -1 log)"
! grep -q warning log || fail "repacking: $(grep warning log)"
says "repacking" log exact

[ $failures -eq 0 ] || exit 1
echo "quantize: all passed"
