/* Types under a limit: the goal is met, what is expected is what is measured, and no file type of llama.cpp is better.
 */
#include "support.h"

#include <math.h>

#include "core/core.h"
#include "fmt/recipe.h"
#include "quant/quant.h"

enum { N_CTX = 128, WINDOWS = 4 };
static const char story[] = SR_SOURCE_DIR "/models/story-6m";

struct bench {
    sr_engine *engine;
    sr_model *model;
    sr_costs *costs;
    char *cache;
};
static struct bench b; /* measured once, which takes seconds */

static void read_ids(int32_t *ids) {
    static char text[16384];
    FILE *f = fopen(SR_SOURCE_DIR "/tests/data/heldout-100k.txt", "rb");
    size_t n_ids;
    assert_non_null(f);
    const size_t n = fread(text, 1, sizeof text, f);
    fclose(f);
    OK(sr_tokenize(sr_model_tokenizer(b.model), text, n, SR_TOKENIZE_NO_SPECIAL, ids, N_CTX * WINDOWS, &n_ids, e_));
    assert_true(n_ids >= N_CTX * WINDOWS);
}

static sr_costs *costs_for(const char *to, const int32_t *ids, int windows, const char *cache) {
    sr_costs *c;
    const sr_costs_options o = {
        .model = ids ? b.model : NULL, .ids = ids, .n_windows = ids ? windows : 0, .n_ctx = N_CTX, .cache = cache};
    OK(sr_costs_find(story, &(sr_quantize_options){.threads = 2, .to = to}, &o, &c, e_));
    return c;
}
static sr_costs *costs_of(const int32_t *ids, const char *cache) {
    return costs_for(NULL, ids, WINDOWS, cache);
}

static int open_all(void **state) {
    int32_t ids[N_CTX * WINDOWS];
    if (make_scratch(state) != 0) return -1;
    b.cache = *state;
    OK(sr_engine_create(&(sr_engine_options){.threads = 2}, &b.engine, e_));
    OK(sr_model_open(b.engine, story, NULL, &b.model, e_));
    read_ids(ids);
    b.costs = costs_of(ids, b.cache);
    return 0;
}
static int close_all(void **state) {
    sr_costs_free(b.costs);
    sr_model_close(b.model);
    sr_engine_free(b.engine);
    return remove_scratch(state);
}

/* The types of one of llama.cpp's file types, and the bits a weight of its matrices. */
static double mix_of(const char *to, int *choice) {
    sr_quantizer *q;
    sr_quantize_info info;
    const sr_costs *c = b.costs;
    OK(sr_quantizer_plan(story, "x.gguf", &(sr_quantize_options){.to = to}, &q, e_));
    for (int i = 0; i < c->n; i++)
        for (int j = 0; j < q->n_jobs; j++)
            for (int t = 0; t < c->n_types; t++)
                if (q->job[j].n_from && q->job[j].role == c->cost[i].job->role &&
                    q->job[j].layer == c->cost[i].job->layer && q->job[j].fmt == c->type[t].fmt)
                    choice[i] = t;
    sr_quantizer_info(q, &info);
    sr_quantizer_free(q);
    return info.bits_per_weight;
}

static void limits_are_met_and_used_up(void **state) {
    (void)state;
    for (double bpw = 3.25; bpw < 5.6; bpw += 0.45) {
        sr_recipe *r;
        sr_allotment a;
        sr_quantizer *q;
        sr_quantize_info info;
        OK(sr_costs_allot(b.costs, &(sr_goal){.bits_per_weight = bpw}, &r, &a, e_));
        OK(sr_quantizer_plan(story, "x.gguf", &(sr_quantize_options){.to = "gguf", .recipe = r}, &q, e_));
        sr_quantizer_info(q, &info);
        if (info.bits_per_weight > bpw || info.bits_per_weight < 0.99 * bpw)
            fail_msg("%g bits a weight: got %g", bpw, info.bits_per_weight);
        if (fabs(info.bits_per_weight - a.bits_per_weight) > 1e-9)
            fail_msg("%g bits a weight were expected, the plan has %g", a.bits_per_weight, info.bits_per_weight);
        if (!(a.kld_measured < 1.25 * a.kld && a.kld_measured > 0.75 * a.kld))
            fail_msg("%g bits a weight: divergence %g, expected %g", bpw, a.kld_measured, a.kld);
        sr_quantizer_free(q);
        sr_recipe_free(r);
    }
    for (int64_t bytes = 2800000; bytes < 6000000; bytes += 600000) {
        sr_recipe *r;
        sr_allotment a;
        sr_quantizer *q;
        OK(sr_costs_allot(b.costs, &(sr_goal){.bytes = bytes}, &r, &a, e_));
        OK(sr_quantizer_plan(story, "x.gguf", &(sr_quantize_options){.to = "gguf:mix", .recipe = r}, &q, e_));
        const int64_t size = q->out[0].content.size;
        if (size > bytes || (double)size < 0.99 * (double)bytes || a.bytes < size)
            fail_msg("%lld bytes: got %lld, announced %lld", (long long)bytes, (long long)size, (long long)a.bytes);
        sr_quantizer_free(q);
        sr_recipe_free(r);
    }
}

