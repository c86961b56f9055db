/* Errors: a status code plus one line of text, owned by the caller of the failing function. */
#ifndef SR_BASE_ERR_H
#define SR_BASE_ERR_H

#include "sirocco.h"

#if defined(__GNUC__)
#define SR_PRINTF(fmt_index, first_arg) __attribute__((format(printf, fmt_index, first_arg)))
#else
#define SR_PRINTF(fmt_index, first_arg)
#endif

/* Records a failure and returns `code`. The first failure wins: an `err` that already holds one is left alone, so
 * callers pass a failure up unchanged. `err` may be NULL. The message says what, where (file, tensor, offset), what was
 * found and what was expected; text past 255 bytes is cut at a character boundary. Control characters in it are
 * replaced by '?', because names from files end up in it. */
sr_status sr_fail(sr_err *err, sr_status code, const char *fmt, ...) SR_PRINTF(3, 4);

/* Empties `err` (NULL is allowed) so that it can be used for another call. */
void sr_err_clear(sr_err *err);

#endif
