/* Error feedback: GPTQ (Frantar et al. 2022, arXiv 2210.17323) for any format with fit, snap and store.
 *
 * The error of a row, d = w - q, costs d H d^T with H the moments of its inputs. With H = U D U^T, U unit upper
 * triangular, that is the sum over columns j of D_j (d_j + sum over i < j of d_i U_ij)^2: column by column, the best
 * code is the one nearest to w_j + sum d_i U_ij (Chee et al. 2023, arXiv 2307.13304, prove it equal to GPTQ). Scales
 * are fitted to where a unit's weights would go if no code rounded them, d_j = -sum over i < j of d_i U_ij, with D as
 * importance.
 *
 * Columns may be visited in the order of their moments while each stays in its place. A unit's weights are then met all
 * over the row, so all scales are fitted first, to the weights as they are ("static groups"). */
#include <stdlib.h>
#include <string.h>

#include "base/pool.h"
#include "quant/algebra.h"
#include "quant/quant.h"

enum { STRIP = SR_SOLVE_ROWS, BLOCK = SR_PANEL }; /* rows of the factor are read inside of a panel */

struct solver {
    sr_weight *w;
    const sr_source *from;
    const sr_moments *m;
    int64_t row0, n, unit;
    sr_encoder by;
    const int32_t *visit;    /* [K]: the stored column that is the i-th to be rounded; NULL: i */
    const float *importance; /* [K]: D, as stored columns */
    float *scratch;          /* [threads]: weights [STRIP][K], errors [STRIP][K], two of [STRIP][wide] */
    int8_t *code;            /* [threads][codes] */
    sr_grid *grid;           /* [threads][grids] */
    int64_t codes, grids; /* of one unit and STRIP rows of it; where columns are visited in an order, of STRIP rows */
    int64_t wide;         /* columns of one product */
    int64_t floats;       /* of a thread's scratch */
};

/* Rows row0 .. row0 + R; w, p and d count columns as they are visited. */
struct strip {
    int64_t row0;
    int R;
    float *w, *d, *p, *best;
    int8_t *code;
    sr_grid *grid;
    float ms[STRIP];
};

/* A row's columns v0 .. v0 + n of one block as they are visited, whose products with the errors before are in p: codes,
 * and their errors in d. grid and code are of the units from stored column c0 on. */
static void round_columns(const struct solver *s, const sr_grid *grid, int64_t c0, int64_t v0, int n, const float *w,
                          float *p, float *d, int8_t *code) {
    const int lane = s->w->fmt->lane > 1 ? s->w->fmt->lane : 1;
    for (int j = 0; j < n; j += lane) {
        const int64_t v = v0 + j, c = (s->visit ? s->visit[v] : v) - c0;
        float want[8], back[8];
        for (int a = 0; a < lane; a++) { /* inside a lane: as if nothing were rounded */
            float sum = p[j + a];
            for (int b = 0; b < a; b++) sum += (w[v + b] - want[b]) * s->m->h[sr_upper(v + b, v + a)];
            want[a] = w[v + a] + sum;
        }
        s->by.snap(&grid[c / s->unit], (int)(c % s->unit), lane, want, code + c, back);
        for (int a = 0; a < lane; a++) {
            const float e = d[v + a] = w[v + a] - back[a];
            const int i = j + a + 1;
            if (i < n) sr_add_scaled(e, s->m->h + sr_upper(v + a, v0 + i), n - i, p + i);
        }
    }
}

static void fit(const struct solver *s, const struct strip *t, int r, int64_t c0, int cols, const float *x,
                sr_grid *grid) {
    const sr_fit in = {s->w, t->row0 + r, c0, cols, x, s->importance + c0, t->ms[r]};
    s->by.fit(&in, grid);
}

/* All scales, then the columns in their order, then all codes to their places. The rows as they come are in d. */
static void solve_in_order(const struct solver *s, struct strip *t) {
    const int64_t K = s->w->K, units = s->grids / STRIP;
    for (int r = 0; r < t->R; r++)
        for (int64_t u = 0, c0 = 0; u < units; u++, c0 += s->unit)
            fit(s, t, r, c0, (int)(K - c0 < s->unit ? K - c0 : s->unit), t->d + r * K + c0, &t->grid[r * units + u]);
    for (int64_t v0 = 0; v0 < K; v0 += BLOCK) {
        const int n = (int)(K - v0 < BLOCK ? K - v0 : BLOCK);
        if (v0 > 0)
            sr_multiply(t->d, K, s->m->h, v0, t->R, n, (int)v0, t->p, s->wide);
        else
            memset(t->p, 0, (size_t)STRIP * (size_t)s->wide * sizeof *t->p);
        for (int r = 0; r < t->R; r++)
            round_columns(s, t->grid + r * units, 0, v0, n, t->w + r * K, t->p + r * s->wide, t->d + r * K,
                          t->code + r * K);
    }
    for (int r = 0; r < t->R; r++)
        for (int64_t u = 0; u < units; u++) {
            const int64_t end = (u + 1) * s->unit < K ? (u + 1) * s->unit : K;
            for (int64_t c = u * s->unit; c < end; c += BLOCK)
                s->by.store(s->w, t->row0 + r, c, (int)(end - c < BLOCK ? end - c : BLOCK), &t->grid[r * units + u],
                            t->code + r * K + c);
        }
}

