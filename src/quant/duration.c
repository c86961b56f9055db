/* How long a conversion would take. Some rows of each kind of matrix are converted as all will be; the algebra of a
 * calibration is timed with COLUMNS columns at most and counted for all of them; and so are a product of each kind of
 * matrix, for the text's way through the model, and the disk. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/digest.h"
#include "base/disk.h"
#include "base/map.h"
#include "base/pool.h"
#include "core/core.h"
#include "quant/algebra.h"
#include "quant/quant.h"

enum {
    COLUMNS = 2048,
    TOKENS = 256,
    LEAST_ROWS = 128, /* where fewer are no whole units */
    MOST_KINDS = 48,
    ON_DISK = 8 << 20,
    HASHED = 1 << 20
};
/* Seconds that a kind's rows take, and a product of one. */
static const double ENOUGH = 0.05, PRODUCT = 0.02;

/* Matrices that are converted alike. */
struct kind {
    const sr_job *job;
    bool solved;
    double each; /* seconds a weight, of a row of all its columns */
};

/* Measured with K columns. */
struct algebra {
    int64_t K;
    float *h;
    sr_moments moments;
    /* Seconds: of a token and an entry of its moments, of the factor by its K cubed, of a row by the square of its
     * columns in the solver, and with a symmetric matrix. */
    double moment, factor, product, symmetric;
};

struct duration {
    const sr_quantizer *q;
    struct kind kind[MOST_KINDS];
    int n;
    struct {
        const sr_format *fmt;
        double each; /* seconds a weight and a token */
    } step[MOST_KINDS];
    int n_steps;
    struct algebra algebra;
};

/* ---------------------------------------------------------------- rows */

/* Rows row0, row0 + 1, ... of a source, of which the first K columns count. */
struct some {
    const sr_source *from;
    int64_t row0, K, all;
};
static void some_rows(void *ctx, int64_t row0, int64_t n, float *out) {
    const struct some *s = ctx;
    if (s->K == s->all) {
        s->from->rows(s->from->ctx, s->row0 + row0, n, out);
        return;
    }
    float *row = malloc((size_t)s->all * sizeof *row);
    for (int64_t i = 0; i < n; i++, out += s->K) {
        if (row) s->from->rows(s->from->ctx, s->row0 + row0 + i, 1, row);
        for (int64_t k = 0; k < s->K; k++) out[k] = row ? row[k] : 0;
    }
    free(row);
}
static bool some_grid(void *ctx, int64_t row, int64_t k0, int64_t n, float *scale, float *min, int *low) {
    const struct some *s = ctx;
    return s->from->grid(s->from->ctx, s->row0 + row, k0, n, scale, min, low);
}
static bool some_mxfp4(void *ctx, int64_t row, int64_t k0, sr_mxfp4 *out) {
    const struct some *s = ctx;
    return s->from->mxfp4(s->from->ctx, s->row0 + row, k0, out);
}

struct made {
    const sr_source *rows;
    const sr_weight *w;
};
static void row_wanted(void *ctx, int64_t i, float *out) {
    const sr_source *rows = ((const struct made *)ctx)->rows;
    rows->rows(rows->ctx, i, 1, out);
}
static void row_made(void *ctx, int64_t i, float *out) {
    sr_decode_in_order(((const struct made *)ctx)->w, i, out);
}

struct trial {
    struct duration *d;
    struct kind *kind;
};

/* As a run does it. */
static sr_status convert(const struct trial *t, const sr_source *rows, sr_weight *to, sr_err *err) {
    const sr_quantizer *q = t->d->q;
    const sr_moments m = {.K = to->K, .h = t->d->algebra.h, .d = t->d->algebra.moments.d, .factored = true};
    double error, power;
    sr_status s;
    const bool weighed = (t->kind->solved || q->importance) && !sr_is_plain(to->fmt);
    float *ones = weighed ? malloc((size_t)to->K * sizeof *ones) : NULL;
    for (int64_t k = 0; ones && k < to->K; k++) ones[k] = 1;
    if (t->kind->solved && q->method == SR_GPTQ) {
        s = sr_encode_begin(to, rows, q->threads, err);
        if (s == SR_OK) s = sr_gptq_rows(to, rows, 0, to->N, &m, q->threads, err);
    } else if (q->method == SR_HQQ && sr_hqq_fits(to->fmt, &to->spec))
        s = sr_hqq_encode(to, rows, q->threads, err);
    else
        s = sr_encode(to, rows, ones, ones ? 1 : 0, q->threads, err);
    free(ones);
    if (s != SR_OK) return s;
    struct made made = {rows, to};
    const sr_rows_pair p = {{row_wanted, row_made}, &made, to->N, to->K};
    return sr_rows_compare(&p, q->threads, &error, &power, err);
}

