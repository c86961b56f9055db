/* From GGUF to a Hugging Face directory: what llama.cpp's converter changed is turned back. Rows of q and k in pairs
 * become halves, stacks of experts the matrices that they were, keys and values of latent heads one matrix, norms what
 * is added to 1, where the family's class has them so. What the target does not quantize becomes plain numbers. */
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "quant/quant.h"

static sr_status cannot(const sr_quantizer *q, const char *what, sr_err *err) {
    return sr_fail(err, SR_UNSUPPORTED, "%s: %s is not converted from GGUF to a directory yet (%s)", q->file->path,
                   what, q->arch->name);
}

/* ---------------------------------------------------------------- types of plain numbers */

/* Of a directory of plain numbers what was asked for; else what most plain matrices have, or f16, which holds scales of
 * GGUF's blocks as they are. */
static const char *most_floats(const sr_quantizer *q) {
    static const char *const names[] = {"bf16", "f16", "f32"};
    double n[3] = {0};
    int most = 1;
    if (sr_is_plain(q->target.fmt)) return q->target.fmt->name;
    for (int i = 0; i < q->n_jobs; i++)
        for (int t = 0; t < 3 && q->job[i].n_from && q->job[i].role != SR_ROUTER; t++)
            if (q->job[i].was == sr_format_by_name(names[t])) n[t] += (double)q->job[i].N * (double)q->job[i].K;
    for (int t = 0; t < 3; t++)
        if (n[t] > n[most]) most = t;
    return names[most];
}

/* Whether numbers x [n] are read back from this type as they are; `less`: what is stored is so much smaller. */
static bool holds(const char *type, const float *x, int64_t n, float less) {
    enum { SOME = 256 };
    const sr_format *fmt = sr_format_by_name(type);
    for (int64_t i = 0; i < n; i += SOME) {
        const int64_t m = n - i < SOME ? n - i : SOME;
        float in[SOME], out[SOME];
        uint8_t data[SOME * sizeof(float)];
        sr_weight w = {.fmt = fmt, .N = 1, .K = m};
        w.plane[0].data = data;
        w.plane[0].stride = w.plane[0].bytes = sizeof data;
        for (int64_t k = 0; k < m; k++) in[k] = x[i + k] - less;
        fmt->encode(&w, 0, in, NULL);
        fmt->decode(&w, 0, 0, m, out);
        for (int64_t k = 0; k < m; k++)
            if (out[k] + less != x[i + k]) return false;
    }
    return true;
}

/* GGUF's vectors are f32, whatever they were: q->floats where that loses nothing. */
static sr_status type_vector(const sr_quantizer *q, sr_job *j, sr_err *err) {
    const int64_t n = sr_job_elements(j);
    float *x = malloc((size_t)n * sizeof *x + 1);
    sr_status s = x ? sr_job_vector(j, x, err) : sr_fail(err, SR_NOMEM, "no memory for %s", j->module);
    if (s == SR_OK) j->as = holds(q->floats, x, n, j->minus1 ? 1 : 0) ? q->floats : "f32";
    free(x);
    return s;
}

struct router {
    const char *floats;
    bool held;
};
static sr_status hold_rows(void *ctx, const sr_source *from, const sr_weight *w, int n, sr_err *err) {
    struct router *r = ctx;
    float *row = malloc((size_t)w->K * sizeof *row);
    (void)n;
    if (!row) return sr_fail(err, SR_NOMEM, "no memory for a row");
    for (int64_t i = 0; i < w->N && r->held; i++) {
        from->rows(from->ctx, i, 1, row);
        r->held = holds(r->floats, row, w->K, 0);
    }
    free(row);
    return SR_OK;
}

/* Matrices that the target leaves as they are. */
sr_status sr_hf_choose(sr_quantizer *q, sr_err *err) {
    sr_status s = SR_OK;
    for (int i = 0; i < q->n_jobs && s == SR_OK; i++) {
        sr_job *j = &q->job[i];
        if (!j->n_from || j->fmt) continue;
        const char *type = sr_is_plain(j->was) ? j->was->name : q->floats;
        if (j->role == SR_ROUTER) { /* f32 in GGUF as vectors are */
            struct router r = {q->floats, true};
            s = sr_job_open(q, j, hold_rows, &r, err);
            type = r.held ? q->floats : "f32";
        }
        j->fmt = sr_format_by_name(type);
        j->spec = j->fmt->spec;
    }
    return s;
}

/* ---------------------------------------------------------------- matrices */

