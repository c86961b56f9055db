/* Directories of Hugging Face's become GGUF files with the same logits: every family of tests/vectors/tiny, or a
 * refusal that says why. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/path.h"
#include "base/random.h"
#include "fmt/fmt.h"
#include "sirocco.h"

#include "draft.h"

enum { T = 24, PATH = 512, MOST = 128 };

/* What GGUF cannot hold, or this build does not write yet: a part of the message. */
static const struct {
    const char *name, *why;
} refused[] = {
    {"gemma3_mm", "scales"},          {"glm4_moe_lite", "layers"},   {"llama_dynamic", "rotation"},
    {"llama_yarn_exact", "rotation"}, {"qwen3_moe_dense", "layers"},
};

struct list {
    char name[MOST][64];
    int n;
};
static bool add_name(void *ctx, const char *name) {
    struct list *l = ctx;
    if (l->n < MOST && strlen(name) < sizeof l->name[0]) strcpy(l->name[l->n++], name);
    return true;
}

/* Logits behind T tokens, in exact arithmetic; owned by the caller. */
static float *exact_logits(const char *path, int *n) {
    sr_engine *e;
    sr_model *m;
    sr_session *s;
    sr_model_info info;
    sr_err err = {0};
    int32_t id[T];
    if (sr_engine_create(&(sr_engine_options){.exact = true, .threads = 1}, &e, &err) != SR_OK ||
        sr_model_open(e, path, NULL, &m, &err) != SR_OK || sr_session_create(m, NULL, &s, &err) != SR_OK)
        fail_msg("%s: %s", path, err.msg);
    sr_model_get_info(m, &info);
    for (int i = 0; i < T; i++) id[i] = (i * 37 + 5) % info.n_vocab;
    if (sr_session_sync(s, id, T, &err) != SR_OK || sr_step(&s, 1, &err) != SR_OK) fail_msg("%s: %s", path, err.msg);
    *n = info.n_vocab;
    float *out = malloc((size_t)*n * sizeof *out);
    memcpy(out, sr_session_logits(s), (size_t)*n * sizeof *out);
    sr_session_free(s);
    sr_model_close(m);
    sr_engine_free(e);
    return out;
}

static void same_logits(const char *name, const char *a, const char *b) {
    int n, n_got;
    float *want = exact_logits(a, &n), *got = exact_logits(b, &n_got);
    assert_int_equal(n, n_got);
    for (int k = 0; k < n; k++)
        if (!(fabsf(want[k] - got[k]) <= 2e-5f)) /* of about 2: q and k change places, and sums their order */
            fail_msg("%s: logit %d is %g, %g in the directory", name, k, (double)got[k], (double)want[k]);
    free(want), free(got);
}

/* What no tiny model has: latent attention whose features rotate in halves, with and without a matrix of queries apart.
 */
static void latents_in_halves_change_to_pairs(void **state) {
    (void)state;
    static const char *const names[] = {"deepseek_v2", "deepseek_v3"};
    for (int i = 0; i < 2; i++) {
        char dir[] = "/tmp/sirocco-test-XXXXXX", text[8192], path[PATH], result[PATH], command[3 * PATH];
        sr_err err = {0};
        assert_non_null(mkdtemp(dir));
        snprintf(command, sizeof command, "cp %s/tests/vectors/tiny/%s/*.safetensors %s", SR_SOURCE_DIR, names[i], dir);
        assert_int_equal(system(command), 0);
        snprintf(path, sizeof path, "%s/tests/vectors/tiny/%s/config.json", SR_SOURCE_DIR, names[i]);
        FILE *f = fopen(path, "r");
        assert_non_null(f);
        const size_t n = fread(text, 1, sizeof text - 1, f);
        fclose(f);
        text[n] = 0;
        snprintf(path, sizeof path, "%s/config.json", dir);
        f = fopen(path, "w");
        assert_non_null(f);
        char *key = strstr(text, "\"rope_interleave\"");
        if (key) memcpy(key, "\"was_interleave_\"", 17);
        fprintf(f, "{\"rope_interleave\": false, %s", strchr(text, '{') + 1);
        fclose(f);
        snprintf(result, sizeof result, "%s/made.gguf", dir);
        if (quantize_to(dir, result, "gguf:f32", &err) != SR_OK) fail_msg("%s: %s", names[i], err.msg);
        same_logits(names[i], dir, result);
        snprintf(path, sizeof path, "rm -rf %s", dir);
        assert_int_equal(system(path), 0);
    }
}

