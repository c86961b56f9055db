/* Dots of GGUF's grid types with AVX-512 VBMI. A grid is small enough to be looked up in registers: as digits of 2 or 3
 * bits (fmt/gguf_iq.h) it has 16 or 12 bits a vector, and vpermi2b finds 64 bytes in 128 at once. So no vector of a
 * grid is loaded on its own, where the kernels of gguf_iq_kern.h load 32 or 64 of them a block. vpmultishiftqb then
 * takes the digits apart. Blocks with 32 vectors come two rows at a time, so that every lookup is of 64. */
#if defined(__x86_64__)
#include "cpu/target_vbmi.h"

#include <immintrin.h>
#include <string.h>

#include "cpu/grids.h"
#include "fmt/gguf_iq.h"
#include "fmt/gguf_iq_bits.h"

#define INLINE static inline __attribute__((always_inline))

typedef __m512i v;

/* 256 columns of one row: w = d * (scale * +-code + less). */
typedef struct block {
    v code[4], scale[4];     /* unsigned; int16 */
    const uint8_t *negative; /* a bit for each column, or NULL */
    __m256i less;            /* int16, of each 16 columns; where `negative` is NULL */
    float d;
} block;

/* ---------------------------------------------------------------- constants */

/* A byte for each 16 of a vector. */
INLINE v bytes_of_16(int a, int b, int c, int d) {
    const long long one = 0x0101010101010101;
    return _mm512_set_epi64(d * one, d * one, c * one, c * one, b * one, b * one, a * one, a * one);
}
/* a in the four words of the first eight bytes, a + 1 in those of the next, .. */
INLINE v words_from(int a) {
    const long long one = 0x0001000100010001, b = a * one;
    return _mm512_set_epi64(b + 7 * one, b + 6 * one, b + 5 * one, b + 4 * one, b + 3 * one, b + 2 * one, b + one, b);
}

/* ---------------------------------------------------------------- what vectors have for both rows: a's, then b's */

INLINE v load32(const uint8_t *a, const uint8_t *b) {
    return _mm512_inserti64x4(_mm512_castsi256_si512(_mm256_loadu_si256((const void *)a)),
                              _mm256_loadu_si256((const void *)b), 1);
}
INLINE __m256i load16(const uint8_t *a, const uint8_t *b) {
    return _mm256_inserti128_si256(_mm256_castsi128_si256(_mm_loadu_si128((const void *)a)),
                                   _mm_loadu_si128((const void *)b), 1);
}
/* The first or the second four of each eight bytes. */
INLINE v fours(v a, v b, const bool second) {
    const v at = _mm512_add_epi8(_mm512_set_epi64(0x7b7a797873727170, 0x6b6a696863626160, 0x5b5a595853525150,
                                                  0x4b4a494843424140, 0x3b3a393833323130, 0x2b2a292823222120,
                                                  0x1b1a191813121110, 0x0b0a090803020100),
                                 _mm512_set1_epi8(second ? 4 : 0));
    return _mm512_permutex2var_epi8(a, at, b);
}
/* The first or the second of each two bytes. */
INLINE v ones(v a, v b, const bool second) {
    const v at = _mm512_add_epi8(_mm512_set_epi64(0x7e7c7a7876747270, 0x6e6c6a6866646260, 0x5e5c5a5856545250,
                                                  0x4e4c4a4846444240, 0x3e3c3a3836343230, 0x2e2c2a2826242220,
                                                  0x1e1c1a1816141210, 0x0e0c0a0806040200),
                                 _mm512_set1_epi8(second ? 1 : 0));
    return _mm512_permutex2var_epi8(a, at, b);
}
/* Of two times 64 bits each second one, from bit `first` on. */
INLINE __mmask64 second_bits(const uint8_t *a, const uint8_t *b, int first) {
    uint64_t m, n;
    memcpy(&m, a, 8);
    memcpy(&n, b, 8);
    const uint64_t at = (uint64_t)0x5555555555555555 << first;
    return _pext_u64(m, at) | _pext_u64(n, at) << 32;
}

/* ---------------------------------------------------------------- lookups of 64 bytes; m[i]: bit 7 + i of each index
 */

