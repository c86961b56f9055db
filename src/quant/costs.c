/* What rounding each matrix of a model to each of a target's types costs: the relative error that some of its rows get,
 * times what such an error costs the model. The latter is measured: the matrices of a group are rounded in the open
 * model, a text runs through it, and the divergence from what it said before is divided by their errors. Divergence
 * grows with the square of small errors, and errors of different matrices hardly know of each other, so that costs add
 * up; by how much they do not, rounding all at once tells (`scale`). */
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/buffer.h"
#include "base/digest.h"
#include "base/disk.h"
#include "base/json.h"
#include "base/map.h"
#include "base/path.h"
#include "core/core.h"
#include "quant/quant.h"

enum {
    PIECES = 8,       /* runs of SR_ENCODE_ROWS rows of which errors are measured */
    EACH_ALONE = 64,  /* so many matrices are measured one by one; of more, */
    MOST_GROUPS = 48, /* about so many groups of layers */
    KEPT = 256 << 20, /* bytes of logits kept of the text */
    CACHE_LIMIT = 64 << 20
};
/* What all are, and one group is, rounded to; in a directory the first type of so many bits. */
static const struct probe {
    const char *gguf;
    int bits;
} all_of = {"q4_k", 4}, probe_of = {"q3_k", 3};

/* Types of GGUF's in question; those below 3 bits need importances. */
static const char *const types[] = {"iq2_xxs", "iq2_xs", "iq2_s",  "q2_k", "iq3_xxs", "q3_k",
                                    "iq3_s",   "iq4_xs", "iq4_nl", "q4_0", "q4_1",    "q4_k",
                                    "q5_0",    "q5_1",   "q5_k",   "q6_k", "q8_0",    "f16"};
_Static_assert(sizeof types / sizeof *types <= SR_MOST_TYPES, "a cost has room for them");

static sr_status no_memory(sr_err *err) {
    return sr_fail(err, SR_NOMEM, "no memory to measure what types cost");
}

static int index_of(const sr_costs *c, const sr_format *fmt) {
    for (int t = 0; t < c->n_types; t++)
        if (c->type[t].fmt == fmt) return t;
    return -1;
}

/* Whether a matrix of this type is copied as it is. */
static bool stays_in(const sr_quantizer *q, const sr_job *j, const sr_format *fmt) {
    const bool kept = q->file->gguf && q->target.gguf && sr_mix_has(fmt);
    return j->n_from && j->was == fmt && (kept || (!q->target.gguf && sr_is_plain(fmt)));
}

/* ---------------------------------------------------------------- errors of matrices */

struct sample {
    sr_costs *c;
    sr_cost *cost;
};
struct picked {
    const sr_source *from;
    int64_t start[PIECES];
};
static void picked_rows(void *ctx, int64_t row0, int64_t n, float *out) {
    const struct picked *p = ctx;
    p->from->rows(p->from->ctx, p->start[row0 / SR_ENCODE_ROWS] + row0 % SR_ENCODE_ROWS, n, out);
}

/* Squared error of w against the rows, relative, weighed by importance [pieces][K]. */
static double weighed_error(const sr_weight *w, const float *rows, const float *importance, float *back) {
    double error = 0, power = 0;
    for (int64_t i = 0; i < w->N; i++) {
        const float *x = rows + i * w->K;
        w->fmt->decode(w, i, 0, w->K, back);
        for (int64_t k = 0; k < w->K; k++) {
            const double weight = importance ? (double)importance[i / SR_ENCODE_ROWS * w->K + k] : 1;
            const double v = x[k], e = v - (double)back[k];
            error += weight * e * e;
            power += weight * v * v;
        }
    }
    return power > 0 ? error / power : 0;
}

