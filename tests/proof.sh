#!/bin/sh
# docs/formats.md on standard output: the table of the program, then what the tests prove of each format.
#
#   tests/proof.sh BUILD            counts matrices and blocks again, quotes tests/vectors/story.tsv
#   tests/proof.sh BUILD STORY      measures the checkpoints of tests/vectors/story_checkpoints.py and writes story.tsv
set -eu
build=$1
cd "$(dirname "$0")/.."
table=tests/vectors/story.tsv
results=$(mktemp)
trap 'rm -f "$results"' EXIT
export SR_RESULTS="$results"

field() { # name: a number of the JSON on standard input, where it stands first or in "kld"
    sed -n "s/.*\"$1\":\\([-+.0-9e]*\\).*/\\1/p"
}

if [ $# -gt 1 ]; then
    SR_STORY=$2 "$build/model_test" >/dev/null
    new=$(mktemp)
    printf '# format, KLD, its standard error, top-1 agreement, max-abs of the logits\n' >"$new"
    awk -F'\t' '$1 == "logits" { print $2, $3 }' "$results" | sort | while read -r name worst; do
        model=$2/$name
        [ ! -e "$model/model.gguf" ] || model=$model/model.gguf
        json=$("$build/sirocco" eval "$model" --text tests/data/heldout-100k.txt --against models/story-6m --chunks 16 --threads 1 \
            --json --quiet)
        kld=${json#*'"kld":'}
        printf '%s\t%.4f\t%.4f\t%.1f\t%s\n' "$name" "$(echo "$kld" | field mean)" "$(echo "$kld" | field stderr)" \
            "$(echo "$kld" | field top1_agreement | awk '{ print 100 * $1 }')" "$worst" >>"$new"
        printf '%s\n' "$name" >&2
    done
    mv "$new" "$table"
fi

"$build/formats_test" >/dev/null 2>&1
"$build/checkpoints_test" >/dev/null 2>&1
"$build/sirocco" formats --markdown
cat <<'END'

## What is proved of each

`make docs` counts it from the tests.

- **equal**: how many blocks (of GGUF and GGML), or matrices of checkpoints that the package wrote or packed, decode to
  the reference's values to the bit; **random**: how many matrices more whose planes are random bits (the blocks of GGUF
  and GGML contain such); **tails**: how many of these matrices have rows that no 256, or a number of rows that no 16
  divides. `kernels_test` compares the fast paths of every format with its own decoder at odd shapes.
- The bundled model with all its linear layers in the format (`tests/vectors/story_checkpoints.py`; rounded to nearest
  where the package only packs; IQ and K types with an importance), on the first 16 windows of
  `tests/data/heldout-100k.txt` (`sirocco eval DIR --text tests/data/heldout-100k.txt --against models/story-6m --chunks
  16`): **KLD** against bfloat16 in nats a token with its standard error, as `sirocco run` computes; **top-1**: how often
  both choose the same token, in percent; a dash where no package writes the format of such a model; **max-abs**: largest difference of any of 128 x 4096 logits, computed with
  `--exact`, from those of transformers with the weights that the reference decoded.

| format | equal | random | tails | KLD | ± | top-1 | max-abs |
|---|---|---|---|---|---|---|---|
END
"$build/sirocco" formats --markdown | awk -F'|' '/^\| / && $2 != " format " { gsub(/ /, "", $2); print $2 }' |
    awk -F'\t' '
        FILENAME == ARGV[1] && $1 == "blocks" { blocks[$2] = $3 }
        FILENAME == ARGV[1] && $1 == "matrix" && $3 == "written" { equal[$2]++ }
        FILENAME == ARGV[1] && $1 == "matrix" && $3 == "random" { random[$2]++ }
        FILENAME == ARGV[1] && $1 == "matrix" && $4 == "tail" { tails[$2]++ }
        FILENAME == ARGV[2] && !/^#/ { story[$1] = $2 " | " $3 " | " $4 " | " $5 }
        FILENAME == "-" {
            n = $1 in equal ? equal[$1] : ""
            if ($1 in blocks) n = blocks[$1] " blocks" (n ? ", " n : "")
            printf "| %s | %s | %s | %s | %s |\n", $1, n ? n : "-", $1 in random ? random[$1] : $1 in blocks ? "among them" : "-",
                $1 in tails ? tails[$1] : "-", $1 in story ? story[$1] : "- | - | - | -"
        }' "$results" "$table" -
