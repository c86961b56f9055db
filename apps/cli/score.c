/* The text is tokenized once, spellings of special tokens as plain text, and cut into windows of n = --ctx tokens; a
 * partial last window is dropped. The first token of a window is replaced by BOS where the model adds one. Positions
 * n/2 .. n-2 are scored: each predicts the token behind it. Protocol: ggml-org/llama.cpp,
 * tools/perplexity/perplexity.cpp. */
#include "cli/score.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/map.h"
#include "cli/output.h"

enum { MAX_TEXT_BYTES = 1 << 30, KEPT_LOGIT_BYTES = 256 << 20 };

/* ---------------------------------------------------------------- sums */

static void add_to(score_sums *s, double x) {
    s->sum += x;
    s->sum_squares += x * x;
    s->n++;
}

double score_mean(const score_sums *s) {
    return s->n ? s->sum / (double)s->n : NAN;
}

double score_stderr(const score_sums *s) {
    if (s->n < 2) return NAN;
    double mean = score_mean(s), variance = s->sum_squares / (double)s->n - mean * mean;
    return variance > 0 ? sqrt(variance / (double)(s->n - 1)) : 0;
}

double score_perplexity(const score_sums *nll, double *error) {
    double ppl = exp(score_mean(nll));
    *error = ppl * score_stderr(nll);
    return ppl;
}

double score_quantile(const score *s, double q) {
    if (s->kld.n == 0) return NAN;
    int64_t i = (int64_t)ceil(q * (double)s->kld.n) - 1;
    return (double)s->each[i < 0 ? 0 : i];
}

static int by_value(const void *a, const void *b) {
    float x = *(const float *)a, y = *(const float *)b;
    return (x > y) - (x < y);
}

void score_free(score *s) {
    free(s->each);
    *s = (score){0};
}

/* ---------------------------------------------------------------- the text */

static int tokenize_text(score_text *t, const char *path, const sr_tokenizer *tokenizer) {
    char *text = NULL;
    size_t n = 0;
    sr_err err = {0};
    if (sr_file_read(path, MAX_TEXT_BYTES, &text, &n, &err) != SR_OK) return out_failure_about(path, &err);
    size_t cap = n + 8;
    t->id = out_alloc(NULL, cap, sizeof *t->id);
    sr_status status = sr_tokenize(tokenizer, text, n, SR_TOKENIZE_NO_SPECIAL, t->id, cap, &t->n_ids, &err);
    if (status == SR_OK && t->n_ids > cap) {
        cap = t->n_ids;
        t->id = out_alloc(t->id, cap, sizeof *t->id);
        status = sr_tokenize(tokenizer, text, n, SR_TOKENIZE_NO_SPECIAL, t->id, cap, &t->n_ids, &err);
    }
    free(text);
    return status == SR_OK ? EXIT_FINE : out_failure_about(path, &err);
}

static int read_text(const cli_args *args, const char *path, const sr_tokenizer *tokenizer, const char *model,
                     score_text *t) {
    *t = (score_text){.n_ctx = (int32_t)args->ctx, .first = (int32_t)args->ctx / 2, .bos = -1};
    if (!tokenizer)
        return out_error(EXIT_FAILED, "%s has no tokenizer; put its tokenizer.json beside the weights", model);
    int code = tokenize_text(t, path, tokenizer);
    if (code) return code;
    t->n_windows = (int64_t)t->n_ids / t->n_ctx;
    if (t->n_windows < 1)
        return out_error(EXIT_FAILED,
                         "%s has %zu tokens, fewer than one window of %d; use a longer text or a smaller "
                         "--ctx",
                         path, t->n_ids, t->n_ctx);
    if (CLI_GIVEN(args, chunks) && args->chunks < t->n_windows) t->n_windows = args->chunks;
    if (sr_tokenizer_adds_bos(tokenizer)) t->bos = sr_tokenizer_bos(tokenizer);
    return EXIT_FINE;
}

int score_text_read(const cli_args *args, const char *path, const opened *model, score_text *t) {
    return read_text(args, path, sr_model_tokenizer(model->model), model->path, t);
}

