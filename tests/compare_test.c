/* sr_compare_matrices: the same model under other names, in another order of rows and columns, fused, stacked or packed
 * has no error, and every matrix is compared. */
#include <math.h>

#include "results.h"
#include "support.h"

#define TINY SR_SOURCE_DIR "/tests/vectors/tiny/"

struct opened {
    sr_engine *engine;
    sr_model *model;
};

static struct opened open_tiny(const char *name, const char *isq, int threads) {
    char path[512];
    struct opened o = {0};
    const sr_engine_options engine = {.threads = threads};
    const sr_model_options model = {.isq = isq};
    snprintf(path, sizeof path, TINY "%s", name);
    OK(sr_engine_create(&engine, &o.engine, e_));
    OK(sr_model_open(o.engine, path, &model, &o.model, e_));
    return o;
}

static void close_tiny(struct opened *o) {
    sr_model_close(o->model);
    sr_engine_free(o->engine);
}

struct found {
    int n, stop_at;
    double weights, least, most, sum; /* of relative errors */
    char worst[64];
};

static bool add_matrix(void *user, const sr_matrix_error *m) {
    struct found *f = user;
    const double e = m->power > 0 ? sqrt(m->error / m->power) : m->error;
    f->weights += (double)m->N * (double)m->K;
    f->sum += m->error;
    if (f->n == 0 || e < f->least) f->least = e;
    if (f->n == 0 || !(e <= f->most)) {
        f->most = e;
        snprintf(f->worst, sizeof f->worst, "%s of layer %d, %s to %s", m->role, m->layer, m->from, m->to);
    }
    return ++f->n != f->stop_at;
}

static struct found compare(const char *a, const char *b, const char *isq, int threads) {
    struct opened x = open_tiny(a, NULL, threads), y = open_tiny(b, isq, 1);
    struct found f = {0};
    sr_model_info info;
    sr_model_get_info(x.model, &info);
    OK(sr_compare_matrices(x.model, y.model, add_matrix, &f, e_));
    /* What a latent attention's matrix of values holds of keys too is counted twice there. */
    const bool latent = strncmp(a, "deepseek", 8) == 0;
    if (latent ? f.weights >= (double)info.n_params : f.weights != (double)info.n_params)
        fail_msg("%s: %.0f weights were compared, the model has %lld", a, f.weights, (long long)info.n_params);
    close_tiny(&x);
    close_tiny(&y);
    return f;
}

/* Hugging Face's directory and GGUF: names, pairs and halves of heads, fused matrices, experts by one or in stacks,
 * gate and up in turns. The same numbers all the same. */
static void containers_hold_the_same_matrices(void **state) {
    static const char *const families[] = {
        "llama",  "mistral",  "qwen2",       "qwen3",      "gemma2",        "gemma3",    "phi2",        "phi3",
        "glm4",   "granite",  "smollm3",     "starcoder2", "mixtral",       "qwen2_moe", "qwen3_moe",   "granitemoe",
        "phimoe", "glm4_moe", "hunyuan_moe", "gpt_oss",    "gpt_oss_whole", "mistral3",  "deepseek_v2", "deepseek_v3"};
    (void)state;
    for (size_t i = 0; i < sizeof families / sizeof *families; i++) {
        char other[64];
        snprintf(other, sizeof other, "%s.gguf", families[i]);
        struct found f = compare(families[i], other, NULL, 2);
        if (f.most != 0) fail_msg("%s: %s has the error %g", other, f.worst, f.most);
    }
    assert_true(compare("mixtral", "mixtral_by_expert.gguf", NULL, 1).most == 0);
}

/* One layer of random weights, rounded by each package: 8 bits are near, in whatever order columns are stored; wrong
 * rows or columns would have an error of about 1.4. */
static void packages_round_the_same_weights(void **state) {
    static const struct {
        const char *b;
        double most;
    } pair[] = {{"gptq-4-order", 0.1}, {"gptq-4", 0.1},  {"awq-4", 0.1},    {"hqq-4", 0.1},
                {"mlx-4", 0.1},        {"bnb-nf4", 0.1}, {"ct-w4a16", 0.1}, {"ct-fp8", 0.04}};
    (void)state;
    for (size_t i = 0; i < sizeof pair / sizeof *pair; i++) {
        struct found f = compare("gptq-8", pair[i].b, NULL, 2);
        if (!(f.sum > 0 && f.most < pair[i].most)) fail_msg("%s: %s has the error %g", pair[i].b, f.worst, f.most);
    }
}

static void fewer_bits_have_more_error(void **state) {
    const struct found q8 = compare("llama", "llama.gguf", "q8_0", 1), q4 = compare("llama", "llama.gguf", "q4_0", 1);
    (void)state;
    assert_true(q8.least > 0 && q8.most < 0.01);
    assert_true(q4.least > q8.most && q4.most < 0.2);
    assert_true(q4.sum > 50 * q8.sum);
}

static void threads_change_no_bit(void **state) {
    const struct found one = compare("mixtral", "mixtral.gguf", "q4_0", 1),
                       many = compare("mixtral", "mixtral.gguf", "q4_0", 5);
    (void)state;
    assert_true(one.sum == many.sum && one.most == many.most && one.n == many.n);
}

static void models_of_other_shapes_are_refused(void **state) {
    static const char *const others[] = {"gemma", "mixtral", "gptq-8", "deepseek_v3"};
    struct opened a = open_tiny("llama", NULL, 1);
    (void)state;
    for (size_t i = 0; i < sizeof others / sizeof *others; i++) {
        struct opened b = open_tiny(others[i], NULL, 1);
        struct found f = {0};
        sr_err err = {0};
        assert_int_equal(sr_compare_matrices(a.model, b.model, add_matrix, &f, &err), SR_INVALID);
        assert_non_null(strstr(err.msg, "tiny/llama"));
        assert_non_null(strstr(err.msg, others[i]));
        close_tiny(&b);
    }
    close_tiny(&a);
}

static void comparing_can_be_stopped(void **state) {
    struct opened a = open_tiny("llama", NULL, 1);
    struct found f = {.stop_at = 3};
    (void)state;
    assert_int_equal(sr_compare_matrices(a.model, a.model, add_matrix, &f, NULL), SR_CANCELLED);
    assert_int_equal(f.n, 3);
    close_tiny(&a);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(containers_hold_the_same_matrices),  cmocka_unit_test(packages_round_the_same_weights),
        cmocka_unit_test(fewer_bits_have_more_error),         cmocka_unit_test(threads_change_no_bit),
        cmocka_unit_test(models_of_other_shapes_are_refused), cmocka_unit_test(comparing_can_be_stopped),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
