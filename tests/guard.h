/* Buffers that end at a page that must not be touched: a read or write past the end is a fault. */
#ifndef TESTS_GUARD_H
#define TESTS_GUARD_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

typedef struct guard {
    void *base;
    size_t size;
    uint8_t *at; /* n bytes, the last just before the guard page; of any alignment that n leaves */
} guard;

static inline guard guard_alloc(size_t n) {
    size_t page = (size_t)sysconf(_SC_PAGESIZE), body = (n + page - 1) / page * page + page;
    guard g = {NULL, body + page, NULL};
    g.base = mmap(NULL, g.size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (g.base == MAP_FAILED || mprotect((uint8_t *)g.base + body, page, PROT_NONE)) return (guard){0};
    g.at = (uint8_t *)g.base + body - n;
    return g;
}
static inline guard guard_copy(const void *data, size_t n) {
    guard g = guard_alloc(n);
    if (g.at) memcpy(g.at, data, n);
    return g;
}
static inline void guard_free(guard g) {
    if (g.base) munmap(g.base, g.size);
}

#endif
