/* The vocabulary in 256-bit vectors, common to simd_avx2.h and simd_avx512.h, which add the few names that differ.
 *
 *   vf   8 f32       the names of simd_portable.h
 *   vb   32 bytes    codes, or signed x. A half is 16 of them, one machine lane
 *   vs   16 int16
 *   vi   8 int32
 *
 * The bodies in fmt/ and cpu/ named *_kern.h use nothing else. Loads need no alignment. */
#ifndef SR_CPU_SIMD_X86_H
#define SR_CPU_SIMD_X86_H

#define V_INLINE static inline __attribute__((always_inline))
#define V_DOTS /* integer dot products are worth while: vi_dot and what goes with it */

typedef __m256 vf;
typedef __m256i vb, vs, vi;

/* ---------------------------------------------------------------- f32 */

V_INLINE vf vf_set1(float x) {
    return _mm256_set1_ps(x);
}
V_INLINE vf vf_load(const float *p) {
    return _mm256_loadu_ps(p);
}
V_INLINE void vf_store(float *p, vf v) {
    _mm256_storeu_ps(p, v);
}
/* Stores what vf_set1 will read number by number: a broadcast from memory costs no shuffle. Opaque, because gcc 12
 * would take the numbers out of the register with two shuffles each. */
V_INLINE void vf_spill(float p[8], vf v) {
    _mm256_storeu_ps(p, v);
    __asm__("" : "+m"(*(float(*)[8])p));
}
V_INLINE vf vf_add(vf a, vf b) {
    return _mm256_add_ps(a, b);
}
V_INLINE vf vf_sub(vf a, vf b) {
    return _mm256_sub_ps(a, b);
}
V_INLINE vf vf_mul(vf a, vf b) {
    return _mm256_mul_ps(a, b);
}
V_INLINE vf vf_div(vf a, vf b) {
    return _mm256_div_ps(a, b);
}
V_INLINE vf vf_fma(vf a, vf b, vf c) { /* a * b + c */
    return _mm256_fmadd_ps(a, b, c);
}
V_INLINE vf vf_fms(vf a, vf b, vf c) { /* a * b - c */
    return _mm256_fmsub_ps(a, b, c);
}
V_INLINE vf vf_fnma(vf a, vf b, vf c) { /* c - a * b */
    return _mm256_fnmadd_ps(a, b, c);
}
V_INLINE vf vf_max(vf a, vf b) {
    return _mm256_max_ps(a, b);
}
V_INLINE vf vf_min(vf a, vf b) {
    return _mm256_min_ps(a, b);
}
V_INLINE vf vf_abs(vf a) {
    return _mm256_andnot_ps(_mm256_set1_ps(-0.0f), a);
}
V_INLINE vf vf_neg(vf a) {
    return _mm256_xor_ps(_mm256_set1_ps(-0.0f), a);
}
/* ((0+4)+(2+6)) + ((1+5)+(3+7)) */
V_INLINE float vf_sum(vf v) {
    __m128 h = _mm_add_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps(v, 1));
    h = _mm_add_ps(h, _mm_movehl_ps(h, h));
    return _mm_cvtss_f32(_mm_add_ss(h, _mm_movehdup_ps(h)));
}
V_INLINE float vf_reduce_max(vf v) {
    __m128 h = _mm_max_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps(v, 1));
    h = _mm_max_ps(h, _mm_movehl_ps(h, h));
    return _mm_cvtss_f32(_mm_max_ss(h, _mm_movehdup_ps(h)));
}
/* Lane i is the sum of r[i]. */
V_INLINE vf vf_sum8(const vf r[8]) {
    vf a = _mm256_hadd_ps(_mm256_hadd_ps(r[0], r[1]), _mm256_hadd_ps(r[2], r[3]));
    vf b = _mm256_hadd_ps(_mm256_hadd_ps(r[4], r[5]), _mm256_hadd_ps(r[6], r[7]));
    return _mm256_add_ps(_mm256_permute2f128_ps(a, b, 0x20), _mm256_permute2f128_ps(a, b, 0x31));
}
V_INLINE void vf_transpose8(vf r[8]) {
    vf a0 = _mm256_unpacklo_ps(r[0], r[1]), a1 = _mm256_unpackhi_ps(r[0], r[1]);
    vf a2 = _mm256_unpacklo_ps(r[2], r[3]), a3 = _mm256_unpackhi_ps(r[2], r[3]);
    vf a4 = _mm256_unpacklo_ps(r[4], r[5]), a5 = _mm256_unpackhi_ps(r[4], r[5]);
    vf a6 = _mm256_unpacklo_ps(r[6], r[7]), a7 = _mm256_unpackhi_ps(r[6], r[7]);
    vf b0 = _mm256_shuffle_ps(a0, a2, 0x44), b1 = _mm256_shuffle_ps(a0, a2, 0xee);
    vf b2 = _mm256_shuffle_ps(a1, a3, 0x44), b3 = _mm256_shuffle_ps(a1, a3, 0xee);
    vf b4 = _mm256_shuffle_ps(a4, a6, 0x44), b5 = _mm256_shuffle_ps(a4, a6, 0xee);
    vf b6 = _mm256_shuffle_ps(a5, a7, 0x44), b7 = _mm256_shuffle_ps(a5, a7, 0xee);
    r[0] = _mm256_permute2f128_ps(b0, b4, 0x20), r[4] = _mm256_permute2f128_ps(b0, b4, 0x31);
    r[1] = _mm256_permute2f128_ps(b1, b5, 0x20), r[5] = _mm256_permute2f128_ps(b1, b5, 0x31);
    r[2] = _mm256_permute2f128_ps(b2, b6, 0x20), r[6] = _mm256_permute2f128_ps(b2, b6, 0x31);
    r[3] = _mm256_permute2f128_ps(b3, b7, 0x20), r[7] = _mm256_permute2f128_ps(b3, b7, 0x31);
}
V_INLINE vf vf_round(vf v) { /* nearest even */
    return _mm256_round_ps(v, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
}
/* 2^n for whole numbers -126 <= n <= 127 */
V_INLINE vf vf_pow2(vf n) {
    return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_add_epi32(_mm256_cvtps_epi32(n), _mm256_set1_epi32(127)), 23));
}
V_INLINE vf vf_from_f16(const uint16_t *p) {
    return _mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)(const void *)p));
}
V_INLINE void vf_to_f16(uint16_t *p, vf v) {
    _mm_storeu_si128((__m128i *)(void *)p, _mm256_cvtps_ph(v, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC));
}
V_INLINE vf vf_from_bf16(const uint16_t *p) {
    __m128i h = _mm_loadu_si128((const __m128i *)(const void *)p);
    return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(h), 16));
}
/* Eight E5M2 (the upper half of an f16), and eight E4M3 over 256: an f16 once the exponent has a fifth bit in front.
 * NaN of E4M3 becomes 480 / 256. */
