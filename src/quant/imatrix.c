/* Importance of columns: the mean square of what each matrix is multiplied with, over a text. It is summed up while the
 * model runs.
 *
 * Files, of llama.cpp (tools/imatrix, common/imatrix-loader): GGUF with NAME.in_sum2 [n][K] and NAME.counts [n] of f32,
 * n the experts; and the older .dat: i32 entries; each i32 length, name, i32 calls, i32 values, f32 mean square *
 * calls. mistral.rs's .cimatrix: u64 entries; each u64 length, name, u64 values, f32. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/buffer.h"
#include "base/cursor.h"
#include "base/disk.h"
#include "base/map.h"
#include "base/path.h"
#include "core/core.h"
#include "quant/quant.h"

typedef struct entry {
    char name[SR_NAME]; /* as GGUF calls it, without ".weight" */
    int n;              /* matrices: experts, or 1 */
    int64_t K;
    double *sum;    /* [n][K] of squares */
    double *tokens; /* [n] */
} entry;

struct sr_imatrix {
    sr_importances ask;
    sr_watch *watch; /* NULL: no model is observed */
    int *of_item;    /* [of the watch's]: its entry, or -1 */
    entry *entry;
    int n, cap;
    int64_t chunks;
    sr_arena arena;
};

static entry *entry_called(sr_imatrix *im, const char *name) {
    for (int i = 0; i < im->n; i++)
        if (strcmp(im->entry[i].name, name) == 0) return &im->entry[i];
    return NULL;
}

static entry *add_entry(sr_imatrix *im, const char *name, int n, int64_t K, sr_err *err) {
    if (im->n == im->cap) {
        const int cap = 2 * im->cap + 64;
        entry *more = realloc(im->entry, (size_t)cap * sizeof *more);
        if (!more) {
            sr_fail(err, SR_NOMEM, "no memory for importances");
            return NULL;
        }
        im->entry = more;
        im->cap = cap;
    }
    entry *e = &im->entry[im->n];
    *e = (entry){.n = n, .K = K};
    snprintf(e->name, sizeof e->name, "%s", name);
    e->sum = sr_arena_alloc(&im->arena, (size_t)n * (size_t)K, sizeof *e->sum);
    e->tokens = sr_arena_alloc(&im->arena, (size_t)n, sizeof *e->tokens);
    if (!e->sum || !e->tokens) {
        sr_fail(err, SR_NOMEM, "no memory for importances");
        return NULL;
    }
    im->n++;
    return e;
}

/* ---------------------------------------------------------------- while the model runs */

static void add_rows(void *ctx, int item, int matrix, const float *x, int T, int64_t ld) {
    const sr_imatrix *im = ctx;
    const int at = im->of_item[item];
    if (at < 0) return;
    const entry *e = &im->entry[at];
    double *sum = e->sum + (int64_t)matrix * e->K;
    for (int t = 0; t < T; t++)
        for (int64_t k = 0; k < e->K; k++) {
            const double v = x[t * ld + k];
            sum[k] += v * v;
        }
    e->tokens[matrix] += T;
}

/* An entry for each matrix that GGUF has a name for. */
static sr_status name_items(sr_imatrix *im, const sr_arch *arch, sr_err *err) {
    const sr_naming gguf = {arch, true, "", ""};
    int n;
    const sr_watched *item = sr_watch_items(im->watch, &n);
    im->of_item = sr_arena_alloc(&im->arena, (size_t)n + 1, sizeof *im->of_item);
    if (!im->of_item) return sr_fail(err, SR_NOMEM, "no memory for importances");
    for (int i = 0; i < n; i++) {
        char name[SR_NAME];
        im->of_item[i] = -1;
        if (!sr_name_full(&gguf, item[i].role, item[i].layer, "", name)) continue;
        if (!add_entry(im, name, item[i].n, item[i].K, err)) return err->code;
        im->of_item[i] = im->n - 1;
    }
    return SR_OK;
}

sr_status sr_imatrix_observe(sr_model *m, sr_imatrix **out, sr_err *err) {
    sr_err none = {0};
    err = err ? err : &none;
    sr_imatrix *im = *out = calloc(1, sizeof *im);
    if (!im) return sr_fail(err, SR_NOMEM, "no memory for importances");
    im->ask.of = sr_imatrix_of;
    sr_status s = sr_watch_open(m, add_rows, im, &im->watch, err);
    if (s == SR_OK) s = name_items(im, m->dec.arch, err);
    if (s != SR_OK) {
        sr_imatrix_free(im);
        *out = NULL;
    }
    return s;
}

