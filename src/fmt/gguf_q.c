/* GGUF's first generation: blocks of 32 with one f16 scale, and one f16 min in the _1 types. Layouts: gguf_bits.h. */
#include <math.h>
#include <string.h>

#include "base/bytes.h"
#include "base/half.h"
#include "fmt/fmt.h"
#include "fmt/gguf_bits.h"
#include "fmt/gguf_q_write_kern.h"

enum { QK = 32 };

static float f16_at(const uint8_t *p) {
    return sr_f16_to_f32((uint16_t)(p[0] | p[1] << 8));
}
static const uint8_t *blocks_at(const sr_weight *w, int64_t row, int64_t k0, int bytes) {
    return w->plane[0].data + row * w->plane[0].stride + k0 / QK * bytes;
}

/* ---------------------------------------------------------------- reading
 * The loops over halves of 16 give the compiler constant shifts. The stored m is added, ours is subtracted: min = -m,
 * and x - (-m) is x + m to the bit. */

/* Blocks of `bytes` that start with d and have m at offset m_at (0: none). */
static inline void unpack_halves(const uint8_t *b, int64_t n, const int bytes, const int m_at,
                                 int (*code_of)(const uint8_t *b, int e), int8_t *code, float *scale, float *min) {
    for (int64_t i = 0; i < n; i += QK, b += bytes, code += QK) {
        *scale++ = f16_at(b);
        if (m_at) *min++ = -f16_at(b + m_at);
        for (int h = 0; h < QK; h += 16)
            for (int j = h; j < h + 16; j++) code[j] = (int8_t)code_of(b, j);
    }
}

static void unpack_q4_0(const sr_weight *w, int64_t row, int64_t k0, int64_t n, int8_t *code, float *scale,
                        float *min) {
    unpack_halves(blocks_at(w, row, k0, SR_Q4_0_BYTES), n, SR_Q4_0_BYTES, 0, sr_q4_0_code, code, scale, min);
}

static void unpack_q4_1(const sr_weight *w, int64_t row, int64_t k0, int64_t n, int8_t *code, float *scale,
                        float *min) {
    unpack_halves(blocks_at(w, row, k0, SR_Q4_1_BYTES), n, SR_Q4_1_BYTES, SR_Q4_1_M, sr_q4_1_code, code, scale, min);
}

static void unpack_q5_0(const sr_weight *w, int64_t row, int64_t k0, int64_t n, int8_t *code, float *scale,
                        float *min) {
    unpack_halves(blocks_at(w, row, k0, SR_Q5_0_BYTES), n, SR_Q5_0_BYTES, 0, sr_q5_0_code, code, scale, min);
}

static void unpack_q5_1(const sr_weight *w, int64_t row, int64_t k0, int64_t n, int8_t *code, float *scale,
                        float *min) {
    unpack_halves(blocks_at(w, row, k0, SR_Q5_1_BYTES), n, SR_Q5_1_BYTES, SR_Q5_1_M, sr_q5_1_code, code, scale, min);
}

static void unpack_q8_0(const sr_weight *w, int64_t row, int64_t k0, int64_t n, int8_t *code, float *scale,
                        float *min) {
    const uint8_t *b = blocks_at(w, row, k0, SR_Q8_0_BYTES);
    (void)min;
    for (int64_t i = 0; i < n; i += QK, b += SR_Q8_0_BYTES, code += QK) {
        *scale++ = f16_at(b);
        memcpy(code, b + SR_Q8_0_QS, QK);
    }
}

static void unpack_q8_1(const sr_weight *w, int64_t row, int64_t k0, int64_t n, int8_t *code, float *scale,
                        float *min) {
    const uint8_t *b = blocks_at(w, row, k0, SR_Q8_1_BYTES);
    (void)min;
    for (int64_t i = 0; i < n; i += QK, b += SR_Q8_1_BYTES, code += QK) {
        *scale++ = f16_at(b);
        memcpy(code, b + SR_Q8_1_QS, QK);
    }
}

/* ---------------------------------------------------------------- rows */

/* ---------------------------------------------------------------- weights that keep their scale */

