#!/usr/bin/env python3
"""Matrices as auto-round packs them, and what its own modules decode them to: checkpoints/autoround-*/.

    python make_autoround.py

One folder a packing_format, which says how zeros are stored. Weights lie near a random grid of f16 scales and zeros, so
that packing rounds them to it; gptq's modules are applied to the identity, awq's are decoded by dequantize_gemm.
"""
import json
import pathlib
import shutil
import sys
from unittest.mock import MagicMock

import torch
from safetensors.torch import save_file

sys.modules["datasets"] = MagicMock()  # for calibration, and imported by everything
from auto_round.export.export_to_awq.utils import WQLinear_GEMM, dequantize_gemm  # noqa: E402
from auto_round_extension.torch import qlinear_torch, qlinear_torch_zp  # noqa: E402

ROOT = pathlib.Path(__file__).resolve().parent / "checkpoints"
PARTS = ("qweight", "qzeros", "scales", "g_idx")
KINDS = {"auto_round:auto_gptq": qlinear_torch_zp.QuantLinear, "auto_round:gptqmodel": qlinear_torch.QuantLinear,
         "auto_round": qlinear_torch.QuantLinear}


def grid(n, k, bits, group, sym, seed):
    """Weights [N][K]; scales and zeros [N][G], zeros one number if sym. A zero of 0 cannot be stored less one."""
    g = torch.Generator().manual_seed(seed)
    groups, top = k // group, 2 ** bits
    scales = (torch.rand(n, groups, generator=g) * 0.02 + 0.001).half().float()
    zeros = torch.randint(1, top, (n, groups), generator=g).float()
    if sym:
        zeros = torch.full_like(zeros, top // 2)
    q = torch.randint(0, top, (n, k), generator=g) + (torch.rand(n, k, generator=g) - 0.5) * 0.8
    w = (q - zeros.repeat_interleave(group, 1)) * scales.repeat_interleave(group, 1)
    return w, scales, top // 2 if sym else zeros


def gptq(packing, name, n, k, bits, group, sym, seed):
    w, scales, zeros = grid(n, k, bits, group, sym, seed)
    linear = torch.nn.Linear(k, n, bias=False)
    linear.weight.data = w
    more = {"g_idx": True} if "gptqmodel" in packing else {}
    m = KINDS[packing](bits, group, k, n, False, **more)
    m.device = "cpu"
    m.pack(linear, scales, zeros, None, device="cpu")
    out = {f"{name}.{p}": getattr(m, p).contiguous() for p in PARTS if isinstance(getattr(m, p, None), torch.Tensor)}
    m.scales = m.scales.float()
    m.dequant_dtype = torch.int16
    with torch.no_grad():
        out[f"{name}.expected"] = m(torch.eye(k)).t().contiguous()
    return out


def awq(name, n, k, group, sym, seed):
    w, scales, zeros = grid(n, k, 4, group, sym, seed)
    linear = torch.nn.Linear(k, n, bias=False)
    linear.weight.data = w
    m = WQLinear_GEMM.from_linear(linear, 4, group, scales=scales.t().contiguous(),
                                  zeros=zeros if sym else zeros.t().contiguous(), device="cpu")
    out = {f"{name}.{p}": getattr(m, p).contiguous() for p in PARTS[:3]}
    out[f"{name}.expected"] = dequantize_gemm(m.qweight, m.qzeros, m.scales.float(), 4, group).t().contiguous()
    return out


def write(folder, packing, tensors, extra):
    d = ROOT / folder
    shutil.rmtree(d, ignore_errors=True)
    d.mkdir(parents=True)
    save_file(tensors, str(d / "model.safetensors"))
    config = {"quant_method": "auto-round", "packing_format": packing, "bits": 4, "group_size": 32, "sym": False,
              "data_type": "int", "block_name_to_quantize": "model.layers", "extra_config": extra}
    (d / "config.json").write_text(json.dumps({"quantization_config": config}) + "\n")
    print(folder, len(tensors), sum(p.stat().st_size for p in d.iterdir()))


def main():
    for i, (folder, packing) in enumerate((("autoround-gptq", "auto_round:auto_gptq"),
                                           ("autoround-gptqmodel", "auto_round:gptqmodel"),
                                           ("autoround-own", "auto_round"))):
        t, extra = {}, {}
        for j, bits in enumerate((4, 3) if i else (4, 2, 3, 5, 6, 7, 8)):
            for sym in (False, True):
                name = f"model.layers.{j}.{'sym' if sym else 'asym'}"
                t |= gptq(packing, name, 32, 64, bits, 32, sym, 100 * i + 10 * j + sym)
                if bits != 4 or sym:
                    extra[name] = {"bits": bits, "sym": sym}
        t |= gptq(packing, "lm_head", 32, 64, 4, 64, False, 100 * i + 99)
        extra["lm_head"] = {"bits": 4, "group_size": 64, "sym": False, "act_bits": 16, "data_type": "int"}
        write(folder, packing, t, extra)
    t = awq("model.layers.0.asym", 32, 96, 32, False, 400) | awq("model.layers.0.sym", 24, 64, 32, True, 401)
    t |= awq("model.layers.1.asym", 16, 128, 64, False, 402)
    write("autoround-awq", "auto_round:auto_awq", t,
          {"model.layers.0.sym": {"sym": True}, ".*\\.1\\..*": {"group_size": 64}})


if __name__ == "__main__":
    main()
