/* Fast panels and dots of GGUF's IQ, ternary and 4-bit float types (gguf_iq.c, gguf_tq.c), written once in the
 * vocabulary of cpu/simd_x86.h. Vectors of the grids come by loads of 8 or 4 bytes, tables of 16 by shuffles. */

/* 32 codes as |code| <= 127 and what carries their signs: code itself, or -1 and 1. */
typedef struct v_signed {
    vb u, s;
} v_signed;
typedef v_signed signed_fn(const uint8_t *b, int i); /* columns 32 i .. 32 i + 31 of the block at b */

V_INLINE uint64_t u64_le(const uint8_t *p) {
    uint64_t v;
    memcpy(&v, p, 8);
    return v;
}
/* -1 where a bit is set, else 1. */
V_INLINE vb sign_bytes(uint32_t bits) {
    uint8_t p[4];
    memcpy(p, &bits, 4);
    return vb_or(vb_bits(p, 254), vb_set1(1));
}
V_INLINE v_signed with_signs(vb code) {
    return (v_signed){vb_abs(code), code};
}

/* ---------------------------------------------------------------- codes */

V_INLINE v_signed iq2_xxs_codes(const uint8_t *b, int i) {
    const uint8_t *q = b + 2 + 8 * i;
    return (v_signed){vb_grid8(sr_iq2xxs_grid, q[0], q[1], q[2], q[3]), sign_bytes(sr_iq2_xxs_signs(b, i))};
}
V_INLINE v_signed iq2_xs_codes(const uint8_t *b, int i) {
    uint64_t q = u64_le(b + 2 + 8 * i);
    uint32_t fields = (q >> 9 & 0x7f) | (q >> 17 & 0x7f00) | (q >> 25 & 0x7f0000) | (q >> 33 & 0x7f000000);
    return (v_signed){vb_grid8(sr_iq2xs_grid, q & 511, q >> 16 & 511, q >> 32 & 511, q >> 48 & 511),
                      sign_bytes(sr_iq_parity(fields))};
}
V_INLINE v_signed iq2_s_codes(const uint8_t *b, int i) {
    const uint8_t *q = b + 2 + 4 * i;
    const int h = b[SR_IQ2_S_QH + i];
    return (v_signed){vb_grid8(sr_iq2s_grid, q[0] | (h << 8 & 0x300), q[1] | (h << 6 & 0x300), q[2] | (h << 4 & 0x300),
                               q[3] | (h << 2 & 0x300)),
                      sign_bytes(u32_le(b + SR_IQ2_S_SIGNS + 4 * i))};
}
V_INLINE v_signed iq3_xxs_codes(const uint8_t *b, int i) {
    const uint8_t *q = b + 2 + 8 * i;
    return (v_signed){vb_grid4(sr_iq3xxs_grid, q[0], q[1], q[2], q[3], q[4], q[5], q[6], q[7]),
                      sign_bytes(sr_iq3_xxs_signs(b, i))};
}
V_INLINE v_signed iq3_s_codes(const uint8_t *b, int i) {
    const uint8_t *q = b + 2 + 8 * i;
    const int h = b[SR_IQ3_S_QH + i];
    return (v_signed){vb_grid4(sr_iq3s_grid, q[0] | (h << 8 & 256), q[1] | (h << 7 & 256), q[2] | (h << 6 & 256),
                               q[3] | (h << 5 & 256), q[4] | (h << 4 & 256), q[5] | (h << 3 & 256),
                               q[6] | (h << 2 & 256), q[7] | (h << 1 & 256)),
                      sign_bytes(u32_le(b + SR_IQ3_S_SIGNS + 4 * i))};
}
/* 8 * grid + delta, never zero. */
V_INLINE v_signed ternary_codes(vb grid, vb delta) {
    return with_signs(vb_add(vb_and(vb_shift(grid, 3), vb_set1(0xf8)), delta));
}
V_INLINE v_signed iq1_s_codes(const uint8_t *b, int i) {
    const uint8_t *q = b + 2 + 4 * i;
    const int h = (int)sr_u16_le(b + SR_IQ1_S_QH + 2 * i);
    return ternary_codes(vb_grid8(sr_iq1s_grid, q[0] | (h << 8 & 0x700), q[1] | (h << 5 & 0x700),
                                  q[2] | (h << 2 & 0x700), q[3] | (h >> 1 & 0x700)),
                         vb_set1(h & 0x8000 ? -1 : 1));
}
V_INLINE v_signed iq1_m_codes(const uint8_t *b, int i) {
    const uint8_t *q = b + 4 * i;
    const uint32_t h = sr_u16_le(b + SR_IQ1_M_QH + 2 * i); /* nibbles 4 i .. 4 i + 3 */
    uint32_t negative = (h >> 3 & 1) | (h << 1 & 0x100) | (h << 5 & 0x10000) | (h << 9 & 0x1000000);
    return ternary_codes(vb_grid8(sr_iq1s_grid, q[0] | (h << 8 & 0x700), q[1] | (h << 4 & 0x700), q[2] | (h & 0x700),
                                  q[3] | (h >> 4 & 0x700)),
                         sign_bytes(negative * 255));
}
V_INLINE v_signed iq4_xs_codes(const uint8_t *b, int i) {
    return with_signs(vb_lookup(vb_twice(sr_iq4_values), vb_nibbles(b + SR_IQ4_XS_QS + 16 * i)));
}

