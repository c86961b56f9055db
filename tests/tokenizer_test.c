/* Tokenizers against the reference packages (tests/vectors/tokenizer/), on hostile files and on long texts. Numbers in
 * brackets are the attack cases that docs/security.md lists. */
#include "tokenizer_vectors.h"

#include <time.h>

#include "file/file.h"
#include "file/inner.h"
#include "text/load.h"

static void compare_json(const char *const *names) {
    for (; *names; names++) {
        char expected[256];
        snprintf(expected, sizeof expected, "%s/expected.bin", *names);
        compare(*names, expected, 0);
    }
}

static void json_byte_level_equals_reference(void **state) {
    (void)state;
    compare_json((const char *const[]){"gpt2", "gpt2_prefix_space", "llama3", "qwen2", "template", "starcoder",
                                       "falcon", "cl100k", "kimi", "roberta", NULL});
}
static void json_metaspace_equals_reference(void **state) {
    (void)state;
    compare_json((const char *const[]){"llama2", "llama2_normalized", "gemma", "metaspace_first", "metaspace_always",
                                       "metaspace_never", "metaspace_whole", "metaspace_legacy", NULL});
}
static void json_splits_equal_reference(void **state) {
    (void)state;
    compare_json((const char *const[]){"split_removed", "split_removed_invert", "split_isolated",
                                       "split_isolated_invert", "split_merged_with_previous",
                                       "split_merged_with_previous_invert", "split_merged_with_next",
                                       "split_merged_with_next_invert", "split_contiguous", "split_contiguous_invert",
                                       "split_string", "split_empty_match", "split_syntax", "whitespace",
                                       "whitespace_split", "digits", "affixes", "unicode_scripts", NULL});
}
static void json_decoders_equal_reference(void **state) {
    (void)state;
    compare_json((const char *const[]){"bpe_decoder", "ctc", "ctc_plain", NULL});
}
static void json_normalizers_equal_reference(void **state) {
    (void)state;
    compare_json((const char *const[]){"normal_nfd", "normal_nfkc", "normal_nfkd", NULL});
}
static void json_unigram_equals_reference(void **state) {
    (void)state;
    compare_json((const char *const[]){"unigram", "unigram_bytes", NULL});
}
static void json_words_equal_reference(void **state) {
    (void)state;
    compare_json((const char *const[]){"wordpiece", "wordpiece_cased", "wordlevel", NULL});
}
static void json_added_tokens_equal_reference(void **state) {
    (void)state;
    compare_json((const char *const[]){"added_flags", "added_flags_normalized", NULL});
}

static const char *const pre_names[] = {"gpt-2",          "llama-bpe",   "qwen2",   "deepseek-llm",
                                        "deepseek-coder", "deepseek-v3", "falcon",  "starcoder",
                                        "tekken",         "gpt-4o",      "default", NULL};

static void gguf_gpt2_equals_reference(void **state) {
    (void)state;
    for (int i = 0; pre_names[i]; i++) {
        char file[128], expected[128];
        snprintf(file, sizeof file, "pre-%s.gguf", pre_names[i]);
        snprintf(expected, sizeof expected, "pre-%s.expected.bin", pre_names[i]);
        compare(file, expected, 0);
    }
}
static void gguf_llama_equals_sentencepiece(void **state) {
    (void)state;
    compare("spm.gguf", "spm.expected.bin", SR_TOKENIZE_NO_SPECIAL);
}
static void gguf_llama_equals_the_plain_algorithm(void **state) {
    (void)state;
    compare("spm_naive.gguf", "spm_naive.expected.bin", 0);
    compare("spm_naive_no_prefix.gguf", "spm_naive_no_prefix.expected.bin", 0);
}

static void gguf_t5_equals_sentencepiece(void **state) {
    (void)state;
    compare("t5.gguf", "sp_unigram/expected.bin", SR_TOKENIZE_NO_SPECIAL);
}
static void gguf_bert_equals_wordpiece(void **state) {
    (void)state;
    compare("bert.gguf", "bert.expected.bin", 0);
}
static void gguf_gemma4_equals_reference(void **state) {
    (void)state;
    compare("gemma4.gguf", "gemma4.expected.bin", 0);
}
static void gguf_rwkv_equals_the_plain_algorithm(void **state) {
    (void)state;
    compare("rwkv.gguf", "rwkv.expected.bin", 0);
}

/* Every border between pieces, for lists of patterns. */
static void splits_equal_oniguruma(void **state) {
    (void)state;
    struct reader r = read_vector("splits.bin");
    struct texts texts = read_texts();
    for (size_t sets = read_leb(&r); sets > 0; sets--) {
        struct text name = read_text(&r);
        sr_stages own = {.n = 0};
        sr_err err = {0};
        for (size_t k = read_leb(&r); k > 0; k--) {
            struct text p = read_text(&r);
            if (sr_stages_add_regex(&own, p.s, &err) != SR_OK) fail_msg("%s: %s", name.s, err.msg);
            free(p.s);
        }
        sr_tokenizer *t = NULL;
        const sr_stages *stages = &own;
        int n_stages = own.n;
        if (!strncmp(name.s, "pre-", 4)) {
            bool add_bos;
            assert_non_null(t = calloc(1, sizeof *t));
            sr_loader l = {.t = t, .err = &err, .where = name.s};
            if (sr_load_split(&l, name.s + 4, name.n - 4, &add_bos) != SR_OK) fail_msg("%s: %s", name.s, err.msg);
            stages = &t->pre_tokenizers;
            n_stages = stages->n - 1; /* the last maps bytes */
        }
        for (size_t i = 0; i < texts.n; i++) {
            struct ids want = read_ids(&r);
            sr_work w = {.err = &err};
            w.scan.text_bytes = texts.v[i].n;
            assert_true(sr_utf8_sanitize(texts.v[i].s, texts.v[i].n, &w.text));
            assert_true(sr_spans_add(&w.spans, 0, (uint32_t)w.text.n, -1, true));
            if (!w.text.n) w.spans.n = 0;
            for (int k = 0; k < n_stages; k++)
                if (sr_stage_run(&w, &stages->v[k]) != SR_OK) fail_msg("%s: %s", name.s, err.msg);
            struct ids got = {malloc((w.spans.n + 1) * sizeof *got.v), w.spans.n};
            assert_non_null(got.v);
            for (size_t k = 0; k < got.n; k++) got.v[k] = (int32_t)w.spans.v[k].n;
            check_ids(name.s, texts.v[i], got, want.v, want.n);
            free(got.v);
            free(want.v);
            sr_buffer_free(&w.text);
            sr_buffer_free(&w.other);
            free(w.spans.v);
            free(w.other_spans.v);
            sr_scan_free(&w.scan);
        }
        for (int k = 0; k < own.n; k++) sr_regex_free(own.v[k].regex);
        sr_tokenizer_free(t);
        free(name.s);
    }
    assert_ptr_equal(r.at, r.end);
    free(r.data);
    free_texts(&texts);
}

/* ---------------------------------------------------------------- small behaviours */

static void special_spellings_are_text_on_request(void **state) {
    (void)state;
    sr_tokenizer *t = open_tokenizer("llama3");
    const char *s = "<|im_end|>";
    struct ids a = tokenize(t, s, strlen(s), SR_TOKENIZE_NO_BOS),
               b = tokenize(t, s, strlen(s), SR_TOKENIZE_NO_BOS | SR_TOKENIZE_NO_SPECIAL);
    assert_int_equal(a.n, 1);
    assert_true(sr_token_is_special(t, a.v[0]));
    assert_true(sr_tokenizer_is_end(t, a.v[0]));
    assert_true(b.n > 1);
    for (size_t i = 0; i < b.n; i++) assert_false(sr_token_is_special(t, b.v[i]));
    const char *bytes;
    size_t n;
    assert_true(sr_token_bytes(t, a.v[0], &bytes, &n));
    assert_string_equal(bytes, s);
    assert_string_equal(sr_token_piece(t, a.v[0]), s);
    free(a.v);
    free(b.v);
    /* "<tool>" is added, but not special: it is a token either way, and text when decoded */
    b = tokenize(t, "<tool>", 6, SR_TOKENIZE_NO_BOS | SR_TOKENIZE_NO_SPECIAL);
    assert_int_equal(b.n, 1);
    struct text back = decode(t, b.v, b.n);
    assert_string_equal(back.s, "<tool>");
    free(back.s);
    free(b.v);
    sr_tokenizer_free(t);
}

