/* The vocabulary of simd_x86.h on AArch64 with the dot product of bytes: each of its vectors is two registers, a half
 * one. What is an instruction of its own here, sums across lanes and products of bytes among them, is used as such. */
#ifndef SR_CPU_SIMD_NEON_H
#define SR_CPU_SIMD_NEON_H

#define V_INLINE static inline __attribute__((always_inline))

typedef struct vf {
    float32x4_t a, b;
} vf;
typedef struct vb {
    uint8x16_t a, b;
} vb, vs, vi;

/* Both halves through one operation, in lanes of another type. */
#define V_EACH8(f, x, y) ((vb){f((x).a, (y).a), f((x).b, (y).b)})
#define V_AS(type, v) vreinterpretq_##type##_u8(v)
#define V_FROM(type, v) vreinterpretq_u8_##type(v)
#define V_HALF(type, f, x, y) V_FROM(type, f(V_AS(type, x), V_AS(type, y)))
#define V_EACH(type, f, x, y) ((vb){V_HALF(type, f, (x).a, (y).a), V_HALF(type, f, (x).b, (y).b)})

/* ---------------------------------------------------------------- f32 */

V_INLINE vf vf_set1(float x) {
    return (vf){vdupq_n_f32(x), vdupq_n_f32(x)};
}
V_INLINE vf vf_load(const float *p) {
    return (vf){vld1q_f32(p), vld1q_f32(p + 4)};
}
V_INLINE void vf_store(float *p, vf v) {
    vst1q_f32(p, v.a);
    vst1q_f32(p + 4, v.b);
}
/* A multiply-add takes its factor from any lane: nothing has to pass through memory. */
V_INLINE void vf_spill(float p[8], vf v) {
    vf_store(p, v);
}
V_INLINE vf vf_add(vf x, vf y) {
    return (vf){vaddq_f32(x.a, y.a), vaddq_f32(x.b, y.b)};
}
V_INLINE vf vf_sub(vf x, vf y) {
    return (vf){vsubq_f32(x.a, y.a), vsubq_f32(x.b, y.b)};
}
V_INLINE vf vf_mul(vf x, vf y) {
    return (vf){vmulq_f32(x.a, y.a), vmulq_f32(x.b, y.b)};
}
V_INLINE vf vf_div(vf x, vf y) {
    return (vf){vdivq_f32(x.a, y.a), vdivq_f32(x.b, y.b)};
}
V_INLINE vf vf_abs(vf x) {
    return (vf){vabsq_f32(x.a), vabsq_f32(x.b)};
}
V_INLINE vf vf_neg(vf x) {
    return (vf){vnegq_f32(x.a), vnegq_f32(x.b)};
}
V_INLINE vf vf_fma(vf x, vf y, vf z) { /* x * y + z */
    return (vf){vfmaq_f32(z.a, x.a, y.a), vfmaq_f32(z.b, x.b, y.b)};
}
V_INLINE vf vf_fms(vf x, vf y, vf z) { /* x * y - z */
    return vf_fma(x, y, vf_neg(z));
}
V_INLINE vf vf_fnma(vf x, vf y, vf z) { /* z - x * y */
    return (vf){vfmsq_f32(z.a, x.a, y.a), vfmsq_f32(z.b, x.b, y.b)};
}
/* Of a NaN and a number, the number: what a comparison gives for a NaN in x. */
V_INLINE vf vf_max(vf x, vf y) {
    return (vf){vmaxnmq_f32(x.a, y.a), vmaxnmq_f32(x.b, y.b)};
}
V_INLINE vf vf_min(vf x, vf y) {
    return (vf){vminnmq_f32(x.a, y.a), vminnmq_f32(x.b, y.b)};
}
/* ((0+4)+(2+6)) + ((1+5)+(3+7)) */
V_INLINE float vf_sum(vf v) {
    float32x4_t h = vaddq_f32(v.a, v.b);
    return vpadds_f32(vadd_f32(vget_low_f32(h), vget_high_f32(h)));
}
V_INLINE float vf_reduce_max(vf v) {
    return vmaxnmvq_f32(vmaxnmq_f32(v.a, v.b));
}
/* Lane i is the sum of r[i]. */
V_INLINE float32x4_t v_sum4(const vf r[4]) {
    float32x4_t r01 = vpaddq_f32(vaddq_f32(r[0].a, r[0].b), vaddq_f32(r[1].a, r[1].b));
    return vpaddq_f32(r01, vpaddq_f32(vaddq_f32(r[2].a, r[2].b), vaddq_f32(r[3].a, r[3].b)));
}
V_INLINE vf vf_sum8(const vf r[8]) {
    return (vf){v_sum4(r), v_sum4(r + 4)};
}
/* Lane i of r<j> becomes lane j of r<i>. */
typedef struct v_square {
    float32x4_t r0, r1, r2, r3;
} v_square;
V_INLINE v_square v_transpose4(float32x4_t r0, float32x4_t r1, float32x4_t r2, float32x4_t r3) {
    float64x2_t a = vreinterpretq_f64_f32(vtrn1q_f32(r0, r1)), b = vreinterpretq_f64_f32(vtrn2q_f32(r0, r1));
    float64x2_t c = vreinterpretq_f64_f32(vtrn1q_f32(r2, r3)), d = vreinterpretq_f64_f32(vtrn2q_f32(r2, r3));
    return (v_square){vreinterpretq_f32_f64(vtrn1q_f64(a, c)), vreinterpretq_f32_f64(vtrn1q_f64(b, d)),
                      vreinterpretq_f32_f64(vtrn2q_f64(a, c)), vreinterpretq_f32_f64(vtrn2q_f64(b, d))};
}
V_INLINE void vf_transpose8(vf r[8]) {
    v_square first = v_transpose4(r[0].a, r[1].a, r[2].a, r[3].a), next = v_transpose4(r[4].a, r[5].a, r[6].a, r[7].a);
    v_square third = v_transpose4(r[0].b, r[1].b, r[2].b, r[3].b), last = v_transpose4(r[4].b, r[5].b, r[6].b, r[7].b);
    r[0] = (vf){first.r0, next.r0}, r[1] = (vf){first.r1, next.r1};
    r[2] = (vf){first.r2, next.r2}, r[3] = (vf){first.r3, next.r3};
    r[4] = (vf){third.r0, last.r0}, r[5] = (vf){third.r1, last.r1};
    r[6] = (vf){third.r2, last.r2}, r[7] = (vf){third.r3, last.r3};
}
V_INLINE vf vf_round(vf v) { /* nearest even */
    return (vf){vrndnq_f32(v.a), vrndnq_f32(v.b)};
}
/* 2^n for whole numbers -126 <= n <= 127 */
V_INLINE float32x4_t v_pow2(float32x4_t n) {
    return vreinterpretq_f32_s32(vshlq_n_s32(vaddq_s32(vcvtq_s32_f32(n), vdupq_n_s32(127)), 23));
}
V_INLINE vf vf_pow2(vf n) {
    return (vf){v_pow2(n.a), v_pow2(n.b)};
}
V_INLINE vf v_widen_f16(uint16x8_t h) {
    float16x8_t v = vreinterpretq_f16_u16(h);
    return (vf){vcvt_f32_f16(vget_low_f16(v)), vcvt_high_f32_f16(v)};
}
V_INLINE vf vf_from_f16(const uint16_t *p) {
    return v_widen_f16(vreinterpretq_u16_u8(vld1q_u8((const uint8_t *)p)));
}
V_INLINE void vf_to_f16(uint16_t *p, vf v) {
    float16x8_t h = vcvt_high_f16_f32(vcvt_f16_f32(v.a), v.b);
    vst1q_u8((uint8_t *)p, vreinterpretq_u8_f16(h));
}
V_INLINE vf vf_from_bf16(const uint16_t *p) {
    uint16x8_t h = vreinterpretq_u16_u8(vld1q_u8((const uint8_t *)p));
    return (vf){vreinterpretq_f32_u32(vshll_n_u16(vget_low_u16(h), 16)),
                vreinterpretq_f32_u32(vshll_high_n_u16(h, 16))};
}
/* Eight bytes as the upper halves of 16 bits, and as 32 bits. */
V_INLINE uint16x8_t v_upper_bytes(const uint8_t *p) {
    return vshll_n_u8(vld1_u8(p), 8);
}
V_INLINE vi v_from_u8(uint8x8_t p) {
    uint16x8_t h = vmovl_u8(p);
    return (vi){V_FROM(u32, vmovl_u16(vget_low_u16(h))), V_FROM(u32, vmovl_high_u16(h))};
}
V_INLINE vf v_float_u32(vi v) {
    return (vf){vcvtq_f32_u32(V_AS(u32, v.a)), vcvtq_f32_u32(V_AS(u32, v.b))};
}
/* Eight E5M2 (the upper half of an f16), and eight E4M3 over 256: an f16 once the exponent has a fifth bit in front.
 * NaN of E4M3 becomes 480 / 256. */
