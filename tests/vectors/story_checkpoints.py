#!/usr/bin/env python3
"""The bundled model in every format that a reference package can write, one directory a format: WORK/<format>/.

    python story_checkpoints.py bnb|mlx|gptq|awq|ct|fp8|modelopt|hqq|gguf WORK [libggml-base.so]

Every linear layer of models/story-6m is quantized by the package (rounded to nearest where it only packs), embedding,
head and norms stay as they are. expected.bin as tiny_models.py writes it: the logits of transformers in float32, with
every quantized weight replaced by what the package decodes, on the first 128 tokens of the held-out text. Nothing is
committed; `make proof STORY=WORK` makes the table of docs/formats.md of it.

gguf: the quantizers and decoders of ggml itself (a llama.cpp built with shared libraries), through ctypes. The types
below three bits need an importance: the mean squares of each layer's inputs over 2048 tokens of the model's own text.
"""
import ctypes
import json
import pathlib
import shutil
import struct
import sys

import numpy as np
import torch
import transformers
from safetensors.torch import load_file, save_file

from tiny_models import load, logits_of

HERE = pathlib.Path(__file__).resolve().parent
STORY = HERE.parents[1] / "models" / "story-6m"
TEXT = HERE.parent / "data" / "heldout-100k.txt"
N_TOKENS = 128


def write_expected(target, decoded):
    """decoded: {"model.layers.0.mlp.up_proj": float32 [N, K]}"""
    model = load(STORY)
    for name, w in decoded.items():
        module = model.get_submodule(name)
        assert module.weight.shape == w.shape and not torch.equal(module.weight, w), name
        module.weight = torch.nn.Parameter(w.float())
    tokenizer = transformers.AutoTokenizer.from_pretrained(STORY)
    ids = np.array(tokenizer(TEXT.read_text(encoding="utf-8")[:4000])["input_ids"][:N_TOKENS], "<i4")
    logits = logits_of(model, ids.tolist()).astype("<f4")
    (target / "expected.bin").write_bytes(struct.pack("<2I", *logits.shape) + ids.tobytes() + logits.tobytes())
    print(target.name, flush=True)


def fresh(work, name):
    target = work / name
    shutil.rmtree(target, ignore_errors=True)
    target.mkdir(parents=True)
    return target


def packed(work, name, pack, config, file="config.json", drop=()):
    """pack(module, w float32 [N][K]): the parts of a linear layer, and "<module>.expected"."""
    target, tensors, decoded = fresh(work, name), {}, {}
    for file_name in ("config.json", "tokenizer.json", "tokenizer_config.json", "generation_config.json"):
        shutil.copy(STORY / file_name, target)
    for key, w in load_file(STORY / "model.safetensors").items():
        module = key.rsplit(".", 1)[0]
        if module.endswith("proj"):
            parts = pack(module, w.float())
            decoded[module] = parts.pop(f"{module}.expected").float()
            tensors |= {k: v.contiguous().clone() for k, v in parts.items()}
        else:
            tensors[key] = w
    save_file(tensors, target / "model.safetensors", metadata={"format": "pt"})
    settings = json.loads((target / "config.json").read_text())
    if file == "config.json":
        settings |= config
    else:
        (target / file).write_text(json.dumps(config) + "\n")
    (target / "config.json").write_text(json.dumps(settings, indent=1, default=str) + "\n")
    write_expected(target, decoded)


