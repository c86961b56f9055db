/* GGUF v1 to v3, of either endianness, one file or the numbered pieces of a split one.
 *
 *   "GGUF"  u32 version  u64 n_tensors  u64 n_kv
 *   n_kv times:       string key, u32 type, value
 *   n_tensors times:  string name, u32 n_dims, u64 ne[n_dims] (ne[0] is K), u32 type, u64 offset
 *   padding to general.alignment, then the data; offsets count from here
 *
 * string = u64 length, bytes. array = u32 element type, u64 n, elements. In v1 all counts, lengths and dimensions are
 * u32; offsets are u64 there too.
 *
 * In a big-endian file every number has its bytes in the other order, also those inside blocks, and only the magic has
 * not. Its values are read in order, and its tensors become copies in the arena, once (sr_stored_swap).
 *
 * Source: ggml docs/gguf.md and src/gguf.cpp at commit d99724f2. Unlike ggml, tensors may lie in any order and with
 * holes between them. Every count is compared with what the bytes left could hold before anything is sized by it. */
#include <inttypes.h>
#include <string.h>

#include "base/path.h"
#include "base/utf8.h"
#include "file/inner.h"

enum { T_U8, T_I8, T_U16, T_I16, T_U32, T_I32, T_F32, T_BOOL, T_STRING, T_ARRAY, T_U64, T_I64, T_F64, N_TYPES };

static const struct {
    const char *name;
    sr_kind kind;
    uint8_t bytes; /* 0: of variable size */
} types[N_TYPES] = {
    [T_U8] = {"u8", SR_KIND_U64, 1},
    [T_I8] = {"i8", SR_KIND_I64, 1},
    [T_U16] = {"u16", SR_KIND_U64, 2},
    [T_I16] = {"i16", SR_KIND_I64, 2},
    [T_U32] = {"u32", SR_KIND_U64, 4},
    [T_I32] = {"i32", SR_KIND_I64, 4},
    [T_F32] = {"f32", SR_KIND_F64, 4},
    [T_BOOL] = {"bool", SR_KIND_BOOL, 1},
    [T_STRING] = {"string", SR_KIND_STRING, 0},
    [T_ARRAY] = {"array", SR_KIND_ARRAY, 0},
    [T_U64] = {"u64", SR_KIND_U64, 8},
    [T_I64] = {"i64", SR_KIND_I64, 8},
    [T_F64] = {"f64", SR_KIND_F64, 8},
};

enum { MAX_DIMS = 4 };

/* One file while it is parsed. */
struct piece {
    sr_file *file;
    int shard, first_value, first_part;
    sr_cursor c; /* over at most SR_GGUF_METADATA_CAP bytes */
    const sr_map *map;
    const char *path; /* for messages */
    sr_err *err;
    uint32_t version;
    unsigned size;                                /* bytes of a count, length or dimension: 4 in v1, else 8 */
    int64_t split_no, split_count, split_tensors; /* -1: the key is absent */
};

static uint64_t read_size(struct piece *p) {
    return sr_cursor_uint(&p->c, p->size);
}

static sr_status past_end(const struct piece *p, const char *what) {
    if (p->map->size > SR_GGUF_METADATA_CAP)
        return sr_fail(p->err, SR_LIMIT, "%s: found %s beyond %d bytes of metadata", p->path, sr_show_name(what).text,
                       SR_GGUF_METADATA_CAP);
    return sr_fail(p->err, SR_CORRUPT, "%s: file ends at byte %zu inside %s; it is cut off or its counts are wrong",
                   p->path, p->map->size, sr_show_name(what).text);
}

