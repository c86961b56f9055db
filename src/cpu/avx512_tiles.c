/* Tiles of the GEMM with AVX-512 straight from stored rows: 16 rows are turned to columns while their codes are still
 * packed, which is a fraction of the work of panels. For batches too small to pay for coarse panels. */
#if defined(__x86_64__)
#include "cpu/target_avx512.h"

#include <immintrin.h>
#include <math.h>
#include <string.h>

#include "cpu/tiles.h"
#include "fmt/gguf_bits.h"
#include "fmt/gguf_iq.h"
#include "fmt/gguf_iq_bits.h"
#include "fmt/gguf_tq_bits.h"

#include "cpu/rows_avx512.h"

/* What a tile is made of and asks for: rows from `b` on, and what comes next. */
typedef struct from {
    const uint8_t *b;
    size_t pitch;
    sr_ahead next;
} from;

INLINE from rows_at(const sr_weight *w, int64_t row0, int64_t k0, int block, int bytes, sr_ahead next) {
    const int64_t stride = w->plane[0].stride;
    return (from){w->plane[0].data + row0 * stride + k0 / block * bytes, (size_t)stride, next};
}

INLINE struct quad quad_at(from f, int at) {
    return transpose4(f.b + at, f.pitch);
}
/* The dword at `at` of each row. */
INLINE v dword_at(from f, int at) {
    const v row = _mm512_set_epi32(15, 14, 13, 12, 11, 10, 9, 8, 7, 6, 5, 4, 3, 2, 1, 0);
    return _mm512_i32gather_epi32(_mm512_mullo_epi32(row, _mm512_set1_epi32((int)f.pitch)), f.b + at, 1);
}

#define EACH(q, e) ((struct quad){{e(q.v[0]), e(q.v[1]), e(q.v[2]), e(q.v[3])}})

/* ---------------------------------------------------------------- into the tile */

INLINE void put_scale(sr_tile_avx512 *t, int g, v scale, __m512 d) {
    _mm512_storeu_ps(t->scale[g], _mm512_mul_ps(d, _mm512_cvtepi32_ps(scale)));
}
/* Negated. */
INLINE void put_min(sr_tile_avx512 *t, int g, v min, __m512 d) {
    const v sign = _mm512_set1_epi32(INT32_MIN);
    const __m512 m = _mm512_mul_ps(d, _mm512_cvtepi32_ps(min));
    _mm512_storeu_si512(t->min[g], _mm512_xor_si512(_mm512_castps_si512(m), sign));
}
/* Byte j of four groups from g on, of unsigned bytes. */
INLINE void put_scales(sr_tile_avx512 *t, int g, v bytes, __m512 d) {
#pragma GCC unroll 16
    for (int j = 0; j < 4; j++) put_scale(t, g + j, v_and(v_shift(bytes, 8 * j), _mm512_set1_epi32(0xff)), d);
}
INLINE void put_mins(sr_tile_avx512 *t, int g, v bytes, __m512 d) {
#pragma GCC unroll 16
    for (int j = 0; j < 4; j++) put_min(t, g + j, v_and(v_shift(bytes, 8 * j), _mm512_set1_epi32(0xff)), d);
}

/* 16 columns from k on; `sum` goes on with -128 times them. */
INLINE v put(sr_tile_avx512 *t, int k, const struct quad q, v sum) {
#pragma GCC unroll 4
    for (int j = 0; j < 4; j++) {
        _mm512_storeu_si512(t->code[k / 4 + j], q.v[j]);
        sum = _mm512_dpbusd_epi32(sum, v_set(-128), q.v[j]);
    }
    return sum;
}
/* A group of 16, and of 32. */
INLINE void put16(sr_tile_avx512 *t, int g, const struct quad q) {
    const v zero = _mm512_setzero_si512();
    _mm512_storeu_si512(t->init[g], _mm512_sub_epi32(zero, put(t, 16 * g, q, zero)));
}
INLINE void put32(sr_tile_avx512 *t, int g, const struct quad a, const struct quad b) {
    const v zero = _mm512_setzero_si512(), sum = put(t, 32 * g + 16, b, put(t, 32 * g, a, zero));
    _mm512_storeu_si512(t->init[g], _mm512_sub_epi32(zero, sum));
}