/* ---------------------------------------------------------------- integer scales: eight of groups of 32 in both
 * halves; of groups of 16 the even ones in the first half, the odd ones in the second */

V_INLINE vs scales_of(uint64_t first, uint64_t last) {
    return vs_from_u32((uint32_t)first, (uint32_t)(first >> 32), (uint32_t)last, (uint32_t)(last >> 32));
}
/* 2 s + 1 of every byte s <= 15. */
V_INLINE uint64_t odd_bytes(uint64_t s) {
    return (s << 1) + 0x0101010101010101;
}
/* Eight nibbles as bytes. */
V_INLINE uint64_t spread_nibbles(uint64_t v) {
    v = (v | v << 16) & 0x0000ffff0000ffff;
    v = (v | v << 8) & 0x00ff00ff00ff00ff;
    return (v | v << 4) & 0x0f0f0f0f0f0f0f0f;
}
/* The upper nibbles of eight bytes, `step` apart. */
V_INLINE vs scales_in_upper_nibbles(const uint8_t *p, const int step) {
    uint64_t s = 0;
#pragma GCC unroll 8
    for (int g = 0; g < 8; g++) s |= (uint64_t)(p[g * step] >> 4) << 8 * g;
    return scales_of(odd_bytes(s), odd_bytes(s));
}
V_INLINE vs iq2_xxs_scales(const uint8_t *b) {
    return scales_in_upper_nibbles(b + 9, 8);
}
V_INLINE vs iq3_xxs_scales(const uint8_t *b) {
    return scales_in_upper_nibbles(b + SR_IQ3_XXS_V + 3, 4);
}
V_INLINE vs scales_of_16(const uint8_t *p) {
    uint64_t q = u64_le(p);
    return scales_of(odd_bytes(q & 0x0f0f0f0f0f0f0f0f), odd_bytes(q >> 4 & 0x0f0f0f0f0f0f0f0f));
}
V_INLINE vs iq2_xs_scales(const uint8_t *b) {
    return scales_of_16(b + SR_IQ2_XS_SCALES);
}
V_INLINE vs iq2_s_scales(const uint8_t *b) {
    return scales_of_16(b + SR_IQ2_S_SCALES);
}
V_INLINE vs iq3_s_scales(const uint8_t *b) {
    uint64_t s = odd_bytes(spread_nibbles(u32_le(b + SR_IQ3_S_SCALES)));
    return scales_of(s, s);
}
V_INLINE vs iq1_s_scales(const uint8_t *b) {
    vs s = vs_and(vs_shift_right(vb_twice(b + SR_IQ1_S_QH), 11), vs_set1(14));
    return vs_sub(s, vs_set1(-1));
}
V_INLINE vs iq1_m_scales(const uint8_t *b) {
    const uint64_t q = u64_le(b + SR_IQ1_M_S), three = 0x0007000700070007;
    return scales_of(odd_bytes((q & three) | (q >> 6 & three) << 8),
                     odd_bytes((q >> 3 & three) | (q >> 9 & three) << 8));
}
V_INLINE vs iq4_xs_scales(const uint8_t *b) {
    uint64_t h = sr_u16_le(b + 2), s = spread_nibbles(u32_le(b + 4));
    h = (h | h << 24) & 0x000000ff000000ff;
    h = (h | h << 12) & 0x000f000f000f000f;
    s |= ((h | h << 6) & 0x0303030303030303) << 4;
    return vs_sub(scales_of(s, s), vs_set1(32));
}

V_INLINE vf iq1_m_factor(const uint8_t *b) {
    uint16_t half = (uint16_t)sr_iq1_m_d(b);
    return vf_f16((const uint8_t *)&half);
}

/* ---------------------------------------------------------------- dots: all sums of a block in int32, exact */

V_INLINE vi4 dot_signed(vi4 a, v_signed c, vs scale, v_x x, int k, const int T) {
    a.t0 = vi_dot_scaled(a.t0, c.u, vb_sign(x_code(x, 0, k), c.s), scale);
    if (T > 1) a.t1 = vi_dot_scaled(a.t1, c.u, vb_sign(x_code(x, 1, k), c.s), scale);
    if (T > 2) a.t2 = vi_dot_scaled(a.t2, c.u, vb_sign(x_code(x, 2, k), c.s), scale);
    if (T > 3) a.t3 = vi_dot_scaled(a.t3, c.u, vb_sign(x_code(x, 3, k), c.s), scale);
    return a;
}
V_INLINE vf4 signed_block(const uint8_t *b, v_x x, vf4 acc, const int T, signed_fn *codes, vs scale, vf d) {
    vi4 a = vi4_zero();
#pragma GCC unroll 8
    for (int i = 0; i < 8; i++) a = dot_signed(a, codes(b, i), vs_pick(scale, i), x, 32 * i, T);
    return add_scaled(acc, a, d, x, T);
}

