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
    int n, cap, n_experts;
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

/* Of experts that are a weight each the first stands for all: the device is called with it. */
static sr_status add(void *ctx, sr_role role, int layer, int expert, sr_weight *w, sr_err *err) {
    struct sr_watch *to = ctx;
    const bool experts = role >= SR_EXPERTS_GATE && role <= SR_EXPERTS_DOWN;
    if (layer < 0 || expert > 0 || role == SR_K_B || role == SR_V_B || role == SR_SHARED_SHARE) return SR_OK;
    if (to->n == to->cap) {
        const int cap = 2 * to->cap + 64;
        sr_watched *more = realloc(to->item, (size_t)cap * sizeof *more);
        if (!more) return sr_fail(err, SR_NOMEM, "no memory to watch a model");
        to->item = more;
        to->cap = cap;
    }
    to->item[to->n++] = (sr_watched){w, role, layer, experts ? to->n_experts : 1, w->K};
    return SR_OK;
}

sr_status sr_watch_open(sr_model *m, sr_watch_fn fn, void *ctx, sr_watch **out, sr_err *err) {
    struct sr_watch *w = *out = calloc(1, sizeof *w);
    if (!w) return sr_fail(err, SR_NOMEM, "no memory to watch a model");
    w->n_experts = m->dec.h.gating.n;
    sr_status s = sr_decoder_each(&m->dec, add, w, err);
    if (s != SR_OK) {
        free(w->item);
        free(w);
        *out = NULL;
        return s;
    }
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
