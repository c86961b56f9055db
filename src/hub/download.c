/* A file into the cache: what came so far is continued, the whole is verified, and only then has it a name.
 *
 * blobs/ETAG.incomplete grows under the lock of its ETAG. Its beginning may be of an earlier call: the hash covers it,
 * and tells when it was something else. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/digest.h"
#include "base/disk.h"
#include "base/map.h"
#include "base/path.h"
#include "hub/hub.h"

/* A transfer's file. */
struct blob {
    hub *hub;
    hub_file *file;
    const char *path, *incomplete, *lock_path;
    sr_lock lock;
    sr_sink sink;
    sr_digest digest;
    int64_t planned; /* bytes that to_fetch counts for it */
    bool mismatched; /* once already */
    bool fresh;      /* made by this call */
    bool copied;     /* its places in the snapshot are copies */
};

/* ---------------------------------------------------------------- places in the snapshot */

static const char *snapshot_path(hub *h, const char *path) {
    const char *dir = sr_hub_path(h, "snapshots", h->commit);
    return dir ? sr_path_join(&h->arena, dir, path) : NULL;
}

bool sr_hub_is_there(hub *h, const hub_file *f) {
    const char *path = snapshot_path(h, f->path);
    /* A link that leads out of the cache is somebody's trick or another tool's: it is replaced, not followed. */
    return path && f->size >= 0 && sr_disk_size(path) == f->size && sr_disk_inside(path, h->o->cache);
}

sr_status sr_hub_make_inside(hub *h, const char *dir, sr_err *err) {
    size_t top = strlen(h->folder);
    char *part = sr_arena_strndup(&h->arena, dir, strlen(dir));
    if (!part) return sr_hub_no_memory(h, err);
    sr_status s = sr_disk_make(h->folder, err);
    /* From the top down, so that nothing is made behind a link. */
    for (size_t i = top; s == SR_OK && dir[i]; i++) {
        if (dir[i + 1] && dir[i + 1] != '/') continue;
        part[i + 1] = 0;
        s = sr_disk_make(part, err);
        if (s == SR_OK && !sr_disk_inside(part, h->folder))
            s = sr_fail(err, SR_IO, "%s: leads out of the model's folder in the cache; remove the link", part);
        part[i + 1] = dir[i + 1];
    }
    return s;
}

/* Gives a blob its place: a relative link, or a copy where there are no links. */
static sr_status give_place(hub *h, struct blob *b, sr_err *err) {
    const hub_file *f = b->file;
    char target[3 * 64 + 16 + HUB_ETAG];
    const char *path = snapshot_path(h, f->path);
    char *dir = path ? sr_path_dir(&h->arena, path) : NULL;
    if (!dir) return sr_hub_no_memory(h, err);
    sr_status s = sr_hub_make_inside(h, dir, err);
    if (s != SR_OK) return s;
    size_t n = 0;
    int levels = 2;
    for (const char *at = f->path; *at; at++) levels += *at == '/';
    if (levels > 64) return sr_fail(err, SR_LIMIT, "%s: %.80s lies too deep", h->repo, f->path);
    for (int i = 0; i < levels; i++) n += (size_t)snprintf(target + n, sizeof target - n, "../");
    snprintf(target + n, sizeof target - n, "blobs/%s", f->etag);
    bool linked = false;
    if (!h->o->copies) s = sr_disk_link(path, target, &linked, err);
    b->copied = !linked;
    return s == SR_OK && !linked ? sr_disk_copy(b->path, path, err) : s;
}

/* ---------------------------------------------------------------- the transfer's drain */

/* Git names a content by the SHA-1 of "blob SIZE", a zero, and the content. */
static sr_digest begin_digest(const hub_file *f) {
    if (strlen(f->etag) == 64) return sr_sha256();
    sr_digest d = sr_sha1();
    char head[32];
    sr_digest_add(&d, head, (size_t)snprintf(head, sizeof head, "blob %" PRId64, f->size) + 1);
    return d;
}

/* Takes what is there into the digest. */
static sr_status add_incomplete(struct blob *b, sr_err *err) {
    enum { PORTION = 16 << 20 };
    sr_map map;
    sr_status s = sr_map_open(b->incomplete, &map, err);
    if (s != SR_OK) return s;
    for (size_t at = 0; at < map.size && s == SR_OK; at += PORTION) {
        sr_digest_add(&b->digest, map.data + at, map.size - at < PORTION ? map.size - at : PORTION);
        if (!sr_hub_tell(b->hub)) s = sr_fail(err, SR_CANCELLED, "%s: cancelled", b->hub->repo);
    }
    sr_map_close(&map);
    return s;
}

