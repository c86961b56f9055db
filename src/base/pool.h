/* Parallel loops. */
#ifndef SR_BASE_POOL_H
#define SR_BASE_POOL_H

/* Calls fn(ctx, item, thread) once for each item 0..n_items-1, on at most `threads` threads, 0 <= thread < threads.
 * Each thread has a share of consecutive items, which it takes in order; one that is done takes from the others' ends.
 * When a call returns all have finished. No item may depend on another or on the thread that runs it: then results do
 * not depend on the thread count. Threads are made by the first call that wants them, spin for half a millisecond
 * behind a loop and then sleep. A call while another thread's is running does its items alone. Not to be nested. */
void sr_pool_for(int threads, int n_items, void (*fn)(void *ctx, int item, int thread), void *ctx);

#endif
