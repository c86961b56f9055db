/* The order in which Marlin's kernels want codes: tiles of 64 rows by 16 columns, as the threads of a warp hold them.
 *
 * marlin (IST-DASLab/marlin: marlin/__init__.py)
 *     B i32 [K / 16][2 N], s f16 [G][N], z = 8; AutoAWQ names them qweight and scales (awq/modules/linear/marlin.py)
 *
 * marlin-24 of compressed-tensors, 2:4 sparse: of each four columns two are stored, the others are 0.
 *     weight_packed i32 [K / 32][N b / 2]  q + 2^(b-1) of the stored columns, 4 or 8 bits
 *     scale_packed  f16 [G][N]
 *     meta          i16 [K / 32][2 N]      which columns: four bits a four, the first's place in the lower two
 *                                          1110 1101 1001 1100 1000 0100, so the second's is the higher
 * (compressed-tensors 0.11: compressors/sparse_quantized_compressors/marlin_24.py, utils/permutations_24.py; the order
 * of meta, which is CUTLASS': utils/semi_structured_conversions.py) */
#include <string.h>

#include "fmt/integer.h"

/* The code of column k of a tile, and of the row whose number in the tile has these parts: c (0 .. 7) chooses the
 * thread, j (0 .. 3) one of its words, high one half of that. */
static uint8_t tile_code(const uint8_t *tile, int bits, int c, int j, int high, int k) {
    int e = 4 * high + 2 * (k / 8) + k % 2;
    int in_eight = bits == 4 ? e / 2 + e % 2 * 4 : e / 4 * 4 + e % 4 / 2 + e % 2 * 2;
    int at = (32 * (4 * c + k % 8 / 2) + 8 * j + in_eight) * bits;
    return (uint8_t)(tile[at / 8] >> at % 8 & ((1 << bits) - 1));
}
static const uint8_t *tile_at(const sr_weight *w, int64_t row, int64_t stored_k) {
    return w->plane[SR_INTEGER_CODES].data + stored_k / 16 * w->plane[SR_INTEGER_CODES].stride +
           row / 64 * (128 * w->fmt->spec.bits);
}

static int middle(const sr_weight *w, int64_t row, int64_t g) {
    (void)row, (void)g;
    return 1 << (w->fmt->spec.bits - 1);
}

/* ---------------------------------------------------------------- marlin */

static void marlin_codes(const sr_weight *w, int64_t row, int64_t k0, int n, uint8_t *q) {
    const int r = (int)(row % 64);
    for (int64_t k = k0; k < k0 + n; k++)
        *q++ = tile_code(tile_at(w, row, k), 4, r % 8, r / 16, r % 16 / 8, (int)(k % 16));
}
/* 64 scales as an 8 x 8 matrix, transposed; with one group, 32 of them as the accumulators of a warp want them. */
static int64_t marlin_scale_at(const sr_weight *w, int64_t row, int64_t g) {
    int c = (int)(row % 64);
    if (w->spec.group < w->K) return g * w->N + row - c + c % 8 * 8 + c / 8;
    c = (int)(row % 32);
    return row - c + c % 8 / 2 * 8 + c / 8 * 2 + c % 2;
}

static bool marlin_claim(const sr_format *self, const sr_parts *parts, const sr_qspec *spec) {
    bool gptq = spec->method && !strcmp(spec->method, "gptq") && sr_parts_get(parts, "B");
    bool awq = spec->method && !strcmp(spec->method, "awq") && spec->layout && !strcmp(spec->layout, "marlin") &&
               sr_parts_get(parts, "qweight");
    return (gptq || awq) && spec->bits == self->spec.bits;
}
static sr_status marlin_layout(const sr_format *self, int64_t N, int64_t K, const sr_qspec *spec, sr_planes *planes,
                               sr_err *err) {
    if (spec->group < 1) return sr_fail(err, SR_INVALID, "%s: no group size", self->name);
    if (K % 16 || N % 64 || N > INT64_MAX / 2)
        return sr_fail(err, SR_INVALID, "%s has tiles of 64 x 16, which do not divide %lld x %lld", self->name,
                       (long long)N, (long long)K);
    sr_planes_add(planes, "B|qweight", "i32", false, K / 16, 2 * N);
    sr_planes_add(planes, "s|scales", "f16", false, sr_integer_groups(K, spec), N);
    return SR_OK;
}
static bool marlin_dims(const sr_parts *parts, const sr_qspec *spec, int64_t *N, int64_t *K) {
    const sr_part *b = sr_parts_get(parts, "B");
    (void)spec;
    if (!b) b = sr_parts_get(parts, "qweight");
    if (!b || b->n_dims != 2 || b->shape[0] > INT64_MAX / 16) return false;
    *K = 16 * b->shape[0];
    *N = b->shape[1] / 2;
    return true;
}
static sr_status marlin_adopt(const sr_parts *parts, sr_weight *w, sr_arena *arena, sr_err *err) {
    static const sr_integer aux = {.codes = marlin_codes, .zero = middle, .scale_at = marlin_scale_at};
    (void)arena;
    if (parts && sr_parts_get(parts, "qzeros"))
        return sr_fail(err, SR_UNSUPPORTED, "%s with qzeros, expected a symmetric weight", w->fmt->name);
    w->aux = &aux;
    return SR_OK;
}

/* ---------------------------------------------------------------- marlin-24 */

enum { META = 2 };

