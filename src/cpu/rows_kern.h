/* Row operations, written once in the f32 vocabulary; each instruction set's .c includes this after its simd_<isa>.h.
 * Tails go through a zero-padded copy of 8, so that a result does not depend on where a row lies. */

/* exp(x) for x <= 88; below -87 it gives 0. Cody and Waite's reduction, degree 6; relative error below 2e-7. */
#define EXP(V)                                                                                                         \
    static inline V exp_##V(V x) {                                                                                     \
        const V low = V##_set1(-87.0f);                                                                                \
        V in = V##_max(x, low);                                                                                        \
        V n = V##_round(V##_mul(in, V##_set1(1.44269504088896341f)));                                                  \
        V r = V##_fma(n, V##_set1(-0.693359375f), in);                                                                 \
        r = V##_fma(n, V##_set1(2.12194440e-4f), r);                                                                   \
        V p = V##_set1(1.9875691500e-4f);                                                                              \
        p = V##_fma(p, r, V##_set1(1.3981999507e-3f));                                                                 \
        p = V##_fma(p, r, V##_set1(8.3334519073e-3f));                                                                 \
        p = V##_fma(p, r, V##_set1(4.1665795894e-2f));                                                                 \
        p = V##_fma(p, r, V##_set1(1.6666665459e-1f));                                                                 \
        p = V##_fma(p, r, V##_set1(5.0000001201e-1f));                                                                 \
        p = V##_fma(p, V##_mul(r, r), V##_add(r, V##_set1(1)));                                                        \
        V y = V##_mul(p, V##_pow2(n));                                                                                 \
        /* (x - low) is negative for what was clamped: step down to 0 there, exactly */                                \
        V keep = V##_min(V##_max(V##_mul(V##_sub(x, low), V##_set1(0x1p40f)), V##_set1(0)), V##_set1(1));              \
        return V##_mul(y, keep);                                                                                       \
    }
EXP(vf)

static inline vf load_tail(const float *p, int64_t n) {
    float buf[8] = {0};
    memcpy(buf, p, (size_t)n * sizeof *p);
    return vf_load(buf);
}
static inline void store_tail(float *p, vf v, int64_t n) {
    float buf[8];
    vf_store(buf, v);
    memcpy(p, buf, (size_t)n * sizeof *p);
}

static void rms_norm(const float *x, int d, const float *weight, float eps, float *out) {
    vf sum = vf_set1(0);
    int i = 0;
    for (; i + 8 <= d; i += 8) {
        vf v = vf_load(x + i);
        sum = vf_fma(v, v, sum);
    }
    if (i < d) {
        vf v = load_tail(x + i, d - i);
        sum = vf_fma(v, v, sum);
    }
    vf scale = vf_set1(1.0f / sqrtf(vf_sum(sum) / (float)d + eps));
    for (i = 0; i + 8 <= d; i += 8) vf_store(out + i, vf_mul(vf_mul(vf_load(x + i), scale), vf_load(weight + i)));
    if (i < d) store_tail(out + i, vf_mul(vf_mul(load_tail(x + i, d - i), scale), load_tail(weight + i, d - i)), d - i);
}

static void layer_norm(const float *x, int d, const float *weight, const float *bias, float eps, float *out) {
    vf sum = vf_set1(0);
    int i = 0;
    for (; i + 8 <= d; i += 8) sum = vf_add(sum, vf_load(x + i));
    if (i < d) sum = vf_add(sum, load_tail(x + i, d - i));
    const vf mean = vf_set1(vf_sum(sum) / (float)d);
    sum = vf_set1(0);
    for (i = 0; i + 8 <= d; i += 8) {
        vf v = vf_sub(vf_load(x + i), mean);
        vf_store(out + i, v);
        sum = vf_fma(v, v, sum);
    }
    if (i < d) {
        store_tail(out + i, vf_sub(load_tail(x + i, d - i), mean), d - i);
        vf v = load_tail(out + i, d - i); /* zeros behind the row, not minus the mean */
        sum = vf_fma(v, v, sum);
    }
    const vf scale = vf_set1(1.0f / sqrtf(vf_sum(sum) / (float)d + eps)), zero = vf_set1(0);
    for (i = 0; i + 8 <= d; i += 8)
        vf_store(out + i,
                 vf_fma(vf_mul(vf_load(out + i), scale), vf_load(weight + i), bias ? vf_load(bias + i) : zero));
    if (i < d)
        store_tail(out + i,
                   vf_fma(vf_mul(load_tail(out + i, d - i), scale), load_tail(weight + i, d - i),
                          bias ? load_tail(bias + i, d - i) : zero),
                   d - i);
}

static void add_rows(float *x, const float *y, int64_t n) {
    int64_t i = 0;
    for (; i + 8 <= n; i += 8) vf_store(x + i, vf_add(vf_load(x + i), vf_load(y + i)));
    for (; i < n; i++) x[i] += y[i];
}

