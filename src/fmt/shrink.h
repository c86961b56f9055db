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

/* Smallest and largest weight of a unit, as encoders take them. */
void sr_fit_range(const sr_fit *in, float *low, float *high);
/* The largest magnitude. */
float sr_fit_most(const sr_fit *in);
/* Sums of weight and of weight * x. */
void sr_fit_sums(const sr_fit *in, float *sum_w, float *sum_wx);
/* Whether importances are there and any counts. */
bool sr_fit_weighs(const sr_fit *in);

#endif