V_INLINE vf vf_from_e5m2(const uint8_t *p) {
    return _mm256_cvtph_ps(_mm_unpacklo_epi8(_mm_setzero_si128(), _mm_loadl_epi64((const __m128i *)(const void *)p)));
}
V_INLINE vf vf_from_e4m3_256th(const uint8_t *p) {
    __m128i h = _mm_unpacklo_epi8(_mm_setzero_si128(), _mm_loadl_epi64((const __m128i *)(const void *)p));
    return _mm256_cvtph_ps(_mm_and_si128(_mm_srai_epi16(h, 1), _mm_set1_epi16((short)0xbfff)));
}
/* Eight E5M2FNUZ: an f32 of 2^111 times less. NaN becomes -0. */
V_INLINE vf vf_from_e5m2fnuz(const uint8_t *p) {
    __m256i wide = _mm256_cvtepi8_epi32(_mm_loadl_epi64((const __m128i *)(const void *)p));
    __m256i sign = _mm256_and_si256(wide, _mm256_set1_epi32(INT32_MIN));
    __m256i magnitude = _mm256_slli_epi32(_mm256_and_si256(wide, _mm256_set1_epi32(0x7f)), 21);
    return _mm256_mul_ps(_mm256_castsi256_ps(_mm256_or_si256(sign, magnitude)), _mm256_set1_ps(0x1p111f));
}
/* Eight E4M3, NaN included. */
V_INLINE vf vf_from_e4m3(const uint8_t *p) {
    __m256i wide = _mm256_cvtepu8_epi32(_mm_loadl_epi64((const __m128i *)(const void *)p));
    __m256i magnitude = _mm256_set1_epi32(0x7f);
    __m256i nan = _mm256_cmpeq_epi32(_mm256_and_si256(wide, magnitude), magnitude);
    return _mm256_or_ps(_mm256_mul_ps(vf_from_e4m3_256th(p), _mm256_set1_ps(256)), _mm256_castsi256_ps(nan));
}
/* Eight of 2^(b - 127); where b is 255, `last`. */
V_INLINE vf vf_from_e8m0(const uint8_t *p, float last) {
    __m256i b = _mm256_cvtepu8_epi32(_mm_loadl_epi64((const __m128i *)(const void *)p));
    __m256i least = _mm256_and_si256(_mm256_cmpeq_epi32(b, _mm256_setzero_si256()), _mm256_set1_epi32(0x400000));
    __m256 v = _mm256_castsi256_ps(_mm256_or_si256(_mm256_slli_epi32(b, 23), least));
    return _mm256_blendv_ps(v, _mm256_set1_ps(last),
                            _mm256_castsi256_ps(_mm256_cmpeq_epi32(b, _mm256_set1_epi32(255))));
}
V_INLINE vf vf_from_i32(vi v) {
    return _mm256_cvtepi32_ps(v);
}

