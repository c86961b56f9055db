/* HQQ's solver (fmt/hqq.c) for every format whose groups have a minimum of their own: the scale is that of the range,
 * and the minimum moves to where large errors, which are few, count less; a unit for which that leaves more squared
 * error than the format's own rule keeps the rule's. No data. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/pool.h"
#include "fmt/hqq.h"
#include "quant/quant.h"

bool sr_hqq_fits(const sr_format *fmt, const sr_qspec *spec) {
    enum { N = 64 };
    sr_arena arena = {0};
    sr_weight w;
    sr_grid grid = {0};
    float x[SR_KC] = {0};
    const int64_t K = spec->group > 0 && spec->group <= SR_KC ? spec->group : SR_KC;
    if (!fmt->hold || !fmt->fit || sr_weight_create(fmt, N, K, spec, &arena, &w, NULL) != SR_OK) return false;
    const int64_t unit = sr_weight_unit(&w);
    const sr_fit in = {&w, 0, 0, (int)(unit < K ? unit : K), x, NULL, 1};
    fmt->hold(&in, 1, 0.37f, &grid);
    sr_arena_free(&arena);
    return fabsf(grid.min[0] - floorf(grid.min[0]) - 0.37f) < 0.01f; /* no multiple of the scale */
}

struct pass {
    sr_weight *w;
    const sr_source *from;
    float *scratch; /* [threads][SR_ENCODE_ROWS][K] */
};

/* Sum of squared errors of a unit on this grid. */
static double error_on(const sr_encoder *by, const sr_grid *grid, const sr_fit *in, int piece) {
    double sum = 0;
    for (int i = 0; i < in->n; i += piece) {
        int8_t code[SR_KC];
        float back[SR_KC];
        const int m = in->n - i < piece ? in->n - i : piece;
        by->snap(grid, i, m, in->x + i, code, back);
        for (int k = 0; k < m; k++) {
            const double e = (double)in->x[i + k] - (double)back[k];
            sum += e * e;
        }
    }
    return sum;
}

static void solve_rows(void *ctx, int item, int thread) {
    const struct pass *p = ctx;
    sr_weight *w = p->w;
    const sr_encoder by = sr_weight_encoder(w);
    const int64_t row0 = (int64_t)item * SR_ENCODE_ROWS, K = w->K, unit = sr_weight_unit(w);
    const int64_t n = w->N - row0 < SR_ENCODE_ROWS ? w->N - row0 : SR_ENCODE_ROWS;
    const int64_t piece = SR_KC / w->fmt->block * w->fmt->block;
    float *x = p->scratch + (int64_t)thread * SR_ENCODE_ROWS * K;
    p->from->rows(p->from->ctx, row0, n, x);
    for (int64_t row = row0; row < row0 + n; row++, x += K)
        for (int64_t k0 = 0; k0 < K; k0 += unit) {
            const sr_fit in = {w, row, k0, (int)(K - k0 < unit ? K - k0 : unit), x + k0, NULL, 1};
            int8_t code[SR_KC];
            float back[SR_KC], low = 0, high = 0;
            sr_grid grid;
            by.fit(&in, &grid);
            const float top = (float)(grid.hi - grid.lo);
            for (int i = 0; i < in.n; i++) {
                const float v = sr_weight_finite(in.x[i]);
                low = i == 0 || v < low ? v : low;
                high = i == 0 || v > high ? v : high;
            }
            const float s = high - low > 1e-4f ? top / (high - low) : 1;
            if (s < 2e4f) {
                const float zero = sr_hqq_zero(&in, s, -low * s, top);
                sr_grid moved = grid;
                w->fmt->hold(&in, 1 / s, zero / s, &moved);
                if (error_on(&by, &moved, &in, (int)piece) <= error_on(&by, &grid, &in, (int)piece)) grid = moved;
            }
            for (int64_t i = 0; i < in.n; i += piece) {
                const int m = (int)(in.n - i < piece ? in.n - i : piece);
                by.snap(&grid, (int)i, m, in.x + i, code, back);
                by.store(w, row, k0 + i, m, &grid, code);
            }
        }
}

sr_status sr_hqq_encode(sr_weight *w, const sr_source *from, int threads, sr_err *err) {
    if (w->fmt->spec.method && strcmp(w->fmt->spec.method, "hqq") == 0) /* its own rule anyway */
        return sr_encode(w, from, NULL, 0, threads, err);
    struct pass p = {w, from, malloc((size_t)threads * SR_ENCODE_ROWS * (size_t)w->K * sizeof(float))};
    sr_status s = p.scratch ? sr_encode_begin(w, from, threads, err)
                            : sr_fail(err, SR_NOMEM, "no memory to encode rows of %lld columns", (long long)w->K);
    if (s == SR_OK) sr_pool_for(threads, (int)((w->N + SR_ENCODE_ROWS - 1) / SR_ENCODE_ROWS), solve_rows, &p);
    free(p.scratch);
    return s;
}
