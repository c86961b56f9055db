#!/usr/bin/env python3
"""Tiny random checkpoints, one per family, with reference logits: tiny/<family>/.

    python tiny_models.py CORPUS [FAMILY...]

CORPUS is any English text, plain or .xz (the committed tokenizers were trained on the
first 2 MB of the story model's corpus); with families only these are made, and no
tokenizer. Weights are random and large enough that every
part of the model shows in the logits; the script asserts that for the parts easily
forgotten (window, biases, RoPE scaling, q/k norms). The logits come from `transformers`
in float32 with eager attention, reading back what was saved. Layouts: README.md.
"""
import json
import lzma
import pathlib
import struct
import sys

import numpy as np
import torch
import transformers
from safetensors.torch import load_file, save_file
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, processors, trainers

from transformers.integrations.mxfp4 import convert_moe_packed_tensors

TINY = pathlib.Path(__file__).resolve().parent / "tiny"
N_TOKENS = 48
LLAMA3_SPLIT = (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}"
                r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+")

COMMON = dict(hidden_act="silu", bos_token_id=1, eos_token_id=2, pad_token_id=None, max_position_embeddings=128)
LLAMA3 = dict(rope_type="llama3", factor=4.0, low_freq_factor=1.0, high_freq_factor=4.0,
              original_max_position_embeddings=32)

# name: (configuration class, stored type, written with rope_theta + rope_scaling?, settings).
# transformers 5 writes `rope_parameters`; most published files have the older keys, so both occur here.
FAMILIES = {
    "llama": ("LlamaConfig", torch.bfloat16, True, dict(
        vocab_size=384, hidden_size=64, intermediate_size=160, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, head_dim=16, rms_norm_eps=1e-5, tie_word_embeddings=False, attention_bias=False,
        bos_token_id=380, eos_token_id=[381, 383], rope_parameters=dict(rope_theta=10000.0, **LLAMA3))),
    "llama_linear": ("LlamaConfig", torch.float32, True, dict(
        vocab_size=200, hidden_size=64, intermediate_size=96, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=1, head_dim=16, rms_norm_eps=1e-5, tie_word_embeddings=True, attention_bias=True,
        mlp_bias=True, rope_parameters=dict(rope_type="linear", factor=2.5, rope_theta=10000.0))),
    "mistral": ("MistralConfig", torch.bfloat16, False, dict(
        vocab_size=256, hidden_size=64, intermediate_size=128, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, head_dim=48, rms_norm_eps=1e-5, tie_word_embeddings=False, sliding_window=16,
        rope_parameters=dict(rope_type="default", rope_theta=10000.0))),
    "qwen2": ("Qwen2Config", torch.bfloat16, True, dict(
        vocab_size=256, hidden_size=96, intermediate_size=160, num_hidden_layers=2, num_attention_heads=6,
        num_key_value_heads=2, rms_norm_eps=1e-6, tie_word_embeddings=True, use_sliding_window=False,
        rope_parameters=dict(rope_type="default", rope_theta=1000000.0))),
    "qwen3": ("Qwen3Config", torch.bfloat16, False, dict(
        vocab_size=256, hidden_size=96, intermediate_size=128, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, head_dim=32, rms_norm_eps=1e-6, tie_word_embeddings=True, use_sliding_window=False,
        attention_bias=False, rope_parameters=dict(rope_type="default", rope_theta=1000000.0))),
    "phi3": ("Phi3Config", torch.bfloat16, True, dict(
        vocab_size=336, hidden_size=96, intermediate_size=64, num_hidden_layers=2, num_attention_heads=6,
        num_key_value_heads=2, rms_norm_eps=1e-5, tie_word_embeddings=False, sliding_window=16,
        original_max_position_embeddings=128, rope_parameters=dict(rope_type="default", rope_theta=10000.0))),
}

# The rest is as small as shows every part: width 32, four heads, 96 tokens.
SMALL = dict(vocab_size=96, hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=4,
             num_key_value_heads=2, head_dim=16, tie_word_embeddings=True)
PLAIN = dict(rope_type="default", rope_theta=10000.0)
LONG = dict(rope_type="longrope", rope_theta=10000.0, partial_rotary_factor=0.75,
            short_factor=[1.0, 1.05, 1.1, 1.2, 1.35, 1.5], long_factor=[1.0, 1.5, 2.5, 4, 7.5, 12])
