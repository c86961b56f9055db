/* Scales of columns: AWQ (Lin et al. 2023, arXiv 2306.00978). A column that is multiplied with large inputs is made
 * larger before it is rounded, and what makes its inputs smaller by as much: a norm's weights, or the rows of the
 * matrix in front. Which exponent is best is tried on some rows, by the error d H d^T that rounding makes with H the
 * moments of the inputs. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/pool.h"
#include "core/core.h"
#include "quant/algebra.h"
#include "quant/quant.h"

enum { STRIP = SR_SOLVE_ROWS, MOST_CONSUMERS = 4 };

/* Matrices that one set of scales is for. */
struct group {
    const sr_quantizer *q;
    sr_job *job[MOST_CONSUMERS];
    int n_jobs, matrix; /* which of its experts */
    const sr_moments *m;
    int64_t K;
    float *scale; /* [K] */
};

/* ---------------------------------------------------------------- what a candidate costs */

struct sample {
    const sr_source *from;
    const float *scale; /* [K] or NULL */
    int64_t K, row0, step;
};
static void sample_rows(void *ctx, int64_t row0, int64_t n, float *out) {
    const struct sample *s = ctx;
    for (int64_t i = 0; i < n; i++, out += s->K) {
        s->from->rows(s->from->ctx, s->row0 + (row0 + i) * s->step, 1, out);
        for (int64_t k = 0; s->scale && k < s->K; k++) out[k] *= s->scale[k];
    }
}

struct cost {
    const struct group *g;
    const sr_source *rows;
    const sr_weight *w;
    float *scratch; /* [threads][2][STRIP][K] */
    double *sum;    /* [strips] */
};

int64_t sr_awq_bytes(int64_t K) {
    return 2 * STRIP * K * (int64_t)sizeof(float);
}

int64_t sr_awq_sample(int64_t N) {
    return N > SR_AWQ_ROWS && N % SR_AWQ_ROWS == 0 ? SR_AWQ_ROWS : N;
}

bool sr_awq_scales(const sr_quantizer *q, sr_role role) {
    switch (role) {
    case SR_ATTN_OUT:
    case SR_DOWN:
    case SR_SHARED_DOWN:
    case SR_EXPERT_DOWN:
    case SR_EXPERTS_DOWN:
    case SR_SWITCH_DOWN:
        return true;
    case SR_Q_B:
    case SR_SHARED_GATE:
    case SR_SHARED_UP:
    case SR_SHARED_GATE_UP:
        return false;
    default:
        return !q->arch->parallel && sr_calibration_place(role) < sr_calibration_place(SR_EXPERTS_GATE);
    }
}

static void strip_cost(void *ctx, int item, int thread) {
    const struct cost *c = ctx;
    const int64_t K = c->w->K, row0 = (int64_t)item * STRIP, left = c->w->N - row0;
    const int R = left < STRIP ? (int)left : STRIP;
    float *d = c->scratch + (int64_t)thread * 2 * STRIP * K, *dh = d + STRIP * K;
    c->rows->rows(c->rows->ctx, row0, R, d);
    for (int r = 0; r < R; r++) {
        c->w->fmt->decode(c->w, row0 + r, 0, K, dh);
        for (int64_t k = 0; k < K; k++) d[r * K + k] = (d[r * K + k] - dh[k]) / c->g->scale[k];
    }
    sr_multiply_symmetric(d, c->g->m->h, R, (int)K, dh);
    double sum = 0;
    for (int64_t i = 0; i < R * K; i++) sum += (double)d[i] * (double)dh[i];
    c->sum[item] = sum;
}

struct trial {
    struct group *g;
    const sr_job *job;
    float *mean; /* [K]: sums of |w| relative to their group's largest */
    int64_t *n;  /* rows in them */
    double *cost;
    bool measures; /* fills mean; else adds to cost */
};

