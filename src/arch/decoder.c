/* The forward pass: from token ids to logits. */
#include <math.h>
#include <string.h>

#include "arch/bind.h"

static int64_t qkv_width(const sr_layer_kind *kind, const sr_hparams *h) {
    return (int64_t)(kind->n_head + 2 * kind->n_kv_head) * h->head_dim;
}

/* The widest MLP of any kind. */
static int64_t widest_ff(const sr_hparams *h) {
    const int64_t sparse = h->d_expert > h->d_shared ? h->d_expert : h->d_shared;
    return h->d_ff > sparse ? h->d_ff : sparse;
}

int64_t sr_decoder_max_k(const sr_decoder *dec) {
    const sr_hparams *h = &dec->h;
    const sr_latent *l = &h->latent;
    const int64_t all[] = {(int64_t)h->n_head * h->head_dim, (int64_t)h->n_head * l->d_v, widest_ff(h), l->rank,
                           l->q_rank};
    int64_t most = h->d_model;
    for (int i = 0; i < 5; i++)
        if (all[i] > most) most = all[i];
    return most;
}

sr_kv_shape sr_decoder_kv(const sr_decoder *dec, int layer) {
    const sr_hparams *h = &dec->h;
    const int32_t hd = h->head_dim;
    return h->latent.rank ? (sr_kv_shape){1, h->latent.rank + h->n_rot, 0}
                          : (sr_kv_shape){h->kind[layer].n_kv_head, hd, hd};
}

size_t sr_decoder_host_bytes(const sr_decoder *dec, int batch) {
    const size_t n = (size_t)dec->h.gating.n, used = (size_t)dec->h.gating.used, T = (size_t)batch;
    return n ? 4 * (T * (n + 1) + 2 * (n + 1) + 2 * T * used + 2 * T * (used + 1)) : 0;
}

void sr_decoder_scratch(const sr_decoder *dec, int64_t per_token[SR_N_SCRATCH]) {
    const sr_hparams *h = &dec->h;
    const int64_t used = h->gating.used;
    per_token[0] = per_token[1] = per_token[5] = h->d_model;
    per_token[2] = 0;
    for (int i = 0; i < h->n_layer; i++)
        if (qkv_width(&h->kind[i], h) > per_token[2]) per_token[2] = qkv_width(&h->kind[i], h);
    per_token[3] = (int64_t)h->n_head * h->head_dim;
    if (dec->arch->latent) sr_latent_scratch(h, &per_token[2], &per_token[3]);
    per_token[4] = (dec->arch->ungated ? 1 : 2) * widest_ff(h);
    per_token[6] = h->gating.n ? h->gating.n + 1 : 0;
    per_token[7] = used * 2 * h->d_expert;
    per_token[8] = used ? (used + 1) * h->d_model : 0;
}

static void norm_heads(const sr_decoder *dec, sr_dev *dev, int layer, int T, float *q, float *k, int64_t ld) {
    const sr_hparams *h = &dec->h;
    const sr_norm *nq = &dec->layer[layer].q_norm, *nk = &dec->layer[layer].k_norm;
    const sr_norm_kind norm = dec->arch->norm;
    const int hd = h->head_dim;
    dev->ops->norm(dev, norm, q, T, h->kind[layer].n_head, ld, hd, nq->weight, nq->bias, h->eps, q, ld);
    dev->ops->norm(dev, norm, k, T, h->kind[layer].n_kv_head, ld, hd, nk->weight, nk->bias, h->eps, k, ld);
}

/* What the MLP, or what all tokens of a mixture pass, makes of normed: out [T][d]. */
static void mlp(const sr_decoder *dec, sr_dev *dev, const sr_scratch *s, const sr_layer *l, int T, float *out) {
    const sr_device *ops = dev->ops;
    const int64_t d = dec->h.d_model, ff = l->down.K, ld = dec->arch->ungated ? ff : 2 * ff;
    float *const gate = s->ff, *const up = dec->arch->ungated ? NULL : gate + ff; /* columns of ff [T][ld] */
    const sr_weight *gate_up[2] = {&l->up[0], &l->up[1]}, *down[1] = {&l->down};
    ops->matmul(dev, gate_up, l->n_up, s->normed, T, d, (float *[]){gate, up}, (int64_t[]){ld, ld});
    ops->act(dev, dec->h.act, gate, up, T, (int)ff, ld, gate, ld);
    ops->matmul(dev, down, 1, gate, T, ld, (float *[]){out}, (int64_t[]){d});
}

