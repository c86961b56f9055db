/* sirocco run: opening, generating, and one shot (-i). */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/map.h"
#include "cli/commands.h"
#include "cli/run.h"

enum { MAX_PROMPT_BYTES = 1 << 30, MOST_LOGPROBS = 20 };

struct likely {
    int32_t id;
    float logprob;
    int n;
    sr_logprob top[MOST_LOGPROBS];
};

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

/* A sampler that knows the tokens so far as its prompt: each reply is one request, with a seed of its own. */
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
    s.seed = c->seed + (uint64_t)c->n_replies;
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
    sr_sampler_free(c->sampler);
    c->sampler = NULL;
    if (status == SR_OK) status = sr_sampler_create(&s, c->model.info.n_vocab, &c->sampler, &err);
    free(bias);
    free(breaker);
    if (status == SR_INVALID) return out_error(EXIT_USAGE, "%s; see 'sirocco run --help'", err.msg);
    if (status != SR_OK) return out_failure(&err);
    for (int32_t i = 0; i < c->n; i++) sr_sampler_accept(c->sampler, c->id[i], false);
    return EXIT_FINE;
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
    const sr_session_options options = {.n_ctx = (int32_t)a->ctx, .kv_type = a->kv_type};
    if (sr_session_create(c->model.model, &options, &c->session, &err) != SR_OK) return out_failure(&err);
    c->n_ctx = sr_session_n_ctx(c->session);
    c->id = out_alloc(NULL, (size_t)c->n_ctx + 1, sizeof *c->id);
    if (sr_detok_create(c->tokenizer, a->stop.at, a->stop.n, &c->detok, &err) != SR_OK) return out_failure(&err);
    c->seed = CLI_GIVEN(a, seed) ? a->seed : new_seed();
    if ((code = create_sampler(c))) return code; /* what is wrong with its options is said now */
    open_banner(&c->model, c->session);
    if (!a->greedy && !(CLI_GIVEN(a, temperature) && a->temperature == 0) && !CLI_GIVEN(a, seed))
        out_note("seed %llu", (unsigned long long)c->seed);
    return chat_open(&c->chat, a, &c->model);
}

static void close_conversation(conversation *c) {
    chat_close(&c->chat);
    split_free(&c->split);
    out_text_free(&c->answer);
    out_text_free(&c->thought);
    sr_detok_free(c->detok);
    sr_sampler_free(c->sampler);
    sr_session_free(c->session);
    free(c->id);
    free(c->likely);
    open_release(&c->model);
}

/* ---------------------------------------------------------------- generation */

static void emit(conversation *c, const char *text, size_t n) {
    if (n == 0) return;
    c->ends_line = text[n - 1] == '\n';
    if (c->captured) {
        out_text_add(c->captured, text, n);
        return;
    }
    if (out_stdout_is_terminal()) {
        out_text clean = {0}; /* a model must not steer the terminal */
        out_text_add_visible(&clean, text, n, true);
        fwrite(clean.at, 1, clean.n, stdout);
        out_text_free(&clean);
    } else {
        fwrite(text, 1, n, stdout);
    }
    c->written = out_flush();
}

/* Reasoning is no result: it goes to standard error. */
static void emit_part(void *user, bool reasoning, const char *text, size_t n) {
    conversation *c = user;
    out_text_add(reasoning ? &c->thought : &c->answer, text, n);
    if (!reasoning) {
        if (c->aside) out_aside("\n", 1);
        c->aside = false;
        emit(c, text, n);
    } else if (!c->captured) {
        out_aside(text, n);
        c->aside = text[n - 1] != '\n';
    }
}

static void deliver(conversation *c, const char *text, size_t n) {
    if (c->chat.template)
        split_text(&c->split, text, n);
    else
        emit(c, text, n);
}

/* Reasoning is set apart by tokens in some models: what stands before one is complete. */
static void deliver_mark(conversation *c, int32_t id) {
    const char *spelling, *text;
    size_t n_spelling, n;
    if (!c->chat.template || !sr_token_is_special(c->tokenizer, id)) return;
    sr_token_bytes(c->tokenizer, id, &spelling, &n_spelling);
    if (!split_is_mark(spelling, n_spelling)) return;
    sr_detok_flush(c->detok, &text, &n);
    deliver(c, text, n);
    sr_detok_reset(c->detok, false);
    split_mark(&c->split, spelling, n_spelling);
}

static int too_long(const conversation *c, size_t count) {
    if (c->n == 0)
        return out_error(EXIT_FAILED,
                         "the prompt has %zu tokens and the context %d; shorten it or use --ctx %zu or more", count,
                         c->n_ctx, count + 1);
    return out_error(EXIT_FAILED,
                     "the context is full: %d tokens and %zu new ones, of %d; /reset starts again, --ctx N gives more "
                     "room",
                     c->n, count, c->n_ctx);
}