static void every_family_has_the_same_logits_as_gguf(void **state) {
    (void)state;
    struct list all = {.n = 0};
    char dir[] = "/tmp/sirocco-test-XXXXXX", path[PATH], result[PATH];
    int converted = 0;
    assert_non_null(mkdtemp(dir));
    snprintf(path, sizeof path, "%s/tests/vectors/tiny", SR_SOURCE_DIR);
    assert_int_equal(sr_path_list(path, add_name, &all, NULL), SR_OK);
    for (int i = 0; i < all.n; i++) {
        const char *why = NULL;
        sr_err err = {0};
        snprintf(path, sizeof path, "%s/tests/vectors/tiny/%s/config.json", SR_SOURCE_DIR, all.name[i]);
        if (sr_path_look(path) != SR_PATH_FILE) continue;
        path[strlen(path) - strlen("/config.json")] = 0;
        snprintf(result, sizeof result, "%s/%s.gguf", dir, all.name[i]);
        for (size_t r = 0; r < sizeof refused / sizeof *refused; r++)
            if (strcmp(refused[r].name, all.name[i]) == 0) why = refused[r].why;
        sr_status s = quantize_to(path, result, "gguf:f32", &err);
        if (why) {
            if (s != SR_UNSUPPORTED || !strstr(err.msg, why)) fail_msg("%s: %d, %s", all.name[i], s, err.msg);
            assert_int_equal(sr_path_look(result), SR_PATH_ABSENT);
            continue;
        }
        if (s != SR_OK) fail_msg("%s: %s", all.name[i], err.msg);
        same_logits(all.name[i], path, result);
        unlink(result);
        converted++;
    }
    assert_true(converted > 40);
    snprintf(path, sizeof path, "rm -rf %s", dir);
    assert_int_equal(system(path), 0);
}

/* The bundled model's texts become the same tokens. */
static void the_tokenizer_goes_along(void **state) {
    (void)state;
    static const char text[] = "Once upon a time, there were 3 dragons;\n\n\"Why?\" asked  the na\xc3\xafve one.";
    char dir[] = "/tmp/sirocco-test-XXXXXX", path[PATH], result[PATH];
    sr_err err = {0};
    assert_non_null(mkdtemp(dir));
    snprintf(path, sizeof path, "%s/models/story-6m", SR_SOURCE_DIR);
    snprintf(result, sizeof result, "%s/story.gguf", dir);
    if (quantize_to(path, result, "gguf:q8_0", &err) != SR_OK) fail_msg("%s", err.msg);
    sr_tokenizer *a, *b;
    int32_t ids[2][64];
    size_t n[2];
    assert_int_equal(sr_tokenizer_open(path, &a, NULL), SR_OK);
    assert_int_equal(sr_tokenizer_open(result, &b, NULL), SR_OK);
    assert_int_equal(sr_tokenize(a, text, sizeof text - 1, 0, ids[0], 64, &n[0], NULL), SR_OK);
    assert_int_equal(sr_tokenize(b, text, sizeof text - 1, 0, ids[1], 64, &n[1], NULL), SR_OK);
    assert_int_equal(n[0], n[1]);
    assert_memory_equal(ids[0], ids[1], n[0] * sizeof ids[0][0]);
    assert_int_equal(sr_tokenizer_bos(a), sr_tokenizer_bos(b));
    assert_int_equal(sr_tokenizer_eos(a), sr_tokenizer_eos(b));
    assert_int_equal(sr_tokenizer_adds_bos(a), sr_tokenizer_adds_bos(b));
    sr_tokenizer_free(a), sr_tokenizer_free(b);
    unlink(result);
    rmdir(dir);
}

/* From one format to another that can hold its codes and scales: not a bit changes. */
static void what_can_be_held_is_not_rounded_again(void **state) {
    (void)state;
    static const char *const pairs[][2] = {{"mlx:4,group=32", "gguf:q4_1"},
                                           {"gptq:4,group=32", "gguf:q4_0"},
                                           {"gptq:4,group=64,asym", "awq:4,group=64"},
                                           {"awq:4,group=64", "gptq:4,group=64,asym"},
                                           {"awq:4,group=64", "hqq:4"}};
    char dir[] = "/tmp/sirocco-test-XXXXXX", model[PATH], middle[PATH], result[PATH], command[PATH];
    assert_non_null(mkdtemp(dir));
    snprintf(model, sizeof model, "%s/models/story-6m", SR_SOURCE_DIR);
    snprintf(middle, sizeof middle, "%s/middle", dir);
    snprintf(result, sizeof result, "%s/result", dir);
    for (size_t i = 0; i < sizeof pairs / sizeof *pairs; i++) {
        sr_quantizer *q;
        sr_quantize_tensor t;
        sr_err err = {0};
        int exact = 0;
        if (quantize_to(model, middle, pairs[i][0], &err) != SR_OK) fail_msg("%s: %s", pairs[i][0], err.msg);
        const sr_quantize_options options = {.to = pairs[i][1], .overwrite = true};
        if (sr_quantizer_plan(middle, result, &options, &q, &err) != SR_OK || sr_quantizer_run(q, false, &err) != SR_OK)
            fail_msg("%s: %s", pairs[i][1], err.msg);
        for (int k = 0; sr_quantizer_tensor(q, k, &t); k++) {
            if (!t.to || t.N == 4096 || strcmp(t.to, "q8_0") == 0) continue; /* the embedding was not quantized */
            if (t.error != 0) fail_msg("%s to %s: %s has the error %g", pairs[i][0], pairs[i][1], t.name, t.error);
            exact++;
        }
        sr_quantizer_free(q);
        assert_true(exact == 42);
        snprintf(command, sizeof command, "rm -rf %s/middle %s/result", dir, dir);
        assert_int_equal(system(command), 0);
    }
    rmdir(dir);
}