void sr_imatrix_chunk(sr_imatrix *im) {
    im->chunks++;
}

void sr_imatrix_free(sr_imatrix *im) {
    if (!im) return;
    sr_watch_close(im->watch);
    sr_arena_free(&im->arena);
    free(im->entry);
    free(im);
}

/* ---------------------------------------------------------------- files */

static sr_status corrupt(const char *path, const char *what, sr_err *err) {
    return sr_fail(err, SR_CORRUPT, "%s: found %s, expected an importance matrix (.gguf, .dat or .cimatrix)", path,
                   what);
}

/* Adds n mean squares [n][K] of so many tokens each. */
static sr_status merge(sr_imatrix *im, const char *path, const char *name, int n, int64_t K, const float *values,
                       const float *tokens, double all, sr_err *err) {
    char stem[SR_NAME];
    const size_t length = strlen(name);
    snprintf(stem, sizeof stem, "%s", name);
    if (length > 7 && length < sizeof stem && strcmp(stem + length - 7, ".weight") == 0) stem[length - 7] = 0;
    entry *e = entry_called(im, stem);
    if (!e && !(e = add_entry(im, stem, n, K, err))) return err->code;
    if (e->n != n || e->K != K) return corrupt(path, "other sizes than in the file before", err);
    for (int i = 0; i < n; i++) {
        const double t = tokens ? (double)tokens[i] : all;
        e->tokens[i] += t;
        for (int64_t k = 0; k < K; k++) {
            const double v = values[i * K + k];
            if (!(v >= 0) || v > 1e30) return corrupt(path, "a value that is negative or no number", err);
            e->sum[i * K + k] += tokens ? v : v * t;
        }
    }
    return SR_OK;
}

static sr_status read_gguf(sr_imatrix *im, const char *path, sr_err *err) {
    sr_file *file;
    sr_status s = sr_file_open(path, &(sr_file_options){.format = "gguf"}, &file, err);
    if (s != SR_OK) return s;
    int64_t chunks = 0;
    bool found = false;
    for (int i = 0; i < file->n_parts && s == SR_OK; i++) {
        static const char tail[] = ".in_sum2";
        const sr_part *sums = &file->part[i];
        const size_t n = strlen(sums->name), m = sizeof tail - 1;
        char name[SR_NAME + 16];
        if (n <= m || n >= SR_NAME || strcmp(sums->name + n - m, tail) != 0) continue;
        snprintf(name, sizeof name, "%.*s.counts", (int)(n - m), sums->name);
        const sr_part *counts = sr_file_part(file, name);
        name[n - m] = 0;
        const int64_t K = sums->n_dims ? sums->shape[sums->n_dims - 1] : 0;
        if (!counts || strcmp(counts->type->name, "f32") || strcmp(sums->type->name, "f32") || K < 1 ||
            sums->n_elements % K || counts->n_elements != sums->n_elements / K || counts->n_elements > SR_MOST_EXPERTS)
            s = corrupt(path, "sums without counts of their own", err);
        else {
            float *copy = malloc((size_t)(sums->bytes + counts->bytes)); /* aligned */
            if (!copy)
                s = sr_fail(err, SR_NOMEM, "no memory for importances");
            else {
                memcpy(copy, sums->data, (size_t)sums->bytes);
                memcpy(copy + sums->n_elements, counts->data, (size_t)counts->bytes);
                s = merge(im, path, name, (int)counts->n_elements, K, copy, copy + sums->n_elements, 0, err);
            }
            free(copy);
        }
        found = true;
    }
    if (s == SR_OK && !found) s = corrupt(path, "no sums", err);
    if (sr_value_int(file, "imatrix.chunk_count", 0, INT32_MAX, &chunks, NULL)) im->chunks += chunks;
    sr_file_close(file);
    return s;
}

