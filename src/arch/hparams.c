/* From metadata to sr_hparams: one table of keys for both containers, every number checked once. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "arch/arch.h"

enum { MAX_LAYERS = 1024, MAX_WIDTH = 1 << 20, MAX_HEADS = 4096, MAX_VOCAB = 1 << 24, KEY = 160, KEYS = 4 };

struct reader {
    const sr_file *file;
    const sr_arch *arch;
    const char *nest; /* in front of a config's keys */
    sr_arena *arena;
    sr_hparams *h;
    bool *asked; /* [n_values]: keys that were looked for; may be NULL */
    sr_err *err;
    char key[KEYS][KEY];
    int turn;
};

/* "hf key" for a directory, "<arch>.gguf key" for GGUF; good for the KEYS latest calls. NULL when the container has no
 * such key. */
static const char *key_of(struct reader *r, const char *hf, const char *gguf) {
    const char *key = r->file->gguf ? gguf : hf;
    if (!key) return NULL;
    char *out = r->key[r->turn = (r->turn + 1) % KEYS];
    snprintf(out, KEY, "%s%s%s", r->file->gguf ? r->arch->gguf_name : r->nest, r->file->gguf ? "." : "", key);
    return out;
}

static const sr_value *value_of(struct reader *r, const char *key) {
    const sr_value *v = key ? sr_file_value(r->file, key) : NULL;
    if (v && r->asked) r->asked[v - r->file->value] = true;
    return v;
}

static bool text_is(const sr_file *file, const char *key, const char *want) {
    const char *text;
    size_t n;
    const sr_value *v = sr_file_value(file, key);
    return v && v->kind == SR_KIND_STRING && sr_value_string(file, key, &text, &n, NULL) && n == strlen(want) &&
           memcmp(text, want, n) == 0;
}

static bool first_text_is(const sr_file *file, const char *key, const char *want) {
    const char *text;
    size_t n;
    sr_array a = sr_array_over(sr_file_value(file, key));
    return sr_array_string(&a, &text, &n) && n == strlen(want) && memcmp(text, want, n) == 0;
}

static bool is_text(const char *text, size_t n, const char *want) {
    return n == strlen(want) && memcmp(text, want, n) == 0;
}

static void require(struct reader *r, const char *key) {
    if (!value_of(r, key))
        sr_fail(r->err, SR_CORRUPT, "%s: the key %s is missing (%s needs it)", r->file->path, key, r->arch->name);
}

/* What the family's absent key means, or NULL. */
static const double *default_of(const struct reader *r, const char *hf, const char *gguf) {
    const char *key = r->file->gguf ? gguf : hf;
    for (const sr_default *d = r->arch->defaults; key && d && (d->hf || d->gguf); d++) {
        const char *own = r->file->gguf ? d->gguf : d->hf;
        if (own && strcmp(own, key) == 0) return &d->value;
    }
    return NULL;
}

/* An integer for each layer: one, or an array. Absent: *out keeps its values, unless the row has one. */
static void read_by_layer(struct reader *r, const char *hf, const char *gguf, int64_t lo, int64_t hi, int32_t *out,
                          bool required) {
    const char *key = key_of(r, hf, gguf);
    const sr_value *v = value_of(r, key);
    const double *absent = default_of(r, hf, gguf);
    const int n = r->h->n_layer;
    int64_t x = 0;
    if (!v && !absent) {
        if (required) require(r, key);
        return;
    }
    if (!v || v->kind != SR_KIND_ARRAY) {
        if (!v)
            x = (int64_t)*absent;
        else if (!sr_value_int(r->file, key, lo, hi, &x, r->err))
            return;
        for (int i = 0; i < n; i++) out[i] = (int32_t)x;
        return;
    }
    sr_array a = sr_array_over(v);
    for (int i = 0; i < n; i++) {
        if (!sr_array_int(&a, &x)) {
            if (v->v.a.n > 0 && (uint64_t)i >= v->v.a.n)
                sr_fail(r->err, SR_CORRUPT, "%s: %s: found %d elements, expected one for each of %d layers",
                        r->file->path, key, (int)v->v.a.n, n);
            else
                sr_fail(r->err, SR_CORRUPT, "%s: %s: found %s, expected an integer or an array of them", r->file->path,
                        key, v->v.a.n ? "an element that is none" : "an empty array");
            return;
        }
        if (x < lo || x > hi) {
            sr_fail(r->err, SR_CORRUPT, "%s: %s: found %lld, expected %lld to %lld", r->file->path, key, (long long)x,
                    (long long)lo, (long long)hi);
            return;
        }
        out[i] = (int32_t)x;
    }
}

static void read_int(struct reader *r, const char *hf, const char *gguf, int64_t lo, int64_t hi, int32_t *out,
                     bool required) {
    const char *key = key_of(r, hf, gguf);
    const double *absent = default_of(r, hf, gguf);
    int64_t x = 0;
    if (value_of(r, key)) {
        if (sr_value_int(r->file, key, lo, hi, &x, r->err)) *out = (int32_t)x;
    } else if (absent)
        *out = (int32_t)*absent;
    else if (required)
        require(r, key);
}

static void read_float(struct reader *r, const char *hf, const char *gguf, double lo, double hi, float *out) {
    const char *key = key_of(r, hf, gguf);
    const double *absent = default_of(r, hf, gguf);
    double x;
    if (!value_of(r, key)) {
        if (absent) *out = (float)*absent;
        return;
    }
    if (!sr_value_float(r->file, key, &x, r->err)) return;
    if (!(x >= lo && x <= hi)) {
        sr_fail(r->err, SR_CORRUPT, "%s: %s: found %g, expected %g to %g", r->file->path, key, x, lo, hi);
        return;
    }
    *out = (float)x;
}

