/* How an HQQ weight is folded (hqq.c), for its kernels too. */
#ifndef SR_FMT_HQQ_H
#define SR_FMT_HQQ_H

#include "fmt/fmt.h"

enum { SR_HQQ_CODES, SR_HQQ_SCALES, SR_HQQ_ZEROS };

/* sr_weight.aux: where number i of a flat array lies and which scale it has. */
typedef struct sr_hqq {
    const uint8_t *word;
    int64_t words, cols, group; /* L, C; group: numbers a scale along the flat array, when `by` says so */
    uint8_t bits, per, bytes;   /* codes a word, bytes a word */
    enum { SR_HQQ_BY_GROUP, SR_HQQ_BY_COLUMN, SR_HQQ_BY_ONE } by;
} sr_hqq;

/* Where HQQ's solver moves the zero z of a group whose codes are nearest(x * s + z), 0 .. top. */
float sr_hqq_zero(const sr_fit *in, float s, float z, float top);

#endif
