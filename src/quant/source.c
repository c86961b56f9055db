/* The rows of a job, whatever they are stored as. */
#include <stdlib.h>

#include "arch/bind.h"
#include "base/map.h"
#include "quant/quant.h"

struct rows {
    const sr_job *job;
    sr_weight *w; /* [n_from] */
    int experts;
};

/* A head's rows in pairs (0, half), (1, half + 1), ... where the source has halves one behind the other, or back. */
int64_t sr_job_row(const sr_job *job, int64_t row) {
    if (job->pitch) return row / job->take * job->pitch + job->row0 + row % job->take * job->step;
    if (!job->head_rows) return row;
    const int64_t first = row / job->head_rows * job->head_rows + job->head_rows - job->rot_rows, i = row - first;
    const int64_t half = job->rot_rows / 2;
    if (i < 0) return row;
    return first + (job->to_halves ? i % half * 2 + i / half : i / 2 + i % 2 * half);
}

void sr_decode_in_order(const sr_weight *w, int64_t row, float *out) {
    const int64_t piece = SR_KC / w->fmt->block * w->fmt->block;
    float some[SR_KC];
    if (!w->perm) {
        w->fmt->decode(w, row, 0, w->K, out);
        return;
    }
    for (int64_t k0 = 0, n; k0 < w->K; k0 += n) {
        n = w->K - k0 < piece ? w->K - k0 : piece;
        w->fmt->decode(w, row, k0, n, some);
        for (int64_t k = 0; k < n; k++) out[w->perm[k0 + k]] = some[k];
    }
}

/* What a method made of the rows' scales. */
static void scale_row(const struct rows *r, int64_t row, float *out) {
    const sr_job *j = r->job;
    const float by = j->by_row ? j->by_row[row] : 1;
    const float *col = j->by_col ? j->by_col + row / (j->N / r->experts) * j->K : NULL;
    for (int64_t k = 0; k < j->K && (col || by != 1); k++) out[k] *= col ? by * col[k] : by;
}

static int64_t weave_of(const sr_job *j) {
    return j->weave[0] + j->weave[1] + j->weave[2];
}

/* Where a row of the result comes from. */
static const sr_weight *place_of(const struct rows *r, int64_t row, int64_t *in) {
    const int64_t each = r->w[0].N, turn = weave_of(r->job);
    if (turn) {
        int64_t at = row % turn;
        int i = 0;
        for (; at >= r->job->weave[i]; i++) at -= r->job->weave[i];
        *in = row / turn * r->job->weave[i] + at;
        return &r->w[i];
    }
    row = sr_job_row(r->job, row);
    *in = row % each;
    return &r->w[row / each];
}

/* A row whose columns are those of all, in turns. */
static void braid_row(const struct rows *r, int64_t row, float *out) {
    const int n = r->job->n_from;
    float some[SR_KC];
    for (int i = 0; i < n; i++)
        for (int64_t k0 = 0, m; k0 < r->w[i].K; k0 += m) {
            m = r->w[i].K - k0 < SR_KC ? r->w[i].K - k0 : SR_KC;
            r->w[i].fmt->decode(&r->w[i], row, k0, m, some);
            for (int64_t k = 0; k < m; k++) out[(k0 + k) * n + i] = some[k];
        }
}

static void decode_rows(void *ctx, int64_t row0, int64_t n, float *out) {
    const struct rows *r = ctx;
    for (int64_t i = 0; i < n; i++, out += r->job->K) {
        int64_t row;
        if (r->job->braid) {
            braid_row(r, row0 + i, out);
            continue;
        }
        const sr_weight *w = place_of(r, row0 + i, &row);
        sr_decode_in_order(w, row, out);
        scale_row(r, row0 + i, out);
    }
}
/* Of rows that are unpacked to codes: one scale for all the columns asked for. */
static bool grid_of(void *ctx, int64_t row, int64_t k0, int64_t n, float *scale, float *min, int *low) {
    const struct rows *r = ctx;
    int64_t from;
    if (r->job->by_col || r->job->by_row || r->job->braid) return false;
    const sr_weight *w = place_of(r, row, &from);
    const int64_t step = w->group > w->fmt->block ? w->group : w->fmt->block;
    int8_t code[SR_KC];
    float scales[SR_MAX_GROUPS], mins[SR_MAX_GROUPS] = {0};
    if (w->tile != SR_TILE_I8 || !w->fmt->unpack || w->perm || w->group < 1 || step % w->group) return false;
    const int64_t first = k0 / step * step, end = (k0 + n + step - 1) / step * step;
    const int64_t cols = (end < w->K ? end : w->K) - first;
    if (cols > SR_KC) return false;
    w->fmt->unpack(w, from, first, cols, code, scales, mins);
    const int64_t g0 = (k0 - first) / w->group, g1 = (k0 + n - 1 - first) / w->group;
    for (int64_t g = g0 + 1; g <= g1; g++)
        if (scales[g] != scales[g0] || (w->fmt->has_min && mins[g] != mins[g0])) return false;
    *scale = scales[g0];
    *min = w->fmt->has_min ? mins[g0] : 0;
    *low = code[k0 - first];
    for (int64_t k = k0; k < k0 + n; k++) *low = code[k - first] < *low ? code[k - first] : *low;
    return true;
}