static sr_status close_blob(struct blob *b, bool keep, sr_err *err) {
    sr_status s = sr_sink_close(&b->sink, b->incomplete, keep, err);
    sr_lock_drop(&b->lock);
    return s;
}

static sr_status drain_open(hub_get *g, int64_t *from, bool *busy, bool *done, sr_err *err) {
    struct blob *b = g->ctx;
    *busy = *done = false;
    sr_status s = sr_lock_try(b->lock_path, &b->lock, err);
    if (s != SR_OK) return s;
    if (b->lock.fd < 0) {
        *busy = true;
        return SR_OK;
    }
    int64_t size = sr_disk_size(b->path);
    if (size == b->file->size) { /* another process, or another file with the same content, has brought it */
        b->hub->to_fetch -= b->planned;
        *done = true;
        return close_blob(b, false, err);
    }
    if (size >= 0) s = sr_disk_remove(b->path, err); /* damaged: a blob has its whole size from the start */
    if (s == SR_OK) s = sr_sink_open(b->incomplete, &b->sink, err);
    if (s != SR_OK) {
        sr_lock_drop(&b->lock);
        return s;
    }
    if (b->sink.size > b->file->size) s = sr_sink_clear(&b->sink, b->incomplete, err);
    b->digest = begin_digest(b->file);
    if (s == SR_OK && b->sink.size > 0) s = add_incomplete(b, err);
    *from = b->sink.size;
    if (s != SR_OK) close_blob(b, false, NULL);
    return s;
}

static sr_status drain_clear(hub_get *g, sr_err *err) {
    struct blob *b = g->ctx;
    b->hub->to_fetch += b->sink.size;
    b->digest = begin_digest(b->file);
    return sr_sink_clear(&b->sink, b->incomplete, err);
}

static sr_status drain_write(hub_get *g, const char *data, size_t n, sr_err *err) {
    struct blob *b = g->ctx;
    sr_status s = sr_sink_write(&b->sink, b->incomplete, data, n, err);
    if (s != SR_OK) return s;
    sr_digest_add(&b->digest, data, n);
    b->hub->fetched += (int64_t)n;
    return SR_OK;
}

static sr_status drain_close(hub_get *g, bool whole, bool *again, sr_err *err) {
    struct blob *b = g->ctx;
    char hex[SR_DIGEST_HEX];
    *again = false;
    if (!whole) return close_blob(b, false, err);
    sr_digest_hex(&b->digest, hex);
    if (strcmp(hex, b->file->etag) != 0) {
        /* What came first may be damaged, or be of another file: once from the start, before it is an error. */
        sr_status s = drain_clear(g, err);
        if (s == SR_OK) s = close_blob(b, false, err);
        sr_disk_remove(b->incomplete, NULL);
        *again = !b->mismatched;
        b->mismatched = true;
        if (s != SR_OK || *again) return s;
        return sr_fail(err, SR_CORRUPT,
                       "%s: found the hash %.12s..., expected %.12s...; the server sends something "
                       "else than it lists",
                       g->what, hex, b->file->etag);
    }
    /* The name is given under the lock. */
    sr_status s = sr_sink_close(&b->sink, b->incomplete, true, err);
    if (s == SR_OK) s = sr_disk_rename(b->incomplete, b->path, err);
    b->fresh = s == SR_OK;
    sr_lock_drop(&b->lock);
    return s;
}

static const hub_drain blob_drain = {drain_open, drain_clear, drain_write, drain_close};

/* ---------------------------------------------------------------- all of them */

static sr_status name_blob(hub *h, struct blob *b, hub_get *g, hub_file *f, sr_err *err) {
    char name[HUB_ETAG + 16];
    const char *folder = sr_path_base(h->folder);
    *b = (struct blob){.hub = h, .file = f, .lock = {-1}, .sink = {.fd = -1}};
    b->path = sr_hub_path(h, "blobs", f->etag);
    snprintf(name, sizeof name, "%s.incomplete", f->etag);
    b->incomplete = sr_hub_path(h, "blobs", name);
    snprintf(name, sizeof name, "%s.lock", f->etag);
    char *locks = sr_path_join(&h->arena, h->o->cache, ".locks");
    if (locks) locks = sr_path_join(&h->arena, locks, folder);
    if (locks) b->lock_path = sr_path_join(&h->arena, locks, name);
    char between[HUB_COMMIT + 16];
    snprintf(between, sizeof between, "/resolve/%s/", h->commit);
    *g = (hub_get){.hub = h,
                   .url = sr_hub_url(h, "/", between, f->path, true, ""),
                   .what = sr_hub_what(h, f->path),
                   .drain = &blob_drain,
                   .ctx = b,
                   .size = f->size,
                   .attempts = 6};
    return b->path && b->incomplete && b->lock_path && g->url ? SR_OK : sr_hub_no_memory(h, err);
}