static void ids_out_of_range_are_refused(void **state) {
    (void)state;
    sr_tokenizer *t = open_tokenizer("gpt2");
    const char *bytes;
    size_t n;
    for (int k = 0; k < 4; k++) {
        int32_t id = (int32_t[]){-1, INT32_MIN, INT32_MAX, sr_tokenizer_n_vocab(t)}[k];
        assert_false(sr_token_bytes(t, id, &bytes, &n));
        assert_int_equal(n, 0);
        assert_string_equal(bytes, "");
        assert_null(sr_token_piece(t, id));
        assert_false(sr_token_is_special(t, id));
        assert_false(sr_tokenizer_is_end(t, id));
        sr_tokenizer_add_end(t, id);
    }
    sr_tokenizer_add_end(t, 5);
    assert_true(sr_tokenizer_is_end(t, 5));
    sr_tokenizer_free(t);
}

/* [15] every invalid byte is tokenized as U+FFFD */
static void invalid_bytes_are_replacement_characters(void **state) {
    (void)state;
    static const char *const names[] = {"gpt2", "llama2", "qwen2", "metaspace_first", "spm.gguf", "pre-llama-bpe.gguf"};
    static const struct {
        const char *bad, *good;
    } cases[] = {{"\xff", "\xEF\xBF\xBD"},
                 {"a\x80z", "a\xEF\xBF\xBDz"},
                 {"\xe6\xbc", "\xEF\xBF\xBD\xEF\xBF\xBD"},
                 {"\xed\xa0\x80", "\xEF\xBF\xBD\xEF\xBF\xBD\xEF\xBF\xBD"},
                 {"\xc0\xaf", "\xEF\xBF\xBD\xEF\xBF\xBD"},
                 {"\xf4\x90\x80\x80", "\xEF\xBF\xBD\xEF\xBF\xBD\xEF\xBF\xBD\xEF\xBF\xBD"},
                 {"\xe6\xbc\xa2\xe6", "\xe6\xbc\xa2\xEF\xBF\xBD"}};
    for (size_t k = 0; k < sizeof names / sizeof *names; k++) {
        sr_tokenizer *t = open_tokenizer(names[k]);
        for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
            struct ids a = tokenize(t, cases[i].bad, strlen(cases[i].bad), 0),
                       b = tokenize(t, cases[i].good, strlen(cases[i].good), 0);
            check_ids(names[k], (struct text){(char *)(uintptr_t)cases[i].bad, strlen(cases[i].bad)}, a, b.v, b.n);
            free(a.v);
            free(b.v);
        }
        sr_tokenizer_free(t);
    }
}

static void a_short_buffer_gets_the_first_ids_and_the_full_count(void **state) {
    (void)state;
    sr_tokenizer *t = open_tokenizer("gpt2");
    const char *s = "Once upon a time, there was a king.";
    struct ids all = tokenize(t, s, strlen(s), 0);
    int32_t some[3] = {-5, -5, -5};
    size_t n;
    assert_int_equal(sr_tokenize(t, s, strlen(s), 0, some, 2, &n, NULL), SR_OK);
    assert_int_equal(n, all.n);
    assert_int_equal(some[0], all.v[0]);
    assert_int_equal(some[1], all.v[1]);
    assert_int_equal(some[2], -5);
    sr_err err = {0};
    assert_int_equal(sr_tokenize(t, NULL, 1, 0, some, 2, &n, &err), SR_INVALID);
    free(all.v);
    sr_tokenizer_free(t);
}

/* ---------------------------------------------------------------- tokenizer.json, written here */

static sr_status open_json(const char *dir, const char *json, const char *config, sr_tokenizer **t, sr_err *err) {
    unlink(in(dir, "tokenizer_config.json"));
    write_text(in(dir, "tokenizer.json"), json);
    if (config) write_text(in(dir, "tokenizer_config.json"), config);
    *err = (sr_err){0};
    *t = NULL;
    return sr_tokenizer_open(dir, t, err);
}

#define MODEL                                                                                                          \
    "\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":0,\"b\":1,\"ab\":2,\"<s>\":3,\"</s>\":4},\"merges\":[\"a b\"]}"
#define SPECIALS                                                                                                       \
    "\"added_tokens\":[{\"id\":3,\"content\":\"<s>\",\"special\":true},{\"id\":4,\"content\":\"</"                     \
    "s>\",\"special\":true}]"

static void json_reads_fields_in_any_order(void **state) {
    sr_tokenizer *t;
    sr_err err;
    /* a prefix that comes last counts for the merges too: "a" + "##b" is "ab" */
    const char *json =
        "{\"model\":{\"merges\":[[\"a\",\"##b\"]],\"vocab\":{\"a\":0,\"b\":1,\"ab\":2,\"##b\":5,\"\\u0061c\":6},"
        "\"continuing_subword_prefix\":\"##\",\"new field\":[1,{\"x\":[]}],\"type\":\"BPE\"}," SPECIALS "}";
    if (open_json(*state, json, NULL, &t, &err) != SR_OK) fail_msg("%s", err.msg);
    struct ids got = tokenize(t, "ab<s>", 5, 0);
    check_ids("order", (struct text){(char *)(uintptr_t) "ab<s>", 5}, got, (const int32_t[]){2, 3}, 2);
    assert_string_equal(sr_token_piece(t, 6), "ac");
    free(got.v);
    sr_tokenizer_free(t);
}

static void json_config_decides_on_bos_without_a_template(void **state) {
    sr_tokenizer *t;
    sr_err err;
    static const struct {
        const char *config;
        int bos, eos;
        size_t n;
    } cases[] = {
        {"{\"add_bos_token\":true,\"bos_token\":\"<s>\",\"eos_token\":\"</s>\"}", 3, 4, 2},
        {"{\"add_bos_token\":true,\"add_eos_token\":true,\"bos_token\":{\"content\":\"<s>\"},\"eos_token\":{"
         "\"content\":\"</s>\"}}",
         3, 4, 3},
        {"{\"add_bos_token\":false,\"bos_token\":\"<s>\"}", 3, -1, 1},
        {"{\"add_bos_token\":true,\"bos_token\":\"<absent>\"}", -1, -1, 1},
        {"{\"add_bos_token\":true,\"bos_token\":null}", -1, -1, 1},
        {"{}", -1, -1, 1},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        if (open_json(*state, "{" SPECIALS "," MODEL "}", cases[i].config, &t, &err) != SR_OK)
            fail_msg("%zu: %s", i, err.msg);
        struct ids got = tokenize(t, "ab", 2, 0);
        assert_int_equal(sr_tokenizer_bos(t), cases[i].bos);
        assert_int_equal(sr_tokenizer_eos(t), cases[i].eos);
        assert_int_equal(got.n, cases[i].n);
        assert_int_equal(sr_tokenizer_adds_bos(t), cases[i].n > 1);
        assert_true(sr_tokenizer_is_end(t, 4)); /* by its spelling */
        assert_false(sr_tokenizer_is_end(t, 3));
        free(got.v);
        sr_tokenizer_free(t);
    }
}

