#!/usr/bin/env python3
"""GGUF files made by the `gguf` package from the checkpoints here.

    python make_gguf.py                       the committed files tiny/*.gguf and tiny/mixed/expected.bin
    python make_gguf.py MODEL_DIR OUT.gguf    one Hugging Face directory, e.g. the story model

Two-dimensional bfloat16 weights stay BF16, float32 ones F32; norms, biases and RoPE divisors are
F32. Every file written is read back and its logits, computed in float64 by gguf_numpy.py, are
compared with the expected ones where there are any. Prints the SHA-256 of what it wrote.
"""
import hashlib
import json
import math
import pathlib
import struct
import sys

import numpy as np
import gguf
from gguf import GGMLQuantizationType as T, LlamaFileType, TokenType
from gguf.quants import quantize

import gguf_numpy
from story_numpy import read_safetensors

HERE = pathlib.Path(__file__).resolve().parent
TINY = HERE / "tiny"
FAMILIES = ["llama", "llama_linear", "qwen2", "qwen3", "phi3"]

NAMES = {  # Hugging Face -> GGUF, inside a layer
    "input_layernorm": "attn_norm", "post_attention_layernorm": "ffn_norm",
    "self_attn.q_proj": "attn_q", "self_attn.k_proj": "attn_k", "self_attn.v_proj": "attn_v",
    "self_attn.qkv_proj": "attn_qkv", "self_attn.o_proj": "attn_output",
    "self_attn.q_norm": "attn_q_norm", "self_attn.k_norm": "attn_k_norm",
    "mlp.gate_proj": "ffn_gate", "mlp.up_proj": "ffn_up", "mlp.down_proj": "ffn_down", "mlp.gate_up_proj": "ffn_up",
}
GLOBAL_NAMES = {"model.embed_tokens": "token_embd", "model.norm": "output_norm", "lm_head": "output"}


def gguf_name(name):
    base, suffix = name.rsplit(".", 1)
    if base in GLOBAL_NAMES:
        return f"{GLOBAL_NAMES[base]}.{suffix}"
    _, _, layer, part = base.split(".", 3)
    return f"blk.{layer}.{NAMES[part]}.{suffix}"