/* The first number in the first half, the second in the second. */
V_INLINE vf vf_halves(const float *p) {
    return _mm256_insertf128_ps(_mm256_castps128_ps256(_mm_broadcast_ss(p)), _mm_broadcast_ss(p + 1), 1);
}

/* The first four, or the last four, each twice in a row. */
V_INLINE vf vf_first4_doubled(vf v) {
    return _mm256_permutevar8x32_ps(v, _mm256_set_epi32(3, 3, 2, 2, 1, 1, 0, 0));
}
V_INLINE vf vf_last4_doubled(vf v) {
    return _mm256_permutevar8x32_ps(v, _mm256_set_epi32(7, 7, 6, 6, 5, 5, 4, 4));
}

/* One f16 in all lanes, and one as a scalar. */
V_INLINE float v_f16(const uint8_t *p) {
    uint16_t h;
    memcpy(&h, p, 2);
    return _mm_cvtss_f32(_mm_cvtph_ps(_mm_cvtsi32_si128(h)));
}
V_INLINE vf vf_f16(const uint8_t *p) {
    uint16_t h;
    memcpy(&h, p, 2);
    return _mm256_cvtph_ps(_mm_set1_epi16((short)h));
}
/* The f16 at p, p + step, .. p + 7 * step. */
V_INLINE vf vf_gather_f16(const uint8_t *p, const int step) {
    uint16_t h[8];
    for (int i = 0; i < 8; i++) memcpy(&h[i], p + i * step, 2);
    __m128i v = _mm_cvtsi32_si128(h[0]);
    v = _mm_insert_epi16(v, h[1], 1), v = _mm_insert_epi16(v, h[2], 2), v = _mm_insert_epi16(v, h[3], 3);
    v = _mm_insert_epi16(v, h[4], 4), v = _mm_insert_epi16(v, h[5], 5), v = _mm_insert_epi16(v, h[6], 6);
    return _mm256_cvtph_ps(_mm_insert_epi16(v, h[7], 7));
}

/* ---------------------------------------------------------------- bytes */

