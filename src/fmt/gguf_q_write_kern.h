/* Writing GGUF's first generation; see write_kern.h. Layouts: gguf_bits.h. */
#include "fmt/gguf_bits.h"
#include "fmt/write_kern.h"

/* ---------------------------------------------------------------- bits and rules
 * encode rounds to nearest by the rule of ggml's quantize_row_*_ref (src/ggml-quants.c), to the bit: codes come from
 * the scale before it is rounded to f16, truncation after adding a half. fit and snap, which solvers use and which take
 * an importance, round codes to the scale that is stored. */

/* Codes j and j + 16 with `add` added to the nibbles of byte j. */
static void put_q4(uint8_t *qs, const int8_t *code, int add) {
    uint8_t out[16]; /* not qs itself: it may alias code as far as the compiler knows, and that costs the vector loop */
    for (int j = 0; j < 16; j++) out[j] = (uint8_t)((code[j] + add) | (code[j + 16] + add) << 4);
    memcpy(qs, out, 16);
}
static void store_q4_0(sr_weight *w, int64_t row, int64_t k0, int n, const sr_grid *grid, const int8_t *code) {
    (void)n;
    uint8_t *b = block_to_write(w, row, k0, N32, SR_Q4_0_BYTES);
    sr_put_u16(b, grid->d);
    put_q4(b + SR_Q4_0_QS, code, 8);
}
static void store_q4_1(sr_weight *w, int64_t row, int64_t k0, int n, const sr_grid *grid, const int8_t *code) {
    (void)n;
    uint8_t *b = block_to_write(w, row, k0, N32, SR_Q4_1_BYTES);
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
    uint8_t *b = block_to_write(w, row, k0, N32, SR_Q5_0_BYTES);
    sr_put_u16(b, grid->d);
    put_q5(b + SR_Q5_0_QH, b + SR_Q5_0_QS, code, 16);
}
static void store_q5_1(sr_weight *w, int64_t row, int64_t k0, int n, const sr_grid *grid, const int8_t *code) {
    (void)n;
    uint8_t *b = block_to_write(w, row, k0, N32, SR_Q5_1_BYTES);
    sr_put_u16(b, grid->d);
    sr_put_u16(b + SR_Q5_1_M, grid->dmin ^ 0x8000);
    put_q5(b + SR_Q5_1_QH, b + SR_Q5_1_QS, code, 0);
}
static void store_q8_0(sr_weight *w, int64_t row, int64_t k0, int n, const sr_grid *grid, const int8_t *code) {
    (void)n;
    uint8_t *b = block_to_write(w, row, k0, N32, SR_Q8_0_BYTES);
    sr_put_u16(b, grid->d);
    memcpy(b + SR_Q8_0_QS, code, N32);
}
static void store_q8_1(sr_weight *w, int64_t row, int64_t k0, int n, const sr_grid *grid, const int8_t *code) {
    (void)n;
    uint8_t *b = block_to_write(w, row, k0, N32, SR_Q8_1_BYTES);
    int sum = 0;
    for (int j = 0; j < N32; j++) sum += code[j];
    sr_put_u16(b, grid->d);
    /* A product past f16's range is stored as its end: readers must not meet an infinity. */
    sr_put_u16(b + SR_Q8_1_S, sr_f32_to_f16(sr_weight_finite(grid->d32 * (float)sum)));
    memcpy(b + SR_Q8_1_QS, code, N32);
}

/* One group of the whole block. d32 is the scale before rounding to f16. */
static void set_grid(sr_grid *grid, float d, float min, int lo, int hi) {
    grid->n = grid->group = N32;
    grid->lo = lo;
    grid->hi = hi;
    grid->d32 = d;
    grid->d = sr_f32_to_f16(sr_weight_finite(d));
    grid->dmin = sr_f32_to_f16(sr_weight_finite(min)); /* least squares can leave the weights' own range */
    grid->scale[0] = sr_f16_to_f32(grid->d);
    grid->min[0] = sr_f16_to_f32(grid->dmin);
}

/* 0 where 1 / d would not be finite; f16 cannot tell such a d from 0 either. */
static float inverse(float d) {
    return fabsf(d) > SR_TINY ? 1 / d : 0;
}

