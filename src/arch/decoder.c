/* The shared decoder: binding a checkpoint's tensors to it, and the forward pass from token ids to logits. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "arch/arch.h"
#include "base/log.h"

/* ------------------------------------------------------------------ binding */

struct binder {
    const sr_file *file;
    sr_qconfig *config;
    const sr_arch *arch;
    sr_naming naming;
    sr_arena *arena;
    sr_weight_fn visit;
    void *user;
    bool *used; /* [n_parts] */
    sr_err *err;
};

static const sr_part *find(struct binder *b, sr_role role, int layer, const char *suffix) {
    char full[SR_NAME];
    if (!sr_name_full(&b->naming, role, layer, suffix, full)) return NULL;
    const sr_part *p = sr_file_part(b->file, full);
    if (p) b->used[p - b->file->part] = true;
    return p;
}

static bool has_matrix(const struct binder *b, sr_role role, int layer) {
    char stem[SR_NAME];
    sr_parts parts;
    return sr_name_full(&b->naming, role, layer, "", stem) && sr_weight_parts(b->file, stem, &parts) && parts.n > 0;
}

/* A vector of n numbers as f32 in the arena. Absent: NULL, an error only when required. */
static float *vector(struct binder *b, sr_role role, int layer, const char *suffix, int64_t n, bool required) {
    const sr_part *p = find(b, role, layer, suffix);
    if (!p) {
        char full[SR_NAME] = "";
        if (required && sr_name_full(&b->naming, role, layer, suffix, full))
            sr_fail(b->err, SR_CORRUPT, "%s: the tensor %s is missing (%s needs it)", b->file->path, full,
                    b->arch->name);
        return NULL;
    }
    const sr_format *fmt = sr_format_by_name(p->type->name);
    if (!fmt || fmt->block != 1) {
        sr_fail(b->err, SR_UNSUPPORTED, "%s: tensor %s: found type %s, expected f32, f16 or bf16", b->file->path,
                p->name, p->type->name);
        return NULL;
    }
    if (p->n_elements != n) {
        sr_fail(b->err, SR_CORRUPT, "%s: tensor %s: found %lld elements, expected %lld", b->file->path, p->name,
                (long long)p->n_elements, (long long)n);
        return NULL;
    }
    float *out = sr_arena_alloc(b->arena, (size_t)n, sizeof *out);
    if (!out) {
        sr_fail(b->err, SR_NOMEM, "no memory for tensor %s", p->name);
        return NULL;
    }
    sr_weight w = {.fmt = fmt, .N = 1, .K = n};
    w.plane[0].data = (uint8_t *)(uintptr_t)p->data;
    w.plane[0].stride = w.plane[0].bytes = p->bytes;
    fmt->decode(&w, 0, 0, n, out);
    for (int64_t i = 0; i < n; i++)
        if (!isfinite(out[i])) {
            sr_fail(b->err, SR_CORRUPT, "%s: tensor %s: found %g at %lld, expected finite numbers", b->file->path,
                    p->name, (double)out[i], (long long)i);
            return NULL;
        }
    return out;
}

static void norm(struct binder *b, sr_role role, int layer, int64_t n, sr_norm *norm) {
    float *w = vector(b, role, layer, ".weight", n, true);
    for (int64_t i = 0; w && b->arch->norm_plus1 && !b->file->gguf && i < n; i++) w[i] += 1;
    norm->weight = w;
    if (b->arch->norm == SR_NORM_LAYER) norm->bias = vector(b, role, layer, ".bias", n, true);
}

static void matrix(struct binder *b, sr_role role, int layer, int64_t n, int64_t k, bool bias_required, sr_weight *w) {
    char stem[SR_NAME];
    if (b->err->code != SR_OK) return;
    sr_name_full(&b->naming, role, layer, "", stem);
    if (sr_weight_bind(b->file, b->config, stem, n, k, b->arena, w, b->err) != SR_OK) return;
    sr_parts parts;
    sr_weight_parts(b->file, stem, &parts);
    for (int i = 0; i < parts.n; i++) b->used[parts.item[i].part - b->file->part] = true;
    w->bias = vector(b, role, layer, ".bias", w->N, bias_required);
    if (b->err->code == SR_OK && b->visit) b->visit(b->user, stem, layer < 0, w, b->err);
}

/* Whether a group of matrices is stored as one, or matrix by matrix, of which `first` has n rows. A GGUF file calls the
 * fused gate and up as it calls up alone: that one has no more than n rows. */