YARN = dict(rope_type="yarn", rope_theta=10000.0, factor=4.0, original_max_position_embeddings=16)
FAMILIES.update({
    "gemma": ("GemmaConfig", torch.bfloat16, True, dict(
        SMALL, num_key_value_heads=1, hidden_act="gelu_pytorch_tanh", rms_norm_eps=1e-6, rope_parameters=PLAIN)),
    "gemma2": ("Gemma2Config", torch.bfloat16, True, dict(
        SMALL, num_hidden_layers=3, rms_norm_eps=1e-6, sliding_window=8, query_pre_attn_scalar=16,
        attn_logit_softcapping=4.0, final_logit_softcapping=6.0, rope_parameters=PLAIN)),
    "gemma3": ("Gemma3TextConfig", torch.bfloat16, False, dict(
        SMALL, num_hidden_layers=7, rms_norm_eps=1e-6, sliding_window=8, query_pre_attn_scalar=16, rope_parameters=dict(
            full_attention=dict(rope_type="linear", factor=8.0, rope_theta=1000000.0), sliding_attention=PLAIN))),
    "gemma3_mm": ("Gemma3Config", torch.bfloat16, True, dict(
        text_config=dict(SMALL, num_hidden_layers=6, rms_norm_eps=1e-6, sliding_window=8, query_pre_attn_scalar=24,
                         hidden_activation="gelu_pytorch_tanh", max_position_embeddings=128, rope_parameters=dict(
                             full_attention=dict(rope_type="linear", factor=8.0, rope_theta=1000000.0),
                             sliding_attention=PLAIN)),
        vision_config=dict(hidden_size=16, intermediate_size=16, num_hidden_layers=1, num_attention_heads=2,
                           image_size=28, patch_size=14), mm_tokens_per_image=4)),
    "phi2": ("PhiConfig", torch.bfloat16, True, dict(
        SMALL, num_key_value_heads=4, head_dim=None, hidden_act="gelu_new", layer_norm_eps=1e-5,
        tie_word_embeddings=False, rope_parameters=dict(PLAIN, partial_rotary_factor=0.5))),
    "phi3_longrope": ("Phi3Config", torch.bfloat16, True, dict(
        SMALL, head_dim=None, hidden_size=64, rms_norm_eps=1e-5, sliding_window=None,
        original_max_position_embeddings=32, rope_parameters=LONG)),
    "starcoder2": ("Starcoder2Config", torch.bfloat16, True, dict(
        SMALL, head_dim=None, hidden_act="gelu_pytorch_tanh", norm_epsilon=1e-5, use_bias=True, sliding_window=16,
        rope_parameters=dict(PLAIN, rope_theta=100000.0))),
    "granite": ("GraniteConfig", torch.bfloat16, True, dict(
        SMALL, head_dim=None, rms_norm_eps=1e-5, attention_multiplier=0.2, embedding_multiplier=6.0,
        residual_multiplier=0.5, logits_scaling=1.5, rope_parameters=PLAIN)),
    "glm4": ("Glm4Config", torch.bfloat16, False, dict(
        SMALL, rms_norm_eps=1e-5, attention_bias=True, tie_word_embeddings=False,
        rope_parameters=dict(PLAIN, partial_rotary_factor=0.5))),
    "smollm3": ("SmolLM3Config", torch.bfloat16, True, dict(
        SMALL, head_dim=None, num_hidden_layers=4, rms_norm_eps=1e-6,
        rope_parameters=dict(PLAIN, rope_theta=2000000.0))),
    "mistral3": ("Ministral3Config", torch.bfloat16, False, dict(
        SMALL, rms_norm_eps=1e-5, tie_word_embeddings=False, rope_parameters=dict(
            YARN, beta_fast=32.0, beta_slow=1.0, mscale=1.0, mscale_all_dim=1.0, llama_4_scaling_beta=0.5))),
    "mistral3_mm": ("Mistral3Config", torch.bfloat16, False, dict(
        text_config=dict(SMALL, model_type="mistral", rms_norm_eps=1e-5, tie_word_embeddings=False,
                         max_position_embeddings=128, rope_parameters=dict(PLAIN, rope_theta=1000000.0)),
        vision_config=dict(model_type="pixtral", hidden_size=16, intermediate_size=16, num_hidden_layers=1,
                           num_attention_heads=2, head_dim=8, image_size=28, patch_size=14),
        image_token_index=10, tie_word_embeddings=False)),
    "hunyuan_dense": ("HunYuanDenseV1Config", torch.bfloat16, False, dict(
        SMALL, rms_norm_eps=1e-5, pad_token_id=0,
        rope_parameters=dict(rope_type="dynamic", rope_theta=10000.0, alpha=50.0, factor=1.0))),
    "llama_yarn": ("LlamaConfig", torch.bfloat16, True, dict(SMALL, rms_norm_eps=1e-5, rope_parameters=YARN)),
    "llama_yarn_exact": ("LlamaConfig", torch.bfloat16, False, dict(
        SMALL, rms_norm_eps=1e-5, rope_parameters=dict(YARN, mscale=0.7, mscale_all_dim=0.4, beta_fast=8.0,
                                                       beta_slow=0.5, truncate=False))),
    "llama_dynamic": ("LlamaConfig", torch.bfloat16, True, dict(
        SMALL, rms_norm_eps=1e-5, max_position_embeddings=24,
        rope_parameters=dict(rope_type="dynamic", rope_theta=10000.0, factor=3.0))),
})

