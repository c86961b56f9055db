/* Causal attention over pages of keys and values: who does which rows. The arithmetic is in attention_kern.h.
 *
 * A long text is read by several threads even where few queries meet few KV heads, as in decoding: then the keys of an
 * item are cut in parts by their positions, each leaves its own softmax, and these are merged in order. Where they are
 * cut depends on the length alone, so that results depend on no number of threads. */
#include <math.h>
#include <string.h>

#include "base/pool.h"
#include "cpu/kern.h"

enum {
    HEADS = 8,      /* of an item, at most: where one key serves many heads, all threads have some */
    FEW_ITEMS = 16, /* fewer are cut in parts: two for each of eight threads */
    MOST_PARTS = 16,
    PART_PAGES = 4 /* of a part, at least */
};

struct job {
    const sr_cpu *cpu;
    const sr_attend *a;
    int tokens; /* of one item */
    int heads;  /* query heads of one item, all of one KV head */
    int splits; /* of the query heads of one KV head */
    int parts, part_pages;
    const sr_span *span;
};

size_t sr_cpu_attend_thread_bytes(int head_dim) {
    return (2 * SR_ATTEND_ROWS * (size_t)sr_attend_padded(head_dim) + sr_attend_scratch(head_dim)) * sizeof(float);
}

size_t sr_cpu_attend_partials(int head_dim) {
    return (size_t)FEW_ITEMS * MOST_PARTS * SR_ATTEND_ROWS * (size_t)(sr_attend_padded(head_dim) + 2);
}

static uint8_t *page_of(const sr_kv *kv, bool value, int n_kv_head, int head, int32_t pos, int hd) {
    const size_t page = (size_t)kv->table[pos / SR_KV_PAGE] * (size_t)n_kv_head + (size_t)head;
    return (uint8_t *)(value ? kv->v : kv->k) + page * SR_KV_PAGE * sr_kv_bytes(kv->type, hd);
}

static const sr_kv_row *row_of(const sr_kv *kv) {
    return (const sr_kv_row *)(const void *)kv->type;
}

/* Features that are mixed together: as many as keys, and values where these are a part of them, allow. */
static int rotation(const sr_attend *a) {
    const int both = a->hd_k | a->hd_v;
    return both & -both;
}

static float *scratch_of(const sr_cpu *cpu, int thread) {
    return (float *)(void *)(cpu->thread + (size_t)thread * cpu->thread_bytes);
}

/* Tokens of one page and one KV head: positions may share bytes. */
static void store_page(void *ctx, int item, int thread) {
    const struct job *j = ctx;
    const sr_attend *a = j->a;
    const sr_kv *kv = &j->span->kv[a->layer];
    const sr_kv_row *row = row_of(kv);
    const int h = item % a->n_kv_head;
    const int32_t page = j->span->pos0 / SR_KV_PAGE + item / a->n_kv_head;
    const int32_t end = j->span->pos0 + j->span->n;
    float *turned = scratch_of(j->cpu, thread);
    for (int32_t pos = page * SR_KV_PAGE; pos < (page + 1) * SR_KV_PAGE && pos < end; pos++) {
        if (pos < j->span->pos0) continue;
        const int64_t at = (j->span->first + pos - j->span->pos0) * a->ld_kv;
        for (int value = 0; value < (kv->v ? 2 : 1); value++) {
            const int hd = value ? a->hd_v : a->hd_k;
            const float *x = (value ? a->v : a->k) + at + h * hd;
            if (row->rotated) {
                memcpy(turned, x, (size_t)hd * sizeof *x);
                j->cpu->kern->hadamard(turned, hd, rotation(a));
                x = turned;
            }
            row->store[value](x, hd, page_of(kv, value, a->n_kv_head, h, pos, hd), pos % SR_KV_PAGE);
        }
    }
}

/* attend_page of kern.h as plain as it can be, in f32. */
static void attend_exact(const sr_kern *kern, const sr_kv_row *kv, const float *const *q, int n_q, const void *k,
                         const void *v, int n_key, int hd, int hd_v, const int *lo, const int *hi, float cap, float *m,
                         float *s, float *o, int ld_o, float *scratch) {
    float *score = scratch, *rows = scratch + SR_ATTEND_ROWS * SR_KV_PAGE; /* [n_key][hd], or [n_key][hd_v] */
    kv->load[0](k, 0, n_key, hd, hd, rows, hd);
    for (int i = 0; i < n_q; i++, score += SR_KV_PAGE)
        for (int j = lo[i]; j < hi[i]; j++) {
            kern->dot_f32(rows + (int64_t)j * hd, q[i], 0, 1, hd, &score[j]);
            if (cap > 0) score[j] = cap * tanhf(score[j] / cap);
        }
    if (v) kv->load[1](v, 0, n_key, hd_v, hd_v, rows, hd_v);
    const int ld = v ? hd_v : hd;
    score = scratch;
    for (int i = 0; i < n_q; i++, score += SR_KV_PAGE) {
        float max = m[i];
        if (lo[i] >= hi[i]) continue;
        for (int j = lo[i]; j < hi[i]; j++) max = score[j] > max ? score[j] : max;
        float keep = m[i] == -INFINITY ? 0 : expf(m[i] - max);
        m[i] = max;
        s[i] *= keep;
        for (int d = 0; d < hd_v; d++) o[i * ld_o + d] *= keep;
        for (int j = lo[i]; j < hi[i]; j++) {
            float p = expf(score[j] - max);
            s[i] += p;
            for (int d = 0; d < hd_v; d++) o[i * ld_o + d] += p * rows[(int64_t)j * ld + d];
        }
    }
}

