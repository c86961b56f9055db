#!/usr/bin/env python3
"""GGUF files made by the `gguf` package from the checkpoints here.

    python make_gguf.py [FAMILY...]           the committed files tiny/*.gguf, and expected.bin of those made here
    python make_gguf.py MODEL_DIR OUT.gguf    one Hugging Face directory, e.g. the story model

Two-dimensional bfloat16 weights stay BF16, float32 ones F32; norms, biases and RoPE divisors are
F32. Every file written is read back and its logits, computed in float64 by gguf_numpy.py, are
compared with the expected ones where there are any. Prints the SHA-256 of what it wrote.
"""
import hashlib
import json
import math
import pathlib
import re
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
FAMILIES = ["llama", "llama_linear", "mistral", "qwen2", "qwen3", "phi3", "gemma", "gemma2", "gemma3", "phi2", "phi3_longrope",
            "starcoder2", "granite", "glm4", "smollm3", "mistral3", "hunyuan_dense", "llama_yarn",
            "mixtral", "granitemoe", "granitemoe_shared", "qwen2_moe", "qwen3_moe", "phimoe", "glm4_moe", "hunyuan_moe", "gpt_oss",
            "gpt_oss_whole", "deepseek_v2", "deepseek_v3"]

NAMES = {  # Hugging Face -> GGUF, inside a layer
    "input_layernorm": "attn_norm", "post_attention_layernorm": "ffn_norm",
    "self_attn.q_proj": "attn_q", "self_attn.k_proj": "attn_k", "self_attn.v_proj": "attn_v",
    "self_attn.qkv_proj": "attn_qkv", "self_attn.o_proj": "attn_output",
    "self_attn.q_norm": "attn_q_norm", "self_attn.k_norm": "attn_k_norm",
    "mlp.gate_proj": "ffn_gate", "mlp.up_proj": "ffn_up", "mlp.down_proj": "ffn_down", "mlp.gate_up_proj": "ffn_up",
    "self_attn.dense": "attn_output", "mlp.fc1": "ffn_up", "mlp.fc2": "ffn_down",
    "mlp.c_fc": "ffn_up", "mlp.c_proj": "ffn_down",
    "self_attn.query_layernorm": "attn_q_norm", "self_attn.key_layernorm": "attn_k_norm",
    "pre_feedforward_layernorm": "ffn_norm", "post_feedforward_layernorm": "post_ffw_norm",
    "mlp.gate": "ffn_gate_inp", "block_sparse_moe.gate": "ffn_gate_inp", "block_sparse_moe.router.layer": "ffn_gate_inp",
    "mlp.router": "ffn_gate_inp", "self_attn.sinks": "attn_sinks", "mlp.experts.down_proj": "ffn_down_exps",
    "mlp.gate.wg": "ffn_gate_inp", "mlp.gate.e_score_correction_bias": "exp_probs_b",
    **{f"mlp.{s}.{part}_proj": f"ffn_{part}_shexp" for s in ("shared_experts", "shared_mlp") for part in ("gate", "up", "down")},
    "mlp.shared_expert_gate": "ffn_gate_inp_shexp", "mlp.shared_expert.gate_proj": "ffn_gate_shexp",
    "mlp.shared_expert.up_proj": "ffn_up_shexp", "mlp.shared_expert.down_proj": "ffn_down_shexp",
    "block_sparse_moe.output_linear": "ffn_down_exps", "shared_mlp.output_linear": "ffn_down_shexp",
    "self_attn.q_a_proj": "attn_q_a", "self_attn.q_a_layernorm": "attn_q_a_norm", "self_attn.q_b_proj": "attn_q_b",
    "self_attn.kv_a_proj_with_mqa": "attn_kv_a_mqa", "self_attn.kv_a_layernorm": "attn_kv_a_norm",
    "self_attn.kv_b_proj": "attn_kv_b",
    "post_self_attn_layernorm": "post_attention_norm", "post_mlp_layernorm": "post_ffw_norm",
}
GLOBAL_NAMES = {"model.embed_tokens": "token_embd", "model.norm": "output_norm",
                "model.final_layernorm": "output_norm", "lm_head": "output"}
