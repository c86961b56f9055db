/* GGUF: what is read from a good file, and what is said about a bad one. Most of the bad ones are published attacks on
 * other readers (CVE-2024-21802, CVE-2024-39720, CVE-2025-53630, CVE-2026-7482, CVE-2026-27940, CVE-2026-33298). */
#include "support.h"

#include "base/map.h"
#include "file/file.h"
#include "file/inner.h"

/* Opens a copy of exactly these bytes, so that the sanitizer sees a read past their end. */
static sr_status open_bytes(const struct bytes *b, sr_file **file, uint8_t **copy, sr_err *err) {
    *copy = malloc(b->n ? b->n : 1);
    assert_non_null(*copy);
    if (b->n) memcpy(*copy, b->data, b->n);
    return sr_file_from_memory(*copy, b->n, "t.gguf", file, err);
}

/* The bytes are dropped. */
#define assert_rejected(b, status, ...)                                                                                \
    do {                                                                                                               \
        sr_err err_ = {0};                                                                                             \
        sr_file *file_;                                                                                                \
        uint8_t *copy_;                                                                                                \
        sr_status got_ = open_bytes((b), &file_, &copy_, &err_);                                                       \
        sr_file_close(file_);                                                                                          \
        free(copy_);                                                                                                   \
        drop(b);                                                                                                       \
        check_error(__func__, got_, &err_, status, "t.gguf", __VA_ARGS__, NULL);                                       \
    } while (0)

/* Three values and two tensors: q4_0 [2][64] of 72 bytes at 0, f32 [4] at 96. Data starts at a multiple of 32. */
static struct bytes good(uint32_t version) {
    struct bytes b = {0};
    g_header(&b, version, 2, 3);
    g_string(&b, "general.architecture", "llama");
    g_u32(&b, "llama.block_count", 7);
    g_array(&b, "tokens", G_STRING, 3);
    g_text(&b, "a");
    g_text(&b, "");
    g_text(&b, "\xff"); /* a token may be any bytes */
    g_tensor(&b, "blk.0.attn_q.weight", 64, 2, 2, 0);
    g_tensor(&b, "norm", 4, 0, 0, 96);
    pad_to(&b, 32);
    put_zeros(&b, 72);
    pad_to(&b, 32);
    for (int i = 0; i < 4; i++) put_int(&b, 0x3f800000, 4);
    return b;
}

static void gguf_reads_values_and_tensors(void **state) {
    (void)state;
    for (uint32_t version = 2; version <= 3; version++) {
        struct bytes b = good(version);
        sr_file *f;
        sr_err err = {0};
        assert_int_equal(sr_file_from_memory(b.data, b.n, "t.gguf", &f, &err), SR_OK);
        assert_string_equal(f->container, version == 2 ? "GGUF v2" : "GGUF v3");
        assert_true(f->gguf);
        assert_int_equal(f->n_parts, 2);
        assert_int_equal(f->n_values, 3);
        const sr_part *p = sr_file_part(f, "blk.0.attn_q.weight");
        assert_non_null(p);
        assert_string_equal(p->type->name, "q4_0");
        assert_int_equal(p->n_dims, 2);
        assert_int_equal(p->shape[0], 2);
        assert_int_equal(p->shape[1], 64);
        assert_int_equal(p->n_elements, 128);
        assert_int_equal(p->bytes, 72);
        const sr_part *norm = sr_file_part(f, "norm");
        assert_ptr_equal(norm->data, p->data + 96);
        assert_ptr_equal(norm->data + norm->bytes, b.data + b.n);
        assert_null(sr_file_part(f, "blk.1.attn_q.weight"));
        const char *text;
        size_t n;
        assert_true(sr_value_string(f, "general.architecture", &text, &n, &err));
        assert_int_equal(n, 5);
        assert_memory_equal(text, "llama", 5);
        sr_array a = sr_array_over(sr_file_value(f, "tokens"));
        assert_true(sr_array_string(&a, &text, &n) && n == 1 && *text == 'a');
        assert_true(sr_array_string(&a, &text, &n) && n == 0);
        assert_true(sr_array_string(&a, &text, &n) && n == 1 && *text == '\xff');
        assert_false(sr_array_string(&a, &text, &n));
        sr_file_close(f);
        drop(&b);
    }
}

static void gguf_reads_every_value_type_at_its_extremes(void **state) {
    (void)state;
    struct bytes b = {0};
    g_header(&b, 3, 0, 13);
    static const uint64_t bits[] = {0xff,
                                    0x80,
                                    0xffff,
                                    0x8000,
                                    0xffffffff,
                                    0x80000000,
                                    0x7f7fffff,
                                    1,
                                    0,
                                    0,
                                    0xffffffffffffffffu,
                                    0x8000000000000000u,
                                    0x3ff8000000000000};
    static const unsigned size[] = {1, 1, 2, 2, 4, 4, 4, 1, 0, 0, 8, 8, 8};
    for (unsigned type = 0; type < 13; type++) {
        char key[16];
        snprintf(key, sizeof key, "t%u", type);
        g_key(&b, key, type);
        if (type == G_STRING) g_text(&b, "");
        if (type == G_ARRAY) {
            put_int(&b, G_U8, 4);
            put_int(&b, 0, 8);
        }
        put_int(&b, bits[type], size[type]);
    }
    sr_file *f;
    sr_err err = {0};
    assert_int_equal(sr_file_from_memory(b.data, b.n, "t.gguf", &f, &err), SR_OK);
    int64_t i;
    double d;
    bool flag;
    assert_true(sr_value_int(f, "t0", 0, 255, &i, &err) && i == 255);
    assert_true(sr_value_int(f, "t1", -128, 127, &i, &err) && i == -128);
    assert_true(sr_value_int(f, "t2", 0, 65535, &i, &err) && i == 65535);
    assert_true(sr_value_int(f, "t3", -32768, 0, &i, &err) && i == -32768);
    assert_true(sr_value_int(f, "t4", 0, UINT32_MAX, &i, &err) && i == UINT32_MAX);
    assert_true(sr_value_int(f, "t5", INT32_MIN, 0, &i, &err) && i == INT32_MIN);
    assert_true(sr_value_float(f, "t6", &d, &err) && d == 0x1.fffffep127);
    assert_true(sr_value_bool(f, "t7", &flag, &err) && flag);
    assert_int_equal(sr_file_value(f, "t9")->v.a.n, 0);
    assert_true(sr_file_value(f, "t10")->v.u == UINT64_MAX);
    assert_true(sr_value_int(f, "t11", INT64_MIN, 0, &i, &err) && i == INT64_MIN);
    assert_true(sr_value_float(f, "t12", &d, &err) && d == 1.5);
    assert_int_equal(err.code, SR_OK);
    assert_false(sr_value_int(f, "t10", 0, INT64_MAX, &i, &err));
    check_error("u64 above int64", err.code, &err, SR_CORRUPT, "t.gguf", "t10", "18446744073709551615", NULL);
    sr_file_close(f);
    drop(&b);
}

static void gguf_accepts_any_order_holes_and_alignments(void **state) {
    (void)state;
    for (uint32_t alignment = 1; alignment <= 4096; alignment *= 2) {
        struct bytes b = {0};
        uint64_t far = alignment > 64 ? 2 * alignment : 128;
        g_header(&b, 3, 2, 1);
        g_u32(&b, "general.alignment", alignment);
        g_tensor(&b, "second", 4, 0, 0, far);
        g_tensor(&b, "first", 4, 0, 0, 0);
        pad_to(&b, alignment);
        size_t start = b.n;
        put_zeros(&b, (size_t)far + 16 + 5); /* bytes behind the last tensor are nobody's */
        sr_file *f;
        sr_err err = {0};
        if (sr_file_from_memory(b.data, b.n, "t.gguf", &f, &err) != SR_OK) fail_msg("%u: %s", alignment, err.msg);
        assert_ptr_equal(sr_file_part(f, "first")->data, b.data + start);
        assert_ptr_equal(sr_file_part(f, "second")->data, b.data + start + far);
        assert_string_equal(f->part[0].name, "second");
        sr_file_close(f);
        drop(&b);
    }
}

/* ---------------------------------------------------------------- v1 and big-endian */

