#include "cli/options.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "cli/output.h"

/* ---------------------------------------------------------------- suggestions */

/* Edits between two words: insertions, deletions, replacements and swaps of neighbours (optimal string alignment). */
static int distance(const char *a, const char *b) {
    enum { LONGEST = 40 };
    size_t n = strlen(a), m = strlen(b);
    if (n > LONGEST || m > LONGEST) return LONGEST;
    int row[3][LONGEST + 1];
    for (size_t k = 0; k <= m; k++) row[0][k] = (int)k;
    for (size_t i = 1; i <= n; i++) {
        int *now = row[i % 3], *last = row[(i + 2) % 3], *before = row[(i + 1) % 3];
        now[0] = (int)i;
        for (size_t k = 1; k <= m; k++) {
            int best = last[k - 1] + (a[i - 1] != b[k - 1]);
            if (last[k] + 1 < best) best = last[k] + 1;
            if (now[k - 1] + 1 < best) best = now[k - 1] + 1;
            if (i > 1 && k > 1 && a[i - 1] == b[k - 2] && a[i - 2] == b[k - 1] && before[k - 2] + 1 < best)
                best = before[k - 2] + 1;
            now[k] = best;
        }
    }
    return row[n % 3][m];
}

const char *cli_nearest(const char *word, cli_next_fn next, void *user) {
    const char *nearest = NULL, *name;
    size_t n = strlen(word);
    int best = n < 4 ? 1 : n < 9 ? 2 : 3; /* more edits than this is another word */
    for (int i = 0; (name = next(user, i)); i++) {
        int d = distance(word, name);
        bool begins = n >= 3 && strncmp(word, name, n) == 0;
        if (begins && d > best) d = best;
        if (d < best || (d == best && !nearest)) {
            best = d;
            nearest = name;
        }
    }
    return nearest;
}

static const char *option_name(void *user, int i) {
    const cli_command *command = user;
    for (const cli_option *o = cli_options; o->name; o++)
        if ((o->commands & command->bit) && i-- == 0) return o->name;
    return NULL;
}

static int unknown_option(const cli_command *command, const char *name) {
    for (const cli_option *o = cli_options; o->name; o++) {
        if (strcmp(o->name, name) != 0) continue;
        const cli_command *c = cli_commands;
        while (!(c->bit & o->commands)) c++;
        return out_error(EXIT_USAGE, "--%s is an option of 'sirocco %s', not of 'sirocco %s'; see 'sirocco %s --help'",
                         name, c->name, command->name, command->name);
    }
    const char *nearest = cli_nearest(name, option_name, (void *)command);
    if (nearest)
        return out_error(EXIT_USAGE, "unknown option --%s; did you mean --%s? See 'sirocco %s --help'", name, nearest,
                         command->name);
    return out_error(EXIT_USAGE, "unknown option --%s; see 'sirocco %s --help'", name, command->name);
}

/* ---------------------------------------------------------------- values */

static bool in_range(const cli_option *o, double v) {
    return (o->least == 0 && o->most == 0) || (v >= o->least && v <= o->most);
}

static bool read_int(const char *text, int64_t *v) {
    char *end;
    errno = 0;
    *v = strtoll(text, &end, 10);
    return end != text && *end == 0 && errno == 0;
}

static bool read_ints(const cli_option *o, const char *text, cli_ints *list) {
    list->n = 0;
    for (;;) {
        char *end;
        errno = 0;
        int64_t v = strtoll(text, &end, 10);
        if (end == text || errno || (*end && *end != ',') || !in_range(o, (double)v) || list->n == CLI_MAX_INTS)
            return false;
        list->at[list->n++] = v;
        if (!*end) return true;
        text = end + 1;
    }
}

static bool has_word(const char *words, const char *word) {
    size_t n = strlen(word);
    for (const char *at = words; at && n; at = strchr(at, '|')) {
        if (*at == '|') at++;
        if (strncmp(at, word, n) == 0 && (at[n] == '|' || at[n] == 0)) return true;
    }
    return false;
}

static int bad_value(const cli_option *o, const char *text) {
    if (o->kind == CLI_CHOICE) return out_error(EXIT_USAGE, "--%s takes one of %s, not '%s'", o->name, o->arg, text);
    const char *what = o->kind == CLI_REAL   ? "a number"
                       : o->kind == CLI_INTS ? "whole numbers separated by commas"
                                             : "a whole number";
    if (o->least == 0 && o->most == 0) return out_error(EXIT_USAGE, "--%s takes %s, not '%s'", o->name, what, text);
    return out_error(EXIT_USAGE, "--%s takes %s from %.10g to %.10g, not '%s'", o->name, what, o->least, o->most, text);
}

static int store(const cli_option *o, const char *text, cli_args *args) {
    void *field = (char *)args + o->field;
    bool fine = true;
    switch (o->kind) {
    case CLI_FLAG:
        *(bool *)field = true;
        break;
    case CLI_CHOICE:
        fine = has_word(o->arg, text);
        *(const char **)field = text;
        break;
    case CLI_TEXT:
        *(const char **)field = text;
        break;
    case CLI_INT:
        fine = read_int(text, field) && in_range(o, (double)*(int64_t *)field);
        break;
    case CLI_SEED: {
        char *end;
        errno = 0;
        *(uint64_t *)field = strtoull(text, &end, 10);
        fine = *text >= '0' && *text <= '9' && *end == 0 && errno == 0;
        break;
    }
    case CLI_REAL: {
        char *end;
        double v = strtod(text, &end);
        fine = end != text && *end == 0 && isfinite(v) && in_range(o, v);
        *(double *)field = v;
        break;
    }
    case CLI_INTS:
        fine = read_ints(o, text, field);
        break;
    case CLI_TEXTS: {
        cli_texts *list = field;
        list->at = out_alloc(list->at, (size_t)list->n + 1, sizeof *list->at);
        list->at[list->n++] = text;
        break;
    }
    }
    return fine ? EXIT_FINE : bad_value(o, text);
}