/* What an item's rows are. */
struct item {
    int kv_head, head0, n_head, t0, n_tok, n, ld_o;
    int32_t first, last; /* positions */
};
static struct item item_of(const struct job *j, int i) {
    const sr_attend *a = j->a;
    const int group = a->n_head / a->n_kv_head, split = i % j->splits, block = i / j->splits / a->n_kv_head;
    struct item it = {.kv_head = i / j->splits % a->n_kv_head, .t0 = block * j->tokens};
    it.head0 = split * j->heads;
    it.n_head = group - it.head0 < j->heads ? group - it.head0 : j->heads;
    it.n_tok = j->span->n - it.t0 < j->tokens ? j->span->n - it.t0 : j->tokens;
    it.n = it.n_tok * it.n_head;
    it.ld_o = sr_attend_padded(a->hd_v);
    it.first = j->span->pos0 + it.t0;
    it.last = it.first + it.n_tok - 1;
    return it;
}

/* Rows of the item to the result. */
static void finish(const struct job *j, const struct item *it, const float *m, const float *s, float *o) {
    const sr_attend *a = j->a;
    for (int i = 0; i < it->n; i++) {
        const int head = it->kv_head * (a->n_head / a->n_kv_head) + it->head0 + i % it->n_head;
        float *out = a->out + (j->span->first + it->t0 + i / it->n_head) * a->ld_out + head * a->hd_v;
        float inverse = 1.0f / (s[i] + (a->sink ? expf(a->sink[head] - m[i]) : 0));
        for (int d = 0; d < a->hd_v; d++) out[d] = o[i * it->ld_o + d] * inverse;
        if (row_of(&j->span->kv[a->layer])->rotated) j->cpu->kern->hadamard(out, a->hd_v, rotation(a));
    }
}

/* A part's place in sr_cpu.partial: m, s and o of its rows. */
static float *partial_of(const struct job *j, int part, const struct item *it) {
    return j->cpu->partial + (int64_t)part * SR_ATTEND_ROWS * (it->ld_o + 2);
}

