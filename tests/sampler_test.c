/* The sampler: order of its steps, distributions, odd numbers. */
#include "support.h"

#include <math.h>

#include "base/map.h"

static sr_sampling plain(void) { /* softmax and draw, nothing else */
    sr_sampling s = sr_sampling_default();
    s.temperature = 1;
    s.top_k = 0;
    s.top_p = 1;
    s.min_p = 0;
    return s;
}
static sr_sampler *sampler(const sr_sampling *s, int32_t n) {
    sr_sampler *out;
    sr_err err = {0};
    if (sr_sampler_create(s, n, &out, &err) != SR_OK) fail_msg("%s", err.msg);
    return out;
}

/* Draws `n` times and compares counts with probabilities p[0..n_p). Ids of probability 0 must not appear. The bound is
 * the 99.9 % point of chi-square by Wilson and Hilferty's approximation. */
static void check_distribution(const char *what, const sr_sampling *options, const float *logits, const double *p,
                               int n_p) {
    enum { DRAWS = 40000 };
    sr_sampler *s = sampler(options, n_p);
    int *count = calloc((size_t)n_p, sizeof *count);
    assert_non_null(count);
    for (int i = 0; i < DRAWS; i++) {
        int32_t id = sr_sample(s, logits);
        assert_in_range(id, 0, n_p - 1);
        count[id]++;
    }
    double chi = 0;
    int freedom = -1;
    for (int i = 0; i < n_p; i++) {
        if (p[i] == 0) {
            if (count[i]) fail_msg("%s: id %d was drawn %d times, want never", what, i, count[i]);
            continue;
        }
        double want = p[i] * DRAWS, d = count[i] - want;
        chi += d * d / want;
        freedom++;
    }
    if (freedom > 0) {
        double v = 2.0 / (9.0 * freedom), bound = freedom * pow(1 - v + 3.09 * sqrt(v), 3);
        if (chi > bound)
            fail_msg("%s: chi-square %.1f with %d degrees of freedom, want at most %.1f", what, chi, freedom, bound);
    }
    free(count);
    sr_sampler_free(s);
}

/* Softmax of logits / temperature over the ids in `keep`. */
static void softmax(const float *logits, int n, double temperature, const bool *keep, double *p) {
    double sum = 0;
    for (int i = 0; i < n; i++) sum += p[i] = keep && !keep[i] ? 0 : exp(logits[i] / temperature);
    for (int i = 0; i < n; i++) p[i] /= sum;
}

static const float slope[10] = {0.0f, 0.3f, 1.2f, -0.5f, 2.0f, 1.9f, -2.0f, 0.7f, 1.2f, -1.0f};

static void draws_follow_the_softmax(void **state) {
    (void)state;
    double p[10];
    for (int k = 0; k < 4; k++) {
        sr_sampling o = plain();
        o.temperature = (float[]){1, 0.5f, 2, 0.1f}[k];
        o.seed = (uint64_t)k * 77;
        softmax(slope, 10, o.temperature, NULL, p);
        if (k == 3) /* too rare to be expected; chi-square needs a few of each */
            for (int i = 0; i < 10; i++) p[i] = p[i] < 1e-4 ? 1e-9 : p[i];
        check_distribution("softmax", &o, slope, p, 10);
    }
}

static void the_largest_logit_wins_without_temperature(void **state) {
    (void)state;
    for (int k = 0; k < 2; k++) {
        sr_sampling o = sr_sampling_default();
        o.temperature = k ? 9e-8f : 0;
        sr_sampler *s = sampler(&o, 6);
        assert_int_equal(sr_sample(s, (const float[]){1, 5, 2, 5, 0, 5}), 1); /* the first of equals */
        assert_int_equal(sr_sample(s, (const float[]){-3, -2, -2, -9, -8, -7}), 1);
        sr_sampler_free(s);
    }
}

static void top_k_keeps_the_largest_and_of_equals_the_lower_ids(void **state) {
    (void)state;
    double p[10];
    for (int k = 1; k <= 12; k++) {
        sr_sampling o = plain();
        bool keep[10] = {false};
        o.top_k = k;
        o.seed = 5;
        static const int order[10] = {4, 5, 2, 8, 7, 1, 0, 3, 9, 6}; /* 2 and 8 are equal */
        for (int i = 0; i < k && i < 10; i++) keep[order[i]] = true;
        softmax(slope, 10, 1, keep, p);
        check_distribution("top_k", &o, slope, p, 10);
    }
}

