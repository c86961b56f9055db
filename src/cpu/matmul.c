/* y[T][N] = x[T][K] * w[N][K]^T on the CPU: which kernel, and who does which rows. See kern.h for the two int8 ways. */
#include <math.h>
#include <string.h>

#include "base/pool.h"
#include "cpu/kern.h"

enum {
    MAX_WEIGHTS = 256, /* of one call: all experts of a few tokens */
    MAX_PAIRS = 4,     /* of tiles in one item: their sums stay in L2 beside a chunk of x */
    FINE_COLUMNS = 64  /* of x, at most, for which panels with the groups as stored are faster than coarse ones */
};

/* How one weight is multiplied. */
enum way {
    BY_DOT,   /* fast->dot: stored rows against int8 x */
    BY_CODES, /* the same for formats without a dot: a row is unpacked block by block */
    BY_FLOAT, /* fast->dot_float: plain rows against f32 x */
    BY_GEMM,  /* int8 tiles */
    BY_BF16,  /* bfloat16 tiles of decoded rows */
    BY_F32    /* f32 tiles of decoded rows: --exact, and what has no other */
};

/* Tokens that some weights of a call share. As int8 they are the columns at .. at + n of the device's: first a column a
 * token, then residuals, whose tokens are residual_of[at ..]. There is room for T of either. */
struct columns {
    const float *x;
    int64_t ld_x;
    int T, at, n;
};

/* Rows of a weight: all of it, or one expert's of a stack; what they are multiplied with, and where it goes. */
struct rows {
    const sr_weight *w;
    int64_t row0, N;
    struct columns *x;
    float *y;
    int64_t ld_y;
    enum way way;
};

struct job {
    sr_cpu *cpu;
    struct rows *of;
    int first[MAX_WEIGHTS + 1]; /* items before each weight */
    int n;
    struct columns *x;
    int n_x;
    double limit;        /* of the rounding error of a token, of its energy */
    const sr_kern *gemm; /* of BY_GEMM, for all of them */
};

static size_t round64(size_t n) {
    return (n + 63) / 64 * 64;
}

size_t sr_cpu_matmul_thread_bytes(const sr_kern *kern, int batch, int64_t max_k) {
    const size_t few = kern->few ? kern->few->tile_bytes : 0, tile = kern->tile_bytes > few ? kern->tile_bytes : few;
    size_t gemm = round64(sizeof(sr_panel)) + round64(tile) + 2 * (size_t)batch * MAX_PAIRS * SR_PAIR * sizeof(float);
    size_t f32 = sizeof(float[SR_PAIR][SR_TILE_KC]) + (size_t)batch * MAX_PAIRS * SR_PAIR * sizeof(float);
    size_t row = round64((size_t)max_k * sizeof(float)); /* of residuals */
    gemm = gemm > f32 ? gemm : f32;
    return round64(gemm > row ? gemm : row);
}

static enum way choose(const sr_cpu *cpu, const sr_weight *w, int T) {
    if (cpu->exact) return BY_F32;
    if (w->tile != SR_TILE_I8) {
        const bool halves = sr_weight_bytes(w) <= 2 * w->N * w->K; /* what is f32 is small, and meant to be exact */
        if (T > SR_DOT_MAX) return cpu->kern->gemm_bf16 && halves ? BY_BF16 : BY_F32;
        return w->fast && w->fast->dot_float ? BY_FLOAT : BY_F32;
    }
    if (T > cpu->kern->dot_max_t) return BY_GEMM;
    return w->fast && w->fast->dot ? BY_DOT : BY_CODES;
}

/* Parts of a matrix whose rows lie in the same bytes: an item has rows of each of them. */
static int parts_of(const struct rows *r) {
    return r->way == BY_DOT && r->w->fast->share && r->N == r->w->N ? r->w->fast->share : 1;
}

