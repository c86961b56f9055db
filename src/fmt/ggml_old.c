/* Block types of LLaMA files from before GGUF, where it has others under the same numbers. Read only: nothing writes
 * them today. "adjacent": byte j of qs holds the elements 2 j (bits 0-3) and 2 j + 1 (bits 4-7); "halves": j and j +
 * 16, as in GGUF. d and m are little-endian. Bit e of qh's 32 is the fifth bit of element e.
 *
 *                0        4        8               24
 *     q4_0_v1    | f32 d  | qs[16]          |           20 bytes, adjacent    w = d * (code - 8)
 *     q4_1_v1    | f32 d  | f32 m  | qs[16]         |   24 bytes, adjacent    w = d * code + m
 *     q4_0_v2, q4_1_v2: the same with halves
 *     q8_0_v1    | f32 d  | int8 code[32]           |   36 bytes              w = d * code
 *
 *                0        2        4        8
 *     q4_2       | f16 d  | qs[8]  |                    16 elements, 10 bytes, adjacent    w = d * (code - 8)
 *     q4_3       | f16 d  | f16 m  | qs[8]  |           16 elements, 12 bytes, adjacent    w = d * code + m
 *     q5_0_v1    | f16 d  | qh[4]  | qs[16] |           22 bytes, adjacent    w = d * (code - 16)
 *     q5_1_v1    | f16 d  | f16 m  | qh[4]  | qs[16] |  24 bytes, adjacent    w = d * code + m
 *
 * _v1 are those of GGML, GGMF and GGJT v1, _v2 of GGJT v2, which had q8_0_v1 too and GGUF's q5_0 and q5_1. q4_2 and
 * q4_3 were gone with v2 (q4_3 lived for a week). Source: llama.cpp: ggml.c (block_*, dequantize_row_*) at 4aeea780b^
 * for v1 and 744804ef9^ for v2. */
#include <string.h>

#include "base/bytes.h"
#include "base/half.h"
#include "fmt/fmt.h"

struct layout {
    int block, bytes; /* elements and bytes */
    int factor;       /* bytes of d, and of m: 2 or 4 */
    bool m;           /* there is an m behind d */
    int bits;         /* of a code: 4, 5 or 8 */
    bool halves;
    int zero; /* subtracted from the stored code */
};

static float factor_at(const uint8_t *p, int bytes) {
    if (bytes == 2) return sr_f16_to_f32((uint16_t)(p[0] | p[1] << 8));
    return sr_f32_from_bits(sr_get_u32(p));
}

/* Inlined with a constant layout, so that each function below has loops of its own. The stored m is added, ours is
 * subtracted: x - (-m) is x + m to the bit. */
static inline void unpack(const struct layout l, const sr_weight *w, int64_t row, int64_t k0, int64_t n, int8_t *code,
                          float *scale, float *min) {
    const uint8_t *b = w->plane[0].data + row * w->plane[0].stride + k0 / l.block * l.bytes;
    const int half = l.block / 2;
    for (int64_t i = 0; i < n; i += l.block, b += l.bytes, code += l.block) {
        const uint8_t *at = b + l.factor;
        *scale++ = factor_at(b, l.factor);
        if (l.m) *min++ = -factor_at(at, l.factor), at += l.factor;
        if (l.bits == 8) {
            memcpy(code, at, (size_t)l.block);
            continue;
        }
        const uint8_t *qh = at, *qs = at + (l.bits == 5 ? 4 : 0);
        for (int j = 0; j < half; j++) {
            int e0 = l.halves ? j : 2 * j, e1 = l.halves ? j + half : 2 * j + 1;
            int q0 = qs[j] & 15, q1 = qs[j] >> 4;
            if (l.bits == 5) q0 |= (qh[e0 / 8] >> e0 % 8 & 1) << 4, q1 |= (qh[e1 / 8] >> e1 % 8 & 1) << 4;
            code[e0] = (int8_t)(q0 - l.zero);
            code[e1] = (int8_t)(q1 - l.zero);
        }
    }
}

#define UNPACK(name, ...)                                                                                              \
    static void unpack_##name(const sr_weight *w, int64_t row, int64_t k0, int64_t n, int8_t *code, float *scale,      \
                              float *min) {                                                                            \
        unpack((struct layout){__VA_ARGS__}, w, row, k0, n, code, scale, min);                                         \
    }
/*               block bytes factor  m   bits halves zero */
UNPACK(q4_0_v1, 32, 20, 4, false, 4, false, 8)
UNPACK(q4_1_v1, 32, 24, 4, true, 4, false, 0)
UNPACK(q4_2, 16, 10, 2, false, 4, false, 8)
UNPACK(q4_3, 16, 12, 2, true, 4, false, 0)
UNPACK(q5_0_v1, 32, 22, 2, false, 5, false, 16)
UNPACK(q5_1_v1, 32, 24, 2, true, 5, false, 0)
UNPACK(q8_0_v1, 32, 36, 4, false, 8, false, 0)
UNPACK(q4_0_v2, 32, 20, 4, false, 4, true, 8)
UNPACK(q4_1_v2, 32, 24, 4, true, 4, true, 0)

#define ROW(name_, block_, has_min_, reference_)                                                                       \
    const sr_format sr_fmt_##name_ = {                                                                                 \
        .name = #name_,                                                                                                \
        .block = block_,                                                                                               \
        .group = block_,                                                                                               \
        .lane = 1,                                                                                                     \
        .reference = "llama.cpp " reference_,                                                                          \
        .tile = SR_TILE_I8,                                                                                            \
        .has_min = has_min_,                                                                                           \
        .claim = sr_claim_single,                                                                                      \
        .layout = sr_layout_single,                                                                                    \
        .decode = sr_decode_i8,                                                                                        \
        .unpack = unpack_##name_,                                                                                      \
    }
ROW(q4_0_v1, 32, false, "4aeea780b^");
ROW(q4_1_v1, 32, true, "4aeea780b^");
ROW(q4_2, 16, false, "4aeea780b^");
ROW(q4_3, 16, true, "4aeea780b^");
ROW(q5_0_v1, 32, false, "4aeea780b^");
ROW(q5_1_v1, 32, true, "4aeea780b^");
ROW(q8_0_v1, 32, false, "4aeea780b^");
ROW(q4_0_v2, 32, false, "744804ef9^");
ROW(q4_1_v2, 32, true, "744804ef9^");
