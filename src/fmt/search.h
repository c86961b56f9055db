/* Small things that the encoders share, private to fmt/. The searches for scales are in search_kern.h. */
#ifndef SR_FMT_SEARCH_H
#define SR_FMT_SEARCH_H

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

#endif