def bnb(work):
    import make_bnb
    from make_bnb import F
    for kind in ("nf4", "fp4"):
        def four(module, w, kind=kind):
            data, state = F.quantize_4bit(w.bfloat16(), blocksize=64, compress_statistics=True, quant_type=kind)
            absmax = F.dequantize_blockwise(state.absmax, state.state2).float() + state.offset
            full = make_bnb._dequantize_4bit_compute(data.view(torch.uint8).reshape(-1), absmax, state.code, 64,
                                                     tuple(w.shape), torch.float32)
            return make_bnb.parts(module, data, state) | {f"{module}.expected": full.reshape(w.shape)}
        packed(work, kind, four, {"quantization_config": {
            "quant_method": "bitsandbytes", "load_in_4bit": True, "bnb_4bit_quant_type": kind}})

    def eight(module, w):
        q, scb, _ = F.int8_vectorwise_quant(w.half())
        return {f"{module}.weight": q, f"{module}.SCB": scb, f"{module}.weight_format": torch.zeros((), dtype=torch.uint8),
                f"{module}.expected": F.int8_vectorwise_dequant(q, scb)}
    packed(work, "bnb_int8", eight, {"quantization_config": {"quant_method": "bitsandbytes", "load_in_8bit": True}})


def mlx(work):
    import mlx.core as mx

    def torch_of(a):
        wide = a.astype(mx.float32) if a.dtype == mx.bfloat16 else a
        t = torch.from_numpy(np.array(wide))
        return t.bfloat16() if a.dtype == mx.bfloat16 else t

    def one(name, **how):
        def pack(module, w):
            parts = mx.quantize(mx.array(w.numpy()).astype(mx.bfloat16), **how)
            wide = [p.astype(mx.float32) if p.dtype == mx.bfloat16 else p for p in parts]
            out = {f"{module}.{s}": torch_of(p) for s, p in zip(("weight", "scales", "biases"), parts)}
            return out | {f"{module}.expected": torch_of(mx.dequantize(*wide, **how, dtype=mx.float32))}
        packed(work, name, pack, {"quantization": how, "quantization_config": how})
    for bits in (1, 2, 3, 4, 5, 6, 8):
        one(f"mlx{bits}", group_size=64, bits=bits)
    for mode, group, bits in (("mxfp4", 32, 4), ("nvfp4", 16, 4), ("mxfp8", 32, 8)):
        one(f"mlx_{mode}", group_size=group, bits=bits, mode=mode)


def gptq(work):
    from make_gptq import FORMAT, config, module as gptq_module
    for bits in (2, 3, 4, 5, 6, 7, 8):
        fmt = FORMAT.GPTQ_P if bits in (5, 6, 7) else FORMAT.GPTQ
        packed(work, f"gptq{bits}",
               lambda name, w: gptq_module(name, *w.shape, bits, 128, True, None, fmt, seed=1, w=w),
               {"quantization_config": config(bits, 128, True, "gptq_p" if bits in (5, 6, 7) else "gptq")})


