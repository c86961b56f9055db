/* GGUF's K types: blocks of 256 with f16 factors over small integer scales of groups. Layouts: gguf_bits.h. */
#include <math.h>
#include <string.h>

#include "base/bytes.h"
#include "base/half.h"
#include "fmt/fmt.h"
#include "fmt/gguf_bits.h"
#include "fmt/search.h"

enum { QK = 256, G16 = 16, G32 = 32 };

static uint16_t u16_at(const uint8_t *p) {
    return (uint16_t)(p[0] | p[1] << 8);
}
static float f16_at(const uint8_t *p) {
    return sr_f16_to_f32(u16_at(p));
}
static const uint8_t *blocks_at(const sr_weight *w, int64_t row, int64_t k0, int bytes) {
    return w->plane[0].data + row * w->plane[0].stride + k0 / QK * bytes;
}

/* ---------------------------------------------------------------- reading
 * Every product d * scale * code has at most 24 significant bits, so the order of multiplication changes nothing; only
 * "scale * code - min" rounds. The loops over 32 elements give the compiler constant shifts. */

static void unpack_q2_k(const sr_weight *w, int64_t row, int64_t k0, int64_t n, int8_t *code, float *scale,
                        float *min) {
    const uint8_t *b = blocks_at(w, row, k0, SR_Q2_K_BYTES);
    for (int64_t i = 0; i < n; i += QK, b += SR_Q2_K_BYTES, code += QK) {
        float d = f16_at(b + SR_Q2_K_D), dmin = f16_at(b + SR_Q2_K_DMIN);
        for (int g = 0; g < QK / G16; g++) {
            *scale++ = d * (float)sr_q2_k_scale(b, g);
            *min++ = dmin * (float)sr_q2_k_min(b, g);
        }
        for (int e = 0; e < QK; e += 32)
            for (int j = e; j < e + 32; j++) code[j] = (int8_t)sr_q2_k_code(b, j);
    }
}

static void unpack_q3_k(const sr_weight *w, int64_t row, int64_t k0, int64_t n, int8_t *code, float *scale,
                        float *min) {
    const uint8_t *b = blocks_at(w, row, k0, SR_Q3_K_BYTES);
    (void)min;
    for (int64_t i = 0; i < n; i += QK, b += SR_Q3_K_BYTES, code += QK) {
        float d = f16_at(b + SR_Q3_K_D);
        for (int g = 0; g < QK / G16; g++) *scale++ = d * (float)sr_q3_k_scale(b, g);
        for (int e = 0; e < QK; e += 32)
            for (int j = e; j < e + 32; j++) code[j] = (int8_t)sr_q3_k_code(b, j);
    }
}

static void unpack_q4_k(const sr_weight *w, int64_t row, int64_t k0, int64_t n, int8_t *code, float *scale,
                        float *min) {
    const uint8_t *b = blocks_at(w, row, k0, SR_Q4_K_BYTES);
    for (int64_t i = 0; i < n; i += QK, b += SR_Q4_K_BYTES, code += QK) {
        float d = f16_at(b), dmin = f16_at(b + SR_K4_DMIN);
        for (int g = 0; g < QK / G32; g++) {
            *scale++ = d * (float)sr_k4_scale(b, g);
            *min++ = dmin * (float)sr_k4_min(b, g);
        }
        for (int e = 0; e < QK; e += 32)
            for (int j = e; j < e + 32; j++) code[j] = (int8_t)sr_q4_k_code(b, j);
    }
}

static void unpack_q5_k(const sr_weight *w, int64_t row, int64_t k0, int64_t n, int8_t *code, float *scale,
                        float *min) {
    const uint8_t *b = blocks_at(w, row, k0, SR_Q5_K_BYTES);
    for (int64_t i = 0; i < n; i += QK, b += SR_Q5_K_BYTES, code += QK) {
        float d = f16_at(b), dmin = f16_at(b + SR_K4_DMIN);
        for (int g = 0; g < QK / G32; g++) {
            *scale++ = d * (float)sr_k4_scale(b, g);
            *min++ = dmin * (float)sr_k4_min(b, g);
        }
        for (int e = 0; e < QK; e += 32)
            for (int j = e; j < e + 32; j++) code[j] = (int8_t)sr_q5_k_code(b, j);
    }
}

