/* int8 GEMM with AMX: tiles of 16 rows by 16 columns by up to 64 steps of K. The numbers behind each choice are in
 * bench/tile.c.
 *
 * tdpbssd takes signed by signed, eight times as many a cycle as vpdpbusd, and leaves the sums in a tile register whose
 * only way to the vector unit is through L1. So everything here is about hiding the vector work on one result (convert,
 * scale, add) behind the tile work on the next one. */
#if defined(__linux__) && !defined(_GNU_SOURCE)
#define _GNU_SOURCE
#endif
#if defined(__x86_64__)

#if defined(__clang__)
#pragma clang attribute push(                                                                                          \
    __attribute__((target("amx-tile,amx-int8,avx512f,avx512bw,avx512vl,avx512dq,avx2,fma,f16c"))),                     \
    apply_to = function)
#elif defined(__GNUC__)
#pragma GCC target("amx-tile,amx-int8,avx512f,avx512bw,avx512vl,avx512dq,avx2,fma,f16c")
#endif

#include <cpuid.h>
#include <immintrin.h>
#include <string.h>
#if defined(__linux__)
#include <sys/syscall.h>
#include <unistd.h>
#endif

#include "cpu/gemm.h"

#define INLINE static inline __attribute__((always_inline))

enum { KC = SR_TILE_KC, MR = SR_MR, NR = sr_gemm_amx_pack_columns, STEP = 64, TILE = 16 };

/* 16 rows, transposed: what tdpbssd wants as its second operand. Groups past KC / group are not used. */
struct tile {
    int8_t code[KC / 4][MR][4];
    float scale[KC / 16][MR];
    float min[KC / 16][MR]; /* negated */
};
_Static_assert(2 * sizeof(struct tile) == sr_gemm_amx_tile_bytes, "a pair of tiles");

/* Packed x: chunk of KC columns of K after chunk, and in it blocks of 16 columns of T (a multiple of two):
 *   code int8 [KC/64][16][64], then in another place, since most formats read little of it:
 *   side f32 [KC/256][32][16]: sums of the codes of each group of 16, 32, 64, 128 and 256, then the scale. */
enum { SIDE = 32, SIDE_SCALE = SIDE - 1 };

static int side_sum(int group) {
    return SIDE - 2 * (SR_KC / group);
}

static int padded(int T) {
    return (T + NR - 1) / NR * NR;
}

struct columns {
    const int8_t *code;
    const float *side;
};

static struct columns columns_at(const void *packed, int T, int64_t n_block, int64_t chunk, int t0) {
    int64_t n_chunk = (n_block * SR_KC + KC - 1) / KC, t = padded(T);
    const int8_t *code = (const int8_t *)packed + (chunk * t + t0) * KC;
    const float *side = (const float *)(const void *)((const int8_t *)packed + n_chunk * t * KC);
    return (struct columns){code, side + (chunk * t + t0) * (KC / SR_KC * SIDE)};
}

size_t sr_gemm_amx_packed_bytes(int T, int64_t n_block) {
    size_t n_chunk = ((size_t)n_block * SR_KC + KC - 1) / KC;
    return n_chunk * (size_t)padded(T) * (KC + KC / SR_KC * SIDE * sizeof(float));
}

bool sr_gemm_amx_usable(void) {
#if defined(__linux__) && defined(SYS_arch_prctl)
    enum { REQ_XCOMP_PERM = 0x1023, XTILEDATA = 18, AMX_TILE = 1 << 24, AMX_INT8 = 1 << 25 };
    unsigned a, b, c, d;
    if (!__get_cpuid_count(7, 0, &a, &b, &c, &d) || !(d & AMX_TILE) || !(d & AMX_INT8)) return false;
    /* The kernel saves tile registers only for processes that ask; it refuses where it cannot. */
    return syscall(SYS_arch_prctl, REQ_XCOMP_PERM, XTILEDATA) == 0;
#else
    return false;
#endif
}

/* ---- pack ---- */

/* Lane l of the result is 16 bytes of row 4l. */
INLINE __m512i four_rows(const char *p, size_t pitch) {
    __m512i v = _mm512_castsi128_si512(_mm_loadu_si128((const void *)p));
    v = _mm512_inserti32x4(v, _mm_loadu_si128((const void *)(p + 4 * pitch)), 1);
    v = _mm512_inserti32x4(v, _mm_loadu_si128((const void *)(p + 8 * pitch)), 2);
    return _mm512_inserti32x4(v, _mm_loadu_si128((const void *)(p + 12 * pitch)), 3);
}