/* Sampled rows of one consumer, rounded under the group's scales as all will be. */
static sr_status try_job(void *ctx, const sr_source *from, const sr_weight *was, int n_was, sr_err *err) {
    const struct trial *t = ctx;
    const sr_quantizer *q = t->g->q;
    const sr_job *j = t->job;
    const int64_t K = j->K, each = j->N / sr_job_experts(q, j);
    struct sample sample = {from, t->measures ? NULL : t->g->scale, K, t->g->matrix * each, 1};
    const int64_t N = sr_awq_sample(each);
    (void)was, (void)n_was;
    sample.step = each / N;
    const sr_source rows = {.rows = sample_rows, .ctx = &sample};
    if (t->measures) {
        float *row = malloc((size_t)K * sizeof *row);
        const int64_t group = j->spec.group > 0 ? j->spec.group : j->fmt->group ? j->fmt->group : K;
        if (!row) return sr_fail(err, SR_NOMEM, "no memory to look for scales");
        for (int64_t i = 0; i < N; i++) {
            sample_rows(&sample, i, 1, row);
            for (int64_t k0 = 0; k0 < K; k0 += group) {
                const int64_t end = K - k0 < group ? K : k0 + group;
                float most = 0;
                for (int64_t k = k0; k < end; k++) most = fabsf(row[k]) > most ? fabsf(row[k]) : most;
                for (int64_t k = k0; k < end && most > 0; k++) t->mean[k] += fabsf(row[k]) / most;
            }
        }
        *t->n += N;
        free(row);
        return SR_OK;
    }
    sr_arena arena = {0};
    sr_weight w;
    struct cost c = {t->g, &rows, &w, NULL, NULL};
    sr_qspec spec = j->spec;
    spec.act_order = false;
    const int strips = (int)((N + STRIP - 1) / STRIP);
    float *importance = malloc((size_t)K * sizeof *importance);
    sr_status s = sr_weight_create(j->fmt, N, K, &spec, &arena, &w, err);
    if (s == SR_OK) w.encoder = sr_dev_encoder(q->engine->dev, j->fmt);
    for (int64_t k = 0; k < K && importance; k++)
        importance[k] = t->g->m->h[sr_upper(k, k)] / (t->g->scale[k] * t->g->scale[k]);
    if (s == SR_OK)
        s = importance ? sr_encode(&w, &rows, importance, 1, q->threads, err)
                       : sr_fail(err, SR_NOMEM, "no memory to look for scales");
    c.scratch = s == SR_OK ? malloc((size_t)q->threads * (size_t)sr_awq_bytes(K)) : NULL;
    c.sum = s == SR_OK ? malloc((size_t)strips * sizeof *c.sum) : NULL;
    if (s == SR_OK && (!c.scratch || !c.sum)) s = sr_fail(err, SR_NOMEM, "no memory to look for scales");
    if (s == SR_OK) {
        sr_pool_for(q->threads, strips, strip_cost, &c);
        for (int i = 0; i < strips; i++) *t->cost += c.sum[i] * ((double)each / (double)N);
    }
    free(importance);
    free(c.scratch);
    free(c.sum);
    sr_arena_free(&arena);
    return s;
}

static sr_status visit(struct group *g, struct trial *t, sr_err *err) {
    sr_status s = SR_OK;
    for (int i = 0; i < g->n_jobs && s == SR_OK; i++) {
        t->job = g->job[i];
        s = sr_job_open(g->q, t->job, try_job, t, err);
    }
    return s;
}

/* Columns that share a scale: those of query heads that share a head of values. */
struct ties {
    int64_t head, share; /* features of a head, heads a group; share 1: none */
};
static void tie(const struct ties *t, float *scale, int64_t K) {
    if (t->share < 2) return;
    for (int64_t k0 = 0; k0 < K; k0 += t->head * t->share)
        for (int64_t i = 0; i < t->head; i++) {
            float most = 0;
            for (int64_t h = 0; h < t->share; h++) {
                const float v = scale[k0 + h * t->head + i];
                most = v > most ? v : most;
            }
            for (int64_t h = 0; h < t->share; h++) scale[k0 + h * t->head + i] = most;
        }
}

