/* Solvers: the factor of moments, error feedback for each kind of format, scales of columns, calibration by layers. */
#include "support.h"

#include <math.h>

#include "base/path.h"
#include "base/random.h"
#include "core/core.h"
#include "fmt/fmt.h"
#include "quant/algebra.h"
#include "quant/quant.h"

#define TINY SR_SOURCE_DIR "/tests/vectors/tiny/"

static int blas(void **state) {
    (void)state;
    int threads;
    sr_err err = {0};
    if (sr_algebra_begin(&threads, &err) == SR_OK) return 0;
    fprintf(stderr, "%s\n", err.msg);
    exit(77); /* built without OpenBLAS: nothing to test */
}

/* About N(0, 1). */
static float normal(uint64_t *state) {
    double sum = -6;
    for (int i = 0; i < 12; i++) sum += (double)(sr_random(state) >> 11) * 0x1p-53;
    return (float)sum;
}

/* ---------------------------------------------------------------- the factor */

static void check_factor(int K, int T, int threads) {
    uint64_t state = 7;
    float *x = malloc((size_t)T * (size_t)K * sizeof *x), *h = calloc((size_t)sr_upper_bytes(K), 1),
          *u = malloc((size_t)sr_upper_bytes(K)), *d = malloc((size_t)K * sizeof *d);
    for (int i = 0; i < T * K; i++) x[i] = normal(&state);
    for (int t = 0; t < T; t++)
        for (int k = 1; k < K; k++) x[t * K + k] += 0.5f * x[t * K + k - 1];
    sr_add_products(h, K, x, T, K, threads);
    double sum = 0;
    for (int t = 0; t < T; t++) sum += (double)x[t * K + 1] * (double)x[t * K + K - 1];
    assert_float_equal(h[sr_upper(1, K - 1)], sum, 1e-3 * T);
    for (int k = 0; k < K; k++) h[sr_upper(k, k)] += 0.01f * (float)T;
    memcpy(u, h, (size_t)sr_upper_bytes(K));
    sr_factor_upper(u, K, d, threads);
    for (int i = 0; i < K; i += 7)
        for (int j = i; j < K; j += 5) {
            const double want = h[sr_upper(i, j)];
            double back = 0;
            for (int k = j; k < K; k++) back += (double)u[sr_upper(i, k)] * (double)d[k] * (double)u[sr_upper(j, k)];
            if (!(fabs(back - want) < 1e-3 * T)) fail_msg("%d, %d: %g, %g", i, j, back, want);
        }
    free(x), free(h), free(u), free(d);
}
static void moments_are_their_factors(void **state) {
    (void)state;
    check_factor(700, 900, 2);
    check_factor(130, 400, 1);
    check_factor(2100, 300, 2); /* more than a group of panels */
}

/* Less data than columns, or none in some: a factor all the same, of numbers. */
static void poor_moments_have_a_factor(void **state) {
    (void)state;
    enum { K = 300 };
    uint64_t seed = 3;
    float *h = calloc((size_t)sr_upper_bytes(K), 1), x[2 * K], d[K];
    for (int i = 0; i < 2 * K; i++) x[i] = i % K < 20 ? 0 : 1e3f * normal(&seed);
    sr_add_products(h, K, x, 2, K, 2);
    sr_factor_upper(h, K, d, 2);
    for (int i = 0; i < K; i++)
        for (int j = i; j < K; j++) assert_true(isfinite(h[sr_upper(i, j)]) && d[j] > 0);
    free(h);
}

/* A symmetric matrix of numbers that say their place, h: what whole rows of it are multiplied with. */
static float entry(int64_t i, int64_t j) {
    return (float)((i < j ? i * 31 + j : j * 31 + i) % 97 - 40) / 16 + (i == j ? 8 : 0);
}
static float *make_triangle(int K) {
    float *h = malloc((size_t)sr_upper_bytes(K));
    memset(h, 0xff, (size_t)sr_upper_bytes(K)); /* what nothing may read is not a number */
    for (int i = 0; i < K; i++)
        for (int j = i; j < K; j++) h[sr_upper(i, j)] = entry(i, j);
    return h;
}

