/* How scales lie over an FP8 weight: what fp8.c derives from their shape, for its kernels too. */
#ifndef SR_FMT_FP8_H
#define SR_FMT_FP8_H

#include "fmt/blocks.h"
#include "fmt/fmt.h"

enum { SR_FP8_WEIGHT, SR_FP8_SCALE };

/* Scale of a row's columns from k on, and where they end. */
static inline float sr_fp8_scale(const sr_weight *w, int64_t row, int64_t k, int64_t *end) {
    return sr_plane_float(w, SR_FP8_SCALE, sr_block_at((const sr_blocks *)w->aux, row, k, end));
}

#endif
