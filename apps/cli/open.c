#include "cli/open.h"

#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/map.h"
#include "base/path.h"
#include "cli/hub.h"
#include "cli/output.h"
#include "cli/tune.h"

/* ---------------------------------------------------------------- Ctrl-C */

enum { MAX_ENGINES = 2 };
static volatile sig_atomic_t interrupt_flag;
static sr_engine *volatile engines[MAX_ENGINES];

static void on_interrupt(int number) {
    (void)number;
    interrupt_flag = 1;
    for (int i = 0; i < MAX_ENGINES; i++) {
        sr_engine *e = engines[i];
        if (e) sr_engine_cancel(e, true);
    }
}

void interrupt_catch(bool repeatedly) {
    struct sigaction action = {0};
    action.sa_handler = on_interrupt; /* no SA_RESTART: a waiting prompt ends */
    action.sa_flags = repeatedly ? 0 : (int)SA_RESETHAND;
    sigemptyset(&action.sa_mask);
    sigaction(SIGINT, &action, NULL);
}

bool interrupted(void) {
    return interrupt_flag != 0;
}

void interrupt_clear(void) {
    interrupt_flag = 0;
    for (int i = 0; i < MAX_ENGINES; i++)
        if (engines[i]) sr_engine_cancel(engines[i], false);
}

/* ---------------------------------------------------------------- where the model is */

static bool exists(const char *path) {
    struct stat st;
    return stat(path, &st) == 0;
}

bool open_bundled_path(char *to, size_t cap) {
    static const char name[] = "story-6m";
    /* Beside a program that was moved with its prefix. */
    char self[2048];
    ssize_t n = readlink("/proc/self/exe", self, sizeof self - 1);
    if (n > 0) {
        self[n] = 0;
        char *slash = strrchr(self, '/');
        if (slash) *slash = 0;
        snprintf(to, cap, "%s/../share/sirocco/models/%s", self, name);
        if (exists(to)) return true;
    }
#ifdef SR_MODEL_DIR_INSTALL
    snprintf(to, cap, "%s/%s", SR_MODEL_DIR_INSTALL, name);
    if (exists(to)) return true;
#endif
#ifdef SR_MODEL_DIR_BUILD
    snprintf(to, cap, "%s/%s", SR_MODEL_DIR_BUILD, name);
    if (exists(to)) return true;
#endif
    return false;
}

/* "ORG/NAME" and what follows of ".../models--ORG--NAME/snapshots/COMMIT/...": a commit tells people nothing. */
static bool name_of_snapshot(const char *path, char *to, size_t cap) {
    static const char mark[] = "/models--", inner[] = "/snapshots/";
    const char *end = strstr(path, inner), *at = NULL;
    for (const char *next = path; end && (next = strstr(next, mark)) && next < end; next++) at = next + sizeof mark - 1;
    const char *between = at ? strstr(at, "--") : NULL;
    if (!between || between > end) return false;
    const char *rest = end + sizeof inner - 1 + strcspn(end + sizeof inner - 1, "/");
    snprintf(to, cap, "%.*s/%.*s%s", (int)(between - at), at, (int)(end - between - 2), between + 2, rest);
    return true;
}

const char *open_name(const char *path, char *to, size_t cap) {
    if (name_of_snapshot(path, to, cap)) return to;
    size_t n = strlen(path);
    while (n > 1 && path[n - 1] == '/') n--;
    size_t start = n;
    while (start > 0 && path[start - 1] != '/') start--;
    snprintf(to, cap, "%.*s", (int)(n - start), path + start);
    return to;
}

static int find_path(const cli_args *args, bool may_bundle, opened *o) {
    const char *path = args->n_operands ? args->operand[0] : NULL, *quant = args->quant;
    int n = (path != NULL) + (args->model != NULL) + (args->file != NULL);
    if (n == 2 && args->model && args->file && sr_hub_is_name(args->model) &&
        !exists(args->model)) { /* -m ORG/NAME -f FILE: a file of that model */
        if (quant)
            return out_error(EXIT_USAGE, "--quant and -f both choose a file of %s; give one of them", args->model);
        path = args->model;
        quant = args->file;
    } else if (n > 1) {
        return out_error(EXIT_USAGE, "the model is named %d times; give it once, as MODEL, -m MODEL or -f FILE", n);
    }
    if (!path) path = args->model ? args->model : args->file;
    char bundled[4096];
    if (!path) {
        if (!may_bundle)
            return out_error(EXIT_USAGE, "'sirocco %s' needs a model; usage: sirocco %s %s", args->command->name,
                             args->command->name, args->command->operands);
        if (!open_bundled_path(bundled, sizeof bundled))
            return out_error(EXIT_FAILED, "the bundled model is not installed; name a model: sirocco %s MODEL",
                             args->command->name);
        path = bundled;
        o->bundled = true;
    }
    return hub_path(args, path, quant, false, &o->path);
}