/* So few of N rows that they fit the type. */
static int64_t least_rows(const sr_type *type, int64_t N, int64_t K, int threads) {
    const int64_t few[] = {(int64_t)threads * SR_ENCODE_ROWS, LEAST_ROWS, (int64_t)threads * LEAST_ROWS};
    for (int i = 0; i < 3; i++)
        if (few[i] < N && sr_type_fits(type, few[i], K)) return few[i];
    return N;
}

/* More and more rows, until they take long enough to tell. */
static sr_status time_rows(void *ctx, const sr_source *from, const sr_weight *was, int n_was, sr_err *err) {
    const struct trial *t = ctx;
    const sr_quantizer *q = t->d->q;
    const sr_job *j = t->kind->job;
    const bool narrow = t->kind->solved && q->method == SR_GPTQ;
    const int64_t K = narrow && t->d->algebra.K < j->K ? t->d->algebra.K : j->K;
    sr_type type = sr_type_for(&(sr_type){j->fmt, j->spec}, K);
    type.spec.act_order = false; /* columns are sorted beforehand */
    int64_t R = least_rows(&type, j->N, K, q->threads);
    sr_status s = SR_OK;
    (void)was, (void)n_was;
    double took = 0;
    for (int64_t row0 = 0; s == SR_OK && row0 + R <= j->N && took < ENOUGH; row0 += R, R *= 2) {
        sr_arena arena = {0};
        sr_weight to;
        struct some some = {from, row0, K, j->K};
        const sr_source rows = {.rows = some_rows,
                                .ctx = &some,
                                .grid = from->grid && !narrow ? some_grid : NULL,
                                .mxfp4 = from->mxfp4 && !narrow ? some_mxfp4 : NULL};
        const double began = sr_clock();
        s = sr_weight_create(j->fmt, R, K, &type.spec, &arena, &to, err);
        if (s == SR_OK) to.encoder = sr_dev_encoder(q->engine->dev, j->fmt);
        if (s == SR_OK) s = convert(t, &rows, &to, err);
        sr_arena_free(&arena);
        took = sr_clock() - began;
        t->kind->each = took / (double)(R * K);
    }
    /* Errors of earlier columns are added to each: that is more work where there are more. */
    if (narrow) t->kind->each += (double)(j->K - K) * t->d->algebra.product;
    return s;
}

static bool is_alike(const sr_job *a, const sr_job *b) {
    return a->fmt == b->fmt && a->was == b->was && a->K == b->K && a->spec.group == b->spec.group &&
           a->spec.bits == b->spec.bits && a->spec.axis == b->spec.axis && a->turn.n == b->turn.n;
}

static sr_status find_kind(struct duration *d, const sr_job *j, const struct kind **found, sr_err *err) {
    const bool solved = sr_job_is_solved(d->q, j) && j->fmt->fit;
    int k = 0;
    while (k < d->n && !(is_alike(d->kind[k].job, j) && d->kind[k].solved == solved)) k++;
    *found = &d->kind[k < d->n ? k : 0];
    if (k < d->n || d->n == MOST_KINDS) return SR_OK;
    struct kind *kind = &d->kind[d->n++];
    *kind = (struct kind){.job = j, .solved = solved};
    *found = kind;
    struct trial t = {d, kind};
    return sr_job_open(d->q, j, time_rows, &t, err);
}

/* ---------------------------------------------------------------- calibration */

static double seconds_since(double began) {
    return sr_clock() - began;
}

struct products {
    const float *x, *h;
    float *out;
    int K;
    bool symmetric;
};
static void strip_products(void *ctx, int item, int thread) {
    const struct products *p = ctx;
    const float *x = p->x;
    float *out = p->out + (int64_t)thread * SR_SOLVE_ROWS * p->K;
    (void)item;
    if (p->symmetric)
        sr_multiply_symmetric(x, p->h, SR_SOLVE_ROWS, p->K, out);
    else
        for (int at = SR_PANEL; at < p->K; at += SR_PANEL)
            sr_multiply(x, p->K, p->h, at, SR_SOLVE_ROWS, p->K - at < SR_PANEL ? p->K - at : SR_PANEL, at, out, p->K);
}
/* Seconds a row and the square of its columns. */
static double time_products(const struct products *p, int threads) {
    const double began = sr_clock();
    sr_pool_for(threads, threads, strip_products, (void *)p);
    return seconds_since(began) / ((double)threads * SR_SOLVE_ROWS * (double)p->K * (double)p->K);
}

