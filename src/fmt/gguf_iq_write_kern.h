/* Writing GGUF's IQ types; see write_kern.h. Layouts: gguf_iq_bits.h.
 *
 * A vector of 8 (or 4) weights takes a point of its grid, found exactly: its cost is a sum over elements, so that of
 * each upper half and of each lower half is added up once, and each point costs a look-up and a comparison (a run of
 * points shares its upper half). A lane is a vector. Which scales a block stores is decided by these costs alone: for
 * each group some of the integers around an estimate, then the block's factor by least squares.
 *
 * IQ2 and IQ3 hold magnitudes. Where only an even number of signs in eight can be stored (IQ2_XXS, IQ2_XS, IQ3_XXS) and
 * theirs is odd, the element whose sign costs least is taken as a negative magnitude. */
#include "fmt/gguf_iq.h"
#include "fmt/gguf_iq_bits.h"
#include "fmt/write_kern.h"

/* ---------------------------------------------------------------- grids */

typedef struct lattice {
    const uint64_t *eights; /* the points, by dimension (gguf_iq.h) */
    const uint32_t *fours;
    const uint8_t *digits; /* the lower half's, in the lowest bits */
    const sr_iq_run *runs;
    int n, dim, n_digit, times; /* value = times * what the point holds */
    float value[8];
} lattice;

/* What a type does with one. */
typedef struct lattice_type {
    lattice grid;
    int group, top; /* columns a scale; the largest of its integers, 1, 3, 5 .. */
    float unit;     /* scale = d * unit * integer */
    float estimate; /* the scale of a group as a part of the root of its weighted mean square */
    int tries;      /* integers on either side of the best that are tried with the grid's points */
    bool even;      /* the number of negative signs in eight */
    int delta;      /* columns that share one of IQ1's deltas; 0: none */
} lattice_type;

enum { HALF_CODES = 171, MOST_DIGITS = 8 };

/* Where digits of a half lie in its byte. */
L_INLINE int digit_bits(const lattice *l) {
    return l->dim == 8 ? 2 : 3;
}
L_INLINE int lower_digits(const lattice *l, int point) {
    return l->dim == 8 ? l->digits[point] : l->digits[point] & 63;
}

/* Costs of all codes of half a vector: weight * (x - scale * value)^2, summed up. */
L_INLINE void half_costs(const lattice *l, const lf *x, const lf *weight, lf scale, lf delta, lf *cost) {
    const int n = l->n_digit, bits = digit_bits(l);
    lf of[4][MOST_DIGITS], two[2][16];
    for (int i = 0; i < l->dim / 2; i++)
        for (int d = 0; d < n; d++) {
            const lf e = x[i] - scale * (delta + l->value[d]);
            of[i][d] = weight[i] * e * e;
        }
    if (l->dim == 4) {
        for (int b = 0; b < n; b++)
            for (int a = 0; a < n; a++) cost[a | b << bits] = of[0][a] + of[1][b];
        return;
    }
    for (int k = 0; k < 2; k++)
        for (int b = 0; b < 3; b++)
            for (int a = 0; a < 3; a++) two[k][a | b << bits] = of[2 * k][a] + of[2 * k + 1][b];
    for (int d = 0; d < 3; d++)
        for (int c = 0; c < 3; c++) {
            const lf high = two[1][c | d << 2];
            for (int b = 0; b < 3; b++)
                for (int a = 0; a < 3; a++) cost[a | b << 2 | c << 4 | d << 6] = two[0][a | b << 2] + high;
        }
}

/* What LANES vectors would cost if all vectors of digits were points. */
L_INLINE lf rough_cost(const lattice *l, const lf *x, const lf *weight, lf scale, lf delta) {
    lf sum = lf_set1(0);
    for (int i = 0; i < l->dim; i++) {
        lf least = lf_set1(INFINITY);
        for (int d = 0; d < l->n_digit; d++) {
            const lf e = x[i] - scale * (delta + l->value[d]);
            least = lf_min(e * e, least);
        }
        sum += weight[i] * least;
    }
    return sum;
}