static void unpack_q6_k(const sr_weight *w, int64_t row, int64_t k0, int64_t n, int8_t *code, float *scale,
                        float *min) {
    const uint8_t *b = blocks_at(w, row, k0, SR_Q6_K_BYTES);
    (void)min;
    for (int64_t i = 0; i < n; i += QK, b += SR_Q6_K_BYTES, code += QK) {
        float d = f16_at(b + SR_Q6_K_D);
        for (int g = 0; g < QK / G16; g++) *scale++ = d * (float)sr_q6_k_scale(b, g);
        for (int e = 0; e < QK; e += 32)
            for (int j = e; j < e + 32; j++) code[j] = (int8_t)sr_q6_k_code(b, j);
    }
}

static void unpack_q8_k(const sr_weight *w, int64_t row, int64_t k0, int64_t n, int8_t *code, float *scale,
                        float *min) {
    const uint8_t *b = blocks_at(w, row, k0, SR_Q8_K_BYTES);
    (void)min;
    for (int64_t i = 0; i < n; i += QK, b += SR_Q8_K_BYTES, code += QK) {
        *scale++ = sr_f32_from_bits(u16_at(b) | (uint32_t)u16_at(b + 2) << 16);
        memcpy(code, b + SR_Q8_K_QS, QK);
    }
}

/* ---------------------------------------------------------------- panels with one scale a block */

/* Exact: -4..3 times -32..31 is -124..128, and with both the code and d negated -128..124. */
static void panel_q3_k(const sr_weight *w, int64_t row, int64_t k0, int64_t n, int8_t *code, float *scale, float *min) {
    const uint8_t *b = blocks_at(w, row, k0, SR_Q3_K_BYTES);
    (void)min;
    for (int64_t i = 0; i < n; i += QK, b += SR_Q3_K_BYTES, code += QK) {
        *scale++ = -f16_at(b + SR_Q3_K_D);
        for (int g = 0; g < QK / G16; g++) {
            int sc = sr_q3_k_scale(b, g);
            for (int j = G16 * g; j < G16 * g + G16; j++) code[j] = (int8_t) - (sc * sr_q3_k_code(b, j));
        }
    }
}

/* As sr_panel_coarse, except that the grid reaches as far as the four codes of any group could, used or not: so a group
 * is a table of four. */
static void panel_q2_k(const sr_weight *w, int64_t row, int64_t k0, int64_t n, int8_t *code, float *scale, float *min) {
    (void)min;
    for (int64_t i = 0; i < n; i += QK, code += QK) {
        int8_t own[QK];
        float s[QK / G16], lo[QK / G16], max = 0;
        unpack_q2_k(w, row, k0 + i, QK, own, s, lo);
        bool finite = true;
        for (int g = 0; g < QK / G16; g++) {
            const float top = fabsf(s[g] * 3 - lo[g]), low = fabsf(lo[g]);
            finite = finite && isfinite(s[g]) && isfinite(lo[g]);
            max = top > max ? top : max;
            max = low > max ? low : max;
        }
        const float inverse = max > 0 ? 127 / max : 0;
        *scale++ = finite ? max / 127 : NAN;
        for (int j = 0; j < QK; j++)
            code[j] = finite ? (int8_t)sr_nearest((s[j / G16] * (float)own[j] - lo[j / G16]) * inverse) : 0;
    }
}

/* ---------------------------------------------------------------- writing: bits */

static uint8_t *block_to_write(const sr_weight *w, int64_t row, int64_t k0, int bytes) {
    return w->plane[0].data + row * w->plane[0].stride + k0 / QK * bytes;
}

/* Bits 2k, 2k + 1 of out[32 h + l] from bits `shift`, + 1 of q(128 h + 32 k + l). */
static void put_pairs(uint8_t *out, const int8_t *code, int add, int shift) {
    for (int h = 0; h < 2; h++)
        for (int l = 0; l < 32; l++) {
            const int8_t *c = code + 128 * h + l;
            unsigned v = 0;
            for (int k = 0; k < 4; k++) v |= ((unsigned)(c[32 * k] + add) >> shift & 3) << 2 * k;
            out[32 * h + l] = (uint8_t)v;
        }
}

