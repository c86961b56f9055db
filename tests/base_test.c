/* The base layer: errors, arena, cursor, 16-bit floats, UTF-8, JSON. */
#include "support.h"

#include <math.h>
#include <pthread.h>
#include <stdatomic.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "base/arena.h"
#include "base/cursor.h"
#include "base/digest.h"
#include "base/err.h"
#include "base/half.h"
#include "base/json.h"
#include "base/path.h"
#include "base/pool.h"
#include "base/utf8.h"

/* ---------------------------------------------------------------- errors */

static void err_keeps_the_first_failure(void **state) {
    (void)state;
    sr_err err = {0};
    assert_int_equal(sr_fail(&err, SR_CORRUPT, "first %d", 1), SR_CORRUPT);
    assert_int_equal(sr_fail(&err, SR_IO, "second"), SR_IO);
    assert_int_equal(err.code, SR_CORRUPT);
    assert_string_equal(err.msg, "first 1");
    sr_err_clear(&err);
    assert_int_equal(err.code, SR_OK);
    assert_int_equal(sr_fail(NULL, SR_IO, "nobody listens"), SR_IO);
    sr_err_clear(NULL);
}

static void err_message_is_one_cut_line_of_whole_characters(void **state) {
    (void)state;
    sr_err err = {0};
    char longest[600];
    sr_fail(&err, SR_CORRUPT, "a\nb\tc\x7f");
    assert_string_equal(err.msg, "a?b?c?");
    for (size_t lead = 0; lead < 4; lead++) {
        memset(longest, 'x', lead);
        for (size_t i = lead; i + 4 < sizeof longest; i += 3) memcpy(longest + i, "\xe2\x82\xac", 4);
        sr_err_clear(&err);
        sr_fail(&err, SR_CORRUPT, "%s", longest);
        assert_true(strlen(err.msg) < sizeof err.msg);
        assert_true(sr_utf8_valid(err.msg, strlen(err.msg)));
    }
}

static void every_status_has_a_name(void **state) {
    (void)state;
    for (int i = SR_OK; i <= SR_CANCELLED; i++) assert_true(strlen(sr_status_name((sr_status)i)) > 1);
    assert_string_equal(sr_status_name((sr_status)99), "unknown status");
}

/* ---------------------------------------------------------------- arena */

static void arena_gives_zeroed_aligned_memory_that_does_not_overlap(void **state) {
    (void)state;
    static const size_t sizes[] = {1, 63, 64, 65, 1000, 16384, 16385, 65536, 1 << 20, 3 << 20, 0, 7};
    enum { N = sizeof sizes / sizeof *sizes };
    sr_arena a = {0};
    for (int round = 0; round < 2; round++) {
        unsigned char *p[N];
        for (int i = 0; i < N; i++) {
            p[i] = i % 2 ? sr_arena_small(&a, sizes[i], 1) : sr_arena_alloc(&a, sizes[i], 1);
            assert_non_null(p[i]);
            assert_int_equal((uintptr_t)p[i] % (i % 2 ? 8 : 64), 0);
            for (size_t k = 0; k < sizes[i]; k++)
                if (p[i][k]) fail_msg("byte %zu of %zu is not zero", k, sizes[i]);
            memset(p[i], i + 1, sizes[i]);
        }
        for (int i = 0; i < N; i++)
            for (size_t k = 0; k < sizes[i]; k++)
                if (p[i][k] != i + 1) fail_msg("allocation %d was overwritten at %zu", i, k);
        assert_true(a.used >= (1 << 20) + (3 << 20));
        sr_arena_free(&a);
        assert_int_equal(a.used, 0);
    }
}

