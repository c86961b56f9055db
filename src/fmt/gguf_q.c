/* GGUF's first generation: blocks of 32 with one f16 scale, and one f16 min in the _1 types. Layouts: gguf_bits.h. */
#include <math.h>
#include <string.h>

#include "base/bytes.h"
#include "base/half.h"
#include "fmt/fmt.h"
#include "fmt/gguf_bits.h"
#include "fmt/search.h"

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

/* ---------------------------------------------------------------- writing
 * encode rounds to nearest by the rule of ggml's quantize_row_*_ref (src/ggml-quants.c), to the bit: codes come from
 * the scale before it is rounded to f16, truncation after adding a half. fit and snap, which solvers use and which take
 * an importance, round codes to the scale that is stored. */

static uint8_t *block_to_write(const sr_weight *w, int64_t row, int64_t k0, int bytes) {
    return w->plane[0].data + row * w->plane[0].stride + k0 / QK * bytes;
}

/* Codes j and j + 16 with `add` added to the nibbles of byte j. */
static void put_q4(uint8_t *qs, const int8_t *code, int add) {
    uint8_t out[16]; /* not qs itself: it may alias code as far as the compiler knows, and that costs the vector loop */
    for (int j = 0; j < 16; j++) out[j] = (uint8_t)((code[j] + add) | (code[j + 16] + add) << 4);
    memcpy(qs, out, 16);
}
static void store_q4_0(sr_weight *w, int64_t row, int64_t k0, int n, const sr_grid *grid, const int8_t *code) {
    (void)n;
    uint8_t *b = block_to_write(w, row, k0, SR_Q4_0_BYTES);
    sr_put_u16(b, grid->d);
    put_q4(b + SR_Q4_0_QS, code, 8);
}
static void store_q4_1(sr_weight *w, int64_t row, int64_t k0, int n, const sr_grid *grid, const int8_t *code) {
    (void)n;
    uint8_t *b = block_to_write(w, row, k0, SR_Q4_1_BYTES);
    sr_put_u16(b, grid->d);
    sr_put_u16(b + SR_Q4_1_M, grid->dmin ^ 0x8000);
    put_q4(b + SR_Q4_1_QS, code, 0);
}
/* Low nibbles to qs, fifth bits to qh; q is 0..31. */
static void put_q5(uint8_t *qh, uint8_t *qs, const int8_t *code, int add) {
    memset(qh, 0, 4);
    for (int j = 0; j < 16; j++) {
        int lo = code[j] + add, hi = code[j + 16] + add;
        qs[j] = (uint8_t)((lo & 15) | (hi & 15) << 4);
        qh[j / 8] |= (uint8_t)(lo >> 4 << j % 8);
        qh[2 + j / 8] |= (uint8_t)(hi >> 4 << j % 8);
    }
}
static void store_q5_0(sr_weight *w, int64_t row, int64_t k0, int n, const sr_grid *grid, const int8_t *code) {
    (void)n;
    uint8_t *b = block_to_write(w, row, k0, SR_Q5_0_BYTES);
    sr_put_u16(b, grid->d);
    put_q5(b + SR_Q5_0_QH, b + SR_Q5_0_QS, code, 16);
}
static void store_q5_1(sr_weight *w, int64_t row, int64_t k0, int n, const sr_grid *grid, const int8_t *code) {
    (void)n;
    uint8_t *b = block_to_write(w, row, k0, SR_Q5_1_BYTES);
    sr_put_u16(b, grid->d);
    sr_put_u16(b + SR_Q5_1_M, grid->dmin ^ 0x8000);
    put_q5(b + SR_Q5_1_QH, b + SR_Q5_1_QS, code, 0);
}
static void store_q8_0(sr_weight *w, int64_t row, int64_t k0, int n, const sr_grid *grid, const int8_t *code) {
    (void)n;
    uint8_t *b = block_to_write(w, row, k0, SR_Q8_0_BYTES);
    sr_put_u16(b, grid->d);
    memcpy(b + SR_Q8_0_QS, code, QK);
}
static void store_q8_1(sr_weight *w, int64_t row, int64_t k0, int n, const sr_grid *grid, const int8_t *code) {
    (void)n;
    uint8_t *b = block_to_write(w, row, k0, SR_Q8_1_BYTES);
    int sum = 0;
    for (int j = 0; j < QK; j++) sum += code[j];
    sr_put_u16(b, grid->d);
    /* A product past f16's range is stored as its end: readers must not meet an infinity. */
    sr_put_u16(b + SR_Q8_1_S, sr_f32_to_f16(sr_weight_finite(grid->d32 * (float)sum)));
    memcpy(b + SR_Q8_1_QS, code, QK);
}

/* One group of the whole block. d32 is the scale before rounding to f16. */
static void set_grid(sr_grid *grid, float d, float min, int lo, int hi) {
    grid->n = grid->group = QK;
    grid->lo = lo;
    grid->hi = hi;
    grid->d32 = d;
    grid->d = sr_f32_to_f16(sr_weight_finite(d));
    grid->dmin = sr_f32_to_f16(sr_weight_finite(min)); /* least squares can leave the weights' own range */
    grid->scale[0] = sr_f16_to_f32(grid->d);
    grid->min[0] = sr_f16_to_f32(grid->dmin);
}

static void finite_block(const float *w, float *x) {
    for (int j = 0; j < QK; j++) x[j] = sr_weight_finite(w[j]);
}
/* 0 where 1 / d would not be finite; f16 cannot tell such a d from 0 either. */
static float inverse(float d) {
    return fabsf(d) > SR_TINY ? 1 / d : 0;
}

