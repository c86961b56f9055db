"""Logits of a GGUF model in float64, written from the file's own conventions.

Used by make_gguf.py to check what it wrote against the `transformers` logits of the same
weights, and to compute the expected logits of quantized files. Architectures: llama
(adjacent-pair RoPE, as the permuted q and k rows want), qwen2, qwen3, phi3 (halves).
"""
import numpy as np
import gguf
from gguf.quants import dequantize


def read(path):
    """Metadata values by key and tensors by name in torch order, as float64."""
    reader = gguf.GGUFReader(path)
    meta = {k: f.contents() for k, f in reader.fields.items()}
    tensors = {}
    for t in reader.tensors:
        x = dequantize(np.ascontiguousarray(t.data), t.tensor_type)
        tensors[t.name] = x.reshape([int(n) for n in t.shape[::-1]]).astype(np.float64)
    return meta, tensors


def logits(path, ids):
    return logits_of(*read(path), ids)


def logits_of(meta, w, ids):
    arch = meta["general.architecture"]
    get = lambda key, default=None: meta.get(f"{arch}.{key}", default)
    n_head, eps = get("attention.head_count"), get("attention.layer_norm_rms_epsilon")
    n_kv = get("attention.head_count_kv", n_head)
    d = get("attention.key_length", get("embedding_length") // n_head)
    window = get("attention.sliding_window") or len(ids)
    n = len(ids)

    rot = get("rope.dimension_count", d)
    assert rot == d
    freq = get("rope.freq_base", 10000.0) ** (-np.arange(0, rot, 2) / rot)
    if "rope_freqs.weight" in w:
        freq = freq / w["rope_freqs.weight"]
    if get("rope.scaling.type") == "linear":
        freq = freq / get("rope.scaling.factor")
    angle = np.arange(n)[:, None, None] * freq                       # [T, 1, d / 2]
    cos, sin = np.cos(angle), np.sin(angle)

    def rope(x):                                                     # [T, heads, d]
        y = np.empty_like(x)
        a, b = (np.s_[..., 0::2], np.s_[..., 1::2]) if arch == "llama" else (np.s_[..., :d // 2], np.s_[..., d // 2:])
        y[a] = x[a] * cos - x[b] * sin
        y[b] = x[b] * cos + x[a] * sin
        return y

    def norm(x, name):
        return x / np.sqrt((x * x).mean(-1, keepdims=True) + eps) * w[name + ".weight"]

    def linear(x, name):
        return x @ w[name + ".weight"].T + w.get(name + ".bias", 0.0)

    i, j = np.arange(n)[:, None], np.arange(n)[None, :]
    visible = (j <= i) & (j > i - window)                            # a window of W keys includes the query's own
    x = w["token_embd.weight"][ids]
    for layer in range(get("block_count")):
        p = f"blk.{layer}."
        h = norm(x, p + "attn_norm")
        if p + "attn_qkv.weight" in w:
            q, k, v = np.split(linear(h, p + "attn_qkv"), [n_head * d, (n_head + n_kv) * d], axis=1)
        else:
            q, k, v = (linear(h, p + "attn_" + c) for c in "qkv")
        q, k, v = q.reshape(n, n_head, d), k.reshape(n, n_kv, d), v.reshape(n, n_kv, d)
        if p + "attn_q_norm.weight" in w:
            q, k = norm(q, p + "attn_q_norm"), norm(k, p + "attn_k_norm")
        q, k = rope(q), np.repeat(rope(k), n_head // n_kv, axis=1)
        s = np.einsum("ihd,jhd->hij", q, k) / np.sqrt(d)
        s = np.where(visible, s, -np.inf)
        s = np.exp(s - s.max(-1, keepdims=True))
        s /= s.sum(-1, keepdims=True)
        a = np.einsum("hij,jhd->ihd", s, np.repeat(v, n_head // n_kv, axis=1)).reshape(n, -1)
        x = x + linear(a, p + "attn_output")
        h = norm(x, p + "ffn_norm")
        if p + "ffn_gate.weight" in w:
            gate, up = linear(h, p + "ffn_gate"), linear(h, p + "ffn_up")
        else:
            gate, up = np.split(linear(h, p + "ffn_up"), 2, axis=1)
        x = x + linear(gate / (1 + np.exp(-gate)) * up, p + "ffn_down")
    return norm(x, "output_norm") @ w.get("output.weight", w["token_embd.weight"]).T