/* s = x^r / w^(1 - r), x the inputs' root mean square, w the mean of |w| relative to its group's largest; around 1. */
static void candidate(const struct group *g, const float *mean, double r, const struct ties *ties) {
    float low = INFINITY, high = 0;
    for (int64_t k = 0; k < g->K; k++) {
        const double x = sqrt((double)g->m->h[sr_upper(k, k)]);
        double s = pow(x, r) / (pow((double)mean[k], 1 - r) + 1e-4);
        if (!(s >= 1e-4)) s = 1e-4;
        g->scale[k] = s < 1e4 ? (float)s : 1e4f;
    }
    tie(ties, g->scale, g->K);
    for (int64_t k = 0; k < g->K; k++) {
        low = g->scale[k] < low ? g->scale[k] : low;
        high = g->scale[k] > high ? g->scale[k] : high;
    }
    const float by = 1 / sqrtf(low * high);
    for (int64_t k = 0; k < g->K; k++) g->scale[k] *= by;
}

/* The best scales, into g->scale; *found false where 1 is as good. */
static sr_status search(struct group *g, const struct ties *ties, bool *found, sr_err *err) {
    float *mean = calloc((size_t)g->K, sizeof *mean);
    int64_t n = 0;
    double best = INFINITY, least = 0;
    int which = -1;
    struct trial t = {.g = g, .mean = mean, .n = &n, .measures = true};
    *found = false;
    if (!mean) return sr_fail(err, SR_NOMEM, "no memory to look for scales");
    sr_status s = visit(g, &t, err);
    for (int64_t k = 0; k < g->K && n; k++) mean[k] /= (float)n;
    t.measures = false;
    for (int i = -1; i < SR_AWQ_TRIES && s == SR_OK; i++) {
        double cost = 0;
        t.cost = &cost;
        for (int64_t k = 0; k < g->K; k++) g->scale[k] = 1;
        if (i >= 0) candidate(g, mean, (double)i / SR_AWQ_TRIES, ties);
        s = visit(g, &t, err);
        if (i < 0) least = cost;
        if (cost < best) best = cost, which = i;
    }
    if (s == SR_OK && which >= 0 && best < least) {
        candidate(g, mean, (double)which / SR_AWQ_TRIES, ties);
        *found = true;
    }
    free(mean);
    return s;
}

/* ---------------------------------------------------------------- which matrices, and what stands in front */

static sr_job *matrix_job(const sr_quantizer *q, sr_role role, int layer, int expert) {
    for (int i = 0; i < q->n_jobs; i++) {
        sr_job *j = &q->job[i];
        if (j->n_from && j->role == role && j->layer == layer && j->expert == expert) return j;
    }
    return NULL;
}

/* A vector by its name in the source. */
static sr_job *vector_job(const sr_quantizer *q, sr_role role, int layer, int expert, const char *suffix) {
    char name[SR_NAME];
    if (expert >= 0 ? !sr_name_expert(&q->naming, role, layer, expert, suffix, name)
                    : !sr_name_full(&q->naming, role, layer, suffix, name))
        return NULL;
    for (int i = 0; i < q->n_jobs; i++)
        if (q->job[i].copy && strcmp(q->job[i].copy->name, name) == 0) return &q->job[i];
    return NULL;
}

static float *ones(float **at, int64_t n, sr_arena *arena, sr_err *err) {
    if (!*at) {
        *at = sr_arena_alloc(arena, (size_t)n, sizeof **at);
        for (int64_t i = 0; *at && i < n; i++) (*at)[i] = 1;
    }
    if (!*at) sr_fail(err, SR_NOMEM, "no memory for scales");
    return *at;
}

static bool add_consumer(struct group *g, sr_job *j) {
    if (!j) return true;
    if (!j->fmt || !j->fmt->fit) return false; /* it is copied: its columns cannot change */
    g->job[g->n_jobs++] = j;
    g->K = j->K;
    return true;
}