INLINE v look128(const uint8_t *table, v q) {
    return _mm512_permutex2var_epi8(_mm512_load_si512(table), q, _mm512_load_si512(table + 64));
}
INLINE v look256(const uint8_t *table, v q, const __mmask64 *m) {
    return _mm512_mask_blend_epi8(m[0], look128(table, q), look128(table + 128, q));
}
INLINE v look512(const uint8_t *table, v q, const __mmask64 *m) {
    return _mm512_mask_blend_epi8(m[1], look256(table, q, m), look256(table + 256, q, m));
}
INLINE v look1024(const uint8_t *table, v q, const __mmask64 *m) {
    return _mm512_mask_blend_epi8(m[2], look512(table, q, m), look512(table + 512, q, m));
}
INLINE v look2048(const uint8_t *table, v q, const __mmask64 *m) {
    return _mm512_mask_blend_epi8(m[3], look1024(table, q, m), look1024(table + 1024, q, m));
}
/* Nibbles: the upper ones belong to the indexes with the bit of m. */
INLINE v choose_nibble(v n, __mmask64 m) {
    return _mm512_mask_blend_epi8(m, n, _mm512_srli_epi16(n, 4));
}

/* Four digits of 3 bits each in 64 vectors, from bit `from` (0 or 1) of each byte on, with garbage around them. */
INLINE void digits4(v low, v high, v out[4], const int from) {
    const v shifts = _mm512_set1_epi64(from ? 0x1815120f0805023f : 0x1916131009060300);
    const v first = _mm512_unpacklo_epi8(low, high), last = _mm512_unpackhi_epi8(low, high);
#pragma GCC unroll 4
    for (int i = 0; i < 4; i++) { /* part i of both has 16 vectors: two in each 32 bits */
        const v at = _mm512_add_epi32(_mm512_set_epi32(19, 19, 18, 18, 17, 17, 16, 16, 3, 3, 2, 2, 1, 1, 0, 0),
                                      _mm512_set1_epi32(4 * i));
        out[i] = _mm512_multishift_epi64_epi8(shifts, _mm512_permutex2var_epi32(first, at, last));
    }
}
/* Eight digits of 2 bits each in the 32 vectors of one of two rows, with garbage above them. */
INLINE void digits8(v low, v high, v out[4], const int row) {
    const v shifts = _mm512_set1_epi64(0x0e0c0a0806040200);
    const v first = _mm512_unpacklo_epi8(low, high), last = _mm512_unpackhi_epi8(low, high);
#pragma GCC unroll 4
    for (int i = 0; i < 4; i++) {
        const v words = _mm512_permutexvar_epi16(words_from(16 * row + 8 * (i / 2)), i % 2 ? last : first);
        out[i] = _mm512_multishift_epi64_epi8(shifts, words);
    }
}
/* values[digit]: vpermb looks at 6 bits, so values that repeat need no mask. */
INLINE void values_of(v values, v code[4]) {
#pragma GCC unroll 4
    for (int i = 0; i < 4; i++) code[i] = _mm512_permutexvar_epi8(code[i], values);
}
/* The grids of 8, 25 and 43. */
INLINE void codes8(v low, v high, v out[4], const int row) {
    digits8(low, high, out, row);
    values_of(_mm512_set1_epi32(0x002b1908), out);
}

/* ---------------------------------------------------------------- signs and scales */

/* Masks of fields of 7 bits, with anything above them: the eighth bit is the parity of the others. */
INLINE v with_parity(v fields) {
    const v f = _mm512_and_si512(fields, _mm512_set1_epi8(0x7f)), p = _mm512_slli_epi16(_mm512_popcnt_epi8(f), 7);
    return _mm512_ternarylogic_epi64(f, p, _mm512_set1_epi8(-128), 0xf8); /* f | (p & -128) */
}
/* Four fields in the lower 28 bits of each 32. */
INLINE v signs_of_28(v words) {
    return with_parity(_mm512_multishift_epi64_epi8(_mm512_set1_epi64(0x352e2720150e0700), words));
}

