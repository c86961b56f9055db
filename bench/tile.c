/* bench/tile.c: how near the int8 GEMM of each instruction set comes to the machine's peak.
 *
 *   stored rows --panel (per format)--> 16 rows of int8 codes --pack_w--> tile --gemm_i8 (per instruction set)--> y
 *
 * Each share is of the peak that the set's own probe reaches in the same slice of time; the last column's is that of
 * vpdpbusd zmm. "gemm" is gemm_i8 alone, T = 512, tiles packed once. "T=..." is everything but the packing of x, y
 * stored past the caches, and "y copied" with plain stores. panel and pack, measured alone, are shares of the time of
 * T=512. CPU seconds of each thread, medians: other processes count only through caches and clock. Every result is
 * first compared with the portable row's.
 *
 *   bench-tile [THREADS [K]]
 *
 * Tried, and what won (Sapphire-Rapids class, gcc 12 and clang 14; shares of the vpdpbusd zmm peak unless said).
 *
 * AVX-512 VNNI, gemm alone. A vector is one dword of 16 rows, x is broadcast from memory: two loads a cycle are all
 * there is, and 16 rows by NR need NR + 1 loads for NR instructions. Group 256: 16x14 .74-.77, 32x6 .82-.83, 32x8
 * .85-.87, 32x10 .85-.87, 32x13 .85-.87, 48x6 .84-.87, 48x8 .86-.88; 32x12 .88 won. Group 32: a conversion and an FMA
 * after 8 dot instructions bound it at 8/10. f32 sums in L1: 16x14 .55-.62, 32x8 .65-.68, 32x10 .62-.65, 32x12 .55-.58,
 * 48x6 .62-.68. In registers: 16x14 .62, 48x4 .58-.69, 32x7 .68-.70; 32x6 .66-.71 won, as two of it are a block of 12.
 *   Group 32 without the conversion, sums that start at the bits of 1.5 * 2^23 and are floats as they stand: .71-.74
 * where 32x6 had .66-.67, before the constant is taken out again. Lost: its rest in the running sum costs up to 1e-4 of
 *     sum|terms| with 5-bit codes, and alternating signs against that need -code, which int8 lacks for -128, or -x,
 *     which formats with other groups share.
 *   Intrinsics instead of one-instruction asm: gcc 12 copies each accumulator around each dot instruction, 32x12
 *     .43-.46. Accumulators in arrays: clang 14 keeps them in memory, .30. One loaded `init` copied to all instead of a
 *     load each: 32x8 .80. Prefetch of the next columns or of y; KC 256 and 1024: within the noise.
 *
 * AMX, shares of its own peak, which is 6.4 times that of vpdpbusd here (8 times a cycle, at a lower clock). tdpbssd
 * takes 16 cycles, also for 32 steps of K (10 for 8 columns of x), and tilestored 14.6 that do not overlap with it: a
 * 2x2 block of 256 columns cannot exceed .81. Group 256: .51-.53 with two buffers for the sums; one, so that more of L1
 * is left, .55-.56 won. x and y in L1 would give .75: the rest is L2 bandwidth, which only more rows a call save.
 * Prefetch of the next x to L1 .35, of y .50. Group 32 exactly, sums that leave after each group, f32 sums of 16x16 in
 * registers: .17, with min .14; group 16 .09, 64 .27, 128 .38. Folded when packed to 16 bits in two planes, any group
 * and min: .31; one block of K after the other .34 won. Packing costs 3 times as much, so a batch of 32 columns of Q8_0
 * is a sixth slower than exactly, one of 512 is 1.8 times as fast, Q5_K 2 times, Q6_K 3 times.
 *
 * AVX2, shares of vpmaddwd + vpaddd: codes widened by the kernel .64-.66; widened when packed, all of x passing by one
 *   tile and then by the other .44 (x has 16 bits then, and 512 columns come from L3); 12 columns at a time .76, group
 * 32 .65, with min .62 won.
 *
 * The whole, Q4_K, T = 512, K = N = 2048, two threads, while other processes took three quarters of the CPU time (which
 *   costs gemm alone about .1): y copied AMX .12, AVX-512 .45; past the caches .18 and .55. y and x on pages of 2 MiB:
 *   copied a tenth faster, past the caches no difference. Prefetch of the next chunk's stored rows before each gemm: no
 *   difference. The rest of AMX's loss is caches: panels take 2.3 us alone and 4.8 between two gemms, gemm 6.5 and 7.9.
 *   K = 8192, where the 4 MB of x come from L3 for every 32 rows: gemm AMX .25 instead of .43, AVX-512 .69 instead of
 *   .73; the whole .12 and .48. */
#define _GNU_SOURCE
#include <math.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/arena.h"
#include "cpu/gemm.h"

