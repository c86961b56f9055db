#include "base/err.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

sr_status sr_fail(sr_err *err, sr_status code, const char *fmt, ...) {
    if (!err || err->code != SR_OK) return code;
    err->code = code;
    va_list ap;
    va_start(ap, fmt);
    int n = vsnprintf(err->msg, sizeof err->msg, fmt, ap);
    va_end(ap);
    if (n < 0) err->msg[0] = 0;
    size_t len = strlen(err->msg);
    if (n >= (int)sizeof err->msg) /* cut: drop a character that lost its tail */
        while (len > 0 && ((unsigned char)err->msg[len - 1] & 0x80)) err->msg[--len] = 0;
    for (size_t i = 0; i < len; i++) {
        unsigned char c = (unsigned char)err->msg[i];
        if (c < 0x20 || c == 0x7f) err->msg[i] = '?';
    }
    return code;
}

void sr_err_clear(sr_err *err) {
    if (!err) return;
    err->code = SR_OK;
    err->msg[0] = 0;
}

const char *sr_status_name(sr_status code) {
    static const char *const names[] = {
        "ok",           "invalid argument", "corrupt input", "unsupported", "out of memory",
        "input/output", "device",           "limit",         "cancelled"};
    return (unsigned)code < sizeof names / sizeof *names ? names[code] : "unknown status";
}
