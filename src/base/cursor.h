/* Bounded reader over bytes with a sticky failure: a parser reads a whole record and checks `failed` once. */
#ifndef SR_BASE_CURSOR_H
#define SR_BASE_CURSOR_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

typedef struct sr_cursor {
    const uint8_t *base, *at, *end;
    bool swap;   /* the bytes are of the other endianness */
    bool failed; /* a read passed the end; every later read gives zero */
} sr_cursor;

static inline sr_cursor sr_cursor_over(const void *data, size_t n) {
    const uint8_t *p = data;
    return (sr_cursor){p, p, p ? p + n : p, false, false};
}
static inline size_t sr_cursor_offset(const sr_cursor *c) {
    return (size_t)(c->at - c->base);
}
static inline size_t sr_cursor_left(const sr_cursor *c) {
    return c->failed ? 0 : (size_t)(c->end - c->at);
}
/* Borrowed view of the next n bytes, or NULL (and failed) when fewer are left. */
static inline const uint8_t *sr_cursor_bytes(sr_cursor *c, uint64_t n) {
    if (c->failed || n > (uint64_t)(c->end - c->at)) {
        c->failed = true;
        return NULL;
    }
    const uint8_t *p = c->at;
    c->at += n;
    return p;
}
static inline uint64_t sr_cursor_uint(sr_cursor *c, unsigned size) {
    const uint8_t *p = sr_cursor_bytes(c, size);
    uint64_t v = 0;
    if (!p) return 0;
    for (unsigned i = 0; i < size; i++) v |= (uint64_t)p[c->swap ? size - 1 - i : i] << (8 * i);
    return v;
}
static inline uint8_t sr_cursor_u8(sr_cursor *c) {
    return (uint8_t)sr_cursor_uint(c, 1);
}
static inline uint16_t sr_cursor_u16(sr_cursor *c) {
    return (uint16_t)sr_cursor_uint(c, 2);
}
static inline uint32_t sr_cursor_u32(sr_cursor *c) {
    return (uint32_t)sr_cursor_uint(c, 4);
}
static inline uint64_t sr_cursor_u64(sr_cursor *c) {
    return sr_cursor_uint(c, 8);
}

#endif