/* At the same size the divergence is well below that of llama.cpp's choices. */
static void it_beats_the_mixes(void **state) {
    static const char *const mixes[] = {"gguf:q3_k_m", "gguf:q4_k_s", "gguf:q4_k_m", "gguf:q5_k_m"};
    int *choice = calloc((size_t)b.costs->n, sizeof *choice);
    (void)state;
    assert_non_null(choice);
    for (int i = 0; i < 4; i++) {
        sr_recipe *r;
        sr_allotment a;
        double theirs;
        const double bpw = mix_of(mixes[i], choice);
        OK(sr_costs_try(b.costs, choice, &theirs, e_));
        OK(sr_costs_allot(b.costs, &(sr_goal){.bits_per_weight = bpw}, &r, &a, e_));
        if (!(a.kld_measured < 0.92 * theirs)) /* 0.5 to 0.89 */
            fail_msg("%s, %.3f bits a weight: divergence %g, ours %g", mixes[i], bpw, theirs, a.kld_measured);
        sr_recipe_free(r);
    }
    free(choice);
}

static void a_divergence_is_reached(void **state) {
    (void)state;
    double last = 16;
    for (double kld = 0.002; kld < 0.1; kld *= 4) {
        sr_recipe *r;
        sr_allotment a;
        OK(sr_costs_allot(b.costs, &(sr_goal){.kld = kld}, &r, &a, e_));
        if (!(a.kld_measured < 1.1 * kld && a.kld_measured > 0.7 * kld))
            fail_msg("divergence %g: got %g", kld, a.kld_measured);
        assert_true(a.bits_per_weight < last);
        last = a.bits_per_weight;
        sr_recipe_free(r);
    }
}

static void the_model_is_as_it_was(void **state) {
    (void)state;
    int *none = malloc((size_t)b.costs->n * sizeof *none);
    double kld;
    assert_non_null(none);
    for (int i = 0; i < b.costs->n; i++) none[i] = -1;
    OK(sr_costs_try(b.costs, none, &kld, e_));
    assert_true(kld == 0);
    free(none);
}

/* What was kept is used, gives the same, and is measured anew where it is damaged. */
static void measurements_are_kept(void **state) {
    int32_t ids[N_CTX * WINDOWS];
    char name[512] = "";
    (void)state;
    DIR *d = opendir(b.cache);
    for (const struct dirent *e; d && (e = readdir(d));)
        if (strncmp(e->d_name, "costs-", 6) == 0) snprintf(name, sizeof name, "%s", e->d_name);
    closedir(d);
    assert_true(name[0] != 0);
    read_ids(ids);
    sr_costs *again = costs_of(ids, b.cache);
    assert_false(again->reference->filled); /* nothing ran */
    assert_int_equal(again->n, b.costs->n);
    for (int i = 0; i < again->n; i++) {
        assert_true(again->cost[i].sense == b.costs->cost[i].sense);
        assert_memory_equal(again->cost[i].error, b.costs->cost[i].error, sizeof again->cost[i].error);
    }
    assert_true(again->scale == b.costs->scale);
    sr_costs_free(again);
    char kept[1024];
    snprintf(kept, sizeof kept, "%s", in(b.cache, name));
    write_text(kept, "{\"scale\":1,\"matrices\":{\"token_embd\":[1]");
    again = costs_of(ids, b.cache);
    assert_true(again->reference->filled);
    assert_true(again->scale == b.costs->scale); /* the same as the first time */
    sr_costs_free(again);
}

static void without_a_text_it_is_a_guess(void **state) {
    sr_recipe *r;
    sr_allotment a;
    sr_err err = {0};
    (void)state;
    sr_costs *c = costs_of(NULL, b.cache);
    OK(sr_costs_allot(c, &(sr_goal){.bits_per_weight = 4.5}, &r, &a, e_));
    assert_true(isnan(a.kld_measured));
    assert_true(a.bits_per_weight <= 4.5 && a.bits_per_weight > 4.45);
    sr_recipe_free(r);
    check_error("few", sr_costs_allot(c, &(sr_goal){.bits_per_weight = 1}, &r, &a, &err), &err, SR_INVALID,
                "the least is 3.06", "importances", NULL);
    err = (sr_err){0};
    check_error("small", sr_costs_allot(c, &(sr_goal){.bytes = 100000}, &r, &a, &err), &err, SR_INVALID, "100000 bytes",
                NULL);
    sr_costs_free(c);
}