/* One block of tokens with some query heads of one KV head, over one part of their keys, page by page. */
static void attend_item(void *ctx, int number, int thread) {
    const struct job *j = ctx;
    const sr_attend *a = j->a;
    const sr_span *span = j->span;
    const sr_kv *kv = &span->kv[a->layer];
    const sr_kv_row *kv_row = row_of(kv);
    const sr_kern *kern = j->cpu->kern;
    const struct item it = item_of(j, number / j->parts);
    const int hd = a->hd_k, hd_v = a->hd_v, group = a->n_head / a->n_kv_head, part = number % j->parts, n = it.n;
    float *q = scratch_of(j->cpu, thread), *scratch = q + 2 * SR_ATTEND_ROWS * sr_attend_padded(hd);
    float m_own[SR_ATTEND_ROWS], s_own[SR_ATTEND_ROWS];
    float *m = m_own, *s = s_own, *o = q + SR_ATTEND_ROWS * sr_attend_padded(hd);
    const float *row[SR_ATTEND_ROWS];
    int lo[SR_ATTEND_ROWS], hi[SR_ATTEND_ROWS];

    if (j->parts > 1) {
        m = partial_of(j, number, &it);
        s = m + SR_ATTEND_ROWS, o = s + SR_ATTEND_ROWS;
    }
    for (int i = 0; i < n; i++) {
        const float *from = a->q + (span->first + it.t0 + i / it.n_head) * a->ld_q +
                            (it.kv_head * group + it.head0 + i % it.n_head) * hd;
        float scale = a->scale;
        if (a->stretch > 0) scale *= 1 + a->stretch * logf(1 + (float)((it.first + i / it.n_head) / a->stretch_every));
        for (int d = 0; d < hd; d++) q[i * hd + d] = from[d] * scale;
        if (kv_row->rotated) kern->hadamard(q + i * hd, hd, rotation(a));
        row[i] = q + i * hd;
        m[i] = -INFINITY;
        s[i] = 0;
    }
    memset(o, 0, (size_t)n * (size_t)it.ld_o * sizeof *o);
    if (!j->cpu->exact && kv_row->ask) kv_row->ask(row, n, hd, scratch);
    int32_t from = a->window > 0 && it.first >= a->window ? (it.first - a->window + 1) / SR_KV_PAGE * SR_KV_PAGE : 0;
    int32_t to = it.last;
    if (j->parts > 1) {
        const int32_t begin = part * j->part_pages * SR_KV_PAGE, end = begin + j->part_pages * SR_KV_PAGE - 1;
        from = from > begin ? from : begin;
        to = to < end ? to : end;
    }
    for (int32_t page = from; page <= to; page += SR_KV_PAGE) {
        int n_key = it.last + 1 - page < SR_KV_PAGE ? it.last + 1 - page : SR_KV_PAGE;
        for (int i = 0; i < n; i++) {
            int32_t pos = it.first + i / it.n_head, begin = a->window > 0 ? pos - a->window + 1 - page : 0;
            lo[i] = begin < 0 ? 0 : begin;
            hi[i] = pos + 1 - page < n_key ? pos + 1 - page : n_key;
        }
        const void *k = page_of(kv, false, a->n_kv_head, it.kv_head, page, hd);
        const void *v = kv->v ? page_of(kv, true, a->n_kv_head, it.kv_head, page, hd_v) : NULL;
        const void *next =
            page + SR_KV_PAGE <= to ? page_of(kv, false, a->n_kv_head, it.kv_head, page + SR_KV_PAGE, hd) : NULL;
        if (j->cpu->exact)
            attend_exact(kern, kv_row, row, n, k, v, n_key, hd, hd_v, lo, hi, a->cap, m, s, o, it.ld_o, scratch);
        else
            kern->attend_page(kv_row, row, n, k, v, next, n_key, hd, hd_v, lo, hi, a->cap, m, s, o, it.ld_o, scratch);
    }
    if (j->parts == 1) finish(j, &it, m, s, o);
}

/* The parts of an item, in order, into the first. */
static void merge_item(void *ctx, int number, int thread) {
    const struct job *j = ctx;
    const struct item it = item_of(j, number);
    float *m = partial_of(j, number * j->parts, &it), *s = m + SR_ATTEND_ROWS, *o = s + SR_ATTEND_ROWS;
    (void)thread;
    for (int p = 1; p < j->parts; p++) {
        const float *from = partial_of(j, number * j->parts + p, &it);
        for (int i = 0; i < it.n; i++) {
            if (from[i] == -INFINITY) continue;
            const float most = m[i] > from[i] ? m[i] : from[i], keep = m[i] == -INFINITY ? 0 : expf(m[i] - most),
                        add = expf(from[i] - most), *x = from + 2 * SR_ATTEND_ROWS + i * it.ld_o;
            m[i] = most;
            s[i] = s[i] * keep + from[SR_ATTEND_ROWS + i] * add;
            for (int d = 0; d < it.ld_o; d++) o[i * it.ld_o + d] = o[i * it.ld_o + d] * keep + x[d] * add;
        }
    }
    finish(j, &it, m, s, o);
}

void sr_cpu_attend(sr_dev *dev, const sr_attend *a) {
    const sr_cpu *cpu = (const sr_cpu *)(const void *)dev;
    int group = a->n_head / a->n_kv_head;
    struct job j = {.cpu = cpu, .a = a};
    j.heads = group < HEADS ? group : HEADS;
    j.splits = (group + j.heads - 1) / j.heads;
    j.tokens = SR_ATTEND_ROWS / j.heads;
    for (int i = 0; i < a->n_span; i++) {
        j.span = &a->span[i];
        const int32_t last = j.span->pos0 + j.span->n - 1, first = j.span->pos0 / SR_KV_PAGE;
        const int items = (j.span->n + j.tokens - 1) / j.tokens * a->n_kv_head * j.splits;
        const int pages = last / SR_KV_PAGE + 1;
        j.parts = 1;
        if (items <= FEW_ITEMS && pages >= 2 * PART_PAGES) {
            j.part_pages = (pages + MOST_PARTS - 1) / MOST_PARTS;
            if (j.part_pages < PART_PAGES) j.part_pages = PART_PAGES;
            j.parts = (pages + j.part_pages - 1) / j.part_pages;
        }
        sr_pool_for(j.span->n < 16 ? 1 : cpu->threads, (last / SR_KV_PAGE - first + 1) * a->n_kv_head, store_page, &j);
        sr_pool_for(cpu->threads, items * j.parts, attend_item, &j);
        if (j.parts > 1) sr_pool_for(cpu->threads, items, merge_item, &j);
    }
}