/* Products with the halves of whole matrices, whichever panels they begin and end in. */
static void triangles_are_multiplied(void **state) {
    (void)state;
    enum { M = 3 };
    static const int sizes[] = {5, 256, 257, 700};
    for (size_t s = 0; s < sizeof sizes / sizeof *sizes; s++) {
        const int K = sizes[s];
        float *h = make_triangle(K), *e = malloc(M * (size_t)K * sizeof *e), *out = malloc(M * (size_t)K * sizeof *e);
        for (int i = 0; i < M * K; i++) e[i] = (float)(i % 13 - 6) / 8;
        sr_multiply_symmetric(e, h, M, K, out);
        for (int i = 0; i < M * K; i += 3) {
            double want = 0;
            for (int k = 0; k < K; k++) want += (double)e[i / K * K + k] * (double)entry(k, i % K);
            assert_float_equal(out[i], want, 1e-3 * K);
        }
        const int at = K * 2 / 5, n = K - at, rows = at / 2 + 1;
        sr_multiply(e, K, h, at, M, n, rows, out, K);
        for (int i = 0; i < M * n; i += 3) {
            double want = 0;
            for (int k = 0; k < rows; k++) want += (double)e[i / n * K + k] * (double)entry(k, at + i % n);
            assert_float_equal(out[i / n * K + i % n], want, 1e-3 * K);
        }
        /* Back from x u, u with a unit diagonal and so small beside it that nothing grows. */
        for (int i = 0; i < K; i++)
            for (int j = i; j < K; j++) h[sr_upper(i, j)] = i == j ? 7 : entry(i, j) / 1024;
        for (int i = 0; i < M * n; i++) {
            double x = e[i / n * K + i % n];
            for (int k = 0; k < i % n; k++) x += (double)e[i / n * K + k] * (double)h[sr_upper(at + k, at + i % n)];
            out[i / n * K + i % n] = (float)x;
        }
        sr_solve_upper(h, at, n, out, M, K);
        for (int i = 0; i < M * n; i++) assert_float_equal(out[i / n * K + i % n], e[i / n * K + i % n], 1e-3);
        free(h), free(e), free(out);
    }
}

/* Half of a square, and a panel and a half beside it at most; rows and columns change places and nothing else does. */
static void triangles_are_half(void **state) {
    (void)state;
    enum { K = 700, I = 400, J = 130 };
    for (int64_t n = 1; n < 30000; n = n * 3 / 2 + 1) {
        assert_true(sr_upper_bytes(n) >= n * (n + 1) / 2 * (int64_t)sizeof(float));
        assert_true(sr_upper_bytes(n) <= n * (n + 3 * SR_PANEL) / 2 * (int64_t)sizeof(float));
        assert_true((sr_upper(n - 1, n - 1) + 1) * (int64_t)sizeof(float) <= sr_upper_bytes(n));
    }
    float *h = make_triangle(K);
    sr_upper_swap(h, K, I, J);
    for (int i = 0; i < K; i++)
        for (int j = i; j < K; j++) {
            const int a = i == I ? J : i == J ? I : i, b = j == I ? J : j == J ? I : j;
            assert_true(h[sr_upper(i, j)] == entry(a, b));
        }
    sr_upper_swap(h, K, J, I);
    for (int i = 0; i < K; i++)
        for (int j = i; j < K; j++) assert_true(h[sr_upper(i, j)] == entry(i, j));
    free(h);
}

/* ---------------------------------------------------------------- error feedback */

enum { N = 64, K = 512, T = 2048 };

struct problem {
    float *w, *h; /* [N][K]; [K][K], both halves */
    sr_moments m;
};
static void rows_of(void *ctx, int64_t row0, int64_t n, float *out) {
    memcpy(out, ((const struct problem *)ctx)->w + row0 * K, (size_t)n * K * sizeof *out);
}

static void make_problem(struct problem *p, double correlation) {
    uint64_t state = 11;
    float *x = malloc(T * K * sizeof *x);
    *p = (struct problem){.w = malloc(N * K * sizeof *p->w), .h = malloc(K * K * sizeof *p->h)};
    p->m = (sr_moments){.K = K, .tokens = T, .h = calloc((size_t)sr_upper_bytes(K), 1), .d = malloc(K * sizeof *x)};
    for (int i = 0; i < N * K; i++) p->w[i] = 0.02f * normal(&state);
    for (int t = 0; t < T; t++) {
        const float common = normal(&state);
        for (int k = 0; k < K; k++) x[t * K + k] = (k % 37 ? 1 : 6) * (normal(&state) + (float)correlation * common);
    }
    if (correlation > 0)
        sr_add_products(p->m.h, K, x, T, K, 2);
    else
        for (int k = 0; k < K; k++) p->m.h[sr_upper(k, k)] = 1 + (float)(k % 5);
    for (int i = 0; i < K; i++)
        for (int j = 0; j < K; j++) p->h[i * K + j] = p->m.h[i < j ? sr_upper(i, j) : sr_upper(j, i)];
    free(x);
}
static void free_problem(struct problem *p) {
    free(p->w), free(p->h), free(p->m.h), free(p->m.d), free(p->m.order);
}

/* d H d^T over all rows. */
static double cost(const struct problem *p, const sr_weight *w) {
    float row[K], d[K];
    double sum = 0;
    for (int n = 0; n < N; n++) {
        w->fmt->decode(w, n, 0, K, row);
        for (int k = 0; k < K; k++) d[w->perm ? w->perm[k] : k] = row[k];
        for (int k = 0; k < K; k++) d[k] = p->w[n * K + k] - d[k];
        for (int i = 0; i < K; i++)
            for (int j = 0; j < K; j++) sum += (double)d[i] * (double)p->h[i * K + j] * (double)d[j];
    }
    return sum;
}

