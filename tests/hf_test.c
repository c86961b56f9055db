/* Model directories: configuration as values, which files hold the weights, stale and hostile indexes. */
#include "support.h"

#include <math.h>

#include "base/map.h"
#include "file/file.h"

static const char index_json[] = "model.safetensors.index.json";

/* A safetensors file of U8 tensors of 4 bytes; names are separated by spaces. */
static void write_weights(const char *path, const char *names) {
    struct bytes h = {0}, b = {0};
    int n = 0;
    put(&h, "{", 1);
    for (const char *p = names; *p;) {
        char entry[200];
        size_t len = strcspn(p, " ");
        int m = snprintf(entry, sizeof entry, "%s\"%.*s\":{\"dtype\":\"U8\",\"shape\":[4],\"data_offsets\":[%d,%d]}",
                         n ? "," : "", (int)len, p, 4 * n, 4 * n + 4);
        put(&h, entry, (size_t)m);
        n++;
        p += len + (p[len] == ' ');
    }
    put(&h, "}", 1);
    put_int(&b, h.n, 8);
    put(&b, h.data, h.n);
    put_zeros(&b, 4 * (size_t)n);
    write_file(path, b.data, b.n);
    drop(&h);
    drop(&b);
}

static char warning[512];
static void keep_warning(void *user, sr_log_level level, const char *line) {
    (void)user;
    if (level == SR_LOG_WARNING) snprintf(warning, sizeof warning, "%s", line);
}

static int make_directory(void **state) {
    warning[0] = 0;
    sr_log_sink(keep_warning, NULL);
    if (make_scratch(state) != 0) return -1;
    write_text(in(*state, "config.json"), "{\"model_type\":\"llama\"}");
    return 0;
}

static sr_file *must_open(const char *path) {
    sr_file *f;
    sr_err err = {0};
    if (sr_file_open(path, NULL, &f, &err) != SR_OK) fail_msg("%s: %s", path, err.msg);
    return f;
}

#define assert_rejected(path, status, ...)                                                                             \
    do {                                                                                                               \
        sr_err err_ = {0};                                                                                             \
        sr_file *file_;                                                                                                \
        sr_status got_ = sr_file_open(path, NULL, &file_, &err_);                                                      \
        sr_file_close(file_);                                                                                          \
        check_error(__func__, got_, &err_, status, __VA_ARGS__, NULL);                                                 \
    } while (0)

static void assert_text(const sr_file *f, const char *key, const char *want) {
    const char *text;
    size_t n;
    sr_err err = {0};
    if (!sr_value_string(f, key, &text, &n, &err)) fail_msg("%s: absent or no text: %s", key, err.msg);
    if (n != strlen(want) || memcmp(text, want, n) != 0)
        fail_msg("%s: got \"%.*s\", want \"%s\"", key, (int)n, text, want);
}

/* ---------------------------------------------------------------- configuration */

