/* Kernels of activations: their rounding, operations on rows and attention, against double. */
#include "kernels.h"

#include "base/half.h"

/* ---------------------------------------------------------------- quantized activations */

static void quantize_rounds_to_127_steps_a_block(void **s) {
    (void)s;
    for (int i = 0; sr_kerns[i]; i++)
        for (int64_t K = 1; tested(i) && K <= 600; K += K < 4 ? 1 : 97) {
            int mark = n_maps;
            int64_t blocks = (K + SR_KC - 1) / SR_KC;
            float *x = guarded((size_t)K * sizeof *x), *scale = guarded((size_t)blocks * sizeof *scale);
            int8_t *code = guarded((size_t)blocks * SR_KC);
            int16_t *sum = guarded((size_t)blocks * (SR_KC / SR_SUM) * sizeof *sum);
            fill_normal(x, K, 3);
            sr_kerns[i]->quantize(x, K, code, scale, sum);
            for (int64_t b = 0; b < blocks; b++) {
                float max = 0;
                for (int64_t k = b * SR_KC; k < K && k < (b + 1) * SR_KC; k++) max = fmaxf(max, fabsf(x[k]));
                assert_true(scale[b] == max / 127);
                for (int64_t k = b * SR_KC; k < (b + 1) * SR_KC; k++)
                    assert_int_equal(code[k], k < K ? (int)nearbyintf(x[k] * (127 / max)) : 0);
            }
            for (int64_t g = 0; g < blocks * (SR_KC / SR_SUM); g++) {
                int want = 0;
                for (int k = 0; k < SR_SUM; k++) want += code[g * SR_SUM + k];
                assert_int_equal(sum[g], want);
            }
            release_to(mark);
        }
}

static void quantize_has_a_stated_result_for_odd_blocks(void **s) {
    (void)s;
    for (int i = 0; sr_kerns[i]; i++)
        for (int kind = 0; tested(i) && kind < 5; kind++) {
            static const float odd[] = {0, NAN, INFINITY, -INFINITY, 1e-44f};
            float x[2 * SR_KC], scale[2];
            int8_t code[2 * SR_KC];
            int16_t sum[2 * SR_KC / SR_SUM];
            for (int k = 0; k < SR_KC; k++) x[k] = kind == 0 || kind == 4 ? odd[kind] : k == 77 ? odd[kind] : 1;
            for (int k = SR_KC; k < 2 * SR_KC; k++) x[k] = 127 - k % 255;
            sr_kerns[i]->quantize(x, 2 * SR_KC, code, scale, sum);
            if (kind == 0 || kind == 4)
                assert_true(scale[0] == 0);
            else
                assert_true(scale[0] != scale[0]);
            for (int k = 0; k < SR_KC; k++) assert_int_equal(code[k], 0);
            for (int g = 0; g < SR_KC / SR_SUM; g++) assert_int_equal(sum[g], 0);
            assert_true(scale[1] == 1);
            for (int k = SR_KC; k < 2 * SR_KC; k++) assert_int_equal(code[k], 127 - k % 255);
        }
}

/* ---------------------------------------------------------------- rows */

