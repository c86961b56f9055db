/* GGUF files become Hugging Face directories: what was made of a directory comes back to the bit, with the same logits
 * and tokens; or a refusal says why. */
#include "support.h"

#include <math.h>

#include "arch/arch.h"
#include "base/path.h"
#include "draft.h"
#include "text/text.h"
#include "tokenizer_vectors.h"

enum { T = 24, MOST = 160 };
#define TINY SR_SOURCE_DIR "/tests/vectors/tiny/"
#define STORY SR_SOURCE_DIR "/models/story-6m"

static void converts(const char *from, const char *to, const char *target) {
    sr_err err;
    if (quantize_to(from, to, target, &err) != SR_OK) fail_msg("%s to %s: %s", from, target, err.msg);
}

struct list {
    char name[MOST][64];
    int n;
};
static bool add_name(void *ctx, const char *name) {
    struct list *l = ctx;
    if (l->n < MOST && strlen(name) < sizeof l->name[0]) strcpy(l->name[l->n++], name);
    return true;
}

/* bf16 in b what is f32 in a: the same numbers. */
static bool narrowed(const sr_part *a, const sr_part *b) {
    if (strcmp(a->type->name, "f32") != 0 || strcmp(b->type->name, "bf16") != 0) return false;
    for (int64_t i = 0; i < a->n_elements; i++)
        if (a->data[4 * i] || a->data[4 * i + 1] || memcmp(a->data + 4 * i + 2, b->data + 2 * i, 2) != 0) return false;
    return true;
}

/* Every tensor of a is in b, and the other way round: name, type, shape, bytes. */
static void same_tensors(const char *name, const char *path_a, const char *path_b) {
    sr_file *a, *b;
    OK(sr_file_open(path_a, NULL, &a, e_));
    OK(sr_file_open(path_b, NULL, &b, e_));
    for (int i = 0; i < a->n_parts; i++) {
        const sr_part *x = &a->part[i], *y = sr_file_part(b, x->name);
        if (!y) fail_msg("%s: %s is missing", name, x->name);
        if (narrowed(x, y)) continue; /* a router that its class keeps in f32 */
        if (x->type != y->type) fail_msg("%s: %s is %s, was %s", name, x->name, y->type->name, x->type->name);
        if (x->n_dims != y->n_dims || memcmp(x->shape, y->shape, sizeof *x->shape * (size_t)x->n_dims) != 0)
            fail_msg("%s: %s has another shape", name, x->name);
        if (memcmp(x->data, y->data, (size_t)x->bytes) != 0) fail_msg("%s: %s has other bytes", name, x->name);
    }
    for (int i = 0; i < b->n_parts; i++)
        if (!sr_file_part(a, b->part[i].name)) fail_msg("%s: %s is new", name, b->part[i].name);
    sr_file_close(a);
    sr_file_close(b);
}

static void same_logits(const char *name, const char *a, const char *b, float within) {
    int32_t ids[T], V, V_got;
    sr_file *file;
    const sr_arch *arch;
    sr_hparams h;
    sr_arena arena = {0};
    OK(sr_file_open(b, NULL, &file, e_)); /* a directory says how many tokens there are */
    OK(sr_arch_find(file, &arch, e_));
    OK(sr_arch_read(file, arch, &arena, &h, e_));
    for (int i = 0; i < T; i++) ids[i] = (i * 37 + 5) % h.n_vocab;
    sr_arena_free(&arena);
    sr_file_close(file);
    float *want = logits_of(a, ids, T, &V), *got = logits_of(b, ids, T, &V_got);
    assert_int_equal(V, V_got);
    for (int k = 0; k < T * V; k++)
        if (!(fabsf(want[k] - got[k]) <= within))
            fail_msg("%s: logit %d at %d is %g, was %g", name, k % V, k / V, (double)got[k], (double)want[k]);
    free(want), free(got);
}

static bool has(const char *dir, const char *name, const char *tail) {
    char path[512];
    snprintf(path, sizeof path, "%s%s%s", dir, name, tail);
    return sr_path_look(path) == SR_PATH_FILE;
}

