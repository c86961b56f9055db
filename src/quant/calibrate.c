/* Second moments of what matrices are multiplied with, one layer at a time: the states of all windows of a text are
 * kept in two files, before and behind the layer, and pass through it as often as it takes to sum up what is asked for
 * within the budget. What comes of it is the model as it was before anything was quantized. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/disk.h"
#include "base/map.h"
#include "base/path.h"
#include "core/core.h"
#include "quant/algebra.h"
#include "quant/quant.h"

/* TOKEN: bytes that the model's tokenizer has of one, about. */
enum { GATHER = 256, TOGETHER = 256 << 20, TOKEN = 80 };

/* Matrices that are multiplied with the same. */
typedef enum kind { ATTN_IN, Q_B_IN, OUT_IN, FFN_IN, DOWN_IN, SHARED_DOWN_IN, EXPERT_IN, EXPERT_DOWN_IN, N_KINDS } kind;

static kind kind_of(sr_role role) {
    switch (role) {
    case SR_Q:
    case SR_K:
    case SR_V:
    case SR_QKV:
    case SR_Q_A:
    case SR_KV_A:
        return ATTN_IN;
    case SR_Q_B:
        return Q_B_IN;
    case SR_ATTN_OUT:
        return OUT_IN;
    case SR_GATE:
    case SR_UP:
    case SR_GATE_UP:
    case SR_SHARED_GATE:
    case SR_SHARED_UP:
    case SR_SHARED_GATE_UP:
        return FFN_IN;
    case SR_DOWN:
        return DOWN_IN;
    case SR_SHARED_DOWN:
        return SHARED_DOWN_IN;
    case SR_EXPERTS_GATE:
    case SR_EXPERTS_UP:
    case SR_EXPERTS_GATE_UP:
    case SR_SWITCH_GATE:
    case SR_SWITCH_UP:
    case SR_EXPERT_GATE:
    case SR_EXPERT_UP:
        return EXPERT_IN;
    case SR_EXPERTS_DOWN:
    case SR_SWITCH_DOWN:
    case SR_EXPERT_DOWN:
        return EXPERT_DOWN_IN;
    default:
        return N_KINDS;
    }
}

int sr_calibration_place(sr_role role) {
    return kind_of(role);
}

bool sr_calibration_knows(sr_role role) {
    return kind_of(role) != N_KINDS;
}

/* One input of the layer. */
typedef struct input {
    int item, matrix; /* of the watch: what shows it */
    kind kind;
    bool wanted, seen;  /* summed up in the pass that runs; a pass has */
    sr_moments moments; /* h NULL: not held */
    sr_slab file;       /* behind h, or closed */
} input;

struct sr_calibration {
    const sr_quantizer *q;
    sr_model *model;
    sr_session *session;
    sr_watch *watch;
    int blas_threads;
    bool has_blas;
    sr_slab state[2]; /* of the layer's input, and its output once ahead */
    char *path[2], *moments_path;
    float *row; /* [batch][d_model] */
    int layer;  /* whose input state[0] is; -1: none yet */
    bool ahead;
    input *input; /* of the layer, in the order in which they are met */
    int n_inputs;
    /* Rows of one input that wait for each other. */
    float *gather; /* [GATHER][max K] */
    int n_gather;
    input *gathering;
    sr_err *err;
};

static bool is_finite(const float *x, int64_t n) {
    float sum = 0;
    for (int64_t i = 0; i < n; i++) sum += x[i] * 0;
    return sum == 0;
}

static void sum_up(sr_calibration *c, input *in, const float *x, int T, int64_t ld) {
    sr_moments *m = &in->moments;
    /* A token that is not a number is left out; one that is would be lost among them. */
    for (int t = 0, from = 0; t <= T; t++) {
        const bool good = t < T && is_finite(x + t * ld, m->K);
        if (good) continue;
        if (t > from) sr_add_products(m->h, (int)m->K, x + from * ld, t - from, ld, c->q->threads);
        m->tokens += t - from;
        from = t + 1;
    }
}