V_INLINE vb vb_load(const void *p) {
    return _mm256_loadu_si256((const __m256i *)p);
}
V_INLINE void vb_store(void *p, vb v) {
    _mm256_storeu_si256((__m256i *)p, v);
}
V_INLINE vb vb_set1(int x) {
    return _mm256_set1_epi8((char)x);
}
/* 16 bytes in both halves. */
V_INLINE vb vb_twice(const void *p) {
    return _mm256_broadcastsi128_si256(_mm_loadu_si128((const __m128i *)p));
}
/* Four bytes in all lanes. */
V_INLINE vb vb_four(const void *p) {
    int32_t v;
    memcpy(&v, p, 4);
    return _mm256_set1_epi32(v);
}
/* Bytes, and two, four or eight of them, in turns, of the first or the last eight bytes of each half. */
V_INLINE vb vb_zip8_low(vb a, vb b) {
    return _mm256_unpacklo_epi8(a, b);
}
V_INLINE vb vb_zip8_high(vb a, vb b) {
    return _mm256_unpackhi_epi8(a, b);
}
V_INLINE vb vb_zip16_low(vb a, vb b) {
    return _mm256_unpacklo_epi16(a, b);
}
V_INLINE vb vb_zip16_high(vb a, vb b) {
    return _mm256_unpackhi_epi16(a, b);
}
V_INLINE vb vb_zip32_low(vb a, vb b) {
    return _mm256_unpacklo_epi32(a, b);
}
V_INLINE vb vb_zip32_high(vb a, vb b) {
    return _mm256_unpackhi_epi32(a, b);
}
V_INLINE vb vb_zip64_low(vb a, vb b) {
    return _mm256_unpacklo_epi64(a, b);
}
V_INLINE vb vb_zip64_high(vb a, vb b) {
    return _mm256_unpackhi_epi64(a, b);
}
/* Eight bytes from each of p, p + step, p + 2 * step, p + 3 * step. */
V_INLINE vb vb_four_of_8(const uint8_t *p, int64_t step) {
    int64_t a, b, c, d;
    memcpy(&a, p, 8);
    memcpy(&b, p + step, 8);
    memcpy(&c, p + 2 * step, 8);
    memcpy(&d, p + 3 * step, 8);
    return _mm256_set_epi64x(d, c, b, a);
}
V_INLINE vb vb_equal(vb a, vb b) {
    return _mm256_cmpeq_epi8(a, b);
}
V_INLINE bool vb_any(vb a) {
    return !_mm256_testz_si256(a, a);
}
V_INLINE vb vb_and(vb a, vb b) {
    return _mm256_and_si256(a, b);
}
V_INLINE vb vb_xor(vb a, vb b) {
    return _mm256_xor_si256(a, b);
}
V_INLINE vb vb_add(vb a, vb b) {
    return _mm256_add_epi8(a, b);
}
V_INLINE vb vb_sub(vb a, vb b) {
    return _mm256_sub_epi8(a, b);
}
V_INLINE vb vb_max_u8(vb a, vb b) {
    return _mm256_max_epu8(a, b);
}
V_INLINE vb vb_abs(vb a) {
    return _mm256_abs_epi8(a);
}
/* a where s > 0, -a where s < 0, 0 where s is 0. a is not -128 where s < 0. */
V_INLINE vb vb_sign(vb a, vb s) {
    return _mm256_sign_epi8(a, s);
}
/* -1 where a >= k, both unsigned; else 0. */
V_INLINE vb vb_at_least(vb a, const int k) {
    return _mm256_cmpeq_epi8(_mm256_max_epu8(a, _mm256_set1_epi8((char)k)), a);
}
/* Four vectors of 8 bytes, or eight of 4, from a table. */
V_INLINE vb vb_grid8(const uint64_t *table, uint64_t a, uint64_t b, uint64_t c, uint64_t d) {
    return _mm256_set_epi64x((long long)table[d], (long long)table[c], (long long)table[b], (long long)table[a]);
}
V_INLINE vb vb_grid4(const uint32_t *table, int a, int b, int c, int d, int e, int f, int g, int h) {
    return _mm256_set_epi32((int)table[h], (int)table[g], (int)table[f], (int)table[e], (int)table[d], (int)table[c],
                            (int)table[b], (int)table[a]);
}
/* a & 15, a >> 4 */
V_INLINE vb vb_low4(vb a) {
    return _mm256_and_si256(a, _mm256_set1_epi8(15));
}
V_INLINE vb vb_high4(vb a) {
    return _mm256_and_si256(_mm256_srli_epi16(a, 4), _mm256_set1_epi8(15));
}
/* Bits of 16-bit pairs moved by n, to the left when n > 0; what crosses a byte is to be masked away. */
V_INLINE vb vb_shift(vb a, const int n) {
    return n > 0 ? _mm256_slli_epi16(a, n) : n < 0 ? _mm256_srli_epi16(a, -n) : a;
}
/* The field of `mask`'s width from bit `shift` of each byte on. */
V_INLINE vb vb_field(vb a, int shift, vb mask) {
    return _mm256_and_si256(_mm256_srl_epi16(a, _mm_cvtsi32_si128(shift)), mask);
}
/* 16 bytes of two nibbles: the low ones to the first half, the high ones to the second. */
V_INLINE vb vb_nibbles(const uint8_t *p) {
    const __m256i shift = _mm256_set_epi64x(4, 4, 0, 0);
    return _mm256_and_si256(_mm256_srlv_epi64(vb_twice(p), shift), _mm256_set1_epi8(15));
}
/* The same of the first eight bytes to the first half, and of the last eight to the second. */
V_INLINE vb vb_nibbles_by_8(const uint8_t *p) {
    __m128i v = _mm_loadu_si128((const __m128i *)(const void *)p), high = _mm_srli_epi16(v, 4);
    __m256i both = _mm256_set_m128i(_mm_unpackhi_epi64(v, high), _mm_unpacklo_epi64(v, high));
    return _mm256_and_si256(both, _mm256_set1_epi8(15));
}
/* 16 bytes of two nibbles in order, each byte's low one first or its high one. */
V_INLINE vb vb_pairs_low_first(const uint8_t *p) {
    __m256i v = _mm256_cvtepu8_epi16(_mm_loadu_si128((const __m128i *)(const void *)p));
    return _mm256_and_si256(_mm256_or_si256(v, _mm256_slli_epi16(v, 4)), _mm256_set1_epi8(15));
}
V_INLINE vb vb_pairs_high_first(const uint8_t *p) {
    __m256i v = _mm256_cvtepu8_epi16(_mm_loadu_si128((const __m128i *)(const void *)p));
    return _mm256_and_si256(_mm256_or_si256(_mm256_srli_epi16(v, 4), _mm256_slli_epi16(v, 8)), _mm256_set1_epi8(15));
}
/* 32 codes of a little-endian stream of `bits` < 8 bits a code. Reads 2 * bits + 16 bytes from p on.
 * Each half looks at 16 of them: code j lies in the 16 bits from byte bits * j / 8 on, and a product with a power of
 * two moves it to the upper byte of these. */
