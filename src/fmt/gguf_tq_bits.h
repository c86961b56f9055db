/* Where the bits lie of GGUF's ternary and one-bit blocks and of its 4-bit floats; see gguf_bits.h for the conventions.
 * Source: ggml src/ggml-common.h and src/ggml-quants.c, at d99724f2. */
#ifndef SR_FMT_GGUF_TQ_BITS_H
#define SR_FMT_GGUF_TQ_BITS_H

#include "fmt/gguf_bits.h"

/* TQ1_0: 256 elements, 54 bytes                     w = d * code, code -1..1
 *     0                          48      52   54
 *     | qs[48]                   | qh[4] | d  |
 * A byte holds five digits of base 3 (those of qh four) as the fraction v / 256, rounded up: digit k is the integer
 * part of 3 * ((v * 3^k mod 256) / 256), and not that of v written in base 3. In the order of elements: e < 160   digit
 * e / 32 of qs[e % 32] e < 240   digit (e - 160) / 16 of qs[32 + e % 16] else      digit (e - 240) / 4 of qh[e % 4]
 */
enum { SR_TQ1_0_BYTES = 54, SR_TQ1_0_D = 52 };
SR_BITS_FN int sr_tq1_0_code(SR_BITS_IN b, int e) {
    int v = e < 160 ? b[e % 32] : e < 240 ? b[32 + e % 16] : b[48 + e % 4];
    int k = e < 160 ? e / 32 : e < 240 ? (e - 160) / 16 : (e - 240) / 4;
    int power = k == 0 ? 1 : k == 1 ? 3 : k == 2 ? 9 : k == 3 ? 27 : 81;
    return ((v * power & 255) * 3 >> 8) - 1;
}

/* TQ2_0: 256 elements, 66 bytes                     w = d * (code - 1), code 0..3
 *     0                      64   66
 *     | qs[64]               | d  |     e = 128 h + 32 k + l: bits 2k, 2k + 1 of qs[32 h + l], as in Q2_K
 */
enum { SR_TQ2_0_BYTES = 66, SR_TQ2_0_D = 64 };
SR_BITS_FN int sr_tq2_0_code(SR_BITS_IN b, int e) {
    return (b[32 * (e / 128) + e % 32] >> 2 * (e % 128 / 32) & 3) - 1;
}

/* Q1_0: 128 elements, 18 bytes                      w = d or -d
 *     0    2            18
 *     | d  | bits[16]   |     bit e % 8 of bits[e / 8] set: d
 * Q2_0: 64 elements, 18 bytes                       w = d * (code - 1), code 0..3
 *     0    2            18
 *     | d  | qs[16]     |     bits 2 (e % 4), + 1 of qs[e / 4]
 */
enum { SR_Q1_0_BYTES = 18, SR_Q2_0_BYTES = 18 };
SR_BITS_FN int sr_q1_0_code(SR_BITS_IN b, int e) {
    return 2 * (b[2 + e / 8] >> e % 8 & 1) - 1;
}
SR_BITS_FN int sr_q2_0_code(SR_BITS_IN b, int e) {
    return (b[2 + e / 4] >> 2 * (e % 4) & 3) - 1;
}

/* Twice the value of a 4-bit float (E2M1): 0 1 2 3 4 6 8 12, negative from 8 on; code 8 is 0 as well. */
SR_BITS_FN int sr_fp4_code(int nibble) {
    int m = nibble & 7, v = m < 2 ? m : (2 | (m & 1)) << (m / 2 - 1);
    return nibble & 8 ? -v : v;
}

/* MXFP4: 32 elements, 17 bytes                      w = 2^(e - 128) * code
 *     0    1                        17
 *     | e  | qs[16]                 |     nibbles as in Q4_0. 2^(e - 127) is the scale of the float, half of it that of
 *                                         the code. Every e is a number: 0 and 1 are subnormal, 255 is 2^127.
 */
enum { SR_MXFP4_BYTES = 17, SR_MXFP4_QS = 1 };
SR_BITS_FN int sr_mxfp4_code(SR_BITS_IN b, int e) {
    return sr_fp4_code(b[SR_MXFP4_QS + e % 16] >> 4 * (e / 16));
}
/* Bits of the f32 2^(e - 128). */
SR_BITS_FN unsigned sr_mxfp4_scale_bits(int e) {
    return e < 2 ? 0x00200000u << e : (unsigned)(e - 1) << 23;
}

/* NVFP4: 64 elements in groups of 16, 36 bytes      w = scale(d[e / 16]) / 2 * code [* the tensor's own factor]
 *     0      4                        36
 *     | d[4] | qs[32]                 |     byte j < 8 of group g is qs[8 g + j]: lo is element j, hi is element j + 8
 * d is an unsigned E4M3 (bias 7; bit 7 is ignored); 0 and 0x7f are zero.
 */
enum { SR_NVFP4_BYTES = 36, SR_NVFP4_QS = 4 };
SR_BITS_FN int sr_nvfp4_code(SR_BITS_IN b, int e) {
    return sr_fp4_code(b[SR_NVFP4_QS + 8 * (e / 16) + e % 8] >> 4 * (e % 16 / 8));
}
/* Bits of an f16 that is 2^-8 times that number: E4M3's exponent and mantissa in the places of f16's, whose bias is 15.
 */
SR_BITS_FN unsigned sr_nvfp4_scale_bits(int d) {
    return d == 0x7f ? 0 : (unsigned)(d & 0x7f) << 7;
}

#endif
