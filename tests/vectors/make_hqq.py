#!/usr/bin/env python3
"""HQQ modules as hqq writes them, and what hqq decodes them to: checkpoints/hqq*/.

    python make_hqq.py

W_q and what describes it are HQQLinear's own state_dict (encoded, as safetensors and transformers store
it); "<module>.expected" is Quantizer.dequantize of these parts in float32. Modules "random_*" have random
codes, scales and zeros. Layouts: README.md.
"""
import json
import pathlib
import shutil

import torch
from hqq.core.quantize import HQQLinear, Quantizer, hqq_base_quant_config
from safetensors.torch import save_file

ROOT = pathlib.Path(__file__).resolve().parent / "checkpoints"
F16, BF16, F32 = torch.float16, torch.bfloat16, torch.float32


def linear(n, k, seed, bias=False):
    g = torch.Generator().manual_seed(seed)
    m = torch.nn.Linear(k, n, bias=bias)
    m.weight.data = torch.randn(n, k, generator=g) * 0.05 + 0.01
    if bias:
        m.bias.data = torch.randn(n, generator=g)
    return m


def config(bits, group, axis, **weight):
    c = hqq_base_quant_config(nbits=bits, group_size=group, axis=axis)
    c["weight_quant_params"].update(weight)
    return c


def quantize(n, k, bits, group, axis, dtype=F16, bias=False, scale=None, zero=None, **weight):
    m = HQQLinear(None, config(bits, group, axis, **weight), compute_dtype=dtype, device="cpu", initialize=False)
    seed = n * 1000 + k + 7 * bits.__trunc__() + axis
    m.quant_config["scale_quant_params"], m.quant_config["zero_quant_params"] = scale, zero
    source = linear(n, k, seed, bias)
    if m.quant_config["weight_quant_params"]["group_size"] is None and weight.get("channel_wise", True):
        m.quant_config["weight_quant_params"]["group_size"] = k if axis == 1 else n
    m.quantize(source.weight.data, **m.quant_config)
    m.bias = source.bias.data.to(dtype) if bias else None
    return m


def widen(meta):
    """The same numbers with float32 as the type of computation."""
    out = {}
    for key, v in meta.items():
        if isinstance(v, dict):
            v = widen(v)
        elif isinstance(v, torch.Tensor) and v.is_floating_point():
            v = v.float()
        out[key] = v
    out["compute_dtype"] = F32
    return out


def expected(m):
    meta = widen(m.meta)
    for which in ("zero", "scale"):
        if meta.get(f"quant_{which}"):
            meta[which] = Quantizer.dequantize(meta[f"{which}_q"], meta[f"meta_{which}"])
    return Quantizer.dequantize(m.W_q.data, meta).contiguous()


def randomize(m, seed):
    g = torch.Generator().manual_seed(seed)
    words = m.W_q.data.view(torch.uint8)
    m.W_q.data = torch.randint(0, 256, words.shape, generator=g, dtype=torch.uint8).view(m.W_q.dtype)
    top = 2 ** m.meta["nbits"] - 1
    for key, lo, hi in (("scale", 0.001, 0.01), ("zero", 0.3 * top, 0.7 * top)):
        v = lo + (hi - lo) * torch.rand(m.meta[key].shape, generator=g)
        m.meta[key] = v.to(m.meta[key].dtype)
    return m


def encoded(name, m):
    return {f"{name}.{k}": v.contiguous() for k, v in m.state_dict().items() if v is not None}


def save(folder, modules):
    tensors = {}
    for name, m in modules.items():
        tensors.update(encoded(name, m))
        tensors[f"{name}.expected"] = expected(m)
    write(folder, tensors)


def write(folder, tensors, bits=4):
    d = ROOT / folder
    shutil.rmtree(d, ignore_errors=True)
    d.mkdir(parents=True)
    save_file({k: v.clone() for k, v in tensors.items()}, d / "model.safetensors")
    (d / "config.json").write_text(json.dumps({"quantization_config": {
        "quant_config": config(bits, 64, 1), "quant_method": "hqq", "skip_modules": ["lm_head"]}}) + "\n")


