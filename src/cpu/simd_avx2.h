/* The vocabulary with AVX2, FMA and F16C: what simd_x86.h leaves open. */
#ifndef SR_CPU_SIMD_AVX2_H
#define SR_CPU_SIMD_AVX2_H

#include "cpu/simd_x86.h"

/* a + sums of neighbours s * t */
V_INLINE vi vi_madd_add(vi a, vs s, vs t) {
    return _mm256_add_epi32(a, _mm256_madd_epi16(s, t));
}
/* a + scale * (u * x); u is unsigned and at most 63, scale has one number in all places of a half. */
V_INLINE vi vi_dot_scaled(vi a, vb u, vb x, vs scale) {
    return vi_madd_add(a, vs_dot_u6(u, x), scale);
}
/* a + sums of four neighbours u * x; u is unsigned and at most 63. */
V_INLINE vi vi_dot_u6(vi a, vb u, vb x) {
    return vi_madd_add(a, _mm256_maddubs_epi16(u, x), _mm256_set1_epi16(1));
}
/* The same wherever the sums of two neighbours stay in int16. */
V_INLINE vi vi_dot(vi a, vb u, vb x) {
    return vi_dot_u6(a, u, x);
}
/* Sums of four u * x and four v * y. */
V_INLINE vi vi_dot_two_u6(vb u, vb x, vb v, vb y) {
    __m256i both = _mm256_add_epi16(_mm256_maddubs_epi16(u, x), _mm256_maddubs_epi16(v, y));
    return _mm256_madd_epi16(both, _mm256_set1_epi16(1));
}
/* Sums of four w * x, all signed, in lanes of any order. The pair sums of maddubs could leave int16: widened first. */
V_INLINE vi vi_dot_i8(vb w, vb x) {
    __m256i w0 = _mm256_cvtepi8_epi16(_mm256_castsi256_si128(w)), x0 = _mm256_cvtepi8_epi16(_mm256_castsi256_si128(x));
    __m256i w1 = _mm256_cvtepi8_epi16(_mm256_extracti128_si256(w, 1));
    __m256i x1 = _mm256_cvtepi8_epi16(_mm256_extracti128_si256(x, 1));
    return vi_madd_add(_mm256_madd_epi16(w0, x0), w1, x1);
}
V_INLINE vb vb_or(vb a, vb b) {
    return _mm256_or_si256(a, b);
}
/* a | (b & mask) */
V_INLINE vb vb_or_and(vb a, vb b, vb mask) {
    return _mm256_or_si256(a, _mm256_and_si256(b, mask));
}
/* Bit i of the 32 bits at p: `value` in byte i, else 0. */
V_INLINE vb vb_bits(const uint8_t *p, const int value) {
    const __m256i byte = _mm256_set_epi64x(0x0303030303030303, 0x0202020202020202, 0x0101010101010101, 0);
    const __m256i bit = _mm256_set1_epi64x((long long)0x8040201008040201);
    int32_t bits;
    memcpy(&bits, p, 4);
    __m256i v = _mm256_and_si256(_mm256_shuffle_epi8(_mm256_set1_epi32(bits), byte), bit);
    return _mm256_and_si256(_mm256_cmpeq_epi8(v, bit), _mm256_set1_epi8((char)value));
}

#endif