ARCHITECTURES = {"mistral": "llama", "gemma3_text": "gemma3", "ministral3": "mistral3", "phi": "phi2", "hunyuan_v1_dense": "hunyuan-dense",
                 "mixtral": "llama", "granitemoeshared": "granitemoe", "gpt_oss": "gpt-oss", "glm4_moe": "glm4moe", "hunyuan_v1_moe": "hunyuan-moe", "qwen2_moe": "qwen2moe", "qwen3_moe": "qwen3moe",
                 "deepseek_v2": "deepseek2", "deepseek_v3": "deepseek2"}
EXPERT = {"gate_proj": "gate", "w1": "gate", "up_proj": "up", "w3": "up", "down_proj": "down", "w2": "down"}
PERMUTED = {"llama", "mistral3", "smollm3", "granite", "granitemoe"}  # q and k rows in adjacent pairs


def gguf_name(name, arch):
    if name.endswith("sinks"):
        name += ".weight"
    if name.endswith("e_score_correction_bias"):
        name += ".bias"
    base, suffix = name.rsplit(".", 1)
    if name.startswith("blk."):
        return name
    if base in GLOBAL_NAMES:
        return f"{GLOBAL_NAMES[base]}.{suffix}"
    _, _, layer, part = base.split(".", 3)
    if arch in ("gemma2", "gemma3", "glm4moe", "gpt-oss") and part == "post_attention_layernorm":
        return f"blk.{layer}.post_attention_norm.{suffix}"
    return f"blk.{layer}.{NAMES[part]}.{suffix}"


def blocks_of(codes, scales):
    """gpt-oss's [E][N][K / 32][16] bytes of pairs, as GGUF's: a scale, then columns j and j + 16 in a byte."""
    nibbles = np.stack([codes & 15, codes >> 4], axis=-1).reshape(*codes.shape[:-1], 32)
    packed = np.concatenate([scales[..., None], nibbles[..., :16] | nibbles[..., 16:] << 4], axis=-1)
    return np.ascontiguousarray(packed.reshape(*codes.shape[:2], -1))


def add_mxfp4(writer, tensors):
    """Takes gpt-oss's stacks out of the tensors and writes them: gate and up rows apart."""
    for name in [n[:-7] for n in tensors if n.endswith("_blocks")]:
        layer = name.split(".")[2]
        packed, bias = blocks_of(tensors.pop(name + "_blocks"), tensors.pop(name + "_scales")), tensors.pop(name + "_bias")
        parts = [("gate", np.s_[:, 0::2]), ("up", np.s_[:, 1::2])] if "gate_up" in name else [("down", np.s_[:])]
        for part, rows in parts:
            writer.add_tensor(f"blk.{layer}.ffn_{part}_exps.weight", np.ascontiguousarray(packed[rows]), raw_dtype=T.MXFP4)
            writer.add_tensor(f"blk.{layer}.ffn_{part}_exps.bias", np.ascontiguousarray(bias[rows], np.float32))


def stacked(tensors, by_expert):
    """The tensors with experts [E][N][K] in one under GGUF's names; by_expert: one by one, as the oldest files have them."""
    out, stacks = {}, {}
    for name, x in tensors.items():
        one = re.fullmatch(r"model\.layers\.(\d+)\..*\.experts\.(\d+)\.(\w+)\.weight", name)
        if one and by_expert:
            out[f"blk.{one[1]}.ffn_{EXPERT[one[3]]}.{one[2]}.weight"] = x
        elif one:
            stacks.setdefault(f"blk.{one[1]}.ffn_{EXPERT[one[3]]}_exps.weight", {})[int(one[2])] = x
        elif name.endswith(".input_linear.weight"):  # Granite's: gate above up
            layer, kind = name.split(".")[2], "shexp" if "shared" in name else "exps"
            for part, rows in zip(("gate", "up"), np.split(x, 2, axis=-2)):
                out[f"blk.{layer}.ffn_{part}_{kind}.weight"] = rows
        elif re.search(r"experts\.(gate_up|down)_proj(_bias)?$", name):  # gpt-oss's: turned around, gate and up in turn
            layer, kind = name.split(".")[2], "bias" if name.endswith("_bias") else "weight"
            x = x if kind == "bias" else x.swapaxes(1, 2)
            for part, rows in [("gate", x[:, 0::2]), ("up", x[:, 1::2])] if "gate_up" in name else [("down", x)]:
                out[f"blk.{layer}.ffn_{part}_exps.{kind}"] = rows
        else:
            out[name] = x
    for name, parts in stacks.items():
        out[name] = np.stack([parts[e] for e in range(len(parts))])
    return out


