#!/usr/bin/env python3
"""Golden blocks for the GGUF block types: gguf/<type>.bin and gguf/<type>_rtn.bin.

    python gguf_blocks.py [TYPE ...]

Without arguments it writes the committed set. The expected values come from the
`gguf` package (README.md pins the version); Q8_1, Q8_K, Q1_0 and Q2_0, which the package
does not decode, are computed here from their definition. The layouts of the
files are in README.md. The output is a function of this file and the pinned
packages only.
"""
import pathlib
import struct
import sys
import zlib

import numpy as np
import gguf
from gguf import GGMLQuantizationType as T
from gguf.quants import dequantize, quantize

OUT = pathlib.Path(__file__).resolve().parent / "gguf"
COMMITTED = "Q4_0 Q4_1 Q5_0 Q5_1 Q8_0 Q8_1 Q2_K Q3_K Q4_K Q5_K Q6_K Q8_K F16 BF16".split()
# Types of fewer blocks (README.md).
FEWER = "IQ1_S IQ1_M IQ2_XXS IQ2_XS IQ2_S IQ3_XXS IQ3_S IQ4_NL IQ4_XS TQ1_0 TQ2_0 Q1_0 Q2_0 MXFP4 NVFP4".split()
RTN = "Q4_0 Q4_1 Q5_0 Q5_1 Q8_0 TQ1_0 TQ2_0 Q1_0 Q2_0 MXFP4 NVFP4".split()

# Byte offsets of the f16 scale d and of the second f16 (m, dmin or s); None = absent.
FIELDS = {
    "Q4_0": (0, None), "Q4_1": (0, 2), "Q5_0": (0, None), "Q5_1": (0, 2),
    "Q8_0": (0, None), "Q8_1": (0, 2), "Q2_K": (80, 82), "Q3_K": (108, None),
    "Q4_K": (0, 2), "Q5_K": (0, 2), "Q6_K": (208, None), "Q8_K": (None, None),
    "IQ2_XXS": (0, None), "IQ2_XS": (0, None), "IQ2_S": (0, None), "IQ3_XXS": (0, None),
    "IQ3_S": (0, None), "IQ1_S": (0, None), "IQ4_NL": (0, None), "IQ4_XS": (0, None),
    "TQ1_0": (52, None), "TQ2_0": (64, None), "Q1_0": (0, None), "Q2_0": (0, None),
}

# Check values of the pattern block, measured with a compiled ggml:
# y[0], y[1], y[17], y[last], sum of y, sum of (i+1)*y[i].
PATTERN = {
    "Q4_0": (-0.1875, 0.125, -0.0625, 0, -1.3125, -32.375),
    "Q4_1": (0.96875, 0.28125, 0.78125, 0.78125, 16.3125, 265.4375),
    "Q5_0": (0.5625, -0.125, 0, 0.0625, 0.9375, 7),
    "Q5_1": (1.21875, 1.53125, 0.34375, 0.34375, 32.5625, 510.3125),
    "Q8_0": (5.3125, 7.625, -3.375, -3, -11, -505),
    "Q2_K": (2.0625, 0, -0.09375, 0.28125, 128.6875, 15195.625),
    "Q3_K": (5.0625, -6.75, 8, 2.625, 59.875, 11071.5625),
    "Q4_K": (19.71875, -1.59375, -1.59375, 3.03125, 3402.5, 473302.5),
    "Q5_K": (50.71875, -1.59375, -1.59375, 6.78125, 7263.5, 1001715.5),
    "Q6_K": (-89.4375, 106, 32, -3.75, 288.25, 49026.25),
    "Q8_K": (-6.0625, -3.75, 1.25, 7.625, -8, 2840),
    "IQ2_XXS": (-3.695312, 3.695312, 3.695312, -5.039062, 47.734375, 2299.5625),
    "IQ2_XS": (-0.6875, 2.148438, -1.1875, -1.1875, 93.15625, 7699.882812),
    "IQ2_S": (-9.070312, 5.273438, -7.726562, 4.882812, -50.0390625, -3880.039062),
    "IQ3_XXS": (-0.8125, 0.5625, -0.0625, -0.9375, -42.75, 188.9375),
    "IQ3_S": (-5.0625, 15.1875, -15.1875, 14.0625, 91, 12674.375),
    "IQ1_S": (-0.1640625, 0.0234375, -0.1640625, -0.2734375, 1.25, -739.3125),
    "IQ4_NL": (-2.1875, 1.5625, -0.625, 0.0625, -16.0625, -432.4375),
    "IQ4_XS": (4.0625, -0.0625, 2.1875, -1, -687.8125, -130695.875),
    "IQ1_M": (-0.0546875, 0.3828125, 0.1171875, -0.1171875, 2.5625, -139.75),
    "Q1_0": (0.0625, -0.0625, 0.0625, 0.0625, 0, -33.25),
    "Q2_0": (0, 0, 0.0625, 0.0625, 1.875, 50.8125),
    "MXFP4": (0, 0.1875, 0.1875, 0.1875, 0.78125, 19.9375),
    "NVFP4": (-6, 2, -1, 0.171875, -35.609375, -1227.671875),
    "TQ1_0": (-0.0625, -0.0625, 0, -0.0625, -0.125, -8.1875),
    "TQ2_0": (0.125, -0.0625, -0.0625, -0.0625, 8.0625, 1077.8125),
}