/* Writes the values and tensors of a v3 file once more in another spelling. */
struct speller {
    const uint8_t *at;
    struct bytes out;
    unsigned size; /* of counts, lengths, dimensions */
    bool swap;
};
static uint64_t spell(struct speller *s, unsigned width, unsigned out_width) {
    uint64_t v = 0;
    for (unsigned i = 0; i < width; i++) v |= (uint64_t)*s->at++ << 8 * i;
    for (unsigned i = 0; i < out_width; i++) put_int(&s->out, v >> 8 * (s->swap ? out_width - 1 - i : i) & 255, 1);
    return v;
}
static uint64_t spell_size(struct speller *s) {
    return spell(s, 8, s->size);
}
static void spell_text(struct speller *s) {
    uint64_t n = spell_size(s);
    put(&s->out, s->at, (size_t)n);
    s->at += n;
}
static void spell_value(struct speller *s, uint64_t type) {
    static const unsigned width[] = {1, 1, 2, 2, 4, 4, 4, 1, 0, 0, 8, 8, 8};
    if (type == G_STRING) {
        spell_text(s);
    } else if (type == G_ARRAY) {
        uint64_t of = spell(s, 4, 4), n = spell_size(s);
        while (n--) spell_value(s, of);
    } else {
        spell(s, width[type], width[type]);
    }
}
/* data: what stands behind the padding. */
static struct bytes respelled(const struct bytes *v3, uint32_t version, bool swap, const void *data, size_t n) {
    struct speller s = {v3->data + 8, {0}, version == 1 ? 4 : 8, swap};
    put(&s.out, "GGUF", 4);
    for (unsigned i = 0; i < 4; i++) put_int(&s.out, version >> 8 * (swap ? 3 - i : i) & 255, 1);
    uint64_t tensors = spell_size(&s), values = spell_size(&s);
    while (values--) {
        spell_text(&s);
        spell_value(&s, spell(&s, 4, 4));
    }
    while (tensors--) {
        spell_text(&s);
        for (uint64_t d = spell(&s, 4, 4); d > 0; d--) spell_size(&s);
        spell(&s, 4, 4);
        spell(&s, 8, 8);
    }
    pad_to(&s.out, 32);
    put(&s.out, data, n);
    return s.out;
}

static void assert_same_values(sr_file *a, sr_file *b) {
    assert_int_equal(a->n_values, b->n_values);
    for (int i = 0; i < a->n_values; i++) {
        const sr_value *v = &a->value[i], *w = &b->value[i];
        assert_string_equal(v->key, w->key);
        assert_int_equal(v->kind, w->kind);
        assert_int_equal(v->stored, w->stored);
        if (v->kind == SR_KIND_ARRAY) {
            assert_int_equal(v->v.a.kind, w->v.a.kind);
            assert_int_equal(v->v.a.n, w->v.a.n);
            assert_int_equal(v->v.a.bytes, w->v.a.bytes);
            assert_memory_equal(v->v.a.data, w->v.a.data, v->v.a.bytes);
        } else if (v->kind == SR_KIND_STRING) {
            assert_int_equal(v->v.s.n, w->v.s.n);
            if (v->v.s.n) assert_memory_equal(v->v.s.text, w->v.s.text, v->v.s.n);
        } else if (v->kind == SR_KIND_BOOL) {
            assert_int_equal(v->v.b, w->v.b);
        } else {
            assert_true(v->v.u == w->v.u);
        }
    }
}
static void assert_same_parts(sr_file *a, sr_file *b) {
    assert_int_equal(a->n_parts, b->n_parts);
    for (int i = 0; i < a->n_parts; i++) {
        const sr_part *p = &a->part[i], *q = sr_file_part(b, p->name);
        assert_non_null(q);
        assert_ptr_equal(p->type, q->type);
        assert_int_equal(p->n_dims, q->n_dims);
        assert_memory_equal(p->shape, q->shape, sizeof p->shape);
        assert_int_equal(p->bytes, q->bytes);
        assert_memory_equal(p->data, q->data, p->bytes);
    }
}

/* A value of every type, arrays of all element types, a matrix of f32 and an f16 stack of experts. */
static struct bytes everything(void) {
    struct bytes b = {0};
    static const unsigned width[] = {1, 1, 2, 2, 4, 4, 4, 1, 0, 0, 8, 8, 8};
    g_header(&b, 3, 2, 25);
    for (unsigned type = 0; type < 13; type++) {
        char key[16];
        snprintf(key, sizeof key, "scalar.%u", type);
        if (type != G_ARRAY) {
            g_key(&b, key, type);
            if (type == G_STRING) g_text(&b, "text");
            put_int(&b, type == G_BOOL ? 1 : 0xf1e2d3c4b5a69788, width[type]);
        }
        snprintf(key, sizeof key, "array.%u", type);
        if (type == G_ARRAY) {
            g_array(&b, key, G_I16, 0);
            continue;
        }
        g_array(&b, key, type, 3);
        for (uint64_t i = 0; i < 3; i++) {
            if (type == G_STRING) g_text(&b, i ? "a token" : "");
            put_int(&b, type == G_BOOL ? i & 1 : 0x0123456789abcdef * (i + 1), width[type]);
        }
    }
    g_tensor(&b, "matrix", 3, 2, 0, 0);
    g_text(&b, "experts");
    put_int(&b, 3, 4);
    for (uint64_t d = 0; d < 3; d++) put_int(&b, 4 - d, 8);
    put_int(&b, 1, 4);
    put_int(&b, 32, 8);
    pad_to(&b, 32);
    return b;
}
enum { EVERYTHING_BYTES = 32 + 48 };
/* 6 numbers of 4 bytes, 8 bytes between, 24 of 2 bytes. */
static void everything_data(uint8_t data[EVERYTHING_BYTES], bool swap) {
    for (int i = 0; i < EVERYTHING_BYTES; i++) {
        int width = i < 24 ? 4 : i < 32 ? 1 : 2, at = i % width;
        data[swap ? i - at + width - 1 - at : i] = (uint8_t)(7 * i + 1);
    }
}

static const char *const containers[2][4] = {{"", "GGUF v1", "GGUF v2", "GGUF v3"},
                                             {"", "GGUF v1, big-endian", "GGUF v2, big-endian", "GGUF v3, big-endian"}};

static void gguf_of_any_version_and_endianness_reads_the_same(void **state) {
    (void)state;
    uint8_t data[EVERYTHING_BYTES];
    struct bytes v3 = everything();
    everything_data(data, false);
    put(&v3, data, sizeof data);
    sr_file *want, *got;
    sr_err err = {0};
    assert_int_equal(sr_file_from_memory(v3.data, v3.n, "t.gguf", &want, &err), SR_OK);
    const sr_part *experts = sr_file_part(want, "experts");
    assert_int_equal(experts->n_dims, 3);
    assert_true(experts->shape[0] == 2 && experts->shape[1] == 3 && experts->shape[2] == 4);
    for (int swap = 0; swap < 2; swap++)
        for (uint32_t version = 1; version <= 3; version++) {
            everything_data(data, swap);
            struct bytes b = respelled(&v3, version, swap, data, sizeof data);
            uint8_t *copy;
            if (open_bytes(&b, &got, &copy, &err) != SR_OK) fail_msg("v%u swap %d: %s", version, swap, err.msg);
            assert_string_equal(got->container, containers[swap][version]);
            assert_same_values(want, got);
            assert_same_parts(want, got);
            sr_file_close(got);
            free(copy);
            drop(&b);
        }
    sr_file_close(want);
    drop(&v3);
}

static void gguf_of_any_version_and_endianness_rejects_every_truncation_point(void **state) {
    (void)state;
    struct bytes v3 = everything();
    uint8_t data[EVERYTHING_BYTES] = {0};
    for (int kind = 0; kind < 3; kind++) {
        struct bytes b = respelled(&v3, kind == 1 ? 3 : 1, kind > 0, data, sizeof data);
        for (size_t n = 4; n < b.n; n++) {
            struct bytes cut = {b.data, n, n};
            sr_file *f;
            uint8_t *copy;
            sr_err err = {0};
            check_error("cut", open_bytes(&cut, &f, &copy, &err), &err, SR_CORRUPT, "t.gguf", NULL);
            free(copy);
        }
        drop(&b);
    }
    drop(&v3);
}

