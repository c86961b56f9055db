/* Latent attention (DeepSeek-V2, arXiv 2405.04434): all heads share one latent vector a token, of which each makes its
 * keys and values by a matrix of its own, and some features that rotate. Only these two are kept. Queries are
 * multiplied by the matrix of the keys instead, and what attention returns by the one of the values: scores and sums
 * are over latents, and nothing of a past token is ever unfolded. */
#include "arch/bind.h"

/* Of the norms of latents; no key's. */
static const float EPS = 1e-6f;

/* ------------------------------------------------------------------ binding */

/* Keys and values of the heads: two stacks, or one matrix of both, in each head's rows first the keys'. */
static void bind_heads(struct sr_binder *b, const sr_hparams *h, int i, sr_latent_layer *l) {
    const int64_t nope = h->latent.d_nope, d_v = h->latent.d_v, rank = h->latent.rank, n = h->n_head;
    l->k = (sr_experts){&l->kv[0], 1, rank, nope, rank, 0};
    l->v = (sr_experts){&l->kv[1], 1, d_v, rank, d_v, 0};
    if (sr_bind_has(b, SR_K_B, i)) {
        sr_bind_matrix(b, SR_K_B, i, n * rank, nope, false, &l->kv[0]);
        sr_bind_matrix(b, SR_V_B, i, n * d_v, rank, false, &l->kv[1]);
        return;
    }
    char stem[SR_NAME];
    sr_bind_matrix(b, SR_KV_B, i, n * (nope + d_v), rank, false, &l->kv[1]);
    if (b->err->code == SR_OK && (l->kv[1].bias || l->kv[1].perm)) {
        sr_name_full(&b->naming, SR_KV_B, i, "", stem);
        sr_fail(b->err, SR_UNSUPPORTED, "%s: %s has %s, which latent attention here does not take", b->file->path, stem,
                l->kv[1].bias ? "a bias" : "columns in another order (act-order)");
    }
    sr_name_full(&b->naming, SR_KV_B, i, "", stem);
    sr_bind_turned(b, stem, &l->kv[1], n, nope + d_v, nope, &l->kv[0]);
    l->v.pitch = nope + d_v, l->v.row0 = nope;
    sr_bind_visit(b, stem, false, &l->kv[1]);
}

void sr_latent_bind(struct sr_binder *b, const sr_hparams *h, int i, sr_layer *layer) {
    const int64_t d = h->d_model, q = (int64_t)h->n_head * h->head_dim, rank = h->latent.rank,
                  q_rank = h->latent.q_rank;
    const bool bias = h->bias & SR_BIAS_QKV;
    sr_latent_layer *l = layer->latent = sr_arena_alloc(b->arena, 1, sizeof *l);
    if (!l) {
        sr_fail(b->err, SR_NOMEM, "no memory for a layer");
        return;
    }
    layer->n_qkv = 2;
    if (q_rank) {
        sr_bind_matrix(b, SR_Q_A, i, q_rank, d, bias, &layer->qkv[0]);
        sr_bind_norm(b, SR_Q_A_NORM, i, q_rank, &layer->q_norm);
        sr_bind_matrix(b, SR_Q_B, i, q, q_rank, false, &l->q_b);
    } else
        sr_bind_matrix(b, SR_Q, i, q, d, false, &layer->qkv[0]);
    sr_bind_matrix(b, SR_KV_A, i, rank + h->n_rot, d, bias, &layer->qkv[1]);
    sr_bind_norm(b, SR_KV_A_NORM, i, rank, &layer->k_norm);
    bind_heads(b, h, i, l);
    sr_bind_matrix(b, SR_ATTN_OUT, i, d, (int64_t)h->n_head * h->latent.d_v, bias, &layer->attn_out);
}

/* ------------------------------------------------------------------ forward */

/* Columns of scratch->qkv: q of the heads, where values go in the end; latent and rotating features of this token; what
 * queries are made of; queries over latents. */
struct columns {
    int64_t kv, q_a, latent_q, all;
};
static struct columns columns_of(const sr_hparams *h) {
    const sr_latent *l = &h->latent;
    const int64_t head = h->head_dim > l->d_v ? h->head_dim : l->d_v, kept = l->rank + h->n_rot;
    const int64_t kv = h->n_head * head, q_a = kv + kept, latent_q = q_a + l->q_rank;
    return (struct columns){kv, q_a, latent_q, latent_q + h->n_head * kept};
}

void sr_latent_scratch(const sr_hparams *h, int64_t *qkv, int64_t *attn) {
    *qkv = columns_of(h).all;
    *attn = (int64_t)h->n_head * h->latent.rank;
}

void sr_latent_attend(const sr_decoder *dec, sr_dev *dev, const sr_scratch *s, const sr_step_view *step, int layer) {
    const sr_hparams *h = &dec->h;
    const sr_device *ops = dev->ops;
    const sr_layer *l = &dec->layer[layer];
    const struct columns at = columns_of(h);
    const int T = step->T, n = h->n_head, hd = h->head_dim, rank = h->latent.rank, q_rank = h->latent.q_rank;
    const int nope = h->latent.d_nope, n_rot = h->n_rot, d_v = h->latent.d_v, kept = rank + n_rot, d = h->d_model;
    float *const q = s->qkv, *const kv = q + at.kv, *const q_a = q + at.q_a, *const latent_q = q + at.latent_q;
    const int64_t ld = at.all, ld_attn = (int64_t)n * rank; /* of s->attn [T][n][rank] */
    const sr_rope *rope = &dec->rope[0];

    const sr_weight *in[2] = {&l->qkv[0], &l->qkv[1]}, *q_b[1] = {&l->latent->q_b}, *out[1] = {&l->attn_out};
    ops->matmul(dev, in, 2, s->normed, T, d, (float *[]){q_rank ? q_a : q, kv}, (int64_t[]){ld, ld});
    if (q_rank) {
        ops->norm(dev, SR_NORM_RMS, q_a, T, 1, ld, q_rank, l->q_norm.weight, NULL, EPS, q_a, ld);
        ops->matmul(dev, q_b, 1, q_a, T, ld, (float *[]){q}, (int64_t[]){ld});
    }
    ops->norm(dev, SR_NORM_RMS, kv, T, 1, ld, rank, l->k_norm.weight, NULL, EPS, kv, ld);
    ops->rope(dev, rope, step->pos, step->table, T, q + nope, ld, n, hd);
    ops->rope(dev, rope, step->pos, step->table, T, kv + rank, ld, 1, n_rot);
    ops->matmul_heads(dev, &l->latent->k, n, q, T, ld, hd, latent_q, ld, kept);
    ops->copy(dev, q + nope, T, ld, n, hd, n_rot, latent_q + rank, ld, kept);
    ops->attend(dev, &(sr_attend){.layer = layer,
                                  .n_head = n,
                                  .n_kv_head = 1,
                                  .hd_k = kept,
                                  .hd_v = rank,
                                  .scale = h->attn_scale,
                                  .cap = h->attn_cap,
                                  .stretch = h->stretch,
                                  .stretch_every = h->stretch_every,
                                  .span = step->span,
                                  .n_span = step->n_span,
                                  .q = latent_q,
                                  .k = kv,
                                  .ld_q = ld,
                                  .ld_kv = ld,
                                  .out = s->attn,
                                  .ld_out = ld_attn});
    ops->matmul_heads(dev, &l->latent->v, n, s->attn, T, ld_attn, rank, q, ld, d_v);
    ops->matmul(dev, out, 1, q, T, ld, (float *[]){s->branch}, (int64_t[]){d});
}
