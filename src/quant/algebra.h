/* Dense algebra of the solvers, row-major f32. */
#ifndef SR_QUANT_ALGEBRA_H
#define SR_QUANT_ALGEBRA_H

#include <stdint.h>

#include "base/err.h"

/* In front of all that follows; end gives back what begin stored in *threads. SR_UNSUPPORTED: built without BLAS. */
sr_status sr_algebra_begin(int *threads, sr_err *err);
void sr_algebra_end(int threads);

/* Upper triangle of h [K][K] += x^T x, x [T][K] with rows ld apart. What is below it gets any values, here and in the
 * next. */
void sr_add_products(float *h, int K, const float *x, int T, int64_t ld, int threads);
/* a = U diag(d) U^T, U unit upper triangular, in place of the upper triangle of a. Pivots
 * that are not positive are replaced by the diagonal's mean: it always ends with a factor. */
void sr_factor_upper(float *a, int K, float *d, int threads);
/* out [m][n] = e [m][k] u [k][n]; for one thread, as the others below. */
void sr_multiply(const float *e, int64_t ld_e, const float *u, int64_t ld_u, int m, int n, int k, float *out,
                 int64_t ld_out);
/* out [m][n] = e [m][n] h, h [n][n] symmetric and read in its upper triangle. */
void sr_multiply_symmetric(const float *e, const float *h, int m, int n, float *out);
/* out [n] += e * x [n]. */
void sr_add_scaled(float e, const float *x, int n, float *out);
/* x [m][n] = x inv(u), u [n][n] unit upper triangular. */
void sr_solve_upper(const float *u, int64_t ld_u, int n, float *x, int m, int64_t ld_x);

#endif
