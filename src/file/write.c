/* The heads of GGUF and safetensors files: gguf.c and safetensors.c have the layouts. */
#include <stdlib.h>
#include <string.h>

#include "base/buffer.h"
#include "file/inner.h"

enum { GGUF_ALIGN = 32, ST_ALIGN = 8, T_ARRAY = 9, T_STRING = 8 };

static int64_t align(int64_t at, int64_t to) {
    return (at + to - 1) / to * to;
}

/* ---------------------------------------------------------------- GGUF */

static void put_string(sr_buffer *b, const char *text, size_t n) {
    sr_buffer_uint(b, n, 8);
    sr_buffer_add(b, text, n);
}

/* Bytes of a scalar of a GGUF value type; 0: none. */
static unsigned scalar_bytes(uint8_t type) {
    static const uint8_t bytes[] = {1, 1, 2, 2, 4, 4, 4, 1, 0, 0, 8, 8, 8};
    return type < sizeof bytes ? bytes[type] : 0;
}

static bool put_value(sr_buffer *b, const sr_value *v) {
    const bool array = v->kind == SR_KIND_ARRAY, text = v->kind == SR_KIND_STRING;
    const unsigned bytes = scalar_bytes(v->stored);
    if (v->stored == 255 || (!array && !text && bytes == 0)) return false;
    put_string(b, v->key, strlen(v->key));
    sr_buffer_uint(b, array ? T_ARRAY : text ? T_STRING : v->stored, 4);
    if (array) {
        sr_buffer_uint(b, v->stored, 4);
        sr_buffer_uint(b, v->v.a.n, 8);
        sr_buffer_add(b, v->v.a.data, (size_t)v->v.a.bytes);
    } else if (text)
        put_string(b, v->v.s.text, (size_t)v->v.s.n);
    else if (v->kind == SR_KIND_F64 && bytes == 4) {
        const float f = (float)v->v.f;
        sr_buffer_add(b, &f, sizeof f);
    } else
        sr_buffer_uint(b, v->kind == SR_KIND_BOOL ? v->v.b : v->v.u, bytes);
    return true;
}

static sr_status lay_gguf(sr_content *c, sr_buffer *b, sr_err *err) {
    int64_t at = 0;
    sr_buffer_text(b, "GGUF");
    sr_buffer_uint(b, 3, 4);
    sr_buffer_uint(b, (uint64_t)c->n_parts, 8);
    sr_buffer_uint(b, (uint64_t)c->n_values, 8);
    for (int i = 0; i < c->n_values; i++)
        if (!put_value(b, &c->value[i]))
            return sr_fail(err, SR_INVALID, "the value %s is of no type that GGUF has",
                           sr_show_name(c->value[i].key).text);
    for (int i = 0; i < c->n_parts; i++) {
        const sr_part *p = &c->part[i];
        if (p->type->gguf_id < 0 || p->n_dims < 1 || p->n_dims > 4)
            return sr_fail(err, SR_INVALID, "tensor %s: GGUF holds no %s of %d dimensions", sr_show_name(p->name).text,
                           p->type->name, p->n_dims);
        put_string(b, p->name, strlen(p->name));
        sr_buffer_uint(b, (uint64_t)p->n_dims, 4);
        for (int d = p->n_dims; d-- > 0;) sr_buffer_uint(b, (uint64_t)p->shape[d], 8);
        sr_buffer_uint(b, (uint64_t)p->type->gguf_id, 4);
        sr_buffer_uint(b, (uint64_t)at, 8);
        c->offset[i] = at;
        at = align(at + p->bytes, GGUF_ALIGN);
    }
    static const char zeros[GGUF_ALIGN];
    sr_buffer_add(b, zeros, (size_t)(align((int64_t)b->n, GGUF_ALIGN) - (int64_t)b->n));
    c->size = at;
    return SR_OK;
}

/* ---------------------------------------------------------------- safetensors */

static int element_bytes(const sr_part *p) {
    return p->type->bits || p->type->block > 1 ? 1 : p->type->bytes;
}

static sr_status lay_safetensors(sr_content *c, sr_buffer *b, sr_err *err) {
    int64_t at = 0;
    for (int size = 8; size > 0; size /= 2)
        for (int i = 0; i < c->n_parts; i++)
            if (element_bytes(&c->part[i]) == size) {
                c->offset[i] = at;
                at += c->part[i].bytes;
            }
    sr_buffer_uint(b, 0, 8);
    sr_buffer_text(b, "{\"__metadata__\":{");
    for (int i = 0; i < c->n_values; i++) {
        if (i) sr_buffer_text(b, ",");
        sr_buffer_json(b, c->value[i].key, strlen(c->value[i].key));
        sr_buffer_text(b, ":");
        sr_buffer_json(b, c->value[i].v.s.text, (size_t)c->value[i].v.s.n);
    }
    sr_buffer_text(b, "}");
    for (int i = 0; i < c->n_parts; i++) {
        const sr_part *p = &c->part[i];
        if (!p->type->st_id)
            return sr_fail(err, SR_INVALID, "tensor %s: safetensors holds no %s", sr_show_name(p->name).text,
                           p->type->name);
        sr_buffer_text(b, ",");
        sr_buffer_json(b, p->name, strlen(p->name));
        sr_buffer_text(b, ":{\"dtype\":\"");
        sr_buffer_text(b, p->type->st_id);
        sr_buffer_text(b, "\",\"shape\":[");
        for (int d = 0; d < p->n_dims; d++) {
            if (d) sr_buffer_text(b, ",");
            sr_buffer_int(b, p->shape[d]);
        }
        sr_buffer_text(b, "],\"data_offsets\":[");
        sr_buffer_int(b, c->offset[i]);
        sr_buffer_text(b, ",");
        sr_buffer_int(b, c->offset[i] + p->bytes);
        sr_buffer_text(b, "]}");
    }
    sr_buffer_text(b, "}");
    while (b->n % ST_ALIGN && !b->failed) sr_buffer_text(b, " ");
    for (int i = 0; i < 8 && b->n >= 8; i++) b->at[i] = (char)(uint8_t)((b->n - 8) >> 8 * i);
    c->size = at;
    return SR_OK;
}

sr_status sr_content_lay(sr_content *c, sr_err *err) {
    sr_buffer b = {0};
    c->offset = calloc((size_t)c->n_parts + 1, sizeof *c->offset);
    sr_status s = c->offset ? SR_OK : SR_NOMEM;
    if (s == SR_OK) s = c->gguf ? lay_gguf(c, &b, err) : lay_safetensors(c, &b, err);
    if (s == SR_NOMEM || (s == SR_OK && b.failed)) s = sr_fail(err, SR_NOMEM, "no memory for the head of a file");
    if (s != SR_OK) {
        sr_buffer_free(&b);
        sr_content_free(c);
        return s;
    }
    c->head = (uint8_t *)b.at;
    c->n_head = b.n;
    for (int i = 0; i < c->n_parts; i++) c->offset[i] += (int64_t)b.n;
    c->size += (int64_t)b.n;
    return SR_OK;
}

void sr_content_free(sr_content *c) {
    free(c->head);
    free(c->offset);
    c->head = NULL;
    c->offset = NULL;
}
