/* Paths and directories. '/' separates; symbolic links are followed. */
#ifndef SR_BASE_PATH_H
#define SR_BASE_PATH_H

#include <stdbool.h>

#include "base/arena.h"
#include "base/err.h"

typedef enum sr_path_kind { SR_PATH_ABSENT, SR_PATH_FILE, SR_PATH_DIRECTORY, SR_PATH_OTHER } sr_path_kind;

/* What is there; SR_PATH_ABSENT also when it may not be looked at. */
sr_path_kind sr_path_look(const char *path);
/* The part after the last '/': inside `path`. */
const char *sr_path_base(const char *path);
bool sr_ends_with(const char *text, const char *tail);
/* Directory of a file's path ("." when it has none), and dir + "/" + name. NULL when out of memory. */
char *sr_path_dir(sr_arena *a, const char *path);
char *sr_path_join(sr_arena *a, const char *dir, const char *name);
/* Calls each(ctx, name) for the entries of a directory in the system's order, "." and ".." left out, until it returns
 * false. SR_IO names the path and the reason. */
sr_status sr_path_list(const char *dir, bool (*each)(void *ctx, const char *name), void *ctx, sr_err *err);

#endif