int score_text_read_for(const cli_args *args, const char *path, const char *model, score_text *t) {
    sr_tokenizer *tokenizer;
    sr_err err = {0};
    *t = (score_text){0};
    if (sr_tokenizer_open(model, &tokenizer, &err) != SR_OK) return out_failure_about(model, &err);
    int code = read_text(args, path, tokenizer, model, t);
    sr_tokenizer_free(tokenizer);
    return code;
}

void score_text_window(const score_text *t, int64_t i, int32_t *out) {
    memcpy(out, t->id + i * t->n_ctx, (size_t)t->n_ctx * sizeof *out);
    if (t->bos >= 0) out[0] = t->bos;
}

void score_text_free(score_text *t) {
    free(t->id);
    *t = (score_text){0};
}

/* ---------------------------------------------------------------- a window */

/* One model on its way through the text. */
typedef struct scoring {
    const score_text *text;
    sr_session *session;
    score_reference *reference; /* NULL: none */
    score *score;
    int32_t *window;
    int64_t number; /* of the window */
    int32_t n_vocab;
    bool failed; /* a score was not finite */
} scoring;

/* Largest of logits[n] and log(sum(exp(logits - largest))). */
static double log_sum(const float *logits, int32_t n, int32_t *top) {
    int32_t best = 0;
    for (int32_t i = 1; i < n; i++)
        if (logits[i] > logits[best]) best = i;
    float largest = logits[best];
    double sum = 0;
    for (int32_t i = 0; i < n; i++) sum += expf(logits[i] - largest);
    *top = best;
    return largest + log(sum);
}

static bool is_scored(const scoring *e, int32_t position) {
    return position >= e->text->first && position < e->text->n_ctx - 1;
}

/* Where the reference's logits of a position are kept. */
static float *kept_at(const scoring *e, int32_t position) {
    const score_reference *r = e->reference;
    const int64_t window = r->all ? e->number : 0;
    return r->kept + (size_t)(window * r->kept_n + position - r->kept_from) * (size_t)e->n_vocab;
}

static void keep_reference(void *user, sr_session *s, int32_t position, const float *logits) {
    scoring *e = user;
    (void)s;
    int32_t i = position - e->reference->kept_from;
    if (!is_scored(e, position) || i < 0 || i >= e->reference->kept_n) return;
    memcpy(kept_at(e, position), logits, (size_t)e->n_vocab * sizeof *logits);
}

static void score_position(void *user, sr_session *session, int32_t position, const float *logits) {
    scoring *e = user;
    score *s = e->score;
    (void)session;
    if (!is_scored(e, position)) return;
    int32_t next = e->window[position + 1], top, reference_top;
    double norm = log_sum(logits, e->n_vocab, &top), nll = norm - logits[next];
    if (!isfinite(nll)) e->failed = true;
    add_to(&s->nll, nll);
    if (!e->reference) return;

    const float *r = kept_at(e, position);
    double reference_norm = log_sum(r, e->n_vocab, &reference_top), kld = 0;
    for (int32_t i = 0; i < e->n_vocab; i++) {
        double log_p = r[i] - reference_norm;
        if (log_p > -50) kld += exp(log_p) * (log_p - (logits[i] - norm)); /* below e^-50 nothing is left to add */
    }
    if (!isfinite(kld)) e->failed = true;
    if (kld < 0) kld = 0; /* rounding */
    add_to(&s->reference_nll, reference_norm - r[next]);
    add_to(&s->change, nll - (reference_norm - r[next]));
    add_to(&s->kld, kld);
    s->n_same_top += top == reference_top;
    if (s->kld.n > s->cap) {
        s->cap = s->cap * 2 + 4096;
        s->each = out_alloc(s->each, (size_t)s->cap, sizeof *s->each);
    }
    s->each[s->kld.n - 1] = (float)kld;
}

static sr_status step_all(sr_session *s, sr_err *err) {
    while (sr_session_n_pending(s) > 0) {
        sr_status status = sr_step(&s, 1, err);
        if (status != SR_OK) return status;
    }
    return SR_OK;
}

/* Evaluates the first `n` tokens of the window, of which those that are new hand their logits to `fn`. */
static sr_status advance(scoring *e, sr_session *s, int32_t n, sr_logits_fn fn, sr_err *err) {
    sr_session_on_logits(s, fn, e);
    sr_status status = sr_session_sync(s, e->window, n, err);
    return status == SR_OK ? step_all(s, err) : status;
}

