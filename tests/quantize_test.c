/* Conversions: every target, from the bundled model and between GGUF types, is what the encoder makes of the source. */
#include <math.h>

#include "support.h"

#include "base/digest.h"
#include "fmt/fmt.h"
#include "quant/quant.h"

#define TINY SR_SOURCE_DIR "/tests/vectors/tiny/"

static const char story[] = SR_SOURCE_DIR "/models/story-6m";

/* Each test runs in a directory of its own. */
static int enter(void **state) {
    return make_scratch(state) == 0 && chdir(*state) == 0 ? 0 : -1;
}
static int leave(void **state) {
    return chdir("/") == 0 ? remove_scratch(state) : -1;
}

static sr_status convert(const char *from, const char *to, const char *result, sr_quantize_options o, sr_quantizer **q,
                         sr_err *err) {
    o.to = to;
    sr_status s = sr_quantizer_plan(from, result, &o, q, err);
    if (s == SR_OK && !o.progress) seconds_of(*q, result); /* which would be counted */
    return s == SR_OK ? sr_quantizer_run(*q, false, err) : s;
}
static void converts(const char *from, const char *to, const char *result, int threads) {
    sr_quantizer *q;
    OK(convert(from, to, result, (sr_quantize_options){.threads = threads}, &q, e_));
    sr_quantizer_free(q);
}

static void fails(const char *from, const char *to, const char *result, sr_status want, const char *a, const char *b) {
    sr_quantizer *q = NULL;
    sr_err err = {0};
    check_error(to, convert(from, to, result, (sr_quantize_options){0}, &q, &err), &err, want, a, b, NULL);
    sr_quantizer_free(q);
}

static void same_file(const char *a, const char *b) {
    size_t n, m;
    char *x = read_all(a, &n), *y = read_all(b, &m);
    if (n != m || memcmp(x, y, n) != 0) fail_msg("%s and %s differ", a, b);
    free(x);
    free(y);
}

/* ---------------------------------------------------------------- numbers */

struct checkpoint {
    sr_file *file;
    sr_qconfig *config;
    sr_arena arena;
};
static void open_checkpoint(const char *path, struct checkpoint *c) {
    *c = (struct checkpoint){0};
    OK(sr_file_open(path, &(sr_file_options){0}, &c->file, e_));
    OK(sr_qconfig_read(c->file, &c->arena, &c->config, e_));
}
static void close_checkpoint(struct checkpoint *c) {
    sr_file_close(c->file);
    sr_arena_free(&c->arena);
}

static void rows_of(void *ctx, int64_t row0, int64_t n, float *out) {
    const sr_weight *w = ctx;
    for (int64_t i = 0; i < n; i++) w->fmt->decode(w, row0 + i, 0, w->K, out + i * w->K);
}

/* Whether b is at least as near to row r of w as a is. */
static bool nearer(const sr_weight *w, int64_t r, const float *b, const float *a) {
    double error[2] = {0, 0};
    float *row = malloc((size_t)w->K * sizeof *row);
    assert_non_null(row);
    rows_of((void *)(uintptr_t)w, r, 1, row);
    for (int64_t k = 0; k < w->K; k++) {
        error[0] += ((double)row[k] - b[k]) * ((double)row[k] - b[k]);
        error[1] += ((double)row[k] - a[k]) * ((double)row[k] - a[k]);
    }
    free(row);
    return error[0] <= error[1];
}

/* Every converted matrix reads back as the encoder's own. Returns how many there are. */
static int same_numbers(const char *from, const char *to, const char *result, const sr_quantizer *q) {
    struct checkpoint source, made;
    sr_target target;
    sr_quantize_tensor t;
    int n = 0;
    OK(sr_target_parse(to, &target, e_));
    open_checkpoint(from, &source);
    open_checkpoint(result, &made);
    for (int i = 0; sr_quantizer_tensor(q, i, &t); i++) {
        sr_arena arena = {0};
        sr_weight was, want, got;
        if (!t.to) continue;
        const sr_format *fmt = sr_format_by_name(t.to);
        OK(sr_weight_bind(source.file, source.config, t.name, -1, -1, &arena, &was, e_));
        OK(sr_weight_bind(made.file, made.config, t.name, was.N, was.K, &arena, &got, e_));
        assert_null(was.perm);
        if (got.fmt != fmt) fail_msg("%s: %s is %s", to, t.name, got.fmt->name);
        const sr_qspec *spec = target.gguf || fmt != target.fmt ? NULL : &target.spec;
        OK(sr_weight_create(fmt, was.N, was.K, spec, &arena, &want, e_));
        OK(sr_encode(&want, &(sr_source){.rows = rows_of, .ctx = &was}, NULL, 0, 1, e_));
        float *a = malloc(2 * (size_t)was.K * sizeof *a), *b = a + was.K;
        assert_non_null(a);
        for (int64_t r = 0; r < was.N; r++) {
            rows_of(&want, r, 1, a);
            rows_of(&got, r, 1, b);
            /* Or nearer: what keeps the codes and scales of its source is not rounded again. */
            if (memcmp(a, b, (size_t)was.K * sizeof *a) != 0 && !(was.tile == SR_TILE_I8 && nearer(&was, r, b, a)))
                fail_msg("%s: %s: row %lld differs from the encoder's", to, t.name, (long long)r);
        }
        if (!(t.error >= 0)) fail_msg("%s: %s: error %g", to, t.name, t.error);
        free(a);
        sr_arena_free(&arena);
        n++;
    }
    close_checkpoint(&source);
    close_checkpoint(&made);
    return n;
}

