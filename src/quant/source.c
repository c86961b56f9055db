/* The rows of a job, whatever they are stored as. */
#include <stdatomic.h>
#include <stdlib.h>

#include "base/map.h"
#include "quant/quant.h"

/* Some rows that are columns of the source, which a thread works on. */
typedef struct strip {
    atomic_bool taken;
    _Atomic int64_t at; /* which of the matrix; -1: none */
    _Atomic int64_t used;
    float *row; /* [wide][columns] */
} strip;

/* A matrix whose rows are columns of w, a strip at a time. Strips are as wide as blocks, so that none is decoded twice
 * for one strip; there are some for each thread, which goes from one to the next behind it. */
typedef struct turned {
    const sr_weight *w;
    int64_t pitch, columns; /* of each `pitch` rows of w these are columns */
    int64_t wide, strips;   /* rows of a strip, strips of a piece */
    int n;
    strip *strip; /* [n]; NULL: w is as it is */
    float *all;
    _Atomic int64_t clock;
} turned;

struct rows {
    const sr_job *job;
    sr_weight *w;   /* [n_from] */
    turned *turned; /* [n_from] */
    int64_t each;   /* rows of one, where they are one behind the other */
    int experts;
};

/* ---------------------------------------------------------------- rows that are columns */

enum { STRIPS = 2 /* a thread */, LEAST_WIDE = 32 };

static int64_t strip_width(const sr_format *fmt) {
    return fmt->block > LEAST_WIDE ? fmt->block : LEAST_WIDE / fmt->block * fmt->block;
}

int64_t sr_job_turn_bytes(const sr_job *j) {
    const int n = !j->turn.n ? 0 : j->braid ? j->n_from : 1;
    return n * STRIPS * strip_width(j->was) * j->turn.rows * (int64_t)sizeof(float);
}

static void fill(const turned *t, strip *s, int64_t which) {
    enum { DEEP = 16 }; /* rows of w at a time, so that what is written lies in lines of the cache */
    const int64_t first = which / t->strips * t->pitch, k0 = which % t->strips * t->wide;
    const int64_t n = t->w->K - k0 < t->wide ? t->w->K - k0 : t->wide;
    float some[DEEP][SR_KC];
    for (int64_t r = 0; r < t->columns; r += DEEP) {
        const int64_t m = t->columns - r < DEEP ? t->columns - r : DEEP;
        for (int64_t i = 0; i < m; i++) t->w->fmt->decode(t->w, first + r + i, k0, n, some[i]);
        for (int64_t k = 0; k < n; k++)
            for (int64_t i = 0; i < m; i++) s->row[k * t->columns + r + i] = some[i][k];
    }
}

/* A strip for the caller alone: one that is this already, or the one that was in use longest ago. */
static strip *take(turned *t, int64_t which) {
    for (;;) {
        strip *old = NULL;
        for (strip *s = t->strip; s < t->strip + t->n; s++) {
            if (s->at == which && !atomic_exchange(&s->taken, true)) {
                if (s->at == which) return s;
                s->taken = false;
            }
            if (!s->taken && (!old || s->used < old->used)) old = s;
        }
        if (!old || atomic_exchange(&old->taken, true)) continue;
        fill(t, old, which);
        old->at = which;
        return old;
    }
}

/* Row `row` of the matrix, its columns `step` apart. */
static void turned_row(turned *t, int64_t row, float *out, int64_t step) {
    const int64_t in = row % t->w->K;
    strip *s = take(t, row / t->w->K * t->strips + in / t->wide);
    const float *from = s->row + in % t->wide * t->columns;
    for (int64_t k = 0; k < t->columns; k++) out[k * step] = from[k];
    s->used = ++t->clock;
    s->taken = false;
}

static sr_status turn(const sr_job *job, int i, const sr_weight *w, int threads, turned *t, sr_err *err) {
    const int64_t wide = strip_width(w->fmt), floats = wide * job->turn.rows;
    if (w->perm || w->N != job->turn.n * job->turn.pitch || job->turn.rows > job->turn.pitch)
        return sr_fail(err, SR_UNSUPPORTED,
                       "%s: found columns in another order (act-order), or %lld rows, expected %lld", job->from[i],
                       (long long)w->N, (long long)(job->turn.n * job->turn.pitch));
    t->w = w;
    t->pitch = job->turn.pitch;
    t->columns = job->turn.rows;
    t->wide = wide;
    t->strips = (w->K - 1) / wide + 1;
    t->n = STRIPS * threads;
    t->strip = calloc((size_t)t->n, sizeof *t->strip);
    t->all = malloc((size_t)t->n * (size_t)floats * sizeof *t->all);
    if (!t->strip || !t->all) return sr_fail(err, SR_NOMEM, "no memory to turn %s around", job->from[i]);
    for (int k = 0; k < t->n; k++) {
        t->strip[k].row = t->all + k * floats;
        t->strip[k].at = -1;
    }
    return SR_OK;
}

