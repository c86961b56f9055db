#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "core/core.h"
#include "text/template.h"

/* Places each distinct matrix and counts it; a token is multiplied with a share of it. */
static sr_status place_some(sr_model *m, sr_weight *w, double share, sr_err *err) {
    const int64_t n = w->N * w->K, bytes = sr_weight_bytes(w);
    m->n_params += n;
    m->weight_bytes += bytes;
    m->n_active += (int64_t)(share * (double)n);
    m->active_bytes += (int64_t)(share * (double)bytes);
    return m->engine->dev->ops->place(m->engine->dev, w, err);
}

static sr_status place(sr_model *m, sr_weight *w, sr_err *err) {
    return place_some(m, w, 1, err);
}

static sr_status place_all(sr_model *m, sr_err *err) {
    sr_decoder *d = &m->dec;
    const sr_gating *g = &d->h.gating;
    sr_status s = place_some(m, &d->embed, d->h.tied ? 1 : 0, err);
    if (d->h.tied)
        d->head = d->embed;
    else if (s == SR_OK)
        s = place(m, &d->head, err);
    for (int i = 0; i < d->h.n_layer && s == SR_OK; i++) {
        sr_layer *l = &d->layer[i];
        for (int j = 0; j < l->n_qkv && s == SR_OK; j++) s = place(m, &l->qkv[j], err);
        sr_latent_layer *latent = l->latent;
        if (s == SR_OK && latent && latent->q_b.N) s = place(m, &latent->q_b, err);
        for (int j = 0; latent && j < 2 && s == SR_OK; j++) s = place(m, &latent->kv[j], err);
        if (s == SR_OK) s = place(m, &l->attn_out, err);
        for (int j = 0; j < l->n_up && s == SR_OK; j++) s = place(m, &l->up[j], err);
        if (s == SR_OK && l->n_up > 0) s = place(m, &l->down, err);
        sr_mixture *mix = l->mixture;
        if (s == SR_OK && mix) s = place(m, &mix->router, err);
        if (s == SR_OK && mix && mix->share.N) s = place(m, &mix->share, err);
        for (int j = 0; mix && j < mix->n_weights && s == SR_OK; j++)
            s = place_some(m, &mix->weight[j], (double)g->used / g->n, err);
    }
    return s;
}

static void add_ends(sr_model *m) {
    static const char *const keys[] = {"generation_config.eos_token_id", "eos_token_id", "text_config.eos_token_id",
                                       NULL};
    for (const char *const *k = keys; *k; k++) {
        const sr_value *v = sr_file_value(m->file, *k);
        int64_t id;
        if (!v) continue;
        if (v->kind == SR_KIND_ARRAY) {
            sr_array a = sr_array_over(v);
            while (sr_array_int(&a, &id))
                if (id >= 0 && id <= INT32_MAX) sr_tokenizer_add_end(m->tokenizer, (int32_t)id);
        } else if (sr_value_int(m->file, *k, 0, INT32_MAX, &id, NULL))
            sr_tokenizer_add_end(m->tokenizer, (int32_t)id);
    }
}

/* Tokens that generation_config.json forbids. */
static sr_status add_suppressed(sr_model *m, sr_err *err) {
    const sr_value *v = sr_file_value(m->file, "generation_config.suppress_tokens");
    if (!v || v->kind != SR_KIND_ARRAY) return SR_OK;
    sr_array a = sr_array_over(v);
    m->suppressed = sr_arena_alloc(&m->arena, (size_t)v->v.a.n + 1, sizeof *m->suppressed);
    if (!m->suppressed) return sr_fail(err, SR_NOMEM, "no memory for the list of suppressed tokens");
    for (int64_t id; sr_array_int(&a, &id);)
        if (id >= 0 && id < m->dec.h.n_vocab)
            m->suppressed[m->n_suppressed++] = (sr_logit_bias){(int32_t)id, -INFINITY};
    return SR_OK;
}

/* Files of weights alone run too: ids in, logits out. */
static bool has_tokenizer(const sr_file *file) {
    const char *model;
    size_t n;
    if (file->tokenizer_name) return true;
    if (!sr_value_string(file, "tokenizer.ggml.model", &model, &n, NULL)) return false;
    return !(n == 4 && memcmp(model, "none", 4) == 0) && !(n == 8 && memcmp(model, "no_vocab", 8) == 0);
}

