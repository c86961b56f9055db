/* `sirocco run` at a terminal: a pseudo terminal whose other side types and reads. Every input waits for the prompt. */
#define _XOPEN_SOURCE 700 /* posix_openpt */

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/wait.h>
#include <termios.h>

#include "support.h"

#include "base/map.h"

enum { PATIENCE_MS = 60000, MOST_OPTIONS = 24 };

static const char prompt[] = "> ", end_of_line[] = "\r", ctrl_c[] = "\003", end[] = "\025\004" /* Ctrl-U, Ctrl-D */,
                  dim[] = "\033[2m";

struct terminal {
    pid_t pid;
    int fd;            /* the side of the person */
    int errors;        /* standard error, where it is a pipe; else -1 */
    char *text;        /* all that was shown, owned */
    size_t n, n_known; /* what an earlier wait has found */
};

/* ---------------------------------------------------------------- the terminal */

/* The child has the terminal as its own, so that Ctrl-C reaches it. */
static void become_sirocco(const char *terminal, int errors, char *const *words) {
    setsid();
    int fd = open(terminal, O_RDWR);
    if (fd < 0) _exit(126);
#if defined(TIOCSCTTY)
    ioctl(fd, TIOCSCTTY, 0);
#endif
    for (int i = 0; i < 3; i++) dup2(i == 2 && errors >= 0 ? errors : fd, i);
    execv(words[0], words);
    _exit(127);
}

/* Options up to a NULL. With `piped`, standard error is a pipe. */
static struct terminal start(bool piped, const char *dir, ...) {
    static const char *const common[] = {
        SR_BINARY_DIR "/sirocco", "run", "--cpu", "--isq", "none", "--exact", "--greedy", "--chat-template"};
    struct terminal t = {.errors = -1};
    char *words[MOST_OPTIONS];
    int n = 0, ends[2] = {-1, -1};
    for (size_t i = 0; i < sizeof common / sizeof *common; i++) words[n++] = (char *)common[i];
    words[n++] = (char *)in(dir, "chat.jinja");
    va_list ap;
    va_start(ap, dir);
    for (char *word; (word = va_arg(ap, char *)); n++) {
        assert_true(n < MOST_OPTIONS - 1);
        words[n] = word;
    }
    va_end(ap);
    words[n] = NULL;

    t.fd = posix_openpt(O_RDWR | O_NOCTTY);
    assert_true(t.fd >= 0 && grantpt(t.fd) == 0 && unlockpt(t.fd) == 0);
    fcntl(t.fd, F_SETFD, FD_CLOEXEC);                     /* the terminal goes with the test */
    struct winsize size = {.ws_row = 24, .ws_col = 1000}; /* the echo of a path stands on one line */
    assert_int_equal(ioctl(t.fd, TIOCSWINSZ, &size), 0);
    if (piped) assert_int_equal(pipe(ends), 0);
    t.pid = fork();
    assert_true(t.pid >= 0);
    if (t.pid == 0) become_sirocco(ptsname(t.fd), ends[1], words);
    if (piped) close(ends[1]);
    t.errors = ends[0];
    return t;
}

typedef enum got { GOT_TEXT, GOT_NOTHING, GOT_END } got;

/* Takes what has come, or waits for more. */
static got take(struct terminal *t, int patience_ms) {
    char chunk[4096];
    struct pollfd fds[2] = {{.fd = t->errors, .events = POLLIN}, {.fd = t->fd, .events = POLLIN}};
    int ready = poll(fds, 2, patience_ms);
    if (ready == 0) return GOT_NOTHING;
    ssize_t n = 0;
    for (int i = 0; i < 2 && n <= 0; i++)
        if (fds[i].revents) n = read(fds[i].fd, chunk, sizeof chunk);
    if (n <= 0) return GOT_END;
    t->text = realloc(t->text, t->n + (size_t)n + 1);
    assert_non_null(t->text);
    for (ssize_t i = 0; i < n; i++)
        if (chunk[i] && chunk[i] != '\r') t->text[t->n++] = chunk[i];
    t->text[t->n] = 0;
    return GOT_TEXT;
}

static void fail_with(struct terminal *t, const char *what, const char *text) {
    kill(t->pid, SIGKILL);
    fail_msg("%s \"%s\" in what the terminal showed:\n%s\n(from here on)\n%s", what, text, t->text ? t->text : "",
             t->text ? t->text + t->n_known : "");
}