/* n dwords of 16 rows, rounded up to multiples of four: a panel has room for them. */
INLINE void transpose(const void *src, size_t pitch, int n, void *dst, __m512i flip) {
    for (int i = 0; i < n; i += 4) {
        const char *p = (const char *)src + 4 * i;
        char *to = (char *)dst + 4 * MR * i;
        __m512i a = four_rows(p, pitch), b = four_rows(p + pitch, pitch);
        __m512i c = four_rows(p + 2 * pitch, pitch), d = four_rows(p + 3 * pitch, pitch);
        __m512i ab0 = _mm512_unpacklo_epi32(a, b), ab1 = _mm512_unpackhi_epi32(a, b);
        __m512i cd0 = _mm512_unpacklo_epi32(c, d), cd1 = _mm512_unpackhi_epi32(c, d);
        _mm512_storeu_si512(to, _mm512_xor_si512(_mm512_unpacklo_epi64(ab0, cd0), flip));
        _mm512_storeu_si512(to + 64, _mm512_xor_si512(_mm512_unpackhi_epi64(ab0, cd0), flip));
        _mm512_storeu_si512(to + 128, _mm512_xor_si512(_mm512_unpacklo_epi64(ab1, cd1), flip));
        _mm512_storeu_si512(to + 192, _mm512_xor_si512(_mm512_unpackhi_epi64(ab1, cd1), flip));
    }
}

void sr_gemm_amx_pack_w(const sr_panel panel[2], int group, bool has_min, void *tile) {
    const __m512i zero = _mm512_setzero_si512(), sign = _mm512_set1_epi32(INT32_MIN);
    for (int h = 0; h < 2; h++) {
        const sr_panel *p = &panel[h];
        struct tile *w = (struct tile *)tile + h;
        transpose(p->code, sizeof p->code[0], KC / 4, w->code, zero);
        transpose(p->scale, sizeof p->scale[0], KC / group, w->scale, zero);
        if (has_min) transpose(p->min, sizeof p->min[0], KC / group, w->min, sign);
    }
}

static void pack_side(const int16_t *sum, float scale, float *side) {
    for (int g = 0; g < SR_KC / SR_SUM; g++) side[g * TILE] = sum[g];
    for (int i = 0, to = SR_KC / SR_SUM; to < SIDE_SCALE; i += 2, to++)
        side[to * TILE] = side[i * TILE] + side[(i + 1) * TILE];
    side[SIDE_SCALE * TILE] = scale;
}

void sr_gemm_amx_pack_x(const sr_x8 *x, int item, void *packed) {
    static const int8_t zero_code[SR_KC];
    static const int16_t zero_sum[SR_KC / SR_SUM];
    for (int64_t b = 0; b < x->n_block; b++)
        for (int t = item * NR; t < (item + 1) * NR; t++) {
            struct columns c = columns_at(packed, x->T, x->n_block, b * SR_KC / KC, t / TILE * TILE);
            int64_t in = b * SR_KC % KC / SR_KC, from = t * x->n_block + b;
            bool real = t < x->T;
            const int8_t *code = real ? x->code + from * SR_KC : zero_code;
            int8_t *to = (int8_t *)c.code + in * SR_KC * TILE + t % TILE * STEP;
            for (int k = 0; k < SR_KC; k += STEP) memcpy(to + k * TILE, code + k, STEP);
            pack_side(real ? x->sum + from * (SR_KC / SR_SUM) : zero_sum, real ? x->scale[from] : 0,
                      (float *)c.side + in * SIDE * TILE + t % TILE);
        }
}

/* ---- kernels ---- */

/* The compilers' own intrinsics differ in what they say about memory, so: asm. */
#define TILE_LOAD(reg, p) __asm__ volatile("tileloadd (%0,%1,1), %%" reg : : "r"(p), "r"((int64_t)64) : "memory")
#define TILE_STORE(p, reg) __asm__ volatile("tilestored %%" reg ", (%0,%1,1)" : : "r"(p), "r"((int64_t)64) : "memory")
#define TILE_ZERO(reg) __asm__ volatile("tilezero %%" reg:)
#define TILE_DOT(sum, x, w) __asm__ volatile("tdpbssd %%" w ", %%" x ", %%" sum:)

