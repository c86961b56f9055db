/* Streaming detokenization: characters stay whole, stop strings are held back and cut, nothing is lost. */
#include "tokenizer_vectors.h"

#include "text/tokenizer.h"

/* A tokenizer whose ids 0..255 are bytes, then some words; what decoding needs and no more. */
struct fake {
    sr_tokenizer t;
    sr_piece piece[300], bytes[300];
    uint8_t flags[300];
    char single[256][2];
};
static const char *const words[] = {"Hello", " world", "STOP", "ST",    "OP", "\xE6\xBC", "\xA2", "\xF0\x9F\x98\x80",
                                    "aab",   "aa",     "ab",   "<end>", ""};
enum { HELLO = 256, WORLD, STOP, ST, OP, HAN_1, HAN_2, SMILE, AAB, AA, AB, END, EMPTY, N_FAKE };

static struct fake *fake(bool byte_tokens) {
    struct fake *f = calloc(1, sizeof *f);
    assert_non_null(f);
    for (int i = 0; i < N_FAKE; i++) {
        if (i < 256) {
            f->single[i][0] = (char)i;
            f->bytes[i] = (sr_piece){f->single[i], 1};
            if (byte_tokens) f->flags[i] = SR_TOKEN_BYTE;
        } else {
            f->bytes[i] = (sr_piece){words[i - 256], (uint32_t)strlen(words[i - 256])};
        }
        f->piece[i] = f->bytes[i];
    }
    f->flags[END] = SR_TOKEN_SPECIAL;
    f->t.vocab.n = N_FAKE;
    f->t.vocab.piece = f->piece;
    f->t.bytes = f->bytes;
    f->t.flags = f->flags;
    f->t.fffd_per_byte = byte_tokens;
    return f;
}

static sr_detok *detok(const sr_tokenizer *t, const char *const *stops, int n) {
    sr_detok *d;
    sr_err err = {0};
    if (sr_detok_create(t, stops, n, &d, &err) != SR_OK) fail_msg("%s", err.msg);
    return d;
}

/* Pushes ids up to -1 and compares each output with the next of `want`. */
static void check_pushes(const char *what, sr_detok *d, const int32_t *ids, const char *const *want) {
    const char *s;
    size_t n;
    for (int i = 0; ids[i] >= 0; i++) {
        sr_detok_push(d, ids[i], &s, &n);
        if (n != strlen(want[i]) || memcmp(s, want[i], n) != 0 || s[n])
            fail_msg("%s, push %d: got \"%s\", want \"%s\"", what, i, shown(s, n), shown(want[i], strlen(want[i])));
    }
}
static void check_flush(const char *what, sr_detok *d, const char *want) {
    const char *s;
    size_t n;
    sr_detok_flush(d, &s, &n);
    if (n != strlen(want) || memcmp(s, want, n) != 0)
        fail_msg("%s, flush: got \"%s\", want \"%s\"", what, shown(s, n), want);
}

static void characters_stay_whole(void **state) {
    (void)state;
    struct fake *f = fake(false);
    sr_detok *d = detok(&f->t, NULL, 0);
    check_pushes(
        "han", d, (const int32_t[]){HELLO, HAN_1, HAN_2, SMILE, 0xF0, 0x9F, 0x98, 0x80, -1},
        (const char *const[]){"Hello", "", "\xE6\xBC\xA2", "\xF0\x9F\x98\x80", "", "", "", "\xF0\x9F\x98\x80"});
    check_flush("nothing left", d, "");
    sr_detok_reset(d, true);
    check_pushes("cut", d, (const int32_t[]){HAN_1, -1}, (const char *const[]){""});
    check_flush("incomplete", d, "\xEF\xBF\xBD"); /* one for the start of one character */
    sr_detok_free(d);
    free(f);
}

static void bytes_that_are_no_character_become_replacements(void **state) {
    (void)state;
    struct fake *f = fake(false);
    sr_detok *d = detok(&f->t, NULL, 0);
#define R "\xEF\xBF\xBD"
    check_pushes("lossy", d,
                 (const int32_t[]){0xFF, 0x80, HAN_1, HELLO, 0xED, 0xA0, 0x80, 0xF0, 0x9F, 'x', 0xC3, 0xC3, 0xA9, -1},
                 (const char *const[]){R, R, "", R "Hello", "", R R, R, "", "", R "x", "", R, "\xC3\xA9"});
    sr_detok_free(d);
    free(f);
    f = fake(true); /* byte tokens: one each, and they never join other text */
    d = detok(&f->t, NULL, 0);
    check_pushes("byte tokens", d, (const int32_t[]){0xE6, 0xBC, HELLO, 0xE6, 0xBC, 0xA2, 0xF0, 0x9F, 'x', -1},
                 (const char *const[]){"", "", R R "Hello", "", "", "\xE6\xBC\xA2", "", "", R R "x"});
    check_pushes("cut", d, (const int32_t[]){0xF0, 0x9F, 0x98, -1}, (const char *const[]){"", "", ""});
    check_flush("cut", d, R R R);
    sr_detok_free(d);
    free(f);
}