/* Families whose GGUF a directory's class cannot be made of yet, and what GGUF itself cannot hold. */
static const struct { const char *name, *why; } refused[] = {{"by_layer", "layers"}};

static const char *refusal(const char *name) {
    for (size_t r = 0; r < sizeof refused / sizeof *refused; r++)
        if (strcmp(refused[r].name, name) == 0) return refused[r].why;
    return NULL;
}

static bool is_f32(const char *dir) {
    sr_file *f;
    OK(sr_file_open(dir, NULL, &f, e_));
    const sr_part *embed = sr_file_part(f, "model.embed_tokens.weight");
    assert_non_null(embed);
    const bool is = strcmp(embed->type->name, "f32") == 0;
    sr_file_close(f);
    return is;
}

/* Every text of the vectors becomes the same tokens, and they the same text. */
static void same_tokens(const char *name, const sr_tokenizer *a, const sr_tokenizer *b) {
    struct texts texts = read_texts();
    assert_int_equal(sr_tokenizer_bos(a), sr_tokenizer_bos(b));
    assert_int_equal(sr_tokenizer_eos(a), sr_tokenizer_eos(b));
    assert_int_equal(sr_tokenizer_adds_bos(a), sr_tokenizer_adds_bos(b));
    for (int32_t id = 0; id < sr_tokenizer_n_vocab(a); id++) {
        assert_int_equal(sr_token_is_special(a, id), sr_token_is_special(b, id));
        assert_int_equal(sr_tokenizer_is_end(a, id), sr_tokenizer_is_end(b, id));
    }
    for (size_t i = 0; i < texts.n; i++)
        for (unsigned flags = 0; flags < 2; flags++) {
            const unsigned f = flags ? SR_TOKENIZE_NO_SPECIAL : 0;
            struct ids want = tokenize(a, texts.v[i].s, texts.v[i].n, f),
                       got = tokenize(b, texts.v[i].s, texts.v[i].n, f);
            check_ids(name, texts.v[i], got, want.v, want.n);
            struct text plain = decode(a, want.v, want.n), again = decode(b, got.v, got.n);
            check_text(name, got.v, got.n, again, plain.s, plain.n);
            free(plain.s), free(again.s), free(want.v), free(got.v);
        }
    free_texts(&texts);
}

static void same_tokens_of(const char *name, const char *path_a, const char *path_b) {
    sr_tokenizer *a, *b;
    OK(sr_tokenizer_open(path_a, &a, e_));
    OK(sr_tokenizer_open(path_b, &b, e_));
    same_tokens(name, a, b);
    sr_tokenizer_free(a), sr_tokenizer_free(b);
}

static void directories_come_back_from_gguf(void **state) {
    struct list all = {.n = 0};
    int n = 0;
    assert_int_equal(sr_path_list(TINY, add_name, &all, NULL), SR_OK);
    for (int i = 0; i < all.n; i++) {
        const char *name = all.name[i];
        char from[512];
        if (!has(TINY, name, "/config.json") || !has(TINY, name, ".gguf") || refusal(name)) continue;
        snprintf(from, sizeof from, "%s%s", TINY, name);
        if (strcmp(name, "gpt_oss") == 0) continue; /* packed_experts_come_back */
        const bool f32 = is_f32(from);
        converts(from, in(*state, "middle.gguf"), f32 ? "gguf:f32" : "gguf:bf16");
        converts(in(*state, "middle.gguf"), in(*state, "back"), f32 ? "f32" : "bf16");
        same_tensors(name, from, in(*state, "back"));
        same_logits(name, from, in(*state, "back"), 1e-6f);
        const bool tokenizer = has(TINY, name, "/tokenizer.json");
        assert_int_equal(has(*state, "/back", "/tokenizer.json"), tokenizer);
        if (tokenizer) same_tokens_of(name, in(*state, "middle.gguf"), in(*state, "back"));
        remove_tree(in(*state, "back"));
        n++;
    }
    assert_true(n > 25);
}