/* Keys of latent heads are stored turned around: [rank][d_nope] each. */
static sr_status join_heads(sr_quantizer *q, const sr_jobs *s, const sr_job *k, sr_err *err) {
    const sr_latent *l = &q->h.latent;
    const sr_job *v = sr_jobs_find(s, SR_V_B, k->layer);
    const int n = q->h.n_head;
    const char **from = sr_arena_small(&q->arena, 2, sizeof *from);
    if (!from) return sr_fail(err, SR_NOMEM, "no memory for a plan");
    if (!v || k->K != l->d_nope || k->N != (int64_t)n * l->rank || v->K != l->rank || v->N != (int64_t)n * l->d_v)
        return cannot(q, k->module, err);
    sr_job j = *k;
    from[0] = k->from[0], from[1] = v->from[0];
    j.from = from;
    j.n_from = 2;
    j.role = SR_KV_B;
    j.N = (int64_t)n * (l->d_nope + l->d_v);
    j.K = l->rank;
    j.turn.n = n;
    j.turn.pitch = j.turn.rows = l->rank;
    j.weave[0] = l->d_nope, j.weave[1] = l->d_v;
    return sr_job_add(q, &j, err);
}

static const sr_role singles[][2] = {
    {SR_EXPERTS_GATE, SR_EXPERT_GATE}, {SR_EXPERTS_UP, SR_EXPERT_UP}, {SR_EXPERTS_DOWN, SR_EXPERT_DOWN}};

/* Expert after expert of a stack: `take` of each one's rows, from row0 on. */
static sr_status divide(sr_quantizer *q, const sr_job *j, sr_role one, int64_t take, int64_t row0, sr_err *err) {
    const int64_t each = j->N / q->h.gating.n;
    sr_status s = SR_OK;
    for (int e = 0; e < q->h.gating.n && s == SR_OK; e++) {
        sr_job part = *j;
        part.expert = e;
        part.stack = 0;
        s = sr_job_add_rows(q, &part, one, j->N, take, e * each + row0, 1, err);
    }
    return s;
}

static sr_status stack_job(sr_quantizer *q, const sr_jobs *s, const sr_job *j, sr_err *err) {
    static const sr_role gates[] = {SR_EXPERTS_GATE, SR_EXPERTS_UP};
    const int n = q->h.gating.n;
    const int64_t ff = q->h.d_expert, both[] = {ff, ff};
    sr_job stack = *j;
    if (n < 1 || j->N % n) return cannot(q, j->module, err);
    stack.stack = n;
    if (q->arch->turned_experts && j->role == SR_EXPERTS_GATE_UP) return cannot(q, j->module, err);
    if (q->arch->turned_experts) return sr_stack_in_turns(q, s, &stack, err);
    if (q->arch->stacked_experts && sr_target_is_mlx(&q->target)) {
        if (j->role == SR_EXPERTS_GATE_UP) return sr_job_add_halves(q, &stack, SR_SWITCH_GATE, SR_SWITCH_UP, ff, err);
        stack.role = j->role == SR_EXPERTS_GATE ? SR_SWITCH_GATE
                     : j->role == SR_EXPERTS_UP ? SR_SWITCH_UP
                                                : SR_SWITCH_DOWN;
        return sr_job_add(q, &stack, err);
    }
    if (q->arch->stacked_experts) {
        if (j->role == SR_EXPERTS_UP) return SR_OK; /* with the gate */
        if (j->role == SR_EXPERTS_GATE) return sr_job_join(q, s, &stack, SR_EXPERTS_GATE_UP, 2, gates, both, err);
        return sr_job_add(q, &stack, err);
    }
    if (q->target.uqff) return sr_job_add(q, &stack, err);
    const bool switches = sr_needs_switches(q);
    if (j->role == SR_EXPERTS_GATE_UP) {
        if (j->N != 2 * n * ff) return cannot(q, j->module, err);
        if (switches) return sr_job_add_halves(q, &stack, SR_SWITCH_GATE, SR_SWITCH_UP, ff, err);
        sr_status status = divide(q, j, SR_EXPERT_GATE, ff, 0, err);
        return status == SR_OK ? divide(q, j, SR_EXPERT_UP, ff, ff, err) : status;
    }
    stack.role = sr_role_switch(j->role);
    if (switches && stack.role != j->role) return sr_job_add(q, &stack, err);
    for (size_t i = 0; i < sizeof singles / sizeof *singles; i++)
        if (singles[i][0] == j->role) return divide(q, j, singles[i][1], j->N / n, 0, err);
    return cannot(q, j->module, err);
}

