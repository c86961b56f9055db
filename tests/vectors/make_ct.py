#!/usr/bin/env python3
"""Matrices of compressed-tensors, FP8, gpt-oss and BitNet checkpoints, and what their packages decode them to.

    python make_ct.py       writes checkpoints/{fp8,ct,gptoss,bitnet,deepseek}*

compressed-tensors' own compressors write and read; FP8 files that transformers and others write have torch's
float8 types and one multiplication; gpt-oss and BitNet use transformers' unpackers. "random_*": random bits in
every part. Files of old releases (words of floor(32 / b) codes) are packed here, from the description.
"""
import json
import math
import pathlib
import shutil

import torch
from compressed_tensors.compressors import BaseCompressor
from compressed_tensors.quantization import QuantizationArgs, QuantizationScheme
from compressed_tensors.quantization.utils import calculate_qparams
from safetensors.torch import save_file

ROOT = pathlib.Path(__file__).resolve().parent / "checkpoints"
F8 = {"e4m3": torch.float8_e4m3fn, "e5m2": torch.float8_e5m2, "e4m3fnuz": torch.float8_e4m3fnuz,
      "e5m2fnuz": torch.float8_e5m2fnuz}


def weights(n, k, seed, shift=0.01):
    g = torch.Generator().manual_seed(seed)
    w = torch.randn(n, k, generator=g) * 0.05 + shift
    w[-1, : min(16, k)] = 0
    return w


def write(folder, tensors, quantization, name="config.json"):
    d = ROOT / folder
    shutil.rmtree(d, ignore_errors=True)
    d.mkdir(parents=True)
    save_file({k: v.contiguous().clone() for k, v in tensors.items()}, d / "model.safetensors")
    (d / "config.json").write_text(json.dumps({"quantization_config": quantization}) + "\n")


def error(name, text):
    return {f"{name}.error": torch.tensor(list(text.encode()), dtype=torch.uint8)}


# ---------------------------------------------------------------- compressed-tensors


