#include "cli/help.h"

#include <string.h>

#include "cli/commands.h"
#include "cli/output.h"

enum { WIDTH = 100, COLUMN = 30 };

static const char *const exit_codes[][2] = {
    {"0", "success"},
    {"1", "failure: a file, a model, memory, the device, or writing the output"},
    {"2", "usage: the command line makes no sense"},
    {"130", "interrupted by Ctrl-C"},
};
enum { N_EXIT_CODES = sizeof exit_codes / sizeof *exit_codes };

/* Prints words from column `at` on, broken before WIDTH and continued at column `indent`. */
static void wrap(FILE *to, int at, int indent, const char *text) {
    bool first = true;
    while (*text) {
        size_t n = strcspn(text, " \n");
        int w = (int)n;
        if (!first && at + 1 + w > WIDTH) {
            fprintf(to, "\n%*s", indent, "");
            at = indent;
            first = true;
        }
        if (!first) {
            fputc(' ', to);
            at++;
        }
        fwrite(text, 1, n, to);
        at += w;
        first = false;
        text += n;
        while (*text == ' ' || *text == '\n') text++;
    }
    fputc('\n', to);
}

/* The next "command\tcomment" line of an example list; false at the end. */
static bool next_example(const char **at, int *n_line, const char **line, int *n_comment, const char **comment) {
    if (!**at) return false;
    *line = *at;
    *n_line = (int)strcspn(*at, "\t");
    *comment = *at + *n_line + 1;
    *n_comment = (int)strcspn(*comment, "\n");
    *at = *comment + *n_comment + 1;
    return true;
}

static void print_examples(FILE *to, const char *at) {
    const char *line, *comment;
    int n, n_comment, widest = 0;
    for (const char *look = at; next_example(&look, &n, &line, &n_comment, &comment);)
        if (n > widest) widest = n;
    while (next_example(&at, &n, &line, &n_comment, &comment))
        fprintf(to, "  %.*s%*s  # %.*s\n", n, line, widest - n, "", n_comment, comment);
}

/* "-m, --model DIR" */
static void spell(char *to, size_t cap, const cli_option *o) {
    char letter[8] = "";
    if (o->letter) snprintf(letter, sizeof letter, "-%c, ", o->letter);
    snprintf(to, cap, "%s--%s%s%s", letter, o->name, o->arg ? " " : "", o->arg ? o->arg : "");
}

static void explain(char *to, size_t cap, const cli_option *o) {
    size_t n = (size_t)snprintf(to, cap, "%s", o->help);
    if (o->initially && n < cap) n += (size_t)snprintf(to + n, cap - n, " (default: %s)", o->initially);
    if (!o->aliases || n >= cap) return;
    n += (size_t)snprintf(to + n, cap - n, "; also");
    for (const char *at = o->aliases; at && n < cap; at = strchr(at, '|')) {
        if (*at == '|') at++;
        n += (size_t)snprintf(to + n, cap - n, " --%.*s", (int)strcspn(at, "|"), at);
    }
}

void help_overview(FILE *to) {
    fputs("sirocco " SR_VERSION ": run quantized language models on your own machine\n\n"
          "Usage: sirocco COMMAND [OPTIONS]\n\nCommands:\n",
          to);
    for (const cli_command *c = cli_commands; c->name; c++) fprintf(to, "  %-10s %s\n", c->name, c->summary);
    fputs("\nExamples:\n", to);
    print_examples(to, "sirocco run\ta small story model that comes with the program\n"
                       "sirocco run --format gguf -f model.gguf\ta GGUF file, at the prompt\n"
                       "sirocco run -m path/to/model --isq 4 -i \"Hello\"\ta directory, quantized to 4 bits\n"
                       "sirocco inspect model.gguf\twhat is in a file\n"
                       "sirocco help run\tthe options of a command\n");
    fputs("\nExit codes: ", to);
    for (int i = 0; i < N_EXIT_CODES; i++)
        fprintf(to, "%s%s %.*s", i ? ", " : "", exit_codes[i][0], (int)strcspn(exit_codes[i][1], ":"),
                exit_codes[i][1]);
    fputs("\n", to);
}

