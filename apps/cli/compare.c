/* sirocco compare: what quantizing cost. The reference stays open; candidates are opened, scored and closed in turn. */
#include "cli/compare.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/disk.h"
#include "cli/commands.h"
#include "cli/hub.h"

/* Of a normal distribution: 95 % lie within so many standard deviations. */
static const double within_95 = 1.96;

/* ---------------------------------------------------------------- numbers */

double compare_error(const compared *c, const char *role, int layer) {
    double error = 0, power = 0;
    int n = 0;
    for (int i = 0; i < c->n_matrices; i++) {
        const sr_matrix_error *m = &c->matrix[i];
        if ((role && strcmp(role, m->role) != 0) || (layer != -2 && layer != m->layer)) continue;
        error += m->error;
        power += m->power;
        n++;
    }
    return n == 0 ? NAN : power > 0 ? sqrt(error / power) : error > 0 ? INFINITY : 0;
}

const char *compare_role(const comparison *c, int i) {
    const compared *most = &c->candidate[0];
    for (int k = 1; k < c->n; k++)
        if (c->candidate[k].n_matrices > most->n_matrices) most = &c->candidate[k];
    for (int k = 0; k < most->n_matrices; k++) {
        int before = 0;
        while (before < k && strcmp(most->matrix[before].role, most->matrix[k].role) != 0) before++;
        if (before == k && i-- == 0) return most->matrix[k].role;
    }
    return NULL;
}

double compare_change(const score *s, double *half) {
    const double ratio = exp(score_mean(&s->change));
    *half = within_95 * ratio * score_stderr(&s->change);
    return ratio - 1;
}

static double agreement(const score *s) {
    return (double)s->n_same_top / (double)s->kld.n;
}

/* ---------------------------------------------------------------- output */

static void print_table(const comparison *c) {
    static const char *const head[] = {"model", "type",     "size", "bits/w", "perplexity", "change",
                                       "KLD",   "+/- 95 %", "p99",  "max",    "same top"};
    enum { COLUMNS = sizeof head / sizeof *head };
    out_table t = {.align = "llrrrrrrrrr"};
    char size[OUT_NUMBER];
    double error, half;
    for (int i = 0; i < COLUMNS; i++) out_cell(&t, "%s", head[i]);
    for (int i = -1; i < c->n; i++) {
        const compared *x = i < 0 ? &c->a : &c->candidate[i];
        const score *s = i < 0 ? &c->candidate[0].score : &x->score;
        out_cell(&t, "%s", x->name);
        out_cell(&t, "%s", x->type);
        out_cell(&t, "%s", out_size(size, (double)x->bytes));
        out_cell(&t, "%.2f", x->bits_per_weight);
        out_cell(&t, "%.4f", score_perplexity(i < 0 ? &s->reference_nll : &s->nll, &error));
        if (i < 0) {
            for (int k = 5; k < COLUMNS; k++) out_cell(&t, "-");
            continue;
        }
        const double change = compare_change(s, &half);
        out_cell(&t, "%+.3f %% +/- %.3f", 100 * change, 100 * half);
        out_cell(&t, "%.4g", score_mean(&s->kld));
        out_cell(&t, "%.2g", within_95 * score_stderr(&s->kld));
        out_cell(&t, "%.4g", score_quantile(s, 0.99));
        out_cell(&t, "%.4g", score_quantile(s, 1));
        out_cell(&t, "%.2f %%", 100 * agreement(s));
    }
    out_table_print(&t, 0);
    printf("%lld tokens of %lld windows of %d; KLD in nats, from the first model to each\n",
           (long long)c->candidate[0].score.kld.n, (long long)c->text.n_windows, c->text.n_ctx);
}

static void print_errors(const comparison *c) {
    char align[MOST_CANDIDATES + 2] = "l";
    if (!compare_role(c, 0)) return;
    for (int i = 0; i < c->n; i++) align[i + 1] = 'r';
    out_table t = {.align = align};
    printf("\nerror of the matrices, relative rms in %%\n");
    out_cell(&t, "matrices");
    for (int i = 0; i < c->n; i++) out_cell(&t, "%s", c->candidate[i].isq ? c->candidate[i].isq : c->candidate[i].name);
    for (int r = 0; r == 0 || compare_role(c, r - 1); r++) {
        const char *role = r ? compare_role(c, r - 1) : NULL;
        out_cell(&t, "%s", role ? role : "all");
        for (int i = 0; i < c->n; i++) {
            const double e = compare_error(&c->candidate[i], role, -2);
            if (isfinite(e))
                out_cell(&t, "%.3f", 100 * e);
            else
                out_cell(&t, "-");
        }
    }
    out_table_print(&t, 0);
}

