/* Fast decoding and dots of FP8 (fp8.c, MLX's mxfp8), in the vocabulary of cpu/simd_x86.h. A byte of E4M3 is an f16 of
 * 256 times less once its exponent has a fifth bit in front, subnormals included; a byte of E5M2 is the upper half of
 * an f16. The FNUZ kinds are half of these. Where NaN is no NaN then, a row that has one is found beside, and left to
 * decode. */

typedef struct fp8_kind {
    vf (*values)(const uint8_t *p); /* eight, divided by `by` */
    float by;
    int nan_mask, nan; /* a byte is NaN when these bits of it are this; mask 0: as values has it */
    float (*scale)(const sr_weight *w, int64_t row, int64_t k, int64_t *end); /* of columns k .. *end of a row */
} fp8_kind;

/* Whether one of n bytes is NaN. */
V_INLINE bool fp8_has_nan(const uint8_t *p, int64_t n, const fp8_kind kind) {
    const vb mask = vb_set1(kind.nan_mask), nan = vb_set1(kind.nan);
    vb found = vb_set1(0);
    int64_t i = 0;
    bool any = false;
    if (!kind.nan_mask) return false;
    for (; i + 32 <= n; i += 32) found = vb_or(found, vb_equal(vb_and(vb_load(p + i), mask), nan));
    for (; i < n; i++) any = any || (p[i] & kind.nan_mask) == kind.nan;
    return any || vb_any(found);
}

V_INLINE void fp8_decode(const sr_weight *w, int64_t row, int64_t k0, int64_t n, float *out, const fp8_kind kind) {
    const uint8_t *p = w->plane[SR_FP8_WEIGHT].data + row * w->plane[SR_FP8_WEIGHT].stride + k0;
    const vf by = vf_set1(kind.by);
    if (fp8_has_nan(p, n, kind)) {
        w->fmt->decode(w, row, k0, n, out);
        return;
    }
    for (int64_t k = 0, end; k < n; k = end) {
        const vf scale = vf_set1(kind.scale(w, row, k0 + k, &end));
        end = end - k0 < n ? end - k0 : n;
        int64_t i = k;
        for (; i + 8 <= end; i += 8) vf_store(out + i, vf_mul(vf_mul(kind.values(p + i), by), scale));
        if (i < end) w->fmt->decode(w, row, k0 + i, end - i, out + i);
    }
}

V_INLINE vf4 fp8_step(vf4 a, vf v, const float *x, int64_t ld_x, const int T) {
    a.t0 = vf_fma(v, vf_load(x), a.t0);
    if (T > 1) a.t1 = vf_fma(v, vf_load(x + ld_x), a.t1);
    if (T > 2) a.t2 = vf_fma(v, vf_load(x + 2 * ld_x), a.t2);
    if (T > 3) a.t3 = vf_fma(v, vf_load(x + 3 * ld_x), a.t3);
    return a;
}
V_INLINE vf4 fp8_close(vf4 sum, vf4 a, vf4 b, vf scale, const int T) {
    sum.t0 = vf_fma(vf_add(a.t0, b.t0), scale, sum.t0);
    if (T > 1) sum.t1 = vf_fma(vf_add(a.t1, b.t1), scale, sum.t1);
    if (T > 2) sum.t2 = vf_fma(vf_add(a.t2, b.t2), scale, sum.t2);
    if (T > 3) sum.t3 = vf_fma(vf_add(a.t3, b.t3), scale, sum.t3);
    return sum;
}

V_INLINE void fp8_dot_t(const sr_weight *w, int64_t row0, int n_rows, const float *x, int64_t ld_x, float *y,
                        int64_t ld_y, const int T, const fp8_kind kind) {
    for (int i = 0; i < n_rows; i++) {
        const uint8_t *p = w->plane[SR_FP8_WEIGHT].data + (row0 + i) * w->plane[SR_FP8_WEIGHT].stride;
        vf4 sum = vf4_zero();
        float rest[4] = {0};
        for (int64_t k = 0, end; k < w->K; k = end) {
            float scale = kind.scale(w, row0 + i, k, &end);
            vf4 a = vf4_zero(), b = vf4_zero();
            end = end < w->K ? end : w->K;
            for (; k + 16 <= end; k += 16) {
                __builtin_prefetch(p + k + AHEAD);
                a = fp8_step(a, kind.values(p + k), x + k, ld_x, T);
                b = fp8_step(b, kind.values(p + k + 8), x + k + 8, ld_x, T);
            }
            sum = fp8_close(sum, a, b, vf_set1(scale * kind.by), T);
            for (float v; k < end; k++) {
                w->fmt->decode(w, row0 + i, k, 1, &v);
                for (int t = 0; t < T; t++) rest[t] += v * x[t * ld_x + k];
            }
        }
        y[i] = vf_sum(sum.t0) + rest[0];
        if (T > 1) y[ld_y + i] = vf_sum(sum.t1) + rest[1];
        if (T > 2) y[2 * ld_y + i] = vf_sum(sum.t2) + rest[2];
        if (T > 3) y[3 * ld_y + i] = vf_sum(sum.t3) + rest[3];
        if (fp8_has_nan(p, w->K, kind))
            for (int t = 0; t < T; t++) y[t * ld_y + i] = NAN;
    }
}
V_INLINE void fp8_dot(const sr_weight *w, int64_t row0, int n_rows, const float *x, int64_t ld_x, int T, float *y,
                      int64_t ld_y, const fp8_kind kind) {
    if (T == 1) fp8_dot_t(w, row0, n_rows, x, ld_x, y, ld_y, 1, kind);
    if (T == 2) fp8_dot_t(w, row0, n_rows, x, ld_x, y, ld_y, 2, kind);
    if (T == 3) fp8_dot_t(w, row0, n_rows, x, ld_x, y, ld_y, 3, kind);
    if (T == 4) fp8_dot_t(w, row0, n_rows, x, ld_x, y, ld_y, 4, kind);
}

