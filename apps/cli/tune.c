#include "cli/tune.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/map.h"
#include "cli/commands.h"
#include "cli/output.h"
#include "cli/score.h"

/* ---------------------------------------------------------------- which */

static int by_divergence(const void *a, const void *b) {
    const tune_row *x = a, *y = b;
    if (x->kld != y->kld) return x->kld < y->kld ? -1 : 1;
    return (x->f.memory > y->f.memory) - (x->f.memory < y->f.memory);
}

/* Of what fits and loses no more than types of four bits do, the fastest; of as fast ones the better. Else the best
 * that fits, or else the smallest. */
void tune_choose(tune_list *list) {
    static const double as_fast = 0.95, four_bits = 1.35; /* times q4_k's divergence */
    const tune_row *r = list->row;
    double limit = INFINITY, fastest = INFINITY;
    int best = -1, small = 0;
    qsort(list->row, (size_t)list->n, sizeof *list->row, by_divergence);
    for (int i = 0; i < list->n; i++)
        if (strcmp(r[i].f.type, "q4_k") == 0) limit = four_bits * r[i].kld;
    for (int i = 0; i < list->n; i++) {
        if (r[i].f.memory < r[small].f.memory) small = i;
        if (!r[i].fits) continue;
        if (best < 0) best = i;
        if (r[i].kld <= limit && r[i].f.seconds < fastest) fastest = r[i].f.seconds;
    }
    for (int i = 0; i < list->n; i++)
        if (r[i].fits && r[i].kld <= limit && r[i].f.seconds <= fastest / as_fast) {
            best = i;
            break;
        }
    list->best = best < 0 ? small : best;
}

int tune_find(const cli_args *args, const opened *plain, tune_list *list) {
    static const char *const usual[] = {"8", "6", "5", "4", "iq4_xs", "q4_0", "3", "2"};
    const int n = args->compare_isq.n ? args->compare_isq.n : (int)(sizeof usual / sizeof *usual);
    const sr_session_options session = {.n_ctx = args->ctx > 0 ? (int32_t)args->ctx : 0, .kv_type = args->kv_type};
    const bool moqe = args->organization && strcmp(args->organization, "moqe") == 0;
    sr_memory memory;
    *list = (tune_list){.n = 0};
    if (n >= TUNE_MOST) return out_error(EXIT_USAGE, "%d types to list; at most %d at once", n, TUNE_MOST - 1);
    sr_memory_now(&memory);
    list->room = args->memory ? cli_size(args->memory) : (int64_t)((double)memory.available * 0.9);
    if (args->memory && list->room < 1 << 20)
        return out_error(EXIT_USAGE, "--memory takes a size as 8G or 900M; found '%s'", args->memory);
    for (int i = -1; i < n; i++) {
        tune_row *r = &list->row[list->n++];
        sr_err err = {0};
        *r = (tune_row){.isq = i < 0 ? NULL : args->compare_isq.n ? args->compare_isq.at[i] : usual[i]};
        int code = r->isq ? open_check_isq(r->isq) : EXIT_FINE;
        if (code) return code;
        if (sr_model_forecast(plain->model, r->isq, moqe, &session, true, &r->f, &err) != SR_OK)
            return out_failure(&err);
        r->f.memory += list->row[0].f.other_bytes - r->f.other_bytes; /* timing leaves some on the heap */
        r->kld = r->f.kld;
        r->fits = list->room == 0 || r->f.memory <= list->room;
        /* Rounding again what is quantized gains little and loses more. */
        if (i < 0 && plain->info.bits_per_weight < 15.5 && args->compare_isq.n == 0 && r->fits) break;
    }
    tune_choose(list);
    return EXIT_FINE;
}

/* ---------------------------------------------------------------- measured */

static int measure(const cli_args *args, const opened *plain, tune_list *list) {
    score_text text = {0};
    score_reference reference = {0};
    cli_args with = *args;
    with.ctx = plain->info.n_ctx_train < 512 ? plain->info.n_ctx_train : 512; /* of a window; --ctx is the memory's */
    int code = score_text_read(&with, args->text, plain, &text);
    if (!code) code = score_reference_open(&text, plain, args->kv_type, list->n, &reference);
    for (int i = 0; i < list->n && !code; i++) {
        opened o = {0};
        sr_session *session = NULL;
        score s = {.cap = 0};
        sr_err err = {0};
        if (!list->row[i].isq) continue;
        code = open_reference(args, plain->path, list->row[i].isq, false, &o);
        if (!code && sr_session_create(o.model, &(sr_session_options){text.n_ctx, args->kv_type}, &session, &err))
            code = out_failure(&err);
        if (!code) code = score_run(&text, &o, session, &reference, &s);
        if (!code) list->row[i].kld = score_mean(&s.kld);
        score_free(&s);
        sr_session_free(session);
        open_release(&o);
    }
    score_reference_close(&reference);
    score_text_free(&text);
    return code;
}

