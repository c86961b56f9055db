"""Logits of a GGUF model in float64, written from the file's own conventions.

Used by make_gguf.py to check what it wrote against the `transformers` logits of the same
weights, and to compute the expected logits of quantized files. What is known by the
architecture's name alone is spelled out here: pairing of the rotation, periods of layers,
activations, Gemma's scales.
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
    layers, width, n = get("block_count"), get("embedding_length"), len(ids)
    by_layer = lambda x: list(x) if isinstance(x, (list, tuple, np.ndarray)) else [x] * layers
    heads = by_layer(get("attention.head_count"))
    kv_heads = by_layer(get("attention.head_count_kv", heads))
    d = get("attention.key_length", width // heads[0])
    adjacent = arch in ("llama", "mistral3", "smollm3", "granite", "granitemoe", "glm4", "deepseek2")
    eps = get("attention.layer_norm_rms_epsilon") or get("attention.layer_norm_epsilon")
    centered = get("attention.layer_norm_epsilon") is not None or arch == "phimoe"

    # Rotation: angles [n, 1, rot / 2] of the full layers, and of Gemma 3's sliding ones.
    rot = get("rope.dimension_count", d)
    i = np.arange(0, rot, 2)
    theta, factor = get("rope.freq_base", 10000.0), get("rope.scaling.factor", 1.0)
    orig = get("rope.scaling.original_context_length", get("context_length"))
    freq, magnitude = theta ** (-i / rot), 1.0
    if "rope_freqs.weight" in w:
        freq = freq / w["rope_freqs.weight"]
    if "rope_factors_long.weight" in w:
        freq = freq / w["rope_factors_long.weight" if n > orig else "rope_factors_short.weight"]
        magnitude = get("rope.scaling.attn_factor", 1.0)
    if get("rope.scaling.type") == "linear":
        freq = freq / factor
    if get("rope.scaling.type") == "yarn":
        turns = lambda r: rot * np.log(orig / (2 * np.pi * r)) / (2 * np.log(theta))
        low = max(np.floor(turns(get("rope.scaling.yarn_beta_fast", 32.0))), 0)
        high = min(np.ceil(turns(get("rope.scaling.yarn_beta_slow", 1.0))), rot - 1)
        if arch == "gpt-oss":
            low, high = max(turns(32.0), 0), min(turns(1.0), rot - 1)
        ramp = np.clip((i / 2 - low) / max(high - low, 0.001), 0, 1)
        freq = freq / factor * ramp + freq * (1 - ramp)
        log_scale = lambda m: 0.1 * m * np.log(factor) + 1
        magnitude = log_scale(1) / log_scale(get("rope.scaling.yarn_log_multiplier", 0.0))
        if arch == "deepseek2":  # the scale of scores has it instead
            magnitude, grown = 1.0, log_scale(10 * get("rope.scaling.yarn_log_multiplier")) ** 2
    full = np.arange(n)[:, None, None] * freq
    local = np.arange(n)[:, None, None] * get("rope.freq_base_swa", theta) ** (-i / rot)

    def rope(x, angle):                                              # [T, heads, d]
        y, cos, sin = x.copy(), np.cos(angle) * magnitude, np.sin(angle) * magnitude
        a, b = (np.s_[..., 0:rot:2], np.s_[..., 1:rot:2]) if adjacent else (np.s_[..., :rot // 2], np.s_[..., rot // 2:rot])
        y[a] = x[a] * cos - x[b] * sin
        y[b] = x[b] * cos + x[a] * sin
        return y

    def norm(x, name):
        if centered:
            x = x - x.mean(-1, keepdims=True)
        return x / np.sqrt((x * x).mean(-1, keepdims=True) + eps) * w[name + ".weight"] + w.get(name + ".bias", 0.0)

    def linear(x, name):
        return x @ w[name + ".weight"].T + w.get(name + ".bias", 0.0)

    def cap(x, key):
        limit = get(key)
        return limit * np.tanh(x / limit) if limit else x

    gelu = arch.startswith("gemma") or arch in ("phi2", "starcoder2")

    def act(x):
        return (x / 2 * (1 + np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x ** 3)))) if gelu else x / (1 + np.exp(-x))

    def sparse_mixer(s, jitter=0.01):
        """Phi's: each of two picks weighs what a softmax over the logits close to it gives it.."""
        weight, taken = np.zeros_like(s), np.zeros(s.shape, bool)
        for _ in range(2):
            left = np.where(taken, -np.inf, s)
            best = left.max(-1, keepdims=True)
            near = ~taken & ~((best - s) / np.maximum(np.abs(s), best) > 2 * jitter)
            e = np.where(near, np.exp(s - best), 0)
            pick = left == best
            weight += np.where(pick, e / e.sum(-1, keepdims=True), 0)
            taken |= pick
        return weight

    def mixture(h, p):
        """Every expert on every token, weighted by what its router gives it."""
        s, used = linear(h, p + "ffn_gate_inp"), get("expert_used_count")
        if arch == "phimoe":
            weight = sparse_mixer(s)
        else:
            prob = np.exp(s - s.max(-1, keepdims=True))
            prob = 1 / (1 + np.exp(-s)) if get("expert_gating_func") == 2 else prob / prob.sum(-1, keepdims=True)
            score = prob + w.get(p + "exp_probs_b.bias", 0.0)
            if get("expert_group_count", 1) > 1:  # a group counts as its two best, or with softmax its best
                groups = score.reshape(n, get("expert_group_count"), -1)
                of = np.sort(groups, axis=-1)[:, :, -1 if get("expert_gating_func") == 1 else -2:].sum(-1)
                least = np.sort(of, axis=-1)[:, -get("expert_group_used_count"), None]
                score = np.where((of >= least)[:, :, None], groups, -np.inf).reshape(n, -1)
            keep = score >= np.sort(score, axis=-1)[:, -used, None]
            weight = np.where(keep, prob, 0)
            if get("expert_weights_norm", arch not in ("qwen2moe", "deepseek2")):
                weight /= weight.sum(-1, keepdims=True)
            weight *= get("expert_weights_scale", 1.0)
        gate, up, down = (w[p + f"ffn_{part}_exps.weight"] for part in ("gate", "up", "down"))
        y = 0
        for e in range(gate.shape[0]):
            bias = lambda part: w[p + f"ffn_{part}_exps.bias"][e] if p + f"ffn_{part}_exps.bias" in w else 0.0
            a, b = h @ gate[e].T + bias("gate"), h @ up[e].T + bias("up")
            if arch == "gpt-oss":
                a, b = np.minimum(a, 7), np.clip(b, -7, 7)
                a = a / (1 + np.exp(-1.702 * a)) * (b + 1)
            else:
                a = act(a) * b
            y = y + weight[:, e, None] * (a @ down[e].T + bias("down"))
        if p + "ffn_gate_shexp.weight" in w:
            logit = w.get(p + "ffn_gate_inp_shexp.weight")
            share = 1 if logit is None else 1 / (1 + np.exp(-(h @ logit.reshape(1, -1).T)))
            y = y + share * linear(act(linear(h, p + "ffn_gate_shexp")) * linear(h, p + "ffn_up_shexp"), p + "ffn_down_shexp")
        return y

    # Which layers slide, rotate; how much scores and branches count.
    window, period = get("attention.sliding_window") or n, {"gemma2": 2, "gemma3": 6, "gpt-oss": 2}.get(arch, 0)
    slides = lambda layer: period == 0 or layer % period < period - 1
    rotates = lambda layer: arch != "smollm3" or (layer + 1) % 4 != 0
    scale = get("attention.scale", d ** -0.5)
    grow = 1 + get("attention.temperature_scale", 0.0) * np.log(1 + np.arange(n) // orig)
    branch = get("residual_scale", 1.0)

    def latent_heads(h, p, n_head):
        """DeepSeek's q, k and v of every head, unfolded from the latents: what was published."""
        rank, pe = get("attention.kv_lora_rank"), rot
        if p + "attn_q_a.weight" in w:
            q = linear(norm(linear(h, p + "attn_q_a"), p + "attn_q_a_norm"), p + "attn_q_b").reshape(n, n_head, -1)
        else:
            q = linear(h, p + "attn_q").reshape(n, n_head, -1)
        nope = q.shape[2] - pe
        kv = linear(h, p + "attn_kv_a_mqa")
        c, k_pe = norm(kv[:, :rank], p + "attn_kv_a_norm"), rope(kv[:, None, rank:], full)
        if p + "attn_kv_b.weight" in w:
            both = w[p + "attn_kv_b.weight"].reshape(n_head, -1, rank)
            k_b, v_b = both[:, :nope], both[:, nope:]
        else:
            k_b, v_b = w[p + "attn_k_b.weight"].swapaxes(1, 2), w[p + "attn_v_b.weight"]
        k = np.concatenate([np.einsum("tr,hir->thi", c, k_b), np.repeat(k_pe, n_head, axis=1)], axis=2)
        return np.concatenate([q[..., :nope], rope(q[..., nope:], full)], axis=2), k, np.einsum("tr,hir->thi", c, v_b)

    i, j = np.arange(n)[:, None], np.arange(n)[None, :]
    x = w["token_embd.weight"][ids] * (width ** 0.5 if arch.startswith("gemma") else get("embedding_scale", 1.0))
    for layer in range(layers):
        p, n_head, n_kv = f"blk.{layer}.", heads[layer], kv_heads[layer]
        h = norm(x, p + "attn_norm")
        latent = p + "attn_kv_a_mqa.weight" in w
        if latent:
            q, k, v = latent_heads(h, p, n_head)
            n_kv, scale = n_head, q.shape[2] ** -0.5 * grown
        elif p + "attn_qkv.weight" in w:
            q, k, v = np.split(linear(h, p + "attn_qkv"), [n_head * d, (n_head + n_kv) * d], axis=1)
        else:
            q, k, v = (linear(h, p + "attn_" + c) for c in "qkv")
        if not latent:
            q, k, v = q.reshape(n, n_head, d), k.reshape(n, n_kv, d), v.reshape(n, n_kv, d)
        head_norms = p + "attn_q_norm.weight" in w
        if head_norms and not arch.startswith("hunyuan"):
            q, k = norm(q, p + "attn_q_norm"), norm(k, p + "attn_k_norm")
        if rotates(layer) and not latent:
            angle = local if arch == "gemma3" and slides(layer) else full
            q, k = rope(q, angle), rope(k, angle)
        if head_norms and arch.startswith("hunyuan"):
            q, k = norm(q, p + "attn_q_norm"), norm(k, p + "attn_k_norm")
        k, v = np.repeat(k, n_head // n_kv, axis=1), np.repeat(v, n_head // n_kv, axis=1)
        s = cap(np.einsum("ihd,jhd->hij", q * grow[:, None, None], k) * scale, "attn_logit_softcapping")
        # a window of W keys includes the query's own
        s = np.where((j <= i) & (j > i - (window if slides(layer) else n)), s, -np.inf)
        s = np.exp(s - s.max(-1, keepdims=True)) if p + "attn_sinks.weight" not in w else np.exp(s)
        sink = np.exp(w[p + "attn_sinks.weight"])[:, None, None] if p + "attn_sinks.weight" in w else 0.0
        s /= s.sum(-1, keepdims=True) + sink
        a = linear(np.einsum("hij,jhd->ihd", s, v).reshape(n, -1), p + "attn_output")
        if p + "post_attention_norm.weight" in w and arch not in ("glm4moe", "gpt-oss"):
            a = norm(a, p + "post_attention_norm")
        x = x + branch * a
        if arch != "phi2":                                           # whose MLP shares attention's norm
            h = norm(x, p + ("post_attention_norm" if arch in ("glm4moe", "gpt-oss") else "ffn_norm"))
        if p + "ffn_gate_inp.weight" in w:
            m = mixture(h, p)
        elif p + "ffn_gate.weight" in w:
            m = act(linear(h, p + "ffn_gate")) * linear(h, p + "ffn_up")
        elif arch in ("phi2", "starcoder2"):
            m = act(linear(h, p + "ffn_up"))
        else:
            gate, up = np.split(linear(h, p + "ffn_up"), 2, axis=1)
            m = act(gate) * up
        if p + "ffn_gate_inp.weight" not in w:
            m = linear(m, p + "ffn_down")
        if p + "post_ffw_norm.weight" in w:
            m = norm(m, p + "post_ffw_norm")
        x = x + branch * m
    head = "output" if "output.weight" in w else "token_embd"
    return cap(linear(norm(x, "output_norm"), head) / get("logit_scale", 1.0), "final_logit_softcapping")