/* MLX: a scale a 32 columns, 255 is infinite. */
V_INLINE float mxfp8_scale(const sr_weight *w, int64_t row, int64_t k, int64_t *end) {
    const uint8_t s = w->plane[1].data[row * (w->K / 32) + k / 32];
    *end = (k / 32 + 1) * 32;
    return s == 255 ? INFINITY : sr_e8m0_to_f32(s);
}

static void decode_fp8_e4m3(const sr_weight *w, int64_t row, int64_t k0, int64_t n, float *out) {
    fp8_decode(w, row, k0, n, out, (fp8_kind){vf_from_e4m3_256th, 256, 0x7f, 0x7f, sr_fp8_scale});
}
static void dot_fp8_e4m3(const sr_weight *w, int64_t row0, int n_rows, const float *x, int64_t ld_x, int T, float *y,
                         int64_t ld_y) {
    fp8_dot(w, row0, n_rows, x, ld_x, T, y, ld_y, (fp8_kind){vf_from_e4m3_256th, 256, 0x7f, 0x7f, sr_fp8_scale});
}
static void decode_fp8_e5m2(const sr_weight *w, int64_t row, int64_t k0, int64_t n, float *out) {
    fp8_decode(w, row, k0, n, out, (fp8_kind){vf_from_e5m2, 1, 0, 0, sr_fp8_scale});
}
static void dot_fp8_e5m2(const sr_weight *w, int64_t row0, int n_rows, const float *x, int64_t ld_x, int T, float *y,
                         int64_t ld_y) {
    fp8_dot(w, row0, n_rows, x, ld_x, T, y, ld_y, (fp8_kind){vf_from_e5m2, 1, 0, 0, sr_fp8_scale});
}
static void decode_fp8_e4m3fnuz(const sr_weight *w, int64_t row, int64_t k0, int64_t n, float *out) {
    fp8_decode(w, row, k0, n, out, (fp8_kind){vf_from_e4m3_256th, 128, 0xff, 0x80, sr_fp8_scale});
}
static void dot_fp8_e4m3fnuz(const sr_weight *w, int64_t row0, int n_rows, const float *x, int64_t ld_x, int T,
                             float *y, int64_t ld_y) {
    fp8_dot(w, row0, n_rows, x, ld_x, T, y, ld_y, (fp8_kind){vf_from_e4m3_256th, 128, 0xff, 0x80, sr_fp8_scale});
}
static void decode_fp8_e5m2fnuz(const sr_weight *w, int64_t row, int64_t k0, int64_t n, float *out) {
    fp8_decode(w, row, k0, n, out, (fp8_kind){vf_from_e5m2fnuz, 1, 0xff, 0x80, sr_fp8_scale});
}
static void dot_fp8_e5m2fnuz(const sr_weight *w, int64_t row0, int n_rows, const float *x, int64_t ld_x, int T,
                             float *y, int64_t ld_y) {
    fp8_dot(w, row0, n_rows, x, ld_x, T, y, ld_y, (fp8_kind){vf_from_e5m2fnuz, 1, 0xff, 0x80, sr_fp8_scale});
}
static void decode_mlx_mxfp8(const sr_weight *w, int64_t row, int64_t k0, int64_t n, float *out) {
    fp8_decode(w, row, k0, n, out, (fp8_kind){vf_from_e4m3_256th, 256, 0x7f, 0x7f, mxfp8_scale});
}
static void dot_mlx_mxfp8(const sr_weight *w, int64_t row0, int n_rows, const float *x, int64_t ld_x, int T, float *y,
                          int64_t ld_y) {
    fp8_dot(w, row0, n_rows, x, ld_x, T, y, ld_y, (fp8_kind){vf_from_e4m3_256th, 256, 0x7f, 0x7f, mxfp8_scale});
}
