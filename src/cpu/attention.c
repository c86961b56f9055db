/* Causal attention over paged f16 keys and values: who does which rows. The arithmetic is in attention_kern.h. */
#include <math.h>
#include <string.h>

#include "base/pool.h"
#include "cpu/kern.h"

enum { HEADS = 8 }; /* of an item, at most: where one key serves many heads, all threads have some */

struct job {
    const sr_cpu *cpu;
    const sr_attend *a;
    int tokens; /* of one item */
    int heads;  /* query heads of one item, all of one KV head */
    int parts;  /* of the query heads of one KV head */
    const sr_span *span;
};

size_t sr_cpu_attend_thread_bytes(int head_dim) {
    return (2 * SR_ATTEND_ROWS * (size_t)head_dim + sr_attend_scratch(head_dim)) * sizeof(float);
}

static size_t page_offset(const sr_kv *kv, int n_kv_head, int head, int32_t pos, int hd) {
    return (((size_t)kv->table[pos / SR_KV_PAGE] * (size_t)n_kv_head + (size_t)head) * SR_KV_PAGE +
            (size_t)(pos % SR_KV_PAGE)) *
           (size_t)hd;
}

static void store(const sr_cpu *cpu, const float *x, int n, void *to, size_t at) {
    if (cpu->exact)
        memcpy((float *)to + at, x, (size_t)n * sizeof *x);
    else
        cpu->kern->to_f16(x, n, (uint16_t *)to + at);
}

static void store_token(void *ctx, int t, int thread) {
    const struct job *j = ctx;
    const sr_attend *a = j->a;
    const sr_kv *kv = &j->span->kv[a->layer];
    int32_t pos = j->span->pos0 + t;
    int64_t row = (j->span->first + t) * a->ld_kv;
    (void)thread;
    for (int h = 0; h < a->n_kv_head; h++) {
        store(j->cpu, a->k + row + h * a->hd_k, a->hd_k, kv->k, page_offset(kv, a->n_kv_head, h, pos, a->hd_k));
        if (kv->v)
            store(j->cpu, a->v + row + h * a->hd_v, a->hd_v, kv->v, page_offset(kv, a->n_kv_head, h, pos, a->hd_v));
    }
}

/* attend_chunk of kern.h over f32 keys and values, as plain as it can be. */
static void attend_exact(const sr_kern *kern, const float *const *q, int n_q, const float *k, const float *v, int hd,
                         int hd_v, int ld_v, const int *lo, const int *hi, float cap, float *m, float *s, float *o) {
    for (int i = 0; i < n_q; i++) {
        float score[SR_KV_PAGE], max = m[i];
        for (int j = lo[i]; j < hi[i]; j++) {
            kern->dot_f32(k + (int64_t)j * hd, q[i], 0, 1, hd, &score[j]);
            if (cap > 0) score[j] = cap * tanhf(score[j] / cap);
            max = score[j] > max ? score[j] : max;
        }
        if (lo[i] >= hi[i]) continue;
        float keep = m[i] == -INFINITY ? 0 : expf(m[i] - max);
        m[i] = max;
        s[i] *= keep;
        for (int d = 0; d < hd_v; d++) o[i * hd_v + d] *= keep;
        for (int j = lo[i]; j < hi[i]; j++) {
            float p = expf(score[j] - max);
            s[i] += p;
            for (int d = 0; d < hd_v; d++) o[i * hd_v + d] += p * v[(int64_t)j * ld_v + d];
        }
    }
}