def qparams(w, args):
    """Scales (and zero points) of the strategy, by min and max."""
    n, k = w.shape
    if args.strategy == "tensor":
        v, shape = w.reshape(1, -1), (1,)
    elif args.strategy == "channel":
        v, shape = w, (n, 1)
    elif args.strategy == "block":
        bn, bk = args.block_structure
        rows, cols = math.ceil(n / bn), math.ceil(k / bk)
        lo = torch.stack([w[i * bn:(i + 1) * bn, j * bk:(j + 1) * bk].min() for i in range(rows) for j in range(cols)])
        hi = torch.stack([w[i * bn:(i + 1) * bn, j * bk:(j + 1) * bk].max() for i in range(rows) for j in range(cols)])
        s, z = calculate_qparams(lo, hi, args)
        return s.reshape(rows, cols), z.reshape(rows, cols)
    else:
        g = args.group_size
        v, shape = w.reshape(-1, g), (n, k // g)
    s, z = calculate_qparams(v.amin(1), v.amax(1), args)
    return s.reshape(shape), z.reshape(shape)


def compress(name, fmt, n, k, seed, dtype=torch.float32, global_scale=None, random=False, w=None, **how):
    args = QuantizationArgs(**how)
    scheme = QuantizationScheme(targets=["Linear"], weights=args, format=fmt)
    w = (weights(n, k, seed) if w is None else w).to(dtype)
    state = {"weight": w}
    if global_scale:
        state["weight_global_scale"] = torch.tensor([global_scale])
        amax = w.float().reshape(-1, args.group_size).abs().amax(1)
        s = (amax / 6 * global_scale).to(torch.float8_e4m3fn).float()
        state["weight_scale"] = s.reshape(n, -1)
    elif fmt.startswith("mx"):
        amax = w.float().reshape(-1, args.group_size).abs().amax(1).clamp(min=1e-4)
        top = {"mxfp4": 6, "mxfp6": 7.5, "mxfp8": 448}[fmt[:5]]
        state["weight_scale"] = torch.exp2(torch.ceil(torch.log2(amax / top))).reshape(n, -1)
    else:
        s, z = qparams(w.float(), args)
        state["weight_scale"] = s.to(dtype)
        if not args.symmetric:
            state["weight_zero_point"] = z.to(torch.int8)
    c = BaseCompressor.get_value_from_registry(fmt)
    small = c.compress(dict(state), scheme)
    if random:
        g = torch.Generator().manual_seed(seed)
        for key in ("weight_packed", "weight"):
            if key in small:
                raw = small[key].view(torch.uint8)
                bits = torch.randint(0, 256, raw.shape, generator=g, dtype=torch.uint8)
                if small[key].dtype == torch.float8_e4m3fn:
                    bits[(bits & 0x7F) == 0x7F] = 0
                small[key] = bits.view(small[key].dtype).reshape(small[key].shape)
        if "weight_zero_point" in small and small["weight_zero_point"].dtype == torch.int32:
            z = small["weight_zero_point"]
            small["weight_zero_point"] = torch.randint(-2**31, 2**31 - 1, z.shape, generator=g, dtype=torch.int64).to(torch.int32)
    read = dict(small)
    for key in ("weight_scale",):  # the same numbers, computed with in float32
        if read[key].dtype in (torch.float16, torch.bfloat16):
            read[key] = read[key].float()
    if "pack" in fmt and "fp" in fmt:
        from compressed_tensors.compressors.nvfp4.helpers import unpack_fp4_from_uint8
        m, cols = small["weight_packed"].shape
        if "mxfp6" in fmt:
            from compressed_tensors.compressors.mxfp6.helpers import unpack_fp6_from_uint8
            codes = unpack_fp6_from_uint8(small["weight_packed"], m, cols * 4 // 3, torch.float32)
        else:
            codes = unpack_fp4_from_uint8(small["weight_packed"], m, cols * 2, torch.float32)
        s = small["weight_scale"]
        s = torch.exp2(s.float() - 127) if s.dtype == torch.uint8 else s.float()
        if global_scale:
            s = s / small["weight_global_scale"]
        expected = (codes.reshape(m, -1, args.group_size) * s.unsqueeze(-1)).reshape(codes.shape)
    else:
        expected = c.decompress(read, scheme)["weight"].float()
    out = {f"{name}.{key}": v for key, v in small.items()}
    out[f"{name}.expected"] = expected
    return out


def group(targets, fmt, **weights_):
    return {"targets": targets, "format": fmt, "weights": weights_}


def config(**groups):
    return {"quant_method": "compressed-tensors", "format": "mixed-precision", "config_groups": groups,
            "ignore": ["lm_head", "re:.*router"]}


def ct():
    for bits in (2, 3, 4, 5, 6, 7, 8):
        base = dict(num_bits=bits, type="int", strategy="group", group_size=32)
        t = compress("sym", "pack-quantized", 5, 96, bits, symmetric=True, **base)
        t |= compress("asym", "pack-quantized", 35, 64, bits + 10, symmetric=False, **base)
        t |= compress("half", "pack-quantized", 4, 160, bits + 20, dtype=torch.bfloat16, symmetric=True, **base)
        t |= compress("row", "pack-quantized", 6, 80, bits + 30, num_bits=bits, type="int", strategy="channel",
                      symmetric=True)
        t |= compress("row_asym", "pack-quantized", 40, 72, bits + 40, num_bits=bits, type="int", strategy="channel",
                      symmetric=False)
        t |= compress("random", "pack-quantized", 37, 128, bits + 50, symmetric=False, random=True, **base)
        row = dict(num_bits=bits, type="int", strategy="channel")
        write(f"ct-pack{bits}", t, config(
            g0=group(["Linear"], "pack-quantized", symmetric=True, **base),
            g1=group(["asym", "random"], "pack-quantized", symmetric=False, **base),
            g2=group(["row"], "pack-quantized", symmetric=True, **row),
            g3=group(["row_asym"], "pack-quantized", symmetric=False, **row)))
    # Act-order, which this release no longer writes: columns of a plain file in another order, and where they belong.
    from compressed_tensors.compressors.pack_quantized.helpers import pack_to_int32, unpack_from_int32

    def scatter(name, bits, seed, **how):
        order = torch.randperm(128, generator=torch.Generator().manual_seed(seed))  # column order[j] was quantized j-th
        back = torch.argsort(order)
        t = compress(name, "pack-quantized", 10, 128, seed, num_bits=bits, type="int", strategy="group", group_size=32,
                     **how)
        q = unpack_from_int32(t[f"{name}.weight_packed"], bits, torch.Size((10, 128)))
        t[f"{name}.weight_packed"] = pack_to_int32(q[:, back].contiguous(), bits)
        t[f"{name}.weight_g_idx"] = (back // 32).to(torch.int32)
        t[f"{name}.expected"] = t[f"{name}.expected"][:, back]
        return t

    base = dict(num_bits=4, type="int", strategy="group", group_size=32)
    t = scatter("sym", 4, 60, symmetric=True) | scatter("asym", 4, 61, symmetric=False)
    t |= compress("unset", "pack-quantized", 6, 128, 62, symmetric=True, **base)
    # and with bytes
    t |= compress("bytes", "int-quantized", 6, 128, 63, num_bits=8, type="int", strategy="group", group_size=32,
                  symmetric=True)
    back = torch.randperm(128, generator=torch.Generator().manual_seed(64))
    t["bytes.weight"], t["bytes.expected"] = t["bytes.weight"][:, back], t["bytes.expected"][:, back]
    t["bytes.weight_g_idx"] = (back // 32).to(torch.int32)
    t["unset.weight_g_idx"] = torch.full((128,), -1, dtype=torch.int32)
    base["actorder"] = "group"
    write("ct-actorder", t, config(g0=group(["Linear"], "pack-quantized", symmetric=True, **base),
                                   g1=group(["asym"], "pack-quantized", symmetric=False, **base),
                                   g2=group(["bytes"], "int-quantized", num_bits=8, type="int", strategy="group",
                                            group_size=32, symmetric=True, actorder="group")))
    # Old packing: the same codes in words of floor(32 / b).
    t, groups = {}, {}
    for bits in (3, 5, 6, 7):
        base = dict(num_bits=bits, type="int", strategy="group", group_size=32)
        new = compress("m", "pack-quantized", 37, 96, 70 + bits, symmetric=False, **base)
        q = unpack_from_int32(new["m.weight_packed"], bits, torch.Size((37, 96))).long()
        z = unpack_from_int32(new["m.weight_zero_point"], bits, torch.Size((37, 3)), packed_dim=0).long()

        def pad(v):
            per, off = 32 // bits, 1 << (bits - 1)
            cols = math.ceil(v.shape[1] / per) * per
            u = torch.zeros(v.shape[0], cols, dtype=torch.int64)
            u[:, : v.shape[1]] = v + off
            u = u.reshape(v.shape[0], -1, per) << (bits * torch.arange(per))
            w = u.sum(-1)
            return torch.where(w >= 2**31, w - 2**32, w).to(torch.int32)

        name = f"b{bits}"
        t |= {f"{name}.{key[2:]}": v for key, v in new.items()}
        t[f"{name}.weight_packed"], t[f"{name}.weight_zero_point"] = pad(q), pad(z.T).T
        groups[name] = group([name], "pack-quantized", symmetric=False, **base)
    write("ct-pack-old", t, config(**groups))
    # Integers in bytes; floats in bytes.
    t, groups = {}, {}
    for i, (name, (fmt, how)) in enumerate({
            "tensor": ("int-quantized", dict(num_bits=8, type="int", strategy="tensor", symmetric=True)),
            "channel": ("int-quantized", dict(num_bits=8, type="int", strategy="channel", symmetric=True)),
            "channel_asym": ("int-quantized", dict(num_bits=8, type="int", strategy="channel", symmetric=False)),
            "group": ("int-quantized", dict(num_bits=8, type="int", strategy="group", group_size=32, symmetric=True)),
            "group_asym": ("naive-quantized", dict(num_bits=8, type="int", strategy="group", group_size=64,
                                                   symmetric=False)),
            "four": ("naive-quantized", dict(num_bits=4, type="int", strategy="group", group_size=64, symmetric=True)),
            "block": ("int-quantized", dict(num_bits=8, type="int", strategy="block", block_structure=[16, 32],
                                            symmetric=True)),
            "f_tensor": ("float-quantized", dict(num_bits=8, type="float", strategy="tensor", symmetric=True)),
            "f_channel": ("float-quantized", dict(num_bits=8, type="float", strategy="channel", symmetric=True)),
            "f_group": ("naive-quantized", dict(num_bits=8, type="float", strategy="group", group_size=64,
                                                symmetric=True)),
            "f_block": ("float-quantized", dict(num_bits=8, type="float", strategy="block", block_structure=[16, 32],
                                                symmetric=True))}.items()):
        t |= compress(name, fmt, 37, 192 if "block" not in name else 80, 80 + i, **how)
        groups[name] = group([name], fmt, **how)
    write("ct-bytes", t, config(**groups))
    t, groups = {}, {}
    for i, (name, (fmt, how)) in enumerate({
            "nv": ("nvfp4-pack-quantized", dict(num_bits=4, type="float", strategy="tensor_group", group_size=16,
                                                symmetric=True)),
            "mx4": ("mxfp4-pack-quantized", dict(num_bits=4, type="float", strategy="group", group_size=32,
                                                 symmetric=True)),
            "mx6": ("mxfp6-pack-quantized", dict(num_bits=6, type="float", strategy="group", group_size=32,
                                                 symmetric=True)),
            "mx8": ("mxfp8-quantized", dict(num_bits=8, type="float", strategy="group", group_size=32,
                                            symmetric=True))}.items()):
        for random in (False, True):
            full = f"random_{name}" if random else name
            t |= compress(full, fmt, 5, 160, 100 + i + 10 * random, random=random,
                          global_scale=2688 / 0.2 if name == "nv" else None, **how)
        groups[name] = group([name, f"random_{name}"], fmt, **how)
    write("ct-floats", t, config(**groups))
    # One thing wrong each.
    base = dict(num_bits=4, type="int", strategy="group", group_size=32)
    good = compress("m", "pack-quantized", 36, 64, 120, symmetric=False, **base)
    t = {}

    def spoil(name, text, **new):
        for key, v in ({key[2:]: v for key, v in good.items() if not key.endswith("expected")} | new).items():
            if v is not None:
                t[f"{name}.{key}"] = v
        t.update(error(name, text))

    spoil("scale", "'scale.weight_scale' is missing", weight_scale=None)
    spoil("zero", "weight_zero_point is missing", weight_zero_point=None)
    spoil("scales", "weight_scale has 6 elements", weight_scale=torch.ones(3, 2))
    spoil("words", "weight_packed has 7 words for 64 codes of 4 bits", weight_packed=good["m.weight_packed"][:, :7].clone())
    spoil("zeros", "weight_zero_point has 2 words", weight_zero_point=torch.zeros(2, 2, dtype=torch.int32))
    spoil("order", "column 3 belongs to group 7", weight_g_idx=torch.tensor([0, 0, 0, 7] + [0] * 60, dtype=torch.int32))
    spoil("full", "group 0 has more than its 32 columns", weight_g_idx=torch.tensor([1] + [0] * 63, dtype=torch.int32))
    write("ct-refused", t, config(g0=group(["Linear"], "pack-quantized", symmetric=False, **base)))


# ---------------------------------------------------------------- FP8


def fp8():
    def part(name, kind, n, k, scale, suffix, seed, random=False):
        w = weights(n, k, seed) * 100
        q = w.clamp(-100, 100).to(F8[kind])
        if random:
            bits = torch.randint(0, 256, (n, k), generator=torch.Generator().manual_seed(seed), dtype=torch.uint8)
            values = bits.view(F8[kind]).float()
            bits[~torch.isfinite(values)] = 1
            q = bits.view(F8[kind])
        s = scale.float()
        if s.dim() == 2 and s.shape[1] > 1:
            bn, bk = 32, 48
            s = s.repeat_interleave(bn, 0).repeat_interleave(bk, 1)[:n, :k]
        elif s.dim() == 1 and s.numel() == n:
            s = s[:, None]
        return {f"{name}.weight": q, f"{name}.{suffix}": scale, f"{name}.expected": q.float() * s}

    g = torch.Generator().manual_seed(5)
    u = lambda *shape: torch.rand(*shape, generator=g) * 0.01 + 0.001
    t = {}
    for i, kind in enumerate(F8):
        t |= part(f"{kind}_tensor", kind, 5, 40, u(()), "weight_scale", i)
        t |= part(f"{kind}_channel", kind, 7, 33, u(7, 1), "weight_scale", i + 10)
        t |= part(f"{kind}_block", kind, 70, 100, u(3, 3), "weight_scale_inv", i + 20)
        t |= part(f"{kind}_random", kind, 33, 50, u(2, 2), "weight_scale_inv", i + 30, True)
    t |= part("one", "e4m3", 4, 16, u(1), "weight_scale_inv", 50)
    t |= part("vector", "e4m3", 6, 16, u(6), "weight_scale", 51)
    t |= part("mistral", "e4m3", 4, 16, u(()), "qscale_weight", 52)
    t |= part("bf16_scale", "e4m3", 40, 100, u(2, 3).bfloat16(), "weight_scale_inv", 53)
    t["spare.weight"], t["spare.weight_scale_inv"] = t["e4m3_block.weight"], u(4, 3)  # as of three shards
    t |= error("spare", "its scale has 4 x 3 elements, expected 1, 70 (one a row), or 3 x 3 (one a block")
    e8 = torch.randint(110, 120, (2, 3), generator=g, dtype=torch.uint8).view(torch.float8_e8m0fnu)
    t |= part("e8m0_scale", "e4m3", 40, 100, e8, "weight_scale_inv", 55)
    t["static.weight"], t["static.weight_scale"] = t["e4m3_tensor.weight"], t["e4m3_tensor.weight_scale"]
    t["static.input_scale"], t["static.expected"] = u(()), t["e4m3_tensor.expected"]
    # A module that the list says is FP8, but is not.
    t["plain.weight"] = weights(4, 16, 60).bfloat16()
    t["plain.expected"] = t["plain.weight"].float()
    t["missing.weight"] = t["e4m3_tensor.weight"]
    t |= error("missing", "is missing; fp8_e4m3 needs it")
    t["shape.weight"], t["shape.weight_scale_inv"] = t["e4m3_block.weight"], u(2, 2)
    t |= error("shape", "its scale has 2 x 2 elements")
    write("fp8", t, {"quant_method": "fp8", "activation_scheme": "dynamic", "weight_block_size": [32, 48],
                     "modules_to_not_convert": ["lm_head"]})


# ---------------------------------------------------------------- gpt-oss, BitNet


def others():
    from transformers.integrations.bitnet import pack_weights, unpack_weights
    from transformers.integrations.mxfp4 import convert_moe_packed_tensors

    g = torch.Generator().manual_seed(9)
    e, n, k = 3, 10, 96
    blocks = torch.randint(0, 256, (e, n, k // 32, 16), generator=g, dtype=torch.uint8)
    scales = torch.randint(100, 140, (e, n, k // 32), generator=g, dtype=torch.uint8)
    full = convert_moe_packed_tensors(blocks, scales, dtype=torch.float32)  # [E][K][N]
    write("gptoss", {"experts.gate_up_proj_blocks": blocks, "experts.gate_up_proj_scales": scales,
                     "experts.gate_up_proj.expected": full.transpose(1, 2).reshape(e * n, k)},
          {"quant_method": "mxfp4", "modules_to_not_convert": ["lm_head"]})
    v = torch.randint(-1, 2, (12, 40), generator=g).float()
    s = torch.tensor([57.25], dtype=torch.bfloat16)
    packed = pack_weights(v.clone())
    codes = unpack_weights(packed, dtype=torch.float32)
    assert torch.equal(codes, v)
    write("bitnet", {"m.weight": packed, "m.weight_scale": s, "m.expected": codes * (1 / s.float())},
          {"quant_method": "bitnet"})
    s = torch.tensor([0.0268], dtype=torch.bfloat16)
    write("bitnet-auto", {"m.weight": packed, "m.weight_scale": s, "m.expected": codes * s.float()},
          {"quant_method": "bitnet", "linear_class": "autobitlinear", "quantization_mode": "offline"})

    # DeepSeek's experts: E2M1 in i8, blocks of [1, 32] beside FP8 in blocks of 128 x 128.
    from transformers.integrations.finegrained_fp8 import Fp8Dequantize, _dequantize_fp8_weight
    e8m0 = torch.float8_e8m0fnu
    q = torch.randint(-128, 128, (5, 48), generator=g, dtype=torch.int8)
    s = torch.randint(110, 130, (5, 3), generator=g, dtype=torch.uint8).view(e8m0)
    t = {}
    for suffix in ("scale", "weight_scale_inv"):
        t |= {f"four_{suffix}.weight": q, f"four_{suffix}.{suffix}": s,
              f"four_{suffix}.expected": Fp8Dequantize(None)._dequantize_one(q, s, torch.float32)}
    for name, n, k in (("wide", 3, 264), ("tall", 131, 24)):
        w = weights(n, k, n).to(torch.float8_e4m3fn)
        s = torch.rand(-(-n // 128), -(-k // 128), generator=g).to(torch.bfloat16)
        t |= {f"{name}.weight": w, f"{name}.weight_scale_inv": s,
              f"{name}.expected": _dequantize_fp8_weight(w, s, [128, 128], torch.float32)}
    t |= {"awq.weight": w, "awq.weight_scale": s[:1, :1], "awq.pre_quant_scale": torch.ones(24)}
    t |= error("awq", "no format claims the parts of 'awq': weight (f8_e4m3)")
    write("deepseek", t, {"quant_method": "fp8", "weight_block_size": [128, 128]})

    # Experts in one parameter, blocks of 32 x 48 within each; down_proj has ragged ones.
    def stack(name, n, k, scale):
        w = torch.stack([weights(n, k, 70 + i) for i in range(3)]).mul(50).to(torch.float8_e4m3fn)
        block = [32, 48] if scale.numel() > 3 else None
        full = _dequantize_fp8_weight(w, scale.float(), block, torch.float32)
        return {name: w, f"{name}_scale_inv": scale, f"{name}.expected": full.reshape(3 * n, k)}

    u = lambda *shape: torch.rand(*shape, generator=g) * 0.01 + 0.001
    t = stack("layers.0.experts.gate_up_proj", 64, 48, u(3, 2, 1)) | stack("layers.0.experts.down_proj", 40, 100, u(3, 2, 3))
    t |= stack("layers.1.experts.gate_up_proj", 70, 96, torch.randint(110, 130, (3, 3, 2), generator=g,
                                                                      dtype=torch.uint8).view(e8m0))
    t |= stack("layers.1.experts.down_proj", 40, 48, u(3, 1, 1))
    q = torch.randint(-128, 128, (3, 5, 32), generator=g, dtype=torch.int8)
    s = torch.randint(110, 130, (3, 5, 2), generator=g, dtype=torch.uint8).view(e8m0)
    t |= {"layers.2.experts.down_proj": q, "layers.2.experts.down_proj_scale_inv": s,
          "layers.2.experts.down_proj.expected": Fp8Dequantize(None)._dequantize_one(q, s, torch.float32).reshape(15, 64)}
    plain = torch.stack([weights(5, 32, 80 + i) for i in range(2)]).bfloat16()
    t |= {"layers.2.experts.gate_up_proj": plain, "layers.2.experts.gate_up_proj.expected": plain.reshape(10, 32)}
    t |= {"layers.3.experts.gate_up_proj": t["layers.1.experts.gate_up_proj"],
          "layers.3.experts.gate_up_proj_scale_inv": u(3, 4, 2)}
    t |= error("layers.3.experts.gate_up_proj", "its scale has 12 x 2 elements, expected 1, 210 (one a row), or 9 x 2")
    write("fp8-experts", t, {"quant_method": "fp8", "weight_block_size": [32, 48]})


if __name__ == "__main__":
    ct()
    fp8()
    others()
