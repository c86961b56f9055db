/* Bump allocator: many allocations, one free. */
#ifndef SR_BASE_ARENA_H
#define SR_BASE_ARENA_H

#include <stddef.h>
#include <stdint.h>

struct sr_arena_block;
typedef struct sr_arena {
    struct sr_arena_block *head;
    size_t used; /* bytes handed out, padding included */
} sr_arena;

enum { SR_ARENA_PAGES = 1 << 20 };
/* Zero-filled memory, aligned to 64 bytes, valid until sr_arena_free. NULL when out of memory or when n * size wraps.
 * Requests of SR_ARENA_PAGES and more get their own mapping, whose pages cost nothing until touched. */
void *sr_arena_alloc(sr_arena *a, size_t n, size_t size);
/* As above for text and small tables, aligned to 8 bytes only. */
void *sr_arena_small(sr_arena *a, size_t n, size_t size);
/* Copy of `n` bytes plus a terminating zero. NULL when out of memory. */
char *sr_arena_strndup(sr_arena *a, const char *s, size_t n);
/* Moves all that `from` has into *a; from is empty and usable again. */
void sr_arena_join(sr_arena *a, sr_arena *from);
/* Frees everything; the arena is empty and usable again. */
void sr_arena_free(sr_arena *a);

#endif