V_INLINE vf4 iq2_xxs_block(const uint8_t *b, v_x x, vf4 acc, const int T) {
    return signed_block(b, x, acc, T, iq2_xxs_codes, iq2_xxs_scales(b), vf_mul(vf_f16(b), vf_set1(0.125f)));
}
V_INLINE vf4 iq2_xs_block(const uint8_t *b, v_x x, vf4 acc, const int T) {
    return signed_block(b, x, acc, T, iq2_xs_codes, iq2_xs_scales(b), vf_mul(vf_f16(b), vf_set1(0.125f)));
}
V_INLINE vf4 iq2_s_block(const uint8_t *b, v_x x, vf4 acc, const int T) {
    return signed_block(b, x, acc, T, iq2_s_codes, iq2_s_scales(b), vf_mul(vf_f16(b), vf_set1(0.125f)));
}
V_INLINE vf4 iq3_xxs_block(const uint8_t *b, v_x x, vf4 acc, const int T) {
    return signed_block(b, x, acc, T, iq3_xxs_codes, iq3_xxs_scales(b), vf_mul(vf_f16(b), vf_set1(0.25f)));
}
V_INLINE vf4 iq3_s_block(const uint8_t *b, v_x x, vf4 acc, const int T) {
    return signed_block(b, x, acc, T, iq3_s_codes, iq3_s_scales(b), vf_f16(b));
}
V_INLINE vf4 iq1_s_block(const uint8_t *b, v_x x, vf4 acc, const int T) {
    return signed_block(b, x, acc, T, iq1_s_codes, iq1_s_scales(b), vf_mul(vf_f16(b), vf_set1(0.125f)));
}
V_INLINE vf4 iq1_m_block(const uint8_t *b, v_x x, vf4 acc, const int T) {
    return signed_block(b, x, acc, T, iq1_m_codes, iq1_m_scales(b), vf_mul(iq1_m_factor(b), vf_set1(0.125f)));
}
V_INLINE vf4 iq4_xs_block(const uint8_t *b, v_x x, vf4 acc, const int T) {
    return signed_block(b, x, acc, T, iq4_xs_codes, iq4_xs_scales(b), vf_f16(b));
}

/* sum += scale * (code . x), 32 columns from k on */
V_INLINE vf signed_column(vf sum, v_signed c, vf scale, v_x x, int t, int k) {
    return vf_fma(vf_from_i32(vi_dot_u6(vi_zero(), c.u, vb_sign(x_code(x, t, k), c.s))), scale, sum);
}
/* Eight blocks of 32 columns with 16 bytes of nibbles at qs of each, values by a table, scales in f32. */
V_INLINE vf4 table_block(const uint8_t *b, v_x x, vf4 acc, const int T, const int bytes, const int qs,
                         const int8_t *values, vf scales) {
    const vb table = vb_twice(values);
    float d[8];
    vf4 sum = vf4_zero();
    vf_spill(d, scales);
#pragma GCC unroll 8
    for (int g = 0; g < 8; g++) {
        v_signed c = with_signs(vb_lookup(table, vb_nibbles(b + g * bytes + qs)));
        vf s = vf_set1(d[g]);
        sum.t0 = signed_column(sum.t0, c, s, x, 0, 32 * g);
        if (T > 1) sum.t1 = signed_column(sum.t1, c, s, x, 1, 32 * g);
        if (T > 2) sum.t2 = signed_column(sum.t2, c, s, x, 2, 32 * g);
        if (T > 3) sum.t3 = signed_column(sum.t3, c, s, x, 3, 32 * g);
    }
    return add_scaled_x(acc, sum, x, T);
}
V_INLINE vf mxfp4_scales(const uint8_t *b) {
    float d[8];
#pragma GCC unroll 8
    for (int g = 0; g < 8; g++) d[g] = sr_f32_from_bits(sr_mxfp4_scale_bits(b[g * SR_MXFP4_BYTES]));
    return vf_load(d);
}
V_INLINE vf4 iq4_nl_eight_blocks(const uint8_t *b, v_x x, vf4 acc, const int T) {
    return table_block(b, x, acc, T, SR_IQ4_NL_BYTES, SR_IQ4_NL_QS, sr_iq4_values, vf_gather_f16(b, SR_IQ4_NL_BYTES));
}
V_INLINE vf4 mxfp4_eight_blocks(const uint8_t *b, v_x x, vf4 acc, const int T) {
    return table_block(b, x, acc, T, SR_MXFP4_BYTES, SR_MXFP4_QS, sr_fp4_values, mxfp4_scales(b));
}

