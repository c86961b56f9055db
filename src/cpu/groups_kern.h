/* Dots of formats whose codes lie row by row in the first plane, 32 columns in `bytes` bytes, with scales (and mins)
 * that 32 columns share wherever they lie: w = scale * code - min. K is a multiple of 32. */

enum {
    RUN = 64,         /* groups of 32 columns whose scales are fetched at a time */
    OVERREAD = 16,    /* bytes past a block that `codes` may look at */
    MOST_ROW = 8 * 32 /* bytes of 256 columns */
};

/* Scales and mins of n groups of 32 columns from column k0 of a row on. */
typedef void groups_fn(const sr_weight *w, int64_t row, int64_t k0, int n, float *scale, float *min);
/* The sums of scale[g] * (code . x) - min[g] * (sum of x) over the 8 groups of one block of 256 columns at b. */
typedef vf4 groups_block_fn(const uint8_t *b, const float *scale, const float *min, const void *aux, v_x x,
                            const int T);

/* 8 sums of 32 columns of x. */
V_INLINE vf x_sums32(v_x x, int t) {
    return vf_from_i32(vi_madd(x_sum(x, t), vs_set1(1)));
}
V_INLINE vf4 sub_mins(vf4 sum, vf m, v_x x, const int T) {
    sum.t0 = vf_fnma(m, x_sums32(x, 0), sum.t0);
    if (T > 1) sum.t1 = vf_fnma(m, x_sums32(x, 1), sum.t1);
    if (T > 2) sum.t2 = vf_fnma(m, x_sums32(x, 2), sum.t2);
    if (T > 3) sum.t3 = vf_fnma(m, x_sums32(x, 3), sum.t3);
    return sum;
}
/* sum += scale * (code . x), 32 columns from k on; unsigned codes of at most 7 bits */
V_INLINE vf4 add_group(vf4 sum, vb code, vf scale, v_x x, int k, const int T) {
    sum.t0 = vf_fma(vf_from_i32(vi_dot_u6(vi_zero(), code, x_code(x, 0, k))), scale, sum.t0);
    if (T > 1) sum.t1 = vf_fma(vf_from_i32(vi_dot_u6(vi_zero(), code, x_code(x, 1, k))), scale, sum.t1);
    if (T > 2) sum.t2 = vf_fma(vf_from_i32(vi_dot_u6(vi_zero(), code, x_code(x, 2, k))), scale, sum.t2);
    if (T > 3) sum.t3 = vf_fma(vf_from_i32(vi_dot_u6(vi_zero(), code, x_code(x, 3, k))), scale, sum.t3);
    return sum;
}
V_INLINE vf4 add_group_i8(vf4 sum, vb code, vf scale, v_x x, int k, const int T) {
    sum.t0 = vf_fma(vf_from_i32(vi_dot_i8(code, x_code(x, 0, k))), scale, sum.t0);
    if (T > 1) sum.t1 = vf_fma(vf_from_i32(vi_dot_i8(code, x_code(x, 1, k))), scale, sum.t1);
    if (T > 2) sum.t2 = vf_fma(vf_from_i32(vi_dot_i8(code, x_code(x, 2, k))), scale, sum.t2);
    if (T > 3) sum.t3 = vf_fma(vf_from_i32(vi_dot_i8(code, x_code(x, 3, k))), scale, sum.t3);
    return sum;
}

