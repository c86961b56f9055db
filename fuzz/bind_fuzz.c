/* A quantized checkpoint in memory: the text of config.json, a zero byte, then parts, each
 *
 *     its name, a zero byte
 *     u8    its type, an index of `types`
 *     u8    number of dimensions
 *     u16   each dimension, little-endian
 *     ..    its bytes; zeros where the input ends before them
 *
 * Every module must bind or end in an error. What binds is as large as its parts at most, and all of it can be decoded,
 * unpacked and made panels of. Parts lie in memory of their own, so that AddressSanitizer sees a byte too much. */
#include <stdlib.h>

#include "file/inner.h"
#include "fmt/fmt.h"
#include "walk.h"

enum { MOST = 24, MOST_BYTES = 1 << 18 };

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* make_seeds.py has the same list. */
static const char *const types[] = {"u8",  "i8",  "i16", "i32",     "i64",     "u32",     "f16",         "bf16",
                                    "f32", "f64", "u16", "f8_e4m3", "f8_e5m2", "f8_e8m0", "f8_e4m3fnuz", "f8_e5m2fnuz"};
enum { N_TYPES = sizeof types / sizeof *types };

/* One part; false where the input has no more of them. */
static bool read_part(sr_cursor *c, sr_file *file, uint8_t *owned[MOST], sr_err *err) {
    const uint8_t *zero = memchr(c->at, 0, sr_cursor_left(c));
    if (!zero || zero == c->at || file->n_parts == MOST) return false;
    const char *name = (const char *)c->at;
    sr_cursor_bytes(c, (size_t)(zero - c->at) + 1);
    sr_part p = {.name = name, .type = sr_stored_by_name(types[sr_cursor_u8(c) % N_TYPES])};
    p.n_dims = sr_cursor_u8(c) % (SR_MAX_DIMS + 1);
    p.n_elements = 1;
    for (int i = 0; i < p.n_dims; i++) {
        p.shape[i] = sr_cursor_u16(c);
        if (!sr_times(p.n_elements, p.shape[i], &p.n_elements)) return false;
    }
    if (c->failed || !sr_stored_bytes(p.type, p.n_elements, &p.bytes) || p.bytes > MOST_BYTES) return false;
    size_t n = sr_cursor_left(c);
    n = n < (size_t)p.bytes ? n : (size_t)p.bytes;
    uint8_t *copy = calloc(p.bytes ? (size_t)p.bytes : 1, 1);
    sr_part *part = copy ? sr_file_add_part(file, err) : NULL;
    if (!part) {
        free(copy);
        return false;
    }
    if (n) memcpy(copy, sr_cursor_bytes(c, n), n);
    p.data = owned[file->n_parts - 1] = copy;
    *part = p;
    return true;
}

/* Every column once. */
static void check_perm(const sr_weight *w) {
    uint8_t *seen = calloc((size_t)w->K, 1);
    for (int64_t k = 0; seen && k < w->K; k++) {
        PROMISE(w->perm[k] >= 0 && w->perm[k] < w->K && !seen[w->perm[k]]);
        seen[w->perm[k]] = 1;
    }
    free(seen);
}

static void use_row(const sr_weight *w, int64_t row) {
    size_t K = (size_t)w->K, padded = (K + SR_KC - 1) / SR_KC * SR_KC, step = w->fmt->block;
    float *out = malloc(K * sizeof *out);
    if (!out) return;
    w->fmt->decode(w, row, 0, w->K, out);
    w->fmt->decode(w, row, (int64_t)(K - step), (int64_t)step, out);
    free(out);
    if (w->tile != SR_TILE_I8) return;
    for (int panel = 0; panel < 2; panel++) {
        size_t group = (size_t)(panel ? sr_panel_group(w) : w->group), scales = (K + group - 1) / group;
        bool has_min = panel ? sr_panel_has_min(w) : w->fmt->has_min;
        int8_t *code = malloc(panel ? padded : K);
        float *scale = malloc(scales * sizeof *scale), *min = has_min ? malloc(scales * sizeof *min) : NULL;
        if (code && scale && (min || !has_min))
            (panel ? sr_panel_row : w->fmt->unpack)(w, row, 0, w->K, code, scale, min);
        free(code);
        free(scale);
        free(min);
    }
}

static void use(const sr_weight *w) {
    const int g = w->group;
    PROMISE(w->N >= 1 && w->K >= 1 && w->K % w->fmt->block == 0);
    PROMISE(w->K <= INT64_MAX / w->N && w->N * w->K <= 8 * sr_weight_bytes(w));
    PROMISE(w->tile != SR_TILE_I8 || (w->fmt->unpack && g >= SR_KC / SR_MAX_GROUPS && g <= SR_KC && SR_KC % g == 0));
    if (w->perm) check_perm(w);
    use_row(w, 0);
    use_row(w, w->N / 2);
    use_row(w, w->N - 1);
}

static void bind(const sr_file *file, const sr_qconfig *config, const char *module) {
    sr_arena arena = {0};
    sr_weight w, other;
    sr_err err = {0};
    sr_status s = sr_weight_bind(file, config, module, -1, -1, &arena, &w, &err);
    PROMISE(err.code == s && (s == SR_OK) == (err.msg[0] == 0));
    if (s == SR_OK) {
        use(&w);
        PROMISE(sr_weight_bind(file, config, module, w.N, w.K, &arena, &other, NULL) == SR_OK && other.fmt == w.fmt);
        if (sr_weight_bind(file, config, module, w.N, 2 * w.K, &arena, &other, NULL) == SR_OK) use(&other);
        PROMISE(sr_weight_bind(file, config, module, -1, -1, NULL, &other, NULL) == SR_OK);
    }
    sr_arena_free(&arena);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    const uint8_t *zero = size ? memchr(data, 0, size) : NULL;
    sr_file *file = calloc(1, sizeof *file);
    uint8_t *owned[MOST] = {NULL};
    sr_arena arena = {0};
    sr_err err = {0};
    if (file) file->shard = calloc(1, sizeof *file->shard);
    if (zero && file && file->shard) {
        size_t n = (size_t)(zero - data);
        sr_cursor c = sr_cursor_over(zero + 1, size - n - 1);
        file->path = "fuzz";
        file->n_shards = 1;
        file->shard[0] = (sr_shard){.path = "fuzz.safetensors", .borrowed = true};
        if (sr_config_flatten(file, "", (const char *)data, n, "config.json", &err) == SR_OK) {
            sr_qconfig *config;
            while (read_part(&c, file, owned, &err)) continue;
            if (sr_file_index(file, &err) == SR_OK && sr_qconfig_read(file, &arena, &config, &err) == SR_OK)
                for (int i = 0; i < file->n_parts; i++) {
                    char module[256];
                    if (sr_part_module(file->part[i].name, module, sizeof module)) bind(file, config, module);
                }
        }
    }
    for (int i = 0; i < MOST; i++) free(owned[i]);
    sr_arena_free(&arena);
    sr_file_close(file);
    return 0;
}