/* ---------------------------------------------------------------- companions */

/* The members of the config, apart from those of quantization. */
static void same_config(const char *a, const char *b) {
    enum { CAP = 512 };
    sr_checkpoint *x, *y;
    char key[2][CAP], text[2][CAP];
    OK(sr_checkpoint_open(a, NULL, &x, e_));
    OK(sr_checkpoint_open(b, NULL, &y, e_));
    const int n = sr_checkpoint_n_values(x), m = sr_checkpoint_n_values(y);
    for (int i = 0, o = 0; i < n; i++) {
        sr_checkpoint_value(x, i, key[0], CAP, text[0], CAP);
        if (strncmp(key[0], "__metadata__", 12) == 0) continue;
        for (o = 0; o < m; o++) {
            sr_checkpoint_value(y, o, key[1], CAP, text[1], CAP);
            if (strcmp(key[0], key[1]) == 0) break;
        }
        if (o == m || strcmp(text[0], text[1]) != 0) fail_msg("%s: %s is not %s any more", b, key[0], text[0]);
    }
    sr_checkpoint_close(x);
    sr_checkpoint_close(y);
}

static void card_has_hash(const char *dir, const char *name) {
    size_t n;
    char hex[SR_DIGEST_HEX], row[256];
    char *data = read_all(in(dir, name), &n);
    sr_digest d = sr_sha256();
    sr_digest_add(&d, data, n);
    sr_digest_hex(&d, hex);
    free(data);
    char *card = read_all(in(dir, "README.md"), &n);
    snprintf(row, sizeof row, "| %s | %s |", name, hex);
    if (!strstr(card, row)) fail_msg("%s/README.md does not say %s", dir, row);
    free(card);
}

static void same_companions(const char *from, const char *dir) {
    same_config(from, dir);
    same_file(in(from, "tokenizer.json"), in(dir, "tokenizer.json"));
    same_file(in(from, "tokenizer_config.json"), in(dir, "tokenizer_config.json"));
    same_file(in(from, "generation_config.json"), in(dir, "generation_config.json"));
    card_has_hash(dir, "model.safetensors");
}

/* ---------------------------------------------------------------- tests */

static const char *const targets[] = {"gptq:2",
                                      "gptq:3",
                                      "gptq:4",
                                      "gptq:8",
                                      "gptq:4,group=32",
                                      "gptq:4,asym",
                                      "gptq:4,desc_act",
                                      "gptq:8,group=32,asym,desc_act",
                                      "awq:4",
                                      "awq:4,group=32",
                                      "awq:4,sym",
                                      "hqq:1",
                                      "hqq:2",
                                      "hqq:3",
                                      "hqq:4",
                                      "hqq:8",
                                      "hqq:4,group=32",
                                      "mlx:2",
                                      "mlx:3",
                                      "mlx:4",
                                      "mlx:5",
                                      "mlx:6",
                                      "mlx:8",
                                      "mlx:4,group=32",
                                      "mlx:mxfp4",
                                      "mlx:mxfp8",
                                      "mlx:nvfp4",
                                      "bnb:nf4",
                                      "bnb:nf4,double",
                                      "bnb:nf4,group=128",
                                      "bnb:fp4",
                                      "bnb:int8",
                                      "fp8",
                                      "fp8:block",
                                      "compressed-tensors:w4a16",
                                      "compressed-tensors:w4a16,asym",
                                      "compressed-tensors:w4a16,group=32,desc_act",
                                      "compressed-tensors:w8a16",
                                      "compressed-tensors:w8a8",
                                      "mxfp4",
                                      "nvfp4",
                                      "f16",
                                      "f32"};

static void test_targets(void **state) {
    (void)state;
    static const int32_t ids[] = {1, 5, 9};
    for (size_t i = 0; i < sizeof targets / sizeof *targets; i += SANITIZED ? 4 : 1) {
        sr_quantizer *q;
        int32_t V;
        const char *const dir = "made";
        OK(convert(story, targets[i], dir, (sr_quantize_options){0}, &q, e_));
        const int n = same_numbers(story, targets[i], dir, q);
        const bool edges = q->target.edges;
        sr_quantizer_free(q);
        if (n != 42 + edges) fail_msg("%s: %d matrices are converted", targets[i], n);
        same_companions(story, dir);
        if (i % 4 == 0) { /* the model opens and runs */
            float *logits = logits_of(dir, ids, 3, &V);
            for (int32_t v = 0; v < 3 * V; v++)
                if (!(logits[v] > -1e4f && logits[v] < 1e4f)) fail_msg("%s: logit %d is %g", targets[i], v, logits[v]);
            free(logits);
        }
        remove_tree(dir);
    }
}