static sr_status open_model(sr_model *m, const char *path, const sr_model_options *o, sr_err *err) {
    const sr_arch *arch;
    sr_hparams h;
    sr_isq isq = {.experts_only = o->experts_only,
                  .recipe = o->recipe,
                  .importance = o->importance,
                  .engine = m->engine,
                  .arena = &m->arena,
                  .progress = o->progress,
                  .user = o->user};
    if (o->isq) {
        sr_status s = sr_isq_resolve(o->isq, &isq, err);
        if (s != SR_OK) return s;
    }
    m->isq = isq.fmt ? isq.fmt->name : o->recipe ? "recipe" : NULL;
    sr_file_options file = {.format = o->format, .gqa = o->gqa, .threads = m->engine->threads};
    sr_status s = sr_file_open(path, &file, &m->file, err);
    if (s == SR_OK) s = sr_arch_find(m->file, &arch, err);
    if (s == SR_OK) s = sr_arch_read(m->file, arch, &m->arena, &h, err);
    if (s == SR_OK && has_tokenizer(m->file)) s = sr_tokenizer_create(m->file, &m->tokenizer, err);
    if (s != SR_OK) return s;
    if (m->tokenizer) add_ends(m);
    for (int i = 0; i < m->file->n_parts; i++)
        if (m->file->part[i].n_dims > 1) isq.total += (double)m->file->part[i].n_elements;
    isq.naming = sr_naming_of(m->file, arch);
    isq.n_expert = h.gating.n;
    s = sr_decoder_bind(m->file, arch, &h, &m->arena, o->scratch_dir, m->isq ? sr_isq_visit : NULL, &isq, &m->dec, err);
    if (s != SR_OK) return s;
    if (o->recipe) sr_recipe_warn(o->recipe);
    if (o->experts_only && isq.fmt && h.gating.n == 0) {
        sr_log(SR_LOG_WARNING, "%s has no experts to quantize: all matrices are as they were", m->file->path);
        m->isq = o->recipe ? m->isq : NULL;
    }
    int32_t n_rows = m->dec.h.n_vocab, n_tokens = m->tokenizer ? sr_tokenizer_n_vocab(m->tokenizer) : n_rows;
    if (n_tokens > n_rows)
        return sr_fail(err, SR_CORRUPT, "%s: the tokenizer has %d tokens, the embedding only %d rows", m->file->path,
                       n_tokens, n_rows);
    s = add_suppressed(m, err);
    if (s == SR_OK) s = place_all(m, err);
    if (s == SR_OK) s = sr_engine_reserve(m->engine, &m->dec, err);
    return s;
}

sr_status sr_model_open(sr_engine *e, const char *path, const sr_model_options *options, sr_model **out, sr_err *err) {
    static const sr_model_options none = {0};
    *out = NULL;
    sr_model *m = calloc(1, sizeof *m);
    if (!m) return sr_fail(err, SR_NOMEM, "no memory for a model");
    m->engine = e;
    sr_status s = open_model(m, path, options ? options : &none, err);
    if (s != SR_OK) {
        sr_model_close(m);
        return s;
    }
    *out = m;
    return SR_OK;
}

void sr_model_close(sr_model *m) {
    if (!m) return;
    sr_tokenizer_free(m->tokenizer);
    sr_file_close(m->file);
    sr_arena_free(&m->arena);
    free(m);
}

void sr_model_get_info(const sr_model *m, sr_model_info *info) {
    const sr_hparams *h = &m->dec.h;
    *info = (sr_model_info){
        .arch = m->dec.arch->name,
        .container = m->file->container,
        .n_params = m->n_params,
        .weight_bytes = m->weight_bytes,
        .n_active = m->n_active,
        .active_bytes = m->active_bytes,
        .bits_per_weight = m->n_params ? 8.0 * (double)m->weight_bytes / (double)m->n_params : 0,
        .n_vocab = h->n_vocab,
        .n_layer = h->n_layer,
        .d_model = h->d_model,
        .n_head = h->n_head,
        .n_kv_head = h->n_kv_head,
        .head_dim = h->head_dim,
        .d_ff = h->d_ff,
        .n_ctx_train = h->n_ctx_train,
        .has_chat_template = m->tokenizer && sr_template_found(m->file),
        .isq = m->isq,
    };
}

const sr_tokenizer *sr_model_tokenizer(const sr_model *m) {
    return m->tokenizer;
}

sr_status sr_model_template(const sr_model *m, bool tools, sr_template **out, sr_err *err) {
    return sr_template_create(m->file, tools, out, err);
}

bool sr_model_is_end(const sr_model *m, int32_t id) {
    return m->tokenizer && sr_tokenizer_is_end(m->tokenizer, id);
}

/* A number of generation_config.json, or of a GGUF file's general.sampling. */
static bool sampling_number(const sr_file *file, const char *hf, const char *gguf, double *x) {
    char key[96];
    snprintf(key, sizeof key, "%s%s", file->gguf ? "general.sampling." : "generation_config.", file->gguf ? gguf : hf);
    return sr_value_float(file, key, x, NULL);
}

void sr_model_sampling(const sr_model *m, sr_sampling *s) {
    *s = sr_sampling_default();
    sr_sampling own = *s;
    bool sample = true, found = false;
    double x;
    own.temperature = own.repetition_penalty = 1;
    own.top_p = own.min_p = 0;
    own.top_k = 0;
    if (sampling_number(m->file, "temperature", "temp", &x)) own.temperature = (float)x, found = true;
    if (sampling_number(m->file, "top_k", "top_k", &x) && x >= 0 && x <= INT32_MAX) own.top_k = (int)x, found = true;
    if (sampling_number(m->file, "top_p", "top_p", &x)) own.top_p = (float)x, found = true;
    if (sampling_number(m->file, "min_p", "min_p", &x)) own.min_p = (float)x, found = true;
    if (sampling_number(m->file, "repetition_penalty", "penalty_repeat", &x) && x > 0)
        own.repetition_penalty = (float)x, found = true;
    if (sr_value_bool(m->file, "generation_config.do_sample", &sample, NULL) && !sample)
        own.temperature = 0, found = true;
    if (found) *s = own;
    s->logit_bias = m->suppressed;
    s->n_logit_bias = m->n_suppressed;
}
