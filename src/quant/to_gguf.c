/* From a Hugging Face directory to GGUF: names, the order of rows, norms, metadata and tokenizer, as llama.cpp's
 * converter (convert_hf_to_gguf.py) makes them. What the metadata say is compared with the source once it is written.
 */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "base/path.h"
#include "quant/quant.h"
#include "text/text.h"

enum { T_U32 = 4, T_I32 = 5, T_F32 = 6, T_BOOL = 7, T_STRING = 8, MOST_VALUES = 96 };

/* ---------------------------------------------------------------- values */

static sr_value *add(sr_quantizer *q, const char *key, sr_kind kind, uint8_t stored) {
    static sr_value spare; /* more than there are keys: never */
    char *copy = sr_arena_strndup(&q->arena, key, strlen(key));
    if (q->n_values >= MOST_VALUES || !copy) return &spare;
    q->value[q->n_values] = (sr_value){.key = copy, .kind = kind, .stored = stored};
    return &q->value[q->n_values++];
}
static void add_text(sr_quantizer *q, const char *key, const char *text, size_t n) {
    char *copy = sr_arena_strndup(&q->arena, text, n);
    sr_value *v = add(q, key, SR_KIND_STRING, T_STRING);
    v->v.s.text = copy ? copy : "";
    v->v.s.n = copy ? n : 0;
}
static void add_array(sr_quantizer *q, const char *key, sr_kind kind, uint8_t stored, uint64_t n, const sr_buffer *b) {
    uint8_t *copy = sr_arena_alloc(&q->arena, b->n + 1, 1);
    sr_value *v = add(q, key, SR_KIND_ARRAY, stored);
    if (copy && b->n) memcpy(copy, b->at, b->n);
    v->v.a.data = copy;
    v->v.a.kind = kind;
    v->v.a.n = copy ? n : 0;
    v->v.a.bytes = copy ? b->n : 0;
}
/* A key behind the architecture's name. */
static const char *own(const sr_quantizer *q, const char *key, char out[128]) {
    snprintf(out, 128, "%s.%s", q->arch->gguf_name, key);
    return out;
}
static void add_int(sr_quantizer *q, const char *key, int64_t x) {
    char full[128];
    add(q, own(q, key, full), SR_KIND_U64, T_U32)->v.u = (uint64_t)x;
}
static void add_real(sr_quantizer *q, const char *key, double x) {
    char full[128];
    add(q, own(q, key, full), SR_KIND_F64, T_F32)->v.f = x;
}
static void add_flag(sr_quantizer *q, const char *key, bool x) {
    char full[128];
    add(q, own(q, key, full), SR_KIND_BOOL, T_BOOL)->v.b = x;
}

enum of_layer { HEADS, KV_HEADS, FF };
static int32_t of(const sr_layer_kind *k, enum of_layer what) {
    return what == HEADS ? k->n_head : what == KV_HEADS ? k->n_kv_head : k->d_ff;
}
/* One number, or one for each layer where they differ. */
static void add_by_layer(sr_quantizer *q, const char *key, enum of_layer what) {
    const sr_hparams *h = &q->h;
    bool same = true;
    sr_buffer b = {0};
    char full[128];
    for (int i = 0; i < h->n_layer; i++) {
        same = same && of(&h->kind[i], what) == of(&h->kind[0], what);
        sr_buffer_uint(&b, (uint32_t)of(&h->kind[i], what), 4);
    }
    if (same)
        add_int(q, key, of(&h->kind[0], what));
    else
        add_array(q, own(q, key, full), SR_KIND_I64, T_I32, (uint64_t)h->n_layer, &b);
    sr_buffer_free(&b);
}