/* NVFP4: four blocks of 64, a scale to each half of 32 columns. */
V_INLINE vb nvfp4_nibbles(const uint8_t *b, int i) {
    return vb_nibbles_by_8(b + i / 2 * SR_NVFP4_BYTES + SR_NVFP4_QS + 16 * (i % 2));
}
/* The scales of 16 groups without the tensor's factor. */
V_INLINE void nvfp4_scales(const uint8_t *b, float d[16]) {
    uint16_t half[16];
#pragma GCC unroll 16
    for (int g = 0; g < 16; g++) half[g] = (uint16_t)sr_nvfp4_scale_bits(b[g / 4 * SR_NVFP4_BYTES + g % 4]);
    vf_spill(d, vf_mul(vf_from_f16(half), vf_set1(0x1p7f)));
    vf_spill(d + 8, vf_mul(vf_from_f16(half + 8), vf_set1(0x1p7f)));
}
V_INLINE vf4 nvfp4_four_blocks(const uint8_t *b, v_x x, vf4 acc, const int T) {
    const vb table = vb_twice(sr_fp4_values);
    float d[16];
    vf4 sum = vf4_zero();
    nvfp4_scales(b, d);
#pragma GCC unroll 8
    for (int i = 0; i < 8; i++) {
        v_signed c = with_signs(vb_lookup(table, nvfp4_nibbles(b, i)));
        vf s = vf_halves(d + 2 * i);
        sum.t0 = signed_column(sum.t0, c, s, x, 0, 32 * i);
        if (T > 1) sum.t1 = signed_column(sum.t1, c, s, x, 1, 32 * i);
        if (T > 2) sum.t2 = signed_column(sum.t2, c, s, x, 2, 32 * i);
        if (T > 3) sum.t3 = signed_column(sum.t3, c, s, x, 3, 32 * i);
    }
    return add_scaled_x(acc, sum, x, T);
}

/* ---------------------------------------------------------------- ternary types: codes with 1 added */

V_INLINE vb tq2_0_codes(const uint8_t *b, int i) {
    return vb_and(vb_shift(vb_load(b + 32 * (i / 4)), -2 * (i % 4)), vb_set1(3));
}
V_INLINE vb8 tq2_0_all(const uint8_t *b) {
    return (vb8){tq2_0_codes(b, 0), tq2_0_codes(b, 1), tq2_0_codes(b, 2), tq2_0_codes(b, 3),
                 tq2_0_codes(b, 4), tq2_0_codes(b, 5), tq2_0_codes(b, 6), tq2_0_codes(b, 7)};
}
/* 3 v modulo 256, and the integer part of 3 v / 256. */
V_INLINE vb times3(vb v) {
    return vb_add(v, vb_add(v, v));
}
V_INLINE vb digit(vb v) {
    return vb_sub(vb_set1(0), vb_add(vb_at_least(v, 86), vb_at_least(v, 171)));
}
V_INLINE vb8 tq1_0_all(const uint8_t *b) {
    static const uint8_t lanes[64] = {
        [0] = 255,  [1] = 255,  [2] = 255,  [3] = 255,  [20] = 255, [21] = 255, [22] = 255, [23] = 255,
        [40] = 255, [41] = 255, [42] = 255, [43] = 255, [60] = 255, [61] = 255, [62] = 255, [63] = 255};
    vb v0 = vb_load(b), v1 = times3(v0), v2 = times3(v1), v3 = times3(v2), v4 = times3(v3);
    vb w = vb_twice(b + 32), w0 = vb_halves0(w, times3(w)), w2 = times3(times3(w0)), w4 = times3(times3(w2));
    vb h0 = vb_four(b + 48), h1 = times3(h0), h2 = times3(h1), h3 = times3(h2); /* lane k of four: digit k */
    vb h = vb_or(vb_or(vb_and(h0, vb_twice(lanes)), vb_and(h1, vb_twice(lanes + 16))),
                 vb_or(vb_and(h2, vb_twice(lanes + 32)), vb_and(h3, vb_twice(lanes + 48))));
    return (vb8){digit(v0), digit(v1), digit(v2), digit(v3), digit(v4), digit(w0), digit(w2), digit(vb_halves0(w4, h))};
}
V_INLINE vi4 add_codes(vi4 a, vb c, v_x x, int k, const int T) {
    a.t0 = vi_dot_u6(a.t0, c, x_code(x, 0, k));
    if (T > 1) a.t1 = vi_dot_u6(a.t1, c, x_code(x, 1, k));
    if (T > 2) a.t2 = vi_dot_u6(a.t2, c, x_code(x, 2, k));
    if (T > 3) a.t3 = vi_dot_u6(a.t3, c, x_code(x, 3, k));
    return a;
}
V_INLINE vf4 ternary_block(vb8 c, const uint8_t *d, v_x x, vf4 acc, const int T) {
    vi4 a = dot_sums(vs_set1(-1), 0, x, T);
    a = add_codes(add_codes(a, c.c0, x, 0, T), c.c1, x, 32, T);
    a = add_codes(add_codes(a, c.c2, x, 64, T), c.c3, x, 96, T);
    a = add_codes(add_codes(a, c.c4, x, 128, T), c.c5, x, 160, T);
    a = add_codes(add_codes(a, c.c6, x, 192, T), c.c7, x, 224, T);
    return add_scaled(acc, a, vf_f16(d), x, T);
}
V_INLINE vf4 tq1_0_block(const uint8_t *b, v_x x, vf4 acc, const int T) {
    return ternary_block(tq1_0_all(b), b + SR_TQ1_0_D, x, acc, T);
}
V_INLINE vf4 tq2_0_block(const uint8_t *b, v_x x, vf4 acc, const int T) {
    return ternary_block(tq2_0_all(b), b + SR_TQ2_0_D, x, acc, T);
}

