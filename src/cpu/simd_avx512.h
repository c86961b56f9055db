/* The vocabulary with AVX-512 VL, BW and VNNI on 256-bit vectors: what simd_x86.h leaves open. */
#ifndef SR_CPU_SIMD_AVX512_H
#define SR_CPU_SIMD_AVX512_H

#include "cpu/simd_x86.h"

/* a + sums of neighbours s * t */
V_INLINE vi vi_madd_add(vi a, vs s, vs t) {
    return _mm256_dpwssd_epi32(a, s, t);
}
/* a + scale * (u * x); u is unsigned and at most 63, scale has one number in all places of a half. */
V_INLINE vi vi_dot_scaled(vi a, vb u, vb x, vs scale) {
    return vi_madd_add(a, vs_dot_u6(u, x), scale);
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

/* ---- the wider part, for coarse panels: coarse_kern.h says what each is ---- */

#define V_WIDE_TABLES
V_INLINE __m512i vb_two(vb a, vb b) {
    return _mm512_inserti64x4(_mm512_castsi256_si512(a), b, 1);
}
#define V_FOLD(op, bits, a, b) _mm512_##op##_epu8(_mm512_unpacklo_epi##bits(a, b), _mm512_unpackhi_epi##bits(a, b))
/* Quarters 0 and 1 are of the even vectors, 2 and 3 of the odd ones. */
#define V_REDUCE(name, op)                                                                                             \
    V_INLINE vf name(vb8 v) {                                                                                          \
        const __m512i a = vb_two(v.c0, v.c1), b = vb_two(v.c2, v.c3), c = vb_two(v.c4, v.c5), d = vb_two(v.c6, v.c7);  \
        const __m512i ab = V_FOLD(op, 8, a, b), cd = V_FOLD(op, 8, c, d);                                              \
        __m512i m = V_FOLD(op, 16, ab, cd);                                                                            \
        m = _mm512_##op##_epu8(m, _mm512_shuffle_epi32(m, 0x4e));                                                      \
        m = _mm512_##op##_epu8(m, _mm512_shuffle_epi32(m, 0xb1));                                                      \
        m = _mm512_##op##_epu8(m, _mm512_shuffle_i32x4(m, m, 0xb1));                                                   \
        return _mm256_cvtepi32_ps(                                                                                     \
            _mm256_cvtepu8_epi32(_mm_unpacklo_epi8(_mm512_castsi512_si128(m), _mm512_extracti32x4_epi32(m, 2))));      \
    }
V_REDUCE(vb8_most, max)
V_REDUCE(vb8_least_byte, min)
V_INLINE vf vb8_least(vb8 v, const int top) {
    (void)top;
    return vb8_least_byte(v);
}
V_INLINE __m512i v_table(__m512 numbers, float s, float lo, __m512 by) {
    return _mm512_cvtps_epi32(
        _mm512_mul_ps(_mm512_sub_ps(_mm512_mul_ps(_mm512_set1_ps(s), numbers), _mm512_set1_ps(lo)), by));
}
V_INLINE void map_codes(vb8 q, const float *numbers, const float *s, const float *lo, float by, int8_t *code) {
    const __m512i c[4] = {vb_two(q.c0, q.c1), vb_two(q.c2, q.c3), vb_two(q.c4, q.c5), vb_two(q.c6, q.c7)};
    const __m512i order = _mm512_set_epi32(15, 11, 7, 3, 14, 10, 6, 2, 13, 9, 5, 1, 12, 8, 4, 0);
    const __m512 n = _mm512_loadu_ps(numbers), mul = _mm512_set1_ps(by);
#pragma GCC unroll 2
    for (int i = 0; i < 8; i += 4) { /* each quarter of `four` is a table */
        const __m512i low = _mm512_packs_epi32(v_table(n, s[i], lo[i], mul), v_table(n, s[i + 1], lo[i + 1], mul));
        const __m512i high =
            _mm512_packs_epi32(v_table(n, s[i + 2], lo[i + 2], mul), v_table(n, s[i + 3], lo[i + 3], mul));
        const __m512i four = _mm512_permutexvar_epi32(order, _mm512_packs_epi16(low, high));
        _mm512_storeu_si512(code + 32 * i, _mm512_shuffle_epi8(_mm512_shuffle_i32x4(four, four, 0x50), c[i / 2]));
        _mm512_storeu_si512(code + 32 * i + 64,
                            _mm512_shuffle_epi8(_mm512_shuffle_i32x4(four, four, 0xfa), c[i / 2 + 1]));
    }
}

/* ---- the wider part, for attention: 16 f32, or as many lanes of int32 or of four bytes ---- */

#define VW 16
typedef __m512 vw;
V_INLINE vw vw_load(const float *p) {
    return _mm512_loadu_ps(p);
}
V_INLINE void vw_store(float *p, vw v) {
    _mm512_storeu_ps(p, v);
}
V_INLINE vw vw_set1(float x) {
    return _mm512_set1_ps(x);
}
V_INLINE vw vw_add(vw a, vw b) {
    return _mm512_add_ps(a, b);
}
V_INLINE vw vw_sub(vw a, vw b) {
    return _mm512_sub_ps(a, b);
}
V_INLINE vw vw_mul(vw a, vw b) {
    return _mm512_mul_ps(a, b);
}
V_INLINE vw vw_fma(vw a, vw b, vw c) {
    return _mm512_fmadd_ps(a, b, c);
}
V_INLINE vw vw_max(vw a, vw b) {
    return _mm512_max_ps(a, b);
}
V_INLINE vw vw_min(vw a, vw b) {
    return _mm512_min_ps(a, b);
}
V_INLINE vw vw_round(vw v) {
    return _mm512_roundscale_ps(v, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
}
V_INLINE vw vw_pow2(vw n) {
    return _mm512_scalef_ps(_mm512_set1_ps(1), n);
}
V_INLINE float vw_sum(vw v) {
    return vf_sum(_mm256_add_ps(_mm512_castps512_ps256(v), _mm512_extractf32x8_ps(v, 1)));
}
V_INLINE float vw_reduce_max(vw v) {
    return vf_reduce_max(_mm256_max_ps(_mm512_castps512_ps256(v), _mm512_extractf32x8_ps(v, 1)));
}
V_INLINE vw vw_from_f16(const uint16_t *p) {
    return _mm512_cvtph_ps(_mm256_loadu_si256((const void *)p));
}
typedef __m512i wi;
V_INLINE wi wi_load(const void *p) {
    return _mm512_loadu_si512(p);
}
V_INLINE wi wi_set1(int x) {
    return _mm512_set1_epi32(x);
}
V_INLINE wi wi_four(const void *p) {
    int32_t v;
    memcpy(&v, p, 4);
    return _mm512_set1_epi32(v);
}
V_INLINE wi wi_add(wi a, wi b) {
    return _mm512_add_epi32(a, b);
}
V_INLINE wi wi_sub(wi a, wi b) {
    return _mm512_sub_epi32(a, b);
}
V_INLINE wi wi_shift(wi a, const int n) {
    return _mm512_slli_epi32(a, (unsigned)n);
}
V_INLINE wi wi_right(wi a, const int n) {
    return _mm512_srai_epi32(a, (unsigned)n);
}
V_INLINE wi wi_low4(wi a) {
    return _mm512_and_si512(a, _mm512_set1_epi8(15));
}
V_INLINE wi wi_high4(wi a) {
    return _mm512_and_si512(_mm512_srli_epi16(a, 4), _mm512_set1_epi8(15));
}
/* In words of our own: gcc 12 copies sums that a loop carries, twice a turn. */
V_INLINE wi wi_dot(wi a, wi u, wi x) {
    __asm__("vpdpbusd %2, %1, %0" : "+v"(a) : "v"(u), "v"(x));
    return a;
}
V_INLINE void wi_store_bytes(uint8_t *p, wi a) {
    _mm_storeu_si128((__m128i *)(void *)p, _mm512_cvtepi32_epi8(a));
}
V_INLINE wi wi_nearest(vw v) {
    return _mm512_cvtps_epi32(v);
}
V_INLINE vw vw_from_i32(wi v) {
    return _mm512_cvtepi32_ps(v);
}
/* Lane j of r[i] becomes lane i of r[j]. */
V_INLINE void vw_transpose(vw r[16]) {
    __m512 t[16], u[16];
#pragma GCC unroll 8
    for (int i = 0; i < 16; i += 2) {
        t[i] = _mm512_unpacklo_ps(r[i], r[i + 1]);
        t[i + 1] = _mm512_unpackhi_ps(r[i], r[i + 1]);
    }
#pragma GCC unroll 4
    for (int i = 0; i < 16; i += 4) {
        const __m512d a = _mm512_castps_pd(t[i]), b = _mm512_castps_pd(t[i + 1]), c = _mm512_castps_pd(t[i + 2]),
                      d = _mm512_castps_pd(t[i + 3]);
        u[i] = _mm512_castpd_ps(_mm512_unpacklo_pd(a, c)), u[i + 1] = _mm512_castpd_ps(_mm512_unpackhi_pd(a, c));
        u[i + 2] = _mm512_castpd_ps(_mm512_unpacklo_pd(b, d)), u[i + 3] = _mm512_castpd_ps(_mm512_unpackhi_pd(b, d));
    }
#pragma GCC unroll 4
    for (int i = 0; i < 4; i++) { /* 128-bit lane l of u[4 n + i] has lanes 4 n .. 4 n + 3 of what is r[4 l + i] */
        const __m512 even0 = _mm512_shuffle_f32x4(u[i], u[4 + i], 0x88),
                     odd0 = _mm512_shuffle_f32x4(u[i], u[4 + i], 0xdd),
                     even1 = _mm512_shuffle_f32x4(u[8 + i], u[12 + i], 0x88),
                     odd1 = _mm512_shuffle_f32x4(u[8 + i], u[12 + i], 0xdd);
        r[i] = _mm512_shuffle_f32x4(even0, even1, 0x88), r[8 + i] = _mm512_shuffle_f32x4(even0, even1, 0xdd);
        r[4 + i] = _mm512_shuffle_f32x4(odd0, odd1, 0x88), r[12 + i] = _mm512_shuffle_f32x4(odd0, odd1, 0xdd);
    }
}

#endif
