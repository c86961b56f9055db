/* The rows of a job, whatever they are stored as. */
#include <stdlib.h>
#include <string.h>

#include "quant/quant.h"

struct rows {
    const sr_job *job;
    sr_weight *w; /* [n_from] */
    int experts;
};

/* A head's rows in pairs (0, half), (1, half + 1), ... where the source has halves one behind the other. */
int64_t sr_job_row(const sr_job *job, int64_t row) {
    if (!job->head_rows) return row;
    const int64_t head = row / job->head_rows * job->head_rows, i = row - head;
    return head + i / 2 + i % 2 * (job->head_rows / 2);
}

/* A row of columns in an order of their own. */
static void turn_back(const sr_weight *w, float *out) {
    float *sorted = malloc((size_t)w->K * sizeof *sorted);
    if (!sorted) { /* what is written would be wrong: not a number, which the check of the result finds */
        for (int64_t k = 0; k < w->K; k++) out[k] = 0.0f / 0.0f;
        return;
    }
    memcpy(sorted, out, (size_t)w->K * sizeof *sorted);
    for (int64_t k = 0; k < w->K; k++) out[w->perm[k]] = sorted[k];
    free(sorted);
}

/* What a method made of the rows' scales. */
static void scale_row(const struct rows *r, int64_t row, float *out) {
    const sr_job *j = r->job;
    const float by = j->by_row ? j->by_row[row] : 1;
    const float *col = j->by_col ? j->by_col + row / (j->N / r->experts) * j->K : NULL;
    for (int64_t k = 0; k < j->K && (col || by != 1); k++) out[k] *= col ? by * col[k] : by;
}

static void decode_rows(void *ctx, int64_t row0, int64_t n, float *out) {
    const struct rows *r = ctx;
    const int64_t each = r->w[0].N, K = r->w[0].K;
    for (int64_t i = 0; i < n; i++, out += K) {
        const int64_t row = sr_job_row(r->job, row0 + i);
        const sr_weight *w = &r->w[row / each];
        w->fmt->decode(w, row % each, 0, K, out);
        if (w->perm) turn_back(w, out);
        scale_row(r, row0 + i, out);
    }
}
/* Of rows that are unpacked to codes: one scale for all the columns asked for. */
static bool grid_of(void *ctx, int64_t row, int64_t k0, int64_t n, float *scale, float *min, int *low) {
    const struct rows *r = ctx;
    const int64_t from = sr_job_row(r->job, row), each = r->w[0].N;
    const sr_weight *w = &r->w[from / each];
    const int64_t step = w->group > w->fmt->block ? w->group : w->fmt->block;
    int8_t code[SR_KC];
    float scales[SR_MAX_GROUPS], mins[SR_MAX_GROUPS] = {0};
    if (r->job->by_col || r->job->by_row) return false;
    if (w->tile != SR_TILE_I8 || !w->fmt->unpack || w->perm || w->group < 1 || step % w->group) return false;
    const int64_t first = k0 / step * step, end = (k0 + n + step - 1) / step * step;
    const int64_t cols = (end < w->K ? end : w->K) - first;
    if (cols > SR_KC) return false;
    w->fmt->unpack(w, from % each, first, cols, code, scales, mins);
    const int64_t g0 = (k0 - first) / w->group, g1 = (k0 + n - 1 - first) / w->group;
    for (int64_t g = g0 + 1; g <= g1; g++)
        if (scales[g] != scales[g0] || (w->fmt->has_min && mins[g] != mins[g0])) return false;
    *scale = scales[g0];
    *min = w->fmt->has_min ? mins[g0] : 0;
    *low = code[k0 - first];
    for (int64_t k = k0; k < k0 + n; k++) *low = code[k - first] < *low ? code[k - first] : *low;
    return true;
}

sr_status sr_job_open(const sr_quantizer *q, const sr_job *job, sr_rows_fn fn, void *ctx, sr_err *err) {
    sr_arena arena = {0};
    struct rows rows = {job, calloc((size_t)job->n_from, sizeof *rows.w), sr_job_experts(q, job)};
    sr_status s = rows.w ? SR_OK : sr_fail(err, SR_NOMEM, "no memory to open %s", job->module);
    for (int i = 0; i < job->n_from && s == SR_OK; i++) {
        s = sr_weight_bind(q->file, q->config, job->from[i], -1, -1, &arena, &rows.w[i], err);
        if (s == SR_OK && (rows.w[i].N != job->N / job->n_from || rows.w[i].K != job->K))
            s = sr_fail(err, SR_CORRUPT, "%s: found %lld x %lld, expected %lld x %lld", job->from[i],
                        (long long)rows.w[i].N, (long long)rows.w[i].K, (long long)(job->N / job->n_from),
                        (long long)job->K);
    }
    if (s == SR_OK) {
        const sr_source source = {decode_rows, &rows, grid_of};
        s = fn(ctx, &source, rows.w, job->n_from, err);
    }
    free(rows.w);
    sr_arena_free(&arena);
    return s;
}
