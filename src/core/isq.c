/* In-situ quantization: each matrix is rewritten once while the model opens, rows in parallel, straight from the map.
 */
#include <stdio.h>
#include <string.h>

#include "base/log.h"
#include "core/core.h"

/* Numbers name the type that suits the device's kernels; these are the CPU's and CUDA's. */
static const struct {
    const char *number, *format;
} numbers[] = {{"2", "q2_k"}, {"3", "q3_k"}, {"4", "q4_k"}, {"5", "q5_k"}, {"6", "q6_k"}, {"8", "q8_0"}};
enum { N_NUMBERS = sizeof numbers / sizeof *numbers };

/* Plain types have no scales to fit. */
bool sr_isq_takes(const sr_format *fmt) {
    return fmt->fit != NULL;
}

bool sr_isq_name(int i, const char **name, const char **resolved) {
    if (i < 0) return false;
    if (i < N_NUMBERS) {
        *name = numbers[i].number;
        *resolved = numbers[i].format;
        return true;
    }
    i -= N_NUMBERS;
    for (int f = 0; sr_formats[f]; f++)
        if (sr_isq_takes(sr_formats[f]) && i-- == 0) {
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
    if (!fmt || !sr_isq_takes(fmt)) {
        char list[160] = "";
        for (int i = 0; sr_isq_name(i, &shown, &resolved); i++) {
            size_t at = strlen(list);
            if (at + strlen(shown) + 8 > sizeof list) {
                strcpy(list + at, " ...");
                break;
            }
            snprintf(list + at, sizeof list - at, "%s%s", i ? " " : "", shown);
        }
        return sr_fail(err, SR_INVALID, "--isq '%.32s' is unknown; expected one of %s", name, list);
    }
    isq->fmt = fmt;
    isq->edge = fmt->promote ? sr_format_by_name(fmt->promote) : fmt;
    return SR_OK;
}

static void decoded_rows(void *ctx, int64_t row0, int64_t n, float *out) {
    const sr_weight *from = ctx;
    for (int64_t i = 0; i < n; i++) from->fmt->decode(from, row0 + i, 0, from->K, out + i * from->K);
}

/* w as fmt; *done false, and w as it was, where this shape cannot be. */
static sr_status quantize(sr_isq *isq, const sr_format *fmt, sr_weight *w, bool *done, sr_err *err) {
    sr_source source = {.rows = decoded_rows, .ctx = w};
    sr_arena own = {0};
    sr_weight to;
    sr_err why = {0};
    sr_status s = sr_weight_create(fmt, w->N, w->K, NULL, &own, &to, &why);
    const sr_device *ops = isq->engine->dev->ops;
    if (s == SR_OK) to.encoder = ops->encoder ? ops->encoder(isq->engine->dev, fmt) : NULL;
    if (s == SR_OK) s = sr_encode(&to, &source, NULL, 0, isq->engine->threads, &why);
    *done = s == SR_OK;
    if (!*done) {
        sr_arena_free(&own);
        return s == SR_INVALID ? SR_OK : sr_fail(err, s, "%s", why.msg);
    }
    sr_arena_join(isq->arena, &own);
    to.bias = w->bias;
    to.perm = w->perm;
    *w = to;
    return SR_OK;
}

sr_status sr_isq_visit(void *user, const char *name, bool is_edge, sr_weight *w, sr_err *err) {
    sr_isq *isq = user;
    const sr_format *wanted = is_edge ? isq->edge : isq->fmt;
    isq->done += (double)w->N * (double)w->K;
    if (isq->progress && !isq->progress(isq->user, "quantizing", isq->done, isq->total))
        return sr_fail(err, SR_CANCELLED, "quantizing was cancelled");
    if (wanted == w->fmt) return SR_OK;
    if (8 * sr_weight_bytes(w) < 16 * w->N * w->K && !isq->warned) {
        isq->warned = true;
        sr_log(SR_LOG_WARNING, "%s is quantized already (%s): quantizing again to %s adds its loss to the first", name,
               w->fmt->name, wanted->name);
    }
    bool done = false;
    sr_status s = quantize(isq, wanted, w, &done, err);
    for (int i = 0; i < 2 && s == SR_OK && !done && wanted->fallback[i]; i++) {
        const sr_format *other = sr_format_by_name(wanted->fallback[i]);
        done = other == w->fmt;
        if (!done) s = quantize(isq, other, w, &done, err);
    }
    if (s == SR_OK && !done)
        sr_log(SR_LOG_WARNING, "%s: %lld x %lld does not fit %s: left as %s", name, (long long)w->N, (long long)w->K,
               wanted->name, w->fmt->name);
    return s;
}