/* Whether this text has come, behind what earlier calls have found. */
static bool has_come(struct terminal *t, const char *text) {
    const char *at = t->text ? strstr(t->text + t->n_known, text) : NULL;
    if (at) t->n_known = (size_t)(at - t->text) + strlen(text);
    return at != NULL;
}

static void await(struct terminal *t, const char *text) {
    while (!has_come(t, text))
        if (take(t, PATIENCE_MS) != GOT_TEXT) fail_with(t, "missing:", text);
}

static void type(struct terminal *t, const char *text) {
    for (size_t n = strlen(text); n;) {
        ssize_t done = write(t->fd, text, n);
        assert_true(done > 0);
        text += done;
        n -= (size_t)done;
    }
}

/* One line at the prompt that stands there. */
static void enter(struct terminal *t, const char *line) {
    type(t, line);
    type(t, end_of_line);
    await(t, line); /* its echo */
}

/* An input, what is shown for it, and the prompt that follows. */
static void ask(struct terminal *t, const char *line, const char *shown) {
    enter(t, line);
    await(t, shown);
    await(t, prompt);
}

/* A key that does something at once, until it has: line editing shows its prompt a moment before it takes the terminal
 * over, and in between Ctrl-C comes to nothing and Ctrl-D becomes a zero in the line. With NULL for the text, until the
 * end. */
static void press(struct terminal *t, const char *key, const char *text) {
    enum { AGAIN_MS = 500 };
    for (int i = 0; i < PATIENCE_MS / AGAIN_MS; i++) {
        got g;
        type(t, key);
        while ((g = take(t, AGAIN_MS)) == GOT_TEXT)
            if (text && has_come(t, text)) return;
        if (g == GOT_END && !text) return;
    }
    fail_with(t, "no key brings:", text ? text : "the end");
}

/* What was shown stays for finish(). */
static void leave(struct terminal *t) {
    int status;
    press(t, end, NULL);
    assert_int_equal(waitpid(t->pid, &status, 0), t->pid);
    close(t->fd);
    if (t->errors >= 0) close(t->errors);
    if (!WIFEXITED(status) || WEXITSTATUS(status) != 0) fail_msg("status %d\n%s", status, t->text);
}

static void finish(struct terminal *t) {
    free(t->text);
    *t = (struct terminal){0};
}

static char *content(const char *path) {
    char *text;
    size_t n;
    OK(sr_file_read(path, 1 << 20, &text, &n, e_));
    return text;
}

/* ---------------------------------------------------------------- tests */

static int prepare(void **state) {
    if (make_scratch(state)) return -1;
    write_text(in(*state, "chat.jinja"), "{% for m in messages %}{{ m.content }} {% endfor %}"
                                         "{{ '<think>' if enable_thinking }}");
    setenv("XDG_STATE_HOME", *state, 1); /* the history of inputs */
    setenv("TERM", "xterm", 1);
    unsetenv("NO_COLOR");
    return 0;
}

static void commands_at_the_prompt(void **state) {
    struct terminal t = start(false, *state, "--max-tokens", "6", NULL);
    await(&t, "/help lists the commands");
    await(&t, prompt);
    ask(&t, "/help", "/load FILE ");
    ask(&t, "/stats", "messages 0");
    ask(&t, "Once upon a time", "1896");
    ask(&t, "/system The story is old.", "the system prompt holds");
    ask(&t, "/stats", "messages 3");
    ask(&t, "/undo", "are gone");
    ask(&t, "/stats", "messages 1");
    ask(&t, "/undo", "nothing to undo");
    ask(&t, "Once upon a time", "");
    ask(&t, "/reset", "only the system prompt");
    ask(&t, "/stats", "messages 1");
    ask(&t, "/sav x", "did you mean /save"); /* and nobody leaves for it */
    ask(&t, "/system", "no system prompt");
    leave(&t);
    finish(&t);
    char *history = content(in(*state, "sirocco/history"));
    assert_non_null(strstr(history, "Once"));
    free(history);
    struct stat st;
    assert_int_equal(stat(in(*state, "sirocco/history"), &st), 0);
    assert_int_equal(st.st_mode & 0777, 0600);
}