static void axpy(float *x, const float *y, int64_t n, float scale) {
    const vf s = vf_set1(scale);
    int64_t i = 0;
    for (; i + 8 <= n; i += 8) vf_store(x + i, vf_fma(vf_load(y + i), s, vf_load(x + i)));
    if (i < n) store_tail(x + i, vf_fma(load_tail(y + i, n - i), s, load_tail(x + i, n - i)), n - i);
}

/* x / (1 + exp(-z)) for an x of z's sign; exp only of what is at most 0, so that nothing overflows. */
static inline vf gated_vf(vf x, vf z) {
    vf e = exp_vf(vf_sub(vf_set1(0), vf_abs(z)));
    vf pos = vf_max(x, vf_set1(0)), neg = vf_min(x, vf_set1(0)); /* one of them is zero */
    return vf_div(vf_fma(neg, e, pos), vf_add(vf_set1(1), e));
}
static inline vf silu_vf(vf x) {
    return gated_vf(x, x);
}
static inline vf gelu_tanh_vf(vf x) { /* (1 + tanh u) / 2 = 1 / (1 + exp(-2 u)), which does not cancel */
    vf cube = vf_fma(vf_mul(vf_mul(x, x), x), vf_set1(0.044715f), x);
    return gated_vf(x, vf_mul(cube, vf_set1(1.59576912160573f))); /* 2 sqrt(2 / pi) */
}
static inline vf relu2_vf(vf x) {
    vf pos = vf_max(x, vf_set1(0));
    return vf_mul(pos, pos);
}

V_INLINE void act_rows(const float *gate, const float *up, int n, float *out, vf (*act)(vf x)) {
    int i = 0;
    for (; i + 8 <= n; i += 8) {
        vf y = act(vf_load(gate + i));
        vf_store(out + i, up ? vf_mul(y, vf_load(up + i)) : y);
    }
    if (i < n) {
        vf y = act(load_tail(gate + i, n - i));
        store_tail(out + i, up ? vf_mul(y, load_tail(up + i, n - i)) : y, n - i);
    }
}
static void silu(const float *gate, const float *up, int n, float *out) {
    act_rows(gate, up, n, out, silu_vf);
}
static void gelu_tanh(const float *gate, const float *up, int n, float *out) {
    act_rows(gate, up, n, out, gelu_tanh_vf);
}
static void relu2(const float *gate, const float *up, int n, float *out) {
    act_rows(gate, up, n, out, relu2_vf);
}

/* gpt-oss's. */
static inline vf swiglu_vf(vf gate, vf up) {
    const vf limit = vf_set1(7), one = vf_set1(1);
    const vf x = vf_min(gate, limit), y = vf_max(vf_min(up, limit), vf_sub(vf_set1(0), limit));
    return vf_mul(gated_vf(x, vf_mul(x, vf_set1(1.702f))), vf_add(y, one));
}
static void swiglu(const float *gate, const float *up, int n, float *out) {
    int i = 0;
    for (; i + 8 <= n; i += 8) vf_store(out + i, swiglu_vf(vf_load(gate + i), vf_load(up + i)));
    if (i < n) store_tail(out + i, swiglu_vf(load_tail(gate + i, n - i), load_tail(up + i, n - i)), n - i);
}
/* out may be pairs: what is written lies behind what is read. */
static void swiglu_pairs(const float *pairs, const float *up, int n, float *out) {
    (void)up;
    for (int i = 0; i < n; i += 8) {
        float even[8] = {0}, odd[8] = {0};
        const int m = n - i < 8 ? n - i : 8;
        for (int j = 0; j < m; j++) even[j] = pairs[2 * (i + j)], odd[j] = pairs[2 * (i + j) + 1];
        store_tail(out + i, swiglu_vf(vf_load(even), vf_load(odd)), m);
    }
}

/* cap * tanh(x / cap), tanh y = (e - 1) / (e + 1), e = exp(2 y) */
static inline vf soft_cap_vf(vf x, float cap) {
    const vf one = vf_set1(1), end = vf_set1(20); /* tanh is 1 from 10 on */
    vf y = vf_mul(x, vf_set1(2 / cap));
    vf e = exp_vf(vf_max(vf_min(y, end), vf_sub(vf_set1(0), end)));
    return vf_mul(vf_set1(cap), vf_div(vf_sub(e, one), vf_add(e, one)));
}
static void soft_cap_rows(float *x, int64_t n, float scale, float cap) {
    const vf s = vf_set1(scale);
    int64_t i = 0;
    for (; i + 8 <= n; i += 8) {
        vf y = vf_mul(vf_load(x + i), s);
        vf_store(x + i, cap > 0 ? soft_cap_vf(y, cap) : y);
    }
    if (i < n) {
        vf y = vf_mul(load_tail(x + i, n - i), s);
        store_tail(x + i, cap > 0 ? soft_cap_vf(y, cap) : y, n - i);
    }
}