static void an_arena_takes_over_what_another_one_has(void **state) {
    (void)state;
    for (int empty = 0; empty < 2; empty++) {
        sr_arena a = {0}, b = {0};
        char *small = empty ? NULL : sr_arena_strndup(&a, "kept", 4), *moved = sr_arena_strndup(&b, "moved", 5);
        char *large = sr_arena_alloc(&b, 1 << 21, 1);
        size_t used = a.used + b.used;
        sr_arena_join(&a, &b);
        assert_null(b.head);
        assert_int_equal(a.used, used);
        sr_arena_join(&a, &b); /* nothing */
        sr_arena_free(&b);
        large[(1 << 21) - 1] = 1;
        assert_string_equal(moved, "moved");
        assert_true(empty || strcmp(small, "kept") == 0);
        assert_string_equal(sr_arena_strndup(&a, "next", 4), "next");
        assert_string_equal(moved, "moved");
        sr_arena_free(&a);
    }
}

static void arena_refuses_sizes_that_wrap(void **state) {
    (void)state;
    sr_arena a = {0};
    assert_null(sr_arena_alloc(&a, SIZE_MAX / 2, 3));
    assert_null(sr_arena_alloc(&a, SIZE_MAX, 1));
    assert_null(sr_arena_small(&a, (size_t)1 << 33, (size_t)1 << 33));
    assert_null(sr_arena_strndup(&a, "x", SIZE_MAX));
    assert_string_equal(sr_arena_strndup(&a, "hello", 4), "hell");
    assert_string_equal(sr_arena_strndup(&a, NULL, 0), "");
    sr_arena_free(&a);
}

/* ---------------------------------------------------------------- cursor */

static void cursor_reads_both_byte_orders(void **state) {
    (void)state;
    static const uint8_t bytes[] = {1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};
    sr_cursor c = sr_cursor_over(bytes, sizeof bytes);
    assert_int_equal(sr_cursor_u8(&c), 1);
    assert_int_equal(sr_cursor_u16(&c), 0x0302);
    assert_int_equal(sr_cursor_u32(&c), 0x07060504);
    assert_true(sr_cursor_u64(&c) == 0x0f0e0d0c0b0a0908);
    assert_int_equal(sr_cursor_left(&c), 0);
    assert_int_equal(sr_cursor_offset(&c), 15);
    assert_false(c.failed);
    c = sr_cursor_over(bytes, sizeof bytes);
    c.swap = true;
    assert_int_equal(sr_cursor_u16(&c), 0x0102);
    assert_int_equal(sr_cursor_u32(&c), 0x03040506);
}

static void cursor_failure_is_sticky(void **state) {
    (void)state;
    static const uint8_t bytes[] = {1, 2, 3};
    sr_cursor c = sr_cursor_over(bytes, sizeof bytes);
    assert_int_equal(sr_cursor_u8(&c), 1);
    assert_int_equal(sr_cursor_u32(&c), 0);
    assert_true(c.failed);
    assert_int_equal(sr_cursor_u8(&c), 0); /* although two bytes are there */
    assert_int_equal(sr_cursor_left(&c), 0);
    c = sr_cursor_over(bytes, sizeof bytes);
    assert_null(sr_cursor_bytes(&c, UINT64_MAX));
    c = sr_cursor_over(NULL, 0);
    assert_false(c.failed);
    assert_int_equal(sr_cursor_u8(&c), 0);
    assert_true(c.failed);
}

/* ---------------------------------------------------------------- 16-bit floats */

/* Value of the bits by the definition of IEEE 754 binary16. */
static double half_value(uint16_t h) {
    int e = (h >> 10) & 31, m = h & 0x3ff;
    double v = e ? ldexp(1 + m / 1024.0, e - 15) : ldexp(m / 1024.0, -14);
    return h & 0x8000 ? -v : v;
}

