/* sr_route against the rules of the families as their reference implementations state them, written here once more in
 * the plainest way: sort all, then keep. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "arch/arch.h"
#include "noise.h"

enum { MOST = 64 };

/* Indices of x[n] by falling value. */
static void sorted(const double *x, int n, int *order) {
    for (int i = 0; i < n; i++) order[i] = i;
    for (int i = 0; i < n; i++)
        for (int j = i + 1; j < n; j++)
            if (x[order[j]] > x[order[i]]) {
                int swap = order[i];
                order[i] = order[j];
                order[j] = swap;
            }
}

static void probabilities(const double *s, const bool *counts, int n, double *p) {
    double sum = 0;
    for (int i = 0; i < n; i++) sum += counts[i] ? exp(s[i]) : 0;
    for (int i = 0; i < n; i++) p[i] = counts[i] ? exp(s[i]) / sum : 0;
}

/* What each expert counts for, 0 for those not chosen. */
static void reference(const sr_gating *g, const double *s, const double *bias, double *out) {
    double p[MOST], score[MOST], sum = 0;
    bool all[MOST], chosen[MOST] = {false};
    int order[MOST], size = g->n / g->groups;
    for (int i = 0; i < g->n; i++) all[i] = true, out[i] = 0;
    if (g->kind == SR_GATE_SPARSEMIXER) { /* modeling_phimoe.py, sparsemixer() without training */
        for (int k = 0; k < 2; k++) {
            double masked[MOST], max = -INFINITY;
            bool counts[MOST];
            int at = 0;
            for (int i = 0; i < g->n; i++) masked[i] = chosen[i] ? -INFINITY : s[i];
            for (int i = 0; i < g->n; i++)
                if (masked[i] > max) max = masked[i], at = i;
            for (int i = 0; i < g->n; i++) {
                double factor = fabs(s[i]) > max ? fabs(s[i]) : max;
                counts[i] = !chosen[i] && !((max - s[i]) / factor > 2 * (double)g->jitter);
            }
            probabilities(s, counts, g->n, p);
            out[at] = p[at];
            chosen[at] = true;
        }
        return;
    }
    if (g->kind == SR_GATE_SOFTMAX) probabilities(s, all, g->n, p);
    for (int i = 0; i < g->n; i++) {
        if (g->kind == SR_GATE_SIGMOID) p[i] = 1 / (1 + exp(-s[i]));
        if (g->kind == SR_GATE_CHOSEN) p[i] = s[i];
        score[i] = p[i] + (bias ? bias[i] : 0);
    }
    if (g->groups > 1) { /* modeling_deepseek_v2.py: the best of each group; v3: the sum of its two best */
        double of[MOST], first, second;
        for (int k = 0; k < g->groups; k++) {
            sorted(score + k * size, size, order);
            first = score[k * size + order[0]];
            second = size > 1 ? score[k * size + order[1]] : 0;
            of[k] = g->kind == SR_GATE_SIGMOID ? first + second : first;
        }
        sorted(of, g->groups, order);
        for (int k = g->groups_used; k < g->groups; k++)
            for (int i = 0; i < size; i++) score[order[k] * size + i] = -INFINITY;
    }
    sorted(score, g->n, order);
    for (int i = 0; i < g->used; i++) chosen[order[i]] = true;
    if (g->kind == SR_GATE_CHOSEN) probabilities(s, chosen, g->n, p);
    for (int i = 0; i < g->n; i++) out[i] = chosen[i] ? p[i] : 0;
    for (int i = 0; i < g->n; i++) sum += out[i];
    for (int i = 0; i < g->n; i++) out[i] = out[i] / (g->norm ? sum + (double)g->eps : 1) * (double)g->scale;
}

