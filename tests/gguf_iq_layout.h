/* Element e of a block of GGUF's IQ, ternary and 4-bit float types once more, straight from the description of the
 * layout, in double: what formats_test compares decode with. The grids are tested by gguf_iq_test. */
#ifndef TESTS_GGUF_IQ_LAYOUT_H
#define TESTS_GGUF_IQ_LAYOUT_H

#include "fmt/gguf_iq.h"

/* Bits first .. first + n - 1 of a little-endian bit string. */
static int bits(const uint8_t *p, int first, int n) {
    int v = 0;
    for (int i = 0; i < n; i++) v += (p[(first + i) / 8] >> (first + i) % 8 & 1) << i;
    return v;
}
static double half(const uint8_t *p) {
    return (double)sr_f16_to_f32((uint16_t)(p[0] + 256 * p[1]));
}
static int of8(const uint64_t *grid, int index, int j) {
    return (int8_t)(grid[index] >> 8 * j);
}
static int of4(const uint32_t *grid, int index, int j) {
    return (int)(grid[index] >> 8 * j & 255);
}
/* Sign of element j under a field of 7 bits: the eighth makes the number of negatives even. */
static int sign7(int field, int j) {
    int parity = 0;
    for (int i = 0; i < 7; i++) parity ^= field >> i & 1;
    return (j < 7 ? field >> j & 1 : parity) ? -1 : 1;
}
static int sign8(const uint8_t *signs, int e) {
    return signs[e / 8] >> e % 8 & 1 ? -1 : 1;
}

static double iq2_xxs(const uint8_t *b, int e) {
    const uint8_t *group = b + 2 + e / 32 * 8;
    int l = e % 32 / 8, j = e % 8;
    return half(b) * (0.5 + bits(group + 4, 28, 4)) * 0.25 * of8(sr_iq2xxs_grid, group[l], j) *
           sign7(bits(group + 4, 7 * l, 7), j);
}
static double iq2_xs(const uint8_t *b, int e) {
    int n = e / 8, s = n % 4 < 2 ? b[66 + n / 4] % 16 : b[66 + n / 4] / 16;
    return half(b) * (0.5 + s) * 0.25 * of8(sr_iq2xs_grid, bits(b + 2, 16 * n, 9), e % 8) *
           sign7(bits(b + 2, 16 * n + 9, 7), e % 8);
}
static double iq2_s(const uint8_t *b, int e) {
    int n = e / 8, s = n % 4 < 2 ? b[74 + n / 4] % 16 : b[74 + n / 4] / 16;
    int index = b[2 + n] + 256 * bits(b + 66, 2 * n, 2);
    return half(b) * (0.5 + s) * 0.25 * of8(sr_iq2s_grid, index, e % 8) * sign8(b + 34, e);
}
static double iq3_xxs(const uint8_t *b, int e) {
    const uint8_t *v = b + 66 + e / 32 * 4;
    return half(b) * (0.5 + bits(v, 28, 4)) * 0.5 * of4(sr_iq3xxs_grid, b[2 + e / 4], e % 4) *
           sign7(bits(v, 7 * (e % 32 / 8), 7), e % 8);
}
static double iq3_s(const uint8_t *b, int e) {
    int s = bits(b + 106, e / 32 * 4, 4), index = b[2 + e / 4] + 256 * bits(b + 66, e / 4, 1);
    return half(b) * (1 + 2 * s) * of4(sr_iq3s_grid, index, e % 4) * sign8(b + 74, e);
}
static double iq1_s(const uint8_t *b, int e) {
    const uint8_t *qh = b + 34 + e / 32 * 2;
    int index = b[2 + e / 8] + 256 * bits(qh, 3 * (e % 32 / 8), 3);
    double delta = bits(qh, 15, 1) ? -0.125 : 0.125;
    return half(b) * (2 * bits(qh, 12, 3) + 1) * (of8(sr_iq1s_grid, index, e % 8) + delta);
}
static double iq1_m(const uint8_t *b, int e) {
    uint8_t d[2] = {(uint8_t)(bits(b + 48, 12, 4) + 16 * bits(b + 48, 28, 4)),
                    (uint8_t)(bits(b + 48, 44, 4) + 16 * bits(b + 48, 60, 4))};
    int group = e / 16, s = bits(b + 48, group / 4 * 16 + group % 4 * 3, 3), high = bits(b + 32, e / 8 * 4, 4);
    return half(d) * (2 * s + 1) * (of8(sr_iq1s_grid, b[e / 8] + high % 8 * 256, e % 8) + (high < 8 ? 0.125 : -0.125));
}
static int iq4(const uint8_t *qs, int e) {
    static const int value[16] = {-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113};
    return value[e < 16 ? qs[e] % 16 : qs[e - 16] / 16];
}
static double iq4_nl(const uint8_t *b, int e) {
    return half(b) * iq4(b + 2, e);
}
static double iq4_xs(const uint8_t *b, int e) {
    int g = e / 32, s = bits(b + 4, 4 * g, 4) + 16 * bits(b + 2, 2 * g, 2) - 32;
    return half(b) * s * iq4(b + 8 + 16 * g, e % 32);
}

static double tq1_0(const uint8_t *b, int e) {
    int first[] = {0, 160, 240, 256}, width[] = {32, 16, 4}, at[] = {0, 32, 48}, part = 0;
    while (e >= first[part + 1]) part++;
    int r = e - first[part];
    double fraction = b[at[part] + r % width[part]] / 256.0;
    for (int k = 0; k < r / width[part]; k++) fraction = 3 * fraction - floor(3 * fraction);
    return half(b + 52) * (floor(3 * fraction) - 1);
}
static double tq2_0(const uint8_t *b, int e) {
    return half(b + 64) * (bits(b + e / 128 * 32 + e % 32, e % 128 / 32 * 2, 2) - 1);
}
static double q1_0(const uint8_t *b, int e) {
    return half(b) * (bits(b + 2, e, 1) ? 1 : -1);
}
static double q2_0(const uint8_t *b, int e) {
    return half(b) * (bits(b + 2, 2 * e, 2) - 1);
}
static double e2m1(int nibble) {
    int exponent = nibble >> 1 & 3, m = nibble & 1;
    double v = exponent ? ldexp(1 + 0.5 * m, exponent - 1) : 0.5 * m;
    return nibble & 8 ? -v : v;
}
static double mxfp4(const uint8_t *b, int e) {
    return e2m1(e < 16 ? b[1 + e] % 16 : b[1 + e - 16] / 16) * ldexp(1, b[0] - 127);
}
static double nvfp4(const uint8_t *b, int e) {
    int d = b[e / 16] % 128, byte = b[4 + e / 16 * 8 + e % 8], exponent = d / 8, m = d % 8;
    double scale = exponent ? ldexp(8 + m, exponent - 10) : ldexp(m, -9);
    return (b[e / 16] == 0x7f ? 0 : scale) * e2m1(e % 16 < 8 ? byte % 16 : byte / 16);
}

#endif