static void read_bool(struct reader *r, const char *hf, const char *gguf, bool *out) {
    const char *key = key_of(r, hf, gguf);
    const double *absent = default_of(r, hf, gguf);
    if (value_of(r, key))
        sr_value_bool(r->file, key, out, r->err);
    else if (absent)
        *out = *absent != 0;
}

static bool is_set(const sr_value *v) {
    if (!v) return false;
    switch (v->kind) {
    case SR_KIND_U64:
        return v->v.u != 0;
    case SR_KIND_I64:
        return v->v.i != 0;
    case SR_KIND_F64:
        return v->v.f != 0;
    case SR_KIND_BOOL:
        return v->v.b;
    default:
        return true;
    }
}

/* ------------------------------------------------------------------ refusals */

/* Of every family: what no row does. */
static const sr_reject never[] = {
    {NULL, "attention.clamp_kqv", "clamped queries, keys and values"},
    {"alibi", "attention.max_alibi_bias", "positions as biases of scores"},
    {"rope_scaling.mrope_section", "rope.dimension_sections", "rotation by sections"},
    {"rope_parameters.mrope_section", NULL, "rotation by sections"},
    {"use_bidirectional_attention", NULL, "attention to later tokens"},
    {NULL, NULL, NULL},
};

static void refuse(struct reader *r, const sr_reject *list) {
    for (; list && list->why; list++) {
        const char *key = key_of(r, list->hf, list->gguf);
        if (is_set(value_of(r, key)))
            sr_fail(r->err, SR_UNSUPPORTED, "%s: %s is set: %s is no part of %s here", r->file->path, key, list->why,
                    r->arch->name);
    }
    bool causal = true;
    const char *key = key_of(r, "is_causal", "attention.causal");
    if (value_of(r, key) && sr_value_bool(r->file, key, &causal, r->err) && !causal)
        sr_fail(r->err, SR_UNSUPPORTED, "%s: %s is false: this model is no generator of text", r->file->path, key);
}

/* ------------------------------------------------------------------ rotation */

static float yarn_mscale(double factor, double m) {
    return factor > 1 ? (float)(0.1 * m * log(factor) + 1) : 1;
}