static void solve(const struct problem *p, const char *format, bool act_order, int threads, sr_arena *arena,
                  sr_weight *w) {
    const sr_format *fmt = sr_format_by_name(format);
    const sr_source from = {.rows = rows_of, .ctx = (void *)(uintptr_t)p};
    sr_qspec spec = fmt->spec;
    spec.act_order = act_order;
    OK(sr_weight_create(fmt, N, K, &spec, arena, w, e_));
    if (act_order) OK(sr_weight_reorder(w, p->m.order, e_));
    OK(sr_encode_begin(w, &from, threads, e_));
    OK(sr_gptq_rows(w, &from, 0, N, &p->m, threads, e_));
}

static bool same_planes(const sr_weight *a, const sr_weight *b) {
    for (int i = 0; i < SR_MAX_PLANES; i++)
        if (a->plane[i].data && memcmp(a->plane[i].data, b->plane[i].data, (size_t)a->plane[i].bytes) != 0)
            return false;
    return true;
}

static const char *const formats[] = {
    "q4_0",   "q4_1",   "q5_0",    "q8_0",     "q2_k",    "q3_k",   "q4_k",     "q5_k",     "q6_k",
    "iq4_nl", "iq4_xs", "iq3_xxs", "iq3_s",    "iq2_xxs", "iq2_xs", "iq2_s",    "iq1_s",    "gptq2",
    "gptq3",  "gptq4",  "gptq8",   "awq4",     "hqq4",    "hqq2",   "mlx2",     "mlx3",     "mlx4",
    "mlx6",   "nf4",    "fp4",     "fp8_e4m3", "mxfp4",   "nvfp4",  "ct_pack4", "ct_nvfp4", "tq2_0"};

/* It costs less than nearest codes do, for every format that is written through a solver, and is the same for any
 * number of threads. */
static void feedback_pays(void **state) {
    (void)state;
    struct problem p;
    make_problem(&p, 1);
    OK(sr_moments_factor(&p.m, 0, 0.01, 2, e_));
    for (size_t f = 0; f < sizeof formats / sizeof *formats; f++) {
        const sr_source from = {.rows = rows_of, .ctx = &p};
        sr_arena arena = {0};
        sr_weight nearest, solved, again;
        solve(&p, formats[f], false, 2, &arena, &solved);
        solve(&p, formats[f], false, 1, &arena, &again);
        if (!same_planes(&solved, &again)) fail_msg("%s: other codes with one thread", formats[f]);
        OK(sr_weight_create(solved.fmt, N, K, &solved.fmt->spec, &arena, &nearest, e_));
        OK(sr_encode(&nearest, &from, NULL, 0, 2, e_));
        const double rtn = cost(&p, &nearest), gptq = cost(&p, &solved);
        if (getenv("VERBOSE")) printf("%-10s %.3f\n", formats[f], gptq / rtn);
        if (!(gptq < 0.8 * rtn)) fail_msg("%s: %g, nearest codes %g", formats[f], gptq, rtn);
        sr_arena_free(&arena);
    }
    free_problem(&p);
}

/* Inputs that have nothing to do with each other: nothing can be made up for. */
static void without_correlation_codes_are_nearest(void **state) {
    (void)state;
    struct problem p;
    make_problem(&p, 0);
    OK(sr_moments_factor(&p.m, 0, 0, 2, e_));
    for (size_t f = 0; f < sizeof formats / sizeof *formats; f++) {
        const sr_source from = {.rows = rows_of, .ctx = &p};
        sr_arena arena = {0};
        sr_weight nearest, solved;
        solve(&p, formats[f], false, 2, &arena, &solved);
        OK(sr_weight_create(solved.fmt, N, K, &solved.fmt->spec, &arena, &nearest, e_));
        OK(sr_encode_begin(&nearest, &from, 2, e_));
        OK(sr_encode_rows(&nearest, &from, 0, N, p.m.d, 2, e_));
        if (!same_planes(&solved, &nearest)) fail_msg("%s: not the nearest codes", formats[f]);
        sr_arena_free(&arena);
    }
    free_problem(&p);
}

/* Large inputs first: they have all the others to be made up for by. */
static void columns_can_be_sorted(void **state) {
    (void)state;
    struct problem p, q;
    sr_arena arena = {0};
    sr_weight plain, sorted;
    make_problem(&p, 1);
    make_problem(&q, 1);
    OK(sr_moments_factor(&p.m, 0, 0.01, 2, e_));
    OK(sr_moments_factor(&q.m, 1, 0.01, 2, e_));
    for (int k = 1; k < K; k++) assert_true(p.h[q.m.order[k - 1] * (K + 1)] >= p.h[q.m.order[k] * (K + 1)]);
    solve(&p, "gptq4", false, 2, &arena, &plain);
    solve(&q, "gptq4", true, 2, &arena, &sorted);
    assert_non_null(sorted.perm);
    const double a = cost(&p, &plain), b = cost(&q, &sorted);
    if (getenv("VERBOSE")) printf("plain %g sorted %g\n", a, b);
    assert_true(b < 1.1 * a);
    sr_arena_free(&arena);
    free_problem(&p);
    free_problem(&q);
}

/* Columns in the order of their moments, lanes whole, and each where it was: for every format, with any number of
 * threads; the same codes as ever where nothing can be made up for. */