static void row_operations_equal_double(void **s) {
    static const int sizes[] = {1, 2, 7, 8, 9, 15, 16, 17, 31, 64, 100, 333, 1024};
    (void)s;
    for (int i = 0; sr_kerns[i]; i++)
        for (size_t z = 0; tested(i) && z < sizeof sizes / sizeof *sizes; z++) {
            const sr_kern *k = sr_kerns[i];
            int n = sizes[z], mark = n_maps;
            size_t bytes = (size_t)n * sizeof(float);
            float *x = guarded(bytes), *y = guarded(bytes), *out = guarded(bytes);
            uint16_t *half = guarded((size_t)n * sizeof *half);
            double ms = 0;
            fill_normal(x, n, 4);
            fill_normal(y, n, 4);
            for (int e = 0; e < n; e++) ms += (double)x[e] * (double)x[e];
            k->rms_norm(x, n, y, 1e-5f, out);
            double scale = 1 / sqrt(ms / n + 1e-5f);
            for (int e = 0; e < n; e++) {
                double want = (double)x[e] * (double)y[e] * scale;
                near(k, "rms_norm", n, e, (double)out[e], want, U * (n / 8 + 16) * fabs(want));
            }
            for (int with_bias = 0; with_bias < 2; with_bias++) {
                double mean = 0, var = 0, most = 0;
                for (int e = 0; e < n; e++)
                    mean += ((double)x[e] + 8) / n; /* a mean that a sum of squares would lose in */
                for (int e = 0; e < n; e++) x[e] += 8;
                for (int e = 0; e < n; e++) var += ((double)x[e] - mean) * ((double)x[e] - mean) / n;
                for (int e = 0; e < n; e++) most = fmax(most, fabs((double)x[e]));
                k->layer_norm(x, n, y, with_bias ? x : NULL, 1e-5f, out);
                for (int e = 0; e < n; e++) {
                    double unit = 1 / sqrt(var + 1e-5f), b = with_bias ? (double)x[e] : 0;
                    double want = ((double)x[e] - mean) * unit * (double)y[e] + b;
                    near(k, "layer_norm", n, e, (double)out[e], want,
                         U * (n / 8 + 16) * ((fabs(want) + fabs(b)) + most * unit * fabs((double)y[e])));
                }
                for (int e = 0; e < n; e++) x[e] -= 8;
            }
            x[0] = -200, x[n / 2] = 88;
            if (n > 2) x[2] = 200;
            for (int kind = 0; kind < SR_ACT_SWIGLU; kind++)
                for (int glu = 0; glu < 2; glu++) {
                    k->act[kind](x, glu ? y : NULL, n, out);
                    for (int e = 0; e < n; e++) {
                        double v = (double)x[e],
                               u = kind == SR_ACT_SILU ? v : 1.5957691216057308 * (v + 0.044715 * v * v * v);
                        double want = kind == SR_ACT_RELU2 ? (v > 0 ? v * v : 0) : v / (1 + exp(-u));
                        if (glu) want *= (double)y[e];
                        /* an error of z, of U * |z|, is one of the exponential */
                        near(k, "act", n, e, (double)out[e], want,
                             (1e-6 + 4 * U * fabs(fmax(u, -90))) * fabs(want) + 1e-30);
                    }
                }
            k->act[SR_ACT_SWIGLU](x, y, n, out);
            for (int e = 0; e < n; e++) {
                double g = fmin((double)x[e], 7), v = fmax(fmin((double)y[e], 7), -7);
                near(k, "swiglu", n, e, (double)out[e], g / (1 + exp(-1.702 * g)) * (v + 1), 1e-5 * (1 + fabs(v)));
            }
            float *pairs = guarded(2 * bytes);
            for (int e = 0; e < n; e++) pairs[2 * e] = x[e], pairs[2 * e + 1] = y[e];
            k->act[SR_ACT_SWIGLU_PAIRS](pairs, NULL, n, pairs);
            assert_memory_equal(pairs, out, bytes);
            memcpy(out, x, bytes);
            k->soft_cap(out, n, 0.25f, 30);
            for (int e = 0; e < n; e++)
                near(k, "soft_cap", n, e, (double)out[e], 30 * tanh((double)x[e] * 0.25 / 30), 1e-5);
            memcpy(out, x, bytes);
            k->soft_cap(out, n, 0.3f, 0);
            for (int e = 0; e < n; e++) assert_true(out[e] == x[e] * 0.3f);
            for (int j = 0; k->kv[j].type.name; j++)
                if (!strcmp(k->kv[j].type.name, "f16")) k->kv[j].store[0](x, n, half, 0);
            for (int e = 0; e < n; e++) assert_int_equal(half[e], sr_f32_to_f16(x[e]));
            memcpy(out, x, bytes);
            k->add(out, y, n);
            for (int e = 0; e < n; e++) assert_true(out[e] == x[e] + y[e]);
            k->axpy(out, y, n, -0.75f);
            for (int e = 0; e < n; e++)
                near(k, "axpy", n, e, (double)out[e], (double)x[e] + 0.25 * (double)y[e],
                     4 * U * (fabs((double)x[e]) + 2 * fabs((double)y[e])));
            float *v = guarded(2 * bytes), *w = guarded(2 * bytes);
            fill_normal(v, 2 * n, 1);
            for (int e = 0; e < n; e++) y[e] = sinf((float)e), x[e] = cosf((float)e);
            memcpy(w, v, 2 * bytes);
            k->rope_halves(w, n, x, y);
            for (int e = 0; e < n; e++) {
                double a = (double)v[e], b = (double)v[n + e], c = (double)x[e], d = (double)y[e];
                near(k, "rope_halves", n, e, (double)w[e], a * c - b * d, 4 * U * (fabs(a) + fabs(b)));
                near(k, "rope_halves", n, n + e, (double)w[n + e], a * d + b * c, 4 * U * (fabs(a) + fabs(b)));
            }
            memcpy(w, v, 2 * bytes);
            k->rope_adjacent(w, n, x, y);
            for (int e = 0; e < n; e++) {
                double a = (double)v[2 * e], b = (double)v[2 * e + 1], c = (double)x[e], d = (double)y[e];
                near(k, "rope_adjacent", n, 2 * e, (double)w[2 * e], a * c - b * d, 4 * U * (fabs(a) + fabs(b)));
                near(k, "rope_adjacent", n, 2 * e + 1, (double)w[2 * e + 1], a * d + b * c,
                     4 * U * (fabs(a) + fabs(b)));
            }
            release_to(mark);
        }
}

