/* Dense algebra of the solvers. Products go through BLAS, a thread each, in tiles whose size does not depend on how
 * many threads there are: nor do the results. */
#include <math.h>
#include <string.h>

#include "base/log.h"
#include "base/pool.h"
#include "quant/algebra.h"
#include "sirocco.h"

static void exchange(float *a, float *b) {
    const float was = *a;
    *a = *b;
    *b = was;
}

void sr_upper_swap(float *h, int64_t K, int64_t i, int64_t j) {
    if (i > j) {
        const int64_t was = i;
        i = j;
        j = was;
    }
    if (i == j) return;
    for (int64_t k = 0; k < i; k++) exchange(h + sr_upper(k, i), h + sr_upper(k, j));
    exchange(h + sr_upper(i, i), h + sr_upper(j, j));
    for (int64_t k = i + 1; k < j; k++) exchange(h + sr_upper(i, k), h + sr_upper(k, j));
    for (int64_t k = j + 1; k < K; k++) exchange(h + sr_upper(i, k), h + sr_upper(j, k));
}

#ifdef SR_HAVE_BLAS
#include <cblas.h>

/* A panel is a multiple of PIVOTS; GROUP of panels. */
enum { PIVOTS = 128, GROUP = 4 * SR_PANEL };

static int least(int a, int b) {
    return a < b ? a : b;
}
static int tiles_of(int K) {
    return (K + SR_PANEL - 1) / SR_PANEL;
}

sr_status sr_algebra_begin(int *threads, sr_err *err) {
    (void)err;
    *threads = openblas_get_num_threads();
    openblas_set_num_threads(1);
    static bool told;
    if (!told && strcmp(openblas_get_corename(), "Prescott") == 0 && strstr(sr_cpu_features(), "avx2"))
        sr_log(SR_LOG_WARNING,
               "this OpenBLAS does not know the processor and takes its slowest products: OPENBLAS_CORETYPE=%s in the "
               "environment makes them several times as fast",
               strstr(sr_cpu_features(), "avx512vl") ? "SkylakeX" : "Haswell");
    told = true;
    return SR_OK;
}

void sr_algebra_end(int threads) {
    openblas_set_num_threads(threads);
}

struct product {
    float *h;
    const float *x;
    int64_t ld;
    int K, T;
};

/* SR_PANEL rows of a panel are a tile. Tile i of the upper triangle, counted panel by panel, as they lie in a file; and
 * how many there are in n panels. */
static void tile_at(int i, int *row, int *col) {
    *col = 0;
    while (i > *col) i -= ++*col;
    *row = i;
}
static int tiles_in(int n) {
    return n * (n + 1) / 2;
}

static void add_tile(void *ctx, int item, int thread) {
    const struct product *p = ctx;
    int row, col;
    (void)thread;
    tile_at(item, &row, &col);
    const int i = row * SR_PANEL, j = col * SR_PANEL, m = least(SR_PANEL, p->K - i), n = least(SR_PANEL, p->K - j);
    cblas_sgemm(CblasRowMajor, CblasTrans, CblasNoTrans, m, n, p->T, 1, p->x + i, (int)p->ld, p->x + j, (int)p->ld, 1,
                p->h + sr_upper(i, j), SR_PANEL);
}

void sr_add_products(float *h, int K, const float *x, int T, int64_t ld, int threads) {
    struct product p = {h, x, ld, K, T};
    sr_pool_for(threads, tiles_in(tiles_of(K)), add_tile, &p);
}

struct factoring {
    float *a;
    int at, end; /* columns at .. end are being eliminated */
    int first;   /* tile that is reduced */
};

/* Pivots of one diagonal block, from its last column to its first: A = U U^T. Where nothing is left of one (the others
 * explain the column) `mean` takes its place: large enough for what is left of the column to come to nothing. */
static void factor_pivots(float *a, int n, double mean) {
    enum { ld = SR_PANEL };
    for (int j = n - 1; j >= 0; j--) {
        double pivot = a[j * ld + j];
        for (int k = j + 1; k < n; k++) pivot -= (double)a[j * ld + k] * (double)a[j * ld + k];
        const double root = sqrt(pivot > 1e-6 * mean ? pivot : mean);
        a[j * ld + j] = (float)root;
        for (int i = 0; i < j; i++) {
            double sum = a[i * ld + j];
            for (int k = j + 1; k < n; k++) sum -= (double)a[i * ld + k] * (double)a[j * ld + k];
            a[i * ld + j] = (float)(sum / root);
        }
    }
}

/* Rows above the block: U = A inv(U of the block)^T. */
static void factor_above(void *ctx, int item, int thread) {
    const struct factoring *f = ctx;
    const int i = item * SR_PANEL, m = least(SR_PANEL, f->at - i);
    (void)thread;
    cblas_strsm(CblasRowMajor, CblasRight, CblasUpper, CblasTrans, CblasNonUnit, m, f->end - f->at, 1,
                f->a + sr_upper(f->at, f->at), SR_PANEL, f->a + sr_upper(i, f->at), SR_PANEL);
}

/* Where the block of columns in front of this one begins. */
static int block_before(int end) {
    return (end - 1) / PIVOTS * PIVOTS;
}

/* What is left of a tile above and left of the columns, block by block. */
static void reduce_tile(void *ctx, int item, int thread) {
    const struct factoring *f = ctx;
    int row, col;
    (void)thread;
    tile_at(f->first + item, &row, &col);
    const int i = row * SR_PANEL, j = col * SR_PANEL, m = least(SR_PANEL, f->at - i), n = least(SR_PANEL, f->at - j);
    for (int end = f->end, at; end > f->at; end = at) {
        at = block_before(end);
        cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasTrans, m, n, end - at, -1, f->a + sr_upper(i, at), SR_PANEL,
                    f->a + sr_upper(j, at), SR_PANEL, 1, f->a + sr_upper(i, j), SR_PANEL);
    }
}