static void json_takes_end_ids_from_the_configs(void **state) {
    sr_tokenizer *t;
    sr_err err;
    write_text(in(*state, "config.json"), "{\"eos_token_id\":[1,2,99],\"bos_token_id\":3}");
    write_text(in(*state, "generation_config.json"), "{\"eos_token_id\":0}");
    sr_status status = open_json(*state, "{" SPECIALS "," MODEL "}", NULL, &t, &err);
    unlink(in(*state, "config.json"));
    unlink(in(*state, "generation_config.json"));
    if (status != SR_OK) fail_msg("%s", err.msg);
    assert_int_equal(sr_tokenizer_bos(t), 3);
    assert_int_equal(sr_tokenizer_eos(t), 1);
    for (int32_t i = 0; i < 5; i++) assert_int_equal(sr_tokenizer_is_end(t, i), i != 3);
    sr_tokenizer_free(t);
}

/* What transformers 5.24.0 makes of tokens that files beside tokenizer.json list, with the same tokenizer.json. */
static void json_takes_tokens_of_the_files_beside_it(void **state) {
    static const char json[] =
        "{\"added_tokens\":[{\"id\":0,\"content\":\"<unk>\",\"special\":true},{\"id\":1,\"content\":\"<s>\","
        "\"special\":"
        "true},{\"id\":2,\"content\":\"</s>\",\"special\":true},{\"id\":11,\"content\":\"<w>\",\"special\":true}],"
        "\"model\":{\"type\":\"BPE\",\"unk_token\":\"<unk>\",\"vocab\":{\"<unk>\":0,\"<s>\":1,\"</s>\":2,\"a\":3,"
        "\"b\":4,\"c\":5,\"<x>\":6,\"<\":7,\"x\":8,\">\":9,\"ab\":10},\"merges\":[\"a b\"]}}";
    static const char text[] = "ab<x><y>c<w> a";
    enum { NONE = -1 };
    static const struct {
        const char *config, *map, *added; /* tokenizer_config.json, special_tokens_map.json, added_tokens.json */
        int bos, eos, special;            /* one that is special */
        int n;
        int32_t ids[16];
    } cases[] = {
        /* the map alone, and before the configuration */
        {NULL,
         "{\"bos_token\":\"<s>\",\"eos_token\":{\"content\":\"</s>\",\"lstrip\":false}}",
         NULL,
         1,
         2,
         11,
         11,
         {10, 7, 8, 9, 7, 0, 9, 5, 11, 0, 3}},
        {"{\"bos_token\":\"</s>\",\"eos_token\":\"c\"}",
         "{\"bos_token\":\"<s>\",\"eos_token\":\"</s>\"}",
         NULL,
         1,
         2,
         11,
         11,
         {10, 7, 8, 9, 7, 0, 9, 5, 11, 0, 3}},
        /* a list of added tokens, even an empty one: neither the map nor the older list counts */
        {"{\"bos_token\":\"</s>\",\"eos_token\":\"c\",\"added_tokens_decoder\":{}}",
         "{\"bos_token\":\"<s>\",\"eos_token\":\"</s>\"}",
         "{\"<y>\":12}",
         2,
         5,
         5,
         11,
         {10, 7, 8, 9, 7, 0, 9, 5, 11, 0, 3}},
        /* what is named as special is looked for where the vocabulary has it */
        {"{\"eos_token\":\"<x>\"}", NULL, NULL, NONE, 6, 6, 9, {10, 6, 7, 0, 9, 5, 11, 0, 3}},
        {"{}", "{\"additional_special_tokens\":[\"<x>\"]}", NULL, NONE, NONE, 6, 9, {10, 6, 7, 0, 9, 5, 11, 0, 3}},
        {"{\"extra_special_tokens\":[\"<x>\"]}", NULL, NULL, NONE, NONE, 6, 9, {10, 6, 7, 0, 9, 5, 11, 0, 3}},
        /* new tokens, in the order of their ids; the vocabulary's id counts */
        {"{\"added_tokens_decoder\":{\"20\":{\"content\":\"<y>\",\"special\":true},\"15\":{\"content\":\"b\"},\"3\":{"
         "\"content\":\"<x>\",\"special\":true}}}",
         NULL,
         NULL,
         NONE,
         NONE,
         12,
         8,
         {3, 4, 6, 12, 5, 11, 0, 3}},
        /* flags of the list count: <w> takes space along and is no special one */
        {"{\"added_tokens_decoder\":{\"11\":{\"content\":\"<w>\",\"special\":false,\"rstrip\":true,\"normalized\":"
         "false}}"
         "}",
         NULL,
         NULL,
         NONE,
         NONE,
         2,
         10,
         {10, 7, 8, 9, 7, 0, 9, 5, 11, 3}},
        /* the older list; special is what is named so */
        {"{\"additional_special_tokens\":[\"<y>\"]}",
         NULL,
         "{\"<y>\":12,\"<x>\":6}",
         NONE,
         NONE,
         12,
         7,
         {10, 6, 12, 5, 11, 0, 3}},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        sr_tokenizer *t;
        sr_err err;
        if (cases[i].map) write_text(in(*state, "special_tokens_map.json"), cases[i].map);
        if (cases[i].added) write_text(in(*state, "added_tokens.json"), cases[i].added);
        sr_status status = open_json(*state, json, cases[i].config, &t, &err);
        unlink(in(*state, "special_tokens_map.json"));
        unlink(in(*state, "added_tokens.json"));
        if (status != SR_OK) fail_msg("%zu: %s", i, err.msg);
        struct ids got = tokenize(t, text, sizeof text - 1, 0);
        char name[16];
        snprintf(name, sizeof name, "case %zu", i);
        check_ids(name, (struct text){(char *)(uintptr_t)text, sizeof text - 1}, got, cases[i].ids, (size_t)cases[i].n);
        assert_int_equal(sr_tokenizer_bos(t), cases[i].bos);
        assert_int_equal(sr_tokenizer_eos(t), cases[i].eos);
        assert_true(sr_token_is_special(t, cases[i].special));
        free(got.v);
        sr_tokenizer_free(t);
    }
    /* no token that the model has no row for */
    for (int rows = 12; rows <= 13; rows++) {
        sr_tokenizer *t;
        sr_err err;
        write_text(in(*state, "config.json"),
                   rows == 12 ? "{\"vocab_size\":12}" : "{\"text_config\":{\"vocab_size\":13}}");
        sr_status status = open_json(*state, json,
                                     "{\"added_tokens_decoder\":{\"12\":{\"content\":\"<y>\"},\"13\":{"
                                     "\"content\":\"<z>\"}}}",
                                     &t, &err);
        unlink(in(*state, "config.json"));
        if (status != SR_OK) fail_msg("%d rows: %s", rows, err.msg);
        assert_int_equal(sr_tokenizer_n_vocab(t), rows);
        sr_tokenizer_free(t);
    }
}