static void special_tokens_add_nothing(void **state) {
    (void)state;
    struct fake *f = fake(false);
    sr_detok *d = detok(&f->t, NULL, 0);
    check_pushes("special", d, (const int32_t[]){HELLO, END, WORLD, EMPTY, -1},
                 (const char *const[]){"Hello", "", " world", ""});
    const char *s;
    size_t n;
    assert_false(sr_detok_push(d, -1, &s, &n));
    assert_int_equal(n, 0);
    assert_false(sr_detok_push(d, 1 << 30, &s, &n));
    assert_string_equal(s, "");
    sr_detok_free(d);
    free(f);
}

static void stop_strings_end_the_text(void **state) {
    (void)state;
    struct fake *f = fake(false);
    static const char *const stop[] = {"STOP"};
    const char *s;
    size_t n;
    for (int k = 0; k < 3; k++) {
        sr_detok *d = detok(&f->t, stop, 1);
        static const int32_t one[] = {HELLO, STOP, -1}, two[] = {HELLO, ST, OP, -1},
                             four[] = {HELLO, 'S', 'T', 'O', 'P', -1};
        check_pushes("stop", d, k == 0 ? one : k == 1 ? two : four, (const char *const[]){"Hello", "", "", "", ""});
        assert_true(sr_detok_push(d, HELLO, &s, &n)); /* and stays ended */
        assert_int_equal(n, 0);
        check_flush("stopped", d, "");
        sr_detok_reset(d, false);
        check_pushes("again", d, (const int32_t[]){HELLO, ST, HELLO, -1},
                     (const char *const[]){"Hello", "", "STHello"});
        sr_detok_free(d);
    }
    sr_detok *d = detok(&f->t, stop, 1);
    check_pushes("false start", d, (const int32_t[]){'S', 'S', 'T', 'S', 'T', 'O', 'O', -1},
                 (const char *const[]){"", "S", "", "ST", "", "", "STOO"});
    check_pushes("held", d, (const int32_t[]){ST, 'O', -1}, (const char *const[]){"", ""});
    check_flush("a prefix at the end is text", d, "STO");
    sr_detok_free(d);
    free(f);
}

static void overlapping_stop_strings_end_at_the_first_completed(void **state) {
    (void)state;
    struct fake *f = fake(false);
    /* "aab" appears in "aaab" from position 1 */
    sr_detok *d = detok(&f->t, (const char *const[]){"aab"}, 1);
    const char *s;
    size_t n;
    check_pushes("aaab", d, (const int32_t[]){'a', 'a', 'a', -1}, (const char *const[]){"", "", "a"});
    assert_true(sr_detok_push(d, 'b', &s, &n));
    assert_int_equal(n, 0);
    sr_detok_free(d);
    /* two that end together: the longer began first */
    d = detok(&f->t, (const char *const[]){"b", "aab"}, 2);
    check_pushes("both", d, (const int32_t[]){HELLO, AAB, -1}, (const char *const[]){"Hello", ""});
    check_flush("both", d, "");
    sr_detok_free(d);
    /* one inside another that never completes */
    d = detok(&f->t, (const char *const[]){"aabX", "ab"}, 2);
    check_pushes("inner", d, (const int32_t[]){AA, 'b', -1}, (const char *const[]){"", "a"});
    sr_detok_free(d);
    /* in one token, text behind the stop is dropped */
    d = detok(&f->t, (const char *const[]){"ell"}, 1);
    check_pushes("inside a token", d, (const int32_t[]){HELLO, -1}, (const char *const[]){"H"});
    sr_detok_free(d);
    /* characters of several bytes */
    d = detok(&f->t, (const char *const[]){"\xE6\xBC\xA2!"}, 1);
    check_pushes("han", d, (const int32_t[]){HAN_1, HAN_2, '?', HAN_1, HAN_2, '!', -1},
                 (const char *const[]){"", "", "\xE6\xBC\xA2?", "", "", ""});
    sr_detok_free(d);
    free(f);
}

static void useless_stop_strings_are_refused(void **state) {
    (void)state;
    struct fake *f = fake(false);
    sr_detok *d;
    sr_err err = {0};
    check_error("empty", sr_detok_create(&f->t, (const char *const[]){"a", ""}, 2, &d, &err), &err, SR_INVALID, "1",
                "empty", NULL);
    assert_null(d);
    err = (sr_err){0};
    check_error("not UTF-8", sr_detok_create(&f->t, (const char *const[]){"\xff"}, 1, &d, &err), &err, SR_INVALID,
                "UTF-8", NULL);
    err = (sr_err){0};
    check_error("count", sr_detok_create(&f->t, NULL, 2, &d, &err), &err, SR_INVALID, "2", NULL);
    free(f);
}

