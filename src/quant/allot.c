/* Which type for which matrix: the least sum of costs under a limit on bytes, or the fewest bytes under a limit on
 * costs. A matrix chooses by itself once there is a price of a byte (Lagrange's multiplier); the price is found by
 * bisection, and what it leaves of the limit is spent step by step on what gains most. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "quant/quant.h"

void sr_allot_sum(const sr_costs *c, const int *choice, int64_t *bytes, double *kld) {
    *bytes = 0;
    *kld = 0;
    for (int i = 0; i < c->n; i++) {
        *bytes += c->cost[i].bytes[choice[i]];
        *kld += c->cost[i].sense * (double)c->cost[i].error[choice[i]] * c->scale;
    }
}

/* What the matrices that go with the i-th take and cost in this type. False: one of them has no such type. */
static bool together(const sr_costs *c, int i, int type, int64_t *bytes, double *kld) {
    *bytes = 0;
    *kld = 0;
    for (; i >= 0; i = c->cost[i].next) {
        if (c->cost[i].bytes[type] < 0) return false;
        *bytes += c->cost[i].bytes[type];
        *kld += c->cost[i].sense * (double)c->cost[i].error[type] * c->scale;
    }
    return true;
}
static void choose(const sr_costs *c, int i, int type, int *choice) {
    for (; i >= 0; i = c->cost[i].next) choice[i] = type;
}

/* The types at this price, in nats a byte. */
static void at_price(const sr_costs *c, double price, int *choice) {
    for (int i = 0; i < c->n; i++) {
        double least = INFINITY, kld;
        int64_t bytes;
        if (c->cost[i].follows) continue;
        for (int t = 0; t < c->n_types; t++) {
            if (!together(c, i, t, &bytes, &kld)) continue;
            const double sum = kld + price * (double)bytes;
            if (sum < least) least = sum, choose(c, i, t, choice);
        }
    }
}

struct limit {
    int64_t bytes; /* of these matrices; INT64_MAX: none */
    double kld;    /* INFINITY: none */
};
static bool within(const sr_costs *c, const struct limit *limit, const int *choice) {
    int64_t bytes;
    double kld;
    sr_allot_sum(c, choice, &bytes, &kld);
    return bytes <= limit->bytes && kld <= limit->kld;
}

/* The best single change that the limit still allows: of cost saved a byte, or of bytes saved a cost. */
static bool improve(const sr_costs *c, const struct limit *limit, int *choice) {
    const bool shrinks = limit->bytes == INT64_MAX;
    int64_t bytes;
    double kld, best = 0;
    int at = -1, to = 0;
    sr_allot_sum(c, choice, &bytes, &kld);
    for (int i = 0; i < c->n; i++) {
        int64_t now, then;
        double cost_now, cost_then;
        if (c->cost[i].follows || !together(c, i, choice[i], &now, &cost_now)) continue;
        for (int t = 0; t < c->n_types; t++) {
            if (t == choice[i] || !together(c, i, t, &then, &cost_then)) continue;
            const int64_t more = then - now;
            const double worse = cost_then - cost_now;
            if (bytes + more > limit->bytes || kld + worse > limit->kld) continue;
            if (shrinks ? more >= 0 : worse >= 0) continue;
            const double gain = shrinks ? (double)-more / fmax(worse, 1e-300) : -worse / (double)(more > 0 ? more : 1);
            if (gain > best) best = gain, at = i, to = t;
        }
    }
    if (at < 0) return false;
    choose(c, at, to, choice);
    return true;
}

/* What is the least that can be had of what the goal limits. */
static sr_status out_of_reach(const sr_costs *c, const sr_goal *goal, int *choice, sr_err *err) {
    int64_t bytes;
    double kld;
    at_price(c, goal->bits_per_weight > 0 || goal->bytes > 0 ? 1e6 : 0, choice);
    sr_allot_sum(c, choice, &bytes, &kld);
    if (goal->bits_per_weight > 0)
        return sr_fail(err, SR_INVALID, "%.3g bits a weight cannot be had: the least is %.3g%s", goal->bits_per_weight,
                       8 * (double)(bytes + c->fixed_matrix_bytes) / c->plan->n_weights,
                       c->plan->importance ? ""
                                           : ", as types below 3 bits need importances (a calibration text or an "
                                             "imatrix)");
    if (goal->bytes > 0)
        return sr_fail(err, SR_INVALID, "a file of %lld bytes cannot be had: the least is %lld%s",
                       (long long)goal->bytes, (long long)(bytes + c->fixed_bytes),
                       c->plan->importance ? ""
                                           : ", as types below 3 bits need importances (a calibration text or an "
                                             "imatrix)");
    return sr_fail(err, SR_INVALID, "a divergence of %.3g cannot be had: the least is %.3g", goal->kld, kld);
}