/* [14] and every other way in which the file can be wrong */
static void json_names_what_is_wrong(void **state) {
    static const struct {
        const char *json;
        sr_status status;
        const char *word;
    } cases[] = {
        {"[]", SR_CORRUPT, "object"},
        {"{}", SR_CORRUPT, "model"},
        {"{\"model\":{\"type\":\"Trigram\",\"vocab\":[[\"a\",0.5]]}}", SR_UNSUPPORTED, "Trigram"},
        {"{\"model\":{\"type\":\"Unigram\",\"vocab\":{\"a\":0}}}", SR_CORRUPT, "array"},
        {"{\"model\":{\"type\":\"Unigram\",\"vocab\":[\"a\"]}}", SR_CORRUPT, "[text, score]"},
        {"{\"model\":{\"type\":\"Unigram\",\"vocab\":[[\"a\",0.5],[\"b\"]]}}", SR_CORRUPT, "entry 1"},
        {"{\"model\":{\"type\":\"Unigram\",\"vocab\":[[\"a\",NaN]]}}", SR_CORRUPT, "entry 0"},
        {"{\"model\":{\"type\":\"Unigram\",\"vocab\":[[\"a\",1,2]]}}", SR_CORRUPT, "entry 0"},
        {"{\"model\":{\"vocab\":[[3,0.5]]}}", SR_CORRUPT, "[text, score]"},
        {"{\"model\":{\"type\":\"Unigram\",\"unk_id\":1,\"vocab\":[[\"a\",0.5]]}}", SR_CORRUPT, "unk_id"},
        {"{\"model\":{\"type\":\"WordPiece\",\"vocab\":[]}}", SR_CORRUPT, "object"},
        {"{\"model\":{\"type\":\"WordPiece\",\"vocab\":{},\"max_input_chars_per_word\":-1}}", SR_CORRUPT, "max_input"},
        {"{\"model\":{\"type\":\"WordLevel\"}}", SR_CORRUPT, "vocabulary"},
        {"{\"model\":{\"type\":\"BPE\",\"merges\":[]}}", SR_CORRUPT, "vocabulary"},
        {"{\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":-1},\"merges\":[]}}", SR_CORRUPT, "-1"},
        {"{\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":0.5},\"merges\":[]}}", SR_CORRUPT, "0.5"},
        {"{\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":\"x\"},\"merges\":[]}}", SR_CORRUPT, "number"},
        {"{\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":400000000},\"merges\":[]}}", SR_CORRUPT, "400000000"},
        {"{\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":99999999999999999999},\"merges\":[]}}", SR_CORRUPT,
         "9999999999"},
        {"{\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":0},\"merges\":[\"a\"]}}", SR_CORRUPT, "merge 0"},
        {"{\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":0},\"merges\":[\"a a a\"]}}", SR_CORRUPT, "merge 0"},
        {"{\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":0},\"merges\":[[\"a\"]]}}", SR_CORRUPT, "merge 0"},
        {"{\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":0},\"merges\":[[\"a\",\"a\",\"a\"]]}}", SR_CORRUPT, "merge 0"},
        {"{\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":0},\"merges\":[[\"a\",1]]}}", SR_CORRUPT, "merge 0"},
        {"{\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":0},\"merges\":[\"a a\"]}}", SR_CORRUPT, "\"aa\""},
        {"{\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":0,\"aa\":1},\"merges\":[\"a a\",3]}}", SR_CORRUPT, "merge 1"},
        {"{\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":0},\"merges\":[\"a", SR_CORRUPT, "tokenizer.json"},
        {"{" MODEL ",\"normalizer\":{\"type\":\"Precompiled\"}}", SR_CORRUPT, "precompiled_charsmap"},
        {"{" MODEL ",\"normalizer\":{\"type\":\"Precompiled\",\"precompiled_charsmap\":\"\"}}", SR_CORRUPT, "a map"},
        {"{" MODEL ",\"normalizer\":{\"type\":\"Precompiled\",\"precompiled_charsmap\":\"A===\"}}", SR_CORRUPT,
         "base64"},
        {"{" MODEL ",\"normalizer\":{\"type\":\"Precompiled\",\"precompiled_charsmap\":\"AAAA\"}}", SR_CORRUPT,
         "3 bytes"},
        {"{" MODEL ",\"normalizer\":{\"type\":7}}", SR_CORRUPT, "type"},
        {"{" MODEL ",\"normalizer\":{\"type\":\"Sequence\",\"normalizers\":[{\"type\":\"Nope\"}]}}", SR_UNSUPPORTED,
         "Nope"},
        {"{" MODEL ",\"normalizer\":{\"type\":\"Sequence\",\"normalizers\":[1]}}", SR_CORRUPT, "objects"},
        {"{" MODEL ",\"normalizer\":{\"type\":\"Replace\",\"content\":\"x\",\"pattern\":{\"Glob\":\"x\"}}}", SR_CORRUPT,
         "pattern"},
        {"{" MODEL ",\"pre_tokenizer\":{\"type\":\"NoSuchSplit\"}}", SR_UNSUPPORTED, "NoSuchSplit"},
        {"{" MODEL ",\"pre_tokenizer\":{\"type\":\"Split\",\"behavior\":\"Sideways\",\"pattern\":{\"String\":\"x\"}}}",
         SR_UNSUPPORTED, "Sideways"},
        {"{" MODEL ",\"pre_tokenizer\":{\"type\":\"Split\",\"pattern\":{\"Regex\":\"(a\"}}}", SR_UNSUPPORTED, "(a"},
        {"{" MODEL ",\"pre_tokenizer\":{\"type\":\"Split\",\"pattern\":{\"Regex\":\"[a[^b]\"}}}", SR_UNSUPPORTED,
         "[a[^b]"},
        {"{" MODEL ",\"pre_tokenizer\":{\"type\":\"Split\",\"pattern\":{\"Regex\":\"\\\\Ka\"}}}", SR_UNSUPPORTED, "Ka"},
        {"{" MODEL ",\"pre_tokenizer\":{\"type\":\"Metaspace\",\"replacement\":\"ab\"}}", SR_CORRUPT, "replacement"},
        {"{" MODEL ",\"pre_tokenizer\":{\"type\":\"Metaspace\",\"replacement\":\"_\",\"prepend_scheme\":\"maybe\"}}",
         SR_UNSUPPORTED, "maybe"},
        {"{" MODEL ",\"decoder\":{\"type\":\"NoSuchDecoder\"}}", SR_UNSUPPORTED, "NoSuchDecoder"},
        {"{" MODEL ",\"decoder\":{\"type\":\"CTC\"}}", SR_CORRUPT, "CTC's pad_token or"},
        {"{" MODEL ",\"decoder\":{\"type\":\"BPEDecoder\",\"suffix\":\"\"}}", SR_CORRUPT, "BPEDecoder's suffix"},
        {"{" MODEL ",\"decoder\":{\"type\":\"Sequence\",\"decoders\":[{\"type\":\"BPEDecoder\",\"suffix\":\"b\"},"
         "{\"type\":\"Fuse\"}]}}",
         SR_UNSUPPORTED, "behind ByteLevel, WordPiece, BPEDecoder or CTC the decoder \"Fuse\""},
        {"{" MODEL ",\"decoder\":{\"type\":\"Sequence\",\"decoders\":[{\"type\":\"ByteLevel\"},{\"type\":\"Fuse\"}]}}",
         SR_UNSUPPORTED, "Fuse"},
        {"{" MODEL ",\"post_processor\":{\"type\":\"Magic\"}}", SR_UNSUPPORTED, "Magic"},
        {"{" MODEL ",\"post_processor\":{\"type\":\"TemplateProcessing\",\"single\":[{\"SpecialToken\":{\"id\":\"<x>\"}"
         "}],\"special_tokens\":{}}}",
         SR_CORRUPT, "special token"},
        /* [12] */
        {"{" MODEL
         ",\"post_processor\":{\"type\":\"TemplateProcessing\",\"single\":[{\"SpecialToken\":{\"id\":\"<x>\"}}],"
         "\"special_tokens\":{\"<x>\":{\"ids\":[77]}}}}",
         SR_CORRUPT, "77"},
        {"{" MODEL ",\"post_processor\":{\"type\":\"BertProcessing\",\"sep\":[\"s\",5],\"cls\":[\"c\",0]}}", SR_CORRUPT,
         "found token id 5"},
        {"{" MODEL ",\"added_tokens\":[{\"id\":-4,\"content\":\"x\"}]}", SR_CORRUPT, "id"},
        {"{" MODEL ",\"added_tokens\":[{\"id\":500000000,\"content\":\"x\"}]}", SR_CORRUPT, ""},
        {"{" MODEL ",\"added_tokens\":[{\"id\":5}]}", SR_CORRUPT, "content"},
        {"{" MODEL ",\"added_tokens\":[3]}", SR_CORRUPT, "objects"},
        {"{" MODEL "} x", SR_CORRUPT, "tokenizer.json"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        sr_tokenizer *t;
        sr_err err;
        sr_status got = open_json(*state, cases[i].json, NULL, &t, &err);
        if (got != cases[i].status || !strstr(err.msg, cases[i].word))
            fail_msg("%s: got %d \"%s\", want %d and \"%s\"", cases[i].json, got, err.msg, cases[i].status,
                     cases[i].word);
        assert_null(t);
    }
}