/* Those that were written by another hand, with keys and tensors as older converters have them. */
static void files_of_every_family_keep_their_logits(void **state) {
    struct list all = {.n = 0};
    int n = 0, n_refused = 0;
    assert_int_equal(sr_path_list(TINY, add_name, &all, NULL), SR_OK);
    for (int i = 0; i < all.n; i++) {
        char from[512], name[64];
        const size_t len = strlen(all.name[i]);
        sr_err err;
        if (len < 6 || strcmp(all.name[i] + len - 5, ".gguf") != 0) continue;
        snprintf(name, sizeof name, "%.*s", (int)len - 5, all.name[i]);
        snprintf(from, sizeof from, "%s%s", TINY, all.name[i]);
        remove_tree(in(*state, "made"));
        sr_status s = quantize_to(from, in(*state, "made"), "f32", &err);
        if (refusal(name)) {
            check_error(name, s, &err, SR_UNSUPPORTED, refusal(name), NULL);
            assert_int_equal(sr_path_look(in(*state, "made")), SR_PATH_ABSENT);
            n_refused++;
            continue;
        }
        if (s != SR_OK) fail_msg("%s: %s", name, err.msg);
        same_logits(name, from, in(*state, "made"), 2e-5f); /* of about 2: sums change their order */
        n++;
    }
    assert_true(n > 28);
    converts(TINY "../ggml/ggjt_v3.bin", in(*state, "made"), "f32"); /* of before GGUF, which has its conventions */
    same_logits("ggjt", TINY "../ggml/ggjt_v3.bin", in(*state, "made"), 2e-5f);
    assert_int_equal(n_refused, (int)(sizeof refused / sizeof *refused));
}

/* gpt-oss with any bits at all in its experts' blocks: all of them come back, and all that is not packed. */
static void packed_experts_come_back(void **state) {
    sr_quantizer *q;
    sr_quantize_tensor t;
    char *config;
    size_t n;
    int exact = 0;
    sr_quantize_options options = {.to = "gguf:mix", .overwrite = true};
    struct draft d = draft_of(TINY "gpt_oss/model.safetensors");
    draft_random_blocks(&d, 11);
    assert_int_equal(mkdir(in(*state, "random"), 0777), 0);
    draft_write_safetensors(&d, in(*state, "random/model.safetensors"));
    draft_close(&d);
    assert_int_equal(symlink(TINY "gpt_oss/config.json", in(*state, "random/config.json")), 0);
    write_text(in(*state, "recipe"), ".* = bf16\n.*exps.* = mxfp4\n");
    OK(sr_recipe_read(in(*state, "recipe"), &options.recipe, e_));
    OK(sr_quantizer_plan(in(*state, "random"), in(*state, "middle.gguf"), &options, &q, e_));
    OK(sr_quantizer_run(q, false, e_));
    sr_quantizer_free(q);
    sr_recipe_free(options.recipe);
    options = (sr_quantize_options){.to = "mxfp4"};
    OK(sr_quantizer_plan(in(*state, "middle.gguf"), in(*state, "back"), &options, &q, e_));
    OK(sr_quantizer_run(q, false, e_));
    for (int i = 0; sr_quantizer_tensor(q, i, &t); i++)
        exact += t.to && strcmp(t.to, "gptoss_mxfp4") == 0 && t.error == 0;
    sr_quantizer_free(q);
    assert_int_equal(exact, 4);
    same_tensors("gpt_oss", in(*state, "random"), in(*state, "back"));
    same_logits("gpt_oss", in(*state, "random"), in(*state, "back"), 1e-6f);
    OK(sr_file_read(in(*state, "back/config.json"), 1 << 20, &config, &n, e_));
    assert_non_null(strstr(config, "\"quant_method\": \"mxfp4\", \"modules_to_not_convert\": "
                                   "[\"model.layers.*.self_attn\", \"model.layers.*.mlp.router\", "
                                   "\"model.embed_tokens\", \"lm_head\"]"));
    assert_non_null(strstr(config, "\"attention_bias\": true"));
    assert_non_null(strstr(config, "\"truncate\": false"));
    free(config);
}