static void json_model(out_json *j, const compared *x) {
    json_text(j, "name", x->name);
    json_text(j, "path", x->path);
    json_text(j, "isq", x->isq);
    json_text(j, "type", x->type);
    json_int(j, "bytes", x->bytes);
    json_real(j, "bits_per_weight", x->bits_per_weight);
}

static void json_candidate(out_json *j, const compared *x) {
    const score *s = &x->score;
    double error, half, change = compare_change(s, &half);
    const double mean = score_mean(&s->kld), kld_half = within_95 * score_stderr(&s->kld);
    json_open(j, NULL, '{');
    json_model(j, x);
    json_real(j, "perplexity", score_perplexity(&s->nll, &error));
    json_real(j, "stderr", error);
    json_real(j, "perplexity_change", change);
    json_real(j, "perplexity_change_low", change - half);
    json_real(j, "perplexity_change_high", change + half);
    json_open(j, "kld", '{');
    json_real(j, "mean", mean);
    json_real(j, "low", mean > kld_half ? mean - kld_half : 0);
    json_real(j, "high", mean + kld_half);
    json_real(j, "median", score_quantile(s, 0.5));
    json_real(j, "p99", score_quantile(s, 0.99));
    json_real(j, "max", score_quantile(s, 1));
    json_close(j, '}');
    json_real(j, "top1_agreement", agreement(s));
    json_real(j, "seconds", s->seconds);
    json_real(j, "error", compare_error(x, NULL, -2));
    json_open(j, "matrices", '[');
    for (int i = 0; i < x->n_matrices; i++) {
        const sr_matrix_error *m = &x->matrix[i];
        json_open(j, NULL, '{');
        json_text(j, "role", m->role);
        json_int(j, "layer", m->layer);
        json_int(j, "rows", m->N);
        json_int(j, "columns", m->K);
        json_text(j, "from", m->from);
        json_text(j, "to", m->to);
        json_real(j, "error", m->power > 0 ? sqrt(m->error / m->power) : m->error > 0 ? INFINITY : 0);
        json_close(j, '}');
    }
    json_close(j, ']');
    json_close(j, '}');
}

static void print_json(const comparison *c) {
    const score *first = &c->candidate[0].score;
    double error;
    out_json j = {0};
    json_open(&j, NULL, '{');
    json_open(&j, "reference", '{');
    json_model(&j, &c->a);
    json_real(&j, "perplexity", score_perplexity(&first->reference_nll, &error));
    json_real(&j, "stderr", error);
    json_close(&j, '}');
    json_text(&j, "text", c->args->text);
    json_int(&j, "tokens", first->kld.n);
    json_int(&j, "ctx", c->text.n_ctx);
    json_int(&j, "chunks", c->text.n_windows);
    json_bool(&j, "exact", c->args->exact);
    json_open(&j, "candidates", '[');
    for (int i = 0; i < c->n; i++) json_candidate(&j, &c->candidate[i]);
    json_close(&j, ']');
    json_close(&j, '}');
    putchar('\n');
}

/* ---------------------------------------------------------------- a candidate */

static void describe(const opened *o, const char *isq, compared *x) {
    open_name(o->path, x->name, sizeof x->name);
    const char *type = *o->type ? o->type : o->info.container;
    if (isq)
        snprintf(x->type, sizeof x->type, "%.32s -> %.32s", type, o->info.isq);
    else
        snprintf(x->type, sizeof x->type, "%.64s", type);
    x->bytes = o->info.weight_bytes;
    x->bits_per_weight = o->info.bits_per_weight;
}

/* The windows are the reference's tokens: another tokenizer would have made others of the same text. */
static void check_tokens(const comparison *c, const opened *o) {
    const sr_tokenizer *a = sr_model_tokenizer(c->model.model), *b = sr_model_tokenizer(o->model);
    const char *piece[2];
    int32_t id = 0, n = sr_tokenizer_n_vocab(a);
    if (!b || o->info.n_vocab != c->model.info.n_vocab) return;
    while (id < n && (piece[0] = sr_token_piece(a, id)) && (piece[1] = sr_token_piece(b, id)) &&
           strcmp(piece[0], piece[1]) == 0)
        id++;
    if (id < n)
        out_warning("%s: its token %d is another one than the reference's; what is measured may mean nothing", o->path,
                    id);
}

struct matrices {
    compared *to;
    double done, total;
    out_progress progress;
};