def adjacent_pairs(x, n_head):
    """Rows of each head reordered so that rotary partners i and i + d/2 become 2i and 2i + 1."""
    halves = x.reshape(n_head, 2, x.shape[0] // n_head // 2, -1)
    return halves.swapaxes(1, 2).reshape(x.shape)


def rope_of(c):
    rope = dict(c.get("rope_parameters") or c.get("rope_scaling") or {})
    rope.setdefault("rope_theta", c.get("rope_theta", 10000.0))
    rope["kind"] = rope.get("rope_type", rope.get("type", "default"))
    return rope


def llama3_divisors(rope, d):
    out = []
    for i in range(0, d, 2):
        wavelength = 2 * math.pi * rope["rope_theta"] ** (i / d)
        turns = rope["original_max_position_embeddings"] / wavelength
        low, high = rope["low_freq_factor"], rope["high_freq_factor"]
        mix = min(max((turns - low) / (high - low), 0.0), 1.0)
        out.append(1 / ((1 - mix) / rope["factor"] + mix))
    return np.array(out, np.float32)


def add_architecture(writer, c, rope, d):
    writer.add_context_length(c["max_position_embeddings"])
    writer.add_embedding_length(c["hidden_size"])
    writer.add_block_count(c["num_hidden_layers"])
    writer.add_feed_forward_length(c["intermediate_size"])
    writer.add_head_count(c["num_attention_heads"])
    writer.add_head_count_kv(c["num_key_value_heads"])
    writer.add_layer_norm_rms_eps(c["rms_norm_eps"])
    writer.add_rope_freq_base(rope["rope_theta"])
    writer.add_rope_dimension_count(d)
    writer.add_vocab_size(c["vocab_size"])
    if c.get("head_dim"):
        writer.add_key_length(d)
        writer.add_value_length(d)
    if c.get("sliding_window") and c.get("use_sliding_window", True):
        writer.add_sliding_window(c["sliding_window"])
    if rope["kind"] == "linear":
        writer.add_rope_scaling_type(gguf.RopeScalingType.LINEAR)
        writer.add_rope_scaling_factor(rope["factor"])
    if c["model_type"] == "phi3":
        writer.add_rope_scaling_orig_ctx_len(c["original_max_position_embeddings"])


def add_tokenizer(writer, directory, c):
    path = directory / "tokenizer.json"
    if not path.exists():
        writer.add_tokenizer_model("none")
        return
    t = json.loads(path.read_text(encoding="utf-8"))
    vocab = dict(t["model"]["vocab"])
    control = {a["content"] for a in t["added_tokens"] if a["special"]}
    vocab.update((a["content"], a["id"]) for a in t["added_tokens"])
    tokens = sorted(vocab, key=vocab.get)
    assert [vocab[x] for x in tokens] == list(range(c["vocab_size"]))
    spm = t["model"]["byte_fallback"]
    unk = t["model"]["unk_token"]
    types = [TokenType.UNKNOWN if x == unk else TokenType.CONTROL if x in control else
             TokenType.BYTE if spm and len(x) == 6 and x.startswith("<0x") else TokenType.NORMAL for x in tokens]
    if spm:
        # As SentencePiece writes them: 0 for special and byte tokens, then minus the rank of the piece.
        first = types.index(TokenType.NORMAL)
        writer.add_tokenizer_model("llama")
        writer.add_tokenizer_pre("default")
        writer.add_token_list(tokens)
        writer.add_token_scores([float(first - i) if k == TokenType.NORMAL else 0.0 for i, k in enumerate(types)])
        writer.add_token_types(types)
        writer.add_unk_token_id(vocab[unk])
        writer.add_add_space_prefix(True)
    else:
        writer.add_tokenizer_model("gpt2")
        writer.add_tokenizer_pre("llama-bpe" if t["model"]["ignore_merges"] else "gpt-2")
        writer.add_token_list(tokens)
        writer.add_token_types(types)
        writer.add_token_merges([(m if isinstance(m, str) else " ".join(m)) for m in t["model"]["merges"]])
    eos = c["eos_token_id"]
    eos = eos if isinstance(eos, list) else [eos]
    writer.add_bos_token_id(c["bos_token_id"])
    writer.add_eos_token_id(eos[0])
    if len(eos) > 1:
        writer.add_eot_token_id(eos[1])
    writer.add_add_bos_token(True)
    writer.add_add_eos_token(False)


def finish(writer, out):
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    print(hashlib.sha256(out.read_bytes()).hexdigest(), out.stat().st_size, out.name)


def convert(directory, out, matrix=None):
    """matrix(module, float32 [N][K] in the file's order, heads or 0): blocks and their type; None: as it is."""
    c = json.loads((directory / "config.json").read_text())
    arch, n_head, n_kv = c["model_type"], c["num_attention_heads"], c["num_key_value_heads"]
    d, rope = c.get("head_dim") or c["hidden_size"] // n_head, rope_of(c)
    matrix_type = {"bfloat16": T.BF16, "float32": T.F32}[c.get("dtype") or c["torch_dtype"]]
    writer = gguf.GGUFWriter(out, arch)
    writer.add_name(directory.name)
    writer.add_file_type(LlamaFileType.MOSTLY_BF16 if matrix_type == T.BF16 else LlamaFileType.ALL_F32)
    add_architecture(writer, c, rope, d)
    add_tokenizer(writer, directory, c)
    if rope["kind"] == "llama3":
        writer.add_tensor("rope_freqs.weight", llama3_divisors(rope, d))
    for name, x in read_safetensors(directory / "model.safetensors").items():
        new = gguf_name(name)
        heads = {"attn_q": n_head, "attn_k": n_kv}.get(new.split(".")[-2], 0) if arch == "llama" else 0
        x = np.ascontiguousarray(adjacent_pairs(x, heads) if heads else x, np.float32)
        kind = matrix_type if x.ndim == 2 else T.F32
        raw, kind = matrix and matrix(name.rsplit(".", 1)[0], x, heads) or (quantize(x, kind), kind)
        writer.add_tensor(new, raw, raw_dtype=kind)
    finish(writer, out)


def make_mixed(out):
    """A llama of width 256 whose tensors have five types; made here, in GGUF row order from the start."""
    rng = np.random.Generator(np.random.PCG64(20))
    c = dict(model_type="llama", max_position_embeddings=128, hidden_size=256, num_hidden_layers=2,
             intermediate_size=192, num_attention_heads=4, num_key_value_heads=1, head_dim=32, rms_norm_eps=1e-5,
             vocab_size=128, bos_token_id=1, eos_token_id=2)
    kinds = [  # by layer
        dict(attn_q=T.Q4_0, attn_k=T.F32, attn_v=T.F16, attn_output=T.Q5_1, ffn_gate=T.Q4_0, ffn_up=T.Q5_1, ffn_down=T.Q8_0),
        dict(attn_q=T.Q8_0, attn_k=T.Q5_1, attn_v=T.Q4_0, attn_output=T.F16, ffn_gate=T.Q5_1, ffn_up=T.Q8_0, ffn_down=T.Q4_0),
    ]
    shapes = dict(attn_q=(128, 256), attn_k=(32, 256), attn_v=(32, 256), attn_output=(256, 128),
                  ffn_gate=(192, 256), ffn_up=(192, 256), ffn_down=(256, 192))
    writer = gguf.GGUFWriter(out, "llama")
    writer.add_name("mixed")
    writer.add_file_type(LlamaFileType.MOSTLY_Q4_0)
    writer.add_quantization_version(gguf.GGML_QUANT_VERSION)
    add_architecture(writer, c, rope_of(c), c["head_dim"])
    add_tokenizer(writer, TINY / "mixed", c)

    def add(name, x, kind=T.F32):
        writer.add_tensor(name, quantize(x.astype(np.float32), kind), raw_dtype=kind)

    add("token_embd.weight", rng.standard_normal((c["vocab_size"], 256)) * 0.15, T.Q8_0)  # also the head
    for layer, row in enumerate(kinds):
        for norm in ("attn_norm", "ffn_norm"):
            add(f"blk.{layer}.{norm}.weight", 1 + 0.3 * rng.standard_normal(256))
        for part, kind in row.items():
            add(f"blk.{layer}.{part}.weight", rng.standard_normal(shapes[part]) * 0.12, kind)
    add("output_norm.weight", 1 + 0.3 * rng.standard_normal(256))
    finish(writer, out)

    ids = [0, c["vocab_size"] - 1] + rng.integers(0, c["vocab_size"], 46).tolist()
    y = gguf_numpy.logits(out, ids)
    print(f"  logits std {y.std():.2f}, max {np.abs(y).max():.1f}")
    (TINY / "mixed").mkdir(exist_ok=True)
    (TINY / "mixed" / "expected.bin").write_bytes(
        struct.pack("<2I", *y.shape) + np.array(ids, "<i4").tobytes() + y.astype("<f4").tobytes())


def read_expected(path):
    raw = path.read_bytes()
    n, v = struct.unpack("<2I", raw[:8])
    ids = np.frombuffer(raw, "<i4", n, 8)
    return ids, np.frombuffer(raw, "<f4", n * v, 8 + 4 * n).reshape(n, v)


def check(out, expected):
    ids, y = read_expected(expected)
    diff = np.abs(gguf_numpy.logits(out, ids) - y).max()
    print(f"  float64 logits of the file differ from the expected float32 ones by {diff:.1e}")
    assert diff < 1e-4


def main():
    if len(sys.argv) == 3:
        directory, out = map(pathlib.Path, sys.argv[1:])
        convert(directory, out)
        if (directory / "expected.bin").exists():
            check(out, directory / "expected.bin")
        return
    assert len(sys.argv) == 1, __doc__
    for family in FAMILIES:
        convert(TINY / family, TINY / f"{family}.gguf")
        check(TINY / f"{family}.gguf", TINY / family / "expected.bin")
    make_mixed(TINY / "mixed.gguf")


if __name__ == "__main__":
    main()