/* One block of tokens with the query heads of one KV head, over all their keys in chunks of a page. */
static void attend_item(void *ctx, int item, int thread) {
    const struct job *j = ctx;
    const sr_attend *a = j->a;
    const sr_span *span = j->span;
    const sr_kv *kv = &span->kv[a->layer];
    const int hd = a->hd_k, hd_v = a->hd_v, ld_v = kv->v ? hd_v : hd, group = a->n_head / a->n_kv_head;
    const int part = item % j->parts, kv_head = item / j->parts % a->n_kv_head, block = item / j->parts / a->n_kv_head;
    const int head0 = part * j->heads, n_head = group - head0 < j->heads ? group - head0 : j->heads;
    const int t0 = block * j->tokens, n_tok = span->n - t0 < j->tokens ? span->n - t0 : j->tokens, n = n_tok * n_head;
    float *q = (float *)(void *)(j->cpu->thread + (size_t)thread * j->cpu->thread_bytes);
    float *o = q + SR_ATTEND_ROWS * hd, *scratch = o + SR_ATTEND_ROWS * hd;
    const float *row[SR_ATTEND_ROWS];
    float m[SR_ATTEND_ROWS], s[SR_ATTEND_ROWS];
    int lo[SR_ATTEND_ROWS], hi[SR_ATTEND_ROWS];

    for (int i = 0; i < n; i++) {
        const float *from =
            a->q + (span->first + t0 + i / n_head) * a->ld_q + (kv_head * group + head0 + i % n_head) * hd;
        float scale = a->scale;
        if (a->stretch > 0)
            scale *= 1 + a->stretch * logf(1 + (float)((span->pos0 + t0 + i / n_head) / a->stretch_every));
        for (int d = 0; d < hd; d++) q[i * hd + d] = from[d] * scale;
        row[i] = q + i * hd;
        m[i] = -INFINITY;
        s[i] = 0;
    }
    memset(o, 0, (size_t)n * (size_t)hd_v * sizeof *o);
    int32_t first = span->pos0 + t0, last = first + n_tok - 1;
    int32_t from = a->window > 0 && first >= a->window ? (first - a->window + 1) / SR_KV_PAGE * SR_KV_PAGE : 0;
    for (int32_t chunk = from; chunk <= last; chunk += SR_KV_PAGE) {
        int n_key = last + 1 - chunk < SR_KV_PAGE ? last + 1 - chunk : SR_KV_PAGE;
        for (int i = 0; i < n; i++) {
            int32_t pos = first + i / n_head, begin = a->window > 0 ? pos - a->window + 1 - chunk : 0;
            lo[i] = begin < 0 ? 0 : begin;
            hi[i] = pos + 1 - chunk < n_key ? pos + 1 - chunk : n_key;
        }
        const size_t k = page_offset(kv, a->n_kv_head, kv_head, chunk, hd),
                     v = page_offset(kv, a->n_kv_head, kv_head, chunk, ld_v);
        const void *values = kv->v ? kv->v : kv->k;
        if (j->cpu->exact)
            attend_exact(j->cpu->kern, row, n, (const float *)kv->k + k, (const float *)values + v, hd, hd_v, ld_v, lo,
                         hi, a->cap, m, s, o);
        else
            j->cpu->kern->attend_chunk(row, n, (const uint16_t *)kv->k + k, (const uint16_t *)values + v, n_key, hd,
                                       hd_v, ld_v, lo, hi, a->cap, m, s, o, scratch);
    }
    for (int i = 0; i < n; i++) {
        float *out =
            a->out + (span->first + t0 + i / n_head) * a->ld_out + (kv_head * group + head0 + i % n_head) * hd_v;
        const int head = kv_head * group + head0 + i % n_head;
        float inverse = 1.0f / (s[i] + (a->sink ? expf(a->sink[head] - m[i]) : 0));
        for (int d = 0; d < hd_v; d++) out[d] = o[i * hd_v + d] * inverse;
    }
}

void sr_cpu_attend(sr_dev *dev, const sr_attend *a) {
    const sr_cpu *cpu = (const sr_cpu *)(const void *)dev;
    int group = a->n_head / a->n_kv_head;
    struct job j = {.cpu = cpu, .a = a};
    j.heads = group < HEADS ? group : HEADS;
    j.parts = (group + j.heads - 1) / j.heads;
    j.tokens = SR_ATTEND_ROWS / j.heads;
    for (int i = 0; i < a->n_span; i++) {
        j.span = &a->span[i];
        sr_pool_for(j.span->n < 16 ? 1 : cpu->threads, j.span->n, store_token, &j);
        sr_pool_for(cpu->threads, (j.span->n + j.tokens - 1) / j.tokens * a->n_kv_head * j.parts, attend_item, &j);
    }
}