V_INLINE char v_byte_of(const int bits, const int j) {
    return (char)(bits * j / 8);
}
V_INLINE short v_to_upper(const int bits, const int j) {
    return (short)(256 >> bits * j % 8);
}
V_INLINE __m256i v_windows(__m256i v, const int bits, const int j) {
    const char a = v_byte_of(bits, j), b = v_byte_of(bits, j + 2), c = v_byte_of(bits, j + 4),
               d = v_byte_of(bits, j + 6), e = v_byte_of(bits, j + 8), f = v_byte_of(bits, j + 10),
               g = v_byte_of(bits, j + 12), h = v_byte_of(bits, j + 14);
    const __m128i from = _mm_setr_epi8(a, a + 1, b, b + 1, c, c + 1, d, d + 1, e, e + 1, f, f + 1, g, g + 1, h, h + 1);
    const __m128i by = _mm_setr_epi16(v_to_upper(bits, j), v_to_upper(bits, j + 2), v_to_upper(bits, j + 4),
                                      v_to_upper(bits, j + 6), v_to_upper(bits, j + 8), v_to_upper(bits, j + 10),
                                      v_to_upper(bits, j + 12), v_to_upper(bits, j + 14));
    return _mm256_mullo_epi16(_mm256_shuffle_epi8(v, _mm256_broadcastsi128_si256(from)),
                              _mm256_broadcastsi128_si256(by));
}
V_INLINE vb vb_stream(const uint8_t *p, const int bits) {
    __m256i v = _mm256_inserti128_si256(_mm256_castsi128_si256(_mm_loadu_si128((const __m128i *)(const void *)p)),
                                        _mm_loadu_si128((const __m128i *)(const void *)(p + 2 * bits)), 1);
    __m256i even = _mm256_srli_epi16(v_windows(v, bits, 0), 8), odd = v_windows(v, bits, 1);
    const short mask = (short)((1 << bits) - 1);
    return _mm256_or_si256(_mm256_and_si256(even, _mm256_set1_epi16(mask)),
                           _mm256_and_si256(odd, _mm256_set1_epi16((short)(mask << 8))));
}
/* table[code], a table of 16 a half */
V_INLINE vb vb_lookup(vb table, vb code) {
    return _mm256_shuffle_epi8(table, code);
}
/* One step of a byte-wise reduction of eight vectors: see vb8_max. */
V_INLINE vb vb_fold8(vb a, vb b) {
    return _mm256_max_epu8(_mm256_unpacklo_epi8(a, b), _mm256_unpackhi_epi8(a, b));
}
V_INLINE vb vb_fold16(vb a, vb b) {
    return _mm256_max_epu8(_mm256_unpacklo_epi16(a, b), _mm256_unpackhi_epi16(a, b));
}
V_INLINE vb vb_fold32(vb a, vb b) {
    return _mm256_max_epu8(_mm256_unpacklo_epi32(a, b), _mm256_unpackhi_epi32(a, b));
}
typedef struct vb8 {
    vb c0, c1, c2, c3, c4, c5, c6, c7;
} vb8;
V_INLINE vb8 vb8_xor(vb8 v, vb m) {
    return (vb8){vb_xor(v.c0, m), vb_xor(v.c1, m), vb_xor(v.c2, m), vb_xor(v.c3, m),
                 vb_xor(v.c4, m), vb_xor(v.c5, m), vb_xor(v.c6, m), vb_xor(v.c7, m)};
}
V_INLINE vb8 vb8_lookup(vb table, vb8 v) {
    return (vb8){vb_lookup(table, v.c0), vb_lookup(table, v.c1), vb_lookup(table, v.c2), vb_lookup(table, v.c3),
                 vb_lookup(table, v.c4), vb_lookup(table, v.c5), vb_lookup(table, v.c6), vb_lookup(table, v.c7)};
}
/* The largest byte of each half: byte i of the first half is that of c<i>'s first half, and so on. */
V_INLINE vb vb8_max(vb8 v) {
    vb a = vb_fold16(vb_fold8(v.c0, v.c1), vb_fold8(v.c2, v.c3));
    vb b = vb_fold16(vb_fold8(v.c4, v.c5), vb_fold8(v.c6, v.c7));
    vb m = vb_fold32(a, b);
    return _mm256_max_epu8(m, _mm256_shuffle_epi32(m, 0x4e));
}
/* The first eight bytes of each half as f32, and those of the largest of both halves. */
V_INLINE vf vf_from_half0(vb v) {
    return _mm256_cvtepi32_ps(_mm256_cvtepu8_epi32(_mm256_castsi256_si128(v)));
}
V_INLINE vf vf_from_half1(vb v) {
    return _mm256_cvtepi32_ps(_mm256_cvtepu8_epi32(_mm256_extracti128_si256(v, 1)));
}
V_INLINE vb vb_max_of_halves(vb v) {
    return _mm256_max_epu8(v, _mm256_permute2x128_si256(v, v, 1));
}

