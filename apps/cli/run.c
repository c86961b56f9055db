/* sirocco run: continue a text, once (-i) or at a prompt. */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "base/map.h"
#include "cli/commands.h"
#include "cli/open.h"
#include "cli/output.h"

#if defined(SR_HAVE_EDIT)
#include <editline/readline.h>
#endif

enum { MAX_PROMPT_BYTES = 1 << 30, MOST_LOGPROBS = 20 };

struct likely {
    int32_t id;
    float logprob;
    int n;
    sr_logprob top[MOST_LOGPROBS];
};

typedef struct conversation {
    const cli_args *args;
    opened model;
    const sr_tokenizer *tokenizer;
    sr_session *session;
    sr_sampler *sampler;
    sr_detok *detok;
    uint64_t seed;
    int32_t *id; /* all tokens so far, capacity n_ctx + 1: the last one generated may find no room in the session */
    int32_t n, n_ctx;
    bool ends_line;        /* the text so far ends with a newline */
    out_text *captured;    /* where text goes with --json, else NULL */
    struct likely *likely; /* with --logprobs: each generated token and its rivals, owned */
    int32_t n_likely;
} conversation;

typedef struct reply {
    const char *finish; /* "stop", "length", "canceled" */
    int32_t n_tokens;
    int32_t n_prefill, n_decode; /* tokens that were evaluated */
    double prefill_s, decode_s;
    bool full; /* the context is */
} reply;

/* ---------------------------------------------------------------- opening */

static int parse_bias(const char *text, sr_logit_bias *bias) {
    char *end, *stop;
    errno = 0;
    long id = strtol(text, &end, 10);
    if (end == text || *end != '=' || errno || id < 0 || id > INT32_MAX) return EXIT_USAGE;
    double b = strtod(end + 1, &stop);
    if (stop == end + 1 || *stop) return EXIT_USAGE;
    *bias = (sr_logit_bias){(int32_t)id, (float)b};
    return EXIT_FINE;
}

static int create_sampler(conversation *c) {
    const cli_args *a = c->args;
    sr_sampling s;
    sr_model_sampling(c->model.model, &s);
    if (CLI_GIVEN(a, temperature)) s.temperature = (float)a->temperature;
    if (CLI_GIVEN(a, top_k)) s.top_k = (int)a->top_k;
    if (CLI_GIVEN(a, top_p)) s.top_p = (float)a->top_p;
    if (CLI_GIVEN(a, min_p)) s.min_p = (float)a->min_p;
    if (CLI_GIVEN(a, repetition_penalty)) s.repetition_penalty = (float)a->repetition_penalty;
    if (CLI_GIVEN(a, frequency_penalty)) s.frequency_penalty = (float)a->frequency_penalty;
    if (CLI_GIVEN(a, presence_penalty)) s.presence_penalty = (float)a->presence_penalty;
    if (a->greedy) s.temperature = 0;
    s.seed = c->seed;
    sr_logit_bias *bias = out_alloc(NULL, (size_t)(s.n_logit_bias + a->logit_bias.n), sizeof *bias);
    for (int i = 0; i < s.n_logit_bias; i++) bias[i] = s.logit_bias[i];
    for (int i = 0; i < a->logit_bias.n; i++)
        parse_bias(a->logit_bias.at[i], &bias[s.n_logit_bias + i]); /* checked before */
    s.logit_bias = bias;
    s.n_logit_bias += a->logit_bias.n;
    s.dry_multiplier = (float)a->dry_multiplier;
    s.dry_base = (float)a->dry_base;
    s.dry_allowed_length = (int)a->dry_allowed_length;
    int32_t *breaker = out_alloc(NULL, (size_t)a->dry_breaker.n + 4, sizeof *breaker);
    sr_err err = {0};
    sr_status status = SR_OK;
    if (s.dry_multiplier > 0)
        status = sr_dry_breakers(c->tokenizer, a->dry_breaker.n ? a->dry_breaker.at : NULL, a->dry_breaker.n, breaker,
                                 &s.n_dry_breaker, &err);
    s.dry_breaker = breaker;
    if (status == SR_OK) status = sr_sampler_create(&s, c->model.info.n_vocab, &c->sampler, &err);
    free(bias);
    free(breaker);
    if (status == SR_INVALID) return out_error(EXIT_USAGE, "%s; see 'sirocco run --help'", err.msg);
    return status == SR_OK ? EXIT_FINE : out_failure(&err);
}