/* `object` is where a config has the kind and its numbers, without the nesting prefix. */
static void read_scaling(struct reader *r, const char *object, sr_rotation *t) {
    const sr_hparams *h = r->h;
    const char *kind = "none";
    size_t n = 4;
    char factor[64], low[64], high[64], orig[64], type[64], fast[64], slow[64], attn[64], mscale[64], all_dim[64],
        truncate[64], alpha[64], short_factor[64], long_factor[64], short_mscale[64], all_mscale[64];
#define IN(key, name) snprintf(key, sizeof key, "%s.%s", object, name)
    IN(factor, "factor"), IN(low, "low_freq_factor"), IN(high, "high_freq_factor"), IN(fast, "beta_fast");
    IN(orig, "original_max_position_embeddings"), IN(slow, "beta_slow"), IN(attn, "attention_factor");
    IN(mscale, "mscale"), IN(all_dim, "mscale_all_dim"), IN(truncate, "truncate"), IN(alpha, "alpha");
    IN(short_mscale, "short_mscale"), IN(all_mscale, "long_mscale"), IN(short_factor, "short_factor"),
        IN(long_factor, "long_factor"), IN(type, "rope_type");
    if (!r->file->gguf && !value_of(r, key_of(r, type, NULL))) IN(type, "type");
#undef IN
    const char *key = key_of(r, type, "rope.scaling.type");
    if (value_of(r, key) && !sr_value_string(r->file, key, &kind, &n, r->err)) return;

    float m = 0, m_all = 0, yarn = 0, long_mscale = 0, base_alpha = 0, blend = 1;
    bool told = value_of(r, key_of(r, factor, "rope.scaling.factor")) != NULL;
    read_float(r, factor, "rope.scaling.factor", 1e-6, 1e6, &t->factor);
    if (r->file->gguf && t->factor == 1) read_float(r, NULL, "rope.scale_linear", 1e-6, 1e6, &t->factor);
    read_float(r, low, NULL, 1e-6, 1e6, &t->low);
    read_float(r, high, NULL, 1e-6, 1e6, &t->high);
    read_int(r, orig, "rope.scaling.original_context_length", 1, INT32_MAX, &t->orig_ctx, false);
    if (!is_text(kind, n, "llama3")) /* Phi-3's is beside the object, and what counts */
        read_int(r, "original_max_position_embeddings", NULL, 1, INT32_MAX, &t->orig_ctx, false);
    read_float(r, fast, "rope.scaling.yarn_beta_fast", 1e-6, 1e6, &t->beta_fast);
    read_float(r, slow, "rope.scaling.yarn_beta_slow", 1e-6, 1e6, &t->beta_slow);
    read_float(r, attn, "rope.scaling.yarn_attn_factor", 1e-6, 1e6, &yarn);
    read_float(r, NULL, "rope.scaling.yarn_ext_factor", -1, 1e6, &blend);
    read_float(r, mscale, NULL, 0, 1e6, &m);
    read_float(r, all_dim, "rope.scaling.yarn_log_multiplier", 0, 1e6, &m_all);
    read_float(r, NULL, "rope.scaling.attn_factor", 1e-6, 1e6, &long_mscale);
    read_float(r, alpha, NULL, 1e-6, 1e9, &base_alpha);
    key = key_of(r, truncate, NULL);
    if (value_of(r, key)) sr_value_bool(r->file, key, &t->truncate, r->err);
    t->short_factor = value_of(r, key_of(r, short_factor, NULL));
    t->long_factor = value_of(r, key_of(r, long_factor, NULL));
    bool tensors = r->file->gguf && (sr_file_part(r->file, "rope_factors_long.weight") ||
                                     sr_file_part(r->file, "blk.0.rope_factors_long.weight"));

    if (is_text(kind, n, "longrope") || is_text(kind, n, "su") || tensors) { /* converters leave the kind out */
        t->scaling = SR_SCALE_LONGROPE;
        if (!told) t->factor = (float)((double)h->n_ctx_train / t->orig_ctx);
        if (yarn > 0 || long_mscale > 0)
            t->mscale[0] = t->mscale[1] = long_mscale > 0 ? long_mscale : yarn;
        else if (t->factor > 1 && t->orig_ctx > 1)
            t->mscale[0] = t->mscale[1] = (float)sqrt(1 + log(t->factor) / log(t->orig_ctx));
        if (!r->file->gguf) require(r, key_of(r, short_factor, NULL)), require(r, key_of(r, long_factor, NULL));
        read_float(r, short_mscale, NULL, 1e-6, 1e6, &t->mscale[0]);
        read_float(r, all_mscale, NULL, 1e-6, 1e6, &t->mscale[1]);
    } else if (is_text(kind, n, "none") || is_text(kind, n, "default")) {
        if (r->file->gguf && t->factor != 1) t->scaling = SR_SCALE_LINEAR; /* files of before the type key */
    } else if (is_text(kind, n, "linear")) {
        t->scaling = SR_SCALE_LINEAR;
        if (!r->file->gguf) require(r, key_of(r, factor, NULL));
    } else if (is_text(kind, n, "llama3")) {
        t->scaling = SR_SCALE_LLAMA3;
        const char *const keys[] = {factor, low, high, orig};
        for (int i = 0; i < 4 && !r->file->gguf; i++) require(r, key_of(r, keys[i], NULL));
        if (!(t->high > t->low))
            sr_fail(r->err, SR_CORRUPT, "%s: %s: found %g, expected more than low_freq_factor %g", r->file->path, high,
                    t->high, t->low);
    } else if (is_text(kind, n, "dynamic") && !r->file->gguf) {
        if (h->n_rot < 4)
            sr_fail(r->err, SR_CORRUPT, "%s: %s: found dynamic scaling of %d features that rotate, expected at least 4",
                    r->file->path, type, h->n_rot);
        else if (base_alpha > 0) /* once and for all; converters put it into the base */
            t->theta = (float)(t->theta * pow(base_alpha, h->n_rot / (h->n_rot - 2.0)));
        else {
            t->scaling = SR_SCALE_DYNAMIC;
            t->orig_ctx = h->n_ctx_train;
            require(r, key_of(r, factor, NULL));
        }
    } else if (is_text(kind, n, "yarn")) {
        t->scaling = SR_SCALE_YARN;
        if (!told && !r->file->gguf) t->factor = (float)((double)h->n_ctx_train / t->orig_ctx);
        if (r->file->gguf && r->arch->latent)
            m = m_all *= 10; /* converters write a tenth, and nothing of the other one, which is equal */
        else if (r->file->gguf && m_all > 0)
            m = 1;
        if (r->arch->latent && m_all > 0) r->h->latent.mscale = yarn_mscale(t->factor, m_all);
        t->mscale[0] = t->mscale[1] = yarn > 0             ? yarn
                                      : m > 0 && m_all > 0 ? yarn_mscale(t->factor, m) / yarn_mscale(t->factor, m_all)
                                                           : yarn_mscale(t->factor, 1);
        if (long_mscale > 0) t->mscale[0] *= long_mscale;
        if (blend >= 0 && blend != 1)
            sr_fail(r->err, SR_UNSUPPORTED, "%s: %s: found %g, this build knows only 1", r->file->path,
                    key_of(r, NULL, "rope.scaling.yarn_ext_factor"), blend);
        if (!(t->beta_fast > t->beta_slow) || t->theta <= 1)
            sr_fail(r->err, SR_CORRUPT, "%s: %s: found %g, expected more than beta_slow %g, and a base above 1",
                    r->file->path, key_of(r, fast, "rope.scaling.yarn_beta_fast"), t->beta_fast, t->beta_slow);
    } else
        sr_fail(r->err, SR_UNSUPPORTED,
                "%s: rotation scaling '%.*s' in %s; this build knows none, linear, dynamic, llama3, yarn and longrope",
                r->file->path, n > 40 ? 40 : (int)n, kind, key_of(r, type, "rope.scaling.type"));
}