/* ---------------------------------------------------------------- the dots themselves */

static void dot_iq1_s(const sr_weight *w, int64_t row0, int n_rows, const sr_x8 *x, float *y, int64_t ld_y) {
    dot_rows(w, row0, n_rows, x, y, ld_y, 256, SR_IQ1_S_BYTES, iq1_s_block);
}
static void dot_iq1_m(const sr_weight *w, int64_t row0, int n_rows, const sr_x8 *x, float *y, int64_t ld_y) {
    dot_rows(w, row0, n_rows, x, y, ld_y, 256, SR_IQ1_M_BYTES, iq1_m_block);
}
static void dot_iq2_xxs(const sr_weight *w, int64_t row0, int n_rows, const sr_x8 *x, float *y, int64_t ld_y) {
    dot_rows(w, row0, n_rows, x, y, ld_y, 256, SR_IQ2_XXS_BYTES, iq2_xxs_block);
}
static void dot_iq2_xs(const sr_weight *w, int64_t row0, int n_rows, const sr_x8 *x, float *y, int64_t ld_y) {
    dot_rows(w, row0, n_rows, x, y, ld_y, 256, SR_IQ2_XS_BYTES, iq2_xs_block);
}
static void dot_iq2_s(const sr_weight *w, int64_t row0, int n_rows, const sr_x8 *x, float *y, int64_t ld_y) {
    dot_rows(w, row0, n_rows, x, y, ld_y, 256, SR_IQ2_S_BYTES, iq2_s_block);
}
static void dot_iq3_xxs(const sr_weight *w, int64_t row0, int n_rows, const sr_x8 *x, float *y, int64_t ld_y) {
    dot_rows(w, row0, n_rows, x, y, ld_y, 256, SR_IQ3_XXS_BYTES, iq3_xxs_block);
}
static void dot_iq3_s(const sr_weight *w, int64_t row0, int n_rows, const sr_x8 *x, float *y, int64_t ld_y) {
    dot_rows(w, row0, n_rows, x, y, ld_y, 256, SR_IQ3_S_BYTES, iq3_s_block);
}
static void dot_iq4_xs(const sr_weight *w, int64_t row0, int n_rows, const sr_x8 *x, float *y, int64_t ld_y) {
    dot_rows(w, row0, n_rows, x, y, ld_y, 256, SR_IQ4_XS_BYTES, iq4_xs_block);
}
static void dot_iq4_nl(const sr_weight *w, int64_t row0, int n_rows, const sr_x8 *x, float *y, int64_t ld_y) {
    dot_rows(w, row0, n_rows, x, y, ld_y, 32, SR_IQ4_NL_BYTES, iq4_nl_eight_blocks);
}
static void dot_tq1_0(const sr_weight *w, int64_t row0, int n_rows, const sr_x8 *x, float *y, int64_t ld_y) {
    dot_rows(w, row0, n_rows, x, y, ld_y, 256, SR_TQ1_0_BYTES, tq1_0_block);
}
static void dot_tq2_0(const sr_weight *w, int64_t row0, int n_rows, const sr_x8 *x, float *y, int64_t ld_y) {
    dot_rows(w, row0, n_rows, x, y, ld_y, 256, SR_TQ2_0_BYTES, tq2_0_block);
}
static void dot_mxfp4(const sr_weight *w, int64_t row0, int n_rows, const sr_x8 *x, float *y, int64_t ld_y) {
    dot_rows(w, row0, n_rows, x, y, ld_y, 32, SR_MXFP4_BYTES, mxfp4_eight_blocks);
}
static void dot_nvfp4(const sr_weight *w, int64_t row0, int n_rows, const sr_x8 *x, float *y, int64_t ld_y) {
    dot_rows(w, row0, n_rows, x, y, ld_y, 64, SR_NVFP4_BYTES, nvfp4_four_blocks);
    for (int i = 0; w->plane[1].data && i < n_rows; i++)
        for (int t = 0; t < x->T; t++) y[t * ld_y + i] *= sr_nvfp4_factor(w, row0 + i);
}

