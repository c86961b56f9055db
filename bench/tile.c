/* bench/tile.c: proof of the tile GEMM, y[T][N] = x[T][K] * w[N][K]^T with block-quantized w.
 *
 *   GGUF blocks --panel (per format)--> 16 rows of int8 codes --pack (one for all)--> tile --kernel (per ISA)--> y
 *
 * Tile: 16 rows x KC columns, each array transposed so that one 512-bit vector holds one dword of 16 rows:
 *   code  int8  [KC/4][16][4]      init int32 [KC/group][16] = -128 * sum of the group's codes
 *   scale f32   [KC/group][16]     group = 256 or 32
 *   min   int16 [KC/32][16][2]     integer min of 16 columns (formats with mins)
 *   min_scale f32 [KC/256][16]     minus dmin
 * Columns: x is int8 with one scale per 256, stored as x + 128; KC chunk after KC chunk, so that a pass over one tile reads
 * them in order, and in a chunk by blocks of NR columns (NR = 12, then 8 and 4 for the rest, T padded to 4):
 *   code uint8 [K/KC][T/NR][KC/4][NR][4], scale f32 [K/KC][T/NR][KC/256][NR],
 *   sum int16 [K/KC][T/NR][KC/32][NR][2] (sums of 16 codes).
 * vpdpbusd wants one unsigned operand. x is that one, and the accumulators of a group start at `init`, which takes the
 * 128 back exactly: sum(c * (x + 128)) - 128 * sum(c) = sum(c * x).
 *
 * Tried and lost (share of the vpdpbusd zmm peak, Sapphire-Rapids class, medians of 11, ranges over gcc 12 and clang 14 builds).
 * Kernel alone on one thread, x of one chunk (about 256 KiB) in L2:
 *   group 256: 16x14 .74-.77, 32x6 .82-.83, 32x8 .85-.87, 32x10 .85-.87, 32x13 .85-.87, 48x6 .84-.87, 48x8 .86-.88;
 *     32x12 .88 won. 16xNR needs NR + 1 loads for NR dot instructions, and two loads a cycle are all there is.
 *   group 256 with min: 16x14 .62-.65, 32x8 .70-.73, 32x10 .72-.75, 48x8 .73; 32x12 .74-.76 won (72 dot instructions for 64).
 *   group 32: a conversion and an FMA after 8 dot instructions bound it at 8/10. f32 sums in L1: 16x14 .55-.62, 32x8 .65-.68,
 *     32x10 .62-.65, 32x12 .55-.58, 48x6 .62-.68. In registers: 16x14 .62, 48x4 .58-.69, 32x7 .68-.70, 32x6 .68-.71 won,
 *     as two of it are a block of 12.
 *   Intrinsics instead of one-instruction asm: gcc 12 copies each accumulator around each dot instruction, 32x12 .43-.46.
 *   Accumulators in arrays: clang 14 keeps them in memory, .30. One loaded `init` copied to all instead of a load each: 32x8 .80.
 *   Prefetch of the next columns or of y; KC 256 and 1024: within the noise.
 * Whole pipeline on two threads (Q4_K per 256, T = 512, where each share moves by about .05 from run to run): y copied with
 *   plain stores .52-.60 instead of .61-.76 streamed; columns that are not chunk-major and y zeroed at once: no clear difference.
 */
#define _GNU_SOURCE
#include <cpuid.h>
#include <immintrin.h>
#include <math.h>
#include <pthread.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define AVX512 __attribute__((target("avx512f,avx512bw,avx512vl,avx512dq,avx512vnni,avx2,fma,f16c")))
#define AVXVNNI __attribute__((target("avxvnni,avx2,fma")))
#define AVX2 __attribute__((target("avx2,fma")))
#define INLINE static inline __attribute__((always_inline))

#ifdef __clang__
#define UNROLL8 _Pragma("unroll")
#else
#define UNROLL8 _Pragma("GCC unroll 8")
#endif

enum { ROWS = 16, BLOCK = 256, KC = 512, PAIR = 2 * ROWS, MAX_T = 512 };

struct tile { int8_t *code; int32_t *init; float *scale; int16_t *min; float *min_scale; };

/* 16 rows of KC columns as panels write them. The pitch keeps equal columns of the rows out of the same cache set. */
struct panel {
    int8_t code[ROWS][KC + 64];
    float scale[ROWS][KC / 32 + 4];
    int16_t min[ROWS][KC / 16 + 8];
    float min_scale[ROWS][KC / BLOCK + 2];
};

struct cols { const uint8_t *code; const int16_t *code16; const float *scale; const int16_t *sum; };

/* w[2]: two tiles; pitch: columns that x's block holds (a kernel may take a part of them); y[nr][ldy] += result. */
typedef void kernel_fn(const struct tile *w, struct cols x, int pitch, int n_block, float *y, int64_t ldy);
typedef void panel_fn(const uint8_t *blocks, int n_block, int8_t *code, float *scale, int16_t *min, float *min_scale);

struct format {
    const char *name;
    panel_fn *fast, *plain;
    int bytes;    /* of 256 columns */
    int group;
    int has_min;
};

INLINE int32_t load32(const void *p) { int32_t v; memcpy(&v, p, 4); return v; }

/* ---- f16 ---- */

static float f16_to_f32(uint16_t h)
{
    int exponent = h >> 10 & 31, mantissa = h & 1023;
    float v = exponent ? ldexpf((float)(1024 + mantissa), exponent - 25) : ldexpf((float)mantissa, -24);
    return h & 0x8000 ? -v : v;
}

static uint16_t f16_at(const uint8_t *p) { uint16_t v; memcpy(&v, p, 2); return v; }

/* ---- panels: one row, n_block * 256 columns ---- */

static void panel_q8_0_plain(const uint8_t *p, int n_block, int8_t *code, float *scale, int16_t *min, float *min_scale)
{
    (void)min, (void)min_scale;
    for (int i = 0; i < 8 * n_block; i++, p += 34) {
        scale[i] = f16_to_f32(f16_at(p));
        memcpy(code + 32 * i, p + 2, 32);
    }
}

AVX512 static void panel_q8_0(const uint8_t *p, int n_block, int8_t *code, float *scale, int16_t *min, float *min_scale)
{
    (void)min, (void)min_scale;
    for (int i = 0; i < 8 * n_block; i++, p += 34) {
        scale[i] = _cvtsh_ss(f16_at(p));
        _mm256_storeu_si256((__m256i *)(code + 32 * i), _mm256_loadu_si256((const __m256i *)(p + 2)));
    }
}

/* Q4_K's 12 bytes of 6-bit scales and mins as bytes: sc[0..7], mn[0..7]. Inlined, since a call to legacy SSE code out of
 * a 512-bit panel costs more than the whole panel. */
INLINE void unpack_k4(const uint8_t *s, uint8_t out[16])
{
    uint32_t a, b, c;
    memcpy(&a, s, 4), memcpy(&b, s + 4, 4), memcpy(&c, s + 8, 4);
    uint32_t v[4] = { a & 0x3f3f3f3f, (c & 0x0f0f0f0f) | (a >> 2 & 0x30303030),
                      b & 0x3f3f3f3f, (c >> 4 & 0x0f0f0f0f) | (b >> 2 & 0x30303030) };
    memcpy(out, v, 16);
}

/* Codes 0..15, a scale and a min per 32: exact. */
static void panel_q4_k_exact_plain(const uint8_t *p, int n_block, int8_t *code, float *scale, int16_t *min, float *min_scale)
{
    for (int b = 0; b < n_block; b++, p += 144) {
        float d = f16_to_f32(f16_at(p));
        uint8_t k[16];
        unpack_k4(p + 4, k);
        min_scale[b] = -f16_to_f32(f16_at(p + 2));
        for (int e = 0; e < BLOCK; e++)
            code[BLOCK * b + e] = (int8_t)(p[16 + 32 * (e / 64) + e % 32] >> (e % 64 < 32 ? 0 : 4) & 15);
        for (int j = 0; j < 8; j++) {
            scale[8 * b + j] = d * (float)k[j];
            min[16 * b + 2 * j] = min[16 * b + 2 * j + 1] = k[8 + j];
        }
    }
}

