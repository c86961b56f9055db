/* Models by name: where the environment says that they are, and bringing them there. */
#ifndef CLI_HUB_H
#define CLI_HUB_H

#include "cli/options.h"

/* The path of `name`: itself where it exists, or of the model of the hub that it names, downloaded where it is missing.
 * quant and tokenizer_only as in sr_hub_options. *path is owned by the caller. Returns an exit code, after telling why.
 */
int hub_path(const cli_args *args, const char *name, const char *quant, bool tokenizer_only, char **path);

#endif