/* Which of IQ1's deltas suits each vector. */
L_INLINE lf better_delta(const lattice *l, const lf *x, const lf *weight, lf scale) {
    const lf up = rough_cost(l, x, weight, scale, lf_set1(1)), down = rough_cost(l, x, weight, scale, lf_set1(-1));
    return lf_select(down < up, lf_set1(-1), lf_set1(1));
}

/* The least cost of LANES vectors x[dim], and, where asked for, the first point that has it. */
L_INLINE lf nearest(const lattice *l, const lf *x, const lf *weight, lf scale, lf delta, int *point) {
    lf lower[HALF_CODES], upper[HALF_CODES], best = lf_set1(INFINITY);
    li where = li_set1(0);
    half_costs(l, x, weight, scale, delta, lower);
    half_costs(l, x + l->dim / 2, weight + l->dim / 2, scale, delta, upper);
    for (int r = 0; l->runs[r].n; r++) {
        const int first = l->runs[r].first, end = first + l->runs[r].n;
        lf even = lower[lower_digits(l, first)], odd = even;
        for (int k = first + 1; k + 1 < end; k += 2) { /* two chains: a minimum waits for the one before it */
            odd = lf_min(odd, lower[lower_digits(l, k)]);
            even = lf_min(even, lower[lower_digits(l, k + 1)]);
        }
        even = lf_min(even, lower[lower_digits(l, end - 1)]);
        const lf cost = lf_min(even, odd) + upper[l->runs[r].upper];
        if (point) where = lf_select_i(cost < best, li_set1(r), where);
        best = lf_min(cost, best);
    }
    if (!point) return best;
    for (int c = 0; c < LANES; c++) {
        const sr_iq_run *run = &l->runs[where[c]];
        int at = run->first;
        for (int k = at + 1; k < run->first + run->n; k++)
            if (lower[lower_digits(l, k)][c] < lower[lower_digits(l, at)][c]) at = k;
        point[c] = at;
    }
    return best;
}

/* Element i of a point. */
L_INLINE int value_of(const lattice *l, int point, int i) {
    const uint64_t v = l->dim == 8 ? l->eights[point] : l->fours[point];
    return l->times * (int8_t)(v >> 8 * i & 255);
}
/* The point with these elements; one that follows in the order where there is none. */
L_INLINE int point_of(const lattice *l, const int8_t *code, int delta) {
    const uint64_t order = l->dim == 8 ? 0x8080808080808080 : 0x80808080; /* -1, 0, 1 */
    uint64_t want = 0;
    for (int i = 0; i < l->dim; i++) {
        const int v = code[i] - delta;
        want |= (uint64_t)(uint8_t)((!delta && v < 0 ? -v : v) / l->times) << 8 * i;
    }
    int at = 0;
    for (int half = l->n / 2; half; half /= 2)
        if (((l->dim == 8 ? l->eights[at + half] : l->fours[at + half]) ^ order) <= (want ^ order)) at += half;
    return at;
}

/* ---------------------------------------------------------------- eight weights */

/* What the search looks at: x without its sign (one of them below 0 where `even` wants another sign changed), and the
 * signs as stored. No element counts for nothing in its vector: then snap finds a point again whose error is 0. */
L_INLINE unsigned prepare(const lattice_type *t, float *x, float *weight) {
    float least = INFINITY;
    unsigned signs = 0, odd = 0;
    int flip = 0;
    for (int k = 0; k < 8; k += t->grid.dim) {
        float most = 0;
        for (int i = k; i < k + t->grid.dim; i++) most = weight[i] > most ? weight[i] : most;
        for (int i = k; i < k + t->grid.dim; i++)
            weight[i] = most > 0 ? weight[i] > 0x1p-10f * most ? weight[i] : 0x1p-10f * most : 1;
    }
    for (int i = 0; i < 8 && !t->delta; i++) {
        unsigned s = sr_bits_from_f32(x[i]) >> 31;
        x[i] = s ? -x[i] : x[i];
        signs |= s << i;
        odd ^= s;
        const float cost = weight[i] * x[i];
        if (cost < least) {
            least = cost;
            flip = i;
        }
    }
    if (t->even && odd) {
        signs ^= 1u << flip;
        x[flip] = -x[flip];
    }
    return signs;
}