static void hold(const sr_fit *in, float scale, float min, int lo, int hi, sr_grid *grid) {
    (void)in;
    set_grid(grid, scale, min, lo, hi);
}
static void hold_q4_0(const sr_fit *in, float scale, float min, sr_grid *grid) {
    (void)min;
    hold(in, scale, 0, -8, 7, grid);
}
static void hold_q4_1(const sr_fit *in, float scale, float min, sr_grid *grid) {
    hold(in, scale, min, 0, 15, grid);
}
static void hold_q5_0(const sr_fit *in, float scale, float min, sr_grid *grid) {
    (void)min;
    hold(in, scale, 0, -16, 15, grid);
}
static void hold_q5_1(const sr_fit *in, float scale, float min, sr_grid *grid) {
    hold(in, scale, min, 0, 31, grid);
}
static void hold_q8_0(const sr_fit *in, float scale, float min, sr_grid *grid) {
    (void)min;
    hold(in, scale, 0, -128, 127, grid);
}

const sr_format sr_fmt_q4_0 = {
    .name = "q4_0",
    .block = QK,
    .reference = "gguf 0.19",
    .group = QK,
    .lane = 1,
    .tile = SR_TILE_I8,
    .rtn_err = 0.0885f,
    .claim = sr_claim_single,
    .layout = sr_layout_single,
    .decode = sr_decode_i8,
    .unpack = unpack_q4_0,
    .fit = fit_q4_0,
    .hold = hold_q4_0,
    .snap = sr_snap_affine,
    .store = store_q4_0,
    .encode = encode_q4_0,
    .promote = "q6_k",
};
const sr_format sr_fmt_q4_1 = {
    .name = "q4_1",
    .block = QK,
    .reference = "gguf 0.19",
    .group = QK,
    .lane = 1,
    .tile = SR_TILE_I8,
    .has_min = true,
    .rtn_err = 0.0806f,
    .claim = sr_claim_single,
    .layout = sr_layout_single,
    .decode = sr_decode_i8,
    .unpack = unpack_q4_1,
    .fit = fit_q4_1,
    .hold = hold_q4_1,
    .snap = sr_snap_affine,
    .store = store_q4_1,
    .encode = encode_q4_1,
    .promote = "q6_k",
};
const sr_format sr_fmt_q5_0 = {
    .name = "q5_0",
    .block = QK,
    .reference = "gguf 0.19",
    .group = QK,
    .lane = 1,
    .tile = SR_TILE_I8,
    .rtn_err = 0.0440f,
    .claim = sr_claim_single,
    .layout = sr_layout_single,
    .decode = sr_decode_i8,
    .unpack = unpack_q5_0,
    .fit = fit_q5_0,
    .hold = hold_q5_0,
    .snap = sr_snap_affine,
    .store = store_q5_0,
    .encode = encode_q5_0,
    .promote = "q8_0",
};
const sr_format sr_fmt_q5_1 = {
    .name = "q5_1",
    .block = QK,
    .reference = "gguf 0.19",
    .group = QK,
    .lane = 1,
    .tile = SR_TILE_I8,
    .has_min = true,
    .rtn_err = 0.0390f,
    .claim = sr_claim_single,
    .layout = sr_layout_single,
    .decode = sr_decode_i8,
    .unpack = unpack_q5_1,
    .fit = fit_q5_1,
    .hold = hold_q5_1,
    .snap = sr_snap_affine,
    .store = store_q5_1,
    .encode = encode_q5_1,
    .promote = "q8_0",
};
const sr_format sr_fmt_q8_0 = {
    .name = "q8_0",
    .block = QK,
    .reference = "gguf 0.19",
    .group = QK,
    .lane = 1,
    .tile = SR_TILE_I8,
    .rtn_err = 0.00551f,
    .claim = sr_claim_single,
    .layout = sr_layout_single,
    .decode = sr_decode_i8,
    .unpack = unpack_q8_0,
    .fit = fit_q8_0,
    .hold = hold_q8_0,
    .snap = sr_snap_affine,
    .store = store_q8_0,
    .encode = encode_q8_0,
    .promote = "q8_0",
};
const sr_format sr_fmt_q8_1 = {
    .name = "q8_1",
    .block = QK,
    .reference = "gguf 0.19",
    .group = QK,
    .lane = 1,
    .tile = SR_TILE_I8,
    .rtn_err = 0.00551f,
    .claim = sr_claim_single,
    .layout = sr_layout_single,
    .decode = sr_decode_i8,
    .unpack = unpack_q8_1,
    .fit = fit_q8_1,
    .snap = sr_snap_affine,
    .store = store_q8_1,
    .encode = encode_q8_1,
    .promote = "q8_0",
};
