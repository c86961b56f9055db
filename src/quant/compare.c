/* How far the matrices of one model are from those of another. Both are open, so that each matrix is known by what the
 * decoder does with it: names, fused or separate matrices, experts stacked or one by one and what was quantized in situ
 * no longer differ. What still does is the order of rows (heads in pairs or halves, gate and up in turns) and of
 * columns (act-order). */
#include <string.h>

#include "core/core.h"
#include "quant/quant.h"

/* Rows of one kind inside stored matrices: n * N of them, those of each piece (an expert, a head) `pitch` behind the
 * last one's; or of a matrix each. */
struct view {
    const sr_weight *w;
    bool apart; /* a matrix each */
    int n;
    int64_t N, K, pitch, row0;
    int step;     /* stored rows from one to the next */
    int64_t head; /* of each `head` rows, the first n_rot are in pairs where the model rotates so; 0: no */
};

/* One matrix of both models. */
struct pair {
    struct view v[2];
    int n_rot;
    bool in_pairs[2];
};

static struct view whole(const sr_weight *w) {
    return (struct view){.w = w, .n = w->N > 0, .N = w->N, .K = w->K, .step = 1};
}

/* Rows row0 .. row0 + N of a matrix in which others are too. */
static struct view some(const sr_weight *w, int64_t row0, int64_t N) {
    struct view v = whole(w);
    v.row0 = row0;
    v.N = N;
    return v;
}

/* N of the rows of every expert from `part` on, which are `step` apart. */
static struct view of_experts(const sr_experts *e, int n, int64_t part, int64_t N, int step) {
    return (struct view){e->w, e->n > 1, n, N, e->K, e->pitch, e->row0 + part, step, 0};
}

static const sr_weight *stored_row(const struct view *v, int64_t i, int n_rot, bool in_pairs, int64_t *row) {
    const int64_t piece = i / v->N;
    int64_t r = i % v->N;
    if (v->head && in_pairs) {
        const int64_t at = r % v->head, half = n_rot / 2;
        if (at < 2 * half) r += (at < half ? 2 * at : 2 * (at - half) + 1) - at;
    }
    *row = v->row0 + r * v->step + (v->apart ? 0 : piece * v->pitch);
    return &v->w[v->apart ? piece : 0];
}

static void row_of(const struct pair *p, int side, int64_t i, float *out) {
    int64_t row;
    const sr_weight *w = stored_row(&p->v[side], i, p->n_rot, p->in_pairs[side], &row);
    sr_decode_in_order(w, row, out);
}
static void row_of_first(void *ctx, int64_t i, float *out) {
    row_of(ctx, 0, i, out);
}
static void row_of_second(void *ctx, int64_t i, float *out) {
    row_of(ctx, 1, i, out);
}

/* ---------------------------------------------------------------- which matrices there are */

struct comparison {
    const sr_model *model[2];
    sr_matrix_error_fn each;
    void *user;
    sr_err *err;
    bool stopped;
};

static sr_status differ(const struct comparison *c, const char *role, int layer) {
    return sr_fail(c->err, SR_INVALID, "%s and %s have other matrices (%s of layer %d): not the same model",
                   sr_show_path(c->model[0]->file->path), sr_show_path(c->model[1]->file->path), role, layer);
}

static sr_status compare(struct comparison *c, const char *role, int layer, struct view a, struct view b) {
    const sr_hparams *h = &c->model[0]->dec.h;
    const int threads = c->model[0]->engine->threads;
    const int64_t rows = a.n * a.N;
    if (c->err->code != SR_OK || c->stopped || (a.n == 0 && b.n == 0)) return c->err->code;
    if (a.n != b.n || a.N != b.N || a.K != b.K || rows > INT32_MAX) return differ(c, role, layer);
    struct pair p = {.v = {a, b}, .n_rot = h->n_rot};
    for (int i = 0; i < 2; i++) p.in_pairs[i] = c->model[i]->dec.h.rope == SR_ROPE_ADJACENT;
    double error, power;
    const sr_rows_pair pair = {{row_of_first, row_of_second}, &p, rows, a.K};
    if (sr_rows_compare(&pair, threads, &error, &power, c->err) == SR_OK) {
        const sr_matrix_error e = {role, layer, rows, a.K, a.w->fmt->name, b.w->fmt->name, error, power};
        c->stopped = !c->each(c->user, &e);
    }
    return c->err->code;
}

