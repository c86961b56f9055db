/* Fast unpackers and dots of bitsandbytes' types (bnb.c), in the vocabulary of cpu/simd_x86.h. Tiles mean that 32
 * columns share a scale, and rows are whole bytes. */

/* ---------------------------------------------------------------- 4 bits: numbers by table */

static void panel_nf4(const sr_weight *w, int64_t row, int64_t k0, int64_t n, int8_t *code, float *scale, float *min) {
    const sr_bnb *s = w->aux;
    static const float none[8];
    const uint8_t *p = w->plane[0].data + (row * w->K + k0) / 2;
    int8_t size[16];
    float number[16];
    for (int i = 0; i < 16; i++) size[i] = (int8_t)(s->code[i] < 0 ? -s->code[i] : s->code[i]), number[i] = s->code[i];
    for (; n >= SR_KC; n -= SR_KC, k0 += SR_KC, p += SR_KC / 2, code += SR_KC, scale++) {
        vb8 c = codes_of_block(p, p + SR_KC, 16, vb_pairs_high_first);
        float unit[8];
        for (int g = 0; g < 8; g++) unit[g] = sr_bnb_absmax(w, s, (row * w->K + k0 + 32 * g) >> s->shift) * s->unit;
        vf most = vf_mul(vf_load(unit), vb8_most(vb8_lookup(vb_twice(size), c)));
        coarse_by_table(c, number, unit, none, largest_of(most, most), code, scale);
    }
    if (n) sr_panel_coarse(w, row, k0, n, code, scale, min);
}

/* Sums of (128 * high + low) . x: 14 bits of each number, where 8 would add 0.4 % to nf4's error energy. The even
 * columns are the high nibbles, and x comes dealt. */
V_INLINE vi fine_products(vb high0, vb high1, vb low0, vb low1, v_x x, int t, int k) {
    const vb x0 = x_code(x, t, k), x1 = x_code(x, t, k + 32);
    vi a = vi_shift(vi_dot_u6(vi_dot_u6(vi_zero(), high0, x0), high1, x1), 7);
    return vi_dot_u6(vi_dot_u6(a, low0, x0), low1, x1);
}
V_INLINE vf4 nf4_block(const uint8_t *b, const float *scale, const sr_bnb *s, v_x x, const int T, const bool by_64) {
    const vb high = vb_twice(s->high), low = vb_twice(s->low);
    vf4 sum = vf4_zero();
#pragma GCC unroll 4
    for (int i = 0; i < 4; i++) {
        const vb v = vb_load(b + 32 * i), c0 = vb_high4(v), c1 = vb_low4(v);
        const vb h0 = vb_lookup(high, c0), h1 = vb_lookup(high, c1), l0 = vb_lookup(low, c0), l1 = vb_lookup(low, c1);
        const vf by = by_64 ? vf_set1(scale[2 * i]) : vf_halves(scale + 2 * i);
        sum.t0 = vf_fma(vf_from_i32(fine_products(h0, h1, l0, l1, x, 0, 64 * i)), by, sum.t0);
        if (T > 1) sum.t1 = vf_fma(vf_from_i32(fine_products(h0, h1, l0, l1, x, 1, 64 * i)), by, sum.t1);
        if (T > 2) sum.t2 = vf_fma(vf_from_i32(fine_products(h0, h1, l0, l1, x, 2, 64 * i)), by, sum.t2);
        if (T > 3) sum.t3 = vf_fma(vf_from_i32(fine_products(h0, h1, l0, l1, x, 3, 64 * i)), by, sum.t3);
    }
    return sub_mins(sum, vf_mul(vf_load(scale), vf_set1(SR_BNB_MIDDLE)), x, T);
}
V_INLINE vf4 nf4_32_block(const uint8_t *b, const float *scale, const float *min, const void *aux, v_x x, const int T) {
    (void)min;
    return nf4_block(b, scale, aux, x, T, false);
}
V_INLINE vf4 nf4_64_block(const uint8_t *b, const float *scale, const float *min, const void *aux, v_x x, const int T) {
    (void)min;
    return nf4_block(b, scale, aux, x, T, true);
}
static void nf4_groups32(const sr_weight *w, int64_t row, int64_t k0, int n, float *scale, float *min) {
    const sr_bnb *s = w->aux;
    const int64_t i0 = row * w->K + k0;
    (void)min;
    if (s->block > 32 && w->K % 64 == 0)
        for (int g = 0; g < n; g += 2)
            scale[g] = scale[g + 1] = sr_bnb_absmax(w, s, (i0 + 32 * g) >> s->shift) * s->fine;
    else
        for (int g = 0; g < n; g++) scale[g] = sr_bnb_absmax(w, s, (i0 + 32 * g) >> s->shift) * s->fine;
}
static void dot_nf4(const sr_weight *w, int64_t row0, int n_rows, const sr_x8 *x, float *y, int64_t ld_y) {
    const v_rows rows = rows_of_plane(w, row0);
    if (((const sr_bnb *)w->aux)->block > 32 && w->K % 64 == 0)
        dot_groups_of(w, row0, n_rows, rows, x, x->dealt, y, ld_y, 16, 1, nf4_groups32, nf4_64_block);
    else
        dot_groups_of(w, row0, n_rows, rows, x, x->dealt, y, ld_y, 16, 1, nf4_groups32, nf4_32_block);
}

/* ---------------------------------------------------------------- 8 bits */

static void unpack_bnb_int8(const sr_weight *w, int64_t row, int64_t k0, int64_t n, int8_t *code, float *scale,
                            float *min) {
    w->fmt->unpack(w, row, k0, n, code, scale, min); /* a copy */
}
V_INLINE vf4 int8_block(const uint8_t *b, v_x x, vf4 acc, const int T) {
    vi4 a = vi4_zero();
#pragma GCC unroll 8
    for (int k = 0; k < SR_KC; k += 32) {
        vb c = vb_load(b + k);
        a.t0 = vi_add(a.t0, vi_dot_i8(c, x_code(x, 0, k)));
        if (T > 1) a.t1 = vi_add(a.t1, vi_dot_i8(c, x_code(x, 1, k)));
        if (T > 2) a.t2 = vi_add(a.t2, vi_dot_i8(c, x_code(x, 2, k)));
        if (T > 3) a.t3 = vi_add(a.t3, vi_dot_i8(c, x_code(x, 3, k)));
    }
    return add_scaled(acc, a, vf_set1(1), x, T);
}
static void dot_bnb_int8(const sr_weight *w, int64_t row0, int n_rows, const sr_x8 *x, float *y, int64_t ld_y) {
    dot_rows(w, row0, n_rows, x, y, ld_y, 1, 1, int8_block);
    for (int i = 0; i < n_rows; i++) {
        float most;
        memcpy(&most, w->plane[1].data + 4 * (row0 + i), 4);
        for (int t = 0; t < x->T; t++) y[t * ld_y + i] *= most * SR_BNB_127TH;
    }
}
