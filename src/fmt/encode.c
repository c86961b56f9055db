/* Whole matrices to any writable format: what the matrix decides, then its rows, in parallel. */
#include <math.h>
#include <stdlib.h>

#include "base/pool.h"
#include "fmt/fmt.h"

enum { STRIP = 128 };

struct pass {
    sr_weight *w;
    const sr_source *from;
    const float *importance; /* [..][K], of so many rows each */
    int64_t importance_rows;
    int64_t row0, end;
    int64_t rows;   /* sr_encode_scratch */
    float *scratch; /* [threads][rows][K] */
    sr_peaks peaks;
    float *most;
};

/* The rows of an item; *n of them. */
static const float *rows_of(const struct pass *p, int64_t row, int64_t end, int thread, int64_t *n) {
    float *src = p->scratch + (int64_t)thread * p->rows * p->w->K;
    *n = end - row < SR_ENCODE_ROWS ? end - row : SR_ENCODE_ROWS;
    p->from->rows(p->from->ctx, row, *n, src);
    return src;
}

/* An item is a row of tiles, so that no two threads have the same one. */
static void find_peaks(void *ctx, int item, int thread) {
    const struct pass *p = ctx;
    const int64_t K = p->w->K, first = item * p->peaks.rows, N = p->w->N;
    const int64_t end = N - first < p->peaks.rows ? N : first + p->peaks.rows;
    float *most = p->most + item * p->peaks.n_across;
    for (int64_t row = first, n; row < end; row += n) {
        const float *src = rows_of(p, row, end, thread, &n);
        for (int64_t i = 0; i < n; i++, src += K)
            for (int64_t t = 0, k = 0; k < K; t++) {
                float m = most[t];
                for (int64_t stop = K - k < p->peaks.cols ? K : k + p->peaks.cols; k < stop; k++) {
                    float v = fabsf(sr_weight_finite(src[k]));
                    m = v > m ? v : m;
                }
                most[t] = m;
            }
    }
}

static void round_rows(void *ctx, int item, int thread) {
    const struct pass *p = ctx;
    int64_t n, row = p->row0 + (int64_t)item * SR_ENCODE_ROWS;
    const float *src = rows_of(p, row, p->end, thread, &n);
    for (int64_t i = 0, m; i < n; i += m) {
        const float *importance = p->importance;
        m = n - i;
        if (importance) { /* as far as this one reaches */
            const int64_t part = (row + i) / p->importance_rows, left = (part + 1) * p->importance_rows - (row + i);
            importance += part * p->w->K;
            m = left < m ? left : m;
        }
        sr_rtn_rows_of(p->w, row + i, m, src + i * p->w->K, importance, p->from);
    }
}

/* Units that lie across rows: an item is those that begin in one row. An importance is of columns, and where these are
 * the same it counts for nothing; elsewhere (rows that are no multiple of a unit) it is left out. */
static void round_across(void *ctx, int item, int thread) {
    const struct pass *p = ctx;
    sr_weight *w = p->w;
    const sr_encoder by = sr_weight_encoder(w);
    const int64_t K = w->K, step = w->fmt->across(w), first = item * K, units = step - first < K ? step - first : K;
    const int n = (int)(w->N * K / step);
    float *src = p->scratch + (int64_t)thread * p->rows * K, x[SR_KC], back[SR_KC];
    int8_t code[SR_KC];
    sr_grid grid;
    for (int i = 0; i < n; i++) { /* of two rows where a piece of K numbers begins within one */
        const int64_t at = first + i * step, row = at / K;
        p->from->rows(p->from->ctx, row, (at + units - 1) / K - row + 1, src + 2 * i * K);
    }
    for (int64_t u = 0; u < units; u++) {
        const sr_fit in = {w, item, u, n, x, NULL, 0};
        for (int i = 0; i < n; i++) x[i] = src[2 * i * K + (first + i * step) % K + u];
        by.fit(&in, &grid);
        by.snap(&grid, 0, n, x, code, back);
        by.store(w, item, u, n, &grid, code);
    }
}

int64_t sr_encode_scratch(const sr_format *fmt, const sr_qspec *spec) {
    return fmt->across && spec->axis == 0 && 2 * spec->group > SR_ENCODE_ROWS ? 2 * spec->group : SR_ENCODE_ROWS;
}