static void f16_round_trips_all_65536_values(void **state) {
    (void)state;
    for (uint32_t i = 0; i < 65536; i++) {
        uint16_t h = (uint16_t)i;
        float f = sr_f16_to_f32(h);
        bool nan = (h & 0x7c00) == 0x7c00 && (h & 0x3ff), inf = (h & 0x7fff) == 0x7c00;
        if (nan) {
            assert_true(isnan(f) && isnan(sr_f16_to_f32(sr_f32_to_f16(f))));
            continue;
        }
        if (inf)
            assert_true(isinf(f) && !signbit(f) == !(h >> 15));
        else if ((double)f != half_value(h) || !signbit(f) != !(h >> 15))
            fail_msg("0x%04x: got %a, want %a", h, (double)f, half_value(h));
        if (sr_f32_to_f16(f) != h) fail_msg("0x%04x came back as 0x%04x", h, sr_f32_to_f16(f));
    }
}

static void f16_rounds_to_nearest_even_between_all_neighbours(void **state) {
    (void)state;
    for (uint16_t h = 0; h < 0x7bff; h++) { /* f32 holds each midpoint exactly */
        float a = sr_f16_to_f32(h), b = sr_f16_to_f32((uint16_t)(h + 1)), middle = a + (b - a) / 2;
        uint16_t even = (uint16_t)(h + (h & 1));
        if (sr_f32_to_f16(middle) != even) fail_msg("midpoint above 0x%04x: got 0x%04x", h, sr_f32_to_f16(middle));
        if (sr_f32_to_f16(nextafterf(middle, 0)) != h) fail_msg("below the midpoint above 0x%04x", h);
        if (sr_f32_to_f16(nextafterf(middle, b)) != h + 1) fail_msg("above the midpoint above 0x%04x", h);
        if (sr_f32_to_f16(-middle) != (even | 0x8000)) fail_msg("negative midpoint above 0x%04x", h);
    }
    assert_int_equal(sr_f32_to_f16(65519.996f), 0x7bff);
    assert_int_equal(sr_f32_to_f16(65520.0f), 0x7c00);
    assert_int_equal(sr_f32_to_f16(INFINITY), 0x7c00);
    assert_int_equal(sr_f32_to_f16(-0x1p127f), 0xfc00);
    assert_int_equal(sr_f32_to_f16(0x1p-25f), 0);
    assert_int_equal(sr_f32_to_f16(0x1.000002p-25f), 1);
}

static void bf16_round_trips_all_65536_values_and_rounds_to_even(void **state) {
    (void)state;
    for (uint32_t i = 0; i < 65536; i++) {
        uint16_t h = (uint16_t)i;
        float f = sr_bf16_to_f32(h);
        assert_int_equal(sr_bits_from_f32(f), i << 16);
        if (isnan(f)) {
            assert_true(isnan(sr_bf16_to_f32(sr_f32_to_bf16(f))));
            continue;
        }
        assert_int_equal(sr_f32_to_bf16(f), h);
        if ((h & 0x7fff) >= 0x7f7f) continue; /* next to infinity */
        assert_int_equal(sr_f32_to_bf16(sr_f32_from_bits(i << 16 | 0x8000)), (uint16_t)(h + (h & 1)));
        assert_int_equal(sr_f32_to_bf16(sr_f32_from_bits(i << 16 | 0x7fff)), h);
        assert_int_equal(sr_f32_to_bf16(sr_f32_from_bits(i << 16 | 0x8001)), (uint16_t)(h + 1));
    }
    assert_true(isnan(sr_bf16_to_f32(sr_f32_to_bf16(sr_f32_from_bits(0x7f800001))))); /* not rounded to infinity */
}

/* ---------------------------------------------------------------- UTF-8 and paths */

static void utf8_accepts_exactly_the_code_points(void **state) {
    (void)state;
    for (uint32_t c = 0; c < 0x110000; c++) {
        char text[4];
        unsigned n = sr_utf8_put(c, text);
        if (c >= 0xd800 && c < 0xe000) {
            assert_memory_equal(text, "\xef\xbf\xbd", 3);
        } else if (sr_utf8_step(text, n) != n || (n > 1 && sr_utf8_step(text, n - 1) != 0)) {
            fail_msg("U+%04X", c);
        }
    }
    uint32_t valid = 0; /* of all sequences of up to three bytes */
    for (uint32_t i = 0; i < 1 << 24; i++) {
        char three[3] = {(char)(i >> 16), (char)(i >> 8), (char)i};
        valid += sr_utf8_step(three, 3) == 3;
    }
    assert_int_equal(valid, 0x10000 - 0x800 - 0x800);
    char text[32] = "abcdefgh";
    assert_true(sr_utf8_valid(text, 8));
    for (int i = 0; i < 8; i++) { /* in every place of a word of eight */
        text[i] = (char)0x80;
        assert_false(sr_utf8_valid(text, 8));
        text[i] = 'x';
    }
}

