/* Importances: what is summed up while a model runs, its files, and what the writer makes of them. */
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

#include "core/core.h"
#include "quant/quant.h"

enum { T = 40, PATH = 512 };

struct opened {
    sr_engine *engine;
    sr_model *model;
    sr_session *session;
    sr_imatrix *im;
    int32_t id[T];
};

static void open_and_step(const char *name, struct opened *o) {
    char path[PATH];
    sr_model_info info;
    sr_err err = {0};
    snprintf(path, sizeof path, "%s/%s", SR_SOURCE_DIR, name);
    if (sr_engine_create(&(sr_engine_options){.threads = 2, .exact = true}, &o->engine, &err) != SR_OK ||
        sr_model_open(o->engine, path, NULL, &o->model, &err) != SR_OK ||
        sr_session_create(o->model, NULL, &o->session, &err) != SR_OK ||
        sr_imatrix_observe(o->model, &o->im, &err) != SR_OK)
        fail_msg("%s: %s", name, err.msg);
    sr_model_get_info(o->model, &info);
    for (int i = 0; i < T; i++) o->id[i] = (i * 37 + 5) % info.n_vocab;
    if (sr_session_sync(o->session, o->id, T, &err) != SR_OK || sr_step(&o->session, 1, &err) != SR_OK)
        fail_msg("%s: %s", name, err.msg);
    sr_imatrix_chunk(o->im);
}
static void close_all(struct opened *o) {
    sr_imatrix_free(o->im);
    sr_session_free(o->session);
    sr_model_close(o->model);
    sr_engine_free(o->engine);
}

/* The first layer's queries meet the normalized embedding of each token. */
static void the_first_layer_meets_what_it_should(void **state) {
    (void)state;
    struct opened o;
    open_and_step("models/story-6m", &o);
    const sr_decoder *dec = &o.model->dec;
    const int64_t d = dec->h.d_model;
    sr_arena arena = {0};
    float *row = malloc((size_t)d * sizeof *row), *got;
    double *want = calloc((size_t)d, sizeof *want);
    int n;
    for (int t = 0; t < T; t++) {
        double ms = 0;
        dec->embed.fmt->decode(&dec->embed, o.id[t], 0, d, row);
        for (int64_t k = 0; k < d; k++) ms += (double)row[k] * row[k] / (double)d;
        for (int64_t k = 0; k < d; k++) {
            const double v = row[k] / sqrt(ms + (double)dec->h.eps) * dec->layer[0].attn_norm.weight[k];
            want[k] += v * v / T;
        }
    }
    assert_int_equal(sr_imatrix_of(o.im, "blk.0.attn_q", d, 0, &arena, &got, &n, NULL), SR_OK);
    assert_int_equal(n, 1);
    for (int64_t k = 0; k < d; k++)
        if (!(fabs(got[k] - want[k]) <= 1e-5 * (fabs(want[k]) + 1e-6)))
            fail_msg("column %d: %g, expected %g", (int)k, (double)got[k], want[k]);
    assert_int_equal(sr_imatrix_entries(o.im), 7 * dec->h.n_layer);
    free(row), free(want);
    sr_arena_free(&arena);
    close_all(&o);
}

/* Every expert has its own, and all that tokens chose is counted. */
static void experts_count_the_tokens_that_chose_them(void **state) {
    (void)state;
    struct opened o;
    open_and_step("tests/vectors/tiny/mixtral", &o);
    const sr_hparams *h = &o.model->dec.h;
    sr_arena arena = {0};
    float *up, *down;
    int n;
    assert_int_equal(sr_imatrix_of(o.im, "blk.0.ffn_up_exps", h->d_model, h->gating.n, &arena, &up, &n, NULL), SR_OK);
    assert_int_equal(n, h->gating.n);
    assert_int_equal(sr_imatrix_of(o.im, "blk.0.ffn_down_exps", h->d_expert, h->gating.n, &arena, &down, &n, NULL),
                     SR_OK);
    assert_int_equal(n, h->gating.n);
    bool differ = false;
    for (int64_t k = 0; k < h->d_model; k++) differ = differ || up[k] != up[h->d_model + k];
    assert_true(differ);
    sr_arena_free(&arena);
    close_all(&o);
}

static void put_file(const char *path, const void *data, size_t n) {
    FILE *f = fopen(path, "wb");
    assert_non_null(f);
    assert_int_equal(fwrite(data, 1, n, f), n);
    fclose(f);
}

