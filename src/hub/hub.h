/* Models by name: which files a model needs, the cache that holds them, and what is missing from the hub.
 *
 *   name.c      "organization/model@revision", paths and addresses made of it
 *   listing.c   the files of a commit: from the hub, from the cache
 *   choose.c    which of them are needed
 *   download.c  a file into the cache: resume, verify, put in its place
 *   http.c      several transfers at once, redirects, retries (libcurl; without it nothing is sent)
 *   resolve.c   these together
 *   stock.c     what the cache holds
 *
 * The cache, shared with the huggingface_hub package (huggingface_hub: file_download.py, _tree_cache.py):
 *
 *   CACHE/CACHEDIR.TAG
 *   CACHE/.locks/models--ORG--NAME/ETAG.lock        flock while a blob is made
 *   CACHE/models--ORG--NAME/
 *     blobs/ETAG                                    content; ETAG is the SHA-256 of LFS files, else git's SHA-1
 *     blobs/ETAG.incomplete                         what has come so far
 *     refs/REVISION                                 commit, 40 hex digits without a newline
 *     snapshots/COMMIT/PATH                         link ../../blobs/ETAG (one more ../ for each folder of PATH)
 *     trees/COMMIT.json                             the hub's listing of that commit */
#ifndef SR_HUB_HUB_H
#define SR_HUB_HUB_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/arena.h"
#include "base/err.h"

enum { HUB_COMMIT = 40, HUB_ETAG = 65, HUB_NAME = 200 };
enum { HUB_TEXT_CAP = 64 << 20 }; /* most bytes of an answer or index that is held in memory */

typedef struct hub {
    const sr_hub_options *o;
    sr_arena arena; /* all texts of a call */
    char repo[HUB_NAME], revision[HUB_NAME];
    const char *endpoint; /* without a slash at its end */
    const char *folder;   /* CACHE/models--ORG--NAME */
    char commit[HUB_COMMIT + 1];
    int64_t fetched, to_fetch; /* bytes of this call */
    double told;               /* when progress was last reported */
    bool alone;                /* the cache alone answers: as asked, or because the hub cannot be reached */
    bool scanned;              /* the list is what the cache holds, not what the hub has */
    bool cancelled;
} hub;

/* ---------------------------------------------------------------- name.c */

/* Splits the name, takes the options over and checks both. */
sr_status sr_hub_open(hub *h, const char *name, const sr_hub_options *o, sr_err *err);
void sr_hub_close(hub *h);
/* FOLDER/kind/rest into the arena; NULL when out of memory. */
const char *sr_hub_path(hub *h, const char *kind, const char *rest);
/* ENDPOINT/before/REPO/between/rest, the rest percent-encoded; `slashes` stay in it or not. */
const char *sr_hub_url(hub *h, const char *before, const char *between, const char *rest, bool slashes,
                       const char *after);
/* "ORG/NAME: thing" */
const char *sr_hub_what(hub *h, const char *thing);
sr_status sr_hub_no_memory(const hub *h, sr_err *err);
bool sr_hub_is_hex(const char *text, size_t n, size_t want);
/* A path that stays below where it is put: no empty, "." or ".." part, no backslash, no control character. */
bool sr_hub_path_is_safe(const char *path);
/* Calls progress at most ten times a second; false once the caller wants to stop. */
bool sr_hub_tell(hub *h);

/* ---------------------------------------------------------------- listing.c */

typedef struct hub_file {
    const char *path;
    int64_t size;        /* -1: a link without its content */
    char etag[HUB_ETAG]; /* empty where unknown, in a scan of the cache */
    char oid[HUB_ETAG];  /* git's name of the content, or of the pointer to LFS content */
    bool wanted;
} hub_file;

typedef struct hub_list {
    hub_file *at; /* owned; texts in the hub's arena */
    int n, cap;
} hub_list;

void sr_hub_list_free(hub_list *l);
hub_file *sr_hub_list_find(const hub_list *l, const char *path);
/* One page of the hub's answer to .../tree/COMMIT?recursive=true. `where` is for messages. */
sr_status sr_hub_list_read_page(hub *h, hub_list *l, const char *text, size_t n, const char *where, sr_err *err);
/* trees/COMMIT.json; *found is false where there is none that can be used. */
sr_status sr_hub_list_read_cached(hub *h, hub_list *l, bool *found, sr_err *err);
sr_status sr_hub_list_write_cached(hub *h, const hub_list *l, sr_err *err);
/* What the snapshot of h->commit holds. */
sr_status sr_hub_list_scan(hub *h, hub_list *l, sr_err *err);

/* ---------------------------------------------------------------- choose.c */

typedef struct hub_pick {
    const char *open;  /* path in the snapshot that the engine opens; NULL: the directory */
    const char *index; /* the weights' index, to be read before hub_choose_weights; or NULL */
} hub_pick;

/* Marks the small files, or the GGUF file with its pieces. */
sr_status sr_hub_choose(const hub *h, hub_list *l, hub_pick *pick, sr_err *err);
/* Marks the weights of a directory. index[n]: text of pick->index, or NULL. */
sr_status sr_hub_choose_weights(hub *h, hub_list *l, const hub_pick *pick, const char *index, size_t n, sr_err *err);

/* ---------------------------------------------------------------- download.c */

/* Whether the snapshot holds the file, whole. */
bool sr_hub_is_there(hub *h, const hub_file *f);
/* Makes a directory of the model's folder, which no link may lead out of. */
sr_status sr_hub_make_inside(hub *h, const char *dir, sr_err *err);
/* Loads what of the wanted files is missing and gives all of them their place in the snapshot. */
sr_status sr_hub_download(hub *h, hub_list *l, sr_err *err);

/* ---------------------------------------------------------------- http.c */

struct hub_get;
/* Where the bytes of a transfer go. */
typedef struct hub_drain {
    /* Before the first attempt: *from bytes are there already. *busy: try later. *done: nothing is left to load. */
    sr_status (*open)(struct hub_get *g, int64_t *from, bool *busy, bool *done, sr_err *err);
    /* What is there is not the beginning of what comes. */
    sr_status (*clear)(struct hub_get *g, sr_err *err);
    sr_status (*write)(struct hub_get *g, const char *data, size_t n, sr_err *err);
    /* At the end. `whole`: all has come. *again: it was not what was asked for, and is dropped; it is opened anew. */
    sr_status (*close)(struct hub_get *g, bool whole, bool *again, sr_err *err);
} hub_drain;

typedef struct hub_get {
    hub *hub;
    const char *url, *what; /* what: for messages */
    const hub_drain *drain;
    void *ctx;        /* the drain's */
    int64_t size;     /* expected, -1: unknown */
    int attempts;     /* most of them in a row that bring nothing */
    const char *next; /* address of the answer's next page, or NULL */
    void *state;      /* http.c's */
} hub_get;

/* Runs the transfers, four at a time, until all are done or one has failed. SR_IO: network, server or disk (err says
 * which); SR_INVALID: the server refused. */
sr_status sr_hub_fetch(hub *h, hub_get *get, int n, sr_err *err);
/* Fetches a small answer: zero-terminated text, owned by the caller (free). */
sr_status sr_hub_fetch_text(hub *h, hub_get *g, char **text, size_t *n, sr_err *err);

#endif