static void gguf_v1_and_big_endian_reject_counts_that_the_file_cannot_hold(void **state) {
    (void)state;
    for (int which = 0; which < 2; which++) {
        struct bytes b = {0};
        put(&b, "GGUF", 4);
        put_int(&b, 1, 4);
        put_int(&b, which ? UINT32_MAX : 0, 4);
        put_int(&b, which ? 0 : UINT32_MAX, 4);
        put_zeros(&b, 19);
        assert_rejected(&b, SR_CORRUPT, "4294967295", "19 bytes are left");
        put(&b, "GGUF", 4);
        put_int(&b, 3u << 24, 4);
        put_int(&b, which ? UINT64_MAX : 0, 8);
        put_int(&b, which ? 0 : UINT64_MAX, 8);
        put_zeros(&b, 19);
        assert_rejected(&b, SR_CORRUPT, "18446744073709551615", "19 bytes are left");
    }
}

/* tests/vectors/gguf/big_endian.py: one file as gguf's writer made it, and as the same package's converter did. */
static void gguf_big_endian_equals_what_the_reference_converted(void **state) {
    (void)state;
    sr_file *little, *big;
    sr_err err = {0};
    const char *dir = SR_SOURCE_DIR "/tests/vectors/gguf";
    if (sr_file_open(in(dir, "little.gguf"), NULL, &little, &err) != SR_OK) fail_msg("%s", err.msg);
    if (sr_file_open(in(dir, "big.gguf"), NULL, &big, &err) != SR_OK) fail_msg("%s", err.msg);
    assert_string_equal(big->container, "GGUF v3, big-endian");
    assert_int_equal(little->n_parts, 9);
    assert_same_values(little, big);
    assert_same_parts(little, big);
    sr_file_close(little);
    sr_file_close(big);
}

/* The fields of a block in order, "2" two bytes that are one number, "2*3" three of these, "1*16" bytes. */
static const struct {
    const char *type, *fields;
} blocks[] = {
    {"f32", "4"},
    {"f16", "2"},
    {"bf16", "2"},
    {"f64", "8"},
    {"i8", "1"},
    {"i16", "2"},
    {"i32", "4"},
    {"i64", "8"},
    {"q4_0", "2 1*16"},
    {"q4_1", "2 2 1*16"},
    {"q8_0", "2 1*32"},
    {"q8_1", "2 2 1*32"},
    {"q2_k", "1*80 2 2"},
    {"q3_k", "1*108 2"},
    {"q4_k", "2 2 1*140"},
    {"q5_k", "2 2 1*172"},
    {"q6_k", "1*208 2"},
    {"q8_k", "4 1*256 2*16"},
    {"iq2_xs", "2 2*32 1*8"},
    {"iq2_s", "2 1*80"},
    {"iq3_s", "2 1*108"},
    {"iq1_s", "2 1*32 2*8"},
    {"iq4_nl", "2 1*16"},
    {"iq4_xs", "2 2 1*132"},
    {"tq1_0", "1*52 2"},
    {"tq2_0", "1*64 2"},
    {"mxfp4", "1*17"},
    {"nvfp4", "1*36"},
    {"q1_0", "2 1*16"},
    {"q2_0", "2 1*16"},
};

static void gguf_big_endian_swaps_every_field_of_a_block_once(void **state) {
    (void)state;
    for (size_t i = 0; i < sizeof blocks / sizeof *blocks; i++) {
        const sr_stored *type = sr_stored_by_name(blocks[i].type);
        uint8_t from[2 * 292], want[2 * 292], got[2 * 292];
        int n = 0;
        for (int b = 0; b < 2 * type->bytes; b++) from[b] = (uint8_t)(31 * b + 5);
        for (int block = 0; block < 2; block++)
            for (const char *at = blocks[i].fields; *at;) {
                char *end;
                int width = (int)strtol(at, &end, 10), count = 1;
                if (*end == '*') count = (int)strtol(end + 1, &end, 10);
                at = *end ? end + 1 : end;
                for (; count > 0; count--, n += width)
                    for (int b = 0; b < width; b++) want[n + b] = from[n + width - 1 - b];
            }
        assert_int_equal(n, 2 * type->bytes);
        assert_true(sr_stored_swap(type, from, n, got));
        if (memcmp(got, want, (size_t)n)) fail_msg("%s", type->name);
    }
}

static void gguf_big_endian_names_types_whose_order_nobody_defines(void **state) {
    (void)state;
    int refused = 0;
    for (uint32_t id = 0; id <= 42; id++) {
        const sr_stored *type = sr_stored_by_gguf(id);
        bool known = false;
        for (size_t i = 0; type && i < sizeof blocks / sizeof *blocks; i++)
            known = known || !strcmp(blocks[i].type, type->name);
        if (!type || known) continue;
        struct bytes v3 = {0};
        uint8_t data[256] = {0};
        g_header(&v3, 3, 1, 0);
        g_tensor(&v3, "victim", type->block, 0, id, 0);
        struct bytes b = respelled(&v3, 3, true, data, sizeof data);
        drop(&v3);
        assert_rejected(&b, SR_UNSUPPORTED, "\"victim\"", type->name, "big-endian", "convert the model again");
        refused++;
    }
    assert_int_equal(refused, 5);
}

/* ---------------------------------------------------------------- header and metadata */

static void gguf_rejects_bad_magic(void **state) {
    struct bytes b = good(3);
    sr_file *f;
    sr_err err = {0};
    memcpy(b.data, "GGUX", 4);
    const char *path = in(*state, "t.gguf");
    write_file(path, b.data, b.n);
    check_error("magic", sr_file_open(path, NULL, &f, &err), &err, SR_CORRUPT, "t.gguf", "GGUX", "expected \"GGUF\"",
                NULL);
    write_file(path, b.data, 2);
    sr_err_clear(&err);
    check_error("2 bytes", sr_file_open(path, NULL, &f, &err), &err, SR_CORRUPT, "\"GG\"", NULL);
    write_file(path, b.data, 0);
    sr_err_clear(&err);
    check_error("empty", sr_file_open(path, NULL, &f, &err), &err, SR_CORRUPT, "expected \"GGUF\"", NULL);
    drop(&b);
}

static void gguf_rejects_versions_0_and_future(void **state) {
    (void)state;
    static const uint32_t versions[] = {0, 4, 0xffff};
    for (int i = 0; i < 3; i++) {
        char version[32];
        struct bytes b = good(versions[i]);
        snprintf(version, sizeof version, "version %u,", versions[i]);
        assert_rejected(&b, SR_UNSUPPORTED, version, "expected 1 to 3");
    }
}

static void gguf_rejects_a_file_of_4_bytes(void **state) {
    (void)state;
    struct bytes b = {0};
    put(&b, "GGUF", 4);
    assert_rejected(&b, SR_CORRUPT, "ends at byte 4", "header");
}

static void gguf_rejects_every_truncation_point(void **state) {
    (void)state;
    struct bytes b = good(3);
    for (size_t n = 0; n < b.n; n++) {
        struct bytes cut = {b.data, n, n};
        sr_file *f;
        uint8_t *copy;
        sr_err err = {0};
        sr_status s = open_bytes(&cut, &f, &copy, &err);
        if (s == SR_OK || f || !err.msg[0]) fail_msg("cut to %zu of %zu bytes: got %d \"%s\"", n, b.n, s, err.msg);
        if (n >= 4) check_error("cut", s, &err, SR_CORRUPT, "t.gguf", NULL);
        free(copy);
    }
    drop(&b);
}

static void gguf_rejects_counts_that_the_file_cannot_hold(void **state) {
    (void)state;
    static const uint64_t counts[] = {UINT64_MAX, INT64_MAX, (uint64_t)1 << 32, 1000, 9};
    for (int i = 0; i < 5; i++)
        for (int which = 0; which < 2; which++) {
            char count[32];
            struct bytes b = {0};
            snprintf(count, sizeof count, "%llu", (unsigned long long)counts[i]);
            g_header(&b, 3, which ? counts[i] : 0, which ? 0 : counts[i]);
            put_zeros(&b, 19); /* a file of 43 bytes made a reader loop */
            assert_rejected(&b, SR_CORRUPT, count, "19 bytes are left");
        }
}

