/* From the command line to an engine and a model, with progress, banner and Ctrl-C. */
#ifndef CLI_OPEN_H
#define CLI_OPEN_H

#include <stdbool.h>

#include "cli/options.h"
#include "sirocco.h"

typedef struct opened {
    sr_engine *engine;
    sr_model *model;
    sr_model_info info;
    char *path;      /* owned */
    const char *isq; /* what --isq asked for, or NULL */
    bool writes;     /* the command does: what opening turns around is in files where its output will be */
    bool may_isq;    /* --isq and its kin are for it */
    bool bundled;
    char type[32]; /* type of most of the weights */
} opened;

/* Opens the model that the command line names, or the bundled one where `may_bundle`. Returns an exit code, after
 * telling why on standard error. Release in both cases. */
int open_model(const cli_args *args, bool may_bundle, opened *o);
/* Only the path of the model that the command line names, downloaded where it is missing; owned by the caller. */
int open_path(const cli_args *args, char **path);
/* Only the path of the model of a command for which it may be the bundled one. */
int open_path_or_bundle(const cli_args *args, opened *o);
/* EXIT_FINE, or EXIT_USAGE after listing what --isq takes. */
int open_check_isq(const char *isq);
/* Opens another model with an engine of its own: a reference to compare with. */
int open_reference(const cli_args *args, const char *path, const char *isq, bool exact, opened *o);
/* Opens a model once more, quantized alike, with an engine of its own. */
int open_again(const cli_args *args, const opened *model, bool exact, opened *o);
void open_release(opened *o);
/* Creates an engine as the command line asks. */
int open_engine(const cli_args *args, bool exact, sr_engine **e);
/* Model, sizes, context (0: not shown), kernel set and threads in one line on standard error. */
void open_banner(const opened *o, const sr_session *s);
/* Last part of a path, without slashes at its end, into `to`; of the hub's cache, the model's name. */
const char *open_name(const char *path, char *to, size_t cap);
/* Path of the bundled model into `to`; false when it is not installed. */
bool open_bundled_path(char *to, size_t cap);

/* From here on Ctrl-C cancels the running step of all opened engines and sets a flag. When not `repeatedly`, a second
 * Ctrl-C ends the program. */
void interrupt_catch(bool repeatedly);
bool interrupted(void);
void interrupt_clear(void);

#endif
