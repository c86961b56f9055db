/* Writing GGUF's ternary types, its types of one and two bits, and its 4-bit floats; see write_kern.h. Layouts:
 * gguf_tq_bits.h. `encode` is the rule of ggml's quantize_row_*_ref (src/ggml-quants.c), to the bit; fit serves
 * solvers, and whoever has an importance. */
#include "fmt/gguf_iq.h"
#include "fmt/gguf_tq_bits.h"
#include "fmt/write_kern.h"

/* ---------------------------------------------------------------- one f16 scale a block */

static void store_tq1_0(sr_weight *w, int64_t row, int64_t k0, int n, const sr_grid *grid, const int8_t *code) {
    (void)n;
    uint8_t *b = block_to_write(w, row, k0, N256, SR_TQ1_0_BYTES);
    for (int i = 0; i < 52; i++) {
        const int first = i < 32 ? i : i < 48 ? 160 + i - 32 : 240 + i - 48, step = i < 32 ? 32 : i < 48 ? 16 : 4;
        int v = 0;
        for (int k = 0; k < 5; k++) v = 3 * v + (i >= 48 && k == 4 ? 0 : code[first + step * k] + 1);
        b[i] = (uint8_t)((v * 256 + 242) / 243);
    }
    sr_put_u16(b + SR_TQ1_0_D, grid->d);
}
static void store_tq2_0(sr_weight *w, int64_t row, int64_t k0, int n, const sr_grid *grid, const int8_t *code) {
    (void)n;
    uint8_t *b = block_to_write(w, row, k0, N256, SR_TQ2_0_BYTES);
    for (int h = 0; h < 2; h++)
        for (int l = 0; l < 32; l++) {
            unsigned v = 0;
            for (int k = 0; k < 4; k++) v |= (unsigned)(code[128 * h + 32 * k + l] + 1) << 2 * k;
            b[32 * h + l] = (uint8_t)v;
        }
    sr_put_u16(b + SR_TQ2_0_D, grid->d);
}
static void store_q1_0(sr_weight *w, int64_t row, int64_t k0, int n, const sr_grid *grid, const int8_t *code) {
    for (int i = 0; i < n; i += 128) {
        uint8_t *b = block_to_write(w, row, k0 + i, 128, SR_Q1_0_BYTES);
        sr_put_u16(b, grid->d);
        for (int e = 0; e < 128; e += 8) {
            unsigned v = 0;
            for (int k = 0; k < 8; k++) v |= (unsigned)(code[i + e + k] > 0) << k;
            b[2 + e / 8] = (uint8_t)v;
        }
    }
}
static void store_q2_0(sr_weight *w, int64_t row, int64_t k0, int n, const sr_grid *grid, const int8_t *code) {
    for (int i = 0; i < n; i += 64) {
        uint8_t *b = block_to_write(w, row, k0 + i, 64, SR_Q2_0_BYTES);
        sr_put_u16(b, grid->d);
        for (int e = 0; e < 64; e += 4) {
            unsigned v = 0;
            for (int k = 0; k < 4; k++) v |= (unsigned)(code[i + e + k] + 1) << 2 * k;
            b[2 + e / 4] = (uint8_t)v;
        }
    }
}

static void set_block(sr_grid *grid, int n, float d, int lo, int hi) {
    grid->n = grid->group = n;
    grid->lo = lo;
    grid->hi = hi;
    grid->d = sr_f32_to_f16(sr_weight_finite(d));
    grid->scale[0] = sr_f16_to_f32(grid->d);
    grid->min[0] = 0;
}
/* What an error counts. With so few codes large weights need no more of a say than their squares give them. */
static void block_weights(const sr_fit *in, int n, float *weight) {
    for (int i = 0; i < n; i++) weight[i] = in->importance ? sr_importance(in->importance[i]) : 1;
}

/* Codes -1..hi: lanes share the weights. The largest magnitude gets `top` and less. */
L_INLINE void fit_few(const sr_fit *in, const int n, const int hi, const float top, const float step, sr_grid *grid) {
    float x[N256], weight[N256];
    lf v[N256], w[N256];
    finite_values(in->x, n, x);
    block_weights(in, n, weight);
    lf_spread(x, n, v);
    lf_spread(weight, n, w);
    const linear l = search_signed(v, w, n, top, (code_set){-1, (float)hi, NULL}, share(0, step, 16), hi > 1, 1);
    set_block(grid, n, l.scale[0], -1, hi);
}
static void fit_tq1_0(const sr_fit *in, sr_grid *grid) {
    fit_few(in, N256, 1, 1, 0.15f, grid);
    if (grid->scale[0] < 0) set_block(grid, N256, -grid->scale[0], -1, 1); /* kernels elsewhere may know d >= 0 only */
}
static void fit_tq2_0(const sr_fit *in, sr_grid *grid) {
    fit_tq1_0(in, grid);
}
static void fit_q2_0(const sr_fit *in, sr_grid *grid) {
    fit_few(in, 64, 2, 1.7f, 0.1f, grid);
}
/* Given the signs, least squares. */
static void fit_q1_0(const sr_fit *in, sr_grid *grid) {
    float x[128], weight[128], s_w = 0, s_x = 0;
    finite_values(in->x, 128, x);
    block_weights(in, 128, weight);
    for (int i = 0; i < 128; i++) {
        s_w += weight[i];
        s_x += weight[i] * fabsf(x[i]);
    }
    set_block(grid, 128, s_w > 0 ? s_x / s_w : 0, -1, 1);
}
static void snap_q1_0(const sr_grid *grid, int i0, int n, const float *w, int8_t *code, float *back) {
    (void)i0;
    for (int i = 0; i < n; i++) {
        code[i] = grid->scale[0] != 0 && w[i] < 0 ? -1 : 1;
        back[i] = grid->scale[0] * (float)code[i];
    }
}

