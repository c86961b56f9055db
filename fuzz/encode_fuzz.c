/* Weights into any format that is written, and back:
 *
 *     u8    format, of those that are written
 *     u8    group: 0 the format's, else 16 << (n - 1) % 6, or a row
 *     u8    flags, see below
 *     u8    rows: 1 to 16, or groups of rows
 *     u8    blocks in a row
 *     ..    weights, and behind them importances, as f32 or f16 bits; the input begins anew where it ends
 *
 * Any shape is written or refused. What is written decodes to finite numbers that are no larger than a small multiple
 * of the largest weight, the same for any number of threads' shares of rows. */
#include <math.h>
#include <stdlib.h>

#include "base/half.h"
#include "fmt/fmt.h"
#include "walk.h"

enum { OTHER_SYM = 1, NESTED = 2, ACROSS = 4, ONE_SCALE = 8, APART = 16, WEIGHED = 32, HALVES = 64, ORDERED = 128 };
enum { MOST_WEIGHTS = 1 << 12, HEAD = 5 };

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const sr_format *written(int i) {
    int n = 0, f = 0;
    for (; sr_formats[f]; f++) n += sr_format_writable(sr_formats[f]);
    for (i %= n, f = 0; !sr_format_writable(sr_formats[f]) || i-- > 0; f++) {
    }
    return sr_formats[f];
}

struct bits {
    const uint8_t *data;
    size_t size, at;
    bool halves;
};
static float next(struct bits *b) {
    uint8_t v[4] = {0};
    for (int i = 0; i < (b->halves ? 2 : 4) && b->size; i++, b->at = (b->at + 1) % b->size) v[i] = b->data[b->at];
    const uint32_t u = v[0] | (uint32_t)v[1] << 8 | (uint32_t)v[2] << 16 | (uint32_t)v[3] << 24;
    return b->halves ? sr_f16_to_f32((uint16_t)u) : sr_f32_from_bits(u);
}

struct rows {
    const float *x;
    int64_t K;
};
static void read_rows(void *ctx, int64_t row0, int64_t n, float *out) {
    const struct rows *r = ctx;
    memcpy(out, r->x + row0 * r->K, (size_t)(n * r->K) * sizeof *out);
}

static float largest(const float *x, int64_t n) {
    float most = 0;
    for (int64_t i = 0; i < n; i++) most = fmaxf(most, fabsf(sr_weight_finite(x[i])));
    return most;
}

/* The largest weight that may reach this one: of its unit, or of all where more than that decides its scale. */
static float reach(const sr_weight *w, const float *x, int64_t row, int64_t k) {
    const int64_t unit = sr_weight_unit(w), first = k / unit * unit;
    if (w->fmt->begin || w->perm) return largest(x, w->N * w->K);
    return largest(x + row * w->K + first, w->K - first < unit ? w->K - first : unit);
}

static void check(const sr_weight *w, const float *x, float *back) {
    for (int64_t row = 0; row < w->N; row++) {
        float most = 0;
        w->fmt->decode(w, row, 0, w->K, back);
        for (int64_t k = 0; k < w->K; k++) {
            if (k % sr_weight_unit(w) == 0 || k == 0) most = reach(w, x, row, k);
            /* Weights that do not count may end outside of their block's range, and a lattice may lack signs; f16
             * underflows. */
            PROMISE(fabsf(back[k]) <= 5 * most + 1e-4f);
        }
    }
}

static void order(sr_weight *w, int32_t *perm) {
    for (int64_t k = 0; k < w->K; k++) perm[k] = (int32_t)(w->K - 1 - k);
    PROMISE(sr_weight_reorder(w, perm, NULL) == SR_OK);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    if (size < HEAD + 2) return 0;
    const sr_format *fmt = written(data[0]);
    sr_qspec s = fmt->spec;
    const bool told = s.method && !fmt->group; /* by a config */
    const int flags = told ? data[2] : data[2] & (WEIGHED | HALVES);
    if (told && data[1]) s.group = data[1] % 7 == 0 ? -1 : 16 << (data[1] - 1) % 6;
    s.sym = s.sym != !!(flags & OTHER_SYM);
    s.nested = flags & NESTED;
    if (flags & ACROSS) s.axis = 0;
    if (flags & ONE_SCALE) s.group = -1, s.group_n = INT32_MAX;
    if (flags & APART) s.group_n = 1;
    s.act_order = flags & ORDERED && fmt->reorder;
    int64_t N = 1 + data[3] % 16, K = fmt->block * (1 + data[4] % 40);
    if (fmt->block == 1) K *= 8;
    if (flags & ACROSS && fmt->across) N *= 16;
    while (N * K > MOST_WEIGHTS && N > 1) N /= 2;

    sr_arena arena = {0};
    sr_weight w, other;
    sr_err err = {0};
    struct bits bits = {data + HEAD, size - HEAD, 0, flags & HALVES};
    float *x = malloc((size_t)(N * K + 2 * K) * sizeof *x), *importance = x + N * K, *back = importance + K;
    int32_t *perm = malloc((size_t)K * sizeof *perm);
    for (int64_t i = 0; x && i < N * K + K; i++) x[i] = next(&bits);
    struct rows rows = {x, K};
    const sr_source from = {.rows = read_rows, .ctx = &rows};
    const float *weighed = flags & WEIGHED ? importance : NULL;
    if (x && perm && sr_weight_create(fmt, N, K, &s, &arena, &w, &err) == SR_OK &&
        sr_weight_create(fmt, N, K, &s, &arena, &other, &err) == SR_OK) {
        if (s.act_order) order(&w, perm), order(&other, perm);
        const sr_status st = sr_encode(&w, &from, weighed, 1, 1, &err);
        PROMISE(st == SR_OK || st == SR_INVALID);
        if (st == SR_OK) {
            PROMISE(sr_encode(&other, &from, weighed, 1, 3, &err) == SR_OK);
            for (int p = 0; p < SR_MAX_PLANES; p++)
                PROMISE(!w.plane[p].bytes || !memcmp(w.plane[p].data, other.plane[p].data, (size_t)w.plane[p].bytes));
            if (fmt->fit) check(&w, x, back); /* plain types keep what is not finite */
        }
    } else
        PROMISE(!x || !perm || err.code == SR_INVALID);
    free(x);
    free(perm);
    sr_arena_free(&arena);
    return 0;
}