/* .dat: 32-bit numbers, and how often each was called; .cimatrix: 64-bit ones, and that not. */
static sr_status read_plain(sr_imatrix *im, const char *path, bool dat, sr_err *err) {
    sr_map map;
    sr_status s = sr_map_open(path, &map, err);
    if (s != SR_OK) return s;
    sr_cursor c = sr_cursor_over(map.data, map.size);
    const unsigned size = dat ? 4 : 8;
    const uint64_t n = sr_cursor_uint(&c, size);
    if (c.failed || n == 0 || n > 1 << 20) s = corrupt(path, "no list of entries", err);
    for (uint64_t i = 0; i < n && s == SR_OK; i++) {
        char name[SR_NAME] = "";
        const uint64_t length = sr_cursor_uint(&c, size);
        const uint8_t *text = length && length < sizeof name ? sr_cursor_bytes(&c, length) : NULL;
        const uint64_t calls = dat ? sr_cursor_uint(&c, 4) : 1, K = sr_cursor_uint(&c, size);
        const uint8_t *data = text && K && K < 1u << 28 ? sr_cursor_bytes(&c, 4 * K) : NULL;
        float *copy = data ? malloc(4 * (size_t)K) : NULL;
        if (!copy) {
            s = data ? sr_fail(err, SR_NOMEM, "no memory for importances")
                     : corrupt(path, "an entry that is cut off", err);
            break;
        }
        memcpy(name, text, (size_t)length);
        memcpy(copy, data, 4 * (size_t)K);
        for (uint64_t k = 0; k < K && calls > 1; k++) copy[k] /= (float)calls;
        s = merge(im, path, name, 1, (int64_t)K, copy, NULL, calls ? (double)calls : 1, err);
        free(copy);
    }
    sr_map_close(&map);
    return s;
}

sr_status sr_imatrix_read(sr_imatrix *im, const char *path, sr_imatrix **out, sr_err *err) {
    sr_err none = {0};
    err = err ? err : &none;
    sr_imatrix *to = im ? im : calloc(1, sizeof *to);
    if (!to) return sr_fail(err, SR_NOMEM, "no memory for importances");
    to->ask.of = sr_imatrix_of;
    sr_status s = sr_ends_with(path, ".cimatrix") ? read_plain(to, path, false, err)
                  : sr_ends_with(path, ".dat")    ? read_plain(to, path, true, err)
                                                  : read_gguf(to, path, err);
    if (s != SR_OK && !im) {
        sr_imatrix_free(to);
        to = NULL;
    }
    *out = to;
    return s;
}

static sr_status write_dat(const sr_imatrix *im, const char *path, sr_err *err) {
    sr_buffer b = {0};
    sr_buffer_uint(&b, (uint64_t)im->n, 4);
    for (int i = 0; i < im->n; i++) {
        const entry *e = &im->entry[i];
        const size_t n = strlen(e->name);
        const int32_t calls = im->chunks > 0 ? (int32_t)im->chunks : 1;
        sr_buffer_uint(&b, n + 7, 4);
        sr_buffer_add(&b, e->name, n);
        sr_buffer_add(&b, ".weight", 7);
        sr_buffer_uint(&b, (uint32_t)calls, 4);
        sr_buffer_uint(&b, (uint64_t)(e->n * e->K), 4);
        for (int m = 0; m < e->n; m++)
            for (int64_t k = 0; k < e->K; k++) {
                const float v = e->tokens[m] > 0 ? (float)(e->sum[m * e->K + k] / e->tokens[m] * calls) : (float)calls;
                sr_buffer_add(&b, &v, sizeof v);
            }
    }
    sr_buffer_uint(&b, (uint64_t)im->chunks, 4);
    sr_buffer_uint(&b, 0, 4);
    sr_status s =
        b.failed ? sr_fail(err, SR_NOMEM, "no memory to write importances") : sr_disk_put(path, b.at, b.n, err);
    sr_buffer_free(&b);
    return s;
}

