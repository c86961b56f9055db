/* From a checkpoint's metadata and tensors to a bound decoder: hostile numbers, missing and misshapen tensors, and what
 * families refuse. Numbers in brackets are the attack cases that docs/security.md lists. Every file is a good tiny
 * model with one thing changed, in both containers. */
#include "arch/arch.h"
#include "draft.h"

#include <math.h>

#define TINY SR_SOURCE_DIR "/tests/vectors/tiny/"
enum { DIR_BYTES = 800 };

static char warning[512];

static void keep_warning(void *user, sr_log_level level, const char *line) {
    (void)user;
    if (level == SR_LOG_WARNING && !warning[0]) snprintf(warning, sizeof warning, "%s", line);
}

/* Opens for running; on success also closes. */
static sr_status try_model(const char *path, sr_err *err) {
    sr_engine *engine;
    sr_model *model;
    sr_engine_options options = {.threads = 1, .batch = 8};
    *err = (sr_err){0};
    warning[0] = 0;
    assert_int_equal(sr_engine_create(&options, &engine, err), SR_OK);
    sr_status s = sr_model_open(engine, path, NULL, &model, err);
    assert_true((s == SR_OK) == (model != NULL));
    sr_model_close(model);
    sr_engine_free(engine);
    return s;
}

static void refuse(const char *what, const char *path, sr_status want, const char *word, const char *also) {
    sr_err err;
    sr_status got = try_model(path, &err);
    char base[64];
    snprintf(base, sizeof base, "%s", strrchr(path, '/') + 1);
    check_error(what, got, &err, want, base, word, also ? also : "", NULL);
}

static void accept_model(const char *what, const char *path) {
    sr_err err;
    if (try_model(path, &err) != SR_OK) fail_msg("%s: %s", what, err.msg);
}

/* ---------------------------------------------------------------- GGUF keys */

/* A value of a key in tiny/llama.gguf, and the words of the message; no words: it opens. */
struct gguf_case {
    const char *key;
    uint32_t type; /* G_ARRAY: value and second are its i32 elements */
    double value, second;
    sr_status want;
    const char *word, *also;
};

static void check_gguf(const char *dir, const struct gguf_case *cases, size_t n) {
    const char *path = in(dir, "m.gguf");
    for (size_t i = 0; i < n; i++) {
        const struct gguf_case *c = &cases[i];
        struct draft d = draft_of(TINY "llama.gguf");
        char what[128];
        snprintf(what, sizeof what, "%s = %g of type %u", c->key, c->value, c->type);
        if (c->type == G_F32)
            draft_f32(&d, c->key, (float)c->value);
        else if (c->type == G_U64)
            draft_int(&d, c->key, G_U64, (uint64_t)c->value, 8);
        else if (c->type == G_ARRAY)
            draft_ints(&d, c->key, 2, (const int32_t[]){(int32_t)c->value, (int32_t)c->second});
        else if (c->type == G_STRING)
            draft_text(&d, c->key, "4");
        else if (c->type == G_BOOL)
            draft_int(&d, c->key, G_BOOL, 1, 1);
        else
            draft_int(&d, c->key, c->type, (uint64_t)(int64_t)c->value, 4);
        draft_write_gguf(&d, path);
        if (c->want == SR_OK)
            accept_model(what, path);
        else
            refuse(what, path, c->want, c->word ? c->word : c->key, c->also);
        draft_close(&d);
    }
}
#define CHECK_GGUF(dir, cases) check_gguf(dir, cases, sizeof(cases) / sizeof *(cases))

#define NANF ((double)NAN)
#define INFF ((double)INFINITY)

static void gguf_block_count_stays_in_its_range(void **state) { /* [6] */
    static const struct gguf_case cases[] = {
        {"llama.block_count", G_U32, 0, 0, SR_CORRUPT, NULL, "found 0"},
        {"llama.block_count", G_I32, -1, 0, SR_CORRUPT, NULL, "found -1"},
        {"llama.block_count", G_U32, 1025, 0, SR_CORRUPT, NULL, "1 to 1024"},
        {"llama.block_count", G_U32, 4294967295.0, 0, SR_CORRUPT, NULL, "4294967295"},
        {"llama.block_count", G_U64, 0x1p63, 0, SR_CORRUPT, NULL, "9223372036854775808"},
        {"llama.block_count", G_U32, 3, 0, SR_CORRUPT, "blk.2.attn_norm.weight", "missing"},
        {"llama.block_count", G_U32, 1024, 0, SR_CORRUPT, "blk.2.attn_norm.weight", "missing"},
        {"llama.block_count", G_F32, 2.5, 0, SR_CORRUPT, NULL, "2.5"},
        {"llama.block_count", G_F32, NANF, 0, SR_CORRUPT, NULL, "whole number"},
        {"llama.block_count", G_BOOL, 1, 0, SR_CORRUPT, NULL, "found true"},
        {"llama.block_count", G_STRING, 0, 0, SR_CORRUPT, NULL, "the text"},
        {"llama.block_count", G_F32, 2, 0, SR_OK, NULL, NULL},
        {"llama.block_count", G_U64, 2, 0, SR_OK, NULL, NULL},
    };
    CHECK_GGUF(*state, cases);
}

static void gguf_head_counts_divide(void **state) { /* [6] */
    static const struct gguf_case cases[] = {
        {"llama.attention.head_count", G_U32, 0, 0, SR_CORRUPT, NULL, "found 0"},
        {"llama.attention.head_count", G_I32, -4, 0, SR_CORRUPT, NULL, "found -4"},
        {"llama.attention.head_count", G_U32, 4097, 0, SR_CORRUPT, NULL, "4097"},
        {"llama.attention.head_count", G_U32, 3, 0, SR_CORRUPT, "llama.attention.head_count_kv", "multiple"},
        {"llama.attention.head_count", G_U32, 6, 0, SR_CORRUPT, "blk.0.attn_q", "shape"},
        {"llama.attention.head_count_kv", G_U32, 0, 0, SR_CORRUPT, NULL, "found 0"},
        {"llama.attention.head_count_kv", G_U32, 3, 0, SR_CORRUPT, NULL, "multiple"},
        {"llama.attention.head_count_kv", G_U32, 8, 0, SR_CORRUPT, NULL, "multiple"},
        {"llama.attention.head_count_kv", G_U32, 4, 0, SR_CORRUPT, "blk.0.attn_k", "shape"},
        {"llama.attention.head_count_kv", G_STRING, 0, 0, SR_CORRUPT, NULL, "the text"},
        {"llama.attention.head_count_kv", G_BOOL, 0, 0, SR_CORRUPT, NULL, "true"},
    };
    CHECK_GGUF(*state, cases);
}

static void gguf_head_size_and_rotation_are_even_and_fit(void **state) { /* [6] */
    static const struct gguf_case cases[] = {
        {"llama.attention.key_length", G_U32, 0, 0, SR_CORRUPT, NULL, "found 0"},
        {"llama.attention.key_length", G_U32, 15, 0, SR_CORRUPT, NULL, "even"},
        {"llama.attention.key_length", G_U32, 5000, 0, SR_CORRUPT, NULL, "5000"},
        {"llama.attention.key_length", G_U32, 32, 0, SR_UNSUPPORTED, NULL, "llama.attention.value_length"},
        {"llama.attention.value_length", G_U32, 8, 0, SR_UNSUPPORTED, NULL, "key_length"},
        {"llama.attention.value_length", G_F32, 0.5, 0, SR_CORRUPT, NULL, "0.5"},
        {"llama.rope.dimension_count", G_U32, 0, 0, SR_CORRUPT, NULL, "found 0"},
        {"llama.rope.dimension_count", G_U32, 7, 0, SR_CORRUPT, NULL, "even"},
        {"llama.rope.dimension_count", G_U32, 18, 0, SR_CORRUPT, NULL, "2 to 16"},
        {"llama.rope.dimension_count", G_I32, -2, 0, SR_CORRUPT, NULL, "found -2"},
        {"llama.rope.dimension_count", G_U32, 8, 0, SR_CORRUPT, "rope_freqs.weight", "expected 4"},
    };
    CHECK_GGUF(*state, cases);
}

static void gguf_widths_stay_in_their_range(void **state) { /* [6] */
    static const struct gguf_case cases[] = {
        {"llama.embedding_length", G_U32, 0, 0, SR_CORRUPT, NULL, "found 0"},
        {"llama.embedding_length", G_U32, 1 << 21, 0, SR_CORRUPT, NULL, "2097152"},
        {"llama.embedding_length", G_U32, 128, 0, SR_CORRUPT, "token_embd", "[384, 64]"},
        {"llama.feed_forward_length", G_U32, 0, 0, SR_CORRUPT, NULL, "found 0"},
        {"llama.feed_forward_length", G_U32, 4294967295.0, 0, SR_CORRUPT, NULL, "4294967295"},
        {"llama.feed_forward_length", G_U32, 161, 0, SR_CORRUPT, "blk.0.ffn_gate", "[160, 64]"},
        {"llama.vocab_size", G_U32, 0, 0, SR_CORRUPT, NULL, "found 0"},
        {"llama.vocab_size", G_I32, -1, 0, SR_CORRUPT, NULL, "found -1"},
        {"llama.vocab_size", G_U32, 385, 0, SR_CORRUPT, "token_embd", "[385, 64]"},
        {"llama.vocab_size", G_U32, 383, 0, SR_CORRUPT, "token_embd", "[384, 64]"},
        {"llama.vocab_size", G_U32, 1 << 25, 0, SR_CORRUPT, NULL, "33554432"},
    };
    CHECK_GGUF(*state, cases);
}

static void gguf_context_and_window_stay_in_their_range(void **state) { /* [6] */
    static const struct gguf_case cases[] = {
        {"llama.context_length", G_U32, 0, 0, SR_CORRUPT, NULL, "found 0"},
        {"llama.context_length", G_U32, 0x1p31, 0, SR_CORRUPT, NULL, "2147483648"},
        {"llama.context_length", G_U64, 0x1p40, 0, SR_CORRUPT, NULL, "1099511627776"},
        {"llama.context_length", G_U32, 0x1p31 - 1, 0, SR_OK, NULL, NULL},
        {"llama.attention.sliding_window", G_I32, -1, 0, SR_CORRUPT, NULL, "found -1"},
        {"llama.attention.sliding_window", G_STRING, 0, 0, SR_CORRUPT, NULL, "the text"},
        {"llama.attention.sliding_window", G_ARRAY, 4, 4, SR_CORRUPT, NULL, "an array"},
        {"llama.attention.sliding_window", G_U64, 0x1p40, 0, SR_OK, NULL, NULL},
        {"llama.attention.sliding_window", G_U32, 4, 0, SR_OK, NULL, NULL},
    };
    CHECK_GGUF(*state, cases);
}

