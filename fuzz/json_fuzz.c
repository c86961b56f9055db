/* Any bytes as JSON: walking it value by value and skipping it at once must agree, every conversion must hold. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/json.h"
#include "base/utf8.h"

#define PROMISE(x)                                                                                                     \
    do {                                                                                                               \
        if (!(x)) __builtin_trap();                                                                                    \
    } while (0)

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void convert(sr_json *j, const sr_json_value *v) {
    size_t n;
    int64_t i;
    double d;
    bool b;
    PROMISE(v->text >= j->base && v->text + v->n <= j->end);
    if (sr_json_int64(v, &i)) PROMISE(v->kind == SR_JSON_NUMBER && sr_json_double(v, &d) && d == (double)i);
    if (sr_json_double(v, &d)) PROMISE(v->kind == SR_JSON_NUMBER && isfinite(d));
    PROMISE(sr_json_bool(v, &b) == (v->kind == SR_JSON_BOOL));
    if (v->kind != SR_JSON_STRING) return;
    char *out = malloc(v->n + 1); /* exactly what the header says suffices */
    sr_err err = {0};
    sr_json again = *j;
    again.err = &err;
    if (!out) return;
    if (sr_json_unescape(&again, v, out, &n)) {
        PROMISE(n <= v->n && out[n] == 0 && sr_utf8_valid(out, n));
        PROMISE(sr_json_equals(v, out) == (memchr(out, 0, n) == NULL));
    } else {
        PROMISE(err.code == SR_CORRUPT);
    }
    free(out);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    sr_err err = {0}, skip_err = {0};
    sr_json_value key, v;
    sr_json j = sr_json_over((const char *)data, size, "fuzz", &err), skip = j;
    skip.err = &skip_err;
    sr_json_next(&skip, &v);
    sr_json_skip(&skip, &v);
    bool skipped = sr_json_at_end(&skip);

    sr_json_kind kind;
    size_t steps = 0;
    do {
        if (j.depth && j.open[j.depth - 1] == '{') {
            kind = sr_json_next_pair(&j, &key, &v);
            if (kind != SR_JSON_END && kind != SR_JSON_ERROR) convert(&j, &key);
        } else {
            kind = sr_json_next(&j, &v);
        }
        if (kind != SR_JSON_END && kind != SR_JSON_ERROR) convert(&j, &v);
        PROMISE(steps++ <= 2 * size + 2);
    } while (kind != SR_JSON_ERROR && j.depth > 0);
    PROMISE((kind == SR_JSON_ERROR) == (err.code != SR_OK));
    PROMISE(sr_json_at_end(&j) == skipped);
    return 0;
}
