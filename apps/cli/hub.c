/* Models by name, and `sirocco models`: what the cache of the hub holds. The library reads no environment; here
 * HF_HOME, HF_HUB_CACHE, HF_TOKEN, HF_HUB_OFFLINE, HF_ENDPOINT and their kin become options (huggingface_hub:
 * constants.py). */
#include "cli/hub.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/map.h"
#include "cli/commands.h"
#include "cli/open.h"
#include "cli/output.h"

enum { PATH = 4096, TOKEN = 1024 };

typedef struct place {
    char cache[PATH], token[TOKEN];
    sr_hub_options o;
    out_progress progress;
} place;

static const char *environment(const char *name) {
    const char *v = getenv(name);
    return v && *v ? v : NULL;
}
static bool is_on(const char *name) {
    const char *v = environment(name);
    return v && (!strcmp(v, "1") || !strcasecmp(v, "on") || !strcasecmp(v, "yes") || !strcasecmp(v, "true"));
}

/* $HF_HOME, by default ~/.cache/huggingface. */
static void find_home(char *to) {
    const char *home = environment("HF_HOME"), *cache = environment("XDG_CACHE_HOME"), *user = environment("HOME");
    if (home)
        snprintf(to, PATH, "%s", home);
    else if (cache)
        snprintf(to, PATH, "%s/huggingface", cache);
    else
        snprintf(to, PATH, "%s/.cache/huggingface", user ? user : "");
}

/* HF_TOKEN, or what a login of the Python tools left. Never printed. */
static void find_token(const char *home, char *to) {
    const char *token = environment("HF_TOKEN"), *path = environment("HF_TOKEN_PATH");
    char file[PATH + 8];
    to[0] = 0;
    if (!token) token = environment("HF_HUB_TOKEN");
    if (token) {
        snprintf(to, TOKEN, "%s", token);
    } else if (!is_on("HF_HUB_DISABLE_IMPLICIT_TOKEN")) {
        snprintf(file, sizeof file, "%s/token", home);
        FILE *f = fopen(path ? path : file, "r");
        if (f && !fgets(to, TOKEN, f)) to[0] = 0;
        if (f) fclose(f);
    }
    to[strcspn(to, " \t\r\n")] = 0;
}

static bool show_progress(void *user, const char *what, double done, double total) {
    out_progress *p = user;
    char have[OUT_NUMBER], all[OUT_NUMBER], rate[OUT_NUMBER];
    if (total > 0) { /* else it is asking what there is */
        double spent = p->what ? sr_clock() - p->started : 0;
        snprintf(p->note, sizeof p->note, "%s of %s, %s/s", out_size(have, done), out_size(all, total),
                 out_size(rate, spent > 0 ? done / spent : 0));
        out_progress_to(p, what, done, total);
    }
    return !interrupted();
}

static int report(const sr_err *err) {
    if (err->code == SR_CANCELLED) out_note("%s", err->msg);
    /* Most messages of the hub say themselves what to do. */
    return strchr(err->msg, ';') && err->code != SR_CANCELLED ? out_error(EXIT_FAILED, "%s", err->msg)
                                                              : out_failure(err);
}

static void find_place(const cli_args *args, place *p) {
    char home[PATH];
    const char *hub = environment("HF_HUB_CACHE");
    *p = (place){0};
    find_home(home);
    if (!hub) hub = environment("HUGGINGFACE_HUB_CACHE");
    if (args->hf_cache)
        snprintf(p->cache, PATH, "%s", args->hf_cache);
    else if (hub)
        snprintf(p->cache, PATH, "%s", hub);
    else
        snprintf(p->cache, PATH, "%.4000s/hub", home);
    find_token(home, p->token);
    const char *timeout = environment("HF_HUB_DOWNLOAD_TIMEOUT");
    p->o = (sr_hub_options){.cache = p->cache,
                            .endpoint = environment("HF_ENDPOINT"),
                            .token = *p->token ? p->token : NULL,
                            .revision = args->revision,
                            .format = args->format,
                            .offline = args->offline || is_on("HF_HUB_OFFLINE") || is_on("TRANSFORMERS_OFFLINE"),
                            .timeout = timeout ? strtod(timeout, NULL) : 0,
                            .progress = show_progress,
                            .user = &p->progress};
}

