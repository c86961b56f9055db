#include <float.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "base/random.h"
#include "text/text.h"

/* A candidate as one integer: larger is a larger logit, of equals the lower id. Keys are unique, so every selection
 * below has one result. */
typedef uint64_t key;

enum { DRY_RANGE = 32768, DRY_MOST = 50 };

struct sr_sampler {
    sr_sampling s;
    int32_t n_vocab;
    uint64_t state[4];
    float *logit;    /* [n_vocab] after penalties and bias */
    uint32_t *count; /* [n_vocab] times generated */
    uint8_t *seen;   /* [n_vocab] in the prompt or generated */
    int32_t *touched, n_touched;
    key *candidate; /* [n_vocab] */
    float *weight;  /* [n_vocab] */
    sr_logit_bias *bias;
    /* DRY: the latest tokens, a ring [DRY_RANGE]; which ids are breakers and how long a repetition each would make. All
     * NULL when it is off. */
    int32_t *recent;
    int64_t n_recent; /* in all */
    bool *breaker;    /* [n_vocab] */
    uint8_t *repeats; /* [n_vocab] 0 between calls */
};

sr_sampling sr_sampling_default(void) {
    return (sr_sampling){.temperature = 0.8f,
                         .top_k = 40,
                         .top_p = 0.95f,
                         .min_p = 0.05f,
                         .repetition_penalty = 1.0f,
                         .seed = 0,
                         .dry_base = 1.75f,
                         .dry_allowed_length = 2};
}

/* xoshiro256** by Blackman and Vigna, seeded by splitmix64 (both public domain, prng.di.unimi.it). */
static uint64_t rotl(uint64_t x, int k) {
    return x << k | x >> (64 - k);
}
static uint64_t next(uint64_t s[4]) {
    uint64_t result = rotl(s[1] * 5, 7) * 9, t = s[1] << 17;
    s[2] ^= s[0];
    s[3] ^= s[1];
    s[1] ^= s[2];
    s[0] ^= s[3];
    s[2] ^= t;
    s[3] = rotl(s[3], 45);
    return result;
}
static void seed(uint64_t s[4], uint64_t x) {
    for (int i = 0; i < 4; i++) s[i] = sr_random(&x);
}

static sr_status check(float v, const char *name, float lo, float hi, sr_err *err) {
    if (v >= lo && v <= hi) return SR_OK; /* false for NaN */
    return sr_fail(err, SR_INVALID, "sampling: found %s %g, expected %g to %g", name, (double)v, (double)lo,
                   (double)hi);
}