/* ---------------------------------------------------------------- panels
 * sr_panel_coarse to the bit: scale * |code| is exact, so each number that a group may hold is rounded once, in a
 * table, and signs follow. */

V_INLINE const uint8_t *iq_block_at(const sr_weight *w, int64_t row, int64_t k0, int bytes) {
    return w->plane[0].data + row * w->plane[0].stride + k0 / 256 * bytes;
}

/* A block whose |code| has three values; its bits 2-3, moved by `shift`, are 0, 1 or 2 in that order. d: the f16. */
V_INLINE void three_values(const uint8_t *b, signed_fn *codes, vs scales, const uint8_t *d, const int group,
                           const int v0, const int v1, const int v2, const int shift, int8_t *code, float *scale) {
    v_signed c[8] = {codes(b, 0), codes(b, 1), codes(b, 2), codes(b, 3),
                     codes(b, 4), codes(b, 5), codes(b, 6), codes(b, 7)};
    vf f = vf_mul(vf_f16(d), vf_set1(0.125f));
    vf s0 = vf_mul(f, vf_from_first8(scales)), s1 = vf_mul(f, vf_from_last8(scales));
    vb most = vb8_max((vb8){c[0].u, c[1].u, c[2].u, c[3].u, c[4].u, c[5].u, c[6].u, c[7].u});
    if (group == 32) most = vb_max_of_halves(most);
    vf largest = vf_abs(vf_mul(s0, vf_from_half0(most)));
    if (group == 16) largest = vf_max(largest, vf_abs(vf_mul(s1, vf_from_half1(most))));
    float inverse;
    if (!coarse_grid(d, d, vf_reduce_max(largest), &inverse, scale, code)) return;
    vf mul = vf_set1(inverse), m0 = vf_set1((float)v0), m1 = vf_set1((float)v1), m2 = vf_set1((float)v2);
    vb even = vb_pack4(vi_nearest(vf_mul(vf_mul(s0, m0), mul)), vi_nearest(vf_mul(vf_mul(s0, m1), mul)),
                       vi_nearest(vf_mul(vf_mul(s0, m2), mul)), vi_zero());
    vb odd = even;
    if (group == 16)
        odd = vb_pack4(vi_nearest(vf_mul(vf_mul(s1, m0), mul)), vi_nearest(vf_mul(vf_mul(s1, m1), mul)),
                       vi_nearest(vf_mul(vf_mul(s1, m2), mul)), vi_zero());
    const vb table[2] = {vb_halves0(even, odd), vb_halves1(even, odd)};
#pragma GCC unroll 8
    for (int i = 0; i < 8; i++) {
        vb at = vb_or_and(vb_set1(i % 4), vb_shift(c[i].u, shift), vb_set1(12));
        vb_store(code + 32 * i, vb_sign(vb_lookup(table[i / 4], at), c[i].s));
    }
}
static void panel_iq2_xxs(const sr_weight *w, int64_t row, int64_t k0, int64_t n, int8_t *code, float *scale,
                          float *min) {
    const uint8_t *b = iq_block_at(w, row, k0, SR_IQ2_XXS_BYTES);
    (void)min;
    for (; n > 0; n -= 256, b += SR_IQ2_XXS_BYTES, code += 256)
        three_values(b, iq2_xxs_codes, iq2_xxs_scales(b), b, 32, 8, 25, 43, -2, code, scale++);
}
static void panel_iq2_xs(const sr_weight *w, int64_t row, int64_t k0, int64_t n, int8_t *code, float *scale,
                         float *min) {
    const uint8_t *b = iq_block_at(w, row, k0, SR_IQ2_XS_BYTES);
    (void)min;
    for (; n > 0; n -= 256, b += SR_IQ2_XS_BYTES, code += 256)
        three_values(b, iq2_xs_codes, iq2_xs_scales(b), b, 16, 8, 25, 43, -2, code, scale++);
}
static void panel_iq2_s(const sr_weight *w, int64_t row, int64_t k0, int64_t n, int8_t *code, float *scale,
                        float *min) {
    const uint8_t *b = iq_block_at(w, row, k0, SR_IQ2_S_BYTES);
    (void)min;
    for (; n > 0; n -= 256, b += SR_IQ2_S_BYTES, code += 256)
        three_values(b, iq2_s_codes, iq2_s_scales(b), b, 16, 8, 25, 43, -2, code, scale++);
}
static void panel_iq1_s(const sr_weight *w, int64_t row, int64_t k0, int64_t n, int8_t *code, float *scale,
                        float *min) {
    const uint8_t *b = iq_block_at(w, row, k0, SR_IQ1_S_BYTES);
    (void)min;
    for (; n > 0; n -= 256, b += SR_IQ1_S_BYTES, code += 256)
        three_values(b, iq1_s_codes, iq1_s_scales(b), b, 32, 1, 7, 9, 0, code, scale++);
}
static void panel_iq1_m(const sr_weight *w, int64_t row, int64_t k0, int64_t n, int8_t *code, float *scale,
                        float *min) {
    const uint8_t *b = iq_block_at(w, row, k0, SR_IQ1_M_BYTES);
    (void)min;
    for (; n > 0; n -= 256, b += SR_IQ1_M_BYTES, code += 256) {
        uint16_t d = (uint16_t)sr_iq1_m_d(b);
        three_values(b, iq1_m_codes, iq1_m_scales(b), (const uint8_t *)&d, 16, 1, 7, 9, 0, code, scale++);
    }
}

