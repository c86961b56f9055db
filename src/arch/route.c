/* Which experts a token goes to, and with what weights. */
#include <math.h>

#include "arch/arch.h"

/* The largest of x[n] that is not taken, the first of equals; always one of them, whatever x holds. */
static int best_of(const float *x, const bool *taken, int n) {
    int best = -1;
    for (int i = 0; i < n; i++)
        if (!taken[i] && (best < 0 || x[i] > x[best])) best = i;
    return best;
}

static void softmax(const float *s, int n, float *p) {
    float most = s[0], sum = 0;
    for (int i = 1; i < n; i++)
        if (s[i] > most) most = s[i];
    for (int i = 0; i < n; i++) sum += p[i] = expf(s[i] - most);
    for (int i = 0; i < n; i++) p[i] /= sum;
}

/* Takes the experts of all groups but the best ones out of the choice. */
static void limit_groups(const sr_gating *g, const float *score, bool *taken) {
    float of[SR_MOST_EXPERTS];
    bool kept[SR_MOST_EXPERTS] = {false};
    const int size = g->n / g->groups;
    for (int k = 0; k < g->groups; k++) {
        bool none[SR_MOST_EXPERTS] = {false};
        const float *own = score + k * size;
        int best = best_of(own, none, size);
        none[best] = true;
        of[k] = own[best] + (g->kind == SR_GATE_SIGMOID && size > 1 ? own[best_of(own, none, size)] : 0);
    }
    for (int i = 0; i < g->groups_used; i++) kept[best_of(of, kept, g->groups)] = true;
    for (int i = 0; i < g->n; i++) taken[i] = !kept[i / size];
}

/* Of each pick the softmax over the logits that are close to it, without what was picked before: arXiv 2409.12136. */
static void sparse_mixer(const sr_gating *g, const float *s, int32_t *expert, float *weight) {
    bool taken[SR_MOST_EXPERTS] = {false};
    for (int i = 0; i < g->used; i++) {
        const int best = best_of(s, taken, g->n);
        float sum = 0;
        for (int e = 0; e < g->n; e++)
            if (!taken[e] && !((s[best] - s[e]) / fmaxf(fabsf(s[e]), s[best]) > 2 * g->jitter))
                sum += expf(s[e] - s[best]);
        expert[i] = best;
        weight[i] = 1 / sum;
        taken[best] = true;
    }
}

void sr_route(const sr_gating *g, const float *logits, const float *bias, int32_t *expert, float *weight) {
    float p[SR_MOST_EXPERTS], score[SR_MOST_EXPERTS], sum = 0;
    bool taken[SR_MOST_EXPERTS] = {false};
    if (g->kind == SR_GATE_SPARSEMIXER) {
        sparse_mixer(g, logits, expert, weight);
        return;
    }
    if (g->kind == SR_GATE_SOFTMAX) softmax(logits, g->n, p);
    for (int i = 0; i < g->n; i++) {
        if (g->kind == SR_GATE_SIGMOID) p[i] = 1 / (1 + expf(-logits[i]));
        if (g->kind == SR_GATE_CHOSEN) p[i] = logits[i];
        score[i] = p[i] + (bias ? bias[i] : 0);
    }
    if (g->groups_used < g->groups) limit_groups(g, score, taken);
    for (int i = 0; i < g->used; i++) {
        expert[i] = best_of(score, taken, g->n);
        taken[expert[i]] = true;
        weight[i] = p[expert[i]];
    }
    if (g->kind == SR_GATE_CHOSEN) softmax(weight, g->used, weight);
    for (int i = 0; i < g->used; i++) sum += weight[i];
    for (int i = 0; i < g->used; i++) {
        if (g->norm) weight[i] /= sum + g->eps;
        weight[i] *= g->scale;
    }
}
