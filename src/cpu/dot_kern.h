/* What the dots of all formats share: walking rows, and steps over T columns of x that reuse the unpacked weights.
 * T is a constant where this is inlined, so nothing of it is left but the columns that exist.
 *
 * One row at a time: out-of-order execution overlaps its blocks, and one sequential stream is what prefetchers like
 * best. A row's sums never depend on the rows around it. */

/* x from one of its blocks on. */
typedef struct v_x {
    const int8_t *code;
    const int16_t *sum;
    const float *scale;
    int64_t pitch; /* blocks from one column of x to the next */
    const int8_t *dealt;
} v_x;

typedef struct vf4 {
    vf t0, t1, t2, t3;
} vf4;
typedef struct vi4 {
    vi t0, t1, t2, t3;
} vi4;

V_INLINE vb x_code(v_x x, int t, int k) {
    return vb_load(x.code + t * x.pitch * SR_KC + k);
}
V_INLINE vs x_sum(v_x x, int t) {
    return vs_load(x.sum + t * x.pitch * (SR_KC / SR_SUM));
}
V_INLINE vf x_scale(v_x x, int t) {
    return vf_set1(x.scale[t * x.pitch]);
}

V_INLINE vf4 vf4_zero(void) {
    return (vf4){vf_set1(0), vf_set1(0), vf_set1(0), vf_set1(0)};
}
V_INLINE vi4 vi4_zero(void) {
    return (vi4){vi_zero(), vi_zero(), vi_zero(), vi_zero()};
}

/* a += scale * (code . x), 32 columns from k on; code is unsigned and at most 63. */
V_INLINE vi4 dot_scaled(vi4 a, vb code, vs scale, v_x x, int k, const int T) {
    a.t0 = vi_dot_scaled(a.t0, code, x_code(x, 0, k), scale);
    if (T > 1) a.t1 = vi_dot_scaled(a.t1, code, x_code(x, 1, k), scale);
    if (T > 2) a.t2 = vi_dot_scaled(a.t2, code, x_code(x, 2, k), scale);
    if (T > 3) a.t3 = vi_dot_scaled(a.t3, code, x_code(x, 3, k), scale);
    return a;
}

/* Eight times that, with integer scales as vs_pick wants them. codes(b, i) gives columns 32 i .. 32 i + 31. */
V_INLINE vi4 dot_block(const uint8_t *b, vb (*codes)(const uint8_t *b, int i), vs scale, vi4 a, v_x x, const int T) {
#pragma GCC unroll 8
    for (int i = 0; i < 8; i++) a = dot_scaled(a, codes(b, i), vs_pick(scale, i), x, 32 * i, T);
    return a;
}

/* The 16 sums of x times s, each shifted to the left. */
V_INLINE vi4 dot_sums(vs s, const int shift, v_x x, const int T) {
    vi4 a = {vi_shift(vi_madd(s, x_sum(x, 0)), shift), vi_zero(), vi_zero(), vi_zero()};
    if (T > 1) a.t1 = vi_shift(vi_madd(s, x_sum(x, 1)), shift);
    if (T > 2) a.t2 = vi_shift(vi_madd(s, x_sum(x, 2)), shift);
    if (T > 3) a.t3 = vi_shift(vi_madd(s, x_sum(x, 3)), shift);
    return a;
}
V_INLINE vi4 vi4_neg(vi4 a) {
    return (vi4){vi_sub(vi_zero(), a.t0), vi_sub(vi_zero(), a.t1), vi_sub(vi_zero(), a.t2), vi_sub(vi_zero(), a.t3)};
}

