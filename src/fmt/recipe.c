#include "fmt/recipe.h"

#include <ctype.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/buffer.h"
#include "base/disk.h"
#include "base/log.h"
#include "base/map.h"
#include "base/path.h"
#include "base/pattern.h"

/* STEPS: of matching all patterns with all matrices, about a second; matches that end within CHEAP are not counted. */
enum { STEPS = 1 << 26, CHEAP = 16 + 256, MOST_LAYERS = 1 << 20 };

static sr_status no_memory(sr_err *err) {
    return sr_fail(err, SR_NOMEM, "no memory for a recipe");
}

sr_recipe *sr_recipe_new(const char *name) {
    sr_recipe *r = calloc(1, sizeof *r);
    if (!r) return NULL;
    r->left = STEPS;
    r->name = sr_arena_strndup(&r->arena, name, strlen(name));
    if (r->name) return r;
    sr_recipe_free(r);
    return NULL;
}

void sr_recipe_free(sr_recipe *r) {
    if (!r) return;
    sr_arena_free(&r->arena);
    free(r->rule);
    free(r);
}

bool sr_recipe_layers(const char *text, int *first, int *end) {
    char *rest;
    if (!isdigit((unsigned char)*text)) return false;
    const long from = strtol(text, &rest, 10);
    long to = from < LONG_MAX ? from + 1 : from; /* beyond every layer */
    if (*rest == '-' && isdigit((unsigned char)rest[1])) to = strtol(rest + 1, &rest, 10);
    *first = from < MOST_LAYERS ? (int)from : MOST_LAYERS;
    *end = to < MOST_LAYERS ? (int)to : MOST_LAYERS;
    return *rest == 0;
}

static sr_rule *add_rule(sr_recipe *r, const char *text, sr_err *err) {
    if (r->n == SR_MOST_RULES) {
        sr_fail(err, SR_LIMIT, "%s: found more than %d rules", r->name, SR_MOST_RULES);
        return NULL;
    }
    if (r->n == r->cap) {
        const int cap = 2 * r->cap + 16;
        sr_rule *more = realloc(r->rule, (size_t)cap * sizeof *more);
        if (more) r->rule = more, r->cap = cap;
    }
    const char *copy = r->n < r->cap ? sr_arena_strndup(&r->arena, text, strlen(text)) : NULL;
    if (!copy) {
        no_memory(err);
        return NULL;
    }
    r->rule[r->n] = (sr_rule){.text = copy};
    return &r->rule[r->n];
}

/* "q4_k", "5", "mlx:4,group=32". */
static bool read_type(const char *type, sr_rule *rule) {
    char name[48];
    const size_t n = strcspn(type, ",");
    if (n >= sizeof name) return false;
    memcpy(name, type, n);
    name[n] = 0;
    rule->fmt = sr_format_asked(name);
    if (!rule->fmt || !sr_format_writable(rule->fmt)) return false;
    if (isdigit((unsigned char)*name)) rule->bits = (int)strtol(name, NULL, 10);
    if (!type[n]) return true;
    if (!rule->bits && rule->fmt->spec.group < 1) return false; /* nothing to choose */
    static const char option[] = ",group=";
    char *end;
    if (strncmp(type + n, option, sizeof option - 1) != 0 || !isdigit((unsigned char)type[n + sizeof option - 1]))
        return false;
    const long group = strtol(type + n + sizeof option - 1, &end, 10);
    rule->group = group >= 16 && group <= 1024 && (group & (group - 1)) == 0 ? (int32_t)group : 0;
    return !*end && rule->group;
}

sr_status sr_recipe_add(sr_recipe *r, const char *left, bool pattern, const char *type, int line, sr_err *err) {
    char where[160];
    if (line)
        snprintf(where, sizeof where, "%.120s, line %d", r->name, line);
    else
        snprintf(where, sizeof where, "%.140s", r->name);
    if (strlen(left) >= SR_RECIPE_TEXT)
        return sr_fail(err, SR_LIMIT, "%s: found a pattern of %zu bytes, expected fewer than %d", where, strlen(left),
                       SR_RECIPE_TEXT);
    sr_rule *rule = add_rule(r, left, err);
    if (!rule) return err->code;
    if (type && !read_type(type, rule))
        return sr_fail(err, SR_INVALID,
                       "%s: found the type '%.32s', expected one as q4_k, mlx:4,group=32 or a number of bits; 'sirocco "
                       "formats' lists them",
                       where, type);
    if (!pattern && sr_recipe_layers(left, &rule->first, &rule->end)) {
        if (rule->first >= rule->end)
            return sr_fail(err, SR_INVALID,
                           "%s: found the layers '%.40s', of which there are none: the second number "
                           "is the first layer behind them",
                           where, left);
    } else {
        if (!(rule->code = sr_pattern_compile(left, true, where, &r->arena, err))) return err->code;
    }
    r->n++;
    return SR_OK;
}

/* ---------------------------------------------------------------- matching */

static sr_status meets(sr_recipe *r, const sr_rule *rule, const char *name, bool *yes, sr_err *err) {
    char full[256];
    *yes = false;
    if (!name) return SR_OK;
    snprintf(full, sizeof full, "%s.weight", name);
    const int64_t left = r->left;
    sr_status s = sr_pattern_match(rule->code, rule->text, full, r->name, &r->left, yes, err);
    if (left - r->left <= CHEAP) r->left = left;
    return s;
}

