#include "base/arena.h"

#include <stdlib.h>
#include <string.h>

#include "base/map.h"

enum { ALIGN = 64, BLOCK = 64 * 1024 };

struct sr_arena_block {
    struct sr_arena_block *next;
    size_t used, cap; /* bytes after this header */
    size_t mapped;    /* bytes of the whole mapping, 0 when the block came from malloc */
};
enum { HEADER = 64 };
_Static_assert(sizeof(struct sr_arena_block) <= HEADER, "the header keeps the first allocation aligned");

static struct sr_arena_block *block_create(size_t cap) {
    struct sr_arena_block *b;
    if (cap >= SR_ARENA_PAGES) {
        b = sr_pages_alloc(cap + HEADER);
        if (!b) return NULL;
        b->mapped = cap + HEADER;
    } else {
        size_t bytes = (cap + HEADER + ALIGN - 1) / ALIGN * ALIGN;
        b = aligned_alloc(ALIGN, bytes);
        if (!b) return NULL;
        memset(b, 0, bytes);
        b->mapped = 0;
    }
    b->used = 0;
    b->cap = cap;
    return b;
}

static void *take(sr_arena *a, size_t n, size_t size, size_t align) {
    if (size && n > (SIZE_MAX / 2 - BLOCK) / size) return NULL;
    size_t bytes = n * size;
    struct sr_arena_block *b = a->head;
    if (b) {
        size_t at = (b->used + align - 1) / align * align;
        if (at <= b->cap && bytes <= b->cap - at) {
            a->used += at + bytes - b->used;
            b->used = at + bytes;
            return (char *)b + HEADER + at;
        }
    }
    struct sr_arena_block *fresh = block_create(bytes > BLOCK / 4 ? bytes : BLOCK);
    if (!fresh) return NULL;
    fresh->used = bytes;
    a->used += bytes;
    if (b && bytes > BLOCK / 4) { /* keep filling the current block; the big one goes behind it */
        fresh->next = b->next;
        b->next = fresh;
    } else {
        fresh->next = b;
        a->head = fresh;
    }
    return (char *)fresh + HEADER;
}

void *sr_arena_alloc(sr_arena *a, size_t n, size_t size) {
    return take(a, n, size, ALIGN);
}

void *sr_arena_small(sr_arena *a, size_t n, size_t size) {
    return take(a, n, size, 8);
}

char *sr_arena_strndup(sr_arena *a, const char *s, size_t n) {
    if (n == SIZE_MAX) return NULL;
    char *copy = take(a, n + 1, 1, 1);
    if (!copy) return NULL;
    if (n) memcpy(copy, s, n);
    copy[n] = 0;
    return copy;
}

void sr_arena_join(sr_arena *a, sr_arena *from) {
    struct sr_arena_block *last = from->head;
    if (!last) return;
    while (last->next) last = last->next;
    if (a->head) { /* behind the block that is being filled */
        last->next = a->head->next;
        a->head->next = from->head;
    } else
        a->head = from->head;
    a->used += from->used;
    *from = (sr_arena){0};
}

void sr_arena_free(sr_arena *a) {
    for (struct sr_arena_block *b = a->head, *next; b; b = next) {
        next = b->next;
        if (b->mapped)
            sr_pages_free(b, b->mapped);
        else
            free(b);
    }
    a->head = NULL;
    a->used = 0;
}
