/* Binding: which tensors of a checkpoint are which weights of the decoder. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "arch/bind.h"
#include "base/log.h"

static const sr_part *find(struct sr_binder *b, sr_role role, int layer, const char *suffix) {
    char full[SR_NAME];
    if (!sr_name_full(&b->naming, role, layer, suffix, full)) return NULL;
    const sr_part *p = sr_file_part(b->file, full);
    if (p) b->used[p - b->file->part] = true;
    return p;
}

static bool has_named(const struct sr_binder *b, const char *stem) {
    sr_parts parts;
    return sr_weight_parts(b->file, stem, &parts) && parts.n > 0;
}

bool sr_bind_has(const struct sr_binder *b, sr_role role, int layer) {
    char stem[SR_NAME];
    return sr_name_full(&b->naming, role, layer, "", stem) && has_named(b, stem);
}

/* The vector of that name, n numbers as f32 in the arena. Absent: NULL, an error only when required. */
static float *vector_named(struct sr_binder *b, const char *full, int64_t n, bool required) {
    const sr_part *p = sr_file_part(b->file, full);
    if (!p) {
        if (required)
            sr_fail(b->err, SR_CORRUPT, "%s: the tensor %s is missing (%s needs it)", b->file->path, full,
                    b->arch->name);
        return NULL;
    }
    b->used[p - b->file->part] = true;
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

static float *vector(struct sr_binder *b, sr_role role, int layer, const char *suffix, int64_t n, bool required) {
    char full[SR_NAME];
    return sr_name_full(&b->naming, role, layer, suffix, full) ? vector_named(b, full, n, required) : NULL;
}

void sr_bind_norm(struct sr_binder *b, sr_role role, int layer, int64_t n, sr_norm *norm) {
    float *w = vector(b, role, layer, ".weight", n, true);
    for (int64_t i = 0; w && b->arch->norm_plus1 && !b->file->gguf && i < n; i++) w[i] += 1;
    norm->weight = w;
    if (b->arch->norm == SR_NORM_LAYER) norm->bias = vector(b, role, layer, ".bias", n, true);
}

void sr_bind_visit(struct sr_binder *b, const char *stem, bool is_edge, sr_weight *w) {
    if (b->err->code == SR_OK && b->visit) b->visit(b->user, stem, is_edge, w, b->err);
}

static bool bind_parts(struct sr_binder *b, const char *stem, int64_t n, int64_t k, sr_weight *w) {
    sr_parts parts;
    if (b->err->code != SR_OK) return false;
    if (sr_weight_bind(b->file, b->config, stem, n, k, b->arena, w, b->err) != SR_OK) return false;
    sr_weight_parts(b->file, stem, &parts);
    for (int i = 0; i < parts.n; i++) b->used[parts.item[i].part - b->file->part] = true;
    return true;
}

static void bind_bias(struct sr_binder *b, const char *stem, bool required, sr_weight *w) {
    char bias[SR_NAME + 8];
    sr_parts parts;
    sr_weight_parts(b->file, stem, &parts);
    const bool module = parts.item[0].part->name[strlen(stem)] == '.'; /* else a parameter beside a stack that is one */
    snprintf(bias, sizeof bias, "%s%sbias", stem, module ? "." : "_");
    w->bias = vector_named(b, bias, w->N, required);
}

/* Routers are left as they are: they are small, and a wrong expert costs more than bits save. */
static void matrix_named(struct sr_binder *b, const char *stem, sr_role role, bool is_edge, int64_t n, int64_t k,
                         bool bias_required, sr_weight *w) {
    if (!bind_parts(b, stem, n, k, w)) return;
    bind_bias(b, stem, bias_required, w);
    if (role != SR_ROUTER && role != SR_SHARED_SHARE && role != SR_KV_B) sr_bind_visit(b, stem, is_edge, w);
}

static sr_status create_turned(struct sr_binder *b, const sr_format *fmt, int64_t N, int64_t K, sr_arena *arena,
                               sr_weight *w) {
    sr_status s = sr_weight_create(fmt, N, K, NULL, arena, w, b->err);
    return s == SR_OK && b->scratch_dir ? sr_weight_to_file(w, b->scratch_dir, b->err) : s;
}

void sr_bind_turned(struct sr_binder *b, const char *stem, const sr_weight *from, int64_t n, int64_t pitch,
                    int64_t rows, sr_weight *to) {
    enum { STRIP = 16 }; /* rows at a time, so that what is written lies in lines of the cache */
    static const char *const plain[] = {"bf16", "f16", "f32"};
    const int64_t K = from->K;
    const sr_format *fmt = NULL;
    sr_arena own = {0}; /* given back when the visitor makes another one */
    if (b->err->code != SR_OK) return;
    for (int i = 0; i < 3 && !fmt; i++)
        if (from->fmt == sr_format_by_name(plain[i])) fmt = from->fmt;
    const bool as_is = fmt != NULL;
    if (!fmt) fmt = sr_format_by_name("f32");
    float *decoded = malloc(STRIP * (size_t)K * sizeof *decoded);
    if (!decoded) sr_fail(b->err, SR_NOMEM, "no memory to turn %s around", stem);
    if (decoded && create_turned(b, fmt, n * K, rows, &own, to) == SR_OK) {
        const int64_t ld = to->plane[0].stride, size = to->plane[0].type->bytes;
        for (int64_t piece = 0; piece < n; piece++)
            for (int64_t i = 0; i < rows; i += STRIP) {
                const int m = rows - i < STRIP ? (int)(rows - i) : STRIP;
                const uint8_t *row[STRIP];
                for (int j = 0; j < m; j++) {
                    const int64_t r = piece * pitch + i + j;
                    row[j] = as_is ? from->plane[0].data + r * from->plane[0].stride : (uint8_t *)(decoded + j * K);
                    if (!as_is) from->fmt->decode(from, r, 0, K, decoded + j * K);
                }
                uint8_t *out = to->plane[0].data + piece * K * ld + i * size;
                for (int64_t k = 0; k < K; k++, out += ld)
                    for (int j = 0; j < m; j++)
                        if (size == 2)
                            memcpy(out + 2 * j, row[j] + 2 * k, 2);
                        else
                            memcpy(out + 4 * j, row[j] + 4 * k, 4);
            }
        const uint8_t *made = to->plane[0].data;
        sr_bind_visit(b, stem, false, to);
        if (to->plane[0].data == made) sr_arena_join(b->arena, &own);
    }
    sr_arena_free(&own);
    free(decoded);
}

void sr_bind_matrix(struct sr_binder *b, sr_role role, int layer, int64_t n, int64_t k, bool bias_required,
                    sr_weight *w) {
    char stem[SR_NAME];
    sr_name_full(&b->naming, role, layer, "", stem);
    matrix_named(b, stem, role, layer < 0, n, k, bias_required, w);
}

/* Whether a group of matrices is stored as one, or matrix by matrix, of which `first` has n rows. A GGUF file calls the
 * fused gate and up as it calls up alone: that one has no more than n rows. */
static bool is_fused(struct sr_binder *b, sr_role fused, sr_role first, int64_t n, int layer) {
    char one[SR_NAME], other[SR_NAME];
    sr_parts parts;
    if (sr_bind_has(b, first, layer)) return false;
    sr_name_full(&b->naming, first, layer, "", one);
    if (!sr_name_full(&b->naming, fused, layer, "", other)) return false;
    if (sr_weight_parts(b->file, other, &parts) && parts.n > 0)
        return !b->file->gguf || parts.item[0].part->shape[0] != n;
    sr_fail(b->err, SR_CORRUPT, "%s: '%s.weight' is missing, and so is '%s.weight', which could take its place",
            b->file->path, one, other);
    return false;
}

/* The name of a stack. False: there is none, and it is the usual one. */
static bool stack_name(struct sr_binder *b, sr_role role, int layer, char stem[SR_NAME]) {
    static const sr_role mlx[SR_N_ROLES] = {
        [SR_EXPERTS_GATE] = SR_SWITCH_GATE, [SR_EXPERTS_UP] = SR_SWITCH_UP, [SR_EXPERTS_DOWN] = SR_SWITCH_DOWN};
    sr_name_full(&b->naming, role, layer, "", stem);
    if (has_named(b, stem)) return true;
    if (!mlx[role] || !sr_bind_has(b, mlx[role], layer)) return false;
    return sr_name_full(&b->naming, mlx[role], layer, "", stem);
}

/* A stack [n][k][rows], whose rows are columns. */
static void turned_stack(struct sr_binder *b, const char *stem, int n, int64_t rows, int64_t k, sr_weight *w) {
    sr_weight stored;
    if (!bind_parts(b, stem, n * k, rows, &stored)) return;
    sr_bind_turned(b, stem, &stored, n, k, k, w);
    if (b->err->code == SR_OK) bind_bias(b, stem, b->arch->bias & SR_BIAS_MLP, w);
}

/* A matrix of all n experts, rows x k each, from a stack or expert by expert; weights go behind *w. */
static void experts(struct sr_binder *b, sr_role stack, sr_role one, int layer, int n, int64_t rows, int64_t k,
                    sr_weight **w, sr_experts *out) {
    char stem[SR_NAME], of_all[SR_NAME];
    sr_parts parts;
    sr_name_expert(&b->naming, one, layer, 0, "", stem);
    const bool stacked = stack_name(b, stack, layer, of_all),
               by_one = has_named(b, stem) || !(stacked || b->file->gguf || b->arch->stacked_experts);
    *out = (sr_experts){*w, by_one ? n : 1, rows, k, rows, 0};
    if (!by_one && b->arch->turned_experts && sr_file_part(b->file, of_all) &&
        sr_weight_parts(b->file, of_all, &parts) && parts.n == 1)
        turned_stack(b, of_all, n, rows, k, *w);
    else if (!by_one)
        matrix_named(b, of_all, stack, false, n * rows, k, b->arch->bias & SR_BIAS_MLP, *w);
    for (int e = 0; e < n && by_one; e++) {
        sr_name_expert(&b->naming, one, layer, e, "", stem);
        matrix_named(b, stem, one, false, rows, k, b->arch->bias & SR_BIAS_MLP, *w + e);
    }
    *w += out->n;
}

static void bind_mixture(struct sr_binder *b, const sr_hparams *h, int i, sr_layer *l) {
    const int64_t d = h->d_model, ff = h->d_expert;
    const int n = h->gating.n;
    sr_mixture *m = l->mixture = sr_arena_alloc(b->arena, 1, sizeof *m);
    sr_weight *w = sr_arena_alloc(b->arena, 3 * (size_t)n, sizeof *w);
    if (!m || !w) {
        sr_fail(b->err, SR_NOMEM, "no memory for %d experts", n);
        return;
    }
    m->weight = w;
    sr_bind_matrix(b, SR_ROUTER, i, n, d, b->arch->bias & SR_BIAS_MLP, &m->router);
    m->bias = vector(b, SR_ROUTER_BIAS, i, "", n, false);
    char stem[SR_NAME];
    const bool fused = b->arch->stacked_experts && !b->file->gguf && !stack_name(b, SR_EXPERTS_GATE, i, stem);
    m->n_up = fused || stack_name(b, SR_EXPERTS_GATE_UP, i, stem) ? 1 : 2;
    if (m->n_up == 1)
        experts(b, SR_EXPERTS_GATE_UP, SR_EXPERT_GATE, i, n, 2 * ff, d, &w, &m->up[0]);
    else {
        experts(b, SR_EXPERTS_GATE, SR_EXPERT_GATE, i, n, ff, d, &w, &m->up[0]);
        experts(b, SR_EXPERTS_UP, SR_EXPERT_UP, i, n, ff, d, &w, &m->up[1]);
    }
    experts(b, SR_EXPERTS_DOWN, SR_EXPERT_DOWN, i, n, d, ff, &w, &m->down);
    m->n_weights = (int)(w - m->weight);
    if (h->d_shared == 0) return;
    l->n_up = is_fused(b, SR_SHARED_GATE_UP, SR_SHARED_GATE, h->d_shared, i) ? 1 : 2;
    if (l->n_up == 1)
        sr_bind_matrix(b, SR_SHARED_GATE_UP, i, 2 * h->d_shared, d, false, &l->up[0]);
    else {
        sr_bind_matrix(b, SR_SHARED_GATE, i, h->d_shared, d, false, &l->up[0]);
        sr_bind_matrix(b, SR_SHARED_UP, i, h->d_shared, d, false, &l->up[1]);
    }
    sr_bind_matrix(b, SR_SHARED_DOWN, i, d, h->d_shared, false, &l->down);
    if (b->arch->shared_share) sr_bind_matrix(b, SR_SHARED_SHARE, i, 1, d, false, &m->share);
}

static void bind_mlp(struct sr_binder *b, const sr_hparams *h, int i, sr_layer *l) {
    const sr_arch *arch = b->arch;
    const int64_t d = h->d_model, ff = h->kind[i].d_ff;
    const bool bias = h->bias & SR_BIAS_MLP;
    l->n_up = arch->ungated || is_fused(b, SR_GATE_UP, SR_GATE, ff, i) ? 1 : 2;
    if (arch->ungated)
        sr_bind_matrix(b, SR_UP, i, ff, d, bias, &l->up[0]);
    else if (l->n_up == 1)
        sr_bind_matrix(b, SR_GATE_UP, i, 2 * ff, d, bias, &l->up[0]);
    else {
        sr_bind_matrix(b, SR_GATE, i, ff, d, bias, &l->up[0]);
        sr_bind_matrix(b, SR_UP, i, ff, d, bias, &l->up[1]);
    }
    sr_bind_matrix(b, SR_DOWN, i, d, ff, bias, &l->down);
}

static void bind_attention(struct sr_binder *b, const sr_hparams *h, int i, sr_layer *l) {
    const sr_layer_kind *kind = &h->kind[i];
    const sr_arch *arch = b->arch;
    const int64_t q = (int64_t)kind->n_head * h->head_dim, kv = (int64_t)kind->n_kv_head * h->head_dim;
    const int64_t d = h->d_model;
    const bool bias = h->bias & SR_BIAS_QKV;
    l->n_qkv = is_fused(b, SR_QKV, SR_Q, q, i) ? 1 : 3;
    if (l->n_qkv == 1)
        sr_bind_matrix(b, SR_QKV, i, q + 2 * kv, d, bias, &l->qkv[0]);
    else {
        sr_bind_matrix(b, SR_Q, i, q, d, bias, &l->qkv[0]);
        sr_bind_matrix(b, SR_K, i, kv, d, bias, &l->qkv[1]);
        sr_bind_matrix(b, SR_V, i, kv, d, bias, &l->qkv[2]);
    }
    if ((arch->qk_norm || arch->qk_norm_late) &&
        (!arch->qk_norm_optional || find(b, SR_Q_NORM, i, ".weight") || find(b, SR_K_NORM, i, ".weight"))) {
        sr_bind_norm(b, SR_Q_NORM, i, h->head_dim, &l->q_norm);
        sr_bind_norm(b, SR_K_NORM, i, h->head_dim, &l->k_norm);
    }
    if (arch->sinks) l->sinks = vector(b, SR_SINKS, i, "", kind->n_head, true);
    sr_bind_matrix(b, SR_ATTN_OUT, i, d, q, h->bias & SR_BIAS_ATTN_OUT, &l->attn_out);
}

static void bind_layer(struct sr_binder *b, const sr_hparams *h, int i, sr_layer *l) {
    const sr_arch *arch = b->arch;
    const int64_t d = h->d_model;
    sr_bind_norm(b, SR_ATTN_NORM, i, d, &l->attn_norm);
    (arch->latent ? sr_latent_bind : bind_attention)(b, h, i, l);
    if (arch->post_norms) sr_bind_norm(b, SR_ATTN_POST_NORM, i, d, &l->attn_post_norm);
    if (!arch->parallel) sr_bind_norm(b, SR_FFN_NORM, i, d, &l->ffn_norm);
    if (h->kind[i].sparse)
        bind_mixture(b, h, i, l);
    else
        bind_mlp(b, h, i, l);
    if (arch->post_norms) sr_bind_norm(b, SR_FFN_POST_NORM, i, d, &l->ffn_post_norm);
}

/* ------------------------------------------------------------------ rotation tables */

/* The factors of longrope, from a config's array or a GGUF tensor (of the model, or of its first layer). */
static const float *long_factors(struct sr_binder *b, const sr_value *v, sr_role role, int n) {
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
static void bind_rope(struct sr_binder *b, const sr_hparams *h, int which, sr_decoder *dec) {
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
        scale[k] = t->mscale[is_long ? k : 0];
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

static void log_extra(const struct sr_binder *b) {
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

/* Files that tie may carry a copy of the embedding as head; without a word on it the tensors decide, and also where the
 * head is quantized and the embedding is not. */
bool sr_arch_tied(const sr_file *file, const sr_arch *arch, sr_err *err) {
    const sr_naming naming = sr_naming_of(file, arch);
    char stem[SR_NAME], weight[SR_NAME];
    sr_parts parts;
    const bool own_head =
        sr_name_full(&naming, SR_HEAD, -1, "", stem) && sr_weight_parts(file, stem, &parts) && parts.n > 0;
    bool tie = false;
    const bool told = !file->gguf && (sr_value_bool(file, "tie_word_embeddings", &tie, err) ||
                                      sr_value_bool(file, "text_config.tie_word_embeddings", &tie, err));
    sr_name_full(&naming, SR_HEAD, -1, ".weight", weight);
    if (tie && own_head && !sr_file_part(file, weight)) tie = false;
    return told ? tie : !own_head;
}

sr_status sr_decoder_bind(const sr_file *file, const sr_arch *arch, const sr_hparams *h, sr_arena *arena,
                          const char *scratch_dir, sr_weight_fn visit, void *user, sr_decoder *dec, sr_err *err) {
    sr_err own = {0};
    struct sr_binder b = {.file = file,
                          .arch = arch,
                          .naming = sr_naming_of(file, arch),
                          .arena = arena,
                          .scratch_dir = scratch_dir,
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
    sr_bind_matrix(&b, SR_EMBED, -1, vocab, h->d_model, false, &dec->embed);
    dec->h.n_vocab = (int32_t)dec->embed.N;
    if (h->tied) find(&b, SR_HEAD, -1, ".weight"); /* a copy */
    if (dec->h.tied)
        dec->head = dec->embed;
    else
        sr_bind_matrix(&b, SR_HEAD, -1, dec->embed.N, h->d_model, h->bias & SR_BIAS_HEAD, &dec->head);
    sr_bind_norm(&b, SR_OUT_NORM, -1, h->d_model, &dec->out_norm);
    for (int i = 0; i < h->n_layer && b.err->code == SR_OK; i++) bind_layer(&b, h, i, &dec->layer[i]);
    for (int i = 0; i < h->n_rotation && b.err->code == SR_OK; i++) bind_rope(&b, h, i, dec);
    if (b.err->code == SR_OK) log_extra(&b);
    free(b.used);
    return b.err->code;
}
