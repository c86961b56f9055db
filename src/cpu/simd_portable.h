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

typedef float vf __attribute__((vector_size(32), aligned(4)));

static inline vf vf_set1(float x) {
    return (vf){x, x, x, x, x, x, x, x};
}
static inline vf vf_load(const float *p) {
    vf v;
    memcpy(&v, p, sizeof v);
    return v;
}
static inline void vf_store(float *p, vf v) {
    memcpy(p, &v, sizeof v);
}
static inline vf vf_add(vf a, vf b) {
    return a + b;
}
static inline vf vf_sub(vf a, vf b) {
    return a - b;
}
static inline vf vf_mul(vf a, vf b) {
    return a * b;
}
static inline vf vf_div(vf a, vf b) {
    return a / b;
}
/* a * b + c, rounded once or twice as the machine likes */
static inline vf vf_fma(vf a, vf b, vf c) {
    return a * b + c;
}
static inline vf vf_max(vf a, vf b) {
    vf r;
    for (int i = 0; i < 8; i++) r[i] = a[i] > b[i] ? a[i] : b[i];
    return r;
}
static inline vf vf_min(vf a, vf b) {
    vf r;
    for (int i = 0; i < 8; i++) r[i] = a[i] < b[i] ? a[i] : b[i];
    return r;
}
static inline vf vf_abs(vf a) {
    vf r;
    for (int i = 0; i < 8; i++) r[i] = fabsf(a[i]);
    return r;
}
/* ((0+4)+(2+6)) + ((1+5)+(3+7)) */
static inline float vf_sum(vf v) {
    return ((v[0] + v[4]) + (v[2] + v[6])) + ((v[1] + v[5]) + (v[3] + v[7]));
}
static inline float vf_reduce_max(vf v) {
    float m = v[0];
    for (int i = 1; i < 8; i++) m = v[i] > m ? v[i] : m;
    return m;
}
/* Lane i is the sum of r[i]. */
static inline vf vf_sum8(const vf r[8]) {
    vf s;
    for (int i = 0; i < 8; i++) s[i] = vf_sum(r[i]);
    return s;
}
static inline void vf_transpose8(vf r[8]) {
    for (int i = 0; i < 8; i++)
        for (int j = 0; j < i; j++) {
            float v = r[i][j];
            r[i][j] = r[j][i];
            r[j][i] = v;
        }
}
static inline vf vf_round(vf v) { /* nearest even; |v| < 2^22 */
    const vf magic = vf_set1(12582912.0f);
    return (v + magic) - magic;
}
/* 2^n for whole numbers -126 <= n <= 127 */
static inline vf vf_pow2(vf n) {
    vf r;
    for (int i = 0; i < 8; i++) r[i] = sr_f32_from_bits((uint32_t)((int32_t)n[i] + 127) << 23);
    return r;
}
static inline vf vf_from_f16(const uint16_t *p) {
    vf r;
    for (int i = 0; i < 8; i++) r[i] = sr_f16_to_f32(p[i]);
    return r;
}
static inline void vf_to_f16(uint16_t *p, vf v) {
    for (int i = 0; i < 8; i++) p[i] = sr_f32_to_f16(v[i]);
}
/* 256 columns of quantized x: code = x * mul to the nearest, halves to even, and the sums of 16 codes. */
static inline void v_codes256(const float *x, float mul, int8_t *code, int16_t *sum) {
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
static inline vf vf_from_bf16(const uint16_t *p) {
    vf r;
    for (int i = 0; i < 8; i++) r[i] = sr_bf16_to_f32(p[i]);
    return r;
}

#endif