typedef void (*store_block)(sr_weight *w, int64_t row, int64_t k0, int n, const sr_grid *grid, const int8_t *code);

/* d = max|x|, codes round(x / d), halves away from zero: -1, 0 or 1. */
L_INLINE void encode_ternary(sr_weight *w, int64_t row, const float *src, const int n, store_block store) {
    for (int64_t k = 0; k < w->K; k += n) {
        float x[N256];
        int8_t code[N256];
        sr_grid grid;
        finite_values(src + k, n, x);
        const float d = fabsf(sr_largest(x, n)), id = d > SR_TINY ? 1 / d : 0;
        set_block(&grid, n, d, -1, 1);
        for (int i = 0; i < n; i++) {
            const float q = x[i] * id;
            code[i] = (int8_t)((q >= 0.5f) - (q <= -0.5f));
        }
        store(w, row, k, n, &grid, code);
    }
}
static void encode_tq1_0(sr_weight *w, int64_t row, const float *src, const float *importance) {
    (void)importance;
    encode_ternary(w, row, src, N256, store_tq1_0);
}
static void encode_tq2_0(sr_weight *w, int64_t row, const float *src, const float *importance) {
    (void)importance;
    encode_ternary(w, row, src, N256, store_tq2_0);
}
static void encode_q2_0(sr_weight *w, int64_t row, const float *src, const float *importance) {
    (void)importance;
    encode_ternary(w, row, src, 64, store_q2_0);
}
/* d = the mean of |x|, added up one by one. */
static void encode_q1_0(sr_weight *w, int64_t row, const float *src, const float *importance) {
    (void)importance;
    for (int64_t k = 0; k < w->K; k += 128) {
        float x[128], sum = 0;
        int8_t code[128];
        sr_grid grid;
        finite_values(src + k, 128, x);
        for (int i = 0; i < 128; i++) sum += fabsf(x[i]);
        set_block(&grid, 128, sum / 128, -1, 1);
        for (int i = 0; i < 128; i++) code[i] = x[i] >= 0 ? 1 : -1;
        store_q1_0(w, row, k, 128, &grid, code);
    }
}

/* ---------------------------------------------------------------- 4-bit floats */

static const code_table fp4_table = {15,
                                     {-12, -8, -6, -4, -3, -2, -1, 0, 1, 2, 3, 4, 6, 8, 12, 12},
                                     {-10, -7, -5, -3.5f, -2.5f, -1.5f, -0.5f, 0.5f, 1.5f, 2.5f, 3.5f, 5, 7, 10}};
L_INLINE code_set fp4_codes(void) {
    return (code_set){0, 0, &fp4_table};
}
static void snap_fp4(const sr_grid *grid, int i0, int n, const float *w, int8_t *code, float *back) {
    snap_table(&fp4_table, grid, i0, n, w, code, back);
}
/* The nearest of sr_fp4_values times scale, the smaller magnitude of two that are as near: with the reference's own
 * roundings. */
L_INLINE void round_fp4(const float *x, float scale, int n, int8_t *code) {
    float q[16];
    for (int i = 0; i < n; i += LANES) {
        const lf a = lf_abs(lf_load(x + i));
        lf best = lf_set1(0), least = a;
        for (int k = 1; k < 8; k++) {
            const lf e = lf_abs((float)sr_fp4_values[k] * scale - a);
            const li nearer = e < least;
            least = lf_select(nearer, e, least);
            best = lf_select(nearer, lf_set1((float)sr_fp4_values[k]), best);
        }
        lf_store(q + i, best);
    }
    for (int i = 0; i < n; i++) code[i] = (int8_t)(x[i] < 0 ? -q[i] : q[i]);
}