static void gguf_rejects_string_lengths_beyond_the_file(void **state) {
    (void)state;
    for (int bit = 9; bit < 64; bit++) {
        struct bytes b = {0};
        g_header(&b, 3, 0, 1);
        g_key(&b, "name", G_STRING);
        put_int(&b, (uint64_t)1 << bit, 8);
        put_zeros(&b, 100);
        assert_rejected(&b, SR_CORRUPT, "name", "cut off");
        g_header(&b, 3, 0, 1);
        g_array(&b, "name", G_STRING, 1);
        put_int(&b, (uint64_t)1 << bit, 8);
        put_zeros(&b, 100);
        assert_rejected(&b, SR_CORRUPT, "name", "cut off");
        g_header(&b, 3, 0, 1);
        put_int(&b, (uint64_t)1 << bit, 8); /* length of a key */
        put_zeros(&b, 100);
        assert_rejected(&b, SR_LIMIT, "metadata key", "expected 1 to 256");
    }
}

static void gguf_rejects_array_lengths_beyond_the_file(void **state) {
    (void)state;
    for (uint32_t type = 0; type < 13; type++)
        for (int bit = 9; bit < 64; bit++) {
            struct bytes b = {0};
            if (type == G_ARRAY) continue;
            g_header(&b, 3, 0, 1);
            g_array(&b, "list", type, (uint64_t)1 << bit);
            put_zeros(&b, 100);
            assert_rejected(&b, SR_CORRUPT, "list", "an array of", "100 bytes are left");
        }
}

static void gguf_limits_the_bytes_of_metadata(void **state) {
    struct bytes b = {0};
    const char *path = in(*state, "t.gguf");
    g_header(&b, 3, 0, 2);
    g_array(&b, "huge", G_U8, 300 << 20);
    write_file(path, b.data, b.n);
    assert_int_equal(truncate(path, 400 << 20), 0); /* sparse: takes no room */
    sr_file *f;
    sr_err err = {0};
    check_error("cap", sr_file_open(path, NULL, &f, &err), &err, SR_LIMIT, "t.gguf", "huge", "268435456", NULL);
    drop(&b);
}

static void gguf_message_keeps_its_end_behind_a_long_path_and_name(void **state) {
    struct bytes b = {0};
    char dir[200], name[257];
    sr_file *f;
    sr_err err = {0};
    memset(dir, 'd', sizeof dir);
    memset(name, 'n', sizeof name);
    dir[199] = name[256] = 0;
    assert_int_equal(mkdir(in(*state, dir), 0700), 0);
    const char *path = in(in(*state, dir), "t.gguf");
    g_header(&b, 3, 1, 0);
    g_tensor(&b, name, 256, 0, 31, 0);
    write_file(path, b.data, b.n);
    check_error("long", sr_file_open(path, NULL, &f, &err), &err, SR_UNSUPPORTED, "dd/t.gguf: tensor \"nnn", "nnn...\"",
                "type number 31 (q4_0_4_4)", "convert the model again", NULL);
    drop(&b);
}

static void gguf_rejects_duplicate_keys(void **state) {
    (void)state;
    struct bytes b = {0};
    g_header(&b, 3, 0, 3);
    g_u32(&b, "a.b", 1);
    g_u32(&b, "a.c", 1);
    g_string(&b, "a.b", "x");
    assert_rejected(&b, SR_CORRUPT, "\"a.b\"", "twice");
}

static void gguf_rejects_empty_keys_and_names(void **state) {
    (void)state;
    struct bytes b = {0};
    g_header(&b, 3, 0, 1);
    g_u32(&b, "", 1);
    put_zeros(&b, 40);
    assert_rejected(&b, SR_CORRUPT, "metadata key at byte 24", "0 bytes");
    g_header(&b, 3, 1, 0);
    g_tensor(&b, "", 4, 0, 0, 0);
    put_zeros(&b, 64);
    assert_rejected(&b, SR_CORRUPT, "tensor at byte 24", "0 bytes");
}

static void gguf_limits_the_length_of_keys_and_names(void **state) {
    (void)state;
    char name[258];
    memset(name, 'n', sizeof name);
    for (int n = 256; n <= 257; n++) {
        struct bytes b = {0};
        sr_file *f;
        sr_err err = {0};
        name[n] = 0;
        g_header(&b, 3, 1, 1);
        g_u32(&b, name, 1);
        g_tensor(&b, name, 4, 0, 0, 0);
        pad_to(&b, 32);
        put_zeros(&b, 16);
        if (n == 256) {
            assert_int_equal(sr_file_from_memory(b.data, b.n, "t.gguf", &f, &err), SR_OK);
            assert_non_null(sr_file_part(f, name));
            assert_non_null(sr_file_value(f, name));
            sr_file_close(f);
            drop(&b);
        } else {
            assert_rejected(&b, SR_LIMIT, "257 bytes", "1 to 256");
        }
        name[n] = 'n';
    }
}

static void gguf_rejects_zero_bytes_and_bad_utf8_in_keys_names_and_texts(void **state) {
    (void)state;
    static const struct {
        const char *text;
        size_t n;
    } bad[] = {{"a\0b", 3},      {"\xff", 1}, {"\xc0\x80", 2}, {"\xed\xa0\x80", 3}, {"\xf4\x90\x80\x80", 4},
               {"ab\xe2\x82", 4}};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        struct bytes b = {0};
        g_header(&b, 3, 0, 1);
        g_text_n(&b, bad[i].text, bad[i].n);
        put_int(&b, G_U32, 4);
        put_int(&b, 1, 4);
        assert_rejected(&b, SR_CORRUPT, "metadata key", "not UTF-8");
        g_header(&b, 3, 0, 1);
        g_key(&b, "text", G_STRING);
        g_text_n(&b, bad[i].text, bad[i].n);
        assert_rejected(&b, SR_CORRUPT, "\"text\"", "not UTF-8");
        g_header(&b, 3, 1, 0);
        g_text_n(&b, bad[i].text, bad[i].n);
        put_zeros(&b, 64);
        assert_rejected(&b, SR_CORRUPT, "tensor", "not UTF-8");
    }
}

static void gguf_rejects_unknown_value_types(void **state) {
    (void)state;
    static const uint32_t types[] = {13, 255, UINT32_MAX};
    for (int i = 0; i < 3; i++) {
        char type[32];
        struct bytes b = {0};
        snprintf(type, sizeof type, "type %u,", types[i]);
        g_header(&b, 3, 0, 1);
        g_key(&b, "odd", types[i]);
        put_zeros(&b, 64);
        assert_rejected(&b, SR_CORRUPT, "\"odd\"", type);
        g_header(&b, 3, 0, 1);
        g_array(&b, "odd", types[i], 1);
        put_zeros(&b, 64);
        assert_rejected(&b, SR_CORRUPT, "\"odd\"", type);
    }
}

static void gguf_refuses_arrays_of_arrays(void **state) {
    (void)state;
    struct bytes b = {0};
    g_header(&b, 3, 0, 1);
    g_array(&b, "nested", G_ARRAY, 1);
    put_int(&b, G_U8, 4);
    put_int(&b, 0, 8);
    assert_rejected(&b, SR_UNSUPPORTED, "\"nested\"", "array of arrays");
}

static void gguf_rejects_bools_other_than_0_and_1(void **state) {
    (void)state;
    struct bytes b = {0};
    g_header(&b, 3, 0, 1);
    g_key(&b, "flag", G_BOOL);
    put_int(&b, 2, 1);
    assert_rejected(&b, SR_CORRUPT, "\"flag\"", "value 2");
}

