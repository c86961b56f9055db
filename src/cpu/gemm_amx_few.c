/* int8 GEMM with AMX for few columns of x, where making what it multiplies is most of the work. Panels with one group a
 * block are tdpbssd's first operand as they lie; the second one is x. Smaller groups are in tiles of AVX-512's, which
 * are its second operand as they lie: the sums of each group leave through memory, exactly. */
#if defined(__x86_64__)

#include "cpu/target_amx.h"

#include <immintrin.h>
#include <string.h>

#include "cpu/amx.h"

enum { KC = SR_TILE_KC, MR = SR_MR, STEP = 64, NR = sr_gemm_amx_few_pack_columns };

/* Packed x: block of 256 columns of K after block, and in it blocks of `width` columns of T, 8, 12 or 16, the same for
 * all: code int8 [KC/64][width][64], side f32 [32][width], see sr_pack_side; then as second operand, of 16 columns
 * whatever the width: code int8 [KC/4][16][4], scale f32 [16]. */
static int n_blocks(int T) {
    return (T + NR - 1) / NR;
}

static int width(int T) {
    const int n = n_blocks(T), w = ((T + n - 1) / n + 3) / 4 * 4;
    return w < 8 ? 8 : w;
}

struct columns {
    int8_t *code;
    float *side;
    int8_t (*turned)[NR][4];
};

static size_t block_bytes(int T) {
    return (size_t)width(T) * (KC + SR_SIDE * sizeof(float)) + NR * (KC + sizeof(float));
}

static struct columns columns_at(const void *packed, int T, int64_t chunk, int block) {
    const int w = width(T);
    int8_t *code = (int8_t *)packed + (chunk * n_blocks(T) + block) * (int64_t)block_bytes(T);
    float *side = (float *)(void *)(code + w * KC);
    return (struct columns){code, side, (void *)(side + SR_SIDE * w)};
}

size_t sr_gemm_amx_few_packed_bytes(int T, int64_t n_block) {
    return (size_t)n_block * (size_t)n_blocks(T) * block_bytes(T);
}

static float *scales_of(const struct columns *c) {
    return (float *)(void *)c->turned[KC / 4];
}

void sr_gemm_amx_few_pack_x(const sr_x8 *x, int item, void *packed) {
    static const int8_t zero_code[SR_KC];
    static const int16_t zero_sum[SR_KC / SR_SUM];
    const int w = width(x->T);
    for (int64_t b = 0; b < x->n_block; b++) {
        const struct columns c = columns_at(packed, x->T, b, item);
        for (int i = 0; i < NR; i++) {
            const bool real = i < w && item * w + i < x->T;
            const int64_t from = (item * w + i) * x->n_block + b;
            const int8_t *code = real ? x->code + from * SR_KC : zero_code;
            const float scale = real ? x->scale[from] : 0;
            for (int k = 0; k < KC; k += 4) memcpy(c.turned[k / 4][i], code + k, 4);
            scales_of(&c)[i] = scale;
            if (i >= w) continue;
            for (int k = 0; k < KC; k += STEP) memcpy(c.code + k * w + i * STEP, code + k, STEP);
            sr_pack_side(real ? x->sum + from * (SR_KC / SR_SUM) : zero_sum, scale, w, c.side + i);
        }
    }
}

/* y[real][SR_PAIR] (+)= w * x over one block of K, for `nr` columns of which `real` are wanted. */
struct job {
    const sr_tile_avx512 *w;
    struct columns x;
    int real;
    bool first;
    float *y;
    sr_ahead next;
};

typedef int32_t sums[2][NR][MR];