static void the_leading_space_goes_once(void **state) {
    (void)state;
    struct fake *f = fake(false);
    f->t.lead = SR_LEAD_STRIP;
    f->t.lead_text = " ";
    f->t.lead_len = 1;
    f->t.lead_n = 1;
    sr_detok *d = detok(&f->t, NULL, 0);
    check_pushes("start", d, (const int32_t[]){END, WORLD, WORLD, -1}, (const char *const[]){"", "world", " world"});
    sr_detok_reset(d, true);
    check_pushes("two", d, (const int32_t[]){' ', ' ', HELLO, -1}, (const char *const[]){"", " ", "Hello"});
    sr_detok_reset(d, true);
    check_pushes("none", d, (const int32_t[]){HELLO, WORLD, -1}, (const char *const[]){"Hello", " world"});
    sr_detok_reset(d, false);
    check_pushes("in mid-text", d, (const int32_t[]){WORLD, -1}, (const char *const[]){" world"});
    sr_detok_free(d);
    free(f);
}

/* What a plain search would do: decode all, cut before the stop string that ends first. */
static size_t plain_cut(const char *s, size_t n, const char *const *stops, int n_stops) {
    for (size_t end = 1; end <= n; end++) {
        size_t longest = 0;
        for (int k = 0; k < n_stops; k++) {
            size_t len = strlen(stops[k]);
            if (len <= end && len > longest && !memcmp(s + end - len, stops[k], len)) longest = len;
        }
        if (longest) return end - longest;
    }
    return n;
}

static void streaming_equals_the_whole_for_random_ids(void **state) {
    (void)state;
    static const char *const names[] = {"gpt2",           "llama2",     "metaspace_first", "qwen2",         "spm.gguf",
                                        "pre-gpt-2.gguf", "sp_unigram", "sp_bpe",          "unigram_bytes", "wordpiece",
                                        "tekken",         "rwkv.gguf",  "bert.gguf"};
    uint64_t x = 11;
    for (size_t k = 0; k < sizeof names / sizeof *names; k++) {
        char path[1024];
        sr_tokenizer *t;
        sr_err err = {0};
        snprintf(path, sizeof path, "%s%s", VECTORS, names[k]);
        if (sr_tokenizer_open(path, &t, &err) != SR_OK) fail_msg("%s", err.msg);
        for (int round = 0; round < 1000; round++) {
            static const char *const all[] = {"e", "th", " a", "ee", "the", "\xEF\xBF\xBD", "\n", "an", "in the"};
            int32_t ids[40];
            const char *stops[3];
            int n = 1 + round % 40, n_stops = round % 4;
            for (int i = 0; i < n; i++)
                ids[i] =
                    (int32_t)(((x = x * 6364136223846793005u + 1442695040888963407u) >> 33) % (uint64_t)t->vocab.n);
            for (int i = 0; i < n_stops; i++) stops[i] = all[((x = x * 6364136223846793005u + 1) >> 40) % 9];
            struct text whole = decode(t, ids, (size_t)n);
            if (!sr_utf8_valid(whole.s, whole.n)) fail_msg("%s: not UTF-8: %s", names[k], listed(ids, (size_t)n));
            size_t cut = plain_cut(whole.s, whole.n, stops, n_stops);
            sr_detok *d = detok(t, stops, n_stops);
            struct bytes b = {0};
            const char *s;
            size_t len;
            bool stopped = false;
            for (int i = 0; i < n && !stopped; i++) {
                stopped = sr_detok_push(d, ids[i], &s, &len);
                assert_true(sr_utf8_valid(s, len));
                put(&b, s, len);
            }
            sr_detok_flush(d, &s, &len);
            put(&b, s, len);
            if (b.n != cut || (cut && memcmp(b.data, whole.s, cut) != 0))
                fail_msg("%s, round %d, ids %s: got \"%s\", want \"%s\"", names[k], round, listed(ids, (size_t)n),
                         shown((char *)b.data, b.n), shown(whole.s, cut));
            sr_detok_free(d);
            free(whole.s);
            drop(&b);
        }
        sr_tokenizer_free(t);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(characters_stay_whole),
        cmocka_unit_test(bytes_that_are_no_character_become_replacements),
        cmocka_unit_test(special_tokens_add_nothing),
        cmocka_unit_test(stop_strings_end_the_text),
        cmocka_unit_test(overlapping_stop_strings_end_at_the_first_completed),
        cmocka_unit_test(useless_stop_strings_are_refused),
        cmocka_unit_test(the_leading_space_goes_once),
        cmocka_unit_test(streaming_equals_the_whole_for_random_ids),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