/* Without an importance: with two bits, large weights matter more than their share of the error (by the perplexity of
 * the bundled model); with four all are alike. */
static inline void weigh(const float *x, const float *importance, float ms, int n, float *weight) {
    if (importance)
        importance_weights(x, importance, ms, n, weight);
    else
        for (int i = 0; i < n; i++) weight[i] = sqrtf(ms + x[i] * x[i]);
}
static inline void weigh_alike(const float *x, const float *importance, float ms, int n, float *weight) {
    if (importance)
        importance_weights(x, importance, ms, n, weight);
    else
        for (int i = 0; i < n; i++) weight[i] = 1;
}

/* ---------------------------------------------------------------- blocks */

L_INLINE void snap_lattice(const lattice_type *t, const sr_grid *grid, int i0, int n, const float *w, int8_t *code,
                           float *back) {
    const lattice *l = &t->grid;
    const int dim = l->dim, step = dim * LANES;
    for (int i = 0; i < n; i += step) {
        const int m = n - i < step ? n - i : step;
        float x[8 * LANES] = {0}, weight[8 * LANES], by[LANES], imp[8 * LANES] = {0};
        unsigned signs[LANES];
        int point[LANES];
        lf xt[8], wt[8], delta;
        for (int j = 0; j < m; j++) x[j] = sr_weight_finite(w[i + j]);
        if (grid->importance) memcpy(imp, grid->importance + i0 + i, (size_t)m * sizeof *imp);
        weigh(x, grid->importance ? imp : NULL, grid->ms, step, weight);
        for (int v = 0; v < LANES; v++) {
            const int g = (i0 + i + (dim * v < m ? dim * v : 0)) / t->group;
            by[v] = grid->scale[g];
            delta[v] = t->delta ? grid->mn[g] ? -1 : 1 : 0;
        }
        for (int v = 0; v < step / 8; v++) signs[v] = prepare(t, x + 8 * v, weight + 8 * v);
        lf_gather(x, dim, xt);
        lf_gather(weight, dim, wt);
        if (t->delta == 8) delta = better_delta(l, xt, wt, lf_load(by));
        nearest(l, xt, wt, lf_load(by), delta, point);
        for (int v = 0; dim * v < m; v++)
            for (int j = 0; j < dim; j++) {
                int q = value_of(l, point[v], j) + (int)delta[v];
                if (signs[dim * v / 8] >> (dim * v + j) % 8 & 1) q = -q;
                code[i + dim * v + j] = (int8_t)q;
                back[i + dim * v + j] = by[v] * (float)q;
            }
    }
}

L_INLINE float odd_near(float x, float top) { /* 1, 3, 5 .. top */
    const float s = 2 * sr_nearest(0.5f * (x - 1)) + 1;
    return sr_clamp(s, 1, top);
}

