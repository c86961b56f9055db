/* int8 GEMM with AMX: tiles of 16 rows by 16 columns by 64 steps of K. The numbers behind each choice are in
 * bench/tile.c.
 *
 * tdpbssd multiplies eight times as much a cycle as vpdpbusd, but leaves the sums in a tile register, whose only way to
 * the vector unit is a store that takes as long as the product itself. So sums leave once a block of 256 columns, and
 * groups smaller than that are folded when w is packed: w ~ unit * (256 * hi + lo), 15 bits and a sign, one unit a row
 * and block. Two products instead of one, and mins cost nothing more. Weights that are multiples of the unit, as all
 * are with scales of one, stay exact. Others move by at most 2 * unit, where unit is at most 2^-13 of the block's
 * largest |scale| * largest |code| or of its largest |w|; that is a 50th of what the 8 bits of x cost. */
#if defined(__x86_64__)

#include "cpu/target_amx.h"

#include <cpuid.h>
#include <immintrin.h>
#include <string.h>

#include "base/map.h"
#include "cpu/amx.h"
#include "cpu/gemm.h"

enum { KC = SR_TILE_KC, MR = SR_MR, NR = sr_gemm_amx_pack_columns, STEP = 64, TILE = 16 };

/* 16 rows, transposed: what tdpbssd wants as its second operand. */
struct tile {
    int8_t code[2][KC / 4][MR][4]; /* hi and lo, or the codes themselves; lo is unsigned */
    float scale[KC / SR_KC][MR];
    uint8_t pad[64 * 3]; /* keeps the two tiles of a pair apart in the cache's sets */
};
_Static_assert(2 * sizeof(struct tile) == sr_gemm_amx_tile_bytes, "a pair of tiles");

static int planes_of(int group, bool has_min) {
    return sr_one_scale(group, has_min) ? 1 : 2;
}

/* Packed x: chunk of KC columns of K after chunk, and in it blocks of 16 columns of T (an even number of them):
 *   code int8 [KC/64][16][64], then, after all of them, scale f32 [KC/256][16]. */
struct columns {
    const int8_t *code;
    const float *scale;
};

static int padded(int T) {
    return (T + NR - 1) / NR * NR;
}

static struct columns columns_at(const void *packed, int T, int64_t n_block, int64_t chunk, int t0) {
    int64_t n_chunk = (n_block * SR_KC + KC - 1) / KC, t = padded(T);
    const int8_t *code = packed;
    const float *scale = (const float *)(const void *)(code + n_chunk * t * KC);
    return (struct columns){code + (chunk * t + t0) * KC, scale + (chunk * t + t0) * (KC / SR_KC)};
}

size_t sr_gemm_amx_packed_bytes(int T, int64_t n_block) {
    size_t n_chunk = ((size_t)n_block * SR_KC + KC - 1) / KC;
    return n_chunk * (size_t)padded(T) * (KC + KC / SR_KC * sizeof(float));
}

bool sr_gemm_amx_usable(void) {
    enum { VBMI = 1 << 1, AMX_TILE = 1 << 24, AMX_INT8 = 1 << 25 };
    unsigned a, b, c, d;
    if (!__get_cpuid_count(7, 0, &a, &b, &c, &d) || !(c & VBMI) || !(d & AMX_TILE) || !(d & AMX_INT8)) return false;
    return sr_tiles_permitted(); /* the kernel saves tile registers only for processes that ask */
}

/* ---- pack ---- */

/* The smallest and the largest code of each row of a block. */
struct range {
    __m512i low, high;
};

/* byte: the result of a dword's four bytes is its lowest one. */
INLINE __m512i lowest_byte(__m512i v) {
    return _mm512_srai_epi32(_mm512_slli_epi32(v, 24), 24);
}