static void read_rope(struct reader *r) {
    static const char *const objects[] = {"rope_scaling", "rope_parameters"};
    static const char *const kinds[SR_ROTATIONS] = {"rope_parameters.full_attention",
                                                    "rope_parameters.sliding_attention"};
    sr_hparams *h = r->h;
    char theta[96], part[96];
    /* UQFF files made of GGUF ones keep the order of their rows and say so. */
    bool adjacent = text_is(r->file, "_mistralrs_qk_rope_layout", "adjacent");
    h->rope = r->file->gguf ? r->arch->gguf_rope : adjacent ? SR_ROPE_ADJACENT : r->arch->hf_rope;
    for (int i = 0; i < 2 && !r->file->gguf; i++) {
        const char *key = key_of(r, objects[i], NULL);
        if (value_of(r, key))
            sr_fail(r->err, SR_CORRUPT, "%s: %s: found a plain value, expected an object", r->file->path, key);
    }
    for (int i = 0; i < SR_ROTATIONS; i++) {
        sr_rotation *t = &h->rotation[i];
        snprintf(theta, sizeof theta, "%s.rope_theta", kinds[i]);
        bool nested = value_of(r, key_of(r, theta, NULL)) != NULL;
        if (i > 0 && !nested && !r->arch->local_rope) break;
        h->n_rotation = i + 1;
        *t = (sr_rotation){.theta = i ? h->rotation[0].theta : 10000,
                           .factor = 1,
                           .low = 1,
                           .high = 4,
                           .beta_fast = 32,
                           .beta_slow = 1,
                           .truncate = true,
                           .mscale = {1, 1},
                           .orig_ctx = h->n_ctx_train};
        const char *object = nested                                                      ? kinds[i]
                             : value_of(r, key_of(r, "rope_parameters.rope_type", NULL)) ? "rope_parameters"
                                                                                         : "rope_scaling";
        if (i == 0) {
            read_float(r, "rope_theta", "rope.freq_base", 1, 1e12, &t->theta);
            read_float(r, "rope_parameters.rope_theta", NULL, 1, 1e12, &t->theta);
            snprintf(part, sizeof part, "%s.partial_rotary_factor", object);
            float share = 1;
            read_float(r, "partial_rotary_factor", NULL, 1e-3, 1, &share);
            if (!r->file->gguf) read_float(r, part, NULL, 1e-3, 1, &share);
            if (!r->file->gguf && !r->arch->latent) h->n_rot = (int32_t)((float)h->head_dim * share);
        } else
            read_float(r, "rope_local_base_freq", "rope.freq_base_swa", 1, 1e12, &t->theta);
        read_float(r, theta, NULL, 1, 1e12, &t->theta);
        if (i == 0 || nested) read_scaling(r, object, t); /* else the sliding layers' is plain */
        if (i > 0 && (t->scaling == SR_SCALE_DYNAMIC || t->scaling == SR_SCALE_LONGROPE))
            sr_fail(r->err, SR_UNSUPPORTED,
                    "%s: %s: its kind is one that changes with the length of the text, which "
                    "only full layers may have",
                    r->file->path, object);
    }
    read_float(r, "rope_parameters.llama_4_scaling_beta", "attention.temperature_scale", 0, 1e3, &h->stretch);
    h->stretch_every = h->rotation[0].orig_ctx;
}

/* ------------------------------------------------------------------ layers */

/* Which layers slide: the config's list by name, GGUF's list of flags or its period, else the family's period. */
static void read_windows(struct reader *r) {
    sr_hparams *h = r->h;
    bool slides[MAX_LAYERS] = {false}, on = true, flag;
    int64_t window = 0;
    int32_t period = r->arch->window_period;
    const char *key = key_of(r, "sliding_window", "attention.sliding_window"), *text;
    size_t n;
    if (!r->arch->window)
        window = 0;
    else if (!value_of(r, key)) {
        const double *absent = default_of(r, "sliding_window", "attention.sliding_window");
        window = absent ? (int64_t)*absent : 0;
    } else
        sr_value_int(r->file, key, 0, INT64_MAX, &window, r->err);
    if (window > INT32_MAX) window = 0; /* longer than any context: none */
    key = key_of(r, "use_sliding_window", NULL);
    if (r->arch->window && value_of(r, key) && sr_value_bool(r->file, key, &on, r->err) && !on) window = 0;

    key = key_of(r, "sliding_window_pattern", "attention.sliding_window_pattern");
    const sr_value *pattern = value_of(r, key), *types = value_of(r, key_of(r, "layer_types", NULL));
    if (pattern && pattern->kind != SR_KIND_ARRAY && r->arch->window) {
        int64_t p = 0;
        if (sr_value_int(r->file, key, 0, MAX_LAYERS, &p, r->err)) period = (int32_t)p;
    }
    for (int i = 0; i < h->n_layer; i++) slides[i] = period == 0 || i % period < period - 1;
    sr_array a = sr_array_over(pattern);
    for (int i = 0; i < h->n_layer && sr_array_bool(&a, &flag); i++) slides[i] = flag;
    a = sr_array_over(types);
    for (int i = 0; i < h->n_layer && sr_array_string(&a, &text, &n); i++) {
        slides[i] = is_text(text, n, "sliding_attention");
        if ((slides[i] && r->arch->window) || is_text(text, n, "full_attention")) continue;
        sr_fail(r->err, SR_UNSUPPORTED, "%s: layer_types: found '%.*s' at %d, which is no part of %s here",
                r->file->path, n > 40 ? 40 : (int)n, text, i, r->arch->name);
    }
    for (int i = 0; i < h->n_layer; i++) {
        sr_layer_kind *kind = &h->kind[i];
        kind->window = slides[i] ? (int32_t)window : 0;
        kind->rope = slides[i] && window > 0 ? (int8_t)(h->n_rotation - 1) : 0;
    }
}

/* Layers that do not rotate: the config's list (1: rotates), else its period, else the family's. */
static void read_nope(struct reader *r) {
    sr_hparams *h = r->h;
    int32_t every = r->arch->nope_every;
    int64_t rotates;
    if (!every) return;
    read_int(r, "no_rope_layer_interval", NULL, 1, MAX_LAYERS, &every, false);
    sr_array a = sr_array_over(value_of(r, key_of(r, "no_rope_layers", NULL)));
    for (int i = 0; i < h->n_layer; i++) {
        bool listed = sr_array_int(&a, &rotates);
        if (listed ? rotates == 0 : (i + 1) % every == 0) h->kind[i].rope = -1;
    }
}

