/* Where the bits of GGUF's IQ blocks lie; see gguf_bits.h for the conventions. Codes are vectors of 8 or 4 elements
 * from the grids of gguf_iq.h, which the caller looks up; here are their indexes, signs and scales. Every index
 * is masked to its grid by its width, so any bytes are safe.
 *
 * Source of all layouts: ggml src/ggml-common.h and src/ggml-quants.c, at d99724f2. Unless said otherwise a block has
 * 256 elements, d is a little-endian f16, n = e / 8 is the vector of 8 elements, g the group of 32 (or 16), and s the
 * stored 3 or 4 bits of a scale. */
#ifndef SR_FMT_GGUF_IQ_BITS_H
#define SR_FMT_GGUF_IQ_BITS_H

#include "fmt/gguf_bits.h"

SR_BITS_FN unsigned sr_u16_le(SR_BITS_IN p) {
    return p[0] | (unsigned)p[1] << 8;
}
SR_BITS_FN unsigned sr_u32_le(SR_BITS_IN p) {
    return sr_u16_le(p) | sr_u16_le(p + 2) << 16;
}
/* Four sign masks of 8 bits from four bytes of 7: the number of negative elements is even, so the eighth bit is the
 * parity of the others. Bit j set: element j is negative. */
SR_BITS_FN unsigned sr_iq_parity(unsigned m) {
    unsigned p = m ^ m >> 4;
    p ^= p >> 2;
    p ^= p >> 1;
    return m | (p & 0x01010101) << 7;
}
/* The same from the low 28 bits of v, 7 for each. */
SR_BITS_FN unsigned sr_iq_signs(unsigned v) {
    return sr_iq_parity((v & 0x7f) | (v << 1 & 0x7f00) | (v << 2 & 0x7f0000) | (v << 3 & 0x7f000000));
}
/* 2 s + 1 of nibble i at p. */
SR_BITS_FN int sr_iq_scale4(SR_BITS_IN p, int i) {
    return 2 * (p[i / 2] >> 4 * (i % 2) & 15) + 1;
}

/* IQ2_XXS: 66 bytes, groups of 32                   w = d * (2 s + 1) * +-grid / 8
 *     0    2                                     66
 *     | d  | 8 times: u8 index[4], u32 v         |      v: 4 sign fields of 7 bits (sr_iq_signs), s in bits 28-31
 */
enum { SR_IQ2_XXS_BYTES = 66 };
SR_BITS_FN int sr_iq2_xxs_index(SR_BITS_IN b, int n) {
    return b[2 + 8 * (n / 4) + n % 4];
}
SR_BITS_FN unsigned sr_iq2_xxs_signs(SR_BITS_IN b, int g) {
    return sr_iq_signs(sr_u32_le(b + 6 + 8 * g));
}
SR_BITS_FN int sr_iq2_xxs_scale(SR_BITS_IN b, int g) {
    return 2 * (b[9 + 8 * g] >> 4) + 1;
}

/* IQ2_XS: 74 bytes, groups of 16                    w = d * (2 s + 1) * +-grid / 8
 *     0    2                     66          74
 *     | d  | u16 q[32]           | scales[8] |     q[n]: index in bits 0-8, sign field in bits 9-15
 * s of group g is nibble g of scales.
 */
enum { SR_IQ2_XS_BYTES = 74, SR_IQ2_XS_SCALES = 66 };
SR_BITS_FN int sr_iq2_xs_index(SR_BITS_IN b, int n) {
    return (int)(sr_u16_le(b + 2 + 2 * n) & 511);
}
SR_BITS_FN unsigned sr_iq2_xs_sign_field(SR_BITS_IN b, int n) {
    return b[3 + 2 * n] >> 1;
}

/* IQ2_S: 82 bytes, groups of 16                     w = d * (2 s + 1) * +-grid / 8
 *     0    2           34          66      74          82
 *     | d  | index[32] | sign[32]  | qh[8] | scales[8] |
 * Bits 8-9 of index n are bits 2 (n % 4), + 1 of qh[n / 4]; sign[n] is a whole mask; s as in IQ2_XS.
 */
enum { SR_IQ2_S_BYTES = 82, SR_IQ2_S_SIGNS = 34, SR_IQ2_S_QH = 66, SR_IQ2_S_SCALES = 74 };
SR_BITS_FN int sr_iq2_s_index(SR_BITS_IN b, int n) {
    return b[2 + n] | (b[SR_IQ2_S_QH + n / 4] >> 2 * (n % 4) & 3) << 8;
}

/* IQ3_XXS: 98 bytes, groups of 32                   w = d * (2 s + 1) * +-grid / 4
 *     0    2                   66                98
 *     | d  | index[64]         | u32 v[8]        |     index[q] gives the four elements from 4 q on; v as in IQ2_XXS
 */