static struct range code_range(const int8_t (*code)[MR][4]) {
    __m512i low = _mm512_loadu_si512(code[0]), high = low;
    for (int k = 1; k < SR_KC / 4; k++) {
        __m512i v = _mm512_loadu_si512(code[k]);
        low = _mm512_min_epi8(low, v);
        high = _mm512_max_epi8(high, v);
    }
    low = _mm512_min_epi8(low, _mm512_srli_epi32(low, 16));
    low = _mm512_min_epi8(low, _mm512_srli_epi32(low, 8));
    high = _mm512_max_epi8(high, _mm512_srli_epi32(high, 16));
    high = _mm512_max_epi8(high, _mm512_srli_epi32(high, 8));
    return (struct range){lowest_byte(low), lowest_byte(high)};
}

/* How the rows of a block are folded: with a = code << shift, w is about -unit * (a * round(scale * factor) / 2^15 +
 * round(min * inverse)). Negative, since -2^15 is an int16, so that the largest scale is exact. */
struct fold {
    __m512i shift;
    __m512 factor, inverse, scale; /* scale: -unit, or NaN */
};

static struct fold choose_fold(struct range r, int n_group, const float (*scale)[MR], const float (*min)[MR]) {
    const __m512 zero = _mm512_setzero_ps();
    __m512 low = _mm512_cvtepi32_ps(r.low), high = _mm512_cvtepi32_ps(r.high);
    __m512 scale_max = zero, w_max = zero, bad = zero;
    for (int g = 0; g < n_group; g++) {
        __m512 s = _mm512_loadu_ps(scale[g]);
        scale_max = _mm512_max_ps(scale_max, _mm512_abs_ps(s));
        bad = _mm512_fmadd_ps(s, zero, bad); /* NaN when s is not finite */
        if (!min) continue;
        __m512 m = _mm512_loadu_ps(min[g]);
        w_max = _mm512_max_ps(w_max, _mm512_abs_ps(_mm512_fmsub_ps(s, low, m)));
        w_max = _mm512_max_ps(w_max, _mm512_abs_ps(_mm512_fmsub_ps(s, high, m)));
        bad = _mm512_fmadd_ps(m, zero, bad);
    }
    /* |code| << bits is 2^14 .. 2^15 - 1; -128 << 8 is not, but a factor half as large makes up for that. */
    __m512i most = _mm512_max_epi32(r.high, _mm512_sub_epi32(_mm512_setzero_si512(), r.low));
    __m512i bits = _mm512_sub_epi32(_mm512_lzcnt_epi32(most), _mm512_set1_epi32(17));
    __m512i shift = _mm512_max_epi32(bits, _mm512_set1_epi32(8));
    /* The least unit with which scales are int16, or, when the mins want more, a power of two times that. */
    __m512 unit = _mm512_scalef_ps(scale_max, _mm512_sub_ps(zero, _mm512_cvtepi32_ps(bits)));
    if (min) {
        __m512 least = _mm512_mul_ps(w_max, _mm512_set1_ps(1.0f / 32600));
        __m512 ratio = _mm512_max_ps(_mm512_div_ps(least, unit), _mm512_set1_ps(1));
        __m512i up = _mm512_add_epi32(_mm512_castps_si512(ratio), _mm512_set1_epi32(0x7fffff));
        __m512 power = _mm512_castsi512_ps(_mm512_and_si512(up, _mm512_set1_epi32(0x7f800000)));
        __mmask16 no_scale = _mm512_cmp_ps_mask(scale_max, zero, _CMP_EQ_OQ);
        unit = _mm512_mask_mov_ps(_mm512_mul_ps(unit, power), no_scale, least);
    }
    __m512 inverse = _mm512_div_ps(_mm512_set1_ps(1), unit);
    __m512 up = _mm512_cvtepi32_ps(_mm512_sub_epi32(_mm512_set1_epi32(15), shift));
    return (struct fold){shift, _mm512_scalef_ps(_mm512_sub_ps(zero, inverse), up), inverse, _mm512_sub_ps(bad, unit)};
}

/* Both halves of a dword. */
INLINE __m512i twice(__m512i v) {
    return _mm512_or_si512(_mm512_and_si512(v, _mm512_set1_epi32(0xffff)), _mm512_slli_epi32(v, 16));
}

