/* sirocco eval: perplexity by llama.cpp's protocol, and the divergence from a reference.
 *
 * The text is tokenized once, spellings of special tokens as plain text, and cut into windows of n = --ctx tokens; a
 * partial last window is dropped. The first token of a window is replaced by BOS where the model adds one. Positions
 * n/2 .. n-2 are scored: each predicts the token behind it. ppl = exp(mean nll); its standard error is that of the mean
 * nll times ppl (first-order propagation). Protocol: ggml-org/llama.cpp, tools/perplexity/perplexity.cpp. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/map.h"
#include "cli/commands.h"
#include "cli/open.h"
#include "cli/output.h"

enum { MAX_TEXT_BYTES = 1 << 30, KEPT_LOGIT_BYTES = 256 << 20 };

/* Sums over the scored tokens of one model. */
typedef struct score {
    double sum, sum_squares;
    int64_t n;
} score;

static void add_score(score *s, double nll) {
    s->sum += nll;
    s->sum_squares += nll * nll;
    s->n++;
}

static double mean_of(const score *s) {
    return s->n ? s->sum / (double)s->n : NAN;
}

static double stderr_of(const score *s) {
    if (s->n < 2) return NAN;
    double mean = mean_of(s), variance = s->sum_squares / (double)s->n - mean * mean;
    return variance > 0 ? sqrt(variance / (double)(s->n - 1)) : 0;
}

/* Divergence of the model from the reference, KL(reference || model), a value per scored token. */
typedef struct divergence {
    float *kld; /* all values, for quantiles */
    int64_t n, cap, n_same_top;
    score sums;
} divergence;

typedef struct evaluation {
    const cli_args *args;
    opened model, reference;
    bool compare;
    sr_session *session, *reference_session;
    int32_t *id, *window;
    size_t n_ids;
    int32_t n_ctx, first, n_vocab, kept_from;
    float *kept; /* logits of the reference from position kept_from on, [kept_n][n_vocab] */
    int32_t kept_n;
    score ppl, reference_ppl;
    divergence kld;
    bool failed; /* a score was not finite */
} evaluation;

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

static bool is_scored(const evaluation *e, int32_t position) {
    return position >= e->first && position < e->n_ctx - 1;
}

static void keep_reference(void *user, sr_session *s, int32_t position, const float *logits) {
    evaluation *e = user;
    (void)s;
    int32_t i = position - e->kept_from;
    if (!is_scored(e, position) || i < 0 || i >= e->kept_n) return;
    memcpy(e->kept + (size_t)i * (size_t)e->n_vocab, logits, (size_t)e->n_vocab * sizeof *logits);
}

static void score_position(void *user, sr_session *s, int32_t position, const float *logits) {
    evaluation *e = user;
    (void)s;
    if (!is_scored(e, position)) return;
    int32_t next = e->window[position + 1], top, reference_top;
    double norm = log_sum(logits, e->n_vocab, &top), nll = norm - logits[next];
    if (!isfinite(nll)) e->failed = true;
    add_score(&e->ppl, nll);
    if (!e->compare) return;

    const float *r = e->kept + (size_t)(position - e->kept_from) * (size_t)e->n_vocab;
    double reference_norm = log_sum(r, e->n_vocab, &reference_top), kld = 0;
    for (int32_t i = 0; i < e->n_vocab; i++) {
        double log_p = r[i] - reference_norm;
        if (log_p > -50) kld += exp(log_p) * (log_p - (logits[i] - norm)); /* below e^-50 nothing is left to add */
    }
    if (!isfinite(kld)) e->failed = true;
    if (kld < 0) kld = 0; /* rounding */
    add_score(&e->reference_ppl, reference_norm - r[next]);
    add_score(&e->kld.sums, kld);
    e->kld.n_same_top += top == reference_top;
    if (e->kld.n == e->kld.cap) {
        e->kld.cap = e->kld.cap * 2 + 4096;
        e->kld.kld = out_alloc(e->kld.kld, (size_t)e->kld.cap, sizeof *e->kld.kld);
    }
    e->kld.kld[e->kld.n++] = (float)kld;
}

static sr_status step_all(sr_session *s, sr_err *err) {
    while (sr_session_n_pending(s) > 0) {
        sr_status status = sr_step(&s, 1, err);
        if (status != SR_OK) return status;
    }
    return SR_OK;
}

/* Evaluates the first `n` tokens of the window, of which those from `from` on hand their logits to `fn`. */
static sr_status advance(evaluation *e, sr_session *s, int32_t n, sr_logits_fn fn, sr_err *err) {
    sr_session_on_logits(s, fn, e);
    sr_status status = sr_session_sync(s, e->window, n, err);
    return status == SR_OK ? step_all(s, err) : status;
}

/* A session that keeps no common prefix: positions that were kept would not hand out logits again. */
static sr_status forget(evaluation *e, sr_session *s, sr_err *err) {
    int32_t other = e->window[0] ? 0 : 1;
    return sr_session_sync(s, &other, 1, err);
}

