#!/usr/bin/env python3
"""AWQ matrices as autoawq packs them, and what it decodes them to: checkpoints/awq*/.

    python make_awq.py

gemm is decoded by autoawq's own dequantize_gemm on scales widened to float32. autoawq decodes gemv, gemv_fast and
marlin on GPUs only: their modules are its packer's output of weights (q - z) * scale that are exact, whose expected
values are those weights (gemv_fast: q * scale + the stored product). There is no writer of 8 bits; "awq8" and
"random" modules of it are computed here from the layout that readers expect.
"""
import json
import pathlib
import shutil
import warnings

import numpy as np
import torch
from safetensors.torch import save_file

warnings.filterwarnings("ignore")
from awq.modules.linear.gemm import WQLinear_GEMM  # noqa: E402
from awq.modules.linear.gemv import WQLinear_GEMV  # noqa: E402
from awq.modules.linear.gemv_fast import WQLinear_GEMVFast  # noqa: E402
from awq.modules.linear.marlin import WQLinear_Marlin  # noqa: E402
from awq.utils.packing_utils import dequantize_gemm  # noqa: E402

ROOT = pathlib.Path(__file__).resolve().parent / "checkpoints"


def grid(n, k, group, seed, sym=False):
    """q [N][K], scales and zeros [N][G], the weights and a Linear that has them."""
    gen = torch.Generator().manual_seed(seed)
    size = k if group == -1 else group
    groups = k // size
    q = torch.randint(0, 16, (n, k), generator=gen)
    z = torch.full((n, groups), 8) if sym else torch.randint(0, 16, (n, groups), generator=gen)
    s = (torch.rand(n, groups, generator=gen) * 0.01 + 0.002).half()
    wide = lambda x: x.repeat_interleave(size, 1)
    w = (q - wide(z)).float() * wide(s.float())
    lin = torch.nn.Linear(k, n, bias=False)
    lin.weight.data = w
    return lin, s, z.float(), w, q


def buffers(name, m, rename=()):
    names = dict(rename)
    return {f"{name}.{names.get(p, p)}": getattr(m, p).clone() for p in ("qweight", "qzeros", "scales") if hasattr(m, p)}


@torch.no_grad()
def gemm(name, n, k, group, seed):
    lin, s, z, w, _ = grid(n, k, group, seed)
    m = WQLinear_GEMM.from_linear(lin, 4, k if group == -1 else group, scales=s.T.contiguous(), zeros=z.T.contiguous())
    out = buffers(name, m)
    size = k if group == -1 else group
    out[f"{name}.expected"] = dequantize_gemm(m.qweight, m.qzeros, m.scales.float(), 4, size).T.contiguous()
    assert torch.equal(out[f"{name}.expected"], w)
    return out


