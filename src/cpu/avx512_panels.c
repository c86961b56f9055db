/* Coarse panels of 16 rows at once with AVX-512 VBMI. Scales of all rows are worked out side by side, a row a lane;
 * then each row has its numbers in tables of 64 bytes, four groups of 16, in which vpermb looks up its codes. */
#if defined(__x86_64__)
#include "cpu/target_vbmi.h"

#include <immintrin.h>
#include <math.h>
#include <string.h>

#include "cpu/tiles.h"
#include "fmt/gguf_bits.h"
#include "fmt/gguf_iq.h"
#include "fmt/gguf_iq_bits.h"

#include "cpu/rows_avx512.h"

/* Unsigned byte j of each dword. */
INLINE __m512 byte_of(v a, const int j) {
    const __m128i at =
        _mm_add_epi32(_mm_set_epi32(12 - 0x7f7f8000, 8 - 0x7f7f8000, 4 - 0x7f7f8000, -0x7f7f8000), _mm_set1_epi32(j));
    return _mm512_cvtepi32_ps(_mm512_shuffle_epi8(a, _mm512_broadcast_i32x4(at)));
}
/* |a| or |b|, the larger. */
INLINE __m512 larger_size(__m512 a, __m512 b) {
    return _mm512_range_ps(a, b, 0x0b);
}
/* a in lower halves, b in upper ones. */
INLINE v pair(v a, v b) {
    return _mm512_mask_blend_epi16(0xaaaaaaaa, a, _mm512_slli_epi32(b, 16));
}
/* Numbers of 8 groups and all rows, to the nearest integer, as int16: quarter l of v[i] has those of row 4 l + i. */
INLINE struct quad words(const __m512 n[8], __m512 by) {
    v w[4];
#pragma GCC unroll 4
    for (int i = 0; i < 4; i++)
        w[i] =
            pair(_mm512_cvtps_epi32(_mm512_mul_ps(n[2 * i], by)), _mm512_cvtps_epi32(_mm512_mul_ps(n[2 * i + 1], by)));
    return turned(w[0], w[1], w[2], w[3]);
}

/* words_at[i][j] is group 4 i + j / 8: 32 words from the numbers of a row in quarter i / 2. */
static const uint16_t words_at[8][32] = {
#define EIGHT(g) g, g, g, g, g, g, g, g
#define FOUR_GROUPS(g)                                                                                                 \
    { EIGHT(g), EIGHT(g + 1), EIGHT(g + 2), EIGHT(g + 3) }
    FOUR_GROUPS(0),  FOUR_GROUPS(4),  FOUR_GROUPS(8),  FOUR_GROUPS(12),
    FOUR_GROUPS(16), FOUR_GROUPS(20), FOUR_GROUPS(24), FOUR_GROUPS(28)};
static const uint16_t even_codes[32] = {
#define EVEN 0, 2, 4, 6, 8, 10, 12, 14
    EVEN, EVEN, EVEN, EVEN};

/* The tables of four groups: numbers (step * code - from) / 256. */
INLINE v table_of(v step, v from, const uint16_t at[32]) {
    const v i = _mm512_loadu_si512(at), a = _mm512_permutexvar_epi16(i, step);
    const v even =
        _mm512_sub_epi16(_mm512_mullo_epi16(a, _mm512_loadu_si512(even_codes)), _mm512_permutexvar_epi16(i, from));
    return _mm512_mask_mov_epi8(_mm512_srli_epi16(even, 8), 0xaaaaaaaaaaaaaaaa, _mm512_add_epi16(even, a));
}

/* Nibbles of 64 columns, in the lower bits: of 32 bytes first all lower ones, or of each 16. */
typedef v nibbles_fn(const uint8_t *q);
INLINE v nibbles_of_32(const uint8_t *q) {
    const v upper = _mm512_inserti64x4(_mm512_setzero_si512(), _mm256_set1_epi16(4), 1);
    return _mm512_srlv_epi16(_mm512_broadcast_i64x4(_mm256_loadu_si256((const void *)q)), upper);
}
INLINE v nibbles_of_16(const uint8_t *q) {
    const v upper = _mm512_broadcast_i64x4(_mm256_set_m128i(_mm_set1_epi16(4), _mm_setzero_si128()));
    const v bytes = _mm512_mask_broadcast_i32x4(_mm512_broadcast_i32x4(_mm_loadu_si128((const void *)q)), 0xff00,
                                                _mm_loadu_si128((const void *)(q + 16)));
    return _mm512_srlv_epi16(bytes, upper);
}

/* 128 columns of the nibbles at q, four groups with one table. Whole vectors leave, as tiles are loaded of what has
 * just been stored. */
INLINE void look_up(v table, nibbles_fn *nibbles, const uint8_t *q, int8_t *code) {
    const v low = v_set(15), first = _mm512_inserti64x4(_mm512_setzero_si512(), _mm256_set1_epi8(0x10), 1);
#pragma GCC unroll 2
    for (int i = 0; i < 2; i++) {
        const v group = _mm512_add_epi8(first, v_set(0x20 * i));
        const v at = _mm512_ternarylogic_epi32(nibbles(q + 32 * i), low, group, 0xea);
        _mm512_storeu_si512(code + 64 * i, _mm512_permutexvar_epi8(at, table));
    }
}