static sr_status scale_columns(struct group *g, sr_arena *arena, sr_err *err) {
    for (int i = 0; i < g->n_jobs; i++) {
        sr_job *j = g->job[i];
        float *by = ones(&j->by_col, sr_job_experts(g->q, j) * g->K, arena, err);
        if (!by) return err->code;
        for (int64_t k = 0; k < g->K; k++) by[g->matrix * g->K + k] *= g->scale[k];
    }
    return SR_OK;
}

/* The norm's weights and bias become smaller, by a scale at which they can be stored without another error. */
static sr_status scale_norm(struct group *g, sr_job *weight, sr_job *bias, sr_arena *arena, sr_err *err) {
    const int64_t K = g->K;
    float *w = malloc((size_t)K * sizeof *w), *by = ones(&weight->by_row, K, arena, err),
          *shift = bias ? ones(&bias->by_row, K, arena, err) : NULL;
    sr_status s = w && by && (shift || !bias) ? SR_OK : sr_fail(err, SR_NOMEM, "no memory for scales");
    weight->around1 = g->q->arch->norm_plus1 && !g->q->file->gguf && !weight->plus1;
    if (s == SR_OK) s = sr_job_vector(weight, w, err);
    for (int64_t k = 0; k < K && s == SR_OK; k++) {
        const float stored = sr_job_stored(weight, w[k] / g->scale[k]);
        const float scale = w[k] / stored;
        g->scale[k] = scale > 1e-6f && scale < 1e6f ? scale : 1;
        by[k] = 1 / g->scale[k];
        if (shift) shift[k] = by[k];
    }
    free(w);
    return s == SR_OK ? scale_columns(g, arena, err) : s;
}

/* Rows row0 + i of the matrix in front, and of its bias, become smaller by the scale of a column that they make. */
static sr_status scale_rows(struct group *g, sr_job *in_front, sr_job *bias, int64_t row0, int64_t n,
                            const struct ties *ties, sr_arena *arena, sr_err *err) {
    float *by = ones(&in_front->by_row, in_front->N, arena, err);
    float *shift = bias ? ones(&bias->by_row, in_front->N, arena, err) : NULL;
    if (!by || (bias && !shift)) return err->code;
    for (int64_t i = 0; i < n; i++) {
        const float scale = g->scale[i / ties->head * ties->head * ties->share + i % ties->head];
        by[row0 + i] /= scale;
        if (shift) shift[row0 + i] /= scale;
    }
    return scale_columns(g, arena, err);
}

struct layer {
    const sr_quantizer *q;
    sr_calibration *calibration;
    int at;
    sr_arena *arena;
    sr_err *err;
};

/* Moments and scales of a group, if there are any. */
static sr_status solve(struct layer *l, struct group *g, const struct ties *ties, bool *found) {
    sr_moments *m = NULL;
    *found = false;
    if (!g->n_jobs) return SR_OK;
    const sr_job *j = g->job[0];
    sr_status s =
        sr_calibration_moments(l->calibration, l->at, j->role, j->expert >= 0 ? j->expert : g->matrix, &m, l->err);
    if (s != SR_OK || !m || m->K != g->K) return s;
    g->m = m;
    g->scale = malloc((size_t)g->K * sizeof *g->scale);
    if (!g->scale) return sr_fail(l->err, SR_NOMEM, "no memory to look for scales");
    return search(g, ties, found, l->err);
}

static sr_status behind_norm(struct layer *l, sr_role norm, const sr_role *roles, int n) {
    static const struct ties none = {1, 1};
    struct group g = {.q = l->q};
    sr_job *weight = vector_job(l->q, norm, l->at, -1, ".weight"), *bias = vector_job(l->q, norm, l->at, -1, ".bias");
    bool found, all = weight != NULL;
    for (int i = 0; i < n && all; i++) all = add_consumer(&g, matrix_job(l->q, roles[i], l->at, -1));
    if (!all || weight->copy->n_elements != g.K) return SR_OK;
    sr_status s = solve(l, &g, &none, &found);
    if (s == SR_OK && found) s = scale_norm(&g, weight, bias, l->arena, l->err);
    free(g.scale);
    return s;
}