static void add_rotation(sr_quantizer *q) {
    const sr_hparams *h = &q->h;
    const sr_rotation *t = &h->rotation[0];
    char full[128];
    add_real(q, "rope.freq_base", t->theta);
    add_int(q, "rope.dimension_count", h->n_rot);
    if (h->n_rotation > 1) add_real(q, "rope.freq_base_swa", h->rotation[1].theta);
    if (t->scaling == SR_SCALE_LINEAR || t->scaling == SR_SCALE_YARN) {
        const bool linear = t->scaling == SR_SCALE_LINEAR;
        add_text(q, own(q, "rope.scaling.type", full), linear ? "linear" : "yarn", linear ? 6 : 4);
        add_real(q, "rope.scaling.factor", t->factor);
        add_int(q, "rope.scaling.original_context_length", t->orig_ctx);
        if (!linear) {
            add_real(q, "rope.scaling.yarn_beta_fast", t->beta_fast);
            add_real(q, "rope.scaling.yarn_beta_slow", t->beta_slow);
            if (q->arch->latent)
                add_real(q, "rope.scaling.yarn_log_multiplier", (h->latent.mscale - 1) / log(t->factor));
            else
                add_real(q, "rope.scaling.yarn_attn_factor", t->mscale[0]);
        }
    }
    if (t->scaling == SR_SCALE_LONGROPE) {
        add_int(q, "rope.scaling.original_context_length", t->orig_ctx);
        add_real(q, "rope.scaling.attn_factor", t->mscale[0]);
    }
}

static void add_experts(sr_quantizer *q) {
    const sr_hparams *h = &q->h;
    const sr_gating *g = &h->gating;
    int dense = 0;
    if (g->n == 0) return;
    add_int(q, "expert_count", g->n);
    add_int(q, "expert_used_count", g->used);
    add_int(q, "expert_feed_forward_length", h->d_expert);
    if (h->d_shared) add_int(q, "expert_shared_feed_forward_length", h->d_shared);
    if (h->d_shared)
        add_int(q, "expert_shared_count",
                h->d_expert > 0 && h->d_shared % h->d_expert == 0 ? h->d_shared / h->d_expert : 1);
    if (g->groups > 1) {
        add_int(q, "expert_group_count", g->groups);
        add_int(q, "expert_group_used_count", g->groups_used);
    }
    if (g->norm || !q->arch->latent) add_flag(q, "expert_weights_norm", g->norm); /* its presence tells V3 from V2 */
    add_real(q, "expert_weights_scale", g->scale);
    if (g->kind == SR_GATE_SOFTMAX || g->kind == SR_GATE_SIGMOID)
        add_int(q, "expert_gating_func", g->kind == SR_GATE_SIGMOID ? 2 : 1);
    while (dense < h->n_layer && !h->kind[dense].sparse) dense++;
    if (dense || q->arch->latent) add_int(q, "leading_dense_block_count", dense);
}

static void add_hparams(sr_quantizer *q) {
    const sr_hparams *h = &q->h;
    add_int(q, "block_count", h->n_layer);
    add_int(q, "context_length", h->n_ctx_train);
    add_int(q, "embedding_length", h->d_model);
    add_int(q, "vocab_size", h->n_vocab);
    add_by_layer(q, "feed_forward_length", FF);
    add_by_layer(q, "attention.head_count", HEADS);
    add_by_layer(q, "attention.head_count_kv", KV_HEADS);
    const sr_latent *l = &h->latent;
    add_int(q, "attention.key_length", q->arch->latent ? l->rank + h->n_rot : h->head_dim);
    add_int(q, "attention.value_length", q->arch->latent ? l->rank : h->head_dim);
    if (q->arch->latent) { /* one key for all heads, of which each makes its own */
        add_int(q, "attention.key_length_mla", h->head_dim);
        add_int(q, "attention.value_length_mla", l->d_v);
        add_int(q, "attention.kv_lora_rank", l->rank);
        if (l->q_rank) add_int(q, "attention.q_lora_rank", l->q_rank);
    }
    add_real(q, q->arch->hf_eps ? "attention.layer_norm_epsilon" : "attention.layer_norm_rms_epsilon", h->eps);
    add_rotation(q);
    add_experts(q);
    int32_t window = 0;
    for (int i = 0; i < h->n_layer; i++) window = h->kind[i].window > window ? h->kind[i].window : window;
    if (q->arch->window) add_int(q, "attention.sliding_window", window);
    if (h->attn_cap > 0) add_real(q, "attn_logit_softcapping", h->attn_cap);
    if (h->logit_cap > 0) add_real(q, "final_logit_softcapping", h->logit_cap);
    if (sr_file_value(q->file, "attention_multiplier")) add_real(q, "attention.scale", h->attn_scale);
    if (sr_file_value(q->file, "embedding_multiplier")) add_real(q, "embedding_scale", h->embed_scale);
    if (sr_file_value(q->file, "residual_multiplier")) add_real(q, "residual_scale", h->residual_scale);
    double scaling;
    if (sr_value_float(q->file, "logits_scaling", &scaling, NULL)) add_real(q, "logit_scale", scaling);
    if (h->stretch > 0) add_real(q, "attention.temperature_scale", h->stretch);
}