AVX512 static void panel_q4_k_exact(const uint8_t *p, int n_block, int8_t *code, float *scale, int16_t *min, float *min_scale)
{
    const __m512i nibble = _mm512_set1_epi8(15), shift = _mm512_set_epi64(4, 4, 4, 4, 0, 0, 0, 0);
    for (int b = 0; b < n_block; b++, p += 144) {
        uint8_t k[16];
        unpack_k4(p + 4, k);
        __m256i sc = _mm256_cvtepu8_epi32(_mm_loadl_epi64((const __m128i *)k));
        __m256i mn = _mm256_cvtepu8_epi32(_mm_loadl_epi64((const __m128i *)(k + 8)));
        _mm256_storeu_ps(scale + 8 * b, _mm256_mul_ps(_mm256_cvtepi32_ps(sc), _mm256_set1_ps(_cvtsh_ss(f16_at(p)))));
        _mm256_storeu_si256((__m256i *)(min + 16 * b), _mm256_or_si256(mn, _mm256_slli_epi32(mn, 16)));
        min_scale[b] = -_cvtsh_ss(f16_at(p + 2));
        for (int c = 0; c < 4; c++) {
            __m512i v = _mm512_broadcast_i64x4(_mm256_loadu_si256((const __m256i *)(p + 16 + 32 * c)));
            _mm512_storeu_si512(code + BLOCK * b + 64 * c, _mm512_and_si512(_mm512_srlv_epi64(v, shift), nibble));
        }
    }
}

/* Q4_K as one symmetric int8 scale per 256. A sub-block has only 16 values, so they are rounded once, in a table.
 * The grid's step is a 254th of the block's range. The largest |value| of a sub-block is at one of its two ends. */
struct k4_grid { float a[8], b[8], scale; };

static struct k4_grid k4_coarsen(float d, float dmin, const uint8_t k[16])
{
    struct k4_grid g = { .scale = 0 };
    float amax = 0;
    for (int j = 0; j < 8; j++) {
        g.a[j] = d * (float)k[j], g.b[j] = -dmin * (float)k[8 + j];
        amax = fmaxf(amax, fmaxf(fabsf(g.b[j]), fabsf(fmaf(15, g.a[j], g.b[j]))));
    }
    float inverse = amax > 0 ? 127 / amax : 0;
    for (int j = 0; j < 8; j++)
        g.a[j] *= inverse, g.b[j] *= inverse;
    g.scale = amax / 127;
    return g;
}

static void panel_q4_k_plain(const uint8_t *p, int n_block, int8_t *code, float *scale, int16_t *min, float *min_scale)
{
    (void)min, (void)min_scale;
    for (int b = 0; b < n_block; b++, p += 144) {
        uint8_t k[16];
        unpack_k4(p + 4, k);
        struct k4_grid g = k4_coarsen(f16_to_f32(f16_at(p)), f16_to_f32(f16_at(p + 2)), k);
        scale[b] = g.scale;
        for (int e = 0; e < BLOCK; e++) {
            int q = p[16 + 32 * (e / 64) + e % 32] >> (e % 64 < 32 ? 0 : 4) & 15;
            code[BLOCK * b + e] = (int8_t)lrintf(fmaf((float)q, g.a[e / 32], g.b[e / 32]));
        }
    }
}

AVX512 INLINE __m512i k4_values(float a, float b)
{
    const __m512 q = _mm512_set_ps(15, 14, 13, 12, 11, 10, 9, 8, 7, 6, 5, 4, 3, 2, 1, 0);
    return _mm512_cvtps_epi32(_mm512_fmadd_ps(q, _mm512_set1_ps(a), _mm512_set1_ps(b)));
}

AVX512 static void panel_q4_k(const uint8_t *p, int n_block, int8_t *code, float *scale, int16_t *min, float *min_scale)
{
    (void)min, (void)min_scale;
    const __m512i nibble = _mm512_set1_epi8(15), shift = _mm512_set_epi64(4, 4, 4, 4, 0, 0, 0, 0);
    /* Two packs leave dword s of lane l = values 4l..4l+3 of sub-block s. A table repeats for both lanes of its 32 codes. */
    const __m512i table01 = _mm512_set_epi32(13, 9, 5, 1, 13, 9, 5, 1, 12, 8, 4, 0, 12, 8, 4, 0);
    const __m512i table23 = _mm512_add_epi32(table01, _mm512_set1_epi32(2));
    for (int i = 0; i < n_block; i++, p += 144) {
        uint8_t k[16];
        unpack_k4(p + 4, k);
        __m256 a = _mm256_mul_ps(_mm256_cvtepi32_ps(_mm256_cvtepu8_epi32(_mm_loadl_epi64((const __m128i *)k))),
                                 _mm256_set1_ps(_cvtsh_ss(f16_at(p))));
        __m256 b = _mm256_mul_ps(_mm256_cvtepi32_ps(_mm256_cvtepu8_epi32(_mm_loadl_epi64((const __m128i *)(k + 8)))),
                                 _mm256_set1_ps(-_cvtsh_ss(f16_at(p + 2))));
        __m256 top = _mm256_fmadd_ps(_mm256_set1_ps(15), a, b);
        __m256 m = _mm256_max_ps(_mm256_andnot_ps(_mm256_set1_ps(-0.0f), top), _mm256_andnot_ps(_mm256_set1_ps(-0.0f), b));
        __m128 h = _mm_max_ps(_mm256_castps256_ps128(m), _mm256_extractf128_ps(m, 1));
        h = _mm_max_ps(h, _mm_movehl_ps(h, h));
        float amax = _mm_cvtss_f32(_mm_max_ss(h, _mm_movehdup_ps(h)));
        float inverse = amax > 0 ? 127 / amax : 0;
        float av[8], bv[8];
        _mm256_storeu_ps(av, _mm256_mul_ps(a, _mm256_set1_ps(inverse)));
        _mm256_storeu_ps(bv, _mm256_mul_ps(b, _mm256_set1_ps(inverse)));
        scale[i] = amax / 127;
        for (int half = 0; half < 2; half++) {
            const float *pa = av + 4 * half, *pb = bv + 4 * half;
            __m512i v = _mm512_packs_epi16(_mm512_packs_epi32(k4_values(pa[0], pb[0]), k4_values(pa[1], pb[1])),
                                           _mm512_packs_epi32(k4_values(pa[2], pb[2]), k4_values(pa[3], pb[3])));
            __m512i table[2] = { _mm512_permutexvar_epi32(table01, v), _mm512_permutexvar_epi32(table23, v) };
            for (int c = 0; c < 2; c++) {
                const uint8_t *qs = p + 16 + 64 * half + 32 * c;
                __m512i q = _mm512_broadcast_i64x4(_mm256_loadu_si256((const __m256i *)qs));
                q = _mm512_and_si512(_mm512_srlv_epi64(q, shift), nibble);
                _mm512_storeu_si512(code + BLOCK * i + 128 * half + 64 * c, _mm512_shuffle_epi8(table[c], q));
            }
        }
    }
}