int open_path(const cli_args *args, char **path) {
    opened o = {0};
    int code = find_path(args, false, &o);
    *path = o.path;
    return code;
}

int open_path_or_bundle(const cli_args *args, opened *o) {
    return find_path(args, true, o);
}

/* ---------------------------------------------------------------- opening */

static const char *isq_next(void *user, int i) {
    const char *name, *resolved;
    (void)user;
    return sr_isq_name(i, &name, &resolved) ? name : NULL;
}

int open_check_isq(const char *isq) {
    out_text names = {0};
    const char *name, *resolved;
    for (int i = 0; sr_isq_name(i, &name, &resolved); i++) {
        if (strcmp(name, isq) == 0 || strcmp(resolved, isq) == 0) {
            out_text_free(&names);
            return EXIT_FINE;
        }
        if (i) out_text_add(&names, ", ", 2);
        out_text_add(&names, name, strlen(name));
    }
    const char *nearest = cli_nearest(isq, isq_next, NULL);
    out_error(EXIT_USAGE, "--isq does not know '%s'%s%s%s; it takes %s", isq, nearest ? " (did you mean " : "",
              nearest ? nearest : "", nearest ? "?)" : "", names.at ? names.at : "nothing in this build");
    out_text_free(&names);
    return EXIT_USAGE;
}

int open_engine(const cli_args *args, bool exact, sr_engine **e) {
    if (args->isa) {
        const char *name = NULL;
        out_text names = {0};
        for (int i = 0; (name = sr_isa_available(i)) && strcmp(name, args->isa) != 0; i++) {
            if (i) out_text_add(&names, ", ", 2);
            out_text_add(&names, name, strlen(name));
        }
        if (!name)
            out_error(EXIT_USAGE, "--isa %s is not there on this machine and build; it takes %s", args->isa,
                      names.at ? names.at : "nothing");
        out_text_free(&names);
        if (!name) return EXIT_USAGE;
    }
    sr_engine_options options = {.threads = (int)args->threads,
                                 .batch = (int)args->batch,
                                 .device = args->cpu ? "cpu" : NULL,
                                 .isa = args->isa,
                                 .exact = exact};
    sr_err err = {0};
    if (sr_engine_create(&options, e, &err) != SR_OK) return out_failure(&err);
    for (int i = 0; i < MAX_ENGINES; i++) {
        if (engines[i]) continue;
        engines[i] = *e;
        break;
    }
    return EXIT_FINE;
}

/* The format of most of the weights. */
static void find_type(const char *path, const char *format, char *to, size_t cap) {
    enum { MOST_TYPES = 32 };
    struct {
        char name[32];
        int64_t weights;
    } type[MOST_TYPES];
    sr_checkpoint *ck;
    if (sr_checkpoint_open(path, format, &ck, NULL) != SR_OK) return;
    int n = 0, best = 0;
    for (int i = 0, all = sr_checkpoint_n_matrices(ck); i < all; i++) {
        sr_matrix_info t;
        sr_checkpoint_matrix(ck, i, &t);
        int k = 0;
        while (t.format && k < n && strcmp(type[k].name, t.format) != 0) k++;
        if (!t.format || k == MOST_TYPES) continue;
        if (k == n) {
            snprintf(type[n].name, sizeof type[n].name, "%s", t.format);
            type[n++].weights = 0;
        }
        type[k].weights += t.N * t.K;
        if (type[k].weights > type[best].weights) best = k;
    }
    if (n) snprintf(to, cap, "%s", type[best].name);
    sr_checkpoint_close(ck);
}

static bool show_progress(void *user, const char *what, double done, double total) {
    out_progress_to(user, what, done, total);
    return !interrupted();
}

/* What --topology and --imatrix name, for in-situ quantization. */
typedef struct isq_files {
    sr_recipe *recipe;
    sr_imatrix *importance;
} isq_files;
static int read_isq_files(const cli_args *args, const opened *o, isq_files *f) {
    sr_err err = {0};
    *f = (isq_files){0};
    if (args->topology && sr_recipe_read(args->topology, &f->recipe, &err) != SR_OK) return out_failure(&err);
    if (!args->imatrix) return EXIT_FINE;
    if (!o->isq && !f->recipe)
        return out_error(EXIT_USAGE, "--imatrix says what quantizing should spare: give --isq or --topology too");
    return sr_imatrix_read(NULL, args->imatrix, &f->importance, &err) == SR_OK ? EXIT_FINE : out_failure(&err);
}

/* The folder of --output. NULL: it is not there yet. */
static const char *output_folder(const cli_args *args, sr_arena *arena) {
    const char *dir = sr_path_dir(arena, args->output ? args->output : "");
    return dir && sr_path_look(dir) == SR_PATH_DIRECTORY ? dir : NULL;
}

