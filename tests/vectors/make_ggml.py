#!/usr/bin/env python3
"""Golden blocks and tiny models of the LLaMA files from before GGUF: ggml/.

    python make_ggml.py CLONE

CLONE is a git clone, with its history, of llama.cpp or of ik_llama.cpp, which shares it. The
dequantizers of two old commits are compiled from it (into a temporary directory, without SIMD),
and the expected values of the blocks are theirs; the decoders here must agree to the bit. The
files themselves are written from the description in README.md, by none of that code.

Logits are float64, by gguf_numpy.py from the decoded weights; those of the f16 model are also
compared with `transformers`.
"""
import ctypes
import pathlib
import struct
import subprocess
import sys
import tempfile
import zlib

import numpy as np
import gguf
from gguf import GGMLQuantizationType as T
from gguf.quants import dequantize, quantize

import gguf_numpy

HERE = pathlib.Path(__file__).resolve().parent
OUT = HERE / "ggml"

# name: (number in the file, commit, C name, block, bytes of a factor, has m, bits of a code, split halves)
V1, V2 = "4aeea780b^", "744804ef9^"
OLD = {
    "q4_0_v1": (2, V1, "q4_0", 32, 4, False, 4, False),
    "q4_1_v1": (3, V1, "q4_1", 32, 4, True, 4, False),
    "q4_2": (4, V1, "q4_2", 16, 2, False, 4, False),
    "q4_3": (5, V1, "q4_3", 16, 2, True, 4, False),
    "q5_0_v1": (6, V1, "q5_0", 32, 2, False, 5, False),
    "q5_1_v1": (7, V1, "q5_1", 32, 2, True, 5, False),
    "q8_0_v1": (8, V1, "q8_0", 32, 4, False, 8, False),
    "q4_0_v2": (2, V2, "q4_0", 32, 4, False, 4, True),
    "q4_1_v2": (3, V2, "q4_1", 32, 4, True, 4, True),
}
WRAPPER = """
#include "ggml.c"
#define F(t) void old_##t(const void *x, float *y, int n);                                     \\
             void old_##t(const void *x, float *y, int n) { dequantize_row_##t(x, y, n); }     \\
             int size_##t(void); int size_##t(void) { return (int)sizeof(block_##t); }
"""


def compile_old(clone, commit, types, directory):
    for name in "ggml.c", "ggml.h":
        text = subprocess.run(["git", "-C", clone, "show", f"{commit}:{name}"], check=True, capture_output=True).stdout
        (directory / name).write_bytes(text)
    wrapper = directory / "wrapper.c"
    # The f16 tables are filled when a context is made.
    wrapper.write_text(WRAPPER + "".join(f"F({t})\n" for t in types) + """
        void start(void);
        void start(void) { struct ggml_init_params p = {.mem_size = 1 << 16}; ggml_free(ggml_init(p)); }""")
    lib = directory / "old.so"
    subprocess.run(["cc", "-std=gnu11", "-O1", "-DNDEBUG", "-w", "-fPIC", "-shared", "-ffp-contract=off", "-I", directory,
                    "-o", lib, wrapper, "-lm", "-lpthread"], check=True)
    lib = ctypes.CDLL(str(lib))
    lib.start()
    return lib


def block_bytes(name):
    _, _, _, block, factor, has_m, bits, _ = OLD[name]
    return factor * (1 + has_m) + block * bits // 8


