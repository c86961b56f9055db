/* Fast panels and dots of GGUF's K types (gguf_k.c), written once in the vocabulary of cpu/simd_x86.h. Their blocks are
 * those of x: 256 columns. */

/* ---------------------------------------------------------------- codes of columns 32 i .. 32 i + 31, unsigned
 * Q3_K and Q6_K with the 4 and 32 that are subtracted later. */

V_INLINE vb q2_k_codes(const uint8_t *b, int i) {
    return vb_and(vb_shift(vb_load(b + SR_Q2_K_QS + 32 * (i / 4)), -2 * (i % 4)), vb_set1(3));
}
V_INLINE vb q3_k_codes(const uint8_t *b, int i) {
    vb low = vb_and(vb_shift(vb_load(b + SR_Q3_K_QS + 32 * (i / 4)), -2 * (i % 4)), vb_set1(3));
    return vb_or_and(low, vb_shift(vb_load(b), 2 - i), vb_set1(4));
}
V_INLINE vb nibbles_at(const uint8_t *qs, int high) {
    return high ? vb_high4(vb_load(qs)) : vb_low4(vb_load(qs));
}
V_INLINE vb q4_k_codes(const uint8_t *b, int i) {
    return nibbles_at(b + SR_Q4_K_QS + 32 * (i / 2), i % 2);
}
V_INLINE vb q5_k_codes(const uint8_t *b, int i) {
    vb low = nibbles_at(b + SR_Q5_K_QS + 32 * (i / 2), i % 2);
    return vb_or_and(low, vb_shift(vb_load(b + SR_Q5_K_QH), 4 - i), vb_set1(16));
}
V_INLINE vb q6_k_codes(const uint8_t *b, int i) {
    vb low = nibbles_at(b + 64 * (i / 4) + 32 * (i % 2), i % 4 / 2);
    return vb_or_and(low, vb_shift(vb_load(b + SR_Q6_K_QH + 32 * (i / 4)), 4 - 2 * (i % 4)), vb_set1(0x30));
}

/* ---------------------------------------------------------------- integer scales of the groups */

V_INLINE uint32_t u32_le(const uint8_t *p) {
    uint32_t v;
    memcpy(&v, p, 4);
    return v;
}
/* Q4_K, Q5_K: eight scales, then eight mins. */
V_INLINE vs k4_scales(const uint8_t *b) {
    uint32_t p = u32_le(b + SR_K4_SCALES), q = u32_le(b + SR_K4_SCALES + 4), r = u32_le(b + SR_K4_SCALES + 8);
    return vs_from_u32(p & 0x3f3f3f3f, (r & 0x0f0f0f0f) | (p >> 2 & 0x30303030), q & 0x3f3f3f3f,
                       (r >> 4 & 0x0f0f0f0f) | (q >> 2 & 0x30303030));
}
V_INLINE vs q3_k_scales(const uint8_t *b) {
    uint32_t p = u32_le(b + SR_Q3_K_SCALES), q = u32_le(b + SR_Q3_K_SCALES + 4), r = u32_le(b + SR_Q3_K_SCALES + 8);
    vs v = vs_from_u32((p & 0x0f0f0f0f) | (r << 4 & 0x30303030), (q & 0x0f0f0f0f) | (r << 2 & 0x30303030),
                       (p >> 4 & 0x0f0f0f0f) | (r & 0x30303030), (q >> 4 & 0x0f0f0f0f) | (r >> 2 & 0x30303030));
    return vs_sub(v, vs_set1(32));
}
V_INLINE vs q2_k_scales(const uint8_t *b) {
    return vs_and(vs_from_u8(b), vs_set1(15));
}
V_INLINE vs q2_k_mins(const uint8_t *b) {
    return vs_shift_right(vs_from_u8(b), 4);
}

/* ---------------------------------------------------------------- dots: all sums of a block in int32, exact */

