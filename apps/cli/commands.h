/* One function per command; each returns the exit code. */
#ifndef CLI_COMMANDS_H
#define CLI_COMMANDS_H

struct cli_args;

int command_run(const struct cli_args *args);
int command_inspect(const struct cli_args *args);
int command_formats(const struct cli_args *args);
int command_quantize(const struct cli_args *args);
int command_imatrix(const struct cli_args *args);
int command_models(const struct cli_args *args);
int command_tokenize(const struct cli_args *args);
int command_template(const struct cli_args *args);
int command_eval(const struct cli_args *args);
int command_compare(const struct cli_args *args);
int command_tune(const struct cli_args *args);
int command_bench(const struct cli_args *args);
int command_doctor(const struct cli_args *args);
int command_help(const struct cli_args *args);

#endif