/* Lanes share a block's weights and try a rung of the ladder each. */
L_INLINE void fit_symmetric(const sr_fit *in, const int nmax, sr_grid *grid) {
    float x[N32], weight[N32], d;
    finite_values(in->x, N32, x);
    if (in->importance) {
        lf v[N32], w[N32];
        importance_weights(x, in->importance, in->row_ms, N32, weight);
        lf_spread(x, N32, v);
        lf_spread(weight, N32, w);
        const linear l = search_signed(v, w, N32, -(float)nmax, whole(nmax),
                                       nmax > 8 ? share(3.5f, -0.5f, 16) : share(0.8f, -0.15f, 16), nmax <= 8, 2);
        d = l.scale[0];
    } else {
        d = sr_largest(x, N32) / -(float)nmax;
    }
    set_grid(grid, d, 0, -nmax, nmax - 1);
}
L_INLINE void fit_affine(const sr_fit *in, const int nmax, sr_grid *grid) {
    float x[N32], weight[N32], low, high, d, min;
    finite_values(in->x, N32, x);
    if (in->importance) {
        lf v[N32], w[N32];
        importance_weights(x, in->importance, in->row_ms, N32, weight);
        lf_spread(x, N32, v);
        lf_spread(weight, N32, w);
        const affine a = search_affine(v, w, N32, nmax, share(-0.9f, 0.05f, 40), 0, 2, false);
        d = a.scale[0];
        min = a.min[0];
    } else {
        sr_range(x, N32, &low, &high);
        d = (high - low) / (float)nmax;
        min = -low;
    }
    set_grid(grid, d, min, 0, nmax);
}
static void fit_q4_0(const sr_fit *in, sr_grid *grid) {
    fit_symmetric(in, 8, grid);
}
static void fit_q5_0(const sr_fit *in, sr_grid *grid) {
    fit_symmetric(in, 16, grid);
}
static void fit_q4_1(const sr_fit *in, sr_grid *grid) {
    fit_affine(in, 15, grid);
}
static void fit_q5_1(const sr_fit *in, sr_grid *grid) {
    fit_affine(in, 31, grid);
}
/* 8 bits are too fine for a search to matter. */
static void fit_q8_0(const sr_fit *in, sr_grid *grid) {
    float x[N32];
    finite_values(in->x, N32, x);
    set_grid(grid, fabsf(sr_largest(x, N32)) / 127, 0, -128, 127);
}

static void fit_q8_1(const sr_fit *in, sr_grid *grid) {
    fit_q8_0(in, grid);
}

typedef void (*store_fn)(sr_weight *w, int64_t row, int64_t k0, int n, const sr_grid *grid, const int8_t *code);

L_INLINE void encode_symmetric(sr_weight *w, int64_t row, const float *src, const int nmax, store_fn store) {
    for (int64_t k = 0; k < w->K; k += N32) {
        float x[N32];
        int8_t code[N32];
        sr_grid grid;
        finite_values(src + k, N32, x);
        float d = sr_largest(x, N32) / -(float)nmax, id = inverse(d);
        set_grid(&grid, d, 0, -nmax, nmax - 1);
        for (int j = 0; j < N32; j += LANES)
            lf_store(x + j,
                     lf_min(lf_floor(lf_load(x + j) * id + ((float)nmax + 0.5f)), lf_set1((float)(2 * nmax - 1))));
        for (int j = 0; j < N32; j++) code[j] = (int8_t)((int)x[j] - nmax);
        store(w, row, k, N32, &grid, code);
    }
}
L_INLINE void encode_affine(sr_weight *w, int64_t row, const float *src, const int nmax, store_fn store) {
    for (int64_t k = 0; k < w->K; k += N32) {
        float x[N32], low, high;
        int8_t code[N32];
        sr_grid grid;
        finite_values(src + k, N32, x);
        sr_range(x, N32, &low, &high);
        float d = (high - low) / (float)nmax, id = inverse(d);
        set_grid(&grid, d, -low, 0, nmax);
        for (int j = 0; j < N32; j += LANES)
            lf_store(x + j, lf_min(lf_floor((lf_load(x + j) - low) * id + 0.5f), lf_set1((float)nmax)));
        for (int j = 0; j < N32; j++) code[j] = (int8_t)x[j];
        store(w, row, k, N32, &grid, code);
    }
}
L_INLINE void encode_q8(sr_weight *w, int64_t row, const float *src, store_fn store) {
    for (int64_t k = 0; k < w->K; k += N32) {
        float x[N32];
        int8_t code[N32];
        sr_grid grid;
        finite_values(src + k, N32, x);
        float d = fabsf(sr_largest(x, N32)) / 127, id = inverse(d);
        set_grid(&grid, d, 0, -128, 127);
        for (int j = 0; j < N32; j += LANES) {
            /* Halves away from zero: where rounding to even went down by exactly a half, go up. */
            const lf v = lf_load(x + j) * id, a = lf_abs(v), r = lf_round(a);
            const lf q = r + lf_select(a - r == 0.5f, lf_set1(1), lf_set1(0));
            lf_store(x + j, lf_select(v < 0, -q, q));
        }
        for (int j = 0; j < N32; j++) code[j] = (int8_t)x[j];
        store(w, row, k, N32, &grid, code);
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