static void solve_by_units(const struct solver *s, struct strip *t) {
    const int64_t K = s->w->K;
    for (int64_t k0 = 0; k0 < K; k0 += s->unit) {
        const int64_t end = K - k0 < s->unit ? K : k0 + s->unit;
        const int cols = (int)(end - k0);
        const bool whole = k0 / BLOCK == (end - 1) / BLOCK; /* in one block */
        /* Where the whole unit would go: nothing moves the first one. */
        if (k0 > 0) {
            sr_multiply(t->d, K, s->m->h, k0, t->R, cols, (int)k0, t->best, s->wide);
            if (whole) memcpy(t->p, t->best, (size_t)t->R * (size_t)s->wide * sizeof *t->p);
            sr_solve_upper(s->m->h, k0, cols, t->best, t->R, s->wide);
        } else
            memset(t->p, 0, (size_t)STRIP * (size_t)s->wide * sizeof *t->p);
        for (int r = 0; r < t->R; r++) {
            float *x = t->w + r * K + k0;
            if (k0 > 0) {
                for (int i = 0; i < cols; i++) t->best[r * s->wide + i] += x[i];
                x = t->best + r * s->wide;
            }
            fit(s, t, r, k0, cols, x, &t->grid[r]);
        }
        for (int64_t b0 = k0, next; b0 < end; b0 = next) {
            next = (b0 / BLOCK + 1) * BLOCK < end ? (b0 / BLOCK + 1) * BLOCK : end;
            const int n = (int)(next - b0);
            if (b0 > 0 && !whole) sr_multiply(t->d, K, s->m->h, b0, t->R, n, (int)b0, t->p, s->wide);
            for (int r = 0; r < t->R; r++) {
                round_columns(s, &t->grid[r], k0, b0, n, t->w + r * K, t->p + r * s->wide, t->d + r * K, t->code);
                s->by.store(s->w, t->row0 + r, b0, n, &t->grid[r], t->code + (b0 - k0));
            }
        }
    }
}

static void solve_strip(void *ctx, int item, int thread) {
    const struct solver *s = ctx;
    const int64_t K = s->w->K, row0 = s->row0 + (int64_t)item * STRIP, left = s->row0 + s->n - row0;
    struct strip t = {.row0 = row0, .R = left < STRIP ? (int)left : STRIP};
    t.w = s->scratch + thread * s->floats;
    t.d = t.w + STRIP * K;
    t.p = t.d + STRIP * K;
    t.best = t.p + STRIP * s->wide;
    t.code = s->code + thread * s->codes;
    t.grid = s->grid + thread * s->grids;
    s->from->rows(s->from->ctx, row0, t.R, t.d);
    for (int r = 0; r < t.R; r++) {
        float *d = t.d + r * K;
        double sum = 0;
        for (int64_t k = 0; k < K; k++) {
            d[k] = sr_weight_finite(d[k]);
            sum += (double)d[k] * (double)d[k];
        }
        for (int64_t k = 0; k < K; k++) t.w[r * K + k] = d[s->m->order ? s->m->order[k] : k];
        t.ms[r] = (float)(sum / (double)K);
    }
    (s->visit ? solve_in_order : solve_by_units)(s, &t);
}

/* What a thread has. */
static void lay_out(struct solver *s, const sr_weight *w, bool ordered) {
    const int64_t K = w->K, unit = sr_weight_unit(w);
    s->unit = unit < K ? unit : K;
    s->wide = s->unit > BLOCK ? s->unit : BLOCK;
    s->codes = ordered ? STRIP * K : s->unit;
    s->grids = ordered ? STRIP * ((K - 1) / s->unit + 1) : STRIP;
    s->floats = STRIP * 2 * (K + s->wide);
}

int64_t sr_gptq_bytes(const sr_weight *w, bool ordered) {
    struct solver s;
    lay_out(&s, w, ordered);
    return s.floats * (int64_t)sizeof(float) + s.codes + s.grids * (int64_t)sizeof(sr_grid);
}

sr_status sr_gptq_rows(sr_weight *w, const sr_source *from, int64_t row0, int64_t n, const sr_moments *m, int threads,
                       sr_err *err) {
    struct solver s = {.w = w, .from = from, .m = m, .row0 = row0, .n = n};
    float *in_place = NULL;
    s.by = sr_weight_encoder(w);
    s.importance = m->d;
    s.visit = w->perm ? NULL : m->order;
    lay_out(&s, w, s.visit != NULL);
    s.scratch = malloc((size_t)threads * (size_t)s.floats * sizeof *s.scratch);
    s.code = malloc((size_t)threads * (size_t)s.codes);
    s.grid = malloc((size_t)threads * (size_t)s.grids * sizeof *s.grid);
    if (s.visit) s.importance = in_place = malloc((size_t)w->K * sizeof *in_place);
    sr_status status =
        s.scratch && s.code && s.grid && s.importance ? SR_OK : sr_fail(err, SR_NOMEM, "no memory to solve a matrix");
    for (int64_t k = 0; in_place && k < w->K; k++) in_place[s.visit[k]] = m->d[k];
    if (status == SR_OK) sr_pool_for(threads, (int)((n + STRIP - 1) / STRIP), solve_strip, &s);
    free(s.scratch);
    free(s.code);
    free(s.grid);
    free(in_place);
    return status;
}