static void routes_are_those_of_the_table(void **state) {
    (void)state;
    static const struct {
        const char *family;
        sr_gating g;
        bool bias;
    } cases[] = {
        {"mixtral", {.kind = SR_GATE_CHOSEN, .n = 8, .used = 2, .groups = 1, .groups_used = 1, .scale = 1}, false},
        {"qwen2moe", {.kind = SR_GATE_SOFTMAX, .n = 60, .used = 4, .groups = 1, .groups_used = 1, .scale = 1}, false},
        {"qwen3moe",
         {.kind = SR_GATE_SOFTMAX, .n = 64, .used = 8, .groups = 1, .groups_used = 1, .norm = true, .scale = 1},
         false},
        {"deepseek v2",
         {.kind = SR_GATE_SOFTMAX, .n = 40, .used = 6, .groups = 8, .groups_used = 3, .scale = 16},
         false},
        {"deepseek v3",
         {.kind = SR_GATE_SIGMOID,
          .n = 64,
          .used = 8,
          .groups = 8,
          .groups_used = 4,
          .norm = true,
          .scale = 2.5f,
          .eps = 1e-20f},
         true},
        {"groups of one",
         {.kind = SR_GATE_SIGMOID, .n = 4, .used = 2, .groups = 4, .groups_used = 2, .norm = true, .scale = 1},
         true},
        {"lfm2moe",
         {.kind = SR_GATE_SIGMOID,
          .n = 32,
          .used = 4,
          .groups = 1,
          .groups_used = 1,
          .norm = true,
          .scale = 1,
          .eps = 1e-6f},
         true},
        {"phimoe",
         {.kind = SR_GATE_SPARSEMIXER, .n = 16, .used = 2, .groups = 1, .groups_used = 1, .scale = 1, .jitter = 0.2f},
         false},
        {"all of them", {.kind = SR_GATE_CHOSEN, .n = 3, .used = 3, .groups = 1, .groups_used = 1, .scale = 1}, false},
    };
    for (size_t c = 0; c < sizeof cases / sizeof *cases; c++)
        for (uint64_t seed = 1; seed <= 300; seed++) {
            const sr_gating *g = &cases[c].g;
            float s[MOST], b[MOST], weight[MOST];
            double s64[MOST], b64[MOST], want[MOST], got[MOST] = {0};
            int32_t expert[MOST];
            noise random = {seed * 1000003 + c};
            for (int i = 0; i < g->n; i++) {
                s[i] = 6 * (float)(noise_uniform(&random) - 0.5);
                b[i] = (float)(noise_uniform(&random) - 0.5);
                s64[i] = (double)s[i], b64[i] = (double)b[i];
            }
            sr_route(g, s, cases[c].bias ? b : NULL, expert, weight);
            reference(g, s64, cases[c].bias ? b64 : NULL, want);
            for (int i = 0; i < g->used; i++) {
                assert_in_range(expert[i], 0, g->n - 1);
                if (got[expert[i]] != 0) fail_msg("%s: expert %d twice", cases[c].family, expert[i]);
                got[expert[i]] = (double)weight[i];
            }
            for (int i = 0; i < g->n; i++)
                if (!(fabs(got[i] - want[i]) <= 2e-6 * (1 + fabs(want[i]))))
                    fail_msg("%s, seed %d: expert %d counts for %g, expected %g", cases[c].family, (int)seed, i, got[i],
                             want[i]);
        }
}

/* Equal logits go to the first experts; what is no number goes somewhere, once. */
static void ties_and_numbers_that_are_none_are_routed(void **state) {
    (void)state;
    for (int kind = SR_GATE_SOFTMAX; kind <= SR_GATE_SPARSEMIXER; kind++)
        for (int bad = 0; bad < 4; bad++) {
            sr_gating g = {.kind = (sr_gate_kind)kind, .n = 8, .used = 2, .groups = 4, .groups_used = 2, .scale = 1};
            float s[8] = {1, 1, 1, 1, 1, 1, 1, 1}, weight[2];
            int32_t expert[2] = {-1, -1};
            if (bad) s[3] = bad == 1 ? NAN : bad == 2 ? INFINITY : -INFINITY;
            if (bad == 1)
                for (int i = 0; i < 8; i++) s[i] = NAN;
            sr_route(&g, s, NULL, expert, weight);
            assert_in_range(expert[0], 0, 7);
            assert_in_range(expert[1], 0, 7);
            assert_int_not_equal(expert[0], expert[1]);
            if (bad == 0) {
                assert_int_equal(expert[0], 0);
                assert_int_equal(expert[1], 1);
            }
        }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(routes_are_those_of_the_table),
        cmocka_unit_test(ties_and_numbers_that_are_none_are_routed),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