sr_status sr_sampler_create(const sr_sampling *o, int32_t n_vocab, sr_sampler **out, sr_err *err) {
    *out = NULL;
    if (n_vocab < 1) return sr_fail(err, SR_INVALID, "sampling: found a vocabulary of %d", n_vocab);
    sr_status status = check(o->temperature, "temperature", 0, 1e6f, err);
    if (status == SR_OK) status = check(o->top_p, "top_p", -1e6f, 1e6f, err);
    if (status == SR_OK) status = check(o->min_p, "min_p", -1e6f, 1e6f, err);
    if (status == SR_OK) status = check(o->repetition_penalty, "repetition_penalty", 1e-6f, 1e6f, err);
    if (status == SR_OK) status = check(o->frequency_penalty, "frequency_penalty", -1e6f, 1e6f, err);
    if (status == SR_OK) status = check(o->presence_penalty, "presence_penalty", -1e6f, 1e6f, err);
    if (status == SR_OK) status = check(o->dry_multiplier, "dry_multiplier", 0, 1e6f, err);
    if (status == SR_OK && o->dry_multiplier > 0) status = check(o->dry_base, "dry_base", 1, 100, err);
    if (status == SR_OK && o->dry_multiplier > 0)
        status = check((float)o->dry_allowed_length, "dry_allowed_length", 1, DRY_MOST, err);
    if (status != SR_OK) return status;
    if (o->n_logit_bias < 0 || (o->n_logit_bias && !o->logit_bias))
        return sr_fail(err, SR_INVALID, "sampling: found %d logit biases", o->n_logit_bias);
    for (int i = 0; i < o->n_logit_bias; i++) {
        const sr_logit_bias *b = &o->logit_bias[i];
        if (b->id < 0 || b->id >= n_vocab)
            return sr_fail(err, SR_INVALID, "sampling: found logit_bias for id %d, expected 0 to %d", b->id,
                           n_vocab - 1);
        if (isnan(b->bias)) return sr_fail(err, SR_INVALID, "sampling: logit_bias of id %d is not a number", b->id);
    }
    sr_sampler *s = calloc(1, sizeof *s);
    if (!s) return sr_fail(err, SR_NOMEM, "sampling: out of memory");
    size_t n = (size_t)n_vocab;
    s->s = *o;
    s->n_vocab = n_vocab;
    s->logit = malloc(n * sizeof *s->logit);
    s->count = calloc(n, sizeof *s->count);
    s->seen = calloc(n, 1);
    s->touched = malloc(n * sizeof *s->touched);
    s->candidate = malloc(n * sizeof *s->candidate);
    s->weight = malloc(n * sizeof *s->weight);
    s->bias = malloc(((size_t)o->n_logit_bias + 1) * sizeof *s->bias);
    if (!s->logit || !s->count || !s->seen || !s->touched || !s->candidate || !s->weight || !s->bias) {
        sr_sampler_free(s);
        return sr_fail(err, SR_NOMEM, "sampling: out of memory for a vocabulary of %d", n_vocab);
    }
    if (o->n_logit_bias) memcpy(s->bias, o->logit_bias, (size_t)o->n_logit_bias * sizeof *s->bias);
    s->s.logit_bias = s->bias;
    s->s.dry_breaker = NULL;
    if (o->dry_multiplier > 0) {
        s->recent = malloc(DRY_RANGE * sizeof *s->recent);
        s->breaker = calloc(n, sizeof *s->breaker);
        s->repeats = calloc(n, 1);
        if (!s->recent || !s->breaker || !s->repeats) {
            sr_sampler_free(s);
            return sr_fail(err, SR_NOMEM, "sampling: out of memory for a vocabulary of %d", n_vocab);
        }
        for (int i = 0; i < o->n_dry_breaker; i++)
            if (o->dry_breaker[i] >= 0 && o->dry_breaker[i] < n_vocab) s->breaker[o->dry_breaker[i]] = true;
    }
    seed(s->state, o->seed);
    *out = s;
    return SR_OK;
}

void sr_sampler_free(sr_sampler *s) {
    if (!s) return;
    free(s->logit);
    free(s->count);
    free(s->seen);
    free(s->touched);
    free(s->candidate);
    free(s->weight);
    free(s->bias);
    free(s->recent);
    free(s->breaker);
    free(s->repeats);
    free(s);
}

void sr_sampler_reset(sr_sampler *s) {
    for (int32_t i = 0; i < s->n_touched; i++) {
        s->count[s->touched[i]] = 0;
        s->seen[s->touched[i]] = 0;
    }
    s->n_touched = 0;
    s->n_recent = 0;
    seed(s->state, s->s.seed);
}

void sr_sampler_accept(sr_sampler *s, int32_t id, bool generated) {
    if (id < 0 || id >= s->n_vocab) return;
    if (!s->seen[id]) s->touched[s->n_touched++] = id;
    s->seen[id] = 1;
    if (generated && s->count[id] < UINT32_MAX) s->count[id]++;
    if (s->recent) s->recent[s->n_recent++ % DRY_RANGE] = id;
}

static key key_of(float logit, int32_t id) {
    uint32_t u;
    memcpy(&u, &logit, 4);
    u = u & 0x80000000u ? ~u : u | 0x80000000u;
    return (uint64_t)u << 32 | (uint32_t) ~(uint32_t)id;
}
static int32_t key_id(key k) {
    return (int32_t) ~(uint32_t)k;
}

