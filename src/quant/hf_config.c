/* The texts of a Hugging Face directory that is made of a GGUF file: config.json as the family's class expects it,
 * generation_config.json, tokenizer.json and tokenizer_config.json. arch/hparams.c reads the same keys. Of two
 * spellings the one that older loaders know as well is written. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/json.h"
#include "base/utf8.h"
#include "quant/quant.h"
#include "text/text.h"

static sr_status cannot_say(const sr_quantizer *q, const char *what, sr_err *err) {
    return sr_fail(err, SR_UNSUPPORTED, "%s: config.json of %s cannot say what this model's %s; nothing was written",
                   q->file->path, q->arch->name, what);
}

/* ---------------------------------------------------------------- members of an object */

static void put_key(sr_buffer *b, const char *key) {
    const char last = b->n ? b->at[b->n - 1] : '{';
    sr_buffer_text(b, last == '{' ? "" : ",");
    sr_buffer_text(b, "\n  ");
    sr_buffer_json(b, key, strlen(key));
    sr_buffer_text(b, ": ");
}
static void put_raw(sr_buffer *b, const char *key, const char *text) {
    put_key(b, key);
    sr_buffer_text(b, text);
}
static void put_text(sr_buffer *b, const char *key, const char *text, size_t n) {
    put_key(b, key);
    sr_buffer_json(b, text, n);
}
static void put_word(sr_buffer *b, const char *key, const char *word) {
    put_text(b, key, word, strlen(word));
}
static void put_int(sr_buffer *b, const char *key, int64_t x) {
    put_key(b, key);
    sr_buffer_int(b, x);
}
static void put_bool(sr_buffer *b, const char *key, bool x) {
    put_raw(b, key, x ? "true" : "false");
}
/* The shortest decimal that is read as this float, and as no integer. */
static void put_float(sr_buffer *b, double x) {
    char text[40];
    for (int digits = 6; digits <= 9; digits++) {
        snprintf(text, sizeof text, "%.*g", digits, x);
        if ((float)strtod(text, NULL) == (float)x) break;
    }
    sr_buffer_text(b, text);
    if (!strpbrk(text, ".e")) sr_buffer_text(b, ".0");
}
static void put_real(sr_buffer *b, const char *key, double x) {
    put_key(b, key);
    put_float(b, x);
}
/* A number that came through a division: as it was before, if it was a short one. */
static double short_of(double x) {
    char text[40];
    snprintf(text, sizeof text, "%.6g", x);
    return strtod(text, NULL);
}
static void put_id(sr_buffer *b, const char *key, int32_t id) {
    if (id < 0)
        put_raw(b, key, "null");
    else
        put_int(b, key, id);
}

/* ---------------------------------------------------------------- rotation */

static const sr_part *rope_part(const sr_quantizer *q, sr_role role) {
    char name[SR_NAME];
    const sr_part *p = NULL;
    for (int layer = -1; layer < 1 && !p; layer++)
        if (sr_name_full(&q->naming, role, layer, ".weight", name)) p = sr_file_part(q->file, name);
    return p && strcmp(p->type->name, "f32") == 0 && p->n_elements == q->h.n_rot / 2 ? p : NULL;
}
static float rope_factor(const sr_part *p, int i) {
    float x;
    memcpy(&x, p->data + (size_t)i * sizeof x, sizeof x);
    return x;
}

static bool divides_so(const sr_rotation *t, const sr_part *p, int n_rot) {
    for (int i = 0; i < n_rot / 2; i++) {
        const double want = rope_factor(p, i), got = sr_llama3_divisor(t, i, n_rot);
        if (!(fabs(got - want) <= 1e-5 * want)) return false; /* converters compute frequencies in f32 */
    }
    return true;
}

/* GGUF has what frequencies are divided by, not the four numbers that it was computed of. Only their ratios count, so
 * low is 1; the others are looked for among powers of two and small integers, and must give every divisor again. */
