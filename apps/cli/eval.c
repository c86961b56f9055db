/* sirocco eval: perplexity, and the divergence from a reference. */
#include <math.h>
#include <stdlib.h>

#include "cli/commands.h"
#include "cli/output.h"
#include "cli/score.h"

typedef struct evaluation {
    const cli_args *args;
    opened model, other;
    sr_session *session;
    score_text text;
    score_reference reference;
    score score;
    bool compare;
} evaluation;

static void print_json(const evaluation *e) {
    const score *s = &e->score;
    double error, ppl = score_perplexity(&s->nll, &error);
    out_json j = {0};
    json_open(&j, NULL, '{');
    json_real(&j, "perplexity", ppl);
    json_real(&j, "stderr", error);
    json_int(&j, "tokens", s->nll.n);
    json_int(&j, "ctx", e->text.n_ctx);
    json_int(&j, "chunks", e->text.n_windows);
    json_int(&j, "text_tokens", (int64_t)e->text.n_ids);
    json_text(&j, "model", e->model.path);
    json_text(&j, "isq", e->model.info.isq);
    json_real(&j, "bits_per_weight", e->model.info.bits_per_weight);
    json_bool(&j, "exact", e->args->exact);
    json_text(&j, "kv_type", sr_session_kv_type(e->session));
    json_real(&j, "seconds", s->seconds);
    if (e->compare) {
        ppl = score_perplexity(&s->reference_nll, &error);
        json_open(&j, "kld", '{');
        json_text(&j, "reference", e->other.path);
        json_bool(&j, "reference_exact", e->args->kld_exact);
        json_real(&j, "reference_perplexity", ppl);
        json_real(&j, "reference_stderr", error);
        json_real(&j, "mean", score_mean(&s->kld));
        json_real(&j, "stderr", score_stderr(&s->kld));
        json_real(&j, "median", score_quantile(s, 0.5));
        json_real(&j, "p99", score_quantile(s, 0.99));
        json_real(&j, "max", score_quantile(s, 1));
        json_real(&j, "top1_agreement", (double)s->n_same_top / (double)s->kld.n);
        json_close(&j, '}');
    }
    json_close(&j, '}');
    putchar('\n');
}

static void print_results(const evaluation *e) {
    const score *s = &e->score;
    double error, ppl = score_perplexity(&s->nll, &error);
    printf("perplexity  %.4f +/- %.4f  (95 %%: %.4f to %.4f)\n", ppl, error, ppl - 1.96 * error, ppl + 1.96 * error);
    printf("tokens      %lld scored, %lld windows of %d\n", (long long)s->nll.n, (long long)e->text.n_windows,
           e->text.n_ctx);
    if (!e->compare) {
        if (out_verbose() && s->seconds > 0)
            out_note("%.1f tokens/s", (double)e->text.n_windows * e->text.n_ctx / s->seconds);
        return;
    }
    char name[128];
    ppl = score_perplexity(&s->reference_nll, &error);
    printf("reference   %s%s, perplexity %.4f +/- %.4f\n", open_name(e->other.path, name, sizeof name),
           e->args->kld_exact ? " (exact)" : "", ppl, error);
    printf("divergence  mean %.4g +/- %.2g, median %.4g, p99 %.4g, max %.4g nats\n", score_mean(&s->kld),
           score_stderr(&s->kld), score_quantile(s, 0.5), score_quantile(s, 0.99), score_quantile(s, 1));
    printf("top choice  the same for %.2f %%\n", 100 * (double)s->n_same_top / (double)s->kld.n);
}

static int open_other(evaluation *e) {
    const cli_args *a = e->args;
    e->compare = a->kld_exact || a->against;
    if (!e->compare) return EXIT_FINE;
    int code = a->against ? open_reference(a, a->against, NULL, a->kld_exact, &e->other)
                          : open_again(a, &e->model, true, &e->other);
    if (code) return code;
    open_banner(&e->other, NULL);
    return score_reference_open(&e->text, &e->other, NULL, 1, &e->reference);
}

static int evaluate(evaluation *e) {
    const cli_args *a = e->args;
    sr_err err = {0};
    int code = open_model(a, false, &e->model);
    if (!code) code = score_text_read(a, a->text, &e->model, &e->text);
    if (code) return code;
    const sr_session_options options = {.n_ctx = e->text.n_ctx, .kv_type = a->kv_type};
    if (sr_session_create(e->model.model, &options, &e->session, &err) != SR_OK) return out_failure(&err);
    open_banner(&e->model, e->session);
    code = open_other(e);
    if (!code) code = score_run(&e->text, &e->model, e->session, e->compare ? &e->reference : NULL, &e->score);
    if (!code) (a->json ? print_json : print_results)(e);
    return code;
}

int command_eval(const cli_args *args) {
    if (!args->text) return out_error(EXIT_USAGE, "'sirocco eval' needs a text: sirocco eval PATH --text FILE");
    evaluation e = {.args = args};
    interrupt_catch(false);
    int code = evaluate(&e);
    score_free(&e.score);
    score_reference_close(&e.reference);
    score_text_free(&e.text);
    sr_session_free(e.session);
    open_release(&e.model);
    open_release(&e.other);
    return code;
}