/* ---------------------------------------------------------------- int16 */

V_INLINE vs vs_load(const int16_t *p) {
    return _mm256_loadu_si256((const __m256i *)(const void *)p);
}
V_INLINE vs vs_set1(int x) {
    return _mm256_set1_epi16((short)x);
}
/* 16 bytes, widened, in order; those of four little-endian words, and at an address. */
V_INLINE vs vs_from_u32(uint32_t a, uint32_t b, uint32_t c, uint32_t d) {
    return _mm256_cvtepu8_epi16(_mm_set_epi32((int)d, (int)c, (int)b, (int)a));
}
V_INLINE vs vs_from_u8(const void *p) {
    return _mm256_cvtepu8_epi16(_mm_loadu_si128((const __m128i *)p));
}
V_INLINE vs vs_from_i8(const void *p) {
    return _mm256_cvtepi8_epi16(_mm_loadu_si128((const __m128i *)p));
}
/* Scales of 16 groups of 16 columns: the even ones in the first half, the odd ones in the second, as vs_pick wants. */
V_INLINE vs vs_pairs(vs v) {
    const __m256i even_odd =
        _mm256_broadcastsi128_si256(_mm_set_epi8(15, 14, 11, 10, 7, 6, 3, 2, 13, 12, 9, 8, 5, 4, 1, 0));
    return _mm256_permute4x64_epi64(_mm256_shuffle_epi8(v, even_odd), 0xd8);
}
/* The first and the last eight, in both halves. */
V_INLINE vs vs_first8(vs v) {
    return _mm256_permute2x128_si256(v, v, 0);
}
/* The last eight, each twice in a row. */
V_INLINE vs vs_last8_doubled(vs v) {
    v = _mm256_permute4x64_epi64(v, 0xfa);
    return _mm256_unpacklo_epi16(v, v);
}
/* Number i of each half in all places of that half. */
V_INLINE vs vs_pick(vs v, const int i) {
    return _mm256_shuffle_epi8(v, _mm256_set1_epi16((short)((2 * i + 1) << 8 | 2 * i)));
}
V_INLINE vs vs_and(vs a, vs b) {
    return _mm256_and_si256(a, b);
}
V_INLINE vs vs_shift_right(vs a, const int n) {
    return _mm256_srli_epi16(a, n);
}
V_INLINE vs vs_sub(vs a, vs b) {
    return _mm256_sub_epi16(a, b);
}
V_INLINE vs vs_mul(vs a, vs b) {
    return _mm256_mullo_epi16(a, b);
}
/* a * b / 32768, to the nearest integer. */
V_INLINE vs vs_mul_high(vs a, vs b) {
    return _mm256_mulhrs_epi16(a, b);
}
/* The first and the last eight as f32. */
V_INLINE vf vf_from_first8(vs v) {
    return _mm256_cvtepi32_ps(_mm256_cvtepi16_epi32(_mm256_castsi256_si128(v)));
}
V_INLINE vf vf_from_last8(vs v) {
    return _mm256_cvtepi32_ps(_mm256_cvtepi16_epi32(_mm256_extracti128_si256(v, 1)));
}
/* Saturated to int8: half by half, a's eight and then b's. */
V_INLINE vb vb_pack(vs a, vs b) {
    return _mm256_packs_epi16(a, b);
}
/* The upper bytes: half by half, a's eight and then b's. */
V_INLINE vb vb_high_bytes(vs a, vs b) {
    return _mm256_packs_epi16(_mm256_srai_epi16(a, 8), _mm256_srai_epi16(b, 8));
}
/* Sums of neighbours u * x; u is unsigned and at most 63, so that nothing saturates. */
V_INLINE vs vs_dot_u6(vb u, vb x) {
    return _mm256_maddubs_epi16(u, x);
}

