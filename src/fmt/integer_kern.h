/* Fast dots and unpackers of formats whose words run along N (gptq.c, awq.c), written once in the vocabulary of
 * cpu/simd_x86.h. A lane is a row, so that nothing is summed across lanes: 64 rows share each broadcast of x. Sums of a
 * group are exact in int32; scale and x's scale come after, in one fused multiply-add a group, for every row alike. */

enum { ROWS = 64, VECTORS = ROWS / 8 };

/* Columns of a run, all in one group, that come in one product or several. */
typedef struct v_part {
    int k, n; /* from column k of a block of x on */
    bool first, last;
} v_part;
/* acc[t][row] += codes . x[t] for ROWS rows and the columns of a part; in rows' order behind the last one. p: the words
 * of the first column; the next ones are `step` bytes further each. */
typedef void product_fn(const uint8_t *p, int64_t step, v_part part, v_x x, int32_t (*acc)[ROWS], const int T);

/* Bits of each of eight rows in a word of zeros, and in AWQ's words of codes. */
static const uint8_t gptq4_order[8] = {0, 4, 8, 12, 16, 20, 24, 28}, awq4_order[8] = {0, 16, 4, 20, 8, 24, 12, 28};

/* ---------------------------------------------------------------- GPTQ, 4 bits
 * A word has eight columns of a row: its even nibbles meet columns 0 2 4 6 of x, the odd ones 1 3 5 7. */

V_INLINE void gptq4_rows(const uint8_t *p, int64_t step, int n_words, v_x x, int k, int32_t (*acc)[ROWS], const int V,
                         const int T) {
    vi a[8];
#pragma GCC unroll 8
    for (int i = 0; i < V * T; i++) a[i] = vi_zero();
    for (int j = k / 8; j < k / 8 + n_words; j++, p += step) {
        const int even = j / 8 * 64 + j % 8 * 4;
        __builtin_prefetch(p + 16 * step);
        if (V > 2) __builtin_prefetch(p + 16 * step + 64);
        if (V > 4) __builtin_prefetch(p + 16 * step + 128);
        if (V > 4) __builtin_prefetch(p + 16 * step + 192);
#pragma GCC unroll 8
        for (int v = 0; v < V; v++) {
            vb w = vb_load(p + 32 * v), low = vb_low4(w), high = vb_high4(w);
#pragma GCC unroll 4
            for (int t = 0; t < T; t++) {
                const int8_t *xt = x.dealt + t * x.pitch * SR_KC + even;
                a[t * V + v] = vi_dot_u6(a[t * V + v], low, vb_four(xt));
                a[t * V + v] = vi_dot_u6(a[t * V + v], high, vb_four(xt + 32));
            }
        }
    }
#pragma GCC unroll 4
    for (int t = 0; t < T; t++)
#pragma GCC unroll 8
        for (int v = 0; v < V; v++) vi_store(acc[t] + 8 * v, a[t * V + v]);
}

V_INLINE void gptq4_product(const uint8_t *p, int64_t step, v_part part, v_x x, int32_t (*acc)[ROWS], const int T) {
    const int V = T == 1 ? 8 : T == 2 ? 4 : 2;
    for (int v = 0; v < VECTORS; v += V)
        gptq4_rows(p + 32 * v, step, (part.n + 7) / 8, x, part.k, (int32_t(*)[ROWS])(void *)(acc[0] + 8 * v), V, T);
}

/* ---------------------------------------------------------------- AWQ, 4 bits, gemm
 * A word has eight rows of a column; the next column's is N / 2 bytes further, pages apart often. So all rows of a call
 * are brought together first, where many misses overlap: for each four columns and ROWS rows four vectors, a lane of
 * which has a byte of each column. The low nibbles of lanes 0 .. 3 are rows 0 4 1 5 of word r of each half, the high
 * ones rows 2 6 3 7. */

enum {
    RUN_COLUMNS = 128,
    STAGE = 32,        /* columns */
    STAGES_AHEAD = 128 /* columns */
};