/* The routing of a step in host memory: who chose what, numbered by expert, and what is mixed of it. */
struct routing {
    float *logits, *weight;      /* [T][n + 1], the last one is the share's; [T][used + 1] */
    int32_t *expert, *token;     /* [T][used]; [T * used] */
    int32_t *first, *next, *row; /* [n + 1]; [n + 1]; [T][used + 1]: rows of scratch->parts */
};

static struct routing routing_in(void *host, int T, int n, int used) {
    struct routing r;
    r.logits = host;
    r.weight = r.logits + (int64_t)T * (n + 1);
    r.expert = (int32_t *)(void *)(r.weight + (int64_t)T * (used + 1));
    r.token = r.expert + (int64_t)T * used;
    r.row = r.token + (int64_t)T * used;
    r.first = r.row + (int64_t)T * (used + 1);
    r.next = r.first + n + 1;
    return r;
}

/* Fills all but the logits. Each token mixes `each` rows: its choices, then row T * used + t of what all tokens pass.
 */
static void route_step(const sr_gating *g, const sr_mixture *m, int T, int each, struct routing *r) {
    memset(r->first, 0, ((size_t)g->n + 1) * sizeof *r->first);
    for (int t = 0; t < T; t++) {
        const float *logits = r->logits + (int64_t)t * (g->n + 1);
        float *weight = r->weight + (int64_t)t * each;
        sr_route(g, logits, m->bias, r->expert + (int64_t)t * g->used, weight);
        for (int i = 0; i < g->used; i++) r->first[r->expert[t * g->used + i] + 1]++;
        if (each > g->used) weight[g->used] = m->share.N ? 1 / (1 + expf(-logits[g->n])) : 1;
    }
    for (int e = 0; e < g->n; e++) r->first[e + 1] += r->first[e];
    memcpy(r->next, r->first, (size_t)g->n * sizeof *r->next);
    for (int t = 0; t < T; t++) {
        for (int i = 0; i < g->used; i++) {
            const int32_t choice = r->next[r->expert[t * g->used + i]]++;
            r->token[choice] = t;
            r->row[t * each + i] = choice;
        }
        if (each > g->used) r->row[t * each + g->used] = T * g->used + t;
    }
}

/* What a mixture makes of normed: out [T][d]. */
static void mixture(const sr_decoder *dec, sr_dev *dev, const sr_scratch *s, const sr_layer *l, int T, float *out) {
    const sr_device *ops = dev->ops;
    const sr_gating *g = &dec->h.gating;
    const sr_mixture *m = l->mixture;
    const int n = g->n, ff = dec->h.d_expert, d = dec->h.d_model, each = g->used + (l->n_up > 0);
    struct routing r = routing_in(s->host, T, n, g->used);

    const sr_weight *router[2] = {&m->router, &m->share};
    ops->matmul(dev, router, m->share.N ? 2 : 1, s->normed, T, d, (float *[]){s->router, s->router + n},
                (int64_t[]){n + 1, n + 1});
    ops->read(dev, s->router, r.logits, (size_t)T * ((size_t)n + 1) * sizeof *r.logits);
    route_step(g, m, T, each, &r);

    const sr_choices choices = {T * g->used, n, r.first, r.token};
    const sr_experts *up[2] = {&m->up[0], &m->up[1]}, *down[1] = {&m->down};
    float *const gate = s->chosen; /* [choice][2 ff]: gate, up */
    ops->matmul_experts(dev, up, m->n_up, &choices, s->normed, d, false, (float *[]){gate, gate + ff},
                        (int64_t[]){2 * ff, 2 * ff});
    ops->act(dev, dec->h.act, gate, gate + ff, choices.n, ff, 2 * ff, gate, 2 * ff);
    ops->matmul_experts(dev, down, 1, &choices, gate, 2 * ff, true, (float *[]){s->parts}, (int64_t[]){d});
    if (l->n_up > 0) mlp(dec, dev, s, l, T, s->parts + (int64_t)choices.n * d);
    ops->mix(dev, s->parts, r.row, r.weight, each, T, d, out);
}

