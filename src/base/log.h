/* The library's one voice. Without a sink it is silent. */
#ifndef SR_BASE_LOG_H
#define SR_BASE_LOG_H

#include "base/err.h"

/* Sends one line (no newline needed) to the sink set by sr_log_sink. */
void sr_log(sr_log_level level, const char *fmt, ...) SR_PRINTF(2, 3);

#endif
