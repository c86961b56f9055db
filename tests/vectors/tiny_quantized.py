#!/usr/bin/env python3
"""A tiny random llama as quantization packages write it, with logits: tiny/<family>-<what>/.

    python tiny_quantized.py bnb|mlx|mlx-lm|gptq|awq|ct|modelopt|hqq [WORK]

One layer of the llama of tiny_models.py, or of another family (two of DeepSeek-V3: one is dense), with 128 tokens of vocabulary (so that a directory stays below 100 KB), seeded
alike for all families. expected.bin as tiny_models.py writes it, 24 positions: the logits of transformers in float32
with every quantized weight replaced by what the package dequantizes it to. What a package does to activations is no
property of its checkpoint and is left out.

bnb   from_pretrained with BitsAndBytesConfig on the CPU, then save_pretrained
gptq  gptqmodel's packer (make_gptq.py) on weights rounded to nearest: no calibration, the same files
awq   autoawq's packer (make_awq.py) likewise
ct    compressed-tensors' compressors on scales of the extremes (make_ct.py); fp8-block*: blocks that transformers reads
modelopt  NVFP4QTensor (make_modelopt.py)
hqq   hqq-3-pt: AutoHQQHFModel.quantize_model and save_quantized; hqq-4: HQQLinear's encoded state_dict under HqqConfig, the
      files of transformers 4 (5 writes none: "not available yet")
mlx   mlx.core.quantize of what mlx-lm's predicate takes: embeddings and linear layers whose columns the group divides
mlx-lm  its load_model, quantize_model and save_model: experts as stacks, DeepSeek's keys and values of the heads as two
"""
import json
import pathlib
import shutil
import struct
import sys
import tempfile

import numpy as np
import torch
import transformers

from safetensors.torch import load_file, save_file
from tiny_models import FAMILIES, TINY, initialise, load, logits_of, old_rope_keys, pack_experts

N_TOKENS = 24
# A DeepSeek-V3 whose every row 32 divides.
SPARSE_LATENT = dict(num_hidden_layers=2, intermediate_size=32, hidden_size=64, moe_intermediate_size=32, q_lora_rank=32,
                     kv_lora_rank=32, qk_nope_head_dim=32, qk_rope_head_dim=32, v_head_dim=32, n_routed_experts=4,
                     n_group=2, topk_group=1, num_experts_per_tok=2)
LATENT_NAMES = ("proj", "kv_a_proj_with_mqa")


def base(directory, family="llama", **changes):
    settings = {**FAMILIES[family][3], "num_hidden_layers": 1, "vocab_size": 128, "bos_token_id": 1,
                "eos_token_id": 2, "pad_token_id": None, **changes}
    if settings.get("head_dim", 0) is None:
        del settings["head_dim"]
    config = getattr(transformers, FAMILIES[family][0])(**settings)
    model = transformers.AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16)
    initialise(model, 31)
    model.save_pretrained(directory)
    return settings["vocab_size"]


def write_expected(source, target, vocab, dequantized, limit=100_000):
    """dequantized: {"model.layers.0.mlp.up_proj": float32 [N, K]}, or parameters by their own name"""
    tensors = {name: w.float() for name, w in load_file(source / "model.safetensors").items()}
    for name, w in dequantized.items():
        key = name if name in tensors else f"{name}.weight"
        assert tensors[key].shape == w.shape and not torch.equal(tensors[key], w), name
        tensors[key] = w.contiguous()
    with tempfile.TemporaryDirectory() as whole:
        shutil.copy(source / "config.json", whole)
        save_file(tensors, pathlib.Path(whole) / "model.safetensors", metadata={"format": "pt"})
        model = load(whole)
    ids = np.random.default_rng(5).integers(0, vocab, N_TOKENS).astype("<i4")
    ids[:2] = 0, vocab - 1
    logits = logits_of(model, ids.tolist())
    (target / "expected.bin").write_bytes(struct.pack("<II", N_TOKENS, vocab) + ids.tobytes() +
                                          logits.astype("<f4").tobytes())
    size = sum(p.stat().st_size for p in target.iterdir())
    assert size < limit, size
    print(target.name, len(dequantized), "quantized,", size, "bytes")