static sr_status sample_errors(void *ctx, const sr_source *from, const sr_weight *w, int n, sr_err *err) {
    struct sample *s = ctx;
    sr_costs *c = s->c;
    const sr_job *j = s->cost->job;
    const int pieces = j->N >= PIECES * SR_ENCODE_ROWS ? PIECES : (int)(j->N / SR_ENCODE_ROWS);
    const int64_t K = j->K, N = pieces ? (int64_t)pieces * SR_ENCODE_ROWS : j->N;
    sr_arena arena = {0};
    float *all = NULL, *importance = NULL;
    int n_importance = 0;
    struct picked p = {.from = from};
    (void)w, (void)n;
    for (int i = 0; i < pieces; i++) p.start[i] = pieces > 1 ? i * (j->N - SR_ENCODE_ROWS) / (pieces - 1) : 0;
    sr_status status = sr_job_importance(c->plan, j, &arena, &all, &n_importance, err);
    float *rows = sr_arena_alloc(&arena, (size_t)N * (size_t)K, sizeof *rows);
    float *back = sr_arena_alloc(&arena, (size_t)K, sizeof *back);
    if (n_importance)
        importance = sr_arena_alloc(&arena, (size_t)(pieces ? pieces : 1) * (size_t)K, sizeof *importance);
    if (status == SR_OK && (!rows || !back || (n_importance && !importance))) status = no_memory(err);
    if (status != SR_OK) {
        sr_arena_free(&arena);
        return status;
    }
    for (int i = 0; n_importance && i < (pieces ? pieces : 1); i++) /* of the expert that has the piece */
        memcpy(importance + i * K, all + p.start[i] / (j->N / n_importance) * K, (size_t)K * sizeof *importance);
    for (int64_t i = 0; i < N; i += SR_ENCODE_ROWS)
        picked_rows(&p, i, N - i < SR_ENCODE_ROWS ? N - i : SR_ENCODE_ROWS, rows + i * K);
    const sr_source source = {.rows = picked_rows, .ctx = &p};
    for (int t = 0; t < c->n_types && status == SR_OK; t++) {
        sr_arena own = {0};
        sr_weight to;
        const sr_type type = sr_type_for(&c->type[t], K);
        const bool stays = stays_in(c->plan, j, type.fmt);
        s->cost->error[t] = stays ? 0 : -1;
        if (stays || s->cost->bytes[t] < 0) continue;
        status = sr_weight_create(type.fmt, N, K, &type.spec, &own, &to, err);
        if (status == SR_OK) to.encoder = sr_dev_encoder(c->plan->engine->dev, type.fmt);
        if (status == SR_OK) status = sr_encode(&to, &source, importance, pieces ? pieces : 1, c->plan->threads, err);
        if (status == SR_OK) s->cost->error[t] = (float)weighed_error(&to, rows, importance, back);
        if (status == SR_OK && !isfinite(s->cost->error[t]))
            status = sr_fail(err, SR_CORRUPT, "%s: its weights are not all finite numbers", j->module);
        sr_arena_free(&own);
    }
    sr_arena_free(&arena);
    return status;
}

static sr_status progress(const sr_costs *c, const char *what, int done, int all, sr_err *err) {
    return !c->progress || c->progress(c->user, what, done, all) ? SR_OK
                                                                 : sr_fail(err, SR_CANCELLED, "%s was cancelled", what);
}

static sr_status find_errors(sr_costs *c, sr_err *err) {
    sr_status s = SR_OK;
    for (int i = 0; i < c->n && s == SR_OK; i++) {
        struct sample sample = {c, &c->cost[i]};
        s = progress(c, "rounding samples", i, c->n, err);
        if (s == SR_OK) s = sr_job_open(c->plan, c->cost[i].job, sample_errors, &sample, err);
    }
    return s;
}

/* ---------------------------------------------------------------- the text */

static double log_sum(const float *logits, int32_t n) {
    float most = logits[0];
    double sum = 0;
    for (int32_t i = 1; i < n; i++) most = logits[i] > most ? logits[i] : most;
    for (int32_t i = 0; i < n; i++) sum += expf(logits[i] - most);
    return (double)most + log(sum);
}

static void take_logits(void *user, sr_session *session, int32_t position, const float *logits) {
    sr_costs *c = user;
    sr_reference *r = c->reference;
    const int32_t V = c->model->dec.h.n_vocab;
    (void)session;
    if (position < r->first || position > r->n_ctx - 2) return;
    const int64_t at = r->window * (r->n_ctx - 1 - r->first) + position - r->first;
    float *want = r->logits + at * V;
    const double norm = log_sum(logits, V);
    if (!r->filled) {
        memcpy(want, logits, (size_t)V * sizeof *want);
        r->norm[at] = norm;
        return;
    }
    double kld = 0;
    for (int32_t i = 0; i < V; i++) {
        const double log_p = (double)want[i] - r->norm[at];
        if (log_p > -50) kld += exp(log_p) * (log_p - ((double)logits[i] - norm));
    }
    r->sum += kld > 0 ? kld : 0;
    r->n++;
}

