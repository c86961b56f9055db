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
#include "base/path.h"
#include "base/pool.h"
#include "base/random.h"
#include "core/core.h"
#include "quant/algebra.h"
#include "quant/quant.h"

enum {
    COLUMNS = 2048,
    TOKENS = 256,
    STRIP = 64,        /* rows that a thread compares together */
    TRIED = 1 << 20,   /* weights of a kind at a time, mostly; */
    PRODUCT = 4 << 20, /* and of a product */
    MOST_KINDS = 48,
    ON_DISK = 4 << 20,
    HASHED = 1 << 20
};
/* Seconds that a kind's rows take, a product is repeated for, and threads are kept busy first. */
static const double ENOUGH = 0.05, REPEATED = 0.02, AWAKE = 0.1;

/* Matrices that are converted alike. */
struct kind {
    const sr_job *job;
    sr_method method; /* of sr_job_method */
    double each;      /* seconds a weight, of a row of all its columns */
};

/* Measured with the columns of these moments. */
struct algebra {
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
        int T;
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

struct trial {
    struct duration *d;
    struct kind *kind;
};

/* As a run does it, with 1 for each importance and any moments. */
static sr_status convert(const struct trial *t, const sr_source *rows, sr_weight *to, sr_err *err) {
    const sr_quantizer *q = t->d->q;
    const sr_method method = t->kind->method;
    const int64_t K = to->K;
    const bool weighed = method == SR_AWQ || (method == SR_IMATRIX && q->importance && !sr_is_plain(to->fmt));
    float *ones = weighed ? malloc((size_t)K * sizeof *ones) : NULL;
    int32_t *order = NULL;
    double error;
    sr_status s = SR_OK;
    for (int64_t k = 0; ones && k < K; k++) ones[k] = 1;
    if (method == SR_GPTQ) {
        if (q->target.spec.static_groups) order = malloc((size_t)K * sizeof *order);
        for (int64_t k = 0; order && k < K; k++) order[k] = (int32_t)k;
        const sr_moments m = {.K = K, .h = t->d->algebra.moments.h, .d = t->d->algebra.moments.d, .order = order};
        s = sr_encode_begin(to, rows, q->threads, err);
        if (s == SR_OK) s = sr_gptq_rows(to, rows, 0, to->N, &m, q->threads, err);
    } else if (method == SR_HQQ)
        s = sr_hqq_encode(to, rows, q->threads, err);
    else
        s = sr_encode(to, rows, ones, ones ? 1 : 0, q->threads, err);
    free(ones);
    free(order);
    return s == SR_OK ? sr_job_error(rows, to, q->threads, &error, err) : s;
}

/* A matrix of as many of N rows as are tried at a time, if that is one: every thread has some, and for long enough that
 * it has woken up. */
static int64_t few_rows(const sr_type *type, int64_t N, int64_t K, int threads) {
    const int64_t step = (int64_t)threads * STRIP, least = (int64_t)threads * SR_ENCODE_ROWS;
    int64_t R = TRIED / K / step * step;
    if (R == 0) R = TRIED / K > least ? TRIED / K / least * least : least;
    for (; R < N; R *= 2) {
        sr_planes planes = {0};
        if (type->fmt->layout(type->fmt, R, K, &type->spec, &planes, NULL) == SR_OK) return R;
    }
    return N;
}

/* Rows are tried until they have taken long enough to tell. */
static sr_status try_rows(const struct trial *t, const sr_source *from, int64_t K, sr_err *err) {
    const sr_quantizer *q = t->d->q;
    const sr_job *j = t->kind->job;
    const bool narrow = K < j->K;
    sr_type type = sr_type_for(&(sr_type){j->fmt, j->spec}, K);
    type.spec.act_order = false; /* columns are sorted beforehand */
    int64_t R = few_rows(&type, j->N, K, q->threads);
    double all = 0;
    sr_status s = SR_OK;
    for (int64_t row0 = 0; s == SR_OK && row0 + R <= j->N && (all < ENOUGH || row0 == R); row0 += R) {
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
        all += sr_clock() - began;
        t->kind->each = all / (double)((row0 + R) * K);
    }
    return s;
}

static sr_status time_rows(void *ctx, const sr_source *from, const sr_weight *was, int n_was, sr_err *err) {
    const struct trial *t = ctx;
    const struct algebra *a = &t->d->algebra;
    const sr_job *j = t->kind->job;
    sr_arena arena = {0}; /* nothing is written to it: pages of what is large stay untouched */
    sr_weight to;
    sr_status s = sr_weight_create(j->fmt, j->N, j->K, &j->spec, &arena, &to, err);
    if (s == SR_OK && !sr_job_is_kept(j, was, &to, n_was)) {
        t->kind->method = sr_job_method(t->d->q, j, &to);
        const int64_t K = t->kind->method == SR_GPTQ && a->moments.K < j->K ? a->moments.K : j->K;
        s = try_rows(t, from, K, err);
        /* Errors of earlier columns are added to each: that is more work where there are more. */
        t->kind->each += (double)(j->K - K) * a->product;
    }
    sr_arena_free(&arena);
    return s;
}

static bool is_alike(const sr_job *a, const sr_job *b) {
    return a->fmt == b->fmt && a->was == b->was && a->K == b->K && a->spec.group == b->spec.group &&
           a->spec.bits == b->spec.bits && a->spec.axis == b->spec.axis && a->turn.n == b->turn.n;
}

static sr_status find_kind(struct duration *d, const sr_job *j, const struct kind **found, sr_err *err) {
    const bool solved = sr_job_is_solved(d->q, j);
    int k = 0;
    while (k < d->n && !(is_alike(d->kind[k].job, j) && sr_job_is_solved(d->q, d->kind[k].job) == solved)) k++;
    if (k == MOST_KINDS) k--;
    *found = &d->kind[k];
    if (k < d->n) return SR_OK;
    if (d->q->progress && !d->q->progress(d->q->user, "timing", d->n, d->n + 1))
        return sr_fail(err, SR_CANCELLED, "stopped before anything was written");
    struct trial t = {d, &d->kind[d->n++]};
    *t.kind = (struct kind){.job = j, .method = SR_RTN};
    return sr_job_open(d->q, j, time_rows, &t, err);
}

/* ---------------------------------------------------------------- calibration */

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
/* Seconds a row and the square of its columns, of so many strips at once. */
static double time_products(const struct products *p, int strips, int threads) {
    const double began = sr_clock();
    sr_pool_for(threads, strips, strip_products, (void *)p);
    return (sr_clock() - began) / ((double)strips * SR_SOLVE_ROWS * (double)p->K * (double)p->K);
}

static sr_status time_algebra(struct algebra *a, const sr_quantizer *q, sr_err *err) {
    const int K = (int)a->moments.K, threads = q->threads;
    const double square = (double)K * K;
    float *x = malloc(TOKENS * (size_t)K * sizeof *x);
    float *out = malloc((size_t)threads * SR_SOLVE_ROWS * (size_t)K * sizeof *out);
    a->moments = (sr_moments){.K = K,
                              .tokens = TOKENS,
                              .h = sr_pages_alloc((size_t)sr_upper_bytes(K)),
                              .d = malloc((size_t)K * sizeof(float))};
    float *const h = a->moments.h;
    sr_status s = x && out && h && a->moments.d ? SR_OK : sr_fail(err, SR_NOMEM, "no memory to time a calibration");
    uint64_t state = 1;
    for (int64_t i = 0; s == SR_OK && i < (int64_t)TOKENS * K; i++) x[i] = (float)(int32_t)sr_random(&state) * 0x1p-31f;
    for (int i = 0; i < 2 && s == SR_OK; i++) { /* pages are new for the first */
        const double began = sr_clock();
        sr_add_products(h, K, x, TOKENS, K, threads);
        a->moment = (sr_clock() - began) / (TOKENS * square);
    }
    const struct products symmetric = {x, h, out, K, true}, product = {x, h, out, K, false};
    if (s == SR_OK && q->method == SR_AWQ)
        a->symmetric = time_products(&symmetric, SR_AWQ_ROWS / SR_SOLVE_ROWS, threads);
    if (s == SR_OK && q->method == SR_GPTQ) {
        const double began = sr_clock();
        s = sr_moments_factor(&a->moments, 0, q->damp, threads, err);
        a->factor = (sr_clock() - began) / (square * K);
        a->product = time_products(&product, threads, threads);
    }
    free(x);
    free(out);
    return s;
}

/* Seconds of a weight and a token, of T tokens, in a product with a matrix as the model that is open has it. */
static sr_status find_step(struct duration *d, const sr_job *j, int T, double *each, sr_err *err) {
    int k = 0;
    sr_arena arena = {0};
    sr_weight w;
    while (k < d->n_steps && !(d->step[k].fmt == j->was && d->step[k].T == T)) k++;
    if (k == MOST_KINDS) k--;
    *each = k < d->n_steps ? d->step[k].each : 0;
    if (k < d->n_steps) return SR_OK;
    sr_status s = sr_weight_bind(d->q->file, d->q->config, j->from[0], -1, -1, &arena, &w, err);
    if (s == SR_OK) {
        const bool turned = j->turn.n > 0; /* of plain numbers, while it is opened */
        const sr_type type = {w.fmt, turned ? w.fmt->spec : w.spec};
        const int64_t K = turned ? j->K : w.K, all = turned ? j->N : w.N, most = PRODUCT / K;
        const int64_t N = j->n_from > 1 ? all : all / sr_job_experts(d->q, j);
        const int64_t rows = N < most ? N : most < TOKENS ? TOKENS : most / TOKENS * TOKENS;
        int64_t bytes;
        s = sr_time_product(d->q->engine->dev, &type, rows, K, T, REPEATED, &bytes, each, err);
        *each /= (double)rows * (double)K * T;
    }
    sr_arena_free(&arena);
    d->step[k].fmt = j->was;
    d->step[k].T = T;
    d->step[k].each = *each;
    d->n_steps++;
    return s;
}

/* What is tried for the scales of a matrix's columns. */
static double seconds_of_scales(const struct duration *d, const sr_job *j, const struct kind *kind) {
    const int experts = sr_job_experts(d->q, j);
    const double K = (double)j->K;
    const int64_t rows = sr_awq_sample(j->N / experts);
    return experts * (double)rows * (SR_AWQ_TRIES + 1) * (kind->each * K + K * K * d->algebra.symmetric);
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

/* Seconds to write `data` [HASHED] to a file without a name where the result goes, and to wait for the disk: a byte;
 * 0: not known. */
static double time_disk(const sr_quantizer *q, const void *data) {
    enum { TIMES = 3 };
    sr_slab slab = {.fd = -1};
    sr_err none = {0};
    double best = INFINITY;
    const size_t n = strlen(q->result) + sizeof ".timed";
    char *path = malloc(n);
    if (path) snprintf(path, n, "%s.timed", q->result);
    sr_status s = path && sr_path_look(path) == SR_PATH_ABSENT ? sr_slab_scratch(path, ON_DISK, &slab, &none) : SR_IO;
    if (s == SR_OK) s = sr_slab_sync(&slab, path, &none); /* and what else the system has kept for the disk */
    for (int i = 0; i < TIMES && s == SR_OK; i++) {
        const double began = sr_clock();
        for (int64_t at = 0; at < ON_DISK && s == SR_OK; at += HASHED)
            s = sr_slab_write(&slab, path, at, data, HASHED, &none);
        if (s == SR_OK) s = sr_slab_sync(&slab, path, &none);
        best = fmin(best, (sr_clock() - began) / ON_DISK);
    }
    if (slab.fd >= 0) sr_slab_close(&slab, path, NULL);
    free(path);
    return s == SR_OK ? best : 0;
}

/* Seconds that each byte of the result takes: on the disk, and of a directory to be hashed. */
static double time_byte(const sr_quantizer *q) {
    uint64_t state = 1, *data = malloc(HASHED);
    char hex[SR_DIGEST_HEX];
    if (!data) return 0;
    for (size_t i = 0; i < HASHED / sizeof *data; i++) data[i] = sr_random(&state); /* nothing that packs well */
    double each = time_disk(q, data);
    if (!q->target.gguf) {
        const double began = sr_clock();
        sr_digest d = sr_sha256();
        sr_digest_add(&d, data, HASHED);
        sr_digest_hex(&d, hex);
        each += (sr_clock() - began) / HASHED;
    }
    free(data);
    return each;
}

/* ---------------------------------------------------------------- */

/* Until the system has given each thread a processor, of which a process that has just begun has one. */
static void wake(void *ctx, int item, int thread) {
    const double *end = ctx;
    (void)item, (void)thread;
    while (sr_clock() < *end) continue;
}

static sr_status find(struct duration *d, double *seconds, sr_err *err) {
    const sr_quantizer *q = d->q;
    double awake = sr_clock() + AWAKE;
    sr_pool_for(q->threads, q->threads, wake, &awake);
    const bool calibrates = sr_method_calibrates(q->method);
    sr_status s = SR_OK;
    for (int i = 0; i < q->n_jobs && calibrates; i++)
        if (sr_job_inputs(q, i) && q->job[q->order[i]].K > d->algebra.moments.K)
            d->algebra.moments.K = q->job[q->order[i]].K;
    if (d->algebra.moments.K > COLUMNS) d->algebra.moments.K = COLUMNS;
    if (d->algebra.moments.K) s = time_algebra(&d->algebra, q, err);
    if (s == SR_OK && calibrates) s = find_calibration(d, seconds, err);
    for (int i = 0; i < q->n_jobs && s == SR_OK; i++) {
        const sr_job *j = &q->job[i];
        const struct kind *kind;
        if (!j->n_from || !j->fmt) continue;
        s = find_kind(d, j, &kind, err);
        if (s != SR_OK) break;
        *seconds += kind->each * (double)j->N * (double)j->K;
        if (kind->method == SR_AWQ && sr_awq_scales(q, j->role)) *seconds += seconds_of_scales(d, j, kind);
    }
    if (s == SR_OK) *seconds += time_byte(q) * (double)q->bytes_out;
    return s;
}

sr_status sr_quantizer_seconds(sr_quantizer *q, double *seconds, sr_err *err) {
    sr_err own = {0};
    struct duration d = {.q = q};
    int threads = 0;
    err = err ? err : &own;
    *seconds = NAN;
    const bool algebra = sr_method_calibrates(q->method);
    sr_status s = algebra ? sr_algebra_begin(&threads, err) : SR_OK;
    double sum = 0;
    if (s != SR_OK) return s;
    s = find(&d, &sum, err);
    if (s == SR_OK) *seconds = sum;
    const sr_moments *m = &d.algebra.moments;
    if (m->h) sr_pages_free(m->h, (size_t)sr_upper_bytes(m->K));
    free(m->d);
    if (algebra) sr_algebra_end(threads);
    return s == SR_OK ? sr_plan_memory(q, err) : s; /* some of what was freed stays with the process */
}
