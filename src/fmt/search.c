#include "fmt/search.h"

#include <math.h>

enum { LANES = 8, MAX_N = 32 };

/* Per candidate c: sums of weight * q, weight * q^2 and weight * x * q with q = nearest(x * inverse[c]) in lo..hi. */
typedef struct sums {
    float q[LANES], qq[LANES], xq[LANES];
} sums;

static void sum_codes(const float *x, const float *weight, int n, const float *inverse, float lo, float hi, sums *s) {
    float q1[LANES] = {0}, q2[LANES] = {0}, xq[LANES] = {0};
    for (int i = 0; i < n; i++)
        for (int c = 0; c < LANES; c++) {
            float q = sr_nearest(sr_clamp(x[i] * inverse[c], lo, hi)), wq = weight[i] * q;
            q1[c] += wq;
            q2[c] += wq * q;
            xq[c] += wq * x[i];
        }
    for (int c = 0; c < LANES; c++) {
        s->q[c] = q1[c];
        s->qq[c] = q2[c];
        s->xq[c] = xq[c];
    }
}

void sr_search_affine(const float *x, const float *weight, int n, int nmax, float first, float step, int chunks,
                      bool bounded, float *scale, float *min) {
    float low, high, top = (float)nmax;
    sr_range(x, n, &low, &high);
    if (bounded && low > 0) low = 0;
    *min = -low;
    *scale = 0;
    if (!(high - low > SR_TINY)) return;
    *scale = (high - low) / top;
    float y[MAX_N], inverse[LANES], best = INFINITY;
    for (int chunk = 0; chunk < chunks; chunk++) {
        /* y = x - low is what the codes stand for, y ~ a * q + b. Each chunk starts from the min found so far. */
        float s_w = 0, s_y = 0, s_yy = 0;
        sums s;
        low = -*min;
        for (int i = 0; i < n; i++) {
            y[i] = x[i] - low;
            s_w += weight[i];
            s_y += weight[i] * y[i];
            s_yy += weight[i] * y[i] * y[i];
        }
        if (!(s_yy > 0) || !(high - low > SR_TINY)) return; /* no weights, or absurd ones: what is found so far */
        for (int c = 0; c < LANES; c++) inverse[c] = (top + first + step * (float)(LANES * chunk + c)) / (high - low);
        sum_codes(y, weight, n, inverse, 0, top, &s);
        for (int c = 0; c < LANES; c++) {
            /* Least squares for both; the error follows from the normal equations. */
            float det = s_w * s.qq[c] - s.q[c] * s.q[c], a, b;
            if (!(s.qq[c] > 0)) continue;
            if (det > 1e-5f * s_w * s.qq[c]) {
                a = (s_w * s.xq[c] - s_y * s.q[c]) / det;
                b = (s.qq[c] * s_y - s.q[c] * s.xq[c]) / det;
            } else { /* all codes alike, rounding aside: only the scale is determined */
                a = s.xq[c] / s.qq[c];
                b = 0;
            }
            float error = s_yy - a * s.xq[c] - b * s_y;
            if (bounded && low + b > 0) {
                /* min at its bound 0: x = y + low ~ a * q. */
                float xq = s.xq[c] + low * s.q[c];
                b = -low;
                a = xq / s.qq[c];
                error = s_yy + low * (2 * s_y + low * s_w) - a * xq;
            }
            if (a > 0 && error < best) {
                best = error;
                *scale = a;
                *min = -(low + b);
            }
        }
    }
}