/* ---------------------------------------------------------------- attention */

static void hadamard_is_its_own_inverse(void **unused) {
    static const int dims[] = {1, 20, 32, 64, 80, 96, 128, 256, 576};
    (void)unused;
    for (int i = 0; sr_kerns[i]; i++)
        for (size_t d = 0; tested(i) && d < sizeof dims / sizeof *dims; d++)
            for (int n = dims[d], block = n & -n; block >= 1; block /= 2) {
                int mark = n_maps;
                float *x = guarded((size_t)n * sizeof *x), *y = guarded((size_t)n * sizeof *y);
                fill_normal(x, n, 1);
                memcpy(y, x, (size_t)n * sizeof *x);
                sr_kerns[i]->hadamard(y, n, block);
                for (int e = 0; e < n; e++) {
                    double want = 0;
                    for (int k = 0; k < block; k++)
                        want += (__builtin_popcount((unsigned)(e % block & k)) % 2 ? -1 : 1) *
                                (double)x[e / block * block + k];
                    near(sr_kerns[i], "hadamard", n, e, (double)y[e], want / sqrt(block), 1e-5);
                }
                sr_kerns[i]->hadamard(y, n, block);
                for (int e = 0; e < n; e++) near(sr_kerns[i], "hadamard twice", n, e, (double)y[e], (double)x[e], 1e-5);
                release_to(mark);
            }
}

/* Largest error of a number among others of at most `most`: a half of the group's step, or of the number's last bit.
 * 8 bits: the step, most / 127, is itself rounded to f16, by 2^-11 of it. 4 bits: the smallest step tried is most
 * / 8.75, and on the side where codes end at 7 it cuts 1.75 steps off; again the step is rounded. */
static double kv_error(const sr_kv_row *kv, double most, double x) {
    if (kv->code_bits) return kv->code_bits == 8 ? most / 127 * 0.501 : most * 0.2005;
    return !strcmp(kv->type.name, "f32") ? 0 : fabs(x) * (!strcmp(kv->type.name, "f16") ? 0x1p-11 : 0x1p-8) + 0x1p-25;
}

/* Rows x[n][hd] to a page, which holds something else before; what comes back, in doubles [n][hd]. */
static void *keep_rows(const sr_kern *k, const sr_kv_row *kv, bool value, const float *x, int n, int hd, double *back) {
    const size_t bytes = (size_t)(kv->code_bits ? SR_KV_PAGE : n) * sr_kv_bytes(&kv->type, hd);
    void *page = guarded(bytes);
    float *row = malloc((size_t)(n * hd) * sizeof *row);
    memset(page, 0, bytes);
    for (int j = 0; j < n; j++) kv->store[value](x + (int64_t)(n - 1 - j) * hd, hd, page, j);
    for (int j = n - 1; j >= 0; j--) kv->store[value](x + (int64_t)j * hd, hd, page, j);
    kv->load[value](page, 0, n, hd, hd, row, hd);
    for (int e = 0; e < n * hd; e++) {
        double most = 0;
        for (int d = e % hd / SR_KV_GROUP * SR_KV_GROUP; d < hd && d < (e % hd / SR_KV_GROUP + 1) * SR_KV_GROUP; d++)
            most = fmax(most, fabs((double)x[e / hd * hd + d]));
        near(k, kv->type.name, hd, e, (double)row[e], (double)x[e], kv_error(kv, most, (double)x[e]));
        back[e] = (double)row[e];
    }
    /* a part of the features of a part of the rows */
    float *part = malloc((size_t)hd * sizeof *part);
    kv->load[value](page, n - 1, 1, hd, hd - 3, part, hd);
    assert_memory_equal(part, row + (int64_t)(n - 1) * hd, (size_t)(hd - 3) * sizeof *part);
    free(part);
    free(row);
    return page;
}

