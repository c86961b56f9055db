/* The matrices of a decoder, by role. */
#include "arch/arch.h"

struct each {
    sr_matrix_fn fn;
    void *user;
    sr_err *err;
    sr_status s;
};

static void call(struct each *e, sr_role role, int layer, int expert, sr_weight *w) {
    if (e->s == SR_OK && w->N > 0) e->s = e->fn(e->user, role, layer, expert, w, e->err);
}

static void experts(struct each *e, sr_role role, int layer, sr_mixture *m, const sr_experts *x) {
    sr_weight *w = m->weight + (x->w - m->weight);
    for (int i = 0; i < x->n; i++) call(e, role, layer, x->n > 1 ? i : -1, &w[i]);
}

static void mixture(struct each *e, int i, sr_mixture *m) {
    call(e, SR_ROUTER, i, -1, &m->router);
    call(e, SR_SHARED_SHARE, i, -1, &m->share);
    if (m->n_up == 1) experts(e, SR_EXPERTS_GATE_UP, i, m, &m->up[0]);
    for (int j = 0; j < 2 && m->n_up == 2; j++) experts(e, j ? SR_EXPERTS_UP : SR_EXPERTS_GATE, i, m, &m->up[j]);
    experts(e, SR_EXPERTS_DOWN, i, m, &m->down);
}

static void layer(struct each *e, const sr_arch *arch, int i, sr_layer *l) {
    static const sr_role qkv[] = {SR_Q, SR_K, SR_V}, heads[] = {SR_K_B, SR_V_B};
    sr_latent_layer *t = l->latent;
    const bool shared = l->mixture != NULL;
    for (int j = 0; j < l->n_qkv; j++)
        call(e, t ? (j ? SR_KV_A : t->q_b.N ? SR_Q_A : SR_Q) : l->n_qkv == 1 ? SR_QKV : qkv[j], i, -1, &l->qkv[j]);
    if (t) call(e, SR_Q_B, i, -1, &t->q_b);
    for (int j = 0; t && j < 2; j++) call(e, heads[j], i, -1, &t->kv[j]);
    call(e, SR_ATTN_OUT, i, -1, &l->attn_out);
    if (l->mixture) mixture(e, i, l->mixture);
    if (l->n_up == 1) call(e, shared ? SR_SHARED_GATE_UP : arch->ungated ? SR_UP : SR_GATE_UP, i, -1, &l->up[0]);
    for (int j = 0; j < 2 && l->n_up == 2; j++)
        call(e, shared ? (j ? SR_SHARED_UP : SR_SHARED_GATE) : j ? SR_UP : SR_GATE, i, -1, &l->up[j]);
    if (l->n_up) call(e, shared ? SR_SHARED_DOWN : SR_DOWN, i, -1, &l->down);
}

sr_status sr_decoder_each(sr_decoder *dec, sr_matrix_fn fn, void *user, sr_err *err) {
    struct each e = {fn, user, err, SR_OK};
    call(&e, SR_EMBED, -1, -1, &dec->embed);
    if (!dec->h.tied) call(&e, SR_HEAD, -1, -1, &dec->head);
    for (int i = 0; i < dec->h.n_layer; i++) layer(&e, dec->arch, i, &dec->layer[i]);
    return e.s;
}