static void config_becomes_flat_values(void **state) {
    write_weights(in(*state, "model.safetensors"), "w");
    write_text(in(*state, "config.json"),
               "{\"model_type\":\"ll\\u0061ma\",\"hidden_size\":64,\"bias\":-3,\"eps\":1e-5,\"tie\":true,\"none\":null,"
               "\"big\":1000000000000000019884624838656,\"inf\":Infinity,\"four\":4.0,"
               "\"rope_scaling\":{\"factor\":8.0,\"deep\":{\"er\":\"x\"},\"empty\":{}},"
               "\"u\":[1,2],\"i\":[1,-2],\"f\":[1,2.5,-3],\"s\":[\"a\",\"\\u20ac\",\"\"],\"b\":[true,false],\"nil\":[],"
               "\"mixed\":[1,\"a\"],\"objects\":[{\"a\":1}],\"nested\":[[1]],\"nulls\":[1,null],"
               "\"generation_config\":{\"temperature\":9},\"after\":1}");
    write_text(in(*state, "generation_config.json"), "{\"temperature\":0.5,\"eos_token_id\":[1,2]}");
    write_text(in(*state, "tokenizer_config.json"),
               "{\"chat_template\":\"{{x}}\",\"added_tokens_decoder\":{\"0\":{\"content\":\"<s>\"}}}");
    write_text(in(*state, "tokenizer.json"), "{\"model\":{}}");
    sr_file *f = must_open(*state);
    sr_err err = {0};
    int64_t i;
    double d;
    bool b;
    const char *text;
    size_t n;
    assert_text(f, "model_type", "llama");
    assert_true(sr_value_int(f, "hidden_size", 1, 100, &i, &err) && i == 64);
    assert_true(sr_value_int(f, "bias", -100, 100, &i, &err) && i == -3);
    assert_true(sr_value_int(f, "four", 1, 100, &i, &err) && i == 4);
    assert_true(sr_value_float(f, "eps", &d, &err) && d == 1e-5);
    assert_true(sr_value_float(f, "hidden_size", &d, &err) && d == 64);
    assert_true(sr_value_float(f, "big", &d, &err) && d == 1e30);
    assert_true(sr_value_bool(f, "tie", &b, &err) && b);
    assert_true(sr_value_float(f, "rope_scaling.factor", &d, &err) && d == 8);
    assert_text(f, "rope_scaling.deep.er", "x");
    assert_true(sr_value_float(f, "generation_config.temperature", &d, &err) && d == 0.5);
    assert_text(f, "tokenizer_config.chat_template", "{{x}}");
    assert_true(sr_value_int(f, "after", 1, 1, &i, &err));
    static const char *const left_out[] = {"none",
                                           "mixed",
                                           "objects",
                                           "nested",
                                           "nulls",
                                           "rope_scaling",
                                           "tokenizer_config.added_tokens_decoder.0.content"};
    for (int k = 0; k < 7; k++)
        if (sr_file_value(f, left_out[k])) fail_msg("%s is there", left_out[k]);
    sr_err not_finite = {0};
    assert_false(sr_value_float(f, "inf", &d, &not_finite));
    check_error("inf", not_finite.code, &not_finite, SR_CORRUPT, "inf", "finite", NULL);
    sr_array a = sr_array_over(sr_file_value(f, "u"));
    assert_int_equal(a.value->v.a.kind, SR_KIND_U64);
    assert_true(sr_array_int(&a, &i) && i == 1 && sr_array_int(&a, &i) && i == 2 && !sr_array_int(&a, &i));
    a = sr_array_over(sr_file_value(f, "i"));
    assert_true(sr_array_int(&a, &i) && i == 1 && sr_array_int(&a, &i) && i == -2 && !sr_array_int(&a, &i));
    a = sr_array_over(sr_file_value(f, "f"));
    assert_true(sr_array_float(&a, &d) && d == 1 && sr_array_float(&a, &d) && d == 2.5);
    assert_true(sr_array_float(&a, &d) && d == -3 && !sr_array_float(&a, &d));
    a = sr_array_over(sr_file_value(f, "s"));
    assert_true(sr_array_string(&a, &text, &n) && n == 1 && *text == 'a');
    assert_true(sr_array_string(&a, &text, &n) && n == 3 && memcmp(text, "\xe2\x82\xac", 3) == 0);
    assert_true(sr_array_string(&a, &text, &n) && n == 0 && !sr_array_string(&a, &text, &n));
    a = sr_array_over(sr_file_value(f, "b"));
    assert_true(sr_array_bool(&a, &b) && b && sr_array_bool(&a, &b) && !b && !sr_array_bool(&a, &b));
    assert_int_equal(sr_file_value(f, "nil")->v.a.n, 0);
    assert_int_equal(f->tokenizer.size, 12);
    assert_int_equal(err.code, SR_OK);
    assert_string_equal(warning, "");
    sr_file_close(f);
}

