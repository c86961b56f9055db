/* int8 GEMM with AVX-512 VNNI: 32 rows by up to 12 columns. The numbers behind each choice are in bench/tile.c.
 *
 * vpdpbusd wants one unsigned operand. x is that one, as code + 128, and the accumulators of a group start at `init`,
 * which takes the 128 back exactly: sum(c * (x + 128)) - 128 * sum(c) = sum(c * x). */
#if defined(__x86_64__)

#include "cpu/target_avx512.h"

#include <immintrin.h>
#include <string.h>

#include "cpu/gemm.h"

#include "cpu/tile_avx512.h"

enum { KC = SR_TILE_KC, MR = SR_MR, NR = sr_gemm_avx512_pack_columns };

/* Packed x: chunk of KC columns of K after chunk, and in it blocks of 12 columns of T (the last one 4, 8 or 12):
 *   code uint8 [KC/4][nr][4], then in another place, since most formats read little of it:
 *   side f32 [KC/256][32][nr], see sr_pack_side. */
static int padded(int T) {
    return (T + 3) / 4 * 4;
}

static int width(int T, int t0) {
    return T - t0 >= NR ? NR : padded(T - t0);
}

struct columns {
    const uint8_t *code;
    const float *side;
};

static struct columns columns_at(const void *packed, int T, int64_t n_block, int64_t chunk, int t0) {
    int64_t n_chunk = (n_block * SR_KC + KC - 1) / KC, t = padded(T);
    const uint8_t *code = (const uint8_t *)packed + (chunk * t + t0) * KC;
    const float *side = (const float *)(const void *)((const uint8_t *)packed + n_chunk * t * KC);
    return (struct columns){code, side + (chunk * t + t0) * (KC / SR_KC * SR_SIDE)};
}

size_t sr_gemm_avx512_packed_bytes(int T, int64_t n_block) {
    size_t n_chunk = ((size_t)n_block * SR_KC + KC - 1) / KC;
    return n_chunk * (size_t)padded(T) * (KC + KC / SR_KC * SR_SIDE * sizeof(float));
}

/* ---- pack ---- */

/* n rounded up to whole quads: a panel has room for them. */
INLINE void transpose(const float *src, size_t pitch, int n, float (*dst)[MR], __m512i flip) {
    for (int i = 0; i < n; i += 4) {
        struct quad q = transpose4(src + i, pitch);
#pragma GCC unroll 4
        for (int j = 0; j < 4; j++) _mm512_storeu_si512(dst[i + j], _mm512_xor_si512(q.v[j], flip));
    }
}

void sr_gemm_avx512_pack_w(const sr_panel *p, int half, int group, bool has_min, void *tile) {
    const __m512i by128 = _mm512_set1_epi8(-128), zero = _mm512_setzero_si512(), sign = _mm512_set1_epi32(INT32_MIN);
    sr_tile_avx512 *w = (sr_tile_avx512 *)tile + half;
    for (int g = 0; g < KC / group; g++) {
        __m512i sum = zero;
        for (int k = g * group; k < (g + 1) * group; k += 16) {
            struct quad q = transpose4(p->code[0] + k, sizeof p->code[0]);
#pragma GCC unroll 4
            for (int j = 0; j < 4; j++) {
                _mm512_storeu_si512(w->code[k / 4 + j], q.v[j]);
                sum = _mm512_dpbusd_epi32(sum, by128, q.v[j]);
            }
        }
        _mm512_storeu_si512(w->init[g], _mm512_sub_epi32(zero, sum));
    }
    transpose(p->scale[0], sizeof p->scale[0], KC / group, w->scale, zero);
    if (has_min) transpose(p->min[0], sizeof p->min[0], KC / group, w->min, sign);
}

static void pack_code(const int8_t *const *from, int nr, uint8_t *to) {
    const __m128i flip = _mm_set1_epi8(-128);
    for (int t = 0; t < nr; t += 4)
        for (int k = 0; k < SR_KC; k += 16) {
            __m128i a = _mm_loadu_si128((const void *)(from[t] + k));
            __m128i b = _mm_loadu_si128((const void *)(from[t + 1] + k));
            __m128i c = _mm_loadu_si128((const void *)(from[t + 2] + k));
            __m128i d = _mm_loadu_si128((const void *)(from[t + 3] + k));
            __m128i ab0 = _mm_unpacklo_epi32(a, b), ab1 = _mm_unpackhi_epi32(a, b);
            __m128i cd0 = _mm_unpacklo_epi32(c, d), cd1 = _mm_unpackhi_epi32(c, d);
            __m128i v[4] = {_mm_unpacklo_epi64(ab0, cd0), _mm_unpackhi_epi64(ab0, cd0), _mm_unpacklo_epi64(ab1, cd1),
                            _mm_unpackhi_epi64(ab1, cd1)};
            for (int j = 0; j < 4; j++)
                _mm_storeu_si128((void *)(to + ((k / 4 + j) * nr + t) * 4), _mm_xor_si128(v[j], flip));
        }
}

