/* JSON configuration as flat metadata values: {"a": {"b": 1}} becomes a.b = 1. */
#include <inttypes.h>
#include <math.h>
#include <string.h>

#include "file/inner.h"

enum { KEY_CAP = 1024 };

struct flat {
    sr_file *file;
    sr_json j;
    const char *where;
    sr_err *err;
    char key[KEY_CAP];
    size_t n; /* bytes of the key so far */
};

static sr_status push_key(struct flat *f, const sr_json_value *key) {
    char text[6 * KEY_CAP + 1]; /* a key may be all escapes */
    size_t n;
    if (key->n > 6 * KEY_CAP) return sr_fail(f->err, SR_LIMIT, "%s: found a key of %zu bytes", f->where, key->n);
    if (!sr_json_unescape(&f->j, key, text, &n)) return f->err->code;
    if (memchr(text, 0, n)) return sr_fail(f->err, SR_CORRUPT, "%s: found a key with a zero byte", f->where);
    if (n >= KEY_CAP - f->n)
        return sr_fail(f->err, SR_LIMIT, "%s: found the key \"%s\" behind \"%s\", expected at most %d bytes in all",
                       f->where, sr_show(text, n).text, sr_show(f->key, f->n).text, KEY_CAP - 1);
    memcpy(f->key + f->n, text, n);
    f->n += n;
    return SR_OK;
}

static bool key_is(const struct flat *f, const char *key) {
    return f->n == strlen(key) && memcmp(f->key, key, f->n) == 0;
}

/* A slot for the value of the current key; NULL: err is set. */
static sr_value *add(struct flat *f, sr_kind kind) {
    const char *key = sr_arena_strndup(&f->file->arena, f->key, f->n);
    if (!key) {
        sr_fail(f->err, SR_NOMEM, "%s: no memory for its values", f->where);
        return NULL;
    }
    sr_value *v = sr_file_add_value(f->file, f->err);
    if (v) *v = (sr_value){.key = key, .kind = kind, .stored = 255};
    return v;
}

/* Kind that a JSON scalar has as a value; 0: left out (null). */
static sr_kind kind_of(const sr_json_value *v) {
    int64_t i;
    switch (v->kind) {
    case SR_JSON_BOOL:
        return SR_KIND_BOOL;
    case SR_JSON_STRING:
        return SR_KIND_STRING;
    case SR_JSON_NUMBER:
        if (sr_json_int64(v, &i)) return i < 0 ? SR_KIND_I64 : SR_KIND_U64;
        return SR_KIND_F64;
    default:
        return 0;
    }
}

/* Infinity and what a double cannot hold come out as NaN: no typed read takes it, so the key is not silently absent. */
static double number_of(const sr_json_value *v) {
    double d = (double)NAN;
    sr_json_double(v, &d);
    return d;
}

static sr_status add_text(struct flat *f, const sr_json_value *text) {
    size_t n;
    char *copy = sr_json_string(&f->j, text, &f->file->arena, &n);
    if (!copy) return f->err->code;
    sr_value *v = add(f, SR_KIND_STRING);
    if (!v) return f->err->code;
    v->v.s.text = copy;
    v->v.s.n = n;
    return SR_OK;
}

static sr_status add_scalar(struct flat *f, const sr_json_value *scalar) {
    int64_t i = 0;
    sr_kind kind = kind_of(scalar);
    if (kind == 0) return SR_OK;
    if (kind == SR_KIND_STRING) return add_text(f, scalar);
    sr_value *v = add(f, kind);
    if (!v) return f->err->code;
    if (kind == SR_KIND_BOOL) {
        sr_json_bool(scalar, &v->v.b);
    } else if (kind == SR_KIND_F64) {
        v->v.f = number_of(scalar);
    } else {
        sr_json_int64(scalar, &i);
        if (kind == SR_KIND_U64)
            v->v.u = (uint64_t)i;
        else
            v->v.i = i;
    }
    return SR_OK;
}

/* One kind for two elements: numbers widen, u64 to i64 to f64. 0: they do not mix. */
static sr_kind common(sr_kind a, sr_kind b) {
    bool numbers = a <= SR_KIND_F64 && b <= SR_KIND_F64;
    return a == b ? a : !numbers || !a || !b ? 0 : a > b ? a : b;
}

/* Writes one element as GGUF would store it and returns its bytes. */
static size_t put(struct flat *f, sr_kind kind, const sr_json_value *v, uint8_t *to) {
    bool b = false;
    int64_t i = 0;
    double d;
    size_t n;
    switch (kind) {
    case SR_KIND_BOOL:
        sr_json_bool(v, &b);
        *to = b;
        return 1;
    case SR_KIND_F64:
        d = number_of(v);
        memcpy(to, &d, sizeof d);
        return 8;
    case SR_KIND_STRING:
        sr_json_unescape(&f->j, v, (char *)to + 8, &n); /* its terminating zero is overwritten by what follows */
        for (unsigned k = 0; k < 8; k++) to[k] = (uint8_t)((uint64_t)n >> 8 * k);
        return 8 + n;
    default:
        sr_json_int64(v, &i);
        memcpy(to, &i, sizeof i);
        return 8;
    }
}