static void store_q2_k(sr_weight *w, int64_t row, int64_t k0, int n, const sr_grid *grid, const int8_t *code) {
    (void)n;
    uint8_t *b = block_to_write(w, row, k0, SR_Q2_K_BYTES);
    for (int g = 0; g < QK / G16; g++) b[g] = (uint8_t)(grid->sc[g] | grid->mn[g] << 4);
    put_pairs(b + SR_Q2_K_QS, code, 0, 0);
    sr_put_u16(b + SR_Q2_K_D, grid->d);
    sr_put_u16(b + SR_Q2_K_DMIN, grid->dmin);
}

static void store_q3_k(sr_weight *w, int64_t row, int64_t k0, int n, const sr_grid *grid, const int8_t *code) {
    (void)n;
    uint8_t *b = block_to_write(w, row, k0, SR_Q3_K_BYTES), *s = b + SR_Q3_K_SCALES;
    for (int l = 0; l < 32; l++) {
        unsigned v = 0;
        for (int k = 0; k < 8; k++) v |= (unsigned)(code[32 * k + l] >= 0) << k;
        b[l] = (uint8_t)v;
    }
    put_pairs(b + SR_Q3_K_QS, code, 4, 0);
    for (int j = 0; j < 8; j++) s[j] = (uint8_t)((grid->sc[j] & 15) | (grid->sc[j + 8] & 15) << 4);
    for (int j = 0; j < 4; j++)
        s[8 + j] = (uint8_t)(grid->sc[j] >> 4 | grid->sc[j + 4] >> 4 << 2 | grid->sc[j + 8] >> 4 << 4 |
                             grid->sc[j + 12] >> 4 << 6);
    sr_put_u16(b + SR_Q3_K_D, grid->d);
}

static void put_k4_scales(uint8_t *b, const sr_grid *grid) {
    uint8_t *s = b + SR_K4_SCALES;
    sr_put_u16(b, grid->d);
    sr_put_u16(b + SR_K4_DMIN, grid->dmin);
    for (int j = 0; j < 4; j++) {
        s[j] = (uint8_t)(grid->sc[j] | grid->sc[j + 4] >> 4 << 6);
        s[j + 4] = (uint8_t)(grid->mn[j] | grid->mn[j + 4] >> 4 << 6);
        s[j + 8] = (uint8_t)((grid->sc[j + 4] & 15) | (grid->mn[j + 4] & 15) << 4);
    }
}
static void store_q4_k(sr_weight *w, int64_t row, int64_t k0, int n, const sr_grid *grid, const int8_t *code) {
    (void)n;
    uint8_t *b = block_to_write(w, row, k0, SR_Q4_K_BYTES);
    put_k4_scales(b, grid);
    for (int c = 0; c < 4; c++)
        for (int l = 0; l < 32; l++)
            b[SR_Q4_K_QS + 32 * c + l] = (uint8_t)(code[64 * c + l] | code[64 * c + 32 + l] << 4);
}
static void store_q5_k(sr_weight *w, int64_t row, int64_t k0, int n, const sr_grid *grid, const int8_t *code) {
    (void)n;
    uint8_t *b = block_to_write(w, row, k0, SR_Q5_K_BYTES);
    put_k4_scales(b, grid);
    for (int c = 0; c < 4; c++)
        for (int l = 0; l < 32; l++)
            b[SR_Q5_K_QS + 32 * c + l] = (uint8_t)((code[64 * c + l] & 15) | (code[64 * c + 32 + l] & 15) << 4);
    for (int l = 0; l < 32; l++) {
        unsigned v = 0;
        for (int k = 0; k < 8; k++) v |= (unsigned)(code[32 * k + l] >> 4) << k;
        b[SR_Q5_K_QH + l] = (uint8_t)v;
    }
}

