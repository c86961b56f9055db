/* Any bytes as the pickle of a PyTorch archive with one storage of 24 bytes; bytes that start a zip archive as the
 * whole file. */
#include <stdlib.h>

#include "walk.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

struct out {
    uint8_t *data;
    size_t n;
};

static void put(struct out *o, const void *data, size_t n) {
    if (n) memcpy(o->data + o->n, data, n);
    o->n += n;
}
static void put_int(struct out *o, size_t v, unsigned size) {
    for (unsigned i = 0; i < size; i++) o->data[o->n++] = (uint8_t)(v >> 8 * i);
}

/* Method to extra length, the same in a local header and in the directory. */
static void put_shared(struct out *o, size_t n, const char *name) {
    put_int(o, 20, 4); /* version, flags */
    put_int(o, 0, 6);
    put_int(o, 0, 4);
    put_int(o, n, 4);
    put_int(o, n, 4);
    put_int(o, strlen(name), 4);
}

/* The archive a/data.pkl, a/data/0. The caller frees it. */
static struct out wrap(const uint8_t *pickle, size_t size) {
    static const uint8_t storage[24] = {1, 2, 3};
    const struct {
        const char *name;
        const uint8_t *data;
        size_t n, at;
    } entry[2] = {{"a/data.pkl", pickle, size, 0}, {"a/data/0", storage, sizeof storage, 30 + 10 + size}};
    struct out o = {malloc(size + 512), 0};
    if (!o.data) return o;
    for (int i = 0; i < 2; i++) {
        put(&o, "PK\3\4", 4);
        put_shared(&o, entry[i].n, entry[i].name);
        put(&o, entry[i].name, strlen(entry[i].name));
        put(&o, entry[i].data, entry[i].n);
    }
    size_t directory = o.n;
    for (int i = 0; i < 2; i++) {
        put(&o, "PK\1\2\24\0", 6);
        put_shared(&o, entry[i].n, entry[i].name);
        put_int(&o, 0, 6);
        put_int(&o, 0, 4);
        put_int(&o, entry[i].at, 4);
        put(&o, entry[i].name, strlen(entry[i].name));
    }
    size_t bytes = o.n - directory;
    put(&o, "PK\5\6\0\0\0\0\2\0\2\0", 12);
    put_int(&o, bytes, 4);
    put_int(&o, directory, 4);
    put_int(&o, 0, 2);
    return o;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    bool whole = size >= 4 && memcmp(data, "PK\3\4", 4) == 0;
    struct out o = whole ? (struct out){0} : wrap(data, size);
    sr_file *file;
    sr_err err = {0};
    if (!whole && !o.data) return 0;
    sr_status s = sr_file_from_memory(whole ? data : o.data, whole ? size : o.n, "fuzz.pt", &file, &err);
    check_outcome(s, file, &err);
    if (file) walk_file(file);
    sr_file_close(file);
    free(o.data);
    return 0;
}