/* Registers 0 to 3 are sums, 4 and 5 x, 6 and 7 w; `steps` of K fill a row of x. */
static void configure(int steps) {
    struct {
        uint8_t palette, start_row, zero[14];
        uint16_t row_bytes[16];
        uint8_t rows[16];
    } c = {.palette = 1};
    _Static_assert(sizeof c == 64, "as the processor reads it");
    for (int i = 0; i < 8; i++) {
        c.row_bytes[i] = (uint16_t)(i == 4 || i == 5 ? steps : 4 * MR);
        c.rows[i] = (uint8_t)(i < 6 ? TILE : steps / 4);
    }
    __asm__ volatile("ldtilecfg %0" : : "m"(c));
}

INLINE void add_scaled(const int32_t *sum, __m512 s, float xs, bool fresh, float *y) {
    __m512 old = fresh ? _mm512_setzero_ps() : _mm512_loadu_ps(y);
    __m512 v = _mm512_cvtepi32_ps(_mm512_load_si512(sum));
    _mm512_storeu_ps(y, _mm512_fmadd_ps(v, _mm512_mul_ps(s, _mm512_set1_ps(xs)), old));
}

/* A result that waits for its vector work: four tiles of sums, and where they go. */
struct pending {
    const int32_t (*sum)[TILE][MR]; /* [2 * column tile + row tile] */
    __m512 s0, s1, m0, m1;
    const float *xs0, *xs1, *total0, *total1;
    bool fresh;
    float *y;
};

/* A quarter of it: 8 columns. */
INLINE void settle(const struct pending *p, int quarter, const bool has_min) {
    int c = quarter / 2, i0 = quarter % 2 * 8;
    const float *xs = c ? p->xs1 : p->xs0, *total = c ? p->total1 : p->total0;
#pragma GCC unroll 8
    for (int i = i0; i < i0 + 8; i++) {
        float *y = p->y + (c * TILE + i) * SR_PAIR;
        add_scaled(p->sum[2 * c][i], p->s0, xs[i], p->fresh, y);
        add_scaled(p->sum[2 * c + 1][i], p->s1, xs[i], p->fresh, y + MR);
        if (has_min) {
            __m512 v = _mm512_set1_ps(total[i] * xs[i]);
            _mm512_storeu_ps(y, _mm512_fmadd_ps(v, p->m0, _mm512_loadu_ps(y)));
            _mm512_storeu_ps(y + MR, _mm512_fmadd_ps(v, p->m1, _mm512_loadu_ps(y + MR)));
        }
    }
}

/* One scale a block: 32 rows by 32 columns. y as in kernel_groups, of T rounded up to 32. */
struct job {
    const struct tile *w;
    const sr_x8 *x;
    const void *packed;
    int64_t chunk;
    int n_block;
    bool first;
    float *acc, *edge; /* edge[NR][SR_PAIR]: the columns from x->T / NR * NR on */
};

INLINE float *place(const struct job *j, int t) {
    int whole = j->x->T / NR * NR;
    return t < whole ? j->acc + (size_t)t * SR_PAIR : j->edge + (t - whole) * SR_PAIR;
}

INLINE void kernel_256(const bool has_min, const struct job *j) {
    static const struct pending none;
    int32_t sum[2][4][TILE][MR] __attribute__((aligned(64)));
    struct pending last = none;
    const struct tile *w = j->w;
    int turn = 0;
    for (int t = 0; t < j->x->T; t += NR) {
        struct columns x0 = columns_at(j->packed, j->x->T, j->x->n_block, j->chunk, t);
        struct columns x1 = columns_at(j->packed, j->x->T, j->x->n_block, j->chunk, t + TILE);
        for (int b = 0; b < j->n_block; b++, turn ^= 1) {
            TILE_ZERO("tmm0");
            TILE_ZERO("tmm1");
            TILE_ZERO("tmm2");
            TILE_ZERO("tmm3");
#pragma GCC unroll 4
            for (int q = 0; q < SR_KC / STEP; q++) {
                int k = b * SR_KC + q * STEP;
                TILE_LOAD("tmm6", w[0].code[k / 4]);
                TILE_LOAD("tmm4", x0.code + k * TILE);
                TILE_DOT("tmm0", "tmm4", "tmm6");
                TILE_LOAD("tmm7", w[1].code[k / 4]);
                TILE_DOT("tmm1", "tmm4", "tmm7");
                TILE_LOAD("tmm5", x1.code + k * TILE);
                TILE_DOT("tmm2", "tmm5", "tmm6");
                TILE_DOT("tmm3", "tmm5", "tmm7");
                if (last.y) settle(&last, q, has_min);
            }
            TILE_STORE(sum[turn][0], "tmm0");
            TILE_STORE(sum[turn][1], "tmm1");
            TILE_STORE(sum[turn][2], "tmm2");
            TILE_STORE(sum[turn][3], "tmm3");
            last = (struct pending){.sum = (const void *)sum[turn],
                                    .s0 = _mm512_loadu_ps(w[0].scale[b]),
                                    .s1 = _mm512_loadu_ps(w[1].scale[b]),
                                    .xs0 = x0.side + (b * SIDE + SIDE_SCALE) * TILE,
                                    .xs1 = x1.side + (b * SIDE + SIDE_SCALE) * TILE,
                                    .fresh = j->first && b == 0,
                                    .y = place(j, t)};
            if (has_min) {
                last.m0 = _mm512_loadu_ps(w[0].min[b]);
                last.m1 = _mm512_loadu_ps(w[1].min[b]);
                last.total0 = x0.side + (b * SIDE + side_sum(SR_KC)) * TILE;
                last.total1 = x1.side + (b * SIDE + side_sum(SR_KC)) * TILE;
            }
        }
    }
    for (int q = 0; q < 4; q++) settle(&last, q, has_min);
}