/* A key or tensor name: copied, zero-terminated. NULL: err is set. */
static const char *read_name(struct piece *p, const char *what) {
    size_t offset = sr_cursor_offset(&p->c);
    uint64_t n = read_size(p);
    if (!p->c.failed && (n == 0 || n > SR_NAME_CAP)) {
        sr_fail(p->err, n == 0 ? SR_CORRUPT : SR_LIMIT,
                "%s: %s at byte %zu: found a name of %" PRIu64 " bytes, expected 1 to %d", p->path, what, offset, n,
                SR_NAME_CAP);
        return NULL;
    }
    const char *text = (const char *)sr_cursor_bytes(&p->c, n);
    if (!text) {
        past_end(p, what);
        return NULL;
    }
    if (memchr(text, 0, (size_t)n) || !sr_utf8_valid(text, (size_t)n)) {
        sr_fail(p->err, SR_CORRUPT, "%s: %s \"%s\" at byte %zu: found a zero byte or bytes that are not UTF-8", p->path,
                what, sr_show(text, (size_t)n).text, offset);
        return NULL;
    }
    const char *copy = sr_arena_strndup(&p->file->arena, text, (size_t)n);
    if (!copy) sr_fail(p->err, SR_NOMEM, "%s: no memory for a name", p->path);
    return copy;
}

/* ---------------------------------------------------------------- values */

static sr_status read_string(struct piece *p, sr_value *v) {
    v->v.s.n = read_size(p);
    v->v.s.text = (const char *)sr_cursor_bytes(&p->c, v->v.s.n);
    if (!v->v.s.text) return past_end(p, v->key);
    size_t n = (size_t)v->v.s.n;
    if (memchr(v->v.s.text, 0, n) || !sr_utf8_valid(v->v.s.text, n))
        return sr_fail(p->err, SR_CORRUPT, "%s: key \"%s\": found a zero byte or bytes that are not UTF-8 in its text",
                       p->path, sr_show_name(v->key).text);
    return SR_OK;
}

/* One load for the length where the cursor's own reader takes eight: a fifth of the instructions of a whole opening. */
static void skip_string(sr_cursor *c) {
    uint64_t n = 0;
    const uint8_t *length = sr_cursor_bytes(c, sizeof n);
    if (length) memcpy(&n, length, sizeof n);
    sr_cursor_bytes(c, n);
}

/* The elements as sr_value has them, little-endian and with lengths of 8 bytes, from those of a file that has them
 * otherwise, which were walked before. */
static sr_status respell(struct piece *p, sr_value *v, const uint8_t *from) {
    unsigned width = v->stored == T_STRING ? p->size : types[v->stored].bytes;
    size_t bytes = (size_t)(p->c.at - from);
    if (v->stored == T_STRING) bytes += (size_t)v->v.a.n * (8 - width);
    uint8_t *to = sr_arena_alloc(&p->file->arena, bytes ? bytes : 1, 1);
    if (!to)
        return sr_fail(p->err, SR_NOMEM, "%s: key \"%s\": no memory for %zu bytes", p->path, sr_show_name(v->key).text,
                       bytes);
    v->v.a.data = to;
    v->v.a.bytes = bytes;
    sr_cursor c = sr_cursor_over(from, (size_t)(p->c.at - from));
    c.swap = p->c.swap;
    for (uint64_t i = 0; i < v->v.a.n; i++) {
        uint64_t u = sr_cursor_uint(&c, width);
        unsigned out = v->stored == T_STRING ? 8 : width;
        for (unsigned b = 0; b < out; b++) *to++ = (uint8_t)(u >> 8 * b);
        if (v->stored != T_STRING || !u) continue;
        memcpy(to, sr_cursor_bytes(&c, u), (size_t)u);
        to += u;
    }
    return SR_OK;
}