ZERO, NEG_ZERO, SUB_MIN, SUB_MAX = 0x0000, 0x8000, 0x0001, 0x03FF
MAX, NEG_MAX, SIXTEENTH, NEG_SIXTEENTH, THIRTYSECOND = 0x7BFF, 0xFBFF, 0x2C00, 0xAC00, 0x2800
# (d, m) of the edge blocks with random codes; types without m take the first column.
EDGE_SCALES = [
    (ZERO, ZERO), (NEG_ZERO, NEG_ZERO), (SUB_MIN, SUB_MIN), (SUB_MAX, NEG_ZERO),
    (MAX, MAX), (NEG_MAX, MAX), (NEG_SIXTEENTH, THIRTYSECOND), (ZERO, THIRTYSECOND),
    (SIXTEENTH, ZERO), (NEG_ZERO, MAX),
]
EDGE_FILLS = [0xFF, 0x00, 0x80, 0x7F, 0x0F, 0xF0]  # all code bytes alike, d = 1/16, m = 1/32


# Scale bytes of the 4-bit floats: of the pattern, and of the edge blocks with random codes.
FLOAT_SCALES = {
    "MXFP4": ([0x7B], [[e] for e in (0, 1, 2, 127, 128, 254, 255)]),
    "NVFP4": ([0x38, 0x30, 0x40, 0x2B], [[0, 1, 7, 8], [0x7E, 0x7F, 0x80, 0xFF], [0x77, 0x78, 0x38, 0x40]]),
}
SIZES = {"Q1_0": (128, 18), "Q2_0": (64, 18)}  # Q2_0 is younger than the package


def put_u16(block, at, value):
    block[at] = value & 0xFF
    block[at + 1] = value >> 8


def finite_f16(rng):
    while True:
        bits = int(rng.integers(0, 65536))
        if bits & 0x7C00 != 0x7C00:
            return bits


def ordinary_f16(rng):
    return int(np.float16(rng.uniform(1e-4, 0.1)).view(np.uint16))


def blocks_of(name, rng):
    size = gguf.GGML_QUANT_SIZES[T[name]][1]
    d_at, m_at = FIELDS[name]

    def scaled(codes, d, m):
        if d_at is None:  # Q8_K: the scale is a float32
            f = np.uint16(d).view(np.float16).astype(np.float32)
            codes[:4] = np.frombuffer(f.tobytes(), np.uint8)
        else:
            put_u16(codes, d_at, d)
        if m_at is not None:
            put_u16(codes, m_at, m)
        return codes

    def noise():
        return rng.integers(0, 256, size).astype(np.uint8)

    out = [scaled(((37 * np.arange(size) + 11) % 256).astype(np.uint8), SIXTEENTH, THIRTYSECOND)]
    out += [scaled(noise(), finite_f16(rng), finite_f16(rng)) for _ in range(12)]
    out += [scaled(noise(), ordinary_f16(rng), ordinary_f16(rng)) for _ in range(12)]
    out += [scaled(noise(), d, m) for d, m in EDGE_SCALES]
    out += [scaled(np.full(size, v, np.uint8), SIXTEENTH, THIRTYSECOND) for v in EDGE_FILLS]
    return np.stack(out)


