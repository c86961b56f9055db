/* Tile registers: 0 to 3 are sums, 4 and 5 x, 6 and 7 w, all of 16 rows of 64 bytes. Included after the instruction set
 * has been turned on. */
#ifndef SR_CPU_AMX_H
#define SR_CPU_AMX_H

#include <stdint.h>

/* The compilers' own intrinsics differ in what they say about memory, so: asm. */
#define TILE_LOAD_BY(reg, p, pitch)                                                                                    \
    __asm__ volatile("tileloadd (%0,%1,1), %%" reg : : "r"(p), "r"((int64_t)(pitch)) : "memory")
#define TILE_STORE_BY(p, reg, pitch)                                                                                   \
    __asm__ volatile("tilestored %%" reg ", (%0,%1,1)" : : "r"(p), "r"((int64_t)(pitch)) : "memory")
#define TILE_LOAD(reg, p) TILE_LOAD_BY(reg, p, 64)
#define TILE_STORE(p, reg) TILE_STORE_BY(p, reg, 64)
#define TILE_ZERO(reg) __asm__ volatile("tilezero %%" reg:)
#define TILE_DOT(sum, x, w) __asm__ volatile("tdpbssd %%" w ", %%" x ", %%" sum:)
#define TILE_DOT_LO(sum, x, w) __asm__ volatile("tdpbsud %%" w ", %%" x ", %%" sum:)
#define TILE_DOT_BF16(sum, x, w) __asm__ volatile("tdpbf16ps %%" w ", %%" x ", %%" sum:)

static inline void tiles_begin(void) {
    enum { ROWS = 16, BYTES = 64 };
    static const struct {
        uint8_t palette, start_row, zero[14];
        uint16_t row_bytes[16];
        uint8_t rows[16];
    } c = {.palette = 1,
           .row_bytes = {BYTES, BYTES, BYTES, BYTES, BYTES, BYTES, BYTES, BYTES},
           .rows = {ROWS, ROWS, ROWS, ROWS, ROWS, ROWS, ROWS, ROWS}};
    _Static_assert(sizeof c == 64, "as the processor reads it");
    __asm__ volatile("ldtilecfg %0" : : "m"(c));
}

/* Else every switch to another thread saves the tile registers. */
static inline void tiles_end(void) {
    __asm__ volatile("tilerelease" :);
}

/* Lane l of the result is 16 bytes of row 4l. */
static inline __attribute__((always_inline)) __m512i four_rows(const char *p, size_t pitch) {
    __m512i v = _mm512_castsi128_si512(_mm_loadu_si128((const void *)p));
    v = _mm512_inserti32x4(v, _mm_loadu_si128((const void *)(p + 4 * pitch)), 1);
    v = _mm512_inserti32x4(v, _mm_loadu_si128((const void *)(p + 8 * pitch)), 2);
    return _mm512_inserti32x4(v, _mm_loadu_si128((const void *)(p + 12 * pitch)), 3);
}

/* n dwords of 16 rows, rounded up to multiples of four, become columns of 16. */
static inline __attribute__((always_inline)) void transpose(const void *src, size_t pitch, int n, void *dst) {
    for (int i = 0; i < n; i += 4) {
        const char *p = (const char *)src + 4 * i;
        char *to = (char *)dst + 4 * 16 * i;
        __m512i a = four_rows(p, pitch), b = four_rows(p + pitch, pitch);
        __m512i c = four_rows(p + 2 * pitch, pitch), d = four_rows(p + 3 * pitch, pitch);
        __m512i ab0 = _mm512_unpacklo_epi32(a, b), ab1 = _mm512_unpackhi_epi32(a, b);
        __m512i cd0 = _mm512_unpacklo_epi32(c, d), cd1 = _mm512_unpackhi_epi32(c, d);
        _mm512_storeu_si512(to, _mm512_unpacklo_epi64(ab0, cd0));
        _mm512_storeu_si512(to + 64, _mm512_unpackhi_epi64(ab0, cd0));
        _mm512_storeu_si512(to + 128, _mm512_unpacklo_epi64(ab1, cd1));
        _mm512_storeu_si512(to + 192, _mm512_unpackhi_epi64(ab1, cd1));
    }
}

#endif
