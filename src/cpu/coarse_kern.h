/* Coarse panels of formats whose codes have 4 bits at most: the numbers of a group are rounded once, in a table of 16.
 * The result is sr_coarse_block's to the bit: its products and differences are made here too, and the largest number of
 * a group is that of one of its codes. */

/* |a| and |b|, the larger; NaN where one of them is not finite. */
V_INLINE vf largest_of(vf a, vf b) {
    vf odd = vf_add(vf_sub(a, a), vf_sub(b, b));
    return vf_add(vf_max(vf_abs(a), vf_abs(b)), odd);
}

/* 127 / max, or 0 where that is not finite, and the scale. False: something is not finite, all is written. */
V_INLINE bool coarse_steps(vf largest, float *inverse, int8_t *code, float *scale) {
    const float max = vf_reduce_max(largest);
    if (vf_sum(vf_sub(largest, largest)) != 0) {
        *scale = NAN;
        memset(code, 0, 256);
        return false;
    }
    *inverse = max > 0 ? 127 / max : 0;
    if (!isfinite(*inverse)) *inverse = 0;
    *scale = max / 127;
    return true;
}

#ifndef V_WIDE_TABLES
/* The largest byte of each of eight vectors, and the least, no byte being above `top`. */
V_INLINE vf vb8_most(vb8 v) {
    return vf_from_half0(vb_max_of_halves(vb8_max(v)));
}
V_INLINE vf vb8_least(vb8 v, const int top) {
    return vf_sub(vf_set1((float)top), vb8_most(vb8_xor(v, vb_set1(top))));
}
/* code[32 i + j] = (s[i] * numbers[byte j of vector i] - lo[i]) * by, to the nearest integer. */
V_INLINE void map_codes(vb8 q, const float *numbers, const float *s, const float *lo, float by, int8_t *code) {
    const vf n0 = vf_load(numbers), n8 = vf_load(numbers + 8), mul = vf_set1(by);
    const vb c[8] = {q.c0, q.c1, q.c2, q.c3, q.c4, q.c5, q.c6, q.c7};
#pragma GCC unroll 4
    for (int i = 0; i < 8; i += 2) {
        vf s0 = vf_set1(s[i]), s1 = vf_set1(s[i + 1]), lo0 = vf_set1(lo[i]), lo1 = vf_set1(lo[i + 1]);
        vb tables = vb_pack4(
            vi_nearest(vf_mul(vf_sub(vf_mul(s0, n0), lo0), mul)), vi_nearest(vf_mul(vf_sub(vf_mul(s0, n8), lo0), mul)),
            vi_nearest(vf_mul(vf_sub(vf_mul(s1, n0), lo1), mul)), vi_nearest(vf_mul(vf_sub(vf_mul(s1, n8), lo1), mul)));
        vb_store(code + 32 * i, vb_lookup(vb_table_ab(tables), c[i]));
        vb_store(code + 32 * i + 32, vb_lookup(vb_table_cd(tables), c[i + 1]));
    }
}
#endif

/* 256 columns: q holds 8 groups of codes 0..15, which stand for numbers; largest[8] of each group. */
V_INLINE void coarse_by_table(vb8 q, const float *numbers, const float *s, const float *lo, vf largest, int8_t *code,
                              float *scale) {
    float inverse;
    if (coarse_steps(largest, &inverse, code, scale)) map_codes(q, numbers, s, lo, inverse, code);
}

static const float numbers_0_15[16] = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};
/* w = scale * code - min, codes 0 .. top: it grows or falls with the code, so that the largest is that of the least or
 * the greatest one. */
V_INLINE void affine_panel(vb8 c, const int top, const float *s, const float *lo, int8_t *code, float *scale) {
    const vf sv = vf_load(s), lov = vf_load(lo);
    const vf a = vf_sub(vf_mul(sv, vb8_most(c)), lov), b = vf_sub(vf_mul(sv, vb8_least(c, top)), lov);
    coarse_by_table(c, numbers_0_15, s, lo, largest_of(a, b), code, scale);
}

/* 256 columns of E2M1 nibbles in groups of 16: q[i] has those of groups 2 i and 2 i + 1, d their scales (of twice the
 * values). A half has the eight numbers of one group, and the signs come from bit 3. */
V_INLINE void coarse_e2m1_by_16(const vb *q, const float *d, int8_t *code, float *scale) {
    static const float numbers[8] = {0, 1, 2, 3, 4, 6, 8, 12};
    static const int8_t sizes[16] = {0, 1, 2, 3, 4, 6, 8, 12, 0, 1, 2, 3, 4, 6, 8, 12};
    static const int8_t signs[16] = {1, 1, 1, 1, 1, 1, 1, 1, -1, -1, -1, -1, -1, -1, -1, -1};
    const vf m = vf_load(numbers);
    const vb eight = vb_halves0(vb_set1(0), vb_set1(8));
    vb most = vb8_max(vb8_lookup(vb_twice(sizes), (vb8){q[0], q[1], q[2], q[3], q[4], q[5], q[6], q[7]}));
    float even[8], odd[8], inverse;
    for (int i = 0; i < 8; i++) even[i] = d[2 * i], odd[i] = d[2 * i + 1];
    vf largest = largest_of(vf_mul(vf_load(even), vf_from_half0(most)), vf_mul(vf_load(odd), vf_from_half1(most)));
    if (!coarse_steps(largest, &inverse, code, scale)) return;
    const vf mul = vf_set1(inverse);
#pragma GCC unroll 4
    for (int i = 0; i < 8; i += 2) {
        vb tables = vb_pack4(vi_nearest(vf_mul(vf_mul(vf_set1(d[2 * i]), m), mul)),
                             vi_nearest(vf_mul(vf_mul(vf_set1(d[2 * i + 1]), m), mul)),
                             vi_nearest(vf_mul(vf_mul(vf_set1(d[2 * i + 2]), m), mul)),
                             vi_nearest(vf_mul(vf_mul(vf_set1(d[2 * i + 3]), m), mul)));
        vb a = vb_lookup(vb_table_ab(tables), vb_or_and(eight, q[i], vb_set1(7)));
        vb c = vb_lookup(vb_table_cd(tables), vb_or_and(eight, q[i + 1], vb_set1(7)));
        vb_store(code + 32 * i, vb_sign(a, vb_lookup(vb_twice(signs), q[i])));
        vb_store(code + 32 * i + 32, vb_sign(c, vb_lookup(vb_twice(signs), q[i + 1])));
    }
}