/* The objective with an importance: it counts a weight's error by importance * sqrt(mean square of the row + w^2). */
static void importance_weights(const float *x, const float *importance, float row_ms, float *weight) {
    for (int j = 0; j < QK; j++) weight[j] = sr_importance(importance[j]) * sqrtf(row_ms + x[j] * x[j]);
}

static void fit_symmetric(const float *w, const float *importance, float row_ms, int nmax, sr_grid *grid) {
    float x[QK], weight[QK], d;
    finite_block(w, x);
    if (importance) {
        importance_weights(x, importance, row_ms, weight);
        d = sr_search_symmetric(x, weight, QK, nmax);
    } else {
        d = sr_largest(x, QK) / -(float)nmax;
    }
    set_grid(grid, d, 0, -nmax, nmax - 1);
}
static void fit_affine(const float *w, const float *importance, float row_ms, int nmax, sr_grid *grid) {
    float x[QK], weight[QK], low, high, d, min;
    finite_block(w, x);
    if (importance) {
        importance_weights(x, importance, row_ms, weight);
        sr_search_affine(x, weight, QK, nmax, -0.9f, 0.05f, 5, false, &d, &min);
    } else {
        sr_range(x, QK, &low, &high);
        d = (high - low) / (float)nmax;
        min = -low;
    }
    set_grid(grid, d, min, 0, nmax);
}
static void fit_q4_0(const sr_fit *in, sr_grid *grid) {
    fit_symmetric(in->x, in->importance, in->row_ms, 8, grid);
}
static void fit_q5_0(const sr_fit *in, sr_grid *grid) {
    fit_symmetric(in->x, in->importance, in->row_ms, 16, grid);
}
static void fit_q4_1(const sr_fit *in, sr_grid *grid) {
    fit_affine(in->x, in->importance, in->row_ms, 15, grid);
}
static void fit_q5_1(const sr_fit *in, sr_grid *grid) {
    fit_affine(in->x, in->importance, in->row_ms, 31, grid);
}
/* 8 bits are too fine for a search to matter. */
static void fit_q8(const sr_fit *in, sr_grid *grid) {
    float x[QK];
    finite_block(in->x, x);
    set_grid(grid, fabsf(sr_largest(x, QK)) / 127, 0, -128, 127);
}

typedef void (*store_fn)(sr_weight *w, int64_t row, int64_t k0, int n, const sr_grid *grid, const int8_t *code);

static void encode_symmetric(sr_weight *w, int64_t row, const float *src, int nmax, store_fn store) {
    for (int64_t k = 0; k < w->K; k += QK) {
        float x[QK];
        int8_t code[QK];
        sr_grid grid;
        finite_block(src + k, x);
        float d = sr_largest(x, QK) / -(float)nmax, id = inverse(d);
        set_grid(&grid, d, 0, -nmax, nmax - 1);
        for (int j = 0; j < QK; j++) {
            int q = (int)(x[j] * id + ((float)nmax + 0.5f)) - nmax;
            code[j] = (int8_t)(q < nmax - 1 ? q : nmax - 1);
        }
        store(w, row, k, QK, &grid, code);
    }
}
static void encode_affine(sr_weight *w, int64_t row, const float *src, int nmax, store_fn store) {
    for (int64_t k = 0; k < w->K; k += QK) {
        float x[QK], low, high;
        int8_t code[QK];
        sr_grid grid;
        finite_block(src + k, x);
        sr_range(x, QK, &low, &high);
        float d = (high - low) / (float)nmax, id = inverse(d);
        set_grid(&grid, d, -low, 0, nmax);
        for (int j = 0; j < QK; j++) {
            int q = (int)((x[j] - low) * id + 0.5f);
            code[j] = (int8_t)(q < nmax ? q : nmax);
        }
        store(w, row, k, QK, &grid, code);
    }
}
static void encode_q8(sr_weight *w, int64_t row, const float *src, store_fn store) {
    for (int64_t k = 0; k < w->K; k += QK) {
        float x[QK];
        int8_t code[QK];
        sr_grid grid;
        finite_block(src + k, x);
        float d = fabsf(sr_largest(x, QK)) / 127, id = inverse(d);
        set_grid(&grid, d, 0, -128, 127);
        for (int j = 0; j < QK; j++) {
            /* Halves away from zero: where rounding to even went down by exactly a half, go up. */
            float v = fabsf(x[j] * id), q = sr_nearest(v);
            q = v - q == 0.5f ? q + 1 : q;
            code[j] = (int8_t)(x[j] < 0 ? -q : q);
        }
        store(w, row, k, QK, &grid, code);
    }
}
static void encode_q4_0(sr_weight *w, int64_t row, const float *src, const float *importance) {
    (void)importance;
    encode_symmetric(w, row, src, 8, store_q4_0);
}
static void encode_q5_0(sr_weight *w, int64_t row, const float *src, const float *importance) {
    (void)importance;
    encode_symmetric(w, row, src, 16, store_q5_0);
}
static void encode_q4_1(sr_weight *w, int64_t row, const float *src, const float *importance) {
    (void)importance;
    encode_affine(w, row, src, 15, store_q4_1);
}
static void encode_q5_1(sr_weight *w, int64_t row, const float *src, const float *importance) {
    (void)importance;
    encode_affine(w, row, src, 31, store_q5_1);
}
static void encode_q8_0(sr_weight *w, int64_t row, const float *src, const float *importance) {
    (void)importance;
    encode_q8(w, row, src, store_q8_0);
}
static void encode_q8_1(sr_weight *w, int64_t row, const float *src, const float *importance) {
    (void)importance;
    encode_q8(w, row, src, store_q8_1);
}

/* ---------------------------------------------------------------- rows */

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
    .fit = fit_q8,
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
    .fit = fit_q8,
    .snap = sr_snap_affine,
    .store = store_q8_1,
    .encode = encode_q8_1,
    .promote = "q8_0",
};