static void rope_halves(float *x, int n_pair, const float *cos, const float *sin) {
    int i = 0;
    for (; i + 8 <= n_pair; i += 8) {
        vf a = vf_load(x + i), b = vf_load(x + n_pair + i), c = vf_load(cos + i), s = vf_load(sin + i);
        vf_store(x + i, vf_sub(vf_mul(a, c), vf_mul(b, s)));
        vf_store(x + n_pair + i, vf_fma(a, s, vf_mul(b, c)));
    }
    for (; i < n_pair; i++) {
        float a = x[i], b = x[n_pair + i];
        x[i] = a * cos[i] - b * sin[i];
        x[n_pair + i] = a * sin[i] + b * cos[i];
    }
}

static void rope_adjacent(float *x, int n_pair, const float *cos, const float *sin) {
    for (int i = 0; i < n_pair; i++) {
        float a = x[2 * i], b = x[2 * i + 1];
        x[2 * i] = a * cos[i] - b * sin[i];
        x[2 * i + 1] = a * sin[i] + b * cos[i];
    }
}

/* Rows of plain floats. A column's sum is always two chains of eight lanes, so that it does not depend on how many
 * columns share the row. */
static inline vf load_f32(const uint8_t *p) {
    return vf_load((const float *)(const void *)p);
}
static inline vf load_f16(const uint8_t *p) {
    return vf_from_f16((const uint16_t *)(const void *)p);
}
static inline vf load_bf16(const uint8_t *p) {
    return vf_from_bf16((const uint16_t *)(const void *)p);
}

enum { ROW_AHEAD = 2048 }; /* bytes; see AHEAD in dot_kern.h */

V_INLINE float dot_column(const uint8_t *row, const float *x, int64_t K, vf (*load)(const uint8_t *p), const int size) {
    vf s = vf_set1(0), t = s;
    int64_t k = 0;
    for (; k + 16 <= K; k += 16) {
        __builtin_prefetch(row + k * size + ROW_AHEAD);
        s = vf_fma(load(row + k * size), vf_load(x + k), s);
        t = vf_fma(load(row + (k + 8) * size), vf_load(x + k + 8), t);
    }
    if (k + 8 <= K) s = vf_fma(load(row + k * size), vf_load(x + k), s), k += 8;
    if (k < K) {
        uint8_t tail[8 * sizeof(float)] = {0};
        memcpy(tail, row + k * size, (size_t)((K - k) * size));
        t = vf_fma(load(tail), load_tail(x + k, K - k), t);
    }
    return vf_sum(vf_add(s, t));
}
V_INLINE void dot_columns4(const uint8_t *row, const float *x, int64_t ld_x, int64_t K, float *y,
                           vf (*load)(const uint8_t *p), const int size) {
    const float *x0 = x, *x1 = x0 + ld_x, *x2 = x1 + ld_x, *x3 = x2 + ld_x;
    vf s0 = vf_set1(0), s1 = s0, s2 = s0, s3 = s0, t0 = s0, t1 = s0, t2 = s0, t3 = s0;
    int64_t k = 0;
    for (; k + 16 <= K; k += 16) {
        __builtin_prefetch(row + k * size + ROW_AHEAD);
        vf w = load(row + k * size), v = load(row + (k + 8) * size);
        s0 = vf_fma(w, vf_load(x0 + k), s0), t0 = vf_fma(v, vf_load(x0 + k + 8), t0);
        s1 = vf_fma(w, vf_load(x1 + k), s1), t1 = vf_fma(v, vf_load(x1 + k + 8), t1);
        s2 = vf_fma(w, vf_load(x2 + k), s2), t2 = vf_fma(v, vf_load(x2 + k + 8), t2);
        s3 = vf_fma(w, vf_load(x3 + k), s3), t3 = vf_fma(v, vf_load(x3 + k + 8), t3);
    }
    if (k + 8 <= K) {
        vf w = load(row + k * size);
        s0 = vf_fma(w, vf_load(x0 + k), s0), s1 = vf_fma(w, vf_load(x1 + k), s1);
        s2 = vf_fma(w, vf_load(x2 + k), s2), s3 = vf_fma(w, vf_load(x3 + k), s3);
        k += 8;
    }
    if (k < K) {
        uint8_t tail[8 * sizeof(float)] = {0};
        memcpy(tail, row + k * size, (size_t)((K - k) * size));
        vf w = load(tail);
        t0 = vf_fma(w, load_tail(x0 + k, K - k), t0), t1 = vf_fma(w, load_tail(x1 + k, K - k), t1);
        t2 = vf_fma(w, load_tail(x2 + k, K - k), t2), t3 = vf_fma(w, load_tail(x3 + k, K - k), t3);
    }
    y[0] = vf_sum(vf_add(s0, t0)), y[1] = vf_sum(vf_add(s1, t1));
    y[2] = vf_sum(vf_add(s2, t2)), y[3] = vf_sum(vf_add(s3, t3));
}