/* For each group the integer, out of `tries` on either side of grid->sc, with the least cost, and IQ1_S's delta. */
L_INLINE void try_scales(const lattice_type *t, const lf *xt, const lf *wt, float unit, int tries, bool points,
                         sr_grid *grid) {
    const lattice *l = &t->grid;
    const int dim = l->dim, n_vector = N256 / dim, groups = N256 / t->group, of_group = t->group / dim;
    const float top = (float)t->top;
    float sc[SR_MAX_GROUPS], least[SR_MAX_GROUPS], by[N256 / 4], cost[2][N256 / 4];
    for (int g = 0; g < groups; g++) {
        least[g] = INFINITY;
        sc[g] = grid->sc[g];
    }
    for (int k = -tries; k <= tries; k++) {
        for (int v = 0; v < n_vector; v++) by[v] = unit * sr_clamp(sc[v / of_group] + (float)(2 * k), 1, top);
        for (int v = 0; v < n_vector; v += LANES) {
            const lf *xv = xt + dim * (v / LANES), *wv = wt + dim * (v / LANES), s = lf_load(by + v);
            const lf one = lf_set1(t->delta ? 1 : 0);
            lf_store(cost[0] + v, points ? nearest(l, xv, wv, s, one, NULL) : rough_cost(l, xv, wv, s, one));
            if (t->delta) lf_store(cost[1] + v, rough_cost(l, xv, wv, s, -one));
        }
        for (int g = 0; g < groups; g++) {
            float sum[2] = {0, 0};
            for (int v = of_group * g; v < of_group * (g + 1); v++) {
                if (t->delta == 8 && cost[1][v] < cost[0][v]) cost[0][v] = cost[1][v];
                sum[0] += cost[0][v];
                if (t->delta > 8) sum[1] += cost[1][v];
            }
            const bool down = t->delta > 8 && sum[1] < sum[0];
            if (sum[down] < least[g]) {
                least[g] = sum[down];
                grid->sc[g] = (uint8_t)sr_clamp(sc[g] + (float)(2 * k), 1, top);
                grid->mn[g] = down;
            }
        }
    }
}

L_INLINE void fit_lattice(const lattice_type *t, const sr_fit *in, sr_grid *grid) {
    const lattice *l = &t->grid;
    const int dim = l->dim, n_vector = N256 / dim, groups = N256 / t->group, of_group = t->group / dim;
    float x[N256], weight[N256], estimate[SR_MAX_GROUPS], d = 0;
    lf xt[N256 / LANES], wt[N256 / LANES];
    finite_values(in->x, N256, x);
    grid->ms = mean_square(x, N256);
    grid->importance = in->importance;
    weigh(x, in->importance, grid->ms, N256, weight);
    for (int g = 0; g < groups; g++) {
        float s_w = 0, s_xx = 0;
        for (int i = g * t->group; i < (g + 1) * t->group; i++) {
            s_w += weight[i];
            s_xx += weight[i] * x[i] * x[i];
        }
        estimate[g] = s_w > 0 ? t->estimate * sqrtf(s_xx / s_w) : 0;
        d = estimate[g] > d ? estimate[g] : d;
    }
    for (int v = 0; v < N256; v += 8) prepare(t, x + v, weight + v);
    for (int v = 0; v < n_vector; v += LANES) {
        lf_gather(x + dim * v, dim, xt + dim * (v / LANES));
        lf_gather(weight + dim * v, dim, wt + dim * (v / LANES));
    }
    const float top = (float)t->top;
    d /= t->unit * (top - 2); /* some room above the estimate */
    for (int g = 0; g < groups; g++) grid->sc[g] = 1, grid->mn[g] = 0;
    if (d > SR_TINY) {
        /* Which integers, first as if all vectors were points. */
        for (int g = 0; g < groups; g++) grid->sc[g] = (uint8_t)odd_near(estimate[g] / (d * t->unit), top);
        try_scales(t, xt, wt, d * t->unit, 6, false, grid);
        if (t->tries) try_scales(t, xt, wt, d * t->unit, t->tries, true, grid);
        /* Least squares for d, given the points that these scales ask for. */
        float s_xq = 0, s_qq = 0, xq[N256 / 4], qq[N256 / 4];
        for (int v = 0; v < n_vector; v += LANES) {
            const lf *xv = xt + dim * (v / LANES), *wv = wt + dim * (v / LANES);
            lf by, delta, sc, sum_xq = lf_set1(0), sum_qq = sum_xq;
            int point[LANES];
            for (int c = 0; c < LANES; c++) {
                const int g = (v + c) / of_group;
                sc[c] = (float)grid->sc[g];
                delta[c] = t->delta ? grid->mn[g] ? -1 : 1 : 0;
            }
            by = d * t->unit * sc;
            if (t->delta == 8) delta = better_delta(l, xv, wv, by);
            nearest(l, xv, wv, by, delta, point);
            for (int i = 0; i < dim; i++) {
                lf q;
                for (int c = 0; c < LANES; c++) q[c] = (float)value_of(l, point[c], i);
                q = sc * (q + delta);
                sum_xq += wv[i] * q * xv[i];
                sum_qq += wv[i] * q * q;
            }
            lf_store(xq + v, sum_xq);
            lf_store(qq + v, sum_qq);
        }
        for (int v = 0; v < n_vector; v++) {
            s_xq += xq[v];
            s_qq += qq[v];
        }
        if (s_xq > 0 && s_qq > 0) d = s_xq / s_qq / t->unit;
    }
    grid->n = N256;
    grid->group = t->group;
    grid->hi = (int)l->value[l->n_digit - 1] + (t->delta ? 1 : 0);
    grid->lo = -grid->hi;
    /* No point past the range of weights, or snap would not find it again: it takes what lies outside as the end. */
    int most = 1;
    for (int g = 0; g < groups; g++) most = grid->sc[g] > most ? grid->sc[g] : most;
    const float end = 65472 / (t->unit * (float)(most * grid->hi));
    d = d < end ? d : end;
    grid->d = sr_f32_to_f16(d > SR_TINY ? sr_weight_finite(d) : 0);
    for (int g = 0; g < groups; g++) {
        grid->scale[g] = sr_f16_to_f32(grid->d) * t->unit * (float)grid->sc[g];
        grid->min[g] = 0;
    }
}

