/* Lanes (fmt/lanes.h) of 256 bits; for AVX2 and whatever has it. After target_avx2.h. */
#ifndef SR_CPU_LANES_AVX2_H
#define SR_CPU_LANES_AVX2_H

#include <immintrin.h>

#define LANES 8
typedef float lf __attribute__((vector_size(32)));
typedef int32_t li __attribute__((vector_size(32)));
static inline __attribute__((always_inline)) lf lf_select(li mask, lf a, lf b) {
    return (lf)_mm256_blendv_ps((__m256)b, (__m256)a, (__m256)mask);
}
/* The second operand where they are equal, as lanes.h has it. */
static inline __attribute__((always_inline)) lf lf_min(lf x, lf y) {
    return (lf)_mm256_min_ps((__m256)x, (__m256)y);
}
static inline __attribute__((always_inline)) lf lf_max(lf x, lf y) {
    return (lf)_mm256_max_ps((__m256)x, (__m256)y);
}
static inline __attribute__((always_inline)) lf lf_sqrt(lf x) {
    return (lf)_mm256_sqrt_ps((__m256)x);
}
static inline __attribute__((always_inline)) lf lf_lookup16(const float *v, li at) {
    const __m256 low = _mm256_permutevar8x32_ps(_mm256_loadu_ps(v), (__m256i)at);
    const __m256 high = _mm256_permutevar8x32_ps(_mm256_loadu_ps(v + 8), (__m256i)at);
    return (lf)_mm256_blendv_ps(low, high, (__m256)(at << 28));
}

#endif