# Mixtures of experts.
SPARSE = dict(SMALL, rms_norm_eps=1e-5, num_experts_per_tok=2, rope_parameters=PLAIN)
FAMILIES.update({
    "mixtral": ("MixtralConfig", torch.bfloat16, True, dict(
        SPARSE, intermediate_size=24, num_local_experts=4, sliding_window=None)),
    "granitemoe": ("GraniteMoeConfig", torch.bfloat16, True, dict(
        SPARSE, head_dim=None, intermediate_size=24, num_local_experts=6, attention_multiplier=0.2,
        embedding_multiplier=6.0, residual_multiplier=0.5, logits_scaling=1.5)),
    "qwen2_moe": ("Qwen2MoeConfig", torch.bfloat16, True, dict(
        SPARSE, head_dim=None, num_experts=6, moe_intermediate_size=16, shared_expert_intermediate_size=24,
        norm_topk_prob=False, use_sliding_window=False)),
    "qwen3_moe": ("Qwen3MoeConfig", torch.bfloat16, False, dict(
        SPARSE, num_experts=6, num_experts_per_tok=3, moe_intermediate_size=16, norm_topk_prob=True)),
    "qwen3_moe_dense": ("Qwen3MoeConfig", torch.bfloat16, True, dict(  # of four layers the second is a mixture
        SPARSE, num_hidden_layers=4, intermediate_size=20, num_experts=4, moe_intermediate_size=16,
        norm_topk_prob=False, decoder_sparse_step=2, mlp_only_layers=[3])),
    "phimoe": ("PhimoeConfig", torch.bfloat16, True, dict(
        SPARSE, head_dim=None, intermediate_size=24, num_local_experts=6, router_jitter_noise=0.01, attention_bias=True,
        lm_head_bias=True, tie_word_embeddings=False)),
    "glm4_moe": ("Glm4MoeConfig", torch.bfloat16, True, dict(
        SPARSE, num_hidden_layers=3, n_routed_experts=8, moe_intermediate_size=16, first_k_dense_replace=1, n_group=4,
        topk_group=2, routed_scaling_factor=1.5, attention_bias=True, use_qk_norm=True,
        rope_parameters=dict(PLAIN, partial_rotary_factor=0.5))),
    "hunyuan_moe": ("HunYuanMoEV1Config", torch.bfloat16, False, dict(
        {k: v for k, v in SPARSE.items() if k != "num_experts_per_tok"}, intermediate_size=24, num_experts=4, moe_topk=2,
        pad_token_id=0, rope_parameters=dict(rope_type="dynamic", rope_theta=10000.0, alpha=50.0, factor=1.0))),
})
OSS = dict(SPARSE, intermediate_size=32, num_local_experts=4, sliding_window=8, tie_word_embeddings=False,
           layer_types=["sliding_attention", "full_attention"], rope_parameters=dict(YARN, truncate=False))
