/* Fast dots and unpackers of formats whose words run along N (gptq.c, awq.c), written once in the vocabulary of
 * cpu/simd_x86.h. A lane is a row, so that nothing is summed across lanes: 64 rows share each broadcast of x. Sums of a
 * group are exact in int32; scale and x's scale come after, in one fused multiply-add a group, for every row alike. */

enum { ROWS = 64, VECTORS = ROWS / 8 };

/* acc[t][row] = codes . x[t] of n columns from k on, all in one group and one block of x, for ROWS rows. */
typedef void product_fn(const sr_weight *w, int64_t row0, int64_t k, int n, v_x x, int32_t (*acc)[ROWS], const int T);

/* ---------------------------------------------------------------- GPTQ, 4 bits
 * A word has eight columns of a row: its even nibbles meet columns 0 2 4 6 of x, the odd ones 1 3 5 7. */

V_INLINE void gptq4_rows(const uint8_t *p, int64_t step, int n_words, const int8_t *x, int32_t (*acc)[ROWS],
                         const int V, const int T) {
    vi a[8];
#pragma GCC unroll 8
    for (int i = 0; i < V * T; i++) a[i] = vi_zero();
    for (int j = 0; j < n_words; j++, p += step, x += 8) {
        __builtin_prefetch(p + 16 * step);
        if (V > 2) __builtin_prefetch(p + 16 * step + 64);
        if (V > 4) __builtin_prefetch(p + 16 * step + 128);
        if (V > 4) __builtin_prefetch(p + 16 * step + 192);
#pragma GCC unroll 8
        for (int v = 0; v < V; v++) {
            vb w = vb_load(p + 32 * v), low = vb_low4(w), high = vb_high4(w);
#pragma GCC unroll 4
            for (int t = 0; t < T; t++) {
                a[t * V + v] = vi_dot_u6(a[t * V + v], low, vb_four(x + t * SR_KC));
                a[t * V + v] = vi_dot_u6(a[t * V + v], high, vb_four(x + t * SR_KC + 4));
            }
        }
    }
#pragma GCC unroll 4
    for (int t = 0; t < T; t++)
#pragma GCC unroll 8
        for (int v = 0; v < V; v++) vi_store(acc[t] + 8 * v, a[t * V + v]);
}

V_INLINE void gptq4_product(const sr_weight *w, int64_t row0, int64_t k, int n, v_x x, int32_t (*acc)[ROWS],
                            const int T) {
    static const int8_t even_odd[16] = {0, 2, 4, 6, 1, 3, 5, 7, 8, 10, 12, 14, 9, 11, 13, 15};
    const vb order = vb_twice(even_odd);
    const int64_t step = 4 * w->N;
    const uint8_t *p = w->plane[SR_INTEGER_CODES].data + k / 8 * step + 4 * row0;
    const int words = (int)(w->K - k < n ? (w->K - k + 7) / 8 : n / 8);
    int8_t sorted[SR_DOT_MAX * SR_KC + 16];
    for (int t = 0; t < T; t++)
        for (int i = 0; i < n; i += 32)
            vb_store(sorted + t * SR_KC + i, vb_lookup(x_code(x, t, (int)(k % SR_KC) + i), order));
    const int V = T == 1 ? 8 : T == 2 ? 4 : 2;
    for (int v = 0; v < VECTORS; v += V)
        gptq4_rows(p + 32 * v, step, words, sorted, (int32_t(*)[ROWS])(void *)(acc[0] + 8 * v), V, T);
}

/* ---------------------------------------------------------------- AWQ, 4 bits, gemm
 * A word has eight rows of a column. Bytes of four columns are brought together, four a lane; the low nibbles of lanes
 * 0 .. 3 are then rows 0 4 1 5 of word r of each half, the high ones rows 2 6 3 7. */

