/* y[T][N] = x[T][K] * w[N][K]^T on the CPU: which kernel, and who does which rows. See kern.h for the two int8 ways. */
#include <string.h>

#include "base/pool.h"
#include "cpu/kern.h"

enum {
    MAX_WEIGHTS = 32, /* of one call; experts of one token share calls */
    MAX_PAIRS = 4     /* of tiles in one item: their sums stay in L2 beside a chunk of x */
};

/* How one weight is multiplied. */
enum way {
    BY_DOT,   /* fast->dot: stored rows against int8 x */
    BY_CODES, /* the same for formats without a dot: a row is unpacked block by block */
    BY_FLOAT, /* fast->dot_float: plain rows against f32 x */
    BY_GEMM,  /* int8 tiles */
    BY_BF16,  /* bfloat16 tiles */
    BY_DECODE /* rows decoded to f32: --exact, and plain types in batches */
};

/* Rows of a weight: all of it, or one expert's of a stack. */
struct rows {
    const sr_weight *w;
    int64_t row0, N;
};

struct job {
    sr_cpu *cpu;
    struct rows of[MAX_WEIGHTS];
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
    size_t gemm = round64(sizeof(struct gemm_scratch)) + round64(kern->tile_bytes) +
                  2 * (size_t)batch * MAX_PAIRS * SR_PAIR * sizeof(float);
    size_t bf16 = sizeof(uint16_t[SR_PAIR][SR_TILE_KC]) + 2 * (size_t)batch * SR_PAIR * sizeof(float);
    size_t decode = round64((size_t)max_k * sizeof(float)) + (size_t)batch * sizeof(float);
    gemm = gemm > bf16 ? gemm : bf16;
    return round64(gemm > decode ? gemm : decode);
}

static enum way choose(const sr_cpu *cpu, const sr_weight *w, int T) {
    if (cpu->exact) return BY_DECODE;
    if (cpu->bf16 && T > SR_DOT_MAX && w->fast && w->fast->panel_bf16) return BY_BF16;
    if (w->tile != SR_TILE_I8) return T <= SR_DOT_MAX && w->fast && w->fast->dot_float ? BY_FLOAT : BY_DECODE;
    if (T > cpu->kern->dot_max_t) return BY_GEMM;
    return w->fast && w->fast->dot ? BY_DOT : BY_CODES;
}

/* Parts of a matrix whose rows lie in the same bytes: an item has rows of each of them. */
static int parts_of(enum way way, const struct rows *r) {
    return way == BY_DOT && r->w->fast->share && r->N == r->w->N ? r->w->fast->share : 1;
}

/* Rows of one item, of all parts. A short matrix is cut finer, so that every thread gets some. */
static int rows_of(const sr_cpu *cpu, enum way way, int64_t N) {
    if (way == BY_BF16) return SR_PAIR;
    if (way != BY_GEMM) {
        int rows = SR_DOT_ROWS;
        while (rows > 64 && N < (int64_t)8 * cpu->threads * rows) rows /= 2;
        return rows;
    }
    int64_t pairs = N / SR_PAIR / (2 * cpu->threads);
    return SR_PAIR * (pairs < 1 ? 1 : pairs > MAX_PAIRS ? MAX_PAIRS : (int)pairs);
}

/* Where column `row` of weight i goes, of the first token. */
static float *out_at(const struct job *j, int i, int64_t row) {
    return j->y[i] + (row - j->of[i].row0);
}

static void decode_rows(const struct job *j, int i, int64_t row0, int n_rows, uint8_t *scratch) {
    const sr_weight *w = j->of[i].w;
    float *row = (float *)(void *)scratch, *y = (float *)(void *)(scratch + round64((size_t)w->K * sizeof *row));
    for (int64_t r = row0; r < row0 + n_rows; r++) {
        w->fmt->decode(w, r, 0, w->K, row);
        j->cpu->kern->dot_f32(row, j->x, j->ld_x, j->T, w->K, y);
        for (int t = 0; t < j->T; t++) out_at(j, i, r)[t * j->ld_y[i]] = y[t];
    }
}

