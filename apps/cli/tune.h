/* What a model would be in each of several types, and which of them suits this machine. */
#ifndef CLI_TUNE_H
#define CLI_TUNE_H

#include "cli/open.h"

enum { TUNE_MOST = 24 };
typedef struct tune_row {
    const char *isq; /* what --isq takes; NULL: as it is stored */
    sr_forecast f;
    double kld; /* measured, or the forecast's guess */
    bool fits;
} tune_row;
typedef struct tune_list {
    tune_row row[TUNE_MOST]; /* the best first, by expected divergence */
    int n, best;
    int64_t room; /* bytes that may be filled */
} tune_list;
/* Of a model that is open as it is stored. Takes a second or two. Returns an exit code, after telling why. */
int tune_find(const cli_args *args, const opened *plain, tune_list *list);
/* Chooses anew, after divergences were measured. */
void tune_choose(tune_list *list);

#endif