/* Token `back` places from the end; back < min(n_recent, DRY_RANGE). */
static int32_t recent(const sr_sampler *s, int64_t back) {
    return s->recent[(s->n_recent - 1 - back) % DRY_RANGE];
}

/* For every earlier place of the last token: how far what stands before it equals what stands before the end. */
static void penalize_repetition(sr_sampler *s) {
    const sr_sampling *o = &s->s;
    int64_t n = s->n_recent < DRY_RANGE ? s->n_recent : DRY_RANGE;
    if (n < 2 || s->breaker[recent(s, 0)]) return;
    int32_t *next = (int32_t *)s->candidate, n_next = 0; /* free until candidates are chosen */
    for (int64_t i = 1; i < n; i++) {
        if (recent(s, i) != recent(s, 0)) continue;
        int32_t id = recent(s, i - 1);
        if (s->breaker[id]) continue;
        int length = 1;
        while (length < DRY_MOST && i + length < n) {
            int32_t before = recent(s, i + length);
            if (before != recent(s, length) || s->breaker[before]) break;
            length++;
        }
        if (!s->repeats[id]) next[n_next++] = id;
        if (length > s->repeats[id]) s->repeats[id] = (uint8_t)length;
    }
    for (int32_t i = 0; i < n_next; i++) {
        int over = s->repeats[next[i]] - o->dry_allowed_length;
        if (over >= 0) s->logit[next[i]] -= o->dry_multiplier * powf(o->dry_base, (float)over);
        s->repeats[next[i]] = 0;
    }
}

/* Copies the logits and applies penalties and bias; NaN becomes -infinity. False when no logit is finite. */
static bool prepare(sr_sampler *s, const float *logits) {
    const sr_sampling *o = &s->s;
    bool finite = false;
    for (int32_t i = 0; i < s->n_vocab; i++) {
        float x = logits[i];
        bool ok = fabsf(x) <= FLT_MAX;
        finite |= ok;
        s->logit[i] = ok ? x : x > 0 ? FLT_MAX : -INFINITY;
    }
    if (!finite) return false;
    if (s->recent) penalize_repetition(s);
    bool counts = o->frequency_penalty != 0 || o->presence_penalty != 0, repeats = o->repetition_penalty != 1;
    if (counts || repeats)
        for (int32_t i = 0; i < s->n_touched; i++) {
            int32_t id = s->touched[i];
            float x = s->logit[id];
            if (s->count[id]) x -= (float)s->count[id] * o->frequency_penalty + o->presence_penalty;
            if (repeats) x = x > 0 ? x / o->repetition_penalty : x * o->repetition_penalty;
            s->logit[id] = isnan(x) ? -INFINITY : x;
        }
    for (int i = 0; i < o->n_logit_bias; i++) {
        float x = s->logit[s->bias[i].id] + s->bias[i].bias;
        s->logit[s->bias[i].id] = isnan(x) ? -INFINITY : x;
    }
    return true;
}

static int32_t largest(const sr_sampler *s) {
    int32_t best = -1;
    float most = -INFINITY;
    for (int32_t i = 0; i < s->n_vocab; i++)
        if (s->logit[i] > most) {
            most = s->logit[i];
            best = i;
        }
    return best;
}

static void sift_down(key *h, int32_t n, int32_t i) { /* smallest on top */
    key x = h[i];
    for (int32_t c; (c = 2 * i + 1) < n; i = c) {
        if (c + 1 < n && h[c + 1] < h[c]) c++;
        if (x <= h[c]) break;
        h[i] = h[c];
    }
    h[i] = x;
}

/* Sorts h[n] from large to small, without allocating. */
static void sort_down(key *h, int32_t n) {
    for (int32_t i = n / 2; i-- > 0;) sift_down(h, n, i);
    for (int32_t m = n; m > 1;) {
        key x = h[0];
        h[0] = h[--m];
        h[m] = x;
        sift_down(h, m, 0);
    }
}

