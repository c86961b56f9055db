/* Lanes: what the encoders compute in, a few floats side by side, each a group of weights (or a candidate for a group's
 * scale) of its own. No sum crosses lanes, so results do not depend on how many there are. The compiler's own vectors
 * serve any machine; an instruction set that has more of them (cpu/lanes_<isa>.h) defines the same names before
 * the *_write_kern.h bodies are included. */
#ifndef SR_FMT_LANES_H
#define SR_FMT_LANES_H

#include <stdint.h>
#include <string.h>

#pragma GCC diagnostic ignored "-Wpsabi" /* passing vectors: every use is static, so both sides agree */

#define L_INLINE static inline __attribute__((always_inline))

#ifndef LANES
#define LANES 4
typedef float lf __attribute__((vector_size(16)));
typedef int32_t li __attribute__((vector_size(16)));
/* a where the mask is set, b elsewhere. */
L_INLINE lf lf_select(li mask, lf a, lf b) {
    return (lf)((mask & (li)a) | (~mask & (li)b));
}
/* The smaller, the larger; y where they are equal. */
L_INLINE lf lf_min(lf x, lf y) {
    return lf_select(x < y, x, y);
}
L_INLINE lf lf_max(lf x, lf y) {
    return lf_select(x > y, x, y);
}
L_INLINE lf lf_sqrt(lf x) {
    return (lf){__builtin_sqrtf(x[0]), __builtin_sqrtf(x[1]), __builtin_sqrtf(x[2]), __builtin_sqrtf(x[3])};
}
/* v[at], 0 <= at < 16 */
L_INLINE lf lf_lookup16(const float *v, li at) {
    return (lf){v[at[0]], v[at[1]], v[at[2]], v[at[3]]};
}
#endif

L_INLINE lf lf_load(const float *p) {
    lf v;
    memcpy(&v, p, sizeof v);
    return v;
}
L_INLINE void lf_store(float *p, lf v) {
    memcpy(p, &v, sizeof v);
}
L_INLINE li lf_select_i(li mask, li a, li b) {
    return (li)lf_select(mask, (lf)a, (lf)b);
}
L_INLINE lf lf_set1(float x) {
    return x - (lf){0}; /* minus: -0 stays -0 */
}
L_INLINE li li_set1(int32_t x) {
    return x - (li){0};
}
/* To the nearest integer, halves to even, for |x| < 2^22. */
L_INLINE lf lf_round(lf x) {
    return x + 0x1.8p23f - 0x1.8p23f;
}
L_INLINE lf lf_clamp(lf x, lf lo, lf hi) {
    return lf_min(lf_max(x, lo), hi);
}
L_INLINE lf lf_floor(lf x) { /* |x| < 2^22 */
    lf r = lf_round(x);
    return r - lf_select(r > x, lf_set1(1), lf_set1(0));
}
L_INLINE lf lf_abs(lf x) {
    return (lf)((li)x & 0x7fffffff);
}
/* 1 / x, and 0 where x is not above `least`. */
L_INLINE lf lf_inverse(lf x, float least) {
    const li ok = x > least;
    return lf_select(ok, 1.0f / lf_select(ok, x, lf_set1(1)), lf_set1(0));
}
/* 0 .. LANES - 1 */
L_INLINE lf lf_count(void) {
    static const float n[8] = {0, 1, 2, 3, 4, 5, 6, 7};
    return lf_load(n);
}

/* x[group] of LANES groups that follow one another in memory. */
L_INLINE void lf_gather(const float *x, int group, lf *out) {
    for (int i = 0; i < group; i++) {
        float t[LANES];
        for (int c = 0; c < LANES; c++) t[c] = x[c * group + i];
        out[i] = lf_load(t);
    }
}
L_INLINE void lf_spread(const float *x, int n, lf *out) {
    for (int i = 0; i < n; i++) out[i] = lf_set1(x[i]);
}

#endif