/* Token strings may be any bytes, so only the lengths inside an array are checked. */
static sr_status read_array(struct piece *p, sr_value *v) {
    uint32_t type = sr_cursor_u32(&p->c);
    uint64_t n = read_size(p);
    if (p->c.failed) return past_end(p, v->key);
    if (type == T_ARRAY)
        return sr_fail(p->err, SR_UNSUPPORTED, "%s: key \"%s\": found an array of arrays, expected one of plain values",
                       p->path, sr_show_name(v->key).text);
    if (type >= N_TYPES)
        return sr_fail(p->err, SR_CORRUPT, "%s: key \"%s\": found element type %" PRIu32 ", expected 0 to %d", p->path,
                       sr_show_name(v->key).text, type, N_TYPES - 1);
    uint64_t least = type == T_STRING ? p->size : types[type].bytes;
    if (n > sr_cursor_left(&p->c) / least) {
        if (p->map->size > SR_GGUF_METADATA_CAP) return past_end(p, v->key);
        return sr_fail(p->err, SR_CORRUPT, "%s: key \"%s\": found an array of %" PRIu64 " %s, %zu bytes are left",
                       p->path, sr_show_name(v->key).text, n, types[type].name, sr_cursor_left(&p->c));
    }
    v->stored = (uint8_t)type;
    v->v.a.kind = types[type].kind;
    v->v.a.n = n;
    v->v.a.data = p->c.at;
    sr_cursor c = p->c; /* a copy stays in registers: vocabularies are long */
    bool plain = !c.swap && p->size == 8;
    if (type == T_STRING)
        for (uint64_t i = 0; i < n && !c.failed; i++)
            if (plain)
                skip_string(&c);
            else
                sr_cursor_bytes(&c, sr_cursor_uint(&c, p->size));
    else
        sr_cursor_bytes(&c, n * least);
    p->c = c;
    if (p->c.failed) return past_end(p, v->key);
    if (type == T_STRING ? !plain : c.swap && least > 1) return respell(p, v, v->v.a.data);
    v->v.a.bytes = (uint64_t)(p->c.at - v->v.a.data);
    return SR_OK;
}

static sr_status read_scalar(struct piece *p, sr_value *v) {
    unsigned size = types[v->stored].bytes;
    uint64_t u = sr_cursor_uint(&p->c, size), sign = (uint64_t)1 << (8 * size - 1);
    uint32_t u4 = (uint32_t)u;
    float f;
    if (p->c.failed) return past_end(p, v->key);
    switch (v->kind) {
    case SR_KIND_BOOL:
        if (u > 1)
            return sr_fail(p->err, SR_CORRUPT, "%s: key \"%s\": found a bool of value %" PRIu64 ", expected 0 or 1",
                           p->path, sr_show_name(v->key).text, u);
        v->v.b = u == 1;
        break;
    case SR_KIND_F64:
        memcpy(&f, &u4, sizeof f);
        if (size == 4)
            v->v.f = (double)f;
        else
            memcpy(&v->v.f, &u, sizeof u);
        break;
    case SR_KIND_I64:
        u = (u ^ sign) - sign; /* sign extension */
        memcpy(&v->v.i, &u, sizeof u);
        break;
    default:
        v->v.u = u;
    }
    return SR_OK;
}

static sr_status read_value(struct piece *p) {
    const char *key = read_name(p, "metadata key");
    if (!key) return p->err->code;
    uint32_t type = sr_cursor_u32(&p->c);
    if (p->c.failed) return past_end(p, key);
    if (type >= N_TYPES)
        return sr_fail(p->err, SR_CORRUPT, "%s: key \"%s\": found value type %" PRIu32 ", expected 0 to %d", p->path,
                       sr_show_name(key).text, type, N_TYPES - 1);
    sr_value *v = sr_file_add_value(p->file, p->err);
    if (!v) return p->err->code;
    v->key = key;
    v->kind = types[type].kind;
    v->stored = (uint8_t)type;
    return type == T_STRING ? read_string(p, v) : type == T_ARRAY ? read_array(p, v) : read_scalar(p, v);
}

/* Value of this piece, before the tables of names exist. */
static const sr_value *value(const struct piece *p, const char *key) {
    for (int i = p->first_value; i < p->file->n_values; i++)
        if (strcmp(p->file->value[i].key, key) == 0) return &p->file->value[i];
    return NULL;
}

static sr_status read_count(struct piece *p, const char *key, int64_t most, int64_t *out) {
    const sr_value *v = value(p, key);
    *out = -1;
    if (!v) return SR_OK;
    if (v->kind == SR_KIND_U64 && v->v.u <= (uint64_t)most)
        *out = (int64_t)v->v.u;
    else if (v->kind == SR_KIND_I64 && v->v.i >= 0 && v->v.i <= most)
        *out = v->v.i;
    else
        return sr_fail(p->err, SR_CORRUPT, "%s: key \"%s\" of type %s: expected a whole number from 0 to %" PRId64,
                       p->path, key, types[v->stored].name, most);
    return SR_OK;
}

