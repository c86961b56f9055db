#!/usr/bin/env python3
"""gguf/little.gguf and gguf/big.gguf: one small file as the `gguf` package writes it, and
the same converted to big-endian by the package's own gguf_convert_endian.

    python gguf_endian.py
"""
import io
import pathlib
import shutil
import sys

import numpy as np
import gguf
from gguf import GGMLQuantizationType as T
from gguf.scripts import gguf_convert_endian

OUT = pathlib.Path(__file__).resolve().parent / "gguf"
# Types that the converter handles, and a row length for each.
TYPES = {T.F32: 6, T.F16: 6, T.BF16: 6, T.Q4_0: 64, T.Q8_0: 32, T.Q4_K: 256, T.Q6_K: 256, T.MXFP4: 32, T.NVFP4: 64}


def main():
    little, big = OUT / "little.gguf", OUT / "big.gguf"
    rng = np.random.Generator(np.random.PCG64(1))
    writer = gguf.GGUFWriter(str(little), "llama")
    writer.add_uint32("llama.block_count", 0x01020304)
    writer.add_float32("llama.rope.freq_base", 1e4)
    writer.add_array("tokenizer.ggml.tokens", ["a", "", "bcd"])
    writer.add_array("tokenizer.ggml.scores", [0.5, -1.25, 3.0])
    for kind, k in TYPES.items():
        block, size = gguf.GGML_QUANT_SIZES[kind]
        data = rng.integers(0, 256, (2, k // block * size)).astype(np.uint8)
        if kind == T.F32:
            writer.add_tensor(kind.name.lower(), data.view(np.float32))
        elif kind == T.F16:
            writer.add_tensor(kind.name.lower(), data.view(np.float16))
        else:
            writer.add_tensor(kind.name.lower(), data, raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    shutil.copy(little, big)
    sys.argv = ["gguf_convert_endian.py", str(big), "big"]
    sys.stdin = io.StringIO("YES\n")
    gguf_convert_endian.main()
    print(little.stat().st_size, big.stat().st_size)


if __name__ == "__main__":
    main()