/* Features that rotate change from pairs to halves. */
static sr_status halve_rows(sr_quantizer *q, sr_job *j, sr_err *err) {
    if (q->h.rope == q->arch->hf_rope) return SR_OK;
    if (j->role == SR_QKV) return cannot(q, "a fused matrix of queries in pairs", err);
    if (j->role != SR_Q && j->role != SR_K) return SR_OK;
    if (q->arch->latent || q->h.n_rot != q->h.head_dim) return cannot(q, "a rotation of a part of each head", err);
    j->head_rows = q->h.head_dim;
    j->rot_rows = q->h.n_rot;
    j->to_halves = true;
    return SR_OK;
}

/* Queries, keys and values of one matrix, or of one vector. */
static sr_status divide_qkv(sr_quantizer *q, const sr_job *j, int64_t rows, sr_err *err) {
    const sr_layer_kind *kind = &q->h.kind[j->layer];
    const int64_t nq = (int64_t)kind->n_head * q->h.head_dim, nkv = (int64_t)kind->n_kv_head * q->h.head_dim;
    if (rows != nq + 2 * nkv) return cannot(q, j->module, err);
    sr_job whole = *j;
    whole.N = rows;
    sr_status s = sr_job_add_rows(q, &whole, SR_Q, rows, nq, 0, 1, err);
    if (s == SR_OK) s = sr_job_add_rows(q, &whole, SR_K, rows, nkv, nq, 1, err);
    return s == SR_OK ? sr_job_add_rows(q, &whole, SR_V, rows, nkv, nq + nkv, 1, err) : s;
}

/* Behind the last layer stand those that predict further tokens. */
static bool is_behind(const sr_quantizer *q, int layer) {
    return layer >= q->h.n_layer;
}

static sr_status matrix_job(sr_quantizer *q, const sr_jobs *s, sr_job *j, sr_err *err) {
    static const sr_role gate_up[] = {SR_GATE, SR_UP}, shared[] = {SR_SHARED_GATE, SR_SHARED_UP},
                         qkv[] = {SR_Q, SR_K, SR_V};
    const bool fused_gates = q->arch->fused & SR_FUSED_GATE_UP, fused_qkv = q->arch->fused & SR_FUSED_QKV;
    const sr_layer_kind *kind = &q->h.kind[j->layer < 0 ? 0 : j->layer];
    const int64_t ff = kind->d_ff, nq = (int64_t)kind->n_head * q->h.head_dim,
                  nkv = (int64_t)kind->n_kv_head * q->h.head_dim;
    /* GGUF calls the fused one as it calls up. */
    if (j->role == SR_UP && !q->arch->ungated && j->N == 2 * ff && !sr_jobs_find(s, SR_GATE, j->layer))
        j->role = SR_GATE_UP;
    sr_status status = halve_rows(q, j, err);
    if (status != SR_OK) return status;
    switch (j->role) {
    case SR_QKV:
        return fused_qkv ? sr_job_add(q, j, err) : divide_qkv(q, j, j->N, err);
    case SR_Q:
        return fused_qkv ? sr_job_join(q, s, j, SR_QKV, 3, qkv, (int64_t[]){nq, nkv, nkv}, err) : sr_job_add(q, j, err);
    case SR_K:
    case SR_V:
        return fused_qkv ? SR_OK : sr_job_add(q, j, err);
    case SR_GATE_UP:
        if (fused_gates) return sr_job_add(q, j, err);
        status = sr_job_add_rows(q, j, SR_GATE, 2 * ff, ff, 0, 1, err);
        return status == SR_OK ? sr_job_add_rows(q, j, SR_UP, 2 * ff, ff, ff, 1, err) : status;
    case SR_GATE:
        return fused_gates ? sr_job_join(q, s, j, SR_GATE_UP, 2, gate_up, (int64_t[]){ff, ff}, err)
                           : sr_job_add(q, j, err);
    case SR_UP:
        return fused_gates ? SR_OK : sr_job_add(q, j, err);
    case SR_SHARED_GATE:
        if (!q->arch->stacked_experts) return sr_job_add(q, j, err);
        return sr_job_join(q, s, j, SR_SHARED_GATE_UP, 2, shared, (int64_t[]){j->N, j->N}, err);
    case SR_SHARED_UP:
        return q->arch->stacked_experts ? SR_OK : sr_job_add(q, j, err);
    case SR_K_B:
        return sr_jobs_find(s, SR_KV_B, j->layer) ? SR_OK : join_heads(q, s, j, err);
    case SR_V_B:
        return SR_OK;
    case SR_EXPERTS_GATE:
    case SR_EXPERTS_UP:
    case SR_EXPERTS_GATE_UP:
    case SR_EXPERTS_DOWN:
        return stack_job(q, s, j, err);
    default:
        return sr_job_add(q, j, err);
    }
}

