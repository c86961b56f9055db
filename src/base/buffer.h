/* Growable bytes, for the texts of one call. A failure to grow is remembered: check it once, at the end. */
#ifndef SR_BASE_BUFFER_H
#define SR_BASE_BUFFER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

typedef struct sr_buffer {
    char *at;
    size_t n, cap;
    bool failed;
} sr_buffer;

/* Room for `extra` more bytes. False when out of memory; the content stays. */
static inline bool sr_buffer_reserve(sr_buffer *b, size_t extra) {
    if (extra <= b->cap - b->n) return true;
    char *at = NULL;
    size_t cap = b->n + extra + b->n / 2 + 64;
    if (extra <= SIZE_MAX / 4 - b->n) at = realloc(b->at, cap);
    if (!at) {
        b->failed = true;
        return false;
    }
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
static inline bool sr_buffer_text(sr_buffer *b, const char *text) {
    return sr_buffer_add(b, text, strlen(text));
}
/* A little-endian number of `bytes` bytes. */
static inline bool sr_buffer_uint(sr_buffer *b, uint64_t v, unsigned bytes) {
    uint8_t out[8];
    for (unsigned i = 0; i < bytes; i++) out[i] = (uint8_t)(v >> 8 * i);
    return sr_buffer_add(b, out, bytes);
}
static inline bool sr_buffer_int(sr_buffer *b, int64_t v) { /* in decimal */
    char digits[24];
    size_t i = sizeof digits;
    uint64_t u = v < 0 ? 0 - (uint64_t)v : (uint64_t)v;
    do digits[--i] = (char)('0' + u % 10);
    while (u /= 10);
    if (v < 0) digits[--i] = '-';
    return sr_buffer_add(b, digits + i, sizeof digits - i);
}
/* A string of JSON, quotes included; the bytes must be UTF-8. */
static inline bool sr_buffer_json(sr_buffer *b, const char *text, size_t n) {
    static const char hex[] = "0123456789abcdef";
    sr_buffer_add(b, "\"", 1);
    for (size_t i = 0; i < n; i++) {
        const unsigned char c = (unsigned char)text[i];
        const char escaped[6] = {'\\', 'u', '0', '0', hex[c >> 4], hex[c & 15]};
        if (c == '"' || c == '\\')
            sr_buffer_add(b, (char[2]){'\\', (char)c}, 2);
        else if (c < 0x20)
            sr_buffer_add(b, escaped, sizeof escaped);
        else
            sr_buffer_add(b, text + i, 1);
    }
    return sr_buffer_add(b, "\"", 1) && !b->failed;
}
static inline void sr_buffer_free(sr_buffer *b) {
    free(b->at);
    *b = (sr_buffer){0};
}

#endif