typedef void unpack_fn(const sr_weight *w, int64_t row, int64_t k0, int64_t n, int8_t *code, float *scale, float *min);

static unpack_fn *unpacker(const sr_weight *w) {
    return w->fast && w->fast->unpack ? w->fast->unpack : w->fmt->unpack;
}

/* A coarse panel by the instruction set's own coarsening. */
static void coarse_panel(const sr_kern *kern, const sr_weight *w, int64_t row, int64_t k0, int64_t n, int8_t *code,
                         float *scale) {
    int8_t own[SR_KC];
    float own_scale[SR_MAX_GROUPS], own_min[SR_MAX_GROUPS];
    unpack_fn *unpack = unpacker(w);
    for (int64_t i = 0; i < n; i += SR_KC) {
        int m = n - i < SR_KC ? (int)(n - i) : SR_KC;
        unpack(w, row, k0 + i, m, own, own_scale, own_min);
        kern->coarse(own, own_scale, w->fmt->has_min ? own_min : NULL, w->group, m, code + i, scale++);
    }
}

/* Unpacks up to SR_MR rows; what lies past K or N is zero. */
static void fill_panel(const sr_kern *kern, const sr_weight *w, int64_t row0, int n_rows, int64_t k0, sr_panel *p) {
    int64_t n = w->K - k0 < SR_TILE_KC ? w->K - k0 : SR_TILE_KC;
    if (n_rows < SR_MR || n < SR_TILE_KC) memset(p, 0, sizeof *p);
    if (n_rows == SR_MR && row0 % SR_MR == 0 && w->fast && w->fast->panel_rows) {
        w->fast->panel_rows(w, row0, k0, n, p);
        return;
    }
    for (int r = 0; r < n_rows; r++) {
        if (w->fast && w->fast->panel)
            w->fast->panel(w, row0 + r, k0, n, p->code[r], p->scale[r], p->min[r]);
        else if (w->fast && w->fast->unpack && !w->fmt->panel)
            w->fast->unpack(w, row0 + r, k0, n, p->code[r], p->scale[r], p->min[r]);
        else if (w->fmt->panel == sr_panel_coarse && kern->coarse && w->K % 16 == 0)
            coarse_panel(kern, w, row0 + r, k0, n, p->code[r], p->scale[r]);
        else
            sr_panel_row(w, row0 + r, k0, n, p->code[r], p->scale[r], p->min[r]);
    }
}

static int pairs_of(int n_rows) {
    return (n_rows + SR_PAIR - 1) / SR_PAIR;
}

/* Some pairs of tiles, one chunk of K after the other: they share the chunk of x while it is in the cache. */
static void gemm_rows(const struct job *j, int i, int64_t row0, int n_rows, uint8_t *scratch) {
    const sr_kern *kern = j->cpu->kern;
    const sr_weight *w = j->of[i].w;
    const sr_x8 *x = &j->cpu->x8;
    const int group = sr_panel_group(w), pairs = pairs_of(n_rows);
    const bool has_min = sr_panel_has_min(w);
    struct gemm_scratch *s = (void *)scratch;
    void *tile = scratch + round64(sizeof *s);
    float *acc = (float *)(void *)(scratch + round64(sizeof *s) + round64(kern->tile_bytes));
    const int64_t acc_n = (int64_t)x->T * SR_PAIR; /* of one pair */
    for (int64_t k0 = 0; k0 < w->K; k0 += SR_TILE_KC)
        for (int p = 0; p < pairs; p++) {
            for (int h = 0; h < 2; h++) {
                int first = p * SR_PAIR + h * SR_MR, rows = n_rows - first;
                fill_panel(kern, w, row0 + first, rows < 0 ? 0 : rows > SR_MR ? SR_MR : rows, k0, &s->panel[h]);
            }
            kern->pack_w(s->panel, group, has_min, tile);
            kern->gemm_i8(tile, group, has_min, x, j->cpu->packed, k0, k0 == 0, acc + p * acc_n);
        }
    for (int p = 0; p < pairs; p++) {
        float *a = acc + p * acc_n;
        int64_t first = row0 + p * SR_PAIR;
        int rows = row0 + n_rows - first < SR_PAIR ? (int)(row0 + n_rows - first) : SR_PAIR;
        for (int t = j->T; t < x->T; t++)
            kern->add(a + (int64_t)j->cpu->residual_of[t - j->T] * SR_PAIR, a + (int64_t)t * SR_PAIR, rows);
        for (int t = 0; w->bias && t < j->T; t++) kern->add(a + (int64_t)t * SR_PAIR, w->bias + first, rows);
        kern->store(a, j->T, rows, out_at(j, i, first), j->ld_y[i]);
    }
}