static void gguf_fractions_are_finite_and_in_range(void **state) { /* [6] */
    static const struct gguf_case cases[] = {
        {"llama.attention.layer_norm_rms_epsilon", G_F32, NANF, 0, SR_CORRUPT, NULL, "finite"},
        {"llama.attention.layer_norm_rms_epsilon", G_F32, INFF, 0, SR_CORRUPT, NULL, "finite"},
        {"llama.attention.layer_norm_rms_epsilon", G_F32, 0, 0, SR_CORRUPT, NULL, "found 0"},
        {"llama.attention.layer_norm_rms_epsilon", G_F32, -1e-5, 0, SR_CORRUPT, NULL, "found -1e-05"},
        {"llama.attention.layer_norm_rms_epsilon", G_F32, 1, 0, SR_CORRUPT, NULL, "found 1"},
        {"llama.attention.layer_norm_rms_epsilon", G_STRING, 0, 0, SR_CORRUPT, NULL, "the text"},
        {"llama.attention.layer_norm_rms_epsilon", G_BOOL, 0, 0, SR_CORRUPT, NULL, "true"},
        {"llama.rope.freq_base", G_F32, NANF, 0, SR_CORRUPT, NULL, "finite"},
        {"llama.rope.freq_base", G_F32, 0, 0, SR_CORRUPT, NULL, "found 0"},
        {"llama.rope.freq_base", G_F32, -10000, 0, SR_CORRUPT, NULL, "found -10000"},
        {"llama.rope.freq_base", G_F32, 1e30, 0, SR_CORRUPT, NULL, "found 1e+30"},
        {"llama.rope.freq_base", G_ARRAY, 1, 2, SR_CORRUPT, NULL, "an array"},
        {"llama.rope.freq_base", G_U32, 500000, 0, SR_OK, NULL, NULL},
        {"llama.rope.scaling.factor", G_F32, 0, 0, SR_CORRUPT, NULL, "found 0"},
        {"llama.rope.scaling.factor", G_F32, NANF, 0, SR_CORRUPT, NULL, "finite"},
        {"llama.rope.scale_linear", G_F32, -2, 0, SR_CORRUPT, NULL, "found -2"},
    };
    CHECK_GGUF(*state, cases);
}

static void gguf_arrays_by_layer_are_checked_layer_by_layer(void **state) { /* [5] [6] */
    static const struct gguf_case cases[] = {
        {"llama.attention.head_count_kv", G_ARRAY, 2, 2, SR_OK, NULL, NULL},
        {"llama.attention.head_count_kv", G_ARRAY, 2, 1, SR_CORRUPT, "blk.1.attn_k.weight", "expected [16, 64]"},
        {"llama.attention.head_count", G_ARRAY, 4, 0, SR_CORRUPT, NULL, "found 0"},
        {"llama.attention.head_count", G_ARRAY, 4, 3, SR_CORRUPT, "llama.attention.head_count_kv", "multiple"},
        {"llama.feed_forward_length", G_ARRAY, 160, 160, SR_OK, NULL, NULL},
        {"llama.feed_forward_length", G_ARRAY, -1, -1, SR_CORRUPT, NULL, "found -1"},
    };
    CHECK_GGUF(*state, cases);

    /* Elements that are no integers, the first or a later one, and no elements at all. */
    const char *path = in(*state, "m.gguf"), *key = "llama.attention.head_count_kv";
    struct draft d = draft_of(TINY "llama.gguf");
    struct bytes *raw = draft_value(&d, key, G_ARRAY);
    put_int(raw, G_F32, 4);
    put_int(raw, 2, 8);
    put_zeros(raw, 8);
    draft_write_gguf(&d, path);
    refuse("floats", path, SR_CORRUPT, key, "expected an integer");
    raw = draft_value(&d, key, G_ARRAY);
    put_int(raw, G_U64, 4);
    put_int(raw, 2, 8);
    put_int(raw, 2, 8);
    put_int(raw, UINT64_MAX, 8);
    draft_write_gguf(&d, path);
    refuse("a second element above 63 bits", path, SR_CORRUPT, key, "expected an integer");
    raw = draft_value(&d, key, G_ARRAY);
    put_int(raw, G_U32, 4);
    put_int(raw, 0, 8);
    draft_write_gguf(&d, path);
    refuse("empty", path, SR_CORRUPT, key, "expected an integer");
    draft_close(&d);
}

static void gguf_names_a_missing_key(void **state) { /* [6] */
    static const char *const required[] = {"llama.block_count",
                                           "llama.embedding_length",
                                           "llama.attention.head_count",
                                           "llama.feed_forward_length",
                                           "llama.context_length",
                                           "llama.attention.layer_norm_rms_epsilon",
                                           NULL};
    static const char *const optional[] = {"llama.vocab_size", "llama.attention.key_length",
                                           "llama.attention.value_length", "llama.rope.dimension_count", NULL};
    const char *path = in(*state, "m.gguf");
    for (int k = 0; required[k]; k++) {
        struct draft d = draft_of(TINY "llama.gguf");
        draft_drop_value(&d, required[k]);
        draft_write_gguf(&d, path);
        refuse(required[k], path, SR_CORRUPT, required[k], "missing");
        draft_close(&d);
    }
    struct draft d = draft_of(TINY "llama.gguf");
    for (int k = 0; optional[k]; k++) draft_drop_value(&d, optional[k]);
    draft_write_gguf(&d, path);
    accept_model("without the optional keys", path);
    draft_close(&d);
}

static void gguf_names_what_it_does_not_run(void **state) {
    static const struct {
        const char *from, *key, *text; /* a text, or NULL for the u32 8 */
        sr_status want;
        const char *word, *also;
    } cases[] = {
        {"llama", "general.architecture", "mamba", SR_UNSUPPORTED, "'mamba'", "docs/models.md"},
        {"llama", "general.architecture", "", SR_UNSUPPORTED, "''", "general.architecture"},
        {"llama", "general.architecture", NULL, SR_CORRUPT, "general.architecture", NULL},
        {"llama", "llama.rope.scaling.type", "dynamic", SR_UNSUPPORTED, "'dynamic'", "llama.rope.scaling.type"},
        {"llama", "llama.rope.scaling.type", "longrope", SR_CORRUPT, "rope_factors_short.weight", "missing"},
        {"llama", "llama.rope.dimension_sections", NULL, SR_UNSUPPORTED, "dimension_sections", "sections"},
        {"llama", "llama.attention.max_alibi_bias", NULL, SR_UNSUPPORTED, "max_alibi_bias", "scores"},
        {"llama", "llama.attention.clamp_kqv", NULL, SR_UNSUPPORTED, "clamp_kqv", "clamped"},
        {"llama", "llama.rope.scaling.type", NULL, SR_CORRUPT, "llama.rope.scaling.type", "a text"},
        {"llama", "llama.expert_count", NULL, SR_CORRUPT, "llama.expert_used_count", "missing"},
        {"llama", "llama.expert_count", "8", SR_CORRUPT, "llama.expert_count", "the text"},
        {"qwen2", "qwen2.attention.sliding_window", NULL, SR_UNSUPPORTED, "qwen2.attention.sliding_window", NULL},
        {"qwen3", "qwen3.expert_count", NULL, SR_UNSUPPORTED, "qwen3.expert_count", NULL},
    };
    const char *path = in(*state, "m.gguf");
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char from[256];
        snprintf(from, sizeof from, TINY "%s.gguf", cases[i].from);
        struct draft d = draft_of(from);
        if (cases[i].text)
            draft_text(&d, cases[i].key, cases[i].text);
        else
            draft_int(&d, cases[i].key, G_U32, 8, 4);
        draft_write_gguf(&d, path);
        refuse(cases[i].key, path, cases[i].want, cases[i].word, cases[i].also);
        draft_close(&d);
    }
    struct draft d = draft_of(TINY "llama.gguf");
    draft_drop_value(&d, "general.architecture");
    draft_write_gguf(&d, path);
    refuse("no architecture", path, SR_CORRUPT, "general.architecture", "expected");
    draft_close(&d);
    d = draft_of(TINY "phi3.gguf");
    draft_reshape(&d, "rope_factors_long.weight", "f32", 8, 0);
    draft_write_gguf(&d, path);
    refuse("the long factors alone", path, SR_CORRUPT, "rope_factors_short.weight", "missing");
    draft_reshape(&d, "rope_factors_short.weight", "f32", 7, 0);
    draft_write_gguf(&d, path);
    refuse("too few factors", path, SR_CORRUPT, "rope_factors_short.weight", "expected 8");
    draft_reshape(&d, "rope_factors_short.weight", "f32", 8, 0);
    draft_write_gguf(&d, path);
    refuse("factors of zero", path, SR_CORRUPT, "longrope", "zero");
    draft_close(&d);
    d = draft_of(TINY "llama.gguf");
    draft_int(&d, "llama.attention.causal", G_BOOL, 0, 1);
    draft_write_gguf(&d, path);
    refuse("not causal", path, SR_UNSUPPORTED, "llama.attention.causal", "false");
    draft_close(&d);
}

/* ---------------------------------------------------------------- config.json */

/* A directory m/ with the tensors of tiny/<family> and a config of these fields over the good ones. `change` is
 * "key": value pairs, or a key alone to leave it out. */
struct field {
    const char *key, *json;
};
static const struct field llama_config[] = {
    {"architectures", "[\"LlamaForCausalLM\"]"},
    {"model_type", "\"llama\""},
    {"head_dim", "16"},
    {"hidden_size", "64"},
    {"intermediate_size", "160"},
    {"max_position_embeddings", "128"},
    {"num_attention_heads", "4"},
    {"num_hidden_layers", "2"},
    {"num_key_value_heads", "2"},
    {"rms_norm_eps", "1e-05"},
    {"rope_theta", "10000.0"},
    {"tie_word_embeddings", "false"},
    {"vocab_size", "384"},
    {NULL, NULL},
};
static const struct field qwen2_config[] = {
    {"architectures", "[\"Qwen2ForCausalLM\"]"},
    {"model_type", "\"qwen2\""},
    {"hidden_size", "96"},
    {"intermediate_size", "160"},
    {"max_position_embeddings", "128"},
    {"num_attention_heads", "6"},
    {"num_hidden_layers", "2"},
    {"num_key_value_heads", "2"},
    {"rms_norm_eps", "1e-06"},
    {"rope_theta", "1000000.0"},
    {"sliding_window", "null"},
    {"tie_word_embeddings", "true"},
    {"use_sliding_window", "false"},
    {"vocab_size", "256"},
    {NULL, NULL},
};
static const struct field mistral_config[] = {
    {"architectures", "[\"MistralForCausalLM\"]"},
    {"model_type", "\"mistral\""},
    {"head_dim", "48"},
    {"hidden_size", "64"},
    {"intermediate_size", "128"},
    {"max_position_embeddings", "128"},
    {"num_attention_heads", "4"},
    {"num_hidden_layers", "2"},
    {"num_key_value_heads", "2"},
    {"rms_norm_eps", "1e-05"},
    {"rope_parameters", "{\"rope_theta\": 10000.0, \"rope_type\": \"default\"}"},
    {"sliding_window", "16"},
    {"tie_word_embeddings", "false"},
    {"vocab_size", "256"},
    {NULL, NULL},
};