V_INLINE void awq4_product(const sr_weight *w, int64_t row0, int64_t k, int n, v_x x, int32_t (*acc)[ROWS],
                           const int T) {
    const int64_t step = w->plane[SR_INTEGER_CODES].stride;
    const uint8_t *p = w->plane[SR_INTEGER_CODES].data + k * step + row0 / 2;
    const int columns = (int)(w->K - k < n ? w->K - k : n), at = (int)(k % SR_KC);
    for (int t0 = 0; t0 < T; t0 += 2) {
        const int P = T - t0 < 2 ? 1 : 2;
        vi low[2][4], high[2][4];
#pragma GCC unroll 2
        for (int t = 0; t < P; t++)
#pragma GCC unroll 4
            for (int r = 0; r < 4; r++) low[t][r] = high[t][r] = vi_zero();
        const uint8_t *q = p;
        for (int i = 0; i < columns; i += 4, q += 4 * step) {
            const int64_t s = i + 4 <= columns ? step : 0; /* columns past K meet zeros of x */
            __builtin_prefetch(q + 32 * step);
            __builtin_prefetch(q + 33 * step);
            __builtin_prefetch(q + 34 * step);
            __builtin_prefetch(q + 35 * step);
            vb q0 = vb_load(q), q1 = vb_load(q + (columns - i > 1 ? step : 0)),
               q2 = vb_load(q + (columns - i > 2 ? 2 * step : 0)), q3 = vb_load(q + 3 * s);
            vb a0 = vb_zip8_low(q0, q1), a1 = vb_zip8_high(q0, q1), b0 = vb_zip8_low(q2, q3), b1 = vb_zip8_high(q2, q3);
            vb c[4] = {vb_zip16_low(a0, b0), vb_zip16_high(a0, b0), vb_zip16_low(a1, b1), vb_zip16_high(a1, b1)};
#pragma GCC unroll 4
            for (int r = 0; r < 4; r++)
#pragma GCC unroll 2
                for (int t = 0; t < P; t++) {
                    vb four = vb_four(x.code + (t0 + t) * x.pitch * SR_KC + at + i);
                    low[t][r] = vi_dot_u6(low[t][r], vb_low4(c[r]), four);
                    high[t][r] = vi_dot_u6(high[t][r], vb_high4(c[r]), four);
                }
        }
#pragma GCC unroll 2
        for (int t = 0; t < P; t++)
#pragma GCC unroll 4
            for (int r = 0; r < 4; r++) {
                vi first = vi_deal_first(low[t][r], high[t][r]), last = vi_deal_last(low[t][r], high[t][r]);
                vi_store(acc[t0 + t] + 8 * r, vb_halves0(first, last));
                vi_store(acc[t0 + t] + 8 * (4 + r), vb_halves1(first, last));
            }
    }
}

/* ---------------------------------------------------------------- what both share */

V_INLINE vf scales8(const sr_weight *w, int64_t i) {
    const uint8_t *p = w->plane[SR_INTEGER_SCALES].data;
    const sr_stored *type = w->plane[SR_INTEGER_SCALES].type;
    if (type->bytes == 4) return vf_load((const float *)(const void *)(p + 4 * i));
    const uint16_t *half = (const uint16_t *)(const void *)(p + 2 * i);
    return type->name[0] == 'f' ? vf_from_f16(half) : vf_from_bf16(half);
}

