#include "fmt/shrink.h"

#include <math.h>

#include "fmt/fp8_bits.h"
#include "fmt/search.h"

void sr_fit_range(const sr_fit *in, float *low, float *high) {
    *low = *high = sr_weight_finite(in->x[0]);
    for (int i = 1; i < in->n; i++) {
        float v = sr_weight_finite(in->x[i]);
        *low = v < *low ? v : *low;
        *high = v > *high ? v : *high;
    }
}

float sr_fit_most(const sr_fit *in) {
    float low, high;
    sr_fit_range(in, &low, &high);
    return high > -low ? high : -low;
}

void sr_fit_sums(const sr_fit *in, float *sum_w, float *sum_wx) {
    *sum_w = *sum_wx = 0;
    for (int i = 0; i < in->n; i++) {
        float w = sr_importance(in->importance[i]);
        *sum_w += w;
        *sum_wx += w * sr_weight_finite(in->x[i]);
    }
}

bool sr_fit_weighs(const sr_fit *in) {
    for (int i = 0; in->importance && i < in->n; i++)
        if (sr_importance(in->importance[i]) > 0) return true;
    return false;
}

float sr_fit_error(const sr_fit *in, const sr_grid *grid) {
    const int piece = SR_KC / in->w->fmt->block * in->w->fmt->block;
    float error = 0, back[SR_KC];
    int8_t code[SR_KC];
    for (int i = 0; i < in->n; i += piece) {
        const int m = in->n - i < piece ? in->n - i : piece;
        in->w->fmt->snap(grid, i, m, in->x + i, code, back);
        for (int j = 0; j < m; j++) {
            float e = back[j] - sr_weight_finite(in->x[i + j]);
            error += sr_importance(in->importance[i + j]) * e * e;
        }
    }
    return error;
}

void sr_try_affine(const sr_fit *in, float top, sr_tries *t) {
    float inverse[SR_TRIES], scale[SR_TRIES], min[SR_TRIES];
    float error[SR_TRIES] = {0}, sq[SR_TRIES] = {0}, sqq[SR_TRIES] = {0}, sxq[SR_TRIES] = {0};
    for (int c = 0; c < SR_TRIES; c++) {
        scale[c] = t->scale[c];
        min[c] = t->min[c];
        inverse[c] = fabsf(scale[c]) > SR_TINY ? 1 / scale[c] : 0;
    }
    for (int i = 0; i < in->n; i++) {
        const float x = sr_weight_finite(in->x[i]), w = sr_importance(in->importance[i]);
        for (int c = 0; c < SR_TRIES; c++) {
            float q = sr_nearest(sr_clamp((x + min[c]) * inverse[c], 0, top)), e = scale[c] * q - min[c] - x;
            float wq = w * q;
            error[c] += w * e * e;
            sq[c] += wq;
            sqq[c] += wq * q;
            sxq[c] += wq * x;
        }
    }
    for (int c = 0; c < SR_TRIES; c++) {
        t->error[c] = error[c];
        t->q[c] = sq[c];
        t->qq[c] = sqq[c];
        t->xq[c] = sxq[c];
    }
}

void sr_shrink_affine(const sr_fit *in, float top, void (*storable)(const sr_weight *w, float *scale, float *min),
                      float *scale, float *min) {
    float low, high, sum_w, sum_wx, best = INFINITY;
    sr_tries t;
    sr_fit_range(in, &low, &high);
    sr_fit_sums(in, &sum_w, &sum_wx);
    for (int pass = 0; pass < 4; pass++) {
        const float a = *scale, b = *min;
        for (int c = 0; c < SR_TRIES; c++) {
            float s = a, m = b;
            if (pass == 0 && c > 0) { /* both ends of the range move inwards */
                float by = 0.04f * (float)(c - 1) * (high - low);
                m = -(low + by);
                s = (high - low - 2 * by) / top;
            } else if (pass == 2) { /* scales around, the middle of the range where it was */
                s = a * (1 + 0.02f * ((float)c - 3.5f));
                m = b - (a - s) * top / 2;
            } else if (pass % 2) { /* least squares with the codes that they had */
                float det = sum_w * t.qq[c] - t.q[c] * t.q[c];
                bool two = det > 1e-5f * sum_w * t.qq[c];
                s = two ? (sum_w * t.xq[c] - sum_wx * t.q[c]) / det : t.scale[c];
                m = two ? (sum_wx * -t.qq[c] + t.q[c] * t.xq[c]) / det : t.min[c];
            }
            if (pass || c) storable(in->w, &s, &m);
            t.scale[c] = s;
            t.min[c] = m;
        }
        sr_try_affine(in, top, &t);
        for (int c = 0; c < SR_TRIES; c++)
            if (t.error[c] < best) best = t.error[c], *scale = t.scale[c], *min = t.min[c];
    }
}

/* ---------------------------------------------------------------- elements that are floats */

void sr_fit_byte(const sr_fit *in, sr_grid *grid, int byte, int least, int most, int around,
                 float (*scale)(const sr_weight *w, int byte)) {
    byte = byte < least ? least : byte > most ? most : byte;
    grid->n = grid->group = in->n;
    grid->sc[0] = (uint8_t)byte;
    grid->scale[0] = scale(in->w, byte);
    if (!sr_fit_weighs(in)) return;
    sr_grid other = *grid;
    float error = sr_fit_error(in, grid);
    for (int b = byte - around; b <= byte + around; b++) {
        if (b == byte || b < least || b > most) continue;
        other.sc[0] = (uint8_t)b;
        other.scale[0] = scale(in->w, b);
        float e = sr_fit_error(in, &other);
        if (e < error) error = e, *grid = other;
    }
}

int sr_e8m0_of(float amax, int power, int mantissa) {
    return (int)((sr_bits_from_f32(amax) + (1u << (22 - mantissa))) >> 23) - power;
}

/* Scales that are 0 come from groups too small for any. */
static inline float element(float w, float scale, float most) {
    return scale != 0 ? sr_clamp(sr_weight_finite(w) / scale, -most, most) : 0;
}
void sr_snap_e2m1(const sr_grid *grid, int i0, int n, const float *w, int8_t *code, float *back) {
    for (int i = 0; i < n; i++) {
        const float scale = grid->scale[(i0 + i) / grid->group];
        uint8_t q = sr_f32_to_e2(element(w[i], scale, 6), 1);
        code[i] = (int8_t)q;
        back[i] = scale * (0.5f * (float)sr_e2m1_twice[q]);
    }
}
void sr_snap_e2m3(const sr_grid *grid, int i0, int n, const float *w, int8_t *code, float *back) {
    (void)i0;
    for (int i = 0; i < n; i++) {
        uint8_t q = sr_f32_to_e2(element(w[i], grid->scale[0], 7.5f), 3);
        code[i] = (int8_t)q;
        back[i] = grid->scale[0] * (0.125f * (float)sr_e2m3_eightfold(q));
    }
}
void sr_snap_e4m3(const sr_grid *grid, int i0, int n, const float *w, int8_t *code, float *back) {
    (void)i0;
    for (int i = 0; i < n; i++) {
        uint8_t q = sr_f32_to_e4m3(element(w[i], grid->scale[0], 448));
        code[i] = (int8_t)q;
        back[i] = sr_e4m3_to_f32(q) * grid->scale[0];
    }
}