/* Named accumulators instead of an array: only so do both compilers keep them in registers. */
#define SIXTEEN(f)                                                                                                     \
    do {                                                                                                               \
        f(0);                                                                                                          \
        f(1);                                                                                                          \
        f(2);                                                                                                          \
        f(3);                                                                                                          \
        f(4);                                                                                                          \
        f(5);                                                                                                          \
        f(6);                                                                                                          \
        f(7);                                                                                                          \
        f(8);                                                                                                          \
        f(9);                                                                                                          \
        f(10);                                                                                                         \
        f(11);                                                                                                         \
        f(12);                                                                                                         \
        f(13);                                                                                                         \
        f(14);                                                                                                         \
        f(15);                                                                                                         \
    } while (0)

/* The sums of group g. Odd and even groups alternate registers, so that they overlap. */
INLINE void group_sums(const int group, const int odd, const int8_t *w, const int8_t *x, int32_t (*sum)[MR]) {
    const int steps = group < STEP ? group : STEP;
    if (odd) {
        TILE_ZERO("tmm1");
#pragma GCC unroll 2
        for (int k = 0; k < group; k += steps) {
            TILE_LOAD("tmm5", x + k * TILE);
            TILE_LOAD("tmm7", w + k * MR);
            TILE_DOT("tmm1", "tmm5", "tmm7");
        }
        TILE_STORE(sum, "tmm1");
    } else {
        TILE_ZERO("tmm0");
#pragma GCC unroll 2
        for (int k = 0; k < group; k += steps) {
            TILE_LOAD("tmm4", x + k * TILE);
            TILE_LOAD("tmm6", w + k * MR);
            TILE_DOT("tmm0", "tmm4", "tmm6");
        }
        TILE_STORE(sum, "tmm0");
    }
}

/* Group g's codes of 16 columns of packed x. */
INLINE const int8_t *group_x(const int8_t *x, int group, int g) {
    int k = g * group;
    return x + k / STEP * STEP * TILE + k % STEP;
}