int hub_path(const cli_args *args, const char *name, const char *quant, bool tokenizer_only, char **path) {
    struct stat st;
    char found[PATH];
    if (stat(name, &st) == 0) { /* what is here opens no socket */
        if (quant || args->revision)
            return out_error(EXIT_USAGE, "--%s chooses among what the hub has of a model, but %s is a path",
                             quant ? "quant" : "revision", name);
        *path = out_alloc(NULL, strlen(name) + 1, 1);
        strcpy(*path, name);
        return EXIT_FINE;
    }
    int reason = errno;
    if (reason != ENOENT || !sr_hub_is_name(name))
        return out_error(EXIT_FAILED, "%s: %s; check the path", name, strerror(reason));
    place *p = out_alloc(NULL, 1, sizeof *p);
    find_place(args, p);
    p->o.quant = quant;
    p->o.tokenizer_only = tokenizer_only;
    sr_err err = {0};
    sr_status s = sr_hub_resolve(name, &p->o, found, sizeof found, &err);
    out_progress_end(&p->progress);
    free(p);
    if (s != SR_OK) return report(&err);
    *path = out_alloc(NULL, strlen(found) + 1, 1);
    strcpy(*path, found);
    return EXIT_FINE;
}

/* ---------------------------------------------------------------- sirocco models */

typedef struct listing {
    out_table table;
    out_json json;
    bool as_json;
    int n;
    int64_t bytes;
} listing;

static bool list_entry(void *user, const sr_hub_entry *e) {
    listing *l = user;
    char size[OUT_NUMBER];
    l->n++;
    l->bytes += e->bytes;
    if (l->as_json) {
        json_open(&l->json, NULL, '{');
        json_text(&l->json, "name", e->name);
        json_text(&l->json, "revision", e->revision);
        json_text(&l->json, "commit", e->commit);
        json_text(&l->json, "path", e->path);
        json_text(&l->json, "format", e->format);
        json_int(&l->json, "bytes", e->bytes);
        json_int(&l->json, "files", e->n_files);
        json_int(&l->json, "missing", e->n_missing);
        json_close(&l->json, '}');
        return true;
    }
    out_cell(&l->table, "%s", e->name);
    out_cell(&l->table, "%s", e->revision ? e->revision : "-");
    out_cell(&l->table, "%.12s", e->commit);
    out_cell(&l->table, "%s", *e->format ? e->format : "-");
    out_cell(&l->table, "%d%s", e->n_files, e->n_missing ? " (incomplete)" : "");
    out_cell(&l->table, "%s", out_size(size, (double)e->bytes));
    return true;
}

static int list_models(const cli_args *args, place *p) {
    listing l = {.table = {.align = "llllrr"}, .as_json = args->json};
    sr_err err = {0};
    static const char *const head[] = {"model", "revision", "commit", "format", "files", "size"};
    if (l.as_json)
        json_open(&l.json, NULL, '[');
    else
        for (int i = 0; i < 6; i++) out_cell(&l.table, "%s", head[i]);
    sr_status s = sr_hub_list(&p->o, list_entry, &l, &err);
    if (l.as_json) {
        json_close(&l.json, ']');
        putchar('\n');
    } else {
        char size[OUT_NUMBER];
        if (l.n) out_table_print(&l.table, 0);
        out_note("%d model%s in %s, %s", l.n, l.n == 1 ? "" : "s", p->cache, out_size(size, (double)l.bytes));
    }
    return s == SR_OK ? EXIT_FINE : out_failure(&err);
}

static bool agreed(const char *name, const char *cache) {
    char answer[16] = "";
    fprintf(stderr, "remove %s from %s? [y/N] ", name, cache);
    fflush(stderr);
    return fgets(answer, sizeof answer, stdin) && (answer[0] == 'y' || answer[0] == 'Y');
}

static int remove_model(const cli_args *args, place *p, const char *name) {
    char size[OUT_NUMBER];
    int64_t bytes = 0;
    sr_err err = {0};
    if (!args->yes && !isatty(STDIN_FILENO))
        return out_error(EXIT_USAGE, "'sirocco models rm' asks before it removes; give --yes where nobody can answer");
    if (!args->yes && !agreed(name, p->cache)) return out_error(EXIT_FAILED, "nothing was removed");
    if (sr_hub_delete(&p->o, name, &bytes, &err) != SR_OK) return report(&err);
    out_note("removed %s: %s are free", name, out_size(size, (double)bytes));
    return EXIT_FINE;
}

int command_models(const cli_args *args) {
    place *p = out_alloc(NULL, 1, sizeof *p);
    find_place(args, p);
    int code;
    if (args->n_operands == 0)
        code = list_models(args, p);
    else if (args->n_operands == 2 && !strcmp(args->operand[0], "rm"))
        code = remove_model(args, p, args->operand[1]);
    else
        code = out_error(EXIT_USAGE, "unexpected '%s'; usage: sirocco models [rm NAME]", args->operand[0]);
    free(p);
    return code;
}
