"""Which types llama.cpp's quantizer gives the tensors of small synthetic models: mixes.tsv.

    python make_mixes.py > mixes.tsv      # needs llama-cpp-python and gguf; versions in README.md

Lines, in columns: `model NAME ARCH LAYERS HEADS KV_HEADS EXPERTS`; its tensors, `tensor NAME K N [EXPERTS]` with * for
each layer, or the first and last that have it; and `types FILE_TYPE ...`, one column a tensor: the types of its layers as TYPE*COUNT,TYPE*COUNT.
"""

import ctypes
import itertools
import os
import re
import sys
import tempfile

import gguf
import llama_cpp as lc
import numpy as np

FILE_TYPES = {
    "q4_0": 2, "q4_1": 3, "q8_0": 7, "q5_0": 8, "q5_1": 9, "q2_k": 10, "q3_k_s": 11, "q3_k_m": 12, "q3_k_l": 13,
    "q4_k_s": 14, "q4_k_m": 15, "q5_k_s": 16, "q5_k_m": 17, "q6_k": 18, "iq2_xxs": 19, "iq2_xs": 20, "q2_k_s": 21,
    "iq3_xs": 22, "iq3_xxs": 23, "iq1_s": 24, "iq4_nl": 25, "iq3_s": 26, "iq3_m": 27, "iq2_s": 28, "iq2_m": 29,
    "iq4_xs": 30, "iq1_m": 31, "tq1_0": 36, "tq2_0": 37, "mxfp4_moe": 38, "q1_0": 40, "q2_0": 41,
}  # fmt: skip


def dense(kv, k=256, tied=False, qkv=False):
    t = [] if tied else [("output", k, 2)]
    attn = [("attn_qkv", k, 2)] if qkv else [("attn_k", k, 2), ("attn_q", k, 2), ("attn_v", k, 2)]
    ffn = [("ffn_down", k, 2)] + ([] if qkv else [("ffn_gate", k, 2)]) + [("ffn_up", k, 2)]
    return t + [("token_embd", k, 2)] + [("blk.*." + n, *s) for n, *s in attn + [("attn_output", k, 2)] + ffn]


def moe(k=256, e=8):
    experts = [(f"blk.*.ffn_{n}_exps", k, 2, e) for n in ("down", "gate", "up")]
    return [t for t in dense(1) if "ffn" not in t[0]] + experts


def latent(layers, dense_layers, split, k=256, e=16):
    """DeepSeek's: latent attention, keys and values in one matrix or split by head, dense layers before the others."""
    b = [("attn_k_b", k, 2, 8), ("attn_v_b", k, 2, 8)] if split else [("attn_kv_b", k, 2)]
    attn = [("attn_q_a", k, 2), ("attn_q_b", k, 2), ("attn_kv_a_mqa", k, 2), *b, ("attn_output", k, 2)]
    first, rest = f"blk.0-{dense_layers - 1}.", f"blk.{dense_layers}-{layers - 1}."
    ffn = [(first + f"ffn_{n}", k, 2) for n in ("down", "gate", "up")]
    ffn += [(rest + f"ffn_{n}_exps", k, 2, e) for n in ("down", "gate", "up")]
    ffn += [(rest + f"ffn_{n}_shexp", k, 2) for n in ("down", "gate", "up")]
    return [("output", k, 2), ("token_embd", k, 2)] + [("blk.*." + n, *s) for n, *s in attn] + ffn


# name: architecture, layers, heads, key-value heads, experts, tensors
MODELS = {
    "plain": ("llama", 16, 8, 8, 0, dense(8)),
    "gqa": ("llama", 20, 8, 2, 0, dense(2, tied=True)),
    "gqa2": ("llama", 9, 8, 4, 0, dense(4)),
    "deep": ("llama", 80, 64, 8, 0, dense(8)),
    "deep1": ("llama", 80, 8, 8, 0, dense(8)),
    "deepqwen": ("qwen2", 80, 64, 8, 0, dense(8)),
    "eight": ("llama", 32, 8, 2, 8, moe()),
    "eight1": ("llama", 16, 8, 8, 8, moe()),
    "four": ("llama", 16, 8, 8, 4, moe(e=4)),
    "many": ("qwen3moe", 16, 8, 8, 16, moe(e=16)),
    "fused": ("phi3", 16, 8, 8, 0, dense(8, qkv=True)),
    "odd": ("llama", 16, 8, 8, 0, dense(8, k=288)),
    "shared": ("qwen2moe", 24, 8, 8, 16, moe(e=16) + [(f"blk.*.ffn_{n}_shexp", 256, 2) for n in ("down", "gate", "up")]),
    "latent": ("deepseek2", 27, 8, 8, 16, latent(27, 3, False)),
    "latent1": ("deepseek2", 27, 8, 1, 16, latent(27, 1, True)),
    "odder": ("llama", 16, 8, 8, 0, dense(8, k=272, tied=True)),
}