/* See panel_q4_k. */
void sr_panel_rows_q4_k(const sr_weight *w, int64_t row0, int64_t k0, int64_t n, sr_panel *panel, sr_ahead next) {
    const size_t pitch = (size_t)w->plane[0].stride;
    const uint8_t *b = w->plane[0].data + row0 * w->plane[0].stride + k0 / 256 * SR_Q4_K_BYTES;
    (void)n; /* SR_TILE_KC: a block */
    const struct quad head = transpose4(b, pitch);
    const struct k4 k = k4_of(head);
    const v inf = _mm512_set1_epi32(0x7c00), high = v_shift(head.v[0], 16);
    const __m512 d = halves(head.v[0]), dmin = halves(high), zero = _mm512_setzero_ps(), top = _mm512_set1_ps(127);
    const __mmask16 finite =
        _mm512_cmpneq_epi32_mask(v_and(head.v[0], inf), inf) & _mm512_cmpneq_epi32_mask(v_and(high, inf), inf);
    __m512 s[8], lo[8], max = zero;
#pragma GCC unroll 8
    for (int g = 0; g < 8; g++) {
        s[g] = _mm512_mul_ps(d, byte_of(k.scale[g / 4], g % 4));
        lo[g] = _mm512_mul_ps(dmin, byte_of(k.min[g / 4], g % 4));
        max = larger_size(max, larger_size(_mm512_fmsub_ps(s[g], _mm512_set1_ps(15), lo[g]), lo[g]));
    }
    const __mmask16 some = _mm512_cmp_ps_mask(max, zero, _CMP_GT_OQ) & finite;
    const __m512 by = _mm512_mul_ps(_mm512_maskz_div_ps(some, top, max), _mm512_set1_ps(256));
    const struct quad step = words(s, by), from = words(lo, by);
    float scale[SR_MR];
    _mm512_storeu_ps(scale, _mm512_mask_mov_ps(_mm512_set1_ps(NAN), finite, _mm512_div_ps(max, top)));
#pragma GCC unroll 4
    for (int i = 0; i < 4; i++) {
        const v less = _mm512_sub_epi16(from.v[i], _mm512_set1_epi16(128));
        for (int l = 0; l < 4; l++) {
            const int r = 4 * l + i;
            const uint8_t *q = b + r * pitch + SR_Q4_K_QS;
            sr_prefetch(next, r, SR_MR);
#pragma GCC unroll 2
            for (int h = 0; h < 2; h++)
                look_up(table_of(step.v[i], less, words_at[2 * l + h]), nibbles_of_32, q + 64 * h,
                        panel->code[r] + 128 * h);
            panel->scale[r][0] = scale[r];
            if (!(finite >> r & 1)) memset(panel->code[r], 0, SR_TILE_KC);
        }
    }
}

/* The tables of four groups: value * part / 32768. */
INLINE v values_of(v part, v even, v odd, const uint16_t at[32]) {
    const v a = _mm512_permutexvar_epi16(_mm512_loadu_si512(at), part);
    return _mm512_mask_mov_epi8(_mm512_mulhrs_epi16(a, even), 0xaaaaaaaaaaaaaaaa,
                                _mm512_slli_epi16(_mm512_mulhrs_epi16(a, odd), 8));
}
/* Every second of 16 values, as words. */
INLINE v values_from(__m128i values, const int first) {
    const __m128i at = _mm_set_epi8(14, 12, 10, 8, 6, 4, 2, 0, 14, 12, 10, 8, 6, 4, 2, 0);
    const __m128i some = _mm_shuffle_epi8(values, _mm_add_epi8(at, _mm_set1_epi8((char)first)));
    return _mm512_broadcast_i64x4(_mm256_cvtepi8_epi16(some));
}
/* See panel_iq4_xs. */
void sr_panel_rows_iq4_xs(const sr_weight *w, int64_t row0, int64_t k0, int64_t n, sr_panel *panel, sr_ahead next) {
    const size_t pitch = (size_t)w->plane[0].stride;
    const uint8_t *b = w->plane[0].data + row0 * w->plane[0].stride + k0 / 256 * SR_IQ4_XS_BYTES;
    (void)n; /* SR_TILE_KC: a block */
    const struct quad head = transpose4(b, pitch);
    v s[8], most = _mm512_setzero_si512();
#pragma GCC unroll 8
    for (int g = 0; g < 8; g++) {
        s[g] = iq4_xs_scale(head, g);
        most = _mm512_max_epi32(most, _mm512_abs_epi32(s[g]));
    }
    const __m512 size = _mm512_cvtepi32_ps(most);
    const __m512 by = _mm512_maskz_div_ps(_mm512_test_epi32_mask(most, most), _mm512_set1_ps(32767), size);
    __m512 f[8];
#pragma GCC unroll 8
    for (int g = 0; g < 8; g++) f[g] = _mm512_cvtepi32_ps(s[g]);
    const struct quad part = words(f, by);
    float scale[SR_MR];
    _mm512_storeu_ps(scale, _mm512_mul_ps(halves(head.v[0]), size));
    const __m128i values = _mm_loadu_si128((const void *)sr_iq4_values);
    const v even = values_from(values, 0), odd = values_from(values, 1);
#pragma GCC unroll 4
    for (int i = 0; i < 4; i++)
        for (int l = 0; l < 4; l++) {
            const int r = 4 * l + i;
            const uint8_t *q = b + r * pitch + SR_IQ4_XS_QS;
            sr_prefetch(next, r, SR_MR);
#pragma GCC unroll 2
            for (int h = 0; h < 2; h++)
                look_up(values_of(part.v[i], even, odd, words_at[2 * l + h]), nibbles_of_16, q + 64 * h,
                        panel->code[r] + 128 * h);
            panel->scale[r][0] = scale[r];
        }
}

#include "cpu/target_end.h"
#endif
