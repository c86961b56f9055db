/* What a model's matrices are multiplied with, seen by operations that stand in front of the device's own. */
#include <stdlib.h>

#include "core/core.h"
#include "quant/quant.h"

/* The device's operations with ours in front; first, so that dev->ops leads here. */
struct sr_watch {
    sr_device ops;
    const sr_device *inner;
    sr_dev *dev;
    sr_watch_fn fn;
    void *ctx;
    sr_watched *item;
    int n;
};

static const struct sr_watch *watch_of(const sr_dev *dev) {
    return (const struct sr_watch *)(const void *)dev->ops;
}

static int item_of(const struct sr_watch *w, const sr_weight *weight) {
    for (int i = 0; i < w->n; i++)
        if (w->item[i].w == weight) return i;
    return -1;
}

static void see_matmul(sr_dev *dev, const sr_weight *const *w, int n, const float *x, int T, int64_t ld_x,
                       float *const *y, const int64_t *ld_y) {
    const struct sr_watch *watch = watch_of(dev);
    for (int i = 0; i < n; i++) {
        const int item = item_of(watch, w[i]);
        if (item >= 0) watch->fn(watch->ctx, item, 0, x, T, ld_x);
    }
    watch->inner->matmul(dev, w, n, x, T, ld_x, y, ld_y);
}

static void see_experts(sr_dev *dev, const sr_experts *const *w, int n, const sr_choices *c, const float *x,
                        int64_t ld_x, bool by_choice, float *const *y, const int64_t *ld_y) {
    const struct sr_watch *watch = watch_of(dev);
    for (int i = 0; i < n; i++) {
        const int item = item_of(watch, w[i]->w);
        for (int expert = 0; item >= 0 && expert < c->n_expert; expert++)
            for (int k = c->first[expert]; k < c->first[expert + 1]; k++)
                watch->fn(watch->ctx, item, expert, x + (by_choice ? k : c->token[k]) * ld_x, 1, ld_x);
    }
    watch->inner->matmul_experts(dev, w, n, c, x, ld_x, by_choice, y, ld_y);
}

enum { MOST = 13 }; /* matrices of one layer */

static void add(struct sr_watch *to, sr_role role, int layer, const sr_weight *w, int n, int64_t K) {
    if (w->N) to->item[to->n++] = (sr_watched){w, role, layer, n, K};
}

static void add_layer(struct sr_watch *to, const sr_arch *arch, const sr_layer *l, int i) {
    static const sr_role qkv[] = {SR_Q, SR_K, SR_V}, latent[] = {SR_Q, SR_KV_A};
    for (int j = 0; j < l->n_qkv; j++)
        add(to,
            l->latent       ? (j == 0 && l->latent->q_b.N ? SR_Q_A : latent[j])
            : l->n_qkv == 1 ? SR_QKV
                            : qkv[j],
            i, &l->qkv[j], 1, l->qkv[j].K);
    if (l->latent) add(to, SR_Q_B, i, &l->latent->q_b, 1, l->latent->q_b.K);
    add(to, SR_ATTN_OUT, i, &l->attn_out, 1, l->attn_out.K);
    const bool shared = l->mixture != NULL;
    if (l->n_up == 1)
        add(to, shared ? SR_SHARED_GATE_UP : arch->ungated ? SR_UP : SR_GATE_UP, i, &l->up[0], 1, l->up[0].K);
    for (int j = 0; j < 2 && l->n_up == 2; j++)
        add(to, shared ? (j ? SR_SHARED_UP : SR_SHARED_GATE) : j ? SR_UP : SR_GATE, i, &l->up[j], 1, l->up[j].K);
    if (l->n_up) add(to, shared ? SR_SHARED_DOWN : SR_DOWN, i, &l->down, 1, l->down.K);
    const sr_mixture *m = l->mixture;
    if (!m) return;
    const int E = (int)m->router.N;
    add(to, SR_ROUTER, i, &m->router, 1, m->router.K);
    if (m->n_up == 1) add(to, SR_EXPERTS_GATE_UP, i, m->up[0].w, E, m->up[0].K);
    for (int j = 0; j < 2 && m->n_up == 2; j++)
        add(to, j ? SR_EXPERTS_UP : SR_EXPERTS_GATE, i, m->up[j].w, E, m->up[j].K);
    add(to, SR_EXPERTS_DOWN, i, m->down.w, E, m->down.K);
}

sr_status sr_watch_open(sr_model *m, sr_watch_fn fn, void *ctx, sr_watch **out, sr_err *err) {
    const sr_decoder *dec = &m->dec;
    sr_watch *w = *out = calloc(1, sizeof *w);
    if (w) w->item = calloc((size_t)dec->h.n_layer * MOST, sizeof *w->item);
    if (!w || !w->item) {
        free(w);
        *out = NULL;
        return sr_fail(err, SR_NOMEM, "no memory to watch a model");
    }
    for (int i = 0; i < dec->h.n_layer; i++) add_layer(w, dec->arch, &dec->layer[i], i);
    w->fn = fn;
    w->ctx = ctx;
    w->dev = m->engine->dev;
    w->inner = w->dev->ops;
    w->ops = *w->inner;
    w->ops.matmul = see_matmul;
    w->ops.matmul_experts = see_experts;
    w->dev->ops = &w->ops;
    return SR_OK;
}

const sr_watched *sr_watch_items(const sr_watch *w, int *n) {
    *n = w->n;
    return w->item;
}

void sr_watch_close(sr_watch *w) {
    if (!w) return;
    w->dev->ops = w->inner;
    free(w->item);
    free(w);
}