static void flush(sr_calibration *c) {
    if (c->gathering && c->n_gather) sum_up(c, c->gathering, c->gather, c->n_gather, c->gathering->moments.K);
    c->n_gather = 0;
    c->gathering = NULL;
}

static void see(void *ctx, int item, int matrix, const float *x, int T, int64_t ld) {
    sr_calibration *c = ctx;
    for (int i = 0; i < c->n_inputs; i++) {
        input *in = &c->input[i];
        if (in->item != item || in->matrix != matrix || !in->wanted) continue;
        if (T >= GATHER) {
            sum_up(c, in, x, T, ld);
            return;
        }
        if (c->gathering != in || c->n_gather + T > GATHER) flush(c);
        c->gathering = in;
        for (int t = 0; t < T; t++, c->n_gather++)
            memcpy(c->gather + c->n_gather * in->moments.K, x + t * ld, (size_t)in->moments.K * sizeof *x);
        return;
    }
}

/* ---------------------------------------------------------------- layers */

static void drop(sr_calibration *c, input *in) {
    if (in->moments.h) sr_pages_free(in->moments.h, (size_t)sr_upper_bytes(in->moments.K));
    sr_slab_close(&in->file, c->moments_path, NULL);
    free(in->moments.d);
    free(in->moments.order);
    in->moments = (sr_moments){.K = in->moments.K};
}

static sr_status list_inputs(sr_calibration *c) {
    int n, all = 0;
    const sr_watched *item = sr_watch_items(c->watch, &n);
    for (int i = 0; i < c->n_inputs; i++) drop(c, &c->input[i]);
    c->n_inputs = 0;
    for (int i = 0; i < n; i++) all += item[i].layer == c->layer ? item[i].n : 0;
    free(c->input);
    c->input = calloc((size_t)all + 1, sizeof *c->input);
    if (!c->input) return sr_fail(c->err, SR_NOMEM, "no memory to calibrate a layer");
    bool met[N_KINDS + 1] = {false};
    for (int i = 0; i < n; i++) {
        const kind k = kind_of(item[i].role);
        if (item[i].layer != c->layer || k == N_KINDS || met[k]) continue;
        met[k] = true;
        for (int m = 0; m < item[i].n; m++)
            c->input[c->n_inputs++] = (input){.item = i, .matrix = m, .kind = k, .moments.K = item[i].K, .file.fd = -1};
    }
    return SR_OK;
}

/* The layer over one piece of a window whose states are in c->row. */
static void step(sr_calibration *c, int first, int T, int32_t table) {
    sr_model *m = c->model;
    sr_engine *e = m->engine;
    const size_t bytes = (size_t)T * (size_t)m->dec.h.d_model * sizeof *c->row;
    for (int t = 0; t < T; t++) e->pos[t] = first + t, e->rope_table[t] = table;
    e->span[0] = (sr_span){0, T, first, c->session->kv};
    const sr_step_view view = {T, e->ids, e->pos, e->rope_table, e->span, 1, &e->cancel};
    e->dev->ops->begin(e->dev);
    e->dev->ops->write(e->dev, e->scratch.x, c->row, bytes);
    sr_decoder_layer(&m->dec, e->dev, &e->scratch, &view, c->layer);
    e->dev->ops->read(e->dev, e->scratch.x, c->row, bytes);
    e->dev->ops->end(e->dev, NULL);
}

static sr_status report(sr_calibration *c, double done) {
    const sr_quantizer *q = c->q;
    const int n = c->model->dec.h.n_layer;
    char what[64];
    snprintf(what, sizeof what, "calibrating layer %d of %d", c->layer + 1, n);
    if (!q->progress || q->progress(q->user, what, done, 1)) return SR_OK;
    return sr_fail(c->err, SR_CANCELLED, "stopped while calibrating; --resume goes on");
}