def fresh(name):
    target = TINY / name
    shutil.rmtree(target, ignore_errors=True)
    target.mkdir()
    return target


# ---------------------------------------------------------------- bitsandbytes


def bnb_weight(module):
    import bitsandbytes as bnb
    from bitsandbytes.backends.default.ops import _dequantize_4bit_compute
    w = module.weight
    if isinstance(module, bnb.nn.Linear8bitLt):
        return bnb.functional.int8_vectorwise_dequant(w.data, w.SCB if w.SCB is not None else module.state.SCB)
    s = w.quant_state
    absmax = s.absmax
    if s.nested:
        absmax = bnb.functional.dequantize_blockwise(absmax, s.state2).float() + s.offset
    packed = w.data.view(torch.uint8).reshape(-1)
    return _dequantize_4bit_compute(packed, absmax.float(), s.code, s.blocksize, tuple(s.shape), torch.float32)


def bnb(work):
    import bitsandbytes
    config = transformers.BitsAndBytesConfig
    vocab = base(work / "base")
    for name, how in {
            "bnb-nf4": config(load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_use_double_quant=True),
            "bnb-int8": config(load_in_8bit=True)}.items():
        target = fresh(name)
        model = transformers.AutoModelForCausalLM.from_pretrained(work / "base", quantization_config=how,
                                                                  device_map="cpu", dtype=torch.bfloat16)
        model.save_pretrained(target)
        (target / "generation_config.json").unlink(missing_ok=True)
        kinds = bitsandbytes.nn.Linear4bit, bitsandbytes.nn.Linear8bitLt
        found = {path: bnb_weight(m).reshape(m.out_features, m.in_features)
                 for path, m in model.named_modules() if isinstance(m, kinds)}
        assert len(found) == 7
        write_expected(work / "base", target, vocab, found)


# ---------------------------------------------------------------- MLX


def mlx(work):
    import mlx.core as mx
    untied, tied = work / "untied", work / "tied"
    vocab = base(untied)
    base(tied, tie_word_embeddings=True)
    q = "model.layers.0."
    for name, source, config in (
            ("mlx-4", untied, {"group_size": 64, "bits": 4}),
            ("mlx-mixed", tied, {"group_size": 32, "bits": 3, "mode": "affine", q + "self_attn.k_proj": False,
                                 q + "self_attn.v_proj": {"group_size": 64, "bits": 6},
                                 q + "self_attn.q_proj": {"group_size": 32, "bits": 2},
                                 q + "self_attn.o_proj": {"group_size": 64, "bits": 5},
                                 q + "mlp.down_proj": {"group_size": 32, "bits": 8},
                                 "model.embed_tokens": {"group_size": 32, "bits": 6}}),
            ("mlx-mxfp4", untied, {"group_size": 32, "bits": 4, "mode": "mxfp4",
                                   "lm_head": {"group_size": 64, "bits": 8},
                                   q + "mlp.up_proj": {"group_size": 16, "bits": 4, "mode": "nvfp4"},
                                   q + "mlp.gate_proj": {"group_size": 32, "bits": 8, "mode": "mxfp8"}})):
        target, tensors, found = fresh(name), {}, {}
        for key, w in mx.load(str(source / "model.safetensors")).items():
            module, kind = key.rsplit(".", 1)
            how = config.get(module, {k: config[k] for k in ("group_size", "bits", "mode") if k in config})
            if w.ndim != 2 or not how or w.shape[1] % how["group_size"]:
                tensors[key] = w
                continue
            parts = mx.quantize(w, **how)
            for suffix, part in zip(("weight", "scales", "biases"), parts):
                tensors[f"{module}.{suffix}"] = part
            wide = [p.astype(mx.float32) if p.dtype == mx.bfloat16 else p for p in parts]
            found[module] = torch.tensor(np.array(mx.dequantize(*wide, **how, dtype=mx.float32)))
        mx.save_safetensors(str(target / "model.safetensors"), tensors, metadata={"format": "mlx"})
        settings = json.loads((source / "config.json").read_text())
        settings["quantization"] = settings["quantization_config"] = config
        (target / "config.json").write_text(json.dumps(settings, indent=2) + "\n")
        write_expected(source, target, vocab, found)