/* ---------------------------------------------------------------- UQFF */

static const char *const uqff_types[] = {"q4_0", "q4_1", "q5_0", "q5_1", "q8_0", "q8_1", "q2k", "q3k",
                                         "q4k",  "q5k",  "q6k",  "q8k",  "hqq4", "hqq8", "fp8", "afq2",
                                         "afq3", "afq4", "afq6", "afq8", "f8q8", "mxfp4"};

/* Each type holds what the encoder makes of the rows, embedding and head that of the finer one; the rest is beside. */
static void test_uqff(void **state) {
    (void)state;
    static const int32_t ids[] = {1, 5, 9};
    for (size_t i = 0; i < sizeof uqff_types / sizeof *uqff_types; i += SANITIZED ? 4 : 1) {
        sr_quantizer *q;
        sr_quantize_tensor t;
        sr_quantize_info info;
        int32_t V;
        char to[32], file[32];
        const char *const dir = "made";
        snprintf(to, sizeof to, "uqff:%s", uqff_types[i]);
        snprintf(file, sizeof file, "%s-0.uqff", uqff_types[i]);
        OK(convert(story, to, dir, (sr_quantize_options){0}, &q, e_));
        assert_int_equal(same_numbers(story, to, dir, q), 43);
        sr_quantizer_info(q, &info);
        assert_int_equal(info.n_files, 2);
        const sr_format *fmt = q->target.fmt;
        for (int m = 0; sr_quantizer_tensor(q, m, &t); m++) {
            const bool edge = strstr(t.name, "embed_tokens") != NULL;
            const char *want = edge && fmt->promote ? fmt->promote : fmt->name;
            if (t.N && strcmp(t.to, want) != 0) fail_msg("%s: %s is %s, want %s", to, t.name, t.to, want);
        }
        sr_quantizer_free(q);
        same_config(story, dir);
        same_file(in(story, "tokenizer.json"), in(dir, "tokenizer.json"));
        card_has_hash(dir, file);
        card_has_hash(dir, "residual.safetensors");
        float *logits = logits_of(dir, ids, 3, &V);
        for (int32_t v = 0; v < 3 * V; v++)
            if (!(logits[v] > -1e4f && logits[v] < 1e4f)) fail_msg("%s: logit %d is %g", to, v, logits[v]);
        free(logits);
        remove_tree(dir);
    }
}

/* The entries of a safetensors file, whatever it is called. */
static sr_file *entries_of(const char *path, char **data) {
    sr_file *file;
    size_t n;
    *data = read_all(path, &n);
    OK(sr_file_from_memory(*data, n, "entries.safetensors", &file, e_));
    return file;
}

/* mistral.rs's own files, read and written again: the same entries of the same types, shapes and bytes (but for the
 * number of steps that a solver took, and the last bit of a reciprocal). */
static void test_uqff_as_mistral_rs(void **state) {
    (void)state;
    static const struct {
        const char *from, *type;
    } cases[] = {{"llama-afq4", "afq4"}, {"llama-f8q8", "f8q8"},   {"llama-fp8", "fp8"},   {"llama-hqq4", "hqq4"},
                 {"llama-hqq8", "hqq8"}, {"llama-mxfp4", "mxfp4"}, {"llama-q4_0", "q4_0"}, {"qwen2-q8_0", "q8_0"}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char from[512], to[32], shard[32];
        snprintf(from, sizeof from, SR_SOURCE_DIR "/tests/vectors/uqff/0.9.5-%s", cases[i].from);
        snprintf(to, sizeof to, "uqff:%s", cases[i].type);
        snprintf(shard, sizeof shard, "%s-0.uqff", cases[i].type);
        converts(from, to, "made", 0);
        for (int f = 0; f < 2; f++) {
            const char *name = f ? "residual.safetensors" : shard;
            char *data[2];
            sr_file *want = entries_of(in(from, name), &data[0]), *got = entries_of(in("made", name), &data[1]);
            if (got->n_parts != want->n_parts)
                fail_msg("%s: %d entries, mistral.rs has %d", to, got->n_parts, want->n_parts);
            for (int p = 0; p < want->n_parts; p++) {
                const sr_part *w = &want->part[p], *g = sr_file_part(got, w->name);
                if (!g || g->type != w->type || g->n_dims != w->n_dims ||
                    memcmp(g->shape, w->shape, sizeof w->shape) != 0)
                    fail_msg("%s: entry %s is not there, or of another type or shape", to, w->name);
                if (!strstr(w->name, "steps") && !strstr(w->name, "quant_scale") &&
                    memcmp(g->data, w->data, (size_t)w->bytes) != 0)
                    fail_msg("%s: entry %s has other bytes", to, w->name);
            }
            sr_file_close(want);
            sr_file_close(got);
            free(data[0]);
            free(data[1]);
        }
        remove_tree("made");
    }
}