static void json_cut_anywhere_is_an_error(void **state) {
    struct reader r = read_vector("llama2/tokenizer.json");
    size_t n = (size_t)(r.end - r.at);
    for (size_t cut = 0; cut + 1 < n; cut += cut < 2000 || cut + 2000 > n ? 7 : 311) {
        sr_tokenizer *t;
        sr_err err;
        char keep = r.data[cut];
        r.data[cut] = 0;
        sr_status status = open_json(*state, r.data, NULL, &t, &err);
        if (status == SR_OK) fail_msg("cut at %zu was accepted", cut);
        r.data[cut] = keep;
    }
    free(r.data);
}

/* [14] */
static void json_duplicate_and_cyclic_merges_are_harmless(void **state) {
    sr_tokenizer *t;
    sr_err err;
    const char *json = "{\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":0,\"b\":1,\"ab\":2,\"ba\":3,\"aba\":4},"
                       "\"merges\":[\"a b\",\"b a\",\"a b\",\"ab a\",\"a ba\",\"b a\",\"a b\"]}}";
    if (open_json(*state, json, NULL, &t, &err) != SR_OK) fail_msg("%s", err.msg);
    /* of equal pairs the last counts, as in the package: "b a" (5) before "a b" (6) */
    struct ids got = tokenize(t, "abab", 4, 0);
    check_ids("cyclic", (struct text){(char *)(uintptr_t) "abab", 4}, got, (const int32_t[]){4, 1}, 2);
    free(got.v);
    sr_tokenizer_free(t);
}

/* [15] an exponential and a quadratic pattern */
static void a_hopeless_pattern_hits_its_limit(void **state) {
    static const char *const patterns[] = {"(a+)+\\\\z(?<=b)", "(?:a|aa)+\\\\z(?<=b)", "a+\\\\z(?<=b)"};
    char *s = malloc(1 << 20);
    assert_non_null(s);
    memset(s, 'a', 1 << 20);
    for (size_t i = 0; i < 3; i++) {
        char json[1024];
        sr_tokenizer *t;
        sr_err err;
        snprintf(
            json, sizeof json,
            "{\"pre_tokenizer\":{\"type\":\"Split\",\"pattern\":{\"Regex\":\"%s\"},\"behavior\":\"Isolated\"}," MODEL
            "}",
            patterns[i]);
        if (open_json(*state, json, NULL, &t, &err) != SR_OK) fail_msg("%s", err.msg);
        double start = sr_clock();
        size_t n;
        sr_status status = sr_tokenize(t, s, i < 2 ? 2000 : 1 << 20, 0, NULL, 0, &n, &err);
        check_error(patterns[i], status, &err, SR_LIMIT, "limit", i == 1 ? "a|aa" : "a+", NULL);
        print_message("%s: %.2f s\n", patterns[i], sr_clock() - start);
        sr_tokenizer_free(t);
    }
    free(s);
}

/* ---------------------------------------------------------------- GGUF, written here */

struct gguf {
    struct bytes b;
    uint64_t n;
};
static void array_of_texts(struct gguf *g, const char *key, const char *const *v) {
    size_t n = 0;
    while (v[n]) n++;
    g_array(&g->b, key, G_STRING, n);
    for (size_t i = 0; i < n; i++) g_text(&g->b, v[i]);
    g->n++;
}
static void array_of_i32(struct gguf *g, const char *key, uint32_t type, size_t n, const int32_t *v) {
    g_array(&g->b, key, type, n);
    for (size_t i = 0; i < n; i++) put_int(&g->b, (uint64_t)(int64_t)v[i], type == G_U8 ? 1 : 4);
    g->n++;
}
static void array_of_f32(struct gguf *g, const char *key, size_t n, const float *v) {
    g_array(&g->b, key, G_F32, n);
    put(&g->b, v, n * sizeof *v);
    g->n++;
}
static void text_value(struct gguf *g, const char *key, const char *v) {
    g_string(&g->b, key, v);
    g->n++;
}
static void int_value(struct gguf *g, const char *key, uint32_t v) {
    g_u32(&g->b, key, v);
    g->n++;
}
/* Drops the values. */
static sr_status open_gguf(struct gguf *g, sr_tokenizer **t, sr_err *err) {
    struct bytes b = {0};
    sr_file *file;
    *err = (sr_err){0};
    *t = NULL;
    g_header(&b, 3, 0, g->n + 1);
    g_string(&b, "general.architecture", "llama");
    put(&b, g->b.data, g->b.n);
    sr_status status = sr_file_from_memory(b.data, b.n, "t.gguf", &file, err);
    if (status == SR_OK) {
        status = sr_tokenizer_create(file, t, err);
        sr_file_close(file);
    }
    drop(&b);
    drop(&g->b);
    g->n = 0;
    return status;
}

#define T "tokenizer.ggml."
static const char *const spm_tokens[] = {"<unk>", "<s>", "</s>",   "<0x41>", "\xE2\x96\x81", "a",
                                         "b",     "ab",  "<0x-1>", "<0x",    "<0xZZ>",       NULL};
static const int32_t spm_types[] = {2, 3, 3, 6, 1, 1, 1, 1, 6, 6, 6};
static const float spm_scores[] = {0, 0, 0, 0, -1, -2, -3, -4, 0, 0, 0};
enum { N_SPM = 11 };

static struct gguf spm(void) {
    struct gguf g = {0};
    text_value(&g, T "model", "llama");
    array_of_texts(&g, T "tokens", spm_tokens);
    return g;
}
static struct gguf spm_whole(void) {
    struct gguf g = spm();
    array_of_i32(&g, T "token_type", G_I32, N_SPM, spm_types);
    array_of_f32(&g, T "scores", N_SPM, spm_scores);
    return g;
}

/* [13] */
static void gguf_malformed_byte_tokens_are_text(void **state) {
    (void)state;
    struct gguf g = spm_whole();
    sr_tokenizer *t;
    sr_err err;
    if (open_gguf(&g, &t, &err) != SR_OK) fail_msg("%s", err.msg);
    const char *s = "abA<0x-1>";
    struct ids got = tokenize(t, s, strlen(s), 0);
    /* <s> prefix ab; "A" is its byte; "<0x-1>" merges from no smaller pieces, so its characters are unknown (one <unk>)
     */
    check_ids("byte tokens", (struct text){(char *)(uintptr_t)s, strlen(s)}, got, (const int32_t[]){1, 4, 7, 3, 0}, 5);
    free(got.v);
    const char *bytes;
    size_t n;
    for (int32_t id = 8; id < 11; id++) {
        assert_true(sr_token_bytes(t, id, &bytes, &n));
        assert_string_equal(bytes, spm_tokens[id]);
    }
    assert_true(sr_token_bytes(t, 3, &bytes, &n));
    assert_int_equal(n, 1);
    assert_int_equal(bytes[0], 'A');
    sr_tokenizer_free(t);
}

/* [12] */
static void gguf_special_ids_outside_the_vocabulary_are_refused(void **state) {
    (void)state;
    static const char *const keys[] = {"bos_token_id", "eos_token_id", "unknown_token_id", "padding_token_id",
                                       "eot_token_id"};
    sr_tokenizer *t;
    sr_err err;
    for (size_t i = 0; i < 5; i++) {
        char key[64];
        snprintf(key, sizeof key, T "%s", keys[i]);
        for (int k = 0; k < 2; k++) {
            struct gguf g = spm_whole();
            int_value(&g, key, k ? N_SPM : 0x7fffffff);
            check_error(key, open_gguf(&g, &t, &err), &err, SR_CORRUPT, "t.gguf", key, k ? "11" : "2147483647", NULL);
        }
        struct gguf g = spm_whole();
        int_value(&g, key, N_SPM - 1);
        if (open_gguf(&g, &t, &err) != SR_OK) fail_msg("%s", err.msg);
        sr_tokenizer_free(t);
    }
}

