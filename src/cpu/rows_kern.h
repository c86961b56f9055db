/* Row operations, written once in the f32 vocabulary; each instruction set's .c includes this after its simd_<isa>.h.
 * Tails go through a zero-padded copy of 8, so that a result does not depend on where a row lies. */

/* exp(x) for x <= 88; below -87 it gives 0. Cody and Waite's reduction, degree 6; relative error below 2e-7. */
static inline vf exp_vf(vf x) {
    const vf low = vf_set1(-87.0f);
    vf in = vf_max(x, low);
    vf n = vf_round(vf_mul(in, vf_set1(1.44269504088896341f)));
    vf r = vf_fma(n, vf_set1(-0.693359375f), in);
    r = vf_fma(n, vf_set1(2.12194440e-4f), r);
    vf p = vf_set1(1.9875691500e-4f);
    p = vf_fma(p, r, vf_set1(1.3981999507e-3f));
    p = vf_fma(p, r, vf_set1(8.3334519073e-3f));
    p = vf_fma(p, r, vf_set1(4.1665795894e-2f));
    p = vf_fma(p, r, vf_set1(1.6666665459e-1f));
    p = vf_fma(p, r, vf_set1(5.0000001201e-1f));
    p = vf_fma(p, vf_mul(r, r), vf_add(r, vf_set1(1)));
    vf y = vf_mul(p, vf_pow2(n));
    /* (x - low) is negative for what was clamped: step down to 0 there, exactly */
    vf keep = vf_min(vf_max(vf_mul(vf_sub(x, low), vf_set1(0x1p40f)), vf_set1(0)), vf_set1(1));
    return vf_mul(y, keep);
}

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

static void add_rows(float *x, const float *y, int64_t n) {
    int64_t i = 0;
    for (; i + 8 <= n; i += 8) vf_store(x + i, vf_add(vf_load(x + i), vf_load(y + i)));
    for (; i < n; i++) x[i] += y[i];
}

static inline vf silu_vf(vf g) { /* g / (1 + exp(-g)); exp only of what is at most 0, so that nothing overflows */
    vf e = exp_vf(vf_sub(vf_set1(0), vf_abs(g)));
    vf pos = vf_max(g, vf_set1(0)), neg = vf_min(g, vf_set1(0)); /* one of them is zero */
    return vf_div(vf_fma(neg, e, pos), vf_add(vf_set1(1), e));
}

static void silu_glu(const float *gate, const float *up, int n, float *out) {
    int i = 0;
    for (; i + 8 <= n; i += 8) vf_store(out + i, vf_mul(silu_vf(vf_load(gate + i)), vf_load(up + i)));
    if (i < n) store_tail(out + i, vf_mul(silu_vf(load_tail(gate + i, n - i)), load_tail(up + i, n - i)), n - i);
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

static void to_f16(const float *x, int n, uint16_t *out) {
    int i = 0;
    for (; i + 8 <= n; i += 8) vf_to_f16(out + i, vf_load(x + i));
    for (; i < n; i++) out[i] = sr_f32_to_f16(x[i]);
}

/* Four vectors share each load of the row. Partial sums stay in lanes until the end. */
#define DOT(name, type, load)                                                                                          \
    static void name(const type *row, const float *x, int64_t ld_x, int n_x, int64_t K, float *y) {                    \
        for (int t = 0; t < n_x; t += 4) {                                                                             \
            const float *x0 = x + t * ld_x, *x1 = t + 1 < n_x ? x0 + ld_x : x0, *x2 = t + 2 < n_x ? x1 + ld_x : x0,    \
                        *x3 = t + 3 < n_x ? x2 + ld_x : x0;                                                            \
            vf s0 = vf_set1(0), s1 = s0, s2 = s0, s3 = s0;                                                             \
            int64_t k = 0;                                                                                             \
            for (; k + 8 <= K; k += 8) {                                                                               \
                vf w = load(row + k);                                                                                  \
                s0 = vf_fma(w, vf_load(x0 + k), s0), s1 = vf_fma(w, vf_load(x1 + k), s1);                              \
                s2 = vf_fma(w, vf_load(x2 + k), s2), s3 = vf_fma(w, vf_load(x3 + k), s3);                              \
            }                                                                                                          \
            if (k < K) {                                                                                               \
                type buf[8] = {0};                                                                                     \
                memcpy(buf, row + k, (size_t)(K - k) * sizeof *row);                                                   \
                vf w = load(buf);                                                                                      \
                s0 = vf_fma(w, load_tail(x0 + k, K - k), s0), s1 = vf_fma(w, load_tail(x1 + k, K - k), s1);            \
                s2 = vf_fma(w, load_tail(x2 + k, K - k), s2), s3 = vf_fma(w, load_tail(x3 + k, K - k), s3);            \
            }                                                                                                          \
            y[t] = vf_sum(s0);                                                                                         \
            if (t + 1 < n_x) y[t + 1] = vf_sum(s1);                                                                    \
            if (t + 2 < n_x) y[t + 2] = vf_sum(s2);                                                                    \
            if (t + 3 < n_x) y[t + 3] = vf_sum(s3);                                                                    \
        }                                                                                                              \
    }
DOT(dot_f32, float, vf_load)
DOT(dot_f16, uint16_t, vf_from_f16)
DOT(dot_bf16, uint16_t, vf_from_bf16)
#undef DOT

#define DOT_FLOAT(name, type)                                                                                          \
    static void name##_rows(const sr_weight *w, int64_t row0, int n_rows, const float *x, int64_t ld_x, int T,         \
                            float *y, int64_t ld_y) {                                                                  \
        for (int i = 0; i < n_rows; i++) {                                                                             \
            const type *row = (const type *)(const void *)(w->plane[0].data + (row0 + i) * w->plane[0].stride);        \
            float r[SR_DOT_MAX];                                                                                       \
            name(row, x, ld_x, T, w->K, r);                                                                            \
            for (int t = 0; t < T; t++) y[t * ld_y + i] = r[t];                                                        \
        }                                                                                                              \
    }
DOT_FLOAT(dot_f32, float)
DOT_FLOAT(dot_f16, uint16_t)
DOT_FLOAT(dot_bf16, uint16_t)
#undef DOT_FLOAT

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
