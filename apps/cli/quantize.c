/* sirocco quantize: a model in another format. */
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/map.h"
#include "cli/allot.h"
#include "cli/commands.h"
#include "cli/imatrix.h"
#include "cli/open.h"
#include "cli/output.h"
#include "cli/score.h"

enum { PATH = 4096 };

static bool show_progress(void *user, const char *what, double done, double total) {
    out_progress_to(user, what, done, total);
    return !interrupted();
}

/* Where a target's result goes: --output, in it where there are several, or beside the model. */
static void result_path(const cli_args *args, const char *model, const char *to, char path[PATH]) {
    char name[256], plain[256];
    size_t n = 0;
    const bool gguf = strncmp(to, "gguf", 4) == 0 && (to[4] == ':' || !to[4]);
    for (const char *c = !gguf ? to : to[4] ? to + 5 : "mix"; *c && n + 1 < sizeof plain; c++)
        plain[n++] = *c == ':' || *c == ',' || *c == '=' ? '-' : *c;
    plain[n] = 0;
    open_name(model, name, sizeof name);
    if (strlen(name) > 5 && strcmp(name + strlen(name) - 5, ".gguf") == 0) name[strlen(name) - 5] = 0;
    if (args->output && args->to.n == 1)
        snprintf(path, PATH, "%s", args->output);
    else
        snprintf(path, PATH, "%s%s%s-%s%s", args->output ? args->output : "", args->output ? "/" : "", name, plain,
                 gguf ? ".gguf" : "");
}

/* Tensors of one kind and conversion in a line: "blk.*.attn_q". */
typedef struct kind {
    char name[128], from[32], to[32];
    int n;
    int64_t bytes;
    double error, weights;
} kind;

static void without_numbers(const char *name, char *to, size_t cap) {
    size_t n = 0;
    for (const char *c = name; *c && n + 1 < cap; c++) {
        if (*c < '0' || *c > '9' || (c > name && c[-1] != '.')) {
            to[n++] = *c;
            continue;
        }
        while (c[1] >= '0' && c[1] <= '9') c++;
        to[n++] = '*';
    }
    to[n] = 0;
}

static kind *kinds_of(const sr_quantizer *q, int *n) {
    kind *k = NULL;
    sr_quantize_tensor t;
    *n = 0;
    for (int i = 0; sr_quantizer_tensor(q, i, &t); i++) {
        char name[128];
        int at = 0;
        if (t.N == 0) continue;
        without_numbers(t.name, name, sizeof name);
        const char *to = t.to ? t.to : t.from;
        while (at < *n && (strcmp(k[at].name, name) || strcmp(k[at].from, t.from) || strcmp(k[at].to, to))) at++;
        if (at == *n) {
            k = out_alloc(k, (size_t)++ * n, sizeof *k);
            k[at] = (kind){.n = 0};
            snprintf(k[at].name, sizeof k[at].name, "%s", name);
            snprintf(k[at].from, sizeof k[at].from, "%s", t.from);
            snprintf(k[at].to, sizeof k[at].to, "%s", to);
        }
        k[at].n++;
        k[at].bytes += t.bytes;
        if (t.error >= 0) {
            k[at].error += t.error * (double)t.N * (double)t.K;
            k[at].weights += (double)t.N * (double)t.K;
        }
    }
    return k;
}

