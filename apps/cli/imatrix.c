/* sirocco imatrix: what a model's matrices are multiplied with, over a text. */
#include "cli/imatrix.h"

#include <stdlib.h>
#include <string.h>

#include "base/map.h"
#include "cli/commands.h"
#include "cli/open.h"
#include "cli/output.h"

enum { MAX_TEXT_BYTES = 1 << 30 };

static int tokenize(const sr_tokenizer *t, const char *path, int32_t **id, size_t *n) {
    char *text = NULL;
    size_t bytes = 0;
    sr_err err = {0};
    if (sr_file_read(path, MAX_TEXT_BYTES, &text, &bytes, &err) != SR_OK) return out_failure_about(path, &err);
    sr_status s = sr_tokenize(t, text, bytes, SR_TOKENIZE_NO_SPECIAL, NULL, 0, n, &err);
    if (s == SR_OK) {
        *id = out_alloc(NULL, *n + 1, sizeof **id);
        s = sr_tokenize(t, text, bytes, SR_TOKENIZE_NO_SPECIAL, *id, *n, n, &err);
    }
    free(text);
    return s == SR_OK ? EXIT_FINE : out_failure_about(path, &err);
}

/* Windows of n_ctx tokens, each a text of its own. */
static int step_through(const cli_args *args, const opened *o, sr_imatrix *im, const int32_t *id, size_t n) {
    const int32_t n_ctx = (int32_t)args->ctx;
    const sr_tokenizer *t = sr_model_tokenizer(o->model);
    const bool bos = sr_tokenizer_adds_bos(t) && sr_tokenizer_bos(t) >= 0;
    int64_t windows = (int64_t)n / n_ctx;
    sr_session *session;
    sr_err err = {0};
    if (windows < 1)
        return out_error(EXIT_FAILED,
                         "the text has %zu tokens, fewer than one window of %d; use a longer one or a "
                         "smaller --ctx",
                         n, n_ctx);
    if (CLI_GIVEN(args, chunks) && args->chunks < windows) windows = args->chunks;
    if (sr_session_create(o->model, &(sr_session_options){.n_ctx = n_ctx}, &session, &err) != SR_OK)
        return out_failure(&err);
    int32_t *window = out_alloc(NULL, (size_t)n_ctx, sizeof *window);
    out_progress progress = {0};
    sr_status s = SR_OK;
    for (int64_t w = 0; w < windows && s == SR_OK; w++) {
        out_progress_to(&progress, "collecting importances", (double)w, (double)windows);
        memcpy(window, id + w * n_ctx, (size_t)n_ctx * sizeof *window);
        if (bos) window[0] = sr_tokenizer_bos(t);
        s = interrupted() ? sr_fail(&err, SR_CANCELLED, "interrupted") : sr_session_sync(session, window, 1, &err);
        if (s == SR_OK) s = sr_session_sync(session, window, n_ctx, &err);
        while (s == SR_OK && sr_session_n_pending(session) > 0) s = sr_step(&session, 1, &err);
        sr_imatrix_chunk(im);
        const int32_t other = window[0] ? 0 : 1; /* so that no prefix is kept */
        if (s == SR_OK) s = sr_session_sync(session, &other, 1, &err);
    }
    out_progress_end(&progress);
    free(window);
    sr_session_free(session);
    return s == SR_OK ? EXIT_FINE : out_failure(&err);
}

int imatrix_collect(const cli_args *args, opened *o, const char *text, sr_imatrix **im) {
    sr_err err = {0};
    int32_t *id = NULL;
    size_t n = 0;
    const sr_tokenizer *t = sr_model_tokenizer(o->model);
    if (!t) return out_error(EXIT_FAILED, "%s has no tokenizer; put its tokenizer.json beside the weights", o->path);
    int code = tokenize(t, text, &id, &n);
    if (!code && sr_imatrix_observe(o->model, im, &err) != SR_OK) code = out_failure(&err);
    if (!code) code = step_through(args, o, *im, id, n);
    free(id);
    return code;
}

int command_imatrix(const cli_args *args) {
    opened o = {0};
    sr_imatrix *im = NULL;
    sr_err err = {0};
    if (!args->text || !args->output)
        return out_error(EXIT_USAGE, "'sirocco imatrix' needs a text and a file to write: sirocco imatrix MODEL --text "
                                     "FILE -o imatrix.gguf");
    interrupt_catch(false);
    int code = open_model(args, false, &o);
    if (!code) open_banner(&o, NULL);
    if (!code) code = imatrix_collect(args, &o, args->text, &im);
    for (int i = 0; i < args->merge.n && !code; i++)
        if (sr_imatrix_read(im, args->merge.at[i], &im, &err) != SR_OK) code = out_failure(&err);
    if (!code && sr_imatrix_write(im, args->output, args->ctx, &err) != SR_OK) code = out_failure(&err);
    if (!code) out_note("%s: importances of %d matrices", args->output, sr_imatrix_entries(im));
    sr_imatrix_free(im);
    open_release(&o);
    return code;
}
