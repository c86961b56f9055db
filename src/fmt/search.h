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

/* Ranges below this are zero: their f16 scale is, and the arithmetic stays clear of overflow and of 0 / 0. */
#define SR_TINY 1e-20f

/* x ~ scale * q - min, 0 <= q <= nmax, n <= 32. Tries the scales range / (nmax + first + i * step) for i < 8 * chunks,
 * solves for scale and min given the codes, and keeps the least weighted squared error. With `bounded` min >= 0.
 * After ggml's make_qkx2_quants and make_qkx3_quants. */
void sr_search_affine(const float *x, const float *weight, int n, int nmax, float first, float step, int chunks,
                      bool bounded, float *scale, float *min);

/* x ~ scale * q, -nmax <= q < nmax, n <= 32: the scale, negative where the largest magnitude is positive (it gets the
 * code -nmax). 24 candidates around it, then least squares. After make_qx_quants. */
float sr_search_symmetric(const float *x, const float *weight, int n, int nmax);

/* x ~ scale * q, 0 <= x, 0 <= q <= nmax, n <= 32: the scale. After make_qp_quants. */
float sr_search_positive(const float *x, const float *weight, int n, int nmax);

#endif
