/* What a model would take and how fast it would be in another type: sizes from shapes, speed from the device's own
 * product with a matrix of that type, and the memory's. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/map.h"
#include "core/core.h"
#include "quant/quant.h"

/* TRIAL_BYTES: of a matrix that is timed, more than most caches have for a process. */
enum { MOST_KINDS = 16, TRIAL_BYTES = 96 << 20 };
static const double TRIAL_SECONDS = 0.03;

/* The matrices that would have one type. */
struct kind {
    const sr_format *fmt;
    double weights;
    double active;  /* bytes a token is multiplied with, */
    double calls;   /* in so many products */
    int64_t most_k; /* columns, mostly */
};

struct forecast {
    const sr_model *m;
    sr_isq isq;
    struct kind kind[MOST_KINDS];
    int n;
    double weights;
    int64_t bytes, edge_bytes;
    double kld;
    bool plain, quantized; /* whether some are */
};

static sr_status add(void *user, sr_role role, int layer, int expert, sr_weight *w, sr_err *err) {
    struct forecast *f = user;
    const sr_hparams *h = &f->m->dec.h;
    const sr_format *fmt;
    int64_t bytes;
    int k = 0;
    (void)layer, (void)err;
    sr_isq_expect(&f->isq, role, w, &fmt, &bytes);
    while (k < f->n && f->kind[k].fmt != fmt) k++;
    if (k == MOST_KINDS) k--;
    if (k == f->n) f->kind[f->n++] = (struct kind){.fmt = fmt};
    const bool experts = role >= SR_EXPERTS_GATE && role <= SR_EXPERTS_DOWN;
    double share = role == SR_EMBED && !h->tied ? 0 : experts ? (double)h->gating.used / h->gating.n : 1;
    f->kind[k].weights += (double)w->N * (double)w->K;
    f->kind[k].active += share * (double)bytes;
    /* Matrices of one input are multiplied together, and an expert is no call of its own. */
    f->kind[k].calls += role == SR_K || role == SR_V || role == SR_UP || share == 0 || expert > 0 ? 0 : 1;
    f->kind[k].most_k = w->K > f->kind[k].most_k ? w->K : f->kind[k].most_k;
    f->bytes += bytes;
    f->weights += (double)w->N * (double)w->K;
    if (share > 0) *(fmt->tile == SR_TILE_I8 ? &f->quantized : &f->plain) = true;
    if (fmt != w->fmt && (expert <= 0)) f->kld += sr_cost_guess(h, role) * (double)fmt->rtn_err * (double)fmt->rtn_err;
    return SR_OK;
}

static double time_product(sr_dev *dev, const sr_weight *w, const float *x, int T, float *y, double seconds) {
    const int64_t ld = w->N;
    double best = INFINITY, end = sr_clock() + seconds;
    do {
        const double t = sr_clock();
        dev->ops->begin(dev);
        dev->ops->matmul(dev, &w, 1, x, T, w->K, &y, &ld);
        dev->ops->end(dev, NULL);
        const double took = sr_clock() - t;
        best = took < best ? took : best;
    } while (sr_clock() < end);
    return best;
}

sr_status sr_time_product(sr_dev *dev, const sr_type *type, int64_t N, int64_t K, int T, double seconds, int64_t *bytes,
                          double *best, sr_err *err) {
    sr_arena arena = {0};
    sr_weight w;
    sr_status s = sr_weight_create(type->fmt, N, K, &type->spec, &arena, &w, err);
    float *x = sr_arena_alloc(&arena, (size_t)T * (size_t)K, sizeof *x);
    float *y = sr_arena_alloc(&arena, (size_t)T * (size_t)N, sizeof *y);
    if (s == SR_OK && (!x || !y)) s = sr_fail(err, SR_NOMEM, "no memory to time %s", type->fmt->name);
    if (s == SR_OK) s = dev->ops->place(dev, &w, err);
    if (s == SR_OK) {
        sr_weight_sample(&w, 1);
        for (int64_t k = 0; k < T * K; k++) x[k] = (float)((k * 37 + 11) % 101 - 50) / 50;
        *bytes = sr_weight_bytes(&w);
        *best = time_product(dev, &w, x, T, y, seconds);
    }
    sr_arena_free(&arena);
    return s;
}