def fewer_blocks(name, rng):
    size = SIZES.get(name, (0, 0))[1] or gguf.GGML_QUANT_SIZES[T[name]][1]

    def scaled(codes, d):
        if name == "IQ1_M":  # bits 4i .. 4i + 3 of d are bits 12 to 15 of the i-th of the last four u16
            for i in range(4):
                codes[49 + 2 * i] = codes[49 + 2 * i] & 15 | d >> 4 * i << 4 & 240
        else:
            put_u16(codes, FIELDS[name][0], d)
        return codes

    def noise():
        return rng.integers(0, 256, size).astype(np.uint8)

    pattern = ((37 * np.arange(size) + 11) % 256).astype(np.uint8)
    if name in FLOAT_SCALES:
        first, edges = FLOAT_SCALES[name]
        out = [pattern] + [noise() for _ in range(6 + len(edges))]
        for block, scales in zip([out[0]] + out[7:], [first] + edges):
            block[: len(scales)] = scales
        return np.stack(out)
    out = [scaled(pattern, SIXTEENTH)]
    out += [scaled(noise(), finite_f16(rng)) for _ in range(3)]
    out += [scaled(noise(), ordinary_f16(rng)) for _ in range(3)]
    out += [scaled(noise(), d) for d in (ZERO, NEG_ZERO, SUB_MIN, SUB_MAX, MAX, NEG_MAX, NEG_SIXTEENTH)]
    out += [scaled(np.full(size, v, np.uint8), SIXTEENTH) for v in EDGE_FILLS]
    return np.stack(out)


def halves(name, rng):
    """F16 and BF16 as blocks of one element: edges, both signs, then random finite bits."""
    top = 0x7C00 if name == "F16" else 0x7F80  # infinity
    edge = [0, 1, 2, 0x03FF, 0x0400, 0x0401, 0x007F, 0x0080, 0x3C00, 0x3F80, top - 1, top]
    quiet_nan = top | (0x0200 if name == "F16" else 0x0040)
    edge += [v | 0x8000 for v in edge] + [quiet_nan]
    noise = rng.integers(0, 65536, 4000)
    noise = noise[noise & top != top]
    return np.array(edge + noise.tolist(), np.uint16).view(np.uint8).reshape(-1, 2)


def decode(name, blocks):
    if name == "Q8_1":
        d = blocks[:, 0:2].copy().view(np.float16).astype(np.float32)
        return d * blocks[:, 4:36].copy().view(np.int8).astype(np.float32)
    if name == "Q8_K":
        d = blocks[:, 0:4].copy().view(np.float32)
        return d * blocks[:, 4:260].copy().view(np.int8).astype(np.float32)
    if name in ("Q1_0", "Q2_0"):
        d = blocks[:, 0:2].copy().view(np.float16).astype(np.float32)
        if name == "Q1_0":
            return d * (2.0 * np.unpackbits(blocks[:, 2:], axis=1, bitorder="little") - 1).astype(np.float32)
        q = blocks[:, 2:, None] >> np.array([0, 2, 4, 6], np.uint8) & 3
        return d * (q.reshape(len(blocks), 64).astype(np.float32) - 1)
    return dequantize(blocks, T[name])


def write_blocks(name):
    rng = np.random.Generator(np.random.PCG64(zlib.crc32(name.encode())))
    elems, size = SIZES.get(name) or gguf.GGML_QUANT_SIZES[T[name]]
    make = halves if name in ("F16", "BF16") else fewer_blocks if name in FEWER else blocks_of
    blocks = make(name, rng)
    y = decode(name, blocks).astype(np.float32)
    assert blocks.shape == (len(y), size) and y.shape[1] == elems
    if name == "Q8_1":
        size = 36  # the package counts 40 bytes; ggml's struct has two f16 and 32 codes
        blocks = blocks[:, :size]
    if name in PATTERN:
        p = y[0].astype(np.float64)
        got = (p[0], p[1], p[17], p[-1], p.sum(), (p * np.arange(1, elems + 1)).sum())
        assert np.allclose(got, PATTERN[name], rtol=0, atol=1e-6), (name, got)
    path = OUT / (name.lower() + ".bin")
    path.write_bytes(struct.pack("<3I", len(blocks), size, elems) + blocks.tobytes() + y.tobytes())
    return path


