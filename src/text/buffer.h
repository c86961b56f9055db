/* Growable bytes, for the texts of one call. */
#ifndef SR_TEXT_BUFFER_H
#define SR_TEXT_BUFFER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

typedef struct sr_buffer {
    char *at;
    size_t n, cap;
} sr_buffer;

/* Room for `extra` more bytes. False when out of memory; the content stays. */
static inline bool sr_buffer_reserve(sr_buffer *b, size_t extra) {
    if (extra <= b->cap - b->n) return true;
    if (extra > SIZE_MAX / 4 - b->n) return false;
    size_t cap = b->n + extra + b->n / 2 + 64;
    char *at = realloc(b->at, cap);
    if (!at) return false;
    b->at = at;
    b->cap = cap;
    return true;
}
static inline bool sr_buffer_add(sr_buffer *b, const void *bytes, size_t n) {
    if (!sr_buffer_reserve(b, n)) return false;
    if (n) memcpy(b->at + b->n, bytes, n);
    b->n += n;
    return true;
}
static inline void sr_buffer_free(sr_buffer *b) {
    free(b->at);
    *b = (sr_buffer){NULL, 0, 0};
}

#endif
