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

#endif