static uint64_t new_seed(void) {
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    uint64_t x = (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec + (uint64_t)getpid() * 0x9e3779b97f4a7c15u;
    x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9u;
    return (x ^ (x >> 27)) >> 32; /* short enough to type again */
}

static int open_conversation(conversation *c) {
    const cli_args *a = c->args;
    int code = open_model(a, true, &c->model);
    if (code) return code;
    sr_err err = {0};
    c->tokenizer = sr_model_tokenizer(c->model.model);
    if (!c->tokenizer)
        return out_error(EXIT_FAILED, "%s has no tokenizer; put its tokenizer.json beside the weights", c->model.path);
    if (sr_session_create(c->model.model, (int32_t)a->ctx, &c->session, &err) != SR_OK) return out_failure(&err);
    c->n_ctx = sr_session_n_ctx(c->session);
    c->id = out_alloc(NULL, (size_t)c->n_ctx + 1, sizeof *c->id);
    if (sr_detok_create(c->tokenizer, a->stop.at, a->stop.n, &c->detok, &err) != SR_OK) return out_failure(&err);
    c->seed = CLI_GIVEN(a, seed) ? a->seed : new_seed();
    if ((code = create_sampler(c))) return code;
    open_banner(&c->model, c->session);
    if (!a->greedy && !(CLI_GIVEN(a, temperature) && a->temperature == 0) && !CLI_GIVEN(a, seed))
        out_note("seed %llu", (unsigned long long)c->seed);
    if (c->model.info.has_chat_template)
        out_warning("this model has a chat template, which is not applied yet (templates come later): your text is "
                    "continued as it stands");
    return EXIT_FINE;
}

static void close_conversation(conversation *c) {
    sr_detok_free(c->detok);
    sr_sampler_free(c->sampler);
    sr_session_free(c->session);
    free(c->id);
    free(c->likely);
    open_release(&c->model);
}

/* ---------------------------------------------------------------- generation */

/* False once standard output fails. */
static bool emit(conversation *c, const char *text, size_t n) {
    if (n == 0) return true;
    c->ends_line = text[n - 1] == '\n';
    if (c->captured) {
        out_text_add(c->captured, text, n);
        return true;
    }
    if (out_stdout_is_terminal()) {
        out_text clean = {0}; /* a model must not steer the terminal */
        out_text_add_visible(&clean, text, n, true);
        fwrite(clean.at, 1, clean.n, stdout);
        out_text_free(&clean);
    } else {
        fwrite(text, 1, n, stdout);
    }
    return out_flush();
}

/* Tokenizes `text` and appends it to the conversation. EXIT_FAILED after a message. */
static int add_text(conversation *c, const char *text, size_t n) {
    sr_err err = {0};
    unsigned flags = c->n ? SR_TOKENIZE_NO_BOS : 0;
    size_t room = (size_t)(c->n_ctx - c->n), count;
    if (sr_tokenize(c->tokenizer, text, n, flags, c->id + c->n, room, &count, &err) != SR_OK) return out_failure(&err);
    if (count > room) {
        if (c->n == 0)
            return out_error(EXIT_FAILED,
                             "the prompt has %zu tokens and the context %d; shorten it or use --ctx %zu or more", count,
                             c->n_ctx, count + 1);
        return out_error(EXIT_FAILED,
                         "the context is full: %d tokens and %zu new ones, of %d; /reset starts again, --ctx N gives "
                         "more room",
                         c->n, count, c->n_ctx);
    }
    for (size_t i = 0; i < count; i++) sr_sampler_accept(c->sampler, c->id[c->n + (int32_t)i], false);
    c->n += (int32_t)count;
    if (c->n == 0) {
        /* Nothing to start from: an empty text of a model whose convention has no BOS. */
        int32_t bos = sr_tokenizer_bos(c->tokenizer);
        if (bos < 0)
            return out_error(EXIT_FAILED, "the prompt is empty and this model has no BOS token; give it some text");
        c->id[c->n++] = bos;
    }
    return EXIT_FINE;
}

/* Evaluates what is pending. */
static sr_status evaluate(conversation *c, bool show, sr_err *err) {
    out_progress progress = {0};
    double total = sr_session_n_pending(c->session);
    int32_t left;
    sr_status status = SR_OK;
    while (status == SR_OK && (left = sr_session_n_pending(c->session)) > 0) {
        if (show) out_progress_to(&progress, "reading the prompt", total - left, total);
        status = sr_step(&c->session, 1, err);
    }
    if (show) out_progress_end(&progress);
    return status;
}

/* Drops tokens behind the text that was shown, so that the conversation goes on from what the user sees. */
static void drop_unseen(conversation *c, int32_t first, size_t n_shown) {
    size_t sum = 0;
    int32_t i = first;
    for (; i < c->n; i++) {
        const char *bytes;
        size_t n = 0;
        if (!sr_token_is_special(c->tokenizer, c->id[i])) sr_token_bytes(c->tokenizer, c->id[i], &bytes, &n);
        sum += n;
        if (sum > n_shown) break;
    }
    c->n = i;
}

static void keep_logprobs(conversation *c, int32_t id) {
    if (!CLI_GIVEN(c->args, logprobs)) return;
    if ((c->n_likely & (c->n_likely - 1)) == 0)
        c->likely = out_alloc(c->likely, 2 * (size_t)c->n_likely + 1, sizeof *c->likely);
    struct likely *l = &c->likely[c->n_likely++];
    l->id = id;
    l->n = sr_sampler_logprobs(c->sampler, id, &l->logprob, l->top, (int)c->args->logprobs);
}

static void print_token(const conversation *c, out_json *j, int32_t id, float logprob) {
    const char *bytes = "";
    size_t n = 0;
    sr_token_bytes(c->tokenizer, id, &bytes, &n);
    json_int(j, "id", id);
    json_bytes(j, "token", bytes, n);
    json_real(j, "logprob", (double)logprob);
}

static void print_logprobs(const conversation *c, out_json *j) {
    json_open(j, "logprobs", '[');
    for (int32_t i = 0; i < c->n_likely; i++) {
        const struct likely *l = &c->likely[i];
        json_open(j, NULL, '{');
        print_token(c, j, l->id, l->logprob);
        json_open(j, "top_logprobs", '[');
        for (int k = 0; k < l->n; k++) {
            json_open(j, NULL, '{');
            print_token(c, j, l->top[k].id, l->top[k].logprob);
            json_close(j, '}');
        }
        json_close(j, ']');
        json_close(j, '}');
    }
    json_close(j, ']');
}

/* Continues the conversation. Returns an exit code; EXIT_INTERRUPTED leaves a conversation that can go on. */
static int generate(conversation *c, reply *r) {
    const cli_args *a = c->args;
    int64_t most = CLI_GIVEN(a, max_tokens) ? a->max_tokens : INT32_MAX;
    int32_t first = c->n;
    size_t n_shown = 0, n;
    const char *text;
    sr_err err = {0};
    *r = (reply){.finish = "length"};
    sr_detok_reset(c->detok, c->n == 1 && sr_token_is_special(c->tokenizer, c->id[0]));

    if (sr_session_sync(c->session, c->id, c->n, &err) != SR_OK) return out_failure(&err);
    r->n_prefill = sr_session_n_pending(c->session);
    double start = sr_clock();
    sr_status status = evaluate(c, true, &err);
    double began = sr_clock();
    r->prefill_s = began - start;

    bool stopped = false, written = true;
    while (status == SR_OK && r->n_tokens < most) {
        if (interrupted()) {
            status = SR_CANCELLED;
            break;
        }
        int32_t id = sr_sample(c->sampler, sr_session_logits(c->session));
        if (id < 0) {
            sr_fail(&err, SR_CORRUPT,
                    "the score of every token at position %d is not a number: a weight is NaN, infinite "
                    "or far too large",
                    c->n - 1);
            status = err.code;
            break;
        }
        r->n_tokens++;
        if (sr_model_is_end(c->model.model, id)) {
            r->n_tokens--;
            r->finish = "stop";
            break;
        }
        keep_logprobs(c, id);
        sr_sampler_accept(c->sampler, id, true);
        c->id[c->n++] = id;
        stopped = sr_detok_push(c->detok, id, &text, &n);
        n_shown += n;
        written = emit(c, text, n);
        if (stopped) r->finish = "stop";
        if (stopped || !written || c->n > c->n_ctx) break;
        if (r->n_tokens == most) break;
        status = sr_session_append(c->session, id, &err);
        if (status == SR_OK) status = evaluate(c, false, &err);
        if (status == SR_OK) r->n_decode++;
    }
    r->decode_s = sr_clock() - began;
    if (!stopped && written) {
        sr_detok_flush(c->detok, &text, &n);
        written = emit(c, text, n);
    }
    if (stopped) drop_unseen(c, first, n_shown);
    if (!written) return EXIT_FAILED; /* out_end says why */
    if (c->n > c->n_ctx) {
        c->n = c->n_ctx;
        r->full = !stopped;
    }
    if (status == SR_CANCELLED) {
        r->finish = "canceled";
        return EXIT_INTERRUPTED;
    }
    if (status == SR_OK) return EXIT_FINE;
    return out_failure_about(c->model.path, &err);
}

static double rate(int32_t n, double seconds) {
    return n > 0 && seconds > 0 ? n / seconds : 0;
}

static void show_end(const conversation *c, const reply *r, bool speed) {
    if (r->full) out_note("the context of %d tokens is full; --ctx N gives more room", c->n_ctx);
    if (!speed) return;
    out_note("prompt %d tokens, %.1f tokens/s; text %d tokens, %.1f tokens/s", r->n_prefill,
             rate(r->n_prefill, r->prefill_s), r->n_tokens, rate(r->n_decode, r->decode_s));
}

/* ---------------------------------------------------------------- one shot */

static int one_shot(conversation *c) {
    const cli_args *a = c->args;
    out_text prompt = {0}, text = {0};
    reply r = {0};
    int code = EXIT_FINE;
    if (strcmp(a->input, "-") == 0) {
        if (!out_read_all(stdin, MAX_PROMPT_BYTES, &prompt))
            code = out_error(EXIT_FAILED, "cannot read the prompt from standard input: %s",
                             ferror(stdin) ? strerror(errno) : "it is larger than 1 GiB");
    } else {
        out_text_add(&prompt, a->input, strlen(a->input));
    }
    if (!code) code = add_text(c, prompt.at, prompt.n);
    int32_t n_prompt = c->n;
    if (!code) {
        if (a->json) c->captured = &text;
        bool written = !a->echo || emit(c, prompt.at, prompt.n);
        code = written ? generate(c, &r) : EXIT_FAILED;
    }
    if (r.finish && (code == EXIT_FINE || code == EXIT_INTERRUPTED)) {
        if (a->json) {
            out_json j = {0};
            json_open(&j, NULL, '{');
            json_bytes(&j, "text", text.at ? text.at : "", text.n);
            json_int(&j, "tokens", r.n_tokens);
            json_int(&j, "prompt_tokens", n_prompt);
            json_text(&j, "finish_reason", r.finish);
            if (CLI_GIVEN(a, logprobs)) print_logprobs(c, &j);
            json_real(&j, "prefill_tok_s", rate(r.n_prefill, r.prefill_s));
            json_real(&j, "decode_tok_s", rate(r.n_decode, r.decode_s));
            json_uint(&j, "seed", c->seed);
            json_close(&j, '}');
            putchar('\n');
        } else if (out_stdout_is_terminal() && !c->ends_line) {
            putchar('\n');
        }
        out_flush();
        show_end(c, &r, out_stderr_is_terminal() || out_verbose());
    }
    out_text_free(&prompt);
    out_text_free(&text);
    return code;
}

/* ---------------------------------------------------------------- the prompt */

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

static void show_commands(void) {
    out_note("Type text and press Enter: it is appended to the conversation on a new line and continued.");
    out_note("Enter alone goes on; a backslash at the end of a line, or a paste, makes an input of several lines.");
    out_note("  /reset  start again with an empty text");
    out_note("  /help   this list");
    out_note("  /exit   leave (also Ctrl-D); Ctrl-C stops the text that is being written");
}

static const char *const prompt_commands[] = {"/help", "/reset", "/exit", "/quit", NULL};

static const char *prompt_command(void *user, int i) {
    (void)user;
    return prompt_commands[i];
}

/* Carries out "/word"; true when the conversation should end. */
static bool obey(conversation *c, const char *input) {
    if (strcmp(input, "/exit") == 0 || strcmp(input, "/quit") == 0) return true;
    if (strcmp(input, "/help") == 0) {
        show_commands();
    } else if (strcmp(input, "/reset") == 0) {
        c->n = 0;
        c->ends_line = false;
        sr_sampler_reset(c->sampler);
        out_note("(an empty text)");
    } else {
        const char *nearest = cli_nearest(input, prompt_command, NULL);
        out_note("unknown command %s%s%s; /help lists them", input, nearest ? "; did you mean " : "",
                 nearest ? nearest : "");
    }
    return false;
}

/* "/word" alone; other text may well begin with a slash. */
static bool is_command(const char *input) {
    if (input[0] != '/' || !input[1]) return false;
    return input[1 + strspn(input + 1, "abcdefghijklmnopqrstuvwxyz")] == 0;
}

static int converse(conversation *c) {
    reader in;
    out_text input = {0};
    int code = EXIT_FINE;
    reader_begin(&in);
    if (in.prompt) out_note("/help lists the commands, Ctrl-C stops the text, Ctrl-D leaves");
    for (;;) {
        interrupt_clear();
        bool more = read_input(&in, &input);
        if (interrupted()) {
            if (!in.prompt) {
                code = EXIT_INTERRUPTED;
                break;
            }
            fputc('\n', stderr);
            continue;
        }
        if (!more) {
            if (in.prompt) fputc('\n', stderr);
            break;
        }
        remember(&in, input.at);
        if (is_command(input.at)) {
            if (obey(c, input.at)) break;
            continue;
        }
        /* A new input begins a line of its own; Enter alone only asks for more. */
        out_text text = {0};
        if (c->n && input.n && !c->ends_line) out_text_add(&text, "\n", 1);
        out_text_add(&text, input.at, input.n);
        int added = c->n && !input.n ? EXIT_FINE : add_text(c, text.at, text.n);
        out_text_free(&text);
        if (added) {
            if (!in.prompt) {
                code = added;
                break;
            }
            continue;
        }
        reply r;
        c->ends_line = false;
        code = generate(c, &r);
        if (code == EXIT_FAILED) break;
        bool text_ends_line = c->ends_line;
        if (!text_ends_line) putchar('\n');
        if (!out_flush()) {
            code = EXIT_FAILED;
            break;
        }
        if (code == EXIT_INTERRUPTED) {
            out_note("(stopped)");
            if (!in.prompt) break;
            code = EXIT_FINE;
        }
        show_end(c, &r, out_verbose());
    }
    reader_end(&in);
    out_text_free(&input);
    return code;
}

int command_run(const cli_args *args) {
    conversation c = {.args = args};
    bool once = args->input != NULL;
    if (args->json && !once) return out_error(EXIT_USAGE, "--json needs a prompt: sirocco run --json -i TEXT");
    if (CLI_GIVEN(args, logprobs) && !args->json)
        return out_error(EXIT_USAGE, "--logprobs are printed with --json: sirocco run --json --logprobs 5 -i TEXT");
    if (args->echo && !once) return out_error(EXIT_USAGE, "--echo needs a prompt: sirocco run --echo -i TEXT");
    if (args->greedy && CLI_GIVEN(args, temperature) && args->temperature != 0)
        return out_error(EXIT_USAGE, "--greedy means --temperature 0; leave out one of the two");
    for (int i = 0; i < args->logit_bias.n; i++) {
        sr_logit_bias bias;
        if (parse_bias(args->logit_bias.at[i], &bias))
            return out_error(EXIT_USAGE, "--logit-bias takes ID=B, such as 13=-5, not '%s'", args->logit_bias.at[i]);
    }
    interrupt_catch(!once);
    int code = open_conversation(&c);
    if (!code) code = once ? one_shot(&c) : converse(&c);
    close_conversation(&c);
    return code;
}
