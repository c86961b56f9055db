/* Numbers of 8 bits and fewer that scale or are weights: E4M3, E5M2, their FNUZ kin, E8M0, E2M1, E2M3.
 *
 *             sign exponent mantissa  bias  largest  particular
 *   E4M3FN      1     4        3        7     448    S.1111.111 is NaN, no infinity
 *   E5M2        1     5        2       15   57344    upper half of an f16
 *   E4M3FNUZ    1     4        3        8     240    0x80 is NaN, no infinity, no -0: half of E4M3FN's value
 *   E5M2FNUZ    1     5        2       16   57344    0x80 is NaN, no infinity, no -0
 *   E8M0        0     8        0      127   2^127    0 is 2^-127, 255 is NaN
 *   E2M1        1     2        1        1       6    neither
 *   E2M3        1     2        3        1     7.5    neither
 *
 * OCP 8-bit Floating Point Specification 1.0; OCP Microscaling Formats 1.0; torch: torch/headeronly/util/Float8_*.h */
#ifndef SR_FMT_FP8_BITS_H
#define SR_FMT_FP8_BITS_H

#include "base/half.h"

static inline float sr_fp8_signed(uint8_t b, float magnitude) {
    return b & 0x80 ? -magnitude : magnitude;
}
static inline float sr_e4m3_to_f32(uint8_t b) {
    uint32_t e = b >> 3 & 15, m = b & 7;
    if ((b & 0x7f) == 0x7f) return sr_f32_from_bits(0x7fc00000);
    return sr_fp8_signed(b, e ? sr_f32_from_bits((e + 120) << 23 | m << 20) : (float)m * 0x1p-9f);
}
static inline float sr_e5m2_to_f32(uint8_t b) {
    return sr_f16_to_f32((uint16_t)(b << 8));
}
static inline float sr_e4m3fnuz_to_f32(uint8_t b) {
    uint32_t e = b >> 3 & 15, m = b & 7;
    if (b == 0x80) return sr_f32_from_bits(0x7fc00000);
    return sr_fp8_signed(b, e ? sr_f32_from_bits((e + 119) << 23 | m << 20) : (float)m * 0x1p-10f);
}
static inline float sr_e5m2fnuz_to_f32(uint8_t b) {
    uint32_t e = b >> 2 & 31, m = b & 3;
    if (b == 0x80) return sr_f32_from_bits(0x7fc00000);
    return sr_fp8_signed(b, e ? sr_f32_from_bits((e + 111) << 23 | m << 21) : (float)m * 0x1p-17f);
}
static inline float sr_e8m0_to_f32(uint8_t b) {
    return sr_f32_from_bits(b == 255 ? 0x7fc00000 : b ? (uint32_t)b << 23 : 0x00400000);
}

/* f32 to E4M3FN, to nearest, ties to even; what is 464 or more and what is not finite becomes NaN, as torch has it. */
static inline uint8_t sr_f32_to_e4m3(float f) {
    uint32_t u = sr_bits_from_f32(f), a = u & 0x7fffffffu;
    uint8_t sign = (uint8_t)(u >> 24 & 0x80);
    if (a > 0x43e80000u || a >= 0x7f800000u) return sign | 0x7f;
    if (a < 0x3c800000u) { /* below 2^-6: steps of 2^-9, which adding 2^14 rounds to */
        float r = sr_f32_from_bits(a) + 0x1p14f;
        return (uint8_t)(sign | (sr_bits_from_f32(r) - sr_bits_from_f32(0x1p14f)));
    }
    uint32_t r = ((a + 0x7ffffu + (a >> 20 & 1)) >> 20) - (120 << 3); /* exponent, three bits */
    return (uint8_t)(sign | r);
}

/* f32 to E5M2, to nearest, ties to even; |f| <= 57344. */
static inline uint8_t sr_f32_to_e5m2(float f) {
    uint32_t u = sr_bits_from_f32(f), a = u & 0x7fffffffu;
    uint8_t sign = (uint8_t)(u >> 24 & 0x80);
    if (a < 0x38800000u) { /* below 2^-14: steps of 2^-16 */
        float r = sr_f32_from_bits(a) + 0x1p7f;
        return (uint8_t)(sign | (sr_bits_from_f32(r) - sr_bits_from_f32(0x1p7f)));
    }
    return (uint8_t)(sign | (((a + 0xfffffu + (a >> 21 & 1)) >> 21) - (112 << 2)));
}
/* f32 to E2M1 and E2M3, to nearest, ties to the even code, the largest where that is exceeded. What is below 0 keeps
 * its sign, as -0. Steps double at 2 and 4, so that codes count steps. */
static inline uint8_t sr_f32_to_e2(float f, int mantissa) {
    const int steps = 1 << mantissa; /* to 1, and from each power of two to the next */
    float a = f < 0 ? -f : f, by = (float)steps;
    int add = 0;
    if (a >= 4)
        by /= 4, add = 2 * steps;
    else if (a >= 2)
        by /= 2, add = steps;
    a = a < 8 ? a : 8;
    int code = (int)(a * by + 0x1.8p23f - 0x1.8p23f) + add;
    if (code > 4 * steps - 1) code = 4 * steps - 1;
    return (uint8_t)(code | (f < 0 ? 4 * steps : 0));
}

/* Twice the value of an E2M1 code. */
static const int8_t sr_e2m1_twice[16] = {0, 1, 2, 3, 4, 6, 8, 12, 0, -1, -2, -3, -4, -6, -8, -12};
/* Eight times the value of an E2M3 code. */
static inline int8_t sr_e2m3_eightfold(uint8_t b) {
    int e = b >> 3 & 3, m = b & 7, v = e ? (8 + m) << (e - 1) : m;
    return (int8_t)(b & 32 ? -v : v);
}

#endif
