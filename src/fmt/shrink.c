#include "fmt/shrink.h"

#include <math.h>

#include "fmt/search.h"

void sr_fit_range(const sr_fit *in, float *low, float *high) {
    *low = *high = sr_weight_finite(in->x[0]);
    for (int i = 1; i < in->n; i++) {
        float v = sr_weight_finite(in->x[i]);
        *low = v < *low ? v : *low;
        *high = v > *high ? v : *high;
    }
}

float sr_fit_most(const sr_fit *in) {
    float low, high;
    sr_fit_range(in, &low, &high);
    return high > -low ? high : -low;
}

void sr_fit_sums(const sr_fit *in, float *sum_w, float *sum_wx) {
    *sum_w = *sum_wx = 0;
    for (int i = 0; i < in->n; i++) {
        float w = sr_importance(in->importance[i]);
        *sum_w += w;
        *sum_wx += w * sr_weight_finite(in->x[i]);
    }
}

bool sr_fit_weighs(const sr_fit *in) {
    for (int i = 0; in->importance && i < in->n; i++)
        if (sr_importance(in->importance[i]) > 0) return true;
    return false;
}

void sr_try_affine(const sr_fit *in, float top, sr_tries *t) {
    float inverse[SR_TRIES], scale[SR_TRIES], min[SR_TRIES];
    float error[SR_TRIES] = {0}, sq[SR_TRIES] = {0}, sqq[SR_TRIES] = {0}, sxq[SR_TRIES] = {0};
    for (int c = 0; c < SR_TRIES; c++) {
        scale[c] = t->scale[c];
        min[c] = t->min[c];
        inverse[c] = fabsf(scale[c]) > SR_TINY ? 1 / scale[c] : 0;
    }
    for (int i = 0; i < in->n; i++) {
        const float x = sr_weight_finite(in->x[i]), w = sr_importance(in->importance[i]);
        for (int c = 0; c < SR_TRIES; c++) {
            float q = sr_nearest(sr_clamp((x + min[c]) * inverse[c], 0, top)), e = scale[c] * q - min[c] - x;
            float wq = w * q;
            error[c] += w * e * e;
            sq[c] += wq;
            sqq[c] += wq * q;
            sxq[c] += wq * x;
        }
    }
    for (int c = 0; c < SR_TRIES; c++) {
        t->error[c] = error[c];
        t->q[c] = sq[c];
        t->qq[c] = sqq[c];
        t->xq[c] = sxq[c];
    }
}
