/* safetensors: what is read from a good file, and what is said about a bad one. */
#include "support.h"

#include "base/map.h"
#include "file/file.h"

/* A file with this header and `size` bytes of data, each 0, 1, 2, ... */
static struct bytes file_of(const char *header, size_t size) {
    struct bytes b = {0};
    put_int(&b, strlen(header), 8);
    put(&b, header, strlen(header));
    for (size_t i = 0; i < size; i++) put_int(&b, i & 255, 1);
    return b;
}

static sr_status open_bytes(const struct bytes *b, sr_file **file, uint8_t **copy, sr_err *err) {
    *copy = malloc(b->n ? b->n : 1);
    assert_non_null(*copy);
    if (b->n) memcpy(*copy, b->data, b->n);
    return sr_file_from_memory(*copy, b->n, "t.safetensors", file, err);
}

#define assert_bytes_rejected(b, status, ...)                                                                          \
    do {                                                                                                               \
        sr_err err_ = {0};                                                                                             \
        sr_file *file_;                                                                                                \
        uint8_t *copy_;                                                                                                \
        sr_status got_ = open_bytes((b), &file_, &copy_, &err_);                                                       \
        sr_file_close(file_);                                                                                          \
        free(copy_);                                                                                                   \
        drop(b);                                                                                                       \
        check_error(__func__, got_, &err_, status, "t.safetensors", __VA_ARGS__, NULL);                                \
    } while (0)

#define assert_rejected(header, size, status, ...)                                                                     \
    do {                                                                                                               \
        struct bytes b_ = file_of(header, size);                                                                       \
        assert_bytes_rejected(&b_, status, __VA_ARGS__);                                                               \
    } while (0)

static const char good[] = "{\"__metadata__\":{\"format\":\"pt\"},"
                           "\"b\":{\"dtype\":\"F32\",\"shape\":[2,3],\"data_offsets\":[3,27]},"
                           "\"a\":{\"data_offsets\":[0,3],\"shape\":[3],\"dtype\":\"U8\"},"
                           "\"empty\":{\"dtype\":\"F16\",\"shape\":[0,5],\"data_offsets\":[27,27]},"
                           "\"scalar\":{\"dtype\":\"BF16\",\"shape\":[],\"data_offsets\":[27,29]}}   ";

static void safetensors_reads_tensors_and_metadata(void **state) {
    (void)state;
    struct bytes b = file_of(good, 29);
    sr_file *f;
    sr_err err = {0};
    const char *text;
    size_t n;
    if (sr_file_from_memory(b.data, b.n, "t.safetensors", &f, &err) != SR_OK) fail_msg("%s", err.msg);
    assert_false(f->gguf);
    assert_string_equal(f->container, "safetensors");
    assert_int_equal(f->n_parts, 4);
    const sr_part *p = sr_file_part(f, "b"); /* at an odd address: fine */
    assert_int_equal(p->data[0], 3);
    assert_int_equal(p->bytes, 24);
    assert_int_equal(p->n_dims, 2);
    assert_int_equal(p->shape[0], 2);
    assert_int_equal(p->shape[1], 3);
    assert_string_equal(p->type->name, "f32");
    assert_int_equal(sr_file_part(f, "empty")->n_elements, 0);
    assert_int_equal(sr_file_part(f, "scalar")->n_elements, 1);
    assert_int_equal(sr_file_part(f, "scalar")->n_dims, 0);
    assert_true(sr_value_string(f, "__metadata__.format", &text, &n, &err) && n == 2 && memcmp(text, "pt", 2) == 0);
    sr_file_close(f);
    drop(&b);
}