/* The text through the model as it is now: the first time kept, then compared. */
static sr_status run_text(sr_costs *c, double *kld, sr_err *err) {
    sr_reference *r = c->reference;
    sr_status s = SR_OK;
    r->sum = 0;
    r->n = 0;
    for (r->window = 0; r->window < r->n_windows && s == SR_OK; r->window++) {
        const int32_t *ids = r->ids + r->window * r->n_ctx, other = ids[0] ? 0 : 1;
        sr_session_on_logits(r->session, NULL, NULL);
        s = sr_session_sync(r->session, &other, 1, err); /* so that no prefix is kept */
        const int32_t until[2] = {r->first, r->n_ctx - 1};
        for (int i = 0; i < 2 && s == SR_OK; i++) {
            if (i) sr_session_on_logits(r->session, take_logits, c);
            s = sr_session_sync(r->session, ids, until[i], err);
            while (s == SR_OK && sr_session_n_pending(r->session) > 0) s = sr_step(&r->session, 1, err);
        }
    }
    r->filled = r->filled || s == SR_OK;
    if (kld) *kld = r->n ? r->sum / (double)r->n : 0;
    return s;
}

static sr_status open_text(sr_costs *c, const sr_costs_options *o, sr_err *err) {
    if (!c->model || o->n_windows < 1) return SR_OK;
    const int64_t V = c->model->dec.h.n_vocab, fit = KEPT / (V * (int64_t)sizeof(float)) / o->n_windows;
    sr_reference *r = c->reference = sr_arena_alloc(&c->arena, 1, sizeof *r);
    if (!r) return no_memory(err);
    if (o->n_ctx < 4) return sr_fail(err, SR_INVALID, "windows of %d tokens are too short", o->n_ctx);
    r->n_windows = o->n_windows;
    r->n_ctx = o->n_ctx;
    r->first = o->n_ctx / 2;
    if (r->first < o->n_ctx - 1 - fit) r->first = (int32_t)(o->n_ctx - 1 - (fit < 1 ? 1 : fit));
    const size_t n = (size_t)r->n_windows * (size_t)(r->n_ctx - 1 - r->first), ids = (size_t)(r->n_windows * r->n_ctx);
    r->ids = sr_arena_alloc(&c->arena, ids, sizeof *r->ids);
    r->logits = sr_arena_alloc(&c->arena, n * (size_t)V, sizeof *r->logits);
    r->norm = sr_arena_alloc(&c->arena, n, sizeof *r->norm);
    if (!r->ids || !r->logits || !r->norm) return no_memory(err);
    memcpy(r->ids, o->ids, ids * sizeof *r->ids);
    return sr_session_create(c->model, &(sr_session_options){.n_ctx = r->n_ctx}, &r->session, err);
}

/* ---------------------------------------------------------------- rounding in the open model */

struct rounding {
    sr_costs *c;
    const int *choice; /* [n] of types, -1: as it is */
    sr_isq isq;
    struct kept {
        sr_weight *at, was;
    } * kept;
    int n_kept, cap;
};

static sr_status round_matrix(void *user, sr_role role, int layer, int expert, sr_weight *w, sr_err *err) {
    struct rounding *r = user;
    const sr_costs *c = r->c;
    const sr_type *type = NULL;
    for (int i = 0; i < c->n && !type; i++)
        if (r->choice[i] >= 0 && sr_role_stacked(c->cost[i].job->role) == role && c->cost[i].job->layer == layer)
            type = &c->type[r->choice[i]];
    if (!type || (type->fmt == w->fmt && !w->fmt->spec.method)) return SR_OK;
    if (r->n_kept == r->cap) {
        const int cap = 2 * r->cap + 64;
        struct kept *more = realloc(r->kept, (size_t)cap * sizeof *more);
        if (!more) return no_memory(err);
        r->kept = more;
        r->cap = cap;
    }
    r->kept[r->n_kept++] = (struct kept){w, *w};
    return sr_isq_make(&r->isq, type->fmt, &type->spec, role, layer, expert, w, err);
}

