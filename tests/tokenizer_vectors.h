/* Reader of tests/vectors/tokenizer/: see README.md there. */
#ifndef SR_TESTS_TOKENIZER_VECTORS_H
#define SR_TESTS_TOKENIZER_VECTORS_H

#include "support.h"

#include "base/map.h"

#define VECTORS SR_SOURCE_DIR "/tests/vectors/tokenizer/"

struct reader {
    char *data;
    const uint8_t *at, *end;
};
struct text {
    char *s; /* zero-terminated copy */
    size_t n;
};
struct ids {
    int32_t *v;
    size_t n;
};

static inline struct reader read_vector(const char *name) {
    char path[1024];
    struct reader r;
    size_t n;
    sr_err err = {0};
    snprintf(path, sizeof path, "%s%s", VECTORS, name);
    if (sr_file_read(path, 1 << 24, &r.data, &n, &err) != SR_OK) fail_msg("%s", err.msg);
    r.at = (const uint8_t *)r.data;
    r.end = r.at + n;
    return r;
}
static inline size_t read_leb(struct reader *r) {
    size_t v = 0;
    for (int shift = 0;; shift += 7) {
        assert_true(r->at < r->end);
        v |= (size_t)(*r->at & 127) << shift;
        if (!(*r->at++ & 128)) return v;
    }
}
static inline struct text read_text(struct reader *r) {
    struct text t = {NULL, read_leb(r)};
    assert_true((size_t)(r->end - r->at) >= t.n);
    t.s = malloc(t.n + 1);
    assert_non_null(t.s);
    memcpy(t.s, r->at, t.n);
    t.s[t.n] = 0;
    r->at += t.n;
    return t;
}
static inline struct ids read_ids(struct reader *r) {
    struct ids x = {NULL, read_leb(r)};
    x.v = malloc((x.n + 1) * sizeof *x.v);
    assert_non_null(x.v);
    for (size_t i = 0; i < x.n; i++) x.v[i] = (int32_t)read_leb(r);
    return x;
}

struct texts {
    struct text *v;
    size_t n;
};
static inline struct texts read_texts(void) {
    struct reader r = read_vector("texts.bin");
    struct texts t = {NULL, read_leb(&r)};
    t.v = malloc(t.n * sizeof *t.v);
    assert_non_null(t.v);
    for (size_t i = 0; i < t.n; i++) t.v[i] = read_text(&r);
    free(r.data);
    return t;
}
static inline void free_texts(struct texts *t) {
    for (size_t i = 0; i < t->n; i++) free(t->v[i].s);
    free(t->v);
}

/* A whole decode: one detok over the ids. Owned by the caller. */
static inline struct text decode(const sr_tokenizer *t, const int32_t *ids, size_t n) {
    struct bytes b = {0};
    sr_detok *d;
    sr_err err = {0};
    const char *s;
    size_t len;
    assert_int_equal(sr_detok_create(t, NULL, 0, &d, &err), SR_OK);
    for (size_t i = 0; i < n; i++) {
        assert_false(sr_detok_push(d, ids[i], &s, &len));
        assert_int_equal(s[len], 0);
        put(&b, s, len);
    }
    sr_detok_flush(d, &s, &len);
    put(&b, s, len);
    put(&b, "", 1);
    sr_detok_free(d);
    return (struct text){(char *)b.data, b.n - 1};
}

/* Text as printable ASCII, for messages; four turns. */
static inline const char *shown(const char *s, size_t n) {
    static char out[4][600];
    static int turn;
    size_t k = 0;
    turn = (turn + 1) % 4;
    for (size_t i = 0; i < n && k < 580; i++) {
        uint8_t c = (uint8_t)s[i];
        if (c >= 32 && c < 127)
            out[turn][k++] = (char)c;
        else
            k += (size_t)snprintf(out[turn] + k, 5, "\\x%02x", c);
    }
    out[turn][k] = 0;
    return out[turn];
}
static inline const char *listed(const int32_t *v, size_t n) {
    static char out[4][600];
    static int turn;
    size_t k = 0;
    turn = (turn + 1) % 4;
    out[turn][0] = 0;
    for (size_t i = 0; i < n && k < 580; i++) k += (size_t)snprintf(out[turn] + k, 16, "%d ", v[i]);
    return out[turn];
}

