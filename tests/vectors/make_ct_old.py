#!/usr/bin/env python3
"""What compressed-tensors 0.11 wrote: words of floor(32 / bits) codes, act-order: checkpoints/ct-0.11-*/.

    python make_ct_old.py    with compressed-tensors 0.11.0

Scales and zero points are calculate_qparams of each group's extremes; the package's compressors do the rest. It packs
zero points but does not unpack them: asymmetric modules expect its `dequantize` of the codes that it unpacks and the
zero points that went in.
"""
import json
import pathlib
import shutil

import torch
from compressed_tensors.quantization import QuantizationArgs
from compressed_tensors.quantization.utils import calculate_qparams
from safetensors.torch import save_file

ROOT = pathlib.Path(__file__).resolve().parent / "checkpoints"
F32, BF16 = torch.float32, torch.bfloat16


def weights(n, k, seed):
    g = torch.Generator().manual_seed(seed)
    w = torch.randn(n, k, generator=g) * 0.05 + 0.01
    w[0, : k // 2] = w[0, : k // 2].abs()
    return w


def state(w, args, dtype):
    t = w.reshape(w.shape[0], -1, args.group_size)
    scale, zero = calculate_qparams(t.amin(2), t.amax(2), args)
    out = {"weight_scale": scale.to(dtype)}
    if not args.symmetric:
        out["weight_zero_point"] = zero
    return out


def finish(name, parts, expected):
    out = {f"{name}.{k}": v.contiguous() for k, v in parts.items()}
    out[f"{name}.expected"] = expected.contiguous()
    return out


def write(folder, tensors, groups, layout, ignore=()):
    """groups: [(targets, QuantizationArgs, layout or None)]"""
    d = ROOT / folder
    shutil.rmtree(d, ignore_errors=True)
    d.mkdir(parents=True)
    save_file(tensors, str(d / "model.safetensors"))
    config = {"quant_method": "compressed-tensors", "format": layout, "quantization_status": "compressed",
              "ignore": list(ignore), "config_groups": {}}
    for i, (targets, args, own) in enumerate(groups):
        dump = json.loads(args.model_dump_json()) if hasattr(args, "model_dump_json") else args
        config["config_groups"][f"group_{i}"] = {"targets": targets, "weights": dump, "format": own}
    (d / "config.json").write_text(json.dumps({"quantization_config": config}) + "\n")
    size = sum(p.stat().st_size for p in d.iterdir())
    print(folder, len(tensors), size)


def main():
    from compressed_tensors.compressors import NaiveQuantizationCompressor, PackedQuantizationCompressor
    from compressed_tensors.compressors.quantized_compressors.pack_quantized import unpack_from_int32
    from compressed_tensors.quantization.lifecycle.forward import dequantize

    def module(name, kind, n, k, seed, dtype, args, order=False):
        w = weights(n, k, seed)
        g_idx = None
        if order:
            g_idx = (torch.arange(k) // args.group_size).to(torch.int32)
            g_idx = g_idx[torch.randperm(k, generator=torch.Generator().manual_seed(seed))].contiguous()
            by_group = w[:, torch.argsort(g_idx, stable=True)]
        s = state(by_group if order else w, args, dtype)
        parts = {"weight_scale": s["weight_scale"]}
        zero = s.get("weight_zero_point")
        c = kind()
        if zero is not None:
            parts["weight_zero_point"] = zero.to(torch.int8)
        parts |= c.compress_weight(weight=w.to(dtype), scale=s["weight_scale"], zero_point=None if zero is None else
                                   zero.to(torch.int8), g_idx=g_idx, quantization_args=args)
        if order:
            parts["weight_g_idx"] = g_idx
        if zero is None:
            expected = c.decompress_weight(dict(parts), args)
        else:  # 0.11 packs zero points but does not unpack them
            codes = unpack_from_int32(parts["weight_packed"], args.num_bits, torch.Size((n, k)))
            expected = dequantize(codes, parts["weight_scale"], zero.to(torch.int8), args=args, g_idx=g_idx)
        return finish(name, parts, expected)

    def integers(bits, strategy, symmetric=True, **more):
        return QuantizationArgs(num_bits=bits, type="int", strategy=strategy, symmetric=symmetric, **more)

    pack = PackedQuantizationCompressor
    t, g = {}, []
    for bits in (3, 5, 6, 7):
        for sym in (True, False):
            name = f"m{bits}" + ("" if sym else "_asym")
            a = integers(bits, "group", sym, group_size=32)
            t |= module(name, pack, 13, 96, bits, BF16, a)
            g.append(([name], a, None))
    write("ct-0.11-gaps", t, g, "pack-quantized")
    t, g = {}, []
    for bits in (4, 8):
        for sym in (True, False):
            a = integers(bits, "group", sym, group_size=32, actorder="group")
            name = f"packed{bits}" + ("" if sym else "_asym")
            t |= module(name, pack, 5, 160, bits + 20, BF16, a, True)
            g.append(([name], a, "pack-quantized"))
    a = integers(8, "group", True, group_size=32, actorder="group")
    t |= module("plain", NaiveQuantizationCompressor, 5, 160, 33, F32, a, True)
    g.append((["plain"], a, "int-quantized"))
    a = integers(4, "group", True, group_size=32, actorder="weight")
    t |= module("unset", pack, 3, 64, 34, F32, a)
    t["unset.weight_g_idx"] = torch.full((64,), -1, dtype=torch.int32)
    g.append((["unset"], a, "pack-quantized"))
    write("ct-0.11-actorder", t, g, "mixed-precision")


if __name__ == "__main__":
    main()