/* Q2_K: the code is q * sc <= 3 * 15, so one scale per 256 is exact; the min stays an integer per 16. */
static void panel_q2_k_plain(const uint8_t *p, int n_block, int8_t *code, float *scale, int16_t *min, float *min_scale)
{
    for (int b = 0; b < n_block; b++, p += 84) {
        scale[b] = f16_to_f32(f16_at(p + 80));
        min_scale[b] = -f16_to_f32(f16_at(p + 82));
        for (int e = 0; e < BLOCK; e++) {
            int q = p[16 + 32 * (e / 128) + e % 32] >> 2 * (e % 128 / 32) & 3;
            code[BLOCK * b + e] = (int8_t)(q * (p[e / 16] & 15));
        }
        for (int g = 0; g < 16; g++)
            min[16 * b + g] = p[g] >> 4;
    }
}

AVX512 static void panel_q2_k(const uint8_t *p, int n_block, int8_t *code, float *scale, int16_t *min, float *min_scale)
{
    const __m512i two_bits = _mm512_set1_epi8(3), shift = _mm512_set_epi64(2, 2, 2, 2, 0, 0, 0, 0);
    const __m512i lane = _mm512_set_epi32(3, 3, 3, 3, 2, 2, 2, 2, 1, 1, 1, 1, 0, 0, 0, 0);
    for (int b = 0; b < n_block; b++, p += 84) {
        __m128i s = _mm_loadu_si128((const __m128i *)p);
        scale[b] = _cvtsh_ss(f16_at(p + 80));
        min_scale[b] = -_cvtsh_ss(f16_at(p + 82));
        __m256i mn = _mm256_cvtepu8_epi16(_mm_and_si128(_mm_srli_epi16(s, 4), _mm_set1_epi8(15)));
        _mm256_storeu_si256((__m256i *)(min + 16 * b), mn);
        /* A 16-byte lane is one group: its table is the four bytes 0, sc, 2 sc, 3 sc, one multiplication away. */
        __m512i table = _mm512_mullo_epi32(_mm512_cvtepu8_epi32(_mm_and_si128(s, _mm_set1_epi8(15))),
                                           _mm512_set1_epi32(0x03020100));
        for (int i = 0; i < 4; i++) {
            __m512i q = _mm512_broadcast_i64x4(_mm256_loadu_si256((const __m256i *)(p + 16 + 32 * (i / 2))));
            q = _mm512_srlv_epi64(q, _mm512_add_epi64(shift, _mm512_set1_epi64(4 * (i % 2))));
            __m512i t = _mm512_permutexvar_epi32(_mm512_add_epi32(lane, _mm512_set1_epi32(4 * i)), table);
            _mm512_storeu_si512(code + BLOCK * b + 64 * i, _mm512_shuffle_epi8(t, _mm512_and_si512(q, two_bits)));
        }
    }
}

/* ---- pack: everything in a tile is 16 rows of dwords, transposed ---- */

INLINE void transpose_plain(const void *src, size_t pitch, int n, void *dst)
{
    for (int i = 0; i < n; i++)
        for (int r = 0; r < ROWS; r++)
            memcpy((char *)dst + 4 * (ROWS * i + r), (const char *)src + pitch * (size_t)r + 4 * i, 4);
}

static void pack_plain(const struct panel *p, const struct format *f, struct tile *w)
{
    transpose_plain(p->code, sizeof p->code[0], KC / 4, w->code);
    transpose_plain(p->scale, sizeof p->scale[0], KC / f->group, w->scale);
    if (f->has_min) {
        transpose_plain(p->min, sizeof p->min[0], KC / 32, w->min);
        transpose_plain(p->min_scale, sizeof p->min_scale[0], KC / BLOCK, w->min_scale);
    }
    for (int g = 0; g < KC / f->group; g++)
        for (int r = 0; r < ROWS; r++) {
            int sum = 0;
            for (int i = 0; i < f->group; i++)
                sum += p->code[r][f->group * g + i];
            w->init[ROWS * g + r] = -128 * sum;
        }
}

/* Lane l of the result is 16 bytes of row 4l + i. */
AVX512 INLINE __m512i four_rows(const char *p, size_t pitch)
{
    __m512i v = _mm512_castsi128_si512(_mm_loadu_si128((const __m128i *)p));
    v = _mm512_inserti32x4(v, _mm_loadu_si128((const __m128i *)(p + 4 * pitch)), 1);
    v = _mm512_inserti32x4(v, _mm_loadu_si128((const __m128i *)(p + 8 * pitch)), 2);
    return _mm512_inserti32x4(v, _mm_loadu_si128((const __m128i *)(p + 12 * pitch)), 3);
}

/* Transposes four dwords of 16 rows into out[4]; returns sum + 128 * (the sum of each row's 16 codes), which costs nothing. */
AVX512 INLINE __m512i transpose4(const char *p, size_t pitch, void *out, __m512i sum)
{
    const __m512i by128 = _mm512_set1_epi8(-128);
    __m512i a = four_rows(p, pitch), b = four_rows(p + pitch, pitch);
    __m512i c = four_rows(p + 2 * pitch, pitch), d = four_rows(p + 3 * pitch, pitch);
    __m512i ab0 = _mm512_unpacklo_epi32(a, b), ab1 = _mm512_unpackhi_epi32(a, b);
    __m512i cd0 = _mm512_unpacklo_epi32(c, d), cd1 = _mm512_unpackhi_epi32(c, d);
    __m512i v[4] = { _mm512_unpacklo_epi64(ab0, cd0), _mm512_unpackhi_epi64(ab0, cd0),
                     _mm512_unpacklo_epi64(ab1, cd1), _mm512_unpackhi_epi64(ab1, cd1) };
    for (int i = 0; i < 4; i++) {
        _mm512_storeu_si512((char *)out + 64 * i, v[i]);
        sum = _mm512_dpbusd_epi32(sum, by128, v[i]);
    }
    return sum;
}

AVX512 static void transpose(const void *src, size_t pitch, int n, void *dst)
{
    int i = 0;
    for (; i + 4 <= n; i += 4)
        transpose4((const char *)src + 4 * i, pitch, (char *)dst + 64 * i, _mm512_setzero_si512());
    transpose_plain((const char *)src + 4 * i, pitch, n - i, (char *)dst + 64 * i);
}

AVX512 static void pack(const struct panel *p, const struct format *f, struct tile *w)
{
    for (int g = 0; g < KC / f->group; g++) {
        __m512i sum = _mm512_setzero_si512();
        for (int k = g * f->group; k < (g + 1) * f->group; k += 16)
            sum = transpose4((const char *)p->code + k, sizeof p->code[0], w->code + ROWS * k, sum);
        _mm512_storeu_si512(w->init + ROWS * g, _mm512_sub_epi32(_mm512_setzero_si512(), sum));
    }
    transpose(p->scale, sizeof p->scale[0], KC / f->group, w->scale);
    if (f->has_min) {
        transpose(p->min, sizeof p->min[0], KC / 32, w->min);
        transpose(p->min_scale, sizeof p->min_scale[0], KC / BLOCK, w->min_scale);
    }
}

/* ---- AVX-512 VNNI kernels: 32 rows (two tiles) x up to 12 columns ---- */

/* Named accumulators instead of an array: only so do both compilers keep them in registers. */
#define COLUMNS(f) \
    do { \
        f(0); f(1); f(2); f(3); \
        if (nr > 4) { f(4); f(5); } \
        if (nr > 6) { f(6); f(7); } \
        if (nr > 8) { f(8); f(9); f(10); f(11); } \
    } while (0)

struct acc512 { __m512i r0, r1; };
struct sum512 { __m512 r0, r1; };

/* Asm, because gcc 12 surrounds the intrinsics with register copies that cost as much as the instruction. */
AVX512 INLINE __m512i dot8(__m512i a, __m512i x, __m512i w) { __asm__("vpdpbusd %2, %1, %0" : "+v"(a) : "v"(x), "v"(w)); return a; }
AVX512 INLINE __m512i dot16(__m512i a, __m512i x, __m512i w) { __asm__("vpdpwssd %2, %1, %0" : "+v"(a) : "v"(x), "v"(w)); return a; }

