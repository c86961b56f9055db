/* Tells a model's reasoning from its answer while both arrive in pieces: <think> ... </think> at the beginning of a
 * reply, and the channels of gpt-oss. */
#ifndef CLI_SPLIT_H
#define CLI_SPLIT_H

#include "cli/output.h"

typedef void (*split_fn)(void *user, bool reasoning, const char *text, size_t n);

typedef struct split {
    enum { SPLIT_START, SPLIT_REASONING, SPLIT_ANSWER, SPLIT_HEADER, SPLIT_BETWEEN } state;
    bool skip_space; /* in front of what comes next */
    out_text held;   /* what may be the beginning of a marker */
    split_fn emit;
    void *user;
} split;

/* Begins a reply to a prompt, which may have opened the reasoning already. */
void split_begin(split *s, const char *prompt, size_t n, split_fn emit, void *user);
void split_text(split *s, const char *text, size_t n);
/* Whether this spelling of a special token is a marker; then split_mark takes it. */
bool split_is_mark(const char *spelling, size_t n);
void split_mark(split *s, const char *spelling, size_t n);
/* Lets go of what was held. */
void split_end(split *s);
void split_free(split *s);

#endif