/* ---------------------------------------------------------------- int32 */

V_INLINE vi vi_zero(void) {
    return _mm256_setzero_si256();
}
V_INLINE vi vi_load(const void *p) {
    return _mm256_loadu_si256((const __m256i *)p);
}
V_INLINE void vi_store(int32_t *p, vi v) {
    _mm256_storeu_si256((__m256i *)(void *)p, v);
}
/* One number in the first lane, zeros behind. */
V_INLINE vi vi_first(const int32_t *p) {
    return _mm256_zextsi128_si256(_mm_cvtsi32_si128(*p));
}
V_INLINE vi vi_add(vi a, vi b) {
    return _mm256_add_epi32(a, b);
}
V_INLINE vi vi_sub(vi a, vi b) {
    return _mm256_sub_epi32(a, b);
}
V_INLINE vi vi_set1(int x) {
    return _mm256_set1_epi32(x);
}
V_INLINE vi vi_and(vi a, vi b) {
    return _mm256_and_si256(a, b);
}
/* Lane i is the nibble of `word` from bit order[i] on. */
V_INLINE vi vi_nibbles(uint32_t word, const uint8_t *order) {
    __m256i by = _mm256_cvtepu8_epi32(_mm_loadl_epi64((const __m128i *)(const void *)order));
    return _mm256_and_si256(_mm256_srlv_epi32(_mm256_set1_epi32((int)word), by), _mm256_set1_epi32(15));
}
V_INLINE vi vi_mul(vi a, vi b) {
    return _mm256_mullo_epi32(a, b);
}
/* Of lanes 0 4 1 5 in each half of a and 2 6 3 7 in those of b: 0 1 2 3, and 4 5 6 7. */
V_INLINE vi vi_deal_first(vi a, vi b) {
    return _mm256_unpacklo_epi64(_mm256_shuffle_epi32(a, 0xd8), _mm256_shuffle_epi32(b, 0xd8));
}
V_INLINE vi vi_deal_last(vi a, vi b) {
    return _mm256_unpackhi_epi64(_mm256_shuffle_epi32(a, 0xd8), _mm256_shuffle_epi32(b, 0xd8));
}
V_INLINE vi vi_shift(vi a, const int n) { /* to the left */
    return _mm256_slli_epi32(a, n);
}
V_INLINE vi vi_right(vi a, const int n) { /* rounds down */
    return _mm256_srai_epi32(a, n);
}
/* Eight numbers that fit in a byte, with or without a sign. */
V_INLINE void vi_store_bytes(uint8_t *p, vi a) {
    const __m256i first =
        _mm256_broadcastsi128_si256(_mm_set_epi8(-1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, 12, 8, 4, 0));
    a = _mm256_permutevar8x32_epi32(_mm256_shuffle_epi8(a, first), _mm256_set_epi32(7, 7, 7, 7, 7, 7, 4, 0));
    _mm_storel_epi64((__m128i *)(void *)p, _mm256_castsi256_si128(a));
}
/* Sums of neighbours a * b. */
V_INLINE vi vi_madd(vs a, vs b) {
    return _mm256_madd_epi16(a, b);
}
V_INLINE vi vi_nearest(vf v) {
    return _mm256_cvtps_epi32(v);
}
/* All eight in both halves, as int16. */
V_INLINE vs vs_both_from_i32(vi v) {
    return _mm256_permute4x64_epi64(_mm256_packs_epi32(v, v), 0x88);
}
/* Saturated to int8: half h holds numbers 4 * h .. 4 * h + 3 of a, then of b, c, d. */
V_INLINE vb vb_pack4(vi a, vi b, vi c, vi d) {
    return _mm256_packs_epi16(_mm256_packs_epi32(a, b), _mm256_packs_epi32(c, d));
}
/* vb_pack4's result as a's eight, b's, c's and d's. */
V_INLINE vb vb_in_order(vb v) {
    return _mm256_permutevar8x32_epi32(v, _mm256_set_epi32(7, 3, 6, 2, 5, 1, 4, 0));
}
/* Of vb_pack4's result: the 16 numbers of a and b, or of c and d, in both halves. */
V_INLINE vb vb_table_ab(vb v) {
    return _mm256_permutevar8x32_epi32(v, _mm256_set_epi32(5, 1, 4, 0, 5, 1, 4, 0));
}
V_INLINE vb vb_table_cd(vb v) {
    return _mm256_permutevar8x32_epi32(v, _mm256_set_epi32(7, 3, 6, 2, 7, 3, 6, 2));
}
/* First halves of both, and second halves of both. */
V_INLINE vb vb_halves0(vb a, vb b) {
    return _mm256_permute2x128_si256(a, b, 0x20);
}
V_INLINE vb vb_halves1(vb a, vb b) {
    return _mm256_permute2x128_si256(a, b, 0x31);
}

