/* The tensors that a matrix becomes in a file: the planes of its format, and the small ones beside them. */
#include <stdio.h>
#include <string.h>

#include "quant/quant.h"

void sr_tensor_plane(const sr_weight *w, const sr_planes *planes, int p, sr_tensor *t) {
    *t = (sr_tensor){.type = w->plane[p].type,
                     .n_dims = planes->plane[p].scalar ? 0 : planes->plane[p].n_dims,
                     .data = w->plane[p].data,
                     .bytes = w->plane[p].bytes};
    memcpy(t->shape, planes->plane[p].shape, sizeof t->shape);
    snprintf(t->suffix, sizeof t->suffix, "%.*s", (int)strcspn(planes->plane[p].suffix, "|"), planes->plane[p].suffix);
}

bool sr_job_tensor(const sr_job *job, const sr_weight *w, int i, sr_tensor *t) {
    sr_planes planes = {0};
    sr_extra extra;
    if (job->entry) return sr_uqff_tensor(job, w, i, t);
    w->fmt->layout(w->fmt, w->N, w->K, &w->spec, &planes, NULL);
    for (int p = 0; p < planes.n; p++)
        if (w->plane[p].data && i-- == 0) {
            sr_tensor_plane(w, &planes, p, t);
            if (job->stack > 1 && t->n_dims > 1 && t->n_dims < 4 && t->shape[0] == w->N) { /* expert by expert */
                memmove(t->shape + 1, t->shape, (size_t)t->n_dims * sizeof *t->shape);
                t->shape[1] = w->N / job->stack;
                t->shape[0] = job->stack;
                t->n_dims++;
            }
            return true;
        }
    if (!w->fmt->extra || !w->fmt->extra(w, i, &extra)) return false;
    *t = (sr_tensor){.type = sr_stored_by_name(extra.stored),
                     .n_dims = extra.n_dims,
                     .shape = {extra.shape[0], extra.shape[1]},
                     .bytes = extra.bytes};
    memcpy(t->own, extra.data, sizeof extra.data);
    snprintf(t->suffix, sizeof t->suffix, "%s", extra.suffix);
    return true;
}