static void columns_stay_in_their_groups(void **state) {
    (void)state;
    for (size_t f = 0; f < sizeof formats / sizeof *formats; f += SANITIZED ? 3 : 1) {
        const sr_format *fmt = sr_format_by_name(formats[f]);
        const int lane = fmt->lane > 1 ? fmt->lane : 1;
        struct problem p, q, flat;
        const sr_source from = {.rows = rows_of, .ctx = &p};
        sr_arena arena = {0};
        sr_weight nearest, in_order, again, plain;
        make_problem(&p, 1);
        make_problem(&q, 1);
        make_problem(&flat, 0);
        OK(sr_moments_factor(&p.m, lane, 0.01, 2, e_));
        OK(sr_moments_factor(&q.m, 0, 0.01, 2, e_));
        OK(sr_moments_factor(&flat.m, lane, 0, 2, e_));
        for (int k = 0; k < K; k++) assert_int_equal(p.m.order[k] % lane, k % lane);
        solve(&p, formats[f], false, 2, &arena, &in_order);
        solve(&p, formats[f], false, 1, &arena, &again);
        solve(&q, formats[f], false, 2, &arena, &plain);
        assert_null(in_order.perm);
        if (!same_planes(&in_order, &again)) fail_msg("%s: other codes with one thread", formats[f]);
        if (same_planes(&in_order, &plain)) fail_msg("%s: the order makes no difference", formats[f]);
        OK(sr_weight_create(fmt, N, K, &fmt->spec, &arena, &nearest, e_));
        OK(sr_encode(&nearest, &from, NULL, 0, 2, e_));
        const double rtn = cost(&p, &nearest), ordered = cost(&p, &in_order), gptq = cost(&q, &plain);
        if (getenv("VERBOSE")) printf("%-10s %.3f, by units %.3f\n", formats[f], ordered / rtn, gptq / rtn);
        if (!(ordered < 0.8 * rtn)) fail_msg("%s: %g, nearest codes %g", formats[f], ordered, rtn);
        if (!(ordered < 1.1 * gptq)) fail_msg("%s: %g, by units %g", formats[f], ordered, gptq);
        float importance[K];
        for (int k = 0; k < K; k++) importance[flat.m.order[k]] = flat.m.d[k];
        solve(&flat, formats[f], false, 2, &arena, &in_order);
        OK(sr_encode_begin(&nearest, &from, 2, e_));
        OK(sr_encode_rows(&nearest, &from, 0, N, importance, 2, e_));
        if (!same_planes(&in_order, &nearest)) fail_msg("%s: not the nearest codes", formats[f]);
        sr_arena_free(&arena);
        free_problem(&p);
        free_problem(&q);
        free_problem(&flat);
    }
}

/* ---------------------------------------------------------------- whole models */

static int enter(void **state) {
    return make_scratch(state) == 0 && chdir(*state) == 0 ? 0 : -1;
}
static int leave(void **state) {
    return chdir("/") == 0 ? remove_scratch(state) : -1;
}

enum { WINDOWS = 12, WINDOW = 40 };

static void make_text(const char *path, int32_t ids[WINDOWS * WINDOW]) {
    sr_engine *engine;
    sr_model *model;
    sr_model_info info;
    uint64_t state = 5;
    OK(sr_engine_create(NULL, &engine, e_));
    OK(sr_model_open(engine, path, NULL, &model, e_));
    sr_model_get_info(model, &info);
    for (int i = 0; i < WINDOWS * WINDOW; i++) ids[i] = (int32_t)(sr_random(&state) % (uint64_t)info.n_vocab);
    sr_model_close(model);
    sr_engine_free(engine);
}

/* The quantizer that wrote it, for what it says about its tensors. */
static sr_quantizer *convert(const char *from, const char *to, const char *result, const char *method, int threads,
                             const int32_t *ids, int n_windows) {
    sr_quantizer *q;
    const sr_quantize_options o = {
        .to = to, .method = method, .threads = threads, .calibration = ids, .n_windows = n_windows, .window = WINDOW};
    OK(sr_quantizer_plan(from, result, &o, &q, e_));
    seconds_of(q, result);
    OK(sr_quantizer_run(q, false, e_));
    return q;
}

/* Mean square difference of the logits of one window. */
static double distance(const char *a, const char *b, const int32_t *ids) {
    int32_t V, W;
    float *x = logits_of(a, ids, WINDOW, &V), *y = logits_of(b, ids, WINDOW, &W);
    double sum = 0;
    assert_int_equal(V, W);
    for (int64_t i = 0; i < (int64_t)V * WINDOW; i++) sum += ((double)x[i] - y[i]) * ((double)x[i] - y[i]);
    free(x);
    free(y);
    return sum / V / WINDOW;
}