/* "made" is the same model as `from`, but for what the type costs. */
static void has_logits_of(const char *from, const char *to, double least) {
    static const int32_t ids[] = {1, 5, 9};
    int32_t V[2];
    float *want = logits_of(from, ids, 3, &V[0]), *got = logits_of("made", ids, 3, &V[1]);
    assert_int_equal(V[0], V[1]);
    double dot = 0, a = 0, b = 0;
    for (int32_t v = 0; v < 3 * V[0]; v++) {
        dot += (double)want[v] * got[v];
        a += (double)want[v] * want[v];
        b += (double)got[v] * got[v];
    }
    if (getenv("VERBOSE")) printf("%s: %s: %.6f\n", from, to, dot / sqrt(a * b));
    if (!(dot > least * sqrt(a * b))) fail_msg("%s: %s: other logits (%.6f)", from, to, dot / sqrt(a * b));
    free(want);
    free(got);
}

/* Experts become three stacks a layer, biases go with their layers, and what does not fit stays as it was. */
static void test_uqff_layers(void **state) {
    (void)state;
    static const struct {
        const char *model, *to, *stack;
    } cases[] = {{"mixtral", "uqff:q8_0", "model.layers.0.block_sparse_moe.experts.gate_proj.weight"},
                 {"qwen3_moe", "uqff:afq4", "model.layers.1.mlp.experts.down_proj.weight"},
                 {"qwen2", "uqff:q5_1", NULL},
                 {"qwen2", "uqff:fp8", NULL},
                 {"phi3", "uqff:q4k", NULL},
                 {"gpt_oss", "uqff:q8_0", "model.layers.0.mlp.experts.gate_up_proj.bias"},
                 {"gpt_oss_whole", "uqff:q8_0", "model.layers.1.mlp.experts.down_proj.bias"},
                 {"deepseek_v2", "uqff:mxfp4", "model.layers.1.mlp.experts.up_proj.weight"}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char from[512], shard[32];
        char *data;
        sr_quantizer *q;
        snprintf(from, sizeof from, TINY "%s", cases[i].model);
        snprintf(shard, sizeof shard, "%s-0.uqff", cases[i].to + 5);
        OK(convert(from, cases[i].to, "made", (sr_quantize_options){0}, &q, e_));
        sr_file *file = entries_of(in("made", shard), &data);
        if (cases[i].stack) {
            const sr_part *stack = sr_file_part(file, cases[i].stack);
            if (!stack) fail_msg("%s: no %s", cases[i].model, cases[i].stack);
        }
        for (int p = 0; p < file->n_parts; p++)
            if (strstr(file->part[p].name, "experts.0.")) fail_msg("%s is no part of a stack", file->part[p].name);
        const bool has_bias = strcmp(cases[i].model, "qwen2") == 0 || strncmp(cases[i].model, "gpt", 3) == 0;
        assert_int_equal(sr_file_part(file, "model.layers.0.self_attn.q_proj.bias") != NULL, has_bias);
        assert_non_null(sr_file_part(file, "model.layers.0.self_attn.o_proj.weight.format"));
        assert_null(sr_file_part(file, "model.norm.weight"));
        sr_file_close(file);
        free(data);
        sr_quantizer_free(q);
        has_logits_of(from, cases[i].to, 0.85);
        remove_tree("made");
    }
}

/* MLX has gates and ups apart, and loads stacks of experts as stacks. */
static void test_mlx_stacks(void **state) {
    (void)state;
    static const struct {
        const char *model, *to, *stack, *bias;
        double least;
    } cases[] = {{"gpt_oss", "mlx:8,group=32", "model.layers.1.mlp.experts.up_proj",
                  "model.layers.1.mlp.experts.up_proj.bias", 0.98},
                 {"gpt_oss_whole", "mlx:8,group=32", "model.layers.0.mlp.experts.gate_proj",
                  "model.layers.0.mlp.experts.down_proj.bias", 0.999},
                 {"granitemoe", "mlx:8,group=32", "model.layers.0.block_sparse_moe.switch_mlp.gate_proj", NULL, 0.999}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char from[512], name[256];
        sr_quantizer *q;
        sr_file *file;
        snprintf(from, sizeof from, TINY "%s", cases[i].model);
        OK(convert(from, cases[i].to, "made", (sr_quantize_options){0}, &q, e_));
        OK(sr_file_open("made", NULL, &file, e_));
        snprintf(name, sizeof name, "%s.weight", cases[i].stack);
        const sr_part *stack = sr_file_part(file, name);
        if (!stack) fail_msg("%s: no %s", cases[i].model, name);
        assert_int_equal(stack->n_dims, 3);
        if (cases[i].bias && !sr_file_part(file, cases[i].bias)) fail_msg("%s: no %s", cases[i].model, cases[i].bias);
        for (int p = 0; p < file->n_parts; p++)
            if (strstr(file->part[p].name, "gate_up") || strstr(file->part[p].name, "input_linear"))
                fail_msg("%s: %s is still one", cases[i].model, file->part[p].name);
        sr_file_close(file);
        sr_quantizer_free(q);
        has_logits_of(from, cases[i].to, cases[i].least);
        remove_tree("made");
    }
    /* What transformers 5 calls rope_parameters has its older names too: most of mlx-lm's models know those alone. */
    char *config;
    size_t n;
    converts(TINY "gpt_oss_whole", "mlx:8,group=32", "made", 0);
    OK(sr_file_read("made/config.json", 1 << 20, &config, &n, e_));
    assert_non_null(strstr(config, "\n  \"rope_theta\": 10000.0"));
    assert_non_null(strstr(config, "\n  \"rope_scaling\": {"));
    free(config);
    remove_tree("made");
    sr_quantizer *q;
    sr_err err = {0};
    assert_int_equal(convert(TINY "gpt_oss", "gptq:4,group=32", "made", (sr_quantize_options){0}, &q, &err),
                     SR_UNSUPPORTED);
    assert_non_null(strstr(err.msg, "gptqmodel"));
    assert_non_null(strstr(err.msg, "choose mxfp4, bf16, mlx:4"));
}

