/* Searches for scales, private to fmt/: which scale (and min) lets integer codes come closest to some weights. The sums
 * run over eight candidates side by side, so that a compiler can keep a candidate a vector lane; each candidate's own
 * sum is in the order of the elements, and results do not depend on the vector length. Nothing is allocated.
 *
 * x must be finite (sr_weight_finite), weights finite and not negative. */
#ifndef SR_FMT_SEARCH_H
#define SR_FMT_SEARCH_H

#include <stdbool.h>

/* To the nearest integer, halves to even, for |x| < 2^22: what cvtps2dq and fcvtns do. */
static inline float sr_nearest(float x) {
    return x + 0x1.8p23f - 0x1.8p23f;
}
static inline float sr_clamp(float x, float lo, float hi) {
    x = x > lo ? x : lo;
    return x < hi ? x : hi;
}

/* Smallest and largest of x[n], n a multiple of 8. */
static inline void sr_range(const float *x, int n, float *low, float *high) {
    float a[8], b[8];
    for (int c = 0; c < 8; c++) a[c] = b[c] = x[c];
    for (int i = 8; i < n; i += 8)
        for (int c = 0; c < 8; c++) {
            a[c] = x[i + c] < a[c] ? x[i + c] : a[c];
            b[c] = x[i + c] > b[c] ? x[i + c] : b[c];
        }
    for (int c = 1; c < 8; c++) {
        a[0] = a[c] < a[0] ? a[c] : a[0];
        b[0] = b[c] > b[0] ? b[c] : b[0];
    }
    *low = a[0];
    *high = b[0];
}

/* The element of the largest magnitude with its sign, the first of equals. */
static inline float sr_largest(const float *x, int n) {
    float low, high;
    sr_range(x, n, &low, &high);
    if (high != -low) return high > -low ? high : low;
    for (int i = 0; i < n; i++)
        if (x[i] == high || x[i] == low) return x[i];
    return 0; /* not reached: x is finite */
}

/* Ranges below this are zero: their f16 scale is, and the arithmetic stays clear of overflow and of 0 / 0. */
#define SR_TINY 1e-20f

/* x ~ scale * q - min, 0 <= q <= nmax, n <= 32 and a multiple of 8. Tries the scales range / (nmax + first + i * step)
 * for i < 8 * chunks, solves for scale and min given the codes, and keeps the least weighted squared error; each
 * eight start from the min found before them. With `bounded` min >= 0. After ggml's make_qkx2_quants and
 * make_qkx3_quants. */
void sr_search_affine(const float *x, const float *weight, int n, int nmax, float first, float step, int chunks,
                      bool bounded, float *scale, float *min);

/* After sr_search_affine and once the block's factors are known: the integers sc and mn, 0..top, for which
 * x ~ d * sc * q - dmin * mn has the least weighted squared error, among the eight around (scale, min) that keep the
 * weighted mean of x where the search had put it. */
void sr_refine_affine(const float *x, const float *weight, int n, int nmax, float d, float dmin, int top, float scale,
                      float min, int *sc, int *mn);

/* x ~ scale * q, -nmax <= q < nmax, n as above: the scale, negative where the largest magnitude is positive (it gets
 * the code -nmax). 16 candidates around it, then least squares. After make_qx_quants. */
float sr_search_symmetric(const float *x, const float *weight, int n, int nmax);

/* After sr_search_symmetric and once the block's factor is known: the integer sc, lo..hi, among the eight nearest to
 * scale / d for which x ~ d * sc * q has the least weighted squared error. */
int sr_refine_symmetric(const float *x, const float *weight, int n, int nmax, float d, int lo, int hi, float scale);

/* x ~ scale * q, 0 <= x, 0 <= q <= nmax, n as above: the scale. After make_qp_quants. */
float sr_search_positive(const float *x, const float *weight, int n, int nmax);

#endif
