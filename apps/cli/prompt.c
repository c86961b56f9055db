/* The prompt of 'sirocco run': reading inputs, its commands, and the turns of a conversation. */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "cli/run.h"

#if defined(SR_HAVE_EDIT)
#include <editline/readline.h>
#endif

/* ---------------------------------------------------------------- reading */

#if defined(SR_HAVE_EDIT)
/* $XDG_STATE_HOME/sirocco/history; false when there is no place for it. */
static bool history_path(char *to, size_t cap) {
    const char *state = getenv("XDG_STATE_HOME"), *home = getenv("HOME");
    char dir[2048];
    int n;
    if (state && *state == '/')
        n = snprintf(dir, sizeof dir, "%s/sirocco", state);
    else if (home && *home == '/')
        n = snprintf(dir, sizeof dir, "%s/.local/state/sirocco", home);
    else
        return false;
    if (n < 0 || (size_t)n >= sizeof dir) return false;
    for (char *slash = dir + 1;; slash++) {
        slash = strchr(slash, '/');
        if (slash) *slash = 0;
        if (mkdir(dir, 0700) != 0 && errno != EEXIST) return false;
        if (!slash) break;
        *slash = '/';
    }
    return (size_t)snprintf(to, cap, "%s/history", dir) < cap;
}
#endif

typedef struct reader {
    bool edit; /* at a terminal, with line editing */
    bool prompt;
    char history[2304]; /* empty: none */
} reader;

static void reader_begin(reader *in) {
    *in = (reader){.prompt = isatty(STDIN_FILENO)};
#if defined(SR_HAVE_EDIT)
    in->edit = in->prompt && out_stderr_is_terminal();
    if (!in->edit) return;
    rl_outstream = stderr; /* standard output is for text */
    rl_readline_name = "sirocco";
    using_history();
    stifle_history(1000);
    if (history_path(in->history, sizeof in->history)) {
        int fd = open(in->history, O_WRONLY | O_CREAT | O_CLOEXEC, 0600); /* prompts are private */
        if (fd >= 0) close(fd);
        read_history(in->history);
    } else {
        in->history[0] = 0;
    }
#endif
}

static void reader_end(reader *in) {
#if defined(SR_HAVE_EDIT)
    if (in->edit && in->history[0]) write_history(in->history);
    if (in->edit) clear_history();
#else
    (void)in;
#endif
}

/* One line without its newline, owned; NULL at the end of input and after Ctrl-C. */
static char *read_one(reader *in, const char *prompt) {
#if defined(SR_HAVE_EDIT)
    if (in->edit) return readline(prompt);
#endif
    if (in->prompt) {
        fputs(prompt, stderr);
        fflush(stderr);
    }
    char *line = NULL;
    size_t cap = 0;
    errno = 0;
    ssize_t n = getline(&line, &cap, stdin);
    if (n < 0) {
        free(line);
        if (errno == EINTR) clearerr(stdin);
        return NULL;
    }
    if (n > 0 && line[n - 1] == '\n') line[n - 1] = 0;
    return line;
}

/* Whether more input waits already: the next line of a paste. */
static bool more_waits(void) {
    struct pollfd fd = {.fd = STDIN_FILENO, .events = POLLIN};
    return poll(&fd, 1, 20) > 0;
}

/* One input: a line, or several when they were pasted or end with a backslash. False at the end of input. */
static bool read_input(reader *in, out_text *input) {
    const char *prompt = "> ";
    input->n = 0;
    out_text_add(input, "", 0);
    for (;;) {
        char *line = read_one(in, prompt);
        if (!line) return input->n > 0 && !interrupted();
        out_text_add(input, line, strlen(line));
        free(line);
        prompt = ". ";
        if (in->prompt && input->n && input->at[input->n - 1] == '\\')
            input->at[input->n - 1] = '\n';
        else if (in->prompt && more_waits())
            out_text_add(input, "\n", 1);
        else
            return true;
    }
}

static void remember(reader *in, const char *input) {
#if defined(SR_HAVE_EDIT)
    if (in->edit && *input) add_history(input);
#else
    (void)in;
    (void)input;
#endif
}

/* ---------------------------------------------------------------- commands */

typedef struct talk {
    conversation *c;
    reader in;
    int32_t *turn; /* without a template: where each input begins, owned */
    int n_turns;
    bool cut; /* the latest reply has more to come */
    reply last;
} talk;

enum { LEAVE = -1 };

typedef struct prompt_command {
    const char *name, *value; /* "/save", "FILE"; a value in brackets may be missing, NULL: it takes none */
    bool chat;                /* only with a template */
    const char *help;
    int (*obey)(talk *t, const char *value); /* an exit code, after telling why, or LEAVE */
} prompt_command;

