/* What gguf_iq.c and gguf_tq.c share with their kernels: the code grids of the IQ types, vectors of 8 or 4 small
 * integers with the first in the lowest byte, and some tables. Whatever indexes a grid masks its index to the size of
 * the table, so that any byte of a file is safe. */
#ifndef SR_FMT_GGUF_IQ_H
#define SR_FMT_GGUF_IQ_H

#include "fmt/fmt.h"

/* gguf_iq_grids.c, made by tools/iq_grids.py */
extern const uint64_t sr_iq2xxs_grid[256], sr_iq2xs_grid[512], sr_iq2s_grid[1024]; /* of 8, 25, 43 */
extern const uint64_t sr_iq1s_grid[2048];                                          /* of -1, 0, 1; IQ1_M's too */
extern const uint32_t sr_iq3xxs_grid[256];                                         /* of 4, 12, 20, .. 52, 62 */
extern const uint32_t sr_iq3s_grid[512];                                           /* of 1, 3, 5, .. 15 */
/* The same as digits: 2 bits of each of 8, or 3 bits of each of 4, the first in the lowest bits. First the lower bytes
 * of all vectors, then the upper ones; of 4 digits these are nibbles, byte i has that of vector i and, above it, that
 * of vector n / 2 + i. */
extern const uint8_t sr_iq2xxs_digits[2 * 256], sr_iq2xs_digits[2 * 512], sr_iq2s_digits[2 * 1024];
extern const uint8_t sr_iq1s_digits[2 * 2048], sr_iq3xxs_digits[256 + 128], sr_iq3s_digits[512 + 256];

/* The vectors that share the digits of their upper half, in the order of the grid. Digits are 2 bits of each of 4, or 3
 * bits of each of 2. The list ends with n == 0. */
typedef struct sr_iq_run {
    uint16_t first;
    uint8_t n, upper;
} sr_iq_run;
extern const sr_iq_run sr_iq2xxs_runs[], sr_iq2xs_runs[], sr_iq2s_runs[], sr_iq1s_runs[], sr_iq3xxs_runs[],
    sr_iq3s_runs[];

extern const int8_t sr_iq4_values[16]; /* of IQ4_NL and IQ4_XS (gguf_iq.c) */
extern const int8_t sr_fp4_values[16]; /* twice the values of E2M1: sr_fp4_code (gguf_tq.c) */

/* The factor of a row of NVFP4: the tensor's own, or that of an expert in a stack of them; 1 when there is none. */
float sr_nvfp4_factor(const sr_weight *w, int64_t row);

/* For the slot `sample` of types that are only read: random bytes, and in each block a d (f16 at byte d_at; below 0:
 * none) from 3/4 to 5/4 of that one. */
void sr_sample_blocks(sr_weight *w, uint64_t seed, int d_at, float d);

#endif