static sr_status open_pass(struct pass *p, sr_weight *w, const sr_source *from, int threads, sr_err *err) {
    *p = (struct pass){.w = w, .from = from, .rows = sr_encode_scratch(w->fmt, &w->spec)};
    if ((size_t)w->K <= SIZE_MAX / sizeof(float) / (size_t)p->rows / (size_t)threads)
        p->scratch = malloc((size_t)threads * (size_t)p->rows * (size_t)w->K * sizeof(float));
    return p->scratch ? SR_OK : sr_fail(err, SR_NOMEM, "no memory to encode rows of %lld columns", (long long)w->K);
}

static sr_status begin(struct pass *p, int threads, sr_err *err) {
    sr_weight *w = p->w;
    if (!w->fmt->group && w->spec.group > 0 && w->spec.group < w->K && w->spec.group % w->fmt->block)
        return sr_fail(err, SR_INVALID, "%s: groups of %d columns are no whole blocks of %d", w->fmt->name,
                       w->spec.group, w->fmt->block);
    int64_t rows, tiles;
    if (!w->fmt->begin) return SR_OK;
    if (!w->fmt->tiles || !w->fmt->tiles(w, &rows, &p->peaks.cols)) return w->fmt->begin(w, NULL, err);
    /* One tile for all rows is found in strips, for the threads. */
    p->peaks.rows = rows >= w->N && w->N > STRIP ? STRIP : rows;
    int64_t down = (w->N - 1) / p->peaks.rows + 1, across = (w->K - 1) / p->peaks.cols + 1;
    p->peaks.n_across = across;
    if (down > INT32_MAX || __builtin_mul_overflow(down, across, &tiles) || (uint64_t)tiles > SIZE_MAX / sizeof(float))
        return sr_fail(err, SR_INVALID, "%s: %lld x %lld is too large", w->fmt->name, (long long)w->N, (long long)w->K);
    p->most = calloc((size_t)tiles, sizeof *p->most);
    if (!p->most) return sr_fail(err, SR_NOMEM, "no memory for the largest of %lld tiles", (long long)tiles);
    sr_pool_for(threads, (int)down, find_peaks, p);
    if (p->peaks.rows != rows) {
        for (int64_t i = across; i < tiles; i++)
            p->most[i % across] = p->most[i] > p->most[i % across] ? p->most[i] : p->most[i % across];
        p->peaks.rows = rows;
        down = 1;
    }
    p->peaks.n_down = down;
    p->peaks.most = p->most;
    sr_status s = w->fmt->begin(w, &p->peaks, err);
    free(p->most);
    return s;
}

sr_status sr_encode_begin(sr_weight *w, const sr_source *from, int threads, sr_err *err) {
    struct pass p;
    sr_status s = open_pass(&p, w, from, threads, err);
    if (s == SR_OK) s = begin(&p, threads, err);
    free(p.scratch);
    return s;
}

static void round_all(struct pass *p, int threads) {
    sr_pool_for(threads, (int)((p->end - p->row0 + SR_ENCODE_ROWS - 1) / SR_ENCODE_ROWS), round_rows, p);
}

sr_status sr_encode_rows(sr_weight *w, const sr_source *from, int64_t row0, int64_t n, const float *importance,
                         int threads, sr_err *err) {
    struct pass p;
    sr_status s = open_pass(&p, w, from, threads, err);
    p.row0 = row0;
    p.end = row0 + n;
    p.importance = importance;
    p.importance_rows = w->N;
    if (s == SR_OK) round_all(&p, threads);
    free(p.scratch);
    return s;
}

sr_status sr_encode(sr_weight *w, const sr_source *from, const float *importance, int n_importance, int threads,
                    sr_err *err) {
    struct pass p;
    sr_status s = open_pass(&p, w, from, threads, err);
    if (s == SR_OK) s = begin(&p, threads, err);
    p.end = w->N;
    p.importance = importance;
    p.importance_rows = importance ? w->N / n_importance : 0;
    const int64_t across = s == SR_OK && w->fmt->across ? w->fmt->across(w) : 0;
    if (s == SR_OK && across)
        sr_pool_for(threads, (int)((across - 1) / w->K + 1), round_across, &p);
    else if (s == SR_OK)
        round_all(&p, threads);
    free(p.scratch);
    return s;
}