def published(name, w, tensors):
    """Names and shapes that Hugging Face has for what mlx-lm calls `name`."""
    front, _, part = name.rpartition(".")
    if part == "embed_q":  # keys turned around, beside the values of the same heads
        both = torch.cat([w.swapaxes(1, 2), tensors[f"{front}.unembed_out"]], dim=1)
        return {f"{front}.kv_b_proj": both.reshape(-1, both.shape[2])}
    if part == "unembed_out":
        return {}
    if front.endswith("switch_mlp") and f"{front.removesuffix('.switch_mlp')}.router.layer" in tensors:  # Granite
        front = front.removesuffix("switch_mlp")
        if part == "gate_proj":
            return {f"{front}input_linear": torch.cat([w, tensors[f"{front}switch_mlp.up_proj"]], dim=1)}
        return {f"{front}output_linear": w} if part == "down_proj" else {}
    if front.endswith("switch_mlp"):
        one = {"gate_proj": "w1", "up_proj": "w3", "down_proj": "w2"}[part] if "block_sparse_moe" in front else part
        return {f"{front.removesuffix('switch_mlp')}experts.{e}.{one}": x for e, x in enumerate(w)}
    if front.endswith("mlp.experts"):  # gpt-oss
        if part == "down_proj":
            return {name: w.swapaxes(1, 2)}
        if part == "up_proj":
            return {}
        rows = torch.stack([w, tensors[f"{front}.up_proj"]], dim=2).reshape(w.shape[0], -1, w.shape[2])
        return {f"{front}.gate_up_proj": rows.swapaxes(1, 2)}
    return {name: w}


def mlx_lm(work):
    import mlx.core as mx
    from mlx_lm.utils import load_model, quantize_model, save_config, save_model
    wide = dict(hidden_size=64, vocab_size=96)
    for name, family, bits, changes in (
            ("mlx-lm-qwen3-moe", "qwen3_moe", 4, dict(moe_intermediate_size=32)),
            ("mlx-lm-mixtral", "mixtral", 3, dict(intermediate_size=32)),
            ("mlx-lm-phimoe", "phimoe", 4, dict(intermediate_size=32)),
            ("mlx-lm-granitemoe", "granitemoe", 4, dict(intermediate_size=64, num_local_experts=4)),
            ("mlx-lm-gpt-oss", "gpt_oss", 8, dict(num_hidden_layers=2)),
            ("mlx-lm-deepseek", "deepseek_v3", 4, SPARSE_LATENT)):
        source, target = work / name, fresh(name)
        vocab = base(source, family, **{**wide, **changes})
        old_rope_keys(source / "config.json")
        settings = json.loads((source / "config.json").read_text())
        if family == "qwen3_moe":  # whose published configurations say so
            settings["num_experts"] = settings.pop("num_local_experts")
            (source / "config.json").write_text(json.dumps(settings))
        plain = source
        if family == "gpt_oss":
            plain = work / "plain"
            shutil.copytree(source, plain)
            pack_experts(source, 1)
        model, config = load_model(source)
        model, config = quantize_model(model, config, 32, bits)
        save_model(target, model)
        save_config(config, target / "config.json")
        for extra in ("model.safetensors.index.json", "README.md"):
            (target / extra).unlink(missing_ok=True)
        tensors, found = mx.load(str(target / "model.safetensors")), {}
        for key in [k for k in tensors if k.endswith(".scales")]:
            module, how = key.removesuffix(".scales"), config["quantization"]
            how = how.get(module, {k: how[k] for k in ("group_size", "bits", "mode")})
            parts = [tensors[f"{module}.{s}"] for s in ("weight", "scales", "biases") if f"{module}.{s}" in tensors]
            parts = [p.astype(mx.float32) if p.dtype == mx.bfloat16 else p for p in parts]
            found[module] = torch.tensor(np.array(mx.dequantize(*parts, **how, dtype=mx.float32)))
        out = {}
        for module, w in found.items():
            out.update(published(module, w, found))
        write_expected(plain, target, vocab, out)