def fp4_nearest(scale, x):
    """Codes of E2M1 for x in units of half of scale: the first that is as near as any."""
    values = np.array([0, 1, 2, 3, 4, 6, 8, 12, 0, -1, -2, -3, -4, -6, -8, -12], np.float32)
    return np.abs(values[None, :] * scale - x[:, None]).argmin(axis=1).astype(np.uint8)


def e4m3_halves_up(x):
    """Unsigned E4M3 as ggml rounds a scale; from 256 on the largest. The code and half of its value."""
    code = 0
    if 0 < x < 2.0**-6:
        code = min(7, int(np.float32(x) * np.float32(512) + np.float32(0.5)))
    elif x > 0:
        code = (int(np.float32(min(x, 448)).view(np.uint32)) + 0x80000 >> 20) - (120 << 3)
        code = code if code < 15 << 3 else 0x7E
    e, m = code >> 3, code & 7
    return code, np.float32((2.0 ** (e - 7) * (1 + m / 8) if e else m * 2.0**-9) / 2)


def encode(name, x):
    """What the package does not: the three youngest types, by their definition."""
    if name not in ("Q1_0", "Q2_0", "NVFP4"):
        return quantize(x, T[name])
    out = []
    for block in x.reshape(-1, {"Q1_0": 128, "Q2_0": 64, "NVFP4": 64}[name]):
        if name == "NVFP4":
            scales, codes = [], []
            for group in block.reshape(4, 16):
                code, half = e4m3_halves_up(np.abs(group).max() / np.float32(6))
                q = fp4_nearest(half, group)
                scales.append(code)
                codes.append(q[:8] | q[8:] << 4)
            out.append(np.concatenate([np.array(scales, np.uint8)] + codes))
            continue
        if name == "Q1_0":
            d = np.float32(0)
            for v in np.abs(block):  # one by one, in float32
                d += v
            d /= np.float32(128)
            codes = np.packbits(block >= 0, bitorder="little")
        else:
            d = np.abs(block).max()
            scaled = block * (np.float32(1) / d if d > 0 else np.float32(0))
            q = (np.trunc(scaled + np.copysign(np.float32(0.5), scaled)) + 1).astype(np.uint8).reshape(-1, 4)
            codes = (q << np.array([0, 2, 4, 6], np.uint8)).sum(axis=1).astype(np.uint8)
        out.append(np.concatenate([np.array([d], np.float16).view(np.uint8), codes]))
    return np.concatenate(out).reshape(len(x), -1)


def rtn_rows(rng, k, n_normal):
    rows = [rng.standard_normal(k) for _ in range(n_normal)]
    rows.append(np.zeros(k))
    rows.append(np.full(k, 0.7))
    rows.append(np.full(k, -0.7))
    outlier = rng.standard_normal(k)
    outlier[k // 2 + 5] = 3e4
    rows.append(outlier)
    rows.append(rng.standard_normal(k) * 1e-6)                    # stored scale is an f16 subnormal
    rows.append(rng.integers(-8, 9, k) * 0.5)                     # exact ties, and +max and -max alike
    rows.append(np.where(np.arange(k) % 2 == 0, 1.0, -1.0))       # first of two equal magnitudes decides the sign
    rows.append(np.abs(rng.standard_normal(k)) + 1.0)             # no zero inside the range: min > 0
    return np.array(rows, np.float32)


def write_rtn(name):
    rng = np.random.Generator(np.random.PCG64(zlib.crc32(name.encode()) ^ 1))
    x = rtn_rows(rng, 256, 3) if name in FEWER else rtn_rows(rng, 128, 16)
    enc = encode(name, x)
    if name not in SIZES:
        assert np.isfinite(dequantize(enc, T[name])).all()
    path = OUT / (name.lower() + "_rtn.bin")
    path.write_bytes(struct.pack("<2I", *x.shape) + x.tobytes() + enc.tobytes())
    return path


def main():
    OUT.mkdir(exist_ok=True)
    for name in sys.argv[1:] or COMMITTED + FEWER:
        path = write_blocks(name)
        print(path.name, path.stat().st_size)
        if name in RTN:
            path = write_rtn(name)
            print(path.name, path.stat().st_size)


if __name__ == "__main__":
    main()
