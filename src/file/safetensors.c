/* safetensors: u64 header length, a JSON object, then the data that it describes.
 *
 *   {"name": {"dtype": "BF16", "shape": [N, K], "data_offsets": [begin, end]}, ..., "__metadata__": {"k": "text"}}
 *
 * Offsets count from the byte after the header. The tensors cover the data exactly: no holes, no overlap, nothing
 * behind the last one. Source: safetensors/src/tensor.rs of huggingface/safetensors (Metadata::validate). */
#include <inttypes.h>
#include <string.h>

#include "base/utf8.h"
#include "file/inner.h"

struct header {
    sr_file *file;
    int shard;
    const char *path; /* for messages */
    const uint8_t *data;
    int64_t size; /* of the data */
    sr_err *err;
};

/* "[1, 2]" as whole numbers >= 0. -1: something else; it stays readable JSON unless j->failed. */
static int read_numbers(sr_json *j, const sr_json_value *v, int64_t *out, int cap) {
    sr_json_value one;
    int n = 0;
    if (v->kind != SR_JSON_ARRAY) {
        sr_json_skip(j, v);
        return -1;
    }
    for (;;) {
        sr_json_kind kind = sr_json_next(j, &one);
        if (kind == SR_JSON_END) return n;
        if (kind == SR_JSON_ERROR) return -1;
        if (n == cap || !sr_json_int64(&one, &out[n]) || out[n] < 0) return -1;
        n++;
    }
}

static sr_status bad_entry(const struct header *h, const char *name, const char *what) {
    return sr_fail(h->err, SR_CORRUPT, "%s: tensor \"%s\": found %s", h->path, sr_show_name(name).text, what);
}

static sr_status check_span(const struct header *h, sr_part *part, int64_t begin, int64_t end) {
    int64_t bytes;
    part->n_elements = 1;
    for (int i = 0; i < part->n_dims; i++)
        if (!sr_times(part->n_elements, part->shape[i], &part->n_elements))
            return bad_entry(h, part->name, "a shape whose product does not fit 63 bits");
    if (begin > end || end > h->size)
        return sr_fail(h->err, SR_CORRUPT,
                       "%s: tensor \"%s\": found data_offsets %" PRId64 " to %" PRId64 ", the data is %" PRId64
                       " bytes; the file is cut off or its header is wrong",
                       h->path, sr_show_name(part->name).text, begin, end, h->size);
    if (!sr_stored_bytes(part->type, part->n_elements, &bytes))
        return bad_entry(h, part->name, "a shape whose size is no whole number of bytes below 2^63");
    if (bytes != end - begin)
        return sr_fail(h->err, SR_CORRUPT,
                       "%s: tensor \"%s\": found a span of %" PRId64 " bytes, expected %" PRId64 " (%" PRId64
                       " elements of %s)",
                       h->path, sr_show_name(part->name).text, end - begin, bytes, part->n_elements, part->type->name);
    part->data = h->data + begin;
    part->bytes = bytes;
    return SR_OK;
}

/* One tensor; the reader is inside its object. */
static sr_status read_entry(struct header *h, sr_json *j, const char *name) {
    sr_part *part = sr_file_add_part(h->file, h->err);
    sr_json_value key, v;
    int64_t span[2];
    bool has_shape = false, has_span = false;
    if (!part) return h->err->code;
    part->name = name;
    part->shard = (uint16_t)h->shard;
    for (;;) {
        sr_json_kind kind = sr_json_next_pair(j, &key, &v);
        if (kind == SR_JSON_ERROR) return h->err->code;
        if (kind == SR_JSON_END) break;
        if (sr_json_equals(&key, "dtype")) {
            if (part->type || kind != SR_JSON_STRING)
                return bad_entry(h, name, "a second dtype, or one that is no text");
            part->type = sr_stored_by_st(v.text, v.n);
            if (!part->type)
                return sr_fail(h->err, SR_UNSUPPORTED, "%s: tensor \"%s\": found dtype \"%s\", which is unknown",
                               h->path, sr_show_name(name).text, sr_show(v.text, v.n).text);
        } else if (sr_json_equals(&key, "shape")) {
            part->n_dims = has_shape ? -1 : read_numbers(j, &v, part->shape, SR_MAX_DIMS);
            if (part->n_dims < 0 && !j->failed)
                return bad_entry(h, name, "a shape that is not given once as at most 8 whole numbers");
            has_shape = true;
        } else if (sr_json_equals(&key, "data_offsets")) {
            int n = has_span ? -1 : read_numbers(j, &v, span, 2);
            if (n != 2 && !j->failed)
                return bad_entry(h, name, "data_offsets that are not given once as two whole numbers");
            has_span = true;
        } else {
            sr_json_skip(j, &v);
        }
        if (j->failed) return h->err->code;
    }
    if (!part->type || !has_shape || !has_span)
        return bad_entry(h, name, "no dtype, no shape or no data_offsets, expected all three");
    return check_span(h, part, span[0], span[1]);
}

