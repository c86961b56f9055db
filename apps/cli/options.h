/* The command line as data: table.c lists the commands and their options once; parsing, help, man page and completion
 * are all derived from these rows. */
#ifndef CLI_OPTIONS_H
#define CLI_OPTIONS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Exit codes, documented in the help. */
enum { EXIT_FINE = 0, EXIT_FAILED = 1, EXIT_USAGE = 2, EXIT_INTERRUPTED = 130 };

enum { CLI_MAX_OPTIONS = 128, CLI_MAX_OPERANDS = 17, CLI_MAX_INTS = 16 };

typedef struct cli_ints {
    int64_t at[CLI_MAX_INTS];
    int n;
} cli_ints;

typedef struct cli_texts {
    const char **at; /* borrowed strings of argv in an owned array */
    int n;
} cli_texts;

struct cli_command;

/* Everything a command line can say. Texts are borrowed from argv. */
typedef struct cli_args {
    const struct cli_command *command;
    const char *operand[CLI_MAX_OPERANDS];
    int n_operands;
    bool given[CLI_MAX_OPTIONS]; /* by row of the option table; ask with CLI_GIVEN */

    const char *model, *file, *format, *isq, *organization, *topology, *memory, *quant, *revision, *hf_cache;
    bool offline, yes;
    int64_t gqa, ctx, threads, batch;
    bool cpu, exact;
    const char *isa, *kv_type;

    const char *input;
    bool echo;
    int64_t max_tokens;
    double temperature, top_p, min_p, repetition_penalty, frequency_penalty, presence_penalty;
    int64_t top_k;
    uint64_t seed;
    bool greedy;
    cli_texts logit_bias, stop, dry_breaker;
    double dry_multiplier, dry_base;
    int64_t dry_allowed_length, logprobs;

    const char *text;
    int64_t chunks;
    bool kld_exact;
    const char *against;
    cli_texts compare_isq;
    const char *html;

    cli_texts to;
    const char *output;
    bool resume, overwrite, plan;
    const char *shard_size, *imatrix, *calibration, *method, *target_size, *recipe_out;
    double target_bpw, target_kld;
    cli_texts merge;

    bool no_bos, no_special, summary;

    const char *system, *chat_template, *enable_thinking, *reasoning_effort;
    bool no_chat;
    const char *messages, *tools;
    cli_texts var;
    bool no_generation_prompt;

    cli_ints prompt_len, gen_len, depth, sessions;
    int64_t iterations, warmup;
    const char *compare;

    bool json, csv, verbose, quiet, help;
    bool man, markdown, complete_bash;
} cli_args;

typedef enum cli_kind {
    CLI_FLAG,   /* bool */
    CLI_TEXT,   /* const char * */
    CLI_CHOICE, /* const char *; `arg` lists the words, separated by '|' */
    CLI_INT,    /* int64_t */
    CLI_SEED,   /* uint64_t */
    CLI_REAL,   /* double */
    CLI_INTS,   /* cli_ints: "128,512" */
    CLI_TEXTS   /* cli_texts: may be repeated */
} cli_kind;

typedef struct cli_option {
    const char *name;    /* "max-tokens" */
    const char *aliases; /* other long names, separated by '|', or NULL */
    char letter;         /* 'm', or 0 */
    const char *arg;     /* "N", NULL for a flag */
    cli_kind kind;
    unsigned commands;     /* bits of the commands that take it */
    const char *section;   /* heading in the help */
    size_t field;          /* offset in cli_args */
    double least, most;    /* range of numbers; both 0: any */
    const char *initially; /* parsed before the command line, and shown as the default; may be NULL */
    const char *help;
} cli_option;

typedef struct cli_command {
    const char *name;
    unsigned bit;
    const char *operands; /* "[MODEL]" */
    int least_operands, most_operands;
    const char *summary;     /* one line */
    const char *description; /* paragraph(s) */
    const char *examples;    /* lines "command\tcomment" */
    int (*run)(const cli_args *args);
} cli_command;

/* table.c; both end with a row without a name. */
extern const cli_option cli_options[];
extern const cli_command cli_commands[];
const cli_command *cli_find_command(const char *name);

/* Parses the words after the command. Returns EXIT_FINE, or EXIT_USAGE after telling why on standard error. `args` must
 * be released in both cases. */
int cli_parse(const cli_command *command, int argc, char **argv, cli_args *args);
void cli_release(cli_args *args);
/* "2G", "500M", "1000000" as bytes; 0: not such a text. */
int64_t cli_size(const char *text);
/* Whether the option that fills this field stood on the command line. */
bool cli_given_at(const cli_args *args, size_t field);
#define CLI_GIVEN(args, member) cli_given_at(args, offsetof(cli_args, member))

/* The name in a list (step by step through `next`, which returns NULL at the end) most like `word`, or NULL when none
 * is close. */
typedef const char *(*cli_next_fn)(void *user, int i);
const char *cli_nearest(const char *word, cli_next_fn next, void *user);

#endif