static void paths_are_taken_apart_and_joined(void **state) {
    (void)state;
    sr_arena a = {0};
    assert_string_equal(sr_path_base("a/b/c.gguf"), "c.gguf");
    assert_string_equal(sr_path_base("c.gguf"), "c.gguf");
    assert_string_equal(sr_path_dir(&a, "a/b/c"), "a/b");
    assert_string_equal(sr_path_dir(&a, "c"), ".");
    assert_string_equal(sr_path_dir(&a, "/c"), "/");
    assert_string_equal(sr_path_join(&a, "a/b", "c"), "a/b/c");
    assert_string_equal(sr_path_join(&a, "a//", "c"), "a/c");
    assert_string_equal(sr_path_join(&a, "/", "c"), "/c");
    sr_arena_free(&a);
}

/* ---------------------------------------------------------------- JSON */

/* Walks the whole text. */
static sr_status walk(const char *text, size_t n, sr_err *err) {
    char *exact = malloc(n ? n : 1);
    sr_json_value v;
    assert_non_null(exact);
    if (n) memcpy(exact, text, n);
    sr_err_clear(err);
    sr_json j = sr_json_over(exact, n, "t.json", err);
    sr_json_next(&j, &v);
    sr_json_skip(&j, &v);
    sr_json_next(&j, &v);
    bool end = !j.failed && v.kind == SR_JSON_END && sr_json_at_end(&j);
    assert_int_equal(end, err->code == SR_OK);
    free(exact);
    return err->code;
}

static void json_accepts_valid_texts(void **state) {
    (void)state;
    static const char *const good[] = {"{}",
                                       "[]",
                                       " [ ] ",
                                       "0",
                                       "-0",
                                       "-12.5e+3",
                                       "1E9",
                                       "\"\"",
                                       "\"\\u0000\\ud83d\\ude00\\n\"",
                                       "null",
                                       "true",
                                       "false",
                                       "[1,2,[3,{\"a\":[]}],\"x\"]",
                                       "{\"a\":1,\"a\":2}",
                                       "\t\r\n{\"\":{\"b\":[null]}}\n",
                                       "[NaN,Infinity,-Infinity]"};
    sr_err err = {0};
    for (size_t i = 0; i < sizeof good / sizeof *good; i++)
        if (walk(good[i], strlen(good[i]), &err) != SR_OK) fail_msg("%s: %s", good[i], err.msg);
}