static void read_layers(struct reader *r) {
    sr_hparams *h = r->h;
    const size_t n = (size_t)h->n_layer;
    int32_t *heads = sr_arena_alloc(r->arena, 3 * n, sizeof *heads), *kv_heads = heads + n, *ff = kv_heads + n;
    h->kind = sr_arena_alloc(r->arena, n, sizeof *h->kind);
    if (!heads || !h->kind) {
        sr_fail(r->err, SR_NOMEM, "no memory for %d layers", h->n_layer);
        return;
    }
    read_by_layer(r, "num_attention_heads", "attention.head_count", 1, MAX_HEADS, heads, true);
    memcpy(kv_heads, heads, n * sizeof *heads);
    read_by_layer(r, "num_key_value_heads", "attention.head_count_kv", 1, MAX_HEADS, kv_heads, false);
    read_by_layer(r, "intermediate_size", "feed_forward_length", 1, MAX_WIDTH, ff, true);
    for (int i = 0; i < h->n_layer && r->err->code == SR_OK; i++) {
        h->kind[i] = (sr_layer_kind){.n_head = heads[i], .n_kv_head = kv_heads[i], .d_ff = ff[i]};
        if (heads[i] > h->n_head) h->n_head = heads[i];
        if (kv_heads[i] > h->n_kv_head) h->n_kv_head = kv_heads[i];
        if (ff[i] > h->d_ff) h->d_ff = ff[i];
        if (heads[i] % kv_heads[i])
            sr_fail(r->err, SR_CORRUPT, "%s: %s: found %d key-value heads, expected %d heads to be a multiple of them",
                    r->file->path, key_of(r, "num_key_value_heads", "attention.head_count_kv"), kv_heads[i], heads[i]);
    }
}

/* Which layers are mixtures: the first ones may be dense, and where a config says so all but each n-th, and some by
 * number. */
static void read_sparse_layers(struct reader *r) {
    sr_hparams *h = r->h;
    int32_t dense = 0, every = 1, freq = 1;
    const char *text;
    size_t n;
    int64_t i;
    read_int(r, "first_k_dense_replace", "leading_dense_block_count", 0, MAX_LAYERS, &dense, false);
    read_int(r, "decoder_sparse_step", NULL, 1, MAX_LAYERS, &every, false);
    read_int(r, "moe_layer_freq", NULL, 1, MAX_LAYERS, &freq, false);
    for (i = 0; i < h->n_layer; i++) h->kind[i].sparse = i >= dense && (i + 1) % every == 0 && i % freq == 0;
    sr_array a = sr_array_over(value_of(r, key_of(r, "mlp_layer_types", NULL)));
    for (i = 0; i < h->n_layer && sr_array_string(&a, &text, &n); i++) h->kind[i].sparse = is_text(text, n, "sparse");
    a = sr_array_over(value_of(r, key_of(r, "mlp_only_layers", NULL)));
    while (sr_array_int(&a, &i))
        if (i >= 0 && i < h->n_layer) h->kind[i].sparse = false;
}

/* A required integer that some configs give for each layer, and that this build wants to be the same for all. */
static void read_same(struct reader *r, const char *hf, const char *gguf, int64_t lo, int64_t hi, int32_t *out) {
    int32_t by_layer[MAX_LAYERS] = {0};
    read_by_layer(r, hf, gguf, lo, hi, by_layer, true);
    *out = by_layer[0];
    for (int i = 1; i < r->h->n_layer && r->err->code == SR_OK; i++)
        if (by_layer[i] != *out)
            sr_fail(r->err, SR_UNSUPPORTED,
                    "%s: %s: found %d at layer %d and %d at the first, this build wants one number", r->file->path,
                    key_of(r, hf, gguf), by_layer[i], i, *out);
}

/* How experts are chosen, of the families whose files say. */
static void read_gate(struct reader *r, sr_gating *g) {
    static const char *const kinds[] = {"softmax", "sigmoid"};
    const char *key = key_of(r, "scoring_func", NULL), *text;
    size_t n;
    int32_t kind = 0;
    if (g->kind != SR_GATE_SOFTMAX && g->kind != SR_GATE_SIGMOID) return;
    if (value_of(r, key) && sr_value_string(r->file, key, &text, &n, r->err))
        for (int i = 0; i < 2; i++)
            if (is_text(text, n, kinds[i])) kind = i + 1;
    read_int(r, NULL, "expert_gating_func", 0, 2, &kind, false);
    if (kind) g->kind = kind == 2 ? SR_GATE_SIGMOID : SR_GATE_SOFTMAX;
    key = key_of(r, "topk_method", NULL);
    if (value_of(r, key) && sr_value_string(r->file, key, &text, &n, r->err) && is_text(text, n, "greedy"))
        g->groups_used = g->groups;
}

