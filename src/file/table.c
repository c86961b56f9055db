/* The directory: opening, filling, looking up, typed reads. */
#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/map.h"
#include "base/path.h"
#include "file/inner.h"

/* ---------------------------------------------------------------- opening */

static sr_status create(const char *path, sr_file **file, sr_err *err) {
    *file = calloc(1, sizeof **file);
    if (*file) (*file)->path = sr_arena_strndup(&(*file)->arena, sr_show_path(path), strlen(sr_show_path(path)));
    if (!*file || !(*file)->path) {
        sr_file_close(*file);
        *file = NULL;
        return sr_fail(err, SR_NOMEM, "%s: no memory to open it", sr_show_path(path));
    }
    return SR_OK;
}

void sr_file_close(sr_file *file) {
    if (!file) return;
    for (int i = 0; i < file->n_shards; i++)
        if (!file->shard[i].borrowed) sr_map_close(&file->shard[i].map);
    sr_map_close(&file->tokenizer);
    sr_map_close(&file->merges);
    sr_map_close(&file->tokenizer_config);
    sr_map_close(&file->added_tokens);
    sr_names_free(&file->part_names);
    sr_names_free(&file->value_names);
    free(file->shard);
    free(file->part);
    free(file->value);
    sr_arena_free(&file->arena);
    free(file);
}

enum content { GGUF, GGML, SAFETENSORS, TORCH, OTHER };

static bool starts(const uint8_t *p, size_t n, const char *magic, size_t m) {
    return n >= m && memcmp(p, magic, m) == 0;
}

/* By the first bytes; `what` names other formats that people try. */
static enum content look(const uint8_t *p, size_t n, const char **what) {
    *what = n == 0 ? "an empty file" : "no format that I know";
    if (starts(p, n, "GGUF", 4)) return GGUF;
    if (sr_pickle_is(p, n)) return TORCH;
    if (starts(p, n, "\x80\2", 2)) *what = "a Python pickle, not from torch.save";
    if (starts(p, n, "lmgg", 4) || starts(p, n, "fmgg", 4) || starts(p, n, "tjgg", 4)) return GGML;
    if (starts(p, n, "algg", 4)) *what = "a LoRA adapter (GGLA), which is no model";
    if (starts(p, n, "nsgg", 4)) *what = "a saved session of llama.cpp";
    if (starts(p, n, "version https://git-lfs", 23)) *what = "a Git LFS pointer: the file itself was not downloaded";
    return n > 8 && p[8] == '{' ? SAFETENSORS : OTHER;
}

static sr_status no_gqa(const char *path, sr_err *err) {
    return sr_fail(err, SR_INVALID, "%s: gqa is given, but only a GGML file leaves that open", sr_show_path(path));
}

static sr_status open_by_content(sr_file *file, const char *path, const sr_file_options *o, sr_err *err) {
    const char *what;
    bool plain = o->format && strcmp(o->format, "plain") == 0, gguf = o->format && strcmp(o->format, "gguf") == 0;
    bool ggml = o->format && strcmp(o->format, "ggml") == 0;
    if (o->format && !plain && !gguf && !ggml)
        return sr_fail(err, SR_INVALID, "format \"%s\": expected \"gguf\", \"ggml\" or \"plain\"",
                       sr_show_name(o->format).text);
    if (sr_path_look(path) == SR_PATH_DIRECTORY) {
        if (gguf || ggml)
            return sr_fail(err, SR_INVALID, "%s: found a directory, expected a %s file in it", sr_show_path(path),
                           gguf ? ".gguf" : "GGML");
        if (o->gqa) return no_gqa(path, err);
        return sr_hf_open(file, path, o->no_weights, err);
    }
    sr_map map;
    sr_status s = sr_map_open(path, &map, err);
    if (s != SR_OK) return s;
    enum content content = look(map.data, map.size, &what);
    sr_map_close(&map);
    if (content == OTHER && (gguf || sr_ends_with(path, ".gguf"))) content = GGUF; /* its reader says what is wrong */
    if (content == OTHER && sr_ends_with(path, ".safetensors")) content = SAFETENSORS;
    static const char *const found[] = {"GGUF", "GGML", "safetensors", "PyTorch"};
    enum content kind = content == TORCH ? SAFETENSORS : content; /* "plain" is both */
    if (content != OTHER && o->format && (plain ? SAFETENSORS : gguf ? GGUF : GGML) != kind)
        return sr_fail(err, SR_INVALID, "%s: found a %s file, expected %s (format \"%s\")", sr_show_path(path),
                       found[content],
                       found[plain  ? SAFETENSORS
                             : gguf ? GGUF
                                    : GGML],
                       o->format);
    if (content == GGML) return sr_ggml_open(file, path, o->gqa, err);
    if (o->gqa) return no_gqa(path, err);
    if (content == GGUF) return sr_gguf_open(file, path, err);
    if (content == SAFETENSORS || content == TORCH) return sr_hf_open(file, path, false, err);
    return sr_fail(err, SR_UNSUPPORTED, "%s: found %s, expected GGUF, GGML, safetensors or a model directory",
                   sr_show_path(path), what);
}