static bool is_fused(struct binder *b, sr_role fused, sr_role first, int64_t n, int layer) {
    char one[SR_NAME], other[SR_NAME];
    sr_parts parts;
    if (has_matrix(b, first, layer)) return false;
    sr_name_full(&b->naming, first, layer, "", one);
    sr_name_full(&b->naming, fused, layer, "", other);
    if (sr_weight_parts(b->file, other, &parts) && parts.n > 0)
        return !b->file->gguf || parts.item[0].part->shape[0] != n;
    sr_fail(b->err, SR_CORRUPT, "%s: '%s.weight' is missing, and so is '%s.weight', which could take its place",
            b->file->path, one, other);
    return false;
}

static void bind_layer(struct binder *b, const sr_hparams *h, int i, sr_layer *l) {
    const sr_layer_kind *kind = &h->kind[i];
    const sr_arch *arch = b->arch;
    const int64_t q = (int64_t)kind->n_head * h->head_dim, kv = (int64_t)kind->n_kv_head * h->head_dim;
    const int64_t d = h->d_model, ff = kind->d_ff;
    bool bias = h->bias & SR_BIAS_QKV;
    norm(b, SR_ATTN_NORM, i, d, &l->attn_norm);
    l->n_qkv = is_fused(b, SR_QKV, SR_Q, q, i) ? 1 : 3;
    if (l->n_qkv == 1)
        matrix(b, SR_QKV, i, q + 2 * kv, d, bias, &l->qkv[0]);
    else {
        matrix(b, SR_Q, i, q, d, bias, &l->qkv[0]);
        matrix(b, SR_K, i, kv, d, bias, &l->qkv[1]);
        matrix(b, SR_V, i, kv, d, bias, &l->qkv[2]);
    }
    if (arch->qk_norm || arch->qk_norm_late) {
        norm(b, SR_Q_NORM, i, h->head_dim, &l->q_norm);
        norm(b, SR_K_NORM, i, h->head_dim, &l->k_norm);
    }
    matrix(b, SR_ATTN_OUT, i, d, q, h->bias & SR_BIAS_ATTN_OUT, &l->attn_out);
    if (arch->post_norms) norm(b, SR_ATTN_POST_NORM, i, d, &l->attn_post_norm);
    if (!arch->parallel) norm(b, SR_FFN_NORM, i, d, &l->ffn_norm);
    bias = h->bias & SR_BIAS_MLP;
    l->n_up = arch->ungated || is_fused(b, SR_GATE_UP, SR_GATE, ff, i) ? 1 : 2;
    if (arch->ungated)
        matrix(b, SR_UP, i, ff, d, bias, &l->up[0]);
    else if (l->n_up == 1)
        matrix(b, SR_GATE_UP, i, 2 * ff, d, bias, &l->up[0]);
    else {
        matrix(b, SR_GATE, i, ff, d, bias, &l->up[0]);
        matrix(b, SR_UP, i, ff, d, bias, &l->up[1]);
    }
    matrix(b, SR_DOWN, i, d, ff, bias, &l->down);
    if (arch->post_norms) norm(b, SR_FFN_POST_NORM, i, d, &l->ffn_post_norm);
}

/* ------------------------------------------------------------------ rotation tables */

/* The factors of longrope, from a config's array or a GGUF tensor (of the model, or of its first layer). */
static const float *long_factors(struct binder *b, const sr_value *v, sr_role role, int n) {
    if (b->file->gguf) {
        const float *of_layer = vector(b, role, 0, ".weight", n, false);
        return of_layer ? of_layer : vector(b, role, -1, ".weight", n, true);
    }
    float *out = sr_arena_alloc(b->arena, (size_t)n, sizeof *out);
    sr_array a = sr_array_over(v);
    double x;
    if (!out) sr_fail(b->err, SR_NOMEM, "no memory for the factors of longrope");
    for (int i = 0; out && i < n; i++) {
        if (v->kind != SR_KIND_ARRAY || v->v.a.n != (uint64_t)n || !sr_array_float(&a, &x) || !isfinite(x)) {
            sr_fail(b->err, SR_CORRUPT, "%s: %s: found %d elements, expected %d finite numbers", b->file->path, v->key,
                    v->kind == SR_KIND_ARRAY ? (int)v->v.a.n : 1, n);
            return NULL;
        }
        out[i] = (float)x;
    }
    return out;
}

/* Frequency i of n_rot / 2, of a sequence of n tokens where that matters.
 * llama3: "The Llama 3 Herd of Models" and its config keys; a wave longer than orig/low is slowed by factor, one
 * shorter than orig/high is kept, between is blended. yarn: arXiv 2309.00071; the blend runs over features instead,
 * from the one that turns beta_fast times within orig to the one that turns beta_slow times. dynamic: the base grows
 * with the sequence, so that the longest wave is 1 + factor * (n / orig - 1) times as long. */