/* json NULL: the key is left out. */
static void write_config(const char *dir, const struct field *base, const char *key, const char *json) {
    struct bytes b = {0};
    char text[512];
    bool done = false;
    for (const struct field *f = base; f->key; f++) {
        bool this = strcmp(f->key, key) == 0;
        done = done || this;
        const char *value = this ? json : f->json;
        if (!value) continue;
        snprintf(text, sizeof text, "%s\"%s\":%s", b.n ? "," : "{", f->key, value);
        put(&b, text, strlen(text));
    }
    if (!done && json) {
        snprintf(text, sizeof text, ",\"%s\":%s", key, json);
        put(&b, text, strlen(text));
    }
    put(&b, "}", 1);
    write_file(in(dir, "config.json"), b.data, b.n);
    drop(&b);
}

/* scratch/name, a new directory. */
static void make_dir(const char *scratch, const char *name, char dir[DIR_BYTES]) {
    snprintf(dir, DIR_BYTES, "%s/%s", scratch, name);
    assert_int_equal(mkdir(dir, 0700), 0);
}

static void make_model_dir(const char *scratch, const char *family, char dir[DIR_BYTES]) {
    char target[512];
    make_dir(scratch, family, dir);
    snprintf(target, sizeof target, TINY "%s/model.safetensors", family);
    assert_int_equal(symlink(target, in(dir, "model.safetensors")), 0);
}

struct config_case {
    const char *key, *json;
    sr_status want;
    const char *word, *also; /* word NULL: the key */
};

static void check_configs(const char *scratch, const char *family, const struct field *base,
                          const struct config_case *cases, size_t n) {
    char dir[DIR_BYTES];
    make_model_dir(scratch, family, dir);
    for (size_t i = 0; i < n; i++) {
        const struct config_case *c = &cases[i];
        char what[256];
        snprintf(what, sizeof what, "\"%s\": %s", c->key, c->json ? c->json : "(absent)");
        write_config(dir, base, c->key, c->json);
        if (c->want == SR_OK)
            accept_model(what, dir);
        else
            refuse(what, dir, c->want, c->word ? c->word : c->key, c->also);
    }
}

static void config_numbers_stay_in_their_range(void **state) { /* [6] */
    static const struct config_case cases[] = {
        {"none", NULL, SR_OK, NULL, NULL},
        {"num_hidden_layers", "0", SR_CORRUPT, NULL, "found 0"},
        {"num_hidden_layers", "-1", SR_CORRUPT, NULL, "found -1"},
        {"num_hidden_layers", "1025", SR_CORRUPT, NULL, "1025"},
        {"num_hidden_layers", "3", SR_CORRUPT, "model.layers.2.input_layernorm.weight", "missing"},
        {"num_hidden_layers", "2.5", SR_CORRUPT, NULL, "2.5"},
        {"num_hidden_layers", "\"2\"", SR_CORRUPT, NULL, "the text"},
        {"num_hidden_layers", "true", SR_CORRUPT, NULL, "true"},
        {"num_hidden_layers", "NaN", SR_CORRUPT, NULL, "nan"},
        {"num_hidden_layers", "1e999", SR_CORRUPT, NULL, "whole number"},
        {"num_hidden_layers", "null", SR_CORRUPT, NULL, "missing"},
        {"num_hidden_layers", "{\"a\": 2}", SR_CORRUPT, NULL, "missing"},
        {"num_hidden_layers", "18446744073709551617", SR_CORRUPT, NULL, "whole number"},
        {"num_hidden_layers", NULL, SR_CORRUPT, NULL, "missing"},
        {"hidden_size", NULL, SR_CORRUPT, NULL, "missing"},
        {"hidden_size", "0", SR_CORRUPT, NULL, "found 0"},
        {"hidden_size", "65", SR_CORRUPT, "model.embed_tokens", "[384, 65]"},
        {"intermediate_size", NULL, SR_CORRUPT, NULL, "missing"},
        {"intermediate_size", "0", SR_CORRUPT, NULL, "found 0"},
        {"intermediate_size", "[160, 160]", SR_OK, NULL, NULL},
        {"intermediate_size", "[160, 80]", SR_CORRUPT, "model.layers.1.mlp.gate_proj", "expected [80, 64]"},
        {"intermediate_size", "[160]", SR_CORRUPT, NULL, "each of 2 layers"},
        {"intermediate_size", "[]", SR_CORRUPT, NULL, "expected an integer"},
        {"intermediate_size", "[\"a\"]", SR_CORRUPT, NULL, "expected an integer"},
        {"num_attention_heads", NULL, SR_CORRUPT, NULL, "missing"},
        {"num_attention_heads", "0", SR_CORRUPT, NULL, "found 0"},
        {"num_attention_heads", "5", SR_CORRUPT, "num_key_value_heads", "multiple"},
        {"num_key_value_heads", "0", SR_CORRUPT, NULL, "found 0"},
        {"num_key_value_heads", "3", SR_CORRUPT, NULL, "multiple"},
        {"num_key_value_heads", "8", SR_CORRUPT, NULL, "multiple"},
        {"num_key_value_heads", "NaN", SR_CORRUPT, NULL, "nan"},
        {"num_key_value_heads", "\"2\"", SR_CORRUPT, NULL, "the text"},
        {"num_key_value_heads", "false", SR_CORRUPT, NULL, "false"},
        {"num_key_value_heads", NULL, SR_CORRUPT, "model.layers.0.self_attn.k_proj", "[32, 64]"},
        {"head_dim", "0", SR_CORRUPT, NULL, "found 0"},
        {"head_dim", "15", SR_CORRUPT, NULL, "even"},
        {"head_dim", "4098", SR_CORRUPT, NULL, "4098"},
        {"head_dim", "\"16\"", SR_CORRUPT, NULL, "the text"},
        {"head_dim", NULL, SR_OK, NULL, NULL},
        {"partial_rotary_factor", "0", SR_CORRUPT, NULL, "found 0"},
        {"partial_rotary_factor", "1.5", SR_CORRUPT, NULL, "found 1.5"},
        {"partial_rotary_factor", "NaN", SR_CORRUPT, NULL, "finite"},
        {"partial_rotary_factor", "0.2", SR_CORRUPT, NULL, "even"},
        {"partial_rotary_factor", "0.5", SR_OK, NULL, NULL},
        {"max_position_embeddings", NULL, SR_CORRUPT, NULL, "missing"},
        {"max_position_embeddings", "0", SR_CORRUPT, NULL, "found 0"},
        {"max_position_embeddings", "2147483648", SR_CORRUPT, NULL, "2147483648"},
        {"max_position_embeddings", "1099511627776", SR_CORRUPT, NULL, "1099511627776"},
        {"max_position_embeddings", "2147483647", SR_OK, NULL, NULL},
        {"rms_norm_eps", "0", SR_CORRUPT, NULL, "found 0"},
        {"rms_norm_eps", "-1e-5", SR_CORRUPT, NULL, "found -1e-05"},
        {"rms_norm_eps", "NaN", SR_CORRUPT, NULL, "finite"},
        {"rms_norm_eps", "Infinity", SR_CORRUPT, NULL, "finite"},
        {"rms_norm_eps", "1e999", SR_CORRUPT, NULL, "finite"},
        {"rms_norm_eps", "\"1e-5\"", SR_CORRUPT, NULL, "the text"},
        {"rms_norm_eps", NULL, SR_CORRUPT, NULL, "missing"},
        {"rope_theta", "0", SR_CORRUPT, NULL, "found 0"},
        {"rope_theta", "-1", SR_CORRUPT, NULL, "found -1"},
        {"rope_theta", "NaN", SR_CORRUPT, NULL, "finite"},
        {"rope_theta", "-Infinity", SR_CORRUPT, NULL, "finite"},
        {"rope_theta", "[10000]", SR_CORRUPT, NULL, "an array"},
        {"vocab_size", "0", SR_CORRUPT, NULL, "found 0"},
        {"vocab_size", "-384", SR_CORRUPT, NULL, "found -384"},
        {"vocab_size", "400", SR_CORRUPT, "model.embed_tokens", "[384, 64]"},
        {"vocab_size", "4294967680", SR_CORRUPT, NULL, "4294967680"},
        {"vocab_size", NULL, SR_OK, NULL, NULL},
        {"sliding_window", "-1", SR_OK, NULL, NULL}, /* Llama has none */
    };
    check_configs(*state, "llama", llama_config, cases, sizeof cases / sizeof *cases);
}