static void dot_f32(const float *row, const float *x, int64_t ld_x, int n_x, int64_t K, float *y) {
    const uint8_t *p = (const uint8_t *)(const void *)row;
    int t = 0;
    for (; t + 4 <= n_x; t += 4) dot_columns4(p, x + t * ld_x, ld_x, K, y + t, load_f32, sizeof(float));
    for (; t < n_x; t++) y[t] = dot_column(p, x + t * ld_x, K, load_f32, sizeof(float));
}

V_INLINE void dot_float_rows(const sr_weight *w, int64_t row0, int n_rows, const float *x, int64_t ld_x, int T,
                             float *y, int64_t ld_y, vf (*load)(const uint8_t *p), const int size) {
    const uint8_t *row = w->plane[0].data + row0 * w->plane[0].stride;
    for (int i = 0; i < n_rows; i++, row += w->plane[0].stride) {
        float r[SR_DOT_MAX];
        if (T == 4)
            dot_columns4(row, x, ld_x, w->K, r, load, size);
        else
            for (int t = 0; t < T; t++) r[t] = dot_column(row, x + t * ld_x, w->K, load, size);
        for (int t = 0; t < T; t++) y[t * ld_y + i] = r[t];
    }
}
static void dot_f32_rows(const sr_weight *w, int64_t row0, int n_rows, const float *x, int64_t ld_x, int T, float *y,
                         int64_t ld_y) {
    dot_float_rows(w, row0, n_rows, x, ld_x, T, y, ld_y, load_f32, 4);
}
static void dot_f16_rows(const sr_weight *w, int64_t row0, int n_rows, const float *x, int64_t ld_x, int T, float *y,
                         int64_t ld_y) {
    dot_float_rows(w, row0, n_rows, x, ld_x, T, y, ld_y, load_f16, 2);
}
static void dot_bf16_rows(const sr_weight *w, int64_t row0, int n_rows, const float *x, int64_t ld_x, int T, float *y,
                          int64_t ld_y) {
    dot_float_rows(w, row0, n_rows, x, ld_x, T, y, ld_y, load_bf16, 2);
}

static void quantize(const float *x, int64_t K, int8_t *code, float *scale, int16_t *sum) {
    for (int64_t k0 = 0; k0 < K; k0 += SR_KC, code += SR_KC, scale++, sum += SR_KC / SR_SUM) {
        float copy[SR_KC];
        const float *block = x + k0;
        if (K - k0 < SR_KC) {
            memset(copy, 0, sizeof copy);
            memcpy(copy, block, (size_t)(K - k0) * sizeof *x);
            block = copy;
        }
        vf top0 = vf_set1(0), top1 = top0, odd0 = top0, odd1 = top0;
        for (int i = 0; i < SR_KC; i += 16) {
            vf a = vf_load(block + i), b = vf_load(block + i + 8);
            top0 = vf_max(top0, vf_abs(a)), top1 = vf_max(top1, vf_abs(b));
            odd0 = vf_add(odd0, vf_sub(a, a)), odd1 = vf_add(odd1, vf_sub(b, b)); /* NaN when any is not finite */
        }
        float max = vf_reduce_max(vf_max(top0, top1)), finite = vf_sum(vf_add(odd0, odd1));
        float inverse = max > 0 && finite == 0 ? 127.0f / max : 0;
        if (!(inverse <= 3e38f)) inverse = 0; /* subnormal block */
        *scale = finite != 0 ? finite : inverse > 0 ? max / 127.0f : 0;
        if (finite != 0) {
            memset(copy, 0, sizeof copy);
            block = copy;
        }
        v_codes256(block, inverse, code, sum);
    }
}

V_INLINE void decode_halves(const sr_weight *w, int64_t row, int64_t k0, int64_t n, float *out,
                            vf (*load)(const uint8_t *p)) {
    const uint8_t *p = w->plane[0].data + row * w->plane[0].stride + k0 * 2;
    int64_t i = 0;
    for (; i + 8 <= n; i += 8) vf_store(out + i, load(p + 2 * i));
    if (i < n) w->fmt->decode(w, row, k0 + i, n - i, out + i);
}
static void decode_f16(const sr_weight *w, int64_t row, int64_t k0, int64_t n, float *out) {
    decode_halves(w, row, k0, n, out, load_f16);
}
static void decode_bf16(const sr_weight *w, int64_t row, int64_t k0, int64_t n, float *out) {
    decode_halves(w, row, k0, n, out, load_bf16);
}