static void json_rejects_invalid_texts(void **state) {
    (void)state;
    static const struct {
        const char *text, *says;
    } bad[] = {
        {"", "ends at byte 0, expected a value"},
        {" ", "ends at byte 1"},
        {"[1,]", "byte 3: found ']', expected a value"},
        {"[,1]", "byte 1: found ',', expected a value"},
        {"[1 2]", "byte 3: found '2', expected ',' or ']'"},
        {"[1}", "byte 2: found '}'"},
        {"{\"a\" 1}", "byte 5: found '1', expected ':'"},
        {"{\"a\":1,}", "byte 7: found '}', expected a key"},
        {"{a:1}", "byte 1: found 'a', expected a key"},
        {"{\"a\":}", "byte 5: found '}', expected a value"},
        {"[", "ends at byte 1"},
        {"[[[", "ends at byte 3"},
        {"\"abc", "ends at byte 4, expected the end of a string"},
        {"\"a\nb\"", "byte 2: found 0x0a"},
        {"\"\\x\"", "byte 2: found 'x', expected an escape"},
        {"\"\\u12g4\"", "byte 5: found 'g', expected four hexadecimal"},
        {"\"\\", "ends at byte 2"},
        {"\"\\u12", "ends at byte 5"},
        {"01", "byte 1: found '1', expected the end of the text"},
        {"1.", "ends at byte 2"},
        {".5", "byte 0: found '.'"},
        {"1e", "ends at byte 2"},
        {"+1", "byte 0: found '+'"},
        {"-", "ends at byte 1, expected a digit"},
        {"--1", "byte 1"},
        {"nul", "byte 0: found 'n'"},
        {"truth", "byte 0: found 't'"},
        {"{}{}", "byte 2: found '{', expected the end of the text"},
        {"'a'", "byte 0"},
        {"\xef\xbb\xbf{}", "byte 0: found 0xef"},
    };
    sr_err err = {0};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        check_error(bad[i].text, walk(bad[i].text, strlen(bad[i].text), &err), &err, SR_CORRUPT, "t.json", bad[i].says,
                    NULL);
}

static void json_limits_depth(void **state) {
    (void)state;
    enum { BOMB = 1000000 };
    char *text = malloc(2 * BOMB);
    sr_err err = {0};
    assert_non_null(text);
    memset(text, '[', BOMB);
    memset(text + BOMB, ']', BOMB);
    assert_int_equal(walk(text + BOMB - SR_JSON_DEPTH, 2 * SR_JSON_DEPTH, &err), SR_OK);
    check_error("65", walk(text + BOMB - SR_JSON_DEPTH - 1, 2 * SR_JSON_DEPTH + 2, &err), &err, SR_LIMIT, "byte 64",
                NULL);
    check_error("bomb", walk(text, 2 * BOMB, &err), &err, SR_LIMIT, "deeper than 64", NULL);
    free(text);
}

static void json_walks_and_leaves(void **state) {
    (void)state;
    static const char text[] = "{\"skip\":[1,[2,{\"x\":3}]],\"list\":[10,[11],12],\"last\":true}";
    sr_err err = {0};
    sr_json j = sr_json_over(text, sizeof text - 1, "t.json", &err);
    sr_json_value key, v;
    int64_t i;
    bool b = false;
    assert_int_equal(sr_json_next(&j, &v), SR_JSON_OBJECT);
    assert_int_equal(sr_json_next_pair(&j, &key, &v), SR_JSON_ARRAY);
    assert_true(sr_json_equals(&key, "skip"));
    sr_json_skip(&j, &v);
    assert_int_equal(sr_json_next_pair(&j, &key, &v), SR_JSON_ARRAY);
    sr_json bookmark = j;
    assert_int_equal(sr_json_next(&j, &v), SR_JSON_NUMBER);
    assert_int_equal(sr_json_next(&j, &v), SR_JSON_ARRAY);
    sr_json_leave(&j); /* the inner one */
    assert_int_equal(sr_json_next(&j, &v), SR_JSON_NUMBER);
    assert_true(sr_json_int64(&v, &i) && i == 12);
    assert_int_equal(sr_json_next(&bookmark, &v), SR_JSON_NUMBER);
    assert_true(sr_json_int64(&v, &i) && i == 10);
    sr_json_leave(&bookmark);
    assert_int_equal(sr_json_next(&j, &v), SR_JSON_END);
    assert_int_equal(sr_json_next_pair(&bookmark, &key, &v), SR_JSON_BOOL);
    assert_true(sr_json_bool(&v, &b) && b);
    assert_int_equal(sr_json_next_pair(&bookmark, &key, &v), SR_JSON_END);
    assert_true(sr_json_at_end(&bookmark));
    assert_int_equal(sr_json_next(&bookmark, &v), SR_JSON_END);
    assert_int_equal(err.code, SR_OK);
    assert_int_equal(sr_json_next(&j, &v), SR_JSON_ERROR); /* it is inside an object now */
    check_error("container", err.code, &err, SR_CORRUPT, "to be inside an array", NULL);
    assert_int_equal(sr_json_next_pair(&j, &key, &v), SR_JSON_ERROR); /* sticky */
}

