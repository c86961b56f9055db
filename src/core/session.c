#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "core/core.h"

enum { DEFAULT_CTX = 8192, MAX_CTX = 1 << 26 };

static int32_t resolve_ctx(const sr_model *m, int32_t n_ctx) {
    int32_t trained = m->dec.h.n_ctx_train;
    return n_ctx ? n_ctx : trained < DEFAULT_CTX ? trained : DEFAULT_CTX;
}

/* What `name` calls; NULL with a list of the names when it calls nothing. */
static const sr_kv_type *resolve_type(const sr_model *m, const char *name, sr_err *err) {
    const sr_dev *dev = m->engine->dev;
    const sr_kv_type *type;
    char list[96] = "";
    if (!name) name = m->engine->exact ? "f32" : "f16";
    for (int i = 0; (type = dev->ops->kv_type(dev, i)); i++) {
        const size_t at = strlen(list);
        if (strcmp(type->name, name) == 0) return type;
        snprintf(list + at, sizeof list - at, "%s%s", i ? ", " : "", type->name);
    }
    sr_fail(err, SR_INVALID, "type of keys and values '%.32s' is unknown; expected one of %s", name, list);
    return NULL;
}

/* Of the keys of one layer (which 0), or its values. */
static int64_t layer_bytes(const sr_model *m, const sr_kv_type *type, int32_t n_ctx, int32_t layer, int which) {
    const int64_t pages = ((int64_t)n_ctx + SR_KV_PAGE - 1) / SR_KV_PAGE;
    const sr_kv_shape kv = sr_decoder_kv(&m->dec, layer);
    return pages * SR_KV_PAGE * kv.n_kv_head * (int64_t)sr_kv_bytes(type, which ? kv.v : kv.k);
}

/* No more than 2^26 tokens of 2^20 features in 1024 layers: it can't wrap. */
static int64_t all_bytes(const sr_model *m, const sr_kv_type *type, int32_t n_ctx) {
    int64_t sum = 0;
    for (int32_t i = 0; i < m->dec.h.n_layer; i++)
        sum += layer_bytes(m, type, n_ctx, i, 0) + layer_bytes(m, type, n_ctx, i, 1);
    return sum;
}

static int64_t session_bytes(const sr_model *m, const sr_kv_type *type, int32_t n_ctx) {
    return all_bytes(m, type, n_ctx) + (int64_t)n_ctx * (int64_t)sizeof(int32_t) +
           m->dec.h.n_vocab * (int64_t)sizeof(float);
}

static const sr_session_options none = {0};

int64_t sr_session_bytes(const sr_model *m, const sr_session_options *options) {
    const sr_session_options *o = options ? options : &none;
    const sr_kv_type *type = resolve_type(m, o->kv_type, NULL);
    return type && o->n_ctx >= 0 && o->n_ctx <= MAX_CTX ? session_bytes(m, type, resolve_ctx(m, o->n_ctx)) : -1;
}

sr_status sr_session_create(sr_model *m, const sr_session_options *options, sr_session **out, sr_err *err) {
    const sr_session_options *o = options ? options : &none;
    *out = NULL;
    if (o->n_ctx < 0 || o->n_ctx > MAX_CTX)
        return sr_fail(err, SR_INVALID, "context: found %d, expected 0 (automatic) to %d", o->n_ctx, MAX_CTX);
    const int32_t n_ctx = resolve_ctx(m, o->n_ctx);
    const sr_kv_type *type = resolve_type(m, o->kv_type, err);
    if (!type) return SR_INVALID;
    if (n_ctx > m->dec.h.n_ctx_train)
        sr_log(SR_LOG_WARNING, "context %d is longer than the %d positions the model was trained for", n_ctx,
               m->dec.h.n_ctx_train);
    sr_session *s = calloc(1, sizeof *s);
    if (!s) return sr_fail(err, SR_NOMEM, "no memory for a session");
    int32_t n_pages = (n_ctx + SR_KV_PAGE - 1) / SR_KV_PAGE, n_layer = m->dec.h.n_layer;
    s->model = m;
    s->n_ctx = n_ctx;
    s->tokens = sr_arena_alloc(&s->arena, (size_t)n_ctx, sizeof *s->tokens);
    s->logits = sr_arena_alloc(&s->arena, (size_t)m->dec.h.n_vocab, sizeof *s->logits);
    s->kv = sr_arena_alloc(&s->arena, (size_t)n_layer, sizeof *s->kv);
    s->table = sr_arena_alloc(&s->arena, (size_t)n_pages, sizeof *s->table);
    s->page_bytes = (size_t)all_bytes(m, type, n_ctx);
    s->pages = m->engine->dev->ops->alloc(m->engine->dev, s->page_bytes);
    if (!s->tokens || !s->logits || !s->kv || !s->table || !s->pages) {
        sr_session_free(s);
        return sr_fail(err, SR_NOMEM, "no memory for a context of %d tokens (%lld bytes): choose a smaller --ctx",
                       n_ctx, (long long)session_bytes(m, type, n_ctx));
    }
    for (int32_t i = 0; i < n_pages; i++) s->table[i] = i;
    char *at = s->pages;
    for (int32_t i = 0; i < n_layer; i++) {
        const int64_t keys = layer_bytes(m, type, n_ctx, i, 0), values = layer_bytes(m, type, n_ctx, i, 1);
        s->kv[i] = (sr_kv){at, values ? at + keys : NULL, s->table, type};
        at += keys + values;
    }
    *out = s;
    return SR_OK;
}