/* Group g of 16 rows; what it leaves in sum[g % 2] is read a group later. */
INLINE void product(const struct job *j, const sr_tile_avx512 *w, const int nr, const int group, int g, sums sum) {
#pragma GCC unroll 4
    for (int k = g * group; k < (g + 1) * group; k += STEP) {
        const int8_t *x = j->x.code + k / STEP * STEP * nr + k % STEP, *c = w->code[k / 4][0];
        if (g % 2) {
            if (k == g * group) TILE_ZERO("tmm1");
            TILE_LOAD("tmm5", x);
            TILE_LOAD("tmm7", c);
            TILE_DOT("tmm1", "tmm5", "tmm7");
        } else {
            if (k == g * group) TILE_ZERO("tmm0");
            TILE_LOAD("tmm4", x);
            TILE_LOAD("tmm6", c);
            TILE_DOT("tmm0", "tmm4", "tmm6");
        }
    }
    if (g % 2)
        TILE_STORE(sum[1], "tmm1");
    else
        TILE_STORE(sum[0], "tmm0");
}

INLINE void gather(const struct job *j, const sr_tile_avx512 *w, const int nr, const int group, const bool has_min,
                   int g, sums sum, __m512 *f) {
    const __m512 s = _mm512_loadu_ps(w->scale[g]);
#pragma GCC unroll 16
    for (int t = 0; t < nr; t++) f[t] = _mm512_fmadd_ps(_mm512_cvtepi32_ps(_mm512_load_si512(sum[g % 2][t])), s, f[t]);
    if (!has_min) return;
    const __m512 m = _mm512_loadu_ps(w->min[g]);
    const float *total = j->x.side + (sr_side_sum(group) + g) * nr;
#pragma GCC unroll 16
    for (int t = 0; t < nr; t++) f[t] = _mm512_fmadd_ps(_mm512_set1_ps(total[t]), m, f[t]);
}

INLINE void finish(const struct job *j, const int nr, int h, const __m512 *f) {
    const float *xs = j->x.side + SR_SIDE_SCALE * nr;
#pragma GCC unroll 16
    for (int t = 0; t < nr; t++) {
        float *y = j->y + t * SR_PAIR + h * MR;
        if (t >= j->real) continue;
        const __m512 old = j->first ? _mm512_setzero_ps() : _mm512_loadu_ps(y);
        _mm512_storeu_ps(y, _mm512_fmadd_ps(f[t], _mm512_set1_ps(xs[t]), old));
    }
}

INLINE void kernel(const int nr, const int group, const bool has_min, const struct job *j) {
    enum { HALVES = 2 };
    sums sum __attribute__((aligned(64)));
    const int n = KC / group;
    for (int h = 0; h < HALVES; h++) {
        const sr_tile_avx512 *w = j->w + h;
        __m512 f[NR];
#pragma GCC unroll 16
        for (int t = 0; t < nr; t++) f[t] = _mm512_setzero_ps();
        product(j, w, nr, group, 0, sum);
        for (int g = 0; g < n; g += 2) {
            sr_prefetch(j->next, h * n + g, HALVES * n);
            if (g + 1 < n) {
                sr_prefetch(j->next, h * n + g + 1, HALVES * n);
                product(j, w, nr, group, g + 1, sum);
            }
            gather(j, w, nr, group, has_min, g, sum, f);
            if (g + 2 < n) product(j, w, nr, group, g + 2, sum);
            if (g + 1 < n) gather(j, w, nr, group, has_min, g + 1, sum, f);
        }
        finish(j, nr, h, f);
    }
}

/* One group a block: panels as they lie. Until the last block acc has [SR_PAIR][NR] for each NR columns, with room for
 * all of them. */
