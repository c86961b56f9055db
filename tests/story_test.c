/* The bundled story model: greedy text and logits of the exact path against an independent float32 transcription
 * (tests/vectors/story_numpy.py), and the fast path against the exact one on held-out text. */
#include <jansson.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/map.h"
#include "sirocco.h"

#define MODEL SR_SOURCE_DIR "/models/story-6m"
#define VECTORS SR_SOURCE_DIR "/tests/vectors/"
#define HELDOUT SR_SOURCE_DIR "/tests/data/heldout-100k.txt"

enum { N_STEPS = 4, N_NEW = 256 };

#define OK(call)                                                                                                       \
    do {                                                                                                               \
        sr_err e_[1] = {{0}};                                                                                          \
        if ((call) != SR_OK) fail_msg("%s", e_->msg);                                                                  \
    } while (0)

static int32_t argmax(const float *x, int32_t n) {
    int32_t best = 0;
    for (int32_t i = 1; i < n; i++)
        if (x[i] > x[best]) best = i;
    return best;
}

static int32_t read_ids(const json_t *list, int32_t *ids, int32_t cap) {
    int32_t n = (int32_t)json_array_size(list);
    assert_true(n <= cap);
    for (int32_t i = 0; i < n; i++) ids[i] = (int32_t)json_integer_value(json_array_get(list, (size_t)i));
    return n;
}

static void exact_greedy_text_equals_the_numpy_transcription(void **state) {
    (void)state;
    sr_engine *engine;
    sr_model *model;
    json_t *all = json_load_file(VECTORS "story.json", 0, NULL);
    FILE *f = fopen(VECTORS "story_logits.bin", "rb");
    uint32_t head[3];
    assert_non_null(all);
    assert_non_null(f);
    assert_int_equal(fread(head, 4, 3, f), 3);
    assert_int_equal(head[0], json_array_size(all));
    assert_int_equal(head[1], N_STEPS);
    OK(sr_engine_create(&(sr_engine_options){.exact = true}, &engine, e_));
    OK(sr_model_open(engine, MODEL, NULL, &model, e_));
    float *want = malloc(head[2] * sizeof *want);
    for (uint32_t p = 0; p < head[0]; p++) {
        const json_t *prompt = json_array_get(all, p);
        int32_t ids[512], expected[N_NEW], tokens[512];
        size_t n_tokens;
        int32_t n = read_ids(json_object_get(prompt, "prompt_ids"), ids, 256);
        assert_int_equal(read_ids(json_object_get(prompt, "ids"), expected, N_NEW), N_NEW);
        assert_true(json_number_value(json_object_get(prompt, "min_gap")) > 1e-3);
        const char *text = json_string_value(json_object_get(prompt, "prompt"));
        OK(sr_tokenize(sr_model_tokenizer(model), text, strlen(text), 0, tokens, 512, &n_tokens, e_));
        assert_int_equal(n_tokens, n);
        assert_memory_equal(tokens, ids, (size_t)n * sizeof *ids);
        uint32_t step[N_STEPS];
        assert_int_equal(fread(step, 4, N_STEPS, f), N_STEPS);
        sr_session *s;
        OK(sr_session_create(model, 512, &s, e_));
        OK(sr_session_sync(s, ids, n, e_));
        for (int32_t i = 0, k = 0; i < N_NEW; i++) {
            while (sr_session_n_pending(s)) OK(sr_step(&s, 1, e_));
            const float *logits = sr_session_logits(s);
            if (k < N_STEPS && step[k] == (uint32_t)i) {
                assert_int_equal(fread(want, sizeof *want, head[2], f), head[2]);
                for (uint32_t v = 0; v < head[2]; v++)
                    if (!(fabsf(want[v] - logits[v]) < 1e-3f))
                        fail_msg("prompt %u step %d token %u: got %g want %g", p, i, v, logits[v], want[v]);
                k++;
            }
            int32_t id = argmax(logits, (int32_t)head[2]);
            if (id != expected[i]) fail_msg("prompt %u step %d: got token %d, want %d", p, i, id, expected[i]);
            OK(sr_session_append(s, id, e_));
        }
        sr_session_free(s);
    }
    free(want);
    fclose(f);
    json_decref(all);
    sr_model_close(model);
    sr_engine_free(engine);
}

/* ---- fast against exact ---- */

enum { CTX = 256, WINDOWS = 8 };

static void keep(void *user, sr_session *s, int32_t position, const float *logits) {
    float *all = user;
    (void)s;
    memcpy(all + (size_t)position * 4096, logits, 4096 * sizeof *logits);
}

