/* The shared decoder: binding a checkpoint's tensors to it, and the forward pass from token ids to logits. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "arch/arch.h"
#include "base/log.h"

enum { NAME = 160 };

/* ------------------------------------------------------------------ binding */

/* Names of one matrix or vector in both containers; %d is the layer. */
struct name {
    const char *hf, *gguf;
};
static const struct name EMBED = {"model.embed_tokens", "token_embd"}, HEAD = {"lm_head", "output"},
                         OUT_NORM = {"model.norm", "output_norm"},
                         ATTN_NORM = {"model.layers.%d.input_layernorm", "blk.%d.attn_norm"},
                         FFN_NORM = {"model.layers.%d.post_attention_layernorm", "blk.%d.ffn_norm"},
                         Q = {"model.layers.%d.self_attn.q_proj", "blk.%d.attn_q"},
                         K = {"model.layers.%d.self_attn.k_proj", "blk.%d.attn_k"},
                         V = {"model.layers.%d.self_attn.v_proj", "blk.%d.attn_v"},
                         QKV = {"model.layers.%d.self_attn.qkv_proj", "blk.%d.attn_qkv"},
                         Q_NORM = {"model.layers.%d.self_attn.q_norm", "blk.%d.attn_q_norm"},
                         K_NORM = {"model.layers.%d.self_attn.k_norm", "blk.%d.attn_k_norm"},
                         ATTN_OUT = {"model.layers.%d.self_attn.o_proj", "blk.%d.attn_output"},
                         GATE = {"model.layers.%d.mlp.gate_proj", "blk.%d.ffn_gate"},
                         UP = {"model.layers.%d.mlp.up_proj", "blk.%d.ffn_up"},
                         GATE_UP = {"model.layers.%d.mlp.gate_up_proj",
                                    "blk.%d.ffn_up"}, /* GGUF: same name, twice the rows */
    DOWN = {"model.layers.%d.mlp.down_proj", "blk.%d.ffn_down"};

struct binder {
    const sr_file *file;
    sr_qconfig *config;
    const sr_arch *arch;
    sr_arena *arena;
    sr_weight_fn visit;
    void *user;
    bool *used; /* [n_parts] */
    sr_err *err;
};

static void full_name(const struct binder *b, const struct name *name, int layer, const char *suffix, char out[NAME]) {
    char stem[NAME - 16];
    const char *pattern = b->file->gguf ? name->gguf : name->hf; /* has a %d or not */
    snprintf(stem, sizeof stem, pattern, layer);
    snprintf(out, NAME, "%s%s", stem, suffix);
}

static const sr_part *find(struct binder *b, const struct name *name, int layer, const char *suffix) {
    char full[NAME];
    full_name(b, name, layer, suffix, full);
    const sr_part *p = sr_file_part(b->file, full);
    if (p) b->used[p - b->file->part] = true;
    return p;
}

static bool has_matrix(const struct binder *b, const struct name *name, int layer) {
    char stem[NAME];
    sr_parts parts;
    full_name(b, name, layer, "", stem);
    return sr_weight_parts(b->file, stem, &parts) && parts.n > 0;
}