sr_status sr_recipe_find(sr_recipe *r, const char *name, const char *gguf, int layer, const sr_rule **found,
                         sr_err *err) {
    *found = NULL;
    for (int i = 0; i < r->n; i++) {
        sr_rule *rule = &r->rule[i];
        bool yes = !rule->code && layer >= rule->first && layer < rule->end;
        sr_status s = SR_OK;
        if (rule->code) s = meets(r, rule, name, &yes, err);
        if (rule->code && s == SR_OK && !yes && !(name && gguf && strcmp(name, gguf) == 0))
            s = meets(r, rule, gguf, &yes, err);
        if (s != SR_OK) return s;
        if (!yes) continue;
        rule->used = true;
        *found = rule->fmt ? rule : NULL;
    }
    return SR_OK;
}

void sr_recipe_warn(const sr_recipe *r) {
    for (int i = 0; i < r->n; i++)
        if (!r->rule[i].used)
            sr_log(SR_LOG_WARNING, "%s: the rule '%.80s' met no matrix; 'sirocco inspect' lists their names", r->name,
                   r->rule[i].text);
}

/* ---------------------------------------------------------------- files */

static char *trim(char *text) {
    while (isspace((unsigned char)*text)) text++;
    size_t n = strlen(text);
    while (n && isspace((unsigned char)text[n - 1])) text[--n] = 0;
    return text;
}

/* The '=' between both sides: the last one, since patterns may have some ("(?=x)"), but that of ",group=". */
static char *find_equals(char *text) {
    static const char option[] = ",group";
    const size_t n = sizeof option - 1;
    char *equals = strrchr(text, '=');
    if (!equals || (size_t)(equals - text) < n || strncmp(equals - n, option, n) != 0) return equals;
    for (char *at = equals - n; at > text; at--)
        if (at[-1] == '=') return at - 1;
    return NULL;
}

/* "REGEX = TYPE". What follows '#' at the beginning or behind a space is a comment. */
static sr_status read_line(sr_recipe *r, char *line, int number, sr_err *err) {
    char *comment = *line == '#' ? line : strstr(line, " #");
    if (comment) *comment = 0;
    char *text = trim(line), *equals = find_equals(text);
    if (!*text) return SR_OK;
    if (equals) *equals = 0;
    char *left = trim(text), *type = equals ? trim(equals + 1) : NULL;
    if (!type || !*left || !*type)
        return sr_fail(err, SR_INVALID, "%s, line %d: found '%.60s', expected REGEX = TYPE, as ffn_down = q6_k",
                       r->name, number, left);
    return sr_recipe_add(r, left, false, type, number, err);
}

static sr_status read_lines(sr_recipe *r, char *text, size_t n, sr_err *err) {
    char *end = text + n;
    int number = 1;
    for (char *line = text; line < end; number++) {
        char *next = memchr(line, '\n', (size_t)(end - line));
        if (!next) next = end;
        *next = 0;
        if (strlen(line) != (size_t)(next - line))
            return sr_fail(err, SR_INVALID, "%s, line %d: found a zero byte, expected text", r->name, number);
        sr_status s = read_line(r, line, number, err);
        if (s != SR_OK) return s;
        line = next + 1;
    }
    return SR_OK;
}

sr_status sr_recipe_parse(const char *path, char *text, size_t n, sr_recipe **out, sr_err *err) {
    *out = NULL;
    sr_recipe *r = sr_recipe_new(path);
    sr_status s = r ? SR_OK : no_memory(err);
    if (s == SR_OK)
        s = sr_ends_with(path, ".yaml") || sr_ends_with(path, ".yml") ? sr_topology_read(r, text, n, err)
                                                                      : read_lines(r, text, n, err);
    if (s == SR_OK && r->n == 0) s = sr_fail(err, SR_INVALID, "%s: found no rule, expected some REGEX = TYPE", path);
    if (s != SR_OK) {
        sr_recipe_free(r);
        return s;
    }
    *out = r;
    return SR_OK;
}

sr_status sr_recipe_read(const char *path, sr_recipe **out, sr_err *err) {
    sr_err own = {0};
    err = err ? err : &own;
    char *text = NULL;
    size_t n = 0;
    *out = NULL;
    sr_status s = sr_file_read(path, SR_MOST_RECIPE, &text, &n, err);
    if (s == SR_OK) s = sr_recipe_parse(path, text, n, out, err);
    free(text);
    return s;
}

static void write_type(const sr_rule *rule, sr_buffer *b) {
    if (rule->bits)
        sr_buffer_int(b, rule->bits);
    else
        sr_buffer_text(b, rule->fmt->name);
    if (!rule->group) return;
    sr_buffer_text(b, ",group=");
    sr_buffer_int(b, rule->group);
}

sr_status sr_recipe_write(const sr_recipe *r, const char *path, const char *comment, sr_err *err) {
    sr_buffer b = {0};
    sr_buffer_text(&b, "# ");
    sr_buffer_text(&b, comment);
    sr_buffer_text(&b, "\n");
    for (int i = 0; i < r->n; i++) {
        sr_buffer_text(&b, r->rule[i].text);
        sr_buffer_text(&b, " = ");
        write_type(&r->rule[i], &b);
        sr_buffer_text(&b, "\n");
    }
    sr_status s = b.failed ? no_memory(err) : sr_disk_put(path, b.at, b.n, err);
    sr_buffer_free(&b);
    return s;
}