static double frequency(const sr_rotation *t, int i, int n_rot, double n) {
    const double pi = 3.14159265358979323846, orig = t->orig_ctx;
    double theta = t->theta;
    if (t->scaling == SR_SCALE_DYNAMIC) theta *= pow(t->factor * n / orig - (t->factor - 1), n_rot / (n_rot - 2.0));
    double f = pow(theta, -2.0 * i / n_rot);
    if (t->scaling == SR_SCALE_LINEAR) return f / t->factor;
    if (t->scaling == SR_SCALE_LLAMA3) {
        double wave = 2 * pi / f;
        if (wave > orig / t->low) return f / t->factor;
        if (wave < orig / t->high) return f;
        double s = (orig / wave - t->low) / (t->high - t->low);
        return f * ((1 - s) / t->factor + s);
    }
    if (t->scaling == SR_SCALE_YARN) {
        double low = n_rot * log(orig / (t->beta_fast * 2 * pi)) / (2 * log(theta));
        double high = n_rot * log(orig / (t->beta_slow * 2 * pi)) / (2 * log(theta));
        if (t->truncate) low = floor(low), high = ceil(high);
        low = fmax(low, 0), high = fmin(high, n_rot - 1);
        if (low == high) high += 0.001;
        double ramp = fmin(fmax((i - low) / (high - low), 0), 1);
        return f / t->factor * ramp + f * (1 - ramp);
    }
    return f;
}

/* Radians a position of each rotating pair, of rotation `which`. Two tables for longrope (up to orig_ctx tokens, and
 * longer), one for each doubling of the sequence for dynamic, else one. */
static void bind_rope(struct binder *b, const sr_hparams *h, int which, sr_decoder *dec) {
    const sr_rotation *t = &h->rotation[which];
    const int n = h->n_rot / 2;
    const bool is_long = t->scaling == SR_SCALE_LONGROPE;
    const int n_table = t->scaling == SR_SCALE_DYNAMIC ? SR_ROPE_TABLES : is_long ? 2 : 1;
    float *freq = sr_arena_alloc(b->arena, (size_t)n * (size_t)n_table, sizeof *freq);
    float *scale = sr_arena_alloc(b->arena, (size_t)n_table, sizeof *scale);
    if (!freq || !scale) {
        sr_fail(b->err, SR_NOMEM, "no memory for the rotation table");
        return;
    }
    const float *shared = which == 0 ? vector(b, SR_ROPE_FREQS, -1, ".weight", n, false) : NULL;
    const float *factors[2] = {shared, shared};
    if (is_long) {
        factors[0] = long_factors(b, t->short_factor, SR_ROPE_SHORT, n);
        factors[1] = long_factors(b, t->long_factor, SR_ROPE_LONG, n);
        if (!factors[0] || !factors[1]) return;
    }
    for (int k = 0; k < n_table; k++) {
        const int64_t length = (int64_t)t->orig_ctx << k;
        const float *divisor = factors[is_long ? k : 0];
        if (which == 0) dec->table_limit[k] = length > INT32_MAX || k == n_table - 1 ? INT32_MAX : (int32_t)length;
        scale[k] = t->mscale;
        for (int i = 0; i < n; i++) {
            float *f = &freq[k * n + i];
            *f = (float)(frequency(t, i, h->n_rot, (double)length) / (divisor ? divisor[i] : 1));
            if (isfinite(*f)) continue;
            sr_fail(b->err, SR_CORRUPT, "%s: %s: found a divisor of zero or no number at %d", b->file->path,
                    is_long ? "factors of longrope" : "tensor rope_freqs.weight", i);
            return;
        }
    }
    dec->rope[which] = (sr_rope){h->rope, n, n_table, freq, scale};
}

int32_t sr_decoder_table(const sr_decoder *dec, int32_t n) {
    int32_t k = 0;
    while (k < dec->rope[0].n_table - 1 && n > dec->table_limit[k]) k++;
    return k;
}

/* Tensors that files carry and no forward pass needs. */
static bool is_known_extra(const char *name) {
    static const char *const ends[] = {".rotary_emb.inv_freq", ".attention.bias", ".attention.masked_bias",
                                       /* scales of activations and of keys and values, which are quantized here as
                                          they come */
                                       ".input_scale", ".activation_scale", ".input_global_scale", ".qscale_act",
                                       ".k_scale", ".v_scale", ".output_scale", ".input_zero_point",
                                       /* what HQQ writes beside a matrix and its bits do not depend on */
                                       ".unpack_view_dtype", ".quant_scale", ".quant_zero", ".compute_dtype",
                                       ".offload_meta", ".stores_quant_config", ".channel_wise", ".optimize",
                                       ".round_zero", ".encoded_state_dict", NULL};
    for (const char *const *e = ends; *e; e++) {
        size_t n = strlen(name), m = strlen(*e);
        if (n >= m && strcmp(name + n - m, *e) == 0) return true;
    }
    return false;
}