/* The divergence with these matrices rounded; the model is as before afterwards. */
static sr_status with_types(sr_costs *c, const int *choice, double *kld, int *n_rounded, sr_err *err) {
    sr_arena arena = {0};
    sr_decoder *d = &c->model->dec;
    struct rounding r = {.c = c,
                         .choice = choice,
                         .isq = {.importance = c->plan->importance,
                                 .naming = {d->arch, true, "", ""},
                                 .n_expert = d->h.gating.n,
                                 .engine = c->model->engine,
                                 .arena = &arena}};
    sr_status s = sr_decoder_each(d, round_matrix, &r, err);
    if (d->h.tied) d->head = d->embed;
    if (s == SR_OK) s = run_text(c, kld, err);
    for (int i = 0; i < r.n_kept; i++) *r.kept[i].at = r.kept[i].was;
    if (d->h.tied) d->head = d->embed;
    *n_rounded = r.n_kept;
    free(r.kept);
    sr_arena_free(&arena);
    return s;
}

sr_status sr_costs_try(sr_costs *c, const int *choice, double *kld, sr_err *err) {
    int n;
    *kld = NAN;
    if (!c->reference) return SR_OK;
    sr_status s = c->reference->filled ? SR_OK : run_text(c, NULL, err);
    return s == SR_OK ? with_types(c, choice, kld, &n, err) : s;
}

static int type_at(const sr_costs *c, const struct probe *probe, const sr_cost *m) {
    int t = 0;
    if (!c->plan->target.fmt->spec.method) /* GGUF's, in UQFF too */
        t = index_of(c, sr_mix_fitting(sr_format_by_name(probe->gguf), m->job->K));
    else
        while (t < c->n_types && (m->bytes[t] < 0 || c->type[t].fmt->spec.bits < probe->bits)) t++;
    return t < 0 || t == c->n_types ? c->n_types - 1 : t;
}

/* Matrices of one kind and neighbouring layers. */
static void make_groups(sr_costs *c) {
    int roles = 0, band = 1;
    bool seen[SR_N_ROLES] = {false};
    for (int i = 0; i < c->n; i++) {
        roles += !seen[c->cost[i].job->role];
        seen[c->cost[i].job->role] = true;
    }
    if (c->n > EACH_ALONE) {
        const int bands = MOST_GROUPS / roles > 1 ? MOST_GROUPS / roles : 1;
        band = (c->plan->h.n_layer + bands - 1) / bands;
    }
    for (int i = 0; i < c->n; i++) {
        const sr_job *j = c->cost[i].job;
        int same = 0;
        while (c->cost[same].job->role != j->role || c->cost[same].job->layer / band != j->layer / band) same++;
        c->cost[i].group = same == i ? c->n_groups++ : c->cost[same].group;
    }
}

static sr_status measure(sr_costs *c, sr_err *err) {
    int *choice = sr_arena_alloc(&c->arena, (size_t)c->n, sizeof *choice), n;
    double kld, known = 0;
    int n_known = 0;
    if (!choice) return no_memory(err);
    sr_status s = run_text(c, NULL, err);
    for (int g = 0; g < c->n_groups && s == SR_OK; g++) {
        double error = 0, sense = -1;
        for (int i = 0; i < c->n; i++) {
            choice[i] = -1;
            if (c->cost[i].group != g) continue;
            choice[i] = type_at(c, &probe_of, &c->cost[i]);
            error += (double)c->cost[i].error[choice[i]];
        }
        s = progress(c, "measuring matrices", g, c->n_groups, err);
        if (s == SR_OK) s = with_types(c, choice, &kld, &n, err);
        if (s == SR_OK && n > 0 && error > 0) {
            sense = kld / error;
            known += sense;
            n_known++;
        }
        for (int i = 0; i < c->n; i++)
            if (c->cost[i].group == g) c->cost[i].sense = sense;
    }
    for (int i = 0; i < c->n && s == SR_OK; i++) { /* what the open model has as rows of others */
        sr_cost *m = &c->cost[i];
        if (m->sense < 0) m->sense = n_known ? known / n_known : 1;
        choice[i] = type_at(c, &all_of, m);
    }
    int64_t bytes;
    double sum;
    if (s == SR_OK) s = with_types(c, choice, &kld, &n, err);
    if (s != SR_OK) return s;
    sr_allot_sum(c, choice, &bytes, &sum);
    if (sum > 0 && kld > 0) c->scale = kld / sum;
    return SR_OK;
}