/* What GPTQ leaves as it is may have been packed by a method that its config cannot name: it becomes plain. */
static void test_nothing_stays_packed_by_another_method(void **state) {
    sr_file *file;
    (void)state;
    converts(TINY "mlx-4", "gptq:4,group=32", "made", 0);
    OK(sr_file_open("made", NULL, &file, e_));
    assert_string_equal(sr_file_part(file, "lm_head.weight")->type->name, "bf16");
    assert_null(sr_file_part(file, "lm_head.scales"));
    assert_non_null(sr_file_part(file, "model.layers.0.self_attn.q_proj.qweight"));
    sr_file_close(file);
    remove_tree("made");
}

/* Several files: the version is in the first alone. */
/* gpt-oss's experts in MXFP4 are the bytes that they were, under the names that mistral.rs looks for. */
static void test_uqff_of_packed_experts(void **state) {
    static const char *const pairs[][2] = {{".weight", "_blocks"}, {".weight.scales", "_scales"}, {".bias", "_bias"}};
    static const char *const stacks[] = {"gate_up_proj", "down_proj"};
    char *data, a[128], b[128];
    sr_file *was;
    (void)state;
    converts(TINY "gpt_oss", "uqff:mxfp4", "made", 0);
    sr_file *made = entries_of(in("made", "mxfp4-0.uqff"), &data);
    OK(sr_file_open(TINY "gpt_oss/model.safetensors", NULL, &was, e_));
    for (int i = 0; i < 12; i++) {
        const int n = snprintf(a, sizeof a, "model.layers.%d.mlp.experts.%s", i / 6, stacks[i % 2]);
        memcpy(b, a, sizeof b);
        snprintf(a + n, sizeof a - (size_t)n, "%s", pairs[i % 3][0]);
        snprintf(b + n, sizeof b - (size_t)n, "%s", pairs[i % 3][1]);
        const sr_part *x = sr_file_part(made, a), *y = sr_file_part(was, b);
        if (!x || !y || x->bytes != y->bytes || memcmp(x->data, y->data, (size_t)x->bytes) != 0)
            fail_msg("%s is not %s", a, b);
    }
    sr_file_close(made);
    sr_file_close(was);
    free(data);
}

static void test_uqff_shards(void **state) {
    (void)state;
    sr_quantizer *q;
    sr_quantize_info info;
    char *data;
    OK(convert(story, "uqff:q8_0", "made", (sr_quantize_options){.shard_bytes = 1 << 20}, &q, e_));
    sr_quantizer_info(q, &info);
    assert_true(info.n_files >= 4);
    assert_int_equal(same_numbers(story, "uqff:q8_0", "made", q), 43);
    sr_quantizer_free(q);
    for (int f = 0; f < 2; f++) {
        sr_file *file = entries_of(in("made", f ? "q8_0-1.uqff" : "q8_0-0.uqff"), &data);
        assert_int_equal(sr_file_part(file, "uqff.version.major") != NULL, f == 0);
        sr_file_close(file);
        free(data);
    }
}

/* Where nothing would change, or nothing fits, there is no result. */
static void test_nothing(void **state) {
    (void)state;
    fails(story, "bf16", "made", SR_INVALID, "nothing to convert", "43 are bf16 already");
    fails(TINY "llama.gguf", "gguf:bf16", "made.gguf", SR_INVALID, "nothing to convert", "bf16 already");
    assert_int_not_equal(access("made", F_OK), 0);
}