void sr_gemm_avx512_pack_x(const sr_x8 *x, int item, void *packed) {
    static const int8_t zero_code[SR_KC];
    static const int16_t zero_sum[SR_KC / SR_SUM];
    int t0 = item * NR, nr = width(x->T, t0);
    for (int64_t b = 0; b < x->n_block; b++) {
        struct columns c = columns_at(packed, x->T, x->n_block, b * SR_KC / KC, t0);
        int64_t in = b * SR_KC % KC / SR_KC;
        float *side = (float *)c.side + in * SR_SIDE * nr;
        const int8_t *code[NR];
        for (int t = 0; t < nr; t++) {
            bool real = t0 + t < x->T;
            int64_t from = (t0 + t) * x->n_block + b;
            code[t] = real ? x->code + from * SR_KC : zero_code;
            sr_pack_side(real ? x->sum + from * (SR_KC / SR_SUM) : zero_sum, real ? x->scale[from] : 0, nr, side + t);
        }
        pack_code(code, nr, (uint8_t *)c.code + in * SR_KC * nr);
    }
}

/* ---- kernels ---- */

/* Named accumulators instead of an array: only so do both compilers keep them in registers. */
#define COLUMNS(f)                                                                                                     \
    do {                                                                                                               \
        f(0);                                                                                                          \
        f(1);                                                                                                          \
        f(2);                                                                                                          \
        f(3);                                                                                                          \
        if (nr > 4) {                                                                                                  \
            f(4);                                                                                                      \
            f(5);                                                                                                      \
        }                                                                                                              \
        if (nr > 6) {                                                                                                  \
            f(6);                                                                                                      \
            f(7);                                                                                                      \
        }                                                                                                              \
        if (nr > 8) {                                                                                                  \
            f(8);                                                                                                      \
            f(9);                                                                                                      \
            f(10);                                                                                                     \
            f(11);                                                                                                     \
        }                                                                                                              \
    } while (0)

struct acc {
    __m512i r0, r1;
};
struct sum {
    __m512 r0, r1;
};

/* Asm, because gcc 12 surrounds the intrinsic with register copies that cost as much as the instruction. */
INLINE __m512i dot(__m512i a, __m512i x, __m512i w) {
    __asm__("vpdpbusd %2, %1, %0" : "+v"(a) : "v"(x), "v"(w));
    return a;
}

/* Volatile, so that each accumulator is loaded (a free port) and not copied from the first (a busy one). */
INLINE struct acc start(const sr_tile_avx512 *w, int g) {
    return (struct acc){*(const volatile __m512i *)w[0].init[g], *(const volatile __m512i *)w[1].init[g]};
}

INLINE struct acc step(struct acc a, const uint8_t *x, __m512i w0, __m512i w1) {
    int32_t four;
    memcpy(&four, x, sizeof four);
    __m512i v = _mm512_set1_epi32(four);
    return (struct acc){dot(a.r0, v, w0), dot(a.r1, v, w1)};
}

INLINE struct sum scaled(struct sum f, struct acc a, struct sum s) {
    return (struct sum){_mm512_fmadd_ps(_mm512_cvtepi32_ps(a.r0), s.r0, f.r0),
                        _mm512_fmadd_ps(_mm512_cvtepi32_ps(a.r1), s.r1, f.r1)};
}

INLINE struct sum plus(struct sum f, float x, struct sum s) {
    __m512 v = _mm512_set1_ps(x);
    return (struct sum){_mm512_fmadd_ps(v, s.r0, f.r0), _mm512_fmadd_ps(v, s.r1, f.r1)};
}

INLINE struct sum times(struct sum s, float x) {
    __m512 v = _mm512_set1_ps(x);
    return (struct sum){_mm512_mul_ps(s.r0, v), _mm512_mul_ps(s.r1, v)};
}

INLINE struct sum load_sum(const float *r0, const float *r1) {
    return (struct sum){_mm512_loadu_ps(r0), _mm512_loadu_ps(r1)};
}

INLINE void store_sum(float *y, struct sum f) {
    _mm512_storeu_ps(y, f.r0);
    _mm512_storeu_ps(y + MR, f.r1);
}

/* y[nr][SR_PAIR] += w * x over n_block blocks. pitch: columns that x's block of columns holds, of which a kernel may
 * take a part. */