/* Without a text: what the kinds of matrices cost all together in the bundled model, where this was measured (over
 * held-out texts, without importances); each layer its share. */
double sr_cost_guess(const sr_hparams *h, sr_role role) {
    static const struct {
        sr_role role;
        float sense;
    } kinds[] = {{SR_HEAD, 1.17F}, {SR_Q, 0.13F},           {SR_K, 0.24F},       {SR_V, 0.54F},
                 {SR_QKV, 0.91F},  {SR_ATTN_OUT, 0.22F},    {SR_GATE, 0.44F},    {SR_EXPERTS_GATE, 0.44F},
                 {SR_UP, 0.38F},   {SR_EXPERTS_UP, 0.38F},  {SR_GATE_UP, 0.82F}, {SR_EXPERTS_GATE_UP, 0.82F},
                 {SR_DOWN, 0.47F}, {SR_EXPERTS_DOWN, 0.47F}};
    if (role == SR_EMBED) return h->tied ? 1.24 : 0.06; /* tied, it is the head too */
    for (size_t k = 0; k < sizeof kinds / sizeof *kinds; k++)
        if (kinds[k].role == role) return (double)kinds[k].sense / (role == SR_HEAD ? 1 : h->n_layer);
    return 0.28 / h->n_layer; /* as those of attention on the average */
}

/* ---------------------------------------------------------------- what is kept of measurements */

/* Everything that they depend on. */
static sr_status identity(const sr_costs *c, char hex[SR_DIGEST_HEX], sr_err *err) {
    sr_digest d = sr_sha256();
    const sr_quantizer *q = c->plan;
    sr_digest_add(&d, SR_VERSION, sizeof SR_VERSION);
    sr_digest_source(q, &d);
    for (int t = 0; t < c->n_types; t++) {
        sr_digest_add(&d, c->type[t].fmt->name, strlen(c->type[t].fmt->name) + 1);
        sr_digest_add(&d, &c->type[t].spec.group, sizeof c->type[t].spec.group);
        sr_digest_add(&d, &c->type[t].spec.sym, sizeof c->type[t].spec.sym);
    }
    for (int i = 0; i < c->n; i++) {
        sr_arena arena = {0};
        float *values;
        int n;
        const int64_t K = c->cost[i].job->K;
        sr_status s = sr_imatrix_of(q->importance, c->cost[i].name, K, q->h.gating.n, &arena, &values, &n, err);
        sr_digest_add(&d, c->cost[i].name, strlen(c->cost[i].name) + 1);
        if (s == SR_OK && n) sr_digest_add(&d, values, (size_t)n * (size_t)K * sizeof *values);
        sr_arena_free(&arena);
        if (s != SR_OK) return s;
    }
    const sr_reference *r = c->reference;
    if (r) {
        sr_digest_add(&d, &r->n_ctx, sizeof r->n_ctx);
        sr_digest_add(&d, &r->first, sizeof r->first);
        sr_digest_add(&d, r->ids, (size_t)(r->n_windows * r->n_ctx) * sizeof *r->ids);
    }
    sr_digest_hex(&d, hex);
    return SR_OK;
}

static void write_cache(const sr_costs *c, const char *path) {
    sr_buffer b = {0};
    char number[40];
    sr_buffer_text(&b, "{\"version\":\"" SR_VERSION "\",\n\"scale\":");
    snprintf(number, sizeof number, "%.17g", c->scale);
    sr_buffer_text(&b, number);
    sr_buffer_text(&b, ",\n\"matrices\":{");
    for (int i = 0; i < c->n; i++) {
        sr_buffer_text(&b, i ? ",\n" : "\n");
        sr_buffer_json(&b, c->cost[i].name, strlen(c->cost[i].name));
        snprintf(number, sizeof number, ":[%.17g", c->cost[i].sense);
        sr_buffer_text(&b, number);
        for (int t = 0; t < c->n_types; t++) {
            snprintf(number, sizeof number, ",%.9g", (double)c->cost[i].error[t]);
            sr_buffer_text(&b, number);
        }
        sr_buffer_text(&b, "]");
    }
    sr_buffer_text(&b, "}}\n");
    if (!b.failed) sr_disk_put(path, b.at, b.n, NULL); /* else it is measured again */
    sr_buffer_free(&b);
}

