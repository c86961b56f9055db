/* SentencePiece's precompiled_charsmap: which strings a normalizer replaces by which. A length of 4 bytes, then a
 * double array of that many bytes (darts-clone: units of 32 bits, little-endian), then the replacements, each with a
 * zero behind it. Layout: sentencepiece src/normalizer.cc (DecodePrecompiledCharsMap) at v0.2.0, darts-clone's
 * include/darts.h. */
#ifndef SR_TEXT_CHARSMAP_H
#define SR_TEXT_CHARSMAP_H

#include "base/arena.h"
#include "base/buffer.h"
#include "base/err.h"

typedef struct sr_charsmap {
    uint32_t *unit;
    const char *text; /* of the replacements */
    uint32_t n_units;
    size_t n_text;
} sr_charsmap;

/* Copies the map into the arena and checks every path of it, so that searches check nothing. n = 0 gives NULL: no map.
 * `where`: file and key, for messages. SR_CORRUPT, SR_LIMIT (see the constants), SR_NOMEM. */
sr_status sr_charsmap_create(const uint8_t *data, size_t n, const char *where, sr_arena *arena, sr_charsmap **map,
                             sr_err *err);

/* Appends the map as it was given, in base64. */
void sr_charsmap_base64(const sr_charsmap *map, sr_buffer *out);

/* The replacement of the longest known string that s[0..n), n > 0, begins with and that ends with a character; of the
 * shortest when `shortest`. NULL: there is none. *len is the length of that string. */
const char *sr_charsmap_find(const sr_charsmap *map, const char *s, size_t n, bool shortest, size_t *len);

/* Appends well-formed text as the package `tokenizers` normalizes it (normalizers/precompiled.rs): grapheme by
 * grapheme, where one of less than 6 bytes is replaced as a whole by what belongs to its shortest known beginning, and
 * else each of its characters in the same way. False: out of memory. */
bool sr_charsmap_graphemes(const sr_charsmap *map, const char *s, size_t n, sr_buffer *out);

#endif