/* Whatever is scaled, what its inputs come of is scaled back: the model computes the same. */
static void scaled_models_compute_the_same(void **state) {
    static const char *const models[] = {"llama", "gemma", "gemma2",  "gemma3",    "granite",    "qwen2",      "qwen3",
                                         "phi3",  "phi2",  "mixtral", "qwen3_moe", "starcoder2", "deepseek_v2"};
    int32_t ids[WINDOWS * WINDOW];
    int n = 0;
    (void)state;
    for (size_t i = 0; i < sizeof models / sizeof *models; i++) {
        char from[512];
        struct stat st;
        snprintf(from, sizeof from, TINY "%s", models[i]);
        if (stat(from, &st) != 0) fail_msg("%s: not there", from);
        make_text(from, ids);
        sr_quantizer_free(convert(from, "mlx:8,group=32", "rtn", "rtn", 2, NULL, 0));
        sr_quantizer *q = convert(from, "mlx:8,group=32", "awq", "awq", 2, ids, WINDOWS);
        sr_quantize_tensor t;
        for (int k = 0; sr_quantizer_tensor(q, k, &t); k++) n += t.seen > 0;
        sr_quantizer_free(q);
        const double rtn = distance(from, "rtn", ids), awq = distance(from, "awq", ids);
        if (getenv("VERBOSE")) printf("%-12s rtn %g awq %g\n", models[i], rtn, awq);
        if (!(awq < 4 * rtn)) fail_msg("%s: %g, without scales %g", models[i], awq, rtn);
        remove_tree("rtn");
        remove_tree("awq");
    }
    assert_true(n > 50);
}

/* Scales and feedback bring a model that is rounded coarsely nearer to what it was. */
static void methods_bring_models_nearer(void **state) {
    static const char from[] = SR_SOURCE_DIR "/models/story-6m";
    int32_t ids[WINDOWS * WINDOW];
    (void)state;
    make_text(from, ids);
    sr_quantizer_free(convert(from, "gptq:3", "rtn", "rtn", 2, NULL, 0));
    sr_quantizer_free(convert(from, "gptq:3", "awq", "awq", 2, ids, WINDOWS));
    sr_quantizer_free(convert(from, "gptq:3", "gptq", "gptq", 2, ids, WINDOWS));
    sr_quantizer_free(convert(from, "gptq:3,desc_act", "order", "gptq", 2, ids, WINDOWS));
    const double rtn = distance(from, "rtn", ids);
    if (getenv("VERBOSE"))
        printf("rtn %g awq %g gptq %g order %g\n", rtn, distance(from, "awq", ids), distance(from, "gptq", ids),
               distance(from, "order", ids));
    assert_true(distance(from, "awq", ids) < 0.9 * rtn);
    assert_true(distance(from, "gptq", ids) < 0.8 * rtn);
    assert_true(distance(from, "order", ids) < 0.8 * rtn);
}

/* Files without an order of columns, whose config says how they were made; types of several lanes in one layer. */
static void static_groups_are_named(void **state) {
    static const char from[] = SR_SOURCE_DIR "/models/story-6m";
    int32_t ids[WINDOWS * WINDOW];
    sr_err err = {0};
    sr_quantizer *q = NULL;
    (void)state;
    make_text(from, ids);
    sr_quantizer_free(convert(from, "gptq:3", "rtn", "rtn", 2, NULL, 0));
    const double rtn = distance(from, "rtn", ids);
    static const struct {
        const char *to, *config;
    } made[] = {{"gptq:3,static_groups", "\"desc_act\": false, \"static_groups\": true"},
                {"gptq:3,desc_act,static_groups", "\"desc_act\": false, \"static_groups\": true"},
                {"compressed-tensors:w4a16,static_groups", "\"actorder\": \"weight\""}};
    for (size_t i = 0; i < sizeof made / sizeof *made; i += SANITIZED ? 2 : 1) {
        sr_checkpoint *ck;
        sr_matrix_info info;
        int named = 0;
        size_t n;
        sr_quantizer_free(convert(from, made[i].to, "static", "gptq", 2, ids, WINDOWS));
        assert_true(distance(from, "static", ids) < 0.8 * rtn);
        char *config = read_all("static/config.json", &n);
        assert_non_null(strstr(config, made[i].config));
        free(config);
        OK(sr_checkpoint_open("static", NULL, &ck, e_));
        for (int k = 0; k < sr_checkpoint_n_matrices(ck); k++) {
            sr_checkpoint_matrix(ck, k, &info);
            named += info.static_groups;
            assert_false(info.act_order);
        }
        assert_true(named > 0);
        sr_checkpoint_close(ck);
        remove_tree("static");
    }
    sr_quantizer_free(convert(from, "gguf:iq2_xxs,static_groups", "lanes.gguf", "gptq", 2, ids, WINDOWS));
    sr_quantizer_free(convert(from, "gguf:iq2_xxs", "units.gguf", "gptq", 2, ids, WINDOWS));
    const double lanes = distance(from, "lanes.gguf", ids), units = distance(from, "units.gguf", ids);
    if (getenv("VERBOSE")) printf("iq2_xxs: lanes in order %g, units %g\n", lanes, units);
    assert_true(lanes < 1.5 * units && lanes != units);
    const sr_quantize_options o = {.to = "gguf:q4_k,static_groups"};
    check_error("rtn", sr_quantizer_plan(from, "x", &o, &q, &err), &err, SR_INVALID, "static_groups", "--method gptq",
                NULL);
}