/* Volatile, so that each accumulator is loaded (a free port) and not copied from the first (a busy one). */
AVX512 INLINE struct acc512 start512(const int32_t *r0, const int32_t *r1)
{
    return (struct acc512){ *(const volatile __m512i *)r0, *(const volatile __m512i *)r1 };
}

AVX512 INLINE void step8(struct acc512 *a, const uint8_t *x, __m512i w0, __m512i w1)
{
    __m512i v = _mm512_set1_epi32(load32(x));
    a->r0 = dot8(a->r0, v, w0), a->r1 = dot8(a->r1, v, w1);
}

AVX512 INLINE void step16(struct acc512 *a, const int16_t *x, __m512i w0, __m512i w1)
{
    __m512i v = _mm512_set1_epi32(load32(x));
    a->r0 = dot16(a->r0, v, w0), a->r1 = dot16(a->r1, v, w1);
}

AVX512 INLINE void add_scaled(float *y, __m512 v, __m512 s) { _mm512_storeu_ps(y, _mm512_fmadd_ps(v, s, _mm512_loadu_ps(y))); }

AVX512 INLINE void finish512(struct acc512 a, __m512 s0, __m512 s1, float xs, float *y)
{
    add_scaled(y, _mm512_cvtepi32_ps(a.r0), _mm512_mul_ps(s0, _mm512_set1_ps(xs)));
    add_scaled(y + ROWS, _mm512_cvtepi32_ps(a.r1), _mm512_mul_ps(s1, _mm512_set1_ps(xs)));
}

AVX512 INLINE void gather512(struct sum512 *f, struct acc512 a, __m512 s0, __m512 s1)
{
    f->r0 = _mm512_fmadd_ps(_mm512_cvtepi32_ps(a.r0), s0, f->r0);
    f->r1 = _mm512_fmadd_ps(_mm512_cvtepi32_ps(a.r1), s1, f->r1);
}

AVX512 INLINE void kernel_g256(const int nr, const int has_min, const struct tile *w, struct cols x, int pitch,
                               int n_block, float *y, int64_t ldy)
{
    static const int32_t zero[ROWS] __attribute__((aligned(64)));
    const int8_t *p0 = w[0].code, *p1 = w[1].code;
    struct acc512 c0, c1, c2, c3, c4, c5, c6, c7, c8, c9, c10, c11;
    for (int b = 0; b < n_block; b++, x.scale += pitch) {
#define START(i) c##i = start512(w[0].init + ROWS * b, w[1].init + ROWS * b)
        COLUMNS(START);
        for (int k = 0; k < BLOCK / 4; k++, p0 += 64, p1 += 64, x.code += 4 * pitch) {
            __m512i w0 = _mm512_loadu_si512(p0), w1 = _mm512_loadu_si512(p1);
#define STEP(i) step8(&c##i, x.code + 4 * i, w0, w1)
            COLUMNS(STEP);
        }
        __m512 s0 = _mm512_loadu_ps(w[0].scale + ROWS * b), s1 = _mm512_loadu_ps(w[1].scale + ROWS * b);
#define FINISH(i) finish512(c##i, s0, s1, x.scale[i], y + i * ldy)
        COLUMNS(FINISH);
        if (has_min) {
#define CLEAR(i) c##i = start512(zero, zero)
            COLUMNS(CLEAR);
            for (int k = 8 * b; k < 8 * b + 8; k++, x.sum += 2 * pitch) {
                __m512i w0 = _mm512_loadu_si512(w[0].min + 32 * k), w1 = _mm512_loadu_si512(w[1].min + 32 * k);
#define STEP_MIN(i) step16(&c##i, x.sum + 2 * i, w0, w1)
                COLUMNS(STEP_MIN);
            }
            s0 = _mm512_loadu_ps(w[0].min_scale + ROWS * b), s1 = _mm512_loadu_ps(w[1].min_scale + ROWS * b);
            COLUMNS(FINISH);
        }
    }
}