static sr_status add_tokenizer(sr_quantizer *q, sr_err *err) {
    sr_tokenizer *t = NULL;
    sr_gguf_vocab v;
    int64_t id;
    if (!q->file->tokenizer_name) {
        add_text(q, "tokenizer.ggml.model", "none", 4);
        return SR_OK;
    }
    sr_status s = sr_tokenizer_create(q->file, &t, err);
    if (s == SR_OK) s = sr_tokenizer_to_gguf(t, q->h.n_vocab, &v, err);
    if (s != SR_OK) {
        sr_tokenizer_free(t);
        return s;
    }
    add_text(q, "tokenizer.ggml.model", v.model, strlen(v.model));
    if (strcmp(v.model, "gpt2") == 0) {
        if (!v.pre)
            sr_log(SR_LOG_WARNING,
                   "%s: GGUF has no name for the way in which this tokenizer splits words: \"default\" is written, and "
                   "texts may become other tokens",
                   q->file->path);
        add_text(q, "tokenizer.ggml.pre", v.pre ? v.pre : "default", v.pre ? v.n_pre : 7);
    } else
        add_text(q, "tokenizer.ggml.pre", "default", 7);
    add_array(q, "tokenizer.ggml.tokens", SR_KIND_STRING, T_STRING, (uint64_t)v.n, &v.tokens);
    add_array(q, "tokenizer.ggml.token_type", SR_KIND_I64, T_I32, (uint64_t)v.n, &v.types);
    if (v.scores.n) add_array(q, "tokenizer.ggml.scores", SR_KIND_F64, T_F32, (uint64_t)v.n, &v.scores);
    if (v.n_merges) add_array(q, "tokenizer.ggml.merges", SR_KIND_STRING, T_STRING, v.n_merges, &v.merges);
    const struct {
        const char *key;
        int32_t id;
    } ids[] = {{"tokenizer.ggml.bos_token_id", v.bos},
               {"tokenizer.ggml.eos_token_id", v.eos},
               {"tokenizer.ggml.unknown_token_id", v.unk}};
    for (int i = 0; i < 3; i++)
        if (ids[i].id >= 0) add(q, ids[i].key, SR_KIND_U64, T_U32)->v.u = (uint64_t)ids[i].id;
    if (sr_value_int(q->file, "pad_token_id", 0, q->h.n_vocab - 1, &id, NULL))
        add(q, "tokenizer.ggml.padding_token_id", SR_KIND_U64, T_U32)->v.u = (uint64_t)id;
    /* Another id that ends a turn: GGUF has a key for one. */
    sr_array ends = sr_array_over(sr_file_value(q->file, "generation_config.eos_token_id"));
    bool has_eot = false;
    while (!has_eot && sr_array_int(&ends, &id))
        if (id != v.eos && id >= 0 && id < q->h.n_vocab) {
            add(q, "tokenizer.ggml.eot_token_id", SR_KIND_U64, T_U32)->v.u = (uint64_t)id;
            has_eot = true;
        }
    add(q, "tokenizer.ggml.add_bos_token", SR_KIND_BOOL, T_BOOL)->v.b = v.add_bos;
    add(q, "tokenizer.ggml.add_eos_token", SR_KIND_BOOL, T_BOOL)->v.b = v.add_eos;
    if (strcmp(v.model, "gpt2") != 0)
        add(q, "tokenizer.ggml.add_space_prefix", SR_KIND_BOOL, T_BOOL)->v.b = v.space_prefix;
    sr_gguf_vocab_free(&v);
    sr_tokenizer_free(t);
    static const char *const templates[] = {"chat_template_jinja", "tokenizer_config.chat_template",
                                            "chat_template_json.chat_template"};
    const char *text;
    size_t n;
    for (int i = 0; i < 3; i++)
        if (sr_value_string(q->file, templates[i], &text, &n, NULL)) {
            add_text(q, "tokenizer.chat_template", text, n);
            break;
        }
    return SR_OK;
}