static void store_q6_k(sr_weight *w, int64_t row, int64_t k0, int n, const sr_grid *grid, const int8_t *code) {
    (void)n;
    uint8_t *b = block_to_write(w, row, k0, SR_Q6_K_BYTES);
    for (int h = 0; h < 2; h++)
        for (int l = 0; l < 64; l++) {
            const int8_t *c = code + 128 * h + l;
            b[64 * h + l] = (uint8_t)(((c[0] + 32) & 15) | ((c[64] + 32) & 15) << 4);
        }
    put_pairs(b + SR_Q6_K_QH, code, 32, 4);
    memcpy(b + SR_Q6_K_SCALES, grid->sc, QK / G16);
    sr_put_u16(b + SR_Q6_K_D, grid->d);
}

static void store_q8_k(sr_weight *w, int64_t row, int64_t k0, int n, const sr_grid *grid, const int8_t *code) {
    (void)n;
    uint8_t *b = block_to_write(w, row, k0, SR_Q8_K_BYTES);
    uint32_t d = sr_bits_from_f32(grid->d32);
    sr_put_u16(b, (uint16_t)d);
    sr_put_u16(b + 2, (uint16_t)(d >> 16));
    memcpy(b + SR_Q8_K_QS, code, QK);
    for (int g = 0; g < QK / G16; g++) {
        int sum = 0;
        for (int j = G16 * g; j < G16 * g + G16; j++) sum += code[j];
        sr_put_u16(b + SR_Q8_K_SUMS + 2 * g, (uint16_t)sum);
    }
}

/* ---------------------------------------------------------------- writing: scales */

static void finite_block(const float *w, float *x) {
    for (int j = 0; j < QK; j++) x[j] = sr_weight_finite(w[j]);
}
static float mean_square(const float *x, int n) {
    float sum = 0;
    for (int j = 0; j < n; j++) sum += x[j] * x[j];
    return sum / (float)n;
}
static void importance_weights(const float *x, const float *importance, float ms, int n, float *weight) {
    for (int j = 0; j < n; j++) weight[j] = sr_importance(importance[j]) * sqrtf(ms + x[j] * x[j]);
}
static float sum_of(const float *x, int n) {
    float sum = 0;
    for (int j = 0; j < n; j++) sum += x[j];
    return sum;
}

/* The block's factor for positive group values v[n] that are stored as 0..top: the largest gets top, or, where the
 * groups' weights are known to matter (group_weight), the factor that serves their sum best. */
static uint16_t factor(const float *v, const float *group_weight, int n, int top) {
    float max = 0;
    for (int g = 0; g < n; g++) max = v[g] > max ? v[g] : max;
    float f = group_weight ? sr_search_positive(v, group_weight, n, top) : max / (float)top;
    return sr_f32_to_f16(sr_weight_finite(f));
}
/* What the formats with mins differ in. */
typedef struct min_search {
    int group, nmax, top; /* columns a group, largest code, largest group scale and min */
    float first, step;    /* the ladder without importance */
    int chunks;
    float ms_factor; /* with importance: sigma^2 is this times the block's mean square */
} min_search;

