/* int8 GEMM with AVX2: 16 rows by 4 columns. Without VNNI there is no exact product of bytes, as vpmaddubsw saturates,
 * so both sides are widened to int16 once, when they are packed, and vpmaddwd multiplies pairs. */
#if defined(__x86_64__)

#include "cpu/target_avx2.h"

#include <immintrin.h>
#include <string.h>

#include "cpu/gemm.h"

#define INLINE static inline __attribute__((always_inline))

enum { KC = SR_TILE_KC, MR = SR_MR, NR = sr_gemm_avx2_pack_columns };

/* 16 rows, transposed: two vectors hold a pair of codes of each. Groups past KC / group are not used. */
struct tile {
    int16_t code[KC / 2][MR][2];
    float scale[KC / 16][MR];
    float min[KC / 16][MR]; /* negated */
};
_Static_assert(2 * sizeof(struct tile) == sr_gemm_avx2_tile_bytes, "a pair of tiles");

/* Packed x: chunk of KC columns of K after chunk, and in it blocks of 4 columns of T:
 *   code int16 [KC/2][4][2], then in another place, since most formats read little of it:
 *   side f32 [KC/256][32][4], see sr_pack_side. */
static int padded(int T) {
    return (T + NR - 1) / NR * NR;
}

struct columns {
    const int16_t *code;
    const float *side;
};

static struct columns columns_at(const void *packed, int T, int64_t n_block, int64_t chunk, int t0) {
    int64_t n_chunk = (n_block * SR_KC + KC - 1) / KC, t = padded(T);
    const int16_t *code = packed;
    const float *side = (const float *)(const void *)(code + n_chunk * t * KC);
    return (struct columns){code + (chunk * t + t0) * KC, side + (chunk * t + t0) * (KC / SR_KC * SR_SIDE)};
}

size_t sr_gemm_avx2_packed_bytes(int T, int64_t n_block) {
    size_t n_chunk = ((size_t)n_block * SR_KC + KC - 1) / KC;
    return n_chunk * (size_t)padded(T) * (KC * sizeof(int16_t) + KC / SR_KC * SR_SIDE * sizeof(float));
}

/* ---- pack ---- */

/* Eight dwords of eight rows, transposed in place. */
INLINE void transpose8(__m256i v[8]) {
    __m256i a[8], b[8];
    for (int i = 0; i < 8; i += 2) {
        a[i] = _mm256_unpacklo_epi32(v[i], v[i + 1]);
        a[i + 1] = _mm256_unpackhi_epi32(v[i], v[i + 1]);
    }
    for (int i = 0; i < 8; i += 4)
        for (int j = 0; j < 2; j++) {
            b[i + 2 * j] = _mm256_unpacklo_epi64(a[i + j], a[i + j + 2]);
            b[i + 2 * j + 1] = _mm256_unpackhi_epi64(a[i + j], a[i + j + 2]);
        }
    for (int i = 0; i < 4; i++) {
        v[i] = _mm256_permute2x128_si256(b[i], b[i + 4], 0x20);
        v[i + 4] = _mm256_permute2x128_si256(b[i], b[i + 4], 0x31);
    }
}

static void pack_code(const sr_panel *p, struct tile *w) {
    for (int k = 0; k < KC; k += 16)
        for (int r = 0; r < MR; r += 8) {
            __m256i v[8];
            for (int i = 0; i < 8; i++) v[i] = _mm256_cvtepi8_epi16(_mm_loadu_si128((const void *)&p->code[r + i][k]));
            transpose8(v);
            for (int i = 0; i < 8; i++) _mm256_storeu_si256((void *)w->code[k / 2 + i][r], v[i]);
        }
}

void sr_gemm_avx2_pack_w(const sr_panel *p, int half, int group, bool has_min, void *tile) {
    struct tile *w = (struct tile *)tile + half;
    pack_code(p, w);
    for (int g = 0; g < KC / group; g++)
        for (int r = 0; r < MR; r++) {
            w->scale[g][r] = p->scale[r][g];
            if (has_min) w->min[g][r] = -p->min[r][g];
        }
}