sr_status sr_gguf_values(sr_quantizer *q, sr_err *err) {
    const char *name = sr_path_base(q->source);
    q->value = sr_arena_alloc(&q->arena, MOST_VALUES, sizeof *q->value);
    if (!q->value) return sr_fail(err, SR_NOMEM, "no memory for metadata");
    add_text(q, "general.architecture", q->arch->gguf_name, strlen(q->arch->gguf_name));
    add_text(q, "general.type", "model", 5);
    add_text(q, "general.name", name, strlen(name));
    add_hparams(q);
    sr_status s = add_tokenizer(q, err);
    if (s != SR_OK) return s;
    add(q, "general.quantization_version", SR_KIND_U64, T_U32)->v.u = 2;
    add(q, "general.file_type", SR_KIND_U64, T_U32)->v.u = (uint64_t)sr_plan_ftype(q);
    return q->n_values < MOST_VALUES ? SR_OK : sr_fail(err, SR_LIMIT, "too many metadata");
}

/* ---------------------------------------------------------------- tensors */

static sr_status cannot(const sr_quantizer *q, const char *what, sr_err *err) {
    return sr_fail(err, SR_UNSUPPORTED, "%s: %s is not converted to GGUF yet (%s)", q->file->path, what, q->arch->name);
}

/* What a head makes keys and values of, in one matrix: two stacks, keys turned around. */
static sr_status add_heads(sr_quantizer *q, const sr_job *j, sr_err *err) {
    const sr_latent *l = &q->h.latent;
    sr_job k = *j;
    k.role = SR_K_B;
    k.stack = q->h.n_head;
    k.turn.n = q->h.n_head;
    k.turn.pitch = l->d_nope + l->d_v;
    k.turn.rows = k.K = l->d_nope;
    k.N = (int64_t)q->h.n_head * l->rank;
    sr_status s = sr_job_add(q, &k, err);
    k = *j;
    k.stack = q->h.n_head;
    return s == SR_OK ? sr_job_add_rows(q, &k, SR_V_B, l->d_nope + l->d_v, l->d_v, l->d_nope, 1, err) : s;
}

/* Features that rotate change from halves to pairs: of all of a head, or of its end. */
static sr_status pair_rows(sr_quantizer *q, sr_job *j, sr_err *err) {
    const bool latent = q->arch->latent;
    if (q->h.rope == q->arch->gguf_rope) return SR_OK;
    if (j->role == SR_QKV) return cannot(q, "a fused matrix of queries", err);
    if (j->role != SR_Q && j->role != SR_K && j->role != SR_Q_B && j->role != SR_KV_A) return SR_OK;
    if (q->h.n_rot != q->h.head_dim && !latent) return cannot(q, "a rotation of a part of each head", err);
    j->head_rows = j->role == SR_KV_A ? (int)j->N : q->h.head_dim;
    j->rot_rows = q->h.n_rot;
    return SR_OK;
}

static sr_status matrix_job(sr_quantizer *q, sr_job *j, sr_err *err) {
    sr_status s = pair_rows(q, j, err);
    if (s != SR_OK) return s;
    sr_turn_stack(q, j);
    if (j->role == SR_EXPERTS_GATE_UP)
        return sr_job_add_halves(q, j, SR_EXPERTS_GATE, SR_EXPERTS_UP, q->h.d_expert, err);
    if (j->role == SR_SHARED_GATE_UP) return sr_job_add_halves(q, j, SR_SHARED_GATE, SR_SHARED_UP, q->h.d_shared, err);
    if (j->role == SR_KV_B) return add_heads(q, j, err);
    if (j->role == SR_K_B || j->role == SR_V_B) j->stack = q->h.n_head;
    return sr_job_add(q, j, err);
}