static void json_unescapes_to_utf8(void **state) {
    (void)state;
    static const struct {
        const char *text, *want;
        size_t n;
    } cases[] = {
        {"\"plain\"", "plain", 5},
        {"\"\\\"\\\\\\/\\b\\f\\n\\r\\t\"", "\"\\/\b\f\n\r\t", 8},
        {"\"\\u0041\\u00e9\\u20ac\"", "A\xc3\xa9\xe2\x82\xac", 6},
        {"\"\\ud83d\\ude00\"", "\xf0\x9f\x98\x80", 4},
        {"\"\\ud83d\"", "\xef\xbf\xbd", 3},
        {"\"\\ud83dx\\ude00\"", "\xef\xbf\xbdx\xef\xbf\xbd", 7},
        {"\"\\ud83d\\u0041\"",
         "\xef\xbf\xbd"
         "A",
         4},
        {"\"a\\u0000b\"", "a\0b", 3},
        {"\"\xc3\xa9\"", "\xc3\xa9", 2},
    };
    sr_arena a = {0};
    sr_err err = {0};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        sr_json j = sr_json_over(cases[i].text, strlen(cases[i].text), "t.json", &err);
        sr_json_value v;
        size_t n;
        assert_int_equal(sr_json_next(&j, &v), SR_JSON_STRING);
        char *out = sr_json_string(&j, &v, &a, &n);
        if (!out || n != cases[i].n || memcmp(out, cases[i].want, n + 1) != 0) fail_msg("%s", cases[i].text);
        assert_int_equal(sr_json_equals(&v, cases[i].want), strlen(cases[i].want) == n);
        assert_false(sr_json_equals(&v, "other") || sr_json_equals(&v, ""));
    }
    sr_json j = sr_json_over("\"x\xff\"", 4, "t.json", &err);
    sr_json_value v;
    size_t n;
    assert_int_equal(sr_json_next(&j, &v), SR_JSON_STRING);
    assert_null(sr_json_string(&j, &v, &a, &n));
    check_error("not UTF-8", err.code, &err, SR_CORRUPT, "t.json", "byte 1", "not UTF-8", NULL);
    sr_arena_free(&a);
}

static void json_numbers_convert_exactly_or_not_at_all(void **state) {
    (void)state;
    static const struct {
        const char *text;
        bool is_int, is_double;
        int64_t i;
        double d;
    } cases[] = {
        {"0", true, true, 0, 0},
        {"-1", true, true, -1, -1},
        {"9223372036854775807", true, true, INT64_MAX, 0x1p63},
        {"9223372036854775808", false, true, 0, 0x1p63},
        {"-9223372036854775808", true, true, INT64_MIN, -0x1p63},
        {"-9223372036854775809", false, true, 0, -0x1p63},
        {"18446744073709551616", false, true, 0, 0x1p64},
        {"9007199254740993", true, true, 9007199254740993, 9007199254740992.0},
        {"1.0", false, true, 0, 1},
        {"1e3", false, true, 0, 1000},
        {"-0", false, true, 0, 0},
        {"0.1", false, true, 0, 0.1},
        {"1e-400", false, true, 0, 0},
        {"1e400", false, false, 0, 0},
        {"1000000000000000019884624838656", false, true, 0, 1000000000000000019884624838656.0},
        {"NaN", false, false, 0, 0},
        {"Infinity", false, false, 0, 0},
        {"-Infinity", false, false, 0, 0},
    };
    for (size_t k = 0; k < sizeof cases / sizeof *cases; k++) {
        sr_err err = {0};
        sr_json j = sr_json_over(cases[k].text, strlen(cases[k].text), "t.json", &err);
        sr_json_value v;
        int64_t i = 0;
        double d = 0;
        bool b;
        assert_int_equal(sr_json_next(&j, &v), SR_JSON_NUMBER);
        if (sr_json_int64(&v, &i) != cases[k].is_int || i != cases[k].i) fail_msg("%s as int64", cases[k].text);
        if (sr_json_double(&v, &d) != cases[k].is_double || d != cases[k].d) fail_msg("%s as double", cases[k].text);
        assert_false(sr_json_bool(&v, &b));
    }
}

