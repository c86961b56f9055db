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
    const int32_t *g_idx;      /* [K]: the group of each column, where groups are no runs of equal length; else NULL */
    uint32_t add;              /* to each word of zeros, before its fields are read */
    uint8_t plus;              /* to each zero, after */
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

#endif