def main():
    save("hqq-axis1", {
        "eight": quantize(6, 128, 8, 64, 1, bias=True),
        "six": quantize(4, 64, 6, 64, 1), "five": quantize(4, 64, 5, 32, 1, BF16),
        "four": quantize(6, 320, 4, 64, 1), "four_bf16": quantize(4, 256, 4, 128, 1, BF16),
        "four_f32": quantize(4, 128, 4, 64, 1, F32), "four_odd": quantize(5, 128, 4, 64, 1),
        "four_no_tile": quantize(4, 72, 4, 24, 1), "four_row": quantize(6, 80, 4, None, 1),
        "four_wide": quantize(4, 192, 4, 192, 1), "four_8": quantize(2, 64, 4, 8, 1),
        "three": quantize(7, 192, 3, 64, 1), "three_ten": quantize(10, 64, 3, 64, 1),
        "two": quantize(8, 112, 2, 16, 1), "two_158": quantize(4, 64, 1.58, 64, 1),
        "one": quantize(8, 64, 1, 32, 1)})
    save("hqq-axis0", {
        "eight": quantize(16, 40, 8, 64, 0), "four": quantize(16, 96, 4, 64, 0),
        "four_odd": quantize(9, 48, 4, 16, 0, BF16), "four_column": quantize(16, 24, 4, None, 0),
        "three": quantize(8, 72, 3, 64, 0), "two": quantize(8, 64, 2, 64, 0), "one": quantize(8, 40, 1, 64, 0)})
    save("hqq-groups-across-rows", {
        "four": quantize(8, 48, 4, 64, 1), "three": quantize(6, 32, 3, 64, 1), "eight": quantize(4, 40, 8, 32, 1)})
    save("hqq-view-as-float", {
        "four_f16": quantize(4, 128, 4, 64, 1, F16, view_as_float=True),
        "four_bf16": quantize(4, 128, 4, 64, 0, BF16, view_as_float=True),
        "eight_f32": quantize(4, 64, 8, 64, 1, F32, view_as_float=True),
        "three_f32": quantize(5, 64, 3, 64, 1, F32, view_as_float=True),
        "three_f16": quantize(5, 64, 3, 64, 1, F16, view_as_float=True)})
    save("hqq-one-scale", {
        "eight": quantize(6, 64, 8, None, 1, channel_wise=False),
        "four": quantize(6, 64, 4, None, 0, channel_wise=False)})
    # A part without the bits of its own: those of the config, 1.58 here.
    m = quantize(4, 128, 1.58, 64, 1)
    tensors = {**encoded("m", m), "m.expected": expected(m)}
    del tensors["m.nbits"], tensors["m.packing"]
    write("hqq-158", tensors, 1.58)
    save("hqq-random", {
        "eight": randomize(quantize(4, 128, 8, 64, 1), 1), "four": randomize(quantize(6, 192, 4, 64, 1, BF16), 2),
        "three": randomize(quantize(3, 128, 3, 32, 1), 3), "two": randomize(quantize(4, 64, 2, 16, 1), 4),
        "one": randomize(quantize(4, 64, 1, 16, 1), 5), "four_axis0": randomize(quantize(16, 40, 4, 64, 0), 6),
        "three_axis0": randomize(quantize(16, 24, 3, 32, 0, F32), 7)})

    # Refusals: one module each, spoilt in one place.
    good = encoded("m", quantize(4, 64, 4, 32, 1))
    i32 = lambda v: torch.tensor(v, dtype=torch.int32)
    bad = {}

    def spoil(name, message, changes):
        parts = {k: v for k, v in good.items() if f"m.{'scale'}" != k or "scale" not in changes}
        for key, v in good.items():
            new = changes.get(key[2:], v)
            if new is not None:
                bad[f"{name}.{key[2:]}"] = new
        bad[f"{name}.error"] = torch.tensor(list(message.encode()), dtype=torch.uint8)

    spoil("axis", "axis is neither 0 nor 1", {"axis": i32(2)})
    spoil("group", "group_size is 48, expected a divisor of 4 x 64", {"group_size": i32(48)})
    spoil("group_other", "scale has 8 elements and zero 8, expected 4 of each", {"group_size": i32(64)})
    spoil("bits", "no format claims", {"nbits": i32(7), "packing": torch.tensor(list(b"7bit_u8"), dtype=torch.uint8)})
    spoil("codes", "its codes (4bit_u8) have 96 bytes, expected 128 words of 1", {"W_q": good["m.W_q"][:3].clone()})
    spoil("scale", "'scale.scale' is missing", {"scale": None})
    spoil("zero", "scale has 8 elements and zero 4", {"zero": good["m.zero"][:4].clone()})
    spoil("view", "view_as_float is false", {"W_q": good["m.W_q"].view(F16)})
    spoil("shape", "expected 1 x 1 or more", {"shape": torch.tensor([4, -64])})
    spoil("integer_scale", "is stored as u8, expected f16|bf16|f32", {"scale": good["m.scale"].to(torch.uint8)})
    write("hqq-refused", bad)


if __name__ == "__main__":
    main()