static void top_p_drops_what_begins_at_p_of_what_top_k_left(void **state) {
    (void)state;
    float logits[4];
    const double mass[4] = {0.4, 0.1, 0.2, 0.3};
    for (int i = 0; i < 4; i++) logits[i] = (float)log(mass[i]);
    sr_sampling o = plain();
    o.top_p = 0.39f;
    check_distribution("0.39", &o, logits, (const double[]){1, 0, 0, 0}, 4);
    o.top_p = 0.41f;
    check_distribution("0.41", &o, logits, (const double[]){0.4 / 0.7, 0, 0, 0.3 / 0.7}, 4);
    o.top_p = 0.69f;
    check_distribution("0.69", &o, logits, (const double[]){0.4 / 0.7, 0, 0, 0.3 / 0.7}, 4);
    o.top_p = 0.71f;
    check_distribution("0.71", &o, logits, (const double[]){0.4 / 0.9, 0, 0.2 / 0.9, 0.3 / 0.9}, 4);
    o.top_p = 0.999f;
    check_distribution("0.999", &o, logits, mass, 4);
    o.top_k = 2; /* 0.57 of 0.7 is 0.399: top_k first */
    o.top_p = 0.57f;
    check_distribution("top_k first", &o, logits, (const double[]){1, 0, 0, 0}, 4);
    o.top_p = 0.58f;
    check_distribution("top_k first", &o, logits, (const double[]){0.4 / 0.7, 0, 0, 0.3 / 0.7}, 4);
    for (int i = 0; i < 4; i++) { /* off */
        o = plain();
        o.top_p = (float[]){0, 1, -1, 2}[i];
        check_distribution("off", &o, logits, mass, 4);
    }
}

static void min_p_drops_what_is_at_most_that_part_of_the_largest(void **state) {
    (void)state;
    float logits[4];
    const double mass[4] = {0.4, 0.1, 0.2, 0.3};
    for (int i = 0; i < 4; i++) logits[i] = (float)log(mass[i]);
    sr_sampling o = plain();
    o.min_p = 0.49f;
    check_distribution("0.49", &o, logits, (const double[]){0.4 / 0.9, 0, 0.2 / 0.9, 0.3 / 0.9}, 4);
    o.min_p = 0.51f;
    check_distribution("0.51", &o, logits, (const double[]){0.4 / 0.7, 0, 0, 0.3 / 0.7}, 4);
    o.min_p = 0.99f;
    check_distribution("0.99", &o, logits, (const double[]){1, 0, 0, 0}, 4);
    o.min_p = 1;
    check_distribution("off", &o, logits, mass, 4);
    /* exactly that part: equal logits and 0.5 of one */
    o.min_p = 0.5f;
    o.temperature = 1;
    const float even[3] = {0, 0, -0.69314718f};
    sr_sampler *s = sampler(&o, 3);
    if (expf(even[2]) <= 0.5f)
        for (int i = 0; i < 200; i++) assert_in_range(sr_sample(s, even), 0, 1);
    sr_sampler_free(s);
}

static void temperature_comes_before_the_filters(void **state) {
    (void)state;
    float logits[3] = {(float)log(0.5), (float)log(0.3), (float)log(0.2)};
    sr_sampling o = plain();
    o.temperature = 0.5f; /* squares: 25 9 4 of 38 */
    o.top_p = 0.7f;       /* 0.658 < 0.7: two stay; without temperature 0.5 and 0.8: two as well; */
    check_distribution("squares", &o, logits, (const double[]){25 / 34.0, 9 / 34.0, 0}, 3);
    o.top_p = 0.6f; /* one; without temperature two */
    check_distribution("squares", &o, logits, (const double[]){1, 0, 0}, 3);
}

/* What the sampler prefers after some tokens: the argmax of known logits. */
static int32_t best(sr_sampling o, const float *logits, int n, const int *prompt, const int *generated) {
    o.temperature = 0;
    sr_sampler *s = sampler(&o, n);
    for (; prompt && *prompt >= 0; prompt++) sr_sampler_accept(s, *prompt, false);
    for (; generated && *generated >= 0; generated++) sr_sampler_accept(s, *generated, true);
    int32_t id = sr_sample(s, logits);
    sr_sampler_free(s);
    return id;
}

