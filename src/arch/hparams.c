/* From metadata to sr_hparams: one table of keys for both containers, every number checked once. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "arch/arch.h"

enum { MAX_LAYERS = 1024, MAX_WIDTH = 1 << 20, MAX_VOCAB = 1 << 24 };

/* "hf key" for a directory, "<arch>.gguf key" for GGUF. NULL when the container has no such key. */
static const char *key_of(const sr_file *file, const sr_arch *arch, const char *hf, const char *gguf, char *buf,
                          size_t cap) {
    if (!file->gguf) return hf;
    if (!gguf) return NULL;
    snprintf(buf, cap, "%s.%s", arch->gguf_name, gguf);
    return buf;
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

static bool matches(const sr_file *file, const sr_arch *arch) {
    char buf[160];
    if (file->gguf) {
        if (!text_is(file, "general.architecture", arch->gguf_name)) return false;
        return !arch->gguf_key || sr_file_value(file, key_of(file, arch, NULL, arch->gguf_key, buf, sizeof buf));
    }
    if (sr_file_value(file, "architectures")) return first_text_is(file, "architectures", arch->hf_class);
    return text_is(file, "model_type", arch->hf_type);
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
    size_t n = 0;
    sr_array a = sr_array_over(v);
    if (v && v->kind == SR_KIND_STRING)
        sr_value_string(file, key, &text, &n, NULL);
    else if (!sr_array_string(&a, &text, &n))
        return sr_fail(err, SR_CORRUPT, "%s: no architecture: expected the key %s", file->path, key);
    char list[128] = "";
    for (int i = 0; sr_archs[i]; i++) {
        size_t at = strlen(list);
        snprintf(list + at, sizeof list - at, "%s%s", i ? ", " : "", sr_archs[i]->name);
    }
    return sr_fail(err, SR_UNSUPPORTED, "%s: unknown architecture '%.*s' in %s; this build runs %s", file->path,
                   n > 60 ? 60 : (int)n, text, key, list);
}

static void require(const sr_file *file, const sr_arch *arch, const char *key, sr_err *err) {
    if (!sr_file_value(file, key))
        sr_fail(err, SR_CORRUPT, "%s: the key %s is missing (%s needs it)", file->path, key, arch->name);
}

/* An integer that may also be a per-layer array of equal entries. Absent: *out keeps its default. */
static void read_int(const sr_file *file, const sr_arch *arch, const char *hf, const char *gguf, int64_t lo, int64_t hi,
                     int32_t *out, bool required, sr_err *err) {
    char buf[160];
    const char *key = key_of(file, arch, hf, gguf, buf, sizeof buf);
    const sr_value *v = key ? sr_file_value(file, key) : NULL;
    int64_t x = 0;
    if (!v) {
        if (required) require(file, arch, key, err);
        return;
    }
    if (v->kind == SR_KIND_ARRAY) {
        sr_array a = sr_array_over(v);
        uint64_t n = v->v.a.n;
        for (uint64_t i = 0; i < n || n == 0; i++) {
            int64_t e;
            if (!sr_array_int(&a, &e)) {
                sr_fail(err, SR_CORRUPT, "%s: %s: found %s, expected an integer or an array of them", file->path, key,
                        n ? "an element that is none" : "an empty array");
                return;
            }
            if (i > 0 && e != x) {
                sr_fail(err, SR_UNSUPPORTED, "%s: %s differs between layers (found %lld and %lld), expected one value",
                        file->path, key, (long long)x, (long long)e);
                return;
            }
            x = e;
        }
        if (x < lo || x > hi) {
            sr_fail(err, SR_CORRUPT, "%s: %s: found %lld, expected %lld to %lld", file->path, key, (long long)x,
                    (long long)lo, (long long)hi);
            return;
        }
    } else if (!sr_value_int(file, key, lo, hi, &x, err))
        return;
    *out = (int32_t)x;
}

static void read_float(const sr_file *file, const sr_arch *arch, const char *hf, const char *gguf, double lo, double hi,
                       float *out, sr_err *err) {
    char buf[160];
    const char *key = key_of(file, arch, hf, gguf, buf, sizeof buf);
    double x;
    if (!key || !sr_file_value(file, key) || !sr_value_float(file, key, &x, err)) return;
    if (!(x >= lo && x <= hi)) {
        sr_fail(err, SR_CORRUPT, "%s: %s: found %g, expected %g to %g", file->path, key, x, lo, hi);
        return;
    }
    *out = (float)x;
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

static void read_rope(const sr_file *file, const sr_arch *arch, sr_hparams *h, sr_err *err) {
    char buf[160];
    const char *kind = "none";
    size_t n = 4;
    /* UQFF files made of GGUF ones keep the order of their rows and say so. */
    bool adjacent = text_is(file, "_mistralrs_qk_rope_layout", "adjacent");
    h->rope = file->gguf ? arch->gguf_rope : adjacent ? SR_ROPE_ADJACENT : SR_ROPE_HALVES;
    h->rope_theta = 10000;
    read_float(file, arch, "rope_theta", "rope.freq_base", 1, 1e12, &h->rope_theta, err);
    read_float(file, arch, "rope_parameters.rope_theta", NULL, 1, 1e12, &h->rope_theta, err);
    h->rope_factor = 1;
    h->rope_low = 1;
    h->rope_high = 4;
    h->rope_orig_ctx = h->n_ctx_train;
    h->scaling = SR_SCALE_NONE;
    const char *prefix =
        !file->gguf && sr_file_value(file, "rope_parameters.rope_type") ? "rope_parameters" : "rope_scaling";
    static const char *const objects[] = {"rope_scaling", "rope_parameters"};
    for (int i = 0; i < 2 && !file->gguf; i++)
        if (sr_file_value(file, objects[i]))
            sr_fail(err, SR_CORRUPT, "%s: %s: found a plain value, expected an object", file->path, objects[i]);
    char factor[64], low[64], high[64], orig[64], type[64];
    snprintf(factor, sizeof factor, "%s.factor", prefix);
    snprintf(low, sizeof low, "%s.low_freq_factor", prefix);
    snprintf(high, sizeof high, "%s.high_freq_factor", prefix);
    snprintf(orig, sizeof orig, "%s.original_max_position_embeddings", prefix);
    snprintf(type, sizeof type, "%s.rope_type", prefix);
    if (!file->gguf && !sr_file_value(file, type)) snprintf(type, sizeof type, "%s.type", prefix);
    const char *key = key_of(file, arch, type, "rope.scaling.type", buf, sizeof buf);
    if (sr_file_value(file, key) && !sr_value_string(file, key, &kind, &n, err)) return;
    read_float(file, arch, factor, "rope.scaling.factor", 1e-6, 1e6, &h->rope_factor, err);
    if (file->gguf && h->rope_factor == 1)
        read_float(file, arch, NULL, "rope.scale_linear", 1e-6, 1e6, &h->rope_factor, err);
    read_float(file, arch, low, NULL, 1e-6, 1e6, &h->rope_low, err);
    read_float(file, arch, high, NULL, 1e-6, 1e6, &h->rope_high, err);
    read_int(file, arch, orig, NULL, 1, INT32_MAX, &h->rope_orig_ctx, false, err);
    if ((n == 4 && memcmp(kind, "none", 4) == 0) || (n == 7 && memcmp(kind, "default", 7) == 0)) {
        if (file->gguf && h->rope_factor != 1) h->scaling = SR_SCALE_LINEAR; /* files of before the type key */
    } else if (n == 6 && memcmp(kind, "linear", 6) == 0) {
        h->scaling = SR_SCALE_LINEAR;
        if (!file->gguf) require(file, arch, factor, err);
    } else if (n == 6 && memcmp(kind, "llama3", 6) == 0) {
        h->scaling = SR_SCALE_LLAMA3;
        const char *const keys[] = {factor, low, high, orig};
        for (int i = 0; i < 4 && !file->gguf; i++) require(file, arch, keys[i], err);
        if (!(h->rope_high > h->rope_low))
            sr_fail(err, SR_CORRUPT, "%s: %s: found %g, expected more than low_freq_factor %g", file->path, high,
                    h->rope_high, h->rope_low);
    } else
        sr_fail(err, SR_UNSUPPORTED, "%s: rotation scaling '%.*s' in %s; this build knows none, linear and llama3",
                file->path, n > 40 ? 40 : (int)n, kind, key);
}

sr_status sr_arch_read(const sr_file *file, const sr_arch *arch, sr_hparams *h, sr_err *err) {
    sr_err own = {0};
    if (!err) err = &own;
    memset(h, 0, sizeof *h);
    char buf[160];
    for (const char *const *r = arch->rejects; r && *r; r++) {
        char hf[96];
        const char *bar = strchr(*r, '|');
        snprintf(hf, sizeof hf, "%.*s", (int)(bar - *r), *r);
        const char *key = key_of(file, arch, hf, bar + 1, buf, sizeof buf);
        if (is_set(sr_file_value(file, key)))
            return sr_fail(err, SR_UNSUPPORTED, "%s: %s is set: this variant of %s comes later", file->path, key,
                           arch->name);
    }
    read_int(file, arch, "num_hidden_layers", "block_count", 1, MAX_LAYERS, &h->n_layer, true, err);
    read_int(file, arch, "hidden_size", "embedding_length", 1, MAX_WIDTH, &h->d_model, true, err);
    read_int(file, arch, "num_attention_heads", "attention.head_count", 1, 4096, &h->n_head, true, err);
    h->n_kv_head = h->n_head;
    read_int(file, arch, "num_key_value_heads", "attention.head_count_kv", 1, 4096, &h->n_kv_head, false, err);
    read_int(file, arch, "intermediate_size", "feed_forward_length", 1, MAX_WIDTH, &h->d_ff, true, err);
    read_int(file, arch, "max_position_embeddings", "context_length", 1, INT32_MAX, &h->n_ctx_train, true, err);
    read_int(file, arch, "vocab_size", "vocab_size", 1, MAX_VOCAB, &h->n_vocab, false, err);
    require(file, arch, key_of(file, arch, "rms_norm_eps", "attention.layer_norm_rms_epsilon", buf, sizeof buf), err);
    read_float(file, arch, "rms_norm_eps", "attention.layer_norm_rms_epsilon", 1e-12, 0.1, &h->eps, err);
    if (err->code != SR_OK) return err->code;

    h->head_dim = h->d_model / h->n_head;
    read_int(file, arch, "head_dim", "attention.key_length", 2, 4096, &h->head_dim, false, err);
    int32_t hd_v = h->head_dim;
    read_int(file, arch, NULL, "attention.value_length", 2, 4096, &hd_v, false, err);
    h->n_rot = h->head_dim;
    read_int(file, arch, NULL, "rope.dimension_count", 2, 4096, &h->n_rot, false, err);
    float part = 1;
    read_float(file, arch, "partial_rotary_factor", NULL, 1e-3, 1, &part, err);
    if (!file->gguf) h->n_rot = (int32_t)((float)h->head_dim * part);
    if (arch->window) {
        int64_t window = 0;
        const char *key = key_of(file, arch, "sliding_window", "attention.sliding_window", buf, sizeof buf);
        if (sr_file_value(file, key)) sr_value_int(file, key, 0, INT64_MAX, &window, err);
        h->window = window > INT32_MAX ? 0 : (int32_t)window; /* longer than any context: none */
    }
    read_rope(file, arch, h, err);
    if (err->code != SR_OK) return err->code;
    if (h->n_head % h->n_kv_head)
        return sr_fail(err, SR_CORRUPT, "%s: %s: found %d key-value heads, expected %d heads to be a multiple of them",
                       file->path,
                       key_of(file, arch, "num_key_value_heads", "attention.head_count_kv", buf, sizeof buf),
                       h->n_kv_head, h->n_head);
    char dim_buf[160];
    const char *dim = key_of(file, arch, "head_dim", "attention.key_length", dim_buf, sizeof dim_buf);
    if (h->head_dim < 2 || h->head_dim % 2)
        return sr_fail(err, SR_CORRUPT, "%s: %s: found heads of %d, expected an even number", file->path, dim,
                       h->head_dim);
    if (h->n_rot % 2 || h->n_rot < 2 || h->n_rot > h->head_dim)
        return sr_fail(err, SR_CORRUPT, "%s: %s: found %d features that rotate, expected an even number from 2 to %d",
                       file->path, key_of(file, arch, "partial_rotary_factor", "rope.dimension_count", buf, sizeof buf),
                       h->n_rot, h->head_dim);
    if (hd_v != h->head_dim)
        return sr_fail(err, SR_UNSUPPORTED, "%s: %s: found %d, but %s.attention.value_length is %d; %s has them equal",
                       file->path, dim, h->head_dim, arch->gguf_name, hd_v, arch->name);
    if ((int64_t)h->n_head * h->head_dim > MAX_WIDTH)
        return sr_fail(err, SR_CORRUPT, "%s: %s: found %d heads of %d features, expected a width of at most %d",
                       file->path, dim, h->n_head, h->head_dim, MAX_WIDTH);
    h->attn_scale = 1.0f / sqrtf((float)h->head_dim);
    const char *why = arch->check ? arch->check(file, h) : NULL;
    if (why) return sr_fail(err, SR_UNSUPPORTED, "%s: this %s model can't run: %s", file->path, arch->name, why);
    return SR_OK;
}