V_INLINE vf vf_from_e5m2(const uint8_t *p) {
    return v_widen_f16(v_upper_bytes(p));
}
V_INLINE vf vf_from_e4m3_256th(const uint8_t *p) {
    int16x8_t h = vshrq_n_s16(vreinterpretq_s16_u16(v_upper_bytes(p)), 1);
    return v_widen_f16(vbicq_u16(vreinterpretq_u16_s16(h), vdupq_n_u16(0x4000)));
}
/* Eight E5M2FNUZ: an f32 of 2^111 times less. NaN becomes -0. */
V_INLINE float32x4_t v_from_e5m2fnuz(uint32x4_t b) {
    uint32x4_t sign = vshlq_n_u32(vshrq_n_u32(b, 7), 31), size = vshlq_n_u32(vandq_u32(b, vdupq_n_u32(0x7f)), 21);
    return vmulq_f32(vreinterpretq_f32_u32(vorrq_u32(sign, size)), vdupq_n_f32(0x1p111f));
}
V_INLINE vf vf_from_e5m2fnuz(const uint8_t *p) {
    vi b = v_from_u8(vld1_u8(p));
    return (vf){v_from_e5m2fnuz(V_AS(u32, b.a)), v_from_e5m2fnuz(V_AS(u32, b.b))};
}
/* Eight E4M3, NaN included. */
V_INLINE float32x4_t v_nan_where(float32x4_t v, uint32x4_t is) {
    return vreinterpretq_f32_u32(vorrq_u32(vreinterpretq_u32_f32(v), is));
}
V_INLINE vf vf_from_e4m3(const uint8_t *p) {
    const uint32x4_t size = vdupq_n_u32(0x7f);
    vi b = v_from_u8(vld1_u8(p));
    vf v = vf_mul(vf_from_e4m3_256th(p), vf_set1(256));
    return (vf){v_nan_where(v.a, vceqq_u32(vandq_u32(V_AS(u32, b.a), size), size)),
                v_nan_where(v.b, vceqq_u32(vandq_u32(V_AS(u32, b.b), size), size))};
}
/* Eight of 2^(b - 127); where b is 255, `last`. */
V_INLINE float32x4_t v_from_e8m0(uint32x4_t b, float last) {
    uint32x4_t least = vandq_u32(vceqzq_u32(b), vdupq_n_u32(0x400000));
    float32x4_t v = vreinterpretq_f32_u32(vorrq_u32(vshlq_n_u32(b, 23), least));
    return vbslq_f32(vceqq_u32(b, vdupq_n_u32(255)), vdupq_n_f32(last), v);
}
V_INLINE vf vf_from_e8m0(const uint8_t *p, float last) {
    vi b = v_from_u8(vld1_u8(p));
    return (vf){v_from_e8m0(V_AS(u32, b.a), last), v_from_e8m0(V_AS(u32, b.b), last)};
}
V_INLINE vf vf_from_i32(vi v) {
    return (vf){vcvtq_f32_s32(V_AS(s32, v.a)), vcvtq_f32_s32(V_AS(s32, v.b))};
}
/* The first number in the first half, the second in the second. */
V_INLINE vf vf_halves(const float *p) {
    return (vf){vdupq_n_f32(p[0]), vdupq_n_f32(p[1])};
}
/* The first four, or the last four, each twice in a row. */
V_INLINE vf vf_first4_doubled(vf v) {
    return (vf){vzip1q_f32(v.a, v.a), vzip2q_f32(v.a, v.a)};
}
V_INLINE vf vf_last4_doubled(vf v) {
    return (vf){vzip1q_f32(v.b, v.b), vzip2q_f32(v.b, v.b)};
}
/* One f16 in all lanes, and one as a scalar. */
V_INLINE vf vf_f16(const uint8_t *p) {
    uint16_t h;
    memcpy(&h, p, 2);
    float32x4_t v = vcvt_f32_f16(vreinterpret_f16_u16(vdup_n_u16(h)));
    return (vf){v, v};
}
V_INLINE float v_f16(const uint8_t *p) {
    return vgetq_lane_f32(vf_f16(p).a, 0);
}
/* The f16 at p, p + step, .. p + 7 * step. */
V_INLINE vf vf_gather_f16(const uint8_t *p, const int step) {
    uint16_t h[8];
    for (int i = 0; i < 8; i++) memcpy(&h[i], p + i * step, 2);
    const uint16x8_t v = {h[0], h[1], h[2], h[3], h[4], h[5], h[6], h[7]};
    return v_widen_f16(v);
}