INLINE struct quad low(const struct quad q) {
#define LOW(v) bits_of(v, 0, 15)
    return EACH(q, LOW);
}
INLINE struct quad high(const struct quad q) {
#define HIGH(v) bits_of(v, 4, 15)
    return EACH(q, HIGH);
}

/* ---------------------------------------------------------------- blocks of 32 columns, a scale in front */

INLINE struct quad minus8(const struct quad q) {
#define MINUS8(v) _mm512_sub_epi8(v, v_set(8))
    return EACH(q, MINUS8);
}
INLINE struct quad looked_up(const int8_t *table, const struct quad q) {
    const v t = _mm512_broadcast_i32x4(_mm_loadu_si128((const void *)table));
#define LOOK_UP(v) _mm512_shuffle_epi8(t, v)
    return EACH(q, LOOK_UP);
}
INLINE struct quad values_of(const int8_t *table, const struct quad q) {
    return table ? looked_up(table, q) : minus8(q);
}

/* d of E8M0, halved, since values are doubled: sr_mxfp4_scale_bits */
INLINE __m512 halved_e8m0(v bytes) {
    const v e = v_and(bytes, _mm512_set1_epi32(0xff)), small = _mm512_sllv_epi32(_mm512_set1_epi32(0x200000), e);
    const v normal = _mm512_slli_epi32(_mm512_sub_epi32(e, _mm512_set1_epi32(1)), 23);
    return _mm512_castsi512_ps(_mm512_mask_mov_epi32(normal, _mm512_cmplt_epi32_mask(e, _mm512_set1_epi32(2)), small));
}

/* Nibbles; table NULL: minus 8. */
INLINE void nibbles32(const from f, sr_tile_avx512 *t, const int bytes, const int qs, const int8_t *table,
                      const bool e8m0) {
    for (int g = 0; g < 8; g++) {
        sr_prefetch(f.next, g, 8);
        const struct quad q = quad_at(f, g * bytes + qs);
        const v d = dword_at(f, g * bytes);
        _mm512_storeu_ps(t->scale[g], e8m0 ? halved_e8m0(d) : halves(d));
        put32(t, g, values_of(table, low(q)), values_of(table, high(q)));
    }
}

#define TILE(name, block, bytes)                                                                                       \
    void sr_tile_##name(const sr_weight *w, int64_t row0, int64_t k0, void *tile, sr_ahead next) {                     \
        name##_tile(rows_at(w, row0, k0, block, bytes, next), tile);                                                   \
    }
INLINE void q4_0_tile(const from f, sr_tile_avx512 *t) {
    nibbles32(f, t, SR_Q4_0_BYTES, SR_Q4_0_QS, NULL, false);
}
INLINE void iq4_nl_tile(const from f, sr_tile_avx512 *t) {
    nibbles32(f, t, SR_IQ4_NL_BYTES, SR_IQ4_NL_QS, sr_iq4_values, false);
}
INLINE void mxfp4_tile(const from f, sr_tile_avx512 *t) {
    nibbles32(f, t, SR_MXFP4_BYTES, SR_MXFP4_QS, sr_fp4_values, true);
}
INLINE void q8_0_tile(const from f, sr_tile_avx512 *t) {
    for (int g = 0; g < 8; g++) {
        sr_prefetch(f.next, g, 8);
        const int at = g * SR_Q8_0_BYTES;
        _mm512_storeu_ps(t->scale[g], halves(dword_at(f, at)));
        put32(t, g, quad_at(f, at + SR_Q8_0_QS), quad_at(f, at + SR_Q8_0_QS + 16));
    }
}

/* ---------------------------------------------------------------- blocks of 256 columns */