/* [{"name": "default", "template": "..."}, ...], the older form of a chat_template. */
static sr_status add_templates(struct flat *f) {
    sr_json_value element, key, v;
    size_t base = f->n;
    for (;;) {
        sr_json_kind kind = sr_json_next(&f->j, &element);
        if (kind == SR_JSON_END) return SR_OK;
        if (kind == SR_JSON_ERROR) return f->err->code;
        if (kind != SR_JSON_OBJECT) {
            sr_json_skip(&f->j, &element);
            continue;
        }
        sr_json_value name = {0}, text = {0};
        while ((kind = sr_json_next_pair(&f->j, &key, &v)) != SR_JSON_END && kind != SR_JSON_ERROR) {
            if (sr_json_equals(&key, "name"))
                name = v;
            else if (sr_json_equals(&key, "template"))
                text = v;
            sr_json_skip(&f->j, &v);
        }
        if (kind == SR_JSON_ERROR) return f->err->code;
        if (name.kind != SR_JSON_STRING || text.kind != SR_JSON_STRING) continue;
        sr_status s = SR_OK;
        if (!sr_json_equals(&name, "default")) {
            if (f->n + 1 < KEY_CAP) f->key[f->n++] = '.';
            s = push_key(f, &name);
        }
        if (s == SR_OK) s = add_text(f, &text);
        f->n = base;
        if (s != SR_OK) return s;
    }
}

static bool is_template(const struct flat *f) {
    return key_is(f, "tokenizer_config.chat_template") || key_is(f, "processor_config.chat_template") ||
           key_is(f, "chat_template_json.chat_template");
}

/* The reader is inside the array. It is walked twice: what is it, then copy it. */
static sr_status add_array(struct flat *f) {
    sr_json again = f->j;
    sr_json_value element;
    sr_json_kind got;
    sr_kind kind = SR_KIND_U64;
    uint64_t n = 0, bytes = 0;
    bool objects = false;
    while ((got = sr_json_next(&f->j, &element)) != SR_JSON_END && got != SR_JSON_ERROR) {
        sr_json_skip(&f->j, &element);
        objects = objects || got == SR_JSON_OBJECT;
        kind = n == 0 ? kind_of(&element) : common(kind, kind_of(&element));
        bytes += kind == SR_KIND_STRING ? 8 + element.n : 8;
        n++;
    }
    if (got == SR_JSON_ERROR) return f->err->code;
    if (objects && is_template(f)) {
        f->j = again;
        return add_templates(f);
    }
    if (n > 0 && kind == 0) return SR_OK;
    uint8_t *data = sr_arena_alloc(&f->file->arena, bytes + 1, 1);
    if (!data) return sr_fail(f->err, SR_NOMEM, "%s: no memory for an array of %" PRIu64, f->where, n);
    size_t at = 0;
    while ((got = sr_json_next(&again, &element)) != SR_JSON_END && got != SR_JSON_ERROR)
        at += put(f, kind, &element, data + at);
    if (f->j.failed) return f->err->code; /* a text that is not UTF-8 */
    sr_value *v = add(f, SR_KIND_ARRAY);
    if (!v) return f->err->code;
    v->v.a.data = data;
    v->v.a.n = n;
    v->v.a.bytes = at;
    v->v.a.kind = kind;
    return SR_OK;
}

/* What is read elsewhere: by the tokenizer the first, the file of that name what config.json may repeat. */
static bool is_left_out(const struct flat *f) {
    return key_is(f, "tokenizer_config.added_tokens_decoder") || key_is(f, "tokenizer_config") ||
           key_is(f, "generation_config") || key_is(f, "processor_config") || key_is(f, "chat_template_json");
}

/* The reader is inside the object. The recursion is bounded by the reader's depth. */
static sr_status add_object(struct flat *f) {
    sr_json_value key, v;
    size_t base = f->n;
    for (;;) {
        sr_json_kind kind = sr_json_next_pair(&f->j, &key, &v);
        if (kind == SR_JSON_END) return SR_OK;
        if (kind == SR_JSON_ERROR) return f->err->code;
        sr_status s = push_key(f, &key);
        if (s != SR_OK) return s;
        if (is_left_out(f)) {
            f->file->added_decoder |= key_is(f, "tokenizer_config.added_tokens_decoder");
            sr_json_skip(&f->j, &v);
        } else if (kind == SR_JSON_OBJECT) {
            if (f->n + 1 >= KEY_CAP) return sr_fail(f->err, SR_LIMIT, "%s: found keys too deep", f->where);
            f->key[f->n++] = '.';
            s = add_object(f);
        } else {
            s = kind == SR_JSON_ARRAY ? add_array(f) : add_scalar(f, &v);
        }
        if (s != SR_OK) return s;
        f->n = base;
    }
}

sr_status sr_config_flatten(sr_file *file, const char *prefix, const char *text, size_t n, const char *where,
                            sr_err *err) {
    struct flat f = {.file = file, .j = sr_json_over(text, n, where, err), .where = where, .err = err};
    sr_json_value top;
    f.n = strlen(prefix);
    memcpy(f.key, prefix, f.n);
    sr_json_kind kind = sr_json_next(&f.j, &top);
    if (kind == SR_JSON_ERROR) return err->code;
    if (kind != SR_JSON_OBJECT) return sr_fail(err, SR_CORRUPT, "%s: found no JSON object at its top", where);
    sr_status s = add_object(&f);
    if (s == SR_OK && !sr_json_at_end(&f.j))
        s = sr_fail(err, SR_CORRUPT, "%s: found text behind the JSON object at byte %zu", where,
                    (size_t)(f.j.at - f.j.base));
    return s;
}