enum { N = 2048, CODED = 64, MAX_T = 512, RUNS = 11, MAX_THREADS = 64 };

static const char *const formats[] = {"q4_k", "q2_k", "q8_0", "q5_k", "q6_k"};

/* One thread's part of y[T][N]: rows row0 .. row0 + rows. */
struct part {
    const sr_kern *kern;
    const sr_weight *w;
    const sr_fast *fast;
    const sr_x8 *x;
    const void *packed;
    int64_t row0, rows;
    float *y;
    sr_panel *panel;
    void *tile;
    float *acc;
};

static void *allocate(size_t bytes) {
    void *p = aligned_alloc(64, (bytes + 63) / 64 * 64 + 64);
    if (!p) {
        fputs("out of memory\n", stderr);
        exit(1);
    }
    memset(p, 0, bytes);
    return p;
}

static double uniform(void) {
    return (double)rand() / RAND_MAX - 0.5;
}

/* ---- what is timed ---- */

static void panels(const struct part *p, int64_t row0, int64_t k0) {
    int64_t left = p->w->K - k0, n = left < SR_TILE_KC ? left : SR_TILE_KC;
    for (int r = 0; r < SR_PAIR; r++) {
        if (p->fast && p->fast->panel_rows) {
            if (r % SR_MR == 0) p->fast->panel_rows(p->w, row0 + r, k0, n, &p->panel[r / SR_MR], (sr_ahead){0});
            continue;
        }
        sr_panel *to = &p->panel[r / SR_MR];
        int i = r % SR_MR;
        if (p->fast && p->fast->panel)
            p->fast->panel(p->w, row0 + r, k0, n, to->code[i], to->scale[i], to->min[i]);
        else
            sr_panel_row(p->w, row0 + r, k0, n, to->code[i], to->scale[i], to->min[i]);
    }
}

static void pack(const struct part *p) {
    for (int h = 0; h < 2; h++) p->kern->pack_w(&p->panel[h], h, sr_panel_group(p->w), sr_panel_has_min(p->w), p->tile);
}

static void gemm(const struct part *p, int64_t k0) {
    p->kern->gemm_i8(p->tile, sr_panel_group(p->w), sr_panel_has_min(p->w), p->x, p->packed, k0, k0 == 0, p->acc,
                     (sr_ahead){0});
}

enum { PANELS = 1, PACK = 2, GEMM = 4, COPY = 8, STREAM = 16, WHOLE = PANELS | PACK | GEMM };

static void run(const struct part *p, int what) {
    for (int64_t r = p->row0; r < p->row0 + p->rows; r += SR_PAIR) {
        if (p->kern->begin) p->kern->begin(p->x->T, sr_panel_group(p->w), sr_panel_has_min(p->w));
        for (int64_t k0 = 0; k0 < p->w->K; k0 += SR_TILE_KC) {
            if (what & PANELS) panels(p, r, k0);
            if (what & PACK) pack(p);
            if (what & GEMM) gemm(p, k0);
        }
        if (p->kern->end) p->kern->end();
        bool copy = what & (COPY | STREAM);
#if defined(__x86_64__)
        if (what & STREAM) {
            sr_gemm_avx2_store(p->acc, p->x->T, SR_PAIR, p->y + r, N);
            copy = false;
        }
#endif
        for (int t = 0; copy && t < p->x->T; t++)
            memcpy(p->y + (int64_t)t * N + r, p->acc + t * SR_PAIR, SR_PAIR * sizeof *p->y);
    }
}

/* ---- timing ---- */

