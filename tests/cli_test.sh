#!/usr/bin/env bash
# The command from end to end: help, exit codes, messages, the shape of what each command prints.
#
#   cli_test.sh COMMAND SOURCE_DIR
set -uo pipefail

command=$1
source=$2
model=$source/models/story-6m
scratch=$(mktemp -d "${TMPDIR:-/tmp}/sirocco-cli.XXXXXX")
trap 'rm -rf "$scratch"' EXIT
out=$scratch/out err=$scratch/err
failures=0 checks=0
export HOME=$scratch NO_COLOR=1 LC_ALL=C
unset XDG_STATE_HOME XDG_CACHE_HOME

fail() {
    failures=$((failures + 1))
    echo "FAIL: $label: $1"
    sed 's/^/    stdout: /' "$out" | head -n 5
    sed 's/^/    stderr: /' "$err" | head -n 5
}

# run CODE ARGUMENTS...: standard input from $scratch/in
: >"$scratch/in"
run() {
    local want=$1 code
    shift
    label="sirocco $*"
    checks=$((checks + 1))
    "$command" "$@" <"$scratch/in" >"$out" 2>"$err"
    code=$?
    [ "$code" = "$want" ] || fail "exit code $code, expected $want"
    # A failure says why, in one line that has a next step.
    case $want in
    1 | 2)
        [ "$(grep -c '^sirocco: error: ' "$err")" = 1 ] || fail "expected one line 'sirocco: error: ...'"
        grep '^sirocco: error: ' "$err" | grep -qE 'error: .*[;:?,] ' || fail "no next step in the message"
        ;;
    esac
}
says() { grep -qe "$1" "$out" || fail "standard output lacks '$1'"; }
warns() { grep -qe "$1" "$err" || fail "standard error lacks '$1'"; }
is() { [ "$(cat "$out")" = "$1" ] || fail "standard output is not '$1'"; }
is_json() {
    [ "$(wc -l <"$out")" -eq 1 ] || fail "not one line of JSON"
    if command -v jq >/dev/null; then
        jq -e . "$out" >/dev/null 2>&1 || fail "not JSON"
    else
        grep -qE '^[{].*[}]$' "$out" || fail "not a JSON object"
    fi
}

# ---------------------------------------------------------------- help and usage

commands="run inspect formats models tokenize template eval compare bench tune doctor help"
run 0 --version
says '^sirocco [0-9]'
run 0 --help
for name in $commands; do says "^  $name "; done
run 0 help
for name in $commands; do
    run 0 help "$name"
    says '^Examples:'
    says '^Exit codes'
    cp "$out" "$scratch/help"
    run 0 "$name" --help
    cmp -s "$out" "$scratch/help" || fail "differs from 'help $name'"
    [ "$(wc -L <"$out" 2>/dev/null || echo 100)" -le 100 ] || fail "lines above 100 columns"
done
run 0 help --man
says '^\.TH SIROCCO 1'
says 'temperature'
run 0 help --markdown
says '^## sirocco run'
run 0 help --complete-bash
bash -n "$out" || fail "the completion is no shell script"
# shellcheck disable=SC2016 # expanded by the inner shell
completed=$(bash -c '. "$1"; COMP_WORDS=(sirocco run --rep); COMP_CWORD=2; _sirocco; echo "${COMPREPLY[*]}"' - "$out" 2>&1)
[ "$completed" = "--repetition-penalty" ] || fail "--rep completes to '$completed'"

"$command" >"$out" 2>"$err"
code=$?
label="sirocco"
[ $code = 2 ] || fail "exit code $code, expected 2"
[ -s "$out" ] && fail "help nobody asked for belongs on standard error"
warns '^Usage'
run 2 rnu
warns "did you mean 'run'"
run 2 --nonsense run
run 2 run --temprature 1
warns 'did you mean --temperature'
run 2 run -isq 4
warns 'did you mean --isq'
run 2 inspect --isq 4 x
warns "option of 'sirocco run'"
run 2 run --ctx
run 2 run --ctx many
run 2 run --top-p 2 -i x
run 2 run --json=1 -i x
run 2 run --format zip -i x
run 2 run --logit-bias 5 -i x
run 2 run --seed -1 -i x
run 2 run --greedy --temperature 1 -i x
run 2 run --json
run 2 run --isq q4z -i x
run 2 run --isa nosuch -i x
run 2 run --kv-type q9_0 -i x
warns "f16.bf16.q8_0.q4_0.f32, not .q9_0"
run 2 run -m a -f b -i x
run 2 run a b
run 2 inspect
run 2 eval "$model"
run 2 eval --text "$0"
run 2 bench --json --csv
run 2 bench --prompt-len 5,x
run 2 help nosuch

# ---------------------------------------------------------------- files that are not there, or no models