V_INLINE void awq4_stage(const uint8_t *p, int64_t stride, int columns, int rows, uint8_t *to) {
    for (int i = 0; i < columns; i += 4, p += 4 * stride) {
        /* columns past K meet zeros of x */
        const uint8_t *p1 = columns - i > 1 ? p + stride : p, *p2 = columns - i > 2 ? p + 2 * stride : p,
                      *p3 = columns - i > 3 ? p + 3 * stride : p;
        for (int b = 0; b < rows / 2; b += 32, to += 128) {
            vb q0 = vb_load(p + b), q1 = vb_load(p1 + b), q2 = vb_load(p2 + b), q3 = vb_load(p3 + b);
            vb a0 = vb_zip8_low(q0, q1), a1 = vb_zip8_high(q0, q1), b0 = vb_zip8_low(q2, q3), b1 = vb_zip8_high(q2, q3);
            vb_store(to, vb_zip16_low(a0, b0));
            vb_store(to + 32, vb_zip16_high(a0, b0));
            vb_store(to + 64, vb_zip16_low(a1, b1));
            vb_store(to + 96, vb_zip16_high(a1, b1));
            if (b % 64) continue;
            __builtin_prefetch(p + STAGES_AHEAD * stride + b);
            __builtin_prefetch(p1 + STAGES_AHEAD * stride + b);
            __builtin_prefetch(p2 + STAGES_AHEAD * stride + b);
            __builtin_prefetch(p3 + STAGES_AHEAD * stride + b);
        }
    }
}

V_INLINE void awq4_two(const uint8_t *p, int64_t step, v_part part, const int8_t *x, int64_t pitch,
                       int32_t (*acc)[ROWS], const int T) {
    vi low[8], high[8];
#pragma GCC unroll 8
    for (int i = 0; i < 4 * T; i++) {
        low[i] = part.first ? vi_zero() : vi_load(acc[i / 4] + 8 * (i % 4));
        high[i] = part.first ? vi_zero() : vi_load(acc[i / 4] + 8 * (i % 4) + 32);
    }
    for (int i = 0; i < part.n; i += 4, p += step)
#pragma GCC unroll 4
        for (int r = 0; r < 4; r++) {
            const vb c = vb_load(p + 32 * r), c0 = vb_low4(c), c1 = vb_high4(c);
#pragma GCC unroll 2
            for (int t = 0; t < T; t++) {
                low[4 * t + r] = vi_dot_u6(low[4 * t + r], c0, vb_four(x + t * pitch + i));
                high[4 * t + r] = vi_dot_u6(high[4 * t + r], c1, vb_four(x + t * pitch + i));
            }
        }
#pragma GCC unroll 8
    for (int i = 0; i < 4 * T; i++) {
        int32_t *to = acc[i / 4];
        const int r = i % 4;
        if (!part.last) {
            vi_store(to + 8 * r, low[i]);
            vi_store(to + 8 * r + 32, high[i]);
            continue;
        }
        const vi first = vi_deal_first(low[i], high[i]), last = vi_deal_last(low[i], high[i]);
        vi_store(to + 8 * r, vb_halves0(first, last));
        vi_store(to + 8 * (4 + r), vb_halves1(first, last));
    }
}
V_INLINE void awq4_product(const uint8_t *p, int64_t step, v_part part, v_x x, int32_t (*acc)[ROWS], const int T) {
    const int64_t pitch = x.pitch * SR_KC;
    awq4_two(p, step, part, x.code + part.k, pitch, acc, T < 2 ? 1 : 2);
    if (T > 2) awq4_two(p, step, part, x.code + part.k + 2 * pitch, pitch, acc + 2, T - 2);
}

/* ---------------------------------------------------------------- what both share */

V_INLINE vf scales8(const sr_weight *w, int64_t i) {
    const uint8_t *p = w->plane[SR_INTEGER_SCALES].data;
    const sr_stored *type = w->plane[SR_INTEGER_SCALES].type;
    if (type->bytes == 4) return vf_load((const float *)(const void *)(p + 4 * i));
    const uint16_t *half = (const uint16_t *)(const void *)(p + 2 * i);
    return type->name[0] == 'f' ? vf_from_f16(half) : vf_from_bf16(half);
}