@torch.no_grad()
def rounded(name, w, group):
    """gemm of any weights, on a min-max grid"""
    n, k = w.shape
    part = w.reshape(n, k // group, group)
    low, high = part.amin(2).clamp(max=0), part.amax(2).clamp(min=0)
    s = ((high - low) / 15).half().float()
    z = torch.round(-low / s).clamp(0, 15)
    wide = lambda x: x.repeat_interleave(group, 1)
    lin = torch.nn.Linear(k, n, bias=False)
    lin.weight.data = (torch.clamp(torch.round(w / wide(s)) + wide(z), 0, 15) - wide(z)) * wide(s)
    m = WQLinear_GEMM.from_linear(lin, 4, group, scales=s.T.contiguous(), zeros=z.T.contiguous())
    return buffers(name, m) | {
        f"{name}.expected": dequantize_gemm(m.qweight, m.qzeros, m.scales.float(), 4, group).T.contiguous()}


@torch.no_grad()
def random_gemm(name, n, k, group, seed, half=torch.float16):
    gen = torch.Generator().manual_seed(seed)
    words = lambda a, b: torch.randint(-2 ** 31, 2 ** 31, (a, b), generator=gen).int()
    qw, qz = words(k, n // 8), words(k // group, n // 8)
    s = (torch.randn(k // group, n, generator=gen) * 0.01).to(half)
    return {f"{name}.qweight": qw, f"{name}.qzeros": qz, f"{name}.scales": s,
            f"{name}.expected": dequantize_gemm(qw, qz, s.float(), 4, group).T.contiguous()}


@torch.no_grad()
def gemv(name, n, k, group, seed):
    lin, s, z, w, _ = grid(n, k, group, seed)
    m = WQLinear_GEMV.from_linear(lin, 4, group if group > 0 else k, scales=s, zeros=z)
    return buffers(name, m) | {f"{name}.expected": w}


@torch.no_grad()
def fast(name, n, k, group, seed, llm_awq=False):
    lin, s, z, w, q = grid(n, k, group, seed)
    m = WQLinear_GEMVFast.from_linear(lin, 4, group, scales=s, zeros=z)
    wide = lambda x: x[: k // group].T.float().repeat_interleave(group, 1)
    out = buffers(name, m, {"qzeros": "scaled_zeros"} if llm_awq else {})
    return out | {f"{name}.expected": q.float() * wide(m.scales) + wide(m.qzeros)}


@torch.no_grad()
def marlin(name, n, k, group, seed, gptq_names=False):
    lin, s, _, w, _ = grid(n, k, group, seed, sym=True)
    m = WQLinear_Marlin.from_linear(lin, 4, k if group == -1 else group, scales=s, zeros=None)
    names = {"qweight": "B", "scales": "s"} if gptq_names else {}
    return buffers(name, m, names) | {f"{name}.expected": w}


def gemm8(name, n, k, group, seed):
    gen = torch.Generator().manual_seed(seed)
    q = torch.randint(0, 256, (k, n), generator=gen)
    z = torch.randint(0, 256, (k // group, n), generator=gen)
    s = (torch.rand(k // group, n, generator=gen) * 0.01 + 0.002).half()

    def pack(x):  # byte i of a word is column [0, 2, 1, 3][i] of four
        return torch.from_numpy(x.reshape(-1, n // 4, 4)[:, :, [0, 2, 1, 3]].to(torch.uint8).contiguous().numpy()
                                .view(np.int32).reshape(-1, n // 4).copy())
    wide = lambda x: x.repeat_interleave(group, 0)
    return {f"{name}.qweight": pack(q), f"{name}.qzeros": pack(z), f"{name}.scales": s,
            f"{name}.expected": ((q - wide(z)).float() * wide(s.float())).T.contiguous()}


def config(bits, group, version, **more):
    return {"quantization_config": {"bits": bits, "group_size": group, "quant_method": "awq", "version": version,
                                    "zero_point": True, **more}}


def write(folder, tensors, config, extra=None):
    d = ROOT / folder
    shutil.rmtree(d, ignore_errors=True)
    d.mkdir(parents=True)
    save_file({k: v.contiguous() for k, v in tensors.items()}, str(d / "model.safetensors"))
    (d / "config.json").write_text(json.dumps(config) + "\n")
    if extra:
        (d / "quant_config.json").write_text(json.dumps(extra) + "\n")


def error(name, text):
    return {f"{name}.error": torch.frombuffer(bytearray(text.encode()), dtype=torch.uint8)}


def main():
    t = gemm("a", 32, 128, 32, 1) | gemm("tail", 32, 96, 32, 2) | random_gemm("random_words", 16, 64, 32, 3)
    t |= random_gemm("bf16", 16, 64, 32, 4, torch.bfloat16)
    write("awq4-gemm", t, config(4, 32, "GEMM", modules_to_not_convert=["visual"]))
    write("awq4-gemm-one", gemm("one", 32, 96, -1, 6), {}, {"w_bit": 4, "q_group_size": -1, "zero_point": True,
                                                             "version": "GEMM"})
    write("awq4-gemm-128", gemm("b", 32, 256, 128, 7), config(4, 128, "gemm"))
    # Files without zeros: 8.
    lin, s, z, w, _ = grid(32, 64, 32, 8, sym=True)
    m = WQLinear_GEMM.from_linear(lin, 4, 32, scales=s.T.contiguous(), zeros=z.T.contiguous())
    none = {"no_zeros.qweight": m.qweight, "no_zeros.scales": m.scales, "no_zeros.expected": w}
    write("awq4-symmetric", none, config(4, 32, "gemm", zero_point=False))
    write("awq4-gemv", gemv("a", 24, 128, 32, 10) | gemv("tail", 8, 320, 32, 11), config(4, 32, "gemv"))
    write("awq4-gemv-64", gemv("a", 8, 320, 64, 12), config(4, 64, "gemv"))
    write("awq4-gemv-128", gemv("a", 8, 384, 128, 13), config(4, 128, "gemv"))
    write("awq4-gemv-fast", fast("a", 24, 128, 32, 14) | fast("tail", 8, 320, 32, 15), config(4, 32, "gemv_fast"))
    write("awq4-llm-awq", fast("a", 8, 128, 64, 16, llm_awq=True), config(4, 64, "gemm", backend="llm-awq"))
    write("awq4-marlin", marlin("a", 128, 64, 32, 17), config(4, 32, "marlin", zero_point=False))
    write("gptq4-marlin", marlin("a", 128, 64, 32, 18, gptq_names=True), {"quantization_config": {
        "quant_method": "gptq", "bits": 4, "group_size": 32, "sym": True, "is_marlin_format": True}})
    write("gptq4-marlin-one", marlin("one", 128, 32, -1, 19, gptq_names=True), {"quantization_config": {
        "quant_method": "gptq", "bits": 4, "group_size": -1, "sym": True, "checkpoint_format": "marlin"}})
    write("awq8-gemm", gemm8("a", 20, 96, 32, 20) | gemm8("tail", 8, 288, 32, 21), config(8, 32, "gemm"))

    base = random_gemm("x", 16, 64, 32, 30)
    bad = {}

    def broken(name, text, drop=(), **change):
        for p in ("qweight", "qzeros", "scales"):
            if p not in drop:
                bad[f"{name}.{p}"] = change.get(p, base[f"x.{p}"]).clone()
        bad.update(error(name, text))
    broken("no_zeros", "qzeros is missing", drop=("qzeros",))
    broken("no_scales", "scales' is missing", drop=("scales",))
    broken("scales_shape", "scales' has shape [1, 16], expected [2, 16]", scales=base["x.scales"][:1])
    broken("zeros_shape", "qzeros' has shape [2, 1], expected [2, 2]", qzeros=base["x.qzeros"][:, :1])
    broken("words_type", "no format claims", qweight=base["x.qweight"].long())
    write("awq-refused", bad, config(4, 32, "gemm"))


if __name__ == "__main__":
    main()