static inline sr_tokenizer *open_tokenizer(const char *name) {
    char path[1024];
    sr_tokenizer *t;
    sr_err err = {0};
    snprintf(path, sizeof path, "%s%s", VECTORS, name);
    if (sr_tokenizer_open(path, &t, &err) != SR_OK) fail_msg("%s: %s", name, err.msg);
    return t;
}

static inline struct ids tokenize(const sr_tokenizer *t, const char *s, size_t n, unsigned flags) {
    struct ids out = {NULL, 0};
    sr_err err = {0};
    size_t again;
    if (sr_tokenize(t, s, n, flags, NULL, 0, &out.n, &err) != SR_OK) fail_msg("%s: %s", shown(s, n), err.msg);
    out.v = malloc((out.n + 1) * sizeof *out.v);
    assert_non_null(out.v);
    out.v[out.n] = -77;
    assert_int_equal(sr_tokenize(t, s, n, flags, out.v, out.n, &again, &err), SR_OK);
    assert_int_equal(again, out.n);
    assert_int_equal(out.v[out.n], -77);
    return out;
}

static inline void check_ids(const char *name, struct text text, struct ids got, const int32_t *want, size_t n_want) {
    if (got.n != n_want || (n_want && memcmp(got.v, want, n_want * sizeof *want) != 0))
        fail_msg("%s: text \"%s\": got %s, want %s", name, shown(text.s, text.n), listed(got.v, got.n),
                 listed(want, n_want));
}

static inline void check_text(const char *name, const int32_t *ids, size_t n, struct text got, const char *want,
                              size_t n_want) {
    if (got.n != n_want || memcmp(got.s, want, n_want) != 0)
        fail_msg("%s: ids %s: got \"%s\", want \"%s\"", name, listed(ids, n), shown(got.s, got.n), shown(want, n_want));
}

/* One tokenizer against its expectations. */
static inline void compare(const char *tokenizer, const char *expected, unsigned flags) {
    sr_tokenizer *t = open_tokenizer(tokenizer);
    struct reader r = read_vector(expected);
    struct texts texts = read_texts();
    struct ids front = read_ids(&r), back = read_ids(&r);
    assert_int_equal(read_leb(&r), texts.n);
    for (size_t i = 0; i < texts.n; i++) {
        struct text s = texts.v[i];
        uint8_t kind = *r.at++;
        if (!kind) continue;
        struct ids want = read_ids(&r);
        struct text text = kind == 3 ? read_text(&r) : (struct text){NULL, 0};
        struct ids plain = tokenize(t, s.s, s.n, flags | SR_TOKENIZE_NO_BOS), framed = tokenize(t, s.s, s.n, flags);
        check_ids(tokenizer, s, plain, want.v, want.n);
        assert_int_equal(framed.n, front.n + want.n + back.n);
        check_ids("front", s, (struct ids){framed.v, front.n}, front.v, front.n);
        check_ids("middle", s, (struct ids){framed.v + front.n, want.n}, want.v, want.n);
        check_ids("back", s, (struct ids){framed.v + front.n + want.n, back.n}, back.v, back.n);
        if (kind > 1) {
            struct text got = decode(t, framed.v, framed.n);
            check_text(tokenizer, framed.v, framed.n, got, kind == 2 ? s.s : text.s, kind == 2 ? s.n : text.n);
            free(got.s);
        }
        free(text.s);
        free(want.v);
        free(plain.v);
        free(framed.v);
    }
    for (size_t i = read_leb(&r); i > 0; i--) {
        struct ids ids = read_ids(&r);
        struct text want = read_text(&r), got = decode(t, ids.v, ids.n);
        check_text(tokenizer, ids.v, ids.n, got, want.s, want.n);
        free(ids.v);
        free(want.s);
        free(got.s);
    }
    assert_ptr_equal(r.at, r.end);
    free(front.v);
    free(back.v);
    free(r.data);
    free_texts(&texts);
    sr_tokenizer_free(t);
}

#endif