static void print_kinds(const sr_quantizer *q, bool written) {
    int n;
    kind *k = kinds_of(q, &n);
    out_table t = {written ? "lrllrr" : "lrllr", NULL, 0, 0};
    char size[OUT_NUMBER];
    static const char *const head[] = {"matrices", "n", "from", "to", "size", "error"};
    for (int i = 0; i < (written ? 6 : 5); i++) out_cell(&t, "%s", head[i]);
    for (int i = 0; i < n; i++) {
        out_cell(&t, "%s", k[i].name);
        out_cell(&t, "%d", k[i].n);
        out_cell(&t, "%s", k[i].from);
        out_cell(&t, "%s", strcmp(k[i].from, k[i].to) ? k[i].to : "as it is");
        out_cell(&t, "%s", out_size(size, (double)k[i].bytes));
        if (written && k[i].weights > 0 && k[i].error == 0)
            out_cell(&t, "exact");
        else if (written && k[i].weights > 0)
            out_cell(&t, "%.2f %%", 100 * sqrt(k[i].error / k[i].weights));
        else if (written)
            out_cell(&t, "-");
    }
    out_table_print(&t, 2);
    free(k);
}

static void print_json(const sr_quantizer *q, const char *to, const char *path, bool written, double seconds,
                       const sr_allotment *allotment) {
    sr_quantize_info info;
    sr_quantize_tensor t;
    out_json j = {0};
    sr_quantizer_info(q, &info);
    json_open(&j, NULL, '{');
    json_text(&j, "to", to);
    json_text(&j, "output", path);
    json_bool(&j, "written", written);
    json_int(&j, "bytes_in", info.bytes_in);
    json_int(&j, "bytes_out", info.bytes_out);
    json_int(&j, "memory", info.memory);
    json_int(&j, "scratch", info.scratch);
    json_real(&j, "seconds", seconds);
    json_real(&j, "bits_per_weight", info.bits_per_weight);
    if (allotment) {
        json_real(&j, "kld_expected", allotment->kld);
        json_real(&j, "kld_measured", allotment->kld_measured);
    }
    json_open(&j, "tensors", '[');
    for (int i = 0; sr_quantizer_tensor(q, i, &t); i++) {
        json_open(&j, NULL, '{');
        json_text(&j, "name", t.name);
        json_text(&j, "from", t.from);
        json_text(&j, "to", t.to);
        json_int(&j, "bytes", t.bytes);
        json_real(&j, "error", t.error >= 0 ? t.error : NAN);
        json_close(&j, '}');
    }
    json_close(&j, ']');
    json_close(&j, '}');
}

static void print_plan(const sr_quantizer *q, double seconds, const char *to, const char *path) {
    sr_quantize_info info;
    char in[OUT_NUMBER], out[OUT_NUMBER], memory[OUT_NUMBER], scratch[OUT_NUMBER], time[OUT_NUMBER];
    sr_quantizer_info(q, &info);
    out_note("%s, %s, %s -> %s, %s, %.2f bits/weight; %d of %d tensors are converted, memory %s%s%s", info.container,
             info.arch, out_size(in, (double)info.bytes_in), to, out_size(out, (double)info.bytes_out),
             info.bits_per_weight, info.n_quantized, info.n_tensors, out_size(memory, (double)info.memory),
             isnan(seconds) ? "" : ", about ", isnan(seconds) ? "" : out_seconds(time, fmax(seconds, 1)));
    if (info.scratch) out_note("beside it %s of disk while it is made", out_size(scratch, (double)info.scratch));
    out_note("to %s", path);
}

static bool is_plain(const char *type) {
    return strcmp(type, "f32") == 0 || strcmp(type, "f16") == 0 || strcmp(type, "bf16") == 0;
}

/* What was rounded once is rounded again, unless it could be kept, which is known once it is written. */
static void warn_of_loss(const sr_quantizer *q, const char *to, bool written) {
    sr_quantize_tensor t;
    int n = 0;
    char from[32] = "";
    for (int i = 0; sr_quantizer_tensor(q, i, &t); i++)
        if (t.N && t.to && !is_plain(t.from) && !is_plain(t.to) && t.error != 0) {
            if (n++ == 0) snprintf(from, sizeof from, "%s", t.from);
        }
    if (n && written)
        out_warning(
            "%d matrices were quantized already (%s) and are again: %s adds its loss to theirs; a source in f16 "
            "or bf16 gives a better result",
            n, from, to);
    else if (n)
        out_note("%d matrices are quantized already (%s): what %s cannot hold as it is will be rounded again", n, from,
                 to);
}

