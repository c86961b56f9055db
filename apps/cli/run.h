/* Inside of 'sirocco run': run.c generates text, prompt.c talks with a person. */
#ifndef CLI_RUN_H
#define CLI_RUN_H

#include "cli/chat.h"
#include "cli/split.h"

typedef struct reply {
    const char *finish; /* "stop", "length", "canceled" */
    int32_t n_tokens;
    int32_t n_prefill, n_decode; /* tokens that were evaluated */
    double prefill_s, decode_s;
    bool full; /* the context is */
} reply;

struct likely; /* a generated token and its rivals */

typedef struct conversation {
    const cli_args *args;
    opened model;
    const sr_tokenizer *tokenizer;
    sr_session *session;
    sr_sampler *sampler; /* of the latest reply */
    sr_detok *detok;
    uint64_t seed;
    int n_replies;
    int32_t *id; /* all tokens so far, capacity n_ctx + 1: the last one generated may find no room in the session */
    int32_t n, n_ctx;
    bool ends_line;        /* the text so far ends with a newline */
    out_text *captured;    /* where text goes with --json, else NULL */
    struct likely *likely; /* with --logprobs, owned */
    int32_t n_likely;

    chat chat;                /* without a template nothing below is used */
    split split;              /* of the latest reply */
    out_text answer, thought; /* its parts */
    bool aside;               /* reasoning stands on an open line of standard error */
    bool written;             /* standard output took all of it */
} conversation;

/* These return exit codes, after telling why on standard error. */

/* Without a template: tokenizes a text and appends it to the conversation. */
int run_add_text(conversation *c, const char *text, size_t n);
/* With one: makes the tokens of the conversation those of the prompt for the next reply, whose text is added to an
 * empty one. */
int run_prompt(conversation *c, out_text *prompt);
/* Goes on from the tokens so far. EXIT_INTERRUPTED leaves a conversation that can go on. */
int run_generate(conversation *c, reply *r);
/* The latest reply becomes a message. */
void run_keep_reply(conversation *c);
/* What there is to say behind a text. */
void run_show_end(const conversation *c, const reply *r, bool speed);

/* The prompt: inputs from a terminal, or line by line from a file, until the end. */
int prompt_converse(conversation *c);

#endif
