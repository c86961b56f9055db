/* What the cache holds, and its removal. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/disk.h"
#include "base/json.h"
#include "base/map.h"
#include "base/path.h"
#include "hub/hub.h"

static const char prefix[] = "models--";

/* ---------------------------------------------------------------- names in a directory, sorted */

struct names {
    char **at;
    int n, cap;
    bool failed;
};

static bool add_name(void *ctx, const char *name) {
    struct names *t = ctx;
    if (t->n == t->cap) {
        int cap = t->cap ? 2 * t->cap : 32;
        char **grown = realloc(t->at, sizeof *grown * (size_t)cap);
        t->failed = !grown;
        if (!grown) return false;
        t->at = grown;
        t->cap = cap;
    }
    char *copy = malloc(strlen(name) + 1);
    t->failed = !copy;
    if (!copy) return false;
    t->at[t->n++] = strcpy(copy, name);
    return true;
}

static bool add_file_name(void *ctx, const char *name, int64_t size) {
    return size < 0 || add_name(ctx, name);
}

static int by_name(const void *a, const void *b) {
    return strcmp(*(char *const *)a, *(char *const *)b);
}

static sr_status end_names(struct names *t, sr_status s, const char *dir, sr_err *err) {
    if (s == SR_OK && t->failed) s = sr_fail(err, SR_NOMEM, "%s: no memory to list it", dir);
    if (t->n > 1) qsort(t->at, (size_t)t->n, sizeof *t->at, by_name);
    return s;
}

static void free_names(struct names *t) {
    for (int i = 0; i < t->n; i++) free(t->at[i]);
    free(t->at);
    *t = (struct names){0};
}

/* ---------------------------------------------------------------- a snapshot */

struct content {
    sr_hub_entry *entry;
    bool gguf, safetensors, pickle;
};

static bool look_at_file(void *ctx, const char *path, int64_t size) {
    struct content *c = ctx;
    c->entry->n_files++;
    c->entry->n_missing += size < 0;
    c->entry->bytes += size > 0 ? size : 0;
    c->gguf = c->gguf || sr_ends_with(path, ".gguf");
    c->safetensors = c->safetensors || sr_ends_with(path, ".safetensors");
    c->pickle = c->pickle || sr_ends_with(path, ".bin") || sr_ends_with(path, ".pt");
    return true;
}

/* quantization_config.quant_method of config.json, or "mlx" for a "quantization" with bits; empty when there is none.
 */
static void find_method(hub *h, const char *snapshot, char *to, size_t cap) {
    enum { CONFIG_CAP = 4 << 20 };
    char *path = sr_path_join(&h->arena, snapshot, "config.json"), *text;
    size_t n;
    *to = 0;
    if (!path || sr_file_read(path, CONFIG_CAP, &text, &n, NULL) != SR_OK) return;
    sr_json j = sr_json_over(text, n, path, NULL);
    sr_json_value key, v;
    sr_json_kind kind = sr_json_next(&j, &v);
    while (kind == SR_JSON_OBJECT && (kind = sr_json_next_pair(&j, &key, &v)) != SR_JSON_END && kind != SR_JSON_ERROR) {
        bool config = sr_json_equals(&key, "quantization_config");
        if (kind == SR_JSON_OBJECT && !config && sr_json_equals(&key, "quantization") && !*to) snprintf(to, cap, "mlx");
        if (kind == SR_JSON_OBJECT && config) {
            while ((kind = sr_json_next_pair(&j, &key, &v)) != SR_JSON_END && kind != SR_JSON_ERROR) {
                if (kind == SR_JSON_STRING && sr_json_equals(&key, "quant_method") && v.n < cap)
                    snprintf(to, cap, "%.*s", (int)v.n, v.text);
                sr_json_skip(&j, &v);
            }
        } else {
            sr_json_skip(&j, &v);
        }
        kind = SR_JSON_OBJECT;
        if (j.failed) break;
    }
    free(text);
}

/* The branch or tag that points to the commit, "main" before others. */
static const char *find_revision(hub *h, const struct names *refs, const char *commit) {
    const char *found = NULL;
    for (int i = 0; i < refs->n; i++) {
        const char *path = sr_hub_path(h, "refs", refs->at[i]);
        char *text;
        size_t n;
        if (!path || sr_file_read(path, 4096, &text, &n, NULL) != SR_OK) continue;
        bool same = n >= HUB_COMMIT && strncmp(text, commit, HUB_COMMIT) == 0;
        free(text);
        if (same && (!found || strcmp(refs->at[i], "main") == 0)) found = refs->at[i];
    }
    return found;
}

