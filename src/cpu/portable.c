/* Kernels in plain C: the reference that every instruction set is compared with, and what runs where there is no
 * better. */
#include <float.h>
#include <math.h>
#include <string.h>

#include "cpu/gemm.h"
#include "cpu/kern.h"
#include "cpu/simd_portable.h"

#include "cpu/rows_kern.h"

#include "cpu/attention_kern.h"

static bool usable(void) {
    return true;
}

static void pack_w(const sr_panel *panel, int half, int group, bool has_min, void *tile) {
    (void)group, (void)has_min;
    memcpy((sr_panel *)tile + half, panel, sizeof *panel); /* row-major serves plain C */
}

static size_t packed_bytes(int T, int64_t n_block) {
    (void)T, (void)n_block;
    return 0;
}

static void pack_x(const sr_x8 *x, int item, void *packed) {
    (void)x, (void)item, (void)packed;
}

/* One block of SR_KC columns. */
static float dot_block(const int8_t *code, const float *scale, const float *min, int group, const sr_x8 *x, int t,
                       int64_t x_block) {
    const int8_t *xc = x->code + (t * x->n_block + x_block) * SR_KC;
    float sum = 0;
    for (int g = 0; g < SR_KC / group; g++) {
        int32_t dot = 0;
        for (int i = g * group; i < (g + 1) * group; i++) dot += code[i] * xc[i];
        sum += (float)dot * scale[g];
    }
    const int16_t *xs = x->sum + (t * x->n_block + x_block) * (SR_KC / SR_SUM);
    for (int g = 0; min && g < SR_KC / group; g++) {
        int32_t total = 0;
        for (int i = 0; i < group / SR_SUM; i++) total += xs[g * (group / SR_SUM) + i];
        sum -= (float)total * min[g];
    }
    return sum * x->scale[t * x->n_block + x_block];
}

static void dot_codes(const int8_t *code, const float *scale, const float *min, int group, const sr_x8 *x,
                      int64_t block, float (*acc)[8]) {
    for (int t = 0; t < x->T; t++) acc[t][0] += dot_block(code, scale, min, group, x, t, block);
}

static void gemm_i8(const void *tile, int group, bool has_min, const sr_x8 *x, const void *packed, int64_t k0,
                    bool first, float *acc, sr_ahead next) {
    const sr_panel *panel = tile;
    (void)packed, (void)next;
    for (int t = 0; t < x->T; t++)
        for (int r = 0; r < SR_PAIR; r++) {
            const sr_panel *p = &panel[r / SR_MR];
            float sum = first ? 0 : acc[t * SR_PAIR + r];
            for (int b = 0; b < SR_TILE_KC / SR_KC && k0 / SR_KC + b < x->n_block; b++)
                sum += dot_block(p->code[r % SR_MR] + b * SR_KC, p->scale[r % SR_MR] + b * (SR_KC / group),
                                 has_min ? p->min[r % SR_MR] + b * (SR_KC / group) : NULL, group, x, t, k0 / SR_KC + b);
            acc[t * SR_PAIR + r] = sum;
        }
}

void sr_gemm_portable_store(const float *acc, int T, int n_rows, float *y, int64_t ld_y) {
    for (int t = 0; t < T; t++) memcpy(y + t * ld_y, acc + (int64_t)t * SR_PAIR, (size_t)n_rows * sizeof *y);
}

static void probe(int64_t n) {
    static int8_t a[4096], b[4096];
    volatile int32_t sink = 0;
    for (int64_t i = 0; i < n; i++) {
        int32_t sum = 0;
        for (int k = 0; k < 4096; k++) sum += a[k] * b[k];
        sink = sink + sum;
    }
}

static const sr_fast fast[] = {
    SR_FAST_PLAIN,
    {0},
};

const sr_kern sr_kern_portable = {
    .name = "portable",
    .usable = usable,
    .dot_max_t = SR_DOT_MAX,
    .fast = fast,
    SR_KERN_ROWS,
    .dot_codes = dot_codes,
    .tile_bytes = 2 * sizeof(sr_panel),
    .pack_w = pack_w,
    .packed_bytes = packed_bytes,
    .pack_columns = 1 << 30,
    .pack_x = pack_x,
    .gemm_i8 = gemm_i8,
    .store = sr_gemm_portable_store,
    .probe = probe,
    .probe_ops = 2 * 4096,
};