# ---------------------------------------------------------------- GPTQ, AWQ


def packed(source, target, vocab, config, pack, names=("proj",), limit=100_000):
    """pack(module, w float32 [N][K]) gives the parts of a linear layer and "<module>.expected"."""
    tensors, found = {}, {}
    for key, w in load_file(source / "model.safetensors").items():
        module = key.rsplit(".", 1)[0]
        if not module.endswith(names):
            tensors[key] = w
            continue
        parts = pack(module, w.float())
        found[module] = parts.pop(f"{module}.expected")
        tensors.update({k: v.contiguous() for k, v in parts.items()})
    save_file(tensors, target / "model.safetensors", metadata={"format": "pt"})
    settings = json.loads((source / "config.json").read_text())
    settings["quantization_config"] = config
    (target / "config.json").write_text(json.dumps(settings, indent=2) + "\n")
    write_expected(source, target, vocab, found, limit)


def gptq(work):
    from make_gptq import FORMAT, config, module
    vocab = base(work / "base")
    base(work / "phi3", "phi3", vocab_size=336)

    def pack(bits, sym, fmt, order=None):
        def one(name, w):
            seed = sum(name.replace("up", "gate").encode())  # gate and up share an order, q, k and v do not
            return module(name, *w.shape, bits, 32, sym, order, fmt, seed=seed, w=w)
        return one
    v1, v2 = FORMAT.GPTQ, FORMAT.GPTQ_V2
    packed(work / "base", fresh("gptq-4"), vocab, config(4, 32, True, "gptq"), pack(4, True, v1))
    packed(work / "base", fresh("gptq-4-order"), vocab, {**config(4, 32, False, "gptq_v2"), "desc_act": True},
           pack(4, False, v2, "act"))
    packed(work / "base", fresh("gptq-3"), vocab, config(3, 32, False, "gptq"), pack(3, False, v1))
    packed(work / "base", fresh("gptq-8"), vocab, {**config(8, 32, True, "gptq"), "lm_head": True},
           pack(8, True, v1), ("proj", "lm_head"))
    base(work / "deepseek", "deepseek_v3", **SPARSE_LATENT)
    packed(work / "deepseek", fresh("gptq-4-deepseek"), 128, config(4, 32, True, "gptq"), pack(4, True, v1),
           LATENT_NAMES, 220_000)
    target = fresh("gptq-4-phi3")
    shutil.copy(TINY / "phi3" / "tokenizer.json", target)
    packed(work / "phi3", target, 336, config(4, 32, True, "gptq"), pack(4, True, v1), limit=220_000)


def awq(work):
    import make_awq
    vocab = base(work / "base")
    target = fresh("awq-4")
    packed(work / "base", target, vocab, make_awq.config(4, 32, "gemm", modules_to_not_convert=None)
           ["quantization_config"], lambda name, w: make_awq.rounded(name, w, 32))


# ---------------------------------------------------------------- compressed-tensors, FP8, ModelOpt