V_INLINE void dot_groups_t(const sr_weight *w, int64_t row0, int n_rows, const sr_x8 *x, float *y, int64_t ld_y,
                           const int T, const int bytes, groups_fn *groups, groups_block_fn *block) {
    const uint8_t *end = w->plane[0].data + w->plane[0].bytes;
    const int64_t n_groups = w->K / 32;
    for (int i = 0; i < n_rows; i++) {
        const uint8_t *b = w->plane[0].data + (row0 + i) * w->plane[0].stride;
        v_x at = {x->code, x->sum, x->scale, x->n_block};
        vf4 acc = vf4_zero();
        for (int64_t g0 = 0; g0 < n_groups; g0 += RUN) {
            int n = n_groups - g0 < RUN ? (int)(n_groups - g0) : RUN;
            float scale[RUN], min[RUN];
            groups(w, row0 + i, 32 * g0, n, scale, min);
            for (int g = n; g % 8; g++) scale[g] = min[g] = 0;
            for (int g = 0; g < n; g += 8, b += 8 * bytes) {
                const uint8_t *p = b;
                uint8_t tail[MOST_ROW + OVERREAD];
                if (n - g < 8 || end - b < 8 * bytes + OVERREAD) { /* what lies behind is not ours, or not there */
                    memset(tail, 0, sizeof tail);
                    memcpy(tail, b, (size_t)((n - g < 8 ? n - g : 8) * bytes));
                    p = tail;
                }
#pragma GCC unroll 4
                for (int line = 0; line < 8 * bytes; line += 64) __builtin_prefetch(b + AHEAD + line);
                acc = add_scaled_x(acc, block(p, scale + g, min + g, w->aux, at, T), at, T);
                at.code += SR_KC, at.sum += SR_KC / SR_SUM, at.scale++;
            }
        }
        y[i] = vf_sum(acc.t0);
        if (T > 1) y[ld_y + i] = vf_sum(acc.t1);
        if (T > 2) y[2 * ld_y + i] = vf_sum(acc.t2);
        if (T > 3) y[3 * ld_y + i] = vf_sum(acc.t3);
    }
}
V_INLINE void dot_groups(const sr_weight *w, int64_t row0, int n_rows, const sr_x8 *x, float *y, int64_t ld_y,
                         const int bytes, groups_fn *groups, groups_block_fn *block) {
    if (x->T == 1) dot_groups_t(w, row0, n_rows, x, y, ld_y, 1, bytes, groups, block);
    if (x->T == 2) dot_groups_t(w, row0, n_rows, x, y, ld_y, 2, bytes, groups, block);
    if (x->T == 3) dot_groups_t(w, row0, n_rows, x, y, ld_y, 3, bytes, groups, block);
    if (x->T == 4) dot_groups_t(w, row0, n_rows, x, y, ld_y, 4, bytes, groups, block);
}

/* n columns (a multiple of 32) of codes at p, of which `end` is the end. */
V_INLINE void unpack_groups(const uint8_t *p, const uint8_t *end, int64_t n, int8_t *code, const int bytes,
                            vb (*codes)(const uint8_t *p)) {
    for (; n >= 32; n -= 32, p += bytes, code += 32) {
        if (end - p >= bytes + OVERREAD) {
            vb_store(code, codes(p));
            continue;
        }
        uint8_t tail[32 + OVERREAD] = {0};
        memcpy(tail, p, (size_t)bytes);
        vb_store(code, codes(tail));
    }
}

/* ---------------------------------------------------------------- coarse panels
 * Where codes have 4 bits at most, the numbers of a group are rounded once, in a table of 16. The result is
 * sr_coarse_block's to the bit: its products and differences are made here too, and the largest number of a group is
 * that of one of its codes. */

/* 256 columns: q holds 8 groups of codes 0..15, which stand for the numbers in n0 and n8; largest[8] of each group. */
V_INLINE void coarse_by_table(vb8 q, vf n0, vf n8, const float *s, const float *lo, vf largest, int8_t *code,
                              float *scale) {
    const float max = vf_reduce_max(largest);
    float inverse = max > 0 ? 127 / max : 0;
    if (vf_sum(vf_sub(largest, largest)) != 0) { /* something is not finite */
        *scale = NAN;
        memset(code, 0, SR_KC);
        return;
    }
    if (!isfinite(inverse)) inverse = 0;
    *scale = max / 127;
    const vf mul = vf_set1(inverse);
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
/* |a| and |b|, the larger; NaN where one of them is not finite. */
V_INLINE vf largest_of(vf a, vf b) {
    vf odd = vf_add(vf_sub(a, a), vf_sub(b, b));
    return vf_add(vf_max(vf_abs(a), vf_abs(b)), odd);
}

typedef vb codes_fn(const uint8_t *p);

V_INLINE vb8 codes_of_block(const uint8_t *p, const uint8_t *end, const int bytes, codes_fn *codes) {
    uint8_t tail[MOST_ROW + OVERREAD];
    if (end - p < 8 * bytes + OVERREAD) {
        memset(tail, 0, sizeof tail);
        memcpy(tail, p, (size_t)(8 * bytes));
        p = tail;
    }
    return (vb8){codes(p),
                 codes(p + bytes),
                 codes(p + 2 * bytes),
                 codes(p + 3 * bytes),
                 codes(p + 4 * bytes),
                 codes(p + 5 * bytes),
                 codes(p + 6 * bytes),
                 codes(p + 7 * bytes)};
}
