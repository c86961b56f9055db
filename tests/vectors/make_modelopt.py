#!/usr/bin/env python3
"""NVFP4 and FP8 matrices of ModelOpt: checkpoints/modelopt*.

    python make_modelopt.py

NVFP4QTensor quantizes and decodes; "random" has random bits in every part.
"""
import json
import pathlib
import shutil

import torch
from modelopt.torch.quantization.qtensor import MXFP4QTensor, NVFP4QTensor
from safetensors.torch import save_file

ROOT = pathlib.Path(__file__).resolve().parent / "checkpoints"


def decode(packed, scale, double, n, k):
    q = NVFP4QTensor(torch.Size((n, k)), torch.float32, packed)
    return q.dequantize(torch.float32, scale=scale, double_scale=double, block_sizes={-1: 16})


def part(name, n, k, seed, random=False, w=None):
    g = torch.Generator().manual_seed(seed)
    w = torch.randn(n, k, generator=g) * 0.05 + 0.01 if w is None else w
    q, scale, double = NVFP4QTensor.quantize(w, 16)
    packed = q._quantized_data
    if random:
        packed = torch.randint(0, 256, packed.shape, generator=g, dtype=torch.uint8)
        scale = torch.randint(1, 127, scale.shape, generator=g, dtype=torch.uint8).view(torch.float8_e4m3fn)
    return {f"{name}.weight": packed, f"{name}.weight_scale": scale, f"{name}.weight_scale_2": double.float(),
            f"{name}.input_scale": torch.tensor(0.01), f"{name}.expected": decode(packed, scale, double, n, k)}


def main():
    t = part("m", 5, 176, 1) | part("one", 3, 16, 2) | part("random", 6, 320, 3, True)
    t["plain.weight"] = torch.randn(3, 16).bfloat16()
    t["plain.expected"] = t["plain.weight"].float()
    w = torch.randn(4, 24)
    t["eight.weight"], t["eight.weight_scale"] = w.to(torch.float8_e4m3fn), torch.tensor(0.013)
    t["eight.expected"] = t["eight.weight"].float() * t["eight.weight_scale"]
    w = torch.randn(5, 96, generator=torch.Generator().manual_seed(4)) * 0.05
    q, scale = MXFP4QTensor.quantize(w, 32)
    t["mx.weight"], t["mx.weight_scale"] = q._quantized_data, scale.reshape(5, 3)
    t["mx.expected"] = q.dequantize(torch.float32, scale=scale, block_sizes={-1: 32})
    d = ROOT / "modelopt"
    shutil.rmtree(d, ignore_errors=True)
    d.mkdir(parents=True)
    save_file({k: v.contiguous().clone() for k, v in t.items()}, d / "model.safetensors")
    (d / "config.json").write_text("{}\n")
    (d / "hf_quant_config.json").write_text(json.dumps({
        "producer": {"name": "modelopt"},
        "quantization": {"quant_algo": "NVFP4", "group_size": 16, "kv_cache_quant_algo": None,
                         "exclude_modules": ["plain"]}}) + "\n")


if __name__ == "__main__":
    main()