static sr_status time_algebra(struct algebra *a, int threads, bool factors, sr_err *err) {
    const int K = (int)a->K;
    const double square = (double)K * K;
    float *x = malloc(TOKENS * (size_t)K * sizeof *x);
    float *out = malloc((size_t)threads * SR_SOLVE_ROWS * (size_t)K * sizeof *out);
    a->h = sr_pages_alloc((size_t)sr_upper_bytes(K));
    a->moments = (sr_moments){.K = K, .tokens = TOKENS, .h = a->h, .d = malloc((size_t)K * sizeof(float))};
    sr_status s = x && out && a->h && a->moments.d ? SR_OK : sr_fail(err, SR_NOMEM, "no memory to time a calibration");
    uint32_t state = 1;
    for (int64_t i = 0; s == SR_OK && i < (int64_t)TOKENS * K; i++) {
        state = state * 1664525 + 1013904223;
        x[i] = (float)(state >> 8) / (1 << 23) - 1;
    }
    for (int i = 0; i < 2 && s == SR_OK; i++) { /* pages are new for the first */
        const double began = sr_clock();
        sr_add_products(a->h, K, x, TOKENS, K, threads);
        a->moment = seconds_since(began) / (TOKENS * square);
    }
    const struct products symmetric = {x, a->h, out, K, true}, product = {x, a->h, out, K, false};
    if (s == SR_OK) a->symmetric = time_products(&symmetric, threads);
    if (s == SR_OK && factors) {
        const double began = sr_clock();
        s = sr_moments_factor(&a->moments, 0, 0.01, threads, err);
        a->factor = seconds_since(began) / (square * K);
        a->product = time_products(&product, threads);
    }
    free(x);
    free(out);
    return s;
}

/* Seconds of a weight and a token. */
static sr_status find_step(struct duration *d, const sr_job *j, int T, double *each, sr_err *err) {
    int k = 0;
    int64_t bytes;
    double seconds;
    while (k < d->n_steps && d->step[k].fmt != j->was) k++;
    if (k == MOST_KINDS) k--;
    if (k == d->n_steps) {
        const int64_t N = j->N < TOKENS ? j->N : TOKENS;
        sr_status s = sr_time_product(d->q->engine->dev, j->was, N, j->K, T, PRODUCT, &bytes, &seconds, err);
        if (s != SR_OK) return s;
        d->step[k].fmt = j->was;
        d->step[d->n_steps++].each = seconds / ((double)N * (double)j->K * T);
    }
    *each = d->step[k].each;
    return SR_OK;
}

/* What is tried for the scales of a matrix's columns. */
static double seconds_of_scales(const struct duration *d, const sr_job *j, const struct kind *kind) {
    const int experts = sr_job_experts(d->q, j);
    const double K = (double)j->K;
    int tries;
    const int64_t rows = sr_awq_sample(j->N / experts, &tries);
    return experts * (double)rows * tries * (kind->each * K + K * K * d->algebra.symmetric);
}

/* The text's way through the layers, and moments and factors of what their matrices are multiplied with. */
static sr_status find_calibration(struct duration *d, double *seconds, sr_err *err) {
    const sr_quantizer *q = d->q;
    const sr_gating *g = &q->h.gating;
    const double tokens = (double)(q->calibration.n_windows * q->calibration.n_ctx);
    const int T = q->calibration.n_ctx < q->engine->batch ? q->calibration.n_ctx : q->engine->batch;
    sr_status s = SR_OK;
    for (int at = 0, end; at < q->n_jobs && s == SR_OK; at = end) {
        const int layer = q->job[q->order[at]].layer;
        double pass = 0, sums = 0, factors = 0;
        int passes = 1;
        sr_kept kept = {0};
        for (end = at; end < q->n_jobs && q->job[q->order[end]].layer == layer && s == SR_OK; end++) {
            const sr_job *j = &q->job[q->order[end]];
            const double K = (double)j->K;
            const bool routed = sr_calibration_place(j->role) >= sr_calibration_place(SR_EXPERTS_GATE) && g->n > 0;
            const double share = routed && sr_calibration_knows(j->role) ? (double)g->used / g->n : 1;
            double each = 0;
            if (!j->n_from || layer < 0) continue;
            s = find_step(d, j, share * T > 1 ? (int)(share * T) : 1, &each, err);
            pass += each * share * tokens * (double)j->N * K;
            const int n = sr_job_inputs(q, end);
            for (int i = 0; i < n; i++) {
                if (!sr_moments_join(q, j->K, &kept)) {
                    kept = (sr_kept){0};
                    sr_moments_join(q, j->K, &kept);
                    passes++;
                }
                sums += share * tokens * K * K * d->algebra.moment;
                factors += K * K * K * d->algebra.factor;
            }
        }
        /* Scales are looked for before anything is rounded; what they took is gone by then where it was too much. */
        const int times = q->method == SR_AWQ && passes > 1 ? 2 : 1;
        *seconds += times * (passes * pass + sums) + factors;
    }
    return s;
}