/* From one format of whole numbers to another with the same groups: the same weights to the bit. */
static void test_repack(void **state) {
    (void)state;
    static const char *const chains[][2] = {
        {"gptq:4,group=64", "mlx:4,group=64"},    {"gptq:8,group=64", "mlx:8,group=64"},
        {"gptq:4,group=64", "uqff:afq4"},         {"gptq:4,group=64", "compressed-tensors:w4a16,group=64"},
        {"awq:4,sym,group=64", "mlx:4,group=64"}, {"awq:4,group=64", "gptq:4,asym,group=64"}};
    for (size_t i = 0; i < sizeof chains / sizeof *chains; i++) {
        sr_quantizer *q;
        sr_quantize_tensor t;
        int exact = 0;
        converts(story, chains[i][0], "one", 0);
        OK(convert("one", chains[i][1], "two", (sr_quantize_options){0}, &q, e_));
        for (int m = 0; sr_quantizer_tensor(q, m, &t); m++)
            if (t.to && strcmp(t.from, "bf16") != 0) {
                if (t.error != 0) fail_msg("%s to %s: %s: error %g", chains[i][0], chains[i][1], t.name, t.error);
                exact++;
            }
        assert_int_equal(exact, 42);
        sr_quantizer_free(q);
        remove_tree("one");
        remove_tree("two");
    }
}

/* What loaders read before anything else: the version of zeros that they know, and numbers without a dimension. */
static void test_dialect(void **state) {
    (void)state;
    static const struct {
        const char *to, *says;
        uint32_t zeros;
    } cases[] = {{"gptq:4", "\"checkpoint_format\": \"gptq\"", 0x77777777},
                 {"gptq:8", "\"checkpoint_format\": \"gptq\"", 0x7f7f7f7f},
                 {"gptq:2", "\"checkpoint_format\": \"gptq\"", 0x55555555},
                 {"gptq:4,asym", "\"checkpoint_format\": \"gptq_v2\"", 0}};
    struct checkpoint c;
    size_t n;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        converts(story, cases[i].to, "made", 0);
        char *config = read_all("made/config.json", &n);
        if (!strstr(config, cases[i].says)) fail_msg("%s: config.json does not say %s", cases[i].to, cases[i].says);
        free(config);
        open_checkpoint("made", &c);
        const sr_part *p = sr_file_part(c.file, "model.layers.0.mlp.up_proj.qzeros");
        uint32_t word;
        for (int64_t b = 0; cases[i].zeros && b < p->bytes; b += 4) {
            memcpy(&word, p->data + b, 4);
            if (word != cases[i].zeros) fail_msg("%s: zeros %08x", cases[i].to, word);
        }
        close_checkpoint(&c);
        remove_tree("made");
    }
    converts(story, "bnb:int8", "made", 0);
    open_checkpoint("made", &c);
    assert_int_equal(sr_file_part(c.file, "model.layers.0.mlp.up_proj.weight_format")->n_dims, 0);
    close_checkpoint(&c);
}

/* GGUF to GGUF, with what a mix replaces where its blocks do not divide the rows. */
static void test_gguf(void **state) {
    (void)state;
    static const char *const models[] = {"llama", "mixtral", "gpt_oss", "qwen3_moe", "deepseek_v2", "phi3", "gemma2"};
    static const char *const mixes[] = {"gguf:q4_k_m", "gguf:q8_0", "gguf:q2_k",  "gguf:iq4_xs",
                                        "gguf:q5_1",   "gguf:f16",  "gguf:tq2_0", "gguf:mxfp4"};
    for (size_t m = 0; m < sizeof models / sizeof *models; m++)
        for (size_t i = 0; i < sizeof mixes / sizeof *mixes; i++) {
            char from[1024];
            sr_quantizer *q;
            snprintf(from, sizeof from, TINY "%s.gguf", models[m]);
            const char *const to = "made.gguf";
            OK(convert(from, mixes[i], to, (sr_quantize_options){.overwrite = true}, &q, e_));
            if (same_numbers(from, mixes[i], to, q) < 3) fail_msg("%s: nothing was converted to %s", from, mixes[i]);
            sr_quantizer_free(q);
        }
}

static void test_shards(void **state) {
    (void)state;
    sr_quantizer *q;
    sr_quantize_info info;
    const char *const dir = "made";
    const char *const one = "one";
    OK(convert(story, "mlx:4", dir, (sr_quantize_options){.shard_bytes = 1 << 20}, &q, e_));
    sr_quantizer_info(q, &info);
    assert_true(info.n_files >= 4);
    same_numbers(story, "mlx:4", dir, q);
    sr_quantizer_free(q);
    converts(story, "mlx:4", one, 0);
    struct checkpoint a, b;
    open_checkpoint(dir, &a);
    open_checkpoint(one, &b);
    assert_int_equal(a.file->n_shards, info.n_files);
    assert_int_equal(a.file->n_parts, b.file->n_parts);
    close_checkpoint(&a);
    close_checkpoint(&b);
    size_t n;
    char name[64], *index = read_all(in(dir, "model.safetensors.index.json"), &n);
    for (int i = 1; i <= info.n_files; i++) {
        snprintf(name, sizeof name, "model-%05d-of-%05d.safetensors", i, info.n_files);
        assert_non_null(strstr(index, name));
        card_has_hash(dir, name);
    }
    free(index);
}