/* Stacks of parameters: turned around where they are plain, gates and ups in turns either way. */
static void stacks_have_the_places_of_their_class(void **state) {
    static const struct {
        const char *from, *by, *to; /* by: through MLX or GGUF, which have gates and ups apart; NULL: directly */
        const char *like;           /* has the same tensors; NULL: only the logits are compared */
        float within;
    } cases[] = {{"gpt_oss", NULL, "f32", NULL, 1e-6f},
                 {"gpt_oss", NULL, "bf16", NULL, 1e-6f},
                 {"gpt_oss", NULL, "mxfp4", "gpt_oss", 1e-6f},
                 {"gpt_oss.gguf", NULL, "mxfp4", "gpt_oss", 1e-6f},
                 {"gpt_oss", "mlx:8,group=32", "f32", NULL, 2e-5f},
                 {"gpt_oss_whole", NULL, "f32", NULL, 1e-6f},
                 {"gpt_oss_whole.gguf", NULL, "bf16", "gpt_oss_whole", 1e-6f},
                 {"gpt_oss_whole", "gguf:bf16", "bf16", "gpt_oss_whole", 1e-6f}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char from[512], like[512];
        snprintf(from, sizeof from, TINY "%s", cases[i].from);
        if (cases[i].by) {
            const char *middle = in(*state, strncmp(cases[i].by, "gguf", 4) == 0 ? "by.gguf" : "by");
            converts(from, middle, cases[i].by);
            snprintf(from, sizeof from, "%s", middle);
        }
        snprintf(like, sizeof like, TINY "%s", cases[i].like ? cases[i].like : "");
        converts(from, in(*state, "made"), cases[i].to);
        if (cases[i].like) same_tensors(cases[i].from, like, in(*state, "made"));
        same_logits(cases[i].to, from, in(*state, "made"), cases[i].within);
        remove_tree(in(*state, "made"));
    }
    converts(in(*state, "by"), in(*state, "plain"), "bf16"); /* of MLX's, in 8 bits that hold them */
    converts(in(*state, "by"), in(*state, "made"), "mxfp4");
    same_logits("plain and packed", in(*state, "plain"), in(*state, "made"), 1e-6f);
}

/* A loader that replaces layers knows no stack of parameters: the attention alone is quantized. */
static void attention_alone_is_quantized_beside_parameters(void **state) {
    static const char stack[] = "model.layers.1.mlp.experts.gate_up_proj";
    sr_file *a, *b;
    char *config;
    size_t n;
    converts(TINY "gpt_oss_whole.gguf", in(*state, "made"), "fp8");
    OK(sr_file_open(TINY "gpt_oss_whole", NULL, &a, e_));
    OK(sr_file_open(in(*state, "made"), NULL, &b, e_));
    const sr_part *was = sr_file_part(a, stack), *is = sr_file_part(b, stack);
    assert_true(was && is);
    assert_int_equal(is->bytes, was->bytes);
    assert_memory_equal(is->data, was->data, was->bytes);
    assert_string_equal(sr_file_part(b, "model.layers.1.self_attn.q_proj.weight")->type->name, "f8_e4m3");
    sr_file_close(a), sr_file_close(b);
    OK(sr_file_read(in(*state, "made/config.json"), 1 << 20, &config, &n, e_));
    assert_non_null(strstr(config, "\"model.layers.1.mlp.experts\""));
    free(config);
}

/* ---------------------------------------------------------------- tokenizers */

static void put_ends(const sr_tokenizer *t, struct bytes *b) {
    char number[16];
    put(b, "{\"eos_token_id\": [-1", 20);
    for (int32_t id = 0; id < sr_tokenizer_n_vocab(t); id++)
        if (sr_tokenizer_is_end(t, id)) put(b, number, (size_t)snprintf(number, sizeof number, ", %d", id));
    put(b, "]}", 2);
}

