/* bfloat16 GEMM with AMX: tiles of 16 rows by 16 columns by 32 steps of K, sums in f32. x is rounded to bfloat16, which
 * costs a hundredth of what 8 bits of it do. A weight that is no bfloat16 is the sum of two, and multiplied twice. */
#if defined(__x86_64__)

#include "cpu/target_amx.h"

#include <cpuid.h>
#include <immintrin.h>
#include <string.h>

#include "base/map.h"
#include "cpu/amx.h"
#include "cpu/gemm.h"

enum {
    KC = SR_TILE_KC,
    TILE = 16, /* columns of x, and rows of w */
    STEP = 32, /* of K in a tile */
    BYTES = TILE * STEP * 2
};

/* Packed x: chunk of KC columns of K after chunk, and in it blocks of 16 columns of T, an even number of them:
 * [KC / STEP][TILE][STEP]. */
static int blocks_of(int T) {
    return (T + SR_BF16_COLUMNS - 1) / SR_BF16_COLUMNS * 2;
}

static uint16_t *block_at(const void *packed, int T, int64_t chunk, int block) {
    return (uint16_t *)(uintptr_t)packed + (chunk * blocks_of(T) + block) * KC * TILE;
}

bool sr_gemm_amx_bf16_usable(void) {
    enum { AMX_BF16 = 1 << 22, AVX512_BF16 = 1 << 5 };
    unsigned a, b, c, d;
    if (!__get_cpuid_count(7, 0, &a, &b, &c, &d) || !(d & AMX_BF16)) return false;
    return __get_cpuid_count(7, 1, &a, &b, &c, &d) && (a & AVX512_BF16) && sr_tiles_permitted();
}

size_t sr_gemm_amx_bf16_bytes(int T, int64_t K) {
    return (size_t)((K + KC - 1) / KC) * (size_t)blocks_of(T) * KC * TILE * sizeof(uint16_t);
}

/* 32 numbers, those from n on as zeros. */
static inline __m512i halves(const float *x, int n) {
    const __mmask16 low = n >= 16 ? 0xffff : (__mmask16)((1u << n) - 1);
    const __mmask16 high = n >= 32 ? 0xffff : n > 16 ? (__mmask16)((1u << (n - 16)) - 1) : 0;
    return (__m512i)_mm512_cvtne2ps_pbh(_mm512_maskz_loadu_ps(high, x + 16), _mm512_maskz_loadu_ps(low, x));
}

void sr_gemm_amx_bf16_pack_x(const float *x, int64_t ld_x, int T, int64_t K, int item, void *packed) {
    for (int64_t chunk = 0; chunk * KC < K; chunk++)
        for (int t = item * SR_BF16_COLUMNS; t < (item + 1) * SR_BF16_COLUMNS; t++) {
            uint16_t *to = block_at(packed, T, chunk, t / TILE) + t % TILE * STEP;
            for (int k = 0; k < KC; k += STEP, to += TILE * STEP) {
                const int64_t left = t < T ? K - chunk * KC - k : 0;
                _mm512_storeu_si512(to, left > 0 ? halves(x + t * ld_x + chunk * KC + k, left < STEP ? (int)left : STEP)
                                                 : _mm512_setzero_si512());
            }
        }
}

/* 16 rows of w, transposed: [KC / 2][TILE] pairs. */
typedef struct tile {
    uint32_t pair[KC / 2][TILE];
    uint8_t pad[64];
} tile;

/* high + low is the panel, to 16 bits. Whether any of low is not zero. */
static bool pack_w(const float (*panel)[KC], tile *high, tile *low) {
    _Alignas(64) uint16_t h[TILE][KC + STEP], l[TILE][KC + STEP]; /* rows begin in different lines of the cache */
    __m512i any = _mm512_setzero_si512();
    for (int r = 0; r < TILE; r++)
        for (int k = 0; k < KC; k += STEP) {
            const __m512 a = _mm512_loadu_ps(panel[r] + k), b = _mm512_loadu_ps(panel[r] + k + 16);
            const __m512i v = (__m512i)_mm512_cvtne2ps_pbh(b, a);
            const __m512i lo = _mm512_slli_epi32(_mm512_cvtepu16_epi32(_mm512_castsi512_si256(v)), 16);
            const __m512i hi = _mm512_slli_epi32(_mm512_cvtepu16_epi32(_mm512_extracti64x4_epi64(v, 1)), 16);
            const __m512i rest = (__m512i)_mm512_cvtne2ps_pbh(_mm512_sub_ps(b, _mm512_castsi512_ps(hi)),
                                                              _mm512_sub_ps(a, _mm512_castsi512_ps(lo)));
            _mm512_store_si512(h[r] + k, v);
            _mm512_store_si512(l[r] + k, rest);
            any = _mm512_or_si512(any, rest);
        }
    transpose(h, sizeof h[0], KC / 2, high->pair);
    if (_mm512_test_epi16_mask(any, _mm512_set1_epi16(0x7fff)) == 0) return false;
    transpose(l, sizeof l[0], KC / 2, low->pair);
    return true;
}