static void test_threads(void **state) {
    (void)state;
    static const char *const to[] = {"gptq:4", "hqq:3", "bnb:nf4,double", "nvfp4", "fp8:block"};
    const char *const a = "a/made";
    const char *const b = "b/made";
    for (size_t i = 0; i < sizeof to / sizeof *to; i++) {
        converts(story, to[i], a, 1);
        converts(story, to[i], b, 2);
        same_file(in(a, "model.safetensors"), in(b, "model.safetensors"));
        same_file(in(a, "README.md"), in(b, "README.md"));
        same_file(in(a, "config.json"), in(b, "config.json"));
        remove_tree(a);
        remove_tree(b);
    }
}

/* Where a matrix is until it is written makes no difference. The largest planes here are the embedding's. */
static void test_matrices_in_a_file(void **state) {
    (void)state;
    static const struct {
        const char *to, *at, *file;
    } made[] = {{"mlx:8", "", "model.safetensors"}, {"gguf:q8_0", ".gguf", NULL}, {"uqff:q8_0", "", "q8_0-0.uqff"}};
    for (size_t i = 0; i < sizeof made / sizeof *made; i++) {
        char want[64], got[64];
        sr_quantizer *q;
        sr_quantize_info in_memory, on_disk;
        snprintf(want, sizeof want, "a/made%s", made[i].at);
        snprintf(got, sizeof got, "b/made%s", made[i].at);
        converts(story, made[i].to, want, 2);
        mkdir("b", 0777);
        OK(sr_quantizer_plan(story, got, &(sr_quantize_options){.to = made[i].to, .threads = 2}, &q, e_));
        sr_quantizer_info(q, &in_memory);
        q->matrix_bytes = 0;
        sr_quantizer_info(q, &on_disk);
        assert_int_equal(in_memory.scratch, 0);
        assert_true(on_disk.scratch >= 4096 * 256 + 4096 * 256 / 16);
        assert_true(in_memory.memory - on_disk.memory >= 4096 * 256);
        OK(sr_quantizer_run(q, false, e_));
        sr_quantizer_free(q);
        same_file(made[i].file ? in(got, made[i].file) : got, made[i].file ? in(want, made[i].file) : want);
        remove_tree(want);
        remove_tree(got);
    }
}

/* ---------------------------------------------------------------- stopping */

struct stop {
    int after, calls;
};
static bool stop_after(void *user, const char *what, double done, double total) {
    struct stop *s = user;
    (void)what, (void)done, (void)total;
    return s->calls++ < s->after;
}

/* Cancelled before each of some tensors, and resumed: the same result; what stood there stays until then. */
static void resumes(const char *to, const char *other, const char *file) {
    const char *const dir = "a/made";
    const char *const want = "b/made";
    const char *const part = "a/made.part";
    converts(story, to, want, 0);
    for (int after = 0; after < 56; after += 11) {
        struct stop stop = {.after = after};
        sr_quantizer *q;
        sr_err err = {0};
        sr_quantize_options o = {.to = to, .overwrite = true, .progress = stop_after, .user = &stop};
        remove_tree(dir);
        mkdir("a", 0777);
        mkdir(dir, 0777);
        write_text(in(dir, "mine"), "stays");
        check_error("stopped", convert(story, to, dir, o, &q, &err), &err, SR_CANCELLED, "--resume", NULL);
        sr_quantizer_free(q);
        assert_int_equal(access(in(dir, "mine"), F_OK), 0);
        assert_int_equal(access(in(part, "journal"), F_OK), 0);
        o.progress = NULL;
        o.to = other;
        err = (sr_err){0};
        OK(sr_quantizer_plan(story, dir, &o, &q, e_));
        check_error("other options", sr_quantizer_run(q, true, &err), &err, SR_INVALID, "another conversion",
                    "--resume", NULL);
        sr_quantizer_free(q);
        o.to = to;
        OK(sr_quantizer_plan(story, dir, &o, &q, e_));
        OK(sr_quantizer_run(q, true, e_));
        sr_quantizer_free(q);
        same_file(in(dir, file), in(want, file));
        same_file(in(dir, "README.md"), in(want, "README.md"));
        same_file(in(dir, "config.json"), in(want, "config.json"));
        assert_int_not_equal(access(in(dir, "mine"), F_OK), 0);
        assert_int_not_equal(access(in(dir, "journal"), F_OK), 0);
        assert_int_not_equal(access(part, F_OK), 0);
    }
}

static void test_resume(void **state) {
    (void)state;
    resumes("hqq:4", "hqq:4,group=32", "model.safetensors");
    remove_tree("b");
    resumes("uqff:q4k", "uqff:q5k", "q4k-0.uqff");
}