/* [12] */
static void gguf_defaults_that_do_not_fit_are_none(void **state) {
    (void)state;
    sr_tokenizer *t;
    sr_err err;
    struct gguf g = {0};
    text_value(&g, T "model", "llama");
    array_of_texts(&g, T "tokens", (const char *const[]){"a", NULL});
    array_of_f32(&g, T "scores", 1, (const float[]){0});
    if (open_gguf(&g, &t, &err) != SR_OK) fail_msg("%s", err.msg);
    assert_int_equal(sr_tokenizer_bos(t), -1);
    assert_int_equal(sr_tokenizer_eos(t), -1);
    assert_false(sr_tokenizer_adds_bos(t));
    struct ids got = tokenize(t, "ab", 2, 0);
    check_ids("tiny", (struct text){(char *)(uintptr_t) "ab", 2}, got, (const int32_t[]){0, 0, 0},
              3); /* unknown is 0 */
    free(got.v);
    sr_tokenizer_free(t);

    text_value(&g, T "model", "gpt2");
    text_value(&g, T "pre", "llama-bpe");
    array_of_texts(&g, T "tokens", (const char *const[]){"a", "b", "ab", NULL});
    array_of_texts(&g, T "merges", (const char *const[]){"a b", NULL});
    if (open_gguf(&g, &t, &err) != SR_OK) fail_msg("%s", err.msg);
    assert_int_equal(sr_tokenizer_bos(t), -1);
    got = tokenize(t, "ab c", 4, 0); /* the space and "c" are nothing that this vocabulary has */
    check_ids("tiny", (struct text){(char *)(uintptr_t) "ab c", 4}, got, (const int32_t[]){2}, 1);
    free(got.v);
    sr_tokenizer_free(t);
}

/* [14] and the arrays of wrong length or type */
static void gguf_names_the_key_that_is_wrong(void **state) {
    (void)state;
    sr_tokenizer *t;
    sr_err err;
    struct gguf g = {0};
    check_error("empty", open_gguf(&g, &t, &err), &err, SR_UNSUPPORTED, "t.gguf", T "model", NULL);
    text_value(&g, T "model", "plamo2");
    check_error("plamo2", open_gguf(&g, &t, &err), &err, SR_UNSUPPORTED, "plamo2", NULL);
    int_value(&g, T "model", 4);
    check_error("number", open_gguf(&g, &t, &err), &err, SR_CORRUPT, T "model", NULL);
    text_value(&g, T "model", "llama");
    check_error("no tokens", open_gguf(&g, &t, &err), &err, SR_CORRUPT, T "tokens", NULL);
    text_value(&g, T "model", "llama");
    array_of_texts(&g, T "tokens", (const char *const[]){NULL});
    check_error("no token", open_gguf(&g, &t, &err), &err, SR_CORRUPT, T "tokens", "0", NULL);
    text_value(&g, T "model", "llama");
    array_of_i32(&g, T "tokens", G_I32, 2, spm_types);
    check_error("tokens", open_gguf(&g, &t, &err), &err, SR_CORRUPT, T "tokens", "strings", NULL);

    g = spm();
    check_error("no scores", open_gguf(&g, &t, &err), &err, SR_CORRUPT, T "scores", NULL);
    g = spm();
    array_of_f32(&g, T "scores", N_SPM - 1, spm_scores);
    check_error("short scores", open_gguf(&g, &t, &err), &err, SR_CORRUPT, T "scores", "10", "11", NULL);
    g = spm();
    array_of_i32(&g, T "scores", G_U8, N_SPM, spm_types);
    check_error("scores", open_gguf(&g, &t, &err), &err, SR_CORRUPT, T "scores", "floats", NULL);
    g = spm();
    text_value(&g, T "scores", "none");
    check_error("scores text", open_gguf(&g, &t, &err), &err, SR_CORRUPT, T "scores", "array", NULL);
    g = spm();
    array_of_f32(&g, T "scores", N_SPM, spm_scores);
    array_of_i32(&g, T "token_type", G_I32, 3, spm_types);
    check_error("types", open_gguf(&g, &t, &err), &err, SR_CORRUPT, T "token_type", "3", "11", NULL);
    g = spm();
    array_of_f32(&g, T "scores", N_SPM, spm_scores);
    array_of_f32(&g, T "token_type", N_SPM, spm_scores);
    check_error("float types", open_gguf(&g, &t, &err), &err, SR_CORRUPT, T "token_type", "integers", NULL);
    g = spm_whole();
    text_value(&g, T "add_bos_token", "yes");
    check_error("add_bos", open_gguf(&g, &t, &err), &err, SR_CORRUPT, T "add_bos_token", NULL);

    text_value(&g, T "model", "gpt2");
    array_of_texts(&g, T "tokens", (const char *const[]){"a", "b", "ab", NULL});
    check_error("no merges", open_gguf(&g, &t, &err), &err, SR_CORRUPT, T "merges", NULL);
    text_value(&g, T "model", "gpt2");
    array_of_texts(&g, T "tokens", (const char *const[]){"a", "b", "ab", NULL});
    array_of_texts(&g, T "merges", (const char *const[]){"a b", "ab", NULL});
    check_error("merge", open_gguf(&g, &t, &err), &err, SR_CORRUPT, T "merges", "entry 1", "\"ab\"", NULL);
}

/* [14] */
static void gguf_without_types_or_with_odd_merges_still_works(void **state) {
    (void)state;
    sr_tokenizer *t;
    sr_err err;
    struct gguf g = spm();
    array_of_f32(&g, T "scores", N_SPM, spm_scores);
    if (open_gguf(&g, &t, &err) != SR_OK) fail_msg("%s", err.msg);
    assert_true(sr_token_is_special(t, 1)); /* BOS and EOS at least */
    assert_true(sr_tokenizer_is_end(t, 2));
    struct ids got = tokenize(t, "A", 1, SR_TOKENIZE_NO_BOS);
    check_ids("no types", (struct text){(char *)(uintptr_t) "A", 1}, got, (const int32_t[]){4, 3}, 2);
    free(got.v);
    sr_tokenizer_free(t);

    text_value(&g, T "model", "gpt2");
    text_value(&g, T "pre", "gpt-2");
    array_of_texts(&g, T "tokens", (const char *const[]){"a", "b", "ab", "ba", "aba", NULL});
    /* duplicates (the first counts), cycles, pieces that do not exist */
    array_of_texts(&g, T "merges",
                   (const char *const[]){"a b", "b a", "a b", "ab a", "x y", "a ba", "b b", "ab ab", NULL});
    if (open_gguf(&g, &t, &err) != SR_OK) fail_msg("%s", err.msg);
    got = tokenize(t, "abab", 4, 0);
    check_ids("merges", (struct text){(char *)(uintptr_t) "abab", 4}, got, (const int32_t[]){2, 2}, 2);
    free(got.v);
    sr_tokenizer_free(t);
}

static char heard[512];
static void listen(void *user, sr_log_level level, const char *line) {
    (void)user;
    (void)level;
    snprintf(heard, sizeof heard, "%s", line);
}
static void gguf_unknown_pre_name_warns(void **state) {
    (void)state;
    for (int i = 0; i < 6; i++) {
        static const char *const names[] = {"brand-new", "default", "", "gpt-2 phi-2", "llama3", "qwen2"};
        struct gguf g = {0};
        sr_tokenizer *t;
        sr_err err;
        text_value(&g, T "model", "gpt2");
        text_value(&g, T "pre", names[i]);
        array_of_texts(&g, T "tokens", (const char *const[]){"a", NULL});
        array_of_texts(&g, T "merges", (const char *const[]){NULL});
        heard[0] = 0;
        sr_log_sink(listen, NULL);
        if (open_gguf(&g, &t, &err) != SR_OK) fail_msg("%s", err.msg);
        sr_log_sink(NULL, NULL);
        assert_int_equal(heard[0] != 0, i < 4);
        if (i < 4 && !strstr(heard, names[i])) fail_msg("\"%s\" does not name \"%s\"", heard, names[i]);
        sr_tokenizer_free(t);
    }
}