/* All windows through the layer; the states behind it are kept where there are none yet. */
static sr_status pass(sr_calibration *c) {
    const sr_quantizer *q = c->q;
    const int d = c->model->dec.h.d_model, batch = c->model->engine->batch, n_ctx = q->calibration.n_ctx;
    const int32_t table = sr_decoder_table(&c->model->dec, n_ctx);
    sr_status s = SR_OK;
    for (int64_t w = 0; w < q->calibration.n_windows && s == SR_OK; w++) {
        s = report(c, (double)w / (double)q->calibration.n_windows);
        for (int first = 0, T; first < n_ctx && s == SR_OK; first += T) {
            T = n_ctx - first < batch ? n_ctx - first : batch;
            const int64_t at = (w * n_ctx + first) * d * (int64_t)sizeof *c->row;
            const size_t bytes = (size_t)T * (size_t)d * sizeof *c->row;
            s = sr_slab_read(&c->state[0], c->path[0], at, c->row, bytes, c->err);
            if (s == SR_OK) step(c, first, T, table);
            if (s == SR_OK && !c->ahead) s = sr_slab_write(&c->state[1], c->path[1], at, c->row, bytes, c->err);
        }
    }
    flush(c);
    c->ahead = c->ahead || s == SR_OK;
    return s;
}

/* The states of layer 0. */
static sr_status embed(sr_calibration *c) {
    const sr_quantizer *q = c->q;
    sr_model *m = c->model;
    sr_engine *e = m->engine;
    const int d = m->dec.h.d_model;
    const int64_t n = q->calibration.n_windows * q->calibration.n_ctx;
    sr_status s = SR_OK;
    for (int64_t at = 0; at < n && s == SR_OK; at += e->batch) {
        const int T = n - at < e->batch ? (int)(n - at) : e->batch;
        const size_t bytes = (size_t)T * (size_t)d * sizeof *c->row;
        memcpy(e->ids, q->calibration.ids + at, (size_t)T * sizeof *e->ids);
        e->dev->ops->begin(e->dev);
        e->dev->ops->embed(e->dev, &m->dec.embed, e->ids, T, m->dec.h.embed_scale, e->scratch.x);
        e->dev->ops->read(e->dev, e->scratch.x, c->row, bytes);
        e->dev->ops->end(e->dev, NULL);
        s = sr_slab_write(&c->state[0], c->path[0], at * d * (int64_t)sizeof *c->row, c->row, bytes, c->err);
    }
    c->layer = 0;
    return s == SR_OK ? list_inputs(c) : s;
}

static sr_status go_to(sr_calibration *c, int layer) {
    sr_status s = c->layer < 0 ? embed(c) : SR_OK;
    while (s == SR_OK && c->layer < layer) {
        for (int i = 0; i < c->n_inputs; i++) c->input[i].wanted = false;
        if (!c->ahead) s = pass(c);
        if (s != SR_OK) break;
        const sr_slab now = c->state[0];
        c->state[0] = c->state[1];
        c->state[1] = now;
        c->layer++;
        c->ahead = false;
        s = list_inputs(c);
    }
    return s;
}

bool sr_moments_join(const sr_quantizer *q, int64_t K, sr_kept *kept) {
    const int64_t bytes = sr_upper_bytes(K), most = q->moments_bytes < TOGETHER ? q->moments_bytes : TOGETHER;
    const bool filed = bytes > q->moments_bytes;
    if (filed ? kept->disk > 0 : kept->memory > 0 && kept->memory + bytes > most) return false;
    *(filed ? &kept->disk : &kept->memory) += bytes;
    return true;
}