/* ---------------------------------------------------------------- digests */

static void digest_is(sr_digest d, const void *data, size_t n, size_t portion, const char *want) {
    char hex[SR_DIGEST_HEX];
    const char *p = data;
    for (size_t at = 0; at < n; at += portion) sr_digest_add(&d, p + at, n - at < portion ? n - at : portion);
    sr_digest_hex(&d, hex);
    if (strcmp(hex, want) != 0) fail_msg("%zu bytes by %zu: got %s, want %s", n, portion, hex, want);
}

static void digests_are_those_of_the_standard(void **state) {
    (void)state;
    /* FIPS 180-4's own examples, then i * 7 + n modulo 256 for each byte i of n, from Python's hashlib: lengths at
     * which the padding changes its shape. */
    digest_is(sr_sha256(), "abc", 3, 3, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
    digest_is(sr_sha1(), "abc", 3, 3, "a9993e364706816aba3e25717850c26c9cd0d89d");
    static const struct {
        size_t n;
        const char *sha256, *sha1;
    } want[] = {
        {0, "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
         "da39a3ee5e6b4b0d3255bfef95601890afd80709"},
        {55, "81afe5b788dc2ce138ff83d9b20164db75a94d75d2b2432eea4a0ef605088c72",
         "63ac9708fb581dd150d3647549f9e0cb51dcf1df"},
        {56, "2aba54f0ac632420a2b502431408866e40e1d5e430df4cd822642c78ab2eb9c1",
         "5a0c4d0eb2f15e05bbbff6b8dada9ae767fc03f0"},
        {64, "79322907b3e9d013d7dc2c2f256674dbf733045cde01df3539271c6f5605feb8",
         "5f55a35e13f1865e7ffc22dca1275b1a49b0ff56"},
        {119, "6c87eedf096b345de205b702e5223b73b447a3207791ded3ea007ba15ed6736e",
         "774001b5ad1f46b40c48e1b94cb092c593ead25b"},
        {1000000, "9b94f0c6efa8633610bef496c2c4ab30f57066f3678a49318f778077e998fc51",
         "44735cb9646eddefa32e64daad22c56323be4f2f"},
    };
    uint8_t *data = malloc(1000000);
    assert_non_null(data);
    for (size_t k = 0; k < sizeof want / sizeof *want; k++) {
        static const size_t portions[] = {1, 63, 64, 65, 4096, 1000000};
        for (size_t i = 0; i < want[k].n; i++) data[i] = (uint8_t)(i * 7 + want[k].n);
        for (size_t p = 0; p < sizeof portions / sizeof *portions; p++) {
            digest_is(sr_sha256(), data, want[k].n, portions[p], want[k].sha256);
            digest_is(sr_sha1(), data, want[k].n, portions[p], want[k].sha1);
        }
    }
    free(data);
}

/* ---------------------------------------------------------------- threads */

enum { LOOP_MOST = 3000 };

struct loop {
    atomic_int times[LOOP_MOST], wrong;
    int n, threads, slow; /* item that takes a while, or -1 */
};

static void rest(int ms) {
    nanosleep(&(struct timespec){ms / 1000, ms % 1000 * 1000000L}, NULL);
}

static void count_item(void *ctx, int item, int thread) {
    struct loop *l = ctx;
    if (item < 0 || item >= l->n || thread < 0 || thread >= l->threads)
        atomic_fetch_add(&l->wrong, 1);
    else
        atomic_fetch_add(&l->times[item], 1);
    if (item == l->slow) rest(2);
}

/* Loops, of which each item ran once when the call returned. */
static int loops(int rounds, unsigned seed) {
    static _Thread_local struct loop l;
    int bad = 0;
    for (int i = 0; i < rounds; i++) {
        seed = seed * 1103515245u + 12345;
        l.threads = 1 + (int)(seed >> 16) % 5;
        l.n = (int)(seed >> 20) % (i % 16 ? 40 : LOOP_MOST);
        l.slow = i % 64 == 0 ? l.n - 1 : -1;
        for (int k = 0; k < l.n; k++) atomic_store_explicit(&l.times[k], 0, memory_order_relaxed);
        sr_pool_for(l.threads, l.n, count_item, &l);
        for (int k = 0; k < l.n; k++) bad += atomic_load_explicit(&l.times[k], memory_order_relaxed) != 1;
    }
    return bad + l.wrong;
}

static void *loops_of_another_thread(void *arg) {
    return (void *)(intptr_t)loops(3000, (unsigned)(intptr_t)arg);
}

static void a_loop_runs_each_item_once(void **state) {
    (void)state;
    assert_int_equal(loops(5000, 1), 0);
}

static void loops_of_several_threads_do_not_mix(void **state) {
    (void)state;
    pthread_t other[3];
    for (int i = 0; i < 3; i++)
        assert_int_equal(pthread_create(&other[i], NULL, loops_of_another_thread, (void *)(intptr_t)(i + 2)), 0);
    assert_int_equal(loops(3000, 9), 0);
    for (int i = 0; i < 3; i++) {
        void *bad;
        assert_int_equal(pthread_join(other[i], &bad), 0);
        assert_null(bad);
    }
}

static void a_fork_has_threads_of_its_own(void **state) {
    (void)state;
    assert_int_equal(loops(100, 5), 0);
    const pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) _exit(loops(100, 6) != 0);
    int status;
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 0);
}

