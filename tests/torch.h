/* For tests: PyTorch archives and their pickles, spelt out. */
#ifndef SR_TESTS_TORCH_H
#define SR_TESTS_TORCH_H

#include "support.h"

/* ---------------------------------------------------------------- archives */

struct entry {
    const char *name;
    const void *data;
    size_t n;
};

/* Where its records are, to be bent. */
struct archive {
    struct bytes b;
    size_t local[8], central[8], end;
};

static inline void put16(struct archive *a, size_t at, unsigned v) {
    a->b.data[at] = (uint8_t)v;
    a->b.data[at + 1] = (uint8_t)(v >> 8);
}
static inline void put32(struct archive *a, size_t at, uint32_t v) {
    put16(a, at, v & 0xffff);
    put16(a, at + 2, v >> 16);
}

static inline void put_shared(struct bytes *b, uint32_t bytes, const char *name,
                              unsigned extra) { /* after the version */
    put_int(b, 0, 2);                           /* flags */
    put_int(b, 0, 2);                           /* stored */
    put_int(b, 0, 8);                           /* time, date, crc */
    put_int(b, bytes, 4);
    put_int(b, bytes, 4);
    put_int(b, strlen(name), 2);
    put_int(b, extra, 2);
}

/* zip64: sizes, offsets and the end are all ones and stand in the fields of ZIP64. */
static inline struct archive zip(const struct entry *e, int n, bool zip64) {
    struct archive a = {0};
    struct bytes *b = &a.b;
    for (int i = 0; i < n; i++) {
        a.local[i] = b->n;
        put(b, "PK\3\4", 4);
        put_int(b, 20, 2);
        put_shared(b, (uint32_t)e[i].n, e[i].name, 0);
        put(b, e[i].name, strlen(e[i].name));
        put(b, e[i].data, e[i].n);
    }
    size_t directory = b->n;
    for (int i = 0; i < n; i++) {
        a.central[i] = b->n;
        put(b, "PK\1\2", 4);
        put_int(b, 20, 2);
        put_int(b, 20, 2);
        put_shared(b, zip64 ? UINT32_MAX : (uint32_t)e[i].n, e[i].name, zip64 ? 28 : 0);
        put_int(b, 0, 2); /* comment */
        put_int(b, 0, 8); /* disk, attributes */
        put_int(b, zip64 ? UINT32_MAX : a.local[i], 4);
        put(b, e[i].name, strlen(e[i].name));
        if (!zip64) continue;
        put_int(b, 1, 2);
        put_int(b, 24, 2);
        put_int(b, e[i].n, 8);
        put_int(b, e[i].n, 8);
        put_int(b, a.local[i], 8);
    }
    size_t bytes = b->n - directory, at64 = b->n;
    if (zip64) {
        put(b, "PK\6\6", 4);
        put_int(b, 44, 8);
        put_zeros(b, 4 + 8); /* versions, disks */
        put_int(b, (uint64_t)n, 8);
        put_int(b, (uint64_t)n, 8);
        put_int(b, bytes, 8);
        put_int(b, directory, 8);
        put(b, "PK\6\7", 4);
        put_int(b, 0, 4);
        put_int(b, at64, 8);
        put_int(b, 1, 4);
    }
    a.end = b->n;
    put(b, "PK\5\6", 4);
    put_int(b, 0, 4);
    put_int(b, (uint64_t)n, 2);
    put_int(b, (uint64_t)n, 2);
    put_int(b, bytes, 4);
    put_int(b, directory, 4);
    put_int(b, 0, 2);
    return a;
}

/* 24 bytes of storage "0" under a pickle. */
static inline struct archive torch_archive(const struct bytes *pickle, bool zip64) {
    static const uint8_t storage[24] = {0, 1, 2, 3, 4, 5};
    struct entry e[] = {
        {"a/data.pkl", pickle->data, pickle->n}, {"a/byteorder", "little", 6}, {"a/data/0", storage, 24}};
    return zip(e, 3, zip64);
}

/* ---------------------------------------------------------------- pickles */

/* Bytes of a literal, zeros among them. */
#define PUT(b, text) put((b), "" text, sizeof(text) - 1)

static inline void put_number(struct bytes *b, int64_t v) {
    PUT(b, "\212\10");
    put_int(b, (uint64_t)v, 8);
}
static inline void put_string(struct bytes *b, const char *text) {
    PUT(b, "X");
    put_int(b, strlen(text), 4);
    put(b, text, strlen(text));
}
static inline void put_storage(struct bytes *b, const char *type, const char *key, int64_t n) {
    PUT(b, "(");
    put_string(b, "storage");
    PUT(b, "ctorch\n");
    put(b, type, strlen(type));
    PUT(b, "\n");
    put_string(b, key);
    put_string(b, "cpu");
    put_number(b, n);
    PUT(b, "tQ");
}
static inline void put_tuple(struct bytes *b, int n, const int64_t *v) {
    PUT(b, "(");
    for (int i = 0; i < n; i++) put_number(b, v[i]);
    PUT(b, "t");
}

struct tensor {
    const char *type, *key;
    int64_t elements, offset;
    int n;
    int64_t size[9], stride[9];
};

static inline struct bytes pickle_of(const struct tensor *t) {
    struct bytes b = {0};
    PUT(&b, "\200\2}X\1\0\0\0wctorch._utils\n_rebuild_tensor_v2\n(");
    put_storage(&b, t->type, t->key, t->elements);
    put_number(&b, t->offset);
    put_tuple(&b, t->n, t->size);
    put_tuple(&b, t->n, t->stride);
    PUT(&b, "\211ccollections\nOrderedDict\n)RtRs.");
    return b;
}

#endif