void sr_refine_affine(const float *x, const float *weight, int n, int nmax, float d, float dmin, int top, float scale,
                      float min, int *sc, int *mn) {
    float s_w = 0, s_x = 0, try_sc[LANES], try_mn[LANES], a[LANES], m[LANES], inverse[LANES], error[LANES] = {0};
    *sc = *mn = 0;
    float last = (float)top, down = dmin > 0 ? 1 / dmin : 0;
    for (int i = 0; i < n; i++) {
        s_w += weight[i];
        s_x += weight[i] * x[i];
    }
    float mean = s_w > 0 ? s_x / s_w : 0, code = scale > 0 ? (mean + min) / scale : 0;
    for (int c = 0; c < LANES; c++) {
        try_sc[c] = sr_clamp(d > 0 ? floorf(scale / d) + (float)(c / 2 - 1) : 0, 0, last);
        a[c] = d * try_sc[c];
        inverse[c] = a[c] > 0 ? 1 / a[c] : 0;
        try_mn[c] = sr_clamp(floorf((a[c] * code - mean) * down) + (float)(c % 2), 0, last);
        m[c] = dmin * try_mn[c];
    }
    for (int i = 0; i < n; i++)
        for (int c = 0; c < LANES; c++) {
            float q = sr_nearest(sr_clamp((x[i] + m[c]) * inverse[c], 0, (float)nmax)), e = a[c] * q - m[c] - x[i];
            error[c] += weight[i] * e * e;
        }
    int best = 2; /* the floors: what is left where no weight counts */
    for (int c = 0; c < LANES; c++) best = error[c] < error[best] ? c : best;
    *sc = (int)try_sc[best];
    *mn = (int)try_mn[best];
}

float sr_search_symmetric(const float *x, const float *weight, int n, int nmax) {
    float max = sr_largest(x, n);
    if (!(fabsf(max) > SR_TINY)) return 0;
    float best = 0, scale = -max / (float)nmax, inverse[LANES];
    for (int chunk = 0; chunk < 2; chunk++) {
        sums s;
        for (int c = 0; c < LANES; c++) inverse[c] = -((float)nmax + 0.1f * (float)(LANES * chunk + c - 7)) / max;
        sum_codes(x, weight, n, inverse, -(float)nmax, (float)(nmax - 1), &s);
        for (int c = 0; c < LANES; c++)
            if (s.qq[c] > 0 && s.xq[c] * s.xq[c] > best * s.qq[c]) {
                scale = s.xq[c] / s.qq[c];
                best = scale * s.xq[c];
            }
    }
    return scale;
}

int sr_refine_symmetric(const float *x, const float *weight, int n, int nmax, float d, int lo, int hi, float scale) {
    float sc[LANES], a[LANES], inverse[LANES], error[LANES] = {0};
    if (d == 0) return 0;
    float base = floorf(scale / d) - 3;
    for (int c = 0; c < LANES; c++) {
        sc[c] = sr_clamp(base + (float)c, (float)lo, (float)hi);
        a[c] = d * sc[c];
        inverse[c] = a[c] != 0 ? 1 / a[c] : 0;
    }
    for (int i = 0; i < n; i++)
        for (int c = 0; c < LANES; c++) {
            float q = sr_nearest(sr_clamp(x[i] * inverse[c], -(float)nmax, (float)(nmax - 1))), e = a[c] * q - x[i];
            error[c] += weight[i] * e * e;
        }
    int best = 3;
    for (int c = 0; c < LANES; c++) best = error[c] < error[best] ? c : best;
    return (int)sc[best];
}

float sr_search_positive(const float *x, const float *weight, int n, int nmax) {
    float low, max;
    sr_range(x, n, &low, &max);
    if (!(max > SR_TINY)) return 0;
    float best = 0, scale = max / (float)nmax, inverse[LANES];
    for (int chunk = 0; chunk < 2; chunk++) {
        sums s;
        for (int c = 0; c < LANES; c++) inverse[c] = ((float)nmax + 0.1f * (float)(LANES * chunk + c - 8)) / max;
        sum_codes(x, weight, n, inverse, 0, (float)nmax, &s);
        for (int c = 0; c < LANES; c++)
            if (s.qq[c] > 0 && s.xq[c] * s.xq[c] > best * s.qq[c]) {
                scale = s.xq[c] / s.qq[c];
                best = scale * s.xq[c];
            }
    }
    return scale;
}