static void safetensors_reads_every_dtype(void **state) {
    (void)state;
    static const struct {
        const char *dtype;
        int bits;
    } types[] = {{"BOOL", 8}, {"U8", 8},      {"I8", 8},      {"F8_E4M3", 8},    {"F8_E5M2", 8}, {"F8_E8M0", 8},
                 {"I16", 16}, {"U16", 16},    {"F16", 16},    {"BF16", 16},      {"I32", 32},    {"U32", 32},
                 {"F32", 32}, {"I64", 64},    {"U64", 64},    {"F64", 64},       {"C64", 64},    {"F8_E4M3FNUZ", 8},
                 {"F4", 4},   {"F6_E2M3", 6}, {"F6_E3M2", 6}, {"F8_E5M2FNUZ", 8}};
    for (size_t i = 0; i < sizeof types / sizeof *types; i++) {
        char header[200];
        int bytes = types[i].bits; /* of 8 elements */
        snprintf(header, sizeof header, "{\"t\":{\"dtype\":\"%s\",\"shape\":[2,4],\"data_offsets\":[0,%d]}}",
                 types[i].dtype, bytes);
        struct bytes b = file_of(header, (size_t)bytes);
        sr_file *f;
        sr_err err = {0};
        if (sr_file_from_memory(b.data, b.n, "t.safetensors", &f, &err) != SR_OK) fail_msg("%s", err.msg);
        assert_int_equal(f->part[0].bytes, bytes);
        sr_file_close(f);
        drop(&b);
    }
    assert_rejected("{\"t\":{\"dtype\":\"F4\",\"shape\":[3],\"data_offsets\":[0,2]}}", 2, SR_CORRUPT, "\"t\"",
                    "whole number of bytes");
}

static void safetensors_rejects_every_truncation_point(void **state) {
    (void)state;
    struct bytes b = file_of(good, 29);
    for (size_t n = 0; n < b.n; n++) {
        struct bytes cut = {b.data, n, n};
        sr_file *f;
        uint8_t *copy;
        sr_err err = {0};
        sr_status s = open_bytes(&cut, &f, &copy, &err);
        if (s == SR_OK || f || !err.msg[0]) fail_msg("cut to %zu of %zu bytes: got %d", n, b.n, s);
        if (n > 8) check_error("cut", s, &err, SR_CORRUPT, "t.safetensors", NULL);
        free(copy);
    }
    drop(&b);
}

/* ---------------------------------------------------------------- header */

static void safetensors_rejects_bad_header_lengths(void **state) {
    static const struct {
        uint64_t length;
        const char *says;
    } bad[] = {{0, "header of 0 bytes"},
               {UINT64_MAX, "header of 18446744073709551615 bytes"},
               {INT64_MAX, "expected 1 to the 64 that are left"},
               {65, "header of 65 bytes"}};
    for (int i = 0; i < 4; i++) {
        struct bytes b = {0};
        put_int(&b, bad[i].length, 8);
        put(&b, "{}", 2);
        put_zeros(&b, 62);
        assert_bytes_rejected(&b, SR_CORRUPT, bad[i].says);
    }
    struct bytes b = {0};
    const char *path = in(*state, "t.safetensors");
    sr_file *f;
    sr_err err = {0};
    put_int(&b, 100000001, 8);
    put(&b, "{", 1);
    write_file(path, b.data, b.n);
    assert_int_equal(truncate(path, 200 << 20), 0);
    check_error("cap", sr_file_open(path, NULL, &f, &err), &err, SR_LIMIT, "t.safetensors", "100000001",
                "at most 100000000", NULL);
    write_file(path, b.data, 4);
    sr_err_clear(&err);
    check_error("4 bytes", sr_file_open(path, NULL, &f, &err), &err, SR_CORRUPT, "4 bytes", NULL);
    drop(&b);
}

static void safetensors_rejects_headers_that_are_no_object(void **state) {
    static const char *const bad[] = {"[]", "null", "\"x\"", " {}", "5"};
    sr_file *f;
    sr_err err = {0};
    for (int i = 0; i < 5; i++) {
        struct bytes b = file_of(bad[i], 0);
        const char *path = in(*state, "t.safetensors");
        write_file(path, b.data, b.n);
        sr_err_clear(&err);
        check_error(bad[i], sr_file_open(path, NULL, &f, &err), &err, SR_CORRUPT, "does not start with '{'", NULL);
        drop(&b);
    }
    assert_rejected("{\"a\":1}", 0, SR_CORRUPT, "\"a\"", "no object");
    assert_rejected("{\"a\":[]}", 0, SR_CORRUPT, "\"a\"", "no object");
    assert_rejected("{\"\xff\":{}}", 0, SR_CORRUPT, "not UTF-8");
    assert_rejected("{\"a\":{},}", 0, SR_CORRUPT, "\"a\"");
}

static void safetensors_rejects_deep_nesting(void **state) {
    (void)state;
    struct bytes b = {0};
    put(&b, "{\"a\":{\"x\":", 10);
    for (int i = 0; i < 100000; i++) put(&b, "[", 1);
    put(&b, "", 1);
    assert_rejected((const char *)b.data, 0, SR_LIMIT, "nesting");
    drop(&b);
}