/* ---------------------------------------------------------------- output */

static void print_table(const cli_args *args, const tune_list *list) {
    static const char *const head[] = {"--isq", "type", "bits/w", "weights", "memory", "divergence", "tokens/s", ""};
    out_table t = {.align = "llrrrrrl"};
    char weights[OUT_NUMBER], memory[OUT_NUMBER];
    for (int i = 0; i < 8; i++) out_cell(&t, "%s", head[i]);
    for (int i = 0; i < list->n; i++) {
        const tune_row *r = &list->row[i];
        out_cell(&t, "%s", r->isq ? r->isq : "none");
        out_cell(&t, "%s", r->f.type);
        out_cell(&t, "%.2f", r->f.bits_per_weight);
        out_cell(&t, "%s", out_size(weights, (double)r->f.weight_bytes));
        out_cell(&t, "%s", out_size(memory, (double)r->f.memory));
        if (r->isq)
            out_cell(&t, "%s%.2g", args->text ? "" : "~", r->kld);
        else
            out_cell(&t, "0");
        out_cell(&t, "~%.3g", 1 / r->f.seconds);
        out_cell(&t, "%s", i == list->best ? "recommended" : r->fits ? "" : "does not fit");
    }
    out_table_print(&t, 0);
}

static void print_json(const cli_args *args, const opened *plain, const tune_list *list) {
    const tune_row *best = &list->row[list->best];
    out_json j = {0};
    json_open(&j, NULL, '{');
    json_text(&j, "version", SR_VERSION);
    json_text(&j, "model", plain->path);
    json_text(&j, "recommended", best->isq);
    json_bool(&j, "fits", best->fits);
    json_int(&j, "memory", list->room);
    json_bool(&j, "kld_measured", args->text != NULL);
    json_open(&j, "types", '[');
    for (int i = 0; i < list->n; i++) {
        const tune_row *r = &list->row[i];
        json_open(&j, NULL, '{');
        json_text(&j, "isq", r->isq);
        json_text(&j, "type", r->f.type);
        json_real(&j, "bits_per_weight", r->f.bits_per_weight);
        json_int(&j, "weight_bytes", r->f.weight_bytes);
        json_int(&j, "session_bytes", r->f.session_bytes);
        json_int(&j, "scratch_bytes", r->f.scratch_bytes);
        json_int(&j, "memory", r->f.memory);
        json_bool(&j, "fits", r->fits);
        json_real(&j, "kld", r->kld);
        json_real(&j, "tokens_per_s", 1 / r->f.seconds);
        json_close(&j, '}');
    }
    json_close(&j, ']');
    json_close(&j, '}');
    putchar('\n');
}

static void recommend(const cli_args *args, const opened *o, const tune_list *list) {
    const tune_row *best = &list->row[list->best];
    const char *name = args->n_operands ? args->operand[0] : args->model ? args->model : o->bundled ? "" : o->path;
    printf("\nsirocco run%s%s%s%s\n", *name ? " " : "", name,
           best->isq    ? " --isq "
           : o->bundled ? " --isq none"
                        : "",
           best->isq ? best->isq : "");
}

static int tune(const cli_args *args, opened *o, opened *plain) {
    tune_list list;
    int code = open_path_or_bundle(args, o);
    if (!code) code = open_reference(args, o->path, NULL, false, plain);
    if (code) return code;
    open_banner(plain, NULL);
    code = tune_find(args, plain, &list);
    if (!code && args->text && (code = measure(args, plain, &list)) == EXIT_FINE) tune_choose(&list);
    if (code) return code;
    const tune_row *best = &list.row[list.best];
    char need[OUT_NUMBER], have[OUT_NUMBER];
    if (!best->fits)
        out_warning("nothing fits %s: the smallest takes %s; a smaller --ctx or --kv-type q8_0 takes less",
                    out_size(have, (double)list.room), out_size(need, (double)best->f.memory));
    if (args->json)
        print_json(args, plain, &list);
    else {
        print_table(args, &list);
        recommend(args, o, &list);
    }
    return EXIT_FINE;
}

int command_tune(const cli_args *args) {
    opened o = {0}, plain = {0};
    interrupt_catch(false);
    int code = tune(args, &o, &plain);
    open_release(&plain);
    open_release(&o);
    return code;
}