static bool read_matrix(sr_costs *c, sr_json *j, const sr_json_value *key) {
    sr_json_value v;
    double x;
    int i = 0;
    while (i < c->n && !sr_json_equals(key, c->cost[i].name)) i++;
    for (int t = -1; t < c->n_types; t++) {
        if (sr_json_next(j, &v) != SR_JSON_NUMBER || !sr_json_double(&v, &x) || i == c->n) return false;
        if (t < 0)
            c->cost[i].sense = x;
        else
            c->cost[i].error[t] = (float)x;
        if (t < 0 ? !(x >= 0) : (x < 0) != (c->cost[i].bytes[t] < 0)) return false;
    }
    return sr_json_next(j, &v) == SR_JSON_END;
}

/* Whether all is there; a file that was damaged is as none. */
static bool read_cache(sr_costs *c, const char *path) {
    char *text = NULL;
    size_t n = 0;
    int found = 0;
    bool fine = sr_file_read(path, CACHE_LIMIT, &text, &n, NULL) == SR_OK;
    sr_json j = sr_json_over(fine ? text : "", n, path, NULL);
    sr_json_value key, v, inner;
    fine = fine && sr_json_next(&j, &v) == SR_JSON_OBJECT;
    c->scale = 0;
    for (sr_json_kind k; fine && (k = sr_json_next_pair(&j, &key, &v)) != SR_JSON_END;) {
        if (k == SR_JSON_ERROR)
            fine = false;
        else if (sr_json_equals(&key, "scale"))
            fine = sr_json_double(&v, &c->scale);
        else if (k == SR_JSON_OBJECT && sr_json_equals(&key, "matrices"))
            while (fine && (k = sr_json_next_pair(&j, &inner, &v)) != SR_JSON_END)
                fine = k == SR_JSON_ARRAY && read_matrix(c, &j, &inner) && ++found <= c->n;
        else
            sr_json_skip(&j, &v);
    }
    free(text);
    return fine && found == c->n && c->scale > 0;
}

/* ---------------------------------------------------------------- the whole */

/* Types below 3 bits are for those who know which columns matter. */
static bool is_coarse(const sr_format *fmt) {
    const sr_stored *stored = sr_stored_by_name(fmt->name);
    int64_t bytes;
    if (fmt->spec.method) return fmt->spec.bits < 3;
    return sr_stored_bytes(stored, SR_KC, &bytes) && 8 * bytes < 3 * SR_KC;
}

/* GGUF's, as far as importances allow. */
static void list_gguf_types(sr_costs *c) {
    const sr_quantizer *q = c->plan;
    for (size_t i = 0; i < sizeof types / sizeof *types; i++) {
        const sr_format *fmt = sr_format_by_name(types[i]);
        if (!fmt || !sr_format_writable(fmt) || (is_coarse(fmt) && !q->importance)) continue;
        c->type[c->n_types++] = (sr_type){fmt, fmt->spec};
    }
    c->n_usual = c->n_types;
    for (int i = 0; i < q->n_jobs; i++) /* and what is there already, for the matrices that have it */
        if (stays_in(q, &q->job[i], q->job[i].was) && index_of(c, q->job[i].was) < 0 && c->n_types < SR_MOST_TYPES)
            c->type[c->n_types++] = (sr_type){q->job[i].was, q->job[i].was->spec};
}

/* A directory's, likewise, and plain numbers, which leave a matrix as it is. */
static void list_types(sr_costs *c) {
    const sr_quantizer *q = c->plan;
    const char *plain = "bf16";
    sr_type type;
    for (int i = 0; c->n_types + 1 < SR_MOST_TYPES && sr_target_candidate(&q->target, i, &type); i++)
        if (q->importance || !is_coarse(type.fmt)) c->type[c->n_types++] = type;
    for (int i = 0; i < q->n_jobs; i++)
        if (q->job[i].n_from && q->job[i].was == sr_format_by_name("f16")) plain = "f16";
    const sr_format *fmt = sr_format_by_name(plain);
    c->type[c->n_types++] = (sr_type){fmt, fmt->spec};
    c->n_usual = c->n_types;
}

