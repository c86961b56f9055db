/* Tile registers: 0 to 3 are sums, 4 and 5 a product's first operand, 6 and 7 the second. Included after the
 * instruction set has been turned on. */
#ifndef SR_CPU_AMX_H
#define SR_CPU_AMX_H

#include <stdint.h>

#include "cpu/tile_avx512.h"

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

/* Rows of sums and of the first operand, bytes of a row of it, and of a row of the second one and of sums. */
static inline void tiles_begin(int rows, int step, int bytes) {
    struct {
        uint8_t palette, start_row, zero[14];
        uint16_t row_bytes[16];
        uint8_t rows[16];
    } c = {.palette = 1};
    _Static_assert(sizeof c == 64, "as the processor reads it");
    for (int i = 0; i < 8; i++) {
        c.row_bytes[i] = (uint16_t)(i / 2 == 2 ? step : bytes);
        c.rows[i] = (uint8_t)(i < 6 ? rows : step / 4);
    }
    __asm__ volatile("ldtilecfg %0" : : "m"(c));
}

/* Else every switch to another thread saves the tile registers. */
static inline void tiles_end(void) {
    __asm__ volatile("tilerelease" :);
}

/* n dwords of 16 rows, rounded up to multiples of four, become columns of 16. */
INLINE void transpose(const void *src, size_t pitch, int n, void *dst) {
    for (int i = 0; i < n; i += 4) {
        const struct quad q = transpose4((const char *)src + 4 * i, pitch);
#pragma GCC unroll 4
        for (int j = 0; j < 4; j++) _mm512_storeu_si512((char *)dst + 64 * (i + j), q.v[j]);
    }
}

#endif
