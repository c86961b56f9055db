/* Reads all that a directory promises: every byte of a span is there, every array can be walked, names are found. A
 * broken promise traps. */
#ifndef SR_FUZZ_WALK_H
#define SR_FUZZ_WALK_H

#include <string.h>

#include "file/file.h"

#define PROMISE(x)                                                                                                     \
    do {                                                                                                               \
        if (!(x)) __builtin_trap();                                                                                    \
    } while (0)

static inline void walk_array(const sr_value *v) {
    uint64_t strings = 0, numbers = 0, bools = 0;
    const char *text;
    size_t n;
    int64_t i;
    double d;
    bool b;
    volatile char sink = 0;
    for (sr_array a = sr_array_over(v); sr_array_string(&a, &text, &n); strings++)
        if (n) sink = (char)(sink + text[0] + text[n - 1]);
    for (sr_array a = sr_array_over(v); sr_array_float(&a, &d);) numbers++;
    for (sr_array a = sr_array_over(v); sr_array_int(&a, &i);) sink = (char)(sink + (char)i);
    for (sr_array a = sr_array_over(v); sr_array_bool(&a, &b);) bools++;
    PROMISE(strings == (v->v.a.kind == SR_KIND_STRING ? v->v.a.n : 0));
    PROMISE(bools == (v->v.a.kind == SR_KIND_BOOL ? v->v.a.n : 0));
    PROMISE(numbers == (v->v.a.kind <= SR_KIND_F64 ? v->v.a.n : 0));
}

static inline void walk_file(const sr_file *file) {
    volatile char sink = 0;
    for (int i = 0; i < file->n_parts; i++) {
        const sr_part *p = &file->part[i];
        const sr_map *map = &file->shard[p->shard].map;
        int64_t n = 1, bytes;
        PROMISE(p->bytes >= 0 && p->n_dims <= SR_MAX_DIMS);
        bool mapped = p->data >= map->data && p->data <= map->data + map->size;
        PROMISE(mapped || file->shard[p->shard].swapped || !strcmp(file->container, "PyTorch"));
        PROMISE(!mapped || file->shard[p->shard].swapped ||
                (size_t)p->bytes <= (size_t)(map->data + map->size - p->data));
        for (int d = 0; d < p->n_dims; d++) n *= p->shape[d];
        PROMISE(n == p->n_elements && sr_stored_bytes(p->type, n, &bytes) && bytes == p->bytes);
        if (p->bytes) sink = (char)(sink + p->data[0] + p->data[p->bytes - 1]);
        PROMISE(sr_file_part(file, p->name) == p);
    }
    for (int i = 0; i < file->n_values; i++) {
        const sr_value *v = &file->value[i];
        sr_err err = {0};
        int64_t whole;
        double d;
        bool b;
        const char *text;
        size_t n;
        PROMISE(sr_file_value(file, v->key) == v);
        if (v->kind == SR_KIND_ARRAY) walk_array(v);
        bool got = sr_value_int(file, v->key, INT64_MIN, INT64_MAX, &whole, &err);
        PROMISE(got == (err.code == SR_OK));
        sr_err_clear(&err);
        got = sr_value_float(file, v->key, &d, &err);
        PROMISE(got == (err.code == SR_OK));
        sr_err_clear(&err);
        PROMISE(sr_value_bool(file, v->key, &b, &err) == (v->kind == SR_KIND_BOOL));
        sr_err_clear(&err);
        PROMISE(sr_value_string(file, v->key, &text, &n, &err) == (v->kind == SR_KIND_STRING));
        if (v->kind == SR_KIND_STRING && n) sink = (char)(sink + text[0] + text[n - 1]);
    }
}

/* A failure comes with a message, a success without. */
static inline void check_outcome(sr_status s, const sr_file *file, const sr_err *err) {
    PROMISE((s == SR_OK) == (file != NULL));
    PROMISE(err->code == s && (s == SR_OK) == (err->msg[0] == 0));
    PROMISE(memchr(err->msg, 0, sizeof err->msg) != NULL);
}

#endif
