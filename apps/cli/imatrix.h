/* Importances of a model's matrices over a text. */
#ifndef CLI_IMATRIX_H
#define CLI_IMATRIX_H

#include "cli/open.h"

/* Runs the text through the model, --ctx tokens at a time, --chunks windows at most. *im is to be freed before the
 * model. Returns an exit code, after telling why. */
int imatrix_collect(const cli_args *args, opened *o, const char *text, sr_imatrix **im);

#endif