/* ---------------------------------------------------------------- disk */

/* Seconds to write a byte to where the result goes, and to hash one of a directory's; 0: not known. */
static double time_byte(const sr_quantizer *q) {
    sr_slab slab = {.fd = -1};
    sr_err none = {0};
    char hex[SR_DIGEST_HEX];
    double each = 0;
    const size_t n = strlen(q->result) + sizeof ".timed";
    char *path = malloc(n);
    uint8_t *data = calloc(1, HASHED);
    if (path && data) {
        snprintf(path, n, "%s.timed", q->result);
        sr_status s = sr_slab_scratch(path, ON_DISK, &slab, &none);
        const double began = sr_clock();
        for (int64_t at = 0; at < ON_DISK && s == SR_OK; at += HASHED)
            s = sr_slab_write(&slab, path, at, data, HASHED, &none);
        if (s == SR_OK) s = sr_slab_sync(&slab, path, &none);
        if (s == SR_OK) each = seconds_since(began) / ON_DISK;
        sr_slab_close(&slab, path, NULL);
    }
    if (data && !q->target.gguf) {
        const double began = sr_clock();
        sr_digest d = sr_sha256();
        sr_digest_add(&d, data, HASHED);
        sr_digest_hex(&d, hex);
        each += seconds_since(began) / HASHED;
    }
    free(path);
    free(data);
    return each;
}

/* ---------------------------------------------------------------- */

static sr_status find(struct duration *d, double *seconds, sr_err *err) {
    const sr_quantizer *q = d->q;
    const bool calibrates = sr_method_calibrates(q->method);
    sr_status s = SR_OK;
    for (int i = 0; i < q->n_jobs && calibrates; i++)
        if (sr_job_inputs(q, i) && q->job[q->order[i]].K > d->algebra.K) d->algebra.K = q->job[q->order[i]].K;
    if (d->algebra.K > COLUMNS) d->algebra.K = COLUMNS;
    if (d->algebra.K) s = time_algebra(&d->algebra, q->threads, q->method == SR_GPTQ, err);
    if (s == SR_OK && calibrates) s = find_calibration(d, seconds, err);
    for (int i = 0; i < q->n_jobs && s == SR_OK; i++) {
        const sr_job *j = &q->job[i];
        const struct kind *kind;
        if (!j->n_from || !j->fmt) continue;
        s = find_kind(d, j, &kind, err);
        if (s != SR_OK) break;
        *seconds += kind->each * (double)j->N * (double)j->K;
        if (kind->solved && q->method == SR_AWQ) *seconds += seconds_of_scales(d, j, kind);
    }
    if (s == SR_OK) *seconds += time_byte(q) * (double)q->bytes_out;
    return s;
}

sr_status sr_quantizer_seconds(const sr_quantizer *q, double *seconds, sr_err *err) {
    sr_err own = {0};
    struct duration d = {.q = q};
    int threads = 0;
    err = err ? err : &own;
    *seconds = 0;
    const bool algebra = sr_method_calibrates(q->method);
    sr_status s = algebra ? sr_algebra_begin(&threads, err) : SR_OK;
    if (s != SR_OK) return s;
    s = find(&d, seconds, err);
    if (d.algebra.h) sr_pages_free(d.algebra.h, (size_t)sr_upper_bytes(d.algebra.K));
    free(d.algebra.moments.d);
    if (algebra) sr_algebra_end(threads);
    return s;
}
