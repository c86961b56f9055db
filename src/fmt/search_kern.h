/* Searches for scales: which scale (and min) lets integer codes come closest to some weights. Written once in lanes
 * (lanes.h). A lane is a group of weights; or all lanes have the same weights, and each a rung of the ladder of its
 * own, of which the best counts. Nothing is allocated.
 *
 * x must be finite (sr_weight_finite), weights finite and not negative. n is a multiple of 8. */
#ifndef SR_FMT_SEARCH_KERN_H
#define SR_FMT_SEARCH_KERN_H

#include <math.h>
#include <stdbool.h>

#include "fmt/lanes.h"
#include "fmt/search.h"

/* The scales top + first + i * step to try, i < rungs. */
typedef struct ladder {
    lf first;
    float step;
    int rungs;
    bool shared;
} ladder;
/* For lanes that are groups: each climbs all of it. */
L_INLINE ladder climb(float first, float step, int rungs) {
    return (ladder){lf_set1(first), step, rungs, false};
}
/* For lanes that share their weights: each takes every LANES-th rung. rungs is a multiple of 8. */
L_INLINE ladder share(float first, float step, int rungs) {
    return (ladder){first + step * lf_count(), step * LANES, rungs / LANES, true};
}

L_INLINE void range_of(const lf *x, int n, lf *low, lf *high) {
    *low = *high = x[0];
    for (int i = 1; i < n; i++) {
        *low = lf_min(*low, x[i]);
        *high = lf_max(*high, x[i]);
    }
}

/* The lane with the least error; of equals that of the lowest rung, so that it does not depend on LANES. */
L_INLINE int best_lane(lf error, lf rung) {
    int best = 0;
    for (int c = 1; c < LANES; c++)
        if (error[c] < error[best] || (error[c] == error[best] && rung[c] < rung[best])) best = c;
    return best;
}

/* ---------------------------------------------------------------- scale and min */

/* x ~ scale * q - min, and the weighted squared error of that. */
typedef struct affine {
    lf scale, min, error, rung;
} affine;

/* Codes 0..top from inverse and low, then least squares for both; kept where the error is less. The error follows from
 * the normal equations. */
L_INLINE void try_affine(const lf *x, const lf *weight, int n, float top, lf low, lf inverse, lf s_w, bool bounded,
                         lf rung, affine *best) {
    const lf zero = lf_set1(0), last = lf_set1(top);
    lf q1 = zero, q2 = zero, yq = zero, s_y = zero, s_yy = zero;
    for (int i = 0; i < n; i++) {
        const lf y = x[i] - low, wy = weight[i] * y, q = lf_round(lf_clamp(y * inverse, zero, last)),
                 wq = weight[i] * q;
        q1 += wq;
        q2 += wq * q;
        yq += wq * y;
        s_y += wy;
        s_yy += wy * y;
    }
    const lf det = s_w * q2 - q1 * q1, by_q2 = lf_inverse(q2, 0);
    /* det: all codes alike, rounding aside: only the scale is determined */
    const li both = det > 1e-5f * s_w * q2;
    const lf by = 1.0f / lf_select(both, det, lf_set1(1));
    lf a = lf_select(both, (s_w * yq - s_y * q1) * by, yq * by_q2),
       b = lf_select(both, (q2 * s_y - q1 * yq) * by, zero);
    lf error = s_yy - a * yq - b * s_y;
    if (bounded) { /* min at its bound 0: x = y + low ~ a * q */
        const li out = low + b > 0;
        const lf xq = yq + low * q1, a0 = xq * by_q2;
        error = lf_select(out, s_yy + low * (2 * s_y + low * s_w) - a0 * xq, error);
        a = lf_select(out, a0, a);
        b = lf_select(out, -low, b);
    }
    const li better = (q2 > 0) & (a > 0) & (error < best->error);
    best->error = lf_select(better, error, best->error);
    best->scale = lf_select(better, a, best->scale);
    best->min = lf_select(better, -(low + b), best->min);
    best->rung = lf_select(better, rung, best->rung);
}

/* 0 <= q <= nmax. Tries the scales of a ladder, starting anew after `renew` rungs from the min found so far, then
 * `polish` times the codes that the best found asks for. With `bounded` min >= 0. */