/* One block: the codes in hi become hi and lo. min may be NULL. */
static void fold_block(int group, const float (*scale)[MR], const float (*min)[MR], int8_t (*hi)[MR][4],
                       int8_t (*lo)[MR][4], float *unit) {
    /* Bytes of two vectors of int16, the even and the odd codes: the low ones, and the high ones. */
    static const uint16_t low[32] __attribute__((aligned(64))) = {
        0x4000, 0x4202, 0x4404, 0x4606, 0x4808, 0x4a0a, 0x4c0c, 0x4e0e, 0x5010, 0x5212, 0x5414,
        0x5616, 0x5818, 0x5a1a, 0x5c1c, 0x5e1e, 0x6020, 0x6222, 0x6424, 0x6626, 0x6828, 0x6a2a,
        0x6c2c, 0x6e2e, 0x7030, 0x7232, 0x7434, 0x7636, 0x7838, 0x7a3a, 0x7c3c, 0x7e3e};
    const __m512i low_bytes = _mm512_load_si512(low), high_bytes = _mm512_add_epi8(low_bytes, _mm512_set1_epi8(1));
    struct fold f = choose_fold(code_range((const void *)hi), SR_KC / group, scale, min);
    __m512i even_shift = twice(f.shift), odd_shift = _mm512_sub_epi16(even_shift, _mm512_set1_epi16(8));
    for (int g = 0; g < SR_KC / group; g++) {
        __m512i by = _mm512_cvtps_epi32(_mm512_mul_ps(_mm512_loadu_ps(scale[g]), f.factor));
        by = twice(_mm512_min_epi32(by, _mm512_set1_epi32(32767)));
        __m512i plus = _mm512_setzero_si512();
        if (min) plus = twice(_mm512_cvtps_epi32(_mm512_mul_ps(_mm512_loadu_ps(min[g]), f.inverse)));
        for (int k = g * group / 4; k < (g + 1) * group / 4; k++) {
            __m512i v = _mm512_loadu_si512(hi[k]);
            __m512i even = _mm512_sllv_epi16(v, even_shift);
            __m512i odd = _mm512_sllv_epi16(_mm512_and_si512(v, _mm512_set1_epi16(-256)), odd_shift);
            even = _mm512_add_epi16(_mm512_mulhrs_epi16(even, by), plus);
            odd = _mm512_add_epi16(_mm512_mulhrs_epi16(odd, by), plus);
            _mm512_storeu_si512(hi[k], _mm512_permutex2var_epi8(even, high_bytes, odd));
            _mm512_storeu_si512(lo[k], _mm512_permutex2var_epi8(even, low_bytes, odd));
        }
    }
    _mm512_storeu_ps(unit, f.scale);
}

void sr_gemm_amx_pack_w(const sr_panel *p, int half, int group, bool has_min, void *tile) {
    struct tile *w = (struct tile *)tile + half;
    float scale[KC / 16][MR], min[KC / 16][MR];
    transpose(p->code, sizeof p->code[0], KC / 4, w->code);
    transpose(p->scale, sizeof p->scale[0], KC / group, scale);
    if (has_min) transpose(p->min, sizeof p->min[0], KC / group, min);
    if (planes_of(group, has_min) == 1)
        memcpy(w->scale, scale, sizeof w->scale);
    else
        for (int b = 0; b < KC / SR_KC; b++) {
            int k = b * SR_KC / 4, g = b * SR_KC / group;
            fold_block(group, (const void *)(scale + g), has_min ? (const void *)(min + g) : NULL, w->code[0] + k,
                       w->code[1] + k, w->scale[b]);
        }
}

void sr_gemm_amx_pack_x(const sr_x8 *x, int item, void *packed) {
    for (int64_t b = 0; b < x->n_block; b++)
        for (int t = item * NR; t < (item + 1) * NR; t++) {
            struct columns c = columns_at(packed, x->T, x->n_block, b * SR_KC / KC, t / TILE * TILE);
            int64_t in = b * SR_KC % KC / SR_KC, from = t * x->n_block + b;
            int8_t *to = (int8_t *)c.code + in * SR_KC * TILE + t % TILE * STEP;
            bool real = t < x->T;
            for (int k = 0; k < SR_KC; k += STEP)
                if (real)
                    memcpy(to + k * TILE, x->code + from * SR_KC + k, STEP);
                else
                    memset(to + k * TILE, 0, STEP);
            ((float *)c.scale)[in * TILE + t % TILE] = real ? x->scale[from] : 0;
        }
}