/* What a row's result was computed from: n keys, the first of them at position `first`. */
struct seen {
    int first, n, hd_v;
    const double *p, *norm, *value, *top; /* [n] sum up to 1; |key|; [hd_v]; the largest of each group of a value */
    double most_q;
};

/* What the 14 bits of codes' partners may do to feature d of the result, six standard deviations of it: roundings are
 * as likely up as down and independent, so that one of `step` has a variance of step^2 / 12.
 *   q  step = its largest / 8127. A score is off by step / sqrt(12) * |key|, p_j by that share of itself, and the
 * result by that times value_j - result. All keys meet the same rounded q: so these add up, not their squares. p  times
 * the scale of a value, step = the largest of these of a page / 16383; the value adds its code times that. The largest
 * of a group has the code 127, or 6 to 8 of 4 bits. */
static double rounding_of_codes(int bits, const struct seen *t, int d, double result) {
    const double least = bits == 8 ? 127 : 6, most = bits == 8 ? 127 : 8;
    const int groups = (t->hd_v + SR_KV_GROUP - 1) / SR_KV_GROUP;
    double of_q = 0, of_p = 0, largest = 0, codes = 0;
    for (int j = 0; j < t->n; j++) {
        const double value = t->value[(int64_t)j * t->hd_v + d], top = t->top[j * groups + d / SR_KV_GROUP];
        of_q += t->p[j] * fabs(value - result) * t->most_q / 8127 / sqrt(12) * t->norm[j];
        largest = fmax(largest, t->p[j] * top / least);
        codes += top > 0 ? value / top * value / top * most * most : 0;
        if ((t->first + j) % SR_KV_PAGE != SR_KV_PAGE - 1 && j + 1 < t->n) continue;
        of_p += largest / 16383 * largest / 16383 / 12 * codes;
        largest = codes = 0;
    }
    return 6 * (of_q + sqrt(of_p));
}

