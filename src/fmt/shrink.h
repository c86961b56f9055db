/* The search for scales of groups of any length, private to fmt/: candidates that can be stored are tried eight at a
 * time, and the one of the least weighted error is kept. The first candidate is the format's own rule, so that a search
 * is never worse. */
#ifndef SR_FMT_SHRINK_H
#define SR_FMT_SHRINK_H

#include "fmt/fmt.h"

enum { SR_TRIES = 8 };

/* x ~ scale * q - min with whole q, 0 <= q <= top. Callers fill scale and min; the sums are over all weights with the
 * codes nearest to x. */
typedef struct sr_tries {
    float scale[SR_TRIES], min[SR_TRIES];
    float error[SR_TRIES];
    float q[SR_TRIES], qq[SR_TRIES], xq[SR_TRIES]; /* of weight * q, weight * q^2, weight * x * q */
} sr_tries;
void sr_try_affine(const sr_fit *in, float top, sr_tries *t);

/* x ~ scale * q - min for a unit whose importances count. storable rounds both to what the planes hold. *scale and *min
 * come in as the rule's, storable, and become the best that was tried: shrunk ranges, scales around, least squares. */
void sr_shrink_affine(const sr_fit *in, float top, void (*storable)(const sr_weight *w, float *scale, float *min),
                      float *scale, float *min);

/* The weighted error of a unit with a grid, by the format's own snap. */
float sr_fit_error(const sr_fit *in, const sr_grid *grid);

/* A grid whose scale is a stored byte, sc[0]: `byte`, or with an importance that of the least error up to `around` from
 * it, from least to most. */
void sr_fit_byte(const sr_fit *in, sr_grid *grid, int byte, int least, int most, int around,
                 float (*scale)(const sr_weight *w, int byte));
/* The E8M0 byte of a group whose largest magnitude is `amax`, elements having the largest power of two 2^power: its own
 * exponent less that, one more where amax would round past the last element (compressed-tensors:
 * quantization/utils/mxfp_utils.py; the OCP specification's rule does not round). `mantissa`: bits of an element's. */
int sr_e8m0_of(float amax, int power, int mantissa);
/* snap of E2M1 and E4M3 elements times scale[0]; codes are the stored bits. */
void sr_snap_e2m1(const sr_grid *grid, int i0, int n, const float *w, int8_t *code, float *back);
void sr_snap_e2m3(const sr_grid *grid, int i0, int n, const float *w, int8_t *code, float *back);
void sr_snap_e4m3(const sr_grid *grid, int i0, int n, const float *w, int8_t *code, float *back);

/* Smallest and largest weight of a unit, as encoders take them. */
void sr_fit_range(const sr_fit *in, float *low, float *high);
/* The largest magnitude. */
float sr_fit_most(const sr_fit *in);
/* Sums of weight and of weight * x. */
void sr_fit_sums(const sr_fit *in, float *sum_w, float *sum_wx);
/* Whether importances are there and any counts. */
bool sr_fit_weighs(const sr_fit *in);

#endif
