/* Dots of formats whose codes lie row by row, 32 columns in `bytes` bytes, with scales (and mins) that 32 columns share
 * wherever they lie, or that 16 share: w = scale * code - min. K is a multiple of 32. */

enum {
    RUN = 64,         /* groups of 32 columns whose scales are fetched at a time */
    OVERREAD = 16,    /* bytes past a block that `codes` may look at */
    MOST_ROW = 8 * 32 /* bytes of 256 columns */
};

/* Where the rows of a call lie, of a plane that ends at `end`. */
typedef struct v_rows {
    const uint8_t *first, *end;
    int64_t stride;
    const void *aux;     /* for the block's function */
    const uint8_t *next; /* what memory is asked for while `first` is multiplied: 1 of 2^next_shift bytes */
    int next_shift;
} v_rows;

V_INLINE v_rows rows_of_plane(const sr_weight *w, int64_t row0) {
    const uint8_t *p = w->plane[0].data;
    const uint8_t *first = p + row0 * w->plane[0].stride;
    return (v_rows){first, p + w->plane[0].bytes, w->plane[0].stride, w->aux, first + AHEAD, 0};
}

/* Scales and mins of n <= RUN groups of 32 columns from column k0 of a row on; k0 is a multiple of 256. Both have room
 * for RUN of them; for 2 * RUN where groups have 16 columns. */
typedef void groups_fn(const sr_weight *w, int64_t row, int64_t k0, int n, float *scale, float *min);
/* The sums of scale[g] * (code . x) - min[g] * (sum of x) over the 8 groups of one block of 256 columns at b. */
typedef vf4 groups_block_fn(const uint8_t *b, const float *scale, const float *min, const void *aux, v_x x,
                            const int T);

/* ---------------------------------------------------------------- scales */

/* n numbers of a plane of f32, f16 or bf16 from number `at` on; to has room for a multiple of 8. */
static void plane_floats(const sr_weight *w, int plane, int64_t at, int n, float *to) {
    const sr_stored *type = w->plane[plane].type;
    const uint8_t *p = w->plane[plane].data + at * type->bytes;
    if (type->bytes == 4) {
        memcpy(to, p, (size_t)n * sizeof *to);
        return;
    }
    const bool f16 = type->name[0] == 'f';
    const int64_t all = w->plane[plane].bytes / 2; /* what other rows have behind is read too, where it is there */
    for (int i = 0; i < n; i += 8) {
        uint16_t tail[8] = {0};
        const uint16_t *half = (const uint16_t *)(const void *)(p + 2 * i);
        if (at + i + 8 > all) half = memcpy(tail, half, 2 * (size_t)(n - i));
        vf_store(to + i, f16 ? vf_from_f16(half) : vf_from_bf16(half));
    }
}
/* Numbers of groups of `group` columns (a multiple of 32), the first of them that of column k0, to numbers of n groups
 * of 32. `to` has room for RUN, `from` for a multiple of 8. */
static void spread(const float *from, int64_t k0, int n, int64_t group, float *to) {
    if (group == 64) {
        for (int g = 0; g < n; g += 16, from += 8) {
            vf_store(to + g, vf_first4_doubled(vf_load(from)));
            vf_store(to + g + 8, vf_last4_doubled(vf_load(from)));
        }
        return;
    }
    if (group == 128) {
        for (int g = 0; g < n; g += 32, from += 8) {
            vf first = vf_first4_doubled(vf_load(from)), last = vf_last4_doubled(vf_load(from));
            vf_store(to + g, vf_first4_doubled(first));
            vf_store(to + g + 8, vf_last4_doubled(first));
            vf_store(to + g + 16, vf_first4_doubled(last));
            vf_store(to + g + 24, vf_last4_doubled(last));
        }
        return;
    }
    int64_t left = group - k0 % group;
    for (int g = 0; g < n; g++, left -= 32) {
        if (!left) from++, left = group;
        to[g] = *from;
    }
}
/* Groups that columns k0 .. k0 + 32 n of a row have a part of. */
V_INLINE int groups_in(int64_t k0, int n, int64_t group) {
    return (int)((k0 + 32 * n - 1) / group - k0 / group) + 1;
}