static void log_extra(const struct binder *b) {
    int extra = 0;
    const char *first = NULL;
    for (int i = 0; i < b->file->n_parts; i++)
        if (!b->used[i] && !is_known_extra(b->file->part[i].name)) {
            if (!extra++) first = b->file->part[i].name;
        }
    if (extra)
        sr_log(SR_LOG_WARNING, "%s: %d tensor%s not used by %s, the first is %s", b->file->path, extra,
               extra > 1 ? "s are" : " is", b->arch->name, first);
}

sr_status sr_decoder_bind(const sr_file *file, const sr_arch *arch, const sr_hparams *h, sr_arena *arena,
                          sr_weight_fn visit, void *user, sr_decoder *dec, sr_err *err) {
    sr_err own = {0};
    struct binder b = {.file = file,
                       .arch = arch,
                       .naming = sr_naming_of(file, arch),
                       .arena = arena,
                       .visit = visit,
                       .user = user,
                       .err = err ? err : &own};
    memset(dec, 0, sizeof *dec);
    dec->arch = arch;
    dec->h = *h;
    dec->layer = sr_arena_alloc(arena, (size_t)h->n_layer, sizeof *dec->layer);
    b.used = calloc((size_t)file->n_parts + 1, sizeof *b.used);
    if (!dec->layer || !b.used) {
        free(b.used);
        return sr_fail(b.err, SR_NOMEM, "no memory for %d layers", h->n_layer);
    }
    if (sr_qconfig_read(file, arena, &b.config, b.err) != SR_OK) {
        free(b.used);
        return b.err->code;
    }
    int64_t vocab = h->n_vocab ? h->n_vocab : -1;
    matrix(&b, SR_EMBED, -1, vocab, h->d_model, false, &dec->embed);
    dec->h.n_vocab = (int32_t)dec->embed.N;
    bool tie = false, told = !file->gguf && (sr_value_bool(file, "tie_word_embeddings", &tie, b.err) ||
                                             sr_value_bool(file, "text_config.tie_word_embeddings", &tie, b.err));
    /* Files that tie may carry a copy of the embedding as head; without a word on it the tensors decide, and also where
     * the head is quantized and the embedding is not. */
    bool own_head = has_matrix(&b, SR_HEAD, -1);
    if (tie && own_head && !find(&b, SR_HEAD, -1, ".weight")) tie = false;
    dec->h.tied = told ? tie : !own_head;
    if (tie) find(&b, SR_HEAD, -1, ".weight");
    if (dec->h.tied)
        dec->head = dec->embed;
    else
        matrix(&b, SR_HEAD, -1, dec->embed.N, h->d_model, h->bias & SR_BIAS_HEAD, &dec->head);
    norm(&b, SR_OUT_NORM, -1, h->d_model, &dec->out_norm);
    for (int i = 0; i < h->n_layer && b.err->code == SR_OK; i++) bind_layer(&b, h, i, &dec->layer[i]);
    for (int i = 0; i < h->n_rotation && b.err->code == SR_OK; i++) bind_rope(&b, h, i, dec);
    if (b.err->code == SR_OK) log_extra(&b);
    free(b.used);
    return b.err->code;
}

/* ------------------------------------------------------------------ forward */

static int64_t qkv_width(const sr_layer_kind *kind, const sr_hparams *h) {
    return (int64_t)(kind->n_head + 2 * kind->n_kv_head) * h->head_dim;
}

void sr_decoder_scratch(const sr_decoder *dec, int64_t per_token[6]) {
    const sr_hparams *h = &dec->h;
    per_token[0] = per_token[1] = per_token[5] = h->d_model;
    per_token[2] = 0;
    for (int i = 0; i < h->n_layer; i++)
        if (qkv_width(&h->kind[i], h) > per_token[2]) per_token[2] = qkv_width(&h->kind[i], h);
    per_token[3] = (int64_t)h->n_head * h->head_dim;
    per_token[4] = (dec->arch->ungated ? 1 : 2) * (int64_t)h->d_ff;
}