static void penalties_count_what_they_should(void **state) {
    (void)state;
    const float x[3] = {3, 2, -1};
    sr_sampling o = plain();
    o.frequency_penalty = 0.6f;
    assert_int_equal(best(o, x, 3, (const int[]){0, 0, 0, -1}, NULL), 0); /* the prompt does not count */
    assert_int_equal(best(o, x, 3, NULL, (const int[]){0, -1}), 0);       /* 2.4 */
    assert_int_equal(best(o, x, 3, NULL, (const int[]){0, 0, -1}), 1);    /* 1.8 */
    o = plain();
    o.presence_penalty = 0.9f;
    assert_int_equal(best(o, x, 3, NULL, (const int[]){0, 0, 0, 0, -1}), 0); /* once */
    o.presence_penalty = 1.1f;
    assert_int_equal(best(o, x, 3, (const int[]){0, -1}, NULL), 0);
    assert_int_equal(best(o, x, 3, NULL, (const int[]){0, -1}), 1);
    o = plain();
    o.repetition_penalty = 1.6f;
    assert_int_equal(best(o, x, 3, (const int[]){0, -1}, NULL), 1); /* 1.875: the prompt counts */
    assert_int_equal(best(o, x, 3, NULL, (const int[]){0, 0, 0, -1}), 1);
    const float y[2] = {-1, -1.5f};
    assert_int_equal(best(o, y, 2, NULL, (const int[]){0, -1}), 1); /* negative logits are multiplied */
    o.repetition_penalty = 0.5f;
    assert_int_equal(best(o, x, 3, (const int[]){1, -1}, NULL), 1); /* below 1 prefers repetition */
    /* order: 3 - 2.5 = 0.5 is then divided, not multiplied; (3 / 4) - 2.5 would be below -1 */
    o = plain();
    o.presence_penalty = 2.5f;
    o.repetition_penalty = 4;
    assert_int_equal(best(o, (const float[]){3, 0.1f}, 2, NULL, (const int[]){0, -1}), 0);
    /* bias comes after: (2 / 4) + 1 = 1.5 > 1.2 > (2 + 1) / 4 */
    const sr_logit_bias bias = {0, 1};
    o = plain();
    o.repetition_penalty = 4;
    o.logit_bias = &bias;
    o.n_logit_bias = 1;
    assert_int_equal(best(o, (const float[]){2, 1.2f}, 2, NULL, (const int[]){0, -1}), 0);
    /* before temperature: a bias of log 3 triples the odds at temperature 1, and is squared at 0.5 */
    const sr_logit_bias triple = {1, 1.0986123f};
    o = plain();
    o.logit_bias = &triple;
    o.n_logit_bias = 1;
    check_distribution("bias", &o, (const float[]){0, 0}, (const double[]){0.25, 0.75}, 2);
    o.temperature = 0.5f;
    check_distribution("bias, squared", &o, (const float[]){0, 0}, (const double[]){0.1, 0.9}, 2);
}

static void reset_forgets_and_repeats(void **state) {
    (void)state;
    sr_sampling o = plain();
    o.seed = 99;
    o.frequency_penalty = 1;
    o.repetition_penalty = 1.3f;
    sr_sampler *s = sampler(&o, 10);
    int32_t first[50];
    for (int round = 0; round < 3; round++) {
        for (int i = 0; i < 50; i++) {
            int32_t id = sr_sample(s, slope);
            if (!round)
                first[i] = id;
            else
                assert_int_equal(id, first[i]);
            sr_sampler_accept(s, id, true);
            sr_sampler_accept(s, i % 10, false);
        }
        sr_sampler_reset(s);
    }
    sr_sampler_accept(s, -1, true);
    sr_sampler_accept(s, 10, true);
    sr_sampler_free(s);
    o.seed = 100;
    s = sampler(&o, 10);
    int same = 0;
    for (int i = 0; i < 50; i++) same += sr_sample(s, slope) == first[i];
    assert_true(same < 50);
    sr_sampler_free(s);
}

