/* Dense algebra of the solvers, row-major f32. */
#ifndef SR_QUANT_ALGEBRA_H
#define SR_QUANT_ALGEBRA_H

#include <stdint.h>

#include "base/err.h"

/* In front of all that follows; end gives back what begin stored in *threads. SR_UNSUPPORTED: built without BLAS. */
sr_status sr_algebra_begin(int *threads, sr_err *err);
void sr_algebra_end(int threads);

/* An upper triangle [K][K], of a symmetric matrix or of a factor, in half of the room: panels of SR_PANEL columns, one
 * behind the other, each with its rows from the first to the last that one of its columns reaches, SR_PANEL floats a
 * row. What a panel has below the diagonal are any values. */
enum { SR_PANEL = 256 };
/* Where row i of the triangle has column j, i <= j, in floats; the bytes of it all. */
static inline int64_t sr_upper(int64_t i, int64_t j) {
    const int64_t p = j / SR_PANEL;
    return (p * (p + 1) / 2 * SR_PANEL + i) * SR_PANEL + j % SR_PANEL;
}
static inline int64_t sr_upper_bytes(int64_t K) {
    const int64_t last = (K - 1) / SR_PANEL;
    return (last * (last + 1) / 2 * SR_PANEL + K) * SR_PANEL * (int64_t)sizeof(float);
}
/* Row and column i of a symmetric one change places with row and column j. */
void sr_upper_swap(float *h, int64_t K, int64_t i, int64_t j);

/* h += x^T x, x [T][K] with rows ld apart. */
void sr_add_products(float *h, int K, const float *x, int T, int64_t ld, int threads);
/* a = U diag(d) U^T, U unit upper triangular, in place of the upper triangle a. Pivots that are
 * not positive are replaced by the diagonal's mean: it always ends with a factor. */
void sr_factor_upper(float *a, int K, float *d, int threads);
/* out [m][n] = e [m][k] u, of the triangle u the rows 0 .. k and the columns at .. at + n, k <= at; for one thread, as
 * the others below. */
void sr_multiply(const float *e, int64_t ld_e, const float *u, int64_t at, int m, int n, int k, float *out,
                 int64_t ld_out);
/* out [m][n] = e [m][n] h, h [n][n] symmetric. */
void sr_multiply_symmetric(const float *e, const float *h, int m, int n, float *out);
/* out [n] += e * x [n]. */
void sr_add_scaled(float e, const float *x, int n, float *out);
/* x [m][n] = x inv(u), of a unit upper triangle u the rows and columns at .. at + n. */
void sr_solve_upper(const float *u, int64_t at, int n, float *x, int m, int64_t ld_x);

#endif