/* Bytes of a job's tensors in that type. */
static sr_status bytes_of(const sr_job *job, const sr_type *type, int64_t *bytes, sr_err *err) {
    sr_arena arena = {0}; /* nothing is written to it: pages of what is large stay untouched */
    sr_weight w;
    sr_tensor t;
    sr_job as = *job;
    as.fmt = type->fmt;
    as.spec = type->spec;
    *bytes = 0;
    sr_status s = sr_weight_create(as.fmt, as.N, as.K, &as.spec, &arena, &w, err);
    for (int i = 0; s == SR_OK && sr_job_tensor(&as, &w, i, &t); i++) *bytes += t.bytes;
    sr_arena_free(&arena);
    return s;
}

/* Matrices that are multiplied as one, or a stack in GGUF, have one type: experts of a layer. */
static sr_cost *same_stack(const sr_costs *c, const sr_job *j) {
    for (int i = c->n - 1; i >= 0 && j->expert >= 0; i--)
        if (c->cost[i].job->role == j->role && c->cost[i].job->layer == j->layer) return &c->cost[i];
    return NULL;
}

/* Loaders of directories (vLLM, SGLang) make one matrix of those that are multiplied with the same, which then has one
 * type; mlx-lm's and mistral.rs's do not. */
static int fused_as(sr_role role) {
    switch (sr_role_stacked(role)) {
    case SR_Q:
    case SR_K:
    case SR_V:
        return SR_QKV;
    case SR_Q_A:
    case SR_KV_A:
        return SR_Q_A;
    case SR_GATE:
    case SR_UP:
        return SR_GATE_UP;
    case SR_SHARED_GATE:
    case SR_SHARED_UP:
        return SR_SHARED_GATE_UP;
    case SR_EXPERTS_GATE:
    case SR_EXPERTS_UP:
    case SR_EXPERTS_DOWN:
        return SR_EXPERTS_GATE_UP;
    default:
        return role;
    }
}

static void tie(sr_costs *c) {
    const sr_target *t = &c->plan->target;
    const bool fused = !t->gguf && !t->uqff && !sr_target_is_mlx(t);
    for (int i = 0; i < c->n; i++) {
        const sr_job *j = c->cost[i].job;
        c->cost[i].next = -1;
        for (int before = i - 1; before >= 0 && fused && j->layer >= 0; before--) {
            const sr_job *o = c->cost[before].job;
            if (o->layer != j->layer || fused_as(o->role) != fused_as(j->role)) continue;
            c->cost[before].next = i;
            c->cost[i].follows = true;
            break;
        }
    }
}

static sr_status list_matrices(sr_costs *c, sr_err *err) {
    sr_quantizer *q = c->plan;
    int64_t all = 0, files = 0;
    sr_status s = SR_OK;
    if (q->target.gguf)
        list_gguf_types(c);
    else
        list_types(c);
    c->cost = sr_arena_alloc(&c->arena, (size_t)q->n_jobs + 1, sizeof *c->cost);
    if (!c->cost) return no_memory(err);
    for (int i = 0; i < q->n_jobs && s == SR_OK; i++) {
        const sr_job *j = &q->job[i];
        int64_t own = 0;
        for (int p = 0; p < j->n_parts; p++) own += q->part[j->first_part + p].bytes;
        sr_cost *m = &c->cost[c->n], *stack = same_stack(c, j);
        const bool edge = j->role == SR_EMBED || j->role == SR_HEAD;
        const bool counts = j->n_from && j->role != SR_ROUTER && (q->target.gguf || q->target.edges || !edge) &&
                            !sr_job_is_left(q, j) && sr_job_gguf_name(q, j, m->name);
        all += counts ? own : 0;
        if (!counts) {
            if (j->n_from) c->fixed_matrix_bytes += own;
            continue;
        }
        if (!stack) {
            m->job = j;
            c->n++;
        }
        for (int t = 0; t < c->n_types && s == SR_OK; t++) {
            const sr_type type = sr_type_for(&c->type[t], j->K);
            int64_t bytes = -1;
            const bool fits = q->target.uqff ? sr_uqff_takes(j, &type) : sr_type_fits(&type, j->N, j->K);
            if (fits && (t < c->n_usual || type.fmt == j->was)) s = bytes_of(j, &type, &bytes, err);
            if (stack)
                stack->bytes[t] = bytes < 0 || stack->bytes[t] < 0 ? -1 : stack->bytes[t] + bytes;
            else
                m->bytes[t] = bytes;
        }
    }
    tie(c);
    enum { PADDING = 32 }; /* of each tensor, at most */
    for (int f = 0; f < q->n_out; f++) files += q->out[f].content.size;
    c->fixed_bytes = files - all + (int64_t)PADDING * c->n;
    return s != SR_OK || c->n
               ? s
               : sr_fail(err, SR_UNSUPPORTED, "%s: found no matrices to choose types for", q->file->path);
}

