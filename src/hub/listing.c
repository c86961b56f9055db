/* The files of a commit.
 *
 * The hub answers .../api/models/NAME/tree/COMMIT?recursive=true with
 *   [{"type":"file","path":P,"size":S,"oid":SHA1,"lfs":{"oid":SHA256,"size":S,...}}, {"type":"directory",...}, ...]
 * and huggingface_hub keeps it as trees/COMMIT.json (huggingface_hub: _tree_cache.py):
 *   {"format_version":1,"files":{P:{"size":S,"blob_id":SHA1,"lfs_sha256":SHA256,"lfs_size":S}, ...}} */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/disk.h"
#include "base/json.h"
#include "base/map.h"
#include "base/path.h"
#include "hub/hub.h"

enum { MOST_FILES = 100000, SHA1_HEX = 40, SHA256_HEX = 64 };

/* ---------------------------------------------------------------- the list */

void sr_hub_list_free(hub_list *l) {
    free(l->at);
    *l = (hub_list){0};
}

hub_file *sr_hub_list_find(const hub_list *l, const char *path) {
    for (int i = 0; i < l->n; i++)
        if (strcmp(l->at[i].path, path) == 0) return &l->at[i];
    return NULL;
}

static sr_status add(hub *h, hub_list *l, const hub_file *f, sr_err *err) {
    if (l->n == MOST_FILES) return sr_fail(err, SR_LIMIT, "%s: found more than %d files", h->repo, MOST_FILES);
    if (l->n == l->cap) {
        int cap = l->cap ? 2 * l->cap : 64;
        hub_file *grown = realloc(l->at, sizeof *grown * (size_t)cap);
        if (!grown) return sr_hub_no_memory(h, err);
        l->at = grown;
        l->cap = cap;
    }
    l->at[l->n++] = *f;
    return SR_OK;
}

/* ---------------------------------------------------------------- reading JSON */

/* What the two shapes say of a file. */
struct entry {
    const char *path;
    int64_t size, lfs_size;
    char sha1[HUB_ETAG], sha256[HUB_ETAG];
    bool is_file, bad;
};

static void take_hex(const sr_json_value *v, size_t want, char to[HUB_ETAG], bool *bad) {
    if (v->kind != SR_JSON_STRING || !sr_hub_is_hex(v->text, v->n, want)) {
        *bad = *bad || v->kind != SR_JSON_NULL;
        return;
    }
    memcpy(to, v->text, want);
    to[want] = 0;
}

static void take_size(const sr_json_value *v, int64_t *size, bool *bad) {
    if (!sr_json_int64(v, size) || *size < 0) *bad = *bad || v->kind != SR_JSON_NULL;
}

/* Of an unsafe path nothing is made on disk: the whole listing is refused. */
static sr_status add_entry(hub *h, hub_list *l, const struct entry *e, const char *where, sr_err *err) {
    hub_file f = {.path = e->path, .size = e->sha256[0] && e->lfs_size >= 0 ? e->lfs_size : e->size};
    if (!e->path || !sr_hub_path_is_safe(e->path))
        return sr_fail(err, SR_CORRUPT, "%s: found the path \"%.80s\", expected one below the model's folder", where,
                       e->path ? e->path : "");
    if (e->bad || f.size < 0 || !e->sha1[0])
        return sr_fail(err, SR_CORRUPT, "%s: found a wrong size or hash for \"%.80s\"", where, e->path);
    strcpy(f.etag, e->sha256[0] ? e->sha256 : e->sha1);
    strcpy(f.oid, e->sha1);
    return add(h, l, &f, err);
}

static const struct entry no_entry = {.size = -1, .lfs_size = -1};

/* Strings with an embedded zero would end early as C texts. */
static const char *take_text(hub *h, sr_json *j, const sr_json_value *v) {
    size_t n;
    const char *s = v->kind == SR_JSON_STRING ? sr_json_string(j, v, &h->arena, &n) : NULL;
    return s && strlen(s) == n ? s : NULL;
}