/* Room for an input's moments, zero; behind the pages a file where they are too large for memory. */
static sr_status hold(sr_calibration *c, input *in, bool filed) {
    sr_moments *m = &in->moments;
    const int64_t bytes = sr_upper_bytes(m->K);
    sr_status s = filed ? sr_slab_scratch(c->moments_path, bytes, &in->file, c->err) : SR_OK;
    if (s != SR_OK) return s;
    m->h = sr_pages_alloc((size_t)bytes);
    m->d = malloc((size_t)m->K * sizeof *m->d);
    if (m->h && m->d && (!filed || sr_pages_to_file(m->h, (size_t)bytes, in->file.fd, 0))) return SR_OK;
    drop(c, in);
    return sr_fail(c->err, SR_NOMEM, "no memory for the moments of %lld columns: %lld MiB", (long long)m->K,
                   (long long)bytes >> 20);
}

/* Sums up this input, and those behind it as far as they may be held together. */
static sr_status collect(sr_calibration *c, input *first) {
    sr_kept kept = {0};
    sr_status s = SR_OK;
    for (int i = 0; i < c->n_inputs; i++) {
        drop(c, &c->input[i]);
        c->input[i].wanted = false;
    }
    for (input *in = first; in < c->input + c->n_inputs && s == SR_OK; in++) {
        const int64_t filed = kept.disk;
        if (!sr_moments_join(c->q, in->moments.K, &kept)) break;
        s = hold(c, in, kept.disk > filed);
        in->wanted = in->seen = s == SR_OK;
    }
    if (s == SR_OK) s = pass(c);
    for (int i = 0; i < c->n_inputs && s == SR_OK; i++) {
        sr_moments *m = &c->input[i].moments;
        if (!c->input[i].wanted) continue;
        const int64_t n = sr_upper_bytes(m->K) / (int64_t)sizeof(float);
        for (int64_t k = 0; k < n && m->tokens > 0; k++) m->h[k] /= (float)m->tokens;
    }
    return s;
}

sr_status sr_calibration_moments(sr_calibration *c, int layer, sr_role role, int matrix, sr_moments **out,
                                 sr_err *err) {
    const kind k = kind_of(role);
    c->err = err;
    *out = NULL;
    if (k == N_KINDS || layer < 0 || layer < c->layer) return SR_OK;
    sr_status s = go_to(c, layer);
    for (int i = 0; i < c->n_inputs && s == SR_OK; i++) {
        input *in = &c->input[i];
        if (in->kind != k || in->matrix != matrix) continue;
        if (!in->moments.h) s = collect(c, in);
        if (s == SR_OK && in->moments.tokens > 0) *out = &in->moments;
        break;
    }
    return s;
}

/* ---------------------------------------------------------------- factors */

struct by_diagonal {
    float d;
    int32_t column;
};
static int larger_first(const void *a, const void *b) {
    const struct by_diagonal *x = a, *y = b;
    return x->d > y->d ? -1 : x->d < y->d ? 1 : x->column - y->column;
}

/* h with rows and columns in another order, where it is: what is not in its place yet has changed places with those
 * that are. */
static void permute(const sr_moments *m, const int32_t *order) {
    for (int64_t i = 0; i < m->K; i++) {
        int64_t from = order[i];
        while (from < i) from = order[from];
        sr_upper_swap(m->h, m->K, i, from);
    }
}

/* Runs of `lane` columns by what they have on the diagonal together. */
static sr_status sort_columns(sr_moments *m, int lane, sr_err *err) {
    const int64_t K = m->K, n = K / lane;
    int32_t *order = malloc((size_t)K * sizeof *order);
    struct by_diagonal *by = calloc((size_t)n, sizeof *by);
    if (!order || !by) {
        free(order), free(by);
        return sr_fail(err, SR_NOMEM, "no memory to sort %lld columns", (long long)K);
    }
    for (int64_t k = 0; k < n * lane; k++) {
        by[k / lane].column = (int32_t)(k / lane * lane);
        by[k / lane].d += m->h[sr_upper(k, k)];
    }
    qsort(by, (size_t)n, sizeof *by, larger_first);
    for (int64_t k = 0; k < K; k++) order[k] = k < n * lane ? by[k / lane].column + (int32_t)(k % lane) : (int32_t)k;
    free(by);
    free(m->order);
    m->order = order;
    permute(m, order);
    return SR_OK;
}