static void norm_heads(const sr_decoder *dec, sr_dev *dev, int layer, int T, float *q, float *k, int64_t ld) {
    const sr_hparams *h = &dec->h;
    const sr_norm *nq = &dec->layer[layer].q_norm, *nk = &dec->layer[layer].k_norm;
    const sr_norm_kind norm = dec->arch->norm;
    const int hd = h->head_dim;
    dev->ops->norm(dev, norm, q, T, h->kind[layer].n_head, ld, hd, nq->weight, nq->bias, h->eps, q, ld);
    dev->ops->norm(dev, norm, k, T, h->kind[layer].n_kv_head, ld, hd, nk->weight, nk->bias, h->eps, k, ld);
}

sr_status sr_decoder_forward(const sr_decoder *dec, sr_dev *dev, const sr_scratch *s, const sr_step_view *step) {
    const sr_hparams *h = &dec->h;
    const sr_device *ops = dev->ops;
    const sr_norm_kind norm = dec->arch->norm;
    const int T = step->T, d = h->d_model, hd = h->head_dim;

    ops->embed(dev, &dec->embed, step->ids, T, h->embed_scale, s->x); /* x [T][d] */
    for (int i = 0; i < h->n_layer; i++) {
        const sr_layer *l = &dec->layer[i];
        const sr_layer_kind *kind = &h->kind[i];
        const int64_t n_q = (int64_t)kind->n_head * hd, n_kv = (int64_t)kind->n_kv_head * hd, ld = n_q + 2 * n_kv;
        float *const q = s->qkv, *const k = q + n_q, *const v = k + n_kv; /* columns of qkv [T][ld] */
        if (*step->cancel) return SR_CANCELLED;

        ops->norm(dev, norm, s->x, T, 1, d, d, l->attn_norm.weight, l->attn_norm.bias, h->eps, s->normed, d);
        const sr_weight *qkv[3] = {&l->qkv[0], &l->qkv[1], &l->qkv[2]};
        ops->matmul(dev, qkv, l->n_qkv, s->normed, T, d, (float *[]){q, k, v}, (int64_t[]){ld, ld, ld});
        if (dec->arch->qk_norm) norm_heads(dec, dev, i, T, q, k, ld);
        if (kind->rope >= 0) {
            const sr_rope *rope = &dec->rope[kind->rope];
            ops->rope(dev, rope, step->pos, step->table, T, q, ld, kind->n_head, hd);
            ops->rope(dev, rope, step->pos, step->table, T, k, ld, kind->n_kv_head, hd);
        }
        if (dec->arch->qk_norm_late) norm_heads(dec, dev, i, T, q, k, ld);
        ops->attend(dev, &(sr_attend){.layer = i,
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
                                      .q = q,
                                      .k = k,
                                      .v = v,
                                      .ld_q = ld,
                                      .ld_kv = ld,
                                      .out = s->attn,
                                      .ld_out = n_q});
        const sr_weight *attn_out[1] = {&l->attn_out};
        ops->matmul(dev, attn_out, 1, s->attn, T, n_q, (float *[]){s->branch}, (int64_t[]){d});
        if (l->attn_post_norm.weight)
            ops->norm(dev, norm, s->branch, T, 1, d, d, l->attn_post_norm.weight, l->attn_post_norm.bias, h->eps,
                      s->branch, d);
        ops->add(dev, s->x, s->branch, (int64_t)T * d, h->residual_scale);

        if (l->ffn_norm.weight) /* else the MLP stands beside attention and shares its norm */
            ops->norm(dev, norm, s->x, T, 1, d, d, l->ffn_norm.weight, l->ffn_norm.bias, h->eps, s->normed, d);
        const int64_t ff = kind->d_ff, ld_ff = dec->arch->ungated ? ff : 2 * ff;
        float *const gate = s->ff, *const up = dec->arch->ungated ? NULL : gate + ff; /* columns of ff [T][ld_ff] */
        const sr_weight *gate_up[2] = {&l->up[0], &l->up[1]};
        ops->matmul(dev, gate_up, l->n_up, s->normed, T, d, (float *[]){gate, up}, (int64_t[]){ld_ff, ld_ff});
        ops->act(dev, h->act, gate, up, T, kind->d_ff, ld_ff, gate, ld_ff);
        const sr_weight *down[1] = {&l->down};
        ops->matmul(dev, down, 1, gate, T, ld_ff, (float *[]){s->branch}, (int64_t[]){d});
        if (l->ffn_post_norm.weight)
            ops->norm(dev, norm, s->branch, T, 1, d, d, l->ffn_post_norm.weight, l->ffn_post_norm.bias, h->eps,
                      s->branch, d);
        ops->add(dev, s->x, s->branch, (int64_t)T * d, h->residual_scale);
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