INLINE void k4_scales(const from f, sr_tile_avx512 *t) {
    const struct quad head = quad_at(f, 0);
    const struct k4 k = k4_of(head);
    const __m512 d = halves(head.v[0]), dmin = halves(v_shift(head.v[0], 16));
    put_scales(t, 0, k.scale[0], d), put_mins(t, 0, k.min[0], dmin);
    put_scales(t, 4, k.scale[1], d), put_mins(t, 4, k.min[1], dmin);
}
INLINE void q4_k_tile(const from f, sr_tile_avx512 *t) {
    k4_scales(f, t);
#pragma GCC unroll 4
    for (int g = 0; g < 8; g += 2) {
        sr_prefetch(f.next, g / 2, 4);
        const struct quad p = quad_at(f, SR_Q4_K_QS + 16 * g), q = quad_at(f, SR_Q4_K_QS + 16 * g + 16);
        put32(t, g, low(p), low(q));
        put32(t, g + 1, high(p), high(q));
    }
}

/* low | bits of `more` after a shift, and less `minus` */
INLINE struct quad with_bits(const struct quad q, const struct quad more, const int shift, const int mask,
                             const int minus) {
    struct quad r;
#pragma GCC unroll 4
    for (int j = 0; j < 4; j++) r.v[j] = _mm512_sub_epi8(v_or(q.v[j], bits_of(more.v[j], shift, mask)), v_set(minus));
    return r;
}
INLINE void q5_k_pair(const from f, sr_tile_avx512 *t, const struct quad m, const struct quad n, const int g) {
    sr_prefetch(f.next, g / 2, 4);
    const struct quad p = quad_at(f, SR_Q5_K_QS + 16 * g), q = quad_at(f, SR_Q5_K_QS + 16 * g + 16);
    put32(t, g, with_bits(low(p), m, g - 4, 16, 0), with_bits(low(q), n, g - 4, 16, 0));
    put32(t, g + 1, with_bits(high(p), m, g - 3, 16, 0), with_bits(high(q), n, g - 3, 16, 0));
}
INLINE void q5_k_tile(const from f, sr_tile_avx512 *t) {
    k4_scales(f, t);
    const struct quad m = quad_at(f, SR_Q5_K_QH), n = quad_at(f, SR_Q5_K_QH + 16);
    q5_k_pair(f, t, m, n, 0), q5_k_pair(f, t, m, n, 2), q5_k_pair(f, t, m, n, 4), q5_k_pair(f, t, m, n, 6);
}

/* Half h, sixteenth i of two: columns 128 h + 16 i + 0, 32, 64 and 96. */
INLINE void q6_k_part(const from f, sr_tile_avx512 *t, const int h, const int i) {
    sr_prefetch(f.next, 2 * h + i, 4);
    const struct quad p = quad_at(f, 64 * h + 16 * i), q = quad_at(f, 64 * h + 16 * i + 32);
    const struct quad m = quad_at(f, SR_Q6_K_QH + 32 * h + 16 * i);
    const int g = 8 * h + i;
    put16(t, g, with_bits(low(p), m, -4, 0x30, 32));
    put16(t, g + 2, with_bits(low(q), m, -2, 0x30, 32));
    put16(t, g + 4, with_bits(high(p), m, 0, 0x30, 32));
    put16(t, g + 6, with_bits(high(q), m, 2, 0x30, 32));
}
INLINE void q6_k_tile(const from f, sr_tile_avx512 *t) {
    const struct quad s = quad_at(f, SR_Q6_K_SCALES);
    const __m512 d = halves(v_shift(dword_at(f, SR_Q6_K_D - 2), 16));
#pragma GCC unroll 16
    for (int g = 0; g < 16; g++) put_scale(t, g, _mm512_srai_epi32(v_shift(s.v[g / 4], 8 * (g % 4) - 24), 24), d);
    q6_k_part(f, t, 0, 0), q6_k_part(f, t, 0, 1), q6_k_part(f, t, 1, 0), q6_k_part(f, t, 1, 1);
}

/* Q2_K and Q3_K as their panels have them, with one scale a block: a code is looked up among the few that its group
 * has, four bytes in the dword of each row. */
