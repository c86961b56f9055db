/* Fast unpackers and dots of bitsandbytes' types (bnb.c), in the vocabulary of cpu/simd_x86.h. Tiles mean that 32
 * columns share a scale, and rows are whole bytes. */

/* ---------------------------------------------------------------- 4 bits: numbers by table */

static void unpack_nf4(const sr_weight *w, int64_t row, int64_t k0, int64_t n, int8_t *code, float *scale, float *min) {
    const sr_bnb *s = w->aux;
    const int64_t i0 = row * w->K + k0;
    const uint8_t *p = w->plane[0].data + i0 / 2;
    const vb table = vb_twice(s->code);
    (void)min;
    for (int64_t k = 0; k < n; k += w->group) *scale++ = sr_bnb_absmax(w, s, (i0 + k) >> s->shift) * s->unit;
    for (int64_t k = 0; k < n; k += 32, p += 16) vb_store(code + k, vb_lookup(table, vb_pairs_high_first(p)));
}
static void unpack_fp4(const sr_weight *w, int64_t row, int64_t k0, int64_t n, int8_t *code, float *scale, float *min) {
    unpack_nf4(w, row, k0, n, code, scale, min);
}

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
        vf most = vf_mul(vf_load(unit), vf_from_half0(vb_max_of_halves(vb8_max(vb8_lookup(vb_twice(size), c)))));
        coarse_by_table(c, vf_load(number), vf_load(number + 8), unit, none, largest_of(most, most), code, scale);
    }
    if (n) sr_panel_coarse(w, row, k0, n, code, scale, min);
}
static void panel_fp4(const sr_weight *w, int64_t row, int64_t k0, int64_t n, int8_t *code, float *scale, float *min) {
    panel_nf4(w, row, k0, n, code, scale, min);
}
#define panel_bnb_int8 NULL

/* sum += scale * ((128 * high + low) . x): 14 bits of each number, where 8 would add 0.4 % to nf4's error energy. */
V_INLINE vf4 add_fine_group(vf4 sum, vb high, vb low, vf scale, v_x x, int k, const int T) {
    vi a = vi_shift(vi_dot_u6(vi_zero(), high, x_code(x, 0, k)), 7);
    sum.t0 = vf_fma(vf_from_i32(vi_dot_u6(a, low, x_code(x, 0, k))), scale, sum.t0);
    if (T > 1) {
        a = vi_shift(vi_dot_u6(vi_zero(), high, x_code(x, 1, k)), 7);
        sum.t1 = vf_fma(vf_from_i32(vi_dot_u6(a, low, x_code(x, 1, k))), scale, sum.t1);
    }
    if (T > 2) {
        a = vi_shift(vi_dot_u6(vi_zero(), high, x_code(x, 2, k)), 7);
        sum.t2 = vf_fma(vf_from_i32(vi_dot_u6(a, low, x_code(x, 2, k))), scale, sum.t2);
    }
    if (T > 3) {
        a = vi_shift(vi_dot_u6(vi_zero(), high, x_code(x, 3, k)), 7);
        sum.t3 = vf_fma(vf_from_i32(vi_dot_u6(a, low, x_code(x, 3, k))), scale, sum.t3);
    }
    return sum;
}
V_INLINE vf4 nf4_block(const uint8_t *b, const float *scale, const float *min, const void *aux, v_x x, const int T) {
    const sr_bnb *s = aux;
    (void)min;
    const vb high = vb_twice(s->high), low = vb_twice(s->low);
    vf4 sum = vf4_zero();
#pragma GCC unroll 8
    for (int g = 0; g < 8; g++) {
        vb c = vb_pairs_high_first(b + 16 * g);
        sum = add_fine_group(sum, vb_lookup(high, c), vb_lookup(low, c), vf_set1(scale[g]), x, 32 * g, T);
    }
    return sub_mins(sum, vf_mul(vf_load(scale), vf_set1(SR_BNB_MIDDLE)), x, T);
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
    dot_groups(w, row0, n_rows, x, y, ld_y, 16, nf4_groups32, nf4_block);
}
static void dot_fp4(const sr_weight *w, int64_t row0, int n_rows, const sr_x8 *x, float *y, int64_t ld_y) {
    dot_nf4(w, row0, n_rows, x, y, ld_y);
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