/* y[t][row] += of one group */
V_INLINE void finish_rows(const sr_weight *w, int64_t row0, int64_t g, int32_t (*acc)[ROWS], const int32_t *sum,
                          const float *x_scales, float *y, int64_t ld_y, const int T) {
    const sr_integer *a = w->aux;
    for (int v = 0; v < VECTORS; v++) {
        int32_t zeros[8];
        for (int i = 0; i < 8; i++) zeros[i] = a->zero(w, row0 + 8 * v + i, g);
        vi z = vi_load(zeros);
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

V_INLINE void dot_along_rows_t(const sr_weight *w, int64_t row0, int n_rows, const sr_x8 *x8, float *y, int64_t ld_y,
                               product_fn *product, const int T) {
    const int whole = row0 % 8 ? 0 : n_rows / ROWS * ROWS;
    v_x x = {x8->code, x8->sum, x8->scale, x8->n_block};
    for (int t = 0; t < T; t++) memset(y + t * ld_y, 0, (size_t)n_rows * sizeof *y);
    for (int64_t k = 0; k < w->K; k += SR_KC, x.code += SR_KC, x.sum += SR_KC / SR_SUM, x.scale++)
        for (int at = 0; at < SR_KC && k + at < w->K; at += w->group) {
            int32_t acc[SR_DOT_MAX][ROWS], sum[SR_DOT_MAX] = {0};
            float x_scales[SR_DOT_MAX];
            for (int t = 0; t < T; t++) {
                for (int i = 0; i < w->group; i += SR_SUM)
                    sum[t] += x.sum[t * x.pitch * (SR_KC / SR_SUM) + (at + i) / SR_SUM];
                x_scales[t] = x.scale[t * x.pitch];
            }
            for (int r = 0; r < whole; r += ROWS) {
                product(w, row0 + r, k + at, w->group, x, acc, T);
                finish_rows(w, row0 + r, (k + at) / w->spec.group, acc, sum, x_scales, y + r, ld_y, T);
            }
            for (int r = whole; r < n_rows; r++)
                add_row(w, row0 + r, k + at, w->group, x, sum, x_scales, y + r, ld_y, T);
        }
}
V_INLINE void dot_along_rows(const sr_weight *w, int64_t row0, int n_rows, const sr_x8 *x, float *y, int64_t ld_y,
                             product_fn *product) {
    if (x->T == 1) dot_along_rows_t(w, row0, n_rows, x, y, ld_y, product, 1);
    if (x->T == 2) dot_along_rows_t(w, row0, n_rows, x, y, ld_y, product, 2);
    if (x->T == 3) dot_along_rows_t(w, row0, n_rows, x, y, ld_y, product, 3);
    if (x->T == 4) dot_along_rows_t(w, row0, n_rows, x, y, ld_y, product, 4);
}

static void dot_gptq4(const sr_weight *w, int64_t row0, int n_rows, const sr_x8 *x, float *y, int64_t ld_y) {
    dot_along_rows(w, row0, n_rows, x, y, ld_y, gptq4_product);
}
static void dot_awq4(const sr_weight *w, int64_t row0, int n_rows, const sr_x8 *x, float *y, int64_t ld_y) {
    dot_along_rows(w, row0, n_rows, x, y, ld_y, awq4_product);
}

/* ---------------------------------------------------------------- unpacking one row
 * Its words lie N apart: sixteen rows of a panel share each cache line. */

/* q[SR_KC] of up to SR_KC columns from k on; what lies behind n is undefined. */
typedef void raw_fn(const sr_weight *w, int64_t row, int64_t k, int n, uint8_t *q);

V_INLINE void gptq4_raw(const sr_weight *w, int64_t row, int64_t k, int n, uint8_t *q) {
    const int64_t step = 4 * w->N;
    const uint8_t *p = w->plane[SR_INTEGER_CODES].data + k / 8 * step + 4 * row;
    uint8_t words[SR_KC / 2] = {0};
    for (int i = 0; i < (n + 7) / 8; i++, p += step) memcpy(words + 4 * i, p, 4);
    for (int i = 0; i < n; i += 64) {
        vb v = vb_load(words + i / 2), low = vb_low4(v), high = vb_high4(v);
        vb first = vb_zip8_low(low, high), last = vb_zip8_high(low, high);
        vb_store(q + i, vb_halves0(first, last));
        vb_store(q + i + 32, vb_halves1(first, last));
    }
}
V_INLINE void awq4_raw(const sr_weight *w, int64_t row, int64_t k, int n, uint8_t *q) {
    static const uint8_t byte[8] = {0, 2, 0, 2, 1, 3, 1, 3}, high[8] = {0, 0, 1, 1, 0, 0, 1, 1};
    const int64_t step = w->plane[SR_INTEGER_CODES].stride;
    const uint8_t *p = w->plane[SR_INTEGER_CODES].data + k * step + row / 8 * 4 + byte[row % 8];
    for (int i = 0; i < n; i++, p += step) q[i] = *p;
    for (int i = 0; i < n; i += 32) {
        vb v = vb_load(q + i);
        vb_store(q + i, high[row % 8] ? vb_high4(v) : vb_low4(v));
    }
}

V_INLINE void unpack_row(const sr_weight *w, int64_t row, int64_t k0, int64_t n, int8_t *code, float *scale,
                         raw_fn *raw) {
    const sr_integer *a = w->aux;
    for (int64_t i = 0; i < n; i += SR_KC) {
        const int m = n - i < SR_KC ? (int)(n - i) : SR_KC;
        uint8_t q[SR_KC + 64] = {0};
        raw(w, row, k0 + i, m, q);
        for (int at = 0; at < m; at += w->group) {
            const int64_t g = (k0 + i + at) / w->spec.group;
            const int end = at + w->group < m ? at + w->group : m, zero = a->zero(w, row, g);
            int j = at;
            *scale++ = sr_plane_float(w, SR_INTEGER_SCALES, g * w->N + row);
            for (; j + 32 <= end; j += 32) vb_store(code + i + j, vb_sub(vb_load(q + j), vb_set1(zero)));
            for (; j < end; j++) code[i + j] = (int8_t)(q[j] - zero);
        }
    }
}
static void unpack_gptq4(const sr_weight *w, int64_t row, int64_t k0, int64_t n, int8_t *code, float *scale,
                         float *min) {
    (void)min;
    unpack_row(w, row, k0, n, code, scale, gptq4_raw);
}
static void unpack_awq4(const sr_weight *w, int64_t row, int64_t k0, int64_t n, int8_t *code, float *scale,
                        float *min) {
    (void)min;
    unpack_row(w, row, k0, n, code, scale, awq4_raw);
}
