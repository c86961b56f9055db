#include "base/log.h"

#include <stdarg.h>
#include <stdio.h>

static sr_log_fn sink;
static void *sink_user;

void sr_log_sink(sr_log_fn fn, void *user) {
    sink = fn;
    sink_user = user;
}

void sr_log(sr_log_level level, const char *fmt, ...) {
    if (!sink) return;
    char line[512];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(line, sizeof line, fmt, ap);
    va_end(ap);
    sink(sink_user, level, line);
}