def expand(name, layers):
    some = re.match(r"blk\.(\d+)-(\d+)(\..*)", name)
    if some:
        return [f"blk.{i}{some[3]}" for i in range(int(some[1]), int(some[2]) + 1)]
    return [name.replace("*", str(i)) for i in range(layers)] if "*" in name else [name]


def write(path, arch, layers, heads, kv, experts, tensors):
    w = gguf.GGUFWriter(path, arch)
    k = tensors[0][1]
    w.add_context_length(64)
    w.add_embedding_length(k)
    w.add_block_count(layers)
    w.add_feed_forward_length(k)
    w.add_head_count(heads)
    w.add_head_count_kv(kv)
    w.add_layer_norm_rms_eps(1e-5)
    w.add_rope_dimension_count(k // heads)
    w.add_vocab_size(2)
    if experts:
        w.add_expert_count(experts)
        w.add_expert_used_count(2)
        w.add_expert_feed_forward_length(k)
    if arch == "deepseek2":
        w.add_leading_dense_block_count(1)
        w.add_q_lora_rank(k)
        w.add_kv_lora_rank(k)
        w.add_key_length(k)
        w.add_value_length(k)
        w.add_expert_shared_count(1)
        w.add_expert_weights_scale(1.0)
    if arch == "phi3":
        w.add_sliding_window(64)
    w.add_tokenizer_model("no_vocab")
    for name, *shape in tensors:
        for n in expand(name, layers):
            w.add_tensor(n + ".weight", np.zeros(shape[::-1], np.float16))
    w.write_header_to_file()
    w.write_kv_data_to_file()
    w.write_tensors_to_file()
    w.close()


LOG = []


@lc.llama_log_callback
def keep(level, text, user):
    LOG.append(text.decode())


def types(path, ftype):
    """Types by tensor, from what a dry run says."""
    LOG.clear()
    p = lc.llama_model_quantize_default_params()
    p.ftype, p.dry_run, p.allow_requantize, p.nthread = ftype, True, True, 1
    code = lc.llama_model_quantize(path.encode(), (path + ".out").encode(), ctypes.byref(p))
    text = "".join(LOG)
    if code:
        return None, text
    found = {}
    for m in re.finditer(r"\]\s+(\S+)\s+- \[[^]]*\], type =\s+(\w+), (.*)", text):
        to = re.search(r"-> *[\d.]+ MiB \((\w+)\)", m[3])
        found[m[1].removesuffix(".weight")] = (to[1] if to else m[2]).lower()
    return found, text


def main():
    lc.llama_log_set(keep, ctypes.c_void_p(0))
    with tempfile.TemporaryDirectory() as top:
        for name, (arch, layers, heads, kv, experts, tensors) in MODELS.items():
            path = os.path.join(top, name + ".gguf")
            write(path, arch, layers, heads, kv, experts, tensors)
            print("model", name, arch, layers, heads, kv, experts, sep="\t")
            for t in tensors:
                print("tensor", *t, sep="\t")
            for mix, ftype in FILE_TYPES.items():
                found, text = types(path, ftype)
                if not found:
                    print(name, mix, text.strip().splitlines()[-1:], file=sys.stderr)
                    continue
                runs = []
                for n, *_ in tensors:
                    each = [found[x] for x in expand(n, layers)]
                    runs.append(",".join(f"{t}*{len(list(g))}" for t, g in itertools.groupby(each)))
                print("types", mix, *(r.removesuffix("*1") if "," not in r else r for r in runs), sep="\t")


main()