static void gguf_rejects_bad_alignments(void **state) {
    (void)state;
    static const uint32_t bad[] = {0, 3, 31, 48, UINT32_MAX};
    for (int i = 0; i < 5; i++) {
        struct bytes b = {0};
        char found[32];
        snprintf(found, sizeof found, "found %u", bad[i]);
        g_header(&b, 3, 0, 1);
        g_u32(&b, "general.alignment", bad[i]);
        assert_rejected(&b, SR_CORRUPT, "general.alignment", found, "power of two");
    }
    struct bytes b = {0};
    for (int shift = 30; shift < 32; shift++) { /* legal, but then the data lies behind the end */
        g_header(&b, 3, 1, 1);
        g_u32(&b, "general.alignment", 1u << shift);
        g_tensor(&b, "t", 4, 0, 0, 0);
        put_zeros(&b, 4096);
        assert_rejected(&b, SR_CORRUPT, "general.alignment", "cut off");
    }
}

static void gguf_rejects_an_alignment_of_the_wrong_type(void **state) {
    (void)state;
    struct bytes b = {0};
    g_header(&b, 3, 0, 1);
    g_key(&b, "general.alignment", G_U64);
    put_int(&b, 32, 8);
    assert_rejected(&b, SR_CORRUPT, "general.alignment", "u64", "expected u32");
    g_header(&b, 3, 0, 1);
    g_string(&b, "general.alignment", "32");
    assert_rejected(&b, SR_CORRUPT, "general.alignment", "string", "expected u32");
    g_header(&b, 3, 0, 1);
    g_array(&b, "general.alignment", G_U32, 1);
    put_int(&b, 32, 4);
    assert_rejected(&b, SR_CORRUPT, "general.alignment", "array", "expected u32");
}

static void gguf_survives_names_that_collide(void **state) {
    (void)state;
    struct bytes b = {0}, list = {0};
    uint32_t found = 0;
    for (uint32_t i = 0; found < 400; i++) { /* 400 names take 1024 slots; all of these want the same one */
        char name[16];
        snprintf(name, sizeof name, "k%u", i);
        if ((sr_names_hash(name) & 1023) != 7) continue;
        g_u32(&list, name, i);
        found++;
    }
    g_header(&b, 3, 0, found);
    put(&b, list.data, list.n);
    drop(&list);
    assert_rejected(&b, SR_LIMIT, "same hash");
}

static void gguf_opens_a_large_vocabulary_in_bounded_time(void **state) {
    (void)state;
    struct bytes b = {0};
    enum { V = 200000 };
    g_header(&b, 3, 0, 3);
    g_array(&b, "tokenizer.ggml.tokens", G_STRING, V);
    for (int i = 0; i < V; i++) {
        char token[24];
        snprintf(token, sizeof token, "tok%d", i);
        g_text(&b, token);
    }
    g_array(&b, "tokenizer.ggml.scores", G_F32, V);
    put_zeros(&b, 4 * V);
    g_array(&b, "tokenizer.ggml.merges", G_STRING, V);
    for (int i = 0; i < V; i++) g_text(&b, "ab cd");
    sr_file *f;
    sr_err err = {0};
    double start = sr_clock();
    assert_int_equal(sr_file_from_memory(b.data, b.n, "t.gguf", &f, &err), SR_OK);
    double seconds = sr_clock() - start;
    if (seconds > 2) fail_msg("took %.3f s", seconds); /* a few ms without sanitizers on an idle machine */
    assert_int_equal(sr_file_value(f, "tokenizer.ggml.tokens")->v.a.n, V);
    sr_file_close(f);
    drop(&b);
}

static void gguf_opens_many_tensors_and_keys_in_bounded_time(void **state) {
    (void)state;
    struct bytes b = {0};
    enum { N = 100000 };
    char name[32];
    g_header(&b, 3, N, N);
    for (int i = 0; i < N; i++) {
        snprintf(name, sizeof name, "key.%d", i);
        g_u32(&b, name, 1);
    }
    for (int i = 0; i < N; i++) { /* in reverse order of offsets: they have to be sorted */
        snprintf(name, sizeof name, "blk.%d.weight", i);
        g_tensor(&b, name, 8, 0, 0, (uint64_t)(N - 1 - i) * 32);
    }
    pad_to(&b, 32);
    put_zeros(&b, 32 * (size_t)N);
    sr_file *f;
    sr_err err = {0};
    double start = sr_clock();
    assert_int_equal(sr_file_from_memory(b.data, b.n, "t.gguf", &f, &err), SR_OK);
    double seconds = sr_clock() - start;
    if (seconds > 10) fail_msg("took %.3f s", seconds);
    assert_non_null(sr_file_part(f, "blk.99999.weight"));
    sr_file_close(f);
    drop(&b);
}

/* ---------------------------------------------------------------- values read with a type */

static void gguf_values_of_the_wrong_type_name_key_found_and_expected(void **state) {
    (void)state;
    struct bytes b = {0};
    int64_t i = 5;
    double d = 5;
    bool flag = true;
    const char *text = NULL;
    size_t n = 5;
    g_header(&b, 3, 0, 6);
    g_string(&b, "text", "forty");
    g_u32(&b, "number", 70000);
    g_key(&b, "fraction", G_F32);
    put_int(&b, 0x3fc00000, 4);
    g_key(&b, "nan", G_F32);
    put_int(&b, 0x7fc00000, 4);
    g_key(&b, "flag", G_BOOL);
    put_int(&b, 1, 1);
    g_array(&b, "list", G_I32, 2);
    put_zeros(&b, 8);
    sr_file *f;
    sr_err err = {0};
    assert_int_equal(sr_file_from_memory(b.data, b.n, "t.gguf", &f, &err), SR_OK);
    static const struct {
        const char *key, *found;
    } not_int[] = {{"text", "\"forty\""}, {"number", "70000"}, {"fraction", "1.5"},
                   {"nan", "nan"},        {"flag", "true"},    {"list", "an array of 2"}};
    for (int k = 0; k < 6; k++) {
        assert_false(sr_value_int(f, not_int[k].key, 1, 65536, &i, &err));
        check_error("int", err.code, &err, SR_CORRUPT, "t.gguf", not_int[k].key, not_int[k].found, "from 1 to 65536",
                    NULL);
        sr_err_clear(&err);
    }
    assert_false(sr_value_float(f, "nan", &d, &err));
    check_error("float", err.code, &err, SR_CORRUPT, "nan", "finite", NULL);
    sr_err_clear(&err);
    assert_false(sr_value_bool(f, "number", &flag, &err));
    check_error("bool", err.code, &err, SR_CORRUPT, "number", "true or false", NULL);
    sr_err_clear(&err);
    assert_false(sr_value_string(f, "flag", &text, &n, &err));
    check_error("string", err.code, &err, SR_CORRUPT, "flag", "a text", NULL);
    sr_err_clear(&err);
    assert_false(sr_value_int(f, "absent", 0, 1, &i, &err));
    assert_int_equal(err.code, SR_OK);
    assert_true(i == 5 && d == 5 && flag && !text && n == 5); /* outputs are only written on success */
    sr_file_close(f);
    drop(&b);
}

static void gguf_arrays_read_by_element_kind_only(void **state) {
    (void)state;
    struct bytes b = {0};
    g_header(&b, 3, 0, 5);
    g_array(&b, "u8", G_U8, 2);
    put(&b, "\xff\x01", 2);
    g_array(&b, "i16", G_I16, 2);
    put(&b, "\xff\xff\x02\0", 4);
    g_array(&b, "f32", G_F32, 1);
    put_int(&b, 0x40200000, 4);
    g_array(&b, "u64", G_U64, 2);
    put_int(&b, 3, 8);
    put_int(&b, UINT64_MAX, 8);
    g_array(&b, "bool", G_BOOL, 2);
    put(&b, "\0\1", 2);
    sr_file *f;
    sr_err err = {0};
    int64_t i;
    double d;
    bool flag;
    const char *text;
    size_t n;
    assert_int_equal(sr_file_from_memory(b.data, b.n, "t.gguf", &f, &err), SR_OK);
    sr_array a = sr_array_over(sr_file_value(f, "u8"));
    assert_false(sr_array_string(&a, &text, &n));
    assert_true(sr_array_int(&a, &i) && i == 255);
    assert_true(sr_array_float(&a, &d) && d == 1);
    assert_false(sr_array_int(&a, &i));
    a = sr_array_over(sr_file_value(f, "i16"));
    assert_true(sr_array_int(&a, &i) && i == -1);
    assert_true(sr_array_float(&a, &d) && d == 2);
    assert_false(sr_array_float(&a, &d));
    a = sr_array_over(sr_file_value(f, "f32"));
    assert_false(sr_array_int(&a, &i));
    assert_true(sr_array_float(&a, &d) && d == 2.5);
    a = sr_array_over(sr_file_value(f, "u64"));
    assert_true(sr_array_int(&a, &i) && i == 3);
    assert_false(sr_array_int(&a, &i));
    a = sr_array_over(sr_file_value(f, "bool"));
    assert_false(sr_array_int(&a, &i));
    assert_true(sr_array_bool(&a, &flag) && !flag);
    assert_true(sr_array_bool(&a, &flag) && flag);
    assert_false(sr_array_bool(&a, &flag));
    a = sr_array_over(NULL);
    assert_false(sr_array_int(&a, &i) || sr_array_float(&a, &d) || sr_array_string(&a, &text, &n));
    sr_file_close(f);
    drop(&b);
}

