/* What the operating system must offer for memory and files. Nothing else in the tree maps memory. */
#ifndef SR_BASE_MAP_H
#define SR_BASE_MAP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

typedef struct sr_map {
    const uint8_t *data; /* read-only; NULL for an empty file */
    size_t size;
} sr_map;

/* Maps a regular file read-only. SR_IO names the path and the system's reason (also for a directory, FIFO or device).
 */
sr_status sr_map_open(const char *path, sr_map *map, sr_err *err);
void sr_map_close(sr_map *map);
/* Brings the file's pages into the page cache with large reads from `threads` threads. Returns at once when most of a
 * sample of its pages is there already. Failure is harmless and silent: the pages are then read on first touch. */
void sr_map_read_ahead(const sr_map *map, int threads);

/* Zero-filled pages straight from the system; NULL when there are none. */
void *sr_pages_alloc(size_t n);
void sr_pages_free(void *at, size_t n);
/* Whole pages within n bytes of such memory, untouched yet, become those of a file that is open for reading and
 * writing, from byte `from` of it, a multiple of SR_PAGES: they go back to it, not to swap, when memory is short. False
 * when it cannot be mapped. */
enum { SR_PAGES = 1 << 16 }; /* a multiple of any page's size */
bool sr_pages_to_file(void *at, size_t n, int fd, int64_t from);

/* Files as whole small texts: at most `limit` bytes, zero-terminated, owned by the caller (free). */
sr_status sr_file_read(const char *path, size_t limit, char **text, size_t *n, sr_err *err);

/* Memory of this machine and process, in bytes; 0 where unknown. */
typedef struct sr_memory {
    uint64_t total, available, rss, rss_anon;
} sr_memory;
void sr_memory_now(sr_memory *m);

/* Size of the cache nearest to memory, 0 where unknown. */
size_t sr_last_cache_bytes(void);

/* Seconds since an arbitrary start, monotonic. */
double sr_clock(void);
/* Asks the system for AMX tile registers in this process; false where there are none to be had. */
bool sr_tiles_permitted(void);
/* Processors this process may run on, at least 1. */
int sr_cpu_count(void);

#endif