sr_status sr_file_open(const char *path, const sr_file_options *options, sr_file **out, sr_err *err) {
    static const sr_file_options defaults = {0};
    const sr_file_options *o = options ? options : &defaults;
    sr_err own = {0}; /* the readers below count on an err */
    sr_file *file;
    if (!err) err = &own;
    *out = NULL;
    sr_status s = create(path, &file, err);
    if (s != SR_OK) return s;
    s = open_by_content(file, path, o, err);
    if (s != SR_OK) {
        sr_file_close(file);
        return s;
    }
    if (o->threads > 0)
        for (int i = 0; i < file->n_shards; i++) sr_map_read_ahead(&file->shard[i].map, o->threads);
    *out = file;
    return SR_OK;
}

static sr_status from_config(const char *name, const char *prefix, const char *text, size_t n, sr_file **out,
                             sr_err *err) {
    sr_file *file;
    sr_status s = create(name, &file, err);
    if (s == SR_OK) s = sr_config_flatten(file, prefix, text, n, sr_show_path(name), err);
    if (s == SR_OK) s = sr_file_index(file, err);
    if (s == SR_OK)
        *out = file;
    else
        sr_file_close(file);
    return s;
}

sr_status sr_file_open_config(const char *path, sr_file **out, sr_err *err) {
    char *text;
    size_t n;
    sr_err own = {0};
    if (!err) err = &own;
    *out = NULL;
    sr_status s = sr_file_read(path, SR_CONFIG_CAP, &text, &n, err);
    if (s != SR_OK) return s;
    s = from_config(path, "tokenizer_config.", text, n, out, err);
    free(text);
    return s;
}

sr_status sr_file_from_config(const char *text, size_t n, const char *name, sr_file **out, sr_err *err) {
    sr_err own = {0};
    *out = NULL;
    return from_config(name, "", text, n, out, err ? err : &own);
}

sr_status sr_file_from_memory(const void *data, size_t n, const char *name, sr_file **out, sr_err *err) {
    const char *what;
    sr_err own = {0};
    sr_file *file;
    if (!err) err = &own;
    *out = NULL;
    sr_status s = create(name, &file, err);
    if (s != SR_OK) return s;
    file->shard = calloc(1, sizeof *file->shard);
    if (file->shard) {
        file->n_shards = 1;
        file->shard[0] = (sr_shard){.path = file->path, .map = {data, n}, .borrowed = true};
        enum content content = look(data, n, &what);
        file->container = "safetensors";
        if (content == GGUF)
            s = sr_gguf_parse_alone(file, err);
        else if (content == GGML)
            s = sr_ggml_parse_alone(file, err);
        else if (content == TORCH)
            s = sr_pickle_parse(file, 0, err);
        else if (content == SAFETENSORS)
            s = (sr_ends_with(name, ".uqff") ? sr_uqff_parse_alone(file, err) : sr_safetensors_parse(file, 0, err));
        else
            s = sr_fail(err, SR_UNSUPPORTED, "%s: found %s, expected GGUF, GGML or safetensors", sr_show_path(name),
                        what);
        if (s == SR_OK) s = sr_file_index(file, err);
    } else {
        s = sr_fail(err, SR_NOMEM, "%s: no memory to open it", sr_show_path(name));
    }
    if (s == SR_OK)
        *out = file;
    else
        sr_file_close(file);
    return s;
}

/* ---------------------------------------------------------------- filling */