def order(name):
    """Element held by each nibble, low ones first: nibble[0, j] is the low half of byte j."""
    _, _, _, block, _, _, _, halves = OLD[name]
    j = np.arange(block // 2)
    return np.stack([j, j + block // 2]) if halves else np.stack([2 * j, 2 * j + 1])


def decode(name, data):
    """Blocks [n, bytes] to float32 [n, block], as the layout says."""
    _, _, _, block, factor, has_m, bits, _ = OLD[name]
    kind = np.float32 if factor == 4 else np.float16
    d = data[:, :factor].copy().view(kind).astype(np.float32)
    m = data[:, factor:2 * factor].copy().view(kind).astype(np.float32) if has_m else None
    at = factor * (1 + has_m)
    if bits == 8:
        return d * data[:, at:].view(np.int8).astype(np.float32)
    code = np.zeros((len(data), block), np.int32)
    qs = data[:, at + (4 if bits == 5 else 0):]
    low, high = order(name)
    code[:, low], code[:, high] = qs & 15, qs >> 4
    if bits == 5:
        code |= np.unpackbits(data[:, at:at + 4], axis=1, bitorder="little").astype(np.int32) << 4
    if has_m:
        return d * code.astype(np.float32) + m
    return d * (code - (1 << bits - 1)).astype(np.float32)


def encode(name, x):
    """Round to nearest: float32 [n, block] to blocks."""
    _, _, _, block, factor, has_m, bits, _ = OLD[name]
    kind = np.float32 if factor == 4 else np.float16
    top = (1 << bits) - 1
    if bits == 8:
        d = np.abs(x).max(1, keepdims=True) / 127
    elif has_m:
        d = (x.max(1, keepdims=True) - x.min(1, keepdims=True)) / top
    else:
        d = np.take_along_axis(x, np.abs(x).argmax(1)[:, None], 1) / -(1 << bits - 1)
    d = d.astype(kind)
    m = x.min(1, keepdims=True).astype(kind)
    head = [d.view(np.uint8)] + ([m.view(np.uint8)] if has_m else [])
    scale = d.astype(np.float32)
    if bits == 8:
        return np.concatenate(head + [np.clip(np.rint(x / scale), -127, 127).astype(np.int8).view(np.uint8)], axis=1)
    code = np.clip(np.rint((x - m.astype(np.float32)) / scale if has_m else x / scale + (1 << bits - 1)), 0, top)
    code = code.astype(np.uint8)
    if bits == 5:
        head.append(np.packbits(code >> 4, axis=1, bitorder="little"))
    low, high = order(name)
    return np.concatenate(head + [(code[:, low] & 15) | (code[:, high] & 15) << 4], axis=1)


# ---------------------------------------------------------------- blocks


def write_blocks(clone, directory):
    for commit in V1, V2:
        d = directory / commit[:9]
        d.mkdir()
        mine = {k: v for k, v in OLD.items() if v[1] == commit}
        lib = compile_old(clone, commit, [v[2] for v in mine.values()], d)
        for name, (_, _, c_name, block, factor, has_m, _, _) in mine.items():
            size = block_bytes(name)
            assert getattr(lib, "size_" + c_name)() == size, name
            rng = np.random.default_rng(zlib.crc32(name.encode()))
            n = 24
            data = rng.integers(0, 256, (n, size), dtype=np.uint8)
            data[0] = (37 * np.arange(size) + 11) % 256
            kind = np.float32 if factor == 4 else np.float16
            for k in range(1 + has_m):
                f = rng.normal(0, 0.1, n).astype(kind)
                f[0] = 2.0 ** -(4 + k)
                f[1:5] = 0, -0.0, np.finfo(kind).smallest_subnormal, 65504
                data[:, k * factor:(k + 1) * factor] = f.view(np.uint8).reshape(n, factor)
            data[5:9, factor * (1 + has_m):] = np.array([0xff, 0x00, 0x80, 0x0f], np.uint8)[:, None]
            value = np.empty((n, block), np.float32)
            getattr(lib, "old_" + c_name)(data.ctypes.data_as(ctypes.c_void_p),
                                          value.ctypes.data_as(ctypes.c_void_p), ctypes.c_int(n * block))
            assert np.array_equal(decode(name, data).view(np.uint32), value.view(np.uint32)), name
            (OUT / f"{name}.bin").write_bytes(struct.pack("<III", n, size, block) + data.tobytes() + value.tobytes())
            print(name, "ok")


# ---------------------------------------------------------------- models

D, HEADS, MULT, FF, LAYERS, N_IDS = 32, 4, 32, 96, 2, 12
MAGIC = {"ggml": (0x67676d6c, 0), "ggmf": (0x67676d66, 1), "ggjt1": (0x67676a74, 1), "ggjt2": (0x67676a74, 2),
         "ggjt3": (0x67676a74, 3)}
GGUF_NAMES = {"attention.wq": "attn_q", "attention.wk": "attn_k", "attention.wv": "attn_v",
              "attention.wo": "attn_output", "attention_norm": "attn_norm", "ffn_norm": "ffn_norm",
              "feed_forward.w1": "ffn_gate", "feed_forward.w2": "ffn_down", "feed_forward.w3": "ffn_up"}


def vocabulary():
    """That of tiny/phi3 as the old converters wrote a SentencePiece model: (bytes, score)."""
    fields = gguf.GGUFReader(HERE / "tiny" / "phi3.gguf").fields
    tokens, scores, types = (fields["tokenizer.ggml." + k].contents() for k in ("tokens", "scores", "token_type"))
    out = []
    for i, (token, score, kind) in enumerate(zip(tokens, scores, types)):
        text = token.replace("\u2581", " ").encode()
        if kind == 2:
            text = " \u2047 ".encode()
        elif kind == 3 and i < 3:
            text = b""
        elif kind == 3:  # an added token
            score = -1000.0
        elif kind == 6:
            text = bytes([int(token[3:5], 16)])
        out.append((text, score))
    return out


def weights(n_vocab, n_kv, seed):
    rng = np.random.default_rng(seed)
    matrix = lambda n, k: (0.3 * rng.standard_normal((n, k))).astype(np.float16).astype(np.float32)
    norm = lambda: (1 + 0.3 * rng.standard_normal(D)).astype(np.float32)
    w = {"tok_embeddings.weight": matrix(n_vocab, D), "norm.weight": norm(), "output.weight": matrix(n_vocab, D)}
    kv = D // HEADS * n_kv
    for i in range(LAYERS):
        p = f"layers.{i}."
        for name, n, k in (("attention.wq", D, D), ("attention.wk", kv, D), ("attention.wv", kv, D),
                           ("attention.wo", D, D), ("feed_forward.w1", FF, D), ("feed_forward.w2", D, FF),
                           ("feed_forward.w3", FF, D)):
            w[p + name + ".weight"] = matrix(n, k)
        w[p + "attention_norm.weight"], w[p + "ffn_norm.weight"] = norm(), norm()
    return w


def stored(kind, x):
    """Number, bytes and decoded values of a matrix in a type."""
    if kind in OLD:
        blocks = encode(kind, x.reshape(-1, OLD[kind][3]))
        return OLD[kind][0], blocks.tobytes(), decode(kind, blocks).reshape(x.shape)
    if kind == "f32":
        return 0, x.astype("<f4").tobytes(), x
    data = quantize(x, T[kind.upper()])
    return int(T[kind.upper()]), data.tobytes(), dequantize(data, T[kind.upper()]).reshape(x.shape)


def header(container, vocab, n_vocab, ftype):
    magic, version = MAGIC[container]
    out = struct.pack("<I", magic) + (struct.pack("<I", version) if version else b"")
    out += struct.pack("<7I", n_vocab, D, MULT, HEADS, LAYERS, D // HEADS, ftype)
    for text, score in vocab:
        out += struct.pack("<I", len(text)) + text + (struct.pack("<f", score) if version else b"")
    return out


def record(container, at, name, number, shape, data):
    out = struct.pack("<3I", len(shape), len(name), number) + struct.pack(f"<{len(shape)}I", *shape[::-1])
    out += name.encode()
    if container.startswith("ggjt"):
        out += bytes(-(at + len(out)) % 32)
    return out + data


def write_model(name, container, kinds, ftype, n_kv=HEADS, pieces=1, eps=1e-6):
    """The matrices take the types in turn. Writes ggml/<name>.bin[.1] and its logits; returns weights and logits."""
    vocab = vocabulary()
    w = weights(len(vocab), n_kv, zlib.crc32(name.encode()))
    files = [header(container, vocab, len(vocab), ftype) for _ in range(pieces)]
    decoded, turn = {}, 0
    for key, x in w.items():
        kind = "f32" if x.ndim == 1 else kinds[turn % len(kinds)]
        turn += x.ndim == 2
        columns = key.startswith("tok_embeddings") or ".wo." in key or ".w2." in key
        slices = [x] * pieces if x.ndim == 1 else np.split(x, pieces, axis=1 if columns else 0)
        values = []
        for i, part in enumerate(slices):
            number, data, value = stored(kind, np.ascontiguousarray(part))
            files[i] += record(container, len(files[i]), key, number, part.shape, data)
            values.append(value)
        decoded[key] = x if x.ndim == 1 else np.concatenate(values, axis=1 if columns else 0)
    for i, data in enumerate(files):
        (OUT / (f"{name}.bin" + (f".{i}" if i else ""))).write_bytes(data)
    meta = {"general.architecture": "llama", "llama.attention.head_count": HEADS, "llama.attention.head_count_kv": n_kv,
            "llama.attention.layer_norm_rms_epsilon": eps, "llama.embedding_length": D, "llama.block_count": LAYERS}
    named = {}
    for key, x in decoded.items():
        base = key.removesuffix(".weight")
        top = {"tok_embeddings": "token_embd", "norm": "output_norm", "output": "output"}
        if base.startswith("layers."):
            _, layer, rest = base.split(".", 2)
            base = f"blk.{layer}.{GGUF_NAMES[rest]}"
        else:
            base = top[base]
        named[base + ".weight"] = x.astype(np.float64)
    ids = np.random.default_rng(5).integers(0, len(vocab), N_IDS)
    ids[:2] = 0, len(vocab) - 1
    logits = gguf_numpy.logits_of(meta, named, ids)
    (OUT / f"{name}.logits").write_bytes(struct.pack("<II", N_IDS, len(vocab)) + ids.astype("<i4").tobytes()
                                         + logits.astype("<f4").tobytes())
    print(name, sum(map(len, files)), "bytes, logits std %.2f" % logits.std())
    return decoded, ids, logits


def compare_with_transformers(w, ids, logits, eps):
    import torch
    import transformers
    n_vocab = len(w["tok_embeddings.weight"])
    config = transformers.LlamaConfig(
        vocab_size=n_vocab, hidden_size=D, intermediate_size=FF, num_hidden_layers=LAYERS, num_attention_heads=HEADS,
        num_key_value_heads=HEADS, rms_norm_eps=eps, tie_word_embeddings=False, max_position_embeddings=64)
    config._attn_implementation = "eager"
    model = transformers.LlamaForCausalLM(config).eval()
    names = {"attention.wq": "self_attn.q_proj", "attention.wk": "self_attn.k_proj", "attention.wv": "self_attn.v_proj",
             "attention.wo": "self_attn.o_proj", "attention_norm": "input_layernorm",
             "ffn_norm": "post_attention_layernorm", "feed_forward.w1": "mlp.gate_proj",
             "feed_forward.w2": "mlp.down_proj", "feed_forward.w3": "mlp.up_proj"}
    state = {"model.embed_tokens.weight": w["tok_embeddings.weight"], "model.norm.weight": w["norm.weight"],
             "lm_head.weight": w["output.weight"]}
    for key, x in w.items():
        if not key.startswith("layers."):
            continue
        _, layer, rest = key.removesuffix(".weight").split(".", 2)
        if rest in ("attention.wq", "attention.wk"):  # rotary partners from 2i, 2i + 1 to i, i + d/2
            x = x.reshape(HEADS, -1, 2, D).swapaxes(1, 2).reshape(x.shape)
        state[f"model.layers.{layer}.{names[rest]}.weight"] = x
    model.load_state_dict({k: torch.tensor(np.ascontiguousarray(v, np.float32)) for k, v in state.items()})
    with torch.no_grad():
        other = model(torch.tensor([ids.tolist()]), use_cache=False).logits[0].numpy()
    worst = np.abs(other - logits).max()
    print("transformers differs by %.2g" % worst)
    assert worst < 1e-4


def main():
    OUT.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as d:
        write_blocks(sys.argv[1], pathlib.Path(d))
    compare_with_transformers(*write_model("ggml_f16", "ggml", ["f16"], 1), 1e-6)
    write_model("ggmf_two", "ggmf", ["f16"], 1, pieces=2)
    write_model("ggjt_v1", "ggjt1", ["q4_0_v1", "q4_1_v1", "q4_2", "q4_3", "q5_0_v1", "q5_1_v1", "q8_0_v1"], 2)
    write_model("ggjt_v2", "ggjt2", ["q4_0_v2", "q4_1_v2", "q5_0", "q5_1", "q8_0_v1"], 9)
    write_model("ggjt_v3", "ggjt3", ["q4_0", "q4_1", "q5_0", "q5_1", "q8_0"], 2, eps=5e-6)
    write_model("ggjt_gqa", "ggjt3", ["f16"], 1, n_kv=2, eps=1e-5)


main()