/* Its texts become values "__metadata__.<key>"; those of a second shard are only checked. */
static sr_status read_metadata(struct header *h, sr_json *j) {
    sr_json_value key, v;
    size_t n, m;
    for (;;) {
        sr_json_kind kind = sr_json_next_pair(j, &key, &v);
        if (kind == SR_JSON_END) return SR_OK;
        if (kind == SR_JSON_ERROR) return h->err->code;
        if (kind != SR_JSON_STRING)
            return sr_fail(h->err, SR_CORRUPT, "%s: __metadata__ \"%s\": found a value that is no text", h->path,
                           sr_show(key.text, key.n).text);
        if (h->shard > 0) continue;
        static const char prefix[] = "__metadata__.";
        char *name = sr_arena_small(&h->file->arena, sizeof prefix + key.n, 1);
        if (!name) return sr_fail(h->err, SR_NOMEM, "%s: no memory for its metadata", h->path);
        memcpy(name, prefix, sizeof prefix - 1);
        char *text = sr_json_string(j, &v, &h->file->arena, &m);
        if (!text || !sr_json_unescape(j, &key, name + sizeof prefix - 1, &n)) return h->err->code;
        if (memchr(name + sizeof prefix - 1, 0, n))
            return sr_fail(h->err, SR_CORRUPT, "%s: __metadata__: found a key with a zero byte", h->path);
        sr_value *value = sr_file_add_value(h->file, h->err);
        if (!value) return h->err->code;
        *value = (sr_value){.key = name, .kind = SR_KIND_STRING, .stored = 255, .v.s = {text, m}};
    }
}

static sr_status read_top(struct header *h, sr_json *j) {
    sr_json_value key, v;
    bool metadata = false;
    sr_json_next(j, &v); /* the '{' that the caller saw */
    for (;;) {
        sr_json_kind kind = sr_json_next_pair(j, &key, &v);
        if (kind == SR_JSON_ERROR) return h->err->code;
        if (kind == SR_JSON_END) break;
        bool is_metadata = sr_json_equals(&key, "__metadata__");
        if (is_metadata && kind == SR_JSON_NULL && !metadata) { /* mlx writes that for none */
            metadata = true;
            continue;
        }
        if (kind != SR_JSON_OBJECT || (is_metadata && metadata))
            return sr_fail(h->err, SR_CORRUPT, "%s: header entry \"%s\": found no object, or a second one", h->path,
                           sr_show(key.text, key.n).text);
        sr_status s;
        if (is_metadata) {
            metadata = true;
            s = read_metadata(h, j);
        } else {
            size_t n;
            if (key.n > 6 * SR_NAME_CAP) /* as long as escapes can make it */
                return sr_fail(h->err, SR_LIMIT, "%s: tensor \"%s\": found a name of %zu bytes, expected at most %d",
                               h->path, sr_show(key.text, key.n).text, key.n, SR_NAME_CAP);
            char *name = sr_json_string(j, &key, &h->file->arena, &n);
            if (!name) return h->err->code;
            if (n == 0 || memchr(name, 0, n))
                return sr_fail(h->err, SR_CORRUPT, "%s: tensor \"%s\": found a name that is empty or has a zero byte",
                               h->path, sr_show(key.text, key.n).text);
            if (n > SR_NAME_CAP)
                return sr_fail(h->err, SR_LIMIT, "%s: tensor \"%s\": found a name of %zu bytes, expected at most %d",
                               h->path, sr_show(key.text, key.n).text, n, SR_NAME_CAP);
            s = read_entry(h, j, name);
        }
        if (s != SR_OK) return s;
    }
    if (!sr_json_at_end(j))
        return sr_fail(h->err, SR_CORRUPT, "%s: found text behind the header's JSON object at byte %zu", h->path,
                       8 + (size_t)(j->at - j->base));
    return SR_OK;
}

sr_status sr_safetensors_parse(sr_file *file, int shard, sr_err *err) {
    const sr_map *map = &file->shard[shard].map;
    sr_cursor c = sr_cursor_over(map->data, map->size);
    struct header h = {.file = file, .shard = shard, .path = sr_show_path(file->shard[shard].path), .err = err};
    int first = file->n_parts;
    uint64_t n = sr_cursor_u64(&c);
    if (c.failed)
        return sr_fail(err, SR_CORRUPT, "%s: found %zu bytes, expected at least the 8 of a header length", h.path,
                       map->size);
    if (n == 0 || n > sr_cursor_left(&c))
        return sr_fail(err, SR_CORRUPT, "%s: found a header of %" PRIu64 " bytes, expected 1 to the %zu that are left",
                       h.path, n, sr_cursor_left(&c));
    if (n > SR_ST_HEADER_CAP)
        return sr_fail(err, SR_LIMIT, "%s: found a header of %" PRIu64 " bytes, expected at most %d", h.path, n,
                       SR_ST_HEADER_CAP);
    const char *text = (const char *)sr_cursor_bytes(&c, n);
    if (text[0] != '{' || !sr_utf8_valid(text, (size_t)n))
        return sr_fail(err, SR_CORRUPT, "%s: found a header that does not start with '{' or is not UTF-8", h.path);
    h.data = c.at;
    h.size = (int64_t)sr_cursor_left(&c);
    sr_json j = sr_json_over(text, (size_t)n, h.path, err);
    sr_status s = read_top(&h, &j);
    return s == SR_OK ? sr_file_check_spans(file, first, h.data, c.end, true, err) : s;
}