static int obey_system(talk *t, const char *value) {
    chat_system(&t->c->chat, value);
    t->cut = false;
    out_note(*value ? "(the system prompt holds from the next message on)" : "(no system prompt)");
    return EXIT_FINE;
}

static int obey_save(talk *t, const char *value) {
    int code = chat_save(&t->c->chat, value);
    if (!code) out_note("(%d messages)", t->c->chat.n);
    return code;
}

static int obey_load(talk *t, const char *value) {
    int code = chat_load(&t->c->chat, value);
    if (code) return code;
    t->cut = false;
    out_note("(%d messages)", t->c->chat.n);
    return EXIT_FINE;
}

static int obey_reset(talk *t, const char *value) {
    (void)value;
    conversation *c = t->c;
    bool system = c->chat.n && c->chat.at[0].role == CHAT_SYSTEM;
    chat_cut(&c->chat, system);
    c->n = c->n_replies = t->n_turns = 0;
    c->ends_line = t->cut = false;
    out_note(!c->chat.template ? "(an empty text)" : system ? "(only the system prompt)" : "(no messages)");
    return EXIT_FINE;
}

static int obey_undo(talk *t, const char *value) {
    (void)value;
    conversation *c = t->c;
    bool done = c->chat.template ? chat_undo(&c->chat) : t->n_turns > 0;
    if (done && !c->chat.template) {
        c->n = t->turn[--t->n_turns];
        c->ends_line = false;
    }
    t->cut = false;
    out_note(done ? "(your latest input and its reply are gone)" : "(nothing to undo)");
    return EXIT_FINE;
}

static int obey_stats(talk *t, const char *value) {
    (void)value;
    const conversation *c = t->c;
    if (c->chat.template) out_note("messages %d", c->chat.n);
    out_note("context %d of %d tokens, seed %llu", sr_session_n_tokens(c->session), c->n_ctx,
             (unsigned long long)c->seed);
    if (t->last.finish) run_show_end(c, &t->last, true);
    return EXIT_FINE;
}

static int obey_exit(talk *t, const char *value) {
    (void)t;
    (void)value;
    return LEAVE;
}

static int obey_help(talk *t, const char *value); /* reads the table */

static const prompt_command commands[] = {
    {"/system", "[TEXT]", true, "sets the system prompt, or removes it", obey_system},
    {"/save", "FILE", true, "writes the conversation as JSON", obey_save},
    {"/load", "FILE", true, "reads one, in place of this one", obey_load},
    {"/undo", NULL, false, "takes back your latest input and its reply", obey_undo},
    {"/reset", NULL, false, "starts again; a system prompt stays", obey_reset},
    {"/stats", NULL, false, "shows sizes and speeds", obey_stats},
    {"/help", NULL, false, "this list", obey_help},
    {"/exit", NULL, false, "leaves (also Ctrl-D); Ctrl-C stops the text that is being written", obey_exit},
    {"/quit", NULL, false, "the same", obey_exit},
    {0}};

static int obey_help(talk *t, const char *value) {
    (void)value;
    bool messages = t->c->chat.template != NULL;
    out_note(messages ? "Type a message and press Enter. Enter alone goes on with a reply that was stopped."
                      : "Type text and press Enter: it is appended to the conversation on a new line and continued. "
                        "Enter alone goes on.");
    out_note("A backslash at the end of a line, or a paste, makes an input of several lines.");
    for (const prompt_command *p = commands; p->name; p++) {
        char left[40];
        snprintf(left, sizeof left, "%s %s", p->name, p->value ? p->value : "");
        if (messages || !p->chat) out_note("  %-16s %s", left, p->help);
    }
    return EXIT_FINE;
}

static const char *command_name(void *user, int i) {
    (void)user;
    return commands[i].name;
}

/* Carries out what begins with "/word": false when it is a text, which may well begin with a slash. */
static bool obey(talk *t, const char *input, int *code) {
    char name[32];
    size_t n = input[0] == '/' ? 1 + strspn(input + 1, "abcdefghijklmnopqrstuvwxyz") : 0;
    if (n < 2 || n >= sizeof name || !strchr(" \n", input[n])) return false; /* strchr also finds the zero */
    memcpy(name, input, n);
    name[n] = 0;
    const char *from = input + n + strspn(input + n, " \n");
    const prompt_command *p = commands;
    while (p->name && strcmp(p->name, name) != 0) p++;
    const char *nearest = p->name ? NULL : cli_nearest(name, command_name, NULL);
    if (!p->name && *from && !nearest) return false;
    out_text value = {0};
    out_text_add(&value, from, strlen(from));
    while (value.n && value.at[value.n - 1] == ' ') value.at[--value.n] = 0;
    if (!p->name)
        *code = out_error(EXIT_FAILED, "unknown command %s%s%s; /help lists them", name,
                          nearest ? ", did you mean " : "", nearest ? nearest : "");
    else if (p->chat && !t->c->chat.template)
        *code = out_error(EXIT_FAILED, "%s is for conversations; this is a text without a chat template", name);
    else if (value.n && !p->value)
        *code = out_error(EXIT_FAILED, "%s takes no value, found '%s'", name, value.at);
    else if (!value.n && p->value && p->value[0] != '[')
        *code = out_error(EXIT_FAILED, "%s needs a value: %s %s", name, name, p->value);
    else
        *code = p->obey(t, value.at);
    out_text_free(&value);
    return true;
}

