/* For tests: byte buffers that spell out files, a scratch directory, and checks of errors. Include it first. */
#ifndef SR_TESTS_SUPPORT_H
#define SR_TESTS_SUPPORT_H

#include <dirent.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "sanitized.h"
#include "sirocco.h"

/* ---------------------------------------------------------------- bytes */

struct bytes {
    uint8_t *data;
    size_t n, cap;
};

static inline void put(struct bytes *b, const void *data, size_t n) {
    while (b->n + n > b->cap) {
        b->cap = b->cap ? 2 * b->cap : 256;
        b->data = realloc(b->data, b->cap);
        assert_non_null(b->data);
    }
    if (n) memcpy(b->data + b->n, data, n);
    b->n += n;
}
static inline void put_int(struct bytes *b, uint64_t v, unsigned size) { /* little-endian */
    uint8_t le[8];
    for (unsigned i = 0; i < size; i++) le[i] = (uint8_t)(v >> 8 * i);
    put(b, le, size);
}
static inline void put_zeros(struct bytes *b, size_t n) {
    while (n--) put(b, "", 1);
}
static inline void pad_to(struct bytes *b, size_t alignment) {
    put_zeros(b, (alignment - b->n % alignment) % alignment);
}
static inline void drop(struct bytes *b) {
    free(b->data);
    *b = (struct bytes){0};
}

/* ---------------------------------------------------------------- GGUF */

enum { G_U8, G_I8, G_U16, G_I16, G_U32, G_I32, G_F32, G_BOOL, G_STRING, G_ARRAY, G_U64, G_I64, G_F64 };

static inline void g_header(struct bytes *b, uint32_t version, uint64_t n_tensors, uint64_t n_values) {
    put(b, "GGUF", 4);
    put_int(b, version, 4);
    put_int(b, n_tensors, 8);
    put_int(b, n_values, 8);
}
static inline void g_text_n(struct bytes *b, const char *text, size_t n) {
    put_int(b, n, 8);
    put(b, text, n);
}
static inline void g_text(struct bytes *b, const char *text) {
    g_text_n(b, text, strlen(text));
}
/* Key and type; the value's bytes are the caller's. */
static inline void g_key(struct bytes *b, const char *key, uint32_t type) {
    g_text(b, key);
    put_int(b, type, 4);
}
static inline void g_u32(struct bytes *b, const char *key, uint32_t v) {
    g_key(b, key, G_U32);
    put_int(b, v, 4);
}
static inline void g_string(struct bytes *b, const char *key, const char *text) {
    g_key(b, key, G_STRING);
    g_text(b, text);
}
static inline void g_array(struct bytes *b, const char *key, uint32_t type, uint64_t n) {
    g_key(b, key, G_ARRAY);
    put_int(b, type, 4);
    put_int(b, n, 8);
}
/* ne0 is K; ne1 = 0: one dimension. */
static inline void g_tensor(struct bytes *b, const char *name, uint64_t ne0, uint64_t ne1, uint32_t type,
                            uint64_t offset) {
    g_text(b, name);
    put_int(b, ne1 ? 2 : 1, 4);
    put_int(b, ne0, 8);
    if (ne1) put_int(b, ne1, 8);
    put_int(b, type, 4);
    put_int(b, offset, 8);
}

/* ---------------------------------------------------------------- files */

/* Removes a directory that a test made, with what is in it. */
static inline void remove_tree(const char *path) {
    DIR *d = opendir(path);
    if (d) {
        const struct dirent *e;
        while ((e = readdir(d))) {
            char inner[1024];
            if (strcmp(e->d_name, ".") == 0 || strcmp(e->d_name, "..") == 0) continue;
            int n = snprintf(inner, sizeof inner, "%s/%s", path, e->d_name);
            if (n < 0 || n >= (int)sizeof inner) continue;
            struct stat st;
            if (lstat(inner, &st) == 0 && S_ISDIR(st.st_mode))
                remove_tree(inner);
            else
                unlink(inner);
        }
        closedir(d);
    }
    rmdir(path);
}

/* cmocka setup and teardown: *state is the path of a fresh directory. */
static inline int make_scratch(void **state) {
    const char *top = getenv("TMPDIR");
    char *path = malloc(512);
    if (!path) return -1;
    snprintf(path, 512, "%s/sirocco-test-XXXXXX", top && strlen(top) < 400 ? top : "/tmp");
    *state = path;
    return mkdtemp(path) ? 0 : -1;
}
static inline int remove_scratch(void **state) {
    remove_tree(*state);
    free(*state);
    return 0;
}
/* dir/name in a static buffer: good for the four latest calls. */
static inline const char *in(const char *dir, const char *name) {
    static char path[4][1024];
    static int turn;
    turn = (turn + 1) % 4;
    char joined[1024]; /* dir may be an earlier result */
    snprintf(joined, sizeof joined, "%s/%s", dir, name);
    return strcpy(path[turn], joined);
}
static inline void write_file(const char *path, const void *data, size_t n) {
    FILE *f = fopen(path, "wb");
    assert_non_null(f);
    assert_int_equal(fwrite(data, 1, n, f), n);
    assert_int_equal(fclose(f), 0);
}
static inline void write_text(const char *path, const char *text) {
    write_file(path, text, strlen(text));
}

