/* In-situ quantization: each matrix is rewritten once while the model opens, rows in parallel, straight from the map.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "base/pool.h"
#include "core/core.h"

/* Numbers name the type that suits the device's kernels; these are the CPU's and CUDA's. */
static const struct {
    const char *number, *format;
} numbers[] = {{"2", "q2_k"}, {"3", "q3_k"}, {"4", "q4_k"}, {"5", "q5_k"}, {"6", "q6_k"}, {"8", "q8_0"}};
enum { N_NUMBERS = sizeof numbers / sizeof *numbers };

bool sr_isq_name(int i, const char **name, const char **resolved) {
    if (i < 0) return false;
    if (i < N_NUMBERS) {
        *name = numbers[i].number;
        *resolved = numbers[i].format;
        return true;
    }
    i -= N_NUMBERS;
    for (int f = 0; sr_formats[f]; f++)
        if (sr_formats[f]->tile == SR_TILE_I8 && sr_format_writable(sr_formats[f]) && i-- == 0) {
            *name = sr_formats[f]->alias ? sr_formats[f]->alias : sr_formats[f]->name;
            *resolved = sr_formats[f]->name;
            return true;
        }
    return false;
}

sr_status sr_isq_resolve(const char *name, sr_isq *isq, sr_err *err) {
    const char *wanted = name, *shown, *resolved;
    for (int i = 0; i < N_NUMBERS; i++)
        if (strcmp(name, numbers[i].number) == 0) wanted = numbers[i].format;
    const sr_format *fmt = sr_format_by_name(wanted);
    if (!fmt || fmt->tile != SR_TILE_I8 || !sr_format_writable(fmt)) {
        char list[160] = "";
        for (int i = 0; sr_isq_name(i, &shown, &resolved); i++) {
            size_t at = strlen(list);
            snprintf(list + at, sizeof list - at, "%s%s", i ? " " : "", shown);
        }
        return sr_fail(err, SR_INVALID, "--isq '%.32s' is unknown; expected one of %s", name, list);
    }
    isq->fmt = fmt;
    isq->edge = fmt->promote ? sr_format_by_name(fmt->promote) : fmt;
    return SR_OK;
}

/* The type that a row of K columns can take: fmt, its fallbacks, or NULL to leave the matrix as it is. */
static const sr_format *fitting(const sr_format *fmt, int64_t K) {
    if (K % fmt->block == 0) return fmt;
    for (int i = 0; i < 2; i++) {
        const sr_format *f = fmt->fallback[i] ? sr_format_by_name(fmt->fallback[i]) : NULL;
        if (f && K % f->block == 0) return f;
    }
    return NULL;
}

enum { ROWS = 8 }; /* a thread's piece of work */

struct quantize {
    const sr_weight *from;
    sr_weight *to;
    float *scratch; /* [threads][ROWS][K] */
};

static void quantize_rows(void *ctx, int item, int thread) {
    const struct quantize *q = ctx;
    int64_t row = (int64_t)item * ROWS, n = q->from->N - row < ROWS ? q->from->N - row : ROWS, K = q->from->K;
    float *src = q->scratch + (int64_t)thread * ROWS * K;
    for (int64_t i = 0; i < n; i++) q->from->fmt->decode(q->from, row + i, 0, K, src + i * K);
    sr_rtn_rows(q->to, row, n, src, NULL);
}

sr_status sr_isq_visit(void *user, const char *name, bool is_edge, sr_weight *w, sr_err *err) {
    sr_isq *isq = user;
    const sr_format *fmt = fitting(is_edge ? isq->edge : isq->fmt, w->K);
    isq->done += (double)w->N * (double)w->K;
    if (isq->progress && !isq->progress(isq->user, "quantizing", isq->done, isq->total))
        return sr_fail(err, SR_CANCELLED, "quantizing was cancelled");
    if (!fmt) {
        sr_log(SR_LOG_WARNING, "%s: %lld columns fit no block of %s: left as %s", name, (long long)w->K, isq->fmt->name,
               w->fmt->name);
        return SR_OK;
    }
    if (fmt == w->fmt) return SR_OK;
    if (8 * sr_weight_bytes(w) < 16 * w->N * w->K && !isq->warned) {
        isq->warned = true;
        sr_log(SR_LOG_WARNING, "%s is quantized already (%s): quantizing again to %s adds its loss to the first", name,
               w->fmt->name, fmt->name);
    }
    sr_weight to;
    sr_status s = sr_weight_create(fmt, w->N, w->K, NULL, isq->arena, &to, err);
    if (s != SR_OK) return s;
    int threads = isq->engine->threads;
    if ((size_t)w->K > SIZE_MAX / sizeof(float) / ROWS / (size_t)threads)
        return sr_fail(err, SR_NOMEM, "%s: rows too long", name);
    struct quantize q = {w, &to, malloc((size_t)threads * ROWS * (size_t)w->K * sizeof(float))};
    if (!q.scratch)
        return sr_fail(err, SR_NOMEM, "%s: no memory to quantize rows of %lld columns", name, (long long)w->K);
    sr_pool_for(threads, (int)((w->N + ROWS - 1) / ROWS), quantize_rows, &q);
    free(q.scratch);
    to.bias = w->bias;
    to.perm = w->perm;
    *w = to;
    return SR_OK;
}