static sr_status read_alignment(struct piece *p, uint64_t *alignment) {
    const sr_value *v = value(p, "general.alignment");
    *alignment = 32;
    if (!v) return SR_OK;
    if (v->kind == SR_KIND_ARRAY || v->stored != T_U32)
        return sr_fail(p->err, SR_CORRUPT, "%s: general.alignment: found type %s, expected u32", p->path,
                       v->kind == SR_KIND_ARRAY ? "array" : types[v->stored].name);
    if (v->v.u == 0 || (v->v.u & (v->v.u - 1)) != 0)
        return sr_fail(p->err, SR_CORRUPT, "%s: general.alignment: found %" PRIu64 ", expected a power of two", p->path,
                       v->v.u);
    *alignment = v->v.u;
    return SR_OK;
}

/* ---------------------------------------------------------------- tensors */

static sr_status read_dims(struct piece *p, sr_part *part) {
    uint32_t n_dims = sr_cursor_u32(&p->c);
    if (p->c.failed) return past_end(p, part->name);
    if (n_dims < 1 || n_dims > MAX_DIMS)
        return sr_fail(p->err, SR_CORRUPT, "%s: tensor \"%s\": found %" PRIu32 " dimensions, expected 1 to %d", p->path,
                       sr_show_name(part->name).text, n_dims, MAX_DIMS);
    part->n_dims = (int)n_dims;
    part->n_elements = 1;
    for (int i = part->n_dims - 1; i >= 0; i--) { /* stored innermost first */
        uint64_t ne = read_size(p);
        if (p->c.failed) return past_end(p, part->name);
        if (ne == 0 || ne > INT64_MAX || !sr_times(part->n_elements, (int64_t)ne, &part->n_elements))
            return sr_fail(p->err, SR_CORRUPT,
                           "%s: tensor \"%s\": found dimension ne[%d] = %" PRIu64
                           ", expected at least 1 and a product below 2^63",
                           p->path, sr_show_name(part->name).text, part->n_dims - 1 - i, ne);
        part->shape[i] = (int64_t)ne;
    }
    return SR_OK;
}

static sr_status read_type(struct piece *p, sr_part *part) {
    uint32_t id = sr_cursor_u32(&p->c);
    if (p->c.failed) return past_end(p, part->name);
    part->type = sr_stored_by_gguf(id);
    if (!part->type) {
        const char *known = sr_stored_not_read(id);
        return sr_fail(p->err, SR_UNSUPPORTED,
                       "%s: tensor \"%s\": found type number %" PRIu32 " (%s), expected one of %s", p->path,
                       sr_show_name(part->name).text, id, known ? known : "unknown",
                       known ? "ggml's current types; convert the model again" : "0 to 42");
    }
    int64_t K = part->shape[part->n_dims - 1];
    if (K % part->type->block != 0)
        return sr_fail(p->err, SR_CORRUPT,
                       "%s: tensor \"%s\": found rows of %" PRId64 ", expected a multiple of %d (%s)", p->path,
                       sr_show_name(part->name).text, K, part->type->block, part->type->name);
    if (!sr_stored_bytes(part->type, part->n_elements, &part->bytes))
        return sr_fail(p->err, SR_CORRUPT, "%s: tensor \"%s\": found %" PRId64 " elements of %s, more than 2^63 bytes",
                       p->path, sr_show_name(part->name).text, part->n_elements, part->type->name);
    return SR_OK;
}