/* Makes room for one more item, doubling. */
static sr_status grow(const sr_file *file, void **items, int n, size_t size, int most, const char *what, sr_err *err) {
    if (n >= most) return sr_fail(err, SR_LIMIT, "%s: found more than %d %s", sr_show_path(file->path), most, what);
    if (n != 0 && (n < 16 || (n & (n - 1)) != 0)) return SR_OK; /* room for 16, then for every power of two */
    void *grown = realloc(*items, size * (size_t)(n == 0 ? 16 : 2 * n));
    if (!grown) return sr_fail(err, SR_NOMEM, "%s: no memory for %d %s", sr_show_path(file->path), n + 1, what);
    *items = grown;
    return SR_OK;
}

sr_part *sr_file_add_part(sr_file *file, sr_err *err) {
    void *items = file->part;
    if (grow(file, &items, file->n_parts, sizeof *file->part, SR_MAX_PARTS, "tensors", err) != SR_OK) return NULL;
    file->part = items;
    file->part[file->n_parts] = (sr_part){0};
    return &file->part[file->n_parts++];
}

sr_value *sr_file_add_value(sr_file *file, sr_err *err) {
    void *items = file->value;
    if (grow(file, &items, file->n_values, sizeof *file->value, SR_MAX_VALUES, "metadata values", err) != SR_OK)
        return NULL;
    file->value = items;
    file->value[file->n_values] = (sr_value){0};
    return &file->value[file->n_values++];
}

sr_status sr_file_add_shard(sr_file *file, const char *path, sr_err *err) {
    void *items = file->shard;
    sr_shard shard = {.path = sr_arena_strndup(&file->arena, path, strlen(path))};
    if (!shard.path) return sr_fail(err, SR_NOMEM, "%s: no memory to open it", sr_show_path(path));
    sr_status s = grow(file, &items, file->n_shards, sizeof *file->shard, SR_MAX_SHARDS, "files", err);
    if (s != SR_OK) return s;
    file->shard = items;
    s = sr_map_open(path, &shard.map, err);
    if (s == SR_OK) file->shard[file->n_shards++] = shard;
    return s;
}

sr_status sr_file_index(sr_file *file, sr_err *err) {
    int dup[2];
    const char *path = sr_show_path(file->path);
    sr_status s = sr_names_build(&file->part_names, file->part, sizeof *file->part, file->n_parts, dup);
    if (s == SR_CORRUPT) {
        const sr_part *a = &file->part[dup[0]], *b = &file->part[dup[1]];
        sr_shown name = sr_show_name(a->name);
        if (a->shard == b->shard)
            return sr_fail(err, s, "%s: tensor \"%s\" is there twice", sr_show_path(file->shard[a->shard].path),
                           name.text);
        return sr_fail(err, s, "tensor \"%s\" is in two files, %s and %s", name.text,
                       sr_path_base(file->shard[a->shard].path), sr_path_base(file->shard[b->shard].path));
    }
    if (s == SR_OK) s = sr_names_build(&file->value_names, file->value, sizeof *file->value, file->n_values, dup);
    if (s == SR_CORRUPT) {
        const char *key = file->value[dup[0]].key;
        return sr_fail(err, s, "%s: key \"%s\" is there twice", path, sr_show_name(key).text);
    }
    if (s == SR_LIMIT) return sr_fail(err, s, "%s: too many names have the same hash; the file is hostile", path);
    return s == SR_OK ? s : sr_fail(err, s, "%s: no memory for %d names", path, file->n_parts + file->n_values);
}

struct span {
    const uint8_t *from, *to;
    int part;
};

static int by_start(const void *x, const void *y) {
    const struct span *a = x, *b = y;
    if (a->from != b->from) return a->from < b->from ? -1 : 1;
    if (a->to != b->to) return a->to < b->to ? -1 : 1;
    return a->part - b->part;
}

