/* Texts derived from the tables of options.h. */
#ifndef CLI_HELP_H
#define CLI_HELP_H

#include <stdio.h>

#include "cli/options.h"

void help_overview(FILE *to);
void help_command(FILE *to, const cli_command *command);

#endif