/* Scales of eight groups of 32, or of 16 groups of 16, in bytes of s. */
INLINE void scales32(v s, v out[4], const int first, const int step) {
#pragma GCC unroll 4
    for (int i = 0; i < 4; i++) {
        const int a = first + 2 * i * step, b = a + step;
        out[i] = _mm512_maskz_permutexvar_epi8(0x5555555555555555, bytes_of_16(a, a, b, b), s);
    }
}
INLINE void scales16(v s, v out[4]) {
#pragma GCC unroll 4
    for (int i = 0; i < 4; i++)
        out[i] =
            _mm512_maskz_permutexvar_epi8(0x5555555555555555, bytes_of_16(4 * i, 4 * i + 1, 4 * i + 2, 4 * i + 3), s);
}
/* 2 s + 1 of the upper nibble of each byte. */
INLINE v odd_of_upper(v s) {
    return _mm512_ternarylogic_epi64(_mm512_srli_epi16(s, 3), _mm512_set1_epi8(0x1e), _mm512_set1_epi8(1), 0xea);
}
/* 2 s + 1 of up to 16 nibbles in order. */
INLINE v odd_of_nibbles(__m128i s) {
    s = _mm_slli_epi16(_mm_unpacklo_epi8(s, _mm_srli_epi16(s, 4)), 1);
    return _mm512_castsi128_si512(_mm_ternarylogic_epi64(s, _mm_set1_epi8(0x1e), _mm_set1_epi8(1), 0xea));
}
INLINE __m128i bytes8(const uint8_t *p) {
    return _mm_loadl_epi64((const void *)p);
}
INLINE float half_at(const uint8_t *p) {
    uint16_t h;
    memcpy(&h, p, 2);
    return _mm_cvtss_f32(_mm_cvtph_ps(_mm_cvtsi32_si128(h)));
}

/* ---------------------------------------------------------------- blocks: those at a and at b, or the one at a alone
 * room: 64 bytes for signs. */

typedef void blocks_fn(const uint8_t *a, const uint8_t *b, uint8_t *room, block out[2]);