L_INLINE affine search_affine(const lf *x, const lf *weight, int n, int nmax, ladder l, int renew, int polish,
                              bool bounded) {
    const float top = (float)nmax;
    lf low, high, s_w = lf_set1(0);
    range_of(x, n, &low, &high);
    if (bounded) low = lf_min(low, lf_set1(0));
    for (int i = 0; i < n; i++) s_w += weight[i];
    const li wide = high - low > SR_TINY;
    affine best = {lf_select(wide, (high - low) / top, lf_set1(0)), -low,
                   lf_select(wide, lf_set1(INFINITY), lf_set1(-1)), lf_set1(0)};
    for (int r = 0; r < l.rungs; r++) {
        if (renew && r % renew == 0) low = -best.min;
        const lf inverse = (top + l.first + l.step * (float)r) * lf_inverse(high - low, SR_TINY);
        try_affine(x, weight, n, top, low, inverse, s_w, bounded, lf_set1((float)r) * LANES + lf_count(), &best);
    }
    if (l.shared) {
        const int c = best_lane(best.error, best.rung);
        best = (affine){lf_set1(best.scale[c]), lf_set1(best.min[c]), lf_set1(best.error[c]), best.rung};
    }
    for (int r = 0; r < polish; r++)
        try_affine(x, weight, n, top, -best.min, lf_inverse(best.scale, SR_TINY), s_w, bounded, best.rung, &best);
    return best;
}

/* After search_affine and once the block's factors are known: the integers sc and mn, 0..top, for which x ~ d * sc * q
 * - dmin * mn has the least weighted squared error, among the eight around (scale, min) that keep the weighted mean of
 * x where the search had put it. */
L_INLINE void refine_affine(const lf *x, const lf *weight, int n, int nmax, float d, float dmin, int top, lf scale,
                            lf min, lf *sc, lf *mn) {
    const lf zero = lf_set1(0), last = lf_set1((float)top);
    lf s_w = zero, s_x = zero;
    for (int i = 0; i < n; i++) {
        s_w += weight[i];
        s_x += weight[i] * x[i];
    }
    const lf mean = s_x * lf_inverse(s_w, 0), code = (mean + min) * lf_inverse(scale, 0);
    const float by = d > 0 ? 1 / d : 0, down = dmin > 0 ? 1 / dmin : 0;
    const lf base = lf_floor(lf_clamp(scale * by, zero, last));
    lf least = lf_set1(INFINITY);
    *sc = *mn = zero;
    for (int k = 0; k < 8; k++) {
        const int c = k ^ 2; /* the floors first: what is left where no weight counts */
        const lf try_sc = lf_clamp(base + (float)(c / 2 - 1), zero, last), a = d * try_sc, inverse = lf_inverse(a, 0);
        const lf to = lf_clamp((a * code - mean) * down, zero, last);
        const lf try_mn = lf_clamp(lf_floor(to) + (float)(c % 2), zero, last), m = dmin * try_mn;
        lf error = zero;
        for (int i = 0; i < n; i++) {
            const lf q = lf_round(lf_clamp((x[i] + m) * inverse, zero, lf_set1((float)nmax))), e = a * q - m - x[i];
            error += weight[i] * e * e;
        }
        const li better = error < least;
        least = lf_select(better, error, least);
        *sc = lf_select(better, try_sc, *sc);
        *mn = lf_select(better, try_mn, *mn);
    }
}

/* ---------------------------------------------------------------- scale alone */

/* Codes that are not evenly spaced, in order; edge[k] is half-way between value[k] and value[k + 1]. The rest of value
 * repeats the last. */
typedef struct code_table {
    int n;
    float value[16], edge[15];
} code_table;

/* The codes that there are: whole numbers lo..hi, or those of a table. */
typedef struct codes {
    float lo, hi;
    const code_table *table;
} code_set;
L_INLINE lf code_near(const code_set c, lf y) {
    if (!c.table) return lf_round(lf_clamp(y, lf_set1(c.lo), lf_set1(c.hi)));
    li at = li_set1(0);
    for (int k = 0; k + 1 < c.table->n; k++) at -= y > c.table->edge[k];
    return lf_lookup16(c.table->value, at);
}

/* x ~ scale * q; gain is what that takes off the weighted sum of squares. */
typedef struct linear {
    lf scale, gain, rung;
} linear;

L_INLINE void try_linear(const lf *x, const lf *weight, int n, const code_set codes, lf inverse, lf rung,
                         linear *best) {
    lf qq = lf_set1(0), xq = qq;
    for (int i = 0; i < n; i++) {
        const lf q = code_near(codes, x[i] * inverse), wq = weight[i] * q;
        qq += wq * q;
        xq += wq * x[i];
    }
    const lf a = xq * lf_inverse(qq, 0), gain = a * xq;
    const li better = gain > best->gain;
    best->gain = lf_select(better, gain, best->gain);
    best->scale = lf_select(better, a, best->scale);
    best->rung = lf_select(better, rung, best->rung);
}

/* 1 / x, and 0 for a tiny x of either sign. */
L_INLINE lf signed_inverse(lf x) {
    const li ok = lf_abs(x) > SR_TINY;
    return lf_select(ok, 1.0f / lf_select(ok, x, lf_set1(1)), lf_set1(0));
}