/* ---------------------------------------------------------------- bytes */

V_INLINE vb vb_load(const void *p) {
    return (vb){vld1q_u8(p), vld1q_u8((const uint8_t *)p + 16)};
}
V_INLINE void vb_store(void *p, vb v) {
    vst1q_u8(p, v.a);
    vst1q_u8((uint8_t *)p + 16, v.b);
}
V_INLINE vb vb_set1(int x) {
    return (vb){vdupq_n_u8((uint8_t)x), vdupq_n_u8((uint8_t)x)};
}
/* 16 bytes in both halves. */
V_INLINE vb vb_twice(const void *p) {
    return (vb){vld1q_u8(p), vld1q_u8(p)};
}
/* Four bytes in all lanes. */
V_INLINE vb vb_four(const void *p) {
    uint32_t v;
    memcpy(&v, p, 4);
    return (vb){V_FROM(u32, vdupq_n_u32(v)), V_FROM(u32, vdupq_n_u32(v))};
}
/* Bytes, and two, four or eight of them, in turns, of the first or the last eight bytes of each half. */
V_INLINE vb vb_zip8_low(vb x, vb y) {
    return V_EACH8(vzip1q_u8, x, y);
}
V_INLINE vb vb_zip8_high(vb x, vb y) {
    return V_EACH8(vzip2q_u8, x, y);
}
V_INLINE vb vb_zip16_low(vb x, vb y) {
    return V_EACH(u16, vzip1q_u16, x, y);
}
V_INLINE vb vb_zip16_high(vb x, vb y) {
    return V_EACH(u16, vzip2q_u16, x, y);
}
V_INLINE vb vb_zip32_low(vb x, vb y) {
    return V_EACH(u32, vzip1q_u32, x, y);
}
V_INLINE vb vb_zip32_high(vb x, vb y) {
    return V_EACH(u32, vzip2q_u32, x, y);
}
V_INLINE vb vb_zip64_low(vb x, vb y) {
    return V_EACH(u64, vzip1q_u64, x, y);
}
V_INLINE vb vb_zip64_high(vb x, vb y) {
    return V_EACH(u64, vzip2q_u64, x, y);
}
/* Eight bytes from each of p, p + step, p + 2 * step, p + 3 * step. */
V_INLINE vb vb_four_of_8(const uint8_t *p, int64_t step) {
    return (vb){vcombine_u8(vld1_u8(p), vld1_u8(p + step)), vcombine_u8(vld1_u8(p + 2 * step), vld1_u8(p + 3 * step))};
}
V_INLINE vb vb_equal(vb x, vb y) {
    return V_EACH8(vceqq_u8, x, y);
}
V_INLINE bool vb_any(vb x) {
    return vmaxvq_u8(vorrq_u8(x.a, x.b)) != 0;
}
V_INLINE vb vb_and(vb x, vb y) {
    return V_EACH8(vandq_u8, x, y);
}
V_INLINE vb vb_or(vb x, vb y) {
    return V_EACH8(vorrq_u8, x, y);
}
V_INLINE vb vb_xor(vb x, vb y) {
    return V_EACH8(veorq_u8, x, y);
}
/* x | (y & mask) */
V_INLINE vb vb_or_and(vb x, vb y, vb mask) {
    return vb_or(x, vb_and(y, mask));
}
V_INLINE vb vb_add(vb x, vb y) {
    return V_EACH8(vaddq_u8, x, y);
}
V_INLINE vb vb_sub(vb x, vb y) {
    return V_EACH8(vsubq_u8, x, y);
}
V_INLINE vb vb_abs(vb x) {
    return (vb){V_FROM(s8, vabsq_s8(V_AS(s8, x.a))), V_FROM(s8, vabsq_s8(V_AS(s8, x.b)))};
}
/* x where s > 0, -x where s < 0, 0 where s is 0. */
V_INLINE vb vb_sign(vb x, vb s) {
    const vb one = vb_set1(1), minus = vb_set1(-1);
    return V_EACH(s8, vmulq_s8, x, V_EACH(s8, vminq_s8, V_EACH(s8, vmaxq_s8, s, minus), one));
}
/* -1 where x >= k, both unsigned; else 0. */
V_INLINE vb vb_at_least(vb x, const int k) {
    return V_EACH8(vcgeq_u8, x, vb_set1(k));
}
/* Four vectors of 8 bytes, or eight of 4, from a table. */
V_INLINE vb vb_grid8(const uint64_t *table, uint64_t a, uint64_t b, uint64_t c, uint64_t d) {
    return (vb){V_FROM(u64, vcombine_u64(vld1_u64(table + a), vld1_u64(table + b))),
                V_FROM(u64, vcombine_u64(vld1_u64(table + c), vld1_u64(table + d)))};
}
V_INLINE vb vb_grid4(const uint32_t *table, int a, int b, int c, int d, int e, int f, int g, int h) {
    const uint32x4_t first = {table[a], table[b], table[c], table[d]}, last = {table[e], table[f], table[g], table[h]};
    return (vb){V_FROM(u32, first), V_FROM(u32, last)};
}
/* x & 15, x >> 4 */
V_INLINE vb vb_low4(vb x) {
    return vb_and(x, vb_set1(15));
}
V_INLINE vb vb_high4(vb x) {
    return (vb){vshrq_n_u8(x.a, 4), vshrq_n_u8(x.b, 4)};
}
/* Bits of 16-bit pairs moved by n, to the left when n > 0; what crosses a byte is to be masked away. The operators, as
 * the names for shifts by a constant take nothing but literals. */