static void safetensors_rejects_bytes_behind_the_header_and_the_data(void **state) {
    (void)state;
    assert_rejected("{} {}", 0, SR_CORRUPT, "behind the header", "byte 11");
    assert_rejected("{}x", 0, SR_CORRUPT, "behind the header");
    assert_rejected("{}", 1, SR_CORRUPT, "1 bytes of no tensor");
    assert_rejected("{\"t\":{\"dtype\":\"U8\",\"shape\":[3],\"data_offsets\":[0,3]}}", 10, SR_CORRUPT,
                    "7 bytes of no tensor at offset 3", "end of the file");
}

/* ---------------------------------------------------------------- entries */

#define ENTRY(dtype, shape, offsets) "{\"t\":{\"dtype\":" dtype ",\"shape\":" shape ",\"data_offsets\":" offsets "}}"

static void safetensors_rejects_bad_offsets(void **state) {
    (void)state;
    static const struct {
        const char *header, *says;
    } bad[] = {
        {ENTRY("\"U8\"", "[4]", "[8,4]"), "data_offsets 8 to 4"},
        {ENTRY("\"U8\"", "[4]", "[0,9]"), "data_offsets 0 to 9, the data is 8 bytes"},
        {ENTRY("\"U8\"", "[4]", "[9007199254740993,9007199254740997]"), "9007199254740993 to 9007199254740997"},
        {ENTRY("\"U8\"", "[4]", "[-4,0]"), "two whole numbers"},
        {ENTRY("\"U8\"", "[4]", "[0.0,8.0]"), "two whole numbers"},
        {ENTRY("\"U8\"", "[4]", "[0,8e0]"), "two whole numbers"},
        {ENTRY("\"U8\"", "[4]", "[0,18446744073709551624]"), "two whole numbers"}, /* 2^64 + 8 */
        {ENTRY("\"U8\"", "[4]", "[0,9223372036854775808]"), "two whole numbers"},
        {ENTRY("\"U8\"", "[4]", "[0]"), "two whole numbers"},
        {ENTRY("\"U8\"", "[4]", "[0,4,8]"), "two whole numbers"},
        {ENTRY("\"U8\"", "[4]", "[\"0\",\"8\"]"), "two whole numbers"},
        {ENTRY("\"U8\"", "[4]", "{}"), "two whole numbers"},
        {ENTRY("\"U8\"", "[4]", "null"), "two whole numbers"},
    };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        assert_rejected(bad[i].header, 8, SR_CORRUPT, "\"t\"", bad[i].says);
}

static void safetensors_rejects_shapes_that_do_not_match_the_span(void **state) {
    (void)state;
    assert_rejected(ENTRY("\"F32\"", "[3]", "[0,8]"), 8, SR_CORRUPT, "\"t\"", "span of 8 bytes, expected 12",
                    "3 elements of f32");
    assert_rejected(ENTRY("\"F32\"", "[1]", "[0,8]"), 8, SR_CORRUPT, "\"t\"", "expected 4");
    assert_rejected(ENTRY("\"U8\"", "[]", "[0,8]"), 8, SR_CORRUPT, "\"t\"", "expected 1");
    assert_rejected(ENTRY("\"U8\"", "[0]", "[0,8]"), 8, SR_CORRUPT, "\"t\"", "expected 0");
}

static void safetensors_rejects_bad_shapes(void **state) {
    (void)state;
    static const char *const bad[] = {
        ENTRY("\"U8\"", "[-8]", "[0,8]"),
        ENTRY("\"U8\"", "[8.0]", "[0,8]"),
        ENTRY("\"U8\"", "[[8]]", "[0,8]"),
        ENTRY("\"U8\"", "[null]", "[0,8]"),
        ENTRY("\"U8\"", "8", "[0,8]"),
        ENTRY("\"U8\"", "{\"x\":8}", "[0,8]"),
        ENTRY("\"U8\"", "[1,1,1,1,1,1,1,1,8]", "[0,8]"),
        ENTRY("\"U8\"", "[18446744073709551624]", "[0,8]"),
    };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        assert_rejected(bad[i], 8, SR_CORRUPT, "\"t\"", "at most 8 whole numbers");
}