static sr_status make_folders(hub *h, sr_err *err) {
    static const char tag[] = "Signature: 8a477f597d28d172789f06886806bc55\n"
                              "# Downloaded models; each can be fetched again.\n";
    const char *blobs = sr_hub_path(h, "blobs", NULL), *snapshot = sr_hub_path(h, "snapshots", h->commit);
    char *locks = sr_path_join(&h->arena, h->o->cache, ".locks");
    if (locks) locks = sr_path_join(&h->arena, locks, sr_path_base(h->folder));
    char *tag_path = sr_path_join(&h->arena, h->o->cache, "CACHEDIR.TAG");
    if (!blobs || !snapshot || !locks || !tag_path) return sr_hub_no_memory(h, err);
    sr_status s = sr_disk_make(h->folder, err);
    if (s == SR_OK && !sr_disk_inside(h->folder, h->o->cache))
        s = sr_fail(err, SR_IO, "%s: leads out of the cache; remove the link", h->folder);
    if (s == SR_OK) s = sr_hub_make_inside(h, blobs, err);
    if (s == SR_OK) s = sr_hub_make_inside(h, snapshot, err);
    if (s == SR_OK) s = sr_disk_make(locks, err);
    if (s == SR_OK && sr_path_look(tag_path) == SR_PATH_ABSENT) s = sr_disk_put(tag_path, tag, sizeof tag - 1, err);
    return s;
}

static sr_status check_space(hub *h, const char *dir, int64_t needed, sr_err *err) {
    int64_t free_bytes = sr_disk_free(dir);
    if (free_bytes < 0 || needed <= free_bytes) return SR_OK;
    return sr_fail(err, SR_IO, "%s: needs %.2f GB, but %.100s has %.2f GB free; free some space or use another cache",
                   h->repo, (double)needed / 1e9, dir, (double)free_bytes / 1e9);
}

sr_status sr_hub_download(hub *h, hub_list *l, sr_err *err) {
    int n = 0, wanted = 0;
    for (int i = 0; i < l->n; i++)
        if (l->at[i].wanted && !sr_hub_is_there(h, &l->at[i])) wanted++;
    if (wanted == 0) return SR_OK;
    struct blob *blob = calloc((size_t)wanted, sizeof *blob);
    hub_get *get = calloc((size_t)wanted, sizeof *get);
    sr_status s = blob && get ? make_folders(h, err) : sr_hub_no_memory(h, err);
    int64_t needed = 0;
    for (int i = 0; i < l->n && s == SR_OK; i++) {
        if (!l->at[i].wanted || sr_hub_is_there(h, &l->at[i])) continue;
        s = name_blob(h, &blob[n], &get[n], &l->at[i], err);
        if (s != SR_OK) break;
        int64_t have = sr_disk_size(blob[n].incomplete);
        if (have < 0 || have > l->at[i].size) have = 0;
        bool whole = sr_disk_size(blob[n].path) == l->at[i].size;
        blob[n].planned = whole ? 0 : l->at[i].size - have;
        h->to_fetch += blob[n].planned;
        needed += blob[n].planned;
        n++;
    }
    if (s == SR_OK) s = check_space(h, h->folder, needed, err);
    if (s == SR_OK) s = sr_hub_fetch(h, get, n, err);
    for (int i = 0; i < n && s == SR_OK; i++) s = give_place(h, &blob[i], err);
    for (int i = 0; i < n; i++) { /* after a failure in the middle */
        sr_sink_close(&blob[i].sink, blob[i].incomplete, false, NULL);
        sr_lock_drop(&blob[i].lock);
    }
    /* Copies need no blob; one from before may be what another snapshot links to. */
    for (int i = 0; i < n && s == SR_OK; i++)
        if (blob[i].copied && blob[i].fresh) sr_disk_remove(blob[i].path, NULL);
    free(blob);
    free(get);
    return s;
}