static sr_status run_window(evaluation *e, sr_err *err) {
    sr_session *session[2] = {e->session, e->reference_session};
    sr_status status = SR_OK;
    /* Nothing in the first half is scored: no logits, so no work of the head. */
    for (int i = 0; i < 1 + e->compare && status == SR_OK; i++) {
        status = forget(e, session[i], err);
        if (status == SR_OK) status = advance(e, session[i], e->first, NULL, err);
    }
    int32_t block = e->compare ? e->kept_n : e->n_ctx;
    for (int32_t at = e->first; at < e->n_ctx - 1 && status == SR_OK; at += block) {
        int32_t until = at + block < e->n_ctx - 1 ? at + block : e->n_ctx - 1;
        e->kept_from = at;
        if (e->compare) status = advance(e, e->reference_session, until, keep_reference, err);
        if (status == SR_OK) status = advance(e, e->session, until, score_position, err);
    }
    return status;
}

/* ---------------------------------------------------------------- results */

static int by_value(const void *a, const void *b) {
    float x = *(const float *)a, y = *(const float *)b;
    return (x > y) - (x < y);
}

/* Nearest-rank quantile of sorted values. */
static double quantile(const divergence *d, double q) {
    if (d->n == 0) return NAN;
    int64_t i = (int64_t)ceil(q * (double)d->n) - 1;
    return d->kld[i < 0 ? 0 : i];
}

static void print_results(evaluation *e, int64_t n_windows, double seconds) {
    divergence *d = &e->kld;
    if (d->n) qsort(d->kld, (size_t)d->n, sizeof *d->kld, by_value);
    double ppl = exp(mean_of(&e->ppl)), error = ppl * stderr_of(&e->ppl);
    double reference = exp(mean_of(&e->reference_ppl)), reference_error = reference * stderr_of(&e->reference_ppl);
    double same = d->n ? (double)d->n_same_top / (double)d->n : NAN;
    double speed = seconds > 0 ? (double)n_windows * e->n_ctx / seconds : 0;
    if (e->args->json) {
        out_json j = {0};
        json_open(&j, NULL, '{');
        json_real(&j, "perplexity", ppl);
        json_real(&j, "stderr", error);
        json_int(&j, "tokens", e->ppl.n);
        json_int(&j, "ctx", e->n_ctx);
        json_int(&j, "chunks", n_windows);
        json_int(&j, "text_tokens", (int64_t)e->n_ids);
        json_text(&j, "model", e->model.path);
        json_text(&j, "isq", e->model.info.isq);
        json_real(&j, "bits_per_weight", e->model.info.bits_per_weight);
        json_bool(&j, "exact", e->args->exact);
        json_text(&j, "kv_type", sr_session_kv_type(e->session));
        json_real(&j, "seconds", seconds);
        if (e->compare) {
            json_open(&j, "kld", '{');
            json_text(&j, "reference", e->reference.path);
            json_bool(&j, "reference_exact", e->args->kld_exact);
            json_real(&j, "reference_perplexity", reference);
            json_real(&j, "reference_stderr", reference_error);
            json_real(&j, "mean", mean_of(&d->sums));
            json_real(&j, "stderr", stderr_of(&d->sums));
            json_real(&j, "median", quantile(d, 0.5));
            json_real(&j, "p99", quantile(d, 0.99));
            json_real(&j, "max", quantile(d, 1));
            json_real(&j, "top1_agreement", same);
            json_close(&j, '}');
        }
        json_close(&j, '}');
        putchar('\n');
        return;
    }
    printf("perplexity  %.4f +/- %.4f  (95 %%: %.4f to %.4f)\n", ppl, error, ppl - 1.96 * error, ppl + 1.96 * error);
    printf("tokens      %lld scored, %lld windows of %d\n", (long long)e->ppl.n, (long long)n_windows, e->n_ctx);
    if (!e->compare) {
        if (out_verbose()) out_note("%.1f tokens/s", speed);
        return;
    }
    char name[128];
    printf("reference   %s%s, perplexity %.4f +/- %.4f\n", open_name(e->reference.path, name, sizeof name),
           e->args->kld_exact ? " (exact)" : "", reference, reference_error);
    printf("divergence  mean %.4g +/- %.2g, median %.4g, p99 %.4g, max %.4g nats\n", mean_of(&d->sums),
           stderr_of(&d->sums), quantile(d, 0.5), quantile(d, 0.99), quantile(d, 1));
    printf("top choice  the same for %.2f %%\n", 100 * same);
}

/* ---------------------------------------------------------------- the command */

static int tokenize_text(evaluation *e, const sr_tokenizer *t) {
    char *text = NULL;
    size_t n = 0;
    sr_err err = {0};
    if (sr_file_read(e->args->text, MAX_TEXT_BYTES, &text, &n, &err) != SR_OK)
        return out_failure_about(e->args->text, &err);
    size_t cap = n + 8;
    e->id = out_alloc(NULL, cap, sizeof *e->id);
    sr_status status = sr_tokenize(t, text, n, SR_TOKENIZE_NO_SPECIAL, e->id, cap, &e->n_ids, &err);
    if (status == SR_OK && e->n_ids > cap) {
        cap = e->n_ids;
        e->id = out_alloc(e->id, cap, sizeof *e->id);
        status = sr_tokenize(t, text, n, SR_TOKENIZE_NO_SPECIAL, e->id, cap, &e->n_ids, &err);
    }
    free(text);
    return status == SR_OK ? EXIT_FINE : out_failure_about(e->args->text, &err);
}