/* Of a file that is quantized already, matrices may stay as they are, at no cost. */
static void what_is_there_costs_nothing(void **state) {
    static const char gpt_oss[] = SR_SOURCE_DIR "/tests/vectors/tiny/gpt_oss.gguf";
    sr_costs *c;
    sr_recipe *r;
    sr_allotment a;
    sr_quantizer *q;
    sr_quantize_tensor t;
    int kept = 0;
    (void)state;
    OK(sr_costs_find(gpt_oss, &(sr_quantize_options){.threads = 2}, &(sr_costs_options){.model = NULL}, &c, e_));
    OK(sr_costs_allot(c, &(sr_goal){.bits_per_weight = 10}, &r, &a, e_));
    OK(sr_quantizer_plan(gpt_oss, "x.gguf", &(sr_quantize_options){.to = "gguf", .recipe = r}, &q, e_));
    for (int i = 0; sr_quantizer_tensor(q, i, &t); i++) {
        kept += strcmp(t.from, "mxfp4") == 0 && !t.to;
        assert_true(!t.to || strcmp(t.to, "mxfp4") != 0);
    }
    assert_int_equal(kept, 6);
    sr_quantizer_free(q);
    sr_recipe_free(r);
    sr_costs_free(c);
}

static const char *type_of(const sr_quantizer *q, int layer, sr_role role) {
    for (int i = 0; i < q->n_jobs; i++)
        if (q->job[i].n_from && q->job[i].layer == layer && q->job[i].role == role) return q->job[i].fmt->name;
    fail_msg("found no matrix");
    return "";
}

/* The goal is met by the plan that is made of the recipe, in bits and in bytes of the files. */
static void check_plan(const sr_goal *goal, sr_costs *c, const char *to, sr_quantizer **out, sr_allotment *a) {
    sr_recipe *r;
    sr_quantizer *q;
    sr_quantize_info info;
    int64_t size = 0;
    OK(sr_costs_allot(c, goal, &r, a, e_));
    OK(sr_quantizer_plan(story, "x", &(sr_quantize_options){.to = to, .recipe = r}, &q, e_));
    sr_quantizer_info(q, &info);
    for (int f = 0; f < q->n_out; f++) size += q->out[f].content.size;
    if (fabs(info.bits_per_weight - a->bits_per_weight) > 1e-9)
        fail_msg("%s: %g bits a weight were expected, the plan has %g", to, a->bits_per_weight, info.bits_per_weight);
    if (goal->bits_per_weight > 0 &&
        (info.bits_per_weight > goal->bits_per_weight || info.bits_per_weight < 0.98 * goal->bits_per_weight))
        fail_msg("%s: %g bits a weight, got %g", to, goal->bits_per_weight, info.bits_per_weight);
    if (goal->bytes > 0 && (size > goal->bytes || (double)size < 0.97 * (double)goal->bytes))
        fail_msg("%s: %lld bytes, got %lld", to, (long long)goal->bytes, (long long)size);
    sr_recipe_free(r);
    *out = q;
}

/* Types of MLX in groups of their own: at the size of mlx:4 the divergence is well below that of mlx:4. */
static void directories_have_limits(void **state) {
    int32_t ids[N_CTX * WINDOWS];
    sr_allotment a;
    sr_quantizer *q;
    double theirs;
    (void)state;
    read_ids(ids);
    sr_costs *c = costs_for("mlx:4", ids, WINDOWS, b.cache);
    int *choice = calloc((size_t)c->n, sizeof *choice);
    assert_non_null(choice);
    for (int i = 0; i < c->n; i++)
        while (strcmp(c->type[choice[i]].fmt->name, "mlx4") != 0 || c->type[choice[i]].spec.group != 64) choice[i]++;
    OK(sr_costs_try(c, choice, &theirs, e_));
    check_plan(&(sr_goal){.bits_per_weight = 4.5}, c, "mlx:4", &q, &a);
    if (!(a.kld_measured < 0.85 * theirs && a.kld_measured > 0.75 * a.kld && a.kld_measured < 1.25 * a.kld))
        fail_msg("divergence %g, expected %g; of mlx:4 %g", a.kld_measured, a.kld, theirs); /* 0.79 */
    sr_quantizer_free(q);
    check_plan(&(sr_goal){.bytes = 3000000}, c, "mlx:4", &q, &a);
    sr_quantizer_free(q);
    free(choice);
    sr_costs_free(c);
}