/* Opens o->path. */
static int open_at(const cli_args *args, bool exact, opened *o) {
    int code = open_engine(args, exact, &o->engine);
    if (code) return code;
    out_progress progress = {0};
    sr_model_options options = {.format = args->format,
                                .gqa = (int)args->gqa,
                                .isq = o->isq,
                                .experts_only = args->organization && strcmp(args->organization, "moqe") == 0,
                                .progress = show_progress,
                                .user = &progress};
    sr_err err = {0};
    isq_files files = {0};
    sr_arena arena = {0};
    sr_status status = SR_OK;
    if (o->writes) options.scratch_dir = output_folder(args, &arena);
    if (o->may_isq) code = read_isq_files(args, o, &files);
    options.recipe = files.recipe;
    options.importance = files.importance;
    if (!code) status = sr_model_open(o->engine, o->path, &options, &o->model, &err);
    sr_recipe_free(files.recipe);
    sr_imatrix_free(files.importance);
    sr_arena_free(&arena);
    out_progress_end(&progress);
    if (code) return code;
    if (status != SR_OK) return out_failure_about(o->path, &err);
    sr_model_get_info(o->model, &o->info);
    find_type(o->path, args->format, o->type, sizeof o->type);
    return EXIT_FINE;
}

/* --isq auto, from the model as it is stored. */
static int choose_isq(const cli_args *args, opened *o) {
    opened plain = {0};
    tune_list list;
    int code = open_reference(args, o->path, NULL, args->exact, &plain);
    if (!code) code = tune_find(args, &plain, &list);
    if (!code) {
        const tune_row *r = &list.row[list.best];
        char need[OUT_NUMBER], have[OUT_NUMBER];
        o->isq = r->isq;
        out_note("--isq auto: %s, %s of %s, about %.3g tokens/s", r->isq ? r->isq : "as it is stored",
                 out_size(need, (double)r->f.memory), out_size(have, (double)list.room), 1 / r->f.seconds);
    }
    open_release(&plain);
    return code;
}

int open_model(const cli_args *args, bool may_bundle, opened *o) {
    int code = find_path(args, may_bundle, o);
    if (code) return code;
    o->isq = args->isq ? args->isq : o->bundled && !args->exact && !args->topology ? "4" : NULL;
    if (o->isq && strcmp(o->isq, "none") == 0) o->isq = NULL;
    if (o->isq && strcmp(o->isq, "auto") == 0 && (code = choose_isq(args, o))) return code;
    if (o->isq && (code = open_check_isq(o->isq))) return code;
    o->may_isq = true;
    return open_at(args, args->exact, o);
}

int open_reference(const cli_args *args, const char *path, const char *isq, bool exact, opened *o) {
    int code = hub_path(args, path, NULL, false, &o->path);
    if (code) return code;
    o->isq = isq;
    cli_args other = *args;
    other.gqa = 0; /* of the model itself */
    return open_at(&other, exact, o);
}

int open_again(const cli_args *args, const opened *model, bool exact, opened *o) {
    int code = hub_path(args, model->path, NULL, false, &o->path);
    if (code) return code;
    o->isq = model->isq;
    o->may_isq = model->may_isq;
    return open_at(args, exact, o);
}

void open_release(opened *o) {
    for (int i = 0; i < MAX_ENGINES; i++)
        if (engines[i] == o->engine) engines[i] = NULL;
    sr_model_close(o->model);
    sr_engine_free(o->engine);
    free(o->path);
    *o = (opened){0};
}

void open_banner(const opened *o, const sr_session *s) {
    char name[256], params[OUT_NUMBER], size[OUT_NUMBER], kv[OUT_NUMBER], ctx[96] = "";
    if (s) {
        const sr_session_options same = {sr_session_n_ctx(s), sr_session_kv_type(s)};
        snprintf(ctx, sizeof ctx, ", ctx %d (%s, %s)", same.n_ctx, same.kv_type,
                 out_size(kv, (double)sr_session_bytes(o->model, &same)));
    }
    out_note("%s%s: %s, %s params, %s%s%s, %.2f bits/weight, %s%s, %s kernels, %d thread%s",
             open_name(o->path, name, sizeof name), o->bundled ? " (bundled)" : "", o->info.arch,
             out_count(params, (double)o->info.n_params), *o->type ? o->type : o->info.container,
             o->info.isq ? " -> " : "", o->info.isq ? o->info.isq : "", o->info.bits_per_weight,
             out_size(size, (double)o->info.weight_bytes), ctx, sr_engine_isa(o->engine), sr_engine_threads(o->engine),
             sr_engine_threads(o->engine) == 1 ? "" : "s");
}
