/* GEMM of bfloat16 tiles with AVX-512 BF16: 32 rows by 12 columns, sums in f32 registers over a chunk of K.
 *
 * w is as stored. x is rounded to bfloat16, 8 bits of it: an error of 3e-6 of its energy, a fifteenth of what int8 x of
 * the other formats has. (A second column a token for the rest was twice as slow; KLD 4e-8 instead of 6e-6.) */
#if defined(__x86_64__)

#if defined(__clang__)
#pragma clang attribute push(__attribute__((target("avx512f,avx512bw,avx512vl,avx512dq,avx512bf16,avx2,fma"))),        \
                             apply_to = function)
#elif defined(__GNUC__)
#pragma GCC target("avx512f,avx512bw,avx512vl,avx512dq,avx512bf16,avx2,fma")
#endif

#include <immintrin.h>
#include <string.h>

#include "base/half.h"
#include "cpu/gemm.h"

#include "cpu/transpose_avx512.h"

enum { KC = SR_TILE_KC, MR = SR_MR, NR = sr_gemm_bf16_columns };

bool sr_gemm_bf16_usable(void) {
    return __builtin_cpu_supports("avx512bf16");
}

static int64_t padded(int64_t K) {
    return (K + KC - 1) / KC * KC;
}

/* Blocks of NR columns, each [padded K / 2][NR][2]; the last block is full too. */
size_t sr_gemm_bf16_packed_bytes(int T, int64_t K) {
    return ((size_t)T + NR - 1) / NR * NR * (size_t)padded(K) * sizeof(uint16_t);
}

void sr_gemm_bf16_pack_x(const float *x, int64_t ld_x, int T, int64_t K, int item, void *packed) {
    uint32_t *to = (uint32_t *)packed + (size_t)item * NR * (size_t)padded(K) / 2;
    for (int c = 0; c < NR; c++, to++) {
        const float *row = x + (item * NR + c) * ld_x;
        for (int64_t k = 0; k < padded(K); k += 16) {
            const int64_t left = item * NR + c < T ? K - k : 0;
            const __mmask16 some = (__mmask16)(left >= 16 ? 0xffff : left > 0 ? (1 << left) - 1 : 0);
            uint32_t pair[8];
            _mm256_storeu_si256((void *)pair, (__m256i)_mm512_cvtneps_pbh(_mm512_maskz_loadu_ps(some, row + k)));
            for (int i = 0; i < 8; i++) to[(k / 2 + i) * NR] = pair[i];
        }
    }
}

struct sum {
    __m512 r0, r1;
};

INLINE struct sum step(struct sum a, const uint16_t *x, __m512i w0, __m512i w1) {
    int32_t two;
    memcpy(&two, x, sizeof two);
    __m512bh v = (__m512bh)_mm512_set1_epi32(two);
    return (struct sum){_mm512_dpbf16_ps(a.r0, (__m512bh)w0, v), _mm512_dpbf16_ps(a.r1, (__m512bh)w1, v)};
}

/* acc[n_column][SR_PAIR] (+)= panel[SR_PAIR][KC] * the columns of packed x, from column k0 of K on. */
void sr_gemm_bf16(const uint16_t (*panel)[KC], int64_t k0, int64_t K, const void *packed, int n_column, bool first,
                  float *acc) {
    __m512i w[KC / 2][2];
    for (int i = 0; i < KC / 2; i += 4)
        for (int h = 0; h < 2; h++) {
            const struct quad q = transpose4(panel[h * MR] + 2 * i, sizeof *panel);
            for (int j = 0; j < 4; j++) w[i + j][h] = q.v[j];
        }
    for (int c0 = 0; c0 < n_column; c0 += NR) {
        const uint16_t *x = (const uint16_t *)packed + (size_t)c0 * (size_t)padded(K) + (size_t)k0 * NR;
        const struct sum zero = {_mm512_setzero_ps(), _mm512_setzero_ps()};
        struct sum s0 = zero, s1 = zero, s2 = zero, s3 = zero, s4 = zero, s5 = zero, s6 = zero, s7 = zero, s8 = zero,
                   s9 = zero, s10 = zero, s11 = zero; /* names, since arrays would live in memory */
        for (int i = 0; i < KC / 2; i++, x += 2 * NR) {
            __m512i w0 = w[i][0], w1 = w[i][1];
            s0 = step(s0, x, w0, w1), s1 = step(s1, x + 2, w0, w1), s2 = step(s2, x + 4, w0, w1);
            s3 = step(s3, x + 6, w0, w1), s4 = step(s4, x + 8, w0, w1), s5 = step(s5, x + 10, w0, w1);
            s6 = step(s6, x + 12, w0, w1), s7 = step(s7, x + 14, w0, w1), s8 = step(s8, x + 16, w0, w1);
            s9 = step(s9, x + 18, w0, w1), s10 = step(s10, x + 20, w0, w1), s11 = step(s11, x + 22, w0, w1);
        }
        const struct sum all[NR] = {s0, s1, s2, s3, s4, s5, s6, s7, s8, s9, s10, s11};
        for (int c = 0; c < NR && c0 + c < n_column; c++) {
            float *y = acc + (size_t)(c0 + c) * SR_PAIR;
            __m512 y0 = first ? zero.r0 : _mm512_loadu_ps(y), y1 = first ? zero.r1 : _mm512_loadu_ps(y + MR);
            _mm512_storeu_ps(y, _mm512_add_ps(y0, all[c].r0));
            _mm512_storeu_ps(y + MR, _mm512_add_ps(y1, all[c].r1));
        }
    }
}

#if defined(__clang__)
#pragma clang attribute pop
#endif

#endif