/* Both kinds of file give back what was written, and two of them together the sum. */
static void files_give_back_what_was_written(void **state) {
    (void)state;
    static const char *const names[] = {"im.gguf", "im.dat"};
    struct opened o;
    char dir[] = "/tmp/sirocco-test-XXXXXX", path[PATH];
    sr_err err = {0};
    assert_non_null(mkdtemp(dir));
    open_and_step("tests/vectors/tiny/mixtral", &o);
    const sr_hparams *h = &o.model->dec.h;
    for (int i = 0; i < 2; i++) {
        sr_imatrix *back, *both;
        sr_arena arena = {0};
        float *want, *got, *sum;
        int n, m;
        snprintf(path, sizeof path, "%s/%s", dir, names[i]);
        assert_int_equal(sr_imatrix_write(o.im, path, T, &err), SR_OK);
        if (sr_imatrix_read(NULL, path, &back, &err) != SR_OK) fail_msg("%s: %s", names[i], err.msg);
        assert_int_equal(sr_imatrix_entries(back), sr_imatrix_entries(o.im));
        static const char *const of[] = {"blk.1.attn_output", "blk.1.ffn_down_exps"};
        const int64_t K[] = {(int64_t)h->n_head * h->head_dim, h->d_expert};
        for (int e = 0; e < 2; e++) {
            sr_imatrix_of(o.im, of[e], K[e], h->gating.n, &arena, &want, &n, NULL);
            assert_int_equal(sr_imatrix_of(back, of[e], K[e], h->gating.n, &arena, &got, &m, &err), SR_OK);
            assert_int_equal(n, m);
            for (int64_t k = 0; k < n * K[e]; k++)
                if (!(fabsf(got[k] - want[k]) <= 1e-5f * fabsf(want[k]) + 1e-12f))
                    fail_msg("%s: %s: %g, expected %g", names[i], of[e], (double)got[k], (double)want[k]);
        }
        assert_int_equal(sr_imatrix_read(back, path, &both, &err), SR_OK);
        assert_ptr_equal(both, back);
        sr_imatrix_of(back, of[0], K[0], h->gating.n, &arena, &sum, &n, NULL);
        sr_imatrix_of(o.im, of[0], K[0], h->gating.n, &arena, &want, &n, NULL);
        for (int64_t k = 0; k < K[0]; k++) assert_true(fabsf(sum[k] - want[k]) <= 1e-5f * fabsf(want[k]) + 1e-12f);
        /* of another model */
        assert_int_equal(sr_imatrix_of(back, of[0], K[0] + 1, h->gating.n, &arena, &got, &m, &err), SR_INVALID);
        err = (sr_err){0};
        sr_arena_free(&arena);
        sr_imatrix_free(back);
        unlink(path);
    }
    rmdir(dir);
    close_all(&o);
}

static void broken_files_are_refused(void **state) {
    (void)state;
    char dir[] = "/tmp/sirocco-test-XXXXXX", path[PATH];
    assert_non_null(mkdtemp(dir));
    snprintf(path, sizeof path, "%s/bad.dat", dir);
    static const unsigned char files[][32] = {
        {0},                                                                     /* nothing */
        {255, 255, 255, 255},                                                    /* 2^32 entries */
        {1, 0, 0, 0, 255, 255, 255, 127},                                        /* a name past the end */
        {1, 0, 0, 0, 1, 0, 0, 0, 'a', 1, 0, 0, 0, 255, 255, 255, 127},           /* values past the end */
        {1, 0, 0, 0, 1, 0, 0, 0, 'a', 1, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0xc0, 0x7f}, /* NaN */
    };
    static const size_t bytes[] = {0, 4, 8, 17, 21};
    for (size_t i = 0; i < sizeof bytes / sizeof *bytes; i++) {
        sr_imatrix *im;
        sr_err err = {0};
        put_file(path, files[i], bytes[i]);
        if (sr_imatrix_read(NULL, path, &im, &err) != SR_CORRUPT) fail_msg("file %d: %s", (int)i, err.msg);
        assert_null(im);
    }
    unlink(path);
    rmdir(dir);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_first_layer_meets_what_it_should),
        cmocka_unit_test(experts_count_the_tokens_that_chose_them),
        cmocka_unit_test(files_give_back_what_was_written),
        cmocka_unit_test(broken_files_are_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
