#define PCRE2_CODE_UNIT_WIDTH 8
#include "base/pattern.h"

#include <pcre2.h>
#include <string.h>

enum { MATCH_LIMIT = 100000 };

sr_status sr_pattern_match(const char *pattern, const char *text, const char *where, bool *matches, sr_err *err) {
    int code;
    PCRE2_SIZE at;
    *matches = false;
    pcre2_code *re = pcre2_compile((PCRE2_SPTR)pattern, PCRE2_ZERO_TERMINATED, PCRE2_ANCHORED, &code, &at, NULL);
    if (!re) {
        PCRE2_UCHAR why[96] = "";
        pcre2_get_error_message(code, why, sizeof why);
        return sr_fail(err, SR_INVALID, "%s: '%.80s' is no regular expression: %s at %zu", where, pattern,
                       (const char *)why, (size_t)at);
    }
    pcre2_match_data *data = pcre2_match_data_create(1, NULL);
    pcre2_match_context *limits = pcre2_match_context_create(NULL);
    sr_status s = SR_OK;
    if (!data || !limits) {
        s = sr_fail(err, SR_NOMEM, "%s: no memory for '%.80s'", where, pattern);
    } else {
        pcre2_set_match_limit(limits, MATCH_LIMIT);
        int n = pcre2_match(re, (PCRE2_SPTR)text, strlen(text), 0, 0, data, limits);
        *matches = n >= 0;
        if (n < 0 && n != PCRE2_ERROR_NOMATCH)
            s = sr_fail(err, SR_LIMIT, "%s: '%.80s' takes too long to match", where, pattern);
    }
    pcre2_match_context_free(limits);
    pcre2_match_data_free(data);
    pcre2_code_free(re);
    return s;
}