int64_t cli_size(const char *text) {
    char *end;
    const double n = strtod(text, &end);
    const double unit = *end == 'G' || *end == 'g' ? 1 << 30 : *end == 'M' || *end == 'm' ? 1 << 20 : 1;
    if (end == text || (*end && unit == 1) || (*end && end[1]) || !(n > 0) || n * unit > 1e18) return 0;
    return (int64_t)(n * unit);
}

/* ---------------------------------------------------------------- the command line */

static const cli_option *find_long(const cli_command *command, const char *name) {
    for (const cli_option *o = cli_options; o->name; o++)
        if ((o->commands & command->bit) && (strcmp(o->name, name) == 0 || has_word(o->aliases, name))) return o;
    return NULL;
}

static const cli_option *find_letter(const cli_command *command, char letter) {
    for (const cli_option *o = cli_options; o->name; o++)
        if ((o->commands & command->bit) && o->letter == letter) return o;
    return NULL;
}

static int take(const cli_option *o, const char *value, cli_args *args) {
    args->given[o - cli_options] = true;
    return store(o, value, args);
}

static int parse_long(const cli_command *command, int argc, char **argv, int *i, cli_args *args) {
    char name[48];
    const char *word = argv[*i] + 2, *value = strchr(word, '=');
    size_t n = value ? (size_t)(value - word) : strlen(word);
    if (n >= sizeof name) return out_error(EXIT_USAGE, "unknown option %.60s; see 'sirocco help'", argv[*i]);
    memcpy(name, word, n);
    name[n] = 0;
    if (value) value++;
    const cli_option *o = find_long(command, name);
    if (!o) return unknown_option(command, name);
    if (o->kind == CLI_FLAG && value) return out_error(EXIT_USAGE, "--%s takes no value, found '%s'", o->name, value);
    if (o->kind != CLI_FLAG && !value) {
        if (*i + 1 >= argc)
            return out_error(EXIT_USAGE, "--%s needs a value: --%s %s; see 'sirocco %s --help'", o->name, o->name,
                             o->arg, command->name);
        value = argv[++*i];
    }
    return take(o, value, args);
}

static int parse_letters(const cli_command *command, int argc, char **argv, int *i, cli_args *args) {
    /* "-isq 4" is a slip for "--isq 4", not "-i sq". */
    const char *word = argv[*i] + 1;
    if (strlen(word) > 2 && find_long(command, word))
        return out_error(EXIT_USAGE, "unknown option -%s; did you mean --%s? See 'sirocco %s --help'", word, word,
                         command->name);
    for (const char *at = word; *at; at++) {
        const cli_option *o = find_letter(command, *at);
        if (!o) return out_error(EXIT_USAGE, "unknown option -%c; see 'sirocco %s --help'", *at, command->name);
        if (o->kind == CLI_FLAG) {
            if (take(o, NULL, args)) return EXIT_USAGE;
            continue;
        }
        const char *value = at[1] ? at + 1 : *i + 1 < argc ? argv[++*i] : NULL;
        if (!value)
            return out_error(EXIT_USAGE, "-%c needs a value: -%c %s; see 'sirocco %s --help'", *at, *at, o->arg,
                             command->name);
        return take(o, value, args);
    }
    return EXIT_FINE;
}

int cli_parse(const cli_command *command, int argc, char **argv, cli_args *args) {
    *args = (cli_args){.command = command};
    for (const cli_option *o = cli_options; o->name; o++)
        if ((o->commands & command->bit) && o->initially) store(o, o->initially, args);

    bool options_ended = false;
    for (int i = 0; i < argc; i++) {
        const char *word = argv[i];
        int code = EXIT_FINE;
        if (!options_ended && strcmp(word, "--") == 0)
            options_ended = true;
        else if (!options_ended && word[0] == '-' && word[1] == '-')
            code = parse_long(command, argc, argv, &i, args);
        else if (!options_ended && word[0] == '-' && word[1])
            code = parse_letters(command, argc, argv, &i, args);
        else if (args->n_operands == command->most_operands)
            code =
                out_error(EXIT_USAGE, "unexpected '%s'; usage: sirocco %s %s", word, command->name, command->operands);
        else
            args->operand[args->n_operands++] = word;
        if (code) return code;
    }
    if (!args->help && args->n_operands < command->least_operands)
        return out_error(EXIT_USAGE, "'sirocco %s' needs a path; usage: sirocco %s %s", command->name, command->name,
                         command->operands);
    return EXIT_FINE;
}

void cli_release(cli_args *args) {
    for (const cli_option *o = cli_options; o->name; o++)
        if (o->kind == CLI_TEXTS) { /* an option may have several rows */
            cli_texts *list = (cli_texts *)(void *)((char *)args + o->field);
            free(list->at);
            *list = (cli_texts){0};
        }
}

bool cli_given_at(const cli_args *args, size_t field) {
    for (int i = 0; cli_options[i].name; i++)
        if (cli_options[i].field == field && args->given[i]) return true;
    return false;
}