/* What is known about the inputs of matrices. */
typedef struct data {
    sr_imatrix *importance;
    int32_t *ids; /* [n_windows][window] */
    int64_t n_windows;
    int window;
    opened opened; /* what is observed for importances */
} data;

/* What a target is made with: what --method says, or with a text what the format is named after; NULL: importances
 * where there are some. */
static const char *method_for(const cli_args *args, const char *to) {
    if (args->method || !args->calibration) return args->method;
    return strncmp(to, "gptq", 4) == 0 ? "gptq" : strncmp(to, "awq", 3) == 0 ? "awq" : NULL;
}
static bool calibrates(const char *method) {
    return method && (strcmp(method, "gptq") == 0 || strcmp(method, "awq") == 0);
}

/* Experts that the text never came to. */
static void warn_of_coverage(const sr_quantizer *q) {
    sr_quantize_tensor t;
    int n = 0;
    double rows = 0;
    char first[128] = "";
    for (int i = 0; sr_quantizer_tensor(q, i, &t); i++)
        if (t.seen >= 0 && t.seen < 1) {
            if (n++ == 0) snprintf(first, sizeof first, "%s", t.name);
            rows += (1 - t.seen) * (double)t.N;
        }
    if (n)
        out_warning("%d matrices (%s ...; %.0f rows) had nothing to be calibrated with and were rounded to nearest: a "
                    "longer text reaches more experts",
                    n, first, rows);
}

/* By a plan that is made. `found`: of types under a limit, or NULL. */
static int carry_out(const cli_args *args, const char *model, const sr_quantize_options *options,
                     const sr_allotment *found) {
    char path[PATH];
    sr_err err = {0};
    sr_quantizer *q;
    const char *to = options->to;
    result_path(args, model, to, path);
    if (sr_quantizer_plan(model, path, options, &q, &err) != SR_OK) return out_failure(&err);
    double seconds;
    sr_status s = sr_quantizer_seconds(q, &seconds, &err);
    out_progress_end(options->user);
    if (s == SR_CANCELLED) {
        sr_quantizer_free(q);
        return out_error(EXIT_INTERRUPTED, "%s", err.msg);
    }
    print_plan(q, seconds, to, path);
    if (s != SR_OK) out_note("how long it takes cannot be told: %s", err.msg);
    s = SR_OK;
    if (args->plan) warn_of_loss(q, to, false);
    const double began = sr_clock();
    if (!args->plan) {
        s = sr_quantizer_run(q, args->resume, &err);
        out_progress_end(options->user);
    }
    if (s == SR_OK && args->json)
        print_json(q, to, path, !args->plan, seconds, found);
    else if (s == SR_OK)
        print_kinds(q, !args->plan);
    char time[OUT_NUMBER];
    if (s == SR_OK && !args->plan) warn_of_coverage(q);
    if (s == SR_OK && !args->plan) warn_of_loss(q, to, true);
    if (s == SR_OK && !args->plan) out_note("written in %s", out_seconds(time, sr_clock() - began));
    sr_quantizer_free(q);
    return s == SR_OK ? EXIT_FINE : s == SR_CANCELLED ? out_error(EXIT_INTERRUPTED, "%s", err.msg) : out_failure(&err);
}

/* recipe: of --recipe, or NULL. */
static int convert(const cli_args *args, const char *model, const char *to, const data *from, sr_recipe *recipe) {
    out_progress progress = {0};
    sr_allotment allotment;
    sr_recipe *found = NULL;
    sr_quantize_options options = {.to = to,
                                   .format = args->format,
                                   .threads = (int)args->threads,
                                   .shard_bytes = args->shard_size ? cli_size(args->shard_size) : 0,
                                   .overwrite = args->overwrite,
                                   .importance = from->importance,
                                   .method = method_for(args, to),
                                   .calibration = from->ids,
                                   .n_windows = from->n_windows,
                                   .window = from->window,
                                   .recipe = recipe,
                                   .progress = show_progress,
                                   .user = &progress};
    int code = allot_wanted(args) ? allot_recipe(args, model, &options, &found, &allotment) : EXIT_FINE;
    if (found) options.recipe = found;
    if (!code) code = carry_out(args, model, &options, found ? &allotment : NULL);
    sr_recipe_free(found);
    return code;
}