/* n_q rows over `chunks` pages, the last one with n_key keys; row r sees keys from lo(r) to hi(r) of each. */
static void compare_attention(const sr_kern *k, const sr_kv_row *kv, int hd, int hd_v, int n_q, int chunks, int n_key,
                              int window, float cap) {
    const bool shared = hd_v < hd; /* values are the first features of keys */
    if (passed_over()) return;
    const int mark = n_maps, total = (chunks - 1) * SR_KV_PAGE + n_key, ld_o = sr_attend_padded(hd_v);
    const float *q[SR_ATTEND_ROWS];
    float m[SR_ATTEND_ROWS], s[SR_ATTEND_ROWS];
    float *o = guarded((size_t)(n_q * ld_o) * sizeof *o), *scratch = malloc(sr_attend_scratch(hd) * sizeof *scratch);
    double want[512], score[4 * SR_KV_PAGE], *key = malloc((size_t)(total * hd) * sizeof *key),
                                             *value = malloc((size_t)(total * hd) * sizeof *value);
    float *x = malloc((size_t)(SR_KV_PAGE * hd) * sizeof *x);
    void *keys[4], *values[4];
    memset(o, 0, (size_t)(n_q * ld_o) * sizeof *o);
    for (int c = 0; c < chunks; c++) {
        const int n = c + 1 < chunks ? SR_KV_PAGE : n_key;
        fill_normal(x, n * hd, 1);
        keys[c] = keep_rows(k, kv, false, x, n, hd, key + (int64_t)c * SR_KV_PAGE * hd);
        fill_normal(x, n * hd, 1);
        values[c] = shared ? NULL : keep_rows(k, kv, true, x, n, hd, value + (int64_t)c * SR_KV_PAGE * hd);
    }
    const int groups = (hd_v + SR_KV_GROUP - 1) / SR_KV_GROUP;
    double *norm = calloc((size_t)total, sizeof *norm), *top_of = calloc((size_t)(total * groups), sizeof *top_of);
    for (int j = 0; j < total; j++) { /* values become [total][hd_v] */
        const double *from = (shared ? key : value) + (int64_t)j * hd;
        for (int d = 0; d < hd; d++) norm[j] += key[j * hd + d] * key[j * hd + d];
        norm[j] = sqrt(norm[j]);
        for (int d = 0; d < hd_v; d++) {
            double *top = &top_of[j * groups + d / SR_KV_GROUP];
            value[j * hd_v + d] = from[d];
            *top = fmax(*top, fabs(from[d]));
        }
    }
    for (int r = 0; r < n_q; r++) {
        float *row = guarded((size_t)hd * sizeof *row);
        fill_normal(row, hd, 2 / sqrtf((float)hd));
        q[r] = row;
        m[r] = -INFINITY, s[r] = 0;
    }
    if (kv->ask) kv->ask(q, n_q, hd, scratch);
    /* row r is the query at position total - n_q + r */
    for (int c = 0; c < chunks; c++) {
        int lo[SR_ATTEND_ROWS], hi[SR_ATTEND_ROWS], n = c + 1 < chunks ? SR_KV_PAGE : n_key;
        for (int r = 0; r < n_q; r++) {
            int pos = total - n_q + r - c * SR_KV_PAGE, from = window > 0 ? pos - window + 1 : 0;
            hi[r] = pos + 1 < n ? pos + 1 : n;
            lo[r] = from > 0 ? from : 0;
        }
        k->attend_page(kv, q, n_q, keys[c], values[c], NULL, n, hd, hd_v, lo, hi, cap, m, s, o, ld_o, scratch);
    }
    for (int r = 0; r < n_q; r++) {
        int pos = total - n_q + r, from = window > 0 && pos >= window ? pos - window + 1 : 0;
        double top = -1e30, sum = 0;
        for (int j = from; j <= pos; j++) {
            double v = 0;
            for (int d = 0; d < hd; d++) v += (double)q[r][d] * key[(int64_t)j * hd + d];
            score[j] = cap > 0 ? (double)cap * tanh(v / (double)cap) : v;
            top = score[j] > top ? score[j] : top;
        }
        memset(want, 0, sizeof want);
        for (int j = from; j <= pos; j++) {
            const double p = score[j] = exp(score[j] - top);
            sum += p;
            for (int d = 0; d < hd_v; d++) want[d] += p * value[(int64_t)j * hd_v + d];
        }
        struct seen t = {
            from, pos + 1 - from, hd_v, score + from, norm + from, value + (int64_t)from * hd_v, top_of + from * groups,
            0};
        for (int j = from; j <= pos; j++) score[j] /= sum;
        for (int d = 0; d < hd; d++) t.most_q = fmax(t.most_q, fabs((double)q[r][d]));
        char what[96];
        snprintf(what, sizeof what, "attention %s %d x %d (%d), %d keys, window %d, cap %g, row %d", kv->type.name, n_q,
                 hd, hd_v, total, window, (double)cap, r);
        /* Scores of a few units are good to 1e-6, so probabilities too. */
        for (int d = 0; d < hd_v; d++) {
            double bound = 1e-5;
            if (kv->ask) bound += rounding_of_codes(kv->code_bits, &t, d, want[d] / sum);
            near(k, what, hd, d, (double)(o[r * ld_o + d] / s[r]), want[d] / sum, bound);
        }
    }
    free(scratch);
    free(key);
    free(value);
    free(norm);
    free(top_of);
    free(x);
    release_to(mark);
}