/* A plan counts what opening turns around for the text: all experts of gpt-oss as it is without quantization, the keys'
 * part of kv_b in latent attention. */
static void turned_matrices_are_in_the_plan(void **state) {
    static const struct {
        const char *model, *ends[2];
    } cases[] = {{TINY "gpt_oss_whole", {"experts.gate_up_proj", "experts.down_proj"}},
                 {TINY "deepseek_v2", {"kv_b_proj.weight", "kv_b_proj.weight"}},
                 {TINY "llama", {"none", "none"}}};
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        int32_t ids[WINDOWS * WINDOW];
        sr_quantizer *q;
        sr_quantize_info info;
        make_text(cases[i].model, ids);
        const sr_quantize_options o = {.to = "mlx:4,group=32",
                                       .method = "gptq",
                                       .threads = 2,
                                       .calibration = ids,
                                       .n_windows = WINDOWS,
                                       .window = WINDOW};
        OK(sr_quantizer_plan(cases[i].model, "x", &o, &q, e_));
        sr_quantizer_info(q, &info);
        int64_t want = 2 * WINDOWS * WINDOW * (int64_t)sizeof(float) * q->h.d_model;
        for (int p = 0; p < q->file->n_parts; p++) {
            const sr_part *part = &q->file->part[p];
            const sr_latent *l = &q->h.latent;
            if (!sr_ends_with(part->name, cases[i].ends[0]) && !sr_ends_with(part->name, cases[i].ends[1])) continue;
            want += l->rank ? part->bytes / (l->d_nope + l->d_v) * l->d_nope : part->bytes;
        }
        if (info.scratch != want)
            fail_msg("%s: %lld bytes of disk, expected %lld", cases[i].model, (long long)info.scratch, (long long)want);
        sr_quantizer_free(q);
    }
}

/* HQQ's own rule, for its format and others with minimums; and no others. */
static void minimums_move(void **state) {
    static const char from[] = SR_SOURCE_DIR "/models/story-6m";
    int32_t ids[WINDOWS * WINDOW];
    sr_err err = {0};
    sr_quantizer *q = NULL;
    (void)state;
    make_text(from, ids);
    sr_quantizer *rtn = convert(from, "mlx:2", "rtn-2", "rtn", 2, NULL, 0);
    sr_quantizer *moved = convert(from, "mlx:2", "moved-2", "hqq", 2, NULL, 0);
    sr_quantize_tensor a, b;
    for (int i = 0; sr_quantizer_tensor(rtn, i, &a) && sr_quantizer_tensor(moved, i, &b); i++)
        if (a.to && b.error >= a.error) fail_msg("%s: error %g by hqq, %g by rtn", a.name, b.error, a.error);
    sr_quantizer_free(rtn);
    sr_quantizer_free(moved);
    sr_quantizer_free(convert(from, "mlx:3", "rtn", "rtn", 2, NULL, 0));
    sr_quantizer_free(convert(from, "mlx:3", "moved", "hqq", 2, NULL, 0));
    sr_quantizer_free(convert(from, "hqq:4", "plain", "rtn", 2, NULL, 0));
    sr_quantizer_free(convert(from, "hqq:4", "hqq", "hqq", 2, NULL, 0));
    if (getenv("VERBOSE")) printf("mlx %g hqq %g\n", distance(from, "rtn", ids), distance(from, "moved", ids));
    assert_true(distance(from, "moved", ids) < distance(from, "rtn", ids));
    assert_true(distance(from, "plain", ids) == distance(from, "hqq", ids));
    const sr_quantize_options o = {.to = "gptq:4", .method = "hqq"};
    check_error("hqq", sr_quantizer_plan(from, "x", &o, &q, &err), &err, SR_INVALID, "gptq4", "mlx", NULL);
}

/* Experts that no token chose are rounded to nearest, and said to be; threads make no difference. */
static void experts_need_not_be_chosen(void **state) {
    int32_t ids[WINDOWS * WINDOW];
    (void)state;
    make_text(TINY "mixtral", ids);
    for (int i = 0; i < WINDOW; i++) ids[i] = 3; /* one token: few experts */
    sr_quantizer *q = convert(TINY "mixtral", "gguf:q4_0", "one.gguf", "gptq", 2, ids, 1);
    sr_quantize_tensor t;
    int some = 0, all = 0;
    for (int i = 0; sr_quantizer_tensor(q, i, &t); i++) {
        some += t.seen > 0 && t.seen < 1;
        all += t.seen == 1;
        if (getenv("VERBOSE")) printf("%s %g\n", t.name, t.seen);
    }
    assert_true(some > 0 && all > 0);
    sr_quantizer_free(q);
    sr_quantizer_free(convert(TINY "mixtral", "gguf:q4_0", "two.gguf", "gptq", 1, ids, 1));
    size_t n, m;
    char *a = read_all("one.gguf", &n), *b = read_all("two.gguf", &m);
    assert_true(n == m && memcmp(a, b, n) == 0);
    free(a);
    free(b);
}

