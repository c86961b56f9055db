/* The public view of a checkpoint's directory. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/utf8.h"
#include "fmt/fmt.h"

struct sr_checkpoint {
    sr_file *file;
    sr_arena arena; /* what is below */
    bool listed;
    sr_matrix_info *matrix;
    int n_matrices;
    bool *in_matrix; /* [n_parts]: a part of one that a format takes */
};

sr_status sr_checkpoint_open(const char *path, const char *format, sr_checkpoint **out, sr_err *err) {
    *out = NULL;
    sr_checkpoint *ck = calloc(1, sizeof *ck);
    if (!ck) return sr_fail(err, SR_NOMEM, "%s: no memory to open it", path);
    sr_status s = sr_file_open(path, &(sr_file_options){.format = format}, &ck->file, err);
    if (s != SR_OK) {
        free(ck);
        return s;
    }
    *out = ck;
    return SR_OK;
}

void sr_checkpoint_close(sr_checkpoint *ck) {
    if (!ck) return;
    sr_file_close(ck->file);
    sr_arena_free(&ck->arena);
    free(ck);
}

int sr_checkpoint_n_tensors(const sr_checkpoint *ck) {
    return ck->file->n_parts;
}

void sr_checkpoint_tensor(const sr_checkpoint *ck, int i, sr_tensor_info *info) {
    const sr_part *part = &ck->file->part[i];
    const sr_shard *shard = &ck->file->shard[part->shard];
    uintptr_t at = (uintptr_t)part->data, map = (uintptr_t)shard->map.data;
    bool in_map = at >= map && at - map <= shard->map.size;
    *info = (sr_tensor_info){.name = part->name,
                             .type = part->type->name,
                             .n_dims = part->n_dims,
                             .n_elements = part->n_elements,
                             .bytes = part->bytes,
                             .file = shard->path,
                             .offset = in_map ? (int64_t)(at - map) : -1,
                             .matrix = ck->in_matrix && ck->in_matrix[i]};
    memcpy(info->shape, part->shape, sizeof info->shape);
}
_Static_assert(sizeof((sr_part *)0)->shape == sizeof((sr_tensor_info *)0)->shape,
               "the public shape holds every part's");

int sr_checkpoint_n_values(const sr_checkpoint *ck) {
    return ck->file->n_values;
}

const char *sr_checkpoint_container(const sr_checkpoint *ck) {
    return ck->file->container;
}

/* ---------------------------------------------------------------- matrices */

enum { MODULE = 512 };

/* A module with a part of two dimensions or more; vectors (norms, biases) are none. */
static bool is_matrix(const sr_parts *parts) {
    for (int i = 0; i < parts->n; i++)
        if (parts->item[i].part->n_dims > 1) return true;
    return false;
}

static void describe(const sr_weight *w, sr_matrix_info *info) {
    bool told = w->fmt->spec.method != NULL; /* by a config; other formats describe themselves */
    info->format = w->fmt->name;
    info->N = w->N;
    info->K = w->K;
    info->group = w->fmt->group ? w->fmt->group : told ? w->spec.group : 0;
    info->symmetric = told ? w->spec.sym : !w->fmt->has_min;
    info->act_order = told && w->spec.act_order;
    info->static_groups = told && w->spec.static_groups;
    info->excluded = w->spec.skip;
    if (told && w->spec.group_n > 1) info->group_n = w->spec.group_n;
}

static void list_matrices(sr_checkpoint *ck) {
    char name[MODULE];
    sr_qconfig *config = NULL;
    sr_err config_err = {0};
    size_t n = (size_t)ck->file->n_parts + 1;
    ck->listed = true;
    sr_qconfig_read(ck->file, &ck->arena, &config, &config_err);
    ck->matrix = sr_arena_alloc(&ck->arena, n, sizeof *ck->matrix);
    ck->in_matrix = sr_arena_alloc(&ck->arena, n, sizeof *ck->in_matrix);
    for (int i = 0; ck->matrix && ck->in_matrix && i < ck->file->n_parts; i++) {
        sr_parts parts;
        const sr_part *part = &ck->file->part[i];
        if (!sr_part_module(part->name, name, sizeof name) || !sr_weight_parts(ck->file, name, &parts)) continue;
        const sr_part *first = NULL; /* each module once: at the earliest of its parts that have a suffix */
        sr_matrix_info *m = &ck->matrix[ck->n_matrices];
        *m = (sr_matrix_info){.group_n = 1};
        for (int p = 0; p < parts.n; p++) {
            const sr_part *own = parts.item[p].part;
            if (strcmp(own->name, name) && (!first || own < first)) first = own;
            m->bytes += parts.item[p].part->bytes;
        }
        if (first != part || !is_matrix(&parts)) continue;
        m->name = sr_arena_strndup(&ck->arena, name, strlen(name));
        if (!m->name) return;
        ck->n_matrices++;
        sr_weight w;
        sr_err err = config_err;
        if (err.code == SR_OK && sr_weight_bind(ck->file, config, name, -1, -1, NULL, &w, &err) == SR_OK) {
            describe(&w, m);
            for (int p = 0; p < parts.n; p++) ck->in_matrix[parts.item[p].part - ck->file->part] = true;
        }
        memcpy(m->why, err.msg, sizeof m->why);
    }
}
_Static_assert(sizeof((sr_err *)0)->msg == sizeof((sr_matrix_info *)0)->why, "a reason holds every message");

