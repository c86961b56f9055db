/* Writing GGUF's K types; see write_kern.h. Layouts: gguf_bits.h. */
#include "fmt/gguf_bits.h"
#include "fmt/write_kern.h"

/* ---------------------------------------------------------------- bits */

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
    uint8_t *b = block_to_write(w, row, k0, N256, SR_Q2_K_BYTES);
    for (int g = 0; g < N256 / N16; g++) b[g] = (uint8_t)(grid->sc[g] | grid->mn[g] << 4);
    put_pairs(b + SR_Q2_K_QS, code, 0, 0);
    sr_put_u16(b + SR_Q2_K_D, grid->d);
    sr_put_u16(b + SR_Q2_K_DMIN, grid->dmin);
}

static void store_q3_k(sr_weight *w, int64_t row, int64_t k0, int n, const sr_grid *grid, const int8_t *code) {
    (void)n;
    uint8_t *b = block_to_write(w, row, k0, N256, SR_Q3_K_BYTES), *s = b + SR_Q3_K_SCALES;
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
    uint8_t *b = block_to_write(w, row, k0, N256, SR_Q4_K_BYTES);
    put_k4_scales(b, grid);
    for (int c = 0; c < 4; c++)
        for (int l = 0; l < 32; l++)
            b[SR_Q4_K_QS + 32 * c + l] = (uint8_t)(code[64 * c + l] | code[64 * c + 32 + l] << 4);
}
static void store_q5_k(sr_weight *w, int64_t row, int64_t k0, int n, const sr_grid *grid, const int8_t *code) {
    (void)n;
    uint8_t *b = block_to_write(w, row, k0, N256, SR_Q5_K_BYTES);
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
    uint8_t *b = block_to_write(w, row, k0, N256, SR_Q6_K_BYTES);
    for (int h = 0; h < 2; h++)
        for (int l = 0; l < 64; l++) {
            const int8_t *c = code + 128 * h + l;
            b[64 * h + l] = (uint8_t)(((c[0] + 32) & 15) | ((c[64] + 32) & 15) << 4);
        }
    put_pairs(b + SR_Q6_K_QH, code, 32, 4);
    memcpy(b + SR_Q6_K_SCALES, grid->sc, N256 / N16);
    sr_put_u16(b + SR_Q6_K_D, grid->d);
}

static void store_q8_k(sr_weight *w, int64_t row, int64_t k0, int n, const sr_grid *grid, const int8_t *code) {
    (void)n;
    uint8_t *b = block_to_write(w, row, k0, N256, SR_Q8_K_BYTES);
    uint32_t d = sr_bits_from_f32(grid->d32);
    sr_put_u16(b, (uint16_t)d);
    sr_put_u16(b + 2, (uint16_t)(d >> 16));
    memcpy(b + SR_Q8_K_QS, code, N256);
    for (int g = 0; g < N256 / N16; g++) {
        int sum = 0;
        for (int j = N16 * g; j < N16 * g + N16; j++) sum += code[j];
        sr_put_u16(b + SR_Q8_K_SUMS + 2 * g, (uint16_t)sum);
    }
}

/* ---------------------------------------------------------------- scales
 * A lane is a group: 8 of 32 weights or 16 of 16. */

/* The block's factor for positive group values v[n] that are stored as 0..top: the largest gets top, or, where the
 * groups' weights are known to matter (group_weight), the factor that serves their sum best. */
static uint16_t factor(const float *v, const float *group_weight, int n, int top) {
    float max = 0;
    for (int g = 0; g < n; g++) max = v[g] > max ? v[g] : max;
    float f = group_weight ? search_positive(v, group_weight, n, top) : max / (float)top;
    return sr_f32_to_f16(sr_weight_finite(f));
}
/* What the formats with mins differ in. */
typedef struct min_search {
    int group, nmax, top; /* columns a group, largest code, largest group scale and min */
    float first, step;    /* the ladder without importance */
    int rungs;
    float ms_factor; /* with importance: sigma^2 is this times the block's mean square */
} min_search;

