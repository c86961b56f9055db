/* From a name to a path: which commit, which files, what is missing. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/disk.h"
#include "base/json.h"
#include "base/log.h"
#include "base/map.h"
#include "base/path.h"
#include "hub/hub.h"

enum { REF_CAP = 4096, MOST_PAGES = 1000 };

static sr_status not_there(const hub *h, const char *what, sr_err *err) {
    return sr_fail(err, SR_IO, "%s: %.60s is not in the cache %.80s; connect and load it once%s", h->repo, what,
                   h->o->cache, h->o->offline ? ", without --offline and HF_HUB_OFFLINE" : "");
}

/* ---------------------------------------------------------------- which commit */

/* What refs/REVISION says; h->commit stays empty when it says nothing. */
static sr_status read_ref(hub *h, sr_err *err) {
    const char *path = sr_hub_path(h, "refs", h->revision);
    char *text;
    size_t n;
    if (!path) return sr_hub_no_memory(h, err);
    if (sr_path_look(path) != SR_PATH_FILE || sr_file_read(path, REF_CAP, &text, &n, NULL) != SR_OK) return SR_OK;
    while (n > 0 && (unsigned char)text[n - 1] <= ' ') n--;
    if (sr_hub_is_hex(text, n, HUB_COMMIT)) memcpy(h->commit, text, HUB_COMMIT);
    free(text);
    return SR_OK;
}

/* After the files are there, so that an unfinished download does not hide the snapshot before it. */
static sr_status write_ref(hub *h, sr_err *err) {
    char known[HUB_COMMIT + 1];
    if (strcmp(h->revision, h->commit) == 0) return SR_OK;
    memcpy(known, h->commit, sizeof known);
    h->commit[0] = 0;
    sr_status s = read_ref(h, err);
    bool same = strcmp(h->commit, known) == 0;
    memcpy(h->commit, known, sizeof known);
    if (s != SR_OK || same) return s;
    const char *path = sr_hub_path(h, "refs", h->revision);
    char *dir = path ? sr_path_dir(&h->arena, path) : NULL;
    if (!dir) return sr_hub_no_memory(h, err);
    s = sr_hub_make_inside(h, dir, err);
    return s == SR_OK ? sr_disk_put(path, h->commit, HUB_COMMIT, err) : s;
}

/* {"sha": COMMIT, ...} */
static sr_status read_commit(hub *h, const char *text, size_t n, const char *where, sr_err *err) {
    sr_json j = sr_json_over(text, n, where, err);
    sr_json_value key, v;
    sr_json_kind kind = sr_json_next(&j, &v);
    bool found = false;
    if (kind == SR_JSON_OBJECT)
        while ((kind = sr_json_next_pair(&j, &key, &v)) != SR_JSON_END && kind != SR_JSON_ERROR) {
            if (sr_json_equals(&key, "sha") && kind == SR_JSON_STRING && sr_hub_is_hex(v.text, v.n, HUB_COMMIT)) {
                memcpy(h->commit, v.text, HUB_COMMIT);
                found = true;
            }
            sr_json_skip(&j, &v);
        }
    if (j.failed) return err->code;
    return found ? SR_OK : sr_fail(err, SR_CORRUPT, "%s: found no commit in the hub's answer", where);
}

static sr_status ask_commit(hub *h, int attempts, sr_err *err) {
    char *text;
    size_t n;
    hub_get g = {.url = sr_hub_url(h, "/api/models/", "/revision/", h->revision, false, ""),
                 .what = sr_hub_what(h, h->revision),
                 .attempts = attempts};
    if (!g.url) return sr_hub_no_memory(h, err);
    sr_status s = sr_hub_fetch_text(h, &g, &text, &n, err);
    if (s == SR_OK) s = read_commit(h, text, n, g.what, err);
    free(text);
    return s;
}

/* Sets h->commit. A branch moves: the hub is asked, and where it cannot be reached, or this build cannot ask, the cache
 * answers. A commit is what it is. */
static sr_status find_commit(hub *h, sr_err *err) {
    if (sr_hub_is_hex(h->revision, strlen(h->revision), HUB_COMMIT)) {
        memcpy(h->commit, h->revision, HUB_COMMIT);
        return SR_OK;
    }
    sr_status s = read_ref(h, err);
    if (s != SR_OK) return s;
    if (h->alone || (!sr_hub_downloads() && h->commit[0])) {
        if (h->commit[0]) return SR_OK;
        return not_there(h, h->revision, err);
    }
    char known[HUB_COMMIT + 1];
    memcpy(known, h->commit, sizeof known);
    sr_err trouble = {0};
    s = ask_commit(h, known[0] ? 2 : 6, &trouble); /* whoever has it waits no minute for a network that is not there */
    if (s == SR_IO && known[0]) {
        memcpy(h->commit, known, sizeof known);
        h->alone = true;
        sr_log(SR_LOG_WARNING, "%s; using what the cache has of %s", trouble.msg, h->revision);
        return SR_OK;
    }
    return s == SR_OK ? s : sr_fail(err, trouble.code, "%s", trouble.msg);
}