static void attention_equals_a_softmax_in_double(void **s) {
    static const int dims[] = {8, 20, 64, 80, 96, 100, 128, 256}, rows[] = {1, 2, 3, 4, 5, 8, 13, 32};
    (void)s;
    for (int i = 0; sr_kerns[i]; i++)
        for (const sr_kv_row *kv = sr_kerns[i]->kv; tested(i) && kv->type.name; kv++)
            for (size_t d = 0; d < sizeof dims / sizeof *dims; d++)
                for (size_t r = kv->code_bits && i > 2; r < sizeof rows / sizeof *rows; r += 1 + (i > 2)) {
                    const sr_kern *k = sr_kerns[i];
                    const int hd = dims[d], n = rows[r];
                    compare_attention(k, kv, hd, hd, n, 1, n + (int)d, 0, 0);
                    if ((d + r) % 2) compare_attention(k, kv, hd, hd, n, 1, 256, (int)r % 2 ? 50 : 0, 0);
                    if ((d + r) % 3 == 0)
                        compare_attention(k, kv, hd, hd, n, 3, 77, (int)r % 3 ? 0 : 300, (int)r % 2 ? 3.0f : 0);
                    if ((d + r) % 2 == 0) compare_attention(k, kv, hd, hd - (d % 2 ? 8 : 3), n, 2, 99, 0, 0);
                }
}

/* One session's tokens through a device: prefill of n, then `more` one by one; the results of these, [more][n_q]. */
struct attended {
    int n_head, n_kv_head, hd, hd_v, n, more, window;
    bool shared;
};
/* A long prefill looks back over two pages only, which saves most of the time; what follows it sees all. */
static int window_at(const struct attended *c, int t) {
    return c->n > 1000 && t < c->n ? 300 : c->window;
}
static float *attend_all(const struct attended *c, const char *isa, const char *type, int threads, bool exact,
                         const float *q, const float *k, const float *v) {
    sr_dev *dev;
    const sr_device *ops = sr_device_by_name(NULL);
    const sr_dev_options options = {threads, 64, isa, exact};
    sr_err err = {0};
    if (ops->open(&options, &dev, &err) != SR_OK || ops->reserve(dev, 256, 256, c->n_head, c->hd, &err) != SR_OK)
        fail_msg("%s", err.msg);
    const sr_kv_type *kv_type = NULL;
    for (int i = 0; (kv_type = ops->kv_type(dev, i)) && strcmp(kv_type->name, type) != 0;) i++;
    assert_non_null(kv_type);
    const int all = c->n + c->more, pages = (all + SR_KV_PAGE - 1) / SR_KV_PAGE;
    const int64_t ld_q = (int64_t)c->n_head * c->hd, ld_kv = (int64_t)c->n_kv_head * c->hd;
    const size_t bytes = (size_t)(pages * c->n_kv_head * SR_KV_PAGE) * sr_kv_bytes(kv_type, c->hd);
    int32_t table[16];
    for (int i = 0; i < pages; i++) table[i] = pages - 1 - i;
    sr_kv kv = {ops->alloc(dev, bytes), c->shared ? NULL : ops->alloc(dev, bytes), table, kv_type};
    const int64_t ld_out = (int64_t)c->n_head * c->hd_v;
    float *out = malloc((size_t)(all * ld_out) * sizeof *out);
    for (int at = 0, n = c->n; at < all; at += n, n = 1) {
        const sr_span span = {0, n, at, &kv};
        ops->attend(dev, &(sr_attend){.n_head = c->n_head,
                                      .n_kv_head = c->n_kv_head,
                                      .hd_k = c->hd,
                                      .hd_v = c->hd_v,
                                      .scale = 1,
                                      .window = window_at(c, at),
                                      .span = &span,
                                      .n_span = 1,
                                      .q = q + at * ld_q,
                                      .k = k + at * ld_kv,
                                      .v = v + at * ld_kv,
                                      .ld_q = ld_q,
                                      .ld_kv = ld_kv,
                                      .out = out + at * ld_out,
                                      .ld_out = ld_out});
    }
    ops->free(dev, kv.k, bytes);
    if (kv.v) ops->free(dev, kv.v, bytes);
    ops->close(dev);
    return out;
}