/* xoshiro256** seeded by splitmix64(0): the published sequence decides which of 2^k equal logits is drawn. */
static void the_generator_is_xoshiro256starstar(void **state) {
    (void)state;
    /* first outputs for seed 0; from the reference code of prng.di.unimi.it */
    static const uint64_t want[4] = {0x99EC5F36CB75F2B4u, 0xBF6E1F784956452Au, 0x1A5F849D4933E6E0u,
                                     0x6AA594F1262D2D2Cu};
    sr_sampling o = plain();
    sr_sampler *s = sampler(&o, 1024);
    float *flat = calloc(1024, sizeof *flat);
    assert_non_null(flat);
    /* candidates are not in the order of ids, so only that the draws use 1024 equal cells can be seen: ids repeat
     * exactly where the upper ten bits of the generator do */
    int32_t id[4];
    for (int i = 0; i < 4; i++) id[i] = sr_sample(s, flat);
    for (int i = 0; i < 4; i++)
        for (int k = 0; k < i; k++) assert_int_equal(id[i] == id[k], want[i] >> 54 == want[k] >> 54);
    free(flat);
    sr_sampler_free(s);
    /* two cells: the top bit, with the larger logit first */
    s = sampler(&o, 2);
    for (int i = 0; i < 4; i++) assert_int_equal(sr_sample(s, (const float[]){1e-7f, 0}), (int)(want[i] >> 63));
    sr_sampler_free(s);
}

static void odd_logits_are_survived(void **state) {
    (void)state;
    const float nan = NAN, inf = INFINITY;
    for (int k = 0; k < 6; k++) {
        sr_sampling o = k == 5 ? sr_sampling_default() : plain();
        if (k == 1) o.temperature = 0;
        if (k == 2) o.top_k = 2;
        if (k == 3) o.top_p = 0.9f;
        if (k == 4) o.min_p = 0.1f;
        sr_sampler *s = sampler(&o, 4);
        sr_sampler_accept(s, 0, true);
        for (int i = 0; i < 100; i++) {
            assert_int_equal(sr_sample(s, (const float[]){nan, -inf, nan, -5}), 3);
            assert_int_equal(sr_sample(s, (const float[]){nan, 1, inf, -5}), 2);
            assert_int_equal(sr_sample(s, (const float[]){nan, nan, nan, nan}), -1);
            assert_int_equal(sr_sample(s, (const float[]){-inf, -inf, -inf, -inf}), -1);
            assert_int_equal(sr_sample(s, (const float[]){inf, nan, inf, -inf}), -1);
            assert_int_equal(sr_sample(s, (const float[]){3e38f, -3e38f, -3e38f, -3e38f}), 0);
            assert_in_range(sr_sample(s, (const float[]){0, 0, 0, 0}), 0, 3);
        }
        sr_sampler_free(s);
    }
    /* a bias of minus infinity bans a token; all banned: none */
    const sr_logit_bias ban[] = {{0, -INFINITY}, {1, -INFINITY}};
    sr_sampling o = plain();
    o.logit_bias = ban;
    for (int n = 1; n <= 2; n++) {
        o.n_logit_bias = n;
        sr_sampler *s = sampler(&o, 2);
        for (int i = 0; i < 50; i++) assert_int_equal(sr_sample(s, (const float[]){9, 0}), n == 1 ? 1 : -1);
        sr_sampler_free(s);
    }
}

static void nonsense_settings_are_refused(void **state) {
    (void)state;
    for (int k = 0; k < 12; k++) {
        sr_sampling o = sr_sampling_default();
        sr_logit_bias b = {0, 1};
        const char *word = NULL;
        int32_t n = 10;
        o.logit_bias = &b;
        o.n_logit_bias = 1;
        if (k == 0) o.temperature = NAN, word = "temperature";
        if (k == 1) o.temperature = -1, word = "temperature";
        if (k == 2) o.temperature = INFINITY, word = "temperature";
        if (k == 3) o.top_p = NAN, word = "top_p";
        if (k == 4) o.min_p = NAN, word = "min_p";
        if (k == 5) o.repetition_penalty = 0, word = "repetition_penalty";
        if (k == 6) o.frequency_penalty = NAN, word = "frequency_penalty";
        if (k == 7) o.presence_penalty = -INFINITY, word = "presence_penalty";
        if (k == 8) b.id = 10, word = "10";
        if (k == 9) b.id = -1, word = "-1";
        if (k == 10) b.bias = NAN, word = "logit_bias";
        if (k == 11) n = 0, word = "vocabulary";
        sr_sampler *s;
        sr_err err = {0};
        check_error(word, sr_sampler_create(&o, n, &s, &err), &err, SR_INVALID, word, NULL);
        assert_null(s);
    }
}