static void config_rotation_scaling_is_understood_or_refused(void **state) { /* [6] */
    static const struct config_case cases[] = {
        {"rope_scaling", "{\"type\": \"ntk\", \"factor\": 4}", SR_UNSUPPORTED, "'ntk'", "rope_scaling.type"},
        {"rope_scaling", "{\"type\": \"yarn\", \"factor\": 4}", SR_OK, NULL, NULL},
        {"rope_scaling", "{\"type\": \"yarn\", \"factor\": 0}", SR_CORRUPT, "rope_scaling.factor", "found 0"},
        {"rope_scaling", "{\"type\": \"yarn\", \"factor\": 4, \"beta_fast\": 1, \"beta_slow\": 1}", SR_CORRUPT,
         "rope_scaling.beta_fast", "more than"},
        {"rope_scaling", "{\"type\": \"yarn\", \"factor\": 4, \"beta_fast\": NaN}", SR_CORRUPT, "beta_fast", "finite"},
        {"rope_scaling", "{\"type\": \"yarn\", \"factor\": 4, \"truncate\": 1}", SR_CORRUPT, "truncate",
         "true or false"},
        {"rope_scaling", "{\"type\": \"yarn\", \"factor\": 4, \"mscale\": -1}", SR_CORRUPT, "mscale", "found -1"},
        {"rope_scaling", "{\"rope_type\": \"dynamic\", \"factor\": 4}", SR_OK, NULL, NULL},
        {"rope_scaling", "{\"rope_type\": \"dynamic\"}", SR_CORRUPT, "rope_scaling.factor", "missing"},
        {"rope_scaling", "{\"rope_type\": \"dynamic\", \"alpha\": 0}", SR_CORRUPT, "rope_scaling.alpha", "found 0"},
        {"rope_scaling", "{\"rope_type\": \"longrope\"}", SR_CORRUPT, "rope_scaling.short_factor", "missing"},
        {"rope_scaling", "{\"type\": \"su\", \"short_factor\": [1, 1], \"long_factor\": [1]}", SR_CORRUPT,
         "rope_scaling.short_factor", "expected 8"},
        {"rope_scaling", "{\"type\": \"su\", \"short_factor\": [1,1,1,1,1,1,1,1], \"long_factor\": [1,1,1,1,1,1,1,0]}",
         SR_CORRUPT, "longrope", "zero"},
        {"rope_scaling",
         "{\"type\": \"su\", \"short_factor\": [1,1,1,1,1,1,1,1], \"long_factor\": [1,1,1,1,1,1,1,Infinity]}",
         SR_CORRUPT, "long_factor", "finite"},
        {"rope_scaling", "{\"type\": \"default\", \"mrope_section\": [2, 3, 3]}", SR_UNSUPPORTED,
         "rope_scaling.mrope_section", "sections"},
        {"rope_scaling", "{\"rope_type\": 7}", SR_CORRUPT, "rope_scaling.rope_type", "a text"},
        {"rope_scaling", "{\"type\": \"linear\", \"factor\": 0}", SR_CORRUPT, "rope_scaling.factor", "found 0"},
        {"rope_scaling", "{\"type\": \"linear\", \"factor\": NaN}", SR_CORRUPT, "rope_scaling.factor", "finite"},
        {"rope_scaling", "{\"type\": \"linear\", \"factor\": \"4\"}", SR_CORRUPT, "rope_scaling.factor", "the text"},
        {"rope_scaling", "{\"type\": \"linear\", \"factor\": 4}", SR_OK, NULL, NULL},
        {"rope_scaling", "{\"type\": \"linear\"}", SR_CORRUPT, "rope_scaling.factor", "missing"},
        {"rope_scaling", "{\"rope_type\": \"llama3\", \"factor\": 8}", SR_CORRUPT, "low_freq_factor", "missing"},
        {"rope_scaling", "{\"rope_type\": \"llama3\", \"factor\": 8, \"low_freq_factor\": 1, \"high_freq_factor\": 4}",
         SR_CORRUPT, "original_max_position_embeddings", "missing"},
        {"rope_scaling",
         "{\"rope_type\": \"llama3\", \"factor\": 8, \"low_freq_factor\": 1, \"high_freq_factor\": 4, "
         "\"original_max_position_embeddings\": 32}",
         SR_OK, NULL, NULL},
        {"rope_scaling",
         "{\"rope_type\": \"llama3\", \"factor\": 8, \"low_freq_factor\": 4, \"high_freq_factor\": 4, "
         "\"original_max_position_embeddings\": 32}",
         SR_CORRUPT, "rope_scaling.high_freq_factor", "more than"},
        {"rope_scaling", "{\"rope_type\": \"llama3\", \"factor\": 8, \"low_freq_factor\": 0}", SR_CORRUPT,
         "rope_scaling.low_freq_factor", "found 0"},
        {"rope_scaling", "{\"rope_type\": \"llama3\", \"factor\": 8, \"original_max_position_embeddings\": 0}",
         SR_CORRUPT, "rope_scaling.original_max_position_embeddings", "found 0"},
        {"rope_scaling", "\"linear\"", SR_CORRUPT, NULL, "an object"},
        {"rope_scaling", "4", SR_CORRUPT, NULL, "an object"},
        {"rope_scaling", "[4]", SR_CORRUPT, NULL, "an object"},
        {"rope_scaling", "{}", SR_OK, NULL, NULL},
        {"rope_scaling", "null", SR_OK, NULL, NULL},
        {"rope_parameters", "{\"rope_type\": \"ntk\", \"factor\": 4}", SR_UNSUPPORTED, "'ntk'",
         "rope_parameters.rope_type"},
        {"rope_parameters", "{\"rope_theta\": -1}", SR_CORRUPT, "rope_parameters.rope_theta", "found -1"},
        {"rope_parameters", "7", SR_CORRUPT, NULL, "an object"},
    };
    check_configs(*state, "llama", llama_config, cases, sizeof cases / sizeof *cases);
}

static void config_names_what_it_does_not_run(void **state) {
    static const struct config_case llama[] = {
        {"architectures", "[\"MambaForCausalLM\"]", SR_UNSUPPORTED, "'MambaForCausalLM'", "docs/models.md"},
        {"hidden_act", "\"gelu\"", SR_UNSUPPORTED, NULL, "'gelu'"},
        {"hidden_act", "7", SR_CORRUPT, NULL, "a text"},
        {"hidden_act", "\"relu2\"", SR_OK, NULL, NULL},
        {"attention_bias", "true", SR_CORRUPT, "self_attn.q_proj.bias", "missing"},
        {"mlp_bias", "true", SR_CORRUPT, "mlp.gate_proj.bias", "missing"},
        {"attention_bias", "1", SR_CORRUPT, NULL, "true or false"},
        {"is_causal", "false", SR_UNSUPPORTED, NULL, "false"},
        {"layer_types", "[\"full_attention\", \"sliding_attention\"]", SR_UNSUPPORTED, NULL, "at 1"},
        {"layer_types", "[\"full_attention\", \"full_attention\"]", SR_OK, NULL, NULL},
        {"use_bidirectional_attention", "true", SR_UNSUPPORTED, NULL, "later tokens"},
        {"architectures", "[]", SR_CORRUPT, NULL, "expected"},
        {"architectures", "[7]", SR_CORRUPT, NULL, "expected"},
        {"architectures", "\"LlamaForCausalLM\"", SR_UNSUPPORTED, "'LlamaForCausalLM'", NULL},
        {"architectures", "{}", SR_OK, NULL, NULL}, /* then model_type counts */
        {"architectures", NULL, SR_OK, NULL, NULL},
        {"num_local_experts", "8", SR_UNSUPPORTED, NULL, "llama"},
        {"num_local_experts", "NaN", SR_UNSUPPORTED, NULL, "llama"},
        {"num_local_experts", "0", SR_OK, NULL, NULL},
        {"num_local_experts", "null", SR_OK, NULL, NULL},
    };
    static const struct config_case qwen2[] = {
        {"none", NULL, SR_OK, NULL, NULL},
        {"use_sliding_window", "true", SR_UNSUPPORTED, NULL, "qwen2"},
        {"use_sliding_window", "1", SR_UNSUPPORTED, NULL, "qwen2"},
        {"use_sliding_window", "\"no\"", SR_UNSUPPORTED, NULL, "qwen2"},
        {"num_experts", "4", SR_UNSUPPORTED, NULL, "qwen2"},
        {"num_attention_heads", "7", SR_CORRUPT, "num_key_value_heads", "multiple"},
        {"num_attention_heads", "36", SR_CORRUPT, "model.layers.0.self_attn", "shape"},
        {"num_attention_heads", "98", SR_CORRUPT, "head", "even"}, /* 96 / 98 is 0 */
    };
    static const struct config_case mistral[] = {
        {"none", NULL, SR_OK, NULL, NULL},
        {"sliding_window", "-1", SR_CORRUPT, NULL, "found -1"},
        {"sliding_window", "1.5", SR_CORRUPT, NULL, "1.5"},
        {"sliding_window", "\"16\"", SR_CORRUPT, NULL, "the text"},
        {"sliding_window", "[16]", SR_CORRUPT, NULL, "an array"},
        {"sliding_window", "NaN", SR_CORRUPT, NULL, "nan"},
        {"sliding_window", "1099511627776", SR_OK, NULL, NULL},
        {"sliding_window", "null", SR_OK, NULL, NULL},
        {"architectures", NULL, SR_OK, NULL, NULL},
    };
    check_configs(*state, "llama", llama_config, llama, sizeof llama / sizeof *llama);
    check_configs(*state, "qwen2", qwen2_config, qwen2, sizeof qwen2 / sizeof *qwen2);
    check_configs(*state, "mistral", mistral_config, mistral, sizeof mistral / sizeof *mistral);
    char dir[DIR_BYTES];
    snprintf(dir, sizeof dir, "%s/llama", (const char *)*state);
    write_text(in(dir, "config.json"), "{\"hidden_size\": 64}");
    refuse("no architecture", dir, SR_CORRUPT, "model_type", "expected");
}

/* ---------------------------------------------------------------- families' own rules */

/* Hyper-parameters of a file, whose weights are not looked at. */
static sr_status read_hparams(const char *path, sr_arena *arena, sr_hparams *h, sr_err *err) {
    sr_file *file;
    const sr_arch *arch;
    *err = (sr_err){0};
    if (sr_file_open(path, NULL, &file, err) != SR_OK) fail_msg("%s", err->msg);
    if (sr_arch_find(file, &arch, err) != SR_OK) fail_msg("%s", err->msg);
    sr_status s = sr_arch_read(file, arch, arena, h, err);
    sr_file_close(file);
    return s;
}

static void gemma_of_27b_scales_by_its_width(void **state) {
    static const struct {
        const char *from, *key;
        uint32_t layers;
        float scale;
    } cases[] = {
        {"gemma2", "gemma2.block_count", 46, 8},
        {"gemma2", "gemma2.block_count", 42, 16},
        {"gemma3", "gemma3.block_count", 62, 8},
        {"gemma3", "gemma3.block_count", 48, 16},
    };
    const char *path = in(*state, "m.gguf");
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char from[256];
        snprintf(from, sizeof from, TINY "%s.gguf", cases[i].from);
        struct draft d = draft_of(from);
        sr_arena arena = {0};
        sr_hparams h;
        sr_err err;
        draft_int(&d, cases[i].key, G_U32, cases[i].layers, 4);
        draft_write_gguf(&d, path);
        assert_int_equal(read_hparams(path, &arena, &h, &err), SR_OK);
        assert_true(h.attn_scale == 1 / sqrtf(cases[i].scale));
        sr_arena_free(&arena);
        draft_close(&d);
    }
}

static void layers_that_predict_further_tokens_are_left_out(void **state) {
    const char *path = in(*state, "m.gguf");
    struct draft d = draft_of(TINY "llama.gguf");
    draft_int(&d, "llama.block_count", G_U32, 3, 4);
    draft_int(&d, "llama.nextn_predict_layers", G_U32, 1, 4);
    draft_write_gguf(&d, path);
    accept_model("two layers and one ahead", path);
    draft_int(&d, "llama.nextn_predict_layers", G_U32, 3, 4);
    draft_write_gguf(&d, path);
    refuse("only ahead", path, SR_CORRUPT, "llama.nextn_predict_layers", "fewer than the 3 layers");
    draft_close(&d);
}