static sr_status find_llama3(sr_quantizer *q, sr_err *err) {
    const sr_part *p = rope_part(q, SR_ROPE_FREQS);
    sr_rotation t = q->h.rotation[0];
    float most = 1;
    char name[SR_NAME];
    if (!p) {
        const bool other = sr_name_full(&q->naming, SR_ROPE_FREQS, -1, ".weight", name) && sr_file_part(q->file, name);
        return other ? cannot_say(q, "rope_freqs.weight means (expected f32, one for two features that rotate)", err)
                     : SR_OK;
    }
    for (int i = 0; i < q->h.n_rot / 2; i++) most = fmaxf(most, rope_factor(p, i));
    if (most == 1) return SR_OK; /* nothing is divided */
    t.scaling = SR_SCALE_LLAMA3;
    t.low = 1;
    for (int f = 1; f <= 128; f++) /* the largest divisor is the factor, where the slowest features reach it */
        for (int high = 2; high <= 32; high++)
            for (int exponent = 4; exponent <= 24; exponent++) {
                t.factor = f == 1 ? most : (float)f;
                t.high = (float)high;
                t.orig_ctx = 1 << exponent;
                if (!divides_so(&t, p, q->h.n_rot)) continue;
                q->h.rotation[0] = t;
                return SR_OK;
            }
    return cannot_say(q, "rope_freqs.weight was computed of (no factors of Llama 3's kind give its numbers)", err);
}

static void put_factors(sr_buffer *b, const char *key, const sr_part *p, int n) {
    put_key(b, key);
    for (int i = 0; i < n; i++) {
        sr_buffer_text(b, i ? ", " : "[");
        put_float(b, rope_factor(p, i));
    }
    sr_buffer_text(b, "]");
}

static bool near(double a, double b) {
    return fabs(a - b) <= 1e-6 * (fabs(a) + fabs(b));
}

static sr_status put_longrope(const sr_quantizer *q, sr_buffer *b, sr_err *err) {
    const sr_rotation *t = &q->h.rotation[0];
    const sr_part *longer = rope_part(q, SR_ROPE_LONG), *shorter = rope_part(q, SR_ROPE_SHORT);
    if (!longer || !shorter)
        return cannot_say(q, "rope_factors_long.weight and ..._short.weight are (expected both in f32)", err);
    put_word(b, "rope_type", "longrope");
    put_word(b, "type", "longrope");
    put_factors(b, "long_factor", longer, q->h.n_rot / 2);
    put_factors(b, "short_factor", shorter, q->h.n_rot / 2);
    const double usual = t->factor > 1 && t->orig_ctx > 1 ? sqrt(1 + log(t->factor) / log(t->orig_ctx)) : 1;
    if (!near(usual, t->mscale[0])) put_real(b, "attention_factor", t->mscale[0]);
    return SR_OK;
}

static void put_yarn(const sr_quantizer *q, sr_buffer *b) {
    const sr_rotation *t = &q->h.rotation[0];
    const double grows = 0.1 * log(t->factor);
    put_word(b, "rope_type", "yarn");
    put_word(b, "type", "yarn");
    put_real(b, "factor", t->factor);
    put_int(b, "original_max_position_embeddings", t->orig_ctx);
    put_real(b, "beta_fast", t->beta_fast);
    put_real(b, "beta_slow", t->beta_slow);
    if (!t->truncate) put_bool(b, "truncate", false);
    if (q->arch->latent && q->h.latent.mscale != 1) { /* equal, as in all that GGUF can hold */
        put_real(b, "mscale", short_of((q->h.latent.mscale - 1) / grows));
        put_real(b, "mscale_all_dim", short_of((q->h.latent.mscale - 1) / grows));
    } else if (!near(grows + 1, t->mscale[0]))
        put_real(b, "attention_factor", t->mscale[0]);
}

