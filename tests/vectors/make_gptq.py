#!/usr/bin/env python3
"""GPTQ matrices as gptqmodel packs them, and what it decodes them to: checkpoints/gptq*/.

    python make_gptq.py

Weights are rounded to nearest on a min-max grid, packed by TorchLinear.pack_block, written as v1 through
convert_gptq_v2_to_v1_format_module where the folder says so, read back through the v1 to v2 conversion and
decoded by dequantize_weight in float32. Modules "random_*" have random words, scales and groups.
"""
import json
import pathlib
import shutil

import numpy as np
import torch
from safetensors.torch import save_file

from gptqmodel.nn_modules.qlinear.torch import TorchLinear
from gptqmodel.quantization.config import FORMAT
from gptqmodel.utils.model import convert_gptq_v1_to_v2_format_module, convert_gptq_v2_to_v1_format_module

ROOT = pathlib.Path(__file__).resolve().parent / "checkpoints"
PARTS = ("qweight", "qzeros", "scales", "g_idx")


def linear(bits, n, k, group, sym, desc_act, fmt):
    m = TorchLinear(bits=bits, group_size=32 if group == 24 else group, sym=sym, desc_act=desc_act, in_features=k, out_features=n, bias=False,
                    register_buffers=True, format=fmt)
    m.dequant_dtype = torch.int32 if bits == 8 else m.dequant_dtype  # int8 would lose the eighth bit
    m.optimized = True
    return m


