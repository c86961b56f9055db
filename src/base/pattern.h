/* Regular expressions of configuration files. */
#ifndef SR_BASE_PATTERN_H
#define SR_BASE_PATTERN_H

#include <stdbool.h>
#include <stdint.h>

#include "base/arena.h"
#include "base/err.h"

/* A pattern ready to match at the start of a text, as Python's re.match, or anywhere in it, as its re.search; in the
 * arena. NULL: SR_INVALID when it is no pattern, which names `where`. */
void *sr_pattern_compile(const char *pattern, bool anywhere, const char *where, sr_arena *arena, sr_err *err);
/* Whether the pattern, compiled as `code`, matches the text. SR_LIMIT when that
 * takes too many steps, or more than *left, from which they are taken. */
sr_status sr_pattern_match(const void *code, const char *pattern, const char *text, const char *where, int64_t *left,
                           bool *matches, sr_err *err);

#endif