static void config_errors_name_file_and_place(void **state) {
    static const struct {
        const char *name, *text, *says;
        sr_status status;
    } bad[] = {
        {"config.json", "{\"a\":1,}", "byte 7", SR_CORRUPT},
        {"config.json", "[]", "no JSON object", SR_CORRUPT},
        {"config.json", "", "ends at byte 0", SR_CORRUPT},
        {"config.json", "{} x", "behind the JSON object at byte 3", SR_CORRUPT},
        {"config.json", "{\"a\":\"\xff\"}", "not UTF-8", SR_CORRUPT},
        {"config.json", "{\"a\":[\"\xff\"]}", "not UTF-8", SR_CORRUPT},
        {"config.json", "{\"a\\u0000\":1}", "zero byte", SR_CORRUPT},
        {"generation_config.json", "{\"a\"", "ends at byte 4", SR_CORRUPT},
        {"tokenizer_config.json", "{\"a\":tru}", "byte 5", SR_CORRUPT},
        {"chat_template.jinja", "\xff", "not UTF-8", SR_CORRUPT},
    };
    write_weights(in(*state, "model.safetensors"), "w");
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        write_text(in(*state, "config.json"), "{}");
        write_text(in(*state, bad[i].name), bad[i].text);
        assert_rejected(*state, bad[i].status, bad[i].name, bad[i].says);
        unlink(in(*state, bad[i].name));
    }
    write_text(in(*state, "config.json"), "{\"a\":1,\"b\":2,\"a\":3}");
    assert_rejected(*state, SR_CORRUPT, "\"a\"", "twice");
}

static void config_depth_and_key_lengths_are_limited(void **state) {
    struct bytes b = {0};
    write_weights(in(*state, "model.safetensors"), "w");
    for (int i = 0; i < 5000; i++) put(&b, "{\"k\":", 5);
    write_file(in(*state, "config.json"), b.data, b.n);
    assert_rejected(*state, SR_LIMIT, "config.json", "deeper than 64");
    b.n = 0;
    for (int i = 0; i < 60; i++) put(&b, "{\"a key of twenty bytes\":", 25);
    write_file(in(*state, "config.json"), b.data, b.n);
    assert_rejected(*state, SR_LIMIT, "config.json", "at most 1023 bytes");
    b.n = 0;
    put(&b, "{\"", 2);
    for (int i = 0; i < 20000; i++) put(&b, "k", 1);
    put(&b, "\":1}", 4);
    write_file(in(*state, "config.json"), b.data, b.n);
    assert_rejected(*state, SR_LIMIT, "config.json", "a key of 20000 bytes");
    drop(&b);
}

static void chat_template_comes_from_file_list_or_text(void **state) {
    write_weights(in(*state, "model.safetensors"), "w");
    write_text(
        in(*state, "tokenizer_config.json"),
        "{\"chat_template\":[{\"name\":\"tool_use\",\"template\":\"T\"},{\"name\":\"default\",\"template\":\"D\"},"
        "{\"name\":\"broken\"},7,{\"x\":[1]}],\"last\":1}");
    sr_file *f = must_open(*state);
    assert_text(f, "tokenizer_config.chat_template", "D");
    assert_text(f, "tokenizer_config.chat_template.tool_use", "T");
    assert_non_null(sr_file_value(f, "tokenizer_config.last"));
    sr_file_close(f);
    write_text(in(*state, "chat_template.jinja"), "from the file\n");
    f = must_open(*state);
    assert_text(f, "chat_template_jinja", "from the file\n");
    assert_text(f, "tokenizer_config.chat_template", "D");
    sr_file_close(f);
}

static void a_large_tokenizer_config_opens(void **state) {
    struct bytes b = {0};
    write_weights(in(*state, "model.safetensors"), "w");
    put(&b, "{\"added_tokens_decoder\":{", 25);
    for (int i = 0; i < 20000; i++) {
        char entry[200];
        int n = snprintf(entry, sizeof entry, "%s\"%d\":{\"content\":\"<unused%d>\",\"special\":true,\"lstrip\":false}",
                         i ? "," : "", i, i);
        put(&b, entry, (size_t)n);
    }
    put(&b, "},\"x\":1}", 8);
    assert_true(b.n > 1 << 20);
    write_file(in(*state, "tokenizer_config.json"), b.data, b.n);
    sr_file *f = must_open(*state);
    assert_int_equal(f->n_values, 2);
    sr_file_close(f);
    drop(&b);
}

/* ---------------------------------------------------------------- which files */