static void fit_with_min(const float *w, const float *importance, const min_search *m, sr_grid *grid) {
    float x[QK], weight[QK], scale[SR_MAX_GROUPS], min[SR_MAX_GROUPS], group_weight[SR_MAX_GROUPS];
    int groups = QK / m->group;
    finite_block(w, x);
    float ms = importance ? m->ms_factor * mean_square(x, QK) : 0;
    for (int g = 0; g < groups; g++) {
        const float *xg = x + m->group * g;
        float *wg = weight + m->group * g;
        if (importance) {
            importance_weights(xg, importance + m->group * g, ms, m->group, wg);
            sr_search_affine(xg, wg, m->group, m->nmax, -0.9f, 0.05f, 5, true, &scale[g], &min[g]);
        } else {
            float base = m->group == G32 ? sqrtf(mean_square(xg, m->group)) : 0;
            for (int j = 0; j < m->group; j++) wg[j] = base + fabsf(xg[j]);
            sr_search_affine(xg, wg, m->group, m->nmax, m->first, m->step, m->chunks, true, &scale[g], &min[g]);
        }
        group_weight[g] = sum_of(wg, m->group);
    }
    grid->n = QK;
    grid->group = m->group;
    grid->lo = 0;
    grid->hi = m->nmax;
    grid->d = factor(scale, importance ? group_weight : NULL, groups, m->top);
    grid->dmin = factor(min, importance ? group_weight : NULL, groups, m->top);
    float d = sr_f16_to_f32(grid->d), dmin = sr_f16_to_f32(grid->dmin);
    for (int g = 0; g < groups; g++) {
        int sc, mn;
        sr_refine_affine(x + m->group * g, weight + m->group * g, m->group, m->nmax, d, dmin, m->top, scale[g], min[g],
                         &sc, &mn);
        grid->sc[g] = (uint8_t)sc;
        grid->mn[g] = (uint8_t)mn;
        grid->scale[g] = d * (float)grid->sc[g];
        grid->min[g] = dmin * (float)grid->mn[g];
    }
}
static void fit_q2_k(const sr_fit *in, sr_grid *grid) {
    static const min_search m = {G16, 3, 15, -0.6f, 0.2f, 1, 1};
    fit_with_min(in->x, in->importance, &m, grid);
}
static void fit_q4_k(const sr_fit *in, sr_grid *grid) {
    static const min_search m = {G32, 15, 63, -1.2f, 0.125f, 2, 2};
    fit_with_min(in->x, in->importance, &m, grid);
}
static void fit_q5_k(const sr_fit *in, sr_grid *grid) {
    static const min_search m = {G32, 31, 63, -1.2f, 0.125f, 2, 2};
    fit_with_min(in->x, in->importance, &m, grid);
}

/* What the formats with signed group scales differ in. */
typedef struct signed_search {
    int nmax, lo, hi, add; /* codes -nmax..nmax-1, group scales lo..hi, stored with `add` added */
} signed_search;

/* The group scale of the largest magnitude gets lo, or, where group_weight says how the groups matter, the factor is
 * the one that serves their sum best. */
static void fit_signed(const float *x, const float *weight, bool weigh_groups, const signed_search *s, sr_grid *grid) {
    float scale[SR_MAX_GROUPS], group_weight[SR_MAX_GROUPS];
    for (int g = 0; g < QK / G16; g++) {
        scale[g] = sr_search_symmetric(x + G16 * g, weight + G16 * g, G16, s->nmax);
        group_weight[g] = sum_of(weight + G16 * g, G16);
    }
    float f = weigh_groups ? sr_search_symmetric(scale, group_weight, QK / G16, -s->lo)
                           : sr_largest(scale, QK / G16) / (float)s->lo;
    grid->n = QK;
    grid->group = G16;
    grid->lo = -s->nmax;
    grid->hi = s->nmax - 1;
    grid->d = sr_f32_to_f16(sr_weight_finite(f));
    float d = sr_f16_to_f32(grid->d);
    for (int g = 0; g < QK / G16; g++) {
        int sc = sr_refine_symmetric(x + G16 * g, weight + G16 * g, G16, s->nmax, d, s->lo, s->hi, scale[g]);
        grid->sc[g] = (uint8_t)(sc + s->add);
        grid->scale[g] = d * (float)sc;
        grid->min[g] = 0;
    }
}
static void fit_q3_k(const sr_fit *in, sr_grid *grid) {
    static const signed_search s = {4, -32, 31, 32};
    float x[QK], weight[QK];
    finite_block(in->x, x);
    float ms = mean_square(x, QK);
    if (in->importance)
        importance_weights(x, in->importance, 2 * ms, QK, weight);
    else
        for (int j = 0; j < QK; j++) weight[j] = x[j] * x[j] + ms;
    fit_signed(x, weight, in->importance, &s, grid);
}
static void fit_q6_k(const sr_fit *in, sr_grid *grid) {
    static const signed_search s = {32, -128, 127, 0};
    float x[QK], weight[QK];
    finite_block(in->x, x);
    for (int j = 0; j < QK; j++) weight[j] = in->importance ? sr_importance(in->importance[j]) : x[j] * x[j];
    fit_signed(x, weight, false, &s, grid);
}
static void fit_q8_k(const sr_fit *in, sr_grid *grid) {
    float x[QK];
    finite_block(in->x, x);
    float max = sr_largest(x, QK);
    grid->n = grid->group = QK;
    grid->lo = -127;
    grid->hi = 127;
    grid->scale[0] = grid->d32 = fabsf(max) > SR_TINY ? max / -127 : 0;
    grid->min[0] = 0;
}