/* Windows of the text, at most MOST of them from all over it. */
static int read_windows(const cli_args *args, const char *model, data *d) {
    enum { MOST = 128 };
    score_text t;
    int code = score_text_read_for(args, args->calibration, model, &t);
    if (!code) {
        const int64_t all = t.n_windows;
        d->window = t.n_ctx;
        d->n_windows = all > MOST && !CLI_GIVEN(args, chunks) ? MOST : all;
        d->ids = out_alloc(NULL, (size_t)(d->n_windows * t.n_ctx), sizeof *d->ids);
        for (int64_t i = 0; i < d->n_windows; i++) score_text_window(&t, i * all / d->n_windows, d->ids + i * t.n_ctx);
    }
    score_text_free(&t);
    return code;
}

/* Importances from a file, or from a text that the model itself reads first; or the text. */
static int find_data(const cli_args *args, const char *model, data *d) {
    sr_err err = {0};
    opened *o = &d->opened;
    bool windows = false, importances = allot_wanted(args);
    for (int i = 0; i < args->to.n; i++) {
        const char *method = method_for(args, args->to.at[i]);
        windows = windows || calibrates(method);
        importances = importances || !method || strcmp(method, "imatrix") == 0;
    }
    if (args->imatrix && args->calibration && !windows)
        return out_error(EXIT_USAGE, "--imatrix and --calibration-file both give importances; give one of them");
    if (args->imatrix && sr_imatrix_read(NULL, args->imatrix, &d->importance, &err) != SR_OK) return out_failure(&err);
    importances = importances && !args->imatrix && (!args->plan || allot_wanted(args));
    if (!args->calibration || !(windows || importances)) return EXIT_FINE;
    int code = windows ? read_windows(args, model, d) : EXIT_FINE;
    if (code || !importances) return code;
    o->writes = true;
    code = open_reference(args, model, NULL, false, o);
    return code ? code : imatrix_collect(args, o, args->calibration, &d->importance);
}

int command_quantize(const cli_args *args) {
    char *model = NULL;
    if (args->to.n == 0)
        return out_error(EXIT_USAGE, "'sirocco quantize' needs --to TARGET, as --to gguf:q4_k_m; see --help");
    if (args->shard_size && cli_size(args->shard_size) < 1 << 20)
        return out_error(EXIT_USAGE, "--shard-size takes at least 1M, as 2G or 500M; found '%s'", args->shard_size);
    int code = allot_check(args);
    if (!code) code = open_path(args, &model);
    struct stat st;
    if (!code && args->to.n > 1 && args->output && !args->plan &&
        (stat(args->output, &st) != 0 || !S_ISDIR(st.st_mode)))
        code = out_error(EXIT_USAGE, "with several targets --output names a directory that exists; found '%s'",
                         args->output);
    interrupt_catch(false);
    data from = {0};
    if (!code) code = find_data(args, model, &from);
    sr_recipe *recipe = NULL;
    sr_err err = {0};
    if (!code && args->topology && sr_recipe_read(args->topology, &recipe, &err) != SR_OK) code = out_failure(&err);
    for (int i = 0; i < args->to.n && !code; i++) code = convert(args, model, args->to.at[i], &from, recipe);
    sr_recipe_free(recipe);
    sr_imatrix_free(from.importance);
    open_release(&from.opened);
    free(from.ids);
    free(model);
    return code;
}