static sr_status read_hub_entry(hub *h, hub_list *l, sr_json *j, const char *where, sr_err *err) {
    struct entry e = no_entry;
    sr_json_value key, v;
    sr_json_kind kind;
    while ((kind = sr_json_next_pair(j, &key, &v)) != SR_JSON_END && kind != SR_JSON_ERROR) {
        if (sr_json_equals(&key, "type"))
            e.is_file = kind == SR_JSON_STRING && sr_json_equals(&v, "file");
        else if (sr_json_equals(&key, "path"))
            e.path = take_text(h, j, &v);
        else if (sr_json_equals(&key, "size"))
            take_size(&v, &e.size, &e.bad);
        else if (sr_json_equals(&key, "oid"))
            take_hex(&v, SHA1_HEX, e.sha1, &e.bad);
        else if (sr_json_equals(&key, "lfs") && kind == SR_JSON_OBJECT) {
            while ((kind = sr_json_next_pair(j, &key, &v)) != SR_JSON_END && kind != SR_JSON_ERROR) {
                if (sr_json_equals(&key, "oid")) take_hex(&v, SHA256_HEX, e.sha256, &e.bad);
                if (sr_json_equals(&key, "size")) take_size(&v, &e.lfs_size, &e.bad);
                sr_json_skip(j, &v);
            }
            continue; /* the reader has left the object */
        }
        sr_json_skip(j, &v);
    }
    if (j->failed) return err->code;
    return e.is_file ? add_entry(h, l, &e, where, err) : SR_OK;
}

sr_status sr_hub_list_read_page(hub *h, hub_list *l, const char *text, size_t n, const char *where, sr_err *err) {
    sr_json j = sr_json_over(text, n, where, err);
    sr_json_value v;
    sr_json_kind kind = sr_json_next(&j, &v);
    if (kind != SR_JSON_ARRAY && kind != SR_JSON_ERROR)
        return sr_fail(err, SR_CORRUPT, "%s: found no list of files", where);
    while ((kind = sr_json_next(&j, &v)) != SR_JSON_END && kind != SR_JSON_ERROR) {
        if (kind != SR_JSON_OBJECT) return sr_fail(err, SR_CORRUPT, "%s: found no list of files", where);
        sr_status s = read_hub_entry(h, l, &j, where, err);
        if (s != SR_OK) return s;
    }
    return j.failed ? err->code : SR_OK;
}

/* ---------------------------------------------------------------- trees/COMMIT.json */

static const char *tree_path(hub *h) {
    char name[HUB_COMMIT + 8];
    snprintf(name, sizeof name, "%s.json", h->commit);
    return sr_hub_path(h, "trees", name);
}

static sr_status read_cached_entry(hub *h, hub_list *l, sr_json *j, struct entry *e, const char *where, sr_err *err) {
    sr_json_value key, v;
    sr_json_kind kind;
    while ((kind = sr_json_next_pair(j, &key, &v)) != SR_JSON_END && kind != SR_JSON_ERROR) {
        if (sr_json_equals(&key, "size")) take_size(&v, &e->size, &e->bad);
        if (sr_json_equals(&key, "lfs_size")) take_size(&v, &e->lfs_size, &e->bad);
        if (sr_json_equals(&key, "blob_id")) take_hex(&v, SHA1_HEX, e->sha1, &e->bad);
        if (sr_json_equals(&key, "lfs_sha256")) take_hex(&v, SHA256_HEX, e->sha256, &e->bad);
        sr_json_skip(j, &v);
    }
    return j->failed ? err->code : add_entry(h, l, e, where, err);
}

static sr_status read_cached(hub *h, hub_list *l, const char *text, size_t n, const char *where, sr_err *err) {
    sr_json j = sr_json_over(text, n, where, err);
    sr_json_value key, v;
    sr_json_kind kind = sr_json_next(&j, &v);
    int64_t version = 0;
    sr_status s = kind == SR_JSON_OBJECT ? SR_OK : sr_fail(err, SR_CORRUPT, "%s: found no object", where);
    while (s == SR_OK && (kind = sr_json_next_pair(&j, &key, &v)) != SR_JSON_END && kind != SR_JSON_ERROR) {
        if (sr_json_equals(&key, "format_version")) sr_json_int64(&v, &version);
        if (!sr_json_equals(&key, "files") || kind != SR_JSON_OBJECT) {
            sr_json_skip(&j, &v);
            continue;
        }
        while (s == SR_OK && (kind = sr_json_next_pair(&j, &key, &v)) != SR_JSON_END && kind != SR_JSON_ERROR) {
            struct entry e = no_entry;
            e.path = take_text(h, &j, &key);
            s = kind == SR_JSON_OBJECT ? read_cached_entry(h, l, &j, &e, where, err)
                                       : sr_fail(err, SR_CORRUPT, "%s: found no object for a file", where);
        }
    }
    if (s == SR_OK && j.failed) s = err->code;
    if (s == SR_OK && version != 1) s = sr_fail(err, SR_UNSUPPORTED, "%s: found another version than 1", where);
    return s;
}