/* Where the data starts is known only behind the last record, so until then part->data is map + offset. */
static sr_status read_tensor(struct piece *p, uint64_t alignment) {
    sr_part *part = sr_file_add_part(p->file, p->err);
    if (!part) return p->err->code;
    part->shard = (uint16_t)p->shard;
    part->name = read_name(p, "tensor");
    if (!part->name) return p->err->code;
    sr_status s = read_dims(p, part);
    if (s == SR_OK) s = read_type(p, part);
    if (s != SR_OK) return s;
    uint64_t offset = sr_cursor_u64(&p->c);
    if (p->c.failed) return past_end(p, part->name);
    if (offset % alignment != 0)
        return sr_fail(p->err, SR_CORRUPT,
                       "%s: tensor \"%s\": found offset %" PRIu64 ", expected a multiple of %" PRIu64, p->path,
                       sr_show_name(part->name).text, offset, alignment);
    if (offset > p->map->size)
        return sr_fail(p->err, SR_CORRUPT,
                       "%s: tensor \"%s\": found offset %" PRIu64 ", past the end of the file (%zu)", p->path,
                       sr_show_name(part->name).text, offset, p->map->size);
    part->data = p->map->data + offset;
    return SR_OK;
}

static sr_status place(struct piece *p, uint64_t alignment) {
    size_t infos = sr_cursor_offset(&p->c), size = p->map->size;
    if (p->first_part == p->file->n_parts) return SR_OK;
    uint64_t start = (infos + alignment - 1) / alignment * alignment; /* both below 2^33: no wrap */
    if (start > size)
        return sr_fail(p->err, SR_CORRUPT,
                       "%s: data starts at byte %" PRIu64 " (general.alignment %" PRIu64
                       "), the file ends at %zu; it is cut off",
                       p->path, start, alignment, size);
    for (int i = p->first_part; i < p->file->n_parts; i++) {
        sr_part *part = &p->file->part[i];
        size_t offset = (size_t)(part->data - p->map->data);
        if (offset > size - start || (uint64_t)part->bytes > size - start - offset)
            return sr_fail(p->err, SR_CORRUPT,
                           "%s: tensor \"%s\": found %" PRId64 " bytes at %" PRIu64
                           ", the file ends at %zu; it is cut off",
                           p->path, sr_show_name(part->name).text, part->bytes, start + offset, size);
        part->data += start;
    }
    return sr_file_check_spans(p->file, p->first_part, p->map->data + start, p->map->data + size, false, p->err);
}

/* ---------------------------------------------------------------- one file */

static sr_status read_header(struct piece *p, uint64_t *n_tensors, uint64_t *n_values) {
    const uint8_t *magic = sr_cursor_bytes(&p->c, 4);
    if (!magic || memcmp(magic, "GGUF", 4) != 0)
        return sr_fail(p->err, SR_CORRUPT, "%s: found the first bytes \"%s\", expected \"GGUF\"", p->path,
                       sr_show((const char *)p->map->data, p->map->size < 4 ? p->map->size : 4).text);
    p->version = sr_cursor_u32(&p->c);
    if (p->c.failed) return past_end(p, "the header");
    if (p->version != 0 && (p->version & 0xffff) == 0) {
        p->c.swap = p->file->shard[p->shard].swapped = true;
        p->version = p->version >> 24 | (p->version >> 8 & 0xff00);
    }
    if (p->version < 1 || p->version > 3)
        return sr_fail(p->err, SR_UNSUPPORTED, "%s: found GGUF version %" PRIu32 ", expected 1 to 3", p->path,
                       p->version);
    p->size = p->version == 1 ? 4 : 8;
    *n_tensors = read_size(p);
    *n_values = read_size(p);
    if (p->c.failed) return past_end(p, "the header");
    size_t left = sr_cursor_left(&p->c);
    uint64_t least_value = p->size + 1 + 4 + 1;                /* key of one byte, type, a value of one byte */
    uint64_t least_tensor = p->size + 1 + 4 + p->size + 4 + 8; /* name of one byte, one dimension */
    if (*n_values > left / least_value || *n_tensors > (left - *n_values * least_value) / least_tensor)
        return sr_fail(p->err, SR_CORRUPT,
                       "%s: found counts of %" PRIu64 " metadata values and %" PRIu64 " tensors, %zu bytes are left",
                       p->path, *n_values, *n_tensors, left);
    return SR_OK;
}