INLINE v dword_of_byte(void) {
    const v dword = _mm512_set_epi32(12, 8, 4, 0, 12, 8, 4, 0, 12, 8, 4, 0, 12, 8, 4, 0);
    return _mm512_mullo_epi32(dword, _mm512_set1_epi32(0x01010101));
}
INLINE __m512 byte_of(v bytes, const int shift, const int mask) {
    return _mm512_cvtepi32_ps(v_and(v_shift(bytes, shift), _mm512_set1_epi32(mask)));
}
/* scale * code - min on the grid of 127 steps. */
INLINE v on_grid(__m512 scale, float code, __m512 min, __m512 inverse) {
    const __m512 at = _mm512_sub_ps(_mm512_mul_ps(scale, _mm512_set1_ps(code)), min);
    return _mm512_cvtps_epi32(_mm512_mul_ps(at, inverse));
}
INLINE void finish_block(sr_tile_avx512 *t, v sum, __m512 scale) {
    _mm512_storeu_si512(t->init[0], _mm512_sub_epi32(_mm512_setzero_si512(), sum));
    _mm512_storeu_ps(t->scale[0], scale);
}

INLINE void q2_k_tile(const from f, sr_tile_avx512 *t) {
    const struct quad s = quad_at(f, 0);
    const v both = dword_at(f, SR_Q2_K_D), at = dword_of_byte(), inf = _mm512_set1_epi32(0x7c00);
    const v high = v_shift(both, 16);
    const __m512 d = halves(both), dmin = halves(high), zero = _mm512_setzero_ps(), top = _mm512_set1_ps(127);
    const __mmask16 finite =
        _mm512_cmpneq_epi32_mask(v_and(both, inf), inf) & _mm512_cmpneq_epi32_mask(v_and(high, inf), inf);
    __m512 scale[16], min[16], max = zero;
#pragma GCC unroll 16
    for (int g = 0; g < 16; g++) {
        scale[g] = _mm512_mul_ps(d, byte_of(s.v[g / 4], 8 * (g % 4), 15));
        min[g] = _mm512_mul_ps(dmin, byte_of(s.v[g / 4], 8 * (g % 4) + 4, 15));
        const __m512 last = _mm512_sub_ps(_mm512_mul_ps(scale[g], _mm512_set1_ps(3)), min[g]);
        max = _mm512_max_ps(max, _mm512_max_ps(_mm512_abs_ps(last), _mm512_abs_ps(min[g])));
    }
    const __m512 inverse = _mm512_maskz_div_ps(_mm512_cmp_ps_mask(max, zero, _CMP_GT_OQ) & finite, top, max);
    const v byte = _mm512_set1_epi32(0xff);
    v sum = _mm512_setzero_si512();
#pragma GCC unroll 4
    for (int part = 0; part < 4; part++) { /* codes 128 h + 16 i + 0, 32, 64 and 96 */
        const int h = part / 2, i = part % 2;
        sr_prefetch(f.next, part, 4);
        const struct quad q = quad_at(f, SR_Q2_K_QS + 32 * h + 16 * i);
#pragma GCC unroll 4
        for (int k = 0; k < 4; k++) {
            const int g = 8 * h + 2 * k + i;
            const v c0 = v_and(on_grid(scale[g], 0, min[g], inverse), byte), c1 = on_grid(scale[g], 1, min[g], inverse);
            const v c2 = v_and(on_grid(scale[g], 2, min[g], inverse), byte), c3 = on_grid(scale[g], 3, min[g], inverse);
            const v low = v_or(c0, v_and(v_shift(c1, -8), _mm512_set1_epi32(0xff00)));
            const v table = _mm512_maskz_mov_epi32(finite, v_or(v_or(low, v_shift(c2, -16)), v_shift(c3, -24)));
#pragma GCC unroll 4
            for (int j = 0; j < 4; j++) {
                const v c = _mm512_shuffle_epi8(table, v_or(bits_of(q.v[j], 2 * k, 3), at));
                _mm512_storeu_si512(t->code[4 * g + j], c);
                sum = _mm512_dpbusd_epi32(sum, v_set(-128), c);
            }
        }
    }
    finish_block(t, sum, _mm512_mask_mov_ps(_mm512_set1_ps(NAN), finite, _mm512_div_ps(max, top)));
}