/* "rope_theta" and "rope_scaling", which every version reads; what only the new object holds needs that one. */
static sr_status put_rotation(const sr_quantizer *q, sr_buffer *config, sr_err *err) {
    const sr_hparams *h = &q->h;
    const sr_rotation *t = &h->rotation[0];
    sr_status s = SR_OK;
    sr_buffer own = {0}, *b = &own;
    const bool new_object = h->stretch > 0;
    sr_buffer_text(b, "{");
    switch (t->scaling) {
    case SR_SCALE_LINEAR:
        put_word(b, "rope_type", "linear");
        put_word(b, "type", "linear");
        put_real(b, "factor", t->factor);
        break;
    case SR_SCALE_LLAMA3:
        put_word(b, "rope_type", "llama3");
        put_real(b, "factor", t->factor);
        put_real(b, "low_freq_factor", t->low);
        put_real(b, "high_freq_factor", t->high);
        put_int(b, "original_max_position_embeddings", t->orig_ctx);
        break;
    case SR_SCALE_YARN:
        put_yarn(q, b);
        break;
    case SR_SCALE_LONGROPE:
        s = put_longrope(q, b, err);
        break;
    default:
        break;
    }
    if (new_object) {
        if (own.n == 1) put_word(b, "rope_type", "default");
        put_real(b, "rope_theta", t->theta);
        put_real(b, "llama_4_scaling_beta", h->stretch);
    } else
        put_real(config, "rope_theta", t->theta);
    put_key(config, new_object ? "rope_parameters" : "rope_scaling");
    for (size_t i = 0; i < own.n && own.n > 1; i++) { /* one level deeper */
        sr_buffer_add(config, own.at + i, 1);
        if (own.at[i] == '\n') sr_buffer_text(config, "  ");
    }
    sr_buffer_text(config, own.n > 1 ? "\n  }" : "null");
    config->failed = config->failed || own.failed;
    sr_buffer_free(&own);
    if (q->arch->local_rope) put_real(config, "rope_local_base_freq", h->rotation[h->n_rotation - 1].theta);
    if (t->scaling == SR_SCALE_LONGROPE || strcmp(q->arch->name, "phi3") == 0)
        put_int(config, "original_max_position_embeddings", t->orig_ctx);
    if (!q->arch->latent && h->n_rot != h->head_dim)
        put_real(config, "partial_rotary_factor", (double)h->n_rot / h->head_dim);
    return s;
}

/* ---------------------------------------------------------------- layers and experts */

static void put_windows(const sr_quantizer *q, sr_buffer *b) {
    const sr_hparams *h = &q->h;
    int32_t window = 0;
    for (int i = 0; i < h->n_layer; i++) window = h->kind[i].window > window ? h->kind[i].window : window;
    if (!q->arch->window) return;
    put_id(b, "sliding_window", window > 0 ? window : -1);
    if (q->arch->window_period == 0) return;
    if (q->arch->local_rope) put_int(b, "sliding_window_pattern", q->arch->window_period);
    put_key(b, "layer_types");
    for (int i = 0; i < h->n_layer; i++) {
        sr_buffer_text(b, i ? ", " : "[");
        sr_buffer_text(b, h->kind[i].window ? "\"sliding_attention\"" : "\"full_attention\"");
    }
    sr_buffer_text(b, "]");
}

/* Layers that do not rotate. */
static void put_nope(const sr_quantizer *q, sr_buffer *b) {
    if (!q->arch->nope_every) return;
    put_int(b, "no_rope_layer_interval", q->arch->nope_every);
    put_key(b, "no_rope_layers");
    for (int i = 0; i < q->h.n_layer; i++) {
        sr_buffer_text(b, i ? ", " : "[");
        sr_buffer_text(b, q->h.kind[i].rope < 0 ? "0" : "1");
    }
    sr_buffer_text(b, "]");
}

/* DeepSeek's kin say how many of the first layers are dense, Qwen's which ones. */
static void put_dense(const sr_quantizer *q, bool first, sr_buffer *b) {
    const sr_hparams *h = &q->h;
    int n = 0;
    while (n < h->n_layer && !h->kind[n].sparse) n++;
    if (first) {
        put_int(b, "first_k_dense_replace", n);
        return;
    }
    put_int(b, "decoder_sparse_step", 1);
    put_key(b, "mlp_only_layers");
    sr_buffer_text(b, "[");
    for (int i = 0, listed = 0; i < h->n_layer; i++) {
        if (h->kind[i].sparse) continue;
        sr_buffer_text(b, listed++ ? ", " : "");
        sr_buffer_int(b, i);
    }
    sr_buffer_text(b, "]");
}