static inline __attribute__((always_inline)) void products(const char *w0, const char *w1, const char *x0,
                                                           const char *x1) {
#pragma GCC unroll 8
    for (int at = 0; at < KC / STEP * BYTES; at += BYTES) {
        TILE_LOAD("tmm6", w0 + at);
        TILE_LOAD("tmm4", x0 + at);
        TILE_LOAD("tmm7", w1 + at);
        TILE_LOAD("tmm5", x1 + at);
        TILE_DOT_BF16("tmm0", "tmm4", "tmm6");
        TILE_DOT_BF16("tmm1", "tmm4", "tmm7");
        TILE_DOT_BF16("tmm2", "tmm5", "tmm6");
        TILE_DOT_BF16("tmm3", "tmm5", "tmm7");
    }
}

void sr_gemm_amx_bf16(const float (*panel)[SR_TILE_KC], const uint8_t *stored, int64_t stride, const void *packed,
                      int T, int64_t k0, bool first, float *acc) {
    enum { PITCH = SR_PAIR * (int)sizeof(float), HALF = PITCH / 2 };
    _Alignas(64) tile high[2], low[2];
    _Alignas(64) float edge[2 * TILE][SR_PAIR];
    bool two = false, other = false;
    if (stored) {
        transpose(stored, (size_t)stride, KC / 2, high[0].pair);
        transpose(stored + TILE * stride, (size_t)stride, KC / 2, high[1].pair);
    } else {
        two = pack_w(panel, &high[0], &low[0]), other = pack_w(panel + TILE, &high[1], &low[1]);
        if (two != other) memset(two ? &low[1] : &low[0], 0, sizeof *low);
    }
    tiles_begin(TILE, 64, 64);
    for (int t = 0; t < T; t += 2 * TILE) {
        const char *x0 = (const char *)block_at(packed, T, k0 / KC, t / TILE), *x1 = x0 + KC / STEP * BYTES;
        const int n = T - t < 2 * TILE ? T - t : 2 * TILE;
        float *own = acc + (int64_t)t * SR_PAIR;
        char *y = (char *)(n < 2 * TILE ? edge[0] : own);
        if (n < 2 * TILE && !first) memcpy(edge, own, (size_t)n * PITCH);
        if (first) {
            TILE_ZERO("tmm0");
            TILE_ZERO("tmm1");
            TILE_ZERO("tmm2");
            TILE_ZERO("tmm3");
        } else {
            TILE_LOAD_BY("tmm0", y, PITCH);
            TILE_LOAD_BY("tmm1", y + HALF, PITCH);
            TILE_LOAD_BY("tmm2", y + TILE * PITCH, PITCH);
            TILE_LOAD_BY("tmm3", y + TILE * PITCH + HALF, PITCH);
        }
        products((const char *)high[0].pair, (const char *)high[1].pair, x0, x1);
        if (two || other) products((const char *)low[0].pair, (const char *)low[1].pair, x0, x1);
        TILE_STORE_BY(y, "tmm0", PITCH);
        TILE_STORE_BY(y + HALF, "tmm1", PITCH);
        TILE_STORE_BY(y + TILE * PITCH, "tmm2", PITCH);
        TILE_STORE_BY(y + TILE * PITCH + HALF, "tmm3", PITCH);
        if (n < 2 * TILE) memcpy(own, edge, (size_t)n * PITCH);
    }
    tiles_end();
}

#include "cpu/target_end.h"

#endif