/* One letter a layer: f full, s sliding. */
static void check_windows(const char *path, const char *want, int32_t window) {
    sr_arena arena = {0};
    sr_hparams h;
    sr_err err;
    if (read_hparams(path, &arena, &h, &err) != SR_OK) fail_msg("%s", err.msg);
    for (int i = 0; i < h.n_layer; i++) {
        assert_int_equal(h.kind[i].window, want[i] == 's' ? window : 0);
        assert_int_equal(h.kind[i].rope, want[i] == 's' && h.n_rotation > 1 ? 1 : 0);
    }
    sr_arena_free(&arena);
}

static void windows_follow_the_pattern_of_layers(void **state) {
    const char *path = in(*state, "m.gguf"), *key = "gemma3.attention.sliding_window_pattern";
    struct draft d = draft_of(TINY "gemma3.gguf");
    check_windows(TINY "gemma3.gguf", "sssssfs", 8);
    check_windows(TINY "gemma3", "sssssfs", 8);
    check_windows(TINY "gemma3_mm", "sssssf", 8);
    check_windows(TINY "gemma2", "sfs", 8);
    check_windows(TINY "mistral", "ss", 16);
    draft_int(&d, key, G_U32, 2, 4);
    draft_write_gguf(&d, path);
    check_windows(path, "sfsfsfs", 8);
    struct bytes *raw = draft_value(&d, key, G_ARRAY);
    put_int(raw, G_BOOL, 4);
    put_int(raw, 7, 8);
    put(raw, "\0\1\0\0\1\1\0", 7);
    draft_write_gguf(&d, path);
    check_windows(path, "fsffssf", 8);
    draft_drop_value(&d, "gemma3.attention.sliding_window");
    draft_write_gguf(&d, path);
    check_windows(path, "fffffff", 0);
    draft_close(&d);
}

static void layers_without_rotation_follow_list_or_period(void **state) {
    static const struct {
        const char *more, *want; /* r: rotates, n: does not */
    } cases[] = {
        {"", "rrrnr"},
        {",\"no_rope_layer_interval\":2", "rnrnr"},
        {",\"no_rope_layer_interval\":2,\"no_rope_layers\":[0,1,1,0,1]", "nrrnr"},
    };
    char dir[DIR_BYTES];
    make_dir(*state, "m", dir);
    assert_int_equal(symlink(TINY "smollm3/model.safetensors", in(dir, "model.safetensors")), 0);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char text[512];
        sr_arena arena = {0};
        sr_hparams h;
        sr_err err;
        snprintf(text, sizeof text,
                 "{\"architectures\":[\"SmolLM3ForCausalLM\"],\"hidden_size\":32,\"num_hidden_layers\":5,"
                 "\"num_attention_heads\":4,\"intermediate_size\":48,\"max_position_embeddings\":128,"
                 "\"rms_norm_eps\":1e-6%s}",
                 cases[i].more);
        write_text(in(dir, "config.json"), text);
        if (read_hparams(dir, &arena, &h, &err) != SR_OK) fail_msg("%s", err.msg);
        for (int k = 0; k < 5; k++) assert_int_equal(h.kind[k].rope, cases[i].want[k] == 'r' ? 0 : -1);
        sr_arena_free(&arena);
    }
}

static void an_unknown_family_is_told_by_what_it_has_of_its_own(void **state) {
    const char *path = in(*state, "m.gguf");
    struct draft d = draft_of(TINY "llama.gguf");
    static char keys[DRAFT_VALUES][64];
    for (int i = 0; i < d.n_values; i++) {
        if (strncmp(d.value[i].key, "llama.", 6) != 0) continue;
        snprintf(keys[i], sizeof keys[i], "falcon.%s", d.value[i].key + 6);
        d.value[i].key = keys[i];
    }
    draft_text(&d, "general.architecture", "falcon");
    draft_int(&d, "falcon.ssm.conv_kernel", G_U32, 4, 4);
    draft_int(&d, "falcon.ssm.state_size", G_U32, 4, 4);
    draft_reshape(&d, "blk.0.ssm_a", "f32", 4, 0);
    draft_reshape(&d, "blk.1.ssm_a", "f32", 4, 0);
    draft_reshape(&d, "blk.1.ssm_conv1d.weight", "f32", 4, 4);
    draft_write_gguf(&d, path);
    sr_err err;
    check_error("falcon", try_model(path, &err), &err, SR_UNSUPPORTED, "'falcon'",
                "key falcon.ssm.conv_kernel and 1 more,", "tensor blk.0.ssm_a and 2 more", NULL);
    draft_close(&d);

    char dir[DIR_BYTES];
    make_dir(*state, "m", dir);
    d = draft_of(TINY "llama/model.safetensors");
    draft_reshape(&d, "model.layers.0.mixer.A_log", "f32", 4, 0);
    draft_write_safetensors(&d, in(dir, "model.safetensors"));
    write_config(dir, llama_config, "architectures", "[\"FalconForCausalLM\"]");
    check_error("Falcon", try_model(dir, &err), &err, SR_UNSUPPORTED, "'FalconForCausalLM'",
                "tensor model.layers.0.mixer.A_log", NULL);
    assert_null(strstr(err.msg, "key "));
    draft_close(&d);
}

static float one_logit(const char *path);

static void the_text_model_is_found_wherever_it_lies(void **state) {
    static const struct {
        const char *body, *head;
    } places[] = {{"model.", ""}, {"model.language_model.", ""}, {"model.text_model.", ""}};
    char dir[DIR_BYTES];
    make_dir(*state, "m", dir);
    assert_int_equal(symlink(TINY "mistral3_mm/config.json", in(dir, "config.json")), 0);
    struct draft d = draft_of(TINY "mistral3_mm/model.safetensors");
    const float want = one_logit(TINY "mistral3_mm");
    for (int p = 0; p < 3; p++) {
        struct draft other = d;
        static char names[DRAFT_PARTS][128];
        for (int i = 0; i < d.n_parts; i++) {
            const char *name = d.part[i].name;
            const char *body = strstr(name, "language_model.model."), *head = strstr(name, "language_model.lm_head");
            if (body)
                snprintf(names[i], 128, "%s%s", places[p].body, body + strlen("language_model.model."));
            else if (head)
                snprintf(names[i], 128, "%s%s", places[p].head, head + strlen("language_model."));
            if (body || head) other.part[i].name = names[i];
        }
        draft_write_safetensors(&other, in(dir, "model.safetensors"));
        assert_true(one_logit(dir) == want);
        assert_null(strstr(warning, "language_model"));
    }
    draft_close(&d);
}

static void nested_configs_name_their_keys_and_have_defaults(void **state) {
    static const struct {
        const char *text, *word, *also;
    } cases[] = {
        {"\"num_hidden_layers\": 0, \"intermediate_size\": 48", "text_config.num_hidden_layers", "found 0"},
        {"\"num_hidden_layers\": 6", "text_config.intermediate_size", "missing"},
        {"\"num_hidden_layers\": 6, \"intermediate_size\": 48, \"sliding_window\": -1", "text_config.sliding_window",
         "found -1"},
        /* eight heads of 256 features, as the class has when its config is silent */
        {"\"num_hidden_layers\": 6, \"intermediate_size\": 48", "layers.0.self_attn.q_proj", "expected [2048, 32]"},
        {"\"num_hidden_layers\": 6, \"intermediate_size\": 48, \"num_attention_heads\": 4, \"head_dim\": 16, "
         "\"num_key_value_heads\": 4",
         "layers.0.self_attn.k_proj", "expected [64, 32]"},
    };
    char dir[DIR_BYTES];
    make_dir(*state, "m", dir);
    assert_int_equal(symlink(TINY "gemma3_mm/model.safetensors", in(dir, "model.safetensors")), 0);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char text[512];
        snprintf(
            text, sizeof text,
            "{\"architectures\": [\"Gemma3ForConditionalGeneration\"], \"text_config\": {\"hidden_size\": 32, %s}}",
            cases[i].text);
        write_text(in(dir, "config.json"), text);
        refuse(cases[i].text, dir, SR_CORRUPT, cases[i].word, cases[i].also);
    }
}

/* Hostile numbers of the keys that llama has none of. */
static void scales_and_caps_stay_in_their_range(void **state) { /* [6] */
    static const struct {
        const char *family, *key;
        float value;
        const char *also;
    } cases[] = {
        {"granite", "granite.attention.scale", 0, "found 0"},
        {"granite", "granite.embedding_scale", NAN, "finite"},
        {"granite", "granite.residual_scale", -1, "found -1"},
        {"granite", "granite.logit_scale", 0, "found 0"},
        {"granite", "granite.logit_scale", INFINITY, "finite"},
        {"gemma2", "gemma2.attn_logit_softcapping", -1, "found -1"},
        {"gemma2", "gemma2.final_logit_softcapping", NAN, "finite"},
        {"gemma3", "gemma3.rope.freq_base_swa", 0, "found 0"},
        {"mistral3", "mistral3.attention.temperature_scale", -1, "found -1"},
        {"mistral3", "mistral3.rope.scaling.yarn_log_multiplier", INFINITY, "finite"},
        {"mistral3", "mistral3.rope.scaling.yarn_beta_fast", 0.5f, "more than"},
        {"mistral3", "mistral3.rope.scaling.original_context_length", 0, "found 0"},
        {"phi3_longrope", "phi3.rope.scaling.attn_factor", 0, "found 0"},
        {"phi2", "phi2.attention.layer_norm_epsilon", 0, "found 0"},
    };
    const char *path = in(*state, "m.gguf");
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char from[256];
        snprintf(from, sizeof from, TINY "%s.gguf", cases[i].family);
        struct draft d = draft_of(from);
        draft_f32(&d, cases[i].key, cases[i].value);
        draft_write_gguf(&d, path);
        refuse(cases[i].key, path, SR_CORRUPT, cases[i].key, cases[i].also);
        draft_close(&d);
    }
    struct draft d = draft_of(TINY "llama_yarn.gguf");
    draft_f32(&d, "llama.rope.scaling.yarn_ext_factor", 0.5f);
    draft_write_gguf(&d, path);
    refuse("half a blend", path, SR_UNSUPPORTED, "yarn_ext_factor", "0.5");
    draft_close(&d);
}

/* ---------------------------------------------------------------- tensors */