static double own_seconds(void) {
    return (double)clock() / CLOCKS_PER_SEC;
}

static void waiting_threads_sleep(void **state) {
    (void)state;
    assert_int_equal(loops(100, 7), 0);
    rest(20); /* what spins is done */
    const double before = own_seconds();
    rest(300);
    assert_true(own_seconds() - before < 0.03);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_loop_runs_each_item_once),
        cmocka_unit_test(loops_of_several_threads_do_not_mix),
        cmocka_unit_test(a_fork_has_threads_of_its_own),
        cmocka_unit_test(waiting_threads_sleep),
        cmocka_unit_test(digests_are_those_of_the_standard),
        cmocka_unit_test(err_keeps_the_first_failure),
        cmocka_unit_test(err_message_is_one_cut_line_of_whole_characters),
        cmocka_unit_test(every_status_has_a_name),
        cmocka_unit_test(arena_gives_zeroed_aligned_memory_that_does_not_overlap),
        cmocka_unit_test(an_arena_takes_over_what_another_one_has),
        cmocka_unit_test(arena_refuses_sizes_that_wrap),
        cmocka_unit_test(cursor_reads_both_byte_orders),
        cmocka_unit_test(cursor_failure_is_sticky),
        cmocka_unit_test(f16_round_trips_all_65536_values),
        cmocka_unit_test(f16_rounds_to_nearest_even_between_all_neighbours),
        cmocka_unit_test(bf16_round_trips_all_65536_values_and_rounds_to_even),
        cmocka_unit_test(utf8_accepts_exactly_the_code_points),
        cmocka_unit_test(paths_are_taken_apart_and_joined),
        cmocka_unit_test(json_accepts_valid_texts),
        cmocka_unit_test(json_rejects_invalid_texts),
        cmocka_unit_test(json_limits_depth),
        cmocka_unit_test(json_walks_and_leaves),
        cmocka_unit_test(json_unescapes_to_utf8),
        cmocka_unit_test(json_numbers_convert_exactly_or_not_at_all),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