static void safetensors_rejects_shape_products_that_wrap(void **state) {
    (void)state;
    assert_rejected(ENTRY("\"U8\"", "[4294967296,4294967296]", "[0,0]"), 0, SR_CORRUPT, "\"t\"", "63 bits");
    assert_rejected(ENTRY("\"U8\"", "[4294967296,4294967296,0]", "[0,0]"), 0, SR_CORRUPT, "\"t\"", "63 bits");
    assert_rejected(ENTRY("\"F64\"", "[2305843009213693952]", "[0,0]"), 0, SR_CORRUPT, "\"t\"", "below 2^63");
    assert_rejected(ENTRY("\"F4\"", "[4611686018427387904]", "[0,0]"), 0, SR_CORRUPT, "\"t\"", "below 2^63");
}

static void safetensors_rejects_unknown_dtypes(void **state) {
    (void)state;
    assert_rejected(ENTRY("\"F12\"", "[8]", "[0,8]"), 8, SR_UNSUPPORTED, "\"t\"", "\"F12\"");
    assert_rejected(ENTRY("\"u8\"", "[8]", "[0,8]"), 8, SR_UNSUPPORTED, "\"t\"", "\"u8\"");
    assert_rejected(ENTRY("\"\"", "[8]", "[0,8]"), 8, SR_UNSUPPORTED, "\"t\"");
    assert_rejected(ENTRY("8", "[8]", "[0,8]"), 8, SR_CORRUPT, "\"t\"", "dtype");
}

static void safetensors_rejects_missing_and_repeated_fields(void **state) {
    (void)state;
    assert_rejected("{\"t\":{}}", 0, SR_CORRUPT, "\"t\"", "expected all three");
    assert_rejected("{\"t\":{\"dtype\":\"U8\",\"shape\":[8]}}", 8, SR_CORRUPT, "\"t\"", "expected all three");
    assert_rejected("{\"t\":{\"dtype\":\"U8\",\"dtype\":\"I8\",\"shape\":[8],\"data_offsets\":[0,8]}}", 8, SR_CORRUPT,
                    "\"t\"", "second dtype");
    assert_rejected("{\"t\":{\"dtype\":\"U8\",\"shape\":[8],\"shape\":[8],\"data_offsets\":[0,8]}}", 8, SR_CORRUPT,
                    "\"t\"", "given once");
    assert_rejected("{\"t\":{\"dtype\":\"U8\",\"shape\":[8],\"data_offsets\":[0,8],\"data_offsets\":[0,8]}}", 8,
                    SR_CORRUPT, "\"t\"", "given once");
}

#define TWO(a, b)                                                                                                      \
    "{\"one\":{\"dtype\":\"U8\",\"shape\":[4],\"data_offsets\":" a "},\"two\":{\"dtype\":\"U8\",\"shape\":[4],"        \
    "\"data_offsets\":" b "}}"

static void safetensors_rejects_overlaps_and_gaps(void **state) {
    (void)state;
    assert_rejected(TWO("[0,4]", "[3,7]"), 7, SR_CORRUPT, "\"two\"", "overlaps", "\"one\"");
    assert_rejected(TWO("[3,7]", "[0,4]"), 7, SR_CORRUPT, "\"one\"", "overlaps", "\"two\"");
    assert_rejected(TWO("[0,4]", "[0,4]"), 4, SR_CORRUPT, "overlaps");
    assert_rejected(TWO("[0,4]", "[6,10]"), 10, SR_CORRUPT, "2 bytes of no tensor at offset 4", "two");
    assert_rejected(TWO("[1,5]", "[5,9]"), 9, SR_CORRUPT, "1 bytes of no tensor at offset 0", "one");
    struct bytes b = file_of(TWO("[4,8]", "[0,4]"), 8); /* order does not matter */
    sr_file *f;
    sr_err err = {0};
    assert_int_equal(sr_file_from_memory(b.data, b.n, "t.safetensors", &f, &err), SR_OK);
    sr_file_close(f);
    drop(&b);
}