/* Large vocabularies go through selection by halves: compare with a sort. */
static const float *sorted_by;
static int descending(const void *a, const void *b) {
    int32_t x = *(const int32_t *)a, y = *(const int32_t *)b;
    if (sorted_by[x] != sorted_by[y]) return sorted_by[x] > sorted_by[y] ? -1 : 1;
    return x < y ? -1 : 1;
}
static void selection_equals_sorting(void **state) {
    (void)state;
    enum { V = 20000 };
    float *x = malloc(V * sizeof *x);
    int32_t *order = malloc(V * sizeof *order);
    bool *drawn = malloc(V);
    assert_true(x && order && drawn);
    uint64_t r = 3;
    for (int kind = 0; kind < 5; kind++) {
        for (int i = 0; i < V; i++) {
            r = r * 6364136223846793005u + 1442695040888963407u;
            x[i] = kind == 0   ? (float)(r >> 40) / (1 << 24)
                   : kind == 1 ? (float)(r >> 62) /* four values */
                   : kind == 2 ? (float)i / V     /* ascending */
                   : kind == 3 ? -(float)i / V    /* descending */
                               : 0;
            order[i] = i;
        }
        sorted_by = x;
        qsort(order, V, sizeof *order, descending);
        for (int k = 0; k < 4; k++) {
            sr_sampling o = plain();
            int keep = (int[]){1, 40, 1500, 12000}[k];
            o.top_k = keep;
            for (int with_p = 0; with_p < 2; with_p++) {
                int kept = keep;
                if (with_p) {
                    o.top_p = 0.6f;
                    double total = 0, mass = 0;
                    for (int i = 0; i < keep; i++) total += expf(x[order[i]] - x[order[0]]);
                    for (kept = 0; kept < keep && mass < (double)o.top_p * total; kept++)
                        mass += expf(x[order[kept]] - x[order[0]]);
                }
                memset(drawn, 0, V);
                for (int i = 0; i < kept; i++) drawn[order[i]] = true;
                /* one more or less where sums round differently */
                if (with_p && kept < keep) drawn[order[kept]] = true;
                sr_sampler *s = sampler(&o, V);
                for (int i = 0; i < 300; i++) {
                    int32_t id = sr_sample(s, x);
                    if (id < 0 || !drawn[id])
                        fail_msg("kind %d, top_k %d, top_p %g: drew %d", kind, keep, (double)o.top_p, id);
                }
                sr_sampler_free(s);
            }
        }
    }
    free(x);
    free(order);
    free(drawn);
}

static void a_large_vocabulary_takes_about_a_millisecond(void **state) {
    (void)state;
    enum { V = 152000, N = 200 };
    float *x = malloc(V * sizeof *x), *copy = malloc(V * sizeof *x);
    assert_true(x && copy);
    uint64_t r = 1;
    for (int i = 0; i < V; i++) { /* about normal with deviation 2.4 */
        float sum = 0;
        for (int k = 0; k < 6; k++) {
            r = r * 6364136223846793005u + 1442695040888963407u;
            sum += (float)(r >> 40) / (1 << 24) - 0.5f;
        }
        x[i] = sum * 3.4f;
    }
    memcpy(copy, x, V * sizeof *x);
    static const struct {
        const char *name;
        float temperature, top_p, min_p;
        int top_k;
    } cases[] = {{"greedy", 0, 1, 0, 0},
                 {"default", 0.8f, 0.95f, 0.05f, 40},
                 {"top_k 1000", 0.8f, 0.95f, 0, 1000},
                 {"top_k 10000", 0.8f, 1, 0, 10000},
                 {"top_p 0.9", 1, 0.9f, 0, 0},
                 {"min_p 0.05", 1, 1, 0.05f, 0},
                 {"none", 1, 1, 0, 0}};
    for (size_t k = 0; k < sizeof cases / sizeof *cases; k++) {
        sr_sampling o = sr_sampling_default();
        o.temperature = cases[k].temperature;
        o.top_p = cases[k].top_p;
        o.min_p = cases[k].min_p;
        o.top_k = cases[k].top_k;
        o.repetition_penalty = 1.1f;
        sr_sampler *s = sampler(&o, V);
        double best_time = 1e9;
        for (int i = 0; i < N; i++) {
            double start = sr_clock();
            int32_t id = sr_sample(s, x);
            double took = sr_clock() - start;
            if (took < best_time) best_time = took;
            sr_sampler_accept(s, id, true);
        }
        print_message("%s: %.2f ms\n", cases[k].name, best_time * 1e3);
        assert_true(best_time < 0.2);
        sr_sampler_free(s);
    }
    assert_memory_equal(x, copy, V * sizeof *x); /* logits are read only */
    free(x);
    free(copy);
}