/* ---------------------------------------------------------------- turns */

/* Without a template: a new input begins a line of its own; Enter alone only asks for more. */
static int add_input(talk *t, const out_text *input) {
    conversation *c = t->c;
    if (c->n && !input->n) return EXIT_FINE;
    out_text text = {0};
    if (c->n && !c->ends_line) out_text_add(&text, "\n", 1);
    out_text_add(&text, input->at, input->n);
    t->turn = out_alloc(t->turn, (size_t)t->n_turns + 1, sizeof *t->turn);
    t->turn[t->n_turns++] = c->n;
    int code = run_add_text(c, text.at, text.n);
    if (code) t->n_turns--;
    out_text_free(&text);
    return code;
}

/* With one: an input is a message. Enter alone goes on with a reply that was cut, or answers what was loaded. */
static int add_message(talk *t, const out_text *input) {
    conversation *c = t->c;
    int n = c->chat.n;
    if (!input->n && t->cut) {
        chat_cut(&c->chat, n - 1); /* it comes back longer */
        return EXIT_FINE;
    }
    if (input->n) chat_say(&c->chat, CHAT_USER, input, &(out_text){0});
    out_text prompt = {0};
    int code = run_prompt(c, &prompt);
    if (code) {
        chat_cut(&c->chat, n);
        t->cut = false;
    }
    out_text_free(&prompt);
    return code;
}

/* After a reply, whole or cut. A message that got no word in reply goes with it, as templates want turns. */
static void end_message(talk *t) {
    conversation *c = t->c;
    bool canceled = strcmp(t->last.finish, "canceled") == 0;
    t->cut = strcmp(t->last.finish, "stop") != 0 && !t->last.full;
    if (!canceled || c->answer.n || c->thought.n) {
        run_keep_reply(c);
        return;
    }
    t->cut = false;
    if (chat_undo(&c->chat)) out_note("(nothing was said: your message is taken back)");
}

/* One input and what the model makes of it. */
static int take_turn(talk *t, const out_text *input) {
    conversation *c = t->c;
    bool messages = c->chat.template != NULL;
    if (messages && !input->n && !t->cut && (!c->chat.n || c->chat.at[c->chat.n - 1].role != CHAT_USER)) {
        out_note("(type a message; /help lists the commands)");
        return EXIT_FINE;
    }
    int code = messages ? add_message(t, input) : add_input(t, input);
    if (code) return code;
    c->ends_line = false;
    t->last = (reply){0};
    code = run_generate(c, &t->last);
    if (code != EXIT_FINE && code != EXIT_INTERRUPTED) return LEAVE;
    if (!c->ends_line) putchar('\n');
    if (!out_flush()) return LEAVE;
    if (code == EXIT_INTERRUPTED) out_note("(stopped)");
    if (messages) end_message(t);
    run_show_end(c, &t->last, out_verbose());
    return code;
}

int prompt_converse(conversation *c) {
    talk t = {.c = c};
    out_text input = {0};
    int code = EXIT_FINE, failed = EXIT_FINE;
    reader_begin(&t.in);
    if (t.in.prompt) out_note("/help lists the commands, Ctrl-C stops the text, Ctrl-D leaves");
    for (;;) {
        interrupt_clear();
        bool more = read_input(&t.in, &input);
        if (interrupted()) {
            if (!t.in.prompt) {
                failed = EXIT_INTERRUPTED;
                break;
            }
            fputc('\n', stderr);
            continue;
        }
        if (!more) {
            if (t.in.prompt) fputc('\n', stderr);
            break;
        }
        remember(&t.in, input.at);
        bool obeyed = obey(&t, input.at, &code);
        if (!obeyed) code = take_turn(&t, &input);
        if (code == LEAVE) {
            if (!obeyed) failed = EXIT_FAILED;
            break;
        }
        /* A person has read what went wrong; a program looks at the exit code. */
        if (code && !t.in.prompt) {
            failed = code;
            if (code == EXIT_INTERRUPTED) break;
        }
    }
    reader_end(&t.in);
    out_text_free(&input);
    free(t.turn);
    return failed;
}
