#!/bin/sh
# docs/models.md on standard output: the rows of the families' table, what model_test measured of their vectors, and what
# another program did (tests/vectors/peer.tsv).
#
#   tests/models.sh BUILD
set -eu
build=$1
cd "$(dirname "$0")/.."
results=$(mktemp)
trap 'rm -f "$results"' EXIT
SR_RESULTS="$results" "$build/model_test" >/dev/null 2>&1 || true # it also wants this page to be up to date
cat <<'END'
# Models

Families that run, each a row of `src/arch/` over one decoder. `make docs` writes this page from the rows and the tests.

- **Hugging Face**: `architectures[0]` of config.json. Checkpoints of several modalities run as what their text model is;
  the tensors of the others are left alone.
- **GGUF**: `general.architecture`. *llama* with a window is a Mistral, with experts a Mixtral.
- **max-abs**: the largest difference of any logit, computed with `--exact` step by step, in pieces and at once, from
  those of `transformers` in float32 for tiny random checkpoints of the family (`tests/vectors/tiny_models.py`), the
  worst of the vectors named; GGUF files hold the same weights as converters write them
  (`tests/vectors/make_gguf.py`). The logits have a standard deviation of 1 to 2.7.
- **llama.cpp**: the same of llama.cpp (llama-cpp-python 0.3.36) on these GGUF files, all tensors widened to float32
  (`tests/vectors/peer_llama_cpp.py`). Gemma, Phi-2 and StarCoder2 are off by its GELU, a table of float16; built without
  it, llama.cpp is within 5.1e-06 of `transformers` for them. Remarks on single vectors are below.
- **KLD, q8_0**: the mean Kullback-Leibler divergence (nats) from the distribution of `transformers`, with `--isq q8_0` and
  without `--exact`, the worst of the vectors named. Rows that 32 does not divide, such as some of these models' narrow
  MLPs, stay as they are. In mixtures it is mostly one or two tokens whose experts change (phimoe: four fifths is one of 48).

| family | Hugging Face | GGUF | max-abs, directory | max-abs, GGUF | llama.cpp | KLD, q8_0 | vectors |
|---|---|---|---|---|---|---|---|
END
awk -F'\t' '
    FILENAME ~ /peer.tsv$/ { peer[$1] = $2; next }
    $1 == "family" { order[++n] = $2; class[$2] = $3; gguf[$2] = $4 }
    $1 == "model" {
        if (!(($2, $4) in worst) || $5 + 0 > worst[$2, $4] + 0) worst[$2, $4] = $5
        if (!(($2, $3) in seen)) names[$2] = names[$2] (names[$2] ? ", " : "") $3
        seen[$2, $3] = 1
        if ($4 == "gguf" && peer[$3] + 0 > theirs[$2] + 0) theirs[$2] = peer[$3]
    }
    $1 == "kld" && $4 + 0 > kld[$2] + 0 { kld[$2] = $4 }
    END {
        for (i = 1; i <= n; i++) {
            f = order[i]
            printf "| %s | `%s` | `%s` | %s | %s | %s | %s | %s |\n", f, class[f], gguf[f], worst[f, "hf"],
                worst[f, "gguf"], theirs[f] ? theirs[f] : "-", kld[f], names[f]
        }
    }' tests/vectors/peer.tsv "$results"
printf '\nVectors in llama.cpp:\n\n'
awk -F'\t' '$3 { printf "- %s: %s.\n", $1, $3 }' tests/vectors/peer.tsv
cat <<'END'

Mixtures of experts: experts tensor by tensor, in stacks (GGUF, MLX), or as one stack of gate and up, in any format that
stores them; routers are left as they are by `--isq`. Where a gpt-oss directory is not quantized, its stacks are turned
around when it is opened: that takes memory of their size, unless `--isq` makes them smaller.

Rotation: plain, linear, dynamic, llama3, YaRN (with or without truncation, `mscale`, `attention_factor`) and longrope, of
the whole model or one for full and one for sliding layers (`rope_parameters` by layer type). Where longrope or dynamic
scaling turn keys by the length of the text, a session that grows past such a length computes its keys once more; the
lengths of dynamic scaling are the trained one and its doublings.

Latent attention (DeepSeek, GLM-4.7-Flash): what is kept of a token is its latent vector and the features that rotate,
which all heads share, e.g. 576 numbers a layer of DeepSeek-V3 instead of 40960. Queries are multiplied by the matrix of
the keys and what attention returns by the one of the values, so that nothing of a past token is ever unfolded; where a
checkpoint has both in one matrix (`kv_b_proj`), the half of the keys is turned around when it is opened.

Not here yet: layers with a state instead of attention (Mamba, short
convolutions), images and sound. A checkpoint of an unknown family is refused with the keys and tensors that no row places.
END
