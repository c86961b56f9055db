#define _GNU_SOURCE
#include "base/disk.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

enum { MOST_LEVELS = 16, SYNC_EVERY = 64 << 20 };

static sr_status fail_errno(sr_err *err, const char *path, const char *doing) {
    int e = errno;
    bool full = e == ENOSPC || e == EDQUOT || e == EFBIG;
    return sr_fail(err, SR_IO, "%s: cannot %s: %s%s", path, doing, strerror(e),
                   full ? "; free some space or use another disk, then try again" : "");
}

/* ---------------------------------------------------------------- looking and making */

sr_status sr_disk_make(const char *dir, sr_err *err) {
    char path[PATH_MAX];
    size_t n = strlen(dir);
    if (n == 0 || n >= sizeof path) return sr_fail(err, SR_INVALID, "%.100s: found a path of %zu bytes", dir, n);
    memcpy(path, dir, n + 1);
    for (char *slash = path + 1;; slash++) {
        if (*slash && *slash != '/') continue;
        char was = *slash;
        *slash = 0;
        struct stat st;
        if (mkdir(path, 0777) != 0 && (errno != EEXIST || stat(path, &st) != 0 || !S_ISDIR(st.st_mode))) {
            if (errno == EEXIST) errno = ENOTDIR;
            return fail_errno(err, path, "make the directory");
        }
        *slash = was;
        if (!was) return SR_OK;
    }
}

int64_t sr_disk_free(const char *dir) {
    struct statvfs v;
    if (statvfs(dir, &v) != 0) return -1;
    uint64_t unit = v.f_frsize ? v.f_frsize : v.f_bsize;
    if (unit == 0 || v.f_bavail > (uint64_t)INT64_MAX / unit) return -1;
    return (int64_t)(unit * v.f_bavail);
}

bool sr_disk_inside(const char *path, const char *top) {
    char *a = realpath(path, NULL), *b = realpath(top, NULL);
    size_t n = b ? strlen(b) : 0;
    bool inside = a && b && strncmp(a, b, n) == 0 && (a[n] == 0 || a[n] == '/' || n == 1);
    free(a);
    free(b);
    return inside;
}

int64_t sr_disk_size(const char *path) {
    struct stat st;
    return stat(path, &st) == 0 && S_ISREG(st.st_mode) ? (int64_t)st.st_size : -1;
}

/* ---------------------------------------------------------------- whole files */

/* "path.PID.tmp": a name of this process beside `path`. */
static sr_status name_beside(const char *path, char *to, sr_err *err) {
    int n = snprintf(to, PATH_MAX, "%s.%ld.tmp", path, (long)getpid());
    return n > 0 && n < PATH_MAX ? SR_OK : sr_fail(err, SR_INVALID, "%.100s...: the path is too long", path);
}

static sr_status write_all(int fd, const char *path, const void *data, size_t n, sr_err *err) {
    const char *p = data;
    while (n > 0) {
        ssize_t w = write(fd, p, n);
        if (w < 0 && errno == EINTR) continue;
        if (w <= 0) return fail_errno(err, path, "write");
        p += w;
        n -= (size_t)w;
    }
    return SR_OK;
}

