/* What is made of 16 rows at once with AVX-512, tiles and panels, has in common: a row a lane. Behind the target. */
#ifndef SR_CPU_ROWS_AVX512_H
#define SR_CPU_ROWS_AVX512_H

#include "cpu/tile_avx512.h"

typedef __m512i v;

INLINE v v_set(int byte) {
    return _mm512_set1_epi8((char)byte);
}
INLINE v v_and(v a, v b) {
    return _mm512_and_si512(a, b);
}
INLINE v v_or(v a, v b) {
    return _mm512_or_si512(a, b);
}
/* Right for bits > 0, else left. */
INLINE v v_shift(v a, const int bits) {
    return bits > 0 ? _mm512_srli_epi32(a, (unsigned)bits) : _mm512_slli_epi32(a, (unsigned)-bits);
}
/* Bits `mask` of each byte after a shift of the dwords. */
INLINE v bits_of(v a, const int shift, const int mask) {
    return v_and(v_shift(a, shift), v_set(mask));
}

/* The f16 in the lower halves. */
INLINE __m512 halves(v a) {
    return _mm512_cvtph_ps(_mm512_cvtepi32_epi16(a));
}

/* Integer scales and mins of Q4_K and Q5_K, whose first 16 bytes `head` is: bytes of groups 0 .. 3 and 4 .. 7. */
struct k4 {
    v scale[2], min[2];
};
INLINE struct k4 k4_of(const struct quad head) {
    return (struct k4){
        {bits_of(head.v[1], 0, 0x3f), v_or(bits_of(head.v[3], 0, 15), bits_of(head.v[1], 2, 0x30))},
        {bits_of(head.v[2], 0, 0x3f), v_or(bits_of(head.v[3], 4, 15), bits_of(head.v[2], 2, 0x30))},
    };
}
/* Scale of group g of IQ4_XS, of the first 16 bytes: d and two bits a group, four bits a group, codes. */
INLINE v iq4_xs_scale(const struct quad head, const int g) {
    const v four = v_and(v_shift(head.v[1], 4 * g), _mm512_set1_epi32(15));
    const v two = v_and(v_shift(head.v[0], 12 + 2 * g), _mm512_set1_epi32(0x30));
    return _mm512_sub_epi32(v_or(four, two), _mm512_set1_epi32(32));
}

#endif
