/* The central directory of a zip archive whose entries are stored, not deflated: what torch.save writes. Nothing is
 * extracted; an entry is a span of the map.
 *
 *   local header   50 4b 03 04  ... |name|extra|data      one an entry, from its offset on
 *   central entry  50 4b 01 02  u16 made, needed, flags, method, time, date  u32 crc, packed, size
 *                  u16 name, extra, comment, disk, internal  u32 external, offset  |name|extra|comment
 *   ZIP64 end      50 4b 06 06  u64 length of the rest  u16 made, needed  u32 disk, disk
 *                  u64 entries here, entries, bytes of the directory, its offset
 *   ZIP64 locator  50 4b 06 07  u32 disk  u64 offset of the above  u32 disks
 *   end            50 4b 05 06  u16 disk, disk, entries here, entries  u32 bytes, offset  u16 comment
 *
 * A field of all ones stands for the one of ZIP64, or of extra field 1 (u64 size, packed, offset: those that are all
 * ones). The end record must be the file's last 22 bytes: an archive with a comment could be read in two ways.
 * Source: PKWARE APPNOTE.TXT 6.3.10, sections 4.3 to 4.5. */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/utf8.h"
#include "file/inner.h"

enum { LOCAL = 30, CENTRAL = 46, END = 22, LOCATOR = 20, END64 = 56, NAME = 4096 };
enum { ENCRYPTED = 1, DESCRIPTOR = 8 };
enum { NONE16 = 0xffff };
static const uint32_t none32 = 0xffffffff;

struct reader {
    const sr_map *map;
    const char *path;
    sr_arena *arena;
    sr_err *err;
    uint64_t directory; /* offset of the central directory: entries end before it */
};

struct span {
    uint64_t from, to;
    const char *name;
};

static sr_status bad(const struct reader *r, const char *name, const char *what) {
    return sr_fail(r->err, SR_CORRUPT, "%s: zip entry \"%s\": found %s", r->path, sr_show_name(name).text, what);
}

static bool is_signed(const sr_map *map, uint64_t at, const char *signature) {
    return at <= map->size && map->size - at >= 4 && memcmp(map->data + at, signature, 4) == 0;
}

static sr_cursor cursor_at(const sr_map *map, uint64_t at) {
    return sr_cursor_over(map->data + at, map->size - (size_t)at);
}

/* Entries, offset and end of the central directory. */
static sr_status find_directory(struct reader *r, uint64_t *entries, uint64_t *end) {
    const sr_map *map = r->map;
    if (map->size < END || !is_signed(map, map->size - END, "PK\5\6"))
        return sr_fail(r->err, SR_CORRUPT,
                       "%s: found no end of a zip archive in its last %d bytes; the file is cut off, or is none",
                       r->path, END);
    uint64_t at = map->size - END;
    sr_cursor c = cursor_at(map, at + 4);
    uint16_t disk = sr_cursor_u16(&c), directory_disk = sr_cursor_u16(&c), here = sr_cursor_u16(&c);
    uint16_t n = sr_cursor_u16(&c);
    uint32_t bytes = sr_cursor_u32(&c), offset = sr_cursor_u32(&c);
    uint16_t comment = sr_cursor_u16(&c);
    if (disk || directory_disk || here != n || comment)
        return sr_fail(r->err, SR_CORRUPT, "%s: found a zip archive of several volumes or with a comment", r->path);
    uint64_t n64 = n, bytes64 = bytes, offset64 = offset;
    *end = at;
    if (at >= LOCATOR && is_signed(map, at - LOCATOR, "PK\6\7")) {
        c = cursor_at(map, at - LOCATOR + 4);
        uint32_t first = sr_cursor_u32(&c);
        uint64_t at64 = sr_cursor_u64(&c);
        uint32_t disks = sr_cursor_u32(&c);
        if (first || disks > 1 || at64 > at - LOCATOR || at - LOCATOR - at64 < END64 || !is_signed(map, at64, "PK\6\6"))
            return sr_fail(r->err, SR_CORRUPT, "%s: found a ZIP64 locator that points to no ZIP64 end", r->path);
        c = cursor_at(map, at64 + 4);
        uint64_t rest = sr_cursor_u64(&c);
        sr_cursor_u32(&c);
        uint32_t disk64 = sr_cursor_u32(&c), directory64 = sr_cursor_u32(&c);
        uint64_t here64 = sr_cursor_u64(&c);
        n64 = sr_cursor_u64(&c);
        bytes64 = sr_cursor_u64(&c);
        offset64 = sr_cursor_u64(&c);
        if (rest != at - LOCATOR - at64 - 12 || disk64 || directory64 || here64 != n64 || (n != NONE16 && n != n64) ||
            (bytes != none32 && bytes != bytes64) || (offset != none32 && offset != offset64))
            return sr_fail(r->err, SR_CORRUPT, "%s: found a ZIP64 end that contradicts the end of the archive",
                           r->path);
        *end = at64;
    }
    if (offset64 > *end || *end - offset64 != bytes64 || n64 > bytes64 / CENTRAL)
        return sr_fail(r->err, SR_CORRUPT,
                       "%s: found a zip directory of %" PRIu64 " entries in %" PRIu64 " bytes at offset %" PRIu64
                       ", expected it to end at %" PRIu64,
                       r->path, n64, bytes64, offset64, *end);
    if (n64 > SR_MAX_PARTS)
        return sr_fail(r->err, SR_LIMIT, "%s: found %" PRIu64 " zip entries, expected at most %d", r->path, n64,
                       SR_MAX_PARTS);
    r->directory = offset64;
    *entries = n64;
    return SR_OK;
}