static void every_missing_tensor_is_named(void **state) {
    static const char *const families[] = {
        "llama",         "qwen2",      "qwen3",       "phi3",          "gemma2",
        "phi2",          "starcoder2", "glm4",        "hunyuan_dense", "mixtral",
        "granitemoe",    "qwen2_moe",  "deepseek_v2", "deepseek_v3",   "granitemoe_shared",
        "gpt_oss_whole", NULL};
    for (int f = 0; families[f]; f++)
        for (int gguf = 0; gguf < 2; gguf++) {
            char from[256], config[256], dir[DIR_BYTES];
            const char *path;
            snprintf(from, sizeof from, gguf ? TINY "%s.gguf" : TINY "%s/model.safetensors", families[f]);
            snprintf(config, sizeof config, TINY "%s/config.json", families[f]);
            if (gguf) {
                path = in(*state, "m.gguf");
            } else {
                make_dir(*state, families[f], dir);
                assert_int_equal(symlink(config, in(dir, "config.json")), 0);
                path = dir;
            }
            struct draft d = draft_of(from);
            for (int i = 0; i < d.n_parts; i++) {
                const char *name = d.part[i].name;
                /* optional ones, and names of the first layer stand for the second */
                if (strcmp(name, "rope_freqs.weight") == 0 || strstr(name, "blk.1.") || strstr(name, "layers.1.") ||
                    strstr(name, "exp_probs_b") || strstr(name, "e_score_correction_bias"))
                    continue;
                if (gguf && strcmp(families[f], "glm4") == 0 && strstr(name, ".bias")) continue; /* not every GLM-4 */
                if (strstr(name, "attn_k_b.")) continue;             /* then both may be in one */
                bool tied_head = strcmp(name, "output.weight") == 0; /* GGUF ties by leaving it out */
                d.part[i].name = NULL;
                if (gguf)
                    draft_write_gguf(&d, path);
                else
                    draft_write_safetensors(&d, in(dir, "model.safetensors"));
                if (tied_head)
                    accept_model(name, path);
                else
                    refuse(name, path, SR_CORRUPT, name, "missing");
                d.part[i].name = name;
            }
            draft_close(&d);
        }
}

/* A number of a key in tiny/FROM.gguf. */
struct number_case {
    const char *from, *key;
    uint32_t type;
    double value;
    sr_status want;
    const char *word, *also;
};

static void check_numbers(const char *dir, const struct number_case *cases, size_t n) {
    const char *path = in(dir, "m.gguf");
    for (size_t i = 0; i < n; i++) {
        char from[256];
        snprintf(from, sizeof from, TINY "%s.gguf", cases[i].from);
        struct draft d = draft_of(from);
        if (cases[i].type == G_F32)
            draft_f32(&d, cases[i].key, (float)cases[i].value);
        else
            draft_int(&d, cases[i].key, cases[i].type, (uint64_t)(int64_t)cases[i].value, 4);
        draft_write_gguf(&d, path);
        if (cases[i].want == SR_OK)
            accept_model(cases[i].key, path);
        else
            refuse(cases[i].key, path, cases[i].want, cases[i].word, cases[i].also);
        draft_close(&d);
    }
}

/* Numbers of experts and of a token's against each other and the tensors. */
static void mixtures_are_checked_before_they_route(void **state) { /* [6] */
    static const struct number_case cases[] = {
        {"mixtral", "llama.expert_count", G_U32, 1025, SR_CORRUPT, "llama.expert_count", "1 to 1024"},
        {"mixtral", "llama.expert_count", G_I32, -1, SR_CORRUPT, "llama.expert_count", "found -1"},
        {"mixtral", "llama.expert_count", G_F32, NANF, SR_CORRUPT, "llama.expert_count", "whole number"},
        {"mixtral", "llama.expert_count", G_U32, 5, SR_CORRUPT, "blk.0.ffn_gate_inp", "expected [5, 32]"},
        {"mixtral", "llama.expert_count", G_U32, 3, SR_CORRUPT, "blk.0.ffn_gate_inp", "expected [3, 32]"},
        {"mixtral", "llama.expert_count", G_U32, 1, SR_CORRUPT, "llama.expert_used_count", "found 2"},
        {"mixtral", "llama.expert_count", G_U32, 0, SR_CORRUPT, "blk.0.ffn_gate.weight", "missing"}, /* a Llama */
        {"mixtral", "llama.expert_used_count", G_U32, 0, SR_CORRUPT, "llama.expert_used_count", "1 to 1024"},
        {"mixtral", "llama.expert_used_count", G_U32, 5, SR_CORRUPT, "llama.expert_used_count", "at most the 4"},
        {"mixtral", "llama.expert_used_count", G_U32, 4, SR_OK, NULL, NULL},
        {"mixtral", "llama.expert_feed_forward_length", G_U32, 0, SR_CORRUPT, "llama.expert_feed_forward_length",
         "found 0"},
        {"mixtral", "llama.expert_feed_forward_length", G_U32, 12, SR_CORRUPT, "blk.0.ffn_gate_exps", "shape"},
        {"mixtral", "llama.expert_group_count", G_U32, 3, SR_CORRUPT, "llama.expert_group_count", "divides 4"},
        {"mixtral", "llama.expert_group_count", G_U32, 0, SR_CORRUPT, "llama.expert_group_count", "found 0"},
        {"mixtral", "llama.expert_group_count", G_U32, 4, SR_CORRUPT, "llama.expert_group_used_count", "1 of 4"},
        {"mixtral", "llama.expert_group_count", G_U32, 2, SR_OK, NULL, NULL},
        {"mixtral", "llama.expert_group_used_count", G_U32, 2, SR_CORRUPT, "llama.expert_group_used_count", "2 of 1"},
        {"mixtral", "llama.expert_weights_scale", G_F32, -1, SR_CORRUPT, "llama.expert_weights_scale", "found -1"},
        {"mixtral", "llama.leading_dense_block_count", G_U32, 1, SR_CORRUPT, "blk.0.ffn_gate.weight", "missing"},
        {"qwen2_moe", "qwen2moe.expert_shared_feed_forward_length", G_U32, 23, SR_CORRUPT, "blk.0.ffn_gate_shexp",
         "expected [23, 32]"},
        {"qwen2_moe", "qwen2moe.expert_shared_count", G_U32, 2000, SR_CORRUPT, "qwen2moe.expert_shared_count", "0 to"},
    };
    check_numbers(*state, cases, sizeof cases / sizeof *cases);
}

/* Shapes of latent attention, as old converters write them (V2) and as new ones do. */
static void latents_are_checked_before_they_attend(void **state) { /* [6] */
    static const char rank[] = "deepseek2.attention.kv_lora_rank", q_rank[] = "deepseek2.attention.q_lora_rank",
                      rot[] = "deepseek2.rope.dimension_count", head[] = "deepseek2.attention.key_length_mla",
                      value[] = "deepseek2.attention.value_length_mla", old_head[] = "deepseek2.attention.key_length",
                      gate[] = "deepseek2.expert_gating_func";
    static const struct number_case cases[] = {
        {"deepseek_v3", rank, G_U32, 0, SR_CORRUPT, rank, "found 0"},
        {"deepseek_v3", rank, G_U32, 4097, SR_CORRUPT, rank, "1 to 4096"},
        {"deepseek_v3", rank, G_U32, 23, SR_CORRUPT, "blk.0.attn_kv_a_mqa", "expected [31, 32]"},
        {"deepseek_v3", q_rank, G_I32, -1, SR_CORRUPT, q_rank, "found -1"},
        {"deepseek_v3", q_rank, G_U32, 0, SR_CORRUPT, "blk.0.attn_q.weight", "missing"},
        {"deepseek_v3", q_rank, G_U32, 19, SR_CORRUPT, "blk.0.attn_q_a", "expected [19, 32]"},
        {"deepseek_v3", rot, G_U32, 7, SR_CORRUPT, rot, "even"},
        {"deepseek_v3", rot, G_U32, 20, SR_CORRUPT, rot, "fewer than a head's 20"},
        {"deepseek_v3", rot, G_U32, 6, SR_CORRUPT, "blk.0.attn_kv_a_mqa", "expected [30, 32]"},
        {"deepseek_v3", head, G_U32, 0, SR_CORRUPT, head, "found 0"},
        {"deepseek_v3", head, G_U32, 8, SR_CORRUPT, rot, "fewer than a head's 8"},
        {"deepseek_v3", head, G_U32, 22, SR_CORRUPT, "blk.0.attn_q_b", "expected [88, 20]"},
        {"deepseek_v3", value, G_U32, 15, SR_CORRUPT, "blk.0.attn_v_b", "expected"},
        {"deepseek_v3", "deepseek2.attention.head_count", G_U32, 4096, SR_CORRUPT, "attn_q_b", "expected [81920, 20]"},
        {"deepseek_v3", gate, G_U32, 3, SR_CORRUPT, gate, "found 3"},
        {"deepseek_v3", gate, G_U32, 1, SR_OK, NULL, NULL},
        {"deepseek_v2", old_head, G_U32, 24, SR_CORRUPT, "blk.0.attn_q", "expected [96, 32]"},
        {"deepseek_v2", "deepseek2.attention.value_length", G_U32, 12, SR_CORRUPT, "blk.0.attn_kv_b", "expected"},
        {"deepseek_v2", "deepseek2.rope.scaling.yarn_log_multiplier", G_F32, NANF, SR_CORRUPT,
         "deepseek2.rope.scaling.yarn_log_multiplier", "nan"},
    };
    check_numbers(*state, cases, sizeof cases / sizeof *cases);
}