void sr_gemm_avx2_pack_x(const sr_x8 *x, int item, void *packed) {
    static const int8_t zero_code[SR_KC];
    static const int16_t zero_sum[SR_KC / SR_SUM];
    for (int64_t b = 0; b < x->n_block; b++) {
        struct columns c = columns_at(packed, x->T, x->n_block, b * SR_KC / KC, item * NR);
        int64_t in = b * SR_KC % KC / SR_KC;
        for (int i = 0; i < NR; i++) {
            int t = item * NR + i;
            int64_t from = t * x->n_block + b;
            bool real = t < x->T;
            const int8_t *code = real ? x->code + from * SR_KC : zero_code;
            int16_t *to = (int16_t *)c.code + in * SR_KC * NR + 2 * i;
            for (int k = 0; k < SR_KC; k += 2) {
                to[k * NR] = code[k];
                to[k * NR + 1] = code[k + 1];
            }
            sr_pack_side(real ? x->sum + from * (SR_KC / SR_SUM) : zero_sum, real ? x->scale[from] : 0, NR,
                         (float *)c.side + in * SR_SIDE * NR + i);
        }
    }
}

/* ---- kernel ---- */

struct acc {
    __m256i r0, r1;
};
struct sum {
    __m256 r0, r1;
};

INLINE struct sum load_sum(const float *p) {
    return (struct sum){_mm256_loadu_ps(p), _mm256_loadu_ps(p + 8)};
}

INLINE struct acc step(struct acc a, const int16_t *x, __m256i w0, __m256i w1) {
    int32_t pair;
    memcpy(&pair, x, sizeof pair);
    __m256i v = _mm256_set1_epi32(pair);
    return (struct acc){_mm256_add_epi32(a.r0, _mm256_madd_epi16(v, w0)),
                        _mm256_add_epi32(a.r1, _mm256_madd_epi16(v, w1))};
}

INLINE void finish(struct acc a, struct sum s, const bool has_min, struct sum m, float total, float xs, float *y) {
    __m256 v0 = _mm256_mul_ps(_mm256_cvtepi32_ps(a.r0), s.r0), v1 = _mm256_mul_ps(_mm256_cvtepi32_ps(a.r1), s.r1);
    if (has_min) {
        v0 = _mm256_fmadd_ps(_mm256_set1_ps(total), m.r0, v0);
        v1 = _mm256_fmadd_ps(_mm256_set1_ps(total), m.r1, v1);
    }
    __m256 x = _mm256_set1_ps(xs);
    _mm256_storeu_ps(y, _mm256_fmadd_ps(v0, x, _mm256_loadu_ps(y)));
    _mm256_storeu_ps(y + 8, _mm256_fmadd_ps(v1, x, _mm256_loadu_ps(y + 8)));
}

/* y[4][SR_PAIR] += 16 rows. Named accumulators instead of an array: only so do both compilers keep them in registers.
 */
INLINE void kernel(const bool has_min, const struct tile *w, int group, struct columns x, int n_block, float *y) {
    const __m256i zero = _mm256_setzero_si256();
    const int n_group = SR_KC / group;
    for (int g = 0; g < n_block * n_group; g++) {
        struct acc c0 = {zero, zero}, c1 = c0, c2 = c0, c3 = c0;
        for (int k = g * group / 2; k < (g + 1) * group / 2; k++, x.code += 2 * NR) {
            __m256i w0 = _mm256_loadu_si256((const void *)w->code[k][0]);
            __m256i w1 = _mm256_loadu_si256((const void *)w->code[k][8]);
            c0 = step(c0, x.code, w0, w1);
            c1 = step(c1, x.code + 2, w0, w1);
            c2 = step(c2, x.code + 4, w0, w1);
            c3 = step(c3, x.code + 6, w0, w1);
        }
        const float *side = x.side + g / n_group * SR_SIDE * NR, *xs = side + SR_SIDE_SCALE * NR;
        const float *total = side + (sr_side_sum(group) + g % n_group) * NR;
        struct sum s = load_sum(w->scale[g]), m = s;
        if (has_min) m = load_sum(w->min[g]);
        finish(c0, s, has_min, m, total[0], xs[0], y);
        finish(c1, s, has_min, m, total[1], xs[1], y + SR_PAIR);
        finish(c2, s, has_min, m, total[2], xs[2], y + 2 * SR_PAIR);
        finish(c3, s, has_min, m, total[3], xs[3], y + 3 * SR_PAIR);
    }
}