/* Zeros of eight rows from `row` on, a multiple of 8: the fields of one word. */
V_INLINE vi zeros8(const sr_weight *w, int64_t row, int64_t g, const uint8_t *order) {
    const sr_integer *a = w->aux;
    const uint8_t *p = w->plane[SR_INTEGER_ZEROS].data;
    if (!p) return vi_set1(8);
    vi z = vi_nibbles(sr_get_u32(p + g * w->plane[SR_INTEGER_ZEROS].stride + row / 2) + a->add, order);
    return a->plus ? vi_and(vi_add(z, vi_set1(a->plus)), vi_set1(15)) : z;
}

/* y[t][row] += of one group */
V_INLINE void finish_rows(const sr_weight *w, int64_t row0, int64_t g, int32_t (*acc)[ROWS], const int32_t *sum,
                          const float *x_scales, float *y, int64_t ld_y, const uint8_t *order, const int T) {
#pragma GCC unroll 2
    for (int v = 0; v < VECTORS; v++) {
        vi z = zeros8(w, row0 + 8 * v, g, order);
        vf s = scales8(w, g * w->N + row0 + 8 * v);
#pragma GCC unroll 4
        for (int t = 0; t < T; t++) {
            vi q = vi_sub(vi_load(acc[t] + 8 * v), vi_mul(z, vi_set1(sum[t])));
            float *to = y + t * ld_y + 8 * v;
            vf_store(to, vf_fma(vf_from_i32(q), vf_mul(s, vf_set1(x_scales[t])), vf_load(to)));
        }
    }
}

/* The same for one row. */
static void add_row(const sr_weight *w, int64_t row, int64_t k, int n, v_x x, const int32_t *sum, const float *x_scales,
                    float *y, int64_t ld_y, int T) {
    const sr_integer *a = w->aux;
    const int64_t g = k / w->spec.group;
    uint8_t q[SR_KC];
    n = w->K - k < n ? (int)(w->K - k) : n;
    a->codes(w, row, k, n, q);
    int zero = a->zero(w, row, g);
    float scale = sr_plane_float(w, SR_INTEGER_SCALES, g * w->N + row);
    for (int t = 0; t < T; t++) {
        const int8_t *xt = x.code + t * x.pitch * SR_KC + k % SR_KC;
        int32_t product = 0;
        for (int i = 0; i < n; i++) product += q[i] * xt[i];
        y[t * ld_y] = fmaf((float)(product - zero * sum[t]), scale * x_scales[t], y[t * ld_y]);
    }
}

/* How words of codes lie: columns in each, the order of rows in those of zeros, and whether they are staged. */
typedef struct v_words {
    int columns;
    bool staged;
    const uint8_t *order;
} v_words;

V_INLINE void dot_along_rows_t(const sr_weight *w, int64_t row0, int n_rows, const sr_x8 *x8, float *y, int64_t ld_y,
                               product_fn *product, const v_words words, const int T) {
    const int whole = row0 % 8 ? 0 : n_rows / ROWS * ROWS, run = w->group < RUN_COLUMNS ? w->group : RUN_COLUMNS;
    const int64_t stride = w->plane[SR_INTEGER_CODES].stride;
    uint8_t stage[STAGE * SR_DOT_ROWS / 2];
    v_x x = {x8->code, x8->sum, x8->scale, x8->n_block, x8->dealt};
    for (int t = 0; t < T; t++) memset(y + t * ld_y, 0, (size_t)n_rows * sizeof *y);
    for (int64_t k = 0; k < w->K; k += SR_KC, x.code += SR_KC, x.dealt += SR_KC, x.sum += SR_KC / SR_SUM, x.scale++)
        for (int at = 0; at < SR_KC && k + at < w->K; at += run) {
            int32_t acc[SR_DOT_ROWS / ROWS][SR_DOT_MAX][ROWS], sum[SR_DOT_MAX] = {0};
            float x_scales[SR_DOT_MAX];
            for (int t = 0; t < T; t++) {
                for (int i = 0; i < run; i += SR_SUM)
                    sum[t] += x.sum[t * x.pitch * (SR_KC / SR_SUM) + (at + i) / SR_SUM];
                x_scales[t] = x.scale[t * x.pitch];
            }
            const int n = w->K - k - at < run ? (int)(w->K - k - at) : run;
            const uint8_t *p =
                w->plane[SR_INTEGER_CODES].data + (k + at) / words.columns * stride + row0 * 4 * words.columns / 8;
            const int columns = words.staged ? STAGE : run;
            for (int i = 0; i < n && whole; i += columns) {
                const v_part part = {at + i, n - i < columns ? n - i : columns, i == 0, i + columns >= n};
                if (words.staged) awq4_stage(p + i * stride, stride, part.n, whole, stage);
                for (int r = 0; r < whole; r += ROWS) {
                    if (words.staged)
                        product(stage + 2 * r, 2 * whole, part, x, acc[r / ROWS], T);
                    else
                        product(p + 4 * r, stride, part, x, acc[r / ROWS], T);
                    if (part.last)
                        finish_rows(w, row0 + r, (k + at) / w->spec.group, acc[r / ROWS], sum, x_scales, y + r, ld_y,
                                    words.order, T);
                }
            }
            for (int r = whole; r < n_rows; r++) add_row(w, row0 + r, k + at, run, x, sum, x_scales, y + r, ld_y, T);
        }
}
V_INLINE void dot_along_rows(const sr_weight *w, int64_t row0, int n_rows, const sr_x8 *x, float *y, int64_t ld_y,
                             product_fn *product, const v_words words) {
    if (x->T == 1) dot_along_rows_t(w, row0, n_rows, x, y, ld_y, product, words, 1);
    if (x->T == 2) dot_along_rows_t(w, row0, n_rows, x, y, ld_y, product, words, 2);
    if (x->T == 3) dot_along_rows_t(w, row0, n_rows, x, y, ld_y, product, words, 3);
    if (x->T == 4) dot_along_rows_t(w, row0, n_rows, x, y, ld_y, product, words, 4);
}