V_INLINE vf4 q2_k_block(const uint8_t *b, v_x x, vf4 acc, const int T) {
    vi4 a = dot_block(b, q2_k_codes, vs_pairs(q2_k_scales(b)), vi4_zero(), x, T);
    acc = add_scaled(acc, a, vf_f16(b + SR_Q2_K_D), x, T);
    return add_scaled(acc, dot_sums(q2_k_mins(b), 0, x, T), vf_neg(vf_f16(b + SR_Q2_K_DMIN)), x, T);
}
V_INLINE vf4 q3_k_block(const uint8_t *b, v_x x, vf4 acc, const int T) {
    vs s = q3_k_scales(b);
    vi4 a = dot_block(b, q3_k_codes, vs_pairs(s), vi4_neg(dot_sums(s, 2, x, T)), x, T);
    return add_scaled(acc, a, vf_f16(b + SR_Q3_K_D), x, T);
}
V_INLINE vf4 q4_k_block(const uint8_t *b, v_x x, vf4 acc, const int T) {
    vs s = k4_scales(b);
    vi4 a = dot_block(b, q4_k_codes, vs_first8(s), vi4_zero(), x, T);
    acc = add_scaled(acc, a, vf_f16(b), x, T);
    return add_scaled(acc, dot_sums(vs_last8_doubled(s), 0, x, T), vf_neg(vf_f16(b + SR_K4_DMIN)), x, T);
}
V_INLINE vf4 q5_k_block(const uint8_t *b, v_x x, vf4 acc, const int T) {
    vs s = k4_scales(b);
    vi4 a = dot_block(b, q5_k_codes, vs_first8(s), vi4_zero(), x, T);
    acc = add_scaled(acc, a, vf_f16(b), x, T);
    return add_scaled(acc, dot_sums(vs_last8_doubled(s), 0, x, T), vf_neg(vf_f16(b + SR_K4_DMIN)), x, T);
}
V_INLINE vf4 q6_k_block(const uint8_t *b, v_x x, vf4 acc, const int T) {
    vs s = vs_from_i8(b + SR_Q6_K_SCALES);
    vi4 a = dot_block(b, q6_k_codes, vs_pairs(s), vi4_neg(dot_sums(s, 5, x, T)), x, T);
    return add_scaled(acc, a, vf_f16(b + SR_Q6_K_D), x, T);
}

static void dot_q2_k(const sr_weight *w, int64_t row0, int n_rows, const sr_x8 *x, float *y, int64_t ld_y) {
    dot_rows(w, row0, n_rows, x, y, ld_y, 256, SR_Q2_K_BYTES, q2_k_block);
}
static void dot_q3_k(const sr_weight *w, int64_t row0, int n_rows, const sr_x8 *x, float *y, int64_t ld_y) {
    dot_rows(w, row0, n_rows, x, y, ld_y, 256, SR_Q3_K_BYTES, q3_k_block);
}
static void dot_q4_k(const sr_weight *w, int64_t row0, int n_rows, const sr_x8 *x, float *y, int64_t ld_y) {
    dot_rows(w, row0, n_rows, x, y, ld_y, 256, SR_Q4_K_BYTES, q4_k_block);
}
static void dot_q5_k(const sr_weight *w, int64_t row0, int n_rows, const sr_x8 *x, float *y, int64_t ld_y) {
    dot_rows(w, row0, n_rows, x, y, ld_y, 256, SR_Q5_K_BYTES, q5_k_block);
}
static void dot_q6_k(const sr_weight *w, int64_t row0, int n_rows, const sr_x8 *x, float *y, int64_t ld_y) {
    dot_rows(w, row0, n_rows, x, y, ld_y, 256, SR_Q6_K_BYTES, q6_k_block);
}

/* ---------------------------------------------------------------- panels */

V_INLINE const uint8_t *k_block_at(const sr_weight *w, int64_t row, int64_t k0, int bytes) {
    return w->plane[0].data + row * w->plane[0].stride + k0 / 256 * bytes;
}