/* Parses file->shard[shard], appending its values and parts; duplicates in it are found here. */
static sr_status parse(struct piece *p) {
    uint64_t n_tensors = 0, n_values = 0, alignment = 0;
    size_t size = p->map->size;
    p->path = sr_show_path(p->file->shard[p->shard].path);
    p->first_value = p->file->n_values;
    p->first_part = p->file->n_parts;
    p->c = sr_cursor_over(p->map->data, size < SR_GGUF_METADATA_CAP ? size : SR_GGUF_METADATA_CAP);
    sr_status s = read_header(p, &n_tensors, &n_values);
    for (uint64_t i = 0; i < n_values && s == SR_OK; i++) s = read_value(p);
    if (s == SR_OK) s = read_alignment(p, &alignment);
    if (s == SR_OK) s = read_count(p, "split.no", SR_MAX_SHARDS, &p->split_no);
    if (s == SR_OK) s = read_count(p, "split.count", SR_MAX_SHARDS, &p->split_count);
    if (s == SR_OK) s = read_count(p, "split.tensors.count", SR_MAX_PARTS, &p->split_tensors);
    for (uint64_t i = 0; i < n_tensors && s == SR_OK; i++) s = read_tensor(p, alignment);
    return s == SR_OK ? place(p, alignment) : s;
}

static const char *container(const struct piece *p) {
    static const char *const names[2][4] = {
        {NULL, "GGUF v1", "GGUF v2", "GGUF v3"},
        {NULL, "GGUF v1, big-endian", "GGUF v2, big-endian", "GGUF v3, big-endian"}};
    return names[p->c.swap][p->version];
}

/* The tensors of big-endian files, once all files are known to be good. */
static sr_status swap_parts(sr_file *file, sr_err *err) {
    for (int i = 0; i < file->n_parts; i++) {
        sr_part *part = &file->part[i];
        const sr_shard *shard = &file->shard[part->shard];
        if (!shard->swapped) continue;
        const char *path = sr_show_path(shard->path);
        uint8_t *copy = sr_arena_alloc(&file->arena, (size_t)part->bytes, 1);
        if (!copy)
            return sr_fail(err, SR_NOMEM, "%s: tensor \"%s\": no memory for its %" PRId64 " bytes in order", path,
                           sr_show_name(part->name).text, part->bytes);
        if (!sr_stored_swap(part->type, part->data, part->bytes, copy))
            return sr_fail(err, SR_UNSUPPORTED,
                           "%s: tensor \"%s\": found %s in a big-endian file, whose order of bytes no program defines; "
                           "convert the model again",
                           path, sr_show_name(part->name).text, part->type->name);
        part->data = copy;
    }
    return SR_OK;
}

/* Keeps the model's values only: those of the first piece without the keys of splitting. */
static void drop_split_keys(sr_file *file) {
    int kept = 0;
    for (int i = 0; i < file->n_values; i++)
        if (strncmp(file->value[i].key, "split.", 6) != 0) file->value[kept++] = file->value[i];
    file->n_values = kept;
}

sr_status sr_gguf_parse_alone(sr_file *file, sr_err *err) {
    struct piece p = {.file = file, .map = &file->shard[0].map, .err = err};
    file->gguf = true;
    file->container = "GGUF";
    sr_status s = parse(&p);
    if (s != SR_OK) return s;
    file->container = container(&p);
    if (p.split_count > 1)
        return sr_fail(err, SR_UNSUPPORTED, "%s: found piece %d of %d, expected a whole model", p.path,
                       (int)p.split_no + 1, (int)p.split_count);
    drop_split_keys(file);
    return swap_parts(file, err);
}

/* ---------------------------------------------------------------- pieces */

static sr_status open_piece(struct piece *p, sr_file *file, const char *path, sr_err *err) {
    sr_status s = sr_file_add_shard(file, path, err);
    if (s != SR_OK) return s;
    int shard = file->n_shards - 1;
    *p = (struct piece){.file = file, .shard = shard, .map = &file->shard[shard].map, .err = err};
    return parse(p);
}

