/* Forecasts against what happens: bytes of weights exactly, and memory within 5 %. */
#include "support.h"

#include <math.h>
#include <sys/wait.h>

#include "base/map.h"
#include "core/core.h"

static const char story[] = SR_SOURCE_DIR "/models/story-6m";
static const char mixtral[] = SR_SOURCE_DIR "/tests/vectors/tiny/mixtral";

static void weights_are_counted_exactly(void **state) {
    static const char *const types[] = {NULL, "2", "3", "4", "5", "6", "8", "iq4_xs", "hqq4", "afq4", "q4_0", "fp8"};
    (void)state;
    for (int m = 0; m < 2; m++)
        for (size_t i = 0; i < sizeof types / sizeof *types; i++)
            for (int moqe = 0; moqe < 2; moqe++) {
                const char *path = m ? mixtral : story;
                sr_engine *e;
                sr_model *model;
                sr_forecast f;
                sr_model_info info;
                OK(sr_engine_create(&(sr_engine_options){.threads = 2}, &e, e_));
                OK(sr_model_open(e, path, NULL, &model, e_));
                OK(sr_model_forecast(model, types[i], moqe, NULL, false, &f, e_));
                assert_int_equal(f.session_bytes, sr_session_bytes(model, NULL));
                assert_true(isnan(f.seconds));
                sr_model_close(model);
                OK(sr_model_open(e, path, &(sr_model_options){.isq = types[i], .experts_only = moqe}, &model, e_));
                sr_model_get_info(model, &info);
                if (f.weight_bytes != info.weight_bytes)
                    fail_msg("%s as %s%s: %lld bytes were expected, it has %lld", path, types[i] ? types[i] : "stored",
                             moqe ? " (experts)" : "", (long long)f.weight_bytes, (long long)info.weight_bytes);
                assert_true(fabs(f.bits_per_weight - info.bits_per_weight) < 1e-9);
                sr_model_close(model);
                sr_engine_free(e);
            }
}

/* In a process of its own: what it allocated before would count. Returns the relative error in 1/1000, or 255. */
static int memory_error(const char *path, const char *isq, int32_t n_ctx) {
    sr_engine *e;
    sr_model *m;
    sr_session *s;
    sr_forecast f;
    sr_memory now;
    const sr_session_options so = {.n_ctx = n_ctx};
    if (sr_engine_create(&(sr_engine_options){.threads = 2}, &e, NULL) || sr_model_open(e, path, NULL, &m, NULL) ||
        sr_model_forecast(m, isq, false, &so, false, &f, NULL))
        return 255;
    sr_model_close(m);
    if (sr_model_open(e, path, &(sr_model_options){.isq = isq}, &m, NULL) || sr_session_create(m, &so, &s, NULL))
        return 255;
    int32_t *ids = malloc((size_t)n_ctx * sizeof *ids);
    for (int32_t i = 0; ids && i < n_ctx; i++) ids[i] = (i * 37 + 5) % m->dec.h.n_vocab;
    if (!ids || sr_session_sync(s, ids, n_ctx - 2, NULL)) return 255;
    while (sr_session_n_pending(s))
        if (sr_step(&s, 1, NULL)) return 255;
    if (sr_session_append(s, 5, NULL) || sr_step(&s, 1, NULL)) return 255;
    sr_memory_now(&now);
    const double got = (double)now.rss_anon + (isq ? 0 : (double)m->weight_bytes);
    const double error = (double)f.memory / got - 1;
    printf("%s as %s, %d tokens: %.2f MB, expected %.2f MB (%+.1f %%)\n", path, isq ? isq : "stored", n_ctx, got / 1e6,
           (double)f.memory / 1e6, 100 * error);
    fflush(stdout);
    if (fabs((double)f.memory - got) < 1.5e6) return 0; /* what libraries keep for themselves, with a model of 6 MB */
    return fabs(error) < 0.25 ? (int)(1000 * fabs(error)) : 254;
}

static void memory_is_known_within_5_percent(void **state) {
    char synthetic[600], command[1400];
    if (SANITIZED) skip();
    snprintf(synthetic, sizeof synthetic, "%s", in(*state, "synthetic.gguf"));
    snprintf(command, sizeof command, "%s/synthetic bf16 %s 4 1024 16 4 2816 8000 >/dev/null", SR_BINARY_DIR,
             synthetic);
    assert_int_equal(system(command), 0);
    const struct {
        const char *path, *isq;
        int32_t n_ctx;
    } cases[] = {{story, "4", 512},      {story, "8", 512},     {story, NULL, 512},
                 {synthetic, "4", 2048}, {synthetic, "2", 700}, {synthetic, NULL, 300}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        int status = 0;
        fflush(stdout);
        const pid_t child = fork();
        assert_true(child >= 0);
        if (child == 0) _exit(memory_error(cases[i].path, cases[i].isq, cases[i].n_ctx));
        assert_int_equal(waitpid(child, &status, 0), child);
        if (!WIFEXITED(status) || WEXITSTATUS(status) >= 50)
            fail_msg("%s as %s: off by %d in 1000, expected less than 50", cases[i].path,
                     cases[i].isq ? cases[i].isq : "stored", WEXITSTATUS(status));
    }
}

static void speed_is_timed(void **state) {
    (void)state;
    sr_engine *e;
    sr_model *m;
    OK(sr_engine_create(&(sr_engine_options){.threads = 1}, &e, e_));
    for (int i = 0; i < 2; i++) {
        sr_forecast f;
        OK(sr_model_open(e, i ? mixtral : story, NULL, &m, e_));
        OK(sr_model_forecast(m, i ? "q4_0" : "4", false, NULL, true, &f, e_));
        if (!(f.seconds > 1e-7 && f.seconds < 1)) fail_msg("%g seconds a token", f.seconds);
        sr_model_close(m);
    }
    sr_engine_free(e);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(memory_is_known_within_5_percent, make_scratch, remove_scratch),
        cmocka_unit_test(weights_are_counted_exactly),
        cmocka_unit_test(speed_is_timed),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
