#define PCRE2_CODE_UNIT_WIDTH 8
#include "base/pattern.h"

#include <pcre2.h>
#include <string.h>

/* PCRE2 does not say how many steps a match took: it is tried with FIRST_LIMIT of them, then STEP times as many. */
enum { FIRST_LIMIT = 16, STEP = 16, MOST_LIMIT = 100000 };

static void *take(PCRE2_SIZE n, void *arena) {
    return sr_arena_small(arena, n, 1);
}
static void leave(void *p, void *arena) {
    (void)p, (void)arena;
}

void *sr_pattern_compile(const char *pattern, bool anywhere, const char *where, sr_arena *arena, sr_err *err) {
    /* A search of PCRE2's own would count its steps anew at each start. */
    static const char front[] = ".*?(?:";
    const size_t n = strlen(pattern), skipped = anywhere ? sizeof front - 1 : 0;
    char *text = sr_arena_small(arena, n + sizeof front + 1, 1);
    if (text) {
        memcpy(text, front, skipped);
        memcpy(text + skipped, pattern, n + 1);
        if (anywhere) memcpy(text + skipped + n, ")", 2);
    }
    int code = 0;
    PCRE2_SIZE at = 0;
    pcre2_general_context *memory = pcre2_general_context_create(take, leave, arena);
    pcre2_compile_context *context = text && memory ? pcre2_compile_context_create(memory) : NULL;
    pcre2_code *re =
        context ? pcre2_compile((PCRE2_SPTR)text, PCRE2_ZERO_TERMINATED, PCRE2_ANCHORED, &code, &at, context) : NULL;
    if (!re && (!context || code == PCRE2_ERROR_NOMEMORY)) {
        sr_fail(err, SR_NOMEM, "%s: no memory for '%.80s'", where, pattern);
    } else if (!re) {
        PCRE2_UCHAR why[96] = "";
        pcre2_get_error_message(code, why, sizeof why);
        sr_fail(err, SR_INVALID, "%s: '%.80s' is no regular expression: %s at %zu", where, pattern, (const char *)why,
                at < skipped       ? 0
                : at - skipped < n ? (size_t)at - skipped
                                   : n);
    }
    return re;
}

sr_status sr_pattern_match(const void *code, const char *pattern, const char *text, const char *where, int64_t *left,
                           bool *matches, sr_err *err) {
    *matches = false;
    pcre2_match_data *data = pcre2_match_data_create(1, NULL);
    pcre2_match_context *limits = pcre2_match_context_create(NULL);
    sr_status s = SR_OK;
    if (!data || !limits) {
        s = sr_fail(err, SR_NOMEM, "%s: no memory for '%.80s'", where, pattern);
    } else {
        int n = PCRE2_ERROR_MATCHLIMIT;
        for (uint32_t most = FIRST_LIMIT; n == PCRE2_ERROR_MATCHLIMIT && most <= MOST_LIMIT && *left > 0;
             most = most < MOST_LIMIT && most * STEP > MOST_LIMIT ? MOST_LIMIT : most * STEP) {
            pcre2_set_match_limit(limits, most);
            n = pcre2_match(code, (PCRE2_SPTR)text, strlen(text), 0, 0, data, limits);
            *left -= most;
        }
        *matches = n >= 0;
        if (n < 0 && n != PCRE2_ERROR_NOMATCH)
            s = sr_fail(err, SR_LIMIT, "%s: '%.80s' takes too long to match", where, pattern);
    }
    pcre2_match_context_free(limits);
    pcre2_match_data_free(data);
    return s;
}