/* The scale 255 is NaN, infinity or 2^127, as one asks a format. */
static bool mxfp4_of(void *ctx, int64_t row, int64_t k0, sr_mxfp4 *out) {
    const struct rows *r = ctx;
    int64_t from;
    if (r->job->by_col || r->job->by_row || r->job->braid) return false;
    const sr_weight *w = place_of(r, row, &from);
    if (!w->fmt->take_mxfp4) return false;
    w->fmt->take_mxfp4(w, from, k0, out);
    return out->scale != 255;
}

/* The matrix whose rows are columns of w, as a copy: each of its rows would need all of w's. */
static sr_status turn(const sr_quantizer *q, const sr_job *job, int i, sr_weight *w, sr_arena *arena, sr_err *err) {
    struct sr_binder b = {.file = q->file, .arch = q->arch, .arena = arena, .err = err};
    sr_weight to;
    if (w->perm || w->N != job->turn.n * job->turn.pitch || job->turn.rows > job->turn.pitch)
        return sr_fail(err, SR_UNSUPPORTED,
                       "%s: found columns in another order (act-order), or %lld rows, expected %lld", job->from[i],
                       (long long)w->N, (long long)(job->turn.n * job->turn.pitch));
    sr_bind_turned(&b, job->from[i], w, (int)job->turn.n, job->turn.pitch, job->turn.rows, &to);
    if (err->code == SR_OK) *w = to;
    return err->code;
}

sr_status sr_job_open(const sr_quantizer *q, const sr_job *job, sr_rows_fn fn, void *ctx, sr_err *err) {
    sr_arena arena = {0};
    struct rows rows = {job, calloc((size_t)job->n_from, sizeof *rows.w), sr_job_experts(q, job)};
    sr_status s = rows.w ? SR_OK : sr_fail(err, SR_NOMEM, "no memory to open %s", job->module);
    const int64_t all = job->pitch ? job->N / job->take * job->pitch : job->N, turns = weave_of(job);
    for (int i = 0; i < job->n_from && s == SR_OK; i++) {
        s = sr_weight_bind(q->file, q->config, job->from[i], -1, -1, &arena, &rows.w[i], err);
        const int64_t each = turns ? job->N / turns * job->weave[i] : job->braid ? all : all / job->n_from;
        const int64_t K = job->braid ? job->K / job->n_from : job->K;
        if (s == SR_OK && job->turn.n && (i == 0 || !turns)) s = turn(q, job, i, &rows.w[i], &arena, err);
        if (s == SR_OK && (rows.w[i].N != each || rows.w[i].K != K))
            s = sr_fail(err, SR_CORRUPT, "%s: found %lld x %lld, expected %lld x %lld", job->from[i],
                        (long long)rows.w[i].N, (long long)rows.w[i].K, (long long)each, (long long)K);
    }
    if (s == SR_OK) {
        const sr_source source = {decode_rows, &rows, grid_of, mxfp4_of};
        s = fn(ctx, &source, rows.w, job->n_from, err);
    }
    free(rows.w);
    sr_arena_free(&arena);
    return s;
}

void sr_digest_source(const sr_quantizer *q, sr_digest *d) {
    for (int i = 0; i < q->file->n_shards; i++) {
        const sr_map *m = &q->file->shard[i].map;
        sr_digest_add(d, &m->size, sizeof m->size);
        sr_digest_add(d, m->data, m->size < 1 << 16 ? m->size : 1 << 16);
    }
}
