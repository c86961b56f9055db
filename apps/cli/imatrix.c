/* sirocco imatrix: what a model's matrices are multiplied with, over a text. */
#include "cli/imatrix.h"

#include <stdlib.h>

#include "cli/commands.h"
#include "cli/output.h"
#include "cli/score.h"

/* Windows of n_ctx tokens, each a text of its own. */
static int step_through(const score_text *t, const opened *o, sr_imatrix *im) {
    sr_session *session;
    sr_err err = {0};
    if (sr_session_create(o->model, &(sr_session_options){.n_ctx = t->n_ctx}, &session, &err) != SR_OK)
        return out_failure(&err);
    int32_t *window = out_alloc(NULL, (size_t)t->n_ctx, sizeof *window);
    out_progress progress = {0};
    sr_status s = SR_OK;
    for (int64_t w = 0; w < t->n_windows && s == SR_OK; w++) {
        out_progress_to(&progress, "collecting importances", (double)w, (double)t->n_windows);
        score_text_window(t, w, window);
        s = interrupted() ? sr_fail(&err, SR_CANCELLED, "interrupted") : sr_session_sync(session, window, 1, &err);
        if (s == SR_OK) s = sr_session_sync(session, window, t->n_ctx, &err);
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
    score_text t;
    int code = score_text_read(args, text, o, &t);
    if (!code && sr_imatrix_observe(o->model, im, &err) != SR_OK) code = out_failure(&err);
    if (!code) code = step_through(&t, o, *im);
    score_text_free(&t);
    return code;
}

int command_imatrix(const cli_args *args) {
    opened o = {.writes = true};
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