V_INLINE void k4_unpack(const uint8_t *b, int64_t n, int8_t *code, float *scale, float *min, const int bytes,
                        vb (*codes)(const uint8_t *b, int i)) {
    for (int64_t k = 0; k < n; k += 256, b += bytes, code += 256, scale += 8, min += 8) {
        vs s = k4_scales(b);
        vf_store(scale, vf_mul(vf_f16(b), vf_from_first8(s)));
        vf_store(min, vf_mul(vf_f16(b + SR_K4_DMIN), vf_from_last8(s)));
#pragma GCC unroll 8
        for (int i = 0; i < 8; i++) vb_store(code + 32 * i, codes(b, i));
    }
}
static void unpack_q4_k(const sr_weight *w, int64_t row, int64_t k0, int64_t n, int8_t *code, float *scale,
                        float *min) {
    k4_unpack(k_block_at(w, row, k0, SR_Q4_K_BYTES), n, code, scale, min, SR_Q4_K_BYTES, q4_k_codes);
}
static void panel_q5_k(const sr_weight *w, int64_t row, int64_t k0, int64_t n, int8_t *code, float *scale, float *min) {
    k4_unpack(k_block_at(w, row, k0, SR_Q5_K_BYTES), n, code, scale, min, SR_Q5_K_BYTES, q5_k_codes);
}

static void panel_q6_k(const sr_weight *w, int64_t row, int64_t k0, int64_t n, int8_t *code, float *scale, float *min) {
    const uint8_t *b = k_block_at(w, row, k0, SR_Q6_K_BYTES);
    (void)min;
    for (int64_t k = 0; k < n; k += 256, b += SR_Q6_K_BYTES, code += 256, scale += 16) {
        vs s = vs_from_i8(b + SR_Q6_K_SCALES);
        vf d = vf_f16(b + SR_Q6_K_D);
        vf_store(scale, vf_mul(d, vf_from_first8(s)));
        vf_store(scale + 8, vf_mul(d, vf_from_last8(s)));
#pragma GCC unroll 8
        for (int i = 0; i < 8; i++) vb_store(code + 32 * i, vb_sub(q6_k_codes(b, i), vb_set1(32)));
    }
}

/* -(scale * code) of a group is one of eight numbers: a table. */
static void panel_q3_k(const sr_weight *w, int64_t row, int64_t k0, int64_t n, int8_t *code, float *scale, float *min) {
    const uint8_t *b = k_block_at(w, row, k0, SR_Q3_K_BYTES);
    static const int16_t minus_code[16] = {4, 3, 2, 1, 0, -1, -2, -3, 4, 3, 2, 1, 0, -1, -2, -3};
    (void)min;
    for (int64_t k = 0; k < n; k += 256, b += SR_Q3_K_BYTES, code += 256) {
        vs s = vs_pairs(q3_k_scales(b)), c = vs_load(minus_code);
        *scale++ = -v_f16(b + SR_Q3_K_D);
#pragma GCC unroll 8
        for (int i = 0; i < 8; i++) {
            vs v = vs_mul(vs_pick(s, i), c);
            vb_store(code + 32 * i, vb_lookup(vb_pack(v, v), q3_k_codes(b, i)));
        }
    }
}

/* The 8-bit grid: 127 / max, or 0 when that is not finite; *scale = max / 127. When a factor is not finite then no
 * number of the block is: NaN and codes of zero. */
V_INLINE bool coarse_grid(const uint8_t *d, const uint8_t *dmin, float max, float *inverse, float *scale,
                          int8_t *code) {
    if ((d[1] & 0x7c) == 0x7c || (dmin[1] & 0x7c) == 0x7c) {
        *scale = NAN;
        memset(code, 0, 256);
        return false;
    }
    *inverse = max > 0 ? 127 / max : 0;
    *scale = max / 127;
    return true;
}