/* Queries, keys or values: one of three matrices, or rows of one. */
static struct view part_of_qkv(const sr_model *m, const sr_layer *l, int layer, int part) {
    const sr_hparams *h = &m->dec.h;
    const int64_t q = (int64_t)h->kind[layer].n_head * h->head_dim,
                  kv = (int64_t)h->kind[layer].n_kv_head * h->head_dim;
    const int64_t row0[3] = {0, q, q + kv};
    struct view v = l->n_qkv == 3 ? whole(&l->qkv[part]) : some(&l->qkv[0], row0[part], part ? kv : q);
    if (part < 2) v.head = h->head_dim;
    return v;
}

static void latent_attention(struct comparison *c, int i, const sr_layer *l[2]) {
    struct view q_a[2], q[2], kv_a[2], k[2], v[2];
    for (int m = 0; m < 2; m++) {
        const sr_hparams *h = &c->model[m]->dec.h;
        const sr_latent_layer *t = l[m]->latent;
        const struct view first = whole(&l[m]->qkv[0]);
        q_a[m] = t->q_b.N ? first : (struct view){.n = 0};
        q[m] = t->q_b.N ? whole(&t->q_b) : first;
        kv_a[m] = whole(&l[m]->qkv[1]);
        k[m] = of_experts(&t->k, h->n_head, 0, t->k.N, 1);
        v[m] = of_experts(&t->v, h->n_head, 0, t->v.N, 1);
    }
    compare(c, "attn_q_a", i, q_a[0], q_a[1]);
    compare(c, q_a[0].n ? "attn_q_b" : "attn_q", i, q[0], q[1]);
    compare(c, "attn_kv_a", i, kv_a[0], kv_a[1]);
    compare(c, "attn_k_b", i, k[0], k[1]);
    compare(c, "attn_v_b", i, v[0], v[1]);
}

static void attention(struct comparison *c, int i, const sr_layer *l[2]) {
    static const char *const role[] = {"attn_q", "attn_k", "attn_v"};
    for (int part = 0; part < 3; part++)
        compare(c, role[part], i, part_of_qkv(c->model[0], l[0], i, part), part_of_qkv(c->model[1], l[1], i, part));
}

/* Gate or up of the MLP: in one matrix they stand one behind the other. */
static struct view part_of_mlp(const sr_model *m, const sr_layer *l, int part) {
    if (l->n_up == 0 || (m->dec.arch->ungated && part == 0)) return (struct view){.n = 0};
    if (l->n_up == 2) return whole(&l->up[part]);
    return m->dec.arch->ungated ? whole(&l->up[0]) : some(&l->up[0], part * (l->up[0].N / 2), l->up[0].N / 2);
}

static struct view part_of_experts(const sr_model *m, const sr_mixture *x, int part) {
    const sr_hparams *h = &m->dec.h;
    const bool in_turns = h->act == SR_ACT_SWIGLU_PAIRS;
    if (x->n_up == 2) return of_experts(&x->up[part], h->gating.n, 0, x->up[part].N, 1);
    return of_experts(&x->up[0], h->gating.n, in_turns ? part : part * h->d_expert, h->d_expert, in_turns ? 2 : 1);
}

