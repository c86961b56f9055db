/* quantize --target-...: types for single matrices under a limit. */
#ifndef CLI_ALLOT_H
#define CLI_ALLOT_H

#include "cli/open.h"

/* Whether the command line names a limit. */
bool allot_wanted(const cli_args *args);
/* EXIT_FINE, or EXIT_USAGE after telling what does not go together. */
int allot_check(const cli_args *args);
/* Finds the types, tells what is expected of them, and writes --recipe-out. *recipe is to be freed. Returns an exit
 * code, after telling why. */
int allot_recipe(const cli_args *args, const char *model, const sr_quantize_options *quantize, sr_recipe **recipe,
                 sr_allotment *info);

#endif