static void a_method_needs_its_data(void **state) {
    (void)state;
    sr_quantizer *q = NULL;
    sr_err err = {0};
    sr_quantize_options o = {.to = "gguf:q4_0", .method = "gptq"};
    check_error("gptq", sr_quantizer_plan(TINY "llama", "x", &o, &q, &err), &err, SR_INVALID, "--calibration-file",
                NULL);
    err = (sr_err){0};
    o.method = "imatrix";
    check_error("imatrix", sr_quantizer_plan(TINY "llama", "x", &o, &q, &err), &err, SR_INVALID, "--imatrix", NULL);
    err = (sr_err){0};
    o.method = "magic";
    check_error("magic", sr_quantizer_plan(TINY "llama", "x", &o, &q, &err), &err, SR_INVALID, "magic", "gptq", NULL);
    const int32_t far[8] = {0, 1 << 30};
    err = (sr_err){0};
    o = (sr_quantize_options){.to = "gguf:q4_0", .method = "gptq", .calibration = far, .n_windows = 1, .window = 8};
    check_error("ids", sr_quantizer_plan(TINY "llama", "x", &o, &q, &err), &err, SR_INVALID, "1073741824", NULL);
}

/* What is planned for the moments of a layer: of 256 inputs three times, and 768 once, in panels of 256 columns; in
 * memory, or one after the other in a file beside the states of all tokens. */
static void plans_have_half_of_the_moments(void **state) {
    static const int32_t ids[WINDOW];
    const int64_t square = 256 * 256 * sizeof(float), states = 2 * WINDOW * 256 * (int64_t)sizeof(float);
    sr_quantizer *q;
    sr_quantize_info in_memory, on_disk, none;
    (void)state;
    const sr_quantize_options o = {
        .to = "gptq:4", .method = "gptq", .threads = 1, .calibration = ids, .n_windows = 1, .window = WINDOW};
    OK(sr_quantizer_plan(SR_SOURCE_DIR "/models/story-6m", "x", &o, &q, e_));
    sr_quantizer_info(q, &in_memory);
    q->moments_bytes = 0;
    sr_quantizer_info(q, &on_disk);
    sr_quantizer_free(q);
    assert_int_equal(in_memory.memory - on_disk.memory, (3 + 6) * square);
    assert_int_equal(in_memory.scratch, states);
    assert_int_equal(on_disk.scratch, states + 6 * square);
    OK(sr_quantizer_plan(SR_SOURCE_DIR "/models/story-6m", "x", &(sr_quantize_options){.to = "gptq:4"}, &q, e_));
    sr_quantizer_info(q, &none);
    sr_quantizer_free(q);
    assert_int_equal(none.scratch, 0);
}

/* A text goes through the model, and its moments are summed up. */
static void long_texts_take_longer(void **state) {
    enum { MANY = 40000 };
    static const char *const methods[] = {"gptq", "awq"};
    int32_t *ids = calloc(MANY * WINDOW, sizeof *ids);
    assert_non_null(ids);
    (void)state;
    for (int m = 0; m < 2; m++) {
        double seconds[2];
        for (int i = 0; i < 2; i++) {
            sr_quantizer *q;
            const sr_quantize_options o = {
                .to = "gptq:4", .method = methods[m], .calibration = ids, .n_windows = i ? MANY : 1, .window = WINDOW};
            OK(sr_quantizer_plan(SR_SOURCE_DIR "/models/story-6m", "x", &o, &q, e_));
            seconds[i] = seconds_of(q, "x");
            sr_quantizer_free(q);
        }
        if (!(seconds[1] > 4 * seconds[0])) fail_msg("%s: %g s, then %g s", methods[m], seconds[0], seconds[1]);
    }
    free(ids);
}

/* Units across rows, and sources with groups of their own. What stands where the time of the disk would be taken stays.
 */
static void any_matrix_has_a_time(void **state) {
    static int32_t ids[WINDOW];
    static const struct {
        const char *from, *to, *method;
    } cases[] = {{SR_SOURCE_DIR "/models/story-6m", "uqff:hqq4", "gptq"},
                 {SR_SOURCE_DIR "/models/story-6m", "uqff:hqq4", "awq"},
                 {SR_SOURCE_DIR "/models/story-6m", "gptq:4,static_groups", "gptq"},
                 {"grouped", "gguf:q8_0", "gptq"}};
    struct stat st;
    (void)state;
    sr_quantizer_free(convert(SR_SOURCE_DIR "/models/story-6m", "mlx:4,group=32", "grouped", "rtn", 1, NULL, 0));
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        sr_quantizer *q;
        const sr_quantize_options o = {
            .to = cases[i].to, .method = cases[i].method, .calibration = ids, .n_windows = 1, .window = WINDOW};
        OK(sr_quantizer_plan(cases[i].from, "x", &o, &q, e_));
        seconds_of(q, "x");
        sr_quantizer_free(q);
    }
    sr_quantizer *q;
    double seconds;
    write_text("x.timed", "mine");
    OK(sr_quantizer_plan("grouped", "x", &(sr_quantize_options){.to = "gguf:q8_0"}, &q, e_));
    OK(sr_quantizer_seconds(q, &seconds, e_));
    sr_quantizer_free(q);
    assert_int_equal(stat("x.timed", &st), 0);
}

