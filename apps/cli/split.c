#include "cli/split.h"

#include <string.h>

static const char open_mark[] = "<think>", close_mark[] = "</think>";

enum { LONGEST_HEADER = 256 }; /* "analysis", "commentary to=functions.NAME" */

static size_t spaces(const char *s, size_t n) {
    size_t i = 0;
    while (i < n && (s[i] == ' ' || s[i] == '\n' || s[i] == '\r' || s[i] == '\t')) i++;
    return i;
}

static bool is(const char *s, size_t n, const char *word) {
    return n == strlen(word) && memcmp(s, word, n) == 0;
}

static void drop(split *s, size_t n) {
    memmove(s->held.at, s->held.at + n, s->held.n - n);
    s->held.n -= n;
}

/* The first n held bytes go out. */
static void let(split *s, bool reasoning, size_t n) {
    size_t skip = s->skip_space ? spaces(s->held.at, n) : 0;
    if (skip < n) {
        s->skip_space = false;
        s->emit(s->user, reasoning, s->held.at + skip, n - skip);
    }
    drop(s, n);
}

static void reason(split *s) {
    s->state = SPLIT_REASONING;
    s->skip_space = true;
}

/* Bytes of `mark` that s[0..n) ends with. */
static size_t begun(const char *s, size_t n, const char *mark) {
    size_t k = strlen(mark) - 1;
    if (k > n) k = n;
    while (k && memcmp(s + n - k, mark, k) != 0) k--;
    return k;
}

static const char *find(const out_text *t, const char *mark) {
    size_t m = strlen(mark);
    for (size_t i = 0; i + m <= t->n; i++)
        if (memcmp(t->at + i, mark, m) == 0) return t->at + i;
    return NULL;
}

static void drain(split *s, bool last) {
    size_t n_open = sizeof open_mark - 1, n_close = sizeof close_mark - 1;
    while (s->held.n) {
        size_t lead, left;
        const char *at;
        switch (s->state) {
        case SPLIT_START:
            lead = spaces(s->held.at, s->held.n);
            left = s->held.n - lead;
            if (left >= n_open && memcmp(s->held.at + lead, open_mark, n_open) == 0) {
                drop(s, lead + n_open);
                reason(s);
            } else if (!last && left < n_open && memcmp(s->held.at + lead, open_mark, left) == 0) {
                return;
            } else {
                s->state = SPLIT_ANSWER;
            }
            break;
        case SPLIT_REASONING:
            at = find(&s->held, close_mark);
            if (!at) {
                let(s, true, s->held.n - (last ? 0 : begun(s->held.at, s->held.n, close_mark)));
                return;
            }
            let(s, true, (size_t)(at - s->held.at));
            drop(s, n_close);
            s->state = SPLIT_ANSWER;
            s->skip_space = true;
            break;
        case SPLIT_ANSWER:
            let(s, false, s->held.n);
            return;
        case SPLIT_HEADER:
            if (s->held.n > LONGEST_HEADER) s->held.n = LONGEST_HEADER;
            return;
        case SPLIT_BETWEEN:
            s->held.n = 0;
            return;
        }
    }
}

void split_begin(split *s, const char *prompt, size_t n, split_fn emit, void *user) {
    s->state = SPLIT_START;
    s->skip_space = false;
    s->held.n = 0;
    s->emit = emit;
    s->user = user;
    while (n && spaces(prompt + n - 1, 1)) n--;
    size_t n_open = sizeof open_mark - 1;
    if (n >= n_open && memcmp(prompt + n - n_open, open_mark, n_open) == 0) reason(s);
}

void split_text(split *s, const char *text, size_t n) {
    out_text_add(&s->held, text, n);
    drain(s, false);
}

bool split_is_mark(const char *spelling, size_t n) {
    static const char *const marks[] = {open_mark, close_mark, "<|channel|>", "<|message|>", "<|end|>", "<|start|>"};
    for (size_t i = 0; i < sizeof marks / sizeof *marks; i++)
        if (is(spelling, n, marks[i])) return true;
    return false;
}

/* gpt-oss: <|channel|>NAME<|message|>TEXT<|end|><|start|>assistant, then the next channel. */
void split_mark(split *s, const char *spelling, size_t n) {
    if (is(spelling, n, open_mark) || is(spelling, n, close_mark)) {
        if (s->state == SPLIT_START || s->state == SPLIT_REASONING) split_text(s, spelling, n);
        return;
    }
    if (is(spelling, n, "<|message|>")) {
        if (s->state != SPLIT_HEADER) return;
        bool reasoning = s->held.n >= 8 && memcmp(s->held.at, "analysis", 8) == 0;
        s->state = reasoning ? SPLIT_REASONING : SPLIT_ANSWER;
        s->held.n = 0;
        return;
    }
    if (s->state != SPLIT_HEADER) drain(s, true);
    s->held.n = 0;
    s->state = is(spelling, n, "<|channel|>") ? SPLIT_HEADER : SPLIT_BETWEEN;
}

void split_end(split *s) {
    if (s->state != SPLIT_HEADER) drain(s, true);
}

void split_free(split *s) {
    out_text_free(&s->held);
}