/* ---------------------------------------------------------------- rows */

const sr_format sr_fmt_q2_k = {
    .name = "q2_k",
    .alias = "q2k",
    .block = QK,
    .reference = "gguf 0.19",
    .group = G16,
    .lane = 1,
    .tile = SR_TILE_I8,
    .has_min = true,
    .rtn_err = 0.290f,
    .claim = sr_claim_single,
    .layout = sr_layout_single,
    .decode = sr_decode_i8,
    .unpack = unpack_q2_k,
    .fit = fit_q2_k,
    .snap = sr_snap_affine,
    .store = store_q2_k,
    .promote = "q6_k",
    .fallback = {"q4_0"},
    .panel = panel_q2_k,
    .panel_group = SR_KC,
    .panel_err = 0.0072f,
};
const sr_format sr_fmt_q3_k = {
    .name = "q3_k",
    .alias = "q3k",
    .block = QK,
    .reference = "gguf 0.19",
    .group = G16,
    .lane = 1,
    .tile = SR_TILE_I8,
    .rtn_err = 0.152f,
    .claim = sr_claim_single,
    .layout = sr_layout_single,
    .decode = sr_decode_i8,
    .unpack = unpack_q3_k,
    .fit = fit_q3_k,
    .snap = sr_snap_affine,
    .store = store_q3_k,
    .promote = "q6_k",
    .fallback = {"q4_0"},
    .panel = panel_q3_k,
    .panel_group = QK,
};
const sr_format sr_fmt_q4_k = {
    .name = "q4_k",
    .alias = "q4k",
    .block = QK,
    .reference = "gguf 0.19",
    .group = G32,
    .lane = 1,
    .tile = SR_TILE_I8,
    .has_min = true,
    .rtn_err = 0.0727f,
    .claim = sr_claim_single,
    .layout = sr_layout_single,
    .decode = sr_decode_i8,
    .unpack = unpack_q4_k,
    .fit = fit_q4_k,
    .snap = sr_snap_affine,
    .store = store_q4_k,
    .promote = "q6_k",
    .fallback = {"q4_1"},
    .panel = sr_panel_coarse,
    .panel_group = SR_KC,
    .panel_err = 0.0072f,
};
const sr_format sr_fmt_q5_k = {
    .name = "q5_k",
    .alias = "q5k",
    .block = QK,
    .reference = "gguf 0.19",
    .group = G32,
    .lane = 1,
    .tile = SR_TILE_I8,
    .has_min = true,
    .rtn_err = 0.0359f,
    .claim = sr_claim_single,
    .layout = sr_layout_single,
    .decode = sr_decode_i8,
    .unpack = unpack_q5_k,
    .fit = fit_q5_k,
    .snap = sr_snap_affine,
    .store = store_q5_k,
    .promote = "q8_0",
    .fallback = {"q5_0"},
};
const sr_format sr_fmt_q6_k = {
    .name = "q6_k",
    .alias = "q6k",
    .block = QK,
    .reference = "gguf 0.19",
    .group = G16,
    .lane = 1,
    .tile = SR_TILE_I8,
    .rtn_err = 0.0182f,
    .claim = sr_claim_single,
    .layout = sr_layout_single,
    .decode = sr_decode_i8,
    .unpack = unpack_q6_k,
    .fit = fit_q6_k,
    .snap = sr_snap_affine,
    .store = store_q6_k,
    .promote = "q8_0",
    .fallback = {"q5_1"},
};
const sr_format sr_fmt_q8_k = {
    .name = "q8_k",
    .alias = "q8k",
    .block = QK,
    .reference = "gguf 0.19",
    .group = QK,
    .lane = 1,
    .tile = SR_TILE_I8,
    .rtn_err = 0.00717f,
    .claim = sr_claim_single,
    .layout = sr_layout_single,
    .decode = sr_decode_i8,
    .unpack = unpack_q8_k,
    .fit = fit_q8_k,
    .snap = sr_snap_affine,
    .store = store_q8_k,
    .promote = "q8_0",
    .fallback = {"q8_1"},
};
