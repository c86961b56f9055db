/* Whole matrices to a format, for tests and benches. */
#ifndef TESTS_WRITTEN_H
#define TESTS_WRITTEN_H

#include <string.h>

#include "fmt/fmt.h"

/* Rows of src [.][K]; `repeat` > 0: of so many, in turns. */
typedef struct written_rows {
    const float *src;
    int64_t K, repeat;
} written_rows;
static inline void written_read(void *ctx, int64_t row0, int64_t n, float *out) {
    const written_rows *r = ctx;
    for (int64_t i = 0; i < n; i++)
        memcpy(out + i * r->K, r->src + (r->repeat ? (row0 + i) % r->repeat : row0 + i) * r->K,
               (size_t)r->K * sizeof *out);
}
/* False: the format cannot be written, or not in this shape. */
static inline bool write_weight(sr_weight *w, const float *src, int64_t repeat, const float *importance, int threads) {
    written_rows r = {src, w->K, repeat};
    return sr_format_writable(w->fmt) &&
           sr_encode(w, &(sr_source){.rows = written_read, .ctx = &r}, importance, 1, threads, NULL) == SR_OK;
}

#endif