/* A sampler of 8 tokens with DRY, that has seen ids[n]. */
static sr_sampler *dry(float multiplier, int allowed, const int32_t *ids, int n) {
    static const int32_t breaker[] = {7};
    sr_sampling o = plain();
    o.temperature = 0;
    o.dry_multiplier = multiplier;
    o.dry_base = 2;
    o.dry_allowed_length = allowed;
    o.dry_breaker = breaker;
    o.n_dry_breaker = 1;
    sr_sampler *s = sampler(&o, 8);
    for (int i = 0; i < n; i++) sr_sampler_accept(s, ids[i], i > 1);
    return s;
}
/* The score that token `id` lost: the least score of token 0 with which 0 is chosen before it. */
static double lost(sr_sampler *s, int32_t id) {
    for (int i = 0; i < 400; i++) {
        float logits[8] = {-(float)i / 4};
        for (int k = 1; k < 8; k++) logits[k] = -1000;
        logits[id] = 0;
        if (sr_sample(s, logits) == id) return i == 0 ? 0 : i / 4.0;
    }
    return 100;
}

static void dry_lowers_what_would_go_on_with_a_repetition(void **state) {
    (void)state;
    /* "1 2 3 4 ... 1 2 3": 4 would make four of the same, 3 tokens of which stand before it. */
    static const int32_t ids[] = {1, 2, 3, 4, 5, 1, 2, 3};
    sr_sampler *s = dry(1, 2, ids, 8);
    assert_true(lost(s, 4) == 2.25); /* 1 * 2 ^ (3 - 2) = 2, and then token 0 wins at equal scores */
    assert_true(lost(s, 5) == 0.25);
    sr_sampler_free(s);
    s = dry(1, 4, ids, 8); /* three are free */
    assert_true(lost(s, 4) == 0.25);
    sr_sampler_free(s);
    s = dry(0.5f, 3, ids, 8);
    assert_true(lost(s, 4) == 0.75);
    sr_sampler_reset(s); /* forgets */
    assert_true(lost(s, 4) == 0.25);
    sr_sampler_free(s);
    static const int32_t two[] = {2, 3, 4, 1, 2, 3, 5, 1, 2, 3}; /* 4 after two of the same, 5 after three */
    s = dry(1, 1, two, 10);
    assert_true(lost(s, 4) == 2.25);
    assert_true(lost(s, 5) == 4.25);
    sr_sampler_free(s);
    static const int32_t longest[] = {3, 4, 5, 2, 3, 4, 1, 2, 3}; /* after one and after two: two count */
    s = dry(1, 1, longest, 9);
    assert_true(lost(s, 4) == 2.25);
    sr_sampler_free(s);
}

static void dry_stops_at_breakers(void **state) {
    (void)state;
    static const int32_t across[] = {1, 7, 3, 4, 5, 1, 7, 3}; /* 3 alone is the same: 7 breaks */
    sr_sampler *s = dry(1, 1, across, 8);
    assert_true(lost(s, 4) == 1.25);
    sr_sampler_free(s);
    static const int32_t itself[] = {1, 2, 7, 5, 1, 2}; /* 7 loses nothing */
    s = dry(1, 1, itself, 6);
    assert_true(lost(s, 7) == 0.25);
    sr_sampler_free(s);
    static const int32_t last[] = {7, 4, 5, 7}; /* nothing follows from a breaker */
    s = dry(1, 1, last, 4);
    assert_true(lost(s, 4) == 0.25);
    sr_sampler_free(s);
}