/* All of a file and a zero; owned by the caller. */
static inline char *read_all(const char *path, size_t *n) {
    FILE *f = fopen(path, "rb");
    if (!f) fail_msg("%s: cannot be opened", path);
    assert_int_equal(fseek(f, 0, SEEK_END), 0);
    *n = (size_t)ftell(f);
    rewind(f);
    char *text = malloc(*n + 1);
    assert_non_null(text);
    assert_int_equal(fread(text, 1, *n, f), *n);
    text[*n] = 0;
    fclose(f);
    return text;
}

/* ---------------------------------------------------------------- errors */

/* The status, and every one of the zero-terminated words (up to a NULL) in the message. */
static inline void check_error(const char *what, sr_status got, const sr_err *err, sr_status want, ...) {
    va_list ap;
    if (got != want || err->code != want)
        fail_msg("%s: got %s (%s), want %s", what, sr_status_name(got), err->msg, sr_status_name(want));
    va_start(ap, want);
    for (const char *word; (word = va_arg(ap, const char *));)
        if (!strstr(err->msg, word)) fail_msg("%s: message \"%s\" does not say \"%s\"", what, err->msg, word);
    va_end(ap);
}

/* `call` uses `e_` for its error. */
#define OK(call)                                                                                                       \
    do {                                                                                                               \
        sr_err e_[1] = {{0}};                                                                                          \
        if ((call) != SR_OK) fail_msg("%s", e_->msg);                                                                  \
    } while (0)

/* ---------------------------------------------------------------- models */

struct logits {
    float *of; /* [n][V] */
    int32_t V;
};
static inline void keep_logits_at(void *user, sr_session *s, int32_t position, const float *logits) {
    struct logits *all = user;
    (void)s;
    memcpy(all->of + (size_t)position * (size_t)all->V, logits, (size_t)all->V * sizeof *logits);
}
/* [n][*V], by the exact path; owned by the caller. */
static inline float *logits_of(const char *path, const int32_t *ids, int32_t n, int32_t *V) {
    sr_engine *engine;
    sr_model *model;
    sr_session *session;
    sr_model_info info;
    OK(sr_engine_create(&(sr_engine_options){.exact = true}, &engine, e_));
    OK(sr_model_open(engine, path, NULL, &model, e_));
    OK(sr_session_create(model, &(sr_session_options){.n_ctx = n}, &session, e_));
    sr_model_get_info(model, &info);
    struct logits all = {.V = info.n_vocab};
    all.of = calloc((size_t)n * (size_t)all.V, sizeof *all.of);
    sr_session_on_logits(session, keep_logits_at, &all);
    OK(sr_session_sync(session, ids, n, e_));
    while (sr_session_n_pending(session)) OK(sr_step(&session, 1, e_));
    sr_session_free(session);
    sr_model_close(model);
    sr_engine_free(engine);
    *V = all.V;
    return all.of;
}

/* Types of keys and values, the plainest first, with the share of their energy that rounding takes.
 *   f16, bf16   an error evenly in half of the last of p bits, numbers evenly over an octave: 2^(-2 p) / 3 * 1/2
 *   q8_0, q4_0  step^2 / 12, the step being the largest of 32, 2.4 standard deviations where they are normal, as they
 * are once rotated, / 127 or 8 */
enum { N_KV_TYPES = 5 };
struct kv_type {
    const char *name;
    double share;
};
static inline struct kv_type kv_type(int i) {
    static const struct kv_type types[N_KV_TYPES] = {{"f32", 0},
                                                     {"f16", 0x1p-22 / 6},
                                                     {"bf16", 0x1p-16 / 6},
                                                     {"q8_0", 2.4 / 127 * 2.4 / 127 / 12},
                                                     {"q4_0", 2.4 / 8 * 2.4 / 8 / 12}};
    return types[i];
}

/* How long it takes can be said without anything being written. */
static inline double seconds_of(sr_quantizer *q, const char *result) {
    double seconds = -1;
    struct stat st;
    char timed[512];
    OK(sr_quantizer_seconds(q, &seconds, e_));
    if (!(seconds > 0 && seconds < 1e6)) fail_msg("%s: %g seconds", result, seconds);
    snprintf(timed, sizeof timed, "%s.timed", result);
    assert_int_equal(stat(timed, &st), -1);
    return seconds;
}

/* What `sirocco quantize FROM --to TARGET -o TO` does, over what is there. */
static inline sr_status quantize_to(const char *from, const char *to, const char *target, sr_err *err) {
    sr_quantizer *q = NULL;
    *err = (sr_err){0};
    sr_status s =
        sr_quantizer_plan(from, to, &(sr_quantize_options){.to = target, .overwrite = true, .threads = 2}, &q, err);
    if (s == SR_OK) seconds_of(q, to);
    if (s == SR_OK) s = sr_quantizer_run(q, false, err);
    sr_quantizer_free(q);
    return s;
}

#endif