/* Takes the fields of all ones from extra field 1. False: it is not there, or has another size. */
static bool read_extra(const uint8_t *extra, size_t n, uint64_t *size, uint64_t *packed, uint64_t *offset) {
    uint64_t *want[3], value;
    int wants = 0;
    if (*size == none32) want[wants++] = size;
    if (*packed == none32) want[wants++] = packed;
    if (*offset == none32) want[wants++] = offset;
    sr_cursor c = sr_cursor_over(extra, n);
    while (wants && sr_cursor_left(&c)) {
        uint16_t id = sr_cursor_u16(&c), bytes = sr_cursor_u16(&c);
        const uint8_t *body = sr_cursor_bytes(&c, bytes);
        if (!body || id != 1) continue;
        sr_cursor inner = sr_cursor_over(body, bytes);
        for (int i = 0; i < wants; i++) {
            value = sr_cursor_u64(&inner);
            if (inner.failed) return false;
            *want[i] = value;
        }
        return true;
    }
    return wants == 0;
}

/* A relative path without "..": what a name in an archive may be, though nothing is ever written under it. */
static bool is_safe_name(const char *name, size_t n) {
    if (n == 0 || n > NAME || name[0] == '/' || memchr(name, 0, n) || memchr(name, '\\', n)) return false;
    for (size_t i = 0; i < n; i++)
        if ((i == 0 || name[i - 1] == '/') && n - i >= 2 && name[i] == '.' && name[i + 1] == '.' &&
            (n - i == 2 || name[i + 2] == '/'))
            return false;
    return sr_utf8_valid(name, n);
}

/* The local header at span->from repeats the name; its data must lie before the directory. */
static sr_status check_local(const struct reader *r, sr_zip_entry *e, uint64_t size, struct span *span) {
    uint64_t at = span->from;
    if (at > r->directory || r->directory - at < LOCAL || !is_signed(r->map, at, "PK\3\4"))
        return bad(r, e->name, "an offset at which no entry starts");
    sr_cursor c = sr_cursor_over(r->map->data + at, (size_t)(r->directory - at));
    sr_cursor_bytes(&c, 6);
    uint16_t flags = sr_cursor_u16(&c), method = sr_cursor_u16(&c);
    sr_cursor_bytes(&c, 8);
    uint32_t packed = sr_cursor_u32(&c), unpacked = sr_cursor_u32(&c);
    uint16_t n = sr_cursor_u16(&c), extra = sr_cursor_u16(&c);
    const char *name = (const char *)sr_cursor_bytes(&c, n);
    sr_cursor_bytes(&c, extra);
    if (!name || n != strlen(e->name) || memcmp(name, e->name, n) != 0 || method || (flags & ENCRYPTED))
        return bad(r, e->name, "a local header that contradicts the directory");
    bool open = (flags & DESCRIPTOR) && packed == 0 && unpacked == 0; /* the sizes stand behind the data */
    if (!open && ((packed != none32 && packed != size) || (unpacked != none32 && unpacked != size)))
        return bad(r, e->name, "a local header of another size than in the directory");
    e->data = sr_cursor_bytes(&c, size);
    e->bytes = (int64_t)size;
    if (!e->data) return bad(r, e->name, "data past the start of the directory; the file is cut off or lies");
    span->to = (uint64_t)(e->data - r->map->data) + size;
    span->name = e->name;
    return SR_OK;
}