sr_status sr_moments_factor(sr_moments *m, int lane, double damp, int threads, sr_err *err) {
    const int64_t K = m->K;
    if (m->factored) return SR_OK;
    double mean = 0;
    for (int64_t k = 0; k < K; k++) mean += m->h[sr_upper(k, k)] / (double)K;
    if (!(mean > 0)) mean = 1;
    sr_status s = lane ? sort_columns(m, lane, err) : SR_OK;
    if (s != SR_OK) return s;
    for (int64_t k = 0; k < K; k++) m->h[sr_upper(k, k)] += (float)(damp * mean);
    sr_factor_upper(m->h, (int)K, m->d, threads);
    m->factored = true;
    return SR_OK;
}

/* ---------------------------------------------------------------- */

sr_status sr_calibration_step(const sr_quantizer *q, int64_t *bytes, sr_err *err) {
    sr_decoder dec = {.arch = q->arch, .h = q->h, .embed.N = q->h.n_vocab};
    const int n_ctx = q->calibration.n_ctx, T = n_ctx < q->engine->batch ? n_ctx : q->engine->batch;
    const int64_t pages = (n_ctx - 1) / SR_KV_PAGE + 1;
    bool quantized = false, plain = false, gathers = n_ctx % GATHER != 0;
    int64_t kv = 0, floats = (int64_t)T * q->h.d_model;
    sr_status s = sr_engine_reserve(q->engine, &dec, err);
    if (s != SR_OK) return s;
    for (int i = 0; i < q->n_jobs; i++) {
        const sr_job *j = &q->job[i];
        if (!j->n_from || j->layer < 0) continue;
        *(j->was->tile == SR_TILE_I8 ? &quantized : &plain) = true;
        gathers = gathers || (sr_calibration_knows(j->role) && kind_of(j->role) >= EXPERT_IN);
    }
    for (int i = 0; i < q->h.n_layer; i++) {
        const sr_kv_shape shape = sr_decoder_kv(&dec, i);
        const int64_t features = (int64_t)shape.n_kv_head * (shape.k + shape.v);
        kv = features > kv ? features : kv;
    }
    if (gathers) floats += GATHER * sr_decoder_max_k(&dec);
    *bytes = sr_step_bytes(q->engine, &dec, T, quantized, plain) + floats * (int64_t)sizeof(float) +
             pages * SR_KV_PAGE * kv * (int64_t)sizeof(uint16_t) + (int64_t)q->h.n_vocab * TOKEN;
    return SR_OK;
}

static int64_t state_bytes(const sr_quantizer *q) {
    return q->calibration.n_windows * q->calibration.n_ctx * q->h.d_model * (int64_t)sizeof(float);
}

/* What opening the model turns around of a layer: experts, and keys of latent attention, in f32 where they are not
 * plain. */
static int64_t turned_bytes(const sr_quantizer *q, int layer) {
    static const sr_role stacks[] = {SR_EXPERTS_GATE_UP, SR_EXPERTS_DOWN};
    char stem[SR_NAME];
    sr_parts parts;
    int64_t n = 0;
    for (int i = 0; i < 2 && q->arch->turned_experts; i++) {
        const sr_part *p = sr_name_full(&q->naming, stacks[i], layer, "", stem) ? sr_file_part(q->file, stem) : NULL;
        n += p ? p->bytes : 0;
    }
    const sr_latent *l = &q->h.latent;
    if (!l->rank || !sr_name_full(&q->naming, SR_KV_B, layer, "", stem)) return n;
    if (!sr_weight_parts(q->file, stem, &parts) || parts.n == 0) return n;
    const sr_stored *type = parts.item[0].part->type;
    const bool plain = parts.n == 1 && sr_format_by_name(type->name) && sr_is_plain(sr_format_by_name(type->name));
    return n + (int64_t)q->h.n_head * l->d_nope * l->rank * (plain ? type->bytes : 4);
}

