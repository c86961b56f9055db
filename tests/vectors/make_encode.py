#!/usr/bin/env python3
"""What the packages make of the same weights when they quantize them: encode/*.safetensors, for tests/encode_test.c.

    python make_encode.py mlx|bnb|hqq|gptq|awq|ct|modelopt

"x" bf16 [32][256] is the input of every module. "<format>.<n>.<suffix>" are the parts that the package writes,
"<format>.<n>.spec" i32 [4] is group, group_n, sym, nested of sr_qspec. hqq's solver sums in another order than ours: its
modules have "expected" instead, what they decode to, and ours may not be further from x.
"""
import pathlib
import sys

import numpy as np

ROOT = pathlib.Path(__file__).resolve().parent / "encode"
N, K = 32, 256


def weights():
    rng = np.random.default_rng(11)
    w = rng.normal(0, 0.05, (N, K)).astype(np.float32)
    w[1] = np.abs(w[1])
    w[2] = -np.abs(w[2])
    w[3, 7] = 3.5
    w[4] *= 1e-3
    w[5] = np.float32(0.25) * rng.integers(-4, 5, K)  # ties
    return ((w.view(np.uint32) + 0x8000) & 0xFFFF0000).view(np.float32)


def run_mlx():
    import mlx.core as mx
    x = mx.array(weights()).astype(mx.bfloat16)
    out = {"x": x}
    spec = lambda g: mx.array(np.array([g, 0, 0, 0], np.int32))
    for bits in (2, 3, 4, 5, 6, 8):
        for i, g in enumerate((32, 64, 128)):
            name = f"mlx{bits}.{i}"
            out[f"{name}.weight"], out[f"{name}.scales"], out[f"{name}.biases"] = mx.quantize(x, group_size=g, bits=bits)
            out[f"{name}.spec"] = spec(g)
    for mode, g in (("mxfp4", 32), ("nvfp4", 16), ("mxfp8", 32)):
        name = f"mlx_{mode}.0"
        out[f"{name}.weight"], out[f"{name}.scales"] = mx.quantize(x, mode=mode)
        out[f"{name}.spec"] = spec(g)
    mx.save_safetensors(str(ROOT / "mlx.safetensors"), out)


def torch_x():
    import torch
    return torch.from_numpy(weights())


def save(family, out):
    import torch
    from safetensors.torch import save_file
    out["x"] = torch_x().bfloat16()
    save_file({k: v.detach().clone().contiguous() for k, v in out.items()}, str(ROOT / f"{family}.safetensors"))


def spec(group, group_n=0, sym=0, nested=0):
    import torch
    return torch.tensor([group, group_n, sym, nested], dtype=torch.int32)


def run_bnb():
    import bitsandbytes.functional as F
    import torch
    x, out = torch_x(), {}
    for kind in ("nf4", "fp4"):
        for i, (block, nested) in enumerate(((64, False), (128, False), (64, True))):
            q, state = F.quantize_4bit(x, blocksize=block, compress_statistics=nested, quant_type=kind)
            name = f"{kind}.{i}"
            out[f"{name}.weight"] = q
            for key, v in state.as_dict(packed=True).items():
                if "quant_state" not in key:
                    out[f"{name}.weight.{key}"] = v
            out[f"{name}.spec"] = spec(block, nested=nested)
    q, scb, _ = F.int8_vectorwise_quant(x)
    out |= {"bnb_int8.0.weight": q, "bnb_int8.0.SCB": scb, "bnb_int8.0.spec": spec(-1)}
    save("bnb", out)


def run_hqq():
    import torch
    from hqq.core.quantize import Quantizer
    x, out = torch_x(), {}
    for bits in (8, 4, 3, 2, 1):
        q, meta = Quantizer.quantize(x, nbits=bits, group_size=64, axis=1, round_zero=bits == 4, device="cpu")
        meta["scale"], meta["zero"], meta["compute_dtype"] = meta["scale"].half().float(), meta["zero"].half().float(), torch.float32
        out[f"hqq{bits}.0.expected"] = Quantizer.dequantize(q, meta).half()
        out[f"hqq{bits}.0.spec"] = spec(64)
    save("hqq", out)