def awq(work):
    import make_awq

    def on_grid(w, group, sym):
        """scales, zeros [N][G], what they make of w, and a Linear of that"""
        part = w.reshape(w.shape[0], -1, group)
        low, high = part.amin(2).clamp(max=0), part.amax(2).clamp(min=0)
        s = (part.abs().amax(2) / 7.5 if sym else (high - low) / 15).half().float()
        z = torch.full_like(s, 8) if sym else torch.round(-low / s).clamp(0, 15)
        wide = lambda x: x.repeat_interleave(group, 1)
        q = torch.clamp(torch.round(w / wide(s)) + wide(z), 0, 15)
        lin = torch.nn.Linear(w.shape[1], w.shape[0], bias=False)
        lin.weight.data = (q - wide(z)) * wide(s)
        return s, z, q, lin

    @torch.no_grad()
    def gemv(module, w):
        s, z, _, lin = on_grid(w, 128, False)
        m = make_awq.WQLinear_GEMV.from_linear(lin, 4, 128, scales=s, zeros=z)
        return make_awq.buffers(module, m) | {f"{module}.expected": lin.weight.data}

    @torch.no_grad()
    def fast(module, w):
        s, z, q, lin = on_grid(w, 128, False)
        m = make_awq.WQLinear_GEMVFast.from_linear(lin, 4, 128, scales=s, zeros=z)
        wide = lambda x: x[: w.shape[1] // 128].T.float().repeat_interleave(128, 1)
        return make_awq.buffers(module, m) | {f"{module}.expected": q * wide(m.scales) + wide(m.qzeros)}

    @torch.no_grad()
    def marlin(module, w):
        s, _, _, lin = on_grid(w, 128, True)
        m = make_awq.WQLinear_Marlin.from_linear(lin, 4, 128, scales=s, zeros=None)
        return make_awq.buffers(module, m) | {f"{module}.expected": lin.weight.data}

    packed(work, "awq4", lambda name, w: make_awq.rounded(name, w, 128), make_awq.config(4, 128, "gemm"))
    packed(work, "awq4_gemv", gemv, make_awq.config(4, 128, "gemv"))
    packed(work, "awq4_gemv_fast", fast, make_awq.config(4, 128, "gemv_fast"))
    packed(work, "marlin4", marlin, make_awq.config(4, 128, "marlin", zero_point=False))


def ct(work):
    import make_ct

    def one(name, fmt, factor=None, **how):
        def pack(module, w):
            return make_ct.compress(module, fmt, *w.shape, 0, torch.bfloat16, factor and factor / w.abs().max().item(),
                                    w=w, **how)
        packed(work, name, pack, {"quantization_config": {
            **make_ct.config(g0=make_ct.group(["Linear"], fmt, **how)), "format": fmt}})
    for bits in range(2, 9):
        one(f"ct_pack{bits}", "pack-quantized", num_bits=bits, type="int", strategy="group", group_size=128,
            symmetric=True)
    one("ct_int8", "int-quantized", num_bits=8, type="int", strategy="channel", symmetric=True)
    one("ct_int8_asym", "int-quantized", num_bits=8, type="int", strategy="channel", symmetric=False)
    one("ct_nvfp4", "nvfp4-pack-quantized", 448 * 6, num_bits=4, type="float", strategy="tensor_group", group_size=16,
        symmetric=True)
    mx = dict(type="float", strategy="group", group_size=32, symmetric=True, scale_dtype=torch.uint8)
    one("ct_mxfp4", "mxfp4-pack-quantized", num_bits=4, **mx)
    one("ct_mxfp6", "mxfp6-pack-quantized", num_bits=6, **mx)


def fp8(work):
    kinds = {"e4m3": torch.float8_e4m3fn, "e5m2": torch.float8_e5m2, "e4m3fnuz": torch.float8_e4m3fnuz,
             "e5m2fnuz": torch.float8_e5m2fnuz}

    def one(name, dtype):
        def pack(module, w, b=128):  # both sizes of this model are multiples
            n, k = w.shape
            scale = w.reshape(n // b, b, k // b, b).abs().amax((1, 3)) / torch.finfo(dtype).max
            full = scale.repeat_interleave(b, 0).repeat_interleave(b, 1)
            q = (w / full).to(dtype)
            return {f"{module}.weight": q, f"{module}.weight_scale_inv": scale, f"{module}.expected": q.float() * full}
        packed(work, f"fp8_{name}", pack, {"quantization_config": {
            "quant_method": "fp8", "activation_scheme": "dynamic", "fmt": name, "weight_block_size": [128, 128]}})
    for name, dtype in kinds.items():
        one(name, dtype)


def modelopt(work):
    import make_modelopt
    packed(work, "modelopt_nvfp4", lambda name, w: make_modelopt.part(name, *w.shape, 0, w=w), {
        "producer": {"name": "modelopt", "version": "0.47.0"},
        "quantization": {"quant_algo": "NVFP4", "kv_cache_quant_algo": None, "group_size": 16,
                         "exclude_modules": ["lm_head"]}}, "hf_quant_config.json")


def hqq(work):
    import make_hqq
    from hqq.core.quantize import BaseQuantizeConfig, HQQLinear

    def pack(bits):
        def one(module, w):
            linear = torch.nn.Linear(w.shape[1], w.shape[0], bias=False)
            linear.weight.data = w
            m = HQQLinear(linear, BaseQuantizeConfig(nbits=bits, group_size=64, axis=1), compute_dtype=torch.bfloat16,
                          device="cpu")
            return make_hqq.encoded(module, m) | {f"{module}.expected": make_hqq.expected(m)}
        return one
    for bits in (1, 2, 3, 4, 8):
        packed(work, f"hqq{bits}", pack(bits), {
            "quantization_config": transformers.HqqConfig(nbits=bits, group_size=64, axis=1).to_dict()})


# ---------------------------------------------------------------- GGUF

TYPES = ("q4_0 q4_1 q5_0 q5_1 q8_0 q2_k q3_k q4_k q5_k q6_k iq1_s iq1_m iq2_xxs iq2_xs iq2_s iq3_xxs iq3_s iq4_nl iq4_xs "
         "tq1_0 tq2_0 q1_0 q2_0 mxfp4 nvfp4")
TO_FLOAT = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int64)


class Traits(ctypes.Structure):
    _fields_ = [("type_name", ctypes.c_char_p), ("blck_size", ctypes.c_int64), ("blck_size_interleave", ctypes.c_int64),
                ("type_size", ctypes.c_size_t), ("is_quantized", ctypes.c_bool), ("to_float", TO_FLOAT)]


@torch.no_grad()
def importance():
    model, sums, hooks = load(STORY), {}, []
    for name, module in model.named_modules():
        if name.endswith("proj"):
            def hook(_, inputs, name=name):
                x = inputs[0].reshape(-1, inputs[0].shape[-1])
                sums[name] = sums.get(name, 0) + (x * x).sum(0)
            hooks.append(hook)
            module.register_forward_pre_hook(hook)
    torch.manual_seed(1)
    for _ in range(4):
        model.generate(torch.tensor([[0]]), do_sample=True, max_length=512, min_length=512, pad_token_id=0)
    return {name: (s / s.mean()).float().contiguous() for name, s in sums.items()}


def gguf(work):
    import make_gguf
    from gguf import GGMLQuantizationType
    lib = ctypes.CDLL(sys.argv[3])
    lib.ggml_get_type_traits.restype = ctypes.POINTER(Traits)
    lib.ggml_quantize_chunk.restype = ctypes.c_size_t
    lib.ggml_quantize_chunk.argtypes = [ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int64, ctypes.c_int64,
                                        ctypes.c_int64, ctypes.c_void_p]
    weigh = importance()
    for name in TYPES.split():
        kind, target, decoded = GGMLQuantizationType[name.upper()], fresh(work, name), {}
        traits = lib.ggml_get_type_traits(int(kind)).contents

        def matrix(module, w, n_head):
            """The matrix of a linear layer in its GGUF order: its blocks and their type."""
            if not module.endswith("proj"):
                return None
            n, k = w.shape
            raw = np.zeros((n, k // traits.blck_size * traits.type_size), np.uint8)
            size = lib.ggml_quantize_chunk(int(kind), w.ctypes.data, raw.ctypes.data, 0, n, k,
                                           weigh[module].numpy().ctypes.data)
            assert size == raw.size, (size, raw.size)
            out = np.empty((n, k), np.float32)
            for row in range(n):
                traits.to_float(raw[row].ctypes.data, out[row].ctypes.data, k)
            if n_head:  # back from adjacent pairs
                out = out.reshape(n_head, n // n_head // 2, 2, k).swapaxes(1, 2).reshape(n, k)
            decoded[module] = torch.from_numpy(out.copy())
            return raw, kind
        make_gguf.convert(STORY, target / "model.gguf", matrix)
        write_expected(target, decoded)


def main():
    torch.set_num_threads(1)
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    globals()[sys.argv[1]](pathlib.Path(sys.argv[2]))


if __name__ == "__main__":
    main()