/* ---------------------------------------------------------------- which files */

static sr_status ask_listing(hub *h, hub_list *l, sr_err *err) {
    hub_get g = {.url = sr_hub_url(h, "/api/models/", "/tree/", h->commit, false, "?recursive=true&expand=false"),
                 .what = sr_hub_what(h, "list of files"),
                 .attempts = 6};
    sr_status s = g.url ? SR_OK : sr_hub_no_memory(h, err);
    for (int page = 0; s == SR_OK && g.url; page++) {
        char *text;
        size_t n;
        if (page == MOST_PAGES) return sr_fail(err, SR_LIMIT, "%s: more than %d pages", g.what, MOST_PAGES);
        s = sr_hub_fetch_text(h, &g, &text, &n, err);
        if (s == SR_OK) s = sr_hub_list_read_page(h, l, text, n, g.what, err);
        free(text);
        g.url = g.next;
    }
    return s;
}

/* The hub's list of the commit, from the cache where it is there; what the snapshot holds where the hub is not to be
 * asked. *complete: it is the hub's list. */
static sr_status find_files(hub *h, hub_list *l, bool *complete, sr_err *err) {
    sr_status s = sr_hub_list_read_cached(h, l, complete, err);
    if (s != SR_OK || *complete) return s;
    if (h->alone || !sr_hub_downloads()) {
        const char *dir = sr_hub_path(h, "snapshots", h->commit);
        if (!dir) return sr_hub_no_memory(h, err);
        h->scanned = sr_path_look(dir) == SR_PATH_DIRECTORY;
        if (h->scanned) return sr_hub_list_scan(h, l, err);
        if (h->alone) return not_there(h, h->commit, err);
    }
    s = ask_listing(h, l, err);
    *complete = s == SR_OK;
    return s;
}

/* Brings the wanted files, or says which of them is missing. */
static sr_status bring(hub *h, hub_list *l, sr_err *err) {
    if (!h->alone) return sr_hub_download(h, l, err);
    for (int i = 0; i < l->n; i++)
        if (l->at[i].wanted && !sr_hub_is_there(h, &l->at[i])) return not_there(h, l->at[i].path, err);
    return SR_OK;
}

static sr_status bring_all(hub *h, hub_list *l, hub_pick *pick, sr_err *err) {
    char *index = NULL;
    size_t n = 0;
    sr_status s = sr_hub_choose(h, l, pick, err);
    if (s == SR_OK && pick->index) { /* the small files first: one of them says which weights there are */
        s = bring(h, l, err);
        const char *dir = sr_hub_path(h, "snapshots", h->commit);
        char *path = dir ? sr_path_join(&h->arena, dir, pick->index) : NULL;
        if (s == SR_OK) s = path ? sr_file_read(path, HUB_TEXT_CAP, &index, &n, err) : sr_hub_no_memory(h, err);
    }
    if (s == SR_OK) s = sr_hub_choose_weights(h, l, pick, index, n, err);
    free(index);
    return s == SR_OK ? bring(h, l, err) : s;
}

/* ---------------------------------------------------------------- the call */

static sr_status resolve(hub *h, hub_list *l, char *to, size_t cap, sr_err *err) {
    hub_pick pick;
    bool complete;
    sr_status s = find_commit(h, err);
    if (s == SR_OK) s = find_files(h, l, &complete, err);
    if (s == SR_OK) s = bring_all(h, l, &pick, err);
    if (s != SR_OK) return s;
    if (!h->alone && complete) {
        /* Both only spare questions: a cache that cannot be written serves as well. */
        sr_err trouble = {0};
        hub_list known = {0};
        bool has_list = false;
        s = sr_hub_list_read_cached(h, &known, &has_list, &trouble);
        sr_hub_list_free(&known);
        if (s == SR_OK && !has_list) s = sr_hub_list_write_cached(h, l, &trouble);
        if (s == SR_OK) s = write_ref(h, &trouble);
        if (s != SR_OK) sr_log(SR_LOG_WARNING, "%s", trouble.msg);
    }
    const char *dir = sr_hub_path(h, "snapshots", h->commit);
    const char *path = dir && pick.open ? sr_path_join(&h->arena, dir, pick.open) : dir;
    if (!path) return sr_hub_no_memory(h, err);
    if (strlen(path) >= cap) return sr_fail(err, SR_LIMIT, "%s: its path has %zu bytes", h->repo, strlen(path));
    strcpy(to, path);
    return SR_OK;
}

sr_status sr_hub_resolve(const char *name, const sr_hub_options *options, char *path, size_t cap, sr_err *err) {
    hub h;
    hub_list list = {0};
    sr_err own = {0};
    if (!err) err = &own; /* parsers pass its code on */
    sr_status s = sr_hub_open(&h, name, options, err);
    if (s == SR_OK) s = resolve(&h, &list, path, cap, err);
    sr_hub_list_free(&list);
    sr_hub_close(&h);
    return s;
}