/* ---------------------------------------------------------------- vectors */

/* Those that config.json has instead. */
static bool is_of_config(sr_role role) {
    return role == SR_ROPE_FREQS || role == SR_ROPE_LONG || role == SR_ROPE_SHORT;
}

static sr_status vector_job(sr_quantizer *q, sr_job *j, sr_err *err) {
    sr_role role;
    int layer, expert;
    const char *suffix;
    if (!sr_name_parse(&q->naming, j->copy->name, &role, &layer, &expert, &suffix)) {
        sr_log(SR_LOG_WARNING, "%s: a directory has no place for it: left out", j->copy->name);
        return SR_OK;
    }
    if (is_of_config(role) || is_behind(q, layer)) return SR_OK;
    if (!sr_is_plain(sr_format_by_name(j->copy->type->name)) ||
        (suffix[0] && strcmp(suffix, ".weight") != 0 && strcmp(suffix, ".bias") != 0))
        return cannot(q, j->copy->name, err);
    const bool bias = strcmp(suffix, ".bias") == 0;
    j->role = role;
    j->layer = layer;
    j->expert = expert;
    sr_status s = halve_rows(q, j, err);
    if (s != SR_OK) return s;
    const bool fused_qkv = q->arch->fused & SR_FUSED_QKV && (role == SR_Q || role == SR_K || role == SR_V);
    const bool fused_up = q->arch->fused & SR_FUSED_GATE_UP && (role == SR_GATE || role == SR_UP);
    const bool of_stack = role == SR_EXPERTS_GATE || role == SR_EXPERTS_UP || role == SR_EXPERTS_DOWN;
    if (bias && (fused_qkv || fused_up || sr_role_stacked(role) != role || role == SR_EXPERTS_GATE_UP ||
                 (of_stack && !q->arch->turned_experts)))
        return cannot(q, j->copy->name, err);
    const int first = q->n_jobs;
    j->minus1 = sr_is_norm(role) && q->arch->norm_plus1 && !bias;
    j->as_row = role == SR_SHARED_SHARE;
    if (role == SR_QKV && !(q->arch->fused & SR_FUSED_QKV))
        s = divide_qkv(q, j, j->copy->n_elements, err);
    else if (bias && of_stack)
        s = sr_bias_in_turns(q, j, err);
    else {
        j->module = sr_job_name(q, role, layer, expert, suffix, err);
        s = err->code;
        if (s == SR_OK) q->job[q->n_jobs++] = *j;
    }
    for (int i = first; i < q->n_jobs && s == SR_OK; i++) s = type_vector(q, &q->job[i], err);
    return s;
}

/* ---------------------------------------------------------------- */

/* Scales of GGUF's blocks are f16: where the target's may be, they stay what they are. */
static void set_floats(sr_quantizer *q) {
    q->floats = most_floats(q);
    for (int i = 0; i < q->n_jobs; i++)
        if (q->job[i].n_from && !sr_is_plain(q->job[i].was)) q->job[i].floats = "f16";
}

sr_status sr_hf_jobs(sr_quantizer *q, sr_err *err) {
    enum { MADE = 4, PARTS = 3 }; /* UQFF's, and what a fused matrix becomes */
    sr_status s = q->target.uqff ? sr_stack_experts(q, err) : SR_OK;
    if (s != SR_OK) return s;
    const sr_jobs from = {q->job, q->n_jobs};
    const size_t most = PARTS + 2 * (size_t)q->h.gating.n; /* of one */
    size_t room = MADE;
    for (int i = 0; i < from.n; i++) {
        const sr_role role = from.job[i].role;
        const bool stack = from.job[i].n_from && role >= SR_EXPERTS_GATE && role <= SR_EXPERTS_DOWN;
        room += stack ? most : PARTS;
        if (from.job[i].n_from && role == SR_EMBED) q->h.n_vocab = (int32_t)from.job[i].N;
    }
    set_floats(q);
    q->job = sr_arena_alloc(&q->arena, room, sizeof *q->job);
    if (!q->job) return sr_fail(err, SR_NOMEM, "no memory for a plan");
    q->n_jobs = 0;
    bool behind = false;
    for (int i = 0; i < from.n && s == SR_OK; i++) {
        sr_job j = from.job[i];
        if (j.n_from == 0)
            s = vector_job(q, &j, err);
        else if (is_behind(q, j.layer))
            behind = true;
        else if (j.role != SR_HEAD || !q->h.tied)
            s = matrix_job(q, &from, &j, err);
    }
    if (behind)
        sr_log(SR_LOG_WARNING, "%s: layers behind the last one, which predict further tokens, are left out",
               q->file->path);
    return s;
}
