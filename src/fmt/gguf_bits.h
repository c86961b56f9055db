/* Where the bits of GGUF blocks lie: codes and group scales as small integers, one element at a time.
 *
 * Plain C on byte pointers that also compiles as CUDA and Metal: such a unit defines SR_BITS_FN and SR_BITS_IN (its
 * function qualifiers and its pointer to const bytes) before including this file. The f16 fields are left to the
 * caller, because each language reads halves in its own way; their offsets stand here. No pointer needs alignment.
 *
 * Source of all layouts: ggml src/ggml-common.h and src/ggml-quants.c, at d99724f2. In the pictures e is the element,
 * "lo" bits 0-3 and "hi" bits 4-7 of a byte, d, m and dmin little-endian f16 unless said otherwise. */
#ifndef SR_FMT_GGUF_BITS_H
#define SR_FMT_GGUF_BITS_H

#ifndef SR_BITS_FN
#define SR_BITS_FN static inline
#define SR_BITS_IN const unsigned char *
#endif

/* Q4_0: 32 elements, 18 bytes                       w = d * (code - 8)
 *     0    2                        18
 *     | d  | qs[16]                 |     qs[j]: lo is e = j, hi is e = j + 16
 */
enum { SR_Q4_0_BYTES = 18, SR_Q4_0_QS = 2 };
SR_BITS_FN int sr_q4_0_code(SR_BITS_IN b, int e) {
    return (b[SR_Q4_0_QS + e % 16] >> 4 * (e / 16) & 15) - 8;
}

/* Q4_1: 32 elements, 20 bytes                       w = d * code + m
 *     0    2    4                        20
 *     | d  | m  | qs[16]                 |     as Q4_0
 */
enum { SR_Q4_1_BYTES = 20, SR_Q4_1_M = 2, SR_Q4_1_QS = 4 };
SR_BITS_FN int sr_q4_1_code(SR_BITS_IN b, int e) {
    return b[SR_Q4_1_QS + e % 16] >> 4 * (e / 16) & 15;
}

/* Q5_0: 32 elements, 22 bytes                       w = d * (code - 16)
 *     0    2         6                        22
 *     | d  | qh[4]   | qs[16]                 |     bits 0-3 as Q4_0; bit 4 of e is bit e of the 32 bits of qh
 */
enum { SR_Q5_0_BYTES = 22, SR_Q5_0_QH = 2, SR_Q5_0_QS = 6 };
SR_BITS_FN int sr_q5_0_code(SR_BITS_IN b, int e) {
    return ((b[SR_Q5_0_QS + e % 16] >> 4 * (e / 16) & 15) | (b[SR_Q5_0_QH + e / 8] >> e % 8 & 1) << 4) - 16;
}

/* Q5_1: 32 elements, 24 bytes                       w = d * code + m
 *     0    2    4         8                        24
 *     | d  | m  | qh[4]   | qs[16]                 |     as Q5_0
 */
enum { SR_Q5_1_BYTES = 24, SR_Q5_1_M = 2, SR_Q5_1_QH = 4, SR_Q5_1_QS = 8 };
SR_BITS_FN int sr_q5_1_code(SR_BITS_IN b, int e) {
    return (b[SR_Q5_1_QS + e % 16] >> 4 * (e / 16) & 15) | (b[SR_Q5_1_QH + e / 8] >> e % 8 & 1) << 4;
}

/* Q8_0: 32 elements, 34 bytes                       w = d * code
 *     0    2                                        34
 *     | d  | int8 code[32]                          |
 * Q8_1: 32 elements, 36 bytes                       w = d * code
 *     0    2    4                                        36
 *     | d  | s  | int8 code[32]                          |     s = d * (sum of the codes), only a help for kernels
 */
enum { SR_Q8_0_BYTES = 34, SR_Q8_0_QS = 2 };
enum { SR_Q8_1_BYTES = 36, SR_Q8_1_S = 2, SR_Q8_1_QS = 4 };

/* Q2_K: 256 elements in groups of 16, 84 bytes      w = d * sc * code - dmin * mn
 *     0            16                                80   82     84
 *     | scales[16] | qs[64]                          | d  | dmin |
 * scales[e / 16]: lo is sc, hi is mn. The element e = 128 h + 32 k + l (h < 2, k < 4, l < 32) has bits 2k, 2k + 1 of
 * qs[32 h + l].
 */
enum { SR_Q2_K_BYTES = 84, SR_Q2_K_QS = 16, SR_Q2_K_D = 80, SR_Q2_K_DMIN = 82 };
SR_BITS_FN int sr_q2_k_code(SR_BITS_IN b, int e) {
    return b[SR_Q2_K_QS + 32 * (e / 128) + e % 32] >> 2 * (e % 128 / 32) & 3;
}
SR_BITS_FN int sr_q2_k_scale(SR_BITS_IN b, int group) {
    return b[group] & 15;
}
SR_BITS_FN int sr_q2_k_min(SR_BITS_IN b, int group) {
    return b[group] >> 4;
}