#define ARGS const sr_tile_avx512 *w, struct columns x, int pitch, int n_block, sr_ahead next, float *y

/* One scale a block: all registers are integer accumulators, and the sums are in y. */
INLINE void kernel_256(const int nr, const bool has_min, ARGS) {
    struct acc c0, c1, c2, c3, c4, c5, c6, c7, c8, c9, c10, c11;
    for (int b = 0; b < n_block; b++, x.side += SR_SIDE * pitch) {
#define START(i) c##i = start(w, b)
        COLUMNS(START);
        sr_prefetch(next, b, KC / SR_KC);
        for (int k = b * SR_KC / 4; k < (b + 1) * SR_KC / 4; k++, x.code += 4 * pitch) {
            __m512i w0 = _mm512_loadu_si512(w[0].code[k]), w1 = _mm512_loadu_si512(w[1].code[k]);
#define STEP(i) c##i = step(c##i, x.code + 4 * i, w0, w1)
            COLUMNS(STEP);
        }
        struct sum s = load_sum(w[0].scale[b], w[1].scale[b]), f;
        const float *xs = x.side + SR_SIDE_SCALE * pitch;
#define FINISH(i)                                                                                                      \
    f = load_sum(y + i * SR_PAIR, y + i * SR_PAIR + MR);                                                               \
    store_sum(y + i * SR_PAIR, scaled(f, c##i, times(s, xs[i])))
        COLUMNS(FINISH);
        if (has_min) {
            const float *total = x.side + sr_side_sum(SR_KC) * pitch;
            s = load_sum(w[0].min[b], w[1].min[b]);
#define FINISH_MIN(i)                                                                                                  \
    f = load_sum(y + i * SR_PAIR, y + i * SR_PAIR + MR);                                                               \
    store_sum(y + i * SR_PAIR, plus(f, total[i] * xs[i], s))
            COLUMNS(FINISH_MIN);
        }
    }
}

/* Smaller groups: half the columns, so that the sums of a block have registers too. */
INLINE void kernel_groups(const int nr, const int group, const bool has_min, ARGS) {
    struct acc c0, c1, c2, c3, c4, c5, c6, c7, c8, c9, c10, c11;
    struct sum f0, f1, f2, f3, f4, f5, f6, f7, f8, f9, f10, f11;
    const int n_group = SR_KC / group;
    for (int b = 0; b < n_block; b++, x.side += SR_SIDE * pitch) {
        const float *total = x.side + sr_side_sum(group) * pitch, *xs = x.side + SR_SIDE_SCALE * pitch;
#define CLEAR(i) f##i = (struct sum){_mm512_setzero_ps(), _mm512_setzero_ps()}
        COLUMNS(CLEAR);
        for (int g = b * n_group; g < (b + 1) * n_group; g++, total += pitch) {
            sr_prefetch(next, g, KC / group);
#define START_GROUP(i) c##i = start(w, g)
            COLUMNS(START_GROUP);
#pragma GCC unroll 8
            for (int k = g * group / 4; k < (g + 1) * group / 4; k++, x.code += 4 * pitch) {
                __m512i w0 = _mm512_loadu_si512(w[0].code[k]), w1 = _mm512_loadu_si512(w[1].code[k]);
                COLUMNS(STEP);
            }
            struct sum s = load_sum(w[0].scale[g], w[1].scale[g]);
#define GATHER(i) f##i = scaled(f##i, c##i, s)
            COLUMNS(GATHER);
            if (has_min) {
                s = load_sum(w[0].min[g], w[1].min[g]);
#define GATHER_MIN(i) f##i = plus(f##i, total[i], s)
                COLUMNS(GATHER_MIN);
            }
        }
        struct sum old;
#define STORE(i)                                                                                                       \
    old = load_sum(y + i * SR_PAIR, y + i * SR_PAIR + MR);                                                             \
    store_sum(y + i * SR_PAIR, plus(old, xs[i], f##i))
        COLUMNS(STORE);
    }
}

typedef void kernel(ARGS);

/* A group of columns as kernels: with and without min, of a whole, 8 and 4 columns wide block. */
#define KERNEL_256(n)                                                                                                  \
    static void g256_x##n(ARGS) {                                                                                      \
        kernel_256(n, false, w, x, pitch, n_block, next, y);                                                           \
    }                                                                                                                  \
    static void g256_min_x##n(ARGS) {                                                                                  \
        kernel_256(n, true, w, x, pitch, n_block, next, y);                                                            \
    }
KERNEL_256(12)
KERNEL_256(8)
KERNEL_256(4)

#define KERNEL(group, n)                                                                                               \
    static void g##group##_x##n(ARGS) {                                                                                \
        kernel_groups(n, group, false, w, x, pitch, n_block, next, y);                                                 \
    }                                                                                                                  \
    static void g##group##_min_x##n(ARGS) {                                                                            \
        kernel_groups(n, group, true, w, x, pitch, n_block, next, y);                                                  \
    }