static void dry_looks_at_the_latest_tokens_and_at_fifty_of_a_repetition(void **state) {
    (void)state;
    sr_sampler *s = dry(1e-6f, 1, NULL, 0);
    for (int i = 0; i < 100000; i++) sr_sampler_accept(s, 1, true);
    float logits[8] = {0, 0}; /* 1e-6 * 2 ^ 49 is more than any score here, and finite */
    assert_int_equal(sr_sample(s, logits), 0);
    sr_sampler_free(s);
    s = dry(1, 1, (const int32_t[]){2, 3}, 2);
    for (int i = 0; i < 32768; i++) sr_sampler_accept(s, 4 + i % 2, true);
    sr_sampler_accept(s, 2, true);
    assert_true(lost(s, 3) == 0.25); /* too long ago */
    sr_sampler_free(s);
}

static void dry_options_out_of_range_are_refused(void **state) {
    (void)state;
    for (int i = 0; i < 5; i++) {
        sr_sampling o = plain();
        sr_sampler *s;
        sr_err err = {0};
        o.dry_multiplier = i == 0 ? -1 : i == 1 ? NAN : 1;
        o.dry_base = i == 2 ? 0.5f : 2;
        o.dry_allowed_length = i == 3 ? 0 : i == 4 ? 51 : 2;
        check_error("dry", sr_sampler_create(&o, 8, &s, &err), &err, SR_INVALID, "dry_", NULL);
    }
}

static void logprobs_are_those_before_anything_is_cut_off(void **state) {
    (void)state;
    double p[10];
    for (int greedy = 0; greedy < 2; greedy++) {
        sr_sampling o = plain();
        o.temperature = greedy ? 0 : 0.7f;
        o.top_k = 2;
        sr_sampler *s = sampler(&o, 10);
        softmax(slope, 10, greedy ? 1 : 0.7, NULL, p);
        sr_sample(s, slope);
        sr_logprob top[20];
        float one;
        assert_int_equal(sr_sampler_logprobs(s, 3, &one, top, 0), 0);
        assert_true(fabs((double)one - log(p[3])) < 1e-5);
        assert_int_equal(sr_sampler_logprobs(s, 3, &one, top, 20), 10);
        static const int order[10] = {4, 5, 2, 8, 7, 1, 0, 3, 9, 6};
        for (int i = 0; i < 10; i++) {
            assert_int_equal(top[i].id, order[i]);
            assert_true(fabs((double)top[i].logprob - log(p[order[i]])) < 1e-5);
        }
        sr_sampler_free(s);
    }
    sr_sampling o = plain(); /* a token that is forbidden has none */
    o.logit_bias = &(sr_logit_bias){1, -INFINITY};
    o.n_logit_bias = 1;
    sr_sampler *s = sampler(&o, 2);
    sr_logprob top[2];
    float one;
    assert_int_equal(sr_sample(s, slope), 0);
    assert_int_equal(sr_sampler_logprobs(s, 1, &one, top, 2), 1);
    assert_true(isinf(one) && top[0].logprob == 0);
    sr_sampler_free(s);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(draws_follow_the_softmax),
        cmocka_unit_test(the_largest_logit_wins_without_temperature),
        cmocka_unit_test(top_k_keeps_the_largest_and_of_equals_the_lower_ids),
        cmocka_unit_test(top_p_drops_what_begins_at_p_of_what_top_k_left),
        cmocka_unit_test(min_p_drops_what_is_at_most_that_part_of_the_largest),
        cmocka_unit_test(temperature_comes_before_the_filters),
        cmocka_unit_test(penalties_count_what_they_should),
        cmocka_unit_test(reset_forgets_and_repeats),
        cmocka_unit_test(the_generator_is_xoshiro256starstar),
        cmocka_unit_test(odd_logits_are_survived),
        cmocka_unit_test(nonsense_settings_are_refused),
        cmocka_unit_test(selection_equals_sorting),
        cmocka_unit_test(a_large_vocabulary_takes_about_a_millisecond),
        cmocka_unit_test(dry_lowers_what_would_go_on_with_a_repetition),
        cmocka_unit_test(dry_stops_at_breakers),
        cmocka_unit_test(dry_looks_at_the_latest_tokens_and_at_fifty_of_a_repetition),
        cmocka_unit_test(dry_options_out_of_range_are_refused),
        cmocka_unit_test(logprobs_are_those_before_anything_is_cut_off),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