sr_status sr_hub_list_read_cached(hub *h, hub_list *l, bool *found, sr_err *err) {
    const char *path = tree_path(h);
    char *text;
    size_t n;
    *found = false;
    if (!path) return sr_hub_no_memory(h, err);
    if (sr_path_look(path) != SR_PATH_FILE) return SR_OK;
    /* It only spares a question: one that cannot be read is asked again and written anew. */
    sr_err damage = {0};
    sr_status s = sr_file_read(path, HUB_TEXT_CAP, &text, &n, &damage);
    if (s == SR_OK) s = read_cached(h, l, text, n, path, &damage);
    free(text);
    *found = s == SR_OK;
    if (s != SR_OK) l->n = 0;
    return s == SR_NOMEM ? sr_hub_no_memory(h, err) : SR_OK;
}

/* Appends text[n]; `out` is large enough. */
static char *put_text(char *out, const char *text) {
    *out++ = '"';
    for (; *text; text++) { /* control characters are not in a safe path */
        if (*text == '"') *out++ = '\\';
        *out++ = *text;
    }
    *out++ = '"';
    return out;
}

sr_status sr_hub_list_write_cached(hub *h, const hub_list *l, sr_err *err) {
    static const char head[] = "{\"format_version\": 1, \"files\": {";
    const char *dir = sr_hub_path(h, "trees", NULL), *path = tree_path(h);
    size_t cap = sizeof head + 4;
    for (int i = 0; i < l->n; i++) cap += 2 * strlen(l->at[i].path) + 2 * HUB_ETAG + 160;
    char *text = malloc(cap), *out = text;
    if (!dir || !path || !text) {
        free(text);
        return sr_hub_no_memory(h, err);
    }
    out += snprintf(out, cap, "%s", head);
    for (int i = 0; i < l->n; i++) {
        const hub_file *f = &l->at[i];
        bool lfs = strlen(f->etag) == SHA256_HEX;
        if (i) *out++ = ',';
        out = put_text(out, f->path);
        out += sprintf(out, ": {\"size\": %" PRId64 ", \"blob_id\": \"%s\"", f->size, f->oid);
        if (lfs) out += sprintf(out, ", \"lfs_sha256\": \"%s\", \"lfs_size\": %" PRId64, f->etag, f->size);
        *out++ = '}';
    }
    memcpy(out, "}}", 2);
    out += 2;
    sr_status s = sr_hub_make_inside(h, dir, err);
    if (s == SR_OK) s = sr_disk_put(path, text, (size_t)(out - text), err);
    free(text);
    return s;
}

/* ---------------------------------------------------------------- the snapshot itself */

struct scan {
    hub *hub;
    hub_list *list;
    sr_err *err;
    sr_status status;
};

static bool scan_one(void *ctx, const char *path, int64_t size) {
    struct scan *s = ctx;
    hub_file f = {.path = sr_arena_strndup(&s->hub->arena, path, strlen(path)), .size = size};
    s->status = f.path ? add(s->hub, s->list, &f, s->err) : sr_hub_no_memory(s->hub, s->err);
    return s->status == SR_OK;
}

sr_status sr_hub_list_scan(hub *h, hub_list *l, sr_err *err) {
    struct scan scan = {h, l, err, SR_OK};
    const char *dir = sr_hub_path(h, "snapshots", h->commit);
    if (!dir) return sr_hub_no_memory(h, err);
    sr_status s = sr_disk_walk(dir, scan_one, &scan, err);
    return s == SR_OK ? scan.status : s;
}