static void a_lone_safetensors_file_opens_without_config(void **state) {
    unlink(in(*state, "config.json"));
    write_weights(in(*state, "anything.safetensors"), "w x");
    sr_file *f = must_open(in(*state, "anything.safetensors"));
    assert_int_equal(f->n_parts, 2);
    assert_int_equal(f->n_values, 0);
    sr_file_close(f);
    write_text(in(*state, "config.json"), "{\"model_type\":\"llama\"}");
    f = must_open(in(*state, "anything.safetensors"));
    assert_text(f, "model_type", "llama");
    sr_file_close(f);
    f = must_open(*state); /* the only one in its directory */
    assert_int_equal(f->n_parts, 2);
    sr_file_close(f);
}

static void sharded_model_opens_by_index_by_scan_and_by_piece(void **state) {
    write_weights(in(*state, "model-00001-of-00002.safetensors"), "a b");
    write_weights(in(*state, "model-00002-of-00002.safetensors"), "c");
    for (int with_index = 0; with_index < 2; with_index++) {
        if (with_index)
            write_text(in(*state, index_json),
                       "{\"metadata\":{\"total_size\":12},\"weight_map\":{\"c\":\"model-00002-of-00002.safetensors\","
                       "\"a\":\"model-00001-of-00002.safetensors\",\"b\":\"model-00001-of-00002.safetensors\"}}");
        for (int by_piece = 0; by_piece < 2; by_piece++) {
            sr_file *f = must_open(by_piece ? in(*state, "model-00002-of-00002.safetensors") : *state);
            assert_int_equal(f->n_parts, 3);
            assert_int_equal(f->n_shards, 2);
            assert_string_equal(f->part[0].name, "a");
            assert_int_equal(sr_file_part(f, "c")->shard, 1);
            assert_string_equal(warning, "");
            sr_file_close(f);
        }
    }
}

static void missing_shard_is_named_with_who_needs_it(void **state) {
    write_weights(in(*state, "model-00001-of-00002.safetensors"), "a");
    assert_rejected(*state, SR_IO, "model-00002-of-00002.safetensors", "missing", "model-00001-of-00002.safetensors");
    write_text(in(*state, index_json), "{\"weight_map\":{\"a\":\"model-00001-of-00002.safetensors\","
                                       "\"c\":\"model-00002-of-00002.safetensors\"}}");
    assert_rejected(*state, SR_IO, "model-00002-of-00002.safetensors", "missing", index_json, "\"c\"");
}

static void stale_index_is_tolerated_with_a_warning(void **state) {
    write_weights(in(*state, "model-00001-of-00002.safetensors"), "a b");
    write_weights(in(*state, "model-00002-of-00002.safetensors"), "c unlisted");
    write_text(in(*state, index_json),
               "{\"weight_map\":{\"a\":\"model-00002-of-00002.safetensors\",\"b\":\"model-00001-of-00002.safetensors\","
               "\"c\":\"model-00002-of-00002.safetensors\",\"gone\":\"model-00001-of-00002.safetensors\"}}");
    sr_file *f = must_open(*state);
    assert_int_equal(f->n_parts, 4);
    assert_int_equal(sr_file_part(f, "a")->shard, 0); /* the headers are the truth */
    assert_non_null(sr_file_part(f, "unlisted"));
    assert_non_null(strstr(warning, index_json));
    assert_non_null(strstr(warning, "2 of its entries are wrong and 1 tensors are not in it"));
    sr_file_close(f);
}

static void index_of_absent_files_yields_to_model_safetensors(void **state) {
    write_weights(in(*state, "model.safetensors"), "a");
    write_text(in(*state, index_json), "{\"weight_map\":{\"a\":\"model-00001-of-00001.safetensors\"}}");
    sr_file *f = must_open(*state);
    assert_int_equal(f->n_parts, 1);
    assert_non_null(strstr(warning, "using model.safetensors"));
    sr_file_close(f);
}