void help_command(FILE *to, const cli_command *command) {
    fprintf(to, "sirocco %s: %s\n\nUsage: sirocco %s%s%s [OPTIONS]\n\n", command->name, command->summary, command->name,
            *command->operands ? " " : "", command->operands);
    wrap(to, 0, 0, command->description);
    fputs("\nExamples:\n", to);
    print_examples(to, command->examples);
    /* The rows of a section need not be neighbours: print each section where its first row stands. */
    for (const cli_option *first = cli_options; first->name; first++) {
        if (!(first->commands & command->bit)) continue;
        const cli_option *o = cli_options;
        while (!(o->commands & command->bit) || strcmp(o->section, first->section) != 0) o++;
        if (o != first) continue;
        fputs("\n", to);
        wrap(to, 0, 2, first->section);
        for (; o->name; o++) {
            if (!(o->commands & command->bit) || strcmp(o->section, first->section) != 0) continue;
            char left[64], right[400];
            spell(left, sizeof left, o);
            explain(right, sizeof right, o);
            int n = fprintf(to, "  %s%s", o->letter ? "" : "    ", left);
            fprintf(to, "%*s", n + 2 > COLUMN ? 2 : COLUMN - n, "");
            wrap(to, n + 2 > COLUMN ? n + 2 : COLUMN, COLUMN, right);
        }
    }
    fputs("\nExit codes\n", to);
    for (int i = 0; i < N_EXIT_CODES; i++) fprintf(to, "  %-4s %s\n", exit_codes[i][0], exit_codes[i][1]);
}

/* ---------------------------------------------------------------- the man page */

/* Text of a man page: a backslash and a dash are escaped, and a dot or quote at the start of a line is no macro. */
static void roff(const char *s, size_t n) {
    for (size_t i = 0; i < n; i++) {
        if (i == 0 && (s[i] == '.' || s[i] == '\'')) fputs("\\&", stdout);
        if (s[i] == '\\')
            fputs("\\e", stdout);
        else if (s[i] == '-')
            fputs("\\-", stdout);
        else
            putchar(s[i]);
    }
}

static void roff_line(const char *macro, const char *s) {
    fputs(macro, stdout);
    roff(s, strlen(s));
    putchar('\n');
}

static void print_man(void) {
    puts(".TH SIROCCO 1 \"\" \"sirocco " SR_VERSION "\" \"User Commands\"\n.SH NAME\n"
         "sirocco \\- run quantized language models\n.SH SYNOPSIS");
    for (const cli_command *c = cli_commands; c->name; c++) {
        printf(".B sirocco %s\n", c->name);
        if (*c->operands) {
            roff(c->operands, strlen(c->operands));
            putchar('\n');
        }
        puts("[OPTIONS]\n.br");
    }
    puts(".SH DESCRIPTION\nLoads, runs and measures language models from GGUF files, safetensors files and Hugging "
         "Face directories.\nResults go to standard output, everything else to standard error.");
    for (const cli_command *c = cli_commands; c->name; c++) {
        printf(".SH SIROCCO ");
        for (const char *s = c->name; *s; s++) putchar(*s >= 'a' && *s <= 'z' ? *s - 32 : *s);
        putchar('\n');
        roff_line("", c->description);
        for (const cli_option *o = cli_options; o->name; o++) {
            if (!(o->commands & c->bit)) continue;
            char text[400];
            spell(text, sizeof text, o);
            puts(".TP");
            roff_line(".B ", text);
            explain(text, sizeof text, o);
            roff_line("", text);
        }
        puts(".PP\nExamples:\n.nf");
        const char *at = c->examples, *line, *comment;
        int n, n_comment;
        while (next_example(&at, &n, &line, &n_comment, &comment)) {
            roff(line, (size_t)n);
            fputs("   # ", stdout);
            roff(comment, (size_t)n_comment);
            putchar('\n');
        }
        puts(".fi");
    }
    puts(".SH EXIT STATUS");
    for (int i = 0; i < N_EXIT_CODES; i++) {
        printf(".TP\n.B %s\n", exit_codes[i][0]);
        roff_line("", exit_codes[i][1]);
    }
    puts(".SH ENVIRONMENT\n.TP\n.B NO_COLOR\nno colours when set to anything\n.TP\n.B XDG_STATE_HOME\n"
         "the prompt's history is kept in sirocco/history below it (default: ~/.local/state)\n"
         ".TP\n.B HF_HOME, HF_HUB_CACHE\nwhere models of the hub are kept (default: ~/.cache/huggingface)\n.TP\n"
         ".B HF_TOKEN\naccess to gated and private models, sent to the hub only\n.TP\n.B HF_HUB_OFFLINE\n"
         "1: the cache alone is used\n.TP\n.B HF_ENDPOINT\nanother hub");
}

/* ---------------------------------------------------------------- Markdown */

