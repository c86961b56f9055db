#!/usr/bin/env python3
"""MLX matrices as mlx writes them, and what mlx decodes them to: checkpoints/mlx*/.

    python make_mlx.py

Modules "random_*" have random words, scales and biases. "<module>.expected" is mlx.core.dequantize of the
parts with scales and biases widened to float32: on float16 and bfloat16 ones mlx rounds the product and the
sum to that type, which no consumer that computes in float32 should repeat.
"""
import json
import pathlib
import shutil

import mlx.core as mx
import numpy as np

ROOT = pathlib.Path(__file__).resolve().parent / "checkpoints"
KINDS = {"f32": mx.float32, "f16": mx.float16, "bf16": mx.bfloat16}


def weights(n, k, seed, dtype):
    rng = np.random.default_rng(seed)
    w = rng.normal(0, 0.05, (n, k)).astype(np.float32) + np.float32(0.01)
    w[0, : k // 2] = np.abs(w[0, : k // 2])   # groups of one sign
    w[-1, :32] = 0                            # and one of zeros
    return mx.array(w).astype(dtype)


def parts(name, w, scales, biases=None, **how):
    out = {f"{name}.weight": w, f"{name}.scales": scales}
    if biases is not None:
        out[f"{name}.biases"] = biases
    wide = [x if x is None else x.astype(mx.float32) for x in (scales, biases)]
    out[f"{name}.expected"] = mx.dequantize(w, *wide, **how)
    return out


def affine(name, n, k, bits, group, dtype, seed):
    how = {"group_size": group, "bits": bits, "mode": "affine"}
    return parts(name, *mx.quantize(weights(n, k, seed, KINDS[dtype]), **how), **how)


def random_affine(name, n, k, bits, group, dtype, seed):
    rng = np.random.default_rng(seed)
    words = mx.array(rng.integers(0, 1 << 32, (n, k * bits // 32), dtype=np.uint32))
    scales = mx.array(rng.normal(0, 0.01, (n, k // group)).astype(np.float32)).astype(KINDS[dtype])
    biases = mx.array(rng.normal(0, 0.05, (n, k // group)).astype(np.float32)).astype(KINDS[dtype])
    return parts(name, words, scales, biases, group_size=group, bits=bits, mode="affine")


def mode(name, n, k, which, seed, random=False):
    w, scales = mx.quantize(weights(n, k, seed, mx.bfloat16), mode=which)
    if random:
        rng = np.random.default_rng(seed)
        w = mx.array(rng.integers(0, 1 << 32, w.shape, dtype=np.uint32))
        if which == "mxfp8":  # NaN codes would compare by payload
            b = np.array(w).view(np.uint8)
            b[(b & 0x7F) == 0x7F] = 0
            w = mx.array(b.view(np.uint32))
        scales = mx.array(rng.integers(100, 126, scales.shape).astype(np.uint8))
    out = {f"{name}.weight": w, f"{name}.scales": scales}
    out[f"{name}.expected"] = mx.dequantize(w, scales, mode=which, dtype=mx.float32)
    return out


def write(folder, tensors, config):
    d = ROOT / folder
    shutil.rmtree(d, ignore_errors=True)
    d.mkdir(parents=True)
    mx.save_safetensors(str(d / "model.safetensors"), tensors)
    (d / "config.json").write_text(json.dumps(config) + "\n")


def error(name, text):
    return {f"{name}.error": mx.array(np.frombuffer(text.encode(), np.uint8))}


def main():
    for bits in (1, 2, 3, 4, 5, 6, 8):
        t = {}
        t |= affine("a", 5, 320, bits, 64, "f32", bits)
        t |= affine("b", 3, 128, bits, 64, "f16", bits + 10)
        t |= affine("c", 4, 192, bits, 64, "bf16", bits + 20)
        t |= affine("g32", 3, 96, bits, 32, "f32", bits + 30)
        t |= affine("g128", 3, 384, bits, 128, "bf16", bits + 40)
        t |= random_affine("random", 4, 448, bits, 64, "f32", bits + 50)
        t |= random_affine("random_half", 4, 64, bits, 64, "f16", bits + 60)
        write(f"mlx{bits}", t, {"quantization": {"group_size": 64, "bits": bits,
                                                 "g32": {"group_size": 32, "bits": bits},
                                                 "g128": {"group_size": 128, "bits": bits}}})
    # Every module its own way, in one file; the same dictionary twice, as mlx-lm writes it.
    t, q = {}, {"group_size": 64, "bits": 4, "mode": "affine", "left": False}
    for i, bits in enumerate((2, 3, 5, 6, 8)):
        name = f"model.layers.{i}.mlp.down_proj"
        t |= affine(name, 3, 64, bits, 32, "bf16", 70 + i)
        q[name] = {"group_size": 32, "bits": bits}
    t |= affine("model.embed_tokens", 7, 128, 4, 64, "bf16", 80)
    for which, group, bits in (("mxfp4", 32, 4), ("nvfp4", 16, 4), ("mxfp8", 32, 8)):
        t |= mode(which, 5, 160, which, 90 + bits) | mode(f"random_{which}", 4, 320, which, 95 + group, True)
        for name in (which, f"random_{which}"):
            q[name] = {"group_size": group, "bits": bits, "mode": which}
    write("mlx-mixed", t, {"quantization": q, "quantization_config": q})
    # mistral.rs' name for the same thing.
    write("mlx-afq", affine("a", 3, 128, 4, 64, "f16", 99),
          {"quantization_config": {"quant_method": "afq", "bits": 4, "group_size": 64}})
    # What is wrong in one place.
    good = affine("m", 4, 128, 4, 64, "f16", 100)
    pick = lambda to, **new: {f"{to}.{k}": new.get(k, good[f"m.{k}"]) for k in ("weight", "scales", "biases")
                              if new.get(k, 0) is not None}
    t = pick("scales", scales=None) | error("scales", "no format claims")
    t |= pick("biases", biases=None) | error("biases", "no format claims")
    t |= pick("short", scales=good["m.scales"][:, :1]) | error("short", "'short.scales' has shape [4, 1], expected [4, 2]")
    t |= pick("odd") | error("odd", "groups of 48 columns")
    write("mlx-refused", t, {"quantization": {"group_size": 64, "bits": 4, "odd": {"group_size": 48, "bits": 4}}})


if __name__ == "__main__":
    main()
