/* Vectors of the source that are not copied as they are. */
#include "quant/quant.h"

const sr_format *sr_job_vector_format(const sr_job *j) {
    return sr_format_by_name(j->as ? j->as : j->copy->type->name);
}

int64_t sr_job_elements(const sr_job *j) {
    return j->pitch ? j->copy->n_elements / j->pitch * j->take : j->copy->n_elements;
}

sr_status sr_job_vector(const sr_job *j, float *out, sr_err *err) {
    const sr_part *p = j->copy;
    const sr_format *fmt = sr_format_by_name(p->type->name);
    if (!fmt || !fmt->encode || !sr_job_vector_format(j))
        return sr_fail(err, SR_UNSUPPORTED, "%s: found %s, expected floating-point numbers", p->name, p->type->name);
    sr_weight w = {.fmt = fmt, .N = 1, .K = p->n_elements};
    w.plane[0].data = (uint8_t *)(uintptr_t)p->data;
    w.plane[0].stride = w.plane[0].bytes = p->bytes;
    const int64_t n = sr_job_elements(j);
    if (j->head_rows || j->pitch) { /* a bias of rows that change places */
        for (int64_t i = 0; i < n; i++) fmt->decode(&w, 0, sr_job_row(j, i), 1, out + i);
    } else
        fmt->decode(&w, 0, 0, n, out);
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