static sr_status write_gguf(const sr_imatrix *im, const char *path, int64_t chunk, sr_err *err) {
    enum { T_U32 = 4, T_STRING = 8 };
    const sr_stored *f32 = sr_stored_by_name("f32");
    const sr_value values[] = {
        {.key = "general.type", .kind = SR_KIND_STRING, .stored = T_STRING, .v.s = {"imatrix", 7}},
        {.key = "imatrix.chunk_count", .kind = SR_KIND_U64, .stored = T_U32, .v.u = (uint64_t)im->chunks},
        {.key = "imatrix.chunk_size", .kind = SR_KIND_U64, .stored = T_U32, .v.u = (uint64_t)chunk},
        {.key = "imatrix.datasets",
         .kind = SR_KIND_ARRAY,
         .stored = T_STRING,
         .v.a = {.data = (const uint8_t *)"\0\0\0\0\0\0\0\0", .n = 1, .bytes = 8, .kind = SR_KIND_STRING}}};
    sr_part *part = calloc(2 * (size_t)im->n + 1, sizeof *part);
    char(*name)[SR_NAME + 16] = calloc(2 * (size_t)im->n + 1, sizeof *name);
    sr_content c = {.gguf = true, .part = part, .n_parts = 2 * im->n, .value = values, .n_values = 4};
    sr_buffer b = {0};
    sr_status s = part && name ? SR_OK : sr_fail(err, SR_NOMEM, "no memory to write importances");
    for (int i = 0; i < im->n && s == SR_OK; i++) {
        const entry *e = &im->entry[i];
        snprintf(name[2 * i], sizeof *name, "%s.weight.in_sum2", e->name);
        snprintf(name[2 * i + 1], sizeof *name, "%s.weight.counts", e->name);
        part[2 * i] = (sr_part){.name = name[2 * i], .type = f32, .n_dims = 2, .shape = {e->n, e->K}};
        part[2 * i].bytes = 4 * e->n * e->K;
        part[2 * i + 1] = (sr_part){.name = name[2 * i + 1], .type = f32, .n_dims = 2, .shape = {e->n, 1}};
        part[2 * i + 1].bytes = 4 * e->n;
    }
    if (s == SR_OK) s = sr_content_lay(&c, err);
    if (s == SR_OK) sr_buffer_add(&b, c.head, c.n_head);
    for (int i = 0; i < 2 * im->n && s == SR_OK; i++) {
        const entry *e = &im->entry[i / 2];
        while ((int64_t)b.n < c.offset[i] && !b.failed) sr_buffer_uint(&b, 0, 1);
        for (int64_t k = 0; k < (i % 2 ? e->n : e->n * e->K); k++) {
            const float v = (float)(i % 2 ? e->tokens[k] : e->sum[k]);
            sr_buffer_add(&b, &v, sizeof v);
        }
    }
    if (s == SR_OK && b.failed) s = sr_fail(err, SR_NOMEM, "no memory to write importances");
    if (s == SR_OK) s = sr_disk_put(path, b.at, b.n, err);
    sr_content_free(&c);
    sr_buffer_free(&b);
    free(part);
    free(name);
    return s;
}

sr_status sr_imatrix_write(const sr_imatrix *im, const char *path, int64_t chunk, sr_err *err) {
    return sr_ends_with(path, ".dat") ? write_dat(im, path, err) : write_gguf(im, path, chunk, err);
}

int sr_imatrix_entries(const sr_imatrix *im) {
    return im->n;
}

/* ---------------------------------------------------------------- for the writer */

sr_status sr_imatrix_of(const sr_imatrix *im, const char *name, int64_t K, int most, sr_arena *arena, float **values,
                        int *n, sr_err *err) {
    *values = NULL;
    *n = 0;
    const entry *e = im ? entry_called((sr_imatrix *)(uintptr_t)im, name) : NULL;
    if (!e) return SR_OK;
    int matrices = e->n;
    if (matrices == 1 && e->K != K && most > 1 && e->K == K * most) matrices = most; /* .dat: experts in a row */
    if ((e->n == 1 ? e->K : e->n * e->K) != (int64_t)matrices * K)
        return sr_fail(err, SR_INVALID,
                       "importances of %s: found %d x %lld, expected rows of %lld columns; they are of "
                       "another model",
                       name, e->n, (long long)e->K, (long long)K);
    float *out = sr_arena_alloc(arena, (size_t)matrices * (size_t)K, sizeof *out);
    if (!out) return sr_fail(err, SR_NOMEM, "no memory for importances");
    for (int m = 0; m < matrices; m++) {
        const double tokens = e->n == 1 ? e->tokens[0] : e->tokens[m];
        for (int64_t k = 0; k < K; k++) /* what was never chosen counts as all alike */
            out[m * K + k] = tokens > 0 ? (float)(e->sum[m * K + k] / tokens) : 1;
    }
    *values = out;
    *n = matrices;
    return SR_OK;
}