/* ---------------------------------------------------------------- types */

#define ODD_8                                                                                                          \
    { 8, 25, 43 }
static const lattice_type type_iq2_xxs = {
    {sr_iq2xxs_grid, NULL, sr_iq2xxs_digits, sr_iq2xxs_runs, 256, 8, 3, 1, ODD_8}, 32, 31, 0.125f, 0.0407f, 1, true, 0};
static const lattice_type type_iq2_xs = {
    {sr_iq2xs_grid, NULL, sr_iq2xs_digits, sr_iq2xs_runs, 512, 8, 3, 1, ODD_8}, 16, 31, 0.125f, 0.0407f, 1, true, 0};
static const lattice_type type_iq2_s = {
    {sr_iq2s_grid, NULL, sr_iq2s_digits, sr_iq2s_runs, 1024, 8, 3, 1, ODD_8}, 16, 31, 0.125f, 0.0407f, 1, false, 0};
static const lattice_type type_iq3_xxs = {
    {NULL, sr_iq3xxs_grid, sr_iq3xxs_digits, sr_iq3xxs_runs, 256, 4, 8, 1, {4, 12, 20, 28, 36, 44, 52, 62}},
    32,
    31,
    0.25f,
    0.0346f,
    1,
    true,
    0};
static const lattice_type type_iq3_s = {
    {NULL, sr_iq3s_grid, sr_iq3s_digits, sr_iq3s_runs, 512, 4, 8, 1, {1, 3, 5, 7, 9, 11, 13, 15}},
    32,
    31,
    1,
    0.1423f,
    1,
    false,
    0};
static const lattice_type type_iq1_s = {{sr_iq1s_grid, NULL, sr_iq1s_digits, sr_iq1s_runs, 2048, 8, 3, 8, {-8, 0, 8}},
                                        32,
                                        15,
                                        0.125f,
                                        0.154f,
                                        0,
                                        false,
                                        32};
static const lattice_type type_iq1_m = {
    {sr_iq1s_grid, NULL, sr_iq1s_digits, sr_iq1s_runs, 2048, 8, 3, 8, {-8, 0, 8}}, 16, 15, 0.125f, 0.154f, 0, false, 8};