int run_add_text(conversation *c, const char *text, size_t n) {
    sr_err err = {0};
    unsigned flags = c->n ? SR_TOKENIZE_NO_BOS : 0;
    size_t room = (size_t)(c->n_ctx - c->n), count;
    if (sr_tokenize(c->tokenizer, text, n, flags, c->id + c->n, room, &count, &err) != SR_OK) return out_failure(&err);
    if (count > room) return too_long(c, count);
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

int run_prompt(conversation *c, out_text *prompt) {
    sr_err err = {0};
    size_t count;
    int code = chat_render(&c->chat, prompt);
    if (code) return code;
    /* The template writes BOS where the model wants it. */
    if (sr_tokenize(c->tokenizer, prompt->at, prompt->n, SR_TOKENIZE_NO_BOS, c->id, (size_t)c->n_ctx, &count, &err) !=
        SR_OK)
        return out_failure(&err);
    c->n = 0;
    if (count > (size_t)c->n_ctx) return too_long(c, count);
    if (count == 0)
        return out_error(EXIT_FAILED, "the chat template makes an empty prompt of this; --no-chat does without it");
    c->n = (int32_t)count;
    c->answer.n = c->thought.n = 0;
    split_begin(&c->split, prompt->at, prompt->n, emit_part, c);
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

int run_generate(conversation *c, reply *r) {
    const cli_args *a = c->args;
    int64_t most = CLI_GIVEN(a, max_tokens) ? a->max_tokens : INT32_MAX;
    int32_t first = c->n;
    size_t n_shown = 0, n;
    const char *text;
    sr_err err = {0};
    int code = create_sampler(c);
    if (code) return code;
    c->n_replies++;
    *r = (reply){.finish = "length"};
    sr_detok_reset(c->detok, c->n == 1 && sr_token_is_special(c->tokenizer, c->id[0]));

    if (sr_session_sync(c->session, c->id, c->n, &err) != SR_OK) return out_failure(&err);
    r->n_prefill = sr_session_n_pending(c->session);
    double start = sr_clock();
    sr_status status = evaluate(c, true, &err);
    double began = sr_clock();
    r->prefill_s = began - start;

    bool stopped = false;
    c->written = true;
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
        deliver_mark(c, id);
        stopped = sr_detok_push(c->detok, id, &text, &n);
        n_shown += n;
        deliver(c, text, n);
        if (stopped) r->finish = "stop";
        if (stopped || !c->written || c->n > c->n_ctx) break;
        if (r->n_tokens == most) break;
        status = sr_session_append(c->session, id, &err);
        if (status == SR_OK) status = evaluate(c, false, &err);
        if (status == SR_OK) r->n_decode++;
    }
    r->decode_s = sr_clock() - began;
    if (!stopped && c->written) {
        sr_detok_flush(c->detok, &text, &n);
        deliver(c, text, n);
    }
    split_end(&c->split);
    if (c->aside) out_aside("\n", 1);
    c->aside = false;
    if (stopped) drop_unseen(c, first, n_shown);
    if (!c->written) return EXIT_FAILED; /* out_end says why */
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

/* Without the white space at its end, which belongs to the marker behind it. */
static void trim(out_text *t) {
    while (t->n && strchr(" \n\r\t", t->at[t->n - 1])) t->n--;
}

void run_keep_reply(conversation *c) {
    out_text thought = c->thought; /* itself as it is: the reply may go on */
    trim(&thought);
    chat_say(&c->chat, CHAT_ASSISTANT, &c->answer, &thought);
}

static double rate(int32_t n, double seconds) {
    return n > 0 && seconds > 0 ? n / seconds : 0;
}

void run_show_end(const conversation *c, const reply *r, bool speed) {
    if (r->full) out_note("the context of %d tokens is full; --ctx N gives more room", c->n_ctx);
    if (!speed) return;
    out_note("prompt %d tokens, %.1f tokens/s; text %d tokens, %.1f tokens/s", r->n_prefill,
             rate(r->n_prefill, r->prefill_s), r->n_tokens, rate(r->n_decode, r->decode_s));
}

/* ---------------------------------------------------------------- one shot */

static int one_shot(conversation *c) {
    const cli_args *a = c->args;
    out_text input = {0}, rendered = {0}, text = {0};
    reply r = {0};
    int code = EXIT_FINE;
    if (strcmp(a->input, "-") == 0) {
        if (!out_read_all(stdin, MAX_PROMPT_BYTES, &input))
            code = out_error(EXIT_FAILED, "cannot read the prompt from standard input: %s",
                             ferror(stdin) ? strerror(errno) : "it is larger than 1 GiB");
    } else {
        out_text_add(&input, a->input, strlen(a->input));
    }
    bool messages = c->chat.template != NULL;
    if (!code && messages) {
        chat_say(&c->chat, CHAT_USER, &input, &(out_text){0});
        code = run_prompt(c, &rendered);
    } else if (!code) {
        code = run_add_text(c, input.at, input.n);
    }
    const out_text *prompt = messages ? &rendered : &input;
    int32_t n_prompt = c->n;
    if (!code) {
        if (a->json) c->captured = &text;
        c->written = true;
        if (a->echo) emit(c, prompt->at, prompt->n);
        code = c->written ? run_generate(c, &r) : EXIT_FAILED;
    }
    if (r.finish && (code == EXIT_FINE || code == EXIT_INTERRUPTED)) {
        if (a->json) {
            out_json j = {0};
            json_open(&j, NULL, '{');
            json_bytes(&j, "text", text.at ? text.at : "", text.n);
            if (messages) {
                trim(&c->thought);
                json_bytes(&j, "reasoning", c->thought.at ? c->thought.at : "", c->thought.n);
            }
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
        run_show_end(c, &r, out_stderr_is_terminal() || out_verbose());
    }
    out_text_free(&input);
    out_text_free(&rendered);
    out_text_free(&text);
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
    if (!code) code = once ? one_shot(&c) : prompt_converse(&c);
    close_conversation(&c);
    return code;
}