void sr_session_free(sr_session *s) {
    if (!s) return;
    if (s->pages) s->model->engine->dev->ops->free(s->model->engine->dev, s->pages, s->page_bytes);
    sr_arena_free(&s->arena);
    free(s);
}

int32_t sr_session_n_ctx(const sr_session *s) {
    return s->n_ctx;
}

const char *sr_session_kv_type(const sr_session *s) {
    return s->kv[0].type->name;
}

static sr_status check_id(const sr_session *s, int32_t id, sr_err *err) {
    int32_t n = s->model->dec.h.n_vocab;
    return id >= 0 && id < n ? SR_OK : sr_fail(err, SR_INVALID, "token id %d: expected 0 to %d", id, n - 1);
}

/* Keys rotated for another length are of no use. */
static void choose_table(sr_session *s) {
    int32_t table = sr_decoder_table(&s->model->dec, s->n_tokens);
    if (table == s->rope_table) return;
    s->rope_table = table;
    s->n_done = 0;
}

sr_status sr_session_sync(sr_session *s, const int32_t *ids, int32_t n, sr_err *err) {
    if (n < 1) return sr_fail(err, SR_INVALID, "a session needs at least one token");
    if (n > s->n_ctx)
        return sr_fail(err, SR_LIMIT, "%d tokens do not fit a context of %d: shorten the text or raise --ctx", n,
                       s->n_ctx);
    for (int32_t i = 0; i < n; i++)
        if (check_id(s, ids[i], err) != SR_OK) return SR_INVALID;
    int32_t same = 0, limit = s->n_done < n - 1 ? s->n_done : n - 1; /* the last one is computed again for its logits */
    if (s->has_logits && s->n_done == n && s->n_tokens == n && memcmp(ids, s->tokens, (size_t)n * sizeof *ids) == 0)
        return SR_OK;
    while (same < limit && s->tokens[same] == ids[same]) same++;
    memmove(s->tokens, ids, (size_t)n * sizeof *ids);
    s->n_tokens = n;
    s->n_done = same;
    s->has_logits = false;
    choose_table(s);
    return SR_OK;
}

sr_status sr_session_append(sr_session *s, int32_t id, sr_err *err) {
    if (check_id(s, id, err) != SR_OK) return SR_INVALID;
    if (s->n_tokens == s->n_ctx)
        return sr_fail(err, SR_LIMIT, "the context of %d tokens is full: raise --ctx", s->n_ctx);
    s->tokens[s->n_tokens++] = id;
    s->has_logits = false;
    choose_table(s);
    return SR_OK;
}

int32_t sr_session_n_tokens(const sr_session *s) {
    return s->n_tokens;
}

int32_t sr_session_n_pending(const sr_session *s) {
    return s->n_tokens - s->n_done;
}

const int32_t *sr_session_tokens(const sr_session *s) {
    return s->tokens;
}

void sr_session_on_logits(sr_session *s, sr_logits_fn fn, void *user) {
    s->on_logits = fn;
    s->user = user;
}

const float *sr_session_logits(const sr_session *s) {
    return s->has_logits ? s->logits : NULL;
}