#define LATTICE(name)                                                                                                  \
    static void fit_##name(const sr_fit *in, sr_grid *grid) {                                                          \
        fit_lattice(&type_##name, in, grid);                                                                           \
    }                                                                                                                  \
    static void snap_##name(const sr_grid *grid, int i0, int n, const float *w, int8_t *code, float *back) {           \
        snap_lattice(&type_##name, grid, i0, n, w, code, back);                                                        \
    }
LATTICE(iq2_xxs)
LATTICE(iq2_xs)
LATTICE(iq2_s)
LATTICE(iq3_xxs)
LATTICE(iq3_s)
LATTICE(iq1_s)
LATTICE(iq1_m)

/* ---------------------------------------------------------------- bits */

/* Bit i: code i is negative. */
static inline unsigned signs_of(const int8_t *code, int n) {
    unsigned s = 0;
    for (int i = 0; i < n; i++) s |= (unsigned)(code[i] < 0) << i;
    return s;
}
static inline unsigned stored_scale(const sr_grid *grid, int g) {
    return (unsigned)(grid->sc[g] - 1) / 2;
}
/* Four sign fields of seven bits, and a scale above them. */
static inline void put_signs_and_scale(uint8_t *at, const int8_t *code, unsigned scale) {
    uint32_t v = scale << 28;
    for (int l = 0; l < 4; l++) v |= signs_of(code + 8 * l, 7) << 7 * l;
    sr_put_u16(at, (uint16_t)v);
    sr_put_u16(at + 2, (uint16_t)(v >> 16));
}
static inline void put_scales4(uint8_t *at, const sr_grid *grid, int groups) {
    for (int g = 0; g < groups; g += 2) at[g / 2] = (uint8_t)(stored_scale(grid, g) | stored_scale(grid, g + 1) << 4);
}