/* One pair of bfloat16 tiles. The low part of x comes in columns of its own behind the high ones. */
static void bf16_rows(const struct job *j, int i, int64_t row0, int n_rows, uint8_t *scratch) {
    const sr_kern *kern = j->cpu->kern;
    const sr_weight *w = j->of[i].w;
    uint16_t(*panel)[SR_TILE_KC] = (void *)scratch;
    float *acc = (float *)(void *)(scratch + sizeof *panel * SR_PAIR);
    for (int64_t k0 = 0; k0 < w->K; k0 += SR_TILE_KC) {
        int64_t n = w->K - k0 < SR_TILE_KC ? w->K - k0 : SR_TILE_KC;
        if (n < SR_TILE_KC || n_rows < SR_PAIR) memset(panel, 0, sizeof *panel * SR_PAIR);
        for (int r = 0; r < n_rows; r++) w->fast->panel_bf16(w, row0 + r, k0, n, panel[r]);
        kern->gemm_bf16((const uint16_t(*)[SR_TILE_KC])panel, k0, w->K, j->cpu->packed_bf16, 2 * j->T, k0 == 0, acc);
    }
    for (int t = 0; t < j->T; t++) kern->add(acc + (int64_t)t * SR_PAIR, acc + (int64_t)(j->T + t) * SR_PAIR, n_rows);
    kern->store(acc, j->T, n_rows, out_at(j, i, row0), j->ld_y[i]);
}

/* fast->dot made of unpack and dot_codes. */
static void dot_unpacked(const sr_cpu *cpu, const sr_weight *w, int64_t row0, int n_rows, const sr_x8 *x, float *y,
                         int64_t ld_y) {
    int8_t code[SR_KC] = {0};
    float scale[SR_MAX_GROUPS] = {0}, min[SR_MAX_GROUPS] = {0};
    unpack_fn *unpack = unpacker(w);
    for (int i = 0; i < n_rows; i++) {
        float acc[SR_DOT_MAX][8] = {{0}};
        for (int64_t b = 0; b < x->n_block; b++) {
            int64_t n = w->K - b * SR_KC < SR_KC ? w->K - b * SR_KC : SR_KC;
            if (n < SR_KC) { /* what is behind the last column counts as zero, in codes and scales */
                memset(code, 0, sizeof code);
                memset(scale, 0, sizeof scale);
                memset(min, 0, sizeof min);
            }
            unpack(w, row0 + i, b * SR_KC, n, code, scale, min);
            cpu->kern->dot_codes(code, scale, w->fmt->has_min ? min : NULL, w->group, x, b, acc);
        }
        for (int t = 0; t < x->T; t++) {
            const float *a = acc[t];
            y[t * ld_y + i] = ((a[0] + a[4]) + (a[2] + a[6])) + ((a[1] + a[5]) + (a[3] + a[7]));
        }
    }
}

