/* The vocabulary with AVX-512 VL, BW and VNNI on 256-bit vectors: what simd_x86.h leaves open. */
#ifndef SR_CPU_SIMD_AVX512_H
#define SR_CPU_SIMD_AVX512_H

#include "cpu/simd_x86.h"

/* a + sums of neighbours s * t */
V_INLINE vi vi_madd_add(vi a, vs s, vs t) {
    return _mm256_dpwssd_epi32(a, s, t);
}
/* a + sums of four neighbours u * x; u is unsigned and at most 63. */
V_INLINE vi vi_dot_u6(vi a, vb u, vb x) {
    return _mm256_dpbusd_epi32(a, u, x);
}
/* Sums of four u * x and four v * y. */
V_INLINE vi vi_dot_two_u6(vb u, vb x, vb v, vb y) {
    return _mm256_dpbusd_epi32(_mm256_dpbusd_epi32(_mm256_setzero_si256(), u, x), v, y);
}
/* Sums of four w * x, all signed, in lanes of any order. The sign moves to x, which is never -128. */
V_INLINE vi vi_dot_i8(vb w, vb x) {
    return _mm256_dpbusd_epi32(_mm256_setzero_si256(), _mm256_abs_epi8(w), _mm256_sign_epi8(x, w));
}
V_INLINE vb vb_or(vb a, vb b) {
    return _mm256_or_si256(a, b);
}
/* a | (b & mask) */
V_INLINE vb vb_or_and(vb a, vb b, vb mask) {
    return _mm256_ternarylogic_epi32(a, b, mask, 0xf8);
}
/* Bit i of the 32 bits at p: `value` in byte i, else 0. */
V_INLINE vb vb_bits(const uint8_t *p, const int value) {
    uint32_t bits;
    memcpy(&bits, p, 4);
    return _mm256_maskz_set1_epi8(bits, (char)value);
}

#endif