static void store_iq2_xxs(sr_weight *w, int64_t row, int64_t k0, int n, const sr_grid *grid, const int8_t *code) {
    (void)n;
    uint8_t *b = block_to_write(w, row, k0, N256, SR_IQ2_XXS_BYTES);
    sr_put_u16(b, grid->d);
    for (int g = 0; g < 8; g++, code += 32) {
        for (int l = 0; l < 4; l++) b[2 + 8 * g + l] = (uint8_t)point_of(&type_iq2_xxs.grid, code + 8 * l, 0);
        put_signs_and_scale(b + 6 + 8 * g, code, stored_scale(grid, g));
    }
}
static void store_iq2_xs(sr_weight *w, int64_t row, int64_t k0, int n, const sr_grid *grid, const int8_t *code) {
    (void)n;
    uint8_t *b = block_to_write(w, row, k0, N256, SR_IQ2_XS_BYTES);
    sr_put_u16(b, grid->d);
    for (int v = 0; v < 32; v++, code += 8)
        sr_put_u16(b + 2 + 2 * v, (uint16_t)((unsigned)point_of(&type_iq2_xs.grid, code, 0) | signs_of(code, 7) << 9));
    put_scales4(b + SR_IQ2_XS_SCALES, grid, 16);
}
static void store_iq2_s(sr_weight *w, int64_t row, int64_t k0, int n, const sr_grid *grid, const int8_t *code) {
    (void)n;
    uint8_t *b = block_to_write(w, row, k0, N256, SR_IQ2_S_BYTES);
    sr_put_u16(b, grid->d);
    memset(b + SR_IQ2_S_QH, 0, 8);
    for (int v = 0; v < 32; v++, code += 8) {
        const int at = point_of(&type_iq2_s.grid, code, 0);
        b[2 + v] = (uint8_t)at;
        b[SR_IQ2_S_SIGNS + v] = (uint8_t)signs_of(code, 8);
        b[SR_IQ2_S_QH + v / 4] |= (uint8_t)(at >> 8 << 2 * (v % 4));
    }
    put_scales4(b + SR_IQ2_S_SCALES, grid, 16);
}
static void store_iq3_xxs(sr_weight *w, int64_t row, int64_t k0, int n, const sr_grid *grid, const int8_t *code) {
    (void)n;
    uint8_t *b = block_to_write(w, row, k0, N256, SR_IQ3_XXS_BYTES);
    sr_put_u16(b, grid->d);
    for (int q = 0; q < 64; q++) b[2 + q] = (uint8_t)point_of(&type_iq3_xxs.grid, code + 4 * q, 0);
    for (int g = 0; g < 8; g++) put_signs_and_scale(b + SR_IQ3_XXS_V + 4 * g, code + 32 * g, stored_scale(grid, g));
}
static void store_iq3_s(sr_weight *w, int64_t row, int64_t k0, int n, const sr_grid *grid, const int8_t *code) {
    (void)n;
    uint8_t *b = block_to_write(w, row, k0, N256, SR_IQ3_S_BYTES);
    sr_put_u16(b, grid->d);
    memset(b + SR_IQ3_S_QH, 0, 8);
    for (int q = 0; q < 64; q++) {
        const int at = point_of(&type_iq3_s.grid, code + 4 * q, 0);
        b[2 + q] = (uint8_t)at;
        b[SR_IQ3_S_QH + q / 8] |= (uint8_t)(at >> 8 << q % 8);
    }
    for (int v = 0; v < 32; v++) b[SR_IQ3_S_SIGNS + v] = (uint8_t)signs_of(code + 8 * v, 8);
    put_scales4(b + SR_IQ3_S_SCALES, grid, 8);
}
/* IQ1's codes are 8 grid + 1 or 8 grid - 1. */
static inline int delta_of(int8_t code) {
    return (code & 7) == 1 ? 1 : -1;
}
static void store_iq1_s(sr_weight *w, int64_t row, int64_t k0, int n, const sr_grid *grid, const int8_t *code) {
    (void)n;
    uint8_t *b = block_to_write(w, row, k0, N256, SR_IQ1_S_BYTES);
    sr_put_u16(b, grid->d);
    for (int g = 0; g < 8; g++) {
        unsigned qh = stored_scale(grid, g) << 12 | (unsigned)(grid->mn[g] != 0) << 15;
        for (int l = 0; l < 4; l++, code += 8) {
            const int at = point_of(&type_iq1_s.grid, code, grid->mn[g] ? -1 : 1);
            b[2 + 4 * g + l] = (uint8_t)at;
            qh |= (unsigned)at >> 8 << 3 * l;
        }
        sr_put_u16(b + SR_IQ1_S_QH + 2 * g, (uint16_t)qh);
    }
}
static void store_iq1_m(sr_weight *w, int64_t row, int64_t k0, int n, const sr_grid *grid, const int8_t *code) {
    (void)n;
    uint8_t *b = block_to_write(w, row, k0, N256, SR_IQ1_M_BYTES);
    memset(b + SR_IQ1_M_QH, 0, 16);
    for (int v = 0; v < 32; v++, code += 8) {
        const int delta = delta_of(code[0]), at = point_of(&type_iq1_m.grid, code, delta);
        b[v] = (uint8_t)at;
        b[SR_IQ1_M_QH + v / 2] |= (uint8_t)((at >> 8 | (delta < 0 ? 8 : 0)) << 4 * (v % 2));
    }
    for (int i = 0; i < 4; i++) {
        unsigned s = (unsigned)(grid->d >> 4 * i & 15) << 12;
        for (int g = 0; g < 4; g++) s |= stored_scale(grid, 4 * i + g) << 3 * g;
        sr_put_u16(b + SR_IQ1_M_S + 2 * i, (uint16_t)s);
    }
}

/* ---------------------------------------------------------------- IQ4: one of sixteen values each */

static const code_table iq4_table = {
    16,
    {-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113},
    {-115.5f, -93.5f, -74, -57, -42, -28.5f, -16, -4.5f, 7, 19, 31.5f, 45.5f, 61, 79, 101}};
L_INLINE code_set iq4_codes(void) {
    return (code_set){0, 0, &iq4_table};
}
/* The largest magnitude gets -127 and more; the other sign is tried too. */
enum { IQ4_RUNGS = 8 };
#define IQ4_FIRST 14
#define IQ4_STEP (-6)

