/* Kernels of every instruction set this machine has, or of the one that the command line names; buffers that end at a
 * page which must not be touched. Included first. */
#ifndef TESTS_KERNELS_H
#define TESTS_KERNELS_H

#define _DEFAULT_SOURCE /* MAP_ANONYMOUS */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/arena.h"
#include "cpu/kern.h"

#define U 0x1p-24 /* rounding of one f32 operation */

/* ---------------------------------------------------------------- random numbers, guarded memory */

static uint64_t state = 88172645463325252u;
static uint32_t next_u32(void) {
    state ^= state << 13, state ^= state >> 7, state ^= state << 17;
    return (uint32_t)(state >> 16);
}
/* Nearly: the sum of six uniform ones, of variance 1. */
static float normal(void) {
    int64_t sum = 0;
    for (int i = 0; i < 3; i++) {
        const uint32_t two = next_u32();
        sum += (int64_t)(two & 0xffff) + (int64_t)(two >> 16) - 0xffff;
    }
    return (float)sum * (1.41421356f / 0x1p16f);
}
static void fill_normal(float *x, int64_t n, float size) {
    for (int64_t i = 0; i < n; i++) x[i] = size * normal();
}

/* n bytes of 0x5a whose end is the end of the mapping, until release_to(what n_maps was). Arenas are kept as long. */
enum { MOST_MAPS = 4096 };
static struct {
    void *at;
    size_t n;
    sr_arena arena;
} map[MOST_MAPS];
static int n_maps;
static void *guarded(size_t n) {
    size_t page = (size_t)sysconf(_SC_PAGESIZE), whole = (n + page - 1) / page * page;
    uint8_t *at = mmap(NULL, whole + page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    assert_true(at != MAP_FAILED && n_maps < MOST_MAPS);
    assert_int_equal(mprotect(at + whole, page, PROT_NONE), 0);
    map[n_maps].at = at;
    map[n_maps++].n = whole + page;
    memset(at, 0x5a, whole);
    return at + whole - n;
}
static void release_to(int mark) {
    while (n_maps > mark) {
        n_maps--;
        sr_arena_free(&map[n_maps].arena);
        munmap(map[n_maps].at, map[n_maps].n);
    }
}
/* Sets that this machine has, or the one that the command line names. */
static const char *only;
static bool tested(int i) {
    return sr_kerns[i]->usable() && (!only || !strcmp(only, sr_kerns[i]->name));
}

/* Of weights, and of shapes of attention, one of so many is tried: emulated processors are slow. */
static int every = 1, n_asked;
static bool passed_over(void) {
    return every > 1 && n_asked++ % every != 0;
}

static void near(const sr_kern *kern, const char *what, int n, int i, double got, double want, double bound) {
    if (!(fabs(got - want) <= bound))
        fail_msg("%s %s of %d, element %d: got %.9g, want %.9g, bound %.3g", kern->name, what, n, i, got, want, bound);
}

/* NAME [SET [EVERY]]: with this instruction set alone, which must be there, else with each that is; with one of EVERY
 * weights and shapes of attention. */
#define RUN_KERNELS(tests, argc, argv) (choose_kernels(argc, argv) ? cmocka_run_group_tests(tests, NULL, NULL) : 1)
static bool choose_kernels(int argc, char **argv) {
    only = argc > 1 && strcmp(argv[1], "all") != 0 ? argv[1] : NULL;
    every = argc > 2 ? atoi(argv[2]) : 1;
    bool any = false;
    for (int i = 0; sr_kerns[i]; i++)
        if (tested(i)) {
            print_message("with the kernels of %s\n", sr_kerns[i]->name);
            any = true;
        }
    if (!any) print_error("this machine does not run the kernels of %s\n", only);
    return any;
}

#endif
