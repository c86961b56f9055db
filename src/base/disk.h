/* Writing to a file system that others write to as well: directories, files that appear whole, locks, links. */
#ifndef SR_BASE_DISK_H
#define SR_BASE_DISK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

/* Makes a directory and its missing parents. SR_IO when something else stands there. */
sr_status sr_disk_make(const char *dir, sr_err *err);
/* Bytes that this user can still write below `dir`; -1 where the system does not say. */
int64_t sr_disk_free(const char *dir);
/* Whether `path`, every link in it followed, exists and lies in or below the directory `top`. */
bool sr_disk_inside(const char *path, const char *top);
/* Size of a regular file, links followed; -1 when there is none. */
int64_t sr_disk_size(const char *path);

/* Gives `path` this content: written beside it, then renamed over it, so that a reader sees all or nothing. */
sr_status sr_disk_put(const char *path, const void *data, size_t n, sr_err *err);
/* Makes `path` a symbolic link with the text `target`, in place of what stands there (not a directory). *linked is
 * false, and nothing changed, where the file system has no such links. */
sr_status sr_disk_link(const char *path, const char *target, bool *linked, sr_err *err);
sr_status sr_disk_copy(const char *from, const char *to, sr_err *err); /* as sr_disk_put */
sr_status sr_disk_rename(const char *from, const char *to, sr_err *err);
/* Exchanges what stands at two paths, at once. *exchanged is false, and nothing changed, where the system cannot. */
sr_status sr_disk_exchange(const char *a, const char *b, bool *exchanged, sr_err *err);
/* Removes a file or link; that there is none is fine. */
sr_status sr_disk_remove(const char *path, sr_err *err);
/* Removes a directory and all below it. Links are removed, never followed. *bytes (may be NULL) gains the size of the
 * regular files. That there is none is fine; a link in place of the directory is an error. */
sr_status sr_disk_remove_tree(const char *dir, int64_t *bytes, sr_err *err);

/* Calls each(ctx, path, size) for every regular file below `dir`, with its path relative to `dir` and links to files
 * followed, links to directories not; until it returns false. Broken links have the size -1. At most 16 levels. */
typedef bool (*sr_disk_fn)(void *ctx, const char *path, int64_t size);
sr_status sr_disk_walk(const char *dir, sr_disk_fn each, void *ctx, sr_err *err);

/* An advisory lock on a file (flock), made when missing; it goes with the process at the latest. */
typedef struct sr_lock {
    int fd; /* -1: not held */
} sr_lock;
/* Never waits: *lock holds nothing afterwards when another process or an earlier call has it. */
sr_status sr_lock_try(const char *path, sr_lock *lock, sr_err *err);
void sr_lock_drop(sr_lock *lock);

/* A file of a known size that is filled in any order. */
typedef struct sr_slab {
    int fd; /* -1: closed */
} sr_slab;
/* Opens for writing; `path` is made when missing, must not be a link, and gets this size: what is cut off is lost, what
 * is new is zero. */
sr_status sr_slab_open(const char *path, int64_t size, sr_slab *slab, sr_err *err);
/* A file without a name, zero and with a block for every byte: what is written to it later finds room, through a map as
 * well. It goes with the slab and its maps. `path` is where it is made, and removed at once. SR_IO when the disk is too
 * full. */
sr_status sr_slab_scratch(const char *path, int64_t size, sr_slab *slab, sr_err *err);
/* `path` is for messages. */
sr_status sr_slab_write(sr_slab *slab, const char *path, int64_t at, const void *data, size_t n, sr_err *err);
sr_status sr_slab_read(const sr_slab *slab, const char *path, int64_t at, void *data, size_t n, sr_err *err);
/* Waits until what was written is on the medium. */
sr_status sr_slab_sync(sr_slab *slab, const char *path, sr_err *err);
sr_status sr_slab_close(sr_slab *slab, const char *path, sr_err *err);

/* A file that grows. Writes go to the system at once, so that nothing is lost with the process. */
typedef struct sr_sink {
    int fd; /* -1: closed */
    int64_t size, synced;
} sr_sink;
/* Opens for appending; `path` is made when missing and must not be a link. sink->size is what was there. */
sr_status sr_sink_open(const char *path, sr_sink *sink, sr_err *err);
/* Appends. `path` is for messages. */
sr_status sr_sink_write(sr_sink *sink, const char *path, const void *data, size_t n, sr_err *err);
/* Drops everything written so far. */
sr_status sr_sink_clear(sr_sink *sink, const char *path, sr_err *err);
/* Closes; `keep` waits until the bytes are on the medium. */
sr_status sr_sink_close(sr_sink *sink, const char *path, bool keep, sr_err *err);

#endif
