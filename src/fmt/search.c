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
    float low = x[0], high = x[0], top = (float)nmax;
    for (int i = 1; i < n; i++) {
        low = x[i] < low ? x[i] : low;
        high = x[i] > high ? x[i] : high;
    }
    if (bounded && low > 0) low = 0;
    *min = -low;
    *scale = 0;
    float range = high - low;
    if (!(range > SR_TINY)) return;

    /* y = x - low >= 0 is what the codes stand for; y ~ scale * q + offset. */
    float y[MAX_N], s_w = 0, s_y = 0, s_yy = 0;
    for (int i = 0; i < n; i++) {
        y[i] = x[i] - low;
        s_w += weight[i];
        s_y += weight[i] * y[i];
        s_yy += weight[i] * y[i] * y[i];
    }
    float best = s_yy, inverse[LANES];
    *scale = range / top;
    if (!(s_yy > 0)) return; /* no weights: the plain grid */
    for (int chunk = 0; chunk < chunks; chunk++) {
        sums s;
        for (int c = 0; c < LANES; c++) inverse[c] = (top + first + step * (float)(LANES * chunk + c)) / range;
        sum_codes(y, weight, n, inverse, 0, top, &s);
        for (int c = 0; c < LANES; c++) {
            /* Least squares for both; the error follows from the normal equations. */
            float det = s_w * s.qq[c] - s.q[c] * s.q[c];
            if (!(det > 0)) continue;
            float a = (s_w * s.xq[c] - s_y * s.q[c]) / det, b = (s.qq[c] * s_y - s.q[c] * s.xq[c]) / det;
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

float sr_search_symmetric(const float *x, const float *weight, int n, int nmax) {
    float amax = 0, max = 0;
    for (int i = 0; i < n; i++)
        if (fabsf(x[i]) > amax) {
            amax = fabsf(x[i]);
            max = x[i];
        }
    if (!(amax > SR_TINY)) return 0;
    float best = 0, scale = -max / (float)nmax, inverse[LANES];
    for (int chunk = 0; chunk < 3; chunk++) {
        sums s;
        for (int c = 0; c < LANES; c++) inverse[c] = -((float)nmax + 0.1f * (float)(LANES * chunk + c - 11)) / max;
        sum_codes(x, weight, n, inverse, -(float)nmax, (float)(nmax - 1), &s);
        for (int c = 0; c < LANES; c++)
            if (s.qq[c] > 0 && s.xq[c] * s.xq[c] > best * s.qq[c]) {
                scale = s.xq[c] / s.qq[c];
                best = scale * s.xq[c];
            }
    }
    return scale;
}

float sr_search_positive(const float *x, const float *weight, int n, int nmax) {
    float max = 0;
    for (int i = 0; i < n; i++) max = x[i] > max ? x[i] : max;
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