/* Opens the temporary file of `path`, empty. */
static sr_status open_beside(const char *path, char *temp, int *fd, sr_err *err) {
    sr_status s = name_beside(path, temp, err);
    if (s != SR_OK) return s;
    unlink(temp);
    *fd = open(temp, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
    return *fd >= 0 ? SR_OK : fail_errno(err, temp, "make the file");
}

/* Ends what open_beside began: renames, or removes after a failure. */
static sr_status close_beside(const char *path, const char *temp, int fd, sr_status s, sr_err *err) {
    if (s == SR_OK && fsync(fd) != 0) s = fail_errno(err, temp, "write");
    if (close(fd) != 0 && s == SR_OK) s = fail_errno(err, temp, "write");
    if (s == SR_OK) s = sr_disk_rename(temp, path, err);
    if (s != SR_OK) unlink(temp);
    return s;
}

sr_status sr_disk_put(const char *path, const void *data, size_t n, sr_err *err) {
    char temp[PATH_MAX];
    int fd;
    sr_status s = open_beside(path, temp, &fd, err);
    return s == SR_OK ? close_beside(path, temp, fd, write_all(fd, temp, data, n, err), err) : s;
}

sr_status sr_disk_copy(const char *from, const char *to, sr_err *err) {
    char temp[PATH_MAX], *chunk = NULL;
    enum { CHUNK = 1 << 20 };
    int in = open(from, O_RDONLY | O_CLOEXEC), out;
    if (in < 0) return fail_errno(err, from, "read");
    sr_status s = open_beside(to, temp, &out, err);
    if (s == SR_OK) {
        chunk = malloc(CHUNK);
        if (!chunk) s = sr_fail(err, SR_NOMEM, "%s: no memory to copy it", from);
        for (ssize_t n; s == SR_OK && (n = read(in, chunk, CHUNK)) != 0;) {
            if (n > 0)
                s = write_all(out, temp, chunk, (size_t)n, err);
            else if (errno != EINTR)
                s = fail_errno(err, from, "read");
        }
        s = close_beside(to, temp, out, s, err);
    }
    free(chunk);
    close(in);
    return s;
}

sr_status sr_disk_rename(const char *from, const char *to, sr_err *err) {
    return rename(from, to) == 0 ? SR_OK : fail_errno(err, to, "put the file in its place");
}

sr_status sr_disk_exchange(const char *a, const char *b, bool *exchanged, sr_err *err) {
#ifdef RENAME_EXCHANGE
    *exchanged = renameat2(AT_FDCWD, a, AT_FDCWD, b, RENAME_EXCHANGE) == 0;
    if (*exchanged || errno == EINVAL || errno == ENOSYS || errno == EOPNOTSUPP) return SR_OK;
    return fail_errno(err, b, "put the directory in its place");
#else
    (void)a, (void)b, (void)err;
    *exchanged = false;
    return SR_OK;
#endif
}

sr_status sr_disk_remove(const char *path, sr_err *err) {
    return unlink(path) == 0 || errno == ENOENT ? SR_OK : fail_errno(err, path, "remove");
}

sr_status sr_disk_link(const char *path, const char *target, bool *linked, sr_err *err) {
    char temp[PATH_MAX];
    *linked = false;
    sr_status s = name_beside(path, temp, err);
    if (s != SR_OK) return s;
    unlink(temp);
    if (symlink(target, temp) != 0) {
        bool none = errno == EPERM || errno == ENOSYS || errno == EOPNOTSUPP || errno == ENOTSUP || errno == EACCES;
        return none ? SR_OK : fail_errno(err, path, "make the link");
    }
    s = sr_disk_rename(temp, path, err);
    if (s != SR_OK) unlink(temp);
    *linked = s == SR_OK;
    return s;
}

/* ---------------------------------------------------------------- trees */

/* Opens an entry of a directory for listing, unless it is a link. */
static DIR *open_dir_at(int at, const char *name) {
    int fd = openat(at, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    DIR *d = fd >= 0 ? fdopendir(fd) : NULL;
    if (!d && fd >= 0) close(fd);
    return d;
}

static bool is_dots(const char *name) {
    return strcmp(name, ".") == 0 || strcmp(name, "..") == 0;
}

/* Empties the directory and closes it. `path` is for messages. */
static sr_status empty_dir(DIR *d, const char *path, int level, int64_t *bytes, sr_err *err) {
    sr_status s = SR_OK;
    const struct dirent *e;
    while (s == SR_OK && (e = readdir(d))) {
        struct stat st;
        if (is_dots(e->d_name) || fstatat(dirfd(d), e->d_name, &st, AT_SYMLINK_NOFOLLOW) != 0) continue;
        bool is_dir = S_ISDIR(st.st_mode);
        if (is_dir) {
            DIR *inner = level < MOST_LEVELS ? open_dir_at(dirfd(d), e->d_name) : NULL;
            s = inner ? empty_dir(inner, path, level + 1, bytes, err)
                      : sr_fail(err, SR_IO, "%s: cannot open %s in it to remove it", path, e->d_name);
        }
        if (s == SR_OK && unlinkat(dirfd(d), e->d_name, is_dir ? AT_REMOVEDIR : 0) != 0)
            s = fail_errno(err, path, "remove what is in it");
        else if (s == SR_OK && S_ISREG(st.st_mode) && bytes)
            *bytes += (int64_t)st.st_size;
    }
    closedir(d);
    return s;
}

sr_status sr_disk_remove_tree(const char *dir, int64_t *bytes, sr_err *err) {
    DIR *d = open_dir_at(AT_FDCWD, dir);
    if (!d && errno == ENOENT) return SR_OK;
    if (!d && (errno == ELOOP || errno == ENOTDIR))
        return sr_fail(err, SR_IO, "%s: found a link or a file, expected a directory; remove it by hand", dir);
    if (!d) return fail_errno(err, dir, "open");
    sr_status s = empty_dir(d, dir, 0, bytes, err);
    if (s == SR_OK && rmdir(dir) != 0) s = fail_errno(err, dir, "remove");
    return s;
}

struct walk {
    sr_disk_fn each;
    void *ctx;
    char path[PATH_MAX]; /* relative to the top */
    bool go;
};

static void walk_dir(struct walk *w, DIR *d, size_t n, int level) {
    const struct dirent *e;
    while (w->go && (e = readdir(d))) {
        size_t m = strlen(e->d_name);
        struct stat st;
        if (is_dots(e->d_name) || n + m + 2 > sizeof w->path) continue;
        memcpy(w->path + n, e->d_name, m + 1);
        if (fstatat(dirfd(d), e->d_name, &st, AT_SYMLINK_NOFOLLOW) != 0) continue;
        if (S_ISDIR(st.st_mode)) {
            DIR *inner = level < MOST_LEVELS ? open_dir_at(dirfd(d), e->d_name) : NULL;
            if (!inner) continue;
            memcpy(w->path + n + m, "/", 2);
            walk_dir(w, inner, n + m + 1, level + 1);
            continue;
        }
        bool link = S_ISLNK(st.st_mode), there = !link || fstatat(dirfd(d), e->d_name, &st, 0) == 0;
        if (!there || S_ISREG(st.st_mode)) w->go = w->each(w->ctx, w->path, there ? (int64_t)st.st_size : -1);
    }
    closedir(d);
}

sr_status sr_disk_walk(const char *dir, sr_disk_fn each, void *ctx, sr_err *err) {
    struct walk w = {.each = each, .ctx = ctx, .go = true};
    DIR *d = opendir(dir);
    if (!d) return fail_errno(err, dir, "list");
    walk_dir(&w, d, 0, 0);
    return SR_OK;
}

/* ---------------------------------------------------------------- locks */

sr_status sr_lock_try(const char *path, sr_lock *lock, sr_err *err) {
    lock->fd = -1;
    /* Group-writable, as other tools make it: users may share a cache. */
    int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0664);
    if (fd < 0) return fail_errno(err, path, "open the lock");
    if (flock(fd, LOCK_EX | LOCK_NB) != 0) {
        bool busy = errno == EWOULDBLOCK || errno == EINTR;
        sr_status s = busy ? SR_OK : fail_errno(err, path, "lock");
        close(fd);
        return s;
    }
    /* Some tools remove the file when they are done: a lock on a file without a name locks nobody out. */
    struct stat mine, named;
    if (fstat(fd, &mine) != 0 || stat(path, &named) != 0 || mine.st_ino != named.st_ino ||
        mine.st_dev != named.st_dev) {
        close(fd);
        return SR_OK;
    }
    lock->fd = fd;
    return SR_OK;
}

void sr_lock_drop(sr_lock *lock) {
    if (lock->fd >= 0) close(lock->fd);
    lock->fd = -1;
}

/* ---------------------------------------------------------------- a file of a known size */

sr_status sr_slab_open(const char *path, int64_t size, sr_slab *slab, sr_err *err) {
    struct stat st;
    slab->fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK, 0666);
    if (slab->fd < 0) return fail_errno(err, path, "open for writing");
    sr_status s = SR_OK;
    if (fstat(slab->fd, &st) != 0 || !S_ISREG(st.st_mode))
        s = sr_fail(err, SR_IO, "%s: found a special file, expected a regular one", path);
    else if (st.st_size != size && ftruncate(slab->fd, size) != 0)
        s = fail_errno(err, path, "give the file its size");
    if (s != SR_OK) {
        close(slab->fd);
        slab->fd = -1;
    }
    return s;
}

