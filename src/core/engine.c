#include <stdlib.h>
#include <string.h>

#include "base/map.h"
#include "core/core.h"

enum { DEFAULT_BATCH = 512, MAX_BATCH = 8192, MAX_THREADS = 1024, LOGITS_AT_ONCE = 1 << 22 };

sr_status sr_engine_create(const sr_engine_options *options, sr_engine **out, sr_err *err) {
    static const sr_engine_options none = {0};
    const sr_engine_options *o = options ? options : &none;
    *out = NULL;
    if (o->threads < 0 || o->threads > MAX_THREADS)
        return sr_fail(err, SR_INVALID, "threads: found %d, expected 0 to %d", o->threads, MAX_THREADS);
    if (o->batch < 0 || o->batch > MAX_BATCH)
        return sr_fail(err, SR_INVALID, "batch: found %d, expected 0 to %d", o->batch, MAX_BATCH);
    const sr_device *device = sr_device_by_name(o->device);
    if (!device) return sr_fail(err, SR_UNSUPPORTED, "device '%s' is not in this build; expected cpu", o->device);
    sr_engine *e = calloc(1, sizeof *e);
    if (!e) return sr_fail(err, SR_NOMEM, "no memory for an engine");
    e->threads = o->threads ? o->threads : sr_cpu_count();
    e->batch = o->batch ? o->batch : DEFAULT_BATCH;
    e->exact = o->exact;
    sr_dev_options d = {e->threads, e->batch, o->isa, o->exact};
    sr_status s = device->open(&d, &e->dev, err);
    if (s == SR_OK) {
        e->ids = calloc((size_t)e->batch, sizeof *e->ids);
        e->pos = calloc((size_t)e->batch, sizeof *e->pos);
        e->rope_table = calloc((size_t)e->batch, sizeof *e->rope_table);
        e->span = calloc((size_t)e->batch, sizeof *e->span);
        e->ready = calloc((size_t)e->batch, sizeof *e->ready);
        if (!e->ids || !e->pos || !e->rope_table || !e->span || !e->ready)
            s = sr_fail(err, SR_NOMEM, "no memory for a batch of %d tokens", e->batch);
    }
    if (s != SR_OK) {
        sr_engine_free(e);
        return s;
    }
    *out = e;
    return SR_OK;
}

static void scratch_fields(sr_engine *e, float **at[SR_N_SCRATCH]) {
    sr_scratch *s = &e->scratch;
    float **const fields[] = {&s->x,      &s->normed, &s->qkv,    &s->attn, &s->ff,
                              &s->branch, &s->router, &s->chosen, &s->parts};
    _Static_assert(sizeof fields / sizeof *fields == SR_N_SCRATCH, "the order of sr_decoder_scratch");
    memcpy(at, fields, sizeof fields);
}

void sr_engine_free(sr_engine *e) {
    if (!e) return;
    if (e->dev) {
        float **at[SR_N_SCRATCH];
        scratch_fields(e, at);
        for (int i = 0; i < SR_N_SCRATCH; i++) e->dev->ops->free(e->dev, *at[i], e->scratch_bytes[i]);
        e->dev->ops->free(e->dev, e->logits, e->logits_bytes);
        e->dev->ops->free(e->dev, e->rows, e->rows_bytes);
        e->dev->ops->close(e->dev);
    }
    free(e->scratch.host);
    free(e->ids);
    free(e->pos);
    free(e->rope_table);
    free(e->span);
    free(e->ready);
    free(e);
}

static sr_status grow(sr_engine *e, float **at, size_t *have, size_t want, sr_err *err) {
    if (want <= *have) return SR_OK;
    float *fresh = e->dev->ops->alloc(e->dev, want);
    if (!fresh) return sr_fail(err, SR_NOMEM, "no memory for %zu bytes of step scratch", want);
    e->dev->ops->free(e->dev, *at, *have);
    *at = fresh;
    *have = want;
    return SR_OK;
}

int sr_engine_logits_rows(const sr_engine *e, int32_t n_vocab) {
    int rows = LOGITS_AT_ONCE / n_vocab;
    return rows < 1 ? 1 : rows > e->batch ? e->batch : rows;
}

sr_status sr_engine_reserve(sr_engine *e, const sr_decoder *dec, sr_err *err) {
    int64_t per_token[SR_N_SCRATCH], max_k = sr_decoder_max_k(dec), max_n = dec->embed.N;
    float **at[SR_N_SCRATCH];
    sr_decoder_scratch(dec, per_token);
    scratch_fields(e, at);
    sr_status s = SR_OK;
    for (int i = 0; i < SR_N_SCRATCH && s == SR_OK; i++)
        s = grow(e, at[i], &e->scratch_bytes[i], (size_t)per_token[i] * (size_t)e->batch * sizeof(float), err);
    const size_t host = sr_decoder_host_bytes(dec, e->batch);
    if (s == SR_OK && host > e->host_bytes) {
        free(e->scratch.host);
        e->scratch.host = calloc(host, 1);
        e->host_bytes = e->scratch.host ? host : 0;
        if (!e->scratch.host) s = sr_fail(err, SR_NOMEM, "no memory for the routing of %d tokens", e->batch);
    }
    size_t rows = (size_t)sr_engine_logits_rows(e, dec->h.n_vocab);
    if (s == SR_OK) s = grow(e, &e->logits, &e->logits_bytes, rows * (size_t)dec->h.n_vocab * sizeof(float), err);
    if (s == SR_OK)
        s = grow(e, &e->rows, &e->rows_bytes, (size_t)e->batch * (size_t)dec->h.d_model * sizeof(float), err);
    if (max_k > max_n) max_n = max_k;
    const sr_kv_shape kv = sr_decoder_kv(dec, 0);
    const int head_dim = kv.k > dec->h.head_dim ? kv.k : dec->h.head_dim;
    if (s == SR_OK) s = e->dev->ops->reserve(e->dev, max_k, max_n, dec->h.n_head, head_dim, err);
    return s;
}

int sr_engine_threads(const sr_engine *e) {
    return e->threads;
}

int sr_engine_batch(const sr_engine *e) {
    return e->batch;
}

const char *sr_engine_isa(const sr_engine *e) {
    return e->dev->ops->isa(e->dev);
}

void sr_engine_cancel(sr_engine *e, bool cancel) {
    e->cancel = cancel;
}

void sr_engine_probe(sr_engine *e, double seconds, sr_probe *probe) {
    e->dev->ops->probe(e->dev, seconds, probe);
}