/* acc += d * a * the scale of x */
V_INLINE vf4 add_scaled(vf4 acc, vi4 a, vf d, v_x x, const int T) {
    acc.t0 = vf_fma(vf_from_i32(a.t0), vf_mul(d, x_scale(x, 0)), acc.t0);
    if (T > 1) acc.t1 = vf_fma(vf_from_i32(a.t1), vf_mul(d, x_scale(x, 1)), acc.t1);
    if (T > 2) acc.t2 = vf_fma(vf_from_i32(a.t2), vf_mul(d, x_scale(x, 2)), acc.t2);
    if (T > 3) acc.t3 = vf_fma(vf_from_i32(a.t3), vf_mul(d, x_scale(x, 3)), acc.t3);
    return acc;
}
V_INLINE vf4 add_scaled_x(vf4 acc, vf4 a, v_x x, const int T) {
    acc.t0 = vf_fma(a.t0, x_scale(x, 0), acc.t0);
    if (T > 1) acc.t1 = vf_fma(a.t1, x_scale(x, 1), acc.t1);
    if (T > 2) acc.t2 = vf_fma(a.t2, x_scale(x, 2), acc.t2);
    if (T > 3) acc.t3 = vf_fma(a.t3, x_scale(x, 3), acc.t3);
    return acc;
}

/* One block of 256 columns at b. */
typedef vf4 block_fn(const uint8_t *b, v_x x, vf4 acc, const int T);

enum {
    MOST_BLOCK_BYTES = 320,
    /* Prefetch distance. Share of a sequential read, Q4_K on two threads, Sapphire Rapids: none .68, 256 .80, 1024 .94,
     * 2048 .98, 4096 .85. On another machine of that class, medians of 4, tokens a second of Q8_0 and Q4_K: 2048 14.5
     * and 26.1, 3072 15.9 and 27.8, 4096 15.0 and 25.1. */
    AHEAD = 3072
};

V_INLINE void dot_rows_t(const sr_weight *w, int64_t row0, int n_rows, const sr_x8 *x, float *y, int64_t ld_y,
                         const int T, const int bytes, const int unit, const int unit_bytes, block_fn *block) {
    for (int i = 0; i < n_rows; i++) {
        const uint8_t *b = w->plane[0].data + (row0 + i) * w->plane[0].stride;
        v_x at = {x->code, x->sum, x->scale, x->n_block, NULL};
        vf4 acc = vf4_zero();
        for (int64_t k = 0; k < w->K; k += SR_KC, b += bytes) {
            const uint8_t *p = b;
            uint8_t tail[MOST_BLOCK_BYTES];
            if (w->K - k < SR_KC) { /* zeros behind the last columns: x has them too */
                memset(tail, 0, (size_t)bytes);
                memcpy(tail, b, (size_t)((w->K - k) / unit * unit_bytes));
                p = tail;
            }
#pragma GCC unroll 8
            for (int line = 0; line < bytes; line += 64) __builtin_prefetch(b + AHEAD + line);
            acc = block(p, at, acc, T);
            at.code += SR_KC, at.sum += SR_KC / SR_SUM, at.scale++;
        }
        y[i] = vf_sum(acc.t0);
        if (T > 1) y[ld_y + i] = vf_sum(acc.t1);
        if (T > 2) y[2 * ld_y + i] = vf_sum(acc.t2);
        if (T > 3) y[3 * ld_y + i] = vf_sum(acc.t3);
    }
}

/* bytes: of 256 columns, in blocks of `unit` columns */
V_INLINE void dot_rows(const sr_weight *w, int64_t row0, int n_rows, const sr_x8 *x, float *y, int64_t ld_y,
                       const int unit, const int unit_bytes, block_fn *block) {
    const int bytes = SR_KC / unit * unit_bytes;
    if (x->T == 1) dot_rows_t(w, row0, n_rows, x, y, ld_y, 1, bytes, unit, unit_bytes, block);
    if (x->T == 2) dot_rows_t(w, row0, n_rows, x, y, ld_y, 2, bytes, unit, unit_bytes, block);
    if (x->T == 3) dot_rows_t(w, row0, n_rows, x, y, ld_y, 3, bytes, unit, unit_bytes, block);
    if (x->T == 4) dot_rows_t(w, row0, n_rows, x, y, ld_y, 4, bytes, unit, unit_bytes, block);
}
