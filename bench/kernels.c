/* bench/kernels.c: the ladder of kernels. For each format and instruction set, in one run beside a sequential read, the
 * best of several runs, in CPU seconds so that other processes on the machine count little:
 *   dot    GB/s of stored weights and its ratio to the read's, ns a row, for T = 1 and 4, on 1 and on all threads
 *   panel  ns of 256 columns, data in L2
 *   attention: us of a page of 256 keys, decode (heads of one KV head) and prefill (64 rows), by type of keys and
 * values
 *
 *   bench-kernels [THREADS [MIB [FORMAT...]]]     no FORMAT: all of them; "attention" is one */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "../tests/written.h"
#include "base/map.h"
#include "base/pool.h"
#include "cpu/kern.h"

enum { K = 2048, RUNS = 12 };

static double cpu_seconds(void) {
    struct timespec t;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

struct job {
    const uint8_t *data;
    const sr_weight *w;
    const sr_fast *fast;
    const sr_x8 *x;
    float *y;
    volatile uint64_t sink;
};

/* Seconds of fn over all items. */
static double measure(int threads, int items, void (*fn)(void *, int, int), struct job *j) {
    double best = 1e9;
    for (int i = 0; i < RUNS; i++) {
        double start = cpu_seconds();
        sr_pool_for(threads, items, fn, j);
        double t = (cpu_seconds() - start) / threads;
        best = t < best ? t : best;
    }
    return best;
}

enum { PIECE = 1 << 17 };
static void read_piece(void *ctx, int item, int thread) {
    struct job *j = ctx;
    const uint64_t *p = (const uint64_t *)(const void *)(j->data + (size_t)item * PIECE);
    uint64_t s[8] = {0};
    (void)thread;
    for (int i = 0; i < PIECE / 8; i += 8) {
        __builtin_prefetch(p + i + 256); /* 2 KiB, as the dots do: without it a read is slower than they are */
        for (int e = 0; e < 8; e++) s[e] += p[i + e];
    }
    j->sink = s[0] + s[1] + s[2] + s[3] + s[4] + s[5] + s[6] + s[7];
}
static void dot_piece(void *ctx, int item, int thread) {
    struct job *j = ctx;
    const int rows = j->fast->wide ? SR_DOT_ROWS : SR_FEW_ROWS;
    const int parts = j->fast->share ? j->fast->share : 1, n = parts > 1 ? sr_shared_rows(K) : rows;
    (void)thread;
    for (int64_t row = (int64_t)item * rows / parts; row < (int64_t)(item + 1) * rows / parts; row += n)
        for (int p = 0; p < parts; p++) {
            const int64_t row0 = row + p * (j->w->N / parts);
            j->fast->dot(j->w, row0, n, j->x, j->y + row0, j->w->N);
        }
}

static float noise(void) {
    return (float)(rand() % 2001 - 1000) * 1e-3f;
}

/* One panel as matmul.c fills it. */
static void fill(const sr_kern *kern, const sr_fast *fast, const sr_weight *w, int64_t row, int64_t k0, int8_t *code,
                 float *scale, float *min) {
    int8_t own[SR_KC];
    float own_scale[SR_MAX_GROUPS], own_min[SR_MAX_GROUPS];
    if (fast->panel || !w->fmt->panel) {
        (fast->panel ? fast->panel : fast->unpack)(w, row, k0, SR_TILE_KC, code, scale, min);
        return;
    }
    for (int i = 0; i < SR_TILE_KC; i += SR_KC) {
        fast->unpack(w, row, k0 + i, SR_KC, own, own_scale, own_min);
        kern->coarse(own, own_scale, w->fmt->has_min ? own_min : NULL, w->group, SR_KC, code + i, scale++);
    }
}

static double panel_ns(const sr_kern *kern, const sr_fast *fast, const sr_weight *w) {
    static sr_panel p;
    double best = 1e9;
    for (int i = 0; i < RUNS; i++) {
        double start = cpu_seconds();
        for (int n = 0; n < 4000; n++) {
            int64_t row = n % 64, k0 = n / 64 % (K / SR_TILE_KC) * SR_TILE_KC;
            int r = (int)(row % SR_MR);
            if (fast && fast->panel_rows && r == 0)
                fast->panel_rows(w, row, k0, SR_TILE_KC, &p, (sr_ahead){0});
            else if (fast && !fast->panel_rows)
                fill(kern, fast, w, row, k0, p.code[r], p.scale[r], p.min[r]);
            else if (!fast)
                sr_panel_row(w, row, k0, SR_TILE_KC, p.code[r], p.scale[r], p.min[r]);
        }
        double t = (cpu_seconds() - start) / (4000.0 * SR_TILE_KC / 256) * 1e9;
        best = t < best ? t : best;
    }
    return best;
}

/* Of a page of 256 keys, whose pages are out of L2 as those of long texts are. */
static double attend_us(const sr_kern *kern, const sr_kv_row *kv, int n_q, int hd) {
    enum { PAGES = 128 };
    static float q[SR_ATTEND_ROWS * 256], o[SR_ATTEND_ROWS * 256], m[SR_ATTEND_ROWS], s[SR_ATTEND_ROWS];
    const size_t bytes = SR_KV_PAGE * sr_kv_bytes(&kv->type, hd);
    uint8_t *pages = sr_pages_alloc(2 * PAGES * bytes);
    float *scratch = malloc(sr_attend_scratch(hd) * sizeof *scratch);
    const float *row[SR_ATTEND_ROWS];
    int lo[SR_ATTEND_ROWS] = {0}, hi[SR_ATTEND_ROWS];
    double best = 1e9;
    for (int i = 0; i < SR_ATTEND_ROWS; i++) {
        row[i] = q + i * hd, hi[i] = SR_KV_PAGE, m[i] = -INFINITY, s[i] = 0;
        for (int d = 0; d < hd; d++) q[i * hd + d] = noise();
    }
    for (int c = 0; c < 2 * PAGES; c++)
        for (int j = 0; j < SR_KV_PAGE; j++)
            kv->store[c % 2](q + (c + j) % SR_ATTEND_ROWS * hd, hd, pages + (size_t)c * bytes, j);
    if (kv->ask) kv->ask(row, n_q, hd, scratch);
    for (int i = 0; i < RUNS; i++) {
        double start = cpu_seconds();
        for (int n = 0; n < PAGES; n++)
            kern->attend_page(kv, row, n_q, pages + (size_t)(2 * n) * bytes, pages + (size_t)(2 * n + 1) * bytes,
                              pages + (size_t)(2 * n + 2) % (2 * PAGES) * bytes, SR_KV_PAGE, hd, hd, lo, hi, 0, m, s, o,
                              hd, scratch);
        double t = (cpu_seconds() - start) / PAGES * 1e6;
        best = t < best ? t : best;
    }
    free(scratch);
    sr_pages_free(pages, 2 * PAGES * bytes);
    return best;
}

static void attention(void) {
    printf(
        "\nattention over a page of 256 keys, one thread\n| isa | head | type | 1 row, us | 4 rows | 64 rows | GB/s of "
        "keys and values, 4 rows | GFLOPS, 64 rows |\n|---|---|---|---|---|---|---|---|\n");
    for (int i = 0; sr_kerns[i]; i++)
        for (const sr_kv_row *kv = sr_kerns[i]->kv; sr_kerns[i]->usable() && kv->type.name; kv++)
            for (int hd = 64; hd <= 128; hd *= 2) {
                double one = attend_us(sr_kerns[i], kv, 1, hd), four = attend_us(sr_kerns[i], kv, 4, hd),
                       all = attend_us(sr_kerns[i], kv, 64, hd);
                printf("| %s | %d | %s | %.1f | %.1f | %.1f | %.1f | %.1f |\n", sr_kerns[i]->name, hd, kv->type.name,
                       one, four, all, 512 * (double)sr_kv_bytes(&kv->type, hd) / four * 1e-3,
                       64 * 256.0 * hd * 4 / all * 1e-3);
            }
}

static bool wanted(int argc, char **argv, const char *format) {
    for (int i = 3; i < argc; i++)
        if (!strcmp(argv[i], format)) return true;
    return argc <= 3;
}

int main(int argc, char **argv) {
    int threads = argc > 1 ? atoi(argv[1]) : sr_cpu_count();
    size_t bytes = (size_t)(argc > 2 ? atoi(argv[2]) : 256) << 20;
    uint8_t *data = sr_pages_alloc(bytes);
    float *x = malloc(SR_DOT_MAX * K * sizeof *x);
    if (!data || !x) return 1;
    for (size_t i = 0; i < bytes; i++) data[i] = (uint8_t)(i * 2654435761u >> 13);
    for (int i = 0; i < SR_DOT_MAX * K; i++) x[i] = noise();
    for (int n = 1;; n = threads) {
        struct job j = {.data = data};
        double read = (double)bytes / measure(n, (int)(bytes / PIECE), read_piece, &j) * 1e-9;
        printf(
            "\n%d thread%s, K %d, read %.1f GB/s\n| isa | format | T=1 GB/s | of the read | ns a row | T=4 GB/s | of "
            "the read |\n|---|---|---|---|---|---|---|\n",
            n, n > 1 ? "s" : "", K, read);
        for (int i = 0; sr_kerns[i]; i++)
            for (const sr_fast *f = sr_kerns[i]->fast; sr_kerns[i]->usable() && f->format; f = sr_fast_next(f)) {
                const sr_format *fmt = sr_format_by_name(f->format);
                const sr_stored *type = sr_stored_by_name(f->format);
                sr_arena arena = {0};
                sr_weight w = {.fmt = fmt, .K = K, .group = fmt->group, .tile = fmt->tile, .fast = f};
                if (!f->dot || !wanted(argc, argv, f->format)) continue;
                if (type) {
                    w.plane[0].data = data;
                    w.plane[0].stride = (int64_t)K / type->block * type->bytes;
                    w.N = (int64_t)bytes / w.plane[0].stride / SR_DOT_ROWS * SR_DOT_ROWS;
                    w.plane[0].bytes = w.N * w.plane[0].stride;
                } else {
                    int64_t rows = (int64_t)bytes * 8 / (fmt->spec.bits * K) / SR_DOT_ROWS * SR_DOT_ROWS;
                    if (sr_weight_create(fmt, rows, K, NULL, &arena, &w, NULL) != SR_OK) continue;
                    sr_weight_sample(&w, 1);
                    w.fast = f;
                }
                float *y = malloc((size_t)w.N * SR_DOT_MAX * sizeof *y);
                double rate[2], ns[2];
                for (int four = 0; four < 2; four++) {
                    static int8_t code[SR_DOT_MAX * K];
                    static float scale[SR_DOT_MAX * K / SR_KC];
                    static int16_t sum[SR_DOT_MAX * K / SR_SUM];
                    static int8_t dealt[SR_DOT_MAX * K];
                    sr_x8 x8 = {four ? 4 : 1, K, K / SR_KC, code, scale, sum, dealt};
                    for (int t = 0; t < x8.T; t++) {
                        sr_kerns[i]->quantize(x + t * K, K, code + t * K, scale + t * (K / SR_KC),
                                              sum + t * (K / SR_SUM));
                        sr_x8_deal(&x8, t);
                    }
                    j.w = &w, j.fast = f, j.x = &x8, j.y = y;
                    double t = measure(n, (int)(w.N / (f->wide ? SR_DOT_ROWS : SR_FEW_ROWS)), dot_piece, &j);
                    rate[four] = (double)sr_weight_bytes(&w) / t * 1e-9, ns[four] = t * n / (double)w.N * 1e9;
                }
                printf("| %s | %s | %.1f | %.2f | %.0f | %.1f | %.2f |\n", sr_kerns[i]->name, f->format, rate[0],
                       rate[0] / read, ns[0], rate[1], rate[1] / read);
                fflush(stdout);
                free(y);
                sr_arena_free(&arena);
            }
        if (n == threads) break;
    }
    printf("\npanel, ns of 256 columns\n| format | isa | ns | portable |\n|---|---|---|---|\n");
    for (int i = 0; sr_kerns[i]; i++)
        for (const sr_fast *f = sr_kerns[i]->fast; sr_kerns[i]->usable() && f->format; f = sr_fast_next(f)) {
            sr_arena arena = {0};
            sr_weight w;
            const sr_format *fmt = sr_format_by_name(f->format);
            if ((!f->panel && !f->unpack) || !wanted(argc, argv, f->format)) continue;
            if (sr_weight_create(fmt, 64, K, NULL, &arena, &w, NULL) != SR_OK) continue;
            sr_weight_sample(&w, 1);
            write_weight(&w, x, 1, NULL, 1);
            printf("| %s | %s | %.1f | %.1f |\n", f->format, sr_kerns[i]->name, panel_ns(sr_kerns[i], f, &w),
                   panel_ns(sr_kerns[i], NULL, &w));
            sr_arena_free(&arena);
        }
    if (wanted(argc, argv, "attention")) attention();
    sr_pages_free(data, bytes);
    free(x);
    return 0;
}