V_INLINE uint8x16_t v_left16(uint8x16_t x, int n) {
    return V_FROM(u16, V_AS(u16, x) << vdupq_n_u16((uint16_t)n));
}
V_INLINE uint8x16_t v_right16(uint8x16_t x, int n) {
    return V_FROM(u16, V_AS(u16, x) >> vdupq_n_u16((uint16_t)n));
}
V_INLINE vb vb_shift(vb x, const int n) {
    if (n > 0) return (vb){v_left16(x.a, n), v_left16(x.b, n)};
    return n < 0 ? (vb){v_right16(x.a, -n), v_right16(x.b, -n)} : x;
}
/* The field of `mask`'s width from bit `shift` of each byte on. */
V_INLINE vb vb_field(vb x, int shift, vb mask) {
    return vb_and((vb){v_right16(x.a, shift), v_right16(x.b, shift)}, mask);
}
/* 16 bytes of two nibbles: the low ones to the first half, the high ones to the second. */
V_INLINE vb vb_nibbles(const uint8_t *p) {
    uint8x16_t v = vld1q_u8(p);
    return (vb){vandq_u8(v, vdupq_n_u8(15)), vshrq_n_u8(v, 4)};
}
/* The same of the first eight bytes to the first half, and of the last eight to the second. */
V_INLINE vb vb_nibbles_by_8(const uint8_t *p) {
    vb v = vb_nibbles(p);
    return (vb){V_HALF(u64, vzip1q_u64, v.a, v.b), V_HALF(u64, vzip2q_u64, v.a, v.b)};
}
/* 16 bytes of two nibbles in order, each byte's low one first or its high one. */
V_INLINE vb vb_pairs_low_first(const uint8_t *p) {
    vb v = vb_nibbles(p);
    return (vb){vzip1q_u8(v.a, v.b), vzip2q_u8(v.a, v.b)};
}
V_INLINE vb vb_pairs_high_first(const uint8_t *p) {
    vb v = vb_nibbles(p);
    return (vb){vzip1q_u8(v.b, v.a), vzip2q_u8(v.b, v.a)};
}
/* Bit i of the 32 bits at p: `value` in byte i, else 0. */
V_INLINE vb vb_bits(const uint8_t *p, const int value) {
    const uint8x16_t bit = V_FROM(u64, vdupq_n_u64(0x8040201008040201)), to = vdupq_n_u8((uint8_t)value);
    const uint8x16_t first = vcombine_u8(vdup_n_u8(p[0]), vdup_n_u8(p[1])),
                     last = vcombine_u8(vdup_n_u8(p[2]), vdup_n_u8(p[3]));
    return (vb){vandq_u8(vtstq_u8(first, bit), to), vandq_u8(vtstq_u8(last, bit), to)};
}
/* 32 codes of a little-endian stream of `bits` < 8 bits a code. Reads 2 * bits + 16 bytes from p on.
 * Each half looks at 16 of them: code j lies in the 16 bits from byte bits * j / 8 on, from bit bits * j % 8. */