sr_status sr_file_check_spans(const sr_file *file, int first, const uint8_t *data, const uint8_t *end, bool dense,
                              sr_err *err) {
    int n = file->n_parts - first;
    bool sorted = true;
    if (n == 0 && !(dense && data != end)) return SR_OK;
    const char *path = sr_show_path(file->shard[n ? file->part[first].shard : file->n_shards - 1].path);
    struct span *span = malloc(sizeof *span * (size_t)(n + 1));
    if (!span) return sr_fail(err, SR_NOMEM, "%s: no memory to check %d tensors", path, n);
    for (int i = 0; i < n; i++) {
        const sr_part *p = &file->part[first + i];
        span[i] = (struct span){p->data, p->data + p->bytes, first + i};
        sorted = sorted && (i == 0 || by_start(&span[i - 1], &span[i]) < 0);
    }
    if (!sorted) qsort(span, (size_t)n, sizeof *span, by_start);
    span[n] = (struct span){end, end, -1};
    sr_status s = SR_OK;
    const uint8_t *at = data;
    for (int i = 0; i <= n && s == SR_OK; at = span[i++].to) {
        const char *name = span[i].part < 0 ? "the end of the file" : file->part[span[i].part].name;
        if (span[i].from < at) {
            const char *before = file->part[span[i - 1].part].name;
            s = sr_fail(err, SR_CORRUPT, "%s: tensor \"%s\" at offset %td overlaps \"%s\", which ends at %td", path,
                        sr_show_name(name).text, span[i].from - data, sr_show_name(before).text, at - data);
        } else if (dense && span[i].from > at) {
            s = sr_fail(err, SR_CORRUPT, "%s: found %td bytes of no tensor at offset %td before %s, expected none",
                        path, span[i].from - at, at - data, sr_show_name(name).text);
        }
    }
    free(span);
    return s;
}

/* ---------------------------------------------------------------- looking up */

const sr_part *sr_file_part(const sr_file *file, const char *name) {
    int i = sr_names_find(&file->part_names, file->part, sizeof *file->part, name);
    return i < 0 ? NULL : &file->part[i];
}

const sr_value *sr_file_value(const sr_file *file, const char *key) {
    int i = sr_names_find(&file->value_names, file->value, sizeof *file->value, key);
    return i < 0 ? NULL : &file->value[i];
}

static bool mismatch(const sr_file *file, const sr_value *v, const char *expected, sr_err *err) {
    const char *path = sr_show_path(file->path);
    sr_shown shown = sr_show_name(v->key);
    const char *key = shown.text;
    switch (v->kind) {
    case SR_KIND_U64:
        sr_fail(err, SR_CORRUPT, "%s: key \"%s\": found %" PRIu64 ", expected %s", path, key, v->v.u, expected);
        break;
    case SR_KIND_I64:
        sr_fail(err, SR_CORRUPT, "%s: key \"%s\": found %" PRId64 ", expected %s", path, key, v->v.i, expected);
        break;
    case SR_KIND_F64:
        sr_fail(err, SR_CORRUPT, "%s: key \"%s\": found %g, expected %s", path, key, v->v.f, expected);
        break;
    case SR_KIND_BOOL:
        sr_fail(err, SR_CORRUPT, "%s: key \"%s\": found %s, expected %s", path, key, v->v.b ? "true" : "false",
                expected);
        break;
    case SR_KIND_STRING:
        sr_fail(err, SR_CORRUPT, "%s: key \"%s\": found the text \"%s\", expected %s", path, key,
                sr_show(v->v.s.text, v->v.s.n < 40 ? (size_t)v->v.s.n : 40).text, expected);
        break;
    case SR_KIND_ARRAY:
        sr_fail(err, SR_CORRUPT, "%s: key \"%s\": found an array of %" PRIu64 ", expected %s", path, key, v->v.a.n,
                expected);
        break;
    }
    return false;
}

/* A number as int64; false when it has a fraction or does not fit. */
static bool whole(const sr_value *v, int64_t *out) {
    if (v->kind == SR_KIND_I64 || (v->kind == SR_KIND_U64 && v->v.u <= INT64_MAX)) {
        *out = v->kind == SR_KIND_I64 ? v->v.i : (int64_t)v->v.u;
        return true;
    }
    if (v->kind != SR_KIND_F64 || !(fabs(v->v.f) <= 0x1p53) || v->v.f != floor(v->v.f)) return false;
    *out = (int64_t)v->v.f;
    return true;
}

bool sr_value_int(const sr_file *file, const char *key, int64_t lo, int64_t hi, int64_t *out, sr_err *err) {
    const sr_value *v = sr_file_value(file, key);
    int64_t i;
    if (!v) return false;
    if (whole(v, &i) && i >= lo && i <= hi) {
        *out = i;
        return true;
    }
    sr_err expected = {0}; /* a scratch line for the range */
    sr_fail(&expected, SR_CORRUPT, "a whole number from %" PRId64 " to %" PRId64, lo, hi);
    return mismatch(file, v, expected.msg, err);
}

