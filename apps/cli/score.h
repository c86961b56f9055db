/* What eval and compare measure: perplexity of a model over a text by llama.cpp's protocol, and its divergence from a
 * reference that runs beside it, window by window. */
#ifndef CLI_SCORE_H
#define CLI_SCORE_H

#include "cli/open.h"

/* A text as windows of tokens: of each, positions first .. n_ctx - 2 are scored. */
typedef struct score_text {
    int32_t *id; /* owned */
    size_t n_ids;
    int32_t n_ctx, first, bos; /* bos: replaces the first token of a window; -1: nothing does */
    int64_t n_windows;
} score_text;
/* The file `path` by --ctx and --chunks with this model's tokenizer. Returns an exit code, after telling why; free in
 * both cases. */
int score_text_read(const cli_args *args, const char *path, const opened *model, score_text *t);
/* The same for the model at that path, of which nothing else is opened. */
int score_text_read_for(const cli_args *args, const char *path, const char *model, score_text *t);
/* Window `i` into out [n_ctx]. */
void score_text_window(const score_text *t, int64_t i, int32_t *out);
void score_text_free(score_text *t);

/* The model to compare with. Its logits are computed for each model that is scored, or kept where those of all windows
 * fit in 256 MiB and more than one model is compared. */
typedef struct score_reference {
    const opened *model; /* borrowed */
    sr_session *session;
    float *kept; /* logits of positions kept_from on, [kept_n][n_vocab]; of all windows one behind the other */
    int32_t kept_n, kept_from;
    bool all, filled;
} score_reference;
int score_reference_open(const score_text *t, const opened *model, const char *kv_type, int n_models,
                         score_reference *r);
void score_reference_close(score_reference *r);

/* Sums of one number for each scored token. */
typedef struct score_sums {
    double sum, sum_squares;
    int64_t n;
} score_sums;
double score_mean(const score_sums *s);
double score_stderr(const score_sums *s); /* of the mean */

typedef struct score {
    score_sums nll;
    /* Below: with a reference. */
    score_sums reference_nll, change; /* change: nll minus the reference's of the same token */
    score_sums kld;                   /* KL(reference || model) in nats */
    float *each;                      /* kld of every token, sorted; owned */
    int64_t cap, n_same_top;
    double seconds;
} score;
/* Perplexity is exp of a mean nll, its standard error that of the mean times it (first-order propagation). */
double score_perplexity(const score_sums *nll, double *error);
/* Nearest-rank quantile of the divergence. */
double score_quantile(const score *s, double q);
/* Runs the text through a session of `model`, and through the reference unless that is NULL. Vocabularies that differ
 * are refused. Returns an exit code; free in both cases. */
int score_run(const score_text *t, const opened *model, sr_session *session, score_reference *r, score *s);
void score_free(score *s);

#endif
