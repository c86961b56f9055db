#define _GNU_SOURCE
#include "base/map.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>
#if defined(__linux__)
#include <sched.h>
#include <sys/syscall.h>
#endif

static sr_status open_regular(const char *path, int *fd, size_t *size, sr_err *err) {
    struct stat st;
    *fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK); /* a FIFO must not hang us */
    if (*fd < 0) return sr_fail(err, SR_IO, "%s: %s", path, strerror(errno));
    if (fstat(*fd, &st) != 0) {
        int e = errno;
        close(*fd);
        return sr_fail(err, SR_IO, "%s: %s", path, strerror(e));
    }
    if (!S_ISREG(st.st_mode)) {
        close(*fd);
        return sr_fail(err, SR_IO, "%s: found a %s, expected a regular file", path,
                       S_ISDIR(st.st_mode) ? "directory" : "special file");
    }
    *size = (size_t)st.st_size;
    return SR_OK;
}

sr_status sr_map_open(const char *path, sr_map *map, sr_err *err) {
    int fd = -1;
    size_t size = 0;
    map->data = NULL;
    map->size = 0;
    sr_status s = open_regular(path, &fd, &size, err);
    if (s != SR_OK) return s;
    if (size > 0) {
        void *at = mmap(NULL, size, PROT_READ, MAP_SHARED, fd, 0);
        if (at == MAP_FAILED) {
            int e = errno;
            close(fd);
            return sr_fail(err, SR_IO, "%s: cannot map %zu bytes: %s", path, size, strerror(e));
        }
        map->data = at;
        map->size = size;
    }
    close(fd);
    return SR_OK;
}

void sr_map_close(sr_map *map) {
    if (map->data) munmap((void *)(uintptr_t)map->data, map->size);
    map->data = NULL;
    map->size = 0;
}

enum { READ_CHUNK = 4 << 20, SAMPLES = 64 };

struct read_ahead {
    const uint8_t *data;
    size_t size, step, first;
};

static void *read_ahead_main(void *arg) {
    const struct read_ahead *r = arg;
    for (size_t at = r->first; at < r->size; at += r->step) {
        size_t n = r->size - at < READ_CHUNK ? r->size - at : READ_CHUNK;
        (void)madvise((void *)(uintptr_t)(r->data + at), n, MADV_WILLNEED);
        /* WILLNEED only queues; touching the last page waits for the chunk, which keeps the requests large and bounded
         */
        volatile uint8_t last = r->data[at + n - 1];
        (void)last;
    }
    return NULL;
}

void sr_map_read_ahead(const sr_map *map, int threads) {
    if (!map->data || map->size < READ_CHUNK) return;
#if defined(__linux__)
    size_t page = (size_t)sysconf(_SC_PAGESIZE), present = 0;
    for (size_t i = 0; i < SAMPLES; i++) {
        unsigned char in = 0;
        size_t at = map->size / SAMPLES * i / page * page;
        if (mincore((void *)(uintptr_t)(map->data + at), 1, &in) == 0) present += in & 1;
    }
    if (present >= SAMPLES * 9 / 10) return;
#endif
    enum { MAX_THREADS = 8 };
    struct read_ahead r[MAX_THREADS];
    pthread_t id[MAX_THREADS];
    int n = threads < 1 ? 1 : threads > MAX_THREADS ? MAX_THREADS : threads, started = 0;
    for (int i = 0; i < n; i++) {
        r[i] = (struct read_ahead){map->data, map->size, (size_t)n * READ_CHUNK, (size_t)i * READ_CHUNK};
        if (pthread_create(&id[i], NULL, read_ahead_main, &r[i]) != 0) break;
        started++;
    }
    for (int i = 0; i < started; i++) pthread_join(id[i], NULL);
}

void *sr_pages_alloc(size_t n) {
    void *at = mmap(NULL, n, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    return at == MAP_FAILED ? NULL : at;
}

bool sr_pages_to_file(void *at, size_t n, int fd, int64_t from) {
    const size_t page = (size_t)sysconf(_SC_PAGESIZE), before = (page - (uintptr_t)at % page) % page;
    if (n < before + page) return true;
    const size_t whole = (n - before) / page * page;
    return mmap((char *)at + before, whole, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, fd, from) != MAP_FAILED;
}

void sr_pages_free(void *at, size_t n) {
    if (at) munmap(at, n);
}

sr_status sr_file_read(const char *path, size_t limit, char **text, size_t *n, sr_err *err) {
    int fd = -1;
    size_t size = 0, got = 0;
    *text = NULL;
    *n = 0;
    sr_status s = open_regular(path, &fd, &size, err);
    if (s != SR_OK) return s;
    if (size > limit) {
        close(fd);
        return sr_fail(err, SR_LIMIT, "%s: found %zu bytes, expected at most %zu", path, size, limit);
    }
    char *buf = malloc(size + 1);
    if (!buf) {
        close(fd);
        return sr_fail(err, SR_NOMEM, "%s: no memory for %zu bytes", path, size);
    }
    while (got < size) {
        ssize_t r = read(fd, buf + got, size - got);
        if (r < 0 && errno == EINTR) continue;
        if (r <= 0) break;
        got += (size_t)r;
    }
    int e = errno;
    close(fd);
    if (got < size) {
        free(buf);
        return sr_fail(err, SR_IO, "%s: read %zu of %zu bytes: %s", path, got, size, strerror(e));
    }
    buf[got] = 0;
    *text = buf;
    *n = got;
    return SR_OK;
}

static uint64_t field_kib(const char *path, const char *key) {
    char line[256];
    uint64_t v = 0;
    size_t n = strlen(key);
    FILE *f = fopen(path, "re");
    if (!f) return 0;
    while (fgets(line, sizeof line, f))
        if (strncmp(line, key, n) == 0) {
            v = strtoull(line + n, NULL, 10);
            break;
        }
    fclose(f);
    return v * 1024;
}

void sr_memory_now(sr_memory *m) {
    m->total = field_kib("/proc/meminfo", "MemTotal:");
    m->available = field_kib("/proc/meminfo", "MemAvailable:");
    m->rss = field_kib("/proc/self/status", "VmRSS:");
    m->rss_anon = field_kib("/proc/self/status", "RssAnon:");
    if (!m->total) {
        long pages = sysconf(_SC_PHYS_PAGES), page = sysconf(_SC_PAGESIZE);
        if (pages > 0 && page > 0) m->total = (uint64_t)pages * (uint64_t)page;
    }
}

size_t sr_last_cache_bytes(void) {
#if defined(_SC_LEVEL3_CACHE_SIZE)
    long n = sysconf(_SC_LEVEL3_CACHE_SIZE);
    return n > 0 ? (size_t)n : 0;
#else
    return 0;
#endif
}

double sr_clock(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

bool sr_tiles_permitted(void) {
#if defined(__linux__) && defined(__x86_64__) && defined(SYS_arch_prctl)
    enum { REQ_XCOMP_PERM = 0x1023, XTILEDATA = 18 }; /* the kernel's Documentation/arch/x86/xstate.rst */
    return syscall(SYS_arch_prctl, REQ_XCOMP_PERM, XTILEDATA) == 0;
#else
    return false;
#endif
}

int sr_cpu_count(void) {
#if defined(__linux__)
    cpu_set_t set;
    if (sched_getaffinity(0, sizeof set, &set) == 0) {
        int n = CPU_COUNT(&set);
        if (n > 0) return n;
    }
#endif
    long n = sysconf(_SC_NPROCESSORS_ONLN);
    return n > 0 ? (int)n : 1;
}