/* Negated, as the panel is: codes 4 s, 3 s, 2 s and s of a group's scale s, and 4 s less where the third bit is set. */
INLINE v q3_k_part(const from f, sr_tile_avx512 *t, const v *six, const int h, const int i, v sum) {
    sr_prefetch(f.next, 2 * h + i, 4);
    const struct quad q = quad_at(f, SR_Q3_K_QS + 32 * h + 16 * i), m = quad_at(f, 16 * i);
    const v at = dword_of_byte();
#pragma GCC unroll 4
    for (int k = 0; k < 4; k++) {
        const int g = 8 * h + 2 * k + i;
        const v one = _mm512_shuffle_epi8(six[g / 4], v_or(at, v_set(g % 4))), two = _mm512_add_epi8(one, one);
        const v less = _mm512_sub_epi8(_mm512_setzero_si512(), _mm512_add_epi8(two, two));
        v table = _mm512_mask_add_epi8(one, 0x7777777777777777, one, one);
        table = _mm512_mask_add_epi8(table, 0x3333333333333333, table, one);
        table = _mm512_mask_add_epi8(table, 0x1111111111111111, table, one);
#pragma GCC unroll 4
        for (int j = 0; j < 4; j++) {
            v c = _mm512_shuffle_epi8(table, v_or(bits_of(q.v[j], 2 * k, 3), at));
            c = _mm512_mask_add_epi8(c, _mm512_test_epi8_mask(m.v[j], v_set(1 << (4 * h + k))), c, less);
            _mm512_storeu_si512(t->code[4 * g + j], c);
            sum = _mm512_dpbusd_epi32(sum, v_set(-128), c);
        }
    }
    return sum;
}
INLINE void q3_k_tile(const from f, sr_tile_avx512 *t) {
    /* two bytes before the scales, so that nothing is read behind d */
    const struct quad s = quad_at(f, SR_Q3_K_SCALES - 2);
    v byte[3], six[4], sum = _mm512_setzero_si512();
    for (int i = 0; i < 3; i++) byte[i] = v_or(v_shift(s.v[i], 16), v_shift(s.v[i + 1], -16));
    const __m512 d = halves(v_shift(s.v[3], 16));
#pragma GCC unroll 4
    for (int i = 0; i < 4; i++)
        six[i] =
            _mm512_sub_epi8(v_or(bits_of(byte[i % 2], i / 2 * 4, 15), bits_of(byte[2], 2 * i - 4, 0x30)), v_set(32));
    sum = q3_k_part(f, t, six, 0, 0, sum), sum = q3_k_part(f, t, six, 0, 1, sum);
    sum = q3_k_part(f, t, six, 1, 0, sum), sum = q3_k_part(f, t, six, 1, 1, sum);
    const v sign = _mm512_set1_epi32(INT32_MIN);
    finish_block(t, sum, _mm512_castsi512_ps(_mm512_xor_si512(_mm512_castps_si512(d), sign)));
}

INLINE void iq4_xs_tile(const from f, sr_tile_avx512 *t) {
    const struct quad head = quad_at(f, 0);
    const __m512 d = halves(head.v[0]);
#pragma GCC unroll 8
    for (int g = 0; g < 8; g++) {
        sr_prefetch(f.next, g, 8);
        put_scale(t, g, iq4_xs_scale(head, g), d);
        const struct quad q = quad_at(f, SR_IQ4_XS_QS + 16 * g);
        put32(t, g, looked_up(sr_iq4_values, low(q)), looked_up(sr_iq4_values, high(q)));
    }
}

TILE(q4_0, 32, SR_Q4_0_BYTES)
TILE(q8_0, 32, SR_Q8_0_BYTES)
TILE(q2_k, 256, SR_Q2_K_BYTES)
TILE(q3_k, 256, SR_Q3_K_BYTES)
TILE(q4_k, 256, SR_Q4_K_BYTES)
TILE(q5_k, 256, SR_Q5_K_BYTES)
TILE(q6_k, 256, SR_Q6_K_BYTES)
TILE(iq4_nl, 32, SR_IQ4_NL_BYTES)
TILE(iq4_xs, 256, SR_IQ4_XS_BYTES)
TILE(mxfp4, 32, SR_MXFP4_BYTES)

#include "cpu/target_end.h"
#endif