/* ---------------------------------------------------------------- tensors */

/* A file of one tensor with these dimensions, and 4 KiB of data. */
static struct bytes one_tensor(uint32_t n_dims, const uint64_t *ne, uint32_t type, uint64_t offset) {
    struct bytes b = {0};
    g_header(&b, 3, 1, 0);
    g_text(&b, "victim");
    put_int(&b, n_dims, 4);
    for (uint32_t i = 0; i < n_dims && i < 8; i++) put_int(&b, ne[i], 8);
    put_int(&b, type, 4);
    put_int(&b, offset, 8);
    pad_to(&b, 32);
    put_zeros(&b, 4096);
    return b;
}

static void gguf_rejects_0_or_more_than_4_dimensions(void **state) {
    (void)state;
    static const uint64_t ne[8] = {1, 1, 1, 1, 1, 1, 1, 1};
    static const uint32_t bad[] = {0, 5, 8, UINT32_MAX};
    for (int i = 0; i < 4; i++) {
        char found[32];
        struct bytes b = one_tensor(bad[i], ne, 0, 0);
        snprintf(found, sizeof found, "%u dimensions", bad[i]);
        assert_rejected(&b, SR_CORRUPT, "\"victim\"", found, "expected 1 to 4");
    }
}

static void gguf_rejects_a_dimension_of_0(void **state) {
    (void)state;
    for (int i = 0; i < 4; i++) {
        uint64_t ne[4] = {32, 2, 2, 2};
        char found[32];
        ne[i] = 0;
        snprintf(found, sizeof found, "ne[%d] = 0", i);
        struct bytes b = one_tensor(4, ne, 0, 0);
        assert_rejected(&b, SR_CORRUPT, "\"victim\"", found);
    }
}

static void gguf_rejects_dimension_products_that_wrap(void **state) {
    (void)state;
    static const uint64_t bad[][4] = {
        {((uint64_t)1 << 42) + 1, (uint64_t)1 << 42, 1, 1},
        {(uint64_t)1 << 32, (uint64_t)1 << 32, 1, 1}, /* 2^64: wraps to 0 */
        {(uint64_t)1 << 63, 2, 1, 1},
        {UINT64_MAX, 1, 1, 1},
        {32, UINT64_MAX / 32 + 2, 1, 1},
        {(uint64_t)1 << 16, (uint64_t)1 << 16, (uint64_t)1 << 16, (uint64_t)1 << 16},
        {3, 0x5555555555555556, 1, 1}, /* 2^64 + 2 */
    };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        struct bytes b = one_tensor(4, bad[i], 24, 0);
        assert_rejected(&b, SR_CORRUPT, "\"victim\"", "product below 2^63");
    }
}

static void gguf_rejects_sizes_in_bytes_that_wrap(void **state) {
    (void)state;
    static const uint64_t ne[4] = {(uint64_t)1 << 61, 1, 1, 1}; /* times 4 or 8 is 2^63 or 2^64 */
    static const uint32_t types[] = {0, 26, 27, 28};
    for (int i = 0; i < 4; i++) {
        struct bytes b = one_tensor(1, ne, types[i], 0);
        assert_rejected(&b, SR_CORRUPT, "\"victim\"", "more than 2^63 bytes");
    }
}

static void gguf_rejects_tensor_past_end_of_file(void **state) {
    (void)state;
    static const uint64_t fits[] = {1024}, over[] = {1025};
    struct bytes b = one_tensor(1, fits, 0, 0);
    sr_file *f;
    sr_err err = {0};
    assert_int_equal(sr_file_from_memory(b.data, b.n, "t.gguf", &f, &err), SR_OK);
    sr_file_close(f);
    drop(&b);
    b = one_tensor(1, over, 0, 0);
    assert_rejected(&b, SR_CORRUPT, "\"victim\"", "4100 bytes", "cut off");
    b = one_tensor(1, fits, 0, 32);
    assert_rejected(&b, SR_CORRUPT, "\"victim\"", "4096 bytes", "cut off");
}

static void gguf_rejects_offsets_that_wrap_or_lie_outside(void **state) {
    (void)state;
    static const uint64_t ne[] = {8};
    static const uint64_t bad[] = {(uint64_t)0 - 32, (uint64_t)1 << 63, INT64_MAX & ~(uint64_t)31, 8192, 4096 + 64};
    for (int i = 0; i < 5; i++) {
        char found[32];
        struct bytes b = one_tensor(1, ne, 0, bad[i]);
        snprintf(found, sizeof found, "%llu", (unsigned long long)bad[i]);
        if (i < 4)
            assert_rejected(&b, SR_CORRUPT, "\"victim\"", found);
        else
            assert_rejected(&b, SR_CORRUPT, "\"victim\"");
    }
}

static void gguf_rejects_sums_of_sizes_that_wrap(void **state) {
    (void)state;
    struct bytes b = {0};
    g_header(&b, 3, 2, 0);
    g_tensor(&b, "one", 0x7fffffffffffffc0, 0, 24, 0);
    g_tensor(&b, "two", 0x7fffffffffffffc0, 0, 24, 0x7fffffffffffffc0);
    pad_to(&b, 32);
    put_zeros(&b, 128);
    assert_rejected(&b, SR_CORRUPT, "\"two\"", "past the end");
}

static void gguf_rejects_unaligned_offsets(void **state) {
    (void)state;
    static const uint64_t ne[] = {8};
    for (uint64_t offset = 1; offset < 32; offset++) {
        struct bytes b = one_tensor(1, ne, 0, offset);
        assert_rejected(&b, SR_CORRUPT, "\"victim\"", "a multiple of 32");
    }
}

static void gguf_rejects_overlapping_tensors(void **state) {
    (void)state;
    struct bytes b = {0};
    static const uint64_t second[] = {0, 32, 64};
    for (int i = 0; i < 3; i++)
        for (int swap = 0; swap < 2; swap++) {
            g_header(&b, 3, 2, 0);
            g_tensor(&b, swap ? "late" : "early", swap ? 1 : 17, 0, 0, swap ? second[i] : 0);
            g_tensor(&b, swap ? "early" : "late", swap ? 17 : 1, 0, 0, swap ? 0 : second[i]);
            pad_to(&b, 32);
            put_zeros(&b, 512);
            assert_rejected(&b, SR_CORRUPT, "overlaps", "\"early\"", "\"late\"");
        }
}

static void gguf_names_unknown_removed_and_foreign_types(void **state) {
    (void)state;
    static const struct {
        uint32_t id;
        const char *says;
    } bad[] = {{4, "q4_2"},           {31, "q4_0_4_4"}, {36, "iq4_nl_4_4"},
               {137, "ik_llama.cpp"}, {43, "unknown"},  {UINT32_MAX, "unknown"}};
    static const uint64_t ne[] = {256};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        char id[32];
        struct bytes b = one_tensor(1, ne, bad[i].id, 0);
        snprintf(id, sizeof id, "type number %u ", bad[i].id);
        assert_rejected(&b, SR_UNSUPPORTED, "\"victim\"", id, bad[i].says);
    }
}