/* A session that keeps no common prefix: positions that were kept would not hand out logits again. */
static sr_status forget(const scoring *e, sr_session *s, sr_err *err) {
    int32_t other = e->window[0] ? 0 : 1;
    return sr_session_sync(s, &other, 1, err);
}

static sr_status run_window(scoring *e, sr_err *err) {
    const score_text *t = e->text;
    score_reference *r = e->reference;
    const bool both = r && !r->filled;
    sr_session *session[2] = {e->session, both ? r->session : NULL};
    sr_status status = SR_OK;
    /* Nothing in the first half is scored: no logits, so no work of the head. */
    for (int i = 0; i < 1 + both && status == SR_OK; i++) {
        status = forget(e, session[i], err);
        if (status == SR_OK) status = advance(e, session[i], t->first, NULL, err);
    }
    const int32_t end = t->n_ctx - 1, block = r ? r->kept_n : t->n_ctx;
    for (int32_t at = t->first; at < end && status == SR_OK; at += block) {
        int32_t until = at + block < end ? at + block : end;
        if (r) r->kept_from = at;
        if (both) status = advance(e, r->session, until, keep_reference, err);
        if (status == SR_OK) status = advance(e, e->session, until, score_position, err);
    }
    return status;
}

/* ---------------------------------------------------------------- a model */

int score_reference_open(const score_text *t, const opened *model, const char *kv_type, int n_models,
                         score_reference *r) {
    const int32_t n_vocab = model->info.n_vocab, scored = t->n_ctx - 1 - t->first;
    const int64_t fit = KEPT_LOGIT_BYTES / ((int64_t)n_vocab * (int64_t)sizeof *r->kept);
    *r = (score_reference){.model = model, .all = n_models > 1 && fit / scored >= t->n_windows};
    r->kept_n = fit < 1 ? 1 : fit < scored ? (int32_t)fit : scored;
    r->kept =
        out_alloc(NULL, (size_t)r->kept_n * (size_t)(r->all ? t->n_windows : 1) * (size_t)n_vocab, sizeof *r->kept);
    sr_err err = {0};
    const sr_session_options options = {.n_ctx = t->n_ctx, .kv_type = kv_type};
    return sr_session_create(model->model, &options, &r->session, &err) == SR_OK ? EXIT_FINE : out_failure(&err);
}

void score_reference_close(score_reference *r) {
    sr_session_free(r->session);
    free(r->kept);
    *r = (score_reference){0};
}

int score_run(const score_text *t, const opened *model, sr_session *session, score_reference *r, score *s) {
    *s = (score){0};
    if (r && r->model->info.n_vocab != model->info.n_vocab)
        return out_error(EXIT_FAILED,
                         "the vocabularies differ: %s has %d tokens, %s has %d; compare models of one tokenizer",
                         model->path, model->info.n_vocab, r->model->path, r->model->info.n_vocab);
    scoring e = {.text = t,
                 .session = session,
                 .reference = r,
                 .score = s,
                 .n_vocab = model->info.n_vocab,
                 .window = out_alloc(NULL, (size_t)t->n_ctx, sizeof *e.window)};
    out_progress progress = {0};
    sr_err err = {0};
    sr_status status = SR_OK;
    double start = sr_clock();
    for (e.number = 0; e.number < t->n_windows && status == SR_OK; e.number++) {
        if (e.number) snprintf(progress.note, sizeof progress.note, "perplexity %.3f", exp(score_mean(&s->nll)));
        out_progress_to(&progress, "evaluating", (double)e.number, (double)t->n_windows);
        score_text_window(t, e.number, e.window);
        status = interrupted() ? sr_fail(&err, SR_CANCELLED, "interrupted") : run_window(&e, &err);
        if (status == SR_OK && e.failed)
            status = sr_fail(&err, SR_CORRUPT, "%s: a score in window %lld is not finite (NaN or infinity)",
                             model->path, (long long)e.number);
    }
    out_progress_end(&progress);
    free(e.window);
    if (status != SR_OK) return out_failure(&err);
    s->seconds = sr_clock() - start;
    if (s->kld.n) qsort(s->each, (size_t)s->kld.n, sizeof *s->each, by_value);
    if (r && r->all) r->filled = true;
    return EXIT_FINE;
}
