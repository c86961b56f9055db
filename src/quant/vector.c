/* Vectors of the source that are not copied as they are. */
#include "quant/quant.h"

const sr_format *sr_job_vector_format(const sr_job *j) {
    return sr_format_by_name(j->as ? j->as : j->copy->type->name);
}

int64_t sr_job_elements(const sr_job *j) {
    const int64_t n = j->copy->n_elements;
    return j->with ? n + j->with->n_elements : j->pitch ? n / j->pitch * j->take : n;
}

static sr_status view(const sr_part *p, sr_weight *w, sr_err *err) {
    *w = (sr_weight){.fmt = sr_format_by_name(p->type->name), .N = 1, .K = p->n_elements};
    if (!w->fmt || !w->fmt->encode)
        return sr_fail(err, SR_UNSUPPORTED, "%s: found %s, expected floating-point numbers", p->name, p->type->name);
    w->plane[0].data = (uint8_t *)(uintptr_t)p->data;
    w->plane[0].stride = w->plane[0].bytes = p->bytes;
    return SR_OK;
}

sr_status sr_job_vector(const sr_job *j, float *out, sr_err *err) {
    const int64_t n = sr_job_elements(j);
    sr_weight w, with;
    sr_status s = view(j->copy, &w, err);
    if (s == SR_OK && j->with) s = view(j->with, &with, err);
    if (s == SR_OK && !sr_job_vector_format(j))
        s = sr_fail(err, SR_UNSUPPORTED, "%s: %s are no floating-point numbers", j->copy->name, j->as);
    if (s != SR_OK) return s;
    if (j->with) {
        for (int64_t i = 0; i < n; i++) (i % 2 ? with : w).fmt->decode(i % 2 ? &with : &w, 0, i / 2, 1, out + i);
    } else if (j->head_rows || j->pitch) { /* a bias of rows that change places */
        for (int64_t i = 0; i < n; i++) w.fmt->decode(&w, 0, sr_job_row(j, i), 1, out + i);
    } else
        w.fmt->decode(&w, 0, 0, n, out);
    for (int64_t i = 0; i < n && (j->plus1 || j->around1); i++) out[i] += 1;
    return SR_OK;
}

float sr_job_stored(const sr_job *j, float v) {
    const sr_format *fmt = sr_job_vector_format(j);
    uint8_t data[8];
    sr_weight w = {.fmt = fmt, .N = 1, .K = 1};
    const float less = j->around1 || j->minus1 ? 1 : 0, x = v - less;
    float out;
    w.plane[0].data = data;
    w.plane[0].stride = w.plane[0].bytes = sizeof data;
    fmt->encode(&w, 0, &x, NULL);
    fmt->decode(&w, 0, 0, 1, &out);
    return out + less;
}