/* Long texts are cut in parts for few rows, and rotated where they are codes: nothing of it may show. */
static void long_texts_give_the_same_on_any_number_of_threads(void **unused) {
    static const struct attended cases[] = {{4, 1, 64, 64, 2300, 3, 0, false},
                                            {2, 2, 80, 80, 2100, 2, 0, false},
                                            {12, 1, 48, 32, 2090, 2, 0, true},
                                            {2, 1, 32, 32, 2500, 2, 700, false},
                                            {1, 1, 256, 256, 300, 2, 0, false}};
    static const char *const types[] = {"f16", "bf16", "q8_0", "q4_0", "f32"};
    /* A value of 4 that is alone is off by what kv_error says; a score by |q| = 2 times an error of the key which has
     * kv_type's share (support.h) of its energy, six deviations of that, which moves the result by as much where values
     * are of about 1. */
    static const double bound[] = {4.4e-3, 3.5e-2, 8.2e-2, 1.9, 2e-5};
    (void)unused;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        const struct attended *c = &cases[i];
        if (passed_over()) continue;
        const int all = c->n + c->more;
        const int64_t n_q = (int64_t)all * c->n_head * c->hd, n_kv = (int64_t)all * c->n_kv_head * c->hd,
                      n_out = (int64_t)all * c->n_head * c->hd_v;
        float *q = malloc((size_t)n_q * sizeof *q), *k = malloc((size_t)n_kv * sizeof *k),
              *v = malloc((size_t)n_kv * sizeof *v);
        fill_normal(q, n_q, 2 / sqrtf((float)c->hd));
        fill_normal(k, n_kv, 1);
        fill_normal(v, n_kv, 1);
        const float *values = c->shared ? k : v;
        float *want = attend_all(c, "portable", "f32", 1, true, q, k, v);
        /* the plain one itself, at a few places */
        for (int t = all - 1; t > 0; t = t > c->n ? t - 1 : t / 2 - 1)
            for (int h = 0; h < c->n_head; h++) {
                double sum = 0, *o = calloc((size_t)c->hd_v, sizeof *o);
                const int kv_head = h / (c->n_head / c->n_kv_head);
                const int window = window_at(c, t);
                for (int j = window > 0 && t >= window ? t - window + 1 : 0; j <= t; j++) {
                    const int64_t at = ((int64_t)j * c->n_kv_head + kv_head) * c->hd;
                    double p = 0;
                    for (int d = 0; d < c->hd; d++)
                        p += (double)q[((int64_t)t * c->n_head + h) * c->hd + d] * (double)k[at + d];
                    sum += p = exp(p);
                    for (int d = 0; d < c->hd_v; d++) o[d] += p * (double)values[at + d];
                }
                for (int d = 0; d < c->hd_v; d++)
                    near(&(sr_kern){.name = "exact"}, "attention", t, d,
                         (double)want[((int64_t)t * c->n_head + h) * c->hd_v + d], o[d] / sum, 2e-5);
                free(o);
            }
        for (int s = 0; sr_kerns[s]; s++)
            for (size_t y = 0; tested(s) && y < sizeof types / sizeof *types; y++)
                for (int exact = 0; (i + y) % 3 == 0 && exact < (s ? 1 : 2); exact++) {
                    float *one = attend_all(c, sr_kerns[s]->name, types[y], 1, exact, q, k, v);
                    float *three = attend_all(c, sr_kerns[s]->name, types[y], 3, exact, q, k, v);
                    assert_memory_equal(one, three, (size_t)n_out * sizeof *one);
                    for (int64_t e = 0; e < n_out; e++)
                        if (e / c->n_head / c->hd_v > 40) /* few keys average nothing out */
                            near(sr_kerns[s], types[y], c->hd, (int)e, (double)one[e], (double)want[e], bound[y]);
                    free(one);
                    free(three);
                }
        free(q), free(k), free(v), free(want);
    }
}

int main(int argc, char **argv) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(quantize_rounds_to_127_steps_a_block),
        cmocka_unit_test(quantize_has_a_stated_result_for_odd_blocks),
        cmocka_unit_test(row_operations_equal_double),
        cmocka_unit_test(hadamard_is_its_own_inverse),
        cmocka_unit_test(attention_equals_a_softmax_in_double),
        cmocka_unit_test(long_texts_give_the_same_on_any_number_of_threads),
    };
    return RUN_KERNELS(tests, argc, argv);
}