static void safetensors_rejects_duplicate_and_bad_names(void **state) {
    (void)state;
    static const char dup[] = "{\"x\":{\"dtype\":\"U8\",\"shape\":[4],\"data_offsets\":[0,4]},"
                              "\"\\u0078\":{\"dtype\":\"U8\",\"shape\":[4],\"data_offsets\":[4,8]}}";
    assert_rejected(dup, 8, SR_CORRUPT, "\"x\"", "twice");
    assert_rejected("{\"\":{\"dtype\":\"U8\",\"shape\":[],\"data_offsets\":[0,1]}}", 1, SR_CORRUPT, "empty");
    assert_rejected("{\"a\\u0000b\":{\"dtype\":\"U8\",\"shape\":[],\"data_offsets\":[0,1]}}", 1, SR_CORRUPT,
                    "zero byte");
    char header[4096], name[2000];
    memset(name, 'n', sizeof name);
    name[257] = 0;
    snprintf(header, sizeof header, "{\"%s\":{\"dtype\":\"U8\",\"shape\":[],\"data_offsets\":[0,1]}}", name);
    assert_rejected(header, 1, SR_LIMIT, "257 bytes", "at most 256");
    name[257] = 'n';
    name[1999] = 0;
    snprintf(header, sizeof header, "{\"%s\":{\"dtype\":\"U8\",\"shape\":[],\"data_offsets\":[0,1]}}", name);
    assert_rejected(header, 1, SR_LIMIT, "1999 bytes", "at most 256");
}

static void safetensors_rejects_bad_metadata(void **state) {
    (void)state;
    assert_rejected("{\"__metadata__\":null,\"__metadata__\":{}}", 0, SR_CORRUPT, "__metadata__", "second");
    assert_rejected("{\"__metadata__\":{\"a\":1}}", 0, SR_CORRUPT, "__metadata__", "\"a\"", "no text");
    assert_rejected("{\"__metadata__\":{\"a\":{}}}", 0, SR_CORRUPT, "__metadata__", "\"a\"");
    assert_rejected("{\"__metadata__\":[]}", 0, SR_CORRUPT, "__metadata__");
    assert_rejected("{\"__metadata__\":{},\"__metadata__\":{}}", 0, SR_CORRUPT, "__metadata__", "second");
    assert_rejected("{\"__metadata__\":{\"a\":\"1\",\"a\":\"2\"}}", 0, SR_CORRUPT, "__metadata__.a", "twice");
}

static void safetensors_opens_many_tensors_in_bounded_time(void **state) {
    (void)state;
    enum { N = 100000 };
    struct bytes h = {0};
    char entry[160];
    put(&h, "{", 1);
    for (int i = 0; i < N; i++) { /* data in the other order */
        int n = snprintf(entry, sizeof entry,
                         "%s\"blk.%d.weight\":{\"dtype\":\"U8\",\"shape\":[4],\"data_offsets\":[%d,%d]}", i ? "," : "",
                         i, 4 * (N - 1 - i), 4 * (N - i));
        put(&h, entry, (size_t)n);
    }
    put(&h, "}", 2);
    struct bytes b = file_of((const char *)h.data, 4 * N);
    sr_file *f;
    sr_err err = {0};
    double start = sr_clock();
    if (sr_file_from_memory(b.data, b.n, "t.safetensors", &f, &err) != SR_OK) fail_msg("%s", err.msg);
    double seconds = sr_clock() - start;
    if (seconds > 10) fail_msg("took %.3f s", seconds);
    assert_int_equal(sr_file_part(f, "blk.99999.weight")->data[0], 0);
    sr_file_close(f);
    drop(&h);
    drop(&b);
}

int main(void) {
#define WITH_FILES(test) cmocka_unit_test_setup_teardown(test, make_scratch, remove_scratch)
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(safetensors_reads_tensors_and_metadata),
        cmocka_unit_test(safetensors_reads_every_dtype),
        cmocka_unit_test(safetensors_rejects_every_truncation_point),
        WITH_FILES(safetensors_rejects_bad_header_lengths),
        WITH_FILES(safetensors_rejects_headers_that_are_no_object),
        cmocka_unit_test(safetensors_rejects_deep_nesting),
        cmocka_unit_test(safetensors_rejects_bytes_behind_the_header_and_the_data),
        cmocka_unit_test(safetensors_rejects_bad_offsets),
        cmocka_unit_test(safetensors_rejects_shapes_that_do_not_match_the_span),
        cmocka_unit_test(safetensors_rejects_bad_shapes),
        cmocka_unit_test(safetensors_rejects_shape_products_that_wrap),
        cmocka_unit_test(safetensors_rejects_unknown_dtypes),
        cmocka_unit_test(safetensors_rejects_missing_and_repeated_fields),
        cmocka_unit_test(safetensors_rejects_overlaps_and_gaps),
        cmocka_unit_test(safetensors_rejects_duplicate_and_bad_names),
        cmocka_unit_test(safetensors_rejects_bad_metadata),
        cmocka_unit_test(safetensors_opens_many_tensors_in_bounded_time),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