static void read_experts(struct reader *r) {
    static const char group_key[] = "n_group", groups_used_key[] = "topk_group";
    const char *used_key = r->arch->experts_used ? r->arch->experts_used : "num_experts_per_tok";
    sr_hparams *h = r->h;
    sr_gating *g = &h->gating;
    const sr_arch *arch = r->arch;
    int32_t n_shared = 0;
    if (!arch->experts) return;
    *g = (sr_gating){.kind = arch->gate, .groups = 1, .groups_used = 1, .scale = 1};
    const char *n_key = arch->experts;
    if (!value_of(r, key_of(r, n_key, NULL)) && value_of(r, key_of(r, "num_local_experts", NULL)))
        n_key = "num_local_experts"; /* as transformers 5 writes all of them */
    read_int(r, n_key, "expert_count", 1, SR_MOST_EXPERTS, &g->n, true);
    read_same(r, used_key, "expert_used_count", 1, SR_MOST_EXPERTS, &g->used);
    read_int(r, group_key, "expert_group_count", 1, SR_MOST_EXPERTS, &g->groups, false);
    read_int(r, groups_used_key, "expert_group_used_count", 1, SR_MOST_EXPERTS, &g->groups_used, false);
    read_gate(r, g);
    g->eps = g->kind == SR_GATE_SIGMOID ? 1e-20f : 0;
    read_bool(r, "norm_topk_prob", "expert_weights_norm", &g->norm);
    read_float(r, "routed_scaling_factor", "expert_weights_scale", 0, 1e6, &g->scale);
    if (g->scale == 0) g->scale = 1;
    read_float(r, "router_jitter_noise", NULL, 0, 1, &g->jitter);
    h->d_expert = h->kind[0].d_ff;
    read_int(r, "moe_intermediate_size", "expert_feed_forward_length", 1, MAX_WIDTH, &h->d_expert, false);
    if (arch->shared) {
        read_int(r, "n_shared_experts", "expert_shared_count", 0, 1024, &n_shared, false);
        read_int(r, "shared_intermediate_size", NULL, 0, MAX_WIDTH, &h->d_shared, false);
        read_int(r, "shared_expert_intermediate_size", "expert_shared_feed_forward_length", 0, MAX_WIDTH, &h->d_shared,
                 false);
        if (h->d_shared == 0 && (int64_t)n_shared * h->d_expert <= MAX_WIDTH) h->d_shared = n_shared * h->d_expert;
    }
    read_sparse_layers(r);
    if (r->err->code != SR_OK) return;
    if (g->used > g->n)
        sr_fail(r->err, SR_CORRUPT, "%s: %s: found %d experts a token, expected at most the %d that there are",
                r->file->path, key_of(r, used_key, "expert_used_count"), g->used, g->n);
    else if (g->n % g->groups)
        sr_fail(r->err, SR_CORRUPT, "%s: %s: found %d groups, expected a number that divides %d experts", r->file->path,
                key_of(r, group_key, "expert_group_count"), g->groups, g->n);
    else if (g->groups_used > g->groups || g->groups_used * (g->n / g->groups) < g->used)
        sr_fail(r->err, SR_CORRUPT, "%s: %s: found %d of %d groups, expected as many as %d experts a token fill",
                r->file->path, key_of(r, groups_used_key, "expert_group_used_count"), g->groups_used, g->groups,
                g->used);
}

/* Biases that a config says there are; GGUF does not say. */
static void read_bias(struct reader *r) {
    static const struct {
        const char *key;
        uint8_t bias;
    } keys[] = {{"attention_bias", SR_BIAS_QKV}, {"mlp_bias", SR_BIAS_MLP}};
    r->h->bias = r->arch->bias;
    for (int i = 0; i < 2; i++) {
        const char *key = key_of(r, keys[i].key, NULL);
        bool on = false;
        if (value_of(r, key) && sr_value_bool(r->file, key, &on, r->err) && on) r->h->bias |= keys[i].bias;
    }
}

static void read_act(struct reader *r) {
    static const struct {
        const char *name;
        sr_act_kind act;
    } acts[] = {
        {"silu", SR_ACT_SILU},          {"swish", SR_ACT_SILU},          {"gelu_pytorch_tanh", SR_ACT_GELU_TANH},
        {"gelu_new", SR_ACT_GELU_TANH}, {"gelu_fast", SR_ACT_GELU_TANH}, {"relu2", SR_ACT_RELU2},
    };
    static const char *const keys[] = {"hidden_act", "hidden_activation"};
    r->h->act = r->arch->act;
    for (int k = 0; k < 2; k++) {
        const char *key = key_of(r, keys[k], NULL), *text;
        size_t n, i = 0;
        if (!value_of(r, key) || !sr_value_string(r->file, key, &text, &n, r->err)) continue;
        while (i < sizeof acts / sizeof *acts && !is_text(text, n, acts[i].name)) i++;
        if (i < sizeof acts / sizeof *acts)
            r->h->act = acts[i].act;
        else if (!is_text(text, n, "gelu") ||
                 r->arch->act != SR_ACT_GELU_TANH) /* Gemma's first configs: the tanh one */
            sr_fail(r->err, SR_UNSUPPORTED, "%s: %s: found '%.*s', this build knows silu, gelu_pytorch_tanh and relu2",
                    r->file->path, key, n > 40 ? 40 : (int)n, text);
    }
}

/* Heads whose keys and values are alike. */
static void read_heads(struct reader *r) {
    sr_hparams *h = r->h;
    int32_t hd_v;
    h->head_dim = h->d_model / h->kind[0].n_head;
    read_int(r, "head_dim", "attention.key_length", 2, 4096, &h->head_dim, false);
    hd_v = h->head_dim;
    read_int(r, NULL, "attention.value_length", 2, 4096, &hd_v, false);
    h->n_rot = h->head_dim;
    read_int(r, NULL, "rope.dimension_count", 2, 4096, &h->n_rot, false);
    read_rope(r);
    if (r->err->code != SR_OK) return;
    const char *dim = key_of(r, "head_dim", "attention.key_length");
    if (h->head_dim < 2 || h->head_dim % 2)
        sr_fail(r->err, SR_CORRUPT, "%s: %s: found heads of %d, expected an even number", r->file->path, dim,
                h->head_dim);
    if (h->n_rot % 2 || h->n_rot < 2 || h->n_rot > h->head_dim)
        sr_fail(r->err, SR_CORRUPT, "%s: %s: found %d features that rotate, expected an even number from 2 to %d",
                r->file->path, key_of(r, "partial_rotary_factor", "rope.dimension_count"), h->n_rot, h->head_dim);
    if (hd_v != h->head_dim)
        sr_fail(r->err, SR_UNSUPPORTED, "%s: %s: found %d, but %s.attention.value_length is %d; %s has them equal",
                r->file->path, dim, h->head_dim, r->arch->gguf_name, hd_v, r->arch->name);
    if ((int64_t)h->n_head * h->head_dim > MAX_WIDTH)
        sr_fail(r->err, SR_CORRUPT, "%s: %s: found %d heads of %d features, expected a width of at most %d",
                r->file->path, dim, h->n_head, h->head_dim, MAX_WIDTH);
}

/* ------------------------------------------------------------------ latent attention */

