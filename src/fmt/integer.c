/* Decode and unpack of w = scale * (q - z). See integer.h. */
#include "fmt/integer.h"

#include <math.h>

#include "base/bytes.h"
#include "fmt/search.h"
#include "fmt/shrink.h"

static int64_t scale_at(const sr_weight *w, int64_t row, int64_t g) {
    const sr_integer *a = w->aux;
    return a->scale_at ? a->scale_at(w, row, g) : g * w->N + row;
}
static float scale_of(const sr_weight *w, int64_t row, int64_t g) {
    return sr_plane_float(w, SR_INTEGER_SCALES, scale_at(w, row, g));
}

/* q - z is exact, and so is its product with a scale of 16 bits: every order of operations gives the same bits. */
void sr_integer_decode(const sr_weight *w, int64_t row, int64_t k0, int64_t n, float *out) {
    const sr_integer *a = w->aux;
    uint8_t q[SR_KC];
    int64_t group = -1;
    float scale = 0;
    int zero = 0;
    for (int64_t i = 0; i < n; i += SR_KC) {
        int m = n - i < SR_KC ? (int)(n - i) : SR_KC;
        a->codes(w, row, k0 + i, m, q);
        for (int j = 0; j < m; j++) {
            int64_t k = k0 + i + j, g = a->g_idx ? a->g_idx[k] : k / w->spec.group;
            if (g != group) {
                group = g;
                scale = scale_of(w, row, g);
                zero = a->zero(w, row, g);
            }
            out[i + j] = scale * (float)(q[j] - zero);
        }
    }
}

void sr_integer_unpack(const sr_weight *w, int64_t row, int64_t k0, int64_t n, int8_t *code, float *scale, float *min) {
    const sr_integer *a = w->aux;
    uint8_t q[SR_KC];
    for (int64_t i = 0; i < n; i += w->group) {
        int m = n - i < w->group ? (int)(n - i) : w->group;
        int64_t g = (k0 + i) / w->spec.group;
        int zero = a->zero(w, row, g);
        *scale = scale_of(w, row, g);
        if (w->fmt->has_min) {
            *min++ = *scale * (float)(zero - 128);
            zero = 128;
        }
        scale++;
        a->codes(w, row, k0 + i, m, q);
        for (int j = 0; j < m; j++) code[i + j] = (int8_t)(q[j] - zero);
    }
}

/* ---------------------------------------------------------------- writing */

struct best {
    float scale, zero, error;
};
static void keep_best(const sr_tries *t, const float *zero, struct best *b) {
    for (int c = 0; c < SR_TRIES; c++)
        if (t->error[c] < b->error) *b = (struct best){t->scale[c], zero[c], t->error[c]};
}

/* From the rule's scale and zero point: shrunk ranges, their least squares, then zero points and scales around. */
static struct best search(const sr_fit *in, float low, float high, float top, struct best b) {
    const bool sym = in->w->spec.sym;
    float zero[SR_TRIES], sum_w, sum_wx;
    sr_tries t;
    sr_fit_sums(in, &sum_w, &sum_wx);
    for (int pass = 0; pass < 4; pass++) {
        const struct best from = b;
        for (int c = 0; c < SR_TRIES; c++) {
            float scale = b.scale;
            zero[c] = pass ? zero[c] : b.zero;
            if (pass == 0 && c > 0) {
                float shrink = 1 - 0.05f * (float)c;
                scale = shrink * (high - low) / top;
                if (!sym && scale > 0) zero[c] = sr_clamp(sr_nearest(-shrink * low / scale), 0, top);
            } else if (pass == 1 || pass == 3) { /* least squares with the codes that they had */
                float qq = t.qq[c] - 2 * zero[c] * t.q[c] + zero[c] * zero[c] * sum_w;
                scale = qq > 0 ? (t.xq[c] - zero[c] * sum_wx) / qq : t.scale[c];
            } else if (pass == 2) {
                if (!sym) zero[c] = sr_clamp(from.zero + (float)(c % 3 - 1), 0, top);
                scale = from.scale * (sym ? 1 + 0.02f * ((float)c - 3.5f) : 1 + 0.03f * (float)(c / 3 - 1));
            }
            scale = sr_plane_round(in->w, SR_INTEGER_SCALES, scale);
            t.scale[c] = scale > 0 ? scale : from.scale;
            t.min[c] = t.scale[c] * zero[c];
        }
        sr_try_affine(in, top, &t);
        keep_best(&t, zero, &b);
    }
    return b;
}

