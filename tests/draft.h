/* For tests: a good checkpoint as a draft in memory, whose values and tensors are changed one by one, and which is
 * written again as GGUF or safetensors. */
#ifndef SR_TESTS_DRAFT_H
#define SR_TESTS_DRAFT_H

#include "support.h"

#include "base/random.h"
#include "file/file.h"

enum { DRAFT_VALUES = 64, DRAFT_PARTS = 160 };

struct draft {
    sr_file *from;
    struct draft_value {
        const char *key; /* borrowed; NULL: dropped */
        uint32_t type;
        struct bytes raw; /* as GGUF stores the value */
    } value[DRAFT_VALUES];
    int n_values;
    struct draft_part {
        const char *name; /* borrowed; NULL: dropped */
        const sr_stored *type;
        int n_dims;
        int64_t shape[4];
        struct bytes data;
    } part[DRAFT_PARTS];
    int n_parts;
};

static inline struct bytes draft_raw(const sr_value *v) {
    static const unsigned size[13] = {1, 1, 2, 2, 4, 4, 4, 1, 0, 0, 8, 8, 8};
    struct bytes b = {0};
    if (v->kind == SR_KIND_ARRAY) {
        put_int(&b, v->stored, 4);
        put_int(&b, v->v.a.n, 8);
        put(&b, v->v.a.data, (size_t)v->v.a.bytes);
    } else if (v->kind == SR_KIND_STRING) {
        g_text_n(&b, v->v.s.text, (size_t)v->v.s.n);
    } else if (v->stored == G_F32) {
        float f = (float)v->v.f;
        put(&b, &f, sizeof f);
    } else {
        uint64_t u = v->v.u;
        if (v->kind == SR_KIND_BOOL) u = v->v.b;
        put_int(&b, u, size[v->stored]);
    }
    return b;
}

/* path: a GGUF or safetensors file; of the second kind only the tensors are taken. */
static inline struct draft draft_of(const char *path) {
    struct draft d = {0};
    sr_err err = {0};
    if (sr_file_open(path, NULL, &d.from, &err) != SR_OK) fail_msg("%s", err.msg);
    assert_true(d.from->n_values < DRAFT_VALUES && d.from->n_parts < DRAFT_PARTS);
    for (int i = 0; i < d.from->n_values && d.from->gguf; i++) {
        const sr_value *v = &d.from->value[i];
        d.value[d.n_values++] =
            (struct draft_value){v->key, v->kind == SR_KIND_ARRAY ? G_ARRAY : v->stored, draft_raw(v)};
    }
    for (int i = 0; i < d.from->n_parts; i++) {
        const sr_part *p = &d.from->part[i];
        struct draft_part *to = &d.part[d.n_parts++];
        *to = (struct draft_part){.name = p->name, .type = p->type, .n_dims = p->n_dims};
        memcpy(to->shape, p->shape, sizeof to->shape);
        put(&to->data, p->data, (size_t)p->bytes);
    }
    return d;
}

static inline void draft_close(struct draft *d) {
    for (int i = 0; i < d->n_values; i++) drop(&d->value[i].raw);
    for (int i = 0; i < d->n_parts; i++) drop(&d->part[i].data);
    sr_file_close(d->from);
    *d = (struct draft){0};
}

/* Sets or adds a value; its bytes are appended to what is returned. */
static inline struct bytes *draft_value(struct draft *d, const char *key, uint32_t type) {
    int i = 0;
    while (i < d->n_values && !(d->value[i].key && strcmp(d->value[i].key, key) == 0)) i++;
    assert_true(i < DRAFT_VALUES);
    if (i == d->n_values) d->n_values++;
    drop(&d->value[i].raw);
    d->value[i].key = key;
    d->value[i].type = type;
    return &d->value[i].raw;
}
static inline void draft_int(struct draft *d, const char *key, uint32_t type, uint64_t v, unsigned size) {
    put_int(draft_value(d, key, type), v, size);
}
static inline void draft_f32(struct draft *d, const char *key, float v) {
    put(draft_value(d, key, G_F32), &v, sizeof v);
}
static inline void draft_text(struct draft *d, const char *key, const char *v) {
    g_text(draft_value(d, key, G_STRING), v);
}
static inline void draft_ints(struct draft *d, const char *key, int n, const int32_t *v) {
    struct bytes *raw = draft_value(d, key, G_ARRAY);
    put_int(raw, G_I32, 4);
    put_int(raw, (uint64_t)n, 8);
    for (int i = 0; i < n; i++) put_int(raw, (uint32_t)v[i], 4);
}
static inline void draft_drop_value(struct draft *d, const char *key) {
    draft_value(d, key, G_U8);
    for (int i = 0; i < d->n_values; i++)
        if (d->value[i].key && strcmp(d->value[i].key, key) == 0) d->value[i].key = NULL;
}

