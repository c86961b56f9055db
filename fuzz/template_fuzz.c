/* A chat template, a zero byte, and the JSON of its variables. Within small limits every template ends. */
#include <stdlib.h>
#include <string.h>

#include "base/utf8.h"
#include "text/template.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    static const sr_template_limits limits = {.steps = 100 * 1000, .bytes = 8 << 20, .output = 1 << 20, .depth = 200};
    const uint8_t *zero = size ? memchr(data, 0, size) : NULL;
    size_t n = zero ? (size_t)(zero - data) : size, n_variables = zero ? size - n - 1 : 2, n_text;
    const char *variables = zero ? (const char *)zero + 1 : "{}";
    sr_template *t;
    char *text;
    sr_err err = {0};
    sr_status status = sr_template_parse((const char *)data, n, "fuzz", &t, &err);
    if (status != err.code || (status == SR_OK) != (t != NULL)) abort();
    if (!t) return 0;
    status = sr_template_render_with(t, variables, n_variables, &limits, 1700000000, &text, &n_text, &err);
    if (status != err.code || (status == SR_OK) != (text != NULL)) abort();
    if (text && (text[n_text] || n_text > limits.output || !sr_utf8_valid(text, n_text))) abort();
    sr_text_free(text);
    sr_template_free(t);
    return 0;
}
