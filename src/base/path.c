#include "base/path.h"

#include <dirent.h>
#include <errno.h>
#include <string.h>
#include <sys/stat.h>

sr_path_kind sr_path_look(const char *path) {
    struct stat st;
    if (stat(path, &st) != 0) return SR_PATH_ABSENT;
    return S_ISREG(st.st_mode) ? SR_PATH_FILE : S_ISDIR(st.st_mode) ? SR_PATH_DIRECTORY : SR_PATH_OTHER;
}

const char *sr_path_base(const char *path) {
    const char *slash = strrchr(path, '/');
    return slash ? slash + 1 : path;
}

char *sr_path_dir(sr_arena *a, const char *path) {
    const char *slash = strrchr(path, '/');
    if (!slash) return sr_arena_strndup(a, ".", 1);
    return sr_arena_strndup(a, path, slash == path ? 1 : (size_t)(slash - path));
}

char *sr_path_join(sr_arena *a, const char *dir, const char *name) {
    size_t n = strlen(dir), m = strlen(name);
    while (n > 1 && dir[n - 1] == '/') n--;
    bool slash = !(n == 1 && dir[0] == '/');
    char *path = sr_arena_small(a, n + slash + m + 1, 1);
    if (!path) return NULL;
    memcpy(path, dir, n);
    if (slash) path[n] = '/';
    memcpy(path + n + slash, name, m); /* the arena's zero terminates it */
    return path;
}

sr_status sr_path_list(const char *dir, bool (*each)(void *ctx, const char *name), void *ctx, sr_err *err) {
    DIR *d = opendir(dir);
    if (!d) return sr_fail(err, SR_IO, "%s: %s", dir, strerror(errno));
    const struct dirent *e;
    while ((e = readdir(d)))
        if (strcmp(e->d_name, ".") != 0 && strcmp(e->d_name, "..") != 0 && !each(ctx, e->d_name)) break;
    closedir(d);
    return SR_OK;
}

bool sr_ends_with(const char *text, const char *tail) {
    size_t n = strlen(text), m = strlen(tail);
    return n >= m && memcmp(text + n - m, tail, m) == 0;
}
