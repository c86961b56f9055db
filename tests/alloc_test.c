/* A step allocates nothing: the C library's allocator is watched while steps run. */
#include "support.h"

#include <stdatomic.h>

static atomic_int armed, seen;

#if defined(__GLIBC__) && !SANITIZED
#define WATCHED 1
extern void *__libc_malloc(size_t n);
extern void *__libc_calloc(size_t n, size_t size);
extern void *__libc_realloc(void *p, size_t n);
extern void *__libc_memalign(size_t align, size_t n);

static void note(void) {
    if (atomic_load(&armed)) atomic_fetch_add(&seen, 1);
}
void *malloc(size_t n) {
    note();
    return __libc_malloc(n);
}
void *calloc(size_t n, size_t size) {
    note();
    return __libc_calloc(n, size);
}
void *realloc(void *p, size_t n) {
    note();
    return __libc_realloc(p, n);
}
void *aligned_alloc(size_t align, size_t n) {
    note();
    return __libc_memalign(align, n);
}
int posix_memalign(void **p, size_t align, size_t n) {
    note();
    *p = __libc_memalign(align, n);
    return *p ? 0 : 12;
}
#else
#define WATCHED 0
#endif

static void the_guard_sees_an_allocation(void **state) {
    (void)state;
    if (!WATCHED) skip();
    atomic_store(&armed, 1);
    void *volatile p = malloc(10);
    atomic_store(&armed, 0);
    free(p);
    assert_true(atomic_exchange(&seen, 0) > 0);
}

static void steps_and_sampling_allocate_nothing(void **state) {
    (void)state;
    if (!WATCHED) skip();
    static const char *const isqs[] = {NULL, "4", "8", NULL}, *const kv_types[] = {NULL, "q8_0", "q4_0", "bf16"};
    for (int q = 0; q < 4; q++) /* the last is a mixture of experts */
        for (int exact = 0; exact < 2; exact++) {
            sr_engine *engine = NULL;
            sr_model *model = NULL;
            sr_session *session = NULL;
            sr_sampler *sampler = NULL;
            sr_err err = {0};
            sr_engine_options options = {.threads = 2, .batch = 32, .exact = exact};
            sr_model_options model_options = {.isq = isqs[q]};
            int32_t ids[100];
            for (int i = 0; i < 100; i++) ids[i] = (7 * i) % 96;
            const char *path = SR_SOURCE_DIR "/tests/vectors/tiny/mixed.gguf";
            if (q == 3) path = SR_SOURCE_DIR "/tests/vectors/tiny/qwen2_moe.gguf";
            if (sr_engine_create(&options, &engine, &err) != SR_OK ||
                sr_model_open(engine, path, &model_options, &model, &err) != SR_OK ||
                sr_session_create(model, &(sr_session_options){128, kv_types[q]}, &session, &err) != SR_OK)
                fail_msg("%s", err.msg);
            sr_sampling sampling = sr_sampling_default();
            assert_int_equal(sr_sampler_create(&sampling, q == 3 ? 96 : 128, &sampler, &err), SR_OK);
            assert_int_equal(sr_session_sync(session, ids, 40, &err), SR_OK);
            assert_int_equal(sr_step(&session, 1, &err), SR_OK); /* the thread team starts here */
            atomic_store(&seen, 0);
            atomic_store(&armed, 1);
            sr_status s = SR_OK;
            while (s == SR_OK && sr_session_n_pending(session)) s = sr_step(&session, 1, &err);
            for (int i = 0; i < 20 && s == SR_OK; i++) {
                int32_t id = sr_sample(sampler, sr_session_logits(session));
                sr_sampler_accept(sampler, id, true);
                s = sr_session_append(session, id, &err);
                if (s == SR_OK) s = sr_step(&session, 1, &err);
            }
            atomic_store(&armed, 0);
            assert_int_equal(s, SR_OK);
            if (atomic_load(&seen))
                fail_msg("%d allocations in steps (isq %s, exact %d)", atomic_load(&seen), isqs[q], exact);
            sr_sampler_free(sampler);
            sr_session_free(session);
            sr_model_close(model);
            sr_engine_free(engine);
        }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_guard_sees_an_allocation),
        cmocka_unit_test(steps_and_sampling_allocate_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