static void put_experts(const sr_quantizer *q, sr_buffer *b) {
    const sr_hparams *h = &q->h;
    const sr_gating *g = &h->gating;
    if (g->n == 0) return;
    const bool routed = strcmp(q->arch->experts, "n_routed_experts") == 0,
               local = strcmp(q->arch->experts, "num_local_experts") == 0;
    put_int(b, q->arch->experts, g->n);
    put_int(b, q->arch->experts_used ? q->arch->experts_used : "num_experts_per_tok", g->used);
    if (!local) put_int(b, "moe_intermediate_size", h->d_expert);
    if (g->kind == SR_GATE_SOFTMAX || g->kind == SR_GATE_SIGMOID) put_bool(b, "norm_topk_prob", g->norm);
    if (g->kind == SR_GATE_SPARSEMIXER) put_real(b, "router_jitter_noise", g->jitter);
    if (q->arch->shared_share) put_int(b, "shared_expert_intermediate_size", h->d_shared);
    if (q->arch->stacked_experts && h->d_shared) put_int(b, "shared_intermediate_size", h->d_shared);
    if (routed) {
        const bool sigmoid = g->kind == SR_GATE_SIGMOID;
        put_int(b, "n_shared_experts", h->d_expert > 0 ? h->d_shared / h->d_expert : 0);
        put_int(b, "n_group", g->groups);
        put_int(b, "topk_group", g->groups_used);
        put_real(b, "routed_scaling_factor", g->scale);
        put_word(b, "scoring_func", sigmoid ? "sigmoid" : "softmax");
        put_word(b, "topk_method",
                 sigmoid                       ? "noaux_tc"
                 : g->groups_used != g->groups ? "group_limited_greedy"
                                               : "greedy");
    }
    if (!local) put_dense(q, routed, b);
}

static void put_latent(const sr_quantizer *q, sr_buffer *b) {
    const sr_latent *l = &q->h.latent;
    put_int(b, "kv_lora_rank", l->rank);
    put_id(b, "q_lora_rank", l->q_rank > 0 ? l->q_rank : -1);
    put_int(b, "qk_rope_head_dim", q->h.n_rot);
    put_int(b, "qk_nope_head_dim", l->d_nope);
    put_int(b, "v_head_dim", l->d_v);
}

/* ---------------------------------------------------------------- config.json */

/* The class, and what transformers knows it by: the first names of the row that look so. Of text alone, where there is
 * one with pictures as well. */
static void put_names(const sr_quantizer *q, sr_buffer *b) {
    const char *class = NULL, *type = NULL;
    const bool shared = q->arch->stacked_experts && q->h.d_shared > 0; /* Granite's, which has a class of its own */
    for (const char *const *hf = q->arch->hf; *hf; hf++) {
        const bool is_class = strstr(*hf, "ForCausalLM") != NULL, lower = (*hf)[0] >= 'a' && (*hf)[0] <= 'z';
        const bool other = shared && strstr(*hf, is_class ? "Shared" : "shared");
        if (is_class && (!class || other)) class = *hf;
        if (lower && (!type || other)) type = *hf;
    }
    put_key(b, "architectures");
    sr_buffer_text(b, "[");
    sr_buffer_json(b, class ? class : "", class ? strlen(class) : 0);
    sr_buffer_text(b, "]");
    put_word(b, "model_type", type ? type : "");
}

static bool has_bias(const sr_quantizer *q, sr_role role) {
    char name[SR_NAME];
    for (int layer = -1; layer < q->h.n_layer; layer++)
        if (sr_name_full(&q->naming, role, layer, ".bias", name) && sr_file_part(q->file, name)) return true;
    return false;
}

static void put_biases(const sr_quantizer *q, sr_buffer *b) {
    const bool attention = has_bias(q, SR_Q) || has_bias(q, SR_QKV) || has_bias(q, SR_Q_A) || has_bias(q, SR_KV_A);
    if (q->arch->turned_experts) /* gpt-oss's, whose experts have theirs always */
        put_bool(b, "attention_bias", attention);
    else if (q->arch->bias & SR_BIAS_ATTN_OUT) /* Phi-2's and StarCoder's classes have all of them */
        put_bool(b, "use_bias", true);
    else {
        put_bool(b, "attention_bias", attention);
        put_bool(b, "mlp_bias", has_bias(q, SR_UP) || has_bias(q, SR_GATE_UP));
        if (has_bias(q, SR_HEAD)) put_bool(b, "lm_head_bias", true);
    }
    if (q->arch->qk_norm_optional) {
        char name[SR_NAME];
        sr_name_full(&q->naming, SR_Q_NORM, 0, ".weight", name);
        put_bool(b, "use_qk_norm", sr_file_part(q->file, name) != NULL);
    }
}

static void put_activation(const sr_quantizer *q, sr_buffer *b) {
    const char *name = q->h.act == SR_ACT_RELU2 ? "relu2" : q->h.act == SR_ACT_GELU_TANH ? "gelu_pytorch_tanh" : "silu";
    put_word(b, "hidden_act", name);
    if (q->arch->embed_sqrt) put_word(b, "hidden_activation", name);
    if (q->arch->turned_experts) put_real(b, "swiglu_limit", 7); /* arch/gptoss.c knows no other */
}