static void bind(const sr_file *file, const sr_qconfig *config, const char *name, sr_arena *arena, sr_weight *w) {
    sr_err err = {0};
    if (sr_weight_bind(file, config, name, -1, -1, arena, w, &err) != SR_OK) fail_msg("%s: %s", name, err.msg);
    assert_non_null(w->fmt->take_mxfp4);
}
/* Row r of a is row s of b, to the bit, as stored and as decoded. */
static void same_row(const char *name, const sr_weight *a, int64_t r, const sr_weight *b, int64_t s) {
    float x[64], y[64];
    sr_mxfp4 was, is;
    assert_true(a->K == b->K && a->K <= 64);
    a->fmt->decode(a, r, 0, a->K, x);
    b->fmt->decode(b, s, 0, b->K, y);
    if (memcmp(x, y, (size_t)a->K * sizeof *x) != 0) fail_msg("%s: row %d has other values", name, (int)s);
    for (int64_t k = 0; k < a->K; k += 32) {
        a->fmt->take_mxfp4(a, r, k, &was);
        b->fmt->take_mxfp4(b, s, k, &is);
        if (memcmp(&was, &is, sizeof was) != 0) fail_msg("%s: row %d has other bits", name, (int)s);
    }
}

/* The experts of gpt-oss with any bits at all: gates and ups, in turns there, are two stacks here. */
static void mxfp4_changes_places_only(void **state) {
    (void)state;
    char dir[] = "/tmp/sirocco-test-XXXXXX", model[PATH], result[PATH], from[PATH];
    sr_err err = {0};
    sr_file *file[2];
    sr_qconfig *config;
    sr_arena arena = {0};
    sr_quantizer *q;
    sr_quantize_tensor t;
    int exact = 0;
    assert_non_null(mkdtemp(dir));
    snprintf(model, sizeof model, "%s/model.safetensors", dir);
    snprintf(result, sizeof result, "%s/result.gguf", dir);
    snprintf(from, sizeof from, "%s/tests/vectors/tiny/gpt_oss/model.safetensors", SR_SOURCE_DIR);
    struct draft d = draft_of(from);
    draft_random_blocks(&d, 3);
    draft_write_safetensors(&d, model);
    draft_close(&d);
    snprintf(from, sizeof from, "%s/tests/vectors/tiny/gpt_oss/config.json", SR_SOURCE_DIR);
    snprintf(model, sizeof model, "%s/config.json", dir);
    assert_int_equal(symlink(from, model), 0);
    if (sr_quantizer_plan(dir, result, &(sr_quantize_options){.to = "gguf:mxfp4"}, &q, &err) != SR_OK ||
        sr_quantizer_run(q, false, &err) != SR_OK)
        fail_msg("%s", err.msg);
    for (int i = 0; sr_quantizer_tensor(q, i, &t); i++) exact += t.to && strcmp(t.to, "mxfp4") == 0 && t.error == 0;
    sr_quantizer_free(q);
    assert_int_equal(exact, 6);
    assert_int_equal(sr_file_open(dir, NULL, &file[0], &err), SR_OK);
    assert_int_equal(sr_file_open(result, NULL, &file[1], &err), SR_OK);
    assert_int_equal(sr_qconfig_read(file[0], &arena, &config, &err), SR_OK);
    for (int layer = 0; layer < 2; layer++) {
        static const char *const hf[] = {"gate_up_proj", "gate_up_proj", "down_proj"}, *const gguf[] = {"gate", "up",
                                                                                                        "down"};
        for (int i = 0; i < 3; i++) {
            char name[128];
            sr_weight a, b;
            snprintf(name, sizeof name, "model.layers.%d.mlp.experts.%s", layer, hf[i]);
            bind(file[0], config, name, &arena, &a);
            snprintf(name, sizeof name, "blk.%d.ffn_%s_exps", layer, gguf[i]);
            bind(file[1], NULL, name, &arena, &b);
            assert_int_equal(a.N, i < 2 ? 2 * b.N : b.N);
            for (int64_t row = 0; row < b.N; row++) same_row(name, &a, i < 2 ? 2 * row + i : row, &b, row);
        }
    }
    sr_file_close(file[0]), sr_file_close(file[1]);
    sr_arena_free(&arena);
    unlink(result), unlink(model);
    snprintf(model, sizeof model, "%s/model.safetensors", dir);
    unlink(model);
    rmdir(dir);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_family_has_the_same_logits_as_gguf),
        cmocka_unit_test(latents_in_halves_change_to_pairs),
        cmocka_unit_test(the_tokenizer_goes_along),
        cmocka_unit_test(what_can_be_held_is_not_rounded_again),
        cmocka_unit_test(mxfp4_changes_places_only),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