static float *logits_of(const char *isq, bool exact, int batch, const char *isa) {
    sr_engine *engine;
    sr_model *model;
    sr_session *s;
    char *text;
    size_t n_text, n;
    OK(sr_engine_create(&(sr_engine_options){.exact = exact, .batch = batch, .isa = isa}, &engine, e_));
    OK(sr_model_open(engine, MODEL, &(sr_model_options){.isq = isq}, &model, e_));
    OK(sr_session_create(model, CTX, &s, e_));
    OK(sr_file_read(HELDOUT, 1 << 20, &text, &n_text, e_));
    int32_t *ids = malloc(n_text * sizeof *ids);
    OK(sr_tokenize(sr_model_tokenizer(model), text, n_text, 0, ids, n_text, &n, e_));
    assert_true(n > CTX * WINDOWS);
    float *all = malloc((size_t)WINDOWS * CTX * 4096 * sizeof *all);
    for (int w = 0; w < WINDOWS; w++) {
        sr_session_on_logits(s, keep, all + (size_t)w * CTX * 4096);
        OK(sr_session_sync(s, ids + w * CTX, CTX, e_));
        while (sr_session_n_pending(s)) OK(sr_step(&s, 1, e_));
    }
    free(ids);
    free(text);
    sr_session_free(s);
    sr_model_close(model);
    sr_engine_free(engine);
    return all;
}

static double kld(const float *p, const float *q) {
    double mp = -INFINITY, mq = -INFINITY, sp = 0, sq = 0, sum = 0;
    for (int i = 0; i < 4096; i++) {
        mp = fmax(mp, p[i]);
        mq = fmax(mq, q[i]);
    }
    for (int i = 0; i < 4096; i++) {
        sp += exp(p[i] - mp);
        sq += exp(q[i] - mq);
    }
    for (int i = 0; i < 4096; i++) {
        double lp = p[i] - mp - log(sp), lq = q[i] - mq - log(sq);
        sum += exp(lp) * (lp - lq);
    }
    return sum;
}

static void fast_path_agrees_with_exact_on_held_out_text(void **state) {
    (void)state;
    static const char *const isqs[] = {NULL, "q8_0", "q4k"};
    for (int q = 0; q < 3; q++) {
        float *exact = logits_of(isqs[q], true, 256, NULL);
        for (int batch = 4; batch <= 256; batch *= 64) { /* stored rows against few tokens, and tiles */
            float *fast = logits_of(isqs[q], false, batch, NULL);
            double mean = 0, same = 0;
            for (int t = 0; t < WINDOWS * CTX; t++) {
                mean += kld(exact + (size_t)t * 4096, fast + (size_t)t * 4096) / (WINDOWS * CTX);
                same += (argmax(exact + (size_t)t * 4096, 4096) == argmax(fast + (size_t)t * 4096, 4096)) /
                        (double)(WINDOWS * CTX);
            }
            print_message("  isq %s, %d tokens a step: mean KLD %.2e, top-1 agreement %.2f %%\n",
                          isqs[q] ? isqs[q] : "none", batch, mean, 100 * same);
            if (!(mean < 1e-3) || !(same >= 0.99)) fail_msg("fast path: mean KLD %g, top-1 agreement %g", mean, same);
            free(fast);
        }
        free(exact);
    }
}

/* RssAnon while opening with --isq: the quantized size, two source tensors, 64 MiB. The step scratch is untouched yet.
 */
static void isq_needs_little_memory_beyond_its_result(void **state) {
    (void)state;
#if defined(__has_feature)
#if __has_feature(address_sanitizer)
    skip();
#endif
#elif defined(__SANITIZE_ADDRESS__)
    skip();
#endif
    sr_memory before, after;
    sr_engine *engine;
    sr_model *model;
    sr_model_info info;
    OK(sr_engine_create(NULL, &engine, e_));
    sr_memory_now(&before);
    if (!before.rss_anon) skip();
    OK(sr_model_open(engine, MODEL, &(sr_model_options){.isq = "4"}, &model, e_));
    sr_memory_now(&after);
    sr_model_get_info(model, &info);
    int64_t largest = 4096 * 256 * 2, grown = (int64_t)after.rss_anon - (int64_t)before.rss_anon;
    assert_true(grown < info.weight_bytes + 2 * largest + (64 << 20));
    sr_model_close(model);
    sr_engine_free(engine);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(exact_greedy_text_equals_the_numpy_transcription),
        cmocka_unit_test(fast_path_agrees_with_exact_on_held_out_text),
        cmocka_unit_test(isq_needs_little_memory_beyond_its_result),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