/* What attention makes of normed: branch [T][d]. */
static void attend(const sr_decoder *dec, sr_dev *dev, const sr_scratch *s, const sr_step_view *step, int layer) {
    const sr_hparams *h = &dec->h;
    const sr_device *ops = dev->ops;
    const sr_layer *l = &dec->layer[layer];
    const sr_layer_kind *kind = &h->kind[layer];
    const int T = step->T, d = h->d_model, hd = h->head_dim;
    const int64_t n_q = (int64_t)kind->n_head * hd, n_kv = (int64_t)kind->n_kv_head * hd, ld = n_q + 2 * n_kv;
    float *const q = s->qkv, *const k = q + n_q, *const v = k + n_kv; /* columns of qkv [T][ld] */

    const sr_weight *qkv[3] = {&l->qkv[0], &l->qkv[1], &l->qkv[2]};
    ops->matmul(dev, qkv, l->n_qkv, s->normed, T, d, (float *[]){q, k, v}, (int64_t[]){ld, ld, ld});
    if (dec->arch->qk_norm && l->q_norm.weight) norm_heads(dec, dev, layer, T, q, k, ld);
    if (kind->rope >= 0) {
        const sr_rope *rope = &dec->rope[kind->rope];
        ops->rope(dev, rope, step->pos, step->table, T, q, ld, kind->n_head, hd);
        ops->rope(dev, rope, step->pos, step->table, T, k, ld, kind->n_kv_head, hd);
    }
    if (dec->arch->qk_norm_late) norm_heads(dec, dev, layer, T, q, k, ld);
    ops->attend(dev, &(sr_attend){.layer = layer,
                                  .n_head = kind->n_head,
                                  .n_kv_head = kind->n_kv_head,
                                  .hd_k = hd,
                                  .hd_v = hd,
                                  .scale = h->attn_scale,
                                  .cap = h->attn_cap,
                                  .stretch = h->stretch,
                                  .stretch_every = h->stretch_every,
                                  .window = kind->window,
                                  .span = step->span,
                                  .n_span = step->n_span,
                                  .sink = l->sinks,
                                  .q = q,
                                  .k = k,
                                  .v = v,
                                  .ld_q = ld,
                                  .ld_kv = ld,
                                  .out = s->attn,
                                  .ld_out = n_q});
    const sr_weight *attn_out[1] = {&l->attn_out};
    ops->matmul(dev, attn_out, 1, s->attn, T, n_q, (float *[]){s->branch}, (int64_t[]){d});
}

void sr_decoder_layer(const sr_decoder *dec, sr_dev *dev, const sr_scratch *s, const sr_step_view *step, int layer) {
    const sr_hparams *h = &dec->h;
    const sr_device *ops = dev->ops;
    const sr_norm_kind norm = dec->arch->norm;
    const sr_layer *l = &dec->layer[layer];
    const int T = step->T, d = h->d_model;

    ops->norm(dev, norm, s->x, T, 1, d, d, l->attn_norm.weight, l->attn_norm.bias, h->eps, s->normed, d);
    (l->latent ? sr_latent_attend : attend)(dec, dev, s, step, layer);
    if (l->attn_post_norm.weight)
        ops->norm(dev, norm, s->branch, T, 1, d, d, l->attn_post_norm.weight, l->attn_post_norm.bias, h->eps, s->branch,
                  d);
    ops->add(dev, s->x, s->branch, (int64_t)T * d, h->residual_scale);

    if (l->ffn_norm.weight) /* else the MLP stands beside attention and shares its norm */
        ops->norm(dev, norm, s->x, T, 1, d, d, l->ffn_norm.weight, l->ffn_norm.bias, h->eps, s->normed, d);
    (l->mixture ? mixture : mlp)(dec, dev, s, l, T, s->branch);
    if (l->ffn_post_norm.weight)
        ops->norm(dev, norm, s->branch, T, 1, d, d, l->ffn_post_norm.weight, l->ffn_post_norm.bias, h->eps, s->branch,
                  d);
    ops->add(dev, s->x, s->branch, (int64_t)T * d, h->residual_scale);
}

sr_status sr_decoder_forward(const sr_decoder *dec, sr_dev *dev, const sr_scratch *s, const sr_step_view *step) {
    dev->ops->embed(dev, &dec->embed, step->ids, step->T, dec->h.embed_scale, s->x); /* x [T][d] */
    for (int i = 0; i < dec->h.n_layer; i++) {
        if (*step->cancel) return SR_CANCELLED;
        sr_decoder_layer(dec, dev, s, step, i);
    }
    return SR_OK;
}

void sr_decoder_logits(const sr_decoder *dec, sr_dev *dev, float *x, int n, float *logits) {
    const sr_hparams *h = &dec->h;
    const sr_device *ops = dev->ops;
    const sr_weight *head[1] = {&dec->head};
    ops->norm(dev, dec->arch->norm, x, n, 1, h->d_model, h->d_model, dec->out_norm.weight, dec->out_norm.bias, h->eps,
              x, h->d_model);
    ops->matmul(dev, head, 1, x, n, h->d_model, (float *[]){logits}, (int64_t[]){h->n_vocab});
    if (h->logit_scale != 1 || h->logit_cap > 0)
        ops->soft_cap(dev, logits, (int64_t)n * h->n_vocab, h->logit_scale, h->logit_cap);
}