/* A block of groups of 32 whose |code| has eight values, in `numbers`; those bits 0-2 of it moved by `shift`. */
V_INLINE void eight_values(const uint8_t *b, signed_fn *codes, vf s, vf numbers, const int shift, int8_t *code,
                           float *scale) {
    v_signed c[8] = {codes(b, 0), codes(b, 1), codes(b, 2), codes(b, 3),
                     codes(b, 4), codes(b, 5), codes(b, 6), codes(b, 7)};
    float inverse, d[8];
    vf largest = vf_mul(s, vb8_most((vb8){c[0].u, c[1].u, c[2].u, c[3].u, c[4].u, c[5].u, c[6].u, c[7].u}));
    if (!coarse_steps(largest_of(largest, largest), &inverse, code, scale)) return;
    vf mul = vf_set1(inverse);
    vf_spill(d, s);
#pragma GCC unroll 2
    for (int i = 0; i < 8; i += 4) {
        vb tables = vb_pack4(vi_nearest(vf_mul(vf_mul(vf_set1(d[i]), numbers), mul)),
                             vi_nearest(vf_mul(vf_mul(vf_set1(d[i + 1]), numbers), mul)),
                             vi_nearest(vf_mul(vf_mul(vf_set1(d[i + 2]), numbers), mul)),
                             vi_nearest(vf_mul(vf_mul(vf_set1(d[i + 3]), numbers), mul)));
        vb ab = vb_table_ab(tables), cd = vb_table_cd(tables);
#pragma GCC unroll 4
        for (int j = 0; j < 4; j++) {
            vb at = vb_or_and(vb_set1(j % 2 * 8), vb_shift(c[i + j].u, shift), vb_set1(7));
            vb_store(code + 32 * (i + j), vb_sign(vb_lookup(j < 2 ? ab : cd, at), c[i + j].s));
        }
    }
}
static void panel_iq3_xxs(const sr_weight *w, int64_t row, int64_t k0, int64_t n, int8_t *code, float *scale,
                          float *min) {
    static const float numbers[8] = {4, 12, 20, 28, 36, 44, 52, 62};
    const uint8_t *b = iq_block_at(w, row, k0, SR_IQ3_XXS_BYTES);
    (void)min;
    for (; n > 0; n -= 256, b += SR_IQ3_XXS_BYTES, code += 256) {
        vf d = vf_mul(vf_f16(b), vf_set1(0.25f));
        eight_values(b, iq3_xxs_codes, vf_mul(d, vf_from_first8(iq3_xxs_scales(b))), vf_load(numbers), -3, code,
                     scale++);
    }
}
static void panel_iq3_s(const sr_weight *w, int64_t row, int64_t k0, int64_t n, int8_t *code, float *scale,
                        float *min) {
    static const float numbers[8] = {1, 3, 5, 7, 9, 11, 13, 15};
    const uint8_t *b = iq_block_at(w, row, k0, SR_IQ3_S_BYTES);
    (void)min;
    for (; n > 0; n -= 256, b += SR_IQ3_S_BYTES, code += 256)
        eight_values(b, iq3_s_codes, vf_mul(vf_f16(b), vf_from_first8(iq3_s_scales(b))), vf_load(numbers), -1, code,
                     scale++);
}