/* Of UQFF the types of the target's method, each matrix its own; the sum holds. */
static void layers_of_uqff_have_limits(void **state) {
    static const struct {
        const char *to, *method;
        double bits;
    } cases[] = {{"uqff:q4k", NULL, 5.5}, {"uqff:afq4", "mlx", 5.5}, {"uqff:hqq4", "hqq", 6.5}};
    (void)state;
    for (int i = 0; i < 3; i++) {
        sr_allotment a;
        sr_quantizer *q;
        bool apart = false;
        sr_costs *c = costs_for(cases[i].to, NULL, 0, b.cache);
        check_plan(&(sr_goal){.bits_per_weight = cases[i].bits}, c, cases[i].to, &q, &a);
        for (int j = 0; j < q->n_jobs; j++) {
            const sr_format *fmt = q->job[j].n_from ? q->job[j].fmt : NULL;
            if (!fmt || sr_is_plain(fmt)) continue;
            const char *method = fmt->spec.method ? fmt->spec.method : "", *want = cases[i].method;
            if (strcmp(method, want ? want : "") != 0) fail_msg("%s: found %s", cases[i].to, fmt->name);
        }
        for (int l = 0; l < 6; l++) apart = apart || strcmp(type_of(q, l, SR_Q), type_of(q, l, SR_V)) != 0;
        if (i < 2) assert_true(apart);
        sr_quantizer_free(q);
        check_plan(&(sr_goal){.bytes = 5000000}, c, cases[i].to, &q, &a);
        sr_quantizer_free(q);
        sr_costs_free(c);
    }
}

/* q, k and v, and gate and up, are one matrix to loaders of GPTQ and of compressed-tensors, so they have one type. */
static void what_loaders_fuse_has_one_type(void **state) {
    static const struct {
        const char *to;
        double bits;
    } cases[] = {{"gptq:4", 6.9}, {"compressed-tensors:w4a16,group=32", 8}};
    (void)state;
    for (int i = 0; i < 2; i++) {
        sr_allotment a;
        sr_quantizer *q;
        bool mixed = false;
        sr_costs *c = costs_for(cases[i].to, NULL, 0, b.cache);
        check_plan(&(sr_goal){.bits_per_weight = cases[i].bits}, c, cases[i].to, &q, &a);
        for (int l = 0; l < 6; l++) {
            assert_string_equal(type_of(q, l, SR_Q), type_of(q, l, SR_K));
            assert_string_equal(type_of(q, l, SR_Q), type_of(q, l, SR_V));
            assert_string_equal(type_of(q, l, SR_GATE), type_of(q, l, SR_UP));
            mixed = mixed || strcmp(type_of(q, l, SR_DOWN), type_of(q, l, SR_Q)) != 0;
        }
        assert_true(mixed);
        sr_quantizer_free(q);
        sr_costs_free(c);
    }
    sr_err err = {0};
    sr_costs *c;
    check_error("hqq", sr_costs_find(story, &(sr_quantize_options){.to = "hqq:4"}, &(sr_costs_options){0}, &c, &err),
                &err, SR_UNSUPPORTED, "hqq:4", "mlx:4", NULL);
}

/* Experts that are matrices of their own have one type in a layer, and count with all their bytes. */
static void experts_count_as_one(void **state) {
    static const char *const to[] = {"gptq:4,group=32", "mlx:4,group=32"};
    static const char mixtral[] = SR_SOURCE_DIR "/tests/vectors/tiny/mixtral";
    (void)state;
    for (int i = 0; i < 2; i++) {
        sr_costs *c;
        sr_recipe *r;
        sr_allotment a;
        sr_quantizer *q;
        sr_quantize_info info;
        const sr_quantize_options o = {.to = to[i], .threads = 2};
        OK(sr_costs_find(mixtral, &o, &(sr_costs_options){0}, &c, e_));
        assert_true(c->n <= 2 * 7 + 2);
        OK(sr_costs_allot(c, &(sr_goal){.bits_per_weight = 10}, &r, &a, e_));
        OK(sr_quantizer_plan(mixtral, "x", &(sr_quantize_options){.to = to[i], .recipe = r}, &q, e_));
        sr_quantizer_info(q, &info);
        if (fabs(info.bits_per_weight - a.bits_per_weight) > 1e-9)
            fail_msg("%s: %g bits expected, the plan has %g", to[i], a.bits_per_weight, info.bits_per_weight);
        sr_quantizer_free(q);
        sr_recipe_free(r);
        sr_costs_free(c);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(limits_are_met_and_used_up),  cmocka_unit_test(it_beats_the_mixes),
        cmocka_unit_test(a_divergence_is_reached),     cmocka_unit_test(the_model_is_as_it_was),
        cmocka_unit_test(measurements_are_kept),       cmocka_unit_test(without_a_text_it_is_a_guess),
        cmocka_unit_test(what_is_there_costs_nothing), cmocka_unit_test(directories_have_limits),
        cmocka_unit_test(layers_of_uqff_have_limits),  cmocka_unit_test(what_loaders_fuse_has_one_type),
        cmocka_unit_test(experts_count_as_one),
    };
    return cmocka_run_group_tests(tests, open_all, close_all);
}