int64_t sr_calibration_disk(const sr_quantizer *q) {
    int64_t n = 2 * state_bytes(q);
    for (int i = 0; i < q->h.n_layer; i++) n += turned_bytes(q, i);
    return n;
}

static char *in_stage(sr_calibration *c, const char *stage, const char *name, sr_err *err) {
    char *path = sr_path_join(&c->model->arena, stage, name);
    if (!path) sr_fail(err, SR_NOMEM, "no memory for a path");
    return path;
}

static sr_status open_states(sr_calibration *c, const char *stage, sr_err *err) {
    static const char *const name[] = {"states-0", "states-1"};
    if (!(c->moments_path = in_stage(c, stage, "moments", err))) return err->code;
    for (int i = 0; i < 2; i++) {
        if (!(c->path[i] = in_stage(c, stage, name[i], err))) return err->code;
        sr_status s = sr_slab_scratch(c->path[i], state_bytes(c->q), &c->state[i], err);
        if (s != SR_OK) return s;
    }
    return SR_OK;
}

/* Only one layer at a time has keys and values: all have them where the first one's are. */
static void share_pages(sr_session *s) {
    char *const first = s->kv[0].k;
    for (int i = 0; i < s->model->dec.h.n_layer; i++) {
        sr_kv *kv = &s->kv[i];
        if (kv->v) kv->v = first + ((char *)kv->v - (char *)kv->k);
        kv->k = first;
    }
}

sr_status sr_calibration_open(const sr_quantizer *q, const char *stage, sr_calibration **out, sr_err *err) {
    sr_calibration *c = *out = calloc(1, sizeof *c);
    if (!c) return sr_fail(err, SR_NOMEM, "no memory to calibrate");
    c->q = q;
    c->layer = -1;
    c->state[0].fd = c->state[1].fd = -1;
    const sr_model_options model = {.format = q->format, .scratch_dir = stage};
    const sr_session_options session = {.n_ctx = q->calibration.n_ctx, .kv_type = "f16"};
    sr_status s = sr_algebra_begin(&c->blas_threads, err);
    c->has_blas = s == SR_OK;
    if (s == SR_OK) s = sr_model_open(q->engine, q->file->path, &model, &c->model, err);
    if (s == SR_OK) s = sr_session_create(c->model, &session, &c->session, err);
    if (s == SR_OK) share_pages(c->session);
    if (s == SR_OK) s = sr_watch_open(c->model, see, c, &c->watch, err);
    if (s == SR_OK) s = open_states(c, stage, err);
    if (s == SR_OK) {
        const size_t K = (size_t)sr_decoder_max_k(&c->model->dec), d = (size_t)c->model->dec.h.d_model;
        c->row = malloc((size_t)q->engine->batch * d * sizeof *c->row);
        c->gather = malloc(GATHER * K * sizeof *c->gather);
        if (!c->row || !c->gather) s = sr_fail(err, SR_NOMEM, "no memory to calibrate");
    }
    if (s != SR_OK) {
        sr_calibration_close(c);
        *out = NULL;
    }
    return s;
}

void sr_calibration_close(sr_calibration *c) {
    if (!c) return;
    for (int i = 0; i < 2; i++) sr_slab_close(&c->state[i], "", NULL);
    for (int i = 0; i < c->n_inputs; i++) drop(c, &c->input[i]);
    free(c->input);
    free(c->row);
    free(c->gather);
    sr_watch_close(c->watch);
    sr_session_free(c->session);
    sr_model_close(c->model);
    if (c->has_blas) sr_algebra_end(c->blas_threads);
    free(c);
}