/* 256 columns of nibbles, 16 bytes for every 32 from qs on; 16 numbers by table. */
V_INLINE void sixteen_values(const uint8_t *qs, const int step, vf s, const int8_t *values, int8_t *code,
                             float *scale) {
    static const float zero[8] = {0};
    vb8 q = {vb_nibbles(qs),
             vb_nibbles(qs + step),
             vb_nibbles(qs + 2 * step),
             vb_nibbles(qs + 3 * step),
             vb_nibbles(qs + 4 * step),
             vb_nibbles(qs + 5 * step),
             vb_nibbles(qs + 6 * step),
             vb_nibbles(qs + 7 * step)};
    vf largest = vf_mul(s, vb8_most(vb8_lookup(vb_abs(vb_twice(values)), q)));
    float d[8], numbers[16];
    vf_spill(d, s);
    for (int i = 0; i < 16; i++) numbers[i] = values[i];
    coarse_by_table(q, numbers, d, zero, largest_of(largest, largest), code, scale);
}
static void panel_iq4_xs(const sr_weight *w, int64_t row, int64_t k0, int64_t n, int8_t *code, float *scale,
                         float *min) {
    const uint8_t *b = iq_block_at(w, row, k0, SR_IQ4_XS_BYTES);
    const vs values = vs_from_i8(sr_iq4_values), first = vb_halves0(values, values), last = vb_halves1(values, values);
    (void)min;
    for (; n > 0; n -= 256, b += SR_IQ4_XS_BYTES, code += 256) {
        const vf s = vf_from_first8(iq4_xs_scales(b));
        const float most = vf_reduce_max(vf_abs(s));
        const vs part = vs_both_from_i32(vi_nearest(vf_mul(s, vf_set1(most > 0 ? 32767 / most : 0))));
        *scale++ = v_f16(b) * most;
#pragma GCC unroll 8
        for (int i = 0; i < 8; i++) {
            const vs a = vs_pick(part, i);
            const vb table = vb_pack(vs_mul_high(a, first), vs_mul_high(a, last));
            vb_store(code + 32 * i, vb_lookup(table, vb_nibbles(b + SR_IQ4_XS_QS + 16 * i)));
        }
    }
}
static void panel_iq4_nl(const sr_weight *w, int64_t row, int64_t k0, int64_t n, int8_t *code, float *scale,
                         float *min) {
    const uint8_t *b = iq_block_at(w, row, k0, 8 * SR_IQ4_NL_BYTES);
    for (; n >= 256; n -= 256, k0 += 256, b += 8 * SR_IQ4_NL_BYTES, code += 256)
        sixteen_values(b + SR_IQ4_NL_QS, SR_IQ4_NL_BYTES, vf_gather_f16(b, SR_IQ4_NL_BYTES), sr_iq4_values, code,
                       scale++);
    if (n) sr_panel_coarse(w, row, k0, n, code, scale, min);
}
static void panel_mxfp4(const sr_weight *w, int64_t row, int64_t k0, int64_t n, int8_t *code, float *scale,
                        float *min) {
    const uint8_t *b = iq_block_at(w, row, k0, 8 * SR_MXFP4_BYTES);
    for (; n >= 256; n -= 256, k0 += 256, b += 8 * SR_MXFP4_BYTES, code += 256)
        sixteen_values(b + SR_MXFP4_QS, SR_MXFP4_BYTES, mxfp4_scales(b), sr_fp4_values, code, scale++);
    if (n) sr_panel_coarse(w, row, k0, n, code, scale, min);
}

static void panel_nvfp4(const sr_weight *w, int64_t row, int64_t k0, int64_t n, int8_t *code, float *scale,
                        float *min) {
    const uint8_t *b = iq_block_at(w, row, k0, 4 * SR_NVFP4_BYTES);
    const vf factor = vf_set1(sr_nvfp4_factor(w, row));
    for (; n >= 256; n -= 256, k0 += 256, b += 4 * SR_NVFP4_BYTES, code += 256) {
        float d[16];
        vb q[8];
        nvfp4_scales(b, d);
        vf_spill(d, vf_mul(vf_load(d), factor));
        vf_spill(d + 8, vf_mul(vf_load(d + 8), factor));
        for (int i = 0; i < 8; i++) q[i] = nvfp4_nibbles(b, i);
        coarse_e2m1_by_16(q, d, code, scale++);
    }
    if (n) sr_panel_coarse(w, row, k0, n, code, scale, min);
}

V_INLINE void ternary_panel(vb8 c, const uint8_t *d, int8_t *code, float *scale) {
    const vb one = vb_set1(1), all[8] = {c.c0, c.c1, c.c2, c.c3, c.c4, c.c5, c.c6, c.c7};
    *scale = v_f16(d);
#pragma GCC unroll 8
    for (int i = 0; i < 8; i++) vb_store(code + 32 * i, vb_sub(all[i], one));
}
static void panel_tq1_0(const sr_weight *w, int64_t row, int64_t k0, int64_t n, int8_t *code, float *scale,
                        float *min) {
    const uint8_t *b = iq_block_at(w, row, k0, SR_TQ1_0_BYTES);
    (void)min;
    for (; n > 0; n -= 256, b += SR_TQ1_0_BYTES, code += 256)
        ternary_panel(tq1_0_all(b), b + SR_TQ1_0_D, code, scale++);
}
static void panel_tq2_0(const sr_weight *w, int64_t row, int64_t k0, int64_t n, int8_t *code, float *scale,
                        float *min) {
    const uint8_t *b = iq_block_at(w, row, k0, SR_TQ2_0_BYTES);
    (void)min;
    for (; n > 0; n -= 256, b += SR_TQ2_0_BYTES, code += 256)
        ternary_panel(tq2_0_all(b), b + SR_TQ2_0_D, code, scale++);
}