/* A group's numbers are (step * code - from) / 256: the first eight, and the last. */
static void panel_q4_k(const sr_weight *w, int64_t row, int64_t k0, int64_t n, int8_t *code, float *scale, float *min) {
    static const int16_t codes[2][16] = {{0, 1, 2, 3, 4, 5, 6, 7, 0, 1, 2, 3, 4, 5, 6, 7},
                                         {8, 9, 10, 11, 12, 13, 14, 15, 8, 9, 10, 11, 12, 13, 14, 15}};
    const uint8_t *b = k_block_at(w, row, k0, SR_Q4_K_BYTES);
    const vs first = vs_load(codes[0]), last = vs_load(codes[1]);
    (void)min;
    for (int64_t k = 0; k < n; k += 256, b += SR_Q4_K_BYTES, code += 256, scale++) {
        const vs k4 = k4_scales(b);
        const vf s = vf_mul(vf_f16(b), vf_from_first8(k4)), lo = vf_mul(vf_f16(b + SR_K4_DMIN), vf_from_last8(k4));
        const vf most = vf_max(vf_abs(vf_fms(s, vf_set1(15), lo)), vf_abs(lo));
        float inverse;
        if (!coarse_grid(b, b + SR_K4_DMIN, vf_reduce_max(most), &inverse, scale, code)) continue;
        const vf by = vf_set1(256 * inverse);
        const vs step = vs_both_from_i32(vi_nearest(vf_mul(s, by)));
        const vs from = vs_sub(vs_both_from_i32(vi_nearest(vf_mul(lo, by))), vs_set1(128));
#pragma GCC unroll 8
        for (int i = 0; i < 8; i++) {
            const vs a = vs_pick(step, i), c = vs_pick(from, i);
            const vb table = vb_high_bytes(vs_sub(vs_mul(a, first), c), vs_sub(vs_mul(a, last), c));
            vb_store(code + 32 * i, vb_lookup(table, q4_k_codes(b, i)));
        }
    }
}

/* The four numbers of all groups: byte 4 * code + j of half h of `even` belongs to group 2 * (4 * h + j). */
V_INLINE vb q2_k_table(vf s, vf lo, vf mul) {
    return vb_pack4(vi_nearest(vf_mul(vf_sub(vf_set1(0), lo), mul)), vi_nearest(vf_mul(vf_sub(s, lo), mul)),
                    vi_nearest(vf_mul(vf_fms(s, vf_set1(2), lo), mul)),
                    vi_nearest(vf_mul(vf_fms(s, vf_set1(3), lo), mul)));
}
static void panel_q2_k(const sr_weight *w, int64_t row, int64_t k0, int64_t n, int8_t *code, float *scale, float *min) {
    const uint8_t *b = k_block_at(w, row, k0, SR_Q2_K_BYTES);
    (void)min;
    for (int64_t k = 0; k < n; k += 256, b += SR_Q2_K_BYTES, code += 256, scale++) {
        vs sc = vs_pairs(q2_k_scales(b)), mn = vs_pairs(q2_k_mins(b));
        vf d = vf_f16(b + SR_Q2_K_D), dmin = vf_f16(b + SR_Q2_K_DMIN);
        vf s0 = vf_mul(d, vf_from_first8(sc)), s1 = vf_mul(d, vf_from_last8(sc));
        vf lo0 = vf_mul(dmin, vf_from_first8(mn)), lo1 = vf_mul(dmin, vf_from_last8(mn));
        const vf three = vf_set1(3);
        vf max0 = vf_max(vf_abs(vf_fms(s0, three, lo0)), vf_abs(lo0));
        vf max1 = vf_max(vf_abs(vf_fms(s1, three, lo1)), vf_abs(lo1));
        float inverse;
        if (!coarse_grid(b + SR_Q2_K_D, b + SR_Q2_K_DMIN, vf_reduce_max(vf_max(max0, max1)), &inverse, scale, code))
            continue;
        vb even = q2_k_table(s0, lo0, vf_set1(inverse)), odd = q2_k_table(s1, lo1, vf_set1(inverse));
        vb table[2] = {vb_halves0(even, odd), vb_halves1(even, odd)};
#pragma GCC unroll 8
        for (int i = 0; i < 8; i++) {
            vb q = vb_shift(vb_load(b + SR_Q2_K_QS + 32 * (i / 4)), 2 - 2 * (i % 4));
            vb_store(code + 32 * i, vb_lookup(table[i / 4], vb_or_and(vb_set1(i % 4), q, vb_set1(12))));
        }
    }
}
