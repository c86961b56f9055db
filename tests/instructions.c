/* One call after another of the kernels of an instruction set, for tests/instructions.sh to count
 * their instructions. Prints the name and the 256-column blocks of each call, in order.
 *
 *   instructions ISA */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cpu/gemm.h"

enum { K = 1024, N = 64, T = 16 };

static const sr_kern *kern;
static const sr_fast *fast;
static sr_weight w;
static sr_x8 x8;
static float x[T * K], y[T * N];
static sr_panel panel[2];
static uint8_t tile[1 << 16] __attribute__((aligned(64)));
static void *packed;
static int group;
static bool has_min;

typedef void call(void);

/* callgrind's counters are zeroed before it and written after it. */
__attribute__((noinline)) static void measured(const char *what, const char *name, int blocks, call *f) {
    printf("%s%s%s\t%d\n", what, *name ? " " : "", name, blocks);
    fflush(stdout);
    f();
}

static void dot(void) {
    fast->dot(&w, 0, N, &x8, y, N);
}
static void dot_float(void) {
    fast->dot_float(&w, 0, N, x, K, x8.T, y, N);
}
static void unpack(void) {
    for (int r = 0; r < SR_MR; r++) fast->unpack(&w, r, 0, SR_TILE_KC, panel->code[r], panel->scale[r], panel->min[r]);
}
static void make_panel(void) {
    if (fast && fast->panel_rows) {
        fast->panel_rows(&w, 0, 0, SR_TILE_KC, panel, (sr_ahead){0});
        return;
    }
    for (int r = 0; r < SR_MR; r++)
        (fast ? fast->panel : sr_panel_row)(&w, r, 0, SR_TILE_KC, panel->code[r], panel->scale[r], panel->min[r]);
}
static void pack(void) {
    kern->pack_w(panel, 0, group, has_min, tile);
}
static void gemm(void) {
    if (kern->begin) kern->begin(x8.T, group, has_min);
    kern->gemm_i8(tile, group, has_min, &x8, packed, 0, true, y, (sr_ahead){0});
    if (kern->end) kern->end();
}
static void quantize(void) {
    kern->quantize(x, K, x8.code, x8.scale, x8.sum);
}
static void rms_norm(void) {
    kern->rms_norm(x, K, x, 1e-5f, y);
}
static void dot_f32(void) {
    kern->dot_f32(x, x, K, T, K, y);
}

/* A page of attention with heads of K / T features: n_q rows. */
static const sr_kv_row *kv;
static int n_q;
static void *keys, *values;
static float *scratch;
static void attend(void) {
    static float m[SR_ATTEND_ROWS], s[SR_ATTEND_ROWS], o[SR_ATTEND_ROWS * K / T];
    const float *q[SR_ATTEND_ROWS];
    int lo[SR_ATTEND_ROWS] = {0}, hi[SR_ATTEND_ROWS];
    for (int i = 0; i < n_q; i++) q[i] = x + i % T * (K / T), hi[i] = SR_KV_PAGE, m[i] = -INFINITY;
    if (kv->ask) kv->ask(q, n_q, K / T, scratch);
    kern->attend_page(kv, q, n_q, keys, values, NULL, SR_KV_PAGE, K / T, K / T, lo, hi, 0, m, s, o, K / T, scratch);
}

static void *allocate(size_t n) {
    void *p = aligned_alloc(64, (n + 127) / 64 * 64);
    if (!p) exit(1);
    memset(p, 0, n);
    return p;
}

static void format(const sr_format *fmt) {
    sr_arena arena = {0};
    if (fmt->tile == SR_TILE_I8 && sr_weight_create(fmt, N, K, NULL, &arena, &w, NULL) == SR_OK) {
        sr_weight_sample(&w, 1);
        w.fast = fast;
        if (fast && fast->dot)
            for (x8.T = 1; x8.T <= 4; x8.T += 3) measured(x8.T == 1 ? "dot1" : "dot4", fmt->name, N * K / SR_KC, dot);
        if (fast && fast->unpack) measured("unpack", fmt->name, SR_MR * SR_TILE_KC / SR_KC, unpack);
        if (!fast || fast->panel) measured("panel", fmt->name, SR_MR * SR_TILE_KC / SR_KC, make_panel);
    }
    if (fast && fast->dot_float && sr_weight_create(fmt, N, K, NULL, &arena, &w, NULL) == SR_OK) {
        x8.T = 1;
        measured("dot1", fmt->name, N * K / SR_KC, dot_float);
    }
    sr_arena_free(&arena);
}

int main(int argc, char **argv) {
    for (int i = 0; sr_kerns[i]; i++)
        if (argc == 2 && strcmp(sr_kerns[i]->name, argv[1]) == 0) kern = sr_kerns[i];
    if (!kern || !kern->usable()) {
        fprintf(stderr, "instructions ISA: found '%s', expected a set that this processor has\n",
                argc > 1 ? argv[1] : "");
        return 2;
    }
    x8 = (sr_x8){
        T, K, K / SR_KC, allocate(T * K), allocate(T * K / SR_KC * 4), allocate(T * K / SR_SUM * 2), allocate(T * K)};
    for (int i = 0; i < T * K; i++) x[i] = sinf((float)i);
    for (int t = 0; t < T; t++) {
        kern->quantize(x + t * K, K, x8.code + t * K, x8.scale + t * (K / SR_KC), x8.sum + t * (K / SR_SUM));
        sr_x8_deal(&x8, t);
    }
    measured("quantize", "", K / SR_KC, quantize);
    measured("rms_norm", "", K / SR_KC, rms_norm);
    measured("dot_f32", "", T * K / SR_KC, dot_f32);
    scratch = allocate(sr_attend_scratch(K / T) * sizeof *scratch);
    for (kv = kern->kv; kv->type.name; kv++) {
        keys = allocate(SR_KV_PAGE * sr_kv_bytes(&kv->type, K / T));
        values = allocate(SR_KV_PAGE * sr_kv_bytes(&kv->type, K / T));
        for (int j = 0; j < SR_KV_PAGE; j++)
            kv->store[0](x + j, K / T, keys, j), kv->store[1](x + 2 * j, K / T, values, j);
        for (n_q = 4; n_q <= SR_ATTEND_ROWS; n_q *= 16)
            measured(n_q == 4 ? "attend4" : "attend64", kv->type.name, n_q * K / T * SR_KV_PAGE / SR_KC, attend);
    }
    packed = allocate(kern->packed_bytes(T, K / SR_KC) + 64);
    for (int i = 0; packed && kern->packed_bytes(T, K / SR_KC) && i * kern->pack_columns < T; i++)
        kern->pack_x(&x8, i, packed);
    for (group = 16; group <= SR_KC; group *= 2)
        for (int m = 0; m < 2; m++) {
            char name[32];
            has_min = m;
            snprintf(name, sizeof name, "of %d%s", group, m ? " with min" : "");
            x8.T = T;
            measured("pack", name, SR_MR * SR_TILE_KC / SR_KC, pack);
            pack();
            kern->pack_w(panel, 1, group, has_min, tile);
            measured("gemm", name, T * SR_PAIR * SR_TILE_KC / SR_KC, gemm);
        }
    if (!kern->coarse) /* portable: nothing but the rows of formats */
        for (const sr_format *const *f = sr_formats; *f; f++) format(*f);
    for (fast = kern->fast; fast && fast->format; fast = sr_fast_next(fast)) format(sr_format_by_name(fast->format));
    return 0;
}
