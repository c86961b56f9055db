/* A conversation as messages, and the prompt that a chat template makes of it. */
#ifndef CLI_CHAT_H
#define CLI_CHAT_H

#include "base/json.h"
#include "cli/open.h"
#include "cli/options.h"
#include "cli/output.h"

typedef enum chat_role { CHAT_SYSTEM, CHAT_USER, CHAT_ASSISTANT, CHAT_OTHER } chat_role;

typedef struct chat_message {
    chat_role role;
    char *json; /* the object, owned */
} chat_message;

typedef struct chat {
    sr_template *template; /* NULL: there is none, a text is continued as it stands */
    out_text variables;    /* "{" and what the template gets beside the messages */
    chat_message *at;
    int n;
} chat;

/* The functions that return int give an exit code, after telling why on standard error. */

/* The template and its variables, as the command line and the model have them. Close in both cases. */
int chat_open(chat *c, const cli_args *args, const opened *model);
void chat_close(chat *c);

/* Adds a message. reasoning may be empty. */
void chat_say(chat *c, chat_role role, const out_text *content, const out_text *reasoning);
/* Puts a system prompt in front, in place of the one there is; empty: none. */
void chat_system(chat *c, const char *text);
/* Drops all messages from number n on. */
void chat_cut(chat *c, int n);
/* Drops the latest user message and what follows; false when there is none. */
bool chat_undo(chat *c);
/* A list of messages, as 'sirocco template --messages' reads it. A failed load changes nothing. */
int chat_save(const chat *c, const char *path);
int chat_load(chat *c, const char *path);

/* The prompt for the next reply, added to an empty text. */
int chat_render(const chat *c, out_text *prompt);

/* Adds `"name": json` to an object that is being written. The JSON is one value of this kind (END: any). */
int chat_member(out_text *to, const char *name, size_t n_name, const char *json, size_t n, sr_json_kind kind);
/* The same with the content of a file, an array. */
int chat_member_file(out_text *to, const char *name, const char *path);
/* Adds what the command line says about variables: tools, reasoning, --var. */
int chat_variables(const cli_args *args, out_text *to);

#endif