static void dot_gptq4(const sr_weight *w, int64_t row0, int n_rows, const sr_x8 *x, float *y, int64_t ld_y) {
    dot_along_rows(w, row0, n_rows, x, y, ld_y, gptq4_product, (v_words){8, false, gptq4_order});
}
static void dot_awq4(const sr_weight *w, int64_t row0, int n_rows, const sr_x8 *x, float *y, int64_t ld_y) {
    dot_along_rows(w, row0, n_rows, x, y, ld_y, awq4_product, (v_words){1, true, awq4_order});
}

/* ---------------------------------------------------------------- coarse panels
 * scale * zero is exact for scales of 16 bits, and so is its difference to scale * code: both ways round alike. Words
 * of a row lie N apart: sixteen rows of a panel share each cache line. */

V_INLINE bool panel_by_table(const sr_weight *w) {
    return w->group % 32 == 0 && w->plane[SR_INTEGER_SCALES].type->bytes == 2;
}
/* Scales and scale * zero of n groups of 32 columns. */
V_INLINE void row_groups(const sr_weight *w, int64_t row, int64_t k0, int n, float *s, float *lo) {
    const sr_integer *a = w->aux;
    int64_t group = -1;
    for (int i = 0; i < n; i++) {
        const int64_t g = (k0 + 32 * i) / w->spec.group;
        s[i] = g == group ? s[i - 1] : sr_plane_float(w, SR_INTEGER_SCALES, g * w->N + row);
        lo[i] = g == group ? lo[i - 1] : s[i] * (float)a->zero(w, row, g);
        group = g;
    }
}
V_INLINE vb8 vb8_load(const uint8_t *q) {
    return (vb8){vb_load(q),       vb_load(q + 32),  vb_load(q + 64),  vb_load(q + 96),
                 vb_load(q + 128), vb_load(q + 160), vb_load(q + 192), vb_load(q + 224)};
}

/* The codes of 256 columns of a row from k on, at q. */
typedef void raw_fn(const sr_weight *w, int64_t row, int64_t k, uint8_t *q);