sr_status sr_allot(const sr_costs *c, const sr_goal *goal, int *choice, sr_err *err) {
    enum { HALVINGS = 200 };
    struct limit limit = {INT64_MAX, INFINITY};
    if (goal->bits_per_weight > 0)
        limit.bytes = (int64_t)(goal->bits_per_weight * c->plan->n_weights / 8) - c->fixed_matrix_bytes;
    else if (goal->bytes > 0)
        limit.bytes = goal->bytes - c->fixed_bytes;
    else
        limit.kld = goal->kld;
    /* Prices between which every type lies; at one end the limit holds, if at all. */
    const bool shrinks = limit.bytes == INT64_MAX;
    double low = -80, high = 10; /* exponents of e */
    at_price(c, shrinks ? 0 : exp(high), choice);
    if (!within(c, &limit, choice)) return out_of_reach(c, goal, choice, err);
    for (int i = 0; i < HALVINGS; i++) {
        const double middle = (low + high) / 2;
        at_price(c, exp(middle), choice);
        if (within(c, &limit, choice) == shrinks)
            low = middle;
        else
            high = middle;
    }
    at_price(c, exp(shrinks ? low : high), choice);
    if (!within(c, &limit, choice)) at_price(c, shrinks ? 0 : exp(10), choice);
    while (improve(c, &limit, choice)) continue;
    return SR_OK;
}

/* ---------------------------------------------------------------- as a recipe */

/* "blk.3." of "blk.3.ffn_down": its bytes, or 0. */
static int layer_front(const sr_cost *m) {
    char front[24];
    if (m->job->layer < 0) return 0;
    const int n = snprintf(front, sizeof front, "blk.%d.", m->job->layer);
    return strncmp(m->name, front, (size_t)n) == 0 ? n : 0;
}

static bool same_kind(const sr_cost *a, const sr_cost *b) {
    const int n = layer_front(a), m = layer_front(b);
    return (n == 0) == (m == 0) && strcmp(a->name + n, b->name + m) == 0;
}

static size_t add_escaped(char *to, size_t at, const char *text) {
    for (; *text; text++) {
        if (*text == '.') to[at++] = '\\';
        to[at++] = *text;
    }
    to[at] = 0;
    return at;
}

/* The matrices of one kind and type in a pattern, or several. */
static sr_status add_kind(const sr_costs *c, const int *choice, int first, bool *done, sr_recipe *r, sr_err *err) {
    enum { AT_ONCE = 96 };
    const sr_cost *m = &c->cost[first];
    const int front = layer_front(m);
    int of_kind = 0, of_type = 0, listed = 0;
    for (int i = 0; i < c->n; i++)
        if (same_kind(m, &c->cost[i])) of_kind++, of_type += choice[i] == choice[first];
    for (int i = first; i < c->n;) {
        char pattern[2 * SR_NAME + 8 * AT_ONCE];
        size_t at = 0;
        pattern[at++] = '^';
        if (front && of_kind == of_type) {
            at += (size_t)snprintf(pattern + at, sizeof pattern - at, "blk\\.\\d+\\.");
            for (; i < c->n; i++) done[i] = done[i] || same_kind(m, &c->cost[i]);
        } else if (front) {
            int n = 0;
            at += (size_t)snprintf(pattern + at, sizeof pattern - at, "blk\\.(");
            for (; i < c->n && n < AT_ONCE; i++) {
                if (choice[i] != choice[first] || !same_kind(m, &c->cost[i])) continue;
                at +=
                    (size_t)snprintf(pattern + at, sizeof pattern - at, "%s%d", n++ ? "|" : "", c->cost[i].job->layer);
                done[i] = true;
            }
            listed += n;
            if (listed == of_type) i = c->n;
            at += (size_t)snprintf(pattern + at, sizeof pattern - at, ")\\.");
        } else {
            done[first] = true;
            i = c->n;
        }
        at = add_escaped(pattern, at, m->name + front);
        at = add_escaped(pattern, at, ".weight");
        strcpy(pattern + at, "$");
        char type[48];
        const sr_type *chosen = &c->type[choice[first]];
        snprintf(type, sizeof type, chosen->spec.group > 0 ? "%s,group=%d" : "%s", chosen->fmt->name,
                 chosen->spec.group);
        sr_status s = sr_recipe_add(r, pattern, true, type, 0, err);
        if (s != SR_OK) return s;
    }
    return SR_OK;
}

sr_status sr_allot_recipe(const sr_costs *c, const int *choice, sr_recipe **out, sr_err *err) {
    sr_recipe *r = sr_recipe_new("the types that were found");
    bool *done = calloc((size_t)c->n + 1, sizeof *done);
    sr_status s = r && done ? SR_OK : sr_fail(err, SR_NOMEM, "no memory for a recipe");
    for (int i = 0; i < c->n && s == SR_OK; i++)
        if (!done[i]) s = add_kind(c, choice, i, done, r, err);
    free(done);
    if (s != SR_OK) {
        sr_recipe_free(r);
        r = NULL;
    }
    *out = r;
    return s;
}