def grid(w, g_idx, groups, bits, sym):
    """scales, zeros [N][G]"""
    top = 2 ** bits - 1
    scales, zeros = torch.empty(w.shape[0], groups), torch.empty(w.shape[0], groups)
    for g in range(groups):
        part = w[:, g_idx == g]
        if sym:
            s = (part.abs().amax(1) * 2 / top).clamp(min=1e-6)
            z = torch.full_like(s, (top + 1) // 2)
        else:
            low, high = part.amin(1).clamp(max=0), part.amax(1).clamp(min=0)
            s = ((high - low) / top).clamp(min=1e-6)
            z = torch.round(-low / s)
        scales[:, g], zeros[:, g] = s.half().float(), z
    return scales, zeros


@torch.no_grad()
def decode(m, k):
    """What a reader of v2 makes of the module's buffers, in float32: [N][K]"""
    m.scales = m.scales.float()
    out = m.dequantize_weight().T.contiguous()
    assert out.shape[1] == k
    return out


@torch.no_grad()
def module(name, n, k, bits, group, sym=True, order=None, fmt=FORMAT.GPTQ_V2, seed=0, half=torch.float16, bare=False,
           w=None):
    gen = torch.Generator().manual_seed(seed)
    if w is None:
        w = torch.randn(n, k, generator=gen) * 0.05 + 0.01
        w[0] = w[0].abs() + 0.02  # zero point 0
        w[n // 2] = w[n // 2].abs()
        w[-1] = -w[-1].abs()
    size = k if group == -1 else group
    groups = -(-k // size)
    g_idx = torch.arange(k) // size
    if order == "act":
        g_idx = g_idx[torch.randperm(k, generator=gen)]
    m = linear(bits, n, k, group, sym, order == "act", fmt)
    lin = torch.nn.Linear(k, n, bias=False)
    lin.weight.data = w
    scales, zeros = grid(w, g_idx, groups, bits, sym)
    m.pack_block(lin, scales, zeros, g_idx.int())
    m.scales = m.scales.to(half)
    if fmt == FORMAT.GPTQ:
        convert_gptq_v2_to_v1_format_module(m, m)  # the module answers for a config
    out = {f"{name}.{p}": getattr(m, p).clone() for p in PARTS if not (bare and p == "g_idx")}
    if fmt == FORMAT.GPTQ:
        convert_gptq_v1_to_v2_format_module(m, bits, torch.int32)
    out[f"{name}.expected"] = decode(m, k)
    error = (out[f"{name}.expected"] - w).abs().max()
    assert error < 0.6 * scales.max(), (name, error)
    return out


@torch.no_grad()
def random_module(name, n, k, bits, group, fmt, seed, g_idx=None, v1=False, half=torch.float16):
    """Any words at all, also shapes that the packer refuses but the decoder takes."""
    gen = torch.Generator().manual_seed(seed)
    size = k if group == -1 else group
    groups = -(-k // size)
    m = linear(bits, -(-n // 32) * 32, -(-k // 32) * 32, group, False, False, fmt)
    m.out_features, m.in_features = n, k
    words = lambda a, b: torch.randint(-2 ** 31, 2 ** 31, (a, b), generator=gen).int()
    m.qweight = words(-(-k * bits // 32), n)
    m.qzeros = words(groups, -(-n * bits // 32))
    m.scales = (torch.randn(groups, n, generator=gen) * 0.01).to(half)
    m.g_idx = torch.arange(k, dtype=torch.int32) // size if g_idx is None else g_idx.int()
    out = {f"{name}.{p}": getattr(m, p).clone() for p in PARTS}
    if v1:
        convert_gptq_v1_to_v2_format_module(m, bits, torch.int32)
    out[f"{name}.expected"] = decode(m, k)
    return out


def config(bits, group, sym, fmt, **more):
    return {"bits": bits, "group_size": group, "sym": sym, "desc_act": False, "quant_method": "gptq",
            "checkpoint_format": fmt, "meta": {"quantizer": ["gptqmodel:7.7.0"]}, **more}


def write(folder, tensors, quantization, file="config.json"):
    d = ROOT / folder
    shutil.rmtree(d, ignore_errors=True)
    d.mkdir(parents=True)
    save_file(tensors, str(d / "model.safetensors"))
    if file == "config.json":
        (d / file).write_text(json.dumps({"quantization_config": quantization}) + "\n")
    else:
        (d / "config.json").write_text("{}\n")
        (d / file).write_text(json.dumps(quantization) + "\n")


def error(name, text):
    return {f"{name}.error": torch.frombuffer(bytearray(text.encode()), dtype=torch.uint8)}


def main():
    v1, v2, planar = FORMAT.GPTQ, FORMAT.GPTQ_V2, FORMAT.GPTQ_P
    for bits in (2, 3, 4, 8):
        t = {}
        for version, v in (("v1", v1), ("v2", v2)):
            t |= module("sym", 32, 64, bits, 32, True, fmt=v, seed=1)
            t |= module("asym", 32, 128, bits, 64, False, fmt=v, seed=2)
            t |= module("order", 32, 96, bits, 32, False, "act", fmt=v, seed=3)
            t |= module("one", 32, 96, bits, -1, False, fmt=v, seed=4)
            t |= module("tail", 32, 96, bits, 64, False, fmt=v, seed=5, bare=True)
            t |= module("odd_group", 32, 96, bits, 24, False, fmt=v, seed=6)
            n = 32 if bits == 3 else 8 if bits == 2 else 9
            k = 64 if bits == 3 else 72
            t |= random_module("random_words", n, k, bits, 16, v, 7, v1=v is v1)
            dynamic = {r"+:^(asym|tail)$": {"group_size": 64}, r"+:^one$": {"group_size": -1, "sym": False},
                       r"odd_group": {"group_size": 24}, r"+:random.*": {"group_size": 16}}
            write(f"gptq{bits}-{version}", t, config(bits, 32, False, version == "v1" and "gptq" or "gptq_v2",
                                                     dynamic=dynamic))
    t = {}
    for bits in (2, 3, 4, 5, 6, 7, 8):
        t |= module(f"bits{bits}", 32, 64, bits, 32, bits % 2 == 0, fmt=planar, seed=10 + bits)
        t |= random_module(f"random{bits}", 32, 64, bits, 32, planar, 20 + bits)
    t |= module("order5", 32, 96, 5, 32, False, "act", fmt=planar, seed=31)
    t |= module("order3", 32, 96, 3, 32, False, "act", fmt=planar, seed=32)
    write("gptq-planar", t, config(4, 32, True, "gptq_p", dynamic={
        f"+:.*{b}$": {"bits": b} for b in (2, 3, 5, 6, 7, 8)}))

    # An index that is no order of equal groups, one without any order, bfloat16 scales.
    gen = torch.Generator().manual_seed(40)
    t = random_module("uneven", 16, 64, 4, 16, v2, 41, g_idx=torch.randint(0, 4, (64,), generator=gen))
    t |= random_module("bf16", 16, 64, 4, 16, v2, 42, half=torch.bfloat16)
    t |= random_module("f32", 16, 64, 4, 16, v2, 43, half=torch.float32)
    zeros = random_module("zero_index", 16, 64, 4, 16, v2, 44)
    zeros["zero_index.g_idx"] = torch.zeros(64, dtype=torch.int32)
    t |= zeros
    write("gptq-index", t, config(4, 16, False, "gptq_v2"))

    # Symmetric files that say the wrong version, or none, and that come without zeros. The older file names.
    t = module("calls_itself_v1", 32, 64, 4, 32, True, fmt=v2, seed=50)
    t |= module("is_v1", 32, 64, 4, 32, True, fmt=v1, seed=51)
    none = module("no_zeros", 32, 64, 4, 32, True, fmt=v1, seed=52)
    del none["no_zeros.qzeros"]
    write("gptq-no-version", t | none, {"bits": 4, "group_size": 32, "sym": True, "desc_act": True},
          "quantize_config.json")
    t = module("calls_itself_v2", 32, 64, 4, 32, True, fmt=v1, seed=53)
    write("gptq-wrong-version", t, {**config(4, 32, True, "gptq_v2"), "meta": {}})

    # v1 of another writer: the field itself, (stored + 1) mod 16.
    t = random_module("field", 16, 64, 4, 16, v2, 60)
    z = t["field.qzeros"].numpy().view(np.uint32)
    minus = sum(((((z >> 4 * i) & 15) - 1) & 15) << 4 * i for i in range(8)).astype(np.uint32)
    t["field.qzeros"] = torch.from_numpy(minus.view(np.int32).copy())
    write("gptq-fields", t, {**config(4, 16, False, "gptq"), "meta": {"quantizer": "autogptq:0.7"}})

    base = random_module("x", 16, 64, 4, 16, v2, 70)
    del base["x.expected"]
    bad = {}

    def broken(name, text, drop=(), **change):
        for p in PARTS:
            if p not in drop:
                bad[f"{name}.{p}"] = change.get(p, base[f"x.{p}"]).clone()
        bad.update(error(name, text))

    index = base["x.g_idx"]
    broken("no_scales", "scales' is missing", drop=("scales",))
    broken("no_zeros", "qzeros is missing", drop=("qzeros",))
    broken("index_too_large", "g_idx of column 5 is 4, expected 0 to 3", g_idx=torch.where(torch.arange(64) == 5, 4, index))
    broken("index_negative", "g_idx of column 5 is -1", g_idx=torch.where(torch.arange(64) == 5, -1, index))
    broken("index_short", "g_idx has 60 elements of type i32, expected 56", g_idx=index[:60], qweight=base["x.qweight"][:7])
    broken("index_long", "g_idx has 65 elements", g_idx=torch.cat([index, index[:1]]))
    broken("index_type", "g_idx has 64 elements of type i64", g_idx=index.long())
    broken("scales_shape", "scales' has shape [3, 16], expected [4, 16]", scales=base["x.scales"][:3])
    broken("scales_type", "scales' is stored as i32", scales=base["x.g_idx"].repeat(1).reshape(4, 16))
    broken("zeros_shape", "qzeros' has shape [4, 3], expected [4, 2]", qzeros=base["x.qzeros"].repeat(1, 2)[:, :3])
    broken("words_type", "qweight' is stored as i64", qweight=base["x.qweight"].long())
    broken("words_shape", "expected two dimensions", qweight=base["x.qweight"].reshape(2, 4, 16))
    broken("three", "blocks of 32", qweight=base["x.qweight"][:6])
    broken("nine", "no format claims")
    write("gptq-refused", bad, config(4, 16, False, "gptq_v2", dynamic={"^three$": {"bits": 3}, "^nine$": {"bits": 9}}))


if __name__ == "__main__":
    main()