/* Ladder: scales `most` / (top + ...), most being what has the code top. */
L_INLINE linear search_linear(const lf *x, const lf *weight, int n, lf most, float top, const code_set codes, ladder l,
                              int polish) {
    const lf by = signed_inverse(most);
    linear best = {lf_select(by != 0, most / top, by), lf_set1(0), lf_set1(0)};
    for (int r = 0; r < l.rungs; r++)
        try_linear(x, weight, n, codes, (top + l.first + l.step * (float)r) * by,
                   lf_set1((float)r) * LANES + lf_count(), &best);
    if (l.shared) {
        const int c = best_lane(-best.gain, best.rung);
        best = (linear){lf_set1(best.scale[c]), lf_set1(best.gain[c]), best.rung};
    }
    for (int r = 0; r < polish; r++) try_linear(x, weight, n, codes, signed_inverse(best.scale), best.rung, &best);
    return best;
}

/* The element of the largest magnitude with its sign; the first of equals. */
L_INLINE lf largest_of(const lf *x, int n) {
    lf most = x[0];
    for (int i = 1; i < n; i++) most = lf_select(lf_abs(x[i]) > lf_abs(most), x[i], most);
    return most;
}

/* Codes of both signs: the largest magnitude gets the code `top`; with few codes, the scale's `other` sign serves now
 * and then better. */
L_INLINE linear search_signed(const lf *x, const lf *weight, int n, float top, const code_set codes, ladder l,
                              bool other, int polish) {
    const lf most = largest_of(x, n);
    const linear a = search_linear(x, weight, n, most, top, codes, l, polish);
    if (!other) return a;
    const linear b = search_linear(x, weight, n, -most, top, codes, l, polish);
    const li better = b.gain > a.gain;
    return (linear){lf_select(better, b.scale, a.scale), lf_select(better, b.gain, a.gain), a.rung};
}

/* -nmax <= q < nmax, the largest magnitude at -nmax. */
L_INLINE code_set whole(int nmax) {
    return (code_set){-(float)nmax, (float)(nmax - 1), NULL};
}

/* After search_signed and once the block's factor is known: the integer sc, lo..hi, among the `tries` nearest to
 * scale / d for which x ~ d * sc * q has the least weighted squared error. */
L_INLINE lf refine_signed(const lf *x, const lf *weight, int n, const code_set codes, float d, int lo, int hi, lf scale,
                          int tries) {
    lf best = lf_set1(0), least = lf_set1(INFINITY);
    if (d == 0) return best;
    const lf base = lf_floor(lf_clamp(scale / d, lf_set1((float)lo), lf_set1((float)hi)));
    for (int k = 0; k < tries; k++) { /* 0, 1, -1, 2, -2, .. from the floor */
        const float off = (float)(k % 2 ? (k + 1) / 2 : -k / 2);
        const lf sc = lf_clamp(base + off, lf_set1((float)lo), lf_set1((float)hi)), a = d * sc;
        const lf inverse = signed_inverse(a);
        lf error = lf_set1(0);
        for (int i = 0; i < n; i++) {
            const lf e = a * code_near(codes, x[i] * inverse) - x[i];
            error += weight[i] * e * e;
        }
        const li better = error < least;
        least = lf_select(better, error, least);
        best = lf_select(better, sc, best);
    }
    return best;
}

/* Which of `m` scales, a multiple of 8, has the least weighted squared error for x[n]. */
L_INLINE int best_scale(const float *x, const float *weight, int n, const code_set codes, const float *scale, int m) {
    float least = INFINITY;
    int best = 0;
    for (int k = 0; k < m; k += LANES) {
        const lf a = lf_load(scale + k), inverse = signed_inverse(a);
        lf error = lf_set1(0);
        for (int i = 0; i < n; i++) {
            const lf e = a * code_near(codes, x[i] * inverse) - x[i];
            error += weight[i] * e * e;
        }
        for (int c = 0; c < LANES; c++)
            if (error[c] < least) {
                least = error[c];
                best = k + c;
            }
    }
    return best;
}

/* One scale for x[n] >= 0 with codes 0..nmax: for the factor of positive group scales. */
L_INLINE float search_positive(const float *x, const float *weight, int n, int nmax) {
    lf v[16], w[16], low, high;
    lf_spread(x, n, v);
    lf_spread(weight, n, w);
    range_of(v, n, &low, &high);
    linear l = search_linear(v, w, n, high, (float)nmax, (code_set){0, (float)nmax, NULL}, share(-0.8f, 0.1f, 16), 1);
    return l.scale[0];
}

#endif