INLINE void iq2_xxs(const uint8_t *a, const uint8_t *b, uint8_t *room, block out[2]) {
    const v qa = _mm512_loadu_si512(a + 2), qb = _mm512_loadu_si512(b + 2);
    const v q = fours(qa, qb, false), words = fours(qa, qb, true), s = odd_of_upper(words);
    const __mmask64 m[1] = {_mm512_movepi8_mask(q)};
    const v low = look256(sr_iq2xxs_digits, q, m), high = look256(sr_iq2xxs_digits + 256, q, m);
    _mm512_store_si512(room, signs_of_28(words));
#pragma GCC unroll 2
    for (int r = 0; r < 2; r++) {
        codes8(low, high, out[r].code, r);
        scales32(s, out[r].scale, 32 * r + 3, 4);
        out[r].negative = room + 32 * r;
        out[r].d = half_at(r ? b : a) * 0.125f;
    }
}
INLINE void iq2_xs(const uint8_t *a, const uint8_t *b, uint8_t *room, block out[2]) {
    const v qa = _mm512_loadu_si512(a + 2), qb = _mm512_loadu_si512(b + 2);
    const v q = ones(qa, qb, false), h = ones(qa, qb, true);
    const __mmask64 m[2] = {_mm512_movepi8_mask(q), _mm512_test_epi8_mask(h, _mm512_set1_epi8(1))};
    const v low = look512(sr_iq2xs_digits, q, m), high = look512(sr_iq2xs_digits + 512, q, m);
    _mm512_store_si512(room, with_parity(_mm512_srli_epi16(h, 1)));
#pragma GCC unroll 2
    for (int r = 0; r < 2; r++) {
        codes8(low, high, out[r].code, r);
        scales16(odd_of_nibbles(bytes8((r ? b : a) + SR_IQ2_XS_SCALES)), out[r].scale);
        out[r].negative = room + 32 * r;
        out[r].d = half_at(r ? b : a) * 0.125f;
    }
}
INLINE void iq2_s(const uint8_t *a, const uint8_t *b, uint8_t *room, block out[2]) {
    const v q = load32(a + 2, b + 2);
    const __mmask64 m[3] = {_mm512_movepi8_mask(q), second_bits(a + SR_IQ2_S_QH, b + SR_IQ2_S_QH, 0),
                            second_bits(a + SR_IQ2_S_QH, b + SR_IQ2_S_QH, 1)};
    const v low = look1024(sr_iq2s_digits, q, m), high = look1024(sr_iq2s_digits + 1024, q, m);
    (void)room;
#pragma GCC unroll 2
    for (int r = 0; r < 2; r++) {
        const uint8_t *p = r ? b : a;
        codes8(low, high, out[r].code, r);
        scales16(odd_of_nibbles(bytes8(p + SR_IQ2_S_SCALES)), out[r].scale);
        out[r].negative = p + SR_IQ2_S_SIGNS;
        out[r].d = half_at(p) * 0.125f;
    }
}
INLINE void iq3_xxs(const uint8_t *a, const uint8_t *b, uint8_t *room, block out[2]) {
    const v q = _mm512_loadu_si512(a + 2);
    const v words = _mm512_castsi256_si512(_mm256_loadu_si256((const void *)(a + SR_IQ3_XXS_V)));
    const __mmask64 m[1] = {_mm512_movepi8_mask(q)};
    const v low = look256(sr_iq3xxs_digits, q, m), high = choose_nibble(look128(sr_iq3xxs_digits + 256, q), m[0]);
    (void)b;
    digits4(low, high, out->code, 0);
    values_of(_mm512_set1_epi64(0x3e342c241c140c04), out->code);
    _mm512_store_si512(room, signs_of_28(words));
    scales32(odd_of_upper(words), out->scale, 3, 4);
    out->negative = room;
    out->d = half_at(a) * 0.25f;
}
INLINE void iq3_s(const uint8_t *a, const uint8_t *b, uint8_t *room, block out[2]) {
    const v q = _mm512_loadu_si512(a + 2);
    __mmask64 m[2] = {_mm512_movepi8_mask(q)};
    memcpy(&m[1], a + SR_IQ3_S_QH, 8);
    const v low = look512(sr_iq3s_digits, q, m), high = choose_nibble(look256(sr_iq3s_digits + 512, q, m), m[1]);
    int32_t s;
    memcpy(&s, a + SR_IQ3_S_SCALES, 4);
    (void)b, (void)room;
    digits4(low, high, out->code, 1);
#pragma GCC unroll 4
    for (int i = 0; i < 4; i++) /* 2 * digit + 1 */
        out->code[i] = _mm512_ternarylogic_epi64(out->code[i], _mm512_set1_epi8(14), _mm512_set1_epi8(1), 0xea);
    scales32(odd_of_nibbles(_mm_cvtsi32_si128(s)), out->scale, 0, 1);
    out->negative = a + SR_IQ3_S_SIGNS;
    out->d = half_at(a);
}
/* Digits are the grid's -1, 0, 1 with 1 added: 8 grid + delta = 8 digit - (8 - delta). */
INLINE void iq1_s(const uint8_t *a, const uint8_t *b, uint8_t *room, block out[2]) {
    const v q = load32(a + 2, b + 2);
    const __m256i qh = load16(a + SR_IQ1_S_QH, b + SR_IQ1_S_QH);
    const v h = _mm512_multishift_epi64_epi8(_mm512_set1_epi64(0x1916131009060300), _mm512_cvtepu32_epi64(qh));
    const __mmask64 m[4] = {_mm512_movepi8_mask(q), _mm512_test_epi8_mask(h, _mm512_set1_epi8(1)),
                            _mm512_test_epi8_mask(h, _mm512_set1_epi8(2)),
                            _mm512_test_epi8_mask(h, _mm512_set1_epi8(4))};
    const v low = look2048(sr_iq1s_digits, q, m), high = look2048(sr_iq1s_digits + 2048, q, m);
    const __m256i s = _mm256_ternarylogic_epi64(_mm256_srli_epi16(qh, 11), _mm256_set1_epi16(14), _mm256_set1_epi16(1),
                                                0xea); /* 2 s + 1 */
    const __m256i delta = _mm256_or_si256(_mm256_srai_epi16(qh, 15), _mm256_set1_epi16(1));
    const __m256i less = _mm256_mullo_epi16(s, _mm256_sub_epi16(delta, _mm256_set1_epi16(8)));
    const __m256i twice = _mm256_set_epi16(7, 7, 6, 6, 5, 5, 4, 4, 3, 3, 2, 2, 1, 1, 0, 0);
    const v s8 = _mm512_castsi256_si512(_mm256_slli_epi16(s, 3));
    (void)room;
#pragma GCC unroll 2
    for (int r = 0; r < 2; r++) {
        digits8(low, high, out[r].code, r);
#pragma GCC unroll 4
        for (int i = 0; i < 4; i++) out[r].code[i] = _mm512_and_si512(out[r].code[i], _mm512_set1_epi8(3));
        scales32(s8, out[r].scale, 16 * r, 2);
        out[r].negative = NULL;
        out[r].less = _mm256_permutexvar_epi16(_mm256_add_epi16(twice, _mm256_set1_epi16((short)(8 * r))), less);
        out[r].d = half_at(r ? b : a) * 0.125f;
    }
}
/* The same, but delta belongs to eight columns: 8 grid + delta = 8 digit + (delta + 1) - 9. */
INLINE void iq1_m(const uint8_t *a, const uint8_t *b, uint8_t *room, block out[2]) {
    const v q = load32(a, b), qh = _mm512_cvtepu8_epi16(load16(a + SR_IQ1_M_QH, b + SR_IQ1_M_QH));
    const v h = _mm512_or_si512(qh, _mm512_slli_epi16(qh, 4)); /* nibbles in order */
    const __mmask64 m[4] = {_mm512_movepi8_mask(q), _mm512_test_epi8_mask(h, _mm512_set1_epi8(1)),
                            _mm512_test_epi8_mask(h, _mm512_set1_epi8(2)),
                            _mm512_test_epi8_mask(h, _mm512_set1_epi8(4))};
    const uint64_t plus = _mm512_testn_epi8_mask(h, _mm512_set1_epi8(8));
    const v low = look2048(sr_iq1s_digits, q, m), high = look2048(sr_iq1s_digits + 2048, q, m);
    (void)room;
#pragma GCC unroll 2
    for (int r = 0; r < 2; r++) {
        const uint8_t *p = r ? b : a;
        digits8(low, high, out[r].code, r);
#pragma GCC unroll 4
        for (int i = 0; i < 4; i++) {
            const v c = _mm512_and_si512(_mm512_slli_epi16(out[r].code[i], 3), _mm512_set1_epi8(24));
            out[r].code[i] = _mm512_mask_or_epi64(c, (__mmask8)(plus >> (32 * r + 8 * i)), c, _mm512_set1_epi8(2));
        }
        const __m128i fields =
            _mm_multishift_epi64_epi8(_mm_set1_epi64x(0x1916131009060300), _mm_cvtepu32_epi64(bytes8(p + SR_IQ1_M_S)));
        const __m128i s = _mm_ternarylogic_epi64(_mm_slli_epi16(fields, 1), _mm_set1_epi8(14), _mm_set1_epi8(1), 0xea);
        const uint16_t d = (uint16_t)sr_iq1_m_d(p);
        scales16(_mm512_castsi128_si512(s), out[r].scale);
        out[r].negative = NULL;
        out[r].less = _mm256_mullo_epi16(_mm256_cvtepu8_epi16(s), _mm256_set1_epi16(-9));
        out[r].d = half_at((const uint8_t *)&d) * 0.125f;
    }
}