static void print_markdown(void) {
    puts("# sirocco " SR_VERSION "\n\nThis page is made by `sirocco help --markdown`.");
    for (const cli_command *c = cli_commands; c->name; c++) {
        printf("\n## sirocco %s%s%s\n\n%s\n\n```sh\n", c->name, *c->operands ? " " : "", c->operands, c->description);
        print_examples(stdout, c->examples);
        puts("```\n\n| option | meaning |\n|---|---|");
        for (const cli_option *o = cli_options; o->name; o++) {
            if (!(o->commands & c->bit)) continue;
            char text[400];
            spell(text, sizeof text, o);
            fputs("| `", stdout);
            for (const char *s = text; *s; s++) fputs(*s == '|' ? "\\|" : (char[2]){*s, 0}, stdout);
            explain(text, sizeof text, o);
            printf("` | %s |\n", text);
        }
    }
    puts("\n## Exit codes\n\n| code | meaning |\n|---|---|");
    for (int i = 0; i < N_EXIT_CODES; i++) printf("| %s | %s |\n", exit_codes[i][0], exit_codes[i][1]);
}

/* ---------------------------------------------------------------- completion */

static void print_complete_bash(void) {
    puts("# bash completion for sirocco, made by 'sirocco help --complete-bash'\n_sirocco()\n{\n"
         "    local word=\"${COMP_WORDS[COMP_CWORD]}\" before=\"${COMP_WORDS[COMP_CWORD-1]}\" options=\"\"\n"
         "    COMPREPLY=()\n    if [ \"$COMP_CWORD\" -eq 1 ]; then");
    fputs("        COMPREPLY=($(compgen -W \"", stdout);
    for (const cli_command *c = cli_commands; c->name; c++) printf("%s ", c->name);
    puts("--help --version\" -- \"$word\"))\n        return\n    fi\n    case \"$before\" in");
    for (const cli_option *o = cli_options; o->name; o++) {
        if (o->kind != CLI_CHOICE) continue;
        printf("    --%s)\n        COMPREPLY=($(compgen -W \"", o->name);
        for (const char *s = o->arg; *s; s++) putchar(*s == '|' ? ' ' : *s);
        puts("\" -- \"$word\"))\n        return ;;");
    }
    const char *name, *resolved;
    fputs("    --isq)\n        COMPREPLY=($(compgen -W \"auto none", stdout);
    for (int i = 0; sr_isq_name(i, &name, &resolved); i++) printf(" %s", name);
    puts("\" -- \"$word\"))\n        return ;;\n    esac\n    case \"${COMP_WORDS[1]}\" in");
    for (const cli_command *c = cli_commands; c->name; c++) {
        printf("    %s)\n        options=\"", c->name);
        for (const cli_option *o = cli_options; o->name; o++)
            if (o->commands & c->bit) printf("--%s ", o->name);
        puts("\" ;;");
    }
    fputs("    esac\n    if [ \"${COMP_WORDS[1]}\" = help ] && [ \"${word#-}\" = \"$word\" ]; then\n"
          "        COMPREPLY=($(compgen -W \"",
          stdout);
    for (const cli_command *c = cli_commands; c->name; c++) printf("%s ", c->name);
    puts("\" -- \"$word\"))\n    elif [ \"${word#-}\" != \"$word\" ]; then\n"
         "        COMPREPLY=($(compgen -W \"$options\" -- \"$word\"))\n    else\n        local IFS=$'\\n'\n"
         "        COMPREPLY=($(compgen -f -- \"$word\"))\n    fi\n}\n"
         "complete -o filenames -F _sirocco sirocco");
}

static const char *command_name(void *user, int i) {
    (void)user;
    return cli_commands[i].name;
}

int command_help(const cli_args *args) {
    if (args->man)
        print_man();
    else if (args->markdown)
        print_markdown();
    else if (args->complete_bash)
        print_complete_bash();
    else if (args->n_operands == 0)
        help_overview(stdout);
    else {
        const cli_command *c = cli_find_command(args->operand[0]);
        if (!c) {
            const char *nearest = cli_nearest(args->operand[0], command_name, NULL);
            if (nearest)
                return out_error(EXIT_USAGE, "unknown command '%s'; did you mean '%s'? See 'sirocco help'",
                                 args->operand[0], nearest);
            return out_error(EXIT_USAGE, "unknown command '%s'; see 'sirocco help'", args->operand[0]);
        }
        help_command(stdout, c);
    }
    return EXIT_FINE;
}