def grouped(x, group, f):
    """f of [N][groups][group], back to [N][K]"""
    return f(x.reshape(N, -1, group)).reshape(N, -1)


def run_gptq():
    import torch
    from gptqmodel.nn_modules.qlinear.torch import TorchLinear
    from gptqmodel.quantization.config import FORMAT, QuantizeConfig
    from gptqmodel.quantization.quantizer import Quantizer
    x, out = torch_x(), {}
    for bits in (2, 3, 4, 5, 6, 7, 8):
        for i, (group, sym) in enumerate(((128, True), (32, False), (-1, False))):
            size = K if group == -1 else group
            config = QuantizeConfig(bits=4, group_size=group, sym=sym)
            object.__setattr__(config, "bits", bits)
            q = Quantizer(config)
            q.configure(perchannel=True)
            scales, zeros = [], []
            for g in range(K // size):
                part = x[:, g * size:(g + 1) * size]
                if sym:  # with both signs: of groups that have one it would leave half of the codes unused, and clip
                    part = torch.cat([part, -part], 1)
                q.find_params(part, weight=True)
                scales.append(q.scale.reshape(N, 1).half().float())
                zeros.append(q.zero.reshape(N, 1).clamp(0, 2 ** bits - 1))
            scales, zeros = torch.cat(scales, 1), torch.cat(zeros, 1)
            wide = lambda v: v.repeat_interleave(size, 1)
            lin = torch.nn.Linear(K, N, bias=False)
            code = torch.clamp(torch.round(x / wide(scales)) + wide(zeros), 0, 2 ** bits - 1)
            lin.weight.data = (code - wide(zeros)) * wide(scales)
            m = TorchLinear(bits=bits, group_size=group, sym=sym, desc_act=False, in_features=K, out_features=N,
                            bias=False, register_buffers=True, format=FORMAT.GPTQ_P if bits in (5, 6, 7) else FORMAT.GPTQ_V2)
            m.pack_block(lin, scales, zeros, (torch.arange(K) // size).int())
            for p in ("qweight", "qzeros", "scales", "g_idx"):
                out[f"gptq{bits}.{i}.{p}"] = getattr(m, p)
            out[f"gptq{bits}.{i}.spec"] = spec(group, sym=sym)
    save("gptq", out)


def run_awq():
    import torch
    from awq.modules.linear.gemm import WQLinear_GEMM
    x, out = torch_x(), {}
    for i, group in enumerate((128, 64)):
        part = x.reshape(N, -1, group)
        low, high = part.amin(2).clamp(max=0), part.amax(2).clamp(min=0)
        s = ((high - low).clamp(min=1e-5) / 15)
        z = (-torch.round(low / s)).clamp(0, 15)
        s = s.half().float()
        wide = lambda v: v.repeat_interleave(group, 1)
        lin = torch.nn.Linear(K, N, bias=False)
        lin.weight.data = (torch.clamp(torch.round(torch_x() / wide(s)) + wide(z), 0, 15) - wide(z)) * wide(s)
        m = WQLinear_GEMM.from_linear(lin, 4, group, scales=s.T.contiguous(), zeros=z.T.contiguous())
        for p in ("qweight", "qzeros", "scales"):
            out[f"awq4.{i}.{p}"] = getattr(m, p)
        out[f"awq4.{i}.spec"] = spec(group)
    save("awq", out)


def run_ct():
    import torch
    from compressed_tensors.compressors.nvfp4.helpers import quantize_and_pack_fp4
    from compressed_tensors.compressors.pack_quantized.helpers import pack_to_int32
    from compressed_tensors.quantization import QuantizationArgs
    from compressed_tensors.quantization.utils.helpers import calculate_qparams, generate_gparam
    x, out = torch_x(), {}
    for bits in (2, 3, 4, 5, 6, 7, 8):
        for i, (group, sym) in enumerate(((128, True), (32, False))):
            args = QuantizationArgs(num_bits=bits, type="int", strategy="group", group_size=group, symmetric=sym)
            part = x.reshape(N, -1, group)
            s, z = calculate_qparams(part.amin(2), part.amax(2), args)
            s, z = s.bfloat16().float(), z.float()
            wide = lambda v: v.repeat_interleave(group, 1)
            q = torch.clamp(torch.round(x / wide(s)) + wide(z), -2 ** (bits - 1), 2 ** (bits - 1) - 1).to(torch.int8)
            name = f"ct_pack{bits}.{i}"
            out[f"{name}.weight_packed"], out[f"{name}.weight_scale"] = pack_to_int32(q, bits), s.bfloat16()
            if not sym:
                out[f"{name}.weight_zero_point"] = pack_to_int32(z.to(torch.int8), bits, packed_dim=0)
            out[f"{name}.spec"] = spec(group, sym=sym)
    for name, sym in (("ct_int8", True), ("ct_int8_asym", False)):
        args = QuantizationArgs(num_bits=8, type="int", strategy="channel", symmetric=sym)
        s, z = calculate_qparams(x.amin(1, keepdim=True), x.amax(1, keepdim=True), args)
        s, z = s.bfloat16().float(), z.float()
        out[f"{name}.0.weight"] = torch.clamp(torch.round(x / s) + z, -128, 127).to(torch.int8)
        out[f"{name}.0.weight_scale"] = s.bfloat16()
        if not sym:
            out[f"{name}.0.weight_zero_point"] = z.to(torch.int8)
        out[f"{name}.0.spec"] = spec(-1, sym=sym)
    amax = x.abs().reshape(N, -1, 16).amax(2)
    args = QuantizationArgs(num_bits=4, type="float", strategy="tensor_group", group_size=16, symmetric=True,
                            scale_dtype=torch.float8_e4m3fn)
    g = generate_gparam(x.min(), x.max())
    s, _ = calculate_qparams(-amax, amax, args, global_scale=g)
    out["ct_nvfp4.0.weight_packed"] = quantize_and_pack_fp4(x, s, global_scale=g, group_size=16)
    out["ct_nvfp4.0.weight_scale"], out["ct_nvfp4.0.weight_global_scale"] = s.to(torch.float8_e4m3fn), g
    out["ct_nvfp4.0.spec"] = spec(16, sym=1)
    amax = x.abs().reshape(N, -1, 32).amax(2)
    args = QuantizationArgs(num_bits=4, type="float", strategy="group", group_size=32, symmetric=True, scale_dtype=torch.uint8)
    s, _ = calculate_qparams(-amax, amax, args)
    out["ct_mxfp4.0.weight_packed"] = quantize_and_pack_fp4(x, s, group_size=32)
    out["ct_mxfp4.0.weight_scale"] = (127 + torch.floor(torch.log2(s))).to(torch.uint8)
    out["ct_mxfp4.0.spec"] = spec(32, sym=1)
    for name, dtype, most in (("fp8_e4m3", torch.float8_e4m3fn, 448), ("fp8_e5m2", torch.float8_e5m2, 57344)):
        for i, (gn, gk) in enumerate(((1, K), (N, K), (16, 128), (1, 64))):
            part = x.reshape(N // gn, gn, K // gk, gk)
            s = part.abs().amax((1, 3), keepdim=True) / most
            out[f"{name}.{i}.weight"] = (part / s).clamp(-most, most).to(dtype).reshape(N, K)
            out[f"{name}.{i}.weight_scale_inv"] = s.reshape(N // gn, K // gk)
            out[f"{name}.{i}.spec"] = spec(-1 if gk == K else gk, gn, 1)
    save("ct", out)


def run_modelopt():
    import torch
    from modelopt.torch.quantization.qtensor import NVFP4QTensor
    q, scale, double = NVFP4QTensor.quantize(torch_x(), 16)
    save("modelopt", {"modelopt_nvfp4.0.weight": q._quantized_data, "modelopt_nvfp4.0.weight_scale": scale,
                      "modelopt_nvfp4.0.weight_scale_2": double.float().reshape(1), "modelopt_nvfp4.0.spec": spec(16, sym=1)})


if __name__ == "__main__":
    ROOT.mkdir(exist_ok=True)
    globals()[f"run_{sys.argv[1]}"]()