/* A vector of n numbers as f32 in the arena. Absent: NULL, an error only when required. */
static const float *vector(struct binder *b, const struct name *name, int layer, const char *suffix, int64_t n,
                           bool required) {
    const sr_part *p = find(b, name, layer, suffix);
    if (!p) {
        char full[NAME];
        full_name(b, name, layer, suffix, full);
        if (required)
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

static void matrix(struct binder *b, const struct name *name, int layer, int64_t n, int64_t k, bool bias_required,
                   sr_weight *w) {
    char stem[NAME];
    if (b->err->code != SR_OK) return;
    full_name(b, name, layer, "", stem);
    if (sr_weight_bind(b->file, b->config, stem, n, k, b->arena, w, b->err) != SR_OK) return;
    sr_parts parts;
    sr_weight_parts(b->file, stem, &parts);
    for (int i = 0; i < parts.n; i++) b->used[parts.item[i].part - b->file->part] = true;
    w->bias = vector(b, name, layer, ".bias", w->N, bias_required);
    if (b->err->code == SR_OK && b->visit) b->visit(b->user, stem, layer < 0, w, b->err);
}

/* Whether a group of matrices is stored as one, or matrix by matrix, of which `first` has n rows. A GGUF file calls the
 * fused gate and up as it calls up alone: that one has no more than n rows. */
static bool is_fused(struct binder *b, const struct name *fused, const struct name *first, int64_t n, int layer) {
    char one[NAME], other[NAME];
    sr_parts parts;
    if (has_matrix(b, first, layer)) return false;
    full_name(b, first, layer, "", one);
    full_name(b, fused, layer, "", other);
    if (sr_weight_parts(b->file, other, &parts) && parts.n > 0)
        return !b->file->gguf || parts.item[0].part->shape[0] != n;
    sr_fail(b->err, SR_CORRUPT, "%s: '%s.weight' is missing, and so is '%s.weight', which could take its place",
            b->file->path, one, other);
    return false;
}

static void bind_layer(struct binder *b, const sr_hparams *h, int i, sr_layer *l) {
    int64_t q = (int64_t)h->n_head * h->head_dim, kv = (int64_t)h->n_kv_head * h->head_dim;
    bool bias = b->arch->qkv_bias;
    l->attn_norm = vector(b, &ATTN_NORM, i, ".weight", h->d_model, true);
    l->qkv_fused = is_fused(b, &QKV, &Q, q, i);
    if (l->qkv_fused)
        matrix(b, &QKV, i, q + 2 * kv, h->d_model, bias, &l->qkv[0]);
    else {
        matrix(b, &Q, i, q, h->d_model, bias, &l->qkv[0]);
        matrix(b, &K, i, kv, h->d_model, bias, &l->qkv[1]);
        matrix(b, &V, i, kv, h->d_model, bias, &l->qkv[2]);
    }
    if (b->arch->qk_norm) {
        l->q_norm = vector(b, &Q_NORM, i, ".weight", h->head_dim, true);
        l->k_norm = vector(b, &K_NORM, i, ".weight", h->head_dim, true);
    }
    matrix(b, &ATTN_OUT, i, h->d_model, q, false, &l->attn_out);
    l->ffn_norm = vector(b, &FFN_NORM, i, ".weight", h->d_model, true);
    l->gate_up_fused = is_fused(b, &GATE_UP, &GATE, h->d_ff, i);
    if (l->gate_up_fused)
        matrix(b, &GATE_UP, i, 2 * (int64_t)h->d_ff, h->d_model, false, &l->gate_up[0]);
    else {
        matrix(b, &GATE, i, h->d_ff, h->d_model, false, &l->gate_up[0]);
        matrix(b, &UP, i, h->d_ff, h->d_model, false, &l->gate_up[1]);
    }
    matrix(b, &DOWN, i, h->d_model, h->d_ff, false, &l->down);
}

/* Radians a position of each rotating pair: theta^(-2i/n_rot), rescaled. llama3: "The Llama 3 Herd of Models" and its
 * config keys; a wave longer than orig/low is slowed by factor, one shorter than orig/high is kept, between is blended.
 */
static void bind_rope(struct binder *b, const sr_hparams *h, sr_decoder *dec) {
    int n = h->n_rot / 2;
    float *freq = sr_arena_alloc(b->arena, (size_t)n, sizeof *freq);
    if (!freq) {
        sr_fail(b->err, SR_NOMEM, "no memory for the rotation table");
        return;
    }
    static const struct name FREQS = {"rope_freqs", "rope_freqs"};
    const float *divisor = b->file->gguf ? vector(b, &FREQS, 0, ".weight", n, false) : NULL;
    for (int i = 0; i < n; i++) {
        double f = pow(h->rope_theta, -2.0 * i / h->n_rot);
        if (h->scaling == SR_SCALE_LINEAR) f /= h->rope_factor;
        if (h->scaling == SR_SCALE_LLAMA3) {
            double wave = 2 * 3.14159265358979323846 / f, orig = h->rope_orig_ctx;
            if (wave > orig / h->rope_low)
                f /= h->rope_factor;
            else if (wave >= orig / h->rope_high) {
                double s = (orig / wave - h->rope_low) / (h->rope_high - h->rope_low);
                f *= (1 - s) / h->rope_factor + s;
            }
        }
        if (divisor) f /= divisor[i];
        freq[i] = (float)f;
        if (!isfinite(freq[i])) {
            sr_fail(b->err, SR_CORRUPT, "%s: tensor rope_freqs.weight: found a divisor of zero or no number at %d",
                    b->file->path, i);
            return;
        }
    }
    dec->rope = (sr_rope){h->rope, n, freq, 1};
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
    struct binder b = {file, NULL, arch, arena, visit, user, NULL, err ? err : &own};
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
    matrix(&b, &EMBED, -1, vocab, h->d_model, false, &dec->embed);
    dec->h.n_vocab = (int32_t)dec->embed.N;
    bool tie = false, told = !file->gguf && sr_value_bool(file, "tie_word_embeddings", &tie, b.err);
    /* Files that tie may carry a copy of the embedding as head; without a word on it the tensors decide, and also where
     * the head is quantized and the embedding is not. */
    bool own_head = has_matrix(&b, &HEAD, -1);
    if (tie && own_head && !find(&b, &HEAD, -1, ".weight")) tie = false;
    dec->h.tied = told ? tie : !own_head;
    if (tie) find(&b, &HEAD, -1, ".weight");
    if (dec->h.tied)
        dec->head = dec->embed;
    else
        matrix(&b, &HEAD, -1, dec->embed.N, h->d_model, false, &dec->head);
    dec->out_norm = vector(&b, &OUT_NORM, -1, ".weight", h->d_model, true);
    for (int i = 0; i < h->n_layer && b.err->code == SR_OK; i++) bind_layer(&b, h, i, &dec->layer[i]);
    if (b.err->code == SR_OK) bind_rope(&b, h, dec);
    if (b.err->code == SR_OK) log_extra(&b);
    free(b.used);
    return b.err->code;
}

/* ------------------------------------------------------------------ forward */

static int64_t qkv_width(const sr_hparams *h) {
    return (int64_t)(h->n_head + 2 * h->n_kv_head) * h->head_dim;
}

void sr_decoder_scratch(const sr_decoder *dec, int64_t per_token[6]) {
    const sr_hparams *h = &dec->h;
    per_token[0] = per_token[1] = per_token[5] = h->d_model;
    per_token[2] = qkv_width(h);
    per_token[3] = (int64_t)h->n_head * h->head_dim;
    per_token[4] = 2 * (int64_t)h->d_ff;
}

sr_status sr_decoder_forward(const sr_decoder *dec, sr_dev *dev, const sr_scratch *s, const sr_step_view *step) {
    const sr_hparams *h = &dec->h;
    const sr_device *ops = dev->ops;
    const int T = step->T, d = h->d_model, hd = h->head_dim;
    const int64_t n_q = (int64_t)h->n_head * hd, n_kv = (int64_t)h->n_kv_head * hd, ld = qkv_width(h), ff = h->d_ff;
    float *const q = s->qkv, *const k = q + n_q, *const v = k + n_kv; /* columns of qkv [T][ld] */

    ops->embed(dev, &dec->embed, step->ids, T, 1, s->x); /* x [T][d] */
    for (int i = 0; i < h->n_layer; i++) {
        const sr_layer *l = &dec->layer[i];
        if (*step->cancel) return SR_CANCELLED;

        ops->norm(dev, SR_NORM_RMS, s->x, T, 1, d, d, l->attn_norm, h->eps, s->normed, d);
        const sr_weight *qkv[3] = {&l->qkv[0], &l->qkv[1], &l->qkv[2]};
        ops->matmul(dev, qkv, l->qkv_fused ? 1 : 3, s->normed, T, d, (float *[]){q, k, v}, (int64_t[]){ld, ld, ld});
        if (l->q_norm) {
            ops->norm(dev, SR_NORM_RMS, q, T, h->n_head, ld, hd, l->q_norm, h->eps, q, ld);
            ops->norm(dev, SR_NORM_RMS, k, T, h->n_kv_head, ld, hd, l->k_norm, h->eps, k, ld);
        }
        ops->rope(dev, &dec->rope, step->pos, T, q, ld, h->n_head, hd);
        ops->rope(dev, &dec->rope, step->pos, T, k, ld, h->n_kv_head, hd);
        ops->attend(dev, &(sr_attend){.layer = i,
                                      .n_head = h->n_head,
                                      .n_kv_head = h->n_kv_head,
                                      .hd_k = hd,
                                      .hd_v = hd,
                                      .scale = h->attn_scale,
                                      .window = h->window,
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
        ops->add(dev, s->x, s->branch, (int64_t)T * d);

        ops->norm(dev, SR_NORM_RMS, s->x, T, 1, d, d, l->ffn_norm, h->eps, s->normed, d);
        const sr_weight *gate_up[2] = {&l->gate_up[0], &l->gate_up[1]};
        float *const gate = s->ff, *const up = gate + ff; /* columns of ff [T][2 * d_ff] */
        ops->matmul(dev, gate_up, l->gate_up_fused ? 1 : 2, s->normed, T, d, (float *[]){gate, up},
                    (int64_t[]){2 * ff, 2 * ff});
        ops->act(dev, SR_ACT_SILU_GLU, gate, up, T, h->d_ff, 2 * ff, gate, 2 * ff);
        const sr_weight *down[1] = {&l->down};
        ops->matmul(dev, down, 1, gate, T, 2 * ff, (float *[]){s->branch}, (int64_t[]){d});
        ops->add(dev, s->x, s->branch, (int64_t)T * d);
    }
    return SR_OK;
}

void sr_decoder_logits(const sr_decoder *dec, sr_dev *dev, float *x, int n, float *logits) {
    const sr_hparams *h = &dec->h;
    const sr_weight *head[1] = {&dec->head};
    dev->ops->norm(dev, SR_NORM_RMS, x, n, 1, h->d_model, h->d_model, dec->out_norm, h->eps, x, h->d_model);
    dev->ops->matmul(dev, head, 1, x, n, h->d_model, (float *[]){logits}, (int64_t[]){h->n_vocab});
}