static void configs_of_latents_and_groups_are_checked(void **state) { /* [6] */
    static const struct field base[] = {
        {"architectures", "[\"DeepseekV3ForCausalLM\"]"},
        {"hidden_size", "32"},
        {"intermediate_size", "48"},
        {"kv_lora_rank", "24"},
        {"q_lora_rank", "20"},
        {"qk_nope_head_dim", "12"},
        {"qk_rope_head_dim", "8"},
        {"v_head_dim", "16"},
        {"max_position_embeddings", "128"},
        {"num_attention_heads", "4"},
        {"num_hidden_layers", "3"},
        {"n_routed_experts", "8"},
        {"moe_intermediate_size", "16"},
        {"num_experts_per_tok", "3"},
        {"n_group", "4"},
        {"topk_group", "2"},
        {"n_shared_experts", "1"},
        {"first_k_dense_replace", "1"},
        {"vocab_size", "96"},
        {NULL, NULL},
    };
    static const struct config_case cases[] = {
        {"none", NULL, SR_OK, NULL, NULL},
        {"kv_lora_rank", NULL, SR_CORRUPT, NULL, "missing"},
        {"kv_lora_rank", "0", SR_CORRUPT, NULL, "found 0"},
        {"kv_lora_rank", "null", SR_CORRUPT, NULL, "missing"},
        {"kv_lora_rank", "1e18", SR_CORRUPT, NULL, "1 to 4096"},
        {"q_lora_rank", "null", SR_CORRUPT, "self_attn.q_proj", "missing"},
        {"q_lora_rank", "-20", SR_CORRUPT, NULL, "found -20"},
        {"qk_nope_head_dim", "0", SR_CORRUPT, NULL, "found 0"},
        {"qk_nope_head_dim", "13", SR_CORRUPT, "self_attn.q_b_proj", "expected [84, 20]"},
        {"qk_rope_head_dim", "9", SR_CORRUPT, NULL, "even"},
        {"v_head_dim", "4097", SR_CORRUPT, NULL, "1 to 4096"},
        {"v_head_dim", NULL, SR_CORRUPT, NULL, "missing"},
        {"num_attention_heads", "4096", SR_CORRUPT, "self_attn.q_b_proj", "shape"},
        {"rope_interleave", "3", SR_CORRUPT, NULL, "found"},
        {"rope_parameters", "{\"rope_type\":\"dynamic\",\"factor\":2}", SR_UNSUPPORTED, "rotation", "deepseek3"},
        {"n_group", "3", SR_CORRUPT, NULL, "divides 8"},
        {"n_group", "0", SR_CORRUPT, NULL, "found 0"},
        {"n_group", "8", SR_CORRUPT, "topk_group", "2 of 8"},
        {"topk_group", "5", SR_CORRUPT, NULL, "5 of 4"},
        {"topk_group", "1", SR_CORRUPT, NULL, "1 of 4"},
        {"topk_method", "\"greedy\"", SR_OK, NULL, NULL},
        {"scoring_func", "7", SR_CORRUPT, NULL, "found"},
        {"n_routed_experts", "7", SR_CORRUPT, "n_group", "divides 7"},
        {"n_routed_experts", "2147483648", SR_CORRUPT, NULL, "1 to 1024"},
        {"num_experts_per_tok", "9", SR_CORRUPT, NULL, "at most the 8"},
        {"n_shared_experts", "1000000", SR_CORRUPT, NULL, "0 to 1024"},
        {"first_k_dense_replace", "2", SR_CORRUPT, "layers.1.mlp.gate_proj", "missing"},
        {"moe_layer_freq", "0", SR_CORRUPT, NULL, "found 0"},
        {"moe_layer_freq", "2", SR_CORRUPT, "layers.1.mlp.gate_proj", "missing"},
        {"mlp_layer_types", "[\"dense\",\"dense\",\"sparse\"]", SR_CORRUPT, "layers.1.mlp.gate_proj", "missing"},
    };
    check_configs(*state, "deepseek_v3", base, cases, sizeof cases / sizeof *cases);
}

/* The first files of Qwen's mixtures: an MLP is as wide as the experts of a token together, and as the shared one. */
static void widths_of_experts_follow_from_the_mlp(void **state) {
    static const struct {
        const char *absent;
        uint64_t ff;
        const char *part, *shape; /* NULL: fits */
    } cases[] = {
        {"qwen2moe.expert_feed_forward_length", 32, NULL, NULL},
        {"qwen2moe.expert_feed_forward_length", 48, "blk.0.ffn_gate_exps", "expected [144, 32]"},
        {"qwen2moe.expert_feed_forward_length", 1, "narrower", "experts"},
        {"qwen2moe.expert_shared_feed_forward_length", 24, NULL, NULL},
        {"qwen2moe.expert_shared_feed_forward_length", 32, "blk.0.ffn_gate_shexp", "expected [32, 32]"},
    };
    const char *path = in(*state, "m.gguf");
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct draft d = draft_of(TINY "qwen2_moe.gguf");
        draft_drop_value(&d, cases[i].absent);
        draft_int(&d, "qwen2moe.feed_forward_length", G_U32, cases[i].ff, 4);
        draft_write_gguf(&d, path);
        if (!cases[i].part)
            accept_model(cases[i].absent, path);
        else
            refuse(cases[i].absent, path, i == 2 ? SR_UNSUPPORTED : SR_CORRUPT, cases[i].part, cases[i].shape);
        draft_close(&d);
    }
}

static void every_misshapen_tensor_is_named(void **state) { /* [10] */
    static const struct {
        const char *name;
        int64_t n, k; /* k = 0: a vector */
        const char *word;
        const char *from;
    } cases[] = {
        {"token_embd.weight", 384, 32, "[384, 32]", "llama"},
        {"token_embd.weight", 383, 64, "[383, 64]", "llama"},
        {"token_embd.weight", 384 * 64, 0, "[24576]", "llama"},
        {"output.weight", 383, 64, "[383, 64]", "llama"},
        {"output.weight", 64, 384, "[64, 384]", "llama"},
        {"output_norm.weight", 63, 0, "63", "llama"},
        {"output_norm.weight", 65, 0, "65", "llama"},
        {"rope_freqs.weight", 16, 0, "16", "llama"},
        {"blk.0.attn_norm.weight", 1, 0, "1", "llama"},
        {"blk.1.ffn_norm.weight", 128, 0, "128", "llama"},
        {"blk.0.attn_q.weight", 32, 64, "[32, 64]", "llama"},
        {"blk.0.attn_k.weight", 64, 64, "[64, 64]", "llama"},
        {"blk.0.attn_k.weight", 64, 32, "[64, 32]", "llama"},
        {"blk.1.attn_v.weight", 31, 64, "[31, 64]", "llama"},
        {"blk.1.attn_output.weight", 64, 32, "[64, 32]", "llama"},
        {"blk.0.ffn_gate.weight", 64, 160, "[64, 160]", "llama"},
        {"blk.0.ffn_up.weight", 160, 65, "[160, 65]", "llama"},
        {"blk.1.ffn_up.weight", 320, 64, "[320, 64]", "llama"},
        {"blk.1.ffn_down.weight", 160, 64, "[160, 64]", "llama"},
        {"blk.1.ffn_down.weight", 10240, 0, "[10240]", "llama"},
        {"blk.0.attn_q_a.weight", 32, 20, "[32, 20]", "deepseek_v3"},
        {"blk.0.attn_q_a_norm.weight", 24, 0, "24", "deepseek_v3"},
        {"blk.0.attn_q_b.weight", 48, 20, "[48, 20]", "deepseek_v3"},
        {"blk.0.attn_kv_a_mqa.weight", 24, 32, "[24, 32]", "deepseek_v3"},
        {"blk.0.attn_kv_a_norm.weight", 32, 0, "32", "deepseek_v3"},
        {"blk.0.attn_k_b.weight", 48, 24, "[48, 24]", "deepseek_v3"}, /* not turned around */
        {"blk.0.attn_k_b.weight", 24, 12, "[24, 12]", "deepseek_v3"}, /* of one head */
        {"blk.0.attn_v_b.weight", 64, 16, "[64, 16]", "deepseek_v3"},
        {"blk.1.attn_v_b.weight", 1536, 0, "[1536]", "deepseek_v3"},
        {"blk.2.attn_output.weight", 32, 48, "[32, 48]", "deepseek_v3"},
        {"blk.1.ffn_gate_inp.weight", 7, 32, "[7, 32]", "deepseek_v3"},
        {"blk.1.exp_probs_b.bias", 7, 0, "7", "deepseek_v3"},
        {"blk.1.ffn_down_exps.weight", 128, 32, "[128, 32]", "deepseek_v3"},
        {"blk.2.ffn_up_shexp.weight", 32, 16, "[32, 16]", "deepseek_v3"},
        {"blk.0.attn_q.weight", 48, 32, "[48, 32]", "deepseek_v2"},
        {"blk.0.attn_kv_b.weight", 96, 24, "[96, 24]", "deepseek_v2"},
        {"blk.0.attn_kv_b.weight", 24, 112, "[24, 112]", "deepseek_v2"},
    };
    const char *path = in(*state, "m.gguf");
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char from[256], stem[64];
        snprintf(from, sizeof from, TINY "%s.gguf", cases[i].from);
        struct draft d = draft_of(from);
        snprintf(stem, sizeof stem, "%.*s", (int)(strrchr(cases[i].name, '.') - cases[i].name), cases[i].name);
        draft_reshape(&d, cases[i].name, "f32", cases[i].n, cases[i].k);
        draft_write_gguf(&d, path);
        refuse(cases[i].name, path, SR_CORRUPT, stem, cases[i].word);
        draft_close(&d);
    }
}

static void tensors_of_other_types_are_refused(void **state) { /* [10] */
    static const struct {
        const char *name, *type;
        int64_t n, k;
        const char *from;
    } cases[] = {
        {"blk.0.attn_q.weight", "i32", 64, 64, "llama"},
        {"token_embd.weight", "i8", 384, 64, "llama"},
        {"output_norm.weight", "i32", 64, 0, "llama"},
        {"blk.0.attn_norm.weight", "q8_0", 64, 0, "llama"},
        {"blk.1.ffn_down.weight", "f64", 64, 160, "llama"},
        {"blk.0.attn_k_b.weight", "i32", 96, 12, "deepseek_v3"},
        {"blk.1.attn_v_b.weight", "f64", 64, 24, "deepseek_v3"},
        {"blk.0.attn_kv_a_norm.weight", "i32", 24, 0, "deepseek_v3"},
        {"blk.0.attn_kv_b.weight", "i16", 112, 24, "deepseek_v2"},
    };
    const char *path = in(*state, "m.gguf");
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char from[256], stem[64];
        snprintf(from, sizeof from, TINY "%s.gguf", cases[i].from);
        struct draft d = draft_of(from);
        snprintf(stem, sizeof stem, "%.*s", (int)(strlen(cases[i].name) - strlen(".weight")), cases[i].name);
        draft_reshape(&d, cases[i].name, cases[i].type, cases[i].n, cases[i].k);
        draft_write_gguf(&d, path);
        refuse(cases[i].name, path, SR_UNSUPPORTED, stem, cases[i].type);
        draft_close(&d);
    }
}

/* gpt-oss as saved without quantization: a stack is [expert][in][out]. */
static void stacks_that_lie_turned_around_are_checked(void **state) { /* [10] */
    static const struct {
        const char *name, *type;
        int64_t n, k;
        sr_status want;
        const char *word;
    } cases[] = {
        {"gate_up_proj", "bf16", 256, 32, SR_CORRUPT, "[256, 32]"}, /* not turned */
        {"gate_up_proj", "bf16", 96, 64, SR_CORRUPT, "[96, 64]"},   /* of three experts */
        {"gate_up_proj", "i32", 128, 64, SR_UNSUPPORTED, "i32"},
        {"gate_up_proj_bias", "bf16", 255, 0, SR_CORRUPT, "expected 256"},
        {"down_proj", "bf16", 4096, 0, SR_CORRUPT, "[4096]"},
        {"down_proj_bias", "bf16", 129, 0, SR_CORRUPT, "expected 128"},
        {"gate_up_proj", "f32", 128, 64, SR_OK, NULL},
    };
    char dir[DIR_BYTES], name[128];
    make_dir(*state, "stacks", dir);
    assert_int_equal(symlink(TINY "gpt_oss_whole/config.json", in(dir, "config.json")), 0);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct draft d = draft_of(TINY "gpt_oss_whole/model.safetensors");
        snprintf(name, sizeof name, "model.layers.1.mlp.experts.%s", cases[i].name);
        draft_reshape(&d, name, cases[i].type, cases[i].n, cases[i].k);
        draft_write_safetensors(&d, in(dir, "model.safetensors"));
        if (cases[i].want == SR_OK)
            accept_model(name, dir);
        else
            refuse(name, dir, cases[i].want, name, cases[i].word);
        draft_close(&d);
    }
}