/* *go is false once the caller has enough. */
static sr_status list_model(const sr_hub_options *o, const char *folder, sr_hub_entry_fn each, void *user, bool *go,
                            sr_err *err) {
    hub h = {.o = o};
    char name[2 * HUB_NAME];
    struct names snapshots = {0}, refs = {0};
    size_t at = sizeof prefix - 1, n = 0;
    for (; folder[at] && n + 2 < sizeof name; at++) { /* "--" separates organization and model */
        bool between = folder[at] == '-' && folder[at + 1] == '-';
        name[n++] = between ? '/' : folder[at];
        at += between;
    }
    name[n] = 0;
    h.folder = sr_path_join(&h.arena, o->cache, folder);
    const char *dir = h.folder ? sr_hub_path(&h, "snapshots", NULL) : NULL,
               *ref_dir = dir ? sr_hub_path(&h, "refs", NULL) : NULL;
    sr_status s = ref_dir ? SR_OK : sr_fail(err, SR_NOMEM, "%s: no memory", name);
    if (s == SR_OK && sr_path_look(dir) == SR_PATH_DIRECTORY) s = sr_path_list(dir, add_name, &snapshots, err);
    if (s == SR_OK && sr_path_look(ref_dir) == SR_PATH_DIRECTORY) s = sr_disk_walk(ref_dir, add_file_name, &refs, err);
    s = end_names(&snapshots, s, h.folder, err);
    s = end_names(&refs, s, h.folder, err);
    for (int i = 0; i < snapshots.n && s == SR_OK && *go; i++) {
        const char *path = sr_hub_path(&h, "snapshots", snapshots.at[i]);
        char method[32], format[64];
        sr_hub_entry e = {.name = name, .commit = snapshots.at[i], .path = path, .format = format};
        struct content c = {.entry = &e};
        if (!path) s = sr_fail(err, SR_NOMEM, "%s: no memory", name);
        if (!path || !sr_hub_is_hex(snapshots.at[i], strlen(snapshots.at[i]), HUB_COMMIT)) continue;
        s = sr_disk_walk(path, look_at_file, &c, err);
        find_method(&h, path, method, sizeof method);
        snprintf(format, sizeof format, "%s%s%s",
                 c.safetensors ? "safetensors"
                 : c.gguf      ? "gguf"
                 : c.pickle    ? "pickle"
                               : "",
                 *method ? " " : "", method);
        e.revision = find_revision(&h, &refs, snapshots.at[i]);
        if (s == SR_OK) *go = each(user, &e);
    }
    free_names(&snapshots);
    free_names(&refs);
    sr_arena_free(&h.arena);
    return s;
}

sr_status sr_hub_list(const sr_hub_options *o, sr_hub_entry_fn each, void *user, sr_err *err) {
    struct names folders = {0};
    sr_err own = {0};
    bool go = true;
    if (!err) err = &own;
    if (!o->cache || !*o->cache) return sr_fail(err, SR_INVALID, "found no cache folder in the hub's options");
    if (sr_path_look(o->cache) == SR_PATH_ABSENT) return SR_OK;
    sr_status s = end_names(&folders, sr_path_list(o->cache, add_name, &folders, err), o->cache, err);
    for (int i = 0; i < folders.n && s == SR_OK && go; i++)
        if (strncmp(folders.at[i], prefix, sizeof prefix - 1) == 0)
            s = list_model(o, folders.at[i], each, user, &go, err);
    free_names(&folders);
    return s;
}

sr_status sr_hub_delete(const sr_hub_options *o, const char *name, int64_t *bytes, sr_err *err) {
    hub h;
    sr_err own = {0};
    if (!err) err = &own;
    *bytes = 0;
    sr_status s = sr_hub_open(&h, name, o, err);
    if (s == SR_OK && strcmp(h.repo, name) != 0)
        s = sr_fail(err, SR_INVALID, "%s: found a revision; all of them are removed, give organization/model", name);
    if (s == SR_OK && sr_path_look(h.folder) == SR_PATH_ABSENT)
        s = sr_fail(err, SR_INVALID, "%s: not in the cache %.120s; 'sirocco models' lists it", h.repo, o->cache);
    char *locks = s == SR_OK ? sr_path_join(&h.arena, o->cache, ".locks") : NULL;
    if (locks) locks = sr_path_join(&h.arena, locks, sr_path_base(h.folder));
    if (s == SR_OK && !locks) s = sr_hub_no_memory(&h, err);
    if (s == SR_OK) s = sr_disk_remove_tree(h.folder, bytes, err);
    if (s == SR_OK) s = sr_disk_remove_tree(locks, NULL, err);
    sr_hub_close(&h);
    return s;
}
