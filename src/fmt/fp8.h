/* How scales lie over an FP8 weight: what fp8.c derives from their shape, for its kernels too. */
#ifndef SR_FMT_FP8_H
#define SR_FMT_FP8_H

#include "fmt/fmt.h"

enum { SR_FP8_WEIGHT, SR_FP8_SCALE };

/* sr_weight.aux */
typedef struct sr_fp8 {
    int64_t gn, gk, pitch; /* rows and columns of a block, scales a row of blocks */
} sr_fp8;

/* Scale of a row's columns from k on, and where they end. */
static inline float sr_fp8_scale(const sr_weight *w, int64_t row, int64_t k, int64_t *end) {
    const sr_fp8 *b = (const sr_fp8 *)w->aux;
    int64_t block = k / b->gk;
    *end = (block + 1) * b->gk;
    return sr_plane_float(w, SR_FP8_SCALE, row / b->gn * b->pitch + block);
}

#endif