int sr_checkpoint_n_matrices(sr_checkpoint *ck) {
    if (!ck->listed) list_matrices(ck);
    return ck->n_matrices;
}

void sr_checkpoint_matrix(sr_checkpoint *ck, int i, sr_matrix_info *info) {
    *info = ck->matrix[i];
}

/* ---------------------------------------------------------------- values as text */

/* Caller's buffer; what does not fit sets `cut`. */
struct out {
    char *text;
    size_t n, cap;
    bool cut;
};

static void put(struct out *o, const char *text, size_t n) {
    if (o->cut || o->cap == 0 || n >= o->cap - o->n) {
        o->cut = true;
        return;
    }
    memcpy(o->text + o->n, text, n);
    o->n += n;
}

static void put_word(struct out *o, const char *word) {
    put(o, word, strlen(word));
}

/* One line: control characters and bytes that are not UTF-8 as escapes. */
static void put_text(struct out *o, const char *text, size_t n) {
    static const char letters[] = "abtnvfr"; /* of 7 to 13 */
    for (size_t i = 0; i < n && !o->cut;) {
        unsigned char c = (unsigned char)text[i];
        unsigned step = sr_utf8_step(text + i, n - i);
        char escape[8];
        if (step > 0 && c >= 0x20 && c != 0x7f)
            put(o, text + i, step);
        else if (c >= 7 && c <= 13)
            put(o, escape, (size_t)snprintf(escape, sizeof escape, "\\%c", letters[c - 7]));
        else
            put(o, escape, (size_t)snprintf(escape, sizeof escape, "\\x%02x", (unsigned)c));
        i += step ? step : 1;
    }
}

static void put_int(struct out *o, int64_t i) {
    char text[24];
    put(o, text, (size_t)snprintf(text, sizeof text, "%" PRId64, i));
}

static void put_float(struct out *o, double d) {
    char text[40];
    put(o, text, (size_t)snprintf(text, sizeof text, "%.7g", d));
}

/* "[32000] "<unk>", "<s>", ..." */
static void put_array(struct out *o, const sr_value *v) {
    sr_array a = sr_array_over(v);
    const char *text;
    size_t n;
    int64_t i;
    double d;
    bool b;
    char count[24];
    put(o, count, (size_t)snprintf(count, sizeof count, "[%" PRIu64 "]", v->v.a.n));
    for (uint64_t k = 0; k < v->v.a.n && !o->cut; k++) {
        put_word(o, k == 0 ? " " : ", ");
        if (v->v.a.kind == SR_KIND_STRING && sr_array_string(&a, &text, &n)) {
            put_word(o, "\"");
            put_text(o, text, n);
            put_word(o, "\"");
        } else if (v->v.a.kind == SR_KIND_BOOL && sr_array_bool(&a, &b)) {
            put_word(o, b ? "true" : "false");
        } else if (v->v.a.kind != SR_KIND_F64 && sr_array_int(&a, &i)) {
            put_int(o, i);
        } else if (sr_array_float(&a, &d)) {
            put_float(o, d);
        } else {
            put_word(o, "?");
            break;
        }
    }
}

/* Ends the text; when it was cut, its last bytes make room for "...". */
static void finish(struct out *o) {
    if (o->cap == 0) return;
    if (o->cut) {
        static const char dots[] = "...";
        size_t m = o->cap - 1 < 3 ? o->cap - 1 : 3;
        if (o->n > o->cap - 1 - m) {
            o->n = o->cap - 1 - m;
            while (o->n > 0 && ((unsigned char)o->text[o->n] & 0xc0) == 0x80) o->n--; /* no half characters */
        }
        memcpy(o->text + o->n, dots, m);
        o->n += m;
    }
    o->text[o->n] = 0;
}

void sr_checkpoint_value(const sr_checkpoint *ck, int i, char *key, size_t key_cap, char *text, size_t text_cap) {
    const sr_value *v = &ck->file->value[i];
    struct out k = {.text = key, .cap = key_cap}, o = {.text = text, .cap = text_cap};
    put_text(&k, v->key, strlen(v->key));
    finish(&k);
    switch (v->kind) {
    case SR_KIND_U64:
        if (v->v.u <= INT64_MAX)
            put_int(&o, (int64_t)v->v.u);
        else
            put_float(&o, (double)v->v.u);
        break;
    case SR_KIND_I64:
        put_int(&o, v->v.i);
        break;
    case SR_KIND_F64:
        put_float(&o, v->v.f);
        break;
    case SR_KIND_BOOL:
        put_word(&o, v->v.b ? "true" : "false");
        break;
    case SR_KIND_STRING:
        put_text(&o, v->v.s.text, (size_t)v->v.s.n);
        break;
    case SR_KIND_ARRAY:
        put_array(&o, v);
        break;
    }
    finish(&o);
}