static void snap_iq4(const sr_grid *grid, int i0, int n, const float *w, int8_t *code, float *back) {
    snap_table(&iq4_table, grid, i0, n, w, code, back);
}
static void fit_iq4_nl(const sr_fit *in, sr_grid *grid) {
    float x[N32], weight[N32];
    lf v[N32], w[N32];
    finite_values(in->x, N32, x);
    weigh_alike(x, in->importance, in->row_ms, N32, weight);
    lf_spread(x, N32, v);
    lf_spread(weight, N32, w);
    const linear l = search_signed(v, w, N32, -127, iq4_codes(), share(IQ4_FIRST, IQ4_STEP, IQ4_RUNGS), true, 1);
    grid->n = grid->group = N32;
    grid->lo = -127;
    grid->hi = 113;
    grid->d = sr_f32_to_f16(sr_weight_finite(l.scale[0]));
    grid->scale[0] = sr_f16_to_f32(grid->d);
    grid->min[0] = 0;
}
static void store_iq4_nl(sr_weight *w, int64_t row, int64_t k0, int n, const sr_grid *grid, const int8_t *code) {
    (void)n;
    uint8_t *b = block_to_write(w, row, k0, N32, SR_IQ4_NL_BYTES);
    sr_put_u16(b, grid->d);
    const places p = places_of(sr_iq4_values);
    put_places(b + SR_IQ4_NL_QS, &p, code, 16);
}

static void fit_iq4_xs(const sr_fit *in, sr_grid *grid) {
    enum { G = N256 / N32 };
    float x[N256], weight[N256], scale[G];
    lf xt[N256 / LANES], wt[N256 / LANES];
    finite_values(in->x, N256, x);
    weigh_alike(x, in->importance, mean_square(x, N256), N256, weight);
    for (int g = 0; g < G; g += LANES) {
        lf *xg = xt + N32 / LANES * g, *wg = wt + N32 / LANES * g;
        lf_gather(x + N32 * g, N32, xg);
        lf_gather(weight + N32 * g, N32, wg);
        lf_store(scale + g,
                 search_signed(xg, wg, N32, -127, iq4_codes(), climb(IQ4_FIRST, IQ4_STEP, IQ4_RUNGS), true, 1).scale);
    }
    grid->n = N256;
    grid->group = N32;
    grid->lo = -127;
    grid->hi = 113;
    grid->d = sr_f32_to_f16(sr_weight_finite(sr_largest(scale, G) / -32));
    const float d = sr_f16_to_f32(grid->d);
    for (int g = 0; g < G; g += LANES) {
        const lf sc = refine_signed(xt + N32 / LANES * g, wt + N32 / LANES * g, N32, iq4_codes(), d, -32, 31,
                                    lf_load(scale + g), 4);
        for (int c = 0; c < LANES; c++) {
            grid->sc[g + c] = (uint8_t)(int)(sc[c] + 32);
            grid->scale[g + c] = d * sc[c];
            grid->min[g + c] = 0;
        }
    }
}
static void store_iq4_xs(sr_weight *w, int64_t row, int64_t k0, int n, const sr_grid *grid, const int8_t *code) {
    (void)n;
    uint8_t *b = block_to_write(w, row, k0, N256, SR_IQ4_XS_BYTES);
    const places p = places_of(sr_iq4_values);
    unsigned high = 0;
    sr_put_u16(b, grid->d);
    for (int g = 0; g < 8; g++) {
        high |= (unsigned)grid->sc[g] >> 4 << 2 * g;
        put_places(b + SR_IQ4_XS_QS + 16 * g, &p, code + 32 * g, 16);
    }
    for (int g = 0; g < 8; g += 2) b[4 + g / 2] = (uint8_t)((grid->sc[g] & 15) | (grid->sc[g + 1] & 15) << 4);
    sr_put_u16(b + 2, (uint16_t)high);
}