/* The four bits of columns 4 i .. 4 i + 3. Two columns of elements swap their halves, and rows are dealt: */
static int places(const sr_weight *w, int64_t row, int64_t i) {
    int64_t col = i / 4, to = row / 64 * 64 + row % 2 * 2 + row % 4 / 2 * 32 + row % 64 / 8 * 4 + col % 2;
    int64_t at = 2 * (col / 2 * 2 * w->N + 2 * to + row % 8 / 4) + i % 4 / 2;
    return w->plane[META].data[at] >> 4 * (i % 2) & 15;
}

static void sparse_codes(const sr_weight *w, int64_t row, int64_t k0, int n, uint8_t *q) {
    const int bits = w->fmt->spec.bits, r = (int)(row % 64);
    memset(q, middle(w, 0, 0), (size_t)n);
    for (int64_t k = k0; k < k0 + n; k += 4, q += 4) {
        const int two = places(w, row, k / 4), at = (int)(k / 2 % 16);
        const uint8_t *tile = tile_at(w, row, k / 2);
        q[two >> 2] = tile_code(tile, bits, r / 8, r % 4, r % 8 / 4, at + 1);
        q[two & 3] = tile_code(tile, bits, r / 8, r % 4, r % 8 / 4, at);
    }
}
/* Of each eight scales, the two halves in turn. The packer compares the group with the columns that it stores, so that
 * two groups are left in order as one is. */
static int64_t sparse_scale_at(const sr_weight *w, int64_t row, int64_t g) {
    int c = (int)(row % 8);
    return g * w->N + (w->spec.group < w->K / 2 ? row - c + c % 4 * 2 + c / 4 : row);
}

static bool sparse_claim(const sr_format *self, const sr_parts *parts, const sr_qspec *spec) {
    return sr_parts_get(parts, "weight_packed") && sr_parts_get(parts, "meta") && spec->bits == self->spec.bits;
}
static sr_status sparse_layout(const sr_format *self, int64_t N, int64_t K, const sr_qspec *spec, sr_planes *planes,
                               sr_err *err) {
    if (spec->group != 128 && spec->group < K)
        return sr_fail(err, SR_INVALID, "%s has groups of 128 columns or one a row, the config says %d", self->name,
                       spec->group);
    if (!spec->sym)
        return sr_fail(err, SR_INVALID, "%s has no zero points, the config says that it is not symmetric", self->name);
    if (K % 32 || N % 64 || N > INT64_MAX / 4)
        return sr_fail(err, SR_INVALID, "%s has tiles of 64 x 32, which do not divide %lld x %lld", self->name,
                       (long long)N, (long long)K);
    sr_planes_add(planes, "weight_packed", "i32", false, K / 32, N * self->spec.bits / 2);
    sr_planes_add(planes, "scale_packed", "f16", false, sr_integer_groups(K, spec), N);
    sr_planes_add(planes, "meta", "i16", false, K / 32, 2 * N);
    return SR_OK;
}
static bool sparse_dims(const sr_parts *parts, const sr_qspec *spec, int64_t *N, int64_t *K) {
    const sr_part *q = sr_parts_get(parts, "weight_packed");
    if (q->n_dims != 2 || q->shape[0] > INT64_MAX / 32 || q->shape[1] > INT64_MAX / 2) return false;
    *K = 32 * q->shape[0];
    *N = 2 * q->shape[1] / spec->bits;
    return true;
}
static sr_status sparse_adopt(const sr_parts *parts, sr_weight *w, sr_arena *arena, sr_err *err) {
    static const sr_integer aux = {.codes = sparse_codes, .zero = middle, .scale_at = sparse_scale_at};
    enum { VALID = 1 << 14 | 1 << 13 | 1 << 9 | 1 << 12 | 1 << 8 | 1 << 4 }; /* bit: a pair of places in order */
    (void)arena;
    w->aux = &aux;
    for (int64_t i = 0; parts && i < w->plane[META].bytes; i++) {
        const uint8_t b = w->plane[META].data[i];
        if (!(VALID >> (b & 15) & 1) || !(VALID >> (b >> 4) & 1))
            return sr_fail(err, SR_CORRUPT, "meta has 0x%02x at byte %lld, expected two pairs of different places", b,
                           (long long)i);
    }
    return SR_OK;
}

/* ---------------------------------------------------------------- rows */

#define MARLIN(id, kind, columns, ...)                                                                                 \
    const sr_format sr_fmt_##id = {                                                                                    \
        .name = #id,                                                                                                   \
        .block = columns,                                                                                              \
        .lane = 1,                                                                                                     \
        .tile = SR_TILE_I8,                                                                                            \
        .claim = kind##_claim,                                                                                         \
        .layout = kind##_layout,                                                                                       \
        .dims = kind##_dims,                                                                                           \
        .adopt = kind##_adopt,                                                                                         \
        .decode = sr_integer_decode,                                                                                   \
        .unpack = sr_integer_unpack,                                                                                   \
        __VA_ARGS__,                                                                                                   \
    }
#define COARSE .panel = sr_panel_coarse, .panel_group = SR_KC, .panel_err = 0.012f
#define SPARSE(n)                                                                                                      \
    .reference = "compressed-tensors 0.11, packer",                                                                    \
    .spec = {.method = "compressed-tensors", .layout = "marlin-24", .sym = true, .bits = n, .group = 128}

MARLIN(marlin4, marlin, 16, COARSE, .reference = "autoawq 0.2.9, packer",
       .spec = {.method = "gptq", .layout = "marlin", .sym = true, .bits = 4, .group = 128});
MARLIN(marlin24_4, sparse, 32, COARSE, SPARSE(4));
MARLIN(marlin24_8, sparse, 32, SPARSE(8));