/* Multipliers, of the families that have them. */
static void put_scales(const sr_quantizer *q, sr_buffer *b) {
    const sr_hparams *h = &q->h;
    const double usual = 1 / sqrt(h->head_dim);
    const bool granite = strncmp(q->arch->name, "granite", 7) == 0;
    const double scalar = short_of(1 / ((double)h->attn_scale * h->attn_scale));
    if (q->arch->post_norms && q->arch->embed_sqrt && scalar == floor(scalar)) /* its class insists on an integer */
        put_int(b, "query_pre_attn_scalar", (int64_t)scalar);
    else if (q->arch->post_norms && q->arch->embed_sqrt)
        put_real(b, "query_pre_attn_scalar", scalar);
    else if (granite || (!q->arch->latent && !near(h->attn_scale, usual)))
        put_real(b, "attention_multiplier", h->attn_scale);
    if (granite) {
        put_real(b, "embedding_multiplier", h->embed_scale);
        put_real(b, "residual_multiplier", h->residual_scale);
        put_real(b, "logits_scaling", short_of(1 / (double)h->logit_scale));
    }
    if (h->attn_cap > 0) put_real(b, "attn_logit_softcapping", h->attn_cap);
    if (h->logit_cap > 0) put_real(b, "final_logit_softcapping", h->logit_cap);
}

/* What the model computes in. Gemma's and gpt-oss's activations leave the range of f16. */
static const char *dtype_of(const sr_quantizer *q) {
    const bool large = q->arch->embed_sqrt || q->arch->turned_experts;
    const char *floats = strcmp(q->floats, "f16") == 0 && large ? "bf16" : q->floats;
    return strcmp(floats, "bf16") == 0 ? "bfloat16" : strcmp(floats, "f16") == 0 ? "float16" : "float32";
}

static sr_status put_config(sr_quantizer *q, int32_t bos, int32_t eos, int32_t pad, sr_err *err) {
    const sr_hparams *h = &q->h;
    sr_buffer *b = &q->text.config;
    const bool local = q->arch->experts && strcmp(q->arch->experts, "num_local_experts") == 0;
    sr_buffer_text(b, "{");
    put_names(q, b);
    put_int(b, "vocab_size", h->n_vocab);
    put_int(b, "hidden_size", h->d_model);
    put_int(b, "intermediate_size", local ? h->d_expert : h->d_ff);
    put_int(b, "num_hidden_layers", h->n_layer);
    put_int(b, "num_attention_heads", h->n_head);
    put_int(b, "num_key_value_heads", q->arch->latent ? h->n_head : h->n_kv_head);
    if (!q->arch->latent) put_int(b, "head_dim", h->head_dim);
    if (q->arch->latent) put_latent(q, b);
    put_int(b, "max_position_embeddings", h->n_ctx_train);
    put_activation(q, b);
    put_real(b, q->arch->hf_eps ? q->arch->hf_eps : "rms_norm_eps", h->eps);
    sr_status s = put_rotation(q, b, err);
    put_windows(q, b);
    put_nope(q, b);
    put_experts(q, b);
    put_biases(q, b);
    put_scales(q, b);
    put_bool(b, "tie_word_embeddings", h->tied);
    put_id(b, "bos_token_id", bos);
    put_id(b, "eos_token_id", eos);
    put_id(b, "pad_token_id", pad);
    put_bool(b, "use_cache", true);
    put_word(b, "torch_dtype", dtype_of(q));
    sr_buffer_text(b, "\n}\n");
    return s;
}

/* ---------------------------------------------------------------- the tokenizer */

static void put_token(const sr_tokenizer *t, const char *key, int32_t id, sr_buffer *b) {
    const char *text = id >= 0 ? sr_token_piece(t, id) : NULL;
    if (text) put_word(b, key, text);
}

/* A text, or a list of named ones. */
static void put_templates(const sr_file *file, sr_buffer *b) {
    const char *text, *tools;
    size_t n, n_tools;
    if (!sr_value_string(file, "tokenizer.chat_template", &text, &n, NULL) || !sr_utf8_valid(text, n)) return;
    if (!sr_value_string(file, "tokenizer.chat_template.tool_use", &tools, &n_tools, NULL) ||
        !sr_utf8_valid(tools, n_tools)) {
        put_text(b, "chat_template", text, n);
        return;
    }
    put_raw(b, "chat_template", "[{\"name\": \"default\", \"template\": ");
    sr_buffer_json(b, text, n);
    sr_buffer_text(b, "}, {\"name\": \"tool_use\", \"template\": ");
    sr_buffer_json(b, tools, n_tools);
    sr_buffer_text(b, "}]");
}