static void gguf_rejects_rows_that_are_no_multiple_of_the_block(void **state) {
    (void)state;
    for (uint32_t id = 0; id <= 42; id++) {
        const sr_stored *type = sr_stored_by_gguf(id);
        if (!type || type->block == 1) continue;
        uint64_t ne[] = {type->block + type->block / 2u, 2}; /* the product is a multiple */
        struct bytes b = one_tensor(2, ne, id, 0);
        assert_rejected(&b, SR_CORRUPT, "\"victim\"", "a multiple of", type->name);
    }
}

static void gguf_rejects_duplicate_tensor_names(void **state) {
    (void)state;
    struct bytes b = {0};
    g_header(&b, 3, 2, 0);
    g_tensor(&b, "same", 8, 0, 0, 0);
    g_tensor(&b, "same", 8, 0, 0, 32);
    pad_to(&b, 32);
    put_zeros(&b, 64);
    assert_rejected(&b, SR_CORRUPT, "\"same\"", "twice");
}

static void gguf_reads_every_type_of_ggml(void **state) {
    (void)state;
    int n = 0;
    for (uint32_t id = 0; id <= 42; id++) {
        const sr_stored *type = sr_stored_by_gguf(id);
        if (!type) continue;
        uint64_t ne[] = {type->block};
        struct bytes b = one_tensor(1, ne, id, 0);
        sr_file *f;
        sr_err err = {0};
        assert_int_equal(sr_file_from_memory(b.data, b.n, "t.gguf", &f, &err), SR_OK);
        assert_int_equal(f->part[0].bytes, type->bytes);
        assert_ptr_equal(f->part[0].type, type);
        assert_ptr_equal(sr_stored_by_name(type->name), type);
        sr_file_close(f);
        drop(&b);
        n++;
    }
    assert_int_equal(n, 43 - 8); /* 43 numbers, 8 of them removed */
}

/* ---------------------------------------------------------------- split files */

/* Piece `no` from 1 of a model of one tensor a piece; the first carries the values. */
static struct bytes piece(int no, int count, int total, const char *name) {
    struct bytes b = {0};
    g_header(&b, 3, 1, no == 1 ? 4 : 3);
    if (no == 1) g_string(&b, "general.architecture", "llama");
    g_key(&b, "split.no", G_U16);
    put_int(&b, (uint64_t)no - 1, 2);
    g_key(&b, "split.count", G_U16);
    put_int(&b, (uint64_t)count, 2);
    g_key(&b, "split.tensors.count", G_I32);
    put_int(&b, (uint64_t)total, 4);
    g_tensor(&b, name, 8, 0, 0, 0);
    pad_to(&b, 32);
    for (int i = 0; i < 8; i++) put_int(&b, (uint64_t)no, 4);
    return b;
}

static void write_piece(const char *dir, int no, int count, int total, const char *tensor) {
    char name[64];
    struct bytes b = piece(no, count, total, tensor);
    snprintf(name, sizeof name, "m-%05d-of-%05d.gguf", no, count);
    write_file(in(dir, name), b.data, b.n);
    drop(&b);
}

static void split_gguf_opens_through_any_piece(void **state) {
    for (int no = 1; no <= 3; no++) {
        char tensor[16];
        snprintf(tensor, sizeof tensor, "t%d", no);
        write_piece(*state, no, 3, 3, tensor);
    }
    for (int no = 1; no <= 3; no++) {
        char name[64];
        sr_file *f;
        sr_err err = {0};
        snprintf(name, sizeof name, "m-%05d-of-00003.gguf", no);
        if (sr_file_open(in(*state, name), NULL, &f, &err) != SR_OK) fail_msg("%s", err.msg);
        assert_int_equal(f->n_shards, 3);
        assert_int_equal(f->n_parts, 3);
        assert_int_equal(f->n_values, 1); /* the keys of splitting are gone */
        for (int i = 0; i < 3; i++) {
            assert_int_equal(f->part[i].shard, i);
            assert_int_equal(f->part[i].data[0], i + 1);
            assert_non_null(strstr(f->shard[i].path, i == 0 ? "-00001-of" : i == 1 ? "-00002-of" : "-00003-of"));
        }
        sr_file_close(f);
    }
}

static void split_gguf_names_the_missing_piece(void **state) {
    sr_file *f;
    sr_err err = {0};
    write_piece(*state, 1, 3, 3, "t1");
    write_piece(*state, 3, 3, 3, "t3");
    check_error("missing", sr_file_open(in(*state, "m-00003-of-00003.gguf"), NULL, &f, &err), &err, SR_IO,
                "m-00002-of-00003.gguf", "missing", "m-00003-of-00003.gguf", NULL);
}

static void split_gguf_checks_the_count_of_tensors(void **state) {
    sr_file *f;
    sr_err err = {0};
    write_piece(*state, 1, 2, 3, "t1");
    write_piece(*state, 2, 2, 3, "t2");
    check_error("count", sr_file_open(in(*state, "m-00001-of-00002.gguf"), NULL, &f, &err), &err, SR_CORRUPT,
                "2 tensors", "expected 3", "split.tensors.count", NULL);
    sr_err_clear(&err);
    write_piece(*state, 2, 2, 2, "t2");
    check_error("counts", sr_file_open(in(*state, "m-00001-of-00002.gguf"), NULL, &f, &err), &err, SR_CORRUPT,
                "m-00002-of-00002.gguf", "split.tensors.count 2", "has 3", NULL);
}

static void split_gguf_rejects_a_tensor_in_two_pieces(void **state) {
    sr_file *f;
    sr_err err = {0};
    write_piece(*state, 1, 2, 2, "same");
    write_piece(*state, 2, 2, 2, "same");
    check_error("twice", sr_file_open(in(*state, "m-00001-of-00002.gguf"), NULL, &f, &err), &err, SR_CORRUPT,
                "\"same\"", "m-00001-of-00002.gguf", "m-00002-of-00002.gguf", NULL);
}

static void split_gguf_rejects_pieces_that_disagree_with_their_names(void **state) {
    sr_file *f;
    sr_err err = {0};
    struct bytes b = piece(2, 2, 2, "t2");
    write_piece(*state, 1, 2, 2, "t1");
    write_file(in(*state, "m-00002-of-00002.gguf"), b.data, b.n);
    assert_int_equal(rename(in(*state, "m-00002-of-00002.gguf"), in(*state, "renamed.gguf")), 0);
    check_error("renamed", sr_file_open(in(*state, "renamed.gguf"), NULL, &f, &err), &err, SR_CORRUPT, "renamed.gguf",
                "2 pieces", "-of-00002.gguf", NULL);
    sr_err_clear(&err);
    drop(&b);
    b = piece(3, 3, 2, "t2");
    write_file(in(*state, "m-00002-of-00002.gguf"), b.data, b.n);
    check_error("other split", sr_file_open(in(*state, "m-00001-of-00002.gguf"), NULL, &f, &err), &err, SR_CORRUPT,
                "m-00002-of-00002.gguf", "split.no 2", "expected 1 and 2", NULL);
    sr_err_clear(&err);
    drop(&b);
    g_header(&b, 3, 0, 4);
    g_u32(&b, "split.no", 1);
    g_u32(&b, "split.count", 2);
    g_u32(&b, "again", 2);
    g_u32(&b, "again", 2);
    write_file(in(*state, "m-00002-of-00002.gguf"), b.data, b.n);
    check_error("key twice", sr_file_open(in(*state, "m-00001-of-00002.gguf"), NULL, &f, &err), &err, SR_CORRUPT,
                "m-00002-of-00002.gguf", "\"again\"", "twice", NULL);
    sr_err_clear(&err);
    drop(&b);
    b = good(3);
    write_file(in(*state, "m-00002-of-00002.gguf"), b.data, b.n);
    check_error("no split keys", sr_file_open(in(*state, "m-00001-of-00002.gguf"), NULL, &f, &err), &err, SR_CORRUPT,
                "m-00002-of-00002.gguf", "split.no -1", NULL);
    drop(&b);
}

static void split_gguf_rejects_counts_of_the_wrong_type(void **state) {
    (void)state;
    struct bytes b = {0};
    g_header(&b, 3, 0, 1);
    g_string(&b, "split.count", "3");
    assert_rejected(&b, SR_CORRUPT, "split.count", "string");
    g_header(&b, 3, 0, 1);
    g_u32(&b, "split.count", UINT32_MAX);
    assert_rejected(&b, SR_CORRUPT, "split.count", "from 0 to 4096");
}