/* Stored rows against the columns of x, SR_DOT_MAX at a time. */
static void dot_rows(const struct job *j, int i, int64_t row0, int n_rows) {
    const sr_x8 *all = &j->cpu->x8;
    const sr_weight *w = j->of[i].w;
    float part[SR_DOT_MAX * SR_DOT_ROWS];
    for (int t0 = 0; t0 < all->T; t0 += SR_DOT_MAX) {
        int64_t at = t0 * all->n_block;
        sr_x8 x = {all->T - t0 < SR_DOT_MAX ? all->T - t0 : SR_DOT_MAX,
                   all->K,
                   all->n_block,
                   all->code + at * SR_KC,
                   all->scale + at,
                   all->sum + at * (SR_KC / SR_SUM),
                   all->dealt + at * SR_KC};
        if (j->way[i] == BY_DOT)
            w->fast->dot(w, row0, n_rows, &x, part, SR_DOT_ROWS);
        else
            dot_unpacked(j->cpu, w, row0, n_rows, &x, part, SR_DOT_ROWS);
        for (int t = t0; t < t0 + x.T; t++) {
            const float *from = part + (t - t0) * SR_DOT_ROWS;
            if (t < j->T)
                memcpy(out_at(j, i, row0) + t * j->ld_y[i], from, (size_t)n_rows * sizeof *from);
            else
                j->cpu->kern->add(out_at(j, i, row0) + j->cpu->residual_of[t - j->T] * j->ld_y[i], from, n_rows);
        }
    }
}

static void multiply_rows(const struct job *j, int i, int64_t row0, int n_rows, int thread) {
    const sr_weight *w = j->of[i].w;
    uint8_t *scratch = j->cpu->thread + (size_t)thread * j->cpu->thread_bytes;
    float *y = out_at(j, i, row0);
    switch (j->way[i]) {
    case BY_DOT:
    case BY_CODES:
        dot_rows(j, i, row0, n_rows);
        break;
    case BY_FLOAT:
        w->fast->dot_float(w, row0, n_rows, j->x, j->ld_x, j->T, y, j->ld_y[i]);
        break;
    case BY_BF16:
        bf16_rows(j, i, row0, n_rows, scratch);
        break;
    case BY_GEMM:
        gemm_rows(j, i, row0, n_rows, scratch);
        break;
    case BY_DECODE:
        decode_rows(j, i, row0, n_rows, scratch);
        break;
    }
    if (w->bias && j->way[i] != BY_GEMM)
        for (int t = 0; t < j->T; t++) j->cpu->kern->add(y + t * j->ld_y[i], w->bias + row0, n_rows);
}

static void multiply(void *ctx, int item, int thread) {
    const struct job *j = ctx;
    int i = 0;
    while (item >= j->first[i + 1]) i++;
    const struct rows *r = &j->of[i];
    const int parts = parts_of(j->way[i], r), rows = rows_of(j->cpu, j->way[i], r->N) / parts;
    int64_t part = r->N / parts, row0 = (int64_t)(item - j->first[i]) * rows;
    int n_rows = part - row0 < rows ? (int)(part - row0) : rows;
    for (int p = 0; p < parts; p++) multiply_rows(j, i, r->row0 + p * part + row0, n_rows, thread);
}

static void quantize_column(const struct job *j, const float *x, int column) {
    sr_x8 *to = &j->cpu->x8;
    j->cpu->kern->quantize(x, to->K, to->code + column * to->n_block * SR_KC, to->scale + column * to->n_block,
                           to->sum + column * to->n_block * (SR_KC / SR_SUM));
    if (j->T <= SR_DOT_MAX) sr_x8_deal(to, column);
}

/* Rounding with a step s leaves s^2 / 12 a column. Beyond this share of the token's energy, one outlier sets the step
 * of its whole block, and the residual is worth a column of its own. Measured on the story model, q8_0, held-out text
 * against --exact: without residuals mean KLD 4.5e-4; with 4e-4 here 2.4e-4, 2e-4 1.1e-4, 1e-4 4.9e-5 (42 % of the
 * tokens of qkv, 17 % of gate and up, all of down). */
static const double RESIDUAL_ERROR = 1e-4;