/* Through the text of tokenizer.json, and what stands beside it. */
static sr_tokenizer *written_and_read(const char *dir, const sr_tokenizer *a) {
    char text[256];
    struct bytes ends = {0};
    sr_json_vocab v;
    sr_tokenizer *b;
    OK(sr_tokenizer_to_json(a, &v, e_));
    write_file(in(dir, "tokenizer.json"), v.text.at, v.text.n);
    int n = snprintf(text, sizeof text, "{\"add_bos_token\": %s, \"add_eos_token\": %s", v.add_bos ? "true" : "false",
                     v.add_eos ? "true" : "false");
    if (v.bos >= 0)
        n += snprintf(text + n, sizeof text - (size_t)n, ", \"bos_token\": \"%s\"", sr_token_piece(a, v.bos));
    if (v.eos >= 0)
        n += snprintf(text + n, sizeof text - (size_t)n, ", \"eos_token\": \"%s\"", sr_token_piece(a, v.eos));
    snprintf(text + n, sizeof text - (size_t)n, "}");
    write_text(in(dir, "tokenizer_config.json"), text);
    put_ends(a, &ends);
    write_file(in(dir, "generation_config.json"), ends.data, ends.n);
    OK(sr_tokenizer_open(dir, &b, e_));
    drop(&ends);
    sr_json_vocab_free(&v);
    return b;
}

static void tokenizers_divide_texts_as_gguf_does(void **state) {
    static const char *const kept[] = {"pre-deepseek-coder", "pre-deepseek-llm", "pre-deepseek-v3", "pre-default",
                                       "pre-falcon",         "pre-gpt-2",        "pre-gpt-4o",      "pre-llama-bpe",
                                       "pre-qwen2",          "pre-starcoder",    "pre-tekken",      "spm"};
    for (size_t i = 0; i < sizeof kept / sizeof *kept; i++) {
        char path[64];
        snprintf(path, sizeof path, "%s.gguf", kept[i]);
        sr_tokenizer *a = open_tokenizer(path), *b = written_and_read(*state, a);
        same_tokens(kept[i], a, b);
        sr_tokenizer_free(a), sr_tokenizer_free(b);
    }
}

/* The package `tokenizers` replaces characters one by one, SentencePiece the longest strings that its map knows: six
 * texts have such. */
static void unigram_differs_where_its_map_has_strings(void **state) {
    struct texts texts = read_texts();
    sr_tokenizer *a = open_tokenizer("t5.gguf"), *b = written_and_read(*state, a);
    int differ = 0;
    for (size_t i = 0; i < texts.n; i++) {
        struct ids want = tokenize(a, texts.v[i].s, texts.v[i].n, 0), got = tokenize(b, texts.v[i].s, texts.v[i].n, 0);
        differ += want.n != got.n || memcmp(want.v, got.v, want.n * sizeof *want.v) != 0;
        free(want.v), free(got.v);
    }
    assert_int_equal(differ, 6);
    sr_tokenizer_free(a), sr_tokenizer_free(b);
    free_texts(&texts);
}

static void other_kinds_of_tokenizers_are_refused(void **state) {
    static const char *const names[] = {"bert.gguf", "gemma4.gguf", "rwkv.gguf"};
    (void)state;
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        sr_json_vocab v;
        sr_err err = {0};
        sr_tokenizer *t = open_tokenizer(names[i]);
        sr_status s = sr_tokenizer_to_json(t, &v, &err);
        check_error(names[i], s, &err, SR_UNSUPPORTED, "tokenizer.json", "SentencePiece", NULL);
        sr_tokenizer_free(t);
    }
}

/* ---------------------------------------------------------------- the bundled model */

static void the_bundled_model_comes_back(void **state) {
    static const char model[] = STORY;
    sr_tokenizer *a, *b;
    size_t n;
    converts(model, in(*state, "story.gguf"), "gguf:bf16");
    converts(in(*state, "story.gguf"), in(*state, "story"), "bf16");
    same_tensors("story", model, in(*state, "story"));
    same_logits("story", model, in(*state, "story"), 0);
    OK(sr_tokenizer_open(model, &a, e_));
    OK(sr_tokenizer_open(in(*state, "story"), &b, e_));
    same_tokens("story", a, b);
    char *text = read_all(SR_SOURCE_DIR "/tests/data/heldout-100k.txt", &n);
    struct ids want = tokenize(a, text, n, 0), got = tokenize(b, text, n, 0);
    check_ids("story", (struct text){text, 20}, got, want.v, want.n);
    free(want.v), free(got.v), free(text);
    sr_tokenizer_free(a), sr_tokenizer_free(b);
}