static int open_reference_model(evaluation *e) {
    const cli_args *a = e->args;
    e->compare = a->kld_exact || a->against;
    if (!e->compare) return EXIT_FINE;
    int code = a->against ? open_reference(a, a->against, NULL, a->kld_exact, &e->reference)
                          : open_reference(a, e->model.path, e->model.isq, true, &e->reference);
    if (code) return code;
    if (e->reference.info.n_vocab != e->n_vocab)
        return out_error(EXIT_FAILED,
                         "the vocabularies differ: %s has %d tokens, %s has %d; compare models of one "
                         "tokenizer",
                         e->model.path, e->n_vocab, e->reference.path, e->reference.info.n_vocab);
    open_banner(&e->reference, NULL);
    int32_t scored = e->n_ctx - 1 - e->first;
    int64_t fit = KEPT_LOGIT_BYTES / ((int64_t)e->n_vocab * (int64_t)sizeof *e->kept);
    e->kept_n = fit < 1 ? 1 : fit < scored ? (int32_t)fit : scored;
    e->kept = out_alloc(NULL, (size_t)e->kept_n * (size_t)e->n_vocab, sizeof *e->kept);
    sr_err err = {0};
    if (sr_session_create(e->reference.model, &(sr_session_options){.n_ctx = e->n_ctx}, &e->reference_session, &err) !=
        SR_OK)
        return out_failure(&err);
    return EXIT_FINE;
}

static int evaluate(evaluation *e) {
    const cli_args *a = e->args;
    sr_err err = {0};
    int code = open_model(a, false, &e->model);
    if (code) return code;
    const sr_tokenizer *t = sr_model_tokenizer(e->model.model);
    if (!t)
        return out_error(EXIT_FAILED, "%s has no tokenizer; put its tokenizer.json beside the weights", e->model.path);
    if ((code = tokenize_text(e, t))) return code;
    e->n_ctx = (int32_t)a->ctx;
    e->first = e->n_ctx / 2;
    e->n_vocab = e->model.info.n_vocab;
    int64_t n_windows = (int64_t)e->n_ids / e->n_ctx;
    if (n_windows < 1)
        return out_error(EXIT_FAILED,
                         "%s has %zu tokens, fewer than one window of %d; use a longer text or a smaller "
                         "--ctx",
                         a->text, e->n_ids, e->n_ctx);
    const sr_session_options options = {.n_ctx = e->n_ctx, .kv_type = a->kv_type};
    if (CLI_GIVEN(a, chunks) && a->chunks < n_windows) n_windows = a->chunks;
    if (sr_session_create(e->model.model, &options, &e->session, &err) != SR_OK) return out_failure(&err);
    open_banner(&e->model, e->session);
    if ((code = open_reference_model(e))) return code;

    e->window = out_alloc(NULL, (size_t)e->n_ctx, sizeof *e->window);
    bool bos = sr_tokenizer_adds_bos(t) && sr_tokenizer_bos(t) >= 0;
    out_progress progress = {0};
    sr_status status = SR_OK;
    double start = sr_clock();
    for (int64_t w = 0; w < n_windows && status == SR_OK; w++) {
        if (w && !e->failed) snprintf(progress.note, sizeof progress.note, "perplexity %.3f", exp(mean_of(&e->ppl)));
        out_progress_to(&progress, "evaluating", (double)w, (double)n_windows);
        memcpy(e->window, e->id + w * e->n_ctx, (size_t)e->n_ctx * sizeof *e->window);
        if (bos) e->window[0] = sr_tokenizer_bos(t);
        status = interrupted() ? sr_fail(&err, SR_CANCELLED, "interrupted") : run_window(e, &err);
        if (status == SR_OK && e->failed)
            status = sr_fail(&err, SR_CORRUPT, "%s: a score in window %lld is not finite (NaN or infinity)",
                             e->model.path, (long long)w);
    }
    out_progress_end(&progress);
    if (status != SR_OK) return out_failure(&err);
    print_results(e, n_windows, sr_clock() - start);
    return EXIT_FINE;
}

int command_eval(const cli_args *args) {
    if (!args->text) return out_error(EXIT_USAGE, "'sirocco eval' needs a text: sirocco eval PATH --text FILE");
    evaluation e = {.args = args};
    interrupt_catch(false);
    int code = evaluate(&e);
    sr_session_free(e.session);
    sr_session_free(e.reference_session);
    open_release(&e.model);
    open_release(&e.reference);
    free(e.id);
    free(e.window);
    free(e.kept);
    free(e.kld.kld);
    return code;
}