static void put_tokenizer_config(sr_quantizer *q, const sr_tokenizer *t, const sr_json_vocab *v, int32_t pad) {
    sr_buffer *b = &q->text.tokenizer_config;
    sr_buffer_text(b, "{");
    put_word(b, "tokenizer_class", "PreTrainedTokenizerFast");
    put_token(t, "bos_token", v->bos, b);
    put_token(t, "eos_token", v->eos, b);
    put_token(t, "unk_token", v->unk, b);
    put_token(t, "pad_token", pad, b);
    put_bool(b, "add_bos_token", v->add_bos);
    put_bool(b, "add_eos_token", v->add_eos);
    put_int(b, "model_max_length", q->h.n_ctx_train);
    put_bool(b, "clean_up_tokenization_spaces", false);
    put_templates(q->file, b);
    sr_buffer_text(b, "\n}\n");
}

/* All ids that end a generation, the usual one first; one alone is no list. */
static void put_generation(sr_quantizer *q, const sr_tokenizer *t, int32_t bos, int32_t eos, int32_t pad) {
    sr_buffer *b = &q->text.generation, list = {0};
    int listed = 0;
    if (eos >= 0) sr_buffer_int(&list, eos), listed++;
    for (int32_t id = 0; id < sr_tokenizer_n_vocab(t) && id < q->h.n_vocab; id++)
        if (id != eos && sr_tokenizer_is_end(t, id)) {
            sr_buffer_text(&list, listed++ ? ", " : "");
            sr_buffer_int(&list, id);
        }
    sr_buffer_text(b, "{");
    put_id(b, "bos_token_id", bos);
    put_key(b, "eos_token_id");
    sr_buffer_text(b, listed == 1 ? "" : "[");
    sr_buffer_add(b, list.at, list.n);
    sr_buffer_text(b, listed == 1 ? "" : "]");
    b->failed = b->failed || list.failed;
    sr_buffer_free(&list);
    put_id(b, "pad_token_id", pad);
    sr_buffer_text(b, "\n}\n");
}

static sr_status put_tokenizer(sr_quantizer *q, int32_t *bos, int32_t *eos, int32_t *pad, sr_err *err) {
    sr_tokenizer *t = NULL;
    sr_json_vocab v;
    int64_t id = -1;
    sr_status s = sr_tokenizer_create(q->file, &t, err);
    if (s == SR_OK) {
        s = sr_tokenizer_to_json(t, &v, err);
        if (s != SR_OK) {
            const sr_err why = *err;
            *err = (sr_err){0};
            s = sr_fail(err, why.code, "%s: %s; nothing was written", q->file->path, why.msg);
        }
    }
    if (s == SR_OK) {
        if (sr_value_int(q->file, "tokenizer.ggml.padding_token_id", 0, q->h.n_vocab - 1, &id, NULL))
            *pad = (int32_t)id;
        *bos = v.bos, *eos = v.eos;
        q->text.tokenizer = v.text;
        put_tokenizer_config(q, t, &v, *pad);
        put_generation(q, t, *bos, *eos, *pad);
    }
    sr_tokenizer_free(t);
    return s;
}

static bool has_tokenizer(const sr_file *file) {
    const char *model;
    size_t n;
    return sr_value_string(file, "tokenizer.ggml.model", &model, &n, NULL) &&
           !(n == 4 && memcmp(model, "none", 4) == 0);
}

sr_status sr_hf_values(sr_quantizer *q, sr_err *err) {
    int32_t bos = -1, eos = -1, pad = -1;
    sr_file *file = NULL;
    sr_status s = find_llama3(q, err);
    if (s == SR_OK && has_tokenizer(q->file)) s = put_tokenizer(q, &bos, &eos, &pad, err);
    if (s == SR_OK) s = put_config(q, bos, eos, pad, err);
    if (s == SR_OK && (q->text.config.failed || q->text.generation.failed || q->text.tokenizer_config.failed))
        s = sr_fail(err, SR_NOMEM, "no memory for config.json");
    if (s == SR_OK) s = sr_file_from_config(q->text.config.at, q->text.config.n, "config.json", &file, err);
    if (s == SR_OK) s = sr_hf_check(q, file, err);
    sr_file_close(file);
    return s;
}

