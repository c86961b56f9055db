#include "base/pool.h"

#ifdef _OPENMP
#include <omp.h>
#endif

void sr_pool_for(int threads, int n_items, void (*fn)(void *ctx, int item, int thread), void *ctx) {
    if (threads <= 1 || n_items <= 1) {
        for (int i = 0; i < n_items; i++) fn(ctx, i, 0);
        return;
    }
    int next = 0;
/* always the full team: libgomp keeps one team of the last size and allocates when the size changes */
#pragma omp parallel num_threads(threads)
    {
        int thread = 0;
#ifdef _OPENMP
        thread = omp_get_thread_num();
#endif
        for (;;) {
            int i;
#pragma omp atomic capture
            i = next++;
            if (i >= n_items) break;
            fn(ctx, i, thread);
        }
    }
}