/* `to` is multiplied with what rows row0 .. of `from` make. */
static sr_status behind_rows(struct layer *l, sr_role from, sr_role to, int expert, int matrix, int64_t row0, int64_t n,
                             const struct ties *ties) {
    struct group g = {.q = l->q, .matrix = matrix};
    sr_job *in_front = matrix_job(l->q, from, l->at, expert);
    bool found;
    if (!in_front || !in_front->fmt || !in_front->fmt->fit || in_front->head_rows ||
        !add_consumer(&g, matrix_job(l->q, to, l->at, expert)) || !g.n_jobs || g.K != n * ties->share)
        return SR_OK;
    const int64_t rows = in_front->N / sr_job_experts(l->q, in_front);
    if (row0 + n > rows) return SR_OK;
    sr_status s = solve(l, &g, ties, &found);
    if (s == SR_OK && found)
        s = scale_rows(&g, in_front, vector_job(l->q, from, l->at, expert, ".bias"), matrix * rows + row0, n, ties,
                       l->arena, l->err);
    free(g.scale);
    return s;
}

sr_status sr_awq_layer(const sr_quantizer *q, sr_calibration *c, int layer, sr_arena *arena, sr_err *err) {
    static const sr_role in[] = {SR_Q, SR_K, SR_V, SR_QKV}, latent[] = {SR_Q, SR_Q_A, SR_KV_A},
                         up[] = {SR_GATE, SR_UP, SR_GATE_UP};
    static const struct ties none = {1, 1};
    const sr_hparams *h = &q->h;
    const sr_layer_kind *kind = &h->kind[layer];
    struct layer l = {q, c, layer, arena, err};
    const bool is_latent = h->latent.rank > 0;
    const int64_t hd = h->head_dim, n_q = kind->n_head * hd, n_kv = kind->n_kv_head * hd;
    sr_status s = SR_OK;
    /* In the order in which a pass meets them, so that what was summed up in one serves all. */
    if (!q->arch->parallel)
        s = is_latent ? behind_norm(&l, SR_ATTN_NORM, latent, 3) : behind_norm(&l, SR_ATTN_NORM, in, 4);
    if (s == SR_OK && !is_latent && kind->n_head % kind->n_kv_head == 0) {
        const struct ties heads = {hd, kind->n_head / kind->n_kv_head};
        s = behind_rows(&l, SR_V, SR_ATTN_OUT, -1, 0, 0, n_kv, &heads);
        if (s == SR_OK) s = behind_rows(&l, SR_QKV, SR_ATTN_OUT, -1, 0, n_q + n_kv, n_kv, &heads);
    }
    if (s == SR_OK && !q->arch->parallel && !kind->sparse) s = behind_norm(&l, SR_FFN_NORM, up, 3);
    if (q->arch->ungated || h->act == SR_ACT_SWIGLU || h->act == SR_ACT_SWIGLU_PAIRS) return s;
    if (s == SR_OK && !kind->sparse) s = behind_rows(&l, SR_UP, SR_DOWN, -1, 0, 0, kind->d_ff, &none);
    if (s == SR_OK && !kind->sparse) s = behind_rows(&l, SR_GATE_UP, SR_DOWN, -1, 0, kind->d_ff, kind->d_ff, &none);
    if (!kind->sparse) return s;
    if (s == SR_OK) s = behind_rows(&l, SR_SHARED_UP, SR_SHARED_DOWN, -1, 0, 0, h->d_shared, &none);
    for (int e = 0; e < h->gating.n && s == SR_OK; e++) {
        s = behind_rows(&l, SR_EXPERT_UP, SR_EXPERT_DOWN, e, 0, 0, h->d_expert, &none);
        if (s == SR_OK) s = behind_rows(&l, SR_EXPERTS_UP, SR_EXPERTS_DOWN, -1, e, 0, h->d_expert, &none);
        if (s == SR_OK) s = behind_rows(&l, SR_SWITCH_UP, SR_SWITCH_DOWN, -1, e, 0, h->d_expert, &none);
    }
    return s;
}