/* Group by group from the last: its panels are eliminated first, then those in front of it are reduced by all of them
 * at once, so that most of the triangle, which may be in a file, is met once a group. */
void sr_factor_upper(float *a, int K, float *d, int threads) {
    double mean = 0;
    for (int j = 0; j < K; j++) mean += a[sr_upper(j, j)] / (double)K;
    struct factoring f = {.a = a};
    for (int end = K, begin; end > 0; end = begin) {
        begin = (end - 1) / GROUP * GROUP;
        const int before = tiles_in(begin / SR_PANEL);
        f.first = before;
        for (f.end = end; f.end > begin; f.end = f.at) {
            f.at = block_before(f.end);
            factor_pivots(a + sr_upper(f.at, f.at), f.end - f.at, mean > 0 ? mean : 1);
            sr_pool_for(threads, tiles_of(f.at), factor_above, &f);
            sr_pool_for(threads, tiles_in(tiles_of(f.at)) - before, reduce_tile, &f);
        }
        f = (struct factoring){a, begin, end, 0};
        sr_pool_for(threads, before, reduce_tile, &f);
    }
    for (int j = 0; j < K; j++) d[j] = a[sr_upper(j, j)];
    for (int at = 0; at < K; at += SR_PANEL)
        for (int i = 0, end = least(at + SR_PANEL, K); i < end; i++) {
            float *row = a + sr_upper(i, at);
            for (int j = i < at ? at : i + 1; j < end; j++) row[j - at] /= d[j];
        }
    for (int j = 0; j < K; j++) {
        a[sr_upper(j, j)] = 1;
        d[j] *= d[j];
    }
}

/* Columns at .. end as far as the first one's panel reaches. */
static int in_panel(int64_t at, int64_t end) {
    const int64_t next = (at / SR_PANEL + 1) * SR_PANEL;
    return (int)((next < end ? next : end) - at);
}

void sr_multiply(const float *e, int64_t ld_e, const float *u, int64_t at, int m, int n, int k, float *out,
                 int64_t ld_out) {
    for (int64_t end = at + n, cols; at < end; at += cols, out += cols) {
        cols = in_panel(at, end);
        cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasNoTrans, m, (int)cols, k, 1, e, (int)ld_e, u + sr_upper(0, at),
                    SR_PANEL, 0, out, (int)ld_out);
    }
}

void sr_multiply_symmetric(const float *e, const float *h, int m, int n, float *out) {
    for (int at = 0; at < n; at += SR_PANEL) {
        const int cols = least(SR_PANEL, n - at);
        const float *panel = h + sr_upper(0, at);
        cblas_ssymm(CblasRowMajor, CblasRight, CblasUpper, m, cols, 1, h + sr_upper(at, at), SR_PANEL, e + at, n, 0,
                    out + at, n);
        if (!at) continue;
        cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasNoTrans, m, cols, at, 1, e, n, panel, SR_PANEL, 1, out + at, n);
        cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasTrans, m, at, cols, 1, e + at, n, panel, SR_PANEL, 1, out, n);
    }
}

void sr_add_scaled(float e, const float *x, int n, float *out) {
    cblas_saxpy(n, e, x, 1, out, 1);
}

void sr_solve_upper(const float *u, int64_t at, int n, float *x, int m, int64_t ld_x) {
    for (int64_t c = at, end = at + n, cols; c < end; c += cols) {
        float *to = x + (c - at);
        cols = in_panel(c, end);
        if (c > at)
            cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasNoTrans, m, (int)cols, (int)(c - at), -1, x, (int)ld_x,
                        u + sr_upper(at, c), SR_PANEL, 1, to, (int)ld_x);
        cblas_strsm(CblasRowMajor, CblasRight, CblasUpper, CblasNoTrans, CblasUnit, m, (int)cols, 1, u + sr_upper(c, c),
                    SR_PANEL, to, (int)ld_x);
    }
}

#else

sr_status sr_algebra_begin(int *threads, sr_err *err) {
    (void)threads;
    return sr_fail(err, SR_UNSUPPORTED,
                   "this build has no OpenBLAS, which the methods gptq and awq need: install it (`make setup`) and "
                   "build again, or use --method imatrix");
}

/* Nothing gets this far. */
void sr_algebra_end(int threads) {
    (void)threads;
}
void sr_add_products(float *h, int K, const float *x, int T, int64_t ld, int threads) {
    (void)h, (void)K, (void)x, (void)T, (void)ld, (void)threads;
}
void sr_factor_upper(float *a, int K, float *d, int threads) {
    (void)a, (void)K, (void)d, (void)threads;
}
void sr_multiply(const float *e, int64_t ld_e, const float *u, int64_t at, int m, int n, int k, float *out,
                 int64_t ld_out) {
    (void)e, (void)ld_e, (void)u, (void)at, (void)m, (void)n, (void)k, (void)out, (void)ld_out;
}
void sr_multiply_symmetric(const float *e, const float *h, int m, int n, float *out) {
    (void)e, (void)h, (void)m, (void)n, (void)out;
}
void sr_add_scaled(float e, const float *x, int n, float *out) {
    (void)e, (void)x, (void)n, (void)out;
}
void sr_solve_upper(const float *u, int64_t at, int n, float *x, int m, int64_t ld_x) {
    (void)u, (void)at, (void)n, (void)x, (void)m, (void)ld_x;
}
#endif