/* Gives all of an empty file its blocks; 0, or why it cannot. */
static int reserve(int fd, int64_t size) {
    enum { CHUNK = 1 << 16 };
    static const char zero[CHUNK];
#if defined(_POSIX_ADVISORY_INFO) && _POSIX_ADVISORY_INFO > 0
    int e;
    while ((e = posix_fallocate(fd, 0, (off_t)size)) == EINTR) {
    }
    if (e != EINVAL && e != EOPNOTSUPP) return e; /* else the file system has no such call */
#endif
    for (int64_t at = 0; at < size;) {
        const ssize_t w = pwrite(fd, zero, size - at < CHUNK ? (size_t)(size - at) : CHUNK, (off_t)at);
        if (w < 0 && errno != EINTR) return errno;
        at += w > 0 ? w : 0;
    }
    return 0;
}

sr_status sr_slab_scratch(const char *path, int64_t size, sr_slab *slab, sr_err *err) {
    sr_status s = sr_disk_remove(path, err);
    if (s == SR_OK) s = sr_slab_open(path, 0, slab, err);
    if (s != SR_OK) return s;
    s = sr_disk_remove(path, err);
    if (s == SR_OK && (errno = reserve(slab->fd, size)) != 0) s = fail_errno(err, path, "reserve room for the file");
    if (s != SR_OK) sr_slab_close(slab, path, NULL);
    return s;
}