static void gguf_phi3_special_tokens_swallow_space(void **state) {
    (void)state;
    static const char *const tokens[] = {"<unk>", "<s>", "</s>", "a", "\xE2\x96\x81", "<|end|>", NULL};
    for (int phi = 0; phi < 2; phi++) {
        struct gguf g = {0};
        sr_tokenizer *t;
        sr_err err;
        text_value(&g, "general.name", phi ? "Phi-3 mini" : "Other");
        text_value(&g, T "model", "llama");
        array_of_texts(&g, T "tokens", tokens);
        array_of_i32(&g, T "token_type", G_I32, 6, (const int32_t[]){2, 3, 3, 1, 1, 3});
        array_of_f32(&g, T "scores", 6, (const float[]){0, 0, 0, -1, -2, 0});
        if (open_gguf(&g, &t, &err) != SR_OK) fail_msg("%s", err.msg);
        const char *s = "<|end|>\n a<s> a";
        struct ids got = tokenize(t, s, strlen(s), SR_TOKENIZE_NO_BOS);
        static const int32_t swallowed[] = {5, 4, 3, 1, 4, 4, 3}, kept[] = {5, 4, 0, 4, 3, 1, 4, 4, 3};
        check_ids("phi3", (struct text){(char *)(uintptr_t)s, strlen(s)}, got, phi ? swallowed : kept, phi ? 7 : 9);
        free(got.v);
        sr_tokenizer_free(t);
    }
}

static void gguf_every_cut_and_flip_is_survived(void **state) {
    (void)state;
    static const char *const files[] = {"pre-llama-bpe.gguf", "spm_naive.gguf"};
    for (int k = 0; k < 2; k++) {
        struct reader r = read_vector(files[k]);
        size_t n = (size_t)(r.end - r.at);
        uint64_t x = 1;
        for (int i = 0; i < 600; i++) {
            uint8_t *copy = malloc(n);
            sr_file *file;
            sr_tokenizer *t = NULL;
            sr_err err = {0};
            size_t size = n;
            assert_non_null(copy);
            memcpy(copy, r.data, n);
            for (int flips = 0; flips < 1 + i % 3; flips++) {
                x = x * 6364136223846793005u + 1442695040888963407u;
                copy[(x >> 33) % (i % 2 ? n : 400)] = (uint8_t)(x >> 25);
            }
            if (i % 10 == 0) size = (x >> 30) % n;
            uint8_t *exact = realloc(copy, size ? size : 1);
            assert_non_null(exact);
            if (sr_file_from_memory(exact, size, "t.gguf", &file, &err) == SR_OK) {
                if (sr_tokenizer_create(file, &t, &err) == SR_OK) {
                    size_t count;
                    sr_err second = {0};
                    sr_tokenize(t, "Hello <|im_end|> A\xff 12345", 25, 0, NULL, 0, &count, &second);
                    sr_tokenizer_free(t);
                } else {
                    assert_true(err.msg[0]);
                }
                sr_file_close(file);
            }
            free(exact);
        }
        free(r.data);
    }
}

/* ---------------------------------------------------------------- long texts [15] */

static double timed(const sr_tokenizer *t, const char *what, const char *s, size_t n) {
    size_t count;
    sr_err err = {0};
    clock_t start = clock(); /* processor time: other programs do not count */
    if (sr_tokenize(t, s, n, 0, NULL, 0, &count, &err) != SR_OK) fail_msg("%s: %s", what, err.msg);
    return (double)(clock() - start) / CLOCKS_PER_SEC;
}

/* A text of a megabyte, or for seven of eight pairs of a quarter of one, may take 16 times as long as one of a 16th of
 * that, not 256 times. */
static void a_megabyte_of_anything_takes_linear_time(void **state) {
    (void)state;
    static const char *const units[] = {" ",
                                        "a",
                                        "abcdefghijklmnop",
                                        "7",
                                        "\xE6\xBC\xA2",
                                        "\n",
                                        "\r\n",
                                        "\t ",
                                        "\xff",
                                        "A",
                                        "!",
                                        "a1",
                                        "\xCC\x81",
                                        "\xCC\xA3\xCC\x81",
                                        "\xF0\x9F\x98\x80",
                                        " a",
                                        "     x",
                                        "<|im_end|>",
                                        "<|im_",
                                        "  \n"};
    static const char *const names[] = {"gpt2",
                                        "llama3",
                                        "qwen2",
                                        "llama2",
                                        "gemma",
                                        "metaspace_first",
                                        "starcoder",
                                        "falcon",
                                        "cl100k",
                                        "kimi",
                                        "added_flags_normalized",
                                        "unicode_scripts",
                                        "normal_nfkc",
                                        "spm.gguf",
                                        "spm_naive.gguf",
                                        "pre-deepseek-llm.gguf",
                                        "pre-deepseek-coder.gguf",
                                        "pre-deepseek-v3.gguf",
                                        "pre-tekken.gguf",
                                        "pre-gpt-4o.gguf",
                                        "pre-default.gguf",
                                        "unigram_bytes",
                                        "sp_unigram",
                                        "bert.gguf",
                                        "tiktoken_llama3",
                                        "rwkv.gguf",
                                        "gemma4.gguf"};
    enum { BIG = SANITIZED ? 1 << 17 : 1 << 20 };
    char *s = malloc(BIG + 16);
    double worst = 0;
    char where[256] = "";
    assert_non_null(s);
    for (size_t k = 0; k < sizeof names / sizeof *names; k++) {
        sr_tokenizer *t = open_tokenizer(names[k]);
        for (size_t u = 0; u < sizeof units / sizeof *units; u++) {
            size_t len = strlen(units[u]);
            char what[256];
            const size_t whole = (k + u) % 8 ? BIG / 4 : BIG, big = whole / len * len, small = whole / 16 / len * len;
            for (size_t i = 0; i < whole; i += len) memcpy(s + i, units[u], len);
            snprintf(what, sizeof what, "%s on \"%s\"", names[k], shown(units[u], len));
            double quick = timed(t, what, s, small), slow = timed(t, what, s, big);
            if (slow > 64 * quick + 0.5)
                fail_msg("%s: %.3f s for %zu bytes, %.3f s for %zu", what, quick, small, slow, big);
            if (slow > worst) {
                worst = slow;
                snprintf(where, sizeof where, "%s", what);
            }
        }
        sr_tokenizer_free(t);
    }
    print_message("slowest megabyte: %.2f s, %s\n", worst, where);
    free(s);
}

/* Runs just beyond the window that a search sees at first: many of them cost no more than one. */
static void many_long_runs_are_within_the_budget(void **state) {
    (void)state;
    static const char *const names[] = {"llama3", "cl100k", "pre-deepseek-llm.gguf", "pre-gpt-4o.gguf", "starcoder"};
    enum { BIG = SANITIZED ? 1 << 18 : 1 << 20 };
    char *s = malloc(BIG);
    assert_non_null(s);
    for (size_t k = 0; k < sizeof names / sizeof *names; k++) {
        sr_tokenizer *t = open_tokenizer(names[k]);
        for (size_t run = 300; run < BIG / 5 * 2; run = run * 5 / 2)
            for (int c = 0; c < 4; c++) {
                char what[128];
                for (size_t i = 0; i < BIG; i++) s[i] = i % (run + 1) < run ? " a7!"[c] : "x9 b"[c];
                snprintf(what, sizeof what, "%s, runs of %zu '%c'", names[k], run, " a7!"[c]);
                timed(t, what, s, BIG);
            }
        sr_tokenizer_free(t);
    }
    free(s);
}

