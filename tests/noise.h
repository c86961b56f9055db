/* Deterministic random numbers for tests and benches (xorshift64*). */
#ifndef TESTS_NOISE_H
#define TESTS_NOISE_H

#include <math.h>
#include <stdint.h>

typedef struct noise {
    uint64_t state; /* not 0 */
} noise;

static inline uint64_t noise_u64(noise *r) {
    r->state ^= r->state >> 12;
    r->state ^= r->state << 25;
    r->state ^= r->state >> 27;
    return r->state * 0x2545f4914f6cdd1dull;
}
/* 0 <= i < n */
static inline int noise_below(noise *r, int n) {
    return (int)((noise_u64(r) >> 32) * (uint64_t)n >> 32);
}
/* Strictly between 0 and 1. */
static inline double noise_uniform(noise *r) {
    return ((double)(noise_u64(r) >> 11) + 0.5) * 0x1p-53;
}
static inline float noise_normal(noise *r) {
    double a = noise_uniform(r), b = noise_uniform(r);
    return (float)(sqrt(-2 * log(a)) * cos(6.283185307179586 * b));
}
/* Variance 1. */
static inline float noise_laplace(noise *r) {
    double u = noise_uniform(r) - 0.5;
    return (float)((u < 0 ? 1 : -1) * log(1 - 2 * fabs(u)) * 0.7071067811865476);
}

#endif