# docs/formats.md begins with what the program prints.
run 0 formats --markdown
says '^| q4_k | GGUF'
head -n "$(wc -l <"$out")" "$source/docs/formats.md" | cmp -s - "$out" ||
    fail "docs/formats.md begins with something else: write it again"

for name in run inspect tokenize template bench; do
    run 1 $name "$scratch/absent"
    warns 'absent'
done
run 1 eval "$scratch/absent" --text "$0"
run 1 eval "$model" --text "$scratch/absent"
export HF_HUB_OFFLINE=1 HF_HOME="$scratch/hub" # no test of this file sends anything
run 1 run some-org/some-model -i x
warns "cache"
head -c 100 /dev/urandom >"$scratch/noise.gguf"
run 1 inspect "$scratch/noise.gguf"
run 1 run "$scratch/noise.gguf" -i x
run 1 tokenize "$scratch/noise.gguf" x
: >"$scratch/empty"
run 1 inspect "$scratch/empty"
if [ -f "$model/model.safetensors" ]; then
    mkdir "$scratch/cut"
    cp "$model"/*.json "$scratch/cut"
    head -c 100000 "$model/model.safetensors" >"$scratch/cut/model.safetensors"
    run 1 inspect "$scratch/cut"
    run 1 run "$scratch/cut" -i x
fi

# ---------------------------------------------------------------- tokenize, template, inspect, doctor

run 0 tokenize "$model" "Once upon a time"
says '^ *0  <|endoftext|> '
says '" upon"$'
run 0 tokenize --json --no-bos "$model" "Once upon a time"
is_json
is '{"ids":[1945,381,684,259,556],"pieces":["On","ce","Ġupon","Ġa","Ġtime"]}'
printf 'Once upon a time' >"$scratch/in"
run 0 tokenize --json --no-bos "$model"
is '{"ids":[1945,381,684,259,556],"pieces":["On","ce","Ġupon","Ġa","Ġtime"]}'
: >"$scratch/in"
run 0 tokenize --json "$model" "<|endoftext|>"
is '{"ids":[0,0],"pieces":["<|endoftext|>","<|endoftext|>"]}'
run 0 tokenize --json --no-bos --no-special "$model" "<|endoftext|>"
grep -q 'endoftext' "$out" && fail "special although --no-special"
run 0 tokenize --json --no-bos "$model" ""
is '{"ids":[],"pieces":[]}'
printf 'a\0b\xff\xc3"\\\n\x01' >"$scratch/in"
run 0 tokenize --json "$model"
is_json
: >"$scratch/in"

templates=$source/tests/vectors/templates
printf '%s' '[{"role": "system", "content": "S"}, {"role": "user", "content": "Hé \"q\""}]' >"$scratch/chat.json"
echo '[{"type": "function", "function": {"name": "f"}}]' >"$scratch/tools.json"
run 0 template "$templates/phi3.jinja" --messages "$scratch/chat.json"
is '<|system|>
S<|end|>
<|user|>
Hé "q"<|end|>
<|assistant|>'
run 0 template --no-generation-prompt --var 'eos_token="</s>"' "$templates/phi3.jinja"
says '</s>$'
grep -q 'assistant|>$' "$out" && [ "$(tail -n 1 "$out")" != '</s>' ] && fail "an answer is opened"
run 0 template --json "$templates/chatml_thinking.jinja" --tools "$scratch/tools.json" --var enable_thinking=false
is_json
says '"prompt":"<|im_start|>system'
says '"name\\": \\"f\\"'
says '</think>\\n\\n"}$'
mkdir "$scratch/chat"
echo '{}' >"$scratch/chat/config.json"
printf '%s' '{"bos_token": "<b>", "chat_template": "{{ bos_token }}{{ tools is defined }}{{ messages[-1].role }}"}' \
    >"$scratch/chat/tokenizer_config.json"
run 0 template "$scratch/chat"
is '<b>Falseuser'
run 0 template "$scratch/chat" --tools "$scratch/tools.json"
is '<b>Trueuser'
run 1 template "$model"
warns 'no chat template'
run 1 template "$scratch/chat" --messages "$scratch/absent"
run 1 template "$scratch/chat" --messages "$scratch/chat/config.json"
warns 'messages: found no JSON array'
run 1 template "$scratch/chat" --var 'x=abc'
run 1 template "$scratch/chat" --var 'x=1, "y": 2'
run 2 template "$scratch/chat" --var x
run 2 template

run 0 inspect "$model"
says '^architecture  llama'
says '^bytes  *\[[EAFXNH.]\{40\}\]'
says 'bf16'
says '16\.00'
run 0 inspect --summary "$model"
grep -q 'q_proj' "$out" && fail "tensors although --summary"
run 0 inspect --json "$model"
is_json
for gguf in "$source"/tests/vectors/tiny/*.gguf; do
    [ -f "$gguf" ] || continue
    run 0 inspect "$gguf"
    says '^container     GGUF v3, 1 file'
    run 0 inspect --json "$gguf"
    is_json
done
run 0 doctor
says '^kernel sets'
run 0 doctor --json --threads 1
is_json
says '"threads":1,'

# ---------------------------------------------------------------- run

prompt="The old king and his three sons"
run 0 run "$model" -i "$prompt" --exact --greedy --max-tokens 8
is " were very happy, and the old king"
warns 'ctx 4096'
cp "$out" "$scratch/exact"
run 0 run -m "$model" -i "$prompt" --exact --greedy --max-tokens 8 --echo -q
is "$prompt$(cat "$scratch/exact")"
[ -s "$err" ] && fail "--quiet is not quiet"
printf '%s' "$prompt" >"$scratch/in"
run 0 run "$model" -i - --exact --temp 0 --max-tokens 8
cmp -s "$out" "$scratch/exact" || fail "differs from -i TEXT"
: >"$scratch/in"
run 0 run "$model" -i "$prompt" --exact --greedy --max-tokens 8 --stop " happy"
is " were very"
run 0 run "$model" -i "$prompt" --exact --greedy --max-tokens 8 --json
is_json
says '"text":" were very happy, and the old king","tokens":8,"prompt_tokens":9,"finish_reason":"length"'
run 0 run "$model" -i "$prompt" --exact --greedy --max-tokens 8 --stop " happy" --json
says '"text":" were very",.*"finish_reason":"stop"'
run 0 run "$model" -i "$prompt" --exact --greedy --max-tokens 2 --json --logprobs 2
says '"logprobs":\[{"id":[0-9]*,"token":" were","logprob":\(-[0-9.]*\),"top_logprobs":\[{"id":[0-9]*,"token":" were","logprob":\1},{'
run 2 run "$model" -i x --logprobs 2
run 0 run "$model" -i "$prompt" --exact --greedy --max-tokens 60
cp "$out" "$scratch/repeats"
run 0 run "$model" -i "$prompt" --exact --greedy --max-tokens 60 --dry-multiplier 3
! cmp -s "$out" "$scratch/repeats" || fail "--dry-multiplier changes nothing"
run 0 run "$model" -i "$prompt" --exact --greedy --max-tokens 0 --json
says '"text":"","tokens":0'
run 0 run "$model" -i "$prompt" --max-tokens 8 --seed 7 --threads 1
cp "$out" "$scratch/seed"
run 0 run "$model" -i "$prompt" --max-tokens 8 --seed 7 --threads 2
cmp -s "$out" "$scratch/seed" || fail "the same seed gave another text"
# Types of single matrices: from a file, or found for a limit.
printf 'attn_v = q6_k\n1-3 = 8\n' >"$scratch/recipe"
run 0 run "$model" -i "Once upon a time" --max-tokens 4 --greedy --recipe "$scratch/recipe" -v
warns 'bf16 -> recipe'
run 0 run "$model" -i "Once" --max-tokens 1 --isq 4 --isq-organization moqe
warns 'has no experts'
run 2 run "$model" -i x --isq-organization all
printf 'attn_v = q9\n' >"$scratch/slip"
run 1 run "$model" -i x --topology "$scratch/slip"
warns "line 1: found the type 'q9'"
run 2 run "$model" -i x --imatrix "$scratch/recipe"
warns 'give --isq or --topology'
run 1 run "$model" -i x --isq 4 --imatrix "$scratch/recipe"
warns 'found the first bytes'
run 0 quantize "$model" --to gguf:mix --recipe "$scratch/recipe" --plan --json
says '"name":"blk.4.attn_v","from":"bf16","to":"q6_k"'
says '"name":"blk.2.attn_v","from":"bf16","to":"q8_0"'
run 1 quantize "$model" --to gguf --plan
warns 'target-bpw'
run 0 quantize "$model" --to gguf --target-bpw 4.5 --recipe-out "$scratch/found" -o "$scratch/mix.gguf" --json
warns 'a guess'
says '"bits_per_weight":4.\(49\|5\)'
says '"seconds":[0-9]*\.[0-9]*[1-9]'
run 0 quantize "$model" --to gguf --recipe "$scratch/found" -o "$scratch/again.gguf"
cmp -s "$scratch/mix.gguf" "$scratch/again.gguf" || fail "the recipe makes another file"
head -c 6000 "$source/tests/data/heldout-100k.txt" >"$scratch/calibration"
run 0 quantize "$model" --to gguf --target-size 3M --calibration-file "$scratch/calibration" --ctx 64 --chunks 1 --plan
warns 'divergence expected [0-9.]* nats, measured [0-9.]* nats'
ls "$scratch"/.cache/sirocco/costs-*.json >/dev/null || fail "measurements are not kept"
run 2 quantize "$model" --to gguf --target-bpw 4 --target-size 3M
run 2 quantize "$model" --to gguf:q4_k_m --target-bpw 4
run 2 quantize "$model" --to gguf --target-bpw 4 --recipe "$scratch/recipe"
run 2 quantize "$model" --to gguf --target-kld 0.01
run 1 quantize "$model" --to gguf --target-bpw 1.5
warns 'the least is'
run 2 quantize "$model" --to gguf:q8_0 --recipe-out "$scratch/found" --plan

# The same for directories: as many bits as were asked for, found again by the recipe, and one of GPTQ's method.
run 0 quantize "$model" --to mlx:4 --target-bpw 4.5 --recipe-out "$scratch/found" -o "$scratch/mix" --json
says '"bits_per_weight":4.\(4[89]\|5\)'
run 0 quantize "$model" --to mlx:4 --recipe "$scratch/found" -o "$scratch/again"
cmp -s "$scratch/mix/model.safetensors" "$scratch/again/model.safetensors" || fail "the recipe makes other matrices"
cmp -s "$scratch/mix/config.json" "$scratch/again/config.json" || fail "the recipe makes another config"
run 0 quantize "$model" --to gptq:4,static_groups --target-bpw 6.9 --method gptq --calibration-file "$scratch/calibration" --ctx 64 \
    --chunks 1 --plan
warns 'measured [0-9.]* nats'
run 1 quantize "$model" --to hqq:4 --target-bpw 4.5
warns 'gguf:mix, uqff:q4k, mlx:4, gptq:4 or compressed-tensors:w4a16'
run 2 quantize "$model" --to mlx:4 --to gptq:4 --target-bpw 6.9 --recipe-out "$scratch/found" --plan

# What suits this machine.
run 0 tune
says 'recommended'
says '^sirocco run'
run 0 tune "$model" --json --memory 1M
is_json
says '"fits":false'
warns 'nothing fits 1.00 MiB'
run 0 tune "$model" --isq 8 --isq q2k --text "$scratch/calibration" --chunks 2 --json
is_json
says '"kld_measured":true'
run 2 tune "$model" --isq q9
run 2 tune "$model" --memory much
run 0 run "$model" -i "Once upon a time" --max-tokens 2 --isq auto -v
warns 'isq auto: .* of .*, about .* tokens/s'
warns 'bf16 -> '

# The bundled model needs no name and is quantized to 4 bits.
run 0 run -i "Once upon a time" --max-tokens 4 --greedy
warns '(bundled).*q4_k'
run 0 run -i "Once upon a time" --max-tokens 4 --greedy --isq none -v
grep -q 'q4_k' "$err" && fail "quantized although --isq none"
warns 'tokens/s'
# How keys and values are kept is told beside what they take.
for type in f16 bf16 q8_0 q4_0 f32; do
    run 0 run "$model" -i "Once upon a time" --max-tokens 4 --greedy --kv-type $type -v
    warns "ctx 4096 ($type, "
done
# The context: a prompt that does not fit names both numbers and the flag; a full one ends the text.
run 1 run "$model" -i "$prompt" --ctx 5
warns '9 tokens and the context 5.*--ctx'
run 0 run "$model" -i "$prompt" --ctx 12 --greedy --json
says '"finish_reason":"length"'
warns 'context of 12 tokens is full'
# An id that the vocabulary lacks.
run 2 run "$model" -i x --logit-bias 999999=1
# Inputs that are piped in are the conversation of a prompt.
printf 'Once\n\n/reset\n%s\n/exit\nnot read\n' "$prompt" >"$scratch/in"
run 0 run "$model" --exact --greedy --max-tokens 8 -q
[ "$(tail -n 1 "$out")" = " were very happy, and the old king" ] || fail "after /reset another text"
: >"$scratch/in"

# ---------------------------------------------------------------- conversations

talker=$scratch/talker tiny=$source/tests/vectors/tiny/llama
mkdir "$talker"
cp "$tiny/config.json" "$tiny/generation_config.json" "$talker"
ln -s "$tiny/model.safetensors" "$talker"
sed 's|<.finetune_right_pad_id.>|</think>|' "$tiny/tokenizer.json" >"$talker/tokenizer.json"
echo '{"bos_token": "<|begin_of_text|>"}' >"$talker/tokenizer_config.json"
cat >"$talker/chat_template.jinja" <<'END'
{{ bos_token }}{% for m in messages %}
{% if m.role not in ['system', 'user', 'assistant'] %}{{ raise_exception('who is ' + m.role + '?') }}{% endif %}
<{{ m.role }}>{{ m.content }}<|eot_id|>{% endfor %}
{% if add_generation_prompt %}<assistant>{{ reasoning_effort }}{{ '<think>' if enable_thinking }}{% endif %}
END
fast=(--exact --greedy --max-tokens 6)

run 0 run "$talker" -i Hello "${fast[@]}" --echo -v
says '^<|begin_of_text|><user>Hello<|eot_id|><assistant>.'
warns 'chat template of chat_template.jinja'
cp "$out" "$scratch/echoed"
run 0 run "$talker" -i Hello "${fast[@]}" --json
is_json
says '"text":"..*","reasoning":"","tokens":6,'
n=$(sed 's/.*"prompt_tokens":\([0-9]*\).*/\1/' "$out")
# Special tokens are parsed, and BOS stands there once.
run 0 tokenize --json --no-bos "$talker" "<|begin_of_text|><user>Hello<|eot_id|><assistant>"
[ "$(tr ',' '\n' <"$out" | sed '/"pieces"/,$d' | wc -l)" = "$n" ] || fail "the prompt had $n tokens"
run 0 run "$talker" -i Hello "${fast[@]}" --echo --system 'Be kind.'
says '^<|begin_of_text|><system>Be kind.<|eot_id|><user>Hello<|eot_id|><assistant>'
printf 'Be\nbrief.\n\n' >"$scratch/system"
run 0 run "$talker" -i Hello "${fast[@]}" --echo --system "@$scratch/system"
says '^brief.<|eot_id|><user>Hello'
run 1 run "$talker" -i Hello --system "@$scratch/absent"
run 0 run "$talker" -i Hello "${fast[@]}" --echo --reasoning-effort low --var 'bos_token="B"'
says '^B<user>Hello<|eot_id|><assistant>low<think>'
run 0 run "$talker" -i Hello "${fast[@]}" --echo --enable-thinking off
says '<assistant>' && grep -q '<think>' "$out" && fail "thinking although off"
# Reasoning is no result.
run 0 run "$talker" -i Hello "${fast[@]}" --echo --thinking on
is '<|begin_of_text|><user>Hello<|eot_id|><assistant><think>'
[ "$(grep -vc ' params, ' "$err")" -ge 1 ] || fail "no reasoning on standard error"
run 0 run "$talker" -i Hello "${fast[@]}" --reasoning-effort high --json
says '"text":"","reasoning":"..*","tokens":6,'
# It ends with a special token: the first one here.
run 0 run "$talker" -i Hello "${fast[@]}" --enable-thinking on --logit-bias 382=60 --frequency-penalty 100 --json
says '"text":"..*","reasoning":"","tokens":6,'