/* Blocks whose codes and scales the other format can hold: not a bit changes. */
static void what_can_be_held_is_not_rounded_again(void **state) {
    static const struct {
        const char *model, *from, *to, *type;
        int matrices;
    } pairs[] = {{STORY, "gguf:mix", "mxfp4", "mxfp4", 42},
                 {STORY, "gguf:mix", "mlx:mxfp4", "mxfp4", 42},
                 {STORY, "gguf:q4_0", "gptq:4,group=32", "q4_0", 42},
                 {STORY, "gguf:q4_0", "compressed-tensors:w4a16,group=32", "q4_0", 42},
                 {STORY, "gguf:q4_1", "mlx:4,group=32", "q4_1", 42},
                 {STORY, "gguf:q8_0", "gptq:8,group=32", "q8_0", 42},
                 {STORY, "gguf:q4_0", "uqff:q4_0", "q4_0", 42},
                 {TINY "granitemoe", "gguf:mix", "mxfp4", "mxfp4", 13}}; /* whose gates and ups take turns */
    write_text(in(*state, "recipe"), ".* = mxfp4\n");
    for (size_t i = 0; i < sizeof pairs / sizeof *pairs; i++) {
        sr_quantizer *q;
        sr_quantize_tensor t;
        int exact = 0;
        const bool mix = strcmp(pairs[i].from, "gguf:mix") == 0;
        sr_quantize_options options = {.to = pairs[i].from, .overwrite = true};
        if (mix) OK(sr_recipe_read(in(*state, "recipe"), &options.recipe, e_));
        OK(sr_quantizer_plan(pairs[i].model, in(*state, "middle.gguf"), &options, &q, e_));
        OK(sr_quantizer_run(q, false, e_));
        sr_quantizer_free(q);
        sr_recipe_free(options.recipe);
        options = (sr_quantize_options){.to = pairs[i].to, .overwrite = true};
        OK(sr_quantizer_plan(in(*state, "middle.gguf"), in(*state, "made"), &options, &q, e_));
        OK(sr_quantizer_run(q, false, e_));
        for (int k = 0; sr_quantizer_tensor(q, k, &t); k++) {
            if (strcmp(t.from, pairs[i].type) != 0 || !t.to || t.N == 4096) continue; /* the embedding is finer */
            if (t.error != 0) fail_msg("%s to %s: %s has the error %g", pairs[i].from, pairs[i].to, t.name, t.error);
            exact++;
        }
        sr_quantizer_free(q);
        assert_int_equal(exact, pairs[i].matrices);
        remove_tree(in(*state, "made"));
    }
}

/* What is quantized is the same as where the directory was never GGUF: experts are matrices of their own, and one stack
 * in UQFF. */
static void quantized_as_from_the_directory(void **state) {
    static const struct {
        const char *gguf, *directory, *to;
    } pairs[] = {{"qwen3_moe", "qwen3_moe", "mlx:8,group=32"},
                 {"mixtral", "mixtral", "fp8"},
                 {"mixtral_by_expert", "mixtral", "mlx:4,group=32"},
                 {"qwen3_moe", "qwen3_moe", "uqff:q8_0"},
                 {"mixtral_by_expert", "mixtral", "uqff:q8_0"},
                 {"deepseek_v3", "deepseek_v3", "uqff:afq4"},
                 {"deepseek_v3", "deepseek_v3", "hqq:4,group=16"},
                 {"llama", "llama", "gptq:4,group=32"},
                 {"gemma2", "gemma2", "bnb:int8"},
                 {"qwen2", "qwen2", "awq:4,group=32"},
                 {"phi3", "phi3", "compressed-tensors:w8a8"},
                 {"gpt_oss", "gpt_oss", "mlx:8,group=32"},
                 {"gpt_oss", "gpt_oss", "uqff:q8_0"},
                 {"gpt_oss", "gpt_oss", "uqff:mxfp4"},
                 {"gpt_oss", "gpt_oss", "bnb:nf4"},
                 {"gpt_oss_whole", "gpt_oss_whole", "mxfp4"},
                 {"gpt_oss_whole", "gpt_oss_whole", "mlx:4,group=32"},
                 {"granitemoe", "granitemoe", "mlx:8,group=32"}};
    for (size_t i = 0; i < sizeof pairs / sizeof *pairs; i++) {
        char from[512];
        snprintf(from, sizeof from, "%s%s.gguf", TINY, pairs[i].gguf);
        converts(from, in(*state, "made"), pairs[i].to);
        snprintf(from, sizeof from, "%s%s", TINY, pairs[i].directory);
        converts(from, in(*state, "want"), pairs[i].to);
        same_logits(pairs[i].to, in(*state, "want"), in(*state, "made"), 1e-6f);
        remove_tree(in(*state, "made"));
        remove_tree(in(*state, "want"));
    }
}