/* Vectors and routers are f32 there. */
static sr_status vector_job(sr_quantizer *q, sr_job *j, sr_err *err) {
    sr_role role;
    int layer, expert;
    const char *suffix;
    bool known = sr_name_parse(&q->naming, j->module, &role, &layer, &expert, &suffix);
    if (!known && sr_bias_parse(&q->naming, j->module, &role, &layer)) /* of a stack that is a parameter */
        known = true, expert = -1, suffix = ".bias";
    if (!known) {
        if (!strstr(j->module, "inv_freq")) sr_log(SR_LOG_WARNING, "%s: GGUF has no place for it: left out", j->module);
        return SR_OK;
    }
    if (expert >= 0) return cannot(q, j->module, err);
    if (suffix[0] && strcmp(suffix, ".weight") && strcmp(suffix, ".bias")) return SR_OK; /* of how it was packed */
    const bool plain = sr_format_by_name(j->copy->type->name) && sr_format_by_name(j->copy->type->name)->block == 1;
    if (!plain) return cannot(q, j->module, err);
    j->as = "f32";
    j->role = role;
    j->layer = layer;
    sr_status s = pair_rows(q, j, err);
    if (s != SR_OK) return s;
    if (role == SR_EXPERTS_GATE_UP) return sr_job_add_halves(q, j, SR_EXPERTS_GATE, SR_EXPERTS_UP, q->h.d_expert, err);
    j->plus1 = sr_is_norm(role) && q->arch->norm_plus1 && strcmp(suffix, ".weight") == 0;
    j->module = sr_job_name(q, role, layer, -1, suffix, err);
    if (!j->module) return err->code;
    q->job[q->n_jobs++] = *j;
    return SR_OK;
}

/* What rotates how fast, where GGUF has a tensor for it. */
static sr_status rotation_jobs(sr_quantizer *q, sr_err *err) {
    const sr_rotation *t = &q->h.rotation[0];
    const int half = q->h.n_rot / 2;
    const bool llama3 = t->scaling == SR_SCALE_LLAMA3, longrope = t->scaling == SR_SCALE_LONGROPE;
    for (int i = 0; i < (llama3 ? 1 : longrope ? 2 : 0); i++) {
        static const char *const names[] = {"rope_freqs.weight", "rope_factors_long.weight",
                                            "rope_factors_short.weight"};
        float *made = sr_arena_alloc(&q->arena, (size_t)half, sizeof *made);
        sr_part *part = sr_arena_small(&q->arena, 1, sizeof *part);
        if (!made || !part) return sr_fail(err, SR_NOMEM, "no memory for a plan");
        sr_array a = sr_array_over(i ? t->short_factor : t->long_factor);
        for (int f = 0; f < half; f++) {
            double x = 1;
            if (llama3)
                x = sr_llama3_divisor(t, f, q->h.n_rot);
            else
                sr_array_float(&a, &x);
            made[f] = (float)x;
        }
        *part = (sr_part){.name = names[llama3 ? 0 : 1 + i],
                          .type = sr_stored_by_name("f32"),
                          .n_dims = 1,
                          .shape = {half},
                          .n_elements = half,
                          .data = (const uint8_t *)made,
                          .bytes = half * (int64_t)sizeof *made};
        sr_job *j = &q->job[q->n_jobs++];
        *j = (sr_job){.module = (char *)(uintptr_t)part->name, .copy = part, .layer = -1, .error = -1};
    }
    return SR_OK;
}

sr_status sr_gguf_jobs(sr_quantizer *q, sr_err *err) {
    if (!q->arch->gguf_name) return cannot(q, "this family", err);
    sr_status s = sr_stack_experts(q, err);
    if (s != SR_OK) return s;
    const int n = q->n_jobs;
    sr_job *from = q->job,
           *to = sr_arena_alloc(&q->arena, 2 * (size_t)n + 2, sizeof *to); /* two of one; two made ones */
    if (!to) return sr_fail(err, SR_NOMEM, "no memory for a plan");
    q->job = to;
    q->n_jobs = 0;
    for (int i = 0; i < n && s == SR_OK; i++)
        if (from[i].n_from == 0)
            s = vector_job(q, &from[i], err);
        else if (from[i].role != SR_HEAD || !q->h.tied)
            s = matrix_job(q, &from[i], err);
    return s == SR_OK ? rotation_jobs(q, err) : s;
}

/* ---------------------------------------------------------------- the check */

sr_status sr_gguf_check(const sr_quantizer *q, const sr_file *file, sr_err *err) {
    const char *what;
    sr_status s = sr_file_differs(q, file, &what, err);
    if (what)
        s = sr_fail(err, SR_UNSUPPORTED, "%s: GGUF's metadata cannot say what this model's %s are; nothing was written",
                    q->file->path, what);
    return s;
}