static sr_status read_entry(const struct reader *r, sr_cursor *c, sr_zip_entry *e, struct span *span) {
    const uint8_t *signature = sr_cursor_bytes(c, 4);
    sr_cursor_u32(c);
    uint16_t flags = sr_cursor_u16(c), method = sr_cursor_u16(c);
    sr_cursor_bytes(c, 8);
    uint64_t packed = sr_cursor_u32(c), size = sr_cursor_u32(c);
    uint16_t n_name = sr_cursor_u16(c), n_extra = sr_cursor_u16(c), n_comment = sr_cursor_u16(c);
    uint16_t disk = sr_cursor_u16(c);
    sr_cursor_bytes(c, 6);
    uint64_t offset = sr_cursor_u32(c);
    const char *name = (const char *)sr_cursor_bytes(c, n_name);
    const uint8_t *extra = sr_cursor_bytes(c, n_extra);
    sr_cursor_bytes(c, n_comment);
    if (c->failed || memcmp(signature, "PK\1\2", 4) != 0)
        return sr_fail(r->err, SR_CORRUPT, "%s: found a zip directory that is cut off or has no entry where expected",
                       r->path);
    if (!is_safe_name(name, n_name))
        return sr_fail(r->err, SR_CORRUPT, "%s: zip entry \"%s\": found a name that is no plain relative path in UTF-8",
                       r->path, sr_show(name, n_name).text);
    e->name = sr_arena_strndup(r->arena, name, n_name);
    if (!e->name) return sr_fail(r->err, SR_NOMEM, "%s: no memory for its zip directory", r->path);
    if (flags & ENCRYPTED) return bad(r, e->name, "it encrypted");
    if (method != 0)
        return sr_fail(r->err, SR_UNSUPPORTED,
                       "%s: zip entry \"%s\": found it compressed (method %d), expected it stored, as torch.save does",
                       r->path, sr_show_name(e->name).text, method);
    if (!read_extra(extra, n_extra, &size, &packed, &offset))
        return bad(r, e->name, "sizes that are left to a ZIP64 field, and no such field");
    if (packed != size || disk) return bad(r, e->name, "it stored in two sizes, or on another volume");
    span->from = offset;
    return check_local(r, e, size, span);
}

static int by_start(const void *x, const void *y) {
    const struct span *a = x, *b = y;
    return a->from < b->from ? -1 : a->from > b->from;
}

sr_status sr_zip_read(const sr_map *map, const char *path, sr_arena *arena, sr_zip *zip, sr_err *err) {
    struct reader r = {.map = map, .path = path, .arena = arena, .err = err};
    uint64_t n = 0, end = 0;
    int dup[2];
    *zip = (sr_zip){0};
    sr_status s = find_directory(&r, &n, &end);
    if (s != SR_OK) return s;
    zip->at = sr_arena_alloc(arena, (size_t)n + 1, sizeof *zip->at);
    struct span *span = malloc(((size_t)n + 1) * sizeof *span);
    if (!zip->at || !span) s = sr_fail(err, SR_NOMEM, "%s: no memory for %" PRIu64 " zip entries", path, n);
    sr_cursor c = sr_cursor_over(map->data + r.directory, (size_t)(end - r.directory));
    for (uint64_t i = 0; i < n && s == SR_OK; i++) s = read_entry(&r, &c, &zip->at[zip->n++], &span[i]);
    if (s == SR_OK && sr_cursor_left(&c))
        s = sr_fail(err, SR_CORRUPT, "%s: found %zu bytes behind the last entry of its zip directory", path,
                    sr_cursor_left(&c));
    if (s == SR_OK) {
        qsort(span, (size_t)n, sizeof *span, by_start);
        for (uint64_t i = 1; i < n && s == SR_OK; i++)
            if (span[i].from < span[i - 1].to)
                s = sr_fail(err, SR_CORRUPT, "%s: zip entry \"%s\" at offset %" PRIu64 " overlaps \"%s\"", path,
                            sr_show_name(span[i].name).text, span[i].from, sr_show_name(span[i - 1].name).text);
    }
    free(span);
    if (s != SR_OK) return s;
    s = sr_names_build(&zip->names, zip->at, sizeof *zip->at, zip->n, dup);
    if (s == SR_CORRUPT) return bad(&r, zip->at[dup[0]].name, "it twice");
    return s == SR_OK ? s : sr_fail(err, s, "%s: cannot look up %d zip entries", path, zip->n);
}

const sr_zip_entry *sr_zip_find(const sr_zip *zip, const char *name) {
    int i = sr_names_find(&zip->names, zip->at, sizeof *zip->at, name);
    return i < 0 ? NULL : &zip->at[i];
}