static void mixture(struct comparison *c, int i, const sr_mixture *x[2]) {
    const sr_model *const *m = c->model;
    const int n = m[0]->dec.h.gating.n;
    compare(c, "ffn_gate_inp", i, whole(&x[0]->router), whole(&x[1]->router));
    compare(c, "ffn_gate_inp_shexp", i, whole(&x[0]->share), whole(&x[1]->share));
    compare(c, "ffn_gate_exps", i, part_of_experts(m[0], x[0], 0), part_of_experts(m[1], x[1], 0));
    compare(c, "ffn_up_exps", i, part_of_experts(m[0], x[0], 1), part_of_experts(m[1], x[1], 1));
    compare(c, "ffn_down_exps", i, of_experts(&x[0]->down, n, 0, x[0]->down.N, 1),
            of_experts(&x[1]->down, n, 0, x[1]->down.N, 1));
}

static void layer(struct comparison *c, int i) {
    const sr_model *const *m = c->model;
    const sr_layer *l[2] = {&m[0]->dec.layer[i], &m[1]->dec.layer[i]};
    const sr_mixture *x[2] = {l[0]->mixture, l[1]->mixture};
    const bool shared = x[0] != NULL; /* the MLP beside experts */
    (l[0]->latent ? latent_attention : attention)(c, i, l);
    compare(c, "attn_output", i, whole(&l[0]->attn_out), whole(&l[1]->attn_out));
    if (x[0]) mixture(c, i, x);
    compare(c, shared ? "ffn_gate_shexp" : "ffn_gate", i, part_of_mlp(m[0], l[0], 0), part_of_mlp(m[1], l[1], 0));
    compare(c, shared ? "ffn_up_shexp" : "ffn_up", i, part_of_mlp(m[0], l[0], 1), part_of_mlp(m[1], l[1], 1));
    compare(c, shared ? "ffn_down_shexp" : "ffn_down", i, l[0]->n_up ? whole(&l[0]->down) : (struct view){.n = 0},
            l[1]->n_up ? whole(&l[1]->down) : (struct view){.n = 0});
}

/* What every view above relies on. Rows of latent attention are in one order everywhere so far. */
static bool same_shape(const sr_decoder *a, const sr_decoder *b) {
    const sr_hparams *g = &a->h, *h = &b->h;
    bool same = g->n_layer == h->n_layer && g->d_model == h->d_model && g->n_vocab == h->n_vocab &&
                g->head_dim == h->head_dim && g->n_rot == h->n_rot && g->n_head == h->n_head &&
                g->gating.n == h->gating.n && g->d_expert == h->d_expert && a->arch->ungated == b->arch->ungated &&
                g->latent.rank == h->latent.rank && (g->latent.rank == 0 || g->rope == h->rope) &&
                g->latent.d_nope == h->latent.d_nope;
    for (int i = 0; i < g->n_layer && same; i++)
        same = g->kind[i].n_head == h->kind[i].n_head && g->kind[i].n_kv_head == h->kind[i].n_kv_head &&
               !a->layer[i].mixture == !b->layer[i].mixture && !a->layer[i].latent == !b->layer[i].latent;
    return same;
}

sr_status sr_compare_matrices(const sr_model *a, const sr_model *b, sr_matrix_error_fn each, void *user, sr_err *err) {
    sr_err own = {0};
    struct comparison c = {.model = {a, b}, .each = each, .user = user, .err = err ? err : &own};
    const sr_decoder *d = &a->dec, *e = &b->dec;
    if (!same_shape(d, e))
        return sr_fail(c.err, SR_INVALID,
                       "%s (%d layers of %d) and %s (%d layers of %d) are not built alike; compare models of one shape",
                       sr_show_path(a->file->path), d->h.n_layer, d->h.d_model, sr_show_path(b->file->path),
                       e->h.n_layer, e->h.d_model);
    compare(&c, "token_embd", -1, whole(&d->embed), whole(&e->embed));
    for (int i = 0; i < d->h.n_layer; i++) layer(&c, i);
    if (!d->h.tied || !e->h.tied) compare(&c, "output", -1, whole(&d->head), whole(&e->head));
    if (c.stopped) return sr_fail(c.err, SR_CANCELLED, "stopped");
    return c.err->code;
}