KERNEL(16, 6)
KERNEL(16, 4)
KERNEL(32, 6)
KERNEL(32, 4)
KERNEL(64, 6)
KERNEL(64, 4)
KERNEL(128, 6)
KERNEL(128, 4)

/* By log2(group) - 4, has_min, and width / 4 - 1; columns: that one call takes. */
static const struct {
    kernel *run;
    int columns;
} kernels[5][2][3] = {
#define ROW(group)                                                                                                     \
    {                                                                                                                  \
        {{g##group##_x4, 4}, {g##group##_x4, 4}, {g##group##_x6, 6}}, {                                                \
            {g##group##_min_x4, 4}, {g##group##_min_x4, 4}, {                                                          \
                g##group##_min_x6, 6                                                                                   \
            }                                                                                                          \
        }                                                                                                              \
    }
    ROW(16),
    ROW(32),
    ROW(64),
    ROW(128),
    {{{g256_x4, 4}, {g256_x8, 8}, {g256_x12, 12}}, {{g256_min_x4, 4}, {g256_min_x8, 8}, {g256_min_x12, 12}}}};

void sr_gemm_avx512_gemm_i8(const void *tile, int group, bool has_min, const sr_x8 *x, const void *packed, int64_t k0,
                            bool first, float *acc, sr_ahead next) {
    int64_t left = x->n_block - k0 / SR_KC;
    int n_block = left < KC / SR_KC ? (int)left : KC / SR_KC;
    for (int t0 = 0; t0 < x->T; t0 += NR) {
        int nr = width(x->T, t0), real = x->T - t0 < nr ? x->T - t0 : nr;
        int row = __builtin_ctz((unsigned)group) - 4, n = kernels[row][has_min][nr / 4 - 1].columns;
        struct columns c = columns_at(packed, x->T, x->n_block, k0 / KC, t0);
        float edge[NR * SR_PAIR], *y = real < nr ? edge : acc + (size_t)t0 * SR_PAIR;
        if (first || y == edge) memset(y, 0, sizeof *y * (size_t)(nr * SR_PAIR));
        if (!first && y == edge) memcpy(edge, acc + (size_t)t0 * SR_PAIR, sizeof *acc * (size_t)(real * SR_PAIR));
        for (int t = 0; t < nr; t += n)
            kernels[row][has_min][nr / 4 - 1].run(tile, (struct columns){c.code + 4 * t, c.side + t}, nr, n_block,
                                                  sr_part_of(next, t0 + t, t0 + t + n, padded(x->T)), y + t * SR_PAIR);
        if (y == edge) memcpy(acc + (size_t)t0 * SR_PAIR, edge, sizeof *acc * (size_t)(real * SR_PAIR));
    }
}

/* 16 independent chains. */
void sr_gemm_avx512_probe(int64_t n) {
    enum { CHAINS = 16, STEPS = sr_gemm_avx512_probe_ops / (128 * CHAINS) };
    __m512i x = _mm512_set1_epi32(0x01020304);
    for (; n > 0; n--)
        for (int i = 0; i < STEPS; i++)
            __asm__ volatile("vpdpbusd %0, %0, %%zmm16\n\tvpdpbusd %0, %0, %%zmm17\n\t"
                             "vpdpbusd %0, %0, %%zmm18\n\tvpdpbusd %0, %0, %%zmm19\n\t"
                             "vpdpbusd %0, %0, %%zmm20\n\tvpdpbusd %0, %0, %%zmm21\n\t"
                             "vpdpbusd %0, %0, %%zmm22\n\tvpdpbusd %0, %0, %%zmm23\n\t"
                             "vpdpbusd %0, %0, %%zmm24\n\tvpdpbusd %0, %0, %%zmm25\n\t"
                             "vpdpbusd %0, %0, %%zmm26\n\tvpdpbusd %0, %0, %%zmm27\n\t"
                             "vpdpbusd %0, %0, %%zmm28\n\tvpdpbusd %0, %0, %%zmm29\n\t"
                             "vpdpbusd %0, %0, %%zmm30\n\tvpdpbusd %0, %0, %%zmm31"
                             :
                             : "v"(x)
                             : "xmm16", "xmm17", "xmm18", "xmm19", "xmm20", "xmm21", "xmm22", "xmm23", "xmm24", "xmm25",
                               "xmm26", "xmm27", "xmm28", "xmm29", "xmm30", "xmm31");
}

#include "cpu/target_end.h"

#endif