static inline struct draft_part *draft_part(struct draft *d, const char *name) {
    for (int i = 0; i < d->n_parts; i++)
        if (d->part[i].name && strcmp(d->part[i].name, name) == 0) return &d->part[i];
    fail_msg("no tensor %s", name);
    return NULL;
}
/* The tensor, added when there is none of this name, becomes zeros of [n][k] (k = 0: of [n]). */
static inline void draft_reshape(struct draft *d, const char *name, const char *type, int64_t n, int64_t k) {
    int i = 0;
    while (i < d->n_parts && !(d->part[i].name && strcmp(d->part[i].name, name) == 0)) i++;
    assert_true(i < DRAFT_PARTS);
    if (i == d->n_parts) d->n_parts++;
    struct draft_part *p = &d->part[i];
    int64_t bytes = 0;
    drop(&p->data);
    *p = (struct draft_part){.name = name, .type = sr_stored_by_name(type), .n_dims = k ? 2 : 1, .shape = {n, k}};
    assert_true(p->type && sr_stored_bytes(p->type, k ? n * k : n, &bytes));
    put_zeros(&p->data, (size_t)bytes);
}

static inline void draft_write_gguf(const struct draft *d, const char *path) {
    struct bytes b = {0};
    uint64_t n_values = 0, n_parts = 0, at = 0;
    for (int i = 0; i < d->n_values; i++) n_values += d->value[i].key != NULL;
    for (int i = 0; i < d->n_parts; i++) n_parts += d->part[i].name != NULL;
    g_header(&b, 3, n_parts, n_values);
    for (int i = 0; i < d->n_values; i++) {
        const struct draft_value *v = &d->value[i];
        if (!v->key) continue;
        g_key(&b, v->key, v->type);
        put(&b, v->raw.data, v->raw.n);
    }
    for (int i = 0; i < d->n_parts; i++) {
        const struct draft_part *p = &d->part[i];
        if (!p->name) continue;
        g_text(&b, p->name);
        put_int(&b, (uint64_t)p->n_dims, 4);
        for (int k = p->n_dims; k > 0; k--) put_int(&b, (uint64_t)p->shape[k - 1], 8);
        put_int(&b, (uint64_t)p->type->gguf_id, 4);
        put_int(&b, at, 8);
        at += (p->data.n + 31) / 32 * 32;
    }
    for (int i = 0; i < d->n_parts; i++) {
        pad_to(&b, 32);
        if (d->part[i].name) put(&b, d->part[i].data.data, d->part[i].data.n);
    }
    pad_to(&b, 32);
    write_file(path, b.data, b.n);
    drop(&b);
}

static inline void draft_write_safetensors(const struct draft *d, const char *path) {
    struct bytes header = {0}, b = {0};
    size_t at = 0;
    put(&header, "{", 1);
    for (int i = 0; i < d->n_parts; i++) {
        const struct draft_part *p = &d->part[i];
        char text[512], shape[96] = "";
        if (!p->name) continue;
        for (int k = 0; k < p->n_dims; k++) {
            size_t used = strlen(shape);
            snprintf(shape + used, sizeof shape - used, "%s%lld", k ? "," : "", (long long)p->shape[k]);
        }
        snprintf(text, sizeof text, "%s\"%s\":{\"dtype\":\"%s\",\"shape\":[%s],\"data_offsets\":[%zu,%zu]}",
                 header.n > 1 ? "," : "", p->name, p->type->st_id, shape, at, at + p->data.n);
        put(&header, text, strlen(text));
        at += p->data.n;
    }
    put(&header, "}", 1);
    put_int(&b, header.n, 8);
    put(&b, header.data, header.n);
    for (int i = 0; i < d->n_parts; i++)
        if (d->part[i].name) put(&b, d->part[i].data.data, d->part[i].data.n);
    write_file(path, b.data, b.n);
    drop(&header);
    drop(&b);
}

/* gpt-oss's experts get any bits, with zeros of both signs, and scales that leave their weights finite. */
static inline void draft_random_blocks(struct draft *d, uint64_t seed) {
    for (int i = 0; i < d->n_parts; i++) {
        const bool scales = strstr(d->part[i].name, "_scales") != NULL;
        for (size_t k = 0; k < d->part[i].data.n && (scales || strstr(d->part[i].name, "_blocks")); k++) {
            const uint8_t bits = (uint8_t)(sr_random(&seed) >> 32);
            d->part[i].data.data[k] = scales ? 100 + bits % 32 : k / 16 % 3 ? bits : bits & 0x99; /* 0, -0, halves */
        }
    }
}

#endif