enum { SR_IQ3_XXS_BYTES = 98, SR_IQ3_XXS_V = 66 };
SR_BITS_FN int sr_iq3_xxs_index(SR_BITS_IN b, int q) {
    return b[2 + q];
}
SR_BITS_FN unsigned sr_iq3_xxs_signs(SR_BITS_IN b, int g) {
    return sr_iq_signs(sr_u32_le(b + SR_IQ3_XXS_V + 4 * g));
}
SR_BITS_FN int sr_iq3_xxs_scale(SR_BITS_IN b, int g) {
    return 2 * (b[SR_IQ3_XXS_V + 3 + 4 * g] >> 4) + 1;
}

/* IQ3_S: 110 bytes, groups of 32                    w = d * (2 s + 1) * +-grid
 *     0    2                   66      74         106         110
 *     | d  | index[64]         | qh[8] | sign[32] | scales[4] |
 * Bit 8 of index q is bit q % 8 of qh[q / 8]; sign[n] is a whole mask; s of group g is nibble g of scales.
 */
enum { SR_IQ3_S_BYTES = 110, SR_IQ3_S_QH = 66, SR_IQ3_S_SIGNS = 74, SR_IQ3_S_SCALES = 106 };
SR_BITS_FN int sr_iq3_s_index(SR_BITS_IN b, int q) {
    return b[2 + q] | (b[SR_IQ3_S_QH + q / 8] >> q % 8 & 1) << 8;
}

/* IQ1_S: 50 bytes, groups of 32                     w = d * (2 s + 1) * (8 grid + delta) / 8, delta 1 or -1
 *     0    2           34                  50
 *     | d  | index[32] | u16 qh[8]         |     qh[g]: bits 8-10 of the four indexes in bits 0-11, s in bits 12-14,
 *                                                 delta is -1 where bit 15 is set
 */
enum { SR_IQ1_S_BYTES = 50, SR_IQ1_S_QH = 34 };
SR_BITS_FN int sr_iq1_s_index(SR_BITS_IN b, int n) {
    return (int)(b[2 + n] | (sr_u16_le(b + SR_IQ1_S_QH + 2 * (n / 4)) >> 3 * (n % 4) & 7) << 8);
}
SR_BITS_FN int sr_iq1_s_scale(SR_BITS_IN b, int g) {
    return 2 * (b[SR_IQ1_S_QH + 1 + 2 * g] >> 4 & 7) + 1;
}
SR_BITS_FN int sr_iq1_s_delta(SR_BITS_IN b, int g) {
    return b[SR_IQ1_S_QH + 1 + 2 * g] & 0x80 ? -1 : 1;
}

/* IQ1_M: 56 bytes, groups of 16                     w as IQ1_S, delta of each vector of 8
 *     0           32         48          56
 *     | index[32] | qh[16]   | u16 S[4]  |     nibble n of qh: bits 8-10 of index n, delta is -1 where bit 3 is set
 * s of group g: 3 bits of S[g / 4] from bit 3 (g % 4) on. d is no field: its bits 4i .. 4i + 3 are bits 12-15 of S[i].
 */
enum { SR_IQ1_M_BYTES = 56, SR_IQ1_M_QH = 32, SR_IQ1_M_S = 48 };
SR_BITS_FN unsigned sr_iq1_m_d(SR_BITS_IN b) {
    SR_BITS_IN s = b + SR_IQ1_M_S;
    return (unsigned)(s[1] >> 4 | (s[3] & 0xf0) | (s[5] & 0xf0) << 4 | (s[7] & 0xf0) << 8);
}
SR_BITS_FN int sr_iq1_m_nibble(SR_BITS_IN b, int n) {
    return b[SR_IQ1_M_QH + n / 2] >> 4 * (n % 2) & 15;
}
SR_BITS_FN int sr_iq1_m_index(SR_BITS_IN b, int n) {
    return b[n] | (sr_iq1_m_nibble(b, n) & 7) << 8;
}
SR_BITS_FN int sr_iq1_m_delta(SR_BITS_IN b, int n) {
    return sr_iq1_m_nibble(b, n) & 8 ? -1 : 1;
}
SR_BITS_FN int sr_iq1_m_scale(SR_BITS_IN b, int g) {
    return (int)(2 * (sr_u16_le(b + SR_IQ1_M_S + 2 * (g / 4)) >> 3 * (g % 4) & 7) + 1);
}

/* IQ4_NL: 32 elements, 18 bytes                     w = d * value[nibble]
 *     as Q4_0, with a table of 16 values in place of code - 8
 * IQ4_XS: 136 bytes, groups of 32                   w = d * sc * value[nibble], sc -32..31
 *     0    2              4           8                      136
 *     | d  | u16 scales_h | scales_l[4] | qs[128]            |
 * Group g: 16 bytes of qs as in Q4_0; sc + 32 has nibble g of scales_l in bits 0-3 and bits 2g, 2g + 1 of scales_h in
 * bits 4-5.
 */
enum { SR_IQ4_NL_BYTES = 18, SR_IQ4_NL_QS = 2, SR_IQ4_XS_BYTES = 136, SR_IQ4_XS_QS = 8 };
SR_BITS_FN int sr_iq4_xs_scale(SR_BITS_IN b, int g) {
    return ((b[4 + g / 2] >> 4 * (g % 2) & 15) | (b[2 + g / 4] >> 2 * (g % 4) & 3) << 4) - 32;
}

#endif