/* Q3_K: 256 elements in groups of 16, 110 bytes     w = d * sc * code, code -4..3, sc -32..31
 *     0           32                         96          108  110
 *     | hmask[32] | qs[64]                   | scales[12] | d  |
 * Bits 0-1 as Q2_K; bit e / 32 of hmask[e % 32] is set where 4 is not subtracted. Scale of group j = e / 16, 6 bits
 * stored with 32 added:
 *     bits 0-3  scales[j % 8]: lo for j < 8, else hi
 *     bits 4-5  bits 2 (j / 4), + 1 of scales[8 + j % 4]
 */
enum { SR_Q3_K_BYTES = 110, SR_Q3_K_QS = 32, SR_Q3_K_SCALES = 96, SR_Q3_K_D = 108 };
SR_BITS_FN int sr_q3_k_code(SR_BITS_IN b, int e) {
    int low = b[SR_Q3_K_QS + 32 * (e / 128) + e % 32] >> 2 * (e % 128 / 32) & 3;
    return low - 4 + 4 * (b[e % 32] >> e / 32 & 1);
}
SR_BITS_FN int sr_q3_k_scale(SR_BITS_IN b, int group) {
    int low = b[SR_Q3_K_SCALES + group % 8] >> 4 * (group / 8) & 15;
    return (low | (b[SR_Q3_K_SCALES + 8 + group % 4] >> 2 * (group / 4) & 3) << 4) - 32;
}

/* Q4_K: 256 elements in groups of 32, 144 bytes     w = d * sc * code - dmin * mn
 *     0    2      4            16                                      144
 *     | d  | dmin | scales[12] | qs[128]                               |
 * e = 64 c + r: qs[32 c + r % 32], lo for r < 32, else hi. The 8 pairs of 6 bits in scales[12]:
 *     byte  0-3   sc[0..3] in bits 0-5    bits 4-5 of sc[4..7] in bits 6-7
 *     byte  4-7   mn[0..3] in bits 0-5    bits 4-5 of mn[4..7] in bits 6-7
 *     byte 8-11   lo: bits 0-3 of sc[4..7], hi: bits 0-3 of mn[4..7]
 * Q5_K: 256 elements in groups of 32, 176 bytes     the same with a fifth bit
 *     0    2      4            16        48                                      176
 *     | d  | dmin | scales[12] | qh[32]  | qs[128]                               |
 * Bit 4 of e is bit e / 32 of qh[e % 32].
 */
enum { SR_Q4_K_BYTES = 144, SR_K4_DMIN = 2, SR_K4_SCALES = 4, SR_Q4_K_QS = 16 };
enum { SR_Q5_K_BYTES = 176, SR_Q5_K_QH = 16, SR_Q5_K_QS = 48 };
SR_BITS_FN int sr_q4_k_code(SR_BITS_IN b, int e) {
    return b[SR_Q4_K_QS + 32 * (e / 64) + e % 32] >> 4 * (e % 64 / 32) & 15;
}
SR_BITS_FN int sr_q5_k_code(SR_BITS_IN b, int e) {
    return (b[SR_Q5_K_QS + 32 * (e / 64) + e % 32] >> 4 * (e % 64 / 32) & 15) | (b[SR_Q5_K_QH + e % 32] >> e / 32 & 1)
                                                                                    << 4;
}
SR_BITS_FN int sr_k4_scale(SR_BITS_IN b, int group) {
    SR_BITS_IN s = b + SR_K4_SCALES;
    return group < 4 ? s[group] & 63 : (s[group + 4] & 15) | s[group - 4] >> 6 << 4;
}
SR_BITS_FN int sr_k4_min(SR_BITS_IN b, int group) {
    SR_BITS_IN s = b + SR_K4_SCALES;
    return group < 4 ? s[group + 4] & 63 : s[group + 4] >> 4 | s[group] >> 6 << 4;
}

/* Q6_K: 256 elements in groups of 16, 210 bytes     w = d * sc * code, code -32..31
 *     0                        128             192              208  210
 *     | ql[128]                | qh[64]        | int8 scales[16] | d  |
 * e = 128 h + 32 k + l: bits 0-3 in ql[64 h + 32 (k % 2) + l], lo for k < 2, else hi; bits 4-5 are bits 2k, 2k + 1 of
 * qh[32 h + l]; stored with 32 added.
 */
enum { SR_Q6_K_BYTES = 210, SR_Q6_K_QH = 128, SR_Q6_K_SCALES = 192, SR_Q6_K_D = 208 };
SR_BITS_FN int sr_q6_k_code(SR_BITS_IN b, int e) {
    int h = e / 128, k = e % 128 / 32, l = e % 32;
    int low = b[64 * h + 32 * (k % 2) + l] >> 4 * (k / 2) & 15;
    return (low | (b[SR_Q6_K_QH + 32 * h + l] >> 2 * k & 3) << 4) - 32;
}
SR_BITS_FN int sr_q6_k_scale(SR_BITS_IN b, int group) {
    int s = b[SR_Q6_K_SCALES + group];
    return s < 128 ? s : s - 256;
}

/* Q8_K: 256 elements, 292 bytes                     w = d * code
 *     0       4                                      260               292
 *     | f32 d | int8 code[256]                       | int16 sums[16]  |     sums of the codes in groups of 16
 */
enum { SR_Q8_K_BYTES = 292, SR_Q8_K_QS = 4, SR_Q8_K_SUMS = 260 };

#endif
