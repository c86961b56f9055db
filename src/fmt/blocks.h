/* One scale a block of rows and columns: what a weight's aux says where it is so (FP8, int8 of compressed-tensors). */
#ifndef SR_FMT_BLOCKS_H
#define SR_FMT_BLOCKS_H

#include <stdint.h>

/* sr_weight.aux */
typedef struct sr_blocks {
    int64_t gn, gk, pitch;      /* rows and columns of a block, scales a row of blocks */
    int64_t stack, stack_pitch; /* rows and scales of an expert, where blocks begin anew with each; or 0 */
} sr_blocks;

/* Index of the scale of a row's columns from k on, and where they end. */
static inline int64_t sr_block_at(const sr_blocks *b, int64_t row, int64_t k, int64_t *end) {
    int64_t block = k / b->gk;
    *end = (block + 1) * b->gk;
    if (b->stack) block += row / b->stack * b->stack_pitch, row %= b->stack;
    return row / b->gn * b->pitch + block;
}

#endif
