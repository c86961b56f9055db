#include "text/charsmap.h"

#include <utf8proc.h>

#include "base/base64.h"
#include "base/bytes.h"
#include "base/utf8.h"
#include "text/unicode.h"

enum {
    MAP_MAX = 4 << 20,    /* bytes; those of published models have up to 350 thousand */
    KEY_MAX = 256,        /* bytes of a string that is looked for; published: 18 */
    REPLACEMENT_MAX = 255 /* bytes; the longest of NFKC has 33 */
};

/* A unit: bits 0..7 the byte that leads here, 8 "a string ends here", 9 the offset counts in 256, 10..30 offset; with
 * bit 31 the value of a string that ends. */
static uint32_t label(uint32_t unit) {
    return unit & 0x800000FFu;
}
static bool ends_here(uint32_t unit) {
    return unit >> 8 & 1;
}
static uint32_t offset(uint32_t unit) {
    return unit >> 10 << (unit >> 6 & 8);
}
static uint32_t value(uint32_t unit) {
    return unit & 0x7FFFFFFFu;
}

typedef struct checker {
    const char *where;
    sr_err *err;
    const uint32_t *unit;
    uint32_t n_units;
    const char *text;
    size_t n_text;
} checker;

static sr_status check_replacement(const checker *c, uint32_t at) {
    if (at >= c->n_units)
        return sr_fail(c->err, SR_CORRUPT, "%s: found unit %u, expected one below %u", c->where, at, c->n_units);
    uint32_t text = value(c->unit[at]);
    if (text >= c->n_text || ((uint8_t)c->text[text] & 0xC0) == 0x80)
        return sr_fail(c->err, SR_CORRUPT, "%s: found a replacement at byte %u, expected the begin of one below %zu",
                       c->where, text, c->n_text);
    size_t room = c->n_text - text < REPLACEMENT_MAX + 1 ? c->n_text - text : REPLACEMENT_MAX + 1;
    if (!memchr(c->text + text, 0, room))
        return sr_fail(c->err, SR_LIMIT, "%s: found a replacement of more than %d bytes", c->where, REPLACEMENT_MAX);
    return SR_OK;
}

/* Walks every edge once. `stack` has room for n_units, `seen` too. */
static sr_status check_paths(const checker *c, uint32_t *stack, uint8_t *seen) {
    uint32_t n = 0;
    stack[n++] = offset(c->unit[0]);
    while (n) {
        uint32_t at = stack[--n];
        for (uint32_t byte = 1; byte < 256; byte++) {
            uint32_t next = at ^ byte;
            if (next >= c->n_units)
                return sr_fail(c->err, SR_CORRUPT, "%s: found unit %u, expected one below %u", c->where, next,
                               c->n_units);
            if (label(c->unit[next]) != byte || seen[next]) continue;
            seen[next] = 1;
            uint32_t behind = next ^ offset(c->unit[next]);
            if (ends_here(c->unit[next])) {
                sr_status status = check_replacement(c, behind);
                if (status != SR_OK) return status;
            }
            stack[n++] = behind;
        }
    }
    return SR_OK;
}

sr_status sr_charsmap_create(const uint8_t *data, size_t n, const char *where, sr_arena *arena, sr_charsmap **out,
                             sr_err *err) {
    *out = NULL;
    if (!n) return SR_OK;
    if (n > MAP_MAX) return sr_fail(err, SR_LIMIT, "%s: found %zu bytes, the limit is %d", where, n, MAP_MAX);
    uint32_t bytes = 0;
    if (n >= 4) bytes = sr_get_u32(data);
    if (n < 4 || bytes < 4 || bytes % 4 || bytes > n - 4)
        return sr_fail(err, SR_CORRUPT, "%s: found %zu bytes with a table of %u, expected 4, the table and texts",
                       where, n, bytes);
    sr_charsmap *map = sr_arena_small(arena, 1, sizeof *map);
    uint32_t n_units = bytes / 4;
    size_t n_text = n - 4 - bytes;
    uint32_t *unit = sr_arena_alloc(arena, n_units, sizeof *unit);
    char *text = sr_arena_strndup(arena, (const char *)data + 4 + bytes, n_text); /* the last may lack its zero */
    uint32_t *stack = malloc(n_units * sizeof *stack);
    uint8_t *seen = calloc(n_units, 1);
    sr_status status = SR_OK;
    if (!map || !unit || !text || !stack || !seen) {
        status = sr_fail(err, SR_NOMEM, "%s: out of memory", where);
    } else if (!sr_utf8_valid(text, n_text)) {
        status = sr_fail(err, SR_CORRUPT, "%s: found replacements that are not UTF-8", where);
    } else {
        for (uint32_t i = 0; i < n_units; i++) unit[i] = sr_get_u32(data + 4 + 4 * i);
        *map = (sr_charsmap){unit, text, n_units, n_text};
        status = check_paths(&(checker){where, err, unit, n_units, text, n_text + 1}, stack, seen);
    }
    free(stack);
    free(seen);
    if (status == SR_OK) *out = map;
    return status;
}

void sr_charsmap_base64(const sr_charsmap *map, sr_buffer *out) {
    sr_buffer raw = {0};
    sr_buffer_uint(&raw, 4 * (uint64_t)map->n_units, 4);
    for (uint32_t i = 0; i < map->n_units; i++) sr_buffer_uint(&raw, map->unit[i], 4);
    sr_buffer_add(&raw, map->text, map->n_text);
    out->failed = out->failed || raw.failed;
    if (!raw.failed && sr_buffer_reserve(out, (raw.n + 2) / 3 * 4))
        out->n += sr_base64_encode((const uint8_t *)raw.at, raw.n, out->at + out->n);
    sr_buffer_free(&raw);
}

const char *sr_charsmap_find(const sr_charsmap *map, const char *s, size_t n, bool shortest, size_t *len) {
    const char *found = NULL;
    uint32_t at = offset(map->unit[0]);
    for (size_t i = 0; i < n && i < KEY_MAX;) {
        uint8_t byte = (uint8_t)s[i];
        if (!byte) break;
        uint32_t unit = map->unit[at ^ byte];
        if (label(unit) != byte) break;
        at = at ^ byte ^ offset(unit);
        i++;
        if (!ends_here(unit) || (i < n && ((uint8_t)s[i] & 0xC0) == 0x80)) continue;
        found = map->text + value(map->unit[at]);
        *len = i;
        if (shortest) break;
    }
    return found;
}

bool sr_charsmap_graphemes(const sr_charsmap *map, const char *s, size_t n, sr_buffer *out) {
    for (size_t i = 0; i < n;) {
        utf8proc_int32_t state = 0;
        uint32_t cp, next;
        size_t end = i + sr_utf8_get(s + i, &cp), len;
        while (end < n) {
            unsigned step = sr_utf8_get(s + end, &next);
            if (utf8proc_grapheme_break_stateful((utf8proc_int32_t)cp, (utf8proc_int32_t)next, &state)) break;
            cp = next;
            end += step;
        }
        const char *whole = end - i < 6 ? sr_charsmap_find(map, s + i, end - i, true, &len) : NULL;
        if (whole) {
            if (!sr_buffer_add(out, whole, strlen(whole))) return false;
            i = end;
            continue;
        }
        while (i < end) {
            unsigned step = sr_utf8_get(s + i, &cp);
            const char *one = sr_charsmap_find(map, s + i, step, true, &len);
            if (!sr_buffer_add(out, one ? one : s + i, one ? strlen(one) : step)) return false;
            i += step;
        }
    }
    return true;
}
