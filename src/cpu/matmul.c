/* y[T][N] = x[T][K] * w[N][K]^T on the CPU: which kernel, and who does which rows. See kern.h for the two int8 ways. */
#include <string.h>

#include "base/pool.h"
#include "cpu/kern.h"

enum { MAX_WEIGHTS = 4 };

/* How one weight is multiplied. */
enum way {
    BY_DOT,   /* fast->dot: stored rows against int8 x */
    BY_FLOAT, /* fast->dot_float: plain rows against f32 x */
    BY_GEMM,  /* int8 tiles */
    BY_DECODE /* rows decoded to f32: --exact, and plain types in batches */
};

struct job {
    sr_cpu *cpu;
    const sr_weight *w[MAX_WEIGHTS];
    enum way way[MAX_WEIGHTS];
    int first[MAX_WEIGHTS + 1]; /* items before each weight */
    int n;
    const float *x;
    int T;
    int64_t ld_x;
    float *y[MAX_WEIGHTS];
    int64_t ld_y[MAX_WEIGHTS];
};

struct gemm_scratch {
    sr_panel panel[2];
};

static size_t round64(size_t n) {
    return (n + 63) / 64 * 64;
}

size_t sr_cpu_matmul_thread_bytes(const sr_kern *kern, int batch, int64_t max_k) {
    size_t gemm =
        round64(sizeof(struct gemm_scratch)) + round64(kern->tile_bytes) + (size_t)batch * SR_PAIR * sizeof(float);
    size_t decode = round64((size_t)max_k * sizeof(float)) + (size_t)batch * sizeof(float);
    return round64(gemm > decode ? gemm : decode);
}

static enum way choose(const sr_cpu *cpu, const sr_weight *w, int T) {
    if (cpu->exact) return BY_DECODE;
    if (w->fmt->tile != SR_TILE_I8) return T <= SR_DOT_MAX && w->fast && w->fast->dot_float ? BY_FLOAT : BY_DECODE;
    return T <= cpu->kern->dot_max_t && w->fast && w->fast->dot ? BY_DOT : BY_GEMM;
}

static int rows_of(enum way way) {
    return way == BY_GEMM ? SR_PAIR : SR_DOT_ROWS;
}

static void decode_rows(const struct job *j, int i, int64_t row0, int n_rows, uint8_t *scratch) {
    const sr_weight *w = j->w[i];
    float *row = (float *)(void *)scratch, *y = (float *)(void *)(scratch + round64((size_t)w->K * sizeof *row));
    for (int64_t r = row0; r < row0 + n_rows; r++) {
        w->fmt->decode(w, r, 0, w->K, row);
        j->cpu->kern->dot_f32(row, j->x, j->ld_x, j->T, w->K, y);
        for (int t = 0; t < j->T; t++) j->y[i][t * j->ld_y[i] + r] = y[t];
    }
}

/* Unpacks up to SR_MR rows; what lies past K or N is zero. */
static void fill_panel(const sr_weight *w, int64_t row0, int n_rows, int64_t k0, sr_panel *p) {
    int64_t n = w->K - k0 < SR_TILE_KC ? w->K - k0 : SR_TILE_KC;
    if (n_rows < SR_MR || n < SR_TILE_KC) memset(p, 0, sizeof *p);
    for (int r = 0; r < n_rows; r++) {
        if (w->fast && w->fast->panel)
            w->fast->panel(w, row0 + r, k0, n, p->code[r], p->scale[r], p->min[r]);
        else
            sr_panel_row(w, row0 + r, k0, n, p->code[r], p->scale[r], p->min[r]);
    }
}

