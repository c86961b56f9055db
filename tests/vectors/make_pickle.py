#!/usr/bin/env python3
"""Checkpoints that torch.save wrote, and HQQ's qmodel.pt: torch/*.pt, checkpoints/hqq-pt*/.

    python make_pickle.py

torch/ is what tests/pickle_test.c opens: every storage type, types without one, views, scalars, nested dictionaries, a
state_dict with its _metadata, protocol 4. hqq-pt is HQQLinear's own state_dict, not encoded, as
AutoHQQHFModel.save_quantized writes it; hqq-pt-meta is the form of hqq before 0.2, all but W_q in a
dictionary "meta" with quantized scales and zeros. "<module>.expected" as make_hqq.py.
"""
import json
import pathlib
import shutil

import torch

from make_hqq import BF16, F16, F32, config, expected, quantize

HERE = pathlib.Path(__file__).resolve().parent


def state(m):
    m.encoded_state_dict = False
    return dict(m.state_dict())


def old_state(m):
    m.encoded_state_dict = False
    out = {"W_q": m.W_q, "meta": m.meta}
    if m.bias is not None:
        out["bias"] = m.bias
    return out


def save_hqq(folder, modules, how):
    d = HERE / "checkpoints" / folder
    shutil.rmtree(d, ignore_errors=True)
    d.mkdir(parents=True)
    weights = {}
    for name, m in modules.items():
        weights[name] = how(m)
        weights[f"{name}.expected"] = expected(m)
    torch.save(weights, d / "qmodel.pt")
    (d / "config.json").write_text(json.dumps({"architectures": ["LlamaForCausalLM"]}) + "\n")


def main():
    save_hqq("hqq-pt", {
        "three": quantize(16, 40, 3, 64, 0), "four": quantize(6, 128, 4, 64, 1, BF16, bias=True),
        "two": quantize(8, 64, 1.58, 64, 1), "view": quantize(4, 128, 4, 64, 1, F16, view_as_float=True),
        "one_scale": quantize(6, 64, 8, None, 1, channel_wise=False)}, state)
    quantized = {"nbits": 8, "channel_wise": True, "group_size": 8, "optimize": False, "axis": 1}
    whole = {"nbits": 8, "channel_wise": False, "group_size": None, "optimize": False, "axis": 0}
    save_hqq("hqq-pt-meta", {
        "plain": quantize(6, 128, 4, 32, 1), "zero": quantize(8, 128, 4, 32, 1, zero=dict(whole)),
        "both": quantize(8, 128, 2, 16, 1, scale=dict(quantized), zero=dict(whole))}, old_state)

    out = HERE / "torch"
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir()
    a = torch.arange(24, dtype=torch.float32)
    kinds = {str(t)[6:]: torch.arange(6).to(t).reshape(2, 3) for t in (
        torch.float32, torch.float16, torch.bfloat16, torch.float64, torch.int8, torch.int16, torch.int32,
        torch.int64, torch.uint8, torch.bool)}
    torch.save({"kinds": kinds, "scalar": torch.tensor(2.5), "empty": torch.zeros(0, 4),
                "parameter": torch.nn.Parameter(torch.ones(3)),
                # Rows 2 and 3, and one element by itself, of one storage; two names for the same tensor.
                "rows": a.reshape(6, 4)[2:4], "element": a[7], "tied": a, "head": a,
                "one_wide": a[5:8].reshape(3, 1, 1).transpose(0, 1)}, out / "tensors.pt")
    # Types without a storage of their own: a storage of bytes, and the type beside it.
    own = {str(t)[6:]: torch.arange(6).to(t).reshape(2, 3) for t in (
        torch.float8_e4m3fn, torch.float8_e5m2, torch.float8_e4m3fnuz, torch.float8_e5m2fnuz, torch.uint16,
        torch.uint32, torch.uint64)}
    torch.save({"kinds": {**own, "float8_e8m0fnu": torch.ones(2, 3).to(torch.float8_e8m0fnu)},
                "parameter": torch.nn.Parameter(own["float8_e4m3fn"], requires_grad=False),
                "row": own["uint16"][1], "empty": torch.zeros(0, 4).to(torch.float8_e5m2)}, out / "own_types.pt")
    torch.save({"m": {"int": 5, "long": 1 << 40, "negative": -3, "float": 1.5, "yes": True, "no": False, "none": None,
                      "text": "4bit_u8", "dtype": torch.bfloat16, "shape": torch.Size([3, 4]), "list": [1, 2, 3],
                      "device": torch.device("cpu"), "deep": {"er": {"x": torch.ones(2)}}},
                3: [torch.zeros(1), {"y": torch.ones(1)}]}, out / "values.pt")
    linear = torch.nn.Sequential(torch.nn.Linear(3, 2), torch.nn.LayerNorm(2))
    with torch.no_grad():
        for i, p in enumerate(linear.parameters()):
            p.copy_(torch.arange(p.numel()).reshape(p.shape) + i)
    torch.save(linear.state_dict(), out / "state_dict.pt")
    torch.save(linear.state_dict(), out / "protocol4.pt", pickle_protocol=4)
    torch.save({"w": a.reshape(4, 6).t()}, out / "transposed.pt")
    torch.save({"w": a[:1].expand(4)}, out / "expanded.pt")
    torch.save({"w": a[::2]}, out / "every_second.pt")
    torch.save({"w": a.to(torch.complex64)}, out / "complex.pt")
    torch.save({"w": a[:4]}, out / "old.pt", _use_new_zipfile_serialization=False)
    torch.save([a[:2]], out / "list.pt")
    torch.save(torch.nn.Linear(2, 2), out / "module.pt")


if __name__ == "__main__":
    torch.manual_seed(0)
    main()