/* ---- kernels ---- */

struct job {
    const struct tile *w;
    const sr_x8 *x;
    const void *packed;
    int64_t chunk;
    int n_block;
    bool first;
    float *acc, *edge; /* edge[NR][SR_PAIR]: the columns from x->T / NR * NR on */
};

/* Sums that wait for their vector work, and where they go. */
struct pending {
    int32_t (*sum)[TILE][MR]; /* of x tile i / 2 and w tile i % 2 */
    __m512 s0, s1;
    const float *xs0, *xs1;
    bool fresh; /* y is overwritten */
    float *y;
};

INLINE void add_scaled(__m512i sum, __m512 s, float xs, bool fresh, float *y) {
    __m512 old = fresh ? _mm512_setzero_ps() : _mm512_loadu_ps(y);
    _mm512_storeu_ps(y, _mm512_fmadd_ps(_mm512_cvtepi32_ps(sum), _mm512_mul_ps(s, _mm512_set1_ps(xs)), old));
}

/* A quarter of it: 8 columns. */
INLINE void settle(const struct pending *p, int quarter, const int planes) {
    int c = quarter / 2, i0 = quarter % 2 * 8;
    const float *xs = c ? p->xs1 : p->xs0;
#pragma GCC unroll 8
    for (int i = i0; i < i0 + 8; i++) {
        float *y = p->y + (c * TILE + i) * SR_PAIR;
        __m512i v0 = _mm512_load_si512(p->sum[2 * c][i]), v1 = _mm512_load_si512(p->sum[2 * c + 1][i]);
        if (planes == 2) {
            add_scaled(_mm512_add_epi32(_mm512_slli_epi32(v0, 8), v1), p->s0, xs[i], p->fresh, y);
        } else {
            add_scaled(v0, p->s0, xs[i], p->fresh, y);
            add_scaled(v1, p->s1, xs[i], p->fresh, y + MR);
        }
    }
}

/* 32 columns by one block of 256 of K by two w tiles (both row tiles, or both planes of one), and meanwhile the vector
 * work of the one before. */
INLINE void multiply(const int planes, const int8_t *w0, const int8_t *w1, const int8_t *x0, const int8_t *x1,
                     int32_t (*sum)[TILE][MR], const struct pending *last) {
    TILE_ZERO("tmm0");
    TILE_ZERO("tmm1");
    TILE_ZERO("tmm2");
    TILE_ZERO("tmm3");
#pragma GCC unroll 4
    for (int q = 0; q < SR_KC / STEP; q++) {
        int at = q * STEP * TILE;
        TILE_LOAD("tmm6", w0 + at);
        TILE_LOAD("tmm4", x0 + at);
        TILE_LOAD("tmm7", w1 + at);
        TILE_LOAD("tmm5", x1 + at);
        TILE_DOT("tmm0", "tmm4", "tmm6");
        TILE_DOT("tmm2", "tmm5", "tmm6");
        if (planes == 2) {
            TILE_DOT_LO("tmm1", "tmm4", "tmm7");
            TILE_DOT_LO("tmm3", "tmm5", "tmm7");
        } else {
            TILE_DOT("tmm1", "tmm4", "tmm7");
            TILE_DOT("tmm3", "tmm5", "tmm7");
        }
        if (last->y) settle(last, q, planes);
    }
    TILE_STORE(sum[0], "tmm0");
    TILE_STORE(sum[1], "tmm1");
    TILE_STORE(sum[2], "tmm2");
    TILE_STORE(sum[3], "tmm3");
}

INLINE float *place(const struct job *j, int t) {
    int whole = j->x->T / NR * NR;
    return t < whole ? j->acc + (size_t)t * SR_PAIR : j->edge + (t - whole) * SR_PAIR;
}

