/* Bounded pull reader for JSON text of any size (safetensors headers, tokenizer.json). It builds no tree and allocates
 * nothing: the caller walks the values in order and skips what it does not need. Depth is limited to 64. */
#ifndef SR_BASE_JSON_H
#define SR_BASE_JSON_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/arena.h"
#include "base/err.h"

typedef enum sr_json_kind {
    SR_JSON_END = 0, /* of the enclosing object, array or text */
    SR_JSON_NULL,
    SR_JSON_BOOL,
    SR_JSON_NUMBER,
    SR_JSON_STRING,
    SR_JSON_ARRAY,
    SR_JSON_OBJECT,
    SR_JSON_ERROR
} sr_json_kind;

enum { SR_JSON_DEPTH = 64 };

typedef struct sr_json {
    const char *at, *end, *base;
    const char *where;                  /* file name for messages, borrowed */
    sr_err *err;                        /* filled by the first failure */
    bool failed;                        /* sticky */
    uint8_t depth, open[SR_JSON_DEPTH]; /* '{' or '[' */
    bool first[SR_JSON_DEPTH + 1];      /* nothing read yet at this depth; [0] is the top value */
} sr_json;

/* A raw value: `text` points into the input. Strings come with their quotes removed but still escaped; for an array or
 * object it is the opening bracket. A copy of the reader is a bookmark: reading on from it reads the same again. */
typedef struct sr_json_value {
    sr_json_kind kind;
    const char *text;
    size_t n;
    bool escaped; /* string holds a backslash */
} sr_json_value;

sr_json sr_json_over(const char *text, size_t n, const char *where, sr_err *err);
/* Reads the next value of the enclosing array, or the top value. ARRAY and OBJECT mean that the reader went inside:
 * walk them to their END or call sr_json_leave. END leaves the enclosing one. ERROR: `err` says what and at which
 * offset, and every later call gives ERROR again: a loop must end on it as on END. NaN, Infinity and -Infinity, which
 * Python writes, are NUMBERs that no conversion below accepts. */
sr_json_kind sr_json_next(sr_json *j, sr_json_value *v);
/* Inside an object: reads the next key and its value. */
sr_json_kind sr_json_next_pair(sr_json *j, sr_json_value *key, sr_json_value *v);
/* Skips what is left of the array or object that the reader is in, and leaves it. */
void sr_json_leave(sr_json *j);
/* Skips `v` if it is an array or object that was just entered; otherwise does nothing. */
void sr_json_skip(sr_json *j, const sr_json_value *v);
/* After the top value: true when only white space is left. */
bool sr_json_at_end(sr_json *j);

/* Unescapes a string value into `out` (capacity v->n + 1 always suffices; `n` receives the length; zero-terminated).
 * \u escapes become UTF-8, a lone surrogate becomes U+FFFD, U+0000 is kept. Input that is not UTF-8 fails. */
bool sr_json_unescape(sr_json *j, const sr_json_value *v, char *out, size_t *n);
/* The same into an arena; NULL on failure. */
char *sr_json_string(sr_json *j, const sr_json_value *v, sr_arena *a, size_t *n);
/* Whether a string value, unescaped, is this text. */
bool sr_json_equals(const sr_json_value *v, const char *literal);
/* Whole numbers exactly (no way through double): false when it has a fraction or an exponent, is -0, or is out of
 * range.
 */
bool sr_json_int64(const sr_json_value *v, int64_t *out);
/* Nearest double; false when it is not finite, or longer than 500 characters. */
bool sr_json_double(const sr_json_value *v, double *out);
bool sr_json_bool(const sr_json_value *v, bool *out);

#endif