run 0 run "$tiny" -i Hello "${fast[@]}" --echo
cp "$out" "$scratch/plain"
run 0 run "$talker" -i Hello "${fast[@]}" --echo --no-chat
cmp -s "$out" "$scratch/plain" || fail "not the text without a template"
run 0 run "$tiny" -i Hello "${fast[@]}" --echo -v
grep -q 'chat template of' "$err" && fail "a template out of nothing"
run 0 run "$tiny" -i Hello "${fast[@]}" --echo --chat-template "$talker/chat_template.jinja"
cmp -s "$out" "$scratch/echoed" || fail "not what the template in the directory gave"
printf '{"chat_template": "%s"}' '{{ bos_token }}[{{ messages[0].content }}]' >"$scratch/template.json"
run 0 run "$talker" -i Hello "${fast[@]}" --echo -c "$scratch/template.json"
says '^<|begin_of_text|>\[Hello\]'
run 0 run "$talker" -i Hello "${fast[@]}" --echo -j "$templates/phi3.jinja"
says '^<|user|>$'
run 1 run "$talker" -i Hello -c "$scratch/absent.jinja"
run 1 run "$talker" -i Hello -c "$talker/config.json"
warns 'no chat template'
echo '{% if %}' >"$scratch/broken.jinja"
run 1 run "$talker" -i Hello -c "$scratch/broken.jinja"
warns 'line 1, column 7'
run 1 run "$tiny" -i Hello --system x
warns 'no chat template, which --system is for'
run 2 run "$talker" -i Hello --no-chat --system x
run 2 run "$talker" -i Hello --enable-thinking maybe