static bool add_matrix(void *user, const sr_matrix_error *e) {
    struct matrices *m = user;
    compared *x = m->to;
    x->matrix = out_alloc(x->matrix, (size_t)x->n_matrices + 1, sizeof *x->matrix);
    x->matrix[x->n_matrices++] = *e;
    m->done += (double)e->N * (double)e->K;
    out_progress_to(&m->progress, "comparing matrices", m->done, m->total);
    return !interrupted();
}

static int compare_with(comparison *c, opened *o, compared *x) {
    sr_err err = {0};
    sr_session *session = NULL;
    int code = open_reference(c->args, x->path, x->isq, c->args->exact, o);
    if (code) return code;
    describe(o, x->isq, x);
    const sr_session_options options = {.n_ctx = c->text.n_ctx, .kv_type = c->args->kv_type};
    if (sr_session_create(o->model, &options, &session, &err) != SR_OK) return out_failure(&err);
    open_banner(o, session);
    check_tokens(c, o);
    code = score_run(&c->text, o, session, &c->reference, &x->score);
    sr_session_free(session);
    if (code) return code;
    struct matrices m = {.to = x, .total = (double)c->model.info.n_params};
    sr_status s = sr_compare_matrices(c->model.model, o->model, add_matrix, &m, &err);
    out_progress_end(&m.progress);
    if (s == SR_INVALID) { /* what was measured counts all the same */
        x->n_matrices = 0;
        out_warning("%s", err.msg);
        return EXIT_FINE;
    }
    return s == SR_OK ? EXIT_FINE : out_failure(&err);
}

/* ---------------------------------------------------------------- the command */

/* Everything that can be known to fail before minutes are spent. */
static int find_candidates(comparison *c) {
    const cli_args *a = c->args;
    const int n = a->n_operands - 1 + a->compare_isq.n;
    if (n < 1)
        return out_error(EXIT_USAGE,
                         "'sirocco compare' needs something to compare with %s; name another model, or --isq TYPE",
                         a->operand[0]);
    if (n > MOST_CANDIDATES)
        return out_error(EXIT_USAGE, "%d models to compare with %s; at most %d at once", n, a->operand[0],
                         MOST_CANDIDATES);
    for (int i = 0; i < a->compare_isq.n; i++)
        if (open_check_isq(a->compare_isq.at[i])) return EXIT_USAGE;
    int code = hub_path(a, a->operand[0], NULL, false, &c->a.path);
    for (int i = 0; i < n && !code; i++) {
        compared *x = &c->candidate[c->n++];
        if (i >= a->n_operands - 1) {
            x->isq = a->compare_isq.at[i - (a->n_operands - 1)];
            code = hub_path(a, c->a.path, NULL, false, &x->path);
            continue;
        }
        sr_checkpoint *ck = NULL;
        sr_err err = {0};
        code = hub_path(a, a->operand[i + 1], NULL, false, &x->path);
        if (!code && sr_checkpoint_open(x->path, a->format, &ck, &err) != SR_OK)
            code = out_failure_about(x->path, &err);
        sr_checkpoint_close(ck);
    }
    return code;
}

static int compare_all(comparison *c) {
    const cli_args *a = c->args;
    int code = find_candidates(c);
    if (!code) code = open_reference(a, c->a.path, NULL, a->exact, &c->model);
    if (code) return code;
    describe(&c->model, NULL, &c->a);
    open_banner(&c->model, NULL);
    code = score_text_read(a, a->text, &c->model, &c->text);
    if (!code) code = score_reference_open(&c->text, &c->model, a->kv_type, c->n, &c->reference);
    for (int i = 0; i < c->n && !code; i++) {
        opened o = {0};
        code = compare_with(c, &o, &c->candidate[i]);
        open_release(&o);
    }
    if (code) return code;
    if (a->json) {
        print_json(c);
    } else {
        print_table(c);
        print_errors(c);
    }
    if (!a->html) return EXIT_FINE;
    sr_err err = {0};
    out_text page = compare_page(c);
    sr_status s = sr_disk_put(a->html, page.at, page.n, &err);
    out_text_free(&page);
    return s == SR_OK ? EXIT_FINE : out_failure(&err);
}

int command_compare(const cli_args *args) {
    if (!args->text)
        return out_error(EXIT_USAGE, "'sirocco compare' needs a text: sirocco compare A B --text FILE, any text that "
                                     "is like what the model is for");
    comparison c = {.args = args};
    interrupt_catch(false);
    int code = compare_all(&c);
    for (int i = 0; i < c.n; i++) {
        score_free(&c.candidate[i].score);
        free(c.candidate[i].matrix);
        free(c.candidate[i].path);
    }
    free(c.a.path);
    score_reference_close(&c.reference);
    score_text_free(&c.text);
    open_release(&c.model);
    return code;
}