def ct(work):
    import make_ct
    from transformers.integrations.finegrained_fp8 import _dequantize_fp8_weight
    vocab = base(work)

    def one(name, fmt, dtype=torch.bfloat16, **how):
        def pack(module, w):
            factor = 448 * 6 / w.abs().max().item() if "nvfp4" in fmt else None
            return make_ct.compress(module, fmt, *w.shape, 0, dtype, factor, w=w, **how)
        group = {k: v for k, v in how.items() if not isinstance(v, torch.dtype)}
        packed(work, fresh(name), vocab, {**make_ct.config(g0=make_ct.group(["Linear"], fmt, **group)), "format": fmt},
               pack)

    one("ct-w4a16", "pack-quantized", num_bits=4, type="int", strategy="group", group_size=32, symmetric=False)
    one("ct-w8a8", "int-quantized", num_bits=8, type="int", strategy="channel", symmetric=True)
    one("ct-fp8", "float-quantized", num_bits=8, type="float", strategy="channel", symmetric=True)
    one("ct-nvfp4", "nvfp4-pack-quantized", num_bits=4, type="float", strategy="tensor_group", group_size=16,
        symmetric=True)

    def blocks(module, w, b=48):  # 48 divides no matrix here
        n, k = w.shape
        tall, wide = -(-n // b), -(-k // b)
        scale = torch.nn.functional.pad(w, (0, wide * b - k, 0, tall * b - n)).reshape(tall, b, wide, b)
        scale = scale.abs().amax((1, 3)) / 448
        full = scale.repeat_interleave(b, 0)[:n].repeat_interleave(b, 1)[:, :k]
        q = (w / full).to(torch.float8_e4m3fn)
        return {f"{module}.weight": q, f"{module}.weight_scale_inv": scale,
                f"{module}.expected": _dequantize_fp8_weight(q, scale, [b, b], torch.float32)}
    packed(work, fresh("fp8-block"), vocab, {"quant_method": "fp8", "activation_scheme": "dynamic", "fmt": "e4m3",
                                             "weight_block_size": [48, 48], "modules_to_not_convert": ["lm_head"]},
           blocks)
    base(work / "deepseek", "deepseek_v3", num_hidden_layers=2)
    packed(work / "deepseek", fresh("fp8-block-deepseek"), vocab, {
        "quant_method": "fp8", "activation_scheme": "dynamic", "fmt": "e4m3", "weight_block_size": [20, 20]},
           lambda module, w: blocks(module, w, 20), LATENT_NAMES)


def modelopt(work):
    import make_modelopt
    vocab = base(work)
    target = fresh("modelopt-nvfp4")
    packed(work, target, vocab, None, lambda name, w: make_modelopt.part(name, *w.shape, 0, w=w))
    settings = json.loads((target / "config.json").read_text())
    settings.pop("quantization_config")
    (target / "config.json").write_text(json.dumps(settings, indent=2) + "\n")
    (target / "hf_quant_config.json").write_text(json.dumps({
        "producer": {"name": "modelopt", "version": "0.47.0"},
        "quantization": {"quant_algo": "NVFP4", "kv_cache_quant_algo": None, "group_size": 16,
                         "exclude_modules": ["lm_head"]}}, indent=2) + "\n")


# ---------------------------------------------------------------- HQQ


def hqq(work):
    import make_hqq
    from hqq.core.quantize import BaseQuantizeConfig, HQQLinear
    from hqq.models.hf.base import AutoHQQHFModel
    vocab = base(work)
    target = fresh("hqq-3-pt")
    model = transformers.AutoModelForCausalLM.from_pretrained(work, dtype=torch.bfloat16)
    AutoHQQHFModel.quantize_model(model, BaseQuantizeConfig(nbits=3, group_size=64, axis=0), torch.bfloat16, "cpu")
    AutoHQQHFModel.save_quantized(model, str(target))
    found = {path: make_hqq.expected(m) for path, m in model.named_modules() if isinstance(m, HQQLinear)}
    assert len(found) == 7
    write_expected(work, target, vocab, found)

    def pack(module, w):
        linear = torch.nn.Linear(w.shape[1], w.shape[0], bias=False)
        linear.weight.data = w
        m = HQQLinear(linear, BaseQuantizeConfig(nbits=4, group_size=64, axis=1), compute_dtype=torch.bfloat16,
                      device="cpu")
        return {**make_hqq.encoded(module, m), f"{module}.expected": make_hqq.expected(m)}
    packed(work, fresh("hqq-4"), vocab, transformers.HqqConfig(nbits=4, group_size=64, axis=1).to_dict(), pack)


def main():
    torch.set_num_threads(1)
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    work = pathlib.Path(sys.argv[2] if len(sys.argv) > 2 else tempfile.mkdtemp())
    {"bnb": bnb, "mlx": mlx, "mlx-lm": mlx_lm, "gptq": gptq, "awq": awq, "ct": ct, "modelopt": modelopt, "hqq": hqq}[sys.argv[1]](work)


if __name__ == "__main__":
    main()
