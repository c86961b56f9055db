/* Regular expressions of configuration files. */
#ifndef SR_BASE_PATTERN_H
#define SR_BASE_PATTERN_H

#include <stdbool.h>

#include "base/err.h"

/* Whether the pattern matches at the start of the text, as Python's re.match. Work is bounded. SR_INVALID when it is no
 * pattern: names `where`. */
sr_status sr_pattern_match(const char *pattern, const char *text, const char *where, bool *matches, sr_err *err);

#endif