V_INLINE void gptq4_raw(const sr_weight *w, int64_t row, int64_t k, uint8_t *q) {
    const int64_t step = 4 * w->N;
    const uint8_t *p = w->plane[SR_INTEGER_CODES].data + k / 8 * step + 4 * row;
    uint8_t words[SR_KC / 2];
#pragma GCC unroll 4
    for (int i = 0; i < SR_KC / 8; i++, p += step) memcpy(words + 4 * i, p, 4);
    for (int i = 0; i < SR_KC; i += 32) vb_store(q + i, vb_pairs_low_first(words + i / 2));
}
V_INLINE void awq4_raw(const sr_weight *w, int64_t row, int64_t k, uint8_t *q) {
    const int64_t step = w->plane[SR_INTEGER_CODES].stride;
    const uint8_t *p = w->plane[SR_INTEGER_CODES].data + k * step + row / 8 * 4 + awq4_order[row % 8] / 8;
    const bool high = awq4_order[row % 8] & 4;
    for (int i = 0; i < SR_KC; i++, p += step) q[i] = *p;
    for (int i = 0; i < SR_KC; i += 32) vb_store(q + i, high ? vb_high4(vb_load(q + i)) : vb_low4(vb_load(q + i)));
}
V_INLINE void panel_row(const sr_weight *w, int64_t row, int64_t k0, int64_t n, int8_t *code, float *scale, float *min,
                        raw_fn *raw) {
    float s[RUN], lo[RUN];
    if (panel_by_table(w)) {
        row_groups(w, row, k0, (int)(n / 32), s, lo);
        for (int g = 0; n >= SR_KC; n -= SR_KC, k0 += SR_KC, g += 8, code += SR_KC) {
            uint8_t q[SR_KC];
            raw(w, row, k0, q);
            affine_panel(vb8_load(q), 15, s + g, lo + g, code, scale++);
        }
    }
    if (n) sr_panel_coarse(w, row, k0, n, code, scale, min);
}
static void panel_gptq4(const sr_weight *w, int64_t row, int64_t k0, int64_t n, int8_t *code, float *scale,
                        float *min) {
    panel_row(w, row, k0, n, code, scale, min, gptq4_raw);
}
static void panel_awq4(const sr_weight *w, int64_t row, int64_t k0, int64_t n, int8_t *code, float *scale, float *min) {
    panel_row(w, row, k0, n, code, scale, min, awq4_raw);
}

/* 32 columns of SR_MR rows from row0 on. */
typedef void raw_rows_fn(const sr_weight *w, int64_t row0, int64_t k, int8_t *code, int64_t pitch);

V_INLINE void gptq4_raw_rows(const sr_weight *w, int64_t row0, int64_t k, int8_t *code, int64_t pitch) {
    const int64_t step = 4 * w->N;
#pragma GCC unroll 2
    for (int h = 0; h < 2; h++) { /* eight rows, a word of eight columns each in a vector */
        const uint8_t *p = w->plane[SR_INTEGER_CODES].data + k / 8 * step + 4 * (row0 + 8 * h);
        vb r0 = vb_load(p), r1 = vb_load(p + step), r2 = vb_load(p + 2 * step), r3 = vb_load(p + 3 * step);
        vb a0 = vb_zip32_low(r0, r1), a1 = vb_zip32_high(r0, r1), b0 = vb_zip32_low(r2, r3), b1 = vb_zip32_high(r2, r3);
        const vb both[4] = {vb_zip64_low(a0, b0), vb_zip64_high(a0, b0), vb_zip64_low(a1, b1), vb_zip64_high(a1, b1)};
#pragma GCC unroll 4
        for (int i = 0; i < 4; i++) { /* all words of rows i and 4 + i */
            vb low = vb_low4(both[i]), high = vb_high4(both[i]);
            vb first = vb_zip8_low(low, high), last = vb_zip8_high(low, high);
            vb_store(code + (8 * h + i) * pitch, vb_halves0(first, last));
            vb_store(code + (8 * h + 4 + i) * pitch, vb_halves1(first, last));
        }
    }
}