/* ---------------------------------------------------------------- rows */

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

/* Which matrix a row of the result comes from. */
static int place_of(const struct rows *r, int64_t row, int64_t *in) {
    const int64_t each = r->each, weave = weave_of(r->job);
    if (weave) {
        int64_t at = row % weave;
        int i = 0;
        for (; at >= r->job->weave[i]; i++) at -= r->job->weave[i];
        *in = row / weave * r->job->weave[i] + at;
        return i;
    }
    row = sr_job_row(r->job, row);
    *in = row % each;
    return (int)(row / each);
}

static void decode_rows(void *ctx, int64_t row0, int64_t n, float *out) {
    const struct rows *r = ctx;
    const sr_job *job = r->job;
    for (int64_t row = row0; row < row0 + n; row++, out += job->K) {
        int64_t in;
        if (job->braid) { /* columns are those of all, in turns */
            for (int i = 0; i < job->n_from; i++) turned_row(&r->turned[i], row, out + i, job->n_from);
            continue;
        }
        const int i = place_of(r, row, &in);
        if (r->turned[i].strip)
            turned_row(&r->turned[i], in, out, 1);
        else
            sr_decode_in_order(&r->w[i], in, out);
        scale_row(r, row, out);
    }
}

/* The matrix whose row is one of the result, code by code; NULL: there is none. */
static const sr_weight *codes_of(const struct rows *r, int64_t row, int64_t *in) {
    if (r->job->by_col || r->job->by_row || r->job->braid) return NULL;
    const int i = place_of(r, row, in);
    return r->turned[i].strip ? NULL : &r->w[i];
}

/* Of rows that are unpacked to codes: one scale for all the columns asked for. */
static bool grid_of(void *ctx, int64_t row, int64_t k0, int64_t n, float *scale, float *min, int *low) {
    const struct rows *r = ctx;
    int64_t from;
    const sr_weight *w = codes_of(r, row, &from);
    if (!w) return false;
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
    const sr_weight *w = codes_of(r, row, &from);
    if (!w || !w->fmt->take_mxfp4) return false;
    w->fmt->take_mxfp4(w, from, k0, out);
    return out->scale != 255;
}

sr_status sr_job_open(const sr_quantizer *q, const sr_job *job, sr_rows_fn fn, void *ctx, sr_err *err) {
    sr_arena arena = {0};
    const int64_t all = job->pitch ? job->N / job->take * job->pitch : job->N, weave = weave_of(job);
    struct rows rows = {.job = job, .experts = sr_job_experts(q, job), .each = all / job->n_from};
    rows.w = calloc((size_t)job->n_from, sizeof *rows.w);
    rows.turned = calloc((size_t)job->n_from, sizeof *rows.turned);
    sr_status s = rows.w && rows.turned ? SR_OK : sr_fail(err, SR_NOMEM, "no memory to open %s", job->module);
    for (int i = 0; i < job->n_from && s == SR_OK; i++) {
        sr_weight *w = &rows.w[i];
        turned *t = &rows.turned[i];
        s = sr_weight_bind(q->file, q->config, job->from[i], -1, -1, &arena, w, err);
        if (s == SR_OK && job->turn.n && (i == 0 || !weave)) s = turn(job, i, w, q->threads, t, err);
        if (s != SR_OK) break;
        const int64_t want_n = weave        ? job->N / weave * job->weave[i]
                               : job->braid ? all
                                            : rows.each,
                      want_k = job->braid ? job->K / job->n_from : job->K, N = t->strip ? job->turn.n * w->K : w->N,
                      K = t->strip ? job->turn.rows : w->K;
        if (N != want_n || K != want_k)
            s = sr_fail(err, SR_CORRUPT, "%s: found %lld x %lld, expected %lld x %lld", job->from[i], (long long)N,
                        (long long)K, (long long)want_n, (long long)want_k);
    }
    if (s == SR_OK) {
        const sr_source source = {decode_rows, &rows, grid_of, mxfp4_of};
        s = fn(ctx, &source, rows.w, job->n_from, err);
    }
    for (int i = 0; i < job->n_from && rows.turned; i++) {
        free(rows.turned[i].strip);
        free(rows.turned[i].all);
    }
    free(rows.turned);
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