/* ---------------------------------------------------------------- quantized x */

/* 256 columns of quantized x: code = x * mul to the nearest, halves to even, and the sums of 16 codes. */
V_INLINE void v_codes256(const float *x, float mul, int8_t *code, int16_t *sum) {
    const vb ones = _mm256_set1_epi8(1);
    const vs twos = _mm256_set1_epi16(1);
    const vf m = _mm256_set1_ps(mul);
    vi part[8]; /* sums of four codes, those of 16 in each half */
#pragma GCC unroll 8
    for (int i = 0; i < 8; i++, x += 32) {
        vi a = _mm256_cvtps_epi32(_mm256_mul_ps(_mm256_loadu_ps(x), m));
        vi b = _mm256_cvtps_epi32(_mm256_mul_ps(_mm256_loadu_ps(x + 8), m));
        vi c = _mm256_cvtps_epi32(_mm256_mul_ps(_mm256_loadu_ps(x + 16), m));
        vi d = _mm256_cvtps_epi32(_mm256_mul_ps(_mm256_loadu_ps(x + 24), m));
        vb v = _mm256_packs_epi16(_mm256_packs_epi32(a, b), _mm256_packs_epi32(c, d));
        v = vb_in_order(v);
        vb_store(code + 32 * i, v);
        part[i] = _mm256_madd_epi16(_mm256_maddubs_epi16(ones, v), twos);
    }
    vi low = _mm256_hadd_epi32(_mm256_hadd_epi32(part[0], part[1]), _mm256_hadd_epi32(part[2], part[3]));
    vi high = _mm256_hadd_epi32(_mm256_hadd_epi32(part[4], part[5]), _mm256_hadd_epi32(part[6], part[7]));
    vs even_odd = _mm256_packs_epi32(low, high); /* even sums in the first half, odd ones in the second */
    __m128i even = _mm256_castsi256_si128(even_odd), odd = _mm256_extracti128_si256(even_odd, 1);
    _mm_storeu_si128((__m128i *)(void *)sum, _mm_unpacklo_epi16(even, odd));
    _mm_storeu_si128((__m128i *)(void *)(sum + 8), _mm_unpackhi_epi16(even, odd));
}

#endif
