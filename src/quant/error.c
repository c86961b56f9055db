/* How far rows are from what they should be. */
#include <stdlib.h>

#include "base/pool.h"
#include "quant/quant.h"

enum { STRIP = 64 }; /* rows whose sums are one */

struct pass {
    const sr_rows_pair *p;
    float *scratch;   /* [threads][2][K] */
    double (*sum)[2]; /* a strip: of squared differences, and of squares */
};

static void one_strip(void *ctx, int item, int thread) {
    const struct pass *s = ctx;
    const int64_t K = s->p->K, first = (int64_t)item * STRIP, left = s->p->n - first;
    float *want = s->scratch + (int64_t)thread * 2 * K, *got = want + K;
    double error = 0, power = 0;
    for (int64_t i = first; i < first + (left < STRIP ? left : STRIP); i++) {
        s->p->row[0](s->p->ctx, i, want);
        s->p->row[1](s->p->ctx, i, got);
        for (int64_t k = 0; k < K; k++) {
            const double e = (double)want[k] - (double)got[k];
            error += e * e;
            power += (double)want[k] * (double)want[k];
        }
    }
    s->sum[item][0] = error;
    s->sum[item][1] = power;
}

sr_status sr_rows_compare(const sr_rows_pair *p, int threads, double *error, double *power, sr_err *err) {
    *error = *power = 0;
    if (p->n < 1 || p->n > INT32_MAX || p->K < 1 || (size_t)p->K > SIZE_MAX / sizeof(float) / 2 / (size_t)threads)
        return sr_fail(err, SR_LIMIT, "%lld rows of %lld are too many to compare", (long long)p->n, (long long)p->K);
    const int strips = (int)((p->n + STRIP - 1) / STRIP);
    struct pass s = {p, malloc((size_t)threads * 2 * (size_t)p->K * sizeof(float)),
                     malloc((size_t)strips * sizeof *s.sum)};
    const bool room = s.scratch && s.sum;
    if (room) sr_pool_for(threads, strips, one_strip, &s);
    for (int i = 0; room && i < strips; i++) {
        *error += s.sum[i][0];
        *power += s.sum[i][1];
    }
    free(s.scratch);
    free(s.sum);
    return room ? SR_OK : sr_fail(err, SR_NOMEM, "no memory to compare %lld rows", (long long)p->n);
}