FAMILIES.update({
    "granitemoe_shared": ("GraniteMoeSharedConfig", torch.bfloat16, True, dict(
        SPARSE, head_dim=None, intermediate_size=16, num_local_experts=6, shared_intermediate_size=24,
        attention_multiplier=0.2, embedding_multiplier=6.0, residual_multiplier=0.5, logits_scaling=1.5)),
    "gpt_oss": ("GptOssConfig", torch.bfloat16, True, OSS),
    "gpt_oss_whole": ("GptOssConfig", torch.bfloat16, False, dict(  # heads as wide as the published ones
        OSS, num_attention_heads=2, num_key_value_heads=1, head_dim=64,
        rope_parameters=dict(YARN, factor=32.0, truncate=False))),
})

# Latent attention.
LATENT = dict(SPARSE, num_hidden_layers=3, head_dim=None, num_key_value_heads=4, rms_norm_eps=1e-6, kv_lora_rank=24,
              qk_rope_head_dim=8, qk_nope_head_dim=12, v_head_dim=16, n_routed_experts=8, moe_intermediate_size=16,
              num_experts_per_tok=3, tie_word_embeddings=False)
FAMILIES.update({
    "deepseek_v2": ("DeepseekV2Config", torch.bfloat16, True, dict(
        LATENT, q_lora_rank=None, n_shared_experts=2, first_k_dense_replace=1, topk_method="group_limited_greedy",
        n_group=4, topk_group=2, routed_scaling_factor=2.0, rope_parameters=dict(
            YARN, mscale=0.707, mscale_all_dim=0.707, beta_fast=32.0, beta_slow=1.0))),
    "deepseek_v3": ("DeepseekV3Config", torch.bfloat16, True, dict(
        LATENT, q_lora_rank=20, n_shared_experts=1, first_k_dense_replace=1, n_group=4, topk_group=2,
        routed_scaling_factor=1.5, rope_parameters=dict(
            YARN, mscale=1.0, mscale_all_dim=1.0, beta_fast=32.0, beta_slow=1.0))),
    "glm4_moe_lite": ("Glm4MoeLiteConfig", torch.bfloat16, False, dict(
        LATENT, q_lora_rank=20, v_head_dim=24, n_shared_experts=1, routed_scaling_factor=1.8, rope_interleave=False,
        rope_parameters=PLAIN, mlp_layer_types=["sparse", "dense", "sparse"])),
})

# What of a family's configuration must show, and from which position on.
CHANGES = {
    "gemma2": [("attention cap", dict(attn_logit_softcapping=None), 1),
               ("final cap", dict(final_logit_softcapping=None), 0),
               ("scale", dict(query_pre_attn_scalar=24), 1)],
    "gemma3": [("scale", dict(query_pre_attn_scalar=24), 1)],
    "granite": [("attention multiplier", dict(attention_multiplier=0.25), 1),
                ("embedding multiplier", dict(embedding_multiplier=5.0), 0),
                ("residual multiplier", dict(residual_multiplier=0.4), 0),
                ("logits scaling", dict(logits_scaling=1.0), 0)],
    "mixtral": [("the second expert", dict(num_experts_per_tok=1), 0)],
    "gpt_oss_whole": [("YaRN as it is", dict(rope_parameters=dict(YARN, factor=32.0)), 1)],
    "granitemoe": [("the second expert", dict(num_experts_per_tok=1), 0),
                   ("residual multiplier", dict(residual_multiplier=0.4), 0)],
    "phimoe": [("closeness of logits", dict(router_jitter_noise=0.3), 0)],
    "glm4_moe": [("groups", dict(n_group=1, topk_group=1), 0), ("scale", dict(routed_scaling_factor=1.0), 0)],
    "deepseek_v2": [("groups", dict(n_group=1, topk_group=1, topk_method="greedy"), 0),
                    ("scale", dict(routed_scaling_factor=1.0), 0)],
    "deepseek_v3": [("groups", dict(n_group=1, topk_group=1), 0), ("scale", dict(routed_scaling_factor=1.0), 0)],
    "glm4_moe_lite": [("pairs", dict(rope_interleave=True), 1)],
    "qwen2_moe": [("weights as they are", dict(norm_topk_prob=True), 0)],
    "qwen3_moe": [("normalized weights", dict(norm_topk_prob=False), 0)],
    "smollm3": [("layers without rotation", dict(no_rope_layers=[1, 1, 1, 1]), 1)],
}
# Keys of these are rotated anew when the sequence grows past a length: no stepping, and logits of that length too.
BY_LENGTH = {"phi3_longrope": 32, "llama_dynamic": 24}


