/* Dense algebra of the solvers. Products go through BLAS, a thread each, in tiles whose size does not depend on how
 * many threads there are: nor do the results. */
#include <math.h>
#include <string.h>

#include "base/log.h"
#include "base/pool.h"
#include "quant/algebra.h"
#include "sirocco.h"

#ifdef SR_HAVE_BLAS
#include <cblas.h>

enum { TILE = 256, PIVOTS = 128 };

static int least(int a, int b) {
    return a < b ? a : b;
}

sr_status sr_algebra_begin(int *threads, sr_err *err) {
    (void)err;
    *threads = openblas_get_num_threads();
    openblas_set_num_threads(1);
    if (strcmp(openblas_get_corename(), "Prescott") == 0 && strstr(sr_cpu_features(), "avx2"))
        sr_log(SR_LOG_WARNING,
               "this OpenBLAS does not know the processor and takes its slowest products: OPENBLAS_CORETYPE=%s in the "
               "environment makes them several times as fast",
               strstr(sr_cpu_features(), "avx512vl") ? "SkylakeX" : "Haswell");
    return SR_OK;
}

void sr_algebra_end(int threads) {
    openblas_set_num_threads(threads);
}

struct product {
    float *h;
    const float *x;
    int64_t ld;
    int K, T, tiles;
};

/* Tile i of the upper triangle, counted row by row. */
static void tile_at(int i, int tiles, int *row, int *col) {
    *row = 0;
    for (int n = tiles; i >= n; n--) i -= n, ++*row;
    *col = *row + i;
}

static void add_tile(void *ctx, int item, int thread) {
    const struct product *p = ctx;
    int row, col;
    (void)thread;
    tile_at(item, p->tiles, &row, &col);
    const int i = row * TILE, j = col * TILE, m = least(TILE, p->K - i), n = least(TILE, p->K - j);
    cblas_sgemm(CblasRowMajor, CblasTrans, CblasNoTrans, m, n, p->T, 1, p->x + i, (int)p->ld, p->x + j, (int)p->ld, 1,
                p->h + (int64_t)i * p->K + j, p->K);
}

void sr_add_products(float *h, int K, const float *x, int T, int64_t ld, int threads) {
    struct product p = {h, x, ld, K, T, (K + TILE - 1) / TILE};
    sr_pool_for(threads, p.tiles * (p.tiles + 1) / 2, add_tile, &p);
}

struct factoring {
    float *a;
    int K, at, n; /* columns at .. at + n are being eliminated */
};

/* Pivots of one diagonal block, from its last column to its first: A = U U^T. Where nothing is left of one (the others
 * explain the column) `mean` takes its place: large enough for what is left of the column to come to nothing. */
static void factor_pivots(float *a, int64_t ld, int n, double mean) {
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
    const int i = item * TILE, m = least(TILE, f->at - i);
    (void)thread;
    cblas_strsm(CblasRowMajor, CblasRight, CblasUpper, CblasTrans, CblasNonUnit, m, f->n, 1,
                f->a + (int64_t)f->at * f->K + f->at, f->K, f->a + (int64_t)i * f->K + f->at, f->K);
}

/* What is left of a tile above and left of the block. */
static void reduce_tile(void *ctx, int item, int thread) {
    const struct factoring *f = ctx;
    int row, col;
    (void)thread;
    tile_at(item, (f->at + TILE - 1) / TILE, &row, &col);
    const int i = row * TILE, j = col * TILE, m = least(TILE, f->at - i), n = least(TILE, f->at - j);
    cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasTrans, m, n, f->n, -1, f->a + (int64_t)i * f->K + f->at, f->K,
                f->a + (int64_t)j * f->K + f->at, f->K, 1, f->a + (int64_t)i * f->K + j, f->K);
}

void sr_factor_upper(float *a, int K, float *d, int threads) {
    double mean = 0;
    for (int j = 0; j < K; j++) mean += a[(int64_t)j * K + j] / (double)K;
    struct factoring f = {a, K, K, 0};
    while (f.at > 0) {
        f.n = f.at % PIVOTS ? f.at % PIVOTS : PIVOTS;
        f.at -= f.n;
        factor_pivots(a + (int64_t)f.at * K + f.at, K, f.n, mean > 0 ? mean : 1);
        const int tiles = (f.at + TILE - 1) / TILE;
        sr_pool_for(threads, tiles, factor_above, &f);
        sr_pool_for(threads, tiles * (tiles + 1) / 2, reduce_tile, &f);
    }
    for (int j = 0; j < K; j++) d[j] = a[(int64_t)j * K + j];
    for (int i = 0; i < K; i++) {
        float *row = a + (int64_t)i * K;
        for (int j = i + 1; j < K; j++) row[j] /= d[j];
        row[i] = 1;
    }
    for (int j = 0; j < K; j++) d[j] *= d[j];
}

void sr_multiply(const float *e, int64_t ld_e, const float *u, int64_t ld_u, int m, int n, int k, float *out,
                 int64_t ld_out) {
    cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasNoTrans, m, n, k, 1, e, (int)ld_e, u, (int)ld_u, 0, out, (int)ld_out);
}

void sr_multiply_symmetric(const float *e, const float *h, int m, int n, float *out) {
    cblas_ssymm(CblasRowMajor, CblasRight, CblasUpper, m, n, 1, h, n, e, n, 0, out, n);
}

void sr_add_scaled(float e, const float *x, int n, float *out) {
    cblas_saxpy(n, e, x, 1, out, 1);
}

void sr_solve_upper(const float *u, int64_t ld_u, int n, float *x, int m, int64_t ld_x) {
    cblas_strsm(CblasRowMajor, CblasRight, CblasUpper, CblasNoTrans, CblasUnit, m, n, 1, u, (int)ld_u, x, (int)ld_x);
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
void sr_multiply(const float *e, int64_t ld_e, const float *u, int64_t ld_u, int m, int n, int k, float *out,
                 int64_t ld_out) {
    (void)e, (void)ld_e, (void)u, (void)ld_u, (void)m, (void)n, (void)k, (void)out, (void)ld_out;
}
void sr_multiply_symmetric(const float *e, const float *h, int m, int n, float *out) {
    (void)e, (void)h, (void)m, (void)n, (void)out;
}
void sr_add_scaled(float e, const float *x, int n, float *out) {
    (void)e, (void)x, (void)n, (void)out;
}
void sr_solve_upper(const float *u, int64_t ld_u, int n, float *x, int m, int64_t ld_x) {
    (void)u, (void)ld_u, (void)n, (void)x, (void)m, (void)ld_x;
}
#endif
