/* Threads that stay, and share loops.
 *
 * A loop ends when its items are done, not when every thread has come by, as the barrier of a fork-join library would
 * have it: a thread that the system runs elsewhere holds nothing up. So each item must be taken for the right loop. It
 * is taken by one exchange of a word that names the loop, and a loop's function is only replaced when none of its items
 * is left: who got an item knows its function. */
#include "base/pool.h"

#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <time.h>

enum {
    MAX_THREADS = 256,
    INDEX_BITS = 20, /* of an item */
    MAX_ITEMS = (1 << INDEX_BITS) - 1,
    SPIN_NS = 500000 /* between loops: longer than sampling takes, shorter than anybody notices */
};

typedef void item_fn(void *ctx, int item, int thread);

/* Items of a thread: loop << 2 * INDEX_BITS | begin << INDEX_BITS | end. A cache line each: only thieves touch
 * another's. */
typedef struct share {
    _Atomic uint64_t left;
    uint8_t rest[64 - sizeof(uint64_t)];
} share;

static struct {
    pthread_mutex_t lock; /* of what sleeps, and of n */
    pthread_cond_t wake;
    pthread_t worker[MAX_THREADS];
    _Atomic int n; /* threads, ours and the caller's */
    bool watched;  /* for forks */
    atomic_flag busy;
    /* The loop: its number is written last. */
    _Atomic uint64_t loop;
    _Atomic(item_fn *) fn;
    _Atomic(void *) ctx;
    _Atomic int threads, base;
    _Atomic int undone; /* items */
    _Atomic int sleeping;
    _Atomic bool over;
    share shares[MAX_THREADS];
} pool = {.lock = PTHREAD_MUTEX_INITIALIZER, .wake = PTHREAD_COND_INITIALIZER, .busy = ATOMIC_FLAG_INIT};

static int64_t now_ns(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * (int64_t)1000000000 + t.tv_nsec;
}

static void relax(void) {
#if defined(__x86_64__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ volatile("isb");
#endif
}

/* One item of a loop from the front of a share, or its back; -1 where it has none left. */
static int take(share *s, uint64_t loop, bool back) {
    uint64_t old = atomic_load_explicit(&s->left, memory_order_acquire);
    for (;;) {
        const uint64_t begin = old >> INDEX_BITS & MAX_ITEMS, end = old & MAX_ITEMS;
        if (old >> 2 * INDEX_BITS != (loop & UINT64_MAX >> 2 * INDEX_BITS) || begin >= end) return -1;
        if (atomic_compare_exchange_weak_explicit(&s->left, &old, back ? old - 1 : old + MAX_ITEMS + 1,
                                                  memory_order_acq_rel, memory_order_acquire))
            return (int)(back ? end - 1 : begin);
    }
}

static void work(uint64_t loop, int thread) {
    item_fn *const fn = atomic_load_explicit(&pool.fn, memory_order_relaxed);
    void *const ctx = atomic_load_explicit(&pool.ctx, memory_order_relaxed);
    const int threads = atomic_load_explicit(&pool.threads, memory_order_relaxed),
              base = atomic_load_explicit(&pool.base, memory_order_relaxed);
    for (int i = 0; i < threads && thread < threads; i++)
        for (int item; (item = take(&pool.shares[(thread + i) % threads], loop, i > 0)) >= 0;) {
            fn(ctx, base + item, thread);
            atomic_fetch_sub_explicit(&pool.undone, 1, memory_order_release);
        }
}

/* The number of a loop that is not `seen`; 0 when there will be none. */
static uint64_t next_loop(uint64_t seen) {
    const int64_t end = now_ns() + SPIN_NS;
    do {
        for (int i = 0; i < 64; i++) {
            const uint64_t loop = atomic_load_explicit(&pool.loop, memory_order_acquire);
            if (loop != seen) return loop;
            relax();
        }
    } while (now_ns() < end && !pool.over);
    pthread_mutex_lock(&pool.lock);
    pool.sleeping++;
    while (pool.loop == seen && !pool.over) pthread_cond_wait(&pool.wake, &pool.lock);
    pool.sleeping--;
    pthread_mutex_unlock(&pool.lock);
    return pool.over ? 0 : pool.loop;
}

static void *worker(void *arg) {
    const int thread = (int)(intptr_t)arg;
    for (uint64_t loop = 0; (loop = next_loop(loop)) > 0;) work(loop, thread);
    return NULL;
}

static void wake_all(void) {
    pthread_mutex_lock(&pool.lock);
    pthread_cond_broadcast(&pool.wake);
    pthread_mutex_unlock(&pool.lock);
}

/* The child of a fork has no threads of ours. */
static void forget(void) {
    pool.n = pool.sleeping = 0;
    atomic_flag_clear(&pool.busy);
    pthread_mutex_init(&pool.lock, NULL);
    pthread_cond_init(&pool.wake, NULL);
}

/* Threads that there are, `threads` if that many can be had. Signals are the caller's. */
static int start(int threads) {
    sigset_t all, old;
    if (pool.n >= threads) return threads;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &old);
    if (!pool.watched) pool.watched = pthread_atfork(NULL, NULL, forget) == 0;
    int n = pool.n ? pool.n : 1;
    while (n < threads && pthread_create(&pool.worker[n], NULL, worker, (void *)(intptr_t)n) == 0) n++;
    pool.n = n;
    pthread_sigmask(SIG_SETMASK, &old, NULL);
    return n < threads ? n : threads;
}

/* Our code may be unmapped next. */
__attribute__((destructor)) static void stop(void) {
    if (pool.n < 2) return;
    pool.over = true;
    wake_all();
    for (int i = 1; i < pool.n; i++) pthread_join(pool.worker[i], NULL);
    pool.n = 0;
}

/* One loop of up to MAX_ITEMS. */
static void share_out(int threads, int base, int n_items, item_fn *fn, void *ctx) {
    const uint64_t loop = pool.loop + 1, tag = loop << 2 * INDEX_BITS;
    atomic_store_explicit(&pool.fn, fn, memory_order_relaxed);
    atomic_store_explicit(&pool.ctx, ctx, memory_order_relaxed);
    atomic_store_explicit(&pool.threads, threads, memory_order_relaxed);
    atomic_store_explicit(&pool.base, base, memory_order_relaxed);
    atomic_store_explicit(&pool.undone, n_items, memory_order_relaxed);
    for (uint64_t i = 0, n = (uint64_t)threads, all = (uint64_t)n_items; i < n; i++)
        atomic_store_explicit(&pool.shares[i].left, tag | all * i / n << INDEX_BITS | all * (i + 1) / n,
                              memory_order_release);
    pool.loop = loop;
    if (pool.sleeping) wake_all();
    work(loop, 0);
    for (int64_t since = 0; atomic_load_explicit(&pool.undone, memory_order_acquire) > 0;) {
        for (int i = 0; i < 64; i++) relax();
        if (!since) since = now_ns();
        if (now_ns() - since > SPIN_NS) sched_yield();
    }
}

void sr_pool_for(int threads, int n_items, void (*fn)(void *ctx, int item, int thread), void *ctx) {
    threads = threads < MAX_THREADS ? threads : MAX_THREADS;
    if (threads <= 1 || n_items <= 1 || atomic_flag_test_and_set(&pool.busy)) {
        for (int i = 0; i < n_items; i++) fn(ctx, i, 0);
        return;
    }
    threads = start(threads);
    for (int i = 0; i < n_items; i += MAX_ITEMS)
        share_out(threads, i, n_items - i < MAX_ITEMS ? n_items - i : MAX_ITEMS, fn, ctx);
    atomic_flag_clear(&pool.busy);
}