/* Patterns that look from every digit to the end of its number: one number of a megabyte, and many of them. */
static void numbers_in_threes_take_linear_time(void **state) {
    (void)state;
    static const char *const patterns[] = {"\\d{1,3}(?=(?:\\d{3})*\\b)", "\\p{N}{1,3}(?=(?:\\p{N}{3})*(?!\\p{N}))",
                                           "(?=(\\d{3})+(?!\\d))"};
    enum { BIG = 1 << 20 };
    char *s = malloc(BIG);
    assert_non_null(s);
    for (size_t k = 0; k < sizeof patterns / sizeof *patterns; k++)
        for (size_t run = 1000; run <= BIG; run *= 1000) {
            sr_stages stages = {.n = 0};
            sr_err err = {0};
            sr_work w = {.err = &err, .scan.text_bytes = BIG};
            if (sr_stages_add_regex(&stages, patterns[k], &err) != SR_OK) fail_msg("%s", err.msg);
            for (size_t i = 0; i < BIG; i++) s[i] = i % (run + 1) < run ? '7' : ' ';
            assert_true(sr_buffer_add(&w.text, s, BIG) && sr_spans_add(&w.spans, 0, BIG, -1, true));
            clock_t start = clock();
            if (sr_stage_run(&w, &stages.v[0]) != SR_OK) fail_msg("%s: %s", patterns[k], err.msg);
            double spent = (double)(clock() - start) / CLOCKS_PER_SEC;
            assert_true(w.spans.n > BIG / 4);
            if (spent > 1) fail_msg("%s on runs of %zu digits: %.1f s", patterns[k], run, spent);
            sr_buffer_free(&w.text);
            free(w.spans.v);
            free(w.other_spans.v);
            sr_scan_free(&w.scan);
            sr_regex_free(stages.v[0].regex);
        }
    free(s);
}

/* A vocabulary of 128 thousand pieces and 280 thousand merges, about 10 MB. */
static void a_large_vocabulary_is_ready_at_once(void **state) {
    enum { N_VOCAB = 128000, N_MERGES = 280000 };
    struct bytes b = {0};
    char piece[64], line[256];
    const char *head =
        "{\"added_tokens\":[],\"decoder\":{\"type\":\"ByteLevel\"},\"model\":{\"type\":\"BPE\",\"vocab\":{";
    put(&b, head, strlen(head));
    uint32_t *left = malloc(N_VOCAB * sizeof *left), *length = malloc(N_VOCAB * sizeof *length);
    char(*pieces)[24] = malloc(N_VOCAB * sizeof *pieces);
    assert_true(left && length && pieces);
    /* letters, then each piece is an earlier one and a letter */
    uint64_t x = 5;
    for (int i = 0; i < N_VOCAB; i++) {
        if (i < 26) {
            snprintf(pieces[i], 24, "%c", 'a' + i);
        } else {
            int k = (i - 26) / 26; /* every pair of an earlier piece and a letter is new */
            size_t n = strlen(pieces[k]);
            memcpy(pieces[i], pieces[k], n);
            pieces[i][n] = (char)('a' + (i - 26) % 26);
            pieces[i][n + 1] = 0;
        }
        put(&b, line, (size_t)snprintf(line, sizeof line, "%s\n      \"%s\": %d", i ? "," : "", pieces[i], i));
    }
    put(&b, "},\"merges\":[", 12);
    for (int i = 0; i < N_MERGES; i++) {
        int k = 26 + i % (N_VOCAB - 26);
        size_t n = strlen(pieces[k]);
        memcpy(piece, pieces[k], sizeof pieces[k]);
        size_t at = i / (N_VOCAB - 26) == 0 ? n - 1 : 1; /* again from the other side, where that differs */
        x++;
        put(&b, line,
            (size_t)snprintf(line, sizeof line, "%s\n      \"%.*s %s\"", i ? "," : "", (int)at, piece, piece + at));
    }
    put(&b, "]}}", 3);
    put(&b, "", 1);
    double best = 1e9;
    for (int i = 0; i < 3; i++) {
        sr_tokenizer *t;
        sr_err err;
        write_text(in(*state, "tokenizer.json"), (const char *)b.data);
        err = (sr_err){0};
        clock_t start = clock();
        sr_status status = sr_tokenizer_open(*state, &t, &err);
        double took = (double)(clock() - start) / CLOCKS_PER_SEC;
        if (status != SR_OK) fail_msg("%s", err.msg);
        assert_int_equal(sr_tokenizer_n_vocab(t), N_VOCAB);
        sr_tokenizer_free(t);
        if (took < best) best = took;
    }
    print_message("%d pieces, %d merges, %.1f MB: %.0f ms of processor time\n", N_VOCAB, N_MERGES, (double)b.n / 1e6,
                  best * 1e3);
    assert_true(best < 1);
    free(left);
    free(length);
    free(pieces);
    drop(&b);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(json_byte_level_equals_reference),
        cmocka_unit_test(json_decoders_equal_reference),
        cmocka_unit_test(json_metaspace_equals_reference),
        cmocka_unit_test(json_splits_equal_reference),
        cmocka_unit_test(json_normalizers_equal_reference),
        cmocka_unit_test(json_unigram_equals_reference),
        cmocka_unit_test(json_words_equal_reference),
        cmocka_unit_test(json_added_tokens_equal_reference),
        cmocka_unit_test(gguf_gpt2_equals_reference),
        cmocka_unit_test(gguf_llama_equals_sentencepiece),
        cmocka_unit_test(gguf_llama_equals_the_plain_algorithm),
        cmocka_unit_test(gguf_t5_equals_sentencepiece),
        cmocka_unit_test(gguf_bert_equals_wordpiece),
        cmocka_unit_test(gguf_gemma4_equals_reference),
        cmocka_unit_test(gguf_rwkv_equals_the_plain_algorithm),
        cmocka_unit_test(splits_equal_oniguruma),
        cmocka_unit_test(special_spellings_are_text_on_request),
        cmocka_unit_test(ids_out_of_range_are_refused),
        cmocka_unit_test(invalid_bytes_are_replacement_characters),
        cmocka_unit_test(a_short_buffer_gets_the_first_ids_and_the_full_count),
        cmocka_unit_test_setup_teardown(json_reads_fields_in_any_order, make_scratch, remove_scratch),
        cmocka_unit_test_setup_teardown(json_config_decides_on_bos_without_a_template, make_scratch, remove_scratch),
        cmocka_unit_test_setup_teardown(json_takes_end_ids_from_the_configs, make_scratch, remove_scratch),
        cmocka_unit_test_setup_teardown(json_takes_tokens_of_the_files_beside_it, make_scratch, remove_scratch),
        cmocka_unit_test_setup_teardown(json_names_what_is_wrong, make_scratch, remove_scratch),
        cmocka_unit_test_setup_teardown(json_cut_anywhere_is_an_error, make_scratch, remove_scratch),
        cmocka_unit_test_setup_teardown(json_duplicate_and_cyclic_merges_are_harmless, make_scratch, remove_scratch),
        cmocka_unit_test_setup_teardown(a_hopeless_pattern_hits_its_limit, make_scratch, remove_scratch),
        cmocka_unit_test(gguf_malformed_byte_tokens_are_text),
        cmocka_unit_test(gguf_special_ids_outside_the_vocabulary_are_refused),
        cmocka_unit_test(gguf_defaults_that_do_not_fit_are_none),
        cmocka_unit_test(gguf_names_the_key_that_is_wrong),
        cmocka_unit_test(gguf_without_types_or_with_odd_merges_still_works),
        cmocka_unit_test(gguf_unknown_pre_name_warns),
        cmocka_unit_test(gguf_phi3_special_tokens_swallow_space),
        cmocka_unit_test(gguf_every_cut_and_flip_is_survived),
        cmocka_unit_test(a_megabyte_of_anything_takes_linear_time),
        cmocka_unit_test(numbers_in_threes_take_linear_time),
        cmocka_unit_test(many_long_runs_are_within_the_budget),
        cmocka_unit_test_setup_teardown(a_large_vocabulary_is_ready_at_once, make_scratch, remove_scratch),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