/* One unit of work: columns t .. t+32, block b, and row tile h of the two planes (or both row tiles). */
INLINE void run_unit(const int planes, const struct job *j, int t, int b, int h, int32_t (*sum)[TILE][MR],
                     struct pending *last) {
    struct columns x0 = columns_at(j->packed, j->x->T, j->x->n_block, j->chunk, t);
    struct columns x1 = columns_at(j->packed, j->x->T, j->x->n_block, j->chunk, t + TILE);
    const struct tile *w = j->w + h;
    int k = b * SR_KC;
    const int8_t *w1 = planes == 2 ? w->code[1][k / 4][0] : w[1].code[0][k / 4][0];
    multiply(planes, w->code[0][k / 4][0], w1, x0.code + k * TILE, x1.code + k * TILE, sum, last);
    last->s0 = _mm512_loadu_ps(w->scale[b]);
    last->s1 = _mm512_loadu_ps(j->w[1].scale[b]);
    last->xs0 = x0.scale + b * TILE;
    last->xs1 = x1.scale + b * TILE;
    last->fresh = j->first && b == 0;
    last->y = place(j, t) + h * MR;
}

/* What is read again soon has to fit L1: one plane, both blocks of the tiles with y; two planes, one block of them. */
static void run_codes(const struct job *j) {
    int32_t sum[4][TILE][MR] __attribute__((aligned(64)));
    struct pending last = {.sum = sum};
    for (int t = 0; t < j->x->T; t += NR)
        for (int b = 0; b < j->n_block; b++) run_unit(1, j, t, b, 0, sum, &last);
    for (int q = 0; q < SR_KC / STEP; q++) settle(&last, q, 1);
}

static void run_planes(const struct job *j) {
    int32_t sum[4][TILE][MR] __attribute__((aligned(64)));
    struct pending last = {.sum = sum};
    for (int b = 0; b < j->n_block; b++)
        for (int t = 0; t < j->x->T; t += NR)
            for (int h = 0; h < 2; h++) run_unit(2, j, t, b, h, sum, &last);
    for (int q = 0; q < SR_KC / STEP; q++) settle(&last, q, 2);
}

void sr_gemm_amx_gemm_i8(const void *tile, int group, bool has_min, const sr_x8 *x, const void *packed, int64_t k0,
                         bool first, float *acc, sr_ahead next) {
    float edge[NR * SR_PAIR] __attribute__((aligned(64)));
    int64_t left = x->n_block - k0 / SR_KC;
    int whole = x->T / NR * NR, n_block = left < KC / SR_KC ? (int)left : KC / SR_KC;
    size_t rest = (size_t)(x->T - whole) * SR_PAIR * sizeof *acc;
    if (rest > 0 && !first) memset(edge, 0, sizeof edge);
    if (rest > 0 && !first) memcpy(edge, acc + (size_t)whole * SR_PAIR, rest);
    struct job j = {tile, x, packed, k0 / KC, n_block, first, acc, edge};
    sr_prefetch(next, 0, 1);
    (planes_of(group, has_min) == 1 ? run_codes : run_planes)(&j);
    if (rest > 0) memcpy(acc + (size_t)whole * SR_PAIR, edge, rest);
}

void sr_gemm_amx_begin(int T, int group, bool has_min) {
    (void)T, (void)group, (void)has_min;
    tiles_begin(TILE, STEP, STEP);
}

void sr_gemm_amx_end(void) {
    tiles_end();
}

void sr_gemm_amx_probe(int64_t n) {
    enum { OPS = 2 * TILE * MR * STEP, STEPS = sr_gemm_amx_probe_ops / (4 * OPS) };
    tiles_begin(TILE, STEP, STEP);
    for (; n > 0; n--)
        for (int i = 0; i < STEPS; i++) {
            TILE_DOT("tmm0", "tmm4", "tmm6");
            TILE_DOT("tmm1", "tmm4", "tmm7");
            TILE_DOT("tmm2", "tmm5", "tmm6");
            TILE_DOT("tmm3", "tmm5", "tmm7");
        }
    tiles_end();
}

#include "cpu/target_end.h"

#endif