static bool wants_residual(const struct job *j, int t) {
    const sr_x8 *x = &j->cpu->x8;
    const float *row = j->x + t * j->ld_x;
    float energy;
    double error = 0;
    j->cpu->kern->dot_f32(row, row, 0, 1, x->K, &energy);
    for (int64_t b = 0; b < x->n_block; b++) {
        double step = x->scale[t * x->n_block + b];
        error += step * step * (SR_KC / 12.0);
    }
    return error > RESIDUAL_ERROR * (double)energy;
}

static void quantize_token(void *ctx, int t, int thread) {
    const struct job *j = ctx;
    (void)thread;
    quantize_column(j, j->x + t * j->ld_x, t);
    j->cpu->residual_of[j->T + t] = wants_residual(j, t); /* the second half serves as marks */
}

static void quantize_residual(void *ctx, int i, int thread) {
    const struct job *j = ctx;
    const sr_x8 *x = &j->cpu->x8;
    int t = j->cpu->residual_of[i];
    const float *row = j->x + t * j->ld_x, *scale = x->scale + t * x->n_block;
    const int8_t *code = x->code + t * x->n_block * SR_KC;
    float *rest = (float *)(void *)(j->cpu->thread + (size_t)thread * j->cpu->thread_bytes);
    for (int64_t k = 0; k < x->K; k++) rest[k] = row[k] - scale[k / SR_KC] * (float)code[k];
    quantize_column(j, rest, j->T + i);
}

/* x of the job as int8 columns: one a token, then the residuals. */
static void quantize_all(struct job *j) {
    sr_cpu *cpu = j->cpu;
    sr_x8 *x = &cpu->x8;
    int threads = j->T < 8 ? 1 : cpu->threads, n = 0;
    x->K = j->of[0].w->K;
    x->n_block = (x->K + SR_KC - 1) / SR_KC;
    sr_pool_for(threads, j->T, quantize_token, j);
    for (int t = 0; t < j->T; t++)
        if (cpu->residual_of[j->T + t]) cpu->residual_of[n++] = t;
    sr_pool_for(threads, n, quantize_residual, j);
    x->T = j->T + n;
}

static void pack_columns(void *ctx, int item, int thread) {
    const struct job *j = ctx;
    (void)thread;
    j->cpu->kern->pack_x(&j->cpu->x8, item, j->cpu->packed);
}

static void pack_bf16(void *ctx, int item, int thread) {
    const struct job *j = ctx;
    (void)thread;
    j->cpu->kern->bf16_pack_x(j->x, j->ld_x, j->T, j->of[0].w->K, item, j->cpu->packed_bf16);
}

/* All weights want the columns of x in the same order. */
static void matmul_same_x(sr_cpu *cpu, const struct rows *of, int n, const float *x, int T, int64_t ld_x,
                          float *const *y, const int64_t *ld_y) {
    struct job j = {.cpu = cpu, .n = n, .x = x, .T = T, .ld_x = ld_x};
    bool int8 = false, gemm = false, bf16 = false;
    for (int i = 0; i < n; i++) {
        j.of[i] = of[i];
        j.way[i] = choose(cpu, of[i].w, T);
        j.y[i] = y[i];
        j.ld_y[i] = ld_y[i];
        int parts = parts_of(j.way[i], &of[i]), rows = rows_of(cpu, j.way[i], of[i].N) / parts;
        j.first[i + 1] = j.first[i] + (int)((of[i].N / parts + rows - 1) / rows);
        int8 = int8 || j.way[i] == BY_DOT || j.way[i] == BY_CODES || j.way[i] == BY_GEMM;
        gemm = gemm || j.way[i] == BY_GEMM;
        bf16 = bf16 || j.way[i] == BY_BF16;
    }
    if (int8) {
        quantize_all(&j);
        if (gemm && cpu->kern->packed_bytes(cpu->x8.T, cpu->x8.n_block) > 0)
            sr_pool_for(cpu->threads, (cpu->x8.T + cpu->kern->pack_columns - 1) / cpu->kern->pack_columns, pack_columns,
                        &j);
    }
    if (bf16) sr_pool_for(cpu->threads, (2 * T + cpu->kern->bf16_columns - 1) / cpu->kern->bf16_columns, pack_bf16, &j);
    sr_pool_for(cpu->threads, j.first[n], multiply, &j);
}

