/* sirocco: the command-line program. */
#include <signal.h>
#include <stdio.h>
#include <string.h>

#include "cli/help.h"
#include "cli/options.h"
#include "cli/output.h"

static const char *command_name(void *user, int i) {
    (void)user;
    return cli_commands[i].name;
}

static int dispatch(int argc, char **argv) {
    if (argc < 2) {
        help_overview(stderr);
        return EXIT_USAGE;
    }
    const char *word = argv[1];
    if (strcmp(word, "--version") == 0 || strcmp(word, "-V") == 0 || strcmp(word, "version") == 0) {
        puts("sirocco " SR_VERSION);
        return EXIT_FINE;
    }
    if (strcmp(word, "--help") == 0 || strcmp(word, "-h") == 0) {
        help_overview(stdout);
        return EXIT_FINE;
    }
    const cli_command *command = cli_find_command(word);
    if (!command) {
        if (word[0] == '-')
            return out_error(EXIT_USAGE,
                             "'%s' stands before the command; usage: sirocco COMMAND [OPTIONS], see "
                             "'sirocco help'",
                             word);
        const char *nearest = cli_nearest(word, command_name, NULL);
        if (nearest)
            return out_error(EXIT_USAGE, "unknown command '%s'; did you mean '%s'? See 'sirocco help'", word, nearest);
        return out_error(EXIT_USAGE, "unknown command '%s'; see 'sirocco help'", word);
    }
    cli_args args;
    int code = cli_parse(command, argc - 2, argv + 2, &args);
    if (code == EXIT_FINE) {
        out_level(args.verbose, args.quiet);
        if (args.help)
            help_command(stdout, command);
        else
            code = command->run(&args);
    }
    cli_release(&args);
    return code;
}

int main(int argc, char **argv) {
    /* A reader that goes away ends the program without a word, also where the parent ignores SIGPIPE. */
    signal(SIGPIPE, SIG_DFL);
    /* A file that would outgrow the shell's limit (ulimit -f) is an error of its write, with a message. */
    signal(SIGXFSZ, SIG_IGN);
    out_begin();
    return out_end(dispatch(argc, argv));
}