/* AWQ's 16 rows share eight bytes of each column: brought together, byte b of all 32 is one vector. */
V_INLINE void awq4_raw_rows(const sr_weight *w, int64_t row0, int64_t k, int8_t *code, int64_t pitch) {
    static const uint8_t low[4] = {0, 4, 1, 5}, high[4] = {2, 6, 3, 7};
    const int64_t step = w->plane[SR_INTEGER_CODES].stride;
    const uint8_t *p = w->plane[SR_INTEGER_CODES].data + k * step + row0 / 2;
    vb r[8], t[8];
#pragma GCC unroll 8
    for (int i = 0; i < 8; i++) r[i] = vb_four_of_8(p + i * step, 8 * step);
#pragma GCC unroll 4
    for (int i = 0; i < 4; i++) {
        t[i] = vb_zip8_low(r[2 * i], r[2 * i + 1]);
        t[4 + i] = vb_zip8_high(r[2 * i], r[2 * i + 1]);
    }
#pragma GCC unroll 4
    for (int i = 0; i < 4; i++) {
        r[2 * i] = vb_zip16_low(t[2 * i], t[2 * i + 1]);
        r[2 * i + 1] = vb_zip16_high(t[2 * i], t[2 * i + 1]);
    }
    /* two each of columns 0-3, 4-7 (and 16 on), 8-11, 12-15 (and 24 on): bytes 0-3, then 4-7 */
#pragma GCC unroll 2
    for (int h = 0; h < 2; h++) {
        vb a0 = vb_zip32_low(r[h], r[2 + h]), a1 = vb_zip32_high(r[h], r[2 + h]);
        vb b0 = vb_zip32_low(r[4 + h], r[6 + h]), b1 = vb_zip32_high(r[4 + h], r[6 + h]);
        const vb c[4] = {vb_zip64_low(a0, b0), vb_zip64_high(a0, b0), vb_zip64_low(a1, b1), vb_zip64_high(a1, b1)};
#pragma GCC unroll 4
        for (int b = 0; b < 4; b++) {
            vb_store(code + (8 * h + low[b]) * pitch, vb_low4(c[b]));
            vb_store(code + (8 * h + high[b]) * pitch, vb_high4(c[b]));
        }
    }
}

V_INLINE void panel_rows_of(const sr_weight *w, int64_t row0, int64_t k0, int64_t n, sr_panel *panel, sr_ahead next,
                            raw_rows_fn *raw, const uint8_t *order) {
    const int64_t pitch = sizeof panel->code[0];
    float s[SR_MR][SR_TILE_KC / 32], lo[SR_MR][SR_TILE_KC / 32];
    int64_t group = -1;
    for (int64_t k = 0; k < n; k += 32) raw(w, row0, k0 + k, panel->code[0] + k, pitch);
    for (int i = 0; i < n / 32; i++) {
        const int64_t g = (k0 + 32 * i) / w->spec.group;
        if (g == group) {
            for (int r = 0; r < SR_MR; r++) s[r][i] = s[r][i - 1], lo[r][i] = lo[r][i - 1];
            continue;
        }
        float sv[SR_MR], lov[SR_MR];
        for (int h = 0; h < SR_MR; h += 8) {
            vf v = scales8(w, g * w->N + row0 + h);
            vf_store(sv + h, v);
            vf_store(lov + h, vf_mul(v, vf_from_i32(zeros8(w, row0 + h, g, order))));
        }
        for (int r = 0; r < SR_MR; r++) s[r][i] = sv[r], lo[r][i] = lov[r];
        group = g;
    }
    for (int r = 0; r < SR_MR; r++) {
        sr_prefetch(next, r, SR_MR);
        for (int b = 0; b < n / SR_KC; b++) {
            int8_t *code = panel->code[r] + b * SR_KC;
            affine_panel(vb8_load((const uint8_t *)code), 15, s[r] + 8 * b, lo[r] + 8 * b, code, &panel->scale[r][b]);
        }
    }
}
static void panel_rows_gptq4(const sr_weight *w, int64_t row0, int64_t k0, int64_t n, sr_panel *panel, sr_ahead next) {
    if (panel_by_table(w) && n % SR_KC == 0)
        panel_rows_of(w, row0, k0, n, panel, next, gptq4_raw_rows, gptq4_order);
    else
        for (int r = 0; r < SR_MR; r++) panel_gptq4(w, row0 + r, k0, n, panel->code[r], panel->scale[r], NULL);
}
static void panel_rows_awq4(const sr_weight *w, int64_t row0, int64_t k0, int64_t n, sr_panel *panel, sr_ahead next) {
    if (panel_by_table(w) && n % SR_KC == 0)
        panel_rows_of(w, row0, k0, n, panel, next, awq4_raw_rows, awq4_order);
    else
        for (int r = 0; r < SR_MR; r++) panel_awq4(w, row0 + r, k0, n, panel->code[r], panel->scale[r], NULL);
}