/* ---------------------------------------------------------------- dots */

INLINE void add_block(const block *c, const int8_t *x, const int16_t *sum, float d, __m512 *acc) {
    v a = _mm512_setzero_si512();
    if (!c->negative) a = _mm512_zextsi256_si512(_mm256_madd_epi16(c->less, _mm256_loadu_si256((const void *)sum)));
#pragma GCC unroll 4
    for (int i = 0; i < 4; i++) {
        v xv = _mm512_loadu_si512(x + 64 * i);
        if (c->negative) {
            uint64_t m;
            memcpy(&m, c->negative + 8 * i, 8);
            xv = _mm512_mask_sub_epi8(xv, m, _mm512_setzero_si512(), xv);
        }
        a = _mm512_dpwssd_epi32(a, _mm512_maddubs_epi16(c->code[i], xv), c->scale[i]);
    }
    *acc = _mm512_fmadd_ps(_mm512_cvtepi32_ps(a), _mm512_set1_ps(d), *acc);
}

INLINE void dot_t(const sr_weight *w, int64_t row0, int n_rows, const sr_x8 *x, float *y, int64_t ld_y, const int T,
                  const int bytes, const int rows, blocks_fn *blocks) {
    const int64_t stride = w->plane[0].stride, n_block = w->K / SR_KC;
    const int64_t most = 2048 / rows / bytes, ahead = rows > 1 && n_block < most ? n_block : most; /* blocks */
    _Alignas(64) uint8_t room[64];
    for (int i = 0; i < n_rows; i += rows) {
        const uint8_t *a = w->plane[0].data + (row0 + i) * stride, *b = i + 1 < n_rows ? a + stride : a;
        __m512 acc[2][SR_DOT_MAX];
        block c[2];
#pragma GCC unroll 4
        for (int t = 0; t < T; t++) acc[0][t] = acc[1][t] = _mm512_setzero_ps();
        for (int64_t k = 0; k < n_block; k++, a += bytes, b += bytes) {
            /* of two rows at a time, the next two follow behind both */
            const int64_t next = rows == 1 || k + ahead < n_block ? ahead * bytes : ahead * bytes + stride;
#pragma GCC unroll 2
            for (int line = 0; line < bytes; line += 64) {
                __builtin_prefetch(a + next + line);
                if (rows > 1) __builtin_prefetch(b + next + line);
            }
            blocks(a, b, room, c);
#pragma GCC unroll 2
            for (int r = 0; r < rows; r++)
#pragma GCC unroll 4
                for (int t = 0; t < T; t++) {
                    const int64_t at = t * x->n_block + k;
                    add_block(&c[r], x->code + at * SR_KC, x->sum + at * (SR_KC / SR_SUM), c[r].d * x->scale[at],
                              &acc[r][t]);
                }
        }
        for (int r = 0; r < rows && i + r < n_rows; r++)
#pragma GCC unroll 4
            for (int t = 0; t < T; t++) y[t * ld_y + i + r] = _mm512_reduce_add_ps(acc[r][t]);
    }
}