/* A run that ended before its journal began, and one whose journal lost the end of a line. */
static void test_torn_journal(void **state) {
    (void)state;
    struct stop stop = {.after = 30};
    sr_quantizer *q;
    sr_err err = {0};
    const char *const dir = "a/made";
    const char *const want = "b/made";
    const char *const part = "a/made.part";
    converts(story, "gptq:4", want, 0);
    for (int turn = 0; turn < 3; turn++) {
        stop.calls = 0;
        sr_quantize_options o = {.to = "gptq:4", .progress = stop_after, .user = &stop};
        err = (sr_err){0};
        check_error("stopped", convert(story, "gptq:4", dir, o, &q, &err), &err, SR_CANCELLED, NULL);
        sr_quantizer_free(q);
        size_t n;
        char *journal = read_all(in(part, "journal"), &n);
        assert_true(n > 200);
        write_file(in(part, "journal"), journal, turn == 0 ? 0 : turn == 1 ? 20 : n - 7);
        write_text(in(part, ".tokenizer.json.1234"), "half");
        free(journal);
        for (int again = 0; again < 2; again++) { /* stopped a second time, a little later */
            stop = (struct stop){.after = again ? 1000 : 34};
            err = (sr_err){0};
            OK(sr_quantizer_plan(story, dir, &o, &q, e_));
            if (again)
                OK(sr_quantizer_run(q, true, e_));
            else
                check_error("stopped", sr_quantizer_run(q, true, &err), &err, SR_CANCELLED, NULL);
            sr_quantizer_free(q);
        }
        stop.after = 30;
        assert_int_not_equal(access(in(dir, ".tokenizer.json.1234"), F_OK), 0);
        same_file(in(dir, "model.safetensors"), in(want, "model.safetensors"));
        same_file(in(dir, "README.md"), in(want, "README.md"));
        remove_tree(dir);
    }
}

/* ---------------------------------------------------------------- errors */

static void test_errors(void **state) {
    (void)state;
    const char *const dir = "made";
    fails(story, "zork", dir, SR_INVALID, "gguf:TYPE", "compressed-tensors:w4a16");
    fails(story, "gptq:5", dir, SR_INVALID, "gptq:5", "gptq:2|3|4|8");
    fails(story, "gguf:zork", dir, SR_INVALID, "gguf:zork", "q4_k_m");
    fails(story, "uqff:q9", dir, SR_INVALID, "uqff:q9", "uqff:q4_0|q4_1");
    fails(story, "uqff:q4k,group=32", dir, SR_INVALID, "group", "leave it out");
    fails(TINY "granitemoe", "uqff:q4k", dir, SR_UNSUPPORTED, "input_linear", "no loader");
    fails(story, "gptq:4,double", dir, SR_INVALID, "double", "desc_act");
    fails(story, "awq:4,desc_act", dir, SR_INVALID, "desc_act", "group=N");
    fails(story, "mxfp4,group=64", dir, SR_INVALID, "group", "leave it out");
    fails(story, "f16,sym", dir, SR_INVALID, "sym", "leave it out");
    fails(story, "gptq:4,group=48", dir, SR_INVALID, "48", "power of two");
    fails(story, "hqq:4,group=-1", dir, SR_INVALID, "-1", "power of two");
    fails(story, "gptq:4", "/proc/made", SR_IO, "/proc/made", "directory");
    fails("none", "gptq:4", dir, SR_IO, "none", "");
    mkdir(dir, 0777);
    fails(story, "gptq:4", dir, SR_INVALID, dir, "--overwrite");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_targets, enter, leave),
        cmocka_unit_test_setup_teardown(test_uqff, enter, leave),
        cmocka_unit_test_setup_teardown(test_uqff_as_mistral_rs, enter, leave),
        cmocka_unit_test_setup_teardown(test_uqff_layers, enter, leave),
        cmocka_unit_test_setup_teardown(test_mlx_stacks, enter, leave),
        cmocka_unit_test_setup_teardown(test_nothing_stays_packed_by_another_method, enter, leave),
        cmocka_unit_test_setup_teardown(test_uqff_of_packed_experts, enter, leave),
        cmocka_unit_test_setup_teardown(test_uqff_shards, enter, leave),
        cmocka_unit_test_setup_teardown(test_nothing, enter, leave),
        cmocka_unit_test_setup_teardown(test_repack, enter, leave),
        cmocka_unit_test_setup_teardown(test_dialect, enter, leave),
        cmocka_unit_test_setup_teardown(test_gguf, enter, leave),
        cmocka_unit_test_setup_teardown(test_shards, enter, leave),
        cmocka_unit_test_setup_teardown(test_threads, enter, leave),
        cmocka_unit_test_setup_teardown(test_matrices_in_a_file, enter, leave),
        cmocka_unit_test_setup_teardown(test_resume, enter, leave),
        cmocka_unit_test_setup_teardown(test_torn_journal, enter, leave),
        cmocka_unit_test_setup_teardown(test_errors, enter, leave),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
