/* 16-bit floats. f16 is IEEE binary16, bf16 the upper half of an f32; both round to nearest even and keep NaN a NaN. */
#ifndef SR_BASE_HALF_H
#define SR_BASE_HALF_H

#include <stdint.h>
#include <string.h>

static inline float sr_f32_from_bits(uint32_t u) {
    float f;
    memcpy(&f, &u, 4);
    return f;
}
static inline uint32_t sr_bits_from_f32(float f) {
    uint32_t u;
    memcpy(&u, &f, 4);
    return u;
}
static inline float sr_bf16_to_f32(uint16_t h) {
    return sr_f32_from_bits((uint32_t)h << 16);
}
static inline uint16_t sr_f32_to_bf16(float f) {
    uint32_t u = sr_bits_from_f32(f);
    if ((u & 0x7fffffffu) > 0x7f800000u) return (uint16_t)((u >> 16) | 64);
    return (uint16_t)((u + 0x7fffu + ((u >> 16) & 1)) >> 16);
}
static inline float sr_f16_to_f32(uint16_t h) {
    uint32_t sign = (uint32_t)(h & 0x8000) << 16, e = (h >> 10) & 31, m = h & 0x3ff;
    if (e == 31) return sr_f32_from_bits(sign | 0x7f800000u | m << 13);
    if (e) return sr_f32_from_bits(sign | (e + 112) << 23 | m << 13);
    float v = (float)m * 0x1p-24f; /* subnormal: exact */
    return sign ? -v : v;
}
static inline uint16_t sr_f32_to_f16(float f) {
    uint32_t u = sr_bits_from_f32(f), sign = (u >> 16) & 0x8000, a = u & 0x7fffffffu;
    if (a > 0x7f800000u) return (uint16_t)(sign | 0x7e00);
    if (a >= 0x477ff000u) return (uint16_t)(sign | 0x7c00); /* rounds to 65536 or more */
    if (a < 0x38800000u) { /* subnormal result: adding 0.5 puts the mantissa in place, rounded */
        uint32_t m = sr_bits_from_f32(sr_f32_from_bits(a) + 0.5f) - 0x3f000000u;
        return (uint16_t)(sign | m);
    }
    return (uint16_t)(sign | ((a - 0x38000000u + 0xfffu + ((a >> 13) & 1)) >> 13));
}

#endif