/* The k largest, in no order: a heap whose top is the smallest of them; almost every logit fails one comparison. */
static int32_t select_heap(sr_sampler *s, int32_t k) {
    key *h = s->candidate;
    int32_t n = 0, i = 0;
    for (; i < s->n_vocab && n < k; i++)
        if (s->logit[i] > -INFINITY) h[n++] = key_of(s->logit[i], i);
    for (int32_t c = n / 2; c-- > 0;) sift_down(h, n, c);
    if (n < k) return n;
    uint32_t u = (uint32_t)(h[0] >> 32);
    u = u & 0x80000000u ? u & 0x7FFFFFFFu : ~u;
    float least;
    memcpy(&least, &u, 4);
    for (; i < s->n_vocab; i++) {
        if (!(s->logit[i] > least)) continue; /* an equal one has the higher id */
        h[0] = key_of(s->logit[i], i);
        sift_down(h, n, 0);
        u = (uint32_t)(h[0] >> 32);
        u = u & 0x80000000u ? u & 0x7FFFFFFFu : ~u;
        memcpy(&least, &u, 4);
    }
    return n;
}

static int32_t all(sr_sampler *s) {
    int32_t n = 0;
    for (int32_t i = 0; i < s->n_vocab; i++)
        if (s->logit[i] > -INFINITY) s->candidate[n++] = key_of(s->logit[i], i);
    return n;
}

/* Moves the keys >= pivot, which is one of h[lo..hi), to the front; returns where the others begin. */
static int32_t partition(key *h, int32_t lo, int32_t hi, key pivot) {
    while (lo < hi) {
        if (h[lo] >= pivot) {
            lo++;
        } else {
            key x = h[--hi];
            h[hi] = h[lo];
            h[lo] = x;
        }
    }
    return lo;
}

static key median3(const key *h, int32_t lo, int32_t hi) {
    key a = h[lo], b = h[lo + (hi - lo) / 2], c = h[hi - 1];
    if (a > b) {
        key x = a;
        a = b;
        b = x;
    }
    return c < a ? a : c < b ? c : b;
}

static float weight_of(const sr_sampler *s, key k, float most) {
    return expf((s->logit[key_id(k)] - most) / s->s.temperature);
}

enum { SORT_MAX = 256, HEAP_MAX = 1024 };

/* The k largest of many: quickselect. */
static int32_t select_quick(sr_sampler *s, int32_t k) {
    key *h = s->candidate;
    int32_t lo = 0, hi = all(s), n = hi;
    if (n <= k) return n;
    while (hi - lo > SORT_MAX) {
        key pivot = median3(h, lo, hi);
        int32_t mid = partition(h, lo, hi, pivot);
        if (mid == hi) { /* the pivot is the smallest: put it last */
            for (int32_t i = lo; i < hi; i++)
                if (h[i] == pivot) {
                    h[i] = h[hi - 1];
                    h[hi - 1] = pivot;
                    break;
                }
            mid = hi - 1;
        }
        if (mid < k)
            lo = mid;
        else if (mid > k)
            hi = mid;
        else
            return k;
    }
    sort_down(h + lo, hi - lo);
    return k;
}

/* Keeps candidates from the largest on until the mass before one reaches `limit`: quickselect by mass, each round looks
 * at half of what is left. Weights follow their candidates. */
static int32_t keep_mass(sr_sampler *s, int32_t n, double limit) {
    key *h = s->candidate;
    int32_t lo = 0, hi = n;
    double before = 0; /* mass of h[0..lo), all kept; h[hi..n) are dropped */
    while (hi - lo > SORT_MAX) {
        key pivot = median3(h, lo, hi);
        int32_t mid = partition(h, lo, hi, pivot);
        if (mid == hi) {
            for (int32_t i = lo; i < hi; i++)
                if (h[i] == pivot) {
                    h[i] = h[hi - 1];
                    h[hi - 1] = pivot;
                    break;
                }
            mid = hi - 1;
        }
        double mass = 0;
        for (int32_t i = lo; i < mid; i++) mass += s->weight[key_id(h[i])];
        if (before + mass >= limit) {
            hi = mid;
        } else {
            before += mass;
            lo = mid;
        }
    }
    sort_down(h + lo, hi - lo);
    while (lo < hi && before < limit) before += s->weight[key_id(h[lo++])];
    return lo > 0 ? lo : 1;
}