static void index_may_not_name_files_elsewhere(void **state) {
    static const char *const bad[] = {"../evil.safetensors",
                                      "/etc/evil.safetensors",
                                      "sub/evil.safetensors",
                                      "..",
                                      "",
                                      ".safetensors",
                                      "..safetensors",
                                      "evil.bin",
                                      "sub\\\\evil.safetensors",
                                      "a\\u0000.safetensors",
                                      "..\\u002fevil.safetensors"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        char text[200];
        snprintf(text, sizeof text, "{\"weight_map\":{\"victim\":\"%s\"}}", bad[i]);
        write_text(in(*state, index_json), text);
        assert_rejected(*state, SR_CORRUPT, index_json, "\"victim\"", "plain name");
    }
    write_text(in(*state, index_json), "{\"weight_map\":{\"victim\":7}}");
    assert_rejected(*state, SR_CORRUPT, index_json, "\"victim\"", "\"7\"");
}

static void broken_indexes_are_rejected(void **state) {
    static const char *const bad[] = {
        "{}", "[]", "{\"weight_map\":[]}", "{\"weight_map\":{}}", "{\"weight_map\":{\"a\"", ""};
    write_weights(in(*state, "model.safetensors"), "a");
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        write_text(in(*state, index_json), bad[i]);
        assert_rejected(*state, SR_CORRUPT, index_json);
    }
}

static void a_tensor_in_two_shards_names_both(void **state) {
    write_weights(in(*state, "model-00001-of-00002.safetensors"), "a same");
    write_weights(in(*state, "model-00002-of-00002.safetensors"), "same b");
    assert_rejected(*state, SR_CORRUPT, "\"same\"", "model-00001-of-00002.safetensors",
                    "model-00002-of-00002.safetensors");
    write_weights(in(*state, "model-00002-of-00002.safetensors"), "b");
    write_text(in(*state, index_json),
               "{\"weight_map\":{\"same\":\"model-00001-of-00002.safetensors\","
               "\"b\":\"model-00002-of-00002.safetensors\",\"a\":\"model-00001-of-00002.safetensors\","
               "\"same\":\"model-00002-of-00002.safetensors\"}}");
    assert_rejected(*state, SR_CORRUPT, "\"same\"", "two files", "model-00001-of-00002.safetensors",
                    "model-00002-of-00002.safetensors");
}

/* The layout of the Hugging Face cache: snapshots/<rev>/name -> ../../blobs/<hash>. */
static void symbolic_links_into_a_blob_store_work(void **state) {
    assert_int_equal(mkdir(in(*state, "blobs"), 0700), 0);
    assert_int_equal(mkdir(in(*state, "snapshots"), 0700), 0);
    assert_int_equal(mkdir(in(*state, "snapshots/rev"), 0700), 0);
    write_weights(in(*state, "blobs/1"), "a");
    write_weights(in(*state, "blobs/2"), "b");
    write_text(in(*state, "blobs/3"), "{\"model_type\":\"llama\"}");
    write_text(in(*state, "blobs/4"), "{\"weight_map\":{\"a\":\"model-00001-of-00002.safetensors\","
                                      "\"b\":\"model-00002-of-00002.safetensors\"}}");
    assert_int_equal(symlink("../../blobs/1", in(*state, "snapshots/rev/model-00001-of-00002.safetensors")), 0);
    assert_int_equal(symlink("../../blobs/2", in(*state, "snapshots/rev/model-00002-of-00002.safetensors")), 0);
    assert_int_equal(symlink("../../blobs/3", in(*state, "snapshots/rev/config.json")), 0);
    for (int with_index = 0; with_index < 2; with_index++) {
        if (with_index)
            assert_int_equal(symlink("../../blobs/4", in(*state, "snapshots/rev/model.safetensors.index.json")), 0);
        sr_file *f = must_open(in(*state, "snapshots/rev"));
        assert_int_equal(f->n_parts, 2);
        assert_text(f, "model_type", "llama");
        sr_file_close(f);
        f = must_open(in(*state, "snapshots/rev/model-00001-of-00002.safetensors"));
        assert_int_equal(f->n_parts, 2);
        assert_text(f, "model_type", "llama");
        sr_file_close(f);
    }
}