/* A search of lattices takes tens of times as long; nothing can be written there, so that no disk counts. */
static void searches_take_longer_than_rounding(void **state) {
    static const char *const to[] = {"gguf:q8_0", "gguf:iq3_s"};
    double seconds[2];
    (void)state;
    for (int i = 0; i < 2; i++) {
        sr_quantizer *q;
        OK(sr_quantizer_plan(SR_SOURCE_DIR "/models/story-6m", "nowhere/x", &(sr_quantize_options){.to = to[i]}, &q,
                             e_));
        seconds[i] = seconds_of(q, "nowhere/x");
        sr_quantizer_free(q);
    }
    if (!(seconds[1] > 2 * seconds[0])) fail_msg("%g s, then %g s", seconds[0], seconds[1]);
}

/* Those above the limit; what a pass sums up is in memory together up to 256 MiB, and one of them in a file. */
static void wide_moments_go_to_a_file(void **state) {
    (void)state;
    sr_quantizer q = {.moments_bytes = (int64_t)300 << 20};
    sr_kept kept = {0};
    assert_true(sr_moments_join(&q, 8192, &kept));   /* 132 MiB */
    assert_false(sr_moments_join(&q, 8192, &kept));  /* together they would be more than a pass has */
    assert_true(sr_moments_join(&q, 16384, &kept));  /* 520 MiB */
    assert_false(sr_moments_join(&q, 16384, &kept)); /* one file at a time */
    assert_true(sr_moments_join(&q, 256, &kept));
    assert_int_equal(kept.memory, sr_upper_bytes(8192) + sr_upper_bytes(256));
    assert_int_equal(kept.disk, sr_upper_bytes(16384));
    kept = (sr_kept){0};
    assert_true(sr_moments_join(&q, 12000, &kept)); /* 280 MiB, alone */
    assert_false(sr_moments_join(&q, 256, &kept));
}

/* Wherever moments are, the codes are the same. */
static void moments_in_a_file_make_the_same(void **state) {
    static const char from[] = SR_SOURCE_DIR "/models/story-6m";
    static const char *const methods[] = {"gptq", "awq"};
    /* None, those of 256 columns, all. */
    const int64_t limits[] = {0, sr_upper_bytes(256), (int64_t)1 << 40};
    int32_t ids[WINDOWS * WINDOW];
    (void)state;
    make_text(from, ids);
    for (int m = 0; m < (SANITIZED ? 1 : 2); m++) {
        char *want = NULL;
        size_t n_want = 0;
        for (int i = 0; i < 3; i++) {
            sr_quantizer *q;
            size_t n;
            const sr_quantize_options o = {.to = "gguf:q4_k",
                                           .method = methods[m],
                                           .threads = 2,
                                           .calibration = ids,
                                           .n_windows = 1,
                                           .window = 256}; /* fewer rows would be added up with those of another */
            OK(sr_quantizer_plan(from, "made.gguf", &o, &q, e_));
            q->moments_bytes = limits[i];
            OK(sr_quantizer_run(q, false, e_));
            sr_quantizer_free(q);
            char *got = read_all("made.gguf", &n);
            remove("made.gguf");
            if (i) assert_true(n == n_want && memcmp(got, want, n) == 0);
            free(want);
            want = got;
            n_want = n;
        }
        free(want);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(moments_are_their_factors),
        cmocka_unit_test(poor_moments_have_a_factor),
        cmocka_unit_test(triangles_are_multiplied),
        cmocka_unit_test(triangles_are_half),
        cmocka_unit_test(feedback_pays),
        cmocka_unit_test(without_correlation_codes_are_nearest),
        cmocka_unit_test(columns_can_be_sorted),
        cmocka_unit_test(columns_stay_in_their_groups),
        cmocka_unit_test_setup_teardown(scaled_models_compute_the_same, enter, leave),
        cmocka_unit_test_setup_teardown(methods_bring_models_nearer, enter, leave),
        cmocka_unit_test_setup_teardown(static_groups_are_named, enter, leave),
        cmocka_unit_test_setup_teardown(minimums_move, enter, leave),
        cmocka_unit_test_setup_teardown(turned_matrices_are_in_the_plan, enter, leave),
        cmocka_unit_test_setup_teardown(experts_need_not_be_chosen, enter, leave),
        cmocka_unit_test(a_method_needs_its_data),
        cmocka_unit_test(plans_have_half_of_the_moments),
        cmocka_unit_test_setup_teardown(long_texts_take_longer, enter, leave),
        cmocka_unit_test(searches_take_longer_than_rounding),
        cmocka_unit_test_setup_teardown(any_matrix_has_a_time, enter, leave),
        cmocka_unit_test(wide_moments_go_to_a_file),
        cmocka_unit_test_setup_teardown(moments_in_a_file_make_the_same, enter, leave),
    };
    return cmocka_run_group_tests(tests, blas, NULL);
}