static void read_latent(struct reader *r) {
    static const char rope_key[] = "qk_rope_head_dim";
    enum { MOST = 4096 };
    sr_hparams *h = r->h;
    sr_latent *l = &h->latent;
    bool turned = true;
    int32_t head = 0;
    read_int(r, "kv_lora_rank", "attention.kv_lora_rank", 1, MOST, &l->rank, true);
    read_int(r, "q_lora_rank", "attention.q_lora_rank", 0, MAX_WIDTH, &l->q_rank, false);
    read_int(r, rope_key, "rope.dimension_count", 2, MOST, &h->n_rot, true);
    read_int(r, "qk_nope_head_dim", NULL, 1, MOST, &l->d_nope, !r->file->gguf);
    read_int(r, "v_head_dim", "attention.value_length", 1, MOST, &l->d_v, true);
    read_int(r, NULL, "attention.key_length", 1, 2 * MOST, &head, r->file->gguf);
    read_int(r, NULL, "attention.key_length_mla", 1, 2 * MOST, &head, false); /* else those of plain attention */
    read_int(r, NULL, "attention.value_length_mla", 1, MOST, &l->d_v, false);
    if (r->file->gguf) l->d_nope = head - h->n_rot;
    if (r->err->code != SR_OK) return;
    if (l->d_nope < 1 || h->n_rot % 2)
        sr_fail(r->err, SR_CORRUPT,
                "%s: %s: found %d features that rotate, expected an even number, fewer than a head's %d", r->file->path,
                key_of(r, rope_key, "rope.dimension_count"), h->n_rot, l->d_nope + h->n_rot);
    else if ((int64_t)h->n_head * (l->rank + h->n_rot) > MAX_WIDTH ||
             (int64_t)h->n_head * (l->d_nope + l->d_v) > MAX_WIDTH)
        sr_fail(r->err, SR_CORRUPT, "%s: %s: found %d heads over %d latent features, expected a width of at most %d",
                r->file->path, key_of(r, "kv_lora_rank", "attention.kv_lora_rank"), h->n_head, l->rank, MAX_WIDTH);
    h->head_dim = l->d_nope + h->n_rot;
    l->mscale = 1;
    for (int i = 0; i < h->n_layer; i++) h->kind[i].n_kv_head = 1;
    h->n_kv_head = 1;
    read_rope(r);
    const char *key = key_of(r, "rope_interleave", NULL);
    if (value_of(r, key) && sr_value_bool(r->file, key, &turned, r->err) && !turned) h->rope = SR_ROPE_HALVES;
    if (h->rotation[0].scaling == SR_SCALE_LONGROPE || h->rotation[0].scaling == SR_SCALE_DYNAMIC)
        sr_fail(r->err, SR_UNSUPPORTED, "%s: a rotation that changes with the length of the text is no part of %s here",
                r->file->path, r->arch->name);
}

/* ------------------------------------------------------------------ all of it */

static void read_all(struct reader *r) {
    sr_hparams *h = r->h;
    const sr_arch *arch = r->arch;
    int32_t ahead = 0;
    float scalar = 0;
    read_int(r, "num_hidden_layers", "block_count", 1, MAX_LAYERS, &h->n_layer, true);
    read_int(r, NULL, "nextn_predict_layers", 0, MAX_LAYERS, &ahead, false);
    if (ahead > 0 && ahead >= h->n_layer)
        sr_fail(r->err, SR_CORRUPT, "%s: %s: found %d, expected fewer than the %d layers", r->file->path,
                key_of(r, NULL, "nextn_predict_layers"), ahead, h->n_layer);
    h->n_layer -= ahead; /* they predict further tokens, behind the last layer */
    read_int(r, "hidden_size", "embedding_length", 1, MAX_WIDTH, &h->d_model, true);
    if (r->err->code != SR_OK) return;
    read_layers(r);
    read_int(r, "max_position_embeddings", "context_length", 1, INT32_MAX, &h->n_ctx_train, true);
    read_int(r, "vocab_size", "vocab_size", 1, MAX_VOCAB, &h->n_vocab, false);
    const char *hf_eps = arch->hf_eps ? arch->hf_eps : "rms_norm_eps";
    const char *gguf_eps = arch->hf_eps ? "attention.layer_norm_epsilon" : "attention.layer_norm_rms_epsilon";
    if (!default_of(r, hf_eps, gguf_eps)) require(r, key_of(r, hf_eps, gguf_eps));
    read_float(r, hf_eps, gguf_eps, 1e-12, 0.1, &h->eps);
    read_act(r);
    read_bias(r);
    read_experts(r);
    if (r->err->code != SR_OK) return;

    (arch->latent ? read_latent : read_heads)(r);
    read_windows(r);
    read_nope(r);
    if (r->err->code != SR_OK) return;

    h->attn_scale = 1.0f / sqrtf((float)h->head_dim);
    read_float(r, "query_pre_attn_scalar", NULL, 1e-6, 1e6, &scalar);
    if (scalar > 0) h->attn_scale = 1.0f / sqrtf(scalar);
    if (arch->latent) h->attn_scale *= h->latent.mscale * h->latent.mscale;
    read_float(r, "attention_multiplier", "attention.scale", 1e-6, 1e6, &h->attn_scale);
    h->embed_scale = arch->embed_sqrt ? sqrtf((float)h->d_model) : 1;
    read_float(r, "embedding_multiplier", "embedding_scale", 1e-6, 1e6, &h->embed_scale);
    h->residual_scale = 1;
    read_float(r, "residual_multiplier", "residual_scale", 1e-6, 1e6, &h->residual_scale);
    scalar = 1; /* the key is what logits are divided by */
    read_float(r, "logits_scaling", "logit_scale", 1e-6, 1e6, &scalar);
    h->logit_scale = 1 / scalar;
    read_float(r, "attn_logit_softcapping", "attn_logit_softcapping", 0, 1e6, &h->attn_cap);
    read_float(r, "final_logit_softcapping", "final_logit_softcapping", 0, 1e6, &h->logit_cap);
    const char *why = arch->check ? arch->check(r->file, h) : NULL;
    if (why) sr_fail(r->err, SR_UNSUPPORTED, "%s: this %s model can't run: %s", r->file->path, arch->name, why);
}