static void a_saved_conversation_goes_on_in_another_process(void **state) {
    char line[2][1100];
    const char *const names[] = {"first.json", "loaded.json", "longer.json", "continued.json"};
    struct terminal t = start(false, *state, "--max-tokens", "6", NULL);
    await(&t, prompt);
    ask(&t, "/system The story is old.", "");
    ask(&t, "Once upon a time", "");
    snprintf(line[0], sizeof *line, "/save %s", in(*state, names[0]));
    ask(&t, line[0], "(3 messages)");
    ask(&t, "The king said", "");
    snprintf(line[1], sizeof *line, "/save %s", in(*state, names[2]));
    ask(&t, line[1], "(5 messages)");
    leave(&t);
    finish(&t);

    t = start(false, *state, "--max-tokens", "6", NULL);
    await(&t, prompt);
    snprintf(line[0], sizeof *line, "/load %s", in(*state, names[0]));
    ask(&t, line[0], "(3 messages)");
    snprintf(line[0], sizeof *line, "/save %s", in(*state, names[1]));
    ask(&t, line[0], "(3 messages)");
    ask(&t, "The king said", "");
    snprintf(line[1], sizeof *line, "/save %s", in(*state, names[3]));
    ask(&t, line[1], "(5 messages)");
    leave(&t);
    finish(&t);

    for (int i = 0; i < 4; i += 2) {
        char *said = content(in(*state, names[i])), *again = content(in(*state, names[i + 1]));
        assert_non_null(strstr(said, "Once upon a time"));
        assert_string_equal(said, again);
        free(said);
        free(again);
    }
}

/* A reply that would take much longer than anybody waits: 4096 tokens by the slow path, and none of them ends it. */
static void ctrl_c_stops_the_reply_and_keeps_the_session(void **state) {
    struct terminal t = start(false, *state, "--ctx", "4096", "--logit-bias", "0=-100", NULL);
    await(&t, prompt);
    enter(&t, "Once upon a time");
    await(&t, "1896");
    press(&t, ctrl_c, "(stopped)");
    await(&t, prompt);
    ask(&t, "/stats", "messages 2");
    /* Enter alone goes on with it. */
    type(&t, end_of_line);
    await(&t, "\n");
    while (t.n < t.n_known + 20)
        if (take(&t, PATIENCE_MS) != GOT_TEXT) fail_with(&t, "no more text after", "Enter");
    press(&t, ctrl_c, "(stopped)");
    await(&t, prompt);
    ask(&t, "/stats", "messages 2");
    /* At the prompt it drops what was typed. */
    type(&t, "never mind");
    await(&t, "never mind");
    press(&t, ctrl_c, prompt);
    ask(&t, "/stats", "messages 2");
    leave(&t);
    finish(&t);
}

static void inputs_of_several_lines(void **state) {
    char line[1100];
    struct terminal t = start(false, *state, "--max-tokens", "1", NULL);
    await(&t, prompt);
    enter(&t, "one\\");
    await(&t, ". ");
    ask(&t, "two", "");
    type(&t, "three\rfour\r"); /* a paste */
    await(&t, "three");
    await(&t, "four");
    await(&t, prompt);
    snprintf(line, sizeof line, "/save %s", in(*state, "lines.json"));
    ask(&t, line, "(4 messages)");
    leave(&t);
    finish(&t);
    char *said = content(in(*state, "lines.json"));
    if (!strstr(said, "\"one\\ntwo\"") || !strstr(said, "\"three\\nfour\"")) fail_msg("%s", said);
    free(said);
}

static void reasoning_is_dimmed_on_a_terminal_alone(void **state) {
    static const char dimmed[] = "\033[2m he\033[0m";
    for (int way = 0; way < 4; way++) { /* colours, NO_COLOR, a dumb terminal, a pipe */
        setenv("NO_COLOR", way == 1 ? "1" : "", 1);
        setenv("TERM", way == 2 ? "dumb" : "xterm", 1);
        struct terminal t = start(way == 3, *state, "--max-tokens", "6", "--enable-thinking", "on", NULL);
        await(&t, prompt);
        ask(&t, "Once upon a time", "he");
        leave(&t);
        if ((way == 0) != (strstr(t.text, dimmed) != NULL) || (way && strstr(t.text, dim)))
            fail_msg("way %d: %s", way, t.text);
        finish(&t);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(commands_at_the_prompt, prepare, remove_scratch),
        cmocka_unit_test_setup_teardown(a_saved_conversation_goes_on_in_another_process, prepare, remove_scratch),
        cmocka_unit_test_setup_teardown(ctrl_c_stops_the_reply_and_keeps_the_session, prepare, remove_scratch),
        cmocka_unit_test_setup_teardown(inputs_of_several_lines, prepare, remove_scratch),
        cmocka_unit_test_setup_teardown(reasoning_is_dimmed_on_a_terminal_alone, prepare, remove_scratch),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
