/* What the int8 GEMM with AVX-512 makes of 16 rows, and how rows become columns. Behind the target. */
#ifndef SR_CPU_TILE_AVX512_H
#define SR_CPU_TILE_AVX512_H

#include <immintrin.h>

#include "cpu/gemm.h"

/* 16 rows, transposed: a vector holds one dword of each. Groups past SR_TILE_KC / group are not used. */
typedef struct sr_tile_avx512 {
    int8_t code[SR_TILE_KC / 4][SR_MR][4];
    int32_t init[SR_TILE_KC / 16][SR_MR]; /* -128 * sum of the group's codes */
    float scale[SR_TILE_KC / 16][SR_MR];
    float min[SR_TILE_KC / 16][SR_MR]; /* negated */
} sr_tile_avx512;
_Static_assert(2 * sizeof(sr_tile_avx512) == sr_gemm_avx512_tile_bytes, "a pair of tiles");

#define INLINE static inline __attribute__((always_inline))

/* Lane l of the result is 16 bytes of row 4l. */
INLINE __m512i four_rows(const char *p, size_t pitch) {
    __m512i v = _mm512_castsi128_si512(_mm_loadu_si128((const void *)p));
    v = _mm512_inserti32x4(v, _mm_loadu_si128((const void *)(p + 4 * pitch)), 1);
    v = _mm512_inserti32x4(v, _mm_loadu_si128((const void *)(p + 8 * pitch)), 2);
    return _mm512_inserti32x4(v, _mm_loadu_si128((const void *)(p + 12 * pitch)), 3);
}

/* Four dwords of 16 rows. */
struct quad {
    __m512i v[4];
};

/* In each lane of 16 bytes dword j of vector i becomes dword i of vector j. */
INLINE struct quad turned(__m512i a, __m512i b, __m512i c, __m512i d) {
    const __m512i ab0 = _mm512_unpacklo_epi32(a, b), ab1 = _mm512_unpackhi_epi32(a, b);
    const __m512i cd0 = _mm512_unpacklo_epi32(c, d), cd1 = _mm512_unpackhi_epi32(c, d);
    return (struct quad){{_mm512_unpacklo_epi64(ab0, cd0), _mm512_unpackhi_epi64(ab0, cd0),
                          _mm512_unpacklo_epi64(ab1, cd1), _mm512_unpackhi_epi64(ab1, cd1)}};
}

INLINE struct quad transpose4(const void *src, size_t pitch) {
    const char *p = src;
    return turned(four_rows(p, pitch), four_rows(p + pitch, pitch), four_rows(p + 2 * pitch, pitch),
                  four_rows(p + 3 * pitch, pitch));
}

#endif