/* Smaller groups: 16 rows by 16 columns, so that the f32 sums of a block have registers. */
INLINE void kernel_groups(const int group, const bool has_min, const struct tile *w, struct columns x, int n_block,
                          bool first, float *y) {
    int32_t sum[2][TILE][MR] __attribute__((aligned(64)));
    const int n_group = SR_KC / group, n = n_block * n_group;
    const int8_t *code = w->code[0][0];
    group_sums(group, 0, code, x.code, sum[0]);
    for (int b = 0; b < n_block; b++, x.side += SIDE * TILE) {
        const float *total = x.side + side_sum(group) * TILE, *xs = x.side + SIDE_SCALE * TILE;
        __m512 f0, f1, f2, f3, f4, f5, f6, f7, f8, f9, f10, f11, f12, f13, f14, f15;
#define CLEAR(i) f##i = _mm512_setzero_ps()
        SIXTEEN(CLEAR);
        for (int g = b * n_group; g < (b + 1) * n_group; g += 2, total += 2 * TILE) {
            __m512 s = _mm512_loadu_ps(w->scale[g]), m = has_min ? _mm512_loadu_ps(w->min[g]) : s;
            group_sums(group, 1, code + (g + 1) * group * MR, group_x(x.code, group, g + 1), sum[1]);
#define GATHER_EVEN(i)                                                                                                 \
    f##i = _mm512_fmadd_ps(_mm512_cvtepi32_ps(_mm512_load_si512(sum[0][i])), s, f##i);                                 \
    if (has_min) f##i = _mm512_fmadd_ps(_mm512_set1_ps(total[i]), m, f##i)
            SIXTEEN(GATHER_EVEN);
            if (g + 2 < n) group_sums(group, 0, code + (g + 2) * group * MR, group_x(x.code, group, g + 2), sum[0]);
            s = _mm512_loadu_ps(w->scale[g + 1]);
            if (has_min) m = _mm512_loadu_ps(w->min[g + 1]);
#define GATHER_ODD(i)                                                                                                  \
    f##i = _mm512_fmadd_ps(_mm512_cvtepi32_ps(_mm512_load_si512(sum[1][i])), s, f##i);                                 \
    if (has_min) f##i = _mm512_fmadd_ps(_mm512_set1_ps(total[TILE + i]), m, f##i)
            SIXTEEN(GATHER_ODD);
        }
        if (first && b == 0) {
#define STORE(i) _mm512_storeu_ps(y + i * SR_PAIR, _mm512_mul_ps(_mm512_set1_ps(xs[i]), f##i))
            SIXTEEN(STORE);
        } else {
#define ADD(i)                                                                                                         \
    _mm512_storeu_ps(y + i * SR_PAIR, _mm512_fmadd_ps(_mm512_set1_ps(xs[i]), f##i, _mm512_loadu_ps(y + i * SR_PAIR)))
            SIXTEEN(ADD);
        }
    }
}

INLINE void all_groups(const int group, const bool has_min, const struct job *j) {
    for (int t = 0; t < j->x->T; t += TILE)
        for (int h = 0; h < 2; h++)
            kernel_groups(group, has_min, j->w + h, columns_at(j->packed, j->x->T, j->x->n_block, j->chunk, t),
                          j->n_block, j->first, place(j, t) + h * MR);
}

#define KERNELS(group, body)                                                                                           \
    static void g##group(const struct job *j) {                                                                        \
        body(false, j);                                                                                                \
    }                                                                                                                  \
    static void g##group##_min(const struct job *j) {                                                                  \
        body(true, j);                                                                                                 \
    }
#define GROUPS_16(has_min, j) all_groups(16, has_min, j)
#define GROUPS_32(has_min, j) all_groups(32, has_min, j)
#define GROUPS_64(has_min, j) all_groups(64, has_min, j)
#define GROUPS_128(has_min, j) all_groups(128, has_min, j)
KERNELS(16, GROUPS_16)
KERNELS(32, GROUPS_32)
KERNELS(64, GROUPS_64)
KERNELS(128, GROUPS_128)
KERNELS(256, kernel_256)

/* By log2(group) - 4 and has_min. */
static void (*const kernels[5][2])(const struct job *j) = {
    {g16, g16_min}, {g32, g32_min}, {g64, g64_min}, {g128, g128_min}, {g256, g256_min}};

void sr_gemm_amx_gemm_i8(const void *tile, int group, bool has_min, const sr_x8 *x, const void *packed, int64_t k0,
                         bool first, float *acc) {
    float edge[NR * SR_PAIR] __attribute__((aligned(64)));
    int64_t left = x->n_block - k0 / SR_KC;
    int whole = x->T / NR * NR, n_block = left < KC / SR_KC ? (int)left : KC / SR_KC;
    size_t rest = (size_t)(x->T - whole) * SR_PAIR * sizeof *acc;
    if (rest > 0 && !first) memcpy(edge, acc + (size_t)whole * SR_PAIR, rest);
    struct job j = {tile, x, packed, k0 / KC, n_block, first, acc, edge};
    configure(group < STEP ? group : STEP);
    kernels[__builtin_ctz((unsigned)group) - 4][has_min](&j);
    /* Else every switch to another thread saves the tile registers. */
    __asm__ volatile("tilerelease" :);
    if (rest > 0) memcpy(acc + (size_t)whole * SR_PAIR, edge, rest);
}

void sr_gemm_amx_probe(int64_t n) {
    enum { OPS = 2 * TILE * MR * STEP, STEPS = sr_gemm_amx_probe_ops / (4 * OPS) };
    configure(STEP);
    for (; n > 0; n--)
        for (int i = 0; i < STEPS; i++) {
            TILE_DOT("tmm0", "tmm4", "tmm6");
            TILE_DOT("tmm1", "tmm4", "tmm7");
            TILE_DOT("tmm2", "tmm5", "tmm6");
            TILE_DOT("tmm3", "tmm5", "tmm7");
        }
    __asm__ volatile("tilerelease" :);
}

#if defined(__clang__)
#pragma clang attribute pop
#endif

#endif