/* Columns t0 .. t0+4 and one tile. */
static void multiply(const struct tile *w, int group, bool has_min, struct columns c, int n_block, bool first, int n,
                     float *y) {
    float edge[NR * SR_PAIR] = {0}, *to = n < NR ? edge : y;
    for (int t = 0; t < n && first; t++) memset(to + t * SR_PAIR, 0, MR * sizeof *y);
    for (int t = 0; t < n && !first && to == edge; t++) memcpy(edge + t * SR_PAIR, y + t * SR_PAIR, MR * sizeof *y);
    if (has_min)
        kernel(true, w, group, c, n_block, to);
    else
        kernel(false, w, group, c, n_block, to);
    for (int t = 0; t < n && to == edge; t++) memcpy(y + t * SR_PAIR, edge + t * SR_PAIR, MR * sizeof *y);
}

void sr_gemm_avx2_gemm_i8(const void *tile, int group, bool has_min, const sr_x8 *x, const void *packed, int64_t k0,
                          bool first, float *acc, sr_ahead next) {
    /* 12 columns and one tile fit L1 together; x is twice the size of its codes and comes from L2 or L3. */
    enum { TOGETHER = 3 * NR };
    int64_t left = x->n_block - k0 / SR_KC;
    int n_block = left < KC / SR_KC ? (int)left : KC / SR_KC;
    for (int t1 = 0; t1 < x->T; t1 += TOGETHER)
        for (int h = 0; h < 2; h++)
            for (int t0 = t1; t0 < x->T && t0 < t1 + TOGETHER; t0 += NR) {
                if (h == 0) sr_prefetch(next, t0 / NR, (x->T + NR - 1) / NR);
                multiply((const struct tile *)tile + h, group, has_min,
                         columns_at(packed, x->T, x->n_block, k0 / KC, t0), n_block, first,
                         x->T - t0 < NR ? x->T - t0 : NR, acc + (size_t)t0 * SR_PAIR + h * MR);
            }
}

void sr_gemm_avx2_store(const float *acc, int T, int n_rows, float *y, int64_t ld_y) {
    enum { CACHED = 1 << 20 }; /* what L2 may have of y when the next operation reads it */
    size_t pitch = (size_t)ld_y * sizeof *y;
    bool aligned = ((uintptr_t)y | pitch) % 32 == 0;
    if (n_rows < SR_PAIR || !aligned || (size_t)T * pitch <= CACHED) {
        for (int t = 0; t < T; t++) memcpy(y + t * ld_y, acc + (size_t)t * SR_PAIR, (size_t)n_rows * sizeof *y);
        return;
    }
    for (int t = 0; t < T; t++)
        for (int i = 0; i < SR_PAIR; i += 8)
            _mm256_stream_ps(y + t * ld_y + i, _mm256_loadu_ps(acc + (size_t)t * SR_PAIR + i));
    _mm_sfence();
}

/* Eight independent chains. */
void sr_gemm_avx2_probe(int64_t n) {
    enum { CHAINS = 8, STEPS = sr_gemm_avx2_probe_ops / (32 * CHAINS) };
    __m256i x = _mm256_set1_epi32(0x00010002);
    for (; n > 0; n--)
        for (int i = 0; i < STEPS; i++)
            __asm__ volatile("vpmaddwd %0, %0, %%ymm1\n\tvpaddd %%ymm1, %%ymm8, %%ymm8\n\t"
                             "vpmaddwd %0, %0, %%ymm2\n\tvpaddd %%ymm2, %%ymm9, %%ymm9\n\t"
                             "vpmaddwd %0, %0, %%ymm3\n\tvpaddd %%ymm3, %%ymm10, %%ymm10\n\t"
                             "vpmaddwd %0, %0, %%ymm4\n\tvpaddd %%ymm4, %%ymm11, %%ymm11\n\t"
                             "vpmaddwd %0, %0, %%ymm1\n\tvpaddd %%ymm1, %%ymm12, %%ymm12\n\t"
                             "vpmaddwd %0, %0, %%ymm2\n\tvpaddd %%ymm2, %%ymm13, %%ymm13\n\t"
                             "vpmaddwd %0, %0, %%ymm3\n\tvpaddd %%ymm3, %%ymm14, %%ymm14\n\t"
                             "vpmaddwd %0, %0, %%ymm4\n\tvpaddd %%ymm4, %%ymm15, %%ymm15"
                             :
                             : "x"(x)
                             : "xmm1", "xmm2", "xmm3", "xmm4", "xmm8", "xmm9", "xmm10", "xmm11", "xmm12", "xmm13",
                               "xmm14", "xmm15");
}

#include "cpu/target_end.h"

#endif
