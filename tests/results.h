/* For tests: what docs/formats.md quotes of them. With SR_RESULTS set, a line of words between tabs is added to that
 * file (`make docs`, tests/proof.sh). */
#ifndef SR_TESTS_RESULTS_H
#define SR_TESTS_RESULTS_H

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

__attribute__((format(printf, 1, 2))) static inline void record(const char *fmt, ...) {
    const char *path = getenv("SR_RESULTS");
    FILE *f = path ? fopen(path, "a") : NULL;
    if (!f) return;
    va_list ap;
    va_start(ap, fmt);
    vfprintf(f, fmt, ap);
    va_end(ap);
    fputc('\n', f);
    fclose(f);
}

#endif