/* MXFP4: exponents in sc[0]. */
static void store_mxfp4(sr_weight *w, int64_t row, int64_t k0, int n, const sr_grid *grid, const int8_t *code) {
    const places p = places_of(sr_fp4_values);
    for (int i = 0; i < n; i += N32) {
        uint8_t *b = block_to_write(w, row, k0 + i, N32, SR_MXFP4_BYTES);
        b[0] = grid->sc[0];
        put_places(b + SR_MXFP4_QS, &p, code + i, 16);
    }
}
static void set_mxfp4(sr_grid *grid, int e) {
    grid->n = grid->group = N32;
    grid->lo = -12;
    grid->hi = 12;
    grid->sc[0] = (uint8_t)e;
    grid->scale[0] = sr_f32_from_bits(sr_mxfp4_scale_bits(e));
    grid->min[0] = 0;
}
/* The exponent that makes the largest a 4 to 8 of E2M1's 6. */
static int mxfp4_exponent(const float *x) {
    const float most = fabsf(sr_largest(x, N32));
    const float e = most > 0 ? floorf(log2f(most)) + 125 : 0;
    return e > 0 ? (int)e : 0;
}
static void fit_mxfp4(const sr_fit *in, sr_grid *grid) {
    float x[N32], weight[N32], scale[8];
    finite_values(in->x, N32, x);
    block_weights(in, N32, weight);
    const int e = mxfp4_exponent(x), first = e < 5 ? 0 : e - 5;
    for (int i = 0; i < 8; i++) scale[i] = sr_f32_from_bits(sr_mxfp4_scale_bits(first + i));
    set_mxfp4(grid, first + best_scale(x, weight, N32, fp4_codes(), scale, 8));
}
static void encode_mxfp4(sr_weight *w, int64_t row, const float *src, const float *importance) {
    (void)importance;
    for (int64_t k = 0; k < w->K; k += N32) {
        float x[N32];
        int8_t code[N32];
        sr_grid grid;
        finite_values(src + k, N32, x);
        set_mxfp4(&grid, mxfp4_exponent(x));
        for (int i = 0; i < N32; i += 16) round_fp4(x + i, grid.scale[0], 16, code + i);
        store_mxfp4(w, row, k, N32, &grid, code);
    }
}

/* NVFP4: E4M3 scales in sc. */
enum { NVFP4_BLOCK = 64, NVFP4_MOST = 0x7e };
static void store_nvfp4(sr_weight *w, int64_t row, int64_t k0, int n, const sr_grid *grid, const int8_t *code) {
    (void)n;
    uint8_t *b = block_to_write(w, row, k0, NVFP4_BLOCK, SR_NVFP4_BYTES);
    const places p = places_of(sr_fp4_values);
    for (int g = 0; g < 4; g++) {
        b[g] = grid->sc[g];
        put_places(b + SR_NVFP4_QS + 8 * g, &p, code + N16 * g, 8);
    }
}
static float nvfp4_scale(int d) {
    return sr_f16_to_f32((uint16_t)sr_nvfp4_scale_bits(d)) * 0x1p7f;
}
static void set_nvfp4(sr_grid *grid, int g, int d) {
    grid->n = NVFP4_BLOCK;
    grid->group = N16;
    grid->lo = -12;
    grid->hi = 12;
    grid->sc[g] = (uint8_t)d;
    grid->scale[g] = nvfp4_scale(d);
    grid->min[g] = 0;
}
/* Unsigned E4M3 with halves up; from 256 on the largest, 448. */
static int nvfp4_code(float x) {
    const uint32_t bits = sr_bits_from_f32(x);
    if (!(x > 0)) return 0;
    if (x < 0x1p-6f) {
        const int m = (int)(x * 512 + 0.5f);
        return m < 7 ? m : 7;
    }
    const int v = (int)((bits + 0x80000) >> 20) - (120 << 3);
    return v < 15 << 3 ? v : NVFP4_MOST;
}
static void fit_nvfp4(const sr_fit *in, sr_grid *grid) {
    float x[NVFP4_BLOCK], weight[NVFP4_BLOCK], scale[16];
    finite_values(in->x, NVFP4_BLOCK, x);
    block_weights(in, NVFP4_BLOCK, weight);
    for (int g = 0; g < 4; g++) {
        const float *xg = x + N16 * g;
        int first = nvfp4_code(fabsf(sr_largest(xg, N16)) / 6) - 7;
        first = first < 0 ? 0 : first > NVFP4_MOST - 15 ? NVFP4_MOST - 15 : first;
        for (int i = 0; i < 16; i++) scale[i] = nvfp4_scale(first + i);
        set_nvfp4(grid, g, first + best_scale(xg, weight + N16 * g, N16, fp4_codes(), scale, 16));
    }
}
static void encode_nvfp4(sr_weight *w, int64_t row, const float *src, const float *importance) {
    (void)importance;
    for (int64_t k = 0; k < w->K; k += NVFP4_BLOCK) {
        float x[NVFP4_BLOCK];
        int8_t code[NVFP4_BLOCK];
        sr_grid grid;
        finite_values(src + k, NVFP4_BLOCK, x);
        for (int g = 0; g < 4; g++) {
            set_nvfp4(&grid, g, nvfp4_code(fabsf(sr_largest(x + N16 * g, N16)) / 6));
            round_fp4(x + N16 * g, grid.scale[g], N16, code + N16 * g);
        }
        store_nvfp4(w, row, k, NVFP4_BLOCK, &grid, code);
    }
}