static void gemm_rows(const struct job *j, int i, int64_t row0, int n_rows, uint8_t *scratch) {
    const sr_kern *kern = j->cpu->kern;
    const sr_weight *w = j->w[i];
    struct gemm_scratch *s = (void *)scratch;
    void *tile = scratch + round64(sizeof *s);
    float *acc = (float *)(void *)(scratch + round64(sizeof *s) + round64(kern->tile_bytes));
    for (int64_t k0 = 0; k0 < w->K; k0 += SR_TILE_KC) {
        for (int h = 0; h < 2; h++) {
            int rows = n_rows - h * SR_MR;
            fill_panel(w, row0 + h * SR_MR, rows < 0 ? 0 : rows > SR_MR ? SR_MR : rows, k0, &s->panel[h]);
        }
        kern->pack_w(s->panel, sr_panel_group(w->fmt), sr_panel_has_min(w->fmt), tile);
        kern->gemm_i8(tile, sr_panel_group(w->fmt), sr_panel_has_min(w->fmt), &j->cpu->x8, j->cpu->packed, k0, k0 == 0,
                      acc);
    }
    for (int t = 0; t < j->T; t++)
        memcpy(j->y[i] + t * j->ld_y[i] + row0, acc + (int64_t)t * SR_PAIR, (size_t)n_rows * sizeof *acc);
}

static void multiply(void *ctx, int item, int thread) {
    const struct job *j = ctx;
    int i = 0;
    while (item >= j->first[i + 1]) i++;
    const sr_weight *w = j->w[i];
    int rows = rows_of(j->way[i]);
    int64_t row0 = (int64_t)(item - j->first[i]) * rows;
    int n_rows = w->N - row0 < rows ? (int)(w->N - row0) : rows;
    uint8_t *scratch = j->cpu->thread + (size_t)thread * j->cpu->thread_bytes;
    float *y = j->y[i] + row0;
    switch (j->way[i]) {
    case BY_DOT:
        w->fast->dot(w, row0, n_rows, &j->cpu->x8, y, j->ld_y[i]);
        break;
    case BY_FLOAT:
        w->fast->dot_float(w, row0, n_rows, j->x, j->ld_x, j->T, y, j->ld_y[i]);
        break;
    case BY_GEMM:
        gemm_rows(j, i, row0, n_rows, scratch);
        break;
    case BY_DECODE:
        decode_rows(j, i, row0, n_rows, scratch);
        break;
    }
    if (w->bias)
        for (int t = 0; t < j->T; t++) j->cpu->kern->add(y + t * j->ld_y[i], w->bias + row0, n_rows);
}

static void quantize_row(void *ctx, int t, int thread) {
    const struct job *j = ctx;
    sr_x8 *x = &j->cpu->x8;
    (void)thread;
    j->cpu->kern->quantize(j->x + t * j->ld_x, x->K, x->code + t * x->n_block * SR_KC, x->scale + t * x->n_block,
                           x->sum + t * x->n_block * (SR_KC / SR_SUM));
}

static void pack_columns(void *ctx, int item, int thread) {
    const struct job *j = ctx;
    (void)thread;
    j->cpu->kern->pack_x(&j->cpu->x8, item, j->cpu->packed);
}

void sr_cpu_matmul(sr_dev *dev, const sr_weight *const *w, int n, const float *x, int T, int64_t ld_x, float *const *y,
                   const int64_t *ld_y) {
    sr_cpu *cpu = (sr_cpu *)(void *)dev;
    struct job j = {.cpu = cpu, .n = n, .x = x, .T = T, .ld_x = ld_x};
    bool int8 = false, gemm = false;
    for (int i = 0; i < n; i++) {
        j.w[i] = w[i];
        j.way[i] = choose(cpu, w[i], T);
        j.y[i] = y[i];
        j.ld_y[i] = ld_y[i];
        int rows = rows_of(j.way[i]);
        j.first[i + 1] = j.first[i] + (int)((w[i]->N + rows - 1) / rows);
        int8 = int8 || j.way[i] == BY_DOT || j.way[i] == BY_GEMM;
        gemm = gemm || j.way[i] == BY_GEMM;
    }
    if (int8) {
        cpu->x8.T = T;
        cpu->x8.K = w[0]->K;
        cpu->x8.n_block = (w[0]->K + SR_KC - 1) / SR_KC;
        sr_pool_for(T < 8 ? 1 : cpu->threads, T, quantize_row, &j);
        if (gemm && cpu->kern->packed_bytes(T, cpu->x8.n_block) > 0)
            sr_pool_for(cpu->threads, (T + cpu->kern->pack_columns - 1) / cpu->kern->pack_columns, pack_columns, &j);
    }
    sr_pool_for(cpu->threads, j.first[n], multiply, &j);
}