def initialise(model, seed):
    g = torch.Generator().manual_seed(seed)
    for name, p in sorted(model.named_parameters()):
        x = torch.randn(p.shape, generator=g)
        if name.endswith("norm.weight"):
            x = 0.3 * x if "Gemma" in type(model).__name__ and "vision" not in name else 1 + 0.3 * x
        elif p.dim() == 1:
            x = 0.4 * x
        else:
            x = 0.25 * x
        p.data = x.to(p.dtype)
    for name, b in sorted(model.named_buffers()):
        if name.endswith("e_score_correction_bias"):
            b.data = (0.3 * torch.randn(b.shape, generator=g)).to(b.dtype)


def old_rope_keys(path):
    whole = json.loads(path.read_text())
    c = whole.get("text_config", whole)
    rope = c.pop("rope_parameters")
    if "full_attention" in rope:  # Gemma 3's
        c["rope_local_base_freq"] = rope["sliding_attention"]["rope_theta"]
        rope = rope["full_attention"]
        c.pop("layer_types")
        c["sliding_window_pattern"] = 6
    c["rope_theta"] = rope.pop("rope_theta")
    part = rope.pop("partial_rotary_factor", 1.0)
    if part != 1.0:
        c["partial_rotary_factor"] = part
    if rope.get("original_max_position_embeddings") == c.get("original_max_position_embeddings"):
        rope.pop("original_max_position_embeddings", None)
    kind = rope["rope_type"]
    if kind in ("linear", "longrope") and "rope_local_base_freq" not in c:  # the oldest spelling
        rope["type"] = rope.pop("rope_type")
    c["rope_scaling"] = None if kind == "default" else rope
    whole["torch_dtype"] = whole.pop("dtype")
    path.write_text(json.dumps(whole, indent=2, sort_keys=True) + "\n")