static double seconds(void) {
    struct timespec t;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static const sr_kern *vpdpbusd; /* the row whose probe is that, or NULL */

struct work {
    pthread_t thread;
    pthread_barrier_t *start;
    const struct part *p;
    int what;
    double rate, peak, vpdpbusd; /* operations a second */
};

static double probe(const sr_kern *kern) {
    double ops = 0, t0 = seconds(), t;
    int64_t n = (int64_t)(1e8 / kern->probe_ops) + 1; /* long beside a look at the clock */
    do {
        kern->probe(n);
        ops += (double)n * kern->probe_ops;
    } while ((t = seconds() - t0) < 4e-3);
    return ops / t;
}

/* Before and after what it is compared with, so that both meet the same clock; after a while of the same work, since
 * the first millisecond of wide vectors is slower. */
static void *timed(void *arg) {
    struct work *j = arg;
    double ops = 0, t0, t;
    pthread_barrier_wait(j->start);
    run(j->p, j->what);
    double peak = probe(j->p->kern), other = vpdpbusd ? probe(vpdpbusd) : 0;
    t0 = seconds();
    do {
        run(j->p, j->what);
        ops += 2.0 * j->p->x->T * (double)(j->p->rows * j->p->w->K);
    } while ((t = seconds() - t0) < 8e-3);
    j->rate = ops / t;
    j->peak = (probe(j->p->kern) + peak) / 2;
    j->vpdpbusd = vpdpbusd ? (probe(vpdpbusd) + other) / 2 : 0;
    return NULL;
}

static int by_value(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static double median(double *v) {
    qsort(v, RUNS, sizeof *v, by_value);
    return v[RUNS / 2];
}

struct result {
    double rate, share, of_vpdpbusd; /* rate: of all threads */
};

static struct result measure(const struct part *p, int threads, int what) {
    double rate[RUNS], share[RUNS], other[RUNS];
    for (int i = 0; i < RUNS; i++) {
        pthread_barrier_t start;
        struct work w[MAX_THREADS];
        double r = 0, peak = 0, o = 0;
        pthread_barrier_init(&start, NULL, (unsigned)threads);
        for (int t = 0; t < threads; t++) {
            w[t] = (struct work){.start = &start, .p = p + t, .what = what};
            if (pthread_create(&w[t].thread, NULL, timed, &w[t])) {
                fputs("no thread\n", stderr);
                exit(1);
            }
        }
        for (int t = 0; t < threads; t++) {
            pthread_join(w[t].thread, NULL);
            r += w[t].rate, peak += w[t].peak, o += w[t].vpdpbusd;
        }
        pthread_barrier_destroy(&start);
        rate[i] = r, share[i] = r / peak, other[i] = o > 0 ? r / o : 0;
    }
    return (struct result){median(rate), median(share), median(other)};
}

/* ---- one format, one instruction set ---- */

static sr_x8 make_x(int T, int64_t K) {
    int64_t n = (K + SR_KC - 1) / SR_KC;
    sr_x8 x = {.T = T, .K = K, .n_block = n};
    x.code = allocate((size_t)(T * n * SR_KC));
    x.scale = allocate((size_t)(T * n) * sizeof *x.scale);
    x.sum = allocate((size_t)(T * n * (SR_KC / SR_SUM)) * sizeof *x.sum);
    for (int64_t i = 0; i < T * n; i++) x.scale[i] = (float)(1 + uniform());
    for (int64_t i = 0; i < T * n * SR_KC; i++) {
        x.code[i] = i % (n * SR_KC) < K ? (int8_t)(rand() % 255 - 127) : 0;
        x.sum[i / SR_SUM] = (int16_t)(x.sum[i / SR_SUM] + x.code[i]);
    }
    return x;
}

static void free_x(sr_x8 *x) {
    free(x->code), free(x->scale), free(x->sum);
}

static void *make_packed(const sr_kern *kern, const sr_x8 *x) {
    void *packed = allocate(kern->packed_bytes(x->T, x->n_block));
    for (int i = 0; i * (int64_t)kern->pack_columns < x->T; i++) kern->pack_x(x, i, packed);
    return packed;
}

static struct part make_part(const sr_kern *kern, const sr_weight *w, const sr_x8 *x, const void *packed, int64_t row0,
                             int64_t rows, float *y) {
    struct part p = {.kern = kern, .w = w, .x = x, .packed = packed, .row0 = row0, .rows = rows, .y = y};
    for (p.fast = kern->fast; p.fast->format && strcmp(p.fast->format, w->fmt->name) != 0;)
        p.fast = sr_fast_next(p.fast);
    if (!p.fast->format) p.fast = NULL;
    p.panel = allocate(2 * sizeof *p.panel);
    p.tile = allocate(kern->tile_bytes);
    p.acc = allocate((size_t)x->T * SR_PAIR * sizeof *p.acc);
    panels(&p, row0, 0);
    pack(&p);
    return p;
}

static void free_part(struct part *p) {
    free(p->panel), free(p->tile), free(p->acc);
}

static void multiply_once(const sr_kern *kern, const sr_weight *w, const sr_x8 *x, float *y) {
    void *packed = make_packed(kern, x);
    struct part p = make_part(kern, w, x, packed, 0, CODED, y);
    run(&p, WHOLE | COPY);
    free_part(&p);
    free(packed);
}

/* rms(y - portable's y) / rms(y): rounding of f32, or of 16 bits where a tile folds its groups. */
static void check(const sr_kern *kern, const sr_kern *portable, const sr_weight *w) {
    sr_x8 x = make_x(45, w->K);
    float *got = allocate(sizeof *got * N * 45), *want = allocate(sizeof *want * N * 45);
    double error = 0, size = 0;
    multiply_once(kern, w, &x, got);
    multiply_once(portable, w, &x, want);
    for (int i = 0; i < 45 * N; i++) {
        double d = (double)got[i] - (double)want[i];
        error += d * d, size += (double)want[i] * (double)want[i];
    }
    if (!(error <= 1e-8 * size)) {
        printf("FAILED %s, %s: rms error %.3g of the result's\n", kern->name, w->fmt->name, sqrt(error / size));
        exit(1);
    }
    free(got), free(want), free_x(&x);
}

static void bench(const sr_kern *kern, const sr_weight *w, int threads) {
    static const int sizes[3] = {MAX_T, 128, 32};
    struct result alone = {0}, whole[3], copied = {0}, unpack = {0}, packing = {0};
    float *y = allocate(sizeof *y * N * MAX_T);
    for (int s = 0; s < 3; s++) {
        sr_x8 x = make_x(sizes[s], w->K);
        void *packed = make_packed(kern, &x);
        struct part p[MAX_THREADS];
        int64_t rows = N / threads / SR_PAIR * SR_PAIR;
        for (int t = 0; t < threads; t++) p[t] = make_part(kern, w, &x, packed, t * rows, rows, y);
        whole[s] = measure(p, threads, WHOLE | STREAM);
        if (s == 0) {
            copied = measure(p, threads, WHOLE | COPY);
            alone = measure(p, threads, GEMM);
            unpack = measure(p, threads, PANELS);
            packing = measure(p, threads, PACK);
        }
        for (int t = 0; t < threads; t++) free_part(&p[t]);
        free(packed), free_x(&x);
    }
    free(y);
    printf("| %s | %s | %d%s | %.2f | %.2f | %.2f | %.2f | %.2f | %.0f %% | %.0f %% | %.0f | %.2f |\n", kern->name,
           w->fmt->name, sr_panel_group(w), sr_panel_has_min(w) ? " + min" : "", alone.share, copied.share,
           whole[0].share, whole[1].share, whole[2].share, 100 * whole[0].rate / unpack.rate,
           100 * whole[0].rate / packing.rate, whole[0].rate * 1e-9, whole[0].of_vpdpbusd);
    fflush(stdout);
}

/* Round to nearest of normal-like weights; the rows after the first ones are copies. */
static sr_weight make_weight(const sr_format *fmt, int64_t K, sr_arena *arena) {
    sr_weight w;
    sr_err err = {0};
    if (sr_weight_create(fmt, N, K, NULL, arena, &w, &err) != SR_OK) {
        fprintf(stderr, "%s: no weight of %d x %d\n", fmt->name, N, (int)K);
        exit(1);
    }
    float *src = allocate(sizeof *src * CODED * (size_t)K);
    for (int64_t i = 0; i < CODED * K; i++) src[i] = (float)(0.02 * (uniform() + uniform() + uniform() + uniform()));
    sr_rtn_rows(&w, 0, CODED, src, NULL);
    for (int i = 0; i < SR_MAX_PLANES && w.plane[i].data; i++)
        for (int64_t r = CODED; r < N; r++)
            memcpy(w.plane[i].data + r * w.plane[i].stride, w.plane[i].data + r % CODED * w.plane[i].stride,
                   (size_t)w.plane[i].stride);
    free(src);
    return w;
}

int main(int argc, char **argv) {
    int threads = argc > 1 ? atoi(argv[1]) : 2;
    int64_t K = argc > 2 ? atoi(argv[2]) : 2048;
    if (threads < 1 || threads > MAX_THREADS || threads > N / SR_PAIR || K < SR_KC || K % SR_KC != 0) {
        fputs("bench-tile [THREADS [K]], K a multiple of 256\n", stderr);
        return 2;
    }
    const sr_kern *portable = NULL;
    for (int i = 0; sr_kerns[i]; i++) {
        portable = sr_kerns[i];
        if (portable->usable() && strcmp(portable->name, "avx512") == 0) vpdpbusd = portable;
    }
    printf(
        "K %d, N %d, %d threads, medians of %d\n\n"
        "| isa | format | group | gemm | T=512, y copied | T=512 | T=128 | T=32 | panel | pack | GOPS | of vpdpbusd |\n"
        "|---|---|---|---|---|---|---|---|---|---|---|---|\n",
        (int)K, N, threads, RUNS);
    sr_arena arena = {0};
    for (size_t f = 0; f < sizeof formats / sizeof *formats; f++) {
        sr_weight w = make_weight(sr_format_by_name(formats[f]), K, &arena);
        for (int i = 0; sr_kerns[i] != portable; i++) {
            if (!sr_kerns[i]->usable()) continue;
            check(sr_kerns[i], portable, &w);
            bench(sr_kerns[i], &w, threads);
        }
    }
    sr_arena_free(&arena);
    return 0;
}