sr_status sr_arch_read(const sr_file *file, const sr_arch *arch, sr_arena *arena, sr_hparams *h, sr_err *err) {
    sr_err own = {0};
    struct reader r = {
        .file = file, .arch = arch, .nest = sr_config_prefix(file), .arena = arena, .h = h, .err = err ? err : &own};
    memset(h, 0, sizeof *h);
    refuse(&r, never);
    refuse(&r, arch->rejects);
    if (r.err->code == SR_OK) read_all(&r);
    if (r.err->code == SR_OK) h->tied = sr_arch_tied(file, arch, r.err);
    return r.err->code;
}

/* ------------------------------------------------------------------ which family */

static bool matches(const sr_file *file, const sr_arch *arch) {
    char key[KEY];
    if (file->gguf) {
        if (!text_is(file, "general.architecture", arch->gguf_name)) return false;
        snprintf(key, sizeof key, "%s.%s", arch->gguf_name, arch->gguf_key ? arch->gguf_key : "");
        return !arch->gguf_key || is_set(sr_file_value(file, key));
    }
    for (const char *const *hf = arch->hf; *hf; hf++)
        if (sr_file_value(file, "architectures") ? first_text_is(file, "architectures", *hf)
                                                 : text_is(file, "model_type", *hf))
            return true;
    return false;
}

/* The first of some names, and how many there are. */
struct unplaced {
    const char *first;
    int n;
};
static void add_unplaced(struct unplaced *u, const char *name) {
    if (!u->n++) u->first = name;
}
static void say_unplaced(const struct unplaced *u, const char *what, char *out, size_t cap) {
    size_t at = strlen(out);
    if (u->n == 0) return;
    snprintf(out + at, cap - at, "%s the %s %.40s", at ? ", " : "; no place for", what, u->first);
    at = strlen(out);
    if (u->n > 1) snprintf(out + at, cap - at, " and %d more", u->n - 1);
}

/* The keys and tensors that make it a family of its own: what is left when it is read as if it were one of ours. */
static void list_unplaced(const sr_file *file, const char *name, size_t n_name, char *out, size_t cap) {
    static const char *const no_shape[] = {"architectures",
                                           "model_type",
                                           "auto_map",
                                           "dropout",
                                           "initializer_range",
                                           "use_cache",
                                           "dtype",
                                           "transformers_version",
                                           "token_id",
                                           "vocab_size",
                                           "attention_bias",
                                           "mlp_bias",
                                           "tie_word_embeddings",
                                           "bos",
                                           "eos",
                                           NULL};
    char own[64];
    snprintf(own, sizeof own, "%.*s", n_name > 60 ? 60 : (int)n_name, name);
    static const char *const no_names[] = {NULL};
    const sr_arch any = {.name = own, .gguf_name = own, .hf = no_names, .window = true, .nope_every = 1};
    sr_hparams h = {0};
    sr_err err = {0};
    sr_arena arena = {0};
    struct unplaced keys = {0}, tensors = {0};
    bool *asked = sr_arena_alloc(&arena, (size_t)file->n_values + 1, sizeof *asked);
    if (!asked) return;
    struct reader r = {.file = file,
                       .arch = &any,
                       .nest = sr_config_prefix(file),
                       .arena = &arena,
                       .h = &h,
                       .asked = asked,
                       .err = &err};
    refuse(&r, never);
    err = (sr_err){0};
    read_all(&r);
    size_t n = strlen(own);
    for (int i = 0; i < file->n_values; i++) {
        const char *key = file->value[i].key;
        if (asked[i]) continue;
        if (file->gguf) {
            if (strncmp(key, own, n) == 0 && key[n] == '.') add_unplaced(&keys, key);
        } else if (!strchr(key, '.')) {
            const char *const *s = no_shape;
            while (*s && !strstr(key, *s)) s++;
            if (!*s) add_unplaced(&keys, key);
        }
    }
    for (int i = 0; i < file->n_parts; i++)
        if (!sr_name_known(file->gguf, file->part[i].name)) add_unplaced(&tensors, file->part[i].name);
    say_unplaced(&keys, "key", out, cap);
    say_unplaced(&tensors, "tensor", out, cap);
    sr_arena_free(&arena);
}

sr_status sr_arch_find(const sr_file *file, const sr_arch **arch, sr_err *err) {
    for (int i = 0; sr_archs[i]; i++)
        if (matches(file, sr_archs[i])) {
            *arch = sr_archs[i];
            return SR_OK;
        }
    const char *key = file->gguf                             ? "general.architecture"
                      : sr_file_value(file, "architectures") ? "architectures"
                                                             : "model_type";
    const sr_value *v = sr_file_value(file, key);
    const char *text = "";
    char rest[256] = "";
    size_t n = 0;
    sr_array a = sr_array_over(v);
    if (v && v->kind == SR_KIND_STRING)
        sr_value_string(file, key, &text, &n, NULL);
    else if (!sr_array_string(&a, &text, &n))
        return sr_fail(err, SR_CORRUPT, "%s: no architecture: expected the key %s", file->path, key);
    list_unplaced(file, text, n, rest, sizeof rest);
    return sr_fail(err, SR_UNSUPPORTED, "%s: unknown architecture '%.*s' in %s (docs/models.md lists what runs)%s",
                   file->path, n > 40 ? 40 : (int)n, text, key, rest);
}