static void directories_without_a_model_say_what_is_expected(void **state) {
    assert_rejected(*state, SR_INVALID, "no weights", "*.safetensors");
    write_text(in(*state, "consolidated.00.pth"), "x");
    assert_rejected(*state, SR_UNSUPPORTED, "consolidated.00.pth", "*.safetensors");
    write_text(in(*state, "some.gguf"), "x");
    assert_rejected(*state, SR_INVALID, "some.gguf", "its own path");
    write_weights(in(*state, "one.safetensors"), "a");
    write_weights(in(*state, "two.safetensors"), "a");
    assert_rejected(*state, SR_INVALID, "one.safetensors", "two.safetensors", "expected one model");
    unlink(in(*state, "two.safetensors"));
    unlink(in(*state, "config.json"));
    assert_rejected(*state, SR_INVALID, "no config.json");
    assert_int_equal(mkdir(in(*state, "model.safetensors"), 0700), 0);
    assert_rejected(*state, SR_IO, "model.safetensors", "directory");
}

static void a_directory_without_weights_opens_for_its_tokenizer(void **state) {
    static const sr_file_options tokenizer_only = {.no_weights = true};
    sr_file *f;
    sr_err err = {0};
    assert_int_equal(sr_file_open(*state, &tokenizer_only, &f, &err), SR_OK);
    assert_int_equal(f->n_parts, 0);
    sr_file_close(f);
    unlink(in(*state, "config.json"));
    check_error("nothing", sr_file_open(*state, &tokenizer_only, &f, &err), &err, SR_INVALID, "no config.json", NULL);
    write_text(in(*state, "tokenizer.json"), "{}");
    sr_err_clear(&err);
    assert_int_equal(sr_file_open(*state, &tokenizer_only, &f, &err), SR_OK);
    assert_int_equal(f->tokenizer.size, 2);
    sr_file_close(f);
}

static void vector_models_open_alike_in_both_containers(void **state) {
    (void)state;
    sr_file *hf = must_open(SR_SOURCE_DIR "/tests/vectors/tiny/llama");
    sr_file *gguf = must_open(SR_SOURCE_DIR "/tests/vectors/tiny/llama.gguf");
    const sr_part *a = sr_file_part(hf, "model.embed_tokens.weight"), *b = sr_file_part(gguf, "token_embd.weight");
    assert_non_null(a);
    assert_non_null(b);
    assert_int_equal(a->n_dims, b->n_dims);
    assert_memory_equal(a->shape, b->shape, sizeof a->shape);
    assert_ptr_equal(a->type, b->type);
    assert_memory_equal(a->data, b->data, (size_t)a->bytes);
    assert_true(hf->tokenizer.size > 0);
    sr_file_close(hf);
    sr_file_close(gguf);
}

int main(void) {
#define WITH_FILES(test) cmocka_unit_test_setup_teardown(test, make_directory, remove_scratch)
    const struct CMUnitTest tests[] = {
        WITH_FILES(config_becomes_flat_values),
        WITH_FILES(config_errors_name_file_and_place),
        WITH_FILES(config_depth_and_key_lengths_are_limited),
        WITH_FILES(chat_template_comes_from_file_list_or_text),
        WITH_FILES(a_large_tokenizer_config_opens),
        WITH_FILES(a_lone_safetensors_file_opens_without_config),
        WITH_FILES(sharded_model_opens_by_index_by_scan_and_by_piece),
        WITH_FILES(missing_shard_is_named_with_who_needs_it),
        WITH_FILES(stale_index_is_tolerated_with_a_warning),
        WITH_FILES(index_of_absent_files_yields_to_model_safetensors),
        WITH_FILES(index_may_not_name_files_elsewhere),
        WITH_FILES(broken_indexes_are_rejected),
        WITH_FILES(a_tensor_in_two_shards_names_both),
        WITH_FILES(symbolic_links_into_a_blob_store_work),
        WITH_FILES(directories_without_a_model_say_what_is_expected),
        WITH_FILES(a_directory_without_weights_opens_for_its_tokenizer),
        cmocka_unit_test(vector_models_open_alike_in_both_containers),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