/* Scales and mins as unpack gives them, one each w->group columns, of n <= SR_TILE_KC columns. */
V_INLINE void unpack_scales(const sr_weight *w, int64_t row, int64_t k0, int64_t n, float *scale, float *min,
                            groups_fn *groups) {
    float s[RUN], m[RUN];
    groups(w, row, k0, (int)((n + 31) / 32), s, m);
    for (int64_t k = 0; k < n; k += w->group) *scale++ = s[k / 32], *min++ = m[k / 32];
}

/* n bytes of which eight are one number each; `from` makes a vector of them. */
V_INLINE void byte_floats(const uint8_t *p, int n, vf (*from)(const uint8_t *p, const void *ctx), const void *ctx,
                          float *to) {
    int i = 0;
    for (; i + 8 <= n; i += 8) vf_store(to + i, from(p + i, ctx));
    if (i < n) {
        uint8_t eight[8] = {0};
        memcpy(eight, p + i, (size_t)(n - i));
        vf_store(to + i, from(eight, ctx));
    }
}
/* Half of 2^(b - 127); 255 is NaN, or infinite. */
V_INLINE vf e8m0_half(const uint8_t *p, const void *ctx) {
    (void)ctx;
    return vf_mul(vf_from_e8m0(p, NAN), vf_set1(0.5f));
}
V_INLINE vf e8m0_half_or_infinite(const uint8_t *p, const void *ctx) {
    (void)ctx;
    return vf_mul(vf_from_e8m0(p, INFINITY), vf_set1(0.5f));
}
V_INLINE vf e4m3_half(const uint8_t *p, const void *ctx) {
    (void)ctx;
    return vf_mul(vf_from_e4m3(p), vf_set1(0.5f));
}

/* ---------------------------------------------------------------- dots */

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

/* The same for 64 columns in one group, or for the low and the high nibbles of them with x dealt likewise; codes of at
 * most 6 bits. */
V_INLINE vf4 add_pair(vf4 sum, vb low, vb high, vf scale, v_x x, int k, const int T) {
    sum.t0 = vf_fma(vf_from_i32(vi_dot_two_u6(low, x_code(x, 0, k), high, x_code(x, 0, k + 32))), scale, sum.t0);
    if (T > 1)
        sum.t1 = vf_fma(vf_from_i32(vi_dot_two_u6(low, x_code(x, 1, k), high, x_code(x, 1, k + 32))), scale, sum.t1);
    if (T > 2)
        sum.t2 = vf_fma(vf_from_i32(vi_dot_two_u6(low, x_code(x, 2, k), high, x_code(x, 2, k + 32))), scale, sum.t2);
    if (T > 3)
        sum.t3 = vf_fma(vf_from_i32(vi_dot_two_u6(low, x_code(x, 3, k), high, x_code(x, 3, k + 32))), scale, sum.t3);
    return sum;
}

