/* Parallel loops. pool.c is the only file that knows OpenMP. */
#ifndef SR_BASE_POOL_H
#define SR_BASE_POOL_H

/* Calls fn(ctx, item, thread) once for each item 0..n_items-1, on at most `threads` threads, 0 <= thread < threads.
 * Items are handed out in order as threads become free; when a call returns all have finished. No item may depend on
 * another or on the thread that runs it: then results do not depend on the thread count. Allocates nothing. Not to be
 * nested. */
void sr_pool_for(int threads, int n_items, void (*fn)(void *ctx, int item, int thread), void *ctx);

#endif