/* ---------------------------------------------------------------- the check */

/* The same ids for texts with what tokenizers divide in different ways. */
static sr_status compare_tokens(const sr_quantizer *q, const sr_tokenizer *a, const sr_tokenizer *b, sr_err *err) {
    static const char *const texts[] = {
        "Once upon a time, there were 3 dragons; 12345 of them weren't \"na\xc3\xafve\".",
        "  two spaces,\ttabs\t\tand\n\nlines \r\n  \n\n\n    def f(x):\n        return x**2 + 1e-5  # a_b.c\n",
        "I'll they've WE'RE don't Can'T O'Neill HTTPServer camelCase SNAKE_CASE 3.14159 1,000,000 2024-01-01T00:00:00Z",
        "\xe4\xbd\xa0\xe5\xa5\xbd\xef\xbc\x8c\xe4\xb8\x96\xe7\x95\x8c \xe3\x81\x93\xe3\x82\x93\xe3\x81\xab\xe3\x81\xa1"
        "\xe3\x81\xaf \xed\x95\x9c\xea\xb5\xad\xec\x96\xb4 \xd0\x9f\xd1\x80\xd0\xb8\xd0\xb2\xd0\xb5\xd1\x82 "
        "\xd9\x85\xd8\xb1\xd8\xad\xd8\xa8\xd8\xa7 "
        "\xe0\xa4\xa8\xe0\xa4\xae\xe0\xa4\xb8\xe0\xa5\x8d\xe0\xa4\xa4\xe0\xa5\x87",
        "e\xcc\x81 \xf0\x9f\x91\xa9\xe2\x80\x8d\xf0\x9f\x92\xbb \xf0\x9f\x87\xa9\xf0\x9f\x87\xaa "
        "\xe2\x80\x9cquotes\xe2\x80\x9d "
        "\xe2\x80\x94 \xc2\xbd \xe2\x82\xac \xc2\xa0nbsp \xe2\x96\x81lower",
        "aaaaaaaaaaaaaaaaaaaaaaaa ======== ........ !!!!???? <|im_start|><s></s>[INST] <0x0A>",
        "",
        " ",
    };
    const size_t n_texts = sizeof texts / sizeof *texts;
    const char *template;
    size_t n_template = 0;
    sr_status s = SR_OK;
    sr_value_string(q->file, "tokenizer.chat_template", &template, &n_template, NULL);
    for (size_t i = 0; i < n_texts + (n_template > 0) && s == SR_OK; i++) {
        const char *text = i < n_texts ? texts[i] : template;
        const size_t n = i < n_texts ? strlen(text) : n_template, cap = n + 16;
        int32_t *ids = malloc(2 * cap * sizeof *ids);
        size_t n_a, n_b = 0;
        if (!ids) return sr_fail(err, SR_NOMEM, "no memory to compare tokens");
        s = sr_tokenize(a, text, n, 0, ids, cap, &n_a, err);
        if (s == SR_OK) s = sr_tokenize(b, text, n, 0, ids + cap, cap, &n_b, err);
        if (s == SR_OK && (n_a != n_b || memcmp(ids, ids + cap, (n_a < cap ? n_a : cap) * sizeof *ids) != 0))
            s = sr_fail(err, SR_UNSUPPORTED,
                        "%s: tokenizer.json cannot say how its tokenizer divides texts: \"%.40s\" would become other "
                        "tokens; nothing was written",
                        q->file->path, text);
        free(ids);
    }
    return s;
}

static sr_status check_tokenizer(const sr_quantizer *q, const sr_file *file, sr_err *err) {
    sr_tokenizer *a = NULL, *b = NULL;
    sr_status s = sr_tokenizer_create(q->file, &a, err);
    if (s == SR_OK) s = sr_tokenizer_create(file, &b, err);
    if (s == SR_OK) s = compare_tokens(q, a, b, err);
    sr_tokenizer_free(a);
    sr_tokenizer_free(b);
    return s;
}

sr_status sr_hf_check(const sr_quantizer *q, const sr_file *file, sr_err *err) {
    const char *what;
    sr_status s = sr_file_differs(q, file, &what, err);
    if (what) {
        char are[64];
        snprintf(are, sizeof are, "%s are", what);
        s = cannot_say(q, are, err);
    }
    return s == SR_OK && file->tokenizer_name && q->text.tokenizer.n ? check_tokenizer(q, file, err) : s;
}