sr_status sr_slab_write(sr_slab *slab, const char *path, int64_t at, const void *data, size_t n, sr_err *err) {
    const char *p = data;
    while (n > 0) {
        ssize_t w = pwrite(slab->fd, p, n, at);
        if (w < 0 && errno == EINTR) continue;
        if (w <= 0) return fail_errno(err, path, "write");
        p += w, at += w, n -= (size_t)w;
    }
    return SR_OK;
}

sr_status sr_slab_read(const sr_slab *slab, const char *path, int64_t at, void *data, size_t n, sr_err *err) {
    char *p = data;
    while (n > 0) {
        ssize_t r = pread(slab->fd, p, n, at);
        if (r < 0 && errno == EINTR) continue;
        if (r < 0) return fail_errno(err, path, "read");
        if (r == 0) return sr_fail(err, SR_IO, "%s: the file ends too early", path);
        p += r, at += r, n -= (size_t)r;
    }
    return SR_OK;
}

sr_status sr_slab_sync(sr_slab *slab, const char *path, sr_err *err) {
    return fsync(slab->fd) == 0 ? SR_OK : fail_errno(err, path, "write");
}

sr_status sr_slab_close(sr_slab *slab, const char *path, sr_err *err) {
    if (slab->fd < 0) return SR_OK;
    const int bad = close(slab->fd);
    slab->fd = -1;
    return bad ? fail_errno(err, path, "write") : SR_OK;
}

/* ---------------------------------------------------------------- a file that grows */

sr_status sr_sink_open(const char *path, sr_sink *sink, sr_err *err) {
    struct stat st;
    sink->size = sink->synced = 0;
    sink->fd = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK, 0666);
    if (sink->fd < 0) return fail_errno(err, path, "open for writing");
    if (fstat(sink->fd, &st) != 0 || !S_ISREG(st.st_mode)) {
        close(sink->fd);
        sink->fd = -1;
        return sr_fail(err, SR_IO, "%s: found a special file, expected a regular one", path);
    }
    sink->size = sink->synced = (int64_t)st.st_size;
    return SR_OK;
}

sr_status sr_sink_write(sr_sink *sink, const char *path, const void *data, size_t n, sr_err *err) {
    sr_status s = write_all(sink->fd, path, data, n, err);
    if (s != SR_OK) return s;
    sink->size += (int64_t)n;
    /* In portions: one wait at the end would be minutes without a sign of life for tens of gigabytes. */
    if (sink->size - sink->synced < SYNC_EVERY) return SR_OK;
    sink->synced = sink->size;
    return fsync(sink->fd) == 0 ? SR_OK : fail_errno(err, path, "write");
}

sr_status sr_sink_clear(sr_sink *sink, const char *path, sr_err *err) {
    if (ftruncate(sink->fd, 0) != 0) return fail_errno(err, path, "empty the file");
    sink->size = sink->synced = 0;
    return SR_OK;
}

sr_status sr_sink_close(sr_sink *sink, const char *path, bool keep, sr_err *err) {
    if (sink->fd < 0) return SR_OK;
    sr_status s = !keep || fsync(sink->fd) == 0 ? SR_OK : fail_errno(err, path, "write");
    if (close(sink->fd) != 0 && s == SR_OK) s = fail_errno(err, path, "write");
    sink->fd = -1;
    return s;
}