int32_t sr_sample(sr_sampler *s, const float *logits) {
    const sr_sampling *o = &s->s;
    if (!prepare(s, logits)) return -1;
    if (o->temperature < 1e-7f) return largest(s);

    bool top_k = o->top_k > 0 && o->top_k < s->n_vocab;
    int32_t n = !top_k ? all(s) : o->top_k <= HEAP_MAX ? select_heap(s, o->top_k) : select_quick(s, o->top_k);
    if (!n) return -1;
    if (n <= SORT_MAX) sort_down(s->candidate, n);
    key first = s->candidate[0];
    if (n > SORT_MAX)
        for (int32_t i = 1; i < n; i++)
            if (s->candidate[i] > first) first = s->candidate[i];
    float most = s->logit[key_id(first)];
    double total = 0;
    for (int32_t i = 0; i < n; i++) {
        float w = weight_of(s, s->candidate[i], most);
        s->weight[key_id(s->candidate[i])] = w;
        total += w;
    }
    if (o->top_p > 0 && o->top_p < 1) n = keep_mass(s, n, o->top_p * total);
    if (o->min_p > 0 && o->min_p < 1) {
        int32_t kept = 0;
        for (int32_t i = 0; i < n; i++)
            if (s->weight[key_id(s->candidate[i])] > o->min_p) s->candidate[kept++] = s->candidate[i];
        n = kept; /* the largest has weight 1 */
    }
    total = 0;
    for (int32_t i = 0; i < n; i++) total += s->weight[key_id(s->candidate[i])];
    double at = (double)(next(s->state) >> 11) * 0x1p-53 * total;
    for (int32_t i = 0; i < n; i++) {
        at -= s->weight[key_id(s->candidate[i])];
        if (at < 0) return key_id(s->candidate[i]);
    }
    return key_id(first); /* rounding left nothing over */
}

int sr_sampler_logprobs(sr_sampler *s, int32_t id, float *logprob, sr_logprob *top, int n) {
    double t = s->s.temperature < 1e-7f ? 1 : (double)s->s.temperature, sum = 0;
    int32_t best = largest(s);
    double most = best < 0 ? 0 : (double)s->logit[best];
    for (int32_t i = 0; i < s->n_vocab; i++) sum += exp(((double)s->logit[i] - most) / t);
    double norm = most / t + log(sum);
    *logprob = id >= 0 && id < s->n_vocab ? (float)((double)s->logit[id] / t - norm) : -INFINITY;
    int32_t found = n < 1 ? 0 : select_heap(s, n < s->n_vocab ? n : s->n_vocab);
    sort_down(s->candidate, found);
    for (int32_t i = 0; i < found; i++) {
        int32_t one = key_id(s->candidate[i]);
        top[i] = (sr_logprob){one, (float)((double)s->logit[one] / t - norm)};
    }
    return found;
}

sr_status sr_dry_breakers(const sr_tokenizer *t, const char *const *texts, int n, int32_t *ids, int *n_ids,
                          sr_err *err) {
    static const char *const usual[] = {"\n", ":", "\"", "*"};
    enum { CAP = 64 };
    if (!texts) texts = usual, n = 4;
    *n_ids = 0;
    for (int i = 0; i < n; i++) {
        char text[CAP];
        int32_t found[CAP + 8];
        size_t count;
        int length = snprintf(text, sizeof text, "a%s", texts[i]);
        if (length < 2 || length >= CAP)
            return sr_fail(err, SR_INVALID, "sampling: found a DRY breaker of %zu bytes, expected 1 to %d",
                           strlen(texts[i]), CAP - 2);
        sr_status s = sr_tokenize(t, text, (size_t)length, SR_TOKENIZE_NO_BOS, found, CAP + 8, &count, err);
        if (s != SR_OK) return s;
        if (count > 0 && count <= CAP + 8) ids[(*n_ids)++] = found[count - 1];
    }
    return SR_OK;
}