static sr_status find(sr_costs *c, const char *path, const sr_quantize_options *o, const sr_costs_options *with,
                      sr_err *err) {
    char hex[SR_DIGEST_HEX] = "", name[SR_DIGEST_HEX + 16];
    sr_quantize_options draft = *o;
    sr_target target;
    if (!draft.to) draft.to = "gguf:q8_0";
    draft.recipe = NULL;
    sr_status s = sr_target_parse(draft.to, &target, err);
    if (s == SR_OK && !target.gguf) s = sr_target_mixes(&target, err);
    if (s == SR_OK && target.gguf) draft.to = "gguf:q8_0";
    if (s == SR_OK) s = sr_quantizer_plan(path, "draft", &draft, &c->plan, err);
    if (s == SR_OK) s = list_matrices(c, err);
    if (s == SR_OK) s = open_text(c, with, err);
    if (s != SR_OK) return s;
    make_groups(c);
    if (with->cache) s = identity(c, hex, err);
    snprintf(name, sizeof name, "costs-%.16s.json", hex);
    const char *kept = with->cache ? sr_path_join(&c->arena, with->cache, name) : NULL;
    if (s != SR_OK || (kept && read_cache(c, kept))) return s;
    c->scale = 1;
    s = find_errors(c, err);
    if (s == SR_OK && c->reference) s = measure(c, err);
    for (int i = 0; i < c->n && !c->reference; i++) c->cost[i].sense = sr_cost_guess(&c->plan->h, c->cost[i].job->role);
    if (s == SR_OK && kept && sr_disk_make(with->cache, NULL) == SR_OK) write_cache(c, kept);
    return s;
}

sr_status sr_costs_find(const char *path, const sr_quantize_options *o, const sr_costs_options *with, sr_costs **out,
                        sr_err *err) {
    sr_err own = {0};
    err = err ? err : &own;
    *out = NULL;
    sr_costs *c = calloc(1, sizeof *c);
    if (!c) return no_memory(err);
    c->model = with->model;
    c->progress = with->progress;
    c->user = with->user;
    sr_status s = find(c, path, o, with, err);
    if (s != SR_OK) {
        sr_costs_free(c);
        return s;
    }
    *out = c;
    return SR_OK;
}

void sr_costs_free(sr_costs *c) {
    if (!c) return;
    if (c->reference) sr_session_free(c->reference->session);
    sr_quantizer_free(c->plan);
    sr_arena_free(&c->arena);
    free(c);
}

/* The real divergence may be another than the sum says; a goal of divergence is then sought with what was learned. */
sr_status sr_costs_allot(sr_costs *c, const sr_goal *goal, sr_recipe **out, sr_allotment *info, sr_err *err) {
    enum { ATTEMPTS = 4 };
    sr_err own = {0};
    err = err ? err : &own;
    *out = NULL;
    int *choice = calloc((size_t)c->n + 1, sizeof *choice);
    const double scale = c->scale;
    double kld = 0, got = NAN;
    int64_t bytes = 0;
    sr_status s = choice ? SR_OK : no_memory(err);
    const bool by_kld = !(goal->bits_per_weight > 0) && goal->bytes <= 0;
    for (int i = 0; i < ATTEMPTS && s == SR_OK; i++) {
        s = sr_allot(c, goal, choice, err);
        if (s == SR_OK) s = sr_costs_try(c, choice, &got, err);
        if (s != SR_OK) break;
        sr_allot_sum(c, choice, &bytes, &kld);
        if (!by_kld || !(got > 0) || (got <= goal->kld && got > 0.95 * goal->kld)) break;
        if (i + 1 < ATTEMPTS) c->scale *= got / kld;
    }
    if (s == SR_OK) s = sr_allot_recipe(c, choice, out, err);
    if (info)
        *info = (sr_allotment){.bits_per_weight = 8 * (double)(bytes + c->fixed_matrix_bytes) / c->plan->n_weights,
                               .bytes = bytes + c->fixed_bytes,
                               .kld = kld,
                               .kld_measured = got,
                               .n_matrices = c->n};
    c->scale = scale;
    free(choice);
    return s;
}