bool sr_value_float(const sr_file *file, const char *key, double *out, sr_err *err) {
    const sr_value *v = sr_file_value(file, key);
    if (!v) return false;
    double d = v->kind == SR_KIND_F64   ? v->v.f
               : v->kind == SR_KIND_U64 ? (double)v->v.u
               : v->kind == SR_KIND_I64 ? (double)v->v.i
                                        : (double)NAN;
    if (!isfinite(d)) return mismatch(file, v, "a finite number", err);
    *out = d;
    return true;
}

bool sr_value_bool(const sr_file *file, const char *key, bool *out, sr_err *err) {
    const sr_value *v = sr_file_value(file, key);
    if (!v) return false;
    if (v->kind != SR_KIND_BOOL) return mismatch(file, v, "true or false", err);
    *out = v->v.b;
    return true;
}

bool sr_value_string(const sr_file *file, const char *key, const char **text, size_t *n, sr_err *err) {
    const sr_value *v = sr_file_value(file, key);
    if (!v) return false;
    if (v->kind != SR_KIND_STRING) return mismatch(file, v, "a text", err);
    *text = v->v.s.text;
    *n = (size_t)v->v.s.n;
    return true;
}

/* ---------------------------------------------------------------- walking arrays */

sr_array sr_array_over(const sr_value *v) {
    sr_array a = {.value = v};
    if (v && v->kind == SR_KIND_ARRAY)
        a.cursor = sr_cursor_over(v->v.a.data, (size_t)v->v.a.bytes);
    else
        a.value = NULL;
    return a;
}

static bool at_kind(sr_array *a, sr_kind kind) {
    if (!a->value || a->index == a->value->v.a.n || a->value->v.a.kind != kind) return false;
    a->index++;
    return true;
}

/* Bytes of an element that is a number. */
static unsigned width(const sr_value *v) {
    static const uint8_t gguf[13] = {1, 1, 2, 2, 4, 4, 4, 1, 0, 0, 8, 8, 8};
    return v->stored < sizeof gguf ? gguf[v->stored] : v->v.a.kind == SR_KIND_BOOL ? 1 : 8;
}

static int64_t sign_extend(uint64_t u, unsigned bytes) {
    uint64_t sign = (uint64_t)1 << (8 * bytes - 1);
    u = (u ^ sign) - sign;
    int64_t i;
    memcpy(&i, &u, sizeof i);
    return i;
}

bool sr_array_string(sr_array *a, const char **text, size_t *n) {
    if (!at_kind(a, SR_KIND_STRING)) return false;
    uint64_t len = sr_cursor_u64(&a->cursor);
    const uint8_t *p = sr_cursor_bytes(&a->cursor, len);
    *text = (const char *)p;
    *n = p ? (size_t)len : 0;
    return p != NULL;
}

bool sr_array_int(sr_array *a, int64_t *out) {
    if (at_kind(a, SR_KIND_I64)) {
        unsigned size = width(a->value);
        *out = sign_extend(sr_cursor_uint(&a->cursor, size), size);
        return true;
    }
    if (!at_kind(a, SR_KIND_U64)) return false;
    uint64_t u = sr_cursor_uint(&a->cursor, width(a->value));
    if (u > INT64_MAX) {
        a->index = a->value->v.a.n;
        return false;
    }
    *out = (int64_t)u;
    return true;
}

bool sr_array_float(sr_array *a, double *out) {
    if (at_kind(a, SR_KIND_F64)) {
        unsigned size = width(a->value);
        uint64_t u = sr_cursor_uint(&a->cursor, size);
        if (size == 4) {
            uint32_t u4 = (uint32_t)u;
            float f;
            memcpy(&f, &u4, sizeof f);
            *out = (double)f;
        } else {
            memcpy(out, &u, sizeof *out);
        }
        return true;
    }
    if (at_kind(a, SR_KIND_U64)) {
        *out = (double)sr_cursor_uint(&a->cursor, width(a->value));
        return true;
    }
    int64_t i;
    if (!sr_array_int(a, &i)) return false;
    *out = (double)i;
    return true;
}

bool sr_array_bool(sr_array *a, bool *out) {
    if (!at_kind(a, SR_KIND_BOOL)) return false;
    *out = sr_cursor_u8(&a->cursor) != 0;
    return true;
}