#define V_FROM_BYTE(bits, j) (uint8_t)((bits) * (j) / 8), (uint8_t)((bits) * (j) / 8 + 1)
#define V_LEFT(bits, j, by) (int16_t)((by) - (bits) * (j) % 8)
V_INLINE uint8x16_t v_stream(const uint8_t *p, const int bits) {
    const uint8x16_t v = vld1q_u8(p);
    const uint8x16_t at_even = {V_FROM_BYTE(bits, 0),  V_FROM_BYTE(bits, 2), V_FROM_BYTE(bits, 4),
                                V_FROM_BYTE(bits, 6),  V_FROM_BYTE(bits, 8), V_FROM_BYTE(bits, 10),
                                V_FROM_BYTE(bits, 12), V_FROM_BYTE(bits, 14)};
    const uint8x16_t at_odd = {V_FROM_BYTE(bits, 1),  V_FROM_BYTE(bits, 3), V_FROM_BYTE(bits, 5),
                               V_FROM_BYTE(bits, 7),  V_FROM_BYTE(bits, 9), V_FROM_BYTE(bits, 11),
                               V_FROM_BYTE(bits, 13), V_FROM_BYTE(bits, 15)};
    const int16x8_t by_even = {V_LEFT(bits, 0, 0), V_LEFT(bits, 2, 0),  V_LEFT(bits, 4, 0),  V_LEFT(bits, 6, 0),
                               V_LEFT(bits, 8, 0), V_LEFT(bits, 10, 0), V_LEFT(bits, 12, 0), V_LEFT(bits, 14, 0)};
    const int16x8_t by_odd = {V_LEFT(bits, 1, 8), V_LEFT(bits, 3, 8),  V_LEFT(bits, 5, 8),  V_LEFT(bits, 7, 8),
                              V_LEFT(bits, 9, 8), V_LEFT(bits, 11, 8), V_LEFT(bits, 13, 8), V_LEFT(bits, 15, 8)};
    uint16x8_t even = vshlq_u16(V_AS(u16, vqtbl1q_u8(v, at_even)), by_even);
    uint16x8_t odd = vshlq_u16(V_AS(u16, vqtbl1q_u8(v, at_odd)), by_odd);
    return vandq_u8(V_FROM(u16, vbslq_u16(vdupq_n_u16(255), even, odd)), vdupq_n_u8((uint8_t)((1 << bits) - 1)));
}
V_INLINE vb vb_stream(const uint8_t *p, const int bits) {
    return (vb){v_stream(p, bits), v_stream(p + 2 * bits, bits)};
}
/* table[code], a table of 16 a half */
V_INLINE vb vb_lookup(vb table, vb code) {
    return V_EACH8(vqtbl1q_u8, table, code);
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
V_INLINE vb v_fold(vb x, vb y) {
    return V_EACH8(vpmaxq_u8, x, y);
}
V_INLINE vb vb8_max(vb8 v) {
    vb m = v_fold(v_fold(v_fold(v.c0, v.c1), v_fold(v.c2, v.c3)), v_fold(v_fold(v.c4, v.c5), v_fold(v.c6, v.c7)));
    return v_fold(m, m);
}
/* The first eight bytes of each half as f32, and those of the largest of both halves. */
V_INLINE vf vf_from_half0(vb v) {
    return v_float_u32(v_from_u8(vget_low_u8(v.a)));
}
V_INLINE vf vf_from_half1(vb v) {
    return v_float_u32(v_from_u8(vget_low_u8(v.b)));
}
V_INLINE vb vb_max_of_halves(vb v) {
    uint8x16_t m = vmaxq_u8(v.a, v.b);
    return (vb){m, m};
}

/* ---------------------------------------------------------------- int16 */

V_INLINE vs vs_load(const int16_t *p) {
    return vb_load(p);
}
V_INLINE vs vs_set1(int x) {
    return (vs){V_FROM(s16, vdupq_n_s16((int16_t)x)), V_FROM(s16, vdupq_n_s16((int16_t)x))};
}
/* 16 bytes, widened, in order; those of four little-endian words, and at an address. */
V_INLINE vs v_widen_u8(uint8x16_t v) {
    return (vs){V_FROM(u16, vmovl_u8(vget_low_u8(v))), V_FROM(u16, vmovl_high_u8(v))};
}
V_INLINE vs vs_from_u32(uint32_t a, uint32_t b, uint32_t c, uint32_t d) {
    const uint32x4_t v = {a, b, c, d};
    return v_widen_u8(V_FROM(u32, v));
}
V_INLINE vs vs_from_u8(const void *p) {
    return v_widen_u8(vld1q_u8(p));
}
V_INLINE vs vs_from_i8(const void *p) {
    int8x16_t v = vld1q_s8(p);
    return (vs){V_FROM(s16, vmovl_s8(vget_low_s8(v))), V_FROM(s16, vmovl_high_s8(v))};
}
/* Scales of 16 groups of 16 columns: the even ones in the first half, the odd ones in the second, as vs_pick wants. */
V_INLINE vs vs_pairs(vs v) {
    return (vs){V_HALF(u16, vuzp1q_u16, v.a, v.b), V_HALF(u16, vuzp2q_u16, v.a, v.b)};
}
/* The first eight, in both halves. */
V_INLINE vs vs_first8(vs v) {
    return (vs){v.a, v.a};
}
/* The last eight, each twice in a row. */
V_INLINE vs vs_last8_doubled(vs v) {
    return (vs){V_HALF(u16, vzip1q_u16, v.b, v.b), V_HALF(u16, vzip2q_u16, v.b, v.b)};
}
/* Number i of each half in all places of that half. */
V_INLINE vs vs_pick(vs v, const int i) {
    return (vs){V_FROM(u16, vdupq_n_u16(V_AS(u16, v.a)[i])), V_FROM(u16, vdupq_n_u16(V_AS(u16, v.b)[i]))};
}
V_INLINE vs vs_and(vs x, vs y) {
    return vb_and(x, y);
}
V_INLINE vs vs_shift_right(vs x, const int n) {
    return (vs){v_right16(x.a, n), v_right16(x.b, n)};
}
V_INLINE vs vs_sub(vs x, vs y) {
    return V_EACH(s16, vsubq_s16, x, y);
}
V_INLINE vs vs_mul(vs x, vs y) {
    return V_EACH(s16, vmulq_s16, x, y);
}
/* x * y / 32768, to the nearest integer. */
V_INLINE vs vs_mul_high(vs x, vs y) {
    return V_EACH(s16, vqrdmulhq_s16, x, y);
}
/* The first and the last eight as f32. */
V_INLINE vf v_float_s16(uint8x16_t v) {
    int16x8_t h = V_AS(s16, v);
    return (vf){vcvtq_f32_s32(vmovl_s16(vget_low_s16(h))), vcvtq_f32_s32(vmovl_high_s16(h))};
}
V_INLINE vf vf_from_first8(vs v) {
    return v_float_s16(v.a);
}
V_INLINE vf vf_from_last8(vs v) {
    return v_float_s16(v.b);
}
/* Saturated to int8: half by half, x's eight and then y's. */
V_INLINE uint8x16_t v_pack16(int16x8_t x, int16x8_t y) {
    return V_FROM(s8, vqmovn_high_s16(vqmovn_s16(x), y));
}
V_INLINE vb vb_pack(vs x, vs y) {
    return (vb){v_pack16(V_AS(s16, x.a), V_AS(s16, y.a)), v_pack16(V_AS(s16, x.b), V_AS(s16, y.b))};
}

/* The upper bytes: half by half, x's eight and then y's. */
V_INLINE vb vb_high_bytes(vs x, vs y) {
    return (vb){vuzp2q_u8(x.a, y.a), vuzp2q_u8(x.b, y.b)};
}

/* ---------------------------------------------------------------- int32 */

V_INLINE vi vi_set1(int x) {
    return (vi){V_FROM(s32, vdupq_n_s32(x)), V_FROM(s32, vdupq_n_s32(x))};
}
V_INLINE vi vi_zero(void) {
    return vi_set1(0);
}
V_INLINE vi vi_load(const void *p) {
    return vb_load(p);
}
V_INLINE void vi_store(int32_t *p, vi v) {
    vb_store(p, v);
}
/* One number in the first lane, zeros behind. */
V_INLINE vi vi_first(const int32_t *p) {
    return (vi){V_FROM(s32, vsetq_lane_s32(*p, vdupq_n_s32(0), 0)), vdupq_n_u8(0)};
}
V_INLINE vi vi_add(vi x, vi y) {
    return V_EACH(s32, vaddq_s32, x, y);
}
V_INLINE vi vi_sub(vi x, vi y) {
    return V_EACH(s32, vsubq_s32, x, y);
}
V_INLINE vi vi_and(vi x, vi y) {
    return vb_and(x, y);
}
V_INLINE vi vi_mul(vi x, vi y) {
    return V_EACH(s32, vmulq_s32, x, y);
}
V_INLINE vi vi_shift(vi x, const int n) { /* to the left */
    const int32x4_t by = vdupq_n_s32(n);
    return (vi){V_FROM(s32, V_AS(s32, x.a) << by), V_FROM(s32, V_AS(s32, x.b) << by)};
}
V_INLINE vi vi_right(vi x, const int n) { /* rounds down */
    const int32x4_t by = vdupq_n_s32(n);
    return (vi){V_FROM(s32, V_AS(s32, x.a) >> by), V_FROM(s32, V_AS(s32, x.b) >> by)};
}
/* Eight numbers that fit in a byte, with or without a sign. */
V_INLINE void vi_store_bytes(uint8_t *p, vi x) {
    vst1_u8(p, vmovn_u16(vcombine_u16(vmovn_u32(V_AS(u32, x.a)), vmovn_u32(V_AS(u32, x.b)))));
}
/* Lane i is the nibble of `word` from bit order[i] on. */
V_INLINE vi vi_nibbles(uint32_t word, const uint8_t *order) {
    const uint32x4_t w = vdupq_n_u32(word), mask = vdupq_n_u32(15);
    vi by = v_from_u8(vld1_u8(order));
    return (vi){V_FROM(u32, vandq_u32(w >> V_AS(u32, by.a), mask)), V_FROM(u32, vandq_u32(w >> V_AS(u32, by.b), mask))};
}
/* Of lanes 0 4 1 5 in each half of x and 2 6 3 7 in those of y: 0 1 2 3, and 4 5 6 7. */
V_INLINE vi vi_deal_first(vi x, vi y) {
    return V_EACH(u32, vuzp1q_u32, x, y);
}
V_INLINE vi vi_deal_last(vi x, vi y) {
    return V_EACH(u32, vuzp2q_u32, x, y);
}
/* Sums of neighbours x * y. */
V_INLINE uint8x16_t v_madd(uint8x16_t v, uint8x16_t w) {
    int16x8_t x = V_AS(s16, v), y = V_AS(s16, w);
    return V_FROM(s32, vpaddq_s32(vmull_s16(vget_low_s16(x), vget_low_s16(y)), vmull_high_s16(x, y)));
}
V_INLINE vi vi_madd(vs x, vs y) {
    return V_EACH8(v_madd, x, y);
}
V_INLINE vi vi_nearest(vf v) {
    return (vi){V_FROM(s32, vcvtnq_s32_f32(v.a)), V_FROM(s32, vcvtnq_s32_f32(v.b))};
}
V_INLINE int16x8_t v_pack32(uint8x16_t x, uint8x16_t y) {
    return vqmovn_high_s32(vqmovn_s32(V_AS(s32, x)), V_AS(s32, y));
}
/* All eight in both halves, as int16. */
V_INLINE vs vs_both_from_i32(vi v) {
    const uint8x16_t eight = V_FROM(s16, v_pack32(v.a, v.b));
    return (vs){eight, eight};
}
/* Saturated to int8: half h holds numbers 4 * h .. 4 * h + 3 of a, then of b, c, d. */
V_INLINE vb vb_pack4(vi a, vi b, vi c, vi d) {
    return (vb){v_pack16(v_pack32(a.a, b.a), v_pack32(c.a, d.a)), v_pack16(v_pack32(a.b, b.b), v_pack32(c.b, d.b))};
}
/* vb_pack4's result as a's eight, b's, c's and d's. */
V_INLINE vb vb_in_order(vb v) {
    return (vb){V_HALF(u32, vzip1q_u32, v.a, v.b), V_HALF(u32, vzip2q_u32, v.a, v.b)};
}
/* Of vb_pack4's result: the 16 numbers of a and b, or of c and d, in both halves. */
V_INLINE vb vb_table_ab(vb v) {
    uint8x16_t t = V_HALF(u32, vzip1q_u32, v.a, v.b);
    return (vb){t, t};
}
V_INLINE vb vb_table_cd(vb v) {
    uint8x16_t t = V_HALF(u32, vzip2q_u32, v.a, v.b);
    return (vb){t, t};
}
/* First halves of both, and second halves of both. */
V_INLINE vb vb_halves0(vb x, vb y) {
    return (vb){x.a, y.a};
}
V_INLINE vb vb_halves1(vb x, vb y) {
    return (vb){x.b, y.b};
}

/* ---------------------------------------------------------------- products of bytes */

/* Asm, as arm_neon.h of clang before 16 has the name only where the command line allows the instruction. */
V_INLINE uint8x16_t v_sdot(uint8x16_t sum, uint8x16_t w, uint8x16_t x) {
    __asm__("sdot %0.4s, %1.16b, %2.16b" : "+w"(sum) : "w"(w), "w"(x));
    return sum;
}
/* sum + sums of four neighbours u * x; u is not negative. */
V_INLINE vi vi_dot_u6(vi sum, vb u, vb x) {
    return (vi){v_sdot(sum.a, u.a, x.a), v_sdot(sum.b, u.b, x.b)};
}
/* The same for any unsigned u: (u - 128) * x, and 128 * x in two halves. */
V_INLINE vi vi_dot(vi sum, vb u, vb x) {
    const vb half = vb_set1(64);
    return vi_dot_u6(vi_dot_u6(vi_dot_u6(sum, vb_xor(u, vb_set1(128)), x), half, x), half, x);
}
/* Sums of four w * x, all signed. */
V_INLINE vi vi_dot_i8(vb w, vb x) {
    return vi_dot_u6(vi_zero(), w, x);
}
/* Sums of four u * x and four v * y. */
V_INLINE vi vi_dot_two_u6(vb u, vb x, vb v, vb y) {
    return vi_dot_u6(vi_dot_i8(u, x), v, y);
}
/* sum + scale * (u * x); scale has one number in all places of a half. */
V_INLINE vi vi_dot_scaled(vi sum, vb u, vb x, vs scale) {
    int32x4_t s = vmovl_s16(vget_low_s16(V_AS(s16, scale.a))), t = vmovl_s16(vget_low_s16(V_AS(s16, scale.b)));
    return vi_add(sum, vi_mul(vi_dot_i8(u, x), (vi){V_FROM(s32, s), V_FROM(s32, t)}));
}

/* ---------------------------------------------------------------- quantized x */

/* 256 columns of quantized x: code = x * mul to the nearest, halves to even, and the sums of 16 codes. */
V_INLINE void v_codes256(const float *x, float mul, int8_t *code, int16_t *sum) {
    const vf by = vf_set1(mul);
    for (int i = 0; i < 8; i++, x += 32, code += 32) {
        vb v = vb_in_order(vb_pack4(vi_nearest(vf_mul(vf_load(x), by)), vi_nearest(vf_mul(vf_load(x + 8), by)),
                                    vi_nearest(vf_mul(vf_load(x + 16), by)), vi_nearest(vf_mul(vf_load(x + 24), by))));
        vb_store(code, v);
        sum[2 * i] = vaddlvq_s8(V_AS(s8, v.a));
        sum[2 * i + 1] = vaddlvq_s8(V_AS(s8, v.b));
    }
}

#endif
