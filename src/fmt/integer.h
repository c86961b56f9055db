/* Weights w = scale * (q - z) with whole numbers q and z: what the rows of GPTQ, AWQ and compressed-tensors share,
 * private to fmt/. A row says where its codes and zeros lie; decode and unpack are the same for all. */
#ifndef SR_FMT_INTEGER_H
#define SR_FMT_INTEGER_H

#include "fmt/fmt.h"

/* aux of such a weight. */
typedef struct sr_integer {
    /* q[n] of columns k0 .. k0+n of a row */
    void (*codes)(const sr_weight *w, int64_t row, int64_t k0, int n, uint8_t *q);
    int (*zero)(const sr_weight *w, int64_t row, int64_t group);
    /* index of a row's scale in plane SR_INTEGER_SCALES; NULL: [G][N] */
    int64_t (*scale_at)(const sr_weight *w, int64_t row, int64_t group);
    /* What a created weight is written with: the opposite of codes and of zero. put_zero NULL: all are in the middle */
    void (*put_codes)(sr_weight *w, int64_t row, int64_t k0, int n, const uint8_t *q);
    void (*put_zero)(sr_weight *w, int64_t row, int64_t group, int zero);
    const int32_t *g_idx;      /* [K]: the group of each column, where groups are no runs of equal length; else NULL */
    uint32_t add;              /* to each word of zeros, before its fields are read */
    uint8_t plus;              /* to each zero, after */
    bool file_order;           /* created with act-order: stored column k lies where column w->perm[k] is in a file */
    bool planar;               /* GPTQ */
    bool padded, zeros_padded; /* compressed-tensors */
} sr_integer;

enum { SR_INTEGER_CODES, SR_INTEGER_SCALES, SR_INTEGER_ZEROS };

/* Groups of K columns; at least one. */
static inline int64_t sr_integer_groups(int64_t K, const sr_qspec *spec) {
    return (K + spec->group - 1) / spec->group;
}

/* Slots. unpack: codes of up to 7 bits become q - z, without a min; of 8 bits q - 128 and min = scale * (z - 128). */
void sr_integer_decode(const sr_weight *w, int64_t row, int64_t k0, int64_t n, float *out);
void sr_integer_unpack(const sr_weight *w, int64_t row, int64_t k0, int64_t n, int8_t *code, float *scale, float *min);

/* Writing. fit: scale = range / (2^b - 1) with 0 in the range; symmetric ones have the range of the largest magnitude
 * and the middle as zero. That is the rule of GPTQ and compressed-tensors, and AWQ's where a group has both signs. With
 * an importance, ranges are shrunk, and scales follow by least squares. grid: code - lo is q, mn[0] the zero point. */
void sr_integer_fit(const sr_fit *in, sr_grid *grid);
void sr_integer_hold(const sr_fit *in, float scale, float min, sr_grid *grid);
void sr_integer_snap(const sr_grid *grid, int i0, int n, const float *w, int8_t *code, float *back);
void sr_integer_store(sr_weight *w, int64_t row, int64_t k0, int n, const sr_grid *grid, const int8_t *code);
/* All zero points in the middle, as a symmetric file has them and as a created weight begins. */
void sr_integer_middle(sr_weight *w);
/* Random codes and scales, zeros as they are. */
void sr_integer_sample(sr_weight *w, uint64_t seed);
/* g_idx of a created weight: stored column k, which is w->perm[k], is of group k / spec.group. */
void sr_integer_put_order(sr_weight *w, int plane);

#endif