void sr_integer_fit(const sr_fit *in, sr_grid *grid) {
    const sr_weight *w = in->w;
    const int bits = w->fmt->spec.bits, levels = (1 << bits) - 1;
    float low, high, top = (float)levels;
    sr_fit_range(in, &low, &high);
    low = low < 0 ? low : 0;
    high = high > 0 ? high : 0;
    if (w->spec.sym) {
        high = high > -low ? high : -low;
        low = -high;
    }
    if (!(high - low > SR_TINY)) low = -1, high = 1; /* zeros: any scale */
    struct best b = {(high - low) / top, (float)(1 << (bits - 1)), INFINITY};
    if (!w->spec.sym) b.zero = sr_clamp(sr_nearest(-low / b.scale), 0, top);
    b.scale = sr_plane_round(w, SR_INTEGER_SCALES, b.scale);
    if (sr_fit_weighs(in)) b = search(in, low, high, top, b);
    grid->n = grid->group = in->n;
    grid->mn[0] = (uint8_t)b.zero;
    grid->lo = bits == 8 ? -128 : -(int)b.zero;
    grid->hi = grid->lo + levels;
    grid->scale[0] = b.scale;
    grid->min[0] = b.scale * (float)((int)b.zero + grid->lo);
}

void sr_integer_hold(const sr_fit *in, float scale, float min, sr_grid *grid) {
    const sr_weight *w = in->w;
    const int bits = w->fmt->spec.bits, levels = (1 << bits) - 1;
    float low, high, zero = (float)(1 << (bits - 1));
    (void)min; /* weights are whole multiples of the scale, or cannot be held */
    sr_fit_range(in, &low, &high);
    if (!w->spec.sym && scale != 0) zero = sr_clamp(sr_nearest(-low / scale), 0, (float)levels);
    grid->n = grid->group = in->n;
    grid->mn[0] = (uint8_t)zero;
    grid->lo = bits == 8 ? -128 : -(int)zero;
    grid->hi = grid->lo + levels;
    grid->scale[0] = sr_plane_round(w, SR_INTEGER_SCALES, scale);
    grid->min[0] = grid->scale[0] * (float)((int)zero + grid->lo);
}

void sr_integer_snap(const sr_grid *grid, int i0, int n, const float *w, int8_t *code, float *back) {
    const float scale = grid->scale[0], by = scale != 0 ? scale : INFINITY, zero = grid->mn[0];
    const float top = (float)(grid->hi - grid->lo);
    (void)i0;
    for (int i = 0; i < n; i++) {
        float q = sr_clamp(sr_nearest(sr_clamp(sr_weight_finite(w[i]) / by, -512, 512)) + zero, 0, top);
        code[i] = (int8_t)((int)q + grid->lo);
        back[i] = scale * (q - zero);
    }
}

void sr_integer_store(sr_weight *w, int64_t row, int64_t k0, int n, const sr_grid *grid, const int8_t *code) {
    const sr_integer *a = w->aux;
    const int64_t group = k0 / w->spec.group;
    uint8_t q[SR_KC];
    for (int i = 0; i < n; i++) q[i] = (uint8_t)(code[i] - grid->lo);
    a->put_codes(w, row, k0, n, q);
    sr_plane_put(w, SR_INTEGER_SCALES, scale_at(w, row, group), grid->scale[0]);
    if (a->put_zero) a->put_zero(w, row, group, grid->mn[0]);
}

void sr_integer_middle(sr_weight *w) {
    const sr_integer *a = w->aux;
    for (int64_t row = 0; row < w->N && w->plane[SR_INTEGER_ZEROS].data; row++)
        for (int64_t g = 0, n = sr_integer_groups(w->K, &w->spec); g < n; g++)
            a->put_zero(w, row, g, 1 << (w->fmt->spec.bits - 1));
}

void sr_integer_sample(sr_weight *w, uint64_t seed) {
    uint8_t *kept[SR_MAX_PLANES];
    for (int p = SR_INTEGER_ZEROS; p < SR_MAX_PLANES; p++) kept[p] = w->plane[p].data, w->plane[p].data = NULL;
    sr_sample_planes(w, seed);
    for (int p = SR_INTEGER_ZEROS; p < SR_MAX_PLANES; p++) w->plane[p].data = kept[p];
}

void sr_integer_put_order(sr_weight *w, int plane) {
    for (int64_t k = 0; k < w->K; k++)
        sr_put_u32(w->plane[plane].data + 4 * (w->perm ? w->perm[k] : k), (uint32_t)(k / w->spec.group));
}