/* ---------------------------------------------------------------- */

/* A file of tests/vectors/tiny with the first float of a tensor changed. */
static void rotations_that_no_numbers_give_are_refused(void **state) {
    sr_file *f;
    size_t n;
    sr_err err;
    char *data = read_all(TINY "llama.gguf", &n);
    const float odd = 1.37f;
    OK(sr_file_open(TINY "llama.gguf", NULL, &f, e_));
    const sr_part *p = sr_file_part(f, "rope_freqs.weight");
    assert_non_null(p);
    memcpy(data + (p->data - f->shard[0].map.data) + 2 * sizeof odd, &odd, sizeof odd);
    sr_file_close(f);
    write_file(in(*state, "odd.gguf"), data, n);
    free(data);
    sr_status s = quantize_to(in(*state, "odd.gguf"), in(*state, "made"), "bf16", &err);
    check_error("odd", s, &err, SR_UNSUPPORTED, "rope_freqs.weight", "Llama 3", "nothing was written", NULL);
    assert_int_equal(sr_path_look(in(*state, "made")), SR_PATH_ABSENT);
}

/* SentencePiece takes the leftmost of merges that are equally good, and ranks of merges have no equals. */
static void vocabularies_that_merges_cannot_say_are_refused(void **state) {
    sr_file *f;
    size_t n;
    sr_err err;
    converts(TINY "phi3", in(*state, "phi3.gguf"), "gguf:bf16");
    char *data = read_all(in(*state, "phi3.gguf"), &n);
    OK(sr_file_open(in(*state, "phi3.gguf"), NULL, &f, e_));
    const sr_value *v = sr_file_value(f, "tokenizer.ggml.scores");
    assert_non_null(v);
    memset(data + (v->v.a.data - f->shard[0].map.data), 0, v->v.a.bytes);
    sr_file_close(f);
    write_file(in(*state, "equal.gguf"), data, n);
    free(data);
    sr_status s = quantize_to(in(*state, "equal.gguf"), in(*state, "made"), "bf16", &err);
    check_error("equal scores", s, &err, SR_UNSUPPORTED, "tokenizer.json", "other tokens", "nothing was written", NULL);
    assert_int_equal(sr_path_look(in(*state, "made")), SR_PATH_ABSENT);
    assert_int_equal(sr_path_look(in(*state, "made.part")), SR_PATH_ABSENT);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, make_scratch, remove_scratch)

int main(void) {
    const struct CMUnitTest tests[] = {
        TEST(directories_come_back_from_gguf),
        TEST(files_of_every_family_keep_their_logits),
        TEST(packed_experts_come_back),
        TEST(stacks_have_the_places_of_their_class),
        TEST(attention_alone_is_quantized_beside_parameters),
        TEST(tokenizers_divide_texts_as_gguf_does),
        TEST(unigram_differs_where_its_map_has_strings),
        cmocka_unit_test(other_kinds_of_tokenizers_are_refused),
        TEST(the_bundled_model_comes_back),
        TEST(what_can_be_held_is_not_rounded_again),
        TEST(quantized_as_from_the_directory),
        TEST(rotations_that_no_numbers_give_are_refused),
        TEST(vocabularies_that_merges_cannot_say_are_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
