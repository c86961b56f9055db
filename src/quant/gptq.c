/* Error feedback: GPTQ (Frantar et al. 2022, arXiv 2210.17323) for any format with fit, snap and store.
 *
 * The error of a row, d = w - q, costs d H d^T with H the moments of its inputs. With H = U D U^T, U unit upper
 * triangular, that is the sum over columns j of D_j (d_j + sum over i < j of d_i U_ij)^2: column by column, the best
 * code is the one nearest to w_j + sum d_i U_ij (Chee et al. 2023, arXiv 2307.13304, prove it equal to GPTQ). Scales
 * are fitted to where a unit's weights would go if no code rounded them, d_j = -sum over i < j of d_i U_ij, with D as
 * importance. */
#include <stdlib.h>
#include <string.h>

#include "base/pool.h"
#include "quant/algebra.h"
#include "quant/quant.h"

enum { STRIP = SR_SOLVE_ROWS, BLOCK = 256 };

struct solver {
    sr_weight *w;
    const sr_source *from;
    const sr_moments *m;
    int64_t row0, n, unit;
    sr_encoder by;
    const float *importance; /* [K]: D, as stored columns */
    float *scratch;          /* [threads]: weights [STRIP][K], errors [STRIP][K], two of [STRIP][wide] */
    int8_t *code;            /* [threads][unit] */
    int64_t wide;            /* columns of one product */
};

/* The row's columns k0 .. k0 + n, whose products with the errors before are in p: codes, and their errors in d. */
static void round_columns(const struct solver *s, const sr_grid *grid, int64_t unit0, int64_t k0, int n, const float *w,
                          float *p, float *d, int8_t *code) {
    const int64_t K = s->w->K;
    const int lane = s->w->fmt->lane > 1 ? s->w->fmt->lane : 1;
    for (int j = 0; j < n; j += lane) {
        float want[8], back[8];
        for (int a = 0; a < lane; a++) { /* inside a lane: as if nothing were rounded */
            float sum = p[j + a];
            for (int b = 0; b < a; b++) sum += (w[k0 + j + b] - want[b]) * s->m->h[(k0 + j + b) * K + k0 + j + a];
            want[a] = w[k0 + j + a] + sum;
        }
        s->by.snap(grid, (int)(k0 - unit0) + j, lane, want, code + (k0 - unit0) + j, back);
        for (int a = 0; a < lane; a++) {
            const float e = d[k0 + j + a] = w[k0 + j + a] - back[a];
            const int i = j + a + 1;
            sr_add_scaled(e, s->m->h + (k0 + j + a) * K + k0 + i, n - i, p + i);
        }
    }
}

static void solve_strip(void *ctx, int item, int thread) {
    const struct solver *s = ctx;
    const int64_t K = s->w->K, row0 = s->row0 + (int64_t)item * STRIP, left = s->row0 + s->n - row0;
    const int R = left < STRIP ? (int)left : STRIP;
    float *w = s->scratch + thread * STRIP * 2 * (K + s->wide), *d = w + STRIP * K, *p = d + STRIP * K,
          *best = p + STRIP * s->wide;
    int8_t *code = s->code + thread * s->unit;
    sr_grid grid[STRIP];
    float ms[STRIP];
    s->from->rows(s->from->ctx, row0, R, d);
    for (int r = 0; r < R; r++) {
        double sum = 0;
        for (int64_t k = 0; k < K; k++) {
            const float v = sr_weight_finite(d[r * K + (s->m->order ? s->m->order[k] : k)]);
            w[r * K + k] = v;
            sum += (double)v * (double)v;
        }
        ms[r] = (float)(sum / (double)K);
    }
    for (int64_t k0 = 0; k0 < K; k0 += s->unit) {
        const int cols = (int)(K - k0 < s->unit ? K - k0 : s->unit);
        /* Where the whole unit would go: nothing moves the first one. */
        if (k0 > 0) {
            sr_multiply(d, K, s->m->h + k0, K, R, cols, (int)k0, best, s->wide);
            if (cols <= BLOCK) memcpy(p, best, (size_t)R * (size_t)s->wide * sizeof *p);
            sr_solve_upper(s->m->h + k0 * K + k0, K, cols, best, R, s->wide);
        } else
            memset(p, 0, (size_t)STRIP * (size_t)s->wide * sizeof *p);
        for (int r = 0; r < R; r++) {
            float *x = w + r * K + k0;
            if (k0 > 0) {
                for (int i = 0; i < cols; i++) best[r * s->wide + i] += x[i];
                x = best + r * s->wide;
            }
            const sr_fit in = {s->w, row0 + r, k0, cols, x, s->importance + k0, ms[r]};
            s->by.fit(&in, &grid[r]);
        }
        for (int64_t b0 = k0; b0 < k0 + cols; b0 += BLOCK) {
            const int n = (int)(k0 + cols - b0 < BLOCK ? k0 + cols - b0 : BLOCK);
            if (b0 > 0 && (b0 > k0 || cols > BLOCK)) sr_multiply(d, K, s->m->h + b0, K, R, n, (int)b0, p, s->wide);
            for (int r = 0; r < R; r++) {
                round_columns(s, &grid[r], k0, b0, n, w + r * K, p + r * s->wide, d + r * K, code);
                s->by.store(s->w, row0 + r, b0, n, &grid[r], code + (b0 - k0));
            }
        }
    }
}

sr_status sr_gptq_rows(sr_weight *w, const sr_source *from, int64_t row0, int64_t n, const sr_moments *m, int threads,
                       sr_err *err) {
    struct solver s = {.w = w, .from = from, .m = m, .row0 = row0, .n = n, .unit = sr_weight_unit(w)};
    s.by = sr_weight_encoder(w);
    s.importance = m->d;
    s.unit = s.unit < w->K ? s.unit : w->K;
    s.wide = s.unit > BLOCK ? s.unit : BLOCK;
    s.scratch = malloc((size_t)threads * STRIP * 2 * (size_t)(w->K + s.wide) * sizeof *s.scratch);
    s.code = malloc((size_t)threads * (size_t)s.unit);
    sr_status status = s.scratch && s.code ? SR_OK : sr_fail(err, SR_NOMEM, "no memory to solve a matrix");
    if (status == SR_OK) sr_pool_for(threads, (int)((n + STRIP - 1) / STRIP), solve_strip, &s);
    free(s.scratch);
    free(s.code);
    return status;
}