static void multiply_panels(const sr_panel *p, const struct job *j, float *acc, bool last) {
    sums sum __attribute__((aligned(64)));
    float out[SR_PAIR][NR] __attribute__((aligned(64)));
    const __m512 xs = _mm512_loadu_ps(scales_of(&j->x));
    TILE_ZERO("tmm0");
    TILE_ZERO("tmm1");
#pragma GCC unroll 4
    for (int k = 0; k < KC; k += STEP) {
        TILE_LOAD("tmm6", j->x.turned[k / 4]);
        TILE_LOAD_BY("tmm4", p[0].code[0] + k, sizeof p->code[0]);
        TILE_LOAD_BY("tmm5", p[1].code[0] + k, sizeof p->code[0]);
        TILE_DOT("tmm0", "tmm4", "tmm6");
        TILE_DOT("tmm1", "tmm5", "tmm6");
    }
    TILE_STORE(sum[0], "tmm0");
    TILE_STORE(sum[1], "tmm1");
    sr_prefetch(j->next, 0, 1);
    float *to = last ? out[0] : acc;
    for (int h = 0; h < 2; h++)
#pragma GCC unroll 16
        for (int r = 0; r < MR; r++) {
            const int at = (h * MR + r) * NR;
            const __m512 old = j->first ? _mm512_setzero_ps() : _mm512_loadu_ps(acc + at);
            const __m512 s = _mm512_mul_ps(xs, _mm512_set1_ps(p[h].scale[r][0]));
            _mm512_storeu_ps(to + at, _mm512_fmadd_ps(_mm512_cvtepi32_ps(_mm512_load_si512(sum[h][r])), s, old));
        }
    for (int t = 0; last && t < j->real; t += 4)
        for (int h = 0; h < 2; h++) {
            const struct quad q = transpose4(out[h * MR] + t, sizeof out[0]);
#pragma GCC unroll 4
            for (int i = 0; i < 4; i++)
                if (t + i < j->real) _mm512_storeu_si512(j->y + (t + i) * SR_PAIR + h * MR, q.v[i]);
        }
}

#define KERNELS(nr)                                                                                                    \
    static void run_##nr(int group, bool has_min, const struct job *j) {                                               \
        switch (group) {                                                                                               \
        case 16:                                                                                                       \
            has_min ? kernel(nr, 16, true, j) : kernel(nr, 16, false, j);                                              \
            break;                                                                                                     \
        case 32:                                                                                                       \
            has_min ? kernel(nr, 32, true, j) : kernel(nr, 32, false, j);                                              \
            break;                                                                                                     \
        case 64:                                                                                                       \
            has_min ? kernel(nr, 64, true, j) : kernel(nr, 64, false, j);                                              \
            break;                                                                                                     \
        case 128:                                                                                                      \
            has_min ? kernel(nr, 128, true, j) : kernel(nr, 128, false, j);                                            \
            break;                                                                                                     \
        default:                                                                                                       \
            kernel(nr, SR_KC, true, j);                                                                                \
        }                                                                                                              \
    }
KERNELS(8)
KERNELS(12)
KERNELS(16)

/* Measured with Q4_K, Q5_K, Q8_0 and Q6_K. */
int sr_gemm_amx_few_most(int group, bool has_min) {
    return sr_one_scale(group, has_min) ? sr_gemm_amx_few_columns : group == 16 ? 16 : 48;
}

void sr_gemm_amx_few_begin(int T, int group, bool has_min) {
    if (sr_one_scale(group, has_min))
        tiles_begin(MR, STEP, NR * 4);
    else
        tiles_begin(width(T), group < STEP ? group : STEP, MR * 4);
}

/* Half a microsecond without products, and the next one takes 0.3 more. Sums are free between calls of gemm_i8. */
void sr_gemm_amx_few_awake(void) {
    TILE_DOT("tmm0", "tmm4", "tmm6");
}

void sr_gemm_amx_few_gemm_i8(const void *tile, int group, bool has_min, const sr_x8 *x, const void *packed, int64_t k0,
                             bool first, float *acc, sr_ahead next) {
    const int w = width(x->T), n = n_blocks(x->T);
    for (int i = 0; i * w < x->T; i++) {
        const int left = x->T - i * w;
        struct job j = {tile,  columns_at(packed, x->T, k0 / KC, i), left < w ? left : w,
                        first, acc + (size_t)(i * w) * SR_PAIR,      sr_part_of(next, i, i + 1, n)};
        if (sr_one_scale(group, has_min))
            multiply_panels(tile, &j, acc + (size_t)(i * NR) * SR_PAIR, k0 / KC == x->n_block - 1);
        else
            (w == 8 ? run_8 : w == 12 ? run_12 : run_16)(group, has_min, &j);
    }
}

#include "cpu/target_end.h"

#endif
