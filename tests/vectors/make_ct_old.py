#!/usr/bin/env python3
"""What compressed-tensors 0.11 wrote: words of floor(32 / bits) codes, act-order, marlin-24, bitmasks: checkpoints/ct-0.11-*/.

    python make_ct_old.py    with compressed-tensors 0.11.0

Scales and zero points are calculate_qparams of each group's extremes; the package's compressors do the rest. It packs
zero points but does not unpack them: asymmetric modules expect its `dequantize` of the codes that it unpacks and the
zero points that went in.

marlin-24 is written and never read by the package: its modules are the compressor's output of 2:4 sparse weights
(integer * scale) that f16 holds exactly, which are expected.
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


def write(folder, tensors, groups, layout, ignore=(), **more):
    """groups: [(targets, QuantizationArgs, layout or None)]"""
    d = ROOT / folder
    shutil.rmtree(d, ignore_errors=True)
    d.mkdir(parents=True)
    save_file(tensors, str(d / "model.safetensors"))
    config = {"quant_method": "compressed-tensors", "format": layout, "quantization_status": "compressed",
              "ignore": list(ignore), "config_groups": {}, **more}
    for i, (targets, args, own) in enumerate(groups):
        dump = json.loads(args.model_dump_json()) if hasattr(args, "model_dump_json") else args
        config["config_groups"][f"group_{i}"] = {"targets": targets, "weights": dump, "format": own}
    (d / "config.json").write_text(json.dumps({"quantization_config": config}) + "\n")
    size = sum(p.stat().st_size for p in d.iterdir())
    print(folder, len(tensors), size)


def sparse(n, k, args, seed):
    """Codes of which two of four are kept (fewer in row 1), scales of four bits, and their exact product."""
    g = torch.Generator().manual_seed(seed)
    top = 1 << (args.num_bits - 1)
    q = torch.randint(-top, top, (n, k), generator=g)
    kept = torch.rand(n, k // 4, 4, generator=g).argsort(-1).lt(2)
    kept[1] &= torch.rand(k // 4, 4, generator=g).lt(0.5)
    q *= kept.reshape(n, k)
    groups = k // args.group_size if args.group_size else 1
    scale = (torch.randint(8, 16, (n, groups), generator=g) / 8 * 2.0 ** -torch.randint(5, 9, (n, groups), generator=g))
    scale = scale.to(torch.float16)
    return scale, (q * scale.repeat_interleave(k // groups, 1)).to(torch.float16)


def marlin24(name, n, k, args, seed):
    from compressed_tensors.compressors import Marlin24Compressor
    from compressed_tensors.quantization import QuantizationScheme
    scale, w = sparse(n, k, args, seed)
    parts = Marlin24Compressor().compress({f"{name}.weight": w, f"{name}.weight_scale": scale},
                                          {name: QuantizationScheme(targets=[name], weights=args)})
    return {**parts, f"{name}.expected": w}


def bitmask(name, w, scale=None, args=None, two_four=True, weight_name=""):
    from compressed_tensors.compressors import BitmaskCompressor, Sparse24BitMaskCompressor
    from compressed_tensors.config import BitmaskConfig, Sparse24BitMaskConfig
    from compressed_tensors.quantization.lifecycle.forward import dequantize
    c = Sparse24BitMaskCompressor(Sparse24BitMaskConfig()) if two_four else BitmaskCompressor(BitmaskConfig())
    parts = c.compress_weight(name + weight_name, w)
    expected = c.decompress_weight({k.rsplit(".", 1)[1]: v for k, v in parts.items()})
    if scale is not None:
        parts[f"{name}.weight_scale"] = scale
        expected = dequantize(expected, scale, args=args, dtype=scale.dtype)
    return {**{k: v.contiguous() for k, v in parts.items()}, f"{name}.expected": expected}


def holes(n, k, seed, two_four=True):
    """Normal numbers of which two of four are kept, or any (row 1 none)."""
    g = torch.Generator().manual_seed(seed)
    w = torch.randn(n, k, generator=g)
    if two_four:
        return w * torch.rand(n, k // 4, 4, generator=g).argsort(-1).lt(2).reshape(n, k)
    return w * torch.rand(n, k, generator=g).lt(0.4) * torch.arange(n).ne(1)[:, None]


def error(name, text):
    return {f"{name}.error": torch.tensor(list(text.encode()), dtype=torch.uint8)}


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

    group4, group8 = (integers(b, "group", group_size=128) for b in (4, 8))
    row4, row8 = (integers(b, "channel") for b in (4, 8))
    t, g = {}, []
    for i, (name, n, k, a) in enumerate((("group4", 64, 384, group4), ("two4", 64, 256, group4), ("row4", 192, 64, row4),
                                         ("group8", 64, 384, group8), ("row8", 128, 96, row8))):
        t |= marlin24(name, n, k, a, 40 + i)
        g.append(([name], a, None))
    write("ct-0.11-marlin24", t, g, "marlin-24")
    t, g = {}, []
    for i, (name, n, a, text) in enumerate((
            ("narrow", 96, row4, "marlin24_4 has tiles of 64 x 32, which do not divide 96 x 64"),
            ("group", 64, integers(4, "group", group_size=32), "groups of 128 columns or one a row, the config says 32"),
            ("asym", 64, integers(4, "channel", symmetric=False), "no zero points, the config says that it is not"),
            ("bits", 64, integers(3, "channel"), "no format claims the parts of 'bits'"),
            ("places", 64, row8, "meta has 0x45 at byte 7, expected two pairs of different places"))):
        whole = marlin24(name, 192 if n == 96 else n, 64, row8 if a is row8 else row4, 50 + i)
        del whole[f"{name}.expected"]
        if n == 96:  # the package packs no such rows either
            whole = {k: v[:, :v.shape[1] // 2].contiguous() for k, v in whole.items()}
        if name == "places":
            whole["places.meta"].view(torch.uint8).view(-1)[7] = 0x45
        t |= whole | error(name, text)
        g.append(([name], a, None))
    write("ct-0.11-refused", t, g, "marlin-24")

    f8 = torch.float8_e4m3fn
    floats = {s: QuantizationArgs(num_bits=8, type="float", strategy=s, symmetric=True,
                                  group_size=20 if s == "group" else None) for s in ("tensor", "channel", "group")}
    scale = torch.rand(13, 4, generator=torch.Generator().manual_seed(60)) * 0.01 + 0.001
    t = bitmask("bf16", holes(13, 44, 61).to(BF16)) | bitmask("f16", holes(5, 320, 62).to(torch.float16))
    t |= bitmask("f32", holes(3, 8, 63))
    t |= bitmask("tensor", (holes(13, 80, 64) * 90).to(f8), scale[:1, 0].clone(), floats["tensor"])
    t |= bitmask("channel", (holes(13, 80, 65) * 90).to(f8), scale[:, :1].to(BF16), floats["channel"])
    t |= bitmask("group", (holes(13, 80, 66) * 90).to(f8), scale.clone(), floats["group"])
    t |= bitmask("int8", (holes(13, 80, 67) * 40).round().clamp(-128, 127).to(torch.int8), scale[:, :1].to(BF16),
                 integers(8, "channel"))
    t |= bitmask("any", holes(7, 165, 68, False).to(BF16), two_four=False)
    t |= bitmask("old_names", holes(7, 45, 69, False).to(BF16), two_four=False, weight_name=".weight")
    for name, part, cut, text in (
            ("few", "compressed", lambda v: v.view(-1)[:-1].clone(), "compressed has 15 values, expected one for each"),
            ("shape", "shape", lambda v: v * 2, "'shape.bitmask' has shape [4, 1], expected [8, 2]"),
            ("scale", "weight_scale", lambda v: torch.ones(4, 1), "its values are bf16, expected no weight_scale"),
            ("zeros", "weight_zero_point", lambda v: torch.ones(4, 1, dtype=torch.int8), "sparse with zero points")):
        broken = bitmask(name, holes(4, 8, 70).to(BF16))
        del broken[f"{name}.expected"]
        broken[f"{name}.{part}"] = cut(broken.get(f"{name}.{part}"))
        t |= broken | error(name, text)
    write("ct-0.11-sparse", t, [], "dense", sparsity_config={"format": "sparse-24-bitmask", "targets": ["Linear"],
                                                             "sparsity_structure": "2:4", "ignore": []})


if __name__ == "__main__":
    main()