#define DOT(name, bytes, rows)                                                                                         \
    SR_GRIDS_DOT(name) {                                                                                               \
        if (x->T == 1) dot_t(w, row0, n_rows, x, y, ld_y, 1, bytes, rows, name);                                       \
        if (x->T == 2) dot_t(w, row0, n_rows, x, y, ld_y, 2, bytes, rows, name);                                       \
        if (x->T == 3) dot_t(w, row0, n_rows, x, y, ld_y, 3, bytes, rows, name);                                       \
        if (x->T == 4) dot_t(w, row0, n_rows, x, y, ld_y, 4, bytes, rows, name);                                       \
    }
DOT(iq1_s, SR_IQ1_S_BYTES, 2)
DOT(iq1_m, SR_IQ1_M_BYTES, 2)
DOT(iq2_xxs, SR_IQ2_XXS_BYTES, 2)
DOT(iq2_xs, SR_IQ2_XS_BYTES, 2)
DOT(iq2_s, SR_IQ2_S_BYTES, 2)
DOT(iq3_xxs, SR_IQ3_XXS_BYTES, 1)
DOT(iq3_s, SR_IQ3_S_BYTES, 1)

#include "cpu/target_end.h"

bool sr_grids_fit(const sr_weight *w) {
    (void)w;
    __builtin_cpu_init();
    return __builtin_cpu_supports("avx512vbmi") && __builtin_cpu_supports("avx512bitalg") &&
           __builtin_cpu_supports("bmi2");
}
#endif