AVX512 INLINE void kernel_g32(const int nr, const int has_min, const struct tile *w, struct cols x, int pitch,
                              int n_block, float *y, int64_t ldy)
{
    static const int32_t zero[ROWS] __attribute__((aligned(64)));
    const int8_t *p0 = w[0].code, *p1 = w[1].code;
    struct acc512 c0, c1, c2, c3, c4, c5, c6, c7, c8, c9, c10, c11;
    struct sum512 f0, f1, f2, f3, f4, f5, f6, f7, f8, f9, f10, f11;
    for (int b = 0; b < n_block; b++, x.scale += pitch) {
#define CLEAR_SUM(i) f##i = (struct sum512){ _mm512_setzero_ps(), _mm512_setzero_ps() }
        COLUMNS(CLEAR_SUM);
        for (int g = 8 * b; g < 8 * b + 8; g++) {
#define START32(i) c##i = start512(w[0].init + ROWS * g, w[1].init + ROWS * g)
            COLUMNS(START32);
            UNROLL8
            for (int k = 0; k < 8; k++, p0 += 64, p1 += 64, x.code += 4 * pitch) {
                __m512i w0 = _mm512_loadu_si512(p0), w1 = _mm512_loadu_si512(p1);
                COLUMNS(STEP);
            }
            __m512 s0 = _mm512_loadu_ps(w[0].scale + ROWS * g), s1 = _mm512_loadu_ps(w[1].scale + ROWS * g);
#define GATHER(i) gather512(&f##i, c##i, s0, s1)
            COLUMNS(GATHER);
        }
        if (has_min) {
            COLUMNS(CLEAR);
            for (int k = 8 * b; k < 8 * b + 8; k++, x.sum += 2 * pitch) {
                __m512i w0 = _mm512_loadu_si512(w[0].min + 32 * k), w1 = _mm512_loadu_si512(w[1].min + 32 * k);
                COLUMNS(STEP_MIN);
            }
            __m512 s0 = _mm512_loadu_ps(w[0].min_scale + ROWS * b), s1 = _mm512_loadu_ps(w[1].min_scale + ROWS * b);
            COLUMNS(GATHER);
        }
#define STORE(i) \
    add_scaled(y + i * ldy, f##i.r0, _mm512_set1_ps(x.scale[i])), \
    add_scaled(y + i * ldy + ROWS, f##i.r1, _mm512_set1_ps(x.scale[i]))
        COLUMNS(STORE);
    }
}

#define ARGS const struct tile *w, struct cols x, int pitch, int n_block, float *y, int64_t ldy
AVX512 static void g256_x12(ARGS) { kernel_g256(12, 0, w, x, pitch, n_block, y, ldy); }
AVX512 static void g256_x8(ARGS) { kernel_g256(8, 0, w, x, pitch, n_block, y, ldy); }
AVX512 static void g256_x4(ARGS) { kernel_g256(4, 0, w, x, pitch, n_block, y, ldy); }
AVX512 static void g256_min_x12(ARGS) { kernel_g256(12, 1, w, x, pitch, n_block, y, ldy); }
AVX512 static void g256_min_x8(ARGS) { kernel_g256(8, 1, w, x, pitch, n_block, y, ldy); }
AVX512 static void g256_min_x4(ARGS) { kernel_g256(4, 1, w, x, pitch, n_block, y, ldy); }
AVX512 static void g32_x6(ARGS) { kernel_g32(6, 0, w, x, pitch, n_block, y, ldy); }
AVX512 static void g32_x4(ARGS) { kernel_g32(4, 0, w, x, pitch, n_block, y, ldy); }
AVX512 static void g32_min_x6(ARGS) { kernel_g32(6, 1, w, x, pitch, n_block, y, ldy); }
AVX512 static void g32_min_x4(ARGS) { kernel_g32(4, 1, w, x, pitch, n_block, y, ldy); }

/* ---- 256-bit kernels: 16 rows (one tile), 6 columns with VNNI, 4 without ---- */

struct acc256 { __m256i r0, r1; };

AVXVNNI INLINE __m256i dot8_ymm(__m256i a, __m256i x, __m256i w)
{
    __asm__("%{vex%} vpdpbusd %2, %1, %0" : "+x"(a) : "x"(x), "x"(w));
    return a;
}

AVX2 INLINE __m256i load256(const void *p) { return _mm256_loadu_si256((const __m256i *)p); }

AVX2 INLINE struct acc256 start256(const int32_t *p)
{
    return (struct acc256){ *(const volatile __m256i *)p, *(const volatile __m256i *)(p + 8) };
}

AVXVNNI INLINE void step8_ymm(struct acc256 *a, const uint8_t *x, __m256i w0, __m256i w1)
{
    __m256i v = _mm256_set1_epi32(load32(x));
    a->r0 = dot8_ymm(a->r0, v, w0), a->r1 = dot8_ymm(a->r1, v, w1);
}

AVX2 INLINE void step16_ymm(struct acc256 *a, const int16_t *x, __m256i w0, __m256i w1)
{
    __m256i v = _mm256_set1_epi32(load32(x));
    a->r0 = _mm256_add_epi32(a->r0, _mm256_madd_epi16(v, w0));
    a->r1 = _mm256_add_epi32(a->r1, _mm256_madd_epi16(v, w1));
}

AVX2 INLINE void finish256(struct acc256 a, const float *s, float xs, float *y)
{
    __m256 v = _mm256_set1_ps(xs);
    __m256 s0 = _mm256_mul_ps(v, _mm256_loadu_ps(s)), s1 = _mm256_mul_ps(v, _mm256_loadu_ps(s + 8));
    _mm256_storeu_ps(y, _mm256_fmadd_ps(_mm256_cvtepi32_ps(a.r0), s0, _mm256_loadu_ps(y)));
    _mm256_storeu_ps(y + 8, _mm256_fmadd_ps(_mm256_cvtepi32_ps(a.r1), s1, _mm256_loadu_ps(y + 8)));
}

/* y += min_scale * xs * (min . sum), one block; the same for both 256-bit kernels. */
AVX2 INLINE void add_min_ymm(const int nr, const struct tile *w, struct cols x, int pitch, int b, float *y, int64_t ldy)
{
    for (int t = 0; t < nr; t++) {
        struct acc256 a = { _mm256_setzero_si256(), _mm256_setzero_si256() };
        for (int k = 8 * b; k < 8 * b + 8; k++)
            step16_ymm(&a, x.sum + 2 * (pitch * k + t), load256(w->min + 32 * k), load256(w->min + 32 * k + 16));
        finish256(a, w->min_scale + ROWS * b, x.scale[pitch * b + t], y + t * ldy);
    }
}

AVXVNNI INLINE void kernel_ymm(const int group, const int has_min, const struct tile *w, struct cols x, int pitch,
                               int n_block, float *y, int64_t ldy)
{
    enum { nr = 6 };
    const int8_t *p = w->code;
    struct acc256 c0, c1, c2, c3, c4, c5;
#define SIX(f) f(0); f(1); f(2); f(3); f(4); f(5)
    for (int g = 0; g < n_block * BLOCK / group; g++) {
        const float *xs = x.scale + pitch * (g * group / BLOCK), *s = w->scale + ROWS * g;
#define START_YMM(i) c##i = start256(w->init + ROWS * g)
        SIX(START_YMM);
        for (int k = 0; k < group / 4; k++, p += 64, x.code += 4 * pitch) {
            __m256i w0 = load256(p), w1 = load256(p + 32);
#define STEP_YMM(i) step8_ymm(&c##i, x.code + 4 * i, w0, w1)
            SIX(STEP_YMM);
        }
#define FINISH_YMM(i) finish256(c##i, s, xs[i], y + i * ldy)
        SIX(FINISH_YMM);
    }
    for (int b = 0; has_min && b < n_block; b++)
        add_min_ymm(nr, w, x, pitch, b, y, ldy);
}

/* x as int16 [K/4][pitch][x0 x2 x1 x3]: the even and the odd bytes of a dword of codes widen with shifts alone. */
AVX2 INLINE void kernel_avx2(const int group, const int has_min, const struct tile *w, struct cols x, int pitch,
                             int n_block, float *y, int64_t ldy)
{
    enum { nr = 4 };
    const int8_t *p = w->code;
    struct acc256 c0, c1, c2, c3;
#define FOUR(f) f(0); f(1); f(2); f(3)
    for (int g = 0; g < n_block * BLOCK / group; g++) {
        const float *xs = x.scale + pitch * (g * group / BLOCK), *s = w->scale + ROWS * g;
        c0 = c1 = c2 = c3 = (struct acc256){ _mm256_setzero_si256(), _mm256_setzero_si256() };
        for (int k = 0; k < group / 4; k++, p += 64, x.code16 += 4 * pitch) {
            __m256i w0 = load256(p), w1 = load256(p + 32);
            __m256i even0 = _mm256_srai_epi16(_mm256_slli_epi16(w0, 8), 8), odd0 = _mm256_srai_epi16(w0, 8);
            __m256i even1 = _mm256_srai_epi16(_mm256_slli_epi16(w1, 8), 8), odd1 = _mm256_srai_epi16(w1, 8);
#define STEP_AVX2(i) step16_ymm(&c##i, x.code16 + 4 * i, even0, even1), step16_ymm(&c##i, x.code16 + 4 * i + 2, odd0, odd1)
            FOUR(STEP_AVX2);
        }
        FOUR(FINISH_YMM);
    }
    for (int b = 0; has_min && b < n_block; b++)
        add_min_ymm(nr, w, x, pitch, b, y, ldy);
}

AVXVNNI static void ymm_g256_x6(ARGS) { kernel_ymm(256, 0, w, x, pitch, n_block, y, ldy); }
AVXVNNI static void ymm_g256_min_x6(ARGS) { kernel_ymm(256, 1, w, x, pitch, n_block, y, ldy); }
AVXVNNI static void ymm_g32_x6(ARGS) { kernel_ymm(32, 0, w, x, pitch, n_block, y, ldy); }
AVXVNNI static void ymm_g32_min_x6(ARGS) { kernel_ymm(32, 1, w, x, pitch, n_block, y, ldy); }
AVX2 static void avx2_g256_x4(ARGS) { kernel_avx2(256, 0, w, x, pitch, n_block, y, ldy); }
AVX2 static void avx2_g256_min_x4(ARGS) { kernel_avx2(256, 1, w, x, pitch, n_block, y, ldy); }
AVX2 static void avx2_g32_x4(ARGS) { kernel_avx2(32, 0, w, x, pitch, n_block, y, ldy); }
AVX2 static void avx2_g32_min_x4(ARGS) { kernel_avx2(32, 1, w, x, pitch, n_block, y, ldy); }

/* One row per ISA: for {g256, g256 + min, g32, g32 + min} the kernel of a block of 12, 8 and 4 columns and the
 * columns it takes at a time. */
struct isa {
    const char *name;
    int tiles;    /* that a kernel takes at once */
    struct { kernel_fn *run; int nr; } kernel[4][3];
};

static const struct isa isas[] = {
    { "AVX-512 VNNI", 2, { { { g256_x12, 12 }, { g256_x8, 8 }, { g256_x4, 4 } },
                           { { g256_min_x12, 12 }, { g256_min_x8, 8 }, { g256_min_x4, 4 } },
                           { { g32_x6, 6 }, { g32_x4, 4 }, { g32_x4, 4 } },
                           { { g32_min_x6, 6 }, { g32_min_x4, 4 }, { g32_min_x4, 4 } } } },
    { "AVX-VNNI ymm", 1, { { { ymm_g256_x6, 6 } }, { { ymm_g256_min_x6, 6 } }, { { ymm_g32_x6, 6 } }, { { ymm_g32_min_x6, 6 } } } },
    { "AVX2", 1, { { { avx2_g256_x4, 4 } }, { { avx2_g256_min_x4, 4 } }, { { avx2_g32_x4, 4 } }, { { avx2_g32_min_x4, 4 } } } },
};

static const struct format formats[] = {
    { "Q4_K per 256", panel_q4_k, panel_q4_k_plain, 144, 256, 0 },
    { "Q4_K exact", panel_q4_k_exact, panel_q4_k_exact_plain, 144, 32, 1 },
    { "Q8_0", panel_q8_0, panel_q8_0_plain, 272, 32, 0 },
    { "Q2_K", panel_q2_k, panel_q2_k_plain, 84, 256, 1 },
};
enum { N_FORMATS = sizeof formats / sizeof *formats, N_ISAS = sizeof isas / sizeof *isas };

static int kernel_class(const struct format *f) { return 2 * (f->group == 32) + f->has_min; }

/* ---- columns ---- */

static int width(int left) { return left >= 12 ? 12 : left >= 8 ? 8 : 4; }

struct columns { uint8_t *code; int16_t *code16, *sum; float *scale; int8_t *row_major; int n, n_pad, k; };

static void *allocate(size_t bytes)
{
    void *p = aligned_alloc(64, (bytes + 63) / 64 * 64);
    if (!p) {
        fputs("out of memory\n", stderr);
        exit(1);
    }
    memset(p, 0, bytes);
    return p;
}

static struct cols at(const struct columns *x, int c0, int pitch, int k0)
{
    ptrdiff_t o = (ptrdiff_t)(k0 / KC * KC) * x->n_pad + (ptrdiff_t)c0 * KC + k0 % KC * pitch;
    return (struct cols){ x->code + o, x->code16 + o, x->scale + o / BLOCK, x->sum + o / 16 };
}

static struct columns make_columns(int n, int k)
{
    struct columns x = { .n = n, .n_pad = (n + 3) / 4 * 4, .k = k };
    size_t size = (size_t)x.n_pad * (size_t)k;
    x.code = allocate(size), x.code16 = allocate(2 * size), x.row_major = allocate(size);
    x.sum = allocate(size / 8), x.scale = allocate(size / BLOCK * 4);
    for (int c0 = 0, nr; c0 < x.n_pad; c0 += nr) {
        nr = width(x.n_pad - c0);
        for (int i = 0; i < nr * k; i++) {
            int t = i / k, e = i % k;
            int v = c0 + t < n ? rand() % 255 - 127 : 0;
            struct cols c = at(&x, c0, nr, e / BLOCK * BLOCK);
            int o = (e % BLOCK / 4 * nr + t) * 4;
            static const int shuffled[4] = { 0, 2, 1, 3 };
            x.row_major[(size_t)(c0 + t) * (size_t)k + (size_t)e] = (int8_t)v;
            ((uint8_t *)c.code)[o + e % 4] = (uint8_t)(v + 128);
            ((int16_t *)c.code16)[o + shuffled[e % 4]] = (int16_t)v;
            int16_t *sum = (int16_t *)c.sum + 2 * (e % BLOCK / 32 * nr + t) + e / 16 % 2;
            *sum = (int16_t)(*sum + v);
            ((float *)c.scale)[t] = 0.5f + (float)(t % 7) / 8;
        }
    }
    return x;
}

static void free_columns(struct columns *x) { free(x->code), free(x->code16), free(x->row_major), free(x->sum), free(x->scale); }

/* ---- weights ---- */

static uint8_t *make_blocks(const struct format *f, int64_t n_block)
{
    uint8_t *p = allocate((size_t)(n_block * f->bytes));
    for (int64_t i = 0; i < n_block * f->bytes; i++)
        p[i] = (uint8_t)(rand() >> 8);
    for (int64_t b = 0; b < n_block; b++) {
        uint8_t *q = p + b * f->bytes;
        uint16_t d = (uint16_t)(0x2000 + rand() % 1024), dmin = (uint16_t)(0x2400 + rand() % 1024);
        if (f->bytes == 272)
            for (int j = 0; j < 8; j++, d ^= (uint16_t)(rand() % 1024))
                memcpy(q + 34 * j, &d, 2);
        else
            memcpy(q + (f->bytes == 84 ? 80 : 0), &d, 2), memcpy(q + (f->bytes == 84 ? 82 : 2), &dmin, 2);
    }
    return p;
}

static void make_tiles(struct tile w[2], const struct format *f)
{
    int group = f->group;
    int8_t *code = allocate(2 * ROWS * KC);
    int32_t *init = allocate((size_t)(2 * 4 * ROWS * KC / group));
    float *scale = allocate((size_t)(2 * 4 * ROWS * KC / group));
    int16_t *min = allocate(2 * 2 * ROWS * KC / 16);
    float *min_scale = allocate(2 * 4 * ROWS * KC / BLOCK);
    for (int i = 0; i < 2; i++)
        w[i] = (struct tile){ code + i * ROWS * KC, init + i * ROWS * KC / group, scale + i * ROWS * KC / group,
                              min + i * ROWS * KC / 16, min_scale + i * ROWS * KC / BLOCK };
}

static void free_tiles(struct tile w[2]) { free(w->code), free(w->init), free(w->scale), free(w->min), free(w->min_scale); }

/* ---- the pipeline ---- */

struct gemm {
    const struct format *f;
    const struct isa *isa;
    const uint8_t *blocks;
    const struct columns *x;
    float *y;    /* [T][N] */
    int n, n0, n1;
    struct tile w[2];
    struct panel *panel;
    float *acc;    /* [T][32] */
};

/* Past the caches, as whole lines need not be read before they are overwritten. y 64-byte aligned. */
AVX512 static void stream(float *y, const float *acc)
{
    _mm512_stream_ps(y, _mm512_loadu_ps(acc));
    _mm512_stream_ps(y + ROWS, _mm512_loadu_ps(acc + ROWS));
}

/* One KC chunk. The last one hands finished columns over to y block by block, so that the stores drain behind the next
 * block's arithmetic. y = NULL: no output. */
static void run_kernels(const struct gemm *g, int k0, float *y)
{
    for (int c0 = 0, block; c0 < g->x->n_pad; c0 += block) {
        block = width(g->x->n_pad - c0);
        struct cols x = at(g->x, c0, block, k0);
        int i = block == 12 ? 0 : block == 8 ? 1 : 2, nr = g->isa->kernel[kernel_class(g->f)][i].nr;
        if (k0 == 0)
            memset(g->acc + c0 * PAIR, 0, sizeof *g->acc * (size_t)(PAIR * block));
        for (int t = 0; t < block; t += nr)
            for (int h = 0; h < 2; h += g->isa->tiles) {
                struct cols part = { x.code + 4 * t, x.code16 + 4 * t, x.scale + t, x.sum + 2 * t };
                g->isa->kernel[kernel_class(g->f)][i].run(g->w + h, part, block, KC / BLOCK,
                                                          g->acc + (c0 + t) * PAIR + h * ROWS, PAIR);
            }
        for (int t = c0; y && t < c0 + block && t < g->x->n; t++)
            stream(y + (int64_t)t * g->n, g->acc + t * PAIR);
    }
}

static void load_tiles(const struct gemm *g, int n0, int k0)
{
    int64_t row_bytes = (int64_t)g->x->k / BLOCK * g->f->bytes;
    for (int h = 0; h < 2; h++) {
        for (int r = 0; r < ROWS; r++)
            g->f->fast(g->blocks + (n0 + h * ROWS + r) * row_bytes + (int64_t)k0 / BLOCK * g->f->bytes, KC / BLOCK,
                       g->panel->code[r], g->panel->scale[r], g->panel->min[r], g->panel->min_scale[r]);
        pack(g->panel, g->f, (struct tile *)g->w + h);
    }
}

static void run_gemm(const struct gemm *g)
{
    for (int n0 = g->n0; n0 < g->n1; n0 += PAIR) {
        for (int k0 = 0; k0 < g->x->k; k0 += KC) {
            load_tiles(g, n0, k0);
            run_kernels(g, k0, k0 + KC < g->x->k ? NULL : g->y + n0);
        }
    }
}

/* The kernel alone: as many calls as run_gemm makes, on tiles that are packed once. */
static void run_kernels_only(const struct gemm *g)
{
    for (int n0 = g->n0; n0 < g->n1; n0 += PAIR)
        for (int k0 = 0; k0 < g->x->k; k0 += KC)
            run_kernels(g, k0, NULL);
}

static void run_unpack_only(const struct gemm *g)
{
    for (int n0 = g->n0; n0 < g->n1; n0 += PAIR)
        for (int k0 = 0; k0 < g->x->k; k0 += KC)
            load_tiles(g, n0, k0);
}

/* ---- peaks: 12 or more independent chains ---- */

enum { PEAK_STEPS = 300000 };

AVX512 static void peak_zmm(void)
{
    const int nr = 12;
    __m512i x = _mm512_set1_epi32(0x01020304), w = _mm512_set1_epi32(0x04030201);
    struct acc512 c0, c1, c2, c3, c4, c5, c6, c7, c8, c9, c10, c11;
#define PEAK_START(i) c##i = (struct acc512){ x, w }
    COLUMNS(PEAK_START);
    for (int n = 0; n < PEAK_STEPS / 24; n++) {
#define PEAK_STEP(i) c##i.r0 = dot8(c##i.r0, x, w), c##i.r1 = dot8(c##i.r1, x, w)
        COLUMNS(PEAK_STEP);
    }
#define PEAK_KEEP(i) __asm__ volatile("" ::"v"(c##i.r0), "v"(c##i.r1))
    COLUMNS(PEAK_KEEP);
}

AVXVNNI static void peak_ymm(void)
{
    __m256i x = _mm256_set1_epi32(0x01020304), w = _mm256_set1_epi32(0x04030201);
    struct acc256 c0, c1, c2, c3, c4, c5;
#define PEAK_START_YMM(i) c##i = (struct acc256){ x, w }
    SIX(PEAK_START_YMM);
    for (int n = 0; n < PEAK_STEPS / 12; n++) {
#define PEAK_STEP_YMM(i) c##i.r0 = dot8_ymm(c##i.r0, x, w), c##i.r1 = dot8_ymm(c##i.r1, x, w)
        SIX(PEAK_STEP_YMM);
    }
#define PEAK_KEEP_YMM(i) __asm__ volatile("" ::"x"(c##i.r0), "x"(c##i.r1))
    SIX(PEAK_KEEP_YMM);
}

/* AVX2's peak is vpmaddwd + vpaddd: 32 operations for two instructions. */
AVX2 static void peak_avx2(void)
{
    __m256i x = _mm256_set1_epi32(0x00010002), w = _mm256_set1_epi32(0x00020001);
    struct acc256 c0, c1, c2, c3, c4, c5;
    SIX(PEAK_START_YMM);
    for (int n = 0; n < PEAK_STEPS / 12; n++) {
        /* Hides that x never changes, else the product leaves the loop. */
#define PEAK_STEP_AVX2(i) \
    __asm__ volatile("" : "+x"(x)); c##i.r0 = _mm256_add_epi32(c##i.r0, _mm256_madd_epi16(x, w)); \
    __asm__ volatile("" : "+x"(x)); c##i.r1 = _mm256_add_epi32(c##i.r1, _mm256_madd_epi16(x, w))
        SIX(PEAK_STEP_AVX2);
    }
    SIX(PEAK_KEEP_YMM);
}

static void (*const peaks[N_ISAS])(void) = { peak_zmm, peak_ymm, peak_avx2 };
static const double peak_ops[N_ISAS] = { 128, 64, 32 };

/* ---- timing: CPU seconds of each thread, so that other processes on the machine do not count ---- */

struct work { pthread_t thread; void (*run)(const struct gemm *); const struct gemm *g; int isa, repeat; double rate[2]; pthread_barrier_t *start; };

static double seconds(void)
{
    struct timespec t;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

/* Peak, work, peak: rate[0] is the peak in GOPS, rate[1] the work's share of it. */
static void *timed(void *arg)
{
    struct work *j = arg;
    double ops = 2.0 * j->g->x->n * (j->g->n1 - j->g->n0) * j->g->x->k;
    pthread_barrier_wait(j->start);
    double t0 = seconds();
    for (int i = 0; i < 10; i++)
        peaks[j->isa]();
    double t1 = seconds();
    for (int i = 0; i < j->repeat; i++)
        j->run(j->g);
    double t2 = seconds();
    for (int i = 0; i < 10; i++)
        peaks[j->isa]();
    double t3 = seconds();
    j->rate[0] = 1e-9 * 20 * PEAK_STEPS * peak_ops[j->isa] / (t1 - t0 + t3 - t2);
    j->rate[1] = 1e-9 * ops * j->repeat / (t2 - t1) / j->rate[0];
    return NULL;
}

static int by_value(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

enum { N_RUNS = 11, N_THREADS = 2 };

/* Median share of peak over N_RUNS on both threads; *peak gets the median of the sum of the threads' peaks. */
static double measure(void (*run)(const struct gemm *), const struct gemm *g, int isa, int repeat, double *peak)
{
    double share[N_RUNS], sum[N_RUNS];
    for (int i = 0; i < N_RUNS; i++) {
        pthread_barrier_t start;
        struct work w[N_THREADS];
        pthread_barrier_init(&start, NULL, N_THREADS);
        for (int t = 0; t < N_THREADS; t++) {
            w[t] = (struct work){ .run = run, .g = g + t, .isa = isa, .repeat = repeat, .start = &start };
            if (pthread_create(&w[t].thread, NULL, timed, &w[t])) {
                fputs("no thread\n", stderr);
                exit(1);
            }
        }
        share[i] = sum[i] = 0;
        for (int t = 0; t < N_THREADS; t++) {
            pthread_join(w[t].thread, NULL);
            share[i] += w[t].rate[1] / N_THREADS;
            sum[i] += w[t].rate[0];
        }
        pthread_barrier_destroy(&start);
    }
    qsort(share, N_RUNS, sizeof *share, by_value);
    qsort(sum, N_RUNS, sizeof *sum, by_value);
    if (peak)
        *peak = sum[N_RUNS / 2];
    return share[N_RUNS / 2];
}

/* ---- correctness ---- */

static void prepare(struct gemm g[N_THREADS], const struct format *f, const struct isa *isa, const uint8_t *blocks,
                    const struct columns *x, float *y, int n)
{
    for (int t = 0; t < N_THREADS; t++) {
        g[t] = (struct gemm){ f, isa, blocks, x, y, n, n / N_THREADS * t, n / N_THREADS * (t + 1), { { 0 } }, NULL, NULL };
        make_tiles(g[t].w, f);
        g[t].panel = allocate(sizeof *g->panel);
        g[t].acc = allocate(sizeof *g->acc * PAIR * (size_t)x->n_pad);
        load_tiles(&g[t], g[t].n0, 0);
    }
}

static void release(struct gemm g[N_THREADS])
{
    for (int t = 0; t < N_THREADS; t++)
        free_tiles(g[t].w), free(g[t].panel), free(g[t].acc);
}

static void expect(int ok, const char *what, const char *format, const char *isa, int row, int column, double got, double want)
{
    if (ok)
        return;
    printf("FAILED %s, %s, %s: row %d column %d got %.9g want %.9g\n", what, format, isa, row, column, got, want);
    exit(1);
}

/* Panels and tiles are compared bit for bit, y with a sum in double over the portable panel. */
static void check(const struct format *f, const struct isa *isa, int n_cols)
{
    enum { N = 64, K = 2048 };
    struct columns x = make_columns(n_cols, K);
    uint8_t *blocks = make_blocks(f, (int64_t)N * K / BLOCK);
    float *y = allocate(sizeof *y * N * (size_t)n_cols);
    struct panel *want = allocate(sizeof *want);
    struct tile w[2];
    struct gemm g[N_THREADS];
    prepare(g, f, isa, blocks, &x, y, N);
    make_tiles(w, f);
    for (int t = 0; t < N_THREADS; t++)
        run_gemm(&g[t]);
    for (int n0 = 0; n0 < N; n0 += ROWS) {
        double sum[ROWS][MAX_T] = { { 0 } }, size[ROWS][MAX_T] = { { 0 } };
        for (int k0 = 0; k0 < K; k0 += KC) {
            for (int r = 0; r < ROWS; r++)
                f->plain(blocks + ((n0 + r) * K + k0) / BLOCK * f->bytes, KC / BLOCK, want->code[r], want->scale[r],
                         want->min[r], want->min_scale[r]);
            load_tiles(&g[0], n0 / PAIR * PAIR, k0);
            const struct tile *got = &g[0].w[n0 / ROWS % 2];
            pack_plain(want, f, w);
            size_t groups = sizeof(float) * (size_t)(ROWS * KC / f->group);
            int same = !memcmp(got->code, w->code, ROWS * KC) && !memcmp(got->init, w->init, groups)
                && !memcmp(got->scale, w->scale, groups);
            if (f->has_min)
                same = same && !memcmp(got->min, w->min, 2 * ROWS * KC / 16) && !memcmp(got->min_scale, w->min_scale, 4 * ROWS * KC / BLOCK);
            expect(same, "tile", f->name, isa->name, n0, k0, 0, 0);
            for (int r = 0; r < ROWS; r++)
                for (int t = 0; t < n_cols; t++)
                    for (int e = 0; e < KC; e++) {
                        double xs = x.scale[0];
                        int c0 = t / 12 * 12, block = 12;
                        while (c0 + block > x.n_pad || t >= c0 + block) {
                            block = width(x.n_pad - c0);
                            if (t < c0 + block)
                                break;
                            c0 += block;
                        }
                        xs = at(&x, c0, block, k0 + e / BLOCK * BLOCK).scale[t - c0];
                        double v = xs * x.row_major[t * K + k0 + e];
                        double a = v * want->code[r][e] * (double)want->scale[r][e / f->group];
                        double b = f->has_min ? v * want->min[r][e / 16] * (double)want->min_scale[r][e / BLOCK] : 0;
                        sum[r][t] += a + b, size[r][t] += fabs(a) + fabs(b);
                    }
        }
        for (int r = 0; r < ROWS; r++)
            for (int t = 0; t < n_cols; t++) {
                double got = (double)y[t * N + n0 + r];
                expect(fabs(got - sum[r][t]) <= 1e-5 * fmax(fabs(sum[r][t]), 0.01 * size[r][t]), "y", f->name, isa->name,
                       n0 + r, t, got, sum[r][t]);
            }
    }
    /* With scales of one a block's result is an integer below 2^24, so that the kernel has to return it exactly. */
    for (int h = 0; h < 2; h++)
        for (int i = 0; i < ROWS * KC / f->group; i++)
            g[0].w[h].scale[i] = i < ROWS * BLOCK / f->group;
    for (int h = 0; h < 2; h++)
        memset(g[0].w[h].min_scale, 0, sizeof(float) * ROWS * KC / BLOCK);
    for (int i = 0; i < x.n_pad * K / BLOCK; i++)
        x.scale[i] = 1;
    memset(g[0].acc, 0, sizeof *g->acc * PAIR * (size_t)x.n_pad);
    run_kernels(&g[0], 0, NULL);
    for (int t = 0; t < n_cols; t++)
        for (int r = 0; r < PAIR; r++) {
            int sum = 0;
            for (int e = 0; e < BLOCK; e++)
                sum += g[0].w[r / ROWS].code[(e / 4 * ROWS + r % ROWS) * 4 + e % 4] * x.row_major[t * K + e];
            expect((int)g[0].acc[t * PAIR + r] == sum, "integers", f->name, isa->name, r, t, (double)g[0].acc[t * PAIR + r], sum);
        }
    free_tiles(w), release(g), free(want), free(y), free(blocks), free_columns(&x);
}

/* ---- main ---- */

/* clang 14's __builtin_cpu_supports knows no "avxvnni": leaf 7.1, EAX bit 4. */
static int has_avxvnni(void)
{
    unsigned a, b, c, d;
    return __builtin_cpu_supports("avx2") && __get_cpuid_count(7, 1, &a, &b, &c, &d) && (a >> 4 & 1);
}

int main(void)
{
    enum { N = 2048, K = 2048 };
    __builtin_cpu_init();
    if (!__builtin_cpu_supports("avx512vnni") || !__builtin_cpu_supports("avx512bw") || !__builtin_cpu_supports("avx512vl")) {
        puts("needs AVX-512 VNNI (the panels and pack of this bench have no other variant)");
        return 0;
    }
    const int usable[N_ISAS] = { 1, has_avxvnni(), __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") };
    for (int i = 0; i < N_ISAS; i++)
        for (int f = 0; f < N_FORMATS && usable[i]; f++) {
            check(&formats[f], &isas[i], 24);
            if (i == 0)
                check(&formats[f], &isas[i], 22), check(&formats[f], &isas[i], 5), check(&formats[f], &isas[i], 1);
        }

    printf("K %d, N %d, %d threads, medians of %d; shares of each ISA's own peak, kernel alone at T = 504\n\n", K, N, N_THREADS, N_RUNS);
    printf("| format | zmm kernel | T=512 | T=128 | T=32 | panel+pack, %% of the time of T=512 at peak | ymm VNNI kernel | AVX2 kernel |\n");
    printf("|---|---|---|---|---|---|---|---|\n");
    double peak[N_ISAS] = { 0 };
    float *y = allocate(sizeof *y * N * MAX_T);
    for (int i = 0; i < N_FORMATS; i++) {
        const struct format *f = &formats[i];
        uint8_t *blocks = make_blocks(f, (int64_t)N * K / BLOCK);
        double kernel[N_ISAS] = { 0 }, whole[3], unpack = 0;
        for (int s = 0; s < 4; s++) {
            static const int sizes[4] = { 504, 512, 128, 32 };
            struct columns x = make_columns(sizes[s], K);
            struct gemm g[N_THREADS];
            for (int a = 0; a < N_ISAS && s == 0; a++)
                if (usable[a]) {
                    prepare(g, f, &isas[a], blocks, &x, y, N);
                    kernel[a] = measure(run_kernels_only, g, a, 2, &peak[a]);
                    release(g);
                }
            if (s > 0) {
                prepare(g, f, &isas[0], blocks, &x, y, N);
                whole[s - 1] = measure(run_gemm, g, 0, 1024 / sizes[s], NULL);
                if (s == 1)
                    unpack = 1 / measure(run_unpack_only, g, 0, 20, NULL);
                release(g);
            }
            free_columns(&x);
        }
        printf("| %s | %.2f | %.2f | %.2f | %.2f | %.1f | %.2f | %.2f |\n", f->name, kernel[0], whole[0], whole[1], whole[2],
               100 * unpack, kernel[1], kernel[2]);
        free(blocks);
    }
    printf("\npeak GOPS, sum of both threads: vpdpbusd zmm %.0f, vpdpbusd ymm %.0f, vpmaddwd + vpaddd %.0f\n", peak[0], peak[1], peak[2]);
    free(y);
    return 0;
}