/* Rows of one item, of all parts. A short matrix is cut finer, so that every thread gets some. */
static int rows_of(const sr_cpu *cpu, const struct rows *r) {
    const int64_t N = r->N;
    if (r->way != BY_GEMM && r->way != BY_F32 && r->way != BY_BF16) {
        const bool wide = r->way == BY_DOT && r->w->fast->wide;
        int rows = wide ? SR_DOT_ROWS : SR_FEW_ROWS;
        while (rows > 64 && N < (int64_t)(wide ? 2 : 8) * cpu->threads * rows) rows /= 2;
        return rows;
    }
    const int most = r->x->T <= FINE_COLUMNS ? 1 : MAX_PAIRS; /* x and sums of few tokens stay near anyway */
    int64_t pairs = N / SR_PAIR / (2 * cpu->threads);
    return SR_PAIR * (pairs < 1 ? 1 : pairs > most ? most : (int)pairs);
}

/* Where column `row` goes, of the first token. */
static float *out_at(const struct rows *o, int64_t row) {
    return o->y + (row - o->row0);
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

static sr_ahead ahead_of(const struct rows *o, int64_t row0, int n_rows) {
    const sr_weight *w = o->w;
    if (w->plane[0].bytes != w->N * w->plane[0].stride) return (sr_ahead){0};
    return (sr_ahead){w->plane[0].data + row0 * w->plane[0].stride, n_rows * w->plane[0].stride};
}

static bool has_tile(const sr_kern *kern, const sr_weight *w) {
    return kern->tiles && w->fast && w->fast->tile;
}

/* Whether `columns` of x are too few to pay for making a panel coarse. */
static bool is_fine(const sr_kern *kern, const sr_weight *w, int columns) {
    if (columns > FINE_COLUMNS || !w->fmt->panel || !w->fast) return false;
    if (kern->panels && w->fast->panel_rows) return false;
    return has_tile(kern, w) ? !w->fast->tile_coarse : w->fast->unpack != NULL;
}

/* What is multiplied with so many columns of x. */
struct groups {
    bool fine, has_min;
    int columns;
};

static struct groups groups_of(const sr_kern *kern, const sr_weight *w, int columns) {
    const bool fine = is_fine(kern, w, columns);
    return (struct groups){fine, fine ? w->fmt->has_min : sr_panel_has_min(w), fine ? w->group : sr_panel_group(w)};
}

/* The row whose GEMM multiplies so many columns of x, which they share. */
static const sr_kern *gemm_for(const sr_cpu *cpu, const struct rows *of, int n, int columns) {
    const sr_kern *few = cpu->kern->few;
    for (int i = 0; i < n && few; i++) {
        if (of[i].way != BY_GEMM) continue;
        const struct groups g = groups_of(few, of[i].w, columns);
        if (columns > few->most_columns(g.columns, g.has_min)) few = NULL;
    }
    return few ? few : cpu->kern;
}

/* Unpacks up to SR_MR rows; what lies past K or N is zero. */
static void fill_panel(const sr_kern *kern, const sr_weight *w, int64_t row0, int n_rows, int64_t k0, bool fine,
                       sr_ahead next, sr_panel *p) {
    int64_t n = w->K - k0 < SR_TILE_KC ? w->K - k0 : SR_TILE_KC;
    if (n_rows < SR_MR || n < SR_TILE_KC) memset(p, 0, sizeof *p);
    if (!fine && n_rows == SR_MR && row0 % SR_MR == 0 && w->fast && w->fast->panel_rows) {
        w->fast->panel_rows(w, row0, k0, n, p, next);
        return;
    }
    for (int r = 0; r < n_rows; r++) {
        sr_prefetch(next, r, SR_MR);
        if (kern->awake && r % 4 == 0) kern->awake();
        if (!fine && w->fast && w->fast->panel)
            w->fast->panel(w, row0 + r, k0, n, p->code[r], p->scale[r], p->min[r]);
        else if (fine || (w->fast && w->fast->unpack && !w->fmt->panel))
            unpacker(w)(w, row0 + r, k0, n, p->code[r], p->scale[r], p->min[r]);
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
static void gemm_rows(const sr_cpu *cpu, const sr_kern *kern, const struct rows *o, int64_t row0, int n_rows,
                      sr_ahead next, uint8_t *scratch) {
    const sr_weight *w = o->w;
    const sr_x8 *x = &cpu->x8;
    const int T = o->x->T, pairs = pairs_of(n_rows);
    const struct groups groups = groups_of(kern, w, x->T);
    const bool fine = groups.fine, has_min = groups.has_min;
    const int group = groups.columns;
    const bool panels = kern->panels && sr_one_scale(group, has_min);
    const bool tiles = has_tile(kern, w) && (fine || !w->fmt->panel || (w->fast->tile_coarse && !panels));
    const int64_t parts = (w->K + SR_TILE_KC - 1) / SR_TILE_KC * pairs;
    sr_panel *panel = (void *)scratch; /* one, so that it stays in L1 beside the tiles; or two in their place */
    void *tile = scratch + round64(sizeof *panel);
    float *acc = (float *)(void *)((uint8_t *)tile + round64(kern->tile_bytes));
    const int64_t acc_n = (int64_t)x->T * SR_PAIR; /* of one pair */
    if (kern->begin) kern->begin(x->T, group, has_min);
    for (int64_t k0 = 0; k0 < w->K; k0 += SR_TILE_KC)
        for (int p = 0; p < pairs; p++) {
            const int64_t at = k0 / SR_TILE_KC * pairs + p;
            const sr_ahead own = sr_part_of(next, at, at + 1, parts);
            for (int h = 0; h < 2; h++) {
                const int first = p * SR_PAIR + h * SR_MR, left = n_rows < first ? 0 : n_rows - first;
                const sr_ahead part = sr_part_of(own, h, h + 1, panels ? 2 : 6);
                if (kern->awake) kern->awake();
                if (tiles && left >= SR_MR && w->K - k0 >= SR_TILE_KC) {
                    w->fast->tile(w, row0 + first, k0, (uint8_t *)tile + (size_t)h * kern->tile_bytes / 2, part);
                    continue;
                }
                fill_panel(kern, w, row0 + first, left < SR_MR ? left : SR_MR, k0, fine, part,
                           panels ? panel + h : panel);
                if (!panels) kern->pack_w(panel, h, group, has_min, tile);
            }
            kern->gemm_i8(panels ? (void *)panel : tile, group, has_min, x, cpu->packed, k0, k0 == 0, acc + p * acc_n,
                          panels ? (sr_ahead){0} : sr_part_of(own, 2, 6, 6));
        }
    if (kern->end) kern->end();
    for (int p = 0; p < pairs; p++) {
        float *a = acc + p * acc_n;
        int64_t first = row0 + p * SR_PAIR;
        int rows = row0 + n_rows - first < SR_PAIR ? (int)(row0 + n_rows - first) : SR_PAIR;
        for (int t = T; t < x->T; t++)
            kern->add(a + (int64_t)cpu->residual_of[t - T] * SR_PAIR, a + (int64_t)t * SR_PAIR, rows);
        for (int t = 0; w->bias && t < T; t++) kern->add(a + (int64_t)t * SR_PAIR, w->bias + first, rows);
        kern->store(a, T, rows, out_at(o, first), o->ld_y);
    }
}

/* Pairs of tiles of decoded rows, in the order of gemm_rows. */
static void float_rows(const sr_cpu *cpu, const struct rows *o, int64_t row0, int n_rows, uint8_t *scratch) {
    const sr_kern *kern = cpu->kern;
    const sr_weight *w = o->w;
    const int T = o->x->T, pairs = pairs_of(n_rows);
    const int64_t acc_n = (int64_t)T * SR_PAIR;
    const bool packed = T > SR_DOT_MAX;
    const bool stored = o->way == BY_BF16 && w->tile == SR_TILE_BF16 && strcmp(w->plane[0].type->name, "bf16") == 0;
    const int64_t ld_x = packed ? SR_TILE_KC : o->x->ld_x, step = packed ? (int64_t)T * SR_TILE_KC : SR_TILE_KC;
    const float *x = packed ? cpu->packed_f32 : o->x->x;
    float(*panel)[SR_TILE_KC] = (void *)scratch, *acc = (float *)(void *)(scratch + sizeof *panel * SR_PAIR);
    for (int64_t k0 = 0; k0 < w->K; k0 += SR_TILE_KC, x += step)
        for (int p = 0; p < pairs; p++) {
            const int64_t n = w->K - k0 < SR_TILE_KC ? w->K - k0 : SR_TILE_KC;
            const int rows = n_rows - p * SR_PAIR < SR_PAIR ? n_rows - p * SR_PAIR : SR_PAIR;
            if (stored && rows == SR_PAIR && n == SR_TILE_KC) {
                const int64_t stride = w->plane[0].stride;
                const uint8_t *at = w->plane[0].data + (row0 + p * SR_PAIR) * stride + 2 * k0;
                kern->gemm_bf16(NULL, at, stride, cpu->packed_bf16, T, k0, k0 == 0, acc + p * acc_n);
                continue;
            }
            if (rows < SR_PAIR) memset(panel, 0, sizeof *panel * SR_PAIR);
            for (int r = 0; r < rows; r++)
                (w->fast && w->fast->decode ? w->fast->decode : w->fmt->decode)(w, row0 + p * SR_PAIR + r, k0, n,
                                                                                panel[r]);
            if (n < SR_TILE_KC && o->way == BY_BF16)
                for (int r = 0; r < rows; r++) memset(panel[r] + n, 0, (size_t)(SR_TILE_KC - n) * sizeof *panel[r]);
            if (o->way == BY_BF16)
                kern->gemm_bf16((const float(*)[SR_TILE_KC])panel, NULL, 0, cpu->packed_bf16, T, k0, k0 == 0,
                                acc + p * acc_n);
            else
                kern->gemm_f32((const float(*)[SR_TILE_KC])panel, n, x, ld_x, T, k0 == 0, acc + p * acc_n);
        }
    for (int p = 0; p < pairs; p++) {
        const int first = p * SR_PAIR, rows = n_rows - first < SR_PAIR ? n_rows - first : SR_PAIR;
        kern->store(acc + p * acc_n, T, rows, out_at(o, row0 + first), o->ld_y);
    }
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
static void dot_rows(const sr_cpu *cpu, const struct rows *o, int64_t row0, int n_rows) {
    const sr_x8 *all = &cpu->x8;
    const sr_weight *w = o->w;
    const int T = o->x->T, n = o->x->n;
    float part[SR_DOT_MAX * SR_DOT_ROWS];
    for (int t0 = 0; t0 < n; t0 += SR_DOT_MAX) {
        int64_t at = (o->x->at + t0) * all->n_block;
        sr_x8 x = {n - t0 < SR_DOT_MAX ? n - t0 : SR_DOT_MAX,
                   all->K,
                   all->n_block,
                   all->code + at * SR_KC,
                   all->scale + at,
                   all->sum + at * (SR_KC / SR_SUM),
                   all->dealt + at * SR_KC};
        if (o->way == BY_DOT)
            w->fast->dot(w, row0, n_rows, &x, part, SR_DOT_ROWS);
        else
            dot_unpacked(cpu, w, row0, n_rows, &x, part, SR_DOT_ROWS);
        for (int t = t0; t < t0 + x.T; t++) {
            const float *from = part + (t - t0) * SR_DOT_ROWS;
            if (t < T)
                memcpy(out_at(o, row0) + t * o->ld_y, from, (size_t)n_rows * sizeof *from);
            else
                cpu->kern->add(out_at(o, row0) + cpu->residual_of[o->x->at + t - T] * o->ld_y, from, n_rows);
        }
    }
}

static void multiply_rows(const struct job *j, const struct rows *o, int64_t row0, int n_rows, sr_ahead next,
                          int thread) {
    const sr_cpu *cpu = j->cpu;
    const sr_weight *w = o->w;
    uint8_t *scratch = cpu->thread + (size_t)thread * cpu->thread_bytes;
    float *y = out_at(o, row0);
    switch (o->way) {
    case BY_DOT:
    case BY_CODES:
        dot_rows(cpu, o, row0, n_rows);
        break;
    case BY_FLOAT:
        w->fast->dot_float(w, row0, n_rows, o->x->x, o->x->ld_x, o->x->T, y, o->ld_y);
        break;
    case BY_GEMM:
        gemm_rows(cpu, j->gemm, o, row0, n_rows, next, scratch);
        break;
    case BY_BF16:
    case BY_F32:
        float_rows(cpu, o, row0, n_rows, scratch);
        break;
    }
    if (w->bias && o->way != BY_GEMM)
        for (int t = 0; t < o->x->T; t++) cpu->kern->add(y + t * o->ld_y, w->bias + row0, n_rows);
}

/* An item of a job: rows row0 .. row0 + n of each part of a matrix. */
struct item {
    const struct rows *of;
    int64_t row0;
    int n, parts;
};

static struct item item_of(const struct job *j, int item) {
    int i = 0;
    while (item >= j->first[i + 1]) i++;
    const struct rows *r = &j->of[i];
    const int parts = parts_of(r), rows = rows_of(j->cpu, r) / parts;
    const int64_t row0 = (int64_t)(item - j->first[i]) * rows, left = r->N / parts - row0;
    return (struct item){r, r->row0 + row0, left < rows ? (int)left : rows, parts};
}

static void multiply(void *ctx, int item, int thread) {
    const struct job *j = ctx;
    const struct item it = item_of(j, item);
    sr_ahead next = {0};
    if (it.of->way == BY_GEMM && item + 1 < j->first[j->n]) {
        const struct item n = item_of(j, item + 1);
        next = ahead_of(n.of, n.row0, n.n);
    }
    const int shared = it.parts > 1 ? sr_shared_rows(it.of->w->K) : it.n;
    for (int first = 0; first < it.n; first += shared)
        for (int p = 0; p < it.parts; p++)
            multiply_rows(j, it.of, it.row0 + p * (it.of->N / it.parts) + first,
                          it.n - first < shared ? it.n - first : shared, next, thread);
}

static void quantize_column(sr_cpu *cpu, const float *x, int column, bool deal) {
    sr_x8 *to = &cpu->x8;
    cpu->kern->quantize(x, to->K, to->code + column * to->n_block * SR_KC, to->scale + column * to->n_block,
                        to->sum + column * to->n_block * (SR_KC / SR_SUM));
    if (deal) sr_x8_deal(to, column);
}

/* Rounding with a step s leaves s^2 / 12 a column. Beyond a share of the token's energy, one outlier sets the step of
 * its whole block, and the residual is worth a column of its own. Measured on the first story model, q8_0,
 * held-out text against --exact: without residuals mean KLD 4.5e-4; with 4e-4 here 2.4e-4, 2e-4 1.1e-4, 1e-4 4.9e-5 (42
 * % of the tokens of qkv, 17 % of gate and up, all of down). Weights of few bits have an error of their own, of
 * about 1.6 * 4^-bits of their energy when rounded to nearest: an eighth of it more is not seen. */
static double residual_limit(const sr_weight *w) {
    const double bits = 8.0 * (double)sr_weight_bytes(w) / ((double)w->N * (double)w->K), own = 0.2 * exp2(-2 * bits);
    return own < 1e-4 ? 1e-4 : own < 4e-4 ? own : 4e-4;
}

static bool wants_residual(const sr_cpu *cpu, const float *row, int column, double limit) {
    const sr_x8 *x = &cpu->x8;
    float energy;
    double error = 0;
    cpu->kern->dot_f32(row, row, 0, 1, x->K, &energy);
    for (int64_t b = 0; b < x->n_block; b++) {
        double step = x->scale[column * x->n_block + b];
        error += step * step * (SR_KC / 12.0);
    }
    return error > limit * (double)energy;
}

struct quantize_job {
    sr_cpu *cpu;
    struct columns *x;
    double limit;
};

static void quantize_token(void *ctx, int t, int thread) {
    const struct quantize_job *j = ctx;
    const struct columns *x = j->x;
    const float *row = x->x + t * x->ld_x;
    (void)thread;
    quantize_column(j->cpu, row, x->at + t, x->T <= SR_DOT_MAX);
    j->cpu->residual_of[x->at + x->T + t] =
        wants_residual(j->cpu, row, x->at + t, j->limit); /* a mark: the place is free yet */
}

static void quantize_residual(void *ctx, int i, int thread) {
    const struct quantize_job *j = ctx;
    const struct columns *of = j->x;
    const sr_x8 *x = &j->cpu->x8;
    const int t = j->cpu->residual_of[of->at + i], column = of->at + t;
    const float *row = of->x + t * of->ld_x, *scale = x->scale + column * x->n_block;
    const int8_t *code = x->code + column * x->n_block * SR_KC;
    float *rest = (float *)(void *)(j->cpu->thread + (size_t)thread * j->cpu->thread_bytes);
    for (int64_t k = 0; k < x->K; k++) rest[k] = row[k] - scale[k / SR_KC] * (float)code[k];
    quantize_column(j->cpu, rest, of->at + of->T + i, of->T <= SR_DOT_MAX);
}

static int collect_residuals(sr_cpu *cpu, const struct columns *x) {
    int32_t *of = cpu->residual_of + x->at;
    int n = 0;
    for (int t = 0; t < x->T; t++)
        if (of[x->T + t]) of[n++] = t;
    return n;
}

static void quantize_columns(void *ctx, int i, int thread) {
    const struct job *j = ctx;
    struct columns *x = &j->x[i];
    struct quantize_job q = {j->cpu, x, j->limit};
    for (int t = 0; t < x->T; t++) quantize_token(&q, t, thread);
    x->n = x->T + collect_residuals(j->cpu, x);
    for (int r = 0; r < x->n - x->T; r++) quantize_residual(&q, r, thread);
}

/* x of the job as int8 columns: one a token, then the residuals. */
static void quantize_all(struct job *j) {
    sr_cpu *cpu = j->cpu;
    sr_x8 *to = &cpu->x8;
    to->K = j->of[0].w->K;
    to->n_block = (to->K + SR_KC - 1) / SR_KC;
    if (j->n_x > 1) {
        sr_pool_for(j->n_x < 8 ? 1 : cpu->threads, j->n_x, quantize_columns, j);
        return;
    }
    struct quantize_job q = {cpu, j->x, j->limit};
    const int threads = j->x->T < 8 ? 1 : cpu->threads;
    sr_pool_for(threads, j->x->T, quantize_token, &q);
    const int n = collect_residuals(cpu, j->x);
    sr_pool_for(threads, n, quantize_residual, &q);
    to->T = j->x->n = j->x->T + n;
}

static void pack_columns(void *ctx, int item, int thread) {
    const struct job *j = ctx;
    (void)thread;
    j->gemm->pack_x(&j->cpu->x8, item, j->cpu->packed);
}

/* A token of [chunk of SR_TILE_KC columns][T][SR_TILE_KC]: what gemm_f32 reads at a time lies together. */
static void pack_f32(void *ctx, int t, int thread) {
    const struct job *j = ctx;
    const struct columns *x = j->x;
    const int64_t K = j->of[0].w->K;
    float *to = j->cpu->packed_f32 + (int64_t)t * SR_TILE_KC;
    (void)thread;
    for (int64_t k = 0; k < K; k += SR_TILE_KC, to += (int64_t)x->T * SR_TILE_KC)
        memcpy(to, x->x + t * x->ld_x + k, (size_t)(K - k < SR_TILE_KC ? K - k : SR_TILE_KC) * sizeof *to);
}

static void pack_bf16(void *ctx, int item, int thread) {
    const struct job *j = ctx;
    (void)thread;
    j->cpu->kern->pack_bf16(j->x->x, j->x->ld_x, j->x->T, j->of[0].w->K, item, j->cpu->packed_bf16);
}

/* All weights want the columns of x in the same order. More than one x: each of up to SR_DOT_MAX tokens, fewer than
 * what gemm wants. */
static void matmul_same_x(sr_cpu *cpu, struct rows *of, int n, struct columns *x, int n_x) {
    struct job j = {.cpu = cpu, .of = of, .n = n, .x = x, .n_x = n_x};
    bool int8 = false, gemm = false, bf16 = false, f32 = false;
    for (int i = 0; i < n; i++) {
        of[i].way = choose(cpu, of[i].w, of[i].x->T);
        const int parts = parts_of(&of[i]), rows = rows_of(cpu, &of[i]) / parts;
        j.first[i + 1] = j.first[i] + (int)((of[i].N / parts + rows - 1) / rows);
        if (of[i].way == BY_DOT || of[i].way == BY_CODES || of[i].way == BY_GEMM) {
            const double limit = residual_limit(of[i].w);
            j.limit = int8 && j.limit < limit ? j.limit : limit;
            int8 = true;
        }
        gemm = gemm || of[i].way == BY_GEMM;
        bf16 = bf16 || of[i].way == BY_BF16;
        f32 = f32 || (of[i].way == BY_F32 && of[i].x->T > SR_DOT_MAX);
    }
    if (int8) {
        quantize_all(&j);
        j.gemm = gemm_for(cpu, of, n, cpu->x8.T);
        if (gemm && j.gemm->packed_bytes(cpu->x8.T, cpu->x8.n_block) > 0)
            sr_pool_for(cpu->threads, (cpu->x8.T + j.gemm->pack_columns - 1) / j.gemm->pack_columns, pack_columns, &j);
    }
    if (bf16) sr_pool_for(cpu->threads, (x->T + SR_BF16_COLUMNS - 1) / SR_BF16_COLUMNS, pack_bf16, &j);
    if (f32) sr_pool_for(cpu->threads, x->T, pack_f32, &j);
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

/* The rows share one x. */
static void matmul_rows(sr_cpu *cpu, struct rows *of, int n, const float *x, int T, int64_t ld_x) {
    for (int i = 0, m; i < n; i += m) { /* runs of weights that share an order */
        const sr_weight *w = of[i].w;
        struct columns own = {.x = x, .ld_x = ld_x, .T = T};
        for (m = 1; i + m < n && same_order(w, of[i + m].w);) m++;
        if (w->perm) {
            struct gather_job g = {x, ld_x, w->K, w->perm, cpu->gathered};
            sr_pool_for(T < 8 ? 1 : cpu->threads, T, gather_token, &g);
            own.x = cpu->gathered, own.ld_x = w->K;
        }
        for (int k = i; k < i + m; k++) of[k].x = &own;
        matmul_same_x(cpu, of + i, m, &own, 1);
    }
}

void sr_cpu_matmul(sr_dev *dev, const sr_weight *const *w, int n, const float *x, int T, int64_t ld_x, float *const *y,
                   const int64_t *ld_y) {
    struct rows of[MAX_WEIGHTS];
    for (int i = 0; i < n; i++) of[i] = (struct rows){.w = w[i], .N = w[i]->N, .y = y[i], .ld_y = ld_y[i]};
    matmul_rows((sr_cpu *)(void *)dev, of, n, x, T, ld_x);
}

/* ------------------------------------------------------------------ experts and heads */

/* Rows of few tokens that wait to be multiplied together, so that threads are woken once. */
struct batch {
    sr_cpu *cpu;
    struct rows of[MAX_WEIGHTS];
    struct columns x[MAX_WEIGHTS];
    int n, n_x, columns;
};

static void flush(struct batch *b) {
    if (b->n > 0) matmul_same_x(b->cpu, b->of, b->n, b->x, b->n_x);
    b->n = b->n_x = b->columns = 0;
}

/* Whether a weight's columns may be multiplied beside others'. */
static bool is_few(const sr_cpu *cpu, const sr_weight *w, int T) {
    const int most = cpu->kern->dot_max_t < SR_DOT_MAX ? cpu->kern->dot_max_t : SR_DOT_MAX;
    return T <= most && !w->perm;
}

static struct columns *add_columns(struct batch *b, int n_rows, const float *x, int T, int64_t ld_x) {
    if (b->n + n_rows > MAX_WEIGHTS || b->columns + T > SR_FEW_COLUMNS) flush(b);
    struct columns *c = &b->x[b->n_x++];
    *c = (struct columns){.x = x, .ld_x = ld_x, .T = T, .at = 2 * b->columns};
    b->columns += T;
    return c;
}

static struct rows rows_of_expert(const sr_experts *w, int e, float *y, int64_t ld_y) {
    const bool stack = w->n == 1;
    return (struct rows){&w->w[stack ? 0 : e], stack ? w->row0 + e * w->pitch : 0, w->N, NULL, y, ld_y, BY_DOT};
}

/* What an expert gets is what a step with its tokens alone would. */
void sr_cpu_matmul_experts(sr_dev *dev, const sr_experts *const *w, int n, const sr_choices *c, const float *x,
                           int64_t ld_x, bool by_choice, float *const *y, const int64_t *ld_y) {
    sr_cpu *cpu = (sr_cpu *)(void *)dev;
    const int64_t K = w[0]->K;
    struct batch b = {.cpu = cpu};
    int32_t last = -1; /* the token that the latest columns of the batch are of, when of one alone */
    for (int32_t e = 0; e < c->n_expert; e++) {
        const int32_t first = c->first[e], T = c->first[e + 1] - first;
        struct rows of[2];
        bool few = true;
        if (T == 0) continue;
        for (int i = 0; i < n; i++) {
            of[i] = rows_of_expert(w[i], e, y[i] + first * ld_y[i], ld_y[i]);
            few = few && is_few(cpu, of[i].w, T);
        }
        const float *own = x + (by_choice ? first : c->token[first]) * ld_x;
        int64_t ld = ld_x;
        if (T > 1 && !by_choice) {
            if (!few || b.n + n > MAX_WEIGHTS || b.columns + T > SR_FEW_COLUMNS) flush(&b), last = -1;
            float *to = cpu->chosen + (few ? b.columns : 0) * K;
            for (int t = 0; t < T; t++) memcpy(to + t * K, x + c->token[first + t] * ld_x, (size_t)K * sizeof *x);
            own = to, ld = K;
        }
        if (!few) {
            flush(&b), last = -1;
            matmul_rows(cpu, of, n, own, T, ld);
            continue;
        }
        const bool same = T == 1 && !by_choice && c->token[first] == last && b.n + n <= MAX_WEIGHTS;
        struct columns *at = same ? &b.x[b.n_x - 1] : add_columns(&b, n, own, T, ld);
        last = T == 1 && !by_choice ? c->token[first] : -1;
        for (int i = 0; i < n; i++) {
            of[i].x = at;
            b.of[b.n++] = of[i];
        }
    }
    flush(&b);
}

void sr_cpu_matmul_heads(sr_dev *dev, const sr_experts *w, int n_head, const float *x, int T, int64_t ld_x,
                         int64_t step_x, float *y, int64_t ld_y, int64_t step_y) {
    sr_cpu *cpu = (sr_cpu *)(void *)dev;
    struct batch b = {.cpu = cpu};
    for (int h = 0; h < n_head; h++) {
        struct rows of = rows_of_expert(w, h, y + h * step_y, ld_y);
        if (!is_few(cpu, of.w, T)) {
            matmul_rows(cpu, &of, 1, x + h * step_x, T, ld_x);
            continue;
        }
        of.x = add_columns(&b, 1, x + h * step_x, T, ld_x);
        b.of[b.n++] = of;
    }
    flush(&b);
}