L_INLINE void fit_with_min(const sr_fit *in, const min_search m, sr_grid *grid) {
    const int groups = N256 / m.group;
    float x[N256], weight[N256], scale[SR_MAX_GROUPS], min[SR_MAX_GROUPS], group_weight[SR_MAX_GROUPS];
    lf xt[N256 / LANES], wt[N256 / LANES];
    finite_values(in->x, N256, x);
    if (in->importance) importance_weights(x, in->importance, m.ms_factor * mean_square(x, N256), N256, weight);
    for (int g = 0; g < groups; g += LANES) {
        lf *xg = xt + m.group / LANES * g, *wg = wt + m.group / LANES * g, sum = lf_set1(0);
        lf_gather(x + m.group * g, m.group, xg);
        affine a;
        if (in->importance) {
            lf_gather(weight + m.group * g, m.group, wg);
            a = search_affine(xg, wg, m.group, m.nmax, climb(-0.9f, 0.05f, 40), 8, 1, true);
        } else {
            lf base = sum;
            for (int j = 0; j < m.group; j++) base += xg[j] * xg[j];
            base = m.group == N32 ? lf_sqrt(base / (float)m.group) : lf_set1(0);
            for (int j = 0; j < m.group; j++) wg[j] = base + lf_abs(xg[j]);
            a = search_affine(xg, wg, m.group, m.nmax, climb(m.first, m.step, m.rungs), 8, 1, true);
        }
        for (int j = 0; j < m.group; j++) sum += wg[j];
        lf_store(scale + g, a.scale);
        lf_store(min + g, a.min);
        lf_store(group_weight + g, sum);
    }
    grid->n = N256;
    grid->group = m.group;
    grid->lo = 0;
    grid->hi = m.nmax;
    grid->d = factor(scale, in->importance ? group_weight : NULL, groups, m.top);
    grid->dmin = factor(min, in->importance ? group_weight : NULL, groups, m.top);
    const float d = sr_f16_to_f32(grid->d), dmin = sr_f16_to_f32(grid->dmin);
    for (int g = 0; g < groups; g += LANES) {
        lf sc, mn;
        refine_affine(xt + m.group / LANES * g, wt + m.group / LANES * g, m.group, m.nmax, d, dmin, m.top,
                      lf_load(scale + g), lf_load(min + g), &sc, &mn);
        for (int c = 0; c < LANES; c++) {
            grid->sc[g + c] = (uint8_t)sc[c];
            grid->mn[g + c] = (uint8_t)mn[c];
            grid->scale[g + c] = d * sc[c];
            grid->min[g + c] = dmin * mn[c];
        }
    }
}
static void fit_q2_k(const sr_fit *in, sr_grid *grid) {
    fit_with_min(in, (min_search){N16, 3, 15, -0.6f, 0.2f, 8, 1}, grid);
}
static void fit_q4_k(const sr_fit *in, sr_grid *grid) {
    fit_with_min(in, (min_search){N32, 15, 63, -1.2f, 0.125f, 16, 2}, grid);
}
static void fit_q5_k(const sr_fit *in, sr_grid *grid) {
    fit_with_min(in, (min_search){N32, 31, 63, -1.2f, 0.125f, 16, 2}, grid);
}

/* What the formats with signed group scales differ in. */
typedef struct signed_search {
    float first, step; /* the ladder */
    int rungs;
    bool other;            /* the scale's other sign too */
    int nmax, lo, hi, add; /* codes -nmax..nmax-1, group scales lo..hi, stored with `add` added */
    bool weigh_groups;     /* the factor serves the groups by their weights; else the largest scale gets lo */
} signed_search;

L_INLINE void fit_signed(const float *x, const float *weight, const signed_search s, sr_grid *grid) {
    enum { G = N256 / N16 };
    float scale[G], group_weight[G], f;
    lf xt[N256 / LANES], wt[N256 / LANES];
    for (int g = 0; g < G; g += LANES) {
        lf *xg = xt + N16 / LANES * g, *wg = wt + N16 / LANES * g, sum = lf_set1(0);
        lf_gather(x + N16 * g, N16, xg);
        lf_gather(weight + N16 * g, N16, wg);
        lf_store(scale + g, search_signed(xg, wg, N16, -(float)s.nmax, whole(s.nmax), climb(-s.first, -s.step, s.rungs),
                                          s.other, 1)
                                .scale);
        for (int j = 0; j < N16; j++) sum += wg[j];
        lf_store(group_weight + g, sum);
    }
    if (s.weigh_groups) {
        lf v[G], w[G];
        lf_spread(scale, G, v);
        lf_spread(group_weight, G, w);
        const linear l = search_signed(v, w, G, (float)s.lo, whole(-s.lo), share(0.7f, -0.1f, 16), false, 1);
        f = l.scale[0];
    } else {
        f = sr_largest(scale, G) / (float)s.lo;
    }
    grid->n = N256;
    grid->group = N16;
    grid->lo = -s.nmax;
    grid->hi = s.nmax - 1;
    grid->d = sr_f32_to_f16(sr_weight_finite(f));
    const float d = sr_f16_to_f32(grid->d);
    for (int g = 0; g < G; g += LANES) {
        const lf sc = refine_signed(xt + N16 / LANES * g, wt + N16 / LANES * g, N16, whole(s.nmax), d, s.lo, s.hi,
                                    lf_load(scale + g), s.nmax > 8 ? 4 : 8);
        for (int c = 0; c < LANES; c++) {
            grid->sc[g + c] = (uint8_t)(int)(sc[c] + (float)s.add);
            grid->scale[g + c] = d * sc[c];
            grid->min[g + c] = 0;
        }
    }
}
static void fit_q3_k(const sr_fit *in, sr_grid *grid) {
    float x[N256], weight[N256];
    finite_values(in->x, N256, x);
    const float ms = mean_square(x, N256);
    if (in->importance)
        importance_weights(x, in->importance, 2 * ms, N256, weight);
    else
        for (int j = 0; j < N256; j++) weight[j] = x[j] * x[j] + ms;
    fit_signed(x, weight, (signed_search){-0.7f, 0.2f, 12, true, 4, -32, 31, 32, in->importance != NULL}, grid);
}
static void fit_q6_k(const sr_fit *in, sr_grid *grid) {
    float x[N256], weight[N256];
    finite_values(in->x, N256, x);
    const float ms = mean_square(x, N256);
    for (int j = 0; j < N256; j++) weight[j] = in->importance ? sr_importance(in->importance[j]) : x[j] * x[j] + ms;
    fit_signed(x, weight, (signed_search){-7, 0.5f, 28, false, 32, -128, 127, 0, false}, grid);
}
static void fit_q8_k(const sr_fit *in, sr_grid *grid) {
    float x[N256];
    finite_values(in->x, N256, x);
    float max = sr_largest(x, N256);
    grid->n = grid->group = N256;
    grid->lo = -127;
    grid->hi = 127;
    grid->scale[0] = grid->d32 = fabsf(max) > SR_TINY ? max / -127 : 0;
    grid->min[0] = 0;
}
