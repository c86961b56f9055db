#!/usr/bin/env python3
"""Matrices as bitsandbytes stores them, and what it decodes them to: checkpoints/bnb-*/.

    python make_bnb.py

Modules "random*" have random bytes, scales of either sign and, where nested, random 8-bit codes. "<module>.expected"
is what bitsandbytes' portable backend (backends/default/ops.py) dequantizes them to, in the type named by the state,
and functional.int8_vectorwise_dequant in float32. The native CPU kernel of 0.50.2 gives the same where the rows are
whole blocks (asserted); elsewhere it takes one scale for 32 columns that two blocks share, unlike that and CUDA.
"""
import json
import pathlib
import shutil

import bitsandbytes.functional as F
import torch
from bitsandbytes.backends.default.ops import _dequantize_4bit_compute
from safetensors.torch import save_file

ROOT = pathlib.Path(__file__).resolve().parent / "checkpoints"
G = torch.Generator().manual_seed(7)


def normal(*shape, dtype=torch.float32):
    return (0.02 * torch.randn(shape, generator=G)).to(dtype)


def text(s):
    return torch.frombuffer(bytearray(s.encode()), dtype=torch.uint8).clone()


def parts(name, packed, state):
    """The tensors of one 4-bit weight, as transformers saves them."""
    t = {f"{name}.weight": packed}
    for key, v in state.as_dict(packed=True).items():
        t[f"{name}.weight.{key}"] = v.clone()
    return t


def four(name, n, k, kind, nested, block=64, dtype=torch.float32, storage=torch.uint8, random=False):
    packed, state = F.quantize_4bit(normal(n, k, dtype=dtype), blocksize=block, compress_statistics=nested,
                                    quant_type=kind, quant_storage=storage)
    if random:
        packed = torch.randint(0, 256, packed.shape, dtype=torch.uint8, generator=G)
        state.absmax = (torch.randint(0, 256, state.absmax.shape, dtype=torch.uint8, generator=G) if nested else
                        torch.randn(state.absmax.shape, generator=G))
    absmax = state.absmax
    if nested:
        absmax = F.dequantize_blockwise(absmax, state.state2).float() + state.offset
    want = _dequantize_4bit_compute(packed.view(torch.uint8).reshape(-1), absmax.float(), state.code, block, (n, k), dtype)
    if k % block == 0:
        assert torch.equal(F.dequantize_4bit(packed, state).reshape(n, k), want), name
    return parts(name, packed, state) | {f"{name}.expected": want.reshape(n, k).clone()}


def eight(name, n, k, random=False, zero=False):
    w = normal(n, k, dtype=torch.float16)
    if zero:
        w[1] = 0
    q, scb, _ = F.int8_vectorwise_quant(w)
    if random:
        q = torch.randint(-128, 128, (n, k), dtype=torch.int8, generator=G)
    return {f"{name}.weight": q, f"{name}.SCB": scb, f"{name}.weight_format": torch.zeros((), dtype=torch.uint8),
            f"{name}.expected": F.int8_vectorwise_dequant(q, scb)}


def write(folder, tensors, **config):
    d = ROOT / folder
    shutil.rmtree(d, ignore_errors=True)
    d.mkdir(parents=True)
    save_file({k: v.clone().contiguous() for k, v in tensors.items()}, str(d / "model.safetensors"))
    (d / "config.json").write_text(json.dumps({"quantization_config": {"quant_method": "bitsandbytes", **config}}) + "\n")


def replaced(tensors, name, to, error, state=None, drop=(), **new):
    """A copy of module `name` called `to` with something wrong in it."""
    t = {}
    for key, v in tensors.items():
        if not key.startswith(name + ".") or key == f"{name}.expected":
            continue
        suffix = key[len(name) + 1:]
        short = suffix.split(".")[-1]
        if short in drop:
            continue
        if state is not None and "quant_state" in suffix:
            v = text(state if isinstance(state, str) else json.dumps({**json.loads(bytes(v.numpy())), **state}))
        t[f"{to}.{suffix}"] = new.get(short, v)
    return t | {f"{to}.error": text(error)}


