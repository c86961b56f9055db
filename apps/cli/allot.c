#include "cli/allot.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "cli/output.h"
#include "cli/score.h"

bool allot_wanted(const cli_args *args) {
    return args->target_size || args->target_bpw > 0 || args->target_kld > 0;
}

/* A directory's type says the family and its options. */
static bool is_fixed(const char *to) {
    return strncmp(to, "gguf:", 5) == 0 && strcmp(to, "gguf:mix") != 0;
}

int allot_check(const cli_args *args) {
    const int n = (args->target_size != NULL) + (args->target_bpw > 0) + (args->target_kld > 0);
    if (n == 0 && args->recipe_out)
        return out_error(EXIT_USAGE, "--recipe-out writes what --target-bpw, --target-size or --target-kld finds: give "
                                     "one of them");
    if (n == 0) return EXIT_FINE;
    if (n > 1 || args->topology)
        return out_error(EXIT_USAGE,
                         "--target-bpw, --target-size, --target-kld and --recipe all choose the types: give "
                         "one of them");
    if (args->target_size && cli_size(args->target_size) < 1 << 10)
        return out_error(EXIT_USAGE, "--target-size takes a size as 4G or 900M; found '%s'", args->target_size);
    if (args->target_kld > 0 && !args->calibration)
        return out_error(EXIT_USAGE, "--target-kld is measured on a text: give a --calibration-file");
    for (int i = 0; i < args->to.n; i++)
        if (is_fixed(args->to.at[i]))
            return out_error(EXIT_USAGE,
                             "a limit chooses the types: with it --to is gguf, or a directory as mlx:4, not '%s'",
                             args->to.at[i]);
    if (args->recipe_out && args->to.n > 1)
        return out_error(EXIT_USAGE,
                         "--recipe-out is one file, and each of %d targets has its own types: give one --to",
                         args->to.n);
    return EXIT_FINE;
}

/* Where measurements are kept; false: nowhere. */
static bool cache_path(char *to, size_t cap) {
    const char *cache = getenv("XDG_CACHE_HOME"), *home = getenv("HOME");
    if (cache && *cache)
        snprintf(to, cap, "%s/sirocco", cache);
    else if (home && *home)
        snprintf(to, cap, "%s/.cache/sirocco", home);
    else
        return false;
    return true;
}

static bool show_progress(void *user, const char *what, double done, double total) {
    out_progress_to(user, what, done, total);
    return !interrupted();
}

/* Windows to measure with: more for small models, where they cost little. */
static int64_t windows_for(const opened *o, const score_text *t) {
    enum { BILLION = 1000000000 };
    const int64_t most = o->info.n_params < BILLION ? 8 : o->info.n_params < 4LL * BILLION ? 4 : 2;
    return t->n_windows < most ? t->n_windows : most;
}

static int find_costs(const char *model, const sr_quantize_options *quantize, const opened *o, const score_text *t,
                      sr_costs **costs) {
    char cache[4096];
    out_progress progress = {0};
    sr_err err = {0};
    sr_costs_options options = {.model = o->model,
                                .n_ctx = t->n_ctx,
                                .cache = cache_path(cache, sizeof cache) ? cache : NULL,
                                .progress = show_progress,
                                .user = &progress};
    int32_t *ids = NULL;
    if (o->model) {
        options.n_windows = windows_for(o, t);
        ids = out_alloc(NULL, (size_t)(options.n_windows * t->n_ctx), sizeof *ids);
        for (int64_t w = 0; w < options.n_windows; w++) score_text_window(t, w, ids + w * t->n_ctx);
        options.ids = ids;
    }
    sr_status s = sr_costs_find(model, quantize, &options, costs, &err);
    out_progress_end(&progress);
    free(ids);
    return s == SR_OK ? EXIT_FINE : s == SR_CANCELLED ? out_error(EXIT_INTERRUPTED, "%s", err.msg) : out_failure(&err);
}

static int solve(const cli_args *args, sr_costs *costs, sr_recipe **recipe, sr_allotment *info) {
    const sr_goal goal = {args->target_bpw, args->target_size ? cli_size(args->target_size) : 0, args->target_kld};
    char size[OUT_NUMBER], measured[64] = ", a guess: --calibration-file measures it";
    sr_err err = {0};
    if (sr_costs_allot(costs, &goal, recipe, info, &err) != SR_OK) return out_failure(&err);
    if (isfinite(info->kld_measured)) snprintf(measured, sizeof measured, ", measured %.4g nats", info->kld_measured);
    out_note("types for %d matrices: %.3f bits/weight, %s; divergence expected %.4g nats%s", info->n_matrices,
             info->bits_per_weight, out_size(size, (double)info->bytes), info->kld, measured);
    if (!args->recipe_out) return EXIT_FINE;
    char comment[128];
    snprintf(comment, sizeof comment, "sirocco " SR_VERSION ": %.4f bits/weight, divergence %.4g nats",
             info->bits_per_weight, isfinite(info->kld_measured) ? info->kld_measured : info->kld);
    return sr_recipe_write(*recipe, args->recipe_out, comment, &err) == SR_OK ? EXIT_FINE : out_failure(&err);
}

int allot_recipe(const cli_args *args, const char *model, const sr_quantize_options *quantize, sr_recipe **recipe,
                 sr_allotment *info) {
    opened o = {.writes = true};
    score_text t = {0};
    sr_costs *costs = NULL;
    int code = EXIT_FINE;
    if (args->calibration) code = open_reference(args, model, NULL, false, &o);
    if (!code && args->calibration) code = score_text_read(args, args->calibration, &o, &t);
    if (!code) code = find_costs(model, quantize, &o, &t, &costs);
    if (!code) code = solve(args, costs, recipe, info);
    sr_costs_free(costs);
    score_text_free(&t);
    open_release(&o);
    return code;
}