def split_heads(tensors, c):
    """Latent attention's keys and values of the heads as two stacks, those of keys turned around."""
    out = {}
    for name, x in tensors.items():
        if name.endswith("kv_b_proj.weight"):
            heads = x.reshape(c["num_attention_heads"], -1, x.shape[1])
            front = f"blk.{name.split('.')[2]}.attn_"
            out[front + "k_b.weight"] = heads[:, :c["qk_nope_head_dim"]].swapaxes(1, 2)
            out[front + "v_b.weight"] = heads[:, c["qk_nope_head_dim"]:]
        else:
            out[name] = x
    return out


def adjacent_pairs(x, n_head):
    """Rows of each head reordered so that rotary partners i and i + d/2 become 2i and 2i + 1."""
    halves = x.reshape(n_head, 2, x.shape[0] // n_head // 2, -1)
    return halves.swapaxes(1, 2).reshape(x.shape)


def rope_of(c):
    rope = dict(c.get("rope_parameters") or c.get("rope_scaling") or {})
    if "full_attention" in rope:
        rope = dict(rope["full_attention"], local=rope["sliding_attention"]["rope_theta"])
    rope.setdefault("rope_theta", c.get("rope_theta", 10000.0))
    rope.setdefault("partial_rotary_factor", c.get("partial_rotary_factor", 1.0))
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


def add_latent(writer, c, rope):
    """V2 as the first converters wrote it, plain attention's shapes; V3 as today's, one head over latents."""
    head, value = c["qk_nope_head_dim"] + c["qk_rope_head_dim"], c["v_head_dim"]
    writer.add_kv_lora_rank(c["kv_lora_rank"])
    writer.add_rope_dimension_count(c["qk_rope_head_dim"])
    writer.add_rope_scaling_yarn_log_mul(0.1 * rope["mscale_all_dim"])
    if c["model_type"] == "deepseek_v2":
        writer.add_key_length(head)
        writer.add_value_length(value)
        return
    writer.add_q_lora_rank(c["q_lora_rank"])
    writer.add_key_length(c["kv_lora_rank"] + c["qk_rope_head_dim"])
    writer.add_value_length(c["kv_lora_rank"])
    writer.add_key_length_mla(head)
    writer.add_value_length_mla(value)


def add_architecture(writer, c, rope, d):
    writer.add_context_length(c["max_position_embeddings"])
    writer.add_embedding_length(c["hidden_size"])
    writer.add_block_count(c["num_hidden_layers"])
    writer.add_feed_forward_length(c["intermediate_size"])
    writer.add_head_count(c["num_attention_heads"])
    writer.add_head_count_kv(1 if c["model_type"] == "deepseek_v3" else c["num_key_value_heads"])
    if "rms_norm_eps" in c:
        writer.add_layer_norm_rms_eps(c["rms_norm_eps"])
    else:
        writer.add_layer_norm_eps(c.get("layer_norm_eps") or c["norm_epsilon"])
    base = rope["rope_theta"]
    if "alpha" in rope:  # a fixed stretch of the base
        base *= rope["alpha"] ** (d / (d - 2))
    writer.add_rope_freq_base(base)
    if "kv_lora_rank" not in c:
        writer.add_rope_dimension_count(int(d * rope["partial_rotary_factor"]))
    writer.add_vocab_size(c["vocab_size"])
    if c.get("kv_lora_rank"):
        add_latent(writer, c, rope)
    elif c.get("head_dim"):
        writer.add_key_length(d)
        writer.add_value_length(d)
    if c.get("sliding_window") and c.get("use_sliding_window", True):
        writer.add_sliding_window(c["sliding_window"])
    elif c["model_type"] in ("phi3", "phimoe"):
        writer.add_sliding_window(0)
    if rope["kind"] == "linear":
        writer.add_rope_scaling_type(gguf.RopeScalingType.LINEAR)
        writer.add_rope_scaling_factor(rope["factor"])
    if rope["kind"] == "yarn":
        writer.add_rope_scaling_type(gguf.RopeScalingType.YARN)
        writer.add_rope_scaling_factor(rope["factor"])
        writer.add_rope_scaling_orig_ctx_len(rope["original_max_position_embeddings"])
        if "beta_fast" in rope:
            writer.add_rope_scaling_yarn_beta_fast(rope["beta_fast"])
            writer.add_rope_scaling_yarn_beta_slow(rope["beta_slow"])
    experts = c.get("num_local_experts") or c.get("num_experts") or c.get("n_routed_experts")
    if experts:
        writer.add_expert_count(experts)
        writer.add_expert_used_count(c.get("num_experts_per_tok") or c["moe_topk"])
        if c.get("n_group"):
            writer.add_expert_group_count(c["n_group"])
            writer.add_expert_group_used_count(c["topk_group"])
            softmax = c["model_type"] == "deepseek_v2"
            kind = gguf.ExpertGatingFuncType
            writer.add_expert_gating_func(kind.SOFTMAX if softmax else kind.SIGMOID)
            writer.add_expert_shared_count(c["n_shared_experts"])
            writer.add_expert_weights_scale(c["routed_scaling_factor"])
            if not softmax:
                writer.add_expert_weights_norm(c["norm_topk_prob"])
            writer.add_leading_dense_block_count(c["first_k_dense_replace"])
        if c["model_type"] in ("hunyuan_v1_moe", "gpt_oss"):
            writer.add_expert_feed_forward_length(c["intermediate_size"])
        if c["model_type"] == "hunyuan_v1_moe":
            writer.add_expert_shared_feed_forward_length(c["intermediate_size"])
        if c.get("shared_intermediate_size"):
            writer.add_expert_shared_feed_forward_length(c["shared_intermediate_size"])
        if c.get("moe_intermediate_size"):
            writer.add_expert_feed_forward_length(c["moe_intermediate_size"])
        if c.get("shared_expert_intermediate_size"):
            writer.add_expert_shared_feed_forward_length(c["shared_expert_intermediate_size"])
    if c["model_type"] == "ministral3":
        writer.add_rope_scaling_yarn_log_mul(rope["mscale_all_dim"])
        writer.add_attn_temperature_scale(rope["llama_4_scaling_beta"])
    if c["model_type"] == "phi3":
        writer.add_rope_scaling_orig_ctx_len(c["original_max_position_embeddings"])
    if rope["kind"] == "longrope":  # the kind itself is not written: the tensors tell
        scale = c["max_position_embeddings"] / c["original_max_position_embeddings"]
        writer.add_rope_scaling_attn_factors(
            math.sqrt(1 + math.log(scale) / math.log(c["original_max_position_embeddings"])))
    if "local" in rope:
        writer.add_rope_freq_base_swa(rope["local"])
    for key, add in (("attn_logit_softcapping", writer.add_attn_logit_softcapping),
                     ("final_logit_softcapping", writer.add_final_logit_softcapping),
                     ("attention_multiplier", writer.add_attention_scale),
                     ("embedding_multiplier", writer.add_embedding_scale),
                     ("residual_multiplier", writer.add_residual_scale),
                     ("logits_scaling", writer.add_logit_scale)):
        if c.get(key):
            add(c[key])


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


def convert(directory, out, matrix=None, by_expert=False):
    """matrix(module, float32 [N][K] in the file's order, heads or 0): blocks and their type; None: as it is."""
    c = json.loads((directory / "config.json").read_text())
    arch, n_head, n_kv = c["model_type"], c["num_attention_heads"], c["num_key_value_heads"]
    arch = ARCHITECTURES.get(arch, arch)
    d, rope = c.get("head_dim") or c["hidden_size"] // n_head, rope_of(c)
    matrix_type = {"bfloat16": T.BF16, "float32": T.F32}[c.get("dtype") or c["torch_dtype"]]
    writer = gguf.GGUFWriter(out, arch)
    writer.add_name(directory.name)
    writer.add_file_type(LlamaFileType.MOSTLY_BF16 if matrix_type == T.BF16 else LlamaFileType.ALL_F32)
    add_architecture(writer, c, rope, d)
    add_tokenizer(writer, directory, c)
    if rope["kind"] == "llama3":
        writer.add_tensor("rope_freqs.weight", llama3_divisors(rope, d))
    if rope["kind"] == "longrope":
        writer.add_tensor("rope_factors_long.weight", np.array(rope["long_factor"], np.float32))
        writer.add_tensor("rope_factors_short.weight", np.array(rope["short_factor"], np.float32))
    tensors = read_safetensors(directory / "model.safetensors")
    add_mxfp4(writer, tensors)
    if c["model_type"] == "deepseek_v3":
        tensors = split_heads(tensors, c)
    for name, x in stacked(tensors, by_expert).items():
        new = gguf_name(name, arch)
        heads = {"attn_q": n_head, "attn_k": n_kv}.get(new.split(".")[-2], 0) if arch in PERMUTED else 0
        x = np.ascontiguousarray(adjacent_pairs(x, heads) if heads else x, np.float32)
        if arch.startswith("gemma") and new.endswith("norm.weight"):
            x = x + np.float32(1)
        kind = matrix_type if x.ndim >= 2 and "ffn_gate_inp" not in new and not new.endswith("bias") else T.F32
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

    write_expected("mixed", out, [0, c["vocab_size"] - 1] + rng.integers(0, c["vocab_size"], 46).tolist())


def make_by_layer(out):
    """A llama whose layers differ in heads and width, made here; the converters write such keys as arrays."""
    rng = np.random.Generator(np.random.PCG64(21))
    heads, kv, ff, d, width, vocab = [4, 2, 6], [2, 1, 3], [48, 32, 64], 16, 32, 96
    writer = gguf.GGUFWriter(out, "llama")
    writer.add_name("by_layer")
    writer.add_file_type(LlamaFileType.ALL_F32)
    add_architecture(writer, dict(
        model_type="llama", max_position_embeddings=128, hidden_size=width, num_hidden_layers=3, intermediate_size=ff,
        num_attention_heads=heads, num_key_value_heads=kv, head_dim=d, rms_norm_eps=1e-5, vocab_size=vocab),
        rope_of({}), d)
    writer.add_tokenizer_model("none")

    def add(name, *shape):
        writer.add_tensor(name, (rng.standard_normal(shape) * 0.25 + (len(shape) == 1)).astype(np.float32))

    add("token_embd.weight", vocab, width)
    for i in range(3):
        add(f"blk.{i}.attn_norm.weight", width)
        add(f"blk.{i}.attn_q.weight", heads[i] * d, width)
        add(f"blk.{i}.attn_k.weight", kv[i] * d, width)
        add(f"blk.{i}.attn_v.weight", kv[i] * d, width)
        add(f"blk.{i}.attn_output.weight", width, heads[i] * d)
        add(f"blk.{i}.ffn_norm.weight", width)
        add(f"blk.{i}.ffn_gate.weight", ff[i], width)
        add(f"blk.{i}.ffn_up.weight", ff[i], width)
        add(f"blk.{i}.ffn_down.weight", width, ff[i])
    add("output_norm.weight", width)
    finish(writer, out)
    write_expected("by_layer", out, [0, vocab - 1] + rng.integers(0, vocab, 46).tolist())


def make_deepseek_q8_0(out):
    """A DeepSeek-V3 of which every matrix but the router is Q8_0, made here, with the heads' keys and values apart."""
    rng = np.random.Generator(np.random.PCG64(22))
    heads, rank, rot, nope, value, width, ff, experts, vocab = 4, 32, 16, 32, 32, 64, 32, 4, 96
    writer = gguf.GGUFWriter(out, "deepseek2")
    writer.add_name("deepseek_q8_0")
    writer.add_file_type(LlamaFileType.MOSTLY_Q8_0)
    writer.add_quantization_version(gguf.GGML_QUANT_VERSION)
    c = dict(model_type="deepseek_v3", max_position_embeddings=128, hidden_size=width, num_hidden_layers=2,
             intermediate_size=64, num_attention_heads=heads, rms_norm_eps=1e-6, vocab_size=vocab, kv_lora_rank=rank,
             qk_nope_head_dim=nope, qk_rope_head_dim=rot, v_head_dim=value, q_lora_rank=32, n_routed_experts=experts,
             num_experts_per_tok=2, moe_intermediate_size=ff, n_group=1, topk_group=1, n_shared_experts=1,
             routed_scaling_factor=1.5, norm_topk_prob=True, first_k_dense_replace=1,
             rope_parameters=dict(rope_type="yarn", rope_theta=10000.0, factor=4.0, original_max_position_embeddings=16,
                                  mscale_all_dim=1.0))
    add_architecture(writer, c, rope_of(c), 16)
    writer.add_tokenizer_model("none")

    def add(name, *shape, kind=T.Q8_0):
        x = (rng.standard_normal(shape) * 0.25 + (len(shape) == 1)).astype(np.float32)
        kind = T.F32 if len(shape) == 1 else kind
        writer.add_tensor(f"{name}.weight", quantize(x, kind), raw_dtype=kind)

    add("token_embd", vocab, width)
    for i in range(2):
        blk = f"blk.{i}."
        add(blk + "attn_norm", width)
        add(blk + "attn_q_a", 32, width)
        add(blk + "attn_q_a_norm", 32)
        add(blk + "attn_q_b", heads * (nope + rot), 32)
        add(blk + "attn_kv_a_mqa", rank + rot, width)
        add(blk + "attn_kv_a_norm", rank)
        add(blk + "attn_k_b", heads, rank, nope)
        add(blk + "attn_v_b", heads, value, rank)
        add(blk + "attn_output", width, heads * value)
        add(blk + "ffn_norm", width)
        parts = (("gate", ff, width), ("up", ff, width), ("down", width, ff))
        for part, n, k in parts:
            if i == 0:
                add(f"{blk}ffn_{part}", *(2 * x if x == ff else x for x in (n, k)))
            else:
                add(f"{blk}ffn_{part}_exps", experts, n, k)
                add(f"{blk}ffn_{part}_shexp", n, k)
        if i:
            add(blk + "ffn_gate_inp", experts, width, kind=T.F32)
    add("output_norm", width)
    add("output", vocab, width)
    finish(writer, out)
    write_expected("deepseek_q8_0", out, [0, vocab - 1] + rng.integers(0, vocab, 46).tolist())


def write_expected(name, out, ids):
    y = gguf_numpy.logits(out, ids)
    print(f"  logits std {y.std():.2f}, max {np.abs(y).max():.1f}")
    (TINY / name).mkdir(exist_ok=True)
    (TINY / name / "expected.bin").write_bytes(
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
    made = {"mixed": make_mixed, "by_layer": make_by_layer, "deepseek_q8_0": make_deepseek_q8_0}
    names = sys.argv[1:]
    if len(names) == 2 and names[1].endswith(".gguf"):
        directory, out = map(pathlib.Path, sys.argv[1:])
        convert(directory, out)
        if (directory / "expected.bin").exists():
            check(out, directory / "expected.bin")
        return
    for name in names or FAMILIES + list(made):
        out = TINY / f"{name}.gguf"
        if name in made:
            made[name](out)
            continue
        convert(TINY / name, out)
        if name == "mixtral":
            convert(TINY / name, TINY / "mixtral_by_expert.gguf", by_expert=True)
        for expected in sorted((TINY / name).glob("expected*.bin")):
            check(out, expected)


if __name__ == "__main__":
    main()