# A conversation, saved, loaded and taken back.
a=$scratch/a.json b=$scratch/b.json
printf '%s\n' '/system Be kind.' 'Hello "you"' "/save $a" /undo Again "/save $b" /undo /undo /stats /help >"$scratch/in"
run 0 run "$talker" "${fast[@]}"
[ "$(wc -l <"$out")" -ge 2 ] || fail "expected two replies"
warns '^(nothing to undo)$'
warns '^messages 1$'
warns '^context [0-9]* of 128 tokens'
warns '^  /load FILE  '
[ "$(grep -c '"role": "' "$a")" = 3 ] || fail "not three messages: $(cat "$a")"
grep -qx '{"role": "system", "content": "Be kind."},' "$a" || fail "no system prompt in $(cat "$a")"
grep -qx '{"role": "user", "content": "Hello \\"you\\""},' "$a" || fail "not what was said in $(cat "$a")"
grep -q '"Again"' "$b" || fail "no second message in $(cat "$b")"
grep -q 'Hello' "$b" && fail "not taken back in $(cat "$b")"
run 0 template "$talker" --messages "$a"
says '<user>Hello "you"<|eot_id|><assistant>'
printf '%s\n' "/load $a" "/save $b" /reset /stats >"$scratch/in"
run 0 run "$talker" "${fast[@]}"
cmp -s "$a" "$b" || fail "another conversation after /load"
warns '^messages 1$'
# What was taken back has left nothing behind.
printf '%s\n' '/system Be kind.' 'Hello "you"' /undo Again "/save $b" >"$scratch/in"
run 0 run "$talker" "${fast[@]}"
cp "$b" "$scratch/undone"
printf '%s\n' '/system Be kind.' Again "/save $b" >"$scratch/in"
run 0 run "$talker" "${fast[@]}"
cmp -s "$b" "$scratch/undone" || fail "another conversation after /undo: $(cat "$scratch/undone")"
# Asked again, the model draws again; from the same seed the same.
printf '%s\n' Hello "/save $a" /undo Hello "/save $b" >"$scratch/in"
run 0 run "$talker" --exact --seed 7 --max-tokens 6
cmp -s "$a" "$b" && fail "the same reply once more"
cp "$b" "$scratch/drawn"
run 0 run "$talker" --exact --seed 7 --max-tokens 6
cmp -s "$b" "$scratch/drawn" || fail "the same seed gave another conversation"
printf '%s\n' '/system Be kind.' 'Hello "you"' "/save $a" >"$scratch/in"
run 0 run "$talker" "${fast[@]}"
# The answer to what was loaded is the one that was given.
printf '[\n%s\n]\n' "$(sed -n '2p; 3s/,$//p' "$a")" >"$b"
printf '%s\n' "/load $b" '' "/save $b" >"$scratch/in"
run 0 run "$talker" "${fast[@]}"
cmp -s "$a" "$b" || fail "another reply after /load: $(cat "$b")"
# A reply that was cut goes on.
printf '%s\n' Hello '' "/save $b" >"$scratch/in"
run 0 run "$talker" --exact --greedy --max-tokens 3
printf '%s\n' Hello "/save $a" >"$scratch/in"
run 0 run "$talker" "${fast[@]}"
cmp -s "$a" "$b" || fail "not in one piece: $(cat "$b")"

# What goes wrong does not end the conversation.
echo '[{"role": "judge", "content": "x"}]' >"$b"
printf '%s\n' "/load $b" Hello /reset Hello >"$scratch/in"
run 1 run "$talker" "${fast[@]}"
warns 'chat template: line 2, column .*who is judge?'
[ -s "$out" ] || fail "no reply after the error"
for bad in '{}' '[' '[1]' '[{"content": "x"}]' '[{"role": "user"}] 1'; do
    printf '%s' "$bad" >"$b"
    echo "/load $b" >"$scratch/in"
    run 1 run "$talker" "${fast[@]}"
    warns 'a conversation is a list'
done
for bad in "/load $scratch/absent" "/save $scratch/no/such" /save '/reset now' /sav "/sav x" /nonsense; do
    echo "$bad" >"$scratch/in"
    run 1 run "$talker" "${fast[@]}"
done
echo "/sav x" >"$scratch/in"
run 1 run "$talker" "${fast[@]}"
warns 'did you mean /save'
printf '%s\n' '/usr is a folder' "/save $b" >"$scratch/in"
run 0 run "$talker" "${fast[@]}"
grep -q '"/usr is a folder"' "$b" || fail "a text with a slash is a text"
printf '%s\n' Once "/undo" "Little Red" >"$scratch/in"
run 0 run "$model" "${fast[@]}"
tail -n 1 "$out" >"$scratch/undone"
echo "Little Red" >"$scratch/in"
run 0 run "$model" "${fast[@]}"
cmp -s "$out" "$scratch/undone" || fail "/undo left something behind"
echo "/save $b" >"$scratch/in"
run 1 run "$model" "${fast[@]}"
warns 'without a chat template'
: >"$scratch/in"

# ---------------------------------------------------------------- eval, bench

for _ in 1 2 3 4 5 6 7 8; do printf 'Once upon a time there was a king who had three daughters.\n'; done >"$scratch/text"
run 0 eval "$model" --text "$scratch/text" --ctx 32 --chunks 2 --json
is_json
says '"perplexity":[0-9.]*,"stderr":[0-9.]*,"tokens":30,"ctx":32,"chunks":2'
run 0 eval "$model" --text "$scratch/text" --ctx 16 --chunks 3 --isq 4 --kld-exact
says '^perplexity '
says '^tokens      21 scored, 3 windows of 16'
says '^divergence '
says '^top choice '
run 0 eval "$model" --text "$scratch/text" --ctx 16 --chunks 2 --against "$model" --json
is_json
says '"mean":0,'
says '"top1_agreement":1'
run 1 eval "$model" --text "$scratch/text" --ctx 4096

# ---------------------------------------------------------------- compare

run 2 compare
run 2 compare "$model"
warns 'needs a text'
run 2 compare "$model" --text "$scratch/text"
warns 'needs something to compare'
run 2 compare "$model" --isq q9_z --text "$scratch/text"
warns "does not know 'q9_z'"
many=()
for _ in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17; do many+=(--isq q8_0); done
run 2 compare "$model" "${many[@]}" --text "$scratch/text"
warns '17 models'
run 1 compare "$model" "$scratch/absent" --text "$scratch/text"
run 1 compare "$model" "$model" --text "$scratch/absent"
run 1 compare "$model" "$model" --text "$scratch/text" --ctx 4096
run 1 compare "$model" "$source/tests/vectors/tiny/llama" --text "$scratch/text" --ctx 16
warns 'vocabularies differ: .*llama has 384 tokens, .*story-6m has 4096;'

compared=(--text "$scratch/text" --ctx 16 --chunks 3)
run 0 compare "$model" "$model" "${compared[@]}"
says '^story-6m .* +0.000 % +/- 0.000  *0  *0  *0  *0  100.00 %$'
says '^attn_q  *0.000$'
run 0 compare "$model" "$model" --isq q8_0 --isq q4_0 --isq q2k "${compared[@]}" --json --html "$scratch/page.html"
is_json
says '"tokens":21,"ctx":16,"chunks":3'
says '"candidates":\[{"name":"story-6m","path":"[^"]*","isq":null,"type":"bf16"'
says '"kld":{"mean":0,"low":0,"high":0,"median":0,"p99":0,"max":0},"top1_agreement":1'
says '{"role":"attn_q","layer":0,"rows":256,"columns":256,"from":"bf16","to":"bf16","error":0}'
# Fewer bits: more divergence, more error.
for key in '"kld":{"mean":' '"seconds":[0-9.e+-]*,"error":'; do
    grep -oE "$key[0-9.e+-]*" "$out" | sed 's/.*://' |
        awk 'NR > 1 && $1 + 0 <= last { bad = 1 } { last = $1 + 0 } END { exit bad || NR != 4 }' ||
        fail "$key does not rise from q8_0 to q2_k"
done
# The same numbers as eval's.
mean=$(grep -oE '"kld":\{"mean":[0-9.e-]*' "$out" | sed -n '3s/.*://p')
run 0 eval "$model" --isq q4_0 --against "$model" "${compared[@]}" --json
says "\"mean\":$mean,"

# The page: every tag is closed in its order, nothing is fetched, and names are text.
is_page() {
    grep -oE '<[^>]*>' "$1" | awk '
        /^<!/ || /\/>$/ { next }
        /^<\// { name = substr($0, 3, length($0) - 3); if (n < 1 || stack[n] != name) exit bad = 1; n--; next }
        { name = substr($0, 2); sub(/[ >].*/, "", name); stack[++n] = name }
        END { exit bad || n != 0 }' || fail "a tag of the page is not closed"
    grep -qiE 'http|<script|url\(|@import|src=|nan|inf[^o]' "$1" && fail "the page holds $(grep -oiE 'http|<script|url\(|@import|src=|nan|inf[^o]' "$1" | head -n 1)"
    [ "$(grep -c '<svg' "$1")" = "$2" ] || fail "expected $2 drawings"
}
is_page "$scratch/page.html" 9
grep -q 'story-6m, q2k' "$scratch/page.html" || fail "no label of q2k"
ln -s "$model" "$scratch/<b>&\"x"
run 0 compare "$model" "$scratch/<b>&\"x" "${compared[@]}" -q --html "$scratch/page.html"
is_page "$scratch/page.html" 3
grep -q '&#60;b&#62;&#38;&#34;x' "$scratch/page.html" || fail "a name is not escaped"
ls "$scratch" | grep -q 'page.html.' && fail "a temporary file was left"
run 1 compare "$model" "$model" "${compared[@]}" --html "$scratch/absent/page.html"
# One tokenizer, another shape: predictions are compared, matrices cannot be.
tiny=$source/tests/vectors/tiny
run 0 compare "$tiny/phi3" "$tiny/gptq-4-phi3" "${compared[@]}" --html "$scratch/page.html"
warns 'not built alike'
says '^gptq-4-phi3 '
grep -q '^error of the matrices' "$out" && fail "errors of matrices that do not exist"
is_page "$scratch/page.html" 2
run 0 bench --prompt-len 8,16 --gen-len 4 --depth 0,8 --iterations 2 --warmup 0 --csv
[ "$(wc -l <"$out")" -eq 7 ] || fail "expected 7 lines"
run 0 bench "$model" --prompt-len 8 --gen-len 4 --iterations 1 --warmup 0 --json
is_json
run 0 bench "$model" --prompt-len 8 --gen-len 4 --iterations 1 --warmup 0
says '^prefill '
says '^decode '
run 0 bench "$model" --prompt-len 8 --gen-len 4 --sessions 1,3 --iterations 1 --warmup 0 --csv
[ "$(awk -F, '{ print $1 ":" $13 }' "$out" | tr '\n' ' ')" = "test:sessions prefill:1 decode:1 decode:3 " ] ||
    fail "expected a line for each number of sessions"
run 2 bench "$model" --sessions 0
run 0 bench "$source/tests/vectors/tiny/gptq-8" --prompt-len 8 --gen-len 4 --iterations 1 --warmup 0
warns ' params, gptq8, ' # not i32, as which it is stored
once=(--prompt-len 8 --gen-len 4 --iterations 1 --warmup 0 --threads 1)
run 0 bench "$model" "${once[@]}" --json
grep -q ratio "$out" && fail "a ratio to nothing"
sed 's/"median_tok_s":[^,]*/"median_tok_s":0.5/g' "$out" >"$scratch/old.json"
run 0 bench "$model" "${once[@]}" --compare "$scratch/old.json" --json
is_json
[ "$(grep -o '"old_median_tok_s":0.5,"ratio":' "$out" | wc -l)" -eq 2 ] || fail "expected two ratios"
awk -F'"median_tok_s":|"ratio":' '{ exit !($2 > 0 && $2 / $3 > 0.499 && $2 / $3 < 0.501) }' "$out" ||
    fail "ratio is not new / old"
[ -s "$err" ] && grep -q 'not measured alike' "$err" && fail "the same model and threads"
# What the old file lacks has a dash; what differs is told.
sed 's/"tokens":4,/"tokens":5,/; s/"sessions":1,//; s/"threads":1,/"threads":3,/; s/"isq":null/"isq":"q9"/; s/"kv_type":"f16"/"kv_type":"q4_0"/' \
    "$scratch/old.json" >"$scratch/other.json"
run 0 bench "$model" "${once[@]}" --compare "$scratch/other.json"
says '^test .* old  *ratio$'
says '^prefill .* 0\.5  *[0-9.]*$'
says '^decode .* -  *-$'
warns 'not measured alike: it has isq q9, here null; kv_type q4_0, here f16; threads 3, here 1;'
run 0 bench "$model" "${once[@]}" --compare "$scratch/other.json" --csv
says ',threads,sessions,old_median_tok_s,ratio$'
says '^prefill,.*,1,0\.500,[0-9.]*$'
says '^decode,.*,1,,$'
run 0 bench "$model" "${once[@]}" --compare "$scratch/other.json" --json
says '"old_median_tok_s":null,"ratio":null'
run 1 bench "$model" --compare "$scratch/absent"
for bad in '' '[]' '{}' '{"results":[]}' '{"results":[1]}' '{"results":[{"test":"prefill","tokens":8,"depth":0}]}' \
    '{"results":[{"test":"prefill","tokens":8,"depth":0,"median_tok_s":1}]' "$(cat "$scratch/old.json") x"; do
    printf '%s' "$bad" >"$scratch/bad.json"
    run 1 bench "$model" "${once[@]}" --compare "$scratch/bad.json"
    warns "bad.json: .*; --compare takes what 'sirocco bench MODEL --json > FILE' wrote"
done

# ---------------------------------------------------------------- signals and full disks

label="Ctrl-C"
"$command" run "$model" -i "$prompt" --isa portable --exact --ctx 8192 --logit-bias 0=-100 >"$out" 2>"$err" &
pid=$!
for _ in $(seq 200); do
    [ -s "$out" ] && break
    sleep 0.1
done
kill -INT $pid
wait $pid
code=$?
[ "$code" = 130 ] || fail "exit code $code, expected 130"
grep -q error "$err" && fail "an error for an interruption"

if [ -e /dev/full ]; then
    for arguments in "help" "tokenize $model x" "inspect --json $model" "run $model -i x --max-tokens 3"; do
        label="sirocco $arguments >/dev/full"
        # shellcheck disable=SC2086 # words
        "$command" $arguments >/dev/full 2>"$err"
        code=$?
        : >"$out"
        [ "$code" = 1 ] || fail "exit code $code, expected 1"
        warns 'cannot write'
    done
fi
label="a reader that goes away"
{ "$command" inspect --json "$model"; "$command" help --markdown; } 2>"$err" | true
[ -s "$err" ] && fail "not quiet"

if [ "$failures" = 0 ]; then
    echo "cli: $checks commands, no failures"
else
    echo "cli: $failures failures"
    exit 1
fi