struct gather_job {
    const float *x;
    int64_t ld_x, K;
    const int32_t *perm;
    float *out;
};

static void gather_token(void *ctx, int t, int thread) {
    const struct gather_job *j = ctx;
    const float *from = j->x + t * j->ld_x;
    float *to = j->out + t * j->K;
    (void)thread;
    for (int64_t k = 0; k < j->K; k++) to[k] = from[j->perm[k]];
}

static bool same_order(const sr_weight *a, const sr_weight *b) {
    return a->perm == b->perm || (a->perm && b->perm && !memcmp(a->perm, b->perm, (size_t)a->K * sizeof *a->perm));
}

static void matmul_rows(sr_cpu *cpu, const struct rows *of, int n, const float *x, int T, int64_t ld_x, float *const *y,
                        const int64_t *ld_y) {
    for (int i = 0, m; i < n; i += m) { /* runs of weights that share an order */
        const sr_weight *w = of[i].w;
        for (m = 1; i + m < n && same_order(w, of[i + m].w);) m++;
        if (!w->perm) {
            matmul_same_x(cpu, of + i, m, x, T, ld_x, y + i, ld_y + i);
            continue;
        }
        struct gather_job g = {x, ld_x, w->K, w->perm, cpu->gathered};
        sr_pool_for(T < 8 ? 1 : cpu->threads, T, gather_token, &g);
        matmul_same_x(cpu, of + i, m, cpu->gathered, T, w->K, y + i, ld_y + i);
    }
}

void sr_cpu_matmul(sr_dev *dev, const sr_weight *const *w, int n, const float *x, int T, int64_t ld_x, float *const *y,
                   const int64_t *ld_y) {
    struct rows of[MAX_WEIGHTS];
    for (int i = 0; i < n; i++) of[i] = (struct rows){w[i], 0, w[i]->N};
    matmul_rows((sr_cpu *)(void *)dev, of, n, x, T, ld_x, y, ld_y);
}

/* Expert by expert, as a step with its tokens alone would be multiplied. Experts that one token alone chose share x. */
void sr_cpu_matmul_experts(sr_dev *dev, const sr_experts *const *w, int n, const sr_choices *c, const float *x,
                           int64_t ld_x, bool by_choice, float *const *y, const int64_t *ld_y) {
    sr_cpu *cpu = (sr_cpu *)(void *)dev;
    const int64_t K = w[0]->K;
    struct rows of[MAX_WEIGHTS];
    float *to[MAX_WEIGHTS];
    int64_t ld[MAX_WEIGHTS];
    int m = 0; /* weights that wait */
    for (int32_t e = 0, next; e < c->n_expert; e = next) {
        const int32_t first = c->first[e], T = c->first[e + 1] - first;
        next = e + 1;
        if (T == 0) continue;
        const float *own = x + (by_choice ? first : c->token[first]) * ld_x;
        if (T > 1 && !by_choice) {
            for (int t = 0; t < T; t++)
                memcpy(cpu->chosen + t * K, x + c->token[first + t] * ld_x, (size_t)K * sizeof *x);
            own = cpu->chosen;
        }
        for (int i = 0; i < n; i++, m++) {
            const bool stack = w[i]->n == 1;
            of[m] = (struct rows){&w[i]->w[stack ? 0 : e], stack ? e * w[i]->N : 0, w[i]->N};
            to[m] = y[i] + first * ld_y[i];
            ld[m] = ld_y[i];
        }
        while (next < c->n_expert && c->first[next + 1] == c->first[next]) next++;
        const bool more = T == 1 && !by_choice && m + n <= MAX_WEIGHTS && next < c->n_expert &&
                          c->first[next + 1] - c->first[next] == 1 && c->token[first + 1] == c->token[first];
        if (more) continue;
        matmul_rows(cpu, of, m, own, T, own == cpu->chosen ? K : ld_x, to, ld);
        m = 0;
    }
}
