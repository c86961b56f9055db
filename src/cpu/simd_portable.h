/* The f32 vocabulary on any machine: 8 lanes, the compiler's own vectors. Every simd_<isa>.h defines the same names,
 * and the *_kern.h bodies use nothing else. */
#ifndef SR_CPU_SIMD_PORTABLE_H
#define SR_CPU_SIMD_PORTABLE_H

#include <math.h>
#include <stdint.h>
#include <string.h>

#include "base/half.h"

#pragma GCC diagnostic ignored "-Wpsabi" /* passing vectors: every use is static, so both sides agree */

#define V_INLINE static inline __attribute__((always_inline))

/* Two of four: a vector of eight by value would mean another calling convention with every flag. */
typedef float vf_half __attribute__((vector_size(16)));
typedef struct vf {
    vf_half a, b;
} vf;

V_INLINE vf vf_set1(float x) {
    return (vf){{x, x, x, x}, {x, x, x, x}};
}
V_INLINE vf vf_load(const float *p) {
    vf v;
    memcpy(&v, p, sizeof v);
    return v;
}
V_INLINE void vf_store(float *p, vf v) {
    memcpy(p, &v, sizeof v);
}
V_INLINE vf vf_add(vf x, vf y) {
    return (vf){x.a + y.a, x.b + y.b};
}
V_INLINE vf vf_sub(vf x, vf y) {
    return (vf){x.a - y.a, x.b - y.b};
}
V_INLINE vf vf_mul(vf x, vf y) {
    return (vf){x.a * y.a, x.b * y.b};
}
V_INLINE vf vf_div(vf x, vf y) {
    return (vf){x.a / y.a, x.b / y.b};
}
/* x * y + z, rounded once or twice as the machine likes */
V_INLINE vf vf_fma(vf x, vf y, vf z) {
    return (vf){x.a * y.a + z.a, x.b * y.b + z.b};
}
V_INLINE vf vf_max(vf x, vf y) {
    for (int i = 0; i < 4; i++) y.a[i] = x.a[i] > y.a[i] ? x.a[i] : y.a[i], y.b[i] = x.b[i] > y.b[i] ? x.b[i] : y.b[i];
    return y;
}
V_INLINE vf vf_min(vf x, vf y) {
    for (int i = 0; i < 4; i++) y.a[i] = x.a[i] < y.a[i] ? x.a[i] : y.a[i], y.b[i] = x.b[i] < y.b[i] ? x.b[i] : y.b[i];
    return y;
}
V_INLINE vf vf_abs(vf x) {
    for (int i = 0; i < 4; i++) x.a[i] = fabsf(x.a[i]), x.b[i] = fabsf(x.b[i]);
    return x;
}
/* ((0+4)+(2+6)) + ((1+5)+(3+7)) */
V_INLINE float vf_sum(vf v) {
    vf_half h = v.a + v.b;
    return (h[0] + h[2]) + (h[1] + h[3]);
}
V_INLINE float vf_reduce_max(vf v) {
    float e[8], m;
    vf_store(e, v);
    m = e[0];
    for (int i = 1; i < 8; i++) m = e[i] > m ? e[i] : m;
    return m;
}
/* Lane i is the sum of r[i]. */
V_INLINE vf vf_sum8(const vf r[8]) {
    float e[8];
    for (int i = 0; i < 8; i++) e[i] = vf_sum(r[i]);
    return vf_load(e);
}
V_INLINE void vf_transpose8(vf r[8]) {
    float e[64], t[64];
    memcpy(e, r, sizeof e);
    for (int i = 0; i < 64; i++) t[i] = e[i % 8 * 8 + i / 8];
    memcpy(r, t, sizeof t);
}
V_INLINE vf vf_round(vf v) { /* nearest even; |v| < 2^22 */
    const vf magic = vf_set1(12582912.0f);
    return vf_sub(vf_add(v, magic), magic);
}
/* 2^n for whole numbers -126 <= n <= 127 */
V_INLINE vf vf_pow2(vf n) {
    float e[8];
    vf_store(e, n);
    for (int i = 0; i < 8; i++) e[i] = sr_f32_from_bits((uint32_t)((int32_t)e[i] + 127) << 23);
    return vf_load(e);
}
V_INLINE vf vf_from_f16(const uint16_t *p) { /* files put them at any address */
    float e[8];
    uint16_t h[8];
    memcpy(h, p, sizeof h);
    for (int i = 0; i < 8; i++) e[i] = sr_f16_to_f32(h[i]);
    return vf_load(e);
}
V_INLINE void vf_to_f16(uint16_t *p, vf v) {
    float e[8];
    vf_store(e, v);
    for (int i = 0; i < 8; i++) p[i] = sr_f32_to_f16(e[i]);
}
V_INLINE vf vf_from_bf16(const uint16_t *p) {
    float e[8];
    uint16_t h[8];
    memcpy(h, p, sizeof h);
    for (int i = 0; i < 8; i++) e[i] = sr_bf16_to_f32(h[i]);
    return vf_load(e);
}

/* 256 columns of quantized x: code = x * mul to the nearest, halves to even, and the sums of 16 codes. */
V_INLINE void v_codes256(const float *x, float mul, int8_t *code, int16_t *sum) {
    for (int g = 0; g < 16; g++) {
        int total = 0;
        for (int i = 16 * g; i < 16 * (g + 1); i++) {
            int c = (int)(x[i] * mul + 12582912.0f - 12582912.0f);
            code[i] = (int8_t)c;
            total += c;
        }
        sum[g] = (int16_t)total;
    }
}

#endif