/* Piece `no` (from 1) agrees with the first one about the split; of its values only the first piece's are kept. */
static sr_status check_piece(const struct piece *p, int no, int count, int64_t *n_tensors) {
    if (p->split_no != no - 1 || p->split_count != count)
        return sr_fail(p->err, SR_CORRUPT,
                       "%s: found split.no %" PRId64 " and split.count %" PRId64 ", expected %d and %d by its name",
                       p->path, p->split_no, p->split_count, no - 1, count);
    if (*n_tensors < 0) *n_tensors = p->split_tensors;
    if (p->split_tensors >= 0 && p->split_tensors != *n_tensors)
        return sr_fail(p->err, SR_CORRUPT, "%s: found split.tensors.count %" PRId64 ", an earlier piece has %" PRId64,
                       p->path, p->split_tensors, *n_tensors);
    if (no == 1) return SR_OK;
    struct sr_names names = {0};
    int dup[2], n = p->file->n_values - p->first_value;
    const sr_value *values = n ? &p->file->value[p->first_value] : NULL;
    sr_status s = sr_names_build(&names, values, sizeof *values, n, dup);
    sr_names_free(&names);
    if (s == SR_CORRUPT)
        return sr_fail(p->err, s, "%s: key \"%s\" is there twice", p->path, sr_show_name(values[dup[0]].key).text);
    if (s != SR_OK) return sr_fail(p->err, s, "%s: cannot check %d keys for duplicates", p->path, n);
    p->file->n_values = p->first_value;
    return SR_OK;
}

static void forget_pieces(sr_file *file) {
    for (int i = 0; i < file->n_shards; i++) sr_map_close(&file->shard[i].map);
    file->n_shards = file->n_parts = file->n_values = 0;
}

/* `p` is the piece that was named; the result lists them all in order. */
static sr_status open_split(struct piece *p, const char *path, sr_err *err) {
    sr_file *file = p->file;
    size_t prefix;
    int named, count;
    int64_t n_tensors = -1;
    if (!sr_split_name(path, ".gguf", &prefix, &named, &count))
        return sr_fail(err, SR_CORRUPT,
                       "%s: one of %" PRId64 " pieces, expected a name like model-00001-of-%05" PRId64
                       ".gguf; give all pieces their names back",
                       sr_show_path(path), p->split_count, p->split_count);
    sr_status s = check_piece(p, named, count, &n_tensors);
    if (s == SR_OK && named != 1) forget_pieces(file);
    for (int no = named == 1 ? 2 : 1; no <= count && s == SR_OK; no++) {
        const char *piece = sr_split_path(&file->arena, path, prefix, no, count, ".gguf");
        if (!piece) return sr_fail(err, SR_NOMEM, "%s: no memory to open it", sr_show_path(path));
        if (sr_path_look(piece) == SR_PATH_ABSENT)
            return sr_fail(err, SR_IO, "%s: missing, expected it beside %s, which is one of %d pieces",
                           sr_show_path(piece), sr_path_base(path), count);
        s = open_piece(p, file, piece, err);
        if (s == SR_OK) s = check_piece(p, no, count, &n_tensors);
    }
    if (s == SR_OK && n_tensors >= 0 && n_tensors != file->n_parts)
        s = sr_fail(err, SR_CORRUPT, "%s: found %d tensors in %d pieces, expected %" PRId64 " (split.tensors.count)",
                    sr_show_path(path), file->n_parts, count, n_tensors);
    return s;
}

sr_status sr_gguf_open(sr_file *file, const char *path, sr_err *err) {
    struct piece p = {0};
    file->gguf = true;
    sr_status s = open_piece(&p, file, path, err);
    if (s == SR_OK) file->container = container(&p);
    if (s == SR_OK && p.split_count > 1) s = open_split(&p, path, err);
    if (s != SR_OK) return s;
    drop_split_keys(file);
    s = sr_file_index(file, err);
    return s == SR_OK ? swap_parts(file, err) : s;
}