/* per: scales of 32 columns, 1 or 2. codes: x's, in the order that the block wants. */
V_INLINE void dot_groups_t(const sr_weight *w, int64_t row0, int n_rows, v_rows rows, const sr_x8 *x,
                           const int8_t *codes, float *y, int64_t ld_y, const int T, const int bytes, const int per,
                           groups_fn *groups, groups_block_fn *block) {
    const int64_t n_groups = w->K / 32;
    for (int i = 0; i < n_rows; i++) {
        const uint8_t *b = rows.first + i * rows.stride;
        v_x at = {codes, x->sum, x->scale, x->n_block, NULL};
        vf4 acc = vf4_zero();
        for (int64_t g0 = 0; g0 < n_groups; g0 += RUN) {
            int n = n_groups - g0 < RUN ? (int)(n_groups - g0) : RUN;
            float scale[2 * RUN], min[2 * RUN];
            groups(w, row0 + i, 32 * g0, n, scale, min);
            for (int g = n * per; g % (8 * per); g++) scale[g] = min[g] = 0;
            for (int g = 0; g < n; g += 8, b += 8 * bytes) {
                const uint8_t *p = b;
                uint8_t tail[MOST_ROW + OVERREAD];
                if (n - g < 8 || rows.end - b < 8 * bytes + OVERREAD) { /* what lies behind is not ours, or not there */
                    memset(tail, 0, sizeof tail);
                    memcpy(tail, b, (size_t)((n - g < 8 ? n - g : 8) * bytes));
                    p = tail;
                }
                const uint8_t *next = rows.next + ((b - rows.first) >> rows.next_shift);
#pragma GCC unroll 4
                for (int line = 0; line < 8 * bytes >> rows.next_shift; line += 64) __builtin_prefetch(next + line);
                acc = add_scaled_x(acc, block(p, scale + g * per, min + g * per, rows.aux, at, T), at, T);
                at.code += SR_KC, at.sum += SR_KC / SR_SUM, at.scale++;
            }
        }
        y[i] = vf_sum(acc.t0);
        if (T > 1) y[ld_y + i] = vf_sum(acc.t1);
        if (T > 2) y[2 * ld_y + i] = vf_sum(acc.t2);
        if (T > 3) y[3 * ld_y + i] = vf_sum(acc.t3);
    }
}
V_INLINE void dot_groups_of(const sr_weight *w, int64_t row0, int n_rows, v_rows rows, const sr_x8 *x,
                            const int8_t *codes, float *y, int64_t ld_y, const int bytes, const int per,
                            groups_fn *groups, groups_block_fn *block) {
    if (x->T == 1) dot_groups_t(w, row0, n_rows, rows, x, codes, y, ld_y, 1, bytes, per, groups, block);
    if (x->T == 2) dot_groups_t(w, row0, n_rows, rows, x, codes, y, ld_y, 2, bytes, per, groups, block);
    if (x->T == 3) dot_groups_t(w, row0, n_rows, rows, x, codes, y, ld_y, 3, bytes, per, groups, block);
    if (x->T == 4) dot_groups_t(w, row0, n_rows, rows, x, codes, y, ld_y, 4, bytes, per, groups, block);
}
V_INLINE void dot_groups(const sr_weight *w, int64_t row0, int n_rows, const sr_x8 *x, float *y, int64_t ld_y,
                         const int bytes, groups_fn *groups, groups_block_fn *block) {
    dot_groups_of(w, row0, n_rows, rows_of_plane(w, row0), x, x->code, y, ld_y, bytes, 1, groups, block);
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

/* Bytes less 128. */
V_INLINE vb codes_less_128(const uint8_t *p) {
    return vb_xor(vb_load(p), vb_set1(-128));
}
V_INLINE vf4 bytes_block(const uint8_t *b, const float *scale, const float *min, const void *aux, v_x x, const int T) {
    vf4 sum = vf4_zero();
    (void)aux;
#pragma GCC unroll 8
    for (int g = 0; g < 8; g++) sum = add_group_i8(sum, codes_less_128(b + 32 * g), vf_set1(scale[g]), x, 32 * g, T);
    return sub_mins(sum, vf_load(min), x, T);
}

/* ---------------------------------------------------------------- coarse panels of groups of 32 */

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

/* ---------------------------------------------------------------- nibbles
 * Where each byte has two columns, its low nibble is the even one, and x comes dealt: no code is moved. These are one
 * function for all formats that differ in their scales alone. */

/* w = scale * code - min, groups of 32 columns. */
V_INLINE vf4 nibbles32_block(const uint8_t *b, const float *scale, const float *min, const void *aux, v_x x,
                             const int T) {
    vf4 sum = vf4_zero();
    (void)aux;
#pragma GCC unroll 4
    for (int i = 0; i < 4; i++) {
        vb v = vb_load(b + 32 * i);
        sum = add_pair(sum, vb_low4(v), vb_high4(v), vf_halves(scale + 2 * i), x, 64 * i, T);
    }
    return sub_mins(sum, vf_load(min), x, T);
}
/* Groups of a multiple of 64. */
V_INLINE vf4 nibbles64_block(const uint8_t *b, const float *scale, const float *min, const void *aux, v_x x,
                             const int T) {
    vf4 sum = vf4_zero();
    (void)aux;
#pragma GCC unroll 4
    for (int i = 0; i < 4; i++) {
        vb v = vb_load(b + 32 * i);
        sum = add_pair(sum, vb_low4(v), vb_high4(v), vf_set1(scale[2 * i]), x, 64 * i, T);
    }
    return sub_mins(sum, vf_load(min), x, T);
}
static void dot_nibbles(const sr_weight *w, int64_t row0, int n_rows, const sr_x8 *x, float *y, int64_t ld_y,
                        groups_fn *groups) {
    v_rows rows = rows_of_plane(w, row0);
    if (w->group % 64 == 0 && w->K % 64 == 0)
        dot_groups_of(w, row0, n_rows, rows, x, x->dealt, y, ld_y, 16, 1, groups, nibbles64_block);
    else
        dot_groups_of(w, row0, n_rows, rows, x, x->dealt, y, ld_y, 16, 1, groups, nibbles32_block);
}

/* E2M1: twice the magnitudes by table, the sign (bit 3) moves to x. v has the high nibbles' signs where psignb wants
 * them; its bits below only make it zero where the magnitude is. */
static const uint8_t e2m1_sizes[16] = {0, 1, 2, 3, 4, 6, 8, 12, 0, 1, 2, 3, 4, 6, 8, 12};
V_INLINE vi e2m1_products(vb low, vb high, vb v, v_x x, int t, int k) {
    return vi_dot_two_u6(low, vb_sign(x_code(x, t, k), vb_shift(v, 4)), high, vb_sign(x_code(x, t, k + 32), v));
}
V_INLINE vf4 e2m1_pair(vf4 sum, const uint8_t *p, vf scale, v_x x, int k, const int T) {
    const vb sizes = vb_twice(e2m1_sizes), v = vb_load(p);
    const vb low = vb_lookup(sizes, vb_low4(v)), high = vb_lookup(sizes, vb_high4(v));
    sum.t0 = vf_fma(vf_from_i32(e2m1_products(low, high, v, x, 0, k)), scale, sum.t0);
    if (T > 1) sum.t1 = vf_fma(vf_from_i32(e2m1_products(low, high, v, x, 1, k)), scale, sum.t1);
    if (T > 2) sum.t2 = vf_fma(vf_from_i32(e2m1_products(low, high, v, x, 2, k)), scale, sum.t2);
    if (T > 3) sum.t3 = vf_fma(vf_from_i32(e2m1_products(low, high, v, x, 3, k)), scale, sum.t3);
    return sum;
}
/* Groups of 32, and of 16. */
V_INLINE vf4 e2m1_32_block(const uint8_t *b, const float *scale, const float *min, const void *aux, v_x x,
                           const int T) {
    vf4 sum = vf4_zero();
    (void)min, (void)aux;
#pragma GCC unroll 4
    for (int i = 0; i < 4; i++) sum = e2m1_pair(sum, b + 32 * i, vf_halves(scale + 2 * i), x, 64 * i, T);
    return sum;
}
V_INLINE vf4 e2m1_16_block(const uint8_t *b, const float *scale, const float *min, const void *aux, v_x x,
                           const int T) {
    const vf s0 = vf_load(scale), s1 = vf_load(scale + 8);
    (void)min, (void)aux;
    vf4 sum = e2m1_pair(vf4_zero(), b, vf_first4_doubled(s0), x, 0, T);
    sum = e2m1_pair(sum, b + 32, vf_last4_doubled(s0), x, 64, T);
    sum = e2m1_pair(sum, b + 64, vf_first4_doubled(s1), x, 128, T);
    return e2m1_pair(sum, b + 96, vf_last4_doubled(s1), x, 192, T);
}
static void dot_e2m1_32(const sr_weight *w, int64_t row0, int n_rows, const sr_x8 *x, float *y, int64_t ld_y,
                        groups_fn *groups) {
    dot_groups_of(w, row0, n_rows, rows_of_plane(w, row0), x, x->dealt, y, ld_y, 16, 1, groups, e2m1_32_block);
}
static void dot_e2m1_16(const sr_weight *w, int64_t row0, int n_rows, const sr_x8 *x, float *y, int64_t ld_y,
                        groups_fn *groups) {
    dot_groups_of(w, row0, n_rows, rows_of_plane(w, row0), x, x->dealt, y, ld_y, 16, 2, groups, e2m1_16_block);
}

static void nibbles_panel(const sr_weight *w, int64_t row, int64_t k0, int64_t n, int8_t *code, float *scale,
                          float *min, groups_fn *groups) {
    const uint8_t *p = w->plane[0].data + row * w->plane[0].stride + k0 / 2;
    float s[RUN], lo[RUN];
    groups(w, row, k0, (int)n / 32, s, lo);
    for (int g = 0; n >= SR_KC; n -= SR_KC, k0 += SR_KC, g += 8, p += SR_KC / 2, code += SR_KC)
        affine_panel(codes_of_block(p, p + SR_KC, 16, vb_pairs_low_first), 15, s + g, lo + g, code, scale++);
    if (n) sr_panel_coarse(w, row, k0, n, code, scale, min);
}
static void e2m1_32_panel(const sr_weight *w, int64_t row, int64_t k0, int64_t n, int8_t *code, float *scale,
                          float *min, groups_fn *groups) {
    static const float numbers[16] = {0, 1, 2, 3, 4, 6, 8, 12, 0, -1, -2, -3, -4, -6, -8, -12}, none[8];
    const uint8_t *p = w->plane[0].data + row * w->plane[0].stride + k0 / 2;
    float s[RUN];
    groups(w, row, k0, (int)n / 32, s, NULL);
    for (int g = 0; n >= SR_KC; n -= SR_KC, k0 += SR_KC, g += 8, p += SR_KC / 2, code += SR_KC, scale++) {
        vb8 c = codes_of_block(p, p + SR_KC, 16, vb_pairs_low_first);
        vf most = vf_mul(vf_load(s + g), vb8_most(vb8_lookup(vb_twice(e2m1_sizes), c)));
        coarse_by_table(c, numbers, s + g, none, largest_of(most, most), code, scale);
    }
    if (n) sr_panel_coarse(w, row, k0, n, code, scale, min);
}
static void e2m1_16_panel(const sr_weight *w, int64_t row, int64_t k0, int64_t n, int8_t *code, float *scale,
                          float *min, groups_fn *groups) {
    const uint8_t *p = w->plane[0].data + row * w->plane[0].stride + k0 / 2;
    float s[2 * RUN];
    groups(w, row, k0, (int)n / 32, s, NULL);
    for (int g = 0; n >= SR_KC; n -= SR_KC, k0 += SR_KC, g += 16, p += SR_KC / 2, code += SR_KC) {
        vb8 c = codes_of_block(p, p + SR_KC, 16, vb_pairs_low_first);
        const vb q[8] = {c.c0, c.c1, c.c2, c.c3, c.c4, c.c5, c.c6, c.c7};
        coarse_e2m1_by_16(q, s + g, code, scale++);
    }
    if (n) sr_panel_coarse(w, row, k0, n, code, scale, min);
}