def refused():
    good = four("m", 4, 64, "nf4", True) | four("p", 4, 64, "fp4", False)
    good |= eight("i", 4, 32)
    fix = lambda *a, **b: replaced(good, *a, **b)
    t = fix("m", "nested_short", "weight.nested_absmax has 4 bytes, expected 8",
            state={"nested_blocksize": 2})  # which four blocks of 64 need two of
    t |= fix("m", "nested_gone", "weight.nested_absmax is missing", drop=("nested_absmax",))
    t |= fix("m", "map_gone", "weight.nested_quant_map is missing", drop=("nested_quant_map",))
    t |= fix("m", "map_short", "'map_short.weight.nested_quant_map' has shape [255], expected [256]",
             nested_quant_map=good["m.weight.nested_quant_map"][:255])
    t |= fix("m", "absmax_short", "weight.absmax has 3 bytes, expected 4", absmax=good["m.weight.absmax"][:3])
    bad = good["m.weight.nested_absmax"].clone()
    bad[0] = float("inf")
    t |= fix("m", "nested_inf", "weight.nested_absmax[0] is not finite", nested_absmax=bad)
    bad = good["p.weight.quant_map"].clone()
    bad[3] = float("nan")
    t |= fix("p", "map_nan", "weight.quant_map[3] is not finite", quant_map=bad)
    t |= fix("p", "weight_short", "weight has 127 bytes, expected 128", weight=good["p.weight"][:127])
    t |= fix("p", "quant_map_gone", "'quant_map_gone.weight.quant_map' is missing; fp4 needs it", drop=("quant_map",))
    for i, (state, error) in enumerate([
            ({"blocksize": 0}, "blocksize is no power of two from 32 to 4096"),
            ({"blocksize": 96}, "blocksize is no power of two"), ({"blocksize": 8192}, "blocksize is no power of two"),
            ({"blocksize": "64"}, "blocksize is no power of two"), ({"blocksize": 64.5}, "blocksize is no power of two"),
            ({"blocksize": 10**30}, "blocksize is no power of two"),
            ({"shape": [4, 65]}, "weight has 128 bytes, expected 130"),
            ({"shape": [-4, 64]}, "shape is not two sizes"), ({"shape": [4]}, "shape is not two sizes"),
            ({"shape": [4, 64, 1]}, "shape is not two sizes"), ({"shape": "4x64"}, "shape is not two sizes"),
            ({"shape": [2**60, 2**20]}, "is more than there can be"), ({"shape": None}, "shape is not two sizes"),
            ({"quant_type": "nf4"}, "quant_type is not \"fp4\""), ({"quant_type": None}, "quant_type is not"),
            (" ", "weight.quant_state.bitsandbytes__fp4 is no JSON object"), ("[1]", "is no JSON object"),
            ("{}", "quant_type is missing"), ('{"quant_type": "fp4", "shape": [4, 64]}', "blocksize is missing"),
            ('{"quant_type": "fp4", "blocksize": 64}', "shape is missing"),
            ('{"quant_type": "fp4", "blocksize": 64, "shape": [4, 64', "weight.quant_state.bitsandbytes__fp4"),
            (" " * 5000, "has 5000 bytes, expected at most 4096")]):
        t |= fix("p", f"state_{i}", error, state=state)
    for i, (state, error) in enumerate([
            ({"nested_blocksize": 0}, "nested_blocksize is no power of two"),
            ({"nested_blocksize": 100}, "nested_blocksize is no power of two"), ({"nested_blocksize": 2**21}, "nested_blocksize is no power of two"),
            ({"nested_offset": "0"}, "nested_offset is no finite number"),
            ({"nested_offset": float("nan")}, "nested_offset is no finite number")]):
        t |= fix("m", f"nested_{i}", error, state=state)
    names = {1: "col32", 2: "col_turing", 3: "col_ampere", 9: "unknown"}
    for form, order in names.items():
        t |= fix("i", f"format_{form}", f"weight_format is {form} ({order}), expected 0 (row)",
                 weight_format=torch.tensor(form, dtype=torch.uint8))
    t |= fix("i", "scb_short", "'scb_short.SCB' has shape [3], expected [4]", SCB=good["i.SCB"][:3])
    t |= fix("i", "scb_gone", "no format claims the parts of 'scb_gone'", drop=("SCB",))
    write("bnb-refused", t, load_in_4bit=True)


def main():
    for kind in ("nf4", "fp4"):
        t = four("plain", 5, 192, kind, False) | four("nested", 6, 512, kind, True)
        for dtype in ("bfloat16", "float16"):
            t |= four(dtype, 3, 128, kind, True, dtype=getattr(torch, dtype))
        t |= four("random", 6, 256, kind, False, random=True) | four("random_nested", 7, 320, kind, True, random=True)
        t["plain.bias"] = normal(5)
        if kind == "nf4":  # more than the 256 blocks of one nested scale
            t |= four("two_nested", 33, 512, kind, True, dtype=torch.bfloat16)
        write(f"bnb-{kind}", t, load_in_4bit=True, bnb_4bit_quant_type=kind)
    t = {}
    for block in (32, 64, 128, 256, 512, 1024, 2048, 4096):
        t |= four(f"b{block}", 3, 288, "nf4", block % 128 == 0, block)
    write("bnb-blocksizes", t, load_in_4bit=True)
    # Blocks that cross rows, rows that start within a byte, one number too few for a byte.
    t = four("shared32", 5, 96, "nf4", True) | four("shared16", 5, 80, "nf4", False)
    t |= four("shared2", 9, 70, "nf4", True) | four("odd", 7, 37, "nf4", False) | four("odd_nested", 9, 333, "fp4", True)
    t |= four("less_than_a_block", 3, 7, "fp4", False) | four("one", 1, 1, "nf4", False)
    t |= four("row_of_a_block", 12, 64, "nf4", False, 4096)
    write("bnb-crossing", t, load_in_4bit=True)
    t = {}
    for storage in (torch.bfloat16, torch.float16, torch.float32, torch.int8):
        t |= four(str(storage)[6:], 4, 128, "nf4", True, storage=storage)
    write("bnb-storage", t, load_in_4bit=True, bnb_4bit_quant_storage="bfloat16")
    t = eight("model.layers.0.mlp.up_proj", 5, 300, zero=True) | eight("random", 4, 64, random=True) | eight("odd", 3, 7)
    t |= eight("old", 4, 32)
    del t["old.weight_format"]
    t["lm_head.weight"] = normal(3, 8, dtype=torch.float16)
    t["lm_head.expected"] = t["lm_head.weight"].clone()
    write("bnb-int8", t, load_in_8bit=True, llm_int8_threshold=6.0, llm_int8_skip_modules=["lm_head"])
    refused()


if __name__ == "__main__":
    main()