def pack_experts(directory, seed):
    """gpt-oss as published: the experts as random MXFP4 blocks, gate and up rows in turn."""
    path = directory / "model.safetensors"
    tensors, g = load_file(path), torch.Generator().manual_seed(seed)
    for name in [n for n in tensors if n.endswith(("gate_up_proj", "down_proj"))]:
        n_expert, k, rows = tensors.pop(name).shape  # [E][in][out]
        tensors[name + "_blocks"] = torch.randint(0, 256, (n_expert, rows, k // 32, 16), generator=g, dtype=torch.uint8)
        tensors[name + "_scales"] = torch.randint(123, 125, (n_expert, rows, k // 32), generator=g, dtype=torch.uint8)
    save_file(tensors, path, metadata={"format": "pt"})
    config = json.loads((directory / "config.json").read_text())
    config["quantization_config"] = dict(quant_method="mxfp4", modules_to_not_convert=[
        "model.layers.*.self_attn", "model.layers.*.mlp.router", "model.embed_tokens", "lm_head"])
    (directory / "config.json").write_text(json.dumps(config, indent=2, sort_keys=True) + "\n")


def load_packed(directory, **changes):
    """The same read back by transformers' own conversion of the blocks."""
    tensors = load_file(directory / "model.safetensors")
    for name in [n[:-7] for n in tensors if n.endswith("_blocks")]:
        tensors[name] = convert_moe_packed_tensors(tensors.pop(name + "_blocks"), tensors.pop(name + "_scales"))
    config = transformers.AutoConfig.from_pretrained(directory, **changes)
    del config.quantization_config
    config._attn_implementation = "eager"
    model = model_class(config)(config).float().eval()
    model.load_state_dict({n: x.float() for n, x in tensors.items()})
    return model


def model_class(config):
    return getattr(transformers, config.architectures[0])


def load(directory, **changes):
    config = transformers.AutoConfig.from_pretrained(directory)
    if config.model_type == "gpt_oss" and hasattr(config, "quantization_config"):
        return load_packed(directory, **changes)
    return model_class(config).from_pretrained(
        directory, dtype=torch.float32, attn_implementation="eager", **changes).eval()


@torch.no_grad()
def logits_of(model, ids):
    return model(torch.tensor([ids]), use_cache=False).logits[0].numpy()


@torch.no_grad()
def stepwise(model, ids):
    cache, out = None, []
    for token in ids:
        r = model(torch.tensor([[token]]), past_key_values=cache, use_cache=True)
        cache = r.past_key_values
        out.append(r.logits[0, 0].numpy())
    return np.array(out)


def ablations(name, directory, ids):
    """Logits with one feature of the family removed, each with the first position where it must show."""
    settings = FAMILIES[name][3]
    if "text_config" in settings:
        return
    if settings.get("sliding_window"):
        none = None if name in ("mistral", "phi3", "starcoder2") else 128
        yield "window", logits_of(load(directory, sliding_window=none), ids), settings["sliding_window"]
    for what, changes, first in CHANGES.get(name, ()):
        yield what, logits_of(load(directory, **changes), ids), first
    rope = settings["rope_parameters"]
    if "sliding_attention" in rope:
        for kind in rope:
            same = dict(rope, **{kind: dict(rope_type="default", rope_theta=50000.0)})
            yield kind + "'s rotation", logits_of(load(directory, rope_parameters=same), ids), 1
    elif rope["rope_type"] != "default":
        plain = dict(rope_type="default", rope_theta=rope["rope_theta"])
        if "llama_4_scaling_beta" in rope:  # and each of the two
            plain = dict(plain, llama_4_scaling_beta=0.5, original_max_position_embeddings=16)
            yield "growing scale", logits_of(load(directory, rope_parameters=dict(rope, llama_4_scaling_beta=0.0)), ids), 16
        model = load(directory)
        config = type(model.config)(**{**model.config.to_dict(), "rope_parameters": plain})
        config._attn_implementation = "eager"
        bare = type(model)(config).eval()
        bare.load_state_dict(model.state_dict())
        first = 0 if any("sinks" in n for n in bare.state_dict()) else 1  # beside a sink even one key's score counts
        yield "rope scaling", logits_of(bare, ids), first
    model = load(directory)
    if any(n.endswith(".bias") for n, _ in model.named_parameters()):
        for n, p in model.named_parameters():
            if n.endswith(".bias"):
                p.data.zero_()
        yield "biases", logits_of(model, ids), 0
    model = load(directory)
    if any("shared_expert_gate" in n for n, _ in model.named_parameters()):
        for n, p in model.named_parameters():
            if "shared_expert_gate" in n:
                p.data.zero_()
        yield "the shared expert's share", logits_of(model, ids), 0
    model = load(directory)
    if any("sinks" in n for n, _ in model.named_parameters()):
        for n, p in model.named_parameters():
            if "sinks" in n:
                p.data.fill_(-100)
        yield "sinks", logits_of(model, ids), 0
        model = load(directory)
    if any("q_norm" in n for n, _ in model.named_parameters()):
        for n, p in model.named_parameters():
            if "q_norm" in n or "k_norm" in n:
                p.data.fill_(1)
        yield "q/k norm weights", logits_of(model, ids), 1


def make(name):
    kind, dtype, old_keys, settings = FAMILIES[name]
    directory = TINY / name
    directory.mkdir(parents=True, exist_ok=True)
    nested = "text_config" in settings
    settings = settings if nested else {k: v for k, v in {**COMMON, **settings}.items() if v is not None or k != "head_dim"}
    config = getattr(transformers, kind)(**settings)
    auto = transformers.AutoModelForImageTextToText if nested else transformers.AutoModelForCausalLM
    model = auto.from_config(config, dtype=dtype)
    initialise(model, seed=sum(name.encode()))
    model.save_pretrained(directory)
    if name == "gpt_oss":
        pack_experts(directory, seed=len(name))
    if old_keys:
        old_rope_keys(directory / "config.json")

    v = (config.text_config if nested else config).vocab_size
    rng = np.random.Generator(np.random.PCG64(sum(name.encode())))
    ids = [0, v - 1] + rng.integers(0, v, N_TOKENS - 2).tolist()
    reference = load(directory)
    y = logits_of(reference, ids)
    by_step = 0 if name in BY_LENGTH else np.abs(stepwise(reference, ids) - y).max()
    assert by_step < 2e-4, by_step
    print(f"{name}: logits std {y.std():.2f}, max {np.abs(y).max():.1f}, by step {by_step:.1e}")
    for what, other, first in ablations(name, directory, ids):
        d = np.abs(other - y).max(axis=1)
        print(f"  without {what}: {d[first:].min():.2f} to {d.max():.2f} from position {first}")
        assert d[first:].min() > 0.02 and (first == 0 or d[:first].max() < 2e-4), what
    write_expected(directory / "expected.bin", ids, y)
    if name in BY_LENGTH:
        ids = ids[:BY_LENGTH[name]]
        short = logits_of(load(directory), ids)
        assert np.abs(short - y[:len(ids)]).max() > 0.1
        write_expected(directory / "expected-short.bin", ids, short)


def write_expected(path, ids, y):
    path.write_bytes(struct.pack("<2I", *y.shape) + np.array(ids, "<i4").tobytes() + y.astype("<f4").tobytes())


def corpus_lines(path):
    raw = lzma.open(path).read(2_000_000) if path.endswith(".xz") else open(path, "rb").read(2_000_000)
    return raw.decode("utf-8", "ignore").splitlines(keepends=True)


def llama_tokenizer(lines):
    """Byte-level BPE as Llama 3 has it: its split pattern, special tokens behind the vocabulary, BOS prepended."""
    t = Tokenizer(models.BPE(ignore_merges=True))
    t.pre_tokenizer = pre_tokenizers.Sequence([
        pre_tokenizers.Split(Regex(LLAMA3_SPLIT), "isolated"),
        pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])
    t.decoder = decoders.ByteLevel()
    t.train_from_iterator(lines, trainers.BpeTrainer(
        vocab_size=380, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False))
    t.add_special_tokens(["<|begin_of_text|>", "<|end_of_text|>", "<|finetune_right_pad_id|>", "<|eot_id|>"])
    t.post_processor = processors.TemplateProcessing(
        single="<|begin_of_text|> $A", pair="<|begin_of_text|> $A <|begin_of_text|> $B",
        special_tokens=[("<|begin_of_text|>", 380)])
    return t


def phi3_tokenizer(lines):
    """BPE as converted from SentencePiece: <unk> <s> </s>, 256 byte tokens, pieces in order of merit, characters.

    Every way to split a piece into two others is a merge, ranked by the merit of the piece, which is
    what merging by score does.
    """
    n_vocab = FAMILIES["phi3"][3]["vocab_size"]
    specials = ["<unk>", "<s>", "</s>"]
    trained = Tokenizer(models.BPE())
    trained.pre_tokenizer = pre_tokenizers.Metaspace()
    trained.train_from_iterator((line.strip() for line in lines), trainers.BpeTrainer(
        vocab_size=n_vocab - 3 - 256 - 1, limit_alphabet=40, show_progress=False))
    learnt = sorted(trained.get_vocab().items(), key=lambda item: item[1])
    chars = [p for p, _ in learnt if len(p) == 1]
    pieces = [p for p, _ in learnt if len(p) > 1]
    names = specials + [f"<0x{b:02X}>" for b in range(256)] + pieces + chars
    vocab = {p: i for i, p in enumerate(names)}
    assert len(vocab) == len(names) == n_vocab - 1
    merges = []
    for p in pieces:
        splits = [(p[:i], p[i:]) for i in range(1, len(p)) if p[:i] in vocab and p[i:] in vocab]
        merges += sorted(splits, key=lambda s: (vocab[s[0]], vocab[s[1]]))
    t = Tokenizer(models.BPE(vocab=vocab, merges=merges, unk_token="<unk>", fuse_unk=True, byte_fallback=True))
    t.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="always", split=False)
    t.decoder = decoders.Sequence([
        decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)])
    t.add_special_tokens(specials + ["<|end|>"])
    t.post_processor = processors.TemplateProcessing(
        single="<s> $A", pair="<s> $A <s> $B", special_tokens=[("<s>", 1)])
    return t


def main():
    torch.use_deterministic_algorithms(True)
    torch.set_num_threads(1)
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    for name in sys.argv[2:] or FAMILIES:
        make(name)
    if sys.argv[2:]:
        return
    lines = corpus_lines(sys.argv[1])
    for name, train in (("llama", llama_tokenizer), ("phi3", phi3_tokenizer)):
        t = train(lines)
        assert t.get_vocab_size() == FAMILIES[name][3]["vocab_size"], t.get_vocab_size()
        sample = "The king's daughter said:  \"Où est-il?\"\n\t12345 birds 🐦!"
        ids = t.encode(sample).ids
        assert t.decode(ids) == sample, t.decode(ids)
        t.save(str(TINY / name / "tokenizer.json"))


if __name__ == "__main__":
    main()