static void open_names_other_formats(void **state) {
    static const struct {
        const char *name, *bytes, *says;
        sr_status status;
    } files[] = {
        {"pytorch_model.bin", "PK\3\4xxxxxxxxxx", "zip", SR_CORRUPT},
        {"lora.bin", "algg\1", "LoRA", SR_UNSUPPORTED},
        {"model.bin", "version https://git-lfs.github.com/spec/v1", "LFS pointer", SR_UNSUPPORTED},
        {"notes.txt", "hello", "expected GGUF, GGML, safetensors", SR_UNSUPPORTED},
    };
    sr_file *f;
    sr_err err = {0};
    for (size_t i = 0; i < sizeof files / sizeof *files; i++) {
        write_text(in(*state, files[i].name), files[i].bytes);
        sr_err_clear(&err);
        check_error(files[i].name, sr_file_open(in(*state, files[i].name), NULL, &f, &err), &err, files[i].status,
                    files[i].name, files[i].says, NULL);
        assert_null(f);
    }
    struct bytes b = good(3);
    write_file(in(*state, "t.gguf"), b.data, b.n);
    sr_err_clear(&err);
    check_error("plain", sr_file_open(in(*state, "t.gguf"), &(sr_file_options){.format = "plain"}, &f, &err), &err,
                SR_INVALID, "t.gguf", "GGUF", NULL);
    sr_err_clear(&err);
    check_error("format", sr_file_open(in(*state, "t.gguf"), &(sr_file_options){.format = "zip"}, &f, &err), &err,
                SR_INVALID, "\"zip\"", NULL);
    sr_err_clear(&err);
    check_error("absent", sr_file_open(in(*state, "absent.gguf"), NULL, &f, &err), &err, SR_IO, "absent.gguf", NULL);
    assert_int_equal(sr_file_open(in(*state, "absent.gguf"), NULL, &f, NULL), SR_IO); /* err is optional */
    drop(&b);
}

/* ---------------------------------------------------------------- the public view */

static void checkpoint_shows_tensors_and_values(void **state) {
    struct bytes b = good(3);
    sr_checkpoint *ck;
    sr_err err = {0};
    sr_tensor_info t;
    char key[32], text[32];
    write_file(in(*state, "t.gguf"), b.data, b.n);
    assert_int_equal(sr_checkpoint_open(in(*state, "t.gguf"), NULL, &ck, &err), SR_OK);
    assert_string_equal(sr_checkpoint_container(ck), "GGUF v3");
    assert_int_equal(sr_checkpoint_n_tensors(ck), 2);
    sr_checkpoint_tensor(ck, 1, &t);
    assert_string_equal(t.name, "norm");
    assert_string_equal(t.type, "f32");
    assert_int_equal(t.offset, b.n - 16);
    assert_int_equal(t.bytes, 16);
    assert_int_equal(sr_checkpoint_n_values(ck), 3);
    sr_checkpoint_value(ck, 0, key, sizeof key, text, sizeof text);
    assert_string_equal(key, "general.architecture");
    assert_string_equal(text, "llama");
    sr_checkpoint_value(ck, 2, key, sizeof key, text, sizeof text);
    assert_string_equal(text, "[3] \"a\", \"\", \"\\xff\"");
    for (size_t cap = 0; cap < sizeof text; cap++) { /* cut anywhere, always terminated */
        memset(text, 'x', sizeof text);
        sr_checkpoint_value(ck, 2, key, cap, text, cap);
        if (cap == 0) continue;
        assert_true(strlen(text) < cap);
        if (cap > 4 && cap < 20) assert_string_equal(text + strlen(text) - 3, "...");
    }
    sr_checkpoint_close(ck);
    sr_checkpoint_close(NULL);
    drop(&b);
}

int main(void) {
#define WITH_FILES(test) cmocka_unit_test_setup_teardown(test, make_scratch, remove_scratch)
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(gguf_reads_values_and_tensors),
        cmocka_unit_test(gguf_reads_every_value_type_at_its_extremes),
        cmocka_unit_test(gguf_accepts_any_order_holes_and_alignments),
        WITH_FILES(gguf_rejects_bad_magic),
        cmocka_unit_test(gguf_rejects_versions_0_and_future),
        cmocka_unit_test(gguf_of_any_version_and_endianness_reads_the_same),
        cmocka_unit_test(gguf_of_any_version_and_endianness_rejects_every_truncation_point),
        cmocka_unit_test(gguf_big_endian_equals_what_the_reference_converted),
        cmocka_unit_test(gguf_big_endian_swaps_every_field_of_a_block_once),
        cmocka_unit_test(gguf_big_endian_names_types_whose_order_nobody_defines),
        cmocka_unit_test(gguf_v1_and_big_endian_reject_counts_that_the_file_cannot_hold),
        cmocka_unit_test(gguf_rejects_a_file_of_4_bytes),
        cmocka_unit_test(gguf_rejects_every_truncation_point),
        cmocka_unit_test(gguf_rejects_counts_that_the_file_cannot_hold),
        cmocka_unit_test(gguf_rejects_string_lengths_beyond_the_file),
        cmocka_unit_test(gguf_rejects_array_lengths_beyond_the_file),
        WITH_FILES(gguf_limits_the_bytes_of_metadata),
        WITH_FILES(gguf_message_keeps_its_end_behind_a_long_path_and_name),
        cmocka_unit_test(gguf_rejects_duplicate_keys),
        cmocka_unit_test(gguf_rejects_empty_keys_and_names),
        cmocka_unit_test(gguf_limits_the_length_of_keys_and_names),
        cmocka_unit_test(gguf_rejects_zero_bytes_and_bad_utf8_in_keys_names_and_texts),
        cmocka_unit_test(gguf_rejects_unknown_value_types),
        cmocka_unit_test(gguf_refuses_arrays_of_arrays),
        cmocka_unit_test(gguf_rejects_bools_other_than_0_and_1),
        cmocka_unit_test(gguf_rejects_bad_alignments),
        cmocka_unit_test(gguf_rejects_an_alignment_of_the_wrong_type),
        cmocka_unit_test(gguf_survives_names_that_collide),
        cmocka_unit_test(gguf_opens_a_large_vocabulary_in_bounded_time),
        cmocka_unit_test(gguf_opens_many_tensors_and_keys_in_bounded_time),
        cmocka_unit_test(gguf_values_of_the_wrong_type_name_key_found_and_expected),
        cmocka_unit_test(gguf_arrays_read_by_element_kind_only),
        cmocka_unit_test(gguf_rejects_0_or_more_than_4_dimensions),
        cmocka_unit_test(gguf_rejects_a_dimension_of_0),
        cmocka_unit_test(gguf_rejects_dimension_products_that_wrap),
        cmocka_unit_test(gguf_rejects_sizes_in_bytes_that_wrap),
        cmocka_unit_test(gguf_rejects_tensor_past_end_of_file),
        cmocka_unit_test(gguf_rejects_offsets_that_wrap_or_lie_outside),
        cmocka_unit_test(gguf_rejects_sums_of_sizes_that_wrap),
        cmocka_unit_test(gguf_rejects_unaligned_offsets),
        cmocka_unit_test(gguf_rejects_overlapping_tensors),
        cmocka_unit_test(gguf_names_unknown_removed_and_foreign_types),
        cmocka_unit_test(gguf_rejects_rows_that_are_no_multiple_of_the_block),
        cmocka_unit_test(gguf_rejects_duplicate_tensor_names),
        cmocka_unit_test(gguf_reads_every_type_of_ggml),
        WITH_FILES(split_gguf_opens_through_any_piece),
        WITH_FILES(split_gguf_names_the_missing_piece),
        WITH_FILES(split_gguf_checks_the_count_of_tensors),
        WITH_FILES(split_gguf_rejects_a_tensor_in_two_pieces),
        WITH_FILES(split_gguf_rejects_pieces_that_disagree_with_their_names),
        cmocka_unit_test(split_gguf_rejects_counts_of_the_wrong_type),
        WITH_FILES(open_names_other_formats),
        WITH_FILES(checkpoint_shows_tensors_and_values),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