static void vectors_that_are_not_finite_are_named(void **state) { /* [11] */
    static const struct {
        const char *family, *name;
    } cases[] = {{"llama", "blk.1.attn_norm.weight"},
                 {"llama", "output_norm.weight"},
                 {"qwen2", "blk.0.attn_q.bias"},
                 {"qwen3", "blk.1.attn_k_norm.weight"},
                 {"llama", "rope_freqs.weight"},
                 {"deepseek_v3", "blk.0.attn_kv_a_norm.weight"},
                 {"deepseek_v3", "blk.1.exp_probs_b.bias"},
                 {"gpt_oss", "blk.0.attn_sinks.weight"},
                 {"gpt_oss", "blk.1.ffn_down_exps.bias"}};
    static const float bad[] = {NAN, INFINITY, -INFINITY};
    const char *path = in(*state, "m.gguf");
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        for (int k = 0; k < 3; k++) {
            char from[256];
            snprintf(from, sizeof from, TINY "%s.gguf", cases[i].family);
            struct draft d = draft_of(from);
            memcpy(draft_part(&d, cases[i].name)->data.data + 12, &bad[k], 4);
            draft_write_gguf(&d, path);
            refuse(cases[i].name, path, SR_CORRUPT, cases[i].name, "at 3");
            draft_close(&d);
        }
    struct draft d = draft_of(TINY "llama.gguf");
    memset(draft_part(&d, "rope_freqs.weight")->data.data, 0, 8);
    draft_write_gguf(&d, path);
    refuse("a divisor of 0", path, SR_CORRUPT, "rope_freqs.weight", "zero");
    draft_close(&d);
}

static void tensors_that_nothing_uses_only_warn(void **state) {
    const char *path = in(*state, "m.gguf");
    struct draft d = draft_of(TINY "llama.gguf");
    draft_reshape(&d, "blk.7.surprise.weight", "i32", 3, 5);
    draft_reshape(&d, "blk.0.rotary_emb.inv_freq", "f32", 8, 0);
    draft_write_gguf(&d, path);
    accept_model("extra", path);
    assert_non_null(strstr(warning, "1 tensor is not used"));
    assert_non_null(strstr(warning, "blk.7.surprise.weight"));
    draft_close(&d);
}

/* Token 5's logits after one step, or NAN when the model does not open. */
static float one_logit(const char *path) {
    sr_engine *engine;
    sr_model *model;
    sr_session *session;
    sr_engine_options options = {.threads = 1, .batch = 8, .exact = true};
    sr_err err = {0};
    warning[0] = 0;
    assert_int_equal(sr_engine_create(&options, &engine, &err), SR_OK);
    if (sr_model_open(engine, path, NULL, &model, &err) != SR_OK) fail_msg("%s", err.msg);
    assert_int_equal(sr_session_create(model, &(sr_session_options){.n_ctx = 8}, &session, &err), SR_OK);
    assert_int_equal(sr_session_sync(session, (const int32_t[]){5}, 1, &err), SR_OK);
    assert_int_equal(sr_step(&session, 1, &err), SR_OK);
    float logit = sr_session_logits(session)[5];
    sr_session_free(session);
    sr_model_close(model);
    sr_engine_free(engine);
    return logit;
}

static void heads_are_tied_as_the_config_says(void **state) {
    char dir[DIR_BYTES];
    make_dir(*state, "m", dir);
    const char *weights = in(dir, "model.safetensors");
    struct draft d = draft_of(TINY "llama/model.safetensors");
    struct draft_part *head = draft_part(&d, "lm_head.weight");

    /* Tied: a head that is there is not looked at, whatever it is. */
    draft_write_safetensors(&d, weights);
    write_config(dir, llama_config, "tie_word_embeddings", "false");
    float untied = one_logit(dir);
    write_config(dir, llama_config, "tie_word_embeddings", "true");
    float tied = one_logit(dir);
    assert_true(tied != untied);
    assert_string_equal(warning, "");
    draft_reshape(&d, "lm_head.weight", "i32", 3, 3);
    draft_write_safetensors(&d, weights);
    assert_true(one_logit(dir) == tied);
    head->name = NULL;
    draft_write_safetensors(&d, weights);
    assert_true(one_logit(dir) == tied);

    /* Without a word on it the tensors decide; a config that wants a head gets an error. */
    write_config(dir, llama_config, "tie_word_embeddings", NULL);
    assert_true(one_logit(dir) == tied);
    write_config(dir, llama_config, "tie_word_embeddings", "false");
    refuse("no head", dir, SR_CORRUPT, "lm_head.weight", "missing");
    write_config(dir, llama_config, "tie_word_embeddings", "\"yes\"");
    refuse("a text", dir, SR_CORRUPT, "tie_word_embeddings", "true or false");
    write_config(dir, llama_config, "tie_word_embeddings", "1");
    refuse("a number", dir, SR_CORRUPT, "tie_word_embeddings", "true or false");
    draft_close(&d);
}

static void a_vocabulary_larger_than_the_embedding_is_refused(void **state) {
    const char *path = in(*state, "m.gguf");
    struct draft d = draft_of(TINY "llama.gguf");
    draft_reshape(&d, "token_embd.weight", "f32", 300, 64);
    draft_reshape(&d, "output.weight", "f32", 300, 64);
    draft_int(&d, "llama.vocab_size", G_U32, 300, 4);
    draft_write_gguf(&d, path);
    refuse("384 tokens, 300 rows", path, SR_CORRUPT, "384 tokens", "300 rows");
    draft_close(&d);
}

static void messages_keep_their_end_behind_a_long_path(void **state) {
    char dir[DIR_BYTES], name[201];
    memset(name, 'd', sizeof name - 1);
    name[sizeof name - 1] = 0;
    make_dir(*state, name, dir);
    const char *path = in(dir, "m.gguf");
    struct draft d = draft_of(TINY "llama.gguf");
    draft_int(&d, "llama.attention.head_count_kv", G_U32, 3, 4);
    draft_write_gguf(&d, path);
    refuse("key", path, SR_CORRUPT, "llama.attention.head_count_kv", "expected 4 heads to be a multiple");
    draft_int(&d, "llama.attention.head_count_kv", G_U32, 2, 4);
    draft_reshape(&d, "blk.1.attn_output.weight", "f32", 64, 32);
    draft_write_gguf(&d, path);
    refuse("tensor", path, SR_CORRUPT, "blk.1.attn_output", "expected [64, 64]");
    draft_close(&d);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(gguf_block_count_stays_in_its_range, make_scratch, remove_scratch),
        cmocka_unit_test_setup_teardown(gguf_head_counts_divide, make_scratch, remove_scratch),
        cmocka_unit_test_setup_teardown(gguf_head_size_and_rotation_are_even_and_fit, make_scratch, remove_scratch),
        cmocka_unit_test_setup_teardown(gguf_widths_stay_in_their_range, make_scratch, remove_scratch),
        cmocka_unit_test_setup_teardown(gguf_context_and_window_stay_in_their_range, make_scratch, remove_scratch),
        cmocka_unit_test_setup_teardown(gguf_fractions_are_finite_and_in_range, make_scratch, remove_scratch),
        cmocka_unit_test_setup_teardown(gguf_arrays_by_layer_are_checked_layer_by_layer, make_scratch, remove_scratch),
        cmocka_unit_test_setup_teardown(gguf_names_a_missing_key, make_scratch, remove_scratch),
        cmocka_unit_test_setup_teardown(gguf_names_what_it_does_not_run, make_scratch, remove_scratch),
        cmocka_unit_test_setup_teardown(config_numbers_stay_in_their_range, make_scratch, remove_scratch),
        cmocka_unit_test_setup_teardown(config_rotation_scaling_is_understood_or_refused, make_scratch, remove_scratch),
        cmocka_unit_test_setup_teardown(config_names_what_it_does_not_run, make_scratch, remove_scratch),
        cmocka_unit_test_setup_teardown(gemma_of_27b_scales_by_its_width, make_scratch, remove_scratch),
        cmocka_unit_test_setup_teardown(layers_that_predict_further_tokens_are_left_out, make_scratch, remove_scratch),
        cmocka_unit_test_setup_teardown(windows_follow_the_pattern_of_layers, make_scratch, remove_scratch),
        cmocka_unit_test_setup_teardown(layers_without_rotation_follow_list_or_period, make_scratch, remove_scratch),
        cmocka_unit_test_setup_teardown(an_unknown_family_is_told_by_what_it_has_of_its_own, make_scratch,
                                        remove_scratch),
        cmocka_unit_test_setup_teardown(the_text_model_is_found_wherever_it_lies, make_scratch, remove_scratch),
        cmocka_unit_test_setup_teardown(nested_configs_name_their_keys_and_have_defaults, make_scratch, remove_scratch),
        cmocka_unit_test_setup_teardown(scales_and_caps_stay_in_their_range, make_scratch, remove_scratch),
        cmocka_unit_test_setup_teardown(every_missing_tensor_is_named, make_scratch, remove_scratch),
        cmocka_unit_test_setup_teardown(mixtures_are_checked_before_they_route, make_scratch, remove_scratch),
        cmocka_unit_test_setup_teardown(latents_are_checked_before_they_attend, make_scratch, remove_scratch),
        cmocka_unit_test_setup_teardown(configs_of_latents_and_groups_are_checked, make_scratch, remove_scratch),
        cmocka_unit_test_setup_teardown(widths_of_experts_follow_from_the_mlp, make_scratch, remove_scratch),
        cmocka_unit_test_setup_teardown(every_misshapen_tensor_is_named, make_scratch, remove_scratch),
        cmocka_unit_test_setup_teardown(tensors_of_other_types_are_refused, make_scratch, remove_scratch),
        cmocka_unit_test_setup_teardown(stacks_that_lie_turned_around_are_checked, make_scratch, remove_scratch),
        cmocka_unit_test_setup_teardown(vectors_that_are_not_finite_are_named, make_scratch, remove_scratch),
        cmocka_unit_test_setup_teardown(tensors_that_nothing_uses_only_warn, make_scratch, remove_scratch),
        cmocka_unit_test_setup_teardown(heads_are_tied_as_the_config_says, make_scratch, remove_scratch),
        cmocka_unit_test_setup_teardown(messages_keep_their_end_behind_a_long_path, make_scratch, remove_scratch),
        cmocka_unit_test_setup_teardown(a_vocabulary_larger_than_the_embedding_is_refused, make_scratch,
                                        remove_scratch),
    };
    sr_log_sink(keep_warning, NULL);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