/* A matrix as large as all that a token meets of this kind, or what stands for it, and one of almost nothing, which
 * tells what each product takes in any case. */
static sr_status find_seconds(const struct forecast *f, double *seconds, sr_err *err) {
    sr_dev *dev = f->m->engine->dev;
    sr_status s = SR_OK;
    *seconds = 0;
    for (int i = 0; i < f->n && s == SR_OK; i++) {
        const struct kind *k = &f->kind[i];
        const sr_type type = {k->fmt, k->fmt->spec};
        const int64_t K = k->most_k;
        int64_t few = 16, small, large;
        double each, took;
        if (k->active == 0) continue;
        s = sr_time_product(dev, &type, few, K, 1, TRIAL_SECONDS, &small, &each, err);
        if (s != SR_OK) break;
        const int64_t most = (int64_t)fmin(k->active, TRIAL_BYTES), N = most / (small / few + 1) / 64 * 64 + 64;
        s = sr_time_product(dev, &type, N, K, 1, TRIAL_SECONDS, &large, &took, err);
        *seconds += k->active * fmax(took - each, took / 2) / (double)large + k->calls * each;
    }
    return s;
}

int64_t sr_step_bytes(const sr_engine *e, const sr_decoder *dec, int T, bool quantized, bool plain) {
    int64_t per_token[SR_N_SCRATCH], sum = 0;
    sr_decoder_scratch(dec, per_token);
    for (int i = 0; i < SR_N_SCRATCH; i++) sum += per_token[i];
    return T * sum * (int64_t)sizeof(float) + (int64_t)sr_decoder_host_bytes(dec, T) +
           (int64_t)e->dev->ops->working(e->dev, T, sr_decoder_max_k(dec), quantized, plain, dec->h.gating.n > 0);
}

sr_status sr_model_forecast(sr_model *m, const char *isq, bool experts_only, const sr_session_options *session,
                            bool timed, sr_forecast *out, sr_err *err) {
    sr_err own = {0};
    err = err ? err : &own;
    struct forecast f = {.m = m, .isq = {.experts_only = experts_only}};
    const sr_engine *e = m->engine;
    const sr_hparams *h = &m->dec.h;
    sr_memory now;
    *out = (sr_forecast){.seconds = NAN};
    sr_status s = isq ? sr_isq_resolve(isq, &f.isq, err) : SR_OK;
    if (s == SR_OK) s = sr_decoder_each(&m->dec, add, &f, err);
    if (s != SR_OK) return s;
    const int64_t own_bytes = sr_session_bytes(m, session);
    if (own_bytes < 0) return sr_fail(err, SR_INVALID, "the session's options make no sense");
    int most = 0;
    for (int i = 1; i < f.n; i++)
        if (f.kind[i].weights > f.kind[most].weights) most = i;
    const int32_t n_ctx = session && session->n_ctx ? session->n_ctx : h->n_ctx_train;
    const int T = n_ctx < e->batch ? n_ctx : e->batch;
    sr_memory_now(&now);
    out->type = f.isq.fmt ? f.isq.fmt->name : f.kind[most].fmt->name;
    out->weight_bytes = f.bytes;
    out->session_bytes = own_bytes;
    out->scratch_bytes =
        sr_step_bytes(e, &m->dec, T, f.quantized, f.plain) + (h->n_vocab + h->d_model) * (int64_t)sizeof(float);
    out->other_bytes = (int64_t)now.rss_anon;
    out->memory = out->weight_bytes + out->session_bytes + out->scratch_bytes + out->other_bytes;
    out->bits_per_weight = 8 * (double)f.bytes / f.weights;
    out->kld = f.kld;
    return timed ? find_seconds(&f, &out->seconds, err) : SR_OK;
}
